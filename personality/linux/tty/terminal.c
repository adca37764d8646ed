/* The terminal as an open file: making one, its file operations, settings and the other ioctls.
 *
 * A tty is kept alive by its open files, its master, its pump and whoever looks it up for a moment; its number is given
 * back when the last of them goes. */
#include "personality/linux/tty/internal.h"
#include <linux/capability.h>

enum { EXPECTED_BAUDS = 16, WAKE_ALL = 1 << 30 };

/* ---- Life ---- */

static const struct ktermios initial_termios = {
    .c_iflag = ICRNL | IXON | IUTF8,
    .c_oflag = OPOST | ONLCR,
    .c_cflag = B38400 | CS8 | CREAD | HUPCL,
    .c_lflag = ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN,
    .c_cc = { [VINTR] = 3, [VQUIT] = 28, [VERASE] = 127, [VKILL] = 21, [VEOF] = 4, [VMIN] = 1, [VSTART] = 17,
              [VSTOP] = 19, [VSUSP] = 26, [VREPRINT] = 18, [VDISCARD] = 15, [VWERASE] = 23, [VLNEXT] = 22 },
    .c_ispeed = 38400,
    .c_ospeed = 38400,
};

struct tty *tty_create(bool pseudo)
{
    struct tty_roots *roots = tty_roots();
    struct tty *tty = heap_alloc(sizeof *tty);

    if (!tty)
        return NULL;
    tty->input = heap_alloc(TTY_INPUT_SIZE);
    tty->output = heap_alloc(TTY_OUTPUT_SIZE);
    tty->references = 1;
    tty->pseudo = pseudo;
    tty->termios = initial_termios;
    if (pseudo) /* as Linux: only real terminals are taken to speak UTF-8 from the start */
        tty->termios.c_iflag &= ~(uint32_t)IUTF8;
    wait_queue_init(&tty->readable);
    wait_queue_init(&tty->writable);
    wait_queue_init(&tty->master_readable);
    wait_queue_init(&tty->master_writable);
    tty->number = TTY_MAXIMUM;
    if (tty->input && tty->output) {
        scoped_lock(&roots->lock);
        for (uint32_t i = 0; i < TTY_MAXIMUM && tty->number == TTY_MAXIMUM; i++) {
            if (!roots->terminals[i]) {
                roots->terminals[i] = tty;
                tty->number = i;
            }
        }
    }
    if (tty->number == TTY_MAXIMUM) {
        heap_free(tty->input);
        heap_free(tty->output);
        heap_free(tty);
        return NULL;
    }
    return tty;
}

struct tty *tty_ref(struct tty *tty)
{
    tty->references++;
    return tty;
}

void tty_unref(struct tty *tty)
{
    struct tty_roots *roots = tty_roots();

    if (!tty)
        return;
    lock_acquire(&roots->lock); /* tty_get must not find one that is about to go */
    bool last = --tty->references == 0;
    if (last)
        roots->terminals[tty->number] = NULL;
    lock_release(&roots->lock);
    if (!last)
        return;
    inode_unref(tty->inode);
    heap_free(tty->input);
    heap_free(tty->output);
    heap_free(tty);
}

struct tty *tty_get(uint32_t number)
{
    struct tty_roots *roots = tty_roots();

    scoped_lock(&roots->lock);
    struct tty *tty = number < TTY_MAXIMUM ? roots->terminals[number] : NULL;
    return tty && !tty->hung_up ? tty_ref(tty) : NULL;
}

void tty_lock(struct tty *tty)
{
    lock_acquire(&tty->lock);
}

static void send_signals(uint32_t signals, int32_t group)
{
    for (int signal = 1; signals >> signal; signal++) {
        if (signals & 1u << signal) {
            siginfo_t info = { .si_signo = signal, .si_code = SI_KERNEL };
            (void)signal_send_group(group, signal, &info); /* -ESRCH: nobody is left in it */
        }
    }
}

