/* Fuzzes what reads from the sandbox's log pipe and from clients of the control socket. The first byte chooses: packets of a client, records
 * in the log pipe while somebody traces, listings.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined ... ; ./fuzz_control -max_len=4096 */
#include "../linux/fuzz_main.h"

#include <base/cleanup.h>
#include <base/path.h>
#include <errno.h>
#include <fcntl.h>
#include <monitor/sandbox.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct mon_sandbox sandbox;
static struct mon_policy policy;
static char folder[] = "/tmp/bailey-fuzz-control-XXXXXX";
static int log_writer;

static int execute(void *context, uint32_t token, const struct mon_execute *request, struct error *error)
{
    size_t sum = strlen(request->program) + strlen(request->directory);
    for (size_t i = 0; i < request->arguments.count; i++)
        sum += strlen(request->arguments.items[i]);
    for (size_t i = 0; i < request->environment.count; i++)
        sum += strlen(request->environment.items[i]);
    for (int i = 0; i < 3; i++)
        if (request->standard[i] >= 0)
            close(request->standard[i]);
    return sum % 2 ? 0 : error_set(error, -EINVAL, "%s", request->program);
}
static void signal_program(void *context, uint32_t token, int signal)
{
}
static void window_size(void *context, uint32_t token, uint16_t rows, uint16_t columns)
{
}
static void set_number(void *context, uint32_t number)
{
}
static void list(void *context)
{
}

static void draw_again(void *context, uint16_t rows, uint16_t columns)
{
}
static int move(void *context, int peer, const char *where, uint32_t flags, struct error *error)
{
    close(peer);
    return strlen(where) % 2 ? 0 : error_set(error, -EBUSY, "%s", where);
}
static int move_order(void *context, enum control_move_order order, struct error *error)
{
    return order % 2 ? 0 : error_set(error, -EINVAL, "order %d", (int)order);
}
static int suspend(void *context, const char *path, uint32_t flags, const char *base, int base_descriptor, struct error *error)
{
    if (base_descriptor >= 0)
        close(base_descriptor);
    return strlen(path) % 2 ? 0 : error_set(error, -EBUSY, "%s", path);
}
static void cancel_suspension(void *context)
{
}

static const struct mon_control_operations operations = {.execute = execute,
                                                         .signal = signal_program,
                                                         .window_size = window_size,
                                                         .draw_again = draw_again,
                                                         .stop = set_number,
                                                         .trace = set_number,
                                                         .list = list,
                                                         .move = move,
                                                         .move_order = move_order,
                                                         .suspend = suspend,
                                                         .cancel_suspension = cancel_suspension};

static void remove_folder(void)
{
    path_remove_tree(AT_FDCWD, folder);
}

static void set_up(void)
{
    int standard[3] = {-1, -1, -1}, ends[2];
    struct error error = {0};
    if (!mkdtemp(folder) || pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0 || mon_loop_init(&sandbox.loop) < 0)
        abort();
    atexit(remove_folder);
    policy.state_path = folder;
    policy.name = policy.program = policy.directory = "/x";
    policy.detach = policy.interactive = true;
    text_list_add(&policy.environment, "A=1");
    sandbox.policy = &policy;
    sandbox.log = ends[0];
    log_writer = ends[1];
    fcntl(log_writer, F_SETPIPE_SZ, 1 << 20);
    if (mon_control_open(&sandbox.control, &sandbox.loop, &policy, &operations, &sandbox, standard, &error) < 0)
        abort();
}

static int connect_client(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval never = {.tv_usec = 1};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", folder, CONTROL_SOCKET);
    int client = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (client < 0 || connect(client, (struct sockaddr *)&address, sizeof(address)) < 0)
        abort();
    setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &never, sizeof(never));
    if (mon_loop_once(&sandbox.loop, 0) < 0)
        abort();
    return client;
}

static void send_packet(int client, const void *data, size_t size)
{
    (void)!send(client, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    for (int i = 0; i < 3; i++)
        (void)!mon_loop_once(&sandbox.loop, 0);
}

/* What comes to a client holds nothing that a terminal obeys where it shows names of the sandbox. */
static void check_answers(int client, bool hostile)
{
    static char answer[CONTROL_PAYLOAD_MAX + sizeof(struct control_message)];
    ssize_t size;
    while ((size = recv(client, answer, sizeof(answer), MSG_DONTWAIT)) > 0)
        for (ssize_t i = sizeof(struct control_message); hostile && i < size; i++)
            if ((unsigned char)answer[i] < ' ' && answer[i] != '\n' && answer[i] != '\t')
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!sandbox.control)
        set_up();
    if (size < 2)
        return 0;
    uint8_t kind = *data++ % 3;
    size--;
    int client = connect_client();
    struct control_message message = {.version = CONTROL_VERSION,
                                      .kind = kind == 1 ? CONTROL_TRACE : CONTROL_LIST,
                                      .value = BLY_START_TRACE_SYSCALLS};
    if (kind)
        send_packet(client, &message, sizeof(message));
    if (kind == 1) {
        size_t written = size < 65536 ? size : 65536;
        if (write(log_writer, data, written) < 0)
            abort();
        mon_log_drain(&sandbox);
        sandbox.log_size = 0;
    } else if (kind == 2) {
        mon_control_listing(sandbox.control, (const char *)data, size, /*last=*/true);
    }
    for (; kind == 0 && size >= 2; data += 2, size -= 2) {
        size_t wanted = data[0] | (size_t)data[1] << 8, part = wanted < size - 2 ? wanted : size - 2;
        send_packet(client, data + 2, part);
        data += part;
        size -= part;
    }
    /* What it may have asked for and waits for. */
    const struct control_suspended report = {0};
    mon_control_moving(sandbox.control, (enum control_move_state)(size % 5), size % 3 ? "an obstacle" : NULL);
    mon_control_suspended(sandbox.control, size % 2 ? -ECANCELED : 0, "it ended", &report);
    check_answers(client, kind == 1 || kind == 2);
    close(client);
    for (int i = 0; i < 3; i++)
        (void)!mon_loop_once(&sandbox.loop, 0);
    return 0;
}

#ifdef MAIN
static size_t make_seed(uint8_t *data, size_t limit, unsigned round)
{
    static const char text[] = "/bin/sh\0/\0sh\0-c\0A=b";
    uint8_t *at = data;
    *at++ = (uint8_t)round;
    if (round % 3 == 0) {
        struct control_execute head = {.argument_count = 2, .environment_count = 1};
        size_t payload = round % 2 ? sizeof(head) + sizeof(text) : 0;
        struct control_message message = {
            .version = CONTROL_VERSION, .kind = round % 2 ? CONTROL_EXECUTE : round % 12, .value = 1, .size = (uint32_t)payload};
        *at++ = (uint8_t)(sizeof(message) + payload);
        *at++ = 0;
        memcpy(at, &message, sizeof(message));
        at += sizeof(message);
        if (payload) {
            memcpy(at, &head, sizeof(head));
            memcpy(at + sizeof(head), text, sizeof(text));
        }
        at += payload;
    } else if (round % 3 == 1) {
        struct bly_log_record record = {.size = 5, .level = BLY_LOG_TRACE};
        memcpy(at, &record, sizeof(record));
        memcpy(at + sizeof(record), "ab\0\33c", 5);
        at += sizeof(record) + 5;
    } else {
        memcpy(at, "1 0 \33[x\n2\n", 10);
        at += 10;
    }
    return (size_t)(at - data);
}
#endif
