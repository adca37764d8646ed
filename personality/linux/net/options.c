/* getsockopt and setsockopt. Options are rows of a table; those that mean nothing to a loopback connection are kept and given back. */
#include "personality/linux/net/socket.h"

enum { SOL_SOCKET_ = 1, SOL_IP_ = 0, SOL_TCP_ = 6, SOL_UDP_ = 17, SOL_IPV6_ = 41, SOL_UDPLITE_ = 136 };
enum { SO_DEBUG_ = 1, SO_REUSEADDR_, SO_TYPE_, SO_ERROR_, SO_DONTROUTE_, SO_BROADCAST_, SO_SNDBUF_, SO_RCVBUF_, SO_KEEPALIVE_, SO_OOBINLINE_, SO_NO_CHECK_, SO_PRIORITY_,
       SO_LINGER_, SO_BSDCOMPAT_, SO_REUSEPORT_, SO_PASSCRED_, SO_PEERCRED_, SO_RCVLOWAT_, SO_SNDLOWAT_, SO_RCVTIMEO_, SO_SNDTIMEO_, SO_BINDTODEVICE_ = 25,
       SO_TIMESTAMP_ = 29, SO_ACCEPTCONN_ = 30, SO_PEERSEC_ = 31, SO_SNDBUFFORCE_ = 32, SO_RCVBUFFORCE_ = 33, SO_PASSSEC_ = 34, SO_TIMESTAMPNS_ = 35, SO_MARK_ = 36, SO_PROTOCOL_ = 38, SO_DOMAIN_ = 39,
       SO_INCOMING_CPU_ = 49, SO_RCVTIMEO_NEW_ = 66, SO_SNDTIMEO_NEW_ = 67, SO_PEERPIDFD_ = 77 };
enum { BUFFER_MINIMUM = 2048, BUFFER_MAXIMUM = 16 << 20 };

