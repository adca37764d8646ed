/* POSIX message queues: mq_open, mq_unlink, mq_timedsend, mq_timedreceive, mq_notify, mq_getsetattr. */
#include "personality/linux/file.h"
#include "personality/linux/ipc/ipc.h"
#include <linux/capability.h>
#include <linux/fcntl.h>
#include <linux/mqueue.h>
#include <linux/poll.h>
#include <linux/stat.h>

enum { NAME_BYTES = 255, PRIORITY_COUNT = 32768, DEFAULT_MESSAGES = 10, DEFAULT_SIZE = 8192, LIMIT_MESSAGES = 65536, LIMIT_SIZE = 16 << 20,
       USER_MESSAGES = 10, USER_SIZE = 8192 };

struct mq_message { struct list node; uint32_t priority; size_t size; char text[]; };
struct mqueue {
    struct list named;            /* in mqueue_state.queues; guarded by its lock, as name and references are */
    uint32_t references;          /* one for the name, one an open file */
    char name[NAME_BYTES + 1];
    uint32_t owner, group, mode;
    struct lock lock;             /* guards all below */
    struct list messages;         /* highest priority first, oldest first */
    struct wait_queue senders, receivers, pollers;
    int64_t maximum, message_size, count;
    int32_t notify_pid;           /* 0: none */
    int32_t notify_kind, notify_signal;
    uint64_t notify_value;
    struct open_file *notify_file; /* registered through this one; not a reference */
};
struct mqueue_state { struct lock lock; struct list queues; };

static struct mqueue_state *state(void) { return ((struct ipc_state *)lx_kernel->ipc)->mqueues; }

struct mqueue_state *mqueue_init(void)
{
    struct mqueue_state *made = heap_alloc(sizeof *made);
    if (made)
        list_init(&made->queues);
    return made;
}

static void mqueue_unref(struct mqueue *queue)
{
    {
        scoped_lock(&state()->lock);
        if (--queue->references)
            return;
    }
    list_for_each_safe(node, after, &queue->messages)
        heap_free(container_of(node, struct mq_message, node));
    heap_free(queue);
}

static uint32_t mqueue_poll(struct open_file *file, struct poll_table *table)
{
    struct mqueue *queue = file->object;
    poll_wait(table, &queue->pollers);
    scoped_lock(&queue->lock);
    return (queue->count ? POLLIN | POLLRDNORM : 0) | (queue->count < queue->maximum ? POLLOUT | POLLWRNORM : 0);
}

static void mqueue_close(struct open_file *file)
{
    struct mqueue *queue = file->object;
    {
        scoped_lock(&queue->lock);
        if (queue->notify_file == file)
            queue->notify_pid = 0;
    }
    mqueue_unref(queue);
}

static const struct file_ops mqueue_ops = { .name = "mqueue", .poll = mqueue_poll, .close = mqueue_close, .positionless = true };

static int read_name(const char *guest_name, char *name)
{
    int64_t length = guest_read_string(name, guest_name, NAME_BYTES + 1);
    if (length < 0)
        return (int)length;
    if (length == 0)
        return -ENOENT;
    return strchr(name, '/') ? -EACCES : 0;
}

static struct mqueue *find_name(const char *name)
{
    list_for_each(node, &state()->queues) {
        struct mqueue *queue = container_of(node, struct mqueue, named);
        if (strcmp(queue->name, name) == 0)
            return queue;
    }
    return NULL;
}

static int permit(const struct mqueue *queue, int flags)
{
    const struct credentials *who = &lx_process()->credentials;
    static const uint32_t wanted[4] = { 4, 2, 6, 6 };
    uint32_t want = wanted[flags & O_ACCMODE];
    uint32_t bits = who->euid == queue->owner ? queue->mode >> 6 : who->egid == queue->group ? queue->mode >> 3 : queue->mode;
    return (want & ~bits) == 0 || lx_capable(CAP_DAC_OVERRIDE) ? 0 : -EACCES;
}

static struct mqueue *make_queue(const char *name, unsigned mode, const struct mq_attr *attributes)
{
    struct mqueue *queue = heap_alloc(sizeof *queue);
    if (!queue)
        return NULL;
    memcpy(queue->name, name, strlen(name) + 1);
    queue->owner = lx_process()->credentials.euid;
    queue->group = lx_process()->credentials.egid;
    queue->mode = mode & 0777 & ~lx_process()->fs->umask;
    queue->references = 1;
    list_init(&queue->messages);
    wait_queue_init(&queue->senders);
    wait_queue_init(&queue->receivers);
    wait_queue_init(&queue->pollers);
    queue->maximum = attributes ? attributes->mq_maxmsg : DEFAULT_MESSAGES;
    queue->message_size = attributes ? attributes->mq_msgsize : DEFAULT_SIZE;
    return queue;
}

