/* The system calls that move messages: sendto, recvfrom, sendmsg, recvmsg and their mmsg forms, with control messages decoded. */
#include "personality/linux/net/socket.h"

enum { VECTOR_MAX = 1024, CONTROL_MAX = 65536, SOL_SOCKET_ = 1, LOOPBACK_INDEX = 1 };

struct guest_message { /* struct msghdr */
    void *name;
    int32_t name_size, padding;
    struct bly_iovec *vector;
    size_t vector_count;
    void *control;
    size_t control_size;
    int32_t flags, padding2;
};
struct guest_control { size_t size; int32_t level, type; }; /* struct cmsghdr */

static size_t control_align(size_t size) { return (size + 7) & ~(size_t)7; }

/* Vector of a message: copied, checked, wrapped. The caller frees *out_vector. */
static int read_vector(const struct guest_message *header, struct bly_iovec **out_vector, struct io_buffer *out_buffer)
{
    if (header->vector_count > VECTOR_MAX)
        return -EMSGSIZE;
    struct bly_iovec *vector = heap_alloc((header->vector_count + 1) * sizeof *vector);
    if (!vector)
        return -ENOMEM;
    int problem = guest_read(vector, header->vector, header->vector_count * sizeof *vector);
    size_t total = 0;
    for (size_t i = 0; !problem && i < header->vector_count; i++) {
        if ((int64_t)vector[i].size < 0)
            problem = -EINVAL;
        else if (!guest_range_valid(vector[i].base, vector[i].size))
            problem = vector[i].size ? -EFAULT : 0;
        if (total + vector[i].size > 0x7ffff000)
            vector[i].size = 0x7ffff000 - total;
        total += vector[i].size;
    }
    if (problem) {
        heap_free(vector);
        return problem;
    }
    *out_vector = vector;
    *out_buffer = (struct io_buffer){ .vector = vector, .count = header->vector_count, .size = total };
    return 0;
}

static void release_rights(struct message *message)
{
    for (uint32_t i = 0; i < message->rights_count; i++)
        file_unref(message->rights[i]);
    heap_free(message->rights);
    message->rights = NULL;
    message->rights_count = 0;
}

static int take_descriptors(struct message *message, const int *descriptors, size_t count)
{
    if (message->rights_count + count > RIGHTS_MAX)
        return -EINVAL;
    int problem = rights_allowed((uint32_t)count);
    if (problem)
        return problem;
    struct open_file **grown = heap_realloc(message->rights, message->rights_count * sizeof *grown, (message->rights_count + count) * sizeof *grown);
    if (!grown && count)
        return -ENOMEM;
    message->rights = grown;
    for (size_t i = 0; i < count; i++) {
        struct open_file *file = fd_get(descriptors[i]);
        if (!file)
            return -EBADF;
        message->rights[message->rights_count++] = file;
    }
    return 0;
}

static int take_credentials(struct message *message, const struct socket_credentials *claimed)
{
    struct lx_process *process = lx_process();
    struct credentials *own = &process->credentials;
    bool pid_fits = claimed->pid == process->pid || lx_capable(21 /* CAP_SYS_ADMIN */);
    bool uid_fits = claimed->uid == own->uid || claimed->uid == own->euid || claimed->uid == own->suid || lx_capable(7 /* CAP_SETUID */);
    bool gid_fits = claimed->gid == own->gid || claimed->gid == own->egid || claimed->gid == own->sgid || lx_capable(6 /* CAP_SETGID */);
    if (!pid_fits || !uid_fits || !gid_fits)
        return -EPERM;
    message->credentials = *claimed;
    message->has_credentials = true;
    return 0;
}

/* Hop limit and traffic class of one datagram (ip(7), ipv6(7)); -1 stands for the socket's own. */
static int take_header(struct message *message, const struct socket *socket, const struct guest_control *control, const void *data, size_t size)
{
    bool v6 = socket->family == &inet6_family;
    int32_t value = 0;
    if (control->level != (v6 ? 41 : 0))
        return 0; /* meant for another layer */
    if (!message->has_header)
        message->header.hop_limit = message->header.traffic_class = -1;
    message->has_header = true;
    if (control->type == (v6 ? 50 : 8)) /* packet information: there is one interface */
        return size >= (v6 ? 20u : 12u) ? 0 : -EINVAL;
    bool hops = control->type == (v6 ? 52 : 2), class = control->type == (v6 ? 67 : 1);
    if (!hops && !class)
        return -EINVAL;
    if (size != sizeof value && !(!v6 && class && size == 1))
        return -EINVAL;
    memcpy(&value, data, size);
    if (value < -1 || value > 255 || (!v6 && hops && value < 1))
        return -EINVAL;
    *(hops ? &message->header.hop_limit : &message->header.traffic_class) = value;
    return 0;
}

