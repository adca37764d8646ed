/* The policy's data: adding, freeing, resolving and checking, and the questions that are answered
 * from it. */
#include <monitor/policy/policy.h>

#include <base/cleanup.h>
#include <base/path.h>
#include <errno.h>
#include <limits.h>
#include <monitor/processor-features.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static struct mon_mount *find_mount(const struct mon_policy *policy, const char *guest_path)
{
    for (size_t i = 0; i < policy->mount_count; i++)
        if (text_equal(policy->mounts[i].guest_path, guest_path))
            return &policy->mounts[i];
    return NULL;
}

const struct mon_mount *mon_policy_find_mount(const struct mon_policy *policy,
                                              const char *guest_path)
{
    return find_mount(policy, guest_path);
}

void mon_policy_add_mount(struct mon_policy *policy, const char *host_path, const char *guest_path,
                          uint32_t flags)
{
    cleanup_free char *guest = path_normalise(guest_path);
    struct mon_mount *mount = find_mount(policy, guest);
    if (!mount) {
        if (policy->mount_count == policy->mount_capacity) {
            policy->mount_capacity = policy->mount_capacity ? policy->mount_capacity * 2 : 16;
            policy->mounts =
                memory_resize(policy->mounts, policy->mount_capacity * sizeof(*policy->mounts));
        }
        mount = &policy->mounts[policy->mount_count++];
        *mount = (struct mon_mount){.guest_path = take_pointer(guest)};
    }
    free(mount->host_path);
    mount->host_path = text_copy(host_path);
    mount->flags = flags;
}

void mon_policy_add_node(struct mon_policy *policy, enum bly_start_node_kind kind, const char *path,
                         uint32_t mode, const char *content)
{
    if (policy->node_count == policy->node_capacity) {
        policy->node_capacity = policy->node_capacity ? policy->node_capacity * 2 : 32;
        policy->nodes =
            memory_resize(policy->nodes, policy->node_capacity * sizeof(*policy->nodes));
    }
    policy->nodes[policy->node_count++] = (struct mon_node){
        .path = text_copy(path),
        .kind = kind,
        .mode = mode,
        .content = content ? text_copy(content) : NULL,
    };
}

void mon_policy_free(struct mon_policy *policy)
{
    for (size_t i = 0; i < policy->mount_count; i++) {
        free(policy->mounts[i].host_path);
        free(policy->mounts[i].guest_path);
    }
    for (size_t i = 0; i < policy->node_count; i++) {
        free(policy->nodes[i].path);
        free(policy->nodes[i].content);
    }
    free(policy->mounts);
    free(policy->nodes);
    text_list_free(&policy->arguments);
    text_list_free(&policy->environment);
    char *texts[] = {policy->program, policy->directory,  policy->name,       policy->host_name,
                     policy->rootfs,  policy->audit_path, policy->layer_path, policy->state_path};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        free(texts[i]);
    *policy = (struct mon_policy){0};
}

/* ---- Resolving and checking ---- */

bool mon_policy_is_kernels_own(long type)
{
    static const long types[] = {
        0x9fa0 /* proc */,           0x62656572 /* sysfs */,   0x27e0eb /* cgroup */,
        0x63677270 /* cgroup2 */,    0x64626720 /* debugfs */, 0x74726163 /* tracefs */,
        0x73636673 /* securityfs */, 0xcafe4a11 /* bpf */,     0xde5e81e4 /* efivarfs */};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (type == types[i])
            return true;
    return false;
}

/* -EACCES by an ordinary user's search permission and the like are told apart from what is simply
 * not there. */
