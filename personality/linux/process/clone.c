/* clone(2) and its family: threads, fork, and vfork played by the calling thread.
 *
 * - A thread (CLONE_VM|CLONE_THREAD) is a host thread that starts with a copy of the caller's registers.
 * - fork is the host's copy-on-write clone of the picoprocess; the records are copied in the kernel heap, under the mm's mutex so that
 *   regions and memory agree.
 * - vfork (CLONE_VM|CLONE_VFORK) makes no host process at all: the calling host thread goes on as the child, whose record shares the
 *   parent's mm, until the child execs (then the picoprocess is cloned without guest memory and the copy is the child) or
 *   ends. The parent's thread object stays linked in the parent meanwhile, so that signals sent to it wait for its return.
 * - CLONE_VM without either needs two processes in one address space at once; nobody uses it, and it is refused. */
#include "libos/shared.h"
#include "personality/linux/file.h"
#include "personality/linux/mm/mm.h"
#include "personality/linux/process/lifecycle.h"
#include "personality/linux/process/patch.h"
#include "personality/linux/process/pidfd.h"

#include <linux/wait.h>

#define NAMESPACE_FLAGS (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

/* ---- Checks --------------------------------------------------------------------------------------------------- */

static int check_request(const struct clone_request *request)
{
    uint64_t flags = request->flags;
    /* copy_process() in kernel/fork.c, in its order. */
    if ((flags & (CLONE_NEWNS | CLONE_FS)) == (CLONE_NEWNS | CLONE_FS) ||
        (flags & (CLONE_NEWUSER | CLONE_FS)) == (CLONE_NEWUSER | CLONE_FS))
        return -EINVAL;
    if ((flags & CLONE_THREAD) && !(flags & CLONE_SIGHAND))
        return -EINVAL;
    if ((flags & CLONE_SIGHAND) && !(flags & CLONE_VM))
        return -EINVAL;
    if ((flags & CLONE_SIGHAND) && (flags & CLONE_CLEAR_SIGHAND))
        return -EINVAL;
    if ((flags & CLONE_PARENT) && lx_process()->pid == 1)
        return -EINVAL;
    if ((flags & CLONE_THREAD) && (flags & (CLONE_NEWUSER | CLONE_NEWPID)))
        return -EINVAL;
    if ((flags & CLONE_PIDFD) && (flags & (CLONE_DETACHED | CLONE_THREAD)))
        return -EINVAL;
    if (flags & NAMESPACE_FLAGS)
        return -EPERM; /* a sandbox has one namespace of each kind */
    if (flags & CLONE_INTO_CGROUP)
        return -EINVAL;
    if ((flags & CLONE_VM) && !(flags & (CLONE_VFORK | CLONE_THREAD))) {
        log_line(BLY_LOG_WARNING, "clone: a process that shares memory and runs beside its parent is not supported (flags 0x%llx)",
                 (unsigned long long)flags);
        return -EINVAL;
    }
    if ((flags & CLONE_THREAD) && (flags & CLONE_VFORK))
        return -EINVAL;
    if ((flags & CLONE_THREAD) && lx_current()->vfork_parent)
        return -EINVAL; /* the host thread that plays a vfork child must stay the only one */
    if ((flags & CLONE_SETTLS) && request->tls >= BLY_GUEST_MAX)
        return -EPERM; /* as arch_prctl(2) with ARCH_SET_FS, before anything is made */
    return 0;
}

static int check_limits(void)
{
    struct process_table *table = process_table();
    /* Init is Bailey's own: the limit is that of programs. */
    if (start_info->process_limit && table->thread_count - 1 >= start_info->process_limit)
        return -EAGAIN;
    struct lx_process *process = lx_process();
    if (process->credentials.uid == 0)
        return 0;
    uint64_t limit = process->limits[6 /* RLIMIT_NPROC */].soft;
    if (limit >= table->thread_count)
        return 0;
    uint64_t own = 0;
    list_for_each(node, &table->processes) {
        struct lx_process *other = container_of(node, struct lx_process, all);
        if (other->credentials.uid == process->credentials.uid)
            own += other->thread_count;
    }
    return own >= limit ? -EAGAIN : 0;
}

