/* The monitor's state of its sandbox, shared by the files of this folder that run it (launch, relay, log reader, run). All of it
 * belongs to the main thread, except rpc, handles, files and audit, which have locks of their own. */
#ifndef MONITOR_SANDBOX_H
#define MONITOR_SANDBOX_H

#include <image/format.h>
#include <monitor/audit.h>
#include <monitor/cgroup.h>
#include <monitor/control.h>
#include <monitor/handles.h>
#include <monitor/loop.h>
#include <monitor/monitor.h>
#include <monitor/policy/policy.h>
#include <monitor/relay.h>
#include <monitor/rpc.h>
#include <monitor/stream-file.h>
#include <sys/types.h>

/* How the child confines itself (confine.c). Filled in before the clone; the child reads it until it has executed the image. */
struct mon_confinement {
    uint64_t namespaces;   /* CLONE_NEW* flags that the host granted */
    bool by_root;          /* drops to `user`, `group` inside */
    uid_t user;
    gid_t group;
    uint32_t process_limit; /* 0: none */
    int landlock;          /* ruleset, or -1 */
    bool scoped;           /* Landlock confines signals and abstract sockets */
    int image;             /* descriptor of the picoprocess image */
    int cgroup_entrances[MON_CGROUP_PLACES]; /* -1: none */
    int empty_folder;      /* O_PATH descriptor of a folder without anything: the root; -1: none */
    int control, log;      /* the child's ends */
    char modes[8];         /* enum bly_start_mode, as letters */
};

/* A program started by `bailey exec`. */
struct mon_execution {
    uint32_t token;
    bool ended;
    struct mon_stdio stdio;
    struct mon_execution *next;
};

/* What the first picoprocess was given at its start; a resumed sandbox is given the same anew. */
struct mon_start_handles {
    struct bly_start_stream standard[3];
    bly_handle terminal_input, terminal_output, control, wake_pool, heap, bulk, watch;
    bly_handle images[1 + IMG_BASES_MAX], extents; /* of a resumed one: its image's files; always made anew */
    uint16_t rows, columns;
};

struct mon_sandbox {
    const struct mon_policy *policy;
    const struct mon_resume *resume; /* NULL: a fresh sandbox */
    struct mon_result *result;
    struct error *error;
    struct mon_loop loop;
    struct mon_files files;
    struct mon_handles handles;
    struct mon_rpc rpc;
    struct mon_audit *audit;
    struct mon_control *control; /* NULL until opened */
    struct mon_stdio stdio;      /* of the main program */
    struct mon_execution *executions; /* programs started by `bailey exec` (run.c) */
    struct mon_suspension *suspension; /* NULL: none is under way (suspend.c) */
    uint64_t walls;              /* CLONE_NEW* granted */
    bool confined_signals;
    struct mon_cgroup cgroup;
    struct mon_confinement confinement;
    unsigned char child_stack[16384] __attribute__((aligned(16)));

    struct mon_start_handles start_handles;
    int heap, bulk;              /* the shared segments */
    struct mon_arriving *arriving; /* its image may not be whole yet (suspension/arriving.c); NULL: it is */
    struct mon_absent *absent;   /* what is not in the latter yet (suspension/absent.c); NULL: nothing */
    uint64_t boot_time_ns;       /* of the start information; in the sandbox's time, which is the host's and: */
    int64_t clock_offset_ns;
    uint32_t generation;         /* how often it was resumed */

    pid_t child;                 /* first picoprocess; 0 when reaped */
    int channel;                 /* our end of the control stream */
    int log;                     /* our end of the log pipe */
    struct mon_watch channel_watch, log_watch, signal_watch;
    struct mon_timer kill_timer, resume_timer, watch_timer, audit_timer, terminal_timer, draw_timer;
    uint16_t draw_rows, draw_columns; /* of the terminal, to be told when draw_timer ends */
    int signals;                 /* signalfd */

    bool main_ended, main_failed, killed, ending;
    bool told_to_end;            /* by the user: a signal, stop, kill */
    bool had_memory_limit;       /* one that the host's kernel keeps by killing */
    int main_status;             /* wait status */
    int failure;                 /* errno of main_failed */
    uint64_t interrupt_times[3]; /* of the last interrupts by the user */
    unsigned log_level;          /* enum bly_log_level: what goes to standard error */
    size_t log_size;
    unsigned char log_data[2 * BLY_LOG_RECORD_MAX];
};

/* launch.c. First the child is started: of the policy this uses the limits and the place of the state. It confines itself and executes the
 * image while everything else is prepared, which mon_launch then gives it. */
int mon_launch_begin(struct mon_sandbox *sandbox, struct error *error) __attribute__((warn_unused_result));
int mon_launch(struct mon_sandbox *sandbox, const int standard[3], struct error *error) __attribute__((warn_unused_result));
/* Signals a thread of the sandbox, and tells the CPU time of a process, where it cannot do so itself. */
int mon_interrupt(void *context, uint32_t process, uint32_t thread);
int mon_cpu_time(void *context, uint32_t process, uint64_t *out_ns);

/* start-info.c: returns a sealed memfd, or negative errno. */
int mon_start_info_make(const struct mon_sandbox *sandbox, const struct mon_start_handles *handles, struct error *error)
    __attribute__((warn_unused_result));
/* processor.c: what CPUID says to programs of this level (0: all), and whether the instruction is slow here. Returns how many answers
 * there are; with a level, all others are zero. */
#define MON_CPUID_MAX 128u
size_t mon_processor_answers(const char *state_path, unsigned level, struct bly_cpuid out_answers[MON_CPUID_MAX], bool *out_slow);
/* The payload of BLY_CONTROL_EXECUTE into `buffer`. Returns its size, or -E2BIG. */
int mon_execute_payload(const struct mon_execute *request, const char *directory, const struct bly_start_stream standard[3],
                        bly_handle terminal_input, bly_handle terminal_output, void *buffer, size_t size)
    __attribute__((warn_unused_result));

/* confine.c: the child's function, from clone to exec; `argument` is a struct mon_confinement. Does not return. */
int mon_confine_and_execute(void *argument);

/* counters.c: one JSON object; `context` is the sandbox */
void mon_counters_write(void *context, struct text *out_json);

/* log-reader.c */
void mon_log_read(struct mon_watch *watch, uint32_t events);
void mon_log_drain(struct mon_sandbox *sandbox);

/* run.c */
int mon_channel_send(struct mon_sandbox *sandbox, const struct bly_control *record, const void *payload);
void mon_kill(struct mon_sandbox *sandbox);

#endif
