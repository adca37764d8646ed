/* A policy as bytes. Numbers are little-endian; a text is its size (32 bits) and its bytes; one
 * that is not there (NULL) has the size ABSENT. In this order, without gaps:
 *
 *   version, flags, user, group, process limit, open file limit, level of the processor (32 bits each), memory limit (64)
 *   program, directory, name, host name, rootfs, audit file, layer folder
 *   arguments, environment: count, then the texts
 *   mounts: count, then for each: flags, host path, guest path, by guest path
 *   nodes: count, then for each: kind, mode, path, content, by path */
#include <monitor/policy/save.h>

#include <base/cleanup.h>
#include <base/path.h>
#include <errno.h>
#include <limits.h>
#include <monitor/policy/value.h>
#include <string.h>

#define VERSION 2u
#define ABSENT UINT32_MAX
#define TEXT_MAX (1u << 20)
#define LIST_MAX 65536u
#define TABLE_MAX 4096u /* of mounts and nodes, which are looked through for each other */
#define MOUNT_FLAGS                                                                                \
    ((uint32_t)BLY_MOUNT_LAYERED | BLY_MOUNT_READ_ONLY | BLY_MOUNT_FILE | MON_MOUNT_DEFAULT_VIEW)

/* The truths of a policy, by their bit. */
#define TRUTHS(of)                                                                                 \
    {                                                                                              \
        &(of)->terminal, &(of)->terminal_given, &(of)->interactive, &(of)->detach,                 \
            &(of)->read_only, &(of)->remove_at_exit, &(of)->no_patching, &(of)->trace_syscalls,    \
            &(of)->trace_abi, &(of)->no_view, &(of)->memory_given                                  \
    }
#define TEXTS(of)                                                                                  \
    {                                                                                              \
        &(of)->program, &(of)->directory, &(of)->name, &(of)->host_name, &(of)->rootfs,            \
            &(of)->audit_path, &(of)->layer_path                                                   \
    }
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* ---- Saving ---- */

static void put_number(struct text *out, uint32_t number)
{
    text_add_size(out, &number, sizeof(number));
}

static void put_text(struct text *out, const char *text)
{
    put_number(out, text ? (uint32_t)strlen(text) : ABSENT);
    if (text)
        text_add(out, text);
}

static void put_list(struct text *out, const struct text_list *list)
{
    put_number(out, (uint32_t)list->count);
    for (size_t i = 0; i < list->count; i++)
        put_text(out, list->items[i]);
}

static void put_mounts(struct text *out, const struct mon_policy *policy)
{
    uint32_t count = 0;
    for (size_t i = 0; i < policy->mount_count; i++)
        count += !(policy->mounts[i].flags & BLY_MOUNT_STORE);
    put_number(out, count);
    for (size_t i = 0; i < policy->mount_count; i++) {
        const struct mon_mount *mount = &policy->mounts[i];
        if (mount->flags & BLY_MOUNT_STORE)
            continue;
        put_number(out, mount->flags);
        put_text(out, mount->host_path);
        put_text(out, mount->guest_path);
    }
}

int mon_policy_save(const struct mon_policy *policy, struct text *out)
{
    const bool *const truths[] = TRUTHS(policy);
    char *const *const texts[] = TEXTS(policy);
    size_t start = out->size;
    uint32_t flags = 0;
    for (size_t i = 0; i < COUNT_OF(truths); i++)
        flags |= (uint32_t)*truths[i] << i;
    put_number(out, VERSION);
    put_number(out, flags);
    put_number(out, policy->user);
    put_number(out, policy->group);
    put_number(out, policy->process_limit);
    put_number(out, policy->open_file_limit);
    put_number(out, policy->migratable);
    text_add_size(out, &policy->memory_limit, sizeof(policy->memory_limit));
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        put_text(out, *texts[i]);
    put_list(out, &policy->arguments);
    put_list(out, &policy->environment);
    put_mounts(out, policy);
    put_number(out, (uint32_t)policy->node_count);
    for (size_t i = 0; i < policy->node_count; i++) {
        put_number(out, policy->nodes[i].kind);
        put_number(out, policy->nodes[i].mode);
        put_text(out, policy->nodes[i].path);
        put_text(out, policy->nodes[i].content);
    }
    return out->size - start > MON_POLICY_SAVED_MAX ? -E2BIG : 0;
}

/* ---- Loading ---- */

/* What is left to read. `problem` is the first thing that was wrong, after which everything reads
 * as zero or NULL: it is asked for once a part. */
struct source {
    const unsigned char *data;
    size_t size;
    const char *problem;
};

static void refuse(struct source *source, const char *problem)
{
    if (!source->problem)
        source->problem = problem;
}

static void take(struct source *source, void *out, size_t size)
{
    memset(out, 0, size);
    if (!source->problem && size > source->size)
        refuse(source, "it is cut short");
    if (source->problem)
        return;
    memcpy(out, source->data, size);
    source->data += size;
    source->size -= size;
}

static uint32_t take_number(struct source *source)
{
    uint32_t number;
    take(source, &number, sizeof(number));
    return number;
}

static uint32_t take_count(struct source *source, uint32_t most)
{
    uint32_t count = take_number(source);
    if (count > most)
        refuse(source, "a list in it is too long");
    return source->problem ? 0 : count;
}

static char *take_text(struct source *source)
{
    uint32_t size = take_number(source);
    if (source->problem || size == ABSENT)
        return NULL;
    if (size > TEXT_MAX)
        refuse(source, "a text in it is too long");
    else if (size > source->size)
        refuse(source, "it is cut short");
    else if (memchr(source->data, '\0', size))
        refuse(source, "a text in it is broken");
    if (source->problem)
        return NULL;
    char *text = text_copy_size((const char *)source->data, size);
    source->data += size;
    source->size -= size;
    return text;
}

