/* poll, ppoll, select, pselect6: one engine over a list of {file, events}.
 *
 * A first look asks all files without registering anywhere; only a call that must sleep makes a sleeper and looks again,
 * now registering with each file before it is asked, so that no change between the look and the sleep is lost. */
#include "personality/linux/fs/poll.h"
#include "personality/linux/process/process.h"
#include <asm/poll.h>
#include <linux/personality.h>
#include <linux/time_types.h>

#define POLL_ALWAYS (POLLERR | POLLHUP)
#define SELECT_READ (POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR)
#define SELECT_WRITE (POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR)
#define SELECT_EXCEPT POLLPRI
#define LIMIT_NOFILE 7
enum { INLINE_ENTRIES = 16, NANOSECONDS = 1000000000 };

struct poll_entry {
    struct open_file *file; /* NULL: nothing to ask */
    uint32_t events, ready;
};
struct poll_call {
    struct poll_entry *entries;
    size_t count;
    struct poll_entry inline_entries[INLINE_ENTRIES];
};

/* ---- What files and engines share ---- */

uint32_t poll_interest(uint32_t events)
{
    if (events & (POLLIN | POLLRDNORM | POLLRDBAND))
        events |= POLLIN | POLLRDNORM | POLLRDBAND;
    if (events & (POLLOUT | POLLWRNORM | POLLWRBAND))
        events |= POLLOUT | POLLWRNORM | POLLWRBAND;
    return events | POLL_ALWAYS;
}

void poll_wait(struct poll_table *table, struct wait_queue *queue)
{
    if (table)
        table->wait(table, queue);
}

void poll_wait_stream(struct poll_table *table, bly_handle stream, uint32_t events)
{
    if (table)
        table->wait_stream(table, stream, events);
}

uint32_t file_poll(struct open_file *file, struct poll_table *table)
{
    return file->ops->poll ? file->ops->poll(file, table) : POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;
}

uint64_t poll_deadline(uint64_t nanoseconds)
{
    uint64_t now = lx_monotonic_ns();

    return nanoseconds >= BLY_FOREVER - now ? BLY_FOREVER : now + nanoseconds;
}

static int read_duration(const void *guest, uint64_t unit, bool normalise, uint64_t *out_nanoseconds)
{
    int64_t value[2];

    if (guest_read(value, guest, sizeof value) < 0)
        return -EFAULT;
    int64_t units = NANOSECONDS / (int64_t)unit;
    if (value[0] < 0 || value[1] < 0 || (value[1] >= units && !normalise))
        return -EINVAL;
    uint64_t seconds = (uint64_t)value[0] + (uint64_t)(value[1] / units);
    *out_nanoseconds = seconds > BLY_FOREVER / NANOSECONDS - 2 ? BLY_FOREVER
                                                               : seconds * NANOSECONDS + (uint64_t)(value[1] % units) * unit;
    return 0;
}

int poll_read_timespec(const void *guest, uint64_t *out_nanoseconds)
{
    return read_duration(guest, 1, /*normalise=*/false, out_nanoseconds);
}

int poll_set_mask(const void *guest, size_t size)
{
    lx_sigset mask;

    if (!guest)
        return 0;
    if (size != sizeof mask)
        return -EINVAL;
    if (guest_read(&mask, guest, sizeof mask) < 0)
        return -EFAULT;
    signal_set_temporary_mask(mask);
    return 0;
}

int64_t event_seek(struct open_file *file, int64_t offset, int whence)
{
    return file->position;
}

/* ---- The engine ---- */

static int scan(struct poll_call *call, struct poll_table *table)
{
    int ready = 0;

    for (size_t i = 0; i < call->count; i++) {
        struct poll_entry *entry = &call->entries[i];
        if (!entry->file) {
            ready += entry->ready != 0;
            continue;
        }
        if (table)
            table->events = poll_interest(entry->events);
        entry->ready = file_poll(entry->file, ready ? NULL : table) & (entry->events | POLL_ALWAYS);
        ready += entry->ready != 0;
    }
    return ready;
}

/* How many entries are ready; 0 at the deadline; -EINTR. */
static int poll_run(struct poll_call *call, uint64_t deadline_ns)
{
    struct poll_sleeper *sleeper;
    int ready = scan(call, NULL), result;

    if (ready || deadline_ns == 0)
        return ready;
    if (!(sleeper = poll_sleeper_create()))
        return -ENOMEM;
    for (struct poll_table *table = poll_sleeper_table(sleeper);; table = NULL) {
        uint32_t ticket = thread_ticket();
        ready = scan(call, table);
        if (ready)
            break;
        result = poll_sleeper_sleep(sleeper, ticket, deadline_ns);
        if (result < 0) {
            ready = scan(call, NULL);
            if (!ready)
                ready = result == -ETIMEDOUT ? 0 : result;
            break;
        }
    }
    poll_sleeper_free(sleeper);
    return ready;
}

