/* HOST:PORT by getaddrinfo(3). */
#include <cli/address.h>

#include <base/cleanup.h>
#include <base/text.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int look_up(const char *where, bool passive, struct addrinfo **out_list, struct error *error)
{
    const char *colon = strrchr(where, ':');
    if (!colon || colon == where || !colon[1] ||
        strspn(colon + 1, "0123456789") != strlen(colon + 1))
        return error_set(error, -EINVAL, "%s is not HOST:PORT, such as 192.0.2.7:7000", where);
    bool brackets = where[0] == '[' && colon[-1] == ']';
    cleanup_free char *host = brackets ? text_copy_size(where + 1, (size_t)(colon - where) - 2)
                                       : text_copy_size(where, (size_t)(colon - where));
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICSERV | (passive ? AI_PASSIVE : 0)};
    int result = getaddrinfo(host, colon + 1, &hints, out_list);
    return result == 0 ? 0
                       : error_set(error, -ENOENT, "cannot find the host of %s: %s", where,
                                   gai_strerror(result));
}

static int connect_to(const struct addrinfo *address, uint32_t patience_ms)
{
    int on = 1, problem = 0;
    socklen_t size = sizeof(problem);
    cleanup_close int made =
        socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (made < 0)
        return -errno;
    if (connect(made, address->ai_addr, address->ai_addrlen) < 0) {
        struct pollfd wait = {.fd = made, .events = POLLOUT};
        if (errno != EINPROGRESS)
            return -errno;
        if (poll(&wait, 1, (int)patience_ms) == 0)
            return -ETIMEDOUT;
        if (getsockopt(made, SOL_SOCKET, SO_ERROR, &problem, &size) < 0 || problem)
            return problem ? -problem : -errno;
    }
    setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return take_descriptor(&made);
}

int address_connect(const char *where, uint32_t patience_ms, struct error *error)
{
    struct addrinfo *list;
    int result = look_up(where, /*passive=*/false, &list, error);
    if (result < 0)
        return result;
    result = -ENOENT;
    for (struct addrinfo *address = list; address && result < 0; address = address->ai_next)
        result = connect_to(address, patience_ms);
    freeaddrinfo(list);
    return result < 0 ? error_set_errno(error, result, "cannot connect to %s", where) : result;
}

static int listen_at(const struct addrinfo *address)
{
    int on = 1;
    cleanup_close int made =
        socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (made < 0)
        return -errno;
    setsockopt(made, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(made, address->ai_addr, address->ai_addrlen) < 0 || listen(made, 16) < 0)
        return -errno;
    return take_descriptor(&made);
}

int address_listen(const char *where, struct error *error)
{
    struct addrinfo *list;
    int result = look_up(where, /*passive=*/true, &list, error);
    if (result < 0)
        return result;
    result = listen_at(list);
    freeaddrinfo(list);
    return result < 0 ? error_set_errno(error, result, "cannot listen at %s", where) : result;
}

const char *address_text(int socket, int peer, char out_text[ADDRESS_TEXT_SIZE])
{
    struct sockaddr_storage address;
    socklen_t size = sizeof(address);
    char host[ADDRESS_TEXT_SIZE - 12] = "?", port[8] = "?";
    int result = peer ? getpeername(socket, (struct sockaddr *)&address, &size)
                      : getsockname(socket, (struct sockaddr *)&address, &size);
    if (result == 0)
        (void)!getnameinfo((struct sockaddr *)&address, size, host, sizeof(host), port,
                           sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(out_text, ADDRESS_TEXT_SIZE, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
    return out_text;
}
