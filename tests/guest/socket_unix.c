/* unix(7): pairs, names, descriptors and credentials that are passed. */
#define _GNU_SOURCE
#include "guest.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int pair[2];
static void open_pair(int type) { CHECK_EQUAL(socketpair(AF_UNIX, type, 0, pair), 0); }
static void close_pair(void)
{
    close(pair[0]);
    close(pair[1]);
}

static struct sockaddr_un name_of(const char *path, socklen_t *size)
{
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    size_t length = strlen(path);
    memcpy(name.sun_path, path, length + 1);
    if (path[0] == '@') {
        name.sun_path[0] = 0;
        *size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    } else {
        *size = sizeof name;
    }
    return name;
}

static ssize_t send_descriptors(int through, const int *fds, size_t count, const char *text)
{
    char control[CMSG_SPACE(16 * sizeof(int))] = { 0 };
    struct iovec part = { (void *)text, strlen(text) };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(count * sizeof(int)) };
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(header), fds, count * sizeof(int));
    return sendmsg(through, &message, 0);
}

static ssize_t receive_descriptors(int through, int *fds, size_t *count, char *text, size_t size, int flags)
{
    char control[CMSG_SPACE(16 * sizeof(int))];
    struct iovec part = { text, size };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
    ssize_t result = recvmsg(through, &message, flags);
    *count = 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); result >= 0 && header; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_type == SCM_RIGHTS) {
            *count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            memcpy(fds, CMSG_DATA(header), *count * sizeof(int));
        }
    }
    return result;
}

