/* Sockets inside the sandbox: AF_UNIX, and AF_INET and AF_INET6 on the sandbox's own loopback.
 *
 * Every connection has both ends in the kernel heap, so one engine serves all families: an end owns its receive queue of packets
 * and the sender puts packets there itself. Families differ in how names are written, bound and found (struct socket_family).
 *
 * Locks: socket.lock guards one end. Two ends are never locked together: a sender takes a reference on the peer under its own lock,
 * lets go, and locks the peer. The name tables have one lock (net_state.lock), taken before any socket.lock. */
#ifndef LX_NET_SOCKET_H
#define LX_NET_SOCKET_H

#include "personality/linux/file.h"
#include "personality/linux/fs/vfs.h"
#include "personality/linux/lx.h"
#include "personality/linux/process/process.h"
#include <linux/poll.h>

/* libc's numbers; the kernel's own headers keep them to themselves. */
enum { LX_AF_UNSPEC = 0, LX_AF_UNIX = 1, LX_AF_INET = 2, LX_AF_INET6 = 10, LX_AF_NETLINK = 16 };
enum { LX_SOCK_STREAM = 1, LX_SOCK_DGRAM = 2, LX_SOCK_RAW = 3, LX_SOCK_SEQPACKET = 5, LX_SOCK_CLOEXEC = 02000000, LX_SOCK_NONBLOCK = 04000 };
enum { LX_SHUT_RD, LX_SHUT_WR, LX_SHUT_RDWR };
enum { LX_MSG_OOB = 1, LX_MSG_PEEK = 2, LX_MSG_DONTROUTE = 4, LX_MSG_CTRUNC = 8, LX_MSG_TRUNC = 0x20, LX_MSG_DONTWAIT = 0x40, LX_MSG_EOR = 0x80, LX_MSG_WAITALL = 0x100,
       LX_MSG_CONFIRM = 0x800, LX_MSG_ERRQUEUE = 0x2000, LX_MSG_NOSIGNAL = 0x4000, LX_MSG_MORE = 0x8000, LX_MSG_WAITFORONE = 0x10000, LX_MSG_CMSG_CLOEXEC = 0x40000000 };
enum { LX_SCM_RIGHTS = 1, LX_SCM_CREDENTIALS = 2 };

struct socket_name { uint32_t size; union { uint16_t family; unsigned char bytes[128]; }; }; /* size 0: unnamed */
struct socket_credentials { int32_t pid; uint32_t uid, gid; }; /* struct ucred */

enum { RIGHTS_MAX = 253 };
/* What an IP header would say; for the control messages that programs ask for. */
struct datagram_header { int32_t hop_limit, traffic_class; unsigned char destination[16]; uint64_t time_ns; };
struct packet {
    struct list node;
    uint32_t size, start, room;      /* data[start .. size) is still to be read; room: bytes allocated */
    uint32_t rights_count;
    bool has_credentials, urgent;    /* urgent: its last byte is (MSG_OOB) */
    struct socket_credentials credentials;
    struct datagram_header header;    /* inet datagrams */
    struct open_file **rights;
    struct socket_name *from;         /* datagrams: who sent it; heap, may be NULL */
    unsigned char data[];
};

struct message;
enum { URGENT_NONE = -1, URGENT_TAKEN = -2 /* by MSG_OOB; it still is in the stream */ };
enum socket_state { SOCKET_FREE, SOCKET_LISTENING, SOCKET_CONNECTED, SOCKET_DISCONNECTED };
struct socket {
    _Atomic uint32_t references;     /* the open file, the peer, name tables, a pending queue */
    const struct socket_family *family;
    int type, protocol;
    struct lock lock;                /* guards all below */
    struct wait_queue queue;         /* readers, writers, accepters, pollers; woken with POLL* masks */
    enum socket_state state;
    struct socket *peer;             /* with a reference: connected streams, connected unix datagrams */
    bool receive_closed, send_closed, peer_closed, peer_reset, closed;
    int error;                       /* SO_ERROR: positive errno, read once */
    bool connecting;                 /* a connect that did not wait: the next one tells how it went */
    bool wrote_to_closed;            /* tcp: the first write after the peer's close is taken, and answered with a reset */
    struct mutex receive_mutex;      /* held by a reader while it copies: readers alone remove packets */
    struct list packets;
    uint64_t received_bytes, receive_limit, send_limit;
    uint64_t read_bytes;             /* streams: how far readers are */
    /* tcp(7), urgent data: the byte is part of the stream. Reads stop before it, and skip it unless SO_OOBINLINE. */
    uint64_t urgent_mark;            /* its place in the stream, while `urgent` is not URGENT_NONE */
    int urgent;                      /* the byte, or: */
    struct socket_name name, peer_name;
    struct socket_credentials peer_credentials, credentials;
    struct list pending;             /* listening: connections not accepted yet (struct socket.pending_node) */
    struct list pending_node;
    uint32_t pending_count, backlog;
    struct list bound_node;          /* in the family's table; guarded by net_state.lock */
    /* Descriptors in flight (rights.c); guarded by net_state.flight_lock. */
    struct list flight_node;
    struct open_file *file;          /* while in flight */
    uint32_t in_flight, held_by_suspects;
    bool suspect, to_visit;
    struct inode *bound_inode;       /* AF_UNIX path name, with a reference */
    uint64_t receive_timeout_ns, send_timeout_ns; /* 0: none */
    uint32_t low_water;
    bool pass_credentials, only_v6, reuse_address, reuse_port, keep_alive, broadcast, oob_inline, no_delay, cork, linger, timestamp;
    int32_t linger_seconds, priority, mark, passive_ttl;
    int32_t *kept_options;           /* values of the options that only are kept (options.c), NULL while none was set */
};

