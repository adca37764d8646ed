/* See base.h. Memory of picoprocesses is looked for in every picoprocess of the base, since a
 * resumed one has another id; the last that had a page comes first. Whatever is taken, it has the
 * same bytes. */
#include "image/base.h"

#include <base/cleanup.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#define CHUNK_PAGES 256u
#define LOOKED_AT_MAX 16u /* spaces for one page */

struct file {
    struct img_identity identity;
    const char *path; /* the reader's, or our own */
    uint32_t *table;  /* its checksums, which may be damaged: then pages differ */
    unsigned number;  /* in the image that is written; 0: not used */
};
struct img_known {
    const struct img_reader *base;
    char *path;
    struct file files[1 + IMG_BASES_MAX]; /* 1 is the base itself, the others are its bases */
    size_t file_count;                    /* numbers 1 to file_count */
    uint32_t kind, process;
    const struct img_space *hint;
    unsigned char *buffer; /* CHUNK_PAGES */
};

/* In the reader's places the base itself is 0, its n-th base n; here 1 and n + 1. */
static uint64_t as_ours(uint64_t place)
{
    return img_place(img_place_file(place) + 1, img_place_page(place));
}

static int descriptor_of(const struct img_known *known, uint64_t place)
{
    return img_reader_file(known->base, img_place_file(place) - 1);
}

static bool read_at(int descriptor, void *buffer, size_t size, uint64_t offset)
{
    for (size_t done = 0; done < size;) {
        ssize_t count =
            pread(descriptor, (char *)buffer + done, size - done, (off_t)(offset + done));
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return false;
        done += (size_t)count;
    }
    return true;
}

int img_known_new(const struct img_reader *base, const char *path, struct img_known **out_known,
                  struct error *error)
{
    static const unsigned char none[16];
    struct img_known *known = memory_new(sizeof(*known));
    *known = (struct img_known){
        .base = base, .path = text_copy(path), .file_count = 1 + img_reader_base_count(base)};
    *out_known = known;
    if (known->file_count > IMG_BASES_MAX) {
        error_set(error, -ELOOP, "%s needs %u other images already, which is the most", path,
                  IMG_BASES_MAX);
        return error_hint(error, "bailey image pack makes one image of them");
    }
    for (size_t i = 1; i <= known->file_count; i++) {
        struct file *file = &known->files[i];
        const struct img_base *further = i > 1 ? img_reader_base(base, i - 2) : NULL;
        file->identity = further ? further->identity : img_reader_identity(base);
        file->path = further ? img_reader_file_name(base, (unsigned)i - 1) : known->path;
        if (memcmp(file->identity.id, none, sizeof(none)) == 0)
            return error_set(error, -EINVAL,
                             "%s was made by an earlier Bailey and cannot be a base", file->path);
        size_t size = file->identity.page_count * sizeof(uint32_t);
        file->table = memory_new(size + 1);
        if (!read_at(img_reader_file(base, (unsigned)i - 1), file->table, size,
                     img_table_offset(file->identity.page_count)))
            return error_set(error, -EIO, "cannot read the image %s", file->path);
    }
    known->buffer = memory_new(CHUNK_PAGES * BLY_PAGE_SIZE);
    return 0;
}

void img_known_free(struct img_known *known)
{
    if (!known)
        return;
    for (size_t i = 1; i <= known->file_count && i <= IMG_BASES_MAX; i++)
        free(known->files[i].table);
    free(known->buffer);
    free(known->path);
    free(known);
}

/* ---- Looking for pages ---- */

void img_known_space(struct img_known *known, uint32_t kind, uint32_t process)
{
    known->kind = kind;
    known->process = process;
    known->hint = img_reader_find_space(known->base, kind, process);
}

