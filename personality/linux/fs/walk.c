/* The path walk: from a path and a base to a dentry (path_resolution(7)).
 *
 * The walk runs with vfs.tree_lock held and counts no references as long as the cache knows the names. Where it does not, the
 * walk takes a reference on the place it has reached and on its root, lets the lock go, asks the file system (which may call
 * the monitor) and goes on from the answer. Symbolic links are not recursion: the rest of the outer path waits on a stack. */
#include "personality/linux/fs/dentry.h"
#include "personality/linux/fs/vfs.h"
#include "personality/linux/fs/walk.h"
#include <linux/mount.h>

static void enter_mounts(struct walk *walk)
{
    while (walk->at->mounted)
        walk->at = walk->at->mounted->root;
}

/* Makes `dentry`, which carries a reference, the place reached. */
static void move_held(struct walk *walk, struct dentry *dentry)
{
    dentry_unref_locked(walk->held, &walk->dead);
    walk->held = walk->at = dentry;
}

static void hold_root(struct walk *walk)
{
    if (!walk->root_held) {
        dentry_ref(walk->root);
        walk->root_held = true;
    }
}

/* Whether `dentry` is `ancestor` or below it, across mounts. */
static bool is_below(const struct dentry *dentry, const struct dentry *ancestor)
{
    for (;;) {
        if (dentry == ancestor)
            return true;
        if (dentry->parent != dentry)
            dentry = dentry->parent;
        else if (dentry->mount->mountpoint)
            dentry = dentry->mount->mountpoint;
        else
            return false;
    }
}

static int step_up(struct walk *walk)
{
    struct dentry *at = walk->at;

    if (at == walk->root || (walk->flags & (LOOKUP_BENEATH | LOOKUP_IN_ROOT) && at == walk->base)) {
        if (walk->flags & LOOKUP_BENEATH)
            return -EXDEV;
        return 0;
    }
    while (at->parent == at && at->mount->mountpoint && at != walk->root) {
        if (walk->flags & LOOKUP_NO_CROSS_MOUNT)
            return -EXDEV;
        at = at->mount->mountpoint;
    }
    if (at != walk->root)
        at = at->parent;
    walk->at = at;
    enter_mounts(walk);
    return 0;
}

/* Asks the file system for a name the cache does not know. Returns the child with a reference in *out_child. */
static int look_beyond_cache(struct walk *walk, const char *name, size_t size, struct dentry **out_child)
{
    struct dentry *parent = walk->at;
    int error;

    if (walk->held != parent) {
        dentry_ref(parent);
        move_held(walk, parent);
    }
    hold_root(walk);
    lock_release(&vfs()->tree_lock);
    error = dentry_lookup(parent, name, size, /*mutex_is_held=*/false, out_child);
    lock_acquire(&vfs()->tree_lock);
    return error;
}

/* Whether the name that the cache has in a live folder may be believed. The lock may be let go: *child is then looked for again. */
static bool is_believed(struct walk *walk, const char *name, size_t size, struct dentry **child)
{
    struct dentry *parent = walk->at;
    const struct inode_ops *ops = parent->inode->ops;

    if (!ops->poll || walk->revalidate)
        return false;
    if (!walk->polled) {
        walk->polled = true;
        if (walk->held != parent)
            move_held(walk, dentry_ref(parent));
        hold_root(walk);
        lock_release(&vfs()->tree_lock);
        walk->believes = ops->poll();
        lock_acquire(&vfs()->tree_lock);
        *child = dentry_find_locked(parent, name, size, name_hash(parent, name, size));
    }
    if (!walk->believes || !*child)
        return false;
    return (*child)->inode ? ops->is_named(parent->inode, name, size, (*child)->inode) : ops->is_absent(parent->inode, (*child)->absence);
}

