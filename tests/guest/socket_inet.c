/* tcp(7), udp(7), ip(7) on the loopback interface. */
#define _GNU_SOURCE
#include "guest.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_in local(unsigned port)
{
    return (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}
#define ADDRESS(name) (struct sockaddr *)&(name), sizeof(name)

static int listen_somewhere(struct sockaddr_in *name)
{
    socklen_t size = sizeof *name;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    *name = local(0);
    CHECK_EQUAL(bind(fd, (struct sockaddr *)name, sizeof *name), 0);
    CHECK_EQUAL(listen(fd, 5), 0);
    CHECK_EQUAL(getsockname(fd, (struct sockaddr *)name, &size), 0);
    CHECK(name->sin_port != 0);
    return fd;
}

static void connect_pair(int *client, int *server)
{
    struct sockaddr_in name, peer;
    socklen_t size = sizeof peer;
    int listener = listen_somewhere(&name);
    *client = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_EQUAL(connect(*client, ADDRESS(name)), 0);
    *server = accept(listener, (struct sockaddr *)&peer, &size);
    CHECK(*server >= 0 && size == sizeof peer && peer.sin_family == AF_INET);
    struct sockaddr_in own;
    size = sizeof own;
    CHECK_EQUAL(getsockname(*client, (struct sockaddr *)&own, &size), 0);
    CHECK(own.sin_port == peer.sin_port && own.sin_addr.s_addr == peer.sin_addr.s_addr);
    CHECK_EQUAL(getpeername(*client, (struct sockaddr *)&own, &size), 0);
    CHECK_EQUAL(own.sin_port, name.sin_port);
    close(listener);
}

static void streams_close_by_halves(void)
{
    int client, server;
    char buffer[16];
    connect_pair(&client, &server);
    CHECK_EQUAL(write(client, "request", 7), 7);
    CHECK_EQUAL(shutdown(client, SHUT_WR), 0);
    signal(SIGPIPE, SIG_IGN);
    CHECK_ERROR(write(client, "x", 1), EPIPE);
    CHECK_EQUAL(read(server, buffer, sizeof buffer), 7);
    CHECK_EQUAL(read(server, buffer, sizeof buffer), 0);
    CHECK_EQUAL(write(server, "answer", 6), 6);
    CHECK_EQUAL(read(client, buffer, sizeof buffer), 6);
    struct pollfd set = { server, POLLIN | POLLRDHUP | POLLOUT, 0 };
    CHECK_EQUAL(poll(&set, 1, 0), 1);
    CHECK_EQUAL(set.revents, POLLIN | POLLRDHUP | POLLOUT);
    close(server);
    CHECK_EQUAL(read(client, buffer, sizeof buffer), 0);
    close(client);
}

static void unread_data_resets(void)
{
    int client, server;
    char c;
    connect_pair(&client, &server);
    CHECK_EQUAL(write(client, "lost", 4), 4);
    usleep(20000);
    close(server);
    usleep(20000);
    CHECK_ERROR(read(client, &c, 1), ECONNRESET);
    close(client);
}

static void refused_and_unreachable(void)
{
    struct sockaddr_in name;
    int listener = listen_somewhere(&name), fd = socket(AF_INET, SOCK_STREAM, 0), error = 0;
    socklen_t size = sizeof error;
    struct sockaddr_in taken = name;
    CHECK_ERROR(bind(fd, ADDRESS(taken)), EADDRINUSE);
    close(listener);
    CHECK_ERROR(connect(fd, ADDRESS(name)), ECONNREFUSED);
    close(fd);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CHECK_ERROR(connect(fd, ADDRESS(name)), EINPROGRESS);
    struct pollfd set = { fd, POLLOUT, 0 };
    CHECK_EQUAL(poll(&set, 1, 1000), 1);
    CHECK(set.revents & POLLERR);
    CHECK_EQUAL(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size), 0);
    CHECK_EQUAL(error, ECONNREFUSED);
    close(fd);
}

