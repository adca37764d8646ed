/* The line discipline (termios(3)): what typed bytes do, and what read(2) gives.
 *
 * Input lies in a ring of 4096 bytes. In canonical mode the bytes from canon_head on are the line being edited; a byte that ends
 * a line is marked in line_ends, and the line becomes readable by moving canon_head over it. The EOF character is
 * stored as a marked TTY_NO_CHARACTER, which ends a read without being given out. */
#include "personality/linux/tty/internal.h"

enum { INPUT_MASK = TTY_INPUT_SIZE - 1, TENTH_SECOND_NS = 100000000, READ_CHUNK = 256, TAB_WIDTH = 8 };

static bool local(const struct tty *tty, uint32_t flag) { return (tty->termios.c_lflag & flag) != 0; }
static bool input(const struct tty *tty, uint32_t flag) { return (tty->termios.c_iflag & flag) != 0; }
static unsigned char control_of(const struct tty *tty, int index) { return tty->termios.c_cc[index]; }
static bool is_control(unsigned char c) { return c < 32 || c == 127; }
static bool is_continuation(const struct tty *tty, unsigned char c) { return input(tty, IUTF8) && (c & 0xc0) == 0x80; }

/* The character is the given control character, and that one is not switched off. */
static bool is(const struct tty *tty, unsigned char c, int index)
{
    return c == control_of(tty, index) && c != TTY_NO_CHARACTER;
}

static bool is_marked(const struct tty *tty, uint32_t at)
{
    return tty->line_ends[(at & INPUT_MASK) / 64] >> (at & 63) & 1;
}

static void mark(struct tty *tty, uint32_t at)
{
    tty->line_ends[(at & INPUT_MASK) / 64] |= 1ull << (at & 63);
}

static void unmark(struct tty *tty, uint32_t at)
{
    tty->line_ends[(at & INPUT_MASK) / 64] &= ~(1ull << (at & 63));
}

static unsigned char byte_at(const struct tty *tty, uint32_t at) { return (unsigned char)tty->input[at & INPUT_MASK]; }

static void store(struct tty *tty, unsigned char c)
{
    tty->input[tty->head & INPUT_MASK] = (char)c;
    unmark(tty, tty->head);
    tty->head++;
}

/* ---- Echo ---- */

static void echo(struct tty *tty, unsigned char c)
{
    if (local(tty, ECHOCTL) && is_control(c) && c != '\t') {
        tty_put_raw(tty, '^');
        tty_put_raw(tty, (char)(c ^ 0100));
        tty->column += 2;
    } else {
        tty_put_processed(tty, (char)c);
    }
}

static void finish_erasing(struct tty *tty)
{
    if (tty->erasing) {
        tty_put_processed(tty, '/');
        tty->erasing = false;
    }
}

/* A line begins where the cursor stands when its first character is echoed. */
static void note_line_start(struct tty *tty)
{
    if (tty->canon_head == tty->head)
        tty->canon_column = tty->column;
}

static void echo_back_over(struct tty *tty, uint32_t columns)
{
    while (columns--) {
        tty_put_raw(tty, '\b');
        if (tty->column)
            tty->column--;
    }
}

static void echo_erase_one(struct tty *tty)
{
    tty_put_raw(tty, '\b');
    tty_put_raw(tty, ' ');
    tty_put_raw(tty, '\b');
    if (tty->column)
        tty->column--;
}

/* How far the cursor moved when the tab that stood at tty->head was echoed. */
static uint32_t tab_columns(const struct tty *tty)
{
    uint32_t column = tty->canon_column;

    for (uint32_t at = tty->canon_head; at != tty->head; at++) {
        unsigned char c = byte_at(tty, at);
        if (c == '\t')
            column += TAB_WIDTH - column % TAB_WIDTH;
        else if (is_control(c))
            column += local(tty, ECHOCTL) ? 2 : 0;
        else if (!is_continuation(tty, c))
            column++;
    }
    return TAB_WIDTH - column % TAB_WIDTH;
}

/* ---- Line editing ---- */

static void echo_erased(struct tty *tty, unsigned char c, uint32_t bytes, bool one)
{
    if (local(tty, ECHOPRT)) {
        if (!tty->erasing) {
            tty_put_processed(tty, '\\');
            tty->erasing = true;
        }
        echo(tty, c);
        for (uint32_t i = 1; i < bytes; i++)
            tty_put_raw(tty, (char)byte_at(tty, tty->head + i));
    } else if (one && !local(tty, ECHOE)) {
        echo(tty, control_of(tty, VERASE));
    } else if (c == '\t') {
        echo_back_over(tty, tab_columns(tty));
    } else {
        if (is_control(c) && local(tty, ECHOCTL))
            echo_erase_one(tty);
        if (!is_control(c) || local(tty, ECHOCTL))
            echo_erase_one(tty);
    }
}

