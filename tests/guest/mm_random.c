/* Random sequences of mmap, munmap, mprotect, mremap, madvise and fork over one arena, against a
 * model of what each page must be. The seeds are fixed: a failure can be repeated. */
#define _GNU_SOURCE
#include "guest.h"
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGES = 200, PAGE = 4096, STEPS = 2500, SHARED_WORDS = 1 << 20 };

struct page {
    int map; /* which mmap made it; 0: not mapped */
    int protection;
    int shared;     /* index of its word in the model of shared memory, -1: private */
    uint32_t value; /* first word, when private */
};
static struct page pages[PAGES];
static uint32_t *shared_values; /* the model's; itself shared with children */
static int shared_count, map_count, probe[2];
static char *arena;
static uint32_t state;

static uint32_t below(uint32_t limit)
{
    state = state * 1664525u + 1013904223u;
    return (state >> 8) % limit;
}

static uint32_t *word_of(int page)
{
    return (uint32_t *)(arena + page * PAGE);
}
static uint32_t *value_of(int page)
{
    return pages[page].shared >= 0 ? &shared_values[pages[page].shared] : &pages[page].value;
}

static void check_page(int page)
{
    unsigned char vector;
    int mapped = mincore(word_of(page), PAGE, &vector) == 0;
    CHECK_EQUAL(mapped, pages[page].map != 0);
    /* The kernel's copies find out about protections without a signal. */
    ssize_t got = write(probe[1], word_of(page), 4);
    CHECK_EQUAL(got == 4, pages[page].map && pages[page].protection != PROT_NONE);
    if (got != 4)
        return;
    uint32_t value;
    CHECK_EQUAL(read(probe[0], &value, 4), 4);
    CHECK_EQUAL(value, *value_of(page));
    CHECK_EQUAL(write(probe[1], &value, 4), 4);
    CHECK_EQUAL(read(probe[0], word_of(page), 4) == 4, (pages[page].protection & PROT_WRITE) != 0);
    if (!(pages[page].protection & PROT_WRITE))
        CHECK_EQUAL(read(probe[0], &value, 4), 4);
}

static void check_all(void)
{
    for (int i = 0; i < PAGES; i++)
        check_page(i);
}

static void do_map(int first, int count, int shared)
{
    static const int protections[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE,
                                      PROT_READ | PROT_WRITE};
    int protection = protections[below(4)];
    void *at = mmap(word_of(first), count * PAGE, protection,
                    (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK(at == word_of(first));
    map_count++;
    for (int i = first; i < first + count; i++) {
        pages[i] = (struct page){map_count, protection, -1, 0};
        if (shared) {
            CHECK(shared_count < SHARED_WORDS);
            pages[i].shared = shared_count++;
            *value_of(i) = 0;
        }
    }
}

static void do_unmap(int first, int count)
{
    CHECK_EQUAL(munmap(word_of(first), count * PAGE), 0);
    for (int i = first; i < first + count; i++)
        pages[i] = (struct page){0, 0, -1, 0};
}

static void do_protect(int first, int count)
{
    static const int protections[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE};
    int protection = protections[below(3)], hole = 0;
    for (int i = first; i < first + count && !hole; i++) {
        hole = !pages[i].map;
        if (!hole)
            pages[i].protection = protection;
    }
    errno = 0;
    int result = mprotect(word_of(first), count * PAGE, protection);
    CHECK(hole ? result == -1 && errno == ENOMEM : result == 0);
}

static void do_write(int first, int count)
{
    for (int i = first; i < first + count; i++)
        if (pages[i].protection & PROT_WRITE)
            *value_of(i) = *word_of(i) = below(1u << 31);
}

static void do_move(int first, int count, int target)
{
    if (!pages[first].map || (target < first + count && first < target + count) ||
        target + count > PAGES)
        return;
    for (int i = first; i < first + count; i++)
        if (pages[i].map != pages[first].map || pages[i].protection != pages[first].protection)
            return; /* mremap(2) moves one map at a time */
    void *at = mremap(word_of(first), count * PAGE, count * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
                      word_of(target));
    CHECK(at == word_of(target));
    int map = ++map_count; /* no longer one with its old neighbours */
    for (int i = 0; i < count; i++) {
        pages[target + i] = pages[first + i];
        pages[target + i].map = map;
        pages[first + i] = (struct page){0, 0, -1, 0};
    }
}

static void do_discard(int first, int count)
{
    int hole = 0;
    for (int i = first; i < first + count; i++) {
        hole |= !pages[i].map;
        pages[i].value = 0;
    }
    errno = 0;
    int result = madvise(word_of(first), count * PAGE, MADV_DONTNEED);
    CHECK(hole ? result == -1 && errno == ENOMEM : result == 0);
}

static void do_fork(void)
{
    pid_t child = fork();
    if (child == 0) {
        check_all();
        do_write(0, PAGES); /* shared words change for the parent too, private ones do not */
        check_all();
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_EQUAL(status, 0);
    check_all();
}

static void sequence(uint32_t seed)
{
    state = seed;
    memset(pages, 0, sizeof pages);
    for (int i = 0; i < PAGES; i++)
        pages[i].shared = -1;
    CHECK_EQUAL(munmap(arena, PAGES * PAGE), 0);
    shared_count = 0;
    for (int step = 0; step < STEPS; step++) {
        int first = below(PAGES), count = 1 + below(PAGES - first < 30 ? PAGES - first : 30);
        switch (below(14)) {
        case 0:
        case 1:
        case 2:
            do_map(first, count, 0);
            break;
        case 3:
            do_map(first, count, 1);
            break;
        case 4:
        case 5:
            do_unmap(first, count);
            break;
        case 6:
        case 7:
        case 8:
            do_protect(first, count);
            break;
        case 9:
        case 10:
            do_write(first, count);
            break;
        case 11:
        case 12:
            do_move(first, 1 + count / 4, below(PAGES));
            break;
        case 13:
            do_discard(first, count);
            break;
        }
        if (step % 100 == 0)
            check_all();
        if (step % 500 == 499)
            do_fork();
    }
    check_all();
}

static void start(void)
{
    if (arena)
        return;
    /* A place of its own, so that a hole is not taken by the C library meanwhile. */
    arena = (char *)0x200000000000;
    CHECK(mmap(arena, PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
               -1, 0) == arena);
    shared_values = mmap(NULL, SHARED_WORDS * sizeof(uint32_t), PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(shared_values != MAP_FAILED);
    CHECK_EQUAL(pipe(probe), 0);
}

static void pages_are_what_the_calls_made_them(void)
{
    start();
    for (uint32_t seed = 1; seed <= 8; seed++)
        sequence(seed * 7919);
}

static const struct guest_case cases[] = {GUEST_CASE(pages_are_what_the_calls_made_them)};
GUEST_MAIN(cases)
