/* Regions: the records of what is mapped where.
 *
 * Invariant: regions never overlap; the sums in struct mm are those over all regions of the tree; a
 * region is charged in full or not at all. The host's mappings are changed by the callers, in step,
 * under the same mutex. What is shared after a fork is never changed: mm_own comes first. */
#include "personality/linux/mm/internal.h"

#include "personality/linux/fs/vfs.h"
#include "personality/linux/process/patch.h"
#include "personality/linux/syscall/aio.h"

static int compare_regions(const struct tree_node *a, const struct tree_node *b)
{
    uint64_t left = region_of(a)->start, right = region_of(b)->start;

    return left < right ? -1 : left > right;
}

static bool region_is_data(const struct region *region)
{
    return (region->protection & BLY_PROT_WRITE) &&
           !(region->flags & (REGION_SHARED | REGION_GROWS_DOWN | REGION_STACK));
}

void region_account(struct mm *mm, const struct region *region, int sign)
{
    uint64_t size = region_size(region) * (uint64_t)(int64_t)sign;

    if (region->flags & REGION_TRAMPOLINE)
        return;
    mm->mapped_bytes += size;
    if (mm->mapped_bytes > mm->peak_bytes && sign > 0)
        mm->peak_bytes = mm->mapped_bytes;
    if (region_is_data(region))
        mm->data_bytes += size;
    if (region->flags & (REGION_GROWS_DOWN | REGION_STACK))
        mm->stack_bytes += size;
    if (region->flags & REGION_LOCKED)
        mm->locked_bytes += size;
}

void region_insert(struct mm *mm, struct region *region)
{
    assert(!mm->share);
    bool inserted = tree_insert(&mm->regions, &region->node, compare_regions);

    assert(inserted);
    mm->region_count++;
    region_account(mm, region, 1);
}

void region_remove(struct mm *mm, struct region *region)
{
    assert(!mm->share);
    tree_remove(&mm->regions, &region->node);
    mm->region_count--;
    region_account(mm, region, -1);
}

static bool writes_shared(const struct region *region)
{
    return region->object && (region->flags & REGION_SHARED) &&
           (region->maximum_protection & BLY_PROT_WRITE);
}

static void region_hold_object(const struct region *region)
{
    if (!region->object)
        return;
    memory_object_ref(region->object);
    if (writes_shared(region) && region->object->ops->map_writable)
        (void)region->object->ops->map_writable(region->object, 1);
}

static void region_drop_object(const struct region *region)
{
    if (!region->object)
        return;
    if (writes_shared(region) && region->object->ops->map_writable)
        (void)region->object->ops->map_writable(region->object, -1);
    memory_object_unref(region->object);
}

void region_free(struct region *region)
{
    if (region->charged)
        heap_uncharge_private((int64_t)region->charged);
    region_drop_object(region);
    heap_free(region);
}

struct region *mm_find_next(struct mm *mm, uint64_t address)
{
    struct tree_node *node = mm->regions.root;
    struct region *found = NULL;

    while (node) {
        struct region *region = region_of(node);
        if (region->end > address) {
            found = region;
            if (region->start <= address)
                break;
            node = node->left;
        } else {
            node = node->right;
        }
    }
    return found;
}

struct region *mm_find(struct mm *mm, uint64_t address)
{
    struct region *region = mm_find_next(mm, address);

    return region && region->start <= address ? region : NULL;
}

bool region_covered(struct mm *mm, uint64_t start, uint64_t end)
{
    for (struct region *region = mm_find(mm, start); region; region = region_next(region)) {
        if (region->start > start)
            return false;
        start = region->end;
        if (start >= end)
            return true;
    }
    return false;
}

static int split(struct mm *mm, uint64_t address)
{
    struct region *low = mm_find(mm, address);

    if (!low || low->start == address)
        return 0;
    struct region *high = heap_alloc(sizeof *high);
    if (!high)
        return -ENOMEM;
    region_remove(mm, low);
    *high = *low;
    high->start = low->end = address;
    if (high->object)
        high->offset += address - low->start;
    high->charged = low->charged ? region_size(high) : 0;
    low->charged -= high->charged;
    region_hold_object(high);
    region_insert(mm, low);
    region_insert(mm, high);
    return 0;
}

int region_carve(struct mm *mm, uint64_t start, uint64_t end)
{
    int error = split(mm, start);

    if (!error)
        error = split(mm, end);
    if (!error && mm->absent)
        error = absent_split(mm, start);
    if (!error && mm->absent)
        error = absent_split(mm, end);
    return error;
}

