/* What tells a program which features the processor has agrees: the instruction wherever it stands, the compiler's and the C library's
 * view, /proc/cpuinfo, the auxiliary vector, signal frames. With CPU_LEVEL set it must also be exactly this level of x86-64 (2, 3 or 4);
 * with CPU_EVERYWHERE set in code made at run time too, which nobody can have patched; with CPU_UNTIL until that file is there. */
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "guest.h"

#define TILE (3ull << 17) /* needs permission: no frame holds it before */
#define XSAVE_BIT (1u << 26)
#define XSTATE_MAGIC 0x46505853u

struct result { uint32_t a, b, c, d; };

static struct result ask(uint32_t leaf, uint32_t subleaf)
{
    struct result result;
    __asm__ volatile("cpuid" : "=a"(result.a), "=b"(result.b), "=c"(result.c), "=d"(result.d) : "a"(leaf), "c"(subleaf));
    return result;
}

/* push %rbx; nop; cpuid; registers to (%rdi); pop %rbx; ret */
static const unsigned char asking_code[] = {0x53, 0x90, 0x0f, 0xa2, 0x89, 0x07, 0x89, 0x5f, 0x04, 0x89, 0x4f, 0x08, 0x89, 0x57, 0x0c, 0x5b, 0xc3};

/* The same by code that is no file's; the second time with a prefix that means nothing. */
static struct result ask_by_new_code(uint32_t leaf, uint32_t subleaf, bool prefix)
{
    unsigned char *place = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct result result;
    CHECK(place != MAP_FAILED);
    memcpy(place, asking_code, sizeof asking_code);
    if (prefix)
        place[1] = 0x48;
    __asm__ volatile("call *%1" : : "D"(&result), "r"(place), "a"(leaf), "c"(subleaf) : "rdx", "memory");
    munmap(place, 4096);
    return result;
}

/* The same by code of a file of which only this page is mapped as code. */
static struct result ask_by_file(int file, off_t page, uint32_t leaf)
{
    unsigned char *place = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, page * 4096);
    struct result result;
    CHECK(place != MAP_FAILED);
    __asm__ volatile("call *%1" : : "D"(&result), "r"(place), "a"(leaf), "c"(0) : "rdx", "memory");
    munmap(place, 4096);
    return result;
}

static char flags_of_cpuinfo[8192];

static bool cpuinfo_has(const char *name)
{
    char word[64], line[sizeof flags_of_cpuinfo];
    if (!flags_of_cpuinfo[0]) {
        FILE *file = fopen("/proc/cpuinfo", "r");
        CHECK(file);
        while (fgets(line, sizeof line, file) && strncmp(line, "flags", 5))
            ;
        fclose(file);
        CHECK(!strncmp(line, "flags", 5));
        line[strcspn(line, "\n")] = ' ';
        strcpy(flags_of_cpuinfo, strchr(line, ':') + 1);
    }
    snprintf(word, sizeof word, " %s ", name);
    return strstr(flags_of_cpuinfo, word);
}

static const struct {
    const char *name;
    uint32_t leaf, bit;
    char place; /* register */
    int level;  /* 0: of none */
} features[] = {
    {"sse2", 1, 26, 'd', 1}, {"ssse3", 1, 9, 'c', 2}, {"sse4_2", 1, 20, 'c', 2}, {"popcnt", 1, 23, 'c', 2}, {"cx16", 1, 13, 'c', 2}, {"aes", 1, 25, 'c', 0},
    {"pclmulqdq", 1, 1, 'c', 0}, {"rdrand", 1, 30, 'c', 0}, {"fma", 1, 12, 'c', 3}, {"movbe", 1, 22, 'c', 3}, {"avx", 1, 28, 'c', 3}, {"f16c", 1, 29, 'c', 3},
    {"xsave", 1, 26, 'c', 3}, {"bmi1", 7, 3, 'b', 3}, {"avx2", 7, 5, 'b', 3}, {"bmi2", 7, 8, 'b', 3}, {"avx512f", 7, 16, 'b', 4}, {"avx512dq", 7, 17, 'b', 4},
    {"avx512cd", 7, 28, 'b', 4}, {"avx512bw", 7, 30, 'b', 4}, {"avx512vl", 7, 31, 'b', 4}, {"sha_ni", 7, 29, 'b', 0}, {"avx512vbmi", 7, 1, 'c', 0},
    {"vaes", 7, 9, 'c', 0}, {"lahf_lm", 0x80000001u, 0, 'c', 2}, {"abm", 0x80000001u, 5, 'c', 3}, {"syscall", 0x80000001u, 11, 'd', 1},
    {"rdtscp", 0x80000001u, 27, 'd', 0},
};
#define FEATURE_COUNT (sizeof features / sizeof features[0])

