/* Signals: delivery, frames, queues, masks, restart, stops. */
#define _GNU_SOURCE
#include "guest.h"
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static volatile sig_atomic_t count, last_signal;
static volatile siginfo_t last_info;
static volatile int order[64];

static void on_signal(int signal) { count++; last_signal = signal; }
static void on_info(int signal, siginfo_t *info, void *context)
{
    if (count < 64)
        order[count] = info->si_value.sival_int;
    count++;
    last_signal = signal;
    memcpy((void *)&last_info, info, sizeof *info);
}

static void set_handler(int signal, void *handler, int flags)
{
    struct sigaction action = { .sa_handler = handler, .sa_flags = flags };
    sigemptyset(&action.sa_mask);
    CHECK_EQUAL(sigaction(signal, &action, NULL), 0);
    count = 0;
}

static void block(int signal, int how)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    CHECK_EQUAL(sigprocmask(how, &set, NULL), 0);
}

static void kill_tells_who_sent(void)
{
    set_handler(SIGUSR1, on_info, SA_SIGINFO);
    CHECK_EQUAL(kill(getpid(), SIGUSR1), 0);
    CHECK_EQUAL(count, 1);
    CHECK_EQUAL(last_info.si_signo, SIGUSR1);
    CHECK_EQUAL(last_info.si_code, SI_USER);
    CHECK_EQUAL(last_info.si_pid, getpid());
    CHECK_EQUAL(last_info.si_uid, getuid());
    raise(SIGUSR1);
    CHECK_EQUAL(last_info.si_code, SI_TKILL);
}

static void realtime_signals_queue_in_order_and_standard_ones_once(void)
{
    set_handler(SIGRTMIN + 1, on_info, SA_SIGINFO);
    block(SIGRTMIN + 1, SIG_BLOCK);
    for (int i = 0; i < 20; i++)
        CHECK_EQUAL(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){ .sival_int = i }), 0);
    block(SIGRTMIN + 1, SIG_UNBLOCK);
    CHECK_EQUAL(count, 20);
    for (int i = 0; i < 20; i++)
        CHECK_EQUAL(order[i], i);
    CHECK_EQUAL(last_info.si_code, SI_QUEUE);

    set_handler(SIGUSR2, on_info, SA_SIGINFO);
    block(SIGUSR2, SIG_BLOCK);
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(sigqueue(getpid(), SIGUSR2, (union sigval){ .sival_int = i }), 0);
    sigset_t pending;
    CHECK_EQUAL(sigpending(&pending), 0);
    CHECK(sigismember(&pending, SIGUSR2));
    block(SIGUSR2, SIG_UNBLOCK);
    CHECK_EQUAL(count, 1);
    CHECK_EQUAL(order[0], 0);
}

static volatile int seen[4], next;
static void record(int signal) { seen[next++] = signal; }
static void lower_signals_come_first(void)
{
    struct sigaction action = { .sa_handler = record };
    next = 0;
    sigfillset(&action.sa_mask);
    sigset_t set;
    sigemptyset(&set);
    for (int i = 3; i >= 0; i--) {
        CHECK_EQUAL(sigaction(SIGRTMIN + i, &action, NULL), 0);
        sigaddset(&set, SIGRTMIN + i);
    }
    sigprocmask(SIG_BLOCK, &set, NULL);
    for (int i = 3; i >= 0; i--)
        raise(SIGRTMIN + i);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    CHECK_EQUAL(next, 4);
    for (int i = 0; i < 4; i++)
        CHECK_EQUAL(seen[i], SIGRTMIN + i);
}

