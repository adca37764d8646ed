/* The audit log: one JSON line for each decision about a name. Answered from the personality's caches, a later use of the
 * same name asks nobody and leaves no line. Kept in a buffer and written by whichever thread fills it, so that a decision costs
 * no system call; flushed at the end and by the main loop. */
#ifndef MONITOR_AUDIT_H
#define MONITOR_AUDIT_H

#include <stdint.h>

struct mon_audit;
struct mon_name;
struct mon_policy;
struct error;

enum mon_audit_access { MON_AUDIT_READ, MON_AUDIT_WRITE };

/* *out_audit is NULL when the policy wants none; all functions take NULL. */
int mon_audit_open(const struct mon_policy *policy, struct mon_audit **out_audit, struct error *error)
    __attribute__((warn_unused_result));
void mon_audit_close(struct mon_audit *audit);

/* `result` is 0 or the negative errno that was answered. */
void mon_audit_name(struct mon_audit *audit, const char *operation, const struct mon_name *name, enum mon_audit_access access,
                    int64_t result);
/* A write that the sandbox says it refused by itself. */
void mon_audit_refused(struct mon_audit *audit, const char *guest_path, int error);
/* Start and end of the sandbox, programs started: {"event":..., "text":...}. */
void mon_audit_event(struct mon_audit *audit, const char *event, const char *text, int64_t value);
void mon_audit_flush(struct mon_audit *audit);

#endif
