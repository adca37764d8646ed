/* Doorbells, slots and worker threads. Invariant: a slot in state SUBMITTED is written by exactly one worker (the one that took its
 * bit from a doorbell and then took it in `serving`, our own book), whatever the sandbox writes meanwhile. */
#include "monitor/rpc.h"

#include "base/cleanup.h"
#include "monitor/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WORKER_STACK_SIZE (128u * 1024)
#define STOP_BIT (1u << 31)
#define ALL_SLOTS ((1u << BLY_RPC_SLOT_COUNT) - 1)
#define HELD_UP_NS 1000000000ull

static void futex_wake(_Atomic uint32_t *word, int count)
{
    syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
}

/* ---- Slots ---- */

static void close_received(struct msghdr *message)
{
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int descriptor;
            memcpy(&descriptor, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
            close(descriptor);
        }
    }
}

/* Takes out what a caller that died did not fetch: the next caller must not get it for its own. */
static void drain_slot(struct mon_rpc *rpc, uint32_t slot)
{
    for (;;) {
        char byte;
        union {
            char space[CMSG_SPACE(sizeof(int) * 4)];
            struct cmsghdr align;
        } control;
        struct iovec part = {.iov_base = &byte, .iov_len = 1};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
        if (recvmsg(rpc->peers[slot], &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) <= 0)
            return;
        close_received(&message);
    }
}

static void free_slot(struct mon_rpc *rpc, uint32_t slot)
{
    drain_slot(rpc, slot);
    rpc->channel->slots[slot].owner_process = 0;
    atomic_store(&rpc->channel->slots[slot].state, BLY_RPC_FREE);
    atomic_fetch_add(&rpc->channel->free_sequence, 1);
    if (atomic_load(&rpc->channel->free_waiters))
        futex_wake(&rpc->channel->free_sequence, 1);
}

void mon_rpc_process_ended(struct mon_rpc *rpc, uint32_t process)
{
    if (process == 0)
        return;
    for (uint32_t i = 0; i < BLY_RPC_SLOT_COUNT; i++) {
        struct bly_rpc_slot *slot = &rpc->channel->slots[i];
        uint32_t state = atomic_load(&slot->state);
        if (state == BLY_RPC_FREE || *(volatile uint32_t *)&slot->owner_process != process)
            continue;
        if (state != BLY_RPC_SUBMITTED) {
            free_slot(rpc, i);
            continue;
        }
        atomic_store(&rpc->orphans[i], process);
        if (atomic_load(&slot->state) == BLY_RPC_DONE && *(volatile uint32_t *)&slot->owner_process == process &&
            atomic_exchange(&rpc->orphans[i], 0) == process)
            free_slot(rpc, i);
    }
}