/* ---- Copies of what is not shared ------------------------------------------------------------------------------ */

static void copy_signals(struct lx_process *child, struct lx_process *parent, uint64_t flags)
{
    scoped_lock(&parent->signals.lock);
    memcpy(child->signals.actions, parent->signals.actions, sizeof child->signals.actions);
    memcpy(child->limits, parent->limits, sizeof child->limits);
    if (!(flags & CLONE_CLEAR_SIGHAND))
        return;
    for (int i = 0; i < LX_SIGNAL_COUNT; i++) {
        if (child->signals.actions[i].handler != (uint64_t)SIG_IGN)
            memset(&child->signals.actions[i], 0, sizeof child->signals.actions[i]);
    }
}

static struct lx_thread *copy_thread(struct lx_thread *parent, const struct clone_request *request)
{
    struct lx_thread *thread = thread_allocate();
    if (!thread)
        return NULL;
    memcpy(thread->name, parent->name, sizeof thread->name);
    thread->signals.blocked = parent->signals.has_saved ? parent->signals.saved_blocked : parent->signals.blocked;
    /* sigaltstack(2): a thread of the same memory starts without one; a fork or vfork child inherits it. */
    if (!(request->flags & CLONE_VM) || (request->flags & CLONE_VFORK)) {
        thread->signals.altstack_address = parent->signals.altstack_address;
        thread->signals.altstack_size = parent->signals.altstack_size;
        thread->signals.altstack_flags = parent->signals.altstack_flags;
    }
    if (request->flags & CLONE_CHILD_CLEARTID)
        thread->clear_child_tid = request->child_tid;
    /* PR_SET_TIMERSLACK(2const): what the creator has now is both. */
    thread->timer_slack_ns = thread->timer_slack_default_ns = parent->timer_slack_ns;
    thread->start_ns = lx_monotonic_ns();
    return thread;
}

/* A process that is not linked anywhere yet, with files, directory context and attributes of the caller, without mm. */
static struct lx_process *copy_process(const struct clone_request *request)
{
    struct lx_process *parent = lx_process(), *child = process_allocate();
    if (!child)
        return NULL;
    child->exit_signal = request->exit_signal;
    child->start_ns = lx_monotonic_ns();
    child->personality_flags = parent->personality_flags;
    child->nice = parent->nice;
    child->oom_score_adj = parent->oom_score_adj;
    child->io_priority = parent->io_priority;
    child->scheduler_policy = parent->scheduler_policy;
    child->scheduler_priority = parent->scheduler_priority;
    child->dumpable = parent->dumpable;
    child->is_vfork_child = !!(request->flags & CLONE_VFORK);
    memcpy(child->name, lx_current()->name, sizeof child->name);
    if (parent->command_line && (child->command_line = heap_string(parent->command_line, parent->command_line_size)))
        child->command_line_size = parent->command_line_size;
    copy_signals(child, parent, request->flags);

    if (parent->files) {
        child->files = parent->files;
        if (request->flags & CLONE_FILES)
            child->files->references++;
        else if (!(child->files = fd_table_copy(parent->files)))
            goto fail;
    }
    if (parent->fs) {
        child->fs = parent->fs;
        if (request->flags & CLONE_FS)
            child->fs->references++;
        else if (!(child->fs = filesystem_context_copy(parent->fs)))
            goto fail;
    }
    return child;
fail:
    process_release_resources(child);
    process_unref(child);
    return NULL;
}

