/* The kernel heap and the bulk segment, shared by all picoprocesses of a sandbox at the same addresses.
 *
 * Small objects (processes, open files, dentries, ...) come from heap_alloc; pages of files in memory and of shared
 * anonymous memory from bulk_alloc, apart, so that suspend can load them lazily. Both are counted against the
 * sandbox's memory limit (heap_usage). heap_init lays the allocator's own state at the start of the segment: a
 * picoprocess cloned later finds everything in place. */
#ifndef LIBOS_HEAP_H
#define LIBOS_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void heap_init(uint64_t memory_limit);

/* Zeroed memory, aligned to 16 (to 4096 from one page upwards); NULL when the limit is reached. */
void *heap_alloc(size_t size) __attribute__((malloc, warn_unused_result));
void *heap_realloc(void *old, size_t old_size, size_t new_size) __attribute__((warn_unused_result));
void heap_free(void *object); /* NULL is fine */
char *heap_string(const char *text, size_t size) __attribute__((warn_unused_result)); /* copy with NUL */

/* Contiguous zeroed pages of the bulk segment: the byte offset in the segment, or -ENOMEM (negative). The address is
 * BLY_BULK_START + offset in every picoprocess. bulk_free gives pages back to the host. */
int64_t bulk_alloc(uint64_t page_count) __attribute__((warn_unused_result));
void bulk_free(uint64_t offset, uint64_t page_count);
/* Pages that stay in use are zeros from now on, and take no memory until they are written. */
int bulk_empty(uint64_t offset, uint64_t page_count);

struct heap_usage { uint64_t heap_bytes, bulk_bytes, private_bytes, limit_bytes; };
void heap_usage(struct heap_usage *out_usage);
/* Counts private guest memory against the limit; false (and nothing counted) when it would exceed it. */
bool heap_charge_private(int64_t bytes) __attribute__((warn_unused_result));
void heap_uncharge_private(int64_t bytes);

/* The one named root object of the personality, found again by every picoprocess (and after resume). */
void heap_set_root(void *root);
void *heap_root(void);

#endif
