/* The cache handle -> host descriptor of this picoprocess.
 *
 * Handles are issued by the monitor, which keeps the master descriptors; a miss fetches a copy by
 * RPC. Entries are looked up without a lock; insertion and removal hold host_locks->handle.
 * Invariant: a descriptor is closed exactly once, after its entry was removed and its last user has
 * gone. What anybody closes is announced in channel->closed, and followed here at the next miss or
 * close, so that a stale copy does not keep a file or a connection alive for long. */

#include "host.h"

static void close_descriptor(int descriptor)
{
    sys1(__NR_close, descriptor);
}

/* Closes a removed entry's descriptor if nobody uses it any more. Caller holds the handle lock. */
static void entry_reap(struct host_handle *entry)
{
    if (entry->handle || entry->uses || !entry->next_descriptor)
        return;
    host_window_release(entry);
    close_descriptor(entry->next_descriptor - 1);
    entry->next_descriptor = 0;
}

static void unlist(struct host_handle *entry)
{
    if (!(entry->flags & HOST_HANDLE_LISTED))
        return;
    uint32_t index = (uint32_t)(entry - host_tables->handles);
    for (uint32_t i = 0; i < host.cached_count; i++) {
        if (host_tables->cached[i] != index)
            continue;
        host_tables->cached[i] = host_tables->cached[--host.cached_count];
        break;
    }
    entry->flags &= ~(uint32_t)HOST_HANDLE_LISTED;
}

static void entry_remove(struct host_handle *entry)
{
    entry->handle = BLY_NO_HANDLE;
    unlist(entry);
    entry_reap(entry);
}

/* Gives up one descriptor that nobody uses, so that the table of descriptors stays bounded. */
static void evict(void)
{
    for (uint32_t tries = host.cached_count; tries; tries--) {
        if (host.cached_hand >= host.cached_count)
            host.cached_hand = 0;
        struct host_handle *entry = &host_tables->handles[host_tables->cached[host.cached_hand]];
        if (!(entry->flags & (HOST_HANDLE_PINNED | HOST_HANDLE_LOCAL)) && entry->uses == 0) {
            entry_remove(entry);
            return;
        }
        host.cached_hand++;
    }
}

/* Drops what has been closed since this was last called; whether `wanted` is known to be among it.
 * Caller holds the handle lock. */
static bool follow_closes(bly_handle wanted)
{
    bool found = false;
    uint32_t now = host_channel->closed_count;
    bool drop_all = now - host.closed_count > BLY_RPC_CLOSED_COUNT;
    for (; host.closed_count != now && !drop_all; host.closed_count++) {
        uint64_t record = host_channel->closed[host.closed_count % BLY_RPC_CLOSED_COUNT];
        bly_handle handle = (bly_handle)record;
        struct host_handle *entry = &host_tables->handles[HOST_HANDLE_INDEX(handle)];
        /* Not written yet, or written over: which one it was cannot be known. */
        if (record >> 32 != host.closed_count || handle == BLY_NO_HANDLE)
            drop_all = true;
        else if (entry->handle == handle)
            entry_remove(entry);
        found |= handle == wanted;
    }
    if (!drop_all)
        return found;
    /* Everything that can be fetched again is forgotten. */
    for (uint32_t i = host.cached_count; i-- > 0;) {
        struct host_handle *entry = &host_tables->handles[host_tables->cached[i]];
        if (!(entry->flags & (HOST_HANDLE_PINNED | HOST_HANDLE_LOCAL)))
            entry_remove(entry);
    }
    host.closed_count = now;
    return false;
}

void host_handle_release(struct host_use *use)
{
    struct host_handle *entry = use->entry;
    if (!entry) {
        if (use->descriptor >= 0)
            close_descriptor(use->descriptor);
        return;
    }
    if (__atomic_sub_fetch((uint32_t *)&entry->uses, 1, __ATOMIC_SEQ_CST) == 0 && !entry->handle &&
        entry->next_descriptor) {
        host_lock(&host_locks->handle);
        entry_reap(entry);
        host_unlock(&host_locks->handle);
    }
}

static bool use_cached(bly_handle handle, struct host_use *out_use)
{
    struct host_handle *entry = &host_tables->handles[HOST_HANDLE_INDEX(handle)];
    /* Reading first keeps the pages of indices never used untouched. */
    if (entry->handle != handle)
        return false;
    __atomic_add_fetch((uint32_t *)&entry->uses, 1, __ATOMIC_SEQ_CST);
    *out_use =
        (struct host_use){entry, entry->next_descriptor - 1, entry->flags & HOST_HANDLE_FILE};
    if (entry->handle == handle)
        return true;
    host_handle_release(out_use);
    return false;
}

