/* Live host folders (-v): every operation reaches the host, nothing but what the host must not know is kept here.
 *
 * A node is known by the host file's device and inode, so that two opens of one file share locks, maps and ETXTBSY books. What the guest
 * did to owners and to the set-id bits is remembered in the node (which then stays in the heap) and laid over what the host says. */
#ifndef LX_HOSTFS_H
#define LX_HOSTFS_H

#include "personality/linux/fs/internal.h"
#include "personality/linux/fs/lower.h"
#include "personality/linux/mm/mm.h"

struct hostfs;                       /* superblock->data */
struct host_open {                   /* a stream of the host, shared by an open file and the maps made through it */
    _Atomic uint32_t references;
    bly_handle handle;
    uint32_t access;                 /* enum bly_access */
    struct inode *inode;
    struct list node;                /* host_node.opens; inode->lock */
    struct memory_object object;     /* its references are counted in `references` as one */
};
struct host_node {                   /* inode->data */
    struct inode *inode;
    struct inode *parent;            /* a name it was last seen by; NULL: the granted folder itself. hostfs.lock */
    char *name;
    uint64_t host_device, host_inode;
    int64_t host_birth;
    struct host_node *identity_next, **identity_link;
    struct list opens;               /* inode->lock */
    uint32_t overlay_mask;           /* enum bly_attribute_mask: which of the three below count; inode->lock */
    uint32_t owner, group, mode_bits;
    bool pinned;                     /* hostfs.lock */
    struct host_open *unnamed;       /* of O_TMPFILE, until its open file takes it over */
};
static inline struct host_node *host_node(const struct inode *inode) { return inode->data; }

extern const struct filesystem_type hostfs_type;
extern const struct file_ops hostfs_file_ops;
int hostfs_create(uint32_t mount_number, struct superblock **out_superblock, struct inode **out_root);

/* hostfs.c */
#define HOSTFS_URI_MAX (LX_PATH_MAX + 32)
int hostfs_uri(struct inode *inode, const char *name, size_t name_size, char *out_uri, size_t size);
void hostfs_attributes(struct inode *inode, const struct bly_attributes *attributes); /* what the host says, under the overlay */
/* The inode of what the host calls `name` in `directory` (NULL: the granted folder itself), with a reference. */
int hostfs_get(struct superblock *superblock, struct inode *directory, const char *name, size_t size,
               const struct bly_attributes *attributes, const char *link, size_t link_size, struct inode **out_inode);
/* The guest's view of ownership and set-id bits of a new file. */
void hostfs_overlay_new(struct inode *inode, uint32_t mode, uint32_t owner, uint32_t group);

/* hostfs_file.c */
int hostfs_open(struct inode *inode, struct open_file *file);
int hostfs_open_child(struct inode *directory, const char *name, size_t size, unsigned flags, unsigned mode, bool *out_created,
                      struct inode **out_inode, void **out_object);
void hostfs_abandon(struct inode *inode, void *object);
int hostfs_temporary(struct inode *directory, uint32_t mode, uint32_t owner, uint32_t group, struct inode **out_inode);
int hostfs_enumerate(struct inode *directory, int64_t *offset, struct directory_sink *sink);
int hostfs_truncate(struct inode *inode, uint64_t size);
int hostfs_allocate(struct inode *inode, unsigned mode, uint64_t offset, uint64_t size);
int64_t hostfs_read_kernel(struct inode *inode, void *buffer, size_t size, uint64_t offset);
int hostfs_memory_object(struct inode *inode, struct memory_object **out_object);
/* A stream of the inode that has at least `access`: one that is open, or a new one. Let go by host_open_unref. */
int hostfs_stream(struct inode *inode, unsigned access, struct host_open **out_open);
void host_open_unref(struct host_open *open);

#endif
