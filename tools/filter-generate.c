/* Compiles host/linux/filter.def: the closed list as BPF arrays (C text), or as a Markdown table.
 *
 * Usage: filter-generate program|document */

#define _GNU_SOURCE
#include <bailey/rpc.h>
#include <asm/prctl.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/filter.h>
#include <linux/membarrier.h>
#include <linux/mman.h>
#include <linux/sched.h>
#include <linux/userfaultfd.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define PROT_RWX (PROT_READ | PROT_WRITE | PROT_EXEC)
#define MAP_ALLOWED (MAP_SHARED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_POPULATE)
#define MREMAP_ALLOWED (MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP)
#define RECEIVE_FLAGS (MSG_DONTWAIT | MSG_CMSG_CLOEXEC)
#define CLONE_THREAD_FLAGS                                                                         \
    (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |            \
     CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID)
#define CLONE_FIRST_FLAGS (CLONE_CHILD_SETTID | SIGCHLD)
#define CLONE_OTHER_FLAGS (CLONE_PARENT | CLONE_CHILD_SETTID | SIGCHLD)

#define CLOCK_NUMBERED 15
/* clock_getcpuclockid(3): the inverted id, then 1 bit "of a thread", 2 bits of kind. */
#define CLOCK_ID (~(uint64_t)7)
#define CLOCK_OF_THREAD 6

enum { NAMESPACED = 1, SCOPED = 2, OPEN = 4, ALWAYS = 7, MODE_COUNT = 3 };
static const char *const modes[MODE_COUNT] = {"namespaced", "scoped", "open"};
struct condition {
    int argument; /* -1: end */
    uint64_t mask, value;
    const char *kind, *text;
};
struct rule {
    const char *name, *reason;
    int number;
    int modes;
    struct condition conditions[4];
};
#define EQ(argument, value)                                                                        \
    {                                                                                              \
        argument, UINT64_MAX, (uint64_t)(value), "=", #value                                       \
    }
#define BITS(argument, allowed)                                                                    \
    {                                                                                              \
        argument, ~(uint64_t)(allowed), 0, "within", #allowed                                      \
    }
#define BITS_WITH(argument, allowed, required)                                                     \
    {                                                                                              \
        argument, ~(uint64_t)(allowed), (uint64_t)(required), "within",                            \
            #allowed " with " #required                                                            \
    }
#define NONE                                                                                       \
    {                                                                                              \
        -1, 0, 0, NULL, NULL                                                                       \
    }
#define RULE(call, mode, reason, ...) {#call, reason, SCMP_SYS(call), mode, {__VA_ARGS__, NONE}},
static const struct rule rules[] = {
#include "../host/linux/filter.def"
};
enum { RULE_COUNT = sizeof rules / sizeof *rules, CALLS_MAX = 40 };

static void fail(const char *what, int error)
{
    fprintf(stderr, "filter-generate: %s: %s\n", what, strerror(error));
    exit(1);
}

static bool is_first_of_call(int i)
{
    for (int k = 0; k < i; k++)
        if (rules[k].number == rules[i].number)
            return false;
    return true;
}

static int call_count(void)
{
    int count = 0;
    for (int i = 0; i < RULE_COUNT; i++)
        count += is_first_of_call(i);
    return count;
}

/* Writes the array and returns its length. */
static int program_write(const char *name, int mode)
{
    scmp_filter_ctx context = seccomp_init(SCMP_ACT_ERRNO(1 /* EPERM */));
    if (!context)
        fail("seccomp_init", ENOMEM);
    seccomp_attr_set(context, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(1));
    int priority = 255;
    for (int i = 0; i < RULE_COUNT; i++) {
        const struct rule *rule = &rules[i];
        if (!(rule->modes & mode))
            continue;
        struct scmp_arg_cmp compares[4];
        unsigned count = 0;
        for (const struct condition *c = rule->conditions; c->argument >= 0; c++)
            compares[count++] =
                c->mask == UINT64_MAX
                    ? SCMP_CMP64((unsigned)c->argument, SCMP_CMP_EQ, c->value)
                    : SCMP_CMP64((unsigned)c->argument, SCMP_CMP_MASKED_EQ, c->mask, c->value);
        int error =
            seccomp_rule_add_exact_array(context, SCMP_ACT_ALLOW, rule->number, count, compares);
        if (error)
            fail(rule->name, -error);
        if (is_first_of_call(i))
            seccomp_syscall_priority(context, rule->number,
                                     (uint8_t)(priority > 0 ? priority-- : 0));
    }
    FILE *file = tmpfile();
    if (!file)
        fail("temporary file", errno);
    int error = seccomp_export_bpf(context, fileno(file));
    if (error)
        fail("seccomp_export_bpf", -error);
    seccomp_release(context);
    rewind(file);
    printf("static const struct sock_filter filter_%s[] = {\n", name);
    struct sock_filter instruction;
    int length = 0;
    for (; fread(&instruction, sizeof instruction, 1, file) == 1; length++)
        printf("    {0x%02x, %u, %u, 0x%08x},\n", instruction.code, instruction.jt, instruction.jf,
               instruction.k);
    printf("};\n");
    fclose(file);
    return length;
}

