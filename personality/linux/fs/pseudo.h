/* Toolkit for file systems whose files are made up when they are read: /proc, /sys.
 *
 * A tree is tables of pseudo_entry. A node of the tree is an entry and what it is about (a process, a descriptor, a CPU): the
 * arguments, inherited from the directory and set by `find` for names that come and go. Text is made at the first read and
 * kept by the open file until it reads from the start again. */
#ifndef LX_PSEUDO_H
#define LX_PSEUDO_H

#include "personality/linux/fs/vfs.h"

/* Text that grows in the heap. `failed` once memory ran out. */
struct text { char *data; size_t size, room; bool failed; };
void text_add(struct text *text, const char *pattern, ...) __attribute__((format(printf, 2, 3)));
void text_bytes(struct text *text, const void *bytes, size_t size);
void text_free(struct text *text);

struct pseudo_entry;
struct pseudo_node {
    const struct pseudo_entry *entry;
    uint64_t argument[2];
    const struct pseudo_entry *above; /* nearest directory above with `refresh_below`; NULL: none */
};
struct pseudo_entry {
    const char *name;
    uint32_t mode;                      /* with S_IFMT */
    const char *text;                   /* a file that always says this */
    int (*show)(const struct pseudo_node *node, struct text *out);
    int64_t (*store)(const struct pseudo_node *node, const char *text, size_t size); /* a write; bytes taken or errno [-EINVAL] */
    int (*link)(const struct pseudo_node *node, struct text *out);   /* symbolic links */
    int (*jump)(const struct pseudo_node *node, struct dentry **out_dentry); /* links that jump; `link` gives what readlink shows */
    const struct pseudo_entry *entries; /* directories: fixed names */
    size_t entry_count;
    /* Directories: names that come and go. find sets *out_entry and the arguments; -ENOENT. list gives the name after *cursor (0 at first; it
     * must grow): 1, or 0 at the end. */
    int (*find)(const struct pseudo_node *directory, const char *name, struct pseudo_node *out_node);
    int (*list)(const struct pseudo_node *directory, uint64_t *cursor, char *name, size_t size);
    void (*refresh)(const struct pseudo_node *node, struct inode *inode); /* owner and the like [root] */
    void (*refresh_below)(const struct pseudo_node *node, struct inode *inode); /* directories: the same for all that is below, before its own */
};
#define PSEUDO_FILE(name_, mode_, show_) { .name = name_, .mode = S_IFREG | (mode_), .show = show_ }
#define PSEUDO_TEXT(name_, text_) { .name = name_, .mode = S_IFREG | 0444, .text = text_ }
#define PSEUDO_DIRECTORY(name_, entries_) { .name = name_, .mode = S_IFDIR | 0555, .entries = entries_, .entry_count = sizeof(entries_) / sizeof(entries_[0]) }

/* A superblock of `type` with `root` as its root. */
int pseudo_mount(const struct filesystem_type *type, const struct pseudo_entry *root, struct superblock **out_superblock);
/* The node behind an inode of such a file system; NULL for other inodes. */
const struct pseudo_node *pseudo_node_of(const struct inode *inode);

#endif