static int decode_control(struct message *message, const struct socket *socket, const unsigned char *control, size_t size)
{
    for (size_t at = 0; at + sizeof(struct guest_control) <= size;) {
        struct guest_control header;
        memcpy(&header, control + at, sizeof header);
        if (header.size < sizeof header || header.size > size - at)
            return -EINVAL;
        const void *data = control + at + sizeof header;
        size_t data_size = header.size - sizeof header;
        int problem = 0;
        if (header.level == SOL_SOCKET_ && header.type == LX_SCM_RIGHTS && socket->family == &unix_family)
            problem = take_descriptors(message, data, data_size / sizeof(int));
        else if (header.level == SOL_SOCKET_ && header.type == LX_SCM_CREDENTIALS && socket->family == &unix_family)
            problem = data_size != sizeof(struct socket_credentials) ? -EINVAL : take_credentials(message, data);
        else if (header.level == SOL_SOCKET_)
            problem = -EINVAL;
        else if (socket->family == &inet_family || socket->family == &inet6_family)
            problem = take_header(message, socket, &header, data, data_size);
        if (problem)
            return problem;
        at += control_align(header.size);
    }
    return 0;
}

static int read_control(struct message *message, const struct socket *socket, const struct guest_message *header)
{
    if (!header->control || !header->control_size)
        return 0;
    if (header->control_size > CONTROL_MAX)
        return -ENOBUFS;
    unsigned char *control = heap_alloc(header->control_size);
    if (!control)
        return -ENOMEM;
    int problem = guest_read(control, header->control, header->control_size);
    if (!problem)
        problem = decode_control(message, socket, control, header->control_size);
    heap_free(control);
    return problem;
}

static int64_t send_one(struct open_file *file, const struct guest_message *header, int flags)
{
    struct socket *socket = socket_of(file);
    struct message message = { .flags = flags };
    struct io_buffer buffer;
    struct bly_iovec *vector = NULL;
    int64_t result = 0;
    if (header->name && header->name_size && !(socket_is_stream(socket) && socket->family != &unix_family))
        result = socket_read_address(socket, header->name, header->name_size, &message.name);
    if (!result)
        result = read_vector(header, &vector, &buffer);
    if (!result)
        result = read_control(&message, socket, header);
    if (!result) {
        message.buffer = &buffer;
        result = socket_send(file, &message);
    }
    release_rights(&message);
    heap_free(vector);
    return result;
}

/* Appends one control message if it fits; else MSG_CTRUNC. */
static int put_control_at(struct guest_message *header, size_t *used, int level, int type, const void *data, size_t size, int *out_flags)
{
    struct guest_control control = { sizeof control + size, level, type };
    if (*used + sizeof control > header->control_size) {
        *out_flags |= LX_MSG_CTRUNC;
        return 0;
    }
    if (*used + control.size > header->control_size) {
        control.size = header->control_size - *used;
        *out_flags |= LX_MSG_CTRUNC;
    }
    char *at = (char *)header->control + *used;
    int problem = guest_write(at, &control, sizeof control);
    if (!problem)
        problem = guest_write(at + sizeof control, data, control.size - sizeof control);
    *used += control_align(control.size);
    if (*used > header->control_size)
        *used = header->control_size;
    return problem;
}

static int put_control(struct guest_message *header, size_t *used, int type, const void *data, size_t size, int *out_flags)
{
    return put_control_at(header, used, SOL_SOCKET_, type, data, size, out_flags);
}

