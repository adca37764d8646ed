/* bailey suspend: a running sandbox becomes a file. Its monitor does the work; we say where, show
 * how far it is, and wait. Who interrupts us ends the suspension: the sandbox runs on. */
#include <cli/client.h>
#include <cli/command.h>
#include <cli/own-image.h>
#include <cli/progress.h>
#include <cli/suspend.h>
#include <cli/unpack.h>

#include <base/cleanup.h>
#include <base/json.h>
#include <base/path.h>
#include <errno.h>
#include <fcntl.h>
#include <image/bases.h>
#include <image/flat.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct option_help options[] = {
    {'o', "output", "FILE", "the image (default: NAME.bailey in the current folder)"},
    {0, "keep-running", NULL, "the sandbox runs on when the image is there"},
    {0, "self-contained", NULL, "with the contents of the host's files that it has open or mapped"},
    {0, "hash-files", NULL, "with sums of the host's files that it has open, to be compared then"},
    {0, "base", "FILE",
     "only what differs from the image FILE, which is needed to resume this one"},
    {0, "compress", "[=LEVEL]", "compress the image with Zstandard (1 to 19; default: 3)"},
    {0, "json", NULL, "one JSON object"},
    {0, NULL, NULL, NULL},
};

/* The monitor has a current folder of its own. */
static char *absolute_path(const char *name, const char *given, struct error *error)
{
    char folder[PATH_MAX];
    if (!getcwd(folder, sizeof(folder))) {
        error_set_errno(error, -errno, "cannot tell the current folder");
        return NULL;
    }
    cleanup_free char *own = text_print("%s.bailey", name);
    return path_join(folder, given ? given : own);
}

/* The new image appears by a rename, which would take away what it needs. */
static int refuse_own_base(const struct img_reader *reader, const char *path, struct error *error)
{
    struct stat image, base;
    if (stat(path, &image) < 0)
        return 0;
    for (unsigned i = 0; i <= img_reader_base_count(reader); i++)
        if (fstat(img_reader_file(reader, i), &base) == 0 && base.st_dev == image.st_dev &&
            base.st_ino == image.st_ino)
            return error_set(error, -EINVAL, "the image %s would replace the one that it needs",
                             path);
    return 0;
}

/* What the base holds, in its flat form, in memory of its own: an image is read where it can do no
 * harm, and that is not in the monitor. */
static int read_base(const char *base, const char *path, struct error *error)
{
    cleanup_close int file = open(base, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0)
        return error_set_errno(error, -errno, "cannot open the image %s", base);
    struct img_reader *reader = NULL;
    bool own = own_image_is(file);
    cleanup_text struct text flat = {0};
    cleanup_close int memory = -1;
    int result = own ? img_reader_open(file, base, &reader, error)
                     : img_reader_open_confined(file, base, &reader, error);
    if (result == 0)
        result = img_reader_find_bases(reader, base, NULL, /*follow=*/own, error);
    if (result == 0)
        result = refuse_own_base(reader, path, error);
    if (result == 0) {
        img_flat_write(reader, &flat);
        memory = memfd_create("bailey-base", MFD_CLOEXEC);
        if (memory < 0 || write_fully(memory, flat.data, flat.size) < 0)
            result = error_set_errno(error, -errno, "cannot tell what the image %s holds", base);
    }
    img_reader_close(reader);
    return result < 0 ? result : take_descriptor(&memory);
}

static int ask(struct client *client, const char *path, uint32_t flags, const char *base,
               struct error *error)
{
    struct control_message message = {.kind = CONTROL_SUSPEND, .value = (int32_t)flags};
    cleanup_text struct text payload = {0};
    cleanup_close int memory = -1;
    char resolved[PATH_MAX];
    text_add(&payload, path);
    if (base) {
        if (!realpath(base, resolved))
            return error_set_errno(error, -errno, "cannot open the image %s", base);
        memory = read_base(resolved, path, error);
        if (memory < 0)
            return memory;
        text_add_size(&payload, "", 1);
        text_add(&payload, resolved);
    }
    message.size = (uint32_t)payload.size;
    int result = control_send(client->socket, &message, payload.data, &memory, base ? 1 : 0);
    return result < 0 ? error_set_errno(error, result, "cannot reach the sandbox %s", client->name)
                      : 0;
}

