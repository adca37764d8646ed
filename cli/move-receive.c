/* bailey receive, the work: a session for each connection, in a process of its own, and in it a
 * carrier that talks to the other side (image/carrier.h), confined. The session decides by what the
 * operator granted, as `bailey resume` does; a child of its own prepares the resumption and goes on
 * with the sandbox when the other side has committed.
 *
 * Lazily, the carrier goes on after that, and the sandbox's monitor asks it for pages
 * (monitor/suspension/arriving.h).
 *
 * Invariant: REFUSED is said only when nothing of the sandbox runs here and nothing will. */
#include <cli/move.h>

#include <base/cleanup.h>
#include <base/names.h>
#include <base/path.h>
#include <cli/address.h>
#include <cli/resume.h>
#include <cli/run.h>
#include <cli/state.h>
#include <cli/unpack.h>
#include <errno.h>
#include <fcntl.h>
#include <image/carrier.h>
#include <cli/progress.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define SESSION_MAX 16u
#define LIMIT_MAX (64ull << 30) /* without --limit */
#define RESUME_MS 60000         /* for a sandbox to go on */

/* What a session ends with. */
enum { SESSION_RECEIVED = 0, SESSION_FAILED = 1, SESSION_STRANGER = 2 /* or a question only */ };

struct session {
    const struct receive_request *request;
    struct img_carrier carrier;
    int offer, image;
    _Atomic uint64_t *promised; /* what each session may take, for all of them to see; ours: */
    size_t index;
    int preparer; /* socket to the child that is to go on with the sandbox; -1: none */
    bool dry_run, lazily, greeted;
    int requests, status; /* of the monitor, to the carrier */
    char from[ADDRESS_TEXT_SIZE];
    char name[IMG_NAME_MAX + 1]; /* as it comes */
};

/* ---- Children that read the image ---- */

#define NOTHING_KNOWN (-EREMOTEIO) /* of what the child did */

struct verdict {
    int code;
    uint64_t pages; /* of an offer that is taken: so many may come */
    char text[IMG_REASON_MAX];
};

static void answer(int socket, const struct error *error, uint64_t pages)
{
    struct verdict verdict = {.code = error->code == NOTHING_KNOWN ? -EIO : error->code,
                              .pages = pages};
    snprintf(verdict.text, sizeof(verdict.text), "%.*s", (int)sizeof(verdict.text) - 1,
             error->message);
    (void)!send(socket, &verdict, sizeof(verdict), MSG_NOSIGNAL);
}

/* NOTHING_KNOWN: it did not answer. */
static int hear(int socket, int timeout_ms, uint64_t *out_pages, struct error *error)
{
    struct verdict verdict;
    struct pollfd wait = {.fd = socket, .events = POLLIN};
    int ready;
    do {
        ready = poll(&wait, 1, timeout_ms);
    } while (ready < 0 && errno == EINTR);
    if (ready <= 0 ||
        recv(socket, &verdict, sizeof(verdict), MSG_DONTWAIT) != (ssize_t)sizeof(verdict))
        return error_set(error, NOTHING_KNOWN, "the process that was to resume it does not answer");
    verdict.text[sizeof(verdict.text) - 1] = '\0';
    *out_pages = verdict.pages;
    return verdict.code < 0
               ? error_set_lines(error, verdict.code, verdict.text, strlen(verdict.text))
               : 0;
}

/* The name that it will have must be free. */
static int check_name(struct resumption *resumption, const struct receive_request *request,
                      struct error *error)
{
    struct mon_policy *policy = &resumption->launch.policy;
    struct error ignored = {0};
    cleanup_sandbox struct sandbox other = {0};
    if (request->name) {
        free(policy->name);
        policy->name = text_copy(request->name);
        resumption->launch.name_given = true;
    }
    if (!policy->name || state_find(policy->name, &other, &ignored) < 0 ||
        other.status == SANDBOX_SUSPENDED)
        return 0;
    error_set(error, -EEXIST, "there is a sandbox %s already", policy->name);
    return error_hint(error, "bailey receive --name gives it another name");
}

/* How large an image may be. What other sessions were promised is as good as gone, even if some of
 * it has come already. */