/* What the program asked to be told of an inet datagram, in the order in which Linux tells it. */
static int give_header(struct message *message, const struct socket *socket, struct guest_message *header, size_t *used)
{
    const struct datagram_header *from = &message->header;
    int64_t seconds = (int64_t)(from->time_ns / 1000000000u), fraction = (int64_t)(from->time_ns % 1000000000u);
    int64_t time[2] = { seconds, fraction / 1000 }, exact[2] = { seconds, fraction };
    struct { unsigned char address[16]; int32_t index; } v6_info = { .index = LOOPBACK_INDEX };
    struct { int32_t index; unsigned char local[4], destination[4]; } v4_info = { .index = LOOPBACK_INDEX };
    unsigned char tos = (unsigned char)from->traffic_class;
    memcpy(v6_info.address, from->destination, 16);
    memcpy(v4_info.local, from->destination, 4);
    memcpy(v4_info.destination, from->destination, 4);
    bool v6 = socket->family == &inet6_family;
    const struct { bool wanted; int level, type; const void *data; size_t size; } rows[] = {
        { socket->timestamp, SOL_SOCKET_, 29, time, sizeof time },
        { socket_option(socket, SOL_SOCKET_, 35), SOL_SOCKET_, 35, exact, sizeof exact },
        { v6 && socket_option(socket, 41, 49), 41, 50 /* IPV6_PKTINFO */, &v6_info, sizeof v6_info },
        { v6 && socket_option(socket, 41, 51), 41, 52 /* IPV6_HOPLIMIT */, &from->hop_limit, sizeof from->hop_limit },
        { v6 && socket_option(socket, 41, 66), 41, 67 /* IPV6_TCLASS */, &from->traffic_class, sizeof from->traffic_class },
        { !v6 && socket_option(socket, 0, 8), 0, 8 /* IP_PKTINFO */, &v4_info, sizeof v4_info },
        { !v6 && socket_option(socket, 0, 12), 0, 2 /* IP_TTL */, &from->hop_limit, sizeof from->hop_limit },
        { !v6 && socket_option(socket, 0, 13), 0, 1 /* IP_TOS */, &tos, sizeof tos },
    };
    int problem = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows && !problem; i++)
        if (rows[i].wanted)
            problem = put_control_at(header, used, rows[i].level, rows[i].type, rows[i].data, rows[i].size, &message->out_flags);
    return problem;
}

static int give_control(struct message *message, const struct socket *socket, struct guest_message *header, int flags)
{
    size_t used = 0;
    int problem = 0;
    if (!header->control)
        header->control_size = 0;
    if (message->has_header && socket->family != &unix_family)
        problem = give_header(message, socket, header, &used);
    if (!problem && socket->pass_credentials && message->has_credentials)
        problem = put_control(header, &used, LX_SCM_CREDENTIALS, &message->credentials, sizeof message->credentials, &message->out_flags);
    if (!problem && message->rights_count) {
        size_t room = header->control_size > used + sizeof(struct guest_control) ? (header->control_size - used - sizeof(struct guest_control)) / sizeof(int) : 0;
        int descriptors[RIGHTS_MAX];
        uint32_t given = 0;
        while (given < message->rights_count && given < room) {
            int fd = fd_install(message->rights[given], 0, flags & LX_MSG_CMSG_CLOEXEC);
            if (fd < 0)
                break;
            descriptors[given++] = fd;
        }
        if (given < message->rights_count)
            message->out_flags |= LX_MSG_CTRUNC;
        if (given)
            problem = put_control(header, &used, LX_SCM_RIGHTS, descriptors, given * sizeof(int), &message->out_flags);
        memmove(message->rights, message->rights + given, (message->rights_count - given) * sizeof *message->rights);
        message->rights_count -= given; /* what had no room is closed by the caller */
    }
    header->control_size = used;
    return problem;
}

/* Fills name, control and flags of `header`; name_size is what the guest offered, then what there is. */
static int64_t receive_one(struct open_file *file, struct guest_message *header, int flags)
{
    struct socket *socket = socket_of(file);
    struct message message = { .flags = flags };
    struct io_buffer buffer;
    struct bly_iovec *vector;
    if (header->name && header->name_size < 0)
        return -EINVAL;
    int problem = read_vector(header, &vector, &buffer);
    if (problem)
        return problem;
    message.buffer = &buffer;
    /* No socket of a sandbox has errors queued. */
    int64_t result = socket_receive(file, &message);
    if (result >= 0) {
        problem = give_control(&message, socket, header, flags);
        if (!problem && header->name) {
            size_t given = (size_t)header->name_size < message.name.size ? (size_t)header->name_size : message.name.size;
            problem = guest_write(header->name, message.name.bytes, given);
            header->name_size = (int32_t)message.name.size;
        }
        header->flags = message.out_flags | (flags & LX_MSG_CMSG_CLOEXEC);
        if (problem)
            result = problem;
    }
    release_rights(&message);
    heap_free(vector);
    return result;
}

