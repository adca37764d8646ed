/* The virtual file system: inodes, dentries, mounts, path walk, and what a file system must give.
 *
 * An *inode* is a file whatever its names; a *dentry* is one name of one mount (so a dentry alone says where in the
 * tree a process is: no pair of mount and dentry is needed). File systems own their directories' contents; dentries are
 * a cache of them, and every dentry holds a reference on its parent and (when positive) on its inode.
 *
 * Locks: a directory's content_mutex is held by the VFS round lookup, create, link, unlink, rename and enumerate of it, so that
 * these operations of a file system need no lock of their own and may call the monitor. vfs.tree_lock guards the
 * links between dentries and mounts; inode.lock the attributes. Order: libos/lock-order.md. */
#ifndef LX_VFS_H
#define LX_VFS_H

#include "libos/list.h"
#include "personality/linux/file.h"
#include "personality/linux/lx.h"
#include <linux/fcntl.h>
#include <linux/stat.h>

struct credentials;
struct file_lock_list;
struct filesystem_context;
struct filesystem_type;
struct mount;
struct superblock;

#define LX_NAME_MAX 255
#define LX_PATH_MAX 4096
#define LX_SYMLINKS_MAX 40

/* ---- Inodes --------------------------------------------------------------------------------------------------- */

struct inode;
struct attribute_change { /* for inode_ops.set_attributes: the fields named in `mask`; already permitted and worked out */
    uint32_t mask;        /* enum bly_attribute_mask; BLY_SET_SIZE is never in it (truncate) */
    uint32_t mode, owner, group;
    int64_t access_ns, modify_ns;
    bool access_is_now, modify_is_now; /* utimensat(2): UTIME_NOW, for file systems with a clock of their own; the time is there, too */
};
struct node_request {     /* for inode_ops.create */
    const char *name;
    size_t name_size;
    uint32_t mode;        /* with S_IFMT */
    uint64_t device;      /* character and block devices: lx_makedev */
    const char *target;   /* symbolic links: NUL-terminated */
    uint32_t owner, group;
    bool opens;           /* a file that is opened next, whatever its mode says: inode_ops.open, or abandon */
};
/* Called for each directory entry; false: no room, stop before it. `next` is the offset that continues after it. */
struct directory_sink {
    bool (*emit)(struct directory_sink *sink, const char *name, size_t size, uint64_t number, unsigned type /* DT_* */, int64_t next);
};

/* NULL means the error in brackets. Names are never "." or "..". "mutex" = the directory's content_mutex is held. */
struct inode_ops {
    int (*lookup)(struct inode *directory, const char *name, size_t size, struct inode **out_inode); /* mutex; out with a reference; -ENOENT [-ENOENT] */
    int (*create)(struct inode *directory, const struct node_request *request, struct inode **out_inode); /* mutex; the name is known to be absent [-EPERM] */
    int (*link)(struct inode *directory, const char *name, size_t size, struct inode *inode); /* mutex [-EPERM] */
    int (*unlink)(struct inode *directory, const char *name, size_t size, struct inode *inode); /* mutex; rmdir too: -ENOTEMPTY [-EPERM] */
    /* Both mutexes, and vfs.rename_mutex. `target` NULL: the new name is free. flags: RENAME_*. [-EPERM] */
    int (*rename)(struct inode *from, const char *from_name, size_t from_size, struct inode *source,
                  struct inode *to, const char *to_name, size_t to_size, struct inode *target, unsigned flags);
    int (*temporary)(struct inode *directory, uint32_t mode, uint32_t owner, uint32_t group, struct inode **out_inode); /* O_TMPFILE [-EOPNOTSUPP] */
    /* mutex. From *offset (0 at the start; . and .. are given by the VFS as offsets 0 and 1, so entries start at 2). [-ENOTDIR] */
    int (*enumerate)(struct inode *directory, int64_t *offset, struct directory_sink *sink);

    /* The text of a symbolic link; valid while the caller holds the inode. Fills inode->link_text. [text is set at creation] */
    int (*read_link)(struct inode *inode);
    /* A link that jumps (/proc/PID/fd/N): the dentry with a reference. Without it links are text. */
    int (*jump)(struct inode *inode, struct dentry **out_dentry);

