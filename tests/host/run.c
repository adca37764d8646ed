/* Runs the tests of the stub image, each in a sandbox of its own, against a small stand-in for the
 * monitor. TAP output.
 *
 * Usage: host-run STUB [TEST]. Every test runs in each mode of the filter: with a pid namespace
 * (where the host grants one), with signals confined in another way, and without either. RUN_TRACE
 * in the environment prints each call of the ABI. */

#define _GNU_SOURCE
#include <bailey/rpc.h>
#include <bailey/start.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WORKERS = 2, HANDLES = 4096, NAMES_MAX = 200, LIMIT_SECONDS = 60 };
/* Handles that the start information gives. */
enum { HEAP = 1, BULK, INPUT, OUTPUT, WAKE, CONTROL, FIRST_OPENED };

static struct sandbox {
    struct bly_rpc_channel *channel;
    struct bly_start_info *info;
    uint32_t *heap;
    int channel_fd, info_fd, heap_fd, bulk_fd, preset_fd, log[2], pipe[2], wake, control[2], folder;
    int sockets[BLY_RPC_SLOT_COUNT][2];
    pthread_mutex_t lock;
    struct {
        bly_handle handle;
        int fd;
    } masters[HANDLES];
    uint32_t generation;
    pthread_t workers[WORKERS];
    _Atomic bool stop;
} sandbox;

static void die(const char *what)
{
    printf("Bail out! %s: %s\n", what, strerror(errno));
    exit(1);
}
static int must(int result, const char *what)
{
    if (result < 0)
        die(what);
    return result;
}

