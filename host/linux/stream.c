/* Streams: transfer on descriptors held here, names by call to the monitor. */

#include "host.h"
#include <linux/fs.h>
#include <linux/futex.h>

#define HOST_SEEK_SET 0

static unsigned transfer_flags(unsigned flags)
{
    return (flags & BLY_STREAM_NO_WAIT ? RWF_NOWAIT : 0) |
           (flags & BLY_STREAM_APPEND ? RWF_APPEND : 0) | (flags & BLY_STREAM_SYNC ? RWF_SYNC : 0);
}

struct pollfd {
    int descriptor;
    short events, returned;
};

static int64_t transfer(long number, bly_handle stream, const struct bly_iovec *vector,
                        size_t count, uint64_t offset, unsigned flags)
{
    if (offset != BLY_AT_CURRENT && (int64_t)offset < 0)
        return -EINVAL;
    scoped_use use;
    int error = host_handle_use(stream, &use);
    if (error)
        return error;
    bool is_read = number == __NR_preadv2;
    if (is_read && use.entry && count == 1 && host_window_read(use.entry, vector, offset))
        return (int64_t)vector->size;
    /* A page that is not in the cache yet is no reason for -EAGAIN. */
    if (use.is_file)
        flags &= ~(unsigned)BLY_STREAM_NO_WAIT;
    unsigned host_flags = transfer_flags(flags);
    int64_t result = sys_wait6(number, use.descriptor, vector, count, offset, 0, host_flags);
    if (is_read && result > 0)
        host_window_consider(&use, (size_t)result, offset);
    if (result != -EOPNOTSUPP || !(host_flags & RWF_NOWAIT))
        return result;
    /* Terminals and event descriptors do not know RWF_NOWAIT. */
    short events = is_read ? BLY_WAIT_READ : BLY_WAIT_WRITE;
    struct pollfd poll = {use.descriptor, events, 0};
    struct __kernel_timespec now = {0, 0};
    result = sys6(__NR_ppoll, &poll, 1, &now, 0, 8, 0);
    if (result <= 0)
        return result < 0 ? result : -EAGAIN;
    return sys_wait6(number, use.descriptor, vector, count, offset, 0,
                     host_flags & ~(unsigned)RWF_NOWAIT);
}

int64_t host_stream_read(bly_handle stream, const struct bly_iovec *vector, size_t count,
                         uint64_t offset, unsigned flags)
{
    if (flags & ~(unsigned)BLY_STREAM_NO_WAIT)
        return -EINVAL;
    return transfer(__NR_preadv2, stream, vector, count, offset, flags);
}

int64_t host_stream_write(bly_handle stream, const struct bly_iovec *vector, size_t count,
                          uint64_t offset, unsigned flags)
{
    if (flags & ~(unsigned)(BLY_STREAM_NO_WAIT | BLY_STREAM_APPEND | BLY_STREAM_SYNC))
        return -EINVAL;
    return transfer(__NR_pwritev2, stream, vector, count, offset, flags);
}

int host_stream_set_length(bly_handle stream, uint64_t length)
{
    if ((int64_t)length < 0)
        return -EINVAL;
    scoped_use use;
    int error = host_handle_use(stream, &use);
    return error ? error : (int)sys2(__NR_ftruncate, use.descriptor, length);
}

int host_stream_allocate(bly_handle stream, unsigned mode, uint64_t offset, uint64_t length)
{
    const unsigned known = BLY_ALLOCATE_KEEP_SIZE | BLY_ALLOCATE_PUNCH_HOLE |
                           BLY_ALLOCATE_COLLAPSE | BLY_ALLOCATE_ZERO | BLY_ALLOCATE_INSERT;
    if (mode & ~known)
        return -EOPNOTSUPP;
    if ((int64_t)offset < 0 || (int64_t)length <= 0)
        return -EINVAL;
    scoped_use use;
    int error = host_handle_use(stream, &use);
    if (error)
        return error;
    long result;
    do /* interrupts are not for this call: some file systems give up at any signal */
        result = sys4(__NR_fallocate, use.descriptor, mode, offset, length);
    while (result == -EINTR);
    return (int)result;
}

