/* memfd_create(2). The file is a nameless node of a hidden tmpfs (fs/layer); what is added here is
 * sealing: every operation that a seal can forbid asks here first and is then the layer's own.
 *
 * inode->memfd points to the seals. They are only ever added, under inode.lock; operations that
 * they forbid look at them with the content mutex held or, for maps, count themselves in
 * `writable_maps` under the same lock. */
#include "personality/linux/mm/memfd.h"

#include "personality/linux/fs/internal.h"
#include "personality/linux/fs/layer.h"
#include "personality/linux/mm/internal.h"

#include <linux/memfd.h>

#define F_SEAL_EXEC_ 0x20
#define ALL_SEALS                                                                                  \
    (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE | F_SEAL_EXEC_)
#define NAME_MAX_BYTES 249 /* NAME_MAX - strlen("memfd:") */

/* What mmap maps: the layer's object, with a count of shared writable maps. One for each file,
 * while it is mapped or held. */
struct memfd {
    uint32_t seals;
    int32_t writable_maps;
    struct memory_object object; /* references: one for each user; goes with the inode, whose
                                    reference each user holds */
    struct memory_object *inner;
    struct inode *inode;
};

static struct memfd *memfd_of(struct memory_object *object)
{
    return container_of(object, struct memfd, object);
}

/* ---- The memory object ---- */

static int memfd_object_map(struct memory_object *object, void *address, size_t size,
                            unsigned protection, bool shared, uint64_t offset)
{
    struct memory_object *inner = memfd_of(object)->inner;

    return inner->ops->map(inner, address, size, protection, shared, offset);
}

static void memfd_object_destroy(struct memory_object *object)
{
    struct memfd *memfd = memfd_of(object);
    struct memory_object *inner;

    {
        scoped_lock(&memfd->inode->lock);
        if (memfd->object.references ||
            !memfd->inner) /* mapped again meanwhile, or let go by another */
            return;
        inner = memfd->inner;
        memfd->inner = NULL;
    }
    memory_object_unref(inner);
    inode_unref(memfd->inode);
}

static size_t memfd_object_path(struct memory_object *object, char *buffer, size_t size)
{
    struct memory_object *inner = memfd_of(object)->inner;

    return inner->ops->path ? inner->ops->path(inner, buffer, size) : 0;
}

static int memfd_object_punch(struct memory_object *object, uint64_t offset, uint64_t size)
{
    struct memfd *memfd = memfd_of(object);

    if (memfd->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
        return -EPERM;
    scoped_mutex(&memfd->inode->content_mutex);
    return layer_allocate(memfd->inode, BLY_ALLOCATE_PUNCH_HOLE | BLY_ALLOCATE_KEEP_SIZE, offset,
                          size);
}

static int memfd_object_writable(struct memory_object *object, int change)
{
    struct memfd *memfd = memfd_of(object);

    scoped_lock(&memfd->inode->lock);
    if (change > 0 && (memfd->seals & F_SEAL_WRITE))
        return -EPERM;
    memfd->writable_maps += change;
    return 0;
}

static bool memfd_object_covers(struct memory_object *object, uint64_t offset)
{
    return offset < memfd_of(object)->inode->size;
}

static const struct memory_object_ops memfd_object_ops = {
    .map = memfd_object_map,
    .destroy = memfd_object_destroy,
    .path = memfd_object_path,
    .punch = memfd_object_punch,
    .map_writable = memfd_object_writable,
    .covers = memfd_object_covers,
};

static int memfd_memory_object(struct inode *inode, struct memory_object **out_object)
{
    struct memfd *memfd = inode->memfd;
    struct memory_object *inner;
    int error = layer_memory_object(inode, &inner);

    if (error)
        return error;
    {
        scoped_lock(&inode->lock);
        if (memfd->inner) {
            memfd->object.references++;
        } else {
            memfd->inner = inner;
            inner = NULL;
            memfd->object = (struct memory_object){.ops = &memfd_object_ops,
                                                   .references = 1,
                                                   .flags = MEMORY_OBJECT_WRITABLE_SHARED,
                                                   .inode = inode_ref(inode),
                                                   .id = memfd->inner->id};
        }
    }
    memory_object_unref(inner);
    *out_object = &memfd->object;
    return 0;
}

/* ---- The file ---- */

static int64_t memfd_write(struct open_file *file, struct io_buffer *from, int64_t *position)
{
    struct memfd *memfd = file->inode->memfd;
    uint64_t start = file->flags & O_APPEND ? file->inode->size : (uint64_t)*position;

    if (from->size && (memfd->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)))
        return -EPERM;
    if ((memfd->seals & F_SEAL_GROW) && start + from->size > file->inode->size)
        return -EPERM;
    return layer_file_ops.write(file, from, position);
}

