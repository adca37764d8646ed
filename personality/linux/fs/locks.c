/* Locks on files: POSIX record locks (owner: the descriptor table, so a process with its threads), open-file-description locks and
 * flock(2) (owner: the open file). Leases are refused.
 *
 * One lock guards all of it: locks on files are rare and short, and looking for deadlocks needs all waiters at once. It ranks as
 * an object lock. A waiter sleeps on its inode's queue and tries again when a lock there has gone. */
#include "personality/linux/fs/locks.h"
#include "personality/linux/fs/internal.h"
#include "personality/linux/process/process.h"
#include <linux/fcntl.h>
#include <linux/fs.h>

enum lock_kind { LOCK_POSIX, LOCK_OFD, LOCK_FLOCK };

struct file_lock {
    struct list node;        /* file_lock_list.locks, by start; a POSIX and an OFD lock may conflict, flock is a world of its own */
    enum lock_kind kind;
    int type;                /* F_RDLCK, F_WRLCK */
    int64_t start, end;      /* inclusive */
    const void *owner;
    int32_t pid;
};
struct file_lock_list { struct list locks; struct wait_queue queue; };

struct lock_wait { struct list node; const void *owner, *blocker; };
struct locks_state { struct lock lock; struct list waits; };

static struct locks_state *state(void)
{
    return lx_kernel->flocks;
}

int locks_init(void)
{
    struct locks_state *locks = heap_alloc(sizeof(*locks));

    if (!locks)
        return -ENOMEM;
    list_init(&locks->waits);
    lx_kernel->flocks = locks;
    return 0;
}

static struct file_lock_list *list_of(struct inode *inode)
{
    if (!inode->locks) {
        struct file_lock_list *fresh = heap_alloc(sizeof(*fresh));
        if (!fresh)
            return NULL;
        list_init(&fresh->locks);
        wait_queue_init(&fresh->queue);
        {
            scoped_lock(&state()->lock);
            if (!inode->locks) {
                inode->locks = fresh;
                fresh = NULL;
            }
        }
        heap_free(fresh);
    }
    return inode->locks;
}

static bool same_world(enum lock_kind a, enum lock_kind b)
{
    return (a == LOCK_FLOCK) == (b == LOCK_FLOCK);
}

/* The first lock that keeps `wanted` from being set. */
static struct file_lock *find_conflict(struct file_lock_list *list, const struct file_lock *wanted)
{
    list_for_each(node, &list->locks) {
        struct file_lock *lock = container_of(node, struct file_lock, node);
        if (same_world(lock->kind, wanted->kind) && !(lock->owner == wanted->owner && lock->kind == wanted->kind) &&
            lock->start <= wanted->end && wanted->start <= lock->end && (lock->type == F_WRLCK || wanted->type == F_WRLCK))
            return lock;
    }
    return NULL;
}

/* Whether `owner` would, by waiting for `blocker`, wait for itself. */
static bool would_deadlock(const void *owner, const void *blocker)
{
    for (int steps = 0; steps < 1000; steps++) {
        const void *next = NULL;
        list_for_each(node, &state()->waits) {
            struct lock_wait *wait = container_of(node, struct lock_wait, node);
            if (wait->owner == blocker)
                next = wait->blocker;
        }
        if (!next)
            return false;
        if (next == owner)
            return true;
        blocker = next;
    }
    return false;
}

static void insert(struct file_lock_list *list, struct file_lock *lock)
{
    struct list *before = list->locks.next;

    while (before != &list->locks && container_of(before, struct file_lock, node)->start <= lock->start)
        before = before->next;
    list_insert(&lock->node, before);
}