static ucontext_t *seen_context;
static uint64_t seen_flags, seen_mask, seen_rsp_rest, seen_fx;
static void inspect_context(int signal, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    seen_context = uc;
    seen_flags = uc->uc_flags;
    memcpy(&seen_mask, &uc->uc_sigmask, 8);
    seen_rsp_rest = (uint64_t)__builtin_frame_address(0) % 16;
    seen_fx = (uint64_t)uc->uc_mcontext.fpregs;
    uint32_t magic;
    memcpy(&magic, (char *)uc->uc_mcontext.fpregs + 464, 4);
    CHECK_EQUAL(magic, 0x46505853);
    uint32_t size;
    memcpy(&size, (char *)uc->uc_mcontext.fpregs + 468, 4);
    memcpy(&magic, (char *)uc->uc_mcontext.fpregs + size - 4, 4);
    CHECK_EQUAL(magic, 0x46505845);
    CHECK_EQUAL(uc->uc_mcontext.gregs[REG_R12], 0x1212121212121212);
    CHECK_EQUAL(uc->uc_mcontext.gregs[REG_RBX], 0x3b3b3b3b3b3b3b3b);
    uc->uc_mcontext.gregs[REG_R12] = 0x2121212121212121;
    /* What a handler does to the vector registers does not reach the program. */
    __asm__ volatile("pxor %%xmm7, %%xmm7; pxor %%xmm15, %%xmm15" ::: "xmm7", "xmm15");
}

static void frames_show_and_change_registers(void)
{
    set_handler(SIGUSR1, inspect_context, SA_SIGINFO);
    uint64_t r12 = 0, low = 0x1122334455667788, after7 = 0, after15 = 0, red_zone = 0;
    int pid = getpid(), result;
    __asm__ volatile(
        "mov $0x1212121212121212, %%r12\n mov $0x3b3b3b3b3b3b3b3b, %%rbx\n"
        "movq %[low], %%xmm7\n movq %[low], %%xmm15\n"
        "movq %[low], -64(%%rsp)\n"
        "syscall\n"
        "mov %%r12, %[r12]\n movq %%xmm7, %[after7]\n movq %%xmm15, %[after15]\n mov -64(%%rsp), %[red]\n"
        : "=a"(result), [r12] "=&r"(r12), [after7] "=&r"(after7), [after15] "=&r"(after15), [red] "=&r"(red_zone)
        : "a"(SYS_kill), "D"(pid), "S"(SIGUSR1), [low] "r"(low)
        : "rcx", "r11", "r12", "rbx", "xmm7", "xmm15", "memory");
    CHECK_EQUAL(result, 0);
    CHECK_EQUAL(r12, 0x2121212121212121);
    CHECK_EQUAL(after7, low);
    CHECK_EQUAL(after15, low);
    CHECK_EQUAL(red_zone, low);
    CHECK_EQUAL(seen_rsp_rest, 0);
    CHECK_EQUAL(seen_fx % 64, 0);
    CHECK(seen_flags & 1);
}

static void all_registers_survive_signals_at_any_instruction(void)
{
    set_handler(SIGALRM, on_signal, SA_RESTART);
    struct itimerval timer = { { 0, 200 }, { 0, 200 } }, off = { { 0, 0 }, { 0, 0 } };
    CHECK_EQUAL(setitimer(ITIMER_REAL, &timer, NULL), 0);
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    uint64_t bad = 0;
    do {
        for (int i = 0; i < 2000; i++) {
            uint64_t wrong;
            __asm__ volatile(
                "mov $1, %%rbx; mov $2, %%rcx; mov $3, %%rdx; mov $4, %%rsi; mov $5, %%rdi; mov $6, %%r8; mov $7, %%r9; mov $8, %%r10\n"
                "mov $9, %%r11; mov $10, %%r12; mov $11, %%r13; mov $12, %%r14; mov $13, %%r15; movq %%r15, %%xmm3; movq %%r14, %%xmm12\n"
                "mov $200, %%rax\n1: dec %%rax; jnz 1b\n"
                "add %%rbx, %%rax; add %%rcx, %%rax; add %%rdx, %%rax; add %%rsi, %%rax; add %%rdi, %%rax; add %%r8, %%rax; add %%r9, %%rax\n"
                "add %%r10, %%rax; add %%r11, %%rax; add %%r12, %%rax; add %%r13, %%rax; add %%r14, %%rax; add %%r15, %%rax\n"
                "movq %%xmm3, %%rbx; add %%rbx, %%rax; movq %%xmm12, %%rbx; add %%rbx, %%rax; sub $116, %%rax\n"
                : "=a"(wrong) : : "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm3", "xmm12", "cc");
            bad |= wrong;
        }
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000 < 200);
    setitimer(ITIMER_REAL, &off, NULL);
    CHECK_EQUAL(bad, 0);
    CHECK(count > 0);
}

