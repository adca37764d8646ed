/* System V message queues: msgget, msgsnd, msgrcv, msgctl. */
#include "personality/linux/ipc/ipc.h"
#include <linux/msg.h>

enum { QUEUE_BYTES = 16384, MESSAGE_BYTES = 8192 };

struct message { struct list node; int64_t type; size_t size; char text[]; };
struct msg_queue {
    struct ipc_object ipc;
    struct lock lock; /* guards all below */
    struct list messages;
    struct wait_queue senders, receivers;
    uint64_t bytes, count, maximum_bytes;
    int64_t send_seconds, receive_seconds, change_seconds;
    int32_t last_send_pid, last_receive_pid;
};

static struct ipc_registry *registry(void) { return ipc_registry(IPC_MESSAGES); }
static int64_t seconds_now(void) { return (int64_t)(lx_realtime_ns() / 1000000000u); }

static void msg_destroy(struct ipc_object *ipc)
{
    struct msg_queue *queue = container_of(ipc, struct msg_queue, ipc);
    list_for_each_safe(node, after, &queue->messages)
        heap_free(container_of(node, struct message, node));
    heap_free(queue);
}
void msg_init(struct ipc_registry *in) { in->destroy = msg_destroy; }

static struct ipc_object *msg_create(const void *request)
{
    struct msg_queue *queue = heap_alloc(sizeof *queue);
    if (!queue)
        return NULL;
    list_init(&queue->messages);
    wait_queue_init(&queue->senders);
    wait_queue_init(&queue->receivers);
    queue->maximum_bytes = QUEUE_BYTES;
    queue->change_seconds = seconds_now();
    return &queue->ipc;
}
static int msg_fits(const struct ipc_object *object, const void *request) { return 0; }

LX_SYSCALL(msgget, int32_t key, int flags)
{
    return ipc_get(registry(), key, flags, msg_create, msg_fits, NULL);
}

/* Waits on `wait` for a change; the queue's lock is held before and after. 0, or the errno to return. */
static int wait_for_change(struct msg_queue *queue, struct wait_queue *wait, uint32_t ticket, struct waiter **waiter)
{
    int result = *waiter ? 0 : wait_begin(wait, waiter);
    if (result)
        return result;
    lock_release(&queue->lock);
    result = thread_sleep(ticket, BLY_FOREVER);
    lock_acquire(&queue->lock);
    if (queue->ipc.removed)
        return -EIDRM;
    return result == -EINTR ? -ERESTARTNOHAND : 0; /* signal(7): never restarted after a handler */
}

static long send_message(struct msg_queue *queue, struct message *message, int flags)
{
    int result = ipc_permit(&queue->ipc, 0200);
    if (result)
        return result;
    struct waiter *waiter = NULL;
    scoped_lock(&queue->lock);
    for (;;) {
        uint32_t ticket = thread_ticket();
        result = queue->ipc.removed ? -EIDRM : 0;
        if (result || (queue->bytes + message->size <= queue->maximum_bytes && queue->count + 1 <= queue->maximum_bytes))
            break;
        result = flags & IPC_NOWAIT ? -EAGAIN : wait_for_change(queue, &queue->senders, ticket, &waiter);
        if (result)
            break;
    }
    if (waiter)
        wait_end(waiter);
    if (result)
        return result;
    list_push(&queue->messages, &message->node);
    queue->bytes += message->size;
    queue->count++;
    queue->send_seconds = seconds_now();
    queue->last_send_pid = lx_process()->pid;
    wait_queue_wake_all(&queue->receivers);
    return 0;
}

LX_SYSCALL(msgsnd, int id, const void *guest_message, size_t size, int flags)
{
    if (size > MESSAGE_BYTES || (int64_t)size < 0 || id < 0)
        return -EINVAL;
    int64_t type;
    int problem = guest_read(&type, guest_message, sizeof type);
    if (problem)
        return problem;
    if (type < 1)
        return -EINVAL;
    struct message *message = heap_alloc(sizeof *message + size);
    if (!message)
        return -ENOMEM;
    message->type = type;
    message->size = size;
    long result = guest_read(message->text, (const char *)guest_message + sizeof type, size);
    struct ipc_object *ipc = result ? NULL : ipc_find(registry(), id, &problem);
    if (ipc) {
        result = send_message(container_of(ipc, struct msg_queue, ipc), message, flags);
        ipc_unref(registry(), ipc);
    } else if (!result) {
        result = problem;
    }
    if (result)
        heap_free(message);
    return result;
}

/* msgop(2): the message that `type` selects, or NULL. */
static struct message *select_message(struct msg_queue *queue, int64_t type, int flags)
{
    struct message *best = NULL;
    uint64_t index = 0;
    list_for_each(node, &queue->messages) {
        struct message *message = container_of(node, struct message, node);
        if (flags & MSG_COPY) {
            if (index++ == (uint64_t)type)
                return message;
        } else if (type == 0 || (type > 0 && (flags & MSG_EXCEPT ? message->type != type : message->type == type))) {
            return message;
        } else if (type < 0 && message->type <= -type && (!best || message->type < best->type)) {
            best = message;
        }
    }
    return best;
}