static int64_t memfd_read(struct open_file *file, struct io_buffer *to, int64_t *position)
{
    return layer_file_ops.read(file, to, position);
}
static int64_t memfd_seek(struct open_file *file, int64_t offset, int whence)
{
    return layer_file_ops.seek(file, offset, whence);
}
static int memfd_map(struct open_file *file, struct memory_object **out_object)
{
    return memfd_memory_object(file->inode, out_object);
}
static int memfd_flush(struct open_file *file, unsigned flags)
{
    return 0;
}
static void memfd_close(struct open_file *file)
{
    if (layer_file_ops.close)
        layer_file_ops.close(file);
}

static const struct file_ops memfd_file_ops = {
    .name = "memfd",
    .read = memfd_read,
    .write = memfd_write,
    .seek = memfd_seek,
    .map = memfd_map,
    .flush = memfd_flush,
    .close = memfd_close,
};

static int memfd_truncate(struct inode *inode, uint64_t size)
{
    uint32_t seals = inode->memfd->seals;

    if ((size < inode->size && (seals & F_SEAL_SHRINK)) ||
        (size > inode->size && (seals & F_SEAL_GROW)))
        return -EPERM;
    return layer_truncate(inode, size);
}

static int memfd_allocate(struct inode *inode, unsigned mode, uint64_t offset, uint64_t size)
{
    uint32_t seals = inode->memfd->seals;

    if ((mode & BLY_ALLOCATE_PUNCH_HOLE) && (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)))
        return -EPERM;
    if (!(mode & BLY_ALLOCATE_PUNCH_HOLE) && (seals & F_SEAL_GROW) && offset + size > inode->size)
        return -EPERM;
    return layer_allocate(inode, mode, offset, size);
}

/* Reached again through /proc/PID/fd. */
static int memfd_open(struct inode *inode, struct open_file *file)
{
    int error = layer_open(inode, file);

    file->ops = &memfd_file_ops;
    return error;
}

static int memfd_set_attributes(struct inode *inode, const struct attribute_change *change)
{
    if ((change->mask & BLY_SET_MODE) && (inode->memfd->seals & F_SEAL_EXEC_) &&
        ((change->mode ^ inode->mode) & 0111))
        return -EPERM;
    return 0;
}

static void memfd_release(struct inode *inode)
{
    heap_free(inode->memfd);
    inode->memfd = NULL;
    layer_free_data(inode);
    layer_free_xattrs(layer_node(inode));
}

static const struct inode_ops memfd_inode_ops = {
    .set_attributes = memfd_set_attributes,
    .truncate = memfd_truncate,
    .allocate = memfd_allocate,
    .open = memfd_open,
    .file_ops = &memfd_file_ops,
    .read = layer_read_kernel,
    .memory_object = memfd_memory_object,
    .get_xattr = layer_get_xattr,
    .set_xattr = layer_set_xattr,
    .list_xattr = layer_list_xattr,
    .release = memfd_release,
};

/* ---- System call and seals ---- */

