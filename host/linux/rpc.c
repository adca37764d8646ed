/* Calls to the monitor: claim a slot of the shared channel, fill it, ring the worker of our own
 * CPU, sleep until it is done.
 *
 * A call once submitted is always waited for: interrupts only leave their mark in
 * interrupt_pending. See rpc.h. */

#include "host.h"
#include <linux/futex.h>

struct host_control {
    size_t size;
    int32_t level, type;
    int32_t descriptor, padding;
};
#define CLAIM_AGAIN_NS 50000000u
#define SPIN_CYCLES 100000u /* some 40 us: what sleeping and being woken would cost */
#define HOST_SOL_SOCKET 1
#define HOST_SCM_RIGHTS 1

static void futex_wait(_Atomic uint32_t *address, uint32_t expected)
{
    sys6(__NR_futex, address, FUTEX_WAIT_BITSET, expected, 0, 0, FUTEX_BITSET_MATCH_ANY);
}
static void futex_wake(_Atomic uint32_t *address, uint32_t count)
{
    sys3(__NR_futex, address, FUTEX_WAKE, count);
}

static uint32_t slot_claim(uint32_t owner)
{
    struct bly_rpc_channel *channel = host_channel;
    for (;;) {
        uint32_t sequence = channel->free_sequence;
        for (uint32_t i = 0; i < BLY_RPC_SLOT_COUNT; i++) {
            uint32_t index = (owner + i) % BLY_RPC_SLOT_COUNT, expected = BLY_RPC_FREE;
            struct bly_rpc_slot *slot = &channel->slots[index];
            if (slot->state == BLY_RPC_FREE &&
                __atomic_compare_exchange_n((uint32_t *)&slot->state, &expected, BLY_RPC_FILLING,
                                            false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
                slot->owner = owner;
                slot->owner_process = host_process_id();
                return index;
            }
        }
        channel->free_waiters++;
        /* A slot freed since the sequence was read has raised it. A wake may be lost with a thread
         * that was ended by force when it had just been chosen: hence the deadline. */
        struct __kernel_timespec buffer;
        sys6(__NR_futex, &channel->free_sequence, FUTEX_WAIT_BITSET, sequence,
             host_deadline(&buffer, host_now_ns() + CLAIM_AGAIN_NS), 0, FUTEX_BITSET_MATCH_ANY);
        channel->free_waiters--;
    }
}

static void slot_free(struct bly_rpc_slot *slot)
{
    struct bly_rpc_channel *channel = host_channel;
    slot->owner_process = 0;
    slot->state = BLY_RPC_FREE;
    channel->free_sequence++;
    if (channel->free_waiters)
        futex_wake(&channel->free_sequence, 1);
}

static void slot_submit(uint32_t index)
{
    struct bly_rpc_channel *channel = host_channel;
    uint32_t workers = channel->worker_count;
    uint32_t worker = workers ? host_thread_current_cpu() % workers : 0;
    struct bly_rpc_doorbell *bell = &channel->doorbells[worker % BLY_RPC_WORKER_MAX];
    channel->slots[index].state = BLY_RPC_SUBMITTED;
    bell->bits |= 1u << index;
    if (bell->asleep)
        futex_wake(&bell->bits, 1);
    /* The monitor itself says when it is awake: one of us may be killed before it has written. */
    if (channel->eager == BLY_RPC_EAGER_ASLEEP)
        host_log(BLY_LOG_DEBUG, "", 0);
}

/* While the monitor looks without sleeping, its answer comes sooner than sleep would. */
static void slot_spin(const struct bly_rpc_slot *slot)
{
    uint64_t start = __builtin_ia32_rdtsc();
    while (host_channel->eager != BLY_RPC_EAGER_OFF && slot->state != BLY_RPC_DONE &&
           __builtin_ia32_rdtsc() - start < SPIN_CYCLES)
        __builtin_ia32_pause();
}

static int descriptor_receive(uint32_t index)
{
    unsigned char byte;
    struct bly_iovec vector = {&byte, 1};
    struct host_control control = {.descriptor = -1};
    struct host_message message = {
        .vector = &vector, .vector_count = 1, .control = &control, .control_size = sizeof control};
    long result = sys3(__NR_recvmsg, BLY_FD_SLOT_SOCKETS + index, &message,
                       HOST_MSG_DONTWAIT | HOST_MSG_CMSG_CLOEXEC);
    if (result < 0)
        return (int)result;
    if (control.level != HOST_SOL_SOCKET || control.type != HOST_SCM_RIGHTS ||
        control.descriptor < 0)
        return -EMFILE; /* our table of descriptors is full: the kernel dropped it (unix(7),
                           MSG_CTRUNC) */
    return control.descriptor;
}

static int request_fill(struct bly_rpc_slot *slot, const struct host_rpc *rpc)
{
    size_t size = 0;
    for (uint32_t i = 0; i < rpc->part_count; i++) {
        if (rpc->parts[i].size > BLY_RPC_DATA_SIZE - size)
            return -E2BIG;
        host_copy(slot->data + size, rpc->parts[i].data, rpc->parts[i].size);
        size += rpc->parts[i].size;
    }
    slot->operation = rpc->operation;
    slot->data_size = (uint32_t)size;
    for (int i = 0; i < 6; i++)
        slot->u[i] = rpc->u[i];
    slot->result = -EIO;
    slot->has_descriptor = 0;
    return 0;
}

int64_t host_rpc_call(struct host_rpc *rpc)
{
    uint32_t index = slot_claim(host_block()->thread_id);
    struct bly_rpc_slot *slot = &host_channel->slots[index];
    rpc->descriptor = -1;
    int error = request_fill(slot, rpc);
    if (error) {
        slot_free(slot);
        return error;
    }
    slot_submit(index);
    slot_spin(slot);
    uint32_t state;
    while ((state = slot->state) != BLY_RPC_DONE)
        futex_wait(&slot->state, state);
    int64_t result = slot->result;
    for (int i = 0; i < 6; i++)
        rpc->u[i] = slot->u[i];
    size_t size = slot->data_size;
    if (size > BLY_RPC_DATA_SIZE)
        size = BLY_RPC_DATA_SIZE;
    if (size > rpc->reply_size)
        size = rpc->reply_size;
    if (rpc->reply)
        host_copy(rpc->reply, slot->data, size);
    rpc->reply_size = size;
    if (slot->has_descriptor) {
        rpc->descriptor = descriptor_receive(index);
        if (rpc->descriptor < 0 && result >= 0)
            result = rpc->descriptor;
    }
    slot_free(slot);
    return result;
}

/* The monitor frees the slot of a close that nobody waits for (u[1] is 1). */
void host_rpc_post_close(bly_handle handle)
{
    uint32_t index = slot_claim(host_block()->thread_id);
    struct host_rpc rpc = {.operation = BLY_RPC_CLOSE, .u = {handle, 1}};
    (void)request_fill(&host_channel->slots[index], &rpc); /* cannot fail: it has no data */
    slot_submit(index);
}
