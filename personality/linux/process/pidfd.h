/* Descriptors that stand for processes. */
#ifndef LX_PROCESS_PIDFD_H
#define LX_PROCESS_PIDFD_H

#include "personality/linux/file.h"
#include "personality/linux/process/process.h"

int pidfd_create(struct lx_process *process, unsigned flags);   /* a descriptor, or -errno */
struct lx_process *pidfd_process(struct open_file *file);       /* with a reference; NULL: not a pidfd */

#endif
