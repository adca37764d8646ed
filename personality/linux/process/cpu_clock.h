/* CPU time of processes and threads, and timers that run on it. */
#ifndef LX_PROCESS_CPU_CLOCK_H
#define LX_PROCESS_CPU_CLOCK_H

#include "personality/linux/process/process.h"
#include "personality/linux/process/timers.h"

/* What the whole process has used, threads that have ended included. */
uint64_t process_cpu_ns(struct lx_process *process);
/* 0 when the thread is gone. Table lock held unless it is the caller. */
uint64_t thread_cpu_ns(struct lx_thread *thread);

/* A timer on CPU time is one on real time that cannot come late: CPU time grows at most as fast as the process's threads can run at
 * once. When it comes early it is set again for what is missing. Returns the deadline for `missing_ns` of CPU time. */
uint64_t cpu_timer_deadline(struct lx_process *process, uint64_t missing_ns);

#endif