enum erase_kind { ERASE_CHARACTER, ERASE_WORD, ERASE_LINE };

static void erase(struct tty *tty, enum erase_kind kind)
{
    bool in_word = false;

    if (tty->head == tty->canon_head)
        return;
    if (kind == ERASE_LINE && (!local(tty, ECHO) || !local(tty, ECHOK) || !local(tty, ECHOKE) || !local(tty, ECHOE))) {
        tty->head = tty->canon_head;
        if (local(tty, ECHO)) {
            finish_erasing(tty);
            echo(tty, control_of(tty, VKILL));
            if (local(tty, ECHOK))
                tty_put_processed(tty, '\n');
        }
        return;
    }
    while (tty->head != tty->canon_head) {
        uint32_t at = tty->head;
        do {
            at--;
        } while (is_continuation(tty, byte_at(tty, at)) && at != tty->canon_head);
        unsigned char c = byte_at(tty, at);
        if (is_continuation(tty, c))
            break; /* half a character: no start of it in this line */
        if (kind == ERASE_WORD) {
            bool word = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' || c >= 0x80;
            if (!word && in_word)
                break;
            in_word |= word;
        }
        uint32_t bytes = tty->head - at;
        tty->head = at;
        if (local(tty, ECHO))
            echo_erased(tty, c, bytes, kind == ERASE_CHARACTER);
        if (kind == ERASE_CHARACTER)
            break;
    }
    if (tty->head == tty->canon_head && local(tty, ECHO))
        finish_erasing(tty);
}

static void reprint(struct tty *tty, unsigned char c)
{
    finish_erasing(tty);
    echo(tty, c);
    tty_put_processed(tty, '\n');
    for (uint32_t at = tty->canon_head; at != tty->head; at++)
        echo(tty, byte_at(tty, at));
}

static void end_line(struct tty *tty, unsigned char c)
{
    store(tty, c);
    mark(tty, tty->head - 1);
    tty->canon_head = tty->head;
    wait_queue_wake(&tty->readable, POLLIN | POLLRDNORM, 1);
}

/* ---- Receiving ---- */

uint32_t tty_input_room(const struct tty *tty)
{
    uint32_t used = tty->head - tty->tail;

    /* An unfinished line that fills the ring goes on being taken (and lost), or nobody could ever end it. */
    if (local(tty, ICANON) && tty->canon_head == tty->tail)
        return TTY_INPUT_SIZE;
    return used < TTY_INPUT_SIZE - 2 ? TTY_INPUT_SIZE - 2 - used : 0;
}

void tty_flush_input(struct tty *tty)
{
    tty->head = tty->canon_head = tty->tail = 0;
    memset(tty->line_ends, 0, sizeof tty->line_ends);
    tty->erasing = tty->literal_next = false;
    if (tty->packet)
        tty->packet_status |= TIOCPKT_FLUSHREAD;
    wait_queue_wake(&tty->master_writable, POLLOUT | POLLWRNORM, 1 << 30);
}

static void signal_character(struct tty *tty, int signal, unsigned char c)
{
    if (!local(tty, NOFLSH)) {
        tty_flush_output(tty);
        tty_flush_input(tty);
    }
    if (input(tty, IXON))
        tty_start(tty);
    if (local(tty, ECHO))
        echo(tty, c);
    tty_signal(tty, signal);
}

static bool receive_control(struct tty *tty, unsigned char c)
{
    if (input(tty, IXON)) {
        if (is(tty, c, VSTART)) {
            tty_start(tty);
            return true;
        }
        if (is(tty, c, VSTOP)) {
            tty_stop(tty);
            return true;
        }
        if (tty->stopped && input(tty, IXANY))
            tty_start(tty);
    }
    if (local(tty, ISIG)) {
        static const struct { int index, signal; } table[] = { { VINTR, SIGINT }, { VQUIT, SIGQUIT }, { VSUSP, SIGTSTP } };
        for (unsigned i = 0; i < sizeof table / sizeof *table; i++) {
            if (is(tty, c, table[i].index)) {
                signal_character(tty, table[i].signal, c);
                return true;
            }
        }
    }
    return false;
}

