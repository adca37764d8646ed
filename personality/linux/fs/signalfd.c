/* signalfd: reads signals that are pending for the reader instead of having them delivered.
 *
 * The file holds only a mask: whose signals they are is decided by who reads or polls (signalfd(2), "fork(2) semantics"). */
#include "personality/linux/fs/poll.h"
#include "personality/linux/fs/vfs.h"
#include "personality/linux/process/process.h"
#include "personality/linux/signal/internal.h"
#include <asm/poll.h>
#include <linux/signalfd.h>

struct signalfd {
    struct lock lock; /* guards all below */
    lx_sigset mask;
    struct watched *watched; /* processes whose queue an epoll set waits on through this file */
};
struct watched {
    struct watched *next;
    struct lx_process *process; /* with a reference: its queue must last as long as the registration */
};

static lx_sigset mask_of(struct signalfd *signalfd)
{
    scoped_lock(&signalfd->lock);
    return signalfd->mask;
}

static bool any_pending(lx_sigset mask)
{
    struct lx_thread *thread = lx_current();

    return (thread->signals.pending.set | thread->process->signals.pending.set) & mask;
}

static void fill_record(struct signalfd_siginfo *record, const siginfo_t *info)
{
    memset(record, 0, sizeof *record);
    record->ssi_signo = (uint32_t)info->si_signo;
    record->ssi_errno = info->si_errno;
    record->ssi_code = info->si_code;
    if (info->si_code == SI_TIMER) {
        record->ssi_tid = (uint32_t)info->si_tid;
        record->ssi_overrun = (uint32_t)info->si_overrun;
        record->ssi_ptr = (uint64_t)info->si_ptr;
        record->ssi_int = info->si_int;
        return;
    }
    switch (info->si_code > 0 ? info->si_signo : 0) {
    case SIGCHLD:
        record->ssi_pid = (uint32_t)info->si_pid;
        record->ssi_uid = info->si_uid;
        record->ssi_status = info->si_status;
        record->ssi_utime = (uint64_t)info->si_utime;
        record->ssi_stime = (uint64_t)info->si_stime;
        break;
    case SIGILL: case SIGFPE: case SIGSEGV: case SIGBUS: case SIGTRAP:
        record->ssi_addr = (uint64_t)info->si_addr;
        break;
    case SIGPOLL:
        record->ssi_band = (uint32_t)info->si_band;
        record->ssi_fd = info->si_fd;
        break;
    default:
        record->ssi_pid = (uint32_t)info->si_pid;
        record->ssi_uid = info->si_uid;
        record->ssi_ptr = (uint64_t)info->si_ptr;
        record->ssi_int = info->si_int;
    }
}

/* One signal of the caller's out of its pending ones: its number, -EAGAIN, -ERESTARTSYS. */
static int take(struct signalfd *signalfd, siginfo_t *out_info, bool wait)
{
    struct lx_thread *thread = lx_current();
    struct signal_state *state = &thread->process->signals;
    int signal, result = 0;

    lock_acquire(&state->lock);
    for (;;) {
        lx_sigset mask = mask_of(signalfd);
        signal = signal_dequeue(state, &thread->signals.pending, mask, out_info);
        if (!signal)
            signal = signal_dequeue(state, &state->pending, mask, out_info);
        if (signal || !wait || result < 0)
            break;
        wait_until(&state->signalfd_queue, &state->lock, any_pending(mask), BLY_FOREVER, result);
    }
    lock_release(&state->lock);
    if (signal)
        return signal;
    return result < 0 ? -ERESTARTSYS : -EAGAIN;
}

