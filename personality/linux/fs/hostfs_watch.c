/* What of live host folders may be answered without asking the host.
 *
 * A folder in which names are looked up again and again is watched: the host's kernel queues an event for each change among its names and in the
 * files that they stand for, before the call that makes the change returns. The queue is looked at before anything is believed, so that
 * what a process of the host had changed before is never seen as it was (but for what is written through memory
 * maps or another hard link, see hostfs_is_current). An event raises the folder's stamp; what was seen at an earlier one is asked for anew. */
#include "personality/linux/fs/hostfs.h"
#include "libos/abi.h"

enum {
    LOOKUPS_UNTIL_WATCHED = 2,
    KEPT_MAX = 64, /* streams open for nobody */
    EVENT_BYTES = 2048,
};

struct event { /* struct inotify_event */
    int32_t watch;
    uint32_t mask, cookie, name_size;
    char name[];
};
#define EVENT_MODIFY 0x2u
#define EVENT_ATTRIBUTES 0x4u
#define EVENT_OVERFLOW 0x4000u
#define EVENT_IGNORED 0x8000u

struct host_watch {
    struct mutex mutex;        /* guards reading of events, and all below */
    struct host_node **nodes;  /* by number of the watch; host_node.watch_next: a folder may have been granted twice */
    uint32_t size;
    _Atomic uint32_t count;    /* nodes watched */
    struct list kept;          /* of struct host_open: longest unused first */
    uint32_t kept_count;
    _Atomic uint32_t renamed_count; /* folders that were found by another name than before */
};

static struct host_watch *state(void) { return lx_kernel->host_watch; }

int lx_host_watch_init(void)
{
    struct host_watch *watch = heap_alloc(sizeof *watch);
    if (!watch)
        return -ENOMEM;
    mutex_init(&watch->mutex);
    list_init(&watch->kept);
    lx_kernel->host_watch = watch;
    return 0;
}

/* ---- Events ---- */

static void unkeep(struct host_open *open, struct list *dropped)
{
    list_remove(&open->kept);
    state()->kept_count--;
    list_push(dropped, &open->kept);
}

static void changed(struct host_node *node, uint32_t mask, struct list *dropped)
{
    if (!(mask & ~(EVENT_MODIFY | EVENT_ATTRIBUTES))) {
        __atomic_add_fetch(&node->stamp.contents, 1, __ATOMIC_RELEASE);
        return;
    }
    __atomic_add_fetch(&node->stamp.names, 1, __ATOMIC_RELEASE);
    list_for_each_safe(link, after, &state()->kept) {
        struct host_open *open = container_of(link, struct host_open, kept);
        if (host_node(open->inode)->parent == node->inode)
            unkeep(open, dropped);
    }
}

static void apply(const struct event *event, struct list *dropped)
{
    struct host_watch *watch = state();
    bool all = event->mask & EVENT_OVERFLOW;
    for (uint32_t i = all ? 0 : (uint32_t)event->watch; i < watch->size && (all || i == (uint32_t)event->watch); i++) {
        for (struct host_node *node = watch->nodes[i], *next; node; node = next) {
            next = node->watch_next;
            changed(node, event->mask, dropped);
            if (event->mask & EVENT_IGNORED) { /* the folder is gone: the number is nobody's */
                watch->nodes[i] = next;
                watch->count--;
                node->watch = 0;
            }
        }
    }
}

static bool read_events(struct list *dropped)
{
    for (;;) {
        _Alignas(struct event) unsigned char buffer[EVENT_BYTES];
        struct bly_iovec part = {buffer, sizeof(buffer)};
        int64_t size = bly->stream_read(start_info->watch, &part, 1, BLY_AT_CURRENT, 0);
        if (size <= 0)
            return size == -EAGAIN;
        for (int64_t at = 0; at + (int64_t)sizeof(struct event) <= size;) {
            const struct event *event = (const void *)(buffer + at);
            apply(event, dropped);
            at += (int64_t)sizeof(*event) + event->name_size;
        }
    }
}

static void drop(struct list *dropped)
{
    list_for_each_safe(link, after, dropped) {
        struct host_open *open = container_of(link, struct host_open, kept);
        list_remove(link);
        host_open_unref(open);
    }
}

bool hostfs_watch_poll(void)
{
    struct host_watch *watch = state();
    struct list dropped;
    if (!watch->count)
        return false;
    list_init(&dropped);
    mutex_acquire(&watch->mutex);
    bool told = read_events(&dropped);
    mutex_release(&watch->mutex);
    drop(&dropped);
    return told;
}

void hostfs_forget_watches(void)
{
    const struct event all = {.mask = EVENT_OVERFLOW | EVENT_IGNORED};
    struct list dropped;
    list_init(&dropped);
    apply(&all, &dropped);
    drop(&dropped);
}

/* ---- Folders ---- */