static uint64_t limit_of(const struct session *session)
{
    struct statvfs status;
    uint64_t limit = session->request->limit;
    if (limit)
        return limit;
    if (fstatvfs(session->image, &status) < 0)
        return 0;
    limit = status.f_bavail * (uint64_t)status.f_frsize / 10 * 9;
    for (size_t i = 0; i < SESSION_MAX; i++) {
        uint64_t promised = i == session->index ? 0 : session->promised[i];
        limit -= promised < limit ? promised : limit;
    }
    return limit < LIMIT_MAX ? limit : LIMIT_MAX;
}

static int check_size(const struct session *session, const struct mon_image_size *size,
                      uint64_t *out_pages, struct error *error)
{
    char needed[SIZE_TEXT_SIZE], allowed[SIZE_TEXT_SIZE];
    uint64_t limit = limit_of(session);
    if (size->expected > limit || size->expected > size->most) {
        error_set(error, -EFBIG, "%s of memory and files are more than the %s that are taken here",
                  size_text(size->expected, needed), size_text(limit, allowed));
        return session->request->limit
                   ? error->code
                   : error_hint(error, "bailey receive --limit, or --directory with more room");
    }
    limit = size->most < limit ? size->most : limit;
    session->promised[session->index] = limit;
    *out_pages = limit / BLY_PAGE_SIZE;
    return 0;
}

/* In a child: its copy of what is granted is used up by this image. All reasons are told. */
static _Noreturn void check_offer(struct session *session, int socket)
{
    struct error error = {0}, name = {0}, size = {0};
    struct resumption *resumption = session->request->granted;
    cleanup_free char *shown = text_print("of %s", session->name);
    uint64_t pages = 0;
    (void)!resumption_check_offer(resumption, session->offer, shown, &error);
    if (resumption->launch.resume && check_name(resumption, session->request, &name) < 0)
        error_add(&error, &name);
    if (resumption->launch.resume &&
        check_size(session, &resumption->image.size, &pages, &size) < 0)
        error_add(&error, &size);
    answer(socket, &error, pages);
    _exit(0);
}

/* In a child: all that can be done before the sandbox may go on; then, when it may, that. */
static _Noreturn void resume(struct session *session, int socket)
{
    struct error error = {0};
    struct resumption *resumption = session->request->granted;
    cleanup_free char *shown = text_print("of %s", session->name);
    char go;
    int result = resumption_take(resumption, session->image, shown, /*own=*/false, &error);
    if (result == 0)
        result = check_name(resumption, session->request, &error);
    answer(socket, &error, 0);
    if (result < 0 || recv(socket, &go, 1, 0) != 1)
        _exit(0);
    resumption->resume.is_arriving = session->lazily;
    resumption->resume.requests = session->requests;
    resumption->resume.status = session->status;
    /* From here on whoever interrupts `bailey receive` does not undo what the other side counts on.
     */
    setsid();
    resumption->launch.policy.detach = true;
    (void)!run_detached(&resumption->launch, &error);
    fflush(stdout);
    answer(socket, &error, 0);
    _exit(0);
}

static int start_child(struct session *session, void (*function)(struct session *, int),
                       int *out_socket, struct error *error)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return error_set_errno(error, -errno, "cannot make a process for it");
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        close(session->carrier.orders);
        signal(SIGCHLD, SIG_DFL);
        function(session, ends[1]);
    }
    int result = child < 0 ? -errno : 0;
    close(ends[1]);
    *out_socket = ends[0];
    return result < 0 ? error_set_errno(error, result, "cannot make a process for it") : 0;
}

static int look_at_offer(struct session *session, struct error *error)
{
    cleanup_close int child = -1;
    uint64_t pages;
    int result = start_child(session, check_offer, &child, error);
    if (result == 0)
        result = hear(child, RESUME_MS, &pages, error);
    if (result == 0 && img_carrier_allow(&session->carrier, pages) < 0)
        result = error_set(error, -ECHILD, "the process that talks to the other side has died");
    return result;
}

static int look_at_image(struct session *session, struct error *error)
{
    int result = start_child(session, resume, &session->preparer, error);
    uint64_t ignored;
    return result < 0 ? result : hear(session->preparer, RESUME_MS, &ignored, error);
}