enum option_kind { OPTION_BOOL, OPTION_INT, OPTION_KEPT /* means nothing here, but reading gives what was set; `value` at first */ };
struct option_row {
    int level, number;
    enum option_kind kind;
    size_t offset;
    int value;
};
#define BOOL(level, number, field) { level, number, OPTION_BOOL, offsetof(struct socket, field), 0 }
#define INT(level, number, field) { level, number, OPTION_INT, offsetof(struct socket, field), 0 }
#define KEPT(level, number, value) { level, number, OPTION_KEPT, 0, value }
static const struct option_row rows[] = {
    BOOL(SOL_SOCKET_, SO_REUSEADDR_, reuse_address), BOOL(SOL_SOCKET_, SO_REUSEPORT_, reuse_port), BOOL(SOL_SOCKET_, SO_KEEPALIVE_, keep_alive),
    BOOL(SOL_SOCKET_, SO_BROADCAST_, broadcast), BOOL(SOL_SOCKET_, SO_OOBINLINE_, oob_inline), BOOL(SOL_SOCKET_, SO_PASSCRED_, pass_credentials),
    BOOL(SOL_SOCKET_, SO_TIMESTAMP_, timestamp), INT(SOL_SOCKET_, SO_PRIORITY_, priority), INT(SOL_SOCKET_, SO_MARK_, mark),
    KEPT(SOL_SOCKET_, SO_DEBUG_, 0), KEPT(SOL_SOCKET_, SO_DONTROUTE_, 0), KEPT(SOL_SOCKET_, SO_NO_CHECK_, 0), KEPT(SOL_SOCKET_, SO_PASSSEC_, 0),
    KEPT(SOL_SOCKET_, SO_INCOMING_CPU_, 0),
    BOOL(SOL_TCP_, 1 /* TCP_NODELAY */, no_delay), KEPT(SOL_TCP_, 2 /* TCP_MAXSEG */, 65483), BOOL(SOL_TCP_, 3 /* TCP_CORK */, cork),
    KEPT(SOL_TCP_, 4 /* TCP_KEEPIDLE */, 7200), KEPT(SOL_TCP_, 5 /* TCP_KEEPINTVL */, 75), KEPT(SOL_TCP_, 6 /* TCP_KEEPCNT */, 9),
    KEPT(SOL_TCP_, 7 /* TCP_SYNCNT */, 6), KEPT(SOL_TCP_, 8 /* TCP_LINGER2 */, 60), KEPT(SOL_TCP_, 9 /* TCP_DEFER_ACCEPT */, 0),
    KEPT(SOL_TCP_, 10 /* TCP_WINDOW_CLAMP */, 0), KEPT(SOL_TCP_, 12 /* TCP_QUICKACK */, 1), KEPT(SOL_TCP_, 18 /* TCP_USER_TIMEOUT */, 0),
    KEPT(SOL_TCP_, 23 /* TCP_FASTOPEN */, 0), KEPT(SOL_TCP_, 25 /* TCP_NOTSENT_LOWAT */, 0),
    KEPT(SOL_IP_, 1 /* IP_TOS */, 0), KEPT(SOL_IP_, 2 /* IP_TTL */, 64), KEPT(SOL_IP_, 8 /* IP_PKTINFO */, 0), KEPT(SOL_IP_, 10 /* IP_MTU_DISCOVER */, 1),
    KEPT(SOL_IP_, 11 /* IP_RECVERR */, 0), KEPT(SOL_IP_, 15 /* IP_FREEBIND */, 0), KEPT(SOL_IP_, 24 /* IP_BIND_ADDRESS_NO_PORT */, 0),
    KEPT(SOL_IP_, 32 /* IP_MULTICAST_IF */, 0), KEPT(SOL_IP_, 33 /* IP_MULTICAST_TTL */, 1), KEPT(SOL_IP_, 34 /* IP_MULTICAST_LOOP */, 1), KEPT(SOL_IP_, 13 /* IP_RECVTOS */, 0), KEPT(SOL_IP_, 12 /* IP_RECVTTL */, 0),
    BOOL(SOL_IPV6_, 26 /* IPV6_V6ONLY */, only_v6), KEPT(SOL_IPV6_, 16 /* IPV6_UNICAST_HOPS */, 64), KEPT(SOL_IPV6_, 18 /* IPV6_MULTICAST_HOPS */, 1),
    KEPT(SOL_IPV6_, 19 /* IPV6_MULTICAST_LOOP */, 1), KEPT(SOL_IPV6_, 25 /* IPV6_RECVERR */, 0), KEPT(SOL_IPV6_, 49 /* IPV6_RECVPKTINFO */, 0),
    KEPT(SOL_IPV6_, 66 /* IPV6_RECVTCLASS */, 0), KEPT(SOL_IPV6_, 67 /* IPV6_TCLASS */, 0), KEPT(SOL_IPV6_, 23 /* IPV6_MTU_DISCOVER */, 1), KEPT(SOL_IPV6_, 51 /* IPV6_RECVHOPLIMIT */, 0),
    KEPT(SOL_SOCKET_, SO_TIMESTAMPNS_, 0), KEPT(SOL_UDPLITE_, 10 /* UDPLITE_SEND_CSCOV */, 0), KEPT(SOL_UDPLITE_, 11 /* UDPLITE_RECV_CSCOV */, 0),
};

static const struct option_row *find_row(const struct socket *socket, int level, int number)
{
    if ((level == SOL_TCP_ && (socket->family == &unix_family || !socket_is_stream(socket))) || (level == SOL_IPV6_ && socket->family != &inet6_family) ||
        (level == SOL_IP_ && socket->family == &unix_family) || (level == SOL_UDPLITE_ && socket->protocol != LX_PROTOCOL_UDPLITE))
        return NULL;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].level == level && rows[i].number == number)
            return &rows[i];
    return NULL;
}

enum { ROW_COUNT = sizeof rows / sizeof *rows };

static int32_t kept_value(const struct socket *socket, const struct option_row *row)
{
    return socket->kept_options ? socket->kept_options[row - rows] : row->value;
}

/* The lock is held. */
static int keep_value(struct socket *socket, const struct option_row *row, int32_t value)
{
    if (!socket->kept_options) {
        if (!(socket->kept_options = heap_alloc(ROW_COUNT * sizeof *socket->kept_options)))
            return -ENOMEM;
        for (size_t i = 0; i < ROW_COUNT; i++)
            socket->kept_options[i] = rows[i].value;
    }
    socket->kept_options[row - rows] = value;
    return 0;
}