static bool answer_has(struct result answer, size_t i)
{
    return (features[i].place == 'b' ? answer.b : features[i].place == 'c' ? answer.c : answer.d) >> features[i].bit & 1;
}

static bool has(size_t i)
{
    return (features[i].leaf != 7 || ask(0, 0).a >= 7) && answer_has(ask(features[i].leaf, 0), i);
}

static void cpuinfo_shows_what_the_instruction_says(void)
{
    for (size_t i = 0; i < FEATURE_COUNT; i++) {
        if (cpuinfo_has(features[i].name) != has(i))
            fprintf(stderr, "%s: ", features[i].name);
        CHECK_EQUAL(cpuinfo_has(features[i].name), has(i));
    }
}

static void the_auxiliary_vector_agrees(void)
{
    /* The C library puts words of its own in its copy. */
    uint64_t auxv[128] = {0}, i = 0;
    FILE *file = fopen("/proc/self/auxv", "r");
    CHECK(file && fread(auxv, 1, sizeof auxv - 16, file) > 0);
    fclose(file);
    while (auxv[i] != AT_HWCAP && auxv[i] != AT_NULL)
        i += 2;
    CHECK_EQUAL(auxv[i], AT_HWCAP);
    CHECK_EQUAL(auxv[i + 1], ask(1, 0).d);
}

static void the_compiler_agrees(void)
{
    __builtin_cpu_init();
    struct result one = ask(1, 0), seven = ask(0, 0).a >= 7 ? ask(7, 0) : (struct result){0};
    CHECK_EQUAL(!!__builtin_cpu_supports("sse4.2"), one.c >> 20 & 1);
    CHECK_EQUAL(!!__builtin_cpu_supports("avx"), one.c >> 28 & 1);
    CHECK_EQUAL(!!__builtin_cpu_supports("avx2"), seven.b >> 5 & 1);
    CHECK_EQUAL(!!__builtin_cpu_supports("avx512f"), seven.b >> 16 & 1);
    CHECK_EQUAL(!!__builtin_cpu_supports("aes"), one.c >> 25 & 1);
}

static uint64_t frame_features;
static uint32_t frame_size;

static void on_signal(int signal, siginfo_t *info, void *context)
{
    const unsigned char *image = (const void *)((ucontext_t *)context)->uc_mcontext.fpregs;
    uint32_t magic;
    memcpy(&magic, image + 464, sizeof magic);
    if (magic != XSTATE_MAGIC)
        return;
    memcpy(&frame_features, image + 464 + 8, sizeof frame_features);
    memcpy(&frame_size, image + 464 + 16, sizeof frame_size);
}

static void take_signal(void)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
}

static void signal_frames_hold_the_registers_there_are(void)
{
    take_signal();
    if (!(ask(1, 0).c & XSAVE_BIT))
        return;
    struct result vector = ask(0xd, 0);
    uint64_t there = ((uint64_t)vector.d << 32 | vector.a) & ~TILE;
    CHECK_EQUAL(frame_features & there, there);
    CHECK(frame_size <= vector.b);
    CHECK(frame_size < getauxval(AT_MINSIGSTKSZ));
    for (uint32_t i = 2; i < 16; i++)
        if (there >> i & 1) {
            struct result component = ask(0xd, i);
            CHECK(component.a && component.a + component.b <= frame_size);
        }
}

