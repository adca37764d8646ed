/* The filter against hostile code, from outside the host layer's window and from inside it. */

#include "stub.h"
#include <asm/mman.h>
#include <asm/prctl.h>
#include <asm/unistd.h>
#include <bailey/rpc.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <linux/mman.h>
#include <linux/sched.h>

/* The host layer's own gate: whoever jumps there is inside the window. */
long host_syscall(long number, long a, long b, long c, long d, long e, long f);

#define CALLS 1024

static struct bly_exception seen;
static uint64_t seen_number;
static uint32_t seen_count;

/* uretprobe and uprobe: Linux (6.14 and 6.18 on) lets them past every filter; used by a program
 * they only raise SIGILL in it, or fail. */
#define FIRST_PROBE 335
#define LAST_PROBE 336

static bool count_call(struct bly_context *context, const struct bly_exception *exception)
{
    CHECK(exception && exception->kind == BLY_EXCEPTION_SYSCALL);
    seen = *exception;
    seen_number = context->rax;
    seen_count++;
    context->rax = (uint64_t)-ENOSYS;
    return true;
}

/* %ebx: number, %r12: end. mov %ebx,%eax; <call>; inc %ebx; cmp %r12d,%ebx; jne -11; LEAVE */
#define LOOP(a, b)                                                                                 \
    {                                                                                              \
        0x89, 0xd8, a, b, 0xff, 0xc3, 0x44, 0x39, 0xe3, 0x75, 0xf5, 0xb8, 0x5a, 0x5a, 0, 0, 0x0f,  \
            0x05                                                                                   \
    }

static void run_loop(const unsigned char *code, size_t size, uint64_t from, uint64_t to,
                     bool foreign)
{
    static unsigned char stack[4096];
    struct bly_context context = {.rip = STUB_CODE,
                                  .rsp = (uint64_t)stack + sizeof stack,
                                  .rflags = 0x202,
                                  .rbx = from,
                                  .r12 = to};
    guest_code(code, size);
    guest()->hook = count_call;
    seen_count = 0;
    guest_run(&context);
    EXPECT(seen_count, to - from);
    EXPECT(seen.arch_is_foreign, foreign);
    EXPECT(seen_number, (uint32_t)(to - 1));
    guest()->hook = NULL;
}

static void every_call_from_outside_traps(void)
{
    static const unsigned char call[] = LOOP(0x0f, 0x05), foreign[] = LOOP(0xcd, 0x80);
    run_loop(call, sizeof call, 0, FIRST_PROBE, false);
    run_loop(call, sizeof call, LAST_PROBE + 1, CALLS, false);
    run_loop(call, sizeof call, 0x40000000, 0x40000000 + CALLS, true);
    run_loop(call, sizeof call, 0xfffffff0, 0xffffffff, true);
    run_loop(foreign, sizeof foreign, 0, CALLS, true);
}

/* The kernel's own page of old entry points is no way round. */
static void the_vsyscall_page_traps(void)
{
    /* mov $0xffffffffff600000,%rax (gettimeofday); xor %edi,%edi; xor %esi,%esi; call *%rax; LEAVE
     */
    static const unsigned char code[] = {0x48, 0xc7, 0xc0, 0,    0,    0x60, 0xff,
                                         0x31, 0xff, 0x31, 0xf6, 0xff, 0xd0, 0xb8,
                                         0x5a, 0x5a, 0,    0,    0x0f, 0x05};
    static unsigned char stack[4096];
    struct bly_context context = {
        .rip = STUB_CODE, .rsp = (uint64_t)stack + sizeof stack, .rflags = 0x202};
    guest_code(code, sizeof code);
    /* Without vsyscall emulation on this host the call is a memory fault instead. */
    guest()->hook = NULL;
    extern bool leave_call(struct bly_context *, const struct bly_exception *);
    guest()->hook = leave_call;
    guest_run(&context);
    CHECK(context.rip == STUB_CODE + sizeof code);
    guest()->hook = NULL;
}
bool leave_call(struct bly_context *context, const struct bly_exception *exception);
bool leave_call(struct bly_context *context, const struct bly_exception *exception)
{
    if (exception->kind == BLY_EXCEPTION_MEMORY) {
        CHECK(context->rip == 0xffffffffff600000);
        context->rip = *(uint64_t *)context->rsp;
        context->rsp += 8;
    }
    return true;
}

#define THREAD_FLAGS                                                                               \
    (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |            \
     CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID)

