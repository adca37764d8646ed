/* A sandbox that moves to another machine. Its client (`bailey migrate`) talks to the other side; the monitor gives the image and keeps the
 * original. Its invariant is that the sandbox goes on here in all cases but two: it was told that it runs there; or it was told that
 * the other side may be about to let it go on there, and not yet what came of it. */
#ifndef MONITOR_SUSPENSION_MIGRATE_H
#define MONITOR_SUSPENSION_MIGRATE_H

#include <base/error.h>
#include <monitor/control.h>

struct mon_sandbox;

/* In the main thread. `peer`, a stream socket that the image goes to, is the callee's. `where` is for messages; `flags`: enum
 * control_suspend_flags. */
int mon_migrate_begin(struct mon_sandbox *sandbox, int peer, const char *where, uint32_t flags, struct error *error)
    __attribute__((warn_unused_result));
/* What the client orders next. A negative errno: it is not the time for that. */
int mon_migrate_order(struct mon_sandbox *sandbox, enum control_move_order order, struct error *error) __attribute__((warn_unused_result));

#endif
