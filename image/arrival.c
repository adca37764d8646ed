/* Frames that arrive. Invariant: the file that is being received has exactly `page_count` pages,
 * and a checksum is known of each; no number of the peer's becomes a size or a place before it was
 * held against that. */
#include "image/arrival.h"

#include <base/cleanup.h>
#include <base/text.h>
#include <errno.h>
#include <image/checksum.h>
#include <string.h>
#include <unistd.h>

/* An offer is records only: policy, handles. */
#define OFFER_INDEX_MAX (16ull << 20)

enum stage {
    WANT_HELLO,
    WANT_OFFER,
    WANT_IMAGE,
    WANT_COMMIT,
    WANT_REST,    /* after the COMMIT of a lazy one */
    WANT_NOTHING, /* of a source, but WORKING and REFUSED */
    WANT_ANSWERS  /* of a receiver */
};

struct img_arrival {
    int offer, image;
    enum stage stage;
    struct img_frame frame;
    size_t have; /* of the frame's head, then of its payload */
    bool has_head;
    struct text index;
    uint32_t *checksums;
    uint64_t page_count, checksum_capacity, bytes;
    uint64_t allowed;       /* pages */
    unsigned char *arrived; /* a bit for each page that has come; only of a lazy one, with the
                               capacity of `checksums` */
    uint64_t missing;       /* after the COMMIT of a lazy one */
    struct img_frame_want wanted;
    struct img_hello hello;
    char reason[IMG_REASON_MAX + 1];
    unsigned char payload[IMG_FRAME_MAX] __attribute__((aligned(8)));
};

struct img_arrival *img_arrival_new(int offer, int image)
{
    struct img_arrival *arrival = memory_new(sizeof(*arrival));
    arrival->offer = offer;
    arrival->image = image;
    return arrival;
}

void img_arrival_free(struct img_arrival *arrival)
{
    if (!arrival)
        return;
    text_free(&arrival->index);
    free(arrival->checksums);
    free(arrival->arrived);
    free(arrival);
}

const struct img_hello *img_arrival_hello(const struct img_arrival *arrival)
{
    return &arrival->hello;
}

const char *img_arrival_reason(const struct img_arrival *arrival)
{
    return arrival->reason;
}

void img_arrival_allow(struct img_arrival *arrival, uint64_t pages)
{
    arrival->allowed = pages < IMG_PAGES_MAX ? pages : IMG_PAGES_MAX;
}

uint64_t img_arrival_bytes(const struct img_arrival *arrival)
{
    return arrival->bytes;
}

const struct img_frame_want *img_arrival_wanted(const struct img_arrival *arrival)
{
    return &arrival->wanted;
}

/* ---- Which pages ---- */

static bool is_lazy(const struct img_arrival *arrival)
{
    return arrival->hello.flags & IMG_HELLO_LAZY;
}

/* The source's monitor begins with it as soon as it has let go, which the COMMIT may come after. */
static bool takes_rest(const struct img_arrival *arrival)
{
    return is_lazy(arrival) && (arrival->stage == WANT_COMMIT || arrival->stage == WANT_REST);
}

static bool has_page(const struct img_arrival *arrival, uint64_t page)
{
    return arrival->arrived[page / 8] >> page % 8 & 1;
}

int img_arrival_has(const struct img_arrival *arrival, uint64_t first, uint64_t count)
{
    if (first >= arrival->page_count || count > arrival->page_count - first)
        return -1;
    for (uint64_t i = 0; i < count; i++)
        if (!has_page(arrival, first + i))
            return 0;
    return 1;
}

bool img_arrival_is_complete(const struct img_arrival *arrival)
{
    return arrival->stage == WANT_REST && arrival->missing == 0;
}

