/* Mapping, unmapping and protecting: records and host mappings changed together, under mm.mutex.
 *
 * The personality chooses every address, so the host is always told to replace what lies there: the
 * records, not the host, know whether something does. Trampolines of patched call sites are
 * Bailey's: no request of the program touches them. */
#include "libos/park.h"
#include "personality/linux/mm/internal.h"
#include "personality/linux/process/patch.h"

uint64_t mm_limit(unsigned resource)
{
    return lx_process()->limits[resource].soft;
}

int mm_translate_protection(uint64_t guest_protection)
{
    int protection = 0;

    if (guest_protection & ~(uint64_t)(PROT_READ | PROT_WRITE | PROT_EXEC | PROT_SEM))
        return -EINVAL;
    if (guest_protection & PROT_READ)
        protection |= BLY_PROT_READ;
    if (guest_protection & PROT_WRITE)
        protection |= BLY_PROT_WRITE;
    if (guest_protection & PROT_EXEC)
        protection |= BLY_PROT_EXECUTE;
    return protection;
}

bool mm_may_expand(struct mm *mm, uint64_t size, unsigned protection, unsigned flags)
{
    if (mm->mapped_bytes + size > mm_limit(RLIMIT_AS))
        return false;
    bool data = (protection & BLY_PROT_WRITE) &&
                !(flags & (REGION_SHARED | REGION_STACK | REGION_GROWS_DOWN));
    return !data || mm->data_bytes + size <= mm_limit(RLIMIT_DATA);
}

int mm_may_lock(struct mm *mm, uint64_t size)
{
    uint64_t limit = mm_limit(RLIMIT_MEMLOCK);

    if (lx_capable(14 /* CAP_IPC_LOCK */))
        return 0;
    if (limit == 0)
        return -EPERM;
    return mm->locked_bytes + size > limit ? -EAGAIN : 0;
}

int host_map_region(struct memory_object *object, uint64_t address, uint64_t size,
                    unsigned protection, unsigned flags, uint64_t offset)
{
    absent_forget(lx_process()->mm, address, address + size);
    if (object)
        return object->ops->map(object, (void *)address, size, protection,
                                (flags & REGION_SHARED) != 0, offset);
    unsigned host_flags = BLY_MAP_REPLACE;
    if ((flags & (REGION_NO_RESERVE | REGION_STACK | REGION_GROWS_DOWN)) || !protection)
        host_flags |= BLY_MAP_RESERVE;
    return bly->memory_map((void *)address, size, protection, host_flags);
}

int host_map_again(const struct region *region, uint64_t start, uint64_t end)
{
    int error = host_map_region(region->object, start, end - start, region->protection, region->flags,
                                region->offset + (start - region->start));
    if (!error)
        host_apply_sticky(region, start, end);
    return error;
}

void host_apply_sticky(const struct region *region, uint64_t start, uint64_t end)
{
    /* Refused where the host knows better (no transparent huge pages): then nothing is lost but
     * speed. */
    if (region->flags & REGION_DONT_FORK)
        bly->memory_advise((void *)start, end - start, BLY_ADVICE_DO_NOT_CLONE);
    if (region->flags & REGION_WIPE_ON_FORK)
        bly->memory_advise((void *)start, end - start, BLY_ADVICE_WIPE_ON_CLONE);
}

static bool has_trampolines(struct mm *mm, uint64_t start, uint64_t end)
{
    for (struct region *region = mm_find_next(mm, start); region && region->start < end;
         region = region_next(region))
        if (region->flags & REGION_TRAMPOLINE)
            return true;
    return false;
}

/* Bytes of [start, end) that are mapped and count for RLIMIT_AS. */
static uint64_t mapped_within(struct mm *mm, uint64_t start, uint64_t end)
{
    uint64_t sum = 0;

    for (struct region *region = mm_find_next(mm, start); region && region->start < end;
         region = region_next(region))
        sum += (region->end < end ? region->end : end) -
               (region->start > start ? region->start : start);
    return sum;
}

static int64_t map_object(struct mm *mm, uint64_t hint, uint64_t size, unsigned protection,
                          unsigned maximum_protection, unsigned region_flags,
                          struct memory_object *object, uint64_t offset, unsigned mm_flags)
{
    uint64_t start = hint;

    assert(mutex_held(&mm->mutex));
    if (!size || size % PAGE || offset % PAGE)
        return -EINVAL;
    if (mm_own(mm) < 0)
        return -ENOMEM;
    if (mm_flags & (MM_FIXED | MM_FIXED_NOREPLACE)) {
        if (start % PAGE)
            return -EINVAL;
        if (start < BLY_GUEST_MIN)
            return -EPERM;
        if (!place_valid(start, size))
            return -ENOMEM;
        if ((mm_flags & MM_FIXED_NOREPLACE) && !place_free(mm, start, size))
            return -EEXIST;
        if (has_trampolines(mm, start, start + size))
            return -ENOMEM;
    } else {
        start = place_find(mm, hint, size, mm_flags);
        if (!start)
            return -ENOMEM;
    }
    uint64_t replaced = mapped_within(mm, start, start + size);
    if (!(region_flags & REGION_TRAMPOLINE) &&
        (mm->region_count >= REGION_COUNT_MAX ||
         !mm_may_expand(mm, size - replaced, protection, region_flags)))
        return -ENOMEM;

