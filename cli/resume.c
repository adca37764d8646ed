/* bailey resume: a suspended sandbox goes on from its image, in the foreground or in the
 * background. */
#include <cli/resume.h>

#include <base/cleanup.h>
#include <base/path.h>
#include <cli/command.h>
#include <cli/own-image.h>
#include <cli/progress.h>
#include <cli/run.h>
#include <cli/unpack.h>
#include <errno.h>
#include <fcntl.h>
#include <image/bases.h>
#include <limits.h>
#include <monitor/policy/grant.h>
#include <monitor/policy/value.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void resumption_init(struct resumption *resumption)
{
    *resumption = (struct resumption){.image = {.descriptor = -1}};
}

void resumption_free(struct resumption *resumption)
{
    mon_image_close(&resumption->image);
    text_list_free(&resumption->bases);
    mon_policy_free(&resumption->granted);
    launch_free(&resumption->launch);
}

/* ---- Options ---- */

bool resumption_option(struct resumption *resumption, const struct option_help *option,
                       const char *value, struct error *error)
{
    struct mon_policy *granted = &resumption->granted;
    const struct {
        const char *name;
        char **place;
    } paths[] = {{"rootfs", &granted->rootfs},
                 {"layer", &granted->layer_path},
                 {"audit", &granted->audit_path}};
    const struct {
        const char *name;
        bool *place;
    } flags[] = {{"accept-changed", &resumption->resume.accept_changed},
                 {"force", &resumption->resume.force},
                 {"json", &resumption->launch.as_json},
                 {"verify", &resumption->verify}};
    char folder[PATH_MAX];
    if (!getcwd(folder, sizeof(folder))) {
        error_set_errno(error, -errno, "cannot tell the current folder");
        return true;
    }
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
        if (text_equal(option->name, flags[i].name))
            return *flags[i].place = true;
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        if (text_equal(option->name, paths[i].name)) {
            text_replace(paths[i].place, path_join(folder, value));
            return true;
        }
    }
    if (text_equal(option->name, "base")) {
        text_list_add(&resumption->bases, value);
        return true;
    }
    if (text_equal(option->name, "hostname")) {
        text_replace(&granted->host_name, text_copy(value));
        (void)!policy_check_host_name(value, error);
        return true;
    }
    if (!text_equal(option->name, "volume"))
        return false;
    (void)!policy_add_volume(granted, value, folder, error);
    return true;
}

/* ---- The image ---- */

struct verification {
    struct progress progress;
    uint64_t size;
};

static int show_progress(void *context, uint64_t done)
{
    struct verification *verification = context;
    progress_show(&verification->progress, done, verification->size);
    return 0;
}

int resumption_verify(struct img_reader *reader, struct error *error)
{
    struct verification verification = {.progress = progress_begin("verifying"),
                                        .size = img_reader_verify_size(reader)};
    int result = img_reader_verify(reader, show_progress, &verification, error);
    progress_end(&verification.progress);
    return result;
}

/* Folders that are named are resolved as the image's were. */
static int resolve_granted(struct mon_policy *granted, struct error *error)
{
    char resolved[PATH_MAX];
    int result = 0;
    for (size_t i = 0; i < granted->mount_count; i++) {
        struct mon_mount *mount = &granted->mounts[i];
        if (realpath(mount->host_path, resolved)) {
            text_replace(&mount->host_path, text_copy(resolved));
            continue;
        }
        struct error reason = {0};
        result =
            error_set_errno(&reason, -errno, "cannot give %s to the sandbox", mount->host_path);
        error_add(error, &reason);
    }
    return result;
}

static void take_policy(struct resumption *resumption)
{
    resumption->granted.memory_limit = launch_default_memory_limit();
    resumption->granted.process_limit = LAUNCH_PROCESS_LIMIT;
    /* Moved, not copied: the image's claim becomes the policy. */
    resumption->launch.policy = resumption->image.policy;
    resumption->image.policy = (struct mon_policy){0};
    resumption->resume.image = &resumption->image;
    resumption->launch.resume = &resumption->resume;
    if (resumption->granted.host_name) {
        text_replace(&resumption->launch.policy.host_name,
                     text_copy(resumption->granted.host_name));
        resumption->resume.new_host_name = true;
    }
}

static bool is_granted(const struct mon_policy *granted, const struct mon_mount *mount)
{
    return mon_policy_is_view(mount) || mon_policy_find_mount(granted, mount->guest_path) ||
           (granted->rootfs && text_equal(mount->guest_path, "/"));
}

int resumption_check_offer(struct resumption *resumption, int descriptor, const char *name,
                           struct error *error)
{
    struct mon_image *image = &resumption->image;
    struct mon_policy *policy = &resumption->launch.policy;
    struct error fits = {0}, grants = {0}, files = {0};
    image->is_offer = true;
    if (mon_image_open(image, descriptor, name, /*own=*/false, error) < 0)
        return error->code;
    if (mon_image_fits(image, resumption->resume.force, &fits) < 0)
        error_add(error, &fits);
    int result = resolve_granted(&resumption->granted, &grants);
    take_policy(resumption);
    if (result == 0)
        result = mon_policy_grant(policy, &resumption->granted, /*own=*/false, name, &grants);
    if (result < 0)
        error_add(error, &grants);
    /* Where a folder is missing only what the others hold is looked at. */
    for (size_t i = 0; i < policy->mount_count && result < 0; i++)
        if (!is_granted(&resumption->granted, &policy->mounts[i]))
            text_replace(&policy->mounts[i].host_path, text_copy(""));
    if (mon_resume_check(policy, &resumption->resume, &files) < 0)
        error_add(error, &files);
    return error->code ? error->code : launch_check_name(policy->name, error);
}

