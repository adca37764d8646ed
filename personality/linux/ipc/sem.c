/* System V semaphores: semget, semop, semtimedop, semctl, and SEM_UNDO.
 *
 * An operation list is tried as a whole under the set's lock; when it cannot proceed the caller sleeps on the set and tries
 * again after any change. Each sleeper is counted at the semaphore that stopped it (GETNCNT, GETZCNT). */
#include "personality/linux/ipc/ipc.h"
#include <linux/sem.h>

enum { SEMAPHORES_A_SET = 32000, OPERATIONS_A_CALL = 500, SEM_MAXIMUM = 32767 };

struct semaphore { int32_t value, last_pid; uint32_t waiting_up, waiting_zero; };
struct sem_set {
    struct ipc_object ipc;
    struct lock lock; /* guards all below */
    struct wait_queue queue;
    uint32_t count;
    int64_t operation_seconds, change_seconds;
    struct semaphore *semaphores;
};

/* What a process has to take back when it ends: one a set, in lx_process.sysv_undo; touched by its own process only,
 * except that semctl(SETVAL, SETALL) clears entries under the set's lock. */
struct sem_undo { struct sem_undo *next; struct sem_set *set; uint32_t count; int16_t adjust[]; };

static struct ipc_registry *registry(void) { return ipc_registry(IPC_SEMAPHORES); }
static int64_t seconds_now(void) { return (int64_t)(lx_realtime_ns() / 1000000000u); }

static void sem_destroy(struct ipc_object *ipc)
{
    struct sem_set *set = container_of(ipc, struct sem_set, ipc);
    heap_free(set->semaphores);
    heap_free(set);
}
void sem_init(struct ipc_registry *in) { in->destroy = sem_destroy; }

static struct ipc_object *sem_create(const void *request)
{
    int count = *(const int *)request;
    struct sem_set *set = heap_alloc(sizeof *set);
    if (!set)
        return NULL;
    set->semaphores = heap_alloc((size_t)count * sizeof *set->semaphores);
    if (!set->semaphores) {
        heap_free(set);
        return NULL;
    }
    wait_queue_init(&set->queue);
    set->count = (uint32_t)count;
    set->change_seconds = seconds_now();
    return &set->ipc;
}

static int sem_fits(const struct ipc_object *object, const void *request)
{
    int count = *(const int *)request;
    if (!object)
        return count <= 0 || count > SEMAPHORES_A_SET ? -EINVAL : 0;
    return (uint32_t)count > container_of(object, struct sem_set, ipc)->count ? -EINVAL : 0;
}

LX_SYSCALL(semget, int32_t key, int count, int flags)
{
    if (count < 0 || count > SEMAPHORES_A_SET)
        return -EINVAL;
    return ipc_get(registry(), key, flags, sem_create, sem_fits, &count);
}

static struct sem_undo *find_undo(struct lx_process *process, struct sem_set *set)
{
    for (struct sem_undo *undo = process->sysv_undo; undo; undo = undo->next)
        if (undo->set == set)
            return undo;
    return NULL;
}

static struct sem_undo *make_undo(struct sem_set *set)
{
    struct lx_process *process = lx_process();
    struct sem_undo *undo = find_undo(process, set);
    if (undo)
        return undo;
    undo = heap_alloc(sizeof *undo + set->count * sizeof *undo->adjust);
    if (!undo)
        return NULL;
    set->ipc.references++;
    undo->set = set;
    undo->count = set->count;
    undo->next = process->sysv_undo;
    process->sysv_undo = undo;
    return undo;
}

/* Tries the list: 0 done, 1 must wait at *out_blocked, or negative errno. Set's lock held; nothing is changed unless 0. */
static int try_operations(struct sem_set *set, const struct sembuf *operations, size_t count, struct sem_undo *undo, size_t *out_blocked)
{
    size_t i;
    int result = 0;
    for (i = 0; i < count; i++) {
        struct semaphore *one = &set->semaphores[operations[i].sem_num];
        int change = operations[i].sem_op;
        if (change == 0 ? one->value != 0 : one->value + change < 0) {
            *out_blocked = i;
            result = operations[i].sem_flg & IPC_NOWAIT ? -EAGAIN : 1;
            break;
        }
        if (one->value + change > SEM_MAXIMUM) {
            result = -ERANGE;
            break;
        }
        one->value += change;
    }
    if (result) {
        while (i--)
            set->semaphores[operations[i].sem_num].value -= operations[i].sem_op;
        return result;
    }
    for (i = 0; i < count; i++) {
        set->semaphores[operations[i].sem_num].last_pid = lx_process()->pid;
        if (operations[i].sem_flg & SEM_UNDO)
            undo->adjust[operations[i].sem_num] -= operations[i].sem_op;
    }
    set->operation_seconds = seconds_now();
    return 0;
}

