/* Init, guest pid 1.
 *
 * Its leader is the parent of every picoprocess on the host and so the only one that can reap: it waits for the host's
 * children and, by an interrupt, for ended programs in the process table. It never holds guest memory, so that a
 * program it starts costs the same whatever else runs. Its service threads have thread objects but no tid. */
#include "personality/linux/init.h"

#include "libos/abi.h"
#include "personality/linux/file.h"
#include "personality/linux/fs/layer_store.h"
#include "personality/linux/fs/standard.h"
#include "personality/linux/fs/vfs.h"
#include "personality/linux/process/lifecycle.h"
#include "personality/linux/tty/tty.h"

enum { NOT_FOUND_STATUS = 127, NOT_EXECUTABLE_STATUS = 126 };
#define END_GRACE_NS 1000000000ull

void init_report(uint32_t kind, uint32_t token, int32_t value, const char *text, size_t size)
{
    struct bly_control record = {.kind = kind, .token = token, .value = value, .size = (uint32_t)size};
    struct bly_iovec vector[2] = {{&record, sizeof record}, {(void *)text, size}};
    struct bly_thread_block *block = thread_block();
    if (start_info->control == BLY_NO_HANDLE)
        return;
    /* An interrupt cuts calls short; what it is for stands in work_pending and is looked at later. */
    while (bly->stream_write(start_info->control, vector, size ? 2 : 1, BLY_AT_CURRENT, 0) == -EINTR)
        block->interrupt_pending = 0;
}

static struct lx_thread *leader(void)
{
    return container_of(lx_kernel->table.init->threads.next, struct lx_thread, process_node);
}

/* ---- Service threads ------------------------------------------------------------------------------------------- */

struct service {
    struct list node; /* lx_kernel.services */
    struct lx_thread *thread;
    void (*function)(void *argument);
    void *argument;
};

static void service_remove(struct service *service)
{
    assert(lock_held(&process_table()->lock));
    list_remove(&service->node);
    thread_free(service->thread);
}

int init_start_thread(const char *name, void (*function)(void *), void *argument)
{
    struct service *service = heap_alloc(sizeof *service);
    struct lx_thread *thread = thread_allocate();
    uint32_t host_thread;
    int error = -ENOMEM;
    if (service && thread) {
        thread->process = lx_kernel->table.init;
        thread->tid = 1;
        memcpy(thread->name, name, strnlen(name, sizeof thread->name - 1));
        *service = (struct service){.thread = thread, .function = function, .argument = argument};
        lock_acquire(&process_table()->lock);
        list_push(&lx_kernel->services, &service->node);
        lock_release(&process_table()->lock);
        error = bly->thread_create((uint64_t)service | INIT_SERVICE, NULL, &host_thread);
    }
    if (error < 0) {
        lock_acquire(&process_table()->lock);
        if (service && thread)
            list_remove(&service->node);
        if (thread)
            thread_free(thread);
        lock_release(&process_table()->lock);
        heap_free(service);
    }
    return error;
}

void init_thread_started(uint64_t argument)
{
    struct service *service = (struct service *)(argument & ~(uint64_t)INIT_SERVICE);
    thread_become(service->thread);
    service->function(service->argument);
    panic("a service thread of init came back");
}

void init_end_thread(void)
{
    struct lx_thread *thread = lx_current();
    struct service *own = NULL;
    lx_kernel->leaving++;
    thread_block()->personality_thread = NULL;
    lock_acquire(&process_table()->lock);
    list_for_each(node, &lx_kernel->services) {
        struct service *service = container_of(node, struct service, node);
        if (service->thread == thread)
            own = service;
    }
    service_remove(own);
    lock_release(&process_table()->lock);
    heap_free(own);
    lx_kernel->leaving--;
    bly->thread_exit();
    panic("a thread ran on after its end");
}

static void timer_service(void *argument)
{
    lx_timer_thread();
}

/* A program that ends within this time costs no threads: signals from outside and timers wait for so long. */
#define SERVICES_AFTER_NS 3000000u

/* Those from `first` on. Returns the first that could not be started; there are SERVICE_COUNT. Hostile code may by then have taken all the
 * threads that the host grants, which is not the end of the sandbox: they are tried again. */
enum { SERVICE_COUNT = 3 };
static size_t start_services(size_t first)
{
    static const struct {
        const char *name;
        void (*function)(void *argument);
    } services[SERVICE_COUNT] = {{"control", control_thread}, {"timers", timer_service}, {"terminal", lx_tty_pump}};
    const bool wanted[SERVICE_COUNT] = {true, true, start_info->flags & BLY_START_TERMINAL};

    for (size_t i = first; i < SERVICE_COUNT; i++) {
        int error = wanted[i] ? init_start_thread(services[i].name, services[i].function, NULL) : 0;
        if (error == -EAGAIN)
            return i;
        if (error < 0)
            panic("init: thread %s: error %d", services[i].name, -error);
    }
    return SERVICE_COUNT;
}