int32_t socket_option(const struct socket *socket, int level, int number)
{
    const struct option_row *row = find_row(socket, level, number);

    return row ? kept_value(socket, row) : 0;
}

int socket_copy_options(struct socket *to, const struct socket *from)
{
    if (!from->kept_options)
        return 0;
    if (!(to->kept_options = heap_alloc(ROW_COUNT * sizeof *to->kept_options)))
        return -ENOMEM;
    memcpy(to->kept_options, from->kept_options, ROW_COUNT * sizeof *to->kept_options);
    return 0;
}

static int unknown(const struct socket *socket, int level)
{
    return level == SOL_SOCKET_ || socket->family != &unix_family ? -ENOPROTOOPT : -EOPNOTSUPP;
}

static int set_timeout(uint64_t *timeout_ns, const void *guest_value, int size)
{
    int64_t time[2];
    if (size < (int)sizeof time)
        return -EINVAL;
    int problem = guest_read(time, guest_value, sizeof time);
    if (problem)
        return problem;
    if (time[1] < 0 || time[1] >= 1000000)
        return -EDOM;
    *timeout_ns = time[0] < 0 ? 1 : (uint64_t)time[0] > 1u << 30 ? 0 : (uint64_t)time[0] * 1000000000u + (uint64_t)time[1] * 1000u;
    return 0;
}

static uint64_t clamp_buffer(int wanted)
{
    uint64_t doubled = (uint64_t)(uint32_t)wanted * 2; /* socket(7): the kernel doubles this value */
    return wanted < 0 || doubled < BUFFER_MINIMUM ? BUFFER_MINIMUM : doubled > BUFFER_MAXIMUM ? BUFFER_MAXIMUM : doubled;
}

static long set_special(struct socket *socket, int number, const void *guest_value, int size)
{
    int value = 0, problem = 0;
    switch (number) {
    case SO_RCVTIMEO_: case SO_RCVTIMEO_NEW_:
        return set_timeout(&socket->receive_timeout_ns, guest_value, size);
    case SO_SNDTIMEO_: case SO_SNDTIMEO_NEW_:
        return set_timeout(&socket->send_timeout_ns, guest_value, size);
    case SO_LINGER_: {
        int linger[2];
        if (size < (int)sizeof linger)
            return -EINVAL;
        if ((problem = guest_read(linger, guest_value, sizeof linger)))
            return problem;
        socket->linger = linger[0] != 0;
        socket->linger_seconds = linger[1];
        return 0;
    }
    case SO_BINDTODEVICE_: case SO_TYPE_: case SO_ERROR_: case SO_DOMAIN_: case SO_PROTOCOL_: case SO_ACCEPTCONN_: case SO_PEERCRED_:
        return number == SO_BINDTODEVICE_ ? -EPERM : -ENOPROTOOPT;
    }
    if (size < (int)sizeof value)
        return -EINVAL;
    if ((problem = guest_read(&value, guest_value, sizeof value)))
        return problem;
    switch (number) {
    case SO_SNDBUF_: case SO_SNDBUFFORCE_:
        socket->send_limit = clamp_buffer(value);
        return 0;
    case SO_RCVBUF_: case SO_RCVBUFFORCE_:
        socket->receive_limit = clamp_buffer(value);
        return 0;
    case SO_RCVLOWAT_:
        socket->low_water = value > 0 ? (uint32_t)value : 1;
        return 0;
    }
    return -ENOPROTOOPT;
}

LX_SYSCALL(setsockopt, int fd, int level, int number, const void *guest_value, int size)
{
    struct open_file *raw;
    int problem = socket_get(fd, &raw);
    if (problem)
        return problem;
    scoped_file file = raw;
    struct socket *socket = socket_of(file);
    if (size < 0)
        return -EINVAL;
    const struct option_row *row = find_row(socket, level, number);
    if (!row)
        return level == SOL_SOCKET_ ? set_special(socket, number, guest_value, size) : unknown(socket, level);
    int value = 0;
    if (size < (int)sizeof value && level == SOL_SOCKET_)
        return -EINVAL;
    if ((problem = guest_read(&value, guest_value, size < (int)sizeof value ? (size_t)size : sizeof value)))
        return problem;
    scoped_lock(&socket->lock);
    if (level == SOL_IPV6_ && number == 26 && socket->name.size)
        return -EINVAL;
    if (row->kind == OPTION_BOOL)
        *(bool *)((char *)socket + row->offset) = value != 0;
    else if (row->kind == OPTION_INT)
        *(int32_t *)((char *)socket + row->offset) = value;
    else
        return keep_value(socket, row, value);
    return 0;
}

