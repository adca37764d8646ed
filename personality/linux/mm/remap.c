/* mremap(2).
 *
 * Private memory is moved by the host (page tables only). Shared maps are simply mapped again at
 * the new place, which is the same thing and works however the object is laid out. In all cases
 * growth is a fresh map behind what was moved. */
#include "libos/park.h"
#include "personality/linux/mm/internal.h"

struct remap_call {
    struct mm *mm;
    uint64_t old, old_size, new_size, flags, new;
};

/* The host moves one of its mappings at a time, and what is one region here may be several there:
 * then by halves. */
static int move_on_host(uint64_t from, uint64_t to, uint64_t size, bool keep)
{
    int error =
        bly->memory_move((void *)from, size, (void *)to, size, keep ? BLY_MOVE_KEEP_SOURCE : 0);

    if (error != -EFAULT || size <= PAGE)
        return error;
    uint64_t half = page_up(size / 2);
    error = move_on_host(from, to, half, keep);
    return error ? error : move_on_host(from + half, to + half, size - half, keep);
}

/* [old, old + old_size), inside one region, to `to`, where room for new_size is free or is to be
 * replaced. */
static int64_t move_region(struct remap_call *call, struct region *region, uint64_t to)
{
    struct mm *mm = call->mm;
    bool keep = call->flags & MREMAP_DONTUNMAP, second_view = call->old_size == 0;
    uint64_t moved = call->old_size < call->new_size ? call->old_size : call->new_size,
             offset = region->offset + (call->old - region->start);
    bool shared = region->flags & REGION_SHARED;
    struct memory_object *object = region->object;
    unsigned protection = region->protection, flags = region->flags;

    if (!object)
        offset = 0;
    struct region *target = heap_alloc(sizeof *target);
    if (!target)
        return -ENOMEM;
    *target = *region;
    target->node = (struct tree_node){0};
    target->start = to;
    target->end = to + call->new_size;
    target->offset = offset;
    target->charged = 0;
    target->object = NULL;
    struct region *source = NULL;
    uint64_t growth = 0;
    int error = region_carve(mm, to, to + call->new_size);
    if (!error && !second_view) {
        error = region_carve(mm, call->old, call->old + call->old_size);
        source = mm_find(mm, call->old);
    }
    if (error)
        goto fail;
    if (!keep && source && source->charged) {
        /* Its charge moves with it, so that a move succeeds however near the limit is. */
        growth = call->new_size - call->old_size;
        if (growth && !heap_charge_private((int64_t)growth))
            error = -ENOMEM;
        else
            target->charged = growth;
    } else {
        error = region_charge(target);
    }
    if (error)
        goto fail;
    if (object) {
        target->object = memory_object_ref(object);
        if (shared && (target->maximum_protection & BLY_PROT_WRITE) && object->ops->map_writable)
            (void)object->ops->map_writable(object, 1);
    }
    uint32_t parking = park_forbid(); /* as in map_object */
    region_remove_range(mm, to, to + call->new_size, /*host=*/false);

    if (shared) {
        error = host_map_region(object, to, call->new_size, protection, flags, offset);
    } else {
        absent_settle(mm, call->old, call->old + moved);
        error = move_on_host(call->old, to, moved, keep);
        if (!error && keep && source && (flags & REGION_IMAGE)) /* what is left shows the image */
            error = host_map_again(source, call->old, call->old + moved);
        if (!error && call->new_size > moved)
            error = host_map_region(object, to + moved, call->new_size - moved, protection, flags,
                                    object ? offset + moved : 0);
    }
    if (error) {
        park_allow(parking);
        bly->memory_unmap((void *)to, call->new_size);
        goto fail;
    }
    if (!keep && source && source->charged) {
        target->charged = region_size(target);
        source->charged = 0;
    }
    region_insert(mm, target);
    host_apply_sticky(target, target->start, target->end);
    if (!keep && !second_view)
        region_remove_range(mm, call->old, call->old + call->old_size, /*host=*/true);
    park_allow(parking);
    if (keep) {
        /* mremap(2): what stays behind is no longer locked. */
        for (struct region *rest = mm_find_next(mm, call->old);
             rest && rest->start < call->old + call->old_size; rest = region_next(rest)) {
            region_account(mm, rest, -1);
            rest->flags &= ~(uint32_t)REGION_LOCKED;
            region_account(mm, rest, 1);
        }
    }
    if ((flags & REGION_LOCKED) && call->new_size > moved)
        bly->memory_advise((void *)(to + moved), call->new_size - moved, BLY_ADVICE_POPULATE_READ);
    region_merge(mm, to, to + call->new_size);
    region_merge(mm, call->old, call->old + call->old_size);
    return (int64_t)to;

fail:
    region_free(target);
    region_merge(mm, call->old, call->old + call->old_size);
    return error;
}

