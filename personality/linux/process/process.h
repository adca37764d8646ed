/* Processes and threads as Linux programs know them. Objects live in the kernel heap. */
#ifndef LX_PROCESS_H
#define LX_PROCESS_H

#include "personality/linux/lx.h"
#include "personality/linux/signal/signal.h"

struct mm;
struct fd_table;
struct dentry;
struct tty;

struct credentials { /* per thread in Linux; per process here, as libcs keep them equal. Guarded by process_table.lock */
    uint32_t uid, euid, suid, fsuid, gid, egid, sgid, fsgid;
    uint32_t group_count, groups[64];
    uint64_t cap_effective, cap_permitted, cap_inheritable, cap_bounding, cap_ambient;
    uint32_t securebits, no_new_privs;
};

struct filesystem_context { /* shared by CLONE_FS */
    struct lock lock;
    _Atomic uint32_t references;
    struct dentry *root, *directory;
    uint32_t umask;
};

enum process_state { PROCESS_RUNNING, PROCESS_STOPPED, PROCESS_ZOMBIE, PROCESS_DEAD };

struct lx_thread;

struct lx_process {
    struct list all;                  /* process_table.processes */
    struct list hash_node;            /* process_table.process_hash, by pid */
    struct list children, sibling;    /* of parent; process_table.lock guards all links and states */
    struct list threads;              /* lx_thread.process_node */
    struct lx_process *parent;
    int32_t pid, group_id, session_id;
    int32_t parent_pid;               /* of parent; readable without the lock, for getppid(2) */
    uint32_t thread_count;
    uint32_t state;                   /* enum process_state */
    int32_t wait_status;              /* as wait(2) encodes it */
    uint32_t exit_signal;             /* to the parent: SIGCHLD, or clone's */
    uint32_t host_process;            /* the picoprocess that holds its memory, 0 when it has ended */
    uint32_t stop_reported, continue_pending, stop_signal;
    uint32_t child_subreaper, dumpable, pdeath_signal;
    uint32_t is_vfork_child;          /* made with CLONE_VFORK and not yet execed or ended: the parent waits */
    uint32_t has_no_memory;           /* has just left a parent that it shared memory with: `mm` is still that one's (process_leave_vfork) */
    uint32_t is_played;               /* has no picoprocess of its own yet: the parent's host thread plays it */
    uint32_t token;                   /* program started by the monitor: 0 main, else exec's; NO_TOKEN otherwise */
    bool has_execed, group_exit;      /* group_exit: all threads are to end with wait_status; both guarded by signals.lock until then */
    struct lx_thread *exec_thread;    /* during execve: the one thread that survives; guarded by signals.lock */
    uint32_t auto_reap;               /* nobody waits for it (parent ignores SIGCHLD): freed when it ends */
    struct wait_queue child_queue;    /* waiters in wait4/waitid */
    struct wait_queue end_queue;      /* pidfds; vfork parents */
    _Atomic uint32_t references;

    struct mutex exec_mutex;
    struct mm *mm;
    struct fd_table *files;
    struct filesystem_context *fs;
    struct signal_state signals;
    struct credentials credentials;
    struct tty *tty;                  /* controlling terminal of the session */
    struct { uint64_t soft, hard; } limits[16]; /* RLIMIT_*; guarded by signals.lock */
    char name[16];                    /* comm of the leader */
    char *command_line;               /* for /proc of other processes: the arguments at exec, each with its NUL; heap. table.lock */
    size_t command_line_size;
    uint64_t start_ns;
    uint64_t user_ns, system_ns, children_user_ns, children_system_ns; /* of threads and children that have ended */
    uint64_t cpu_base_ns;             /* used before the last resume: the host counts anew */
    uint64_t cpu_suspended_ns;        /* what will be that at the next one */
    uint64_t minor_faults, voluntary_switches, children_maxrss_kb;
    struct list timers;               /* POSIX timers; guarded by signals.lock */
    struct mutex timer_mutex;         /* one timer_* call of the process at a time */
    uint32_t next_timer_id;
    struct process_timers *itimers;   /* setitimer, alarm, RLIMIT_CPU: made at first use (process/itimer.c) */
    void *sysv_undo;
    uint64_t personality_flags;       /* personality(2) */
    uint32_t huge_pages_disabled;     /* PR_SET_THP_DISABLE */
    int32_t nice, oom_score_adj, io_priority;
    uint32_t scheduler_policy, scheduler_priority;
};
/* What uname(2) and /proc/version tell. */
#define LX_KERNEL_RELEASE "6.1.0-bailey"
#define LX_KERNEL_VERSION "#1 SMP PREEMPT_DYNAMIC Bailey"
#define NO_TOKEN 0xffffffffu

struct lx_thread {
    struct thread base;               /* first: libos */
    struct lx_process *process;       /* a thread that plays a vfork child points to the child */
    struct list process_node;
    struct list all;                  /* hash of tids */
    int32_t tid;
    uint32_t exiting;
    char name[16];
    struct thread_signals signals;
    struct bly_context *start_context; /* until a new thread has started: its first registers */
    uint64_t clear_child_tid;         /* guest address */
    uint64_t robust_list, robust_list_size;
    uint64_t fs_base;                 /* saved where the thread may be parked */
    struct bly_context *registers;    /* at entry of the current system call; on its kernel stack */
    uint32_t restore_full;            /* return by thread_restore */
    uint32_t syscall_number;          /* being served, ~0u none: for restart and /proc/PID/syscall */
    uint64_t syscall_argument0;       /* original rax/rdi for restart */
    struct { long (*function)(struct lx_thread *); uint64_t argument[6]; } restart;
    struct lx_process *vfork_parent;  /* set in the thread object of a vfork child while the parent's host thread plays it */
    struct vfork_saved *vfork_saved;  /* then: thread object, registers and fs base of the parent (process/clone.c) */
    struct waiter waiters[8];         /* cache for wait_begin and poll */
    uint32_t waiter_used;
    uint32_t cpu_hint;
    uint64_t cpu_base_ns, cpu_suspended_ns; /* as those of the process */
    uint64_t start_ns;
    void *futex_waiter;
    uint32_t futex_exited;            /* its futexes have been given up: it is ending. process_table.lock */
    uint64_t timer_slack_ns, timer_slack_default_ns; /* 0: 50 us */
    const struct credentials *access_credentials; /* access(2): asks with other ids for a moment; NULL: the process's own */
};

