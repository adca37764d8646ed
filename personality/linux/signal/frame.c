/* The frame of a signal handler on the program's stack, exactly as Linux lays it out on x86-64 (struct rt_sigframe), and
 * rt_sigreturn(2), which undoes it.
 *
 * The vector registers of the program are still in the CPU while the personality runs (it is compiled without them), so a frame
 * saves them with XSAVE and rt_sigreturn loads them with XRSTOR, without the host's help. What comes back through rt_sigreturn
 * is checked completely before: the instruction faults on a bad image. */
#include "personality/linux/process/cpuid.h"
#include "personality/linux/signal/internal.h"

#include <asm/processor-flags.h>
#include <bailey/processor.h>
#include <asm/sigcontext.h>
#include <asm/ucontext.h>
#include <linux/signal.h> /* SS_* */

struct signal_frame {
    uint64_t restorer;
    uint64_t flags, link;
    uint64_t stack_address;
    uint32_t stack_flags, padding;
    uint64_t stack_size;
    struct bly_context registers; /* struct sigcontext */
    uint64_t mask;
    siginfo_t info;
};
_Static_assert(sizeof(struct signal_frame) == 440, "struct rt_sigframe of Linux");

enum {
    RED_ZONE = 128,
    LEGACY_SIZE = 512, HEADER_SIZE = 64, SOFTWARE_BYTES_OFFSET = 464, HEADER_OFFSET = 512, MXCSR_OFFSET = 24,
    VECTOR_BUFFER_SIZE = 12288,
    USER_CODE_SEGMENT = 0x33, USER_DATA_SEGMENT = 0x2b,
};
#define FEATURES_LEGACY 3ull
#define FEATURE_KEYS (1ull << 9)
#define MXCSR_DEFAULT 0x1f80u
#define FLAGS_RESTORED \
    (X86_EFLAGS_AC | X86_EFLAGS_OF | X86_EFLAGS_DF | X86_EFLAGS_TF | X86_EFLAGS_SF | X86_EFLAGS_ZF | X86_EFLAGS_AF | X86_EFLAGS_PF | \
     X86_EFLAGS_CF | X86_EFLAGS_RF)

struct vector_buffer { _Alignas(64) unsigned char bytes[VECTOR_BUFFER_SIZE]; };

/* ---- Vector state ---------------------------------------------------------------------------------------------- */

uint64_t signal_vector_present(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return ((uint64_t)high << 32 | low) & ~BLY_VECTOR_TILE;
}

/* The components that frames hold. Programs that are shown a lesser processor get no others, so that frames are the same everywhere; but
 * where they can ask the processor behind our back, and then use all its registers, a signal must preserve them. */
static uint64_t vector_features(void)
{
    return signal_vector_present() & (start_info->flags & BLY_START_CPUID_FAULTS ? start_info->vector_features : UINT64_MAX);
}

/* Which components are saved, and the size of their image. Asked of the CPU once in a sandbox. */
static const struct vector_layout *vector_layout(void)
{
    struct vector_layout *layout = &lx_kernel->vector_layout;
    if (__atomic_load_n(&layout->size, __ATOMIC_ACQUIRE))
        return layout;
    uint64_t features = vector_features();
    uint32_t size = LEGACY_SIZE + HEADER_SIZE;
    for (uint32_t i = 2; i < 63; i++) {
        if (!(features >> i & 1))
            continue;
        struct bly_cpuid component = start_info->vector_features >> i & 1 ? lx_cpuid(0xd, i) : cpuid_unlimited(0xd, i);
        if (component.ebx + component.eax > size)
            size = component.ebx + component.eax;
    }
    assert(size + sizeof(uint32_t) <= VECTOR_BUFFER_SIZE);
    layout->features = features;
    __atomic_store_n(&layout->size, size, __ATOMIC_RELEASE);
    return layout;
}

struct vector_layout signal_vector_layout(void)
{
    return *vector_layout();
}

uint64_t signal_frame_size(void)
{
    return RED_ZONE + vector_layout()->size + FP_XSTATE_MAGIC2_SIZE + 63 + sizeof(struct signal_frame) + 15 + 8;
}

