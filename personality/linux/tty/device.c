/* Character devices: the memory devices (null, zero, full, random, urandom), which device numbers are terminals, and /dev itself. */
#include "personality/linux/tty/internal.h"

enum { MAJOR_MEMORY = 1, MAJOR_TTY_ALIAS = 5, ZERO_CHUNK = 4096, RANDOM_CHUNK = 256, PTS_MAJORS = 8 };
#define RNDGETENTCNT 0x80045200u
#define ENTROPY_BITS 256

static const char zeros[ZERO_CHUNK];

/* ---- Memory devices ---- */

static int64_t null_read(struct open_file *file, struct io_buffer *to, int64_t *position)
{
    return 0;
}

static int64_t null_write(struct open_file *file, struct io_buffer *from, int64_t *position)
{
    int64_t size = (int64_t)from->size;

    from->size = 0;
    return size;
}

static int64_t null_seek(struct open_file *file, int64_t offset, int whence)
{
    return file->position = 0;
}

static int64_t zero_read(struct open_file *file, struct io_buffer *to, int64_t *position)
{
    int64_t total = 0;

    while (to->size) {
        int64_t copied = io_copy_out(to, zeros, to->size < sizeof zeros ? to->size : sizeof zeros);
        if (copied <= 0)
            return total ? total : -EFAULT;
        total += copied;
        if (to->size && signal_pending())
            break;
    }
    return total;
}

static int64_t full_write(struct open_file *file, struct io_buffer *from, int64_t *position)
{
    return from->size ? -ENOSPC : 0;
}

static int64_t random_read(struct open_file *file, struct io_buffer *to, int64_t *position)
{
    char chunk[RANDOM_CHUNK];
    int64_t total = 0;

    while (to->size) {
        size_t size = to->size < sizeof chunk ? to->size : sizeof chunk;
        int result = bly->random_read(chunk, size);
        int64_t copied = result < 0 ? result : io_copy_out(to, chunk, size);
        if (copied <= 0)
            return total ? total : copied ? copied : -EFAULT;
        total += copied;
        if (to->size && signal_pending())
            break;
    }
    return total;
}

static long random_ioctl(struct open_file *file, unsigned request, uint64_t argument)
{
    return request == RNDGETENTCNT ? guest_store32((uint32_t *)argument, ENTROPY_BITS) : -EINVAL;
}

static uint32_t random_poll(struct open_file *file, struct poll_table *table)
{
    return POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM;
}

static const struct file_ops null_ops = { .name = "null", .read = null_read, .write = null_write, .seek = null_seek };
static const struct file_ops zero_ops = { .name = "zero", .read = zero_read, .write = null_write, .seek = null_seek };
static const struct file_ops full_ops = { .name = "full", .read = zero_read, .write = full_write, .seek = null_seek };
static const struct file_ops random_ops = { .name = "random", .read = random_read, .write = null_write, .seek = null_seek,
                                            .ioctl = random_ioctl, .poll = random_poll };

static const struct memory_device {
    unsigned minor;
    const struct file_ops *ops;
} memory_devices[] = { { 3, &null_ops }, { 5, &zero_ops }, { 7, &full_ops }, { 8, &random_ops }, { 9, &random_ops } };

const struct file_ops *device_ops(unsigned major, unsigned minor)
{
    for (size_t i = 0; major == MAJOR_MEMORY && i < sizeof memory_devices / sizeof *memory_devices; i++)
        if (memory_devices[i].minor == minor)
            return memory_devices[i].ops;
    return NULL;
}

/* ---- Terminals by number ---- */

static struct tty *terminal_of(unsigned major, unsigned minor, int *out_error)
{
    *out_error = -ENXIO;
    if (major == MAJOR_TTY_ALIAS && minor == 0) /* /dev/tty: the caller's own */
        return tty_of_process();
    if (major == MAJOR_TTY_ALIAS && minor == 1) /* /dev/console */
        return tty_roots()->main ? tty_ref(tty_roots()->main) : NULL;
    *out_error = -EIO; /* a pseudo terminal whose master has gone */
    if (major >= TTY_MAJOR_PTS && major < TTY_MAJOR_PTS + PTS_MAJORS)
        return tty_get((major - TTY_MAJOR_PTS) * 256 + minor);
    *out_error = -ENXIO;
    return NULL;
}

int device_open(unsigned major, unsigned minor, struct inode *inode, struct dentry *dentry, unsigned flags,
                struct open_file **out_file)
{
    int result;

    if (major == MAJOR_TTY_ALIAS && minor == 2)
        return ptmx_open(inode, dentry, flags, out_file);
    struct tty *tty = terminal_of(major, minor, &result);
    if (!tty)
        return result;
    if (major == MAJOR_TTY_ALIAS)
        flags |= O_NOCTTY; /* neither name makes a terminal the controlling one */
    result = tty_open(tty, inode, dentry, flags, out_file);
    tty_unref(tty);
    return result;
}

/* ---- /dev ---- */

static const struct device_node {
    const char *path;
    unsigned mode;
    unsigned major, minor;
    const char *target;
} nodes[] = {
    { "/dev/null", S_IFCHR | 0666, 1, 3, NULL },
    { "/dev/zero", S_IFCHR | 0666, 1, 5, NULL },
    { "/dev/full", S_IFCHR | 0666, 1, 7, NULL },
    { "/dev/random", S_IFCHR | 0666, 1, 8, NULL },
    { "/dev/urandom", S_IFCHR | 0666, 1, 9, NULL },
    { "/dev/tty", S_IFCHR | 0666, 5, 0, NULL },
    { "/dev/ptmx", S_IFCHR | 0666, 5, 2, NULL },
    { "/dev/pts", S_IFDIR | 0755, 0, 0, NULL },
    { "/dev/shm", S_IFDIR | 01777, 0, 0, NULL },
    { "/dev/mqueue", S_IFDIR | 01777, 0, 0, NULL },
    { "/dev/fd", S_IFLNK | 0777, 0, 0, "/proc/self/fd" },
    { "/dev/stdin", S_IFLNK | 0777, 0, 0, "/proc/self/fd/0" },
    { "/dev/stdout", S_IFLNK | 0777, 0, 0, "/proc/self/fd/1" },
    { "/dev/stderr", S_IFLNK | 0777, 0, 0, "/proc/self/fd/2" },
};

int lx_dev_init(void)
{
    for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++) {
        const struct device_node *node = &nodes[i];
        int result = vfs_make_node(NULL, node->path, node->mode, lx_makedev(node->major, node->minor), node->target);
        if (result < 0 && result != -EEXIST)
            return result;
    }
    if (start_info->flags & BLY_START_TERMINAL) {
        struct tty *tty = lx_tty_create(0, start_info->terminal_input, start_info->terminal_output, start_info->terminal_rows,
                                        start_info->terminal_columns);
        if (!tty)
            return -ENOMEM;
        tty_roots()->main = tty;
        int result = vfs_make_node(NULL, "/dev/console", S_IFCHR | 0600, lx_makedev(MAJOR_TTY_ALIAS, 1), NULL);
        if (result < 0 && result != -EEXIST)
            return result;
    }
    return devpts_mount();
}