static int send_descriptor(int socket, int descriptor)
{
    char byte = 0;
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
    return sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* ---- Serving ---- */

static void copy_request(struct mon_request *request, const struct bly_rpc_slot *slot)
{
    /* Each word is read once; the compiler may not read it again later. */
    const volatile struct bly_rpc_slot *hostile = slot;
    request->operation = hostile->operation;
    request->size = hostile->data_size;
    for (size_t i = 0; i < 6; i++)
        request->u[i] = hostile->u[i];
    if (request->size <= BLY_RPC_DATA_SIZE) {
        memcpy(request->data, slot->data, request->size);
        atomic_signal_fence(memory_order_seq_cst);
        request->data[request->size] = '\0';
    }
}

static void deliver(struct mon_rpc *rpc, uint32_t index, uint32_t owner, struct mon_reply *reply)
{
    struct bly_rpc_slot *slot = &rpc->channel->slots[index];
    bool sent = false;
    if (reply->descriptor >= 0 && reply->result >= 0) {
        int error = send_descriptor(rpc->sockets[index], reply->descriptor);
        /* Too many descriptors under way (unix(7): ETOOMANYREFS), or the sandbox does not take them out. */
        if (error < 0)
            reply->result = -EMFILE;
        sent = error == 0;
    }
    if (reply->descriptor >= 0 && reply->close_descriptor)
        close(reply->descriptor);
    if (reply->in_use)
        mon_handle_put(rpc->handles, reply->in_use);
    if (reply->result < 0)
        reply->size = 0;
    slot->result = reply->result;
    memcpy(slot->u, reply->u, sizeof(slot->u));
    slot->has_descriptor = sent;
    slot->data_size = reply->size;
    memcpy(slot->data, reply->data, reply->size);
    atomic_store(&slot->state, BLY_RPC_DONE);
    uint32_t orphan = owner;
    if (owner && atomic_compare_exchange_strong(&rpc->orphans[index], &orphan, 0)) {
        free_slot(rpc, index);
        return;
    }
    futex_wake(&slot->state, 1);
}

static void serve_request(struct mon_worker *worker, uint32_t index)
{
    struct mon_rpc *rpc = worker->rpc;
    struct bly_rpc_slot *slot = &rpc->channel->slots[index];
    atomic_store_explicit(&worker->served, atomic_load_explicit(&worker->served, memory_order_relaxed) + 1, memory_order_relaxed);
    if (rpc->watched)
        atomic_store(&worker->busy_since_ns, mon_now_ns());
    struct mon_reply *reply = &worker->reply;
    uint32_t owner = *(volatile uint32_t *)&slot->owner_process;
    copy_request(&worker->request, slot);
    memset(reply, 0, offsetof(struct mon_reply, data));
    reply->descriptor = -1;
    mon_request_serve(rpc, &worker->request, reply);
    if (reply->no_reply)
        free_slot(rpc, index);
    else
        deliver(rpc, index, owner, reply);
    if (rpc->watched)
        atomic_store(&worker->busy_since_ns, 0);
}

/* Who finds the slot taken leaves it to its worker, which looks again when it is done: the next request may have been submitted, and
 * its bit taken by another, before that. Each slot once, and whatever has come meanwhile later: hostile code can submit without end, and
 * the others, or the loop of a monitor that serves alone, must have their turn. Returns whether the slot is to be looked at again. */
static bool serve_slot(struct mon_worker *worker, uint32_t index)
{
    struct mon_rpc *rpc = worker->rpc;
    struct bly_rpc_slot *slot = &rpc->channel->slots[index];
    if (atomic_load(&slot->state) != BLY_RPC_SUBMITTED || atomic_load(&rpc->stop) || atomic_exchange(&rpc->serving[index], true))
        return false;
    if (atomic_load(&slot->state) == BLY_RPC_SUBMITTED)
        serve_request(worker, index);
    atomic_exchange(&rpc->serving[index], false);
    return atomic_load(&slot->state) == BLY_RPC_SUBMITTED;
}

static void serve_bits(struct mon_worker *worker, struct bly_rpc_doorbell *doorbell, uint32_t bits)
{
    uint32_t again = 0;
    for (uint32_t slots = bits & ALL_SLOTS; slots; slots &= slots - 1)
        if (serve_slot(worker, (uint32_t)__builtin_ctz(slots)))
            again |= slots & -slots;
    if (again)
        atomic_fetch_or(&doorbell->bits, again);
}

/* Runs on the CPUs whose callers ring this doorbell (cpu % worker_count), of those that we may use; where there is none, on all. */
static void stay_with_callers(const struct mon_worker *worker)
{
    cpu_set_t allowed, chosen;
    CPU_ZERO(&chosen);
    if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0)
        return;
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &allowed) && cpu % worker->rpc->worker_count == worker->doorbell)
            CPU_SET(cpu, &chosen);
    if (CPU_COUNT(&chosen) > 0)
        sched_setaffinity(0, sizeof(chosen), &chosen);
}

