/* Keeping layers (`--layer DIR`): what a sandbox's layers hold beyond the host's folders is written to DIR when the sandbox ends and is
 * there again in the next one.
 *
 * For each layer DIR has a file `tree@KEY` (nodes, then the entries of directories; KEY is the layer's place, with `+` for `/`) and a
 * folder `data@KEY` of numbered files, the contents of regular files. Contents are read from there when they are asked for; a file that
 * was not written to keeps its number. A number is used once, the tree is replaced by a rename after the contents are complete, and
 * only then are numbers without an owner removed: whatever happens, DIR has the state of the last sandbox that ended well.
 *
 * Runs before there is any process, and when there is none any more: nobody else is in a layer, and no lock is taken. The files come
 * from an earlier sandbox, so they are checked as anything that a program hands over. */
#include "libos/absent.h"
#include "personality/linux/fs/layer_store.h"
#include "personality/linux/fs/layer.h"
#include "personality/linux/fs/lower.h"

#define STORE_MAGIC 0x3172657961796c62ull
#define STORE_VERSION 1u
#define TREE_SIZE_MAX (1ull << 30)
#define KEY_MAX 200

struct layer_store { /* vfs()->layer_store */
    uint32_t mount;
    struct layer *layers; /* those that are kept */
};

struct store_header { uint64_t magic; uint32_t version, node_count; uint64_t entry_count, next_stored; };
enum store_node_flags { STORE_LOWER = 1 /* has a lower file */, STORE_CONTENTS = 2 /* its contents are not the lower file's */ };
struct store_node { /* then: the lower path, a link's text, extended attributes */
    uint32_t mode, owner, group, link_count;
    uint64_t device, size, stored;
    int64_t access_ns, modify_ns, change_ns, birth_ns;
    uint32_t flags, lower_size, link_size, xattr_count;
};
struct store_xattr { uint32_t name_size, value_size, removed; }; /* then: name, value */
struct store_entry { uint32_t directory, child, covers_lower, name_size; }; /* nodes by number from 1, 0: whiteout; then: the name */

static struct layer_store *store(void)
{
    return vfs()->layer_store;
}

int layer_store_init(const struct bly_start_info *info)
{
    const struct bly_start_mount *mounts = (const void *)((const char *)info + info->mounts);

    for (uint32_t i = 0; i < info->mount_count; i++) {
        if (!(mounts[i].flags & BLY_MOUNT_STORE))
            continue;
        struct layer_store *made = heap_alloc(sizeof(*made));
        if (!made)
            return -ENOMEM;
        made->mount = i;
        vfs()->layer_store = made;
    }
    return 0;
}

/* "file:N/PREFIX@KEY" and what `rest` says. */
static int store_uri(const struct layer *layer, const char *prefix, const char *rest, char *out_uri, size_t size)
{
    return format(out_uri, size, "file:%u/%s@%s%s", store()->mount, prefix, layer->store_key, rest);
}

int layer_store_uri(const struct layer *layer, uint64_t stored, char *out_uri, size_t size)
{
    char rest[32];

    format(rest, sizeof(rest), "/%llu", (unsigned long long)stored);
    return store_uri(layer, "data", rest, out_uri, size);
}

static char *key_of(const char *path)
{
    char key[KEY_MAX + 2];
    size_t size = 0;

    for (; *path && size < KEY_MAX; path++) {
        key[size++] = *path == '/' ? '+' : *path;
        if (*path == '+')
            key[size++] = '+';
    }
    return *path ? NULL : heap_string(key, size);
}

/* ---- Writing ---- */

struct writer {
    bly_handle file;
    uint64_t offset;
    size_t used;
    int error;
    char buffer[16384];
};

static void write_at(struct writer *writer, const void *data, size_t size)
{
    while (size && !writer->error) {
        struct bly_iovec vector = { (void *)data, size };
        int64_t count = stream_write_file(writer->file, &vector, 1, writer->offset, 0);
        if (count <= 0) {
            writer->error = count ? (int)count : -EIO;
            break;
        }
        data = (const char *)data + count;
        size -= (size_t)count;
        writer->offset += (uint64_t)count;
    }
}