int64_t host_stream_seek(bly_handle stream, uint64_t offset, unsigned whence)
{
    if (whence > BLY_SEEK_HOLE)
        return -EINVAL;
    if ((int64_t)offset < 0 && whence >= BLY_SEEK_DATA)
        return -ENXIO;
    scoped_use use;
    int error = host_handle_use(stream, &use);
    return error ? error : sys3(__NR_lseek, use.descriptor, offset, whence);
}

int host_stream_flush(bly_handle stream, unsigned flags)
{
    static const long calls[] = {__NR_fsync, __NR_fdatasync, __NR_syncfs};
    if (flags == BLY_FLUSH_BEGIN) {
        struct host_rpc rpc = {.operation = BLY_RPC_WRITE_OUT, .u = {stream}};
        return (int)host_rpc_call(&rpc);
    }
    if (flags >= sizeof(calls) / sizeof(calls[0]))
        return -EINVAL;
    scoped_use use;
    int error = host_handle_use(stream, &use);
    return error ? error : (int)sys1(calls[flags], use.descriptor);
}

/* ---- Enumeration ---- */

#define POSITION_LOCK_WAITED 0x80000000u

/* The open file description, and with it the position, is shared with the monitor's master and
 * every picoprocess. */
static _Atomic uint32_t *position_lock(bly_handle stream)
{
    _Atomic uint32_t *word = &host_channel->position_locks[stream % BLY_RPC_POSITION_LOCKS];
    uint32_t seen = 0;
    if (__atomic_compare_exchange_n((uint32_t *)word, &seen, host_process_id(), false,
                                    __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        return word;
    for (;;) {
        seen = *word;
        if (!seen) {
            if (__atomic_compare_exchange_n((uint32_t *)word, &seen,
                                            host_process_id() | POSITION_LOCK_WAITED, false,
                                            __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
                return word;
            continue;
        }
        uint32_t waited = seen | POSITION_LOCK_WAITED;
        if (seen != waited && !__atomic_compare_exchange_n((uint32_t *)word, &seen, waited, false,
                                                           __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            continue;
        sys6(__NR_futex, word, FUTEX_WAIT_BITSET, waited, 0, 0, FUTEX_BITSET_MATCH_ANY);
    }
}

static void position_unlock(_Atomic uint32_t *word)
{
    if (__atomic_exchange_n((uint32_t *)word, 0, __ATOMIC_RELEASE) & POSITION_LOCK_WAITED)
        sys3(__NR_futex, word, FUTEX_WAKE, 1);
}

struct directory_record { /* struct linux_dirent64 */
    uint64_t inode;
    int64_t next;
    uint16_t size;
    uint8_t kind;
    char name[];
};

int64_t host_stream_enumerate(bly_handle stream, uint64_t *cursor, void *buffer, size_t size)
{
    if ((int64_t)*cursor < 0)
        return -EINVAL;
    scoped_use use;
    int error = host_handle_use(stream, &use);
    if (error)
        return error;
    _Atomic uint32_t *lock = position_lock(stream);
    long result = sys3(__NR_lseek, use.descriptor, *cursor, HOST_SEEK_SET);
    if (result >= 0)
        result = sys3(__NR_getdents64, use.descriptor, buffer, size);
    position_unlock(lock);
    for (long at = 0; at < result;) {
        const struct directory_record *record = (const void *)((const char *)buffer + at);
        *cursor = (uint64_t)record->next;
        at += record->size;
    }
    return result;
}

/* ---- Names ---- */

static bool uri_valid(const char *uri, size_t size)
{
    return uri && size && size <= BLY_PATH_MAX + 32;
}

static bool scheme_is(const char *uri, size_t size, const char *scheme)
{
    size_t length = host_length(scheme);
    if (size < length)
        return false;
    for (size_t i = 0; i < length; i++)
        if (uri[i] != scheme[i])
            return false;
    return true;
}

int host_stream_open(const char *uri, size_t uri_size, unsigned access, unsigned options,
                     unsigned mode, bly_handle *out_stream, struct bly_attributes *out_attributes)
{
    const unsigned known = BLY_OPEN_CREATE | BLY_OPEN_EXCLUSIVE | BLY_OPEN_TRUNCATE |
                           BLY_OPEN_DIRECTORY | BLY_OPEN_TEMPORARY;
    if (!uri_valid(uri, uri_size) || access & ~(unsigned)(BLY_ACCESS_READ | BLY_ACCESS_WRITE) ||
        options & ~known || mode & ~07777u)
        return uri_size > BLY_PATH_MAX + 32 ? -ENAMETOOLONG : -EINVAL;
    if (scheme_is(uri, uri_size, "dir:"))
        options |= BLY_OPEN_DIRECTORY;
    struct bly_attributes attributes = {.kind = 0};
    struct host_rpc rpc = {.operation = BLY_RPC_OPEN,
                           .u = {access, options, mode},
                           .parts = {{uri, uri_size}},
                           .part_count = 1,
                           .reply = &attributes,
                           .reply_size = sizeof attributes};
    int64_t result = host_rpc_call(&rpc);
    if (result < 0) {
        if (rpc.descriptor >= 0)
            sys1(__NR_close, rpc.descriptor);
        return (int)result;
    }
    *out_stream = (bly_handle)rpc.u[0];
    if (rpc.descriptor >= 0)
        host_handle_insert(*out_stream, rpc.descriptor,
                           host_handle_flags(attributes.kind, rpc.u[2]));
    if (out_attributes && rpc.reply_size == sizeof attributes)
        host_copy(out_attributes, &attributes, sizeof attributes);
    return 0;
}

int host_stream_create(const char *uri, size_t uri_size, unsigned kind, unsigned mode,
                       const char *target, size_t target_size,
                       struct bly_attributes *out_attributes)
{
    if (!uri_valid(uri, uri_size) || mode & ~07777u)
        return -EINVAL;
    bool needs_target = kind == BLY_KIND_SYMLINK || kind == BLY_KIND_HARD_LINK;
    if (!needs_target && kind != BLY_KIND_DIRECTORY && kind != BLY_KIND_FIFO &&
        kind != BLY_KIND_SOCKET)
        return -EINVAL;
    if (needs_target && (!target || !target_size || target_size > BLY_PATH_MAX + 32))
        return -EINVAL;
    struct bly_attributes attributes;
    struct host_rpc rpc = {.operation = BLY_RPC_CREATE,
                           .u = {kind, mode, uri_size},
                           .parts = {{uri, uri_size}, {target, target ? target_size : 0}},
                           .part_count = 2,
                           .reply = &attributes,
                           .reply_size = sizeof attributes};
    int64_t result = host_rpc_call(&rpc);
    if (result >= 0 && out_attributes && rpc.reply_size == sizeof attributes)
        host_copy(out_attributes, &attributes, sizeof attributes);
    return (int)result;
}

int host_stream_delete(const char *uri, size_t uri_size, unsigned flags)
{
    if (!uri_valid(uri, uri_size) || flags & ~(unsigned)BLY_DELETE_DIRECTORY)
        return -EINVAL;
    struct host_rpc rpc = {
        .operation = BLY_RPC_DELETE, .u = {flags}, .parts = {{uri, uri_size}}, .part_count = 1};
    return (int)host_rpc_call(&rpc);
}

int host_stream_rename(const char *uri, size_t uri_size, const char *to_uri, size_t to_uri_size,
                       unsigned flags)
{
    if (!uri_valid(uri, uri_size) || !uri_valid(to_uri, to_uri_size) ||
        flags & ~(unsigned)(BLY_RENAME_NO_REPLACE | BLY_RENAME_EXCHANGE) ||
        flags == (BLY_RENAME_NO_REPLACE | BLY_RENAME_EXCHANGE))
        return -EINVAL;
    struct host_rpc rpc = {.operation = BLY_RPC_RENAME,
                           .u = {flags, uri_size},
                           .parts = {{uri, uri_size}, {to_uri, to_uri_size}},
                           .part_count = 2};
    return (int)host_rpc_call(&rpc);
}

int host_stream_walk(const char *uri, size_t uri_size, unsigned flags,
                     struct bly_walk_result *out_result)
{
    if (!uri_valid(uri, uri_size) || (flags & ~(unsigned)BLY_WALK_WATCH))
        return -EINVAL;
    struct host_rpc rpc = {.operation = BLY_RPC_WALK,
                           .u = {flags},
                           .parts = {{uri, uri_size}},
                           .part_count = 1,
                           .reply = out_result,
                           .reply_size = sizeof *out_result};
    int64_t result = host_rpc_call(&rpc);
    if (result >= 0 && rpc.reply_size < offsetof(struct bly_walk_result, link))
        return -EIO;
    return (int)result;
}

int host_stream_query(bly_handle stream, struct bly_attributes *out_attributes)
{
    if (stream == BLY_NO_HANDLE)
        return -EBADF;
    struct host_rpc rpc = {.operation = BLY_RPC_QUERY,
                           .u = {stream},
                           .reply = out_attributes,
                           .reply_size = sizeof *out_attributes};
    int64_t result = host_rpc_call(&rpc);
    if (result >= 0 && rpc.reply_size < sizeof *out_attributes)
        return -EIO;
    return (int)result;
}

int host_stream_set(bly_handle stream, const char *uri, size_t uri_size,
                    const struct bly_attributes *attributes, unsigned mask)
{
    const unsigned known = BLY_SET_MODE | BLY_SET_OWNER | BLY_SET_GROUP | BLY_SET_ACCESS_TIME |
                           BLY_SET_MODIFY_TIME | BLY_SET_SIZE;
    if (mask & ~known || (stream == BLY_NO_HANDLE && !uri_valid(uri, uri_size)))
        return -EINVAL;
    if (mask & (BLY_SET_OWNER | BLY_SET_GROUP))
        return -EPERM;
    struct host_rpc rpc = {
        .operation = BLY_RPC_SET,
        .u = {stream, mask},
        .parts = {{attributes, sizeof *attributes}, {uri, stream ? 0 : uri_size}},
        .part_count = 2};
    return (int)host_rpc_call(&rpc);
}

int64_t host_stream_get_named(const char *uri, size_t uri_size, const char *name, void *buffer,
                              size_t size)
{
    if (!uri_valid(uri, uri_size) || !name)
        return -EINVAL;
    struct host_rpc rpc = {.operation = BLY_RPC_GET_NAMED,
                           .u = {uri_size, size},
                           .parts = {{uri, uri_size}, {name, host_length(name) + 1}},
                           .part_count = 2,
                           .reply = buffer,
                           .reply_size = buffer ? size : 0};
    return host_rpc_call(&rpc);
}

int host_stream_set_named(const char *uri, size_t uri_size, const char *name, const void *value,
                          size_t size, unsigned flags)
{
    if (!uri_valid(uri, uri_size) || !name ||
        flags & ~(unsigned)(BLY_NAMED_CREATE | BLY_NAMED_REPLACE | BLY_NAMED_REMOVE))
        return -EINVAL;
    size_t name_size = host_length(name) + 1;
    struct host_rpc rpc = {.operation = BLY_RPC_SET_NAMED,
                           .u = {uri_size, flags, name_size},
                           .parts = {{uri, uri_size}, {name, name_size}, {value, value ? size : 0}},
                           .part_count = 3};
    int64_t result = host_rpc_call(&rpc);
    return result == -E2BIG ? -ENOSPC : (int)result;
}
