/* The monitor: one for each sandbox, in the process that calls it. */
#ifndef MONITOR_MONITOR_H
#define MONITOR_MONITOR_H

#include <base/error.h>
#include <base/text.h>
#include <monitor/policy/policy.h>

struct mon_result {
    int exit_status; /* what `bailey run` ends with: the program's own, 128 + signal, 126, 127, 125 */
    int wait_status; /* of the main program, as wait(2) encodes it */
    char *moved;     /* whereto the sandbox has gone; NULL: it did not. Allocated */
    char *suspended; /* the image that the sandbox became; NULL: it did not. Allocated */
    bool ended;      /* the main program ran and ended; else exit_status says why not and error is set */
};

/* Completes the policy while the sandbox's first process already confines itself on another CPU: memory_limit, process_limit and state_path
 * are no longer changed. */
struct mon_completion {
    int (*function)(void *context, struct error *error); /* 0, or a negative errno with `error` set */
    void *context;
};

/* Runs the sandbox to its end. The calling process must have one thread and no other children that matter: every orphan of the
 * sandbox becomes its child. `standard` are the descriptors of the main program's streams; they stay the caller's. Returns 0 when
 * the main program ran, else a negative errno with `error` set; *out_result is filled in both cases. */
int mon_run(const struct mon_policy *policy, struct mon_completion completion, const int standard[3], struct mon_result *out_result,
            struct error *error);

/* The same with a sandbox that goes on from its image. The policy is the image's as far as it was granted (policy/grant.h). */
struct mon_image;
struct mon_resume {
    const struct mon_image *image;
    bool accept_changed; /* files that the sandbox had open may have changed meanwhile */
    bool force;          /* whatever the processor lacks of what programs saw */
    bool is_arriving;    /* its pages may still be on their way: */
    int requests, status; /* then, the carrier's (image/carrier.h): taken over */
    bool new_host_name;  /* the policy's is to replace the one it had */
};
int mon_resume_run(const struct mon_policy *policy, struct mon_completion completion, const struct mon_resume *resume,
                   const int standard[3], struct mon_result *out_result, struct error *error);

/* Whether the files are there that the image's sandbox has open; all that is wrong is told, a line each. A mount with an empty host path is
 * not looked at. */
int mon_resume_check(const struct mon_policy *policy, const struct mon_resume *resume, struct error *error) __attribute__((warn_unused_result));

/* What this host offers for a sandbox's walls, for `bailey check` and `inspect`: one item each, with what is weaker without it. */
struct mon_wall {
    const char *name;
    bool present;
    char reason[96];     /* why not: the host's answer */
    const char *without; /* what is weaker then */
};
#define MON_WALL_MAX 16
/* Tries each on a child process. Returns how many were filled in. */
size_t mon_check_walls(struct mon_wall walls[MON_WALL_MAX]);

#endif