static void only_the_closed_list_passes_from_inside(void)
{
    static const uint16_t list[] = {__NR_futex,
                                    __NR_preadv2,
                                    __NR_pwritev2,
                                    __NR_rt_sigreturn,
                                    __NR_clock_gettime,
                                    __NR_mprotect,
                                    __NR_mmap,
                                    __NR_munmap,
                                    __NR_madvise,
                                    __NR_mremap,
                                    __NR_ppoll,
                                    __NR_tgkill,
                                    __NR_clone,
                                    __NR_rt_sigprocmask,
                                    __NR_sigaltstack,
                                    __NR_exit,
                                    __NR_exit_group,
                                    __NR_wait4,
                                    __NR_recvmsg,
                                    __NR_close,
                                    __NR_sched_yield,
                                    __NR_membarrier,
                                    __NR_epoll_pwait,
                                    __NR_epoll_ctl,
                                    __NR_epoll_create1,
                                    __NR_lseek,
                                    __NR_getdents64,
                                    __NR_ftruncate,
                                    __NR_fallocate,
                                    __NR_fsync,
                                    __NR_fdatasync,
                                    __NR_syncfs,
                                    __NR_getrandom,
                                    __NR_getcpu,
                                    __NR_sched_setaffinity,
                                    __NR_sched_getaffinity,
                                    __NR_arch_prctl,
                                    __NR_prctl,
                                    __NR_restart_syscall};
    _Static_assert(sizeof list / sizeof *list <= 40, "the list is closed");
    for (long number = 0; number < CALLS; number++) {
        bool listed = false;
        for (size_t i = 0; i < sizeof list / sizeof *list; i++)
            listed |= list[i] == number;
        if (!listed && (number < FIRST_PROBE || number > LAST_PROBE))
            EXPECT(host_syscall(number, -1, -1, -1, -1, -1, -1), -EPERM);
        EXPECT(host_syscall(number | 0x40000000, -1, -1, -1, -1, -1, -1), -EPERM);
    }
    EXPECT(host_syscall(0xffffffff, 0, 0, 0, 0, 0, 0), -EPERM);
}

static void hostile_arguments_do_not_pass(void)
{
    const long anonymous = MAP_PRIVATE | MAP_ANONYMOUS, address = 0x20000000,
               own = block()->process_id;
    const long calls[][7] = {
        {__NR_mmap, 0, 4096, PROT_READ, anonymous, -1, 0},
        {__NR_mmap, address, 4096, PROT_READ, anonymous | MAP_FIXED | MAP_GROWSDOWN, -1, 0},
        {__NR_mmap, address, 4096, PROT_READ, anonymous | MAP_FIXED | MAP_HUGETLB, -1, 0},
        {__NR_mmap, address, 4096, PROT_READ, anonymous | MAP_FIXED | MAP_LOCKED, -1, 0},
        {__NR_mmap, address, 4096, PROT_READ, anonymous | MAP_32BIT, -1, 0},
        {__NR_mmap, address, 4096, PROT_READ, MAP_SHARED_VALIDATE | MAP_SYNC | MAP_FIXED, 5, 0},
        {__NR_mmap, address, 4096, PROT_READ | PROT_GROWSDOWN, anonymous | MAP_FIXED, -1, 0},
        {__NR_mmap, address, 4096, PROT_READ | 1l << 40, anonymous | MAP_FIXED, -1, 0},
        {__NR_mprotect, address, 4096, PROT_READ | PROT_GROWSUP},
        {__NR_mremap, address, 4096, 4096, 8},
        {__NR_madvise, address, 4096, 100 /* MADV_HWPOISON */},
        {__NR_madvise, address, 4096, MADV_MERGEABLE},
        {__NR_madvise, address, 4096, 102 /* MADV_GUARD_INSTALL */},
        {__NR_clone, CLONE_CHILD_SETTID | 17 | CLONE_VM, 0},
        {__NR_clone, CLONE_CHILD_SETTID | 17 | CLONE_NEWUSER, 0},
        {__NR_clone, CLONE_CHILD_SETTID | 17 | CLONE_PIDFD, 0},
        {__NR_clone, CLONE_CHILD_SETTID | 9, 0},
        {__NR_clone, CLONE_CHILD_SETTID | 17, 4096},
        {__NR_clone, 17, 0},
        {__NR_clone, THREAD_FLAGS | CLONE_UNTRACED, 0},
        {__NR_clone, THREAD_FLAGS | 1l << 33, 0},
        {__NR_tgkill, own, own, 9},
        {__NR_tgkill, own, own, 0},
        {__NR_tgkill, own, own, 31},
        {__NR_tgkill, 1, 1, 9},
        {__NR_futex, (long)&shared->words[0], FUTEX_WAIT, 0, 0},
        {__NR_futex, (long)&shared->words[0], FUTEX_LOCK_PI, 0, 0},
        {__NR_futex, (long)&shared->words[0], FUTEX_CMP_REQUEUE_PI, 0, 0},
        {__NR_futex, (long)&shared->words[0], FUTEX_WAKE_OP, 0, 0},
        {__NR_futex, (long)&shared->words[0], FUTEX_FD, 0, 0},
        {__NR_futex, (long)&shared->words[0], FUTEX_WAKE | 1l << 32, 0, 0},
        {__NR_membarrier, MEMBARRIER_CMD_GLOBAL, 0},
        {__NR_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0},
        {__NR_getrandom, (long)&shared->words[0], 4, 2 /* GRND_RANDOM */},
        {__NR_prctl, 1 /* PR_SET_PDEATHSIG */, 0},
        {__NR_prctl, 38 /* PR_SET_NO_NEW_PRIVS */, 1},
        {__NR_userfaultfd, 0},
        {__NR_userfaultfd, 1 /* UFFD_USER_MODE_ONLY */},
        {__NR_userfaultfd, 02004000 /* O_CLOEXEC | O_NONBLOCK */},
        {__NR_arch_prctl, 0x1012 /* ARCH_SET_CPUID */, 0},
        {__NR_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18},
        {__NR_arch_prctl, 0x2001 /* ARCH_MAP_VDSO_X32 */, address},
        {__NR_arch_prctl, 0x2003 /* ARCH_MAP_VDSO_64 */, address},
        {__NR_arch_prctl, 0x5001 /* ARCH_SHSTK_ENABLE */, 1},
        {__NR_recvmsg, 16, 0, 0},
        {__NR_recvmsg, 16, 0, 0x2000},
        {__NR_epoll_create1, 0x80000},
        {__NR_ppoll, (long)&shared->words[0], 0, 0, (long)&shared->words[0], 8},
        {__NR_epoll_pwait, 5, (long)&shared->words[0], 1, 1000, 0, 8},
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        long result = host_syscall(calls[i][0], calls[i][1], calls[i][2], calls[i][3], calls[i][4],
                                   calls[i][5], calls[i][6]);
        if (result != -EPERM) {
            say("passed: number and line of the table follow");
            EXPECT(calls[i][0] * 1000 + (long)i, -1);
        }
    }
}