/* Makes [start, end] of the owner what `wanted` says (F_UNLCK: nothing). `spare` are two locks to use; what is left over stays in it. */
static void apply(struct file_lock_list *list, const struct file_lock *wanted, struct file_lock *spare[2])
{
    int64_t start = wanted->start, end = wanted->end;

    list_for_each_safe(node, after, &list->locks) {
        struct file_lock *lock = container_of(node, struct file_lock, node);
        if (lock->owner != wanted->owner || lock->kind != wanted->kind)
            continue;
        if (lock->type == wanted->type) { /* grow over what touches it */
            if ((start > INT64_MIN && lock->end < start - 1) || (end < INT64_MAX && lock->start > end + 1))
                continue;
            if (lock->start < start)
                start = lock->start;
            if (lock->end > end)
                end = lock->end;
            list_remove(&lock->node);
            heap_free(lock);
            continue;
        }
        if (lock->end < start || lock->start > end)
            continue;
        if (lock->start < start && lock->end > end) { /* a hole in the middle */
            struct file_lock *tail = spare[1];
            spare[1] = NULL;
            *tail = *lock;
            tail->start = end + 1;
            lock->end = start - 1;
            insert(list, tail);
        } else if (lock->start < start) {
            lock->end = start - 1;
        } else if (lock->end > end) {
            lock->start = end + 1;
            list_remove(&lock->node);
            insert(list, lock);
        } else {
            list_remove(&lock->node);
            heap_free(lock);
        }
    }
    if (wanted->type != F_UNLCK) {
        struct file_lock *lock = spare[0];
        spare[0] = NULL;
        *lock = *wanted;
        lock->start = start;
        lock->end = end;
        insert(list, lock);
    }
}

/* Sets the lock, waiting when `wait`. */
static int set_lock(struct inode *inode, const struct file_lock *wanted, bool wait)
{
    struct file_lock_list *list = list_of(inode);
    struct file_lock *spare[2] = { heap_alloc(sizeof(*spare[0])), heap_alloc(sizeof(*spare[0])) };
    struct lock_wait *waiting = wait ? heap_alloc(sizeof(*waiting)) : NULL;
    struct file_lock *conflict;
    int error = 0;

    if (!list || !spare[0] || !spare[1] || (wait && !waiting)) {
        error = -ENOLCK;
        goto out;
    }
    lock_acquire(&state()->lock);
    while (wanted->type != F_UNLCK && (conflict = find_conflict(list, wanted))) {
        if (!wait) {
            error = -EAGAIN;
            break;
        }
        if (wanted->kind == LOCK_POSIX && conflict->kind == LOCK_POSIX && would_deadlock(wanted->owner, conflict->owner)) {
            error = -EDEADLK;
            break;
        }
        const struct file_lock *blocker = conflict;
        waiting->owner = wanted->owner;
        waiting->blocker = wanted->kind == LOCK_POSIX ? conflict->owner : NULL;
        list_push(&state()->waits, &waiting->node);
        wait_until(&list->queue, &state()->lock, find_conflict(list, wanted) != blocker, BLY_FOREVER, error);
        list_remove(&waiting->node);
        if (error < 0) {
            error = -ERESTARTSYS;
            break;
        }
    }
    if (error == 0) {
        apply(list, wanted, spare);
        wait_queue_wake_all(&list->queue);
    }
    lock_release(&state()->lock);
out:
    heap_free(spare[0]);
    heap_free(spare[1]);
    heap_free(waiting);
    return error;
}

/* Drops all locks of one owner and kind. */
static void drop_all(struct inode *inode, enum lock_kind kind, const void *owner)
{
    struct file_lock_list *list = inode->locks;
    bool dropped = false;

    if (!list)
        return;
    scoped_lock(&state()->lock);
    list_for_each_safe(node, after, &list->locks) {
        struct file_lock *lock = container_of(node, struct file_lock, node);
        if (lock->owner == owner && lock->kind == kind) {
            list_remove(&lock->node);
            heap_free(lock);
            dropped = true;
        }
    }
    if (dropped)
        wait_queue_wake_all(&list->queue);
}

void locks_file_closed(struct open_file *file)
{
    drop_all(file->inode, LOCK_FLOCK, file);
    drop_all(file->inode, LOCK_OFD, file);
}

void locks_process_closed(struct open_file *file, struct fd_table *table)
{
    /* fcntl(2): a process's locks on a file go when it closes any descriptor of it. */
    if (file->inode->locks && !(file->flags & O_PATH))
        drop_all(file->inode, LOCK_POSIX, table);
}

void locks_inode_released(struct inode *inode)
{
    heap_free(inode->locks); /* empty: locks hold their open file, and that the inode */
}

/* ---- fcntl ---- */

struct guest_flock { int16_t type, whence; int32_t padding; int64_t start, length; int32_t pid; int32_t padding2; };
_Static_assert(sizeof(struct guest_flock) == 32, "struct flock");