/* Links child and its thread; from here on others see them. What other processes may change is copied only now, under the lock. */
static int link_child(struct lx_process *child, struct lx_thread *thread, const struct clone_request *request)
{
    struct lx_process *caller = lx_process(), *parent = caller;
    scoped_lock(&process_table()->lock);
    int error = check_limits();
    if (error)
        return error;
    int32_t pid = process_new_id();
    if (pid < 0)
        return pid;
    if (request->flags & CLONE_PARENT) {
        parent = caller->parent;
        child->exit_signal = caller->exit_signal;
    }
    child->credentials = caller->credentials;
    child->group_id = caller->group_id;
    child->session_id = caller->session_id;
    child->tty = caller->tty;
    scoped_lock(&child->signals.lock);
    process_link(child, parent, pid);
    thread_link(thread, child, pid);
    return 0;
}

/* Undoes link_child and copy_process when the host refused. */
static void abandon_child(struct lx_process *child, struct lx_thread *thread)
{
    lock_acquire(&process_table()->lock);
    if (thread->process) {
        lock_acquire(&child->signals.lock);
        thread_unlink(thread);
        lock_release(&child->signals.lock);
        process_unlink(child);
    }
    thread_free(thread);
    lock_release(&process_table()->lock);
    process_release_resources(child);
    process_unref(child);
}

/* ---- Threads --------------------------------------------------------------------------------------------------- */

static long clone_thread(const struct clone_request *request)
{
    struct lx_thread *caller = lx_current();
    struct lx_process *process = caller->process;
    struct lx_thread *thread = copy_thread(caller, request);
    struct bly_context *registers = heap_alloc(sizeof *registers);
    if (!thread || !registers)
        goto no_memory;
    *registers = *caller->registers;
    registers->rax = 0;
    registers->vector_state = NULL; /* a new thread has its creator's control words from the host */
    if (request->stack)
        registers->rsp = request->stack;
    if (request->flags & CLONE_SETTLS)
        thread->fs_base = request->tls;
    else
        bly->segment_base_get(BLY_SEGMENT_FS, &thread->fs_base);
    thread->start_context = registers;

    lock_acquire(&process_table()->lock);
    lock_acquire(&process->signals.lock);
    int32_t tid = check_limits();
    if (tid == 0)
        tid = process->group_exit || process->exec_thread ? -EAGAIN : process_new_id();
    if (tid > 0)
        thread_link(thread, process, tid);
    lock_release(&process->signals.lock);
    lock_release(&process_table()->lock);
    if (tid < 0) {
        lock_acquire(&process_table()->lock);
        thread_free(thread);
        lock_release(&process_table()->lock);
        heap_free(registers);
        return tid;
    }

    /* The tid words are written before the thread runs: it may look at its own at once. */
    int ignored = 0;
    if (request->flags & CLONE_PARENT_SETTID)
        ignored |= guest_store32((uint32_t *)request->parent_tid, (uint32_t)tid);
    if (request->flags & CLONE_CHILD_SETTID)
        ignored |= guest_store32((uint32_t *)request->child_tid, (uint32_t)tid);
    (void)ignored; /* clone(2) does not report a bad address either */

    uint32_t host_thread;
    int error = bly->thread_create((uint64_t)thread, NULL, &host_thread);
    if (error < 0) {
        lock_acquire(&process_table()->lock);
        lock_acquire(&process->signals.lock);
        thread_unlink(thread);
        lock_release(&process->signals.lock);
        thread_free(thread);
        lock_release(&process_table()->lock);
        heap_free(registers);
        return error == -ENOMEM ? -ENOMEM : -EAGAIN;
    }
    return tid;

no_memory:
    if (thread) {
        scoped_lock(&process_table()->lock);
        thread_free(thread);
    }
    heap_free(registers);
    return -ENOMEM;
}

void process_thread_started(uint64_t argument)
{
    struct lx_thread *thread = (struct lx_thread *)argument;
    thread_become(thread);
    struct bly_context context = *thread->start_context;
    heap_free(thread->start_context);
    thread->start_context = NULL;
    bly->segment_base_set(BLY_SEGMENT_FS, thread->fs_base);
    lx_leave_kernel(&context);
}

