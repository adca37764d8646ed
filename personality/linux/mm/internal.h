/* What the files of mm/ share. mm->mutex is held for everything here. */
#ifndef LX_MM_INTERNAL_H
#define LX_MM_INTERNAL_H

#include "personality/linux/mm/mm.h"
#include "personality/linux/process/process.h"

#include <asm/mman.h>
#include <linux/mman.h>
#include <linux/resource.h>

#define PAGE BLY_PAGE_SIZE
#define STACK_GAP                                                                                  \
    (256 * PAGE) /* kept free below a region that grows downwards (Linux: stack_guard_gap) */
enum { REGION_COUNT_MAX = 65530 /* Linux: vm.max_map_count */ };

static inline uint64_t page_down(uint64_t address)
{
    return address & ~(PAGE - 1);
}
static inline uint64_t page_up(uint64_t size)
{
    return (size + PAGE - 1) & ~(PAGE - 1);
}
static inline uint64_t region_size(const struct region *region)
{
    return region->end - region->start;
}
static inline struct region *region_of(const struct tree_node *node)
{
    return node ? container_of(node, struct region, node) : NULL;
}
static inline struct region *region_next(const struct region *region)
{
    return region_of(tree_next(&region->node));
}
static inline struct region *region_prev(const struct region *region)
{
    return region_of(tree_prev(&region->node));
}

/* region.c */
void region_insert(struct mm *mm, struct region *region);
void region_remove(struct mm *mm,
                   struct region *region); /* from the tree and the sums; keeps the object */
void region_free(struct region *region);   /* drops the charge and the object */
void region_account(struct mm *mm, const struct region *region, int sign);
/* Makes region borders at start and end where a region crosses them. -ENOMEM: nothing that matters
 * changed. */
int region_carve(struct mm *mm, uint64_t start, uint64_t end) __attribute__((warn_unused_result));
/* Joins neighbours that are alike, for all borders in [start, end]. */
void region_merge(struct mm *mm, uint64_t start, uint64_t end);
bool region_chargeable(unsigned protection, unsigned flags);
/* Counts the region against the memory limit if it must be and is not yet. */
int region_charge(struct region *region) __attribute__((warn_unused_result));
/* Removes all records in the range (borders must be carved), unmapping each on the host when
 * `host`. */
void region_remove_range(struct mm *mm, uint64_t start, uint64_t end, bool host);
/* True when every page of the range is mapped. */
bool region_covered(struct mm *mm, uint64_t start, uint64_t end);

/* Executable and patched pages, which other parts own. */
int mm_copy_references(struct mm *to, struct mm *from) __attribute__((warn_unused_result));
void mm_drop_references(struct mm *mm);

/* place.c: 0 when there is no room. */
uint64_t place_find(struct mm *mm, uint64_t hint, uint64_t size, unsigned mm_flags);
bool place_free(struct mm *mm, uint64_t start, uint64_t size); /* nothing mapped there */
bool place_valid(uint64_t start, uint64_t size);               /* the guest's to use */
void place_freed(struct mm *mm, uint64_t start, uint64_t end);

/* absent.c. For a piece of the bulk segment that is about to be mapped: true: to be mapped inaccessibly, it is noted. */
bool absent_note(struct mm *mm, uint64_t address, uint64_t size, uint64_t bulk_offset, unsigned protection);
/* The same for a piece of an image that is still arriving; and that piece is there now. */
bool absent_note_image(struct mm *mm, uint64_t address, uint64_t size, uint64_t offset, unsigned protection);
void mm_load_image(uint64_t offset, uint64_t size);
/* Everything in the range is about to be unmapped or replaced; nothing crosses its borders. */
void absent_forget(struct mm *mm, uint64_t start, uint64_t end);
/* All that has part in the range is loaded, and mapped like anything else. Waits for the monitor. */
void absent_settle(struct mm *mm, uint64_t start, uint64_t end);
/* What lies on both sides of `address` is two from now on. -ENOMEM. */
int absent_split(struct mm *mm, uint64_t address) __attribute__((warn_unused_result));
int absent_copy(struct mm *to, struct mm *from) __attribute__((warn_unused_result));

/* map.c */
int host_map_region(struct memory_object *object, uint64_t address, uint64_t size,
                    unsigned protection, unsigned flags, uint64_t offset);
void host_apply_sticky(const struct region *region, uint64_t start,
                       uint64_t end); /* fork advice and the like */
/* [start, end) of the region as the host has it when it is fresh: what the program wrote there is gone. */
int host_map_again(const struct region *region, uint64_t start, uint64_t end);
uint64_t mm_limit(unsigned resource);
bool mm_may_expand(struct mm *mm, uint64_t size, unsigned protection, unsigned flags);
/* -EPERM, -EAGAIN: mlock limits for `size` more bytes. */
int mm_may_lock(struct mm *mm, uint64_t size);
int mm_translate_protection(uint64_t guest_protection); /* PROT_* to BLY_PROT_*, -EINVAL */

#endif
