/* A suspension that is under way, for the files that carry it out: suspend.c into a file, migrate.c to another machine. See suspend.h and
 * the invariants in suspend.c. */
#ifndef MONITOR_SUSPENSION_SUSPENSION_H
#define MONITOR_SUSPENSION_SUSPENSION_H

#include "monitor/sandbox.h"
#include "monitor/suspension/suspend.h"

#include <pthread.h>

struct mon_suspension {
    struct mon_sandbox *sandbox;
    char *path; /* the image; or whereto it moves */
    bool keep_running;
    struct mon_saving saving; /* the thread's */
    char *base_path; /* the image that this one is based on; NULL: none */
    int base;        /* what it holds, in its flat form */
    bool lazily; /* of a migration: most memory goes after the sandbox */
    int peer; /* of a migration (migrate.c): where its image is sent; -1: none */
    pthread_t thread;
    _Atomic uint64_t written, expected;
    int event; /* eventfd: the thread has news */

    pthread_mutex_t lock; /* guards until the next blank line */
    pthread_cond_t changed;
    const char *cancelled; /* why */
    bool quiet;            /* asked to be quiet and not told to go on */
    bool committed, is_through;
    bool wants_input, has_input;   /* what was typed is to be collected; it is, in `input` */
    bool wants_hold;               /* a migration: what is for the sandbox is to be held, since it will be asked to be quiet; */
    bool may_stop;                 /* it is */
    bool ending;                   /* of the sandbox: nothing is waited for any more */
    enum control_move_order order; /* the last one of a migration's client */
    enum control_move_state state; /* how far it is: raised by the thread, */
    enum control_move_state told;  /* and told by the main thread */
    bool has_answer, no_answer; /* no_answer: none is waited for any more */
    int answer;
    uint32_t *ids;
    size_t id_count;
    char text[512];

    /* The main thread's. */
    struct mon_watch watch;
    struct mon_timer timer; /* tells the client how far it is */
    bool holds;             /* what is for the sandbox waits here: */
    struct text held;
    struct text input;      /* of the record MON_IMAGE_INPUT; the thread's once has_input is set */
    size_t input_in_pipe;   /* so many of its bytes lie in the program's pipe */

    /* The thread's until it is through. */
    char *obstacles;             /* a migration's: what cannot be carried, a line each; told with MOVE_OFFERED. NULL: nothing */
    struct mon_behind *later;     /* a lazy migration's: memory that is given away after it has gone on there; NULL: none */
    struct mon_memory *followed; /* a migration's: memory of which it is known what was written since the last round; NULL: none */
    uint64_t quiet_ns; /* when it was asked to be quiet */
    _Atomic uint64_t running_ns; /* when a lazy migration was told to run there; 0: not yet */
    int result;
    struct error error;
    struct control_suspended report;
};

/* ---- Steps of the thread; each returns 0, or a negative errno with `error` set. ---- */

int mon_suspension_progress(void *context, uint64_t bytes, struct error *error) __attribute__((warn_unused_result));
/* Asks for quiet (enum bly_quiesce_flags) and waits for the answer. */
int mon_suspension_quiesce(struct mon_suspension *suspension, uint32_t flags, struct error *error) __attribute__((warn_unused_result));
/* It need not stand still for what follows. */
void mon_suspension_go_on(struct mon_suspension *suspension);
/* Whose memory it is, after the answer. */
int mon_suspension_find_memory(struct mon_suspension *suspension, struct mon_memory **out_memory, bool *out_has_clones, struct error *error)
    __attribute__((warn_unused_result));
/* Bytes of the two segments. */
uint64_t mon_suspension_shared_size(const struct mon_sandbox *sandbox);
/* The records and the kernel heap; these and the bulk segment. */
int mon_suspension_write_records(struct mon_suspension *suspension, struct img_writer *writer, struct error *error)
    __attribute__((warn_unused_result));
int mon_suspension_write_shared(struct mon_suspension *suspension, struct img_writer *writer, struct error *error)
    __attribute__((warn_unused_result));
/* base.c: the files of the image that this one is based on, for as long as the writer is. */
struct mon_base {
    int file;
    struct img_reader *reader;
};
int mon_base_open(const struct mon_suspension *suspension, struct img_writer *writer, struct mon_base *out_base, struct error *error)
    __attribute__((warn_unused_result));
void mon_base_close(struct mon_base *base);
/* From here on no cancellation counts. -ECANCELED: one came before. */
int mon_suspension_commit(struct mon_suspension *suspension, struct error *error) __attribute__((warn_unused_result));
/* input.c: the record of what was taken from outside and not read inside. From then on nothing more is taken. */
int mon_suspension_write_input(struct mon_suspension *suspension, struct img_writer *writer, struct error *error)
    __attribute__((warn_unused_result));
void mon_suspension_tell_main_thread(const struct mon_suspension *suspension);
struct timespec mon_suspension_deadline(uint64_t ms);
/* What a cancelled one ends with. Caller holds the lock. */
int mon_suspension_refuse(const struct mon_suspension *suspension, struct error *error);

/* ---- In the main thread ---- */

/* Fills in the rest of what is zero, and starts the thread. Takes what `suspension` points to over, also when it fails. */
int mon_suspension_begin(struct mon_sandbox *sandbox, struct mon_suspension *suspension, struct error *error)
    __attribute__((warn_unused_result));

/* input.c: collects what the thread wants to write; the image has it, so that it is nowhere else; the sandbox goes on with it. */
void mon_input_collect(struct mon_suspension *suspension);
void mon_input_discard(const struct mon_suspension *suspension);
void mon_input_let_go(struct mon_suspension *suspension);

/* migrate.c: the thread's work. */
int mon_migrate(struct mon_suspension *suspension, struct error *error) __attribute__((warn_unused_result));
/* Tells the client how far it is. */
void mon_migrate_tell(struct mon_suspension *suspension);

#endif