static bool alike(const struct region *low, const struct region *high)
{
    /* Stacks keep their own borders: growth and guard gaps depend on them. */
    return low->end == high->start && low->protection == high->protection &&
           low->maximum_protection == high->maximum_protection && low->flags == high->flags &&
           low->advice == high->advice && low->object == high->object &&
           !low->charged == !high->charged &&
           !(low->flags & (REGION_GROWS_DOWN | REGION_TRAMPOLINE | REGION_VDSO)) &&
           (!low->object || low->offset + region_size(low) == high->offset);
}

void region_merge(struct mm *mm, uint64_t start, uint64_t end)
{
    struct region *region = mm_find_next(mm, start ? start - 1 : 0);

    while (region && region->start <= end) {
        struct region *next = region_next(region);
        if (!next || !alike(region, next)) {
            region = next;
            continue;
        }
        region_remove(mm, next);
        region_account(mm, region, -1);
        region->end = next->end;
        region->charged += next->charged;
        region_account(mm, region, 1);
        next->charged = 0;
        region_free(next);
    }
}

bool region_chargeable(unsigned protection, unsigned flags)
{
    /* As Linux's VM_ACCOUNT, but stacks are not counted: most of each is never touched. */
    return (protection & BLY_PROT_WRITE) &&
           !(flags & (REGION_SHARED | REGION_NO_RESERVE | REGION_STACK | REGION_GROWS_DOWN |
                      REGION_TRAMPOLINE));
}

int region_charge(struct region *region)
{
    if (region->charged || !region_chargeable(region->protection, region->flags))
        return 0;
    if (!heap_charge_private((int64_t)region_size(region)))
        return -ENOMEM;
    region->charged = region_size(region);
    return 0;
}

void region_remove_range(struct mm *mm, uint64_t start, uint64_t end, bool host)
{
    struct region *region = mm_find_next(mm, start);

    absent_forget(mm, start, end);
    while (region && region->start < end) {
        struct region *next = region_next(region);
        if (!(region->flags & REGION_TRAMPOLINE)) {
            if (host)
                bly->memory_unmap((void *)region->start, region_size(region));
            region_remove(mm, region);
            region_free(region);
        }
        region = next;
    }
    place_freed(mm, start, end);
}

struct mm *mm_create(void)
{
    struct mm *mm = heap_alloc(sizeof *mm);

    if (!mm)
        return NULL;
    mm->references = 1;
    mm->mmap_top = BLY_GUEST_MAX;
    return mm;
}

/* ---- Shared by fork ---- */

/* A fork copies no regions: parent and child share them until one of them changes its own, which most children never do. */
struct region_share {
    _Atomic uint32_t references; /* struct mm: each is charged for all the regions */
    uint64_t stale_code;         /* mm_tell_stale_code */
};

/* False: a child does not inherit them all, or must be seen to have maps of its own. */
static bool share_begin(struct mm *mm)
{
    uint64_t charged = 0;

    for (struct tree_node *node = tree_first(&mm->regions); node; node = tree_next(node)) {
        const struct region *region = region_of(node);
        if ((region->flags & (REGION_DONT_FORK | REGION_LOCKED)) ||
            (region->object && region->object->ops->counts_maps))
            return false;
        charged += region->charged;
    }
    if (!(mm->share = heap_alloc(sizeof *mm->share)))
        return false;
    mm->share->references = 1;
    mm->shared_charge = charged;
    return true;
}

void mm_tell_stale_code(struct mm *mm, uint64_t address)
{
    if (mm->share)
        __atomic_store_n(&mm->share->stale_code, address, __ATOMIC_RELAXED);
}

uint64_t mm_take_stale_code(struct mm *mm)
{
    if (!mm->share || !__atomic_load_n(&mm->share->stale_code, __ATOMIC_RELAXED))
        return 0;
    return __atomic_exchange_n(&mm->share->stale_code, 0, __ATOMIC_RELAXED);
}

static int share_regions(struct mm *to, struct mm *from)
{
    if (!heap_charge_private((int64_t)from->shared_charge))
        return -ENOMEM;
    from->share->references++;
    to->share = from->share;
    to->shared_charge = from->shared_charge;
    to->regions = from->regions;
    to->peak_bytes = to->mapped_bytes;
    return 0;
}

/* Without the charge, which whoever leaves or copies shared regions keeps or gives up as a whole. */
static void free_records(struct tree *regions)
{
    struct tree_node *node;

    while ((node = tree_first(regions))) {
        tree_remove(regions, node);
        region_of(node)->charged = 0;
        region_free(region_of(node));
    }
}

static void share_leave(struct region_share *share, struct tree regions)
{
    if (--share->references)
        return;
    free_records(&regions);
    heap_free(share);
}