static void writer_flush(struct writer *writer)
{
    write_at(writer, writer->buffer, writer->used);
    writer->used = 0;
}

static void put(struct writer *writer, const void *data, size_t size)
{
    if (size > sizeof(writer->buffer) - writer->used)
        writer_flush(writer);
    if (size > sizeof(writer->buffer)) {
        write_at(writer, data, size);
        return;
    }
    memcpy(writer->buffer + writer->used, data, size);
    writer->used += size;
}

static int writer_open(struct writer *writer, const char *uri, size_t uri_size)
{
    struct bly_attributes attributes;

    writer->offset = writer->used = 0;
    writer->error = 0;
    return bly->stream_open(uri, uri_size, BLY_ACCESS_READ | BLY_ACCESS_WRITE, BLY_OPEN_CREATE | BLY_OPEN_TRUNCATE, 0600, &writer->file, &attributes);
}

/* The nodes that are to be kept, in the order of their numbers. */
struct collection { struct inode **inodes; uint32_t count, room; };

static int collect(struct collection *collection, struct inode *inode)
{
    if (layer_node(inode)->store_number)
        return 0;
    if (collection->count == collection->room) {
        uint32_t room = collection->room ? collection->room * 2 : 256;
        void *larger = heap_realloc(collection->inodes, collection->room * sizeof(inode), room * sizeof(inode));
        if (!larger)
            return -ENOMEM;
        collection->inodes = larger;
        collection->room = room;
    }
    collection->inodes[collection->count++] = inode;
    layer_node(inode)->store_number = collection->count;
    return 0;
}

/* Files that are made anew in each sandbox, unless somebody changed them. */
static bool is_made_anew(const struct inode *inode)
{
    const struct layer_node *node = layer_node(inode);

    return (node->flags & LAYER_GENERATED) && node->generated_ns == inode->change_ns;
}

static int collect_all(struct collection *collection, struct superblock *superblock)
{
    struct layer *layer = superblock->data;
    int error = collect(collection, superblock->root);

    /* Changed lower files that no table names. */
    for (uint32_t i = 0; i < layer->identity_size; i++)
        for (struct layer_node *node = layer->identities[i]; node && !error; node = node->identity_next)
            if (node->flags & LAYER_PINNED)
                error = collect(collection, node->inode);
    for (uint32_t i = 0; i < collection->count && !error; i++) {
        list_for_each(link, &layer_node(collection->inodes[i])->order) {
            struct layer_entry *entry = container_of(link, struct layer_entry, order);
            if (entry->inode && !is_made_anew(entry->inode) && (error = collect(collection, entry->inode)) < 0)
                break;
        }
    }
    return error;
}

/* The contents of a file that is in memory, under a number of their own; holes stay holes. */
static int write_contents(struct layer *layer, struct inode *inode, struct writer *writer)
{
    struct layer_node *node = layer_node(inode);
    char uri[KEY_MAX + 64];

    node->stored = 0;
    if (inode->size == 0)
        return 0;
    uint64_t number = layer->next_stored++;
    int error = writer_open(writer, uri, (size_t)layer_store_uri(layer, number, uri, sizeof(uri)));
    if (error < 0)
        return error;
    for (uint64_t at = 0, room; at < inode->size && !writer->error; at += room) {
        const void *memory = layer_find(node, at, &room);
        if (room > inode->size - at)
            room = inode->size - at;
        writer->offset = at;
        if (memory)
            absent_load((uint64_t)memory - BLY_BULK_START, room);
        if (memory)
            write_at(writer, memory, room);
    }
    if (!writer->error)
        writer->error = bly->stream_set_length(writer->file, inode->size);
    (void)bly->handle_close(writer->file);
    if (!writer->error)
        node->stored = number;
    return writer->error;
}

