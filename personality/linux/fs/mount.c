/* Superblocks, mounts and the registry of file systems; where a process's root and working directory are.
 * vfs.tree_lock guards the list of mounts and the links between mounts and dentries. */
#include "personality/linux/fs/dentry.h"
#include "personality/linux/fs/internal.h"
#include "personality/linux/fs/locks.h"
#include "personality/linux/fs/vfs.h"
#include <linux/magic.h>
#include <linux/mount.h>

int filesystem_register(const struct filesystem_type *type)
{
    scoped_lock(&vfs()->tree_lock);
    if (vfs()->type_count == sizeof(vfs()->types) / sizeof(vfs()->types[0]))
        return -ENOSPC;
    vfs()->types[vfs()->type_count++] = type;
    return 0;
}

const struct filesystem_type *filesystem_find(const char *name)
{
    for (uint32_t i = 0; i < vfs()->type_count; i++)
        if (strcmp(vfs()->types[i]->name, name) == 0)
            return vfs()->types[i];
    return NULL;
}

struct superblock *superblock_create(const struct filesystem_type *type)
{
    struct superblock *superblock = heap_alloc(sizeof(*superblock));

    if (!superblock)
        return NULL;
    superblock->type = type;
    superblock->references = 1;
    superblock->device = lx_makedev(0, __atomic_add_fetch(&vfs()->next_device, 1, __ATOMIC_RELAXED));
    superblock->next_inode_number = 0;
    return superblock;
}

void superblock_unref(struct superblock *superblock)
{
    if (!superblock || --superblock->references)
        return;
    if (superblock->type->release)
        superblock->type->release(superblock);
    else
        heap_free(superblock->data);
    heap_free(superblock);
}

/* Called when the root dentry has ended: a mount lives as long as its root (somebody may still be in it after umount). */
void mount_free(struct mount *mount)
{
    heap_free(mount->source);
    heap_free(mount->options);
    superblock_unref(mount->superblock);
    heap_free(mount);
}

static struct mount *mount_create(struct superblock *superblock, struct inode *root, unsigned flags, const char *source)
{
    struct mount *mount = heap_alloc(sizeof(*mount));

    if (!mount)
        return NULL;
    mount->flags = flags;
    mount->source = heap_string(source, strlen(source));
    list_init(&mount->all);
    mount->root = mount->source ? dentry_create(mount, NULL, "", 0, root) : NULL;
    if (!mount->root) {
        heap_free(mount->source);
        heap_free(mount);
        return NULL;
    }
    mount->superblock = superblock;
    mount->id = __atomic_add_fetch(&vfs()->next_mount_id, 1, __ATOMIC_RELAXED);
    return mount;
}

static void mounts_changed(void)
{
    vfs()->mounts_generation++;
    wait_queue_wake_all(&vfs()->mounts_queue);
}

/* On success the mount has the caller's reference on `superblock`; the root inode gets one of its own. */
int vfs_mount(struct dentry *where, struct superblock *superblock, struct inode *root, unsigned flags, const char *source)
{
    struct mount *mount = mount_create(superblock, root, flags, source);

    if (!mount)
        return -ENOMEM;
    {
        scoped_lock(&vfs()->tree_lock);
        if (where) {
            while (where->mounted)
                where = where->mounted->root;
            dentry_ref(where);
            mount->mountpoint = where;
            mount->parent_id = where->mount->id;
            where->mounted = mount;
        } else {
            mount->parent_id = mount->id;
        }
        list_push(&vfs()->mounts, &mount->all);
    }
    mounts_changed();
    return 0;
}

/* The root of the mount that follows the one with that number, of those that have something to write; NULL: none. */
static struct dentry *next_to_synchronize(uint32_t id)
{
    struct mount *next = NULL;

    scoped_lock(&vfs()->tree_lock);
    list_for_each(node, &vfs()->mounts) {
        struct mount *mount = container_of(node, struct mount, all);
        if (mount->id > id && !(mount->flags & MS_RDONLY) && mount->superblock->type->synchronize && (!next || mount->id < next->id))
            next = mount;
    }
    return next ? dentry_ref(next->root) : NULL;
}

void vfs_synchronize(void)
{
    struct dentry *root;

    for (uint32_t id = 0; (root = next_to_synchronize(id)); dentry_unref(root)) {
        struct superblock *superblock = root->mount->superblock;
        id = root->mount->id;
        (void)superblock->type->synchronize(superblock, root->inode); /* sync(2) is always successful */
    }
}

/* Attaches no name: pipes, sockets, memfds. */
static int mount_anonymous(struct superblock *superblock, struct inode *root, struct mount **out_mount)
{
    struct mount *mount = mount_create(superblock, root, 0, "none");

    if (!mount)
        return -ENOMEM;
    *out_mount = mount;
    return 0;
}

static bool has_children_mounted(const struct mount *mount)
{
    list_for_each(node, &vfs()->mounts) {
        const struct mount *other = container_of(node, struct mount, all);
        if (other->mountpoint && other->mountpoint->mount == mount)
            return true;
    }
    return false;
}

