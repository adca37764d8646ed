/* madvise(2) and process_madvise(2): a table of what each advice means for the records and for the
 * host. */
#include "personality/linux/mm/internal.h"

#include "personality/linux/process/pidfd.h"

enum advice_kind {
    ADVICE_NONE,  /* a hint without consequence here */
    ADVICE_HOST,  /* told to the host; its refusal does not matter */
    ADVICE_FLAGS, /* changes what fork does with the region */
    ADVICE_DISCARD,
    ADVICE_FREE,
    ADVICE_REMOVE,
    ADVICE_POPULATE,
    ADVICE_POISON,
};
enum { NO_ADVICE = BLY_ADVICE_COUNT };

struct advice {
    uint8_t guest, kind, host;
    bool not_locked;     /* -EINVAL for locked regions */
    uint16_t set, clear; /* region flags */
};

static const struct advice advices[] = {
    {MADV_NORMAL, ADVICE_NONE, NO_ADVICE, false, 0, 0},
    {MADV_RANDOM, ADVICE_NONE, NO_ADVICE, false, 0, 0},
    {MADV_SEQUENTIAL, ADVICE_NONE, NO_ADVICE, false, 0, 0},
    {MADV_WILLNEED, ADVICE_HOST, BLY_ADVICE_WILL_NEED, false, 0, 0},
    {MADV_DONTNEED, ADVICE_DISCARD, BLY_ADVICE_DISCARD, true, 0, 0},
    {24 /* MADV_DONTNEED_LOCKED */, ADVICE_DISCARD, BLY_ADVICE_DISCARD, false, 0, 0},
    {MADV_FREE, ADVICE_FREE, BLY_ADVICE_FREE_LAZILY, true, 0, 0},
    {MADV_REMOVE, ADVICE_REMOVE, NO_ADVICE, true, 0, 0},
    {MADV_DONTFORK, ADVICE_FLAGS, BLY_ADVICE_DO_NOT_CLONE, false, REGION_DONT_FORK, 0},
    {MADV_DOFORK, ADVICE_FLAGS, BLY_ADVICE_CLONE, false, 0, REGION_DONT_FORK},
    {MADV_WIPEONFORK, ADVICE_FLAGS, BLY_ADVICE_WIPE_ON_CLONE, false, REGION_WIPE_ON_FORK, 0},
    {MADV_KEEPONFORK, ADVICE_FLAGS, BLY_ADVICE_KEEP_ON_CLONE, false, 0, REGION_WIPE_ON_FORK},
    {MADV_MERGEABLE, ADVICE_NONE, NO_ADVICE, false, 0, 0},
    {MADV_UNMERGEABLE, ADVICE_NONE, NO_ADVICE, false, 0, 0},
    {MADV_HUGEPAGE, ADVICE_HOST, BLY_ADVICE_HUGE, false, 0, 0},
    {MADV_NOHUGEPAGE, ADVICE_HOST, BLY_ADVICE_NO_HUGE, false, 0, 0},
    {MADV_DONTDUMP, ADVICE_NONE, NO_ADVICE, false, 0, 0},
    {MADV_DODUMP, ADVICE_NONE, NO_ADVICE, false, 0, 0},
    {MADV_COLD, ADVICE_HOST, BLY_ADVICE_COLD, true, 0, 0},
    {MADV_PAGEOUT, ADVICE_HOST, BLY_ADVICE_COLD, true, 0, 0},
    {MADV_POPULATE_READ, ADVICE_POPULATE, BLY_ADVICE_POPULATE_READ, false, 0, 0},
    {MADV_POPULATE_WRITE, ADVICE_POPULATE, BLY_ADVICE_POPULATE_WRITE, false, 0, 0},
    {25 /* MADV_COLLAPSE */, ADVICE_HOST, BLY_ADVICE_HUGE, false, 0, 0},
    {MADV_HWPOISON, ADVICE_POISON, NO_ADVICE, false, 0, 0},
    {MADV_SOFT_OFFLINE, ADVICE_POISON, NO_ADVICE, false, 0, 0},
};

static const struct advice *advice_find(int guest)
{
    for (size_t i = 0; i < sizeof advices / sizeof *advices; i++)
        if (advices[i].guest == guest)
            return &advices[i];
    return NULL;
}

static int remove_pages(struct region *region, uint64_t start, uint64_t size)
{
    if (!region->object)
        return -EINVAL;
    /* MADV_REMOVE (madvise(2)): only shared writable mappings. */
    if (!(region->flags & REGION_SHARED) || !(region->protection & BLY_PROT_WRITE))
        return -EACCES;
    uint64_t offset = region->offset + (start - region->start);
    if (region->object->ops->punch)
        return region->object->ops->punch(region->object, offset, size);
    absent_settle(lx_process()->mm, start, start + size);
    return bly->memory_advise((void *)start, size, BLY_ADVICE_REMOVE);
}

