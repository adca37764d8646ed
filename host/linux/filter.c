/* Installs the seccomp filter: first where a call comes from, then the closed list (filter.def).
 *
 * The instruction pointer that seccomp shows is the address behind the instruction. The list is
 * compiled at build time; the check of the window, which libseccomp cannot express, is put before
 * it here. */

#include "host.h"
#include "filter-program.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define LOAD_HIGH(field)                                                                           \
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field) + 4)
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, action)
#define SKIP_IF_EQUAL(value) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 1, 0)
#define SKIP_IF_ABOVE(value) BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, value, 1, 0)
#define SKIP_IF_NOT_ABOVE(value) BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, value, 0, 1)
#define SKIP_IF_BELOW(value) BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, value, 0, 1)
#define X32_BIT 0x40000000u

void host_filter_install(bool scoped)
{
    uint64_t start = (uint64_t)host_text_start, end = (uint64_t)host_text_end;
    struct sock_filter window[] = {
        LOAD(arch),
        SKIP_IF_EQUAL(AUDIT_ARCH_X86_64),
        RETURN(SECCOMP_RET_TRAP),
        LOAD_HIGH(instruction_pointer),
        SKIP_IF_EQUAL((uint32_t)(start >> 32)),
        RETURN(SECCOMP_RET_TRAP),
        LOAD(instruction_pointer),
        SKIP_IF_ABOVE((uint32_t)start),
        RETURN(SECCOMP_RET_TRAP),
        SKIP_IF_NOT_ABOVE((uint32_t)end),
        RETURN(SECCOMP_RET_TRAP),
        LOAD(nr),
        SKIP_IF_BELOW(X32_BIT),
        RETURN(SECCOMP_RET_ERRNO | EPERM),
    };
    const size_t window_count = sizeof window / sizeof *window;
    const struct filter_variant *variant = &filter_variants[FILTER_OPEN];
    if (host.in_pid_namespace)
        variant = &filter_variants[FILTER_NAMESPACED];
    else if (scoped)
        variant = &filter_variants[FILTER_SCOPED];
    struct sock_filter program[sizeof window / sizeof *window + FILTER_LENGTH_MAX];
    host_copy(program, window, sizeof window);
    host_copy(program + window_count, variant->program, variant->count * sizeof *program);
    struct sock_fprog filter = {.len = (unsigned short)(window_count + variant->count),
                                .filter = program};
    /* seccomp(2): without privileges only those who gave up gaining any may install one. */
    sys6(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0);
    long result = sys3(__NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter);
    if (result < 0)
        host_fail("installing the system-call filter", result);
}
