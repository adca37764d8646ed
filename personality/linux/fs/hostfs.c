/* Live host folders: names and attributes. Contents are in hostfs_file.c.
 *
 * hostfs.lock guards the table of identities, the names by which nodes were last seen, and pins. A host path is never kept: it is
 * put together from those names, so that renaming a folder moves all below it. */
#include "personality/linux/fs/hostfs.h"
#include <linux/fs.h>
#include <linux/magic.h>

struct hostfs {
    uint32_t mount_number;
    struct lock lock;
    struct host_node **identities;
    uint32_t identity_size, identity_count;
};

/* How long attributes are believed without a word from the host, which tells nothing of what is written through its memory maps. */
#define BELIEVED_NS 1000000000ull
#define SET_ID_BITS ((uint32_t)(S_ISUID | S_ISGID | S_ISVTX))

static const struct inode_ops hostfs_ops;

static struct hostfs *hostfs_of(const struct inode *inode)
{
    return inode->superblock->data;
}

/* ---- Names ---- */

int hostfs_uri(struct inode *inode, const char *name, size_t name_size, char *out_uri, size_t size)
{
    struct hostfs *hostfs = hostfs_of(inode);
    char *at = out_uri + size;
    int head = format(out_uri, size, "file:%u/", hostfs->mount_number);

    if (name) {
        at -= name_size;
        memcpy(at, name, name_size);
    }
    {
        scoped_lock(&hostfs->lock);
        for (struct host_node *node = host_node(inode); node->parent; node = host_node(node->parent)) {
            size_t length = strlen(node->name);
            if ((size_t)(at - out_uri) < (size_t)head + length + 1)
                return -ENAMETOOLONG;
            if (at != out_uri + size)
                *--at = '/';
            at -= length;
            memcpy(at, node->name, length);
        }
    }
    size_t path_size = (size_t)(out_uri + size - at);
    memmove(out_uri + head, at, path_size);
    return head + (int)path_size;
}

void hostfs_seen(struct inode *inode, struct inode *directory, struct host_stamp stamp)
{
    struct host_node *node = host_node(inode);
    uint64_t now = stamp.names ? lx_monotonic_ns() : 0;
    scoped_lock(&hostfs_of(inode)->lock);
    node->seen = node->parent == directory ? stamp : (struct host_stamp){ 0, 0 };
    node->seen_ns = now;
}

void hostfs_doubt(struct inode *inode)
{
    scoped_lock(&hostfs_of(inode)->lock);
    host_node(inode)->seen_ns = 0;
}

bool hostfs_is_named(struct inode *directory, const char *name, size_t size, struct inode *inode)
{
    struct host_node *node = host_node(inode);
    struct host_stamp stamp = host_stamp_of(directory);
    scoped_lock(&hostfs_of(inode)->lock);
    return node->parent == directory && stamp.names && node->seen.names == stamp.names && strlen(node->name) == size && !memcmp(node->name, name, size);
}

bool hostfs_is_current(struct inode *inode)
{
    struct host_node *node = host_node(inode);
    uint64_t now = lx_monotonic_ns();
    /* What happens through another name, or within a folder, is not told. */
    if (inode->link_count != 1 || S_ISDIR(inode->mode) || node->mapped)
        return false;
    scoped_lock(&hostfs_of(inode)->lock);
    if (!node->parent || now - node->seen_ns >= BELIEVED_NS)
        return false;
    struct host_stamp stamp = host_stamp_of(node->parent);
    return stamp.names && node->seen.names == stamp.names && node->seen.contents == stamp.contents;
}

static void node_named(struct inode *inode, struct inode *parent, const char *name, size_t size)
{
    struct host_node *node = host_node(inode);
    char *copy = NULL;
    struct inode *old_parent = NULL;
    {
        scoped_lock(&hostfs_of(inode)->lock);
        if (node->parent == parent && node->name && strlen(node->name) == size && memcmp(node->name, name, size) == 0)
            return;
    }
    if (!parent || !(copy = heap_string(name, size)))
        return; /* it keeps the name it was seen by before */
    inode_ref(parent);
    {
        scoped_lock(&hostfs_of(inode)->lock);
        char *old = node->name;
        old_parent = node->parent;
        node->parent = parent;
        node->name = copy;
        copy = old;
    }
    if (copy && S_ISDIR(inode->mode))
        hostfs_folder_renamed();
    heap_free(copy);
    inode_unref(old_parent);
}

