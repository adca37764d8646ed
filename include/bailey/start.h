/* What the monitor tells a new sandbox: one read-only block at BLY_START_INFO. Strings are given as offsets from its start,
 * NUL-terminated; lists of strings as the offset of the first and a count (they follow each other). The monitor
 * is trusted by the picoprocess, so the reader need not check. */
#ifndef BAILEY_START_H
#define BAILEY_START_H

#include <bailey/abi.h>

#define BLY_START_MAGIC 0x0079656c696162ull /* "bailey" */
#define BLY_START_SIZE (1ull << 20)

enum bly_mount_flags {
    BLY_MOUNT_LAYERED = 1, /* the private writable layer lies over it; the folder itself is not written, names and attributes may be cached */
    BLY_MOUNT_READ_ONLY = 2,
    BLY_MOUNT_FILE = 4,    /* the grant is a single file */
    BLY_MOUNT_STORE = 8    /* --layer: not shown to programs; the private layers are kept here */
};
/* One granted host folder (or file). URIs name it by its index in the list. Listed parents first. */
struct bly_start_mount {
    uint32_t guest_path; /* offset */
    uint32_t flags;
    uint32_t host_path;  /* offset: for messages and /proc/mounts only */
    uint32_t attributes; /* offset of a struct bly_attributes: what stream_walk of the grant itself would tell; 0: ask */
};
/* Symbolic links, empty folders and small text files of the initial root that no host folder gives (/bin -> usr/bin, /etc/hostname). */
enum bly_start_node_kind { BLY_NODE_DIRECTORY, BLY_NODE_SYMLINK, BLY_NODE_TEXT };
struct bly_start_node {
    uint32_t path;    /* offset */
    uint32_t kind;
    uint32_t mode;
    uint32_t content; /* offset of the link's target or the file's text */
};
struct bly_start_stream {
    bly_handle handle; /* BLY_NO_HANDLE: not given (reads as end, writes are lost like /dev/null) */
    uint32_t kind;     /* BLY_KIND_FILE, _PIPE, _CHARACTER or _TTY: then all stdio is the sandbox's own terminal, see terminal */
    uint32_t access;
    uint32_t flags;    /* enum bly_start_stream_flags */
    uint64_t position; /* Of a CHARACTER: which of the host's memory devices it is, by Linux's minor number: 3 null, 5 zero, 7 full,
                        * 8 random, 9 urandom. The personality's own device of that name does the same.
                        * Of a FILE: where the operator's descriptor stands. Reading and writing it at BLY_AT_CURRENT moves that shared
                        * position along, as a program run natively would: prefer it until the program seeks */
};
enum bly_start_stream_flags {
    BLY_START_STREAM_APPEND = 1, /* a FILE opened with O_APPEND: write with BLY_STREAM_APPEND */
    BLY_START_STREAM_SAME = 2    /* standard error only: the same stream as standard output (2>&1) */
};
enum bly_start_flags {
    BLY_START_TERMINAL = 1,      /* run with the terminal below as controlling tty of the first program */
    BLY_START_TRACE_SYSCALLS = 2,
    BLY_START_TRACE_ABI = 4,
    BLY_START_READ_ONLY = 8,     /* --read-only: no writable layer over the root, /tmp and /run excepted */
    BLY_START_CONFINED_SIGNALS = 16, /* thread_interrupt reaches other picoprocesses without the monitor */
    BLY_START_NO_PATCHING = 32,  /* never patch call sites (debugging, measuring) */
    BLY_START_AUDIT = 64,        /* report writes that are refused without asking the monitor: BLY_CONTROL_REFUSED */
    BLY_START_RESUME = 128,      /* heap and bulk segment hold a suspended sandbox: go on with it. `extents` is given */
    BLY_START_CPUID_LIMITED = 256, /* programs are to see the processor that `cpuid` describes and no other: what is not in it is zero */
    BLY_START_CPUID_FAULTS = 512,  /* the host layer makes CPUID fault in programs (arch_prctl(2): ARCH_SET_CPUID): an exception of kind MEMORY */
    BLY_START_HOST_NAME = 1024,    /* with BLY_START_RESUME: `host_name` replaces the one that the sandbox had */
    BLY_START_ARRIVING = 2048      /* with BLY_START_RESUME: private memory may not be in the image yet: memory_load before it is touched */
};
/* An answer of the CPUID instruction. */
struct bly_cpuid {
    uint32_t leaf, subleaf; /* subleaf 0 where the leaf has none */
    uint32_t eax, ebx, ecx, edx;
};
/* Whether the answer depends on ECX. */
static inline bool bly_cpuid_has_subleafs(uint32_t leaf)
{
    const uint64_t basic = 1ull << 0x04 | 1ull << 0x07 | 1ull << 0x0b | 1ull << 0x0d | 1ull << 0x0f | 1ull << 0x10 | 1ull << 0x12 | 1ull << 0x14 | 1ull << 0x17 |
                           1ull << 0x18 | 1ull << 0x1b | 1ull << 0x1d | 1ull << 0x1e | 1ull << 0x1f | 1ull << 0x20 | 1ull << 0x23 | 1ull << 0x24;
    if (leaf < 64)
        return basic >> leaf & 1;
    return leaf == 0x8000001d || leaf == 0x80000020 || leaf == 0x80000026 || (leaf >= 0x40000000 && leaf < 0x80000000);
}

