/* bailey run: starts a sandbox and becomes its monitor. In the background a child does so, and the
 * command line waits until the program runs or is known not to. */
#include <cli/command.h>
#include <cli/launch.h>
#include <cli/run.h>
#include <cli/state.h>

#include <base/cleanup.h>
#include <base/path.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <monitor/control.h>
#include <monitor/monitor.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

void run_fill_standard(void)
{
    int descriptor;
    do
        descriptor = open("/dev/null", O_RDWR);
    while (descriptor >= 0 && descriptor <= STDERR_FILENO);
    if (descriptor > STDERR_FILENO)
        close(descriptor);
}

/* Makes the folder that keeps the layer and takes it for this sandbox alone, as long as *out_folder
 * is open. */
static int open_layer(struct mon_policy *policy, int *out_folder, struct error *error)
{
    char resolved[PATH_MAX];
    if (!policy->layer_path)
        return 0;
    if (mkdir(policy->layer_path, 0700) < 0 && errno != EEXIST)
        return error_set_errno(error, -errno, "cannot make the layer folder %s",
                               policy->layer_path);
    int folder = *out_folder = open(policy->layer_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0 || !realpath(policy->layer_path, resolved))
        return error_set_errno(error, -errno, "cannot open the layer folder %s",
                               policy->layer_path);
    if (access(resolved, R_OK | W_OK | X_OK) < 0)
        return error_set_errno(error, -errno, "cannot write to the layer folder %s",
                               policy->layer_path);
    if (flock(folder, LOCK_EX | LOCK_NB) < 0) {
        error_set(error, -EBUSY, "the layer folder %s is in use by another sandbox",
                  policy->layer_path);
        return error_hint(error, "wait for its end, or name another folder");
    }
    mon_policy_add_mount(policy, resolved, MON_STORE_PLACE, BLY_MOUNT_STORE);
    return 0;
}

struct preparation {
    struct launch *launch;
    int layer; /* its folder, taken until the end; -1: none */
};

static int complete(void *context, struct error *error)
{
    struct preparation *preparation = context;
    struct launch *launch = preparation->launch;
    int result = launch->resume ? 0 : launch_complete(launch, error);
    return result < 0 ? result : open_layer(&launch->policy, &preparation->layer, error);
}

/* In the process that becomes the monitor. Returns the exit status, or negative with `error`. */
int run_sandbox(struct launch *launch, struct error *error)
{
    struct mon_policy *policy = &launch->policy;
    struct sandbox about = {
        .created = time(NULL),
        .detached = policy->detach,
        .keep = (policy->detach || (launch->resume ? launch->name_given : policy->name != NULL)) &&
                !policy->remove_at_exit,
        .command = policy->arguments,
    };
    struct state_entry entry;
    struct preparation preparation = {.launch = launch, .layer = -1};
    const struct mon_completion completion = {complete, &preparation};
    const int standard[3] = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO};
    int result = state_create(&entry, policy->name, &about, error);
    if (result < 0)
        return result;
    if (!policy->name)
        policy->name = text_copy(entry.name);
    policy->state_path = text_copy(entry.path);
    if (!launch->resume)
        launch_set_limits(policy);
    struct mon_result end = {0};
    result = launch->resume
                 ? mon_resume_run(policy, completion, launch->resume, standard, &end, error)
                 : mon_run(policy, completion, standard, &end, error);
    if (end.suspended)
        note("suspended to %s: bailey resume %s", end.suspended, end.suspended);
    if (end.moved) {
        note("moved to %s", end.moved);
        about.keep = false; /* it is there now */
    }
    about.suspended = end.suspended != NULL;
    free(end.suspended);
    free(end.moved);
    /* What never ran is not worth keeping; its name stays free. */
    if (!end.ended)
        about.keep = false;
    /* Before its end is announced: who waited for it may take the folder. */
    cleanup_close_descriptor(&preparation.layer);
    state_finish(&entry, &about, end.ended ? end.exit_status : error->exit_status);
    return result < 0 ? result : end.exit_status;
}

/* What the child tells the waiting command line: the name, written by control when the program
 * runs; or no name, and the error. */
struct start_report {
    char name[CONTROL_READY_SIZE];
    struct error error;
};

static _Noreturn void detached_monitor(struct launch *launch, int report)
{
    struct mon_policy *policy = &launch->policy;
    struct error error = {0};
    setsid();
    /* Its output goes to the log; an error after the start has nowhere else to go either. */
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    bool separate = null >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(null, STDOUT_FILENO) >= 0 &&
                    dup2(null, STDERR_FILENO) >= 0;
    if (!separate)
        error_set_errno(&error, -errno, "cannot let go of the standard streams");
    if (null >= 0)
        close(null);
    /* Nobody listens any more once the program runs. */
    signal(SIGPIPE, SIG_IGN);
    policy->ready_descriptor = report;
    int status = separate ? run_sandbox(launch, &error) : error.code;
    if (status < 0) {
        struct start_report failure = {.error = error};
        write_fully(report, &failure, sizeof(failure));
    }
    _exit(status < 0 ? error.exit_status : status);
}

static int read_fully(int descriptor, void *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t count = read(descriptor, (char *)data + done, size - done);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return -EIO;
        done += (size_t)count;
    }
    return 0;
}

int run_detached(struct launch *launch, struct error *error)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_set_errno(error, -errno, "cannot make a pipe");
    fflush(NULL);
    pid_t child = fork();
    if (child < 0)
        return error_set_errno(error, -errno, "cannot start a process");
    if (child == 0) {
        close(ends[0]);
        detached_monitor(launch, ends[1]);
    }
    close(ends[1]);
    struct start_report report = {0};
    int result = read_fully(ends[0], report.name, sizeof(report.name));
    if (result == 0 && report.name[0] == '\0')
        result = read_fully(ends[0], &report.error, sizeof(report.error));
    close(ends[0]);
    if (result < 0)
        return error_set(error, -EIO, "the sandbox ended before it could start its program");
    if (report.name[0] == '\0') {
        *error = report.error;
        return error->code;
    }
    report.name[sizeof(report.name) - 1] = '\0';
    if (launch->as_json)
        command_print_json(report.name, NULL, 0);
    else
        printf("%s\n", report.name);
    return 0;
}

static int run(int argc, char **argv, struct error *error)
{
    cleanup_launch struct launch launch = {0};
    run_fill_standard();
    if (argc < 2) {
        command_print_help(&command_run);
        return EXIT_BAILEY;
    }
    int result = launch_read(&launch, &command_run, argc, argv, error);
    if (result != 0)
        return result < 0 ? result : 0;
    if (launch.policy.program && !*launch.policy.program)
        return error_set(error, -EINVAL, "run: the program's name is empty");
    if (!launch.policy.program) {
        error_set(error, -EINVAL, "run: no program is named");
        return error_hint(error,
                          "bailey run [OPTIONS] PROGRAM [ARGUMENTS...]; see bailey run --help");
    }
    return launch.policy.detach ? run_detached(&launch, error) : run_sandbox(&launch, error);
}

const struct command command_run = {
    .name = "run",
    .arguments = "PROGRAM [ARGUMENTS...]",
    .summary = "Run a program in a new sandbox",
    .run = run,
    .options = launch_options,
    .options_end_at_first = true,
    .examples =
        "  bailey run bash                       a shell that sees nothing of yours and has no "
        "network\n"
        "  bailey run -v . make                  work on the current folder, and on nothing else\n"
        "  bailey run -v ~/data:/data:ro -e LIMIT=3 --memory 1g python3 /data/report.py\n",
};
