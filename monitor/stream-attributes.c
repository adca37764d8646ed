/* Attributes of host files: reading and setting them, by name or by descriptor, and extended ones of the `user.` name space.
 * Invariant: nothing here follows a link; owners are shown mapped and never set. */
#include "monitor/stream-file.h"

#include "base/cleanup.h"
#include "base/system.h"
#include "monitor/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define ATTRIBUTE_LIST_MAX 65536

static unsigned kind_of(unsigned mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG: return BLY_KIND_FILE;
    case S_IFDIR: return BLY_KIND_DIRECTORY;
    case S_IFLNK: return BLY_KIND_SYMLINK;
    case S_IFIFO: return BLY_KIND_FIFO;
    case S_IFSOCK: return BLY_KIND_SOCKET;
    case S_IFCHR: return BLY_KIND_CHARACTER;
    default: return BLY_KIND_BLOCK;
    }
}

static int64_t nanoseconds(struct statx_timestamp time)
{
    int64_t result;
    if (__builtin_mul_overflow(time.tv_sec, (int64_t)1000000000, &result) ||
        __builtin_add_overflow(result, (int64_t)time.tv_nsec, &result))
        return time.tv_sec < 0 ? INT64_MIN : INT64_MAX;
    return result;
}

void mon_attributes_from(const struct mon_files *files, const struct statx *status, struct bly_attributes *out_attributes)
{
    *out_attributes = (struct bly_attributes){
        .device = makedev(status->stx_dev_major, status->stx_dev_minor),
        .inode = status->stx_ino,
        .size = status->stx_size,
        .blocks = status->stx_blocks,
        .access_ns = nanoseconds(status->stx_atime),
        .modify_ns = nanoseconds(status->stx_mtime),
        .change_ns = nanoseconds(status->stx_ctime),
        .birth_ns = status->stx_mask & STATX_BTIME ? nanoseconds(status->stx_btime) : 0,
        .kind = kind_of(status->stx_mode),
        .mode = status->stx_mode & 07777u,
        .owner = status->stx_uid == files->operator_user ? files->shown_user : status->stx_uid,
        .group = status->stx_gid == files->operator_group ? files->shown_group : status->stx_gid,
        .link_count = status->stx_nlink,
        .block_size = status->stx_blksize,
        .device_major = status->stx_rdev_major,
        .device_minor = status->stx_rdev_minor,
    };
}

int mon_descriptor_attributes(const struct mon_files *files, int descriptor, struct bly_attributes *out_attributes)
{
    struct statx status;
    if (statx(descriptor, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, &status) < 0)
        return -errno;
    mon_attributes_from(files, &status, out_attributes);
    return 0;
}

int mon_file_query(const struct mon_files *files, int descriptor, struct bly_attributes *out_attributes)
{
    return mon_descriptor_attributes(files, descriptor, out_attributes);
}

/* ---- Setting ---- */

static struct timespec time_of(int64_t nanoseconds, bool given)
{
    if (!given)
        return (struct timespec){.tv_nsec = UTIME_OMIT};
    if (nanoseconds == BLY_TIME_NOW)
        return (struct timespec){.tv_nsec = UTIME_NOW};
    int64_t seconds = nanoseconds / 1000000000, rest = nanoseconds % 1000000000;
    if (rest < 0)
        seconds--, rest += 1000000000;
    return (struct timespec){.tv_sec = seconds, .tv_nsec = rest};
}

static int check_set(const struct bly_attributes *attributes, unsigned mask)
{
    if (mask & ~(unsigned)(BLY_SET_MODE | BLY_SET_OWNER | BLY_SET_GROUP | BLY_SET_ACCESS_TIME | BLY_SET_MODIFY_TIME | BLY_SET_SIZE))
        return -EINVAL;
    if (mask & (BLY_SET_OWNER | BLY_SET_GROUP))
        return -EPERM;
    if ((mask & BLY_SET_MODE) && (attributes->mode & ~07777u))
        return -EINVAL;
    if ((mask & BLY_SET_SIZE) && attributes->size > INT64_MAX)
        return -EINVAL;
    return 0;
}

/* `descriptor` may be an O_PATH one; size and mode then go through its name in /proc. Set-id bits stay out of the host. */
static int apply(int descriptor, bool by_path, const struct bly_attributes *attributes, unsigned mask)
{
    struct mon_descriptor_path path = mon_descriptor_path(descriptor);
    struct stat status;
    if (fstat(descriptor, &status) < 0)
        return -errno;
    if ((mask & BLY_SET_MODE) && S_ISLNK(status.st_mode))
        return -EOPNOTSUPP;
    if (mask & BLY_SET_SIZE) {
        if (S_ISDIR(status.st_mode))
            return -EISDIR;
        if (!S_ISREG(status.st_mode))
            return -EINVAL;
        off_t size = (off_t)attributes->size;
        if ((by_path ? truncate(path.text, size) : ftruncate(descriptor, size)) < 0)
            return -errno;
    }
    if (mask & BLY_SET_MODE) {
        mode_t mode = attributes->mode & (S_ISDIR(status.st_mode) ? 01777u : 0777u);
        if ((by_path ? chmod(path.text, mode) : fchmod(descriptor, mode)) < 0)
            return -errno;
    }
    if (mask & (BLY_SET_ACCESS_TIME | BLY_SET_MODIFY_TIME)) {
        struct timespec times[2] = {time_of(attributes->access_ns, mask & BLY_SET_ACCESS_TIME),
                                    time_of(attributes->modify_ns, mask & BLY_SET_MODIFY_TIME)};
        if (utimensat(descriptor, "", times, AT_EMPTY_PATH) < 0)
            return -errno;
    }
    return 0;
}

