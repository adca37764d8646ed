/* Fuzzes the reader of images. Checked, beside what the sanitizers see: whatever it accepts keeps
 * what reader.h promises of it.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -I. -Iinclude -D_GNU_SOURCE
 * tests/image/fuzz_image.c image/[cr]*.c base/error.c base/text.c Built with MAIN defined it reads
 * the files named on the command line, or indices of its own making, without libFuzzer.
 *
 * The input is one byte, the number of pages, and the index; header and checksums are made to fit,
 * since a fuzzer does not find them. An input that begins with the magic is taken as a whole file.
 */
#include <errno.h>
#include <fcntl.h>
#include <base/text.h>
#include <image/checksum.h>
#include <image/flat.h>
#include <image/reader.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition)
{
    if (!condition)
        abort();
}

static void check_space(const struct img_reader *reader, const struct img_space *space)
{
    uint64_t end = 0, pages = 0;
    for (size_t i = 0; i < space->extent_count; i++) {
        const struct img_extent *extent = &space->extents[i];
        require(extent->count && extent->address % BLY_PAGE_SIZE == 0 && extent->address >= end);
        unsigned file = img_place_file(extent->place);
        require(file <= img_reader_base_count(reader));
        uint64_t has = file ? img_reader_base(reader, file - 1)->identity.page_count
                            : img_reader_page_count(reader);
        require(img_place_page(extent->place) + extent->count <= has);
        end = extent->address + extent->count * BLY_PAGE_SIZE;
        pages += extent->count;
        if (space->kind == IMG_SPACE_PRIVATE)
            require(end <= BLY_WINDOW_START || extent->address >= BLY_WINDOW_END);
        else if (space->kind != IMG_SPACE_FILE)
            require(extent->address >= BLY_HEAP_START && end <= BLY_WINDOW_END);
        require(end <= BLY_GUEST_MAX);
    }
    require(pages == space->page_count);
    require(img_reader_find_space(reader, space->kind, space->process) == space);
}

static void check(struct img_reader *reader)
{
    struct error error = {0};
    for (size_t i = 0; i < img_reader_space_count(reader); i++)
        check_space(reader, img_reader_space(reader, i));
    uint32_t sum = 0;
    for (size_t i = 0; i < img_reader_record_count(reader); i++) {
        const struct img_record *record = img_reader_record(reader, i);
        require((uintptr_t)record->data % 8 == 0);
        sum = img_checksum(sum, record->data, record->size);
    }
    for (size_t i = 0; i < img_reader_base_count(reader); i++) {
        require(img_reader_base(reader, i)->path[0] == '/');
        require(img_reader_file(reader, (unsigned)i + 1) < 0);
    }
    int result = img_reader_verify(reader, NULL, NULL, &error);
    require(!result || result == -EPROTO ||
            (result == -ENOENT && img_reader_base_count(reader) > 0));
}

static void check_flat_data(const struct text *flat, int file, int sound)
{
    struct img_reader *reader;
    struct error error = {0};
    void *copy = malloc(flat->size + 1);
    require(copy != NULL);
    memcpy(copy, flat->data, flat->size);
    int result = img_flat_read(copy, flat->size, file, "flat", &reader, &error);
    require(!result || (result == -EPROTO && !sound));
    if (!result) {
        for (size_t i = 0; i < img_reader_space_count(reader); i++)
            check_space(reader, img_reader_space(reader, i));
        struct text again = {0};
        img_flat_write(reader, &again);
        require(!sound ||
                (again.size == flat->size && !memcmp(again.data, flat->data, again.size)));
        text_free(&again);
        img_reader_close(reader);
    }
}

/* What a confined process hands over is the same image; and when it hands over something else, that
 * is refused or an image. */