static int populate(struct region *region, uint64_t start, uint64_t size,
                    const struct advice *advice)
{
    unsigned needed = advice->host == BLY_ADVICE_POPULATE_WRITE ? BLY_PROT_WRITE : BLY_PROT_READ;

    if (!(region->protection & (needed | BLY_PROT_WRITE)) ||
        (needed == BLY_PROT_WRITE && !(region->protection & BLY_PROT_WRITE)))
        return -EINVAL;
    absent_settle(lx_process()->mm, start, start + size);
    return bly->memory_advise((void *)start, size, advice->host);
}

static int change_flags(struct mm *mm, struct region *region, const struct advice *advice,
                        uint64_t start, uint64_t end)
{
    if (((advice->set | advice->clear) & REGION_WIPE_ON_FORK) && advice->set &&
        (region->object || (region->flags & REGION_SHARED)))
        return -EINVAL;
    int error = region_carve(mm, start, end);
    if (error)
        return error;
    region = mm_find(mm, start);
    region->flags = (region->flags & ~(uint32_t)advice->clear) | advice->set;
    return bly->memory_advise((void *)start, end - start, advice->host);
}

/* The part [start, end) of one region. */
static int advise_region(struct mm *mm, struct region *region, const struct advice *advice,
                         uint64_t start, uint64_t end)
{
    if (region->flags & REGION_TRAMPOLINE)
        return 0;
    if (advice->not_locked && (region->flags & REGION_LOCKED))
        return -EINVAL;
    switch (advice->kind) {
    case ADVICE_HOST:
        (void)bly->memory_advise((void *)start, end - start, advice->host);
        return 0;
    case ADVICE_FREE:
        if (region->object)
            return -EINVAL;
        /* fall through */
    case ADVICE_DISCARD:
        if (region->flags & REGION_IMAGE)
            return host_map_again(region, start, end);
        return bly->memory_advise((void *)start, end - start, advice->host);
    case ADVICE_REMOVE:
        return remove_pages(region, start, end - start);
    case ADVICE_POPULATE:
        return populate(region, start, end - start, advice);
    case ADVICE_FLAGS:
        return change_flags(mm, region, advice, start, end);
    }
    return 0;
}

static long advise(struct mm *mm, uint64_t start, uint64_t size, int guest_advice)
{
    const struct advice *advice = advice_find(guest_advice);
    uint64_t end = start + page_up(size), at = start;
    bool holes = false;
    int error = 0;

    if (!advice || start % PAGE || (size && !page_up(size)) || end < start)
        return -EINVAL;
    if (end == start)
        return 0;
    if (advice->kind == ADVICE_POISON)
        return lx_capable(21 /* CAP_SYS_ADMIN */) ? -EINVAL : -EPERM;
    scoped_mutex(&mm->mutex);
    if (advice->kind != ADVICE_HOST && mm_own(mm) < 0)
        return -ENOMEM;
    /* madvise(2): unmapped parts are passed over, and reported at the end. */
    while (at < end) {
        struct region *region = mm_find_next(mm, at);
        if (!region || region->start >= end) {
            holes = true;
            break;
        }
        if (region->start > at) {
            holes = true;
            at = region->start;
            if (advice->kind == ADVICE_POPULATE)
                break;
        }
        uint64_t stop = region->end < end ? region->end : end;
        error = advise_region(mm, region, advice, at, stop);
        if (error)
            break;
        at = stop;
    }
    if (advice->kind == ADVICE_FLAGS)
        region_merge(mm, start, end);
    return error ? error : holes ? -ENOMEM : 0;
}

void mm_show_all_to_clones(struct mm *mm, bool all)
{
    for (struct tree_node *node = tree_first(&mm->regions); node; node = tree_next(node)) {
        const struct region *region = region_of(node);
        if (region->flags & REGION_DONT_FORK)
            bly->memory_advise((void *)region->start, region->end - region->start, all ? BLY_ADVICE_CLONE : BLY_ADVICE_DO_NOT_CLONE);
    }
}

LX_SYSCALL(madvise, uint64_t start, uint64_t size, int advice)
{
    return advise(lx_process()->mm, start, size, advice);
}

LX_SYSCALL(process_madvise, int pidfd, const struct bly_iovec *vector, uint64_t count, int advice,
           unsigned flags)
{
    static const uint8_t allowed[] = {MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED,
                                      25 /* MADV_COLLAPSE */};
    struct bly_iovec entry;
    uint64_t done = 0;

    if (flags)
        return -EINVAL;
    if (count > 1024)
        return -EINVAL;
    scoped_file file = fd_get(pidfd);
    if (!file)
        return -EBADF;
    struct lx_process *process = pidfd_process(file);
    if (!process)
        return -EBADF;
    bool own = process == lx_process();
    process_unref(process);
    if (!memchr(allowed, advice, sizeof allowed))
        return -EINVAL;
    /* Advice to another process is only ever a hint: it is taken note of by checking it. */
    for (uint64_t i = 0; i < count; i++) {
        int error = guest_read(&entry, vector + i, sizeof entry);
        long result = error ? error
                      : own ? advise(lx_process()->mm, (uint64_t)entry.base, entry.size, advice)
                      : (uint64_t)entry.base % PAGE ? -EINVAL
                                                    : 0;
        if (result)
            return done ? (long)done : result;
        done += entry.size;
    }
    return (long)done;
}
