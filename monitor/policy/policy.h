/* The policy: all that one sandbox is given, as plain data. It is built by the command line and the
 * policy file, completed by the default root, checked once, and then only read: the monitor never
 * extends it. Every host path in it is absolute and resolved (no symbolic links left) when
 * mon_policy_check has passed. */
#ifndef MONITOR_POLICY_POLICY_H
#define MONITOR_POLICY_POLICY_H

#include <bailey/start.h>
#include <base/error.h>
#include <base/text.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define MON_PROCESS_LIMIT_MAX 32768u

/* Beside the flags of enum bly_mount_flags (which alone are passed on to the sandbox). */
enum mon_mount_flags {
    /* A part of the default view of the host: only what every user of the host may read is shown,
     * and nothing that mon_policy_denies names. An explicit grant (-v, --rootfs) shows all that the
     * operator may read. */
    MON_MOUNT_DEFAULT_VIEW = 0x10000
};
#define MON_STORE_PLACE "/.layer" /* what the audit calls the folder that keeps the layers; programs do not see it */
struct mon_mount {
    char *host_path;  /* of a folder, or of a file with BLY_MOUNT_FILE */
    char *guest_path; /* absolute, normalised */
    uint32_t flags;
};

/* What the root has without a host folder giving it; also hides what a mount has at that path. */
struct mon_node {
    char *path;
    enum bly_start_node_kind kind;
    uint32_t mode;
    char *content; /* a symbolic link's target, a file's text; else NULL */
};

struct mon_policy {
    /* What is seen. Parents before what lies below them. */
    struct mon_mount *mounts;
    size_t mount_count, mount_capacity;
    struct mon_node *nodes;
    size_t node_count, node_capacity;

    /* What is run. */
    char *program;                /* as the user named it */
    struct text_list arguments;   /* the program's name first */
    struct text_list environment; /* NAME=value */
    char *directory;              /* working folder in the sandbox */
    uint32_t user, group;

    char *name;      /* of the sandbox */
    char *host_name; /* uname inside */

    /* Limits; 0: none. */
    uint64_t memory_limit; /* bytes, the private layer included; 0: none */
    bool memory_given;     /* `memory_limit` was said; else it is decided by the host's memory */
    uint32_t process_limit;
    uint32_t open_file_limit;

    bool terminal;       /* the program gets a terminal of its own */
    bool terminal_given; /* `terminal` was said; else it is decided by whether there is one at both
                            ends */
    bool interactive;    /* standard input stays open although nobody is attached */
    bool detach;         /* the sandbox runs on without the command line that started it */
    bool read_only;      /* no writable layer, /tmp and /run excepted */
    bool remove_at_exit;
    bool no_patching;
    uint32_t migratable; /* --migratable: the level of x86-64 that programs see, 2 to 4; 0: the processor as it is */
    bool trace_syscalls, trace_abi;

    int ready_descriptor; /* > 0: control writes the sandbox's name there (CONTROL_READY_SIZE bytes)
                             when the main program runs */

    bool no_view;     /* no folder of the host is shown but what is granted (and links like /bin ->
                         usr/bin) */
    char *rootfs;     /* --rootfs: replaces the default view; NULL */
    char *audit_path; /* JSON lines; NULL: none */
    char *layer_path; /* --layer: where the private layer is kept; NULL: in memory */
    char *state_path; /* folder of this sandbox in the state folder, with its control socket and log
                         (what Bailey says about it, a detached program's output); NULL: it has none
                       */
};

/* Adds a grant; both paths are copied. A second mount at the same guest path replaces the first. */
void mon_policy_add_mount(struct mon_policy *policy, const char *host_path, const char *guest_path,
                          uint32_t flags);
void mon_policy_add_node(struct mon_policy *policy, enum bly_start_node_kind kind, const char *path,
                         uint32_t mode, const char *content);
const struct mon_mount *mon_policy_find_mount(const struct mon_policy *policy,
                                              const char *guest_path);
void mon_policy_free(struct mon_policy *policy);

/* Completes the policy with the root: the default view of the host, or `rootfs` alone, and /proc,
 * /tmp and so on. */
int mon_policy_add_root(struct mon_policy *policy, struct error *error);
/* Whether the grant is one that mon_policy_add_root makes of the host as the default view: what every
 * sandbox may see. */
bool mon_policy_is_view(const struct mon_mount *mount);
/* Resolves every host path, checks all of the policy and sorts the mounts; changes nothing on the
 * host. */
int mon_policy_check(struct mon_policy *policy, struct error *error);

/* Whether the processor here has the level that programs are to see, and it can be shown to them. */
struct mon_features;
int mon_policy_check_processor(const struct mon_policy *policy, const struct mon_features *here,
                               bool can_fault, struct error *error);

/* The kernel's own file systems (statfs(2): f_type) answer questions about the host, take commands,
 * and in /proc hold every process of the user, the monitor too: nothing of them is ever opened. */
bool mon_policy_is_kernels_own(long type);
/* True for what the default view never shows, whatever its permissions: keys, password hashes,
 * private folders. `host_path` is absolute and resolved. Whether the thing exists makes no
 * difference. */
bool mon_policy_denies(const char *host_path);

/* Where in the sandbox would `host_path` be seen, and is it? Returns a new string, or NULL when no
 * grant covers it. */
char *mon_policy_guest_path(const struct mon_policy *policy, const char *host_path);
/* The host path behind `guest_path` by the innermost mount, or NULL. By text alone: links inside
 * are not followed. */
char *mon_policy_host_path(const struct mon_policy *policy, const char *guest_path);

/* Sets `error` for a program that could not be started (`code`: -ENOENT, -EACCES, -ENOEXEC, ...):
 * exit status 126 or 127, and when the program exists on the host but is not granted, the -v that
 * grants it. `program` is as the user named it; `what` is that of which the error is when it is
 * another thing (its interpreter, the working folder), else the program or "". */
int mon_policy_explain_program(const struct mon_policy *policy, const char *program,
                               const char *what, int code, struct error *error);

/* As one JSON object. */
void mon_policy_write_json(const struct mon_policy *policy, struct text *out);

/* The policy file (file.c). The keys are in docs/policy.md. */
int mon_policy_read_text(struct mon_policy *policy, const char *text, size_t size, const char *path,
                         const char *folder, struct error *error);
int mon_policy_read_file(struct mon_policy *policy, const char *path, struct error *error);

#endif
