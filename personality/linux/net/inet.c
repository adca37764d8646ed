/* Names of AF_INET and AF_INET6 sockets: addresses of the sandbox's own loopback, and ports.
 *
 * Both families share one table of bound sockets, since an IPv6 socket takes IPv4 connections too unless IPV6_V6ONLY. Addresses
 * that are not loopback have no route (ENETUNREACH): that is where outside connections, as `tcp:` and `udp:` streams of the ABI, will go. */
#include "personality/linux/net/socket.h"

enum { IPPROTO_TCP_ = 6, IPPROTO_UDP_ = 17, EPHEMERAL_FIRST = 32768, EPHEMERAL_LAST = 60999 };

struct inet_address { unsigned char bytes[16]; uint16_t port; bool any, is_v6; }; /* IPv4 as ::ffff:a.b.c.d; port in host order */

static const unsigned char mapped_prefix[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

static struct inet_address decode(const struct socket_name *name)
{
    struct inet_address address;
    memset(&address, 0, sizeof address);
    address.port = (uint16_t)(name->bytes[2] << 8 | name->bytes[3]);
    if (name->family == LX_AF_INET) {
        memcpy(address.bytes, mapped_prefix, 12);
        memcpy(address.bytes + 12, name->bytes + 4, 4);
    } else {
        memcpy(address.bytes, name->bytes + 8, 16);
        address.is_v6 = memcmp(address.bytes, mapped_prefix, 12) != 0;
    }
    const unsigned char *host = address.is_v6 ? address.bytes : address.bytes + 12;
    address.any = true;
    for (int i = 0; i < (address.is_v6 ? 16 : 4); i++)
        address.any &= host[i] == 0;
    return address;
}

static bool is_loopback(const struct inet_address *address)
{
    if (!address->is_v6)
        return address->bytes[12] == 127;
    for (int i = 0; i < 15; i++)
        if (address->bytes[i])
            return false;
    return address->bytes[15] == 1;
}

static void set_port(struct socket_name *name, unsigned port)
{
    name->bytes[2] = (unsigned char)(port >> 8);
    name->bytes[3] = (unsigned char)port;
}

static int inet_check(int type, int protocol)
{
    if (type == LX_SOCK_STREAM)
        return protocol == 0 || protocol == IPPROTO_TCP_ ? 0 : -EPROTONOSUPPORT;
    if (type == LX_SOCK_DGRAM)
        return protocol == 0 || protocol == IPPROTO_UDP_ || protocol == LX_PROTOCOL_UDPLITE ? 0 : -EPROTONOSUPPORT;
    if (type == LX_SOCK_RAW)
        return protocol ? -EPERM : -EPROTONOSUPPORT;
    return -ESOCKTNOSUPPORT;
}

static int parse_sized(const unsigned char *address, size_t size, size_t wanted, int family, struct socket_name *out_name)
{
    if (size < wanted)
        return -EINVAL;
    memset(out_name, 0, sizeof *out_name);
    memcpy(out_name->bytes, address, wanted);
    out_name->size = (uint32_t)wanted;
    if (out_name->family == LX_AF_UNSPEC && family == LX_AF_INET) /* bind(2) of old programs: any address */
        out_name->family = LX_AF_INET;
    return out_name->family == family ? 0 : -EAFNOSUPPORT;
}

static int inet_parse(const struct socket *socket, const unsigned char *address, size_t size, struct socket_name *out_name)
{
    int problem = parse_sized(address, size, 16, LX_AF_INET, out_name);
    memset(out_name->bytes + 8, 0, 8);
    return problem;
}

static int inet6_parse(const struct socket *socket, const unsigned char *address, size_t size, struct socket_name *out_name)
{
    return parse_sized(address, size < 28 ? size < 24 ? 0 : 28 : size, 28, LX_AF_INET6, out_name);
}

static struct list *table_of(const struct socket *socket)
{
    return &net()->bound[socket->protocol == LX_PROTOCOL_UDPLITE ? 2 : socket->type == LX_SOCK_DGRAM];
}

/* May both be bound to the same port? */
static bool clashes(const struct socket *a, const struct socket *b, const struct inet_address *wanted)
{
    struct inet_address other = decode(&b->name);
    bool same_host = wanted->any || other.any || memcmp(wanted->bytes, other.bytes, 16) == 0;
    bool disjoint = (a->family == &inet6_family && a->only_v6 && b->family == &inet_family) || (b->family == &inet6_family && b->only_v6 && a->family == &inet_family) ||
                    (wanted->any && wanted->is_v6 && a->only_v6 && !other.is_v6);
    if (other.port != wanted->port || !same_host || disjoint)
        return false;
    if (a->reuse_port && b->reuse_port)
        return false;
    return !(a->reuse_address && b->reuse_address && (a->type == LX_SOCK_DGRAM || b->state != SOCKET_LISTENING));
}

static bool port_taken(struct socket *socket, const struct inet_address *wanted)
{
    list_for_each(node, table_of(socket))
        if (clashes(socket, container_of(node, struct socket, bound_node), wanted))
            return true;
    return false;
}

static int bind_name(struct socket *socket, struct socket_name *name)
{
    struct inet_address address = decode(name);
    scoped_lock(&net()->lock);
    if (socket->name.size)
        return -EINVAL;
    if (address.port == 0) {
        for (uint32_t tries = 0;; tries++) {
            if (tries > EPHEMERAL_LAST - EPHEMERAL_FIRST)
                return -EADDRINUSE;
            uint32_t port = net()->next_ephemeral++;
            if (port > EPHEMERAL_LAST)
                net()->next_ephemeral = port = EPHEMERAL_FIRST;
            address.port = (uint16_t)port;
            if (!port_taken(socket, &address))
                break;
        }
        set_port(name, address.port);
    } else if (port_taken(socket, &address)) {
        return -EADDRINUSE;
    }
    scoped_lock(&socket->lock);
    socket->name = *name;
    list_push(table_of(socket), &socket->bound_node);
    return 0;
}

static int inet_bind(struct socket *socket, struct socket_name *name)
{
    struct inet_address address = decode(name);
    if (!address.any && !is_loopback(&address))
        return -EADDRNOTAVAIL;
    if (address.port && address.port < 1024 && !lx_capable(10 /* CAP_NET_BIND_SERVICE */))
        return -EACCES;
    return bind_name(socket, name);
}

/* A client's own end: the loopback address and a free port. */
static int inet_autobind(struct socket *socket)
{
    struct socket_name name;
    memset(&name, 0, sizeof name);
    name.family = (uint16_t)socket->family->number;
    if (socket->family == &inet_family) {
        name.size = 16;
        if (socket->state != SOCKET_LISTENING && socket->type == LX_SOCK_STREAM) {
            name.bytes[4] = 127;
            name.bytes[7] = 1;
        }
    } else {
        name.size = 28;
        if (socket->type == LX_SOCK_STREAM)
            name.bytes[23] = 1;
    }
    return bind_name(socket, &name);
}

static void inet_unbind(struct socket *socket)
{
    scoped_lock(&net()->lock);
    list_remove(&socket->bound_node);
}

static int inet_find(struct socket *from, const struct socket_name *name, struct socket **out_target)
{
    struct inet_address address = decode(name);
    if (address.any) { /* ip(7): connecting to INADDR_ANY means this host */
        address.any = false;
        if (address.is_v6)
            address.bytes[15] = 1;
        else
            address.bytes[12] = 127, address.bytes[15] = 1;
    }
    if (!is_loopback(&address))
        return -ENETUNREACH;
    if (address.port == 0)
        return -ECONNREFUSED;
    struct socket *best = NULL;
    int best_score = -1;
    scoped_lock(&net()->lock);
    list_for_each(node, table_of(from)) {
        struct socket *socket = container_of(node, struct socket, bound_node);
        struct inet_address bound = decode(&socket->name);
        if (bound.port != address.port || (socket->type == LX_SOCK_STREAM && socket->state != SOCKET_LISTENING))
            continue;
        if (bound.any ? (socket->family == &inet_family ? address.is_v6 : socket->only_v6 && !address.is_v6) : memcmp(bound.bytes, address.bytes, 16) != 0)
            continue;
        /* A connected datagram socket is preferred for its own peer and gets nothing from others; then the exact address. */
        int score = bound.any ? 0 : 1;
        if (socket->type == LX_SOCK_DGRAM && socket->state == SOCKET_CONNECTED && socket->peer_name.size) {
            struct inet_address peer = decode(&socket->peer_name), own = decode(&from->name);
            if (peer.port != own.port)
                continue;
            score += 2;
        }
        if (score > best_score) {
            best = socket;
            best_score = score;
        }
    }
    if (!best)
        return -ECONNREFUSED;
    *out_target = socket_ref(best);
    return 0;
}

static void present(struct socket_name *name, bool as_v6)
{
    struct inet_address address = decode(name);
    if (name->size < 16)
        return;
    if (address.any) {
        if (address.is_v6)
            address.bytes[15] = 1;
        else
            address.bytes[12] = 127, address.bytes[15] = 1;
    }
    memset(name, 0, sizeof *name);
    set_port(name, address.port);
    name->family = as_v6 ? LX_AF_INET6 : LX_AF_INET;
    name->size = as_v6 ? 28 : 16;
    if (as_v6)
        memcpy(name->bytes + 8, address.bytes, 16);
    else
        memcpy(name->bytes + 4, address.bytes + 12, 4);
}
static void inet_present(struct socket_name *name) { present(name, false); }
static void inet6_present(struct socket_name *name) { present(name, true); }

const struct socket_family inet_family = {
    .number = LX_AF_INET, .name = "inet", .check = inet_check, .parse = inet_parse, .bind = inet_bind, .autobind = inet_autobind, .unbind = inet_unbind, .find = inet_find, .present = inet_present,
};
const struct socket_family inet6_family = {
    .number = LX_AF_INET6, .name = "inet6", .check = inet_check, .parse = inet6_parse, .bind = inet_bind, .autobind = inet_autobind, .unbind = inet_unbind, .find = inet_find, .present = inet6_present,
};
