/* bailey migrate, the work: between the sandbox's monitor, which gives the image and keeps the
 * original still, and the carrier, which talks to the other side (image/carrier.h).
 *
 * Lazily, the original stands still until the other side has all its memory; while something of it
 * is still here, it can go on here instead, but not before the other side must have noticed that
 * the link is broken and ended what it has.
 *
 * Invariant: the monitor is told to commit before the other side is, and the original may go on or
 * end only after the other side's answer. Before that every failure, our own death included, lets
 * the original go on. docs/migration.md has the protocol. */
#include <cli/move.h>

#include <base/cleanup.h>
#include <base/json.h>
#include <cli/address.h>
#include <cli/client.h>
#include <cli/progress.h>
#include <errno.h>
#include <image/carrier.h>
#include <monitor/loop.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LAZY_BUFFER (256 << 10)

struct move {
    const struct migrate_request *request;
    struct client client;
    struct img_carrier carrier;
    struct progress progress;
    enum control_move_state state; /* as the monitor told */
    bool accepted, ready;          /* as the other side told */
    bool committed;                /* the other side was told, or may have been */
    bool left;                     /* the other side said that it runs there: its last word */
    bool serving, served;          /* lazily: it runs there; and all memory was given away */
    uint32_t their_patience_ms;
    bool over;
    struct error obstacles; /* why it cannot be carried, told when it was offered */
    uint64_t expected, sent;
    struct control_suspended report;
};

static int order(struct move *move, enum control_move_order what, struct error *error)
{
    return client_ask(&move->client, CONTROL_MOVE_ORDER, what, error);
}

/* ---- The outcome ---- */

/* Nothing but the other side knows whether it goes on there. */
static int undecided(const struct move *move, const char *why, struct error *error)
{
    const struct migrate_request *request = move->request;
    error_set(
        error, -EREMOTEIO,
        "%s: at the very moment in which %s was to go on there. Whether it does is not known; "
        "here it stands still. Look with bailey ps on the other side; then, here: bailey "
        "migrate --settle there %s, if it runs there; --settle here, if not",
        why, request->name, request->name);
    return error_wrap(error, "%s", request->where);
}

static int stays(struct move *move, int code, const char *why, struct error *error)
{
    error_set_lines(error, code, why, strlen(why));
    error_wrap(error, "%s", move->request->where);
    if (!move->request->dry_run)
        error_hint(error, "%s runs on here", move->request->name);
    return error->code;
}

/* How far the monitor is, and with the offer what is in the way here. */
static void hear_offer(struct move *move)
{
    const struct client *client = &move->client;
    if (client->answer.kind != CONTROL_MOVING)
        return;
    move->state = (enum control_move_state)client->answer.value;
    if (!client->answer.size)
        return;
    error_set_lines(&move->obstacles, -EXDEV, client->payload, client->answer.size);
    error_wrap(&move->obstacles, "sandbox %s", move->request->name);
}

/* What is in the way here, and what the other side says, if anything. */
static int cannot_be_carried(struct move *move, const char *why, struct error *error)
{
    struct error there = {0};
    if (why) {
        error_set_lines(&there, -ECONNREFUSED, why, strlen(why));
        error_wrap(&there, "%s", move->request->where);
    }
    *error = move->obstacles;
    if (why)
        error_add(error, &there);
    if (!move->request->dry_run)
        error_hint(error, "%s runs on here", move->request->name);
    return error->code;
}

/* The other side ends the move, for these reasons. */
static int refused(struct move *move, const char *why, struct error *error)
{
    struct error ignored = {0};
    while (move->state < MOVE_OFFERED && client_receive(&move->client, &ignored) == 0)
        hear_offer(move);
    if (!move->committed && move->obstacles.code)
        return cannot_be_carried(move, why, error);
    if (!move->committed)
        return stays(move, -ECONNREFUSED, why, error);
    struct error of_order = {0};
    int result = order(move, MOVE_STAY, &of_order);
    while (result == 0) /* its last word is that it stays */
        result = client_receive(&move->client, &of_order);
    return stays(move, -ECONNREFUSED, why, error);
}

/* How much longer than its patience the other side may take to end what it has. */
#define LEASE_MARGIN_MS 5000u