static void connecting_without_waiting(void)
{
    struct sockaddr_in name;
    int listener = listen_somewhere(&name), fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), error = -1;
    socklen_t size = sizeof error;
    CHECK_ERROR(connect(fd, ADDRESS(name)), EINPROGRESS);
    struct pollfd set = { fd, POLLOUT, 0 };
    CHECK_EQUAL(poll(&set, 1, 1000), 1);
    CHECK_EQUAL(set.revents, POLLOUT);
    CHECK_EQUAL(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size), 0);
    CHECK_EQUAL(error, 0);
    CHECK_EQUAL(connect(fd, ADDRESS(name)), 0);
    CHECK_ERROR(connect(fd, ADDRESS(name)), EISCONN);
    close(fd);
    CHECK_EQUAL(fcntl(listener, F_SETFL, O_NONBLOCK), 0);
    close(accept(listener, NULL, NULL));
    CHECK_ERROR(accept(listener, NULL, NULL), EAGAIN);
    close(listener);
}

static void options_are_kept(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), value = 0;
    socklen_t size = sizeof value;
    CHECK_EQUAL(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &size), 0);
    CHECK_EQUAL(value, SOCK_STREAM);
    int options[][3] = { { SOL_SOCKET, SO_KEEPALIVE, 1 }, { IPPROTO_TCP, TCP_NODELAY, 1 }, { IPPROTO_TCP, TCP_KEEPIDLE, 33 },
                         { SOL_SOCKET, SO_REUSEADDR, 1 }, { IPPROTO_IP, IP_TTL, 7 } };
    for (unsigned i = 0; i < sizeof options / sizeof *options; i++) {
        CHECK_EQUAL(setsockopt(fd, options[i][0], options[i][1], &options[i][2], sizeof(int)), 0);
        CHECK_EQUAL(getsockopt(fd, options[i][0], options[i][1], &value, &size), 0);
        CHECK_EQUAL(value, options[i][2]);
    }
    CHECK_ERROR(getsockopt(fd, SOL_SOCKET, 9999, &value, &size), ENOPROTOOPT);
    CHECK_ERROR(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, 1), EINVAL);
    struct timeval time = { 0, 50000 };
    CHECK_EQUAL(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time), 0);
    close(fd);
    int client, server;
    char c;
    connect_pair(&client, &server);
    CHECK_EQUAL(setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time), 0);
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    CHECK_ERROR(read(client, &c, 1), EAGAIN);
    clock_gettime(CLOCK_MONOTONIC, &after);
    double passed = (double)(after.tv_sec - before.tv_sec) + (double)(after.tv_nsec - before.tv_nsec) / 1e9;
    CHECK(passed > 0.04 && passed < 2);
    close(client);
    close(server);
}

static void datagrams_on_loopback(void)
{
    int receiver = socket(AF_INET, SOCK_DGRAM, 0), sender = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in name = local(0), from;
    socklen_t size = sizeof name;
    char buffer[16];
    CHECK_EQUAL(bind(receiver, ADDRESS(name)), 0);
    CHECK_EQUAL(getsockname(receiver, (struct sockaddr *)&name, &size), 0);
    CHECK_ERROR(send(sender, "x", 1, 0), EDESTADDRREQ);
    CHECK_EQUAL(sendto(sender, "hello", 5, 0, ADDRESS(name)), 5);
    size = sizeof from;
    CHECK_EQUAL(recvfrom(receiver, buffer, sizeof buffer, 0, (struct sockaddr *)&from, &size), 5);
    CHECK(from.sin_addr.s_addr == htonl(INADDR_LOOPBACK) && from.sin_port);
    CHECK_EQUAL(connect(sender, ADDRESS(name)), 0);
    CHECK_EQUAL(send(sender, "", 0, 0), 0);
    CHECK_EQUAL(recv(receiver, buffer, sizeof buffer, 0), 0);
    close(receiver);
    CHECK_EQUAL(send(sender, "x", 1, 0), 1);
    usleep(20000);
    CHECK_ERROR(send(sender, "y", 1, 0), ECONNREFUSED); /* the answer to the first */
    close(sender);
}

static void six_takes_four(void)
{
    int listener = socket(AF_INET6, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0)
        exit(77);
    struct sockaddr_in6 name = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT }, peer;
    socklen_t size = sizeof name;
    CHECK_EQUAL(bind(listener, ADDRESS(name)), 0);
    CHECK_EQUAL(listen(listener, 1), 0);
    CHECK_EQUAL(getsockname(listener, (struct sockaddr *)&name, &size), 0);
    struct sockaddr_in four = local(ntohs(name.sin6_port));
    CHECK_EQUAL(connect(client, ADDRESS(four)), 0);
    size = sizeof peer;
    int server = accept(listener, (struct sockaddr *)&peer, &size);
    CHECK(server >= 0 && peer.sin6_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&peer.sin6_addr));
    close(server);
    close(client);
    close(listener);
}

