/* Descriptors that stand for processes: pidfd_open(2) and relatives. An open pidfd holds the process's record; it is readable from the
 * process's end on. */
#include "personality/linux/process/pidfd.h"
#include "personality/linux/process/lifecycle.h"

#include <linux/fcntl.h>
#include <linux/ioctl.h>
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

/* struct pidfd_info of Linux 6.16. */
struct pidfd_info {
    uint64_t mask, cgroup_id;
    uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
    int32_t exit_code;
    uint32_t core_dump_mask, spare;
};
enum { PIDFD_INFO_ALWAYS = 7 /* ids, credentials, cgroup */, PIDFD_INFO_EXIT = 8, PIDFD_INFO_SIZE_FIRST = 64 };
#define PIDFD_GET_INFO_FIRST _IOC(_IOC_READ | _IOC_WRITE, 0xff, 11, 0)

static void fill_info(struct lx_process *process, struct pidfd_info *info)
{
    scoped_lock(&process_table()->lock);
    const struct credentials *of = &process->credentials;
    bool reaped = process->state == PROCESS_DEAD;
    bool wants_exit = info->mask & PIDFD_INFO_EXIT;
    *info = (struct pidfd_info){
        .mask = reaped ? 0 : PIDFD_INFO_ALWAYS,
        .ruid = of->uid, .rgid = of->gid, .euid = of->euid, .egid = of->egid,
        .suid = of->suid, .sgid = of->sgid, .fsuid = of->fsuid, .fsgid = of->fsgid,
    };
    if (!reaped) {
        info->pid = info->tgid = (uint32_t)process->pid;
        info->ppid = process->parent ? (uint32_t)process->parent->pid : 0;
    } else if (wants_exit) {
        info->mask |= PIDFD_INFO_EXIT;
        info->exit_code = process->wait_status;
    }
}

static long pidfd_ioctl(struct open_file *file, unsigned request, uint64_t argument)
{
    struct pidfd_info info;
    size_t size = _IOC_SIZE(request);
    if ((request & ~(unsigned)IOCSIZE_MASK) != PIDFD_GET_INFO_FIRST)
        return -ENOTTY;
    if (!argument || size < PIDFD_INFO_SIZE_FIRST)
        return -EINVAL;
    if (guest_read(&info.mask, (void *)argument, sizeof info.mask) < 0)
        return -EFAULT;
    fill_info(file->object, &info);
    if (!info.mask)
        return -ESRCH;
    return guest_write((void *)argument, &info, size < sizeof info ? size : sizeof info);
}

static const struct file_ops pidfd_ops = {
    .name = "anon_inode:[pidfd]",
    .poll = pidfd_poll,
    .close = pidfd_close,
    .ioctl = pidfd_ioctl,
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
