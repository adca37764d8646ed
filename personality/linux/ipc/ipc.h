/* System V IPC: what shared memory, semaphores and message queues have in common: identifiers, keys, permissions.
 *
 * A registry holds the objects of one kind. An identifier is the slot plus 32768 times a sequence number, as in Linux, so
 * that a reused slot gets a new identifier. Objects are reference-counted: the registry's own reference is dropped by
 * IPC_RMID; sleepers and attachments hold theirs. */
#ifndef LX_IPC_H
#define LX_IPC_H

#include "personality/linux/lx.h"
#include "personality/linux/process/process.h"
#include <linux/ipc.h>

struct ipc_object {
    _Atomic uint32_t references;
    int32_t id, key;
    uint32_t slot;
    bool removed;                 /* IPC_RMID was done; guarded by the object's own lock */
    uint32_t owner, group, creator, creator_group, mode, sequence;
};

enum { IPC_SLOT_COUNT = 4096 };
struct ipc_registry {
    struct lock lock;             /* guards all of this, and the objects' keys */
    struct ipc_object **slots;
    uint32_t slot_count;          /* there is room for; grows to IPC_SLOT_COUNT */
    uint32_t used, sequence;
    void (*destroy)(struct ipc_object *object); /* last reference is gone */
};

enum ipc_kind { IPC_SHARED_MEMORY, IPC_SEMAPHORES, IPC_MESSAGES, IPC_KIND_COUNT };
struct ipc_state {
    struct ipc_registry registries[IPC_KIND_COUNT];
    struct mqueue_state *mqueues;
};
static inline struct ipc_registry *ipc_registry(enum ipc_kind kind)
{
    return &((struct ipc_state *)lx_kernel->ipc)->registries[kind];
}

/* *get(2): finds by key or adds what `create` makes (NULL: -ENOSPC); `fits` says whether an object that was found will do (0 or errno). */
long ipc_get(struct ipc_registry *registry, int32_t key, int flags, struct ipc_object *(*create)(const void *request),
             int (*fits)(const struct ipc_object *object, const void *request), const void *request);
/* A referenced object, or NULL with *out_error -EINVAL, or -EIDRM when the slot has a newer one. */
struct ipc_object *ipc_find(struct ipc_registry *registry, int32_t id, int *out_error);
/* By slot number, for the *_STAT commands. */
struct ipc_object *ipc_find_slot(struct ipc_registry *registry, int32_t slot, int *out_error);
void ipc_unref(struct ipc_registry *registry, struct ipc_object *object);
/* Takes the object out of the registry (its key becomes free); drops the registry's reference unless `keep_slot`. */
void ipc_remove(struct ipc_registry *registry, struct ipc_object *object, bool keep_slot);
void ipc_release_slot(struct ipc_registry *registry, struct ipc_object *object);
int32_t ipc_highest_slot(struct ipc_registry *registry);

/* `wanted` are mode bits of the owner class (0400 read, 0200 write). */
int ipc_permit(const struct ipc_object *object, uint32_t wanted);
int ipc_permit_change(const struct ipc_object *object);
void ipc_fill_permissions(const struct ipc_object *object, struct ipc64_perm *out);
void ipc_set_permissions(struct ipc_object *object, const struct ipc64_perm *from);

void shm_init(struct ipc_registry *registry);
void sem_init(struct ipc_registry *registry);
void msg_init(struct ipc_registry *registry);
struct mqueue_state *mqueue_init(void);

/* The process ends: its SEM_UNDO adjustments are applied. */
void lx_ipc_process_exit(struct lx_process *process);
int lx_ipc_init(void);

#endif
