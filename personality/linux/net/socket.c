/* Socket objects: making, naming, connecting, accepting, shutting down, polling. See socket.h. */
#include "personality/linux/net/socket.h"

enum { DEFAULT_BUFFER = 212992, LISTEN_MAX = 4096 };
enum { FIONREAD_REQUEST = 0x541b, SIOCATMARK_REQUEST = 0x8905, SIOCOUTQ_REQUEST = 0x5411, FIOASYNC_REQUEST = 0x5452, FIONBIO_REQUEST = 0x5421 };

int lx_net_init(void)
{
    struct net_state *state = heap_alloc(sizeof *state);
    if (!state)
        return -ENOMEM;
    for (size_t i = 0; i < 64; i++)
        list_init(&state->unix_abstract[i]);
    list_init(&state->bound[0]);
    list_init(&state->bound[1]);
    list_init(&state->bound[2]);
    list_init(&state->flying);
    state->next_ephemeral = 32768;
    lx_kernel->net = state;
    return 0;
}

struct socket_credentials socket_own_credentials(void)
{
    struct lx_process *process = lx_process();
    return (struct socket_credentials){ process->pid, process->credentials.uid, process->credentials.gid };
}

struct socket *socket_create(const struct socket_family *family, int type, int protocol)
{
    struct socket *socket = heap_alloc(sizeof *socket);
    if (!socket)
        return NULL;
    socket->references = 1;
    socket->family = family;
    socket->type = type;
    socket->protocol = protocol;
    wait_queue_init(&socket->queue);
    list_init(&socket->packets);
    list_init(&socket->pending);
    list_init(&socket->pending_node);
    list_init(&socket->bound_node);
    list_init(&socket->flight_node);
    socket->receive_limit = socket->send_limit = DEFAULT_BUFFER;
    socket->low_water = 1;
    socket->urgent = URGENT_NONE;
    socket->credentials = socket_own_credentials();
    socket->peer_credentials = (struct socket_credentials){ 0, ~0u, ~0u };
    return socket;
}

void socket_unref(struct socket *socket)
{
    if (--socket->references)
        return;
    list_for_each_safe(node, after, &socket->packets)
        packet_free(container_of(node, struct packet, node));
    heap_free(socket->kept_options);
    heap_free(socket);
}

struct socket *socket_peer(struct socket *socket)
{
    scoped_lock(&socket->lock);
    return socket->peer ? socket_ref(socket->peer) : NULL;
}

int socket_take_error(struct socket *socket)
{
    scoped_lock(&socket->lock);
    int error = socket->error;
    socket->error = 0;
    return -error;
}

uint64_t socket_deadline(uint64_t timeout_ns, bool no_wait)
{
    return no_wait ? 0 : timeout_ns ? lx_monotonic_ns() + timeout_ns : BLY_FOREVER;
}

/* Tells the other end that this one is gone. `reset`: with data that nobody will read. */
static void hang_up(struct socket *socket, bool reset)
{
    struct socket *peer;
    {
        scoped_lock(&socket->lock);
        peer = socket->peer;
        socket->peer = NULL;
        socket->state = SOCKET_DISCONNECTED;
    }
    if (!peer)
        return;
    bool streams = socket->type != LX_SOCK_DGRAM;
    {
        scoped_lock(&peer->lock);
        if (streams) {
            peer->peer_closed = true;
            peer->receive_closed = true;
            if (reset) {
                peer->peer_reset = true;
                peer->error = ECONNRESET;
            }
        } else if (peer->peer == socket) {
            peer->error = ECONNRESET;
        }
    }
    wait_queue_wake(&peer->queue, POLLIN | POLLOUT | POLLHUP | POLLRDHUP | POLLERR, 1 << 30);
    socket_unref(peer);
}

