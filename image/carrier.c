/* The confined process that carries a sandbox over the network, and its parent's side of it.
 * Invariant: frames of its own and frames of the source's monitor, which pass through unread, never
 * mix: it follows where those begin. Nothing waits without a limit but for orders, which end with
 * the parent. */
#include "image/carrier.h"

#include <base/cleanup.h>
#include <base/text.h>
#include <errno.h>
#include <image/arrival.h>
#include <image/confined.h>
#include <image/tls.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BUFFER_SIZE (512u << 10)
#define HANDSHAKE_MS 10000u
#define HEARTBEAT_MS 1000u
#define PROGRESS_MS 100u
#define FAREWELL_MS 2000u
#define READS 32u /* in a row, before others have their turn */

#define ORDER_ALLOW UINT32_MAX
struct order {
    uint32_t kind; /* enum img_frame_kind; 0: end; ORDER_ALLOW */
    uint32_t size;
    uint64_t pages; /* of ORDER_ALLOW */
    char text[IMG_REASON_MAX];
};

struct carrier {
    const struct img_carrier_job *job;
    int orders, data;
    struct img_tls *tls;
    struct img_arrival *arrival;
    bool greeted; /* the handshake is over */
    bool leaving, was_sent;
    short read_wants, write_wants; /* what a call of TLS waits for */
    uint64_t start_ms, heard_ms, said_ms, told_ms, leaving_ms;
    uint64_t sent, told_bytes;
    struct img_frame passing; /* the frame that passes through: its head so far, */
    uint64_t passing_left;    /* what is missing of head or payload, */
    bool passing_payload;
    size_t begin, end;          /* of what is in `buffer` */
    struct text queue;          /* frames of ours */
    struct img_frame_want want; /* that the sandbox waits for; count 0: none */
    bool is_committed, is_resumed, is_alone,
        is_complete; /* alone: the sandbox that went on here has ended */
    unsigned char buffer[BUFFER_SIZE];
};

static uint64_t now_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}

/* ---- To the parent ---- */

/* The parent may be busy; what it does not read holds us up. One that is gone ends us. */
static void tell(struct carrier *carrier, const struct img_event *event)
{
    while (send(carrier->orders, event, sizeof(*event), MSG_NOSIGNAL) < 0)
        if (errno != EINTR)
            _exit(EXIT_BAILEY);
}

static void tell_broken(struct carrier *carrier, const struct error *error)
{
    struct img_event event = {.kind = IMG_EVENT_BROKEN, .code = error->code};
    snprintf(event.text, sizeof(event.text), "%.*s", (int)IMG_REASON_MAX, error->message);
    tell(carrier, &event);
}

/* Ends the connection so that the peer reads our last words: a socket that is closed with bytes
 * unread takes back what was sent (RFC 1122 4.2.2.13). */
static _Noreturn void leave(struct carrier *carrier)
{
    int socket = carrier->job->socket;
    uint64_t deadline = now_ms() + FAREWELL_MS;
    if (carrier->greeted)
        img_tls_finish(carrier->tls);
    shutdown(socket, SHUT_WR);
    for (uint64_t now; (now = now_ms()) < deadline;) {
        struct pollfd wait = {.fd = socket, .events = POLLIN};
        if (poll(&wait, 1, (int)(deadline - now)) > 0 &&
            recv(socket, carrier->buffer, sizeof(carrier->buffer), MSG_DONTWAIT) <= 0 &&
            errno != EAGAIN)
            break;
    }
    _exit(0);
}

static _Noreturn void tell_end(struct carrier *carrier, const struct error *error)
{
    tell_broken(carrier, error);
    leave(carrier);
}

