/* Parking. The order matters: whoever asks sets `quiesce` first and then kicks each thread, which publishes its state first and then
 * looks at `quiesce`. A kick that is overlooked all the same (the thread cleared its work word in between) is repeated by the asker. */
#include "libos/park.h"

#include <asm/errno.h>

#include "libos/abi.h"
#include "libos/heap.h"
#include "libos/text.h"

#define VECTOR_ALIGNMENT 64u
#define VECTOR_HEADER 512u
#define VECTOR_HEADER_END 576u

/* park.S. Saves the registers that calls keep on the stack and calls park_store. 0: stored; 1: resumed from the copy; negative: failed. */
int park_switch(struct thread *thread);
int park_store(struct thread *thread, uint64_t stack_pointer);
/* Copies `size` bytes to `stack_pointer`, which becomes the stack pointer, and returns 1 from park_switch. */
_Noreturn void park_return(uint64_t stack_pointer, const void *stack, uint64_t size);

void park_set_vector_layout(uint64_t features, uint32_t size)
{
    libos_shared()->vector_features = features;
    libos_shared()->vector_size = size;
}

void park_begin(void)
{
    libos_shared()->park_failed = 0;
    __atomic_store_n(&libos_shared()->quiesce, 1, __ATOMIC_SEQ_CST);
}

void park_end(void)
{
    __atomic_store_n(&libos_shared()->quiesce, 0, __ATOMIC_SEQ_CST);
    bly->wake_address((uint32_t *)&libos_shared()->quiesce, 0x7fffffff);
}

void park_ask(uint32_t count, void (*prepare)(struct thread *thread, bool before), uint64_t deadline_ns)
{
    struct libos_shared *shared = libos_shared();
    uint32_t done;

    shared->answered = 0;
    shared->clone_prepare = prepare;
    __atomic_add_fetch(&shared->quiesce, 1, __ATOMIC_SEQ_CST);
    bly->wake_address((uint32_t *)&shared->quiesce, 0x7fffffff);
    while ((done = shared->answered) < count)
        if (bly->wait_address((uint32_t *)&shared->answered, done, deadline_ns) == -ETIMEDOUT)
            return;
}

static uint32_t clone_here(struct thread *thread)
{
    uint32_t id = 0, never = 0;

    libos_shared()->clone_prepare(thread, /*before=*/true);
    int result = bly->process_clone(0, &id);
    while (result == 0) /* the clone: its memory is all that matters */
        (void)bly->wait_address(&never, 0, BLY_FOREVER);
    libos_shared()->clone_prepare(thread, /*before=*/false);
    return result < 0 ? 0 : id;
}

static void do_asked(struct thread *thread)
{
    struct libos_shared *shared = libos_shared();
    uint32_t task = thread->park_asked, number = 0;

    thread->park_asked = 0;
    if (task == PARK_CLONE)
        number = clone_here(thread);
    else if (bly->memory_track(&number) < 0)
        number = 0;
    thread->park_answer = number;
    shared->answered++;
    bly->wake_address((uint32_t *)&shared->answered, 1);
}

bool park_failed(void)
{
    return libos_shared()->park_failed;
}

void park_kick(struct thread *thread)
{
    thread->work_pending |= THREAD_WORK_PARK;
    thread_wake(thread);
    if (thread->state != THREAD_SLEEPING && thread->process_id)
        (void)bly->thread_interrupt(thread->process_id, thread->thread_id); /* -ESRCH: it is only being born, or ends */
}

static void vector_save(void *image)
{
    struct libos_shared *shared = libos_shared();

    memset(image, 0, VECTOR_HEADER_END);
    __asm__ volatile("xsave64 (%0)"
                     :
                     : "r"(image), "a"((uint32_t)shared->vector_features),
                       "d"((uint32_t)(shared->vector_features >> 32))
                     : "memory");
}

static void vector_load(void *image)
{
    struct libos_shared *shared = libos_shared();
    uint64_t *in_use = (uint64_t *)((char *)image + VECTOR_HEADER);

    *in_use &= shared->vector_features; /* of another processor: what this one lacks makes the instruction fault */

    __asm__ volatile("xrstor64 (%0)"
                     :
                     : "r"(image), "a"((uint32_t)shared->vector_features),
                       "d"((uint32_t)(shared->vector_features >> 32))
                     : "memory");
}

