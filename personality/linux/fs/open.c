/* open(2): from a path or a dentry to an open file. */
#include "personality/linux/fs/dentry.h"
#include "personality/linux/fs/internal.h"
#include "personality/linux/fs/walk.h"
#include "personality/linux/init.h"
#include "personality/linux/process/process.h"
#include <linux/capability.h>
#include <linux/mount.h>

/* What only open(2) itself looks at is not shown by F_GETFL. */
#define OPEN_ONLY_FLAGS ((unsigned)(O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC))

static unsigned wanted_access(unsigned flags)
{
    static const unsigned by_mode[4] = { MAY_READ, MAY_WRITE, MAY_READ | MAY_WRITE, MAY_READ | MAY_WRITE };

    return by_mode[flags & O_ACCMODE] | (flags & O_TRUNC ? MAY_WRITE : 0);
}

bool vfs_is_read_only(const struct dentry *dentry)
{
    return dentry->mount->flags & MS_RDONLY;
}

/* The monitor is not asked about what its policy is known to refuse; it only wants to write it down. */
static void report_refused(struct dentry *parent, const char *name, size_t name_size)
{
    enum { SIZE = 4096 + 256 };
    if (!(start_info->flags & BLY_START_AUDIT))
        return;
    char *path = heap_alloc(SIZE);
    int length = path ? dentry_path(parent, NULL, path, 4096, false) : -ENOMEM;
    if (length > 0) {
        if (name_size && path[length - 1] != '/')
            path[length++] = '/';
        name_size = name_size < 255 ? name_size : 255;
        memcpy(path + length, name, name_size);
        init_report(BLY_CONTROL_REFUSED, 0, -EROFS, path, (size_t)length + name_size);
    }
    heap_free(path);
}

int vfs_want_write_in(struct dentry *parent, const char *name, size_t name_size)
{
    if (!vfs_is_read_only(parent))
        return 0;
    report_refused(parent, name, name_size);
    return -EROFS;
}

int vfs_want_write(struct dentry *dentry)
{
    return vfs_want_write_in(dentry, "", 0);
}

static int open_regular(struct dentry *dentry, struct inode *inode, unsigned flags, void *object, struct open_file **out_file)
{
    const struct file_ops *ops = inode_is_directory(inode) ? &directory_file_ops : inode->ops->file_ops;
    struct open_file *file;
    bool writes = (flags & O_ACCMODE) != O_RDONLY;
    int error;

    if (inode->ops->open_child == NULL && !inode_is_directory(inode) && !ops && !inode->ops->open)
        return -ENXIO;
    if (writes && (error = inode_get_write(inode)) < 0)
        return error;
    file = file_create(ops, dentry, inode, flags & ~OPEN_ONLY_FLAGS);
    if (!file) {
        if (writes)
            inode_put_write(inode);
        return -ENOMEM;
    }
    file->internal = writes ? FILE_HOLDS_WRITE : 0;
    file->object = object;
    if (inode->ops->open && (error = inode->ops->open(inode, file)) < 0) {
        file->ops = &path_file_ops; /* nothing to close */
        file_unref(file);
        return error;
    }
    if ((flags & O_TRUNC) && S_ISREG(inode->mode) && !object && (error = vfs_truncate(inode, 0)) < 0) {
        file_unref(file);
        return error;
    }
    *out_file = file;
    return 0;
}

static int open_device(struct dentry *dentry, struct inode *inode, unsigned flags, struct open_file **out_file)
{
    unsigned major = lx_major(inode->device), minor = lx_minor(inode->device);

    if (dentry->mount->flags & MS_NODEV)
        return -EACCES;
    if (S_ISBLK(inode->mode))
        return -ENXIO;
    const struct file_ops *ops = device_ops(major, minor);
    if (ops) {
        *out_file = file_create(ops, dentry, inode, flags & ~OPEN_ONLY_FLAGS);
        return *out_file ? 0 : -ENOMEM;
    }
    return device_open(major, minor, inode, dentry, flags & ~(OPEN_ONLY_FLAGS & ~O_NOCTTY), out_file);
}

