/* Starting a sandbox: everything the first picoprocess is born with, the walls that this host offers, the clone. Invariant: the
 * calling process has one thread until the clone is done. */
#include "monitor/sandbox.h"

#include "base/cleanup.h"
#include "monitor/installed.h"
#include "monitor/processor-features.h"
#include "monitor/suspension/absent.h"
#include "monitor/suspension/arriving.h"
#include "monitor/suspension/resume.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/landlock.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NOBODY 65534u
#define LOG_PIPE_SIZE 65536

/* ---- Memory ---- */

/* Sparse: pages exist once they are touched. A host or a limit that refuses the full size gets half of it, and so on. */
static int make_memory(const char *name, uint64_t size, uint64_t least, struct error *error)
{
    cleanup_close int memory = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (memory < 0)
        return error_set_errno(error, -errno, "cannot make the sandbox's memory");
    while (ftruncate(memory, (off_t)size) < 0) {
        if (size <= least)
            return error_set_errno(error, -errno, "cannot make the sandbox's memory (ulimit -f?)");
        size /= 2;
    }
    if (fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return error_set_errno(error, -errno, "cannot seal the sandbox's memory");
    return take_descriptor(&memory);
}

/* A resumed sandbox's is as large as it was; the heap is filled, the bulk segment when it is wanted (suspension/absent.c). */
static int make_segment(struct mon_sandbox *sandbox, const char *name, uint32_t kind, uint64_t start, uint64_t size, struct error *error)
{
    if (!sandbox->resume)
        return make_memory(name, size, 1ull << 28, error);
    size = kind == IMG_SPACE_HEAP ? sandbox->resume->image->sandbox.heap_size : sandbox->resume->image->sandbox.bulk_size;
    cleanup_close int memory = make_memory(name, size, size, error);
    if (memory < 0)
        return memory;
    int result = kind == IMG_SPACE_HEAP ? mon_resume_segment(sandbox, kind, start, memory, error) : mon_absent_begin(sandbox, memory, error);
    return result < 0 ? result : take_descriptor(&memory);
}

/* ---- Walls ---- */

/* Rights known to each version of Landlock; an older kernel refuses a ruleset with rights it does not know. */
static int make_landlock(int image, bool *out_scoped)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (version < 0)
        return -errno;
    struct {
        uint64_t fs, net, scoped;
    } attributes = {.fs = version >= 5 ? 0xffff : version >= 3 ? 0x7fff : version == 2 ? 0x3fff : 0x1fff,
                    .net = version >= 4 ? 3 : 0,    /* TCP bind, connect */
                    .scoped = version >= 6 ? 3 : 0}; /* abstract sockets, signals */
    size_t size = version >= 6 ? 24 : version >= 4 ? 16 : 8;
    long ruleset = syscall(SYS_landlock_create_ruleset, &attributes, size, 0);
    if (ruleset < 0)
        return -errno;
    struct landlock_path_beneath_attr rule = {.allowed_access = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE,
                                              .parent_fd = image};
    if (syscall(SYS_landlock_add_rule, (int)ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0) {
        int error = -errno;
        close((int)ruleset);
        return error;
    }
    *out_scoped = version >= 6;
    return (int)ruleset;
}

/* The child's root: a folder of ours in which nothing is ever made, beside the sandboxes' own. */
static int open_empty_folder(const struct mon_policy *policy)
{
    if (!policy->state_path)
        return -ENOENT;
    cleanup_free char *path = text_print("%s/../.empty", policy->state_path);
    int folder = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (folder < 0 && errno == ENOENT && mkdir(path, 0555) == 0) {
        chmod(path, 0555); /* whatever our umask is */
        folder = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    }
    return folder < 0 ? -errno : folder;
}

/* In our memory, on a stack of its own (confine.c says why). */
static pid_t clone_child(struct mon_sandbox *sandbox, uint64_t flags)
{
    pid_t child = clone(mon_confine_and_execute, sandbox->child_stack + sizeof(sandbox->child_stack), (int)(flags | CLONE_VM | SIGCHLD),
                        &sandbox->confinement);
    return child < 0 ? -errno : child;
}

/* Namespaces, in the order of trying: fewer until the host agrees; none is what is left where they are forbidden.
 *
 * Mount and network namespaces only stand in for Landlock where that is missing: it forbids all files, TCP, foreign signals and
 * abstract sockets, the filter lets no socket be made, and the two cost 0.1 and 0.5 ms of a start (docs/performance.md). */
static pid_t start_child(struct mon_sandbox *sandbox)
{
    struct mon_confinement *confinement = &sandbox->confinement;
    uint64_t user = confinement->by_root ? 0 : CLONE_NEWUSER;
    uint64_t covered = confinement->scoped ? 0 : CLONE_NEWNS | CLONE_NEWNET;
    const uint64_t choices[] = {user | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP | covered,
                                user | CLONE_NEWPID | CLONE_NEWIPC | (covered & CLONE_NEWNS), user | CLONE_NEWPID, 0};
    pid_t child = -EPERM;
    for (size_t i = 0; i < sizeof(choices) / sizeof(choices[0]) && child < 0; i++) {
        confinement->namespaces = choices[i];
        child = clone_child(sandbox, choices[i]);
        if (child == -EAGAIN || child == -ENOMEM)
            break;
    }
    return child;
}

/* ---- Descriptors ---- */

/* What the child is given beside its first descriptors (rpc.h). */
struct inheritance {
    struct bly_preset presets[BLY_FD_RECEIVED_END];
    size_t preset_count;
    int descriptors[BLY_FD_RECEIVED_END - BLY_FD_RECEIVED];
    int count;
};

/* Returns the number that it will have there. */
static int give(struct inheritance *inheritance, int descriptor)
{
    inheritance->descriptors[inheritance->count] = descriptor;
    return BLY_FD_RECEIVED + inheritance->count++;
}

static void preset(struct inheritance *inheritance, bly_handle handle, int descriptor, unsigned kind, unsigned access)
{
    inheritance->presets[inheritance->preset_count++] = (struct bly_preset){handle, descriptor, kind, access};
}

static void give_streams(struct inheritance *inheritance, const struct mon_stdio *stdio)
{
    const bly_handle handles[5] = {stdio->standard[0].handle, stdio->standard[1].handle, stdio->standard[2].handle,
                                   stdio->terminal_input, stdio->terminal_output};
    for (unsigned i = 0; i < 5; i++) {
        bool reads = i == 0 || i == 3;
        if (stdio->given[i] >= 0)
            preset(inheritance, handles[i], give(inheritance, stdio->given[i]), stdio->given_kinds[i],
                   reads ? BLY_ACCESS_READ : BLY_ACCESS_WRITE);
    }
}

/* A child that could not confine itself has said why, and is gone: its record is read later. */
static int send_descriptors(int channel, const struct inheritance *inheritance)
{
    char byte = 0;
    union {
        char space[CMSG_SPACE(sizeof(inheritance->descriptors))];
        struct cmsghdr align;
    } control = {0};
    const size_t size = (size_t)inheritance->count * sizeof(int);
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_SPACE(size)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(header), inheritance->descriptors, size);
    return sendmsg(channel, &message, MSG_NOSIGNAL) >= 0 || errno == EPIPE || errno == ECONNRESET ? 0 : -errno;
}