LX_SYSCALL(sendto, int fd, const void *data, size_t size, int flags, const void *address, int address_size)
{
    struct open_file *raw;
    int problem = socket_get(fd, &raw);
    if (problem)
        return problem;
    scoped_file file = raw;
    struct socket *socket = socket_of(file);
    if (size > 0x7ffff000)
        size = 0x7ffff000;
    if (!guest_range_valid(data, size))
        return -EFAULT;
    struct message message = { .flags = flags };
    if (address && !(socket_is_stream(socket) && socket->family != &unix_family) && (problem = socket_read_address(socket, address, address_size, &message.name)))
        return problem;
    struct bly_iovec one = { (void *)data, size };
    struct io_buffer buffer = { .vector = &one, .count = 1, .size = size };
    message.buffer = &buffer;
    return socket_send(file, &message);
}

LX_SYSCALL(recvfrom, int fd, void *data, size_t size, int flags, void *address, int *address_size)
{
    struct open_file *raw;
    int problem = socket_get(fd, &raw);
    if (problem)
        return problem;
    scoped_file file = raw;
    if (size > 0x7ffff000)
        size = 0x7ffff000;
    if (!guest_range_valid(data, size))
        return -EFAULT;
    struct bly_iovec one = { data, size };
    struct io_buffer buffer = { .vector = &one, .count = 1, .size = size };
    struct message message = { .flags = flags, .buffer = &buffer };
    int64_t result = socket_receive(file, &message);
    release_rights(&message);
    if (result >= 0 && address && (problem = socket_write_address(&message.name, address, address_size)))
        return problem;
    return result;
}

LX_SYSCALL(sendmsg, int fd, const struct guest_message *guest_header, int flags)
{
    struct open_file *raw;
    struct guest_message header;
    int problem = socket_get(fd, &raw);
    if (problem)
        return problem;
    scoped_file file = raw;
    if ((problem = guest_read(&header, guest_header, sizeof header)))
        return problem;
    return send_one(file, &header, flags);
}

LX_SYSCALL(recvmsg, int fd, struct guest_message *guest_header, int flags)
{
    struct open_file *raw;
    struct guest_message header;
    int problem = socket_get(fd, &raw);
    if (problem)
        return problem;
    scoped_file file = raw;
    if ((problem = guest_read(&header, guest_header, sizeof header)))
        return problem;
    int64_t result = receive_one(file, &header, flags);
    if (result >= 0 && (problem = guest_write(guest_header, &header, sizeof header)))
        return problem;
    return result;
}

struct guest_many { struct guest_message header; uint32_t size, padding; }; /* struct mmsghdr */

LX_SYSCALL(sendmmsg, int fd, struct guest_many *messages, unsigned count, int flags)
{
    struct open_file *raw;
    int problem = socket_get(fd, &raw);
    if (problem)
        return problem;
    scoped_file file = raw;
    unsigned sent = 0;
    for (; sent < count && sent < VECTOR_MAX; sent++) {
        struct guest_message header;
        int64_t result = guest_read(&header, &messages[sent].header, sizeof header);
        if (!result)
            result = send_one(file, &header, flags);
        if (result < 0)
            return sent ? sent : result;
        if ((problem = guest_store32(&messages[sent].size, (uint32_t)result)))
            return sent ? (long)sent : problem;
    }
    return sent;
}

LX_SYSCALL(recvmmsg, int fd, struct guest_many *messages, unsigned count, int flags, const int64_t *timeout)
{
    struct open_file *raw;
    int problem = socket_get(fd, &raw);
    if (problem)
        return problem;
    scoped_file file = raw;
    uint64_t deadline = BLY_FOREVER;
    int64_t time[2];
    if (timeout) {
        if ((problem = guest_read(time, timeout, sizeof time)))
            return problem;
        if (time[0] < 0 || time[1] < 0 || time[1] >= 1000000000)
            return -EINVAL;
        deadline = lx_monotonic_ns() + (uint64_t)time[0] * 1000000000u + (uint64_t)time[1];
    }
    unsigned received = 0;
    for (; received < count && received < VECTOR_MAX; received++) {
        struct guest_message header;
        int64_t result = guest_read(&header, &messages[received].header, sizeof header);
        if (!result)
            result = receive_one(file, &header, flags & ~LX_MSG_WAITFORONE);
        if (result < 0)
            return received ? received : result;
        if ((problem = guest_write(&messages[received].header, &header, sizeof header)) || (problem = guest_store32(&messages[received].size, (uint32_t)result)))
            return received ? (long)received : problem;
        if (flags & LX_MSG_WAITFORONE)
            flags |= LX_MSG_DONTWAIT;
        if (lx_monotonic_ns() >= deadline) { /* recvmmsg(2): looked at after each datagram only */
            received++;
            break;
        }
    }
    return received;
}
