/* What clients of the control socket ask for that suspends or moves the sandbox, what they are told
 * of it, and what becomes of the input that those who are attached send meanwhile. */
#include "monitor/control-client.h"

#include <base/cleanup.h>
#include <errno.h>
#include <poll.h>
#include <string.h>

#define SENT_LATE_MAX 64 /* messages of who was asked to send no input */

/* ---- Requests ---- */

static struct client *find_suspender(struct mon_control *control)
{
    struct client *client = control->clients;
    while (client && !client->suspends)
        client = client->next;
    return client;
}

void control_serve_suspend(struct client *client, const struct control_message *message,
                           const char *payload, int descriptors[3])
{
    struct mon_control *control = client->control;
    struct error error = {0};
    cleanup_close int base = take_descriptor(&descriptors[0]);
    control_close_all(descriptors);
    cleanup_free char *path = text_copy_size(payload, message->size);
    const size_t length = strlen(path);
    const char *base_path = length < message->size ? path + length + 1 : NULL;
    if (path[0] != '/' || message->value & ~SUSPEND_FLAGS || (base >= 0) != (base_path != NULL) ||
        (base_path && (base_path[0] != '/' || length + 1 + strlen(base_path) != message->size))) {
        control_tell_error(client, -EPROTO, "malformed request");
        return;
    }
    int result = control->operations->suspend(control->context, path, (uint32_t)message->value,
                                              base_path, take_descriptor(&base), &error);
    if (result < 0)
        control_tell_last(client, CONTROL_ERROR, result, error.message, strlen(error.message));
    else
        client->suspends = true;
}

void control_serve_move(struct client *client, const struct control_message *message,
                        const char *payload, int descriptors[3])
{
    struct mon_control *control = client->control;
    struct error error = {0};
    int peer = take_descriptor(&descriptors[0]);
    control_close_all(descriptors);
    if (peer < 0 || client->suspends || !message->size || memchr(payload, '\0', message->size) ||
        message->value & ~(SUSPEND_SELF_CONTAINED | SUSPEND_HASH_FILES | SUSPEND_LAZILY)) {
        cleanup_close_descriptor(&peer);
        control_tell_error(client, -EPROTO, "malformed request");
        return;
    }
    cleanup_free char *where = text_copy_size(payload, message->size);
    text_make_printable(where, strlen(where));
    int result =
        control->operations->move(control->context, peer, where, (uint32_t)message->value, &error);
    if (result < 0)
        control_tell_last(client, CONTROL_ERROR, result, error.message, strlen(error.message));
    else
        client->suspends = true;
}

void control_serve_move_order(struct client *client, int32_t order)
{
    struct mon_control *control = client->control;
    struct error error = {0};
    int result = -EBUSY;
    if (!client->suspends && (order < MOVE_STAY || find_suspender(control)))
        error_set(&error, result, "whoever moves it is still at work");
    else
        result = control->operations->move_order(control->context, (enum control_move_order)order,
                                                 &error);
    if (result < 0)
        control_tell_error(client, result, error.message);
    else if (!client->suspends)
        control_tell(client, CONTROL_DONE, 0, NULL, 0);
}

/* ---- How far it is ---- */

void mon_control_progress(struct mon_control *control, uint64_t done, uint64_t expected)
{
    struct client *client = find_suspender(control);
    struct control_progress progress = {done, expected};
    if (client && !client->queued)
        control_tell(client, CONTROL_PROGRESS, 0, &progress, sizeof(progress));
}

void mon_control_moving(struct mon_control *control, enum control_move_state state,
                        const char *obstacles)
{
    struct client *client = find_suspender(control);
    if (client)
        control_tell(client, CONTROL_MOVING, (int32_t)state, obstacles,
                     obstacles ? strlen(obstacles) : 0);
}

void mon_control_suspended(struct mon_control *control, int code, const char *text,
                           const struct control_suspended *report)
{
    struct client *client = find_suspender(control);
    if (!client)
        return;
    client->suspends = false;
    if (code < 0)
        control_tell_last(client, CONTROL_ERROR, code, text, strlen(text));
    else
        control_tell_last(client, CONTROL_DONE, 0, report, sizeof(*report));
}

/* ---- Input ---- */

void mon_control_pause_input(struct mon_control *control, bool paused)
{
    if (!control->has_console)
        return;
    for (struct client *client = control->clients, *next; client; client = next) {
        next = client->next;
        if (client->gives_input)
            control_tell(client, CONTROL_PAUSE, paused, NULL, 0);
    }
    if (!paused)
        console_hold_input(&control->console, false);
    control_update_hold(control);
}

static struct client *find_sender(struct mon_control *control)
{
    for (struct client *client = control->clients; client; client = client->next) {
        struct pollfd wait = {.fd = client->watch.descriptor, .events = POLLIN};
        if (client->gives_input && !client->closing && poll(&wait, 1, 0) == 1)
            return client;
    }
    return NULL;
}

bool mon_control_stop_input(struct mon_control *control, struct text *out)
{
    struct client *sender;
    if (!control->has_console)
        return false;
    /* What they sent before they were asked not to. */
    for (unsigned i = 0; i < SENT_LATE_MAX && (sender = find_sender(control)); i++)
        control_serve_client(&sender->watch, EPOLLIN);
    console_hold_input(&control->console, true);
    text_add_size(out, control->console.waiting.data, control->console.waiting.size);
    control_update_hold(control);
    return control->console.input_ended;
}

bool mon_control_give_input(struct mon_control *control, const void *data, size_t size, bool ended)
{
    if (!control->has_console || control->console.input.descriptor < 0)
        return false;
    console_input(&control->console, data, size);
    if (ended)
        console_end_input(&control->console);
    return true;
}
