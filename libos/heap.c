/* Kernel heap and bulk segment.
 *
 * Small objects come from slabs, a lock a size class; everything larger from page runs (pages.c).
 * The allocator's own state and both arrays of page descriptors lie in the heap segment (shared.h).
 * Invariant: every allocated run and slab is counted in used[] before it is given out, and
 * free objects carry FREE_PATTERN, so that a double free is caught. Lock order: class lock, then
 * area lock. */
#include "libos/heap.h"

#include <asm/errno.h>

#include "libos/abi.h"
#include "libos/shared.h"
#include "libos/text.h"
#include "libos/thread.h"

enum {
    SMALL_MAX = 2048,
    UNIT = 16,             /* granule of sizes and of free_head */
    LARGE_SLAB_SIZE = 640, /* objects from here on live in slabs of two pages */
    SINGLE_BATCH = 256,    /* pages moved at once when the stack of single pages overflows */
};
#define FREE_PATTERN 0xf4eef4eef4eef4eeull

/* The smallest share one class, and with it their pages: each page that a forked child touches
 * costs it a fault. */
static const uint16_t class_sizes[] = {48,  64,  80,  96,  112, 128, 160,  192,  224, 256,
                                       320, 384, 448, 512, 640, 768, 1024, 1344, 2048};
_Static_assert(sizeof class_sizes / sizeof *class_sizes <= HEAP_CLASS_COUNT,
               "classes fit in the shared state");

/* Class by size in units, rounded up. */
static const uint8_t class_by_units[SMALL_MAX / UNIT + 1] = {
    [0 ... 3] = 0,    [4] = 1,          [5] = 2,          [6] = 3,           [7] = 4,
    [8] = 5,          [9 ... 10] = 6,   [11 ... 12] = 7,  [13 ... 14] = 8,   [15 ... 16] = 9,
    [17 ... 20] = 10, [21 ... 24] = 11, [25 ... 28] = 12, [29 ... 32] = 13,  [33 ... 40] = 14,
    [41 ... 48] = 15, [49 ... 64] = 16, [65 ... 84] = 17, [85 ... 128] = 18,
};

struct free_object {
    uint32_t next; /* like page.free_head */
    uint32_t reserved;
    uint64_t pattern;
};

static uint32_t free_number(const struct free_object *object)
{
    return (uint32_t)(((uint64_t)object - BLY_HEAP_START) / UNIT);
}

static bool charge(enum heap_account account, uint64_t bytes)
{
    struct libos_shared *shared = libos_shared();
    uint64_t total = __atomic_add_fetch(&shared->used_total, bytes, __ATOMIC_RELAXED);

    if (shared->limit && total > shared->limit) {
        __atomic_sub_fetch(&shared->used_total, bytes, __ATOMIC_RELAXED);
        return false;
    }
    __atomic_add_fetch(&shared->used[account], bytes, __ATOMIC_RELAXED);
    return true;
}

static void uncharge(enum heap_account account, uint64_t bytes)
{
    struct libos_shared *shared = libos_shared();

    __atomic_sub_fetch(&shared->used_total, bytes, __ATOMIC_RELAXED);
    __atomic_sub_fetch(&shared->used[account], bytes, __ATOMIC_RELAXED);
}

void heap_init(uint64_t memory_limit)
{
    struct libos_shared *shared = libos_shared();
    const uint64_t bulk_pages = BLY_BULK_SIZE / BLY_PAGE_SIZE;
    const uint64_t heap_end = BLY_HEAP_START + BLY_HEAP_SIZE - bulk_pages * sizeof(struct page);
    const uint64_t heap_pages = (heap_end - LIBOS_SHARED) / BLY_PAGE_SIZE;
    uint64_t cpus[SPIN_CPU_MAX / 64] = {0};

    /* The segment is fresh: all zero. */
    if (bly->thread_get_affinity(thread_block()->thread_id, cpus, sizeof cpus) >= 0)
        for (size_t i = 0; i < SPIN_CPU_MAX / 64; i++)
            for (uint64_t set = cpus[i]; set;
                 set &= set - 1) /* the compiler would call its library to count bits */
                shared->cpu_count++;
    shared->limit = memory_limit;
    pages_init(&shared->heap, LIBOS_SHARED, (uint32_t)heap_pages, (struct page *)LIBOS_SHARED - 1);
    pages_init(&shared->bulk, BLY_BULK_START, (uint32_t)bulk_pages,
               (struct page *)(BLY_HEAP_START + BLY_HEAP_SIZE) - 1);
}

