/* The requests, one function each: decode and check everything, then act. What arrives here is a private copy. The table at the end
 * gives each operation its function. */
#include "monitor/rpc.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

/* Cuts `size` bytes off the request's data. */
struct bytes {
    const unsigned char *data;
    size_t size;
};
static bool take(struct bytes *bytes, uint64_t size, struct bytes *out_part)
{
    if (size > bytes->size)
        return false;
    *out_part = (struct bytes){bytes->data, (size_t)size};
    bytes->data += size;
    bytes->size -= (size_t)size;
    return true;
}

static struct bytes all_data(const struct mon_request *request)
{
    return (struct bytes){request->data, request->size};
}

static bool is_32_bit(uint64_t value)
{
    return value <= UINT32_MAX;
}

/* enum bly_rpc_stream */
static uint64_t about_stream(const struct mon_rpc *rpc, const struct mon_handle *entry)
{
    if (entry->kind != BLY_KIND_FILE || entry->mount >= rpc->files->folder_count)
        return 0;
    return mon_file_is_coherent(&rpc->files->folders[entry->mount], entry->descriptor) ? BLY_RPC_STREAM_COHERENT : 0;
}

static int64_t serve_open(struct mon_rpc *rpc, const struct mon_request *request, struct mon_reply *reply)
{
    struct mon_name name;
    int descriptor;
    if (!is_32_bit(request->u[0]) || !is_32_bit(request->u[1]) || !is_32_bit(request->u[2]))
        return -EINVAL;
    int result = mon_name_decode(rpc->files, request->data, request->size, &name);
    if (result < 0)
        return result;
    unsigned access = (unsigned)request->u[0];
    result = mon_file_open(rpc->files, &name, access, (unsigned)request->u[1], (unsigned)request->u[2], &descriptor,
                           &reply->attributes);
    if (result < 0)
        return result;
    bly_handle handle;
    result = mon_handle_add(rpc->handles, descriptor, reply->attributes.kind, access, name.folder_index, &handle);
    if (result < 0) {
        close(descriptor);
        return result;
    }
    /* The master may be closed by a forged CLOSE while it is being sent. */
    struct mon_handle entry;
    if (mon_handle_get(rpc->handles, handle, &entry) == 0) {
        reply->in_use = handle;
        reply->descriptor = entry.descriptor;
        reply->u[2] = about_stream(rpc, &entry);
    }
    reply->u[0] = handle;
    reply->size = sizeof(reply->attributes);
    return 0;
}

static int64_t serve_create(struct mon_rpc *rpc, const struct mon_request *request, struct mon_reply *reply)
{
    struct mon_name name, target_name;
    char target[BLY_PATH_MAX];
    struct bytes rest = all_data(request), uri;
    if (!is_32_bit(request->u[0]) || !is_32_bit(request->u[1]) || !take(&rest, request->u[2], &uri))
        return -EINVAL;
    unsigned kind = (unsigned)request->u[0];
    int result = mon_name_decode(rpc->files, uri.data, uri.size, &name);
    if (result < 0)
        return result;
    reply->size = sizeof(reply->attributes);
    if (kind == BLY_KIND_HARD_LINK) {
        result = mon_name_decode(rpc->files, rest.data, rest.size, &target_name);
        return result < 0 ? result : mon_file_link(rpc->files, &name, &target_name, &reply->attributes);
    }
    if (rest.size >= sizeof(target))
        return -ENAMETOOLONG;
    if (memchr(rest.data, '\0', rest.size))
        return -EINVAL;
    memcpy(target, rest.data, rest.size);
    target[rest.size] = '\0';
    return mon_file_create(rpc->files, &name, kind, (unsigned)request->u[1], target, &reply->attributes);
}

