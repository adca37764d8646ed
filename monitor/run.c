/* mon_run: one sandbox from its start to its end. The main thread serves the loop: records of the sandbox, signals, relays, the control
 * socket; the RPC workers run beside it. Invariants: whatever happens the terminal is restored, every process of the sandbox is
 * dead and all it had written is delivered before mon_run returns; and the user is never stuck. */
#include "monitor/sandbox.h"
#include "monitor/suspension/migrate.h"
#include "monitor/suspension/suspend.h"

#include "base/cleanup.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define INIT_GRACE_NS 2000000000ull  /* from the main program's end to the sandbox's own */
#define KEEPING_NS 60000000000ull    /* more of it where the layer must be written first */
#define RESUME_NS 60000000000ull     /* until what goes on from an image says so */
#define IMPATIENCE_NS 2000000000ull  /* three interrupts in this time end the sandbox */
#define INTERRUPT_BYTE 3             /* Ctrl-C */
#define LAST_WORDS_MS 1000           /* for output that nobody takes, of a sandbox that was told to end */
#define AUDIT_PERIOD_NS 1000000000ull
#define DRAW_AGAIN_NS 150000000ull   /* in which a program looks how large its terminal is */
#define FOREGROUND_LOOK_NS 250000000ull
#define WATCH_PERIOD_NS 500000000ull

/* Of the first moments. */
#define ALONE_NS 20000000ull /* a request later than this starts the workers */
#define STARTING_NS 80000
#define FIRST_NS 3000000ull  /* looking for the first request, */
#define AWAKE_NS 600000ull   /* and for the next one; longer than a loader's own work */
#define LOOKS 16u            /* for requests between two for everything else */
#define GIVEN_NS 20000ull    /* to let others run takes less when there is nobody */
#define CROWDED_NS 150000ull /* others had our CPU for so long: who makes requests must not wait for us to get it back */

/* ---- To the sandbox ---- */