static long perform(struct sem_set *set, const struct sembuf *operations, size_t count, uint64_t deadline)
{
    bool alters = false, undoes = false;
    for (size_t i = 0; i < count; i++) {
        if (operations[i].sem_num >= set->count)
            return -EFBIG;
        alters |= operations[i].sem_op != 0;
        undoes |= (operations[i].sem_flg & SEM_UNDO) != 0;
    }
    int result = ipc_permit(&set->ipc, alters ? 0200 : 0400);
    if (result)
        return result;
    struct sem_undo *undo = NULL;
    if (undoes && !(undo = make_undo(set)))
        return -ENOMEM;
    struct waiter *waiter = NULL;
    scoped_lock(&set->lock);
    for (;;) {
        size_t blocked = 0;
        uint32_t ticket = thread_ticket();
        result = set->ipc.removed ? -EIDRM : try_operations(set, operations, count, undo, &blocked);
        if (result <= 0)
            break;
        if (!waiter && (result = wait_begin(&set->queue, &waiter)) < 0)
            break;
        struct semaphore *at = &set->semaphores[operations[blocked].sem_num];
        uint32_t *waiting = operations[blocked].sem_op ? &at->waiting_up : &at->waiting_zero;
        ++*waiting;
        lock_release(&set->lock);
        result = thread_sleep(ticket, deadline);
        lock_acquire(&set->lock);
        --*waiting;
        if (result == -EINTR && !set->ipc.removed) {
            result = -ERESTARTNOHAND; /* signal(7): never restarted after a handler */
            break;
        }
        if (result == -ETIMEDOUT && !set->ipc.removed) {
            result = -EAGAIN;
            break;
        }
    }
    if (waiter)
        wait_end(waiter);
    if (result == 0 && alters)
        wait_queue_wake_all(&set->queue);
    return result;
}

static long semaphore_call(int id, struct sembuf *guest_operations, size_t count, uint64_t deadline)
{
    if (count < 1 || id < 0)
        return -EINVAL;
    if (count > OPERATIONS_A_CALL)
        return -E2BIG;
    struct sembuf few[16], *operations = count <= 16 ? few : heap_alloc(count * sizeof *operations);
    if (!operations)
        return -ENOMEM;
    long result = guest_read(operations, guest_operations, count * sizeof *operations);
    int problem;
    struct ipc_object *ipc = result ? NULL : ipc_find(registry(), id, &problem);
    if (ipc) {
        result = perform(container_of(ipc, struct sem_set, ipc), operations, count, deadline);
        ipc_unref(registry(), ipc);
    } else if (!result) {
        result = problem;
    }
    if (operations != few)
        heap_free(operations);
    return result;
}

LX_SYSCALL(semop, int id, struct sembuf *operations, size_t count)
{
    return semaphore_call(id, operations, count, BLY_FOREVER);
}

LX_SYSCALL(semtimedop, int id, struct sembuf *operations, size_t count, const int64_t *timeout)
{
    uint64_t deadline = BLY_FOREVER;
    if (timeout) {
        int64_t time[2];
        int problem = guest_read(time, timeout, sizeof time);
        if (problem)
            return problem;
        if (time[0] < 0 || time[1] < 0 || time[1] >= 1000000000)
            return -EINVAL;
        if (time[0] < 1000000000)
            deadline = lx_monotonic_ns() + (uint64_t)time[0] * 1000000000u + (uint64_t)time[1];
    }
    return semaphore_call(id, operations, count, deadline);
}

/* SETVAL and SETALL clear every process's adjustments (semctl(2)). */
static void clear_undo(struct sem_set *set, int number)
{
    scoped_lock(&lx_kernel->table.lock);
    list_for_each(node, &lx_kernel->table.processes) {
        struct sem_undo *undo = find_undo(container_of(node, struct lx_process, all), set);
        for (uint32_t i = 0; undo && i < undo->count; i++)
            if (number < 0 || i == (uint32_t)number)
                undo->adjust[i] = 0;
    }
}

static long set_all(struct sem_set *set, const unsigned short *guest_values)
{
    unsigned short *values = heap_alloc(set->count * sizeof *values);
    if (!values)
        return -ENOMEM;
    long result = guest_read(values, guest_values, set->count * sizeof *values);
    for (uint32_t i = 0; !result && i < set->count; i++)
        if (values[i] > SEM_MAXIMUM)
            result = -ERANGE;
    if (!result) {
        clear_undo(set, -1);
        scoped_lock(&set->lock);
        for (uint32_t i = 0; i < set->count; i++) {
            set->semaphores[i].value = values[i];
            set->semaphores[i].last_pid = lx_process()->pid;
        }
        set->change_seconds = seconds_now();
        wait_queue_wake_all(&set->queue);
    }
    heap_free(values);
    return result;
}

static long get_all(struct sem_set *set, unsigned short *guest_values)
{
    unsigned short *values = heap_alloc(set->count * sizeof *values);
    if (!values)
        return -ENOMEM;
    {
        scoped_lock(&set->lock);
        for (uint32_t i = 0; i < set->count; i++)
            values[i] = (unsigned short)set->semaphores[i].value;
    }
    long result = guest_write(guest_values, values, set->count * sizeof *values);
    heap_free(values);
    return result;
}