static void raise_limit_of_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static uint32_t handle_limit(void)
{
    struct rlimit limit;
    uint64_t count = getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY ? limit.rlim_cur : 1u << 20;
    /* Room for the monitor's own: sockets, workers' lookups, clients. */
    count = count > 512 ? count - 256 : count / 2;
    return count < BLY_LOCAL_HANDLE_FIRST ? (uint32_t)count : BLY_LOCAL_HANDLE_FIRST;
}

/* Whether a grant lies where the server may stop answering. */
static bool may_hang(const struct mon_files *files, bool view_too)
{
    for (uint32_t i = 0; i < files->folder_count; i++) {
        const struct mon_folder *folder = &files->folders[i];
        if (folder->root >= 0 && (view_too || !folder->default_view) && mon_file_has_server(folder->root))
            return true;
    }
    return false;
}

static int prepare_servers(struct mon_sandbox *sandbox, struct error *error)
{
    raise_limit_of_files();
    int result = mon_files_init(&sandbox->files, sandbox->policy);
    if (result < 0)
        return error_set_errno(error, result, "cannot open the granted folders");
    for (uint32_t i = 0; i < sandbox->files.folder_count; i++)
        if (sandbox->files.folders[i].root < 0 && !sandbox->files.folders[i].default_view)
            note("%s is not there any more: it will be missing in the sandbox", sandbox->files.folders[i].host_path);
    sandbox->files.audit = sandbox->audit;
    mon_handles_init(&sandbox->handles, handle_limit());
    sandbox->rpc.files = &sandbox->files;
    sandbox->rpc.handles = &sandbox->handles;
    sandbox->rpc.memory_limit = sandbox->policy->memory_limit;
    sandbox->rpc.interrupt = mon_interrupt;
    sandbox->rpc.cpu_time = mon_cpu_time;
    sandbox->rpc.context = sandbox;
    sandbox->rpc.watched = may_hang(&sandbox->files, /*view_too=*/false);
    result = mon_rpc_init(&sandbox->rpc);
    bool is_arriving = sandbox->resume && sandbox->resume->is_arriving;
    sandbox->rpc.watched |= is_arriving; /* the network may hold a worker up */
    if (result == 0 && !is_arriving && !may_hang(&sandbox->files, /*view_too=*/true))
        mon_rpc_begin_eager(&sandbox->rpc);
    return result < 0 ? error_set_errno(error, result, "cannot make the channel to the sandbox") : 0;
}

