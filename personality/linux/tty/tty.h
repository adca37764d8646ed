/* Terminals: the line discipline, pseudo terminals, and the sandbox's own terminal. */
#ifndef LX_TTY_TTY_H
#define LX_TTY_TTY_H

#include "personality/linux/file.h"
#include "personality/linux/process/process.h"

/* ---- For the start and the control stream ---- */

/* A terminal of the host's: lx_dev_init makes the main one (start_info->terminal_input/output, number 0) by itself; this is for
 * programs that EXECUTE starts with one (`terminal`: their token). It is /dev/pts/N inside. NULL: no memory. */
struct tty *lx_tty_create(uint32_t terminal, bly_handle input, bly_handle output, uint16_t rows, uint16_t columns);
/* An open file of the caller's controlling terminal, else of the main one, for standard streams. NULL: no memory or no terminal. */
struct open_file *tty_open_terminal(unsigned flags);
struct tty *tty_ref(struct tty *tty);
void tty_unref(struct tty *tty); /* NULL is fine; no lock held */
/* An open file of this one. NULL: no memory. */
struct open_file *tty_open_this(struct tty *tty, unsigned flags);
/* Thread of init that carries bytes from the host's terminal into the line discipline, until it hangs up; one a terminal.
 * Argument: a struct tty * of lx_tty_create (whose reference it takes over), or NULL for the main one. */
_Noreturn void lx_tty_pump(void *argument);
/* BLY_CONTROL_WINDOW_SIZE. Terminal 0 is the main one. */
void lx_tty_window_size(uint32_t terminal, uint16_t rows, uint16_t columns);
/* Resume: the program in the foreground of the sandbox's terminal draws its screen anew. */
void tty_tell_resumed(void);
void tty_resume_window(uint16_t rows, uint16_t columns); /* while all stand still: the size of the user's terminal now; 0: there is none */
int lx_tty_init(void);
/* Populates /dev; after vfs_mount_start. */
int lx_dev_init(void);
/* Makes the sandbox's terminal the controlling one of the calling process, a session leader. */
int tty_make_controlling_terminal(struct open_file *file);

/* ---- For processes ---- */

/* lx_process.tty is no reference: it is set and cleared under process_table.lock, and a terminal that hangs up is taken from every
 * process of its session before it goes. The leader of a session has ended: hang-up for the foreground group, and nobody of the
 * session has the terminal any more. No lock held. */
void lx_tty_session_ended(struct lx_process *leader);
/* For /proc/PID/stat: device number and foreground group; 0 and -1 without a terminal. */
uint64_t tty_device(const struct tty *tty);
int32_t tty_foreground_group(const struct tty *tty);

#endif