static sigset_t inside;
static void look_at_mask(int signal) { sigprocmask(SIG_SETMASK, NULL, &inside); }
static void masks_are_set_in_handlers_and_restored(void)
{
    sigset_t after;
    struct sigaction action = { .sa_handler = look_at_mask };
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGUSR2);
    CHECK_EQUAL(sigaction(SIGUSR1, &action, NULL), 0);
    raise(SIGUSR1);
    CHECK(sigismember(&inside, SIGUSR1) && sigismember(&inside, SIGUSR2) && !sigismember(&inside, SIGHUP));
    sigprocmask(SIG_SETMASK, NULL, &after);
    CHECK(!sigismember(&after, SIGUSR1) && !sigismember(&after, SIGUSR2));
    action.sa_flags = SA_NODEFER | SA_RESETHAND;
    CHECK_EQUAL(sigaction(SIGUSR1, &action, NULL), 0);
    raise(SIGUSR1);
    CHECK(!sigismember(&inside, SIGUSR1));
    CHECK_EQUAL(sigaction(SIGUSR1, NULL, &action), 0);
    CHECK(action.sa_handler == SIG_DFL);
}

static int write_end;
static void feed(int signal)
{
    count++;
    if (write(write_end, "x", 1) != 1)
        _exit(3);
}
static void interrupted_calls_restart_or_fail_as_asked(void)
{
    int fds[2];
    char byte;
    struct itimerval once = { { 0, 0 }, { 0, 20000 } };
    CHECK_EQUAL(pipe(fds), 0);
    set_handler(SIGALRM, on_signal, 0);
    setitimer(ITIMER_REAL, &once, NULL);
    CHECK_EQUAL(read(fds[0], &byte, 1), -1);
    CHECK_EQUAL(errno, EINTR);

    write_end = fds[1];
    set_handler(SIGALRM, feed, SA_RESTART);
    setitimer(ITIMER_REAL, &once, NULL);
    CHECK_EQUAL(read(fds[0], &byte, 1), 1);
    CHECK_EQUAL(count, 1);

    /* nanosleep never restarts after a handler, and tells what is left. */
    set_handler(SIGALRM, on_signal, SA_RESTART);
    struct timespec wait = { 5, 0 }, rest = { 0, 0 };
    setitimer(ITIMER_REAL, &once, NULL);
    CHECK_EQUAL(nanosleep(&wait, &rest), -1);
    CHECK_EQUAL(errno, EINTR);
    CHECK(rest.tv_sec == 4 && rest.tv_nsec > 0);
    /* A signal that is ignored does not disturb it. */
    set_handler(SIGALRM, SIG_IGN, 0);
    setitimer(ITIMER_REAL, &once, NULL);
    wait = (struct timespec){ 0, 60000000 };
    CHECK_EQUAL(nanosleep(&wait, &rest), 0);
}

static void sleeps_go_on_after_a_stop(void)
{
    pid_t child = fork();
    if (!child) {
        struct timespec wait = { 0, 300000000 }, start, end;
        clock_gettime(CLOCK_MONOTONIC, &start);
        int result = nanosleep(&wait, NULL);
        clock_gettime(CLOCK_MONOTONIC, &end);
        long ms = (end.tv_sec - start.tv_sec) * 1000 + (end.tv_nsec - start.tv_nsec) / 1000000;
        _exit(result == 0 && ms >= 299 && ms < 2000 ? 0 : 1);
    }
    int status;
    usleep(50000);
    kill(child, SIGSTOP);
    CHECK_EQUAL(waitpid(child, &status, WUNTRACED), child);
    CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    kill(child, SIGCONT);
    CHECK_EQUAL(waitpid(child, &status, WCONTINUED), child);
    CHECK(WIFCONTINUED(status));
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
}

