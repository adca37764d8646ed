/* bailey policy learn. A name of the default view that the run used becomes a grant of that file;
 * where many files of one folder were used, of the folder. Folders given with -v stay, read-only if
 * nothing in them was changed. The result shows no more of the host than the run saw, except the
 * rest of such folders. */
#include <cli/learn.h>
#include <cli/launch.h>
#include <cli/run.h>

#include <base/cleanup.h>
#include <base/json.h>
#include <base/path.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDER_FILES 8 /* so many files below one folder, and the folder is granted */
#define FOLDER_DEPTH 3 /* but none above /usr/lib/python3.11 and the like */
#define AUDIT_LIMIT (256u << 20)

struct used_name {
    char *guest, *host;
    bool opened; /* not only looked up */
    bool covered;
};
struct used_names {
    struct used_name *items;
    size_t count, capacity;
};

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct used_name *)a)->guest, ((const struct used_name *)b)->guest);
}

static void add_name(struct used_names *names, char *guest, char *host, bool opened)
{
    if (names->count == names->capacity) {
        names->capacity = names->capacity ? names->capacity * 2 : 256;
        names->items = memory_resize(names->items, names->capacity * sizeof(*names->items));
    }
    names->items[names->count++] =
        (struct used_name){.guest = guest, .host = host, .opened = opened};
}

/* The -v grant that a guest path lies in, as an entry of `learned`. */
static struct mon_mount *explicit_grant(struct mon_policy *learned, const char *guest)
{
    struct mon_mount *best = NULL;
    for (size_t i = 0; i < learned->mount_count; i++) {
        struct mon_mount *mount = &learned->mounts[i];
        if (path_is_within(guest, mount->guest_path) &&
            (!best || strlen(mount->guest_path) > strlen(best->guest_path)))
            best = mount;
    }
    return best;
}

/* What the sandbox itself looks up when it makes its root: the mounts, and what its own nodes hide.
 */
static bool is_of_the_root(const struct mon_policy *used, const char *guest)
{
    for (size_t i = 0; i < used->node_count; i++)
        if (text_equal(used->nodes[i].path, guest))
            return true;
    return mon_policy_find_mount(used, guest) != NULL;
}

/* One audit line: notes what it used, or what it changed in a -v folder. */
static void read_line(const char *line, const struct mon_policy *used, struct used_names *names,
                      struct mon_policy *learned)
{
    cleanup_free char *guest = NULL, *host = NULL, *access = NULL, *decision = NULL, *grant = NULL,
                      *operation = NULL;
    int64_t failure = 0;
    if (!json_read_string(line, "path", &guest) || !json_read_string(line, "host", &host) ||
        !json_read_string(line, "access", &access) ||
        !json_read_string(line, "decision", &decision) ||
        !json_read_string(line, "grant", &grant) ||
        !json_read_string(line, "operation", &operation))
        return;
    if (!text_equal(decision, "allowed") || json_read_number(line, "error", &failure))
        return;
    struct mon_mount *mount = explicit_grant(learned, guest);
    if (mount) {
        if (text_equal(access, "write"))
            mount->flags &= ~(uint32_t)BLY_MOUNT_READ_ONLY;
    } else if (text_equal(grant, "default") && !is_of_the_root(used, guest)) {
        add_name(names, take_pointer(guest), take_pointer(host), text_equal(operation, "open"));
    }
}

static unsigned depth_of(const char *path)
{
    unsigned depth = 0;
    for (; *path; path++)
        depth += *path == '/' && path[1];
    return depth;
}

