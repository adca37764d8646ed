/* Threads: areas, birth and death, interruption, placement, restoring a register state.
 *
 * Invariant: a thread that can receive the interrupt signal has its segment base and its signal
 * stack set. Signals are therefore blocked from before clone until the child has armed itself, and
 * from before exit on. */

#include "host.h"
#include "layout_asm.h"
#include <asm/mman.h>
#include <asm/prctl.h>
#include <asm/signal.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <linux/mman.h>
#include <linux/sched.h>

_Static_assert(HOST_THREAD_AREA_SIZE == BLY_THREAD_AREA_SIZE &&
                   HOST_THREAD_BLOCK_OFFSET == BLY_THREAD_BLOCK_OFFSET,
               "layout_asm.h");
_Static_assert(BLY_THREADS_END - BLY_THREADS_START == HOST_AREA_COUNT * BLY_THREAD_AREA_SIZE, "");
_Static_assert(offsetof(struct bly_thread_block, interrupt_pending) == HOST_BLOCK_INTERRUPT_PENDING,
               "layout_asm.h");
_Static_assert(offsetof(struct bly_thread_block, self) == 0x00 &&
                   offsetof(struct bly_thread_block, kernel_stack_top) == 0x08 &&
                   offsetof(struct bly_thread_block, entry) == 0x10 &&
                   offsetof(struct bly_thread_block, user_stack) == 0x18 &&
                   offsetof(struct bly_thread_block, personality_thread) == 0x20 &&
                   offsetof(struct bly_thread_block, stack_protector) == 0x28 &&
                   offsetof(struct bly_thread_block, scratch) == 0x30 &&
                   offsetof(struct bly_thread_block, thread_id) == 0x50 &&
                   offsetof(struct bly_thread_block, personality_data) == 0x60 &&
                   offsetof(struct bly_thread_block, host_private) == 0x1c0,
               "abi.h promises these offsets to assembly");
_Static_assert(BLY_THREAD_BLOCK_OFFSET + sizeof(struct bly_thread_block) <=
                       BLY_SIGNAL_STACK_OFFSET - BLY_PAGE_SIZE &&
                   BLY_THREAD_BLOCK_OFFSET == BLY_KERNEL_STACK_OFFSET + BLY_KERNEL_STACK_SIZE,
               "the block fills what the stack leaves of its top page");
_Static_assert(sizeof(struct host_thread) <= sizeof((struct bly_thread_block *)0)->host_private,
               "");

#define THREAD_FLAGS                                                                               \
    (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |            \
     CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID)

static uint64_t signals_set(uint64_t mask)
{
    uint64_t old = 0;
    sys4(__NR_rt_sigprocmask, SIG_SETMASK, &mask, &old, sizeof mask);
    return old;
}

/* ---- Areas ---- */

