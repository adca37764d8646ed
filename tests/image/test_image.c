/* Images: what was written is read back; what was cut short, damaged or made up is refused with its
 * place; a writer that does not finish leaves nothing behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <base/path.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <image/checksum.h>
#include <image/reader.h>
#include <image/writer.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE BLY_PAGE_SIZE
#define PRIVATE 0x10000000ull

static char folder[64], image[PATH_MAX];

static int make_folder(void **state)
{
    strcpy(folder, "/tmp/bailey-image-test-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(image, sizeof(image), "%s/image", folder);
    return 0;
}

static int remove_folder(void **state)
{
    path_remove_tree(AT_FDCWD, folder);
    return 0;
}

static int entries(void)
{
    DIR *stream = opendir(folder);
    assert_non_null(stream);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(stream));)
        count += entry->d_name[0] != '.';
    closedir(stream);
    return count;
}

static void fill(unsigned char *page, unsigned seed)
{
    for (size_t i = 0; i < PAGE; i++)
        page[i] = (unsigned char)((seed + i) * 2654435761u >> 13);
}

/* Process 7: pages 1, 2, a zero page, 3; the heap: page 4 from a memfd after a hole. Two records.
 */
static void write_image(void)
{
    struct img_writer *writer;
    struct error error = {0};
    static unsigned char pages[4 * PAGE];
    memset(pages, 0, sizeof(pages));
    fill(pages, 1);
    fill(pages + PAGE, 2);
    fill(pages + 3 * PAGE, 3);
    assert_int_equal(img_writer_open(image, &writer, &error), 0);
    assert_int_equal(img_writer_space(writer, IMG_SPACE_PRIVATE, 7, &error), 0);
    assert_int_equal(img_writer_pages(writer, PRIVATE, pages, 4, 0, &error), 0);
    int memory = memfd_create("segment", MFD_CLOEXEC);
    assert_int_equal(ftruncate(memory, 64 * PAGE), 0);
    fill(pages, 4);
    assert_int_equal(pwrite(memory, pages, PAGE, 40 * PAGE), PAGE);
    assert_int_equal(img_writer_space(writer, IMG_SPACE_HEAP, 0, &error), 0);
    assert_int_equal(img_writer_segment(writer, BLY_HEAP_START, memory, &error), 0);
    close(memory);
    assert_int_equal(img_writer_record(writer, IMG_RECORD_OWN_FIRST, 0, "policy", 6, &error), 0);
    assert_int_equal(
        img_writer_record(writer, IMG_RECORD_OWN_FIRST + 1, IMG_RECORD_OPTIONAL, NULL, 0, &error),
        0);
    assert_int_equal(img_writer_bytes(writer), 4 * PAGE);
    assert_int_equal(img_writer_finish(writer, &error), 0);
}

static int open_image(struct img_reader **reader, int *descriptor, struct error *error)
{
    *descriptor = open(image, O_RDWR | O_CLOEXEC);
    assert_true(*descriptor >= 0);
    return img_reader_open(*descriptor, "image", reader, error);
}

static void expect_page(int descriptor, const struct img_extent *extent, uint64_t index,
                        unsigned seed)
{
    unsigned char expected[PAGE], got[PAGE];
    fill(expected, seed);
    assert_int_equal(pread(descriptor, got, PAGE, (off_t)img_table_offset(extent->place + index)),
                     PAGE);
    assert_memory_equal(got, expected, PAGE);
}