static void check_flat(const struct img_reader *reader, int file, uint32_t random)
{
    struct text flat = {0};
    img_flat_write(reader, &flat);
    check_flat_data(&flat, file, 1);
    for (int i = 0; i < 8; i++) {
        random = random * 1103515245u + 12345;
        size_t place = (random >> 4) % flat.size;
        /* Mostly behind the header, whose bytes are few that count. */
        if (i % 4 && flat.size > BLY_PAGE_SIZE)
            place = BLY_PAGE_SIZE + place % (flat.size - BLY_PAGE_SIZE);
        char before = flat.data[place];
        flat.data[place] = (char)(i % 2 ? before + 1 : (char)(random >> 24));
        check_flat_data(&flat, file, flat.data[place] == before);
        flat.data[place] = before;
    }
    for (size_t cut = 1; cut < flat.size; cut = cut * 2 + 1) {
        struct text part = {.data = flat.data, .size = flat.size - cut};
        check_flat_data(&part, file, 0);
    }
    text_free(&flat);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int file = -1;
    if (file < 0)
        require((file = memfd_create("image", MFD_CLOEXEC)) >= 0);
    require(ftruncate(file, 0) == 0);
    if (size >= 8 && !memcmp(data, IMG_MAGIC, 8)) {
        require(pwrite(file, data, size, 0) == (ssize_t)size);
    } else {
        uint64_t pages = size ? data[0] % 16 : 0;
        const uint8_t *index = size ? data + 1 : data;
        size_t index_size = size ? (size - 1) & ~(size_t)7 : 0;
        struct img_header header = {.magic = IMG_MAGIC,
                                    .version = IMG_VERSION,
                                    .page_size = BLY_PAGE_SIZE,
                                    .page_count = pages,
                                    .index_size = index_size,
                                    .index_checksum = img_checksum(0, index, index_size),
                                    .file_size = img_index_offset(pages) + index_size};
        header.checksum = img_checksum(0, &header, offsetof(struct img_header, checksum));
        require(ftruncate(file, (off_t)header.file_size) == 0);
        require(pwrite(file, &header, sizeof(header), 0) == sizeof(header));
        require(pwrite(file, index, index_size, (off_t)img_index_offset(pages)) ==
                (ssize_t)index_size);
    }
    struct img_reader *reader;
    struct error error = {0};
    int result = img_reader_open(file, "input", &reader, &error);
    require(!result || result == -EPROTO);
    if (!result) {
        check(reader);
        check_flat(reader, file, img_checksum(0, data, size));
        img_reader_close(reader);
    }
    return 0;
}

#ifdef MAIN
static uint32_t next(uint32_t *random)
{
    *random = *random * 1103515245u + 12345;
    return *random >> 8;
}

/* Indices that are nearly right, so that every check decides now and then. */
static size_t make_input(uint8_t *input, uint32_t *random)
{
    static const uint64_t addresses[] = {BLY_GUEST_MIN,    BLY_HEAP_START, BLY_BULK_START,
                                         BLY_WINDOW_START, BLY_WINDOW_END, BLY_GUEST_MAX,
                                         0x7f0000000000,   0x10000000,     UINT64_MAX - 4095};
    size_t at = 1;
    input[0] = (uint8_t)next(random);
    for (unsigned bases = next(random) % 4 / 2; bases; bases--) {
        struct {
            struct img_record_header record;
            struct img_identity identity;
            char path[8];
        } base = {.record = {.type = IMG_RECORD_BASE, .size = 32 + next(random) % 9},
                  .identity = {.id = {(unsigned char)next(random)}, .page_count = next(random) % 8},
                  .path = "/abcdef"};
        memcpy(input + at, &base, sizeof(base));
        at += sizeof(base);
    }
    for (unsigned records = next(random) % 6; records; records--) {
        struct img_space_header space = {next(random) % 5 + (next(random) % 8 != 0),
                                         next(random) % 3, next(random) % 4};
        struct img_record_header record = {
            .type = next(random) % 4 ? IMG_RECORD_SPACE : next(random) % 512,
            .flags = next(random) % 16 / 14,
            .size = sizeof(space) + space.extent_count * sizeof(struct img_extent)};
        if (space.kind < IMG_SPACE_PRIVATE && next(random) % 4)
            space.process = 0;
        uint64_t size = record.size;
        if (next(random) % 16 == 0)
            record.size = next(random) % 2 ? UINT64_MAX - next(random) % 64 : next(random) % 256;
        memcpy(input + at, &record, sizeof(record));
        memcpy(input + at + sizeof(record), &space, sizeof(space));
        uint64_t address =
            addresses[space.kind < IMG_SPACE_PRIVATE ? space.kind : next(random) % 9];
        for (uint64_t i = 0; i < space.extent_count; i++) {
            struct img_extent extent = {address, img_place(next(random) % 4 / 2, next(random) % 8),
                                        next(random) % 4 + (next(random) % 4 != 0)};
            if (next(random) % 32 == 0)
                extent.count = 0 - (uint64_t)next(random) % 32;
            if (next(random) % 32 == 0)
                extent.place = 0 - (uint64_t)next(random) % 32;
            memcpy(input + at + sizeof(record) + sizeof(space) + i * sizeof(extent), &extent,
                   sizeof(extent));
            address += (next(random) % 8 - (next(random) % 16 == 0)) * BLY_PAGE_SIZE;
        }
        at += sizeof(record) + size;
    }
    return at;
}

int main(int argc, char **argv)
{
    static uint8_t input[1 << 20];
    uint32_t random = 1;
    for (int i = 1; i < argc; i++) {
        int file = open(argv[i], O_RDONLY | O_CLOEXEC);
        ssize_t size = read(file, input, sizeof(input));
        close(file);
        LLVMFuzzerTestOneInput(input, size > 0 ? (size_t)size : 0);
    }
    for (int i = 0; argc == 1 && i < 20000; i++)
        LLVMFuzzerTestOneInput(input, make_input(input, &random));
    return 0;
}
#endif