static long one_value(struct sem_set *set, int number, int command, uint64_t argument)
{
    if (number < 0 || (uint32_t)number >= set->count)
        return -EINVAL;
    int problem = ipc_permit(&set->ipc, command == SETVAL ? 0200 : 0400);
    if (problem)
        return problem;
    if (command == SETVAL) {
        if ((int)argument < 0 || (int)argument > SEM_MAXIMUM)
            return -ERANGE;
        clear_undo(set, number);
    }
    scoped_lock(&set->lock);
    struct semaphore *one = &set->semaphores[number];
    switch (command) {
    case GETVAL: return one->value;
    case GETPID: return one->last_pid;
    case GETNCNT: return one->waiting_up;
    case GETZCNT: return one->waiting_zero;
    }
    one->value = (int)argument;
    one->last_pid = lx_process()->pid;
    set->change_seconds = seconds_now();
    wait_queue_wake_all(&set->queue);
    return 0;
}

static long sem_stat(struct sem_set *set, int command, void *buffer)
{
    int problem = command == SEM_STAT_ANY ? 0 : ipc_permit(&set->ipc, 0400);
    if (problem)
        return problem;
    struct semid64_ds data;
    memset(&data, 0, sizeof data);
    {
        scoped_lock(&set->lock);
        ipc_fill_permissions(&set->ipc, &data.sem_perm);
        data.sem_otime = set->operation_seconds;
        data.sem_ctime = set->change_seconds;
        data.sem_nsems = set->count;
    }
    problem = guest_write(buffer, &data, sizeof data);
    return problem ? problem : command == IPC_STAT ? 0 : set->ipc.id;
}

static long sem_control(struct sem_set *set, int number, int command, uint64_t argument)
{
    int problem;
    switch (command) {
    case GETVAL: case GETPID: case GETNCNT: case GETZCNT: case SETVAL:
        return one_value(set, number, command, argument);
    case GETALL:
        return (problem = ipc_permit(&set->ipc, 0400)) ? problem : get_all(set, (unsigned short *)argument);
    case SETALL:
        return (problem = ipc_permit(&set->ipc, 0200)) ? problem : set_all(set, (const unsigned short *)argument);
    case IPC_STAT: case SEM_STAT: case SEM_STAT_ANY:
        return sem_stat(set, command, (void *)argument);
    case IPC_SET: {
        struct semid64_ds data;
        if ((problem = guest_read(&data, (void *)argument, sizeof data)) || (problem = ipc_permit_change(&set->ipc)))
            return problem;
        scoped_lock(&set->lock);
        ipc_set_permissions(&set->ipc, &data.sem_perm);
        set->change_seconds = seconds_now();
        return 0;
    }
    case IPC_RMID:
        if ((problem = ipc_permit_change(&set->ipc)))
            return problem;
        ipc_remove(registry(), &set->ipc, false);
        wait_queue_wake_all(&set->queue);
        return 0;
    }
    return -EINVAL;
}

LX_SYSCALL(semctl, int id, int number, int command, uint64_t argument)
{
    if (id < 0)
        return -EINVAL;
    int problem;
    if (command == IPC_INFO || command == SEM_INFO) {
        struct seminfo info = { .semmap = 1024000000, .semmni = IPC_SLOT_COUNT, .semmns = 1024000000, .semmnu = 1024000000, .semmsl = SEMAPHORES_A_SET,
                                .semopm = OPERATIONS_A_CALL, .semume = OPERATIONS_A_CALL, .semusz = 20, .semvmx = SEM_MAXIMUM, .semaem = SEM_MAXIMUM };
        if (command == SEM_INFO) {
            info.semusz = (int)registry()->used;
            info.semaem = 0;
            scoped_lock(&registry()->lock);
            for (uint32_t i = 0; i < registry()->slot_count; i++)
                if (registry()->slots[i])
                    info.semaem += (int)container_of(registry()->slots[i], struct sem_set, ipc)->count;
        }
        problem = guest_write((void *)argument, &info, sizeof info);
        return problem ? problem : ipc_highest_slot(registry());
    }
    struct ipc_object *ipc = command == SEM_STAT || command == SEM_STAT_ANY ? ipc_find_slot(registry(), id, &problem) : ipc_find(registry(), id, &problem);
    if (!ipc)
        return problem;
    long result = sem_control(container_of(ipc, struct sem_set, ipc), number, command, argument);
    ipc_unref(registry(), ipc);
    return result;
}

void lx_ipc_process_exit(struct lx_process *process)
{
    struct sem_undo *undo = process->sysv_undo;
    process->sysv_undo = NULL;
    while (undo) {
        struct sem_undo *next = undo->next;
        struct sem_set *set = undo->set;
        {
            scoped_lock(&set->lock);
            for (uint32_t i = 0; i < undo->count && !set->ipc.removed; i++) {
                int value = set->semaphores[i].value + undo->adjust[i];
                set->semaphores[i].value = value < 0 ? 0 : value > SEM_MAXIMUM ? SEM_MAXIMUM : value;
                if (undo->adjust[i])
                    set->semaphores[i].last_pid = process->pid;
            }
        }
        wait_queue_wake_all(&set->queue);
        ipc_unref(registry(), &set->ipc);
        heap_free(undo);
        undo = next;
    }
}