/* The last descriptor is gone: the object may live on as somebody's peer. */
static void socket_close(struct open_file *file)
{
    struct socket *socket = file->object;
    struct list pending;
    bool unread;
    list_init(&pending);
    if (socket->family->unbind)
        socket->family->unbind(socket);
    {
        scoped_lock(&socket->lock);
        socket->closed = true;
        unread = (socket->received_bytes > 0 && socket->type != LX_SOCK_DGRAM) || (socket->linger && socket->linger_seconds == 0 && socket->family != &unix_family);
        while (!list_empty(&socket->pending)) {
            struct list *first = socket->pending.next;
            list_remove(first);
            list_push(&pending, first);
        }
        socket->pending_count = 0;
    }
    list_for_each_safe(node, after, &pending) {
        struct socket *waiting = container_of(node, struct socket, pending_node);
        list_remove(node);
        hang_up(waiting, true);
        socket_unref(waiting);
    }
    hang_up(socket, unread);
    struct list unread_packets;
    list_init(&unread_packets);
    {
        scoped_lock(&socket->lock);
        while (!list_empty(&socket->packets)) {
            struct list *first = socket->packets.next;
            list_remove(first);
            list_push(&unread_packets, first);
        }
        socket->received_bytes = 0;
    }
    list_for_each_safe(node, after, &unread_packets)
        packet_free(container_of(node, struct packet, node)); /* may close files that were in flight: no lock held */
    wait_queue_wake(&socket->queue, POLLOUT | POLLERR | POLLHUP, 1 << 30);
    bool may_leave_garbage = socket->family == &unix_family;
    socket_unref(socket);
    if (may_leave_garbage)
        rights_collect();
}

/* ---- Polling and ioctls ---- */

static uint32_t socket_poll(struct open_file *file, struct poll_table *table)
{
    struct socket *socket = file->object;
    poll_wait(table, &socket->queue);
    struct socket *peer;
    uint32_t events = 0;
    {
        scoped_lock(&socket->lock);
        if (socket->error)
            events |= POLLERR;
        if (socket->urgent >= 0)
            events |= POLLPRI;
        if (socket->state == SOCKET_LISTENING)
            return events | (socket->pending_count ? POLLIN | POLLRDNORM : 0);
        if (socket_readable(socket) || socket->receive_closed)
            events |= POLLIN | POLLRDNORM;
        if (socket->receive_closed)
            events |= POLLRDHUP;
        if (socket->peer_closed || (socket->receive_closed && socket->send_closed))
            events |= POLLHUP;
        bool connection = socket->type != LX_SOCK_DGRAM;
        if (connection && socket->state == SOCKET_FREE && socket->error) /* a connect that was refused */
            return events | POLLIN | POLLRDNORM | POLLRDHUP | POLLOUT | POLLWRNORM | POLLHUP;
        if (connection && socket->state == SOCKET_FREE)
            return events | POLLOUT | POLLWRNORM | POLLHUP;
        if (socket->peer_closed || socket->send_closed || !socket->peer)
            events |= POLLOUT | POLLWRNORM;
        peer = socket->peer ? socket_ref(socket->peer) : NULL;
    }
    if (peer) {
        {
            scoped_lock(&peer->lock);
            if (peer->received_bytes < peer->receive_limit || peer->closed)
                events |= POLLOUT | POLLWRNORM;
        }
        socket_unref(peer);
    }
    return events;
}

static long socket_ioctl(struct open_file *file, unsigned request, uint64_t argument)
{
    struct socket *socket = file->object;
    int32_t value = 0;
    switch (request) {
    case FIONREAD_REQUEST: {
        scoped_lock(&socket->lock);
        if (socket->state == SOCKET_LISTENING)
            return -EINVAL;
        if (socket->type == LX_SOCK_DGRAM) {
            struct list *first = list_first(&socket->packets);
            value = first ? (int32_t)container_of(first, struct packet, node)->size : 0;
        } else {
            value = (int32_t)socket->received_bytes;
            if (socket->urgent != URGENT_NONE && !socket->oob_inline)
                value = (int32_t)(socket->urgent_mark - socket->read_bytes);
        }
        break;
    }
    case SIOCOUTQ_REQUEST: {
        struct socket *peer = socket_peer(socket);
        if (peer) {
            value = (int32_t)peer->received_bytes;
            socket_unref(peer);
        }
        break;
    }
    case SIOCATMARK_REQUEST:
        if (!socket_is_stream(socket))
            return -ENOTTY;
        {
            scoped_lock(&socket->lock);
            value = socket_at_mark(socket);
        }
        break;
    default: {
        long result = interface_ioctl(request, argument);
        return result == -515 ? -ENOTTY : result;
    }
    }
    return guest_write((void *)argument, &value, sizeof value);
}

