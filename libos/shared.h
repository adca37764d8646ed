/* What libos itself keeps in the kernel heap. Internal to libos. */
#ifndef LIBOS_SHARED_H
#define LIBOS_SHARED_H

#include "libos/lock.h"
#include "libos/pages.h"

struct absent;
struct thread;

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
    _Atomic uint32_t answered;    /* who has done that */
    void (*clone_prepare)(struct thread *thread, bool before);
    _Atomic uint32_t park_failed; /* one could not */
    uint32_t vector_size;         /* of an XSAVE image of these: */
    uint64_t vector_features;
    struct absent *absent; /* absent.c; NULL: none is */
    void (*timed_out)(uint64_t deadline_ns); /* thread_set_timed_out */
};
enum heap_account { HEAP_ACCOUNT_HEAP, HEAP_ACCOUNT_BULK, HEAP_ACCOUNT_PRIVATE };

/* It is page 0 of the heap's pages. Their descriptors lie in front of it, backwards, and the pages behind: what is used first of
 * either is close together, since every picoprocess touches it and pays for each page table and each stretch of 64 KiB. */
#define LIBOS_DESCRIPTORS_MAX (BLY_HEAP_SIZE / BLY_PAGE_SIZE * sizeof(struct page))
#define LIBOS_DESCRIPTORS_NEAR 0x11000ull /* in one stretch of 2 MiB with the first pages; the last page of these in one of 64 KiB */
#define LIBOS_SHARED (BLY_HEAP_START + LIBOS_DESCRIPTORS_MAX + LIBOS_DESCRIPTORS_NEAR)
_Static_assert(LIBOS_DESCRIPTORS_MAX % 0x200000 == 0 && BLY_HEAP_START % 0x200000 == 0, "stretches begin there");
_Static_assert(LIBOS_SHARED == BLY_HEAP_FIRST + BLY_PAGE_SIZE, "with the descriptors in front of it");
_Static_assert(sizeof(struct libos_shared) <= BLY_PAGE_SIZE, "one page");

static inline struct libos_shared *libos_shared(void)
{
    return (struct libos_shared *)LIBOS_SHARED;
}

#endif
