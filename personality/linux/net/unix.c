/* Names of AF_UNIX sockets: paths (a node in the file system that points to the socket) and abstract names. */
#include "personality/linux/net/socket.h"

enum { PATH_OFFSET = 2, PATH_ROOM = 108 };

static int unix_check(int type, int protocol)
{
    if (protocol != 0 && protocol != LX_AF_UNIX)
        return -EPROTONOSUPPORT;
    return type == LX_SOCK_STREAM || type == LX_SOCK_DGRAM || type == LX_SOCK_SEQPACKET || type == LX_SOCK_RAW ? 0 : -ESOCKTNOSUPPORT;
}

static int unix_parse(const struct socket *socket, const unsigned char *address, size_t size, struct socket_name *out_name)
{
    if (size < PATH_OFFSET || size > PATH_OFFSET + PATH_ROOM)
        return -EINVAL;
    memset(out_name, 0, sizeof *out_name);
    memcpy(out_name->bytes, address, size);
    if (out_name->family != LX_AF_UNIX)
        return -EINVAL;
    out_name->size = (uint32_t)size;
    if (size > PATH_OFFSET && out_name->bytes[PATH_OFFSET]) /* a path ends at its NUL, which belongs to the name */
        out_name->size = (uint32_t)(PATH_OFFSET + strnlen((const char *)out_name->bytes + PATH_OFFSET, PATH_ROOM) + 1);
    return 0;
}

static struct list *abstract_bucket(const struct socket_name *name)
{
    uint32_t hash = 5381;
    for (uint32_t i = PATH_OFFSET; i < name->size; i++)
        hash = hash * 33 + name->bytes[i];
    return &net()->unix_abstract[hash % 64];
}

/* Each type has names of its own. */
static struct socket *find_abstract(const struct socket_name *name, int type)
{
    list_for_each(node, abstract_bucket(name)) {
        struct socket *socket = container_of(node, struct socket, bound_node);
        if (socket->type == type && socket->name.size == name->size && memcmp(socket->name.bytes, name->bytes, name->size) == 0)
            return socket;
    }
    return NULL;
}

static int bind_abstract(struct socket *socket, const struct socket_name *name)
{
    scoped_lock(&net()->lock);
    if (find_abstract(name, socket->type))
        return -EADDRINUSE;
    scoped_lock(&socket->lock);
    if (socket->name.size)
        return -EINVAL;
    socket->name = *name;
    list_push(abstract_bucket(name), &socket->bound_node);
    return 0;
}

static int unix_autobind(struct socket *socket)
{
    for (int tries = 0; tries < 1 << 20; tries++) {
        struct socket_name name;
        memset(&name, 0, sizeof name);
        name.family = LX_AF_UNIX;
        char digits[8];
        uint32_t number;
        {
            scoped_lock(&net()->lock);
            number = net()->next_abstract++ & 0xfffff;
        }
        format(digits, sizeof digits, "%05x", number);
        memcpy(name.bytes + PATH_OFFSET + 1, digits, 5);
        name.size = PATH_OFFSET + 6;
        int problem = bind_abstract(socket, &name);
        if (problem != -EADDRINUSE)
            return problem;
    }
    return -ENOSPC;
}

static int unix_bind(struct socket *socket, struct socket_name *name)
{
    if (socket->name.size)
        return -EINVAL;
    if (name->size == PATH_OFFSET)
        return unix_autobind(socket);
    if (!name->bytes[PATH_OFFSET])
        return bind_abstract(socket, name);
    struct dentry *made;
    int problem = vfs_bind_node(NULL, (const char *)name->bytes + PATH_OFFSET, S_IFSOCK | (0777 & ~lx_process()->fs->umask), &made);
    if (problem)
        return problem == -EEXIST ? -EADDRINUSE : problem;
    scoped_dentry dentry = made;
    {
        scoped_lock(&dentry->inode->lock);
        dentry->inode->fifo = socket; /* taken back by unbind: not a reference */
    }
    scoped_lock(&socket->lock);
    socket->name = *name;
    socket->bound_inode = inode_ref(dentry->inode);
    return 0;
}

static void unix_unbind(struct socket *socket)
{
    {
        scoped_lock(&net()->lock);
        list_remove(&socket->bound_node);
    }
    struct inode *inode = socket->bound_inode;
    if (!inode)
        return;
    socket->bound_inode = NULL;
    {
        scoped_lock(&inode->lock);
        inode->fifo = NULL;
    }
    inode_unref(inode);
}

static int unix_find(struct socket *from, const struct socket_name *name, struct socket **out_target)
{
    struct socket *target = NULL;
    if (name->size <= PATH_OFFSET)
        return -EINVAL;
    if (!name->bytes[PATH_OFFSET]) {
        scoped_lock(&net()->lock);
        target = find_abstract(name, from->type);
        if (!target)
            return -ECONNREFUSED;
        socket_ref(target);
    } else {
        struct dentry *found;
        int problem = vfs_lookup(NULL, (const char *)name->bytes + PATH_OFFSET, LOOKUP_FOLLOW, &found);
        if (problem)
            return problem;
        scoped_dentry dentry = found;
        if ((problem = inode_permission(dentry->inode, MAY_WRITE)))
            return problem;
        if (!S_ISSOCK(dentry->inode->mode))
            return -ECONNREFUSED;
        scoped_lock(&dentry->inode->lock);
        target = dentry->inode->fifo;
        if (!target)
            return -ECONNREFUSED;
        socket_ref(target);
    }
    int problem = target->type != from->type ? -EPROTOTYPE : target->type != LX_SOCK_DGRAM && target->state != SOCKET_LISTENING ? -ECONNREFUSED : 0;
    if (problem)
        socket_unref(target);
    else
        *out_target = target;
    return problem;
}

const struct socket_family unix_family = {
    .number = LX_AF_UNIX, .name = "unix", .check = unix_check, .parse = unix_parse, .bind = unix_bind, .autobind = unix_autobind, .unbind = unix_unbind, .find = unix_find,
};
