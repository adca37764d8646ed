/* bailey cp: copies files out of a running sandbox or into it. A `tar` inside does the work there
 * (it sees the sandbox's files as programs do); what comes out is unpacked here as the work of a
 * stranger. */
#include <cli/command.h>
#include <cli/state.h>
#include <cli/exec.h>
#include <cli/tar.h>

#include <base/cleanup.h>
#include <base/path.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* NAME:PATH, or a path here (one with a slash before any colon is a path here). */
struct place {
    char *sandbox; /* NULL: here */
    char *path;
};

static void place_free(struct place *place)
{
    free(place->sandbox);
    free(place->path);
}

static struct place parse_place(const char *text)
{
    const char *colon = strchr(text, ':'), *slash = strchr(text, '/');
    if (!colon || (slash && slash < colon))
        return (struct place){.path = text_copy(text)};
    return (struct place){.sandbox = text_copy_size(text, (size_t)(colon - text)),
                          .path = text_copy(colon + 1)};
}

/* Splits into the folder and the last name; trailing slashes do not count. */
static void split(const char *path, char **out_folder, char **out_name)
{
    cleanup_free char *normal = path_normalise(path);
    char *slash = strrchr(normal, '/');
    *out_name = text_copy(slash ? slash + 1 : normal);
    *out_folder = !slash            ? text_copy(".")
                  : slash == normal ? text_copy("/")
                                    : text_copy_size(normal, (size_t)(slash - normal));
}

static int run_inside(const char *sandbox, const char *const *arguments, const int standard[3],
                      bool no_input, struct error *error)
{
    __attribute__((cleanup(exec_request_free))) struct exec_request request = {.no_input =
                                                                                   no_input};
    for (; *arguments; arguments++)
        text_list_add(&request.arguments, *arguments);
    request.directory = text_copy("/");
    int status = exec_in_sandbox(sandbox, &request, standard, error);
    if (status == -ENOENT)
        error_hint(error,
                   "bailey cp needs %s in the sandbox; a folder given with -v needs no copying",
                   request.arguments.items[0]);
    return status;
}

/* The other half of a copy, in a process of its own, so that both ends of the pipe make progress.
 */
static pid_t start_half(int ends[2], bool reads, struct error *error)
{
    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_set_errno(error, -errno, "cannot make a pipe");
    pid_t child = fork();
    if (child < 0)
        return error_set_errno(error, -errno, "cannot start a process");
    close(ends[child == 0 ? reads : !reads]);
    return child;
}

static int finish(pid_t child, int status, const char *sandbox, struct error *error)
{
    int ended;
    while (waitpid(child, &ended, 0) < 0 && errno == EINTR)
        ;
    if (status < 0)
        return status;
    if (!WIFEXITED(ended) || WEXITSTATUS(ended))
        return error_set(error, -EIO, "not everything was copied");
    if (status > 0)
        return error_set(error, -EIO, "tar in sandbox %s ended with %d", sandbox, status);
    return 0;
}

static _Noreturn void end_half(int result, const struct error *error)
{
    if (result < 0)
        error_print(error);
    _exit(result < 0);
}

static int copy_out(const struct place *from, const struct place *to, struct error *error)
{
    cleanup_free char *folder = NULL, *name = NULL, *target_folder = NULL, *target = NULL;
    split(from->path, &folder, &name);
    struct stat status;
    bool into = stat(to->path, &status) == 0 && S_ISDIR(status.st_mode);
    if (into) {
        target_folder = text_copy(to->path);
        target = text_copy(name);
    } else {
        split(to->path, &target_folder, &target);
    }
    cleanup_close int place = open(target_folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (place < 0)
        return error_set_errno(error, -errno, "cannot copy to %s", target_folder);
    int ends[2];
    pid_t child = start_half(ends, true, error);
    if (child < 0)
        return child;
    if (child == 0)
        end_half(tar_read(ends[0], place, name, target, error), error);
    const char *const arguments[] = {"tar", "-C", folder, "-cf", "-", "--", name, NULL};
    const int standard[3] = {-1, ends[1], STDERR_FILENO};
    int result = run_inside(from->sandbox, arguments, standard, true, error);
    close(ends[1]);
    return finish(child, result, from->sandbox, error);
}

static int copy_in(const struct place *from, const struct place *to, struct error *error)
{
    cleanup_free char *folder = NULL, *name = NULL, *source_folder = NULL, *source = NULL;
    struct stat status;
    if (lstat(from->path, &status) < 0)
        return error_set_errno(error, -errno, "cannot copy %s", from->path);
    split(from->path, &source_folder, &source);
    const char *const question[] = {"test", "-d", to->path, NULL};
    const int quiet[3] = {-1, STDERR_FILENO, STDERR_FILENO};
    int answer = run_inside(to->sandbox, question, quiet, true, error);
    if (answer < 0)
        return answer;
    if (answer == 0) {
        folder = text_copy(to->path);
        name = text_copy(source);
    } else {
        split(to->path, &folder, &name);
    }
    int ends[2];
    pid_t child = start_half(ends, false, error);
    if (child < 0)
        return child;
    if (child == 0)
        end_half(tar_write(ends[1], from->path, name, error), error);
    const char *const arguments[] = {"tar", "-C", folder, "-xf", "-", NULL};
    const int standard[3] = {ends[0], STDERR_FILENO, STDERR_FILENO};
    int result = run_inside(to->sandbox, arguments, standard, false, error);
    close(ends[0]);
    return finish(child, result, to->sandbox, error);
}

static int run(int argc, char **argv, struct error *error)
{
    struct option_reader reader = {.command = &command_cp, .argc = argc, .argv = argv};
    while (option_next(&reader, error))
        ;
    if (error->code || reader.helped || command_expect_words(&reader, 2, 2, error) < 0)
        return error->code;
    __attribute__((cleanup(place_free))) struct place from = parse_place(reader.words[0]);
    __attribute__((cleanup(place_free))) struct place to = parse_place(reader.words[1]);
    if (!from.sandbox == !to.sandbox)
        return error_set(error, -EINVAL, "cp: one side must be NAME:PATH, the other a path here");
    const struct place *inside = from.sandbox ? &from : &to;
    if (inside->path[0] != '/')
        return error_set(error, -EINVAL, "cp: the path in the sandbox, %s, must be absolute",
                         inside->path);
    /* Asked before the copying begins in two processes, each with an error of its own. */
    cleanup_sandbox struct sandbox sandbox = {0};
    if (state_find_running(inside->sandbox, &sandbox, error) < 0)
        return error->code;
    return from.sandbox ? copy_out(&from, &to, error) : copy_in(&from, &to, error);
}

const struct command command_cp = {
    .name = "cp",
    .arguments = "NAME:PATH PATH | PATH NAME:PATH",
    .summary = "Copy files out of a running sandbox, or into it",
    .run = run,
    .examples = "  bailey cp web:/var/log/access.log .\n"
                "  bailey cp site/ web:/srv\n",
};