static void futex_wake(void *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* ---- The stand-in monitor ---- */

static void send_descriptor(int socket, int fd)
{
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec part = {"d", 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    must((int)sendmsg(socket, &message, 0), "sendmsg");
}

static int open_master(const struct bly_rpc_slot *slot, bly_handle *out_handle)
{
    char path[64] = "";
    if (slot->data_size >= sizeof path)
        return -ENAMETOOLONG;
    memcpy(path, slot->data, slot->data_size);
    bool folder = !strncmp(path, "dir:0/", 6);
    if (!folder && strncmp(path, "file:0/", 7))
        return -EINVAL;
    const char *name = strchr(path, '/') + 1;
    int flags = folder ? O_DIRECTORY : slot->u[0] & BLY_ACCESS_WRITE ? O_RDWR : O_RDONLY;
    if (slot->u[1] & BLY_OPEN_CREATE)
        flags |= O_CREAT;
    int fd = openat(sandbox.folder, *name ? name : ".", flags | O_CLOEXEC, (mode_t)slot->u[2]);
    if (fd < 0)
        return -errno;
    for (uint32_t i = FIRST_OPENED; i < HANDLES; i++)
        if (!sandbox.masters[i].handle) {
            sandbox.masters[i].handle = *out_handle = (sandbox.generation++ & 4095) << 20 | i;
            sandbox.masters[i].fd = fd;
            return fd;
        }
    return -EMFILE;
}

static void serve(uint32_t index)
{
    struct bly_rpc_slot *slot = &sandbox.channel->slots[index];
    int fd = -1;
    bool silent = false;
    pthread_mutex_lock(&sandbox.lock);
    uint32_t at = slot->u[0] & 0xfffff;
    bool known = at < HANDLES && sandbox.masters[at].handle == (bly_handle)slot->u[0] && slot->u[0];
    slot->result = 0;
    switch (slot->operation) {
    case BLY_RPC_OPEN: {
        bly_handle handle = 0;
        fd = open_master(slot, &handle);
        slot->result = fd < 0 ? fd : 0;
        slot->u[0] = handle;
        slot->u[2] = BLY_RPC_STREAM_COHERENT;
        struct bly_attributes attributes = {.kind = slot->data[0] == 'd' ? BLY_KIND_DIRECTORY
                                                                         : BLY_KIND_FILE};
        memcpy(slot->data, &attributes, sizeof attributes);
        slot->data_size = sizeof attributes;
        break;
    }
    case BLY_RPC_FETCH:
        fd = known ? sandbox.masters[at].fd : -1;
        slot->result = known ? 0 : -EBADF;
        slot->u[0] = BLY_KIND_FILE;
        slot->u[2] = BLY_RPC_STREAM_COHERENT;
        break;
    case BLY_RPC_CLOSE:
        silent = slot->u[1] == 1;
        if (known) {
            close(sandbox.masters[at].fd);
            sandbox.masters[at].handle = 0;
        }
        break;
    case BLY_RPC_INTERRUPT:
        slot->result =
            syscall(SYS_tgkill, (pid_t)slot->u[0], (pid_t)slot->u[1], BLY_INTERRUPT_SIGNAL) < 0
                ? -errno
                : 0;
        break;
    case BLY_RPC_CPU_TIME: {
        clockid_t clock;
        struct timespec time = {0};
        bool found =
            !clock_getcpuclockid((pid_t)slot->u[0], &clock) && !clock_gettime(clock, &time);
        slot->result = found ? 0 : -ESRCH;
        slot->u[0] = (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
        break;
    }
    case BLY_RPC_SYSTEM_QUERY: {
        struct bly_system_info system = {.cpu_count = 3};
        memcpy(slot->data, &system, sizeof system);
        slot->data_size = sizeof system;
        break;
    }
    case BLY_RPC_PROCESS_ENDED:
        for (uint32_t i = 0; i < BLY_RPC_SLOT_COUNT; i++)
            if (sandbox.channel->slots[i].owner_process == (uint32_t)slot->u[0]) {
                sandbox.channel->slots[i].owner_process = 0;
                sandbox.channel->slots[i].state = BLY_RPC_FREE;
            }
        break;
    default:
        slot->result = -ENOSYS;
    }
    slot->has_descriptor = fd >= 0;
    if (fd >= 0)
        send_descriptor(sandbox.sockets[index][0], fd);
    pthread_mutex_unlock(&sandbox.lock);
    if (silent) {
        slot->owner_process = 0;
        slot->state = BLY_RPC_FREE;
        sandbox.channel->free_sequence++;
        futex_wake(&sandbox.channel->free_sequence);
    } else {
        slot->state = BLY_RPC_DONE;
        futex_wake(&slot->state);
    }
}

static void *worker(void *argument)
{
    struct bly_rpc_doorbell *bell = &sandbox.channel->doorbells[(uintptr_t)argument];
    while (!sandbox.stop) {
        uint32_t bits = __atomic_exchange_n((uint32_t *)&bell->bits, 0, __ATOMIC_SEQ_CST);
        for (uint32_t i = 0; i < BLY_RPC_SLOT_COUNT; i++)
            if (bits & 1u << i && sandbox.channel->slots[i].state == BLY_RPC_SUBMITTED)
                serve(i);
        if (bits)
            continue;
        bell->asleep = 1;
        if (!sandbox.stop)
            syscall(SYS_futex, &bell->bits, FUTEX_WAIT, 0, NULL, NULL, 0);
        bell->asleep = 0;
    }
    return NULL;
}

/* ---- Making a sandbox ---- */

static void *segment(const char *name, int *out_fd, uint64_t size, uint64_t mapped)
{
    *out_fd = must(memfd_create(name, MFD_CLOEXEC), "memfd_create");
    must(ftruncate(*out_fd, (off_t)size), "ftruncate");
    void *memory = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_SHARED, *out_fd, 0);
    if (memory == MAP_FAILED)
        die("mmap");
    return memory;
}

static void remove_files(void)
{
    char command[64];
    snprintf(command, sizeof command, "/proc/self/fd/%d", sandbox.folder);
    char path[PATH_MAX] = "";
    if (readlink(command, path, sizeof path - 1) <= 0)
        return;
    for (int i = 0; i < 300; i++) {
        char name[16];
        snprintf(name, sizeof name, "f%03d", i);
        unlinkat(sandbox.folder, name, 0);
    }
    unlinkat(sandbox.folder, "a", 0);
    unlinkat(sandbox.folder, "b", 0);
    unlinkat(sandbox.folder, "c", 0);
    unlinkat(sandbox.folder, "d", 0);
    rmdir(path);
}

/* As in filter.def. */
enum mode { NAMESPACED, SCOPED, OPEN, MODE_COUNT };
static const char *const modes[MODE_COUNT] = {"namespaced", "scoped", "open"};

static void sandbox_make(const char *test, enum mode mode)
{
    memset(&sandbox, 0, sizeof sandbox);
    pthread_mutex_init(&sandbox.lock, NULL);
    sandbox.channel =
        segment("channel", &sandbox.channel_fd, sizeof *sandbox.channel, sizeof *sandbox.channel);
    sandbox.info = segment("info", &sandbox.info_fd, BLY_START_SIZE, BLY_START_SIZE);
    sandbox.heap = segment("heap", &sandbox.heap_fd, BLY_HEAP_SIZE, 4096);
    segment("bulk", &sandbox.bulk_fd, BLY_BULK_SIZE, 4096);
    char folder[] = "/tmp/bailey-host-test-XXXXXX";
    if (!mkdtemp(folder))
        die("mkdtemp");
    sandbox.folder = must(open(folder, O_DIRECTORY | O_CLOEXEC), folder);
    must(pipe2(sandbox.log, O_CLOEXEC), "pipe");
    must(pipe2(sandbox.pipe, O_CLOEXEC), "pipe");
    must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sandbox.control), "socketpair");
    sandbox.wake = must(eventfd(0, EFD_CLOEXEC), "eventfd");
    for (uint32_t i = 0; i < BLY_RPC_SLOT_COUNT; i++)
        must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sandbox.sockets[i]),
             "socketpair");
    struct bly_preset presets[] = {
        {HEAP, BLY_FD_HEAP, BLY_KIND_FILE, 3},      {BULK, BLY_FD_BULK, BLY_KIND_FILE, 3},
        {INPUT, BLY_FD_OTHERS, BLY_KIND_PIPE, 1},   {OUTPUT, BLY_FD_OTHERS + 1, BLY_KIND_PIPE, 2},
        {WAKE, BLY_FD_WAKE_POOL, BLY_KIND_PIPE, 3}, {CONTROL, BLY_FD_CONTROL, BLY_KIND_SOCKET, 3},
    };
    memcpy(segment("preset", &sandbox.preset_fd, sizeof presets, sizeof presets), presets,
           sizeof presets);
    struct bly_start_info *info = sandbox.info;
    *info = (struct bly_start_info){.magic = BLY_START_MAGIC,
                                    .version = BLY_ABI_VERSION,
                                    .heap = HEAP,
                                    .bulk = BULK,
                                    .wake_pool = WAKE,
                                    .wake_pool_count = 1,
                                    .control = CONTROL,
                                    .total_size = BLY_START_SIZE};
    info->standard[0].handle = INPUT;
    info->standard[1].handle = OUTPUT;
    info->program = sizeof *info;
    info->flags = (mode != OPEN ? BLY_START_CONFINED_SIGNALS : 0) |
                  (getenv("RUN_TRACE") ? BLY_START_TRACE_ABI : 0);
    strcpy((char *)info + info->program, test);
    if (!strcmp(test, "a_chosen_call_fails")) {
        info->fault_call = info->program + (uint32_t)strlen(test) + 1;
        info->fault_number = 2;
        info->fault_error = -ENOMEM;
        strcpy((char *)info + info->fault_call, "memory_map");
    }
    sandbox.channel->worker_count = WORKERS;
    for (uintptr_t i = 0; i < WORKERS; i++)
        if (pthread_create(&sandbox.workers[i], NULL, worker, (void *)i))
            die("pthread_create");
}