static void put_node(struct writer *writer, const struct inode *inode)
{
    const struct layer_node *node = layer_node(inode);
    struct store_node record = {
        .mode = inode->mode, .owner = inode->owner, .group = inode->group, .link_count = inode->link_count,
        .device = inode->device, .size = inode->size, .stored = node->stored,
        .access_ns = inode->access_ns, .modify_ns = inode->modify_ns, .change_ns = inode->change_ns, .birth_ns = inode->birth_ns,
        .flags = (node->lower_path ? STORE_LOWER : 0) | (node->stored || node->flags & LAYER_UPPER ? STORE_CONTENTS : 0),
        .lower_size = node->lower_path ? (uint32_t)strlen(node->lower_path) : 0,
        .link_size = inode->link_text ? (uint32_t)strlen(inode->link_text) : 0,
    };
    for (const struct layer_xattr *xattr = node->xattrs; xattr; xattr = xattr->next)
        record.xattr_count++;
    put(writer, &record, sizeof(record));
    put(writer, node->lower_path, record.lower_size);
    put(writer, inode->link_text, record.link_size);
    for (const struct layer_xattr *xattr = node->xattrs; xattr; xattr = xattr->next) {
        struct store_xattr head = { (uint32_t)strlen(xattr->name), xattr->size, xattr->removed };
        put(writer, &head, sizeof(head));
        put(writer, xattr->name, head.name_size);
        put(writer, xattr->value, head.value_size);
    }
}

static uint64_t put_entries(struct writer *writer, const struct inode *directory)
{
    const struct layer_node *node = layer_node(directory);
    uint64_t count = 0;

    list_for_each(link, &node->order) {
        struct layer_entry *entry = container_of(link, struct layer_entry, order);
        if (entry->inode && !layer_node(entry->inode)->store_number)
            continue;
        struct store_entry record = { node->store_number, entry->inode ? layer_node(entry->inode)->store_number : 0, entry->covers_lower, entry->size };
        put(writer, &record, sizeof(record));
        put(writer, entry->name, entry->size);
        count++;
    }
    return count;
}

static int write_tree(struct layer *layer, const struct collection *collection, struct writer *writer)
{
    struct store_header header = { .magic = STORE_MAGIC, .version = STORE_VERSION, .node_count = collection->count, .next_stored = layer->next_stored };
    char uri[KEY_MAX + 64], final_uri[KEY_MAX + 64];
    size_t size = (size_t)store_uri(layer, "new", "", uri, sizeof(uri));
    int error = writer_open(writer, uri, size);

    if (error < 0)
        return error;
    put(writer, &header, sizeof(header));
    for (uint32_t i = 0; i < collection->count; i++)
        put_node(writer, collection->inodes[i]);
    for (uint32_t i = 0; i < collection->count; i++)
        header.entry_count += put_entries(writer, collection->inodes[i]);
    writer_flush(writer);
    writer->offset = 0; /* how many there are is known now */
    write_at(writer, &header, sizeof(header));
    if (!writer->error)
        writer->error = bly->stream_flush(writer->file, 0);
    (void)bly->handle_close(writer->file);
    if (writer->error)
        return writer->error;
    return bly->stream_rename(uri, size, final_uri, (size_t)store_uri(layer, "tree", "", final_uri, sizeof(final_uri)), 0);
}

