/* Extended attributes of the layer: a list in the heap of what was set here, over the lower file's `user.` ones.
 * inode->lock guards the list; names are few, so it is searched in order. */
#include "personality/linux/fs/layer.h"
#include <linux/xattr.h>

static struct layer_xattr *find(const struct layer_node *node, const char *name)
{
    for (struct layer_xattr *xattr = node->xattrs; xattr; xattr = xattr->next)
        if (strcmp(xattr->name, name) == 0)
            return xattr;
    return NULL;
}

static bool lower_may_have(const struct inode *inode, const char *name)
{
    return layer_node(inode)->lower_path && (S_ISREG(inode->mode) || S_ISDIR(inode->mode)) &&
           (!*name || strncmp(name, XATTR_USER_PREFIX, XATTR_USER_PREFIX_LEN) == 0);
}

static int64_t lower_get(const struct inode *inode, const char *name, void *buffer, size_t size)
{
    char uri[LAYER_URI_MAX];
    int uri_size = layer_uri(layer_of(inode), layer_node(inode)->lower_path, NULL, 0, uri, sizeof(uri));

    return uri_size < 0 ? uri_size : bly->stream_get_named(uri, (size_t)uri_size, name, buffer, size);
}

int64_t layer_get_xattr(struct inode *inode, const char *name, void *buffer, size_t size)
{
    {
        scoped_lock(&inode->lock);
        const struct layer_xattr *xattr = find(layer_node(inode), name);
        if (xattr) {
            if (xattr->removed)
                return -ENODATA;
            if (size && xattr->size > size)
                return -ERANGE;
            if (size)
                memcpy(buffer, xattr->value, xattr->size);
            return xattr->size;
        }
    }
    if (!lower_may_have(inode, name))
        return -ENODATA;
    int64_t result = lower_get(inode, name, buffer, size);
    return result == -EOPNOTSUPP ? -ENODATA : result;
}

int layer_set_xattr(struct inode *inode, const char *name, const void *value, size_t size, unsigned flags)
{
    struct layer_node *node = layer_node(inode);
    bool known_below = false;
    size_t name_size = strlen(name);

    if (lower_may_have(inode, name))
        known_below = lower_get(inode, name, NULL, 0) >= 0;
    struct layer_xattr *fresh = heap_alloc(sizeof(*fresh) + name_size + 1);
    void *copy = value && size ? heap_alloc(size) : NULL;
    if (!fresh || (value && size && !copy)) {
        heap_free(fresh);
        heap_free(copy);
        return -ENOSPC;
    }
    if (copy)
        memcpy(copy, value, size);
    int error = 0;
    {
        scoped_lock(&inode->lock);
        struct layer_xattr *xattr = find(node, name);
        bool exists = xattr ? !xattr->removed : known_below;
        if ((flags & XATTR_CREATE) && exists) {
            error = -EEXIST;
        } else if (((flags & XATTR_REPLACE) || !value) && !exists) {
            error = -ENODATA;
        } else {
            if (!xattr) {
                memcpy(fresh->name, name, name_size + 1);
                fresh->next = node->xattrs;
                node->xattrs = xattr = fresh;
                fresh = NULL;
            }
            void *old = xattr->value;
            xattr->value = copy;
            xattr->size = (uint32_t)size;
            xattr->removed = !value;
            copy = old;
        }
    }
    heap_free(fresh);
    heap_free(copy);
    if (error == 0) {
        layer_pin(inode);
        inode_touch(inode, INODE_CHANGE);
    }
    return error;
}

int64_t layer_list_xattr(struct inode *inode, char *buffer, size_t size)
{
    struct layer_node *node = layer_node(inode);
    char *below = NULL;
    int64_t below_size = 0, total = 0;
    bool too_small = false;

    if (lower_may_have(inode, "")) {
        below = heap_alloc(8192);
        if (!below)
            return -ENOMEM;
        below_size = lower_get(inode, "", below, 8192);
        if (below_size < 0)
            below_size = 0;
    }
    {
        scoped_lock(&inode->lock);
        for (const struct layer_xattr *xattr = node->xattrs; xattr; xattr = xattr->next) {
            size_t length = strlen(xattr->name) + 1;
            if (xattr->removed)
                continue;
            if (size && (size_t)total + length > size)
                too_small = true;
            else if (size)
                memcpy(buffer + total, xattr->name, length);
            total += (int64_t)length;
        }
        for (int64_t at = 0; at < below_size;) {
            size_t length = strnlen(below + at, (size_t)(below_size - at)) + 1;
            if (!find(node, below + at)) {
                if (size && (size_t)total + length > size)
                    too_small = true;
                else if (size)
                    memcpy(buffer + total, below + at, length);
                total += (int64_t)length;
            }
            at += (int64_t)length;
        }
    }
    heap_free(below);
    return too_small ? -ERANGE : total;
}

void layer_free_xattrs(struct layer_node *node)
{
    for (struct layer_xattr *xattr = node->xattrs, *next; xattr; xattr = next) {
        next = xattr->next;
        heap_free(xattr->value);
        heap_free(xattr);
    }
    node->xattrs = NULL;
}