/* The marks by which a program, and Linux, recognise an extended image. */
static void mark_vector_image(unsigned char *image, const struct vector_layout *layout)
{
    struct _fpx_sw_bytes marks = {
        .magic1 = FP_XSTATE_MAGIC1, .extended_size = layout->size + FP_XSTATE_MAGIC2_SIZE, .xfeatures = layout->features, .xstate_size = layout->size,
    };
    uint32_t end_mark = FP_XSTATE_MAGIC2;
    memcpy(image + SOFTWARE_BYTES_OFFSET, &marks, sizeof marks);
    memcpy(image + layout->size, &end_mark, sizeof end_mark);
}

static void save_vector_state(struct vector_buffer *buffer, const struct vector_layout *layout)
{
    memset(buffer->bytes + SOFTWARE_BYTES_OFFSET, 0, HEADER_OFFSET + HEADER_SIZE - SOFTWARE_BYTES_OFFSET);
    __asm__ volatile("xsave64 (%0)" : : "r"(buffer->bytes), "a"((uint32_t)layout->features), "d"((uint32_t)(layout->features >> 32)) : "memory");
    *(uint64_t *)(buffer->bytes + HEADER_OFFSET) |= FEATURES_LEGACY;
    mark_vector_image(buffer->bytes, layout);
}

/* Size of the image in a host frame, 0 when it has no extended one. */
static uint32_t image_size(const unsigned char *image)
{
    struct _fpx_sw_bytes marks;
    memcpy(&marks, image + SOFTWARE_BYTES_OFFSET, sizeof marks);
    if (marks.magic1 != FP_XSTATE_MAGIC1 || marks.extended_size < LEGACY_SIZE + HEADER_SIZE || marks.extended_size > VECTOR_BUFFER_SIZE)
        return 0;
    return marks.extended_size;
}

/* The personality has no instruction that touches vector registers, so what is loaded here is what the program finds. The image has
 * been checked: the CPU would fault on a bad one. */
static void load_vector_registers(const struct vector_buffer *buffer, uint64_t features)
{
    __asm__ volatile("xrstor64 (%0)" : : "r"(buffer->bytes), "a"((uint32_t)features), "d"((uint32_t)(features >> 32)) : "memory");
}

/* Fresh registers and default control words. `buffer` must be as large as the image of all `features`: processors read to its end even
 * where the header says that there is nothing to load. */
static void reset_vector_registers(struct vector_buffer *buffer, uint64_t features)
{
    memset(buffer->bytes, 0, LEGACY_SIZE + HEADER_SIZE);
    *(uint32_t *)(buffer->bytes + MXCSR_OFFSET) = MXCSR_DEFAULT;
    load_vector_registers(buffer, features);
}

void signal_reset_vector_registers(void)
{
    struct vector_buffer buffer;
    reset_vector_registers(&buffer, signal_vector_present());
}

/* Reads the image at the guest's `address` into `buffer` and makes it one that the CPU accepts. -EFAULT: it is not one. */
static int load_vector_image(struct vector_buffer *buffer, uint64_t address)
{
    const struct vector_layout *layout = vector_layout();
    struct _fpx_sw_bytes marks;
    uint32_t end_mark = 0;
    memset(buffer->bytes, 0, layout->size + FP_XSTATE_MAGIC2_SIZE);
    if (guest_read(buffer->bytes, (void *)address, LEGACY_SIZE) < 0)
        return -EFAULT;
    memcpy(&marks, buffer->bytes + SOFTWARE_BYTES_OFFSET, sizeof marks);
    bool extended = marks.magic1 == FP_XSTATE_MAGIC1 && marks.xstate_size >= LEGACY_SIZE + HEADER_SIZE && marks.xstate_size <= layout->size &&
                    marks.extended_size >= marks.xstate_size && guest_read(&end_mark, (void *)(address + marks.xstate_size), sizeof end_mark) == 0 &&
                    end_mark == FP_XSTATE_MAGIC2;
    uint64_t *header = (uint64_t *)(buffer->bytes + HEADER_OFFSET);
    if (extended) {
        if (guest_read(buffer->bytes + LEGACY_SIZE, (void *)(address + LEGACY_SIZE), marks.xstate_size - LEGACY_SIZE) < 0)
            return -EFAULT;
        header[0] &= layout->features & marks.xfeatures;
        for (int i = 1; i < HEADER_SIZE / 8; i++) {
            if (header[i])
                return -EFAULT; /* compacted or reserved: Linux refuses it as well */
        }
    } else {
        header[0] = FEATURES_LEGACY; /* an image of FXSAVE: all else starts afresh */
    }
    uint32_t control;
    memcpy(&control, buffer->bytes + MXCSR_OFFSET, sizeof control);
    if (control & 0xffff0000u)
        return -EFAULT;
    return 0;
}

