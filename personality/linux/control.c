/* The control stream: what the monitor asks of a running sandbox. A service thread of init reads it, one record a read. */
#include "libos/abi.h"
#include "libos/shared.h"
#include "personality/linux/init.h"
#include "personality/linux/process/lifecycle.h"
#include "personality/linux/process/suspend.h"
#include "personality/linux/tty/tty.h"

struct control {
    struct bly_control record; /* with its payload behind it */
    char payload[BLY_CONTROL_MAX];
    uint64_t kill_deadline;    /* of STOP; BLY_FOREVER: none */
};

/* ---- Signals ---------------------------------------------------------------------------------------------------- */

static siginfo_t kernel_info(int signal)
{
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = signal;
    info.si_code = SI_KERNEL;
    return info;
}

/* What a terminal would send goes to the whole group, so that Ctrl-C ends a pipeline. */
static bool is_terminal_signal(int signal)
{
    return signal == SIGINT || signal == SIGQUIT || signal == SIGHUP || signal == SIGTSTP;
}

static void serve_signal(struct control *control)
{
    int signal = control->record.value;
    if (signal < 1 || signal > LX_SIGNAL_COUNT)
        return;
    siginfo_t info = kernel_info(signal);
    struct lx_process *found = NULL;
    lock_acquire(&process_table()->lock);
    list_for_each(node, &process_table()->processes) {
        struct lx_process *process = container_of(node, struct lx_process, all);
        if (process->pid != 1 && process->token == control->record.token && process->state != PROCESS_ZOMBIE)
            found = process;
    }
    int32_t group = found && is_terminal_signal(signal) ? found->group_id : 0;
    if (found && !group)
        signal_send_process(found, signal, &info);
    lock_release(&process_table()->lock);
    if (group)
        signal_send_group(group, signal, &info);
}

static void signal_all(int signal)
{
    siginfo_t info = kernel_info(signal);
    scoped_lock(&process_table()->lock);
    list_for_each(node, &process_table()->processes) {
        struct lx_process *process = container_of(node, struct lx_process, all);
        if (process->pid != 1 && process->state != PROCESS_ZOMBIE)
            signal_send_process(process, signal, &info);
    }
}

static void serve_stop(struct control *control)
{
    signal_all(SIGTERM);
    signal_all(SIGCONT); /* a stopped process acts on SIGTERM only then */
    control->kill_deadline = lx_monotonic_ns() + (uint64_t)(control->record.value > 0 ? control->record.value : 0) * 1000000u;
}

/* ---- Programs --------------------------------------------------------------------------------------------------- */

static void serve_execute(struct control *control)
{
    const struct bly_control_execute *execute = (const void *)control->payload;
    uint32_t size = execute->total_size < sizeof control->payload ? execute->total_size : sizeof control->payload;
    /* The heap is shared with the child: it reads its strings while the next record is already received here. */
    char *base = heap_alloc(size);
    if (!base) {
        const char *program = control->payload + execute->program;
        init_report(BLY_CONTROL_FAILED, control->record.token, -ENOMEM, program, strlen(program));
        return;
    }
    memcpy(base, control->payload, size);
    struct program_request request = {
        .token = control->record.token,
        .strings = base,
        .program = base + execute->program,
        .directory = base + execute->directory,
        .arguments = base + execute->arguments,
        .environment = base + execute->environment,
        .argument_count = execute->argument_count,
        .environment_count = execute->environment_count,
        .user = execute->user,
        .group = execute->group,
        .terminal = execute->flags & BLY_START_TERMINAL,
    };
    memcpy(request.standard, execute->standard, sizeof request.standard);
    if (request.terminal) {
        request.tty = lx_tty_create(request.token, execute->terminal_input, execute->terminal_output, execute->terminal_rows,
                                    execute->terminal_columns);
        int error = request.tty ? init_start_thread("terminal", lx_tty_pump, tty_ref(request.tty)) : -ENOMEM;
        if (error < 0) {
            init_report(BLY_CONTROL_FAILED, request.token, error, request.program, strlen(request.program));
            if (request.tty)
                tty_unref(request.tty); /* the one that the pump was to have */
            tty_unref(request.tty);
            heap_free(base);
            return;
        }
    }
    if (init_start_program(&request) < 0) {
        tty_unref(request.tty);
        heap_free(base);
    }
}

static const char *state_name(const struct lx_process *process)
{
    switch (process->state) {
    case PROCESS_STOPPED:
        return "T";
    case PROCESS_ZOMBIE:
        return "Z";
    default:
        return process->thread_count && container_of(process->threads.next, struct lx_thread, process_node)->base.state == THREAD_SLEEPING ? "S" : "R";
    }
}