/* The link is broken while the other side's sandbox cannot do without it. */
static int taken_back(struct move *move, const char *why, struct error *error)
{
    struct error of_order = {0};
    if (move->served)
        return undecided(move, why, error);
    uint64_t until_ns =
        mon_now_ns() + (uint64_t)(move->their_patience_ms + LEASE_MARGIN_MS) * 1000000;
    progress_end(&move->progress);
    note("%s: %s; %s goes on here in %u seconds, when the other side has noticed",
         move->request->where, why, move->request->name,
         (move->their_patience_ms + LEASE_MARGIN_MS) / 1000);
    for (uint64_t now; (now = mon_now_ns()) < until_ns;)
        poll(NULL, 0, (int)((until_ns - now) / 1000000 + 1));
    int result = order(move, MOVE_STAY, &of_order);
    while (result == 0)
        result = client_receive(&move->client, &of_order);
    error_set(error, -EPIPE, "%s: %s", move->request->where, why);
    error_hint(error,
               "%s runs on here from where it left; what it did there meanwhile is lost, but for "
               "what it wrote to files and told others",
               move->request->name);
    return error->code;
}

/* ---- What comes in ---- */

static int go_on(struct move *move, struct error *error)
{
    if (move->state == MOVE_OFFERED && move->accepted && move->obstacles.code)
        return cannot_be_carried(move, NULL, error);
    if (move->state == MOVE_OFFERED && move->accepted && move->request->dry_run)
        move->over = true;
    if (move->state == MOVE_OFFERED && move->accepted && !move->over) {
        move->accepted = false;
        return order(move, MOVE_GO, error);
    }
    if (move->state == MOVE_WRITTEN && move->ready) {
        move->ready = false;
        return order(move, MOVE_COMMIT, error);
    }
    return 0;
}

static int hear_state(struct move *move, struct error *error)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};
    hear_offer(move);
    move->served |= move->state == MOVE_SERVED;
    if (move->state != MOVE_COMMITTED)
        return go_on(move, error);
    /* Who interrupts us now would leave the sandbox standing still. */
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        signal(signals[i], SIG_IGN);
    move->committed = true;
    return img_carrier_say(&move->carrier, IMG_FRAME_COMMIT, NULL) < 0
               ? undecided(move, "the process that talks to it died", error)
               : 0;
}

/* The monitor's channel breaks when the carrier ends, which has told why. */
static int hear_reason(struct move *move, struct error *error)
{
    struct img_event event;
    struct pollfd wait = {.fd = move->carrier.orders, .events = POLLIN};
    while (!move->committed && poll(&wait, 1, 0) > 0) {
        img_carrier_next(&move->carrier, &event);
        if (event.kind == IMG_FRAME_REFUSED || event.kind == IMG_EVENT_BROKEN)
            return stays(move, event.code ? event.code : -ECONNREFUSED, event.text, error);
    }
    /* The other side need not guess. After the commit it is not asked any more. */
    if (!move->committed)
        (void)!img_carrier_say(&move->carrier, IMG_FRAME_REFUSED, error->message);
    return error->code;
}

static int hear_monitor(struct move *move, struct error *error)
{
    struct client *client = &move->client;
    struct control_progress now;
    int result = client_receive(client, error);
    if (result < 0)
        return hear_reason(move, error);
    switch (client->answer.kind) {
    case CONTROL_MOVING:
        return hear_state(move, error);
    case CONTROL_PROGRESS:
        if (client->answer.size == sizeof(now)) {
            memcpy(&now, client->payload, sizeof(now));
            move->expected = now.expected;
        }
        return 0;
    case CONTROL_DONE:
        move->over = true;
        if (client->answer.size == sizeof(move->report))
            memcpy(&move->report, client->payload, sizeof(move->report));
        return 0;
    }
    return 0;
}