/* Signals and affinity of strangers, where nothing else confines us. */
static void open_sandboxes_reach_nobody(void)
{
    if (block()->process_id == 1)
        return; /* a namespace of our own: there are no strangers */
    if (!(info->flags & BLY_START_CONFINED_SIGNALS))
        EXPECT(host_syscall(__NR_tgkill, block()->process_id, block()->thread_id,
                            BLY_INTERRUPT_SIGNAL, 0, 0, 0),
               -EPERM);
    for (unsigned kind = 0; kind < 3; kind++) {
        const long clock = (int)(~1u << 3 | kind), time = (long)&shared->counters[0];
        EXPECT(host_syscall(__NR_clock_gettime, clock, time, 0, 0, 0, 0), -EPERM);
        EXPECT(host_syscall(__NR_clock_gettime, (uint32_t)clock, time, 0, 0, 0, 0), -EPERM);
    }
    EXPECT(host_syscall(__NR_clock_gettime, (int)(~block()->thread_id << 3 | 6),
                        (long)&shared->counters[0], 0, 0, 0, 0),
           0);
    EXPECT(host_syscall(__NR_sched_setaffinity, 1, 8, (long)&shared->words[0], 0, 0, 0), -EPERM);
    EXPECT(host_syscall(__NR_sched_getaffinity, 1, 8, (long)&shared->words[0], 0, 0, 0), -EPERM);
}

static void clones_and_threads_are_filtered_too(void)
{
    uint32_t id;
    if (bly->process_clone(0, &id) == 0) {
        only_the_closed_list_passes_from_inside();
        every_call_from_outside_traps();
        bly->process_exit(0);
    }
    struct bly_process_end end;
    EXPECT(bly->process_wait(&end, BLY_FOREVER), 0);
    EXPECT(end.exit_status, 0);
    EXPECT(end.signal, 0);
    struct job job = {.function = (void (*)(void *))only_the_closed_list_passes_from_inside};
    job_start(&job);
    job_join(&job);
}

const struct test filter_tests[] = {
    {"every_call_from_outside_traps", every_call_from_outside_traps},
    {"the_vsyscall_page_traps", the_vsyscall_page_traps},
    {"only_the_closed_list_passes_from_inside", only_the_closed_list_passes_from_inside},
    {"hostile_arguments_do_not_pass", hostile_arguments_do_not_pass},
    {"open_sandboxes_reach_nobody", open_sandboxes_reach_nobody},
    {"clones_and_threads_are_filtered_too", clones_and_threads_are_filtered_too},
    {NULL, NULL},
};
