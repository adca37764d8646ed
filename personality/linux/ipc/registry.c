/* Identifiers, keys and permissions of System V IPC objects. See ipc.h. */
#include "personality/linux/ipc/ipc.h"
#include <linux/capability.h>
#include <linux/stat.h>

enum { IPC_ID_STRIDE = 32768, SLOTS_AT_FIRST = 16 };
_Static_assert(IPC_SLOT_COUNT % SLOTS_AT_FIRST == 0 && !(IPC_SLOT_COUNT & (IPC_SLOT_COUNT - 1)), "doubling meets the limit");

static struct ipc_object *by_key(struct ipc_registry *registry, int32_t key)
{
    for (uint32_t i = 0; i < registry->slot_count; i++) {
        struct ipc_object *object = registry->slots[i];
        if (object && object->key == key && !object->removed)
            return object;
    }
    return NULL;
}

static bool grow(struct ipc_registry *registry)
{
    uint32_t count = registry->slot_count ? registry->slot_count * 2 : SLOTS_AT_FIRST;
    struct ipc_object **slots = heap_realloc(registry->slots, registry->slot_count * sizeof *slots, count * sizeof *slots);
    if (!slots)
        return false;
    registry->slots = slots;
    registry->slot_count = count;
    return true;
}

static int register_object(struct ipc_registry *registry, struct ipc_object *object, int32_t key, int flags)
{
    for (uint32_t i = 0; i < IPC_SLOT_COUNT; i++) {
        if (i == registry->slot_count && !grow(registry))
            return -ENOMEM;
        if (registry->slots[i])
            continue;
        struct credentials *who = &lx_process()->credentials;
        object->references = 1;
        object->slot = i;
        object->key = key;
        object->sequence = registry->sequence++ % (INT32_MAX / IPC_ID_STRIDE);
        object->id = (int32_t)(object->sequence * IPC_ID_STRIDE + i);
        object->owner = object->creator = who->euid;
        object->group = object->creator_group = who->egid;
        object->mode = (uint32_t)flags & 0777;
        registry->slots[i] = object;
        registry->used++;
        return object->id;
    }
    return -ENOSPC;
}

long ipc_get(struct ipc_registry *registry, int32_t key, int flags, struct ipc_object *(*create)(const void *request),
             int (*fits)(const struct ipc_object *object, const void *request), const void *request)
{
    /* Made before the lock is taken, since making one may allocate much; thrown away when it is not needed. */
    struct ipc_object *fresh = NULL;
    if (key == IPC_PRIVATE || (flags & IPC_CREAT)) {
        int problem = fits(NULL, request);
        fresh = problem ? NULL : create(request);
        if (!fresh && (problem == 0 || key == IPC_PRIVATE))
            return problem ? problem : -ENOSPC;
    }
    long result;
    {
        scoped_lock(&registry->lock);
        struct ipc_object *found = key == IPC_PRIVATE ? NULL : by_key(registry, key);
        if (found && (flags & IPC_CREAT) && (flags & IPC_EXCL)) {
            result = -EEXIST;
        } else if (found) {
            result = ipc_permit(found, (uint32_t)flags & 0700);
            if (!result)
                result = fits(found, request);
            if (!result)
                result = found->id;
        } else if (fresh) {
            result = register_object(registry, fresh, key, flags);
            if (result >= 0)
                return result;
        } else {
            result = key != IPC_PRIVATE && !(flags & IPC_CREAT) ? -ENOENT : fits(NULL, request);
        }
    }
    if (fresh)
        registry->destroy(fresh);
    return result;
}

