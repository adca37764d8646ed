/* System calls that look at files by name, and change names: stat(2), access(2), readlink(2), mkdir(2), rename(2) and their kin; working
 * directory, root and umask; getdents(2). */
#include "personality/linux/fs/internal.h"
#include "personality/linux/fs/walk.h"
#include "personality/linux/process/process.h"
#include <asm/stat.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/mount.h>

/* ---- stat ---- */

static void fill_stat(const struct stat_data *data, struct stat *out)
{
    *out = (struct stat){
        .st_dev = data->device,
        .st_ino = data->number,
        .st_nlink = data->link_count,
        .st_mode = data->mode,
        .st_uid = data->owner,
        .st_gid = data->group,
        .st_rdev = data->node_device,
        .st_size = (long)data->size,
        .st_blksize = data->block_size,
        .st_blocks = (long)data->blocks,
        .st_atime = (uint64_t)(data->access_ns / 1000000000),
        .st_atime_nsec = (uint64_t)(data->access_ns % 1000000000),
        .st_mtime = (uint64_t)(data->modify_ns / 1000000000),
        .st_mtime_nsec = (uint64_t)(data->modify_ns % 1000000000),
        .st_ctime = (uint64_t)(data->change_ns / 1000000000),
        .st_ctime_nsec = (uint64_t)(data->change_ns % 1000000000),
    };
}

/* Times before 1970 have positive nanoseconds. */
static void fix_times(struct stat *out)
{
    if ((int64_t)out->st_atime_nsec < 0)
        out->st_atime--, out->st_atime_nsec += 1000000000;
    if ((int64_t)out->st_mtime_nsec < 0)
        out->st_mtime--, out->st_mtime_nsec += 1000000000;
    if ((int64_t)out->st_ctime_nsec < 0)
        out->st_ctime--, out->st_ctime_nsec += 1000000000;
}

static long give_stat(const struct stat_data *data, struct stat *guest)
{
    struct stat out;

    fill_stat(data, &out);
    fix_times(&out);
    return guest_write(guest, &out, sizeof(out)) < 0 ? -EFAULT : 0;
}

/* Attributes by path, without taking a reference where the file system need not be asked. */
static int stat_path(struct dentry *base, const char *path, unsigned flags, struct stat_data *out, struct mount **out_mount, bool *out_is_root)
{
    struct walk walk;
    int error = walk_begin(&walk, base, path, flags);

    if (error < 0)
        return error;
    if (out_mount) {
        *out_mount = walk.at->mount;
        *out_is_root = walk.at == walk.at->mount->root;
    }
    if (!walk.at->inode->ops->refresh || walk.fresh) {
        error = vfs_stat(walk.at->inode, out);
        walk_end(&walk);
        return error;
    }
    struct inode *inode = inode_ref(walk.at->inode);
    walk_end(&walk);
    error = inode->ops->refresh(inode);
    if (error == 0)
        error = vfs_stat(inode, out);
    inode_unref(inode);
    return error;
}

static int stat_file(struct open_file *file, struct stat_data *out)
{
    struct inode *inode = file->inode;
    int error = inode->ops->refresh ? inode->ops->refresh(inode) : 0;

    return error < 0 ? error : vfs_stat(inode, out);
}

/* The attributes that (dirfd, path, AT_* flags) name. */
static int stat_at(int directory_fd, const char *guest_path, int flags, struct stat_data *out, struct mount **out_mount, bool *out_is_root)
{
    char path[LX_PATH_MAX];
    scoped_file file = NULL;
    int64_t size;

    if ((flags & AT_EMPTY_PATH) && !guest_path)
        size = 0, path[0] = 0; /* since Linux 6.11 */
    else if ((size = vfs_get_path(path, guest_path)) < 0)
        return (int)size;
    if (size == 0 && !(flags & AT_EMPTY_PATH))
        return -ENOENT;
    if (path[0] != '/' && directory_fd != AT_FDCWD) {
        if (!(file = fd_get(directory_fd)))
            return -EBADF;
        if (size == 0) {
            if (out_mount) {
                *out_mount = file->dentry->mount;
                *out_is_root = file->dentry == file->dentry->mount->root;
            }
            return stat_file(file, out);
        }
    }
    return stat_path(file ? file->dentry : NULL, path, (flags & AT_SYMLINK_NOFOLLOW ? 0 : LOOKUP_FOLLOW) | LOOKUP_EMPTY, out, out_mount, out_is_root);
}

