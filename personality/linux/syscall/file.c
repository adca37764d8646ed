/* Opening, closing and duplicating descriptors, fcntl(2), ioctl(2), flock(2). */
#include "personality/linux/fs/internal.h"
#include "personality/linux/fs/locks.h"
#include "personality/linux/mm/memfd.h"
#include "personality/linux/process/process.h"
#include <asm/ioctls.h>
#include <asm/resource.h>
#include <linux/close_range.h>
#include <linux/fs.h>
#include <linux/openat2.h>

#ifndef F_DUPFD_QUERY
#define F_DUPFD_QUERY (F_LINUX_SPECIFIC_BASE + 3) /* since Linux 6.10 */
#endif

/* ---- Opening ---- */

#define KNOWN_FLAGS ((uint64_t)(O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND | O_NONBLOCK | O_SYNC | O_DSYNC | FASYNC | O_DIRECT | \
                                O_LARGEFILE | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC | O_PATH | __O_TMPFILE))

/* Which combinations of flags mean something (build_open_flags of Linux). */
static int check_flags(unsigned *flags)
{
    if (*flags & O_PATH)
        *flags &= O_DIRECTORY | O_NOFOLLOW | O_PATH | O_CLOEXEC;
    if ((*flags & (O_CREAT | O_DIRECTORY)) == (O_CREAT | O_DIRECTORY) && !(*flags & __O_TMPFILE))
        return -EINVAL;
    if (*flags & __O_TMPFILE) {
        if (!(*flags & O_DIRECTORY) || (*flags & O_CREAT))
            return -EINVAL;
        if ((*flags & O_ACCMODE) == O_RDONLY)
            return -EINVAL;
    }
    if (*flags & O_SYNC & ~O_DSYNC)
        *flags |= O_DSYNC;
    return 0;
}

static long do_open(int directory_fd, const char *guest_path, unsigned flags, unsigned mode, unsigned lookup_flags)
{
    char path[LX_PATH_MAX];
    scoped_dentry base = NULL;
    struct open_file *file;
    int error = check_flags(&flags);

    if (error < 0)
        return error;
    int64_t size = vfs_get_path(path, guest_path);
    if (size < 0)
        return size;
    if ((path[0] != '/' && directory_fd != AT_FDCWD) || (lookup_flags & (LOOKUP_IN_ROOT | LOOKUP_BENEATH)))
        if ((error = vfs_base_at(directory_fd, &base)) < 0)
            return error;
    error = vfs_open_resolved(base, path, flags, mode & 07777, lookup_flags, &file);
    if (error < 0)
        return error;
    if (!(flags & O_PATH))
        file->flags |= O_LARGEFILE;
    int fd = fd_install(file, 0, flags & O_CLOEXEC);
    if (fd < 0)
        file_unref(file);
    return fd;
}

LX_SYSCALL(open, const char *path, int flags, unsigned mode)
{
    return do_open(AT_FDCWD, path, (unsigned)(flags & (int)KNOWN_FLAGS), mode, 0);
}

LX_SYSCALL(openat, int directory_fd, const char *path, int flags, unsigned mode)
{
    return do_open(directory_fd, path, (unsigned)(flags & (int)KNOWN_FLAGS), mode, 0);
}

LX_SYSCALL(creat, const char *path, unsigned mode)
{
    return do_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode, 0);
}