static void what_was_written_is_read_back(void **state)
{
    struct img_reader *reader;
    struct error error = {0};
    int descriptor;
    struct stat status;
    umask(0);
    write_image();
    assert_int_equal(stat(image, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    assert_int_equal(entries(), 1);
    assert_int_equal(open_image(&reader, &descriptor, &error), 0);
    assert_int_equal(img_reader_page_count(reader), 4);
    assert_int_equal(img_reader_file_size(reader), status.st_size);
    assert_int_equal(img_reader_space_count(reader), 2);
    const struct img_space *heap = img_reader_space(reader, 0),
                           *private = img_reader_space(reader, 1);
    assert_ptr_equal(img_reader_find_space(reader, IMG_SPACE_HEAP, 0), heap);
    assert_ptr_equal(img_reader_find_space(reader, IMG_SPACE_PRIVATE, 7), private);
    assert_null(img_reader_find_space(reader, IMG_SPACE_PRIVATE, 8));
    assert_null(img_reader_find_space(reader, IMG_SPACE_BULK, 0));
    assert_int_equal(heap->extent_count, 1);
    assert_int_equal(heap->extents[0].address, BLY_HEAP_START + 40 * PAGE);
    assert_int_equal(heap->page_count, 1);
    expect_page(descriptor, heap->extents, 0, 4);
    assert_int_equal(private->extent_count, 2);
    assert_int_equal(private->page_count, 3);
    assert_int_equal(private->extents[0].address, PRIVATE);
    assert_int_equal(private->extents[1].address, PRIVATE + 3 * PAGE);
    expect_page(descriptor, &private->extents[0], 0, 1);
    expect_page(descriptor, &private->extents[0], 1, 2);
    expect_page(descriptor, &private->extents[1], 0, 3);
    assert_int_equal(img_reader_record_count(reader), 2);
    const struct img_record *record = img_reader_record(reader, 0);
    assert_int_equal(record->type, IMG_RECORD_OWN_FIRST);
    assert_int_equal(record->size, 6);
    assert_memory_equal(record->data, "policy", 6);
    assert_int_equal(img_reader_record(reader, 1)->flags, IMG_RECORD_OPTIONAL);
    assert_int_equal(img_reader_verify(reader, NULL, NULL, &error), 0);
    img_reader_close(reader);
    close(descriptor);
}

/* In a private map of a file what is absent is the file's, so zeros are carried there; elsewhere a
 * few of them, so that there are fewer extents. */
static void zeros_are_carried_where_that_is_asked_for(void **state)
{
    static const struct {
        size_t zeros, extents, pages;
    } cases[] = {{0, 3, 3}, {1, 2, 4}, {2, 1, 6}, {IMG_ALL_ZEROS, 1, 8}};
    static unsigned char
        pages[8 * PAGE]; /* page of data, 2 of zeros, data, zeros, data, 2 of zeros */
    fill(pages, 1);
    fill(pages + 3 * PAGE, 2);
    fill(pages + 5 * PAGE, 3);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct img_writer *writer;
        struct img_reader *reader;
        struct error error = {0};
        int descriptor;
        assert_int_equal(img_writer_open(image, &writer, &error), 0);
        assert_int_equal(img_writer_space(writer, IMG_SPACE_FILE, 3, &error), 0);
        assert_int_equal(img_writer_pages(writer, 0, pages, 8, cases[i].zeros, &error), 0);
        assert_int_equal(img_writer_finish(writer, &error), 0);
        assert_int_equal(open_image(&reader, &descriptor, &error), 0);
        const struct img_space *space = img_reader_find_space(reader, IMG_SPACE_FILE, 3);
        assert_non_null(space);
        assert_int_equal(space->extent_count, cases[i].extents);
        assert_int_equal(space->page_count, cases[i].pages);
        assert_int_equal(img_reader_verify(reader, NULL, NULL, &error), 0);
        expect_page(descriptor, &space->extents[space->extent_count - 1],
                    cases[i].zeros == 0   ? 0
                    : cases[i].zeros == 1 ? 2
                                          : 5,
                    3);
        img_reader_close(reader);
        close(descriptor);
    }
}

static int stop_at_two_pages(void *context, uint64_t bytes, struct error *error)
{
    *(uint64_t *)context = bytes;
    return bytes >= 2 * PAGE ? error_set(error, -ECANCELED, "enough") : 0;
}

static void who_watches_the_writing_can_end_it(void **state)
{
    struct img_writer *writer;
    struct error error = {0};
    uint64_t told = 0;
    static unsigned char page[PAGE];
    fill(page, 1);
    assert_int_equal(img_writer_open(image, &writer, &error), 0);
    img_writer_on_progress(writer, stop_at_two_pages, &told);
    assert_int_equal(img_writer_space(writer, IMG_SPACE_PRIVATE, 7, &error), 0);
    assert_int_equal(img_writer_pages(writer, PRIVATE, page, 1, 0, &error), 0);
    assert_int_equal(told, PAGE);
    assert_int_equal(img_writer_pages(writer, PRIVATE + PAGE, page, 1, 0, &error), -ECANCELED);
    img_writer_abandon(writer);
    assert_int_equal(entries(), 0);
}

static void only_a_file_is_replaced(void **state)
{
    struct img_writer *writer;
    struct error error = {0};
    assert_int_equal(mkdir(image, 0700), 0);
    assert_int_equal(img_writer_open(image, &writer, &error), -EISDIR);
    assert_int_equal(rmdir(image), 0);
    assert_int_equal(mkfifo(image, 0600), 0);
    assert_int_equal(img_writer_open(image, &writer, &error), -EEXIST);
    assert_int_equal(unlink(image), 0);
    assert_int_equal(entries(), 0);
}

/* Each length that is shorter, and one that is longer, is refused at once. */
static void a_file_of_another_length_is_refused(void **state)
{
    struct img_reader *reader;
    struct error error = {0};
    int descriptor;
    write_image();
    struct stat status;
    assert_int_equal(stat(image, &status), 0);
    assert_int_equal(truncate(image, status.st_size + 8), 0);
    assert_int_equal(open_image(&reader, &descriptor, &error), -EPROTO);
    assert_non_null(strstr(error.message, "too long"));
    close(descriptor);
    for (off_t size = status.st_size - 1; size >= 0; size -= size > 4200 ? 97 : 1) {
        assert_int_equal(truncate(image, size), 0);
        assert_int_equal(open_image(&reader, &descriptor, &error), -EPROTO);
        close(descriptor);
    }
}

/* Every single byte matters: header and index when opened, pages and their table when verified;
 * nothing is changed by a flip unseen. */
static void every_flipped_byte_is_found(void **state)
{
    struct img_reader *reader;
    struct error error = {0};
    int descriptor;
    write_image();
    const off_t pages = PAGE, table = (off_t)img_table_offset(4),
                index = (off_t)img_index_offset(4);
    struct stat status;
    assert_int_equal(stat(image, &status), 0);
    for (off_t at = 0; at < status.st_size; at += at >= pages + 16 && at < table - 16 ? 13 : 1) {
        unsigned char byte, flipped;
        descriptor = open(image, O_RDWR | O_CLOEXEC);
        assert_int_equal(pread(descriptor, &byte, 1, at), 1);
        flipped = byte ^ (unsigned char)(1u << at % 8);
        assert_int_equal(pwrite(descriptor, &flipped, 1, at), 1);
        int result = img_reader_open(descriptor, "image", &reader, &error);
        if (at < pages || at >= index) {
            assert_int_equal(result, -EPROTO);
        } else {
            assert_int_equal(result, 0);
            assert_int_equal(img_reader_verify(reader, NULL, NULL, &error), -EPROTO);
            char place[32];
            snprintf(place, sizeof(place), "at byte %lld:",
                     (long long)(at < table ? at / (off_t)PAGE * (off_t)PAGE : table));
            assert_non_null(strstr(error.message, place));
            img_reader_close(reader);
        }
        assert_int_equal(pwrite(descriptor, &byte, 1, at), 1);
        close(descriptor);
    }
    assert_int_equal(open_image(&reader, &descriptor, &error), 0);
    assert_int_equal(img_reader_verify(reader, NULL, NULL, &error), 0);
    img_reader_close(reader);
    close(descriptor);
}

static void a_damaged_page_is_named_by_what_it_is(void **state)
{
    struct img_reader *reader;
    struct error error = {0};
    int descriptor;
    write_image();
    assert_int_equal(open_image(&reader, &descriptor, &error), 0);
    assert_int_equal(pwrite(descriptor, "damage", 6, (off_t)img_table_offset(2) + 100), 6);
    assert_int_equal(img_reader_verify(reader, NULL, NULL, &error), -EPROTO);
    assert_non_null(strstr(error.message, "private memory of process 7, address 0x10003000"));
    img_reader_close(reader);
    close(descriptor);
}

/* Writes an index of the test's own with checksums that fit, as an attacker can; says what the
 * reader says. */
static int open_forged(const void *index, size_t size, uint64_t page_count, struct error *error)
{
    struct img_header header = {.magic = IMG_MAGIC,
                                .version = IMG_VERSION,
                                .page_size = PAGE,
                                .page_count = page_count,
                                .index_size = size,
                                .index_checksum = img_checksum(0, index, size),
                                .file_size = img_index_offset(page_count) + size};
    header.checksum = img_checksum(0, &header, offsetof(struct img_header, checksum));
    int descriptor = open(image, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(descriptor >= 0);
    assert_int_equal(pwrite(descriptor, &header, sizeof(header), 0), sizeof(header));
    assert_int_equal(pwrite(descriptor, index, size, (off_t)img_index_offset(page_count)), size);
    struct img_reader *reader;
    int result = img_reader_open(descriptor, "image", &reader, error);
    if (!result)
        img_reader_close(reader);
    close(descriptor);
    return result;
}

struct forged_space {
    struct img_record_header record;
    struct img_space_header space;
    struct img_extent extents[2];
};

static void forged_extents_are_refused(void **state)
{
    const struct {
        const char *reason; /* NULL: allowed */
        uint32_t kind, process;
        struct img_extent extents[2];
    } cases[] = {
        {NULL, IMG_SPACE_PRIVATE, 1, {{PRIVATE, 0, 2}, {PRIVATE + 2 * PAGE, 2, 2}}},
        {NULL, IMG_SPACE_PRIVATE, 1, {{BLY_WINDOW_START - PAGE, 0, 1}, {BLY_WINDOW_END, 0, 1}}},
        {"overlap", IMG_SPACE_PRIVATE, 1, {{PRIVATE, 0, 2}, {PRIVATE + PAGE, 2, 2}}},
        {"overlap", IMG_SPACE_PRIVATE, 1, {{PRIVATE + 4 * PAGE, 0, 1}, {PRIVATE, 2, 2}}},
        {"not in the image", IMG_SPACE_PRIVATE, 1, {{PRIVATE, 3, 2}, {PRIVATE + 4 * PAGE, 0, 1}}},
        {"not in the image",
         IMG_SPACE_PRIVATE,
         1,
         {{PRIVATE, UINT64_MAX, 1}, {PRIVATE + 4 * PAGE, 0, 1}}},
        {"cannot be", IMG_SPACE_PRIVATE, 1, {{PRIVATE + 1, 0, 1}, {PRIVATE + 4 * PAGE, 0, 1}}},
        {"cannot be", IMG_SPACE_PRIVATE, 1, {{PRIVATE, 0, 0}, {PRIVATE + 4 * PAGE, 0, 1}}},
        {"cannot be", IMG_SPACE_PRIVATE, 1, {{0, 0, 1}, {PRIVATE, 0, 1}}},
        {"cannot be", IMG_SPACE_PRIVATE, 1, {{PRIVATE, 0, UINT64_MAX / PAGE + 2}, {PRIVATE, 0, 1}}},
        {"cannot be", IMG_SPACE_PRIVATE, 1, {{BLY_IMAGE_START, 0, 1}, {BLY_WINDOW_END, 0, 1}}},
        {"cannot be",
         IMG_SPACE_PRIVATE,
         1,
         {{BLY_WINDOW_START - PAGE, 0, 2}, {BLY_WINDOW_END, 0, 1}}},
        {"cannot be", IMG_SPACE_PRIVATE, 1, {{PRIVATE, 0, 1}, {BLY_GUEST_MAX, 0, 1}}},
        {"cannot be", IMG_SPACE_HEAP, 0, {{BLY_HEAP_START - PAGE, 0, 1}, {BLY_HEAP_START, 0, 1}}},
        {"cannot be",
         IMG_SPACE_BULK,
         0,
         {{BLY_BULK_START, 0, 1}, {BLY_BULK_START + BLY_BULK_SIZE, 0, 1}}},
        {"no known kind", IMG_SPACE_PRIVATE, 0, {{PRIVATE, 0, 1}, {PRIVATE + PAGE, 0, 1}}},
        {"no known kind",
         IMG_SPACE_HEAP,
         1,
         {{BLY_HEAP_START, 0, 1}, {BLY_HEAP_START + PAGE, 0, 1}}},
        {"no known kind", 9, 0, {{PRIVATE, 0, 1}, {PRIVATE + PAGE, 0, 1}}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error error = {0};
        struct forged_space forged = {
            .record = {.type = IMG_RECORD_SPACE, .size = sizeof(forged) - sizeof(forged.record)},
            .space = {cases[i].kind, cases[i].process, 2}};
        memcpy(forged.extents, cases[i].extents, sizeof(forged.extents));
        int result = open_forged(&forged, sizeof(forged), 4, &error);
        assert_int_equal(result, cases[i].reason ? -EPROTO : 0);
        if (cases[i].reason)
            assert_non_null(strstr(error.message, cases[i].reason));
        forged.space.extent_count = i & 1 ? 1 : UINT64_MAX / sizeof(struct img_extent) + 3;
        assert_int_equal(open_forged(&forged, sizeof(forged), 4, &error), -EPROTO);
    }
}

static void forged_records_are_refused(void **state)
{
    struct error error = {0};
    const struct img_record_header optional = {.type = 200, .flags = IMG_RECORD_OPTIONAL};
    assert_int_equal(open_forged(&optional, sizeof(optional), 0, &error), 0);
    const struct img_record_header refused[] = {
        {.type = 200},
        {.type = 0},
        {.type = IMG_RECORD_OWN_FIRST, .flags = 2},
        {.type = IMG_RECORD_OWN_FIRST, .size = 1},
        {.type = IMG_RECORD_OWN_FIRST, .size = UINT64_MAX},
        {.type = IMG_RECORD_OWN_FIRST, .size = UINT64_MAX - 15},
        {.type = IMG_RECORD_SPACE, .size = 0},
    };
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        assert_int_equal(open_forged(&refused[i], sizeof(refused[i]), 0, &error), -EPROTO);
    assert_int_equal(open_forged("12345678", 8, 0, &error), -EPROTO);
    struct {
        struct img_record_header record;
        struct img_space_header space;
    } twice[2] = {
        {{.type = IMG_RECORD_SPACE, .size = 16}, {IMG_SPACE_HEAP, 0, 0}},
        {{.type = IMG_RECORD_SPACE, .size = 16}, {IMG_SPACE_HEAP, 0, 0}},
    };
    assert_int_equal(open_forged(twice, sizeof(twice), 0, &error), -EPROTO);
    assert_non_null(strstr(error.message, "order"));
    twice[0].record.type = IMG_RECORD_OWN_FIRST;
    assert_int_equal(open_forged(twice, sizeof(twice), 0, &error), -EPROTO);
    assert_non_null(strstr(error.message, "after other records"));
}

/* Headers whose checksum fits, with one field that lies. */
static void forged_headers_are_refused(void **state)
{
    const struct {
        const char *reason;
        size_t field, size;
        uint64_t value;
    } cases[] = {
#define FIELD(name) offsetof(struct img_header, name), sizeof(((struct img_header *)0)->name)
        {"not a complete image", FIELD(magic), 0},
        {"is compressed", FIELD(version), IMG_VERSION_PACKED},
        {"of version 3", FIELD(version), IMG_VERSION_PACKED + 1},
        {"page size", FIELD(page_size), 16384},
        {"sizes cannot be", FIELD(page_count), UINT64_MAX},
        {"sizes cannot be", FIELD(page_count), IMG_PAGES_MAX + 1},
        {"sizes cannot be", FIELD(index_size), IMG_INDEX_MAX + 8},
        {"sizes cannot be", FIELD(index_size), 7},
        {"contradict", FIELD(index_size), 8},
        {"contradict", FIELD(page_count), IMG_PAGES_MAX},
        {"contradict", FIELD(file_size), UINT64_MAX},
#undef FIELD
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct img_reader *reader;
        struct error error = {0};
        struct img_header header;
        int descriptor;
        write_image();
        descriptor = open(image, O_RDWR | O_CLOEXEC);
        assert_int_equal(pread(descriptor, &header, sizeof(header), 0), sizeof(header));
        memcpy((char *)&header + cases[i].field, &cases[i].value, cases[i].size);
        header.checksum = img_checksum(0, &header, offsetof(struct img_header, checksum));
        assert_int_equal(pwrite(descriptor, &header, sizeof(header), 0), sizeof(header));
        assert_int_equal(img_reader_open(descriptor, "image", &reader, &error), -EPROTO);
        assert_non_null(strstr(error.message, cases[i].reason));
        close(descriptor);
    }
    struct img_reader *reader;
    struct error error = {0};
    int none = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(img_reader_open(none, "folder", &reader, &error), -EPROTO);
    close(none);
}

/* Where pages belong comes from a sandbox: the writer refuses what the reader would. */
static void a_sandbox_cannot_place_pages_where_none_can_be(void **state)
{
    static const unsigned char page[2 * PAGE] = {1};
    struct img_writer *writer;
    struct error error = {0};
    assert_int_equal(img_writer_open(image, &writer, &error), 0);
    assert_int_equal(img_writer_pages(writer, PRIVATE, page, 1, 0, &error), -EINVAL);
    assert_int_equal(img_writer_space(writer, IMG_SPACE_PRIVATE, 0, &error), -EINVAL);
    assert_int_equal(img_writer_space(writer, IMG_SPACE_PRIVATE, 3, &error), 0);
    assert_int_equal(img_writer_space(writer, IMG_SPACE_PRIVATE, 3, &error), -EEXIST);
    assert_int_equal(img_writer_pages(writer, BLY_IMAGE_START, page, 1, 0, &error), -EINVAL);
    assert_int_equal(img_writer_pages(writer, PRIVATE + 8, page, 1, 0, &error), -EINVAL);
    assert_int_equal(img_writer_pages(writer, PRIVATE, page, 1, 0, &error), 0);
    assert_int_equal(img_writer_pages(writer, PRIVATE, page, 1, 0, &error), -EINVAL);
    assert_int_equal(img_writer_pages(writer, PRIVATE - PAGE, page, 1, 0, &error), -EINVAL);
    assert_int_equal(img_writer_record(writer, IMG_RECORD_SPACE, 0, page, 16, &error), -EINVAL);
    assert_int_equal(img_writer_bytes(writer), PAGE);
    img_writer_abandon(writer);
    assert_int_equal(entries(), 0);
}

/* A full disk, played by a limit on the size of files: what had the name stays, nothing else does.
 */
static void a_failed_write_leaves_the_image_that_was_there(void **state)
{
    static const unsigned char page[PAGE] = {1};
    struct img_writer *writer;
    struct img_reader *reader;
    struct error error = {0};
    struct rlimit before, limit;
    int descriptor;
    write_image();
    getrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, SIG_IGN);
    /* Nothing fits; the pages do but not all of the end. */
    for (unsigned room = 0; room < 3 * PAGE; room += PAGE) {
        limit = (struct rlimit){room, before.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        assert_int_equal(img_writer_open(image, &writer, &error), 0);
        assert_int_equal(img_writer_space(writer, IMG_SPACE_PRIVATE, 1, &error), 0);
        int result = img_writer_pages(writer, PRIVATE, page, 1, 0, &error);
        assert_int_equal(result, room < 2 * PAGE ? -EFBIG : 0);
        if (!result)
            assert_int_equal(img_writer_finish(writer, &error), -EFBIG);
        else
            img_writer_abandon(writer);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(entries(), 1);
        assert_int_equal(open_image(&reader, &descriptor, &error), 0);
        assert_int_equal(img_reader_verify(reader, NULL, NULL, &error), 0);
        img_reader_close(reader);
        close(descriptor);
    }
    snprintf(image, sizeof(image), "%s/none/image", folder);
    assert_int_equal(img_writer_open(image, &writer, &error), -ENOENT);
}

/* RFC 3720, appendix B.4; and the fast way is the plain one at every length and alignment. */
static void checksums_are_those_of_the_rfc(void **state)
{
    unsigned char data[32] = {0};
    assert_int_equal(img_checksum(0, data, 32), 0x8a9136aa);
    assert_int_equal(img_checksum_plain(0, data, 32), 0x8a9136aa);
    for (unsigned i = 0; i < 32; i++)
        data[i] = (unsigned char)i;
    assert_int_equal(img_checksum(0, data, 32), 0x46dd794e);
    static unsigned char many[3 * PAGE];
    for (unsigned i = 0; i < 3; i++)
        fill(many + i * PAGE, i);
    for (size_t size = 0; size < sizeof(many) - 8; size += size < 64 ? 1 : 61) {
        const unsigned char *start = many + size % 8;
        uint32_t expected = img_checksum_plain(0, start, size);
        assert_int_equal(img_checksum(0, start, size), expected);
        assert_int_equal(
            img_checksum(img_checksum(0, start, size / 3), start + size / 3, size - size / 3),
            expected);
    }
}

int main(void)
{
#define SUBJECT(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        SUBJECT(what_was_written_is_read_back),
        SUBJECT(a_file_of_another_length_is_refused),
        SUBJECT(zeros_are_carried_where_that_is_asked_for),
        SUBJECT(who_watches_the_writing_can_end_it),
        SUBJECT(only_a_file_is_replaced),
        SUBJECT(every_flipped_byte_is_found),
        SUBJECT(a_damaged_page_is_named_by_what_it_is),
        SUBJECT(forged_extents_are_refused),
        SUBJECT(forged_records_are_refused),
        SUBJECT(forged_headers_are_refused),
        SUBJECT(a_sandbox_cannot_place_pages_where_none_can_be),
        SUBJECT(a_failed_write_leaves_the_image_that_was_there),
        SUBJECT(checksums_are_those_of_the_rfc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