/* `created`: it was made by this very call, so that its mode does not matter. */
static int open_found(struct dentry *dentry, unsigned flags, bool created, void *object, struct open_file **out_file)
{
    struct inode *inode = dentry->inode;
    unsigned type = inode->mode & S_IFMT;
    int error;

    if (flags & O_PATH) {
        if ((flags & O_DIRECTORY) && type != S_IFDIR)
            return -ENOTDIR;
        *out_file = file_create(&path_file_ops, dentry, inode, flags & (O_PATH | O_DIRECTORY | O_NOFOLLOW));
        return *out_file ? 0 : -ENOMEM;
    }
    if ((flags & O_CREAT) && !created) {
        if (flags & O_EXCL)
            return -EEXIST;
        if (type == S_IFDIR)
            return -EISDIR;
    }
    if ((flags & O_DIRECTORY) && type != S_IFDIR)
        return -ENOTDIR;
    if (type == S_IFLNK)
        return -ELOOP;
    if (type == S_IFDIR && (wanted_access(flags) & MAY_WRITE))
        return -EISDIR;
    if (type == S_IFSOCK)
        return -ENXIO;
    if (!created) {
        if ((wanted_access(flags) & MAY_WRITE) && type == S_IFREG && (error = vfs_want_write(dentry)) < 0)
            return error;
        if ((error = inode_permission(inode, wanted_access(flags))) < 0)
            return error;
    }
    if ((flags & O_NOATIME) && !inode_owner_or_capable(inode))
        return -EPERM;
    switch (type) {
    case S_IFIFO:
        return fifo_open(inode, dentry, flags & ~OPEN_ONLY_FLAGS, out_file);
    case S_IFCHR:
    case S_IFBLK:
        return open_device(dentry, inode, flags, out_file);
    default:
        return open_regular(dentry, inode, created ? flags & ~O_TRUNC : flags, object, out_file);
    }
}

static void notify_opened(struct open_file *file, bool created)
{
    if (file->flags & O_PATH)
        return;
    if (created)
        notify_event(file->dentry->parent->inode, NULL, 0x100 /* IN_CREATE */, 0, file->dentry->name, file->dentry->name_size);
    notify_event(file->inode, file->dentry, 0x20 /* IN_OPEN */, 0, NULL, 0);
}

int vfs_open_dentry(struct dentry *dentry, unsigned flags, struct open_file **out_file)
{
    int error = open_found(dentry, flags, /*created=*/false, NULL, out_file);

    if (error == 0)
        notify_opened(*out_file, false);
    return error;
}

static void new_owner(const struct inode *directory, struct node_request *request)
{
    struct lx_thread *thread = lx_current();

    request->owner = request->group = 0;
    if (thread && thread->process) {
        request->owner = thread->process->credentials.fsuid;
        request->group = thread->process->credentials.fsgid;
    }
    if (directory->mode & S_ISGID) { /* inode(7): the group is inherited, by folders the bit too */
        request->group = directory->group;
        if (S_ISDIR(request->mode))
            request->mode |= S_ISGID;
    }
}

int vfs_create_child(struct dentry *parent, struct dentry *child, struct node_request *request)
{
    struct inode *inode;
    int error;

    assert(mutex_held(&parent->inode->content_mutex) && !child->inode);
    if (parent->inode->link_count == 0)
        return -ENOENT;
    if ((error = inode_permission(parent->inode, MAY_WRITE | MAY_EXECUTE)) < 0)
        return error;
    if (!parent->inode->ops->create)
        return -EPERM;
    request->name = child->name;
    request->name_size = child->name_size;
    new_owner(parent->inode, request);
    if ((error = parent->inode->ops->create(parent->inode, request, &inode)) < 0)
        return error;
    dentry_instantiate(child, inode);
    inode_unref(inode);
    return 0;
}

