/* Pages of the bulk segment that a resumed sandbox has not touched yet. They are still in the
 * image; in the segment there are zeros in their place, which nobody must see. So their addresses
 * (BLY_BULK_START and on) are inaccessible at first, in every picoprocess, and what is touched is
 * loaded, chunk by chunk, by the exception upcall. Host calls would only be refused: what is given
 * to them, or mapped elsewhere, is loaded before. In a sandbox that was not resumed nothing here
 * does anything. */
#ifndef LIBOS_ABSENT_H
#define LIBOS_ABSENT_H

#include <stdbool.h>
#include <stdint.h>

/* In the first picoprocess, before it is cloned and before anything of the segment is touched.
 * -ENOMEM. */
int absent_begin(void) __attribute__((warn_unused_result));
/* A fault of the personality at `address`. True: it was this, and the access can be repeated. Takes
 * no lock and allocates nothing. */
bool absent_fault(uint64_t address);
uint64_t absent_chunk_size(void);
bool absent_is_present(uint64_t offset, uint64_t size);
/* [offset, offset + size) of the segment is there: it may be mapped elsewhere. Waits for the
 * monitor. Ends the sandbox where the image cannot be read: whoever needs these pages cannot go on.
 */
void absent_fetch(uint64_t offset, uint64_t size);
/* And accessible at its own address. */
void absent_load(uint64_t offset, uint64_t size);
/* The same, but what is there is not wanted any more, and may be zeros. */
void absent_discard(uint64_t offset, uint64_t size);

#endif
