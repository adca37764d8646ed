/* msync(2), mincore(2), mlock(2) and its family: what is in memory and what is on its way to the
 * file. */
#include "personality/linux/mm/internal.h"

LX_SYSCALL(msync, uint64_t start, uint64_t size, int flags)
{
    struct mm *mm = lx_process()->mm;
    uint64_t end = start + page_up(size), at = start;
    bool holes = false;
    int error = 0;

    if ((flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC)) || start % PAGE ||
        ((flags & MS_ASYNC) && (flags & MS_SYNC)))
        return -EINVAL;
    if (end < start || (size && !page_up(size)))
        return -ENOMEM;
    if (end == start)
        return 0;
    mutex_acquire(&mm->mutex);
    while (at < end && !error) {
        struct region *region = mm_find_next(mm, at);
        if (!region || region->start >= end) {
            holes = true;
            break;
        }
        if (region->start > at) {
            holes = true;
            at = region->start;
        }
        if ((flags & MS_INVALIDATE) && (region->flags & REGION_LOCKED)) {
            error = -EBUSY;
            break;
        }
        uint64_t stop = region->end < end ? region->end : end, part = stop - at;
        uint64_t offset = region->offset + (at - region->start);
        at = stop;
        struct memory_object *object = region->object;
        if (!(flags & MS_SYNC) || !object || !(region->flags & REGION_SHARED) ||
            !object->ops->flush)
            continue;
        /* The disk may be slow: others may change the map meanwhile, the walk goes on by address.
         */
        memory_object_ref(object);
        mutex_release(&mm->mutex);
        error = object->ops->flush(object, offset, part);
        memory_object_unref(object);
        mutex_acquire(&mm->mutex);
    }
    mutex_release(&mm->mutex);
    return error ? error : holes ? -ENOMEM : 0;
}

/* The host does not tell which pages are resident. Files and shared memory are (the page cache is
 * the host's), locked memory is, and private memory is said not to be: the answer then costs a
 * caller time, never correctness. */
LX_SYSCALL(mincore, uint64_t start, uint64_t size, unsigned char *out_vector)
{
    struct mm *mm = lx_process()->mm;
    uint64_t page_count = page_up(size) / PAGE;
    unsigned char part[256];

    if (start % PAGE)
        return -EINVAL;
    if (start > BLY_GUEST_MAX || size > BLY_GUEST_MAX - start)
        return -ENOMEM;
    if (!guest_range_valid(out_vector, page_count))
        return -EFAULT;
    for (uint64_t done = 0; done < page_count;) {
        uint64_t count = page_count - done < sizeof part ? page_count - done : sizeof part;
        {
            scoped_mutex(&mm->mutex);
            for (uint64_t i = 0; i < count; i++) {
                struct region *region = mm_find(mm, start + (done + i) * PAGE);
                if (!region)
                    return -ENOMEM;
                part[i] = region->object || (region->flags & REGION_LOCKED);
            }
        }
        if (guest_write(out_vector + done, part, count) < 0)
            return -EFAULT;
        done += count;
    }
    return 0;
}

/* Sets or clears REGION_LOCKED on [start, end). Returns -ENOMEM for holes, after doing what can be
 * done, as Linux does. */
static int set_locked(struct mm *mm, uint64_t start, uint64_t end, bool locked)
{
    uint64_t at = start;
    int error = mm_own(mm);

    if (!error)
        error = region_carve(mm, start, end);
    if (error)
        return error;
    struct region *region = mm_find(mm, start);
    for (; region && region->start == at && at < end; region = region_next(region)) {
        if (!(region->flags & (REGION_TRAMPOLINE | REGION_VDSO)) &&
            !locked != !(region->flags & REGION_LOCKED)) {
            region_account(mm, region, -1);
            region->flags ^= REGION_LOCKED;
            region_account(mm, region, 1);
        }
        at = region->end;
    }
    region_merge(mm, start, end);
    return at < end ? -ENOMEM : 0;
}

