/* hostile ATTACK: a program that knows Bailey's source. It finds the host layer's system-call
 * instruction and uses it past the personality, writes into the channel to the monitor, the log,
 * the control stream. tests/behaviour/hostile.sh says what must hold from outside. */
#define _GNU_SOURCE
#include <bailey/layout.h>
#include <bailey/rpc.h>
#include <bailey/start.h>
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

typedef long (*host_call)(long number, long a, long b, long c, long d, long e, long f);
static host_call host;
static struct bly_rpc_channel *const channel = (struct bly_rpc_channel *)BLY_RPC_CHANNEL;

/* host/linux/syscall.S begins so. */
static void find_window(void)
{
    static const unsigned char begin[] = {0x48, 0x89, 0xf8, 0x48, 0x89, 0xf7, 0x48, 0x89, 0xd6,
                                          0x48, 0x89, 0xca, 0x4d, 0x89, 0xc2, 0x4d, 0x89, 0xc8,
                                          0x4c, 0x8b, 0x4c, 0x24, 0x08, 0x0f, 0x05, 0xc3};
    for (const unsigned char *at = (const unsigned char *)BLY_IMAGE_START;
         at < (const unsigned char *)BLY_IMAGE_END; at++)
        if (memcmp(at, begin, sizeof(begin)) == 0) {
            host = (host_call)at;
            return;
        }
    fprintf(stderr, "no system call was found in the image\n");
    exit(125);
}

static void expect(const char *what, long value, long wanted)
{
    if (value == wanted)
        return;
    fprintf(stderr, "%s: %ld, not %ld\n", what, value, wanted);
    exit(1);
}

static _Noreturn void sleep_forever(void)
{
    static uint32_t word;
    for (;;)
        host(SYS_futex, (long)&word, FUTEX_WAIT_BITSET, 0, 0, 0, -1);
}

static long clone_unknown(long flags)
{
    static int id;
    return host(SYS_clone, flags | SIGCHLD | CLONE_CHILD_SETTID, 0, 0, (long)&id, 0, 0);
}

/* A process that the personality knows nothing of, and that asks for no parent-death signal. */
static void outlives(void)
{
    long child = clone_unknown(0);
    if (child == 0)
        sleep_forever();
    expect("clone", child > 0, 1);
    if (clone_unknown(CLONE_PARENT) == 0)
        sleep_forever();
}

/* One that is never there any more when somebody looks: its child lives on, for a moment. */
static void flees(void)
{
    if (clone_unknown(0) != 0)
        return;
    for (;;)
        if (clone_unknown(0) != 0)
            host(SYS_exit_group, 0, 0, 0, 0, 0, 0);
}

static void *submit_forever(void *argument)
{
    struct bly_rpc_slot *slot = &channel->slots[(uintptr_t)argument];
    for (;;) {
        slot->operation = BLY_RPC_SYSTEM_QUERY;
        slot->data_size = 0;
        atomic_store(&slot->state, BLY_RPC_SUBMITTED);
        for (unsigned i = 0; i < BLY_RPC_WORKER_MAX; i++)
            atomic_fetch_or(&channel->doorbells[i].bits, 1u << (uintptr_t)argument);
    }
    return NULL;
}

static void floods(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, submit_forever, (void *)14);
    submit_forever((void *)15);
}

static void log_record(unsigned level, const char *text, size_t size)
{
    struct bly_log_record record = {.size = (uint16_t)size, .level = (uint8_t)level};
    struct iovec parts[2] = {{&record, sizeof(record)}, {(void *)text, size}};
    expect("write to the log", host(SYS_pwritev2, BLY_FD_LOG, (long)parts, 2, -1, -1, 0),
           (long)(sizeof(record) + size));
}

static void fills_the_log(void)
{
    static char line[4000];
    memset(line, 'x', sizeof(line));
    for (int i = 0; i < 8000; i++)
        log_record(BLY_LOG_ERROR, line, sizeof(line));
}

static void lies_to_tracers(void)
{
    static char line[4000] = "begin\33[2J\xc2\x9b"
                             "2Jend";
    prctl(PR_SET_NAME, "\33[2J\xc2\x9b"
                       "31mname");
    for (;;) {
        log_record(BLY_LOG_TRACE, line, sizeof(line));
        usleep(20000);
    }
}