static int64_t socket_file_read(struct open_file *file, struct io_buffer *to, int64_t *position)
{
    struct message message = { .buffer = to };
    int64_t result = socket_receive(file, &message);
    for (uint32_t i = 0; i < message.rights_count; i++) /* read(2) has no place for descriptors: they are closed */
        file_unref(message.rights[i]);
    heap_free(message.rights);
    return result;
}

static int64_t socket_file_write(struct open_file *file, struct io_buffer *from, int64_t *position)
{
    struct message message = { .buffer = from };
    return socket_send(file, &message);
}

const struct file_ops socket_ops = {
    .name = "socket", .read = socket_file_read, .write = socket_file_write, .poll = socket_poll, .ioctl = socket_ioctl,
    .close = socket_close, .positionless = true,
};

int socket_get(int fd, struct open_file **out_file)
{
    struct open_file *file = fd_get(fd);
    if (!file)
        return -EBADF;
    if (file->ops != &socket_ops || (file->flags & O_PATH)) {
        bool path_only = file->flags & O_PATH;
        file_unref(file);
        return path_only ? -EBADF : -ENOTSOCK;
    }
    *out_file = file;
    return 0;
}

int socket_install(struct socket *socket, int type_flags)
{
    struct open_file *file = file_create_anonymous(&socket_ops, socket, S_IFSOCK | 0777, O_RDWR | (type_flags & LX_SOCK_NONBLOCK ? O_NONBLOCK : 0));
    if (!file) {
        socket_unref(socket);
        return -ENFILE;
    }
    file->poll_queue = &socket->queue;
    int fd = fd_install(file, 0, type_flags & LX_SOCK_CLOEXEC);
    if (fd < 0)
        file_unref(file);
    return fd;
}

/* ---- Addresses of the guest ---- */

int socket_read_address(const struct socket *socket, const void *guest_address, int size, struct socket_name *out_name)
{
    unsigned char bytes[128];
    if (size < 0 || (size_t)size > sizeof bytes)
        return -EINVAL;
    int problem = guest_read(bytes, guest_address, (size_t)size);
    return problem ? problem : socket->family->parse(socket, bytes, (size_t)size, out_name);
}

int socket_write_address(const struct socket_name *name, void *guest_address, int *guest_size)
{
    if (!guest_address)
        return 0;
    int room;
    int problem = guest_read(&room, guest_size, sizeof room);
    if (problem)
        return problem;
    if (room < 0)
        return -EINVAL;
    int size = (int)name->size;
    problem = guest_write(guest_address, name->bytes, (size_t)(room < size ? room : size));
    return problem ? problem : guest_write(guest_size, &size, sizeof size);
}

/* An unnamed end is told by its family alone. */
static struct socket_name shown_name(const struct socket *socket, const struct socket_name *name)
{
    struct socket_name shown = *name;
    if (!shown.size) {
        memset(&shown, 0, sizeof shown);
        shown.family = (uint16_t)socket->family->number;
        shown.size = socket->family == &inet_family ? 16 : socket->family == &inet6_family ? 28 : 2;
    }
    return shown;
}

/* ---- System calls ---- */

static const struct socket_family *family_of(int number)
{
    static const struct socket_family *const families[] = { &unix_family, &inet_family, &inet6_family, &netlink_family };
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (families[i]->number == number)
            return families[i];
    return NULL;
}

LX_SYSCALL(socket, int family_number, int type_and_flags, int protocol)
{
    int type = type_and_flags & 0xf, flags = type_and_flags & ~0xf;
    if (flags & ~(LX_SOCK_CLOEXEC | LX_SOCK_NONBLOCK))
        return -EINVAL;
    if (family_number < 0 || family_number >= 46)
        return -EAFNOSUPPORT;
    if (type < 1 || type > 10)
        return -EINVAL;
    const struct socket_family *family = family_of(family_number);
    if (!family)
        return -EAFNOSUPPORT;
    int problem = family->check(type, protocol);
    if (problem)
        return problem;
    if (type == LX_SOCK_RAW) /* unix(7), netlink(7): the same as datagrams */
        type = LX_SOCK_DGRAM;
    struct socket *socket = socket_create(family, type, protocol);
    return socket ? socket_install(socket, flags) : -ENOMEM;
}

static void join(struct socket *a, struct socket *b)
{
    a->peer = socket_ref(b);
    b->peer = socket_ref(a);
    a->state = b->state = SOCKET_CONNECTED;
    a->peer_credentials = b->credentials;
    b->peer_credentials = a->credentials;
}

