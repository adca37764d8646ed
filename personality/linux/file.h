/* Open files and descriptor tables. Every kind of file (host file, pipe, socket, eventfd, tty, ...) is an open_file with a
 * table of operations; all live in the kernel heap and are shared by fork. */
#ifndef LX_FILE_H
#define LX_FILE_H

#include "personality/linux/lx.h"

struct dentry;
struct inode;
struct open_file;
struct memory_object;
struct poll_table;

/* A guest buffer list or a kernel buffer: what read and write move data to and from. Use the functions, not the fields. */
struct io_buffer {
    struct bly_iovec *vector; /* remaining parts; addresses are guest addresses unless kernel */
    size_t count;
    size_t size;              /* bytes remaining in all */
    bool kernel;              /* addresses are the personality's own */
    uint8_t flags;            /* enum io_flags: of this one call, beside the open file's own */
};
enum io_flags { IO_APPEND = 1, IO_SYNC = 2 /* regular files: RWF_APPEND, RWF_DSYNC */, IO_NO_APPEND = 4 };
/* Copies at most `size` bytes and advances. Returns bytes copied, or -EFAULT when none could be. */
int64_t io_copy_in(struct io_buffer *source, void *to, size_t size);       /* write(2): from the program */
int64_t io_copy_out(struct io_buffer *target, const void *from, size_t size); /* read(2): to the program */

/* Operations of an open file. NULL means the error in brackets. Offsets: the caller passes &file->position or a private one;
 * the operation advances it. Blocking operations look at file->flags & O_NONBLOCK and return -EAGAIN, or -ERESTARTSYS when interrupted. */
struct file_ops {
    const char *name; /* for /proc/PID/fd and the trace: "pipe", "socket", "anon_inode:[eventfd]", ... */
    int64_t (*read)(struct open_file *file, struct io_buffer *to, int64_t *position);    /* [-EINVAL] */
    int64_t (*write)(struct open_file *file, struct io_buffer *from, int64_t *position); /* [-EINVAL] */
    int64_t (*seek)(struct open_file *file, int64_t offset, int whence);                  /* [-ESPIPE] */
    int64_t (*enumerate)(struct open_file *file, struct io_buffer *to);                   /* getdents64 [-ENOTDIR] */
    /* Events (POLLIN...) that hold now; when `table` is not NULL, first registers with poll_wait. [always readable and writable] */
    uint32_t (*poll)(struct open_file *file, struct poll_table *table);
    long (*ioctl)(struct open_file *file, unsigned request, uint64_t argument);           /* [-ENOTTY] */
    /* What mmap(2) maps: *out_object with a reference added. [-ENODEV] */
    int (*map)(struct open_file *file, struct memory_object **out_object);
    int (*flush)(struct open_file *file, unsigned flags);                                  /* fsync; enum bly_flush_flags [-EINVAL] */
    int (*set_flags)(struct open_file *file, unsigned flags);                             /* F_SETFL: note of a change [0] */
    void (*close)(struct open_file *file);                                                /* last reference is gone */
    void (*describe)(struct open_file *file, char *text, size_t size);                    /* more lines for /proc/PID/fdinfo */
    bool positionless; /* pread and lseek give -ESPIPE (pipes, sockets, ttys) */
};

struct open_file {
    const struct file_ops *ops;
    _Atomic uint32_t references;
    uint32_t flags;          /* O_* as F_GETFL shows them; changed under lock */
    struct lock lock;        /* guards flags, owner */
    struct mutex position_mutex; /* guards position, for files that have one */
    int64_t position;
    struct dentry *dentry;   /* name it was opened by; NULL never: anonymous files have one of the anonymous mount */
    struct inode *inode;     /* a reference of its own */
    struct wait_queue *poll_queue; /* where changes are announced, when there is exactly one; else NULL */
    void *object;            /* what it is: struct pipe *, struct socket *, ... */
    int32_t owner_pid, owner_signal; /* F_SETOWN, F_SETSIG */
    struct list *epoll_items; /* fs/epoll.c: who watches it, NULL when nobody ever did. The last file_unref calls epoll_file_closed
                               * before ops->close when it is set. */
    uint64_t id;             /* unique in the sandbox: names it in save/restore, kcmp, locks */
    uint32_t internal;       /* the VFS's own notes (fs/internal.h) */
};

