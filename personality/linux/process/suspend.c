/* Bringing a sandbox to rest: the control thread asks every thread to park, and asks again until each has.
 *
 * A thread is found in its process or among init's services. One that is out of its list but not gone yet counts in lx_kernel->leaving;
 * one that is being made is in its list before it runs. */
#include "personality/linux/process/suspend.h"

#include "libos/abi.h"
#include "libos/park.h"
#include "personality/linux/fs/hostfs.h"
#include "personality/linux/fs/layer.h"
#include "personality/linux/init.h"
#include "personality/linux/mm/mm.h"
#include "personality/linux/process/cpu_clock.h"
#include "personality/linux/process/lifecycle.h"
#include "personality/linux/process/timers.h"

/* Kicks and looks become rarer: where the processors are busy they are what keeps hundreds of threads from parking. */
#define ASK_NS 2500000000ull /* for a clone of each, within the time that the monitor waits beyond the rest */
#define NAP_NS 50000u
#define NAP_MAX_NS 1000000u
#define KICK_AGAIN_NS 1000000u /* what was overlooked: see libos/park.c */
#define KICK_AGAIN_MAX_NS 64000000u

struct count { uint32_t awake; const struct lx_thread *example; };

static void ask(struct lx_thread *thread, bool kick, struct count *count)
{
    uint32_t state = thread->base.state;
    if (state == THREAD_PARKED || state == THREAD_REPLACED || thread == lx_current())
        return;
    count->awake++;
    count->example = thread;
    if (kick)
        park_kick(&thread->base);
}

/* `thread` may be exchanged by another between two looks; its name may then be that one's. */
static struct count ask_all(bool kick)
{
    struct count count = {0};
    scoped_lock(&process_table()->lock);
    list_for_each(node, &process_table()->processes) {
        struct lx_process *process = container_of(node, struct lx_process, all);
        list_for_each(thread, &process->threads)
            ask(container_of(thread, struct lx_thread, process_node), kick, &count);
    }
    list_for_each(node, &lx_kernel->services)
        ask(init_service_thread(node), kick, &count);
    count.awake += lx_kernel->leaving;
    return count;
}

static int all_come_to_rest(uint64_t patience_ns, char *what, size_t what_size)
{
    uint64_t now = lx_monotonic_ns(), begin = now, deadline = now + patience_ns, kick_ns = 0, again_ns = KICK_AGAIN_NS;
    for (;;) {
        bool kick = now >= kick_ns;
        if (kick) {
            kick_ns = now + again_ns;
            again_ns = again_ns < KICK_AGAIN_MAX_NS ? 2 * again_ns : again_ns;
        }
        struct count count = ask_all(kick);
        if (!count.awake)
            return 0;
        if (park_failed()) {
            format(what, what_size, "there is no memory for the registers of its threads");
            return -ENOMEM;
        }
        if (now > deadline) {
            format(what, what_size, "%u threads do not come to rest, one is in %s", count.awake, count.example ? count.example->name : "its end");
            return -ETIMEDOUT;
        }
        uint32_t never = 0;
        thread_block()->interrupt_pending = 0;
        uint64_t nap_ns = (now - begin) / 16;
        nap_ns = nap_ns < NAP_NS ? NAP_NS : nap_ns > NAP_MAX_NS ? NAP_MAX_NS : nap_ns;
        (void)bly->wait_address(&never, 0, now + nap_ns);
        now = lx_monotonic_ns();
    }
}

static void note_cpu_times(void)
{
    scoped_lock(&process_table()->lock);
    list_for_each(node, &process_table()->processes) {
        struct lx_process *process = container_of(node, struct lx_process, all);
        process->cpu_suspended_ns = process_cpu_ns(process);
        list_for_each(link, &process->threads) {
            struct lx_thread *thread = container_of(link, struct lx_thread, process_node);
            thread->cpu_suspended_ns = thread_cpu_ns(thread);
        }
    }
}

static int list_picoprocesses(uint32_t *ids, size_t room)
{
    size_t count = 0;
    scoped_lock(&process_table()->lock);
    list_for_each(node, &process_table()->processes) {
        const struct lx_process *process = container_of(node, struct lx_process, all);
        if (process->pid == 1 || !process->host_process || process->is_played)
            continue;
        if (count == room)
            return -E2BIG;
        ids[count++] = process->host_process;
    }
    return (int)count;
}

/* A parked thread of the picoprocess. */
static struct lx_thread *thread_in(uint32_t host_process)
{
    list_for_each(node, &process_table()->processes) {
        struct lx_process *process = container_of(node, struct lx_process, all);
        list_for_each(link, &process->threads) {
            struct lx_thread *thread = container_of(link, struct lx_thread, process_node);
            if (process->host_process == host_process && thread->base.state == THREAD_PARKED)
                return thread;
        }
    }
    return NULL;
}

/* What the program would not have in its children is in the clone, which is read in its place. */
static void prepare_clone(struct thread *base, bool before)
{
    const struct lx_thread *thread = container_of(base, struct lx_thread, base);
    if (thread->process->mm)
        mm_show_all_to_clones(thread->process->mm, before);
}

/* An answer of 0: there is none. */
static void ask_picoprocesses(enum park_task task, const uint32_t *ids, uint32_t *answers, int count)
{
    uint32_t asked = 0;
    for (int i = 0; i < count; i++) {
        struct lx_thread *thread = thread_in(ids[i]);
        if (thread) {
            thread->base.park_answer = 0;
            thread->base.park_asked = task;
        }
        asked += thread != NULL;
    }
    park_ask(asked, prepare_clone, lx_monotonic_ns() + ASK_NS);
    for (int i = 0; i < count; i++) {
        struct lx_thread *thread = thread_in(ids[i]);
        answers[i] = thread ? thread->base.park_answer : 0;
        if (thread)
            thread->base.park_asked = 0;
    }
}

int sandbox_quiesce(uint64_t patience_ns, uint32_t flags, uint32_t *ids, size_t room, char *what, size_t what_size)
{
    struct vector_layout layout = signal_vector_layout();
    park_set_vector_layout(layout.features, layout.size);
    /* What no program has open is of no interest to who resumes: not to be opened again, nor compared. */
    hostfs_close_kept();
    layer_lower_close_idle();
    park_begin();
    int result = all_come_to_rest(patience_ns, what, what_size);
    if (result == 0 && (result = list_picoprocesses(ids, flags ? room / 2 : room)) < 0)
        format(what, what_size, "it has too many processes");
    if (result < 0) {
        park_end();
        return result;
    }
    note_cpu_times();
    timer_note_clocks();
    if (!flags)
        return result;
    ask_picoprocesses(flags & BLY_QUIESCE_CLONE ? PARK_CLONE : PARK_TRACK, ids, ids + result, result);
    return 2 * result;
}

void sandbox_thaw(void)
{
    if (park_is_asked())
        park_end();
}