/* Sets *out_path to what is to be walked next, from walk->at. */
static int follow_link(struct walk *walk, struct dentry *link, const char *rest, const char **out_path)
{
    struct inode *inode = link->inode;
    struct dentry *target = NULL;
    int error = 0;

    if (walk->flags & LOOKUP_NO_SYMLINKS)
        return -ELOOP;
    if (walk->link_count >= LX_SYMLINKS_MAX)
        return -ELOOP;
    if ((link->mount->flags & MS_NOSYMFOLLOW) != 0)
        return -ELOOP;
    if (inode->ops->jump) {
        if (walk->flags & (LOOKUP_NO_MAGIC_LINKS))
            return -ELOOP;
        if (walk->flags & (LOOKUP_BENEATH | LOOKUP_IN_ROOT))
            return -EXDEV;
    }
    walk->links[walk->link_count++] = inode_ref(inode);
    if (inode->ops->jump || !inode->link_text) { /* the lock will be let go */
        if (walk->held != walk->at)
            move_held(walk, dentry_ref(walk->at));
        hold_root(walk);
    }
    if (inode->ops->jump) {
        lock_release(&vfs()->tree_lock);
        error = inode->ops->jump(inode, &target);
        lock_acquire(&vfs()->tree_lock);
        if (error < 0)
            return error;
        if (target) {
            if ((walk->flags & LOOKUP_NO_CROSS_MOUNT) && target->mount != walk->at->mount) {
                dentry_unref_locked(target, &walk->dead);
                return -EXDEV;
            }
            move_held(walk, target);
            *out_path = rest;
            return 0;
        }
    }
    if (!inode->link_text) {
        if (!inode->ops->read_link)
            return -EINVAL;
        lock_release(&vfs()->tree_lock);
        error = inode->ops->read_link(inode);
        lock_acquire(&vfs()->tree_lock);
        if (error < 0)
            return error;
    }
    const char *text = inode->link_text;
    if (!*text)
        return -ENOENT;
    if (*rest) /* not the end: come back to it */
        walk->stack[walk->depth++] = rest;
    if (*text == '/') {
        if (walk->flags & LOOKUP_BENEATH)
            return -EXDEV;
        walk->at = walk->flags & LOOKUP_IN_ROOT ? walk->base : walk->root;
        enter_mounts(walk);
    }
    *out_path = text;
    return 0;
}

static const char *skip_slashes(const char *path)
{
    while (*path == '/')
        path++;
    return path;
}

static int check_crossing(struct walk *walk, struct dentry *from)
{
    return (walk->flags & LOOKUP_NO_CROSS_MOUNT) && walk->at->mount != from->mount ? -EXDEV : 0;
}

