/* The layer file system: nodes and names. See layer.h for the idea; contents are in layer_data.c, the host's side in layer_lower.c.
 * A directory's table is guarded by its content_mutex, which the VFS holds round every operation here. */
#include "personality/linux/fs/layer.h"
#include <linux/magic.h>
#include "personality/linux/fs/lower.h"
#include <linux/fs.h>
#include <linux/stat.h>

/* Offsets of entries in readdir start here; below are positions in the listing of the lower folder. */
#define UPPER_OFFSETS (1ll << 40)

static const struct inode_ops layer_ops;

/* ---- Nodes ---- */

struct inode *layer_new_node(struct superblock *superblock, uint32_t mode)
{
    struct inode *inode = inode_create(superblock, &layer_ops, mode, sizeof(struct layer_node));

    if (!inode)
        return NULL;
    struct layer_node *node = layer_node(inode);
    node->inode = inode;
    list_init(&node->handle_node);
    list_init(&node->order);
    node->next_offset = UPPER_OFFSETS;
    if (S_ISDIR(mode)) {
        inode->size = 4096;
        inode->blocks = 8;
    }
    return inode;
}

int layer_pin(struct inode *inode)
{
    struct layer_node *node = layer_node(inode);

    if (!node->lower_path)
        return 0;
    scoped_lock(&layer_of(inode)->lock);
    if (!(node->flags & LAYER_PINNED)) {
        node->flags |= LAYER_PINNED;
        inode_ref(inode);
    }
    return 0;
}

void layer_unpin(struct inode *inode)
{
    struct layer_node *node = layer_node(inode);
    bool pinned;
    {
        scoped_lock(&layer_of(inode)->lock);
        pinned = node->flags & LAYER_PINNED;
        node->flags &= ~(uint32_t)LAYER_PINNED;
    }
    if (pinned)
        inode_unref(inode);
}

int layer_uri(const struct layer *layer, const char *path, const char *name, size_t name_size, char *out_uri, size_t size)
{
    int length = name ? format(out_uri, size, "file:%u/%s%s%.*s", layer->lower_mount, path, *path ? "/" : "", (int)name_size, name)
                      : format(out_uri, size, "file:%u/%s", layer->lower_mount, path);

    return (size_t)length < size ? length : -ENAMETOOLONG;
}

/* ---- The table of a directory ---- */

static uint32_t entry_hash(const char *name, size_t size)
{
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char)name[i]) * 16777619u;
    return hash ^ hash >> 15;
}

static struct layer_entry *entry_find(const struct layer_node *node, const char *name, size_t size)
{
    if (!node->table)
        return NULL;
    uint32_t hash = entry_hash(name, size);
    for (struct layer_entry *entry = node->table[hash & (node->table_size - 1)]; entry; entry = entry->hash_next)
        if (entry->hash == hash && entry->size == size && memcmp(entry->name, name, size) == 0)
            return entry;
    return NULL;
}

static bool table_grow(struct layer_node *node)
{
    uint32_t size = node->table_size ? node->table_size * 2 : 8;
    struct layer_entry **table = heap_alloc(size * sizeof(*table));

    if (!table)
        return node->table_size != 0; /* longer chains, then */
    for (uint32_t i = 0; i < node->table_size; i++)
        for (struct layer_entry *entry = node->table[i], *next; entry; entry = next) {
            next = entry->hash_next;
            entry->hash_next = table[entry->hash & (size - 1)];
            table[entry->hash & (size - 1)] = entry;
        }
    heap_free(node->table);
    node->table = table;
    node->table_size = size;
    return true;
}

/* Makes sure that entry_set for `name` cannot fail: the entry of that name, or a new one that is not in the table. NULL: no memory. */
static struct layer_entry *entry_prepare(struct layer_node *node, const char *name, size_t size)
{
    struct layer_entry *entry = entry_find(node, name, size);

    if (entry)
        return entry;
    if (node->entry_count >= node->table_size && !table_grow(node))
        return NULL;
    entry = heap_alloc(sizeof(*entry) + size + 1);
    if (!entry)
        return NULL;
    memcpy(entry->name, name, size);
    entry->size = (uint32_t)size;
    entry->hash = entry_hash(name, size);
    list_init(&entry->order);
    return entry;
}

static void entry_discard(struct layer_entry *entry) /* of entry_prepare, unused */
{
    if (list_empty(&entry->order))
        heap_free(entry);
}