/* Faults pages in as mlock(2) does. Inaccessible ones stay out: -ENOMEM, or passed over. */
static int fault_in(struct mm *mm, uint64_t start, uint64_t end, bool pass_over)
{
    for (uint64_t at = start; at < end;) {
        struct region *region = mm_find_next(mm, at);
        if (!region || region->start >= end)
            return 0;
        at = region->start > at ? region->start : at;
        uint64_t stop = region->end < end ? region->end : end;
        unsigned advice = (region->protection & BLY_PROT_WRITE) && (!(region->flags & REGION_SHARED) || !(region->protection & BLY_PROT_READ))
                              ? BLY_ADVICE_POPULATE_WRITE
                              : BLY_ADVICE_POPULATE_READ;
        absent_settle(mm, at, stop);
        if ((!region->protection || bly->memory_advise((void *)at, stop - at, advice) < 0) &&
            !pass_over)
            return -ENOMEM;
        at = stop;
    }
    return 0;
}

static uint64_t locked_within(struct mm *mm, uint64_t start, uint64_t end)
{
    uint64_t sum = 0;

    for (struct region *region = mm_find_next(mm, start); region && region->start < end;
         region = region_next(region))
        if (region->flags & REGION_LOCKED)
            sum += (region->end < end ? region->end : end) -
                   (region->start > start ? region->start : start);
    return sum;
}

static long lock_range(uint64_t start, uint64_t size, bool now)
{
    struct mm *mm = lx_process()->mm;
    uint64_t end = page_up(start + size), limit = mm_limit(RLIMIT_MEMLOCK);
    bool capable = lx_capable(14 /* CAP_IPC_LOCK */);

    if (!capable && limit == 0)
        return -EPERM;
    start = page_down(start);
    if (end < start)
        return -EINVAL;
    if (end == start)
        return 0;
    scoped_mutex(&mm->mutex);
    if (!capable && mm->locked_bytes + (end - start) - locked_within(mm, start, end) > limit)
        return -ENOMEM;
    int error = set_locked(mm, start, end, true);
    return error ? error : now ? fault_in(mm, start, end, false) : 0;
}

LX_SYSCALL(mlock, uint64_t start, uint64_t size)
{
    return lock_range(start, size, true);
}

LX_SYSCALL(mlock2, uint64_t start, uint64_t size, unsigned flags)
{
    return flags & ~(unsigned)MLOCK_ONFAULT ? -EINVAL
                                            : lock_range(start, size, !(flags & MLOCK_ONFAULT));
}

LX_SYSCALL(munlock, uint64_t start, uint64_t size)
{
    struct mm *mm = lx_process()->mm;
    uint64_t end = page_up(start + size);

    start = page_down(start);
    if (end < start)
        return -EINVAL;
    if (end == start)
        return 0;
    scoped_mutex(&mm->mutex);
    return set_locked(mm, start, end, false);
}

static void set_all_locked(struct mm *mm, bool locked)
{
    for (struct tree_node *node = tree_first(&mm->regions); node; node = tree_next(node)) {
        struct region *region = region_of(node);
        if ((region->flags & (REGION_TRAMPOLINE | REGION_VDSO)) ||
            !locked == !(region->flags & REGION_LOCKED))
            continue;
        region_account(mm, region, -1);
        region->flags ^= REGION_LOCKED;
        region_account(mm, region, 1);
    }
}

LX_SYSCALL(mlockall, int flags)
{
    struct mm *mm = lx_process()->mm;
    uint64_t limit = mm_limit(RLIMIT_MEMLOCK);
    bool capable = lx_capable(14 /* CAP_IPC_LOCK */);

    if (!flags || (flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)) || flags == MCL_ONFAULT)
        return -EINVAL;
    if (!capable && limit == 0)
        return -EPERM;
    scoped_mutex(&mm->mutex);
    if ((flags & MCL_CURRENT) && !capable && mm->mapped_bytes > limit)
        return -ENOMEM;
    if (mm_own(mm) < 0)
        return -ENOMEM;
    mm->lock_future = flags & MCL_FUTURE;
    if (flags & MCL_CURRENT) {
        set_all_locked(mm, true);
        if (!(flags & MCL_ONFAULT))
            (void)fault_in(mm, 0, BLY_GUEST_MAX, true);
    }
    return 0;
}

LX_SYSCALL(munlockall, void)
{
    struct mm *mm = lx_process()->mm;

    scoped_mutex(&mm->mutex);
    if (mm_own(mm) < 0)
        return -ENOMEM;
    mm->lock_future = 0;
    set_all_locked(mm, false);
    return 0;
}
