/* Changing attributes: chmod(2), chown(2), utime(2) and their kin, and extended attributes (xattr(7)). */
#include "personality/linux/fs/internal.h"
#include "personality/linux/process/process.h"
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/limits.h>
#include <linux/time.h>
#include <linux/utime.h>
#include <linux/xattr.h>

/* The dentry that (dirfd, path, AT_* flags) name, for calls with AT_EMPTY_PATH and AT_SYMLINK_NOFOLLOW. */
static int find(int directory_fd, const char *path, int flags, struct dentry **out_dentry)
{
    if (flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
        return -EINVAL;
    return vfs_lookup_at(directory_fd, path, (flags & AT_SYMLINK_NOFOLLOW ? 0 : LOOKUP_FOLLOW) | (flags & AT_EMPTY_PATH ? LOOKUP_EMPTY : 0), out_dentry);
}

static int find_by_fd(int fd, bool path_allowed, struct dentry **out_dentry)
{
    scoped_file file = fd_get(fd);

    if (!file || ((file->flags & O_PATH) && !path_allowed))
        return -EBADF;
    *out_dentry = dentry_ref(file->dentry);
    return 0;
}

/* ---- Mode ---- */

static bool in_group(const struct credentials *credentials, uint32_t group)
{
    if (credentials->fsgid == group)
        return true;
    for (uint32_t i = 0; i < credentials->group_count && i < 64; i++)
        if (credentials->groups[i] == group)
            return true;
    return false;
}

static int set_mode(struct dentry *dentry, unsigned mode)
{
    struct attribute_change change = { .mask = BLY_SET_MODE, .mode = mode & 07777 };
    int error = vfs_want_write(dentry);

    if (error < 0)
        return error;
    if (S_ISLNK(dentry->inode->mode))
        return -EOPNOTSUPP;
    if (!inode_owner_or_capable(dentry->inode))
        return -EPERM;
    if (!in_group(&lx_process()->credentials, dentry->inode->group) && !lx_capable(CAP_FSETID))
        change.mode &= ~(uint32_t)S_ISGID;
    return vfs_set_attributes(dentry, &change);
}

LX_SYSCALL(fchmodat2, int directory_fd, const char *path, unsigned mode, int flags)
{
    scoped_dentry dentry = NULL;
    int error = find(directory_fd, path, flags, &dentry);

    return error < 0 ? error : set_mode(dentry, mode);
}

LX_SYSCALL(fchmodat, int directory_fd, const char *path, unsigned mode)
{
    return lx_sys_fchmodat2(directory_fd, path, mode, 0);
}

LX_SYSCALL(chmod, const char *path, unsigned mode)
{
    return lx_sys_fchmodat2(AT_FDCWD, path, mode, 0);
}

LX_SYSCALL(fchmod, int fd, unsigned mode)
{
    scoped_dentry dentry = NULL;
    int error = find_by_fd(fd, /*path_allowed=*/false, &dentry);

    return error < 0 ? error : set_mode(dentry, mode);
}

/* ---- Owner ---- */

static int set_owner(struct dentry *dentry, uint32_t owner, uint32_t group)
{
    struct inode *inode = dentry->inode;
    const struct credentials *credentials = &lx_process()->credentials;
    struct attribute_change change = { .owner = owner, .group = group };
    int error = vfs_want_write(dentry);

    if (error < 0)
        return error;
    if (owner != UINT32_MAX) {
        change.mask |= BLY_SET_OWNER;
        if (!lx_capable(CAP_CHOWN) && (credentials->fsuid != inode->owner || owner != inode->owner))
            return -EPERM;
    }
    if (group != UINT32_MAX) {
        change.mask |= BLY_SET_GROUP;
        if (!lx_capable(CAP_CHOWN) && (credentials->fsuid != inode->owner || (!in_group(credentials, group) && group != inode->group)))
            return -EPERM;
    }
    /* chown(2): the set-id bits of files go, also when root does it. */
    if (!inode_is_directory(inode) && (inode->mode & (S_ISUID | S_ISGID))) {
        uint32_t mode = inode->mode & ~(uint32_t)S_ISUID;
        if (mode & 0010)
            mode &= ~(uint32_t)S_ISGID;
        if (mode != inode->mode) {
            change.mask |= BLY_SET_MODE;
            change.mode = mode & 07777;
        }
    }
    return vfs_set_attributes(dentry, &change);
}

LX_SYSCALL(fchownat, int directory_fd, const char *path, uint32_t owner, uint32_t group, int flags)
{
    scoped_dentry dentry = NULL;
    int error = find(directory_fd, path, flags, &dentry);

    return error < 0 ? error : set_owner(dentry, owner, group);
}

LX_SYSCALL(chown, const char *path, uint32_t owner, uint32_t group)
{
    return lx_sys_fchownat(AT_FDCWD, path, owner, group, 0);
}

LX_SYSCALL(lchown, const char *path, uint32_t owner, uint32_t group)
{
    return lx_sys_fchownat(AT_FDCWD, path, owner, group, AT_SYMLINK_NOFOLLOW);
}

LX_SYSCALL(fchown, int fd, uint32_t owner, uint32_t group)
{
    scoped_dentry dentry = NULL;
    int error = find_by_fd(fd, /*path_allowed=*/false, &dentry);

    return error < 0 ? error : set_owner(dentry, owner, group);
}

/* ---- Times ---- */

/* sys/stat.h of every C library */
#define UTIME_NOW ((1l << 30) - 1l)
#define UTIME_OMIT ((1l << 30) - 2l)

struct file_time { bool omit, now; int64_t ns; };

static int set_times(struct dentry *dentry, const struct file_time times[2])
{
    struct inode *inode = dentry->inode;
    struct attribute_change change = { 0 };
    int64_t now = (int64_t)lx_realtime_ns();
    int error;

    if (times[0].omit && times[1].omit)
        return 0;
    if ((error = vfs_want_write(dentry)) < 0)
        return error;
    if (!inode_owner_or_capable(inode)) {
        /* utimensat(2): who may write may set both to now, and nothing else. */
        if (!times[0].now || !times[1].now)
            return -EPERM;
        if ((error = inode_permission(inode, MAY_WRITE)) < 0)
            return error;
    }
    if (!times[0].omit) {
        change.mask |= BLY_SET_ACCESS_TIME;
        change.access_is_now = times[0].now;
        change.access_ns = times[0].now ? now : times[0].ns;
    }
    if (!times[1].omit) {
        change.mask |= BLY_SET_MODIFY_TIME;
        change.modify_is_now = times[1].now;
        change.modify_ns = times[1].now ? now : times[1].ns;
    }
    return vfs_set_attributes(dentry, &change);
}

static const struct file_time both_now[2] = { { .now = true }, { .now = true } };

/* Seconds beyond what 64 bits of nanoseconds hold are cut, as file systems cut theirs. */
static int64_t clamp_ns(int64_t seconds, int64_t nanoseconds)
{
    if (seconds > INT64_MAX / 1000000000 - 1)
        return INT64_MAX / 1000000000 * 1000000000;
    if (seconds < INT64_MIN / 1000000000 + 1)
        return INT64_MIN / 1000000000 * 1000000000;
    return seconds * 1000000000 + nanoseconds;
}

LX_SYSCALL(utimensat, int directory_fd, const char *path, const struct __kernel_timespec *guest, int flags)
{
    struct file_time times[2] = { both_now[0], both_now[1] };
    scoped_dentry dentry = NULL;
    int error;

    if (guest) {
        struct __kernel_timespec given[2];
        if (guest_read(given, guest, sizeof(given)) < 0)
            return -EFAULT;
        for (int i = 0; i < 2; i++) {
            times[i] = (struct file_time){ .omit = given[i].tv_nsec == UTIME_OMIT, .now = given[i].tv_nsec == UTIME_NOW };
            if (times[i].omit || times[i].now)
                continue;
            if (given[i].tv_nsec < 0 || given[i].tv_nsec > 999999999)
                return -EINVAL;
            times[i].ns = clamp_ns(given[i].tv_sec, given[i].tv_nsec);
        }
        if (times[0].omit && times[1].omit)
            return 0;
    }
    if (!path) { /* futimens */
        if (flags)
            return -EINVAL;
        error = find_by_fd(directory_fd, /*path_allowed=*/false, &dentry);
    } else {
        error = find(directory_fd, path, flags, &dentry);
    }
    return error < 0 ? error : set_times(dentry, times);
}

/* The older calls, with microseconds or whole seconds. */
static long set_times_us(int directory_fd, const char *path, const struct __kernel_old_timeval *guest)
{
    struct file_time times[2] = { both_now[0], both_now[1] };
    scoped_dentry dentry = NULL;
    int error;

    if (guest) {
        struct __kernel_old_timeval given[2];
        if (guest_read(given, guest, sizeof(given)) < 0)
            return -EFAULT;
        for (int i = 0; i < 2; i++) {
            if (given[i].tv_usec < 0 || given[i].tv_usec > 999999)
                return -EINVAL;
            times[i] = (struct file_time){ .ns = clamp_ns(given[i].tv_sec, given[i].tv_usec * 1000) };
        }
    }
    if (!path && directory_fd != AT_FDCWD)
        error = find_by_fd(directory_fd, false, &dentry);
    else
        error = find(directory_fd, path, 0, &dentry);
    return error < 0 ? error : set_times(dentry, times);
}

LX_SYSCALL(futimesat, int directory_fd, const char *path, const struct __kernel_old_timeval *times)
{
    return set_times_us(directory_fd, path, times);
}

LX_SYSCALL(utimes, const char *path, const struct __kernel_old_timeval *times)
{
    return set_times_us(AT_FDCWD, path, times);
}

LX_SYSCALL(utime, const char *path, const struct utimbuf *guest)
{
    struct file_time times[2] = { both_now[0], both_now[1] };
    scoped_dentry dentry = NULL;

    if (guest) {
        struct utimbuf given;
        if (guest_read(&given, guest, sizeof(given)) < 0)
            return -EFAULT;
        times[0] = (struct file_time){ .ns = clamp_ns(given.actime, 0) };
        times[1] = (struct file_time){ .ns = clamp_ns(given.modtime, 0) };
    }
    int error = find(AT_FDCWD, path, 0, &dentry);
    return error < 0 ? error : set_times(dentry, times);
}

/* ---- Extended attributes ---- */

static int read_name(char name[XATTR_NAME_MAX + 1], const char *guest)
{
    int64_t size = guest_read_string(name, guest, XATTR_NAME_MAX + 1);

    if (size == -ENAMETOOLONG || size == 0)
        return -ERANGE;
    return size < 0 ? (int)size : 0;
}

static bool in_space(const char *name, const char *space)
{
    return strncmp(name, space, strlen(space)) == 0;
}

/* xattr(7): who may use which name space on what. */
static int check_space(const struct inode *inode, const char *name, bool writing)
{
    if (in_space(name, XATTR_USER_PREFIX)) {
        if (!S_ISREG(inode->mode) && !inode_is_directory(inode))
            return writing ? -EPERM : -ENODATA;
        if (writing && inode_is_directory(inode) && (inode->mode & S_ISVTX) && !inode_owner_or_capable(inode))
            return -EPERM;
        return inode_permission(inode, writing ? MAY_WRITE : MAY_READ);
    }
    if (in_space(name, XATTR_TRUSTED_PREFIX))
        return lx_capable(CAP_SYS_ADMIN) ? 0 : writing ? -EPERM : -ENODATA;
    if (in_space(name, XATTR_SECURITY_PREFIX))
        return writing && !lx_capable(CAP_SYS_ADMIN) ? -EPERM : 0;
    return -EOPNOTSUPP; /* system.posix_acl_* and what nobody knows */
}

static long get_xattr(struct dentry *dentry, const char *guest_name, void *guest_value, uint64_t size)
{
    struct inode *inode = dentry->inode;
    char name[XATTR_NAME_MAX + 1];
    int error = read_name(name, guest_name);

    if (error < 0 || (error = check_space(inode, name, /*writing=*/false)) < 0)
        return error;
    if (!inode->ops->get_xattr)
        return -EOPNOTSUPP;
    if (size > XATTR_SIZE_MAX)
        size = XATTR_SIZE_MAX;
    void *value = size ? heap_alloc(size) : NULL;
    if (size && !value)
        return -ENOMEM;
    int64_t result = inode->ops->get_xattr(inode, name, value, size);
    if (result > 0 && size && guest_write(guest_value, value, (size_t)result) < 0)
        result = -EFAULT;
    heap_free(value);
    return result;
}

static long set_xattr(struct dentry *dentry, const char *guest_name, const void *guest_value, uint64_t size, int flags)
{
    struct inode *inode = dentry->inode;
    char name[XATTR_NAME_MAX + 1];
    int error;

    if (flags & ~(XATTR_CREATE | XATTR_REPLACE))
        return -EINVAL;
    if ((error = read_name(name, guest_name)) < 0)
        return error;
    if (size > XATTR_SIZE_MAX)
        return -E2BIG;
    void *value = heap_alloc(size ? size : 1);
    if (!value)
        return -ENOMEM;
    if (size && guest_read(value, guest_value, size) < 0)
        error = -EFAULT;
    else if ((error = vfs_want_write(dentry)) == 0 && (error = check_space(inode, name, /*writing=*/true)) == 0)
        error = inode->ops->set_xattr ? inode->ops->set_xattr(inode, name, value, size, (unsigned)flags) : -EOPNOTSUPP;
    heap_free(value);
    return error;
}

static long remove_xattr(struct dentry *dentry, const char *guest_name)
{
    struct inode *inode = dentry->inode;
    char name[XATTR_NAME_MAX + 1];
    int error = read_name(name, guest_name);

    if (error < 0 || (error = vfs_want_write(dentry)) < 0 || (error = check_space(inode, name, true)) < 0)
        return error;
    return inode->ops->set_xattr ? inode->ops->set_xattr(inode, name, NULL, 0, 0) : -EOPNOTSUPP;
}

static long list_xattr(struct dentry *dentry, char *guest, uint64_t size)
{
    struct inode *inode = dentry->inode;

    if (!inode->ops->list_xattr)
        return 0;
    if (size > XATTR_LIST_MAX)
        size = XATTR_LIST_MAX;
    char *names = size ? heap_alloc(size) : NULL;
    if (size && !names)
        return -ENOMEM;
    int64_t result = inode->ops->list_xattr(inode, names, size);
    if (result > 0 && size && guest_write(guest, names, (size_t)result) < 0)
        result = -EFAULT;
    heap_free(names);
    return result;
}

/* Each of the four exists by path, by path without following a link, and by descriptor. */
LX_SYSCALL(getxattr, const char *path, const char *name, void *value, uint64_t size)
{
    scoped_dentry dentry = NULL;
    int error = vfs_lookup_at(AT_FDCWD, path, LOOKUP_FOLLOW, &dentry);

    return error < 0 ? error : get_xattr(dentry, name, value, size);
}

LX_SYSCALL(lgetxattr, const char *path, const char *name, void *value, uint64_t size)
{
    scoped_dentry dentry = NULL;
    int error = vfs_lookup_at(AT_FDCWD, path, 0, &dentry);

    return error < 0 ? error : get_xattr(dentry, name, value, size);
}

LX_SYSCALL(fgetxattr, int fd, const char *name, void *value, uint64_t size)
{
    scoped_dentry dentry = NULL;
    int error = find_by_fd(fd, false, &dentry);

    return error < 0 ? error : get_xattr(dentry, name, value, size);
}

LX_SYSCALL(setxattr, const char *path, const char *name, const void *value, uint64_t size, int flags)
{
    scoped_dentry dentry = NULL;
    int error = vfs_lookup_at(AT_FDCWD, path, LOOKUP_FOLLOW, &dentry);

    return error < 0 ? error : set_xattr(dentry, name, value, size, flags);
}

LX_SYSCALL(lsetxattr, const char *path, const char *name, const void *value, uint64_t size, int flags)
{
    scoped_dentry dentry = NULL;
    int error = vfs_lookup_at(AT_FDCWD, path, 0, &dentry);

    return error < 0 ? error : set_xattr(dentry, name, value, size, flags);
}

LX_SYSCALL(fsetxattr, int fd, const char *name, const void *value, uint64_t size, int flags)
{
    scoped_dentry dentry = NULL;
    int error = find_by_fd(fd, false, &dentry);

    return error < 0 ? error : set_xattr(dentry, name, value, size, flags);
}

LX_SYSCALL(listxattr, const char *path, char *list, uint64_t size)
{
    scoped_dentry dentry = NULL;
    int error = vfs_lookup_at(AT_FDCWD, path, LOOKUP_FOLLOW, &dentry);

    return error < 0 ? error : list_xattr(dentry, list, size);
}

LX_SYSCALL(llistxattr, const char *path, char *list, uint64_t size)
{
    scoped_dentry dentry = NULL;
    int error = vfs_lookup_at(AT_FDCWD, path, 0, &dentry);

    return error < 0 ? error : list_xattr(dentry, list, size);
}

LX_SYSCALL(flistxattr, int fd, char *list, uint64_t size)
{
    scoped_dentry dentry = NULL;
    int error = find_by_fd(fd, false, &dentry);

    return error < 0 ? error : list_xattr(dentry, list, size);
}

LX_SYSCALL(removexattr, const char *path, const char *name)
{
    scoped_dentry dentry = NULL;
    int error = vfs_lookup_at(AT_FDCWD, path, LOOKUP_FOLLOW, &dentry);

    return error < 0 ? error : remove_xattr(dentry, name);
}

LX_SYSCALL(lremovexattr, const char *path, const char *name)
{
    scoped_dentry dentry = NULL;
    int error = vfs_lookup_at(AT_FDCWD, path, 0, &dentry);

    return error < 0 ? error : remove_xattr(dentry, name);
}

LX_SYSCALL(fremovexattr, int fd, const char *name)
{
    scoped_dentry dentry = NULL;
    int error = find_by_fd(fd, false, &dentry);

    return error < 0 ? error : remove_xattr(dentry, name);
}
