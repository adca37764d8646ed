/* What the files of process/ share among themselves: making and unmaking the records of processes and threads.
 *
 * Invariant: a thread is linked in process.threads and in the table's hash, or in neither, and both links change
 * with process_table.lock *and* the process's signals.lock held. Thus holding either keeps a thread object found
 * through the list alive. */
#ifndef LX_PROCESS_LIFECYCLE_H
#define LX_PROCESS_LIFECYCLE_H

#include "personality/linux/process/process.h"

#include <linux/sched.h> /* CLONE_* */
#undef CLONE_NEWTIME_IN_CLONE3

/* Registers and identity of a vfork parent whose host thread plays the child. */
struct vfork_saved {
    struct lx_thread *thread;
    uint64_t fs_base;
    struct bly_context registers;
};

static inline struct process_table *process_table(void) { return &lx_kernel->table; }

/* A fresh pid or tid; the table's lock is held. -EAGAIN when all are in use. */
int32_t process_new_id(void);
/* Records with nothing shared or linked yet, apart from the lists in themselves. NULL: out of memory. */
struct lx_process *process_allocate(void);
struct lx_thread *thread_allocate(void);
void thread_free(struct lx_thread *thread); /* the table's lock is held */
/* Table and signal locks are held for these. */
void thread_link(struct lx_thread *thread, struct lx_process *process, int32_t tid);
void thread_unlink(struct lx_thread *thread);
void process_link(struct lx_process *process, struct lx_process *parent, int32_t pid);
/* Out of the table: nobody finds it any more; the table's reference is dropped by the caller (process_unref) after the lock. */
void process_unlink(struct lx_process *process);

/* The calling thread goes on as `thread` (a vfork child begins or ends). */
void thread_become(struct lx_thread *thread);

/* A process that has ended and is no longer waited for leaves the table; the lock is held. Adds its times to the parent's. */
void process_reap(struct lx_process *process);
/* exit.c, also for processes that were killed: everything but the process's threads and its memory on the host. */
void process_release_resources(struct lx_process *process);
/* Zombie from here on: tells parent and children. The table's lock is held. What is left to do without it, the caller does by
 * process_settle_end: waking the parent (which will want the lock), and dropping records that nobody will wait for. */
struct end_notice { struct list reaped; struct lx_process *parent; };
void process_publish_end(struct lx_process *process, int32_t wait_status, struct end_notice *notice);
void process_settle_end(struct end_notice *notice);
/* Wakes a parent that waits for a child made with CLONE_VFORK. The table's lock is held. */
void process_release_vfork(struct lx_process *process);
/* clone.c: the vfork child that the caller played has ended; goes on as its parent. */
_Noreturn void process_resume_vfork_parent(struct vfork_saved *saved);

/* group.c, with the table's lock held: hang-up signals for groups that are orphaned through the end of a process. */
void group_check_own(struct lx_process *process);
void group_check_child(struct lx_process *child, const struct lx_process *old_parent);
bool group_is_orphaned(int32_t group_id, const struct lx_process *except); /* `except` does not count; or NULL */
/* itimer.c and posix_timers.c. No lock is held. At exit all timers end, at exec those of timer_create(2). */
void process_timers_end(struct lx_process *process);
void posix_timers_end(struct lx_process *process);
void process_cpu_limit_changed(struct lx_process *process); /* RLIMIT_CPU */
void process_cpu_times(struct lx_process *process, uint64_t *out_user_ns, uint64_t *out_system_ns);

#endif
