/* Opening, making, deleting and renaming host files. Invariant: what is opened for reading or writing was first held by an
 * O_PATH descriptor and found to be a regular file or a folder (or is itself the grant), so no FIFO, device or socket can
 * make the monitor wait or cause a side effect. Each call is one decision and one audit record. */
#include "monitor/stream-file.h"

#include "base/cleanup.h"
#include "base/system.h"
#include "monitor/audit.h"
#include "monitor/policy/policy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Set-id bits never reach the host: a program there would gain the operator's rights. The personality remembers them. */
#define FILE_MODE_MASK 0777u
#define FOLDER_MODE_MASK 01777u

struct mon_descriptor_path mon_descriptor_path(int descriptor)
{
    struct mon_descriptor_path path;
    snprintf(path.text, sizeof(path.text), "/proc/self/fd/%d", descriptor);
    return path;
}

static int result_of(int result)
{
    return result < 0 ? -errno : 0;
}

/* ---- Opening ---- */

static int host_access(unsigned access)
{
    if (access & BLY_ACCESS_WRITE)
        return access & BLY_ACCESS_READ ? O_RDWR : O_WRONLY;
    return O_RDONLY;
}

static int check_kind(const struct mon_folder *folder, const struct bly_attributes *attributes, unsigned access, unsigned options)
{
    bool writes = (access & BLY_ACCESS_WRITE) || (options & BLY_OPEN_TRUNCATE);
    switch (attributes->kind) {
    case BLY_KIND_DIRECTORY:
        return writes || (options & BLY_OPEN_CREATE) ? -EISDIR : 0;
    case BLY_KIND_FILE:
        return options & BLY_OPEN_DIRECTORY ? -ENOTDIR : 0;
    case BLY_KIND_SYMLINK:
        return options & BLY_OPEN_DIRECTORY ? -ENOTDIR : -ELOOP;
    case BLY_KIND_FIFO:
    case BLY_KIND_CHARACTER:
        if (options & BLY_OPEN_DIRECTORY)
            return -ENOTDIR;
        return folder->is_file && !folder->default_view ? 0 : -ENXIO;
    default:
        return options & BLY_OPEN_DIRECTORY ? -ENOTDIR : -ENXIO;
    }
}

/* Opens what `held` refers to, whatever has become of its name. */
static int open_held(const struct mon_files *files, const struct mon_name *name, int held, bool is_directory, int flags)
{
    flags |= O_NONBLOCK | O_NOCTTY | O_CLOEXEC | (is_directory ? O_DIRECTORY : 0);
    char number[16];
    int result;
    if (files->descriptors >= 0) {
        snprintf(number, sizeof(number), "%d", held);
        result = openat(files->descriptors, number, flags);
        return result < 0 ? -errno : result;
    }

    /* No /proc on this host: a folder by ".", for which it has to be searchable; a file by name again, and accepted only if it is
     * still the same. */
    if (is_directory) {
        result = openat(held, ".", flags);
        return result < 0 ? -errno : result;
    }
    struct stat before, after;
    cleanup_close int again = -1;
    if (name->folder->is_file)
        return -ENOENT;
    result = mon_name_open(name, (flags & ~O_TRUNC) | O_NOFOLLOW, 0, &again);
    if (result < 0)
        return result;
    if (fstat(held, &before) < 0 || fstat(again, &after) < 0)
        return -errno;
    if (before.st_dev != after.st_dev || before.st_ino != after.st_ino)
        return -ESTALE;
    if ((flags & O_TRUNC) && ftruncate(again, 0) < 0)
        return -errno;
    return take_descriptor(&again);
}

/* A grant may hold the host's /proc, say that of `/`. Only devices without a number of their own are asked. */
static bool is_kernels_own(int held, const struct bly_attributes *attributes)
{
    struct statfs file_system;
    return major(attributes->device) == 0 && fstatfs(held, &file_system) == 0 && mon_policy_is_kernels_own((long)file_system.f_type);
}

