/* Named pipes: opening one. A FIFO's inode points to its pipe as long as anybody has it open (inode->fifo, guarded by
 * inode->lock); from then on it is a pipe like any other.
 *
 * Lock order: inode.lock, then pipe.lock. */
#include "personality/linux/fs/pipe.h"
#include "personality/linux/fs/standard.h"
#include "personality/linux/fs/vfs.h"

/* Waits until the other end has been opened once more than `seen` times: the partner may have gone again by the time we
 * run, which is still a successful open (fifo(7)). pipe.lock is held, and released meanwhile. */
static int wait_for_partner(struct pipe *pipe, const uint32_t *opens)
{
    uint32_t seen = *opens;
    int result = 0;

    wait_until(&pipe->opened, &pipe->lock, *opens != seen, BLY_FOREVER, result);
    return result < 0 ? -ERESTARTSYS : 0;
}

/* A pipe of the host's (fs/standard.c) opened by /dev/stdin. */
static int open_other(struct inode *inode, struct dentry *dentry, unsigned flags, struct open_file **out_file)
{
    struct open_file *file = file_create(&pipe_ops, dentry, inode, flags);
    int result;

    if (!file)
        return -ENOMEM;
    result = inode->ops->open(inode, file);
    if (result < 0)
        file_unref(file); /* without an object there is nothing to count out */
    else
        *out_file = file;
    return result;
}

int fifo_open(struct inode *inode, struct dentry *dentry, unsigned flags, struct open_file **out_file)
{
    unsigned access = flags & O_ACCMODE;

    if (lx_standard_owns(inode))
        return open_other(inode, dentry, flags, out_file);
    struct pipe *fresh = pipe_create(), *pipe;
    struct open_file *file = fresh ? file_create(&pipe_ops, dentry, inode, flags) : NULL;
    int result = 0;

    if (!file) {
        if (fresh)
            pipe_free(fresh);
        return -ENOMEM;
    }
    lock_acquire(&inode->lock);
    pipe = inode->fifo;
    if (access == O_WRONLY && (flags & O_NONBLOCK) && (!pipe || (pipe->named && !pipe->readers))) {
        result = -ENXIO;
    } else if (!pipe) {
        pipe = inode->fifo = fresh;
        pipe->fifo_inode = inode;
        pipe->named = true;
        fresh = NULL;
    }
    if (result == 0) {
        file->object = pipe;
        lock_acquire(&pipe->lock); /* until we wait: a partner may come and be gone as soon as our end is counted */
        pipe_add_ends(pipe, flags);
    }
    lock_release(&inode->lock);
    if (fresh)
        pipe_free(fresh);
    if (result < 0) {
        file->object = NULL; /* pipe_close has nothing to count out */
        file_unref(file);
        return result;
    }

    file->poll_queue = access == O_RDONLY ? &pipe->readable : access == O_WRONLY ? &pipe->writable : NULL;
    if (!pipe->named) {
        ; /* of pipe(2), through /proc/self/fd: open as it is */
    } else if (access == O_RDONLY && !pipe->writers) {
        if (flags & O_NONBLOCK)
            file->position = pipe->writer_opens;
        else
            result = wait_for_partner(pipe, &pipe->writer_opens);
    } else if (access == O_WRONLY && !pipe->readers) {
        result = wait_for_partner(pipe, &pipe->reader_opens);
    }
    lock_release(&pipe->lock);
    if (result < 0) {
        file_unref(file);
        return result;
    }
    *out_file = file;
    return 0;
}
