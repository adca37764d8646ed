/* The control socket, the monitor's side. Invariants: a client is served in the loop and never
 * waited for; what it does not read is queued up to a limit and then lost (trace lines) or holds
 * the program back (output); only the same user or root is let in. */
#include <monitor/control-client.h>

#include <base/cleanup.h>
#include <base/json.h>
#include <base/path.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CLIENT_MAX 64
#define QUEUE_LIMIT (1u << 20)  /* of one client, for what may be lost */
#define QUEUE_HOLD (128u << 10) /* of one client: the program's output is held back */
#define LIST_LIMIT (16u << 20)  /* of all lines of a listing, which the sandbox writes */
#define LAST_WORDS_MS 1000      /* how long the end waits for clients to read */

/* ---- Sending ---- */

void control_update_hold(struct mon_control *control)
{
    if (!control->has_console)
        return;
    bool held = false, wants = console_wants_input(&control->console);
    for (struct client *client = control->clients; client; client = client->next) {
        held |= client->attached && client->queued > QUEUE_HOLD;
        uint32_t events =
            (client->first ? EPOLLOUT : 0) | (client->gives_input && !wants ? 0 : EPOLLIN);
        if (!client->closing)
            mon_watch_set(control->loop, &client->watch, events);
    }
    console_hold(&control->console, held);
}

static void remove_client(struct client *client);

/* Sends what the socket takes. False: the client is gone. */
static bool flush_client(struct client *client)
{
    while (client->first) {
        struct packet *packet = client->first;
        int result =
            control_send(client->watch.descriptor, &packet->message, packet->payload, NULL, 0);
        if (result == -EAGAIN)
            break;
        if (result < 0) {
            remove_client(client);
            return false;
        }
        client->first = packet->next;
        if (!client->first)
            client->last = &client->first;
        client->queued -= packet->message.size;
        free(packet);
    }
    if (!client->first && client->closing) {
        remove_client(client);
        return false;
    }
    mon_watch_set(client->control->loop, &client->watch,
                  (client->first ? EPOLLOUT : 0) | (client->closing ? 0 : EPOLLIN));
    return true;
}

bool control_tell(struct client *client, enum control_kind kind, int32_t value, const void *payload,
                  size_t size)
{
    if (size > CONTROL_PAYLOAD_MAX)
        size = CONTROL_PAYLOAD_MAX;
    struct packet *packet = memory_new(sizeof(*packet) + size);
    packet->message =
        (struct control_message){.kind = kind, .value = value, .size = (uint32_t)size};
    if (size)
        memcpy(packet->payload, payload, size);
    *client->last = packet;
    client->last = &packet->next;
    client->queued += size;
    return flush_client(client);
}

bool control_tell_error(struct client *client, int code, const char *text)
{
    return control_tell(client, CONTROL_ERROR, code, text, strlen(text));
}

void control_tell_last(struct client *client, enum control_kind kind, int32_t value,
                       const void *payload, size_t size)
{
    client->closing = true;
    control_tell(client, kind, value, payload, size);
}

static void update_trace(struct mon_control *control)
{
    uint32_t flags = (control->policy->trace_syscalls ? BLY_START_TRACE_SYSCALLS : 0) |
                     (control->policy->trace_abi ? BLY_START_TRACE_ABI : 0);
    for (struct client *client = control->clients; client; client = client->next)
        flags |= client->trace_flags;
    control->operations->trace(control->context, flags);
}

static void remove_client(struct client *client)
{
    struct mon_control *control = client->control;
    for (struct client **place = &control->clients; *place; place = &(*place)->next) {
        if (*place == client) {
            *place = client->next;
            break;
        }
    }
    control->client_count--;
    mon_watch_remove(control->loop, &client->watch);
    close(client->watch.descriptor);
    while (client->first) {
        struct packet *packet = client->first;
        client->first = packet->next;
        free(packet);
    }
    /* Who started a program and vanishes takes its terminal along. */
    if (client->token)
        control->operations->signal(control->context, client->token, SIGHUP);
    if (client->suspends)
        control->operations->cancel_suspension(control->context);
    bool traced = client->trace_flags;
    free(client->program);
    free(client);
    if (traced)
        update_trace(control);
    control_update_hold(control);
}

/* ---- What the monitor reports ---- */

static struct client *find_token(struct mon_control *control, uint32_t token)
{
    for (struct client *client = control->clients; client; client = client->next)
        if (client->token == token)
            return client;
    return NULL;
}

