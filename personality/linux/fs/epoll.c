/* epoll: a set of watched files and a list of those that may be ready.
 *
 * An item has waiters on the queues of its file; their wake function puts it on the ready list, and epoll_wait asks the file
 * itself before it reports anything. Items hold no reference to their file: the file's last close takes them out
 * (epoll_file_closed), which blocks on the set's mutex, so that a file in a set is alive while the mutex is held.
 * Host streams have no queue: items of theirs are asked at each wait, and waited for on the host.
 *
 * Lock order: roots.nesting (adding one set to another), epoll.mutex (outer set before inner), roots.links; then queue locks, and
 * under them epoll.ready_lock, which is innermost but for the queue of the set itself. */
#include "libos/tree.h"
#include "personality/linux/fs/poll.h"
#include "personality/linux/fs/vfs.h"
#include "personality/linux/process/process.h"
#include <linux/eventpoll.h>

#define EVENT_BITS (EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLNVAL | EPOLLRDNORM | \
                    EPOLLRDBAND | EPOLLWRNORM | EPOLLWRBAND | EPOLLMSG | EPOLLRDHUP)
#define EXCLUSIVE_OK (EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE)
enum { NESTING_MAX = 3, ITEM_STREAMS = 3 };

struct epoll_roots {
    struct mutex nesting; /* held while one set is put into another: the check for loops needs a quiet graph */
    struct lock links;    /* guards open_file.epoll_items and its lists */
};

struct epoll {
    _Atomic uint32_t references;
    struct mutex mutex;      /* guards items, streams, and every item's event and waiters */
    struct tree items;       /* by (file, fd) */
    struct list streams;     /* items that wait on host streams */
    struct lock ready_lock;  /* guards ready */
    struct list ready;       /* items that may have something to report */
    struct wait_queue queue; /* epoll_wait, and who polls the set */
};

struct item_waiter {
    struct waiter waiter;
    struct item_waiter *next;
};

struct epoll_item {
    struct tree_node node;
    struct epoll *epoll;
    struct open_file *file;
    int fd;
    struct epoll_event event;
    struct list ready_node;  /* epoll.ready; alone when not there */
    struct list file_node;   /* open_file.epoll_items */
    struct list stream_node; /* epoll.streams */
    struct item_waiter *waiters, first_waiter;
    uint32_t stream_count;
    struct { bly_handle handle; uint32_t events; } streams[ITEM_STREAMS];
    /* Edge-triggered host streams: reported, and not touched by the program since. */
    _Atomic uint32_t quiet;
};

/* What an item's file is given to register with. */
struct item_table {
    struct poll_table table;
    struct epoll_item *item;
    int error;
};

int lx_epoll_init(void);
int lx_epoll_init(void)
{
    lx_kernel->epoll = heap_alloc(sizeof(struct epoll_roots));
    return lx_kernel->epoll ? 0 : -ENOMEM;
}

static struct epoll_roots *roots(void) { return lx_kernel->epoll; }

static const struct file_ops epoll_ops;

static struct epoll *epoll_of(const struct open_file *file)
{
    return file->ops == &epoll_ops ? file->object : NULL;
}

static void epoll_unref(struct epoll *epoll)
{
    if (--epoll->references == 0)
        heap_free(epoll);
}

/* ---- The ready list ---- */

static bool make_ready(struct epoll_item *item)
{
    struct epoll *epoll = item->epoll;
    bool added;

    lock_acquire(&epoll->ready_lock);
    added = list_empty(&item->ready_node);
    if (added)
        list_push(&epoll->ready, &item->ready_node);
    lock_release(&epoll->ready_lock);
    return added;
}

static void make_unready(struct epoll_item *item)
{
    lock_acquire(&item->epoll->ready_lock);
    list_remove(&item->ready_node);
    lock_release(&item->epoll->ready_lock);
}

/* Called with the lock of the file's queue held. An exclusive item counts as woken only if somebody waits for its set: another one
 * gets the event otherwise. */
