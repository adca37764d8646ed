/* Common ground of the Linux personality: errors, current thread and process, the system-call macro. */
#ifndef LX_LX_H
#define LX_LX_H

#include <bailey/abi.h>
#include <bailey/start.h>
#include <asm/errno.h> /* EINVAL and the rest; linux/errno.h's internal ones below */
#include "libos/guest.h"
#include "libos/heap.h"
#include "libos/list.h"
#include "libos/lock.h"
#include "libos/text.h"
#include "libos/thread.h"
#include "libos/wait.h"

/* Restart codes: never seen by programs; resolved where signals are delivered (process/signal). */
#define ERESTARTSYS 512    /* restart if SA_RESTART or no handler ran, else -EINTR */
#define ERESTARTNOINTR 513 /* always restart */
#define ERESTARTNOHAND 514 /* restart only if no handler ran */
#define ERESTART_RESTARTBLOCK 516 /* restart as restart_syscall(2) with thread->restart */
static inline bool lx_is_restart(uint64_t result) { return result + ERESTART_RESTARTBLOCK <= ERESTART_RESTARTBLOCK - ERESTARTSYS; }

extern const struct bly_abi *bly;
extern const struct bly_start_info *start_info;

struct lx_thread;
struct lx_process;
static inline struct lx_thread *lx_current(void) { return (struct lx_thread *)thread_current(); }

/* Everything private to this picoprocess that is not on a stack. */
struct lx_local {
    _Atomic uint32_t threads_leaving; /* threads that are out of their process's list and still release locks (process/exit.c) */
};
extern struct lx_local lx_local;

/* Defines a system call. Arguments arrive as 64-bit values narrowed by the parameter types. The result is a value or a negative errno.
 * syscalls.def lists every Linux call; one that nobody defines returns -ENOSYS and is named once in the log. */
#define LX_SYSCALL(name, ...) \
    long lx_sys_##name(__VA_ARGS__); \
    long lx_sys_##name(__VA_ARGS__)

/* The calling thread's registers as they were at the system call (on its kernel stack), in struct bly_context. Changes take effect on return;
 * set lx_thread.restore_full to have every register and the vector state loaded from it. */
struct bly_context *lx_registers(void);

/* Coarse time in ns since 1970 for file times; and exact ones. */
uint64_t lx_realtime_ns(void);
uint64_t lx_monotonic_ns(void);

#endif
