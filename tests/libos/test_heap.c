/* Kernel heap and bulk segment. */
#include <errno.h>
#include <sys/mman.h>

#include "libos/heap.h"
#include "libos/text.h"
#include "tests/libos/host.h"

enum { LIMIT = 256 << 20 };

static bool filled_with(const unsigned char *area, size_t size, unsigned char value)
{
    for (size_t i = 0; i < size; i++)
        if (area[i] != value)
            return false;
    return true;
}

static void objects_are_zeroed_aligned_and_apart(void)
{
    static struct {
        unsigned char *address;
        size_t size;
    } objects[2000];
    uint32_t state = 1;

    for (int round = 0; round < 40000; round++) {
        state = state * 1664525u + 1013904223u;
        int i = (int)(state >> 8) % 2000;
        if (objects[i].address) {
            CHECK(filled_with(objects[i].address, objects[i].size, (unsigned char)i));
            heap_free(objects[i].address);
            objects[i].address = NULL;
            continue;
        }
        size_t size = (state >> 20) % (round % 16 ? 700 : 20000);
        objects[i].size = size;
        objects[i].address = heap_alloc(size);
        CHECK(objects[i].address && (uint64_t)objects[i].address % (size >= 4096 ? 4096 : 16) == 0);
        CHECK(filled_with(objects[i].address, size, 0));
        memset(objects[i].address, i, size);
    }
    for (int i = 0; i < 2000; i++)
        heap_free(objects[i].address);
    heap_free(NULL);
}

static void realloc_keeps_contents_and_zeroes_the_rest(void)
{
    unsigned char *object = NULL;
    size_t size = 0;

    for (size_t next = 1; next < 100000; next = next * 3 / 2 + 1) {
        object = heap_realloc(object, size, next);
        CHECK(object && filled_with(object, size, 0xaa) &&
              filled_with(object + size, next - size, 0));
        memset(object, 0xaa, next);
        size = next;
    }
    object = heap_realloc(object, size, 10);
    CHECK(object && filled_with(object, 10, 0xaa));
    heap_free(object);
    char *text = heap_string("hello", 4);
    CHECK(text && strcmp(text, "hell") == 0);
    heap_free(text);
}

static void bulk_pages_are_zero_and_given_back(void)
{
    unsigned char present[1024];
    int64_t offset = bulk_alloc(1024);
    unsigned char *pages = (unsigned char *)BLY_BULK_START + offset;

    CHECK(offset > 0 && offset % 4096 == 0);
    memset(pages, 1, 1024 * 4096);
    bulk_free((uint64_t)offset, 1024);
    CHECK(mincore(pages, 1024 * 4096, present) == 0);
    CHECK(filled_with(present, 1024, 0));

    static int64_t singles[3000];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 3000; i++) {
            singles[i] = bulk_alloc(1);
            CHECK(singles[i] > 0 &&
                  filled_with((unsigned char *)BLY_BULK_START + singles[i], 4096, 0));
            memset((unsigned char *)BLY_BULK_START + singles[i], 2, 4096);
        }
        for (int i = 0; i < 3000; i++)
            bulk_free((uint64_t)singles[(i * 7) % 3000], 1);
    }
    int64_t small = bulk_alloc(20);
    memset((unsigned char *)BLY_BULK_START + small, 3, 20 * 4096);
    bulk_free((uint64_t)small, 20);
    small = bulk_alloc(10);
    CHECK(filled_with((unsigned char *)BLY_BULK_START + small, 10 * 4096, 0));
    bulk_free((uint64_t)small, 10);
    struct heap_usage usage;
    heap_usage(&usage);
    CHECK(usage.bulk_bytes == 0);
}

