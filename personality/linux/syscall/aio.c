/* Asynchronous I/O as Linux had it before io_uring: io_setup(2) and its family.
 *
 * What is submitted is done at once, as Linux itself does it for most files; only the results wait to be fetched. A context is known by the
 * address of a page in the program's memory, where libaio looks whether it can read results without a call: the page is left zero, and
 * it calls. Contexts belong to a process's memory and go with it; a forked child has none. */
#include "personality/linux/fs/internal.h"
#include "personality/linux/fs/poll.h"
#include "personality/linux/mm/mm.h"
#include "personality/linux/process/process.h"
#include "personality/linux/syscall/aio.h"

#include <asm/poll.h>
#include <linux/aio_abi.h>
#include <linux/uio.h>

long lx_sys_read(int fd, void *buffer, uint64_t size);
long lx_sys_write(int fd, const void *buffer, uint64_t size);
long lx_sys_readv(int fd, const struct iovec *list, uint64_t count);
long lx_sys_writev(int fd, const struct iovec *list, uint64_t count);
long lx_sys_pread64(int fd, void *buffer, uint64_t size, int64_t offset);
long lx_sys_pwrite64(int fd, const void *buffer, uint64_t size, int64_t offset);
long lx_sys_preadv(int fd, const struct iovec *list, uint64_t count, int64_t offset);
long lx_sys_pwritev(int fd, const struct iovec *list, uint64_t count, int64_t offset);
long lx_sys_fsync(int fd);
long lx_sys_fdatasync(int fd);

enum { EVENTS_MAX = 65536 /* /proc/sys/fs/aio-max-nr */ };

struct aio_context {
    struct aio_context *next;  /* of mm.aio; mm.mutex */
    uint64_t address;
    _Atomic uint32_t references;
    struct lock lock;          /* guards all below */
    struct wait_queue arrived;
    bool destroyed;
    uint32_t capacity, first, count; /* ring of results */
    struct io_event *events;
};

static void context_unref(struct aio_context *context)
{
    if (--context->references)
        return;
    heap_free(context->events);
    heap_free(context);
}
static void context_cleanup(struct aio_context **context)
{
    if (*context)
        context_unref(*context);
}
#define scoped_context struct aio_context *__attribute__((cleanup(context_cleanup)))

/* The place in the list that points to it, or to nothing. */
static struct aio_context **find(struct mm *mm, uint64_t address)
{
    struct aio_context **place = &mm->aio;
    while (*place && (*place)->address != address)
        place = &(*place)->next;
    return place;
}

static void context_end(struct aio_context **place)
{
    struct aio_context *context = *place;
    *place = context->next;
    lock_acquire(&context->lock);
    context->destroyed = true;
    wait_queue_wake_all(&context->arrived);
    lock_release(&context->lock);
    context_unref(context);
}

/* With a reference; NULL: there is none. */
static struct aio_context *context_get(uint64_t address)
{
    struct mm *mm = lx_process()->mm;
    scoped_mutex(&mm->mutex);
    struct aio_context *context = *find(mm, address);
    if (context)
        context->references++;
    return context;
}

void aio_mm_released(struct mm *mm)
{
    while (mm->aio)
        context_end(&mm->aio);
}

LX_SYSCALL(io_setup, unsigned count, uint64_t *guest_context)
{
    struct mm *mm = lx_process()->mm;
    uint64_t old;
    if (guest_read(&old, guest_context, sizeof old) < 0)
        return -EFAULT;
    if (old || count == 0 || count > 0x10000000u / sizeof(struct io_event))
        return -EINVAL;
    if (count > EVENTS_MAX)
        return -EAGAIN;
    struct aio_context *context = heap_alloc(sizeof *context);
    struct io_event *events = context ? heap_alloc(count * sizeof *events) : NULL;
    if (!events) {
        heap_free(context);
        return -ENOMEM;
    }
    context->references = 1;
    context->capacity = count;
    context->events = events;
    wait_queue_init(&context->arrived);
    mutex_acquire(&mm->mutex);
    int64_t address = mm_map(mm, 0, BLY_PAGE_SIZE, BLY_PROT_READ | BLY_PROT_WRITE, 0, NULL, 0, 0);
    if (address > 0) {
        context->address = (uint64_t)address;
        context->next = mm->aio;
        mm->aio = context;
    }
    mutex_release(&mm->mutex);
    if (address < 0) {
        context_unref(context);
        return (long)address;
    }
    if (guest_write(guest_context, &context->address, sizeof context->address) == 0)
        return 0;
    scoped_mutex(&mm->mutex);
    (void)mm_unmap(mm, (uint64_t)address, BLY_PAGE_SIZE);
    context_end(find(mm, (uint64_t)address));
    return -EFAULT;
}