    /* Brings the attributes up to date (live file systems, /proc). [they are] */
    int (*refresh)(struct inode *inode);
    int (*set_attributes)(struct inode *inode, const struct attribute_change *change); /* [changed in the inode only] */
    int (*truncate)(struct inode *inode, uint64_t size);     /* content_mutex of the file held [-EINVAL] */
    int (*allocate)(struct inode *inode, unsigned mode, uint64_t offset, uint64_t size); /* fallocate; content_mutex held [-EOPNOTSUPP] */
    /* Live file systems: looks up, creates if asked and opens in one call. -EAGAIN: do it step by step. `out_object` becomes file->object. */
    int (*open_child)(struct inode *directory, const char *name, size_t size, unsigned flags, unsigned mode, bool *out_created,
                      struct inode **out_inode, void **out_object);
    /* Live file systems: whether `directory` still has `inode` by that name; whether its attributes are up to date. After poll, which may call
     * the host, says that anything may be believed. [no] */
    bool (*poll)(void);
    bool (*is_named)(struct inode *directory, const char *name, size_t size, struct inode *inode);
    bool (*is_current)(struct inode *inode);
    /* The same for names that are not there. absence, after lookup or open_child has answered -ENOENT and under the same mutex: what to ask
     * is_absent with later; 0: the next time the host is to be asked again. [0] */
    uint64_t (*absence)(struct inode *directory);
    bool (*is_absent)(struct inode *directory, uint64_t absence);
    void (*abandon)(struct inode *inode, void *object); /* what open_child gave is not used after all */
    /* Further checks of opening and what only the file system knows; sets file->ops and file->object. [file->ops = file_ops] */
    int (*open)(struct inode *inode, struct open_file *file); /* file->object is set already after open_child */
    const struct file_ops *file_ops;

    /* For exec and the page cache of others: bytes of a regular file into the personality's own memory. [-EINVAL] */
    int64_t (*read)(struct inode *inode, void *buffer, size_t size, uint64_t offset);
    int (*memory_object)(struct inode *inode, struct memory_object **out_object); /* with a reference [-ENODEV] */

    /* Extended attributes. get: bytes, or the size needed when size is 0; -ENODATA, -ERANGE. set: value NULL removes. [-EOPNOTSUPP] */
    int64_t (*get_xattr)(struct inode *inode, const char *name, void *buffer, size_t size);
    int (*set_xattr)(struct inode *inode, const char *name, const void *value, size_t size, unsigned flags);
    int64_t (*list_xattr)(struct inode *inode, char *buffer, size_t size); /* names with their NULs */

    void (*release)(struct inode *inode); /* the last reference is gone: free what the file system added. No lock is held [nothing] */
};

struct inode {
    const struct inode_ops *ops;
    struct superblock *superblock;
    _Atomic uint32_t references;
    struct lock lock;             /* guards the attributes below, up to `locks` */
    struct mutex content_mutex;   /* contents of a file; entries of a directory */
    uint64_t number;
    uint32_t mode;                /* with S_IFMT; the type never changes */
    uint32_t owner, group;
    uint32_t link_count;
    uint64_t device;              /* of a device node */
    uint64_t size;
    uint64_t blocks;              /* of 512 bytes */
    int64_t access_ns, modify_ns, change_ns, birth_ns;
    char *link_text;              /* symbolic links: heap string, never changed once set */
    int32_t writers;              /* > 0: open for writing; < 0: mapped for execution (ETXTBSY); guarded by lock */
    struct file_lock_list *locks; /* fs/locks.c */
    void *watches;                /* inotify */
    void *fifo;                   /* FIFOs: the pipe while it is open (fs/fifo.c); sockets: the bound socket. Guarded by lock */
    struct list aliases;          /* dentries that name it; vfs.tree_lock */
    uint32_t flags;               /* enum inode_flags */
    struct memfd *memfd;          /* mm/memfd.c: seals; NULL for files that cannot be sealed */
    void *data;                   /* the file system's own */
};
enum inode_flags {
    INODE_UNCACHED = 1, /* a directory whose names change behind our back: each lookup asks the file system */
    INODE_NO_ATIME = 2,
    INODE_SYNTHETIC = 4 /* /proc and the like: the size says nothing about the contents */
};
static inline struct inode *inode_ref(struct inode *inode) { inode->references++; return inode; }
void inode_unref(struct inode *inode); /* NULL is fine. No lock held, as it may free */
/* One reference, link_count 1, times now, owner root. `extra` bytes follow (inode->data points to them when extra is not 0). */
struct inode *inode_create(struct superblock *superblock, const struct inode_ops *ops, uint32_t mode, size_t extra);
static inline bool inode_is_directory(const struct inode *inode) { return S_ISDIR(inode->mode); }