static void *take_questions(void *argument)
{
    static __thread char taken[65536];
    struct iovec in = {taken, sizeof(taken)};
    for (;;) {
        struct msghdr header = {.msg_iov = &in, .msg_iovlen = 1};
        host(SYS_recvmsg, BLY_FD_CONTROL, (long)&header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC, 0, 0, 0);
    }
    return NULL;
}

/* Takes the question away from who would answer it, most times, and answers without end. */
static void lists_forever(void)
{
    static struct {
        struct bly_control record;
        char text[30000];
    } message = {.record = {.kind = BLY_CONTROL_LISTING, .value = 1, .size = sizeof(message.text)}};
    struct iovec part = {&message, sizeof(message)};
    pthread_t thread;
    memset(message.text, 'x', sizeof(message.text));
    for (int i = 0; i < 2; i++)
        pthread_create(&thread, NULL, take_questions, NULL);
    for (;;)
        host(SYS_pwritev2, BLY_FD_CONTROL, (long)&part, 1, -1, -1, 0);
}

/* Where process ids are the host's. */
static void reads_clocks(void)
{
    struct timespec time;
    for (unsigned kind = 0; kind < 3; kind++) {
        expect("CPU clock of process 1",
               host(SYS_clock_gettime, (int)(~1u << 3 | kind), (long)&time, 0, 0, 0, 0), -EPERM);
        expect("the same, as a wide number",
               host(SYS_clock_gettime, (uint32_t)(~1u << 3 | kind), (long)&time, 0, 0, 0, 0),
               -EPERM);
    }
    expect("own CPU clock",
           host(SYS_clock_gettime, CLOCK_PROCESS_CPUTIME_ID, (long)&time, 0, 0, 0, 0), 0);
}

/* More processes than --pids 20 allows, and Bailey's own threads. */
static void multiplies(void)
{
    unsigned count = 0;
    for (; count < 200; count++) {
        long child = clone_unknown(0);
        if (child == 0)
            sleep_forever();
        if (child < 0)
            break;
    }
    expect("at most 44 processes", count <= 44, 1);
}

/* Half a gigabyte that the personality knows nothing of. */
static void devours(void)
{
    char *const memory = (char *)0x200000000000;
    const size_t size = 512ul << 20;
    long result = host(SYS_mmap, (long)memory, (long)size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    expect("mmap", result, (long)memory);
    for (size_t i = 0; i < size; i += 4096)
        memory[i] = 1;
}

/* Malformed and mutated records, of every kind, for as long as it takes. */
static void babbles(void)
{
    static unsigned char data[8192];
    srandom(1);
    for (int round = 0; round < 20000; round++) {
        size_t size = (size_t)random() % sizeof(data);
        for (size_t i = 0; i < size; i++)
            data[i] = (unsigned char)random();
        struct bly_control *record = (struct bly_control *)data;
        if (round & 1) {
            size = sizeof(*record) + (size_t)random() % 300;
            /* Whatever ends nothing: STARTED, LISTING, REFUSED and numbers that are none. */
            static const uint8_t kinds[] = {BLY_CONTROL_STARTED, BLY_CONTROL_LISTING,
                                            BLY_CONTROL_REFUSED, 99};
            record->kind = kinds[random() % 4];
            record->token = (uint32_t)random() % 4;
            record->size = (uint32_t)(size - sizeof(*record));
        } else if (size >= sizeof(*record)) {
            record->size = round & 2 ? record->size : 0x7fffffff;
        }
        struct iovec part = {data, size};
        host(SYS_pwritev2, BLY_FD_CONTROL, (long)&part, 1, -1, -1, 0);
        part.iov_len = size % 4096;
        if (round % 16 == 0)
            host(SYS_pwritev2, BLY_FD_LOG, (long)&part, 1, -1, -1, 0);
    }
}

static const struct attack {
    const char *name;
    void (*function)(void);
} attacks[] = {{"outlives", outlives},
               {"flees", flees},
               {"floods", floods},
               {"fills_the_log", fills_the_log},
               {"lies_to_tracers", lies_to_tracers},
               {"lists_forever", lists_forever},
               {"reads_clocks", reads_clocks},
               {"multiplies", multiplies},
               {"devours", devours},
               {"babbles", babbles}};

int main(int argc, char **argv)
{
    find_window();
    for (size_t i = 0; argc == 2 && i < sizeof(attacks) / sizeof(attacks[0]); i++)
        if (strcmp(argv[1], attacks[i].name) == 0) {
            attacks[i].function();
            return 0;
        }
    fprintf(stderr, "no such attack\n");
    return 125;
}