LX_SYSCALL(io_destroy, uint64_t address)
{
    struct mm *mm = lx_process()->mm;
    scoped_mutex(&mm->mutex);
    struct aio_context **place = find(mm, address);
    if (!*place)
        return -EINVAL;
    context_end(place);
    return mm_unmap(mm, address, BLY_PAGE_SIZE);
}

/* ---- Submitting --------------------------------------------------------------------------------------------------- */

static long perform(const struct iocb *request)
{
    int fd = (int)request->aio_fildes;
    void *buffer = (void *)request->aio_buf;
    scoped_file file = fd_get(fd);
    if (!file)
        return -EBADF;
    bool reads = request->aio_lio_opcode == IOCB_CMD_PREAD || request->aio_lio_opcode == IOCB_CMD_PREADV;
    if (file->ops->positionless) { /* pipes and sockets: the offset means nothing */
        if ((request->aio_rw_flags & RWF_NOWAIT) && !(file_poll(file, NULL) & (reads ? POLLIN | POLLHUP | POLLERR : POLLOUT | POLLERR)))
            return -EAGAIN;
        switch (request->aio_lio_opcode) {
        case IOCB_CMD_PREAD: return lx_sys_read(fd, buffer, request->aio_nbytes);
        case IOCB_CMD_PWRITE: return lx_sys_write(fd, buffer, request->aio_nbytes);
        case IOCB_CMD_PREADV: return lx_sys_readv(fd, buffer, request->aio_nbytes);
        case IOCB_CMD_PWRITEV: return lx_sys_writev(fd, buffer, request->aio_nbytes);
        default: break;
        }
    }
    switch (request->aio_lio_opcode) {
    case IOCB_CMD_PREAD: return lx_sys_pread64(fd, buffer, request->aio_nbytes, request->aio_offset);
    case IOCB_CMD_PWRITE: return lx_sys_pwrite64(fd, buffer, request->aio_nbytes, request->aio_offset);
    case IOCB_CMD_PREADV: return lx_sys_preadv(fd, buffer, request->aio_nbytes, request->aio_offset);
    case IOCB_CMD_PWRITEV: return lx_sys_pwritev(fd, buffer, request->aio_nbytes, request->aio_offset);
    case IOCB_CMD_FSYNC: return lx_sys_fsync(fd);
    case IOCB_CMD_FDSYNC: return lx_sys_fdatasync(fd);
    default: return 0;
    }
}

/* What io_submit_one() of Linux refuses instead of reporting it as a result. */
static int check(const struct iocb *request)
{
    if (request->aio_reserved2 || (request->aio_flags & ~(unsigned)(IOCB_FLAG_RESFD | IOCB_FLAG_IOPRIO)) || (int64_t)request->aio_nbytes < 0)
        return -EINVAL;
    scoped_file file = fd_get((int)request->aio_fildes);
    if (!file)
        return -EBADF;
    switch (request->aio_lio_opcode) {
    case IOCB_CMD_PREAD: case IOCB_CMD_PREADV: return file_can_read(file) ? 0 : -EBADF;
    case IOCB_CMD_PWRITE: case IOCB_CMD_PWRITEV: return file_can_write(file) ? 0 : -EBADF;
    case IOCB_CMD_FSYNC: case IOCB_CMD_FDSYNC: return file->ops->flush ? 0 : -EINVAL;
    default: return -EINVAL;
    }
}

static int submit(struct aio_context *context, struct iocb *guest_request)
{
    struct iocb request;
    if (guest_read(&request, guest_request, sizeof request) < 0)
        return -EFAULT;
    int error = check(&request);
    if (error < 0)
        return error;
    scoped_file notified = NULL;
    if ((request.aio_flags & IOCB_FLAG_RESFD) && !(notified = fd_get((int)request.aio_resfd)))
        return -EBADF;
    if (notified && strcmp(notified->ops->name, "anon_inode:[eventfd]"))
        return -EINVAL;
    uint32_t key = 0;
    if (guest_write(&guest_request->aio_key, &key, sizeof key) < 0)
        return -EFAULT;
    lock_acquire(&context->lock);
    bool room = !context->destroyed && context->count < context->capacity;
    lock_release(&context->lock);
    if (!room)
        return -EAGAIN;
    long result = perform(&request);
    if (lx_is_restart((uint64_t)result))
        result = -EINTR;
    lock_acquire(&context->lock);
    if (!context->destroyed && context->count < context->capacity) {
        context->events[(context->first + context->count++) % context->capacity] =
            (struct io_event){.data = request.aio_data, .obj = (uint64_t)guest_request, .res = result};
        wait_queue_wake_all(&context->arrived);
    }
    lock_release(&context->lock);
    if (notified) {
        uint64_t one = 1;
        struct bly_iovec part = {&one, sizeof one};
        struct io_buffer from = {.vector = &part, .count = 1, .size = sizeof one, .kernel = true};
        (void)!file_write(notified, &from, &notified->position);
    }
    return 0;
}

