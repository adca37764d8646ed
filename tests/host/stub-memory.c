/* Memory calls, clocks, randomness, segment bases. */

#include "stub.h"
#include <asm/unistd.h>

/* The host layer's own gate: whoever jumps there is inside the window. */
long host_syscall(long number, long a, long b, long c, long d, long e, long f);

#define BASE 0x20000000ull
#define RW (BLY_PROT_READ | BLY_PROT_WRITE)

static void memory_calls_check_their_arguments(void)
{
    EXPECT(bly->memory_map((void *)(BASE + 1), 0x1000, RW, 0), -EINVAL);
    EXPECT(bly->memory_map((void *)BASE, 0, RW, 0), -EINVAL);
    EXPECT(bly->memory_map((void *)BASE, 0x1001, RW, 0), -EINVAL);
    EXPECT(bly->memory_map((void *)BASE, 0x1000, 8, 0), -EINVAL);
    EXPECT(bly->memory_map((void *)BASE, 0x1000, RW, BLY_MAP_SHARED), -EINVAL);
    EXPECT(bly->memory_map((void *)BASE, ~0xfffull, RW, 0), -EINVAL);
    EXPECT(bly->memory_unmap((void *)BASE, 0), -EINVAL);
    EXPECT(bly->memory_protect((void *)BASE, 0x1000, RW), -ENOMEM);
    EXPECT(bly->memory_advise((void *)BASE, 0x1000, BLY_ADVICE_COUNT), -EINVAL);
    EXPECT(bly->memory_load(BLY_LOAD_SOURCE_COUNT, 0, BLY_LOAD_UNIT, 0), -EINVAL);
    EXPECT(bly->memory_load(BLY_LOAD_BULK, 0x1000, BLY_LOAD_UNIT, 0), -EINVAL);
    EXPECT(bly->memory_load(BLY_LOAD_BULK, 0, BLY_BULK_SIZE + BLY_LOAD_UNIT, 0), -EINVAL);
    EXPECT(bly->memory_load(BLY_LOAD_BULK, 0, BLY_LOAD_UNIT, 2), -EINVAL);
    EXPECT(bly->memory_load(BLY_LOAD_IMAGE, 0, 0x1001, 0), -EINVAL);
    EXPECT(bly->memory_load(BLY_LOAD_IMAGE, 0, 0x1000, BLY_LOAD_DISCARD), -EINVAL);
}

static void memory_is_mapped_where_it_is_asked_for(void)
{
    EXPECT(bly->memory_map((void *)BASE, 0x4000, RW, 0), 0);
    EXPECT(bly->memory_map((void *)(BASE + 0x3000), 0x2000, RW, 0), -EEXIST);
    uint64_t *word = (uint64_t *)BASE;
    CHECK(word[0] == 0);
    word[0] = 1;
    EXPECT(bly->memory_map((void *)BASE, 0x1000, RW, BLY_MAP_REPLACE), 0);
    CHECK(word[0] == 0);
    word[0] = 2;
    EXPECT(bly->memory_advise((void *)BASE, 0x1000, BLY_ADVICE_DISCARD), 0);
    CHECK(word[0] == 0);
    word[0] = 3;
    EXPECT(bly->memory_move((void *)BASE, 0x4000, (void *)(BASE + 0x100000), 0x8000, 0), 0);
    CHECK(*(uint64_t *)(BASE + 0x100000) == 3);
    EXPECT(bly->memory_map((void *)BASE, 0x4000, RW, 0), 0); /* free again */
    EXPECT(bly->memory_map((void *)(BASE + 0x4000), 0x1000, RW, 0), 0);
    EXPECT(bly->memory_move((void *)BASE, 0x4000, (void *)BASE, 0x8000, 0), -ENOMEM);
    EXPECT(
        bly->memory_move((void *)(BASE + 0x100000), 0x8000, (void *)(BASE + 0x100000), 0x1000, 0),
        0);
    EXPECT(bly->memory_protect((void *)BASE, 0x4000, BLY_PROT_READ), 0);
    EXPECT(bly->memory_unmap((void *)BASE, 0x200000), 0);
    /* Low addresses down to BLY_GUEST_MIN, and the top. */
    EXPECT(bly->memory_map((void *)BLY_GUEST_MIN, 0x1000, RW, 0), 0);
    EXPECT(bly->memory_map((void *)0x7ffe0000, 0x1000, RW, 0), 0);
    EXPECT(bly->memory_map((void *)(BLY_GUEST_MAX - 0x1000), 0x1000, RW, 0), 0);
}

static void segments_are_mapped_and_can_be_mapped_again(void)
{
    shared->words[0] = 77;
    EXPECT(bly->stream_map(info->heap, (void *)BASE, 0x1000, RW, BLY_MAP_SHARED, 0), 0);
    EXPECT(*(uint32_t *)BASE, 77);
    *(uint32_t *)BASE = 78;
    EXPECT(shared->words[0], 78);
    EXPECT(bly->stream_map(info->heap, (void *)BASE, 0x1000, RW, BLY_MAP_REPLACE, 0), 0);
    *(uint32_t *)BASE = 79;
    EXPECT(shared->words[0], 78);
    *(uint32_t *)(BLY_BULK_START + BLY_BULK_SIZE - 4) = 5;
    EXPECT(bly->memory_advise((void *)(BLY_BULK_START + BLY_BULK_SIZE - 4096), 4096,
                              BLY_ADVICE_REMOVE),
           0);
    EXPECT(*(uint32_t *)(BLY_BULK_START + BLY_BULK_SIZE - 4), 0);
    EXPECT(bly->stream_map(info->heap, (void *)BASE, 0x1000, RW, BLY_MAP_REPLACE, 1), -EINVAL);
    EXPECT(bly->stream_map(0, (void *)BASE, 0x1000, RW, BLY_MAP_REPLACE, 0), -EBADF);
}