/* ---- fork ------------------------------------------------------------------------------------------------------ */

/* The kernel heap is shared memory, of which a forked child has no page in its page tables. What it touches on its way to an end or an exec, as most
 * do, is known before the clone. Reading a page maps the stretch of sixteen that it lies in (1.9 us), writing to it only the one (0.65 us): the one is
 * cheaper from three pages of a stretch on. */
#define STRETCH_SIZE (16 * BLY_PAGE_SIZE)
struct touched { uint32_t count; const void *objects[14]; };

static void will_touch(struct touched *touched, const void *object)
{
    if (object)
        touched->objects[touched->count++] = object;
}

static void collect_touched(struct touched *touched, struct lx_process *child, struct lx_thread *thread)
{
    touched->count = 0;
    will_touch(touched, libos_shared());
    will_touch(touched, lx_kernel); /* of three pages: the hash tables, and what stands behind them */
    will_touch(touched, (const char *)(lx_kernel + 1) - 1);
    will_touch(touched, child);
    will_touch(touched, thread);
    will_touch(touched, child->parent);
    if (child->mm) {
        will_touch(touched, child->mm);
        will_touch(touched, child->mm->share);
        will_touch(touched, child->mm->executable);
        will_touch(touched, child->mm->executable_dentry);
    }
    will_touch(touched, child->files);
    if (child->fs) {
        will_touch(touched, child->fs);
        will_touch(touched, child->fs->root);
        will_touch(touched, child->fs->directory);
    }
}

static uint32_t others_in_stretch(const struct touched *touched, uint64_t address)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < touched->count; i++) {
        uint64_t other = (uint64_t)touched->objects[i];
        count += other / STRETCH_SIZE == address / STRETCH_SIZE && other / BLY_PAGE_SIZE != address / BLY_PAGE_SIZE;
    }
    return count;
}

static void fault_in_touched(const struct touched *touched)
{
    for (uint32_t i = 0; i < touched->count; i++) {
        const char *object = touched->objects[i];
        if (others_in_stretch(touched, (uint64_t)object) > 1)
            (void)*(const volatile char *)object;
        else
            __asm__ volatile("lock orb $0, %0" : "+m"(*(char *)object));
    }
}

/* First steps of a forked child, in its own picoprocess. */
static long begin_child(struct lx_process *child, struct lx_thread *thread, uint32_t host_process, struct bly_context *registers,
                        const struct clone_request *request)
{
    thread_become(thread);
    if (lx_local.threads_leaving) /* those were the parent's */
        lx_local.threads_leaving = 0;
    child->host_process = host_process;
    thread->registers = registers;
    if (registers && request->stack)
        registers->rsp = request->stack;
    if (request->flags & CLONE_SETTLS)
        bly->segment_base_set(BLY_SEGMENT_FS, request->tls);
    if ((request->flags & CLONE_CHILD_SETTID) && guest_store32((uint32_t *)request->child_tid, (uint32_t)thread->tid) < 0)
        return 0;
    return 0;
}

/* A vfork parent whose child is a process of its own waits until that execs or ends; only a fatal signal ends the wait early. */
static void wait_for_vfork_child(struct lx_process *child)
{
    struct lx_process *self = lx_process();
    struct waiter *waiter = NULL;
    if (wait_begin(&child->end_queue, &waiter) < 0)
        return;
    struct lx_thread *thread = lx_current();
    for (;;) {
        uint32_t ticket = thread_ticket();
        thread->base.work_pending = 0;
        if (!__atomic_load_n(&child->is_vfork_child, __ATOMIC_ACQUIRE) || self->group_exit)
            break;
        thread_sleep(ticket, BLY_FOREVER);
    }
    thread->base.work_pending = 1; /* what came meanwhile is looked at on the way out */
    wait_end(waiter);
}