/* Kernel-side access, for exec: whole reads, fewer bytes only at the end of the file. */
int64_t inode_read(struct inode *inode, void *buffer, size_t size, uint64_t offset);
int inode_memory_object(struct inode *inode, struct memory_object **out_object);
/* ETXTBSY bookkeeping. deny: -ETXTBSY while someone has it open for writing; get_write: -ETXTBSY while denied. */
int inode_deny_write(struct inode *inode);
void inode_allow_write(struct inode *inode);
int inode_get_write(struct inode *inode);
void inode_put_write(struct inode *inode);

enum { INODE_ACCESS = 1, INODE_MODIFY = 2, INODE_CHANGE = 4 };
void inode_touch(struct inode *inode, unsigned which); /* sets times to now; takes inode->lock */
/* `wanted`: MAY_* bits. Root in the sandbox may all but execute what nobody may execute. -EACCES, -EROFS with MAY_WRITE on a read-only mount
 * is vfs_want_write's matter. */
enum { MAY_EXECUTE = 1, MAY_WRITE = 2, MAY_READ = 4 };
int inode_permission(const struct inode *inode, unsigned wanted);
bool inode_owner_or_capable(const struct inode *inode);

/* ---- Dentries ------------------------------------------------------------------------------------------------- */

struct dentry {
    struct dentry *hash_next, **hash_link; /* vfs hash by (parent, name); hash_link is NULL when unhashed */
    struct list sibling, children;
    struct list alias_node;       /* inode->aliases */
    struct list lru_node;         /* while unreferenced */
    struct dentry *parent;        /* itself for the root of a mount */
    struct inode *inode;          /* NULL: the name is known not to exist */
    uint64_t absence;             /* then, in a live folder: inode_ops.absence of its folder; vfs.tree_lock */
    struct mount *mount;
    struct mount *mounted;        /* topmost mount on this dentry, or NULL */
    _Atomic uint32_t references;  /* users and children */
    uint32_t hash;
    uint32_t flags;               /* enum dentry_flags */
    uint32_t name_size;
    char *name;                   /* inline_name or a heap string; NUL-terminated */
    char inline_name[40];
};
enum dentry_flags { DENTRY_DELETED = 1 /* was unlinked */, DENTRY_UNNAMED = 4 /* O_TMPFILE without O_EXCL: linkat may name it */,
                    DENTRY_ANONYMOUS = 2 /* pipe:[5] and the like: name is the whole path */ };

struct dentry *dentry_ref(struct dentry *dentry);
void dentry_unref(struct dentry *dentry); /* NULL is fine; no lock held */
static inline void dentry_cleanup(struct dentry **dentry) { if (*dentry) dentry_unref(*dentry); }
#define scoped_dentry struct dentry *__attribute__((cleanup(dentry_cleanup)))
/* Path as seen from `root` (NULL: the calling process's root). Returns its length without NUL; -ERANGE. Names that were deleted end in
 * " (deleted)" when `mark_deleted`; what cannot be reached from root begins with "(unreachable)". */
int dentry_path(struct dentry *dentry, struct dentry *root, char *buffer, size_t size, bool mark_deleted);

/* ---- Path walk ------------------------------------------------------------------------------------------------ */

enum lookup_flags {
    LOOKUP_FOLLOW = 1,        /* follow a symbolic link in the last place */
    LOOKUP_DIRECTORY = 2,     /* -ENOTDIR unless it is a directory */
    LOOKUP_EMPTY = 4,         /* "" means the base (AT_EMPTY_PATH); else -ENOENT */
    LOOKUP_NO_SYMLINKS = 8,   /* openat2's RESOLVE_* */
    LOOKUP_NO_MAGIC_LINKS = 16,
    LOOKUP_BENEATH = 32,
    LOOKUP_IN_ROOT = 64,
    LOOKUP_NO_CROSS_MOUNT = 128,
    LOOKUP_PARENT = 256,      /* internal */
    LOOKUP_STOP_AT_LIVE = 512,
};
/* `base` NULL: the working directory. `path` is a kernel string. Gives a positive dentry with a reference. */
int vfs_lookup(struct dentry *base, const char *path, unsigned flags, struct dentry **out_dentry) __attribute__((warn_unused_result));
/* The same for a system call's (dirfd, guest path). */
int vfs_lookup_at(int directory_fd, const char *guest_path, unsigned flags, struct dentry **out_dentry) __attribute__((warn_unused_result));
/* The directory that dirfd names, with a reference (AT_FDCWD: the working directory); NULL for absolute paths is never given. */
int vfs_base_at(int directory_fd, struct dentry **out_dentry) __attribute__((warn_unused_result));
/* A guest's path into a buffer of LX_PATH_MAX: length, -EFAULT, -ENAMETOOLONG. */
int64_t vfs_get_path(char *buffer, const char *guest_path);