void mon_control_started(struct mon_control *control, uint32_t token, int guest_pid)
{
    if (token) {
        struct client *client = find_token(control, token);
        if (client)
            control_tell(client, CONTROL_STARTED, guest_pid, NULL, 0);
        return;
    }
    if (control->has_console)
        console_given(&control->console);
    if (control->policy->ready_descriptor > 0) {
        char name[CONTROL_READY_SIZE] = {0};
        snprintf(name, sizeof(name), "%s", control->policy->name);
        /* Nobody may be there to read it. */
        (void)!write(control->policy->ready_descriptor, name, sizeof(name));
    }
}

void mon_control_ended(struct mon_control *control, uint32_t token, int status)
{
    if (token == 0) {
        control->main_ended = true;
        control->main_status = status;
        return;
    }
    struct client *client = find_token(control, token);
    if (!client)
        return;
    client->token = 0;
    control_tell_last(client, CONTROL_ENDED, status, NULL, 0);
}

void mon_control_failed(struct mon_control *control, uint32_t token, int code, const char *text)
{
    if (token == 0)
        return;
    struct client *client = find_token(control, token);
    if (!client)
        return;
    client->token = 0;
    struct error error = {0};
    mon_policy_explain_program(control->policy, client->program, text, code, &error);
    control_tell_last(client, CONTROL_ERROR, code, error.message, strlen(error.message));
}

/* Too many unread lines are lost and counted. */
static void tell_lines(struct client *client, const char *text, size_t size)
{
    if (client->queued > QUEUE_LIMIT) {
        client->lost_lines++;
        return;
    }
    if (client->lost_lines) {
        char notice[64];
        int length =
            snprintf(notice, sizeof(notice), "... %u lines lost ...\n", client->lost_lines);
        client->lost_lines = 0;
        if (!control_tell(client, CONTROL_LINES, 0, notice, (size_t)length))
            return;
    }
    control_tell(client, CONTROL_LINES, 0, text, size);
}

/* A copy of what the sandbox wrote, with nothing in it that a terminal obeys, ended by a newline.
 */
static char *printable_lines(const char *text, size_t size, size_t *out_size)
{
    char *lines = memory_new(size + 2), *end = lines + size;
    memcpy(lines, text, size);
    for (char *line = lines, *stop; line < end; line = stop + 1) {
        stop = memchr(line, '\n', (size_t)(end - line));
        stop = stop ? stop : end;
        text_make_printable(line, (size_t)(stop - line));
    }
    if (size && end[-1] != '\n')
        *end++ = '\n';
    *out_size = (size_t)(end - lines);
    return lines;
}

void mon_control_listing(struct mon_control *control, const char *text, size_t size, bool last)
{
    bool more = false;
    cleanup_free char *lines = printable_lines(text, size, &size);
    for (struct client *client = control->clients, *next; client; client = next) {
        next = client->next;
        if (!client->wants_list)
            continue;
        client->listed += size;
        if (client->listed > LIST_LIMIT) {
            static const char text[] = "the sandbox lists processes without end";
            client->wants_list = false;
            control_tell_last(client, CONTROL_ERROR, -E2BIG, text, sizeof(text) - 1);
            continue;
        }
        if (size && !control_tell(client, CONTROL_LINES, 0, lines, size))
            continue;
        if (last)
            control_tell_last(client, CONTROL_DONE, 0, NULL, 0);
        more |= !last;
    }
    control->listing = more;
}

bool mon_control_traced(const struct mon_control *control)
{
    for (const struct client *client = control->clients; client; client = client->next)
        if (client->trace_flags)
            return true;
    return false;
}

void mon_control_trace_line(struct mon_control *control, const char *text, size_t size)
{
    cleanup_free char *lines = printable_lines(text, size, &size);
    for (struct client *client = control->clients, *next; client; client = next) {
        next = client->next;
        if (client->trace_flags)
            tell_lines(client, lines, size);
    }
}

void mon_control_log(struct mon_control *control, const char *line, size_t size)
{
    if (control)
        console_log_write(&control->log, line, size);
}

static void console_output(void *context, int stream, const char *data, size_t size)
{
    struct mon_control *control = context;
    if (control->policy->terminal)
        screen_follow(&control->screen, data, size);
    for (struct client *client = control->clients, *next; client; client = next) {
        next = client->next;
        if (client->attached)
            control_tell(client, CONTROL_OUTPUT, stream, data, size);
    }
    control_update_hold(control);
}