static void sandbox_end(void)
{
    sandbox.stop = true;
    for (int i = 0; i < WORKERS; i++) {
        while (pthread_tryjoin_np(sandbox.workers[i], NULL)) {
            futex_wake(&sandbox.channel->doorbells[i].bits);
            usleep(100);
        }
    }
    remove_files();
    for (int fd = 3; fd < 1024; fd++)
        close(fd);
    munmap(sandbox.channel, sizeof *sandbox.channel);
    munmap(sandbox.info, BLY_START_SIZE);
    munmap(sandbox.heap, 4096);
}

/* All but the first ones, as the monitor does (rpc.h). */
static void give_descriptors(void)
{
    char byte = 0;
    int descriptors[BLY_FD_OTHERS - BLY_FD_RECEIVED + 2] = {
        sandbox.info_fd, sandbox.channel_fd, sandbox.preset_fd, sandbox.heap_fd, sandbox.bulk_fd};
    int count = BLY_FD_SLOT_SOCKETS - BLY_FD_RECEIVED;
    for (uint32_t i = 0; i < BLY_RPC_SLOT_COUNT; i++)
        descriptors[count++] = sandbox.sockets[i][1];
    descriptors[count++] = sandbox.pipe[0];
    descriptors[count++] = sandbox.pipe[1];
    union {
        char space[CMSG_SPACE(sizeof descriptors)];
        struct cmsghdr align;
    } control = {0};
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    control.align.cmsg_level = SOL_SOCKET;
    control.align.cmsg_type = SCM_RIGHTS;
    control.align.cmsg_len = CMSG_LEN(sizeof descriptors);
    memcpy(CMSG_DATA(&control.align), descriptors, sizeof descriptors);
    must((int)sendmsg(sandbox.control[0], &message, MSG_NOSIGNAL), "sendmsg");
}