struct process_table {
    struct lock lock;
    struct list processes;
    struct list thread_hash[256];
    struct list process_hash[256];
    struct list free_threads;         /* thread objects are never given back to the heap: a late thread_wake finds a thread, if another */
    int32_t pid_max;
    int32_t last_pid;
    uint32_t process_count, thread_count;
    struct lx_process *init;          /* pid 1 */
};

/* The one root object of the kernel heap. */
struct lx_kernel {
    struct process_table table;
    _Atomic uint64_t next_id;
    void *vfs, *mounts, *pipes, *wake_pool, *epoll, *tty, *net, *ipc, *futexes, *timers, *patches, *dentry_cache, *inotify, *anonymous, *flocks, *memfd, *cpuid, *host_watch; /* each set by its subsystem's init */
    struct list services;             /* init's threads beside its leader: struct service (init.c); process_table.lock */
    _Atomic uint32_t leaving;         /* threads and processes that are out of the table and not quite gone (process/exit.c) */
    _Atomic uint32_t resumed;         /* programs are still to be told: by init's leader */
    char host_name[65], domain_name[65];
    struct vector_layout vector_layout;
    _Atomic uint32_t trace_flags;     /* BLY_START_TRACE_* */
    _Atomic uint32_t absent_logged[16]; /* bit a system call that was named in the log */
};
extern struct lx_kernel *lx_kernel;   /* the same address in every picoprocess */

static inline struct lx_process *lx_process(void) { return lx_current()->process; }

struct lx_process *process_find(int pid);          /* process_table.lock held */
struct lx_thread *thread_find(int tid);            /* process_table.lock held */
struct lx_process *process_get(int pid);           /* takes the lock, adds a reference; NULL */
void process_unref(struct lx_process *process);
/* Ends the calling thread; the last one ends the process with `wait_status`. */
_Noreturn void thread_end(int wait_status);
/* Ends the whole process (exit_group, fatal signal). */
_Noreturn void process_end(int wait_status);

/* ---- For entry, exec and init ---- */

int lx_process_init(void); /* the table, and init (pid 1) made out of the caller */
int lx_timer_init(void);
_Noreturn void lx_timer_thread(void); /* a thread of init: serves every timer of the sandbox */

/* What clone(2) is asked for. Zero fields mean absent. */
struct clone_request {
    uint64_t flags;        /* CLONE_*; the low byte is not the signal */
    uint32_t exit_signal;
    uint64_t stack;        /* the child's stack pointer; 0: the parent's */
    uint64_t tls, parent_tid, child_tid, pidfd; /* guest addresses (tls: the fs base) */
};
/* The child's pid in the caller, 0 in the child (as a copy of the calling picoprocess), or -errno. Init starts programs with it: it has
 * no registers and no memory then. */
long process_clone_current(const struct clone_request *request);
/* execve past its checks. In a vfork child: clones the picoprocess without guest memory; 0 in the copy, which goes on loading; in the
 * original the parent is the caller again: > 0, to be returned from the system call at once. In any other process: 0. */
long process_leave_vfork(void);
/* execve: ends all other threads of the process and waits for them; the caller then has the pid as its tid. -EAGAIN: another thread
 * execs or exits already (return it: the thread is about to end). */
int process_kill_other_threads(void);
/* execve has succeeded: releases a vfork parent that waits, resets what exec resets (timers, clear_child_tid, dumpable, ...). */
void process_exec_done(void);
/* init: a picoprocess has ended; when its process has not said so itself, it was killed. */
void process_host_ended(const struct bly_process_end *end);
/* init: takes one ended program (token other than NO_TOKEN) out of the table. Init's child_queue is woken when there may be one. */
bool process_take_ended_program(uint32_t *out_token, int32_t *out_wait_status);
/* The thread_start upcall's work: `argument` is the new struct lx_thread *. Ends in lx_leave_kernel. */
_Noreturn void process_thread_started(uint64_t argument);
/* Entry code (process/entry): goes to the program with every register of `context`, from any depth of the kernel stack, as at the end of a
 * system call: delivers signals first. vector_state NULL leaves the vector registers as they are. */
_Noreturn void lx_leave_kernel(struct bly_context *context);
struct filesystem_context *filesystem_context_copy(struct filesystem_context *from); /* fs/ */
void filesystem_context_unref(struct filesystem_context *context);
uint64_t process_resident_kb(struct lx_process *process); /* an estimate */
/* execve: new ids for a set-user-id or set-group-id file (-1: none), and the capabilities that follow. */
void credentials_exec(int64_t set_user, int64_t set_group);
bool lx_capable(int capability);                   /* root-in-the-sandbox: euid 0 has all */

/* Loads `path` into the current process (execve after copying its arguments in). argv/envp are kernel-heap string lists. */
struct exec_arguments { char **arguments, **environment; size_t argument_count, environment_count; };
int exec_load(struct dentry *directory, const char *path, struct exec_arguments *arguments, unsigned flags);

#endif
