/* The Bailey ABI: the only thing a personality may call, and the four things that may call it.
 *
 * Conventions. Every call returns 0 or a count, or a negative POSIX errno with Linux's number (-EINVAL, ...). A call
 * validates all its arguments before it changes anything. Sizes are bytes, times nanoseconds, deadlines absolute on
 * BLY_CLOCK_MONOTONIC (BLY_FOREVER: none; 0: do not wait). Calls marked [interruptible] end with -EINTR when
 * thread_interrupt reaches the thread before or during the wait: an interrupt that arrives between the caller's
 * own test for pending work and the wait is not lost as long as the caller tests `interrupt_pending` of its
 * thread block (see below) through that call. The list of calls is abi.def; personalities call through `bly->name(...)`. */
#ifndef BAILEY_ABI_H
#define BAILEY_ABI_H

#include <bailey/layout.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BLY_ABI_VERSION 1u

/* A stream or wait set, valid in every picoprocess of the sandbox (the host layer fetches its own descriptor when a
 * picoprocess first uses it). Index in the low 20 bits, generation in the high 12. 0 is never valid. */
typedef uint32_t bly_handle;
#define BLY_NO_HANDLE 0u

#define BLY_FOREVER UINT64_MAX

struct bly_iovec {
    void *base;
    size_t size;
};

/* ---- Memory --------------------------------------------------------------------------------------------------- */

enum bly_protection { BLY_PROT_READ = 1, BLY_PROT_WRITE = 2, BLY_PROT_EXECUTE = 4 };
enum bly_map_flags {
    BLY_MAP_REPLACE = 1, /* replace what is mapped there; without it an occupied range is -EEXIST */
    BLY_MAP_RESERVE = 2, /* address space only: no memory is promised (MAP_NORESERVE) */
    BLY_MAP_SHARED = 4,  /* stream_map only: writes reach the stream; without it copy-on-write */
    BLY_MAP_POPULATE = 8 /* fill page tables now */
};
enum bly_move_flags { BLY_MOVE_KEEP_SOURCE = 1 /* like MREMAP_DONTUNMAP */ };
enum bly_advice {
    BLY_ADVICE_DISCARD,      /* private anonymous: reads as zero afterwards; file maps: read again */
    BLY_ADVICE_REMOVE,       /* shared segment: free the pages, for everyone (they read as zero) */
    BLY_ADVICE_FREE_LAZILY,  /* may be discarded under memory pressure until written */
    BLY_ADVICE_WILL_NEED,
    BLY_ADVICE_COLD,
    BLY_ADVICE_DO_NOT_CLONE, /* process_clone leaves the range unmapped in the child */
    BLY_ADVICE_CLONE,
    BLY_ADVICE_WIPE_ON_CLONE,
    BLY_ADVICE_KEEP_ON_CLONE,
    BLY_ADVICE_HUGE,
    BLY_ADVICE_NO_HUGE,
    BLY_ADVICE_POPULATE_READ,
    BLY_ADVICE_POPULATE_WRITE,
    BLY_ADVICE_COUNT
};
enum bly_load_source { BLY_LOAD_BULK, BLY_LOAD_IMAGE, BLY_LOAD_SOURCE_COUNT };
enum bly_load_flags { BLY_LOAD_DISCARD = 1 };
#define BLY_LOAD_UNIT 0x40000ull
/* memory_map(address, size, protection, flags): private zero-filled memory at exactly `address`. Address and size are
 *   page multiples (-EINVAL), size not 0 (-EINVAL); -EEXIST without REPLACE when occupied; -ENOMEM.
 * memory_unmap(address, size): -EINVAL as above. Holes are fine.
 * memory_protect: -ENOMEM when a page is not mapped, -EACCES when a stream's access forbids it.
 * memory_move(from, from_size, to, to_size, flags): moves and grows or shrinks; `to` == `from` resizes in place and
 *   then -ENOMEM means the way is blocked. Otherwise what lay at `to` is replaced.
 * memory_advise: -EINVAL for an advice that does not fit the mapping.
 * memory_load(source, offset, size, flags): of a resumed sandbox. BULK: what its bulk segment held lies in the image at first, and in its
 *   place the segment reads as zeros, so nothing must touch it. Afterwards [offset, offset + size) of the segment holds it, for every
 *   picoprocess; what has been loaded is left alone. Multiples of BLY_LOAD_UNIT. BLY_LOAD_DISCARD: it is not wanted any more, and
 *   zeros take its place if it has not been loaded. IMAGE: the image may be on its way from another machine still (BLY_START_ARRIVING);
 *   afterwards [offset, offset + size) of the stream `image` is there. Multiples of the page size; no flags. -EINVAL, also where
 *   nothing is to be loaded; -EIO and the like: the image cannot be read.
 * memory_track(out_number): makes it possible for the monitor to follow which pages of this picoprocess are written, for a move to another
 *   machine; out_number, never 0, is for the monitor and means nothing here. Once for each picoprocess; again: the same number. -ENOSYS, -EPERM:
 *   not on this host.
 * Source: Drawbridge's DkVirtualMemoryAllocate/Free/Protect, plus move and advise (mremap and madvise are what
 * allocators of today live by). */