static bool is_on_one_of(int descriptor, const unsigned long *types, size_t count)
{
    struct statfs status;
    bool found = false;
    if (fstatfs(descriptor, &status) < 0)
        return false;
    for (size_t i = 0; i < count && !found; i++)
        found = (unsigned long)status.f_type == types[i];
    return found;
}

bool mon_file_is_coherent(const struct mon_folder *folder, int descriptor)
{
    /* All but the last have one page cache for both. An overlay's reads go to another file once somebody has written (kernel's
     * overlayfs.rst, "Non-standard behavior"), its maps do not: good enough for the default view only, which is taken not to change. */
    static const unsigned long types[] = {0xef53 /* ext2 to ext4 */, 0x58465342 /* XFS */, 0x9123683e /* Btrfs */, 0x01021994 /* tmpfs */,
                                          0xf2f52010 /* F2FS */, 0xe0f5e1e2 /* EROFS */, 0x73717368 /* SquashFS */, 0x794c7630 /* overlay */};
    return is_on_one_of(descriptor, types, sizeof(types) / sizeof(types[0]) - (folder->default_view ? 0 : 1));
}

bool mon_file_has_server(int descriptor)
{
    static const unsigned long types[] = {0x6969 /* NFS */, 0xff534d42 /* CIFS */, 0xfe534d42 /* SMB2 */, 0x65735546 /* FUSE */,
                                          0x01021997 /* 9P */, 0x00c36400 /* Ceph */, 0x5346414f /* AFS */, 0x0187 /* autofs */};
    return is_on_one_of(descriptor, types, sizeof(types) / sizeof(types[0]));
}

/* write(2) takes set-id bits off; a write through a map does not, nor does one by root here: the guest could put its own code into a program
 * that gives the operator's rights to whoever executes it. So they go before it can write. */
static int take_set_id_off(int held, struct bly_attributes *attributes)
{
    if (attributes->kind != BLY_KIND_FILE || !(attributes->mode & (S_ISUID | S_ISGID)))
        return 0;
    attributes->mode &= FILE_MODE_MASK;
    return result_of(chmod(mon_descriptor_path(held).text, attributes->mode));
}

static int open_existing(struct mon_files *files, const struct mon_name *name, unsigned access, unsigned options,
                         int *out_descriptor, struct bly_attributes *out_attributes)
{
    cleanup_close int held = -1;
    int result = mon_name_hold(files, name, &held);
    if (result < 0)
        return result;
    if ((options & BLY_OPEN_CREATE) && (options & BLY_OPEN_EXCLUSIVE))
        return -EEXIST;
    result = mon_descriptor_attributes(files, held, out_attributes);
    if (result < 0)
        return result;
    result = check_kind(name->folder, out_attributes, access, options);
    if (result < 0)
        return result;
    if (is_kernels_own(held, out_attributes))
        return -EACCES;
    if (name->folder->read_only && ((access & BLY_ACCESS_WRITE) || (options & BLY_OPEN_TRUNCATE)))
        return -EROFS;
    bool is_directory = out_attributes->kind == BLY_KIND_DIRECTORY;
    if (name->folder->default_view && !mon_is_open_to_everybody((is_directory ? S_IFDIR : S_IFREG) | out_attributes->mode))
        return -EACCES;
    bool truncate = options & BLY_OPEN_TRUNCATE;
    if ((access & BLY_ACCESS_WRITE) || truncate)
        result = take_set_id_off(held, out_attributes);
    if (result < 0)
        return result;
    result = open_held(files, name, held, is_directory, host_access(access) | (truncate ? O_TRUNC : 0));
    if (result < 0)
        return result;
    if (truncate)
        out_attributes->size = out_attributes->blocks = 0;
    *out_descriptor = result;
    return 0;
}

static int open_new(struct mon_files *files, const struct mon_name *name, unsigned access, unsigned mode, int *out_descriptor,
                    struct bly_attributes *out_attributes)
{
    if (name->folder->read_only)
        return -EROFS;
    cleanup_close int made = -1;
    int result = mon_name_open(name, O_CREAT | O_EXCL | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | host_access(access),
                               mode & FILE_MODE_MASK, &made);
    if (result < 0)
        return result;
    result = mon_descriptor_attributes(files, made, out_attributes);
    if (result < 0)
        return result;
    *out_descriptor = take_descriptor(&made);
    return 0;
}