/* ---- Alternate stack ------------------------------------------------------------------------------------------- */

static bool within_altstack(const struct lx_thread *thread, uint64_t stack_pointer)
{
    return stack_pointer > thread->signals.altstack_address && stack_pointer - thread->signals.altstack_address <= thread->signals.altstack_size;
}

bool signal_on_altstack(const struct lx_thread *thread, uint64_t stack_pointer)
{
    /* sigaltstack(2): with SS_AUTODISARM the stack counts as not in use. */
    return !(thread->signals.altstack_flags & SS_AUTODISARM) && within_altstack(thread, stack_pointer);
}

static void disarm_altstack(struct lx_thread *thread)
{
    thread->signals.altstack_address = thread->signals.altstack_size = 0;
    thread->signals.altstack_flags = 0;
}

int signal_set_altstack(struct lx_thread *thread, const stack_t *stack, uint64_t stack_pointer, size_t minimum)
{
    unsigned mode = (unsigned)stack->ss_flags & ~SS_AUTODISARM;
    if (signal_on_altstack(thread, stack_pointer))
        return -EPERM;
    if (mode != SS_DISABLE && mode != SS_ONSTACK && mode != 0)
        return -EINVAL;
    if (mode == SS_DISABLE) {
        disarm_altstack(thread);
        return 0;
    }
    if (stack->ss_size < minimum)
        return -ENOMEM;
    thread->signals.altstack_address = (uint64_t)stack->ss_sp;
    thread->signals.altstack_size = stack->ss_size;
    thread->signals.altstack_flags = (unsigned)stack->ss_flags & SS_AUTODISARM;
    return 0;
}

static void describe_altstack(const struct lx_thread *thread, uint64_t stack_pointer, stack_t *out_stack)
{
    memset(out_stack, 0, sizeof *out_stack);
    out_stack->ss_sp = (void *)thread->signals.altstack_address;
    out_stack->ss_size = thread->signals.altstack_size;
    out_stack->ss_flags = (int)thread->signals.altstack_flags;
    if (!thread->signals.altstack_size)
        out_stack->ss_flags |= SS_DISABLE;
    else if (signal_on_altstack(thread, stack_pointer))
        out_stack->ss_flags |= SS_ONSTACK;
}

LX_SYSCALL(sigaltstack, const stack_t *new_stack, stack_t *out_old)
{
    struct lx_thread *thread = lx_current();
    uint64_t stack_pointer = lx_registers()->rsp;
    stack_t stack, old;
    if (new_stack && guest_read(&stack, new_stack, sizeof stack) < 0)
        return -EFAULT;
    describe_altstack(thread, stack_pointer, &old);
    if (new_stack) {
        int error = signal_set_altstack(thread, &stack, stack_pointer, MINSIGSTKSZ);
        if (error)
            return error;
    }
    return out_old && guest_write(out_old, &old, sizeof old) < 0 ? -EFAULT : 0;
}

/* ---- Frame ----------------------------------------------------------------------------------------------------- */

