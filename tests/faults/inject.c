/* Makes one system call of a running process fail, or kills somebody when it comes to it; and counts them.
 *
 *   inject -p PID [-f] [-k VICTIM] ACTION N CALLS       until it has fired, the process has ended or SIGTERM comes
 *   inject [-f] [-k VICTIM] ACTION N CALLS COMMAND...   the same of a command, whose exit status becomes ours
 *
 * ACTION: `count`; `kill` (of VICTIM, else of who makes the call); `short` (writes take half of what they are given); an error's number.
 * CALLS: numbers of system calls with commas between, or `all`. N: at the N-th of them, by whichever thread. -f: children belong to it.
 * -p: `ready` is printed when every thread is followed. At the end a line `COUNT FIRED CALL TARGET` goes to the file INJECT_REPORT names. */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS_MAX 4096
#define CALLS_MAX 1024

enum action { COUNT, KILL, SHORT, FAIL };

static struct {
    enum action action;
    int error;
    long at, count, call;
    char target[256]; /* of the call's descriptor, or what its first argument is else */
    pid_t victim, group, waiting; /* waiting: the thread whose call is to end with the error */
    bool children, fired, done, all, calls[CALLS_MAX];
} inject;
static struct thread {
    pid_t id;
    bool ours; /* of the process, or a child that belongs to it */
} threads[THREADS_MAX];
static volatile sig_atomic_t told_to_end;

static void end(int signal)
{
    told_to_end = 1;
}

static _Noreturn void report(int status)
{
    const char *name = getenv("INJECT_REPORT");
    FILE *file = name ? fopen(name, "w") : NULL;
    if (file) {
        fprintf(file, "%ld %d %ld %s\n", inject.count, inject.fired, inject.call, inject.target);
        fclose(file);
    }
    exit(status);
}

static struct thread *thread_of(pid_t id)
{
    struct thread *place = NULL;
    for (size_t i = 0; i < THREADS_MAX; i++) {
        if (threads[i].id == id)
            return &threads[i];
        if (!place && !threads[i].id)
            place = &threads[i];
    }
    if (!place)
        exit(3);
    *place = (struct thread){id, false};
    return place;
}

static long number_in_status(pid_t id, const char *key)
{
    char name[64], line[256];
    snprintf(name, sizeof(name), "/proc/%d/status", id);
    FILE *file = fopen(name, "r");
    long number = -1;
    while (file && number < 0 && fgets(line, sizeof(line), file))
        if (!strncmp(line, key, strlen(key)))
            number = strtol(line + strlen(key), NULL, 10);
    if (file)
        fclose(file);
    return number;
}

/* A call that a filter would forbid is not replaced by none, which it forbids, too: it is made, and its result replaced. */
static bool is_filtered(pid_t id)
{
    return number_in_status(id, "Seccomp:") == 2;
}

static void find_target(pid_t id, unsigned long long descriptor, char *target, size_t size)
{
    char name[64];
    snprintf(name, sizeof(name), "/proc/%d/fd/%d", id, (int)descriptor);
    ssize_t count = readlink(name, target, size - 1);
    if (count < 0)
        count = snprintf(target, size, "%#llx", descriptor);
    target[count] = '\0';
}

/* What no disk and no lack of memory can do: a read from a pipe fails, a write to an event's counter, or one of a few bytes to a pipe that has
 * room; or such a one is short. */
static bool cannot_fail(pid_t id, const struct __ptrace_syscall_info *info)
{
    char target[64];
    find_target(id, info->entry.args[0], target, sizeof(target));
    if (info->entry.nr == SYS_read && strstr(target, "pipe:"))
        return true;
    if (info->entry.nr == SYS_write && info->entry.args[2] <= 4096 && strstr(target, "pipe:"))
        return true;
    return (info->entry.nr == SYS_write || info->entry.nr == SYS_read) && strstr(target, "[eventfd]");
}

static void fire(pid_t id, struct user_regs_struct *registers)
{
    inject.fired = true;
    inject.call = (long)registers->orig_rax;
    find_target(id, registers->rdi, inject.target, sizeof(inject.target));
    if (inject.action == KILL) {
        kill(inject.victim ? inject.victim : (pid_t)number_in_status(id, "Tgid:"), SIGKILL);
        inject.done = true;
        return;
    }
    if (inject.action == SHORT) {
        unsigned long long *size = registers->orig_rax == SYS_sendfile ? &registers->r10 : &registers->rdx;
        *size = *size > 1 ? *size / 2 : *size;
        ptrace(PTRACE_SETREGS, id, 0, registers);
        inject.done = true;
        return;
    }
    inject.waiting = id;
    if (!is_filtered(id)) {
        registers->orig_rax = (unsigned long long)-1;
        ptrace(PTRACE_SETREGS, id, 0, registers);
    }
}