/* Canonical mode's own characters. */
static bool receive_editing(struct tty *tty, unsigned char c)
{
    bool extended = local(tty, IEXTEN);

    if (is(tty, c, VERASE) || is(tty, c, VKILL) || (is(tty, c, VWERASE) && extended)) {
        erase(tty, is(tty, c, VERASE) ? ERASE_CHARACTER : is(tty, c, VKILL) ? ERASE_LINE : ERASE_WORD);
        return true;
    }
    if (is(tty, c, VLNEXT) && extended) {
        tty->literal_next = true;
        if (local(tty, ECHO)) {
            finish_erasing(tty);
            if (local(tty, ECHOCTL)) {
                tty_put_raw(tty, '^');
                tty_put_raw(tty, '\b');
            }
        }
        return true;
    }
    if (is(tty, c, VREPRINT) && local(tty, ECHO) && extended) {
        reprint(tty, c);
        return true;
    }
    if (c == '\n') {
        if (local(tty, ECHO) || local(tty, ECHONL)) {
            finish_erasing(tty);
            tty_put_processed(tty, '\n');
        }
        end_line(tty, c);
        return true;
    }
    if (is(tty, c, VEOF)) {
        end_line(tty, TTY_NO_CHARACTER);
        return true;
    }
    if (is(tty, c, VEOL) || (is(tty, c, VEOL2) && extended)) {
        if (local(tty, ECHO)) {
            note_line_start(tty);
            echo(tty, c);
        }
        end_line(tty, c);
        return true;
    }
    return false;
}

static void receive_ordinary(struct tty *tty, unsigned char c)
{
    /* The last place is for the end of the line. */
    if (tty->head - tty->tail >= TTY_INPUT_SIZE - 2) {
        if (input(tty, IMAXBEL))
            tty_put_raw(tty, '\a');
        return;
    }
    if (local(tty, ECHO)) {
        finish_erasing(tty);
        if (c == '\n') {
            tty_put_processed(tty, '\n');
        } else {
            note_line_start(tty);
            echo(tty, c);
        }
    }
    if (c == 0xff && input(tty, PARMRK))
        store(tty, c);
    store(tty, c);
}

static void receive_byte(struct tty *tty, unsigned char c)
{
    if (input(tty, ISTRIP))
        c &= 0x7f;
    if (input(tty, IUCLC) && local(tty, IEXTEN) && c >= 'A' && c <= 'Z')
        c = (unsigned char)(c - 'A' + 'a');
    if (tty->literal_next) {
        tty->literal_next = false;
        receive_ordinary(tty, c);
        return;
    }
    if (receive_control(tty, c))
        return;
    if (c == '\r') {
        if (input(tty, IGNCR))
            return;
        if (input(tty, ICRNL))
            c = '\n';
    } else if (c == '\n' && input(tty, INLCR)) {
        c = '\r';
    }
    if (local(tty, ICANON) && receive_editing(tty, c))
        return;
    receive_ordinary(tty, c);
}

uint32_t tty_receive(struct tty *tty, const char *bytes, uint32_t count)
{
    uint32_t taken = 0, before = tty->output_tail;

    while (taken < count && tty_input_room(tty))
        receive_byte(tty, (unsigned char)bytes[taken++]);
    if (!local(tty, ICANON) && tty->head != tty->tail)
        wait_queue_wake(&tty->readable, POLLIN | POLLRDNORM, 1);
    if (tty->output_tail != before)
        wait_queue_wake(&tty->master_readable, POLLIN | POLLRDNORM, 1);
    return taken;
}

void tty_mode_changed(struct tty *tty, const struct ktermios *old)
{
    if ((old->c_lflag ^ tty->termios.c_lflag) & ICANON) {
        memset(tty->line_ends, 0, sizeof tty->line_ends);
        tty->canon_head = tty->tail;
        if (local(tty, ICANON) && tty->head != tty->tail) { /* what came in raw mode can be read as one line */
            mark(tty, tty->head - 1);
            tty->canon_head = tty->head;
        }
        tty->erasing = tty->literal_next = false;
    }
    if (!input(tty, IXON) && (old->c_iflag & IXON))
        tty_start(tty);
    wait_queue_wake(&tty->readable, POLLIN | POLLRDNORM, 1 << 30);
}

/* ---- Reading ---- */

/* Where canonical reads must stop: no line is edited any more once the input has ended. */
static uint32_t canonical_end(const struct tty *tty)
{
    return tty->input_ended ? tty->head : tty->canon_head;
}

