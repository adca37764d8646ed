/* The root of a new sandbox, from the start information: the granted host folders as layered or live mounts, memory file systems for
 * what is the sandbox's own, then the small nodes that no host folder gives. Runs once, before there is any process. */
#include "personality/linux/fs/dentry.h"
#include "personality/linux/fs/hostfs.h"
#include "personality/linux/fs/internal.h"
#include "personality/linux/fs/layer.h"
#include "personality/linux/fs/layer_store.h"
#include <linux/mount.h>

/* Mounts of the sandbox's own, unless the user granted a folder at the very place. Also with --read-only they may be written. */
static const struct own_mount { const char *path; uint32_t mode; unsigned flags; } own_mounts[] = {
    { "/tmp", 01777, MS_NOSUID | MS_NODEV },
    { "/run", 0755, MS_NOSUID | MS_NODEV },
    { "/dev", 0755, MS_NOSUID },
    { "/dev/shm", 01777, MS_NOSUID | MS_NODEV },
};

static const char *text_at(uint32_t offset)
{
    return bly_start_string(start_info, offset);
}

static const struct bly_start_mount *mounts(void)
{
    return (const void *)((const char *)start_info + start_info->mounts);
}

/* A name that only carries a mount, in a folder that must not be written: it is in the cache alone, and pinned by the mount. */
static int make_placeholder(struct dentry *parent, const char *name, size_t size, uint32_t mode, struct dentry **out_dentry)
{
    struct inode *inode = anonymous_inode(mode);
    int error;

    if (!inode)
        return -ENOMEM;
    scoped_mutex(&parent->inode->content_mutex);
    error = dentry_put(parent, name, size, inode, out_dentry);
    inode_unref(inode);
    return error;
}

/* Makes `path` as a directory (or an empty file), and the directories above it, where they are absent. */
static int make_path(const char *path, uint32_t mode, struct dentry **out_dentry)
{
    struct dentry *at = dentry_ref(vfs()->root_mount->root);
    const char *name = path;
    int error = 0;

    for (;;) {
        while (*name == '/')
            name++;
        if (!*name)
            break;
        const char *end = name;
        while (*end && *end != '/')
            end++;
        const char *rest = end;
        while (*rest == '/')
            rest++;
        char component[LX_NAME_MAX + 1];
        size_t size = (size_t)(end - name);
        if (size > LX_NAME_MAX) {
            error = -ENAMETOOLONG;
            break;
        }
        memcpy(component, name, size);
        component[size] = 0;

        struct dentry *child = NULL;
        uint32_t child_mode = *rest ? S_IFDIR | 0755 : mode;
        error = vfs_lookup(at, component, LOOKUP_FOLLOW, &child);
        if (error < 0) {
            error = -EPERM;
            if (at->inode->ops->create && !at->inode->ops->open_child) {
                scoped_mutex(&at->inode->content_mutex);
                error = dentry_lookup(at, component, size, true, &child);
                struct node_request request = { .mode = child_mode };
                if (error == 0)
                    error = child->inode ? 0 : vfs_create_child(at, child, &request);
            }
            if (error < 0) {
                dentry_unref(child);
                error = make_placeholder(at, component, size, child_mode, &child);
            }
        }
        dentry_unref(at);
        at = child;
        if (error < 0)
            break;
        name = rest;
    }
    if (error < 0) {
        dentry_unref(at);
        return error;
    }
    *out_dentry = at;
    return 0;
}

static int mount_root_inode(const char *path, struct superblock *superblock, struct inode *root, unsigned flags, const char *source)
{
    struct dentry *where = NULL;
    int error = 0;

    if (strcmp(path, "/") != 0)
        error = make_path(path, inode_is_directory(root) ? S_IFDIR | 0755 : S_IFREG | 0644, &where);
    if (error == 0)
        error = vfs_mount(where, superblock, root, flags, source);
    if (error == 0 && !where && !vfs()->root_mount)
        vfs()->root_mount = container_of(vfs()->mounts.prev, struct mount, all);
    dentry_unref(where);
    return error;
}

int vfs_mount_at(const char *path, struct superblock *superblock, unsigned flags, const char *source)
{
    return mount_root_inode(path, superblock, superblock->root, flags, source);
}

static int mount_own(const struct own_mount *own)
{
    struct superblock *superblock;
    struct inode *root;
    int error = layer_create(LAYER_NO_LOWER, &superblock, &root);

    if (error < 0)
        return error;
    root->mode = S_IFDIR | own->mode;
    if (strcmp(own->path, "/") == 0 && (error = layer_store_load(superblock, own->path)) < 0)
        return error;
    error = mount_root_inode(own->path, superblock, root, own->flags, "tmpfs");
    inode_unref(root);
    return error;
}

static int mount_granted(uint32_t index)
{
    const struct bly_start_mount *mount = &mounts()[index];
    const char *path = text_at(mount->guest_path);
    struct superblock *superblock;
    struct inode *root;
    unsigned flags = MS_NODEV | MS_NOSUID;
    int error;

    if (mount->flags & BLY_MOUNT_LAYERED) {
        error = layer_create(index, &superblock, &root);
        if (error == 0)
            error = layer_store_load(superblock, path);
        flags = 0;
    } else {
        error = hostfs_create(index, &superblock, &root);
        if (mount->flags & BLY_MOUNT_READ_ONLY)
            flags |= MS_RDONLY;
    }
    if (error < 0) { /* the folder has vanished since the monitor looked: the sandbox runs without it */
        log_line(BLY_LOG_WARNING, "cannot show %s at %s: error %d", text_at(mount->host_path), path, -error);
        return error == -ENOMEM ? error : 0;
    }
    error = mount_root_inode(path, superblock, root, flags, text_at(mount->host_path));
    inode_unref(root);
    return error;
}