/* The first name not before `guest`; the list is sorted. */
static size_t first_within(const struct used_names *names, const char *guest)
{
    size_t low = 0, high = names->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strcmp(names->items[middle].guest, guest) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* How many different names lie below `folder`. */
static size_t count_below(const struct used_names *names, const char *folder)
{
    size_t size = strlen(folder), count = 0;
    for (size_t i = first_within(names, folder);
         i < names->count && strncmp(names->items[i].guest, folder, size) == 0; i++)
        count += names->items[i].guest[size] == '/';
    return count;
}

static bool is_name(const struct used_names *names, const char *guest)
{
    size_t place = first_within(names, guest);
    return place < names->count && text_equal(names->items[place].guest, guest);
}

static bool is_folder(const char *host)
{
    struct stat status;
    return stat(host, &status) == 0 && S_ISDIR(status.st_mode);
}

/* As far down as all that was used below `folder` lies in one folder. Takes and returns a string of
 * its own. */
static char *narrow(const struct used_names *names, size_t index, char *folder)
{
    for (;;) {
        size_t size = strlen(folder), count = count_below(names, folder);
        const char *guest = names->items[index].guest;
        if (strlen(guest) <= size)
            return folder;
        size_t inner_size = size + 1 + strcspn(guest + size + 1, "/");
        char *inner = text_copy_size(guest, inner_size);
        /* The folder itself is among the names when it was looked up. */
        size_t inside = count_below(names, inner) + is_name(names, inner);
        if (inside < count) {
            free(inner);
            return folder;
        }
        free(folder);
        folder = inner;
    }
}

/* The outermost folder above a name that is worth granting whole, or NULL. */
static char *folder_to_grant(const struct used_names *names, size_t index)
{
    const char *guest = names->items[index].guest;
    /* In /etc each file is a decision of its own. */
    if (text_starts_with(guest, "/etc/"))
        return NULL;
    unsigned depth = 0;
    for (const char *slash = strchr(guest + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        if (++depth < FOLDER_DEPTH)
            continue;
        char *folder = text_copy_size(guest, (size_t)(slash - guest));
        if (count_below(names, folder) >= FOLDER_FILES)
            return narrow(names, index, folder);
        free(folder);
    }
    return NULL;
}

static void cover_below(struct used_names *names, const char *folder)
{
    for (size_t i = 0; i < names->count; i++)
        names->items[i].covered |= path_is_within(names->items[i].guest, folder);
}

static void grant_names(struct used_names *names, struct mon_policy *learned)
{
    for (size_t i = 0; i < names->count; i++) {
        struct used_name *name = &names->items[i];
        if (name->covered)
            continue;
        cleanup_free char *folder = folder_to_grant(names, i);
        if (folder) {
            mon_policy_add_mount(learned, folder, folder, BLY_MOUNT_LAYERED | BLY_MOUNT_READ_ONLY);
            cover_below(names, folder);
        } else if (count_below(names, name->guest) == 0 && !is_folder(name->host)) {
            mon_policy_add_mount(learned, name->host, name->guest, BLY_MOUNT_READ_ONLY);
        } else if (name->opened && depth_of(name->guest) > 1) {
            /* A folder that was listed. */
            mon_policy_add_mount(learned, name->host, name->guest,
                                 BLY_MOUNT_LAYERED | BLY_MOUNT_READ_ONLY);
            cover_below(names, name->guest);
        }
    }
}

/* One entry for each name. */
static void unite(struct used_names *names)
{
    size_t kept = 0;
    for (size_t i = 0; i < names->count; i++) {
        struct used_name *last = kept ? &names->items[kept - 1] : NULL;
        if (!last || !text_equal(last->guest, names->items[i].guest)) {
            names->items[kept++] = names->items[i];
            continue;
        }
        last->opened |= names->items[i].opened;
        free(names->items[i].guest);
        free(names->items[i].host);
    }
    names->count = kept;
}

void learn_from_audit(char *lines, const struct mon_policy *used, struct mon_policy *learned)
{
    for (size_t i = 0; i < used->mount_count; i++) {
        const struct mon_mount *mount = &used->mounts[i];
        bool written = mount->flags & (BLY_MOUNT_LAYERED | BLY_MOUNT_READ_ONLY);
        if (!(mount->flags & (MON_MOUNT_DEFAULT_VIEW | BLY_MOUNT_STORE)))
            mon_policy_add_mount(learned, mount->host_path, mount->guest_path,
                                 written ? mount->flags : mount->flags | BLY_MOUNT_READ_ONLY);
    }
    struct used_names names = {0};
    for (char *line; (line = strsep(&lines, "\n"));)
        if (*line)
            read_line(line, used, &names, learned);
    if (names.count)
        qsort(names.items, names.count, sizeof(*names.items), compare_names);
    unite(&names);
    grant_names(&names, learned);
    for (size_t i = 0; i < names.count; i++) {
        free(names.items[i].guest);
        free(names.items[i].host);
    }
    free(names.items);
}

/* ---- The command ---- */

static char *take_output(int *argc, char **argv)
{
    for (int i = 1; i + 1 < *argc && argv[i][0] == '-' && !text_equal(argv[i], "--"); i++) {
        if (!text_equal(argv[i], "-o") && !text_equal(argv[i], "--output"))
            continue;
        char *output = argv[i + 1];
        memmove(argv + i, argv + i + 2, (size_t)(*argc - i - 1) * sizeof(*argv));
        *argc -= 2;
        return output;
    }
    return NULL;
}

/* What the user said of variables is part of the policy; what every program gets by default is not.
 */
static int write_policy(const char *output, const struct launch *launch,
                        const struct text_list *said, char *audit, struct error *error)
{
    const struct mon_policy *used = &launch->policy;
    struct mon_policy learned = {.no_view = true,
                                 .program = text_copy(used->program),
                                 .directory = text_copy(used->directory),
                                 .user = used->user,
                                 .group = used->group,
                                 .memory_limit = used->memory_limit,
                                 .memory_given = used->memory_given,
                                 .process_limit = used->process_limit,
                                 .read_only = used->read_only};
    for (size_t i = 0; i < used->arguments.count; i++)
        text_list_add(&learned.arguments, used->arguments.items[i]);
    for (size_t i = 0; i < said->count; i++)
        text_list_add(&learned.environment, said->items[i]);
    learn_from_audit(audit, used, &learned);
    cleanup_text struct text text = {0};
    text_add(
        &text,
        "# Learned from one run: another run may need more. docs/policy.md describes the keys.\n");
    policy_write_yaml(&learned, &text);
    int result = path_write_file(AT_FDCWD, output, text.data, text.size, 0644);
    size_t count = learned.mount_count;
    mon_policy_free(&learned);
    if (result < 0)
        return error_set_errno(error, result, "cannot write the policy %s", output);
    note("%s: %zu grants learned; run it with: bailey run --policy %s", output, count, output);
    return 0;
}

int learn_policy(int argc, char **argv, struct error *error)
{
    const char *output = take_output(&argc, argv);
    if (!output)
        return error_set(error, -EINVAL, "policy learn: -o FILE says where to write the policy");
    cleanup_launch struct launch launch = {0};
    int status = launch_read(&launch, &command_policy_learn, argc, argv, error);
    if (status != 0)
        return status < 0 ? status : 0;
    struct mon_policy *policy = &launch.policy;
    if (!policy->program)
        return error_set(error, -EINVAL, "policy learn: no program is named");
    if (policy->detach || policy->audit_path)
        return error_set(error, -EINVAL, "policy learn cannot be used with --detach or --audit");
    char audit_path[] = "/tmp/bailey-learn-XXXXXX";
    cleanup_close int audit = mkostemp(audit_path, O_CLOEXEC);
    if (audit < 0)
        return error_set_errno(error, -errno, "cannot make a temporary file");
    policy->audit_path = text_copy(audit_path);
    cleanup_text_list struct text_list said = {0};
    for (size_t i = 0; i < policy->environment.count; i++)
        text_list_add(&said, policy->environment.items[i]);
    status = run_sandbox(&launch, error);
    cleanup_free char *lines = NULL;
    int result =
        status < 0 ? status : path_read_file(AT_FDCWD, audit_path, AUDIT_LIMIT, &lines, NULL);
    unlink(audit_path);
    if (status < 0)
        return status;
    if (result < 0)
        return error_set_errno(error, result, "cannot read what the run used");
    result = write_policy(output, &launch, &said, lines, error);
    return result < 0 ? result : status;
}

const struct command command_policy_learn = {
    .name = "policy learn",
    .arguments = "PROGRAM [ARGUMENTS...]",
    .summary = "Run a program and write the policy that this run needed (-o FILE)",
    .options = launch_options,
    .options_end_at_first = true,
};