int mm_own(struct mm *mm)
{
    struct region_share *share = mm->share;
    struct tree copies = {0};

    if (!share)
        return 0;
    if (share->references == 1) { /* the others have left */
        mm->share = NULL;
        heap_free(share);
        return 0;
    }
    for (struct tree_node *node = tree_first(&mm->regions); node; node = tree_next(node)) {
        struct region *copy = heap_alloc(sizeof *copy);
        if (!copy) {
            free_records(&copies);
            return -ENOMEM;
        }
        *copy = *region_of(node);
        copy->node = (struct tree_node){0};
        region_hold_object(copy);
        (void)tree_insert(&copies, &copy->node, compare_regions);
    }
    struct tree shared = mm->regions;
    mm->regions = copies;
    mm->share = NULL;
    share_leave(share, shared);
    return 0;
}

/* Only the records; the address space they describe is another picoprocess's, or ends with this
 * one, or has been unmapped. */
static void drop_regions(struct mm *mm)
{
    struct region_share *share = mm->share;
    struct tree_node *node;

    if (share) {
        heap_uncharge_private((int64_t)mm->shared_charge);
        mm->share = NULL;
        share_leave(share, mm->regions);
        mm->regions = (struct tree){0};
        return;
    }
    while ((node = tree_first(&mm->regions))) {
        struct region *region = region_of(node);
        region_remove(mm, region);
        region_free(region);
    }
}

static int copy_regions(struct mm *to, struct mm *from)
{
    to->mapped_bytes = to->data_bytes = to->stack_bytes = to->locked_bytes = to->peak_bytes = 0;
    to->region_count = 0;
    for (struct tree_node *node = tree_first(&from->regions); node; node = tree_next(node)) {
        const struct region *region = region_of(node);
        if (region->flags & REGION_DONT_FORK)
            continue;
        struct region *copy = heap_alloc(sizeof *copy);
        if (!copy)
            return -ENOMEM;
        *copy = *region;
        copy->node = (struct tree_node){0};
        copy->flags &= ~(uint32_t)REGION_LOCKED;
        copy->charged = 0;
        region_hold_object(copy);
        region_insert(to, copy);
        if (region->charged) {
            if (!heap_charge_private((int64_t)region->charged))
                return -ENOMEM;
            copy->charged = region->charged;
        }
    }
    return 0;
}

struct mm *mm_copy(struct mm *from)
{
    struct mm *to = mm_create();

    if (!to)
        return NULL;
    assert(mutex_held(&from->mutex));
    bool shared = from->share || share_begin(from);
    *to = *from;
    to->mutex = (struct mutex){0};
    to->references = 1;
    to->regions = (struct tree){0};
    to->share = NULL;
    to->lock_future = 0; /* mlock(2): locks are not inherited by a child */
    to->patches = NULL;
    to->aio = NULL;
    to->executable = NULL;
    to->executable_dentry = NULL;
    to->absent_lock = (struct lock)LOCK_INIT;
    to->absent = NULL;
    int error = shared ? share_regions(to, from) : copy_regions(to, from);
    if (error == 0)
        error = absent_copy(to, from);
    if (error < 0 || mm_copy_references(to, from) < 0) {
        mm_unref(to);
        return NULL;
    }
    return to;
}

int mm_copy_references(struct mm *to, struct mm *from)
{
    /* As long as somebody runs it, the file is not written: exec.c. */
    if (from->executable && inode_deny_write(from->executable) == 0)
        to->executable = inode_ref(from->executable);
    if (from->executable_dentry)
        to->executable_dentry = dentry_ref(from->executable_dentry);
    return patch_mm_copy(to, from);
}

void mm_drop_references(struct mm *mm)
{
    if (mm->executable)
        inode_allow_write(mm->executable);
    inode_unref(mm->executable);
    dentry_unref(mm->executable_dentry);
    mm->executable = NULL;
    mm->executable_dentry = NULL;
}

void mm_unref(struct mm *mm)
{
    if (!mm || --mm->references)
        return;
    aio_mm_released(mm);
    absent_forget(mm, 0, BLY_GUEST_MAX);
    drop_regions(mm);
    mm_drop_references(mm);
    heap_free(mm);
}

void mm_reset_address_space(void)
{
    struct mm *mm = lx_process()->mm;

    bly->memory_unmap((void *)BLY_GUEST_MIN, BLY_WINDOW_START - BLY_GUEST_MIN);
    bly->memory_unmap((void *)BLY_WINDOW_END, BLY_GUEST_MAX - BLY_WINDOW_END);
    if (!mm)
        return;
    mutex_acquire(&mm->mutex);
    aio_mm_released(mm);
    absent_forget(mm, 0, BLY_GUEST_MAX);
    drop_regions(mm);
    mm_drop_references(mm);
    struct mutex mutex = mm->mutex;
    uint32_t references = mm->references;
    *mm = (struct mm){.mmap_top = BLY_GUEST_MAX};
    mm->references = references;
    mm->mutex = mutex;
    mutex_release(&mm->mutex);
}