/* The parent's part after a clone. Normally the child has written this by now; but should it be killed before it ran, init must know
 * whom it was. */
static void settle_host_process(struct lx_process *child, uint32_t host_process)
{
    scoped_lock(&process_table()->lock);
    if (child->state == PROCESS_RUNNING && !child->host_process)
        child->host_process = host_process;
}

static long clone_process(struct lx_process *child, struct lx_thread *thread, const struct clone_request *request)
{
    struct lx_process *parent = lx_process();
    struct bly_context *registers = lx_current()->registers;
    struct mm *mm = parent->mm;
    int error = 0;
    if (mm) {
        mutex_acquire(&mm->mutex);
        patch_catch_up(mm);
        if (!(child->mm = mm_copy(mm)))
            error = -ENOMEM;
    }
    if (!error)
        error = link_child(child, thread, request);
    if (error) {
        if (mm)
            mutex_release(&mm->mutex);
        abandon_child(child, thread);
        return error;
    }
    int32_t pid = thread->tid;
    child->references++; /* the child may end and be reaped before the host call returns here */

    uint32_t host_process = 0;
    struct touched touched;
    collect_touched(&touched, child, thread);
    int result = bly->process_clone(0, &host_process);
    if (result == 0) {
        fault_in_touched(&touched);
        return begin_child(child, thread, host_process, registers, request);
    }
    if (mm)
        mutex_release(&mm->mutex);
    if (result < 0) {
        process_unref(child);
        abandon_child(child, thread);
        return result == -ENOMEM ? -ENOMEM : -EAGAIN;
    }
    settle_host_process(child, host_process);
    if (request->flags & CLONE_VFORK)
        wait_for_vfork_child(child);
    process_unref(child);
    return pid;
}

/* ---- vfork played by the caller -------------------------------------------------------------------------------- */

static long play_child(struct lx_process *child, struct lx_thread *thread, const struct clone_request *request)
{
    struct lx_thread *caller = lx_current();
    struct lx_process *parent = caller->process;
    struct vfork_saved *saved = heap_alloc(sizeof *saved);
    int error = saved ? 0 : -ENOMEM;
    if (!error) {
        child->mm = parent->mm;
        child->mm->references++;
        error = link_child(child, thread, request);
    }
    if (error) {
        heap_free(saved);
        abandon_child(child, thread);
        return error;
    }
    saved->thread = caller;
    saved->registers = *caller->registers;
    bly->segment_base_get(BLY_SEGMENT_FS, &saved->fs_base);
    saved->registers.rax = (uint64_t)thread->tid;
    thread->vfork_parent = parent;
    thread->vfork_saved = saved;
    child->host_process = parent->host_process;
    child->is_played = 1;
    int ignored = 0; /* clone(2) does not report bad addresses for tids */
    if (request->flags & CLONE_PARENT_SETTID)
        ignored |= guest_store32((uint32_t *)request->parent_tid, (uint32_t)thread->tid);
    if (request->flags & CLONE_CHILD_SETTID)
        ignored |= guest_store32((uint32_t *)request->child_tid, (uint32_t)thread->tid);
    (void)ignored;

    caller->base.state = THREAD_REPLACED; /* until it is back */
    thread_become(thread);
    thread->registers = caller->registers;
    if (request->stack)
        thread->registers->rsp = request->stack;
    if (request->flags & CLONE_SETTLS)
        bly->segment_base_set(BLY_SEGMENT_FS, request->tls);
    return 0;
}

/* All guest memory of this picoprocess, in the two pieces left and right of the window. Holes are fine. */
static void advise_guest_space(unsigned advice)
{
    bly->memory_advise((void *)BLY_GUEST_MIN, BLY_WINDOW_START - BLY_GUEST_MIN, advice);
    bly->memory_advise((void *)BLY_WINDOW_END, BLY_GUEST_MAX - BLY_WINDOW_END, advice);
}

