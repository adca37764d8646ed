/* Moving data: sending puts packets into the receiver's queue, receiving takes them out.
 *
 * Guest memory is touched with no lock held: a sender fills its packet before it is queued; a reader copies from the first
 * packet, which only readers remove (they exclude each other by receive_mutex), and takes the lock again to consume it. */
#include "personality/linux/net/socket.h"

enum { STREAM_CHUNK = 32768, SMALL = 256, SMALL_ROOM = 2048, UDP_MAX = 65507 };

void packet_free(struct packet *packet)
{
    rights_arrived(packet->rights, packet->rights_count);
    for (uint32_t i = 0; i < packet->rights_count; i++)
        file_unref(packet->rights[i]);
    heap_free(packet->rights);
    heap_free(packet->from);
    heap_free(packet);
}

struct packet *packet_create(size_t room)
{
    struct packet *packet = heap_alloc(sizeof *packet + room);
    if (packet)
        packet->room = (uint32_t)room;
    return packet;
}

/* Moves the message's descriptors and credentials into the packet. */
static void attach_ancillary(struct packet *packet, struct message *message)
{
    packet->rights = message->rights;
    packet->rights_count = message->rights_count;
    rights_departed(packet->rights, packet->rights_count);
    message->rights = NULL;
    message->rights_count = 0;
    packet->has_credentials = true;
    packet->credentials = message->has_credentials ? message->credentials : socket_own_credentials();
}

/* What was attached goes back to the message: the packet was not sent, the caller frees the descriptors. */
static void detach_ancillary(struct packet *packet, struct message *message)
{
    rights_arrived(packet->rights, packet->rights_count);
    message->rights = packet->rights;
    message->rights_count = packet->rights_count;
    packet->rights = NULL;
    packet->rights_count = 0;
}

void packet_queue(struct socket *target, struct packet *packet)
{
    list_push(&target->packets, &packet->node);
    target->received_bytes += packet->size;
}

static int broken_pipe(const struct message *message)
{
    if (!(message->flags & LX_MSG_NOSIGNAL))
        signal_send_thread(lx_current(), SIGPIPE, NULL);
    return -EPIPE;
}

/* ---- Streams ---- */

static bool stream_room(const struct socket *peer)
{
    return peer->received_bytes < peer->receive_limit || peer->closed || peer->receive_closed || peer->peer_reset;
}

/* Queues one filled packet, or appends its bytes to the last one. 0, or errno; then the packet is still the caller's. */
static int deliver(struct socket *socket, struct socket *peer, struct packet *packet, bool no_wait, uint64_t deadline)
{
    struct packet *merged = NULL;
    uint32_t events = POLLIN | POLLRDNORM;
    {
        int result = 0;
        scoped_lock(&peer->lock);
        if (no_wait && !stream_room(peer))
            return -EAGAIN;
        wait_until(&peer->queue, &peer->lock, stream_room(peer), deadline, result);
        if (result)
            return result == -EINTR ? -ERESTARTSYS : -EAGAIN;
        if (peer->closed || peer->peer_reset)
            return -EPIPE;
        if (peer->receive_closed && socket->send_closed)
            return -EPIPE;
        if (packet->urgent) {
            peer->urgent_mark = peer->read_bytes + peer->received_bytes + packet->size - 1;
            peer->urgent = packet->data[packet->size - 1];
            events |= POLLPRI;
        }
        struct packet *last = list_empty(&peer->packets) ? NULL : container_of(peer->packets.prev, struct packet, node);
        if (last && !packet->rights_count && !last->rights_count && last->size + packet->size <= last->room &&
            memcmp(&last->credentials, &packet->credentials, sizeof last->credentials) == 0) {
            memcpy(last->data + last->size, packet->data, packet->size);
            last->size += packet->size;
            peer->received_bytes += packet->size;
            merged = packet;
        } else {
            packet_queue(peer, packet);
        }
    }
    if (merged)
        heap_free(merged);
    wait_queue_wake(&peer->queue, events, 1 << 30);
    return 0;
}

/* A new urgent byte is coming. As Linux has it, one that the reader stands at is dropped then; one that it has not come to becomes data. */
static void drop_urgent(struct socket *peer)
{
    struct packet *empty = NULL;
    scoped_mutex(&peer->receive_mutex);
    {
        scoped_lock(&peer->lock);
        if (socket_at_mark(peer) && !peer->oob_inline && peer->received_bytes > 0) {
            struct packet *packet = container_of(peer->packets.next, struct packet, node);
            peer->received_bytes--;
            peer->read_bytes++;
            if (++packet->start == packet->size) {
                list_remove(&packet->node);
                empty = packet;
            }
            peer->urgent = URGENT_NONE;
        }
    }
    if (empty)
        packet_free(empty);
}

