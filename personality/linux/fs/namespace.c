/* Changing names: mkdir, mknod, symlink, link, unlink, rmdir, rename, and attributes by dentry.
 * Directories' content_mutexes: parent before child; two directories only under vfs.rename_mutex, the ancestor first. */
#include "personality/linux/fs/dentry.h"
#include "personality/linux/fs/internal.h"
#include "personality/linux/fs/walk.h"
#include "personality/linux/process/process.h"
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/mount.h>

static void notify(struct inode *directory, uint32_t mask, uint32_t cookie, struct dentry *child)
{
    notify_event(directory, NULL, mask | (child->inode && inode_is_directory(child->inode) ? 0x40000000u /* IN_ISDIR */ : 0), cookie,
                 child->name, child->name_size);
}

unsigned process_umask(void)
{
    struct lx_thread *thread = lx_current();

    return thread && thread->process && thread->process->fs ? thread->process->fs->umask : 0;
}

/* ---- Making ---- */

int vfs_create(struct dentry *base, const char *path, unsigned lookup_flags, struct node_request *request, struct dentry **out_dentry)
{
    struct parent_lookup at;
    int error = vfs_lookup_parent(base, path, lookup_flags, &at);

    if (error < 0)
        return error;
    scoped_dentry parent = at.parent;
    scoped_dentry child = NULL;
    if (at.last != LAST_NORMAL)
        return -EEXIST;
    {
        scoped_mutex(&parent->inode->content_mutex);
        if ((error = dentry_lookup(parent, at.name, at.name_size, /*mutex_is_held=*/true, &child)) < 0)
            return error;
        if (child->inode)
            return -EEXIST;
        if (at.trailing_slash && !S_ISDIR(request->mode))
            return -ENOENT;
        if ((error = vfs_want_write(child)) < 0 || (error = vfs_create_child(parent, child, request)) < 0)
            return error;
    }
    notify(parent->inode, 0x100 /* IN_CREATE */, 0, child);
    if (out_dentry) {
        *out_dentry = child;
        child = NULL;
    }
    return 0;
}

int vfs_make_node(struct dentry *base, const char *path, unsigned mode, uint64_t device, const char *target)
{
    struct node_request request = { .mode = mode, .device = device, .target = target };

    return vfs_create(base, path, 0, &request, NULL);
}

int vfs_bind_node(struct dentry *base, const char *path, unsigned mode, struct dentry **out_dentry)
{
    struct node_request request = { .mode = (mode & S_IFMT) | (mode & 07777 & ~process_umask()) };

    return vfs_create(base, path, 0, &request, out_dentry);
}

int vfs_link(struct dentry *source, bool source_is_unnamed, struct dentry *base, const char *path)
{
    struct inode *inode = source->inode;
    struct parent_lookup at;
    int error = vfs_lookup_parent(base, path, 0, &at);

    if (error < 0)
        return error;
    scoped_dentry parent = at.parent;
    scoped_dentry child = NULL;
    if (at.last != LAST_NORMAL)
        return -EEXIST;
    {
        scoped_mutex(&parent->inode->content_mutex);
        if ((error = dentry_lookup(parent, at.name, at.name_size, true, &child)) < 0)
            return error;
        if (child->inode)
            return -EEXIST;
        if (at.trailing_slash)
            return -ENOENT;
        if (parent->mount != source->mount || parent->inode->superblock != inode->superblock)
            return -EXDEV;
        if ((error = vfs_want_write(child)) < 0)
            return error;
        if (parent->inode->link_count == 0)
            return -ENOENT;
        if ((error = inode_permission(parent->inode, MAY_WRITE | MAY_EXECUTE)) < 0)
            return error;
        if (inode_is_directory(inode) || !parent->inode->ops->link)
            return -EPERM;
        if (inode->link_count == 0 && !source_is_unnamed)
            return -ENOENT;
        error = parent->inode->ops->link(parent->inode, child->name, child->name_size, inode);
        if (error < 0)
            return error;
        dentry_instantiate(child, inode);
    }
    notify_event(inode, source, 0x4 /* IN_ATTRIB */, 0, NULL, 0);
    notify(parent->inode, 0x100 /* IN_CREATE */, 0, child);
    return 0;
}

/* ---- Removing ---- */