static int walk_components(struct walk *walk, const char *path)
{
    for (;;) {
        path = skip_slashes(path);
        if (!*path) {
            if (walk->depth == 0)
                break;
            path = walk->stack[--walk->depth];
            continue;
        }
        const char *name = path;
        while (*path && *path != '/')
            path++;
        size_t size = (size_t)(path - name);
        const char *rest = skip_slashes(path);
        bool last = !*rest && walk->depth == 0;
        if (last && *path)
            walk->must_be_directory = true;

        struct inode *directory = walk->at->inode;
        if (!inode_is_directory(directory))
            return -ENOTDIR;
        int error = inode_permission(directory, MAY_EXECUTE);
        if (error < 0)
            return error;
        walk->fresh = false;
        if (name[0] == '.' && size <= 2 && (size == 1 || name[1] == '.')) {
            if (last && (walk->flags & LOOKUP_PARENT)) {
                walk->last_name = name;
                walk->last_size = size;
                return 0;
            }
            if (size == 2 && (error = step_up(walk)) < 0)
                return error;
            path = rest;
            continue;
        }
        if (size > LX_NAME_MAX)
            return -ENAMETOOLONG;
        if (last && walk->guessed && (walk->flags & (LOOKUP_PARENT | LOOKUP_STOP_AT_LIVE)))
            return -ESTALE; /* what is to be done there must not miss the place */
        if (last && (walk->flags & LOOKUP_PARENT)) {
            walk->last_name = name;
            walk->last_size = size;
            return 0;
        }

        struct dentry *parent = walk->at, *child;
        child = dentry_find_locked(parent, name, size, name_hash(parent, name, size));
        if (last && (walk->flags & LOOKUP_STOP_AT_LIVE) && directory->ops->open_child && !(child && child->mounted)) {
            if (child && !child->inode && is_believed(walk, name, size, &child) && !child->inode)
                return -ENOENT;
            walk->last_name = name;
            walk->last_size = size;
            return 0;
        }
        bool ask = !child;
        if (child && !names_are_cached(directory) && !child->mounted) {
            ask = !is_believed(walk, name, size, &child);
            if (!ask && child->inode) {
                walk->fresh = directory->ops->is_current(child->inode);
            } else if (ask && child && !last && !walk->revalidate && (directory->superblock->type->flags & FILESYSTEM_LIVE) && child->inode &&
                       inode_is_directory(child->inode)) {
                /* A folder on the way, see FILESYSTEM_LIVE. */
                ask = false;
                walk->guessed = true;
            }
        }
        if (ask) {
            error = look_beyond_cache(walk, name, size, &child);
            if ((error < 0 || !child->inode) && walk->guessed) {
                if (error == 0)
                    dentry_unref_locked(child, &walk->dead);
                return -ESTALE;
            }
            if (error < 0)
                return error;
            move_held(walk, child);
            walk->at = parent; /* held by the child's own reference */
            walk->fresh = true;
        }
        if (!child->inode)
            return walk->guessed ? -ESTALE : -ENOENT;
        if (S_ISLNK(child->inode->mode) && (!last || (walk->flags & LOOKUP_FOLLOW) || walk->must_be_directory)) {
            if ((error = follow_link(walk, child, rest, &path)) < 0)
                return error;
            continue;
        }
        walk->at = child;
        enter_mounts(walk);
        if ((error = check_crossing(walk, parent)) < 0)
            return error;
        path = rest;
    }
    return 0;
}

int walk_begin(struct walk *walk, struct dentry *base, const char *path, unsigned flags)
{
    struct lx_thread *thread = lx_current();
    struct filesystem_context *context = thread && thread->process ? thread->process->fs : NULL;
    int error;

    /* Only what must start empty: the arrays need not. */
    walk->flags = flags;
    walk->held = NULL;
    walk->root_held = walk->fresh = walk->must_be_directory = walk->polled = walk->guessed = walk->revalidate = false;
    walk->link_count = walk->depth = 0;
    walk->last_name = NULL;
    list_init(&walk->dead);

    for (;;) {
        lock_acquire(&vfs()->tree_lock);
        if (context) {
            lock_acquire(&context->lock);
            walk->root = context->root;
            walk->at = base ? base : context->directory;
            lock_release(&context->lock);
        } else {
            walk->root = vfs()->root_mount->root;
            walk->at = base ? base : walk->root;
        }
        walk->base = walk->at;
        error = 0;
        if (*path == '/') {
            if (flags & LOOKUP_BENEATH)
                error = -EXDEV;
            walk->at = flags & LOOKUP_IN_ROOT ? walk->base : walk->root;
            enter_mounts(walk);
            /* A mount over the root itself: it is then where ".." stops. */
            if (!(flags & LOOKUP_IN_ROOT))
                walk->root = walk->at;
        }
        if (error == 0)
            error = walk_components(walk, path);
        if (error != -ESTALE)
            break;
        bool again = !walk->revalidate;
        walk_end(walk);
        if (!again)
            return -ENOENT;
        walk->held = NULL;
        walk->last_name = NULL;
        walk->root_held = walk->must_be_directory = walk->guessed = false;
        walk->link_count = walk->depth = 0;
        walk->revalidate = true;
    }
    if (error == 0 && !walk->last_name && !(flags & LOOKUP_PARENT)) {
        if ((walk->must_be_directory || (flags & LOOKUP_DIRECTORY)) && !inode_is_directory(walk->at->inode))
            error = -ENOTDIR;
    }
    if (error < 0)
        walk_end(walk);
    return error;
}

