/* execve: what it refuses and how, scripts, what the new program finds, what is kept and what is not. The program runs itself as the one that is
 * executed: `exec_semantics --report WHAT`. */
#define _GNU_SOURCE
#pragma GCC diagnostic ignored "-Wstringop-overread" /* bad addresses are the point */
#include "guest.h"

#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[] = "/tmp/exec-XXXXXX", self[PATH_MAX];
static char output[1 << 20];
extern char **environ;

static const char *in_folder(const char *name)
{
    static char paths[4][PATH_MAX];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, PATH_MAX, "%s/%s", folder, name);
    return path;
}

static const char *make_file(const char *name, const void *bytes, size_t size, mode_t mode)
{
    const char *path = in_folder(name);
    unlink(path);
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0700);
    CHECK(fd >= 0 && write(fd, bytes, size) == (ssize_t)size && fchmod(fd, mode) == 0 && close(fd) == 0);
    return path;
}

static const char *make_script(const char *name, const char *text)
{
    return make_file(name, text, strlen(text), 0755);
}

/* Runs `prepare_and_exec` in a child; its standard output. -errno of the exec is reported by exit status 200 + nothing. */
static int run_child(void (*prepare_and_exec)(void *), void *argument)
{
    int channel[2], status;
    CHECK_EQUAL(pipe(channel), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(channel[1], 1);
        close(channel[0]);
        close(channel[1]);
        prepare_and_exec(argument);
        dprintf(1, "failed %d", errno);
        _exit(99);
    }
    close(channel[1]);
    size_t size = 0;
    for (ssize_t count; (count = read(channel[0], output + size, sizeof output - 1 - size)) > 0;)
        size += (size_t)count;
    output[size] = '\0';
    close(channel[0]);
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    return status;
}

struct call { const char *path; char *const *arguments, *const *environment; };
static void do_exec(void *argument)
{
    const struct call *call = argument;
    execve(call->path, call->arguments, call->environment);
}

static const char *run(const char *path, char *const arguments[], char *const environment[])
{
    struct call call = {path, arguments, environment};
    run_child(do_exec, &call);
    return output;
}

static int error_of(const char *path)
{
    char *arguments[] = {"x", NULL};
    int error = 0;
    sscanf(run(path, arguments, environ), "failed %d", &error);
    return error;
}

#define CHECK_TEXT(actual, expected) \
    do { \
        const char *actual_ = (actual), *expected_ = (expected); \
        if (strcmp(actual_, expected_) != 0) { \
            fprintf(stderr, "%s:%d: %s is\n%s\nnot\n%s\n", __FILE__, __LINE__, #actual, actual_, expected_); \
            exit(1); \
        } \
    } while (0)

/* ---- Refusals ---- */

static void refusals_have_linuxs_errors(void)
{
    char long_name[PATH_MAX + 10];
    memset(long_name, 'a', sizeof long_name);
    long_name[sizeof long_name - 1] = '\0';
    CHECK_EQUAL(error_of(in_folder("absent")), ENOENT);
    CHECK_EQUAL(error_of(""), ENOENT);
    CHECK_EQUAL(error_of(long_name), ENAMETOOLONG);
    CHECK_EQUAL(error_of(folder), EACCES);
    CHECK_EQUAL(error_of("/dev/null"), EACCES);
    CHECK_EQUAL(error_of(make_file("not-executable", "#!/bin/true\n", 12, 0644)), EACCES);
    CHECK_EQUAL(error_of(make_file("empty", "", 0, 0755)), ENOEXEC);
    CHECK_EQUAL(error_of(make_file("text", "echo hi, this is no program at all but a text that is long enough to be one\n", 76, 0755)), ENOEXEC);
    CHECK_EQUAL(error_of(make_file("short", "\177ELF", 4, 0755)), ENOEXEC);
    snprintf(long_name, sizeof long_name, "%s/text/below", folder);
    CHECK_EQUAL(error_of(long_name), ENOTDIR);
    CHECK(symlink("loop", in_folder("loop")) == 0);
    CHECK_EQUAL(error_of(in_folder("loop")), ELOOP);
    CHECK_ERROR(execve((char *)8, environ, environ), EFAULT);
    CHECK_ERROR(execve(self, (char **)8, environ), EFAULT);
    CHECK_ERROR(execve(self, environ, (char **)8), EFAULT);
    char *bad[] = {"a", (char *)8, NULL};
    CHECK_ERROR(execve(self, bad, environ), EFAULT);
}

static void too_many_arguments_are_e2big(void)
{
    size_t size = 33 * 4096;
    char *text = malloc(size);
    memset(text, 'x', size);
    text[size - 1] = '\0';
    char *one[] = {text, NULL};
    struct call call = {self, one, environ};
    run_child(do_exec, &call);
    CHECK_TEXT(output, "failed 7");
    text[32 * 4096 - 1] = '\0'; /* the longest string that is taken */
    char *arguments[] = {self, "--report", "sizes", text, NULL};
    CHECK_TEXT(run(self, arguments, environ), "4 131071");
    enum { COUNT = 100 };
    char *many[COUNT + 1];
    for (int i = 0; i < COUNT; i++)
        many[i] = text;
    many[COUNT] = NULL;
    CHECK_TEXT(run(self, many, environ), "failed 7");
    free(text);
}

static void a_file_open_for_writing_is_busy(void)
{
    const char *path = make_script("busy", "#!/bin/true\n");
    int fd = open(path, O_WRONLY);
    CHECK(fd >= 0);
    CHECK_EQUAL(error_of(path), ETXTBSY);
    close(fd);
    CHECK_EQUAL(error_of(path), 0);
    /* And the reverse: our own program runs. */
    CHECK_ERROR(open(self, O_WRONLY), access(self, W_OK) == 0 ? ETXTBSY : errno);
}

static void broken_programs_are_refused_or_killed_but_never_run(void)
{
    Elf64_Ehdr header = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT}, .e_type = ET_EXEC, .e_machine = EM_X86_64, .e_version = 1,
                         .e_phoff = sizeof header, .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 2, .e_ehsize = sizeof header, .e_entry = 0x400000};
    Elf64_Phdr program = {.p_type = PT_INTERP, .p_offset = 0x200, .p_filesz = 8, .p_memsz = 8};
    Elf64_Phdr load = {.p_type = PT_LOAD, .p_vaddr = 0x400000, .p_filesz = 4096, .p_memsz = 4096, .p_flags = PF_R | PF_X, .p_align = 4096};
    char file[4096] = {0};
