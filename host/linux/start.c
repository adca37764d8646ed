/* The way from the kernel's exec to the personality's start upcall.
 *
 * Order matters: everything that the filter forbids (mapping the segments by descriptor is allowed,
 * but prctl, signal handlers and the vDSO's move are not) comes before host_filter_install, and
 * what needs something of the monitor, which is still at work, behind it. Nothing the kernel placed
 * is left: its stack is exchanged for the first thread area, and the whole space outside the window
 * is unmapped. */

#include "host.h"
#include <asm/mman.h>
#include <asm/prctl.h>
#include <asm/stat.h>
#include <linux/auxvec.h>
#include <linux/membarrier.h>
#include <linux/mman.h>
#include <linux/poll.h>
#include <linux/resource.h>

struct host_state host;

#define HWCAP2_FSGSBASE 2
/* Start descriptors, and one for each thread that uses one uncached. */
#define DESCRIPTORS_OUTSIDE_CACHE 96

_Noreturn void host_fail(const char *what, long error)
{
    char text[128];
    size_t size = 0;
    for (const char *from = "host layer: "; *from;)
        text[size++] = *from++;
    while (*what && size < 100)
        text[size++] = *what++;
    for (const char *from = ": errno "; *from;)
        text[size++] = *from++;
    unsigned value = error < 0 ? (unsigned)-error : 0, scale = 1000;
    for (; scale; scale /= 10)
        text[size++] = (char)('0' + value / scale % 10);
    /* Perhaps not yet on a stack that leads to a block. */
    host_log_as((uint32_t)sys0(__NR_getpid), BLY_LOG_ERROR, text, size);
    for (;;)
        sys1(__NR_exit_group, 125);
}

static void must(const char *what, long result)
{
    if (result < 0)
        host_fail(what, result);
}

static void window_map(const char *what, uint64_t address, uint64_t size, int protection, int flags,
                       int descriptor)
{
    must(what, sys6(__NR_mmap, address, size, protection,
                    flags | MAP_FIXED_NOREPLACE | MAP_NORESERVE, descriptor, 0));
}

static void presets_take(void)
{
    struct bly_preset presets[BLY_FD_RECEIVED_END];
    struct bly_iovec part = {presets, sizeof presets};
    long size = sys6(__NR_preadv2, BLY_FD_PRESET, &part, 1, 0, 0, 0);
    must("presets", size);
    for (size_t i = 0; i < (size_t)size / sizeof *presets; i++)
        if (presets[i].handle != BLY_NO_HANDLE)
            host_handle_insert(presets[i].handle, presets[i].descriptor,
                               HOST_HANDLE_PINNED |
                                   (presets[i].kind == BLY_KIND_FILE ? HOST_HANDLE_FILE : 0));
}

static void fault_select(void)
{
    static const char *const names[] = {
#define BLY_GROUP(name, title)
#define BLY_CALL(type, name, parameters, arguments, format) #name,
#include <bailey/abi.def>
#undef BLY_GROUP
#undef BLY_CALL
    };
    host.fault_call = ~0u;
    if (!host_info->fault_call)
        return;
    const char *wanted = bly_start_string(host_info, host_info->fault_call);
    for (uint32_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t at = 0;
        while (names[i][at] && names[i][at] == wanted[at])
            at++;
        if (names[i][at] == wanted[at])
            host.fault_call = i;
    }
    host.fault_count = host_info->fault_number;
    host.fault_error = host_info->fault_error;
}

/* Until the monitor has prepared everything: for a while without sleeping, since being woken would
 * take longer. */
#define SPIN_CYCLES 1000000u /* some 0.4 ms */
#define PAUSES 30u           /* between two looks: 1 to 2 us */

static void descriptors_receive(void)
{
    unsigned char byte;
    struct bly_iovec vector = {&byte, 1};
    struct {
        size_t size;
        int32_t level, type;
        int32_t descriptors[BLY_FD_RECEIVED_END - BLY_FD_RECEIVED + 1];
    } control;
    struct host_message message = {
        .vector = &vector, .vector_count = 1, .control = &control, .control_size = sizeof control};
    struct pollfd poll = {.fd = BLY_FD_CONTROL, .events = POLLIN};
    const uint64_t start = __builtin_ia32_rdtsc();
    long result;
    while ((result = sys3(__NR_recvmsg, BLY_FD_CONTROL, &message,
                          HOST_MSG_DONTWAIT | HOST_MSG_CMSG_CLOEXEC)) == -EAGAIN) {
        if (__builtin_ia32_rdtsc() - start > SPIN_CYCLES)
            sys6(__NR_ppoll, &poll, 1, NULL, NULL, 0, 0);
        for (uint32_t i = 0; i < PAUSES; i++)
            __builtin_ia32_pause();
    }
    if (result == 0)
        host_process_exit(125); /* the monitor gave up, or is gone */
    must("descriptors", result);
    size_t count =
        (control.size - offsetof(typeof(control), descriptors)) / sizeof control.descriptors[0];
    if (message.control_size < sizeof control.size || count < BLY_FD_OTHERS - BLY_FD_RECEIVED)
        host_fail("descriptors are missing", 0);
    for (size_t i = 0; i < count; i++)
        if (control.descriptors[i] != BLY_FD_RECEIVED + (int)i)
            host_fail("descriptors are not in their places", 0);
}