/* The image has so many pages at least; those that were skipped have no checksum yet. */
static void reach(struct img_arrival *arrival, uint64_t end)
{
    uint64_t had = arrival->checksum_capacity;
    if (end > had) {
        uint64_t capacity = end * 2 > 4096 ? end * 2 : 4096;
        arrival->checksum_capacity = capacity;
        arrival->checksums =
            memory_resize(arrival->checksums, capacity * sizeof(*arrival->checksums));
        memset(arrival->checksums + had, 0, (capacity - had) * sizeof(*arrival->checksums));
        if (is_lazy(arrival)) {
            arrival->arrived = memory_resize(arrival->arrived, capacity / 8 + 1);
            memset(arrival->arrived + (had ? had / 8 + 1 : 0), 0,
                   capacity / 8 + 1 - (had ? had / 8 + 1 : 0));
        }
    }
    if (end > arrival->page_count)
        arrival->page_count = end;
}

/* ---- Writing ---- */

static int write_all(int file, const void *data, size_t size, uint64_t offset, struct error *error)
{
    for (size_t done = 0; done < size;) {
        ssize_t count =
            pwrite(file, (const char *)data + done, size - done, (off_t)(offset + done));
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return error_set_errno(error, count < 0 ? -errno : -EIO, "cannot store the image");
        done += (size_t)count;
    }
    return 0;
}

/* A page that is there already may be in use: it stays as it is. */
static int take_rest(struct img_arrival *arrival, uint64_t first, uint32_t count,
                     const unsigned char *pages, struct error *error)
{
    for (uint32_t i = 0, run; i < count; i += run) {
        bool there = has_page(arrival, first + i);
        for (run = 1; i + run < count && has_page(arrival, first + i + run) == there; run++)
            ;
        if (there)
            continue;
        int result = write_all(arrival->image, pages + i * BLY_PAGE_SIZE, run * BLY_PAGE_SIZE,
                               img_table_offset(first + i), error);
        if (result < 0)
            return result;
        for (uint32_t page = i; page < i + run; page++)
            arrival->arrived[(first + page) / 8] |= (unsigned char)(1 << (first + page) % 8);
        arrival->bytes += run * BLY_PAGE_SIZE;
        if (arrival->stage == WANT_REST)
            arrival->missing -= run;
    }
    return 0;
}

static int take_pages(struct img_arrival *arrival, struct error *error)
{
    struct img_frame_pages head;
    memcpy(&head, arrival->payload, sizeof(head));
    if (!head.count || head.count > IMG_PAGES_AT_ONCE ||
        img_frame_pages_size(head.count) != arrival->frame.size ||
        head.first > (is_lazy(arrival) ? IMG_LAZY_PAGES_MAX : arrival->page_count) ||
        head.first + head.count > IMG_PAGES_MAX ||
        (takes_rest(arrival) &&
         (head.first >= arrival->page_count || head.count > arrival->page_count - head.first)))
        return error_set(error, -EPROTO, "the peer sent pages that have no place in the image");
    if (head.first + head.count > arrival->allowed ||
        arrival->bytes / BLY_PAGE_SIZE + head.count > IMG_ROUNDS_MAX * arrival->allowed)
        return error_set(error, -EFBIG,
                         "the image grows larger than the %llu KiB that were declared and allowed",
                         (unsigned long long)(arrival->allowed * BLY_PAGE_SIZE >> 10));
    const unsigned char *sums = arrival->payload + sizeof(head);
    const unsigned char *pages = sums + head.count * sizeof(uint32_t);
    uint64_t end = head.first + head.count;
    reach(arrival, end);
    for (uint32_t i = 0; i < head.count; i++) {
        uint32_t told, sum = img_checksum(0, pages + i * BLY_PAGE_SIZE, BLY_PAGE_SIZE);
        memcpy(&told, sums + i * sizeof(told), sizeof(told));
        if (told != sum)
            return error_set(error, -EPROTO, "page %llu of the image was damaged on its way",
                             (unsigned long long)(head.first + i));
        arrival->checksums[head.first + i] = sum;
    }
    if (takes_rest(arrival))
        return take_rest(arrival, head.first, head.count, pages, error);
    for (uint32_t i = 0; is_lazy(arrival) && i < head.count; i++)
        arrival->arrived[(head.first + i) / 8] |= (unsigned char)(1 << (head.first + i) % 8);
    arrival->bytes += head.count * BLY_PAGE_SIZE;
    return write_all(arrival->image, pages, head.count * BLY_PAGE_SIZE,
                     img_table_offset(head.first), error);
}