static int give(void *guest_value, int *guest_size, int room, const void *value, int size)
{
    if (room > size)
        room = size;
    int problem = guest_write(guest_value, value, (size_t)room);
    return problem ? problem : guest_write(guest_size, &room, sizeof room);
}

LX_SYSCALL(getsockopt, int fd, int level, int number, void *guest_value, int *guest_size)
{
    struct open_file *raw;
    int room, problem = socket_get(fd, &raw);
    if (problem)
        return problem;
    scoped_file file = raw;
    struct socket *socket = socket_of(file);
    if ((problem = guest_read(&room, guest_size, sizeof room)))
        return problem;
    if (room < 0)
        return -EINVAL;
    int value;
    const struct option_row *row = find_row(socket, level, number);
    if (row) {
        value = row->kind == OPTION_BOOL ? *(bool *)((char *)socket + row->offset) : row->kind == OPTION_INT ? *(int32_t *)((char *)socket + row->offset) : kept_value(socket, row);
        return give(guest_value, guest_size, room, &value, sizeof value);
    }
    if (level == SOL_TCP_ && number == 11 /* TCP_INFO */ && socket_is_stream(socket) && socket->family != &unix_family) {
        unsigned char info[104];
        memset(info, 0, sizeof info);
        info[0] = socket->state == SOCKET_LISTENING ? 10 : socket->state == SOCKET_CONNECTED ? (socket->peer_closed ? 8 : 1) : 7;
        return give(guest_value, guest_size, room, info, sizeof info);
    }
    if (level != SOL_SOCKET_)
        return level == SOL_TCP_ && socket_is_stream(socket) ? unknown(socket, level)
               : level == SOL_IP_ && socket->family != &unix_family ? -ENOPROTOOPT : -EOPNOTSUPP;
    switch (number) {
    case SO_TYPE_: value = socket->type; break;
    case SO_DOMAIN_: value = socket->family->number; break;
    case SO_PROTOCOL_: value = socket->family == &unix_family ? 0 : socket_is_stream(socket) ? 6 : socket->protocol ? socket->protocol : 17; break;
    case SO_ERROR_: value = -socket_take_error(socket); break;
    case SO_ACCEPTCONN_: value = socket->state == SOCKET_LISTENING; break;
    case SO_SNDBUF_: value = (int)socket->send_limit; break;
    case SO_RCVBUF_: value = (int)socket->receive_limit; break;
    case SO_RCVLOWAT_: value = (int)socket->low_water; break;
    case SO_SNDLOWAT_: value = 1; break;
    case SO_LINGER_: {
        int linger[2] = { socket->linger, socket->linger_seconds };
        return give(guest_value, guest_size, room, linger, sizeof linger);
    }
    case SO_RCVTIMEO_: case SO_SNDTIMEO_: case SO_RCVTIMEO_NEW_: case SO_SNDTIMEO_NEW_: {
        uint64_t timeout = number == SO_RCVTIMEO_ || number == SO_RCVTIMEO_NEW_ ? socket->receive_timeout_ns : socket->send_timeout_ns;
        int64_t time[2] = { (int64_t)(timeout / 1000000000u), (int64_t)(timeout % 1000000000u / 1000u) };
        return give(guest_value, guest_size, room, time, sizeof time);
    }
    case SO_PEERCRED_: {
        struct socket_credentials credentials = socket->family == &unix_family ? socket->peer_credentials : (struct socket_credentials){ 0, ~0u, ~0u };
        return give(guest_value, guest_size, room, &credentials, sizeof credentials);
    }
    case SO_PEERSEC_:
        return -ENOPROTOOPT;
    case SO_BINDTODEVICE_: {
        int none = 0;
        return guest_write(guest_size, &none, sizeof none);
    }
    default:
        return -ENOPROTOOPT;
    }
    return give(guest_value, guest_size, room, &value, sizeof value);
}