    struct region *region = heap_alloc(sizeof *region);
    if (!region)
        return -ENOMEM;
    *region = (struct region){
        .start = start,
        .end = start + size,
        .protection = protection,
        .maximum_protection = maximum_protection,
        .flags = region_flags,
        .object = object,
        .offset = offset,
    };
    int error = region_charge(region);
    if (!error && replaced)
        error = region_carve(mm, start, start + size);
    if (error) {
        region->object = NULL;
        region_free(region);
        return error;
    }
    if (object) {
        memory_object_ref(object);
        if ((region_flags & REGION_SHARED) && (maximum_protection & BLY_PROT_WRITE) &&
            object->ops->map_writable && (error = object->ops->map_writable(object, 1)) < 0) {
            memory_object_unref(object);
            region->object = NULL;
            region_free(region);
            return error;
        }
    }
    /* What is mapped has a record whenever all is at rest: a resumed process has what its records tell of. */
    uint32_t parking = park_forbid();
    if (replaced)
        region_remove_range(mm, start, start + size, /*host=*/false);
    error = host_map_region(object, start, size, protection, region_flags, offset);
    if (error == 0)
        region_insert(mm, region);
    park_allow(parking);
    if (error < 0) {
        /* Whatever was mapped here before is no longer recorded: it must be gone on the host too,
         * as on Linux. */
        bly->memory_unmap((void *)start, size);
        region_free(region);
        return error;
    }
    host_apply_sticky(region, start, start + size);
    if (protection && ((mm_flags & MM_POPULATE) || (region_flags & REGION_LOCKED)))
        /* mmap(2): failing to populate is not an error. */
        bly->memory_advise((void *)start, size,
                           (protection & BLY_PROT_WRITE) && !(region_flags & REGION_SHARED)
                               ? BLY_ADVICE_POPULATE_WRITE
                               : BLY_ADVICE_POPULATE_READ);
    region_merge(mm, start, start + size);
    return (int64_t)start;
}

int64_t mm_map_limited(struct mm *mm, uint64_t hint, uint64_t size, unsigned protection,
                       unsigned maximum_protection, unsigned region_flags,
                       struct memory_object *object, uint64_t offset, unsigned mm_flags)
{
    /* Code comes with the call sites that were patched before. */
    struct memory_object *view = patch_view(object, protection, region_flags);
    int64_t result = map_object(mm, hint, size, protection, maximum_protection, region_flags,
                                view ? view : object, offset, mm_flags);
    if (view)
        memory_object_unref(view);
    if (result >= 0 && object && (protection & BLY_PROT_EXECUTE) &&
        (start_info->flags & BLY_START_CPUID_LIMITED))
        patch_cpuid(mm, (uint64_t)result, page_up(size));
    return result;
}

int64_t mm_map(struct mm *mm, uint64_t hint, uint64_t size, unsigned protection,
               unsigned region_flags, struct memory_object *object, uint64_t offset,
               unsigned mm_flags)
{
    unsigned maximum = BLY_PROT_READ | BLY_PROT_WRITE | BLY_PROT_EXECUTE;

    if (object && (region_flags & REGION_SHARED) &&
        !(object->flags & MEMORY_OBJECT_WRITABLE_SHARED))
        maximum &= ~(unsigned)BLY_PROT_WRITE;
    if (protection & ~maximum)
        return -EACCES;
    return mm_map_limited(mm, hint, size, protection, maximum, region_flags, object, offset,
                          mm_flags);
}

int mm_unmap(struct mm *mm, uint64_t start, uint64_t size)
{
    assert(mutex_held(&mm->mutex));
    size = page_up(size);
    if (start % PAGE || !size || start > BLY_GUEST_MAX || size > BLY_GUEST_MAX - start)
        return -EINVAL;
    int error = mm_own(mm);
    if (!error)
        error = region_carve(mm, start, start + size);
    if (error)
        return error;
    region_remove_range(mm, start, start + size, /*host=*/true);
    return 0;
}

static int protect_region(struct mm *mm, struct region *region, unsigned protection)
{
    if (region->protection == protection)
        return 0;
    if (protection & ~region->maximum_protection)
        return -EACCES;
    unsigned old = region->protection;
    /* Becoming writable costs room in RLIMIT_DATA; the address space is used already. */
    bool data = !(region->flags & (REGION_SHARED | REGION_STACK | REGION_GROWS_DOWN));
    if (data && (protection & ~old & BLY_PROT_WRITE) &&
        mm->data_bytes + region_size(region) > mm_limit(RLIMIT_DATA))
        return -ENOMEM;
    region_account(mm, region, -1);
    region->protection = protection;
    bool was_charged = region->charged;
    int error = region_charge(region);
    if (!error) {
        absent_settle(mm, region->start, region->end);
        error = bly->memory_protect((void *)region->start, region_size(region), protection);
    }
    if (error) {
        region->protection = old;
        if (region->charged && !was_charged) {
            heap_uncharge_private((int64_t)region->charged);
            region->charged = 0;
        }
    }
    region_account(mm, region, 1);
    return error;
}

int mm_protect(struct mm *mm, uint64_t start, uint64_t size, unsigned protection)
{
    uint64_t end = start + page_up(size), at = start;
    int error = 0;

    assert(mutex_held(&mm->mutex));
    if (start % PAGE)
        return -EINVAL;
    if (!size)
        return 0;
    if (end <= start)
        return -ENOMEM;
    if (!mm_find(mm, start) || mm_own(mm) < 0)
        return -ENOMEM;
    error = region_carve(mm, start, end);
    if (error)
        return error;
    /* As Linux: what lies before the first obstacle is changed. */
    struct region *region = mm_find(mm, start);
    for (; region && region->start == at && at < end; region = region_next(region)) {
        error =
            region->flags & REGION_TRAMPOLINE ? -EACCES : protect_region(mm, region, protection);
        if (error)
            break;
        at = region->end;
    }
    if (!error && at < end)
        error = -ENOMEM;
    region_merge(mm, start, at);
    return error;
}
