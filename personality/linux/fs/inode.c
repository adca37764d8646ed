/* Inodes: their life, attributes, permission checks and the books of who writes and who executes.
 * Lock: inode.lock guards the attributes; reading one 32-bit attribute alone needs none. */
#include "personality/linux/fs/dentry.h"
#include "personality/linux/fs/internal.h"
#include "personality/linux/fs/vfs.h"
#include <linux/capability.h>

struct inode *inode_create(struct superblock *superblock, const struct inode_ops *ops, uint32_t mode, size_t extra)
{
    size_t size = (sizeof(struct inode) + 15) & ~15ull;
    struct inode *inode = heap_alloc(size + extra);

    if (!inode && dentry_shrink(1000))
        inode = heap_alloc(size + extra);
    if (!inode)
        return NULL;
    inode->ops = ops;
    inode->superblock = superblock;
    superblock->references++;
    inode->references = 1;
    inode->number = ++superblock->next_inode_number;
    inode->mode = mode;
    inode->link_count = S_ISDIR(mode) ? 2 : 1;
    inode->access_ns = inode->modify_ns = inode->change_ns = inode->birth_ns = (int64_t)lx_realtime_ns();
    list_init(&inode->aliases);
    mutex_init(&inode->content_mutex);
    if (S_ISDIR(mode) && (superblock->type->flags & FILESYSTEM_LIVE))
        inode->flags |= INODE_UNCACHED;
    if (extra)
        inode->data = (char *)inode + size;
    return inode;
}

void inode_unref(struct inode *inode)
{
    if (!inode || --inode->references)
        return;
    struct superblock *superblock = inode->superblock;
    if (inode->ops->release)
        inode->ops->release(inode);
    locks_inode_released(inode);
    heap_free(inode->link_text);
    heap_free(inode);
    superblock_unref(superblock);
}

void inode_touch(struct inode *inode, unsigned which)
{
    int64_t now = (int64_t)lx_realtime_ns();

    scoped_lock(&inode->lock);
    if (which & INODE_ACCESS)
        inode->access_ns = now;
    if (which & INODE_MODIFY)
        inode->modify_ns = now;
    if (which & INODE_CHANGE)
        inode->change_ns = now;
}

/* ---- Permission ---- */

static const struct credentials *current_credentials(void)
{
    struct lx_thread *thread = lx_current();

    if (!thread || !thread->process)
        return NULL; /* start-up, which may all */
    return thread->access_credentials ? thread->access_credentials : &thread->process->credentials;
}

static bool in_group(const struct credentials *credentials, uint32_t group)
{
    if (credentials->fsgid == group)
        return true;
    for (uint32_t i = 0; i < credentials->group_count && i < 64; i++)
        if (credentials->groups[i] == group)
            return true;
    return false;
}

static bool has_capability(const struct credentials *credentials, int capability)
{
    return !credentials || (credentials->cap_effective >> capability & 1);
}

int inode_permission(const struct inode *inode, unsigned wanted)
{
    const struct credentials *credentials = current_credentials();
    uint32_t mode = inode->mode, bits;

    if (!credentials)
        return 0;
    if (credentials->fsuid == inode->owner)
        bits = mode >> 6;
    else if (in_group(credentials, inode->group))
        bits = mode >> 3;
    else
        bits = mode;
    if ((wanted & ~bits & 7) == 0)
        return 0;
    /* capabilities(7): DAC_OVERRIDE passes all but execution of what nobody may execute; DAC_READ_SEARCH reading and searching. */
    if (S_ISDIR(mode)) {
        if (has_capability(credentials, CAP_DAC_OVERRIDE))
            return 0;
        return !(wanted & MAY_WRITE) && has_capability(credentials, CAP_DAC_READ_SEARCH) ? 0 : -EACCES;
    }
    if ((!(wanted & MAY_EXECUTE) || (mode & 0111)) && has_capability(credentials, CAP_DAC_OVERRIDE))
        return 0;
    return wanted == MAY_READ && has_capability(credentials, CAP_DAC_READ_SEARCH) ? 0 : -EACCES;
}

bool inode_owner_or_capable(const struct inode *inode)
{
    const struct credentials *credentials = current_credentials();

    return !credentials || credentials->fsuid == inode->owner || has_capability(credentials, CAP_FOWNER);
}

/* ---- ETXTBSY ---- */

int inode_deny_write(struct inode *inode)
{
    scoped_lock(&inode->lock);
    if (inode->writers > 0)
        return -ETXTBSY;
    inode->writers--;
    return 0;
}

void inode_allow_write(struct inode *inode)
{
    scoped_lock(&inode->lock);
    assert(inode->writers < 0);
    inode->writers++;
}

int inode_get_write(struct inode *inode)
{
    scoped_lock(&inode->lock);
    if (inode->writers < 0)
        return -ETXTBSY;
    inode->writers++;
    return 0;
}

void inode_put_write(struct inode *inode)
{
    scoped_lock(&inode->lock);
    assert(inode->writers > 0);
    inode->writers--;
}

/* ---- Reading and asking ---- */

int64_t inode_read(struct inode *inode, void *buffer, size_t size, uint64_t offset)
{
    size_t done = 0;

    if (!inode->ops->read)
        return -EINVAL;
    while (done < size) {
        int64_t count = inode->ops->read(inode, (char *)buffer + done, size - done, offset + done);
        if (count < 0)
            return count;
        if (count == 0)
            break;
        done += (size_t)count;
    }
    return (int64_t)done;
}

int inode_memory_object(struct inode *inode, struct memory_object **out_object)
{
    return inode->ops->memory_object ? inode->ops->memory_object(inode, out_object) : -ENODEV;
}

int vfs_stat(struct inode *inode, struct stat_data *out)
{
    scoped_lock(&inode->lock);
    *out = (struct stat_data){
        .device = inode->superblock->device,
        .number = inode->number,
        .size = inode->size,
        .blocks = inode->blocks,
        .node_device = inode->device,
        .mode = inode->mode,
        .link_count = inode->link_count,
        .owner = inode->owner,
        .group = inode->group,
        .block_size = 4096,
        .access_ns = inode->access_ns,
        .modify_ns = inode->modify_ns,
        .change_ns = inode->change_ns,
        .birth_ns = inode->birth_ns,
    };
    return 0;
}
