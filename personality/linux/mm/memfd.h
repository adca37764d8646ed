/* memfd_create(2): unnamed files of a hidden tmpfs, which can be sealed. */
#ifndef LX_MEMFD_H
#define LX_MEMFD_H

#include "personality/linux/file.h"

/* fcntl F_ADD_SEALS and F_GET_SEALS. -EINVAL for files that cannot be sealed. */
long memfd_fcntl(struct open_file *file, unsigned command, uint64_t argument);
/* mmap's question: -EPERM when a seal forbids it; takes BLY_PROT_WRITE out of *maximum when it
 * forbids writing later. */
int memfd_check_map(struct open_file *file, bool shared, unsigned protection, unsigned *maximum);

#endif