LX_SYSCALL(openat2, int directory_fd, const char *path, const struct open_how *guest_how, uint64_t size)
{
    static const struct { uint64_t resolve; unsigned lookup; } flags[] = {
        { RESOLVE_NO_XDEV, LOOKUP_NO_CROSS_MOUNT }, { RESOLVE_NO_MAGICLINKS, LOOKUP_NO_MAGIC_LINKS },
        { RESOLVE_NO_SYMLINKS, LOOKUP_NO_SYMLINKS | LOOKUP_NO_MAGIC_LINKS }, { RESOLVE_BENEATH, LOOKUP_BENEATH },
        { RESOLVE_IN_ROOT, LOOKUP_IN_ROOT }, { RESOLVE_CACHED, 0 },
    };
    struct open_how how;
    unsigned lookup = 0;

    if (size < sizeof(how))
        return -EINVAL;
    if (size > BLY_PAGE_SIZE)
        return -E2BIG;
    if (guest_read(&how, guest_how, sizeof(how)) < 0)
        return -EFAULT;
    for (uint64_t at = sizeof(how); at < size; at += 8) { /* a larger struct is understood as far as its rest is zero */
        uint64_t rest = 0;
        if (guest_read(&rest, (const char *)guest_how + at, size - at < 8 ? size - at : 8) < 0)
            return -EFAULT;
        if (rest)
            return -E2BIG;
    }
    if (how.flags & ~KNOWN_FLAGS || how.mode & ~07777ull || (how.mode && !(how.flags & (O_CREAT | __O_TMPFILE))))
        return -EINVAL;
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
        if (how.resolve & flags[i].resolve) {
            lookup |= flags[i].lookup;
            how.resolve &= ~flags[i].resolve;
        }
    if (how.resolve || (lookup & (LOOKUP_BENEATH | LOOKUP_IN_ROOT)) == (LOOKUP_BENEATH | LOOKUP_IN_ROOT))
        return -EINVAL;
    if ((how.flags & O_PATH) && how.flags & ~(uint64_t)(O_DIRECTORY | O_NOFOLLOW | O_PATH | O_CLOEXEC))
        return -EINVAL;
    return do_open(directory_fd, path, (unsigned)how.flags, (unsigned)how.mode, lookup);
}

/* ---- Closing and duplicating ---- */

LX_SYSCALL(close, int fd)
{
    return fd_close(fd);
}

LX_SYSCALL(close_range, unsigned first, unsigned last, unsigned flags)
{
    if (flags & ~(unsigned)(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) || first > last)
        return -EINVAL;
    if (flags & CLOSE_RANGE_UNSHARE) {
        int error = fd_unshare();
        if (error < 0)
            return error;
    }
    if (flags & CLOSE_RANGE_CLOEXEC)
        (void)fd_set_close_on_exec(first, last, true);
    else
        fd_table_close_range(lx_process()->files, first, last);
    return 0;
}

static long duplicate(int fd, int minimum, bool close_on_exec)
{
    struct open_file *file = fd_get(fd);

    if (!file)
        return -EBADF;
    int copy = fd_install(file, minimum, close_on_exec);
    if (copy < 0)
        file_unref(file);
    return copy;
}

static long duplicate_to(int fd, int to, bool close_on_exec)
{
    struct open_file *file = fd_get(fd);

    if (!file)
        return -EBADF;
    int result = fd_replace(to, file, close_on_exec);
    if (result < 0)
        file_unref(file);
    return result;
}

LX_SYSCALL(dup, int fd)
{
    return duplicate(fd, 0, false);
}

LX_SYSCALL(dup2, int fd, int to)
{
    if (fd == to) {
        scoped_file file = fd_get(fd);
        return file ? to : -EBADF;
    }
    return duplicate_to(fd, to, false);
}

LX_SYSCALL(dup3, int fd, int to, int flags)
{
    if (flags & ~O_CLOEXEC || fd == to)
        return -EINVAL;
    return duplicate_to(fd, to, flags & O_CLOEXEC);
}

/* ---- fcntl ---- */

#define CHANGEABLE_FLAGS ((unsigned)(O_APPEND | O_NONBLOCK | O_NDELAY | O_DIRECT | FASYNC | O_NOATIME))