static int64_t send_stream(struct open_file *file, struct message *message)
{
    struct socket *socket = socket_of(file), *peer;
    bool no_wait = (file->flags & O_NONBLOCK) || (message->flags & LX_MSG_DONTWAIT);
    int problem = socket_take_error(socket);
    if (problem)
        return problem == -EPIPE ? broken_pipe(message) : problem;
    {
        scoped_lock(&socket->lock);
        peer = socket->peer && !socket->send_closed ? socket_ref(socket->peer) : NULL;
        problem = socket->state == SOCKET_FREE && socket->family == &unix_family ? -ENOTCONN : -EPIPE;
        if (peer && message->name.size && socket->family == &unix_family)
            problem = -EISCONN;
        else if (peer)
            problem = 0;
    }
    if (problem) {
        if (peer)
            socket_unref(peer);
        return problem == -EPIPE ? broken_pipe(message) : problem;
    }
    int64_t sent = 0;
    bool urgent = message->flags & LX_MSG_OOB;
    if (urgent && socket->family == &unix_family) {
        socket_unref(peer);
        return -EOPNOTSUPP;
    }
    if (socket->family != &unix_family && peer->closed && !socket->wrote_to_closed) {
        sent = (int64_t)message->buffer->size; /* goes out, and comes back as a reset */
        scoped_lock(&socket->lock);
        socket->wrote_to_closed = true;
        if (!socket->error)
            socket->error = EPIPE;
        socket_unref(peer);
        return sent;
    }
    uint64_t deadline = socket_deadline(socket->send_timeout_ns, false);
    while (message->buffer->size || (sent == 0 && message->rights_count && problem == 0)) {
        size_t wanted = message->buffer->size < STREAM_CHUNK ? message->buffer->size : STREAM_CHUNK;
        struct packet *packet = packet_create(wanted <= SMALL ? SMALL_ROOM : wanted);
        struct io_buffer before = *message->buffer;
        problem = packet ? 0 : -ENOMEM;
        int64_t count = packet && wanted ? io_copy_in(message->buffer, packet->data, wanted) : 0;
        if (wanted && count <= 0 && !problem)
            problem = -EFAULT;
        if (!problem) {
            packet->size = (uint32_t)count;
            packet->urgent = urgent && message->buffer->size == 0 && count > 0;
            if (packet->urgent)
                drop_urgent(peer);
            attach_ancillary(packet, message);
            problem = deliver(socket, peer, packet, no_wait, deadline);
        }
        if (problem) {
            if (packet) {
                detach_ancillary(packet, message);
                packet_free(packet);
            }
            *message->buffer = before;
            break;
        }
        sent += count;
        if (!wanted)
            break;
    }
    socket_unref(peer);
    if (sent)
        return sent;
    return problem == -EPIPE ? broken_pipe(message) : problem;
}

/* ---- Packets: datagrams and SOCK_SEQPACKET ---- */

static int find_target(struct socket *socket, const struct message *message, struct socket **out_target)
{
    if (message->name.size && socket->type == LX_SOCK_DGRAM)
        return socket->family->find(socket, &message->name, out_target);
    struct socket_name name;
    {
        scoped_lock(&socket->lock);
        if (socket->type != LX_SOCK_DGRAM && (socket->peer_closed || socket->send_closed))
            return -EPIPE;
        if (socket->peer) {
            *out_target = socket_ref(socket->peer);
            return 0;
        }
        if (socket->state == SOCKET_DISCONNECTED)
            return socket->type == LX_SOCK_DGRAM ? -ECONNREFUSED : -EPIPE;
        if (!socket->peer_name.size)
            return socket->family == &unix_family ? -ENOTCONN : -EDESTADDRREQ;
        name = socket->peer_name;
    }
    return socket->family->find(socket, &name, out_target);
}

