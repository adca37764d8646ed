/* Clones, their ends, waiting. */

#include "stub.h"

static void a_clone_is_a_copy_with_its_own_identity(void)
{
    uint32_t id = 0, parent = block()->process_id;
    volatile uint32_t private = 1;
    shared->words[2] = 0;
    int result = bly->process_clone(0, &id);
    CHECK(result >= 0);
    if (result == 0) {
        CHECK(id == block()->process_id && id == block()->thread_id && id != parent);
        private = 2;
        set(&shared->words[2], id);
        struct bly_process_end end;
        EXPECT(bly->process_wait(&end, BLY_FOREVER), -ECHILD);
        bly->process_exit(7);
    }
    struct bly_process_end end;
    EXPECT(bly->process_wait(&end, BLY_FOREVER), 0);
    EXPECT(end.process_id, id);
    EXPECT(end.exit_status, 7);
    EXPECT(end.signal, 0);
    EXPECT(private, 1);
    EXPECT(shared->words[2], id);
    EXPECT(block()->process_id, parent);
    EXPECT(bly->process_wait(&end, BLY_FOREVER), -ECHILD);
    EXPECT(bly->process_clone(1, &id), -EINVAL);
}

static void the_first_is_the_parent_of_all(void)
{
    uint32_t child, grandchild;
    if (bly->process_clone(0, &child) == 0) {
        if (bly->process_clone(0, &grandchild) == 0) {
            set(&shared->words[3], block()->process_id);
            bly->process_exit(2);
        }
        await(&shared->words[3], grandchild);
        bly->process_exit(1);
    }
    for (int i = 0; i < 2; i++) {
        struct bly_process_end end;
        EXPECT(bly->process_wait(&end, now_ns() + 5000000000u), 0);
        EXPECT(end.exit_status, end.process_id == child ? 1 : 2);
    }
}

static _Atomic uint32_t stop_hammering;
static void hammer(void *argument)
{
    /* Locks, areas and uses of handles are all in motion while others clone. */
    while (!stop_hammering) {
        struct bly_iovec vector = {(char[8]){0}, 8};
        bly->stream_read(info->wake_pool, &vector, 1, BLY_AT_CURRENT, BLY_STREAM_NO_WAIT);
        bly_handle set;
        EXPECT(bly->wait_set_create(&set), 0);
        EXPECT(bly->handle_close(set), 0);
        block()->interrupt_pending = 0;
    }
}
static void add_one(void *argument)
{
    ++*(_Atomic uint32_t *)argument;
}

static void a_clone_of_many_threads_has_one(void)
{
    struct job hammers[3];
    for (int i = 0; i < 3; i++) {
        hammers[i] = (struct job){.function = hammer};
        job_start(&hammers[i]);
    }
    for (int i = 0; i < 100; i++) {
        uint32_t id;
        int result = bly->process_clone(0, &id);
        CHECK(result >= 0);
        if (result == 0) {
            /* What belonged to the other threads is gone, and everything still works. */
            static _Atomic uint32_t count;
            struct job jobs[5];
            for (int k = 0; k < 5; k++) {
                jobs[k] = (struct job){.function = add_one, .argument = (void *)&count};
                job_start(&jobs[k]);
            }
            for (int k = 0; k < 5; k++)
                job_join(&jobs[k]);
            EXPECT(count, 5);
            bly_handle set;
            EXPECT(bly->wait_set_create(&set), 0);
            EXPECT(bly->wait_set_control(set, BLY_WAIT_SET_ADD, info->wake_pool, BLY_WAIT_READ, 1),
                   0);
            EXPECT(bly->thread_barrier(BLY_BARRIER_CODE), 0);
            bly->process_exit(0);
        }
        struct bly_process_end end;
        EXPECT(bly->process_wait(&end, BLY_FOREVER), 0);
        EXPECT(end.exit_status, 0);
        EXPECT(end.signal, 0);
    }
    stop_hammering = 1;
    for (int i = 0; i < 3; i++)
        job_join(&hammers[i]);
}

