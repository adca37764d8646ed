/* Which page of an image holds the page of memory at an address, when memory is written in rounds:
 * a page that comes again replaces what was written of it. */
#ifndef IMAGE_SLOTS_H
#define IMAGE_SLOTS_H

#include <stddef.h>
#include <stdint.h>

#define IMG_SLOT_NONE 0u              /* nothing is known of it */
#define IMG_SLOT_ZERO UINT32_MAX      /* it was of zeros, and has no page */
#define IMG_SLOT_MAX (UINT32_MAX - 1) /* others are the number of the page and 1 */

struct img_slots {
    struct img_slot_chunk **chunks; /* by address; NULL: none there */
    size_t count, capacity;         /* of chunks; a power of 2 */
};

/* The place for the page at `address`, which is a multiple of the page size. It stays until
 * img_slots_free. */
uint32_t *img_slots_at(struct img_slots *slots, uint64_t address);
void img_slots_free(struct img_slots *slots);

#endif