int park_store(struct thread *thread, uint64_t stack_pointer)
{
    struct bly_thread_block *block = thread_block();
    uint64_t size = block->kernel_stack_top - stack_pointer, stack_end = (sizeof(struct parked) + size + VECTOR_ALIGNMENT - 1) & ~(uint64_t)(VECTOR_ALIGNMENT - 1);
    struct parked *parked = heap_alloc(stack_end + libos_shared()->vector_size + VECTOR_ALIGNMENT);

    if (!parked)
        return -ENOMEM;
    *parked = (struct parked){
        .block = block,
        .stack_pointer = stack_pointer,
        .stack_size = size,
        .user_stack = block->user_stack,
        .stack_protector = block->stack_protector,
    };
    bly->segment_base_get(BLY_SEGMENT_FS, &parked->fs_base);
    memcpy(parked->scratch, block->scratch, sizeof parked->scratch);
    memcpy(parked->personality_data, block->personality_data, sizeof parked->personality_data);
    memcpy(parked->stack, (const void *)stack_pointer, size);
    if (libos_shared()->vector_size) {
        parked->vector = (void *)(((uint64_t)parked + stack_end + VECTOR_ALIGNMENT - 1) & ~(uint64_t)(VECTOR_ALIGNMENT - 1));
        vector_save(parked->vector);
    }
    thread->parked = parked;
    return 0;
}

void park_slowly(void)
{
    struct bly_thread_block *block = thread_block();
    struct thread *thread = block->personality_thread;
    struct libos_shared *shared = libos_shared();

    /* On the signal stack, in a fault of a copy to the program: it goes on when that is cured. */
    bool on_kernel_stack = (uint64_t)__builtin_frame_address(0) < block->kernel_stack_top;
    if (!thread || !thread->may_park || thread->lock_depth || !on_kernel_stack)
        return;
    uint32_t state = thread->state;
    int result = park_switch(thread);
    if (result < 0) {
        shared->park_failed = 1;
        return;
    }
    block = thread_block(); /* perhaps of another picoprocess */
    do {
        thread->state = THREAD_PARKED;
        for (uint32_t asked; (asked = __atomic_load_n(&shared->quiesce, __ATOMIC_SEQ_CST));) {
            block->interrupt_pending = 0;
            if (thread->park_asked)
                do_asked(thread);
            else
                (void)bly->wait_address((uint32_t *)&shared->quiesce, asked, BLY_FOREVER);
        }
        /* Who asks again at this moment sees the thread running, or is seen here. */
        thread->state = THREAD_IN_KERNEL;
    } while (__atomic_load_n(&shared->quiesce, __ATOMIC_SEQ_CST));
    struct parked *parked = thread->parked;
    thread->parked = NULL;
    heap_free(parked);
    thread->work_pending &= ~(uint32_t)THREAD_WORK_PARK;
    /* What an interrupt was for while it was thrown away here stands in the work word. */
    block->interrupt_pending = 1;
    thread->state = state;
}

void park_resume(struct thread *thread)
{
    const struct parked *parked = thread->parked;
    struct bly_thread_block *block = thread_block();

    assert(block == parked->block);
    thread->process_id = block->process_id;
    thread->thread_id = block->thread_id;
    for (int i = 0; i < THREAD_MUTEX_MAX; i++)
        if (thread->held_mutexes[i])
            thread->held_mutexes[i]->owner = block->thread_id;
    block->personality_thread = thread;
    block->user_stack = parked->user_stack;
    block->stack_protector = parked->stack_protector;
    memcpy(block->scratch, parked->scratch, sizeof block->scratch);
    memcpy(block->personality_data, parked->personality_data, sizeof block->personality_data);
    bly->segment_base_set(BLY_SEGMENT_FS, parked->fs_base);
    if (parked->vector)
        vector_load(parked->vector);
    park_return(parked->stack_pointer, parked->stack, parked->stack_size);
}