/* Numbers that the new tree does not name. Those that cannot be removed are only in the way of nobody. */
static void remove_unused(struct layer *layer, const struct collection *collection)
{
    struct record { uint64_t number; int64_t next; uint16_t size; uint8_t type; char name[]; };
    char uri[KEY_MAX + 64];
    struct layer_listing *listing = NULL;
    struct bly_attributes attributes;
    bly_handle folder;
    unsigned char *used = heap_alloc(layer->next_stored / 8 + 1); /* a bit a number */

    if (!used)
        return;
    for (uint32_t i = 0; i < collection->count; i++) {
        uint64_t stored = layer_node(collection->inodes[i])->stored;
        if (stored < layer->next_stored)
            used[stored / 8] |= (unsigned char)(1 << stored % 8);
    }
    if (bly->stream_open(uri, (size_t)store_uri(layer, "data", "", uri, sizeof(uri)), BLY_ACCESS_READ, BLY_OPEN_DIRECTORY, 0, &folder, &attributes) < 0) {
        heap_free(used);
        return;
    }
    if (stream_read_listing(folder, &listing) == 0) {
        for (uint64_t at = 0; at < listing->size;) {
            const struct record *record = (const void *)(listing->records + at);
            uint64_t number;
            at += record->size;
            size_t length = strlen(record->name);
            if (parse_number(record->name, length, &number) == length && length && (number >= layer->next_stored || !(used[number / 8] >> number % 8 & 1)))
                (void)bly->stream_delete(uri, (size_t)layer_store_uri(layer, number, uri, sizeof(uri)), 0);
        }
    }
    heap_free(used);
    heap_free(listing);
    (void)bly->handle_close(folder);
}

/* What a save that failed has written: a full disk is not to stay full. */
static void remove_new(struct layer *layer, uint64_t first)
{
    char uri[KEY_MAX + 64];

    for (uint64_t number = first; number < layer->next_stored; number++)
        (void)bly->stream_delete(uri, (size_t)layer_store_uri(layer, number, uri, sizeof(uri)), 0);
    (void)bly->stream_delete(uri, (size_t)store_uri(layer, "new", "", uri, sizeof(uri)), 0);
}

static int save(struct layer *layer, struct writer *writer)
{
    uint64_t first = layer->next_stored;
    struct collection collection = { 0 };
    struct bly_attributes attributes;
    char uri[KEY_MAX + 64];
    int error = collect_all(&collection, layer->superblock);

    if (!error)
        error = bly->stream_create(uri, (size_t)store_uri(layer, "data", "", uri, sizeof(uri)), BLY_KIND_DIRECTORY, 0700, "", 0, &attributes);
    if (error == -EEXIST)
        error = 0;
    for (uint32_t i = 0; i < collection.count && !error; i++)
        if (S_ISREG(collection.inodes[i]->mode) && layer_node(collection.inodes[i])->flags & LAYER_UPPER)
            error = write_contents(layer, collection.inodes[i], writer);
    if (!error)
        error = write_tree(layer, &collection, writer);
    if (!error)
        remove_unused(layer, &collection);
    else
        remove_new(layer, first);
    for (uint32_t i = 0; i < collection.count; i++)
        layer_node(collection.inodes[i])->store_number = 0;
    heap_free(collection.inodes);
    return error;
}

bool layer_store_is_used(void)
{
    return store() != NULL;
}

void layer_store_save(void)
{
    const struct bly_start_mount *mounts = (const void *)((const char *)start_info + start_info->mounts);
    struct writer *writer = heap_alloc(sizeof(*writer));
    int failure = 0;

    for (struct layer *layer = store()->layers; layer; layer = layer->store_next) {
        int error = writer ? save(layer, writer) : -ENOMEM;
        failure = error < 0 ? error : failure;
    }
    heap_free(writer);
    if (failure)
        panic("what changed in the private layer is lost, it could not be kept in %s (error %d: %s)", bly_start_string(start_info, mounts[store()->mount].host_path),
              -failure, failure == -ENOSPC || failure == -EDQUOT ? "the disk is full" : "writing failed");
}

/* ---- Reading ---- */

struct reader { const char *at; uint64_t left; };

/* The next `size` bytes, or NULL when there are not so many. */
static const char *take(struct reader *reader, uint64_t size)
{
    if (size > reader->left)
        return NULL;
    const char *taken = reader->at;
    reader->at += size;
    reader->left -= size;
    return taken;
}

static bool take_copy(struct reader *reader, void *out, size_t size)
{
    const char *from = take(reader, size);

    if (from)
        memcpy(out, from, size);
    return from;
}

