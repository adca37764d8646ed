/* Running a sandbox in the calling process, which becomes its monitor. */
#ifndef CLI_RUN_H
#define CLI_RUN_H

#include <base/error.h>
#include <cli/launch.h>

/* Returns the exit status, or negative with `error`. */
int run_sandbox(struct launch *launch, struct error *error);
/* In a child, which goes on in the background; prints the sandbox's name once its program runs. */
int run_detached(struct launch *launch, struct error *error);
/* Descriptors 0 to 2 exist from here on, so that no file of ours ever gets a standard number. */
void run_fill_standard(void);

#endif
