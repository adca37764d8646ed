/* Images that are based on others: what the base has is named and not written, byte for byte; what
 * is forged, missing or another one is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <base/cleanup.h>
#include <base/path.h>
#include <errno.h>
#include <fcntl.h>
#include <image/bases.h>
#include <image/checksum.h>
#include <image/flat.h>
#include <image/writer.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE BLY_PAGE_SIZE
#define PRIVATE 0x10000000ull
#define PAGES 64u

static char folder[64];
static unsigned char memory[PAGES * PAGE];

static int make_folder(void **state)
{
    strcpy(folder, "/tmp/bailey-base-test-XXXXXX");
    assert_non_null(mkdtemp(folder));
    for (size_t i = 0; i < PAGES; i++)
        for (size_t j = 0; j < PAGE; j++)
            memory[i * PAGE + j] = (unsigned char)((i * 131 + j + 1) * 2654435761u >> 13 | 1);
    return 0;
}

static int remove_folder(void **state)
{
    path_remove_tree(AT_FDCWD, folder);
    return 0;
}

static const char *path_of(const char *name)
{
    static char paths[4][PATH_MAX];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, PATH_MAX, "%s/%s", folder, name);
    return path;
}

struct opened {
    int file;
    struct img_reader *reader;
};

static struct opened open_image(const char *name)
{
    struct error error = {0};
    struct opened opened = {.file = open(path_of(name), O_RDONLY | O_CLOEXEC)};
    assert_true(opened.file >= 0);
    assert_int_equal(img_reader_open(opened.file, path_of(name), &opened.reader, &error), 0);
    if (img_reader_find_bases(opened.reader, path_of(name), NULL, true, &error) < 0)
        fail_msg("%s", error.message);
    return opened;
}

static void close_image(struct opened *opened)
{
    img_reader_close(opened->reader);
    close(opened->file);
}

/* `memory` as that of process `process`. Returns how many pages were written. */
static uint64_t write_memory(const char *name, const char *base, uint32_t process)
{
    struct error error = {0};
    struct img_writer *writer;
    struct opened opened = {.file = -1};
    assert_int_equal(img_writer_open(path_of(name), &writer, &error), 0);
    if (base) {
        opened = open_image(base);
        assert_int_equal(img_writer_set_base(writer, opened.reader, path_of(base), &error), 0);
    }
    assert_int_equal(img_writer_space(writer, IMG_SPACE_PRIVATE, process, &error), 0);
    assert_int_equal(img_writer_pages(writer, PRIVATE, memory, PAGES, 0, &error), 0);
    uint64_t pages = img_writer_bytes(writer) / PAGE;
    assert_int_equal(pages + img_writer_named_bytes(writer) / PAGE, PAGES);
    assert_int_equal(img_writer_finish(writer, &error), 0);
    if (base)
        close_image(&opened);
    return pages;
}

static void expect_pages(const char *name, size_t bases)
{
    static unsigned char got[PAGES * PAGE];
    struct opened opened = open_image(name);
    struct error error = {0};
    memset(got, 0, sizeof(got));
    assert_int_equal(img_reader_base_count(opened.reader), bases);
    assert_int_equal(img_reader_verify(opened.reader, NULL, NULL, &error), 0);
    const struct img_space *space = img_reader_space(opened.reader, 0);
    for (size_t i = 0; i < space->extent_count; i++) {
        const struct img_extent *extent = &space->extents[i];
        size_t size = extent->count * PAGE;
        assert_int_equal(pread(img_reader_file(opened.reader, img_place_file(extent->place)),
                               got + (extent->address - PRIVATE), size,
                               (off_t)img_place_offset(extent->place)),
                         size);
    }
    assert_memory_equal(got, memory, sizeof(got));
    close_image(&opened);
}

static void only_what_differs_is_written(void **state)
{
    assert_int_equal(write_memory("full", NULL, 7), PAGES);
    assert_int_equal(write_memory("same", "full", 7), 0);
    expect_pages("same", 1);
    memory[20 * PAGE + 5]++;
    memory[40 * PAGE + 5]++;
    assert_int_equal(write_memory("one", "full", 7), 2);
    expect_pages("one", 1);
    /* A picoprocess has another id once it was resumed. */
    assert_int_equal(write_memory("other", "one", 8), 0);
    expect_pages("other", 2);
    memory[20 * PAGE + 5]++;
    assert_int_equal(write_memory("two", "one", 9), 1);
    expect_pages("two", 3 - 1);
}