/* The range a struct flock names. */
static int range_of(struct open_file *file, const struct guest_flock *flock, int64_t *out_start, int64_t *out_end)
{
    int64_t base = 0, start, end;

    switch (flock->whence) {
    case SEEK_SET:
        break;
    case SEEK_CUR:
        base = file->position;
        break;
    case SEEK_END:
        if (file->inode->ops->refresh)
            (void)file->inode->ops->refresh(file->inode);
        base = (int64_t)file->inode->size;
        break;
    default:
        return -EINVAL;
    }
    if (__builtin_add_overflow(base, flock->start, &start))
        return -EOVERFLOW;
    if (start < 0)
        return -EINVAL;
    if (flock->length > 0) {
        if (__builtin_add_overflow(start, flock->length - 1, &end))
            return -EOVERFLOW;
    } else if (flock->length < 0) {
        end = start - 1;
        start += flock->length;
        if (start < 0)
            return -EINVAL;
    } else {
        end = INT64_MAX;
    }
    *out_start = start;
    *out_end = end;
    return 0;
}

long locks_fcntl(struct open_file *file, unsigned command, struct guest_flock *guest)
{
    bool ofd = command == F_OFD_GETLK || command == F_OFD_SETLK || command == F_OFD_SETLKW;
    struct guest_flock flock;
    struct file_lock wanted = { .kind = ofd ? LOCK_OFD : LOCK_POSIX, .owner = ofd ? (void *)file : (void *)lx_process()->files,
                                .pid = ofd ? -1 : lx_process()->pid };
    int error;

    if (guest_read(&flock, guest, sizeof(flock)) < 0)
        return -EFAULT;
    if (ofd && flock.pid != 0)
        return -EINVAL;
    if (flock.type != F_RDLCK && flock.type != F_WRLCK && (flock.type != F_UNLCK || command == F_GETLK || command == F_OFD_GETLK))
        return -EINVAL;
    if ((error = range_of(file, &flock, &wanted.start, &wanted.end)) < 0)
        return error;
    wanted.type = flock.type;
    if (!ofd)
        lx_process()->files->has_locked = true;

    if (command == F_GETLK || command == F_OFD_GETLK) {
        struct file_lock_list *list = list_of(file->inode);
        if (!list)
            return -ENOLCK;
        {
            scoped_lock(&state()->lock);
            const struct file_lock *conflict = find_conflict(list, &wanted);
            flock.type = conflict ? (int16_t)conflict->type : F_UNLCK;
            if (conflict) {
                flock.whence = SEEK_SET;
                flock.start = conflict->start;
                flock.length = conflict->end == INT64_MAX ? 0 : conflict->end - conflict->start + 1;
                flock.pid = conflict->pid;
            }
        }
        return guest_write(guest, &flock, sizeof(flock)) < 0 ? -EFAULT : 0;
    }
    if ((flock.type == F_RDLCK && !file_can_read(file)) || (flock.type == F_WRLCK && !file_can_write(file)))
        return -EBADF;
    if (ofd)
        __atomic_or_fetch(&file->internal, FILE_HAS_LOCKS, __ATOMIC_RELAXED);
    return set_lock(file->inode, &wanted, command == F_SETLKW || command == F_OFD_SETLKW);
}

/* ---- flock ---- */

long locks_flock(struct open_file *file, int type, bool wait)
{
    struct file_lock wanted = { .kind = LOCK_FLOCK, .type = type, .end = INT64_MAX, .owner = file, .pid = lx_process()->pid };

    __atomic_or_fetch(&file->internal, FILE_HAS_LOCKS, __ATOMIC_RELAXED);
    /* flock(2): changing the kind of lock is not atomic; the old one goes first. */
    if (type != F_UNLCK && file->inode->locks) {
        bool other = false, same = false;
        {
            scoped_lock(&state()->lock);
            list_for_each(node, &file->inode->locks->locks) {
                struct file_lock *lock = container_of(node, struct file_lock, node);
                if (lock->owner == file && lock->kind == LOCK_FLOCK)
                    *(lock->type == type ? &same : &other) = true;
            }
        }
        if (same)
            return 0;
        if (other)
            drop_all(file->inode, LOCK_FLOCK, file);
    }
    return set_lock(file->inode, &wanted, wait);
}