static void sigsuspend_takes_and_restores(void)
{
    sigset_t old, empty, now;
    set_handler(SIGUSR1, on_signal, 0);
    block(SIGUSR1, SIG_BLOCK);
    sigprocmask(SIG_SETMASK, NULL, &old);
    raise(SIGUSR1);
    sigemptyset(&empty);
    CHECK_EQUAL(sigsuspend(&empty), -1);
    CHECK_EQUAL(errno, EINTR);
    CHECK_EQUAL(count, 1);
    sigprocmask(SIG_SETMASK, NULL, &now);
    CHECK(sigismember(&now, SIGUSR1));
    block(SIGUSR1, SIG_UNBLOCK);
}

static void no_wake_up_is_lost_between_two_processes(void)
{
    enum { ROUNDS = 3000 };
    sigset_t all, wait;
    set_handler(SIGUSR1, on_signal, 0);
    block(SIGUSR1, SIG_BLOCK);
    sigprocmask(SIG_SETMASK, NULL, &all);
    wait = all;
    sigdelset(&wait, SIGUSR1);
    pid_t parent = getpid(), child = fork();
    if (!child) {
        for (int i = 0; i < ROUNDS; i++) {
            while (count <= i)
                sigsuspend(&wait);
            kill(parent, SIGUSR1);
        }
        _exit(0);
    }
    for (int i = 0; i < ROUNDS; i++) {
        kill(child, SIGUSR1);
        while (count <= i)
            sigsuspend(&wait);
    }
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
    block(SIGUSR1, SIG_UNBLOCK);
}

static void sigtimedwait_takes_blocked_signals(void)
{
    sigset_t set;
    siginfo_t info;
    struct timespec short_time = { 0, 10000000 }, none = { 0, 0 };
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 3);
    sigprocmask(SIG_BLOCK, &set, NULL);
    CHECK_EQUAL(sigtimedwait(&set, &info, &none), -1);
    CHECK_EQUAL(errno, EAGAIN);
    CHECK_EQUAL(sigtimedwait(&set, &info, &short_time), -1);
    CHECK_EQUAL(errno, EAGAIN);
    sigqueue(getpid(), SIGRTMIN + 3, (union sigval){ .sival_int = 77 });
    CHECK_EQUAL(sigwaitinfo(&set, &info), SIGRTMIN + 3);
    CHECK_EQUAL(info.si_value.sival_int, 77);
    pid_t child = fork();
    if (!child) {
        usleep(20000);
        sigqueue(getppid(), SIGRTMIN + 3, (union sigval){ .sival_int = 78 });
        _exit(0);
    }
    CHECK_EQUAL(sigwaitinfo(&set, &info), SIGRTMIN + 3);
    CHECK_EQUAL(info.si_value.sival_int, 78);
    CHECK_EQUAL(info.si_pid, child);
    waitpid(child, NULL, 0);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static char *altstack;
static volatile int on_altstack, nested_on_altstack;
static void look_at_stack(int signal)
{
    char here;
    stack_t now;
    sigaltstack(NULL, &now);
    on_altstack = &here > altstack && &here < altstack + 65536 && (now.ss_flags & SS_ONSTACK);
    if (signal == SIGUSR1) {
        raise(SIGUSR2);
        stack_t other = { .ss_sp = altstack, .ss_size = 65536 };
        CHECK(sigaltstack(&other, NULL) == -1 && errno == EPERM);
    } else {
        nested_on_altstack = on_altstack;
    }
}

static void alternate_stacks_are_used_and_nest(void)
{
    altstack = malloc(65536);
    stack_t stack = { .ss_sp = altstack, .ss_size = 65536 }, old;
    CHECK_EQUAL(sigaltstack(&stack, NULL), 0);
    set_handler(SIGUSR1, look_at_stack, SA_ONSTACK);
    set_handler(SIGUSR2, look_at_stack, SA_ONSTACK);
    raise(SIGUSR1);
    CHECK(on_altstack && nested_on_altstack);
    CHECK_EQUAL(sigaltstack(NULL, &old), 0);
    CHECK_EQUAL(old.ss_flags, 0);
    CHECK(old.ss_sp == altstack);
    stack.ss_size = 100;
    CHECK(sigaltstack(&stack, NULL) == -1 && errno == ENOMEM);
    stack.ss_flags = SS_DISABLE;
    CHECK_EQUAL(sigaltstack(&stack, NULL), 0);
    CHECK_EQUAL(sigaltstack(NULL, &old), 0);
    CHECK_EQUAL(old.ss_flags, SS_DISABLE);
    free(altstack);
}