/* The host thread that played a vfork child is the parent's thread again. Returns the registers that vfork was called with. */
static struct bly_context become_parent(struct vfork_saved *saved)
{
    struct bly_context registers = saved->registers;
    thread_become(saved->thread);
    saved->thread->base.state = THREAD_IN_KERNEL;
    bly->segment_base_set(BLY_SEGMENT_FS, saved->fs_base);
    heap_free(saved);
    return registers;
}

long process_leave_vfork(void)
{
    struct lx_thread *thread = lx_current();
    struct lx_process *child = thread->process;
    struct vfork_saved *saved = thread->vfork_saved;
    if (!saved)
        return 0;
    struct bly_context *registers = thread->registers;
    long pid = child->pid;
    struct mm *mm = child->mm;
    uint32_t host_process = 0;

    /* The clone is made as the parent: from then on the child's thread object is the copy's alone. The child leaves this picoprocess
     * before that: should the parent end before the copy has run, init must not take the child for one of the ended. */
    thread->base.state = THREAD_REPLACED; /* it may park as the parent here; after this both are waited for */
    saved->thread->base.state = THREAD_IN_KERNEL;
    thread_become(saved->thread);
    mutex_acquire(&mm->mutex);
    thread->base.state = THREAD_IN_KERNEL;
    advise_guest_space(BLY_ADVICE_DO_NOT_CLONE);
    lock_acquire(&process_table()->lock);
    child->references++; /* as in clone_process */
    child->host_process = 0;
    child->is_played = 0;
    child->has_no_memory = 1;
    thread->vfork_parent = NULL;
    thread->vfork_saved = NULL;
    lock_release(&process_table()->lock);
    int result = bly->process_clone(0, &host_process);
    if (result == 0) {
        /* The copy. `saved` belongs to the parent, which may have freed it already. */
        thread_become(thread);
        child->host_process = host_process;
        if (lx_local.threads_leaving)
            lx_local.threads_leaving = 0;
        return 0;
    }
    advise_guest_space(BLY_ADVICE_CLONE);
    mm_show_all_to_clones(mm, /*all=*/false);
    mutex_release(&mm->mutex);
    if (result < 0) {
        lock_acquire(&process_table()->lock);
        child->references--;
        child->host_process = thread_block()->process_id;
        child->is_played = 1;
        child->has_no_memory = 0;
        thread->vfork_parent = saved->thread->process;
        thread->vfork_saved = saved;
        lock_release(&process_table()->lock);
        saved->thread->base.state = THREAD_REPLACED;
        thread_become(thread);
        return result == -ENOMEM ? -ENOMEM : -EAGAIN;
    }
    settle_host_process(child, host_process);
    process_unref(child);
    *registers = become_parent(saved);
    lx_current()->registers = registers;
    lx_current()->restore_full = 1;
    return pid;
}

_Noreturn void process_resume_vfork_parent(struct vfork_saved *saved)
{
    struct bly_context registers = become_parent(saved);
    lx_leave_kernel(&registers);
}

/* ---- The calls ------------------------------------------------------------------------------------------------- */

long process_clone_current(const struct clone_request *request)
{
    int error = check_request(request);
    if (error)
        return error;
    if (request->flags & CLONE_THREAD)
        return clone_thread(request);
    /* A signal to the whole group must reach the parent before the fork or both after it, never only one (kernel/fork.c). */
    if (signal_pending())
        return -ERESTARTNOINTR;

    struct lx_process *child = copy_process(request);
    if (!child)
        return -ENOMEM;
    struct lx_thread *thread = copy_thread(lx_current(), request);
    if (!thread) {
        process_release_resources(child);
        process_unref(child);
        return -ENOMEM;
    }
    int pidfd = -1;
    if (request->flags & CLONE_PIDFD) {
        pidfd = pidfd_create(child, 0);
        if (pidfd < 0 || guest_store32((uint32_t *)request->pidfd, (uint32_t)pidfd) < 0) {
            if (pidfd >= 0)
                fd_close(pidfd);
            abandon_child(child, thread);
            return pidfd < 0 ? pidfd : -EFAULT;
        }
    }
    struct lx_process *caller = lx_process();
    long result = request->flags & CLONE_VM ? play_child(child, thread, request) : clone_process(child, thread, request);
    if (result < 0 && pidfd >= 0)
        fd_close(pidfd);
    if (result > 0 && (request->flags & CLONE_PARENT_SETTID) && caller == lx_process() &&
        guest_store32((uint32_t *)request->parent_tid, (uint32_t)result) < 0)
        return result; /* clone(2) does not report a bad address */
    return result;
}

