/* bailey exec: a further program in a running sandbox. Its streams are ours, given away with the
 * request, except terminals: those stay here, in raw mode if the program has a terminal of its own,
 * and their bytes pass through pipes. */
#include <cli/client.h>
#include <cli/command.h>
#include <cli/exec.h>
#include <cli/launch.h>
#include <cli/outlet.h>

#include <base/cleanup.h>
#include <errno.h>
#include <fcntl.h>
#include <monitor/policy/value.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

static char *pack(const struct exec_request *request, size_t *out_size)
{
    struct text payload = {0};
    struct control_execute head = {
        .argument_count = (uint32_t)request->arguments.count,
        .environment_count = (uint32_t)request->environment.count,
        .user = request->user,
        .group = request->group,
        .terminal = request->terminal,
        .standard = request->no_input ? 6 : 7,
    };
    text_add_size(&payload, &head, sizeof(head));
    text_add_size(&payload, request->arguments.items[0], strlen(request->arguments.items[0]) + 1);
    const char *directory = request->directory ? request->directory : "";
    text_add_size(&payload, directory, strlen(directory) + 1);
    for (size_t i = 0; i < request->arguments.count; i++)
        text_add_size(&payload, request->arguments.items[i],
                      strlen(request->arguments.items[i]) + 1);
    for (size_t i = 0; i < request->environment.count; i++)
        text_add_size(&payload, request->environment.items[i],
                      strlen(request->environment.items[i]) + 1);
    *out_size = payload.size;
    return text_take(&payload);
}

/* Signals for us become signals for the program; the terminal's size follows its window. */
static int open_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    static const int passed[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH};
    for (size_t i = 0; i < sizeof(passed) / sizeof(passed[0]); i++)
        sigaddset(&set, passed[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC);
}

/* One terminal of ours at one end, a pipe to or from the sandbox at the other. */
struct pump {
    int terminal, pipe; /* -1: none, or ended */
    size_t start, end;  /* input: what could not be passed on yet */
    char buffer[4096];
};

static int open_pump(struct pump *pump, int terminal, bool input, int *out_theirs,
                     struct error *error)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_set_errno(error, -errno, "cannot make a pipe");
    pump->terminal = terminal;
    pump->pipe = ends[input];
    *out_theirs = ends[!input];
    fcntl(pump->pipe, F_SETFL, O_NONBLOCK | (input ? O_WRONLY : O_RDONLY));
    return 0;
}

static void end_pump(struct pump *pump)
{
    if (pump->pipe >= 0)
        close(pump->pipe);
    pump->pipe = -1;
}

static void pump_input(struct pump *pump)
{
    if (pump->start == pump->end) {
        ssize_t size = read(pump->terminal, pump->buffer, sizeof(pump->buffer));
        if (size < 0 && (errno == EINTR || errno == EAGAIN))
            return;
        if (size <= 0) {
            end_pump(pump);
            return;
        }
        pump->start = 0;
        pump->end = (size_t)size;
    }
    ssize_t size = write(pump->pipe, pump->buffer + pump->start, pump->end - pump->start);
    if (size > 0)
        pump->start += (size_t)size;
    else if (errno != EAGAIN && errno != EINTR)
        end_pump(pump);
}

struct conversation {
    struct client client;
    struct pump pumps[3];
    struct terminal terminal;
    struct outlets outlets;
    bool has_terminal;
};

static bool pass_signal(void *context)
{
    struct conversation *conversation = context;
    struct signalfd_siginfo info;
    if (read(conversation->outlets.signals, &info, sizeof(info)) != sizeof(info))
        return false;
    struct control_message message = {.kind = CONTROL_SIGNAL, .value = (int)info.ssi_signo};
    if (info.ssi_signo == SIGWINCH) {
        if (!conversation->has_terminal)
            return false;
        message.kind = CONTROL_WINDOW_SIZE;
        terminal_size(STDOUT_FILENO, &message.rows, &message.columns);
    }
    /* Where it cannot be sent the connection has ended: that is what we learn next. */
    struct error ignored = {0};
    (void)client_send(&conversation->client, &message, NULL, &ignored);
    return signal_tells_to_end(info.ssi_signo);
}