static int read_xattrs(struct reader *reader, uint32_t count, struct layer_node *node)
{
    for (uint32_t i = 0; i < count; i++) {
        struct store_xattr head;
        const char *name, *value;
        if (!take_copy(reader, &head, sizeof(head)) || head.name_size > 255 || head.value_size > 65536 || !(name = take(reader, head.name_size)) ||
            !(value = take(reader, head.value_size)))
            return -EUCLEAN;
        if (!node)
            continue;
        struct layer_xattr *xattr = heap_alloc(sizeof(*xattr) + head.name_size + 1);
        void *copy = head.value_size ? heap_alloc(head.value_size) : NULL;
        if (!xattr || (head.value_size && !copy)) {
            heap_free(xattr);
            heap_free(copy);
            return -ENOMEM;
        }
        memcpy(xattr->name, name, head.name_size);
        if (copy)
            memcpy(copy, value, head.value_size);
        xattr->value = copy;
        xattr->size = head.value_size;
        xattr->removed = head.removed;
        xattr->next = node->xattrs;
        node->xattrs = xattr;
    }
    return 0;
}

static bool is_type(uint32_t mode)
{
    return S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode) || S_ISFIFO(mode) || S_ISSOCK(mode) || S_ISCHR(mode) || S_ISBLK(mode);
}

/* The lower file of a record, if the host still has one of this type there. */
static struct inode *find_lower(struct superblock *superblock, const struct store_node *record, const char *path)
{
    struct layer *layer = superblock->data;
    struct inode *inode = NULL;

    if (!(record->flags & STORE_LOWER) || layer->lower_mount == LAYER_NO_LOWER ||
        layer_lower_by_path(superblock, path, record->lower_size, &inode) < 0)
        return NULL;
    if ((inode->mode & S_IFMT) == (record->mode & S_IFMT))
        return inode;
    inode_unref(inode);
    return NULL;
}

/* A node out of its record. *out_inode is NULL for one whose contents were the host's and are not there any more. */
static int read_node(struct reader *reader, struct superblock *superblock, bool is_root, struct inode **out_inode)
{
    struct store_node record;
    const char *lower, *link;
    struct inode *inode;
    bool contents_kept;

    *out_inode = NULL;
    if (!take_copy(reader, &record, sizeof(record)) || !is_type(record.mode) || record.lower_size >= LX_PATH_MAX || record.link_size >= LX_PATH_MAX ||
        record.size > INT64_MAX || !(lower = take(reader, record.lower_size)) || !(link = take(reader, record.link_size)))
        return -EUCLEAN;
    contents_kept = record.flags & STORE_CONTENTS;
    if (is_root) {
        inode = (superblock->root->mode & S_IFMT) == (record.mode & S_IFMT) ? inode_ref(superblock->root) : NULL;
    } else {
        inode = find_lower(superblock, &record, lower);
        if (!inode && (!(record.flags & STORE_LOWER) || S_ISDIR(record.mode) || contents_kept) && !(inode = layer_new_node(superblock, record.mode)))
            return -ENOMEM;
    }
    if (inode) {
        struct layer_node *node = layer_node(inode);
        layer_pin(inode);
        inode->mode = record.mode;
        inode->owner = record.owner;
        inode->group = record.group;
        inode->link_count = record.link_count;
        inode->device = record.device;
        inode->access_ns = record.access_ns;
        inode->modify_ns = record.modify_ns;
        inode->change_ns = record.change_ns;
        inode->birth_ns = record.birth_ns;
        if (S_ISREG(record.mode) && contents_kept) {
            inode->size = record.stored ? record.size : 0;
            inode->blocks = (inode->size + 511) / 512;
            node->stored = record.stored;
        }
        if (contents_kept && !node->stored)
            node->flags |= LAYER_UPPER;
        if (S_ISLNK(record.mode) && !inode->link_text) {
            inode->link_text = heap_string(link, record.link_size);
            inode->size = record.link_size;
            if (!inode->link_text) {
                inode_unref(inode);
                return -ENOMEM;
            }
        }
    }
    *out_inode = inode;
    return read_xattrs(reader, record.xattr_count, inode ? layer_node(inode) : NULL);
}