void walk_end(struct walk *walk)
{
    dentry_unref_locked(walk->held, &walk->dead);
    if (walk->root_held)
        dentry_unref_locked(walk->root, &walk->dead);
    lock_release(&vfs()->tree_lock);
    dentries_free(&walk->dead);
    for (unsigned i = 0; i < walk->link_count; i++)
        inode_unref(walk->links[i]);
    walk->link_count = 0;
}

int vfs_lookup(struct dentry *base, const char *path, unsigned flags, struct dentry **out_dentry)
{
    struct walk walk;
    int error;

    if (!*path && !(flags & LOOKUP_EMPTY))
        return -ENOENT;
    error = walk_begin(&walk, base, path, flags);
    if (error < 0)
        return error;
    *out_dentry = dentry_ref(walk.at);
    walk_end(&walk);
    return 0;
}

/* Takes the parent and the last component out of a walk that ended before it; ends the walk. */
void walk_take_parent(struct walk *walk, struct parent_lookup *out)
{
    out->parent = dentry_ref(walk->at);
    out->name_size = walk->last_name ? walk->last_size : 0;
    if (out->name_size)
        memcpy(out->name, walk->last_name, out->name_size);
    out->name[out->name_size] = 0;
    out->trailing_slash = walk->must_be_directory;
    if (!walk->last_name)
        out->last = LAST_ROOT;
    else if (out->name[0] == '.' && out->name_size <= 2 && (out->name_size == 1 || out->name[1] == '.'))
        out->last = out->name_size == 1 ? LAST_DOT : LAST_DOTDOT;
    else
        out->last = LAST_NORMAL;
    walk_end(walk);
}

int vfs_lookup_parent(struct dentry *base, const char *path, unsigned flags, struct parent_lookup *out)
{
    struct walk walk;
    int error;

    if (!*path)
        return -ENOENT;
    error = walk_begin(&walk, base, path, flags | LOOKUP_PARENT);
    if (error == 0)
        walk_take_parent(&walk, out);
    return error;
}

bool dentry_is_below(struct dentry *dentry, struct dentry *ancestor)
{
    scoped_lock(&vfs()->tree_lock);
    return is_below(dentry, ancestor);
}

/* ---- For system calls ---- */

int64_t vfs_get_path(char *buffer, const char *guest_path)
{
    return guest_read_string(buffer, guest_path, LX_PATH_MAX);
}

int vfs_base_at(int directory_fd, struct dentry **out_dentry)
{
    if (directory_fd == AT_FDCWD) {
        struct filesystem_context *context = lx_process()->fs;
        scoped_lock(&context->lock);
        *out_dentry = dentry_ref(context->directory);
        return 0;
    }
    scoped_file file = fd_get(directory_fd);
    if (!file)
        return -EBADF;
    *out_dentry = dentry_ref(file->dentry);
    return 0;
}

int vfs_lookup_at(int directory_fd, const char *guest_path, unsigned flags, struct dentry **out_dentry)
{
    char path[LX_PATH_MAX];
    scoped_dentry base = NULL;
    int64_t size = vfs_get_path(path, guest_path);
    int error;

    if (size < 0)
        return (int)size;
    if (size == 0 && !(flags & LOOKUP_EMPTY))
        return -ENOENT;
    if (path[0] != '/' && directory_fd != AT_FDCWD) {
        error = vfs_base_at(directory_fd, &base);
        if (error < 0)
            return error;
    }
    return vfs_lookup(base, path, flags, out_dentry);
}