/* ---- Threads and register state ------------------------------------------------------------------------------- */

/* Layout of Linux's x86-64 `struct sigcontext`, so that no copying is needed between host frame, upcall and guest
 * frame. `vector_state` points to an XSAVE image with the kernel's FP_XSTATE magic in its software bytes, or NULL. */
struct bly_context {
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, rflags;
    uint16_t cs, gs, fs, ss;
    uint64_t error_code, trap_number, old_mask, fault_address;
    void *vector_state;
    uint64_t reserved[8];
};

/* First page of a thread area; `%gs` (Linux) or `%fs` (NT) points here. The host layer fills the first group and
 * owns the last; the rest is the personality's. Offsets used by assembly are asserted in host/linux/thread.c. */
struct bly_thread_block {
    struct bly_thread_block *self;  /* 0x00 */
    uint64_t kernel_stack_top;      /* 0x08 */
    uint64_t entry;                 /* 0x10: where patched call sites jump; set by the personality at start, copied to new threads */
    uint64_t user_stack;            /* 0x18: the program's rsp while in the personality */
    void *personality_thread;       /* 0x20: the personality's thread object, in the kernel heap */
    uint64_t stack_protector;       /* 0x28 */
    uint64_t scratch[4];            /* 0x30: entry code of the personality */
    uint32_t thread_id;             /* 0x50: host layer: id of this thread, unique in the sandbox while it lives */
    uint32_t process_id;            /* 0x54: host layer: id of this picoprocess */
    volatile uint32_t interrupt_pending; /* 0x58: set by the host layer when an interrupt arrives; an [interruptible] call
                                          * that finds it set returns -EINTR at once. The personality clears it before it looks for work. */
    uint32_t reserved;
    uint64_t personality_data[44];  /* 0x60: free for the personality */
    uint64_t host_private[64];      /* 0x1c0 */
};

enum bly_barrier_kind { BLY_BARRIER_MEMORY, BLY_BARRIER_CODE /* also serialises instruction fetch */ };
/* thread_create(argument, place, &id): a new thread of this picoprocess, on its own thread area, begins at the thread_start
 *   upcall with `argument`. fs base starts as 0. `place` is NULL, or the block of the area that it is to have: a resumed thread's
 *   kernel stack holds addresses of itself. -EAGAIN when the limit of threads is reached, -ENOMEM, -EINVAL (no area has its block
 *   there), -EBUSY (a thread has that area).
 * thread_exit(): ends the caller; its area is reused afterwards. The leader thread (the one that started or was
 *   cloned) is parked instead until the picoprocess exits.
 * thread_interrupt(process, thread): causes the interrupt upcall in that thread as soon as it runs outside the
 *   personality's image, else sets its interrupt_pending. -ESRCH when it is gone.
 * thread_restore(context): continues at `context` with every register of it, vector state included; does not return.
 *   old_mask is ignored; vector_state NULL means the initial vector state. `vector_state` may be changed (made valid) in place.
 * thread_barrier(kind): every thread of this picoprocess has passed a barrier when it returns. */

/* ---- Waiting -------------------------------------------------------------------------------------------------- */

