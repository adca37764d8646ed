/* Standard streams of a program. What may be handed into the sandbox as it is (regular files, pipes, /dev/null) becomes a handle; terminals,
 * sockets and whatever else are relayed through pipes: the sandbox never holds them. */
#ifndef MONITOR_RELAY_H
#define MONITOR_RELAY_H

#include <bailey/start.h>
#include <base/screen.h>
#include <monitor/handles.h>
#include <monitor/loop.h>
#include <stdbool.h>
#include <stddef.h>
#include <termios.h>

#define MON_RELAY_BUFFER 16384u

/* One direction: from -> buffer -> to. Its own descriptors; both non-blocking or used so. */
struct mon_relay {
    struct mon_loop *loop;
    struct mon_watch from, to;
    bool from_is_socket, to_is_socket;
    bool from_is_terminal;   /* read only while we are in its foreground */
    bool from_is_file;       /* cannot be waited for: read whenever there is room */
    bool from_ended;         /* end of input, or nobody reads any more */
    bool active;
    bool held;               /* nothing is moved until it is let go */
    struct mon_timer retry;  /* while in the background */
    size_t start, end;
    unsigned char *buffer;   /* at least MON_RELAY_BUFFER */
    void (*on_data)(void *context, const unsigned char *data, size_t size); /* sees what was read; may be NULL */
    void (*on_hang_up)(void *context); /* the terminal that it reads is gone; may be NULL */
    void *context;
};

/* What the program gets, and what the monitor does for it. */
struct mon_stdio {
    struct mon_loop *loop;
    struct bly_start_stream standard[3];   /* for the start information */
    bly_handle terminal_input, terminal_output;
    bool terminal;
    int given[5];       /* descriptors for the sandbox, at the handles standard[0..2], terminal_input, terminal_output; -1: none or same */
    unsigned given_kinds[5];               /* what these are, for the host layer: enum bly_kind */
    int input;          /* the program's end of its standard input, for who suspends it; -1: none */
    struct mon_relay relays[3];
    int terminal_descriptor; /* the user's terminal, when raw mode is on or sizes are asked for; -1 */
    bool raw;
    bool draws;              /* on that terminal, what the program writes */
    struct screen screen;    /* that it draws; followed by who hears relays[1] */
    bool abandoned;          /* nobody wants the rest of the output: mon_stdio_drain gives up */
    struct termios saved;
};

/* Decides about each of the three descriptors (-1: not given) and prepares the relays. `keep_masters`: the handle table keeps the descriptors
 * for FETCH (a program started later); otherwise they are in `given` for the launch. */
int mon_stdio_open(struct mon_stdio *stdio, struct mon_loop *loop, struct mon_handles *handles, const int standard[3], bool terminal,
                   bool keep_masters) __attribute__((warn_unused_result));
/* The streams of a resumed sandbox: under the handles that they had, and of the kinds that its programs take them for, whatever `standard` is
 * now: a pipe stays one, which is relayed where need be; what was a file is that again only if there is one. */
struct mon_stdio_saved {
    bly_handle handles[5]; /* of standard[0..2], terminal input and output; BLY_NO_HANDLE: it had none */
    uint32_t kinds[5];
    int input;             /* the file that was standard input, opened again; -1: none */
    bool has_input;        /* that, or another file is given */
    const void *unread;    /* input that it had not read yet: it comes before what `standard` gives */
    size_t unread_size;
    uint32_t modes;        /* of the terminal that it draws on: base/screen.h */
    bool ended;            /* then comes its end, unless a pipe or a file is given now */
};
int mon_stdio_resume(struct mon_stdio *stdio, struct mon_loop *loop, struct mon_handles *handles, const int standard[3], bool terminal,
                     bool keep_masters, const struct mon_stdio_saved *saved) __attribute__((warn_unused_result));
/* The sandbox has its ends: closes ours of them, begins to relay. */
int mon_stdio_start(struct mon_stdio *stdio) __attribute__((warn_unused_result));
/* Delivers what the sandbox has written, for `timeout_ms` at most; what is left then is abandoned. */
void mon_stdio_drain(struct mon_stdio *stdio, int timeout_ms);
/* What is said next to the user begins a line, whatever the program was writing. */
void mon_stdio_end_line(struct mon_stdio *stdio);
/* Restores the terminal, stops relaying, closes everything and the handles. */
void mon_stdio_close(struct mon_stdio *stdio, struct mon_handles *handles);
/* Size of the user's terminal; false when there is none. */
bool mon_stdio_window_size(const struct mon_stdio *stdio, uint16_t *out_rows, uint16_t *out_columns);
/* Raw mode on and off: also around being stopped. False: not on, because the terminal is another's: we are in its background. */
bool mon_stdio_raw(struct mon_stdio *stdio, bool on);
/* Bytes for the program that it has not taken yet. */
size_t mon_stdio_unread(const struct mon_stdio *stdio);
/* While it is held nothing more is taken from outside for the program, nor given to it. */
void mon_stdio_hold_input(struct mon_stdio *stdio, bool held);

#endif