/* Everything that the monitor prepared. */
static void inheritance_take(void)
{
    const int shared = MAP_SHARED;
    descriptors_receive();
    window_map("start information", BLY_START_INFO, BLY_START_SIZE, PROT_READ, shared,
               BLY_FD_START_INFO);
    if (host_info->magic != BLY_START_MAGIC || host_info->version != BLY_ABI_VERSION)
        host_fail("start information of another version", 0);
    window_map("RPC channel", BLY_RPC_CHANNEL, sizeof(struct bly_rpc_channel),
               PROT_READ | PROT_WRITE, shared, BLY_FD_CHANNEL);
    window_map("heap", BLY_HEAP_START, BLY_HEAP_SIZE, PROT_READ | PROT_WRITE, shared, BLY_FD_HEAP);
    window_map("bulk segment", BLY_BULK_START, BLY_BULK_SIZE, PROT_READ | PROT_WRITE, shared,
               BLY_FD_BULK);
    host.closed_count = host_channel->closed_count;
    presets_take();
    sys1(__NR_close, BLY_FD_START_INFO);
    sys1(__NR_close, BLY_FD_CHANNEL);
    sys1(__NR_close, BLY_FD_PRESET);
    fault_select();
}

struct start {
    uint64_t vdso;
    unsigned modes; /* enum bly_start_mode */
};

/* On the first thread's own stack. */
static void start_in_window(void *argument)
{
    struct bly_thread_block *block = host_block();
    const struct start *start = argument;
    const unsigned modes = start->modes; /* it lies on the stack that goes */
    host_vdso_move(start->vdso);
    must("unmapping", sys2(__NR_munmap, 0, BLY_WINDOW_START));
    must("unmapping", sys2(__NR_munmap, BLY_WINDOW_END, BLY_GUEST_MAX - BLY_WINDOW_END));
    host_thread_arm(block);
    host_signals_install();
    host_random_read(&block->stack_protector, sizeof block->stack_protector);
    /* Not there on old kernels: then thread_barrier fails, and the personality does without
     * patching. */
    sys3(__NR_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
    sys3(__NR_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0);
    uint64_t none = 0;
    sys4(__NR_rt_sigprocmask, 2 /* SIG_SETMASK */, &none, NULL, sizeof none);
    if (modes & BLY_MODE_CPUID_FAULTS)
        must("CPUID",
             sys2(__NR_arch_prctl, ARCH_SET_CPUID, 0)); /* inherited by all threads and clones */
    host_filter_install(modes & BLY_MODE_SCOPED);
    inheritance_take();
    bly_personality.start(host_abi_select(), host_info);
    host_process_exit(125);
}

void host_start(const uint64_t *stack);
void host_start(const uint64_t *stack)
{
    const uint64_t *at = stack + 1 + stack[0] + 1; /* argc, argv, NULL */
    while (*at++)                                  /* environment, NULL */
        ;
    struct start start = {0};
    for (const char *mode = stack[0] > 1 ? (const char *)stack[2] : ""; *mode; mode++)
        start.modes |= 1u << (*mode - BLY_MODE_LETTER);
    uint64_t capabilities = 0;
    for (; at[0] != AT_NULL; at += 2) {
        if (at[0] == AT_SYSINFO_EHDR)
            start.vdso = at[1];
        else if (at[0] == AT_HWCAP2)
            capabilities = at[1];
    }
    host.has_fsgsbase = capabilities & HWCAP2_FSGSBASE;
    host.is_first = true;
    uint32_t process_id = (uint32_t)sys0(__NR_getpid);
    host.in_pid_namespace = process_id == 1;
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    host.vector_features = (uint64_t)high << 32 | low;
    unsigned char vectors[512] __attribute__((aligned(16)));
    host_zero(vectors, sizeof vectors);
    __asm__ volatile("fxsave %0" : "+m"(vectors));
    host.mxcsr_mask = *(uint32_t *)(vectors + 28);
    if (!host.mxcsr_mask)
        host.mxcsr_mask = 0xffbf; /* Intel SDM 1, 11.6.6: no mask given */

    window_map("tables", BLY_HOST_DATA, BLY_PAGE_SIZE + sizeof *host_tables, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS, -1);
    must("locks", sys3(__NR_madvise, host_locks, BLY_PAGE_SIZE, MADV_WIPEONFORK));

    struct rlimit limit = {0, 0};
    sys2(__NR_getrlimit, RLIMIT_NOFILE, &limit);
    uint64_t room = limit.rlim_cur > 2 * DESCRIPTORS_OUTSIDE_CACHE
                        ? limit.rlim_cur - DESCRIPTORS_OUTSIDE_CACHE
                        : DESCRIPTORS_OUTSIDE_CACHE;
    host.cached_limit = room < HOST_CACHE_MAX ? (uint32_t)room : HOST_CACHE_MAX;

    uint32_t area;
    must("thread area", host_area_acquire(&area));
    struct bly_thread_block *block = host_area_block(area);
    host_block_fill(block, area, process_id);
    block->thread_id = process_id;
    host_thread_of(block)->parks = 1;
    host_tables->areas[area].tid = process_id;
    host_switch_stack((void *)block->kernel_stack_top, start_in_window, &start);
}