/* Of a fresh sandbox. The handles of what is inherited come first in the table; the wake pool's must follow each other. */
static int make_handles(struct mon_sandbox *sandbox, const int standard[3], struct error *error)
{
    struct mon_start_handles *handles = &sandbox->start_handles;
    bly_handle fixed;
    int result = mon_handle_add_range(&sandbox->handles, BLY_WAKE_POOL_COUNT, BLY_KIND_FILE, &handles->wake_pool);
    if (result == 0)
        result = mon_handle_add_range(&sandbox->handles, 4, BLY_KIND_FILE, &fixed);
    if (result == 0)
        result = mon_stdio_open(&sandbox->stdio, &sandbox->loop, &sandbox->handles, standard, sandbox->policy->terminal, /*keep_masters=*/false);
    if (result < 0)
        return error_set_errno(error, result, "cannot prepare the standard streams");
    handles->heap = fixed;
    handles->bulk = fixed + 1;
    handles->control = fixed + 2;
    handles->watch = sandbox->files.watch >= 0 ? fixed + 3 : BLY_NO_HANDLE;
    return 0;
}

_Static_assert(BLY_FD_RECEIVED_END - BLY_FD_OTHERS >= 5 + 1 + 1 + IMG_BASES_MAX + 1, "there is room for all that is given");

struct memory_files {
    int files[1 + IMG_BASES_MAX], extents;
};

static void close_memory_files(struct memory_files *files)
{
    for (size_t i = 0; i <= IMG_BASES_MAX; i++)
        cleanup_close_descriptor(&files->files[i]);
    cleanup_close_descriptor(&files->extents);
}

/* The image of a resumed one. Its files are opened anew, so that what the sandbox does with the position does not reach us, nor a descriptor
 * that may write. */
static int give_image(struct mon_sandbox *sandbox, struct inheritance *inheritance, struct memory_files *out, struct error *error)
{
    const struct mon_start_handles *handles = &sandbox->start_handles;
    const struct img_reader *reader = sandbox->resume->image->reader;
    for (unsigned i = 0; i <= img_reader_base_count(reader); i++) {
        out->files[i] = open(mon_descriptor_path(img_reader_file(reader, i)).text, O_RDONLY | O_CLOEXEC);
        if (out->files[i] < 0)
            return error_set_errno(error, -errno, "cannot open the image again");
        preset(inheritance, handles->images[i], give(inheritance, out->files[i]), BLY_KIND_FILE, BLY_ACCESS_READ);
    }
    out->extents = mon_resume_extents(sandbox, error);
    if (out->extents < 0)
        return out->extents;
    preset(inheritance, handles->extents, give(inheritance, out->extents), BLY_KIND_FILE, BLY_ACCESS_READ);
    return 0;
}

