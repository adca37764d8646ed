/* See absent.h. The segment is divided into units; one is absent, and then a hole of the segment, or it was loaded once and is the sandbox's
 * ever after. Invariant: nothing is written into a unit that is not absent, whatever the sandbox asks for. What hostile code can do is to
 * read its own holes as zeros. */
#include "monitor/suspension/absent.h"

#include "base/cleanup.h"
#include "base/path.h"
#include "monitor/suspension/arriving.h"
#include "monitor/suspension/resume.h"
#include "monitor/suspension/suspend.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#define CHUNK_PAGES 256u

struct mon_absent {
    struct mon_arriving *arriving; /* the image's pages; NULL: they are there */
    const struct img_reader *image;
    const struct img_space *space; /* of it */
    uint64_t count;                /* of units; from there on nothing was absent ever */
    int segment;                   /* a description of its own, whose position nobody else moves */
    pthread_mutex_t lock;          /* guards the rest */
    uint64_t left;                 /* pages */
    unsigned char loaded[];        /* a byte a unit */
};

/* ---- Pieces of the image ---- */

/* The first extent that ends above `address`. */
static size_t find_extent(const struct img_space *space, uint64_t address)
{
    size_t low = 0, high = space->extent_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct img_extent *extent = &space->extents[middle];
        if (extent->address + extent->count * BLY_PAGE_SIZE <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* What the image has of [from, to) of the segment, piece by piece: `place` is as the image tells. The function may fail. */
static int for_pieces(const struct mon_absent *absent, uint64_t from, uint64_t to,
                      int (*function)(void *context, uint64_t at, uint64_t place, uint64_t size), void *context)
{
    const struct img_space *space = absent->space;
    for (size_t i = find_extent(space, BLY_BULK_START + from); i < space->extent_count; i++) {
        const struct img_extent *extent = &space->extents[i];
        uint64_t start = extent->address - BLY_BULK_START, end = start + extent->count * BLY_PAGE_SIZE;
        if (start >= to)
            break;
        uint64_t first = start > from ? start : from, last = end < to ? end : to;
        int result = function(context, first, extent->place + (first - start) / BLY_PAGE_SIZE, last - first);
        if (result < 0)
            return result;
    }
    return 0;
}

static int count_piece(void *context, uint64_t at, uint64_t place, uint64_t size)
{
    *(uint64_t *)context += size / BLY_PAGE_SIZE;
    return 0;
}

static int load_piece(void *context, uint64_t at, uint64_t place, uint64_t size)
{
    const struct mon_absent *absent = context;
    int file = img_reader_file(absent->image, img_place_file(place));
    int result = img_place_file(place) ? 0 : mon_arriving_wait(absent->arriving, img_place_offset(place), size);
    if (result < 0)
        return result;
    return mon_resume_copy(file, img_place_offset(place), absent->segment, at, size);
}

/* ---- The sandbox's requests ---- */

static int load(void *context, enum bly_load_source source, uint64_t offset, uint64_t size, bool discard)
{
    struct mon_absent *absent = ((struct mon_sandbox *)context)->absent;
    if (source == BLY_LOAD_IMAGE)
        return absent->arriving ? mon_arriving_wait(absent->arriving, offset, size) : -EINVAL;
    uint64_t first = offset / BLY_LOAD_UNIT, end = first + size / BLY_LOAD_UNIT;
    int result = 0;
    pthread_mutex_lock(&absent->lock);
    for (uint64_t unit = first; unit < end && unit < absent->count && result == 0; unit++) {
        uint64_t place = unit * BLY_LOAD_UNIT, pages = 0;
        if (absent->loaded[unit])
            continue;
        result = discard ? 0 : for_pieces(absent, place, place + BLY_LOAD_UNIT, load_piece, absent);
        if (result < 0)
            break;
        (void)for_pieces(absent, place, place + BLY_LOAD_UNIT, count_piece, &pages);
        absent->left -= pages;
        absent->loaded[unit] = 1;
    }
    pthread_mutex_unlock(&absent->lock);
    return result;
}

int mon_absent_begin(struct mon_sandbox *sandbox, int segment, struct error *error)
{
    const struct mon_image *image = sandbox->resume->image;
    static const struct img_space nothing;
    const struct img_space *space = img_reader_find_space(image->reader, IMG_SPACE_BULK, 0);
    space = space ? space : &nothing;
    const struct img_extent *last = space->extent_count ? &space->extents[space->extent_count - 1] : NULL;
    uint64_t end = last ? last->address - BLY_BULK_START + last->count * BLY_PAGE_SIZE : 0;
    uint64_t count = (end + BLY_LOAD_UNIT - 1) / BLY_LOAD_UNIT;
    int own = open(mon_descriptor_path(segment).text, O_RDWR | O_CLOEXEC);
    if (own < 0)
        return error_set_errno(error, -errno, "cannot open the sandbox's memory");
    struct mon_absent *absent = memory_new(sizeof(*absent) + count);
    *absent = (struct mon_absent){.arriving = sandbox->arriving, .image = image->reader, .space = space, .count = count, .segment = own};
    pthread_mutex_init(&absent->lock, NULL);
    (void)for_pieces(absent, 0, end, count_piece, &absent->left);
    sandbox->absent = absent;
    sandbox->rpc.load = load;
    return 0;
}

uint64_t mon_absent_size(struct mon_absent *absent)
{
    if (!absent)
        return 0;
    pthread_mutex_lock(&absent->lock);
    uint64_t pages = absent->left;
    pthread_mutex_unlock(&absent->lock);
    return pages * BLY_PAGE_SIZE;
}

int mon_absent_load_all(struct mon_sandbox *sandbox, struct error *error)
{
    struct mon_absent *absent = sandbox->absent;
    int result = absent ? load(sandbox, BLY_LOAD_BULK, 0, absent->count * BLY_LOAD_UNIT, /*discard=*/false) : 0;
    return result < 0 ? error_set_errno(error, result, "cannot read the image that the sandbox was resumed from") : 0;
}

/* ---- Into a new image ---- */

struct writing {
    const struct mon_absent *absent;
    struct img_writer *writer;
    struct error *error;
    unsigned char *buffer;
};

static int write_piece(void *context, uint64_t at, uint64_t place, uint64_t size)
{
    const struct writing *writing = context;
    const struct img_reader *image = writing->absent->image;
    uint64_t named = mon_image_name_place(image, writing->writer, place);
    if (named)
        return img_writer_name(writing->writer, BLY_BULK_START + at, named, size / BLY_PAGE_SIZE, writing->error);
    for (uint64_t offset = img_place_offset(place); size;) {
        size_t part = size < CHUNK_PAGES * BLY_PAGE_SIZE ? size : CHUNK_PAGES * BLY_PAGE_SIZE;
        ssize_t got = pread(img_reader_file(image, img_place_file(place)), writing->buffer, part, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got != (ssize_t)part)
            return error_set_errno(writing->error, got < 0 ? -errno : -EIO, "cannot read the image that the sandbox was resumed from");
        int result = img_writer_pages(writing->writer, BLY_BULK_START + at, writing->buffer, part / BLY_PAGE_SIZE, /*zeros=*/0, writing->error);
        if (result < 0)
            return result;
        at += part;
        offset += part;
        size -= part;
    }
    return 0;
}

int mon_absent_write(struct mon_sandbox *sandbox, struct img_writer *writer, struct error *error)
{
    struct mon_absent *absent = sandbox->absent;
    if (!absent)
        return img_writer_segment(writer, BLY_BULK_START, sandbox->bulk, error);
    /* At rest nothing is loaded. Code that only says it rests spoils its own image. */
    cleanup_free unsigned char *buffer = memory_new(CHUNK_PAGES * BLY_PAGE_SIZE), *loaded = memory_new(absent->count + 1);
    pthread_mutex_lock(&absent->lock);
    memcpy(loaded, absent->loaded, absent->count);
    pthread_mutex_unlock(&absent->lock);
    struct writing writing = {.absent = absent, .writer = writer, .error = error, .buffer = buffer};
    for (uint64_t unit = 0, end; unit < absent->count; unit = end) {
        for (end = unit + 1; end < absent->count && loaded[end] == loaded[unit];)
            end++;
        uint64_t from = unit * BLY_LOAD_UNIT, to = end * BLY_LOAD_UNIT;
        int result = loaded[unit] ? img_writer_segment_part(writer, BLY_BULK_START, sandbox->bulk, from, to, error)
                                  : for_pieces(absent, from, to, write_piece, &writing);
        if (result < 0)
            return result;
    }
    return img_writer_segment_part(writer, BLY_BULK_START, sandbox->bulk, absent->count * BLY_LOAD_UNIT, UINT64_MAX, error);
}