static void clone_from_thread(void *argument)
{
    uint32_t id;
    int result = bly->process_clone(0, &id);
    CHECK(result >= 0);
    if (result == 0) {
        /* A thread that was no leader is one now: exiting parks it. */
        static struct job job = {.function = add_one};
        static _Atomic uint32_t count;
        job.argument = (void *)&count;
        job_start(&job);
        job_join(&job);
        bly->process_exit(3);
    }
    struct bly_process_end end;
    EXPECT(bly->process_wait(&end, BLY_FOREVER), 0);
    EXPECT(end.exit_status, 3);
}

static void any_thread_may_clone(void)
{
    struct job job = {.function = clone_from_thread};
    job_start(&job);
    job_join(&job);
}

static void interrupts_reach_other_picoprocesses(void)
{
    uint32_t id, parent = block()->process_id;
    int result = bly->process_clone(0, &id);
    CHECK(result >= 0);
    if (result == 0) {
        uint32_t word = 0;
        set(&shared->words[4], 1);
        EXPECT(bly->wait_address(&word, 0, BLY_FOREVER), -EINTR);
        block()->interrupt_pending = 0;
        EXPECT(bly->thread_interrupt(parent, parent), 0);
        await(&shared->words[5], 1); /* an end would be told before the interrupt */
        bly->process_exit(0);
    }
    set(&shared->words[5], 0);
    await(&shared->words[4], 1);
    EXPECT(bly->thread_interrupt(id, id), 0);
    struct bly_process_end end;
    EXPECT(bly->process_wait(&end, BLY_FOREVER), -EINTR);
    block()->interrupt_pending = 0;
    set(&shared->words[5], 1);
    EXPECT(bly->process_wait(&end, BLY_FOREVER), 0);
    EXPECT(end.exit_status, 0);
}

static void waiting_has_a_deadline(void)
{
    uint32_t id;
    if (bly->process_clone(0, &id) == 0) {
        sleep_ns(100000000);
        bly->process_exit(0);
    }
    struct bly_process_end end;
    EXPECT(bly->process_wait(&end, 0), -ETIMEDOUT);
    EXPECT(bly->process_wait(&end, now_ns() + 10000000), -ETIMEDOUT);
    EXPECT(bly->process_wait(&end, now_ns() + 5000000000u), 0);
    EXPECT(end.process_id, id);
}

static void a_forced_end_is_told(void)
{
    uint32_t id;
    if (bly->process_clone(0, &id) == 0) {
        /* No stack and no signal stack to report it on: the host ends it. */
        bly->memory_unmap((void *)((uint64_t)block() - BLY_THREAD_BLOCK_OFFSET + BLY_SIGNAL_STACK_OFFSET),
                          BLY_SIGNAL_STACK_SIZE);
        *(volatile int *)0 = 0;
    }
    struct bly_process_end end;
    EXPECT(bly->process_wait(&end, BLY_FOREVER), 0);
    EXPECT(end.signal, 11);
    EXPECT(end.exit_status, 0);
}

/* The launcher sees the end of the log only when all have ended. */
static void clone_two_that_never_end(void *argument)
{
    uint32_t id;
    if (bly->process_clone(0, &id) == 0) {
        bly->process_clone(0, &id);
        shared->words[8]++;
        for (;;)
            ;
    }
}
static void all_end_with_the_first(void)
{
    struct job job = {.function = clone_two_that_never_end};
    job_start(&job);
    job_join(&job); /* that the thread ends means nothing */
    while (shared->words[8] != 2)
        bly->thread_yield();
    sleep_ns(20000000);
    EXPECT(bly->thread_interrupt(block()->process_id + 1000000, 1), -ESRCH);
}

const struct test process_tests[] = {
    {"all_end_with_the_first", all_end_with_the_first},
    {"a_clone_is_a_copy_with_its_own_identity", a_clone_is_a_copy_with_its_own_identity},
    {"the_first_is_the_parent_of_all", the_first_is_the_parent_of_all},
    {"a_clone_of_many_threads_has_one", a_clone_of_many_threads_has_one},
    {"any_thread_may_clone", any_thread_may_clone},
    {"interrupts_reach_other_picoprocesses", interrupts_reach_other_picoprocesses},
    {"waiting_has_a_deadline", waiting_has_a_deadline},
    {"a_forced_end_is_told", a_forced_end_is_told},
    {NULL, NULL},
};