static void streams_have_no_bounds(void)
{
    char buffer[16];
    open_pair(SOCK_STREAM);
    CHECK_EQUAL(write(pair[0], "abc", 3), 3);
    CHECK_EQUAL(send(pair[0], "def", 3, 0), 3);
    CHECK_EQUAL(recv(pair[1], buffer, sizeof buffer, MSG_PEEK), 6);
    CHECK(recv(pair[1], buffer, 4, 0) == 4 && !memcmp(buffer, "abcd", 4));
    CHECK_EQUAL(read(pair[1], buffer, sizeof buffer), 2);
    CHECK_ERROR(recv(pair[1], buffer, 1, MSG_DONTWAIT), EAGAIN);
    CHECK_EQUAL(shutdown(pair[0], SHUT_WR), 0);
    CHECK_EQUAL(read(pair[1], buffer, 1), 0);
    CHECK_EQUAL(write(pair[1], "x", 1), 1);
    CHECK_EQUAL(read(pair[0], buffer, 1), 1);
    close(pair[1]);
    signal(SIGPIPE, SIG_IGN);
    CHECK_ERROR(write(pair[0], "x", 1), EPIPE);
    CHECK_ERROR(send(pair[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    close(pair[0]);
}

static void packets_have_bounds(void)
{
    char buffer[16];
    int types[] = { SOCK_DGRAM, SOCK_SEQPACKET };
    for (int i = 0; i < 2; i++) {
        open_pair(types[i]);
        CHECK_EQUAL(write(pair[0], "abc", 3), 3);
        CHECK_EQUAL(write(pair[0], "", 0), 0);
        CHECK_EQUAL(write(pair[0], "defgh", 5), 5);
        CHECK_EQUAL(recv(pair[1], buffer, sizeof buffer, 0), 3);
        CHECK_EQUAL(recv(pair[1], buffer, sizeof buffer, 0), 0);
        CHECK_EQUAL(recv(pair[1], buffer, 2, MSG_TRUNC), 5);
        CHECK_ERROR(recv(pair[1], buffer, 2, MSG_DONTWAIT), EAGAIN);
        close_pair();
    }
}

static void descriptors_are_passed(void)
{
    int ends[2], fds[16];
    size_t count;
    char buffer[16];
    open_pair(SOCK_STREAM);
    CHECK_EQUAL(pipe(ends), 0);
    CHECK_EQUAL(send_descriptors(pair[0], ends, 2, "two"), 3);
    close(ends[0]);
    close(ends[1]);
    CHECK_EQUAL(receive_descriptors(pair[1], fds, &count, buffer, sizeof buffer, MSG_CMSG_CLOEXEC), 3);
    CHECK_EQUAL(count, 2);
    CHECK(fcntl(fds[0], F_GETFD) & FD_CLOEXEC);
    CHECK_EQUAL(write(fds[1], "through", 7), 7);
    CHECK_EQUAL(read(fds[0], buffer, sizeof buffer), 7);
    close(fds[0]);
    close(fds[1]);
    int bad = 999;
    CHECK_ERROR(send_descriptors(pair[0], &bad, 1, "x"), EBADF);
    /* One read does not go beyond the bytes that brought descriptors. */
    CHECK_EQUAL(write(pair[0], "ab", 2), 2);
    CHECK_EQUAL(send_descriptors(pair[0], &pair[0], 1, "cd"), 2);
    CHECK_EQUAL(write(pair[0], "ef", 2), 2);
    ssize_t first = receive_descriptors(pair[1], fds, &count, buffer, sizeof buffer, 0);
    if (first == 2)
        CHECK_EQUAL(receive_descriptors(pair[1], fds, &count, buffer, sizeof buffer, 0), 2);
    CHECK_EQUAL(count, 1);
    close(fds[0]);
    CHECK_EQUAL(read(pair[1], buffer, sizeof buffer), 2);
    close_pair();
}

/* Descriptors that only they themselves could hand out again are closed: the pipe's reader sees the end. */
static void unreachable_descriptors_are_closed(void)
{
    int ends[2];
    char c;
    CHECK_EQUAL(pipe(ends), 0);
    open_pair(SOCK_DGRAM);
    CHECK_EQUAL(send_descriptors(pair[0], &ends[1], 1, "w"), 1);
    CHECK_EQUAL(send_descriptors(pair[0], &pair[1], 1, "s"), 1);
    CHECK_EQUAL(send_descriptors(pair[0], &pair[0], 1, "s"), 1);
    close(ends[1]);
    close_pair();
    int other[2]; /* Linux collects when a further socket is closed, perhaps a moment later */
    for (int i = 0; i < 50; i++) {
        CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM, 0, other), 0);
        close(other[0]);
        close(other[1]);
        struct pollfd set = { ends[0], POLLIN, 0 };
        if (poll(&set, 1, 20) == 1)
            break;
    }
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    CHECK_EQUAL(read(ends[0], &c, 1), 0);
    close(ends[0]);
}

static void credentials_are_told(void)
{
    char buffer[4], control[CMSG_SPACE(sizeof(struct ucred))];
    struct ucred peer;
    socklen_t size = sizeof peer;
    int on = 1;
    open_pair(SOCK_STREAM);
    CHECK_EQUAL(getsockopt(pair[0], SOL_SOCKET, SO_PEERCRED, &peer, &size), 0);
    CHECK(peer.pid == getpid() && peer.uid == getuid() && peer.gid == getgid());
    CHECK_EQUAL(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on), 0);
    pid_t child = fork();
    if (child == 0)
        _exit(write(pair[0], "x", 1) != 1);
    struct iovec part = { buffer, sizeof buffer };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
    CHECK_EQUAL(recvmsg(pair[1], &message, 0), 1);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    CHECK(header && header->cmsg_type == SCM_CREDENTIALS);
    memcpy(&peer, CMSG_DATA(header), sizeof peer);
    CHECK(peer.pid == child && peer.uid == getuid());
    waitpid(child, NULL, 0);
    close_pair();
}

static void paths_and_abstract_names(void)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/socket-test-%d", (int)getpid());
    for (int abstract = 0; abstract < 2; abstract++) {
        socklen_t size, other_size = sizeof(struct sockaddr_un);
        if (abstract)
            snprintf(path, sizeof path, "@socket-test-%d", (int)getpid());
        struct sockaddr_un name = name_of(path, &size), other;
        int listener = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
        CHECK_ERROR(connect(client, (struct sockaddr *)&name, size), abstract ? ECONNREFUSED : ENOENT);
        CHECK_EQUAL(bind(listener, (struct sockaddr *)&name, size), 0);
        CHECK_EQUAL(bind(listener, (struct sockaddr *)&name, size), -1);
        CHECK_ERROR(connect(client, (struct sockaddr *)&name, size), ECONNREFUSED);
        CHECK_EQUAL(listen(listener, 2), 0);
        int second = socket(AF_UNIX, SOCK_STREAM, 0);
        CHECK_ERROR(bind(second, (struct sockaddr *)&name, size), EADDRINUSE);
        close(second);
        int datagram = socket(AF_UNIX, SOCK_DGRAM, 0);
        CHECK_ERROR(connect(datagram, (struct sockaddr *)&name, size), abstract ? ECONNREFUSED : EPROTOTYPE);
        close(datagram);
        CHECK_EQUAL(connect(client, (struct sockaddr *)&name, size), 0);
        CHECK_ERROR(connect(client, (struct sockaddr *)&name, size), EISCONN);
        int server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        CHECK(server >= 0 && (fcntl(server, F_GETFD) & FD_CLOEXEC));
        CHECK_EQUAL(getpeername(client, (struct sockaddr *)&other, &other_size), 0);
        CHECK(!memcmp(other.sun_path, name.sun_path, strlen(path)));
        CHECK_EQUAL(write(client, "hi", 2), 2);
        char buffer[4];
        CHECK_EQUAL(read(server, buffer, sizeof buffer), 2);
        close(client);
        CHECK_EQUAL(read(server, buffer, sizeof buffer), 0);
        close(server);
        struct stat info;
        if (!abstract) {
            CHECK(stat(path, &info) == 0 && S_ISSOCK(info.st_mode));
            CHECK_ERROR(open(path, O_RDONLY), ENXIO);
        }
        close(listener);
        if (!abstract) {
            client = socket(AF_UNIX, SOCK_STREAM, 0);
            CHECK_ERROR(connect(client, (struct sockaddr *)&name, size), ECONNREFUSED);
            close(client);
            CHECK_EQUAL(unlink(path), 0);
        }
    }
}

