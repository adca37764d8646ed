/* A further program in a running sandbox, for `bailey exec` and for commands that let a program
 * inside do the work (cp). */
#ifndef CLI_EXEC_H
#define CLI_EXEC_H

#include <base/error.h>
#include <base/text.h>
#include <stdbool.h>
#include <stdint.h>

struct exec_request {
    struct text_list arguments, environment;
    char *directory; /* NULL: the first program's */
    uint32_t user, group;
    bool terminal;
    bool no_input; /* standard input is not given */
};
void exec_request_free(struct exec_request *request);
/* Waits for its end. Returns its exit status, or negative with `error`. */
int exec_in_sandbox(const char *name, const struct exec_request *request, const int standard[3],
                    struct error *error);

#endif