static int deliver_datagram(struct socket *socket, struct socket *target, struct packet *packet, bool no_wait)
{
    bool is_unix = socket->family == &unix_family;
    uint64_t deadline = socket_deadline(socket->send_timeout_ns, false);
    int result = 0;
    scoped_lock(&target->lock);
    if (target->closed)
        return -ECONNREFUSED;
    if (is_unix && socket->type == LX_SOCK_DGRAM && target->peer && target->peer != socket)
        return -EPERM;
    if (target->receive_closed)
        return is_unix || socket->type != LX_SOCK_DGRAM ? -EPIPE : 0;
#define HAS_ROOM (target->received_bytes + packet->size <= target->receive_limit || list_empty(&target->packets))
    if (!is_unix) {
        if (target->peer_name.size && target->state == SOCKET_CONNECTED &&
            (target->peer_name.size != packet->from->size || memcmp(target->peer_name.bytes + 2, packet->from->bytes + 2, socket->family == &inet_family ? 6 : 22)))
            return 1; /* connected to somebody else: it is not for this socket */
        if (!HAS_ROOM)
            return 1; /* udp(7): dropped */
    } else {
        if (no_wait && !HAS_ROOM)
            return -EAGAIN;
        wait_until(&target->queue, &target->lock, HAS_ROOM || target->closed || target->receive_closed, deadline, result);
        if (result)
            return result == -EINTR ? -ERESTARTSYS : -EAGAIN;
        if (target->closed || target->receive_closed)
            return socket->type == LX_SOCK_DGRAM ? -ECONNREFUSED : -EPIPE;
    }
#undef HAS_ROOM
    packet_queue(target, packet);
    return 0;
}

static void fill_header(struct packet *packet, const struct socket *socket, const struct message *message)
{
    bool v6 = socket->family == &inet6_family;
    const struct socket_name *to = message->name.size ? &message->name : &socket->peer_name;
    struct datagram_header *header = &packet->header;

    header->hop_limit = message->has_header && message->header.hop_limit >= 0 ? message->header.hop_limit
                        : v6 ? socket_option(socket, 41, 16 /* IPV6_UNICAST_HOPS */) : socket_option(socket, 0, 2 /* IP_TTL */);
    if (header->hop_limit < 0)
        header->hop_limit = 64;
    header->traffic_class = message->has_header && message->header.traffic_class >= 0 ? message->header.traffic_class
                            : v6 ? socket_option(socket, 41, 67 /* IPV6_TCLASS */) : socket_option(socket, 0, 1 /* IP_TOS */);
    header->time_ns = lx_realtime_ns();
    memcpy(header->destination, to->bytes + (v6 ? 8 : 4), v6 ? 16 : 4);
}

static int64_t send_packet(struct open_file *file, struct message *message)
{
    struct socket *socket = socket_of(file), *target;
    bool is_unix = socket->family == &unix_family;
    size_t size = message->buffer->size;
    if (message->flags & LX_MSG_OOB)
        return -EOPNOTSUPP;
    int problem = socket_take_error(socket);
    if (problem)
        return problem;
    if (socket->type == LX_SOCK_SEQPACKET && socket->state == SOCKET_FREE)
        return -ENOTCONN;
    if (socket->send_closed)
        return is_unix ? -EPIPE : broken_pipe(message);
    if (size > (is_unix ? socket->send_limit : UDP_MAX))
        return -EMSGSIZE;
    if (!socket->name.size && (!is_unix || socket->pass_credentials) && (problem = socket->family->autobind(socket)))
        return problem;
    problem = find_target(socket, message, &target);
    if (problem == -ECONNREFUSED && !is_unix) { /* the ICMP answer reaches connected sockets only */
        scoped_lock(&socket->lock);
        if (socket->state == SOCKET_CONNECTED)
            socket->error = ECONNREFUSED;
        return (int64_t)size;
    }
    if (problem)
        return problem;
    struct packet *packet = packet_create(size);
    if (packet && socket->type == LX_SOCK_DGRAM && socket->name.size && (packet->from = heap_alloc(sizeof *packet->from)))
        *packet->from = socket->name;
    if (packet && packet->from && target->family->present)
        target->family->present(packet->from);
    problem = packet ? 0 : -ENOMEM;
    if (!problem && size && io_copy_in(message->buffer, packet->data, size) != (int64_t)size)
        problem = -EFAULT;
    if (!problem) {
        packet->size = (uint32_t)size;
        attach_ancillary(packet, message);
        if (!is_unix)
            fill_header(packet, socket, message);
        problem = deliver_datagram(socket, target, packet, (file->flags & O_NONBLOCK) || (message->flags & LX_MSG_DONTWAIT));
    }
    if (problem && packet) {
        detach_ancillary(packet, message);
        packet_free(packet);
    } else {
        wait_queue_wake(&target->queue, POLLIN | POLLRDNORM, 1 << 30);
    }
    socket_unref(target);
    return problem < 0 ? problem : (int64_t)size;
}

int64_t socket_send(struct open_file *file, struct message *message)
{
    struct socket *socket = socket_of(file);
    if (socket->family->serve)
        return socket->family->serve(socket, message);
    return socket_is_stream(socket) ? send_stream(file, message) : send_packet(file, message);
}