#define MAKE(name) \
    (memcpy(file, &header, sizeof header), memcpy(file + sizeof header, &program, sizeof program), \
     memcpy(file + sizeof header + sizeof program, &load, sizeof load), make_file(name, file, sizeof file, 0755))
    strcpy(file + 0x200, "/absent");
    CHECK_EQUAL(error_of(MAKE("interpreter-absent")), ENOENT);
    header.e_machine = EM_AARCH64;
    CHECK_EQUAL(error_of(MAKE("other-machine")), ENOEXEC);
    header.e_machine = EM_X86_64;
    header.e_phentsize = 10;
    CHECK_EQUAL(error_of(MAKE("odd-headers")), ENOEXEC);
    header.e_phentsize = sizeof program;
    header.e_type = ET_REL;
    CHECK_EQUAL(error_of(MAKE("object")), ENOEXEC);
    header.e_type = ET_EXEC;
    program.p_filesz = 1;
    CHECK_EQUAL(error_of(MAKE("empty-interpreter")), ENOEXEC);
}

/* ---- Scripts ---- */

static void scripts_get_their_arguments(void)
{
    char line[PATH_MAX + 64], expected[4 * PATH_MAX];
    char *arguments[] = {"zero", "one", "two words", NULL};
    /* The argument of the first line is one, spaces in it and all. */
    snprintf(line, sizeof line, "#! %s  --report arguments \n", self);
    const char *script = make_script("spaces", line);
    snprintf(expected, sizeof expected, "[%s][--report arguments][%s][one][two words]", self, script);
    CHECK_TEXT(run(script, arguments, environ), expected);
    snprintf(line, sizeof line, "#!%s\n", self);
    script = make_script("plain", line);
    snprintf(expected, sizeof expected, "[%s][%s][one][two words]", self, script);
    CHECK_TEXT(run(script, arguments, environ), expected);
    /* Without a newline at the end; and without any argument of its own. */
    snprintf(line, sizeof line, "#!%s", self);
    char *none[] = {NULL};
    script = make_script("cut", line);
    snprintf(expected, sizeof expected, "[%s][%s]", self, script);
    CHECK_TEXT(run(script, none, environ), expected);
    CHECK_EQUAL(error_of(make_script("blank", "#!   \n")), ENOEXEC);
    CHECK_EQUAL(error_of(make_script("absent-interpreter", "#!/absent/interpreter\n")), ENOENT);
    CHECK_EQUAL(error_of(make_script("folder-interpreter", "#!/tmp\n")), EACCES);
}