static unsigned apply_umask(unsigned mode)
{
    struct lx_thread *thread = lx_current();

    return thread && thread->process && thread->process->fs ? mode & ~thread->process->fs->umask : mode;
}

/* One round of open with O_CREAT: the last component under its directory's mutex. Returns 1 when a symbolic link is to be followed:
 * *out_link then has it. */
static int open_or_create(struct parent_lookup *at, unsigned flags, unsigned mode, struct dentry **out_link, struct open_file **out_file)
{
    struct inode *directory = at->parent->inode;
    bool created = false;
    scoped_dentry child = NULL;
    int error;

    if (at->last != LAST_NORMAL) {
        scoped_dentry found = NULL;
        error = vfs_lookup(at->parent, at->last == LAST_DOTDOT ? ".." : ".", 0, &found);
        return error < 0 ? error : open_found(found, flags, false, NULL, out_file);
    }
    if (at->trailing_slash)
        return -EISDIR;
    {
        scoped_mutex(&directory->content_mutex);
        if ((error = dentry_lookup(at->parent, at->name, at->name_size, /*mutex_is_held=*/true, &child)) < 0)
            return error;
        if (!child->inode) {
            struct node_request request = { .mode = S_IFREG | (apply_umask(mode) & 07777), .opens = true };
            if ((error = vfs_want_write(child)) < 0 || (error = vfs_create_child(at->parent, child, &request)) < 0)
                return error;
            created = true;
        }
    }
    if (!created) {
        if (child->mounted) { /* a single granted file */
            scoped_dentry below = child;
            child = NULL;
            if ((error = vfs_lookup(at->parent, at->name, 0, &child)) < 0)
                return error;
        }
        if (S_ISLNK(child->inode->mode)) {
            if (flags & O_EXCL)
                return -EEXIST;
            if (flags & O_NOFOLLOW)
                return -ELOOP;
            *out_link = child;
            child = NULL;
            return 1;
        }
    }
    error = open_found(child, flags, created, NULL, out_file);
    if (error == 0)
        notify_opened(*out_file, created);
    else if (created && child->inode->ops->abandon)
        child->inode->ops->abandon(child->inode, NULL);
    return error;
}

/* Live file systems: look up, make and open in one call to the monitor. -EAGAIN: not this way. */
static int open_live(struct parent_lookup *at, unsigned flags, unsigned mode, struct open_file **out_file)
{
    struct inode *directory = at->parent->inode, *inode = NULL;
    scoped_dentry child = NULL;
    void *object = NULL;
    bool created = false;
    int error;

    if (at->trailing_slash || (flags & (O_PATH | O_DIRECTORY)) || !directory->ops->open_child)
        return -EAGAIN;
    if ((wanted_access(flags) & MAY_WRITE) && vfs_is_read_only(at->parent))
        return -EAGAIN; /* the right error depends on what is there */
    if (inode_permission(directory, MAY_WRITE | MAY_EXECUTE) < 0 || !lx_capable(CAP_DAC_OVERRIDE))
        return -EAGAIN;
    /* What the new file would get besides its permission bits is worked out on the ordinary way. */
    struct node_request request = { .mode = S_IFREG | mode };
    new_owner(directory, &request);
    if ((flags & O_CREAT) && (request.owner || request.group || (mode & ~0777u)))
        return -EAGAIN;
    {
        scoped_mutex(&directory->content_mutex);
        error = directory->ops->open_child(directory, at->name, at->name_size, flags, apply_umask(mode) & 07777, &created, &inode, &object);
        if (error == -ENOENT && !(flags & O_CREAT))
            (void)dentry_put(at->parent, at->name, at->name_size, NULL, &child);
        if (error < 0)
            return error;
        error = dentry_put(at->parent, at->name, at->name_size, inode, &child);
    }
    if (error == 0)
        error = open_found(child, flags & ~(unsigned)(O_CREAT | O_EXCL), true, object, out_file);
    else if (inode->ops->abandon)
        inode->ops->abandon(inode, object);
    if (error == 0)
        notify_opened(*out_file, created);
    inode_unref(inode);
    return error;
}