int suspend_sandbox(const char *name, const char *path, uint32_t flags, const char *base,
                    struct control_suspended *out_report, struct error *error)
{
    cleanup_client struct client client = {.socket = -1};
    *out_report = (struct control_suspended){0};
    int result = client_open(&client, name, error);
    if (result < 0)
        return result;
    struct progress progress = progress_begin("suspending");
    result = ask(&client, path, flags, base, error);
    while (result == 0) {
        result = client_receive(&client, error);
        if (result < 0 || client.answer.kind == CONTROL_DONE)
            break;
        struct control_progress now = {0};
        if (client.answer.kind != CONTROL_PROGRESS || client.answer.size != sizeof(now))
            continue;
        memcpy(&now, client.payload, sizeof(now));
        progress_show(&progress, now.done, now.expected);
    }
    progress_end(&progress);
    if (result == 0 && client.answer.size == sizeof(*out_report))
        memcpy(out_report, client.payload, sizeof(*out_report));
    return result;
}

static void print(const char *name, const char *path, bool keep_running,
                  const struct control_suspended *report, bool as_json)
{
    char memory[SIZE_TEXT_SIZE];
    struct stat status;
    int64_t size = stat(path, &status) == 0 ? (int64_t)status.st_size : -1;
    if (!as_json) {
        printf("%s: %s of memory", path, size_text(report->memory_size, memory));
        if (report->named_size)
            printf(", %s in its base", size_text(report->named_size, memory));
        printf(", in %.2f s", (double)report->total_ns / 1e9);
        if (keep_running)
            printf("; %s stood still for %.1f ms", name, (double)report->pause_ns / 1e6);
        printf("\n");
        return;
    }
    cleanup_text struct text text = {0};
    struct json json = json_to(&text);
    json_object(&json);
    json_key_string(&json, "name", name);
    json_key_string(&json, "image", path);
    json_key_number(&json, "size", size);
    json_key_number(&json, "memory", (int64_t)report->memory_size);
    json_key_number(&json, "memory_in_base", (int64_t)report->named_size);
    json_key_boolean(&json, "running", keep_running);
    json_key_number(&json, "pause_us", (int64_t)(report->pause_ns / 1000));
    json_key_number(&json, "total_us", (int64_t)(report->total_ns / 1000));
    json_object_end(&json);
    printf("%s\n", text.data);
}

static int run(int argc, char **argv, struct error *error)
{
    bool as_json = false;
    uint32_t flags = 0;
    int level = 0;
    const char *given = NULL, *base = NULL;
    struct option_reader reader = {.command = &command_suspend, .argc = argc, .argv = argv};
    for (const struct option_help *option; (option = option_next(&reader, error));) {
        if (option->letter == 'o')
            given = reader.value;
        if (text_equal(option->name, "base"))
            base = reader.value;
        if (text_equal(option->name, "compress") &&
            pack_read_level(reader.value, &level, error) < 0)
            break;
        if (text_equal(option->name, "keep-running"))
            flags |= SUSPEND_KEEP_RUNNING;
        if (text_equal(option->name, "self-contained"))
            flags |= SUSPEND_SELF_CONTAINED;
        if (text_equal(option->name, "hash-files"))
            flags |= SUSPEND_HASH_FILES;
        as_json |= text_equal(option->name, "json");
    }
    if (error->code || reader.helped || command_expect_words(&reader, 1, 1, error) < 0)
        return error->code;
    if (given && !*given)
        return error_set(error, -EINVAL, "suspend: the image's name is empty");
    const char *name = reader.words[0];
    struct control_suspended report;
    cleanup_free char *path = absolute_path(name, given, error);
    int result = path ? suspend_sandbox(name, path, flags, base, &report, error) : error->code;
    if (result < 0)
        return result;
    /* After it is on the disk: the sandbox does not wait for it, and nothing is lost when it fails.
     */
    if (level && pack_image(path, path, level, error) < 0)
        error_hint(error, "the image is there, but not compressed");
    const bool keep_running = flags & SUSPEND_KEEP_RUNNING;
    /* Without it the image is as good as a stranger's, which is a nuisance and no failure. */
    struct error unnoted = {0};
    if (own_image_note(path, &unnoted) < 0)
        note("%s; to resume the sandbox its folders must be named again", unnoted.message);
    if (!keep_running)
        client_wait_until_over(name);
    if (!error->code)
        print(name, path, keep_running, &report, as_json);
    return error->code;
}

const struct command command_suspend = {
    .name = "suspend",
    .arguments = "NAME",
    .summary = "Make a running sandbox an image, a file that can be resumed",
    .run = run,
    .options = options,
    .examples = "  bailey suspend shell                          to shell.bailey\n"
                "  bailey suspend db -o /backup/db --keep-running   a copy, while it runs on\n"
                "  bailey suspend db --base /backup/db -o /backup/db.2   what changed since\n",
};