LX_SYSCALL(fork, void)
{
    struct clone_request request = { .exit_signal = SIGCHLD };
    return process_clone_current(&request);
}

LX_SYSCALL(vfork, void)
{
    struct clone_request request = { .flags = CLONE_VM | CLONE_VFORK, .exit_signal = SIGCHLD };
    return process_clone_current(&request);
}

LX_SYSCALL(clone, unsigned long flags, uint64_t stack, uint64_t parent_tid, uint64_t child_tid, uint64_t tls)
{
    struct clone_request request = {
        .flags = (uint32_t)flags & ~(uint32_t)CSIGNAL,
        .exit_signal = flags & CSIGNAL,
        .stack = stack, .tls = tls, .parent_tid = parent_tid, .child_tid = child_tid,
    };
    if (request.flags & CLONE_PIDFD) {
        if (request.flags & CLONE_PARENT_SETTID)
            return -EINVAL; /* both are told through parent_tid */
        request.pidfd = parent_tid;
    }
    if (request.flags & CLONE_THREAD)
        request.exit_signal = 0;
    return process_clone_current(&request);
}

LX_SYSCALL(clone3, const void *guest_arguments, size_t size)
{
    struct clone_args arguments = { 0 };
    if (size < CLONE_ARGS_SIZE_VER0)
        return -EINVAL;
    if (size > BLY_PAGE_SIZE)
        return -E2BIG;
    size_t known = size < sizeof arguments ? size : sizeof arguments;
    if (guest_read(&arguments, guest_arguments, known) < 0)
        return -EFAULT;
    for (size_t i = known; i < size; i++) {
        char byte;
        if (guest_read(&byte, (const char *)guest_arguments + i, 1) < 0)
            return -EFAULT;
        if (byte)
            return -E2BIG;
    }
    if ((arguments.flags & ~(0xffffffffull | CLONE_CLEAR_SIGHAND | CLONE_INTO_CGROUP)) || (arguments.flags & (CLONE_DETACHED | (CSIGNAL & ~CLONE_NEWTIME))))
        return -EINVAL;
    if (arguments.exit_signal > LX_SIGNAL_COUNT || ((arguments.flags & (CLONE_THREAD | CLONE_PARENT)) && arguments.exit_signal))
        return -EINVAL;
    if (!arguments.stack != !arguments.stack_size)
        return -EINVAL;
    if (arguments.stack && !guest_range_valid((void *)arguments.stack, arguments.stack_size))
        return -EINVAL;
    if (arguments.set_tid_size > 32 || !arguments.set_tid != !arguments.set_tid_size)
        return -EINVAL;
    if (arguments.set_tid_size)
        return -EPERM; /* choosing pids is CRIU's wish; saving a sandbox is Bailey's own work */
    if (arguments.flags & CLONE_NEWTIME)
        return -EPERM;
    struct clone_request request = {
        .flags = arguments.flags, .exit_signal = (uint32_t)arguments.exit_signal,
        .stack = arguments.stack ? arguments.stack + arguments.stack_size : 0,
        .tls = arguments.tls, .parent_tid = arguments.parent_tid, .child_tid = arguments.child_tid, .pidfd = arguments.pidfd,
    };
    return process_clone_current(&request);
}