static void scripts_of_scripts_end_at_a_depth(void)
{
    char line[PATH_MAX + 8], name[16];
    snprintf(line, sizeof line, "#!%s\n", self);
    make_script("s0", line);
    for (int i = 1; i < 6; i++) {
        snprintf(line, sizeof line, "#!%s/s%d\n", folder, i - 1);
        snprintf(name, sizeof name, "s%d", i);
        make_script(name, line);
    }
    CHECK_EQUAL(error_of(in_folder("s3")), 0);
    CHECK(strncmp(output, "[", 1) == 0);
    CHECK_EQUAL(error_of(in_folder("s4")), 0);
    CHECK_EQUAL(error_of(in_folder("s5")), ELOOP);
}

/* ---- What the program finds ---- */

static void the_program_finds_arguments_environment_and_auxiliary_vector(void)
{
    char *arguments[] = {self, "--report", "arguments", "", "x", NULL}, *environment[] = {"A=1", "B=", NULL};
    char expected[PATH_MAX + 64];
    snprintf(expected, sizeof expected, "[%s][--report][arguments][][x]", self);
    CHECK_TEXT(run(self, arguments, environment), expected);
    char *report[] = {self, "--report", "environment", NULL}, *empty[] = {NULL};
    CHECK_TEXT(run(self, report, environment), "[A=1][B=]");
    CHECK_TEXT(run(self, report, empty), "");
    CHECK_TEXT(run(self, report, NULL), "");
    char *vector[] = {self, "--report", "vector", NULL};
    CHECK_TEXT(run(self, vector, environ), "fine");
    CHECK_TEXT(run(self, NULL, environ), "[]"); /* since Linux 5.18 */
    char *command[] = {self, "--report", "command", "with space", NULL};
    snprintf(expected, sizeof expected, "%s|--report|command|with space|", self);
    CHECK_TEXT(run(self, command, environ), expected);
}

static void on_term(int signal) {}
static void set_state(void *argument)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_SETMASK, &set, NULL);
    raise(SIGUSR2);
    signal(SIGHUP, SIG_IGN);
    signal(SIGTERM, on_term);
    stack_t stack = {.ss_sp = malloc(SIGSTKSZ), .ss_size = (size_t)SIGSTKSZ};
    sigaltstack(&stack, NULL);
    fcntl(open("/dev/null", O_RDONLY), F_DUPFD, 20);
    fcntl(open("/dev/null", O_RDONLY), F_DUPFD_CLOEXEC, 30);
    umask(027);
    alarm(100);
    prctl(PR_SET_NAME, "renamed");
    prctl(PR_SET_KEEPCAPS, 1);
    personality(0);
    do_exec(argument);
}
static void what_is_kept_and_what_is_reset(void)
{
    char *arguments[] = {self, "--report", "state", NULL};
    struct call call = {self, arguments, environ};
    run_child(set_state, &call);
    CHECK_TEXT(output, "mask 1 1 pending 1 hup 1 term 0 altstack 0 fd20 1 fd30 0 umask 27 alarm 1 name exec_semantics");
}

static void *exec_from_thread(void *argument)
{
    do_exec(argument);
    return NULL;
}
static void *wait_forever(void *argument)
{
    for (;;)
        pause();
    return NULL;
}
static void start_threads(void *argument)
{
    pthread_t thread;
    for (int i = 0; i < 3; i++)
        pthread_create(&thread, NULL, wait_forever, NULL);
    pthread_create(&thread, NULL, exec_from_thread, argument);
    for (;;)
        sched_yield();
}
static void a_thread_that_execs_becomes_the_process(void)
{
    char *arguments[] = {self, "--report", "threads", NULL};
    struct call call = {self, arguments, environ};
    for (int i = 0; i < 10; i++) {
        int status = run_child(start_threads, &call);
        CHECK_EQUAL(status, 0);
        CHECK_TEXT(output, "same 1");
    }
}

/* ---- execveat and its kin ---- */