static struct page *page_of(const void *object)
{
    const struct page_area *area = &libos_shared()->heap;
    uint64_t number = ((uint64_t)object - area->base) / BLY_PAGE_SIZE;

    assert(number < area->page_count);
    return page_descriptor(area, (uint32_t)number);
}

static uint64_t run_address(uint32_t first)
{
    return libos_shared()->heap.base + first * BLY_PAGE_SIZE;
}

static uint32_t slab_page_count(unsigned class)
{
    return class_sizes[class] >= LARGE_SLAB_SIZE ? 2 : 1;
}

static void slab_link(struct heap_class *class, struct page *slab)
{
    const struct page_area *area = &libos_shared()->heap;
    uint32_t number = page_number(area, slab);

    slab->prev = 0;
    slab->next = class->partial;
    if (slab->next)
        page_descriptor(area, slab->next)->prev = number;
    class->partial = number;
}

static void slab_unlink(struct heap_class *class, struct page *slab)
{
    const struct page_area *area = &libos_shared()->heap;

    if (slab->next)
        page_descriptor(area, slab->next)->prev = slab->prev;
    if (slab->prev)
        page_descriptor(area, slab->prev)->next = slab->next;
    else
        class->partial = slab->next;
}

/* A new slab, all objects free, on the class's list. Class lock held. */
static struct page *slab_create(unsigned number)
{
    struct libos_shared *shared = libos_shared();
    uint32_t page_count = slab_page_count(number), size = class_sizes[number];

    if (!charge(HEAP_ACCOUNT_HEAP, page_count * BLY_PAGE_SIZE))
        return NULL;
    uint32_t first = pages_alloc(&shared->heap, page_count, /*zeroed=*/false);
    if (!first) {
        uncharge(HEAP_ACCOUNT_HEAP, page_count * BLY_PAGE_SIZE);
        return NULL;
    }
    struct page *slab = page_descriptor(&shared->heap, first);
    for (uint32_t i = 0; i < page_count; i++) {
        struct page *page = page_descriptor(&shared->heap, first + i);
        page->kind = PAGE_SLAB;
        page->class = (uint8_t)number;
        page->first = first;
    }
    slab->count = page_count;
    slab->used = 0;
    slab->free_head = 0;
    uint64_t start = run_address(first), capacity = page_count * BLY_PAGE_SIZE / size;
    for (uint64_t i = capacity; i-- > 0;) {
        struct free_object *object = (struct free_object *)(start + i * size);
        object->next = slab->free_head;
        object->pattern = FREE_PATTERN;
        slab->free_head = free_number(object);
    }
    slab_link(&shared->classes[number], slab);
    shared->classes[number].empty_count++;
    return slab;
}

static void *small_alloc(size_t size)
{
    struct libos_shared *shared = libos_shared();
    unsigned number = class_by_units[(size + UNIT - 1) / UNIT];
    struct heap_class *class = &shared->classes[number];

    lock_acquire(&class->lock);
    struct page *slab =
        class->partial ? page_descriptor(&shared->heap, class->partial) : slab_create(number);
    if (!slab) {
        lock_release(&class->lock);
        return NULL;
    }
    struct free_object *object =
        (struct free_object *)(BLY_HEAP_START + (uint64_t)slab->free_head * UNIT);
    assert(object->pattern == FREE_PATTERN);
    slab->free_head = object->next;
    if (slab->used++ == 0)
        class->empty_count--;
    if (!slab->free_head)
        slab_unlink(class, slab);
    lock_release(&class->lock);

    memset(object, 0, class_sizes[number]);
    return object;
}

