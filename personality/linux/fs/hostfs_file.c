/* Live host folders: contents. Every open file has a stream of its own (struct host_open), which maps made through it share; reads and writes go
 * straight from guest memory to the host's descriptor. inode->lock guards the list of an inode's streams. */
#include "personality/linux/fs/hostfs.h"
#include <linux/fs.h>

/* ---- Streams ---- */

static void object_destroy(struct memory_object *object);
static int object_map(struct memory_object *object, void *address, size_t size, unsigned protection, bool shared, uint64_t offset);
static size_t object_path(struct memory_object *object, char *buffer, size_t size);
static int object_flush(struct memory_object *object, uint64_t offset, uint64_t size);
static int object_punch(struct memory_object *object, uint64_t offset, uint64_t size);
static const struct memory_object_ops host_object_ops = {
    .map = object_map,
    .destroy = object_destroy,
    .path = object_path,
    .flush = object_flush,
    .punch = object_punch,
};

static struct host_open *host_open_create(struct inode *inode, bly_handle handle, unsigned access)
{
    struct host_open *open = heap_alloc(sizeof(*open));

    if (!open)
        return NULL;
    open->references = 1;
    open->handle = handle;
    open->access = access;
    open->inode = inode_ref(inode);
    list_init(&open->kept);
    open->object.ops = &host_object_ops;
    open->object.flags = access & BLY_ACCESS_WRITE ? MEMORY_OBJECT_WRITABLE_SHARED : 0;
    open->object.inode = inode;
    open->object.id = lx_next_id();
    scoped_lock(&inode->lock);
    list_push(&host_node(inode)->opens, &open->node);
    return open;
}

void host_open_unref(struct host_open *open)
{
    if (!open || --open->references)
        return;
    {
        scoped_lock(&open->inode->lock);
        list_remove(&open->node);
    }
    (void)bly->handle_close(open->handle);
    inode_unref(open->inode);
    heap_free(open);
}