/* Everything up to the last component. The name is not looked up. */
struct parent_lookup {
    struct dentry *parent;    /* with a reference */
    char name[LX_NAME_MAX + 1];
    size_t name_size;
    bool trailing_slash;
    enum { LAST_NORMAL, LAST_DOT, LAST_DOTDOT, LAST_ROOT } last;
};
int vfs_lookup_parent(struct dentry *base, const char *path, unsigned flags, struct parent_lookup *out_parent) __attribute__((warn_unused_result));

/* ---- Operations by dentry, for system calls and the personality itself ----------------------------------------- */

/* open(2). `flags` are O_*; mode without umask applied. */
int vfs_open(struct dentry *base, const char *path, unsigned flags, unsigned mode, struct open_file **out_file) __attribute__((warn_unused_result));
int vfs_open_dentry(struct dentry *dentry, unsigned flags, struct open_file **out_file) __attribute__((warn_unused_result));
/* For exec: a regular file with execute permission on a mount that allows it (-EACCES, -ENOEXEC is the loader's matter), writing denied
 * (-ETXTBSY) until inode_allow_write. lookup flags: LOOKUP_FOLLOW, LOOKUP_EMPTY. */
int vfs_open_executable(struct dentry *base, const char *path, unsigned lookup_flags, struct dentry **out_dentry) __attribute__((warn_unused_result));
int vfs_make_node(struct dentry *base, const char *path, unsigned mode, uint64_t device, const char *target) __attribute__((warn_unused_result)); /* mkdir, mknod, symlink; owner 0, no umask, existing is -EEXIST */
int vfs_truncate(struct inode *inode, uint64_t size) __attribute__((warn_unused_result));
/* Before a change of what `dentry` names, or under it: -EROFS when its mount is read-only, and the monitor is told for its audit. */
int vfs_want_write(struct dentry *dentry) __attribute__((warn_unused_result));
int vfs_want_write_in(struct dentry *parent, const char *name, size_t name_size) __attribute__((warn_unused_result));
bool vfs_is_read_only(const struct dentry *dentry); /* the question alone */
int vfs_set_attributes(struct dentry *dentry, const struct attribute_change *change) __attribute__((warn_unused_result));
/* An unnamed socket or FIFO for bind(2): creates a node and gives its dentry. */
int vfs_bind_node(struct dentry *base, const char *path, unsigned mode, struct dentry **out_dentry) __attribute__((warn_unused_result));

struct stat_data {
    uint64_t device, number, size, blocks, node_device;
    uint32_t mode, link_count, owner, group, block_size;
    int64_t access_ns, modify_ns, change_ns, birth_ns;
};
int vfs_stat(struct inode *inode, struct stat_data *out_data) __attribute__((warn_unused_result));

struct filesystem_context *filesystem_context_create(void);   /* root and cwd: the root mount */
struct filesystem_context *filesystem_context_copy(struct filesystem_context *from);
void filesystem_context_unref(struct filesystem_context *context);
int filesystem_context_set_root(struct filesystem_context *context, struct dentry *root);
int filesystem_context_set_directory(struct filesystem_context *context, struct dentry *directory);

/* ---- File systems and mounts ---------------------------------------------------------------------------------- */