static void few_pages_between_changed_ones_are_written_again(void **state)
{
    write_memory("full", NULL, 7);
    memory[20 * PAGE]++;
    memory[25 * PAGE]++;
    assert_int_equal(write_memory("one", "full", 7), 6);
    expect_pages("one", 1);
}

static void a_base_that_is_not_used_is_not_named(void **state)
{
    write_memory("full", NULL, 7);
    for (size_t i = 0; i < PAGES; i++)
        memory[i * PAGE + 1]++;
    assert_int_equal(write_memory("all", "full", 7), PAGES);
    expect_pages("all", 0);
    assert_int_equal(write_memory("next", "all", 7), 0);
    expect_pages("next", 1);
}

static void chains_end(void **state)
{
    char name[16], before[16] = "0";
    write_memory("0", NULL, 7);
    for (unsigned i = 1; i <= IMG_BASES_MAX; i++) {
        memory[(i * 3) * PAGE]++;
        snprintf(name, sizeof(name), "%u", i);
        write_memory(name, before, 7);
        strcpy(before, name);
    }
    struct opened opened = open_image(before);
    struct img_writer *writer;
    struct error error = {0};
    assert_int_equal(img_writer_open(path_of("last"), &writer, &error), 0);
    assert_int_equal(img_writer_set_base(writer, opened.reader, path_of(before), &error), -ELOOP);
    assert_non_null(strstr(error.message, "image pack"));
    img_writer_abandon(writer);
    close_image(&opened);
}

/* Pages are the same by their bytes, whatever a checksum says. */
static void bytes_decide(void **state)
{
    write_memory("full", NULL, 7);
    int file = open(path_of("full"), O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(file, "another", 7, (off_t)img_table_offset(30)),
                     7); /* its checksum stays */
    close(file);
    assert_int_equal(write_memory("one", "full", 7), 1);
    struct opened opened = open_image("one");
    const struct img_space *space = img_reader_space(opened.reader, 0);
    unsigned char page[PAGE];
    assert_int_equal(space->extent_count, 3);
    assert_int_equal(img_place_file(space->extents[1].place), 0);
    assert_int_equal(
        pread(opened.file, page, PAGE, (off_t)img_place_offset(space->extents[1].place)), PAGE);
    assert_memory_equal(page, memory + 30 * PAGE, PAGE);
    struct error error = {0};
    assert_int_equal(img_reader_verify(opened.reader, NULL, NULL, &error), -EPROTO);
    assert_non_null(strstr(error.message, "full is damaged"));
    close_image(&opened);
}

static void only_pages_of_the_base_can_be_named(void **state)
{
    struct error error = {0};
    struct img_writer *writer;
    write_memory("full", NULL, 7);
    struct opened opened = open_image("full");
    const struct img_identity identity = img_reader_identity(opened.reader),
                              other = {.page_count = PAGES};
    assert_int_equal(img_writer_open(path_of("named"), &writer, &error), 0);
    assert_int_equal(img_writer_set_base(writer, opened.reader, path_of("full"), &error), 0);
    unsigned number = img_writer_find_file(writer, &identity);
    assert_int_equal(number, 1);
    assert_int_equal(img_writer_find_file(writer, &other), 0);
    assert_int_equal(img_writer_name(writer, PRIVATE, img_place(1, 0), 1, &error), -EINVAL);
    assert_int_equal(img_writer_space(writer, IMG_SPACE_PRIVATE, 3, &error), 0);
    assert_int_equal(img_writer_name(writer, PRIVATE, img_place(1, 1), PAGES, &error), -EINVAL);
    assert_int_equal(img_writer_name(writer, PRIVATE, img_place(2, 0), 1, &error), -EINVAL);
    assert_int_equal(img_writer_name(writer, PRIVATE, img_place(0, 0), 1, &error), -EINVAL);
    assert_int_equal(img_writer_name(writer, PRIVATE, img_place(1, 0), UINT64_MAX, &error),
                     -EINVAL);
    assert_int_equal(img_writer_name(writer, PRIVATE, img_place(1, 0), PAGES, &error), 0);
    assert_int_equal(img_writer_name(writer, PRIVATE, img_place(1, 0), 1, &error), -EINVAL);
    assert_int_equal(img_writer_finish(writer, &error), 0);
    close_image(&opened);
    expect_pages("named", 1);
}