/* Caller holds the handle lock. False: the entry is occupied; the descriptor stays the caller's. */
static bool insert(bly_handle handle, int descriptor, uint32_t flags)
{
    struct host_handle *entry = &host_tables->handles[HOST_HANDLE_INDEX(handle)];
    if (entry->handle == handle)
        return false;
    if (entry->handle && entry->flags & (HOST_HANDLE_PINNED | HOST_HANDLE_LOCAL))
        return false;
    if (entry->handle)
        entry_remove(entry); /* an older generation: its master is gone */
    if (entry->uses)
        return false;
    entry_reap(entry); /* its last user may not have come to it yet */
    if (host.cached_count >= host.cached_limit)
        evict();
    if (host.cached_count >= HOST_CACHE_MAX)
        return false;
    entry->next_descriptor = descriptor + 1;
    entry->flags = flags | HOST_HANDLE_LISTED;
    host_tables->cached[host.cached_count++] = (uint32_t)(entry - host_tables->handles);
    entry->handle = handle;
    return true;
}

void host_handle_insert(bly_handle handle, int descriptor, uint32_t flags)
{
    host_lock(&host_locks->handle);
    follow_closes(BLY_NO_HANDLE);
    bool inserted = insert(handle, descriptor, flags);
    host_unlock(&host_locks->handle);
    if (!inserted)
        close_descriptor(descriptor);
}

int host_handle_use(bly_handle handle, struct host_use *out_use)
{
    *out_use = (struct host_use){.descriptor = -1};
    if (handle == BLY_NO_HANDLE)
        return -EBADF;
    if (use_cached(handle, out_use))
        return 0;
    *out_use = (struct host_use){.descriptor = -1};
    if (HOST_HANDLE_INDEX(handle) >= BLY_LOCAL_HANDLE_FIRST)
        return -EBADF;
    struct host_rpc rpc = {.operation = BLY_RPC_FETCH, .u = {handle}};
    int64_t result = host_rpc_call(&rpc);
    if (result < 0)
        return (int)result;
    if (rpc.descriptor < 0)
        return -EBADF;
    host_lock(&host_locks->handle);
    /* The monitor may not have come to the close yet. */
    bool closed = follow_closes(handle);
    uint32_t flags = host_handle_flags((unsigned)rpc.u[0], rpc.u[2]);
    bool inserted = !closed && insert(handle, rpc.descriptor, flags);
    host_unlock(&host_locks->handle);
    if (closed) {
        close_descriptor(rpc.descriptor);
        return -EBADF;
    }
    if (!inserted) {
        /* Raced with another thread's fetch, or the entry is busy: use our own copy once. */
        *out_use = (struct host_use){NULL, rpc.descriptor, flags & HOST_HANDLE_FILE};
        return 0;
    }
    /* It may be evicted again before it is used, if very unlucky. */
    if (use_cached(handle, out_use))
        return 0;
    return host_handle_use(handle, out_use);
}

int host_handle_insert_local(int descriptor, bly_handle *out_handle)
{
    const uint32_t count = HOST_HANDLE_COUNT - BLY_LOCAL_HANDLE_FIRST;
    host_lock(&host_locks->handle);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t serial = host.next_local++;
        uint32_t generation = serial / count % 4096;
        bly_handle handle = (BLY_LOCAL_HANDLE_FIRST + serial % count) | generation << 20;
        if (insert(handle, descriptor, HOST_HANDLE_LOCAL)) {
            host_unlock(&host_locks->handle);
            *out_handle = handle;
            return 0;
        }
        if (host.cached_count >= HOST_CACHE_MAX)
            break;
    }
    host_unlock(&host_locks->handle);
    close_descriptor(descriptor);
    return -EMFILE;
}

void host_handle_remove(bly_handle handle)
{
    struct host_handle *entry = &host_tables->handles[HOST_HANDLE_INDEX(handle)];
    host_lock(&host_locks->handle);
    if (entry->handle == handle)
        entry_remove(entry);
    follow_closes(BLY_NO_HANDLE);
    host_unlock(&host_locks->handle);
}

int host_handle_close(bly_handle handle)
{
    if (handle == BLY_NO_HANDLE)
        return -EBADF;
    bool local = HOST_HANDLE_INDEX(handle) >= BLY_LOCAL_HANDLE_FIRST;
    if (local && host_tables->handles[HOST_HANDLE_INDEX(handle)].handle != handle)
        return -EBADF;
    host_handle_remove(handle);
    if (local)
        return 0;
    uint32_t number = host_channel->closed_count++;
    host_channel->closed[number % BLY_RPC_CLOSED_COUNT] = (uint64_t)number << 32 | handle;
    host_rpc_post_close(handle);
    return 0;
}

/* In the child of a clone, with the handle lock held: users other than the caller stayed behind, and
 * wait sets are the parent's. */
void host_handles_after_clone(void)
{
    host_windows_after_clone();
    for (uint32_t i = host.cached_count; i-- > 0;) {
        struct host_handle *entry = &host_tables->handles[host_tables->cached[i]];
        if (entry->uses)
            entry->uses = 0;
        if (entry->flags & HOST_HANDLE_LOCAL)
            entry_remove(entry);
    }
}