static int set_any(struct mon_files *files, const struct mon_name *name, const struct bly_attributes *attributes, unsigned mask)
{
    cleanup_close int held = -1;
    int result = check_set(attributes, mask);
    if (result < 0)
        return result;
    result = mon_name_hold(files, name, &held);
    if (result < 0)
        return result;
    return name->folder->read_only ? -EROFS : apply(held, /*by_path=*/true, attributes, mask);
}

int mon_file_set(struct mon_files *files, const struct mon_name *name, const struct bly_attributes *attributes, unsigned mask)
{
    int result = set_any(files, name, attributes, mask);
    mon_audit_name(files->audit, "set", name, MON_AUDIT_WRITE, result);
    return result;
}

int mon_file_set_open(int descriptor, const struct bly_attributes *attributes, unsigned mask)
{
    int result = check_set(attributes, mask);
    return result < 0 ? result : apply(descriptor, /*by_path=*/false, attributes, mask);
}

/* ---- Extended attributes ---- */

static bool is_user_attribute(const char *attribute)
{
    return strncmp(attribute, "user.", 5) == 0 && attribute[5] != '\0';
}

/* Leaves only names of the `user.` name space in the list. */
static size_t keep_user_names(char *list, size_t size)
{
    size_t kept = 0;
    for (size_t at = 0; at < size;) {
        size_t length = strnlen(list + at, size - at) + 1;
        if (length > size - at)
            break;
        if (is_user_attribute(list + at)) {
            memmove(list + kept, list + at, length);
            kept += length;
        }
        at += length;
    }
    return kept;
}

static int64_t list_named(const char *path, void *value, size_t size)
{
    cleanup_free char *list = malloc(ATTRIBUTE_LIST_MAX);
    if (!list)
        return -ENOMEM;
    ssize_t result = listxattr(path, list, ATTRIBUTE_LIST_MAX);
    if (result < 0)
        return -errno;
    size_t kept = keep_user_names(list, (size_t)result);
    if (size == 0)
        return (int64_t)kept;
    if (kept > size)
        return -ERANGE;
    memcpy(value, list, kept);
    return (int64_t)kept;
}

/* Symbolic links and the like carry no user attributes (xattr(7)), and a path through /proc would follow them. */
static int hold_for_attributes(struct mon_files *files, const struct mon_name *name, int *out_held)
{
    struct stat status;
    int result = mon_name_hold(files, name, out_held);
    if (result < 0)
        return result;
    if (fstat(*out_held, &status) < 0)
        return -errno;
    if (name->folder->default_view && !mon_is_open_to_everybody(status.st_mode))
        return -EACCES;
    return S_ISREG(status.st_mode) || S_ISDIR(status.st_mode) ? 0 : -EPERM;
}

int64_t mon_file_get_named(struct mon_files *files, const struct mon_name *name, const char *attribute, void *value, size_t size)
{
    cleanup_close int held = -1;
    int result = hold_for_attributes(files, name, &held);
    if (result == -EPERM)
        return *attribute ? -ENODATA : 0;
    if (result < 0)
        return result;
    struct mon_descriptor_path path = mon_descriptor_path(held);
    if (!*attribute)
        return list_named(path.text, value, size);
    if (!is_user_attribute(attribute))
        return -EOPNOTSUPP;
    ssize_t found = getxattr(path.text, attribute, value, size);
    return found < 0 ? -errno : found;
}

static int set_named(struct mon_files *files, const struct mon_name *name, const char *attribute, const void *value, size_t size,
                     unsigned flags)
{
    cleanup_close int held = -1;
    if (flags & ~(unsigned)(BLY_NAMED_CREATE | BLY_NAMED_REPLACE | BLY_NAMED_REMOVE))
        return -EINVAL;
    if (!is_user_attribute(attribute))
        return -EOPNOTSUPP;
    int result = hold_for_attributes(files, name, &held);
    if (result < 0)
        return result;
    if (name->folder->read_only)
        return -EROFS;
    struct mon_descriptor_path path = mon_descriptor_path(held);
    if (flags & BLY_NAMED_REMOVE)
        return removexattr(path.text, attribute) < 0 ? -errno : 0;
    int host_flags = (flags & BLY_NAMED_CREATE ? XATTR_CREATE : 0) | (flags & BLY_NAMED_REPLACE ? XATTR_REPLACE : 0);
    return setxattr(path.text, attribute, value, size, host_flags) < 0 ? -errno : 0;
}

int mon_file_set_named(struct mon_files *files, const struct mon_name *name, const char *attribute, const void *value, size_t size,
                       unsigned flags)
{
    int result = set_named(files, name, attribute, value, size, flags);
    mon_audit_name(files->audit, "set-attribute", name, MON_AUDIT_WRITE, result);
    return result;
}