static unsigned lookup_flags_of(unsigned flags)
{
    return (flags & O_NOFOLLOW ? 0 : LOOKUP_FOLLOW) | (flags & O_DIRECTORY ? LOOKUP_DIRECTORY : 0);
}

static int open_existing(struct dentry *base, const char *path, unsigned flags, unsigned lookup_flags, struct open_file **out_file)
{
    scoped_dentry dentry = NULL;
    struct parent_lookup at;
    struct walk walk;
    int error;

    lookup_flags |= lookup_flags_of(flags);
    error = walk_begin(&walk, base, path, lookup_flags | LOOKUP_STOP_AT_LIVE);
    if (error < 0)
        return error;
    if (walk.last_name) {
        walk_take_parent(&walk, &at);
        dentry = at.parent;
        error = open_live(&at, flags, 0, out_file);
        if (error != -EAGAIN && error != -ESTALE)
            return error;
        /* The walk is done again from the start, since the rest of it was lost; this is the rare way. */
        scoped_dentry found = NULL;
        error = vfs_lookup(base, path, lookup_flags, &found);
        return error < 0 ? error : vfs_open_dentry(found, flags, out_file);
    }
    dentry = dentry_ref(walk.at);
    walk_end(&walk);
    return vfs_open_dentry(dentry, flags, out_file);
}

static int open_temporary(struct dentry *base, const char *path, unsigned flags, unsigned mode, unsigned lookup_flags, struct open_file **out_file)
{
    scoped_dentry directory = NULL;
    scoped_dentry dentry = NULL;
    struct node_request request = { .mode = S_IFREG | (apply_umask(mode) & 07777) };
    struct inode *inode;
    char name[32];
    int error;

    error = vfs_lookup(base, path, lookup_flags | lookup_flags_of(flags) | LOOKUP_DIRECTORY, &directory);
    if (error < 0)
        return error;
    if ((error = vfs_want_write(directory)) < 0)
        return error;
    if ((error = inode_permission(directory->inode, MAY_WRITE | MAY_EXECUTE)) < 0)
        return error;
    /* A file that may get a name later: the host cannot be asked for that by descriptor, so that programs had better use a name at once. */
    if (!directory->inode->ops->temporary || (!(flags & O_EXCL) && (directory->inode->superblock->type->flags & FILESYSTEM_LIVE)))
        return -EOPNOTSUPP;
    new_owner(directory->inode, &request);
    error = directory->inode->ops->temporary(directory->inode, request.mode, request.owner, request.group, &inode);
    if (error < 0)
        return error;
    format(name, sizeof(name), "#%lu", (unsigned long)inode->number);
    dentry = dentry_create(directory->mount, directory, name, strlen(name), inode);
    inode_unref(inode);
    if (!dentry)
        return -ENOMEM;
    dentry->flags |= DENTRY_DELETED | (flags & O_EXCL ? 0 : DENTRY_UNNAMED);
    return open_regular(dentry, dentry->inode, flags & ~(unsigned)O_DIRECTORY, NULL, out_file);
}

