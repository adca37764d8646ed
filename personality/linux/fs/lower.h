/* What the file systems over host folders (layer and hostfs) share. */
#ifndef LX_LOWER_H
#define LX_LOWER_H

#include "personality/linux/fs/vfs.h"

struct layer_listing;
uint32_t mode_of_attributes(const struct bly_attributes *attributes);
void inode_take_attributes(struct inode *inode, const struct bly_attributes *attributes); /* all but number and type */
bool lower_listing_find(const struct layer_listing *listing, const char *name, size_t size);
int stream_read_listing(bly_handle handle, struct layer_listing **out_listing); /* a whole folder; heap_free it */
int64_t stream_read_file(bly_handle handle, const struct bly_iovec *vector, size_t count, uint64_t offset);
int64_t stream_write_file(bly_handle handle, const struct bly_iovec *vector, size_t count, uint64_t offset, unsigned flags);
int64_t stream_read_fully(bly_handle handle, void *buffer, uint64_t size, uint64_t offset); /* fewer only at the end */
/* Attributes of a granted folder or file itself, as the start information has them. */
int grant_attributes(uint32_t mount_number, struct bly_attributes *out_attributes);
int layer_lower_root(struct superblock *superblock, struct inode **out_root);

#endif