static int call_begin(struct poll_call *call, size_t count)
{
    call->count = 0;
    call->entries = count <= INLINE_ENTRIES ? call->inline_entries : heap_alloc(count * sizeof *call->entries);
    return call->entries ? 0 : -ENOMEM;
}

static void call_add(struct poll_call *call, struct open_file *file, uint32_t events, uint32_t ready)
{
    call->entries[call->count++] = (struct poll_entry){ file, events, ready };
}

static void call_end(struct poll_call *call)
{
    for (size_t i = 0; i < call->count; i++)
        if (call->entries[i].file)
            file_unref(call->entries[i].file);
    if (call->entries != call->inline_entries)
        heap_free(call->entries);
}

/* ---- poll and ppoll ---- */

static long poll_fds(struct pollfd *fds, struct pollfd *guest, uint32_t count, uint64_t deadline_ns)
{
    struct poll_call call;
    int result = call_begin(&call, count);

    if (result < 0)
        return result;
    for (uint32_t i = 0; i < count; i++) {
        struct open_file *file = fds[i].fd >= 0 ? fd_get(fds[i].fd) : NULL;
        call_add(&call, file, (uint16_t)fds[i].events, !file && fds[i].fd >= 0 ? POLLNVAL : 0);
    }
    result = poll_run(&call, deadline_ns);
    for (uint32_t i = 0; i < count; i++)
        fds[i].revents = (short)call.entries[i].ready;
    call_end(&call);
    if (result < 0)
        return result;
    for (uint32_t i = 0; i < count; i++) /* the program may have changed fd and events meanwhile: they stay as they are */
        if (guest_write(&guest[i].revents, &fds[i].revents, sizeof fds[i].revents) < 0)
            return -EFAULT;
    return result;
}

static long do_poll(struct pollfd *guest, uint32_t count, uint64_t deadline_ns)
{
    struct pollfd few[INLINE_ENTRIES], *fds = few;
    long result;

    if (count > lx_process()->limits[LIMIT_NOFILE].soft)
        return -EINVAL;
    if (count > INLINE_ENTRIES && !(fds = heap_alloc(count * sizeof *fds)))
        return -ENOMEM;
    if (guest_read(fds, guest, count * sizeof *fds) < 0)
        result = -EFAULT;
    else
        result = poll_fds(fds, guest, count, deadline_ns);
    if (fds != few)
        heap_free(fds);
    return result;
}

static long poll_restart(struct lx_thread *thread);

static long poll_restartable(struct pollfd *guest, uint32_t count, uint64_t deadline_ns)
{
    long result = do_poll(guest, count, deadline_ns);

    if (result == -EINTR) {
        struct lx_thread *thread = lx_current();
        thread->restart.function = poll_restart;
        thread->restart.argument[0] = (uint64_t)guest;
        thread->restart.argument[1] = count;
        thread->restart.argument[2] = deadline_ns;
        return -ERESTART_RESTARTBLOCK;
    }
    return result;
}

static long poll_restart(struct lx_thread *thread)
{
    return poll_restartable((struct pollfd *)thread->restart.argument[0], (uint32_t)thread->restart.argument[1],
                            thread->restart.argument[2]);
}

LX_SYSCALL(poll, struct pollfd *fds, uint32_t count, int timeout_ms)
{
    uint64_t deadline = timeout_ms < 0 ? BLY_FOREVER : timeout_ms == 0 ? 0 : poll_deadline((uint64_t)timeout_ms * 1000000);

    return poll_restartable(fds, count, deadline);
}

/* The end of ppoll and pselect6: the time that is left goes to the program (Linux does so, POSIX forbids it; the C
 * libraries hide it), so that a restart does not begin the whole time again. */
static long finish_timed(long result, void *guest_time, uint64_t unit, uint64_t deadline_ns)
{
    if (result == -EINTR)
        result = -ERESTARTNOHAND;
    else
        signal_restore_mask();
    if (guest_time && !(lx_process()->personality_flags & STICKY_TIMEOUTS)) {
        uint64_t now = lx_monotonic_ns(), left = deadline_ns > now ? deadline_ns - now : 0;
        int64_t value[2] = { (int64_t)(left / NANOSECONDS), (int64_t)(left % NANOSECONDS / unit) };
        /* select(2): a result is not lost because the time cannot be written; a restart with the whole time would be wrong. */
        if (deadline_ns != BLY_FOREVER && guest_write(guest_time, value, sizeof value) < 0 && result == -ERESTARTNOHAND)
            return -EINTR;
    }
    return result;
}

static int timed_deadline(const void *guest, uint64_t unit, uint64_t *out_deadline)
{
    uint64_t duration;

    *out_deadline = BLY_FOREVER;
    if (!guest)
        return 0;
    int result = read_duration(guest, unit, /*normalise=*/unit != 1, &duration);
    if (result == 0)
        *out_deadline = duration ? poll_deadline(duration) : 0;
    return result;
}

