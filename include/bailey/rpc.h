/* The wire between host layer and monitor: one shared page range of slots, a doorbell a worker, and a socket a slot for
 * descriptors. Both sides belong to Bailey, but the monitor treats every byte here as hostile: a request is copied once,
 * then checked, then served.
 *
 * A caller claims a free slot (compare-and-swap of `state`), fills the request, sets its bit in the doorbell of the worker
 * that serves its CPU and wakes it; it sleeps on `state`. When the reply says so, one descriptor waits in the slot's socket
 * (SCM_RIGHTS with one byte of data). Slots whose owner died are freed by the monitor when it is told of the death.
 *
 * In steps, C the caller, W the worker `cpu % worker_count`:
 *   C  CAS slot.state FREE -> FILLING; none free: free_waiters++, futex wait on free_sequence (value read before the search), again
 *   C  fills owner, owner_process, operation, data_size, u, data; state = SUBMITTED (release); bits |= 1 << slot (seq_cst);
 *      if (asleep (seq_cst)) futex wake 1 on `bits`
 *   W  bits = exchange(bits, 0); none: asleep = 1 (seq_cst), futex wait on `bits` while 0, asleep = 0, again
 *   W  for each slot that is SUBMITTED: copies, checks, serves, sends the descriptor, writes the reply; state = DONE (release), futex wake 1
 *      on `state`. (CLOSE and PROCESS_ENDED with u[1] == 1: frees the slot instead, as the caller does below.)
 *   C  waits on `state` until DONE (a signal does not end the wait: a served request is always answered), copies the reply, receives
 *      the descriptor; owner_process = 0; state = FREE; free_sequence++; if (free_waiters) futex wake 1 on free_sequence
 * Futexes are shared ones (no FUTEX_PRIVATE_FLAG).
 *
 * While a sandbox starts, calls follow each other closely, and wakes would cost more than all else. So there are no workers at first: the
 * monitor's main thread serves all doorbells, and says in `eager` how. AWAKE: it looks at them without sleeping, or naps for a moment.
 * ASLEEP: it sleeps in its event loop after one more look; then C writes an empty log record. In both cases C spins on `state` for a moment
 * before it sleeps. The workers start after `eager` has become OFF, and first take what stands in the doorbells. */
#ifndef BAILEY_RPC_H
#define BAILEY_RPC_H

#include <bailey/abi.h>

#define BLY_RPC_SLOT_COUNT 8u
#define BLY_RPC_SLOT_SIZE 16384u
#define BLY_RPC_WORKER_MAX 8u
#define BLY_RPC_CLOSED_COUNT 256u
#define BLY_RPC_POSITION_LOCKS 32u

/* Indices of handles from here on are never issued by the monitor: wait sets, private to one picoprocess. */
#define BLY_LOCAL_HANDLE_FIRST 0xf0000u

/* The host signal behind thread_interrupt (SIGURG: ignored by programs that do not ask for it, and it does not queue up). */
#define BLY_INTERRUPT_SIGNAL 23

enum bly_rpc_state { BLY_RPC_FREE, BLY_RPC_FILLING, BLY_RPC_SUBMITTED, BLY_RPC_DONE };
enum bly_rpc_eager { BLY_RPC_EAGER_OFF, BLY_RPC_EAGER_AWAKE, BLY_RPC_EAGER_ASLEEP };
enum bly_rpc_operation {
    BLY_RPC_OPEN = 1,     /* u[0] access, u[1] options, u[2] mode; data: uri. Reply: u[0] handle, u[2] enum bly_rpc_stream, attributes in data, descriptor */
    BLY_RPC_CREATE,       /* u[0] kind, u[1] mode, u[2] size of uri; data: uri, target. Reply: attributes */
    BLY_RPC_WALK,         /* u: enum bly_walk_flags. data: uri. Reply: data: struct bly_walk_result, cut after link */
    BLY_RPC_DELETE,       /* u[0] flags; data: uri */
    BLY_RPC_RENAME,       /* u[0] flags, u[1] size of the first uri; data: both */
    BLY_RPC_QUERY,        /* u[0] handle. Reply: attributes. (fstat by handle: the monitor maps owners) */
    BLY_RPC_SET,          /* u[0] handle or 0, u[1] mask; data: struct bly_attributes, uri */
    BLY_RPC_GET_NAMED,    /* u[0] size of uri, u[1] buffer size; data: uri, name + NUL. Reply: value */
    BLY_RPC_SET_NAMED,    /* u[0] size of uri, u[1] flags, u[2] size of the name with NUL; data: uri, name, value */
    BLY_RPC_FETCH,        /* u[0] handle. Reply: u[0] kind, u[1] access, u[2] enum bly_rpc_stream, descriptor: another picoprocess's handle is used here first */
    BLY_RPC_CLOSE,        /* u[0] handle: the monitor drops its master. No reply is waited for when u[1] is 1 */
    BLY_RPC_INTERRUPT,    /* u[0] process, u[1] thread: where signals are not confined */
    BLY_RPC_SYSTEM_QUERY, /* Reply: struct bly_system_info */
    BLY_RPC_PROCESS_ENDED,/* u[0] process: from the first picoprocess only: free its slots. No reply is waited for when u[1] is 1 */
    BLY_RPC_CPU_TIME,     /* u[0] process: where ids are the host's. Reply: u[0] nanoseconds */
    BLY_RPC_LOAD,         /* u[0] enum bly_load_source, u[1] offset, u[2] size, u[3] enum bly_load_flags: of a resumed sandbox (abi.h: memory_load) */
    BLY_RPC_WRITE_OUT,    /* u[0] handle: its file begins to be written out (sync_file_range, which the filter lacks) */
    BLY_RPC_OPERATION_COUNT
};