static void caught(int signal, siginfo_t *info, void *context) { _exit(signal == SIGSEGV && info->si_addr ? 42 : 1); }
static uint64_t deep(uint64_t n)
{
    volatile char space[4096];
    space[0] = (char)n;
    return n ? deep(n + 1) + space[0] : 0;
}
static void stack_overflow_is_caught_on_an_alternate_stack(void)
{
    pid_t child = fork();
    if (!child) {
        stack_t stack = { .ss_sp = malloc(65536), .ss_size = 65536 };
        sigaltstack(&stack, NULL);
        set_handler(SIGSEGV, caught, SA_ONSTACK | SA_SIGINFO);
        deep(1);
        _exit(2);
    }
    int status;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42);
}

static void a_handler_without_room_for_its_frame_kills(void)
{
    pid_t child = fork();
    if (!child) {
        set_handler(SIGUSR1, on_signal, 0);
        set_handler(SIGSEGV, on_signal, 0);
        /* A stack pointer into nowhere. */
        int pid = getpid();
        __asm__ volatile("mov $0x100, %%rsp; syscall" : : "a"(SYS_kill), "D"(pid), "S"(SIGUSR1) : "rcx", "r11", "memory");
        __builtin_unreachable();
    }
    int status;
    waitpid(child, &status, 0);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

static sigjmp_buf jump;
static void leap(int signal) { siglongjmp(jump, signal); }
static void handlers_may_be_left_by_a_jump(void)
{
    set_handler(SIGUSR1, leap, 0);
    set_handler(SIGSEGV, leap, 0);
    for (int i = 0; i < 100; i++) {
        int signal = sigsetjmp(jump, 1);
        if (!signal) {
            raise(SIGUSR1);
            CHECK(0);
        }
        CHECK_EQUAL(signal, SIGUSR1);
    }
    for (int i = 0; i < 100; i++) {
        int signal = sigsetjmp(jump, 1);
        if (!signal) {
            *(volatile int *)8 = 1;
            CHECK(0);
        }
        CHECK_EQUAL(signal, SIGSEGV);
    }
}

static void fault(int signal, siginfo_t *info, void *context)
{
    memcpy((void *)&last_info, info, sizeof *info);
    ucontext_t *uc = context;
    count++;
    uc->uc_mcontext.gregs[REG_RIP] = uc->uc_mcontext.gregs[REG_R8];
}
static void faults_tell_address_and_cause(void)
{
    set_handler(SIGSEGV, fault, SA_SIGINFO);
    set_handler(SIGFPE, fault, SA_SIGINFO);
    set_handler(SIGILL, fault, SA_SIGINFO);
    set_handler(SIGTRAP, on_info, SA_SIGINFO);
    __asm__ volatile("lea 1f(%%rip), %%r8; movb $1, 0x18; 1:" ::: "r8", "memory");
    CHECK_EQUAL(last_info.si_addr, 0x18);
    CHECK_EQUAL(last_info.si_code, SEGV_MAPERR);
    char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    __asm__ volatile("lea 1f(%%rip), %%r8; movb $1, (%0); 1:" : : "r"(page) : "r8", "memory");
    CHECK(last_info.si_addr == page);
    CHECK_EQUAL(last_info.si_code, SEGV_ACCERR);
    __asm__ volatile("lea 1f(%%rip), %%r8; xor %%edx, %%edx; xor %%ecx, %%ecx; div %%ecx; 1:" ::: "r8", "rax", "rcx", "rdx");
    CHECK_EQUAL(last_info.si_signo, SIGFPE);
    CHECK_EQUAL(last_info.si_code, FPE_INTDIV);
    __asm__ volatile("lea 1f(%%rip), %%r8; ud2; 1:" ::: "r8");
    CHECK_EQUAL(last_info.si_signo, SIGILL);
    count = 0;
    __asm__ volatile("int3");
    CHECK_EQUAL(count, 1);
    CHECK_EQUAL(last_info.si_signo, SIGTRAP);
}

static void a_blocked_fault_kills(void)
{
    pid_t child = fork();
    if (!child) {
        set_handler(SIGSEGV, on_signal, 0);
        block(SIGSEGV, SIG_BLOCK);
        *(volatile int *)8 = 1;
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

static void default_actions_end_stop_or_ignore(void)
{
    int fatal[] = { SIGHUP, SIGINT, SIGKILL, SIGTERM, SIGPIPE, SIGALRM, SIGUSR1, SIGVTALRM, SIGPROF, SIGRTMIN, SIGRTMAX, SIGXCPU, SIGABRT };
    int harmless[] = { SIGCHLD, SIGCONT, SIGURG, SIGWINCH };
    int status;
    for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++) {
        pid_t child = fork();
        if (!child) {
            signal(fatal[i], SIG_DFL);
            block(fatal[i], SIG_UNBLOCK);
            raise(fatal[i]);
            _exit(0);
        }
        CHECK_EQUAL(waitpid(child, &status, 0), child);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == fatal[i]);
    }
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++) {
        signal(harmless[i], SIG_DFL);
        raise(harmless[i]);
    }
}