static struct host_open *find_open(struct inode *inode, unsigned access)
{
    scoped_lock(&inode->lock);
    list_for_each(link, &host_node(inode)->opens) {
        struct host_open *open = container_of(link, struct host_open, node);
        uint32_t references = open->references;
        while ((open->access & access) == access && references)
            if (__atomic_compare_exchange_n((uint32_t *)&open->references, &references, references + 1, true, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
                return open;
    }
    return NULL;
}

/* Opens the host file by the name the inode was last seen by. */
static int open_by_name(struct inode *inode, unsigned access, struct host_open **out_open)
{
    struct bly_attributes attributes;
    char uri[HOSTFS_URI_MAX];
    bly_handle handle;
    int size = hostfs_uri(inode, NULL, 0, uri, sizeof(uri));
    int error;

    if (size < 0)
        return size;
    error = bly->stream_open(uri, (size_t)size, access, S_ISDIR(inode->mode) ? BLY_OPEN_DIRECTORY : 0, 0, &handle, &attributes);
    if (error < 0)
        return error;
    if (attributes.inode != host_node(inode)->host_inode || attributes.device != host_node(inode)->host_device)
        error = -ESTALE;
    else if (!(*out_open = host_open_create(inode, handle, access)))
        error = -ENOMEM;
    if (error < 0)
        (void)bly->handle_close(handle);
    else
        hostfs_attributes(inode, &attributes);
    return error;
}

int hostfs_stream(struct inode *inode, unsigned access, struct host_open **out_open)
{
    *out_open = find_open(inode, access);
    return *out_open ? 0 : open_by_name(inode, access, out_open);
}

static unsigned access_of(unsigned flags)
{
    static const unsigned by_mode[4] = { BLY_ACCESS_READ, BLY_ACCESS_WRITE, BLY_ACCESS_READ | BLY_ACCESS_WRITE, BLY_ACCESS_READ | BLY_ACCESS_WRITE };

    return by_mode[flags & O_ACCMODE];
}

/* ---- Opening ---- */

int hostfs_open_child(struct inode *directory, const char *name, size_t size, unsigned flags, unsigned mode, bool *out_created,
                      struct inode **out_inode, void **out_object)
{
    struct bly_attributes attributes;
    char uri[HOSTFS_URI_MAX];
    bly_handle handle;
    int uri_size = hostfs_uri(directory, name, size, uri, sizeof(uri));
    unsigned options = (flags & O_CREAT ? BLY_OPEN_CREATE : 0) | (flags & O_EXCL && flags & O_CREAT ? BLY_OPEN_EXCLUSIVE : 0) |
                       (flags & O_TRUNC ? BLY_OPEN_TRUNCATE : 0);
    int64_t before = (int64_t)lx_realtime_ns();

    if (uri_size < 0)
        return uri_size;
    if (access_of(flags) == BLY_ACCESS_READ && !options) {
        struct host_open *kept = hostfs_kept_open(directory, name, size);
        if (kept) {
            *out_inode = inode_ref(kept->inode);
            *out_object = kept;
            *out_created = false;
            return 0;
        }
    }
    struct host_stamp stamp = hostfs_watch_stamp(directory);
    hostfs_looking(directory, stamp);
    int error = bly->stream_open(uri, (size_t)uri_size, access_of(flags), options, mode & 0777, &handle, &attributes);
    if (error == -ELOOP || error == -ENXIO || error == -ENOTDIR)
        return -EAGAIN; /* a link, or nothing the monitor opens: step by step */
    if (error < 0)
        return error;
    if (attributes.kind != BLY_KIND_FILE && attributes.kind != BLY_KIND_DIRECTORY) {
        (void)bly->handle_close(handle);
        return -EAGAIN;
    }
    error = hostfs_get(directory->superblock, directory, name, size, &attributes, "", 0, out_inode);
    if (error == 0) {
        *out_object = host_open_create(*out_inode, handle, access_of(flags));
        if (!*out_object) {
            inode_unref(*out_inode);
            error = -ENOMEM;
        }
    }
    if (error == 0 && stamp.names && !options) {
        hostfs_seen(*out_inode, directory, stamp);
        hostfs_keep_open(*out_object);
    }
    if (error < 0) {
        (void)bly->handle_close(handle);
        return error;
    }
    /* The host's clock ticks in steps of some milliseconds for files. */
    *out_created = (flags & O_CREAT) && ((flags & O_EXCL) || (attributes.size == 0 && attributes.birth_ns > before - 5000000));
    return 0;
}

static struct host_open *take_created(struct inode *inode)
{
    scoped_lock(&inode->lock);
    struct host_open *open = host_node(inode)->created;
    host_node(inode)->created = NULL;
    return open;
}

void hostfs_abandon(struct inode *inode, void *object)
{
    host_open_unref(object ? object : take_created(inode));
}

static const struct file_ops host_directory_ops;

int hostfs_open(struct inode *inode, struct open_file *file)
{
    struct host_open *open = file->object;
    int error;

    if (!open)
        open = take_created(inode);
    if (!open) {
        error = open_by_name(inode, access_of(file->flags), &open);
        /* We have decided that it may be opened; what the host says counts unless somebody has it open already. */
        if (error == -EACCES && (open = find_open(inode, access_of(file->flags))))
            error = 0;
        error = error == -ESTALE ? -ENOENT : error;
        if (error < 0 && !(error == -ENOENT && S_ISDIR(inode->mode) && inode->link_count == 0))
            return error; /* a removed folder is open without a stream: there is nothing in it */
    }
    file->object = open;
    if (S_ISDIR(inode->mode))
        file->ops = &host_directory_ops;
    return 0;
}

int hostfs_created(struct inode *directory, const struct node_request *request, bly_handle handle, const struct bly_attributes *attributes,
                   struct inode **out_inode)
{
    struct inode *parent = request->name ? directory : NULL;
    struct host_open *open = NULL;
    int error = hostfs_get(directory->superblock, parent, request->name, request->name_size, attributes, "", 0, out_inode);

    if (error == 0 && !(open = host_open_create(*out_inode, handle, BLY_ACCESS_READ | BLY_ACCESS_WRITE))) {
        inode_unref(*out_inode);
        error = -ENOMEM;
    }
    if (error < 0) {
        (void)bly->handle_close(handle);
        return error;
    }
    {
        scoped_lock(&(*out_inode)->lock);
        host_node(*out_inode)->created = open;
    }
    hostfs_overlay_new(*out_inode, request->mode, request->owner, request->group);
    return 0;
}

int hostfs_temporary(struct inode *directory, uint32_t mode, uint32_t owner, uint32_t group, struct inode **out_inode)
{
    const struct node_request request = { .mode = mode, .owner = owner, .group = group };
    struct bly_attributes attributes;
    char uri[HOSTFS_URI_MAX];
    bly_handle handle;
    int size = hostfs_uri(directory, NULL, 0, uri, sizeof(uri));

    if (size < 0)
        return size;
    int error = bly->stream_open(uri, (size_t)size, BLY_ACCESS_READ | BLY_ACCESS_WRITE, BLY_OPEN_TEMPORARY, mode & 0777, &handle, &attributes);
    if (error == 0)
        error = hostfs_created(directory, &request, handle, &attributes, out_inode);
    if (error == 0)
        (*out_inode)->link_count = 0;
    return error;
}

/* ---- Reading and writing ---- */

static bly_handle handle_of(const struct open_file *file)
{
    return ((const struct host_open *)file->object)->handle;
}

static uint64_t current_size(struct open_file *file)
{
    struct bly_attributes attributes;

    if (bly->stream_query(handle_of(file), &attributes) == 0)
        hostfs_attributes(file->inode, &attributes);
    return file->inode->size;
}

/* After an appending write the position is the end of the file, which is asked for only when somebody wants to know. */
static void settle_position(struct open_file *file)
{
    if (file->internal & FILE_AT_END) {
        file->internal &= ~(uint32_t)FILE_AT_END;
        file->position = (int64_t)current_size(file);
    }
}

/* The host moves the time of access with the first read after a change (relatime). Once for each change: it may not do so at all. */
static void was_read(struct inode *inode)
{
    struct host_node *node = host_node(inode);

    if ((inode->access_ns > inode->modify_ns && inode->access_ns > inode->change_ns) || node->read_change_ns == inode->change_ns)
        return;
    node->read_change_ns = inode->change_ns;
    hostfs_doubt(inode);
}

static int64_t hostfs_read(struct open_file *file, struct io_buffer *to, int64_t *position)
{
    if (position == &file->position)
        settle_position(file);
    int64_t count = stream_read_file(handle_of(file), to->vector, to->count, (uint64_t)*position);
    if (count > 0) {
        io_skip(to, (size_t)count);
        *position += count;
        was_read(file->inode);
    }
    return count;
}

static int64_t hostfs_write(struct open_file *file, struct io_buffer *from, int64_t *position)
{
    struct inode *inode = file->inode;
    bool append = writes_at_end(file, from);
    unsigned flags = (append ? BLY_STREAM_APPEND : 0) | ((file->flags & (O_SYNC | O_DSYNC)) || (from->flags & IO_SYNC) ? BLY_STREAM_SYNC : 0);

    if (from->size == 0)
        return 0;
    int64_t allowed = file_size_allowed(inode, append ? (int64_t)inode->size : *position, from->size);
    if (allowed < 0)
        return allowed;
    /* Only when a limit cuts in the middle of several parts is the list cut to what fits of its first. */
    struct bly_iovec first = { from->vector->base, (size_t)allowed < from->vector->size ? (size_t)allowed : from->vector->size };
    bool cut = (size_t)allowed < from->size;
    int64_t count = stream_write_file(handle_of(file), cut ? &first : from->vector, cut ? 1 : from->count, (uint64_t)*position, flags);
    if (count <= 0)
        return count;
    io_skip(from, (size_t)count);
    *position += count;
    if (append && position == &file->position)
        file->internal |= FILE_AT_END;
    if ((uint64_t)*position > inode->size) {
        scoped_lock(&inode->lock);
        inode->size = (uint64_t)*position;
    }
    inode_remove_privileges(inode);
    return count;
}

static int64_t hostfs_seek(struct open_file *file, int64_t offset, int whence)
{
    int64_t base = 0;

    if (whence != SEEK_SET)
        settle_position(file);
    else
        file->internal &= ~(uint32_t)FILE_AT_END;
    switch (whence) {
    case SEEK_SET:
        break;
    case SEEK_CUR:
        base = file->position;
        break;
    case SEEK_END:
        base = (int64_t)current_size(file);
        break;
    case SEEK_DATA:
    case SEEK_HOLE:
        if ((offset = bly->stream_seek(handle_of(file), (uint64_t)offset, (unsigned)whence)) < 0)
            return offset;
        break;
    default:
        return -EINVAL;
    }
    if (__builtin_add_overflow(base, offset, &offset) || offset < 0)
        return -EINVAL;
    file->position = offset;
    return offset;
}

static int hostfs_flush(struct open_file *file, unsigned flags)
{
    return !file->object ? 0 : bly->stream_flush(handle_of(file), flags);
}

static void hostfs_close(struct open_file *file)
{
    host_open_unref(file->object);
}

int64_t hostfs_read_kernel(struct inode *inode, void *buffer, size_t size, uint64_t offset)
{
    struct bly_iovec part = { buffer, size };
    struct host_open *open;
    int error = hostfs_stream(inode, BLY_ACCESS_READ, &open);

    if (error < 0)
        return error;
    int64_t count = stream_read_file(open->handle, &part, 1, offset);
    host_open_unref(open);
    return count;
}

int hostfs_truncate(struct inode *inode, uint64_t size)
{
    struct bly_attributes attributes;
    struct host_open *open;

    if (!S_ISREG(inode->mode))
        return S_ISDIR(inode->mode) ? -EISDIR : -EINVAL;
    int error = hostfs_stream(inode, BLY_ACCESS_WRITE, &open);
    if (error < 0)
        return error;
    error = bly->stream_set_length(open->handle, size);
    if (error == 0 && bly->stream_query(open->handle, &attributes) == 0)
        hostfs_attributes(inode, &attributes);
    host_open_unref(open);
    return error;
}

int hostfs_allocate(struct inode *inode, unsigned mode, uint64_t offset, uint64_t size)
{
    struct host_open *open;
    int error = hostfs_stream(inode, BLY_ACCESS_WRITE, &open);

    if (error < 0)
        return error;
    error = bly->stream_allocate(open->handle, mode, offset, size);
    host_open_unref(open);
    return error;
}

/* ---- Maps ---- */

static struct host_open *open_of(struct memory_object *object)
{
    return container_of(object, struct host_open, object);
}

static int object_map(struct memory_object *object, void *address, size_t size, unsigned protection, bool shared, uint64_t offset)
{
    if (shared && (open_of(object)->access & BLY_ACCESS_WRITE))
        host_node(open_of(object)->inode)->mapped = true;
    return bly->stream_map(open_of(object)->handle, address, size, protection, BLY_MAP_REPLACE | (shared ? BLY_MAP_SHARED : 0), offset);
}

static void object_destroy(struct memory_object *object)
{
    host_open_unref(open_of(object));
}

static int object_flush(struct memory_object *object, uint64_t offset, uint64_t size)
{
    return bly->stream_flush(open_of(object)->handle, BLY_FLUSH_DATA_ONLY);
}

static int object_punch(struct memory_object *object, uint64_t offset, uint64_t size)
{
    return bly->stream_allocate(open_of(object)->handle, BLY_ALLOCATE_PUNCH_HOLE | BLY_ALLOCATE_KEEP_SIZE, offset, size);
}

static size_t object_path(struct memory_object *object, char *buffer, size_t size)
{
    return inode_path(open_of(object)->inode, buffer, size);
}

/* The caller keeps `open` alive by a reference of its own. */
static struct memory_object *object_get(struct host_open *open)
{
    if (__atomic_fetch_add((uint32_t *)&open->object.references, 1, __ATOMIC_ACQ_REL) == 0)
        open->references++;
    return &open->object;
}

static int hostfs_map(struct open_file *file, struct memory_object **out_object)
{
    *out_object = object_get(file->object);
    return 0;
}

int hostfs_memory_object(struct inode *inode, struct memory_object **out_object)
{
    struct host_open *open;

    if (!S_ISREG(inode->mode))
        return -ENODEV;
    int error = hostfs_stream(inode, BLY_ACCESS_READ, &open);
    if (error < 0)
        return error;
    *out_object = object_get(open);
    host_open_unref(open);
    return 0;
}

const struct file_ops hostfs_file_ops = {
    .name = "file",
    .read = hostfs_read,
    .write = hostfs_write,
    .seek = hostfs_seek,
    .map = hostfs_map,
    .flush = hostfs_flush,
    .close = hostfs_close,
};

/* ---- Folders ---- */

struct record { uint64_t number; int64_t next; uint16_t size; uint8_t type; char name[]; };

/* The host's cookies are the guest's, but for the three smallest, which the VFS gives a meaning: those are marked by a high bit. */
#define SMALL_COOKIE (1ll << 62)

int hostfs_enumerate(struct inode *directory, int64_t *offset, struct directory_sink *sink)
{
    struct host_open *open;
    unsigned char *buffer = heap_alloc(16384);
    uint64_t cursor = *offset <= 2 ? 0 : (uint64_t)((*offset & ~SMALL_COOKIE) <= 2 ? *offset & ~SMALL_COOKIE : *offset);
    int64_t size;
    int error = buffer ? hostfs_stream(directory, BLY_ACCESS_READ, &open) : -ENOMEM;

    if (error < 0) {
        heap_free(buffer);
        return error;
    }
    for (;;) {
        size = bly->stream_enumerate(open->handle, &cursor, buffer, 16384);
        if (size <= 0)
            break;
        for (int64_t at = 0; at < size;) {
            const struct record *record = (const void *)(buffer + at);
            const char *name = record->name;
            int64_t next = record->next <= 2 ? record->next | SMALL_COOKIE : record->next;
            at += record->size;
            if (name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2])))
                continue;
            if (!sink->emit(sink, name, strlen(name), record->number, record->type, next))
                goto done;
            *offset = next;
        }
    }
done:
    host_open_unref(open);
    heap_free(buffer);
    return size < 0 ? (int)size : 0;
}

static int64_t host_directory_enumerate(struct open_file *file, struct io_buffer *to)
{
    return directory_read(file, to, /*legacy=*/false);
}

static int64_t host_directory_read(struct open_file *file, struct io_buffer *to, int64_t *position)
{
    return -EISDIR;
}

static int64_t host_directory_seek(struct open_file *file, int64_t offset, int whence)
{
    return directory_file_ops.seek(file, offset, whence);
}

static const struct file_ops host_directory_ops = {
    .name = "directory",
    .read = host_directory_read,
    .seek = host_directory_seek,
    .enumerate = host_directory_enumerate,
    .flush = hostfs_flush,
    .close = hostfs_close,
};