bool tty_input_ready(const struct tty *tty, bool for_poll)
{
    if (local(tty, ICANON))
        return canonical_end(tty) != tty->tail;
    uint32_t least = for_poll && !control_of(tty, VTIME) && control_of(tty, VMIN) ? control_of(tty, VMIN) : 1;
    return tty->head - tty->tail >= least;
}

/* At most `size` bytes of the first line; *out_end when it has been given out to its end. */
static uint32_t take_line(struct tty *tty, char *to, uint32_t size, bool *out_end)
{
    uint32_t count = 0;

    *out_end = false;
    while (tty->tail != canonical_end(tty) && !*out_end) {
        unsigned char c = byte_at(tty, tty->tail);
        bool last = is_marked(tty, tty->tail);
        bool end_of_file = last && c == TTY_NO_CHARACTER;
        if (count == size && !end_of_file)
            break; /* but an EOF right behind what was asked for goes with it, or the next read would see the end of the file */
        unmark(tty, tty->tail);
        tty->tail++;
        if (!end_of_file)
            to[count++] = (char)c;
        *out_end = last;
    }
    return count;
}

static uint32_t take_raw(struct tty *tty, char *to, uint32_t size)
{
    uint32_t count = 0;

    while (count < size && tty->tail != tty->head)
        to[count++] = (char)byte_at(tty, tty->tail++);
    return count;
}

/* Until input is there. 0, -EAGAIN, -EINTR, -ETIMEDOUT. The lock is held. */
static int wait_for_input(struct open_file *file, struct tty *tty, uint64_t timeout_ns)
{
    int result = 0;

    if (timeout_ns == 0)
        return -ETIMEDOUT;
    if (file->flags & O_NONBLOCK)
        return -EAGAIN;
    uint64_t deadline = poll_deadline(timeout_ns);
    wait_until(&tty->readable, &tty->lock, tty_input_ready(tty, false) || tty->hung_up || tty->input_ended, deadline, result);
    return result;
}

static int64_t read_locked(struct open_file *file, struct tty *tty, struct io_buffer *to)
{
    int64_t total = 0;
    int result = 0;

    for (;;) {
        uint32_t least = control_of(tty, VMIN), tenths = control_of(tty, VTIME);
        bool canonical = local(tty, ICANON), line_end = false;
        char chunk[READ_CHUNK];

        if (!tty_input_ready(tty, false)) {
            if (tty->hung_up || tty->input_ended)
                break;
            uint64_t timeout = BLY_FOREVER;
            if (!canonical && least == 0)
                timeout = (uint64_t)tenths * TENTH_SECOND_NS;
            else if (!canonical && total && tenths)
                timeout = (uint64_t)tenths * TENTH_SECOND_NS; /* between two bytes */
            result = wait_for_input(file, tty, timeout);
            if (result < 0)
                break;
            /* Another group may have become the foreground one meanwhile. */
            lock_release(&tty->lock);
            result = tty_check_foreground(tty, SIGTTIN);
            lock_acquire(&tty->lock);
            if (result < 0)
                break;
            continue;
        }
        uint32_t size = to->size < sizeof chunk ? (uint32_t)to->size : (uint32_t)sizeof chunk;
        uint32_t count = canonical ? take_line(tty, chunk, size, &line_end) : take_raw(tty, chunk, size);
        if (tty->pseudo || tty_input_room(tty) > TTY_INPUT_SIZE / 2)
            wait_queue_wake(&tty->master_writable, POLLOUT | POLLWRNORM, 1);
        lock_release(&tty->lock);
        int64_t copied = count ? io_copy_out(to, chunk, count) : 0;
        lock_acquire(&tty->lock);
        if (copied < 0) {
            result = (int)copied;
            break;
        }
        total += copied;
        if (copied < count || to->size == 0 || line_end)
            break;
        if (!canonical && !tty_input_ready(tty, false) && total >= (least ? least : 1))
            break;
    }
    if (total || result == -ETIMEDOUT)
        return total;
    return result == -EINTR ? -ERESTARTSYS : result;
}

int64_t tty_read(struct open_file *file, struct io_buffer *to, int64_t *position)
{
    struct tty *tty = file->object;

    if (tty->hung_up && !tty_input_ready(tty, false))
        return 0;
    int result = tty_check_foreground(tty, SIGTTIN);
    if (result < 0)
        return result;
    if (to->size == 0)
        return 0;
    tty_lock(tty);
    int64_t count = read_locked(file, tty, to);
    bool more = tty_input_ready(tty, false);
    tty_unlock(tty);
    if (more)
        wait_queue_wake(&tty->readable, POLLIN | POLLRDNORM, 1);
    return count;
}