/* vma_to_resize(): may the region change to the new size? */
static int check_resize(const struct remap_call *call, const struct region *region)
{
    uint64_t growth = call->new_size > call->old_size ? call->new_size - call->old_size : 0;

    if (!call->old_size && !(region->flags & REGION_SHARED))
        return -EINVAL;
    if (region->flags & (REGION_TRAMPOLINE | REGION_VDSO))
        return growth ? -EFAULT : region->flags & REGION_TRAMPOLINE ? -EINVAL : 0;
    if (call->old_size > region->end - call->old)
        return -EFAULT;
    if (call->new_size == call->old_size)
        return 0;
    if (region->offset + (call->old - region->start) + call->new_size < region->offset)
        return -EINVAL;
    if ((region->flags & REGION_LOCKED) && growth && mm_may_lock(call->mm, growth) < 0)
        return -EAGAIN;
    return mm_may_expand(call->mm, growth, region->protection, region->flags) ? 0 : -ENOMEM;
}

/* A move without any change of size may span several regions and holes (as Linux does from 6.17
 * on). Here that also hides where regions are divided for reasons of our own. */
static int64_t move_all(struct remap_call *call)
{
    uint64_t end = call->old + call->old_size, at = call->old;

    while (at < end) {
        struct region *region = mm_find_next(call->mm, at);
        if (!region || region->start >= end)
            break;
        if (region->start > at)
            at = region->start;
        uint64_t size = (region->end < end ? region->end : end) - at;
        struct remap_call part = {call->mm, at, size, size, call->flags, 0};
        int error = check_resize(&part, region);
        int64_t moved = error ? error : move_region(&part, region, call->new + (at - call->old));
        if (moved < 0)
            return moved;
        at += size;
    }
    return (int64_t)call->new;
}

/* MREMAP_FIXED, or MREMAP_DONTUNMAP with or without it. */
static int64_t remap_to(struct remap_call *call)
{
    struct mm *mm = call->mm;
    bool fixed = call->flags & MREMAP_FIXED;

    if (fixed) {
        if (call->new % PAGE)
            return -EINVAL;
        if (call->new_size > BLY_GUEST_MAX || call->new > BLY_GUEST_MAX - call->new_size)
            return -EINVAL;
        if (call->old + call->old_size > call->new && call->new + call->new_size > call->old)
            return -EINVAL;
        if (call->new < BLY_GUEST_MIN)
            return -EPERM;
        if (!place_valid(call->new, call->new_size))
            return -EINVAL;
        int error = mm_unmap(mm, call->new, call->new_size);
        if (error)
            return error;
        if (!place_free(mm, call->new, call->new_size))
            return -ENOMEM; /* a trampoline lies there */
    }
    if (call->old_size > call->new_size) {
        int error = mm_unmap(mm, call->old + call->new_size, call->old_size - call->new_size);
        if (error)
            return error;
        call->old_size = call->new_size;
    }
    struct region *region = mm_find(mm, call->old);
    if (!region)
        return -EFAULT;
    if (fixed && call->old_size && call->old_size == call->new_size &&
        !(call->flags & MREMAP_DONTUNMAP))
        return move_all(call);
    int error = check_resize(call, region);
    if (error)
        return error;
    if ((call->flags & MREMAP_DONTUNMAP) &&
        !mm_may_expand(mm, call->new_size, region->protection, region->flags))
        return -ENOMEM;
    uint64_t to =
        fixed ? call->new
              : place_find(mm, (call->flags & MREMAP_DONTUNMAP) ? call->new : 0, call->new_size, 0);
    return to ? move_region(call, region, to) : -ENOMEM;
}

