/* In the place of move-source.c and move-receive.c, where the library for TLS is not linked. */
#include <cli/move.h>

#include <errno.h>

static int hand_over_move(struct error *error)
{
    error_set(error, -ENOTSUP, "the full program moves sandboxes");
    return error_exit_status(error, EXIT_HAND_OVER);
}

int migrate_run(const struct migrate_request *request, struct error *error)
{
    return hand_over_move(error);
}

int receive_run(const struct receive_request *request, struct error *error)
{
    return hand_over_move(error);
}
