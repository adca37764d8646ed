/* bailey clone: copies of a running sandbox, or of a suspended one, each of which goes on by itself
 * from the same moment. They run from one image and share the pages of it that they do not write
 * to. */
#include <cli/command.h>
#include <cli/resume.h>
#include <cli/run.h>
#include <cli/state.h>
#include <cli/suspend.h>

#include <base/cleanup.h>
#include <base/path.h>
#include <errno.h>
#include <fcntl.h>
#include <monitor/policy/value.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT_MAX 10000u
#define REMOVE_ATTEMPTS 100
#define REMOVE_STEP_US 20000

static const struct option_help options[] = {
    {'n', "count", "N", "how many (default: 1)"},
    {0, "name", "NAME", "they are called NAME-1, NAME-2 and so on (default: the sandbox's name)"},
    {0, "rm", NULL, "forget each when it has ended"},
    RESUMPTION_BASE_OPTION,
    RESUMPTION_OPTIONS,
    {0, NULL, NULL, NULL},
};

struct choice {
    uint32_t count;
    const char *name;
    bool remove;
};

static void remove_folder(const char *folder)
{
    /* The image may be about to get its name there. */
    for (int i = 0; i < REMOVE_ATTEMPTS && path_remove_tree(AT_FDCWD, folder) < 0; i++)
        usleep(REMOVE_STEP_US);
}

/* A child that removes the copy's folder when we have ended, in whatever way, unless it is told
 * not to; *out_guarded is what it hears of that by. */
static pid_t guard_folder(const char *folder, int *out_guarded)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -1;
    pid_t child = fork();
    if (child == 0) {
        char byte;
        ssize_t told;
        setsid(); /* it outlives who interrupts us */
        close(ends[1]);
        for (int i = STDIN_FILENO; i <= STDERR_FILENO; i++)
            close(i);
        while ((told = read(ends[0], &byte, 1)) < 0 && errno == EINTR)
            ;
        if (told == 0)
            remove_folder(folder);
        _exit(0);
    }
    close(ends[0]);
    *out_guarded = ends[1];
    return child;
}

static char *make_up_folder(void)
{
    const char *base = getenv("TMPDIR");
    uint64_t random = 0;
    if (getrandom(&random, sizeof(random), 0) != sizeof(random))
        return NULL;
    return text_print("%s/bailey-clone-%016llx", base && base[0] == '/' ? base : "/var/tmp",
                      (unsigned long long)random);
}

/* An image that has no name any more once it is open: it goes with the last clone that runs from
 * it. */
static int open_copy(struct resumption *resumption, const char *name, struct error *error)
{
    cleanup_free char *folder = make_up_folder();
    struct control_suspended report;
    int guarded = -1, result;
    pid_t guard = folder ? guard_folder(folder, &guarded) : -1;
    if (guard < 0)
        return error_set_errno(error, -errno, "cannot start a process");
    cleanup_free char *path = text_print("%s/%s", folder, name);
    bool made = mkdir(folder, 0700) == 0;
    if (made) {
        result = suspend_sandbox(name, path, SUSPEND_KEEP_RUNNING, /*base=*/NULL, &report, error);
    } else {
        result = error_set_errno(error, -errno, "cannot make the folder %s for the copy", folder);
        (void)!write(guarded, "", 1); /* whoever's it is */
    }
    if (result == 0)
        result = resumption_open(resumption, path, /*own=*/true, error);
    cleanup_close_descriptor(&guarded);
    while (waitpid(guard, NULL, 0) < 0 && errno == EINTR)
        ;
    if (made)
        remove_folder(folder); /* where the child was killed */
    return result;
}

static bool is_running(const char *name)
{
    cleanup_sandbox struct sandbox sandbox = {0};
    struct error ignored = {0};
    return state_name_is_valid(name) && state_find_running(name, &sandbox, &ignored) == 0;
}

static int start_one(struct resumption *resumption, const char *base, uint32_t *number,
                     struct error *error)
{
    struct launch *launch = &resumption->launch;
    for (;;) {
        text_replace(&launch->policy.name, text_print("%s-%u", base, ++*number));
        int result = launch_check_name(launch->policy.name, error);
        if (result == 0 && resumption->granted.host_name) {
            text_replace(&launch->policy.host_name,
                         text_print("%s-%u", resumption->granted.host_name, *number));
            result = policy_check_host_name(launch->policy.host_name, error);
        }
        if (result == 0)
            result = run_detached(launch, error);
        /* The next number is meant where another sandbox has this one. */
        if (result != -EEXIST || *number == UINT32_MAX)
            return result;
        error_clear(error);
    }
}

static int start_all(struct resumption *resumption, const struct choice *choice,
                     struct error *error)
{
    struct mon_policy *policy = &resumption->launch.policy;
    cleanup_free char *base = text_copy(choice->name ? choice->name : policy->name);
    uint32_t number = 0;
    int result = 0;
    policy->detach = true;
    policy->remove_at_exit = choice->remove;
    resumption->launch.name_given = true;
    for (uint32_t i = 0; i < choice->count && result == 0; i++)
        result = start_one(resumption, base, &number, error);
    return result;
}

static int read_option(struct resumption *resumption, struct choice *choice,
                       const struct option_help *option, const char *value, struct error *error)
{
    if (resumption_option(resumption, option, value, error))
        return error->code;
    if (text_equal(option->name, "count"))
        return policy_parse_number("--count", value, 1, COUNT_MAX, &choice->count, error);
    if (text_equal(option->name, "name")) {
        choice->name = value;
        return launch_check_name(value, error);
    }
    choice->remove = true;
    return 0;
}

static int run(int argc, char **argv, struct error *error)
{
    cleanup_resumption struct resumption resumption;
    struct choice choice = {.count = 1};
    struct option_reader reader = {.command = &command_clone, .argc = argc, .argv = argv};
    resumption_init(&resumption);
    run_fill_standard();
    for (const struct option_help *option; (option = option_next(&reader, error));)
        if (read_option(&resumption, &choice, option, reader.value, error) < 0)
            return error->code;
    if (error->code || reader.helped || command_expect_words(&reader, 1, 1, error) < 0)
        return error->code;
    const char *what = reader.words[0];
    int result = is_running(what) ? open_copy(&resumption, what, error)
                                  : resumption_open(&resumption, what, /*own=*/false, error);
    if (result == -ENOENT && !resumption.image.reader && state_name_is_valid(what))
        error_hint(error, "and no sandbox of that name is running");
    return result < 0 ? result : start_all(&resumption, &choice, error);
}

const struct command command_clone = {
    .name = "clone",
    .arguments = "NAME|IMAGE",
    .summary = "Start copies of a running or suspended sandbox, which go on from that moment",
    .run = run,
    .options = options,
    .examples = "  bailey clone --count 10 warm     warm-1 to warm-10, while warm runs on\n"
                "  bailey clone db.bailey           one from an image\n",
};