LX_SYSCALL(stat, const char *path, struct stat *guest)
{
    struct stat_data data;
    int error = stat_at(AT_FDCWD, path, 0, &data, NULL, NULL);

    return error < 0 ? error : give_stat(&data, guest);
}

LX_SYSCALL(lstat, const char *path, struct stat *guest)
{
    struct stat_data data;
    int error = stat_at(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, &data, NULL, NULL);

    return error < 0 ? error : give_stat(&data, guest);
}

LX_SYSCALL(fstat, int fd, struct stat *guest)
{
    scoped_file file = fd_get(fd);
    struct stat_data data;

    if (!file)
        return -EBADF;
    int error = stat_file(file, &data);
    return error < 0 ? error : give_stat(&data, guest);
}

LX_SYSCALL(newfstatat, int directory_fd, const char *path, struct stat *guest, int flags)
{
    struct stat_data data;

    if (flags & ~(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE))
        return -EINVAL;
    int error = stat_at(directory_fd, path, flags, &data, NULL, NULL);
    return error < 0 ? error : give_stat(&data, guest);
}

static struct statx_timestamp statx_time(int64_t ns)
{
    struct statx_timestamp time = { .tv_sec = ns / 1000000000, .tv_nsec = (uint32_t)(ns % 1000000000) };

    if (ns % 1000000000 < 0) {
        time.tv_sec--;
        time.tv_nsec = (uint32_t)(ns % 1000000000 + 1000000000);
    }
    return time;
}

LX_SYSCALL(statx, int directory_fd, const char *path, int flags, unsigned mask, struct statx *guest)
{
    struct stat_data data;
    struct mount *mount;
    bool is_root;

    if (mask & STATX__RESERVED || (flags & AT_STATX_SYNC_TYPE) == AT_STATX_SYNC_TYPE)
        return -EINVAL;
    if (flags & ~(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE))
        return -EINVAL;
    int error = stat_at(directory_fd, path, flags, &data, &mount, &is_root);
    if (error < 0)
        return error;
    struct statx out = {
        .stx_mask = STATX_BASIC_STATS | STATX_MNT_ID | (data.birth_ns ? STATX_BTIME : 0),
        .stx_blksize = data.block_size,
        .stx_attributes = is_root ? STATX_ATTR_MOUNT_ROOT : 0,
        .stx_attributes_mask = STATX_ATTR_MOUNT_ROOT,
        .stx_nlink = data.link_count,
        .stx_uid = data.owner,
        .stx_gid = data.group,
        .stx_mode = (uint16_t)data.mode,
        .stx_ino = data.number,
        .stx_size = data.size,
        .stx_blocks = data.blocks,
        .stx_atime = statx_time(data.access_ns),
        .stx_mtime = statx_time(data.modify_ns),
        .stx_ctime = statx_time(data.change_ns),
        .stx_btime = statx_time(data.birth_ns),
        .stx_rdev_major = lx_major(data.node_device),
        .stx_rdev_minor = lx_minor(data.node_device),
        .stx_dev_major = lx_major(data.device),
        .stx_dev_minor = lx_minor(data.device),
        .stx_mnt_id = mount->id,
    };
    return guest_write(guest, &out, sizeof(out)) < 0 ? -EFAULT : 0;
}

/* ---- access ---- */