int signal_build_frame(struct bly_context *context, int signal, const struct lx_sigaction *action, const siginfo_t *info, lx_sigset old_mask)
{
    struct lx_thread *thread = lx_current();
    const struct vector_layout *layout = vector_layout();
    struct vector_buffer buffer;
    const unsigned char *image = context->vector_state;
    uint32_t size = image ? image_size(image) : 0;
    if (!(action->flags & SA_RESTORER))
        return -EFAULT; /* x86-64 Linux demands one too */
    if (!size) {
        save_vector_state(&buffer, layout);
        image = buffer.bytes;
        size = layout->size + FP_XSTATE_MAGIC2_SIZE;
    }

    uint64_t top = context->rsp - RED_ZONE;
    bool nested = signal_on_altstack(thread, top), entering = false;
    if ((action->flags & SA_ONSTACK) && thread->signals.altstack_size && !nested) {
        top = thread->signals.altstack_address + thread->signals.altstack_size;
        entering = true;
    }
    uint64_t image_address = (top - size) & ~63ull;
    uint64_t frame_address = ((image_address - sizeof(struct signal_frame)) & ~15ull) - 8;
    if ((nested || entering) && !within_altstack(thread, frame_address))
        return -EFAULT;

    struct signal_frame frame;
    memset(&frame, 0, sizeof frame);
    frame.restorer = action->restorer;
    frame.flags = UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS;
    frame.stack_address = thread->signals.altstack_address;
    frame.stack_flags = thread->signals.altstack_size ? thread->signals.altstack_flags : SS_DISABLE;
    frame.stack_size = thread->signals.altstack_size;
    frame.registers = *context;
    frame.registers.cs = USER_CODE_SEGMENT;
    frame.registers.ss = USER_DATA_SEGMENT;
    frame.registers.fs = frame.registers.gs = 0;
    frame.registers.old_mask = old_mask;
    frame.registers.vector_state = (void *)image_address;
    memset(frame.registers.reserved, 0, sizeof frame.registers.reserved);
    frame.mask = old_mask;
    frame.info = *info;
    if (guest_write((void *)image_address, image, size) < 0 || guest_write((void *)frame_address, &frame, sizeof frame) < 0)
        return -EFAULT;

    reset_vector_registers(&buffer, layout->features & ~FEATURE_KEYS);
    context->vector_state = NULL;
    if (thread->signals.altstack_flags & SS_AUTODISARM)
        disarm_altstack(thread);
    context->rsp = frame_address;
    context->rip = action->handler;
    context->rdi = (uint64_t)signal;
    context->rsi = frame_address + offsetof(struct signal_frame, info);
    context->rdx = frame_address + offsetof(struct signal_frame, flags);
    context->rax = 0;
    context->rflags &= ~(uint64_t)(X86_EFLAGS_DF | X86_EFLAGS_RF | X86_EFLAGS_TF);
    return 0;
}

static _Noreturn void refuse_frame(void)
{
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = SIGSEGV;
    info.si_code = SI_KERNEL;
    signal_force(SIGSEGV, &info);
    lx_leave_kernel(lx_registers());
}

LX_SYSCALL(rt_sigreturn, void)
{
    struct lx_thread *thread = lx_current();
    struct bly_context *registers = lx_registers();
    struct signal_frame frame;
    struct vector_buffer buffer;
    uint64_t frame_address = registers->rsp - 8; /* the restorer's address was popped */
    thread->syscall_number = ~0u;                /* nothing to restart: rax is the interrupted program's */
    if (guest_read(&frame, (void *)frame_address, sizeof frame) < 0)
        refuse_frame();

    struct bly_context context = frame.registers;
    context.rflags = (registers->rflags & ~(uint64_t)FLAGS_RESTORED) | (frame.registers.rflags & FLAGS_RESTORED);
    context.cs = USER_CODE_SEGMENT;
    context.ss = USER_DATA_SEGMENT;
    context.fs = context.gs = 0;
    uint64_t image_address = (uint64_t)frame.registers.vector_state;
    if (image_address) {
        if (load_vector_image(&buffer, image_address) < 0)
            refuse_frame();
        load_vector_registers(&buffer, vector_layout()->features);
    } else {
        reset_vector_registers(&buffer, vector_layout()->features & ~FEATURE_KEYS);
    }
    context.vector_state = NULL;

    stack_t stack = { .ss_sp = (void *)frame.stack_address, .ss_flags = (int)frame.stack_flags, .ss_size = frame.stack_size };
    (void)signal_set_altstack(thread, &stack, context.rsp, 0); /* do_sigaltstack() in Linux: what does not fit is left as it is */
    signal_set_blocked(frame.mask);
    lx_leave_kernel(&context);
}