/* ---- Requests ---- */

/* The next NUL-terminated string of a payload, or NULL when it does not end there. */
static const char *next_string(const char **place, const char *end)
{
    const char *text = *place, *stop = memchr(text, '\0', (size_t)(end - text));
    if (!stop)
        return NULL;
    *place = stop + 1;
    return text;
}

static bool decode_strings(struct text_list *list, uint32_t count, const char **place,
                           const char *end)
{
    for (uint32_t i = 0; i < count; i++) {
        const char *text = next_string(place, end);
        if (!text)
            return false;
        text_list_add(list, text);
    }
    return true;
}

void control_close_all(int descriptors[3])
{
    for (int i = 0; i < 3; i++)
        if (descriptors[i] >= 0)
            close(descriptors[i]);
}

/* A further program has the first one's environment, but for what its caller says. */
static void add_environment(struct text_list *environment, const struct text_list *first)
{
    for (size_t i = 0; i < first->count; i++) {
        const char *entry = first->items[i], *equals = strchr(entry, '=');
        cleanup_free char *name =
            text_copy_size(entry, equals ? (size_t)(equals - entry) : strlen(entry));
        if (!text_list_variable(environment, name))
            text_list_add(environment, entry);
    }
}

static void serve_execute(struct client *client, const struct control_message *message,
                          const char *payload, int descriptors[3])
{
    struct mon_control *control = client->control;
    struct control_execute head;
    struct mon_execute request = {
        .standard = {-1, -1, -1}, .rows = message->rows, .columns = message->columns};
    const char *end = payload + message->size, *place = payload + sizeof(head);
    bool valid = message->size > sizeof(head) && !client->token;
    if (valid) {
        memcpy(&head, payload, sizeof(head));
        int next = 0;
        for (int i = 0; i < 3; i++)
            if (head.standard & 1u << i)
                request.standard[i] = descriptors[next++];
        for (; next < 3; next++)
            valid &= descriptors[next] < 0;
        for (int i = 0; i < 3; i++)
            valid &= !(head.standard & 1u << i) || request.standard[i] >= 0;
        request.program = next_string(&place, end);
        request.directory = request.program ? next_string(&place, end) : NULL;
        valid &= request.directory &&
                 decode_strings(&request.arguments, head.argument_count, &place, end) &&
                 decode_strings(&request.environment, head.environment_count, &place, end) &&
                 request.arguments.count > 0;
    }
    if (!valid) {
        control_close_all(descriptors);
        control_tell_error(client, -EPROTO, "malformed request");
    } else {
        struct error error = {0};
        add_environment(&request.environment, &control->policy->environment);
        request.user = head.user;
        request.group = head.group;
        request.terminal = head.terminal;
        if (++control->last_token == 0)
            control->last_token = 1;
        client->token = control->last_token;
        client->program = text_copy(request.program);
        int result =
            control->operations->execute(control->context, client->token, &request, &error);
        if (result < 0) {
            client->token = 0;
            control_tell_last(client, CONTROL_ERROR, result, error.message, strlen(error.message));
        }
    }
    text_list_free(&request.arguments);
    text_list_free(&request.environment);
}

static void serve_attach(struct client *client, const struct control_message *message)
{
    struct mon_control *control = client->control;
    if (!control->has_console) {
        control_tell_error(
            client, -EINVAL,
            "its program uses the streams it was started with; only a sandbox started "
            "with -d can be attached to");
        return;
    }
    client->awaits_end = client->attached = true;
    client->gives_input = message->value && control->console.input.descriptor >= 0;
    bool draws = screen_is_full(&control->screen);
    if (message->rows)
        (draws ? control->operations->draw_again(control->context, message->rows, message->columns)
               : control->operations->window_size(control->context, 0, message->rows,
                                                  message->columns));
    char text[SCREEN_TEXT_MAX];
    size_t size = screen_enter(control->screen.modes, text);
    if (control_tell(client, CONTROL_STARTED, control->policy->terminal, NULL, 0) && size)
        control_tell(client, CONTROL_OUTPUT, 1, text, size);
}

static void describe(struct mon_control *control, struct text *out)
{
    const struct mon_policy *policy = control->policy;
    struct json json = json_to(out);
    json_object(&json);
    json_key_string(&json, "name", policy->name);
    json_key_number(&json, "pid", getpid());
    json_key(&json, "policy");
    json_raw(&json);
    mon_policy_write_json(policy, out);
    if (control->operations->inspect) {
        json_key(&json, "monitor");
        json_raw(&json);
        control->operations->inspect(control->context, out);
    }
    json_object_end(&json);
    text_add_character(out, '\n');
}