struct lx_thread *init_service_thread(struct list *node)
{
    return container_of(node, struct service, node)->thread;
}

/* The control thread is the one that does not park: it is begun anew. */
int init_resume_services(void)
{
    list_for_each_safe(node, after, &lx_kernel->services) {
        struct service *service = container_of(node, struct service, node);
        if (service->thread->base.parked)
            continue;
        lock_acquire(&process_table()->lock);
        service_remove(service);
        lock_release(&process_table()->lock);
        heap_free(service);
    }
    return init_start_thread("control", control_thread, NULL);
}

/* ---- Starting programs ------------------------------------------------------------------------------------------ */

static char **string_array(const char *strings, size_t count)
{
    char **array = heap_alloc((count + 1) * sizeof *array);
    for (size_t i = 0; array && i < count; i++) {
        array[i] = (char *)strings;
        strings += strlen(strings) + 1;
    }
    return array;
}

static void become_user(uint32_t user, uint32_t group)
{
    scoped_lock(&process_table()->lock);
    struct credentials *credentials = &lx_process()->credentials;
    credentials->uid = credentials->euid = credentials->suid = credentials->fsuid = user;
    credentials->gid = credentials->egid = credentials->sgid = credentials->fsgid = group;
    credentials->group_count = 0;
    if (user)
        credentials->cap_effective = credentials->cap_permitted = 0;
}

static int open_standard_streams(const struct program_request *request)
{
    for (int fd = 0; fd < 3; fd++) {
        struct open_file *file;
        if (request->tty)
            file = tty_open_this(request->tty, O_RDWR);
        else if (request->terminal)
            file = tty_open_terminal(O_RDWR);
        else
            file = lx_standard_stream(&request->standard[fd]);
        if (!file)
            return -EIO;
        if (request->terminal && fd == 0 && tty_make_controlling_terminal(file) < 0)
            log_line(BLY_LOG_WARNING, "the terminal could not be made the controlling one");
        int installed = fd_install(file, fd, /*close_on_exec=*/false);
        if (installed != fd) {
            file_unref(file);
            return installed < 0 ? installed : -EIO;
        }
    }
    return 0;
}

/* Everything of a fresh child of init but its program. `out_what`: what was tried when it failed. */
static int prepare_child(const struct program_request *request, const char **out_what)
{
    struct lx_process *process = lx_process();
    lock_acquire(&process_table()->lock);
    process->token = request->token;
    process->group_id = process->session_id = process->pid;
    process->tty = NULL;
    lock_release(&process_table()->lock);

    *out_what = "out of memory";
    process->files = fd_table_create();
    process->fs = filesystem_context_create();
    if (!process->files || !process->fs)
        return -ENOMEM;
    *out_what = "standard input and output";
    int error = open_standard_streams(request);
    tty_unref(request->tty);
    if (error)
        return error;
    become_user(request->user, request->group);
    *out_what = request->directory;
    scoped_dentry directory = NULL;
    error = vfs_lookup(NULL, request->directory, LOOKUP_FOLLOW | LOOKUP_DIRECTORY, &directory);
    if (!error)
        error = inode_permission(directory->inode, MAY_EXECUTE);
    return error ? error : filesystem_context_set_directory(process->fs, directory);
}

static const char *find_variable(const struct exec_arguments *arguments, const char *name)
{
    size_t size = strlen(name);
    for (size_t i = 0; i < arguments->environment_count; i++)
        if (!strncmp(arguments->environment[i], name, size) && arguments->environment[i][size] == '=')
            return arguments->environment[i] + size + 1;
    return NULL;
}

/* execvp(3): the first program found in PATH; an entry that may not be executed is remembered and passed over. */
static int execute_by_name(const char *program, struct exec_arguments *arguments)
{
    if (strchr(program, '/'))
        return exec_load(NULL, program, arguments, 0);
    const char *path = find_variable(arguments, "PATH");
    if (!path)
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    int result = -ENOENT;
    for (;;) {
        const char *end = strchr(path, ':');
        size_t size = end ? (size_t)(end - path) : strlen(path);
        char *name = heap_alloc(size + strlen(program) + 2);
        if (!name)
            return -ENOMEM;
        memcpy(name, path, size);
        if (size)
            name[size++] = '/';
        memcpy(name + size, program, strlen(program));
        int error = exec_load(NULL, name, arguments, 0);
        heap_free(name);
        if (error == -EACCES)
            result = error;
        else if (error != -ENOENT && error != -ENOTDIR)
            return error;
        if (!end)
            return result;
        path = end + 1;
    }
}