static int64_t serve_walk(struct mon_rpc *rpc, const struct mon_request *request, struct mon_reply *reply)
{
    struct mon_name name;
    if (request->u[0] & ~(uint64_t)BLY_WALK_WATCH)
        return -EINVAL;
    int result = mon_name_decode(rpc->files, request->data, request->size, &name);
    int watch = 0;
    if (result == 0 && request->u[0])
        result = watch = mon_file_watch(rpc->files, &name);
    if (result >= 0)
        result = mon_file_walk(rpc->files, &name, &reply->walk);
    reply->walk.watch = watch;
    if (result < 0)
        return result;
    reply->size = (uint32_t)(offsetof(struct bly_walk_result, link) + reply->walk.link_size);
    return 0;
}

static int64_t serve_delete(struct mon_rpc *rpc, const struct mon_request *request, struct mon_reply *reply)
{
    struct mon_name name;
    if (!is_32_bit(request->u[0]))
        return -EINVAL;
    int result = mon_name_decode(rpc->files, request->data, request->size, &name);
    return result < 0 ? result : mon_file_delete(rpc->files, &name, (unsigned)request->u[0]);
}

static int64_t serve_rename(struct mon_rpc *rpc, const struct mon_request *request, struct mon_reply *reply)
{
    struct mon_name from, to;
    struct bytes rest = all_data(request), uri;
    if (!is_32_bit(request->u[0]) || !take(&rest, request->u[1], &uri))
        return -EINVAL;
    int result = mon_name_decode(rpc->files, uri.data, uri.size, &from);
    if (result == 0)
        result = mon_name_decode(rpc->files, rest.data, rest.size, &to);
    return result < 0 ? result : mon_file_rename(rpc->files, &from, &to, (unsigned)request->u[0]);
}

static int64_t serve_query(struct mon_rpc *rpc, const struct mon_request *request, struct mon_reply *reply)
{
    struct mon_handle entry;
    if (!is_32_bit(request->u[0]))
        return -EBADF;
    bly_handle handle = (bly_handle)request->u[0];
    int result = mon_handle_get(rpc->handles, handle, &entry);
    if (result < 0)
        return result;
    result = entry.descriptor < 0 ? -EBADF : mon_file_query(rpc->files, entry.descriptor, &reply->attributes);
    mon_handle_put(rpc->handles, handle);
    reply->size = sizeof(reply->attributes);
    return result;
}

static int64_t set_by_handle(struct mon_rpc *rpc, bly_handle handle, const struct bly_attributes *attributes, unsigned mask)
{
    struct mon_handle entry;
    int result = mon_handle_get(rpc->handles, handle, &entry);
    if (result < 0)
        return result;
    if (entry.descriptor < 0 || entry.mount >= rpc->files->folder_count)
        result = -EPERM; /* standard streams and the like are the operator's */
    else if (rpc->files->folders[entry.mount].read_only)
        result = -EROFS;
    else
        result = mon_file_set_open(entry.descriptor, attributes, mask);
    mon_handle_put(rpc->handles, handle);
    return result;
}

static int64_t serve_set(struct mon_rpc *rpc, const struct mon_request *request, struct mon_reply *reply)
{
    struct mon_name name;
    struct bly_attributes attributes;
    struct bytes rest = all_data(request), part;
    if (!is_32_bit(request->u[0]) || !is_32_bit(request->u[1]) || !take(&rest, sizeof(attributes), &part))
        return -EINVAL;
    memcpy(&attributes, part.data, sizeof(attributes));
    unsigned mask = (unsigned)request->u[1];
    if (request->u[0] != BLY_NO_HANDLE)
        return set_by_handle(rpc, (bly_handle)request->u[0], &attributes, mask);
    int result = mon_name_decode(rpc->files, rest.data, rest.size, &name);
    return result < 0 ? result : mon_file_set(rpc->files, &name, &attributes, mask);
}