struct socket_family {
    int number;
    const char *name;
    int (*check)(int type, int protocol);  /* may such a socket be made? 0 or errno */
    /* A guest's address, checked; names the family's way (`size` as given). */
    int (*parse)(const struct socket *socket, const unsigned char *address, size_t size, struct socket_name *out_name);
    int (*bind)(struct socket *socket, struct socket_name *name);  /* fills in what was left open (port 0) */
    int (*autobind)(struct socket *socket);                        /* before connect, listen or send of an unnamed one */
    void (*unbind)(struct socket *socket);                         /* at the last close */
    /* The listener or datagram receiver of that name, with a reference. -ECONNREFUSED, -ENOENT, -ENETUNREACH, -EPROTOTYPE. */
    int (*find)(struct socket *from, const struct socket_name *name, struct socket **out_target);
    /* Writes another end's name as sockets of this family see it (IPv4 mapped into IPv6, the address instead of "any"). [as it is] */
    void (*present)(struct socket_name *name);
    /* The family answers what is sent itself, into the sender's own queue. [send_packet] */
    int64_t (*serve)(struct socket *socket, struct message *message);
};
enum { LX_PROTOCOL_UDPLITE = 136 };
extern const struct socket_family unix_family, inet_family, inet6_family, netlink_family;

struct net_state {
    struct lock lock;
    struct list unix_abstract[64];
    struct list bound[3];            /* inet: tcp, udp and udplite sockets with a port */
    uint32_t next_ephemeral, next_abstract;
    struct lock flight_lock;         /* guards the two below; before any socket.lock */
    struct list flying;              /* unix sockets of which a descriptor is in flight */
    _Atomic uint64_t in_flight;      /* descriptors of any kind */
};
static inline struct net_state *net(void) { return lx_kernel->net; }

extern const struct file_ops socket_ops;
struct socket *socket_create(const struct socket_family *family, int type, int protocol);
static inline struct socket *socket_ref(struct socket *socket) { socket->references++; return socket; }
void socket_unref(struct socket *socket);
/* The open socket behind fd: the file with a reference, or -EBADF, -ENOTSOCK. */
int socket_get(int fd, struct open_file **out_file);
static inline struct socket *socket_of(struct open_file *file) { return file->object; }
int socket_install(struct socket *socket, int type_flags); /* takes over the reference; a new fd */
/* Peer with a reference, or NULL. */
struct socket *socket_peer(struct socket *socket);
/* Streams, with the lock held: is the next byte the urgent one; is there anything to read but an urgent byte that reads skip. */
static inline bool socket_at_mark(const struct socket *socket)
{
    return socket->urgent != URGENT_NONE && socket->urgent_mark == socket->read_bytes;
}
static inline bool socket_readable(const struct socket *socket)
{
    return !list_empty(&socket->packets) && !(socket_at_mark(socket) && !socket->oob_inline && socket->received_bytes == 1);
}
static inline bool socket_is_stream(const struct socket *socket) { return socket->type == LX_SOCK_STREAM; }
int socket_take_error(struct socket *socket); /* 0 or negative errno; clears it */
uint64_t socket_deadline(uint64_t timeout_ns, bool no_wait);
int socket_read_address(const struct socket *socket, const void *guest_address, int size, struct socket_name *out_name);
int socket_write_address(const struct socket_name *name, void *guest_address, int *guest_size);

/* transfer.c */
struct message {
    struct io_buffer *buffer;
    int flags;                          /* LX_MSG_* */
    struct socket_name name;            /* send: destination (size 0: none); receive: source */
    struct open_file **rights;          /* send: to be handed over on success; receive: caller owns them afterwards */
    uint32_t rights_count;
    bool has_credentials;
    struct socket_credentials credentials;
    int out_flags;                      /* receive: MSG_TRUNC, MSG_CTRUNC, MSG_EOR */
    bool has_header;
    struct datagram_header header;      /* send: hop limit and traffic class, -1: the socket's own */
};
int64_t socket_send(struct open_file *file, struct message *message);
int64_t socket_receive(struct open_file *file, struct message *message);
struct packet *packet_create(size_t room);
void packet_queue(struct socket *target, struct packet *packet); /* target->lock held */
void packet_free(struct packet *packet);
struct socket_credentials socket_own_credentials(void);

/* rights.c: descriptors on their way. departed: before they are queued; arrived: after they left the queue. No socket.lock held. */
int rights_allowed(uint32_t count);  /* 0, -ETOOMANYREFS */
void rights_departed(struct open_file **files, uint32_t count);
void rights_arrived(struct open_file **files, uint32_t count);
void rights_collect(void);

/* options.c: the value of an option of an inet socket, set or not. */
int32_t socket_option(const struct socket *socket, int level, int number);
int socket_copy_options(struct socket *to, const struct socket *from);

/* interface.c: ioctls about network interfaces. -ENOIOCTLCMD (-515): not one of them. */
long interface_ioctl(unsigned request, uint64_t argument);

int lx_net_init(void);

#endif