LX_SYSCALL(ppoll, struct pollfd *fds, uint32_t count, void *timeout, const void *mask, size_t mask_size)
{
    uint64_t deadline;
    int result = timed_deadline(timeout, 1, &deadline);

    if (result == 0)
        result = poll_set_mask(mask, mask_size);
    if (result < 0)
        return result;
    return finish_timed(do_poll(fds, count, deadline), timeout, 1, deadline);
}

/* ---- select and pselect6 ---- */

enum { SET_READ, SET_WRITE, SET_EXCEPT, SET_COUNT };
static const uint32_t set_events[SET_COUNT] = { SELECT_READ, SELECT_WRITE, SELECT_EXCEPT };

/* `sets` are three bitmaps of `words` words each, as the program gave them; results replace them. */
static long select_sets(uint64_t *sets, uint32_t words, uint32_t limit, uint64_t deadline_ns)
{
    struct poll_call call;
    uint32_t wanted = 0;
    long result;

    for (uint32_t fd = 0; fd < limit; fd++)
        for (int s = 0; s < SET_COUNT; s++)
            if (sets[s * words + fd / 64] & 1ull << fd % 64) {
                wanted++;
                break;
            }
    if ((result = call_begin(&call, wanted)) < 0)
        return result;
    for (uint32_t fd = 0; fd < limit && result == 0; fd++) {
        uint32_t events = 0;
        for (int s = 0; s < SET_COUNT; s++)
            if (sets[s * words + fd / 64] & 1ull << fd % 64)
                events |= set_events[s];
        if (!events)
            continue;
        struct open_file *file = fd_get((int)fd);
        if (file)
            call_add(&call, file, events, 0);
        else
            result = -EBADF;
    }
    if (result == 0)
        result = poll_run(&call, deadline_ns);
    if (result >= 0) {
        struct poll_entry *entry = call.entries;
        result = 0;
        for (uint32_t fd = 0; fd < limit; fd++) {
            uint64_t bit = 1ull << fd % 64;
            bool asked = false;
            for (int s = 0; s < SET_COUNT; s++) {
                uint64_t *word = &sets[s * words + fd / 64];
                if (!(*word & bit))
                    continue;
                asked = true;
                if (entry->ready & set_events[s])
                    result++;
                else
                    *word &= ~bit;
            }
            entry += asked;
        }
    }
    call_end(&call);
    return result;
}

static long do_select(int limit, uint64_t *const guest_sets[SET_COUNT], uint64_t deadline_ns)
{
    uint64_t few[SET_COUNT * 16], *sets = few;
    long result = 0;

    if (limit < 0)
        return -EINVAL;
    uint32_t size = lx_process()->files->size;
    if ((uint32_t)limit > size) /* as Linux: nothing can be open beyond the table */
        limit = (int)size;
    uint32_t words = ((uint32_t)limit + 63) / 64;
    if (words > 16 && !(sets = heap_alloc(SET_COUNT * words * sizeof *sets)))
        return -ENOMEM;
    for (int s = 0; s < SET_COUNT && result == 0; s++) {
        if (!guest_sets[s])
            memset(&sets[(uint32_t)s * words], 0, words * sizeof *sets);
        else if (guest_read(&sets[(uint32_t)s * words], guest_sets[s], words * sizeof *sets) < 0)
            result = -EFAULT;
    }
    if (result == 0)
        result = select_sets(sets, words, (uint32_t)limit, deadline_ns);
    for (int s = 0; s < SET_COUNT && result >= 0; s++)
        if (guest_sets[s] && guest_write(guest_sets[s], &sets[(uint32_t)s * words], words * sizeof *sets) < 0)
            result = -EFAULT;
    if (sets != few)
        heap_free(sets);
    return result;
}

LX_SYSCALL(select, int limit, uint64_t *in, uint64_t *out, uint64_t *except, void *timeout)
{
    uint64_t *sets[SET_COUNT] = { in, out, except }, deadline;
    int result = timed_deadline(timeout, 1000, &deadline);

    if (result < 0)
        return result;
    return finish_timed(do_select(limit, sets, deadline), timeout, 1000, deadline);
}

LX_SYSCALL(pselect6, int limit, uint64_t *in, uint64_t *out, uint64_t *except, void *timeout, const void *mask_and_size)
{
    uint64_t *sets[SET_COUNT] = { in, out, except }, deadline;
    struct { const void *mask; size_t size; } mask = { NULL, 0 };
    int result;

    if (mask_and_size && guest_read(&mask, mask_and_size, sizeof mask) < 0)
        return -EFAULT;
    result = timed_deadline(timeout, 1, &deadline);
    if (result == 0)
        result = poll_set_mask(mask.mask, mask.size);
    if (result < 0)
        return result;
    return finish_timed(do_select(limit, sets, deadline), timeout, 1, deadline);
}
