/* The policy file: YAML through libcyaml, by the schema below; every key is described in
 * docs/policy.md. What the file says is put into the policy as the options of `bailey run` would.
 * Unknown keys are refused, with the line and the nearest known key. Relative host paths start at
 * the folder of the file. */
#include <monitor/policy/policy.h>

#include <base/cleanup.h>
#include <base/path.h>
#include <cyaml/cyaml.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <monitor/policy/value.h>
#include <stdio.h>
#include <string.h>

#define FILE_LIMIT (1u << 20)

/* ---- What a file may say ---- */

struct file_volume {
    char *host, *guest;
    int access;
};
struct file_policy {
    char *name, *hostname, *workdir, *user, *memory, *rootfs, *layer, *audit, *env_file, *migratable;
    char **command, **environment;
    unsigned command_count, environment_count;
    uint32_t *pids;
    int tty, interactive, detach, rm, read_only, patching; /* enum truth */
    int view;
    struct file_volume *volumes;
    unsigned volumes_count;
};

enum { ACCESS_READ_WRITE, ACCESS_READ_ONLY, ACCESS_OVERLAY };
static const cyaml_strval_t access_names[] = {
    {"rw", ACCESS_READ_WRITE}, {"ro", ACCESS_READ_ONLY}, {"overlay", ACCESS_OVERLAY}};
enum { VIEW_HOST, VIEW_NONE };
static const cyaml_strval_t view_names[] = {{"host", VIEW_HOST}, {"none", VIEW_NONE}};

/* Not libcyaml's own booleans, which take any word for true. */
enum truth { TRUTH_UNSAID, TRUTH_YES, TRUTH_NO };
static const cyaml_strval_t truth_names[] = {
    {"true", TRUTH_YES}, {"false", TRUTH_NO}, {"yes", TRUTH_YES}, {"no", TRUTH_NO}};

static const cyaml_schema_value_t string_schema = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 0, CYAML_UNLIMITED)};

#define TEXT(key, member)                                                                          \
    CYAML_FIELD_STRING_PTR(key, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct file_policy,      \
                           member, 0, CYAML_UNLIMITED)
#define TEXTS(key, member)                                                                         \
    CYAML_FIELD_SEQUENCE(key, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct file_policy,        \
                         member, &string_schema, 0, 4096)
#define TRUTH(key, member)                                                                         \
    CYAML_FIELD_ENUM(key, CYAML_FLAG_STRICT | CYAML_FLAG_OPTIONAL, struct file_policy, member,     \
                     truth_names, CYAML_ARRAY_LEN(truth_names))

static const cyaml_schema_field_t volume_fields[] = {
    CYAML_FIELD_STRING_PTR("host", CYAML_FLAG_POINTER, struct file_volume, host, 1, PATH_MAX),
    CYAML_FIELD_STRING_PTR("guest", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct file_volume,
                           guest, 1, PATH_MAX),
    CYAML_FIELD_ENUM("access", CYAML_FLAG_STRICT | CYAML_FLAG_OPTIONAL, struct file_volume, access,
                     access_names, CYAML_ARRAY_LEN(access_names)),
    CYAML_FIELD_END};
static const cyaml_schema_value_t volume_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct file_volume, volume_fields)};
static const cyaml_schema_field_t policy_fields[] = {
    TEXTS("command", command),
    TEXT("name", name),
    TEXT("hostname", hostname),
    TEXT("workdir", workdir),
    TEXT("user", user),
    TEXTS("environment", environment),
    TEXT("env-file", env_file),
    CYAML_FIELD_SEQUENCE("volumes", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct file_policy,
                         volumes, &volume_schema, 0, 4096),
    CYAML_FIELD_ENUM("view", CYAML_FLAG_STRICT | CYAML_FLAG_OPTIONAL, struct file_policy, view,
                     view_names, CYAML_ARRAY_LEN(view_names)),
    TEXT("rootfs", rootfs),
    TEXT("layer", layer),
    TRUTH("read-only", read_only),
    TEXT("memory", memory),
    CYAML_FIELD_UINT_PTR("pids", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct file_policy,
                         pids),
    TRUTH("tty", tty),
    TRUTH("interactive", interactive),
    TRUTH("detach", detach),
    TRUTH("rm", rm),
    TEXT("audit", audit),
    TRUTH("patching", patching),
    TEXT("migratable", migratable),
    CYAML_FIELD_END};
static const cyaml_schema_value_t policy_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct file_policy, policy_fields)};

/* ---- Errors as a person needs them ---- */

/* What libcyaml logs: one message, then from the inside out where in the document it happened. */
struct complaint {
    char message[256];
    unsigned line;
};