static void serve(struct client *client, const struct control_message *message, const char *payload,
                  int descriptors[3])
{
    struct mon_control *control = client->control;
    const struct mon_control_operations *operations = control->operations;
    if (message->kind != CONTROL_EXECUTE && message->kind != CONTROL_SUSPEND &&
        message->kind != CONTROL_MOVE)
        control_close_all(descriptors);
    switch (message->kind) {
    case CONTROL_EXECUTE:
        serve_execute(client, message, payload, descriptors);
        return;
    case CONTROL_ATTACH:
        serve_attach(client, message);
        return;
    case CONTROL_STOP:
        operations->stop(control->context, message->value < 0 ? 0 : (uint32_t)message->value);
        client->awaits_end = true;
        return;
    case CONTROL_WAIT:
        client->awaits_end = true;
        return;
    case CONTROL_SIGNAL:
        if (message->value < 1 || message->value > 64) {
            control_tell_error(client, -EINVAL, "no such signal");
            return;
        }
        operations->signal(control->context, client->token, message->value);
        if (!client->token)
            control_tell(client, CONTROL_DONE, 0, NULL, 0);
        return;
    case CONTROL_WINDOW_SIZE:
        operations->window_size(control->context, client->token, message->rows, message->columns);
        return;
    case CONTROL_TRACE:
        /* The host layer chooses its table of calls once, when it starts. */
        if ((message->value & BLY_START_TRACE_ABI) && !control->policy->trace_abi) {
            control_tell_error(
                client, -EINVAL,
                "calls of the ABI can be traced only in a sandbox started with --trace=abi");
            return;
        }
        client->trace_flags =
            (uint32_t)message->value & (BLY_START_TRACE_SYSCALLS | BLY_START_TRACE_ABI);
        client->awaits_end = true;
        update_trace(control);
        return;
    case CONTROL_LIST:
        client->wants_list = true;
        client->listed = 0;
        if (!control->listing) {
            control->listing = true;
            operations->list(control->context);
        }
        return;
    case CONTROL_INSPECT: {
        cleanup_text struct text description = {0};
        describe(control, &description);
        for (size_t sent = 0; sent < description.size; sent += 32768) {
            size_t size = description.size - sent < 32768 ? description.size - sent : 32768;
            if (!control_tell(client, CONTROL_LINES, 0, description.data + sent, size))
                return;
        }
        control_tell_last(client, CONTROL_DONE, 0, NULL, 0);
        return;
    }
    case CONTROL_MOVE:
        control_serve_move(client, message, payload, descriptors);
        return;
    case CONTROL_MOVE_ORDER:
        control_serve_move_order(client, message->value);
        return;
    case CONTROL_SUSPEND:
        control_serve_suspend(client, message, payload, descriptors);
        return;
    case CONTROL_INPUT:
        if (!client->gives_input)
            return;
        if (message->size)
            console_input(&control->console, payload, message->size);
        else
            console_end_input(&control->console);
        control_update_hold(control);
        return;
    default:
        control_tell_error(client, -ENOSYS,
                           "this sandbox was started by another version of bailey");
    }
}

void control_serve_client(struct mon_watch *watch, uint32_t events)
{
    struct client *client = watch->context;
    struct mon_control *control = client->control;
    if (events & EPOLLOUT) {
        if (!flush_client(client))
            return;
        control_update_hold(control);
    }
    if (events & EPOLLIN) {
        struct control_message message;
        int descriptors[3];
        int result = control_receive(watch->descriptor, &message, control->payload, descriptors);
        if (result == -EAGAIN)
            return;
        if (result <= 0)
            remove_client(client);
        else
            serve(client, &message, control->payload, descriptors);
    } else if (events & (EPOLLHUP | EPOLLERR)) {
        remove_client(client);
    }
}