int mon_launch_begin(struct mon_sandbox *sandbox, struct error *error)
{
    const struct mon_policy *policy = sandbox->policy;
    struct mon_confinement *confinement = &sandbox->confinement;
    *confinement = (struct mon_confinement){
        .by_root = geteuid() == 0, .user = NOBODY, .group = NOBODY, .process_limit = policy->process_limit};

    cleanup_close int image = mon_open_installed("bailey-linux", NULL, error);
    if (image < 0)
        return image;
    int control[2], log[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, control) < 0)
        return error_set_errno(error, -errno, "cannot make the control stream");
    sandbox->channel = control[0];
    cleanup_close int control_peer = control[1];
    if (pipe2(log, O_CLOEXEC) < 0)
        return error_set_errno(error, -errno, "cannot make the log pipe");
    sandbox->log = log[0];
    cleanup_close int log_peer = log[1];
    fcntl(sandbox->log, F_SETFL, O_NONBLOCK);

    cleanup_close int landlock = make_landlock(image, &confinement->scoped);
    cleanup_close int empty_folder = open_empty_folder(policy);
    confinement->image = image;
    confinement->control = control_peer;
    confinement->log = log_peer;
    confinement->landlock = landlock;
    confinement->empty_folder = empty_folder;
    char *mode = confinement->modes;
    if (confinement->scoped)
        *mode++ = BLY_MODE_LETTER;
    if (policy->migratable && mon_processor_can_fault())
        *mode++ = BLY_MODE_LETTER + 1;
    mon_cgroup_open(&sandbox->cgroup, policy->memory_limit, policy->process_limit);
    for (size_t i = 0; i < MON_CGROUP_PLACES; i++)
        confinement->cgroup_entrances[i] = sandbox->cgroup.places[i].entrance;
    /* Orphans of the sandbox come to us, so that none outlives it. */
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    pid_t child = start_child(sandbox);
    if (child < 0)
        return error_set_errno(error, child, "cannot start a process for the sandbox");
    sandbox->child = child;
    sandbox->walls = confinement->namespaces;
    sandbox->confined_signals = confinement->scoped || (sandbox->walls & CLONE_NEWPID);
    return 0;
}

