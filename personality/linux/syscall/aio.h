/* Asynchronous I/O contexts, which go with a process's memory. */
#ifndef LX_SYSCALL_AIO_H
#define LX_SYSCALL_AIO_H

struct mm;
/* The last process that used `mm` is about to leave it. */
void aio_mm_released(struct mm *mm);

#endif
