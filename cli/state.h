/* The state folder: one private folder for each sandbox of this user, in XDG_RUNTIME_DIR/bailey or,
 * where there is none, in /dev/shm/bailey-UID (memory, as it should be: what it tells of ends with
 * the machine) or /tmp/bailey-UID.
 *
 *   NAME/state.json   what `bailey ps` shows. Locked (fcntl) by the monitor as long as it lives:
 * the one truth about "running" NAME/control      its control socket NAME/log          what Bailey
 * said, and the output of a detached program
 *
 * A folder appears and disappears only under the lock of the whole (`.lock`), so that nobody takes
 * a sandbox that is just starting for a dead one. */
#ifndef CLI_STATE_H
#define CLI_STATE_H

#include <base/error.h>
#include <base/text.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum sandbox_status {
    SANDBOX_RUNNING,
    SANDBOX_EXITED,
    SANDBOX_SUSPENDED, /* it ended as an image: its name is free, for the image resumed or another
                        */
    SANDBOX_DIED       /* its monitor ended without a word */
};
struct sandbox {
    char *name;
    enum sandbox_status status;
    pid_t pid;           /* the monitor; 0 when not running */
    uint64_t start_time; /* of that process, in clock ticks since boot (proc(5), stat field 22) */
    int64_t created, ended; /* seconds since 1970; ended 0 while running */
    int exit_status;        /* as `bailey run` would have ended */
    bool detached;
    bool keep;      /* stays listed after its end */
    bool suspended; /* it ended as an image */
    struct text_list command;
};
#define cleanup_sandbox __attribute__((cleanup(sandbox_free)))
void sandbox_free(struct sandbox *sandbox);
struct json;
void sandbox_write_json(const struct sandbox *sandbox, struct json *json);
const char *sandbox_status_name(enum sandbox_status status);

/* For the process that becomes the monitor. `name` NULL: one is made up. The lock lasts as long as
 * this process; the descriptor of the folder is kept. */
struct state_entry {
    char *name, *path;
    int folder, state;
};
int state_create(struct state_entry *entry, const char *name, const struct sandbox *about,
                 struct error *error);
/* The sandbox ended: keeps or removes the entry. */
void state_finish(struct state_entry *entry, struct sandbox *about, int exit_status);

bool state_name_is_valid(const char *name);
/* All sandboxes by age. What a dead monitor left and nobody wants to keep is removed on the way. */
int state_list(struct sandbox **out_sandboxes, size_t *out_count, struct error *error);
/* One by name. -ENOENT with a message that names what there is. */
int state_find(const char *name, struct sandbox *out_sandbox, struct error *error);
/* As state_find; not running is an error. */
int state_find_running(const char *name, struct sandbox *out_sandbox, struct error *error);
int state_remove(const char *name, struct error *error);
/* The path of a file in a sandbox's folder. */
char *state_file_path(const char *name, const char *file);
/* Connects to the sandbox's control socket. */
int state_connect(const char *name, int *out_socket, struct error *error);

#endif
