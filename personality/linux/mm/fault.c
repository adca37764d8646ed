/* Faults that the personality cures: stacks that grow, files that have grown since they were
 * mapped. */
#include "personality/linux/mm/internal.h"

static bool grow(struct mm *mm, struct region *region, uint64_t address)
{
    uint64_t start = page_down(address), added = region->start - start;
    struct region *below = region_prev(region);

    if (start < BLY_GUEST_MIN || !place_valid(start, added) ||
        region->end - start > mm_limit(RLIMIT_STACK))
        return false;
    /* The gap need not be kept towards another stack or inaccessible pages (Linux:
     * acct_stack_growth). */
    if (below && below->end > start)
        return false;
    if (below && below->protection && !(below->flags & REGION_GROWS_DOWN) &&
        start - below->end < STACK_GAP)
        return false;
    if (!mm_may_expand(mm, added, region->protection, region->flags))
        return false;
    if ((region->flags & REGION_LOCKED) && mm_may_lock(mm, added) < 0)
        return false;
    if (host_map_region(NULL, start, added, region->protection, region->flags, 0) < 0)
        return false;
    region_account(mm, region, -1);
    region->start = start; /* the order in the tree stays */
    region_account(mm, region, 1);
    host_apply_sticky(region, start, start + added);
    mm->grown_start = start;
    mm->grown_end = start + added;
    return true;
}

bool mm_handle_fault(uint64_t address, bool write)
{
    struct mm *mm = lx_current() && lx_process() ? lx_process()->mm : NULL;

    if (!mm || mutex_held(&mm->mutex) || !place_valid(page_down(address), PAGE))
        return false;
    scoped_mutex(&mm->mutex);
    struct region *region = mm_find_next(mm, address);
    if (region && region->start > address && (region->flags & REGION_GROWS_DOWN))
        region = mm_own(mm) == 0 ? mm_find_next(mm, address) : NULL;
    if (!region || !(region->flags & REGION_GROWS_DOWN) ||
        !(region->protection & (write ? BLY_PROT_WRITE : BLY_PROT_READ)))
        return false;
    if (region->start > address)
        return grow(mm, region, address);
    /* Another thread may have grown the stack for the same page meanwhile: then, once, the fault is
     * stale. */
    if (address < mm->grown_start || address >= mm->grown_end)
        return false;
    mm->grown_start = mm->grown_end = 0;
    return true;
}

bool mm_handle_bus_error(uint64_t address)
{
    struct mm *mm = lx_current() && lx_process() ? lx_process()->mm : NULL;

    if (!mm || mutex_held(&mm->mutex))
        return false;
    scoped_mutex(&mm->mutex);
    if (mm_own(mm) < 0)
        return false;
    struct region *region = mm_find(mm, address);
    if (!region || !region->object || !region->object->ops->covers)
        return false;
    uint64_t page = page_down(address), offset = region->offset + (page - region->start);
    if (!region->object->ops->covers(region->object, offset))
        return false;
    return host_map_region(region->object, page, PAGE, region->protection, region->flags, offset) ==
           0;
}
