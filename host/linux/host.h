/* Inside of the host layer: its state, the raw system calls, and what its files owe each other.
 *
 * Everything here runs in the picoprocess and is therefore untrusted by the monitor. The thread is
 * found by masking the stack pointer (layout.h), never through a segment register, so that signal
 * handlers work whatever the program did. */
#ifndef HOST_HOST_H
#define HOST_HOST_H

#include <bailey/abi.h>
#include <bailey/rpc.h>
#include <bailey/start.h>
#include <asm/errno.h>
#include <asm/unistd.h>
#include <linux/time_types.h>

/* ---- System calls (syscall.S) ---- */

long host_syscall(long number, long a, long b, long c, long d, long e, long f);
long host_syscall_interruptible(long number, long a, long b, long c, long d, long e, long f);
long host_clone_thread(unsigned long flags, void *stack_top, uint32_t *parent_tid,
                       uint32_t *child_tid);
uint64_t host_copy_proven(void *to, const void *from, size_t size, const char *proof);
_Noreturn void host_restore(void *frame);
_Noreturn void host_switch_stack(void *stack_top, void (*function)(void *), void *argument);
extern const char host_signal_return[], host_wait_begin[], host_wait_end[], host_wait_cancelled[];
extern const char host_copy_begin[], host_copy_end[], host_copy_faulted[];
/* Linker script. */
extern const char host_text_start[], host_text_end[], bly_image_start[], bly_image_end[];