static _Noreturn void run_child(const struct program_request *request)
{
    struct exec_arguments arguments = {
        .arguments = string_array(request->arguments, request->argument_count),
        .environment = string_array(request->environment, request->environment_count),
        .argument_count = request->argument_count,
        .environment_count = request->environment_count,
    };
    const char *what = "";
    int error = arguments.arguments && arguments.environment ? prepare_child(request, &what) : -ENOMEM;
    if (!error) {
        what = request->program;
        error = execute_by_name(request->program, &arguments);
    }
    heap_free(arguments.arguments);
    heap_free(arguments.environment);
    if (!error) {
        heap_free(request->strings);
        init_report(BLY_CONTROL_STARTED, request->token, lx_process()->pid, NULL, 0);
        lx_leave_kernel(lx_registers());
    }
    init_report(BLY_CONTROL_FAILED, request->token, error, what, strlen(what));
    heap_free(request->strings);
    lx_process()->token = NO_TOKEN; /* said already */
    process_end((error == -ENOENT ? NOT_FOUND_STATUS : NOT_EXECUTABLE_STATUS) << 8);
}

long init_start_program(const struct program_request *request)
{
    struct clone_request clone = {.exit_signal = SIGCHLD};
    long pid;
    do
        pid = process_clone_current(&clone);
    while (pid == -ERESTARTNOINTR);
    if (pid == 0)
        run_child(request);
    if (pid < 0)
        init_report(BLY_CONTROL_FAILED, request->token, (int32_t)pid, request->program, strlen(request->program));
    else
        thread_notify(&leader()->base); /* it sleeps while there is nothing to reap */
    return pid;
}

static void start_main_program(void)
{
    const struct bly_start_info *info = start_info;
    struct program_request request = {
        .token = 0,
        .program = bly_start_string(info, info->program),
        .directory = bly_start_string(info, info->directory),
        .arguments = bly_start_string(info, info->arguments),
        .environment = bly_start_string(info, info->environment),
        .argument_count = info->argument_count,
        .environment_count = info->environment_count,
        .user = info->user,
        .group = info->group,
        .terminal = info->flags & BLY_START_TERMINAL,
    };
    memcpy(request.standard, info->standard, sizeof request.standard);
    (void)init_start_program(&request);
}

/* ---- Reaping ---------------------------------------------------------------------------------------------------- */

/* The main program has ended: so does the sandbox. A pid namespace takes the rest along; without one they are told. */
static _Noreturn void end_sandbox(int32_t status)
{
    struct bly_process_end end;
    uint64_t deadline = lx_monotonic_ns() + END_GRACE_NS;
    bool others = false;
    lock_acquire(&process_table()->lock);
    list_for_each(node, &process_table()->processes) {
        struct lx_process *process = container_of(node, struct lx_process, all);
        if (process->pid == 1 || process->state == PROCESS_ZOMBIE)
            continue;
        others = true;
        siginfo_t info;
        memset(&info, 0, sizeof info);
        info.si_signo = SIGKILL;
        info.si_code = SI_KERNEL;
        signal_send_process(process, SIGKILL, &info);
    }
    lock_release(&process_table()->lock);
    while (others && bly->process_wait(&end, deadline) == 0)
        process_host_ended(&end);
    if (layer_store_is_used()) {
        layer_store_save();
        init_report(BLY_CONTROL_ENDED, 0, status, NULL, 0);
    }
    bly->process_exit(0);
    __builtin_unreachable();
}

static void report_ended_programs(void)
{
    uint32_t token;
    int32_t status;
    while (process_take_ended_program(&token, &status)) {
        if (token == NO_TOKEN)
            continue;
        /* The monitor's patience begins with the report: what is kept on disk is written before. */
        if (token != 0 || !layer_store_is_used())
            init_report(BLY_CONTROL_ENDED, token, status, NULL, 0);
        if (token == 0)
            end_sandbox(status);
    }
}

static bool wake_init(struct waiter *waiter, uint32_t events)
{
    thread_notify(waiter->thread);
    return true;
}

void init_run(void)
{
    struct thread *self = thread_current();
    struct lx_process *init = lx_process();
    struct waiter *waiter;
    if (wait_begin(&init->child_queue, &waiter) < 0)
        panic("init: no memory");
    waiter->wake = wake_init;

    start_main_program();
    size_t started = start_info->flags & BLY_START_TERMINAL ? start_services(0) : 0;
    uint64_t start_ns = lx_monotonic_ns() + SERVICES_AFTER_NS;

    for (;;) {
        self->work_pending = 0;
        if (__atomic_exchange_n(&lx_kernel->resumed, 0, __ATOMIC_SEQ_CST)) {
            vfs_tell_generation();
            tty_tell_resumed();
        }
        report_ended_programs();
        struct bly_process_end end;
        if (!thread_enter_host_wait())
            continue;
        int result = bly->process_wait(&end, started == SERVICE_COUNT ? BLY_FOREVER : start_ns);
        thread_leave_host_wait();
        if (started < SERVICE_COUNT && (result == -ETIMEDOUT || result == -ECHILD)) {
            started = start_services(started);
            start_ns = lx_monotonic_ns() + SERVICES_AFTER_NS;
        } else if (result == 0)
            process_host_ended(&end);
        if (result == -ECHILD) /* between two programs of `bailey exec`, or before the first */
            (void)thread_sleep(thread_ticket(), started == SERVICE_COUNT ? BLY_FOREVER : start_ns);
    }
}