struct bly_start_info {
    uint64_t magic;
    uint32_t version; /* BLY_ABI_VERSION */
    uint32_t flags;
    uint32_t mounts, mount_count;      /* offset of struct bly_start_mount[] */
    uint32_t nodes, node_count;        /* offset of struct bly_start_node[] */
    uint32_t arguments, argument_count;
    uint32_t environment, environment_count;
    uint32_t program;    /* offset: what to run, as the user named it; searched in PATH of the environment */
    uint32_t directory;  /* offset: working directory */
    uint32_t host_name;
    uint32_t sandbox_name;
    uint32_t user, group; /* --user; 0 */
    struct bly_start_stream standard[3];
    bly_handle terminal_input, terminal_output; /* with BLY_START_TERMINAL: bytes from and to the user's terminal */
    uint16_t terminal_rows, terminal_columns;
    uint32_t reserved0;
    bly_handle control;   /* records from the monitor: struct bly_control */
    bly_handle wake_pool; /* first of wake_pool_count consecutive `event:` handles, held by every picoprocess */
    uint32_t wake_pool_count;
    bly_handle heap, bulk; /* the shared segments, for stream_map; already mapped at BLY_HEAP_START and BLY_BULK_START */
    bly_handle watch;      /* events of watched folders (BLY_WALK_WATCH), never waits; BLY_NO_HANDLE: nothing can be watched */
    uint32_t reserved3;
    uint64_t memory_limit; /* bytes, 0: none */
    uint32_t process_limit; /* 0: none */
    uint32_t open_file_limit;
    uint64_t random_seed[4];
    uint64_t boot_time_ns;  /* BLY_CLOCK_MONOTONIC when the sandbox started */
    uint64_t total_size;
    uint32_t cpuid, cpuid_count; /* offset of struct bly_cpuid[]: what the processor says, as far as it was asked */
    uint32_t cpuid_is_slow;      /* the instruction takes longer than a breakpoint: it traps in the host's hypervisor */
    uint32_t reserved2;
    uint64_t vector_features; /* with BLY_START_CPUID_LIMITED: of XCR0, those that the described processor has; else all bits */
    /* Fault injection, for tests: the fault_number-th use (from 1) of the ABI call of this name answers fault_error (negative errno). */
    uint32_t fault_call; /* offset of the name; 0: none */
    uint32_t fault_number;
    int32_t fault_error;
    uint32_t generation; /* how often this sandbox has been resumed; 0: started */
    /* Added to the host's monotonic clocks, so that they go on where the suspended sandbox's stood. boot_time_ns is in the sum's terms. */
    int64_t clock_offset_ns;
    /* With BLY_START_RESUME. Where the picoprocesses' private memory lies in the files of the image: for each a struct bly_resume_space and its
     * extents, one after another (docs/image-format.md). */
    bly_handle extents;
    uint32_t reserved4;
};
struct bly_resume_space {
    uint32_t process; /* id of the picoprocess at its suspension (struct thread.process_id) */
    uint32_t reserved;
    uint64_t extent_count;
};
/* Memory [address, address + size) is as [offset, offset + size) of `image`, which is to be mapped. */
struct bly_resume_extent {
    uint64_t address, offset, size;
    bly_handle image;
    uint32_t reserved;
};

