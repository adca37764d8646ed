/* The master side of pseudo terminals: what it writes is typed at the terminal, what it reads is what programs wrote there (pty(7)). */
#include "personality/linux/tty/internal.h"

enum { MASTER_CHUNK = 512, WAKE_ALL = 1 << 30 };

/* Packet mode (tty_ioctl(4), TIOCPKT): each read is one status byte, or a zero and data. */
static bool has_status(const struct tty *tty) { return tty->packet && tty->packet_status; }

static bool slave_gone(const struct tty *tty) { return tty->was_open && tty->opens == 0; }

static int64_t master_read(struct open_file *file, struct io_buffer *to, int64_t *position)
{
    struct tty *tty = file->object;
    int64_t total = 0;
    int result = 0;

    if (to->size == 0)
        return 0;
    tty_lock(tty);
    bool packet = tty->packet;
    if (!tty_output_used(tty) && !has_status(tty) && !slave_gone(tty)) {
        if (file->flags & O_NONBLOCK)
            result = -EAGAIN;
        else
            wait_until(&tty->master_readable, &tty->lock, tty_output_used(tty) || has_status(tty) || slave_gone(tty),
                       BLY_FOREVER, result);
    }
    if (result == 0 && has_status(tty)) {
        char status = (char)tty->packet_status;
        tty->packet_status = 0;
        tty_unlock(tty);
        return io_copy_out(to, &status, 1);
    }
    while (result == 0 && to->size && tty_output_used(tty)) {
        char chunk[MASTER_CHUNK + 1];
        uint32_t lead = packet && total == 0, count = 0;
        uint32_t size = to->size - lead < MASTER_CHUNK ? (uint32_t)(to->size - lead) : MASTER_CHUNK;
        chunk[0] = TIOCPKT_DATA;
        for (; count < size && tty_output_used(tty); count++)
            chunk[lead + count] = tty->output[tty->output_head++ & (TTY_OUTPUT_SIZE - 1)];
        wait_queue_wake(&tty->writable, POLLOUT | POLLWRNORM, 1);
        tty_unlock(tty);
        int64_t copied = io_copy_out(to, chunk, lead + count);
        tty_lock(tty);
        if (copied < 0)
            result = (int)copied;
        else
            total += copied;
        if (lead && count == 0)
            break;
    }
    if (result == 0 && total == 0)
        result = -EIO; /* nobody has the slave open any more */
    tty_unlock(tty);
    if (total)
        return total;
    return result == -EINTR ? -ERESTARTSYS : result;
}

static int64_t master_write(struct open_file *file, struct io_buffer *from, int64_t *position)
{
    struct tty *tty = file->object;
    char chunk[MASTER_CHUNK];
    int64_t total = 0;
    int result = 0;

    if (slave_gone(tty))
        return -EIO;
    while (from->size && result == 0) {
        int64_t count = io_copy_in(from, chunk, from->size < sizeof chunk ? from->size : sizeof chunk);
        if (count < 0)
            return total ? total : count;
        tty_lock(tty);
        for (uint32_t taken = 0; taken < count && result == 0;) {
            uint32_t step = tty_receive(tty, chunk + taken, (uint32_t)count - taken);
            taken += step;
            total += step;
            if (taken == count)
                break;
            if (file->flags & O_NONBLOCK)
                result = -EAGAIN;
            else
                wait_until(&tty->master_writable, &tty->lock, tty_input_room(tty) || slave_gone(tty), BLY_FOREVER, result);
            if (result == 0 && slave_gone(tty))
                result = -EIO;
        }
        tty_unlock(tty);
    }
    if (total)
        return total;
    return result == -EINTR ? -ERESTARTSYS : result;
}

static uint32_t master_poll(struct open_file *file, struct poll_table *table)
{
    struct tty *tty = file->object;
    uint32_t events = 0;

    poll_wait(table, &tty->master_readable);
    poll_wait(table, &tty->master_writable);
    scoped_lock(&tty->lock);
    if (tty_output_used(tty))
        events |= POLLIN | POLLRDNORM;
    if (has_status(tty))
        events |= POLLIN | POLLRDNORM | POLLPRI;
    if (slave_gone(tty))
        events |= POLLHUP;
    if (tty_input_room(tty))
        events |= POLLOUT | POLLWRNORM;
    return events;
}

static void master_close(struct open_file *file)
{
    struct tty *tty = file->object;

    tty_hang_up(tty);
    tty_unref(tty);
}

static long open_peer(struct tty *tty, unsigned flags)
{
    struct open_file *file;

    if (flags & ~(unsigned)(O_ACCMODE | O_NOCTTY | O_CLOEXEC | O_NONBLOCK))
        return -EINVAL;
    int result = devpts_open_node(tty, flags & ~(unsigned)O_CLOEXEC, &file);
    if (result < 0)
        return result;
    int fd = fd_install(file, 0, flags & O_CLOEXEC);
    if (fd < 0)
        file_unref(file);
    return fd;
}

static long set_flag(struct tty *tty, bool *flag, uint64_t argument)
{
    uint32_t value;

    if (guest_load32(&value, (uint32_t *)argument) < 0)
        return -EFAULT;
    tty_lock(tty);
    *flag = value != 0;
    tty->packet_status = 0;
    tty_unlock(tty);
    return 0;
}

static long send_signal(struct tty *tty, uint64_t signal)
{
    if (signal < 1 || signal >= 32)
        return -EINVAL;
    tty_lock(tty);
    tty_signal(tty, (int)signal);
    tty_unlock(tty);
    return 0;
}

static long master_ioctl(struct open_file *file, unsigned request, uint64_t argument)
{
    struct tty *tty = file->object;

    switch (request) {
    case TIOCGPTN: return guest_store32((uint32_t *)argument, tty->number);
    case TIOCSPTLCK: return set_flag(tty, &tty->locked, argument);
    case TIOCGPTLCK: return guest_store32((uint32_t *)argument, tty->locked);
    case TIOCPKT: return set_flag(tty, &tty->packet, argument);
    case TIOCGPKT: return guest_store32((uint32_t *)argument, tty->packet);
    case TIOCGPTPEER: return open_peer(tty, (unsigned)argument);
    case TIOCSIG: return send_signal(tty, argument);
    default: return tty_common_ioctl(tty, file, /*master=*/true, request, argument);
    }
}

static const struct file_ops master_ops = {
    .name = "ptmx",
    .read = master_read,
    .write = master_write,
    .poll = master_poll,
    .ioctl = master_ioctl,
    .close = master_close,
    .positionless = true,
};

int ptmx_open(struct inode *inode, struct dentry *dentry, unsigned flags, struct open_file **out_file)
{
    struct tty *tty = tty_create(/*pseudo=*/true);
    struct open_file *file;

    if (!tty)
        return -ENOSPC;
    tty->locked = true;
    file = file_create(&master_ops, dentry, inode, flags);
    if (!file) {
        tty_unref(tty);
        return -ENOMEM;
    }
    file->object = tty;
    *out_file = file;
    return 0;
}