/* NOTHING_KNOWN: whether it runs. */
static int let_go_on(struct session *session, struct error *error)
{
    if (send(session->preparer, "", 1, MSG_NOSIGNAL) != 1)
        return error_set(error, -ECHILD, "the process that was to resume it has died");
    uint64_t ignored;
    return hear(session->preparer, RESUME_MS, &ignored, error);
}

/* ---- A session ---- */

static int say(struct session *session, enum img_frame_kind kind, struct error *error)
{
    int result = img_carrier_say(&session->carrier, kind, NULL);
    return result < 0 ? error_set_errno(error, result, "cannot answer") : 0;
}

static int refuse(struct session *session, const struct error *error)
{
    struct error told = *error;
    (void)!img_carrier_say(&session->carrier, IMG_FRAME_REFUSED, error->message);
    error_wrap(&told, "%s from %s: refused", session->name, session->from);
    error_print(&told);
    return session->dry_run ? SESSION_STRANGER : SESSION_FAILED;
}

static int go_on(struct session *session)
{
    struct error error = {0};
    int result = let_go_on(session, &error);
    if (result == NOTHING_KNOWN) {
        note("%s from %s: %s; the other side is not told whether it runs: look with bailey ps",
             session->name, session->from, error.message);
        return SESSION_FAILED;
    }
    if (result < 0)
        return refuse(session, &error);
    bool said = say(session, IMG_FRAME_RESUMED, &error) == 0;
    /* The monitor has its own; when it ends, so do these. */
    cleanup_close_descriptor(&session->requests);
    cleanup_close_descriptor(&session->status);
    if (said && session->lazily)
        return -1;
    if (!said)
        note("%s runs, but the other side cannot be told: there, say bailey migrate --settle there",
             session->name);
    return SESSION_RECEIVED;
}

/* Answers one event. Negative: the session goes on; else how it ends. */
static int serve(struct session *session, const struct img_event *event, unsigned *ends)
{
    struct error error = {0};
    int result = 0;
    switch (event->kind) {
    case IMG_FRAME_HELLO:
        session->greeted = true;
        session->dry_run = event->hello.flags & IMG_HELLO_DRY_RUN;
        session->lazily = event->hello.flags & IMG_HELLO_LAZY;
        snprintf(session->name, sizeof(session->name), "%s", event->hello.name);
        return -1;
    case IMG_FRAME_END:
        result = (*ends)++ == 0 ? look_at_offer(session, &error) : look_at_image(session, &error);
        if (result == 0)
            result = say(session, *ends == 1 ? IMG_FRAME_ACCEPTED : IMG_FRAME_READY, &error);
        return result < 0 ? refuse(session, &error) : -1;
    case IMG_FRAME_COMMIT:
        return go_on(session);
    case IMG_FRAME_COMPLETE:
        return SESSION_RECEIVED;
    case IMG_FRAME_REFUSED:
        note("%s from %s: the other side gave up: %s", session->name, session->from, event->text);
        return SESSION_FAILED;
    case IMG_EVENT_BROKEN:
        if (!session->dry_run)
            note("%s%s%s: %s", session->name, session->greeted ? " from " : "", session->from,
                 event->text);
        return session->greeted && !session->dry_run ? SESSION_FAILED : SESSION_STRANGER;
    default: /* progress */
        return -1;
    }
}

static int run_session(struct session *session, struct img_carrier_job *job)
{
    struct error error = {0};
    session->offer = memfd_create("bailey-offer", MFD_CLOEXEC);
    session->image = temporary_file(session->request->folder, &error);
    if (session->offer < 0 || session->image < 0) {
        error_print(&error);
        return SESSION_FAILED;
    }
    int requests[2] = {-1, -1}, status[2] = {-1, -1};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, requests) < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, status) < 0) {
        note("cannot make a channel to the monitor: %s", strerror(errno));
        return SESSION_FAILED;
    }
    job->offer = session->offer;
    job->image = session->image;
    job->requests = requests[0];
    job->status = status[0];
    session->requests = requests[1];
    session->status = status[1];
    int result = img_carrier_start(job, &session->carrier, &error);
    close(job->socket);
    close(requests[0]);
    close(status[0]);
    if (result < 0) {
        error_print(&error);
        return SESSION_FAILED;
    }
    unsigned ends = 0;
    do {
        struct img_event event;
        img_carrier_next(&session->carrier, &event);
        result = serve(session, &event, &ends);
    } while (result < 0);
    cleanup_close_descriptor(&session->preparer);
    img_carrier_end(&session->carrier);
    return result;
}

