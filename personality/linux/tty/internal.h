/* What the files of tty/ share.
 *
 * A struct tty is a terminal as programs know it (the slave side): line discipline, settings, session. What lies behind it is either the
 * master of a pseudo terminal or the host's terminal (pump thread and output stream); both put bytes in with tty_receive and take
 * what programs wrote out of the `output` ring.
 *
 * Lock order: process_table.lock, then tty.lock, then queue locks. Signals that input causes are noted under tty.lock and sent by
 * tty_unlock, after it. */
#ifndef LX_TTY_INTERNAL_H
#define LX_TTY_INTERNAL_H

#include "personality/linux/fs/poll.h"
#include "personality/linux/fs/vfs.h"
#include "personality/linux/tty/tty.h"
#include <asm/ioctls.h>
#include <asm/poll.h>
#include <asm/termbits.h>

struct tty_winsize { uint16_t rows, columns, width, height; };

enum { TTY_INPUT_SIZE = 4096, TTY_OUTPUT_SIZE = 16384, TTY_ECHO_RESERVE = 512, TTY_MAXIMUM = 256 };
#define TTY_NO_CHARACTER 0 /* a c_cc entry that is switched off; also what stands for the EOF character in a line */

struct tty {
    struct lock lock;              /* guards all below, unless said otherwise */
    _Atomic uint32_t references;
    uint32_t number;               /* N of /dev/pts/N */
    struct inode *inode;           /* its node in devpts; roots.lock */
    uint32_t opens;                /* open files of the slave side */
    bool pseudo;                   /* has a master; else the host's terminal */
    bool hung_up;                  /* the master has gone, or the host's terminal */
    bool input_ended;              /* the host's input, no terminal, has come to its end: reads find that end, everything else goes on */
    bool was_open;                 /* the slave side was open once: the master then reads -EIO when nobody has it open */
    bool locked;                   /* TIOCSPTLCK: the slave cannot be opened yet */
    bool exclusive;                /* TIOCEXCL */
    bool stopped;                  /* IXON: the user typed Ctrl-S */
    bool packet;                   /* TIOCPKT */
    uint8_t packet_status;         /* TIOCPKT_* to be reported */

    struct ktermios termios;
    struct tty_winsize window;
    int32_t session, foreground;   /* 0: none */
    uint32_t pending_signals;      /* bit n: signal n for `pending_group` when the lock is released */
    int32_t pending_group;

    /* Input: [tail, head) of the ring. In canonical mode only [tail, canon_head) can be read: whole lines, the last byte of each marked. */
    char *input;
    uint32_t head, canon_head, tail; /* running counts; wrap is harmless, the ring is a power of two */
    uint64_t line_ends[TTY_INPUT_SIZE / 64];
    bool literal_next, erasing;
    uint32_t column, canon_column; /* of the cursor; where the line being edited began */

    /* Output: what programs wrote and the echo, after OPOST. */
    char *output;
    uint32_t output_head, output_tail;
    bool draining;                 /* somebody writes to the host just now */
    bool backlog;                  /* the host takes no more; the pump waits for it */

    struct wait_queue readable, writable;               /* slave side */
    struct wait_queue master_readable, master_writable; /* the other one; master_readable wakes the pump too */

    uint32_t terminal;             /* host terminals: number of the program started (token) */
    bly_handle host_input, host_output;
};

/* lx_kernel->tty */
struct tty_roots {
    struct lock lock;              /* guards terminals */
    struct tty *terminals[TTY_MAXIMUM];
    struct superblock *devpts;
    struct dentry *devpts_root;    /* of its mount: a process in another root opens its terminals all the same */
    struct tty *main;              /* the terminal of the sandbox, or NULL */
};
static inline struct tty_roots *tty_roots(void) { return lx_kernel->tty; }

/* terminal.c */
struct tty *tty_create(bool pseudo); /* one reference; NULL: no memory or no number left */
struct tty *tty_get(uint32_t number);  /* with a reference; NULL */
void tty_lock(struct tty *tty);
void tty_unlock(struct tty *tty);      /* sends the signals noted meanwhile, and writes output to the host's terminal */
void tty_signal(struct tty *tty, int signal); /* notes one for the foreground group */
void tty_window_set(struct tty *tty, const struct tty_winsize *size);
void tty_hang_up(struct tty *tty);     /* no lock held */
void tty_end_input(struct tty *tty);   /* no lock held */
/* The slave side opened: a new open file. */
int tty_open(struct tty *tty, struct inode *inode, struct dentry *dentry, unsigned flags, struct open_file **out_file);
long tty_common_ioctl(struct tty *tty, struct open_file *file, bool master, unsigned request, uint64_t argument);

/* discipline.c; tty.lock held */
uint32_t tty_receive(struct tty *tty, const char *bytes, uint32_t count); /* returns how many were taken */
uint32_t tty_input_room(const struct tty *tty);
bool tty_input_ready(const struct tty *tty, bool for_poll);
void tty_flush_input(struct tty *tty);
void tty_mode_changed(struct tty *tty, const struct ktermios *old);
int64_t tty_read(struct open_file *file, struct io_buffer *to, int64_t *position); /* takes the lock */

/* output.c; tty.lock held */
static inline uint32_t tty_output_used(const struct tty *tty) { return tty->output_tail - tty->output_head; }
static inline uint32_t tty_output_room(const struct tty *tty) { return TTY_OUTPUT_SIZE - tty_output_used(tty); }
uint32_t tty_put(struct tty *tty, const char *bytes, uint32_t count, uint32_t reserve); /* after OPOST; returns how many were taken */
void tty_put_processed(struct tty *tty, char byte); /* echo: lost when there is no room */
void tty_put_raw(struct tty *tty, char byte);
void tty_flush_output(struct tty *tty);
void tty_stop(struct tty *tty);
void tty_start(struct tty *tty);
void tty_drain(struct tty *tty);       /* no lock held: what the host takes now */
int64_t tty_write(struct open_file *file, struct io_buffer *from, int64_t *position); /* takes the lock */

/* control.c; no lock held */
/* Whether the calling process may do what only the foreground may: 0, -EIO, -ERESTARTSYS (after `signal` went to its group). */
int tty_check_foreground(struct tty *tty, int signal);
void tty_open_controlling(struct tty *tty, unsigned flags);
int tty_take_controlling(struct tty *tty, bool steal, bool readable); /* TIOCSCTTY */
int tty_give_up(struct tty *tty);                                     /* TIOCNOTTY */
long tty_get_group(struct tty *tty, bool master, uint64_t argument);
long tty_set_group(struct tty *tty, uint64_t argument);
long tty_get_session(struct tty *tty, bool master, uint64_t argument);
void tty_forget_session(struct tty *tty, int32_t session);           /* nobody of the session has it any more */
struct tty *tty_of_process(void);      /* the caller's controlling terminal, with a reference; NULL */

/* pty.c */
int ptmx_open(struct inode *inode, struct dentry *dentry, unsigned flags, struct open_file **out_file);
/* devpts.c */
int devpts_mount(void);
int devpts_open_node(struct tty *tty, unsigned flags, struct open_file **out_file); /* /dev/pts/N of it */
/* device.c */
#define TTY_MAJOR_PTS 136

#endif
