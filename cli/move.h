/* Moving sandboxes between machines: what the commands migrate and receive ask for. The work needs
 * TLS, which only the full program has (hand-over.h): there these are done by move-source.c and
 * move-receive.c, elsewhere by no-move.c, which hands over. */
#ifndef CLI_MOVE_H
#define CLI_MOVE_H

#include <base/error.h>
#include <stdbool.h>
#include <stdint.h>

struct migrate_request {
    const char *name, *where, *key; /* where: HOST:PORT */
    bool dry_run, self_contained, hash_files, lazily, as_json;
    uint32_t patience_ms;
};
/* Exit status, or negative with `error`. */
int migrate_run(const struct migrate_request *request, struct error *error);

struct resumption;
struct receive_request {
    const char *where, *key;
    const char *name;   /* NULL: the one it had */
    const char *folder; /* for memory that arrives */
    uint64_t limit;     /* bytes of a sandbox's image; 0: by what is free in the folder */
    struct resumption
        *granted; /* what the operator gives to who comes; used up by a child for each */
    bool once;
    uint32_t patience_ms;
};
int receive_run(const struct receive_request *request, struct error *error);

/* "30": seconds, 5 to 3600. */
int move_parse_timeout(const char *command, const char *text, uint32_t *out_ms,
                       struct error *error);
#define MOVE_PATIENCE_MS 30000u

#endif