static int64_t serve_get_named(struct mon_rpc *rpc, const struct mon_request *request, struct mon_reply *reply)
{
    struct mon_name name;
    struct bytes rest = all_data(request), uri;
    if (!take(&rest, request->u[0], &uri) || rest.size == 0 || memchr(rest.data, '\0', rest.size) != rest.data + rest.size - 1)
        return -EINVAL;
    size_t size = request->u[1] > sizeof(reply->data) ? sizeof(reply->data) : (size_t)request->u[1];
    int result = mon_name_decode(rpc->files, uri.data, uri.size, &name);
    if (result < 0)
        return result;
    int64_t found = mon_file_get_named(rpc->files, &name, (const char *)rest.data, reply->data, size);
    reply->size = found > 0 && size > 0 ? (uint32_t)found : 0;
    return found;
}

static int64_t serve_set_named(struct mon_rpc *rpc, const struct mon_request *request, struct mon_reply *reply)
{
    struct mon_name name;
    struct bytes rest = all_data(request), uri, attribute;
    if (!is_32_bit(request->u[1]) || !take(&rest, request->u[0], &uri) || !take(&rest, request->u[2], &attribute) ||
        attribute.size == 0 || memchr(attribute.data, '\0', attribute.size) != attribute.data + attribute.size - 1)
        return -EINVAL;
    int result = mon_name_decode(rpc->files, uri.data, uri.size, &name);
    if (result < 0)
        return result;
    return mon_file_set_named(rpc->files, &name, (const char *)attribute.data, rest.data, rest.size, (unsigned)request->u[1]);
}

static int64_t serve_write_out(struct mon_rpc *rpc, const struct mon_request *request, struct mon_reply *reply)
{
    struct mon_handle entry;
    int result = is_32_bit(request->u[0]) ? mon_handle_get(rpc->handles, (bly_handle)request->u[0], &entry) : -EBADF;
    if (result < 0)
        return result;
    result = sync_file_range(entry.descriptor, 0, 0, SYNC_FILE_RANGE_WRITE) < 0 ? -errno : 0;
    mon_handle_put(rpc->handles, (bly_handle)request->u[0]);
    return result;
}

static int64_t serve_fetch(struct mon_rpc *rpc, const struct mon_request *request, struct mon_reply *reply)
{
    struct mon_handle entry;
    if (!is_32_bit(request->u[0]))
        return -EBADF;
    bly_handle handle = (bly_handle)request->u[0];
    int result = mon_handle_get(rpc->handles, handle, &entry);
    if (result < 0)
        return result;
    if (entry.descriptor < 0) {
        mon_handle_put(rpc->handles, handle);
        return -EBADF;
    }
    reply->in_use = handle;
    reply->descriptor = entry.descriptor;
    reply->u[0] = entry.kind;
    reply->u[1] = entry.access;
    reply->u[2] = about_stream(rpc, &entry);
    return 0;
}

static int64_t serve_close(struct mon_rpc *rpc, const struct mon_request *request, struct mon_reply *reply)
{
    reply->no_reply = request->u[1] == 1;
    int result = is_32_bit(request->u[0]) ? mon_handle_close(rpc->handles, (bly_handle)request->u[0]) : -EBADF;
    if (result == 0)
        atomic_fetch_add(&rpc->channel->close_generation, 1);
    return result;
}

static int64_t serve_interrupt(struct mon_rpc *rpc, const struct mon_request *request, struct mon_reply *reply)
{
    if (!is_32_bit(request->u[0]) || !is_32_bit(request->u[1]))
        return -ESRCH;
    return rpc->interrupt ? rpc->interrupt(rpc->context, (uint32_t)request->u[0], (uint32_t)request->u[1]) : -ESRCH;
}

static int64_t serve_cpu_time(struct mon_rpc *rpc, const struct mon_request *request, struct mon_reply *reply)
{
    if (!is_32_bit(request->u[0]))
        return -ESRCH;
    return rpc->cpu_time ? rpc->cpu_time(rpc->context, (uint32_t)request->u[0], &reply->u[0]) : -ESRCH;
}

