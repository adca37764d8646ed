/* bailey attach: the streams of a detached program's sandbox, as if it had been started here. */
#include <cli/client.h>
#include <cli/command.h>
#include <cli/launch.h>
#include <cli/outlet.h>

#include <base/cleanup.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define DETACH_FIRST 0x10  /* Ctrl-P */
#define DETACH_SECOND 0x11 /* Ctrl-Q */

static const struct option_help options[] = {
    {0, "no-stdin", NULL, "only look: give it no input"},
    {0, "sig-proxy", "[=BOOL]", "pass signals on to the program (default: true)"},
    {0, NULL, NULL, NULL},
};

struct attachment {
    struct client *client;
    bool input, terminal;
    bool paused;       /* it is being suspended: what is typed is left where it is */
    bool detach_begun; /* Ctrl-P was typed */
    struct outlets outlets;
};

/* Looks for Ctrl-P Ctrl-Q in what was typed. Returns the bytes to pass on (in place), or -1 to
 * leave. */
static ssize_t filter_keys(struct attachment *attachment, char *data, ssize_t size)
{
    ssize_t out = 0;
    for (ssize_t i = 0; i < size; i++) {
        if (attachment->detach_begun && data[i] == DETACH_SECOND)
            return -1;
        attachment->detach_begun = attachment->terminal && data[i] == DETACH_FIRST;
        data[out++] = data[i];
    }
    return out;
}

/* 1: the user leaves. */
static int pass_input(struct attachment *attachment, struct error *error)
{
    char data[16384];
    ssize_t size = read(STDIN_FILENO, data, sizeof(data));
    if (size < 0 && (errno == EINTR || errno == EAGAIN))
        return 0;
    if (size <= 0) {
        attachment->input = false;
        size = 0;
    } else {
        size = filter_keys(attachment, data, size);
        if (size < 0)
            return 1;
    }
    struct control_message message = {.kind = CONTROL_INPUT, .size = (uint32_t)size};
    return client_send(attachment->client, &message, data, error);
}

static bool pass_signal(void *context)
{
    struct attachment *attachment = context;
    struct signalfd_siginfo info;
    if (read(attachment->outlets.signals, &info, sizeof(info)) != sizeof(info))
        return false;
    struct control_message message = {.kind = CONTROL_SIGNAL, .value = (int)info.ssi_signo};
    if (info.ssi_signo == SIGWINCH) {
        message.kind = CONTROL_WINDOW_SIZE;
        terminal_size(STDOUT_FILENO, &message.rows, &message.columns);
    }
    /* Where it cannot be sent the connection has ended: that is what we learn next. */
    struct error ignored = {0};
    (void)client_send(attachment->client, &message, NULL, &ignored);
    return signal_tells_to_end(info.ssi_signo);
}

static int follow(struct attachment *attachment, struct error *error)
{
    struct client *client = attachment->client;
    struct outlets *outlets = &attachment->outlets;
    for (;;) {
        struct pollfd waits[] = {{.fd = client->socket, .events = POLLIN},
                                 {.fd = outlets->signals, .events = POLLIN},
                                 {.fd = attachment->input && !attachment->paused ? STDIN_FILENO : -1,
                                  .events = POLLIN}};
        if (poll(waits, 3, -1) < 0) {
            if (errno == EINTR)
                continue;
            return error_set_errno(error, -errno, "cannot wait for the program");
        }
        if (waits[1].revents)
            outlets->told_to_end |= pass_signal(attachment);
        int result = waits[2].revents ? pass_input(attachment, error) : 0;
        if (result != 0)
            return result > 0 ? 0 : result;
        if (!waits[0].revents)
            continue;
        result = client_receive(client, error);
        if (result < 0)
            return result;
        if (client->answer.kind == CONTROL_ENDED) {
            client_wait_until_over(client->name);
            return exit_status_of(client->answer.value);
        }
        if (client->answer.kind == CONTROL_PAUSE)
            attachment->paused = client->answer.value != 0;
        if (client->answer.kind == CONTROL_OUTPUT)
            outlets_write(outlets, client->answer.value == 2 ? STDERR_FILENO : STDOUT_FILENO,
                          client->payload, client->answer.size);
    }
}

static int open_signals(bool pass)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGWINCH);
    static const int passed[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
    for (size_t i = 0; pass && i < sizeof(passed) / sizeof(passed[0]); i++)
        sigaddset(&set, passed[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC);
}

static int run(int argc, char **argv, struct error *error)
{
    struct option_reader reader = {.command = &command_attach, .argc = argc, .argv = argv};
    bool input = true, pass = true;
    for (const struct option_help *option; (option = option_next(&reader, error));) {
        if (text_equal(option->name, "no-stdin"))
            input = false;
        else if (launch_parse_boolean("sig-proxy", reader.value, &pass, error) < 0)
            return error->code;
    }
    if (error->code || reader.helped || command_expect_words(&reader, 1, 1, error) < 0)
        return error->code;
    cleanup_client struct client client = {.socket = -1};
    int result = client_open(&client, reader.words[0], error);
    if (result < 0)
        return result;
    struct attachment attachment = {
        .client = &client, .input = input, .terminal = isatty(STDIN_FILENO)};
    struct control_message message = {.kind = CONTROL_ATTACH, .value = input};
    terminal_size(STDOUT_FILENO, &message.rows, &message.columns);
    result = client_send(&client, &message, NULL, error);
    if (result < 0)
        return result;
    result = client_receive_until(&client, CONTROL_STARTED, NULL, error);
    if (result < 0)
        return result;
    /* The answer says whether the program has a terminal: then ours goes raw. */
    cleanup_terminal struct terminal terminal = {.descriptor = -1};
    attachment.terminal &= client.answer.value != 0;
    if (attachment.terminal && input)
        terminal_make_raw(&terminal, STDIN_FILENO);
    cleanup_close int signals = open_signals(pass);
    attachment.outlets =
        (struct outlets){.signals = signals, .take_signal = pass_signal, .context = &attachment};
    outlets_open(&attachment.outlets, (const int[]){STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO});
    attachment.outlets.draws = client.answer.value && isatty(STDOUT_FILENO);
    result = follow(&attachment, error);
    outlets_leave(&attachment.outlets, /*end_line=*/client.answer.kind != CONTROL_ENDED);
    outlets_close(&attachment.outlets);
    return result;
}

const struct command command_attach = {
    .name = "attach",
    .arguments = "NAME",
    .summary = "Connect to the streams of a program that runs in the background",
    .run = run,
    .options = options,
    .examples = "  bailey attach web        Ctrl-P Ctrl-Q leaves and lets it run on\n",
};
