/* The commands: one file each, one line each in the table of main.c. A command gets its own
 * arguments (argv[0] is its name) and returns the exit status of `bailey`; errors are printed by
 * main, once. */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include <base/error.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct option_help {
    char letter;          /* 0: none */
    const char *name;     /* long name */
    const char *argument; /* what its value is called; NULL: it takes none. In brackets: it may be
                             left out */
    const char *help;     /* one line */
};
/* Options end with an entry whose name is NULL. */
struct command {
    const char *name;
    const char *arguments; /* the synopsis after the options */
    const char *summary;   /* one line, no full stop */
    int (*run)(int argc, char **argv,
               struct error *error); /* >= 0: exit status; < 0: `error` is set */
    const struct option_help *options;
    const char *examples;      /* lines; NULL: none */
    bool options_end_at_first; /* what follows the first word that is no option belongs to another
                                  program */
};
extern const struct command *const commands[];
extern const size_t command_count;
const struct command *command_find(const char *name); /* NULL: there is none */

/* Reads options one by one, as getopt_long does, by the command's own table. `value` is set for
 * those that take one. Returns the option's entry; NULL at the end (then `words` is set) or with
 * `error` set. --help is answered here: it prints and sets `helped`. */
struct option_reader {
    const struct command *command;
    int argc;
    char **argv;
    int position;
    const char *cluster; /* within "-it" */
    const char *value;
    bool quiet; /* set by the caller: a first pass that prints no help and leaves argv as it is */
    bool helped;
    char **words; /* at the end: the words that are no options, NULL-terminated */
    int word_count;
    bool separated; /* `--` stood before the words */
};
const struct option_help *option_next(struct option_reader *reader, struct error *error);
void command_print_overview(FILE *out);
void command_print_help(const struct command *command);
/* The usual command: its only words are names; 0, or negative with `error` set. */
int command_expect_words(const struct option_reader *reader, int minimum, int maximum,
                         struct error *error);

/* Serves every word. The first failure is left in `error`, further ones are printed; returns it, or
 * the last positive answer. */
int command_for_each(const struct option_reader *reader,
                     int (*serve)(const char *name, void *context, struct error *error),
                     void *context, struct error *error);

/* One line about a sandbox for scripts: its name, and `value` under `key` unless that is NULL. */
void command_print_json(const char *name, const char *key, int64_t value);

/* {"KEY": line} for each of the lines. */
void command_print_json_lines(FILE *out, const char *key, const char *lines, size_t size);

extern const struct command command_run, command_ps, command_exec, command_attach, command_wait,
    command_stop, command_kill, command_rm, command_logs, command_cp, command_inspect,
    command_trace, command_suspend, command_resume, command_clone, command_image, command_policy,
    command_version, command_check, command_help, command_migrate, command_receive;

#endif