static int open_temporary(struct mon_files *files, const struct mon_name *name, unsigned access, unsigned mode,
                          int *out_descriptor, struct bly_attributes *out_attributes)
{
    if (!(access & BLY_ACCESS_WRITE))
        return -EINVAL;
    if (name->folder->read_only)
        return -EROFS;
    if (name->folder->is_file)
        return -ENOTDIR;
    cleanup_close int made = -1;
    int result = mon_name_open(name, O_TMPFILE | host_access(access), mode & FILE_MODE_MASK, &made);
    if (result < 0)
        return result;
    result = mon_descriptor_attributes(files, made, out_attributes);
    if (result < 0)
        return result;
    *out_descriptor = take_descriptor(&made);
    return 0;
}

static int open_any(struct mon_files *files, const struct mon_name *name, unsigned access, unsigned options, unsigned mode,
                    int *out_descriptor, struct bly_attributes *out_attributes)
{
    if (options & BLY_OPEN_TEMPORARY)
        return open_temporary(files, name, access, mode, out_descriptor, out_attributes);
    if ((options & BLY_OPEN_CREATE) && (options & BLY_OPEN_DIRECTORY))
        return -EINVAL;
    /* Between "is not there" and "make it" others may make it, and remove it again. */
    for (int tries = 0; tries < 16; tries++) {
        int result = open_existing(files, name, access, options, out_descriptor, out_attributes);
        if (result != -ENOENT || !(options & BLY_OPEN_CREATE))
            return result;
        result = open_new(files, name, access, mode, out_descriptor, out_attributes);
        if (result != -EEXIST)
            return result;
    }
    return -EAGAIN;
}

int mon_file_open(struct mon_files *files, const struct mon_name *name, unsigned access, unsigned options, unsigned mode,
                  int *out_descriptor, struct bly_attributes *out_attributes)
{
    if ((access & ~(BLY_ACCESS_READ | BLY_ACCESS_WRITE)) || (options & ~31u) || (mode & ~07777u))
        return -EINVAL;
    int result = open_any(files, name, access, options, mode, out_descriptor, out_attributes);
    mon_audit_name(files->audit, "open", name,
                   access & BLY_ACCESS_WRITE || options & (BLY_OPEN_CREATE | BLY_OPEN_TRUNCATE | BLY_OPEN_TEMPORARY) ? MON_AUDIT_WRITE
                                                                                                      : MON_AUDIT_READ,
                   result);
    return result;
}

/* ---- Making, deleting, renaming ---- */

static int create_node(int parent, const char *last, unsigned kind, unsigned mode, const char *target)
{
    switch (kind) {
    case BLY_KIND_DIRECTORY:
        return result_of(mkdirat(parent, last, mode & FOLDER_MODE_MASK));
    case BLY_KIND_SYMLINK:
        return result_of(symlinkat(target, parent, last));
    /* Only names: nobody ever opens them through the monitor, and programs inside meet in the personality. */
    case BLY_KIND_FIFO:
        return result_of(mknodat(parent, last, S_IFIFO | (mode & FILE_MODE_MASK), 0));
    case BLY_KIND_SOCKET:
        return result_of(mknodat(parent, last, S_IFSOCK | (mode & FILE_MODE_MASK), 0));
    default:
        return -EINVAL;
    }
}

static int attributes_at(const struct mon_files *files, int parent, const char *last, struct bly_attributes *out_attributes)
{
    struct statx status;
    if (statx(parent, last, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, &status) < 0)
        return -errno;
    mon_attributes_from(files, &status, out_attributes);
    return 0;
}