static int hear_other_side(struct move *move, struct error *error)
{
    struct img_event event;
    img_carrier_next(&move->carrier, &event);
    switch (event.kind) {
    case IMG_EVENT_PROGRESS:
        move->sent = event.bytes;
        progress_show(&move->progress, event.bytes, move->expected);
        return 0;
    case IMG_EVENT_SENT:
        move->sent = event.bytes;
        return 0;
    case IMG_FRAME_ACCEPTED:
        move->accepted = true;
        return go_on(move, error);
    case IMG_FRAME_READY:
        move->ready = true;
        return go_on(move, error);
    case IMG_FRAME_RESUMED:
        if (move->committed && move->request->lazily) {
            move->serving = true;
            return order(move, MOVE_RUNNING, error);
        }
        move->left = move->committed;
        return move->left ? order(move, MOVE_LEAVE, error)
                          : stays(move, -EPROTO, "it makes no sense", error);
    case IMG_FRAME_COMPLETE:
        move->sent = event.bytes;
        move->left = move->serving;
        return move->left ? order(move, MOVE_LEAVE, error)
                          : stays(move, -EPROTO, "it makes no sense", error);
    case IMG_FRAME_REFUSED:
        return move->serving ? taken_back(move, event.text, error)
                             : refused(move, event.text, error);
    case IMG_EVENT_BROKEN:
        if (move->committed && move->request->lazily)
            return taken_back(move, event.text, error);
        return move->committed ? undecided(move, event.text, error)
                               : stays(move, event.code ? event.code : -EPIPE, event.text, error);
    default:
        return move->serving ? taken_back(move, "it makes no sense", error)
                             : stays(move, -EPROTO, "it makes no sense", error);
    }
}

static int carry_out(struct move *move, struct error *error)
{
    int result = 0;
    move->progress = progress_begin("moving");
    while (result == 0 && !move->over) {
        struct pollfd waits[2] = {{.fd = move->client.socket, .events = POLLIN},
                                  {.fd = move->left ? -1 : move->carrier.orders, .events = POLLIN}};
        if (poll(waits, 2, -1) < 0) {
            if (errno != EINTR)
                result = error_set_errno(error, -errno, "cannot wait");
            continue;
        }
        if (waits[0].revents)
            result = hear_monitor(move, error);
        if (result == 0 && waits[1].revents)
            result = hear_other_side(move, error);
    }
    progress_end(&move->progress);
    return result;
}

/* ---- The beginning ---- */

/* The monitor's end of `data` goes to the monitor. */
static int ask_monitor(struct move *move, int data, struct error *error)
{
    const char *where = move->request->where;
    struct control_message message = {
        .kind = CONTROL_MOVE,
        .value = (move->request->self_contained ? SUSPEND_SELF_CONTAINED : 0) |
                 (move->request->hash_files ? SUSPEND_HASH_FILES : 0) |
                 (move->request->lazily ? SUSPEND_LAZILY : 0),
        .size = (uint32_t)strlen(where)};
    int result = control_send(move->client.socket, &message, where, &data, 1);
    return result < 0
               ? error_set_errno(error, result, "cannot reach the sandbox %s", move->request->name)
               : 0;
}

static int greet(struct move *move, struct error *error)
{
    struct img_event event;
    do {
        img_carrier_next(&move->carrier, &event);
    } while (event.kind == IMG_EVENT_PROGRESS);
    move->their_patience_ms = event.kind == IMG_FRAME_HELLO ? event.hello.patience_ms : 0;
    if (event.kind == IMG_FRAME_HELLO)
        return 0;
    return stays(move, event.code ? event.code : -EPROTO,
                 event.kind == IMG_EVENT_BROKEN || event.kind == IMG_FRAME_REFUSED
                     ? event.text
                     : "it makes no sense",
                 error);
}