/* ---- Nodes ---- */

void hostfs_attributes(struct inode *inode, const struct bly_attributes *attributes)
{
    struct host_node *node = host_node(inode);

    scoped_lock(&inode->lock);
    inode_take_attributes(inode, attributes);
    inode->mode = (inode->mode & S_IFMT) | (attributes->mode & 07777);
    if (node->overlay_mask & BLY_SET_OWNER)
        inode->owner = node->owner;
    if (node->overlay_mask & BLY_SET_GROUP)
        inode->group = node->group;
    if (node->overlay_mask & BLY_SET_MODE)
        inode->mode = (inode->mode & ~SET_ID_BITS) | node->mode_bits;
}

static void pin(struct inode *inode)
{
    scoped_lock(&hostfs_of(inode)->lock);
    if (!host_node(inode)->pinned) {
        host_node(inode)->pinned = true;
        inode_ref(inode);
    }
}

static void unpin(struct inode *inode)
{
    bool pinned;
    {
        scoped_lock(&hostfs_of(inode)->lock);
        pinned = host_node(inode)->pinned;
        host_node(inode)->pinned = false;
    }
    if (pinned)
        inode_unref(inode);
}

/* Lays over the host's attributes what of `mask` the host is not told. */
static void overlay(struct inode *inode, uint32_t mask, uint32_t mode, uint32_t owner, uint32_t group)
{
    struct host_node *node = host_node(inode);
    {
        scoped_lock(&inode->lock);
        if (mask & BLY_SET_OWNER)
            inode->owner = node->owner = owner;
        if (mask & BLY_SET_GROUP)
            inode->group = node->group = group;
        if (mask & BLY_SET_MODE) {
            node->mode_bits = mode & SET_ID_BITS;
            inode->mode = (inode->mode & ~SET_ID_BITS) | node->mode_bits;
        }
        node->overlay_mask |= mask;
    }
    pin(inode);
}

void hostfs_overlay_new(struct inode *inode, uint32_t mode, uint32_t owner, uint32_t group)
{
    uint32_t mask = (owner != inode->owner ? BLY_SET_OWNER : 0) | (group != inode->group ? BLY_SET_GROUP : 0) |
                    ((mode & SET_ID_BITS) != (inode->mode & SET_ID_BITS) ? BLY_SET_MODE : 0);

    if (mask)
        overlay(inode, mask, mode, owner, group);
}

static struct host_node **identity_head(struct hostfs *hostfs, uint64_t device, uint64_t inode)
{
    return &hostfs->identities[(((inode + device * 31) * 0x9e3779b97f4a7c15ull) >> 40) & (hostfs->identity_size - 1)];
}

static void identity_link(struct hostfs *hostfs, struct host_node *node)
{
    struct host_node **head = identity_head(hostfs, node->host_device, node->host_inode);

    node->identity_next = *head;
    if (*head)
        (*head)->identity_link = &node->identity_next;
    node->identity_link = head;
    *head = node;
}

static void identity_unlink(struct hostfs *hostfs, struct host_node *node)
{
    if (!node->identity_link)
        return;
    *node->identity_link = node->identity_next;
    if (node->identity_next)
        node->identity_next->identity_link = node->identity_link;
    node->identity_link = NULL;
    hostfs->identity_count--;
}

static void identities_grow(struct hostfs *hostfs)
{
    uint32_t old_size = hostfs->identity_size;
    struct host_node **old = hostfs->identities, **table = heap_alloc(old_size * 4 * sizeof(*table));

    if (!table)
        return;
    hostfs->identities = table;
    hostfs->identity_size = old_size * 4;
    for (uint32_t i = 0; i < old_size; i++)
        for (struct host_node *node = old[i], *next; node; node = next) {
            next = node->identity_next;
            identity_link(hostfs, node);
        }
    heap_free(old);
}

static bool link_is(const struct inode *inode, const char *link, size_t size)
{
    return strlen(inode->link_text) == size && memcmp(inode->link_text, link, size) == 0;
}