/* Whether `victim` may be removed from `parent` or replaced there (as may_delete of Linux). */
static int may_remove(struct dentry *parent, struct dentry *victim, bool as_directory)
{
    const struct inode *directory = parent->inode;
    int error = inode_permission(directory, MAY_WRITE | MAY_EXECUTE);

    if (error < 0)
        return error;
    /* Sticky: only the owner of the file or of the folder. */
    if ((directory->mode & S_ISVTX) && !inode_owner_or_capable(victim->inode) && !inode_owner_or_capable(directory))
        return -EPERM;
    if (as_directory) {
        if (!inode_is_directory(victim->inode))
            return -ENOTDIR;
    } else if (inode_is_directory(victim->inode)) {
        return -EISDIR;
    }
    if (victim->mounted)
        return -EBUSY;
    return directory->link_count == 0 ? -ENOENT : 0;
}

/* Whether a mount lies on a name of the same directory in another mount. */
static bool is_mountpoint(struct dentry *dentry)
{
    scoped_lock(&vfs()->tree_lock);
    list_for_each(node, &dentry->inode->aliases)
        if (container_of(node, struct dentry, alias_node)->mounted)
            return true;
    return false;
}

static int remove_child(struct dentry *parent, struct dentry *child, bool as_directory)
{
    struct inode *inode = child->inode;
    int error;

    if ((error = may_remove(parent, child, as_directory)) < 0)
        return error;
    if (as_directory && is_mountpoint(child))
        return -EBUSY;
    if (!parent->inode->ops->unlink)
        return -EPERM;
    if (as_directory)
        mutex_acquire(&inode->content_mutex);
    error = parent->inode->ops->unlink(parent->inode, child->name, child->name_size, inode);
    if (as_directory)
        mutex_release(&inode->content_mutex);
    if (error == 0)
        dentry_delete(child);
    return error;
}

static void notify_removed(struct dentry *parent, struct dentry *child)
{
    if (!inode_is_directory(child->inode)) /* its link count; the folder is told of the name only */
        notify_event(child->inode, NULL, 0x4 /* IN_ATTRIB */, 0, NULL, 0);
    notify(parent->inode, 0x200 /* IN_DELETE */, 0, child);
}

int vfs_unlink(struct dentry *base, const char *path)
{
    struct parent_lookup at;
    int error = vfs_lookup_parent(base, path, 0, &at);

    if (error < 0)
        return error;
    scoped_dentry parent = at.parent;
    scoped_dentry child = NULL;
    if (at.last != LAST_NORMAL)
        return -EISDIR;
    if ((error = vfs_want_write_in(parent, at.name, at.name_size)) < 0)
        return error;
    {
        scoped_mutex(&parent->inode->content_mutex);
        if ((error = dentry_lookup(parent, at.name, at.name_size, true, &child)) < 0)
            return error;
        if (!child->inode)
            return -ENOENT;
        if (at.trailing_slash)
            return inode_is_directory(child->inode) ? -EISDIR : -ENOTDIR;
        if ((error = remove_child(parent, child, /*as_directory=*/false)) < 0)
            return error;
    }
    notify_removed(parent, child);
    return 0;
}

int vfs_rmdir(struct dentry *base, const char *path)
{
    static const int by_last[] = { [LAST_DOT] = -EINVAL, [LAST_DOTDOT] = -ENOTEMPTY, [LAST_ROOT] = -EBUSY };
    struct parent_lookup at;
    int error = vfs_lookup_parent(base, path, 0, &at);

    if (error < 0)
        return error;
    scoped_dentry parent = at.parent;
    scoped_dentry child = NULL;
    if (at.last != LAST_NORMAL)
        return by_last[at.last];
    if ((error = vfs_want_write_in(parent, at.name, at.name_size)) < 0)
        return error;
    {
        scoped_mutex(&parent->inode->content_mutex);
        if ((error = dentry_lookup(parent, at.name, at.name_size, true, &child)) < 0)
            return error;
        if (!child->inode)
            return -ENOENT;
        if ((error = remove_child(parent, child, /*as_directory=*/true)) < 0)
            return error;
    }
    notify_removed(parent, child);
    return 0;
}

/* ---- Renaming ---- */

static bool is_inside(struct dentry *dentry, struct dentry *folder) /* within one mount */
{
    for (; dentry->parent != dentry; dentry = dentry->parent)
        if (dentry == folder)
            return true;
    return dentry == folder;
}

static bool is_inside_safely(struct dentry *dentry, struct dentry *folder)
{
    scoped_lock(&vfs()->tree_lock);
    return is_inside(dentry, folder);
}