static int start(struct move *move, struct error *error)
{
    const struct migrate_request *request = move->request;
    struct img_carrier_job job = {.offer = -1,
                                  .image = -1,
                                  .requests = -1,
                                  .status = -1,
                                  .patience_ms = request->patience_ms};
    int ends[2];
    int result = img_key_read(request->key, job.key, error);
    if (result == 0)
        result = client_open(&move->client, request->name, error);
    if (result < 0)
        return result;
    cleanup_close int socket = address_connect(request->where, request->patience_ms, error);
    if (socket < 0)
        return error->code;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return error_set_errno(error, -errno, "cannot make a channel to the monitor");
    cleanup_close int monitors = ends[0], carriers = ends[1];
    /* What is asked for must not wait behind much that was not. */
    if (request->lazily)
        setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &(int){LAZY_BUFFER}, sizeof(int));
    job.socket = socket;
    job.data = carriers;
    job.hello = (struct img_hello){.magic = IMG_MOVE_MAGIC,
                                   .version = IMG_MOVE_VERSION,
                                   .abi_version = BLY_ABI_VERSION,
                                   .flags = (request->dry_run ? IMG_HELLO_DRY_RUN : 0) |
                                            (request->lazily ? IMG_HELLO_LAZY : 0)};
    snprintf(job.hello.name, sizeof(job.hello.name), "%s", request->name);
    result = img_carrier_start(&job, &move->carrier, error);
    explicit_bzero(job.key, sizeof(job.key));
    if (result == 0)
        result = greet(move, error);
    return result < 0 ? result : ask_monitor(move, monitors, error);
}

/* ---- The end ---- */

static void print(const struct move *move)
{
    const struct migrate_request *request = move->request;
    char size[SIZE_TEXT_SIZE];
    if (!request->as_json && request->dry_run) {
        printf("%s: %s would be taken\n", request->where, request->name);
        return;
    }
    if (!request->as_json) {
        printf("%s: %s runs there; %s in %.2f s, it stood still for %.1f ms\n", request->where,
               request->name, size_text(move->sent, size), (double)move->report.total_ns / 1e9,
               (double)move->report.pause_ns / 1e6);
        return;
    }
    cleanup_text struct text text = {0};
    struct json json = json_to(&text);
    json_object(&json);
    json_key_string(&json, "name", request->name);
    json_key_string(&json, "to", request->where);
    json_key_boolean(&json, "dry_run", request->dry_run);
    if (request->dry_run) {
        json_key_boolean(&json, "taken", true);
        json_key_strings(&json, "obstacles", NULL, 0);
    }
    json_key_boolean(&json, "lazy", request->lazily);
    if (!request->dry_run) {
        json_key_number(&json, "memory", (int64_t)move->report.memory_size);
        json_key_number(&json, "sent", (int64_t)move->sent);
        json_key_number(&json, "rounds", (int64_t)move->report.rounds);
        json_key_number(&json, "last_size", (int64_t)move->report.last_size);
        json_key_number(&json, "last_write_us", (int64_t)(move->report.write_ns / 1000));
        json_key_number(&json, "pause_us", (int64_t)(move->report.pause_ns / 1000));
        json_key_number(&json, "total_us", (int64_t)(move->report.total_ns / 1000));
    }
    json_object_end(&json);
    printf("%s\n", text.data);
}

/* Of a dry run: why it would not be taken. */
static void print_obstacles(const struct migrate_request *request, const struct error *error)
{
    cleanup_text struct text text = {0};
    cleanup_text_list struct text_list reasons = {0};
    cleanup_free char *lines = text_copy(error->message);
    for (char *rest = lines, *line; (line = strsep(&rest, "\n"));)
        text_list_add(&reasons, line);
    struct json json = json_to(&text);
    json_object(&json);
    json_key_string(&json, "name", request->name);
    json_key_string(&json, "to", request->where);
    json_key_boolean(&json, "dry_run", true);
    json_key_boolean(&json, "taken", false);
    json_key_strings(&json, "obstacles", reasons.items, reasons.count);
    json_object_end(&json);
    printf("%s\n", text.data);
}

int migrate_run(const struct migrate_request *request, struct error *error)
{
    struct move move = {.request = request, .client = {.socket = -1}, .carrier = {.orders = -1}};
    signal(SIGPIPE, SIG_IGN);
    int result = start(&move, error);
    if (result == 0)
        result = carry_out(&move, error);
    /* Before the carrier says good-bye, which may take a moment: unless it is committed, the
     * sandbox goes on with this. */
    client_close(&move.client);
    img_carrier_end(&move.carrier);
    if (result < 0 && request->dry_run && request->as_json)
        print_obstacles(request, error);
    if (result < 0)
        return result;
    if (!request->dry_run)
        client_wait_until_over(request->name);
    print(&move);
    return 0;
}
