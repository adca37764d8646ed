/* Live host folders (-v): every change reaches the host, and so does every question that the host may by now answer otherwise (hostfs_watch.c).
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
    struct list kept;                /* hostfs_watch.c */
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
    /* hostfs_watch.c. Of a folder: */
    uint32_t lookup_count;           /* without a watch; a hint */
    _Atomic int32_t watch;           /* the host's number of its watch; 0: none, -1: not to be had */
    struct host_node *watch_next;    /* with the same one; host_watch.mutex */
    struct host_stamp { uint64_t names, contents; } stamp; /* rise with every change among its names, and in what they name; atomic */
    /* Of what a watched folder names, by `parent` and `name`: the folder's stamp when that was seen, and the time; hostfs.lock */
    struct host_stamp seen;
    uint64_t seen_ns;
    int64_t read_change_ns;          /* the inode's change_ns when a read last made its attributes doubtful; a hint */
    uint64_t looked;                 /* hostfs_absence at the last look for a name; content_mutex */
    bool mapped;                     /* written through maps, of which the host tells nothing */
    struct host_open *created;       /* of a file that was made to be opened, until its open file takes it over; inode->lock */
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

void hostfs_seen(struct inode *inode, struct inode *directory, struct host_stamp stamp);
void hostfs_doubt(struct inode *inode); /* the attributes that were seen are asked for again; the name is still believed */

/* hostfs_watch.c */
int lx_host_watch_init(void);
/* Applies what the host has to tell. False: nothing that was seen before is to be believed. May call the host; no lock held. */
bool hostfs_watch_poll(void);
/* What to pass to hostfs_seen once the host has answered a question about a name in `directory`; to be taken before asking. */
struct host_stamp hostfs_watch_stamp(struct inode *directory); /* names 0: not watched */
static inline struct host_stamp host_stamp_of(struct inode *directory)
{
    const struct host_stamp *stamp = &host_node(directory)->stamp;
    return (struct host_stamp){ __atomic_load_n(&stamp->names, __ATOMIC_ACQUIRE), __atomic_load_n(&stamp->contents, __ATOMIC_ACQUIRE) };
}
/* After a poll: whether `directory` still has `inode` by that name; and whether the inode's attributes are still those of the host. */
bool hostfs_is_named(struct inode *directory, const char *name, size_t size, struct inode *inode);
bool hostfs_is_current(struct inode *inode);
/* Keeps a stream for reading open for a while after its last user, for the next open. */
void hostfs_keep_open(struct host_open *open);
void hostfs_close_kept(void); /* all of them */
/* Such a stream of the file that `directory` has by that name, with a reference; NULL: none. */
struct host_open *hostfs_kept_open(struct inode *directory, const char *name, size_t size);
/* inode_ops.absence and is_absent. The first is what it was when the host was asked: hostfs_looking has noted it. */
void hostfs_looking(struct inode *directory, struct host_stamp stamp);
uint64_t hostfs_absence(struct inode *directory);
bool hostfs_is_absent(struct inode *directory, uint64_t absence);
void hostfs_folder_renamed(void);
/* Resume: nothing is watched any more, and what was seen is not believed. */
void hostfs_forget_watches(void);
void hostfs_watch_forget(struct host_node *node); /* the node goes */

/* hostfs_file.c */
int hostfs_open(struct inode *inode, struct open_file *file);
int hostfs_open_child(struct inode *directory, const char *name, size_t size, unsigned flags, unsigned mode, bool *out_created,
                      struct inode **out_inode, void **out_object);
void hostfs_abandon(struct inode *inode, void *object);
/* A file has been made to be opened: its mode need not allow that a second time. Takes `handle` over. */
int hostfs_created(struct inode *directory, const struct node_request *request, bly_handle handle, const struct bly_attributes *attributes,
                   struct inode **out_inode);
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