static long receive_message(struct msg_queue *queue, size_t size, int64_t type, int flags, struct message **out_message)
{
    int result = ipc_permit(&queue->ipc, 0400);
    if (result)
        return result;
    struct waiter *waiter = NULL;
    struct message *message = NULL;
    scoped_lock(&queue->lock);
    for (;;) {
        uint32_t ticket = thread_ticket();
        result = queue->ipc.removed ? -EIDRM : 0;
        if (result || (message = select_message(queue, type, flags)))
            break;
        result = flags & (IPC_NOWAIT | MSG_COPY) ? -ENOMSG : wait_for_change(queue, &queue->receivers, ticket, &waiter);
        if (result)
            break;
    }
    if (waiter)
        wait_end(waiter);
    if (result)
        return result;
    if (message->size > size && !(flags & MSG_NOERROR))
        return -E2BIG;
    if (flags & MSG_COPY) {
        struct message *copy = heap_alloc(sizeof *copy + message->size);
        if (!copy)
            return -ENOMEM;
        memcpy(copy, message, sizeof *copy + message->size);
        *out_message = copy;
        return 0;
    }
    list_remove(&message->node);
    queue->bytes -= message->size;
    queue->count--;
    queue->receive_seconds = seconds_now();
    queue->last_receive_pid = lx_process()->pid;
    wait_queue_wake_all(&queue->senders);
    *out_message = message;
    return 0;
}

LX_SYSCALL(msgrcv, int id, void *guest_message, size_t size, int64_t type, int flags)
{
    if (id < 0 || (int64_t)size < 0)
        return -EINVAL;
    if ((flags & MSG_COPY) && (!(flags & IPC_NOWAIT) || (flags & MSG_EXCEPT)))
        return -EINVAL;
    int problem;
    struct ipc_object *ipc = ipc_find(registry(), id, &problem);
    if (!ipc)
        return problem;
    struct message *message = NULL;
    long result = receive_message(container_of(ipc, struct msg_queue, ipc), size, type, flags, &message);
    ipc_unref(registry(), ipc);
    if (result)
        return result;
    size_t given = message->size < size ? message->size : size;
    result = guest_write(guest_message, &message->type, sizeof message->type);
    if (!result)
        result = guest_write((char *)guest_message + sizeof message->type, message->text, given);
    heap_free(message);
    return result ? result : (long)given;
}

static long msg_stat(struct msg_queue *queue, int command, void *buffer)
{
    int problem = command == MSG_STAT_ANY ? 0 : ipc_permit(&queue->ipc, 0400);
    if (problem)
        return problem;
    struct msqid64_ds data;
    memset(&data, 0, sizeof data);
    {
        scoped_lock(&queue->lock);
        ipc_fill_permissions(&queue->ipc, &data.msg_perm);
        data.msg_stime = queue->send_seconds;
        data.msg_rtime = queue->receive_seconds;
        data.msg_ctime = queue->change_seconds;
        data.msg_cbytes = queue->bytes;
        data.msg_qnum = queue->count;
        data.msg_qbytes = queue->maximum_bytes;
        data.msg_lspid = queue->last_send_pid;
        data.msg_lrpid = queue->last_receive_pid;
    }
    problem = guest_write(buffer, &data, sizeof data);
    return problem ? problem : command == IPC_STAT ? 0 : queue->ipc.id;
}

static long msg_control(struct msg_queue *queue, int command, void *buffer)
{
    int problem;
    switch (command) {
    case IPC_STAT: case MSG_STAT: case MSG_STAT_ANY:
        return msg_stat(queue, command, buffer);
    case IPC_SET: {
        struct msqid64_ds data;
        if ((problem = guest_read(&data, buffer, sizeof data)) || (problem = ipc_permit_change(&queue->ipc)))
            return problem;
        if (data.msg_qbytes > QUEUE_BYTES && !lx_capable(24 /* CAP_SYS_RESOURCE */))
            return -EPERM;
        scoped_lock(&queue->lock);
        ipc_set_permissions(&queue->ipc, &data.msg_perm);
        queue->maximum_bytes = data.msg_qbytes;
        queue->change_seconds = seconds_now();
        wait_queue_wake_all(&queue->senders);
        return 0;
    }
    case IPC_RMID:
        if ((problem = ipc_permit_change(&queue->ipc)))
            return problem;
        ipc_remove(registry(), &queue->ipc, false);
        wait_queue_wake_all(&queue->senders);
        wait_queue_wake_all(&queue->receivers);
        return 0;
    }
    return -EINVAL;
}

LX_SYSCALL(msgctl, int id, int command, void *buffer)
{
    if (id < 0 || command < 0)
        return -EINVAL;
    int problem;
    if (command == IPC_INFO || command == MSG_INFO) {
        struct msginfo info = { .msgmni = IPC_SLOT_COUNT, .msgmax = MESSAGE_BYTES, .msgmnb = QUEUE_BYTES, .msgpool = IPC_SLOT_COUNT * QUEUE_BYTES / 1024,
                                .msgmap = QUEUE_BYTES, .msgssz = 16, .msgtql = QUEUE_BYTES, .msgseg = 0xffff };
        if (command == MSG_INFO) {
            info.msgpool = (int)registry()->used;
            info.msgmap = info.msgtql = 0;
            scoped_lock(&registry()->lock);
            for (uint32_t i = 0; i < registry()->slot_count; i++) {
                if (!registry()->slots[i])
                    continue;
                struct msg_queue *queue = container_of(registry()->slots[i], struct msg_queue, ipc);
                info.msgmap += (int)queue->count;
                info.msgtql += (int)queue->bytes;
            }
        }
        problem = guest_write(buffer, &info, sizeof info);
        return problem ? problem : ipc_highest_slot(registry());
    }
    struct ipc_object *ipc = command == MSG_STAT || command == MSG_STAT_ANY ? ipc_find_slot(registry(), id, &problem) : ipc_find(registry(), id, &problem);
    if (!ipc)
        return problem;
    long result = msg_control(container_of(ipc, struct msg_queue, ipc), command, buffer);
    ipc_unref(registry(), ipc);
    return result;
}
