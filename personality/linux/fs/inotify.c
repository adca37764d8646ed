/* inotify: instances, watches and their events.
 *
 * The VFS calls notify_event where names or contents change. A watch belongs to one instance and one inode, which it holds. One lock
 * (inotify_state.lock) guards all watches and queues; inodes without watches never take it. Changes that others make to granted host
 * folders are not seen here: only what happens inside the sandbox is. */
#include "personality/linux/fs/vfs.h"
#include <linux/inotify.h>
#include <linux/poll.h>

enum { QUEUED_EVENTS = 16384, WATCHES = 65536 };

struct inotify_event_node { struct list node; struct inotify_event event; /* name follows, padded */ };
struct inotify {
    struct list watches, events;
    struct wait_queue queue;
    uint32_t event_count, watch_count;
    int32_t next_watch;
    bool overflow_queued;
};
struct watch {
    struct list of_inotify, of_inode; /* of_inode: inode->watches is a heap-allocated list head, there while it has entries */
    struct inotify *inotify;
    struct inode *inode;              /* with a reference */
    int32_t descriptor;
    uint32_t mask;
};
struct inotify_state { struct lock lock; };

static struct inotify_state *state(void) { return lx_kernel->inotify; }

int lx_inotify_init(void)
{
    lx_kernel->inotify = heap_alloc(sizeof(struct inotify_state));
    return lx_kernel->inotify ? 0 : -ENOMEM;
}

/* ---- Events ---- */

static size_t padded(size_t name_size)
{
    size_t unit = sizeof(struct inotify_event);
    return name_size ? (name_size + 1 + unit - 1) / unit * unit : 0;
}

static void queue_event(struct inotify *inotify, int32_t descriptor, uint32_t mask, uint32_t cookie, const char *name, size_t name_size)
{
    bool overflow = inotify->event_count >= QUEUED_EVENTS;
    if (overflow) {
        if (inotify->overflow_queued)
            return;
        descriptor = -1;
        mask = IN_Q_OVERFLOW;
        cookie = 0;
        name_size = 0;
    }
    /* inotify(7): an event equal to the one queued last is merged into it. */
    size_t room = padded(name_size);
    if (!list_empty(&inotify->events) && !overflow) {
        struct inotify_event_node *last = container_of(inotify->events.prev, struct inotify_event_node, node);
        if (last->event.wd == descriptor && last->event.mask == mask && last->event.cookie == cookie && last->event.len == room &&
            (!room || (memcmp(last->event.name, name, name_size) == 0 && last->event.name[name_size] == 0)))
            return;
    }
    struct inotify_event_node *node = heap_alloc(sizeof *node + room);
    if (!node)
        return; /* no memory for the event: as Linux, it is lost */
    node->event.wd = descriptor;
    node->event.mask = mask;
    node->event.cookie = cookie;
    node->event.len = (uint32_t)room;
    if (name_size)
        memcpy(node->event.name, name, name_size);
    list_push(&inotify->events, &node->node);
    inotify->event_count++;
    inotify->overflow_queued |= overflow;
    wait_queue_wake(&inotify->queue, POLLIN | POLLRDNORM, 1 << 30);
}

/* Takes the watch off its lists; the caller drops the inode's reference and frees it without the lock. */
static void detach(struct watch *watch)
{
    queue_event(watch->inotify, watch->descriptor, IN_IGNORED, 0, NULL, 0);
    watch->inotify->watch_count--;
    list_remove(&watch->of_inotify);
    list_remove(&watch->of_inode);
    struct list *watches = watch->inode->watches;
    if (list_empty(watches)) {
        watch->inode->watches = NULL;
        heap_free(watches);
    }
}

static void drop(struct list *gone)
{
    list_for_each_safe(node, after, gone) {
        struct watch *watch = container_of(node, struct watch, of_inotify);
        inode_unref(watch->inode);
        heap_free(watch);
    }
}

static void tell(struct inode *inode, uint32_t mask, uint32_t cookie, const char *name, size_t name_size, bool unlinked, struct list *gone)
{
    struct list *watches = inode->watches;
    if (!watches)
        return;
    list_for_each_safe(node, after, watches) {
        struct watch *watch = container_of(node, struct watch, of_inode);
        uint32_t told = unlinked && (watch->mask & IN_EXCL_UNLINK) ? 0 : mask & (watch->mask | IN_ISDIR | IN_UNMOUNT);
        if (told & (IN_ALL_EVENTS | IN_UNMOUNT))
            queue_event(watch->inotify, watch->descriptor, told, cookie, name, name_size);
        bool over = ((watch->mask & IN_ONESHOT) && (told & IN_ALL_EVENTS)) || (!name && (mask & (IN_DELETE_SELF | IN_UNMOUNT)));
        if (!over)
            continue;
        bool last = after == watches;
        detach(watch);
        list_push(gone, &watch->of_inotify);
        if (last)
            break; /* the list head may be gone with its last entry */
    }
}

