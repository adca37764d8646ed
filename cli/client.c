/* Talking to a running sandbox's monitor, and the user's terminal meanwhile. */
#include <cli/client.h>
#include <cli/state.h>

#include <base/names.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define ENDING_ATTEMPTS 300 /* three seconds for a monitor to end that no longer listens */
#define ENDING_STEP_US 10000

int client_open(struct client *client, const char *name, struct error *error)
{
    *client = (struct client){.socket = -1, .name = name};
    struct sandbox sandbox;
    int result = state_find_running(name, &sandbox, error);
    sandbox_free(&sandbox);
    if (result < 0)
        return result;
    client->payload = memory_new(CONTROL_PAYLOAD_MAX);
    return state_connect(name, &client->socket, error);
}

void client_close(struct client *client)
{
    if (client->socket >= 0)
        close(client->socket);
    client->socket = -1;
    free(client->payload);
    client->payload = NULL;
}

int client_send(struct client *client, const struct control_message *message, const void *payload,
                struct error *error)
{
    int result = control_send(client->socket, message, payload, NULL, 0);
    return result < 0 ? error_set_errno(error, result, "cannot reach the sandbox %s", client->name)
                      : 0;
}

int client_ask(struct client *client, enum control_kind kind, int32_t value, struct error *error)
{
    struct control_message message = {.kind = kind, .value = value};
    return client_send(client, &message, NULL, error);
}

int client_receive(struct client *client, struct error *error)
{
    int result = control_receive(client->socket, &client->answer, client->payload, NULL);
    if (result == 0)
        return error_set(error, -EPIPE, "the monitor of sandbox %s has gone away", client->name);
    if (result < 0)
        return error_set_errno(error, result, "cannot read what the sandbox %s answers",
                               client->name);
    if (client->answer.kind == CONTROL_ERROR) {
        error_set_lines(error, client->answer.value < 0 ? client->answer.value : -EIO,
                        client->payload, client->answer.size);
        return error_wrap(error, "sandbox %s", client->name);
    }
    return 0;
}

int client_receive_until(struct client *client, enum control_kind kind, struct text *out_lines,
                         struct error *error)
{
    for (;;) {
        int result = client_receive(client, error);
        if (result < 0)
            return result;
        if (client->answer.kind == CONTROL_LINES && out_lines)
            text_add_size(out_lines, client->payload, client->answer.size);
        else if (client->answer.kind == CONTROL_LINES)
            fwrite(client->payload, 1, client->answer.size, stdout);
        if (client->answer.kind == (uint32_t)kind)
            return 0;
    }
}

static int ask_and_wait(const char *name, enum control_kind kind, int32_t value,
                        int *out_exit_status, struct error *error)
{
    cleanup_client struct client client = {.socket = -1};
    int result = client_open(&client, name, error);
    if (result == 0)
        result = client_ask(&client, kind, value, error);
    if (result == 0)
        result = client_receive_until(&client, CONTROL_ENDED, NULL, error);
    if (result == 0)
        *out_exit_status = exit_status_of(client.answer.value);
    return result;
}

void client_wait_until_over(const char *name)
{
    for (int attempt = 0; attempt < ENDING_ATTEMPTS; attempt++) {
        struct error ignored = {0};
        cleanup_sandbox struct sandbox sandbox = {0};
        if (state_find(name, &sandbox, &ignored) < 0 || sandbox.status != SANDBOX_RUNNING)
            return;
        usleep(attempt < 10 ? ENDING_STEP_US / 10 : ENDING_STEP_US);
    }
}

int client_wait_for_end(const char *name, enum control_kind kind, int32_t value,
                        int *out_exit_status, struct error *error)
{
    struct error refused = {0};
    int asked = ask_and_wait(name, kind, value, out_exit_status, &refused);
    if (asked == -ECANCELED && kind == CONTROL_WAIT) { /* it has not ended, but gone elsewhere */
        client_wait_until_over(name);
        *error = refused;
        return asked;
    }
    /* A monitor that is ending takes no more questions; its last word is in the state folder. */
    for (int attempt = 0; asked < 0; attempt++) {
        cleanup_sandbox struct sandbox sandbox = {0};
        int result = state_find(name, &sandbox, error);
        if (result == -ENOENT && asked != -ENOENT) {
            /* It was there when it was asked, and is not one that stays. */
            *out_exit_status = 0;
            return kind == CONTROL_STOP
                       ? 0
                       : error_set(error, -ENOENT,
                                   "the sandbox %s has ended, and is not one that is kept", name);
        }
        if (result < 0)
            return result;
        if (sandbox.status == SANDBOX_SUSPENDED && kind == CONTROL_WAIT)
            return error_set(error, -ECANCELED, "sandbox %s: it was suspended", name);
        if (sandbox.status != SANDBOX_RUNNING) {
            *out_exit_status = sandbox.exit_status;
            return 0;
        }
        if (attempt == ENDING_ATTEMPTS) {
            *error = refused;
            return asked;
        }
        usleep(ENDING_STEP_US);
    }
    client_wait_until_over(name);
    return 0;
}

int exit_status_of(int wait_status)
{
    return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

/* ---- Terminal ---- */

static struct terminal *active_terminal; /* what a fatal signal gives back */

static void restore_and_die(int signal)
{
    if (active_terminal)
        tcsetattr(active_terminal->descriptor, TCSANOW, &active_terminal->saved);
    struct sigaction fallback = {.sa_handler = SIG_DFL};
    sigaction(signal, &fallback, NULL);
    raise(signal);
}

void terminal_make_raw(struct terminal *terminal, int descriptor)
{
    terminal->descriptor = -1;
    if (tcgetattr(descriptor, &terminal->saved) < 0)
        return;
    terminal->descriptor = descriptor;
    active_terminal = terminal;
    static const int fatal[] = {SIGTERM, SIGHUP, SIGQUIT, SIGINT};
    for (size_t i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++) {
        struct sigaction action = {.sa_handler = restore_and_die};
        sigaction(fatal[i], &action, NULL);
    }
    struct termios raw = terminal->saved;
    cfmakeraw(&raw);
    tcsetattr(descriptor, TCSADRAIN, &raw);
}

void terminal_restore(struct terminal *terminal)
{
    if (terminal->descriptor < 0)
        return;
    active_terminal = NULL;
    tcsetattr(terminal->descriptor, TCSADRAIN, &terminal->saved);
    terminal->descriptor = -1;
}

void terminal_size(int descriptor, uint16_t *out_rows, uint16_t *out_columns)
{
    struct winsize size;
    bool known = ioctl(descriptor, TIOCGWINSZ, &size) == 0;
    *out_rows = known ? size.ws_row : 0;
    *out_columns = known ? size.ws_col : 0;
}

int signal_number(const char *name)
{
    char *end;
    long number = strtol(name, &end, 10);
    if (*name && !*end)
        return number >= 1 && number <= 64 ? (int)number : 0;
    if (strncasecmp(name, "SIG", 3) == 0)
        name += 3;
    for (int i = 1; i < 32; i++) {
        const char *abbreviation = signal_name(i);
        if (abbreviation && strcasecmp(abbreviation, name) == 0)
            return i;
    }
    return 0;
}