struct at_call { int fd; const char *path; int flags; char *const *arguments; };
static void do_execveat(void *argument)
{
    const struct at_call *call = argument;
    syscall(SYS_execveat, call->fd, call->path, call->arguments, environ, call->flags);
}
static const char *run_at(int fd, const char *path, int flags)
{
    char *arguments[] = {"me", "--report", "name", NULL};
    struct at_call call = {fd, path, flags, arguments};
    run_child(do_execveat, &call);
    return output;
}
static void execveat_takes_descriptors(void)
{
    char name[64], base[PATH_MAX], script_line[PATH_MAX + 64];
    int directory = open(folder, O_RDONLY | O_DIRECTORY), program = open(self, O_RDONLY | O_CLOEXEC), path_only = open(self, O_PATH);
    strcpy(base, strrchr(self, '/') + 1);
    CHECK(directory >= 0 && program >= 0 && path_only >= 0);
    CHECK_TEXT(run_at(program, "", 0), "failed 2");
    snprintf(name, sizeof name, "/dev/fd/%d", program);
    CHECK_TEXT(run_at(program, "", AT_EMPTY_PATH), name);
    snprintf(name, sizeof name, "/dev/fd/%d", path_only);
    CHECK_TEXT(run_at(path_only, "", AT_EMPTY_PATH), name);
    CHECK_TEXT(run_at(-1, self, 0), self);
    CHECK_TEXT(run_at(-1, "relative", 0), "failed 9");
    CHECK_TEXT(run_at(directory, "absent", 0), "failed 2");
    CHECK_TEXT(run_at(directory, "", AT_EMPTY_PATH), "failed 13");
    CHECK_TEXT(run_at(program, "x", 0), "failed 20");
    CHECK_TEXT(run_at(AT_FDCWD, self, 0x8000), "failed 22");
    unlink(in_folder("link"));
    CHECK_EQUAL(symlink(self, in_folder("link")), 0);
    snprintf(name, sizeof name, "/dev/fd/%d/link", directory);
    CHECK_TEXT(run_at(directory, "link", 0), name);
    CHECK_TEXT(run_at(directory, "link", AT_SYMLINK_NOFOLLOW), "failed 40");
    snprintf(script_line, sizeof script_line, "#!%s\n", self);
    int script = open(make_script("by-descriptor", script_line), O_RDONLY);
    snprintf(script_line, sizeof script_line, "[%s][/dev/fd/%d][--report][name]", self, script);
    CHECK_TEXT(run_at(script, "", AT_EMPTY_PATH), script_line);
    CHECK_EQUAL(fcntl(script, F_SETFD, FD_CLOEXEC), 0);
    CHECK_TEXT(run_at(script, "", AT_EMPTY_PATH), "failed 2");
    CHECK(close(directory) == 0 && close(program) == 0 && close(path_only) == 0 && close(script) == 0);
}

static void vfork_and_posix_spawn_leave_the_parent_alone(void)
{
    static int value = 1;
    for (int i = 0; i < 20; i++) {
        pid_t child;
        int status;
        char *arguments[] = {self, "--report", "exit", NULL};
        CHECK_EQUAL(posix_spawn(&child, self, NULL, NULL, arguments, environ), 0);
        CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 42);
        child = vfork();
        if (child == 0) {
            value++;
            execve(self, arguments, environ);
            _exit(1);
        }
        CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 42);
        child = vfork();
        if (child == 0)
            _exit(value & 7);
        CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == (value & 7));
    }
    CHECK_EQUAL(value, 21);
    pid_t child;
    char *arguments[] = {"x", NULL};
    CHECK_EQUAL(posix_spawn(&child, in_folder("absent"), NULL, NULL, arguments, environ), ENOENT);
}

static void the_break_begins_behind_the_program(void)
{
    char *end = sbrk(0);
    CHECK(end != (void *)-1 && sbrk(8192) == end);
    memset(end, 1, 8192);
    CHECK(sbrk(-8192) == end + 8192 && sbrk(0) == end);
}

/* ---- The other side ---- */

static void report_vector(void)
{
    extern char __ehdr_start[];
    const char *problem = NULL;
    const unsigned char *random = (void *)getauxval(AT_RANDOM);
    if (getauxval(AT_PAGESZ) != 4096 || getauxval(AT_CLKTCK) != 100)
        problem = "page size or ticks";
    if (strcmp((char *)getauxval(AT_PLATFORM), "x86_64") != 0)
        problem = "platform";
    if (!random || (random[0] == random[1] && random[1] == random[2] && random[2] == random[3]))
        problem = "random";
    if (getauxval(AT_UID) != getuid() || getauxval(AT_EUID) != geteuid() || getauxval(AT_GID) != getgid() || getauxval(AT_EGID) != getegid())
        problem = "ids";
    if (getauxval(AT_SECURE) != 0 || getauxval(AT_PHENT) != 56)
        problem = "secure or phent";
    const Elf64_Phdr *headers = (void *)getauxval(AT_PHDR);
    if ((char *)headers != __ehdr_start + 64 || getauxval(AT_PHNUM) != ((Elf64_Ehdr *)__ehdr_start)->e_phnum)
        problem = "program headers";
    if (getauxval(AT_ENTRY) < (unsigned long)__ehdr_start)
        problem = "entry";
    if (!getauxval(AT_BASE) || memcmp((void *)getauxval(AT_BASE), ELFMAG, SELFMAG) != 0)
        problem = "base";
    if (strcmp((char *)getauxval(AT_EXECFN), self) != 0)
        problem = "name";
    if (getauxval(51) < 1000)
        problem = "size of signal frames";
    printf("%s", problem ? problem : "fine");
}