/* `inode`'s watchers are told, with `name` when the event is about an entry of that directory. An event about a file itself (no name)
 * also reaches watchers of the directory that `dentry` stands in. */
void notify_event(struct inode *inode, struct dentry *dentry, uint32_t mask, uint32_t cookie, const char *name, size_t name_size)
{
    struct inode *directory = NULL;
    if (!name && dentry && !(mask & (IN_DELETE_SELF | IN_MOVE_SELF)) && dentry->parent != dentry && !(dentry->flags & (DENTRY_ANONYMOUS | DENTRY_UNNAMED)))
        directory = dentry->parent->inode;
    bool self = inode && inode->watches;
    if (!self && !(directory && directory->watches))
        return;
    if (!name && inode && inode_is_directory(inode) && !(mask & (IN_DELETE_SELF | IN_MOVE_SELF)))
        mask |= IN_ISDIR;
    struct list gone;
    list_init(&gone);
    {
        scoped_lock(&state()->lock);
        if (directory)
            tell(directory, mask, cookie, dentry->name, dentry->name_size, dentry->flags & DENTRY_DELETED, &gone);
        if (inode)
            tell(inode, mask, cookie, name, name_size, false, &gone);
    }
    drop(&gone);
}

/* ---- The open file ---- */

static int64_t inotify_read(struct open_file *file, struct io_buffer *to, int64_t *position)
{
    struct inotify *inotify = file->object;
    int64_t total = 0;
    for (;;) {
        struct inotify_event_node *node = NULL;
        {
            int result = 0;
            scoped_lock(&state()->lock);
            if (!total && (file->flags & O_NONBLOCK) && list_empty(&inotify->events))
                return -EAGAIN;
            if (!total)
                wait_until(&inotify->queue, &state()->lock, !list_empty(&inotify->events), BLY_FOREVER, result);
            if (result)
                return result == -EINTR ? -ERESTARTSYS : result;
            struct list *first = list_first(&inotify->events);
            if (!first)
                break;
            node = container_of(first, struct inotify_event_node, node);
            if (sizeof node->event + node->event.len > to->size)
                return total ? total : -EINVAL;
            list_remove(&node->node);
            inotify->event_count--;
            if (node->event.mask & IN_Q_OVERFLOW)
                inotify->overflow_queued = false;
        }
        size_t size = sizeof node->event + node->event.len;
        int64_t copied = io_copy_out(to, &node->event, size);
        heap_free(node);
        if (copied != (int64_t)size)
            return total ? total : -EFAULT;
        total += copied;
    }
    return total;
}

static uint32_t inotify_poll(struct open_file *file, struct poll_table *table)
{
    struct inotify *inotify = file->object;
    poll_wait(table, &inotify->queue);
    scoped_lock(&state()->lock);
    return list_empty(&inotify->events) ? 0 : POLLIN | POLLRDNORM;
}

static long inotify_ioctl(struct open_file *file, unsigned request, uint64_t argument)
{
    enum { FIONREAD_REQUEST = 0x541b };
    if (request != FIONREAD_REQUEST)
        return -ENOTTY;
    struct inotify *inotify = file->object;
    int32_t bytes = 0;
    {
        scoped_lock(&state()->lock);
        list_for_each(node, &inotify->events)
            bytes += (int32_t)(sizeof(struct inotify_event) + container_of(node, struct inotify_event_node, node)->event.len);
    }
    return guest_write((void *)argument, &bytes, sizeof bytes);
}

static void inotify_close(struct open_file *file)
{
    struct inotify *inotify = file->object;
    struct list gone;
    list_init(&gone);
    {
        scoped_lock(&state()->lock);
        while (!list_empty(&inotify->watches)) {
            struct watch *watch = container_of(inotify->watches.next, struct watch, of_inotify);
            detach(watch);
            list_push(&gone, &watch->of_inotify);
        }
    }
    drop(&gone);
    list_for_each_safe(node, after, &inotify->events)
        heap_free(container_of(node, struct inotify_event_node, node));
    heap_free(inotify);
}

static void inotify_describe(struct open_file *file, char *text, size_t size)
{
    struct inotify *inotify = file->object;
    size_t used = 0;
    scoped_lock(&state()->lock);
    list_for_each(node, &inotify->watches) {
        struct watch *watch = container_of(node, struct watch, of_inotify);
        if (used + 96 > size)
            break;
        used += (size_t)format(text + used, size - used, "inotify wd:%x ino:%lx sdev:%lx mask:%x ignored_mask:0\n", (unsigned)watch->descriptor,
                               (unsigned long)watch->inode->number, (unsigned long)watch->inode->superblock->device, watch->mask);
    }
}