/* The entry stands for `inode` from now on (takes a reference), NULL: whiteout. */
static void entry_set(struct layer_node *node, struct layer_entry *entry, struct inode *inode)
{
    if (list_empty(&entry->order)) {
        struct layer_entry **head = &node->table[entry->hash & (node->table_size - 1)];
        entry->hash_next = *head;
        *head = entry;
        node->entry_count++;
    } else {
        list_remove(&entry->order);
        if (entry->inode)
            node->live_count--;
    }
    entry->offset = node->next_offset++;
    list_push(&node->order, &entry->order);
    entry->inode = inode ? inode_ref(inode) : NULL;
    if (inode)
        node->live_count++;
}

static void entry_free(struct layer_node *node, struct layer_entry *entry)
{
    for (struct layer_entry **link = &node->table[entry->hash & (node->table_size - 1)]; *link; link = &(*link)->hash_next)
        if (*link == entry) {
            *link = entry->hash_next;
            break;
        }
    list_remove(&entry->order);
    node->entry_count--;
    if (entry->inode)
        node->live_count--;
    heap_free(entry);
}

/* Takes `name` out of the directory. `spare` is of entry_prepare. Returns the inode whose reference the table held, if it did. */
static struct inode *name_remove(struct layer_node *node, struct layer_entry *entry)
{
    struct inode *held = entry->inode;
    bool in_table = !list_empty(&entry->order);

    if (in_table && !entry->covers_lower) {
        entry_free(node, entry);
        return held;
    }
    /* A name that is not in the table is one of the lower folder. */
    entry->covers_lower = true;
    entry_set(node, entry, NULL);
    return held;
}

int layer_restore_entry(struct inode *directory, const char *name, size_t size, struct inode *inode, bool covers_lower)
{
    struct layer_node *node = layer_node(directory);
    struct layer_entry *entry = entry_prepare(node, name, size);

    if (!entry)
        return -ENOMEM;
    if (entry->inode)
        inode_unref(entry->inode);
    entry_set(node, entry, inode);
    entry->covers_lower = covers_lower;
    return 0;
}

bool layer_is_noted(const struct inode *directory, const char *name, size_t size)
{
    return directory->ops == &layer_ops && entry_find(layer_node(directory), name, size);
}

void layer_note_generated(struct inode *inode)
{
    if (inode->ops != &layer_ops)
        return;
    layer_node(inode)->flags |= LAYER_GENERATED;
    layer_node(inode)->generated_ns = inode->change_ns;
}

static bool merges_lower(const struct layer_node *node)
{
    return node->lower_path != NULL;
}

void layer_hide_lower(struct inode *directory, const char *name, size_t size)
{
    if (directory->superblock->type != &layer_type && directory->superblock->type != &layer_over_type)
        return;
    scoped_mutex(&directory->content_mutex);
    struct layer_node *node = layer_node(directory);
    if (!merges_lower(node) || entry_find(node, name, size))
        return;
    struct layer_entry *entry = entry_prepare(node, name, size);
    if (entry)
        (void)name_remove(node, entry);
}

static void touch_directory(struct inode *directory)
{
    layer_pin(directory);
    inode_touch(directory, INODE_MODIFY | INODE_CHANGE);
}

static void add_links(struct inode *inode, int change)
{
    scoped_lock(&inode->lock);
    inode->link_count += (uint32_t)change;
}

/* ---- Operations ---- */

static int layer_lookup(struct inode *directory, const char *name, size_t size, struct inode **out_inode)
{
    struct layer_node *node = layer_node(directory);
    struct layer_entry *entry = entry_find(node, name, size);

    if (entry) {
        if (!entry->inode)
            return -ENOENT;
        *out_inode = inode_ref(entry->inode);
        return 0;
    }
    return merges_lower(node) ? layer_lower_lookup(directory, name, size, out_inode) : -ENOENT;
}

static int layer_make(struct inode *directory, const struct node_request *request, struct inode **out_inode)
{
    struct layer_node *node = layer_node(directory);
    struct layer_entry *entry = entry_prepare(node, request->name, request->name_size);
    struct inode *inode = entry ? layer_new_node(directory->superblock, request->mode) : NULL;

    if (!inode)
        goto no_memory;
    inode->owner = request->owner;
    inode->group = request->group;
    inode->device = request->device;
    layer_node(inode)->flags = LAYER_UPPER;
    if (S_ISLNK(request->mode)) {
        size_t length = strlen(request->target);
        inode->link_text = heap_string(request->target, length);
        inode->size = length;
        if (!inode->link_text)
            goto no_memory;
    }
    entry_set(node, entry, inode);
    if (S_ISDIR(request->mode))
        add_links(directory, 1);
    touch_directory(directory);
    *out_inode = inode;
    return 0;
no_memory:
    inode_unref(inode);
    if (entry)
        entry_discard(entry);
    return -ENOSPC;
}