static bool make_room(uint32_t number)
{
    struct host_watch *watch = state();
    if (number < watch->size)
        return true;
    uint32_t size = watch->size ? watch->size : 64;
    while (size <= number)
        size *= 2;
    struct host_node **nodes = heap_realloc(watch->nodes, watch->size * sizeof(*nodes), size * sizeof(*nodes));
    if (!nodes)
        return false;
    watch->nodes = nodes;
    watch->size = size;
    return true;
}

static void watch_folder(struct inode *directory)
{
    struct host_watch *watch = state();
    struct host_node *node = host_node(directory);
    struct bly_walk_result result;
    char uri[HOSTFS_URI_MAX];
    int size = hostfs_uri(directory, NULL, 0, uri, sizeof(uri));
    if (size < 0 || node->watch)
        return;
    int error = bly->stream_walk(uri, (size_t)size, BLY_WALK_WATCH, &result);
    if (error < 0 || result.attributes.inode != node->host_inode || result.attributes.device != node->host_device) {
        if (error == -EOPNOTSUPP)
            node->watch = -1;
        return;
    }
    scoped_mutex(&watch->mutex);
    if (node->watch || result.watch <= 0 || !make_room((uint32_t)result.watch))
        return;
    watch->count++;
    node->watch_next = watch->nodes[result.watch];
    watch->nodes[result.watch] = node;
    node->watch = result.watch;
    __atomic_add_fetch(&node->stamp.names, 1, __ATOMIC_RELEASE);
}

struct host_stamp hostfs_watch_stamp(struct inode *directory)
{
    struct host_node *node = host_node(directory);
    const struct host_stamp unwatched = {0, 0};
    if (start_info->watch == BLY_NO_HANDLE || node->watch < 0)
        return unwatched;
    if (!node->watch) {
        if (++node->lookup_count < LOOKUPS_UNTIL_WATCHED)
            return unwatched;
        watch_folder(directory);
    }
    return node->watch > 0 && hostfs_watch_poll() ? host_stamp_of(directory) : unwatched;
}

/* ---- Names that are not there ---- */

/* The host is asked by path. Where a folder above has been renamed behind our back, the answer is about another place: it holds until we come to
 * know that name, which no event of this folder tells. */
static uint64_t absence_of(struct host_stamp stamp)
{
    return stamp.names ? (uint64_t)state()->renamed_count << 32 | (uint32_t)stamp.names : 0;
}

void hostfs_looking(struct inode *directory, struct host_stamp stamp)
{
    host_node(directory)->looked = absence_of(stamp);
}

uint64_t hostfs_absence(struct inode *directory)
{
    return host_node(directory)->looked;
}

bool hostfs_is_absent(struct inode *directory, uint64_t absence)
{
    return absence && absence == absence_of(host_stamp_of(directory));
}

void hostfs_folder_renamed(void)
{
    state()->renamed_count++;
}

void hostfs_watch_forget(struct host_node *node)
{
    struct host_watch *watch = state();
    if (node->watch <= 0)
        return;
    scoped_mutex(&watch->mutex);
    if (node->watch <= 0)
        return; /* the host's folder has gone meanwhile */
    struct host_node **link = &watch->nodes[node->watch];
    while (*link != node)
        link = &(*link)->watch_next;
    *link = node->watch_next;
    watch->count--;
}

/* ---- Streams kept open ---- */

void hostfs_keep_open(struct host_open *open)
{
    struct host_watch *watch = state();
    struct list dropped;
    if (open->access != BLY_ACCESS_READ || !S_ISREG(open->inode->mode))
        return; /* an open file that may be written cannot be executed: that would be seen on the host */
    list_init(&dropped);
    mutex_acquire(&watch->mutex);
    if (list_empty(&open->kept)) {
        open->references++;
        watch->kept_count++;
        list_push(&watch->kept, &open->kept);
        if (watch->kept_count > KEPT_MAX)
            unkeep(container_of(list_first(&watch->kept), struct host_open, kept), &dropped);
    }
    mutex_release(&watch->mutex);
    drop(&dropped);
}

void hostfs_close_kept(void)
{
    struct host_watch *watch = state();
    struct list dropped;
    list_init(&dropped);
    mutex_acquire(&watch->mutex);
    list_for_each_safe(link, after, &watch->kept)
        unkeep(container_of(link, struct host_open, kept), &dropped);
    mutex_release(&watch->mutex);
    drop(&dropped);
}

struct host_open *hostfs_kept_open(struct inode *directory, const char *name, size_t size)
{
    struct host_watch *watch = state();
    if (host_node(directory)->watch <= 0 || !hostfs_watch_poll())
        return NULL;
    scoped_mutex(&watch->mutex);
    list_for_each(link, &watch->kept) {
        struct host_open *open = container_of(link, struct host_open, kept);
        if (host_node(open->inode)->parent != directory || !hostfs_is_named(directory, name, size, open->inode))
            continue;
        open->references++;
        list_remove(&open->kept);
        list_push(&watch->kept, &open->kept);
        return open;
    }
    return NULL;
}
