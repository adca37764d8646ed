/* Terminal output: OPOST, the ring, and its way to the host's terminal.
 *
 * Whoever put something into the ring of a host terminal also writes it out (tty_drain), one at a time, without waiting; what the
 * host does not take is left to the pump, which waits for it. The invariant: a ring that is not empty and not stopped has a
 * drainer at work or `backlog` set and the pump told. */
#include "personality/linux/tty/internal.h"

enum { TAB_WIDTH = 8, WRITE_CHUNK = 512, WORST_EXPANSION = TAB_WIDTH };

static bool is_continuation(const struct tty *tty, char byte)
{
    return (tty->termios.c_iflag & IUTF8) && ((unsigned char)byte & 0xc0) == 0x80;
}

static bool is_control(char byte)
{
    return (unsigned char)byte < 32 || byte == 127;
}

void tty_put_raw(struct tty *tty, char byte)
{
    if (tty_output_room(tty))
        tty->output[tty->output_tail++ & (TTY_OUTPUT_SIZE - 1)] = byte;
}

void tty_put_processed(struct tty *tty, char byte)
{
    uint32_t modes = tty->termios.c_oflag;

    if (!(modes & OPOST)) {
        tty_put_raw(tty, byte);
        return;
    }
    switch (byte) {
    case '\n':
        if (modes & ONLRET)
            tty->column = 0;
        if (modes & ONLCR) {
            tty->column = tty->canon_column = 0;
            tty_put_raw(tty, '\r');
        } else {
            tty->canon_column = tty->column;
        }
        break;
    case '\r':
        if ((modes & ONOCR) && tty->column == 0)
            return;
        if (modes & OCRNL) {
            byte = '\n';
            if (!(modes & ONLRET))
                break;
        }
        tty->column = tty->canon_column = 0;
        break;
    case '\t': {
        uint32_t spaces = TAB_WIDTH - tty->column % TAB_WIDTH;
        tty->column += spaces;
        if ((modes & TABDLY) == XTABS) {
            while (spaces--)
                tty_put_raw(tty, ' ');
            return;
        }
        break;
    }
    case '\b':
        if (tty->column)
            tty->column--;
        break;
    default:
        if (is_control(byte))
            break;
        if ((modes & OLCUC) && byte >= 'a' && byte <= 'z')
            byte = (char)(byte - 'a' + 'A');
        if (!is_continuation(tty, byte))
            tty->column++;
    }
    tty_put_raw(tty, byte);
}

uint32_t tty_put(struct tty *tty, const char *bytes, uint32_t count, uint32_t reserve)
{
    uint32_t taken = 0;

    while (taken < count && tty_output_room(tty) >= reserve + WORST_EXPANSION)
        tty_put_processed(tty, bytes[taken++]);
    if (taken)
        wait_queue_wake(&tty->master_readable, POLLIN | POLLRDNORM, 1);
    return taken;
}

void tty_flush_output(struct tty *tty)
{
    if (!tty->draining)
        tty->output_head = tty->output_tail;
    if (tty->packet)
        tty->packet_status |= TIOCPKT_FLUSHWRITE;
    wait_queue_wake(&tty->writable, POLLOUT | POLLWRNORM, 1 << 30);
    wait_queue_wake(&tty->master_readable, POLLIN | POLLPRI, 1 << 30);
}

void tty_stop(struct tty *tty)
{
    if (tty->stopped)
        return;
    tty->stopped = true;
    if (tty->packet) {
        tty->packet_status = (uint8_t)((tty->packet_status & ~TIOCPKT_START) | TIOCPKT_STOP);
        wait_queue_wake(&tty->master_readable, POLLIN | POLLPRI, 1 << 30);
    }
}

void tty_start(struct tty *tty)
{
    if (!tty->stopped)
        return;
    tty->stopped = false;
    if (tty->packet)
        tty->packet_status = (uint8_t)((tty->packet_status & ~TIOCPKT_STOP) | TIOCPKT_START);
    wait_queue_wake(&tty->writable, POLLOUT | POLLWRNORM, 1 << 30);
    wait_queue_wake(&tty->master_readable, POLLIN | POLLPRI, 1 << 30);
}

void tty_drain(struct tty *tty)
{
    lock_acquire(&tty->lock);
    while (!tty->draining && !tty->stopped && tty_output_used(tty)) {
        uint32_t at = tty->output_head & (TTY_OUTPUT_SIZE - 1), size = tty_output_used(tty);
        if (size > TTY_OUTPUT_SIZE - at)
            size = TTY_OUTPUT_SIZE - at;
        struct bly_iovec vector = { tty->output + at, size };
        tty->draining = true;
        lock_release(&tty->lock);
        int64_t written = bly->stream_write(tty->host_output, &vector, 1, BLY_AT_CURRENT, BLY_STREAM_NO_WAIT);
        lock_acquire(&tty->lock);
        tty->draining = false;
        tty->backlog = written == -EAGAIN || written == -EINTR;
        if (tty->backlog) {
            wait_queue_wake(&tty->master_readable, POLLIN, 1 << 30);
            break;
        }
        tty->output_head += written > 0 ? (uint32_t)written : size; /* nobody is there to read it: it is gone */
        wait_queue_wake(&tty->writable, POLLOUT | POLLWRNORM, 1 << 30);
    }
    lock_release(&tty->lock);
}

static bool can_write(const struct tty *tty)
{
    return tty->hung_up || (!tty->stopped && tty_output_room(tty) >= TTY_ECHO_RESERVE + WRITE_CHUNK);
}

/* Puts all of `bytes` into the ring, waiting for room. How many were taken, or why none were. */
static int64_t write_chunk(struct open_file *file, struct tty *tty, const char *bytes, uint32_t count)
{
    uint32_t taken = 0;
    int result = 0;

    tty_lock(tty);
    while (taken < count && result == 0) {
        if (tty->hung_up) {
            result = -EIO;
        } else if (can_write(tty)) {
            taken += tty_put(tty, bytes + taken, count - taken, TTY_ECHO_RESERVE);
        } else if (file->flags & O_NONBLOCK) {
            result = -EAGAIN; /* a host terminal is as slow as its pump: it was drained when the last chunk was put in */
        } else {
            tty_unlock(tty); /* the host's terminal is written to here */
            tty_lock(tty);
            wait_until(&tty->writable, &tty->lock, can_write(tty), BLY_FOREVER, result);
        }
    }
    tty_unlock(tty);
    if (taken)
        return taken;
    return result == -EINTR ? -ERESTARTSYS : result;
}

int64_t tty_write(struct open_file *file, struct io_buffer *from, int64_t *position)
{
    struct tty *tty = file->object;
    char chunk[WRITE_CHUNK];
    int64_t total = 0;

    if (tty->hung_up)
        return -EIO;
    if (tty->termios.c_lflag & TOSTOP) {
        int result = tty_check_foreground(tty, SIGTTOU);
        if (result < 0)
            return result;
    }
    while (from->size) {
        int64_t count = io_copy_in(from, chunk, from->size < sizeof chunk ? from->size : sizeof chunk);
        int64_t taken = count > 0 ? write_chunk(file, tty, chunk, (uint32_t)count) : count;
        if (taken > 0)
            total += taken;
        if (taken <= 0)
            return total ? total : taken;
        if (taken < count)
            break;
    }
    return total;
}