static int area_map(uint32_t area)
{
    char *base = host_area_base(area);
    const struct {
        uint64_t offset, size;
    } stacks[] = {
        {BLY_KERNEL_STACK_OFFSET, BLY_SIGNAL_STACK_OFFSET - BLY_PAGE_SIZE - BLY_KERNEL_STACK_OFFSET},
        {BLY_SIGNAL_STACK_OFFSET, BLY_SIGNAL_STACK_SIZE},
    };
    for (int i = 0; i < 2; i++) {
        long result =
            sys6(__NR_mmap, base + stacks[i].offset, stacks[i].size, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
        if (result < 0) {
            sys2(__NR_munmap, base, BLY_THREAD_AREA_SIZE);
            return (int)result;
        }
    }
    return 0;
}

/* Maps the area if need be and reserves it; area_lock is held. */
static int area_take(uint32_t area)
{
    struct host_area *entry = &host_tables->areas[area];
    if (entry->state == HOST_AREA_UNMAPPED) {
        int error = area_map(area);
        if (error)
            return error;
        entry->state = HOST_AREA_USED;
    }
    entry->tid = HOST_AREA_RESERVED;
    return 0;
}

int host_area_acquire(uint32_t *out_area)
{
    struct host_area *areas = host_tables->areas;
    host_lock(&host_locks->area);
    uint32_t area = HOST_AREA_COUNT;
    for (uint32_t i = 0; i < host.area_high; i++) {
        uint32_t candidate = (host.area_next + i) % host.area_high;
        if (areas[candidate].state == HOST_AREA_UNMAPPED || areas[candidate].tid == 0) {
            area = candidate;
            host.area_next = candidate + 1;
            break;
        }
    }
    if (area == HOST_AREA_COUNT && host.area_high < HOST_AREA_COUNT)
        area = host.area_high++;
    int error = area < HOST_AREA_COUNT ? area_take(area) : -EAGAIN;
    if (!error)
        *out_area = area;
    host_unlock(&host_locks->area);
    return error;
}

/* The area whose block lies at `place`. */
static int area_acquire_at(const struct bly_thread_block *place, uint32_t *out_area)
{
    uint64_t distance = BLY_THREADS_END - ((uint64_t)place - BLY_THREAD_BLOCK_OFFSET);
    if (distance % BLY_THREAD_AREA_SIZE || distance == 0 || distance / BLY_THREAD_AREA_SIZE > HOST_AREA_COUNT)
        return -EINVAL;
    uint32_t area = (uint32_t)(distance / BLY_THREAD_AREA_SIZE) - 1;
    host_lock(&host_locks->area);
    const struct host_area *entry = &host_tables->areas[area];
    int error = entry->state == HOST_AREA_USED && entry->tid != 0 ? -EBUSY : area_take(area);
    if (!error) {
        if (host.area_high <= area)
            host.area_high = area + 1;
        *out_area = area;
    }
    host_unlock(&host_locks->area);
    return error;
}

void host_block_fill(struct bly_thread_block *block, uint32_t area, uint32_t process_id)
{
    host_zero(block, sizeof *block);
    block->self = block;
    block->kernel_stack_top = (uint64_t)block;
    block->process_id = process_id;
    host_thread_of(block)->area = area;
}

/* ---- Birth and death ---- */

static void set_gs_base(uint64_t base)
{
    if (host.has_fsgsbase)
        __asm__ volatile("wrgsbase %0" : : "r"(base));
    else
        sys2(__NR_arch_prctl, ARCH_SET_GS, base);
}

static uint64_t get_gs_base(void)
{
    uint64_t base = 0;
    if (host.has_fsgsbase)
        __asm__ volatile("rdgsbase %0" : "=r"(base));
    else
        sys2(__NR_arch_prctl, ARCH_GET_GS, &base);
    return base;
}

void host_set_block_segment(struct bly_thread_block *block)
{
    if (get_gs_base() != (uint64_t)block)
        set_gs_base((uint64_t)block);
}

void host_thread_arm(struct bly_thread_block *block)
{
    host_set_block_segment(block);
    stack_t stack = {.ss_sp = host_signal_stack(block), .ss_size = BLY_SIGNAL_STACK_SIZE};
    sys2(__NR_sigaltstack, &stack, NULL);
}

_Noreturn void host_thread_begin(void)
{
    struct bly_thread_block *block = host_block();
    block->thread_id = host_tables->areas[host_thread_of(block)->area].tid;
    host_segment_base_set(BLY_SEGMENT_FS, 0);
    host_thread_arm(block);
    signals_set(0);
    bly_personality.thread_start(host_thread_of(block)->argument);
    host_thread_exit();
    __builtin_unreachable();
}

int host_thread_create(uint64_t argument, struct bly_thread_block *place, uint32_t *out_thread_id)
{
    uint32_t area;
    int error = place ? area_acquire_at(place, &area) : host_area_acquire(&area);
    if (error)
        return error;
    struct bly_thread_block *block = host_area_block(area), *own = host_block();
    host_block_fill(block, area, own->process_id);
    block->entry = own->entry;
    block->stack_protector = own->stack_protector;
    host_thread_of(block)->argument = argument;
    uint32_t *tid = (uint32_t *)&host_tables->areas[area].tid;
    uint64_t mask = signals_set(~0ull);
    long result = host_clone_thread(THREAD_FLAGS, (void *)block->kernel_stack_top, tid, tid);
    if (result < 0)
        host_tables->areas[area].tid = 0;
    else if (out_thread_id)
        *out_thread_id = (uint32_t)result;
    signals_set(mask);
    return result < 0 ? (int)result : 0;
}

void host_thread_exit(void)
{
    struct bly_thread_block *block = host_block();
    signals_set(~0ull);
    /* The leader must outlive the others: the picoprocess is known by its id, and a dead leader is
     * a zombie that cannot be waited for. It sleeps until process_exit ends it. (See also
     * process.c.) */
    uint32_t forever = 0;
    while (host_thread_of(block)->parks)
        sys6(__NR_futex, &forever, FUTEX_WAIT_BITSET, 0, 0, 0, FUTEX_BITSET_MATCH_ANY);
    for (;;)
        sys1(__NR_exit, 0);
}

void host_thread_yield(void)
{
    sys0(__NR_sched_yield);
}

/* ---- Reaching threads ---- */

int host_thread_interrupt(uint32_t process_id, uint32_t thread_id)
{
    if ((int32_t)process_id <= 0 || (int32_t)thread_id <= 0)
        return -EINVAL;
    if (host_info->flags & BLY_START_CONFINED_SIGNALS)
        return (int)sys3(__NR_tgkill, process_id, thread_id, BLY_INTERRUPT_SIGNAL);
    struct host_rpc rpc = {.operation = BLY_RPC_INTERRUPT, .u = {process_id, thread_id}};
    return (int)host_rpc_call(&rpc);
}

int host_thread_set_affinity(uint32_t thread_id, const void *mask, size_t mask_size)
{
    if (thread_id == host_block()->thread_id)
        thread_id = 0;
    return (int)sys3(__NR_sched_setaffinity, thread_id, mask_size, mask);
}

int host_thread_get_affinity(uint32_t thread_id, void *mask, size_t mask_size)
{
    if (thread_id == host_block()->thread_id)
        thread_id = 0;
    return (int)sys3(__NR_sched_getaffinity, thread_id, mask_size, mask);
}

uint32_t host_thread_current_cpu(void)
{
    unsigned cpu = 0;
    if (host.vdso_getcpu)
        host.vdso_getcpu(&cpu, NULL, NULL);
    else
        sys3(__NR_getcpu, &cpu, NULL, NULL);
    return cpu;
}

int host_thread_barrier(unsigned kind)
{
    if (kind != BLY_BARRIER_MEMORY && kind != BLY_BARRIER_CODE)
        return -EINVAL;
    bool code = kind == BLY_BARRIER_CODE;
    long command =
        code ? MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE : MEMBARRIER_CMD_PRIVATE_EXPEDITED;
    long result = sys3(__NR_membarrier, command, 0, 0);
    if (result != -EPERM)
        return (int)result;
    /* Not registered: the registration at start is not inherited by clones on every kernel. */
    result = sys3(__NR_membarrier,
                  code ? MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE
                       : MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED,
                  0, 0);
    return result < 0 ? (int)result : (int)sys3(__NR_membarrier, command, 0, 0);
}

/* ---- Restoring a register state ---- */

#define UC_FP_XSTATE 1
#define UC_SIGCONTEXT_SS 2
#define UC_STRICT_RESTORE_SS 4
#define XSTATE_MAGIC1 0x46505853u
#define XSTATE_MAGIC2 0x46505845u
#define FXSAVE_SIZE 512u
#define VECTOR_STATE_MAX 16384u

struct host_frame { /* struct rt_sigframe */
    uint64_t return_address;
    uint64_t flags, link;
    stack_t stack;
    struct bly_context context;
    uint64_t mask;
};
_Static_assert(offsetof(struct host_frame, mask) == 8 + 40 + 256, "as the kernel lays it out");

/* Software bytes at 464 of the FXSAVE area (struct _fpx_sw_bytes). */
struct vector_header {
    uint32_t magic1, extended_size;
    uint64_t features;
    uint32_t state_size, padding[7];
};

/* Makes an image acceptable to the processor: what it would fault on comes from the program, and
 * the fault would be ours. */
static void vector_state_clean(unsigned char *image, bool extended)
{
    uint32_t *mxcsr = (uint32_t *)(image + 24);
    *mxcsr &= host.mxcsr_mask;
    if (!extended)
        return;
    uint64_t *header = (uint64_t *)(image + FXSAVE_SIZE);
    header[0] &= host.vector_features;
    for (int i = 1; i < 8; i++)
        header[i] = 0;
}

void host_thread_restore(const struct bly_context *context)
{
    struct bly_thread_block *block = host_block();
    unsigned char copy[VECTOR_STATE_MAX + 64];
    struct host_frame frame = {
        .flags = UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS,
        .stack = {.ss_sp = host_signal_stack(block), .ss_size = BLY_SIGNAL_STACK_SIZE},
    };
    host_copy(&frame.context, context, sizeof *context);
    frame.context.cs = 0x33; /* the 64-bit user code and stack segments of Linux */
    frame.context.ss = 0x2b;
    frame.context.gs = frame.context.fs = 0;
    unsigned char *image = context->vector_state;
    if (image) {
        const struct vector_header *header = (const void *)(image + 464);
        size_t size = FXSAVE_SIZE;
        bool extended = false;
        if (header->magic1 == XSTATE_MAGIC1 && header->extended_size >= FXSAVE_SIZE + 64 + 4 &&
            header->extended_size <= VECTOR_STATE_MAX) {
            uint32_t end;
            host_copy(&end, image + header->extended_size - 4, sizeof end);
            extended = end == XSTATE_MAGIC2;
            size = extended ? header->extended_size : size;
        }
        /* XRSTOR wants 64 bytes of alignment. */
        if ((uint64_t)image & 63) {
            unsigned char *aligned = (unsigned char *)(((uint64_t)copy + 63) & ~63ull);
            host_copy(aligned, image, size);
            image = aligned;
        }
        vector_state_clean(image, extended);
        frame.context.vector_state = image;
    }
    host_restore(&frame);
}

int host_segment_base_set(unsigned segment, uint64_t base)
{
    if (segment > BLY_SEGMENT_GS)
        return -EINVAL;
    if (base >= 1ull << 47)
        return -EPERM; /* arch_prctl(2) */
    if (segment == BLY_SEGMENT_GS)
        set_gs_base(base);
    else if (host.has_fsgsbase)
        __asm__ volatile("wrfsbase %0" : : "r"(base));
    else
        return (int)sys2(__NR_arch_prctl, ARCH_SET_FS, base);
    return 0;
}

int host_segment_base_get(unsigned segment, uint64_t *out_base)
{
    if (segment > BLY_SEGMENT_GS)
        return -EINVAL;
    if (segment == BLY_SEGMENT_GS)
        *out_base = get_gs_base();
    else if (host.has_fsgsbase)
        __asm__ volatile("rdfsbase %0" : "=r"(*out_base));
    else
        return (int)sys2(__NR_arch_prctl, ARCH_GET_FS, out_base);
    return 0;
}
