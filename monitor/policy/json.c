/* The policy as JSON, for `bailey inspect` and `bailey policy show --json`. */
#include <monitor/policy/policy.h>

#include <base/json.h>

static void write_mounts(struct json *json, const struct mon_policy *policy)
{
    json_key(json, "mounts");
    json_array(json);
    for (size_t i = 0; i < policy->mount_count; i++) {
        const struct mon_mount *mount = &policy->mounts[i];
        json_object(json);
        json_key_string(json, "host", mount->host_path);
        json_key_string(json, "guest", mount->guest_path);
        json_key_boolean(json, "read_only", mount->flags & BLY_MOUNT_READ_ONLY);
        json_key_boolean(json, "layered", mount->flags & BLY_MOUNT_LAYERED);
        json_key_boolean(json, "file", mount->flags & BLY_MOUNT_FILE);
        json_key_boolean(json, "default_view", mount->flags & MON_MOUNT_DEFAULT_VIEW);
        json_object_end(json);
    }
    json_array_end(json);
}

static void write_nodes(struct json *json, const struct mon_policy *policy)
{
    static const char *const kinds[] = {
        [BLY_NODE_DIRECTORY] = "folder", [BLY_NODE_SYMLINK] = "link", [BLY_NODE_TEXT] = "text"};
    json_key(json, "nodes");
    json_array(json);
    for (size_t i = 0; i < policy->node_count; i++) {
        const struct mon_node *node = &policy->nodes[i];
        json_object(json);
        json_key_string(json, "path", node->path);
        json_key_string(json, "kind", kinds[node->kind]);
        json_key_number(json, "mode", node->mode);
        if (node->kind == BLY_NODE_SYMLINK)
            json_key_string(json, "target", node->content);
        json_object_end(json);
    }
    json_array_end(json);
}

void mon_policy_write_json(const struct mon_policy *policy, struct text *out)
{
    struct json json = json_to(out);
    json_object(&json);
    json_key_string(&json, "name", policy->name);
    json_key_string(&json, "hostname", policy->host_name);
    json_key_strings(&json, "command", policy->arguments.items, policy->arguments.count);
    json_key_strings(&json, "environment", policy->environment.items, policy->environment.count);
    json_key_string(&json, "workdir", policy->directory);
    json_key_number(&json, "user", policy->user);
    json_key_number(&json, "group", policy->group);
    json_key_number(&json, "memory", (int64_t)policy->memory_limit);
    json_key_number(&json, "pids", policy->process_limit);
    json_key_number(&json, "open_files", policy->open_file_limit);
    json_key_boolean(&json, "tty", policy->terminal);
    json_key_boolean(&json, "interactive", policy->interactive);
    json_key_boolean(&json, "detach", policy->detach);
    json_key_boolean(&json, "rm", policy->remove_at_exit);
    json_key_boolean(&json, "read_only", policy->read_only);
    json_key_boolean(&json, "patching", !policy->no_patching);
    if (policy->migratable) {
        char level[] = "x86-64-v0";
        level[sizeof(level) - 2] = (char)('0' + policy->migratable);
        json_key_string(&json, "migratable", level);
    } else {
        json_key_string(&json, "migratable", NULL);
    }
    json_key_string(&json, "network", "none");
    json_key_string(&json, "rootfs", policy->rootfs);
    json_key_string(&json, "layer", policy->layer_path);
    json_key_string(&json, "audit", policy->audit_path);
    write_mounts(&json, policy);
    write_nodes(&json, policy);
    json_object_end(&json);
}