LX_SYSCALL(socketpair, int family_number, int type_and_flags, int protocol, int *guest_pair)
{
    int type = type_and_flags & 0xf, flags = type_and_flags & ~0xf;
    if (flags & ~(LX_SOCK_CLOEXEC | LX_SOCK_NONBLOCK))
        return -EINVAL;
    const struct socket_family *family = family_of(family_number);
    if (!family)
        return -EAFNOSUPPORT;
    int problem = family->check(type, protocol);
    if (problem)
        return problem;
    if (family != &unix_family)
        return -EOPNOTSUPP;
    if (type == LX_SOCK_RAW)
        type = LX_SOCK_DGRAM;
    struct socket *a = socket_create(family, type, protocol), *b = socket_create(family, type, protocol);
    if (!a || !b) {
        if (a)
            socket_unref(a);
        if (b)
            socket_unref(b);
        return -ENOMEM;
    }
    join(a, b);
    int pair[2] = { socket_install(a, flags), -1 };
    if (pair[0] < 0) {
        hang_up(b, false);
        socket_unref(b);
        return pair[0];
    }
    pair[1] = socket_install(b, flags);
    problem = pair[1] < 0 ? pair[1] : guest_write(guest_pair, pair, sizeof pair);
    if (problem) {
        fd_close(pair[0]);
        if (pair[1] >= 0)
            fd_close(pair[1]);
    }
    return problem;
}

LX_SYSCALL(bind, int fd, const void *guest_address, int size)
{
    struct open_file *raw;
    struct socket_name name;
    int problem = socket_get(fd, &raw);
    if (problem)
        return problem;
    scoped_file file = raw;
    struct socket *socket = socket_of(file);
    if ((problem = socket_read_address(socket, guest_address, size, &name)))
        return problem;
    return socket->family->bind(socket, &name);
}

LX_SYSCALL(listen, int fd, int backlog)
{
    struct open_file *raw;
    int problem = socket_get(fd, &raw);
    if (problem)
        return problem;
    scoped_file file = raw;
    struct socket *socket = socket_of(file);
    if (socket->type == LX_SOCK_DGRAM)
        return -EOPNOTSUPP;
    if (!socket->name.size && (problem = socket->family == &unix_family ? -EINVAL : socket->family->autobind(socket)))
        return problem;
    scoped_lock(&socket->lock);
    if (socket->state != SOCKET_FREE && socket->state != SOCKET_LISTENING)
        return -EINVAL;
    socket->state = SOCKET_LISTENING;
    socket->backlog = backlog < 0 || backlog > LISTEN_MAX ? LISTEN_MAX : (uint32_t)backlog;
    socket->credentials = socket_own_credentials();
    return 0;
}

/* Puts a new connected end into the listener's queue. Waits for room. */
static int connect_stream(struct socket *socket, struct socket *listener, const struct socket_name *name, bool no_wait)
{
    struct socket *served = socket_create(listener->family, listener->type, listener->protocol);
    if (!served)
        return -ENOMEM;
    int result = 0;
    {
        scoped_lock(&listener->lock);
        uint64_t deadline = socket_deadline(socket->send_timeout_ns, false);
        if (no_wait && listener->pending_count > listener->backlog && listener->state == SOCKET_LISTENING && socket->family == &unix_family)
            result = -EAGAIN;
        else if (!no_wait)
            wait_until(&listener->queue, &listener->lock, listener->pending_count <= listener->backlog || listener->closed, deadline, result);
        if (!result && (listener->state != SOCKET_LISTENING || listener->closed))
            result = -ECONNREFUSED;
        if (!result) {
            served->name = listener->name;
            if (listener->family != &unix_family) /* bound to any address: the connection has the one that was called */
                served->name = *name;
            served->peer_name = socket->name;
            if (listener->family->present) {
                listener->family->present(&served->name);
                listener->family->present(&served->peer_name);
            }
            served->credentials = listener->credentials;
            served->receive_limit = listener->receive_limit;
            served->pass_credentials = listener->pass_credentials;
            served->no_delay = listener->no_delay;
            served->keep_alive = listener->keep_alive;
            served->oob_inline = listener->oob_inline;
            served->linger = listener->linger;
            served->linger_seconds = listener->linger_seconds;
            result = socket_copy_options(served, listener);
        }
    }
    if (!result) {
        scoped_lock(&socket->lock);
        if (socket->state != SOCKET_FREE) {
            result = -EISCONN;
        } else {
            socket->credentials = socket_own_credentials();
            socket->peer_name = *name;
            if (socket->family->present)
                socket->family->present(&socket->peer_name);
            socket->receive_closed = socket->peer_closed = false;
            join(socket, served); /* nobody else knows `served` yet */
        }
    }
    if (result) {
        socket_unref(served);
        return result == -EINTR ? -ERESTARTSYS : result == -ETIMEDOUT ? (socket->family == &unix_family ? -EAGAIN : -ETIMEDOUT) : result;
    }
    bool gone;
    {
        scoped_lock(&listener->lock);
        gone = listener->closed;
        if (!gone) {
            list_push(&listener->pending, &served->pending_node); /* our reference goes with it */
            listener->pending_count++;
        }
    }
    if (gone) {
        hang_up(served, true);
        socket_unref(served);
        return -ECONNREFUSED;
    }
    wait_queue_wake(&listener->queue, POLLIN | POLLRDNORM, 1 << 30);
    wait_queue_wake(&socket->queue, POLLOUT | POLLWRNORM, 1 << 30);
    return 0;
}