static const struct file_ops inotify_ops = {
    .name = "anon_inode:inotify", .read = inotify_read, .poll = inotify_poll, .ioctl = inotify_ioctl, .close = inotify_close,
    .describe = inotify_describe, .positionless = true,
};

LX_SYSCALL(inotify_init1, int flags)
{
    if (flags & ~(IN_CLOEXEC | IN_NONBLOCK))
        return -EINVAL;
    struct inotify *inotify = heap_alloc(sizeof *inotify);
    if (!inotify)
        return -ENOMEM;
    list_init(&inotify->watches);
    list_init(&inotify->events);
    wait_queue_init(&inotify->queue);
    inotify->next_watch = 1;
    struct open_file *file = file_create_anonymous(&inotify_ops, inotify, 0600, O_RDONLY | (flags & IN_NONBLOCK ? O_NONBLOCK : 0));
    if (!file) {
        heap_free(inotify);
        return -ENOMEM;
    }
    file->poll_queue = &inotify->queue;
    int fd = fd_install(file, 0, flags & IN_CLOEXEC);
    if (fd < 0)
        file_unref(file);
    return fd;
}

LX_SYSCALL(inotify_init, void) { return lx_sys_inotify_init1(0); }

static int get_inotify(int fd, struct open_file **out_file)
{
    struct open_file *file = fd_get(fd);
    if (!file)
        return -EBADF;
    if (file->ops != &inotify_ops) {
        file_unref(file);
        return -EINVAL;
    }
    *out_file = file;
    return 0;
}

static long add_watch(struct inotify *inotify, struct inode *inode, uint32_t mask)
{
    struct watch *fresh = heap_alloc(sizeof *fresh);
    struct list *head = heap_alloc(sizeof *head);
    long result = -ENOMEM;
    if (!fresh || !head)
        goto out;
    {
        scoped_lock(&state()->lock);
        list_for_each(node, &inotify->watches) {
            struct watch *watch = container_of(node, struct watch, of_inotify);
            if (watch->inode != inode)
                continue;
            result = mask & IN_MASK_CREATE ? -EEXIST : watch->descriptor;
            if (result >= 0)
                watch->mask = (mask & IN_MASK_ADD ? watch->mask : 0) | (mask & (IN_ALL_EVENTS | IN_ONESHOT | IN_EXCL_UNLINK));
            goto out;
        }
        result = -ENOSPC;
        if (inotify->watch_count >= WATCHES)
            goto out;
        fresh->inotify = inotify;
        fresh->inode = inode_ref(inode);
        fresh->mask = mask & (IN_ALL_EVENTS | IN_ONESHOT | IN_EXCL_UNLINK);
        result = fresh->descriptor = inotify->next_watch++;
        inotify->watch_count++;
        list_push(&inotify->watches, &fresh->of_inotify);
        if (!inode->watches) {
            inode->watches = head;
            list_init(head);
            head = NULL;
        }
        list_push(inode->watches, &fresh->of_inode);
        fresh = NULL;
    }
out:
    heap_free(head);
    heap_free(fresh);
    return result;
}

LX_SYSCALL(inotify_add_watch, int fd, const char *path, uint32_t mask)
{
    if (!(mask & (IN_ALL_EVENTS | IN_ONESHOT | IN_DONT_FOLLOW | IN_ONLYDIR | IN_EXCL_UNLINK)) || ((mask & IN_MASK_ADD) && (mask & IN_MASK_CREATE)))
        return -EINVAL;
    struct open_file *raw;
    int problem = get_inotify(fd, &raw);
    if (problem)
        return problem;
    scoped_file file = raw;
    struct dentry *found;
    unsigned flags = (mask & IN_DONT_FOLLOW ? 0 : LOOKUP_FOLLOW) | (mask & IN_ONLYDIR ? LOOKUP_DIRECTORY : 0);
    if ((problem = vfs_lookup_at(AT_FDCWD, path, flags, &found)))
        return problem;
    scoped_dentry dentry = found;
    if ((problem = inode_permission(dentry->inode, MAY_READ)))
        return problem;
    return add_watch(file->object, dentry->inode, mask);
}

LX_SYSCALL(inotify_rm_watch, int fd, int descriptor)
{
    struct open_file *raw;
    int problem = get_inotify(fd, &raw);
    if (problem)
        return problem;
    scoped_file file = raw;
    struct inotify *inotify = file->object;
    struct list gone;
    list_init(&gone);
    {
        scoped_lock(&state()->lock);
        list_for_each_safe(node, after, &inotify->watches) {
            struct watch *watch = container_of(node, struct watch, of_inotify);
            if (watch->descriptor != descriptor)
                continue;
            detach(watch);
            list_push(&gone, &watch->of_inotify);
        }
    }
    if (list_empty(&gone))
        return -EINVAL;
    drop(&gone);
    return 0;
}