int mon_launch(struct mon_sandbox *sandbox, const int standard[3], struct error *error)
{
    struct inheritance inheritance = {0};
    struct mon_start_handles *handles = &sandbox->start_handles;

    int result = prepare_servers(sandbox, error);
    if (result < 0)
        return result;

    if (sandbox->resume && sandbox->resume->is_arriving)
        result = mon_arriving_begin(sandbox, error);
    if (result < 0)
        return result;
    result = sandbox->resume ? mon_resume_handles(sandbox, standard, error) : make_handles(sandbox, standard, error);
    if (result < 0)
        return result;
    memcpy(handles->standard, sandbox->stdio.standard, sizeof(handles->standard));
    handles->terminal_input = sandbox->stdio.terminal_input;
    handles->terminal_output = sandbox->stdio.terminal_output;
    mon_stdio_window_size(&sandbox->stdio, &handles->rows, &handles->columns);

    sandbox->heap = make_segment(sandbox, "bailey-heap", IMG_SPACE_HEAP, BLY_HEAP_START, BLY_HEAP_SIZE, error);
    sandbox->bulk =
        sandbox->heap < 0 ? -1 : make_segment(sandbox, "bailey-bulk", IMG_SPACE_BULK, BLY_BULK_START, BLY_BULK_SIZE, error);
    if (sandbox->bulk < 0)
        return error->code;
    if (!sandbox->resume)
        sandbox->boot_time_ns = mon_now_ns();
    cleanup_close int start = mon_start_info_make(sandbox, handles, error);
    if (start < 0)
        return error->code;
    cleanup_close int presets = memfd_create("bailey-presets", MFD_CLOEXEC);
    if (presets < 0)
        return error_set_errno(error, -errno, "cannot make the list of streams");

    give(&inheritance, start);
    give(&inheritance, sandbox->rpc.memory);
    give(&inheritance, presets);
    preset(&inheritance, handles->heap, give(&inheritance, sandbox->heap), BLY_KIND_FILE, BLY_ACCESS_READ | BLY_ACCESS_WRITE);
    preset(&inheritance, handles->bulk, give(&inheritance, sandbox->bulk), BLY_KIND_FILE, BLY_ACCESS_READ | BLY_ACCESS_WRITE);
    for (unsigned i = 0; i < BLY_RPC_SLOT_COUNT; i++)
        give(&inheritance, sandbox->rpc.peers[i]);
    preset(&inheritance, handles->control, BLY_FD_CONTROL, BLY_KIND_SOCKET, BLY_ACCESS_READ | BLY_ACCESS_WRITE);
    for (uint32_t i = 0; i < BLY_WAKE_POOL_COUNT; i++)
        preset(&inheritance, handles->wake_pool + i, BLY_FD_WAKE_POOL + (int)i, BLY_KIND_PIPE, BLY_ACCESS_READ | BLY_ACCESS_WRITE);
    give_streams(&inheritance, &sandbox->stdio);
    if (handles->watch != BLY_NO_HANDLE)
        preset(&inheritance, handles->watch, give(&inheritance, sandbox->files.watch), BLY_KIND_PIPE, BLY_ACCESS_READ);
    __attribute__((cleanup(close_memory_files))) struct memory_files memory = {.extents = -1};
    for (size_t i = 0; i <= IMG_BASES_MAX; i++)
        memory.files[i] = -1;
    if (sandbox->resume && (result = give_image(sandbox, &inheritance, &memory, error)) < 0)
        return result;

    const size_t size = inheritance.preset_count * sizeof(inheritance.presets[0]);
    if (write(presets, inheritance.presets, size) != (ssize_t)size)
        return error_set_errno(error, -ENOSPC, "cannot make the list of streams");
    result = send_descriptors(sandbox->channel, &inheritance);
    return result < 0 ? error_set_errno(error, result, "cannot give the sandbox its descriptors") : 0;
}

/* ---- What the sandbox may not do to processes by itself ---- */

static bool is_child_of(uint32_t process, pid_t parent)
{
    char path[64], text[512];
    snprintf(path, sizeof(path), "/proc/%u/stat", process);
    cleanup_close int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = file < 0 ? -1 : read(file, text, sizeof(text) - 1);
    if (size <= 0)
        return false;
    text[size] = '\0';
    /* The name may contain anything, parentheses too: the fields begin after the last one. */
    char *fields = strrchr(text, ')');
    int found = 0;
    return fields && sscanf(fields + 1, " %*c %d", &found) == 1 && found == parent;
}

/* Without a pid namespace ids are the host's, and every picoprocess is a child of the first. */
static bool is_of_sandbox(const struct mon_sandbox *sandbox, uint32_t process)
{
    if ((sandbox->walls & CLONE_NEWPID) || sandbox->child <= 0 || process == 0 || process > INT32_MAX)
        return false;
    return process == (uint32_t)sandbox->child || is_child_of(process, sandbox->child);
}

/* Only where neither a pid namespace nor Landlock confines the sandbox's own signals. Should the id pass to a stranger meanwhile, this
 * signal is one that does nothing by default. */
int mon_interrupt(void *context, uint32_t process, uint32_t thread)
{
    const struct mon_sandbox *sandbox = context;
    if (sandbox->confined_signals || thread == 0 || thread > INT32_MAX || !is_of_sandbox(sandbox, process))
        return -ESRCH;
    return syscall(SYS_tgkill, (pid_t)process, (pid_t)thread, BLY_INTERRUPT_SIGNAL) < 0 ? -errno : 0;
}

int mon_cpu_time(void *context, uint32_t process, uint64_t *out_ns)
{
    clockid_t clock;
    struct timespec time;
    if (!is_of_sandbox(context, process) || clock_getcpuclockid((pid_t)process, &clock) != 0 || clock_gettime(clock, &time) < 0)
        return -ESRCH;
    *out_ns = (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
    return 0;
}
