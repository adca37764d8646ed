/* The layer's view of the host folder below it: names, contents and listings, asked for once.
 *
 * The folder is taken not to change. A lower file's stream is opened at its first use and kept when nobody uses it any more, in a
 * bounded list, so that opening the file again asks nobody. vfs.handle_lock guards handles, their users and that list. */
#include "libos/absent.h"
#include "personality/linux/fs/layer.h"
#include "personality/linux/fs/layer_store.h"
#include "personality/linux/fs/lower.h"

#define IDLE_HANDLES_MAX 256u
#define LISTING_STEP 32768u
/* A listing up to this size is searched to answer that a name is absent. */
#define LISTING_SEARCH_MAX 65536u

uint32_t mode_of_attributes(const struct bly_attributes *attributes)
{
    static const uint32_t types[] = {
        [BLY_KIND_FILE] = S_IFREG, [BLY_KIND_DIRECTORY] = S_IFDIR, [BLY_KIND_SYMLINK] = S_IFLNK, [BLY_KIND_FIFO] = S_IFIFO,
        [BLY_KIND_SOCKET] = S_IFSOCK, [BLY_KIND_CHARACTER] = S_IFCHR, [BLY_KIND_BLOCK] = S_IFBLK,
    };
    uint32_t type = attributes->kind < sizeof(types) / sizeof(types[0]) && types[attributes->kind] ? types[attributes->kind] : S_IFREG;

    return type | (attributes->mode & 07777);
}

void inode_take_attributes(struct inode *inode, const struct bly_attributes *attributes)
{
    inode->owner = attributes->owner;
    inode->group = attributes->group;
    inode->link_count = attributes->link_count;
    inode->size = attributes->size;
    inode->blocks = attributes->blocks;
    inode->access_ns = attributes->access_ns;
    inode->modify_ns = attributes->modify_ns;
    inode->change_ns = attributes->change_ns;
    inode->birth_ns = attributes->birth_ns;
    inode->device = lx_makedev(attributes->device_major, attributes->device_minor);
}

/* ---- Identity ---- */

/* Inode numbers of several host devices below one mount are told apart by the top byte. layer->lock held. */
static uint64_t device_tag(struct layer *layer, uint64_t device)
{
    for (uint32_t i = 0; i < layer->device_count; i++)
        if (layer->devices[i] == device)
            return (uint64_t)i << 57;
    if (layer->device_count == LAYER_DEVICES_MAX)
        return (uint64_t)LAYER_DEVICES_MAX << 57;
    layer->devices[layer->device_count] = device;
    return (uint64_t)layer->device_count++ << 57;
}

static uint32_t identity_hash(uint64_t device, uint64_t inode)
{
    return (uint32_t)(((inode + device * 31) * 0x9e3779b97f4a7c15ull) >> 40);
}