static int connect_datagram(struct socket *socket, const struct socket_name *name)
{
    struct socket *target = NULL, *old;
    if (name->family != LX_AF_UNSPEC && socket->family == &unix_family) {
        int problem = socket->family->find(socket, name, &target);
        if (problem)
            return problem;
    }
    {
        scoped_lock(&socket->lock);
        old = socket->peer;
        socket->peer = target;
        socket->state = name->family == LX_AF_UNSPEC ? SOCKET_FREE : SOCKET_CONNECTED;
        socket->peer_name = *name;
        if (name->family == LX_AF_UNSPEC)
            socket->peer_name.size = 0;
        else if (socket->family->present)
            socket->family->present(&socket->peer_name);
    }
    if (old)
        socket_unref(old);
    return 0;
}

/* tcp(7): a connect that may not wait never tells how it went, even where everything happens at once. */
static int answer_later(struct socket *socket, int problem)
{
    if (problem != 0 && problem != -ECONNREFUSED)
        return problem;
    {
        scoped_lock(&socket->lock);
        socket->connecting = true;
        socket->error = -problem;
    }
    wait_queue_wake(&socket->queue, POLLOUT | POLLWRNORM | (problem ? POLLERR | POLLHUP | POLLIN : 0), 1 << 30);
    return -EINPROGRESS;
}

LX_SYSCALL(connect, int fd, const void *guest_address, int size)
{
    struct open_file *raw;
    struct socket_name name;
    int problem = socket_get(fd, &raw);
    if (problem)
        return problem;
    scoped_file file = raw;
    struct socket *socket = socket_of(file);
    uint16_t family_number = 0;
    if (size >= 2 && (problem = guest_read(&family_number, guest_address, sizeof family_number)))
        return problem;
    if (size >= 2 && family_number == LX_AF_UNSPEC && socket->type == LX_SOCK_DGRAM) {
        memset(&name, 0, sizeof name);
        return connect_datagram(socket, &name);
    }
    if ((problem = socket_read_address(socket, guest_address, size, &name)))
        return problem;
    if (!socket->name.size && (socket->family != &unix_family || socket->pass_credentials) && (problem = socket->family->autobind(socket)))
        return problem;
    if (socket->type == LX_SOCK_DGRAM)
        return connect_datagram(socket, &name);
    {
        scoped_lock(&socket->lock);
        if (socket->connecting) {
            int error = socket->error;
            socket->connecting = false;
            socket->error = 0;
            if (socket->state == SOCKET_CONNECTED || error)
                return -error;
        }
        if (socket->state == SOCKET_LISTENING)
            return socket->family == &unix_family ? -EINVAL : -EISCONN;
        if (socket->state != SOCKET_FREE)
            return -EISCONN;
    }
    struct socket *listener;
    problem = socket->family->find(socket, &name, &listener);
    if (!problem) {
        problem = connect_stream(socket, listener, &name, file->flags & O_NONBLOCK);
        socket_unref(listener);
    }
    if (file->flags & O_NONBLOCK && socket->family != &unix_family)
        problem = answer_later(socket, problem);
    return problem;
}