static void small_free(void *pointer, struct page *page)
{
    struct libos_shared *shared = libos_shared();
    struct page *slab = page_descriptor(&shared->heap, page->first);
    struct heap_class *class = &shared->classes[slab->class];
    struct free_object *object = pointer;

    assert(((uint64_t)pointer - run_address(page->first)) % class_sizes[slab->class] == 0);
    assert(object->pattern != FREE_PATTERN);
    lock_acquire(&class->lock);
    object->pattern = FREE_PATTERN;
    object->next = slab->free_head;
    if (!slab->free_head)
        slab_link(class, slab);
    slab->free_head = free_number(object);
    bool release = false;
    if (--slab->used == 0) {
        /* One empty slab stays, so that alternating alloc and free at the edge is cheap. */
        release = class->empty_count > 0;
        if (release) {
            slab_unlink(class, slab);
            for (uint32_t i = 0; i < slab->count; i++)
                page_descriptor(&shared->heap, page->first + i)->kind = PAGE_NONE;
        } else {
            class->empty_count++;
        }
    }
    lock_release(&class->lock);

    if (release) {
        uint32_t count = slab->count;
        pages_free(&shared->heap, page_number(&shared->heap, slab), count);
        uncharge(HEAP_ACCOUNT_HEAP, count * BLY_PAGE_SIZE);
    }
}

void *heap_alloc(size_t size)
{
    struct libos_shared *shared = libos_shared();

    if (size <= SMALL_MAX)
        return small_alloc(size);
    uint64_t page_count = (size + BLY_PAGE_SIZE - 1) / BLY_PAGE_SIZE;
    if (size > BLY_HEAP_SIZE || !charge(HEAP_ACCOUNT_HEAP, page_count * BLY_PAGE_SIZE))
        return NULL;
    uint32_t first = pages_alloc(&shared->heap, (uint32_t)page_count, /*zeroed=*/true);
    if (!first) {
        uncharge(HEAP_ACCOUNT_HEAP, page_count * BLY_PAGE_SIZE);
        return NULL;
    }
    page_descriptor(&shared->heap, first)->kind = PAGE_RUN;
    page_descriptor(&shared->heap, first)->count = (uint32_t)page_count;
    return (void *)run_address(first);
}

void heap_free(void *object)
{
    struct libos_shared *shared = libos_shared();

    if (!object)
        return;
    struct page *page = page_of(object);
    if (page->kind == PAGE_SLAB) {
        small_free(object, page);
        return;
    }
    assert(page->kind == PAGE_RUN && (uint64_t)object % BLY_PAGE_SIZE == 0);
    uint32_t count = page->count;
    page->kind = PAGE_NONE;
    pages_free(&shared->heap, page_number(&shared->heap, page), count);
    uncharge(HEAP_ACCOUNT_HEAP, count * BLY_PAGE_SIZE);
}

void *heap_realloc(void *old, size_t old_size, size_t new_size)
{
    if (old) {
        struct page *page = page_of(old);
        size_t room =
            page->kind == PAGE_SLAB ? class_sizes[page->class] : page->count * BLY_PAGE_SIZE;
        if (new_size <= room && new_size > room / 2) {
            /* heap_alloc's promise holds for what the object grows by too. */
            if (new_size > old_size)
                memset((char *)old + old_size, 0, new_size - old_size);
            return old;
        }
    }
    void *new = heap_alloc(new_size);
    if (!new)
        return NULL;
    if (old) {
        memcpy(new, old, old_size < new_size ? old_size : new_size);
        heap_free(old);
    }
    return new;
}

char *heap_string(const char *text, size_t size)
{
    char *copy = heap_alloc(size + 1);

    if (copy)
        memcpy(copy, text, size);
    return copy;
}