static void a_spinning_child_can_be_killed_and_stopped(void)
{
    pid_t child = fork();
    int status;
    if (!child)
        for (;;)
            ;
    usleep(20000);
    kill(child, SIGSTOP);
    CHECK_EQUAL(waitpid(child, &status, WUNTRACED), child);
    CHECK(WIFSTOPPED(status));
    CHECK_EQUAL(waitpid(child, &status, WNOHANG | WUNTRACED), 0);
    kill(child, SIGTERM); /* waits until it goes on */
    usleep(10000);
    CHECK_EQUAL(waitpid(child, &status, WNOHANG), 0);
    kill(child, SIGCONT);
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);

    child = fork();
    if (!child)
        for (;;)
            ;
    kill(child, SIGSTOP);
    CHECK_EQUAL(waitpid(child, &status, WUNTRACED), child);
    kill(child, SIGKILL);
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void stops_are_told_by_sigchld(void)
{
    int status;
    set_handler(SIGCHLD, on_info, SA_SIGINFO | SA_RESTART);
    pid_t child = fork();
    if (!child) {
        raise(SIGTSTP);
        raise(SIGSTOP);
        _exit(7);
    }
    /* SIGTSTP stops it only where its group is not orphaned; SIGSTOP always does. */
    CHECK_EQUAL(waitpid(child, &status, WUNTRACED), child);
    CHECK(WIFSTOPPED(status));
    CHECK_EQUAL(last_info.si_code, CLD_STOPPED);
    CHECK_EQUAL(last_info.si_pid, child);
    set_handler(SIGCHLD, on_info, SA_SIGINFO | SA_RESTART | SA_NOCLDSTOP); /* else "continued" may swallow "exited" */
    while (WIFSTOPPED(status)) {
        kill(child, SIGCONT);
        CHECK_EQUAL(waitpid(child, &status, WUNTRACED), child);
    }
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    CHECK_EQUAL(last_info.si_code, CLD_EXITED);
    CHECK_EQUAL(last_info.si_status, 7);
    set_handler(SIGCHLD, SIG_DFL, 0);
}

static volatile int thread_count[4];
static pthread_t threads[4];
static __thread int thread_index;
static void count_in_thread(int signal) { thread_count[thread_index]++; }
static volatile int stop_threads;
static _Atomic int threads_ready;
static void *spin(void *argument)
{
    thread_index = (int)(intptr_t)argument;
    threads_ready++;
    while (!stop_threads)
        if (thread_index & 1)
            getppid();
    return NULL;
}
static void threads_take_signals_sent_to_them(void)
{
    set_handler(SIGUSR1, count_in_thread, SA_RESTART);
    stop_threads = 0;
    for (int i = 0; i < 4; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, spin, (void *)(intptr_t)i), 0);
    while (threads_ready < 4)
        usleep(100);
    for (int round = 1; round <= 50; round++) {
        for (int i = 0; i < 4; i++)
            CHECK_EQUAL(pthread_kill(threads[i], SIGUSR1), 0);
        for (int i = 0; i < 4; i++)
            while (thread_count[i] < round)
                usleep(100);
    }
    stop_threads = 1;
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        CHECK_EQUAL(thread_count[i], 50);
    }
}