LX_SYSCALL(io_submit, uint64_t address, long count, struct iocb **guest_requests)
{
    if (count < 0)
        return -EINVAL;
    scoped_context context = context_get(address);
    if (!context)
        return -EINVAL;
    for (long i = 0; i < count && i < (long)context->capacity; i++) {
        struct iocb *request;
        int error = guest_read(&request, &guest_requests[i], sizeof request) < 0 ? -EFAULT : submit(context, request);
        if (error < 0)
            return i ? i : error;
    }
    return count < (long)context->capacity ? count : (long)context->capacity;
}

/* Everything submitted has been done already. */
LX_SYSCALL(io_cancel, uint64_t address, struct iocb *guest_request, struct io_event *out_event)
{
    uint32_t key;
    if (guest_read(&key, &guest_request->aio_key, sizeof key) < 0)
        return -EFAULT;
    return -EINVAL;
}

/* ---- Results ------------------------------------------------------------------------------------------------------ */

static long take(struct aio_context *context, long minimum, long count, struct io_event *out_events, uint64_t deadline_ns)
{
    long taken = 0;
    int result = 0;
    while (taken < count && result == 0) {
        struct io_event event;
        lock_acquire(&context->lock);
        if (taken < minimum)
            wait_until(&context->arrived, &context->lock, context->count || context->destroyed, deadline_ns, result);
        bool given = result == 0 && context->count;
        if (given) {
            event = context->events[context->first];
            context->first = (context->first + 1) % context->capacity;
            context->count--;
        }
        lock_release(&context->lock);
        if (!given)
            break;
        if (guest_write(&out_events[taken], &event, sizeof event) < 0)
            return taken ? taken : -EFAULT;
        taken++;
    }
    return taken || result == -ETIMEDOUT ? taken : result;
}

static long get_events(uint64_t address, long minimum, long count, struct io_event *out_events, const struct __kernel_timespec *timeout)
{
    uint64_t wait_ns = BLY_FOREVER;
    struct __kernel_timespec time;
    if (timeout && guest_read(&time, timeout, sizeof time) < 0)
        return -EFAULT;
    if (timeout && time.tv_sec < (int64_t)(BLY_FOREVER / 2000000000u)) { /* Linux takes whatever stands there */
        int64_t ns;
        bool too_much = __builtin_mul_overflow(time.tv_sec, 1000000000ll, &ns) || __builtin_add_overflow(ns, time.tv_nsec, &ns);
        wait_ns = too_much || ns < 0 ? 0 : (uint64_t)ns;
    }
    scoped_context context = context_get(address);
    if (!context || minimum < 0 || count < 0 || minimum > count)
        return -EINVAL;
    return take(context, minimum, count, out_events, poll_deadline(wait_ns));
}

LX_SYSCALL(io_getevents, uint64_t address, long minimum, long count, struct io_event *out_events, const struct __kernel_timespec *timeout)
{
    return get_events(address, minimum, count, out_events, timeout);
}

struct signal_argument { const lx_sigset *mask; uint64_t size; };

LX_SYSCALL(io_pgetevents, uint64_t address, long minimum, long count, struct io_event *out_events, const struct __kernel_timespec *timeout,
           const struct signal_argument *guest_signals)
{
    struct signal_argument signals = {NULL, 0};
    if (guest_signals && guest_read(&signals, guest_signals, sizeof signals) < 0)
        return -EFAULT;
    int error = poll_set_mask(signals.mask, signals.size);
    if (error < 0)
        return error;
    long result = get_events(address, minimum, count, out_events, timeout);
    if (signals.mask && result != -EINTR) /* else when the handler has run */
        signal_restore_mask();
    return result;
}