/* A reference, unless the inode is just ending. */
static bool inode_ref_if_alive(struct inode *inode)
{
    uint32_t references = inode->references;

    while (references)
        if (__atomic_compare_exchange_n((uint32_t *)&inode->references, &references, references + 1, true, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return true;
    return false;
}

static struct inode *identity_find(struct layer *layer, const struct bly_attributes *attributes)
{
    struct layer_node *node = layer->identities[identity_hash(attributes->device, attributes->inode) & (layer->identity_size - 1)];

    for (; node; node = node->identity_next)
        if (node->lower_inode == attributes->inode && node->lower_device == attributes->device &&
            node->lower_birth == attributes->birth_ns && (node->inode->mode & S_IFMT) == (mode_of_attributes(attributes) & S_IFMT) &&
            inode_ref_if_alive(node->inode))
            return node->inode;
    return NULL;
}

static void identity_link(struct layer *layer, struct layer_node *node)
{
    struct layer_node **head = &layer->identities[identity_hash(node->lower_device, node->lower_inode) & (layer->identity_size - 1)];

    node->identity_next = *head;
    if (*head)
        (*head)->identity_link = &node->identity_next;
    node->identity_link = head;
    *head = node;
}

static void identities_grow(struct layer *layer)
{
    uint32_t old_size = layer->identity_size;
    struct layer_node **old = layer->identities, **table = heap_alloc(old_size * 4 * sizeof(*table));

    if (!table)
        return;
    layer->identities = table;
    layer->identity_size = old_size * 4;
    for (uint32_t i = 0; i < old_size; i++)
        for (struct layer_node *node = old[i], *next; node; node = next) {
            next = node->identity_next;
            identity_link(layer, node);
        }
    heap_free(old);
}

/* The inode of a lower file with these attributes: the one that is known already, or `fresh` completed. */
static struct inode *identity_settle(struct layer *layer, struct inode *fresh, const struct bly_attributes *attributes)
{
    struct layer_node *node = layer_node(fresh);
    struct inode *known;

    scoped_lock(&layer->lock);
    known = identity_find(layer, attributes);
    if (known)
        return known;
    node->lower_device = attributes->device;
    node->lower_inode = attributes->inode;
    node->lower_birth = attributes->birth_ns;
    fresh->number = attributes->inode | device_tag(layer, attributes->device);
    if (layer->identity_count++ > 2 * layer->identity_size)
        identities_grow(layer);
    identity_link(layer, node);
    return inode_ref(fresh);
}

/* The inode for lower path `path` (+ `name`) with the attributes the host gave. */
static int make_inode(struct superblock *superblock, const char *path, const char *name, size_t size,
                      const struct bly_attributes *attributes, const char *link, size_t link_size, struct inode **out_inode)
{
    struct inode *inode = layer_new_node(superblock, mode_of_attributes(attributes));
    size_t path_size = strlen(path);

    if (!inode)
        return -ENOMEM;
    struct layer_node *node = layer_node(inode);
    inode_take_attributes(inode, attributes);
    node->lower_path = heap_alloc(path_size + size + 2);
    if (node->lower_path)
        format(node->lower_path, path_size + size + 2, "%s%s%.*s", path, path_size && size ? "/" : "", (int)size, name);
    if (S_ISLNK(inode->mode))
        inode->link_text = heap_string(link, link_size);
    if (!node->lower_path || (S_ISLNK(inode->mode) && !inode->link_text)) {
        inode_unref(inode);
        return -ENOMEM;
    }
    *out_inode = identity_settle(superblock->data, inode, attributes);
    inode_unref(inode);
    return 0;
}

int layer_lower_lookup(struct inode *directory, const char *name, size_t size, struct inode **out_inode)
{
    struct layer_node *node = layer_node(directory);
    struct bly_walk_result result;
    char uri[LAYER_URI_MAX];
    int error, uri_size;

    if (node->listing && node->listing->size <= LISTING_SEARCH_MAX && !lower_listing_find(node->listing, name, size))
        return -ENOENT;
    uri_size = layer_uri(layer_of(directory), node->lower_path, name, size, uri, sizeof(uri));
    if (uri_size < 0)
        return uri_size;
    error = bly->stream_walk(uri, (size_t)uri_size, 0, &result);
    if (error < 0)
        return error == -ENOTDIR ? -ENOENT : error;
    return make_inode(directory->superblock, node->lower_path, name, size, &result.attributes, result.link, result.link_size, out_inode);
}

int layer_lower_by_path(struct superblock *superblock, const char *path, size_t size, struct inode **out_inode)
{
    struct bly_walk_result result;
    char uri[LAYER_URI_MAX];
    int prefix = format(uri, sizeof(uri), "file:%u/", ((struct layer *)superblock->data)->lower_mount);

    if (size >= sizeof(uri) - (size_t)prefix)
        return -ENAMETOOLONG;
    char *copy = uri + prefix;
    memcpy(copy, path, size);
    copy[size] = 0;
    int error = bly->stream_walk(uri, (size_t)prefix + size, 0, &result);
    if (error < 0)
        return error;
    if (result.consumed != size) /* a symbolic link is on the way now */
        return -ENOENT;
    return make_inode(superblock, copy, "", 0, &result.attributes, result.link, result.link_size, out_inode);
}

int grant_attributes(uint32_t mount_number, struct bly_attributes *out_attributes)
{
    const struct bly_start_mount *mounts = (const void *)((const char *)start_info + start_info->mounts);
    struct bly_walk_result result;
    char uri[32];

    if (mount_number < start_info->mount_count && mounts[mount_number].attributes) {
        memcpy(out_attributes, (const char *)start_info + mounts[mount_number].attributes, sizeof(*out_attributes));
        return 0;
    }
    int error = bly->stream_walk(uri, (size_t)format(uri, sizeof(uri), "file:%u/", mount_number), 0, &result);
    if (error == 0)
        *out_attributes = result.attributes;
    return error;
}

int layer_lower_root(struct superblock *superblock, struct inode **out_root)
{
    struct bly_attributes attributes;
    int error = grant_attributes(((struct layer *)superblock->data)->lower_mount, &attributes);

    return error < 0 ? error : make_inode(superblock, "", "", 0, &attributes, "", 0, out_root);
}

/* ---- Streams ---- */

/* Takes handles off the idle list beyond `keep`, oldest first. */
static void close_idle(uint32_t keep)
{
    for (;;) {
        bly_handle handle = BLY_NO_HANDLE;
        {
            scoped_lock(&vfs()->handle_lock);
            if (vfs()->idle_handle_count > keep) {
                struct layer_node *node = container_of(vfs()->idle_handles.next, struct layer_node, handle_node);
                list_remove(&node->handle_node);
                vfs()->idle_handle_count--;
                handle = node->handle;
                node->handle = BLY_NO_HANDLE;
            }
        }
        if (handle == BLY_NO_HANDLE)
            return;
        (void)bly->handle_close(handle);
    }
}

void layer_lower_close_idle(void)
{
    close_idle(0);
}

static bool handle_use(struct layer_node *node)
{
    scoped_lock(&vfs()->handle_lock);
    if (node->handle == BLY_NO_HANDLE)
        return false;
    if (node->handle_users++ == 0) {
        list_remove(&node->handle_node);
        vfs()->idle_handle_count--;
    }
    return true;
}

int layer_lower_acquire(struct inode *inode, bly_handle *out_handle)
{
    struct layer_node *node = layer_node(inode);

    while (!handle_use(node)) {
        struct bly_attributes attributes;
        char uri[LAYER_URI_MAX];
        bly_handle handle;
        int size = node->stored ? layer_store_uri(layer_of(inode), node->stored, uri, sizeof(uri))
                                : layer_uri(layer_of(inode), node->lower_path, NULL, 0, uri, sizeof(uri));
        if (size < 0)
            return size;
        int error = bly->stream_open(uri, (size_t)size, BLY_ACCESS_READ, 0, 0, &handle, &attributes);
        if (error == -EMFILE || error == -ENFILE) {
            close_idle(0);
            error = bly->stream_open(uri, (size_t)size, BLY_ACCESS_READ, 0, 0, &handle, &attributes);
        }
        if (error < 0)
            return error;
        bool first = false;
        {
            scoped_lock(&vfs()->handle_lock);
            if (node->handle == BLY_NO_HANDLE) {
                node->handle = handle;
                node->handle_users = 1;
                first = true;
            }
        }
        if (first)
            break;
        (void)bly->handle_close(handle);
    }
    *out_handle = node->handle;
    return 0;
}

void layer_lower_release(struct inode *inode)
{
    struct layer_node *node = layer_node(inode);
    bool too_many;
    {
        scoped_lock(&vfs()->handle_lock);
        assert(node->handle_users > 0);
        if (--node->handle_users == 0) {
            list_push(&vfs()->idle_handles, &node->handle_node);
            vfs()->idle_handle_count++;
        }
        too_many = vfs()->idle_handle_count > IDLE_HANDLES_MAX;
    }
    if (too_many)
        close_idle(IDLE_HANDLES_MAX * 3 / 4);
}

void layer_lower_forget(struct inode *inode)
{
    struct layer_node *node = layer_node(inode);
    bly_handle handle;
    {
        scoped_lock(&vfs()->handle_lock);
        handle = node->handle;
        node->handle = BLY_NO_HANDLE;
        if (handle != BLY_NO_HANDLE && node->handle_users == 0) {
            list_remove(&node->handle_node);
            vfs()->idle_handle_count--;
        }
    }
    if (handle != BLY_NO_HANDLE)
        (void)bly->handle_close(handle);
}

/* A file does not make its reader wait, so an interrupt is kept for later instead of ending the call. */
static int64_t transfer(int64_t (*move)(bly_handle, const struct bly_iovec *, size_t, uint64_t, unsigned), bly_handle handle,
                        const struct bly_iovec *vector, size_t count, uint64_t offset, unsigned flags)
{
    mm_make_present(vector, count);
    int64_t result = move(handle, vector, count, offset, flags);

    if (result != -EINTR)
        return result;
    do {
        thread_block()->interrupt_pending = 0;
        result = move(handle, vector, count, offset, flags);
    } while (result == -EINTR);
    thread_block()->interrupt_pending = 1;
    return result;
}

int64_t stream_read_file(bly_handle handle, const struct bly_iovec *vector, size_t count, uint64_t offset)
{
    return transfer(bly->stream_read, handle, vector, count, offset, 0);
}

int64_t stream_write_file(bly_handle handle, const struct bly_iovec *vector, size_t count, uint64_t offset, unsigned flags)
{
    return transfer(bly->stream_write, handle, vector, count, offset, flags);
}

int64_t stream_read_fully(bly_handle handle, void *buffer, uint64_t size, uint64_t offset)
{
    uint64_t done = 0;

    while (done < size) {
        struct bly_iovec part = { (char *)buffer + done, size - done < (1u << 30) ? size - done : 1u << 30 };
        int64_t count = stream_read_file(handle, &part, 1, offset + done);
        if (count < 0)
            return count;
        if (count == 0)
            break;
        done += (uint64_t)count;
    }
    return (int64_t)done;
}

/* ---- Copy-up ---- */

int layer_copy_up(struct inode *inode, uint64_t size)
{
    struct layer_node *node = layer_node(inode);
    bly_handle handle;
    int error;

    assert(mutex_held(&inode->content_mutex));
    if (!layer_reads_lower(node))
        return 0;
    if (size > inode->size)
        size = inode->size;
    if (size) {
        if ((error = layer_lower_acquire(inode, &handle)) < 0)
            return error;
        error = layer_reserve(inode, 0, (size + BLY_PAGE_SIZE - 1) / BLY_PAGE_SIZE);
        for (uint64_t at = 0; error == 0 && at < size;) {
            uint64_t room;
            void *to = layer_find(node, at, &room);
            if (room > size - at)
                room = size - at;
            absent_load((uint64_t)to - BLY_BULK_START, room);
            int64_t count = stream_read_fully(handle, to, room, at);
            if (count < 0)
                error = (int)count;
            else if ((uint64_t)count < room)
                break; /* shorter than it was: the rest reads as zeroes */
            at += room;
        }
        layer_lower_release(inode);
        if (error < 0) {
            layer_trim(inode, 0);
            return error;
        }
    }
    layer_pin(inode);
    node->flags |= LAYER_UPPER;
    return 0;
}

/* ---- Listings ---- */

struct record { uint64_t number; int64_t next; uint16_t size; uint8_t type; char name[]; };

bool lower_listing_find(const struct layer_listing *listing, const char *name, size_t size)
{
    for (uint64_t at = 0; at < listing->size;) {
        const struct record *record = (const void *)(listing->records + at);
        if (record->name[0] == name[0] && strlen(record->name) == size && memcmp(record->name, name, size) == 0)
            return true;
        at += record->size;
    }
    return false;
}

int stream_read_listing(bly_handle handle, struct layer_listing **out_listing)
{
    struct layer_listing *listing = NULL;
    uint64_t cursor = 0, size = 0, room = 0;

    for (;;) {
        if (room - size < LISTING_STEP / 2) {
            void *larger = heap_realloc(listing, listing ? sizeof(*listing) + room : 0, sizeof(*listing) + room * 2 + LISTING_STEP);
            if (!larger) {
                heap_free(listing);
                return -ENOMEM;
            }
            listing = larger;
            room = room * 2 + LISTING_STEP;
        }
        int64_t count = bly->stream_enumerate(handle, &cursor, listing->records + size, room - size);
        if (count < 0) {
            heap_free(listing);
            return (int)count;
        }
        if (count == 0)
            break;
        size += (uint64_t)count;
    }
    listing->size = size;
    void *smaller = heap_realloc(listing, sizeof(*listing) + room, sizeof(*listing) + size);
    *out_listing = smaller ? smaller : listing;
    return 0;
}

int layer_lower_listing(struct inode *directory, struct layer_listing **out_listing)
{
    struct layer_node *node = layer_node(directory);
    int error;

    if (!node->listing) {
        struct bly_attributes attributes;
        char uri[LAYER_URI_MAX];
        bly_handle handle;
        int size = layer_uri(layer_of(directory), node->lower_path, NULL, 0, uri, sizeof(uri));
        if (size < 0)
            return size;
        error = bly->stream_open(uri, (size_t)size, BLY_ACCESS_READ, BLY_OPEN_DIRECTORY, 0, &handle, &attributes);
        if (error < 0)
            return error;
        error = stream_read_listing(handle, &node->listing);
        (void)bly->handle_close(handle);
        if (error < 0)
            return error;
        /* Numbers as stat(2) gives them. */
        struct layer *layer = layer_of(directory);
        scoped_lock(&layer->lock);
        uint64_t tag = device_tag(layer, node->lower_device);
        for (uint64_t at = 0; tag && at < node->listing->size;) {
            struct record *record = (void *)(node->listing->records + at);
            record->number |= tag;
            at += record->size;
        }
    }
    *out_listing = node->listing;
    return 0;
}