/* A new open file with one reference; `dentry`/`inode` get references of their own. NULL: out of memory. */
struct open_file *file_create(const struct file_ops *ops, struct dentry *dentry, struct inode *inode, unsigned flags);
/* The same for files without a name: anonymous inode of the given mode (S_IFIFO | 0600, ...). Frees nothing of `object` on failure. */
struct open_file *file_create_anonymous(const struct file_ops *ops, void *object, unsigned mode, unsigned flags);
static inline struct open_file *file_ref(struct open_file *file) { file->references++; return file; }
void file_unref(struct open_file *file);

/* ---- Descriptor tables ---- */
struct fd_entry { struct open_file *file; uint32_t close_on_exec; uint32_t reserved; };
enum { FD_TABLE_START = 32 };
struct fd_table {
    struct lock lock;   /* guards all below */
    _Atomic uint32_t references; /* shared by CLONE_FILES */
    uint32_t size;      /* entries allocated */
    uint32_t first_free_hint;
    bool has_locked;    /* fcntl locks were set through it: to be looked for when it closes a file */
    struct fd_entry *entries;
    struct fd_entry first[FD_TABLE_START]; /* are the entries until more are needed: a child that ends touches one page of them, not two */
};
struct fd_table *fd_table_create(void);
struct fd_table *fd_table_copy(struct fd_table *from);
void fd_table_unref(struct fd_table *table);
void fd_table_close_on_exec(struct fd_table *table);

/* Of the calling thread's process. fd_get adds a reference (unref with file_unref, or scoped_file). */
struct open_file *fd_get(int fd);                       /* NULL: -EBADF */
int fd_install(struct open_file *file, int minimum, bool close_on_exec); /* takes over the reference on success; -EMFILE */
int fd_close(int fd);
/* For receiving several (SCM_RIGHTS) and for dup2: at exactly `fd`, closing what was there. Takes over the reference on success. */
int fd_replace(int fd, struct open_file *file, bool close_on_exec);
/* Of any table (/proc/PID/fd): adds a reference. fd_table_next: the first used descriptor >= fd, or -1. */
struct open_file *fd_table_get(struct fd_table *table, int fd, bool *out_close_on_exec);
int fd_table_next(struct fd_table *table, int fd);
void fd_table_close_range(struct fd_table *table, uint32_t first, uint32_t last);
int fd_get_close_on_exec(int fd); /* 0, 1, -EBADF */
int fd_set_close_on_exec(uint32_t first, uint32_t last, bool value); /* -EBADF when none is open */
int fd_unshare(void); /* CLONE_FILES undone for the current process */
int fd_install_in(struct fd_table *table, struct open_file *file, int minimum, bool close_on_exec, uint64_t limit);
static inline void file_cleanup(struct open_file **file) { if (*file) file_unref(*file); }
#define scoped_file struct open_file *__attribute__((cleanup(file_cleanup)))

/* ---- Poll ---- */
/* Registers the caller with `queue` when the poller wants to sleep. Called by file_ops.poll. */
void poll_wait(struct poll_table *table, struct wait_queue *queue);
/* For files on host streams: the poller must also wait on the stream. */
void poll_wait_stream(struct poll_table *table, bly_handle stream, uint32_t events);
uint32_t file_poll(struct open_file *file, struct poll_table *table);

/* The last reference is gone: every epoll set forgets the file (fs/epoll.c). May sleep. */
void epoll_file_closed(struct open_file *file);
/* F_SETPIPE_SZ, F_GETPIPE_SZ (fs/pipe.c); -EBADF when the file is no pipe. */
long pipe_fcntl(struct open_file *file, unsigned command, uint64_t argument);
/* open(2) of a named pipe (fs/fifo.c): waits for the other end as O_NONBLOCK and the access mode say. The inode keeps `void *fifo`. */
int fifo_open(struct inode *inode, struct dentry *dentry, unsigned flags, struct open_file **out_file);
/* Operations of a character device that an open_file may simply be given (tty/device.c); NULL: device_open must be called, which
 * makes the file itself (terminals) or says -ENXIO. */
const struct file_ops *device_ops(unsigned major, unsigned minor);
int device_open(unsigned major, unsigned minor, struct inode *inode, struct dentry *dentry, unsigned flags, struct open_file **out_file);

/* Path by which the file is known, for /proc and messages. Returns its length. */
size_t file_path(struct open_file *file, char *buffer, size_t size);

#endif
