/* The control socket of a running sandbox: how `bailey exec`, attach, wait, stop, ... reach its
 * monitor.
 *
 * A Unix socket `control` in the sandbox's state folder, SOCK_SEQPACKET: one struct control_message
 * a packet, with `size` bytes of payload; descriptors come with EXECUTE, SUSPEND and MOVE only. Both sides
 * check that the other is the same user (or root). A client that misbehaves loses its connection
 * and nothing else. All is served in the monitor's loop; nothing here blocks.
 *
 * The monitor opens it after its loop, tells it what happens to programs, and closes it last. */
#ifndef MONITOR_CONTROL_H
#define MONITOR_CONTROL_H

#include <base/error.h>
#include <base/screen.h>
#include <base/text.h>
#include <monitor/loop.h>
#include <monitor/policy/policy.h>
#include <stdbool.h>
#include <stdint.h>

/* ---- For the monitor ---- */

/* A further program for the sandbox. The strings live until the call returns; the descriptors are
 * the callee's to keep or close, also when it fails. */
struct mon_execute {
    const char *program, *directory; /* directory: "" is the main program's */
    struct text_list arguments, environment;
    uint32_t user, group;
    bool terminal;
    uint16_t rows, columns;
    int standard[3]; /* -1: not given */
};
enum control_suspend_flags {
    SUSPEND_KEEP_RUNNING = 1, /* of SUSPEND only */
    SUSPEND_SELF_CONTAINED = 2, /* open host files with their contents */
    SUSPEND_HASH_FILES = 4, /* the sums of open host files, to be compared when resumed */
    SUSPEND_FLAGS = 7,
    SUSPEND_LAZILY = 8 /* of MOVE only: most memory goes after the sandbox */
};
/* A move of the sandbox to another machine (monitor/suspension/migrate.h): how far it is, and what its client
 * orders. */
enum control_move_state {
    MOVE_BEGUN,
    MOVE_OFFERED,  /* the offer is written */
    MOVE_STOPPING, /* the last round begins */
    MOVE_WRITTEN,  /* the image is written; it stands still */
    MOVE_COMMITTED, /* it stands still until STAY or LEAVE, whatever happens */
    MOVE_SERVED     /* lazily: all of its memory has been given away */
};
enum control_move_order {
    MOVE_NO_ORDER,
    MOVE_GO,     /* when OFFERED: write the image */
    MOVE_COMMIT, /* when WRITTEN: from now on it may go on elsewhere */
    MOVE_RUNNING, /* from COMMITTED on: lazily, it runs there; only to be noted */
    MOVE_STAY,   /* from COMMITTED on: it does not, and goes on here */
    MOVE_LEAVE   /* from COMMITTED on: it does, and ends here */
};
struct mon_control_operations {
    /* Starts the program under `token` (never 0). Later the monitor calls mon_control_started or
     * mon_control_failed, and mon_control_ended. A negative errno refuses at once. */
    int (*execute)(void *context, uint32_t token, const struct mon_execute *request,
                   struct error *error);
    void (*signal)(void *context, uint32_t token, int signal); /* token 0: the main program */
    void (*window_size)(void *context, uint32_t token, uint16_t rows, uint16_t columns);
    /* The main program's terminal is this large and shows nothing of what it has drawn. */
    void (*draw_again)(void *context, uint16_t rows, uint16_t columns);
    void (*stop)(void *context, uint32_t grace_ms); /* SIGTERM to all, then SIGKILL */
    void (*trace)(void *context, uint32_t flags);   /* BLY_START_TRACE_*; 0: off */
    void (*list)(void *context);                    /* answered by mon_control_listing */
    /* Whoever asked the monitor to move the sandbox gets mon_control_moving, and at the end
     * mon_control_suspended. `peer` is the callee's. */
    int (*move)(void *context, int peer, const char *where, uint32_t flags, struct error *error);
    int (*move_order)(void *context, enum control_move_order order, struct error *error);
    /* Answered by mon_control_suspended, unless a negative errno refuses at once. `base_path` may be NULL; `base` is
     * the callee's. */
    int (*suspend)(void *context, const char *path, uint32_t flags, const char *base_path, int base,
                   struct error *error);
    void (*cancel_suspension)(void *context);
    void (*inspect)(
        void *context,
        struct text *out_json); /* one JSON object: what the monitor counts; may be NULL */
};