static void lock_both(struct dentry *a, struct dentry *b)
{
    if (a->inode == b->inode) {
        mutex_acquire(&a->inode->content_mutex);
        return;
    }
    mutex_acquire(&vfs()->rename_mutex);
    struct dentry *first = is_inside_safely(a, b) ? b : a;
    mutex_acquire(&first->inode->content_mutex);
    mutex_acquire(&(first == a ? b : a)->inode->content_mutex);
}

static void unlock_both(struct dentry *a, struct dentry *b)
{
    mutex_release(&a->inode->content_mutex);
    if (a->inode == b->inode)
        return;
    mutex_release(&b->inode->content_mutex);
    mutex_release(&vfs()->rename_mutex);
}

static char *spare_name(size_t size, bool *failed)
{
    struct dentry *none = NULL;

    if (size < sizeof(none->inline_name))
        return NULL;
    char *name = heap_alloc(size + 1);
    *failed |= !name;
    return name;
}

/* The names change places, or the old one moves, in the cache. */
static int rename_in_cache(struct dentry *source, struct dentry *target, struct dentry *from, struct dentry *to,
                           const struct parent_lookup *new_name, bool exchange)
{
    struct list dead;
    bool failed = false;
    char *spare = spare_name(new_name->name_size, &failed), *other_spare = exchange ? spare_name(source->name_size, &failed) : NULL;
    char *old = NULL, *other_old = NULL;
    char old_name[LX_NAME_MAX + 1];
    size_t old_size = source->name_size;

    list_init(&dead);
    memcpy(old_name, source->name, old_size);
    {
        scoped_lock(&vfs()->tree_lock);
        if (failed) { /* no memory for the names: both are looked up again */
            dentry_unhash_locked(source);
            dentry_unhash_locked(target);
        } else if (exchange) {
            dentry_unhash_locked(target);
            dentry_move_locked(source, to, new_name->name, new_name->name_size, spare, &old, &dead);
            dentry_move_locked(target, from, old_name, old_size, other_spare, &other_old, &dead);
            dentry_hash_locked(target);
        } else {
            dentry_unhash_locked(target);
            if (target->inode)
                target->flags |= DENTRY_DELETED;
            dentry_move_locked(source, to, new_name->name, new_name->name_size, spare, &old, &dead);
        }
        dentry_invalidate_aliases_locked(from->inode, old_name, old_size, exchange ? target : NULL, &dead);
        dentry_invalidate_aliases_locked(to->inode, new_name->name, new_name->name_size, source, &dead);
    }
    dentries_free(&dead);
    heap_free(old);
    heap_free(other_old);
    return 0;
}

static int rename_locked(struct dentry *from, struct dentry *source, struct dentry *to, struct dentry *target,
                         const struct parent_lookup *old_at, const struct parent_lookup *new_at, unsigned flags)
{
    bool exchange = flags & RENAME_EXCHANGE;
    bool source_is_directory, target_is_directory;
    int error;

    if (!source->inode)
        return -ENOENT;
    if ((flags & RENAME_NOREPLACE) && target->inode)
        return -EEXIST;
    if (exchange && !target->inode)
        return -ENOENT;
    source_is_directory = inode_is_directory(source->inode);
    target_is_directory = target->inode && inode_is_directory(target->inode);
    if (exchange && !target_is_directory && new_at->trailing_slash)
        return -ENOTDIR;
    if (!source_is_directory && (old_at->trailing_slash || (!exchange && new_at->trailing_slash)))
        return -ENOTDIR;
    if (source_is_directory && is_inside_safely(to, source))
        return -EINVAL;
    if (target->inode && target_is_directory && is_inside_safely(from, target))
        return exchange ? -EINVAL : -ENOTEMPTY;
    if (source->inode == target->inode)
        return 1;
    if ((error = may_remove(from, source, source_is_directory)) < 0)
        return error;
    if (!target->inode) {
        if (to->inode->link_count == 0)
            return -ENOENT;
        error = inode_permission(to->inode, MAY_WRITE | MAY_EXECUTE);
    } else {
        error = may_remove(to, target, exchange ? target_is_directory : source_is_directory);
    }
    if (error < 0)
        return error;
    /* A folder that gets another parent has its ".." written. */
    if (from != to && source_is_directory && (error = inode_permission(source->inode, MAY_WRITE)) < 0)
        return error;
    if (exchange && from != to && target_is_directory && (error = inode_permission(target->inode, MAY_WRITE)) < 0)
        return error;
    if (is_mountpoint(source) || (target->inode && is_mountpoint(target)))
        return -EBUSY;
    if (!from->inode->ops->rename)
        return -EPERM;

    bool lock_target = target_is_directory && !exchange;
    if (lock_target)
        mutex_acquire(&target->inode->content_mutex);
    error = from->inode->ops->rename(from->inode, old_at->name, old_at->name_size, source->inode, to->inode, new_at->name,
                                     new_at->name_size, target->inode, flags & (RENAME_NOREPLACE | RENAME_EXCHANGE));
    if (lock_target)
        mutex_release(&target->inode->content_mutex);
    if (error < 0)
        return error;
    return rename_in_cache(source, target, from, to, new_at, exchange);
}