static int set_flags(struct open_file *file, unsigned flags)
{
    if ((flags & O_NOATIME) && !(file->flags & O_NOATIME) && !inode_owner_or_capable(file->inode))
        return -EPERM;
    if (file->ops->set_flags) {
        int error = file->ops->set_flags(file, (file->flags & ~CHANGEABLE_FLAGS) | (flags & CHANGEABLE_FLAGS));
        if (error < 0)
            return error;
    }
    scoped_lock(&file->lock);
    file->flags = (file->flags & ~CHANGEABLE_FLAGS) | (flags & CHANGEABLE_FLAGS);
    return 0;
}

struct owner { int32_t type, pid; };

/* F_SETOWN's argument: a process, or a group by its negative. */
static long set_owner(struct open_file *file, int32_t owner)
{
    if (owner == INT32_MIN)
        return -EINVAL;
    if (owner) {
        scoped_lock(&lx_kernel->table.lock);
        bool found = false;
        if (owner > 0) {
            found = process_find(owner) || thread_find(owner);
        } else {
            list_for_each(node, &lx_kernel->table.processes)
                found |= container_of(node, struct lx_process, all)->group_id == -owner;
        }
        if (!found)
            return -ESRCH;
    }
    scoped_lock(&file->lock);
    file->owner_pid = owner;
    return 0;
}

static long owner_fcntl(struct open_file *file, unsigned command, uint64_t argument)
{
    struct owner owner;

    switch (command) {
    case F_SETOWN:
        return set_owner(file, (int32_t)argument);
    case F_GETOWN:
        return file->owner_pid;
    case F_SETOWN_EX:
        if (guest_read(&owner, (void *)argument, sizeof(owner)) < 0)
            return -EFAULT;
        if (owner.type < F_OWNER_TID || owner.type > F_OWNER_PGRP)
            return -EINVAL;
        return set_owner(file, owner.type == F_OWNER_PGRP ? -owner.pid : owner.pid);
    default: /* F_GETOWN_EX */
        owner.type = file->owner_pid < 0 ? F_OWNER_PGRP : F_OWNER_PID;
        owner.pid = file->owner_pid < 0 ? -file->owner_pid : file->owner_pid;
        return guest_write((void *)argument, &owner, sizeof(owner)) < 0 ? -EFAULT : 0;
    }
}

/* What may be asked of a descriptor of O_PATH. */
static bool allowed_on_path(unsigned command)
{
    return command == F_DUPFD || command == F_DUPFD_CLOEXEC || command == F_GETFD || command == F_SETFD || command == F_GETFL ||
           command == F_DUPFD_QUERY;
}

LX_SYSCALL(fcntl, int fd, unsigned command, uint64_t argument)
{
    scoped_file file = fd_get(fd);

    if (!file || ((file->flags & O_PATH) && !allowed_on_path(command)))
        return -EBADF;
    switch (command) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC:
        if ((int)argument < 0 || (uint64_t)(int)argument >= lx_process()->limits[RLIMIT_NOFILE].soft)
            return -EINVAL;
        return duplicate(fd, (int)argument, command == F_DUPFD_CLOEXEC);
    case F_DUPFD_QUERY: {
        scoped_file other = fd_get((int)argument);
        return other ? other == file : -EBADF;
    }
    case F_GETFD:
        return fd_get_close_on_exec(fd);
    case F_SETFD:
        return fd_set_close_on_exec((uint32_t)fd, (uint32_t)fd, argument & FD_CLOEXEC);
    case F_GETFL:
        return (long)(file->flags & ~(unsigned)O_CLOEXEC);
    case F_SETFL:
        return set_flags(file, (unsigned)argument);
    case F_GETLK:
    case F_SETLK:
    case F_SETLKW:
    case F_OFD_GETLK:
    case F_OFD_SETLK:
    case F_OFD_SETLKW:
        return locks_fcntl(file, command, (void *)argument);
    case F_SETOWN:
    case F_GETOWN:
    case F_SETOWN_EX:
    case F_GETOWN_EX:
        return owner_fcntl(file, command, argument);
    case F_SETSIG:
        if (argument > 64)
            return -EINVAL;
        file->owner_signal = (int32_t)argument;
        return 0;
    case F_GETSIG:
        return file->owner_signal;
    case F_GETLEASE:
        return F_UNLCK;
    case F_SETLEASE: /* none are given: as on a file system that does not know them */
        return argument == F_UNLCK ? -EAGAIN : -EINVAL;
    case F_NOTIFY:
        return -EINVAL;
    case F_SETPIPE_SZ:
    case F_GETPIPE_SZ:
        return pipe_fcntl(file, command, argument);
    case F_ADD_SEALS:
    case F_GET_SEALS:
        return memfd_fcntl(file, command, argument);
    case F_GET_RW_HINT:
    case F_SET_RW_HINT:
        return S_ISREG(file->inode->mode) && command == F_GET_RW_HINT ? (guest_zero((void *)argument, 8) < 0 ? -EFAULT : 0) : -EINVAL;
    default:
        return -EINVAL;
    }
}