static void bulk_data_arrives_whole(void)
{
    enum { TOTAL = 6 << 20 };
    static unsigned char buffer[100000];
    int client, server, status;
    connect_pair(&client, &server);
    pid_t child = fork();
    if (child == 0) {
        unsigned next = 0;
        close(server);
        for (size_t sent = 0; sent < TOTAL;) {
            size_t size = (sent / 7) % sizeof buffer + 1;
            if (size > TOTAL - sent)
                size = TOTAL - sent;
            for (size_t i = 0; i < size; i++)
                buffer[i] = (unsigned char)(next++ * 7 % 251);
            CHECK_EQUAL(send(client, buffer, size, 0), size);
            sent += size;
        }
        _exit(0);
    }
    close(client);
    unsigned next = 0;
    size_t total = 0, wrong = 0;
    ssize_t n;
    while ((n = recv(server, buffer, sizeof buffer, 0)) > 0) {
        for (ssize_t i = 0; i < n; i++)
            wrong += buffer[i] != (unsigned char)(next++ * 7 % 251);
        total += (size_t)n;
    }
    CHECK_EQUAL(total, TOTAL);
    CHECK_EQUAL(wrong, 0);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    close(server);
}

static void the_loopback_interface_is_there(void)
{
    struct ifaddrs *list;
    bool found = false;
    CHECK_EQUAL(getifaddrs(&list), 0);
    for (struct ifaddrs *entry = list; entry; entry = entry->ifa_next)
        found |= !strcmp(entry->ifa_name, "lo") && entry->ifa_addr && entry->ifa_addr->sa_family == AF_INET;
    CHECK(found);
    freeifaddrs(list);
    CHECK_EQUAL(if_nametoindex("lo"), 1);
    struct ifreq request = { .ifr_name = "lo" };
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK_EQUAL(ioctl(fd, SIOCGIFFLAGS, &request), 0);
    CHECK(request.ifr_flags & IFF_LOOPBACK);
    close(fd);
}

/* Waits until that many bytes can be read. */
static void settle(int fd, int bytes)
{
    for (int there = -1, i = 0; i < 1000 && there < bytes; i++) {
        CHECK_EQUAL(ioctl(fd, FIONREAD, &there), 0);
        usleep(1000);
    }
}