static int layer_link(struct inode *directory, const char *name, size_t size, struct inode *inode)
{
    struct layer_node *node = layer_node(directory);
    struct layer_entry *entry = entry_prepare(node, name, size);

    if (!entry)
        return -ENOSPC;
    layer_pin(inode);
    entry_set(node, entry, inode);
    add_links(inode, 1);
    inode_touch(inode, INODE_CHANGE);
    touch_directory(directory);
    return 0;
}

static bool listing_has_live(const struct layer_node *node, const struct layer_listing *listing);

/* -ENOTEMPTY unless nothing is left in it. Its content_mutex is held. */
static int check_empty(struct inode *directory)
{
    struct layer_node *node = layer_node(directory);
    struct layer_listing *listing;
    int error;

    if (node->live_count)
        return -ENOTEMPTY;
    if (!merges_lower(node))
        return 0;
    error = layer_lower_listing(directory, &listing);
    if (error < 0)
        return error;
    return listing_has_live(node, listing) ? -ENOTEMPTY : 0;
}

/* One name of `inode` is gone. */
static void name_lost(struct inode *parent, struct inode *inode)
{
    bool last;
    {
        scoped_lock(&inode->lock);
        inode->link_count -= S_ISDIR(inode->mode) && inode->link_count >= 2 ? inode->link_count : inode->link_count ? 1 : 0;
        last = inode->link_count == 0;
    }
    if (S_ISDIR(inode->mode))
        add_links(parent, -1);
    inode_touch(inode, INODE_CHANGE);
    if (last)
        layer_unpin(inode);
    else
        layer_pin(inode); /* its other names must show the smaller count */
}

static int layer_unlink(struct inode *directory, const char *name, size_t size, struct inode *inode)
{
    struct layer_node *node = layer_node(directory);
    struct layer_entry *entry;
    int error;

    if (S_ISDIR(inode->mode) && (error = check_empty(inode)) < 0)
        return error;
    entry = entry_prepare(node, name, size);
    if (!entry)
        return -ENOSPC;
    inode_unref(name_remove(node, entry));
    name_lost(directory, inode);
    touch_directory(directory);
    return 0;
}

static int layer_rename(struct inode *from, const char *from_name, size_t from_size, struct inode *source, struct inode *to,
                        const char *to_name, size_t to_size, struct inode *target, unsigned flags)
{
    struct layer_node *from_node = layer_node(from), *to_node = layer_node(to);
    struct layer_entry *old_entry, *new_entry;
    struct inode *old_held, *new_held;
    bool exchange = flags & RENAME_EXCHANGE;
    int error;

    if (target && !exchange && S_ISDIR(target->mode) && (error = check_empty(target)) < 0)
        return error;
    old_entry = entry_prepare(from_node, from_name, from_size);
    new_entry = old_entry ? entry_prepare(to_node, to_name, to_size) : NULL;
    if (!new_entry) {
        if (old_entry)
            entry_discard(old_entry);
        return -ENOSPC;
    }
    /* entry_prepare may have grown the table only; a name that is not in it but stands for an inode comes from the lower folder. */
    if (list_empty(&old_entry->order))
        old_entry->covers_lower = true;
    if (target && list_empty(&new_entry->order))
        new_entry->covers_lower = true;
    layer_pin(source);
    if (target && exchange)
        layer_pin(target);

    new_held = new_entry->inode;
    entry_set(to_node, new_entry, source);
    if (exchange) {
        old_held = old_entry->inode;
        entry_set(from_node, old_entry, target);
    } else {
        old_held = name_remove(from_node, old_entry);
    }

    if (from != to) {
        if (S_ISDIR(source->mode)) {
            add_links(from, -1);
            add_links(to, 1);
        }
        if (exchange && S_ISDIR(target->mode)) {
            add_links(to, -1);
            add_links(from, 1);
        }
    }
    inode_touch(source, INODE_CHANGE);
    if (target && exchange)
        inode_touch(target, INODE_CHANGE);
    else if (target)
        name_lost(to, target);
    touch_directory(from);
    if (to != from)
        touch_directory(to);
    inode_unref(old_held);
    inode_unref(new_held);
    return 0;
}