static int64_t serve_system_query(struct mon_rpc *rpc, const struct mon_request *request, struct mon_reply *reply)
{
    struct sysinfo info;
    cpu_set_t cpus;
    /* The workers are pinned; the main thread is not. */
    if (sysinfo(&info) < 0)
        return -errno;
    int count = sched_getaffinity(getpid(), sizeof(cpus), &cpus) < 0 ? 1 : CPU_COUNT(&cpus);
    uint64_t total = (uint64_t)info.totalram * info.mem_unit;
    reply->system = (struct bly_system_info){
        .cpu_count = (uint32_t)count,
        .memory_limit = rpc->memory_limit && rpc->memory_limit < total ? rpc->memory_limit : total,
        .memory_free = (uint64_t)info.freeram * info.mem_unit + (uint64_t)info.bufferram * info.mem_unit,
        .load_average = {info.loads[0], info.loads[1], info.loads[2]},
    };
    reply->size = sizeof(reply->system);
    return 0;
}

static int64_t serve_load(struct mon_rpc *rpc, const struct mon_request *request, struct mon_reply *reply)
{
    const uint64_t source = request->u[0], offset = request->u[1], size = request->u[2], flags = request->u[3];
    const uint64_t unit = source == BLY_LOAD_BULK ? BLY_LOAD_UNIT : BLY_PAGE_SIZE, known = source == BLY_LOAD_BULK ? BLY_LOAD_DISCARD : 0;
    if (source >= BLY_LOAD_SOURCE_COUNT || (offset | size) % unit || !size || offset >= BLY_BULK_SIZE || size > BLY_BULK_SIZE - offset ||
        flags & ~known)
        return -EINVAL;
    return rpc->load ? rpc->load(rpc->context, (enum bly_load_source)source, offset, size, flags & BLY_LOAD_DISCARD) : -EINVAL;
}

static int64_t serve_process_ended(struct mon_rpc *rpc, const struct mon_request *request, struct mon_reply *reply)
{
    if (!is_32_bit(request->u[0]))
        return -EINVAL;
    reply->no_reply = request->u[1] == 1;
    mon_rpc_process_ended(rpc, (uint32_t)request->u[0]);
    return 0;
}

static int64_t (*const serve[BLY_RPC_OPERATION_COUNT])(struct mon_rpc *, const struct mon_request *, struct mon_reply *) = {
    [BLY_RPC_OPEN] = serve_open,
    [BLY_RPC_CREATE] = serve_create,
    [BLY_RPC_WALK] = serve_walk,
    [BLY_RPC_DELETE] = serve_delete,
    [BLY_RPC_RENAME] = serve_rename,
    [BLY_RPC_QUERY] = serve_query,
    [BLY_RPC_SET] = serve_set,
    [BLY_RPC_GET_NAMED] = serve_get_named,
    [BLY_RPC_SET_NAMED] = serve_set_named,
    [BLY_RPC_FETCH] = serve_fetch,
    [BLY_RPC_CLOSE] = serve_close,
    [BLY_RPC_INTERRUPT] = serve_interrupt,
    [BLY_RPC_SYSTEM_QUERY] = serve_system_query,
    [BLY_RPC_PROCESS_ENDED] = serve_process_ended,
    [BLY_RPC_CPU_TIME] = serve_cpu_time,
    [BLY_RPC_LOAD] = serve_load,
    [BLY_RPC_WRITE_OUT] = serve_write_out,
};

void mon_request_serve(struct mon_rpc *rpc, const struct mon_request *request, struct mon_reply *reply)
{
    if (request->operation >= BLY_RPC_OPERATION_COUNT || !serve[request->operation])
        reply->result = -ENOSYS;
    else if (request->size > BLY_RPC_DATA_SIZE)
        reply->result = -EINVAL;
    else
        reply->result = serve[request->operation](rpc, request, reply);
}
