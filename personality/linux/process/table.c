/* The process table: making, finding and forgetting the records of processes and threads.
 *
 * All records live in the kernel heap. A process is referenced once by the table, from process_link until it is
 * reaped, and by whoever called process_get. Thread objects are recycled, never freed: a wake that comes too late finds another thread,
 * and a spurious wake is always allowed.
 * Locks: process_table.lock, then a process's signals.lock. */
#include "personality/linux/process/lifecycle.h"

#include <linux/resource.h>

enum { FIRST_RECYCLED_PID = 300, PID_MAX = 32768 };

static struct list *thread_bucket(int32_t tid) { return &process_table()->thread_hash[(uint32_t)tid % 256]; }
static struct list *process_bucket(int32_t pid) { return &process_table()->process_hash[(uint32_t)pid % 256]; }

struct lx_process *process_find(int pid)
{
    assert(lock_held(&process_table()->lock));
    list_for_each(node, process_bucket(pid)) {
        struct lx_process *process = container_of(node, struct lx_process, hash_node);
        if (process->pid == pid)
            return process;
    }
    return NULL;
}

struct lx_thread *thread_find(int tid)
{
    assert(lock_held(&process_table()->lock));
    list_for_each(node, thread_bucket(tid)) {
        struct lx_thread *thread = container_of(node, struct lx_thread, all);
        if (thread->tid == tid)
            return thread;
    }
    return NULL;
}

struct lx_process *process_get(int pid)
{
    scoped_lock(&process_table()->lock);
    struct lx_process *process = process_find(pid);
    if (process)
        process->references++;
    return process;
}

static bool id_names_group(int32_t id)
{
    list_for_each(node, &process_table()->processes) {
        struct lx_process *process = container_of(node, struct lx_process, all);
        if (process->group_id == id || process->session_id == id)
            return true;
    }
    return false;
}

int32_t process_new_id(void)
{
    struct process_table *table = process_table();
    assert(lock_held(&table->lock));
    for (int32_t tries = 0; tries < table->pid_max; tries++) {
        int32_t id = table->last_pid + 1;
        if (id >= table->pid_max)
            id = FIRST_RECYCLED_PID;
        table->last_pid = id;
        if (!thread_find(id) && !process_find(id) && !id_names_group(id))
            return id;
    }
    return -EAGAIN;
}

struct lx_process *process_allocate(void)
{
    struct lx_process *process = heap_alloc(sizeof *process);
    if (!process)
        return NULL;
    list_init(&process->all);
    list_init(&process->hash_node);
    list_init(&process->children);
    list_init(&process->sibling);
    list_init(&process->threads);
    list_init(&process->timers);
    wait_queue_init(&process->child_queue);
    wait_queue_init(&process->end_queue);
    mutex_init(&process->exec_mutex);
    mutex_init(&process->timer_mutex);
    signal_state_init(&process->signals);
    process->references = 1;
    process->token = NO_TOKEN;
    process->dumpable = 1;
    return process;
}

struct lx_thread *thread_allocate(void)
{
    struct process_table *table = process_table();
    struct lx_thread *thread = NULL;
    if (!list_empty(&table->free_threads)) {
        scoped_lock(&table->lock);
        struct list *node = list_first(&table->free_threads);
        if (node) {
            list_remove(node);
            thread = container_of(node, struct lx_thread, all);
        }
    }
    if (thread) {
        /* The wake word only ever rises, whoever the object belongs to; waiters are kept for the next owner. */
        uint32_t wake_word = thread->base.wake_word;
        struct waiter *spare_waiters = thread->base.spare_waiters;
        memset(thread, 0, sizeof *thread);
        thread->base.wake_word = wake_word;
        thread->base.spare_waiters = spare_waiters;
    } else if (!(thread = heap_alloc(sizeof *thread))) {
        return NULL;
    }
    list_init(&thread->all);
    list_init(&thread->process_node);
    list_init(&thread->signals.pending.queue);
    thread->base.state = THREAD_IN_KERNEL;
    thread->syscall_number = ~0u;
    return thread;
}

void thread_free(struct lx_thread *thread)
{
    assert(lock_held(&process_table()->lock));
    thread->base.process_id = thread->base.thread_id = 0;
    thread->process = NULL;
    list_push_front(&process_table()->free_threads, &thread->all);
}

void thread_link(struct lx_thread *thread, struct lx_process *process, int32_t tid)
{
    struct process_table *table = process_table();
    assert(lock_held(&table->lock));
    thread->process = process;
    thread->tid = tid;
    list_push(&process->threads, &thread->process_node);
    list_push(thread_bucket(tid), &thread->all);
    process->thread_count++;
    table->thread_count++;
}

