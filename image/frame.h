/* What two Baileys say to each other when a sandbox moves (docs/migration.md), inside the encrypted
 * connection: frames, each a struct img_frame and its payload. Numbers are little-endian.
 *
 *   source                                    receiver
 *   HELLO                                     HELLO
 *   INDEX..., END     the offer: an image without pages
 *                                             ACCEPTED
 *   PAGES..., INDEX..., END     the image
 *                                             READY      all is there and checked, nothing runs
 *   COMMIT                                               it will not go on here by itself
 *                                             RESUMED    it runs there
 *   lazily, then:
 *   PAGES...                                  WANT...
 *                                             COMPLETE   nothing is missing any more
 *
 * Pages come only after ACCEPTED, and not more than the receiver allows by what the offer declared;
 * in rounds they may come again, IMG_ROUNDS_MAX times as many in all.
 *
 * REFUSED, with reasons, takes the place of any answer and is the last frame; either side's
 * WORKING says only that it is alive. The original may go on after anything but COMMIT, or when
 * REFUSED follows it. Lazily, it may go on also later, as long as not all pages
 * were sent, once the other side must have noticed that the link is broken, and ended:
 * docs/migration.md. */
#ifndef IMAGE_FRAME_H
#define IMAGE_FRAME_H

#include <image/format.h>

#define IMG_MOVE_MAGIC "BAILEYMV"
#define IMG_MOVE_VERSION 2u
#define IMG_ROUNDS_MAX 13u
#define IMG_PAGES_AT_ONCE 256u /* in one frame */

enum img_frame_kind {
    IMG_FRAME_HELLO = 1, /* struct img_hello */
    IMG_FRAME_PAGES,     /* struct img_frame_pages, a checksum for each page, the pages */
    IMG_FRAME_INDEX,     /* the next bytes of the index */
    IMG_FRAME_END,       /* struct img_header, of the whole */
    IMG_FRAME_COMMIT,
    IMG_FRAME_ACCEPTED,
    IMG_FRAME_READY,
    IMG_FRAME_RESUMED,
    IMG_FRAME_REFUSED, /* text, without a NUL; a line for each reason */
    IMG_FRAME_WORKING,
    IMG_FRAME_WANT,     /* struct img_frame_want: to be sent first */
    IMG_FRAME_COMPLETE, /* all pages are there */
    IMG_FRAME_KIND_END
};
struct img_frame {
    uint32_t kind;
    uint32_t size; /* of the payload */
};
enum img_hello_flags {
    IMG_HELLO_DRY_RUN = 1, /* the source asks only whether the offer would be accepted */
    IMG_HELLO_LAZY = 2     /* most pages come after RESUMED */
};
#define IMG_NAME_MAX 63u
#define IMG_PATIENCE_MAX_MS 3600000u
struct img_hello {
    char magic[8];
    uint32_t version; /* IMG_MOVE_VERSION. What precedes it never changes */
    uint32_t abi_version;
    uint32_t flags;
    uint32_t patience_ms;        /* of the receiver with a source that says nothing */
    char name[IMG_NAME_MAX + 1]; /* of the sandbox; the receiver's is empty */
};
/* Pages [first, first + count) of the image. A page may come again: the last one counts. `first` is
 * at most the number of pages that came before. */
struct img_frame_pages {
    uint64_t first;
    uint32_t count; /* 1 to IMG_PAGES_AT_ONCE */
    uint32_t reserved;
};
struct img_frame_want {
    uint64_t first;
    uint32_t count; /* 1 to IMG_WANT_MAX */
    uint32_t reserved;
};
#define IMG_WANT_MAX 4096u
/* Of an image that comes lazily: what is announced costs memory before it is there. */
#define IMG_LAZY_PAGES_MAX (1ull << 24)
#define IMG_INDEX_CHUNK (256u << 10)
#define IMG_REASON_MAX 4000u
#define IMG_FRAME_MAX                                                                              \
    (sizeof(struct img_frame_pages) + IMG_PAGES_AT_ONCE * (sizeof(uint32_t) + BLY_PAGE_SIZE))

/* Whether a frame of this kind may have a payload of this size. */
int img_frame_allowed(const struct img_frame *frame);

static inline uint64_t img_frame_pages_size(uint64_t count)
{
    return sizeof(struct img_frame_pages) + count * (sizeof(uint32_t) + BLY_PAGE_SIZE);
}

_Static_assert(sizeof(struct img_frame) == 8 && sizeof(struct img_hello) == 88 &&
                   sizeof(struct img_frame_pages) == 16,
               "frames have no holes");
_Static_assert(IMG_INDEX_CHUNK <= IMG_FRAME_MAX, "any payload fits one buffer");

#endif