void tty_unlock(struct tty *tty)
{
    uint32_t signals = tty->pending_signals;
    int32_t group = tty->pending_group;
    bool output = !tty->pseudo && tty_output_used(tty) && !tty->draining && !tty->stopped;

    tty->pending_signals = 0;
    lock_release(&tty->lock);
    if (signals)
        send_signals(signals, group);
    if (output)
        tty_drain(tty);
}

void tty_signal(struct tty *tty, int signal)
{
    if (tty->foreground <= 0)
        return;
    tty->pending_group = tty->foreground;
    tty->pending_signals |= 1u << signal;
}

void tty_window_set(struct tty *tty, const struct tty_winsize *size)
{
    tty_lock(tty);
    if (memcmp(&tty->window, size, sizeof *size) != 0) {
        tty->window = *size;
        tty_signal(tty, SIGWINCH);
    }
    tty_unlock(tty);
}

/* What is on the user's screen is not what the program has drawn: it is told as if the window had changed. */
void tty_tell_resumed(void)
{
    struct tty *tty = tty_roots()->main;
    if (!tty)
        return;
    tty_lock(tty);
    tty_signal(tty, SIGWINCH);
    tty_unlock(tty);
}

void tty_resume_window(uint16_t rows, uint16_t columns)
{
    struct tty *tty = tty_roots()->main;
    if (!tty || !rows || !columns)
        return;
    /* Many programs draw nothing anew for a size that is as before: for a moment, until the monitor tells it again, it is another. */
    if (tty->window.rows == rows && tty->window.columns == columns)
        rows = rows > 1 ? rows - 1 : rows + 1;
    tty->window = (struct tty_winsize){ .rows = rows, .columns = columns };
}

/* As if the user typed Ctrl-D again and again. */
void tty_end_input(struct tty *tty)
{
    tty_lock(tty);
    tty->input_ended = true;
    wait_queue_wake(&tty->readable, POLLIN | POLLRDNORM, WAKE_ALL);
    tty_unlock(tty);
}

void tty_hang_up(struct tty *tty)
{
    tty_lock(tty);
    tty->hung_up = true;
    int32_t session = tty->session;
    tty->output_head = tty->output_tail;
    tty_signal(tty, SIGHUP);
    tty_signal(tty, SIGCONT);
    wait_queue_wake(&tty->readable, ~0u, WAKE_ALL);
    wait_queue_wake(&tty->writable, ~0u, WAKE_ALL);
    wait_queue_wake(&tty->master_readable, ~0u, WAKE_ALL);
    wait_queue_wake(&tty->master_writable, ~0u, WAKE_ALL);
    tty_unlock(tty);
    if (session <= 0)
        return;
    /* The session's leader is told too, whatever group it is in. */
    struct lx_process *leader = process_get(session);
    if (leader) {
        siginfo_t info = { .si_signo = SIGHUP, .si_code = SI_KERNEL };
        (void)signal_send_process(leader, SIGHUP, &info);
        info.si_signo = SIGCONT;
        (void)signal_send_process(leader, SIGCONT, &info);
        process_unref(leader);
    }
    tty_forget_session(tty, session);
}

/* ---- File operations ---- */

static uint32_t tty_poll(struct open_file *file, struct poll_table *table)
{
    struct tty *tty = file->object;
    uint32_t events = 0;

    poll_wait(table, &tty->readable);
    poll_wait(table, &tty->writable);
    scoped_lock(&tty->lock);
    if (tty->hung_up)
        return POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM | POLLERR | POLLHUP;
    if (tty_input_ready(tty, true) || tty->input_ended)
        events |= POLLIN | POLLRDNORM;
    if (!tty->stopped && tty_output_room(tty) > 2 * TTY_ECHO_RESERVE)
        events |= POLLOUT | POLLWRNORM;
    return events;
}

static long tty_ioctl(struct open_file *file, unsigned request, uint64_t argument)
{
    return tty_common_ioctl(file->object, file, /*master=*/false, request, argument);
}

