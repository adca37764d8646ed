/* The RPC server over its shared memory: right answers to right requests, and errors to everything else, whatever the caller writes while
 * it is being served. */
#include "support.h"

#include <linux/futex.h>
#include <monitor/rpc.h>
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/syscall.h>

struct server {
    struct fixture *fixture;
    struct mon_rpc rpc;
    struct mon_handles handles;
};

static int server_make(void **state)
{
    struct server *server = memory_new(sizeof(*server));
    void *fixture;
    fixture_make(&fixture);
    server->fixture = fixture;
    mon_handles_init(&server->handles, 64);
    server->rpc.files = &server->fixture->files;
    server->rpc.handles = &server->handles;
    assert_int_equal(mon_rpc_init(&server->rpc), 0);
    assert_int_equal(mon_rpc_start(&server->rpc), 0);
    *state = server;
    return 0;
}

static int server_remove(void **state)
{
    struct server *server = *state;
    void *fixture = server->fixture;
    assert_true(mon_rpc_stop(&server->rpc));
    mon_handles_destroy(&server->handles);
    free(server);
    return fixture_remove(&fixture);
}

static void ring(struct server *server, unsigned index)
{
    struct bly_rpc_channel *channel = server->rpc.channel;
    unsigned worker = (unsigned)sched_getcpu() % channel->worker_count;
    atomic_fetch_or(&channel->doorbells[worker].bits, 1u << index);
    if (atomic_load(&channel->doorbells[worker].asleep))
        syscall(SYS_futex, &channel->doorbells[worker].bits, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static int receive_descriptor(struct server *server, unsigned index)
{
    char byte, control[CMSG_SPACE(sizeof(int))];
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
    int descriptor;
    assert_int_equal(recvmsg(server->rpc.peers[index], &message, MSG_DONTWAIT), 1);
    memcpy(&descriptor, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
    return descriptor;
}

/* As a host layer does it. Returns the slot, in state DONE. */
static struct bly_rpc_slot *submit(struct server *server, unsigned index, unsigned operation, const uint64_t u[6], const void *data,
                                   size_t size)
{
    struct bly_rpc_slot *slot = &server->rpc.channel->slots[index];
    uint32_t expected = BLY_RPC_FREE, state;
    while (!atomic_compare_exchange_strong(&slot->state, &expected, BLY_RPC_FILLING))
        expected = BLY_RPC_FREE;
    slot->operation = operation;
    slot->owner_process = 7;
    slot->data_size = (uint32_t)size;
    memcpy(slot->u, u, sizeof(slot->u));
    if (size <= BLY_RPC_DATA_SIZE)
        memcpy(slot->data, data, size);
    atomic_store(&slot->state, BLY_RPC_SUBMITTED);
    ring(server, index);
    while ((state = atomic_load(&slot->state)) != BLY_RPC_DONE)
        syscall(SYS_futex, &slot->state, FUTEX_WAIT, state, NULL, NULL, 0);
    return slot;
}

static void release(struct bly_rpc_slot *slot)
{
    slot->owner_process = 0;
    atomic_store(&slot->state, BLY_RPC_FREE);
}

static int64_t call(struct server *server, unsigned operation, uint64_t u0, uint64_t u1, uint64_t u2, const char *data, size_t size)
{
    const uint64_t u[6] = {u0, u1, u2};
    struct bly_rpc_slot *slot = submit(server, 0, operation, u, data, size);
    int64_t result = slot->result;
    if (slot->has_descriptor)
        close(receive_descriptor(server, 0));
    release(slot);
    return result;
}
#define TEXT(text) text, sizeof(text) - 1

/* Descriptors that the sandbox does not take out count against the user in all programs: few may be under way. */
static void descriptors_under_way_are_few(void **state)
{
    struct server *server = *state;
    const uint64_t read[6] = {BLY_ACCESS_READ};
    unsigned sent = 0;
    for (unsigned i = 0; i < 20; i++) {
        struct bly_rpc_slot *slot = submit(server, 0, BLY_RPC_OPEN, read, "file:0/plain", 12);
        assert_true(slot->result == 0 || slot->result == -EMFILE);
        sent += slot->has_descriptor;
        release(slot);
    }
    assert_in_range(sent, 1, 8);
    for (; sent; sent--)
        close(receive_descriptor(server, 0));
}

/* A caller that submits without end keeps neither the other slots of its worker waiting, nor a monitor that serves alone. */
static void *submit_without_end(void *argument)
{
    struct server *server = argument;
    struct bly_rpc_slot *slot = &server->rpc.channel->slots[5];
    slot->operation = BLY_RPC_SYSTEM_QUERY;
    while (!atomic_load(&server->rpc.stop) && slot->reserved[0] == 0) {
        atomic_store(&slot->state, BLY_RPC_SUBMITTED);
        for (unsigned i = 0; i < server->rpc.worker_count; i++)
            atomic_fetch_or(&server->rpc.channel->doorbells[i].bits, 1u << 5);
    }
    return NULL;
}

static void floods_hold_up_nobody(void **state)
{
    struct server *server = *state;
    const uint64_t none[6] = {0};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, submit_without_end, server), 0);
    for (unsigned i = 0; i < 100; i++) {
        struct bly_rpc_slot *slot = submit(server, 6 + i % 2, BLY_RPC_SYSTEM_QUERY, none, "", 0);
        assert_int_equal(slot->result, 0);
        release(slot);
    }
    *(volatile uint32_t *)&server->rpc.channel->slots[5].reserved[0] = 1;
    pthread_join(thread, NULL);
}

static void requests_are_answered(void **state)
{
    struct server *server = *state;
    const uint64_t read[6] = {BLY_ACCESS_READ};
    char text[16] = "";
    struct bly_rpc_slot *slot = submit(server, 0, BLY_RPC_OPEN, read, TEXT("file:0/plain"));
    assert_int_equal(slot->result, 0);
    assert_true(slot->has_descriptor);
    assert_int_equal(slot->data_size, sizeof(struct bly_attributes));
    bly_handle handle = (bly_handle)slot->u[0];
    int descriptor = receive_descriptor(server, 0);
    release(slot);
    assert_int_equal(pread(descriptor, text, sizeof(text), 0), 5);
    assert_string_equal(text, "plain");
    close(descriptor);

    const uint64_t by_handle[6] = {handle};
    slot = submit(server, 3, BLY_RPC_FETCH, by_handle, "", 0);
    assert_int_equal(slot->result, 0);
    descriptor = receive_descriptor(server, 3);
    release(slot);
    close(descriptor);
    slot = submit(server, 0, BLY_RPC_QUERY, by_handle, "", 0);
    assert_int_equal(((struct bly_attributes *)slot->data)->size, 5);
    release(slot);

    slot = submit(server, BLY_RPC_SLOT_COUNT - 1, BLY_RPC_WALK, (const uint64_t[6]){0}, TEXT("file:0/link/x"));
    assert_int_equal(slot->result, 0);
    assert_int_equal(slot->data_size, offsetof(struct bly_walk_result, link) + 6);
    release(slot);

    slot = submit(server, BLY_RPC_SLOT_COUNT - 1, BLY_RPC_WALK, (const uint64_t[6]){BLY_WALK_WATCH}, TEXT("file:0/folder"));
    assert_int_equal(slot->result, 0);
    assert_true(((struct bly_walk_result *)slot->data)->watch > 0);
    release(slot);
    assert_int_equal(call(server, BLY_RPC_WALK, BLY_WALK_WATCH, 0, 0, TEXT("file:0/plain")), -ENOTDIR);
    assert_int_equal(call(server, BLY_RPC_WALK, BLY_WALK_WATCH | 2, 0, 0, TEXT("file:0/folder")), -EINVAL);
    assert_int_equal(call(server, BLY_RPC_WALK, 1ull << 32, 0, 0, TEXT("file:0/folder")), -EINVAL);

    assert_int_equal(call(server, BLY_RPC_CREATE, BLY_KIND_DIRECTORY, 0755, 10, TEXT("file:0/new")), 0);
    assert_int_equal(call(server, BLY_RPC_RENAME, 0, 10, 0, TEXT("file:0/newfile:0/old")), 0);
    assert_int_equal(call(server, BLY_RPC_DELETE, BLY_DELETE_DIRECTORY, 0, 0, TEXT("file:0/old")), 0);
    assert_int_equal(call(server, BLY_RPC_CREATE, BLY_KIND_HARD_LINK, 0, 11, TEXT("file:0/hardfile:0/plain")), 0);
    slot = submit(server, 0, BLY_RPC_SYSTEM_QUERY, by_handle, "", 0);
    assert_true(((struct bly_system_info *)slot->data)->cpu_count > 0);
    release(slot);
    assert_int_equal(call(server, BLY_RPC_CLOSE, handle, 0, 0, "", 0), 0);
    assert_int_equal(call(server, BLY_RPC_CLOSE, handle, 0, 0, "", 0), -EBADF);
    assert_int_equal(call(server, BLY_RPC_FETCH, handle, 0, 0, "", 0), -EBADF);
}

static int never_called(void *context, enum bly_load_source source, uint64_t offset, uint64_t size, bool discard)
{
    fail();
    return 0;
}

static void malformed_requests_are_refused(void **state)
{
    struct server *server = *state;
    const uint64_t big = 1ull << 32;
    assert_int_equal(call(server, 0, 0, 0, 0, "", 0), -ENOSYS);
    assert_int_equal(call(server, BLY_RPC_OPERATION_COUNT, 0, 0, 0, "", 0), -ENOSYS);
    assert_int_equal(call(server, UINT32_MAX, 0, 0, 0, "", 0), -ENOSYS);
    assert_int_equal(call(server, BLY_RPC_WALK, 0, 0, 0, "", BLY_RPC_DATA_SIZE + 1), -EINVAL);
    assert_int_equal(call(server, BLY_RPC_WALK, 0, 0, 0, "", UINT32_MAX), -EINVAL);
    assert_int_equal(call(server, BLY_RPC_OPEN, big | 1, 0, 0, TEXT("file:0/plain")), -EINVAL);
    assert_int_equal(call(server, BLY_RPC_OPEN, 1, big, 0, TEXT("file:0/plain")), -EINVAL);
    assert_int_equal(call(server, BLY_RPC_OPEN, 1, 32, 0, TEXT("file:0/plain")), -EINVAL);
    assert_int_equal(call(server, BLY_RPC_CREATE, BLY_KIND_DIRECTORY, 0755, 11, TEXT("file:0/new")), -EINVAL);
    assert_int_equal(call(server, BLY_RPC_CREATE, BLY_KIND_DIRECTORY, 0755, UINT64_MAX, TEXT("file:0/new")), -EINVAL);
    assert_int_equal(call(server, BLY_RPC_CREATE, BLY_KIND_SYMLINK, 0, 10, "file:0/newa\0b", 13), -EINVAL);
    assert_int_equal(call(server, BLY_RPC_RENAME, 0, UINT64_MAX, 0, TEXT("file:0/newfile:0/old")), -EINVAL);
    assert_int_equal(call(server, BLY_RPC_QUERY, big | 1u << 20, 0, 0, "", 0), -EBADF);
    assert_int_equal(call(server, BLY_RPC_WRITE_OUT, big | 1u << 20, 0, 0, "", 0), -EBADF);
    assert_int_equal(call(server, BLY_RPC_WRITE_OUT, BLY_NO_HANDLE, 0, 0, "", 0), -EBADF);
    assert_int_equal(call(server, BLY_RPC_SET, 0, BLY_SET_MODE, 0, TEXT("short")), -EINVAL);
    assert_int_equal(call(server, BLY_RPC_GET_NAMED, 12, 10, 0, TEXT("file:0/plainuser.x")), -EINVAL); /* no NUL */
    assert_int_equal(call(server, BLY_RPC_GET_NAMED, 12, 10, 0, "file:0/plainuser\0x", 19), -EINVAL);
    assert_int_equal(call(server, BLY_RPC_SET_NAMED, 12, 0, 100, "file:0/plainuser.x", 19), -EINVAL);
    assert_int_equal(call(server, BLY_RPC_INTERRUPT, 1, 1, 0, "", 0), -ESRCH);
    assert_int_equal(call(server, BLY_RPC_CPU_TIME, 1, 0, 0, "", 0), -ESRCH);
    const uint64_t loads[][6] = {{BLY_LOAD_BULK, 4096, BLY_LOAD_UNIT},
                                 {BLY_LOAD_BULK, 0, BLY_LOAD_UNIT + 1},
                                 {BLY_LOAD_BULK, 0, 0},
                                 {BLY_LOAD_BULK, 0, BLY_BULK_SIZE + BLY_LOAD_UNIT},
                                 {BLY_LOAD_BULK, BLY_BULK_SIZE, BLY_LOAD_UNIT},
                                 {BLY_LOAD_BULK, -BLY_LOAD_UNIT, 2 * BLY_LOAD_UNIT},
                                 {BLY_LOAD_BULK, 0, BLY_LOAD_UNIT, 2},
                                 {BLY_LOAD_BULK, 0, BLY_LOAD_UNIT, big},
                                 {BLY_LOAD_IMAGE, 1, 4096},
                                 {BLY_LOAD_IMAGE, 0, 0},
                                 {BLY_LOAD_IMAGE, 4096, UINT64_MAX - 4095},
                                 {BLY_LOAD_IMAGE, 0, 4096, BLY_LOAD_DISCARD},
                                 {BLY_LOAD_SOURCE_COUNT, 0, BLY_LOAD_UNIT},
                                 {big, 0, BLY_LOAD_UNIT}};
    assert_int_equal(call(server, BLY_RPC_LOAD, BLY_LOAD_BULK, 0, BLY_LOAD_UNIT, "", 0), -EINVAL); /* not resumed */
    server->rpc.load = never_called;
    for (size_t i = 0; i < sizeof(loads) / sizeof(loads[0]); i++) {
        struct bly_rpc_slot *slot = submit(server, 0, BLY_RPC_LOAD, loads[i], "", 0);
        assert_int_equal(slot->result, -EINVAL);
        release(slot);
    }
    server->rpc.load = NULL;
    assert_int_equal(call(server, BLY_RPC_SET, 5u << 20, BLY_SET_MODE, 0, (char[sizeof(struct bly_attributes)]){0},
                          sizeof(struct bly_attributes)), -EBADF);
}

static void handles_of_read_only_files_set_nothing(void **state)
{
    struct server *server = *state;
    const uint64_t read[6] = {BLY_ACCESS_READ};
    struct bly_attributes attributes = {.mode = 0600};
    struct bly_rpc_slot *slot = submit(server, 0, BLY_RPC_OPEN, read, TEXT("file:1/plain"));
    bly_handle handle = (bly_handle)slot->u[0];
    close(receive_descriptor(server, 0));
    release(slot);
    assert_int_equal(call(server, BLY_RPC_SET, handle, BLY_SET_MODE, 0, (char *)&attributes, sizeof(attributes)), -EROFS);
    bly_handle pipe;
    assert_int_equal(mon_handle_add(&server->handles, -1, BLY_KIND_PIPE, 1, MON_NO_MOUNT, &pipe), 0);
    assert_int_equal(call(server, BLY_RPC_SET, pipe, BLY_SET_MODE, 0, (char *)&attributes, sizeof(attributes)), -EPERM);
    assert_int_equal(call(server, BLY_RPC_FETCH, pipe, 0, 0, "", 0), -EBADF);
}

static unsigned open_descriptors(void)
{
    unsigned count = 0;
    for (int i = 0; i < 1024; i++)
        count += fcntl(i, F_GETFD) >= 0;
    return count;
}

static void the_limit_of_handles_is_an_error_not_a_leak(void **state)
{
    struct server *server = *state;
    unsigned before = open_descriptors();
    int opened = 0;
    int64_t result;
    while ((result = call(server, BLY_RPC_OPEN, BLY_ACCESS_READ, 0, 0, TEXT("file:0/plain"))) == 0)
        opened++;
    assert_int_equal(result, -EMFILE);
    assert_int_equal(opened, 64);
    for (int i = 0; i < 200; i++)
        assert_int_equal(call(server, BLY_RPC_OPEN, BLY_ACCESS_READ, 0, 0, TEXT("file:0/plain")), -EMFILE);
    assert_int_equal(open_descriptors(), before + 64);
}

static void slots_of_the_dead_are_freed_with_what_they_held(void **state)
{
    struct server *server = *state;
    const uint64_t read[6] = {BLY_ACCESS_READ};
    /* Died before it took the reply and its descriptor. */
    struct bly_rpc_slot *done = submit(server, 1, BLY_RPC_OPEN, read, TEXT("file:0/plain"));
    assert_true(done->has_descriptor);
    /* Died while filling. */
    struct bly_rpc_slot *filling = &server->rpc.channel->slots[2];
    atomic_store(&filling->state, BLY_RPC_FILLING);
    filling->owner_process = 7;
    /* Another's. */
    struct bly_rpc_slot *other = &server->rpc.channel->slots[4];
    atomic_store(&other->state, BLY_RPC_FILLING);
    other->owner_process = 8;
    mon_rpc_process_ended(&server->rpc, 7);
    assert_int_equal(atomic_load(&done->state), BLY_RPC_FREE);
    assert_int_equal(atomic_load(&filling->state), BLY_RPC_FREE);
    assert_int_equal(atomic_load(&other->state), BLY_RPC_FILLING);
    char byte;
    assert_int_equal(recv(server->rpc.peers[1], &byte, 1, MSG_DONTWAIT), -1);
}

static void what_the_sandbox_sends_unasked_is_refused(void **state)
{
    struct server *server = *state;
    assert_int_equal(send(server->rpc.peers[0], "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL), -1);
    assert_int_equal(errno, EPIPE);
}

/* ---- Hostile writers ---- */

struct vandal {
    struct server *server;
    _Atomic bool stop;
};

static void *scribble(void *argument)
{
    struct vandal *vandal = argument;
    struct bly_rpc_channel *channel = vandal->server->rpc.channel;
    uint32_t random = 1;
    while (!atomic_load(&vandal->stop)) {
        random = random * 1664525u + 1013904223u;
        struct bly_rpc_slot *slot = &channel->slots[BLY_RPC_SLOT_COUNT / 2 + (random >> 8) % (BLY_RPC_SLOT_COUNT / 2)];
        switch (random >> 28) {
        case 0: slot->data_size = random; break;
        case 1: slot->operation = random >> 16; break;
        case 2: slot->u[random % 6] = random; break;
        case 3: atomic_store(&slot->state, random >> 10 & 3); break;
        case 4: slot->owner_process = random & 7; break;
        case 5: slot->data[random % 64] = (unsigned char)(random >> 20); break;
        case 6: memcpy(slot->data, "file:0/plain", 12); slot->data_size = 12; slot->operation = BLY_RPC_OPEN; slot->u[0] = 1; break;
        default:
            slot->operation = 1 + (random >> 8) % BLY_RPC_OPERATION_COUNT;
            atomic_store(&slot->state, BLY_RPC_SUBMITTED);
            atomic_fetch_or(&channel->doorbells[random % channel->worker_count].bits, random);
            syscall(SYS_futex, &channel->doorbells[random % channel->worker_count].bits, FUTEX_WAKE, 1, NULL, NULL, 0);
        }
    }
    return NULL;
}

static void scribbling_in_the_channel_harms_no_other_request(void **state)
{
    struct server *server = *state;
    struct vandal vandal = {.server = server};
    pthread_t thread;
    pthread_create(&thread, NULL, scribble, &vandal);
    for (int i = 0; i < 20000; i++)
        assert_int_equal(call(server, BLY_RPC_WALK, 0, 0, 0, TEXT("file:0/folder/deep/file")), 0);
    atomic_store(&vandal.stop, true);
    pthread_join(thread, NULL);
    assert_int_equal(access(in_fixture(server->fixture, "outside/secret"), F_OK), 0);
}

static void one_thread_serves_until_the_workers_start(void **state)
{
    struct server *server = *state;
    struct mon_rpc *rpc = &server->rpc;
    assert_true(mon_rpc_stop(rpc));
    rpc->stop = false;
    assert_int_equal(mon_rpc_init(rpc), 0);
    struct bly_rpc_channel *channel = rpc->channel;
    struct bly_rpc_slot *slot = &channel->slots[3];
    mon_rpc_begin_eager(rpc);
    if (!rpc->eager) {
        assert_int_equal(mon_rpc_start(rpc), 0); /* one CPU */
        return;
    }
    assert_false(mon_rpc_serve_eagerly(rpc));
    assert_true(mon_rpc_eager_sleeps(rpc));
    assert_int_equal(atomic_load(&channel->eager), BLY_RPC_EAGER_ASLEEP);
    for (unsigned doorbell = 0; doorbell < rpc->worker_count; doorbell++) {
        slot->operation = BLY_RPC_WALK;
        slot->owner_process = 7;
        slot->data_size = 12;
        memcpy(slot->data, "file:0/plain", 12);
        atomic_store(&slot->state, BLY_RPC_SUBMITTED);
        atomic_fetch_or(&channel->doorbells[doorbell].bits, 1u << 3);
        assert_false(mon_rpc_eager_sleeps(rpc));
        mon_rpc_eager_wakes(rpc);
        assert_true(mon_rpc_serve_eagerly(rpc));
        assert_int_equal(atomic_load(&slot->state), BLY_RPC_DONE);
        assert_int_equal(slot->result, 0);
        assert_false(mon_rpc_serve_eagerly(rpc));
    }
    /* What stands in a doorbell when the workers start is theirs. */
    slot->data_size = 12;
    memcpy(slot->data, "file:0/plain", 12);
    atomic_store(&slot->state, BLY_RPC_SUBMITTED);
    atomic_fetch_or(&channel->doorbells[0].bits, 1u << 3);
    assert_int_equal(mon_rpc_start(rpc), 0);
    assert_int_equal(atomic_load(&channel->eager), BLY_RPC_EAGER_OFF);
    while (atomic_load(&slot->state) != BLY_RPC_DONE)
        usleep(100);
    assert_int_equal(slot->result, 0);
    release(slot);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, server_make, server_remove)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(descriptors_under_way_are_few),
        TEST(floods_hold_up_nobody),
        TEST(requests_are_answered),
        TEST(malformed_requests_are_refused),
        TEST(handles_of_read_only_files_set_nothing),
        TEST(the_limit_of_handles_is_an_error_not_a_leak),
        TEST(slots_of_the_dead_are_freed_with_what_they_held),
        TEST(what_the_sandbox_sends_unasked_is_refused),
        TEST(one_thread_serves_until_the_workers_start),
        TEST(scribbling_in_the_channel_harms_no_other_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