static int layer_temporary(struct inode *directory, uint32_t mode, uint32_t owner, uint32_t group, struct inode **out_inode)
{
    struct inode *inode = layer_new_node(directory->superblock, mode);

    if (!inode)
        return -ENOSPC;
    layer_node(inode)->flags = LAYER_UPPER;
    inode->owner = owner;
    inode->group = group;
    inode->link_count = 0;
    *out_inode = inode;
    return 0;
}

/* struct linux_dirent64 */
struct record { uint64_t number; int64_t next; uint16_t size; uint8_t type; char name[]; };

static bool is_dot(const char *name)
{
    return name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0));
}

static bool listing_has_live(const struct layer_node *node, const struct layer_listing *listing)
{
    for (uint64_t at = 0; at < listing->size;) {
        const struct record *record = (const void *)(listing->records + at);
        at += record->size;
        if (!is_dot(record->name) && !entry_find(node, record->name, strlen(record->name)))
            return true;
    }
    return false;
}

static int layer_enumerate(struct inode *directory, int64_t *offset, struct directory_sink *sink)
{
    struct layer_node *node = layer_node(directory);
    int error;

    if (merges_lower(node) && *offset < UPPER_OFFSETS) {
        struct layer_listing *listing;
        if ((error = layer_lower_listing(directory, &listing)) < 0)
            return error;
        uint64_t at = *offset < 2 ? 0 : (uint64_t)*offset - 2;
        while (at < listing->size) {
            const struct record *record = (const void *)(listing->records + at);
            size_t size = strlen(record->name);
            uint64_t next = at + record->size;
            if (!is_dot(record->name) && !entry_find(node, record->name, size) &&
                !sink->emit(sink, record->name, size, record->number, record->type, (int64_t)next + 2))
                return 0;
            at = next;
            *offset = (int64_t)at + 2;
        }
    }
    if (*offset < UPPER_OFFSETS)
        *offset = UPPER_OFFSETS;
    list_for_each(link, &node->order) {
        struct layer_entry *entry = container_of(link, struct layer_entry, order);
        if (entry->offset < *offset || !entry->inode)
            continue;
        if (!sink->emit(sink, entry->name, entry->size, entry->inode->number, (entry->inode->mode & S_IFMT) >> 12, entry->offset + 1))
            return 0;
        *offset = entry->offset + 1;
    }
    return 0;
}

static int layer_set_attributes(struct inode *inode, const struct attribute_change *change)
{
    int64_t now = (int64_t)lx_realtime_ns();

    layer_pin(inode);
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
    return 0;
}

static void identity_remove(struct inode *inode)
{
    struct layer_node *node = layer_node(inode);

    scoped_lock(&layer_of(inode)->lock);
    if (node->identity_link) {
        *node->identity_link = node->identity_next;
        if (node->identity_next)
            node->identity_next->identity_link = node->identity_link;
        node->identity_link = NULL;
        layer_of(inode)->identity_count--;
    }
}

static void layer_release(struct inode *inode)
{
    struct layer_node *node = layer_node(inode);

    identity_remove(inode);
    layer_lower_forget(inode);
    for (uint32_t i = 0; i < node->table_size; i++)
        for (struct layer_entry *entry = node->table[i], *next; entry; entry = next) {
            next = entry->hash_next;
            inode_unref(entry->inode); /* recursion is as deep as the tree of an unmounted tmpfs */
            heap_free(entry);
        }
    heap_free(node->table);
    layer_free_data(inode);
    layer_free_xattrs(node);
    heap_free(node->lower_path);
    heap_free(node->listing);
}

static const struct inode_ops layer_ops = {
    .lookup = layer_lookup,
    .create = layer_make,
    .link = layer_link,
    .unlink = layer_unlink,
    .rename = layer_rename,
    .temporary = layer_temporary,
    .enumerate = layer_enumerate,
    .set_attributes = layer_set_attributes,
    .truncate = layer_truncate,
    .allocate = layer_allocate,
    .open = layer_open,
    .file_ops = &layer_file_ops,
    .read = layer_read_kernel,
    .memory_object = layer_memory_object,
    .get_xattr = layer_get_xattr,
    .set_xattr = layer_set_xattr,
    .list_xattr = layer_list_xattr,
    .release = layer_release,
};

/* ---- The file system ---- */

