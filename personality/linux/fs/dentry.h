/* Inside the VFS only: the dentry cache. Names ending in _locked want vfs.tree_lock; what they let go of is put on a
 * `dead` list, to be passed to dentries_free once the lock is released (freeing an inode may call the monitor). */
#ifndef LX_DENTRY_H
#define LX_DENTRY_H

#include "personality/linux/fs/vfs.h"

uint32_t name_hash(const struct dentry *parent, const char *name, size_t size);
struct dentry *dentry_find_locked(struct dentry *parent, const char *name, size_t size, uint32_t hash);
/* A new unhashed dentry with one reference, holding references on parent and inode (either may be NULL). */
struct dentry *dentry_create(struct mount *mount, struct dentry *parent, const char *name, size_t size, struct inode *inode);
void dentry_hash_locked(struct dentry *dentry);   /* its name and parent are set */
void dentry_unhash_locked(struct dentry *dentry); /* nobody finds it any more; it lives until its references are gone */
bool dentry_is_hashed(const struct dentry *dentry);
void dentry_unref_locked(struct dentry *dentry, struct list *dead);
void dentry_dispose_if_idle_locked(struct dentry *dentry, struct list *dead);
void dentries_free(struct list *dead);
/* Gives `dentry` another name and place, taking hash and links along. `spare` is memory for a long name or NULL. */
void dentry_move_locked(struct dentry *dentry, struct dentry *parent, const char *name, size_t size, char *spare, char **out_old, struct list *dead);
/* Frees up to `count` idle dentries, oldest first. Returns how many. No lock held. */
uint32_t dentry_shrink(uint32_t count);

/* The child `name` of `parent`, positive or negative, with a reference, asking the file system where the cache does not know. */
int dentry_lookup(struct dentry *parent, const char *name, size_t size, bool mutex_is_held, struct dentry **out_dentry);
/* Makes `name` of `parent` stand for `inode` (NULL: nothing) in the cache, in the place of what it stood for; with a reference. The directory's
 * mutex is held. */
int dentry_put(struct dentry *parent, const char *name, size_t size, struct inode *inode, struct dentry **out_dentry);
/* A negative dentry becomes positive: the name was made. */
void dentry_instantiate(struct dentry *dentry, struct inode *inode);
/* The name was removed: nobody finds it any more. */
void dentry_delete(struct dentry *dentry);
/* After a change in a directory through one mount: the names that other mounts of it have cached go. `keep` is the dentry that was changed. */
void dentry_invalidate_aliases_locked(struct inode *directory, const char *name, size_t size, struct dentry *keep, struct list *dead);
static inline bool names_are_cached(const struct inode *directory)
{
    return !(directory->flags & INODE_UNCACHED);
}

#endif