static void *worker_main(void *argument)
{
    struct mon_worker *worker = argument;
    struct mon_rpc *rpc = worker->rpc;
    struct bly_rpc_doorbell *doorbell = &rpc->channel->doorbells[worker->doorbell];

    if (worker->pinned)
        stay_with_callers(worker);
    /* The guest applies its own umask; ours is a thread's own matter after this. */
    if (unshare(CLONE_FS) == 0)
        umask(0);

    while (!atomic_load(&rpc->stop)) {
        uint32_t bits = atomic_exchange(&doorbell->bits, 0);
        if (bits & ALL_SLOTS) {
            serve_bits(worker, doorbell, bits);
            continue;
        }
        atomic_store(&doorbell->asleep, 1);
        if (!atomic_load(&rpc->stop))
            syscall(SYS_futex, &doorbell->bits, FUTEX_WAIT, 0, NULL, NULL, 0);
        atomic_store(&doorbell->asleep, 0);
    }
    return NULL;
}

static int start_worker(struct mon_rpc *rpc, uint32_t index, uint32_t doorbell, bool pinned)
{
    struct mon_worker *worker = calloc(1, sizeof(*worker));
    pthread_attr_t attributes;
    if (!worker)
        return -ENOMEM;
    worker->rpc = rpc;
    worker->doorbell = doorbell;
    worker->pinned = pinned;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, WORKER_STACK_SIZE);
    int error = pthread_create(&worker->thread, &attributes, worker_main, worker);
    pthread_attr_destroy(&attributes);
    if (error) {
        free(worker);
        return -error;
    }
    worker->started = true;
    rpc->workers[index] = worker;
    return 0;
}

/* ---- Start and end ---- */