/* Throws out of the hash every idle dentry of the mount, leaves first. */
static void forget_dentries(struct dentry *dentry, struct list *dead)
{
    struct dentry *root = dentry;

    for (;;) {
        struct list *child = list_first(&dentry->children);
        if (child) {
            dentry = container_of(child, struct dentry, sibling);
            continue;
        }
        if (dentry == root)
            return;
        struct dentry *parent = dentry->parent;
        if (dentry->references)
            return;
        dentry_unhash_locked(dentry);
        dentry_dispose_if_idle_locked(dentry, dead);
        dentry = parent;
    }
}

/* References that users (not cached children) hold on the dentries of a tree. */
static uint64_t users_below(struct dentry *root)
{
    uint64_t users = 0;
    struct dentry *dentry = root;

    for (;;) {
        uint64_t children = 0;
        list_for_each(node, &dentry->children)
            children++;
        users += dentry->references - children;
        if (!list_empty(&dentry->children)) {
            dentry = container_of(dentry->children.next, struct dentry, sibling);
            continue;
        }
        while (dentry != root && dentry->sibling.next == &dentry->parent->children)
            dentry = dentry->parent;
        if (dentry == root)
            return users;
        dentry = container_of(dentry->sibling.next, struct dentry, sibling);
    }
}

int vfs_unmount(struct dentry *root, bool detach)
{
    struct mount *mount = root->mount;
    struct list dead;

    list_init(&dead);
    {
        scoped_lock(&vfs()->tree_lock);
        if (mount->root != root || !mount->mountpoint)
            return -EINVAL;
        if (root->mounted || has_children_mounted(mount))
            return -EBUSY;
        /* The caller's reference and the mount's own are two users. */
        if (!detach && users_below(root) > 2)
            return -EBUSY;
        mount->mountpoint->mounted = NULL;
        dentry_unref_locked(mount->mountpoint, &dead);
        mount->mountpoint = NULL;
        list_remove(&mount->all);
        if (!detach)
            forget_dentries(root, &dead);
        dentry_unref_locked(root, &dead);
    }
    dentries_free(&dead);
    mounts_changed();
    return 0;
}

/* ---- Root and working directory of a process ---- */

struct filesystem_context *filesystem_context_create(void)
{
    struct filesystem_context *context = heap_alloc(sizeof(*context));

    if (!context)
        return NULL;
    struct dentry *root = vfs()->root_mount->root;
    context->references = 1;
    context->root = dentry_ref(root);
    context->directory = dentry_ref(root);
    context->umask = 022;
    return context;
}

struct filesystem_context *filesystem_context_copy(struct filesystem_context *from)
{
    struct filesystem_context *context = heap_alloc(sizeof(*context));

    if (!context)
        return NULL;
    scoped_lock(&from->lock);
    context->references = 1;
    context->root = dentry_ref(from->root);
    context->directory = dentry_ref(from->directory);
    context->umask = from->umask;
    return context;
}

void filesystem_context_unref(struct filesystem_context *context)
{
    if (!context || --context->references)
        return;
    dentry_unref(context->root);
    dentry_unref(context->directory);
    heap_free(context);
}

static void replace(struct filesystem_context *context, struct dentry **slot, struct dentry *dentry)
{
    struct dentry *old;
    {
        scoped_lock(&context->lock);
        old = *slot;
        *slot = dentry_ref(dentry);
    }
    dentry_unref(old);
}

int filesystem_context_set_directory(struct filesystem_context *context, struct dentry *directory)
{
    replace(context, &context->directory, directory);
    return 0;
}

int filesystem_context_set_root(struct filesystem_context *context, struct dentry *root)
{
    replace(context, &context->root, root);
    return 0;
}

/* ---- Anonymous files ---- */

static const struct inode_ops anonymous_ops = { 0 };
static const struct filesystem_type anonymous_type = { .name = "anon_inodefs", .magic = ANON_INODE_FS_MAGIC };

struct inode *anonymous_inode(unsigned mode)
{
    struct inode *inode = inode_create(vfs()->anonymous_mount->superblock, &anonymous_ops, mode, 0);
    struct lx_thread *thread = lx_current();

    if (inode && thread && thread->process) {
        inode->owner = thread->process->credentials.fsuid;
        inode->group = thread->process->credentials.fsgid;
    }
    return inode;
}

struct dentry *anonymous_dentry(const char *name, struct inode *inode)
{
    struct dentry *dentry = dentry_create(vfs()->anonymous_mount, vfs()->anonymous_mount->root, name, strlen(name), inode);

    if (dentry)
        dentry->flags = DENTRY_ANONYMOUS;
    return dentry;
}

int lx_vfs_init(void)
{
    struct vfs *state = heap_alloc(sizeof(*state));
    struct superblock *superblock;
    int error;

    if (!state)
        return -ENOMEM;
    list_init(&state->lru);
    list_init(&state->mounts);
    list_init(&state->idle_handles);
    wait_queue_init(&state->mounts_queue);
    state->hash_size = 2048;
    state->hash = heap_alloc(state->hash_size * sizeof(*state->hash));
    if (!state->hash)
        return -ENOMEM;
    lx_kernel->vfs = state;

    superblock = superblock_create(&anonymous_type);
    if (!superblock)
        return -ENOMEM;
    superblock->root = inode_create(superblock, &anonymous_ops, S_IFDIR | 0555, 0);
    if (!superblock->root)
        return -ENOMEM;
    error = mount_anonymous(superblock, superblock->root, &state->anonymous_mount);
    return error < 0 ? error : locks_init();
}