static inline const char *bly_start_string(const struct bly_start_info *info, uint32_t offset)
{
    return (const char *)info + offset;
}

/* Records the monitor sends on the control stream (one read each; a datagram stream). The sandbox's init answers EXECUTE and
 * END_OF_PROGRAM on the same stream. */
enum bly_control_kind {
    BLY_CONTROL_SIGNAL = 1,  /* value: Linux signal number, for the main program (process: 0) or the program started by exec (its token) */
    BLY_CONTROL_WINDOW_SIZE, /* rows, columns of the terminal `terminal` */
    BLY_CONTROL_EXECUTE,     /* a further program: `size` bytes of payload follow in the same record: struct bly_control_execute */
    BLY_CONTROL_STOP,        /* end every program: SIGTERM to all, then (after value ms) SIGKILL */
    BLY_CONTROL_TRACE,       /* value: new trace flags (BLY_START_TRACE_*) */
    BLY_CONTROL_QUIESCE,     /* park every thread within `value` ms: answered with BLY_CONTROL_QUIESCED. From then on nothing changes until THAW.
                              * flags: enum bly_quiesce_flags */
    BLY_CONTROL_THAW,        /* go on. Not answered */
    BLY_CONTROL_LIST,        /* list the guest's processes: answered with BLY_CONTROL_LISTING records */
    /* from the sandbox to the monitor */
    BLY_CONTROL_STARTED = 64, /* token, value: guest pid */
    BLY_CONTROL_ENDED,        /* token, value: wait status as wait(2) encodes it. Token 0 is the main program: the sandbox then ends */
    BLY_CONTROL_FAILED,       /* token, value: negative errno; text follows: why the program could not be started */
    BLY_CONTROL_LISTING,      /* text follows: one process a line; value 0 ends the list */
    BLY_CONTROL_REFUSED,      /* value: negative errno; text follows: the path that was not to be written */
    BLY_CONTROL_QUIESCED,     /* value 0: uint32_t[] follows, the ids of the picoprocesses that hold private memory (never the first one); with
                               * BLY_QUIESCE_CLONE as many ids again: of their clones, or with BLY_QUIESCE_TRACK the numbers; 0 where there is none. Else a
                               * negative errno; text follows: what does not come to rest. Then everything goes on */
    BLY_CONTROL_RESUMED,      /* the resumed sandbox runs: value 0; or a negative errno; text follows: what could not be made again */
    BLY_CONTROL_PANIC         /* text follows: the personality cannot go on */
};
enum bly_quiesce_flags {
    BLY_QUIESCE_CLONE = 1, /* each picoprocess with private memory is cloned, copy-on-write. The clones do nothing; the monitor kills them */
    BLY_QUIESCE_TRACK = 2  /* memory_track is called in each picoprocess with private memory */
};
#define BLY_CONTROL_MAX 65536
struct bly_control {
    uint32_t kind;
    uint32_t token;  /* identifies a program started by EXECUTE; 0 is the main program */
    int32_t value;
    uint16_t rows, columns;
    uint32_t size;   /* bytes that follow */
    uint32_t flags;
};
/* Payload of EXECUTE; offsets are from the start of this struct. */
struct bly_control_execute {
    uint32_t arguments, argument_count;
    uint32_t environment, environment_count;
    uint32_t program, directory;
    uint32_t user, group;
    uint32_t flags; /* BLY_START_TERMINAL */
    struct bly_start_stream standard[3];
    bly_handle terminal_input, terminal_output;
    uint16_t terminal_rows, terminal_columns;
    uint32_t total_size;
};

#endif
