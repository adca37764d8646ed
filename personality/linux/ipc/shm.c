/* System V shared memory: shmget, shmat, shmdt, shmctl.
 *
 * A segment is a memory object over the bulk segment. Its references are the registry's one and one for each region that
 * maps it, so that the number of attachments needs no bookkeeping of its own and fork, exec and exit count by themselves. */
#include "personality/linux/ipc/ipc.h"
#include "personality/linux/mm/mm.h"
#include <linux/shm.h>

#define SHMLBA BLY_PAGE_SIZE
/* Kernel-side bits of shm_perm.mode, shown by IPC_STAT. */
enum { SHM_DEST = 01000, SHM_LOCKED = 02000 };

struct shm_segment {
    struct ipc_object ipc;
    struct memory_object object;  /* references: 1 while the registry knows the segment, and one a region */
    struct memory_object *memory; /* the anonymous memory itself */
    struct lock lock;             /* guards the fields below */
    uint64_t size;
    int64_t attach_seconds, detach_seconds, change_seconds;
    int32_t creator_pid, last_pid;
    bool locked;
};

static struct shm_segment *of_object(struct memory_object *object) { return container_of(object, struct shm_segment, object); }
static int64_t seconds_now(void) { return (int64_t)(lx_realtime_ns() / 1000000000u); }

static int shm_map(struct memory_object *object, void *address, size_t size, unsigned protection, bool shared, uint64_t offset)
{
    struct memory_object *memory = of_object(object)->memory;
    return memory->ops->map(memory, address, size, protection, shared, offset);
}

/* The last region of a removed segment is gone, or a removed segment had none. */
static void shm_object_destroy(struct memory_object *object)
{
    struct shm_segment *segment = of_object(object);
    ipc_release_slot(ipc_registry(IPC_SHARED_MEMORY), &segment->ipc);
    ipc_unref(ipc_registry(IPC_SHARED_MEMORY), &segment->ipc);
}

static size_t shm_path(struct memory_object *object, char *buffer, size_t size)
{
    return (size_t)format(buffer, size, "/SYSV%08x (deleted)", (unsigned)of_object(object)->ipc.key);
}

static const struct memory_object_ops shm_object_ops = { .map = shm_map, .destroy = shm_object_destroy, .path = shm_path, .counts_maps = true };

static void shm_destroy(struct ipc_object *ipc)
{
    struct shm_segment *segment = container_of(ipc, struct shm_segment, ipc);
    memory_object_unref(segment->memory);
    heap_free(segment);
}

void shm_init(struct ipc_registry *registry) { registry->destroy = shm_destroy; }

static struct ipc_object *shm_create(const void *request)
{
    uint64_t size = *(const uint64_t *)request;
    struct shm_segment *segment = heap_alloc(sizeof *segment);
    if (!segment)
        return NULL;
    segment->memory = memory_object_create_anonymous((size + BLY_PAGE_SIZE - 1) & ~(BLY_PAGE_SIZE - 1));
    if (!segment->memory) {
        heap_free(segment);
        return NULL;
    }
    segment->object.ops = &shm_object_ops;
    segment->object.references = 1;
    segment->object.flags = MEMORY_OBJECT_WRITABLE_SHARED;
    segment->object.id = lx_next_id();
    segment->size = size;
    segment->creator_pid = lx_process()->pid;
    segment->change_seconds = seconds_now();
    return &segment->ipc;
}

static int shm_fits(const struct ipc_object *object, const void *request)
{
    uint64_t size = *(const uint64_t *)request;
    if (!object)
        return size == 0 || size > BLY_BULK_SIZE ? -EINVAL : 0;
    return size > container_of(object, struct shm_segment, ipc)->size ? -EINVAL : 0;
}

LX_SYSCALL(shmget, int32_t key, size_t size, int flags)
{
    uint64_t request = size;
    return ipc_get(ipc_registry(IPC_SHARED_MEMORY), key, flags, shm_create, shm_fits, &request);
}