void thread_unlink(struct lx_thread *thread)
{
    assert(lock_held(&process_table()->lock) && lock_held(&thread->process->signals.lock));
    if (list_empty(&thread->process_node))
        return; /* a service thread of init: in no list */
    list_remove(&thread->process_node);
    list_remove(&thread->all);
    thread->process->thread_count--;
    process_table()->thread_count--;
}

void process_link(struct lx_process *process, struct lx_process *parent, int32_t pid)
{
    struct process_table *table = process_table();
    assert(lock_held(&table->lock));
    process->pid = pid;
    process->parent = parent;
    process->parent_pid = parent ? parent->pid : 0;
    if (parent)
        list_push(&parent->children, &process->sibling);
    list_push(&table->processes, &process->all);
    list_push(process_bucket(pid), &process->hash_node);
    table->process_count++;
}

void process_unlink(struct lx_process *process)
{
    struct process_table *table = process_table();
    assert(lock_held(&table->lock));
    list_remove(&process->sibling);
    list_remove(&process->all);
    list_remove(&process->hash_node);
    process->state = PROCESS_DEAD;
    table->process_count--;
}

void process_unref(struct lx_process *process)
{
    if (--process->references)
        return;
    heap_free(process->itimers);
    heap_free(process->command_line);
    heap_free(process);
}

void thread_become(struct lx_thread *thread)
{
    struct bly_thread_block *block = thread_block();
    thread->base.thread_id = block->thread_id;
    thread->base.process_id = block->process_id;
    thread->base.may_park = 1;
    if (thread->base.state == THREAD_REPLACED)
        thread->base.state = THREAD_IN_KERNEL;
    block->personality_thread = thread;
}

/* Linux's defaults (include/asm-generic/resource.h), with a stack of 8 MiB and the counts the sandbox gives. */
static void set_default_limits(struct lx_process *process)
{
    for (int i = 0; i < 16; i++)
        process->limits[i].soft = process->limits[i].hard = ~0ull;
    process->limits[RLIMIT_STACK].soft = 8ull << 20;
    process->limits[RLIMIT_CORE].soft = 0;
    uint64_t files = start_info && start_info->open_file_limit ? start_info->open_file_limit : 1048576;
    process->limits[RLIMIT_NOFILE].soft = files < 1024 ? files : 1024;
    process->limits[RLIMIT_NOFILE].hard = files;
    uint64_t count = start_info && start_info->process_limit ? start_info->process_limit : PID_MAX - 2;
    process->limits[RLIMIT_NPROC].soft = process->limits[RLIMIT_NPROC].hard = count;
    process->limits[RLIMIT_MEMLOCK].soft = process->limits[RLIMIT_MEMLOCK].hard = 8ull << 20;
    process->limits[RLIMIT_SIGPENDING].soft = process->limits[RLIMIT_SIGPENDING].hard = 31000;
    process->limits[RLIMIT_MSGQUEUE].soft = process->limits[RLIMIT_MSGQUEUE].hard = 819200;
    process->limits[RLIMIT_NICE].soft = process->limits[RLIMIT_NICE].hard = 0;
    process->limits[RLIMIT_RTPRIO].soft = process->limits[RLIMIT_RTPRIO].hard = 0;
}

/* Makes init (pid 1) out of the caller: the leader thread of the first picoprocess. Nothing of the heap's locks was taken by this thread
 * object before, so it may be exchanged here. */
int lx_process_init(void)
{
    struct process_table *table = process_table();
    list_init(&table->processes);
    list_init(&table->free_threads);
    for (int i = 0; i < 256; i++) {
        list_init(&table->thread_hash[i]);
        list_init(&table->process_hash[i]);
    }
    table->pid_max = PID_MAX;
    table->last_pid = 1;

    struct lx_process *init = process_allocate();
    struct lx_thread *thread = thread_allocate();
    if (!init || !thread)
        return -ENOMEM;
    thread_become(thread);
    lock_acquire(&table->lock);
    process_link(init, NULL, 1);
    thread_link(thread, init, 1);
    lock_release(&table->lock);
    table->init = init;
    init->group_id = init->session_id = 1;
    init->host_process = thread_block()->process_id;
    init->start_ns = thread->start_ns = lx_monotonic_ns();
    init->credentials.cap_effective = init->credentials.cap_permitted = init->credentials.cap_bounding = (1ull << 41) - 1;
    memcpy(init->name, "init", 5);
    memcpy(thread->name, "init", 5);
    set_default_limits(init);
    return 0;
}
