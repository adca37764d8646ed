/* Fuzzes what a receiver of sandboxes reads from a peer that has the key. Checked, beside what the
 * sanitizers see: nothing is written outside the files' bounds that the peer's bytes pay for, and
 * an answer is one of those that arrival.h knows.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -I. -Iinclude -D_GNU_SOURCE
 * tests/image/fuzz_arrival.c image/[acf]*.c base/error.c base/text.c   (without image/carrier.c)
 * Built with MAIN defined it reads the files named on the command line, or changes to a
 * conversation of its own making, without libFuzzer.
 *
 * The first byte says how the rest is cut into pieces and whether checksums of pages are mended,
 * since a fuzzer does not find them. */
#include "tests/linux/fuzz_main.h"

#include <errno.h>
#include <image/arrival.h>
#include <image/checksum.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static void require(int condition)
{
    if (!condition)
        abort();
}

/* Over a copy: wherever a PAGES frame seems to begin, its checksums are made to fit. */
static void mend(uint8_t *data, size_t size)
{
    for (size_t at = 0; at + sizeof(struct img_frame) <= size;) {
        struct img_frame frame;
        struct img_frame_pages head;
        memcpy(&frame, data + at, sizeof(frame));
        uint8_t *payload = data + at + sizeof(frame);
        if (!img_frame_allowed(&frame) || frame.size > size - at - sizeof(frame))
            return;
        if (frame.kind == IMG_FRAME_PAGES) {
            memcpy(&head, payload, sizeof(head));
            if (head.count <= IMG_PAGES_AT_ONCE && img_frame_pages_size(head.count) == frame.size)
                for (uint32_t i = 0; i < head.count; i++) {
                    uint8_t *sums = payload + sizeof(head);
                    uint32_t sum = img_checksum(
                        0, sums + head.count * sizeof(sum) + i * BLY_PAGE_SIZE, BLY_PAGE_SIZE);
                    memcpy(sums + i * sizeof(sum), &sum, sizeof(sum));
                }
        }
        at += sizeof(frame) + frame.size;
    }
}