int64_t bulk_alloc(uint64_t page_count)
{
    struct libos_shared *shared = libos_shared();
    uint32_t first = 0;

    if (page_count == 0 || page_count >= BLY_BULK_SIZE / BLY_PAGE_SIZE ||
        !charge(HEAP_ACCOUNT_BULK, page_count * BLY_PAGE_SIZE))
        return -ENOMEM;
    if (page_count == 1) {
        lock_acquire(&shared->single_lock);
        if (shared->single_count > 0)
            first = shared->singles[--shared->single_count];
        lock_release(&shared->single_lock);
        if (first)
            memset((void *)(BLY_BULK_START + first * BLY_PAGE_SIZE), 0, BLY_PAGE_SIZE);
    }
    if (!first)
        first = pages_alloc(&shared->bulk, (uint32_t)page_count, /*zeroed=*/true);
    if (!first) {
        uncharge(HEAP_ACCOUNT_BULK, page_count * BLY_PAGE_SIZE);
        return -ENOMEM;
    }
    return (int64_t)(first * BLY_PAGE_SIZE);
}

void bulk_free(uint64_t offset, uint64_t page_count)
{
    struct libos_shared *shared = libos_shared();
    uint32_t first = (uint32_t)(offset / BLY_PAGE_SIZE), spilled[SINGLE_BATCH], spilled_count = 0;

    assert(offset % BLY_PAGE_SIZE == 0 && first > 0 && first + page_count <= shared->bulk.top);
    if (page_count == 1) {
        lock_acquire(&shared->single_lock);
        if (shared->single_count == sizeof shared->singles / sizeof *shared->singles) {
            spilled_count = SINGLE_BATCH;
            shared->single_count -= SINGLE_BATCH;
            memcpy(spilled, &shared->singles[shared->single_count], sizeof spilled);
        }
        shared->singles[shared->single_count++] = first;
        lock_release(&shared->single_lock);
        for (uint32_t i = 0; i < spilled_count; i++)
            pages_free(&shared->bulk, spilled[i], 1);
    } else {
        pages_free(&shared->bulk, first, (uint32_t)page_count);
    }
    uncharge(HEAP_ACCOUNT_BULK, page_count * BLY_PAGE_SIZE);
}

int bulk_empty(uint64_t offset, uint64_t page_count)
{
    return pages_empty(&libos_shared()->bulk, (uint32_t)(offset / BLY_PAGE_SIZE),
                       (uint32_t)page_count);
}

void heap_usage(struct heap_usage *out_usage)
{
    struct libos_shared *shared = libos_shared();

    *out_usage = (struct heap_usage){
        .heap_bytes = shared->used[HEAP_ACCOUNT_HEAP],
        .bulk_bytes = shared->used[HEAP_ACCOUNT_BULK],
        .private_bytes = shared->used[HEAP_ACCOUNT_PRIVATE],
        .limit_bytes = shared->limit,
    };
}

bool heap_charge_private(int64_t bytes)
{
    struct libos_shared *shared = libos_shared();

    if (charge(HEAP_ACCOUNT_PRIVATE, (uint64_t)bytes))
        return true;
    /* A request beyond all measure is the program's own affair; this one fails for what is in use,
     * and the user can do something about it. */
    if ((uint64_t)bytes <= shared->limit &&
        !__atomic_exchange_n(&shared->limit_told, 1, __ATOMIC_RELAXED))
        log_line(BLY_LOG_WARNING,
                 "programs ask for more memory than the sandbox's limit of %llu MiB (--memory sets "
                 "another; what a fork copies counts too)",
                 (unsigned long long)(shared->limit >> 20));
    return false;
}

void heap_uncharge_private(int64_t bytes)
{
    uncharge(HEAP_ACCOUNT_PRIVATE, (uint64_t)bytes);
}

void heap_set_root(void *root)
{
    libos_shared()->root = root;
}

void *heap_root(void)
{
    return libos_shared()->root;
}