static void tty_close(struct open_file *file)
{
    struct tty *tty = file->object;

    tty_lock(tty);
    if (--tty->opens == 0) {
        tty->exclusive = false;
        wait_queue_wake(&tty->master_readable, POLLHUP | POLLIN, WAKE_ALL);
        wait_queue_wake(&tty->master_writable, POLLHUP | POLLOUT, WAKE_ALL);
    }
    tty_unlock(tty);
    tty_unref(tty);
}

static const struct file_ops tty_ops = {
    .name = "tty",
    .read = tty_read,
    .write = tty_write,
    .poll = tty_poll,
    .ioctl = tty_ioctl,
    .close = tty_close,
    .positionless = true,
};

int tty_open(struct tty *tty, struct inode *inode, struct dentry *dentry, unsigned flags, struct open_file **out_file)
{
    struct open_file *file = file_create(&tty_ops, dentry, inode, flags);
    int result = 0;

    if (!file)
        return -ENOMEM;
    tty_lock(tty);
    if (tty->hung_up || tty->locked)
        result = -EIO;
    else if (tty->exclusive && !lx_capable(CAP_SYS_ADMIN))
        result = -EBUSY;
    tty->opens++; /* counted out again by tty_close, also when this fails */
    if (result == 0)
        tty->was_open = true;
    file->object = tty_ref(tty);
    tty_unlock(tty);
    if (result < 0) {
        file_unref(file);
        return result;
    }
    tty_open_controlling(tty, flags);
    *out_file = file;
    return 0;
}

struct open_file *tty_open_terminal(unsigned flags)
{
    struct tty *tty = tty_of_process();
    struct open_file *file = NULL;

    if (!tty && tty_roots()->main)
        tty = tty_ref(tty_roots()->main);
    if (tty)
        file = tty_open_this(tty, flags);
    tty_unref(tty);
    return file;
}

struct open_file *tty_open_this(struct tty *tty, unsigned flags)
{
    struct open_file *file;

    return devpts_open_node(tty, flags | O_NOCTTY, &file) < 0 ? NULL : file;
}

/* ---- Settings ---- */

/* What TCSETS and its relations carry. The old struct termio has 16-bit flags and fewer characters. */
struct old_termio { uint16_t iflag, oflag, cflag, lflag; uint8_t line, cc[8]; };
enum settings_format { FORMAT_TERMIOS, FORMAT_TERMIOS2, FORMAT_OLD };

static uint32_t baud_of(uint32_t cflag, uint32_t other)
{
    static const uint32_t low[EXPECTED_BAUDS] = { 0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19200, 38400 };
    static const uint32_t high[EXPECTED_BAUDS] = { 0, 57600, 115200, 230400, 460800, 500000, 576000, 921600, 1000000, 1152000,
                                       1500000, 2000000, 2500000, 3000000, 3500000, 4000000 };
    uint32_t code = cflag & CBAUD;

    if (code == BOTHER)
        return other;
    return code & CBAUDEX ? high[code & 15] : low[code & 15];
}

static int read_settings(uint64_t guest, enum settings_format format, struct ktermios *out)
{
    struct old_termio old;

    switch (format) {
    case FORMAT_OLD:
        if (guest_read(&old, (void *)guest, sizeof old) < 0)
            return -EFAULT;
        out->c_iflag = (out->c_iflag & ~0xffffu) | old.iflag;
        out->c_oflag = (out->c_oflag & ~0xffffu) | old.oflag;
        out->c_cflag = (out->c_cflag & ~0xffffu) | old.cflag;
        out->c_lflag = (out->c_lflag & ~0xffffu) | old.lflag;
        memcpy(out->c_cc, old.cc, sizeof old.cc);
        break;
    case FORMAT_TERMIOS2:
        if (guest_read(out, (void *)guest, sizeof(struct termios2)) < 0)
            return -EFAULT;
        break;
    default:
        if (guest_read(out, (void *)guest, sizeof(struct termios)) < 0)
            return -EFAULT;
    }
    out->c_ospeed = baud_of(out->c_cflag, out->c_ospeed);
    uint32_t input_code = out->c_cflag >> IBSHIFT & CBAUD;
    out->c_ispeed = input_code ? baud_of(input_code, out->c_ispeed) : out->c_ospeed;
    return 0;
}

