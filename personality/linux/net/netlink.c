/* AF_NETLINK, route protocol, as far as programs ask what interfaces, addresses and routes there are: one link `lo` with 127.0.0.1 and ::1.
 * Every other request is answered with -EPERM (the sandbox's network cannot be changed from inside). */
#include "personality/linux/net/socket.h"
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/if_addr.h>

enum { REPLY_MAX = 2048, NAME_SIZE = 12, PORT_OFFSET = 4 };

/* One datagram in the making. */
struct netlink { uint32_t port; unsigned char reply[REPLY_MAX]; };

static void *append(struct netlink *netlink, size_t *used, const void *data, size_t size)
{
    if (*used + NLMSG_ALIGN(size) > REPLY_MAX)
        return NULL;
    void *at = netlink->reply + *used;
    memcpy(at, data, size);
    *used += NLMSG_ALIGN(size);
    return at;
}

static void attribute(struct netlink *netlink, size_t *used, unsigned short type, const void *data, size_t size)
{
    struct rtattr header = { (unsigned short)RTA_LENGTH(size), type };
    append(netlink, used, &header, sizeof header);
    append(netlink, used, data, size);
}

static void begin(struct netlink *netlink, size_t *used, const struct nlmsghdr *request, unsigned short type, unsigned short flags, struct nlmsghdr **out_header)
{
    struct nlmsghdr header = { 0, type, flags, request->nlmsg_seq, netlink->port };
    *out_header = append(netlink, used, &header, sizeof header);
}

static void end(struct netlink *netlink, size_t used, struct nlmsghdr *header)
{
    header->nlmsg_len = (uint32_t)(netlink->reply + used - (unsigned char *)header);
}

static void put_link(struct netlink *netlink, size_t *used, const struct nlmsghdr *request, unsigned short flags)
{
    struct nlmsghdr *header;
    static const unsigned char no_address[6];
    struct ifinfomsg info = { .ifi_family = LX_AF_UNSPEC, .ifi_type = 772, .ifi_index = 1, .ifi_flags = 0x10049 };
    uint32_t mtu = 65536, queue = 1000;
    unsigned char state = 0;
    begin(netlink, used, request, RTM_NEWLINK, flags, &header);
    append(netlink, used, &info, sizeof info);
    attribute(netlink, used, IFLA_IFNAME, "lo", 3);
    attribute(netlink, used, IFLA_TXQLEN, &queue, sizeof queue);
    attribute(netlink, used, IFLA_OPERSTATE, &state, sizeof state);
    attribute(netlink, used, IFLA_MTU, &mtu, sizeof mtu);
    attribute(netlink, used, IFLA_ADDRESS, no_address, sizeof no_address);
    attribute(netlink, used, IFLA_BROADCAST, no_address, sizeof no_address);
    end(netlink, *used, header);
}

static void put_address(struct netlink *netlink, size_t *used, const struct nlmsghdr *request, int family)
{
    struct nlmsghdr *header;
    bool v6 = family == LX_AF_INET6;
    unsigned char address[16] = { 0 };
    if (v6)
        address[15] = 1;
    else
        address[0] = 127, address[3] = 1;
    struct ifaddrmsg info = { .ifa_family = (unsigned char)family, .ifa_prefixlen = v6 ? 128 : 8, .ifa_flags = 0x80, .ifa_scope = 254, .ifa_index = 1 };
    begin(netlink, used, request, RTM_NEWADDR, NLM_F_MULTI, &header);
    append(netlink, used, &info, sizeof info);
    attribute(netlink, used, IFA_ADDRESS, address, v6 ? 16 : 4);
    if (!v6) {
        attribute(netlink, used, IFA_LOCAL, address, 4);
        attribute(netlink, used, IFA_LABEL, "lo", 3);
    }
    end(netlink, *used, header);
}

static void name_of(struct socket_name *name, uint32_t port)
{
    memset(name, 0, sizeof *name);
    name->family = LX_AF_NETLINK;
    name->size = NAME_SIZE;
    memcpy(name->bytes + PORT_OFFSET, &port, sizeof port);
}

/* The reply so far becomes a datagram from the kernel (port 0) in the socket's own queue. */
static int queue_reply(struct socket *socket, struct netlink *netlink, size_t *used)
{
    struct packet *packet = packet_create(*used);
    if (!packet || !(packet->from = heap_alloc(sizeof *packet->from))) {
        heap_free(packet);
        return -ENOMEM;
    }
    memcpy(packet->data, netlink->reply, *used);
    packet->size = (uint32_t)*used;
    *used = 0;
    name_of(packet->from, 0);
    scoped_lock(&socket->lock);
    packet_queue(socket, packet);
    return 0;
}

