/* An image of a suspended sandbox, as it lies in a file. Numbers are little-endian. In this order,
 * without gaps:
 *
 *   header         one page
 *   pages          page_count pages of memory, so that resume maps them
 *   checksums      one CRC-32C for each of the pages, filled up with zeros to a multiple of 8 bytes
 *   index          index_size bytes: records, each a struct img_record_header and its payload,
 * filled up with zeros likewise
 *
 * The place of everything follows from the header's counts: there are no offsets that could
 * contradict each other. The header is written last. docs/image-format.md says what the parts mean
 * and what a reader refuses. */
#ifndef IMAGE_FORMAT_H
#define IMAGE_FORMAT_H

#include <bailey/layout.h>
#include <stdint.h>
#include <string.h>

#define IMG_MAGIC "BAILEYIM"
#define IMG_VERSION 1u
#define IMG_VERSION_PACKED 2u
#define IMG_CHUNK_SIZE (1u << 20)
#define IMG_INDEX_MAX (256ull << 20)
#define IMG_PAGES_MAX (1ull << 36)
#define IMG_BASES_MAX 16u
#define IMG_PATH_MAX 4096u

/* By which a file is known to those that need its pages. */
struct img_identity {
    unsigned char id[16]; /* random */
    uint64_t page_count;
    uint32_t table_checksum;
    uint32_t reserved; /* 0 */
};

struct img_header {
    char magic[8];
    uint32_t version;     /* IMG_VERSION: rises when older readers must not read on */
    uint32_t page_size;   /* BLY_PAGE_SIZE */
    uint32_t abi_version; /* BLY_ABI_VERSION of the writer */
    uint32_t index_checksum;
    uint32_t table_checksum; /* of the table of checksums */
    uint32_t reserved;       /* 0 */
    uint64_t page_count;
    uint64_t index_size;
    uint64_t file_size;
    unsigned char id[16]; /* random; zeros: an earlier Bailey's, which cannot be a base */
    /* Of a packed image (struct img_chunk); else 0. */
    uint64_t packed_size; /* of the file */
    uint32_t chunk_table_checksum;
    uint32_t reserved2;
    unsigned char later[BLY_PAGE_SIZE - 92]; /* 0; not looked at by this version */
    uint32_t checksum;                       /* of all before it */
};

enum img_record_type {
    IMG_RECORD_SPACE = 1, /* struct img_space_header and its extents */
    IMG_RECORD_BASE,      /* struct img_identity and an absolute path, without a NUL: a file that
                             holds pages of this image, too. Before all spaces */
    IMG_RECORD_OWN_FIRST =
        256 /* from here on: whoever writes images gives the meaning (docs/image-format.md) */
};
enum img_record_flags {
    IMG_RECORD_OPTIONAL = 1 /* who does not know the type may go on without it */
};
struct img_record_header {
    uint32_t type;
    uint32_t flags;
    uint64_t size; /* of the payload without its filling */
};

/* A packed image: the header, of version IMG_VERSION_PACKED, then what follows it in the image,
 * IMG_CHUNK_SIZE bytes at a time (the last may be shorter), each as a frame of Zstandard (RFC
 * 8878), then a table of these. All else in the header is as in the image. */
struct img_chunk {
    uint32_t size;     /* of the frame */
    uint32_t checksum; /* CRC-32C of it */
};

/* A space is memory that is addressed as one: a shared segment, or a picoprocess's own. */
enum img_space_kind {
    IMG_SPACE_HEAP = 1,
    IMG_SPACE_BULK,
    IMG_SPACE_PRIVATE, /* `process` says whose; the window is never part of it */
    IMG_SPACE_FILE     /* a file that has no name any more; `process` says which, addresses are
                          positions in it */
};
struct img_space_header {
    uint32_t kind;
    uint32_t process; /* 0 for the shared ones only */
    uint64_t extent_count;
};
/* Memory [address, address + count pages) lies in `count` pages from `place` on (img_place). What
 * no extent covers is zero or not mapped. */
struct img_extent {
    uint64_t address;
    uint64_t place;
    uint64_t count;
};

_Static_assert(sizeof(struct img_header) == BLY_PAGE_SIZE, "the header is one page");
_Static_assert(sizeof(struct img_record_header) == 16 && sizeof(struct img_space_header) == 16 &&
                   sizeof(struct img_extent) == 24 && sizeof(struct img_identity) == 32,
               "records have no holes");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the format is the machine's");

static inline uint64_t img_filled(uint64_t size)
{
    return (size + 7) & ~7ull;
}
static inline uint64_t img_table_offset(uint64_t page_count)
{
    return (1 + page_count) * BLY_PAGE_SIZE;
}
static inline uint64_t img_index_offset(uint64_t page_count)
{
    return img_table_offset(page_count) + img_filled(page_count * sizeof(uint32_t));
}

static inline struct img_identity img_header_identity(const struct img_header *header)
{
    struct img_identity identity = {.page_count = header->page_count,
                                    .table_checksum = header->table_checksum};
    memcpy(identity.id, header->id, sizeof(identity.id));
    return identity;
}
/* A page of an image, or of one of its bases: `file` is 0 for the image itself, n for the n-th
 * base. */
static inline uint64_t img_place(unsigned file, uint64_t page)
{
    return (uint64_t)file << 40 | page;
}
static inline unsigned img_place_file(uint64_t place)
{
    return (unsigned)(place >> 40);
}
static inline uint64_t img_place_page(uint64_t place)
{
    return place & ((1ull << 40) - 1);
}
/* Where it lies in its file. */
static inline uint64_t img_place_offset(uint64_t place)
{
    return img_table_offset(img_place_page(place));
}

static inline int img_space_allowed(uint32_t kind, uint32_t process)
{
    return kind >= IMG_SPACE_HEAP && kind <= IMG_SPACE_FILE &&
           (kind >= IMG_SPACE_PRIVATE) == (process != 0);
}
/* Whether a space of `kind` may hold `count` pages from `address` on. Writer and reader ask the
 * same: what the one writes, the other takes. */
static inline int img_extent_allowed(uint32_t kind, uint64_t address, uint64_t count)
{
    if (address % BLY_PAGE_SIZE || !count || count > BLY_GUEST_MAX / BLY_PAGE_SIZE ||
        address > BLY_GUEST_MAX)
        return 0;
    uint64_t end = address + count * BLY_PAGE_SIZE;
    switch (kind) {
    case IMG_SPACE_HEAP:
        return address >= BLY_HEAP_START && end <= BLY_HEAP_START + BLY_HEAP_SIZE;
    case IMG_SPACE_BULK:
        return address >= BLY_BULK_START && end <= BLY_BULK_START + BLY_BULK_SIZE;
    case IMG_SPACE_PRIVATE:
        return address >= BLY_GUEST_MIN && end <= BLY_GUEST_MAX &&
               (end <= BLY_WINDOW_START || address >= BLY_WINDOW_END);
    case IMG_SPACE_FILE:
        return end <= BLY_GUEST_MAX;
    default:
        return 0;
    }
}

#endif
