/* Memory calls. The personality chooses every address: nothing is ever mapped where the kernel
 * would like it. */

#include "host.h"
#include <asm/fcntl.h>
#include <asm/mman.h>
#include <linux/userfaultfd.h>
#include <linux/mman.h>

static bool protection_valid(unsigned protection)
{
    return !(protection & ~(unsigned)(BLY_PROT_READ | BLY_PROT_WRITE | BLY_PROT_EXECUTE));
}

static unsigned long placement(unsigned flags)
{
    return (flags & BLY_MAP_REPLACE ? MAP_FIXED : MAP_FIXED_NOREPLACE) |
           (flags & BLY_MAP_RESERVE ? MAP_NORESERVE : 0) |
           (flags & BLY_MAP_POPULATE ? MAP_POPULATE : 0);
}

int host_memory_map(void *address, size_t size, unsigned protection, unsigned flags)
{
    if (!host_pages_valid(address, size) || !protection_valid(protection) ||
        flags & ~(unsigned)(BLY_MAP_REPLACE | BLY_MAP_RESERVE | BLY_MAP_POPULATE))
        return -EINVAL;
    long result = sys6(__NR_mmap, address, size, protection,
                       MAP_PRIVATE | MAP_ANONYMOUS | placement(flags), -1, 0);
    return result < 0 ? (int)result : 0;
}

int host_memory_unmap(void *address, size_t size)
{
    if (!host_pages_valid(address, size))
        return -EINVAL;
    return (int)sys2(__NR_munmap, address, size);
}

int host_memory_protect(void *address, size_t size, unsigned protection)
{
    if (!host_pages_valid(address, size) || !protection_valid(protection))
        return -EINVAL;
    return (int)sys3(__NR_mprotect, address, size, protection);
}

int host_memory_move(void *from, size_t from_size, void *to, size_t to_size, unsigned flags)
{
    /* A source size of 0 makes a second view of a shared mapping (mremap(2)). */
    if (!host_pages_valid(from, from_size ? from_size : BLY_PAGE_SIZE) ||
        !host_pages_valid(to, to_size) || flags & ~(unsigned)BLY_MOVE_KEEP_SOURCE)
        return -EINVAL;
    if (to == from && flags)
        return -EINVAL;
    unsigned long host_flags = 0;
    if (to != from)
        host_flags = MREMAP_MAYMOVE | MREMAP_FIXED | (flags ? MREMAP_DONTUNMAP : 0);
    long result = sys6(__NR_mremap, from, from_size, to_size, host_flags, to, 0);
    return result < 0 ? (int)result : 0;
}

int host_memory_load(unsigned source, uint64_t offset, uint64_t size, unsigned flags)
{
    uint64_t unit = source == BLY_LOAD_BULK ? BLY_LOAD_UNIT : BLY_PAGE_SIZE;
    unsigned known = source == BLY_LOAD_BULK ? BLY_LOAD_DISCARD : 0;
    if (source >= BLY_LOAD_SOURCE_COUNT || (offset | size) % unit || !size ||
        offset >= BLY_BULK_SIZE || size > BLY_BULK_SIZE - offset || flags & ~known)
        return -EINVAL;
    struct host_rpc rpc = {.operation = BLY_RPC_LOAD, .u = {source, offset, size, flags}};
    return (int)host_rpc_call(&rpc);
}

/* The descriptor is inert in our hands: all that it can do is asked for by ioctl, which the filter does not have. The monitor takes it from here
 * (pidfd_getfd) and gives it its meaning. A clone's copy would be of its parent's memory: become_child closes it. */
int host_memory_track(uint32_t *out_number)
{
    if (!host.track_number) {
        long made = sys1(__NR_userfaultfd, UFFD_USER_MODE_ONLY | O_CLOEXEC | O_NONBLOCK);
        if (made < 0)
            return (int)made;
        host.track_number = (uint32_t)made + 1;
    }
    *out_number = host.track_number;
    return 0;
}

int host_memory_advise(void *address, size_t size, unsigned advice)
{
    static const uint8_t advices[BLY_ADVICE_COUNT] = {
        [BLY_ADVICE_DISCARD] = MADV_DONTNEED,
        [BLY_ADVICE_REMOVE] = MADV_REMOVE,
        [BLY_ADVICE_FREE_LAZILY] = MADV_FREE,
        [BLY_ADVICE_WILL_NEED] = MADV_WILLNEED,
        [BLY_ADVICE_COLD] = MADV_COLD,
        [BLY_ADVICE_DO_NOT_CLONE] = MADV_DONTFORK,
        [BLY_ADVICE_CLONE] = MADV_DOFORK,
        [BLY_ADVICE_WIPE_ON_CLONE] = MADV_WIPEONFORK,
        [BLY_ADVICE_KEEP_ON_CLONE] = MADV_KEEPONFORK,
        [BLY_ADVICE_HUGE] = MADV_HUGEPAGE,
        [BLY_ADVICE_NO_HUGE] = MADV_NOHUGEPAGE,
        [BLY_ADVICE_POPULATE_READ] = MADV_POPULATE_READ,
        [BLY_ADVICE_POPULATE_WRITE] = MADV_POPULATE_WRITE,
    };
    if (!host_pages_valid(address, size) || advice >= BLY_ADVICE_COUNT)
        return -EINVAL;
    return (int)sys3(__NR_madvise, address, size, advices[advice]);
}

int host_stream_map(bly_handle stream, void *address, size_t size, unsigned protection,
                    unsigned flags, uint64_t offset)
{
    if (!host_pages_valid(address, size) || !protection_valid(protection) ||
        offset & (BLY_PAGE_SIZE - 1) || offset + size < offset ||
        flags & ~(unsigned)(BLY_MAP_REPLACE | BLY_MAP_RESERVE | BLY_MAP_SHARED | BLY_MAP_POPULATE))
        return -EINVAL;
    scoped_use use;
    int error = host_handle_use(stream, &use);
    if (error)
        return error;
    long result = sys6(__NR_mmap, address, size, protection,
                       (flags & BLY_MAP_SHARED ? MAP_SHARED : MAP_PRIVATE) | placement(flags),
                       use.descriptor, offset);
    return result < 0 ? (int)result : 0;
}