LX_SYSCALL(accept4, int fd, void *guest_address, int *guest_size, int flags)
{
    struct open_file *raw;
    if (flags & ~(LX_SOCK_CLOEXEC | LX_SOCK_NONBLOCK))
        return -EINVAL;
    int result = socket_get(fd, &raw);
    if (result)
        return result;
    scoped_file file = raw;
    struct socket *socket = socket_of(file), *connection;
    if (socket->type == LX_SOCK_DGRAM)
        return -EOPNOTSUPP;
    {
        scoped_lock(&socket->lock);
        if (socket->state != SOCKET_LISTENING)
            return -EINVAL;
        if (!socket->pending_count && (file->flags & O_NONBLOCK))
            return -EAGAIN;
        uint64_t deadline = socket_deadline(socket->receive_timeout_ns, false);
        wait_until(&socket->queue, &socket->lock, socket->pending_count > 0 || socket->receive_closed, deadline, result);
        if (result)
            return result == -EINTR ? -ERESTARTSYS : -EAGAIN;
        if (!socket->pending_count)
            return -EINVAL;
        struct list *first = list_first(&socket->pending);
        list_remove(first);
        socket->pending_count--;
        connection = container_of(first, struct socket, pending_node);
    }
    wait_queue_wake(&socket->queue, POLLOUT, 1 << 30); /* connectors that wait for room */
    struct socket_name name = shown_name(connection, &connection->peer_name);
    int new_fd = socket_install(connection, flags);
    if (new_fd >= 0 && (result = socket_write_address(&name, guest_address, guest_size))) {
        fd_close(new_fd);
        return result;
    }
    return new_fd;
}

LX_SYSCALL(accept, int fd, void *guest_address, int *guest_size)
{
    return lx_sys_accept4(fd, guest_address, guest_size, 0);
}

static long give_name(int fd, void *guest_address, int *guest_size, bool of_peer)
{
    struct open_file *raw;
    int problem = socket_get(fd, &raw);
    if (problem)
        return problem;
    scoped_file file = raw;
    struct socket *socket = socket_of(file);
    struct socket_name name;
    {
        scoped_lock(&socket->lock);
        if (of_peer && (socket->state != SOCKET_CONNECTED || (!socket->peer && !socket->peer_name.size)))
            return -ENOTCONN;
        if (of_peer && socket->peer_reset && socket->family != &unix_family)
            return -ENOTCONN;
        name = shown_name(socket, of_peer ? &socket->peer_name : &socket->name);
    }
    if (!guest_address)
        return -EFAULT;
    return socket_write_address(&name, guest_address, guest_size);
}

LX_SYSCALL(getsockname, int fd, void *address, int *size) { return give_name(fd, address, size, false); }
LX_SYSCALL(getpeername, int fd, void *address, int *size) { return give_name(fd, address, size, true); }

LX_SYSCALL(shutdown, int fd, int how)
{
    struct open_file *raw;
    int problem = socket_get(fd, &raw);
    if (problem)
        return problem;
    scoped_file file = raw;
    struct socket *socket = socket_of(file), *peer = NULL;
    if (how < LX_SHUT_RD || how > LX_SHUT_RDWR)
        return -EINVAL;
    {
        scoped_lock(&socket->lock);
        if (socket->state != SOCKET_CONNECTED && !(socket->state == SOCKET_LISTENING && how != LX_SHUT_WR) && !(socket->type == LX_SOCK_DGRAM && socket->family == &unix_family))
            return -ENOTCONN;
        socket->receive_closed |= how != LX_SHUT_WR;
        socket->send_closed |= how != LX_SHUT_RD;
        if (socket->type != LX_SOCK_DGRAM && socket->peer)
            peer = socket_ref(socket->peer);
    }
    if (peer) {
        {
            scoped_lock(&peer->lock);
            peer->receive_closed |= how != LX_SHUT_RD;
            if (how != LX_SHUT_WR && socket->family == &unix_family)
                peer->send_closed = true; /* unix(7): sending to a closed reader is EPIPE */
        }
        wait_queue_wake(&peer->queue, POLLIN | POLLOUT | POLLHUP | POLLRDHUP, 1 << 30);
        socket_unref(peer);
    }
    wait_queue_wake(&socket->queue, POLLIN | POLLOUT | POLLHUP | POLLRDHUP, 1 << 30);
    return 0;
}
