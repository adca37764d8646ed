/* Runs of pages of a shared segment: the layer below heap_alloc and bulk_alloc. Internal to libos.
 */
#ifndef LIBOS_PAGES_H
#define LIBOS_PAGES_H

#include <bailey/abi.h>

#include "libos/lock.h"

enum page_kind { PAGE_NONE, PAGE_FREE, PAGE_RUN, PAGE_SLAB };

/* One for each page of a segment. Those of pages never used are never touched, so the array costs
 * memory only where the segment is in use. Page numbers count from the start of the segment; 0
 * means none (the first page is never given out). */
struct page {
    uint32_t next, prev; /* FREE, first page: bin list. SLAB, first page: list of its class */
    uint32_t
        count; /* FREE, first and last page: pages of the run. RUN and SLAB, first page: likewise */
    uint32_t dirty; /* FREE, first page: how many pages may hold something else than zeroes */
    uint32_t first; /* SLAB: first page of the slab */
    uint32_t
        free_head; /* SLAB, first page: first free object, as offset in the segment / 16; 0: none */
    uint16_t used; /* SLAB, first page: objects in use */
    uint8_t kind;  /* enum page_kind */
    uint8_t class; /* SLAB */
    uint32_t reserved;
};

struct page_area {
    struct lock lock; /* guards all below and the FREE descriptors */
    uint64_t base;      /* address of page 0 */
    struct page *pages; /* descriptor of page 0; those of the others lie in front of it: page_descriptor */
    uint32_t page_count; /* of the segment */
    uint32_t top;        /* pages from here on were never used: they are zero */
    uint32_t bin_mask;   /* bit n: bins[n] is not empty */
    uint32_t bins[32];   /* free runs of 2^n <= count < 2^(n+1) pages */
};

static inline struct page *page_descriptor(const struct page_area *area, uint32_t page)
{
    return area->pages - page;
}
static inline uint32_t page_number(const struct page_area *area, const struct page *descriptor)
{
    return (uint32_t)(area->pages - descriptor);
}

void pages_init(struct page_area *area, uint64_t base, uint32_t page_count, struct page *pages);
/* A run of `count` pages, zeroed when `zeroed`; 0 when the segment is full. */
uint32_t pages_alloc(struct page_area *area, uint32_t count, bool zeroed);
/* They read as zeros from now on, and are the host's until they are written. */
int pages_empty(struct page_area *area, uint32_t first, uint32_t count);
/* Large free runs are given back to the host. */
void pages_free(struct page_area *area, uint32_t first, uint32_t count);

#endif