/* Where the space has [address, ...), and how many pages from there on. */
static uint64_t place_in(const struct img_space *space, uint64_t address, uint64_t *out_count)
{
    size_t low = 0, high = space->extent_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct img_extent *extent = &space->extents[middle];
        if (extent->address + extent->count * BLY_PAGE_SIZE <= address)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == space->extent_count || space->extents[low].address > address)
        return IMG_NO_PLACE;
    const struct img_extent *extent = &space->extents[low];
    uint64_t before = (address - extent->address) / BLY_PAGE_SIZE;
    *out_count = extent->count - before;
    return as_ours(extent->place) + before;
}

/* How many pages the space has there that seem the same. */
static size_t similar(const struct img_known *known, const struct img_space *space,
                      uint64_t address, const uint32_t *checksums, size_t count,
                      uint64_t *out_place)
{
    uint64_t there = 0, place = place_in(space, address, &there);
    if (place == IMG_NO_PLACE)
        return 0;
    const uint32_t *table = known->files[img_place_file(place)].table + img_place_page(place);
    size_t same = 0;
    while (same < count && same < there && table[same] == checksums[same])
        same++;
    *out_place = place;
    return same;
}

static size_t look(struct img_known *known, uint64_t address, const uint32_t *checksums,
                   size_t count, uint64_t *out_place)
{
    size_t found =
        known->hint ? similar(known, known->hint, address, checksums, count, out_place) : 0;
    if (found || known->kind != IMG_SPACE_PRIVATE)
        return found;
    unsigned looked_at = 0;
    for (size_t i = 0; i < img_reader_space_count(known->base) && looked_at < LOOKED_AT_MAX; i++) {
        const struct img_space *space = img_reader_space(known->base, i);
        if (space->kind != IMG_SPACE_PRIVATE || space == known->hint)
            continue;
        looked_at++;
        found = similar(known, space, address, checksums, count, out_place);
        if (found) {
            known->hint = space;
            return found;
        }
    }
    return 0;
}

uint64_t img_known_find(struct img_known *known, uint64_t address, const unsigned char *data,
                        const uint32_t *checksums, size_t count, size_t *out_run)
{
    uint64_t place = IMG_NO_PLACE;
    size_t found =
               look(known, address, checksums, count < CHUNK_PAGES ? count : CHUNK_PAGES, &place),
           same = 0;
    *out_run = 1;
    if (!found || !read_at(descriptor_of(known, place), known->buffer, found * BLY_PAGE_SIZE,
                           img_place_offset(place)))
        return IMG_NO_PLACE;
    while (same < found && memcmp(known->buffer + same * BLY_PAGE_SIZE, data + same * BLY_PAGE_SIZE,
                                  BLY_PAGE_SIZE) == 0)
        same++;
    if (!same)
        return IMG_NO_PLACE;
    *out_run = same;
    return place;
}

unsigned img_known_file(const struct img_known *known, const struct img_identity *identity)
{
    for (unsigned i = 1; i <= known->file_count; i++)
        if (memcmp(&known->files[i].identity, identity, sizeof(*identity)) == 0)
            return i;
    return 0;
}

bool img_known_has(const struct img_known *known, uint64_t place, uint64_t count)
{
    unsigned file = img_place_file(place);
    if (file < 1 || file > known->file_count)
        return false;
    uint64_t pages = known->files[file].identity.page_count;
    return count <= pages && img_place_page(place) <= pages - count;
}

/* ---- What is used ---- */

void img_known_use(struct img_known *known, uint64_t place)
{
    if (img_place_file(place))
        known->files[img_place_file(place)].number = 1;
}

size_t img_known_records(struct img_known *known,
                         void (*add)(void *context, const void *data, size_t size), void *context)
{
    unsigned number = 0;
    for (size_t i = 1; i <= known->file_count; i++) {
        struct file *file = &known->files[i];
        if (!file->number)
            continue;
        cleanup_text struct text record = {0};
        file->number = ++number;
        text_add_size(&record, &file->identity, sizeof(file->identity));
        text_add(&record, file->path);
        add(context, record.data, record.size);
    }
    return number;
}

uint64_t img_known_place(const struct img_known *known, uint64_t place)
{
    unsigned file = img_place_file(place);
    return file ? img_place(known->files[file].number, img_place_page(place)) : place;
}