/* ---- Receiving ---- */

static int receive_state(struct socket *socket)
{
    if (socket_is_stream(socket) && (socket->state == SOCKET_FREE || socket->state == SOCKET_LISTENING))
        return socket->family == &unix_family ? -EINVAL : -ENOTCONN;
    if (socket->type == LX_SOCK_SEQPACKET && socket->state == SOCKET_FREE)
        return -ENOTCONN;
    return 0;
}

/* Waits for a packet: 1 there is one, 0 end of stream, or errno. */
static int await_packet(struct socket *socket, bool no_wait, uint64_t deadline)
{
    int result = 0;
    scoped_lock(&socket->lock);
#define READY (socket_readable(socket) || socket->receive_closed || socket->error)
    if (!READY && no_wait)
        return -EAGAIN;
    wait_until(&socket->queue, &socket->lock, READY, deadline, result);
#undef READY
    if (result)
        return result == -ETIMEDOUT ? -EAGAIN : deadline == BLY_FOREVER ? -ERESTARTSYS : -EINTR;
    if (socket->error && !socket_readable(socket)) {
        if (socket->error == EPIPE && socket->receive_closed)
            return 0; /* for writers: readers saw the end of the stream before the reset */
        result = -socket->error;
        socket->error = 0;
        return result;
    }
    return socket_readable(socket);
}

static int take_rights(struct packet *packet, struct message *message, bool peek)
{
    if (!packet->rights_count || message->rights_count)
        return 0;
    if (!peek) {
        message->rights = packet->rights;
        message->rights_count = packet->rights_count;
        packet->rights = NULL;
        packet->rights_count = 0;
        return 0;
    }
    message->rights = heap_alloc(packet->rights_count * sizeof *message->rights);
    if (!message->rights)
        return -ENOMEM;
    for (uint32_t i = 0; i < packet->rights_count; i++)
        message->rights[i] = file_ref(packet->rights[i]);
    message->rights_count = packet->rights_count;
    return 0;
}

/* Room was made: senders wait on our queue, pollers of the peer on its own. */
static void announce_room(struct socket *socket)
{
    wait_queue_wake(&socket->queue, POLLOUT | POLLWRNORM, 1 << 30);
    struct socket *peer = socket_peer(socket);
    if (peer) {
        wait_queue_wake(&peer->queue, POLLOUT | POLLWRNORM, 1 << 30);
        socket_unref(peer);
    }
}

/* Copies what is there, as far as one read may go. Holds receive_mutex. Bytes, or -EFAULT when none. */
static int64_t drain_stream(struct socket *socket, struct message *message)
{
    bool peek = message->flags & LX_MSG_PEEK, arrived = message->rights_count > 0;
    int64_t total = 0;
    uint64_t position = socket->read_bytes; /* readers alone change it */
    struct list *at = &socket->packets;
    while (message->buffer->size) {
        struct packet *packet;
        size_t available;
        uint32_t hole = 0;
        {
            scoped_lock(&socket->lock);
            struct list *next = peek ? at->next : socket->packets.next;
            if (next == &socket->packets)
                break;
            at = next;
            packet = container_of(next, struct packet, node);
            available = packet->size - packet->start;
            if (total && packet->rights_count)
                break; /* unix(7): descriptors come with the first byte they were sent with */
            if (socket->urgent != URGENT_NONE) {
                uint64_t ahead = socket->urgent_mark - position;
                if (ahead == 0 && total)
                    break;
                if (ahead == 0 && !socket->oob_inline)
                    hole = 1;
                else if (ahead > 0 && ahead < available)
                    available = (size_t)ahead;
                available -= hole;
            }
            if (take_rights(packet, message, peek) && !total)
                return -ENOMEM;
            message->credentials = packet->credentials;
            message->has_credentials = packet->has_credentials;
        }
        if (!peek && !arrived && message->rights_count) {
            rights_arrived(message->rights, message->rights_count);
            arrived = true;
        }
        int64_t copied = available ? io_copy_out(message->buffer, packet->data + packet->start + hole, available) : 0;
        if (copied < 0)
            return total ? total : copied;
        total += copied;
        position += hole + (uint64_t)copied;
        if (peek)
            continue;
        bool empty;
        {
            scoped_lock(&socket->lock);
            packet->start += hole + (uint32_t)copied;
            socket->received_bytes -= hole + (uint64_t)copied;
            socket->read_bytes = position;
            if (socket->urgent != URGENT_NONE && socket->urgent_mark < position)
                socket->urgent = URGENT_NONE;
            empty = packet->start == packet->size;
            if (empty)
                list_remove(&packet->node);
        }
        if (empty)
            packet_free(packet);
        if (message->rights_count)
            break; /* a read that got descriptors ends with the bytes they came with */
    }
    return total;
}

