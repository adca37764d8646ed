/* The layer file system: files in memory, over an optional read-only host folder. Without one it is tmpfs.
 *
 * A node may have a *lower* host file. Its attributes are read once and then belong to the node; its contents are read from the host
 * until something writes to them, when they are copied up into the bulk segment. A directory's table holds only what differs from the
 * lower folder: entries made here, and whiteouts for lower names that were removed. The host folder is never written.
 *
 * A node whose attributes or contents differ from its lower file is *pinned*: it holds a reference on its own inode, and is found
 * again by the host file's identity when its name is looked up once more. */
#ifndef LX_LAYER_H
#define LX_LAYER_H

#include "personality/linux/fs/internal.h"
#include "personality/linux/mm/mm.h"

#define LAYER_NO_LOWER UINT32_MAX
#define LAYER_DEVICES_MAX 16

struct layer {                     /* superblock->data */
    uint32_t lower_mount;          /* number in URIs, LAYER_NO_LOWER */
    struct lock lock;              /* guards the identity table and pins */
    struct layer_node **identities;
    uint32_t identity_size, identity_count;
    uint64_t devices[LAYER_DEVICES_MAX]; /* host devices seen below: an inode number is told apart by the index */
    uint32_t device_count;
    _Atomic uint64_t page_count;   /* of bulk memory, against superblock->limit_bytes */
    char *store_key;               /* layers that are kept (layer_store.c): the name of their files; the next number for contents */
    uint64_t next_stored;
    struct superblock *superblock;
    struct layer *store_next;
};

struct layer_entry {
    struct layer_entry *hash_next;
    struct list order;             /* by offset */
    struct inode *inode;           /* with a reference; NULL: whiteout */
    int64_t offset;                /* for readdir: never used twice in a directory */
    uint32_t hash, size;
    bool covers_lower;             /* the lower folder has this name: removing leaves a whiteout */
    char name[];
};
struct layer_extent { uint64_t page, count, bulk_offset; }; /* in pages, pages, bytes */
struct layer_xattr { struct layer_xattr *next; void *value; uint32_t size; bool removed; char name[]; };
struct layer_listing { uint64_t references, size; unsigned char records[]; }; /* of struct linux_dirent64, as the host gave them */

enum layer_node_flags { LAYER_PINNED = 1, LAYER_UPPER = 2 /* contents are in memory */, LAYER_HAS_IDENTITY = 4,
                        LAYER_GENERATED = 8 /* made at the start, and made anew in the next sandbox */ };

struct layer_node {                /* inode->data */
    char *lower_path;              /* below the lower folder, without a slash at either end; NULL: no lower file */
    uint64_t lower_device, lower_inode;
    int64_t lower_birth;
    struct layer_node *identity_next, **identity_link;
    uint64_t stored;               /* number of the kept file that the contents are in instead (layer_store.c); 0: none */
    uint32_t store_number;         /* of the node, while the layer is being kept */
    int64_t generated_ns;          /* LAYER_GENERATED: change time of the file as it was made */
    struct inode *inode;
    _Atomic uint32_t flags;        /* enum layer_node_flags */

    /* Directories; guarded by content_mutex. */
    struct layer_entry **table;
    uint32_t table_size, entry_count, live_count; /* live: not whiteouts */
    int64_t next_offset;
    struct list order;
    struct layer_listing *listing;

    /* Files; extents guarded by content_mutex. Sorted, never overlapping; an extent never moves, since programs may have mapped it. */
    struct layer_extent *extents;
    uint32_t extent_count, extent_room;
    uint64_t page_count;           /* in all extents */
    struct memory_object *object;  /* while something maps the file; inode->lock */
    bly_handle handle;             /* the lower file, opened for reading; layer_handles.lock for the three below */
    uint32_t handle_users;
    struct list handle_node;       /* on the idle list while nobody uses the handle */

    struct layer_xattr *xattrs;    /* what differs from the lower file; inode->lock */
};
static inline struct layer_node *layer_node(const struct inode *inode) { return inode->data; }
static inline struct layer *layer_of(const struct inode *inode) { return inode->superblock->data; }
static inline bool layer_reads_lower(const struct layer_node *node) { return (node->lower_path || node->stored) && !(node->flags & LAYER_UPPER); }

extern const struct filesystem_type layer_type; /* "tmpfs" to mount(2); overlay mounts have a type of their own for show */
extern const struct filesystem_type layer_over_type;

/* layer.c */
int layer_create(uint32_t lower_mount, struct superblock **out_superblock, struct inode **out_root);
int layer_pin(struct inode *inode);            /* before the first change of a lower file's attributes or contents */
void layer_unpin(struct inode *inode);         /* the last name is gone. The caller holds a reference */
int layer_uri(const struct layer *layer, const char *path, const char *name, size_t name_size, char *out_uri, size_t size);
#define LAYER_URI_MAX (LX_PATH_MAX + 32)
/* For what is known from before: the entry stands for `inode`, NULL: whiteout. */
int layer_restore_entry(struct inode *directory, const char *name, size_t size, struct inode *inode, bool covers_lower);
bool layer_is_noted(const struct inode *directory, const char *name, size_t size); /* the table has it, be it as a whiteout */
void layer_note_generated(struct inode *inode);
/* Hides the lower folder's `name` without asking whether it has one: what is put there instead costs no call. Not an error elsewhere. */
void layer_hide_lower(struct inode *directory, const char *name, size_t size);
struct inode *layer_new_node(struct superblock *superblock, uint32_t mode);

/* layer_lower.c */
int layer_lower_by_path(struct superblock *superblock, const char *path, size_t size, struct inode **out_inode);
int layer_lower_lookup(struct inode *directory, const char *name, size_t size, struct inode **out_inode);
int layer_lower_acquire(struct inode *inode, bly_handle *out_handle); /* the lower file's stream, until layer_lower_release */
void layer_lower_release(struct inode *inode);
int layer_lower_listing(struct inode *directory, struct layer_listing **out_listing); /* content_mutex held */
void layer_lower_forget(struct inode *inode);
void layer_lower_close_idle(void); /* streams that nobody uses just now */
int layer_copy_up(struct inode *inode, uint64_t size); /* contents, the first `size` bytes of them; content_mutex held */

/* layer_data.c; content_mutex held */
int layer_reserve(struct inode *inode, uint64_t first_page, uint64_t page_count);
void layer_trim(struct inode *inode, uint64_t first_page); /* gives back what lies from there on */
void layer_punch(struct inode *inode, uint64_t first_page, uint64_t page_count);
void *layer_find(const struct layer_node *node, uint64_t offset, uint64_t *out_size); /* memory at offset and how much of it is contiguous; NULL: a hole of that size */
void layer_free_data(struct inode *inode);
int layer_truncate(struct inode *inode, uint64_t size);
int layer_allocate(struct inode *inode, unsigned mode, uint64_t offset, uint64_t size);
int64_t layer_read_kernel(struct inode *inode, void *buffer, size_t size, uint64_t offset);
int layer_open(struct inode *inode, struct open_file *file);
extern const struct file_ops layer_file_ops;

/* layer_map.c */
int layer_memory_object(struct inode *inode, struct memory_object **out_object);

/* layer_xattr.c */
int64_t layer_get_xattr(struct inode *inode, const char *name, void *buffer, size_t size);
int layer_set_xattr(struct inode *inode, const char *name, const void *value, size_t size, unsigned flags);
int64_t layer_list_xattr(struct inode *inode, char *buffer, size_t size);
void layer_free_xattrs(struct layer_node *node);

#endif