static bool take_reference(struct ipc_object *object)
{
    uint32_t count = object->references;
    while (count)
        if (__atomic_compare_exchange_n((uint32_t *)&object->references, &count, count + 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            return true;
    return false;
}

struct ipc_object *ipc_find_slot(struct ipc_registry *registry, int32_t slot, int *out_error)
{
    *out_error = -EINVAL;
    if (slot < 0)
        return NULL;
    scoped_lock(&registry->lock);
    uint32_t index = (uint32_t)slot % IPC_ID_STRIDE % IPC_SLOT_COUNT;
    struct ipc_object *object = index < registry->slot_count ? registry->slots[index] : NULL;
    return object && take_reference(object) ? object : NULL;
}

struct ipc_object *ipc_find(struct ipc_registry *registry, int32_t id, int *out_error)
{
    struct ipc_object *object = id % IPC_ID_STRIDE >= IPC_SLOT_COUNT ? NULL : ipc_find_slot(registry, id, out_error);
    if (object && object->id != id) {
        *out_error = -EIDRM;
        ipc_unref(registry, object);
        return NULL;
    }
    if (!object)
        *out_error = -EINVAL;
    return object;
}

void ipc_unref(struct ipc_registry *registry, struct ipc_object *object)
{
    if (--object->references == 0)
        registry->destroy(object);
}

void ipc_release_slot(struct ipc_registry *registry, struct ipc_object *object)
{
    scoped_lock(&registry->lock);
    if (registry->slots[object->slot] == object) {
        registry->slots[object->slot] = NULL;
        registry->used--;
    }
}

void ipc_remove(struct ipc_registry *registry, struct ipc_object *object, bool keep_slot)
{
    bool was_removed;
    {
        scoped_lock(&registry->lock);
        was_removed = object->removed;
        object->removed = true;
        object->key = IPC_PRIVATE;
    }
    if (was_removed)
        return;
    if (!keep_slot)
        ipc_release_slot(registry, object);
    ipc_unref(registry, object);
}

int32_t ipc_highest_slot(struct ipc_registry *registry)
{
    scoped_lock(&registry->lock);
    for (int32_t i = (int32_t)registry->slot_count - 1; i > 0; i--)
        if (registry->slots[i])
            return i;
    return 0;
}

static bool in_group(const struct credentials *who, uint32_t group)
{
    if (who->egid == group)
        return true;
    for (uint32_t i = 0; i < who->group_count; i++)
        if (who->groups[i] == group)
            return true;
    return false;
}

int ipc_permit(const struct ipc_object *object, uint32_t wanted)
{
    const struct credentials *who = &lx_process()->credentials;
    uint32_t granted = object->mode;
    if (who->euid == object->owner || who->euid == object->creator)
        granted = object->mode & 0700;
    else if (in_group(who, object->group) || in_group(who, object->creator_group))
        granted = (object->mode & 0070) << 3;
    else
        granted = (object->mode & 0007) << 6;
    if ((wanted & ~granted & 0600) == 0 || lx_capable(CAP_IPC_OWNER))
        return 0;
    return -EACCES;
}

int ipc_permit_change(const struct ipc_object *object)
{
    uint32_t who = lx_process()->credentials.euid;
    return who == object->owner || who == object->creator || lx_capable(CAP_SYS_ADMIN) ? 0 : -EPERM;
}

void ipc_fill_permissions(const struct ipc_object *object, struct ipc64_perm *out)
{
    memset(out, 0, sizeof *out);
    out->key = object->key;
    out->uid = object->owner;
    out->gid = object->group;
    out->cuid = object->creator;
    out->cgid = object->creator_group;
    out->mode = object->mode;
    out->seq = (unsigned short)object->sequence;
}

void ipc_set_permissions(struct ipc_object *object, const struct ipc64_perm *from)
{
    object->owner = from->uid;
    object->group = from->gid;
    object->mode = (object->mode & ~0777u) | (from->mode & 0777);
}

int lx_ipc_init(void)
{
    struct ipc_state *state = heap_alloc(sizeof *state);
    if (!state)
        return -ENOMEM;
    shm_init(&state->registries[IPC_SHARED_MEMORY]);
    sem_init(&state->registries[IPC_SEMAPHORES]);
    msg_init(&state->registries[IPC_MESSAGES]);
    state->mqueues = mqueue_init();
    lx_kernel->ipc = state;
    return state->mqueues ? 0 : -ENOMEM;
}