static int answer(struct socket *socket, struct netlink *netlink, const struct nlmsghdr *request, const unsigned char *body, size_t body_size)
{
    size_t used = 0;
    struct nlmsghdr *header;
    int family = body_size ? body[0] : LX_AF_UNSPEC, type = request->nlmsg_type;
    bool dump = (request->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
    if (dump && (type == RTM_GETLINK || type == RTM_GETADDR || type == RTM_GETROUTE || type == RTM_GETNEIGH || type == RTM_GETRULE)) {
        if (type == RTM_GETLINK)
            put_link(netlink, &used, request, NLM_F_MULTI);
        if (type == RTM_GETADDR && family != LX_AF_INET6)
            put_address(netlink, &used, request, LX_AF_INET);
        if (type == RTM_GETADDR && family != LX_AF_INET)
            put_address(netlink, &used, request, LX_AF_INET6);
        int problem = used ? queue_reply(socket, netlink, &used) : 0;
        if (problem)
            return problem;
        int32_t zero = 0;
        begin(netlink, &used, request, NLMSG_DONE, NLM_F_MULTI, &header);
        append(netlink, &used, &zero, sizeof zero);
        end(netlink, used, header);
    } else if (!dump && type == RTM_GETLINK && body_size >= sizeof(struct ifinfomsg) && ((const struct ifinfomsg *)(const void *)body)->ifi_index <= 1) {
        put_link(netlink, &used, request, 0);
    } else {
        struct nlmsgerr error = { -EPERM, *request };
        if (type < NLMSG_MIN_TYPE && !(request->nlmsg_flags & NLM_F_ACK))
            return 0;
        begin(netlink, &used, request, NLMSG_ERROR, 0, &header);
        append(netlink, &used, &error, sizeof error);
        end(netlink, used, header);
    }
    return queue_reply(socket, netlink, &used);
}

/* Requests are served by the sender itself. */
static int64_t netlink_serve(struct socket *socket, struct message *message)
{
    unsigned char request[1024];
    size_t size = message->buffer->size;
    if (size > sizeof request)
        return -EMSGSIZE;
    if (size && io_copy_in(message->buffer, request, size) != (int64_t)size)
        return -EFAULT;
    struct netlink *netlink = heap_alloc(sizeof *netlink);
    if (!netlink)
        return -ENOMEM;
    int problem = socket->name.size ? 0 : socket->family->autobind(socket);
    memcpy(&netlink->port, socket->name.bytes + PORT_OFFSET, sizeof netlink->port);
    for (size_t at = 0; !problem && at + sizeof(struct nlmsghdr) <= size;) {
        struct nlmsghdr header;
        memcpy(&header, request + at, sizeof header);
        if (header.nlmsg_len < sizeof header || header.nlmsg_len > size - at)
            break;
        problem = answer(socket, netlink, &header, request + at + sizeof header, header.nlmsg_len - sizeof header);
        at += NLMSG_ALIGN(header.nlmsg_len);
    }
    heap_free(netlink);
    wait_queue_wake(&socket->queue, POLLIN | POLLRDNORM, 1 << 30);
    return problem ? problem : (int64_t)size;
}

static int netlink_check(int type, int protocol)
{
    if (type != LX_SOCK_RAW && type != LX_SOCK_DGRAM)
        return -ESOCKTNOSUPPORT;
    return protocol == NETLINK_ROUTE ? 0 : -EPROTONOSUPPORT;
}

static int netlink_parse(const struct socket *socket, const unsigned char *address, size_t size, struct socket_name *out_name)
{
    if (size < NAME_SIZE)
        return -EINVAL;
    memset(out_name, 0, sizeof *out_name);
    memcpy(out_name->bytes, address, NAME_SIZE);
    out_name->size = NAME_SIZE;
    return out_name->family == LX_AF_NETLINK ? 0 : -EINVAL;
}

static int netlink_bind(struct socket *socket, struct socket_name *name)
{
    uint32_t port;
    memcpy(&port, name->bytes + PORT_OFFSET, sizeof port);
    scoped_lock(&socket->lock);
    name_of(&socket->name, port ? port : (uint32_t)lx_process()->pid);
    return 0;
}

static int netlink_autobind(struct socket *socket)
{
    struct socket_name name;
    name_of(&name, 0);
    return netlink_bind(socket, &name);
}

static int netlink_find(struct socket *from, const struct socket_name *name, struct socket **out_target) { return -ECONNREFUSED; }

const struct socket_family netlink_family = {
    .number = LX_AF_NETLINK, .name = "netlink", .check = netlink_check, .parse = netlink_parse, .bind = netlink_bind, .autobind = netlink_autobind,
    .find = netlink_find, .serve = netlink_serve,
};