static void the_limit_holds_over_all_kinds(void)
{
    struct heap_usage before, after;

    heap_usage(&before);
    CHECK(before.limit_bytes == LIMIT);
    CHECK(bulk_alloc(LIMIT / 4096) == -ENOMEM);
    CHECK(!heap_alloc(LIMIT));
    CHECK(!heap_charge_private(LIMIT));
    CHECK(heap_charge_private(LIMIT / 2));
    CHECK(bulk_alloc(LIMIT / 2 / 4096) == -ENOMEM);
    heap_uncharge_private(LIMIT / 2);
    int64_t offset = bulk_alloc(LIMIT / 2 / 4096);
    CHECK(offset > 0 && !heap_charge_private(LIMIT / 2));
    bulk_free((uint64_t)offset, LIMIT / 2 / 4096);
    heap_usage(&after);
    CHECK(after.heap_bytes == before.heap_bytes && after.bulk_bytes == before.bulk_bytes &&
          after.private_bytes == before.private_bytes);
}

static void free_twice(void)
{
    void *object = heap_alloc(100);
    heap_free(object);
    heap_free(object);
}
static void free_inside(void)
{
    heap_free((char *)heap_alloc(100) + 16);
}
static void free_foreign(void)
{
    static int foreign;
    heap_free(&foreign);
}
static void wrong_frees_are_caught(void)
{
    CHECK(test_panics(free_twice) && test_panics(free_inside) && test_panics(free_foreign));
}

static void churn(void *argument)
{
    static const size_t sizes[] = {16, 100, 300, 1000, 3000, 9000, 40};
    uint64_t *mine[64] = {0};
    uint32_t state = (uint32_t)(uint64_t)argument;
    int64_t bulk[16] = {0};

    for (int round = 0; round < 100000; round++) {
        state = state * 1664525u + 1013904223u;
        unsigned i = (state >> 10) % 64;
        if (mine[i]) {
            CHECK(*mine[i] == (uint64_t)argument * 64 + i);
            heap_free(mine[i]);
            mine[i] = NULL;
        } else {
            mine[i] = heap_alloc(sizes[(state >> 20) % 7]);
            CHECK(mine[i] && *mine[i] == 0);
            *mine[i] = (uint64_t)argument * 64 + i;
        }
        if (round % 8)
            continue;
        i %= 16;
        if (bulk[i]) {
            CHECK(*(uint64_t *)(BLY_BULK_START + (uint64_t)bulk[i]) == (uint64_t)argument);
            bulk_free((uint64_t)bulk[i], i + 1);
            bulk[i] = 0;
        } else {
            bulk[i] = bulk_alloc(i + 1);
            CHECK(bulk[i] > 0 && *(uint64_t *)(BLY_BULK_START + (uint64_t)bulk[i]) == 0);
            *(uint64_t *)(BLY_BULK_START + (uint64_t)bulk[i]) = (uint64_t)argument;
        }
    }
    for (int i = 0; i < 64; i++)
        heap_free(mine[i]);
    for (int i = 0; i < 16; i++)
        if (bulk[i])
            bulk_free((uint64_t)bulk[i], (uint64_t)i + 1);
}

static void four_threads_churn_without_meeting(void)
{
    uint64_t threads[4];

    for (uint64_t i = 0; i < 4; i++)
        threads[i] = test_thread_start(churn, (void *)(i + 1));
    for (int i = 0; i < 4; i++)
        test_thread_join(threads[i]);
    struct heap_usage usage;
    heap_usage(&usage);
    CHECK(usage.bulk_bytes == 0 && usage.heap_bytes < 1 << 20);
}

static void speed_is_told(void)
{
    uint64_t start = test_now_ns();

    for (int i = 0; i < 1000000; i++)
        heap_free(heap_alloc(64));
    test_say("heap_alloc + heap_free: %lu ns", (test_now_ns() - start) / 1000000);
}

static const struct test tests[] = {
    {"objects_are_zeroed_aligned_and_apart", objects_are_zeroed_aligned_and_apart},
    {"realloc_keeps_contents_and_zeroes_the_rest", realloc_keeps_contents_and_zeroes_the_rest},
    {"bulk_pages_are_zero_and_given_back", bulk_pages_are_zero_and_given_back},
    {"the_limit_holds_over_all_kinds", the_limit_holds_over_all_kinds},
    {"wrong_frees_are_caught", wrong_frees_are_caught},
    {"four_threads_churn_without_meeting", four_threads_churn_without_meeting},
    {"speed_is_told", speed_is_told},
};

int main(void)
{
    test_host_start(LIMIT);
    return test_run(tests, sizeof tests / sizeof *tests);
}