static void note_complaint(cyaml_log_t level, void *context, const char *format, va_list arguments)
{
    struct complaint *complaint = context;
    char text[512];
    vsnprintf(text, sizeof(text), format, arguments);
    text[strcspn(text, "\n")] = '\0';
    const char *place = strstr(text, "line: ");
    if (place && complaint->line == 0)
        complaint->line = (unsigned)strtoul(place + strlen("line: "), NULL, 10);
    const char *message = text_starts_with(text, "Load: ") ? text + strlen("Load: ") : text;
    if (!complaint->message[0] && message[0] != ' ' && level >= CYAML_LOG_ERROR &&
        !text_equal(message, "Backtrace:"))
        snprintf(complaint->message, sizeof(complaint->message), "%.255s", message);
}

/* The line of a key of that name, from `line` on; libcyaml names the line where the mapping began.
 * The `occurrence`th is meant. */
static unsigned line_of_key(const char *text, unsigned line, const char *key, unsigned occurrence)
{
    size_t size = strlen(key);
    unsigned number = 1;
    for (const char *place = text; place; number++) {
        const char *word = place + strspn(place, " \t-{,\"'");
        if (number >= line && strncmp(word, key, size) == 0) {
            const char *after = word + size;
            after += *after == '"' || *after == '\'';
            if (after[strspn(after, " ")] == ':' && --occurrence == 0)
                return number;
        }
        place = strchr(place, '\n');
        place = place ? place + 1 : NULL;
    }
    return line;
}

static size_t add_keys(const char **keys, size_t count, const cyaml_schema_field_t *fields)
{
    for (; fields->key; fields++)
        keys[count++] = fields->key;
    return count;
}

static int unknown_key(const char *path, const char *text, unsigned line, const char *key,
                       struct error *error)
{
    const char *keys[64];
    size_t count = add_keys(keys, 0, policy_fields);
    count = add_keys(keys, count, volume_fields);
    error_set(error, -EINVAL, "%s:%u: unknown key '%s'", path, line_of_key(text, line, key, 1),
              key);
    const char *nearest = text_nearest(key, keys, count);
    if (nearest)
        return error_hint(error, "did you mean '%s'?", nearest);
    return error_hint(error, "docs/policy.md lists the keys");
}

/* What libcyaml says, as the reader of the file understands it. `%s` is what follows the beginning.
 */
static const struct {
    const char *beginning, *meaning;
} meanings[] = {
    {"Invalid ENUM value: ", "'%s' is none of the values this key can have"},
    {"Invalid uint64_t value: ", "%s is not a number"},
    {"Missing required mapping field: ", "the key '%s' is missing"},
    {"Mapping field already seen: ", "the key '%s' was given before"},
    {"Expecting STRING, got event: ", "one text is expected here, not a list or a mapping"},
    {"Expecting UINT, got event: ", "one number is expected here, not a list or a mapping"},
    {"Expecting ENUM, got event: ", "one word is expected here, not a list or a mapping"},
    {"Expecting SEQUENCE, got event: ", "a list is expected here (lines that begin with '- ')"},
    {"Expecting MAPPING, got event: ", "keys and values are expected here (key: value)"},
};

static char *fill_in(const char *meaning, const char *value)
{
    const char *place = strstr(meaning, "%s");
    if (!place)
        return text_copy(meaning);
    return text_print("%.*s%s%s", (int)(place - meaning), meaning, value, place + 2);
}

static int complain(const char *path, const char *text, const struct complaint *complaint,
                    cyaml_err_t code, struct error *error)
{
    static const char unexpected[] = "Unexpected key: ", twice[] = "Mapping field already seen: ";
    const char *message = complaint->message[0] ? complaint->message : cyaml_strerror(code);
    unsigned line = complaint->line ? complaint->line : 1;
    if (text_starts_with(message, unexpected))
        return unknown_key(path, text, line, message + strlen(unexpected), error);
    if (text_starts_with(message, twice))
        line = line_of_key(text, line, message + strlen(twice), 2);
    for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++) {
        if (!text_starts_with(message, meanings[i].beginning))
            continue;
        cleanup_free char *meaning =
            fill_in(meanings[i].meaning, message + strlen(meanings[i].beginning));
        return error_set(error, -EINVAL, "%s:%u: %s", path, line, meaning);
    }
    return error_set(error, -EINVAL, "%s:%u: %s", path, line, message);
}

/* ---- Into the policy ---- */

static void take_text(char **place, const char *value)
{
    if (!value)
        return;
    free(*place);
    *place = text_copy(value);
}

static void take_path(char **place, const char *value, const char *folder)
{
    if (!value)
        return;
    free(*place);
    *place = path_join(folder, value);
}

static void take_truth(bool *place, int truth)
{
    if (truth != TRUTH_UNSAID)
        *place = truth == TRUTH_YES;
}