static int take_index(struct img_arrival *arrival, struct error *error)
{
    uint64_t limit = arrival->stage == WANT_OFFER ? OFFER_INDEX_MAX : IMG_INDEX_MAX;
    if (arrival->frame.size > limit - arrival->index.size)
        return error_set(error, -EPROTO, "the peer sent a larger index than any image has");
    text_add_size(&arrival->index, arrival->payload, arrival->frame.size);
    return 0;
}

/* What is zeros stays a hole: that much was only announced. */
static int write_table(int file, const unsigned char *table, size_t size, uint64_t offset,
                       struct error *error)
{
    static const unsigned char zeros[4096];
    int result = 0;
    for (size_t done = 0, step; done < size && result == 0; done += step) {
        step = size - done < sizeof(zeros) ? size - done : sizeof(zeros);
        if (memcmp(table + done, zeros, step) != 0)
            result = write_all(file, table + done, step, offset + done, error);
    }
    return result;
}

/* What the header says of the rest must be what came. Whether the index makes sense is the reader's
 * to tell: the file is now an image like any other from a stranger. */
static int take_end(struct img_arrival *arrival, struct error *error)
{
    int file = arrival->stage == WANT_OFFER ? arrival->offer : arrival->image;
    struct img_header header;
    memcpy(&header, arrival->payload, sizeof(header));
    if (is_lazy(arrival) && arrival->stage == WANT_IMAGE &&
        header.page_count > arrival->page_count && header.page_count <= IMG_LAZY_PAGES_MAX &&
        header.page_count <= arrival->allowed)
        reach(arrival, header.page_count);
    uint64_t count = arrival->page_count;
    size_t table_size = img_filled(count * sizeof(uint32_t));
    cleanup_free uint32_t *table = memory_new(table_size + 1);
    if (count)
        memcpy(table, arrival->checksums, count * sizeof(uint32_t));
    if (header.page_count != count || header.index_size != arrival->index.size ||
        header.table_checksum != img_checksum(0, table, table_size))
        return error_set(error, -EPROTO, "the image is not whole: its end does not fit what came");
    int result =
        write_table(file, (const unsigned char *)table, table_size, img_table_offset(count), error);
    if (result == 0)
        result = write_all(file, arrival->index.data, arrival->index.size, img_index_offset(count),
                           error);
    if (result == 0)
        result = write_all(file, &header, sizeof(header), 0, error);
    text_free(&arrival->index);
    arrival->stage = arrival->stage == WANT_OFFER ? WANT_IMAGE : WANT_COMMIT;
    return result;
}

static int take_hello(struct img_arrival *arrival, struct error *error)
{
    memcpy(&arrival->hello, arrival->payload, sizeof(arrival->hello));
    if (memcmp(arrival->hello.magic, IMG_MOVE_MAGIC, sizeof(arrival->hello.magic)) != 0)
        return error_set(error, -EPROTO, "the peer has the key, but is no Bailey");
    if (arrival->hello.version != IMG_MOVE_VERSION)
        return error_set(error, -EPROTO,
                         "the other Bailey is of another version: it moves sandboxes by version %u "
                         "of the protocol, this one by version %u",
                         arrival->hello.version, IMG_MOVE_VERSION);
    if (arrival->hello.flags & ~(uint32_t)(IMG_HELLO_DRY_RUN | IMG_HELLO_LAZY) ||
        arrival->hello.patience_ms > IMG_PATIENCE_MAX_MS ||
        arrival->hello.name[IMG_NAME_MAX] != '\0')
        return error_set(error, -EPROTO, "the peer greets in a way that makes no sense");
    text_make_printable(arrival->hello.name, strlen(arrival->hello.name));
    arrival->stage = arrival->image >= 0 ? WANT_OFFER : WANT_ANSWERS;
    return IMG_FRAME_HELLO;
}