static void clocks_run(void)
{
    for (unsigned clock = BLY_CLOCK_REALTIME; clock <= BLY_CLOCK_MONOTONIC_COARSE; clock++) {
        uint64_t first = 0, second = 0;
        EXPECT(bly->clock_read(clock, 0, &first), 0);
        for (volatile int i = 0; i < 1000000; i++)
            ;
        EXPECT(bly->clock_read(clock, 0, &second), 0);
        CHECK(first && second >= first);
        if (clock < BLY_CLOCK_REALTIME_COARSE)
            CHECK(second > first);
    }
    uint64_t value;
    EXPECT(bly->clock_read(99, 0, &value), -EINVAL);
    EXPECT(bly->clock_read(BLY_CLOCK_PROCESS_CPU, 1u << 21, &value), -ESRCH);
    EXPECT(bly->clock_read(BLY_CLOCK_PROCESS_CPU, block()->process_id, &value), 0);
    EXPECT(bly->clock_read(BLY_CLOCK_THREAD_CPU, block()->thread_id, &value), 0);
}

static void random_and_segments_and_cpu(void)
{
    uint64_t a[4], b[4];
    EXPECT(bly->random_read(a, sizeof a), 0);
    EXPECT(bly->random_read(b, sizeof b), 0);
    CHECK(a[0] != b[0] && a[3] != b[3]);
    uint64_t base = 1;
    EXPECT(bly->segment_base_get(BLY_SEGMENT_GS, &base), 0);
    CHECK(base == (uint64_t)block());
    EXPECT(bly->segment_base_set(BLY_SEGMENT_FS, 0x12345000), 0);
    EXPECT(bly->segment_base_get(BLY_SEGMENT_FS, &base), 0);
    EXPECT(base, 0x12345000);
    EXPECT(bly->segment_base_set(BLY_SEGMENT_FS, 1ull << 47), -EPERM);
    EXPECT(bly->segment_base_set(2, 0), -EINVAL);
    uint64_t mask[16] = {0}, one = 1ull << bly->thread_current_cpu();
    CHECK(bly->thread_get_affinity(0, mask, sizeof mask) > 0);
    EXPECT(bly->thread_set_affinity(block()->thread_id, &one, sizeof one), 0);
    CHECK(1ull << bly->thread_current_cpu() == one);
    EXPECT(bly->thread_set_affinity(0, mask, sizeof mask), 0);
    EXPECT(bly->thread_barrier(BLY_BARRIER_MEMORY), 0);
    EXPECT(bly->thread_barrier(BLY_BARRIER_CODE), 0);
    EXPECT(bly->thread_barrier(2), -EINVAL);
    CHECK(block()->stack_protector != 0);
}

/* The launcher looks at our maps and lists what lies outside the window. */
static void nothing_is_left_where_the_kernel_put_it(void)
{
    say("look at my maps");
    await(&shared->words[1], 1);
}

/* The launcher asks for the second memory_map to fail. */
static void a_chosen_call_fails(void)
{
    EXPECT(bly->memory_map((void *)BASE, 0x1000, RW, 0), 0);
    EXPECT(bly->memory_map((void *)(BASE + 0x1000), 0x1000, RW, 0), -ENOMEM);
    EXPECT(bly->memory_map((void *)(BASE + 0x1000), 0x1000, RW, 0), 0);
}

/* What it is good for is the monitor's affair: here it can be asked for, is one for each
 * picoprocess, and answers nothing. */
static void written_pages_can_be_followed(void)
{
    uint32_t number = 0, again = 0, own = 0;
    int result = bly->memory_track(&number);
    if (result == -ENOSYS || result == -EPERM)
        return; /* not on this host */
    EXPECT(result, 0);
    CHECK(number > 0);
    EXPECT(bly->memory_track(&again), 0);
    CHECK(again == number);
    char word[8];
    struct bly_iovec vector = {word, sizeof word};
    EXPECT(host_syscall(__NR_preadv2, number - 1, (long)&vector, 1, -1, -1, 0), -EINVAL);
    uint32_t child;
    result = bly->process_clone(0, &child);
    if (result == 0) {
        /* The parent's was closed: the child's own has the place that became free. */
        struct bly_iovec other = {word, sizeof word};
        bool closed = host_syscall(__NR_preadv2, number - 1, (long)&other, 1, -1, -1, 0) == -EBADF;
        bool made = bly->memory_track(&own) == 0;
        bly->process_exit(closed && made ? 0 : 1);
    }
    EXPECT(result, 1);
    struct bly_process_end end;
    EXPECT(bly->process_wait(&end, BLY_FOREVER), 0);
    EXPECT(end.exit_status, 0);
}

const struct test memory_tests[] = {
    {"a_chosen_call_fails", a_chosen_call_fails},
    {"memory_calls_check_their_arguments", memory_calls_check_their_arguments},
    {"memory_is_mapped_where_it_is_asked_for", memory_is_mapped_where_it_is_asked_for},
    {"segments_are_mapped_and_can_be_mapped_again", segments_are_mapped_and_can_be_mapped_again},
    {"written_pages_can_be_followed", written_pages_can_be_followed},
    {"clocks_run", clocks_run},
    {"random_and_segments_and_cpu", random_and_segments_and_cpu},
    {"nothing_is_left_where_the_kernel_put_it", nothing_is_left_where_the_kernel_put_it},
    {NULL, NULL},
};
