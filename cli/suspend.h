/* Suspending a running sandbox, for the commands that do. */
#ifndef CLI_SUSPEND_H
#define CLI_SUSPEND_H

#include <base/error.h>
#include <monitor/control.h>
#include <stdbool.h>

/* Its monitor writes the image to `path`, which is absolute; `flags`: enum control_suspend_flags;
 * `base`: the image that it is to be based on, or NULL.
 * Shows how far it is. */
int suspend_sandbox(const char *name, const char *path, uint32_t flags, const char *base,
                    struct control_suspended *out_report, struct error *error)
    __attribute__((warn_unused_result));

#endif
