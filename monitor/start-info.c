/* The start information of include/bailey/start.h out of the policy, and the payload of EXECUTE, which is made alike: a fixed part,
 * then tables, then strings, all found by their offsets. */
#include "monitor/sandbox.h"

#include "monitor/processor-features.h"

#include "base/cleanup.h"
#include "base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h> /* memfd_create */
#include <sys/random.h>
#include <unistd.h>

/* Grows downwards from the fixed part; `failed` once something did not fit, so that callers check at the end only. */
struct block {
    unsigned char *data;
    size_t size, limit;
    bool failed;
};

static uint32_t put(struct block *block, const void *data, size_t size, size_t alignment)
{
    size_t start = (block->size + alignment - 1) & ~(alignment - 1);
    if (block->failed || start > block->limit || size > block->limit - start) {
        block->failed = true;
        return 0;
    }
    if (data)
        memcpy(block->data + start, data, size);
    block->size = start + size;
    return (uint32_t)start;
}

static uint32_t put_string(struct block *block, const char *text)
{
    return text ? put(block, text, strlen(text) + 1, 1) : put(block, "", 1, 1);
}

static uint32_t put_strings(struct block *block, const struct text_list *list)
{
    uint32_t first = (uint32_t)block->size;
    for (size_t i = 0; i < list->count; i++)
        put_string(block, list->items[i]);
    return first;
}

/* Of what was granted, so that the sandbox need not ask for each at its start. */
static uint32_t put_attributes(struct block *block, const struct mon_files *files, size_t mount)
{
    struct bly_attributes attributes;
    int root = mount < files->folder_count ? files->folders[mount].root : -1;
    if (root < 0 || mon_descriptor_attributes(files, root, &attributes) < 0)
        return 0;
    return put(block, &attributes, sizeof(attributes), 8);
}

static uint32_t put_mounts(struct block *block, const struct mon_policy *policy, const struct mon_files *files)
{
    uint32_t table = put(block, NULL, policy->mount_count * sizeof(struct bly_start_mount), 8);
    for (size_t i = 0; i < policy->mount_count; i++) {
        struct bly_start_mount mount = {
            .guest_path = put_string(block, policy->mounts[i].guest_path),
            .flags = policy->mounts[i].flags & (BLY_MOUNT_LAYERED | BLY_MOUNT_READ_ONLY | BLY_MOUNT_FILE | BLY_MOUNT_STORE),
            .host_path = put_string(block, policy->mounts[i].host_path),
            .attributes = put_attributes(block, files, i),
        };
        if (!block->failed)
            memcpy(block->data + table + i * sizeof(mount), &mount, sizeof(mount));
    }
    return table;
}

static uint32_t put_nodes(struct block *block, const struct mon_policy *policy)
{
    uint32_t table = put(block, NULL, policy->node_count * sizeof(struct bly_start_node), 8);
    for (size_t i = 0; i < policy->node_count; i++) {
        struct bly_start_node node = {
            .path = put_string(block, policy->nodes[i].path),
            .kind = policy->nodes[i].kind,
            .mode = policy->nodes[i].mode,
            .content = put_string(block, policy->nodes[i].content),
        };
        if (!block->failed)
            memcpy(block->data + table + i * sizeof(node), &node, sizeof(node));
    }
    return table;
}

static uint32_t start_flags(const struct mon_sandbox *sandbox)
{
    const struct mon_policy *policy = sandbox->policy;
    return (policy->terminal ? BLY_START_TERMINAL : 0) | (policy->trace_syscalls ? BLY_START_TRACE_SYSCALLS : 0) |
           (policy->trace_abi ? BLY_START_TRACE_ABI : 0) | (policy->read_only ? BLY_START_READ_ONLY : 0) |
           (sandbox->confined_signals ? BLY_START_CONFINED_SIGNALS : 0) | (policy->no_patching ? BLY_START_NO_PATCHING : 0) |
           (policy->audit_path ? BLY_START_AUDIT : 0) | (sandbox->resume ? BLY_START_RESUME : 0) |
           (sandbox->arriving ? BLY_START_ARRIVING : 0) |
           (sandbox->resume && sandbox->resume->new_host_name ? BLY_START_HOST_NAME : 0) |
           (policy->migratable ? BLY_START_CPUID_LIMITED : 0) |
           (policy->migratable && mon_processor_can_fault() ? BLY_START_CPUID_FAULTS : 0);
}

/* For tests: BAILEY_FAULT=CALL:NUMBER:ERROR makes the NUMBERth use of the ABI's CALL in a picoprocess (those of the one that it was cloned from
 * count too) fail with the error number ERROR. */
static void put_fault(struct block *block, struct bly_start_info *info)
{
    const char *fault = secure_getenv("BAILEY_FAULT");
    char call[64];
    int error;
    if (!fault || sscanf(fault, "%63[a-z_]:%u:%d", call, &info->fault_number, &error) != 3)
        return;
    info->fault_call = put_string(block, call);
    info->fault_error = -error;
}