static void a_base_is_found_by_what_it_is(void **state)
{
    struct error error = {0};
    struct img_reader *reader;
    struct text_list given = {0};
    write_memory("full", NULL, 7);
    memory[20 * PAGE]++;
    write_memory("one", "full", 7);
    int file = open(path_of("one"), O_RDONLY | O_CLOEXEC);
    assert_int_equal(mkdir(path_of("elsewhere"), 0700), 0);
    assert_int_equal(rename(path_of("full"), path_of("elsewhere/other")), 0);
    assert_int_equal(img_reader_open(file, "one", &reader, &error), 0);
    assert_int_equal(img_reader_find_bases(reader, path_of("one"), NULL, true, &error), -ENOENT);
    assert_int_equal(img_reader_verify(reader, NULL, NULL, &error), -ENOENT);
    text_list_add(&given, path_of("elsewhere/other"));
    assert_int_equal(img_reader_find_bases(reader, NULL, &given, false, &error), 0);
    text_list_add(&given, path_of("one"));
    assert_int_equal(img_reader_find_bases(reader, NULL, &given, false, &error), -EINVAL);
    img_reader_close(reader);
    /* The same bytes under another id are another image; what is no file is none. */
    memory[20 * PAGE]--;
    write_memory("full", NULL, 7);
    assert_int_equal(img_reader_open(file, "one", &reader, &error), 0);
    assert_int_equal(img_reader_find_bases(reader, path_of("one"), NULL, true, &error), -ESTALE);
    assert_int_equal(unlink(path_of("full")), 0);
    assert_int_equal(mkfifo(path_of("full"), 0600), 0);
    assert_int_equal(img_reader_find_bases(reader, path_of("one"), NULL, true, &error), -ENOENT);
    img_reader_close(reader);
    /* A stranger's image: where it says the base is does not count. */
    assert_int_equal(unlink(path_of("full")), 0);
    assert_int_equal(rename(path_of("elsewhere/other"), path_of("full")), 0);
    assert_int_equal(img_reader_open(file, "one", &reader, &error), 0);
    assert_int_equal(img_reader_find_bases(reader, NULL, NULL, false, &error), -ENOENT);
    assert_int_equal(img_reader_find_bases(reader, NULL, NULL, true, &error), 0);
    img_reader_close(reader);
    close(file);
    text_list_free(&given);
}

/* ---- Forged ---- */

struct forged {
    struct img_record_header record;
    struct img_identity identity;
    char path[8];
    struct img_record_header space_record;
    struct img_space_header space;
    struct img_extent extent;
};

static struct forged sound(void)
{
    return (struct forged){
        .record = {.type = IMG_RECORD_BASE, .size = sizeof(struct img_identity) + 5},
        .identity = {.id = {1}, .page_count = 10, .table_checksum = 1},
        .path = "/full",
        .space_record = {.type = IMG_RECORD_SPACE,
                         .size = sizeof(struct img_space_header) + sizeof(struct img_extent)},
        .space = {IMG_SPACE_PRIVATE, 7, 1},
        .extent = {PRIVATE, img_place(1, 5), 5}};
}