/* A text that must be there: the empty one where it is not. */
static char *take_present(struct source *source)
{
    char *text = take_text(source);
    if (text)
        return text;
    refuse(source, "something is missing");
    return text_copy("");
}

/* An absolute path without `.`, `..` and empty parts. */
static char *take_path(struct source *source)
{
    char *path = take_present(source);
    cleanup_free char *normal = path_normalise(path);
    if (path[0] != '/' || !text_equal(path, normal) || strlen(path) >= PATH_MAX)
        refuse(source, "a path in it is not absolute and plain");
    return path;
}

static void take_list(struct source *source, struct text_list *list)
{
    for (uint32_t count = take_count(source, LIST_MAX); count > 0 && !source->problem; count--)
        text_list_take(list, take_present(source));
}

/* In the order of `path`s, each once. */
static void check_order(struct source *source, const char *before, const char *path)
{
    if (before && strcmp(before, path) >= 0)
        refuse(source, "its paths are not in order");
}

static void take_mounts(struct source *source, struct mon_policy *policy)
{
    const char *before = NULL;
    for (uint32_t count = take_count(source, TABLE_MAX); count > 0 && !source->problem; count--) {
        uint32_t flags = take_number(source);
        cleanup_free char *host = take_path(source);
        cleanup_free char *guest = take_path(source);
        if (flags & ~MOUNT_FLAGS)
            refuse(source, "a grant in it is of a kind that is not known");
        if (path_is_within(guest, MON_STORE_PLACE))
            refuse(source, "a grant in it has a place that is not a program's");
        check_order(source, before, guest);
        if (source->problem)
            return;
        mon_policy_add_mount(policy, host, guest, flags);
        before = policy->mounts[policy->mount_count - 1].guest_path;
    }
}

static void take_nodes(struct source *source, struct mon_policy *policy)
{
    const char *before = NULL;
    for (uint32_t count = take_count(source, TABLE_MAX); count > 0 && !source->problem; count--) {
        uint32_t kind = take_number(source), mode = take_number(source);
        cleanup_free char *path = take_path(source);
        cleanup_free char *content = take_text(source);
        if (kind > BLY_NODE_TEXT || mode & ~07777u || (kind == BLY_NODE_DIRECTORY) != !content)
            refuse(source, "a file in it is of a kind that is not known");
        check_order(source, before, path);
        if (source->problem)
            return;
        mon_policy_add_node(policy, (enum bly_start_node_kind)kind, path, mode, content);
        before = policy->nodes[policy->node_count - 1].path;
    }
}

static void take_all(struct source *source, struct mon_policy *policy)
{
    bool *const truths[] = TRUTHS(policy);
    char **const texts[] = TEXTS(policy);
    if (take_number(source) != VERSION)
        refuse(source, "it is of another version of Bailey");
    uint32_t flags = take_number(source);
    if (flags >> COUNT_OF(truths))
        refuse(source, "it asks for something that is not known");
    for (size_t i = 0; i < COUNT_OF(truths); i++)
        *truths[i] = flags >> i & 1;
    policy->user = take_number(source);
    policy->group = take_number(source);
    policy->process_limit = take_number(source);
    policy->open_file_limit = take_number(source);
    policy->migratable = take_number(source);
    take(source, &policy->memory_limit, sizeof(policy->memory_limit));
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        *texts[i] = take_text(source);
    take_list(source, &policy->arguments);
    take_list(source, &policy->environment);
    take_mounts(source, policy);
    take_nodes(source, policy);
    if (!source->problem && source->size)
        refuse(source, "something follows it");
}

/* What everything else takes for granted. */
static void check_all(struct source *source, const struct mon_policy *policy)
{
    const char *const paths[] = {policy->directory, policy->rootfs, policy->audit_path,
                                 policy->layer_path};
    struct error ignored;
    if (source->problem)
        return;
    if (!policy->program || !policy->directory || !policy->name || !policy->host_name ||
        policy->arguments.count == 0)
        refuse(source, "something is missing");
    else if (policy_check_host_name(policy->host_name, &ignored) < 0)
        refuse(source, "its host name is none");
    for (size_t i = 0; i < COUNT_OF(paths); i++)
        if (paths[i] && (paths[i][0] != '/' || strlen(paths[i]) >= PATH_MAX))
            refuse(source, "a path in it is not absolute");
    for (size_t i = 0; i < policy->environment.count; i++)
        if (strchr(policy->environment.items[i], '=') < policy->environment.items[i] + 1)
            refuse(source, "a variable in it has no name");
    if (policy->user == UINT32_MAX || policy->group == UINT32_MAX)
        refuse(source, "its user is none");
    if (policy->migratable == 1 || policy->migratable > 4)
        refuse(source, "its level of processors is none");
    if (policy->process_limit > MON_PROCESS_LIMIT_MAX)
        refuse(source, "its limit of processes is too high");
}

int mon_policy_load(struct mon_policy *policy, const void *data, size_t size, struct error *error)
{
    struct source source = {.data = data, .size = size};
    *policy = (struct mon_policy){0};
    if (size > MON_POLICY_SAVED_MAX)
        refuse(&source, "it is too long");
    take_all(&source, policy);
    check_all(&source, policy);
    if (!source.problem)
        return 0;
    mon_policy_free(policy);
    return error_set(error, -EPROTO, "the policy in the image cannot be used: %s", source.problem);
}