/* Grows the region at its end, where nothing is in the way. */
static int64_t grow_in_place(struct remap_call *call, struct region *region)
{
    struct mm *mm = call->mm;
    uint64_t growth = call->new_size - call->old_size, end = region->end;
    struct region *more = heap_alloc(sizeof *more);

    if (!more)
        return -ENOMEM;
    *more = *region;
    more->node = (struct tree_node){0};
    more->start = end;
    more->end = end + growth;
    more->charged = 0;
    more->object = NULL;
    if (region->object)
        more->offset = region->offset + region_size(region);
    int error = region_charge(more);
    uint32_t parking = park_forbid();
    if (!error)
        error = host_map_region(region->object, end, growth, region->protection, region->flags,
                                more->offset);
    if (error) {
        park_allow(parking);
        region_free(more);
        return error;
    }
    if (region->object) {
        more->object = memory_object_ref(region->object);
        if ((region->flags & REGION_SHARED) && (region->maximum_protection & BLY_PROT_WRITE) &&
            region->object->ops->map_writable)
            (void)region->object->ops->map_writable(region->object, 1);
    }
    region_insert(mm, more);
    park_allow(parking);
    host_apply_sticky(more, more->start, more->end);
    if (more->flags & REGION_LOCKED)
        bly->memory_advise((void *)end, growth, BLY_ADVICE_POPULATE_READ);
    region_merge(mm, end, end + growth);
    return (int64_t)call->old;
}

static bool room_above(struct mm *mm, const struct region *region, uint64_t growth)
{
    struct region *next = region_next(region);
    uint64_t gap = next && (next->flags & REGION_GROWS_DOWN) ? STACK_GAP : 0;

    return region->end + growth > region->end &&
           place_valid(region->start, region->end + growth - region->start) &&
           (!next || region->end + growth + gap <= next->start);
}

static int64_t remap(struct remap_call *call)
{
    struct mm *mm = call->mm;

    if (!mm_find(mm, call->old))
        return -EFAULT;
    if (call->flags & (MREMAP_FIXED | MREMAP_DONTUNMAP))
        return remap_to(call);
    if (call->old_size >= call->new_size) {
        if (call->old_size == call->new_size)
            return (int64_t)call->old;
        int error = mm_unmap(mm, call->old + call->new_size, call->old_size - call->new_size);
        return error ? error : (int64_t)call->old;
    }
    struct region *region = mm_find(mm, call->old);
    int error = check_resize(call, region);
    if (error)
        return error;
    if (call->old_size && call->old_size == region->end - call->old &&
        room_above(mm, region, call->new_size - call->old_size))
        return grow_in_place(call, region);
    if (!(call->flags & MREMAP_MAYMOVE))
        return -ENOMEM;
    uint64_t to = place_find(mm, 0, call->new_size, 0);
    return to ? move_region(call, region, to) : -ENOMEM;
}

LX_SYSCALL(mremap, uint64_t old, uint64_t old_size, uint64_t new_size, uint64_t flags, uint64_t new)
{
    struct remap_call call = {lx_process()->mm,  old,   page_up(old_size),
                              page_up(new_size), flags, new};

    if (flags & ~(uint64_t)(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP))
        return -EINVAL;
    if ((flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) && !(flags & MREMAP_MAYMOVE))
        return -EINVAL;
    if ((flags & MREMAP_DONTUNMAP) && old_size != new_size)
        return -EINVAL;
    if (old % PAGE || !call.new_size || old > BLY_GUEST_MAX || call.old_size > BLY_GUEST_MAX - old)
        return -EINVAL;
    scoped_mutex(&call.mm->mutex);
    return mm_own(call.mm) < 0 ? -ENOMEM : remap(&call);
}
