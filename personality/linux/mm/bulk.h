/* Mapping pieces of the bulk segment into the program's memory. */
#ifndef LX_BULK_H
#define LX_BULK_H

#include "personality/linux/lx.h"

/* A piece of the bulk segment at `address`, replacing what is there; and what lies past the end of
 * any object: touching it is a bus error. */
int bulk_map(uint64_t bulk_offset, void *address, size_t size, unsigned protection, bool shared);
int bulk_map_nothing(void *address, size_t size, unsigned protection, bool shared);

#endif