/* ---- ioctl ---- */

static long ioctl_common(struct open_file *file, int fd, unsigned request, uint64_t argument, bool *out_known)
{
    int value = 0;

    *out_known = true;
    switch (request) {
    case FIOCLEX:
        return fd_set_close_on_exec((uint32_t)fd, (uint32_t)fd, true);
    case FIONCLEX:
        return fd_set_close_on_exec((uint32_t)fd, (uint32_t)fd, false);
    case FIONBIO:
    case FIOASYNC: {
        unsigned bit = request == FIONBIO ? O_NONBLOCK : FASYNC;
        if (guest_read(&value, (void *)argument, sizeof(value)) < 0)
            return -EFAULT;
        return set_flags(file, value ? file->flags | bit : file->flags & ~bit);
    }
    case FIOQSIZE: {
        if (!S_ISREG(file->inode->mode) && !inode_is_directory(file->inode) && !S_ISLNK(file->inode->mode))
            return -ENOTTY;
        int64_t size = (int64_t)file->inode->size;
        return guest_write((void *)argument, &size, sizeof(size)) < 0 ? -EFAULT : 0;
    }
    case FICLONE:
    case FICLONERANGE:
    case FIDEDUPERANGE: /* as on a file system that cannot */
        return S_ISREG(file->inode->mode) || inode_is_directory(file->inode) ? -EOPNOTSUPP : -ENOTTY;
    case FIONREAD:
        if (!S_ISREG(file->inode->mode) || (file->dentry->flags & DENTRY_ANONYMOUS))
            break;
        if (file->inode->ops->refresh)
            (void)file->inode->ops->refresh(file->inode);
        value = (int)((int64_t)file->inode->size - file->position);
        return guest_write((void *)argument, &value, sizeof(value)) < 0 ? -EFAULT : 0;
    default:
        break;
    }
    *out_known = false;
    return -ENOTTY;
}

LX_SYSCALL(ioctl, int fd, unsigned request, uint64_t argument)
{
    scoped_file file = fd_get(fd);
    bool known;

    if (!file || (file->flags & O_PATH))
        return -EBADF;
    long result = ioctl_common(file, fd, request, argument, &known);
    if (known)
        return result;
    return file->ops->ioctl ? file->ops->ioctl(file, request, argument) : -ENOTTY;
}

LX_SYSCALL(flock, int fd, unsigned operation)
{
    scoped_file file = fd_get(fd);
    bool wait = !(operation & 4 /* LOCK_NB */);
    int type;

    if (!file || (file->flags & O_PATH))
        return -EBADF;
    switch (operation & ~4u) {
    case 1: /* LOCK_SH */
        type = F_RDLCK;
        break;
    case 2: /* LOCK_EX */
        type = F_WRLCK;
        break;
    case 8: /* LOCK_UN */
        type = F_UNLCK;
        break;
    default:
        return -EINVAL;
    }
    return locks_flock(file, type, wait);
}