static void listener_ready(struct mon_watch *watch, uint32_t events)
{
    struct mon_control *control = watch->context;
    cleanup_close int peer = accept4(watch->descriptor, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (peer < 0 || control->client_count == CLIENT_MAX || !control_peer_is_trusted(peer))
        return;
    if (!control->payload)
        control->payload = memory_new(CONTROL_PAYLOAD_MAX);
    struct client *client = memory_new(sizeof(*client));
    client->control = control;
    client->last = &client->first;
    client->watch = (struct mon_watch){
        .descriptor = peer, .events = EPOLLIN, .function = control_serve_client, .context = client};
    if (mon_watch_add(control->loop, &client->watch) < 0) {
        free(client);
        return;
    }
    take_descriptor(&peer);
    client->next = control->clients;
    control->clients = client;
    control->client_count++;
}

void mon_control_begin_generation(struct mon_control *control, uint32_t generation)
{
    control->last_token = generation << 20;
}

struct screen *mon_control_screen(struct mon_control *control)
{
    return &control->screen;
}

/* ---- Opening and closing ---- */

static int listen_in(struct mon_control *control, const char *folder, struct error *error)
{
    control->log.folder = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (control->log.folder < 0)
        return error_set_errno(error, -errno, "cannot open %s", folder);
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener < 0)
        return error_set_errno(error, -errno, "cannot make the control socket");
    control->listener = (struct mon_watch){
        .descriptor = listener, .events = EPOLLIN, .function = listener_ready, .context = control};
    /* By descriptor: a folder's path may be longer than a socket address can be. */
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/" CONTROL_SOCKET,
             control->log.folder);
    if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(listener, 16) < 0)
        return error_set_errno(error, -errno, "cannot make the control socket in %s", folder);
    int result = mon_watch_add(control->loop, &control->listener);
    return result < 0 ? error_set_errno(error, result, "cannot wait for the control socket") : 0;
}

int mon_control_open(struct mon_control **out_control, struct mon_loop *loop,
                     const struct mon_policy *policy,
                     const struct mon_control_operations *operations, void *context,
                     int standard[3], struct error *error)
{
    struct mon_control *control = memory_new(sizeof(*control));
    *control = (struct mon_control){.loop = loop,
                                    .policy = policy,
                                    .operations = operations,
                                    .context = context,
                                    .log = {-1, -1, 0},
                                    .listener.descriptor = -1};
    int result = policy->state_path ? listen_in(control, policy->state_path, error) : 0;
    if (result == 0 && policy->detach) {
        control->has_console = true;
        control->console.on_output = console_output;
        control->console.context = control;
        result = console_open(&control->console, loop, &control->log,
                              policy->interactive || policy->terminal, policy->terminal, standard,
                              error);
    }
    if (result < 0) {
        mon_control_close(control, 0, NULL);
        return result;
    }
    *out_control = control;
    return 0;
}

/* Waits a moment for clients that are still reading. */
static void flush_all(struct mon_control *control)
{
    uint64_t deadline = mon_now_ns() + LAST_WORDS_MS * 1000000ull;
    while (control->clients) {
        for (struct client *client = control->clients, *next; client; client = next) {
            next = client->next;
            client->closing = true;
            flush_client(client);
        }
        uint64_t now = mon_now_ns();
        if (!control->clients || now >= deadline)
            return;
        struct pollfd waits[CLIENT_MAX];
        unsigned count = 0;
        for (struct client *client = control->clients; client; client = client->next)
            waits[count++] = (struct pollfd){.fd = client->watch.descriptor, .events = POLLOUT};
        poll(waits, count, (int)((deadline - now) / 1000000) + 1);
    }
}

void mon_control_close(struct mon_control *control, int status, const char *became)
{
    if (!control)
        return;
    if (control->has_console)
        console_close(&control->console);
    control->has_console = false;
    for (struct client *client = control->clients, *next; client; client = next) {
        next = client->next;
        client->trace_flags = 0;
        client->token = 0;
        if (became) /* there is no exit status, and what was waited for may end yet */
            control_tell_last(client, CONTROL_ERROR, -ECANCELED, became, strlen(became));
        else if (client->awaits_end)
            control_tell_last(client, CONTROL_ENDED,
                              control->main_ended ? control->main_status : status, NULL, 0);
        else
            control_tell_last(client, CONTROL_ERROR, -ESRCH, "the sandbox has ended", 21);
    }
    flush_all(control);
    while (control->clients)
        remove_client(control->clients);
    if (control->listener.descriptor >= 0) {
        mon_watch_remove(control->loop, &control->listener);
        close(control->listener.descriptor);
        unlinkat(control->log.folder, CONTROL_SOCKET, 0);
    }
    if (control->log.descriptor >= 0)
        close(control->log.descriptor);
    if (control->log.folder >= 0)
        close(control->log.folder);
    free(control->payload);
    free(control);
}
