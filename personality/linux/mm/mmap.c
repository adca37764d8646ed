/* mmap(2), munmap(2), mprotect(2), brk(2) and their poor relations. */
#include "personality/linux/mm/internal.h"

#include "personality/linux/fs/vfs.h"
#include "personality/linux/mm/memfd.h"

#define MS_NOEXEC 8
/* What MAP_SHARED_VALIDATE accepts (Linux: LEGACY_MAP_MASK). */
#define KNOWN_FLAGS                                                                                \
    (MAP_TYPE | MAP_FIXED | MAP_ANONYMOUS | MAP_DENYWRITE | MAP_EXECUTABLE | MAP_GROWSDOWN |       \
     MAP_LOCKED | MAP_NORESERVE | MAP_POPULATE | MAP_NONBLOCK | MAP_STACK | MAP_HUGETLB |          \
     MAP_32BIT | MAP_UNINITIALIZED | MAP_FIXED_NOREPLACE | MAP_HUGE_2MB | MAP_HUGE_1GB)

struct map_call {
    uint64_t address, size, flags, offset;
    unsigned protection, maximum; /* BLY_PROT_* */
    unsigned region_flags, mm_flags;
    struct memory_object *object; /* with a reference */
};

static void translate_flags(struct map_call *call)
{
    static const struct {
        uint64_t guest;
        unsigned region, mm;
    } table[] = {
        {MAP_FIXED, 0, MM_FIXED},
        {MAP_FIXED_NOREPLACE, 0, MM_FIXED_NOREPLACE},
        {MAP_32BIT, 0, MM_LOW_32},
        {MAP_POPULATE, 0, MM_POPULATE},
        {MAP_GROWSDOWN, REGION_GROWS_DOWN, 0},
        {MAP_NORESERVE, REGION_NO_RESERVE, 0},
        {MAP_STACK, REGION_NO_RESERVE, 0}, /* a thread's stack: most of it is never touched */
        {MAP_LOCKED, REGION_LOCKED, 0},
    };

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (call->flags & table[i].guest) {
            call->region_flags |= table[i].region;
            call->mm_flags |= table[i].mm;
        }
    }
    if (call->flags & MAP_NONBLOCK)
        call->mm_flags &= ~(unsigned)MM_POPULATE;
}

/* Decides what an anonymous map maps. */
static int prepare_anonymous(struct map_call *call)
{
    if (call->flags & MAP_HUGETLB)
        return -ENOMEM; /* no huge pages are reserved */
    switch (call->flags & MAP_TYPE) {
    case MAP_PRIVATE:
        call->offset = 0;
        return 0;
    case MAP_SHARED:
        if (call->region_flags & REGION_GROWS_DOWN)
            return -EINVAL;
        call->region_flags |= REGION_SHARED;
        call->offset = 0;
        call->object = memory_object_create_anonymous(call->size);
        return call->object ? 0 : -ENOMEM;
    default:
        return -EINVAL;
    }
}

static int prepare_file(struct map_call *call, struct open_file *file)
{
    unsigned access = file->flags & O_ACCMODE;
    bool readable = access == O_RDONLY || access == O_RDWR,
         writable = access == O_WRONLY || access == O_RDWR;

    if (call->flags & MAP_HUGETLB)
        return -EINVAL;
    if (call->offset + call->size > INT64_MAX)
        return -EOVERFLOW;
    switch (call->flags & MAP_TYPE) {
    case MAP_SHARED_VALIDATE:
        if (call->flags & ~(uint64_t)KNOWN_FLAGS)
            return -EOPNOTSUPP;
        /* fall through */
    case MAP_SHARED:
        if ((call->protection & BLY_PROT_WRITE) && !writable)
            return -EACCES;
        if (!writable)
            call->maximum &= ~(unsigned)BLY_PROT_WRITE;
        call->region_flags |= REGION_SHARED;
        break;
    case MAP_PRIVATE:
        break;
    default:
        return -EINVAL;
    }
    if (!readable)
        return -EACCES;
    if (file->dentry && file->dentry->mount && (file->dentry->mount->flags & MS_NOEXEC)) {
        if (call->protection & BLY_PROT_EXECUTE)
            return -EPERM;
        call->maximum &= ~(unsigned)BLY_PROT_EXECUTE;
    }
    if (S_ISCHR(file->inode->mode) && file->inode->device == lx_makedev(1, 5)) {
        /* zero(4): a map of /dev/zero is anonymous memory, shared or private. */
        call->offset = 0;
        if (!(call->region_flags & REGION_SHARED))
            return 0;
        call->object = memory_object_create_anonymous(call->size);
        return call->object ? 0 : -ENOMEM;
    }
    if (!file->ops->map)
        return -ENODEV;
    if (call->region_flags & REGION_GROWS_DOWN)
        return -EINVAL;
    int error =
        memfd_check_map(file, call->region_flags & REGION_SHARED, call->protection, &call->maximum);
    if (error)
        return error;
    error = file->ops->map(file, &call->object);
    if (error)
        return error;
    if ((call->region_flags & REGION_SHARED) &&
        !(call->object->flags & MEMORY_OBJECT_WRITABLE_SHARED)) {
        if (call->protection & BLY_PROT_WRITE)
            return -EACCES;
        call->maximum &= ~(unsigned)BLY_PROT_WRITE;
    }
    return 0;
}

