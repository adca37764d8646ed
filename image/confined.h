/* A process of ours that reads what strangers wrote: it keeps the descriptors it was given and can
 * reach nothing else. */
#ifndef IMAGE_CONFINED_H
#define IMAGE_CONFINED_H

#include <base/error.h>
#include <stddef.h>
#include <stdint.h>

/* Gives up everything but `keep` (negative ones are skipped), memory, the clock and random numbers:
 * by seccomp, Landlock where the host has it, limits, and another user where the caller is root. It
 * ends with its parent. For the calling process, which must have one thread. */
int img_confine(const int *keep, size_t count, struct error *error)
    __attribute__((warn_unused_result));

#endif