/* wait_address(address, expected, deadline) [interruptible]: sleeps while *address == expected. 0 when woken (also
 *   spuriously), -EAGAIN when the value differs, -ETIMEDOUT, -EINTR. Works across picoprocesses on the shared
 *   segments. Release/acquire ordering is the caller's own.
 * wake_address(address, count): returns how many were woken. */
enum bly_wait_events { BLY_WAIT_READ = 1, BLY_WAIT_WRITE = 4, BLY_WAIT_ERROR = 8, BLY_WAIT_HANG_UP = 16 /* = poll(2) */ };
enum bly_wait_set_operation { BLY_WAIT_SET_ADD = 1, BLY_WAIT_SET_REMOVE = 2, BLY_WAIT_SET_CHANGE = 3 };
struct bly_wait_event {
    uint32_t events;
    uint32_t padding;
    uint64_t cookie;
};
/* wait_stream(stream, events, deadline) [interruptible]: returns the events that hold (> 0), 0 at the deadline.
 * wait_set_*: a persistent set of streams (epoll), local to the picoprocess that made it. wait_set_wait [interruptible]
 *   returns how many events it wrote. */

/* ---- Streams -------------------------------------------------------------------------------------------------- */

/* URIs: `file:MOUNT/path` and `dir:MOUNT/path`: path below a granted folder, MOUNT being its decimal number in the
 * start information; components `.` and `..` and empty ones are -EINVAL, symbolic links are never followed (-ELOOP).
 * `event:` a wake descriptor (8-byte counter). Later: `tcp:` `tcp.listen:` `udp:`. Standard input, output, error, the
 * terminal and the control stream are handles given in the start information. */
enum bly_access { BLY_ACCESS_READ = 1, BLY_ACCESS_WRITE = 2 };
enum bly_open_options {
    BLY_OPEN_CREATE = 1,    /* make the file if it is not there, with `mode` */
    BLY_OPEN_EXCLUSIVE = 2, /* with CREATE: -EEXIST if it is there */
    BLY_OPEN_TRUNCATE = 4,
    BLY_OPEN_DIRECTORY = 8, /* -ENOTDIR otherwise */
    BLY_OPEN_TEMPORARY = 16 /* an unnamed file in the folder `uri` (O_TMPFILE) */
};
enum bly_kind { BLY_KIND_FILE = 1, BLY_KIND_DIRECTORY, BLY_KIND_SYMLINK, BLY_KIND_FIFO, BLY_KIND_SOCKET, BLY_KIND_CHARACTER, BLY_KIND_BLOCK,
                BLY_KIND_HARD_LINK /* stream_create only */, BLY_KIND_PIPE, BLY_KIND_TTY };

/* What stat(2) tells. Owners are as mapped for the guest: the operator's own id appears as 0. */
struct bly_attributes {
    uint64_t device, inode;
    uint64_t size, blocks; /* bytes; units of 512 bytes */
    int64_t access_ns, modify_ns, change_ns, birth_ns; /* since 1970; to be set: also BLY_TIME_NOW */
    uint32_t kind;   /* enum bly_kind */
    uint32_t mode;   /* permission bits, 07777 */
    uint32_t owner, group;
    uint32_t link_count;
    uint32_t block_size;
    uint32_t device_major, device_minor; /* of a device node */
};
#define BLY_TIME_NOW INT64_MIN /* what the host's clock for files says: whoever may write to a file may set both times to it */
enum bly_attribute_mask { BLY_SET_MODE = 1, BLY_SET_OWNER = 2, BLY_SET_GROUP = 4, BLY_SET_ACCESS_TIME = 8, BLY_SET_MODIFY_TIME = 16, BLY_SET_SIZE = 32 };

#define BLY_PATH_MAX 4096
/* stream_walk(uri, flags, &result): With BLY_WALK_WATCH the folder that was reached is watched from before the walk's end on: what
 * changes among its names, and in the attributes and contents of what they stand for, is an event with result.watch as its
 * `wd` that can be read (inotify(7)) from the stream start_info->watch. -EOPNOTSUPP where nothing can be watched.
 * In every case it follows the path from the granted folder until its end or the first symbolic link,
 * in one call. */