static void urgent_bytes_stand_beside_the_stream(void)
{
    int client, server, mark, there;
    char buffer[64];
    connect_pair(&client, &server);
    struct pollfd set = { server, POLLIN | POLLPRI, 0 };
    CHECK_ERROR(recv(server, buffer, 1, MSG_OOB), EINVAL);
    CHECK_EQUAL(send(client, "before!", 7, MSG_OOB), 7);
    CHECK_EQUAL(send(client, "after", 5, 0), 5);
    set.events = POLLPRI;
    CHECK_EQUAL(poll(&set, 1, 5000), 1);
    CHECK_EQUAL(set.revents, POLLPRI);
    settle(server, 6);
    CHECK_EQUAL(ioctl(server, FIONREAD, &there), 0);
    CHECK_EQUAL(there, 6); /* up to the mark */
    CHECK_EQUAL(recv(server, buffer, sizeof buffer, MSG_PEEK), 6);
    CHECK_EQUAL(recv(server, buffer, 2, 0), 2);
    CHECK_EQUAL(ioctl(server, SIOCATMARK, &mark), 0);
    CHECK_EQUAL(mark, 0);
    CHECK_EQUAL(recv(server, buffer, sizeof buffer, MSG_WAITALL), 4);
    CHECK(!memcmp(buffer, "fore", 4));
    CHECK_EQUAL(ioctl(server, SIOCATMARK, &mark), 0);
    CHECK_EQUAL(mark, 1);
    CHECK_EQUAL(recv(server, buffer, sizeof buffer, MSG_OOB | MSG_PEEK), 1);
    CHECK_EQUAL(recv(server, buffer, sizeof buffer, MSG_OOB), 1);
    CHECK_EQUAL(buffer[0], '!');
    CHECK_ERROR(recv(server, buffer, 1, MSG_OOB), EINVAL);
    CHECK_EQUAL(recv(server, buffer, sizeof buffer, 0), 5);
    CHECK(!memcmp(buffer, "after", 5));
    CHECK_EQUAL(ioctl(server, SIOCATMARK, &mark), 0);
    CHECK_EQUAL(mark, 0);

    /* Alone in the queue it is nothing to read. */
    CHECK_EQUAL(send(client, "u", 1, MSG_OOB), 1);
    CHECK_EQUAL(poll(&set, 1, 5000), 1);
    set.events = POLLIN | POLLPRI;
    CHECK_EQUAL(poll(&set, 1, 0), 1);
    CHECK_EQUAL(set.revents, POLLPRI);
    CHECK_ERROR(recv(server, buffer, 1, MSG_DONTWAIT), EAGAIN);
    CHECK_ERROR(recv(server, buffer, 1, MSG_DONTWAIT | MSG_PEEK), EAGAIN);
    close(client);
    CHECK_EQUAL(recv(server, buffer, 1, 0), 0);
    close(server);

    connect_pair(&client, &server);
    CHECK_EQUAL(send(client, "data", 4, 0), 4);
    CHECK_ERROR(recv(server, buffer, sizeof buffer, MSG_ERRQUEUE), EAGAIN);
    close(client);
    close(server);

    /* SO_OOBINLINE: the byte is read in its place, at the beginning of a read. */
    connect_pair(&client, &server);
    int one = 1;
    CHECK_EQUAL(setsockopt(server, SOL_SOCKET, SO_OOBINLINE, &one, sizeof one), 0);
    CHECK_EQUAL(send(client, "ABOR\r\n", 6, MSG_OOB), 6);
    CHECK_EQUAL(send(client, "QUIT", 4, 0), 4);
    settle(server, 10);
    CHECK_ERROR(recv(server, buffer, 1, MSG_OOB), EINVAL);
    CHECK_EQUAL(recv(server, buffer, sizeof buffer, 0), 5);
    CHECK_EQUAL(ioctl(server, SIOCATMARK, &mark), 0);
    CHECK_EQUAL(mark, 1);
    CHECK_EQUAL(recv(server, buffer, sizeof buffer, 0), 5);
    CHECK(!memcmp(buffer, "\nQUIT", 5));
    close(client);
    close(server);
}

static void a_reset_leaves_what_has_arrived(void)
{
    int client, server;
    char buffer[64];
    struct linger at_once = { 1, 0 };
    struct sockaddr_in name;
    socklen_t size = sizeof name;
    connect_pair(&client, &server);
    CHECK_EQUAL(setsockopt(client, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    CHECK_EQUAL(send(client, "last words", 10, 0), 10);
    settle(server, 10);
    close(client);
    struct pollfd set = { server, 0, 0 };
    CHECK_EQUAL(poll(&set, 1, 5000), 1);
    CHECK(set.revents & POLLERR);
    CHECK_ERROR(getpeername(server, (struct sockaddr *)&name, &size), ENOTCONN);
    CHECK_EQUAL(recv(server, buffer, sizeof buffer, 0), 10);
    CHECK_ERROR(recv(server, buffer, sizeof buffer, 0), ECONNRESET);
    CHECK_EQUAL(recv(server, buffer, sizeof buffer, 0), 0);
    close(server);
}

static const struct guest_case cases[] = {
    GUEST_CASE(streams_close_by_halves),
    GUEST_CASE(unread_data_resets),
    GUEST_CASE(refused_and_unreachable),
    GUEST_CASE(connecting_without_waiting),
    GUEST_CASE(options_are_kept),
    GUEST_CASE(datagrams_on_loopback),
    GUEST_CASE(six_takes_four),
    GUEST_CASE(bulk_data_arrives_whole),
    GUEST_CASE(the_loopback_interface_is_there),
    GUEST_CASE(urgent_bytes_stand_beside_the_stream),
    GUEST_CASE(a_reset_leaves_what_has_arrived),
};
GUEST_MAIN(cases)