static void *ask_in_thread(void *out)
{
    *(struct result *)out = ask(1, 0);
    return NULL;
}

static void threads_and_children_see_the_same(void)
{
    struct result here = ask(1, 0), there;
    pthread_t thread;
    int status;
    CHECK(!pthread_create(&thread, NULL, ask_in_thread, &there) && !pthread_join(thread, NULL));
    CHECK(there.c == here.c && there.d == here.d);
    pid_t child = fork();
    if (!child) {
        there = ask(1, 0);
        _exit(there.c != here.c || there.d != here.d);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void every_part_of_a_files_code_sees_the_same(void)
{
    unsigned char page[4096];
    char name[] = "/tmp/cpuid-XXXXXX";
    int file = mkstemp(name);
    struct result here = ask(1, 0);
    CHECK(file >= 0);
    unlink(name);
    memset(page, 0x90, sizeof page);
    memcpy(page + 128, asking_code, sizeof asking_code);
    for (int i = 0; i < 12; i++)
        CHECK_EQUAL(write(file, page, sizeof page), sizeof page);
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 12; i += 2) {
            struct result there = ask_by_file(file, i, 1);
            CHECK(there.c == here.c && there.d == here.d);
        }
    close(file);
}

static void faults_of_the_program_reach_it(void)
{
    int status;
    pid_t child = fork();
    if (!child) {
        *(volatile char *)0x8000000000000000ull = 1; /* no address: the same exception as that of a CPUID that is not to be executed */
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

static void check_level(int level, bool everywhere)
{
    for (size_t i = 0; i < FEATURE_COUNT; i++) {
        bool promised = features[i].level && features[i].level <= level;
        if (has(i) != promised)
            fprintf(stderr, "%s: ", features[i].name);
        CHECK_EQUAL(has(i), promised);
        for (int prefix = 0; everywhere && prefix < 2; prefix++)
            CHECK_EQUAL(answer_has(ask_by_new_code(features[i].leaf, 0, prefix), i), promised);
    }
    __builtin_cpu_init();
    CHECK_EQUAL(!!__builtin_cpu_supports("x86-64-v2"), level >= 2);
    CHECK_EQUAL(!!__builtin_cpu_supports("x86-64-v3"), level >= 3);
    CHECK_EQUAL(!!__builtin_cpu_supports("x86-64-v4"), level >= 4);
    take_signal();
    if (everywhere)
        CHECK_EQUAL(frame_features, level == 2 ? 3 : level == 3 ? 7 : 0xe7);
    CHECK_EQUAL(ask(0x15, 0).a, 0);
    CHECK_EQUAL(ask(0x40000000u, 0).b, 0);
    CHECK_EQUAL(ask(0x7fffffffu, 0).b, 0);
}

static void it_is_exactly_the_level_asked_for(void)
{
    const char *level = getenv("CPU_LEVEL"), *until = getenv("CPU_UNTIL");
    if (!level)
        return;
    do {
        check_level(atoi(level), getenv("CPU_EVERYWHERE"));
        usleep(10000);
    } while (until && access(until, F_OK) < 0);
}

static const struct guest_case cases[] = {
    GUEST_CASE(cpuinfo_shows_what_the_instruction_says),
    GUEST_CASE(the_auxiliary_vector_agrees),
    GUEST_CASE(the_compiler_agrees),
    GUEST_CASE(signal_frames_hold_the_registers_there_are),
    GUEST_CASE(threads_and_children_see_the_same),
    GUEST_CASE(every_part_of_a_files_code_sees_the_same),
    GUEST_CASE(faults_of_the_program_reach_it),
    GUEST_CASE(it_is_exactly_the_level_asked_for),
};
GUEST_MAIN(cases)