/* False: nothing is there now. */
static bool pump_output(struct conversation *conversation, int which)
{
    struct pump *pump = &conversation->pumps[which];
    ssize_t size = read(pump->pipe, pump->buffer, sizeof(pump->buffer));
    if (size < 0 && errno == EINTR)
        return true;
    if (size > 0)
        outlets_write(&conversation->outlets, which, pump->buffer, (size_t)size);
    if (size == 0)
        end_pump(pump);
    return size > 0;
}

static void end_conversation(struct conversation *conversation)
{
    for (int i = 1; i < 3; i++)
        while (conversation->pumps[i].pipe >= 0 && pump_output(conversation, i))
            ;
    for (int i = 0; i < 3; i++)
        end_pump(&conversation->pumps[i]);
    outlets_leave(&conversation->outlets, /*end_line=*/conversation->client.answer.kind == CONTROL_ERROR);
    terminal_restore(&conversation->terminal);
    client_close(&conversation->client);
    outlets_close(&conversation->outlets);
    if (conversation->outlets.signals >= 0)
        close(conversation->outlets.signals);
}

/* Gives the program its streams and the request. */
static int start(struct conversation *conversation, const struct exec_request *request,
                 const int standard[3], struct error *error)
{
    size_t size;
    cleanup_free char *payload = pack(request, &size);
    struct control_message message = {.kind = CONTROL_EXECUTE, .size = (uint32_t)size};
    if (size > CONTROL_PAYLOAD_MAX)
        return error_set(error, -E2BIG,
                         "the arguments and variables are too long (%zu bytes; at most %u)", size,
                         CONTROL_PAYLOAD_MAX);
    int given[3], made[3] = {-1, -1, -1};
    size_t count = 0;
    int result = 0;
    for (int i = request->no_input; i < 3 && result == 0; i++) {
        if (isatty(standard[i]))
            result = open_pump(&conversation->pumps[i], standard[i], i == 0, &made[i], error);
        given[count++] = made[i] >= 0 ? made[i] : standard[i];
    }
    if (request->terminal && isatty(standard[1]))
        terminal_size(standard[1], &message.rows, &message.columns);
    if (result == 0) {
        result = control_send(conversation->client.socket, &message, payload, given, count);
        if (result < 0)
            error_set_errno(error, result, "cannot reach the sandbox %s",
                            conversation->client.name);
    }
    for (int i = 0; i < 3; i++)
        if (made[i] >= 0)
            close(made[i]);
    return result;
}

/* One answer of the monitor. 1: the program has ended. */
static int take_answer(struct conversation *conversation, struct error *error)
{
    int result = client_receive(&conversation->client, error);
    if (result < 0) {
        bool missing = result == -ENOENT || result == -ENOTDIR;
        bool not_executable = result == -EACCES || result == -ENOEXEC || result == -EISDIR;
        if (missing || not_executable)
            error_exit_status(error, missing ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE);
        return result;
    }
    uint32_t kind = conversation->client.answer.kind;
    if (kind == CONTROL_STARTED && conversation->has_terminal && conversation->pumps[0].pipe >= 0)
        terminal_make_raw(&conversation->terminal, conversation->pumps[0].terminal);
    return kind == CONTROL_ENDED;
}

static int converse(struct conversation *conversation, struct error *error)
{
    struct pump *pumps = conversation->pumps;
    for (;;) {
        bool full = pumps[0].start != pumps[0].end;
        struct pollfd waits[] = {
            {.fd = conversation->client.socket, .events = POLLIN},
            {.fd = conversation->outlets.signals, .events = POLLIN},
            {.fd = pumps[0].pipe < 0 || full ? -1 : pumps[0].terminal, .events = POLLIN},
            {.fd = full ? pumps[0].pipe : -1, .events = POLLOUT},
            {.fd = pumps[1].pipe, .events = POLLIN},
            {.fd = pumps[2].pipe, .events = POLLIN},
        };
        if (poll(waits, sizeof(waits) / sizeof(waits[0]), -1) < 0) {
            if (errno == EINTR)
                continue;
            return error_set_errno(error, -errno, "cannot wait for the program");
        }
        if (waits[2].revents || waits[3].revents)
            pump_input(&pumps[0]);
        for (int i = 1; i < 3; i++)
            if (waits[3 + i].revents)
                pump_output(conversation, i);
        if (waits[1].revents)
            conversation->outlets.told_to_end |= pass_signal(conversation);
        int result = waits[0].revents ? take_answer(conversation, error) : 0;
        if (result < 0)
            return result;
        if (result > 0)
            return exit_status_of(conversation->client.answer.value);
    }
}

