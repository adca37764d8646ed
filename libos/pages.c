/* Page-run allocator with boundary tags: the first and the last page of a free run know its length,
 * so that neighbours merge in constant time; free runs hang in bins by the logarithm of their
 * length.
 *
 * Invariant: two free runs never touch, and no page inside a free run (but its two ends) has kind
 * FREE. */
#include "libos/pages.h"

#include "libos/abi.h"
#include "libos/absent.h"
#include "libos/text.h"

enum {
    GIVE_BACK_PAGES = 64, /* dirty pages of a free run from which on it is given back to the host */
    REMOVE_TO_ZERO = 32, /* from this many pages on, asking the host for fresh ones beats zeroing */
    BIN_TRIES = 32,      /* runs looked at in the bin that may hold too short ones */
};

void pages_init(struct page_area *area, uint64_t base, uint32_t page_count, struct page *pages)
{
    area->base = base;
    area->pages = pages;
    area->page_count = page_count;
    area->top = 1;
}

static unsigned bin_of(uint32_t count)
{
    return 31u - (unsigned)__builtin_clz(count);
}

static void *page_address(const struct page_area *area, uint32_t page)
{
    return (void *)(area->base + (uint64_t)page * BLY_PAGE_SIZE);
}

static void run_link(struct page_area *area, uint32_t first, uint32_t count, uint32_t dirty)
{
    struct page *page = page_descriptor(area, first),
                *last = page_descriptor(area, first + count - 1);
    unsigned bin = bin_of(count);

    last->kind = PAGE_FREE;
    last->count = count;
    page->kind = PAGE_FREE;
    page->count = count;
    page->dirty = dirty < count ? dirty : count;
    page->prev = 0;
    page->next = area->bins[bin];
    if (page->next)
        page_descriptor(area, page->next)->prev = first;
    area->bins[bin] = first;
    area->bin_mask |= 1u << bin;
}

static void run_unlink(struct page_area *area, uint32_t first)
{
    struct page *page = page_descriptor(area, first);
    unsigned bin = bin_of(page->count);

    if (page->next)
        page_descriptor(area, page->next)->prev = page->prev;
    if (page->prev)
        page_descriptor(area, page->prev)->next = page->next;
    else
        area->bins[bin] = page->next;
    if (!area->bins[bin])
        area->bin_mask &= ~(1u << bin);
    page_descriptor(area, first + page->count - 1)->kind = PAGE_NONE;
    page->kind = PAGE_NONE;
}

/* A free run of at least `count` pages, or 0. */
static uint32_t run_find(struct page_area *area, uint32_t count, unsigned tries)
{
    unsigned bin = bin_of(count);

    for (uint32_t first = area->bins[bin]; first && tries > 0;
         first = page_descriptor(area, first)->next, tries--)
        if (page_descriptor(area, first)->count >= count)
            return first;
    uint32_t larger = bin < 31 ? area->bin_mask & ~((2u << bin) - 1) : 0;
    return larger ? area->bins[__builtin_ctz(larger)] : 0;
}

int pages_empty(struct page_area *area, uint32_t first, uint32_t count)
{
    if (area->base == BLY_BULK_START)
        absent_discard((uint64_t)first * BLY_PAGE_SIZE, (uint64_t)count * BLY_PAGE_SIZE);
    return bly->memory_advise(page_address(area, first), (uint64_t)count * BLY_PAGE_SIZE,
                              BLY_ADVICE_REMOVE);
}

uint32_t pages_alloc(struct page_area *area, uint32_t count, bool zeroed)
{
    uint32_t dirty = 0;

    lock_acquire(&area->lock);
    uint32_t first = run_find(area, count, BIN_TRIES);
    if (!first && count > area->page_count - area->top)
        first = run_find(area, count, ~0u);
    if (first) {
        uint32_t have = page_descriptor(area, first)->count;
        dirty = page_descriptor(area, first)->dirty;
        run_unlink(area, first);
        if (have > count)
            run_link(area, first + count, have - count, dirty);
    } else if (count <= area->page_count - area->top) {
        first = area->top;
        area->top += count;
    }
    lock_release(&area->lock);

    if (first && dirty && zeroed) {
        void *address = page_address(area, first);
        if (count < REMOVE_TO_ZERO ||
            pages_empty(area, first, count) < 0)
            memset(address, 0, count * BLY_PAGE_SIZE);
    }
    return first;
}

void pages_free(struct page_area *area, uint32_t first, uint32_t count)
{
    uint32_t dirty = count;

    if (count >= GIVE_BACK_PAGES && pages_empty(area, first, count) == 0)
        dirty = 0;
    for (;;) {
        lock_acquire(&area->lock);
        if (page_descriptor(area, first - 1)->kind == PAGE_FREE) {
            uint32_t left = first - page_descriptor(area, first - 1)->count;
            dirty += page_descriptor(area, left)->dirty;
            run_unlink(area, left);
            count += first - left;
            first = left;
        }
        if (first + count < area->top && page_descriptor(area, first + count)->kind == PAGE_FREE) {
            uint32_t right = first + count;
            dirty += page_descriptor(area, right)->dirty;
            count += page_descriptor(area, right)->count;
            run_unlink(area, right);
        }
        if (dirty < GIVE_BACK_PAGES)
            break;
        /* Nobody else can find the run while it is off the lists. */
        lock_release(&area->lock);
        dirty = pages_empty(area, first, count) == 0 ? 0 : GIVE_BACK_PAGES - 1;
    }
    run_link(area, first, count, dirty);
    lock_release(&area->lock);
}