int mon_channel_send(struct mon_sandbox *sandbox, const struct bly_control *record, const void *payload)
{
    int result;
    if (mon_suspend_hold(sandbox, record, payload, &result))
        return result;
    struct iovec parts[2] = {{.iov_base = (void *)record, .iov_len = sizeof(*record)},
                             {.iov_base = (void *)payload, .iov_len = record->size}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = record->size ? 2 : 1};
    return sendmsg(sandbox->channel, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static void send_signal(struct mon_sandbox *sandbox, uint32_t token, int signal)
{
    bool to_end = signal == SIGTERM || signal == SIGHUP || signal == SIGINT || signal == SIGQUIT || signal == SIGKILL;
    sandbox->told_to_end |= token == 0 && to_end;
    struct bly_control record = {.kind = BLY_CONTROL_SIGNAL, .token = token, .value = signal};
    mon_suspend_disturb(sandbox, "it was sent a signal");
    /* A sandbox that does not even take records is beyond signals. */
    if (mon_channel_send(sandbox, &record, NULL) == -EAGAIN)
        mon_kill(sandbox);
}

/* The child leads a process group (confine.c), and no process of the sandbox can leave it: the filter has no call for that. Killing a
 * group spares nobody who is being forked meanwhile (fork(2) fails with a signal pending). Without a pid namespace there is no other way
 * to be sure of all, whatever hostile code has done to its parents and their deaths. */
static void kill_all(struct mon_sandbox *sandbox)
{
    if (sandbox->child <= 0)
        return;
    kill(sandbox->child, SIGKILL);
    kill(-sandbox->child, SIGKILL);
}

void mon_kill(struct mon_sandbox *sandbox)
{
    sandbox->killed = sandbox->told_to_end = true;
    kill_all(sandbox);
}

static void kill_late(struct mon_timer *timer)
{
    struct mon_sandbox *sandbox = timer->context;
    mon_kill(sandbox);
}

static void kill_after(struct mon_sandbox *sandbox, uint64_t delay_ns)
{
    if (!sandbox->kill_timer.active)
        mon_timer_start(&sandbox->loop, &sandbox->kill_timer, delay_ns);
}

/* ---- Programs started later ---- */

static struct mon_execution **find_execution(struct mon_sandbox *sandbox, uint32_t token)
{
    struct mon_execution **place = &sandbox->executions;
    while (*place && (*place)->token != token)
        place = &(*place)->next;
    return place;
}

/* Tells the picoprocesses to drop their copies, as the closer of a handle does (rpc.h). */
static void announce_closed(struct mon_sandbox *sandbox, bly_handle handle)
{
    struct bly_rpc_channel *channel = sandbox->rpc.channel;
    if (handle == BLY_NO_HANDLE)
        return;
    uint64_t number = atomic_fetch_add(&channel->closed_count, 1);
    atomic_store(&channel->closed[number % BLY_RPC_CLOSED_COUNT], number << 32 | handle);
}

static void end_execution(struct mon_sandbox *sandbox, uint32_t token)
{
    struct mon_execution **place = find_execution(sandbox, token), *execution = *place;
    if (!execution)
        return;
    *place = execution->next;
    mon_stdio_drain(&execution->stdio, /*timeout_ms=*/1000);
    for (unsigned i = 0; i < 3; i++)
        announce_closed(sandbox, execution->stdio.standard[i].handle);
    announce_closed(sandbox, execution->stdio.terminal_input);
    announce_closed(sandbox, execution->stdio.terminal_output);
    mon_stdio_close(&execution->stdio, &sandbox->handles);
    free(execution);
}

static void close_standard(const struct mon_execute *request)
{
    for (unsigned i = 0; i < 3; i++)
        if (request->standard[i] >= 0)
            close(request->standard[i]);
}

static int execute(void *context, uint32_t token, const struct mon_execute *request, struct error *error)
{
    struct mon_sandbox *sandbox = context;
    if (sandbox->suspension) {
        close_standard(request);
        return error_set(error, -EBUSY, "cannot start %s: the sandbox is being suspended", request->program);
    }
    struct mon_execution *execution = memory_new(sizeof(*execution));
    cleanup_free void *payload = memory_new(BLY_CONTROL_MAX);
    execution->token = token;
    execution->next = sandbox->executions;
    sandbox->executions = execution;
    int result = mon_stdio_open(&execution->stdio, &sandbox->loop, &sandbox->handles, request->standard, request->terminal,
                                /*keep_masters=*/true);
    for (unsigned i = 0; i < 3; i++)
        if (!(execution->stdio.standard[i].flags & BLY_START_STREAM_SAME))
            mon_handle_set_owner(&sandbox->handles, execution->stdio.standard[i].handle, MON_OWNER(token, i));
    mon_handle_set_owner(&sandbox->handles, execution->stdio.terminal_input, MON_OWNER(token, 3));
    mon_handle_set_owner(&sandbox->handles, execution->stdio.terminal_output, MON_OWNER(token, 4));
    close_standard(request);
    int size = result < 0 ? result
                          : mon_execute_payload(request, *request->directory ? request->directory : sandbox->policy->directory,
                                                execution->stdio.standard, execution->stdio.terminal_input,
                                                execution->stdio.terminal_output, payload, BLY_CONTROL_MAX - sizeof(struct bly_control));
    struct bly_control record = {.kind = BLY_CONTROL_EXECUTE, .token = token, .size = size > 0 ? (uint32_t)size : 0};
    result = size < 0 ? size : mon_channel_send(sandbox, &record, payload);
    if (result == 0)
        result = mon_stdio_start(&execution->stdio);
    if (result < 0) {
        end_execution(sandbox, token);
        return error_set_errno(error, result, "cannot start %s in the sandbox", request->program);
    }
    mon_audit_event(sandbox->audit, "execute", request->program, token);
    return 0;
}

static void signal_program(void *context, uint32_t token, int signal)
{
    send_signal(context, token, signal);
}

static void resize(void *context, uint32_t token, uint16_t rows, uint16_t columns)
{
    struct mon_sandbox *sandbox = context;
    if (token == 0)
        mon_timer_stop(&sandbox->loop, &sandbox->draw_timer);
    struct bly_control record = {.kind = BLY_CONTROL_WINDOW_SIZE, .token = token, .rows = rows, .columns = columns};
    (void)!mon_channel_send(context, &record, NULL);
}

/* A program draws its screen, or its prompt, anew when the size changes; many (ncurses, readline) look whether it has. */
static void resize_late(struct mon_sandbox *sandbox, uint16_t rows, uint16_t columns)
{
    sandbox->draw_rows = rows;
    sandbox->draw_columns = columns;
    mon_timer_start(&sandbox->loop, &sandbox->draw_timer, DRAW_AGAIN_NS);
}

static void draw_again(void *context, uint16_t rows, uint16_t columns)
{
    resize(context, 0, rows > 1 ? rows - 1 : rows + 1, columns);
    resize_late(context, rows, columns);
}

static void draw_late(struct mon_timer *timer)
{
    struct mon_sandbox *sandbox = timer->context;
    resize(sandbox, 0, sandbox->draw_rows, sandbox->draw_columns);
}

static void follow_window(struct mon_sandbox *sandbox)
{
    uint16_t rows, columns;
    if (mon_stdio_window_size(&sandbox->stdio, &rows, &columns))
        resize(sandbox, 0, rows, columns);
}

static void follow_screen(void *context, const unsigned char *data, size_t size)
{
    struct mon_sandbox *sandbox = context;
    screen_follow(&sandbox->stdio.screen, data, size);
}

static void stop(void *context, uint32_t grace_ms)
{
    struct mon_sandbox *sandbox = context;
    struct bly_control record = {.kind = BLY_CONTROL_STOP, .value = (int32_t)grace_ms};
    mon_suspend_disturb(sandbox, "it was stopped");
    sandbox->told_to_end = true;
    if (mon_channel_send(sandbox, &record, NULL) < 0)
        mon_kill(sandbox);
    /* The sandbox kills its programs itself after the grace; this is for one that does not. */
    mon_timer_stop(&sandbox->loop, &sandbox->kill_timer);
    mon_timer_start(&sandbox->loop, &sandbox->kill_timer,
                    ((uint64_t)grace_ms + 1000) * 1000000 + (sandbox->policy->layer_path ? KEEPING_NS : 0));
}

static void trace(void *context, uint32_t flags)
{
    struct bly_control record = {.kind = BLY_CONTROL_TRACE, .value = (int32_t)flags};
    (void)!mon_channel_send(context, &record, NULL);
}

static void list(void *context)
{
    struct mon_sandbox *sandbox = context;
    struct bly_control record = {.kind = BLY_CONTROL_LIST};
    if (mon_channel_send(sandbox, &record, NULL) < 0)
        mon_control_listing(sandbox->control, "", 0, /*last=*/true);
}

static int begin_suspension(void *context, const char *path, uint32_t flags, const char *base_path, int base, struct error *error)
{
    return mon_suspend_begin(context, path, flags, base_path, base, error);
}

static void cancel_suspension(void *context)
{
    mon_suspend_cancel(context, "whoever asked for it went away");
}

static int begin_move(void *context, int peer, const char *where, uint32_t flags, struct error *error)
{
    return mon_migrate_begin(context, peer, where, flags, error);
}

static int order_move(void *context, enum control_move_order order, struct error *error)
{
    return mon_migrate_order(context, order, error);
}

static const struct mon_control_operations control_operations = {
    .execute = execute,
    .signal = signal_program,
    .window_size = resize,
    .draw_again = draw_again,
    .stop = stop,
    .trace = trace,
    .list = list,
    .suspend = begin_suspension,
    .move = begin_move,
    .move_order = order_move,
    .cancel_suspension = cancel_suspension,
    .inspect = mon_counters_write,
};

/* ---- From the sandbox ---- */

static void main_program_ended(struct mon_sandbox *sandbox, int status)
{
    if (sandbox->main_ended || sandbox->main_failed)
        return;
    mon_suspend_disturb(sandbox, "its program ended");
    sandbox->main_ended = true;
    sandbox->main_status = status;
    kill_after(sandbox, INIT_GRACE_NS);
}

/* `what` is the program, or that of which the error is: its interpreter, the working folder. */
static void main_program_failed(struct mon_sandbox *sandbox, int code, const char *what)
{
    if (sandbox->main_ended || sandbox->main_failed)
        return;
    sandbox->main_failed = true;
    sandbox->failure = code < 0 ? code : -EINVAL;
    mon_policy_explain_program(sandbox->policy, sandbox->policy->program, what, sandbox->failure, sandbox->error);
    mon_kill(sandbox); /* nothing of it ran: there is nothing to wait for */
}

static void sandbox_resumed(struct mon_sandbox *sandbox, int code, const char *text)
{
    if (!sandbox->resume || sandbox->main_ended || sandbox->main_failed)
        return;
    mon_timer_stop(&sandbox->loop, &sandbox->resume_timer);
    if (code == 0) {
        uint16_t rows, columns;
        if (mon_stdio_window_size(&sandbox->stdio, &rows, &columns))
            resize_late(sandbox, rows, columns); /* the personality has begun with another, if it was the same before */
        mon_control_started(sandbox->control, 0, 0);
        return;
    }
    sandbox->main_failed = true;
    sandbox->failure = code < 0 ? code : -EIO;
    error_set_errno(sandbox->error, sandbox->failure, "the sandbox cannot go on from its image: %s", text);
    mon_kill(sandbox);
}

static void resume_late(struct mon_timer *timer)
{
    sandbox_resumed(timer->context, -ETIMEDOUT, "it does not come to life");
}

static void sandbox_panicked(struct mon_sandbox *sandbox, int code, const char *text)
{
    if (!sandbox->main_ended && !sandbox->main_failed) {
        sandbox->main_failed = true;
        sandbox->failure = code < 0 ? code : -EIO;
        error_set(sandbox->error, sandbox->failure, "the sandbox cannot go on: %s", text);
    }
    mon_kill(sandbox);
}

static void serve_record(struct mon_sandbox *sandbox, const struct bly_control *record, const char *text)
{
    switch (record->kind) {
    case BLY_CONTROL_STARTED:
        mon_control_started(sandbox->control, record->token, record->value);
        break;
    case BLY_CONTROL_ENDED:
        end_execution(sandbox, record->token);
        if (record->token == 0)
            main_program_ended(sandbox, record->value);
        else
            mon_control_ended(sandbox->control, record->token, record->value);
        break;
    case BLY_CONTROL_FAILED:
        end_execution(sandbox, record->token);
        if (record->token == 0)
            main_program_failed(sandbox, record->value, text);
        else
            mon_control_failed(sandbox->control, record->token, record->value, text);
        break;
    case BLY_CONTROL_LISTING:
        mon_control_listing(sandbox->control, text, record->size, record->value == 0);
        break;
    case BLY_CONTROL_REFUSED:
        mon_audit_refused(sandbox->audit, text, record->value);
        break;
    case BLY_CONTROL_QUIESCED:
        mon_suspend_answered(sandbox, record->value, text, record->size);
        break;
    case BLY_CONTROL_RESUMED:
        sandbox_resumed(sandbox, record->value, text);
        break;
    case BLY_CONTROL_PANIC:
        sandbox_panicked(sandbox, record->value, text);
        break;
    }
}

/* Takes one record. Returns false when there is none. */
static bool take_record(struct mon_sandbox *sandbox)
{
    struct {
        struct bly_control record;
        char text[BLY_CONTROL_MAX - sizeof(struct bly_control) + 1];
    } message;
    ssize_t size = recv(sandbox->channel, &message, sizeof(message) - 1, MSG_DONTWAIT);
    if (size <= 0)
        return false;
    if ((size_t)size < sizeof(message.record) || message.record.size != (size_t)size - sizeof(message.record))
        return true; /* malformed: ignored */
    message.text[message.record.size] = '\0';
    serve_record(sandbox, &message.record, message.text);
    return true;
}

static void channel_ready(struct mon_watch *watch, uint32_t events)
{
    struct mon_sandbox *sandbox = watch->context;
    if (!take_record(sandbox) && (events & (EPOLLHUP | EPOLLERR)))
        mon_watch_remove(&sandbox->loop, watch);
}

/* ---- Signals ---- */

static void user_interrupts(struct mon_sandbox *sandbox, bool no_reaction)
{
    uint64_t now = mon_now_ns();
    bool impatient = sandbox->interrupt_times[0] && now - sandbox->interrupt_times[0] < IMPATIENCE_NS;
    sandbox->interrupt_times[0] = sandbox->interrupt_times[1];
    sandbox->interrupt_times[1] = now;
    if (impatient && no_reaction) {
        note("the sandbox does not react: ending it");
        mon_kill(sandbox);
    }
}

/* In raw mode Ctrl-C is a byte for the sandbox's terminal; when it leaves its input unread, the user is not to be stuck. */
static void watch_keys(void *context, const unsigned char *data, size_t size)
{
    struct mon_sandbox *sandbox = context;
    for (const unsigned char *key = data; (key = memchr(key, INTERRUPT_BYTE, size - (size_t)(key - data))); key++)
        user_interrupts(sandbox, mon_stdio_unread(&sandbox->stdio) > 0);
}

/* A terminal in raw mode has an end only when it is gone. */
static void terminal_hung_up(void *context)
{
    send_signal(context, 0, SIGHUP);
}

/* In the background the terminal is somebody else's; nothing tells us when we get it. */
static void take_terminal(struct mon_timer *timer)
{
    struct mon_sandbox *sandbox = timer->context;
    if (mon_stdio_raw(&sandbox->stdio, true))
        follow_window(sandbox);
    else
        mon_timer_start(&sandbox->loop, timer, FOREGROUND_LOOK_NS);
}

/* Ctrl-Z: the program stops, then we do, so that the shell gets its terminal back; and the other way round. */
static void stop_and_continue(struct mon_sandbox *sandbox)
{
    send_signal(sandbox, 0, SIGTSTP);
    mon_stdio_raw(&sandbox->stdio, false);
    raise(SIGSTOP);
    take_terminal(&sandbox->terminal_timer);
    send_signal(sandbox, 0, SIGCONT);
}

/* The first picoprocess is looked at only: it stays a zombie until all are dead (end_processes), and so its group's number its own. */
static void reap(struct mon_sandbox *sandbox)
{
    siginfo_t end;
    for (;;) {
        end.si_pid = 0;
        int result = waitid(P_ALL, 0, &end, WEXITED | WNOHANG | WNOWAIT);
        if (result < 0 && errno == EINTR)
            continue;
        if (result < 0 || end.si_pid == 0)
            return;
        if (end.si_pid != sandbox->child) {
            waitpid(end.si_pid, NULL, WNOHANG);
            continue;
        }
        if (end.si_code != CLD_EXITED && !sandbox->killed && !sandbox->main_ended)
            sandbox->failure = -end.si_status;
        mon_loop_stop(&sandbox->loop);
        return;
    }
}

static void serve_signal(struct mon_sandbox *sandbox, int signal)
{
    switch (signal) {
    case SIGCHLD:
        reap(sandbox);
        break;
    case SIGWINCH:
        follow_window(sandbox);
        break;
    case SIGTSTP:
        stop_and_continue(sandbox);
        break;
    case SIGINT:
    case SIGQUIT:
    case SIGTERM:
    case SIGHUP:
        if (sandbox->main_ended || sandbox->main_failed)
            mon_kill(sandbox);
        else
            send_signal(sandbox, 0, signal);
        user_interrupts(sandbox, /*no_reaction=*/true);
        sandbox->stdio.abandoned = sandbox->ending; /* only the rest of the output keeps us here */
        break;
    default:
        send_signal(sandbox, 0, signal);
    }
}

static void signals_ready(struct mon_watch *watch, uint32_t events)
{
    struct signalfd_siginfo info;
    while (read(watch->descriptor, &info, sizeof(info)) == sizeof(info))
        serve_signal(watch->context, (int)info.ssi_signo);
}

static int catch_signals(struct mon_sandbox *sandbox, sigset_t *out_before)
{
    static const int signals[] = {SIGCHLD, SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGWINCH, SIGTSTP, SIGUSR1, SIGUSR2};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        struct sigaction action;
        /* What our caller ignores (nohup) stays ignored. */
        bool ignored = sigaction(signals[i], NULL, &action) == 0 && action.sa_handler == SIG_IGN && signals[i] != SIGCHLD;
        if (!ignored)
            sigaddset(&set, signals[i]);
    }
    signal(SIGCHLD, SIG_DFL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a size that the guest asks for may be beyond our limit: EFBIG */
    pthread_sigmask(SIG_BLOCK, &set, out_before);
    sandbox->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return sandbox->signals < 0 ? -errno : 0;
}

/* ---- Start ---- */

static void watch_workers(struct mon_timer *timer)
{
    struct mon_sandbox *sandbox = timer->context;
    mon_rpc_watch(&sandbox->rpc);
    mon_timer_start(&sandbox->loop, timer, WATCH_PERIOD_NS);
}

/* For who reads along, and so that little is lost with a monitor that is killed. */
static void flush_audit(struct mon_timer *timer)
{
    struct mon_sandbox *sandbox = timer->context;
    mon_audit_flush(sandbox->audit);
    mon_timer_start(&sandbox->loop, timer, AUDIT_PERIOD_NS);
}

static int add_watch(struct mon_sandbox *sandbox, struct mon_watch *watch, int descriptor, mon_watch_function *function)
{
    *watch = (struct mon_watch){.descriptor = descriptor, .events = EPOLLIN, .function = function, .context = sandbox};
    return mon_watch_add(&sandbox->loop, watch);
}

static int open_control(struct mon_sandbox *sandbox, int streams[3])
{
    return mon_control_open(&sandbox->control, &sandbox->loop, sandbox->policy, &control_operations, sandbox, streams, sandbox->error);
}

static int start(struct mon_sandbox *sandbox, struct mon_completion completion, const int standard[3])
{
    struct error *error = sandbox->error;
    int streams[3] = {standard[0], standard[1], standard[2]};
    /* A console's streams are the program's, and a resumed one has a past. Else the control socket can wait until the child has all it needs. */
    const bool first = sandbox->policy->detach || sandbox->resume;
    if (mon_launch_begin(sandbox, error) < 0 || completion.function(completion.context, error) < 0 ||
        mon_audit_open(sandbox->policy, &sandbox->audit, error) < 0 || (first && open_control(sandbox, streams) < 0) ||
        mon_launch(sandbox, streams, error) < 0 || (!first && open_control(sandbox, streams) < 0))
        return error->code;
    mon_control_begin_generation(sandbox->control, sandbox->generation);
    mon_audit_event(sandbox->audit, sandbox->resume ? "resume" : "start", sandbox->policy->program, sandbox->child);

    sandbox->stdio.relays[0].on_data = sandbox->policy->terminal ? watch_keys : NULL;
    sandbox->stdio.relays[0].on_hang_up = sandbox->policy->terminal ? terminal_hung_up : NULL;
    sandbox->stdio.relays[1].on_data = sandbox->policy->terminal ? follow_screen : NULL;
    sandbox->stdio.relays[0].context = sandbox->stdio.relays[1].context = sandbox;
    int result = add_watch(sandbox, &sandbox->channel_watch, sandbox->channel, channel_ready);
    if (result == 0)
        result = add_watch(sandbox, &sandbox->log_watch, sandbox->log, mon_log_read);
    if (result == 0)
        result = add_watch(sandbox, &sandbox->signal_watch, sandbox->signals, signals_ready);
    if (result == 0)
        result = mon_stdio_start(&sandbox->stdio);
    if (result < 0)
        return error_set_errno(error, result, "cannot watch the sandbox");
    if (sandbox->resume)
        mon_timer_start(&sandbox->loop, &sandbox->resume_timer, RESUME_NS);
    if (!mon_stdio_raw(&sandbox->stdio, true))
        mon_timer_start(&sandbox->loop, &sandbox->terminal_timer, FOREGROUND_LOOK_NS);
    if (sandbox->audit)
        mon_timer_start(&sandbox->loop, &sandbox->audit_timer, AUDIT_PERIOD_NS);
    if (sandbox->rpc.watched)
        mon_timer_start(&sandbox->loop, &sandbox->watch_timer, WATCH_PERIOD_NS);
    return 0;
}

/* ---- The first moments ---- */

/* Lets others run that want our CPU. Returns for how long they did. */
static uint64_t give_way(uint64_t now_ns)
{
    sched_yield();
    uint64_t gone = mon_now_ns() - now_ns;
    return gone > GIVEN_NS ? gone : 0;
}

static int serve_alone(struct mon_sandbox *sandbox)
{
    struct mon_rpc *rpc = &sandbox->rpc;
    uint64_t start = mon_now_ns();
    /* The child goes on meanwhile, maybe on our CPU; to be woken by its first request would cost it 30 µs. Pages that it is about to use take
     * it 2 µs each. */
    const struct timespec starting = {.tv_nsec = STARTING_NS};
    if (!sandbox->resume)
        (void)!fallocate(sandbox->heap, 0, BLY_HEAP_FIRST - BLY_HEAP_START, BLY_HEAP_FIRST_SIZE);
    nanosleep(&starting, NULL);
    uint64_t last = mon_now_ns() + FIRST_NS - AWAKE_NS;
    unsigned looks = 0;
    uint64_t given = 0;
    int result = 0;
    while (!sandbox->loop.stop && result >= 0) {
        uint64_t now = mon_now_ns();
        /* The main program's end takes the pid namespace along: no request matters any more, and what is closed now is closed while the
         * processes end. */
        if (sandbox->main_ended && rpc->eager && (sandbox->walls & CLONE_NEWPID)) {
            mon_rpc_end_eager(rpc);
            last = now;
        }
        if (mon_rpc_serve_eagerly(rpc)) {
            last = now;
            if (now - start > ALONE_NS)
                break;
        }
        if (now > last + AWAKE_NS) {
            result = mon_rpc_eager_sleeps(rpc) ? mon_loop_once(&sandbox->loop, -1) : 0;
            mon_rpc_eager_wakes(rpc);
        } else {
            if (looks++ % LOOKS == 0 || !rpc->eager)
                result = mon_loop_once(&sandbox->loop, 0);
            given += give_way(mon_now_ns());
            if (rpc->eager && given > CROWDED_NS)
                break;
        }
    }
    return result;
}

/* In its first moments we serve the sandbox's requests here, between its records and signals (rpc.h). After each we look for the
 * next one for a moment, unless others want the CPU. A sandbox that asks for more later gets workers. */
static int serve_start(struct mon_sandbox *sandbox)
{
    mode_t mask = umask(0); /* as the workers do */
    int result = serve_alone(sandbox);
    umask(mask);
    return result;
}

static int run_loop(struct mon_sandbox *sandbox)
{
    int result = sandbox->rpc.eager ? serve_start(sandbox) : 0;
    if (result < 0 || sandbox->loop.stop)
        return result;
    result = mon_rpc_start(&sandbox->rpc);
    if (result < 0)
        return error_set_errno(sandbox->error, result, "cannot start the monitor's threads");
    return mon_loop_run(&sandbox->loop);
}

/* ---- End ---- */

static void end_processes(struct mon_sandbox *sandbox)
{
    kill_all(sandbox);
    while (waitpid(-1, NULL, 0) >= 0 || errno == EINTR)
        ;
    sandbox->child = 0;
}

static void decide_result(struct mon_sandbox *sandbox)
{
    struct mon_result *result = sandbox->result;
    struct error *error = sandbox->error;
    int status = sandbox->main_status;
    if (result->suspended || result->moved) {
        *result = (struct mon_result){.suspended = result->suspended, .moved = result->moved, .ended = true};
        return;
    }
    if (sandbox->main_ended) {
        *result = (struct mon_result){.exit_status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status),
                                      .wait_status = status,
                                      .ended = true};
        return;
    }
    if (sandbox->killed && !sandbox->main_failed) {
        *result = (struct mon_result){.exit_status = 128 + SIGKILL, .wait_status = SIGKILL, .ended = true};
        return;
    }
    if (error->code == 0 && sandbox->failure < 0)
        error_set(error, -EIO, "the sandbox died of signal %d (%s)%s", -sandbox->failure, strsignal(-sandbox->failure),
                  -sandbox->failure == SIGKILL && sandbox->had_memory_limit ? ": it may have exceeded its memory limit" : "");
    else if (error->code == 0)
        error_set(error, -EIO, "the sandbox ended without saying how its program did");
    result->exit_status = error->exit_status;
    result->wait_status = error->exit_status << 8;
}

static void finish(struct mon_sandbox *sandbox)
{
    sandbox->ending = true;
    mon_timer_stop(&sandbox->loop, &sandbox->kill_timer);
    mon_timer_stop(&sandbox->loop, &sandbox->resume_timer);
    mon_timer_stop(&sandbox->loop, &sandbox->audit_timer);
    mon_timer_stop(&sandbox->loop, &sandbox->watch_timer);
    mon_timer_stop(&sandbox->loop, &sandbox->terminal_timer);
    mon_timer_stop(&sandbox->loop, &sandbox->draw_timer);
    if (sandbox->child > 0)
        end_processes(sandbox);
    mon_suspend_end(sandbox);
    sandbox->had_memory_limit = mon_cgroup_limits_memory(&sandbox->cgroup);
    mon_cgroup_close(&sandbox->cgroup);
    /* Records and output that were under way when the last process died. */
    while (sandbox->channel >= 0 && take_record(sandbox))
        ;
    mon_log_drain(sandbox);
    decide_result(sandbox);
    /* Natively such a program would have been killed while it waited for its reader, and what it had not yet written been lost. */
    mon_stdio_drain(&sandbox->stdio, sandbox->told_to_end ? LAST_WORDS_MS : INT32_MAX);
    while (sandbox->executions)
        end_execution(sandbox, sandbox->executions->token);
    const struct mon_result *result = sandbox->result;
    cleanup_free char *became = result->suspended ? text_print("it was suspended to %s", result->suspended)
                                : result->moved   ? text_print("it was moved to %s", result->moved)
                                                  : NULL;
    if (sandbox->control)
        mon_control_close(sandbox->control, result->wait_status, became);
    if (became)
        mon_stdio_end_line(&sandbox->stdio);
    mon_stdio_close(&sandbox->stdio, &sandbox->handles);
    mon_audit_event(sandbox->audit, "end", NULL, sandbox->result->exit_status);
    mon_audit_flush(sandbox->audit);
    /* The workers, their channel, handles and folders are left to the end of the process, which follows: waking and joining the
     * workers would cost more than starting them did, and one may be held up by a file system. */
    int *const descriptors[] = {&sandbox->channel, &sandbox->log, &sandbox->signals};
    for (size_t i = 0; i < sizeof(descriptors) / sizeof(descriptors[0]); i++)
        cleanup_close_descriptor(descriptors[i]);
    mon_loop_destroy(&sandbox->loop);
}

static int run(const struct mon_policy *policy, struct mon_completion completion, const struct mon_resume *resume, const int standard[3],
               struct mon_result *out_result, struct error *error)
{
    static struct mon_sandbox sandbox; /* large, and untouched for the most part: it is used once, and so not cleared */
    sigset_t before;
    assert(!sandbox.policy);
    error_clear(error);
    *out_result = (struct mon_result){.exit_status = EXIT_BAILEY};
    sandbox.policy = policy;
    sandbox.resume = resume;
    sandbox.result = out_result;
    sandbox.error = error;
    sandbox.channel = sandbox.log = sandbox.signals = -1;
    sandbox.log_level = BLY_LOG_WARNING;
    sandbox.kill_timer = (struct mon_timer){.function = kill_late, .context = &sandbox};
    sandbox.resume_timer = (struct mon_timer){.function = resume_late, .context = &sandbox};
    sandbox.audit_timer = (struct mon_timer){.function = flush_audit, .context = &sandbox};
    sandbox.watch_timer = (struct mon_timer){.function = watch_workers, .context = &sandbox};
    sandbox.terminal_timer = (struct mon_timer){.function = take_terminal, .context = &sandbox};
    sandbox.draw_timer = (struct mon_timer){.function = draw_late, .context = &sandbox};
    sandbox.loop.epoll = -1;
    sandbox.rpc.memory = -1;
    sandbox.stdio.terminal_descriptor = sandbox.stdio.input = -1;
    mon_cgroup_open(&sandbox.cgroup, 0, 0);
    int result = mon_loop_init(&sandbox.loop);
    if (result == 0)
        result = catch_signals(&sandbox, &before);
    if (result < 0)
        return error_set_errno(error, result, "cannot start the monitor");
    if (start(&sandbox, completion, standard) == 0) {
        result = run_loop(&sandbox);
        if (result < 0 && error->code == 0)
            error_set_errno(error, result, "the monitor's loop failed");
    }
    finish(&sandbox);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return out_result->ended ? 0 : error->code;
}

int mon_run(const struct mon_policy *policy, struct mon_completion completion, const int standard[3], struct mon_result *out_result,
            struct error *error)
{
    return run(policy, completion, NULL, standard, out_result, error);
}

int mon_resume_run(const struct mon_policy *policy, struct mon_completion completion, const struct mon_resume *resume,
                   const int standard[3], struct mon_result *out_result, struct error *error)
{
    return run(policy, completion, resume, standard, out_result, error);
}