struct filesystem_statistics { uint64_t type, block_size, blocks, blocks_free, files, files_free; };
struct filesystem_type {
    const char *name;      /* as in /proc/mounts */
    uint64_t magic;        /* statfs f_type */
    unsigned flags;        /* enum filesystem_flags */
    /* mount(2) and lx_*_init: makes a superblock with its root inode. `options` may be NULL. [mount(2) gives -ENODEV] */
    int (*mount)(const char *source, const char *options, struct superblock **out_superblock);
    void (*statistics)(struct superblock *superblock, struct filesystem_statistics *out_statistics); /* [zeros] */
    /* sync(2), syncfs(2): all that was written is on disk. `inode` is the open file that was named, or the root. [0] */
    int (*synchronize)(struct superblock *superblock, struct inode *inode);
    void (*release)(struct superblock *superblock);    /* last mount is gone [free superblock->data] */
};
enum filesystem_flags {
    FILESYSTEM_LIVE = 1,       /* host folders that change behind our back: the last component of a path is asked for unless the file system
                                * vouches for it (inode_ops.is_named); folders on the way are taken to be there still, until something is not found */
    FILESYSTEM_USER_MOUNT = 2, /* root inside the sandbox may mount it */
    FILESYSTEM_NO_DEVICE = 4,  /* nodev in /proc/filesystems (all of ours) */
};
struct superblock {
    const struct filesystem_type *type;
    uint64_t device;           /* st_dev */
    _Atomic uint32_t references; /* mounts and inodes */
    struct inode *root;        /* no reference: the mounts' root dentries have them */
    _Atomic uint64_t next_inode_number;
    uint64_t limit_bytes;      /* tmpfs size=, 0: the sandbox's memory limit */
    void *data;
};
struct mount {
    struct list all;           /* vfs.mounts, in order of mounting; tree_lock */
    struct superblock *superblock;
    struct dentry *root;
    struct dentry *mountpoint; /* NULL for the root mount and anonymous ones */
    struct mount *below;       /* what was mounted on the same dentry before */
    uint32_t flags;            /* MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_NOATIME ... */
    uint32_t id;
    uint32_t parent_id;
    bool locked;               /* of the start: umount(2) refuses it */
    char *source;              /* for /proc/mounts */
    char *options;             /* further options, may be NULL */
};
/* A superblock with no root yet; the caller makes the root inode. NULL: no memory. */
struct superblock *superblock_create(const struct filesystem_type *type);
void superblock_unref(struct superblock *superblock);
/* Registered types are listed in /proc/filesystems and known to mount(2). */
int filesystem_register(const struct filesystem_type *type);
const struct filesystem_type *filesystem_find(const char *name);
/* Mounts `superblock` (taking over the reference) at `path` of the root, made as a directory when it is absent. For lx_*_init: call
 * it from there or later; vfs_mount_start has been called by then. */
int vfs_mount_at(const char *path, struct superblock *superblock, unsigned flags, const char *source);
void vfs_synchronize(void); /* every mounted file system */
int vfs_mount(struct dentry *where, struct superblock *superblock, struct inode *root, unsigned flags, const char *source);

/* Device numbers as in st_rdev. Device nodes are opened through device_ops and device_open (file.h). */
static inline uint64_t lx_makedev(unsigned major, unsigned minor) { return ((uint64_t)(major & 0xfffff000u) << 32) | ((major & 0xfffu) << 8) | ((uint64_t)(minor & 0xffffff00u) << 12) | (minor & 0xffu); }
static inline unsigned lx_major(uint64_t device) { return (unsigned)(((device >> 32) & 0xfffff000u) | ((device >> 8) & 0xfffu)); }
static inline unsigned lx_minor(uint64_t device) { return (unsigned)(((device >> 12) & 0xffffff00u) | (device & 0xffu)); }

/* The state of the subsystem: lx_kernel->vfs. */
struct vfs {
    struct lock tree_lock;     /* guards dentries, mounts and the hash */
    struct mutex rename_mutex; /* one rename between directories at a time; taken before the directories' mutexes */
    struct dentry **hash;      /* dentry hash, hash_size buckets (a power of two) */
    uint32_t hash_size;
    uint32_t dentry_count, idle_count;
    struct list lru;           /* unreferenced dentries, oldest first */
    struct list mounts;
    uint32_t next_mount_id, next_device, rename_cookie;
    struct mount *root_mount, *anonymous_mount;
    const struct filesystem_type *types[32];
    uint32_t type_count;
    _Atomic uint32_t mounts_generation; /* rises with every mount and umount: poll on /proc/mounts */
    struct wait_queue mounts_queue;
    struct lock handle_lock;   /* guards the handles of lower host files (fs/layer_lower.c) */
    struct list idle_handles;  /* opened, used by nobody, oldest first */
    uint32_t idle_handle_count;
    struct layer_store *layer_store; /* of --layer; NULL: nothing is kept (fs/layer_store.c) */
};
static inline struct vfs *vfs(void);

int lx_vfs_init(void);
/* Builds the root from the start information: layered and live mounts, nodes, /tmp, /run, /dev, /dev/shm. */
int vfs_mount_start(const struct bly_start_info *info);

/* Resume: /run/bailey/generation. */
void vfs_tell_generation(void);

/* inotify's hook. mask: IN_*. */
int lx_inotify_init(void);
void notify_event(struct inode *inode, struct dentry *dentry, uint32_t mask, uint32_t cookie, const char *name, size_t name_size);

#include "personality/linux/process/process.h"
static inline struct vfs *vfs(void) { return lx_kernel->vfs; }

#endif
