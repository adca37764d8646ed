/* Calls of Linux that one of the C libraries Bailey is built with lacks: musl, as Debian 12 has it,
 * does not know statx(2) and renameat2(2). */
#ifndef BASE_SYSTEM_H
#define BASE_SYSTEM_H

#include <stdio.h>
#include <sys/stat.h>

#ifndef __GLIBC__
#include <linux/fs.h>
#include <linux/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline int statx(int folder, const char *path, int flags, unsigned mask,
                        struct statx *status)
{
    return (int)syscall(SYS_statx, folder, path, flags, mask, status);
}

static inline int renameat2(int from_folder, const char *from, int to_folder, const char *to,
                            unsigned flags)
{
    return (int)syscall(SYS_renameat2, from_folder, from, to_folder, to, flags);
}
#endif

#endif