enum bly_walk_flags { BLY_WALK_WATCH = 1 };
struct bly_walk_result {
    struct bly_attributes attributes; /* of what the walk reached */
    uint32_t consumed;                /* bytes of the path (after `MOUNT/`) that were walked, the link's own name included */
    uint32_t link_size;               /* kind is SYMLINK: length of its text in `link` */
    int32_t watch;                    /* of BLY_WALK_WATCH; else 0 */
    char link[BLY_PATH_MAX];
};
enum bly_stream_flags {
    BLY_STREAM_NO_WAIT = 1, /* -EAGAIN instead of waiting */
    BLY_STREAM_APPEND = 2,  /* stream_write: at the end, atomically */
    BLY_STREAM_SYNC = 4     /* stream_write: data is on disk when it returns */
};
#define BLY_AT_CURRENT UINT64_MAX /* offset for streams that have no positions (pipes, terminals) */
enum bly_rename_flags { BLY_RENAME_NO_REPLACE = 1, BLY_RENAME_EXCHANGE = 2 };
enum bly_delete_flags { BLY_DELETE_DIRECTORY = 1 };
enum bly_flush_flags {
    BLY_FLUSH_DATA_ONLY = 1,
    BLY_FLUSH_FILE_SYSTEM = 2, /* all of the one that the stream lies in */
    BLY_FLUSH_BEGIN = 4,       /* writing its data out begins; nothing is waited for, and nothing is promised */
};
enum bly_allocate_mode { BLY_ALLOCATE_KEEP_SIZE = 1, BLY_ALLOCATE_PUNCH_HOLE = 2, BLY_ALLOCATE_COLLAPSE = 8, BLY_ALLOCATE_ZERO = 16, BLY_ALLOCATE_INSERT = 32 };
enum bly_seek_whence { BLY_SEEK_SET = 0, BLY_SEEK_CURRENT = 1, BLY_SEEK_END = 2, BLY_SEEK_DATA = 3, BLY_SEEK_HOLE = 4 };
enum bly_named_flags { BLY_NAMED_CREATE = 1, BLY_NAMED_REPLACE = 2, BLY_NAMED_REMOVE = 4 };
/* stream_open: -ENOENT, -EACCES (policy or host permissions), -EROFS (granted read-only), -ELOOP (a component is a symbolic
 *   link), -EEXIST, -EISDIR, -ENOTDIR, -ENXIO (a FIFO, socket or device that is not granted), -EMFILE, -ENOSPC, -EIO.
 * stream_create(uri, kind, mode, target): makes a directory, symbolic link (`target` is its text), hard link (`target` is the
 *   URI of the existing file on the same mount), or the mere name of a FIFO or socket.
 * stream_read/stream_write [interruptible where they wait]: at `offset`, or BLY_AT_CURRENT. Return bytes moved; 0 at end.
 * stream_map: as memory_map, with the stream's contents.
 * stream_seek: DATA and HOLE: the next offset of data or of a hole at or after `offset`; -ENXIO past the end. SET, CURRENT and END move the
 *   position that BLY_AT_CURRENT means, which everybody shares who holds the stream, programs outside the sandbox too; `offset` is
 *   signed then; -EINVAL before the start, -ESPIPE on what has no position. Returns the new position in all cases.
 * stream_set: by handle, or by URI when `stream` is BLY_NO_HANDLE (a symbolic link's own attributes then). Owner changes are refused
 *   (-EPERM): the personality remembers them.
 * stream_enumerate: fills `buffer` with records of Linux's `struct linux_dirent64`; `*cursor` is 0 at the start and opaque
 *   afterwards. Returns bytes, 0 at the end.
 * stream_get_named/set_named: extended attributes in the `user.` name space; get with an empty name lists them. */

/* ---- Processes ------------------------------------------------------------------------------------------------ */

/* process_clone(flags, &id): a copy-on-write copy of this picoprocess with the calling thread only. Returns 1 in the
 *   parent, 0 in the child. In both *out_process_id is the child's process id (its leader thread has the same id). -EAGAIN at the limit.
 * process_exit(status): ends the picoprocess and all its threads at once.
 * process_wait(&end, deadline) [interruptible]: for the first picoprocess of the sandbox (the parent of all): waits until one
 *   has ended. -ECHILD when there is none, -ETIMEDOUT. */
