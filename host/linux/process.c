/* Picoprocesses: copy-on-write clones, their end, and waiting for it.
 *
 * The first picoprocess of a sandbox is the parent of all others (they are cloned with
 * CLONE_PARENT), so it alone reaps, and without a pid namespace their parent-death signal makes
 * them end with it. The caller of process_clone holds every lock of the host layer across the
 * clone: the child finds what they guard consistent, and them free. */

#include "host.h"
#include <asm/signal.h>
#include <linux/futex.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/wait.h>

/* These two words of flags, and no others, pass the filter. */
#define CLONE_FLAGS_FIRST (CLONE_CHILD_SETTID | SIGCHLD)
#define CLONE_FLAGS_OTHERS (CLONE_PARENT | CLONE_CHILD_SETTID | SIGCHLD)

/* The areas of threads that did not come along. */
static void drop_other_areas(uint32_t own)
{
    struct host_area *areas = host_tables->areas;
    uint32_t first = 0;
    for (uint32_t i = 0; i <= host.area_high; i++) {
        bool drop = i < host.area_high && i != own && areas[i].state != HOST_AREA_UNMAPPED;
        if (drop) {
            areas[i].state = HOST_AREA_UNMAPPED;
            areas[i].tid = 0;
            continue;
        }
        if (i > first)
            sys2(__NR_munmap, host_area_base(i - 1), (i - first) * BLY_THREAD_AREA_SIZE);
        first = i + 1;
    }
    if (host.area_high != own + 1)
        host.area_high = own + 1;
}

static void become_child(struct bly_thread_block *block)
{
    struct host_thread *thread = host_thread_of(block);
    uint32_t id = block->thread_id; /* by CLONE_CHILD_SETTID */
    if (host.is_first)
        host.is_first = false;
    block->process_id = id;
    block->interrupt_pending = 0;
    thread->parks = 1;
    drop_other_areas(thread->area);
    host_handles_after_clone();
    /* Written only where it must be: the page that it lies on is then copied. */
    if (host.track_number) {
        sys1(__NR_close, host.track_number - 1);
        host.track_number = 0;
    }
    if (!host.in_pid_namespace)
        sys2(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL);
}

int host_process_clone(unsigned flags, uint32_t *out_process_id)
{
    if (flags)
        return -EINVAL;
    struct bly_thread_block *block = host_block();
    /* prctl(2), PR_SET_PDEATHSIG: the "parent" is the very thread that made the child. */
    if (host.is_first && !host.in_pid_namespace)
        host_thread_of(block)->parks = 1;
    /* An interrupt may come at any time: what it does here is to leave a word. The child has the
     * segment base and the signal stack of its parent, and nobody knows it yet. */
    host_lock(&host_locks->handle);
    host_lock(&host_locks->area);
    long result = sys6(__NR_clone, host.is_first ? CLONE_FLAGS_FIRST : CLONE_FLAGS_OTHERS, 0, 0,
                       &block->thread_id, 0, 0);
    if (result == 0) {
        become_child(block);
    } else {
        host_unlock(&host_locks->area);
        host_unlock(&host_locks->handle);
    }
    if (result < 0)
        return (int)result;
    if (out_process_id)
        *out_process_id = result ? (uint32_t)result : block->process_id;
    return result ? 1 : 0;
}

void host_process_exit(int status)
{
    for (;;)
        sys1(__NR_exit_group, status);
}

#define SERVED_WITHIN_NS 100000000u
#define LOOK_AGAIN_NS 50000u

/* What the dead process had submitted is served all the same, and a close then frees its slot by
 * itself. Only what stays is the monitor's to free; a request that takes long is left to it at
 * once. */
static void slot_await_served(uint32_t index, uint32_t process_id)
{
    struct bly_rpc_slot *slot = &host_channel->slots[index];
    uint64_t give_up_ns = 0;
    while (slot->state == BLY_RPC_SUBMITTED && slot->owner_process == process_id) {
        uint64_t now = host_now_ns();
        if (!give_up_ns)
            give_up_ns = now + SERVED_WITHIN_NS;
        if (now > give_up_ns)
            return;
        /* Not on the slot's state: the one wake-up that is given there belongs to whoever claims
         * the slot next. */
        uint32_t never = 0;
        struct __kernel_timespec buffer;
        sys6(__NR_futex, &never, FUTEX_WAIT_BITSET, 0, host_deadline(&buffer, now + LOOK_AGAIN_NS),
             0, FUTEX_BITSET_MATCH_ANY);
    }
}

/* Whether the slot belongs to the dead process. One that was claimed, but whose owner never came to
 * write its name, is freed here once it has been seen so for a second: the two instructions between
 * are not interrupted for that long. */
static bool slot_abandoned(uint32_t index, uint32_t process_id)
{
    struct bly_rpc_slot *slot = &host_channel->slots[index];
    slot_await_served(index, process_id);
    uint32_t state = slot->state, owner = slot->owner_process;
    if (state != BLY_RPC_FILLING || owner != 0) {
        host.nameless_since_ns[index] = 0;
        return state != BLY_RPC_FREE && owner == process_id;
    }
    uint64_t now = host_now_ns();
    if (!host.nameless_since_ns[index]) {
        host.nameless_since_ns[index] = now;
    } else if (now - host.nameless_since_ns[index] > 1000000000u) {
        host.nameless_since_ns[index] = 0;
        __atomic_compare_exchange_n((uint32_t *)&slot->state, &state, BLY_RPC_FREE, false,
                                    __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    }
    return false;
}

/* What a picoprocess that died by force may have held of what is shared. */
static void release_shared(uint32_t process_id)
{
    for (uint32_t i = 0; i < BLY_RPC_POSITION_LOCKS; i++) {
        _Atomic uint32_t *word = &host_channel->position_locks[i];
        if ((*word & 0x7fffffff) != process_id)
            continue;
        *word = 0;
        sys3(__NR_futex, word, FUTEX_WAKE, 0x7fffffff);
    }
    bool owned = false;
    for (uint32_t i = 0; i < BLY_RPC_SLOT_COUNT; i++)
        owned |= slot_abandoned(i, process_id);
    if (owned) {
        struct host_rpc rpc = {.operation = BLY_RPC_PROCESS_ENDED, .u = {process_id}};
        host_rpc_call(&rpc); /* for all its slots */
    }
}

int host_process_wait(struct bly_process_end *out_end, uint64_t deadline_ns)
{
    int status = 0;
    long result;
    if (deadline_ns == BLY_FOREVER) {
        result = sys_wait6(__NR_wait4, -1, &status, 0, 0, 0, 0);
    } else {
        /* wait4 knows no deadline. Few wait with one: looking every few milliseconds is enough. */
        uint32_t never = 0;
        while ((result = sys4(__NR_wait4, -1, &status, WNOHANG, 0)) == 0) {
            uint64_t now = host_now_ns();
            if (deadline_ns <= now)
                return -ETIMEDOUT;
            uint64_t next = now + 2000000 < deadline_ns ? now + 2000000 : deadline_ns;
            if (host_wait_address(&never, 0, next) == -EINTR)
                return -EINTR;
        }
    }
    if (result < 0)
        return (int)result;
    int signal = status & 0x7f;
    *out_end = (struct bly_process_end){.process_id = (uint32_t)result,
                                        .exit_status = signal ? 0 : status >> 8 & 0xff,
                                        .signal = signal};
    release_shared((uint32_t)result);
    return 0;
}