int mon_rpc_init(struct mon_rpc *rpc)
{
    cpu_set_t cpus;
    int count = sched_getaffinity(0, sizeof(cpus), &cpus) < 0 ? 1 : CPU_COUNT(&cpus);
    rpc->worker_count = count < 1 ? 1 : count > (int)BLY_RPC_WORKER_MAX ? BLY_RPC_WORKER_MAX : (uint32_t)count;
    for (uint32_t i = 0; i < BLY_RPC_SLOT_COUNT; i++)
        rpc->sockets[i] = rpc->peers[i] = -1;

    rpc->memory = memfd_create("bailey-rpc", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (rpc->memory < 0)
        return -errno;
    if (ftruncate(rpc->memory, sizeof(*rpc->channel)) < 0)
        return -errno;
    if (fcntl(rpc->memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return -errno;
    void *memory = mmap(NULL, sizeof(*rpc->channel), PROT_READ | PROT_WRITE, MAP_SHARED, rpc->memory, 0);
    if (memory == MAP_FAILED)
        return -errno;
    rpc->channel = memory;
    rpc->channel->worker_count = rpc->worker_count;

    for (uint32_t i = 0; i < BLY_RPC_SLOT_COUNT; i++) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
            return -errno;
        rpc->sockets[i] = pair[0];
        rpc->peers[i] = pair[1];
        /* Nothing is ever received from the sandbox here: what it sends fails at once. */
        shutdown(pair[0], SHUT_RD);
        /* A caller takes its descriptor before the slot's next request, so one place would do. Descriptors under way count against our user
         * in all its programs (unix(7): ETOOMANYREFS): hostile code that takes none out must not use that up. */
        setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &(int){0}, sizeof(int));
    }
    return 0;
}

void mon_rpc_begin_eager(struct mon_rpc *rpc)
{
    if (rpc->worker_count < 2)
        return;
    rpc->eager = &rpc->main_thread;
    rpc->eager->rpc = rpc;
    atomic_store(&rpc->channel->eager, BLY_RPC_EAGER_AWAKE);
}

static bool is_anything_submitted(const struct mon_rpc *rpc)
{
    for (uint32_t i = 0; i < rpc->worker_count; i++)
        if (atomic_load(&rpc->channel->doorbells[i].bits) & ALL_SLOTS)
            return true;
    return false;
}

bool mon_rpc_eager_sleeps(struct mon_rpc *rpc)
{
    if (!rpc->eager)
        return true;
    atomic_store(&rpc->channel->eager, BLY_RPC_EAGER_ASLEEP);
    return !is_anything_submitted(rpc);
}

void mon_rpc_eager_wakes(struct mon_rpc *rpc)
{
    if (rpc->eager)
        atomic_store(&rpc->channel->eager, BLY_RPC_EAGER_AWAKE);
}

bool mon_rpc_serve_eagerly(struct mon_rpc *rpc)
{
    bool any = false;
    for (uint32_t i = 0; rpc->eager && i < rpc->worker_count; i++) {
        struct bly_rpc_doorbell *doorbell = &rpc->channel->doorbells[i];
        if (!(atomic_load_explicit(&doorbell->bits, memory_order_relaxed) & ALL_SLOTS))
            continue;
        serve_bits(rpc->eager, doorbell, atomic_exchange(&doorbell->bits, 0));
        any = true;
    }
    return any;
}

static void end_eager(struct mon_rpc *rpc)
{
    if (!rpc->eager)
        return;
    atomic_store(&rpc->channel->eager, BLY_RPC_EAGER_OFF);
    rpc->served_eagerly = atomic_load(&rpc->eager->served);
    rpc->eager = NULL;
}

int mon_rpc_start(struct mon_rpc *rpc)
{
    end_eager(rpc);
    for (uint32_t i = 0; i < rpc->worker_count; i++) {
        int result = start_worker(rpc, i, i, /*pinned=*/true);
        if (result < 0)
            return result;
    }
    return 0;
}

uint64_t mon_rpc_served(const struct mon_rpc *rpc)
{
    uint64_t count = rpc->eager ? atomic_load(&rpc->eager->served) : rpc->served_eagerly;
    for (size_t i = 0; i < sizeof(rpc->workers) / sizeof(rpc->workers[0]); i++)
        if (rpc->workers[i])
            count += atomic_load(&rpc->workers[i]->served);
    return count;
}

void mon_rpc_watch(struct mon_rpc *rpc)
{
    uint64_t now = mon_now_ns();
    for (uint32_t i = 0; i < rpc->worker_count; i++) {
        uint64_t since = atomic_load(&rpc->workers[i]->busy_since_ns);
        bool waiting = atomic_load(&rpc->channel->doorbells[i].bits) & ALL_SLOTS;
        if (since == 0 || now - since < HELD_UP_NS || !waiting || rpc->spare_count == MON_WORKER_SPARE)
            continue;
        if (start_worker(rpc, BLY_RPC_WORKER_MAX + rpc->spare_count, i, /*pinned=*/false) == 0)
            rpc->spare_count++;
    }
}

static void close_sockets(struct mon_rpc *rpc)
{
    for (uint32_t i = 0; i < BLY_RPC_SLOT_COUNT; i++) {
        cleanup_close_descriptor(&rpc->sockets[i]);
        cleanup_close_descriptor(&rpc->peers[i]);
        rpc->sockets[i] = rpc->peers[i] = -1;
    }
}

void mon_rpc_end_eager(struct mon_rpc *rpc)
{
    end_eager(rpc);
    close_sockets(rpc);
}

bool mon_rpc_stop(struct mon_rpc *rpc)
{
    bool left_behind = false;
    atomic_store(&rpc->stop, true);
    for (uint32_t i = 0; rpc->channel && i < rpc->worker_count; i++) {
        atomic_fetch_or(&rpc->channel->doorbells[i].bits, STOP_BIT);
        futex_wake(&rpc->channel->doorbells[i].bits, INT32_MAX);
    }
    for (uint32_t i = 0; i < BLY_RPC_WORKER_MAX + MON_WORKER_SPARE; i++) {
        struct mon_worker *worker = rpc->workers[i];
        if (!worker)
            continue;
        if (atomic_load(&worker->busy_since_ns)) {
            pthread_detach(worker->thread);
            left_behind = true;
            continue;
        }
        pthread_join(worker->thread, NULL);
        free(worker);
        rpc->workers[i] = NULL;
    }
    if (left_behind)
        return false;
    close_sockets(rpc);
    if (rpc->channel)
        munmap(rpc->channel, sizeof(*rpc->channel));
    rpc->channel = NULL;
    if (rpc->memory >= 0)
        close(rpc->memory);
    rpc->memory = -1;
    return true;
}
