/* What `bailey run`, `exec` and `policy` share: reading the options that describe a sandbox, and
 * values as users write them. */
#ifndef CLI_LAUNCH_H
#define CLI_LAUNCH_H

#include <cli/command.h>
#include <monitor/policy/policy.h>
#include <stdbool.h>
#include <stdint.h>

/* The options of a run, in the order policy file, command line: what is built here is completed by
 * launch_complete. */
struct mon_resume;
struct launch {
    struct mon_policy policy;
    bool directory_given;            /* by -w: `-v .` then leaves it */
    const struct mon_resume *resume; /* goes on from an image, and the policy is complete; NULL */
    bool as_json;                    /* of a resumed one: its name is printed so */
    bool name_given;                 /* of a resumed one: by --name, else it has the image's */
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

#define LAUNCH_PROCESS_LIMIT 4096u                 /* where nothing was said */
void launch_set_limits(struct mon_policy *policy); /* as above, these only */
uint64_t launch_default_memory_limit(void);
int launch_check_name(const char *name, struct error *error); /* that of a sandbox */
int launch_parse_boolean(const char *option, const char *text, bool *out_value,
                         struct error *error); /* NULL is true */
bool launch_has_terminal(void);                /* standard input and output are terminals */

#endif
