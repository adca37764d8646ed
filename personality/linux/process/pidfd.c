/* Descriptors that stand for processes: pidfd_open(2) and relatives. An open pidfd holds the process's record; it is readable from the
 * process's end on. */
#include "personality/linux/process/pidfd.h"
#include "personality/linux/process/lifecycle.h"

#include <linux/fcntl.h>
#include <linux/poll.h>
#include <linux/pidfd.h>
#include <linux/stat.h>

static uint32_t pidfd_poll(struct open_file *file, struct poll_table *table)
{
    struct lx_process *process = file->object;
    poll_wait(table, &process->end_queue);
    return process->state == PROCESS_ZOMBIE || process->state == PROCESS_DEAD ? POLLIN | POLLRDNORM : 0;
}

static void pidfd_close(struct open_file *file)
{
    process_unref(file->object);
}

static void pidfd_describe(struct open_file *file, char *text, size_t size)
{
    struct lx_process *process = file->object;
    int pid = process->state == PROCESS_DEAD ? -1 : process->pid;
    format(text, size, "Pid:\t%d\nNSpid:\t%d\n", pid, pid);
}

static const struct file_ops pidfd_ops = {
    .name = "anon_inode:[pidfd]",
    .poll = pidfd_poll,
    .close = pidfd_close,
    .describe = pidfd_describe,
    .positionless = true,
};

struct lx_process *pidfd_process(struct open_file *file)
{
    if (file->ops != &pidfd_ops)
        return NULL;
    struct lx_process *process = file->object;
    process->references++;
    return process;
}

int pidfd_create(struct lx_process *process, unsigned flags)
{
    process->references++;
    struct open_file *file = file_create_anonymous(&pidfd_ops, process, 0600, O_RDWR | (flags & PIDFD_NONBLOCK));
    if (!file) {
        process_unref(process);
        return -ENOMEM;
    }
    file->poll_queue = &process->end_queue;
    int fd = fd_install(file, 0, /*close_on_exec=*/true);
    if (fd < 0)
        file_unref(file);
    return fd;
}

LX_SYSCALL(pidfd_open, int pid, unsigned flags)
{
    if ((flags & ~PIDFD_NONBLOCK) || pid <= 0)
        return -EINVAL;
    struct lx_process *process = process_get(pid);
    if (!process) {
        lock_acquire(&process_table()->lock);
        bool is_thread = thread_find(pid);
        lock_release(&process_table()->lock);
        return is_thread ? -EINVAL : -ESRCH; /* pidfd_open(2): only leaders */
    }
    int fd = pidfd_create(process, flags);
    process_unref(process);
    return fd;
}

LX_SYSCALL(pidfd_getfd, int pidfd, int target_fd, unsigned flags)
{
    if (flags)
        return -EINVAL;
    scoped_file file = fd_get(pidfd);
    struct lx_process *process = file ? pidfd_process(file) : NULL;
    if (!process)
        return -EBADF;
    struct open_file *target = NULL;
    long result = -ESRCH;
    /* The table cannot go away under us: its process drops it before it is marked as ended, under the table's lock. */
    lock_acquire(&process_table()->lock);
    struct fd_table *files = process->state < PROCESS_ZOMBIE ? process->files : NULL;
    if (files) {
        scoped_lock(&files->lock);
        if (target_fd >= 0 && (uint32_t)target_fd < files->size && files->entries[target_fd].file)
            target = file_ref(files->entries[target_fd].file);
        result = target ? 0 : -EBADF;
    }
    lock_release(&process_table()->lock);
    if (result == 0 && process != lx_process() && !lx_capable(19 /* CAP_SYS_PTRACE */) && process->credentials.uid != lx_process()->credentials.uid)
        result = -EPERM;
    if (result == 0)
        result = fd_install(target, 0, /*close_on_exec=*/true);
    if (result < 0 && target)
        file_unref(target);
    process_unref(process);
    return result;
}