static int create_any(struct mon_files *files, const struct mon_name *name, unsigned kind, unsigned mode, const char *target,
                      struct bly_attributes *out_attributes)
{
    cleanup_close int parent = -1;
    if (name->size == 0)
        return -EEXIST;
    int result = mon_name_hold_parent(name, &parent);
    if (result < 0)
        return result;
    if (name->folder->read_only) {
        /* As Linux has it: a name that is there is -EEXIST even on a read-only file system. */
        struct stat status;
        return fstatat(parent, mon_name_last(name), &status, AT_SYMLINK_NOFOLLOW) == 0 ? -EEXIST : -EROFS;
    }
    result = create_node(parent, mon_name_last(name), kind, mode, target);
    return result < 0 ? result : attributes_at(files, parent, mon_name_last(name), out_attributes);
}

int mon_file_create(struct mon_files *files, const struct mon_name *name, unsigned kind, unsigned mode, const char *target,
                    struct bly_attributes *out_attributes)
{
    if (mode & ~07777u)
        return -EINVAL;
    int result = create_any(files, name, kind, mode, target, out_attributes);
    mon_audit_name(files->audit, "create", name, MON_AUDIT_WRITE, result);
    return result;
}

static int link_any(struct mon_files *files, const struct mon_name *name, const struct mon_name *target,
                    struct bly_attributes *out_attributes)
{
    cleanup_close int parent = -1, target_parent = -1;
    if (name->folder != target->folder)
        return -EXDEV;
    if (name->folder->read_only)
        return -EROFS;
    int result = mon_name_hold_parent(target, &target_parent);
    if (result == 0)
        result = mon_name_hold_parent(name, &parent);
    if (result < 0)
        return result;
    if (linkat(target_parent, mon_name_last(target), parent, mon_name_last(name), /*flags=*/0) < 0)
        return -errno;
    return attributes_at(files, parent, mon_name_last(name), out_attributes);
}

int mon_file_link(struct mon_files *files, const struct mon_name *name, const struct mon_name *target,
                  struct bly_attributes *out_attributes)
{
    int result = link_any(files, name, target, out_attributes);
    mon_audit_name(files->audit, "link", name, MON_AUDIT_WRITE, result);
    return result;
}

int mon_file_delete(struct mon_files *files, const struct mon_name *name, unsigned flags)
{
    cleanup_close int parent = -1;
    if (flags & ~(unsigned)BLY_DELETE_DIRECTORY)
        return -EINVAL;
    int result = name->folder->read_only ? -EROFS : mon_name_hold_parent(name, &parent);
    if (result == 0)
        result = result_of(unlinkat(parent, mon_name_last(name), flags & BLY_DELETE_DIRECTORY ? AT_REMOVEDIR : 0));
    mon_audit_name(files->audit, "delete", name, MON_AUDIT_WRITE, result);
    return result;
}

static int rename_any(const struct mon_name *from, const struct mon_name *to, unsigned flags)
{
    cleanup_close int from_parent = -1, to_parent = -1;
    if (from->folder != to->folder)
        return -EXDEV;
    if (from->folder->read_only)
        return -EROFS;
    int result = mon_name_hold_parent(from, &from_parent);
    if (result == 0)
        result = mon_name_hold_parent(to, &to_parent);
    if (result < 0)
        return result;
    return result_of(renameat2(from_parent, mon_name_last(from), to_parent, mon_name_last(to), flags));
}

int mon_file_rename(struct mon_files *files, const struct mon_name *from, const struct mon_name *to, unsigned flags)
{
    /* The ABI's flags have the host's values. */
    _Static_assert(BLY_RENAME_NO_REPLACE == RENAME_NOREPLACE && BLY_RENAME_EXCHANGE == RENAME_EXCHANGE, "renameat2(2)");
    if ((flags & ~(unsigned)(BLY_RENAME_NO_REPLACE | BLY_RENAME_EXCHANGE)) ||
        flags == (BLY_RENAME_NO_REPLACE | BLY_RENAME_EXCHANGE))
        return -EINVAL;
    int result = rename_any(from, to, flags);
    mon_audit_name(files->audit, "rename", from, MON_AUDIT_WRITE, result);
    mon_audit_name(files->audit, "rename-to", to, MON_AUDIT_WRITE, result);
    return result;
}