static int open_index(const void *index, size_t size)
{
    struct img_reader *reader, *again;
    struct error error = {0};
    struct img_header header = {.magic = IMG_MAGIC,
                                .version = IMG_VERSION,
                                .page_size = PAGE,
                                .page_count = 4,
                                .index_size = size,
                                .index_checksum = img_checksum(0, index, size),
                                .file_size = img_index_offset(4) + size};
    header.checksum = img_checksum(0, &header, offsetof(struct img_header, checksum));
    int file = memfd_create("forged", MFD_CLOEXEC);
    assert_int_equal(ftruncate(file, (off_t)header.file_size), 0);
    assert_int_equal(pwrite(file, &header, sizeof(header), 0), sizeof(header));
    assert_int_equal(pwrite(file, index, size, (off_t)img_index_offset(4)), size);
    int result = img_reader_open(file, "forged", &reader, &error);
    if (result == 0) {
        struct text flat = {0};
        img_flat_write(reader, &flat);
        assert_int_equal(img_flat_read(flat.data, flat.size, file, "flat", &again, &error), 0);
        assert_int_equal(img_reader_base_count(again), img_reader_base_count(reader));
        assert_string_equal(img_reader_base(again, 0)->path, img_reader_base(reader, 0)->path);
        img_reader_close(again);
        img_reader_close(reader);
    }
    close(file);
    return result;
}

static int open_forged(const struct forged *forged)
{
    return open_index(forged, sizeof(*forged));
}

static void forged_bases_are_refused(void **state)
{
    struct forged forged = sound();
    assert_int_equal(open_forged(&forged), 0);
#define BREACH(what)                                                                               \
    do {                                                                                           \
        forged = sound();                                                                          \
        what;                                                                                      \
        assert_int_equal(open_forged(&forged), -EPROTO);                                           \
    } while (0)
    BREACH(forged.extent.count = 6);
    BREACH(forged.extent.place = img_place(2, 0));
    BREACH(forged.extent.place = img_place(0, 0)); /* of its own it has 4 */
    BREACH(forged.extent.place = img_place(1, 0) - 1);
    BREACH(forged.extent.place = UINT64_MAX);
    BREACH(forged.identity.page_count = 9);
    BREACH(forged.identity.page_count = IMG_PAGES_MAX + 1);
    BREACH(forged.identity.reserved = 1);
    BREACH(forged.path[0] = 'f');
    BREACH(forged.path[2] = '\0');
    BREACH(forged.path[4] = '/');
    BREACH(forged.record.size = sizeof(struct img_identity));
    BREACH(forged.record.size = UINT64_MAX);
    BREACH(forged.record.flags = 2);
    /* After a space; twice; too many; with too long a path. */
    struct forged two[2] = {sound(), sound()};
    assert_int_equal(open_index(two, sizeof(two)), -EPROTO);
    enum { BASE_SIZE = offsetof(struct forged, space_record) };
    unsigned char many[(IMG_BASES_MAX + 1) * BASE_SIZE];
    for (size_t i = 0; i <= IMG_BASES_MAX; i++) {
        forged = sound();
        forged.identity.id[1] = (unsigned char)i;
        memcpy(many + i * BASE_SIZE, &forged, BASE_SIZE);
    }
    assert_int_equal(open_index(many, IMG_BASES_MAX * BASE_SIZE), 0);
    assert_int_equal(open_index(many, sizeof(many)), -EPROTO);
    memcpy(many + BASE_SIZE, many, BASE_SIZE);
    assert_int_equal(open_index(many, 2 * BASE_SIZE), -EPROTO);
    static struct {
        struct img_record_header record;
        struct img_identity identity;
        char path[IMG_PATH_MAX];
    } longest;
    forged = sound();
    memcpy(&longest, &forged, BASE_SIZE);
    memset(longest.path + 1, 'a', IMG_PATH_MAX - 1);
    longest.record.size = sizeof(struct img_identity) + IMG_PATH_MAX - 1;
    assert_int_equal(open_index(&longest, sizeof(longest)), 0);
    longest.record.size++;
    assert_int_equal(open_index(&longest, sizeof(longest)), -EPROTO);
}

int main(void)
{
#define SUBJECT(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        SUBJECT(only_what_differs_is_written),
        SUBJECT(few_pages_between_changed_ones_are_written_again),
        SUBJECT(a_base_that_is_not_used_is_not_named),
        SUBJECT(chains_end),
        SUBJECT(bytes_decide),
        SUBJECT(only_pages_of_the_base_can_be_named),
        SUBJECT(a_base_is_found_by_what_it_is),
        SUBJECT(forged_bases_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