/* hostfs->lock held. */
static struct inode *identity_find(struct hostfs *hostfs, const struct bly_attributes *attributes, const char *link, size_t link_size)
{
    for (struct host_node *node = *identity_head(hostfs, attributes->device, attributes->inode); node; node = node->identity_next) {
        struct inode *inode = node->inode;
        if (node->host_inode != attributes->inode || node->host_device != attributes->device || node->host_birth != attributes->birth_ns ||
            (inode->mode & S_IFMT) != (mode_of_attributes(attributes) & S_IFMT) ||
            (S_ISLNK(inode->mode) && !link_is(inode, link, link_size)))
            continue;
        uint32_t references = inode->references;
        while (references)
            if (__atomic_compare_exchange_n((uint32_t *)&inode->references, &references, references + 1, true, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
                return inode;
    }
    return NULL;
}

static struct inode *node_create(struct superblock *superblock, const struct bly_attributes *attributes, const char *link, size_t link_size)
{
    struct inode *inode = inode_create(superblock, &hostfs_ops, mode_of_attributes(attributes), sizeof(struct host_node));

    if (!inode)
        return NULL;
    struct host_node *node = host_node(inode);
    node->inode = inode;
    node->host_device = attributes->device;
    node->host_inode = attributes->inode;
    node->host_birth = attributes->birth_ns;
    inode->number = attributes->inode;
    list_init(&node->opens);
    if (S_ISLNK(inode->mode) && !(inode->link_text = heap_string(link, link_size))) {
        inode_unref(inode);
        return NULL;
    }
    return inode;
}

int hostfs_get(struct superblock *superblock, struct inode *directory, const char *name, size_t size,
               const struct bly_attributes *attributes, const char *link, size_t link_size, struct inode **out_inode)
{
    struct hostfs *hostfs = superblock->data;
    struct inode *inode;
    {
        scoped_lock(&hostfs->lock);
        inode = identity_find(hostfs, attributes, link, link_size);
    }
    if (!inode) {
        struct inode *fresh = node_create(superblock, attributes, link, link_size);
        if (!fresh)
            return -ENOMEM;
        {
            scoped_lock(&hostfs->lock);
            inode = identity_find(hostfs, attributes, link, link_size);
            if (!inode) {
                if (hostfs->identity_count++ > 2 * hostfs->identity_size)
                    identities_grow(hostfs);
                identity_link(hostfs, host_node(fresh));
                inode = inode_ref(fresh);
            }
        }
        inode_unref(fresh);
    }
    hostfs_attributes(inode, attributes);
    if (directory)
        node_named(inode, directory, name, size);
    *out_inode = inode;
    return 0;
}

static void hostfs_release(struct inode *inode)
{
    struct host_node *node = host_node(inode);
    {
        scoped_lock(&hostfs_of(inode)->lock);
        identity_unlink(hostfs_of(inode), node);
    }
    assert(list_empty(&node->opens));
    hostfs_watch_forget(node);
    inode_unref(node->parent);
    heap_free(node->name);
}

/* ---- Operations on names ---- */

static int hostfs_lookup(struct inode *directory, const char *name, size_t size, struct inode **out_inode)
{
    struct bly_walk_result result;
    char uri[HOSTFS_URI_MAX];
    int uri_size = hostfs_uri(directory, name, size, uri, sizeof(uri));

    if (uri_size < 0)
        return uri_size;
    struct host_stamp stamp = hostfs_watch_stamp(directory);
    hostfs_looking(directory, stamp);
    int error = bly->stream_walk(uri, (size_t)uri_size, 0, &result);
    if (error < 0)
        return error == -ENOTDIR ? -ESTALE : error;
    if (result.consumed < (size_t)uri_size - (size_t)(strchr(uri, '/') + 1 - uri))
        return -ESTALE; /* a folder on the way has become a link */
    error = hostfs_get(directory->superblock, directory, name, size, &result.attributes, result.link, result.link_size, out_inode);
    if (error == 0)
        hostfs_seen(*out_inode, directory, stamp);
    return error;
}

static int hostfs_make(struct inode *directory, const struct node_request *request, struct inode **out_inode)
{
    struct bly_attributes attributes;
    char uri[HOSTFS_URI_MAX];
    const char *target = S_ISLNK(request->mode) ? request->target : "";
    int error, size = hostfs_uri(directory, request->name, request->name_size, uri, sizeof(uri));

    if (size < 0)
        return size;
    if (S_ISREG(request->mode)) {
        bly_handle handle;
        error = bly->stream_open(uri, (size_t)size, BLY_ACCESS_READ | BLY_ACCESS_WRITE, BLY_OPEN_CREATE | BLY_OPEN_EXCLUSIVE,
                                 request->mode & 0777, &handle, &attributes);
        if (error == 0 && request->opens)
            return hostfs_created(directory, request, handle, &attributes, out_inode);
        if (error == 0)
            (void)bly->handle_close(handle);
    } else {
        unsigned kind = S_ISDIR(request->mode) ? BLY_KIND_DIRECTORY : S_ISLNK(request->mode) ? BLY_KIND_SYMLINK :
                        S_ISFIFO(request->mode) ? BLY_KIND_FIFO : S_ISSOCK(request->mode) ? BLY_KIND_SOCKET : 0;
        if (!kind)
            return -EPERM; /* device nodes of the host are not the guest's to make */
        error = bly->stream_create(uri, (size_t)size, kind, request->mode & 01777, target, strlen(target), &attributes);
    }
    if (error < 0)
        return error;
    error = hostfs_get(directory->superblock, directory, request->name, request->name_size, &attributes, target, strlen(target), out_inode);
    if (error == 0)
        hostfs_overlay_new(*out_inode, request->mode, request->owner, request->group);
    return error;
}

static int hostfs_link(struct inode *directory, const char *name, size_t size, struct inode *inode)
{
    struct bly_attributes attributes;
    char uri[HOSTFS_URI_MAX], target[HOSTFS_URI_MAX];
    int uri_size = hostfs_uri(directory, name, size, uri, sizeof(uri)), target_size = hostfs_uri(inode, NULL, 0, target, sizeof(target));

    if (uri_size < 0 || target_size < 0)
        return -ENAMETOOLONG;
    int error = bly->stream_create(uri, (size_t)uri_size, BLY_KIND_HARD_LINK, 0, target, (size_t)target_size, &attributes);
    if (error == 0)
        hostfs_attributes(inode, &attributes);
    return error;
}

static void name_lost(struct inode *inode)
{
    bool last;
    {
        scoped_lock(&inode->lock);
        inode->link_count = S_ISDIR(inode->mode) || inode->link_count == 0 ? 0 : inode->link_count - 1;
        last = inode->link_count == 0;
    }
    if (last)
        unpin(inode);
}

static int hostfs_unlink(struct inode *directory, const char *name, size_t size, struct inode *inode)
{
    char uri[HOSTFS_URI_MAX];
    int uri_size = hostfs_uri(directory, name, size, uri, sizeof(uri));

    if (uri_size < 0)
        return uri_size;
    int error = bly->stream_delete(uri, (size_t)uri_size, S_ISDIR(inode->mode) ? BLY_DELETE_DIRECTORY : 0);
    if (error == 0)
        name_lost(inode);
    return error;
}

static int hostfs_rename(struct inode *from, const char *from_name, size_t from_size, struct inode *source, struct inode *to,
                         const char *to_name, size_t to_size, struct inode *target, unsigned flags)
{
    char uri[HOSTFS_URI_MAX], to_uri[HOSTFS_URI_MAX];
    int uri_size = hostfs_uri(from, from_name, from_size, uri, sizeof(uri));
    int to_uri_size = hostfs_uri(to, to_name, to_size, to_uri, sizeof(to_uri));
    unsigned host_flags = (flags & RENAME_NOREPLACE ? BLY_RENAME_NO_REPLACE : 0) | (flags & RENAME_EXCHANGE ? BLY_RENAME_EXCHANGE : 0);

    if (uri_size < 0 || to_uri_size < 0)
        return -ENAMETOOLONG;
    int error = bly->stream_rename(uri, (size_t)uri_size, to_uri, (size_t)to_uri_size, host_flags);
    if (error < 0)
        return error;
    node_named(source, to, to_name, to_size);
    if (target && (flags & RENAME_EXCHANGE))
        node_named(target, from, from_name, from_size);
    else if (target)
        name_lost(target);
    return 0;
}

/* ---- Attributes ---- */

/* A stream that is open already, for what may have lost its name. */
static struct host_open *any_open(struct inode *inode)
{
    scoped_lock(&inode->lock);
    struct list *first = list_first(&host_node(inode)->opens);
    if (!first)
        return NULL;
    struct host_open *open = container_of(first, struct host_open, node);
    uint32_t references = open->references;
    while (references)
        if (__atomic_compare_exchange_n((uint32_t *)&open->references, &references, references + 1, true, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return open;
    return NULL;
}

/* The folder by which `inode` was last seen, with a reference. */
static struct inode *seen_parent(struct inode *inode)
{
    scoped_lock(&hostfs_of(inode)->lock);
    struct inode *parent = host_node(inode)->parent;
    return parent ? inode_ref(parent) : NULL;
}

static int query_by_name(struct inode *inode, struct bly_walk_result *out_result)
{
    char uri[HOSTFS_URI_MAX];
    int size = hostfs_uri(inode, NULL, 0, uri, sizeof(uri));
    int error = size < 0 ? size : bly->stream_walk(uri, (size_t)size, 0, out_result);

    if (error == 0 && (out_result->attributes.inode != host_node(inode)->host_inode || out_result->attributes.device != host_node(inode)->host_device))
        return -ENOENT; /* the name is another file's by now */
    return error;
}

static int hostfs_refresh(struct inode *inode)
{
    struct bly_walk_result result;
    int error;

    if (hostfs_watch_poll() && hostfs_is_current(inode))
        return 0;
    struct host_open *open = any_open(inode);
    if (!open && inode->link_count == 0)
        return 0;
    struct inode *parent = seen_parent(inode);
    struct host_stamp stamp = parent ? host_stamp_of(parent) : (struct host_stamp){ 0, 0 };
    if (open) {
        error = bly->stream_query(open->handle, &result.attributes);
        host_open_unref(open);
        if (host_node(inode)->seen.names != stamp.names)
            stamp.names = 0; /* whether it still has its name was not asked */
    } else {
        error = query_by_name(inode, &result);
    }
    if (error == 0) {
        hostfs_attributes(inode, &result.attributes);
        if (stamp.names)
            hostfs_seen(inode, parent, stamp);
    }
    inode_unref(parent);
    return error == -ENOENT || error == -ENOTDIR ? 0 : error; /* what was known last stands */
}

static int hostfs_set_attributes(struct inode *inode, const struct attribute_change *change)
{
    uint32_t told = change->mask & (BLY_SET_MODE | BLY_SET_ACCESS_TIME | BLY_SET_MODIFY_TIME);
    int error = 0;

    if (told) {
        struct bly_attributes attributes = {
            .mode = change->mode & (S_ISDIR(inode->mode) ? 01777u : 0777u),
            .access_ns = change->access_is_now ? BLY_TIME_NOW : change->access_ns,
            .modify_ns = change->modify_is_now ? BLY_TIME_NOW : change->modify_ns,
        };
        char uri[HOSTFS_URI_MAX];
        struct host_open *open = any_open(inode);
        if (open) {
            error = bly->stream_set(open->handle, NULL, 0, &attributes, told);
            host_open_unref(open);
        } else {
            int size = hostfs_uri(inode, NULL, 0, uri, sizeof(uri));
            error = size < 0 ? size : bly->stream_set(BLY_NO_HANDLE, uri, (size_t)size, &attributes, told);
        }
    }
    if (error < 0)
        return error;
    {
        scoped_lock(&inode->lock);
        if (change->mask & BLY_SET_MODE)
            inode->mode = (inode->mode & (S_IFMT | SET_ID_BITS)) | (change->mode & 0777);
        if (change->mask & BLY_SET_ACCESS_TIME)
            inode->access_ns = change->access_ns;
        if (change->mask & BLY_SET_MODIFY_TIME)
            inode->modify_ns = change->modify_ns;
        inode->change_ns = (int64_t)lx_realtime_ns();
    }
    uint32_t kept = change->mask & (BLY_SET_OWNER | BLY_SET_GROUP);
    if ((change->mask & BLY_SET_MODE) && (change->mode & SET_ID_BITS) != (inode->mode & SET_ID_BITS))
        kept |= BLY_SET_MODE;
    if (kept)
        overlay(inode, kept, change->mode, change->owner, change->group);
    return 0;
}

static int64_t hostfs_get_xattr(struct inode *inode, const char *name, void *buffer, size_t size)
{
    char uri[HOSTFS_URI_MAX];
    int uri_size = hostfs_uri(inode, NULL, 0, uri, sizeof(uri));

    if (strncmp(name, "user.", 5) != 0)
        return -ENODATA;
    return uri_size < 0 ? uri_size : bly->stream_get_named(uri, (size_t)uri_size, name, buffer, size);
}

static int hostfs_set_xattr(struct inode *inode, const char *name, const void *value, size_t size, unsigned flags)
{
    char uri[HOSTFS_URI_MAX];
    int uri_size = hostfs_uri(inode, NULL, 0, uri, sizeof(uri));

    if (strncmp(name, "user.", 5) != 0)
        return -EOPNOTSUPP;
    /* xattr(7)'s flags have the ABI's values less the removal. */
    return uri_size < 0 ? uri_size : bly->stream_set_named(uri, (size_t)uri_size, name, value, size, value ? flags : BLY_NAMED_REMOVE);
}

static int64_t hostfs_list_xattr(struct inode *inode, char *buffer, size_t size)
{
    char uri[HOSTFS_URI_MAX];
    int uri_size = hostfs_uri(inode, NULL, 0, uri, sizeof(uri));
    int64_t result = uri_size < 0 ? uri_size : bly->stream_get_named(uri, (size_t)uri_size, "", buffer, size);

    return result == -EOPNOTSUPP || result == -ENODATA ? 0 : result;
}

static const struct inode_ops hostfs_ops = {
    .lookup = hostfs_lookup,
    .create = hostfs_make,
    .link = hostfs_link,
    .unlink = hostfs_unlink,
    .rename = hostfs_rename,
    .temporary = hostfs_temporary,
    .enumerate = hostfs_enumerate,
    .refresh = hostfs_refresh,
    .set_attributes = hostfs_set_attributes,
    .truncate = hostfs_truncate,
    .allocate = hostfs_allocate,
    .open_child = hostfs_open_child,
    .abandon = hostfs_abandon,
    .poll = hostfs_watch_poll,
    .is_named = hostfs_is_named,
    .is_current = hostfs_is_current,
    .absence = hostfs_absence,
    .is_absent = hostfs_is_absent,
    .open = hostfs_open,
    .file_ops = &hostfs_file_ops,
    .read = hostfs_read_kernel,
    .memory_object = hostfs_memory_object,
    .get_xattr = hostfs_get_xattr,
    .set_xattr = hostfs_set_xattr,
    .list_xattr = hostfs_list_xattr,
    .release = hostfs_release,
};

/* ---- The file system ---- */

int hostfs_create(uint32_t mount_number, struct superblock **out_superblock, struct inode **out_root)
{
    struct superblock *superblock = superblock_create(&hostfs_type);
    struct hostfs *hostfs = heap_alloc(sizeof(*hostfs));
    struct bly_attributes attributes;
    int error = -ENOMEM;

    if (!superblock || !hostfs)
        goto fail;
    hostfs->mount_number = mount_number;
    hostfs->identity_size = 256;
    hostfs->identities = heap_alloc(hostfs->identity_size * sizeof(*hostfs->identities));
    if (!hostfs->identities)
        goto fail;
    superblock->data = hostfs;
    error = grant_attributes(mount_number, &attributes);
    if (error == 0)
        error = hostfs_get(superblock, NULL, "", 0, &attributes, "", 0, out_root);
    if (error < 0)
        goto fail;
    superblock->root = *out_root;
    *out_superblock = superblock;
    return 0;
fail:
    if (hostfs)
        heap_free(hostfs->identities);
    heap_free(hostfs);
    heap_free(superblock);
    return error;
}

static void hostfs_superblock_release(struct superblock *superblock)
{
    struct hostfs *hostfs = superblock->data;

    heap_free(hostfs->identities);
    heap_free(hostfs);
}

/* The host's figures are not the guest's business; these leave every program the impression of enough room. */
static void hostfs_statistics(struct superblock *superblock, struct filesystem_statistics *out)
{
    *out = (struct filesystem_statistics){ .block_size = 4096, .blocks = 1ull << 28, .blocks_free = 1ull << 27, .files = 1u << 26, .files_free = 1u << 25 };
}

/* A granted folder may span several file systems of the host: that of the file is meant, by any stream that it has. FIFOs and the like
 * have none. */
static int hostfs_synchronize(struct superblock *superblock, struct inode *inode)
{
    struct host_open *open;
    bool has_stream = inode != superblock->root && S_ISREG(inode->mode);
    int error = has_stream ? hostfs_stream(inode, 0, &open)
                           : hostfs_stream(S_ISDIR(inode->mode) ? inode : superblock->root, BLY_ACCESS_READ, &open);

    if (error < 0)
        return error;
    error = bly->stream_flush(open->handle, BLY_FLUSH_FILE_SYSTEM);
    host_open_unref(open);
    return error;
}

const struct filesystem_type hostfs_type = {
    .name = "hostfs",
    .magic = HOSTFS_SUPER_MAGIC,
    .flags = FILESYSTEM_LIVE | FILESYSTEM_NO_DEVICE,
    .statistics = hostfs_statistics,
    .synchronize = hostfs_synchronize,
    .release = hostfs_superblock_release,
};