static bool item_wake(struct waiter *waiter, uint32_t events)
{
    struct epoll_item *item = waiter->owner;

    if (!(item->event.events & EVENT_BITS))
        return false; /* EPOLLONESHOT has fired */
    item->quiet = 0;
    make_ready(item);
    bool awaited = !list_empty(&item->epoll->queue.waiters);
    wait_queue_wake(&item->epoll->queue, EPOLLIN | EPOLLRDNORM, 1);
    return awaited;
}

static uint32_t item_events(struct epoll_item *item)
{
    uint32_t wanted = item->event.events & EVENT_BITS;

    return wanted ? file_poll(item->file, NULL) & (wanted | EPOLLERR | EPOLLHUP) : 0;
}

/* ---- Items ---- */

static void table_wait(struct poll_table *table, struct wait_queue *queue)
{
    struct item_table *registration = (struct item_table *)table;
    struct epoll_item *item = registration->item;
    struct item_waiter *entry = item->waiters ? heap_alloc(sizeof *entry) : &item->first_waiter;

    if (!entry) {
        registration->error = -ENOMEM;
        return;
    }
    entry->next = item->waiters;
    item->waiters = entry;
    entry->waiter.wake = item_wake;
    entry->waiter.owner = item;
    entry->waiter.events = table->events;
    entry->waiter.exclusive = (item->event.events & EPOLLEXCLUSIVE) != 0;
    wait_queue_add(queue, &entry->waiter);
}

static void table_wait_stream(struct poll_table *table, bly_handle stream, uint32_t events)
{
    struct epoll_item *item = ((struct item_table *)table)->item;

    if (item->stream_count == ITEM_STREAMS)
        return;
    item->streams[item->stream_count].handle = stream;
    item->streams[item->stream_count++].events = events;
}

static int compare_items(const struct tree_node *a, const struct tree_node *b)
{
    const struct epoll_item *one = container_of(a, const struct epoll_item, node);
    const struct epoll_item *other = container_of(b, const struct epoll_item, node);

    if (one->file != other->file)
        return one->file < other->file ? -1 : 1;
    return one->fd < other->fd ? -1 : one->fd > other->fd;
}

static struct epoll_item *find_item(struct epoll *epoll, struct open_file *file, int fd)
{
    struct epoll_item key = { .file = file, .fd = fd };
    struct tree_node *node = tree_lower_bound(&epoll->items, &key.node, compare_items);

    return node && compare_items(node, &key.node) == 0 ? container_of(node, struct epoll_item, node) : NULL;
}

static void remove_item(struct epoll_item *item)
{
    assert(mutex_held(&item->epoll->mutex));
    for (struct item_waiter *entry = item->waiters, *next; entry; entry = next) {
        next = entry->next;
        wait_queue_remove(&entry->waiter);
        if (entry != &item->first_waiter)
            heap_free(entry);
    }
    make_unready(item);
    tree_remove(&item->epoll->items, &item->node);
    list_remove(&item->stream_node);
    lock_acquire(&roots()->links);
    list_remove(&item->file_node);
    lock_release(&roots()->links);
    heap_free(item);
}

static int link_to_file(struct epoll_item *item)
{
    struct open_file *file = item->file;
    struct list *head = heap_alloc(sizeof *head);

    if (!head)
        return -ENOMEM;
    list_init(head);
    lock_acquire(&roots()->links);
    if (!file->epoll_items) {
        file->epoll_items = head;
        head = NULL;
    }
    list_push(file->epoll_items, &item->file_node);
    lock_release(&roots()->links);
    heap_free(head);
    return 0;
}