static int write_settings(uint64_t guest, enum settings_format format, const struct ktermios *from)
{
    struct old_termio old = { (uint16_t)from->c_iflag, (uint16_t)from->c_oflag, (uint16_t)from->c_cflag,
                              (uint16_t)from->c_lflag, from->c_line, { 0 } };

    switch (format) {
    case FORMAT_OLD:
        memcpy(old.cc, from->c_cc, sizeof old.cc);
        return guest_write((void *)guest, &old, sizeof old);
    case FORMAT_TERMIOS2:
        return guest_write((void *)guest, from, sizeof(struct termios2));
    default:
        return guest_write((void *)guest, from, sizeof(struct termios));
    }
}

static int get_settings(struct tty *tty, uint64_t guest, enum settings_format format)
{
    tty_lock(tty);
    struct ktermios now = tty->termios;
    tty_unlock(tty);
    return write_settings(guest, format, &now);
}

static int set_settings(struct tty *tty, uint64_t guest, enum settings_format format, bool flush)
{
    tty_lock(tty);
    struct ktermios fresh = tty->termios, old;
    tty_unlock(tty);
    int result = read_settings(guest, format, &fresh);
    if (result < 0)
        return result;
    tty_lock(tty);
    old = tty->termios;
    tty->termios = fresh;
    if (tty->pseudo) /* a pseudo terminal's line always has 8 bits and no parity */
        tty->termios.c_cflag = (fresh.c_cflag & ~(uint32_t)(CSIZE | PARENB)) | CS8 | CREAD;
    if (flush)
        tty_flush_input(tty);
    tty_mode_changed(tty, &old);
    if (tty->packet && (old.c_iflag ^ fresh.c_iflag) & IXON) {
        tty->packet_status |= fresh.c_iflag & IXON ? TIOCPKT_DOSTOP : TIOCPKT_NOSTOP;
        wait_queue_wake(&tty->master_readable, POLLIN | POLLPRI, WAKE_ALL);
    }
    tty_unlock(tty);
    return 0;
}

/* ---- Other ioctls ---- */

static long flush_queues(struct tty *tty, bool master, uint64_t which)
{
    if (which != TCIFLUSH && which != TCOFLUSH && which != TCIOFLUSH)
        return -EINVAL;
    bool input = which != TCOFLUSH, output = which != TCIFLUSH;
    tty_lock(tty);
    if (master ? output : input) /* the master's output is the slave's input */
        tty_flush_input(tty);
    if (master ? input : output)
        tty_flush_output(tty);
    tty_unlock(tty);
    return 0;
}

static long flow_control(struct tty *tty, uint64_t action)
{
    long result = 0;

    tty_lock(tty);
    if (action == TCOOFF)
        tty_stop(tty);
    else if (action == TCOON)
        tty_start(tty);
    else if (action == TCIOFF || action == TCION) {
        unsigned char c = tty->termios.c_cc[action == TCIOFF ? VSTOP : VSTART];
        if (c != TTY_NO_CHARACTER)
            tty_put_raw(tty, (char)c);
        wait_queue_wake(&tty->master_readable, POLLIN | POLLRDNORM, 1);
    } else {
        result = -EINVAL;
    }
    tty_unlock(tty);
    return result;
}

static long input_count(struct tty *tty, bool master, uint64_t guest)
{
    tty_lock(tty);
    uint32_t count = tty->termios.c_lflag & ICANON ? tty->canon_head - tty->tail : tty->head - tty->tail;
    if (master)
        count = tty_output_used(tty);
    tty_unlock(tty);
    return guest_store32((uint32_t *)guest, count);
}

static long get_window(struct tty *tty, uint64_t guest)
{
    tty_lock(tty);
    struct tty_winsize size = tty->window;
    tty_unlock(tty);
    return guest_write((void *)guest, &size, sizeof size);
}

static long set_window(struct tty *tty, uint64_t guest)
{
    struct tty_winsize size;

    if (guest_read(&size, (void *)guest, sizeof size) < 0)
        return -EFAULT;
    tty_window_set(tty, &size);
    return 0;
}