static void report_state(void)
{
    sigset_t mask, pending;
    struct sigaction hup, term;
    stack_t stack;
    char name[17] = {0};
    sigprocmask(SIG_SETMASK, NULL, &mask);
    sigpending(&pending);
    sigaction(SIGHUP, NULL, &hup);
    sigaction(SIGTERM, NULL, &term);
    sigaltstack(NULL, &stack);
    prctl(PR_GET_NAME, name);
    mode_t mode = umask(0);
    printf("mask %d %d pending %d hup %d term %d altstack %d fd20 %d fd30 %d umask %o alarm %d name %s", sigismember(&mask, SIGUSR1),
           sigismember(&mask, SIGUSR2), sigismember(&pending, SIGUSR2), hup.sa_handler == SIG_IGN, term.sa_handler != SIG_DFL,
           !(stack.ss_flags & SS_DISABLE), fcntl(20, F_GETFD) >= 0, fcntl(30, F_GETFD) >= 0, mode, alarm(0) > 90, name);
}

static int report(int argc, char **argv)
{
    const char *what = argc > 2 && strcmp(argv[1], "--report") == 0 ? argv[2] : "arguments";
    if (strcmp(what, "environment") == 0) {
        for (char **variable = environ; *variable; variable++)
            printf("[%s]", *variable);
    } else if (strcmp(what, "vector") == 0) {
        strcpy(self, argv[0]);
        report_vector();
    } else if (strcmp(what, "sizes") == 0) {
        printf("%d %zu", argc, strlen(argv[3]));
    } else if (strcmp(what, "state") == 0) {
        report_state();
    } else if (strcmp(what, "threads") == 0) {
        printf("same %d", getpid() == (pid_t)syscall(SYS_gettid));
    } else if (strcmp(what, "name") == 0 && argc == 3) {
        printf("%s", (char *)getauxval(AT_EXECFN));
    } else if (strcmp(what, "exit") == 0) {
        return 42;
    } else if (strcmp(what, "command") == 0) {
        char text[PATH_MAX];
        int fd = open("/proc/self/cmdline", O_RDONLY);
        ssize_t size = read(fd, text, sizeof text);
        for (ssize_t i = 0; i < size; i++)
            putchar(text[i] ? text[i] : '|');
    } else {
        for (int i = 0; i < argc; i++)
            printf("[%s]", argv[i]);
    }
    return 0;
}

static const struct guest_case cases[] = {
    GUEST_CASE(refusals_have_linuxs_errors), GUEST_CASE(too_many_arguments_are_e2big), GUEST_CASE(a_file_open_for_writing_is_busy),
    GUEST_CASE(broken_programs_are_refused_or_killed_but_never_run), GUEST_CASE(scripts_get_their_arguments),
    GUEST_CASE(scripts_of_scripts_end_at_a_depth), GUEST_CASE(the_program_finds_arguments_environment_and_auxiliary_vector),
    GUEST_CASE(what_is_kept_and_what_is_reset), GUEST_CASE(a_thread_that_execs_becomes_the_process), GUEST_CASE(execveat_takes_descriptors),
    GUEST_CASE(vfork_and_posix_spawn_leave_the_parent_alone), GUEST_CASE(the_break_begins_behind_the_program),
};

int main(int argc, char **argv)
{
    /* Nobody but the test runs it without arguments and without its mark. */
    if (argc != 1 || getenv("EXEC_CHILD") || !getenv("PATH"))
        return report(argc, argv);
    ssize_t size = readlink("/proc/self/exe", self, sizeof self - 1);
    CHECK(size > 0 && mkdtemp(folder));
    setenv("EXEC_CHILD", "1", 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (getenv("GUEST_VERBOSE"))
            fprintf(stderr, "%s\n", cases[i].name);
        cases[i].run();
    }
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}
