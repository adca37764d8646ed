/* What libos itself keeps at the start of the kernel heap. Internal to libos. */
#ifndef LIBOS_SHARED_H
#define LIBOS_SHARED_H

#include "libos/lock.h"
#include "libos/pages.h"

enum { SPIN_CPU_MAX = 256, HEAP_CLASS_COUNT = 24 };

struct heap_class {
    struct lock lock;     /* guards the list and the slabs of this class */
    uint32_t partial;     /* first slab with a free object, 0: none; linked by page.next/prev */
    uint32_t empty_count; /* slabs on the list without any object in use */
};

struct libos_shared {
    void *root;
    uint32_t cpu_count;
    _Atomic uint8_t spinning[SPIN_CPU_MAX]; /* a thread spins on that CPU: a hint, never exact */
    uint64_t limit;                         /* bytes, 0: none */
    uint32_t limit_told;                    /* that it has been reached: said once */
    _Atomic uint64_t used[3];               /* by enum heap_account */
    _Atomic uint64_t used_total;
    struct page_area heap, bulk;
    struct heap_class classes[HEAP_CLASS_COUNT];
    struct lock single_lock; /* guards the two below: free single pages of the bulk segment, ready
                                for reuse */
    uint32_t single_count;
    uint32_t singles[512];
    _Atomic uint32_t quiesce;     /* every thread is to park, until it is 0 again: park.h. Rises when parked ones are asked for something */
    _Atomic uint32_t cloned;      /* who has done that */
    _Atomic uint32_t park_failed; /* one could not */
    uint32_t vector_size;         /* of an XSAVE image of these: */
    uint64_t vector_features;
};
enum heap_account { HEAP_ACCOUNT_HEAP, HEAP_ACCOUNT_BULK, HEAP_ACCOUNT_PRIVATE };

static inline struct libos_shared *libos_shared(void)
{
    return (struct libos_shared *)BLY_HEAP_START;
}

#endif
