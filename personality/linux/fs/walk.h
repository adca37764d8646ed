/* Inside the VFS only: a walk in progress. walk_begin returns with vfs.tree_lock held and walk->at the place reached (no reference), or
 * with a negative errno and nothing held; walk_end lets everything go. */
#ifndef LX_WALK_H
#define LX_WALK_H

#include "personality/linux/fs/vfs.h"

struct walk {
    unsigned flags;          /* LOOKUP_* */
    struct dentry *root;     /* where ".." stops and absolute links start */
    struct dentry *base;     /* where the walk began (LOOKUP_BENEATH, LOOKUP_IN_ROOT) */
    struct dentry *at;
    struct dentry *held;     /* the last dentry that the file system was asked for, with a reference that keeps `at` alive */
    bool root_held;
    bool fresh;              /* the last component was asked for just now: its attributes are up to date */
    bool must_be_directory;  /* the last component is followed by a slash */
    bool polled, believes;   /* the file systems were asked whether what the cache says of live folders may be believed; the answer */
    bool guessed;            /* a folder on the way was taken to be where it was: nothing found there is no answer yet */
    bool revalidate;         /* second try after -ESTALE: believe no cached name of a live file system */
    const char *last_name;   /* LOOKUP_PARENT: the last component; NULL when there was none ("/") */
    size_t last_size;
    unsigned link_count, depth;
    struct list dead;
    struct inode *links[LX_SYMLINKS_MAX];  /* followed: their text is in use */
    const char *stack[LX_SYMLINKS_MAX];    /* rests of outer paths */
};
int walk_begin(struct walk *walk, struct dentry *base, const char *path, unsigned flags);
void walk_end(struct walk *walk);
void walk_take_parent(struct walk *walk, struct parent_lookup *out_parent);
bool dentry_is_below(struct dentry *dentry, struct dentry *ancestor);

#endif
