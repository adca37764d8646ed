/* Values as users write them: volumes, variables, sizes, users. Each error names the value, what is
 * wrong with it and what is expected. */
#include <monitor/policy/value.h>

#include <base/cleanup.h>
#include <base/path.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define VARIABLE_FILE_LIMIT (1u << 20)
#define MEMORY_MINIMUM (8u << 20) /* the kernel heap of an idle sandbox fits in a quarter of it */

int policy_parse_number(const char *what, const char *text, uint32_t minimum, uint32_t maximum,
                        uint32_t *out_number, struct error *error)
{
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || number < minimum || number > maximum)
        return error_set(error, -EINVAL, "%s %s: a number from %u to %u is expected", what, text,
                         minimum, maximum);
    *out_number = (uint32_t)number;
    return 0;
}

int policy_parse_size(const char *text, uint64_t *out_bytes, struct error *error)
{
    static const char units[] = "bkmgt";
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    unsigned shift = 0;
    bool valid = *text >= '0' && *text <= '9' && errno == 0;
    if (valid && *end) {
        const char *unit = strchr(units, *end | 0x20);
        valid = unit && *unit;
        if (valid) {
            shift = 10 * (unsigned)(unit - units);
            end++;
            /* 64k, 64kb and 64KiB are the same to those who write them. */
            if (shift && (*end == 'i' || *end == 'I'))
                end++;
            if (shift && (*end == 'b' || *end == 'B'))
                end++;
            valid = *end == '\0' && number <= UINT64_MAX >> shift;
        }
    }
    if (!valid)
        return error_set(error, -EINVAL, "%s is not a size (examples: 512m, 2g)", text);
    *out_bytes = (uint64_t)number << shift;
    return 0;
}

int policy_parse_memory(const char *text, uint64_t *out_bytes, struct error *error)
{
    int result = policy_parse_size(text, out_bytes, error);
    if (result == 0 && *out_bytes && *out_bytes < MEMORY_MINIMUM)
        result =
            error_set(error, -EINVAL, "a memory limit of %s is too little: at least %um is needed",
                      text, MEMORY_MINIMUM >> 20);
    return result;
}

int policy_parse_level(const char *text, uint32_t *out_level, struct error *error)
{
    static const char prefix[] = "x86-64-v";
    const char *digit = text + strlen(prefix);
    if (!text_starts_with(text, prefix) || *digit < '2' || *digit > '4' || digit[1])
        return error_set(error, -EINVAL, "%s is not a level of processors: x86-64-v2, x86-64-v3 or x86-64-v4 is expected", text);
    *out_level = (uint32_t)(*digit - '0');
    return 0;
}

int policy_check_host_name(const char *name, struct error *error)
{
    size_t size = strlen(name);
    if (size == 0 || size > 63 || name[0] == '-' ||
        strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") != size)
        return error_set(
            error, -EINVAL,
            "%s cannot be a host name: letters, digits, dots and dashes are expected, at most 63, and "
            "no dash at the beginning",
            name);
    return 0;
}

static bool parse_id(const char *text, uint32_t *out_id)
{
    struct error ignored;
    return policy_parse_number("", text, 0, UINT32_MAX - 1, out_id, &ignored) == 0;
}

/* Names are those of the host's passwd and group files, read directly: a static program has no name
 * services. */
static bool find_user(const char *name, uint32_t *out_user, uint32_t *out_group)
{
    cleanup_file FILE *file = fopen("/etc/passwd", "re");
    for (struct passwd *entry; file && (entry = fgetpwent(file));) {
        if (text_equal(entry->pw_name, name)) {
            *out_user = entry->pw_uid;
            *out_group = entry->pw_gid;
            return true;
        }
    }
    return false;
}

static bool find_group(const char *name, uint32_t *out_group)
{
    cleanup_file FILE *file = fopen("/etc/group", "re");
    for (struct group *entry; file && (entry = fgetgrent(file));) {
        if (text_equal(entry->gr_name, name)) {
            *out_group = entry->gr_gid;
            return true;
        }
    }
    return false;
}

int policy_parse_user(const char *text, uint32_t *out_user, uint32_t *out_group,
                      struct error *error)
{
    cleanup_free char *user = text_copy(text);
    char *group = strchr(user, ':');
    if (group)
        *group++ = '\0';
    *out_group = 0;
    if (parse_id(user, out_user))
        *out_group = group ? 0 : *out_user;
    else if (!find_user(user, out_user, out_group))
        return error_set(error, -EINVAL,
                         "--user %s: there is no user %s (UID or UID:GID is expected)", text, user);
    if (group && !parse_id(group, out_group) && !find_group(group, out_group))
        return error_set(error, -EINVAL, "--user %s: there is no group %s", text, group);
    return 0;
}

/* ---- Volumes ---- */

/* As podman's options: O is an overlay: what is written stays in the private layer. */
static bool find_access(const char *text, uint32_t *out_flags)
{
    static const struct {
        const char *name;
        uint32_t flags;
    } kinds[] = {
        {"rw", 0}, {"ro", BLY_MOUNT_READ_ONLY}, {"O", BLY_MOUNT_LAYERED | BLY_MOUNT_READ_ONLY}};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (text_equal(kinds[i].name, text)) {
            *out_flags = kinds[i].flags;
            return true;
        }
    }
    return false;
}

