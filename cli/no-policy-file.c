/* In the place of monitor/policy/file.c, where the library for it is not linked. */
#include <base/error.h>
#include <errno.h>
#include <monitor/policy/policy.h>

int mon_policy_read_file(struct mon_policy *policy, const char *path, struct error *error)
{
    error_set(error, -ENOTSUP, "%s: the full program reads policy files", path);
    return error_exit_status(error, EXIT_HAND_OVER);
}