static int resolve_mount(struct mon_mount *mount, struct error *error)
{
    char resolved[PATH_MAX];
    if (!realpath(mount->host_path, resolved)) {
        int code = -errno;
        error_set_errno(error, code, "cannot give %s to the sandbox", mount->host_path);
        if (code == -ENOENT)
            error_hint(error, "make the folder first, or correct the name");
        return code;
    }
    struct stat status;
    if (stat(resolved, &status) < 0)
        return error_set_errno(error, -errno, "cannot give %s to the sandbox", mount->host_path);
    if (S_ISREG(status.st_mode))
        mount->flags |= BLY_MOUNT_FILE;
    else if (!S_ISDIR(status.st_mode))
        return error_set(error, -EINVAL,
                         "cannot give %s to the sandbox: it is neither a folder nor a regular file",
                         mount->host_path);
    struct statfs file_system;
    if (statfs(resolved, &file_system) == 0 && mon_policy_is_kernels_own((long)file_system.f_type))
        return error_set(error, -EPERM,
                         "cannot give %s to the sandbox: it belongs to the host's kernel "
                         "(the sandbox has a /proc and a /sys of its own)",
                         mount->host_path);
    free(mount->host_path);
    mount->host_path = text_copy(resolved);
    return 0;
}

static int compare_mounts(const void *a, const void *b)
{
    const struct mon_mount *one = a, *other = b;
    return strcmp(one->guest_path, other->guest_path);
}

static int compare_nodes(const void *a, const void *b)
{
    const struct mon_node *one = a, *other = b;
    return strcmp(one->path, other->path);
}

static int check_guest_paths(const struct mon_policy *policy, struct error *error)
{
    static const char *const own[] = {"/proc", "/sys", "/dev"};
    for (size_t i = 0; i < policy->mount_count; i++) {
        const struct mon_mount *mount = &policy->mounts[i];
        if (mount->guest_path[0] != '/')
            return error_set(error, -EINVAL, "%s is not an absolute path in the sandbox",
                             mount->guest_path);
        if (text_equal(mount->guest_path, "/") && !(mount->flags & BLY_MOUNT_LAYERED))
            return error_set(error, -EINVAL,
                             "a folder cannot be given as / with -v (use --rootfs DIR)");
        for (size_t j = 0; j < sizeof(own) / sizeof(own[0]); j++)
            if (path_is_within(mount->guest_path, own[j]))
                return error_set(error, -EINVAL,
                                 "nothing can be given at %s: %s is the sandbox's own (name "
                                 "another place: -v %s:GUEST)",
                                 mount->guest_path, own[j], mount->host_path);
    }
    return 0;
}

/* A file that the user gives goes before the one that would have been made for the sandbox. */
static void drop_hidden_nodes(struct mon_policy *policy)
{
    size_t kept = 0;
    for (size_t i = 0; i < policy->node_count; i++) {
        struct mon_node node = policy->nodes[i];
        if (node.kind == BLY_NODE_TEXT && find_mount(policy, node.path)) {
            free(node.path);
            free(node.content);
        } else {
            policy->nodes[kept++] = node;
        }
    }
    policy->node_count = kept;
}

int mon_policy_check_processor(const struct mon_policy *policy, const struct mon_features *here,
                               bool can_fault, struct error *error)
{
    struct mon_features needed;
    char names[256];
    mon_processor_level(policy->migratable, &needed);
    if (mon_processor_missing(&needed, here, names, sizeof(names)))
        return error_set(error, -EOPNOTSUPP,
                         "this processor is not of the level x86-64-v%u that programs are to see: "
                         "it lacks %s",
                         policy->migratable, names);
    if (policy->no_patching && !can_fault) {
        error_set(error, -EOPNOTSUPP,
                  "programs would see more than x86-64-v%u: this host cannot make the CPUID "
                  "instruction fault, and --no-patch leaves it in their code",
                  policy->migratable);
        return error_hint(error, "leave out --no-patch or --migratable");
    }
    return 0;
}