static void document_write(void)
{
    printf(
        "# Host system calls of a picoprocess\n\n"
        "Generated from `host/linux/filter.def`. These %d calls, with these arguments, are all "
        "that passes the\n"
        "seccomp filter, and only from the host layer's own instructions; every other call there "
        "is answered EPERM. A\n"
        "call from anywhere else, whatever its number, is trapped and served by the personality.\n"
        "*namespaced* rules hold where the sandbox has a pid namespace of its own, *scoped* ones "
        "where it has none but\n"
        "Landlock keeps its signals inside, *open* ones where neither is available.\n\n"
        "| call | arguments | when | what for |\n|---|---|---|---|\n",
        call_count());
    for (int i = 0; i < RULE_COUNT; i++) {
        printf("| `%s` | ", rules[i].name);
        const struct condition *c = rules[i].conditions;
        if (c->argument < 0)
            printf("any");
        for (; c->argument >= 0; c++)
            printf("%sargument %d %s `%s`", c == rules[i].conditions ? "" : ", ", c->argument,
                   c->kind, c->text);
        const char *separator = "";
        printf(" | ");
        for (int mode = 0; mode < MODE_COUNT && rules[i].modes != ALWAYS; mode++)
            if (rules[i].modes & 1 << mode) {
                printf("%s%s", separator, modes[mode]);
                separator = ", ";
            }
        printf("%s | %s |\n", rules[i].modes == ALWAYS ? "always" : "", rules[i].reason);
    }
    printf("\n`MAP_ALLOWED` is `MAP_SHARED`, `MAP_PRIVATE`, `MAP_ANONYMOUS`, `MAP_NORESERVE` and "
           "`MAP_POPULATE`. The three words of flags\n"
           "for `clone` are those of `host/linux/thread.c` and `process.c`: a thread, and a copy "
           "of the process with or without\n"
           "`CLONE_PARENT`; no namespaces, no shared memory with a new process. `CLOCK_NUMBERED` "
           "are the clocks "
           "0 to 15;\n"
           "`CLOCK_OF_THREAD` marks the CPU-time clock of one thread, which the kernel looks for "
           "in the caller's "
           "own process only.\n\n"
           "Linux itself passes two further numbers by every filter (335 `uretprobe`, 336 "
           "`uprobe`): called by a program they\n"
           "raise SIGILL in it or fail.\n");
}

int main(int count, char **arguments)
{
    if (call_count() > CALLS_MAX) {
        fprintf(stderr, "filter-generate: %d calls, at most %d are allowed\n", call_count(),
                CALLS_MAX);
        return 1;
    }
    if (count == 2 && !strcmp(arguments[1], "document")) {
        document_write();
        return 0;
    }
    printf("/* Generated from filter.def. */\n#include <linux/filter.h>\n\n");
    int longest = 0, lengths[MODE_COUNT];
    for (int mode = 0; mode < MODE_COUNT; mode++) {
        lengths[mode] = program_write(modes[mode], 1 << mode);
        longest = lengths[mode] > longest ? lengths[mode] : longest;
    }
    printf("enum { FILTER_NAMESPACED, FILTER_SCOPED, FILTER_OPEN };\n"
           "static const struct filter_variant { const struct sock_filter *program; size_t count; "
           "} filter_variants[] = {\n");
    for (int mode = 0; mode < MODE_COUNT; mode++)
        printf("    {filter_%s, %d},\n", modes[mode], lengths[mode]);
    printf("};\n#define FILTER_LENGTH_MAX %d\n", longest);
    return 0;
}
