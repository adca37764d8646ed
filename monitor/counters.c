/* What the monitor counts of its sandbox, for `bailey inspect`. */
#include "monitor/sandbox.h"

#include "base/json.h"

#include <sched.h>

static void write_namespaces(struct json *json, uint64_t granted)
{
    static const struct { uint64_t flag; const char *name; } namespaces[] = {
        {CLONE_NEWUSER, "user"}, {CLONE_NEWPID, "pid"}, {CLONE_NEWIPC, "ipc"}, {CLONE_NEWUTS, "uts"},
        {CLONE_NEWCGROUP, "cgroup"}, {CLONE_NEWNS, "mount"}, {CLONE_NEWNET, "network"}};
    json_key(json, "namespaces");
    json_array(json);
    for (size_t i = 0; i < sizeof(namespaces) / sizeof(namespaces[0]); i++)
        if (granted & namespaces[i].flag)
            json_string(json, namespaces[i].name);
    json_array_end(json);
}

void mon_counters_write(void *context, struct text *out_json)
{
    struct mon_sandbox *sandbox = context;
    struct json json = json_to(out_json);
    int64_t programs = 1;
    for (const struct mon_execution *execution = sandbox->executions; execution; execution = execution->next)
        programs++;
    json_object(&json);
    json_key_number(&json, "init_pid", sandbox->child);
    json_key_number(&json, "programs", programs);
    json_key_number(&json, "requests", (int64_t)mon_rpc_served(&sandbox->rpc));
    json_key_number(&json, "workers", sandbox->rpc.worker_count + sandbox->rpc.spare_count);
    json_key_number(&json, "handles", mon_handles_open(&sandbox->handles));
    json_key_number(&json, "handle_limit", sandbox->handles.limit);
    json_key_boolean(&json, "hard_memory_limit", mon_cgroup_limits_memory(&sandbox->cgroup));
    int64_t memory = mon_cgroup_memory_in_use(&sandbox->cgroup);
    if (memory >= 0)
        json_key_number(&json, "memory_in_use", memory);
    json_key_boolean(&json, "landlock", sandbox->confinement.landlock >= 0);
    json_key_boolean(&json, "confined_signals", sandbox->confined_signals);
    write_namespaces(&json, sandbox->walls);
    json_object_end(&json);
}
