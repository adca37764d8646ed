/* The terminal of the user: bytes of the host's terminal go through a line discipline of ours, so that programs find a real
 * terminal inside, and Ctrl-C ends what it should.
 *
 * The pump, a thread of init, is the only reader of terminal_input. Output is written by whoever makes it (tty_drain); only what the host does
 * not take at once is left to the pump. */
#include "personality/linux/init.h"
#include "personality/linux/tty/internal.h"

enum { PUMP_CHUNK = 1024 };

int lx_tty_init(void)
{
    lx_kernel->tty = heap_alloc(sizeof(struct tty_roots));
    return lx_kernel->tty ? 0 : -ENOMEM;
}

struct tty *lx_tty_create(uint32_t terminal, bly_handle input, bly_handle output, uint16_t rows, uint16_t columns)
{
    struct tty *tty = tty_create(/*pseudo=*/false);

    if (!tty)
        return NULL;
    tty->terminal = terminal;
    tty->host_input = input;
    tty->host_output = output;
    tty->window.rows = rows;
    tty->window.columns = columns;
    return tty;
}

void lx_tty_window_size(uint32_t terminal, uint16_t rows, uint16_t columns)
{
    struct tty_winsize size = { rows, columns, 0, 0 };

    for (uint32_t number = 0; number < TTY_MAXIMUM; number++) {
        struct tty *tty = tty_get(number);
        if (tty && !tty->pseudo && tty->terminal == terminal)
            tty_window_set(tty, &size);
        tty_unref(tty);
    }
}

/* Waits until the host has input for us (while there is room for it) or takes output again. */
static void pump_wait(struct tty *tty)
{
    struct poll_sleeper *sleeper = poll_sleeper_create();
    uint32_t ticket = thread_ticket();

    if (!sleeper)
        return; /* out of memory: look again at once; somebody must end soon */
    poll_sleeper_add_queue(sleeper, &tty->master_readable, 0, false);
    poll_sleeper_add_queue(sleeper, &tty->master_writable, 0, false);
    lock_acquire(&tty->lock);
    bool room = !tty->input_ended && tty_input_room(tty) > 0, backlog = tty->backlog && !tty->stopped;
    lock_release(&tty->lock);
    if (room)
        poll_sleeper_add_stream(sleeper, tty->host_input, BLY_WAIT_READ);
    if (backlog)
        poll_sleeper_add_stream(sleeper, tty->host_output, BLY_WAIT_WRITE);
    (void)poll_sleeper_sleep(sleeper, ticket, BLY_FOREVER); /* whatever ended it, the pump looks at everything again */
    poll_sleeper_free(sleeper);
}

/* False when the host's stream is gone. Its end is only that of a pipe or a file: a terminal that hangs up is the monitor's to tell. */
static bool pump_input(struct tty *tty)
{
    char chunk[PUMP_CHUNK];

    lock_acquire(&tty->lock);
    uint32_t room = tty->input_ended ? 0 : tty_input_room(tty);
    lock_release(&tty->lock);
    if (room == 0)
        return true;
    struct bly_iovec vector = { chunk, room < sizeof chunk ? room : sizeof chunk };
    int64_t size = bly->stream_read(tty->host_input, &vector, 1, BLY_AT_CURRENT, BLY_STREAM_NO_WAIT);
    if (size == -EAGAIN || size == -EINTR)
        return true;
    if (size == 0 || tty->host_input == BLY_NO_HANDLE)
        tty_end_input(tty);
    else if (size < 0)
        return false;
    for (uint32_t taken = 0; taken < size;) {
        tty_lock(tty);
        taken += tty_receive(tty, chunk + taken, (uint32_t)size - taken);
        tty_unlock(tty);
        if (taken < size)
            pump_wait(tty);
    }
    return true;
}

/* No input to come, no output left, and nobody who could make some: the terminal of a program of `bailey exec`, when that has ended. */
static bool is_finished(struct tty *tty)
{
    if (tty == tty_roots()->main)
        return false;
    scoped_lock(&tty->lock);
    return tty->input_ended && tty->was_open && tty->opens == 0 && !tty->backlog;
}

_Noreturn void lx_tty_pump(void *argument)
{
    struct tty *tty = argument;

    if (!tty && tty_roots()->main)
        tty = tty_ref(tty_roots()->main);
    while (tty && pump_input(tty)) {
        tty_drain(tty);
        if (is_finished(tty))
            break;
        thread_current()->work_pending = 0; /* init's own work is done by its other threads */
        pump_wait(tty);
    }
    if (tty) {
        tty_hang_up(tty);
        tty_unref(tty);
    }
    init_end_thread();
}