static int add_item(struct epoll *epoll, struct open_file *file, int fd, const struct epoll_event *event)
{
    struct epoll_item *item = heap_alloc(sizeof *item);
    struct item_table registration = {
        { table_wait, table_wait_stream, poll_interest(event->events & EVENT_BITS), /*lasting=*/true }, item, 0
    };

    if (!item)
        return -ENOMEM;
    item->epoll = epoll;
    item->file = file;
    item->fd = fd;
    item->event = *event;
    list_init(&item->ready_node);
    list_init(&item->file_node);
    list_init(&item->stream_node);
    if (link_to_file(item) < 0) {
        heap_free(item);
        return -ENOMEM;
    }
    tree_insert(&epoll->items, &item->node, compare_items);
    uint32_t ready = file_poll(file, &registration.table) & (event->events | EPOLLERR | EPOLLHUP);
    if (registration.error < 0) {
        remove_item(item);
        return registration.error;
    }
    if (item->stream_count)
        list_push(&epoll->streams, &item->stream_node);
    if (ready & EVENT_BITS)
        item_wake(&(struct waiter){ .owner = item }, ready);
    else if (item->stream_count)
        wait_queue_wake(&epoll->queue, EPOLLIN, 1); /* a sleeper must take the new stream into its wait */
    return 0;
}