int resumption_take(struct resumption *resumption, int descriptor, const char *path, bool own,
                    struct error *error)
{
    struct mon_image *image = &resumption->image;
    int result = mon_image_open(image, descriptor, path, own, error);
    if (result == 0)
        result = img_reader_find_bases(image->reader, resumption->path, &resumption->bases,
                                       /*follow=*/own, error);
    if (result == 0)
        result = mon_image_fits(image, resumption->resume.force, error);
    if (result == 0 && resumption->verify)
        result = resumption_verify(image->reader, error);
    if (result == 0)
        result = resolve_granted(&resumption->granted, error);
    if (result < 0)
        return result;
    take_policy(resumption);
    result = mon_policy_grant(&resumption->launch.policy, &resumption->granted, own, path, error);
    return result < 0 ? result : launch_check_name(resumption->launch.policy.name, error);
}

int resumption_open(struct resumption *resumption, const char *path, bool own, struct error *error)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (descriptor < 0) {
        int result = error_set_errno(error, -errno, "cannot open the image %s", path);
        cleanup_free char *named = text_print("%s.bailey", path);
        return result == -ENOENT && access(named, F_OK) == 0
                   ? error_hint(error, "did you mean %s?", named)
                   : result;
    }
    /* Asked before it is read: what is written to it from here on has no part in its being one's
     * own. */
    own = own || own_image_is(descriptor);
    resumption->path = path;
    if (unpack_image(&descriptor, path, /*all=*/true, error) < 0) {
        close(descriptor);
        return error->code;
    }
    return resumption_take(resumption, descriptor, path, own, error);
}

/* ---- The command ---- */

static const struct option_help options[] = {
    {0, "name", "NAME", "name of the sandbox (else the one it had)"},
    {'d', "detach", "[=BOOL]", "run in the background and print the name"},
    {0, "rm", "[=BOOL]", "forget the sandbox when it has ended"},
    RESUMPTION_BASE_OPTION,
    RESUMPTION_OPTIONS,
    {0, NULL, NULL, NULL},
};

struct choice {
    const char *name;
    bool detach, remove, remove_given;
};

static int read_option(struct resumption *resumption, struct choice *choice,
                       const struct option_help *option, const char *value, struct error *error)
{
    if (resumption_option(resumption, option, value, error))
        return error->code;
    if (text_equal(option->name, "name")) {
        choice->name = value;
        return launch_check_name(value, error);
    }
    if (text_equal(option->name, "detach"))
        return launch_parse_boolean("detach", value, &choice->detach, error);
    choice->remove_given = true;
    return launch_parse_boolean("rm", value, &choice->remove, error);
}

/* Where a file was standard input, and nobody gives it again. */
static void tell_of_input(const struct mon_image *image, bool detach)
{
    struct stat now;
    if (!detach && fstat(STDIN_FILENO, &now) == 0 && S_ISREG(now.st_mode))
        return;
    for (size_t i = 0; i < image->handle_count; i++) {
        const struct mon_image_handle *record = &image->handles[i].record;
        if (record->role == MON_IMAGE_STANDARD_0 && record->kind == BLY_KIND_FILE &&
            !mon_image_is_input_file(record))
            note("standard input of the program was a file that none of its folders shows: it reads "
                 "its end now%s",
                 detach ? "" : " (bailey resume ... < FILE gives it one)");
    }
}

static int run(int argc, char **argv, struct error *error)
{
    cleanup_resumption struct resumption resumption;
    struct choice choice = {0};
    struct option_reader reader = {.command = &command_resume, .argc = argc, .argv = argv};
    resumption_init(&resumption);
    run_fill_standard();
    for (const struct option_help *option; (option = option_next(&reader, error));)
        if (read_option(&resumption, &choice, option, reader.value, error) < 0)
            return error->code;
    if (error->code || reader.helped || command_expect_words(&reader, 1, 1, error) < 0)
        return error->code;
    int result = resumption_open(&resumption, reader.words[0], /*own=*/false, error);
    if (result < 0)
        return result;
    tell_of_input(&resumption.image, choice.detach);
    struct launch *launch = &resumption.launch;
    struct mon_policy *policy = &launch->policy;
    if (launch->as_json && !choice.detach)
        return error_set(error, -EINVAL,
                         "resume: --json tells what runs in the background: --detach is missing");
    policy->detach = choice.detach;
    if (choice.remove_given)
        policy->remove_at_exit = choice.remove;
    if (choice.name) {
        text_replace(&policy->name, text_copy(choice.name));
        launch->name_given = true;
    }
    return policy->detach ? run_detached(launch, error) : run_sandbox(launch, error);
}

const struct command command_resume = {
    .name = "resume",
    .arguments = "IMAGE",
    .summary = "Go on with a suspended sandbox",
    .run = run,
    .options = options,
    .examples =
        "  bailey resume shell.bailey                 where it was, in this terminal\n"
        "  bailey resume -d --name again db.bailey    in the background, under another name\n",
};