LX_SYSCALL(mq_open, const char *guest_name, int flags, unsigned mode, const struct mq_attr *guest_attributes)
{
    char name[NAME_BYTES + 1];
    struct mq_attr attributes;
    int problem = 0;
    if ((flags & O_CREAT) && guest_attributes && (problem = guest_read(&attributes, guest_attributes, sizeof attributes)))
        return problem;
    if ((problem = read_name(guest_name, name)))
        return problem;
    struct mqueue *fresh = NULL;
    if (flags & O_CREAT) {
        bool privileged = lx_capable(CAP_SYS_RESOURCE);
        if (guest_attributes && (attributes.mq_maxmsg <= 0 || attributes.mq_msgsize <= 0 ||
                                 attributes.mq_maxmsg > (privileged ? LIMIT_MESSAGES : USER_MESSAGES) || attributes.mq_msgsize > (privileged ? LIMIT_SIZE : USER_SIZE)))
            return -EINVAL;
        if (!(fresh = make_queue(name, mode, guest_attributes ? &attributes : NULL)))
            return -ENOMEM;
    }
    struct mqueue *queue = NULL;
    {
        scoped_lock(&state()->lock);
        queue = find_name(name);
        if (queue) {
            problem = (flags & O_CREAT) && (flags & O_EXCL) ? -EEXIST : permit(queue, flags);
        } else if (fresh) {
            queue = fresh;
            fresh = NULL;
            list_push(&state()->queues, &queue->named);
        } else {
            problem = -ENOENT;
        }
        if (!problem)
            queue->references++;
    }
    heap_free(fresh);
    if (problem)
        return problem;
    struct open_file *file = file_create_anonymous(&mqueue_ops, queue, S_IFREG | 0600, (unsigned)flags & (O_ACCMODE | O_NONBLOCK));
    if (!file) {
        mqueue_unref(queue);
        return -ENOMEM;
    }
    int fd = fd_install(file, 0, true); /* mq_open(3): close-on-exec always */
    if (fd < 0)
        file_unref(file);
    return fd;
}

LX_SYSCALL(mq_unlink, const char *guest_name)
{
    char name[NAME_BYTES + 1];
    int problem = read_name(guest_name, name);
    if (problem)
        return problem;
    struct mqueue *queue;
    {
        scoped_lock(&state()->lock);
        queue = find_name(name);
        if (!queue)
            return -ENOENT;
        if (queue->owner != lx_process()->credentials.euid && !lx_capable(CAP_FOWNER))
            return -EACCES;
        list_remove(&queue->named);
    }
    mqueue_unref(queue);
    return 0;
}

/* The open queue behind `fd`, with the access needed; the file holds it. */
static int get_queue(int fd, int access, struct open_file **out_file)
{
    struct open_file *file = fd_get(fd);
    if (!file)
        return -EBADF;
    int mode = (int)(file->flags & O_ACCMODE);
    if (file->ops != &mqueue_ops || (access != O_RDWR && mode != O_RDWR && mode != access)) {
        file_unref(file);
        return -EBADF;
    }
    *out_file = file;
    return 0;
}

static int read_deadline(const int64_t *guest_time, uint64_t *out_deadline)
{
    *out_deadline = BLY_FOREVER;
    if (!guest_time)
        return 0;
    int64_t time[2];
    int problem = guest_read(time, guest_time, sizeof time);
    if (problem)
        return problem;
    if (time[0] < 0 || time[1] < 0 || time[1] >= 1000000000)
        return -EINVAL;
    uint64_t now = lx_realtime_ns(), at = time[0] > 1ll << 33 ? UINT64_MAX / 2 : (uint64_t)time[0] * 1000000000u + (uint64_t)time[1];
    *out_deadline = at <= now ? 0 : lx_monotonic_ns() + (at - now);
    return 0;
}

static void notify_arrival(struct mqueue *queue)
{
    int32_t pid = queue->notify_pid, signal = queue->notify_kind == 0 /* SIGEV_SIGNAL */ ? queue->notify_signal : 0;
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = signal;
    info.si_code = SI_MESGQ;
    info.si_pid = lx_process()->pid;
    info.si_uid = lx_process()->credentials.uid;
    info.si_value.sival_ptr = (void *)queue->notify_value;
    queue->notify_pid = 0;
    if (!signal)
        return;
    lock_release(&queue->lock); /* the process table comes before us in the lock order */
    struct lx_process *process = process_get(pid);
    if (process) {
        signal_send_process(process, signal, &info);
        process_unref(process);
    }
    lock_acquire(&queue->lock);
}

static long send_locked(struct mqueue *queue, struct mq_message *message, bool no_wait, uint64_t deadline)
{
    int result;
    scoped_lock(&queue->lock);
    if (queue->count >= queue->maximum && no_wait)
        return -EAGAIN;
    wait_until(&queue->senders, &queue->lock, queue->count < queue->maximum, deadline, result);
    if (result)
        return result == -EINTR ? -ERESTARTSYS : result;
    struct list *at = queue->messages.next;
    while (at != &queue->messages && container_of(at, struct mq_message, node)->priority >= message->priority)
        at = at->next;
    list_insert(&message->node, at);
    bool was_empty = queue->count++ == 0, somebody_waits = !list_empty(&queue->receivers.waiters);
    wait_queue_wake_all(&queue->receivers);
    wait_queue_wake(&queue->pollers, POLLIN | POLLRDNORM, 1 << 30);
    if (was_empty && !somebody_waits && queue->notify_pid)
        notify_arrival(queue);
    return 0;
}