/* Requests that change the terminal are for the foreground group only: SIGTTOU for others (tty_ioctl(4)). */
static bool needs_foreground(unsigned request)
{
    switch (request) {
    case TCSETS: case TCSETSW: case TCSETSF: case TCSETS2: case TCSETSW2: case TCSETSF2: case TCSETA: case TCSETAW: case TCSETAF:
    case TCSBRK: case TCSBRKP: case TIOCSBRK: case TIOCCBRK: case TCXONC: case TCFLSH: case TIOCSPGRP: case TIOCSETD:
        return true;
    default:
        return false;
    }
}

long tty_common_ioctl(struct tty *tty, struct open_file *file, bool master, unsigned request, uint64_t argument)
{
    uint32_t word;

    if (tty->hung_up && !master)
        return request == TIOCSPGRP ? -ENOTTY : -EIO;
    if (!master && needs_foreground(request)) {
        int result = tty_check_foreground(tty, SIGTTOU);
        if (result < 0)
            return result;
    }
    switch (request) {
    case TCGETS: return get_settings(tty, argument, FORMAT_TERMIOS);
    case TCGETS2: return get_settings(tty, argument, FORMAT_TERMIOS2);
    case TCGETA: return get_settings(tty, argument, FORMAT_OLD);
    case TCSETS: case TCSETSW: return set_settings(tty, argument, FORMAT_TERMIOS, false);
    case TCSETSF: return set_settings(tty, argument, FORMAT_TERMIOS, true);
    case TCSETS2: case TCSETSW2: return set_settings(tty, argument, FORMAT_TERMIOS2, false);
    case TCSETSF2: return set_settings(tty, argument, FORMAT_TERMIOS2, true);
    case TCSETA: case TCSETAW: return set_settings(tty, argument, FORMAT_OLD, false);
    case TCSETAF: return set_settings(tty, argument, FORMAT_OLD, true);
    case TCFLSH: return flush_queues(tty, master, argument);
    case TCXONC: return flow_control(tty, argument);
    case TCSBRK: case TCSBRKP: case TIOCSBRK: case TIOCCBRK:
        return 0; /* a break means nothing here, and output is on its way as soon as it is written */
    case FIONREAD: return input_count(tty, master, argument);
    case TIOCOUTQ:
        tty_lock(tty);
        word = master || tty->pseudo ? 0 : tty_output_used(tty);
        tty_unlock(tty);
        return guest_store32((uint32_t *)argument, word);
    case TIOCGWINSZ: return get_window(tty, argument);
    case TIOCSWINSZ: return set_window(tty, argument);
    case TIOCGPGRP: return tty_get_group(tty, master, argument);
    case TIOCSPGRP: return tty_set_group(tty, argument);
    case TIOCGSID: return tty_get_session(tty, master, argument);
    case TIOCSCTTY: return master ? -ENOTTY : tty_take_controlling(tty, argument == 1, (file->flags & O_ACCMODE) != O_WRONLY);
    case TIOCNOTTY: return tty_give_up(tty);
    case TIOCSTI: return -EIO; /* as Linux without legacy_tiocsti: it let programs type into their parents' shells */
    case TIOCEXCL: case TIOCNXCL:
        tty_lock(tty);
        tty->exclusive = request == TIOCEXCL;
        tty_unlock(tty);
        return 0;
    case TIOCGEXCL: return guest_store32((uint32_t *)argument, tty->exclusive);
    case TIOCGETD: return guest_store32((uint32_t *)argument, 0); /* N_TTY */
    case TIOCSETD:
        if (guest_load32(&word, (uint32_t *)argument) < 0)
            return -EFAULT;
        return word == 0 ? 0 : -EINVAL;
    case TIOCVHANGUP:
        if (!lx_capable(CAP_SYS_ADMIN))
            return -EPERM;
        tty_hang_up(tty);
        return 0;
    case TIOCGSOFTCAR: return guest_store32((uint32_t *)argument, (tty->termios.c_cflag & CLOCAL) != 0);
    default: return -ENOTTY;
    }
}