struct bly_process_end {
    uint32_t process_id;
    int32_t exit_status; /* as passed to process_exit, when signal is 0 */
    int32_t signal;      /* host signal that ended it by force, or 0 */
    uint32_t reserved;
};

/* ---- Clocks, randomness, system ------------------------------------------------------------------------------- */

/* All but the real-time and CPU-time clocks go on where they stood when a suspended sandbox is resumed, also on another machine: the host
 * layer adds start_info.clock_offset_ns, and deadlines are in the same time. */

enum bly_clock { BLY_CLOCK_REALTIME, BLY_CLOCK_MONOTONIC, BLY_CLOCK_BOOT_TIME, BLY_CLOCK_PROCESS_CPU /* id: process */, BLY_CLOCK_THREAD_CPU /* id: thread */,
                 BLY_CLOCK_MONOTONIC_RAW, BLY_CLOCK_REALTIME_COARSE, BLY_CLOCK_MONOTONIC_COARSE };
enum bly_segment { BLY_SEGMENT_FS, BLY_SEGMENT_GS };
enum bly_log_level { BLY_LOG_ERROR, BLY_LOG_WARNING, BLY_LOG_INFO, BLY_LOG_DEBUG, BLY_LOG_TRACE /* `bailey trace` lines */ };
struct bly_system_info {
    uint32_t cpu_count;      /* CPUs the sandbox may use */
    uint32_t reserved;
    uint64_t memory_limit;   /* bytes: --memory, else the host's memory */
    uint64_t memory_free;    /* bytes, host */
    uint64_t load_average[3]; /* host, 16.16 fixed point */
};

/* ---- The vtable and the upcalls ------------------------------------------------------------------------------- */

#define BLY_GROUP(name, title)
#define BLY_CALL(type, name, parameters, arguments, format) type(*name) parameters;
struct bly_abi {
    uint32_t version; /* BLY_ABI_VERSION */
    uint32_t size;    /* sizeof(struct bly_abi) */
#include <bailey/abi.def>
};
#undef BLY_GROUP
#undef BLY_CALL

enum bly_exception_kind {
    BLY_EXCEPTION_SYSCALL,  /* a system-call instruction at context->rip - 2 trapped; rax is still the number */
    BLY_EXCEPTION_MEMORY,   /* fault_address; error_code as the CPU's page-fault code; detail = si_code */
    BLY_EXCEPTION_BUS,      /* past the end of a mapped stream, or unaligned */
    BLY_EXCEPTION_ILLEGAL,
    BLY_EXCEPTION_ARITHMETIC,
    BLY_EXCEPTION_BREAKPOINT /* int3 or single step; detail = si_code */
};
struct bly_exception {
    uint32_t kind;
    int32_t detail;   /* the host's si_code */
    uint64_t address; /* the host's si_addr */
    uint32_t arch_is_foreign; /* SYSCALL: int 0x80 and the like: answer -ENOSYS, never serve */
    uint32_t reserved;
};

/* What a personality gives. exception and interrupt run on the thread's signal stack with further interrupts held off; they may
 * change `context`, and returning continues there (this is how a system call is redirected to the personality's entry).
 * exception: may nest once inside itself or inside interrupt when a copy routine of the personality faults.
 * interrupt: called for every interrupt, after interrupt_pending was set, also when context->rip lies in the image (host layer included):
 *   the personality then looks whether the thread is just leaving for the program (its exit code, or thread_restore) and rewinds it,
 *   else changes nothing. thread_restore may therefore be abandoned at any instruction at which it can be interrupted. */
struct bly_start_info;
struct bly_upcalls {
    void (*start)(const struct bly_abi *abi, const struct bly_start_info *info); /* first picoprocess only; does not return */
    void (*thread_start)(uint64_t argument);                                      /* does not return */
    void (*exception)(struct bly_context *context, const struct bly_exception *exception);
    void (*interrupt)(struct bly_context *context);
};
/* Defined by the personality; the host layer links to it. */
extern const struct bly_upcalls bly_personality;

#endif