int exec_in_sandbox(const char *name, const struct exec_request *request, const int standard[3],
                    struct error *error)
{
    __attribute__((cleanup(end_conversation))) struct conversation conversation = {
        .client.socket = -1,
        .pumps = {{.pipe = -1}, {.pipe = -1}, {.pipe = -1}},
        .terminal.descriptor = -1,
        .outlets = {.signals = -1, .take_signal = pass_signal, .context = &conversation},
        .has_terminal = request->terminal,
    };
    int result = client_open(&conversation.client, name, error);
    if (result < 0)
        return result;
    conversation.outlets.signals = open_signals();
    outlets_open(&conversation.outlets, standard);
    conversation.outlets.draws = request->terminal && isatty(standard[1]);
    result = start(&conversation, request, standard, error);
    return result < 0 ? result : converse(&conversation, error);
}

static const struct option_help options[] = {
    {'e', "env", "NAME[=VALUE]",
     "set a variable (the others are the first program's), or pass one on from here"},
    {0, "env-file", "FILE", "variables from a file, NAME=VALUE a line"},
    {'i', "interactive", "[=BOOL]", "accepted as in podman: standard input is always forwarded"},
    {'t', "tty", "[=BOOL]", "give the program a terminal (the default when run from one)"},
    {'u', "user", "UID[:GID]", "user that the program runs as inside (default: root)"},
    {'w', "workdir", "DIR", "working folder in the sandbox (default: the first program's)"},
    {0, NULL, NULL, NULL},
};

static int read_option(struct exec_request *request, const struct option_help *option,
                       const char *value, bool *terminal_given, struct error *error)
{
    bool ignored;
    switch (option->letter) {
    case 'e':
        return policy_add_variable(&request->environment, value, error);
    case 0:
        return policy_add_variable_file(&request->environment, value, error);
    case 'i':
        return launch_parse_boolean("interactive", value, &ignored, error);
    case 't':
        *terminal_given = true;
        return launch_parse_boolean("tty", value, &request->terminal, error);
    case 'u':
        return policy_parse_user(value, &request->user, &request->group, error);
    default:
        if (value[0] != '/')
            return error_set(error, -EINVAL, "-w %s: an absolute path in the sandbox is expected",
                             value);
        free(request->directory);
        request->directory = text_copy(value);
        return 0;
    }
}

void exec_request_free(struct exec_request *request)
{
    text_list_free(&request->arguments);
    text_list_free(&request->environment);
    free(request->directory);
}

static int run(int argc, char **argv, struct error *error)
{
    __attribute__((cleanup(exec_request_free))) struct exec_request request = {0};
    struct option_reader reader = {.command = &command_exec, .argc = argc, .argv = argv};
    bool terminal_given = false;
    for (const struct option_help *option; (option = option_next(&reader, error));) {
        int result = read_option(&request, option, reader.value, &terminal_given, error);
        if (result < 0)
            return result;
    }
    if (error->code || reader.helped)
        return error->code;
    if (command_expect_words(&reader, 2, -1, error) < 0)
        return error->code;
    for (int i = 1; i < reader.word_count; i++)
        text_list_add(&request.arguments, reader.words[i]);
    if (!terminal_given)
        request.terminal = launch_has_terminal();
    const char *terminal_kind = getenv("TERM");
    if (request.terminal && terminal_kind && !text_list_variable(&request.environment, "TERM"))
        text_list_set_variable(&request.environment, "TERM", terminal_kind);
    const int standard[3] = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO};
    return exec_in_sandbox(reader.words[0], &request, standard, error);
}

const struct command command_exec = {
    .name = "exec",
    .arguments = "NAME PROGRAM [ARGUMENTS...]",
    .summary = "Run a further program in a running sandbox",
    .run = run,
    .options = options,
    .options_end_at_first = true,
    .examples = "  bailey exec web ps aux\n"
                "  bailey exec -it web bash\n",
};
