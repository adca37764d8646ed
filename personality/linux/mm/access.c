/* Memory of processes seen from outside: process_vm_readv(2), process_vm_writev(2); and
 * membarrier(2). */
#include "personality/linux/mm/internal.h"

#include <linux/membarrier.h>

enum { VECTOR_MAX = 1024, BOUNCE_SIZE = 16384 };

/* One of the two lists of parts, read from the caller piece by piece. */
struct vector_walk {
    const struct bly_iovec *guest_vector;
    uint64_t count, index;
    struct bly_iovec part; /* what is left of the current one */
};

static int walk_fill(struct vector_walk *walk)
{
    while (walk->part.size == 0 && walk->index < walk->count)
        if (guest_read(&walk->part, walk->guest_vector + walk->index++, sizeof walk->part) < 0)
            return -EFAULT;
    return 0;
}

static void walk_advance(struct vector_walk *walk, size_t size)
{
    walk->part.base = (char *)walk->part.base + size;
    walk->part.size -= size;
}

static int check_vector(const struct bly_iovec *guest_vector, uint64_t count)
{
    struct bly_iovec part;
    uint64_t total = 0;

    if (count > VECTOR_MAX)
        return -EINVAL;
    for (uint64_t i = 0; i < count; i++) {
        if (guest_read(&part, guest_vector + i, sizeof part) < 0)
            return -EFAULT;
        if ((int64_t)part.size < 0 || (int64_t)(total += part.size) < 0)
            return -EINVAL;
    }
    return 0;
}

int64_t mm_access_process(struct lx_process *process, uint64_t address, void *buffer, size_t size,
                          bool write)
{
    if (process->mm == lx_process()->mm)
        return (int64_t)(write ? guest_write_some((void *)address, buffer, size)
                               : guest_read_some(buffer, (void *)address, size));
    return -EPERM;
}

/* May the caller look into `process`? ptrace(2), "Ptrace access mode checking". */
static bool may_access(struct lx_process *process)
{
    const struct credentials *own = &lx_process()->credentials, *other = &process->credentials;

    if (process == lx_process() || lx_capable(19 /* CAP_SYS_PTRACE */))
        return true;
    return own->uid == other->uid && own->uid == other->euid && own->uid == other->suid &&
           own->gid == other->gid && own->gid == other->egid && own->gid == other->sgid &&
           process->dumpable;
}

static int64_t transfer(struct lx_process *process, struct vector_walk *local,
                        struct vector_walk *remote, bool write, char *bounce)
{
    int64_t done = 0;

    for (;;) {
        int error = walk_fill(local);
        if (!error)
            error = walk_fill(remote);
        if (error)
            return done ? done : error;
        size_t size = local->part.size < remote->part.size ? local->part.size : remote->part.size;
        if (size > BOUNCE_SIZE)
            size = BOUNCE_SIZE;
        if (!size)
            return done;
        int64_t moved;
        if (write) {
            size_t taken = guest_read_some(bounce, local->part.base, size);
            moved =
                taken ? mm_access_process(process, (uint64_t)remote->part.base, bounce, taken, true)
                      : 0;
        } else {
            moved = mm_access_process(process, (uint64_t)remote->part.base, bounce, size, false);
            if (moved > 0)
                moved = (int64_t)guest_write_some(local->part.base, bounce, (size_t)moved);
        }
        if (moved < 0)
            return done ? done : moved;
        done += moved;
        if ((size_t)moved < size)
            return done ? done : -EFAULT;
        walk_advance(local, size);
        walk_advance(remote, size);
    }
}

static int64_t access_process(int pid, const struct bly_iovec *local, uint64_t local_count,
                              const struct bly_iovec *remote, uint64_t remote_count, uint64_t flags,
                              bool write)
{
    struct vector_walk local_walk = {local, local_count, 0, {0}},
                       remote_walk = {remote, remote_count, 0, {0}};

    if (flags)
        return -EINVAL;
    int error = check_vector(local, local_count);
    if (!error)
        error = check_vector(remote, remote_count);
    if (error)
        return error;
    struct lx_process *process = process_get(pid);
    if (!process)
        return -ESRCH;
    int64_t result = -ESRCH;
    if (process->mm && process->state != PROCESS_ZOMBIE) {
        char *bounce = heap_alloc(BOUNCE_SIZE);
        result = !may_access(process) ? -EPERM
                 : !bounce            ? -ENOMEM
                                      : transfer(process, &local_walk, &remote_walk, write, bounce);
        heap_free(bounce);
    }
    process_unref(process);
    return result;
}

LX_SYSCALL(process_vm_readv, int pid, const struct bly_iovec *local, uint64_t local_count,
           const struct bly_iovec *remote, uint64_t remote_count, uint64_t flags)
{
    return access_process(pid, local, local_count, remote, remote_count, flags, false);
}

LX_SYSCALL(process_vm_writev, int pid, const struct bly_iovec *local, uint64_t local_count,
           const struct bly_iovec *remote, uint64_t remote_count, uint64_t flags)
{
    return access_process(pid, local, local_count, remote, remote_count, flags, true);
}

/* Barriers reach the threads of the caller's process, which is what run-time systems use. The kinds
 * that reach other processes are not offered (MEMBARRIER_CMD_QUERY says so). */
#define BARRIERS                                                                                   \
    (MEMBARRIER_CMD_PRIVATE_EXPEDITED | MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED |                \
     MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE |                                                  \
     MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE)

LX_SYSCALL(membarrier, int command, unsigned flags, int cpu)
{
    struct mm *mm = lx_process()->mm;

    if (flags)
        return -EINVAL;
    switch (command) {
    case MEMBARRIER_CMD_QUERY:
        return BARRIERS;
    case MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED:
    case MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE:
        __atomic_or_fetch(&mm->barrier_registered, (uint32_t)command, __ATOMIC_RELAXED);
        return 0;
    case MEMBARRIER_CMD_PRIVATE_EXPEDITED:
        if (!(mm->barrier_registered & MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED))
            return -EPERM;
        return bly->thread_barrier(BLY_BARRIER_MEMORY);
    case MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE:
        if (!(mm->barrier_registered & MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE))
            return -EPERM;
        return bly->thread_barrier(BLY_BARRIER_CODE);
    default:
        return -EINVAL;
    }
}