int mon_policy_check(struct mon_policy *policy, struct error *error)
{
    int result = check_guest_paths(policy, error);
    for (size_t i = 0; result == 0 && i < policy->mount_count; i++)
        result = resolve_mount(&policy->mounts[i], error);
    if (result < 0)
        return result;
    if (policy->directory[0] != '/')
        return error_set(error, -EINVAL, "the working folder %s is not an absolute path",
                         policy->directory);
    if (policy->process_limit > MON_PROCESS_LIMIT_MAX)
        return error_set(error, -EINVAL,
                         "a limit of %u processes is too high: at most %u are possible",
                         policy->process_limit, MON_PROCESS_LIMIT_MAX);
    drop_hidden_nodes(policy);
    /* A path sorts after every path it lies below. */
    if (policy->mount_count)
        qsort(policy->mounts, policy->mount_count, sizeof(*policy->mounts), compare_mounts);
    if (policy->node_count)
        qsort(policy->nodes, policy->node_count, sizeof(*policy->nodes), compare_nodes);
    return 0;
}

/* ---- Questions ---- */

char *mon_policy_guest_path(const struct mon_policy *policy, const char *host_path)
{
    const struct mon_mount *best = NULL;
    for (size_t i = 0; i < policy->mount_count; i++) {
        const struct mon_mount *mount = &policy->mounts[i];
        if (path_is_within(host_path, mount->host_path) &&
            (!best || strlen(mount->host_path) > strlen(best->host_path)))
            best = mount;
    }
    if (!best)
        return NULL;
    size_t size = strlen(best->host_path);
    if (size == 1)
        size = 0;
    const char *rest = host_path + size;
    if (text_equal(best->guest_path, "/"))
        return text_copy(rest[0] ? rest : "/");
    return text_print("%s%s", best->guest_path, rest);
}

char *mon_policy_host_path(const struct mon_policy *policy, const char *guest_path)
{
    const struct mon_mount *best = NULL;
    for (size_t i = 0; i < policy->mount_count; i++) {
        const struct mon_mount *mount = &policy->mounts[i];
        if (path_is_within(guest_path, mount->guest_path) &&
            (!best || strlen(mount->guest_path) > strlen(best->guest_path)))
            best = mount;
    }
    if (!best)
        return NULL;
    size_t size = strlen(best->guest_path);
    if (size == 1)
        size = 0;
    const char *rest = guest_path + size;
    if (text_equal(best->host_path, "/"))
        return text_copy(rest[0] ? rest : "/");
    return text_print("%s%s", best->host_path, rest);
}

/* The host's file that the user may have meant: by path, or by name in the host's own PATH. */
static bool find_on_host(const char *program, char resolved[PATH_MAX])
{
    if (strchr(program, '/'))
        return realpath(program, resolved) && access(resolved, F_OK) == 0;
    const char *path = getenv("PATH");
    cleanup_free char *copy = text_copy(path && *path ? path : DEFAULT_PATH);
    char *rest = copy;
    for (char *folder; (folder = strsep(&rest, ":"));) {
        cleanup_free char *candidate = path_join(*folder ? folder : ".", program);
        struct stat status;
        if (stat(candidate, &status) == 0 && S_ISREG(status.st_mode) &&
            access(candidate, X_OK) == 0 && realpath(candidate, resolved))
            return true;
    }
    return false;
}

/* Reads enough of a program on the host to say why it cannot be executed. */
static const char *format_problem(const char *path)
{
    unsigned char head[20] = {0};
    FILE *file = fopen(path, "rbe");
    if (!file)
        return NULL;
    size_t size = fread(head, 1, sizeof(head), file);
    fclose(file);
    if (size == 0)
        return "the file is empty";
    if (size < sizeof(head) || memcmp(head, "\177ELF", 4) != 0)
        return head[0] == '#' && head[1] == '!'
                   ? NULL
                   : "it is neither an ELF program nor a script with #!";
    if (head[4] != 2)
        return "it is a 32-bit program, and Bailey runs 64-bit x86 programs";
    if (head[18] != 62 || head[19] != 0)
        return "it was built for another processor, and Bailey runs 64-bit x86 programs";
    return NULL;
}