static void *take_with_sigwait(void *argument)
{
    sigset_t set;
    int signal;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    CHECK_EQUAL(sigwait(&set, &signal), 0);
    return (void *)(intptr_t)signal;
}
static void a_process_signal_goes_to_a_thread_that_takes_it(void)
{
    pthread_t thread;
    void *result;
    block(SIGUSR2, SIG_BLOCK);
    CHECK_EQUAL(pthread_create(&thread, NULL, take_with_sigwait, NULL), 0);
    usleep(20000);
    kill(getpid(), SIGUSR2);
    CHECK_EQUAL(pthread_join(thread, &result), 0);
    CHECK_EQUAL(result, SIGUSR2);
    block(SIGUSR2, SIG_UNBLOCK);
}

static void errors_are_those_of_linux(void)
{
    struct sigaction action = { .sa_handler = SIG_IGN };
    CHECK(sigaction(SIGKILL, &action, NULL) == -1 && errno == EINVAL);
    CHECK(sigaction(SIGSTOP, &action, NULL) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_rt_sigaction, 65, NULL, NULL, 8) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_rt_sigaction, 1, NULL, NULL, 4) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_rt_sigaction, 1, (void *)1, NULL, 8) == -1 && errno == EFAULT);
    CHECK(kill(getpid(), 65) == -1 && errno == EINVAL);
    CHECK(kill(5000000, 0) == -1 && errno == ESRCH);
    CHECK(kill(-5000000, 0) == -1 && errno == ESRCH);
    CHECK_EQUAL(kill(getpid(), 0), 0);
    CHECK(syscall(SYS_tgkill, -1, 1, 1) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_tgkill, getpid(), 5000000, 1) == -1 && errno == ESRCH);
    CHECK(syscall(SYS_tkill, 0, 1) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_rt_sigprocmask, 99, &(sigset_t){ 0 }, NULL, 8) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_rt_sigpending, (void *)1, 8) == -1 && errno == EFAULT);
    CHECK(syscall(SYS_rt_sigtimedwait, &(sigset_t){ 0 }, NULL, &(struct timespec){ 0, -1 }, 8) == -1 && errno == EINVAL);
    siginfo_t info = { .si_code = SI_USER };
    CHECK(syscall(SYS_rt_sigqueueinfo, getppid(), SIGUSR1, &info) == -1 && errno == EPERM);
}

static const struct guest_case cases[] = {
    GUEST_CASE(kill_tells_who_sent), GUEST_CASE(realtime_signals_queue_in_order_and_standard_ones_once), GUEST_CASE(lower_signals_come_first),
    GUEST_CASE(frames_show_and_change_registers), GUEST_CASE(all_registers_survive_signals_at_any_instruction),
    GUEST_CASE(masks_are_set_in_handlers_and_restored), GUEST_CASE(interrupted_calls_restart_or_fail_as_asked), GUEST_CASE(sleeps_go_on_after_a_stop),
    GUEST_CASE(sigsuspend_takes_and_restores), GUEST_CASE(no_wake_up_is_lost_between_two_processes), GUEST_CASE(sigtimedwait_takes_blocked_signals),
    GUEST_CASE(alternate_stacks_are_used_and_nest), GUEST_CASE(stack_overflow_is_caught_on_an_alternate_stack),
    GUEST_CASE(a_handler_without_room_for_its_frame_kills), GUEST_CASE(handlers_may_be_left_by_a_jump), GUEST_CASE(faults_tell_address_and_cause),
    GUEST_CASE(a_blocked_fault_kills), GUEST_CASE(default_actions_end_stop_or_ignore), GUEST_CASE(a_spinning_child_can_be_killed_and_stopped),
    GUEST_CASE(stops_are_told_by_sigchld), GUEST_CASE(threads_take_signals_sent_to_them), GUEST_CASE(a_process_signal_goes_to_a_thread_that_takes_it),
    GUEST_CASE(errors_are_those_of_linux),
};
GUEST_MAIN(cases)
