/* The handle table. Invariant: an entry is on the free queue exactly when it is neither open nor in use; its generation
 * rises each time it gets there, and is never 0, so that no handle is BLY_NO_HANDLE. */
#include "monitor/handles.h"

#include <bailey/rpc.h>

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define INDEX_BITS 20u
#define INDEX_MASK ((1u << INDEX_BITS) - 1)
#define GENERATION_MASK 0xfffu
#define NONE UINT32_MAX

void mon_handles_init(struct mon_handles *handles, uint32_t limit)
{
    *handles = (struct mon_handles){.limit = limit > INDEX_MASK ? INDEX_MASK : limit, .free_first = NONE, .free_last = NONE};
    pthread_mutex_init(&handles->lock, NULL);
}

void mon_handles_destroy(struct mon_handles *handles)
{
    for (uint32_t i = 0; i < handles->count; i++)
        if (handles->entries[i].descriptor >= 0)
            close(handles->entries[i].descriptor);
    free(handles->entries);
    handles->entries = NULL;
    handles->count = handles->capacity = 0;
    pthread_mutex_destroy(&handles->lock);
}

static bly_handle handle_of(const struct mon_handles *handles, uint32_t index)
{
    return (bly_handle)handles->entries[index].generation << INDEX_BITS | index;
}

/* Caller holds the lock. Returns NULL for a stale or invented handle. */
static struct mon_handle *find(struct mon_handles *handles, bly_handle handle)
{
    uint32_t index = handle & INDEX_MASK;
    if (index >= handles->count)
        return NULL;
    struct mon_handle *entry = &handles->entries[index];
    return entry->open && entry->generation == handle >> INDEX_BITS ? entry : NULL;
}

/* Caller holds the lock. */
static int take_new(struct mon_handles *handles, uint32_t *out_index)
{
    if (handles->count >= handles->limit)
        return -EMFILE;
    if (handles->count == handles->capacity) {
        uint32_t capacity = handles->capacity ? handles->capacity * 2 : 128;
        struct mon_handle *entries = realloc(handles->entries, capacity * sizeof(*entries));
        if (!entries)
            return -ENOMEM;
        handles->entries = entries;
        handles->capacity = capacity;
    }
    *out_index = handles->count++;
    handles->entries[*out_index] = (struct mon_handle){.generation = 1};
    return 0;
}

static int take_free(struct mon_handles *handles, uint32_t *out_index)
{
    if (handles->free_first == NONE)
        return take_new(handles, out_index);
    *out_index = handles->free_first;
    handles->free_first = handles->entries[*out_index].next_free;
    if (handles->free_first == NONE)
        handles->free_last = NONE;
    return 0;
}

static void append_free(struct mon_handles *handles, uint32_t index)
{
    handles->entries[index].next_free = NONE;
    if (handles->free_last == NONE)
        handles->free_first = index;
    else
        handles->entries[handles->free_last].next_free = index;
    handles->free_last = index;
}

/* Out of the middle of the free queue. */
static void remove_free(struct mon_handles *handles, uint32_t index)
{
    uint32_t before = NONE;
    for (uint32_t i = handles->free_first; i != index; i = handles->entries[i].next_free)
        before = i;
    uint32_t after = handles->entries[index].next_free;
    if (before == NONE)
        handles->free_first = after;
    else
        handles->entries[before].next_free = after;
    if (after == NONE)
        handles->free_last = before;
}

/* Caller holds the lock. Returns the descriptor that the caller must close after unlocking, or -1. */
static int release(struct mon_handles *handles, struct mon_handle *entry)
{
    int descriptor = entry->descriptor;
    uint32_t index = (uint32_t)(entry - handles->entries);
    entry->descriptor = -1;
    entry->generation = entry->generation == GENERATION_MASK ? 1 : entry->generation + 1;
    append_free(handles, index);
    return descriptor;
}

static void fill(struct mon_handle *entry, int descriptor, unsigned kind, unsigned access, uint32_t mount)
{
    *entry = (struct mon_handle){.descriptor = descriptor,
                                 .mount = mount,
                                 .generation = entry->generation,
                                 .kind = (uint8_t)kind,
                                 .access = (uint8_t)access,
                                 .open = true};
}

int mon_handle_add(struct mon_handles *handles, int descriptor, unsigned kind, unsigned access, uint32_t mount,
                   bly_handle *out_handle)
{
    uint32_t index;
    pthread_mutex_lock(&handles->lock);
    int result = take_free(handles, &index);
    if (result == 0) {
        fill(&handles->entries[index], descriptor, kind, access, mount);
        *out_handle = handle_of(handles, index);
    }
    pthread_mutex_unlock(&handles->lock);
    return result;
}