struct mon_control;
/* Listens in policy->state_path (with none, only relays a detached program's streams). When
 * policy->detach, `standard` is replaced by the ends of pipes that control keeps the other ends of
 * (for the log and for attach): the program's streams are then those. */
int mon_control_open(struct mon_control **out_control, struct mon_loop *loop,
                     const struct mon_policy *policy,
                     const struct mon_control_operations *operations, void *context,
                     int standard[3], struct error *error) __attribute__((warn_unused_result));
#define CONTROL_READY_SIZE 64u /* of the name that is written to policy->ready_descriptor */
/* What the sandbox reported, by token; 0 is the main program. `status` as wait(2) encodes it. */
void mon_control_started(struct mon_control *control, uint32_t token, int guest_pid);
void mon_control_ended(struct mon_control *control, uint32_t token, int status);
void mon_control_failed(struct mon_control *control, uint32_t token, int code, const char *text);
/* Lines of a process listing; `last` ends it. */
void mon_control_listing(struct mon_control *control, const char *text, size_t size, bool last);
/* How far a suspension is, in bytes of memory; and its end: `code` is 0, or a negative errno with
 * `text`. */
struct control_suspended;
void mon_control_progress(struct mon_control *control, uint64_t done, uint64_t expected);
/* A suspension. Who is attached is asked to send no input, or may send it again. */
void mon_control_pause_input(struct mon_control *control, bool paused);
/* Adds to `out` what they sent and the program was not given; until the pause is over no more is taken and given. True: they ended it. */
bool mon_control_stop_input(struct mon_control *control, struct text *out);
/* Input that a resumed program had not read. False: there is no console that takes it. */
bool mon_control_give_input(struct mon_control *control, const void *data, size_t size, bool ended);
/* `obstacles` may be NULL. */
void mon_control_moving(struct mon_control *control, enum control_move_state state,
                        const char *obstacles);
void mon_control_suspended(struct mon_control *control, int code, const char *text,
                           const struct control_suspended *report);
/* True while a `bailey trace` listens: then trace lines come here. */
bool mon_control_traced(const struct mon_control *control);
void mon_control_trace_line(struct mon_control *control, const char *text, size_t size);
/* Into the sandbox's log; nothing before the control was opened. */
void mon_control_log(struct mon_control *control, const char *line, size_t size);
/* What a detached program draws on. */
struct screen *mon_control_screen(struct mon_control *control);
/* Programs started under tokens of earlier generations may run in it. */
void mon_control_begin_generation(struct mon_control *control, uint32_t generation);
/* Writes out what is left, answers those who wait with the main program's status, or with `became`
 * where it has not ended ("it was suspended to FILE"; else NULL), takes the socket away. */
void mon_control_close(struct mon_control *control, int status, const char *became);

/* ---- For both sides: the wire ---- */

#define CONTROL_VERSION 1u
#define CONTROL_SOCKET "control"
#define CONTROL_PAYLOAD_MAX 131072u