static void notify_renamed(struct dentry *from, struct dentry *to, struct dentry *source, struct dentry *target, const struct parent_lookup *old_at)
{
    uint32_t cookie = __atomic_add_fetch(&vfs()->rename_cookie, 1, __ATOMIC_RELAXED);
    uint32_t folder = inode_is_directory(source->inode) ? 0x40000000u : 0;
    notify_event(from->inode, NULL, 0x40 /* IN_MOVED_FROM */ | folder, cookie, old_at->name, old_at->name_size);
    notify_event(to->inode, NULL, 0x80 /* IN_MOVED_TO */ | folder, cookie, source->name, source->name_size);
    notify_event(source->inode, source, 0x800 /* IN_MOVE_SELF */, 0, NULL, 0);
    if (target->inode && !inode_is_directory(target->inode))
        notify_event(target->inode, NULL, 0x4 /* IN_ATTRIB */, 0, NULL, 0);
}

int vfs_rename(struct dentry *old_base, const char *old_path, struct dentry *new_base, const char *new_path, unsigned flags)
{
    struct parent_lookup old_at, new_at;
    int error = vfs_lookup_parent(old_base, old_path, 0, &old_at);

    if (error < 0)
        return error;
    scoped_dentry from = old_at.parent;
    if ((error = vfs_lookup_parent(new_base, new_path, 0, &new_at)) < 0)
        return error;
    scoped_dentry to = new_at.parent;
    if (from->mount != to->mount)
        return -EXDEV;
    if (old_at.last != LAST_NORMAL)
        return -EBUSY;
    if (new_at.last != LAST_NORMAL)
        return flags & RENAME_NOREPLACE ? -EEXIST : -EBUSY;
    if ((error = vfs_want_write_in(from, old_at.name, old_at.name_size)) < 0)
        return error;

    scoped_dentry source = NULL;
    scoped_dentry target = NULL;
    lock_both(from, to);
    error = dentry_lookup(from, old_at.name, old_at.name_size, true, &source);
    if (error == 0 && (error = dentry_lookup(to, new_at.name, new_at.name_size, true, &target)) == 0)
        error = rename_locked(from, source, to, target, &old_at, &new_at, flags);
    unlock_both(from, to);
    if (error == 0)
        notify_renamed(from, to, source, target, &old_at);
    if (error == 0 && (flags & RENAME_WHITEOUT)) { /* what overlayfs leaves behind: a device node 0, 0 */
        struct node_request whiteout = { .mode = S_IFCHR, .device = 0 };
        (void)vfs_create(old_base, old_path, 0, &whiteout, NULL);
    }
    return error < 0 ? error : 0;
}

/* ---- Attributes ---- */

int vfs_set_attributes(struct dentry *dentry, const struct attribute_change *change)
{
    struct inode *inode = dentry->inode;
    int error = vfs_want_write(dentry);

    if (error < 0)
        return error;
    if (inode->ops->set_attributes) {
        error = inode->ops->set_attributes(inode, change);
        if (error < 0)
            return error;
    } else {
        int64_t now = (int64_t)lx_realtime_ns();
        scoped_lock(&inode->lock);
        if (change->mask & BLY_SET_MODE)
            inode->mode = (inode->mode & S_IFMT) | (change->mode & 07777);
        if (change->mask & BLY_SET_OWNER)
            inode->owner = change->owner;
        if (change->mask & BLY_SET_GROUP)
            inode->group = change->group;
        if (change->mask & BLY_SET_ACCESS_TIME)
            inode->access_ns = change->access_ns;
        if (change->mask & BLY_SET_MODIFY_TIME)
            inode->modify_ns = change->modify_ns;
        inode->change_ns = now;
    }
    if (!(dentry->flags & DENTRY_ANONYMOUS))
        notify_event(inode, dentry, 0x4 /* IN_ATTRIB */, 0, NULL, 0);
    return 0;
}