static void system_call(pid_t id)
{
    struct __ptrace_syscall_info info;
    struct user_regs_struct registers;
    if (ptrace(PTRACE_GET_SYSCALL_INFO, id, sizeof(info), &info) < 0)
        return;
    if (info.op == PTRACE_SYSCALL_INFO_EXIT && id == inject.waiting) {
        if (ptrace(PTRACE_GETREGS, id, 0, &registers) == 0) {
            registers.rax = (unsigned long long)-inject.error;
            ptrace(PTRACE_SETREGS, id, 0, &registers);
        }
        inject.waiting = 0;
        inject.done = true;
        return;
    }
    if (info.op != PTRACE_SYSCALL_INFO_ENTRY || inject.fired)
        return;
    unsigned long long call = info.entry.nr;
    if (!inject.all && (call >= CALLS_MAX || !inject.calls[call] || cannot_fail(id, &info)))
        return;
    if (++inject.count == inject.at && inject.action != COUNT && ptrace(PTRACE_GETREGS, id, 0, &registers) == 0)
        fire(id, &registers);
}

static void seize(pid_t id)
{
    const long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK;
    if (ptrace(PTRACE_SEIZE, id, 0, options) < 0)
        return;
    thread_of(id)->ours = true;
    ptrace(PTRACE_INTERRUPT, id, 0, 0);
}

static int attach(pid_t process)
{
    char name[64];
    snprintf(name, sizeof(name), "/proc/%d/task", process);
    for (int pass = 0; pass < 2; pass++) { /* threads that began meanwhile */
        DIR *tasks = opendir(name);
        for (struct dirent *entry; tasks && (entry = readdir(tasks));) {
            bool known = false;
            pid_t id = (pid_t)atoi(entry->d_name);
            for (size_t i = 0; i < THREADS_MAX; i++)
                known |= threads[i].id == id;
            if (id > 0 && !known)
                seize(id);
        }
        if (tasks)
            closedir(tasks);
    }
    return threads[0].id ? 0 : -1;
}

/* One stop of a thread. */
static void serve(pid_t id, int status)
{
    struct thread *thread = thread_of(id);
    int event = status >> 16, signal = WSTOPSIG(status), passed_on = 0;
    if (event == PTRACE_EVENT_CLONE || event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK) {
        unsigned long child = 0;
        ptrace(PTRACE_GETEVENTMSG, id, 0, &child);
        thread_of((pid_t)child)->ours |= inject.children || number_in_status((pid_t)child, "Tgid:") == number_in_status(id, "Tgid:");
    } else if (event == PTRACE_EVENT_STOP) {
        if (!thread->ours && !inject.children && number_in_status(id, "Tgid:") != inject.group) {
            ptrace(PTRACE_DETACH, id, 0, 0);
            thread->id = 0;
            return;
        }
        thread->ours = true;
        if (signal != SIGTRAP) { /* stopped as a group */
            ptrace(PTRACE_LISTEN, id, 0, 0);
            return;
        }
    } else if (signal == (SIGTRAP | 0x80)) {
        system_call(id);
    } else {
        passed_on = signal;
    }
    ptrace(inject.done ? PTRACE_CONT : PTRACE_SYSCALL, id, 0, passed_on);
}

static void read_calls(char *words)
{
    inject.all = !strcmp(words, "all");
    for (char *word = strtok(words, ","); word && !inject.all; word = strtok(NULL, ",")) {
        long number = strtol(word, NULL, 10);
        if (number >= 0 && number < CALLS_MAX)
            inject.calls[number] = true;
    }
}

static void follow(pid_t command)
{
    int status;
    for (;;) {
        pid_t id = waitpid(-1, &status, __WALL);
        if (told_to_end && !inject.waiting)
            report(0);
        if (id < 0 && errno == EINTR)
            continue;
        if (id < 0)
            report(0);
        if (WIFSTOPPED(status))
            serve(id, status);
        else
            thread_of(id)->id = 0;
        if (!WIFSTOPPED(status) && id == inject.waiting)
            inject.done = true;
        if (!WIFSTOPPED(status) && id == command)
            report(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
        if (inject.done && !command)
            report(0); /* who follows them no longer lets them go */
    }
}

int main(int argc, char **argv)
{
    pid_t process = 0;
    for (int option; (option = getopt(argc, argv, "+p:fk:")) > 0;) {
        if (option == 'p')
            process = atoi(optarg);
        if (option == 'k')
            inject.victim = atoi(optarg);
        inject.children |= option == 'f';
    }
    if (argc - optind < 3 || (!process && argc - optind < 4))
        return 2;
    const char *action = argv[optind];
    inject.action = !strcmp(action, "count") ? COUNT : !strcmp(action, "kill") ? KILL : !strcmp(action, "short") ? SHORT : FAIL;
    inject.error = atoi(action);
    inject.at = atol(argv[optind + 1]);
    read_calls(argv[optind + 2]);
    struct sigaction action_of_end = {.sa_handler = end};
    sigaction(SIGTERM, &action_of_end, NULL);
    inject.group = process;
    if (process) {
        if (attach(process) < 0) {
            fprintf(stderr, "inject: %d cannot be followed: %s\n", process, strerror(errno));
            return 2;
        }
        printf("ready\n");
        fflush(stdout);
        follow(0);
    }
    pid_t command = inject.group = fork();
    if (command == 0) {
        raise(SIGSTOP);
        execv(argv[optind + 3], argv + optind + 3);
        _exit(127);
    }
    int status;
    waitpid(command, &status, WUNTRACED);
    seize(command);
    kill(command, SIGCONT);
    follow(command);
}