#define sys0(n) host_syscall(n, 0, 0, 0, 0, 0, 0)
#define sys1(n, a) host_syscall(n, (long)(a), 0, 0, 0, 0, 0)
#define sys2(n, a, b) host_syscall(n, (long)(a), (long)(b), 0, 0, 0, 0)
#define sys3(n, a, b, c) host_syscall(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define sys4(n, a, b, c, d) host_syscall(n, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define sys6(n, a, b, c, d, e, f)                                                                  \
    host_syscall(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define sys_wait6(n, a, b, c, d, e, f)                                                             \
    host_syscall_interruptible(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

/* ---- Threads ---- */

/* What the host layer keeps in bly_thread_block.host_private. */
struct host_thread {
    uint32_t area;     /* index of the thread's area */
    uint32_t parks;    /* the thread must not end before the picoprocess does */
    uint64_t argument; /* of thread_start */
};

static inline struct bly_thread_block *host_block(void)
{
    uint64_t stack;
    __asm__("mov %%rsp, %0" : "=r"(stack));
    return (struct bly_thread_block *)((stack & ~(BLY_THREAD_AREA_SIZE - 1)) +
                                       BLY_THREAD_BLOCK_OFFSET);
}
static inline uint32_t host_process_id(void)
{
    return host_block()->process_id;
}
static inline struct host_thread *host_thread_of(struct bly_thread_block *block)
{
    return (struct host_thread *)block->host_private;
}

/* A thread area. `tid` is the host's word for the thread: written by the kernel at its birth (but a
 * clone's only thread keeps its parent's) and cleared at its death. */
enum { HOST_AREA_UNMAPPED, HOST_AREA_USED };
struct host_area {
    _Atomic uint32_t tid;
    uint32_t state;
};
#define HOST_AREA_RESERVED 0xffffffffu /* tid of an area whose thread is about to be made */
#define HOST_AREA_COUNT 32768u

static inline char *host_area_base(uint32_t area)
{
    return (char *)(BLY_THREADS_END - (area + 1) * BLY_THREAD_AREA_SIZE);
}
static inline struct bly_thread_block *host_area_block(uint32_t area)
{
    return (struct bly_thread_block *)(host_area_base(area) + BLY_THREAD_BLOCK_OFFSET);
}
static inline char *host_signal_stack(const struct bly_thread_block *block)
{
    return (char *)block - BLY_THREAD_BLOCK_OFFSET + BLY_SIGNAL_STACK_OFFSET;
}

int host_area_acquire(uint32_t *out_area); /* takes and gives back the area lock */
/* Segment base, signal stack: what a thread needs before it may be interrupted. */
void host_thread_arm(struct bly_thread_block *block);
void host_block_fill(struct bly_thread_block *block, uint32_t area, uint32_t process_id);
void host_set_block_segment(struct bly_thread_block *block);
_Noreturn void host_thread_begin(void);

/* ---- Locks private to the picoprocess ---- */

/* Held only by code of the host layer, which interrupts leave alone, never across a wait.
 * process_clone takes all of them. */
struct host_lock {
    _Atomic uint32_t word; /* 0 free, 1 held, 2 held and waited for */
};
/* On a page of their own that clones find zeroed (MADV_WIPEONFORK): in a clone nobody holds them, and
 * taking them does not make the caller copy a page after each clone. */
struct host_locks {
    struct host_lock area;   /* guards areas[].state, host.area_high, host.area_next */
    struct host_lock handle; /* guards insertions and removals in handles[] and cached[], and what
                                host_state says */
};
void host_lock(struct host_lock *lock);
void host_unlock(struct host_lock *lock);

/* ---- Handles ---- */

#define HOST_HANDLE_COUNT (1u << 20)
#define HOST_HANDLE_INDEX(h) ((h) & (HOST_HANDLE_COUNT - 1))
/* The cache entry of a handle's index. A user raises `uses`, then looks at `handle`; whoever
 * removes an entry clears `handle`, then looks at `uses`: the descriptor is closed by the last of
 * both. */
struct host_handle {
    _Atomic uint32_t handle;
    _Atomic uint32_t uses;
    _Atomic int32_t next_descriptor; /* the descriptor + 1, while handle is not 0 or a removed entry
                                        is still in use; else 0 */
    _Atomic uint32_t flags;          /* changed under the handle lock */
};
enum {
    HOST_HANDLE_PINNED = 1,      /* given at the start: not evicted */
    HOST_HANDLE_LOCAL = 2,       /* a wait set: not inherited */
    HOST_HANDLE_LISTED = 4,      /* in cached[] */
    HOST_HANDLE_FILE = 8,        /* a regular file: its readers never wait for an event */
    HOST_HANDLE_COHERENT = 16,   /* a map of it shows what a read would get */
    HOST_HANDLE_WINDOW_SHIFT = 8 /* from here on: 1 + the number of its window, or 0 */
};
#define HOST_CACHE_MAX 4096u

/* A descriptor in use: give it back with host_handle_release. */
struct host_use {
    struct host_handle *entry; /* NULL: the descriptor is the user's alone */
    int descriptor;
    bool is_file;
};
int host_handle_use(bly_handle handle, struct host_use *out_use)
    __attribute__((warn_unused_result));
void host_handle_release(struct host_use *use);
/* Puts a descriptor in the cache; on return the cache owns it (or it has been closed, to be fetched
 * again). */
void host_handle_insert(bly_handle handle, int descriptor, uint32_t flags);
int host_handle_insert_local(int descriptor, bly_handle *out_handle);
void host_handle_remove(bly_handle handle);
void host_handles_after_clone(void);
#define scoped_use __attribute__((cleanup(host_handle_release))) struct host_use

/* What the monitor says of a stream, as flags of its entry. */
static inline uint32_t host_handle_flags(unsigned kind, uint64_t told)
{
    return (kind == BLY_KIND_FILE ? HOST_HANDLE_FILE : 0) |
           (told & BLY_RPC_STREAM_COHERENT ? HOST_HANDLE_COHERENT : 0);
}

/* ---- Read windows (window.c) ---- */

#define HOST_WINDOW_COUNT 16u
struct host_window {
    struct host_handle *entry; /* NULL: free; handle lock */
    _Atomic uint64_t end;      /* offset of a page known to lie behind the end of the file */
};
/* What is counted until a file is found worth a window: by a handle's index, and lost to another
 * with the same remainder. */
#define HOST_REREAD_COUNT 64u
struct host_reread {
    _Atomic uint32_t handle, end,
        count; /* how far it was read, and how often something before that */
};
/* True: done. The caller has the handle in use. */
bool host_window_read(struct host_handle *entry, const struct bly_iovec *part, uint64_t offset);
/* The host was asked for this; the next time perhaps a window answers. */
void host_window_consider(const struct host_use *use, size_t size, uint64_t offset);
void host_window_release(struct host_handle *entry); /* caller holds the handle lock; nobody uses it */
void host_windows_after_clone(void);

/* ---- RPC ---- */

struct host_rpc_part {
    const void *data;
    size_t size;
};
struct host_rpc {
    uint32_t operation;
    uint32_t part_count;
    uint64_t u[6]; /* request, then reply */
    struct host_rpc_part parts[4];
    void *reply;       /* buffer for the reply's data, or NULL */
    size_t reply_size; /* room, then what came */
    int descriptor;    /* of the reply, or -1 */
};
int64_t host_rpc_call(struct host_rpc *rpc);
void host_rpc_post_close(bly_handle handle); /* nobody waits for the reply */

/* ---- The rest ---- */

struct host_message { /* struct msghdr of the kernel */
    void *name;
    uint32_t name_size;
    struct bly_iovec *vector;
    size_t vector_count;
    void *control;
    size_t control_size;
    uint32_t flags;
};
#define HOST_MSG_DONTWAIT 0x40
#define HOST_MSG_CMSG_CLOEXEC 0x40000000

/* Private tables, behind the locks at BLY_HOST_DATA: mapped without reserve, used from the front. */
struct host_tables {
    uint32_t
        cached[HOST_CACHE_MAX]; /* indices of the entries that hold a descriptor (flag LISTED) */
    struct host_window windows[HOST_WINDOW_COUNT];
    struct host_reread rereads[HOST_REREAD_COUNT];
    struct host_area areas[HOST_AREA_COUNT];
    struct host_handle handles[HOST_HANDLE_COUNT];
};
static struct host_locks *const host_locks = (struct host_locks *)BLY_HOST_DATA;
static struct host_tables *const host_tables =
    (struct host_tables *)(BLY_HOST_DATA + BLY_PAGE_SIZE);
static struct bly_rpc_channel *const host_channel = (struct bly_rpc_channel *)BLY_RPC_CHANNEL;
static const struct bly_start_info *const host_info = (const struct bly_start_info *)BLY_START_INFO;

/* Written as seldom as can be: after each clone, the first write of either side copies the page. */
struct host_state {
    bool is_first;         /* the sandbox's first picoprocess: parent of all the others */
    bool in_pid_namespace; /* ends with the first picoprocess, by the kernel's doing */
    bool has_fsgsbase;
    uint32_t track_number; /* memory_track's: its descriptor's number and 1; 0: none */
    uint64_t vector_features; /* XCR0 */
    uint32_t mxcsr_mask;
    uint64_t vdso_start, vdso_end;
    int (*vdso_clock_gettime)(int, struct __kernel_timespec *);
    int (*vdso_getcpu)(unsigned *, unsigned *, void *);
    uint32_t area_high; /* areas at and above were never used */
    uint32_t area_next; /* where to look for an exited thread's area */
    /* These and the next three are guarded by the handle lock. */
    uint32_t cached_count, cached_limit, cached_hand;
    uint32_t closed_count; /* of the channel, as far as it was followed */
    uint32_t next_local;   /* for handles of wait sets */
    uint32_t window_hand;  /* the window to be taken next */
    uint64_t
        nameless_since_ns[BLY_RPC_SLOT_COUNT]; /* first picoprocess: slots seen claimed by nobody */
    uint32_t
        fault_call; /* fault injection (shim): index of the call, its remaining count, the errno */
    _Atomic uint32_t fault_count;
    int32_t fault_error;
};
extern struct host_state host;

void host_vdso_move(uint64_t vdso);
void host_signals_install(void);
void host_filter_install(bool scoped);
uint64_t host_now_ns(void);
_Noreturn void host_fail(const char *what, long error); /* during start */
void host_log_as(uint32_t process_id, unsigned level, const char *text, size_t size);
const struct bly_abi *host_abi_select(void);

static inline void host_copy(void *to, const void *from, size_t size)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
}
static inline void host_zero(void *to, size_t size)
{
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(0) : "memory");
}
static inline size_t host_length(const char *text)
{
    size_t size = 0;
    while (text[size])
        size++;
    return size;
}
static inline bool host_pages_valid(const void *address, size_t size)
{
    return !(((uint64_t)address | size) & (BLY_PAGE_SIZE - 1)) && size &&
           (uint64_t)address + size > (uint64_t)address &&
           (uint64_t)address + size <= BLY_GUEST_MAX;
}
/* The kernel's form of a time; NULL for BLY_FOREVER. */
static inline struct __kernel_timespec *host_timespec(struct __kernel_timespec *buffer, uint64_t ns)
{
    if (ns == BLY_FOREVER)
        return NULL;
    buffer->tv_sec = (int64_t)(ns / 1000000000u);
    buffer->tv_nsec = (int64_t)(ns % 1000000000u);
    return buffer;
}
/* The same of a deadline in the sandbox's own time (start_info.clock_offset_ns), which the kernel does not know. */
static inline struct __kernel_timespec *host_deadline(struct __kernel_timespec *buffer, uint64_t ns)
{
    if (ns == BLY_FOREVER)
        return NULL;
    int64_t host_ns = (int64_t)(ns - (uint64_t)host_info->clock_offset_ns);
    return host_timespec(buffer, host_ns < 0 ? 0 : (uint64_t)host_ns);
}
/* What is left until a deadline, for the calls that take relative times. */
static inline uint64_t host_remaining(uint64_t deadline_ns)
{
    if (deadline_ns == BLY_FOREVER || deadline_ns == 0)
        return deadline_ns;
    uint64_t now = host_now_ns();
    return deadline_ns > now ? deadline_ns - now : 0;
}

/* The calls of the ABI, as this layer implements them. */
#define BLY_GROUP(name, title)
#define BLY_CALL(type, name, parameters, arguments, format) type host_##name parameters;
#include <bailey/abi.def>
#undef BLY_GROUP
#undef BLY_CALL

#endif