int layer_create(uint32_t lower_mount, struct superblock **out_superblock, struct inode **out_root)
{
    struct superblock *superblock = superblock_create(lower_mount == LAYER_NO_LOWER ? &layer_type : &layer_over_type);
    struct layer *layer = heap_alloc(sizeof(*layer));
    int error;

    if (!superblock || !layer)
        goto no_memory;
    layer->lower_mount = lower_mount;
    layer->identity_size = lower_mount == LAYER_NO_LOWER ? 1 : 1024;
    layer->identities = heap_alloc(layer->identity_size * sizeof(*layer->identities));
    if (!layer->identities)
        goto no_memory;
    superblock->data = layer;
    /* Numbers of nodes made here must not meet the host's. */
    if (lower_mount != LAYER_NO_LOWER)
        superblock->next_inode_number = 1ull << 56;
    error = 0;
    if (lower_mount != LAYER_NO_LOWER)
        error = layer_lower_root(superblock, out_root);
    else
        *out_root = layer_new_node(superblock, S_IFDIR | 0755);
    if (error < 0)
        goto fail;
    if (!*out_root)
        goto no_memory;
    superblock->root = *out_root;
    *out_superblock = superblock;
    return 0;
no_memory:
    error = -ENOMEM;
fail:
    if (layer)
        heap_free(layer->identities);
    heap_free(layer);
    heap_free(superblock);
    return error;
}

static void layer_superblock_release(struct superblock *superblock)
{
    struct layer *layer = superblock->data;

    heap_free(layer->identities);
    heap_free(layer->store_key);
    heap_free(layer);
}

static void layer_statistics(struct superblock *superblock, struct filesystem_statistics *out)
{
    struct layer *layer = superblock->data;
    struct heap_usage usage;

    heap_usage(&usage);
    uint64_t used = usage.heap_bytes + usage.bulk_bytes + usage.private_bytes;
    uint64_t limit = usage.limit_bytes ? usage.limit_bytes : used + (8ull << 30);
    out->block_size = 4096;
    out->blocks = superblock->limit_bytes ? superblock->limit_bytes / 4096 : limit / 4096;
    uint64_t free_pages = limit > used ? (limit - used) / 4096 : 0;
    uint64_t own = layer->page_count;
    if (superblock->limit_bytes) {
        uint64_t left = out->blocks > own ? out->blocks - own : 0;
        free_pages = left < free_pages ? left : free_pages;
    }
    out->blocks_free = free_pages;
    out->files = out->blocks;
    out->files_free = free_pages;
}

/* mount -t tmpfs -o size=,mode=,uid=,gid= */
static int layer_mount(const char *source, const char *options, struct superblock **out_superblock)
{
    static const struct { const char *name; uint64_t scale; } units[] = { { "k", 10 }, { "K", 10 }, { "m", 20 }, { "M", 20 }, { "g", 30 }, { "G", 30 } };
    struct inode *root;
    int error = layer_create(LAYER_NO_LOWER, out_superblock, &root);

    if (error < 0)
        return error;
    root->mode = S_IFDIR | 01777;
    for (const char *option = options; option && *option;) {
        const char *end = strchr(option, ',');
        size_t size = end ? (size_t)(end - option) : strlen(option);
        uint64_t number = 0;
        const char *value = memchr(option, '=', size);
        size_t name_size = value ? (size_t)(value - option) : size;
        if (value)
            value++;
        if (name_size == 4 && memcmp(option, "size", 4) == 0 && value) {
            size_t digits = parse_number(value, (size_t)(option + size - value), &number);
            for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
                if (value[digits] == units[i].name[0])
                    number <<= units[i].scale;
            (*out_superblock)->limit_bytes = number;
        } else if (name_size == 4 && memcmp(option, "mode", 4) == 0 && value) {
            for (number = 0; *value >= '0' && *value <= '7'; value++)
                number = number * 8 + (uint64_t)(*value - '0');
            root->mode = S_IFDIR | (number & 07777);
        } else if (name_size == 3 && memcmp(option, "uid", 3) == 0 && value && parse_number(value, 10, &number)) {
            root->owner = (uint32_t)number;
        } else if (name_size == 3 && memcmp(option, "gid", 3) == 0 && value && parse_number(value, 10, &number)) {
            root->group = (uint32_t)number;
        }
        option = end ? end + 1 : NULL;
    }
    return 0;
}

const struct filesystem_type layer_type = {
    .name = "tmpfs",
    .magic = TMPFS_MAGIC,
    .flags = FILESYSTEM_USER_MOUNT | FILESYSTEM_NO_DEVICE,
    .mount = layer_mount,
    .statistics = layer_statistics,
    .release = layer_superblock_release,
};
const struct filesystem_type layer_over_type = {
    .name = "overlay",
    .magic = OVERLAYFS_SUPER_MAGIC,
    .flags = FILESYSTEM_NO_DEVICE,
    .statistics = layer_statistics,
    .release = layer_superblock_release,
};
