/* Running a sandbox in the calling process, which becomes its monitor. */
#ifndef CLI_RUN_H
#define CLI_RUN_H

#include <base/error.h>
#include <cli/launch.h>

/* Returns the exit status, or negative with `error`. */
int run_sandbox(struct launch *launch, struct error *error);

#endif