static bool is_name(const char *name, uint32_t size)
{
    return size && size <= LX_NAME_MAX && !memchr(name, '/', size) && !memchr(name, 0, size) && !(name[0] == '.' && (size == 1 || (size == 2 && name[1] == '.')));
}

static int read_entry(struct reader *reader, struct inode *const *inodes, uint32_t count)
{
    struct store_entry record;
    const char *name;

    if (!take_copy(reader, &record, sizeof(record)) || record.directory == 0 || record.directory > count || record.child > count ||
        !(name = take(reader, record.name_size)) || !is_name(name, record.name_size))
        return -EUCLEAN;
    struct inode *directory = inodes[record.directory], *child = record.child ? inodes[record.child] : NULL;
    if (!directory || (record.child && !child))
        return 0; /* gone from the host */
    if (!S_ISDIR(directory->mode))
        return -EUCLEAN;
    return layer_restore_entry(directory, name, record.name_size, child, record.covers_lower);
}

static int read_tree(struct reader *reader, struct superblock *superblock)
{
    struct layer *layer = superblock->data;
    struct store_header header;

    if (!take_copy(reader, &header, sizeof(header)) || header.magic != STORE_MAGIC || header.version != STORE_VERSION || header.node_count == 0 ||
        header.node_count > reader->left / sizeof(struct store_node) || header.entry_count > reader->left / sizeof(struct store_entry))
        return -EUCLEAN;
    layer->next_stored = header.next_stored ? header.next_stored : 1;
    struct inode **inodes = heap_alloc(((size_t)header.node_count + 1) * sizeof(*inodes));
    int error = inodes ? 0 : -ENOMEM;
    for (uint32_t i = 1; i <= header.node_count && !error; i++)
        error = read_node(reader, superblock, /*is_root=*/i == 1, &inodes[i]);
    for (uint64_t i = 0; i < header.entry_count && !error; i++)
        error = read_entry(reader, inodes, header.node_count);
    for (uint32_t i = 1; inodes && i <= header.node_count; i++)
        inode_unref(inodes[i]);
    heap_free(inodes);
    return error;
}

static int load(struct superblock *superblock)
{
    struct bly_attributes attributes;
    char uri[KEY_MAX + 64];
    bly_handle file;
    int error = bly->stream_open(uri, (size_t)store_uri(superblock->data, "tree", "", uri, sizeof(uri)), BLY_ACCESS_READ, 0, 0, &file, &attributes);

    if (error < 0)
        return error == -ENOENT ? 0 : error;
    char *tree = attributes.size <= TREE_SIZE_MAX ? heap_alloc(attributes.size + 1) : NULL;
    int64_t size = tree ? stream_read_fully(file, tree, attributes.size, 0) : -ENOMEM;
    (void)bly->handle_close(file);
    if (size >= 0) {
        struct reader reader = { tree, (uint64_t)size };
        size = read_tree(&reader, superblock);
    }
    heap_free(tree);
    return (int)size;
}

int layer_store_load(struct superblock *superblock, const char *place)
{
    struct layer *layer = superblock->data;

    if (!store())
        return 0;
    layer->next_stored = 1;
    layer->superblock = superblock;
    layer->store_key = key_of(place);
    if (!layer->store_key)
        panic("a layer at %s cannot be kept: its path is too long", place);
    layer->store_next = store()->layers;
    store()->layers = layer;
    int error = load(superblock);
    if (error < 0)
        panic("the layer's file tree@%s cannot be read (error %d%s): restore it, or begin with an empty folder", layer->store_key, -error,
              error == -EUCLEAN ? ", it is damaged" : "");
    return 0;
}
