/* Packed images: what is unpacked is what was packed; what is cut short, damaged or made up is
 * refused, and never becomes more than it says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <base/path.h>
#include <errno.h>
#include <fcntl.h>
#include <image/checksum.h>
#include <image/pack.h>
#include <image/reader.h>
#include <image/writer.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#define PAGE BLY_PAGE_SIZE
#define PAGES 700u /* three chunks */

static char folder[64], plain[PATH_MAX], packed[PATH_MAX];

static int make_images(void **state)
{
    static unsigned char pages[PAGES * PAGE];
    struct img_writer *writer;
    struct error error = {0};
    strcpy(folder, "/tmp/bailey-pack-test-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(plain, sizeof(plain), "%s/plain", folder);
    snprintf(packed, sizeof(packed), "%s/packed", folder);
    for (size_t i = 0; i < sizeof(pages); i++)
        pages[i] = (unsigned char)(i < PAGE * 300 ? i * 2654435761u >> 13 : i / PAGE % 255 + 1);
    assert_int_equal(img_writer_open(plain, &writer, &error), 0);
    assert_int_equal(img_writer_space(writer, IMG_SPACE_PRIVATE, 7, &error), 0);
    assert_int_equal(img_writer_pages(writer, 0x10000000, pages, PAGES, 0, &error), 0);
    assert_int_equal(img_writer_record(writer, IMG_RECORD_OWN_FIRST, 0, "policy", 6, &error), 0);
    assert_int_equal(img_writer_finish(writer, &error), 0);
    int file = open(plain, O_RDONLY | O_CLOEXEC);
    assert_int_equal(img_pack(file, "plain", packed, 3, NULL, NULL, &error), 0);
    close(file);
    return 0;
}

static int remove_images(void **state)
{
    path_remove_tree(AT_FDCWD, folder);
    return 0;
}

static unsigned char *contents(const char *path, size_t *out_size)
{
    struct stat status;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(fstat(file, &status), 0);
    unsigned char *data = malloc((size_t)status.st_size);
    assert_int_equal(pread(file, data, (size_t)status.st_size, 0), status.st_size);
    close(file);
    *out_size = (size_t)status.st_size;
    return data;
}

/* Unpacks `data`; *out_size: how large what came out is. */
static int unpack(const void *data, size_t size, bool all, int *out_file, struct error *error)
{
    static int file = -1, out = -1;
    if (file < 0) {
        file = memfd_create("packed", MFD_CLOEXEC);
        out = memfd_create("plain", MFD_CLOEXEC);
    }
    assert_int_equal(ftruncate(file, 0), 0);
    assert_int_equal(ftruncate(out, 0), 0);
    assert_int_equal(pwrite(file, data, size, 0), size);
    *error = (struct error){0};
    *out_file = out;
    return img_unpack(file, "packed", out, all, NULL, NULL, error);
}

static void what_was_packed_is_unpacked(void **state)
{
    struct error error;
    struct img_reader *reader;
    struct stat status;
    size_t size, packed_size;
    int out;
    unsigned char *was = contents(plain, &size), *data = contents(packed, &packed_size),
                  *is = malloc(size);
    assert_true(packed_size < size);
    assert_int_equal(stat(packed, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    int file = open(packed, O_RDONLY | O_CLOEXEC);
    uint64_t told;
    assert_true(img_is_packed(file));
    assert_int_equal(img_packed_size(file, "packed", &told, &error), 0);
    assert_int_equal(told, size);
    assert_int_equal(img_reader_open(file, "packed", &reader, &error), -EPROTO);
    assert_non_null(strstr(error.message, "is compressed"));
    assert_int_equal(unpack(data, packed_size, true, &out, &error), 0);
    assert_int_equal(lseek(out, 0, SEEK_END), size);
    assert_int_equal(pread(out, is, size, 0), size);
    assert_memory_equal(is, was, size);
    assert_int_equal(ftruncate(out, 0), 0);
    assert_int_equal(img_unpack_confined(file, "packed", out, true, NULL, NULL, &error), 0);
    assert_int_equal(pread(out, is, size, 0), size);
    assert_memory_equal(is, was, size);
    /* The index alone. */
    assert_int_equal(unpack(data, packed_size, false, &out, &error), 0);
    assert_int_equal(img_reader_open(out, "index", &reader, &error), 0);
    assert_int_equal(img_reader_space(reader, 0)->page_count, PAGES);
    assert_int_equal(img_reader_verify(reader, NULL, NULL, &error), -EPROTO);
    img_reader_close(reader);
    close(file);
    free(was);
    free(is);
    free(data);
}

static void what_is_cut_short_or_damaged_is_refused(void **state)
{
    struct error error;
    size_t size;
    int out;
    unsigned char *data = contents(packed, &size);
    for (size_t cut = 1; cut < size; cut = cut * 2 + 1)
        assert_int_equal(unpack(data, size - cut, true, &out, &error), -EPROTO);
    const struct img_header *header = (const struct img_header *)data;
    size_t table =
        (header->file_size - PAGE + IMG_CHUNK_SIZE - 1) / IMG_CHUNK_SIZE * sizeof(struct img_chunk);
    for (size_t at = 0; at < size; at += at < PAGE ? 7 : at >= size - table ? 1 : 4099) {
        data[at] ^= 0x10;
        assert_int_equal(unpack(data, size, true, &out, &error), -EPROTO);
        if (at >= PAGE)
            assert_non_null(strstr(error.message, "is damaged at byte"));
        data[at] ^= 0x10;
    }
    assert_int_equal(unpack(data, size, true, &out, &error), 0);
    free(data);
}

/* ---- Forged, with checksums that fit ---- */

struct forged {
    struct img_header header;
    unsigned char rest[8192];
};

/* Of an image of `pages` pages, with an empty index: one chunk of this frame, which is told to be
 * of `size` bytes. */
static int open_forged(uint64_t pages, const void *frame, size_t frame_size, uint32_t size,
                       int64_t more, struct error *error)
{
    static struct forged forged;
    struct img_chunk chunk = {size, img_checksum(0, frame, frame_size)};
    int out;
    memset(&forged, 0, sizeof(forged));
    memcpy(forged.rest, frame, frame_size);
    memcpy(forged.rest + frame_size, &chunk, sizeof(chunk));
    size_t whole = PAGE + frame_size + sizeof(chunk);
    forged.header =
        (struct img_header){.magic = IMG_MAGIC,
                            .version = IMG_VERSION_PACKED,
                            .page_size = PAGE,
                            .page_count = pages,
                            .file_size = img_index_offset(pages),
                            .packed_size = whole + (uint64_t)more,
                            .chunk_table_checksum = img_checksum(0, &chunk, sizeof(chunk))};
    forged.header.checksum = img_checksum(0, &forged.header, offsetof(struct img_header, checksum));
    int result = unpack(&forged, whole, true, &out, error);
    assert_true((uint64_t)lseek(out, 0, SEEK_END) <= img_index_offset(pages));
    return result;
}

static void forged_frames_become_no_more_than_they_must(void **state)
{
    static unsigned char zeros[16 << 20], frame[8192];
    struct error error;
    size_t needed = img_index_offset(4) - PAGE;
    size_t size = ZSTD_compress(frame, sizeof(frame), zeros, needed, 3);
    assert_int_equal(open_forged(4, frame, size, (uint32_t)size, 0, &error), 0);
    assert_int_equal(open_forged(4, frame, size, (uint32_t)size + 1, 0, &error), -EPROTO);
    assert_int_equal(open_forged(4, frame, size, (uint32_t)size - 1, 0, &error), -EPROTO);
    assert_int_equal(open_forged(4, frame, size, 0, 0, &error), -EPROTO);
    assert_int_equal(open_forged(4, frame, size, UINT32_MAX, 0, &error), -EPROTO);
    assert_int_equal(open_forged(4, frame, size, (uint32_t)size, 1, &error), -EPROTO);
    assert_int_equal(open_forged(4, frame, size, (uint32_t)size, -8, &error), -EPROTO);
    assert_int_equal(open_forged(5, frame, size, (uint32_t)size, 0, &error), -EPROTO);
    assert_int_equal(open_forged(3, frame, size, (uint32_t)size, 0, &error), -EPROTO);
    assert_int_equal(open_forged(300, frame, size, (uint32_t)size, 0, &error),
                     -EPROTO); /* two chunks */
    assert_int_equal(open_forged(IMG_PAGES_MAX, frame, size, (uint32_t)size, 0, &error), -EPROTO);
    assert_int_equal(open_forged(4, "nothing", 7, 7, 0, &error), -EPROTO);
    /* Sixteen megabytes in a frame of a few hundred bytes. */
    size = ZSTD_compress(frame, sizeof(frame), zeros, sizeof(zeros), 3);
    assert_false(ZSTD_isError(size));
    assert_int_equal(open_forged(4, frame, size, (uint32_t)size, 0, &error), -EPROTO);
    assert_non_null(strstr(error.message, "cannot be read"));
}

/* Frames with a byte of theirs changed. */
static void damaged_frames_do_no_harm(void **state)
{
    static unsigned char data[4 * PAGE + 16], frame[8192];
    struct error error;
    uint32_t random = 1;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (unsigned char)(i * i >> 7 & 15);
    size_t size = ZSTD_compress(frame, sizeof(frame), data, sizeof(data), 3);
    assert_false(ZSTD_isError(size));
    for (unsigned i = 0; i < 20000; i++) {
        random = random * 1103515245u + 12345;
        unsigned char *place = &frame[(random >> 8) % size], before = *place;
        *place = (unsigned char)(random >> 24);
        int result = open_forged(4, frame, size, (uint32_t)size, 0, &error);
        assert_true(result == 0 || result == -EPROTO);
        *place = before;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_packed_is_unpacked),
        cmocka_unit_test(what_is_cut_short_or_damaged_is_refused),
        cmocka_unit_test(forged_frames_become_no_more_than_they_must),
        cmocka_unit_test(damaged_frames_do_no_harm),
    };
    return cmocka_run_group_tests(tests, make_images, remove_images);
}