/* The interpreter that a script's first line names, or NULL. */
static char *interpreter_of(const char *path)
{
    char line[256] = {0};
    cleanup_file FILE *file = fopen(path, "rbe");
    if (!file || !fgets(line, sizeof(line), file) || !text_starts_with(line, "#!"))
        return NULL;
    const char *name = line + 2 + strspn(line + 2, " \t");
    size_t size = strcspn(name, " \t\r\n");
    return size ? text_copy_size(name, size) : NULL;
}

/* What of this host is not seen in the sandbox, and how it would be. */
static void explain_missing(const struct mon_policy *policy, const char *name, struct error *error)
{
    char resolved[PATH_MAX];
    if (!find_on_host(name, resolved)) {
        error_hint(error, "this host has no such program either");
        return;
    }
    cleanup_free char *guest = mon_policy_guest_path(policy, resolved);
    cleanup_free char *joined = path_join(policy->directory, name);
    cleanup_free char *meant = path_normalise(joined);
    cleanup_free char *interpreter = interpreter_of(resolved);
    if (!guest) {
        const char *slash = strrchr(resolved, '/');
        int size = slash == resolved ? 1 : (int)(slash - resolved);
        error_hint(error,
                   "the host has it, but its folder is not given: bailey run -v %.*s:ro ... %s",
                   size, resolved, resolved);
    } else if (!text_equal(guest, meant) && strchr(name, '/') && name[0] != '/') {
        error_hint(error, "the program runs in %s; it is there as %s (-w names another folder)",
                   policy->directory, guest);
    } else if (!text_equal(guest, meant)) {
        error_hint(error, "%s of this host is seen there as %s", resolved, guest);
    } else if (!interpreter) {
        error_hint(error, "it is there, but the loader that it names is not");
    } else if (find_on_host(interpreter, resolved)) {
        const char *slash = strrchr(resolved, '/');
        error_hint(error, "its first line names %s, which is not given: bailey run -v %.*s:ro ...",
                   interpreter, (int)(slash - resolved), resolved);
    } else {
        error_hint(error, "its first line names %s, which is not there", interpreter);
    }
}

/* The working folder is not there. */
static void explain_folder(const struct mon_policy *policy, struct error *error)
{
    char resolved[PATH_MAX];
    if (realpath(policy->directory, resolved))
        error_hint(error, "the working folder is not given: bailey run -v %s ...",
                   policy->directory);
    else
        error_hint(error, "the working folder does not exist");
}

int mon_policy_explain_program(const struct mon_policy *policy, const char *program,
                               const char *what, int code, struct error *error)
{
    static const int not_executable[] = {-EACCES,  -ENOEXEC, -EISDIR, -EPERM,
                                         -ELIBBAD, -ELOOP,   -ETXTBSY};
    bool other = *what && !text_equal(what, program);
    error_set_errno(error, code, "cannot run %s%s%s", program, other ? ": " : "",
                    other ? what : "");
    if (other && text_equal(what, policy->directory)) {
        explain_folder(policy, error);
        return code;
    }
    if (code == -ENOENT || code == -ENOTDIR) {
        explain_missing(policy, other ? what : program, error);
        return error_exit_status(error, EXIT_NOT_FOUND);
    }
    char resolved[PATH_MAX];
    cleanup_free char *host = program[0] == '/' ? mon_policy_host_path(policy, program) : NULL;
    const char *problem = NULL;
    if (code == -ENOEXEC && !other && (host || find_on_host(program, resolved)))
        problem = format_problem(host ? host : resolved);
    if (problem)
        error_hint(error, "%s", problem);
    else if (code == -EACCES && !other)
        error_hint(error, "it is not marked executable, or it is a folder");
    for (size_t i = 0; i < sizeof(not_executable) / sizeof(not_executable[0]); i++)
        if (code == not_executable[i])
            error_exit_status(error, EXIT_NOT_EXECUTABLE);
    return code;
}