/* What is only announced is a hole. */
static void check_file(int file, uint64_t most, int is_lazy)
{
    struct stat status;
    require(fstat(file, &status) == 0);
    if (is_lazy)
        require((uint64_t)status.st_blocks * 512 <= 2 * most + 8 * BLY_PAGE_SIZE &&
                (uint64_t)status.st_size <=
                    img_index_offset(IMG_LAZY_PAGES_MAX + IMG_PAGES_AT_ONCE) + most);
    else
        require((uint64_t)status.st_size <= most);
    require(ftruncate(file, 0) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int offer = -1, image = -1;
    struct error error = {0};
    if (offer < 0) {
        offer = memfd_create("offer", 0);
        image = memfd_create("image", 0);
    }
    if (size < 1)
        return 0;
    uint8_t how = data[0], *copy = malloc(size);
    memcpy(copy, data + 1, size - 1);
    size--;
    if (how & 0x80)
        mend(copy, size);
    struct img_arrival *arrival =
        how & 0x40 ? img_arrival_new(-1, -1) : img_arrival_new(offer, image);
    int result = 0;
    img_arrival_allow(arrival, how & 0x20 ? UINT64_MAX : 2);
    for (size_t at = 0; at < size && result >= 0;) {
        size_t room, piece = 1u << (how & 15);
        void *place = img_arrival_room(arrival, &room);
        require(room > 0);
        piece = piece < room ? piece : room;
        piece = piece < size - at ? piece : size - at;
        memcpy(place, copy + at, piece);
        at += piece;
        result = img_arrival_take(arrival, piece, &error);
        require(result < IMG_FRAME_KIND_END && result != IMG_FRAME_PAGES &&
                result != IMG_FRAME_INDEX && result != IMG_FRAME_WORKING);
        require(result >= 0 || error.code == result);
        if (result == IMG_FRAME_REFUSED)
            require(strlen(img_arrival_reason(arrival)) <= IMG_REASON_MAX);
        if (result == IMG_FRAME_HELLO)
            require(strlen(img_arrival_hello(arrival)->name) <= IMG_NAME_MAX);
        require(img_arrival_bytes(arrival) <= at);
        if (result == IMG_FRAME_WANT)
            require(img_arrival_wanted(arrival)->count > 0 &&
                    img_arrival_wanted(arrival)->count <= IMG_WANT_MAX);
        if (result == IMG_FRAME_COMMIT && img_arrival_hello(arrival)->flags & IMG_HELLO_LAZY) {
            require(img_arrival_has(arrival, UINT64_MAX, 2) == -1);
            (void)!img_arrival_has(arrival, 0, 1 + how);
            (void)!img_arrival_is_complete(arrival);
        }
    }
    int is_lazy = (img_arrival_hello(arrival)->flags & IMG_HELLO_LAZY) != 0;
    img_arrival_free(arrival);
    check_file(offer, size + 2 * sizeof(struct img_header), 0);
    check_file(image, 2 * size + 2 * sizeof(struct img_header), is_lazy);
    free(copy);
    return 0;
}

#ifdef MAIN
static size_t add(uint8_t *data, size_t at, uint32_t kind, const void *payload, size_t size)
{
    struct img_frame frame = {kind, (uint32_t)size};
    memcpy(data + at, &frame, sizeof(frame));
    memcpy(data + at + sizeof(frame), payload, size);
    return at + sizeof(frame) + size;
}

static size_t add_end(uint8_t *data, size_t at, uint64_t pages, size_t index_size,
                      const uint32_t *table)
{
    struct img_header header = {.page_count = pages, .index_size = index_size};
    header.table_checksum = img_checksum(0, table, img_filled(pages * 4));
    return add(data, at, IMG_FRAME_END, &header, sizeof(header));
}

static size_t make_seed(uint8_t *data, size_t limit, unsigned round)
{
    struct img_hello hello = {.magic = IMG_MOVE_MAGIC, .version = IMG_MOVE_VERSION, .name = "x"};
    static const uint32_t kinds[] = {IMG_FRAME_ACCEPTED, IMG_FRAME_READY, IMG_FRAME_RESUMED};
    uint8_t pages[img_frame_pages_size(3)];
    uint32_t table[10] = {0};
    data[0] = (uint8_t)(round % 251);
    hello.flags = round % 3 == 0 ? IMG_HELLO_LAZY : 0;
    size_t at = add(data, 1, IMG_FRAME_HELLO, &hello, sizeof(hello));
    if (data[0] & 0x40) {
        for (size_t i = 0; i < 3; i++)
            at = add(data, at, kinds[i], "", 0);
        struct img_frame_want want = {.first = round, .count = 1 + round % 5000};
        at = add(data, at, IMG_FRAME_WANT, &want, sizeof(want));
        at = add(data, at, IMG_FRAME_COMPLETE, "", 0);
        return add(data, at, IMG_FRAME_REFUSED, "a\nreason\x1b[m", 12);
    }
    at = add(data, at, IMG_FRAME_INDEX, "12345678", 8);
    at = add_end(data, at, 0, 8, table);
    for (uint64_t first = 0; first < 2; first++) {
        struct img_frame_pages head = {.first = first, .count = 3};
        memset(pages, (int)(round + first), sizeof(pages));
        memcpy(pages, &head, sizeof(head));
        for (uint32_t i = 0; i < 3; i++) {
            table[first + i] =
                img_checksum(0, pages + sizeof(head) + 12 + i * BLY_PAGE_SIZE, BLY_PAGE_SIZE);
            memcpy(pages + sizeof(head) + 4 * i, &table[first + i], 4);
        }
        at = add(data, at, IMG_FRAME_PAGES, pages, sizeof(pages));
    }
    at = add(data, at, IMG_FRAME_INDEX, "1234567812345678", 16);
    at = add(data, at, IMG_FRAME_WORKING, "", 0);
    at = add_end(data, at, hello.flags ? 9 : 4, 16, table);
    at = add(data, at, IMG_FRAME_COMMIT, "", 0);
    for (uint64_t first = 2; hello.flags && first < 4; first += 2) {
        struct img_frame_pages head = {.first = first, .count = 3};
        memcpy(pages, &head, sizeof(head));
        at = add(data, at, IMG_FRAME_PAGES, pages, sizeof(pages));
    }
    return at;
}
#endif