static long check_access(int directory_fd, const char *path, int mode, int flags)
{
    scoped_dentry dentry = NULL;

    if (mode & ~7 || flags & ~(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
        return -EINVAL;
    const struct credentials *own = &lx_process()->credentials;
    struct credentials real;
    /* access(2) asks for the real ids, and a process without root's real id then has no capabilities. */
    if (!(flags & AT_EACCESS) && (own->fsuid != own->uid || own->fsgid != own->gid)) {
        real = *own;
        real.fsuid = own->uid;
        real.fsgid = own->gid;
        real.cap_effective = own->uid ? 0 : own->cap_permitted;
        lx_current()->access_credentials = &real;
    }
    int error = vfs_lookup_at(directory_fd, path, (flags & AT_SYMLINK_NOFOLLOW ? 0 : LOOKUP_FOLLOW) | (flags & AT_EMPTY_PATH ? LOOKUP_EMPTY : 0), &dentry);
    if (error == 0 && mode) {
        unsigned type = dentry->inode->mode & S_IFMT;
        if ((mode & MAY_EXECUTE) && type == S_IFREG && (dentry->mount->flags & MS_NOEXEC))
            error = -EACCES;
        else
            error = inode_permission(dentry->inode, (unsigned)mode);
        if (error == 0 && (mode & MAY_WRITE) && (type == S_IFREG || type == S_IFDIR || type == S_IFLNK))
            error = vfs_is_read_only(dentry) ? -EROFS : 0;
    }
    lx_current()->access_credentials = NULL;
    return error;
}

LX_SYSCALL(access, const char *path, int mode)
{
    return check_access(AT_FDCWD, path, mode, 0);
}

LX_SYSCALL(faccessat, int directory_fd, const char *path, int mode)
{
    return check_access(directory_fd, path, mode, 0);
}

LX_SYSCALL(faccessat2, int directory_fd, const char *path, int mode, int flags)
{
    return check_access(directory_fd, path, mode, flags);
}

/* ---- Links' text ---- */

static long read_link_at(int directory_fd, const char *path, char *guest, int size)
{
    scoped_dentry dentry = NULL;
    char first;
    bool empty = guest_read(&first, path, 1) == 0 && first == 0;

    if (size <= 0)
        return -EINVAL;
    int error = vfs_lookup_at(directory_fd, path, LOOKUP_EMPTY, &dentry);
    if (error < 0)
        return error;
    struct inode *inode = dentry->inode;
    if (!S_ISLNK(inode->mode))
        return empty ? -ENOENT : -EINVAL;
    if (inode->ops->read_link && (error = inode->ops->read_link(inode)) < 0)
        return error;
    if (!inode->link_text)
        return -EINVAL;
    size_t length = strlen(inode->link_text);
    if (length > (size_t)size)
        length = (size_t)size;
    return guest_write(guest, inode->link_text, length) < 0 ? -EFAULT : (long)length;
}

LX_SYSCALL(readlink, const char *path, char *buffer, int size)
{
    return read_link_at(AT_FDCWD, path, buffer, size);
}

LX_SYSCALL(readlinkat, int directory_fd, const char *path, char *buffer, int size)
{
    return read_link_at(directory_fd, path, buffer, size);
}

/* ---- Making and removing names ---- */

/* A (dirfd, path) pair out of the guest. The base is NULL for absolute paths and AT_FDCWD. */
struct path_argument { char path[LX_PATH_MAX]; struct dentry *base; };

static int path_begin(struct path_argument *argument, int directory_fd, const char *guest)
{
    int64_t size = vfs_get_path(argument->path, guest);

    argument->base = NULL;
    if (size < 0)
        return (int)size;
    if (size == 0)
        return -ENOENT;
    if (argument->path[0] != '/' && directory_fd != AT_FDCWD)
        return vfs_base_at(directory_fd, &argument->base);
    return 0;
}

static void path_end(struct path_argument *argument)
{
    dentry_unref(argument->base);
}

static long make(int directory_fd, const char *guest, struct node_request *request)
{
    struct path_argument argument;
    int error = path_begin(&argument, directory_fd, guest);

    if (error == 0)
        error = vfs_create(argument.base, argument.path, 0, request, NULL);
    path_end(&argument);
    return error;
}

LX_SYSCALL(mkdirat, int directory_fd, const char *path, unsigned mode)
{
    struct node_request request = { .mode = S_IFDIR | (mode & 01777 & ~process_umask()) };

    return make(directory_fd, path, &request);
}

LX_SYSCALL(mkdir, const char *path, unsigned mode)
{
    return lx_sys_mkdirat(AT_FDCWD, path, mode);
}

LX_SYSCALL(mknodat, int directory_fd, const char *path, unsigned mode, unsigned device)
{
    struct node_request request = { .mode = (mode & S_IFMT) | (mode & 07777 & ~process_umask()) };

    switch (mode & S_IFMT) {
    case 0:
        request.mode |= S_IFREG;
        break;
    case S_IFREG:
    case S_IFIFO:
    case S_IFSOCK:
        break;
    case S_IFCHR:
    case S_IFBLK:
        if (!lx_capable(CAP_MKNOD))
            return -EPERM;
        request.device = lx_makedev((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
        break;
    case S_IFDIR:
        return -EPERM;
    default:
        return -EINVAL;
    }
    return make(directory_fd, path, &request);
}

LX_SYSCALL(mknod, const char *path, unsigned mode, unsigned device)
{
    return lx_sys_mknodat(AT_FDCWD, path, mode, device);
}

LX_SYSCALL(symlinkat, const char *guest_target, int directory_fd, const char *path)
{
    char target[LX_PATH_MAX];
    int64_t size = vfs_get_path(target, guest_target);
    struct node_request request = { .mode = S_IFLNK | 0777, .target = target };

    if (size < 0)
        return size;
    return size == 0 ? -ENOENT : make(directory_fd, path, &request);
}

LX_SYSCALL(symlink, const char *target, const char *path)
{
    return lx_sys_symlinkat(target, AT_FDCWD, path);
}

LX_SYSCALL(linkat, int old_fd, const char *old_path, int new_fd, const char *new_path, int flags)
{
    scoped_dentry source = NULL;
    struct path_argument argument;
    bool unnamed = false;

    if (flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH))
        return -EINVAL;
    if ((flags & AT_EMPTY_PATH) && !lx_capable(CAP_DAC_READ_SEARCH))
        return -ENOENT;
    int error = vfs_lookup_at(old_fd, old_path, (flags & AT_SYMLINK_FOLLOW ? LOOKUP_FOLLOW : 0) | (flags & AT_EMPTY_PATH ? LOOKUP_EMPTY : 0), &source);
    if (error < 0)
        return error;
    /* O_TMPFILE without O_EXCL: named through /proc/self/fd or its own descriptor. */
    unnamed = source->inode->link_count == 0 && (source->flags & DENTRY_UNNAMED);
    if ((error = path_begin(&argument, new_fd, new_path)) == 0)
        error = vfs_link(source, unnamed, argument.base, argument.path);
    path_end(&argument);
    return error;
}

LX_SYSCALL(link, const char *old_path, const char *new_path)
{
    return lx_sys_linkat(AT_FDCWD, old_path, AT_FDCWD, new_path, 0);
}

LX_SYSCALL(unlinkat, int directory_fd, const char *path, int flags)
{
    struct path_argument argument;

    if (flags & ~AT_REMOVEDIR)
        return -EINVAL;
    int error = path_begin(&argument, directory_fd, path);
    if (error == 0)
        error = flags & AT_REMOVEDIR ? vfs_rmdir(argument.base, argument.path) : vfs_unlink(argument.base, argument.path);
    path_end(&argument);
    return error;
}

LX_SYSCALL(unlink, const char *path)
{
    return lx_sys_unlinkat(AT_FDCWD, path, 0);
}

LX_SYSCALL(rmdir, const char *path)
{
    return lx_sys_unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

LX_SYSCALL(renameat2, int old_fd, const char *old_path, int new_fd, const char *new_path, unsigned flags)
{
    struct path_argument from, to = { .base = NULL };

    if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT))
        return -EINVAL;
    if ((flags & RENAME_EXCHANGE) && (flags & (RENAME_NOREPLACE | RENAME_WHITEOUT)))
        return -EINVAL;
    if ((flags & RENAME_WHITEOUT) && !lx_capable(CAP_MKNOD))
        return -EPERM;
    int error = path_begin(&from, old_fd, old_path);
    if (error == 0 && (error = path_begin(&to, new_fd, new_path)) == 0)
        error = vfs_rename(from.base, from.path, to.base, to.path, flags);
    path_end(&from);
    path_end(&to);
    return error;
}

LX_SYSCALL(renameat, int old_fd, const char *old_path, int new_fd, const char *new_path)
{
    return lx_sys_renameat2(old_fd, old_path, new_fd, new_path, 0);
}

LX_SYSCALL(rename, const char *old_path, const char *new_path)
{
    return lx_sys_renameat2(AT_FDCWD, old_path, AT_FDCWD, new_path, 0);
}

/* ---- Where a process is ---- */

LX_SYSCALL(getcwd, char *guest, uint64_t size)
{
    char *buffer = heap_alloc(LX_PATH_MAX);
    scoped_dentry directory = NULL;
    long result;

    if (!buffer)
        return -ENOMEM;
    if (vfs_base_at(AT_FDCWD, &directory) < 0) { /* never for AT_FDCWD */
        heap_free(buffer);
        return -ENOENT;
    }
    if (directory->flags & DENTRY_DELETED) {
        result = -ENOENT;
    } else {
        int length = dentry_path(directory, NULL, buffer, LX_PATH_MAX, false);
        if (length < 0)
            result = -ENAMETOOLONG;
        else if ((uint64_t)length + 1 > size)
            result = -ERANGE;
        else
            result = guest_write(guest, buffer, (size_t)length + 1) < 0 ? -EFAULT : length + 1;
    }
    heap_free(buffer);
    return result;
}

static int enter(struct dentry *directory)
{
    int error = inode_is_directory(directory->inode) ? inode_permission(directory->inode, MAY_EXECUTE) : -ENOTDIR;

    return error < 0 ? error : filesystem_context_set_directory(lx_process()->fs, directory);
}

LX_SYSCALL(chdir, const char *path)
{
    scoped_dentry directory = NULL;
    int error = vfs_lookup_at(AT_FDCWD, path, LOOKUP_FOLLOW | LOOKUP_DIRECTORY, &directory);

    return error < 0 ? error : enter(directory);
}

LX_SYSCALL(fchdir, int fd)
{
    scoped_file file = fd_get(fd);

    return file ? enter(file->dentry) : -EBADF;
}

LX_SYSCALL(chroot, const char *path)
{
    scoped_dentry directory = NULL;
    int error = vfs_lookup_at(AT_FDCWD, path, LOOKUP_FOLLOW | LOOKUP_DIRECTORY, &directory);

    if (error < 0 || (error = inode_permission(directory->inode, MAY_EXECUTE)) < 0)
        return error;
    return lx_capable(CAP_SYS_CHROOT) ? filesystem_context_set_root(lx_process()->fs, directory) : -EPERM;
}

LX_SYSCALL(umask, unsigned mask)
{
    struct filesystem_context *context = lx_process()->fs;

    scoped_lock(&context->lock);
    unsigned old = context->umask;
    context->umask = mask & 0777;
    return old;
}

/* ---- Directories ---- */

static long read_directory(int fd, void *guest, unsigned size, bool legacy)
{
    scoped_file file = fd_get(fd);
    struct bly_iovec part = { guest, size };
    struct io_buffer to = { .vector = &part, .count = 1, .size = size };

    if (!file || (file->flags & O_PATH))
        return -EBADF;
    if (!file->ops->enumerate)
        return -ENOTDIR;
    if (!guest_range_valid(guest, size))
        return -EFAULT;
    int64_t result = legacy ? directory_read(file, &to, true) : file->ops->enumerate(file, &to);
    if (result > 0 && file->inode->watches)
        notify_event(file->inode, file->dentry, 0x1 /* IN_ACCESS */ | 0x40000000, 0, NULL, 0);
    return result;
}

LX_SYSCALL(getdents64, int fd, void *buffer, unsigned size)
{
    return read_directory(fd, buffer, size, /*legacy=*/false);
}

LX_SYSCALL(getdents, int fd, void *buffer, unsigned size)
{
    return read_directory(fd, buffer, size, /*legacy=*/true);
}
