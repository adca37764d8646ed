/* /dev/pts: a directory with a node for each terminal that is alive. Names come and go by themselves, hence a live file system:
 * nothing that the VFS remembers of it is believed. */
#include "personality/linux/tty/internal.h"

enum { NODE_NUMBER_BASE = 3, NODE_PTMX = 2, TTY_GROUP = 5, FIRST_OFFSET = 2, DEVPTS_MAGIC = 0x1cd1, DT_CHARACTER = 2 };

static const struct inode_ops node_ops = { 0 };

/* The node of a terminal, made when it is first looked for. With a reference. */
static struct inode *node_of(struct tty *tty)
{
    struct tty_roots *roots = tty_roots();
    struct inode *fresh = tty->inode ? NULL : inode_create(roots->devpts, &node_ops, S_IFCHR | 0620, 0);

    if (fresh) {
        fresh->number = tty->number + NODE_NUMBER_BASE;
        fresh->device = lx_makedev(TTY_MAJOR_PTS, tty->number);
        fresh->owner = tty->pseudo ? lx_process()->credentials.fsuid : start_info->user;
        fresh->group = TTY_GROUP;
    }
    lock_acquire(&roots->lock);
    if (!tty->inode) {
        tty->inode = fresh;
        fresh = NULL;
    }
    struct inode *inode = tty->inode ? inode_ref(tty->inode) : NULL;
    lock_release(&roots->lock);
    inode_unref(fresh);
    return inode;
}

static int lookup(struct inode *directory, const char *name, size_t size, struct inode **out_inode)
{
    uint64_t number;

    if (size == 4 && memcmp(name, "ptmx", 4) == 0) {
        struct inode *inode = inode_create(directory->superblock, &node_ops, S_IFCHR | 0666, 0);
        if (!inode)
            return -ENOMEM;
        inode->number = NODE_PTMX;
        inode->device = lx_makedev(5, 2);
        *out_inode = inode;
        return 0;
    }
    bool canonical = size == 1 || (size > 1 && name[0] != '0');
    if (!canonical || parse_number(name, size, &number) != size || number >= TTY_MAXIMUM)
        return -ENOENT;
    struct tty *tty = tty_get((uint32_t)number);
    if (!tty)
        return -ENOENT;
    *out_inode = node_of(tty);
    tty_unref(tty);
    return *out_inode ? 0 : -ENOMEM;
}

static int enumerate(struct inode *directory, int64_t *offset, struct directory_sink *sink)
{
    if (*offset <= FIRST_OFFSET) {
        if (!sink->emit(sink, "ptmx", 4, NODE_PTMX, DT_CHARACTER, FIRST_OFFSET + 1))
            return 0;
        *offset = FIRST_OFFSET + 1;
    }
    for (uint32_t number = (uint32_t)(*offset - FIRST_OFFSET - 1); number < TTY_MAXIMUM; number++) {
        struct tty *tty = tty_get(number);
        char name[12];
        if (!tty)
            continue;
        tty_unref(tty);
        int size = format(name, sizeof name, "%u", number);
        int64_t next = (int64_t)number + FIRST_OFFSET + 2;
        if (!sink->emit(sink, name, (size_t)size, number + NODE_NUMBER_BASE, DT_CHARACTER, next))
            return 0;
        *offset = next;
    }
    return 0;
}

static const struct inode_ops directory_ops = { .lookup = lookup, .enumerate = enumerate };

static int devpts_mount_type(const char *source, const char *options, struct superblock **out_superblock);
static const struct filesystem_type devpts_type = {
    .name = "devpts",
    .magic = DEVPTS_MAGIC,
    .flags = FILESYSTEM_LIVE | FILESYSTEM_USER_MOUNT | FILESYSTEM_NO_DEVICE,
    .mount = devpts_mount_type,
};

static int devpts_mount_type(const char *source, const char *options, struct superblock **out_superblock)
{
    struct superblock *superblock = superblock_create(&devpts_type);

    if (!superblock)
        return -ENOMEM;
    superblock->root = inode_create(superblock, &directory_ops, S_IFDIR | 0755, 0);
    if (!superblock->root)
        return -ENOMEM;
    superblock->root->number = 1;
    superblock->root->link_count = 2;
    *out_superblock = superblock;
    return 0;
}

int devpts_mount(void)
{
    struct tty_roots *roots = tty_roots();
    int result = filesystem_register(&devpts_type);

    if (result == 0)
        result = devpts_mount_type(NULL, NULL, &roots->devpts);
    if (result == 0)
        result = vfs_mount_at("/dev/pts", roots->devpts, 0, "devpts");
    if (result == 0)
        result = vfs_lookup(NULL, "/dev/pts", LOOKUP_DIRECTORY, &roots->devpts_root);
    return result;
}

int devpts_open_node(struct tty *tty, unsigned flags, struct open_file **out_file)
{
    char name[12];

    format(name, sizeof name, "%u", tty->number);
    return vfs_open(tty_roots()->devpts_root, name, flags, 0, out_file);
}