static void tell_progress(struct carrier *carrier, uint64_t now)
{
    uint64_t bytes = carrier->job->receives ? img_arrival_bytes(carrier->arrival) : carrier->sent;
    if (bytes == carrier->told_bytes || now - carrier->told_ms < PROGRESS_MS)
        return;
    struct img_event event = {.kind = IMG_EVENT_PROGRESS, .bytes = bytes};
    carrier->told_bytes = bytes;
    carrier->told_ms = now;
    /* Who does not keep up needs no older figures. */
    (void)!send(carrier->orders, &event, sizeof(event), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void tell_frame(struct carrier *carrier, uint32_t kind)
{
    carrier->is_committed |= kind == IMG_FRAME_COMMIT;
    struct img_event event = {.kind = kind,
                              .bytes = carrier->job->receives ? img_arrival_bytes(carrier->arrival)
                                                              : carrier->sent};
    if (kind == IMG_FRAME_HELLO)
        event.hello = *img_arrival_hello(carrier->arrival);
    else if (kind == IMG_FRAME_REFUSED)
        snprintf(event.text, sizeof(event.text), "%s", img_arrival_reason(carrier->arrival));
    tell(carrier, &event);
}

/* ---- To the peer ---- */

static void queue_frame(struct carrier *carrier, uint32_t kind, const void *payload, size_t size)
{
    struct img_frame frame = {.kind = kind, .size = (uint32_t)size};
    text_add_size(&carrier->queue, &frame, sizeof(frame));
    text_add_size(&carrier->queue, payload, size);
}

static bool at_boundary(const struct carrier *carrier)
{
    return !carrier->passing_payload && carrier->passing_left == sizeof(carrier->passing);
}

static void begin_frame(struct carrier *carrier)
{
    carrier->passing_payload = false;
    carrier->passing_left = sizeof(carrier->passing);
}

/* Follows the frames in what the monitor gave: how much of `size` bytes belongs together. */
static size_t follow(struct carrier *carrier, const unsigned char *data, size_t size)
{
    size_t done = 0;
    while (done < size) {
        size_t step = size - done < carrier->passing_left ? size - done : carrier->passing_left;
        if (!carrier->passing_payload)
            memcpy((char *)&carrier->passing + sizeof(carrier->passing) - carrier->passing_left,
                   data + done, step);
        done += step;
        carrier->passing_left -= step;
        if (carrier->passing_left)
            break;
        if (carrier->passing_payload || !carrier->passing.size) {
            begin_frame(carrier);
        } else {
            carrier->passing_payload = true;
            carrier->passing_left = carrier->passing.size;
        }
    }
    return done;
}

static void read_data(struct carrier *carrier)
{
    struct error error = {0};
    ssize_t size = read(carrier->data, carrier->buffer, sizeof(carrier->buffer));
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (size <= 0) {
        close(carrier->data);
        carrier->data = -1;
        if (size < 0 || !at_boundary(carrier)) {
            error_set(&error, -EPIPE, "the sandbox's monitor stopped in the middle");
            tell_end(carrier, &error);
        }
        return;
    }
    carrier->begin = 0;
    carrier->end = follow(carrier, carrier->buffer, (size_t)size);
}

/* Sends what the connection takes. */
static void write_out(struct carrier *carrier)
{
    struct error error = {0};
    for (;;) {
        bool own = carrier->begin == carrier->end && at_boundary(carrier) && carrier->queue.size;
        const unsigned char *from =
            own ? (unsigned char *)carrier->queue.data : carrier->buffer + carrier->begin;
        size_t size = own ? carrier->queue.size : carrier->end - carrier->begin;
        carrier->write_wants = 0;
        if (!size)
            return;
        ssize_t count = img_tls_write(carrier->tls, from, size, &error);
        if (count == -EAGAIN) {
            carrier->write_wants = img_tls_events(carrier->tls);
            return;
        }
        if (count < 0)
            tell_end(carrier, &error);
        carrier->said_ms = now_ms();
        if (own) {
            carrier->queue.size -= (size_t)count;
            memmove(carrier->queue.data, carrier->queue.data + count, carrier->queue.size);
        } else {
            carrier->begin += (size_t)count;
            carrier->sent += (size_t)count;
        }
    }
}

/* ---- What comes lazily ---- */

static void answer_want(struct carrier *carrier)
{
    if (!carrier->want.count ||
        img_arrival_has(carrier->arrival, carrier->want.first, carrier->want.count) == 0)
        return;
    (void)!send(carrier->job->requests, &carrier->want, sizeof(carrier->want), MSG_NOSIGNAL);
    carrier->want.count = 0;
}

/* Nothing is missing, or nobody is left who could miss it: the sandbox has ended here. */
static void complete(struct carrier *carrier)
{
    struct img_event event = {.kind = IMG_FRAME_COMPLETE,
                              .bytes = img_arrival_bytes(carrier->arrival)};
    carrier->is_complete = true;
    answer_want(carrier);
    (void)!send(carrier->job->status, "", 1, MSG_NOSIGNAL);
    queue_frame(carrier, IMG_FRAME_COMPLETE, NULL, 0);
    tell(carrier, &event);
}

static void take_want(struct carrier *carrier)
{
    struct img_frame_want want;
    ssize_t size = recv(carrier->job->requests, &want, sizeof(want), MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (size <= 0) {
        carrier->is_alone = true;
        return;
    }
    if (size != (ssize_t)sizeof(want) || !want.count || want.count > IMG_WANT_MAX)
        return;
    carrier->want = want;
    if (img_arrival_has(carrier->arrival, want.first, want.count) == 0)
        queue_frame(carrier, IMG_FRAME_WANT, &want, sizeof(want));
    answer_want(carrier);
}

/* ---- From the peer ---- */

static void read_in(struct carrier *carrier)
{
    struct error error = {0};
    for (unsigned i = 0; i < READS; i++) {
        size_t room;
        void *place = img_arrival_room(carrier->arrival, &room);
        ssize_t count = img_tls_read(carrier->tls, place, room, &error);
        if (count == -EAGAIN) {
            carrier->read_wants = img_tls_events(carrier->tls);
            return;
        }
        if (count == 0)
            error_set(&error, -EPIPE, "the other side ended the connection");
        if (count <= 0)
            tell_end(carrier, &error);
        carrier->heard_ms = now_ms();
        int kind = img_arrival_take(carrier->arrival, (size_t)count, &error);
        if (kind < 0) {
            /* The other side is told why, too. */
            queue_frame(carrier, IMG_FRAME_REFUSED, error.message,
                        strnlen(error.message, IMG_REASON_MAX));
            write_out(carrier);
            tell_end(carrier, &error);
        }
        if (kind == IMG_FRAME_WANT) {
            /* Lost when the monitor does not keep up: it sends all pages anyhow. */
            if (carrier->data >= 0)
                (void)!send(carrier->data, img_arrival_wanted(carrier->arrival),
                            sizeof(struct img_frame_want), MSG_NOSIGNAL | MSG_DONTWAIT);
        } else if (kind > 0) {
            tell_frame(carrier, (uint32_t)kind);
        }
        answer_want(carrier);
    }
    carrier->read_wants = -1; /* there may be more that no poll would tell of */
}

static void shake_hands(struct carrier *carrier)
{
    struct error error = {0};
    int result = img_tls_handshake(carrier->tls, &error);
    if (result == -EAGAIN) {
        carrier->read_wants = img_tls_events(carrier->tls);
        return;
    }
    if (result < 0)
        tell_end(carrier, &error);
    carrier->greeted = true;
    carrier->heard_ms = carrier->said_ms = now_ms();
    carrier->read_wants = POLLIN;
    queue_frame(carrier, IMG_FRAME_HELLO, &carrier->job->hello, sizeof(carrier->job->hello));
}

/* ---- From the parent ---- */

static void take_order(struct carrier *carrier)
{
    struct order order;
    ssize_t size = recv(carrier->orders, &order, sizeof(order), 0);
    if (size < 0 && errno == EINTR)
        return;
    if (size != (ssize_t)sizeof(order))
        _exit(EXIT_BAILEY); /* the parent is gone */
    if (order.kind == 0) {
        carrier->leaving = true;
        carrier->leaving_ms = now_ms();
    } else if (order.kind == ORDER_ALLOW) {
        img_arrival_allow(carrier->arrival, order.pages);
    } else {
        queue_frame(carrier, order.kind, order.text, order.size);
        carrier->is_resumed |= order.kind == IMG_FRAME_RESUMED;
    }
}

/* ---- The loop ---- */

static void watch_time(struct carrier *carrier, uint64_t now)
{
    struct error error = {0};
    if (!carrier->greeted) {
        uint32_t limit =
            carrier->job->patience_ms < HANDSHAKE_MS ? carrier->job->patience_ms : HANDSHAKE_MS;
        if (now - carrier->start_ms > limit) {
            error_set(&error, -ETIMEDOUT,
                      "the other side does not answer: it is no Bailey, or hangs");
            tell_end(carrier, &error);
        }
        return;
    }
    if (now - carrier->heard_ms > carrier->job->patience_ms) {
        error_set(&error, -ETIMEDOUT, "the other side has been silent for %u seconds",
                  carrier->job->patience_ms / 1000);
        tell_end(carrier, &error);
    }
    if (now - carrier->said_ms > HEARTBEAT_MS && !carrier->queue.size && !carrier->leaving) {
        carrier->said_ms = now; /* also where it waits for its turn */
        queue_frame(carrier, IMG_FRAME_WORKING, NULL, 0);
    }
    bool idle = carrier->begin == carrier->end && !carrier->queue.size;
    if (carrier->leaving && (idle || now - carrier->leaving_ms > FAREWELL_MS))
        leave(carrier);
    if (!carrier->was_sent && carrier->job->data >= 0 && carrier->data < 0 && idle) {
        struct img_event event = {.kind = IMG_EVENT_SENT, .bytes = carrier->sent};
        carrier->was_sent = true;
        tell(carrier, &event);
    }
}

static _Noreturn void carry(struct carrier *carrier)
{
    carrier->start_ms = carrier->heard_ms = carrier->said_ms = now_ms();
    carrier->read_wants = carrier->job->receives ? POLLIN : -1;
    begin_frame(carrier);
    for (;;) {
        bool takes_data = carrier->greeted && carrier->data >= 0 &&
                          carrier->begin == carrier->end &&
                          (!carrier->queue.size || !at_boundary(carrier));
        short wants = carrier->read_wants | carrier->write_wants;
        bool hears_wants = carrier->job->requests >= 0 && carrier->is_committed &&
                           !carrier->is_complete && !carrier->is_alone;
        struct pollfd waits[4] = {
            {.fd = carrier->job->socket, .events = carrier->read_wants < 0 ? POLLIN : wants},
            {.fd = carrier->orders, .events = POLLIN},
            {.fd = takes_data ? carrier->data : -1, .events = POLLIN},
            {.fd = hears_wants ? carrier->job->requests : -1, .events = POLLIN}};
        if (poll(waits, 4, carrier->read_wants < 0 ? 0 : 200) < 0 && errno != EINTR)
            _exit(EXIT_BAILEY);
        if (waits[1].revents)
            take_order(carrier);
        if (waits[2].revents)
            read_data(carrier);
        if (waits[3].revents)
            take_want(carrier);
        if (!carrier->greeted && (waits[0].revents || carrier->read_wants < 0))
            shake_hands(carrier);
        if (carrier->greeted) {
            write_out(carrier);
            if (waits[0].revents || carrier->read_wants < 0)
                read_in(carrier);
        }
        if (carrier->is_resumed && !carrier->is_complete && carrier->job->requests >= 0 &&
            (carrier->is_alone || img_arrival_is_complete(carrier->arrival)))
            complete(carrier);
        uint64_t now = now_ms();
        watch_time(carrier, now);
        tell_progress(carrier, now);
    }
}

static _Noreturn void run_carrier(const struct img_carrier_job *job, int orders)
{
    struct error error = {0};
    struct carrier *carrier = memory_new(sizeof(*carrier));
    carrier->job = job;
    carrier->orders = orders;
    carrier->data = job->data;
    carrier->arrival = img_arrival_new(job->offer, job->image);
    const int keep[] = {job->socket, orders,        job->data,  job->offer,
                        job->image,  job->requests, job->status};
    signal(SIGPIPE, SIG_IGN);
    /* The keys of a terminal are the parent's to understand. */
    signal(SIGINT, SIG_IGN);
    signal(SIGQUIT, SIG_IGN);
    signal(SIGTSTP, SIG_IGN);
    int result = img_tls_open(job->socket, job->receives, job->key, &carrier->tls, &error);
    if (result == 0)
        result = img_confine(keep, sizeof(keep) / sizeof(keep[0]), &error);
    if (result < 0) {
        tell_broken(carrier, &error);
        _exit(EXIT_BAILEY);
    }
    carry(carrier);
}

/* ---- The parent's side ---- */

int img_carrier_start(const struct img_carrier_job *job, struct img_carrier *out_carrier,
                      struct error *error)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return error_set_errno(error, -errno, "cannot make a process that talks to the other side");
    pid_t process = fork();
    if (process == 0) {
        close(ends[0]);
        run_carrier(job, ends[1]);
    }
    int result = process < 0 ? -errno : 0;
    close(ends[1]);
    if (result < 0) {
        close(ends[0]);
        return error_set_errno(error, result, "cannot make a process that talks to the other side");
    }
    *out_carrier = (struct img_carrier){.process = process, .orders = ends[0]};
    return 0;
}

static int give_order(struct img_carrier *carrier, const struct order *order)
{
    return send(carrier->orders, order, sizeof(*order), MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int img_carrier_allow(struct img_carrier *carrier, uint64_t pages)
{
    return give_order(carrier, &(struct order){.kind = ORDER_ALLOW, .pages = pages});
}

int img_carrier_say(struct img_carrier *carrier, enum img_frame_kind kind, const char *text)
{
    struct order order = {.kind = kind};
    if (text) {
        order.size = (uint32_t)strnlen(text, sizeof(order.text));
        memcpy(order.text, text, order.size);
    }
    return give_order(carrier, &order);
}

void img_carrier_next(struct img_carrier *carrier, struct img_event *out_event)
{
    ssize_t size;
    do {
        size = recv(carrier->orders, out_event, sizeof(*out_event), 0);
    } while (size < 0 && errno == EINTR);
    if (size == (ssize_t)sizeof(*out_event)) {
        out_event->text[sizeof(out_event->text) - 1] = '\0';
        return;
    }
    *out_event = (struct img_event){.kind = IMG_EVENT_BROKEN, .code = -EPIPE};
    snprintf(out_event->text, sizeof(out_event->text),
             "the process that talks to the other side has died");
}

void img_carrier_end(struct img_carrier *carrier)
{
    if (carrier->process <= 0)
        return;
    (void)!img_carrier_say(carrier, 0, NULL);
    uint64_t deadline = now_ms() + FAREWELL_MS + 1000;
    while (waitpid(carrier->process, NULL, WNOHANG) == 0) {
        /* Its last events do not matter any more, but may hold it up. */
        struct pollfd wait = {.fd = carrier->orders, .events = POLLIN};
        struct img_event ignored;
        if (poll(&wait, 1, 10) > 0 && recv(carrier->orders, &ignored, sizeof(ignored), 0) <= 0)
            usleep(2000);
        if (now_ms() > deadline)
            kill(carrier->process, SIGKILL);
    }
    close(carrier->orders);
    *carrier = (struct img_carrier){.orders = -1};
}
