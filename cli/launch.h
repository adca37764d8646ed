/* What `bailey run`, `exec` and `policy` share: reading the options that describe a sandbox, and
 * values as users write them. */
#ifndef CLI_LAUNCH_H
#define CLI_LAUNCH_H

#include <cli/command.h>
#include <monitor/policy.h>
#include <stdbool.h>
#include <stdint.h>

/* The options of a run, in the order policy file, command line: what is built here is completed by
 * launch_complete. */
struct launch {
    struct mon_policy policy;
    bool directory_given; /* by -w: `-v .` then leaves it */
};
#define cleanup_launch __attribute__((cleanup(launch_free)))
void launch_free(struct launch *launch);

/* The options that describe a sandbox; `bailey run` takes these. */
extern const struct option_help launch_options[];
/* Reads options and the program's words. 0; 1 when help was printed; negative with `error`. */
int launch_read(struct launch *launch, const struct command *command, int argc, char **argv,
                struct error *error);
/* Adds what was not said: environment, working folder, root; then checks all. policy.name is set.
 */
int launch_complete(struct launch *launch, struct error *error);

int launch_parse_boolean(const char *option, const char *text, bool *out_value,
                         struct error *error); /* NULL is true */
bool launch_has_terminal(void);                /* standard input and output are terminals */

#endif