/* The hidden tmpfs, made when the first memfd is. */
static int memfd_superblock(struct superblock **out_superblock)
{
    struct superblock *superblock =
        __atomic_load_n((struct superblock **)&lx_kernel->memfd, __ATOMIC_ACQUIRE);

    if (!superblock) {
        struct superblock *mine = NULL, *expected = NULL;
        int error = layer_type.mount("memfd", NULL, &mine);
        if (error)
            return error;
        superblock = mine;
        if (!__atomic_compare_exchange_n((struct superblock **)&lx_kernel->memfd, &expected, mine,
                                         false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
            superblock_unref(mine);
            superblock = expected;
        }
    }
    *out_superblock = superblock;
    return 0;
}

static int memfd_make(const char *name, unsigned mode, uint32_t seals, struct open_file **out_file)
{
    struct superblock *superblock;
    int error = memfd_superblock(&superblock);

    if (error)
        return error;
    struct inode *inode = layer_new_node(superblock, S_IFREG | mode);
    if (!inode)
        return -ENOMEM;
    struct memfd *memfd = heap_alloc(sizeof *memfd);
    if (!memfd) {
        inode_unref(inode);
        return -ENOMEM;
    }
    memfd->inode = inode;
    memfd->seals = seals;
    inode->memfd = memfd;
    inode->ops = &memfd_inode_ops;
    inode->link_count = 0;
    inode->owner = lx_process()->credentials.fsuid;
    inode->group = lx_process()->credentials.fsgid;

    struct dentry *dentry = anonymous_dentry(name, inode);
    struct open_file *file =
        dentry ? file_create(&memfd_file_ops, dentry, inode, O_RDWR | O_LARGEFILE) : NULL;
    dentry_unref(dentry);
    if (file && (error = memfd_open(inode, file)) < 0) {
        file_unref(file);
        file = NULL;
    }
    inode_unref(inode);
    *out_file = file;
    return file ? 0 : error ? error : -ENOMEM;
}

LX_SYSCALL(memfd_create, const char *guest_name, unsigned flags)
{
    static const char prefix[] = "/memfd:", suffix[] = " (deleted)";
    char name[sizeof prefix + NAME_MAX_BYTES + sizeof suffix];
    size_t prefix_size = sizeof prefix - 1;

    if (flags &
        ~(MFD_CLOEXEC | MFD_ALLOW_SEALING | 8u /* MFD_NOEXEC_SEAL */ | 0x10u /* MFD_EXEC */))
        return -EINVAL;
    if ((flags & 0x18) == 0x18)
        return -EINVAL;
    memcpy(name, prefix, prefix_size);
    int64_t length = guest_read_string(name + prefix_size, guest_name, NAME_MAX_BYTES + 1);
    if (length < 0)
        return length == -ENAMETOOLONG ? -EINVAL : length;
    memcpy(name + prefix_size + length, suffix, sizeof suffix);

    uint32_t seals = flags & (MFD_ALLOW_SEALING | 8) ? 0 : F_SEAL_SEAL;
    if (flags & 8)
        seals |= F_SEAL_EXEC_;
    struct open_file *file;
    int error = memfd_make(name, flags & 8 ? 0666 : 0777, seals, &file);
    if (error)
        return error;
    int fd = fd_install(file, 0, flags & MFD_CLOEXEC);
    if (fd < 0)
        file_unref(file);
    return fd;
}

long memfd_fcntl(struct open_file *file, unsigned command, uint64_t argument)
{
    struct memfd *memfd = file->inode->memfd;
    uint32_t seals = (uint32_t)argument;

    if (!memfd)
        return -EINVAL;
    if (command == F_GET_SEALS)
        return memfd->seals;
    if ((file->flags & O_ACCMODE) == O_RDONLY)
        return -EPERM;
    if (argument & ~(uint64_t)ALL_SEALS)
        return -EINVAL;
    scoped_mutex(&file->inode->content_mutex); /* no write that has passed its check is still under
                                                  way afterwards */
    scoped_lock(&file->inode->lock);
    if (memfd->seals & F_SEAL_SEAL)
        return -EPERM;
    if ((seals & F_SEAL_WRITE) && !(memfd->seals & F_SEAL_WRITE) && memfd->writable_maps > 0)
        return -EBUSY;
    if ((seals & F_SEAL_EXEC_) && (file->inode->mode & 0111))
        seals |= F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE;
    memfd->seals |= seals;
    return 0;
}

int memfd_check_map(struct open_file *file, bool shared, unsigned protection, unsigned *maximum)
{
    struct memfd *memfd = file->inode->memfd;

    if (!memfd || !shared || !(memfd->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)))
        return 0;
    if (protection & BLY_PROT_WRITE)
        return -EPERM;
    *maximum &= ~(unsigned)BLY_PROT_WRITE;
    return 0;
}
