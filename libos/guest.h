/* Guest memory is touched only through these. Each is covered by the fault table: an address that is not mapped, not permitted
 * or cut off by a truncated file gives -EFAULT. The copies move what they can; on -EFAULT a part may have been written. Addresses
 * inside Bailey's window are refused, since a pointer from the program must never reach the kernel heap. */
#ifndef LIBOS_GUEST_H
#define LIBOS_GUEST_H

#include <bailey/abi.h>

int guest_read(void *to, const void *guest_from, size_t size) __attribute__((warn_unused_result));
int guest_write(void *guest_to, const void *from, size_t size) __attribute__((warn_unused_result));
int guest_zero(void *guest_to, size_t size) __attribute__((warn_unused_result));
/* Bytes copied before the first fault (no -EFAULT): read(2) and write(2) return short counts. */
size_t guest_read_some(void *to, const void *guest_from, size_t size);
size_t guest_write_some(void *guest_to, const void *from, size_t size);
/* A string with its NUL into `to`; its length, -EFAULT, or -ENAMETOOLONG when no NUL was found within `size`. */
int64_t guest_read_string(char *to, const char *guest_from, size_t size) __attribute__((warn_unused_result));

int guest_load32(uint32_t *out_value, const uint32_t *guest_from) __attribute__((warn_unused_result));
int guest_store32(uint32_t *guest_to, uint32_t value) __attribute__((warn_unused_result));
/* *to: compare with *expected and replace; on return *expected is what was there. Atomic. 0 or -EFAULT. */
int guest_compare_exchange32(uint32_t *guest_to, uint32_t *expected, uint32_t desired) __attribute__((warn_unused_result));

static inline bool guest_range_valid(const void *address, size_t size)
{
    uint64_t start = (uint64_t)address, end = start + size;
    return end >= start && end <= BLY_GUEST_MAX && !(start < BLY_WINDOW_END && end > BLY_WINDOW_START);
}

/* To be called first by a personality's exception upcall: when `context` faulted inside one of the functions above, moves it to
 * the function's failure path and returns true. */
bool guest_fault_fixup(struct bly_context *context);

#endif
