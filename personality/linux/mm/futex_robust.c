/* Robust futexes: what a thread still holds when it ends is marked FUTEX_OWNER_DIED and a waiter is
 * woken (Documentation/locking/robust-futexes.rst). The list is the program's own memory: bad
 * pointers end the walk. */
#include "personality/linux/mm/futex.h"

enum { ROBUST_LIST_MAX = 2048 };

LX_SYSCALL(set_robust_list, struct robust_list_head *head, uint64_t size)
{
    if (size != sizeof *head)
        return -EINVAL;
    lx_current()->robust_list = (uint64_t)head;
    lx_current()->robust_list_size = size;
    return 0;
}

LX_SYSCALL(get_robust_list, int tid, uint64_t *out_head, uint64_t *out_size)
{
    uint64_t head, size = sizeof(struct robust_list_head);

    if (tid < 0)
        return -ESRCH;
    {
        scoped_lock(&lx_kernel->table.lock);
        struct lx_thread *thread = tid ? thread_find(tid) : lx_current();
        if (!thread)
            return -ESRCH;
        const struct credentials *own = &lx_process()->credentials,
                                 *other = &thread->process->credentials;
        if (thread->process != lx_process() && own->euid &&
            (own->uid != other->uid || own->uid != other->euid))
            return -EPERM;
        head = thread->robust_list;
    }
    if (guest_write(out_size, &size, sizeof size) < 0 ||
        guest_write(out_head, &head, sizeof head) < 0)
        return -EFAULT;
    return 0;
}

/* handle_futex_death() of Linux's futex code. False ends the walk. */
static bool owner_died(struct lx_thread *thread, uint64_t address, bool pi, bool pending)
{
    uint32_t value;

    if (address % sizeof(uint32_t) || guest_load32(&value, (uint32_t *)address) < 0)
        return false;
    /* It may have unlocked the futex, and been killed before it woke the next: then the wake is
     * done for it. */
    if (pending && !pi && !value) {
        futex_wake_address(address, 1);
        return true;
    }
    while ((value & FUTEX_TID_MASK) == (uint32_t)thread->tid) {
        uint32_t seen = value;
        if (guest_compare_exchange32((uint32_t *)address, &seen,
                                     (value & FUTEX_WAITERS) | FUTEX_OWNER_DIED) < 0)
            return false;
        if (seen == value) {
            if (!pi && (value & FUTEX_WAITERS))
                futex_wake_address(address, 1);
            break;
        }
        value = seen;
    }
    return true;
}

static void walk_robust_list(struct lx_thread *thread)
{
    struct robust_list_head head;
    uint64_t list_address = thread->robust_list, entry, next;

    if (guest_read(&head, (void *)list_address, sizeof head) < 0)
        return;
    /* The lowest bit of each pointer tells PI futexes. */
    uint64_t pending = (uint64_t)head.list_op_pending;
    entry = (uint64_t)head.list.next;
    for (int count = 0; (entry & ~1ull) != list_address && count < ROBUST_LIST_MAX; count++) {
        int error = guest_read(&next, (void *)(entry & ~1ull), sizeof next);
        if (entry != pending &&
            !owner_died(thread, (entry & ~1ull) + (uint64_t)head.futex_offset, entry & 1, false))
            return;
        if (error)
            return;
        entry = next;
    }
    if (pending & ~1ull)
        owner_died(thread, (pending & ~1ull) + (uint64_t)head.futex_offset, pending & 1, true);
}

void lx_futex_thread_exit(struct lx_thread *thread)
{
    if (thread->process->mm) {
        /* PI waiters first: they are handed what the list would only mark. */
        futex_pi_thread_exit(thread);
        if (thread->robust_list)
            walk_robust_list(thread);
    }
    thread->robust_list = 0;
    struct futex_waiter *waiter;
    {
        /* Others look at it, to find circles of owners. */
        scoped_lock(&lx_kernel->table.lock);
        waiter = thread->futex_waiter;
        thread->futex_waiter = NULL;
    }
    heap_free(waiter);
}

void lx_futex_thread_abandoned(struct lx_thread *thread)
{
    struct futex_waiter *waiter = thread->futex_waiter;

    if (!waiter)
        return;
    if (waiter->home)
        futex_leave(waiter);
    for (uint32_t i = 0; i < waiter->vector_count; i++)
        if (waiter->vector[i].home)
            futex_leave(&waiter->vector[i]);
    heap_free(waiter->vector);
    thread->futex_waiter = NULL;
    heap_free(waiter);
}