/* The checks of do_mmap() that come before those of the file. */
static int check_range(const struct map_call *call)
{
    uint64_t end = call->address + call->size;

    if (!call->size)
        return -ENOMEM; /* overflowed when rounded up */
    if ((call->offset >> 12) + (call->size >> 12) < (call->offset >> 12) ||
        call->offset + call->size < call->offset)
        return -EOVERFLOW;
    if (call->size > BLY_GUEST_MAX)
        return -ENOMEM;
    if (!(call->mm_flags & (MM_FIXED | MM_FIXED_NOREPLACE)))
        return 0;
    if (call->address % PAGE)
        return -EINVAL;
    return end > BLY_GUEST_MAX || end < call->address ? -ENOMEM : 0;
}

static int64_t map_prepared(struct mm *mm, struct map_call *call, struct open_file *file)
{
    if ((call->mm_flags & MM_FIXED_NOREPLACE) && place_valid(call->address, call->size) &&
        !place_free(mm, call->address, call->size))
        return -EEXIST;
    if (mm->lock_future)
        call->region_flags |= REGION_LOCKED;
    if (call->region_flags & REGION_LOCKED) {
        int error = mm_may_lock(mm, call->size);
        if (error)
            return error;
    }
    int error = file ? prepare_file(call, file) : prepare_anonymous(call);
    if (error)
        return error;
    return mm_map_limited(mm, call->address, call->size, call->protection, call->maximum,
                          call->region_flags, call->object, call->offset, call->mm_flags);
}

LX_SYSCALL(mmap, uint64_t address, uint64_t size, uint64_t protection, uint64_t flags, int fd,
           uint64_t offset)
{
    struct map_call call = {
        .address = address,
        .size = page_up(size),
        .flags = (uint32_t)flags,
        .offset = offset,
        .protection =
            (unsigned)mm_translate_protection(protection & (PROT_READ | PROT_WRITE | PROT_EXEC)),
        .maximum = BLY_PROT_READ | BLY_PROT_WRITE | BLY_PROT_EXECUTE,
    };
    scoped_file file = NULL;

    if (offset % PAGE)
        return -EINVAL;
    if (!(flags & MAP_ANONYMOUS)) {
        file = fd_get(fd);
        if (!file || (file->flags & O_PATH))
            return -EBADF;
    }
    if (!size)
        return -EINVAL;
    translate_flags(&call);
    int error = check_range(&call);
    if (error)
        return error;

    struct mm *mm = lx_process()->mm;
    mutex_acquire(&mm->mutex);
    int64_t result = map_prepared(mm, &call, file);
    mutex_release(&mm->mutex);
    memory_object_unref(call.object);
    return result;
}

LX_SYSCALL(munmap, uint64_t address, uint64_t size)
{
    struct mm *mm = lx_process()->mm;

    scoped_mutex(&mm->mutex);
    return mm_unmap(mm, address, size);
}

