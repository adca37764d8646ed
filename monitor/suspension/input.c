/* What was typed, or sent, for a program that has not read it yet: it lies in the program's pipe, in the relay before it and with a detached
 * program in its console. The thread that writes the image asks for it when the sandbox is quiet; the main thread, whose books these
 * are, collects it and from then on takes nothing more from outside. So no byte is lost, and none is twice in the world: what the
 * image holds is taken out of the pipe, which may be the user's own, once the image is there. */
#include "monitor/suspension/suspension.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

int mon_suspension_write_input(struct mon_suspension *suspension, struct img_writer *writer, struct error *error)
{
    pthread_mutex_lock(&suspension->lock);
    suspension->wants_input = true;
    mon_suspension_tell_main_thread(suspension);
    while (!suspension->has_input && !suspension->ending && !suspension->cancelled)
        pthread_cond_wait(&suspension->changed, &suspension->lock);
    int result = suspension->has_input ? 0 : mon_suspension_refuse(suspension, error);
    pthread_mutex_unlock(&suspension->lock);
    if (result < 0)
        return result;
    const struct text *input = &suspension->input;
    size_t size = input->size - sizeof(struct mon_image_input);
    if (size > MON_IMAGE_INPUT_MAX)
        return error_set(error, -E2BIG, "its programs have not read %zu bytes of input, more than an image carries", size);
    static const struct mon_image_input nothing;
    bool is_needed = size || memcmp(input->data, &nothing, sizeof(nothing)) != 0;
    return is_needed ? img_writer_record(writer, MON_IMAGE_INPUT, 0, input->data, input->size, error) : 0;
}

/* Reads what there is and leaves it there. *out_ended: nobody can write more. */
static int copy_pipe(int pipe, struct text *out, bool *out_ended)
{
    char data[16384];
    int there = 0, ends[2];
    struct pollfd look = {.fd = pipe, .events = POLLIN};
    if (poll(&look, 1, 0) < 0 || ioctl(pipe, FIONREAD, &there) < 0)
        return -errno;
    *out_ended = look.revents & POLLHUP;
    if (there == 0)
        return 0;
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    cleanup_close int from = ends[0], to = ends[1];
    (void)fcntl(to, F_SETPIPE_SZ, fcntl(pipe, F_GETPIPE_SZ)); /* else it may hold less: seen below */
    ssize_t size = tee(pipe, to, (size_t)there, SPLICE_F_NONBLOCK);
    if (size != there)
        return size < 0 ? -errno : -ENOBUFS;
    while ((size = read(from, data, sizeof(data))) > 0)
        text_add_size(out, data, (size_t)size);
    return 0;
}

static bool is_pipe(int descriptor)
{
    struct stat status;
    return descriptor >= 0 && fstat(descriptor, &status) == 0 && S_ISFIFO(status.st_mode);
}

static int collect(struct mon_suspension *suspension)
{
    struct mon_sandbox *sandbox = suspension->sandbox;
    struct mon_image_input head = {0};
    struct text *input = &suspension->input;
    cleanup_text struct text typed = {0};
    /* First, since who is attached may have sent what ends the suspension. */
    bool ended = mon_control_stop_input(sandbox->control, &typed);
    mon_stdio_hold_input(&sandbox->stdio, true);
    const struct mon_relay *relay = &sandbox->stdio.relays[0];
    bool hung_up = false;
    text_add_size(input, &head, sizeof(head));
    int result = is_pipe(sandbox->stdio.input) ? copy_pipe(sandbox->stdio.input, input, &hung_up) : 0;
    suspension->input_in_pipe = input->size - sizeof(head);
    if (relay->active)
        text_add_size(input, relay->buffer + relay->start, relay->end - relay->start);
    text_add_size(input, typed.data, typed.size);
    head.modes = sandbox->policy->detach ? mon_control_screen(sandbox->control)->modes : sandbox->stdio.screen.modes;
    head.ended = ended || hung_up || (relay->active && relay->from_ended);
    memcpy(input->data, &head, sizeof(head));
    return result;
}

void mon_input_collect(struct mon_suspension *suspension)
{
    pthread_mutex_lock(&suspension->lock);
    bool wanted = suspension->wants_input && !suspension->has_input;
    pthread_mutex_unlock(&suspension->lock);
    if (!wanted)
        return;
    int result = collect(suspension);
    if (result < 0)
        mon_suspend_cancel(suspension->sandbox, "no pipe could be made for its input");
    pthread_mutex_lock(&suspension->lock);
    suspension->has_input = result == 0;
    pthread_cond_signal(&suspension->changed);
    pthread_mutex_unlock(&suspension->lock);
}

void mon_input_discard(const struct mon_suspension *suspension)
{
    char data[16384];
    int pipe = suspension->sandbox->stdio.input;
    struct pollfd readable = {.fd = pipe, .events = POLLIN};
    for (size_t left = suspension->input_in_pipe; left && poll(&readable, 1, 0) == 1;) {
        ssize_t size = read(pipe, data, left < sizeof(data) ? left : sizeof(data));
        if (size <= 0)
            return;
        left -= (size_t)size;
    }
}

void mon_input_let_go(struct mon_suspension *suspension)
{
    struct mon_sandbox *sandbox = suspension->sandbox;
    if (!suspension->holds)
        return;
    pthread_mutex_lock(&suspension->lock);
    suspension->wants_input = suspension->has_input = false;
    pthread_mutex_unlock(&suspension->lock);
    mon_stdio_hold_input(&sandbox->stdio, false);
    mon_control_pause_input(sandbox->control, false);
}