int policy_add_volume(struct mon_policy *policy, const char *volume, const char *base,
                      struct error *error)
{
    cleanup_free char *copy = text_copy(volume);
    char *rest = copy, *parts[4];
    size_t count = 0;
    for (char *part; count < 4 && (part = strsep(&rest, ":"));)
        parts[count++] = part;
    const char *expected = "HOST, HOST:GUEST, HOST:ro or HOST:GUEST:ro is expected";
    if (count > 3 || parts[0][0] == '\0')
        return error_set(error, -EINVAL, "-v %s: %s", volume, expected);
    uint32_t flags = 0;
    const char *guest = NULL;
    for (size_t i = 1; i < count; i++) {
        bool last = i == count - 1;
        if (last && find_access(parts[i], &flags))
            continue;
        if (i == 1 && parts[i][0] == '/')
            guest = parts[i];
        else if (i == 1)
            return error_set(error, -EINVAL,
                             "-v %s: the place in the sandbox, %s, must be an absolute path",
                             volume, parts[i]);
        else
            return error_set(error, -EINVAL, "-v %s: %s is none of ro, rw, O", volume, parts[i]);
    }
    cleanup_free char *joined = path_join(base, parts[0]);
    cleanup_free char *host = path_normalise(joined);
    /* `..` by text is not `..` of a folder reached through a link; the kernel's answer is taken
     * where there is one. */
    char resolved[PATH_MAX];
    if (strstr(joined, "..") && realpath(joined, resolved)) {
        free(host);
        host = text_copy(resolved);
    }
    mon_policy_add_mount(policy, host, guest ? guest : host, flags);
    return 0;
}

/* ---- Environment ---- */

int policy_add_variable(struct text_list *environment, const char *variable, struct error *error)
{
    const char *equals = strchr(variable, '=');
    if (equals == variable || !*variable)
        return error_set(error, -EINVAL, "-e %s: NAME=VALUE or NAME is expected", variable);
    cleanup_free char *name =
        text_copy_size(variable, equals ? (size_t)(equals - variable) : strlen(variable));
    const char *value = equals ? equals + 1 : getenv(name);
    if (value)
        text_list_set_variable(environment, name, value);
    return 0;
}

int policy_add_variable_file(struct text_list *environment, const char *path, struct error *error)
{
    cleanup_free char *content = NULL;
    int result = path_read_file(AT_FDCWD, path, VARIABLE_FILE_LIMIT, &content, NULL);
    if (result < 0)
        return error_set_errno(error, result, "cannot read the variables in %s", path);
    unsigned line_number = 0;
    char *rest = content;
    for (char *line; (line = strsep(&rest, "\n"));) {
        line_number++;
        line += strspn(line, " \t");
        size_t size = strlen(line);
        if (size && line[size - 1] == '\r')
            line[size - 1] = '\0';
        if (*line == '\0' || *line == '#')
            continue;
        if (policy_add_variable(environment, line, error) < 0)
            return error_set(error, -EINVAL, "%s:%u: NAME=VALUE or NAME is expected", path,
                             line_number);
    }
    return 0;
}

static void set_default(struct text_list *environment, const char *name, const char *value)
{
    if (!text_list_variable(environment, name))
        text_list_set_variable(environment, name, value);
}

extern char **environ;

void policy_default_environment(struct text_list *environment, uint32_t user, const char *host_name,
                                bool terminal)
{
    set_default(environment, "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    set_default(environment, "HOME", user == 0 ? "/root" : "/tmp");
    set_default(environment, "HOSTNAME", host_name);
    set_default(environment, "container", "bailey");
    for (char **variable = environ; *variable; variable++) {
        bool kept = text_starts_with(*variable, "LANG=") ||
                    text_starts_with(*variable, "LANGUAGE=") ||
                    text_starts_with(*variable, "LC_") || text_starts_with(*variable, "TERM=");
        char *equals = strchr(*variable, '=');
        if (!kept || !equals)
            continue;
        cleanup_free char *name = text_copy_size(*variable, (size_t)(equals - *variable));
        set_default(environment, name, equals + 1);
    }
    if (terminal)
        set_default(environment, "TERM", "xterm");
}
