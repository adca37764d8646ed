/* What the files of fs/ need of each other beyond vfs.h. */
#ifndef LX_FS_INTERNAL_H
#define LX_FS_INTERNAL_H

#include "personality/linux/fs/vfs.h"

size_t inode_path(struct inode *inode, char *buffer, size_t size); /* a path it has in the calling process; 0: none */

/* ---- mount.c ---- */
void mount_free(struct mount *mount);
int vfs_unmount(struct dentry *root, bool detach);
struct inode *anonymous_inode(unsigned mode);
struct dentry *anonymous_dentry(const char *name, struct inode *inode);

/* ---- file.c ---- */
/* open_file.internal */
enum file_internal_flags {
    FILE_HOLDS_WRITE = 1,  /* counted in inode->writers */
    FILE_AT_END = 8,       /* live files: the position is the end of the file, after an appending write */
    FILE_HAS_LOCKS = 2,    /* flock or open-file-description locks may exist */
};
/* A file that is known by name only (O_PATH). */
extern const struct file_ops path_file_ops;
int64_t file_read(struct open_file *file, struct io_buffer *to, int64_t *position);
int64_t file_write(struct open_file *file, struct io_buffer *from, int64_t *position);
int64_t file_seek(struct open_file *file, int64_t offset, int whence);
static inline bool file_can_read(const struct open_file *file) { return (file->flags & O_ACCMODE) != O_WRONLY && !(file->flags & O_PATH); }
static inline bool file_can_write(const struct open_file *file)
{
    return ((file->flags & O_ACCMODE) == O_WRONLY || (file->flags & O_ACCMODE) == O_RDWR) && !(file->flags & O_PATH);
}
static inline bool writes_at_end(const struct open_file *file, const struct io_buffer *from)
{
    return ((file->flags & O_APPEND) || (from->flags & IO_APPEND)) && !(from->flags & IO_NO_APPEND);
}
/* How much of `size` bytes at `position` RLIMIT_FSIZE lets be written: -EFBIG (and SIGXFSZ) when none. */
int64_t file_size_allowed(const struct inode *inode, int64_t position, size_t size);
/* Zero bytes to the reader. Returns bytes or -EFAULT. */
int64_t io_zero_out(struct io_buffer *to, size_t size);
void io_skip(struct io_buffer *buffer, size_t size);

/* ---- open.c ---- */
int vfs_open_resolved(struct dentry *base, const char *path, unsigned flags, unsigned mode, unsigned lookup_flags, struct open_file **out_file);
/* Makes what `request` says (name and owner are filled in here) for the negative `child`. The directory's mutex is held; checks permission. */
int vfs_create_child(struct dentry *parent, struct dentry *child, struct node_request *request);
/* Writing by someone without CAP_FSETID clears the set-user-id bits. */
void inode_remove_privileges(struct inode *inode);

/* ---- namespace.c ---- */
unsigned process_umask(void);
int vfs_create(struct dentry *base, const char *path, unsigned lookup_flags, struct node_request *request, struct dentry **out_dentry);
int vfs_link(struct dentry *source, bool source_is_unnamed, struct dentry *base, const char *path);
int vfs_unlink(struct dentry *base, const char *path);
int vfs_rmdir(struct dentry *base, const char *path);
int vfs_rename(struct dentry *old_base, const char *old_path, struct dentry *new_base, const char *new_path, unsigned flags);

/* ---- directory.c: opening directories and getdents ---- */
extern const struct file_ops directory_file_ops;
int64_t directory_read(struct open_file *file, struct io_buffer *to, bool legacy); /* legacy: getdents, not getdents64 */

/* ---- locks.c ---- */
void locks_file_closed(struct open_file *file);                             /* flock and OFD locks of it */
void locks_process_closed(struct open_file *file, struct fd_table *table);  /* POSIX locks of the process on the inode */
void locks_inode_released(struct inode *inode);

#endif
