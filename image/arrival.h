/* Takes the frames of a moving sandbox apart (frame.h), as what they are: a stranger's bytes, even
 * when he has the key. Images are written into the files given; what a frame says is checked before
 * anything is done, every page by its checksum when it comes. Neither sockets nor encryption are
 * known here.
 *
 * The receiver of a sandbox gives the two files; the source, which takes answers only, none. */
#ifndef IMAGE_ARRIVAL_H
#define IMAGE_ARRIVAL_H

#include <base/error.h>
#include <image/frame.h>
#include <stdbool.h>
#include <stddef.h>

struct img_arrival;

struct img_arrival *img_arrival_new(int offer, int image);
void img_arrival_free(struct img_arrival *arrival); /* NULL is allowed */

/* Pages of the image that may come from now on; before it is told, none. */
void img_arrival_allow(struct img_arrival *arrival, uint64_t pages);

/* Where the next bytes are to be put, and how many are wanted, never 0. */
void *img_arrival_room(struct img_arrival *arrival, size_t *out_size);
/* `size` bytes were put there. Returns the kind of the frame that they complete, 0 where they
 * complete none, or negative: -EPROTO when the peer breaks the rules (its words make no sense any
 * more), another one when a file could not be written. PAGES, INDEX and WORKING are 0, too: only
 * what somebody has to react to is told. */
int img_arrival_take(struct img_arrival *arrival, size_t size, struct error *error)
    __attribute__((warn_unused_result));

/* Of the frame just completed: HELLO, and the text of REFUSED, printable and NUL-terminated. */
const struct img_hello *img_arrival_hello(const struct img_arrival *arrival);
const char *img_arrival_reason(const struct img_arrival *arrival);
/* The pages of the WANT just completed. */
const struct img_frame_want *img_arrival_wanted(const struct img_arrival *arrival);
/* Of an image that comes lazily, once COMMIT has come: are these pages there (-1: the image has not
 * got them)? Are all? */
int img_arrival_has(const struct img_arrival *arrival, uint64_t first, uint64_t count);
bool img_arrival_is_complete(const struct img_arrival *arrival);
/* Page data so far, repeated pages included. */
uint64_t img_arrival_bytes(const struct img_arrival *arrival);

#endif
