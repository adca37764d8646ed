/* Going on with a suspended sandbox.
 *
 * The first picoprocess finds heap and bulk segment as they were. It clones itself for each picoprocess that there was; each of these maps the memory
 * that its process's records tell of, and makes a thread on the area of each thread that was parked in it, which goes on from its copy
 * (libos/park.h) and waits. When all are ready the ids of the host are exchanged, and everybody is let go. */
#include "libos/abi.h"
#include "libos/absent.h"
#include "libos/heap.h"
#include "libos/park.h"
#include "personality/linux/fs/hostfs.h"
#include "personality/linux/init.h"
#include "personality/linux/mm/mm.h"
#include "personality/linux/process/cpuid.h"
#include "personality/linux/process/lifecycle.h"
#include "personality/linux/process/suspend.h"
#include "personality/linux/process/timers.h"
#include "personality/linux/tty/tty.h"

enum { WHAT_SIZE = 256 };

/* Shared by the picoprocesses while they are made. */
struct resume {
    _Atomic uint32_t ready; /* picoprocesses that have all they need */
    _Atomic uint32_t failed;
    int32_t error;
    char what[WHAT_SIZE];
    uint32_t count;
    struct { uint32_t old_id, new_id; } picoprocesses[];
};

static void resume_failed(struct resume *state, int error, const char *what)
{
    if (!__atomic_exchange_n(&state->failed, 1, __ATOMIC_SEQ_CST)) {
        state->error = error;
        format(state->what, sizeof state->what, "%s", what);
    }
    state->ready++;
    bly->wake_address((uint32_t *)&state->ready, 1);
}

static _Noreturn void give_up(int error, const char *what)
{
    init_report(BLY_CONTROL_RESUMED, 0, error, what, strlen(what));
    bly->process_exit(125);
    __builtin_unreachable();
}

/* ---- A picoprocess ----------------------------------------------------------------------------------------------- */

static struct lx_process *find_process(uint32_t old_id)
{
    list_for_each(node, &process_table()->processes) {
        struct lx_process *process = container_of(node, struct lx_process, all);
        if (process->host_process == old_id && !process->is_played)
            return process;
    }
    return NULL;
}

/* A host thread for every parked thread of the picoprocess. The one on the caller's own area is returned: the caller is to be it. */
static int make_threads(struct lx_process *process, struct lx_thread **own)
{
    list_for_each(node, &process->threads) {
        struct lx_thread *thread = container_of(node, struct lx_thread, process_node);
        uint32_t host_thread;
        if (!thread->base.parked) /* replaced by a vfork child's */
            continue;
        if (thread->base.parked->block == thread_block())
            *own = thread;
        else {
            int error = bly->thread_create((uint64_t)thread | INIT_RESUMED, thread->base.parked->block, &host_thread);
            if (error < 0)
                return error;
        }
    }
    return 0;
}

static _Noreturn void resume_process(struct resume *state, uint32_t old_id)
{
    struct lx_process *process = find_process(old_id);
    struct lx_thread *own = NULL;
    const char *what = "a thread";
    lx_local.threads_leaving = 0; /* those were the parent's */
    lx_become_boot_thread(process);
    int error = process->has_no_memory ? 0 : mm_resume(process->mm, old_id, &what);
    list_for_each(node, &process_table()->processes) {
        struct lx_process *other = container_of(node, struct lx_process, all);
        if (!error && other->host_process == old_id)
            error = make_threads(other, &own);
    }
    if (error < 0) {
        resume_failed(state, error, what);
        bly->process_exit(125);
    }
    state->ready++;
    bly->wake_address((uint32_t *)&state->ready, 1);
    if (own)
        park_resume(&own->base);
    bly->thread_exit(); /* the leader stays */
    __builtin_unreachable();
}

/* ---- The first one ------------------------------------------------------------------------------------------------ */

static struct resume *list_picoprocesses(void)
{
    uint32_t count = 0;
    list_for_each(node, &process_table()->processes)
        count++;
    struct resume *state = heap_alloc(sizeof *state + count * sizeof state->picoprocesses[0]);
    if (!state)
        give_up(-ENOMEM, "no memory");
    list_for_each(node, &process_table()->processes) {
        const struct lx_process *process = container_of(node, struct lx_process, all);
        if (process->pid != 1 && process->host_process && !process->is_played)
            state->picoprocesses[state->count++].old_id = process->host_process;
    }
    return state;
}