enum bly_rpc_stream {
    BLY_RPC_STREAM_COHERENT = 1 /* a map of the file always shows what a read would get */
};

/* What fits in one request or reply after its header. */
#define BLY_RPC_DATA_SIZE (BLY_RPC_SLOT_SIZE - 128u)
struct bly_rpc_slot {
    _Atomic uint32_t state;
    uint32_t owner;       /* host thread id of the claimant, as the sandbox sees it */
    uint32_t operation;
    uint32_t data_size;   /* of the request, then of the reply */
    uint64_t u[6];        /* of the request, then of the reply */
    int64_t result;       /* reply: 0 or count, or negative errno */
    uint32_t has_descriptor; /* reply */
    uint32_t owner_process;  /* process id of the claimant (bly_thread_block.process_id): BLY_RPC_PROCESS_ENDED frees by it */
    uint32_t reserved[12];
    unsigned char data[BLY_RPC_DATA_SIZE];
};
struct bly_rpc_doorbell {
    _Atomic uint32_t bits;   /* a bit a slot */
    _Atomic uint32_t asleep; /* the worker waits on `bits` */
    uint32_t padding[14];
};
struct bly_rpc_channel {
    struct bly_rpc_doorbell doorbells[BLY_RPC_WORKER_MAX];
    uint32_t worker_count;
    _Atomic uint32_t free_waiters;     /* callers that wait for a free slot sleep on free_sequence */
    _Atomic uint32_t free_sequence;
    _Atomic uint32_t close_generation; /* rises whenever a master is dropped */
    /* From here on the callers' own; the monitor ignores it. Ring of the handles that were closed: the closer takes a number n of
     * closed_count and writes n << 32 | handle to closed[n % BLY_RPC_CLOSED_COUNT]; the others drop their copies of these. */
    _Atomic uint64_t closed[BLY_RPC_CLOSED_COUNT];
    _Atomic uint32_t closed_count;
    /* A stream's position is shared by all picoprocesses: held while stream_enumerate seeks and reads. Process id of the holder,
     * 0 when free; bit 31: somebody waits. The first picoprocess releases those of the dead. */
    _Atomic uint32_t position_locks[BLY_RPC_POSITION_LOCKS];
    _Atomic uint32_t eager; /* enum bly_rpc_eager */
    uint32_t padding[858 - 2 * BLY_RPC_CLOSED_COUNT];
    struct bly_rpc_slot slots[BLY_RPC_SLOT_COUNT];
};
_Static_assert(sizeof(struct bly_rpc_slot) == BLY_RPC_SLOT_SIZE, "a slot is a fixed size");

/* Descriptors that a picoprocess has once it has begun. It is executed with the first 18 and no others: the monitor prepares the rest
 * meanwhile and sends them on BLY_FD_CONTROL, in one record of one byte, in this order. A descriptor that is received gets the lowest number
 * that is free. */
#define BLY_WAKE_POOL_COUNT 16u
enum bly_start_descriptor {
    BLY_FD_CONTROL,
    BLY_FD_LOG,
    BLY_FD_WAKE_POOL, /* BLY_WAKE_POOL_COUNT of them */
    BLY_FD_RECEIVED = BLY_FD_WAKE_POOL + BLY_WAKE_POOL_COUNT,
    BLY_FD_START_INFO = BLY_FD_RECEIVED,
    BLY_FD_CHANNEL,
    BLY_FD_PRESET, /* memory of struct bly_preset[]: which descriptor serves which handle of the start information */
    BLY_FD_HEAP,
    BLY_FD_BULK,
    BLY_FD_SLOT_SOCKETS, /* BLY_RPC_SLOT_COUNT of them */
    BLY_FD_OTHERS = BLY_FD_SLOT_SOCKETS + BLY_RPC_SLOT_COUNT, /* standard streams, … as the presets say */
    BLY_FD_RECEIVED_END = BLY_FD_OTHERS + 24 /* at most: 5 streams, the watch, an image's files and the list of its extents */
};
/* What must be known before those descriptors come: the program's only argument has a letter for each that holds, BLY_MODE_LETTER + its bit. */
#define BLY_MODE_LETTER 'a'
enum bly_start_mode {
    BLY_MODE_SCOPED = 1,      /* no signal gets out of the sandbox, whether it has a pid namespace or not */
    BLY_MODE_CPUID_FAULTS = 2 /* the host layer makes CPUID fault in programs (arch_prctl(2): ARCH_SET_CPUID): an exception of kind MEMORY */
};
/* The list ends with the descriptor's last byte, or at handle 0. */
struct bly_preset {
    bly_handle handle;
    int32_t descriptor;
    uint32_t kind;
    uint32_t access;
};

/* BLY_FD_LOG is a pipe. A record is one write of at most BLY_LOG_RECORD_MAX bytes in all, so that records of different
 * picoprocesses do not mix (pipe(7): PIPE_BUF): this header, then `size` bytes of text without a newline at its end. The pipe may be
 * non-blocking at the monitor's end only: a writer waits while the monitor is behind. */
#define BLY_LOG_RECORD_MAX 4096u
struct bly_log_record {
    uint16_t size; /* 0: the record only wakes the monitor's main thread */
    uint8_t level; /* enum bly_log_level */
    uint8_t reserved;
    uint32_t process; /* process id of the writer; 0: not known */
};

#endif
