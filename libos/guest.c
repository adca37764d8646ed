/* Copies between the personality and the program. Every guest address is checked against Bailey's
 * window here, once, so that the raw routines (guest_copy.S) never see a pointer into the kernel
 * heap. */
#include "libos/guest.h"

#include <asm/errno.h>

size_t guest_copy_raw(void *to, const void *from, size_t size);
size_t guest_zero_raw(void *to, size_t size);
int64_t guest_string_raw(char *to, const char *from, size_t size);
int guest_load32_raw(uint32_t *to, const uint32_t *guest_from);
int guest_store32_raw(uint32_t *guest_to, uint32_t value);
int guest_compare_exchange32_raw(uint32_t *guest_to, uint32_t *expected, uint32_t desired);

/* Relative to the field's own address. */
struct fault_entry {
    int32_t start, end, continuation;
};
extern const struct fault_entry __start_bly_fault_table[], __stop_bly_fault_table[];

/* How many of `size` bytes at `address` may be touched at all: up to the next address that is not
 * the guest's. */
static size_t guest_prefix(const void *address, size_t size)
{
    uint64_t start = (uint64_t)address,
             limit = start < BLY_WINDOW_START ? BLY_WINDOW_START : BLY_GUEST_MAX;

    if (start >= BLY_GUEST_MAX || (start >= BLY_WINDOW_START && start < BLY_WINDOW_END))
        return 0;
    return size < limit - start ? size : limit - start;
}

int guest_read(void *to, const void *guest_from, size_t size)
{
    if (!guest_range_valid(guest_from, size))
        return size ? -EFAULT : 0;
    return guest_copy_raw(to, guest_from, size) ? -EFAULT : 0;
}

int guest_write(void *guest_to, const void *from, size_t size)
{
    if (!guest_range_valid(guest_to, size))
        return size ? -EFAULT : 0;
    return guest_copy_raw(guest_to, from, size) ? -EFAULT : 0;
}

int guest_zero(void *guest_to, size_t size)
{
    if (!guest_range_valid(guest_to, size))
        return size ? -EFAULT : 0;
    return guest_zero_raw(guest_to, size) ? -EFAULT : 0;
}

size_t guest_read_some(void *to, const void *guest_from, size_t size)
{
    size = guest_prefix(guest_from, size);
    return size - guest_copy_raw(to, guest_from, size);
}

size_t guest_write_some(void *guest_to, const void *from, size_t size)
{
    size = guest_prefix(guest_to, size);
    return size - guest_copy_raw(guest_to, from, size);
}

int64_t guest_read_string(char *to, const char *guest_from, size_t size)
{
    size_t allowed = guest_prefix(guest_from, size);
    int64_t length = guest_string_raw(to, guest_from, allowed);

    if (length >= 0 && (size_t)length == allowed)
        return allowed < size ? -EFAULT : -ENAMETOOLONG;
    return length;
}

int guest_load32(uint32_t *out_value, const uint32_t *guest_from)
{
    if (!guest_range_valid(guest_from, sizeof *guest_from))
        return -EFAULT;
    return guest_load32_raw(out_value, guest_from);
}

int guest_store32(uint32_t *guest_to, uint32_t value)
{
    if (!guest_range_valid(guest_to, sizeof *guest_to))
        return -EFAULT;
    return guest_store32_raw(guest_to, value);
}

int guest_compare_exchange32(uint32_t *guest_to, uint32_t *expected, uint32_t desired)
{
    if (!guest_range_valid(guest_to, sizeof *guest_to))
        return -EFAULT;
    return guest_compare_exchange32_raw(guest_to, expected, desired);
}

bool guest_fault_fixup(struct bly_context *context)
{
    for (const struct fault_entry *entry = __start_bly_fault_table; entry < __stop_bly_fault_table;
         entry++) {
        uint64_t start = (uint64_t)&entry->start + (uint64_t)(int64_t)entry->start;
        uint64_t end = (uint64_t)&entry->end + (uint64_t)(int64_t)entry->end;
        if (context->rip >= start && context->rip < end) {
            context->rip = (uint64_t)&entry->continuation + (uint64_t)(int64_t)entry->continuation;
            return true;
        }
    }
    return false;
}
