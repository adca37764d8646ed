/* Executing the full program. */
#include <cli/hand-over.h>

#include <base/cleanup.h>
#include <errno.h>
#include <monitor/installed.h>
#include <unistd.h>

int hand_over(char **argv, struct error *error)
{
    cleanup_free char *path = NULL;
    cleanup_close int program = mon_open_installed("bailey-full", &path, error);
    if (program < 0)
        return error_wrap(error, "a part of Bailey is missing");
    execv(path, argv);
    return error_set_errno(error, -errno, "cannot execute %s, the full program", path);
}