static int64_t signalfd_read(struct open_file *file, struct io_buffer *to, int64_t *position)
{
    struct signalfd *signalfd = file->object;
    struct signalfd_siginfo record;
    int64_t total = 0;

    if (to->size < sizeof record)
        return -EINVAL;
    while (to->size >= sizeof record) {
        siginfo_t info;
        int signal = take(signalfd, &info, total == 0 && !(file->flags & O_NONBLOCK));
        if (signal < 0)
            return total ? total : signal;
        fill_record(&record, &info);
        if (io_copy_out(to, &record, sizeof record) != sizeof record)
            return total ? total : -EFAULT;
        total += (int64_t)sizeof record;
    }
    return total;
}

static bool keep_process(struct signalfd *signalfd, struct lx_process *process)
{
    struct watched *fresh = heap_alloc(sizeof *fresh), *known;

    if (!fresh)
        return false;
    lock_acquire(&signalfd->lock);
    for (known = signalfd->watched; known && known->process != process;)
        known = known->next;
    if (!known) {
        process->references++;
        *fresh = (struct watched){ signalfd->watched, process };
        signalfd->watched = fresh;
        fresh = NULL;
    }
    lock_release(&signalfd->lock);
    heap_free(fresh);
    return true;
}

static uint32_t signalfd_poll(struct open_file *file, struct poll_table *table)
{
    struct signal_state *state = &lx_process()->signals;

    if (table && (!table->lasting || keep_process(file->object, lx_process())))
        poll_wait(table, &state->signalfd_queue);
    lx_sigset mask = mask_of(file->object);
    scoped_lock(&state->lock);
    return any_pending(mask) ? POLLIN | POLLRDNORM : 0;
}

static void signalfd_close(struct open_file *file)
{
    struct signalfd *signalfd = file->object;

    while (signalfd->watched) {
        struct watched *watched = signalfd->watched;
        signalfd->watched = watched->next;
        process_unref(watched->process);
        heap_free(watched);
    }
    heap_free(signalfd);
}

static void signalfd_describe(struct open_file *file, char *text, size_t size)
{
    format(text, size, "sigmask:\t%016llx\n", (unsigned long long)mask_of(file->object));
}

static const struct file_ops signalfd_ops = {
    .name = "anon_inode:[signalfd]",
    .read = signalfd_read,
    .poll = signalfd_poll,
    .close = signalfd_close,
    .describe = signalfd_describe,
    .seek = event_seek,
    .positionless = true,
};

static int change_mask(int fd, lx_sigset mask)
{
    scoped_file file = fd_get(fd);

    if (!file)
        return -EBADF;
    if (file->ops != &signalfd_ops)
        return -EINVAL;
    struct signalfd *signalfd = file->object;
    lock_acquire(&signalfd->lock);
    signalfd->mask = mask;
    lock_release(&signalfd->lock);
    wait_queue_wake_all(&lx_process()->signals.signalfd_queue);
    return fd;
}

LX_SYSCALL(signalfd4, int fd, const lx_sigset *guest_mask, size_t size, int flags)
{
    lx_sigset mask;

    if (flags & ~(SFD_CLOEXEC | SFD_NONBLOCK) || size != sizeof mask)
        return -EINVAL;
    if (guest_read(&mask, guest_mask, sizeof mask) < 0)
        return -EFAULT;
    mask &= ~SIGNALS_UNBLOCKABLE;
    if (fd != -1)
        return change_mask(fd, mask);
    struct signalfd *signalfd = heap_alloc(sizeof *signalfd);
    if (!signalfd)
        return -ENOMEM;
    signalfd->mask = mask;
    struct open_file *file = file_create_anonymous(&signalfd_ops, signalfd, 0600, O_RDWR | (flags & O_NONBLOCK));
    if (!file) {
        heap_free(signalfd);
        return -ENOMEM;
    }
    fd = fd_install(file, 0, flags & SFD_CLOEXEC);
    if (fd < 0)
        file_unref(file);
    return fd;
}

LX_SYSCALL(signalfd, int fd, const lx_sigset *guest_mask, size_t size)
{
    return lx_sys_signalfd4(fd, guest_mask, size, 0);
}
