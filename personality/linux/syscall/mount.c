/* Mounts: mount(2) of memory file systems and bind mounts inside the sandbox, umount(2), statfs(2), and file handles, which nobody gets. */
#include "personality/linux/fs/internal.h"
#include "personality/linux/process/process.h"
#include <asm/statfs.h>
#include <linux/capability.h>
#include <linux/mount.h>

#define MNT_FORCE 1
#define MNT_DETACH 2
#define MNT_EXPIRE 4
#define UMOUNT_NOFOLLOW 8
#define ST_VALID 0x20

/* ---- statfs ---- */

static long give_statistics(struct dentry *dentry, struct statfs *guest)
{
    struct superblock *superblock = dentry->inode->superblock;
    struct filesystem_statistics statistics = { .block_size = 4096 };
    struct mount *mount = dentry->mount;

    if (superblock->type->statistics)
        superblock->type->statistics(superblock, &statistics);
    struct statfs out = {
        .f_type = (long)(statistics.type ? statistics.type : superblock->type->magic),
        .f_bsize = (long)statistics.block_size,
        .f_blocks = (long)statistics.blocks,
        .f_bfree = (long)statistics.blocks_free,
        .f_bavail = (long)statistics.blocks_free,
        .f_files = (long)statistics.files,
        .f_ffree = (long)statistics.files_free,
        .f_fsid = { { (int)superblock->device, (int)(superblock->device >> 32) } },
        .f_namelen = LX_NAME_MAX,
        .f_frsize = (long)statistics.block_size,
        .f_flags = ST_VALID | (mount->flags & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)),
    };
    return guest_write(guest, &out, sizeof(out)) < 0 ? -EFAULT : 0;
}

LX_SYSCALL(statfs, const char *path, struct statfs *guest)
{
    scoped_dentry dentry = NULL;
    int error = vfs_lookup_at(AT_FDCWD, path, LOOKUP_FOLLOW, &dentry);

    return error < 0 ? error : give_statistics(dentry, guest);
}

LX_SYSCALL(fstatfs, int fd, struct statfs *guest)
{
    scoped_file file = fd_get(fd);

    return file ? give_statistics(file->dentry, guest) : -EBADF;
}

/* ---- mount ---- */

#define MOUNT_FLAGS_KEPT ((unsigned)(MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_NOSYMFOLLOW))

static int mount_bind(struct dentry *where, const char *source_path)
{
    scoped_dentry source = NULL;
    int error = vfs_lookup(NULL, source_path, LOOKUP_FOLLOW, &source);

    if (error < 0)
        return error;
    if (inode_is_directory(source->inode) != inode_is_directory(where->inode))
        return -ENOTDIR;
    struct superblock *superblock = source->inode->superblock;
    superblock->references++;
    error = vfs_mount(where, superblock, source->inode, source->mount->flags, source_path);
    if (error < 0)
        superblock_unref(superblock);
    return error;
}

static int mount_new(struct dentry *where, const char *source, const char *type_name, unsigned flags, const char *options)
{
    const struct filesystem_type *type = filesystem_find(type_name);
    struct superblock *superblock;

    if (!type)
        return -ENODEV;
    if (!type->mount || !(type->flags & FILESYSTEM_USER_MOUNT))
        return -EPERM;
    if (!inode_is_directory(where->inode))
        return -ENOTDIR;
    int error = type->mount(source, options, &superblock);
    if (error < 0)
        return error;
    struct inode *root = superblock->root;
    error = vfs_mount(where, superblock, root, flags & MOUNT_FLAGS_KEPT, source);
    if (error < 0)
        superblock_unref(superblock);
    inode_unref(root);
    return error;
}

static int remount(struct dentry *where, unsigned flags)
{
    scoped_lock(&vfs()->tree_lock);
    if (where != where->mount->root)
        return -EINVAL;
    /* What the sandbox was started with stays as strict as it was. */
    if (where->mount->locked && (where->mount->flags & MS_RDONLY) && !(flags & MS_RDONLY))
        return -EPERM;
    where->mount->flags = flags & MOUNT_FLAGS_KEPT;
    return 0;
}