/* ---- Reading ---- */

static bool expected(const struct img_arrival *arrival, uint32_t kind)
{
    switch (kind) {
    case IMG_FRAME_WORKING:
    case IMG_FRAME_REFUSED:
        return true;
    case IMG_FRAME_HELLO:
        return arrival->stage == WANT_HELLO;
    case IMG_FRAME_PAGES:
        return arrival->stage == WANT_IMAGE || takes_rest(arrival);
    case IMG_FRAME_INDEX:
    case IMG_FRAME_END:
        return arrival->stage == WANT_OFFER || arrival->stage == WANT_IMAGE;
    case IMG_FRAME_COMMIT:
        return arrival->stage == WANT_COMMIT;
    default:
        return arrival->stage == WANT_ANSWERS;
    }
}

static int take_frame(struct img_arrival *arrival, struct error *error)
{
    uint32_t kind = arrival->frame.kind;
    int result = 0;
    switch (kind) {
    case IMG_FRAME_HELLO:
        return take_hello(arrival, error);
    case IMG_FRAME_PAGES:
        return take_pages(arrival, error);
    case IMG_FRAME_INDEX:
        return take_index(arrival, error);
    case IMG_FRAME_END:
        result = take_end(arrival, error);
        break;
    case IMG_FRAME_COMMIT:
        arrival->stage = is_lazy(arrival) ? WANT_REST : WANT_NOTHING;
        for (uint64_t i = 0; is_lazy(arrival) && i < arrival->page_count; i++)
            arrival->missing += !has_page(arrival, i);
        break;
    case IMG_FRAME_WANT:
        memcpy(&arrival->wanted, arrival->payload, sizeof(arrival->wanted));
        if (!arrival->wanted.count || arrival->wanted.count > IMG_WANT_MAX ||
            arrival->wanted.first >= IMG_PAGES_MAX)
            result = error_set(error, -EPROTO, "the peer wants pages that there are not");
        break;
    case IMG_FRAME_REFUSED:
        memcpy(arrival->reason, arrival->payload, arrival->frame.size);
        arrival->reason[arrival->frame.size] = '\0';
        for (char *line = arrival->reason, *stop; *line; line = stop + (*stop == '\n')) {
            stop = line + strcspn(line, "\n");
            text_make_printable(line, (size_t)(stop - line));
        }
        break;
    case IMG_FRAME_WORKING:
        return 0;
    }
    return result < 0 ? result : (int)kind;
}

void *img_arrival_room(struct img_arrival *arrival, size_t *out_size)
{
    if (arrival->has_head) {
        *out_size = arrival->frame.size - arrival->have;
        return arrival->payload + arrival->have;
    }
    *out_size = sizeof(arrival->frame) - arrival->have;
    return (char *)&arrival->frame + arrival->have;
}

int img_arrival_take(struct img_arrival *arrival, size_t size, struct error *error)
{
    arrival->have += size;
    if (!arrival->has_head) {
        if (arrival->have < sizeof(arrival->frame))
            return 0;
        if (!img_frame_allowed(&arrival->frame) || !expected(arrival, arrival->frame.kind))
            return error_set(error, -EPROTO,
                             arrival->stage == WANT_HELLO
                                 ? "the peer has the key, but is no Bailey"
                                 : "the peer says something that it must not say now");
        arrival->has_head = true;
        arrival->have = 0;
    }
    if (arrival->have < arrival->frame.size)
        return 0;
    arrival->has_head = false;
    arrival->have = 0;
    return take_frame(arrival, error);
}