static pid_t launch(const char *image, enum mode mode)
{
    give_descriptors();
    int flags = SIGCHLD | (mode == NAMESPACED ? CLONE_NEWUSER | CLONE_NEWPID : 0);
    pid_t child = (pid_t)syscall(SYS_clone, flags, NULL, NULL, NULL, 0);
    if (child > 0)
        setpgid(child, child);
    if (child)
        return child;
    setpgid(0, 0);
    struct rlimit limit = {300, 300}, none = {0, 0};
    const int control = fcntl(sandbox.control[1], F_DUPFD_CLOEXEC, 200);
    const int log = fcntl(sandbox.log[1], F_DUPFD_CLOEXEC, 200);
    const int wake = fcntl(sandbox.wake, F_DUPFD_CLOEXEC, 200);
    dup2(control, BLY_FD_CONTROL);
    dup2(log, BLY_FD_LOG);
    for (int i = 0; i < (int)BLY_WAKE_POOL_COUNT; i++)
        dup2(wake, BLY_FD_WAKE_POOL + i);
    setrlimit(RLIMIT_NOFILE, &limit);
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    char scoped[] = {BLY_MODE_LETTER, 0};
    char *const arguments[] = {"stub", mode != OPEN ? scoped : NULL, NULL}, *const environment[] = {
                                                                                NULL};
    execve(image, arguments, environment);
    _exit(126);
}

/* ---- Watching one ---- */

static const char *strange_mapping(pid_t child)
{
    static char line[512];
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/maps", child);
    FILE *maps = fopen(path, "re");
    if (!maps)
        die(path);
    while (fgets(line, sizeof line, maps)) {
        unsigned long start, end;
        if (sscanf(line, "%lx-%lx", &start, &end) != 2 ||
            (start >= BLY_WINDOW_START && end <= BLY_WINDOW_END) || strstr(line, "[vsyscall]"))
            continue;
        fclose(maps);
        return line;
    }
    fclose(maps);
    return NULL;
}

/* Reads the log until the sandbox has ended. `names` collects lines, when given. */
static void read_log(pid_t child, char (*names)[128], int *name_count, char *problem,
                     size_t problem_size)
{
    unsigned char buffer[BLY_LOG_RECORD_MAX];
    close(sandbox.log[1]);
    for (;;) {
        struct bly_log_record record;
        ssize_t size = read(sandbox.log[0], &record, sizeof record);
        if (size != (ssize_t)sizeof record)
            return;
        for (size_t got = 0; got < record.size; got += (size_t)size) {
            size = read(sandbox.log[0], buffer + got, record.size - got);
            if (size <= 0)
                return;
        }
        if (record.level == BLY_LOG_ERROR)
            snprintf(problem, problem_size, "%.*s", record.size, (char *)buffer);
        else if (names && *name_count < NAMES_MAX)
            snprintf(names[(*name_count)++], 128, "%.*s", record.size, (char *)buffer);
        else if (record.size < 200)
            printf("# [%u] %.*s\n", record.process, record.size, (char *)buffer);
        if (record.size == 15 && !memcmp(buffer, "look at my maps", 15)) {
            const char *strange = strange_mapping(child);
            if (strange)
                snprintf(problem, problem_size, "outside the window: %.400s", strange);
            __atomic_store_n(&sandbox.heap[1], 1, __ATOMIC_SEQ_CST);
            futex_wake(&sandbox.heap[1]);
        }
    }
}

static volatile pid_t running;
static void too_long(int number)
{
    (void)number, kill(-running, SIGKILL);
}

static bool run(const char *image, const char *test, enum mode mode, char (*names)[128],
                int *name_count, char *problem)
{
    int status = 0;
    sandbox_make(test, mode);
    pid_t child = launch(image, mode);
    if (child < 0) {
        sandbox_end();
        return false;
    }
    problem[0] = 0;
    running = child;
    alarm(LIMIT_SECONDS);
    read_log(child, names, name_count, problem, 512);
    if (waitpid(child, &status, 0) == child && status && !problem[0])
        snprintf(problem, 512, "ended with status 0x%x", (unsigned)status);
    alarm(0);
    sandbox_end();
    return true;
}

int main(int count, char **arguments)
{
    static char names[NAMES_MAX][128];
    int name_count = 0, number = 0;
    bool failed = false;
    char problem[512];
    if (count < 2)
        return 2;
    signal(SIGALRM, too_long);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (count > 2)
        for (; name_count < count - 2; name_count++)
            snprintf(names[name_count], 128, "%s", arguments[name_count + 2]);
    else
        run(arguments[1], "list", OPEN, names, &name_count, problem);
    printf("1..%d\n", name_count * MODE_COUNT);
    for (int i = 0; i < name_count; i++)
        for (enum mode mode = 0; mode < MODE_COUNT; mode++) {
            if (!run(arguments[1], names[i], mode, NULL, NULL, problem))
                printf("ok %d - %s (%s) # SKIP no namespaces here\n", ++number, names[i],
                       modes[mode]);
            else
                printf("%sok %d - %s (%s)\n", problem[0] ? "not " : "", ++number, names[i],
                       modes[mode]);
            if (problem[0])
                printf("# %s\n", problem), failed = true;
        }
    return failed;
}