/* ---- The listener ---- */

struct listener {
    const struct receive_request *request;
    int socket;
    pid_t sessions[SESSION_MAX]; /* 0: none */
    _Atomic uint64_t *promised;  /* see struct session */
    sigset_t signals;            /* that were blocked before */
    struct img_carrier_job job;  /* of each session */
};

static void accept_one(struct listener *listener)
{
    int peer = accept4(listener->socket, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (peer < 0)
        return;
    size_t index = 0;
    while (index < SESSION_MAX && listener->sessions[index])
        index++;
    pid_t child = index < SESSION_MAX ? fork() : -1;
    if (child == 0) {
        struct session session = {.request = listener->request,
                                  .promised = listener->promised,
                                  .index = index,
                                  .preparer = -1};
        signal(SIGCHLD, SIG_DFL);
        sigprocmask(SIG_SETMASK, &listener->signals, NULL);
        close(listener->socket);
        address_text(peer, /*peer=*/1, session.from);
        listener->job.socket = peer;
        _exit(run_session(&session, &listener->job));
    }
    if (child > 0)
        listener->sessions[index] = child;
    close(peer);
}

/* Negative: nothing that `--once` waits for has ended. */
static int reap(struct listener *listener)
{
    int outcome = -1, status;
    for (pid_t child; (child = waitpid(-1, &status, WNOHANG)) > 0;) {
        int end = WIFEXITED(status) ? WEXITSTATUS(status) : SESSION_FAILED;
        for (size_t i = 0; i < SESSION_MAX; i++) {
            if (listener->sessions[i] == child)
                listener->sessions[i] = 0, listener->promised[i] = 0;
        }
        if (end != SESSION_STRANGER && outcome != SESSION_RECEIVED)
            outcome = end;
    }
    return outcome;
}

static void child_ended(int signal)
{
    /* It wakes the poll. */
}

int receive_run(const struct receive_request *request, struct error *error)
{
    struct listener listener = {.request = request,
                                .job = {.receives = true,
                                        .data = -1,
                                        .patience_ms = request->patience_ms,
                                        .hello = {.patience_ms = request->patience_ms,
                                                  .magic = IMG_MOVE_MAGIC,
                                                  .version = IMG_MOVE_VERSION,
                                                  .abi_version = BLY_ABI_VERSION}}};
    char at[ADDRESS_TEXT_SIZE];
    run_fill_standard();
    int result = img_key_read(request->key, listener.job.key, error);
    cleanup_close int probe = result < 0 ? -1 : temporary_file(request->folder, error);
    if (probe < 0)
        return error->code;
    listener.socket = address_listen(request->where, error);
    if (listener.socket < 0)
        return error->code;
    listener.promised = mmap(NULL, SESSION_MAX * sizeof(*listener.promised), PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (listener.promised == MAP_FAILED)
        return error_set_errno(error, -errno, "cannot make room for sessions");
    /* Held back but while we wait, so that no end is overlooked. */
    struct sigaction action = {.sa_handler = child_ended};
    sigset_t chld;
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    sigaction(SIGCHLD, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    sigprocmask(SIG_BLOCK, &chld, &listener.signals);
    note("receiving at %s", address_text(listener.socket, /*peer=*/0, at));
    for (;;) {
        struct pollfd wait = {.fd = listener.socket, .events = POLLIN};
        int ready = ppoll(&wait, 1, NULL, &listener.signals);
        if (ready > 0)
            accept_one(&listener);
        int outcome = reap(&listener);
        if (request->once && outcome >= 0)
            return outcome == SESSION_RECEIVED ? 0 : EXIT_BAILEY;
    }
}