int vfs_open_resolved(struct dentry *base, const char *path, unsigned flags, unsigned mode, unsigned lookup_flags, struct open_file **out_file)
{
    struct inode *links[LX_SYMLINKS_MAX];
    unsigned link_count = 0;
    scoped_dentry from = NULL;
    int error;

    if (!*path && !(lookup_flags & LOOKUP_EMPTY))
        return -ENOENT;
    if ((flags & __O_TMPFILE) && !(flags & O_PATH))
        return open_temporary(base, path, flags, mode, lookup_flags, out_file);
    if (!(flags & O_CREAT) || (flags & O_PATH))
        return open_existing(base, path, flags & ~(unsigned)O_CREAT, lookup_flags, out_file);

    for (;;) {
        struct parent_lookup at;
        struct dentry *link = NULL;
        error = vfs_lookup_parent(from ? from : base, path, lookup_flags, &at);
        if (error < 0)
            break;
        error = at.last == LAST_NORMAL ? open_live(&at, flags, mode, out_file) : -EAGAIN;
        if (error == -EAGAIN || error == -ESTALE)
            error = open_or_create(&at, flags, mode, &link, out_file);
        dentry_unref(from);
        from = at.parent;
        if (error <= 0)
            break;
        /* Make what a dangling link points to: go on from the link's folder with its text. */
        struct inode *inode = link->inode;
        if (link_count == LX_SYMLINKS_MAX || (lookup_flags & LOOKUP_NO_SYMLINKS)) {
            dentry_unref(link);
            error = -ELOOP;
            break;
        }
        links[link_count++] = inode_ref(inode);
        dentry_unref(link);
        if (inode->ops->jump) {
            struct dentry *target = NULL;
            error = lookup_flags & (LOOKUP_NO_MAGIC_LINKS | LOOKUP_BENEATH | LOOKUP_IN_ROOT) ? -ELOOP : inode->ops->jump(inode, &target);
            if (error < 0)
                break;
            if (target) {
                error = vfs_open_dentry(target, flags, out_file);
                dentry_unref(target);
                break;
            }
        }
        if (!inode->link_text && (error = inode->ops->read_link ? inode->ops->read_link(inode) : -EINVAL) < 0)
            break;
        path = inode->link_text;
    }
    while (link_count)
        inode_unref(links[--link_count]);
    return error;
}

int vfs_open(struct dentry *base, const char *path, unsigned flags, unsigned mode, struct open_file **out_file)
{
    return vfs_open_resolved(base, path, flags, mode, 0, out_file);
}

int vfs_open_executable(struct dentry *base, const char *path, unsigned lookup_flags, struct dentry **out_dentry)
{
    scoped_dentry dentry = NULL;
    int error = vfs_lookup(base, path, lookup_flags, &dentry);

    if (error < 0)
        return error;
    struct inode *inode = dentry->inode;
    if (S_ISLNK(inode->mode))
        return -ELOOP;
    if (!S_ISREG(inode->mode) || (dentry->mount->flags & MS_NOEXEC))
        return -EACCES;
    if ((error = inode_permission(inode, MAY_EXECUTE)) < 0 || (error = inode_deny_write(inode)) < 0)
        return error;
    *out_dentry = dentry;
    dentry = NULL;
    return 0;
}

int vfs_truncate(struct inode *inode, uint64_t size)
{
    int error;

    if (!inode->ops->truncate)
        return -EINVAL;
    int64_t allowed = file_size_allowed(inode, 0, size);
    if (allowed < 0 || (uint64_t)allowed < size)
        return -EFBIG;
    scoped_mutex(&inode->content_mutex);
    error = inode->ops->truncate(inode, size);
    if (error == 0)
        inode_remove_privileges(inode);
    return error;
}

void inode_remove_privileges(struct inode *inode)
{
    uint32_t mode = inode->mode;

    if (!(mode & (S_ISUID | S_ISGID)) || lx_capable(CAP_FSETID))
        return;
    mode &= ~(uint32_t)S_ISUID;
    if (mode & 0010)
        mode &= ~(uint32_t)S_ISGID;
    if (mode == inode->mode)
        return;
    struct attribute_change change = { .mask = BLY_SET_MODE, .mode = mode & 07777 };
    if (!inode->ops->set_attributes || inode->ops->set_attributes(inode, &change) < 0) {
        scoped_lock(&inode->lock);
        inode->mode = mode;
    }
}