static void datagrams_tell_who_sent_them(void)
{
    socklen_t size, from_size = sizeof(struct sockaddr_un);
    struct sockaddr_un name = name_of("@socket-datagram-test", &size), from;
    int receiver = socket(AF_UNIX, SOCK_DGRAM, 0), sender = socket(AF_UNIX, SOCK_DGRAM, 0);
    char buffer[8];
    CHECK_EQUAL(bind(receiver, (struct sockaddr *)&name, size), 0);
    struct sockaddr_un automatic = { .sun_family = AF_UNIX };
    CHECK_EQUAL(bind(sender, (struct sockaddr *)&automatic, sizeof automatic.sun_family), 0); /* autobind */
    CHECK_EQUAL(sendto(sender, "hey", 3, 0, (struct sockaddr *)&name, size), 3);
    CHECK_EQUAL(recvfrom(receiver, buffer, sizeof buffer, 0, (struct sockaddr *)&from, &from_size), 3);
    CHECK(from_size == sizeof from.sun_family + 6 && from.sun_path[0] == 0);
    CHECK_EQUAL(sendto(receiver, "back", 4, 0, (struct sockaddr *)&from, from_size), 4);
    CHECK_EQUAL(recv(sender, buffer, sizeof buffer, 0), 4);
    CHECK_ERROR(send(sender, "x", 1, 0), ENOTCONN);
    close(receiver);
    CHECK_ERROR(sendto(sender, "x", 1, 0, (struct sockaddr *)&name, size), ECONNREFUSED);
    close(sender);
}

static void writers_wait_for_room(void)
{
    static char big[400000];
    int status;
    open_pair(SOCK_STREAM);
    CHECK_EQUAL(fcntl(pair[0], F_SETFL, O_NONBLOCK), 0);
    ssize_t first = write(pair[0], big, sizeof big);
    CHECK(first > 4096 && first < (ssize_t)sizeof big);
    CHECK_ERROR(write(pair[0], big, sizeof big), EAGAIN);
    struct pollfd set = { pair[0], POLLOUT, 0 };
    CHECK_EQUAL(poll(&set, 1, 0), 0);
    CHECK_EQUAL(fcntl(pair[0], F_SETFL, 0), 0);
    pid_t child = fork();
    if (child == 0) {
        close(pair[1]);
        _exit(write(pair[0], big, sizeof big) != sizeof big);
    }
    close(pair[0]);
    ssize_t total = 0, n;
    static char buffer[50000];
    while ((n = read(pair[1], buffer, sizeof buffer)) > 0)
        total += n;
    CHECK_EQUAL(total, first + (ssize_t)sizeof big);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    close(pair[1]);
}

static const struct guest_case cases[] = {
    GUEST_CASE(streams_have_no_bounds),
    GUEST_CASE(packets_have_bounds),
    GUEST_CASE(descriptors_are_passed),
    GUEST_CASE(unreachable_descriptors_are_closed),
    GUEST_CASE(credentials_are_told),
    GUEST_CASE(paths_and_abstract_names),
    GUEST_CASE(datagrams_tell_who_sent_them),
    GUEST_CASE(writers_wait_for_room),
};
GUEST_MAIN(cases)