static void fill(const struct mon_sandbox *sandbox, const struct mon_start_handles *handles, struct block *block)
{
    const struct mon_policy *policy = sandbox->policy;
    put(block, NULL, sizeof(struct bly_start_info), 8);
    struct bly_cpuid answers[MON_CPUID_MAX];
    bool cpuid_is_slow;
    size_t cpuid_count = mon_processor_answers(policy->state_path, policy->migratable, answers, &cpuid_is_slow);
    const uint32_t flags = start_flags(sandbox);
    struct mon_features shown = {.vector = UINT64_MAX}, here;
    if (policy->migratable)
        mon_processor_level(policy->migratable, &shown);
    if (sandbox->resume && sandbox->resume->force) { /* then it must do with what is here */
        mon_processor_features(&here);
        shown.vector &= here.vector;
    }
    struct bly_start_info info = {
        .magic = BLY_START_MAGIC,
        .version = BLY_ABI_VERSION,
        .flags = flags,
        .mounts = put_mounts(block, policy, &sandbox->files),
        .mount_count = (uint32_t)policy->mount_count,
        .nodes = put_nodes(block, policy),
        .node_count = (uint32_t)policy->node_count,
        .arguments = put_strings(block, &policy->arguments),
        .argument_count = (uint32_t)policy->arguments.count,
        .environment = put_strings(block, &policy->environment),
        .environment_count = (uint32_t)policy->environment.count,
        .program = put_string(block, policy->program),
        .directory = put_string(block, policy->directory),
        .host_name = put_string(block, policy->host_name),
        .sandbox_name = put_string(block, policy->name),
        .user = policy->user,
        .group = policy->group,
        .standard = {handles->standard[0], handles->standard[1], handles->standard[2]},
        .terminal_input = handles->terminal_input,
        .terminal_output = handles->terminal_output,
        .terminal_rows = handles->rows,
        .terminal_columns = handles->columns,
        .control = handles->control,
        .wake_pool = handles->wake_pool,
        .wake_pool_count = BLY_WAKE_POOL_COUNT,
        .heap = handles->heap,
        .bulk = handles->bulk,
        .watch = handles->watch,
        .extents = handles->extents,
        .memory_limit = policy->memory_limit,
        .process_limit = policy->process_limit,
        .open_file_limit = policy->open_file_limit,
        .boot_time_ns = sandbox->boot_time_ns,
        .generation = sandbox->generation,
        .clock_offset_ns = sandbox->clock_offset_ns,
        .cpuid = put(block, answers, cpuid_count * sizeof(answers[0]), 8),
        .cpuid_count = (uint32_t)cpuid_count,
        .cpuid_is_slow = cpuid_is_slow,
        .vector_features = shown.vector,
    };
    put_fault(block, &info);
    info.total_size = block->size;
    if (getrandom(info.random_seed, sizeof(info.random_seed), 0) != sizeof(info.random_seed))
        block->failed = true;
    if (!block->failed)
        memcpy(block->data, &info, sizeof(info));
}

int mon_start_info_make(const struct mon_sandbox *sandbox, const struct mon_start_handles *handles, struct error *error)
{
    static unsigned char data[BLY_START_SIZE]; /* used once; only the pages in use exist */
    cleanup_close int memory = memfd_create("bailey-start", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    struct block block = {.data = data, .limit = BLY_START_SIZE};
    fill(sandbox, handles, &block);
    if (block.failed)
        return error_set(error, -E2BIG, "arguments, environment and mounts together exceed %llu KiB", BLY_START_SIZE >> 10);
    if (memory < 0 || write_fully(memory, data, block.size) < 0 || ftruncate(memory, BLY_START_SIZE) < 0)
        return error_set_errno(error, -errno, "cannot make the start information");
    if (fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
        return error_set_errno(error, -errno, "cannot seal the start information");
    return take_descriptor(&memory);
}

int mon_execute_payload(const struct mon_execute *request, const char *directory, const struct bly_start_stream standard[3],
                        bly_handle terminal_input, bly_handle terminal_output, void *buffer, size_t size)
{
    struct block block = {.data = buffer, .limit = size};
    put(&block, NULL, sizeof(struct bly_control_execute), 8);
    struct bly_control_execute execute = {
        .arguments = put_strings(&block, &request->arguments),
        .argument_count = (uint32_t)request->arguments.count,
        .environment = put_strings(&block, &request->environment),
        .environment_count = (uint32_t)request->environment.count,
        .program = put_string(&block, request->program),
        .directory = put_string(&block, directory),
        .user = request->user,
        .group = request->group,
        .flags = request->terminal ? BLY_START_TERMINAL : 0,
        .standard = {standard[0], standard[1], standard[2]},
        .terminal_input = terminal_input,
        .terminal_output = terminal_output,
        .terminal_rows = request->rows,
        .terminal_columns = request->columns,
        .total_size = (uint32_t)block.size,
    };
    if (block.failed)
        return -E2BIG;
    memcpy(buffer, &execute, sizeof(execute));
    return (int)block.size;
}