enum control_kind {
    /* client to monitor */
    CONTROL_EXECUTE = 1, /* payload: struct control_execute and its strings; three descriptors.
                            Answers: STARTED or ERROR, then ENDED */
    CONTROL_ATTACH, /* answers: STARTED (value: it has a terminal), OUTPUT..., ENDED. value 1: with
                       input (INPUT messages then go to the program) */
    CONTROL_WAIT,   /* answer: ENDED, when the main program ended */
    CONTROL_STOP,   /* value: grace in ms. Answer: ENDED as WAIT */
    CONTROL_SIGNAL, /* value: signal, to the main program, or after EXECUTE on the same connection
                       to that program. Answer: DONE */
    CONTROL_WINDOW_SIZE, /* rows, columns; after EXECUTE or ATTACH. No answer */
    CONTROL_TRACE,   /* value: flags; answers: LINES until the connection closes, which turns it off
                      */
    CONTROL_LIST,    /* answers: LINES..., DONE */
    CONTROL_INSPECT, /* answer: LINES (a JSON object), DONE */
    CONTROL_INPUT,   /* after ATTACH: bytes for standard input; size 0: end */
    CONTROL_SUSPEND, /* value: enum control_suspend_flags; payload: the image's absolute path,
                        without a NUL. When it is based on another one: that one's path, after a NUL;
                        and one descriptor, what it holds (image/flat.h). Answers: PROGRESS..., then DONE with a struct control_suspended, or ERROR.
                        When the connection ends before, it runs on */
    CONTROL_MOVE,       /* value: enum control_suspend_flags; one descriptor: a stream socket for the
                           frames of the image (image/frame.h); payload: whereto, without a NUL.
                           Answers: MOVING and PROGRESS..., then DONE or ERROR as after SUSPEND */
    CONTROL_MOVE_ORDER, /* value: enum control_move_order. Refused by ERROR; from another connection
                           than MOVE's STAY and LEAVE only, answered by DONE */
    /* monitor to client */
    CONTROL_DONE = 64,
    CONTROL_ERROR,   /* value: negative errno; payload: text */
    CONTROL_STARTED, /* value: guest pid */
    CONTROL_ENDED,   /* value: wait status */
    CONTROL_OUTPUT,  /* value: 1 or 2; payload: bytes */
    CONTROL_LINES,   /* payload: text */
    CONTROL_PROGRESS, /* payload: struct control_progress */
    CONTROL_MOVING,   /* value: enum control_move_state; payload of OFFERED: why it cannot be
                         carried, a line each, if so */
    CONTROL_PAUSE     /* after ATTACH: value 1: no INPUT may be sent; 0: it may again */
};
struct control_message {
    uint32_t version;
    uint32_t kind;
    int32_t value;
    uint16_t rows, columns;
    uint32_t size; /* of the payload, which follows */
    uint32_t reserved;
};
/* Payload of EXECUTE: this, then the program, the directory ("": the first program's), the
 * arguments and what is to be different in the environment, each NUL-terminated. */
struct control_execute {
    uint32_t argument_count, environment_count;
    uint32_t user, group;
    uint32_t terminal;
    uint32_t standard; /* bit n: standard stream n is among the descriptors */
};

/* Payloads of PROGRESS, and of DONE after SUSPEND. */
struct control_progress {
    uint64_t done, expected; /* bytes of memory; `expected` is an estimate */
};
struct control_suspended {
    uint64_t memory_size; /* bytes of memory that the image holds */
    uint64_t named_size;  /* and those that its base has */
    uint64_t pause_ns,
        total_ns; /* how long the sandbox stood still, and until the image was there */
    /* Of a move: rounds while it ran, bytes of the last one, in which it stood still, and how long
     * it took to give these away. */
    uint64_t rounds, last_size, write_ns;
};

/* One packet. `descriptors` may be NULL. */
int control_send(int socket, const struct control_message *message, const void *payload,
                 const int *descriptors, size_t descriptor_count)
    __attribute__((warn_unused_result));
/* Receives one packet into `payload` (CONTROL_PAYLOAD_MAX bytes). Up to three descriptors are
 * stored; the rest of `out_descriptors` is -1; NULL drops them. Returns 1, 0 at the end of the
 * connection, or negative errno (-EPROTO: malformed). */
int control_receive(int socket, struct control_message *out_message, void *payload,
                    int out_descriptors[3]) __attribute__((warn_unused_result));
/* True when the peer is this user, or root. */
bool control_peer_is_trusted(int socket);

#endif