LX_SYSCALL(mount, const char *guest_source, const char *guest_target, const char *guest_type, uint64_t flags, const char *guest_options)
{
    char *text = heap_alloc(LX_PATH_MAX + 64 + BLY_PAGE_SIZE), *source = text, *type = text + LX_PATH_MAX, *options = type + 64;
    scoped_dentry where = NULL;
    int64_t size;
    int error = 0;

    if (!text)
        return -ENOMEM;
    /* Missing texts are empty ones. */
    if (guest_source && (size = guest_read_string(source, guest_source, LX_PATH_MAX)) < 0)
        error = (int)size;
    else if (guest_type && (size = guest_read_string(type, guest_type, 64)) < 0)
        error = size == -ENAMETOOLONG ? -EINVAL : (int)size;
    else if (guest_options)
        (void)guest_read_some(options, guest_options, BLY_PAGE_SIZE - 1);
    if (error == 0)
        error = vfs_lookup_at(AT_FDCWD, guest_target, LOOKUP_FOLLOW, &where);
    if (error == 0 && !lx_capable(CAP_SYS_ADMIN))
        error = -EPERM;
    if (error < 0)
        goto out;
    if ((flags & 0xffff0000ull) == 0xc0ed0000ull) /* MS_MGC_VAL of old programs */
        flags &= 0xffff;
    if (flags & MS_REMOUNT)
        error = remount(where, (unsigned)flags);
    else if (flags & (MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE))
        error = where == where->mount->root ? 0 : -EINVAL; /* there is one mount namespace: nothing to pass on */
    else if (flags & MS_BIND)
        error = *source ? mount_bind(where, source) : -ENOENT;
    else if (flags & MS_MOVE)
        error = -EINVAL;
    else
        error = mount_new(where, source, type, (unsigned)flags, options);
out:
    heap_free(text);
    return error;
}

LX_SYSCALL(umount2, const char *path, int flags)
{
    scoped_dentry where = NULL;

    if (flags & ~(MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW))
        return -EINVAL;
    if (!lx_capable(CAP_SYS_ADMIN))
        return -EPERM;
    if ((flags & MNT_EXPIRE) && (flags & (MNT_FORCE | MNT_DETACH)))
        return -EINVAL;
    int error = vfs_lookup_at(AT_FDCWD, path, flags & UMOUNT_NOFOLLOW ? 0 : LOOKUP_FOLLOW, &where);
    if (error < 0)
        return error;
    if (where != where->mount->root)
        return -EINVAL;
    if (where->mount->locked)
        return -EPERM;
    if (flags & MNT_EXPIRE)
        return -EAGAIN;
    return vfs_unmount(where, flags & MNT_DETACH);
}

/* ---- File systems by number (obsolete) ---- */

LX_SYSCALL(sysfs, int option, uint64_t argument, char *out_name)
{
    char name[64];
    enum { INDEX_OF = 1, NAME_OF, COUNT };

    if (option == COUNT)
        return (long)vfs()->type_count;
    if (option == NAME_OF) {
        if (argument >= vfs()->type_count)
            return -EINVAL;
        const char *of = vfs()->types[argument]->name;
        return guest_write(out_name, of, strlen(of) + 1);
    }
    if (option != INDEX_OF)
        return -EINVAL;
    int64_t size = guest_read_string(name, (const char *)argument, sizeof(name));
    if (size < 0)
        return size == -ENAMETOOLONG ? -EINVAL : size;
    for (uint32_t i = 0; i < vfs()->type_count; i++)
        if (!strcmp(vfs()->types[i]->name, name))
            return (long)i;
    return -EINVAL;
}

struct ustat_data { int32_t blocks_free; uint64_t files_free; char name[6], pack[6]; };

LX_SYSCALL(ustat, uint32_t device, struct ustat_data *out)
{
    struct filesystem_statistics statistics = { 0 };
    struct superblock *superblock = NULL;
    {
        scoped_lock(&vfs()->tree_lock);
        list_for_each(node, &vfs()->mounts) {
            struct mount *mount = container_of(node, struct mount, all);
            if (mount->superblock->device == device) {
                superblock = mount->superblock;
                superblock->references++;
                break;
            }
        }
    }
    if (!superblock)
        return -EINVAL;
    if (superblock->type->statistics)
        superblock->type->statistics(superblock, &statistics);
    superblock_unref(superblock);
    struct ustat_data data = { .blocks_free = (int32_t)statistics.blocks_free, .files_free = statistics.files_free };
    return guest_write(out, &data, sizeof(data));
}

/* ---- File handles ---- */

enum { HANDLE_SIZE_MAX = 128 }; /* MAX_HANDLE_SZ */

LX_SYSCALL(name_to_handle_at, int directory_fd, const char *path, void *handle, int *mount_id, int flags)
{
    scoped_dentry dentry = NULL;

    uint32_t size;
    if (flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH))
        return -EINVAL;
    if (guest_read(&size, handle, sizeof size) < 0)
        return -EFAULT;
    if (size > HANDLE_SIZE_MAX)
        return -EINVAL;
    int error = vfs_lookup_at(directory_fd, path, (flags & AT_SYMLINK_FOLLOW ? LOOKUP_FOLLOW : 0) | (flags & AT_EMPTY_PATH ? LOOKUP_EMPTY : 0), &dentry);
    return error < 0 ? error : -EOPNOTSUPP;
}

LX_SYSCALL(open_by_handle_at, int mount_fd, void *handle, int flags)
{
    return -EPERM;
}