static bool stands_at_mark(struct socket *socket)
{
    scoped_lock(&socket->lock);
    return socket_at_mark(socket);
}

static int64_t receive_stream(struct open_file *file, struct message *message)
{
    struct socket *socket = socket_of(file);
    bool no_wait = (file->flags & O_NONBLOCK) || (message->flags & LX_MSG_DONTWAIT);
    bool whole = (message->flags & LX_MSG_WAITALL) && !(message->flags & LX_MSG_PEEK) && !no_wait;
    uint64_t deadline = socket_deadline(socket->receive_timeout_ns, false);
    int64_t total = 0;
    if (message->flags & LX_MSG_OOB) {
        int urgent;
        bool in_line;
        {
            scoped_lock(&socket->lock);
            urgent = socket->urgent;
            in_line = socket->oob_inline;
            if (!in_line && urgent >= 0 && !(message->flags & LX_MSG_PEEK))
                socket->urgent = URGENT_TAKEN;
        }
        if (urgent < 0 || in_line || socket->family == &unix_family)
            return -EINVAL;
        unsigned char byte = (unsigned char)urgent;
        message->out_flags |= message->buffer->size ? LX_MSG_OOB : LX_MSG_OOB | LX_MSG_TRUNC;
        return message->buffer->size ? io_copy_out(message->buffer, &byte, 1) : 0;
    }
    if (!message->buffer->size)
        return 0;
    do {
        int ready = await_packet(socket, no_wait, deadline);
        if (ready <= 0)
            return total ? total : ready;
        int64_t count;
        {
            scoped_mutex(&socket->receive_mutex);
            count = drain_stream(socket, message);
        }
        if (count < 0)
            return total ? total : count;
        if (!(message->flags & LX_MSG_PEEK))
            announce_room(socket);
        if (count == 0 && message->rights_count == 0)
            continue; /* another reader was faster */
        total += count;
        if (!whole || message->rights_count || stands_at_mark(socket))
            break;
    } while (message->buffer->size);
    return total;
}

static int64_t receive_packet(struct open_file *file, struct message *message)
{
    struct socket *socket = socket_of(file);
    bool no_wait = (file->flags & O_NONBLOCK) || (message->flags & LX_MSG_DONTWAIT), peek = message->flags & LX_MSG_PEEK;
    uint64_t deadline = socket_deadline(socket->receive_timeout_ns, false);
    if (message->flags & LX_MSG_OOB)
        return -EOPNOTSUPP;
    for (;;) {
        int ready = await_packet(socket, no_wait, deadline);
        if (ready <= 0)
            return ready;
        mutex_acquire(&socket->receive_mutex);
        struct packet *packet = NULL;
        {
            scoped_lock(&socket->lock);
            struct list *first = list_first(&socket->packets);
            if (first) {
                packet = container_of(first, struct packet, node);
                take_rights(packet, message, peek);
                message->credentials = packet->credentials;
                message->has_credentials = packet->has_credentials;
                if (packet->from)
                    message->name = *packet->from;
                message->header = packet->header;
                message->has_header = packet->header.time_ns != 0;
            }
        }
        if (!packet) {
            mutex_release(&socket->receive_mutex);
            continue;
        }
        int64_t size = packet->size, copied = size && message->buffer->size ? io_copy_out(message->buffer, packet->data, packet->size) : 0;
        if (!peek) {
            scoped_lock(&socket->lock);
            list_remove(&packet->node);
            socket->received_bytes -= packet->size;
        }
        mutex_release(&socket->receive_mutex);
        if (!peek) {
            rights_arrived(message->rights, message->rights_count);
            packet_free(packet);
            announce_room(socket);
        }
        if (copied < 0)
            return copied;
        if (copied < size)
            message->out_flags |= LX_MSG_TRUNC;
        if (socket->type == LX_SOCK_SEQPACKET)
            message->out_flags |= LX_MSG_EOR;
        return message->flags & LX_MSG_TRUNC ? size : copied;
    }
}

int64_t socket_receive(struct open_file *file, struct message *message)
{
    if ((message->flags & LX_MSG_ERRQUEUE) && socket_of(file)->family != &unix_family)
        return -EAGAIN; /* no errors are queued on loopback; unix(7) knows no such queue */
    int problem = receive_state(socket_of(file));
    if (problem)
        return problem;
    return socket_is_stream(socket_of(file)) ? receive_stream(file, message) : receive_packet(file, message);
}