/* Signal frames keep the layout that programs and threads at rest have saved already. */
static void check_vector_registers(void)
{
    enum { XSAVEC = 2 };
    struct vector_layout *layout = &lx_kernel->vector_layout;
    uint64_t present = signal_vector_present(), needed = layout->features & start_info->vector_features;
    if (needed & ~present)
        give_up(-EOPNOTSUPP, "this processor lacks vector registers that programs may be using");
    for (uint32_t i = 2; i < 63; i++) {
        if (!(needed >> i & 1))
            continue;
        struct bly_cpuid old = lx_cpuid(0xd, i), new = cpuid_here(0xd, i);
        if (old.eax != new.eax || old.ebx != new.ebx)
            give_up(-EOPNOTSUPP, "this processor saves its vector registers in another layout");
    }
    /* Loaders save registers on the stack when they bind a function, in as much room as the first processor said. XSAVEC writes what
     * is in use; XSAVE would now write more. Those that are shown a lesser processor are told to leave room. */
    if (present & ~layout->features && !(start_info->flags & BLY_START_CPUID_LIMITED) && !(lx_cpuid(0xd, 1).eax & XSAVEC))
        give_up(-EOPNOTSUPP, "this processor has more vector registers than programs have room for");
    layout->features &= present;
    park_set_vector_layout(layout->features, layout->size);
}

/* What the host gives anew. */
static void refresh(void)
{
    struct bly_system_info system;
    check_vector_registers();
    if (bly->system_query(&system) == 0)
        libos_shared()->cpu_count = system.cpu_count;
    libos_shared()->limit = start_info->memory_limit;
    lx_kernel->trace_flags = start_info->flags & (BLY_START_TRACE_SYSCALLS | BLY_START_TRACE_ABI);
    memset((void *)libos_shared()->spinning, 0, sizeof libos_shared()->spinning);
    if (start_info->flags & BLY_START_HOST_NAME)
        lx_set_host_name();
    hostfs_forget_watches();
}

static void exchange_ids(const struct resume *state)
{
    list_for_each(node, &process_table()->processes) {
        struct lx_process *process = container_of(node, struct lx_process, all);
        uint32_t old_id = process->host_process;
        process->cpu_base_ns = process->cpu_suspended_ns;
        list_for_each(link, &process->threads) {
            struct lx_thread *thread = container_of(link, struct lx_thread, process_node);
            thread->cpu_base_ns = thread->cpu_suspended_ns;
        }
        for (uint32_t i = 0; i < state->count && old_id; i++)
            if (state->picoprocesses[i].old_id == old_id)
                process->host_process = state->picoprocesses[i].new_id;
    }
    process_table()->init->host_process = thread_block()->process_id;
}

static void resume_services(void)
{
    list_for_each(node, &lx_kernel->services) {
        struct lx_thread *thread = init_service_thread(node);
        uint32_t host_thread;
        if (!thread->base.parked)
            continue;
        int error = bly->thread_create((uint64_t)thread | INIT_RESUMED, thread->base.parked->block, &host_thread);
        if (error < 0)
            give_up(error, "a thread of init");
    }
    int error = init_resume_services();
    if (error < 0)
        give_up(error, "init's control thread");
}

void sandbox_resume(void)
{
    if (absent_begin() < 0)
        give_up(-ENOMEM, "no memory");
    lx_kernel = heap_root();
    struct lx_process *init = process_table()->init;
    struct lx_thread *leader = container_of(init->threads.next, struct lx_thread, process_node);
    lx_become_boot_thread(init);
    /* Who asks for rest anew while this thread is not the leader yet waits for it. */
    leader->base.state = THREAD_IN_KERNEL;
    leader->base.process_id = thread_block()->process_id;
    leader->base.thread_id = thread_block()->thread_id;
    refresh();
    struct resume *state = list_picoprocesses();
    for (uint32_t i = 0; i < state->count; i++) {
        uint32_t old_id = state->picoprocesses[i].old_id, new_id;
        int result = bly->process_clone(0, &new_id);
        if (result == 0)
            resume_process(state, old_id);
        if (result < 0)
            give_up(result, "a process");
        state->picoprocesses[i].new_id = new_id;
    }
    for (uint32_t ready; (ready = state->ready) < state->count;) {
        struct bly_process_end end;
        (void)bly->wait_address((uint32_t *)&state->ready, ready, lx_monotonic_ns() + 100000000);
        if (bly->process_wait(&end, 0) == 0 && !state->failed)
            give_up(-EIO, "a process that was to go on has been killed");
    }
    if (state->failed)
        give_up(state->error, state->what);
    exchange_ids(state);
    timer_follow_clocks();
    heap_free(state);
    resume_services();
    init_report(BLY_CONTROL_RESUMED, 0, 0, NULL, 0);
    tty_resume_window(start_info->terminal_rows, start_info->terminal_columns);
    lx_kernel->resumed = 1;
    leader->base.work_pending |= THREAD_WORK;
    park_end();
    park_resume(&leader->base);
}
