/* The standard outputs of a command that waits for a program (exec, attach). Invariant: while their
 * reader keeps us waiting, signals are heard and passed on; and once one has told us to end, nobody
 * waits for more than a moment. */
#ifndef CLI_OUTLET_H
#define CLI_OUTLET_H

#include <base/screen.h>
#include <stdbool.h>
#include <stddef.h>

struct outlets {
    int descriptors[3]; /* of outputs 1 and 2 */
    bool own[3];        /* descriptions of ours, which do not block */
    int signals;        /* a signalfd */
    /* Takes one signal from `signals`. True: it tells us to end. */
    bool (*take_signal)(void *context);
    void *context;
    bool told_to_end; /* set by us and by who else takes signals */
    bool draws;       /* on a terminal: it is given back as it was */
    struct screen screen;
    bool given_up;    /* the reader was waited for in vain: what it does not take at once is lost */
};

void outlets_open(struct outlets *outlets, const int standard[3]);
void outlets_write(struct outlets *outlets, int which, const void *data, size_t size);
/* Gives the terminal back as it was. `end_line`: what is said next begins a line. */
void outlets_leave(struct outlets *outlets, bool end_line);
void outlets_close(struct outlets *outlets);

bool signal_tells_to_end(unsigned number);

#endif
