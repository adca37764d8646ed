/* Where a new region goes when the program leaves the choice: top-down from mm->mmap_top, as Linux
 * does, around Bailey's window, keeping a guard gap below every region that grows downwards.
 *
 * The search starts where the last one ended (place_below) unless what is wanted might fit in a
 * hole that was passed over: place_hole is the size of the largest such hole. Freeing memory above
 * moves the start up again. */
#include "personality/linux/mm/internal.h"

bool place_valid(uint64_t start, uint64_t size)
{
    return start >= BLY_GUEST_MIN && size <= BLY_GUEST_MAX && start <= BLY_GUEST_MAX - size &&
           (start + size <= BLY_WINDOW_START || start >= BLY_WINDOW_END);
}

bool place_free(struct mm *mm, uint64_t start, uint64_t size)
{
    struct region *next = mm_find_next(mm, start);

    return !next || next->start >= start + size;
}

/* Where room below `region` ends. */
static uint64_t lowest_used(const struct region *region)
{
    if (!(region->flags & REGION_GROWS_DOWN))
        return region->start;
    return region->start > STACK_GAP ? region->start - STACK_GAP : 0;
}

/* Free, and not in the guard gap of what lies above. */
static bool place_comfortable(struct mm *mm, uint64_t start, uint64_t size)
{
    struct region *next = mm_find_next(mm, start);

    return place_valid(start, size) && (!next || lowest_used(next) >= start + size);
}

#define HUGE_PAGE (2ull << 20)

/* Where a map of `size` goes in the hole [floor, limit), which is large enough. What can be made of
 * huge pages begins at one, if possible. */
static uint64_t place_in_hole(uint64_t floor, uint64_t limit, uint64_t size)
{
    uint64_t start = limit - size, aligned = start & ~(HUGE_PAGE - 1);

    return size % HUGE_PAGE == 0 && aligned >= floor ? aligned : start;
}

/* Highest room of `size` in [bottom, top), or 0. Notes the largest hole that was too small in
 * *hole. */
static uint64_t search_down(struct mm *mm, uint64_t bottom, uint64_t top, uint64_t size,
                            uint64_t *hole)
{
    /* The lowest region at or above top limits the room from above. */
    struct region *region = mm_find_next(mm, top);
    uint64_t limit = region && lowest_used(region) < top ? lowest_used(region) : top;

    region = region ? region_prev(region) : region_of(tree_last(&mm->regions));
    for (;;) {
        uint64_t floor = region && region->end > bottom ? region->end : bottom;
        if (limit > floor) {
            if (limit - floor >= size)
                return place_in_hole(floor, limit, size);
            if (limit - floor > *hole)
                *hole = limit - floor;
        }
        if (!region || region->end <= bottom)
            return 0;
        if (lowest_used(region) < limit)
            limit = lowest_used(region);
        region = region_prev(region);
    }
}

/* The room nearest to `hint` from which a 32-bit displacement reaches it. */
static uint64_t search_near(struct mm *mm, uint64_t hint, uint64_t size)
{
    const uint64_t reach = (2ull << 30) - (16ull << 20);
    uint64_t bottom = hint > reach + BLY_GUEST_MIN ? hint - reach : BLY_GUEST_MIN, hole = 0;
    uint64_t top = hint + reach < BLY_GUEST_MAX ? hint + reach : BLY_GUEST_MAX;

    if (hint < BLY_WINDOW_START && top > BLY_WINDOW_START)
        top = BLY_WINDOW_START;
    if (hint >= BLY_WINDOW_END && bottom < BLY_WINDOW_END)
        bottom = BLY_WINDOW_END;
    uint64_t below = search_down(mm, bottom, hint, size, &hole);
    if (below)
        return below;
    /* Upwards: the first room after the regions round the hint. */
    uint64_t start = page_up(hint);
    for (struct region *region = mm_find_next(mm, start); region; region = region_next(region)) {
        if (start + size <= lowest_used(region))
            break;
        start = region->end;
    }
    return start + size <= top ? start : 0;
}

uint64_t place_find(struct mm *mm, uint64_t hint, uint64_t size, unsigned mm_flags)
{
    uint64_t hole = 0;

    if (mm_flags & MM_NEAR)
        return search_near(mm, page_down(hint), size);
    hint = page_down(hint);
    if (hint && place_comfortable(mm, hint, size) &&
        (!(mm_flags & MM_LOW_32) || hint + size <= 1ull << 31))
        return hint;
    if (mm_flags & MM_LOW_32)
        return search_down(mm, 1ull << 30, 1ull << 31, size, &hole);

    uint64_t top = mm->place_below && size > mm->place_hole ? mm->place_below : mm->mmap_top;
    if (top == mm->mmap_top)
        mm->place_hole = 0;
    uint64_t start = search_down(mm, BLY_WINDOW_END, top, size, &mm->place_hole);
    if (!start && top != mm->mmap_top) {
        mm->place_hole = 0;
        start = search_down(mm, BLY_WINDOW_END, mm->mmap_top, size, &mm->place_hole);
    }
    if (start) {
        mm->place_below = start;
        return start;
    }
    /* Linux then searches upwards from TASK_UNMAPPED_BASE; here below the window is the larger part
     * of what is left. */
    start = search_down(mm, 1ull << 32, BLY_WINDOW_START, size, &hole);
    return start ? start : search_down(mm, BLY_WINDOW_END, BLY_GUEST_MAX, size, &hole);
}

uint64_t mm_find_room(struct mm *mm, uint64_t size)
{
    return place_find(mm, 0, size, 0);
}

void place_freed(struct mm *mm, uint64_t start, uint64_t end)
{
    if (!mm->place_below || end <= mm->place_below || start >= mm->mmap_top)
        return;
    struct region *next = mm_find_next(mm, end);
    mm->place_below = next && lowest_used(next) < mm->mmap_top ? lowest_used(next) : mm->mmap_top;
}
