/* Packets of the control socket, for both sides. A packet is taken whole or refused: sizes are
 * checked against what arrived, and descriptors nobody asked for are closed. */
#include <monitor/control.h>

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define DESCRIPTOR_MAX 3u

int control_send(int socket, const struct control_message *message, const void *payload,
                 const int *descriptors, size_t descriptor_count)
{
    struct control_message sent = *message;
    sent.version = CONTROL_VERSION;
    if (sent.size > CONTROL_PAYLOAD_MAX || descriptor_count > DESCRIPTOR_MAX)
        return -E2BIG;
    struct iovec parts[2] = {{&sent, sizeof(sent)}, {(void *)payload, sent.size}};
    struct msghdr header = {.msg_iov = parts, .msg_iovlen = sent.size ? 2 : 1};
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(DESCRIPTOR_MAX * sizeof(int))];
    } ancillary = {0};
    if (descriptor_count) {
        header.msg_control = &ancillary;
        header.msg_controllen = CMSG_SPACE(descriptor_count * sizeof(int));
        struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(descriptor_count * sizeof(int));
        memcpy(CMSG_DATA(rights), descriptors, descriptor_count * sizeof(int));
    }
    ssize_t size;
    do
        size = sendmsg(socket, &header, MSG_NOSIGNAL);
    while (size < 0 && errno == EINTR);
    return size < 0 ? -errno : 0;
}

static void take_descriptors(struct msghdr *header, int out_descriptors[3])
{
    size_t taken = 0;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part; part = CMSG_NXTHDR(header, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int descriptor;
            memcpy(&descriptor, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
            if (out_descriptors && taken < DESCRIPTOR_MAX)
                out_descriptors[taken++] = descriptor;
            else
                close(descriptor);
        }
    }
}

int control_receive(int socket, struct control_message *out_message, void *payload,
                    int out_descriptors[3])
{
    struct iovec parts[2] = {{out_message, sizeof(*out_message)}, {payload, CONTROL_PAYLOAD_MAX}};
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(DESCRIPTOR_MAX * sizeof(int))];
    } ancillary;
    struct msghdr header = {.msg_iov = parts,
                            .msg_iovlen = 2,
                            .msg_control = &ancillary,
                            .msg_controllen = sizeof(ancillary)};
    int own[DESCRIPTOR_MAX] = {-1, -1, -1};
    ssize_t size;
    do
        size = recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
    while (size < 0 && errno == EINTR);
    if (size < 0)
        return -errno;
    take_descriptors(&header, out_descriptors ? own : NULL);
    bool valid = (size_t)size >= sizeof(*out_message) && !(header.msg_flags & MSG_TRUNC) &&
                 out_message->version == CONTROL_VERSION &&
                 out_message->size == (size_t)size - sizeof(*out_message);
    for (size_t i = 0; i < DESCRIPTOR_MAX; i++) {
        if (valid && out_descriptors)
            out_descriptors[i] = own[i];
        else if (own[i] >= 0)
            close(own[i]);
    }
    if (size == 0)
        return 0;
    return valid ? 1 : -EPROTO;
}

bool control_peer_is_trusted(int socket)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);
    return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
           (peer.uid == geteuid() || peer.uid == 0);
}