static bool is_granted(const char *path)
{
    for (uint32_t i = 0; i < start_info->mount_count; i++)
        if (strcmp(text_at(mounts()[i].guest_path), path) == 0)
            return true;
    return false;
}

/* ---- Nodes ---- */

/* How often the sandbox has been resumed, for programs that must know: a file that inotify(7) can watch. */
#define GENERATION_PATH "/run/bailey/generation"

static int write_text(const char *path, unsigned flags, uint32_t mode, const char *text)
{
    struct open_file *file;
    struct bly_iovec part = { (void *)text, strlen(text) };
    struct io_buffer from = { .vector = &part, .count = part.size != 0, .size = part.size, .kernel = true };
    int64_t position = 0, count;
    int error = vfs_open(NULL, path, O_WRONLY | flags, mode, &file);

    if (error < 0)
        return error;
    count = part.size ? file->ops->write(file, &from, &position) : 0;
    layer_note_generated(file->inode);
    file_unref(file);
    return count < 0 ? (int)count : 0;
}

static int make_generation(void)
{
    struct dentry *directory;
    int error = make_path("/run/bailey", S_IFDIR | 0755, &directory);
    if (error < 0)
        return error;
    dentry_unref(directory);
    return write_text(GENERATION_PATH, O_CREAT | O_EXCL, 0444, "0\n");
}

void vfs_tell_generation(void)
{
    char text[16];
    format(text, sizeof(text), "%u\n", start_info->generation);
    (void)write_text(GENERATION_PATH, O_TRUNC, 0, text); /* the program may have removed it */
}

static int make_node(const struct bly_start_node *node)
{
    const char *path = text_at(node->path), *content = text_at(node->content);
    struct dentry *dentry = NULL;
    char parent[LX_PATH_MAX];
    int error;
    const char *slash = strrchr(path, '/');
    size_t size = slash ? (size_t)(slash - path) : 0;
    if (size >= sizeof(parent))
        return -ENAMETOOLONG;
    memcpy(parent, path, size);
    parent[size] = 0;
    if ((error = make_path(parent, S_IFDIR | 0755, &dentry)) < 0)
        return error;
    /* What a kept layer says about the name, that it is gone included, goes before. */
    bool noted = layer_is_noted(dentry->inode, slash + 1, strlen(slash + 1));
    if (!noted && node->kind != BLY_NODE_DIRECTORY)
        layer_hide_lower(dentry->inode, slash + 1, strlen(slash + 1));
    dentry_unref(dentry);
    if (noted)
        return 0;

    switch (node->kind) {
    case BLY_NODE_DIRECTORY:
        error = make_path(path, S_IFDIR | node->mode, &dentry);
        if (error < 0)
            return error;
        struct attribute_change change = { .mask = BLY_SET_MODE, .mode = node->mode & 07777 };
        if (inode_is_directory(dentry->inode) && !dentry->inode->ops->open_child)
            error = vfs_set_attributes(dentry, &change);
        dentry_unref(dentry);
        return error;
    case BLY_NODE_SYMLINK:
        error = vfs_make_node(NULL, path, S_IFLNK | 0777, 0, content);
        return error == -EEXIST ? 0 : error;
    default:
        error = write_text(path, O_CREAT | O_EXCL, node->mode, content);
        if (error == -EEXIST && vfs_unlink(NULL, path) == 0)
            error = write_text(path, O_CREAT | O_EXCL, node->mode, content);
        return error;
    }
}

/* What is mounted by now stays; with --read-only all but the sandbox's own mounts take no writes. */
static void settle_mounts(bool read_only)
{
    scoped_lock(&vfs()->tree_lock);
    list_for_each(link, &vfs()->mounts) {
        struct mount *mount = container_of(link, struct mount, all);
        mount->locked = true;
        if (!read_only)
            continue;
        if (mount == vfs()->root_mount || mount->superblock->type == &layer_over_type) /* not the sandbox's own */
            mount->flags |= MS_RDONLY;
    }
}

int vfs_mount_start(const struct bly_start_info *info)
{
    const struct bly_start_node *nodes = (const void *)((const char *)info + info->nodes);
    int error = 0;

    filesystem_register(&layer_type);
    filesystem_register(&layer_over_type);
    filesystem_register(&hostfs_type);
    if ((error = layer_store_init(info)) < 0)
        return error;
    for (uint32_t i = 0; i < info->mount_count; i++)
        if (strcmp(text_at(mounts()[i].guest_path), "/") == 0 && (error = mount_granted(i)) < 0)
            return error;
    static const struct own_mount bare_root = { "/", 0755, 0 };
    if (!vfs()->root_mount && (error = mount_own(&bare_root)) < 0)
        return error;
    for (size_t i = 0; i < sizeof(own_mounts) / sizeof(own_mounts[0]); i++)
        if (!is_granted(own_mounts[i].path) && (error = mount_own(&own_mounts[i])) < 0)
            return error;
    for (uint32_t i = 0; i < info->mount_count; i++)
        if (strcmp(text_at(mounts()[i].guest_path), "/") != 0 && !(mounts()[i].flags & BLY_MOUNT_STORE) && (error = mount_granted(i)) < 0)
            return error;
    for (uint32_t i = 0; i < info->node_count; i++)
        if ((error = make_node(&nodes[i])) < 0)
            log_line(BLY_LOG_WARNING, "cannot make %s: error %d", text_at(nodes[i].path), -error);
    if (!is_granted("/run") && (error = make_generation()) < 0)
        log_line(BLY_LOG_WARNING, "cannot make %s: error %d", GENERATION_PATH, -error);
    settle_mounts(info->flags & BLY_START_READ_ONLY);
    return 0;
}