/* Caller holds the lock. */
static int take_this(struct mon_handles *handles, uint32_t index)
{
    if (index < handles->count) {
        if (handles->entries[index].open || handles->entries[index].users)
            return -EEXIST;
        remove_free(handles, index);
        return 0;
    }
    if (index >= handles->limit)
        return -EMFILE;
    for (;;) {
        uint32_t next;
        int result = take_new(handles, &next);
        if (result < 0 || next == index)
            return result;
        handles->entries[next].descriptor = -1;
        append_free(handles, next);
    }
}

int mon_handle_place(struct mon_handles *handles, bly_handle handle, int descriptor, unsigned kind, unsigned access, uint32_t mount)
{
    uint32_t index = handle & INDEX_MASK;
    if (handle >> INDEX_BITS == 0 || index >= BLY_LOCAL_HANDLE_FIRST)
        return -EINVAL;
    pthread_mutex_lock(&handles->lock);
    int result = take_this(handles, index);
    if (result == 0) {
        handles->entries[index].generation = (uint16_t)(handle >> INDEX_BITS);
        fill(&handles->entries[index], descriptor, kind, access, mount);
    }
    pthread_mutex_unlock(&handles->lock);
    return result;
}

void mon_handle_set_owner(struct mon_handles *handles, bly_handle handle, uint64_t owner)
{
    uint32_t index = handle & INDEX_MASK;
    if (handle == BLY_NO_HANDLE)
        return;
    pthread_mutex_lock(&handles->lock);
    if (index < handles->count && handles->entries[index].open && handle_of(handles, index) == handle)
        handles->entries[index].owner = owner;
    pthread_mutex_unlock(&handles->lock);
}

uint32_t mon_handles_open(struct mon_handles *handles)
{
    uint32_t count = 0;
    pthread_mutex_lock(&handles->lock);
    for (uint32_t i = 0; i < handles->count; i++)
        count += handles->entries[i].open;
    pthread_mutex_unlock(&handles->lock);
    return count;
}

bool mon_handle_next(struct mon_handles *handles, uint32_t *place, bly_handle *out_handle)
{
    pthread_mutex_lock(&handles->lock);
    while (*place < handles->count && !handles->entries[*place].open)
        ++*place;
    bool found = *place < handles->count;
    if (found)
        *out_handle = handle_of(handles, (*place)++);
    pthread_mutex_unlock(&handles->lock);
    return found;
}

int mon_handle_add_range(struct mon_handles *handles, uint32_t count, unsigned kind, bly_handle *out_first)
{
    int result = 0;
    pthread_mutex_lock(&handles->lock);
    for (uint32_t i = 0; i < count && result == 0; i++) {
        uint32_t index;
        result = take_new(handles, &index);
        if (result < 0)
            break;
        fill(&handles->entries[index], -1, kind, BLY_ACCESS_READ | BLY_ACCESS_WRITE, MON_NO_MOUNT);
        if (i == 0)
            *out_first = handle_of(handles, index);
    }
    pthread_mutex_unlock(&handles->lock);
    return result;
}

int mon_handle_get(struct mon_handles *handles, bly_handle handle, struct mon_handle *out_entry)
{
    pthread_mutex_lock(&handles->lock);
    struct mon_handle *entry = find(handles, handle);
    if (entry) {
        entry->users++;
        *out_entry = *entry;
    }
    pthread_mutex_unlock(&handles->lock);
    return entry ? 0 : -EBADF;
}

void mon_handle_put(struct mon_handles *handles, bly_handle handle)
{
    int descriptor = -1;
    pthread_mutex_lock(&handles->lock);
    struct mon_handle *entry = &handles->entries[handle & INDEX_MASK];
    if (--entry->users == 0 && !entry->open)
        descriptor = release(handles, entry);
    pthread_mutex_unlock(&handles->lock);
    if (descriptor >= 0)
        close(descriptor);
}

int mon_handle_close(struct mon_handles *handles, bly_handle handle)
{
    int descriptor = -1;
    pthread_mutex_lock(&handles->lock);
    struct mon_handle *entry = find(handles, handle);
    if (entry) {
        entry->open = false;
        if (entry->users == 0)
            descriptor = release(handles, entry);
    }
    pthread_mutex_unlock(&handles->lock);
    if (descriptor >= 0)
        close(descriptor);
    return entry ? 0 : -EBADF;
}