/* One line a process: pid, parent, group, session, state, threads, name, command line. */
static void serve_list(struct control *control)
{
    enum { LINE = 1024 };
    int32_t last = 0;
    for (;;) {
        char line[LINE];
        int size = 0;
        struct lx_process *next = NULL;
        lock_acquire(&process_table()->lock);
        list_for_each(node, &process_table()->processes) {
            struct lx_process *process = container_of(node, struct lx_process, all);
            if (process->pid > last && (!next || process->pid < next->pid))
                next = process;
        }
        if (next) {
            last = next->pid;
            char command[800];
            size_t length = next->command_line_size < sizeof command ? next->command_line_size : sizeof command;
            for (size_t i = 0; i + 1 < length; i++)
                command[i] = next->command_line[i] ? next->command_line[i] : ' ';
            command[length ? length - 1 : 0] = 0;
            size = format(line, sizeof line, "%d %d %d %d %s %u %s %s", next->pid, next->parent ? next->parent->pid : 0, next->group_id,
                          next->session_id, state_name(next), next->thread_count, next->name, command);
        }
        lock_release(&process_table()->lock);
        if (!next)
            break;
        init_report(BLY_CONTROL_LISTING, control->record.token, 1, line, (size_t)(size < LINE ? size : LINE - 1));
    }
    init_report(BLY_CONTROL_LISTING, control->record.token, 0, NULL, 0);
}

/* The ids go where the record's payload was: from the answer on nobody touches the heap. */
static void serve_quiesce(struct control *control)
{
    uint32_t token = control->record.token, *ids = (uint32_t *)control->payload;
    char what[128] = "";
    int count = sandbox_quiesce((uint64_t)(uint32_t)control->record.value * 1000000, control->record.flags & (BLY_QUIESCE_CLONE | BLY_QUIESCE_TRACK), ids,
                                sizeof control->payload / 2 / sizeof *ids, what, sizeof what);
    if (count < 0)
        init_report(BLY_CONTROL_QUIESCED, token, count, what, strlen(what));
    else
        init_report(BLY_CONTROL_QUIESCED, token, 0, control->payload, (size_t)count * sizeof *ids);
}

/* ---- Loop ------------------------------------------------------------------------------------------------------- */

static void serve(struct control *control)
{
    switch (control->record.kind) {
    case BLY_CONTROL_SIGNAL:
        serve_signal(control);
        break;
    case BLY_CONTROL_WINDOW_SIZE:
        lx_tty_window_size(control->record.token, control->record.rows, control->record.columns);
        break;
    case BLY_CONTROL_EXECUTE:
        serve_execute(control);
        break;
    case BLY_CONTROL_STOP:
        serve_stop(control);
        break;
    case BLY_CONTROL_TRACE:
        lx_kernel->trace_flags = (uint32_t)control->record.value & (BLY_START_TRACE_SYSCALLS | BLY_START_TRACE_ABI);
        break;
    case BLY_CONTROL_QUIESCE:
        serve_quiesce(control);
        break;
    case BLY_CONTROL_THAW:
        sandbox_thaw();
        break;
    case BLY_CONTROL_LIST:
        serve_list(control);
        break;
    default:
        log_line(BLY_LOG_DEBUG, "control record %u is not known", control->record.kind);
    }
}

void control_thread(void *argument)
{
    static struct control the_control; /* not in the heap, which is suspended */
    struct control *control = &the_control;
    struct thread *self = thread_current();
    self->may_park = 0; /* it is who asks */
    control->kill_deadline = BLY_FOREVER;
    for (uint32_t asked; (asked = libos_shared()->quiesce);) /* of a resumed sandbox: it is let go first */
        (void)bly->wait_address((uint32_t *)&libos_shared()->quiesce, asked, BLY_FOREVER);
    for (;;) {
        self->work_pending = 0;
        if (!thread_enter_host_wait())
            continue;
        int events = bly->wait_stream(start_info->control, BLY_WAIT_READ, control->kill_deadline);
        thread_leave_host_wait();
        if (events == 0) {
            control->kill_deadline = BLY_FOREVER;
            signal_all(SIGKILL);
            continue;
        }
        if (events < 0)
            continue;
        struct bly_iovec vector = {control, sizeof control->record + sizeof control->payload};
        thread_block()->interrupt_pending = 0;
        int64_t size = bly->stream_read(start_info->control, &vector, 1, BLY_AT_CURRENT, BLY_STREAM_NO_WAIT);
        if (size == 0)
            (void)thread_sleep(thread_ticket(), BLY_FOREVER); /* the monitor is gone: the sandbox ends with it */
        if (size >= (int64_t)sizeof control->record)
            serve(control);
    }
}