static struct shm_segment *shm_find(int id, int *out_error)
{
    struct ipc_object *ipc = ipc_find(ipc_registry(IPC_SHARED_MEMORY), id, out_error);
    return ipc ? container_of(ipc, struct shm_segment, ipc) : NULL;
}
static void shm_put(struct shm_segment *segment) { ipc_unref(ipc_registry(IPC_SHARED_MEMORY), &segment->ipc); }

static long shm_attach(struct shm_segment *segment, uint64_t address, int flags)
{
    unsigned protection = BLY_PROT_READ, placing = 0;
    if (!(flags & SHM_RDONLY))
        protection |= BLY_PROT_WRITE;
    if (flags & SHM_EXEC)
        protection |= BLY_PROT_EXECUTE;
    int problem = ipc_permit(&segment->ipc, flags & SHM_RDONLY ? 0400 : 0600);
    if (problem)
        return problem;
    if (address) {
        if (address % SHMLBA) {
            if (!(flags & SHM_RND))
                return -EINVAL;
            address -= address % SHMLBA;
        }
        if (!address && !(flags & SHM_REMAP))
            return -EINVAL;
        placing = flags & SHM_REMAP ? MM_FIXED : MM_FIXED_NOREPLACE;
    } else if (flags & SHM_REMAP) {
        return -EINVAL;
    }
    /* Removed, and the last region went just now? Holding a reference keeps it while we map. */
    uint32_t count = segment->object.references;
    do {
        if (!count)
            return -EIDRM;
    } while (!__atomic_compare_exchange_n((uint32_t *)&segment->object.references, &count, count + 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    struct mm *mm = lx_process()->mm;
    mutex_acquire(&mm->mutex);
    uint64_t size = (segment->size + BLY_PAGE_SIZE - 1) & ~(BLY_PAGE_SIZE - 1);
    long at = mm_map(mm, address, size, protection, REGION_SHARED, &segment->object, 0, placing);
    mutex_release(&mm->mutex);
    memory_object_unref(&segment->object);
    return at == -EEXIST ? -EINVAL : at;
}

LX_SYSCALL(shmat, int id, uint64_t address, int flags)
{
    int problem;
    struct shm_segment *segment = shm_find(id, &problem);
    if (!segment)
        return problem;
    long at = shm_attach(segment, address, flags);
    if (at >= 0) {
        scoped_lock(&segment->lock);
        segment->attach_seconds = seconds_now();
        segment->last_pid = lx_process()->pid;
    }
    shm_put(segment);
    return at;
}

LX_SYSCALL(shmdt, uint64_t address)
{
    struct mm *mm = lx_process()->mm;
    scoped_mutex(&mm->mutex);
    struct region *region = mm_find(mm, address);
    if (address % SHMLBA || !region || region->start != address || !region->object || region->object->ops != &shm_object_ops || region->offset)
        return -EINVAL;
    struct shm_segment *segment = of_object(region->object);
    segment->ipc.references++; /* unmapping may drop the last other one */
    uint64_t size = (segment->size + BLY_PAGE_SIZE - 1) & ~(BLY_PAGE_SIZE - 1);
    /* Parts may have been unmapped or replaced since: only what is still this segment's goes. */
    for (uint64_t at = address; at < address + size;) {
        struct region *part = mm_find_next(mm, at);
        if (!part || part->start >= address + size)
            break;
        uint64_t start = part->start, end = part->end;
        if (part->object == &segment->object && part->offset == start - address && mm_unmap(mm, start, end - start) < 0)
            break;
        at = end;
    }
    {
        scoped_lock(&segment->lock);
        segment->detach_seconds = seconds_now();
        segment->last_pid = lx_process()->pid;
    }
    shm_put(segment);
    return 0;
}

static void shm_stat(struct shm_segment *segment, struct shmid64_ds *out)
{
    memset(out, 0, sizeof *out);
    scoped_lock(&segment->lock);
    ipc_fill_permissions(&segment->ipc, &out->shm_perm);
    uint32_t own = segment->ipc.removed ? 0 : 1;
    out->shm_perm.mode |= (segment->ipc.removed ? SHM_DEST : 0) | (segment->locked ? SHM_LOCKED : 0);
    out->shm_segsz = segment->size;
    out->shm_atime = segment->attach_seconds;
    out->shm_dtime = segment->detach_seconds;
    out->shm_ctime = segment->change_seconds;
    out->shm_cpid = segment->creator_pid;
    out->shm_lpid = segment->last_pid;
    out->shm_nattch = segment->object.references - own;
}

static void shm_mark_removed(struct shm_segment *segment)
{
    struct ipc_registry *registry = ipc_registry(IPC_SHARED_MEMORY);
    bool again;
    {
        scoped_lock(&registry->lock);
        again = segment->ipc.removed;
        segment->ipc.removed = true;
        segment->ipc.key = IPC_PRIVATE;
    }
    if (!again)
        memory_object_unref(&segment->object); /* the registry's; the last attachment or this one releases the slot */
}

static long shm_control(struct shm_segment *segment, int command, void *buffer)
{
    struct shmid64_ds data;
    int problem;
    switch (command) {
    case IPC_STAT:
    case SHM_STAT:
    case SHM_STAT_ANY:
        if (command != SHM_STAT_ANY && (problem = ipc_permit(&segment->ipc, 0400)))
            return problem;
        shm_stat(segment, &data);
        problem = guest_write(buffer, &data, sizeof data);
        return problem ? problem : command == IPC_STAT ? 0 : segment->ipc.id;
    case IPC_SET:
        if ((problem = guest_read(&data, buffer, sizeof data)) || (problem = ipc_permit_change(&segment->ipc)))
            return problem;
        {
            scoped_lock(&segment->lock);
            ipc_set_permissions(&segment->ipc, &data.shm_perm);
            segment->change_seconds = seconds_now();
        }
        return 0;
    case IPC_RMID:
        if ((problem = ipc_permit_change(&segment->ipc)))
            return problem;
        shm_mark_removed(segment);
        return 0;
    case SHM_LOCK:
    case SHM_UNLOCK: {
        if ((problem = ipc_permit_change(&segment->ipc)))
            return problem;
        scoped_lock(&segment->lock);
        segment->locked = command == SHM_LOCK;
        return 0;
    }
    }
    return -EINVAL;
}

static long shm_limits(int command, void *buffer)
{
    struct ipc_registry *registry = ipc_registry(IPC_SHARED_MEMORY);
    int problem;
    if (command == IPC_INFO) {
        struct shminfo64 info = { .shmmax = ~0ul - (1ul << 24), .shmmin = 1, .shmmni = IPC_SLOT_COUNT, .shmseg = IPC_SLOT_COUNT, .shmall = ~0ul - (1ul << 24) };
        problem = guest_write(buffer, &info, sizeof info);
    } else {
        struct shm_info info = { .used_ids = (int)registry->used };
        {
            scoped_lock(&registry->lock);
            for (uint32_t i = 0; i < registry->slot_count; i++)
                if (registry->slots[i])
                    info.shm_tot += (container_of(registry->slots[i], struct shm_segment, ipc)->size + BLY_PAGE_SIZE - 1) / BLY_PAGE_SIZE;
        }
        problem = guest_write(buffer, &info, sizeof info);
    }
    return problem ? problem : ipc_highest_slot(registry);
}

LX_SYSCALL(shmctl, int id, int command, void *buffer)
{
    if (command < 0 || id < 0)
        return -EINVAL;
    if (command == IPC_INFO || command == SHM_INFO)
        return shm_limits(command, buffer);
    int problem;
    struct ipc_object *ipc = command == SHM_STAT || command == SHM_STAT_ANY ? ipc_find_slot(ipc_registry(IPC_SHARED_MEMORY), id, &problem)
                                                                           : ipc_find(ipc_registry(IPC_SHARED_MEMORY), id, &problem);
    if (!ipc)
        return problem;
    struct shm_segment *segment = container_of(ipc, struct shm_segment, ipc);
    long result = shm_control(segment, command, buffer);
    shm_put(segment);
    return result;
}