LX_SYSCALL(mq_timedsend, int fd, const char *text, size_t size, unsigned priority, const int64_t *guest_timeout)
{
    uint64_t deadline;
    int problem = read_deadline(guest_timeout, &deadline);
    if (problem)
        return problem;
    if (priority >= PRIORITY_COUNT)
        return -EINVAL;
    struct open_file *raw;
    if ((problem = get_queue(fd, O_WRONLY, &raw)))
        return problem;
    scoped_file file = raw;
    struct mqueue *queue = file->object;
    if ((int64_t)size > queue->message_size || (int64_t)size < 0)
        return -EMSGSIZE;
    struct mq_message *message = heap_alloc(sizeof *message + size);
    if (!message)
        return -ENOMEM;
    message->priority = priority;
    message->size = size;
    long result = guest_read(message->text, text, size);
    if (!result)
        result = send_locked(queue, message, file->flags & O_NONBLOCK, deadline);
    if (result)
        heap_free(message);
    return result;
}

static long receive_locked(struct mqueue *queue, bool no_wait, uint64_t deadline, struct mq_message **out_message)
{
    int result;
    scoped_lock(&queue->lock);
    if (!queue->count && no_wait)
        return -EAGAIN;
    wait_until(&queue->receivers, &queue->lock, queue->count > 0, deadline, result);
    if (result)
        return result == -EINTR ? -ERESTARTSYS : result;
    *out_message = container_of(list_first(&queue->messages), struct mq_message, node);
    list_remove(&(*out_message)->node);
    queue->count--;
    wait_queue_wake_all(&queue->senders);
    wait_queue_wake(&queue->pollers, POLLOUT | POLLWRNORM, 1 << 30);
    return 0;
}

LX_SYSCALL(mq_timedreceive, int fd, char *text, size_t size, unsigned *out_priority, const int64_t *guest_timeout)
{
    uint64_t deadline;
    int problem = read_deadline(guest_timeout, &deadline);
    if (problem)
        return problem;
    struct open_file *raw;
    if ((problem = get_queue(fd, O_RDONLY, &raw)))
        return problem;
    scoped_file file = raw;
    struct mqueue *queue = file->object;
    if ((int64_t)size < queue->message_size)
        return -EMSGSIZE;
    struct mq_message *message;
    long result = receive_locked(queue, file->flags & O_NONBLOCK, deadline, &message);
    if (result)
        return result;
    result = guest_write(text, message->text, message->size);
    if (!result && out_priority)
        result = guest_write(out_priority, &message->priority, sizeof message->priority);
    if (!result)
        result = (long)message->size;
    heap_free(message);
    return result;
}

LX_SYSCALL(mq_notify, int fd, const struct sigevent *guest_event)
{
    struct { uint64_t value; int32_t signal, kind; char rest[48]; } event; /* struct sigevent */
    int problem;
    if (guest_event) {
        if ((problem = guest_read(&event, guest_event, sizeof event)))
            return problem;
        if (event.kind < 0 || event.kind > 1 || (event.kind == 0 && (event.signal < 0 || event.signal > LX_SIGNAL_COUNT)))
            return -EINVAL; /* SIGEV_THREAD goes through a netlink socket in Linux: refused as unknown */
    }
    struct open_file *raw;
    if ((problem = get_queue(fd, O_RDWR, &raw)))
        return problem;
    scoped_file file = raw;
    struct mqueue *queue = file->object;
    int32_t pid = lx_process()->pid;
    scoped_lock(&queue->lock);
    if (!guest_event) {
        if (queue->notify_pid == pid)
            queue->notify_pid = 0;
        return 0;
    }
    if (queue->notify_pid)
        return -EBUSY;
    queue->notify_pid = pid;
    queue->notify_kind = event.kind;
    queue->notify_signal = event.signal;
    queue->notify_value = event.value;
    queue->notify_file = file;
    return 0;
}

LX_SYSCALL(mq_getsetattr, int fd, const struct mq_attr *guest_new, struct mq_attr *guest_old)
{
    struct mq_attr wanted, old;
    int problem;
    if (guest_new) {
        if ((problem = guest_read(&wanted, guest_new, sizeof wanted)))
            return problem;
        if (wanted.mq_flags & ~(int64_t)O_NONBLOCK)
            return -EINVAL;
    }
    struct open_file *raw;
    if ((problem = get_queue(fd, O_RDWR, &raw)))
        return problem;
    scoped_file file = raw;
    struct mqueue *queue = file->object;
    memset(&old, 0, sizeof old);
    {
        scoped_lock(&queue->lock);
        old.mq_maxmsg = queue->maximum;
        old.mq_msgsize = queue->message_size;
        old.mq_curmsgs = queue->count;
        old.mq_flags = file->flags & O_NONBLOCK;
    }
    if (guest_new) {
        scoped_lock(&file->lock);
        file->flags = (file->flags & ~(uint32_t)O_NONBLOCK) | (uint32_t)wanted.mq_flags;
    }
    return guest_old ? guest_write(guest_old, &old, sizeof old) : 0;
}
