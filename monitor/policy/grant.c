/* The intersection of what an image claims and what the operator grants. Invariant: a claimed host path reaches the host only if it is the
 * default view's, or the operator's own image claims it, or the operator named it. */
#include "monitor/policy/grant.h"

#include "base/cleanup.h"
#include "base/path.h"

#include <errno.h>
#include <string.h>

#define NARROWING ((uint32_t)BLY_MOUNT_READ_ONLY)

/* A word as a shell takes it. What an image says is shown without what a terminal obeys. */
static void add_word(struct text *out, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=+,@%";
    cleanup_free char *shown = text_copy(word);
    text_make_printable(shown, strlen(shown));
    if (*shown && shown[strspn(shown, plain)] == '\0') {
        text_add(out, shown);
        return;
    }
    text_add_character(out, '\'');
    for (const char *c = shown; *c; c++) {
        if (*c == '\'')
            text_add(out, "'\\''");
        else
            text_add_character(out, *c);
    }
    text_add_character(out, '\'');
}

static void add_option(struct text *out, const char *option, const char *value)
{
    text_format(out, " %s ", option);
    add_word(out, value);
}

static void add_volume(struct text *out, const struct mon_mount *mount)
{
    const char *access = mount->flags & BLY_MOUNT_LAYERED ? ":O" : mount->flags & BLY_MOUNT_READ_ONLY ? ":ro" : "";
    cleanup_free char *value = text_print("%s:%s%s", mount->host_path, mount->guest_path, access);
    add_option(out, "-v", value);
}

static int replace_folder(struct mon_policy *claimed, const char *guest_path, const char *host_path, uint32_t flags, bool *confirmed,
                          struct error *error)
{
    for (size_t i = 0; i < claimed->mount_count; i++) {
        struct mon_mount *mount = &claimed->mounts[i];
        if (!text_equal(mount->guest_path, guest_path) || (mount->flags & MON_MOUNT_DEFAULT_VIEW))
            continue;
        free(mount->host_path);
        mount->host_path = text_copy(host_path);
        mount->flags |= flags & NARROWING;
        confirmed[i] = true;
        return 0;
    }
    error_set(error, -EINVAL, "the sandbox in the image has no folder %s that could be given again", guest_path);
    return error_hint(error, "a resumed sandbox sees what it saw, or less");
}

static int replace_path(char **claimed, const char *granted, const char *option, bool may_be_new, struct error *error)
{
    if (!granted)
        return 0;
    if (!*claimed && !may_be_new)
        return error_set(error, -EINVAL, "the sandbox in the image was started without %s: it cannot be given now", option);
    free(*claimed);
    *claimed = text_copy(granted);
    return 0;
}

static int apply(struct mon_policy *claimed, const struct mon_policy *granted, bool *confirmed, struct error *error)
{
    int result = 0;
    for (size_t i = 0; i < granted->mount_count && result == 0; i++)
        result = replace_folder(claimed, granted->mounts[i].guest_path, granted->mounts[i].host_path, granted->mounts[i].flags, confirmed, error);
    if (result == 0 && granted->rootfs)
        result = replace_path(&claimed->rootfs, granted->rootfs, "--rootfs", false, error);
    if (result == 0 && granted->rootfs)
        result = replace_folder(claimed, "/", granted->rootfs, 0, confirmed, error);
    if (result == 0)
        result = replace_path(&claimed->layer_path, granted->layer_path, "--layer", false, error);
    return result < 0 ? result : replace_path(&claimed->audit_path, granted->audit_path, "--audit", true, error);
}

static void find_missing(const struct mon_policy *claimed, const struct mon_policy *granted, const bool *confirmed, struct text *out)
{
    for (size_t i = 0; i < claimed->mount_count; i++) {
        const struct mon_mount *mount = &claimed->mounts[i];
        if (confirmed[i] || mon_policy_is_view(mount))
            continue;
        if (text_equal(mount->guest_path, "/"))
            add_option(out, "--rootfs", mount->host_path);
        else
            add_volume(out, mount);
    }
    if (claimed->layer_path && !granted->layer_path)
        add_option(out, "--layer", claimed->layer_path);
    if (claimed->audit_path && !granted->audit_path)
        add_option(out, "--audit", claimed->audit_path);
}

static void limit(uint64_t *claimed, uint64_t most)
{
    if (most && (*claimed == 0 || *claimed > most))
        *claimed = most;
}

int mon_policy_grant(struct mon_policy *claimed, const struct mon_policy *granted, bool own, const char *image_name, struct error *error)
{
    cleanup_free bool *confirmed = memory_new(claimed->mount_count + 1);
    size_t count = claimed->mount_count;
    int result = apply(claimed, granted, confirmed, error);
    /* Before anything is looked at on the host: a claimed path is a stranger's word. */
    cleanup_text struct text missing = {0};
    if (result == 0 && !own)
        find_missing(claimed, granted, confirmed, &missing);
    if (missing.size)
        return error_set(error, -EPERM,
                         "%s was not suspended here by you, or was changed, moved or copied since, and its sandbox had more than the default view of "
                         "this host. To give it the same again, if you trust it, add:%s",
                         image_name, missing.data);
    if (result == 0)
        result = mon_policy_check(claimed, error);
    if (result < 0)
        return result;
    if (claimed->mount_count != count)
        return error_set(error, -EPROTO, "the image %s cannot be used: its grants do not agree", image_name);
    if (!own) {
        uint64_t processes = claimed->process_limit;
        limit(&claimed->memory_limit, granted->memory_limit);
        limit(&processes, granted->process_limit);
        claimed->process_limit = (uint32_t)processes;
    }
    return 0;
}