static int modify_item(struct epoll_item *item, const struct epoll_event *event)
{
    if (item->event.events & EPOLLEXCLUSIVE)
        return -EINVAL;
    item->event = *event;
    item->quiet = 0;
    for (struct item_waiter *entry = item->waiters; entry; entry = entry->next)
        entry->waiter.events = poll_interest(event->events & EVENT_BITS);
    /* The new interest must be seen by a waker before the file is asked: it may change in between. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    uint32_t ready = item_events(item);
    if (ready)
        item_wake(&(struct waiter){ .owner = item }, ready);
    else if (item->stream_count)
        wait_queue_wake(&item->epoll->queue, EPOLLIN, 1);
    return 0;
}

/* A set that the last close of a watched file must look through, with a reference; NULL: none is left. */
static struct epoll *next_watcher(struct open_file *file)
{
    struct epoll *epoll = NULL;

    scoped_lock(&roots()->links);
    if (!list_empty(file->epoll_items)) {
        epoll = container_of(file->epoll_items->next, struct epoll_item, file_node)->epoll;
        epoll->references++;
    }
    return epoll;
}

void epoll_file_closed(struct open_file *file)
{
    struct epoll *epoll;

    while ((epoll = next_watcher(file))) {
        mutex_acquire(&epoll->mutex);
        struct epoll_item key = { .file = file, .fd = INT32_MIN };
        struct tree_node *node = tree_lower_bound(&epoll->items, &key.node, compare_items), *next;
        for (; node; node = next) {
            struct epoll_item *item = container_of(node, struct epoll_item, node);
            next = tree_next(node);
            if (item->file != file)
                break;
            remove_item(item);
        }
        mutex_release(&epoll->mutex);
        epoll_unref(epoll);
    }
    heap_free(file->epoll_items);
    file->epoll_items = NULL;
}

/* ---- The set as a file ---- */

static void epoll_close(struct open_file *file)
{
    struct epoll *epoll = file->object;
    struct tree_node *node;

    mutex_acquire(&epoll->mutex);
    while ((node = tree_first(&epoll->items)))
        remove_item(container_of(node, struct epoll_item, node));
    mutex_release(&epoll->mutex);
    epoll_unref(epoll);
}

/* Host streams tell nobody: before a look every one that may be reported counts as possibly ready. */
static void refresh_streams(struct epoll *epoll)
{
    list_for_each(node, &epoll->streams) {
        struct epoll_item *item = container_of(node, struct epoll_item, stream_node);
        if (!item->quiet)
            make_ready(item);
    }
}

/* Moves all of `from` to the end of `to`. ready_lock is held. */
static void splice(struct list *from, struct list *to)
{
    while (!list_empty(from)) {
        struct list *node = from->next;
        list_remove(node);
        list_push(to, node);
    }
}

static struct epoll_item *take_ready(struct epoll *epoll, struct list *list)
{
    scoped_lock(&epoll->ready_lock);
    struct list *node = list_first(list);
    if (node)
        list_remove(node);
    return node ? container_of(node, struct epoll_item, ready_node) : NULL;
}

/* Readable when an epoll_wait would report something (epoll(7), question 3). */
static uint32_t epoll_poll(struct open_file *file, struct poll_table *table)
{
    struct epoll *epoll = file->object;
    uint32_t events = 0;
    struct epoll_item *item;

    poll_wait(table, &epoll->queue);
    scoped_mutex(&epoll->mutex);
    list_for_each(node, &epoll->streams) {
        item = container_of(node, struct epoll_item, stream_node);
        for (uint32_t i = 0; i < item->stream_count; i++)
            if (table && !item->quiet)
                table->wait_stream(table, item->streams[i].handle, item->streams[i].events);
    }
    refresh_streams(epoll);
    while (!events && (item = take_ready(epoll, &epoll->ready))) {
        if (item_events(item)) {
            make_ready(item);
            events = EPOLLIN | EPOLLRDNORM;
        }
    }
    return events;
}

static void epoll_describe(struct open_file *file, char *text, size_t size)
{
    struct epoll *epoll = file->object;
    size_t used = 0;

    scoped_mutex(&epoll->mutex);
    for (struct tree_node *node = tree_first(&epoll->items); node && used < size; node = tree_next(node)) {
        struct epoll_item *item = container_of(node, struct epoll_item, node);
        int length = format(text + used, size - used, "tfd: %8d events: %8x data: %16llx\n", item->fd,
                            item->event.events, (unsigned long long)item->event.data);
        used += (size_t)length;
    }
}

static const struct file_ops epoll_ops = {
    .name = "anon_inode:[eventpoll]",
    .poll = epoll_poll,
    .close = epoll_close,
    .describe = epoll_describe,
    .seek = event_seek,
    .positionless = true,
};

/* ---- epoll_create, epoll_ctl ---- */

LX_SYSCALL(epoll_create1, int flags)
{
    if (flags & ~EPOLL_CLOEXEC)
        return -EINVAL;
    struct epoll *epoll = heap_alloc(sizeof *epoll);
    if (!epoll)
        return -ENOMEM;
    epoll->references = 1;
    mutex_init(&epoll->mutex);
    list_init(&epoll->streams);
    list_init(&epoll->ready);
    wait_queue_init(&epoll->queue);
    struct open_file *file = file_create_anonymous(&epoll_ops, epoll, 0600, O_RDWR);
    if (!file) {
        heap_free(epoll);
        return -ENOMEM;
    }
    file->poll_queue = &epoll->queue;
    int fd = fd_install(file, 0, flags & EPOLL_CLOEXEC);
    if (fd < 0)
        file_unref(file);
    return fd;
}

LX_SYSCALL(epoll_create, int size)
{
    return size <= 0 ? -EINVAL : lx_sys_epoll_create1(0);
}

/* Whether `target` can be reached from `from`, or the chain is too long. */
static int check_nesting(struct epoll *from, const struct epoll *target, int depth)
{
    int result = 0;

    if (from == target || depth > NESTING_MAX)
        return -ELOOP;
    mutex_acquire(&from->mutex);
    for (struct tree_node *node = tree_first(&from->items); node && result == 0; node = tree_next(node)) {
        struct epoll *inner = epoll_of(container_of(node, struct epoll_item, node)->file);
        if (inner)
            result = check_nesting(inner, target, depth + 1);
    }
    mutex_release(&from->mutex);
    return result;
}

static int control(struct epoll *epoll, int operation, struct open_file *file, int fd, struct epoll_event *event)
{
    scoped_mutex(&epoll->mutex);
    struct epoll_item *item = find_item(epoll, file, fd);

    switch (operation) {
    case EPOLL_CTL_ADD:
        return item ? -EEXIST : add_item(epoll, file, fd, event);
    case EPOLL_CTL_DEL:
        if (!item)
            return -ENOENT;
        remove_item(item);
        return 0;
    case EPOLL_CTL_MOD:
        return item ? modify_item(item, event) : -ENOENT;
    default:
        return -EINVAL;
    }
}

LX_SYSCALL(epoll_ctl, int epoll_fd, int operation, int fd, struct epoll_event *guest_event)
{
    struct epoll_event event = { 0 };

    if (operation != EPOLL_CTL_DEL && guest_read(&event, guest_event, sizeof event) < 0)
        return -EFAULT;
    scoped_file epoll_file = fd_get(epoll_fd);
    scoped_file file = epoll_file ? fd_get(fd) : NULL;
    if (!epoll_file || !file || (file->flags & O_PATH))
        return -EBADF;
    if (!file->ops->poll)
        return -EPERM;
    struct epoll *epoll = epoll_of(epoll_file), *inner = epoll_of(file);
    if (!epoll || epoll == inner)
        return -EINVAL;
    if (operation != EPOLL_CTL_DEL && event.events & EPOLLEXCLUSIVE &&
        (operation == EPOLL_CTL_MOD || inner || event.events & ~EXCLUSIVE_OK))
        return -EINVAL;
    if (operation == EPOLL_CTL_ADD && inner) {
        scoped_mutex(&roots()->nesting);
        int result = check_nesting(inner, epoll, 0);
        return result < 0 ? result : control(epoll, operation, file, fd, &event);
    }
    return control(epoll, operation, file, fd, &event);
}

/* ---- epoll_wait ---- */

/* Reports at most `count` events; -EFAULT only when none could be written. */
static int collect(struct epoll *epoll, struct epoll_event *guest, int count)
{
    struct list todo, again; /* items stay on a list meanwhile, so that a wake-up cannot report them twice in one call */
    struct epoll_item *item;
    int reported = 0;

    list_init(&todo);
    list_init(&again);
    scoped_mutex(&epoll->mutex);
    refresh_streams(epoll);
    lock_acquire(&epoll->ready_lock);
    splice(&epoll->ready, &todo);
    lock_release(&epoll->ready_lock);
    while (reported < count && (item = take_ready(epoll, &todo))) {
        uint32_t ready = item_events(item);
        if (!ready)
            continue;
        struct epoll_event event = { ready, item->event.data };
        if (guest_write(&guest[reported], &event, sizeof event) < 0) {
            make_ready(item);
            reported = reported ? reported : -EFAULT;
            break;
        }
        reported++;
        if (item->event.events & EPOLLONESHOT)
            item->event.events &= ~(uint32_t)EVENT_BITS;
        else if (item->event.events & EPOLLET)
            item->quiet = item->stream_count != 0;
        else { /* level-triggered: looked at again by the next wait, after all the others had their turn */
            lock_acquire(&epoll->ready_lock);
            if (list_empty(&item->ready_node))
                list_push(&again, &item->ready_node);
            lock_release(&epoll->ready_lock);
        }
    }
    lock_acquire(&epoll->ready_lock);
    splice(&epoll->ready, &todo); /* what was not come to goes first */
    splice(&again, &todo);
    splice(&todo, &epoll->ready);
    bool more = !list_empty(&epoll->ready);
    lock_release(&epoll->ready_lock);
    if (reported > 0 && more)
        wait_queue_wake(&epoll->queue, EPOLLIN | EPOLLRDNORM, 1);
    return reported;
}

static void add_streams(struct epoll *epoll, struct poll_sleeper *sleeper)
{
    if (list_empty(&epoll->streams))
        return;
    poll_sleeper_drop_streams(sleeper);
    scoped_mutex(&epoll->mutex);
    list_for_each(node, &epoll->streams) {
        struct epoll_item *item = container_of(node, struct epoll_item, stream_node);
        if (item->quiet || !(item->event.events & EVENT_BITS))
            continue;
        uint32_t wanted = item->event.events | EPOLLERR | EPOLLHUP;
        for (uint32_t i = 0; i < item->stream_count; i++)
            poll_sleeper_add_stream(sleeper, item->streams[i].handle, item->streams[i].events & wanted);
    }
}

static int epoll_run(struct epoll *epoll, struct epoll_event *guest, int count, uint64_t deadline_ns)
{
    struct poll_sleeper *sleeper;
    int reported = collect(epoll, guest, count), result;

    if (reported || deadline_ns == 0)
        return reported;
    if (!(sleeper = poll_sleeper_create()))
        return -ENOMEM;
    for (bool registered = false;; registered = true) {
        uint32_t ticket = thread_ticket();
        if (!registered)
            poll_sleeper_add_queue(sleeper, &epoll->queue, 0, /*exclusive=*/true);
        reported = collect(epoll, guest, count);
        if (reported)
            break;
        add_streams(epoll, sleeper);
        result = poll_sleeper_sleep(sleeper, ticket, deadline_ns);
        if (result < 0) {
            reported = collect(epoll, guest, count);
            if (!reported)
                reported = result == -ETIMEDOUT ? 0 : result;
            break;
        }
    }
    poll_sleeper_free(sleeper);
    /* The wake-up meant for us may have come while we were leaving for another reason. */
    if (reported <= 0 && !list_empty(&epoll->ready))
        wait_queue_wake(&epoll->queue, EPOLLIN | EPOLLRDNORM, 1);
    return reported;
}

static long epoll_restart(struct lx_thread *thread);

static long do_epoll_wait(int fd, struct epoll_event *events, int count, uint64_t deadline_ns)
{
    if (count <= 0 || count > INT32_MAX / (int)sizeof *events)
        return -EINVAL;
    if (!guest_range_valid(events, (size_t)count * sizeof *events))
        return -EFAULT;
    scoped_file file = fd_get(fd);
    if (!file)
        return -EBADF;
    if (!epoll_of(file))
        return -EINVAL;
    return epoll_run(epoll_of(file), events, count, deadline_ns);
}

/* Linux ends the wait with EINTR after any handler; after a stop, or a wake-up for other work, it goes on with the time left. */
static long wait_restartable(int fd, struct epoll_event *events, int count, uint64_t deadline_ns, const lx_sigset *mask)
{
    if (mask)
        signal_set_temporary_mask(*mask);
    long result = do_epoll_wait(fd, events, count, deadline_ns);
    if (result != -EINTR) {
        if (mask)
            signal_restore_mask();
        return result;
    }
    struct lx_thread *thread = lx_current();
    thread->restart.function = epoll_restart;
    thread->restart.argument[0] = (uint64_t)fd;
    thread->restart.argument[1] = (uint64_t)events;
    thread->restart.argument[2] = (uint64_t)count;
    thread->restart.argument[3] = deadline_ns;
    thread->restart.argument[4] = mask != NULL;
    thread->restart.argument[5] = mask ? *mask : 0;
    return -ERESTART_RESTARTBLOCK;
}

static long epoll_restart(struct lx_thread *thread)
{
    uint64_t *argument = thread->restart.argument;
    lx_sigset mask = argument[5];

    return wait_restartable((int)argument[0], (struct epoll_event *)argument[1], (int)argument[2], argument[3],
                            argument[4] ? &mask : NULL);
}

static uint64_t deadline_of_ms(int timeout_ms)
{
    return timeout_ms < 0 ? BLY_FOREVER : timeout_ms == 0 ? 0 : poll_deadline((uint64_t)timeout_ms * 1000000);
}

LX_SYSCALL(epoll_wait, int fd, struct epoll_event *events, int count, int timeout_ms)
{
    return wait_restartable(fd, events, count, deadline_of_ms(timeout_ms), NULL);
}

static long wait_masked(int fd, struct epoll_event *events, int count, uint64_t deadline_ns, const lx_sigset *guest_mask,
                        size_t mask_size)
{
    lx_sigset mask;

    if (guest_mask && mask_size != sizeof mask)
        return -EINVAL;
    if (guest_mask && guest_read(&mask, guest_mask, sizeof mask) < 0)
        return -EFAULT;
    return wait_restartable(fd, events, count, deadline_ns, guest_mask ? &mask : NULL);
}

LX_SYSCALL(epoll_pwait, int fd, struct epoll_event *events, int count, int timeout_ms, const lx_sigset *mask, size_t mask_size)
{
    return wait_masked(fd, events, count, deadline_of_ms(timeout_ms), mask, mask_size);
}

LX_SYSCALL(epoll_pwait2, int fd, struct epoll_event *events, int count, const void *timeout, const lx_sigset *mask,
           size_t mask_size)
{
    uint64_t duration = BLY_FOREVER;
    int result = timeout ? poll_read_timespec(timeout, &duration) : 0;

    if (result < 0)
        return result;
    return wait_masked(fd, events, count, duration ? poll_deadline(duration) : 0, mask, mask_size);
}
