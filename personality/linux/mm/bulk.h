/* Contents of files in memory: sparse pages of the bulk segment, readable, writable and mappable. For memfd and tmpfs.
 *
 * Holes read as zeroes and take no memory until they are written or mapped. The owner guards everything here with a mutex of
 * its own (an inode's content_mutex). */
#ifndef LX_BULK_H
#define LX_BULK_H

#include "libos/tree.h"
#include "personality/linux/file.h"

struct bulk_contents {
    struct tree extents;      /* by file offset; never overlapping */
    uint64_t page_count;      /* allocated: st_blocks is 8 times this */
    bool mapped;              /* was mapped: pages cut off are cleared but kept until the end, since maps still show them */
};

/* Copies between the contents and `buffer`; offsets and sizes as they are. The caller has checked them against the file's size. Return
 * bytes moved, or -EFAULT, -ENOSPC when none could be. */
int64_t bulk_contents_read(struct bulk_contents *contents, struct io_buffer *to, uint64_t offset, uint64_t size);
int64_t bulk_contents_write(struct bulk_contents *contents, struct io_buffer *from, uint64_t offset, uint64_t size);
void bulk_contents_read_kernel(struct bulk_contents *contents, void *to, uint64_t offset, uint64_t size);
/* Everything in [offset, end) is zero afterwards; whole pages are given back. */
void bulk_contents_clear(struct bulk_contents *contents, uint64_t offset, uint64_t end);
/* Memory for every page of the range (fallocate, mmap). -ENOSPC. */
int bulk_contents_populate(struct bulk_contents *contents, uint64_t offset, uint64_t end);
/* Maps the range, of a file of `file_size` bytes, at `address`; pages past the end are bus errors. */
int bulk_contents_map(struct bulk_contents *contents, uint64_t file_size, void *address, uint64_t size, unsigned protection, bool shared, uint64_t offset);
/* Next offset of data (or of a hole) at or after `offset` in a file of `size` bytes; -ENXIO. */
int64_t bulk_contents_seek(const struct bulk_contents *contents, uint64_t offset, uint64_t size, bool hole);
void bulk_contents_free(struct bulk_contents *contents);

/* A piece of the bulk segment, and what lies past its end, at `address`. */
int bulk_map(uint64_t bulk_offset, void *address, size_t size, unsigned protection, bool shared);
int bulk_map_nothing(void *address, size_t size, unsigned protection, bool shared);

#endif