static long protect(uint64_t address, uint64_t size, uint64_t guest_protection)
{
    uint64_t grows = guest_protection & (PROT_GROWSDOWN | PROT_GROWSUP);
    int protection =
        mm_translate_protection(guest_protection & ~(uint64_t)(PROT_GROWSDOWN | PROT_GROWSUP));
    struct mm *mm = lx_process()->mm;

    if (grows == (PROT_GROWSDOWN | PROT_GROWSUP) || address % PAGE)
        return -EINVAL;
    if (!size)
        return 0;
    if (address + page_up(size) <= address)
        return -ENOMEM;
    if (protection < 0)
        return protection;
    scoped_mutex(&mm->mutex);
    if (grows) {
        struct region *region = mm_find_next(mm, address);
        if (!region || region->start >= address + page_up(size))
            return -ENOMEM;
        if ((grows & PROT_GROWSUP) || !(region->flags & REGION_GROWS_DOWN))
            return -EINVAL;
        size = address + page_up(size) - region->start;
        address = region->start;
    }
    return mm_protect(mm, address, size, (unsigned)protection);
}

LX_SYSCALL(mprotect, uint64_t address, uint64_t size, uint64_t protection)
{
    return protect(address, size, protection);
}

/* Memory protection keys are not offered: only the default key exists. */
LX_SYSCALL(pkey_mprotect, uint64_t address, uint64_t size, uint64_t protection, int key)
{
    return key == -1 ? protect(address, size, protection) : -EINVAL;
}

LX_SYSCALL(pkey_alloc, unsigned flags, unsigned rights)
{
    return flags || (rights & ~3u) ? -EINVAL : -ENOSPC;
}

LX_SYSCALL(pkey_free, int key)
{
    return -EINVAL;
}

static bool grow_heap(struct mm *mm, uint64_t old_end, uint64_t new_end)
{
    struct region *next = mm_find_next(mm, old_end);
    unsigned flags = REGION_HEAP | (mm->lock_future ? REGION_LOCKED : 0);

    if (new_end < old_end || !place_valid(old_end, new_end - old_end))
        return false;
    /* brk(2) keeps one page, or the gap below a stack, clear of what lies above. */
    if (next && new_end + ((next->flags & REGION_GROWS_DOWN) ? STACK_GAP : PAGE) > next->start)
        return false;
    if (mm->lock_future && mm_may_lock(mm, new_end - old_end) < 0)
        return false;
    return mm_map(mm, old_end, new_end - old_end, BLY_PROT_READ | BLY_PROT_WRITE, flags, NULL, 0,
                  MM_FIXED_NOREPLACE) >= 0;
}

LX_SYSCALL(brk, uint64_t wanted)
{
    struct mm *mm = lx_process()->mm;

    scoped_mutex(&mm->mutex);
    if (wanted < mm->brk_start)
        return (long)mm->brk_end;
    uint64_t limit = mm_limit(RLIMIT_DATA);
    if (limit != ~0ull && wanted - mm->brk_start + (mm->data_end - mm->data_start) > limit)
        return (long)mm->brk_end;
    uint64_t old_end = page_up(mm->brk_end), new_end = page_up(wanted);
    if (new_end < old_end) {
        if (mm_unmap(mm, new_end, old_end - new_end) < 0)
            return (long)mm->brk_end;
    } else if (new_end > old_end && !grow_heap(mm, old_end, new_end)) {
        return (long)mm->brk_end;
    }
    mm->brk_end = wanted;
    return (long)wanted;
}

LX_SYSCALL(remap_file_pages, uint64_t start, uint64_t size, uint64_t protection,
           uint64_t page_offset, uint64_t flags)
{
    struct mm *mm = lx_process()->mm;
    uint64_t end, offset = page_offset * PAGE;

    start = page_down(start);
    size = page_down(size);
    end = start + size;
    if (protection || end <= start || page_offset > ~0ull / PAGE || offset + size < offset)
        return -EINVAL;
    scoped_mutex(&mm->mutex);
    struct region *first = mm_find(mm, start), *region = first;
    if (!first || !(first->flags & REGION_SHARED) || !first->object)
        return -EINVAL;
    while (region->end < end) {
        struct region *next = mm_find(mm, region->end);
        if (!next || next->object != first->object || next->flags != first->flags || next->protection != first->protection)
            return -EINVAL;
        region = next;
    }
    /* As Linux since 4.0: a map of its own. */
    struct memory_object *object = memory_object_ref(first->object);
    int64_t result = mm_map_limited(mm, start, size, first->protection, first->maximum_protection, first->flags & (REGION_SHARED | REGION_LOCKED),
                                    object, offset, MM_FIXED);
    memory_object_unref(object);
    return result < 0 ? (long)result : 0;
}