static int take_volumes(struct mon_policy *policy, const struct file_policy *file,
                        const char *folder, struct error *error)
{
    static const uint32_t flags[] = {
        [ACCESS_READ_WRITE] = 0,
        [ACCESS_READ_ONLY] = BLY_MOUNT_READ_ONLY,
        [ACCESS_OVERLAY] = BLY_MOUNT_LAYERED | BLY_MOUNT_READ_ONLY,
    };
    for (unsigned i = 0; i < file->volumes_count; i++) {
        const struct file_volume *volume = &file->volumes[i];
        cleanup_free char *joined = path_join(folder, volume->host);
        cleanup_free char *host = path_normalise(joined);
        if (volume->guest && volume->guest[0] != '/')
            return error_set(error, -EINVAL,
                             "volume %s: the place in the sandbox, %s, must be an absolute path",
                             volume->host, volume->guest);
        mon_policy_add_mount(policy, host, volume->guest ? volume->guest : host,
                             flags[volume->access]);
    }
    return 0;
}

static int take_file(struct mon_policy *policy, const struct file_policy *file, const char *folder,
                     struct error *error)
{
    int result = 0;
    take_text(&policy->name, file->name);
    take_text(&policy->host_name, file->hostname);
    take_text(&policy->directory, file->workdir);
    take_path(&policy->rootfs, file->rootfs, folder);
    take_path(&policy->layer_path, file->layer, folder);
    take_path(&policy->audit_path, file->audit, folder);
    take_truth(&policy->interactive, file->interactive);
    take_truth(&policy->detach, file->detach);
    take_truth(&policy->remove_at_exit, file->rm);
    take_truth(&policy->read_only, file->read_only);
    policy->no_view = file->view == VIEW_NONE;
    take_truth(&policy->terminal, file->tty);
    policy->terminal_given |= file->tty != TRUTH_UNSAID;
    if (file->patching != TRUTH_UNSAID)
        policy->no_patching = file->patching == TRUTH_NO;
    if (file->pids)
        policy->process_limit = *file->pids;
    for (unsigned i = 0; i < file->command_count; i++)
        text_list_add(&policy->arguments, file->command[i]);
    if (file->command_count)
        take_text(&policy->program, file->command[0]);
    policy->memory_given |= file->memory != NULL;
    if (file->memory && result == 0)
        result = policy_parse_memory(file->memory, &policy->memory_limit, error);
    if (file->user && result == 0)
        result = policy_parse_user(file->user, &policy->user, &policy->group, error);
    if (file->hostname && result == 0)
        result = policy_check_host_name(file->hostname, error);
    if (file->migratable && result == 0)
        result = policy_parse_level(file->migratable, &policy->migratable, error);
    if (file->env_file && result == 0) {
        cleanup_free char *path = path_join(folder, file->env_file);
        result = policy_add_variable_file(&policy->environment, path, error);
    }
    for (unsigned i = 0; i < file->environment_count && result == 0; i++)
        result = policy_add_variable(&policy->environment, file->environment[i], error);
    return result == 0 ? take_volumes(policy, file, folder, error) : result;
}

/* The folder that holds the file, as an absolute path. */
static char *folder_of(const char *path)
{
    char resolved[PATH_MAX];
    if (!realpath(path, resolved))
        return text_copy("/");
    char *slash = strrchr(resolved, '/');
    slash[slash == resolved] = '\0';
    return text_copy(resolved);
}

int mon_policy_read_text(struct mon_policy *policy, const char *text, size_t size, const char *path,
                         const char *folder, struct error *error)
{
    struct complaint complaint = {0};
    const cyaml_config_t config = {
        .log_fn = note_complaint,
        .log_ctx = &complaint,
        .log_level = CYAML_LOG_ERROR,
        .mem_fn = cyaml_mem,
        .flags = CYAML_CFG_DEFAULT | CYAML_CFG_NO_ALIAS,
    };
    struct file_policy *file = NULL;
    cyaml_err_t code = cyaml_load_data((const uint8_t *)text, size, &config, &policy_schema,
                                       (cyaml_data_t **)&file, NULL);
    if (code != CYAML_OK)
        return complain(path, text, &complaint, code, error);
    if (!file)
        return 0; /* nothing but comments */
    int result = take_file(policy, file, folder, error);
    cyaml_free(&config, &policy_schema, file, 0);
    return result < 0 ? error_wrap(error, "%s", path) : 0;
}

int mon_policy_read_file(struct mon_policy *policy, const char *path, struct error *error)
{
    cleanup_free char *text = NULL;
    size_t size = 0;
    int result = path_read_file(AT_FDCWD, path, FILE_LIMIT, &text, &size);
    if (result < 0)
        return error_set_errno(error, result, "cannot read the policy %s", path);
    cleanup_free char *folder = folder_of(path);
    return mon_policy_read_text(policy, text, size, path, folder, error);
}
