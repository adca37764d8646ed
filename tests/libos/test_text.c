/* Text, tree and guest copies. */
#include <errno.h>
#include <sys/mman.h>

#include "libos/guest.h"
#include "libos/heap.h"
#include "libos/text.h"
#include "libos/tree.h"
#include "tests/libos/host.h"

static uint32_t random_state = 12345;
static uint32_t next_random(void)
{
    return random_state = random_state * 1664525u + 1013904223u;
}

static void copies_of_every_size_and_overlap_are_exact(void)
{
    static unsigned char from[1200], to[1200], expected[1200];

    for (int round = 0; round < 20000; round++) {
        size_t size = next_random() % 600, source = next_random() % 500,
               target = next_random() % 500;
        for (size_t i = 0; i < sizeof from; i++)
            expected[i] = to[i] = (unsigned char)(i * 7 + (size_t)round);
        if (round % 2) {
            for (size_t i = 0; i < size; i++)
                expected[target + i] = (unsigned char)((source + i) * 7 + (size_t)round);
            memmove(to + target, to + source, size);
        } else {
            for (size_t i = 0; i < sizeof from; i++)
                from[i] = (unsigned char)next_random();
            for (size_t i = 0; i < size; i++)
                expected[target + i] = from[source + i];
            memcpy(to + target, from + source, size);
        }
        bool same = true;
        for (size_t i = 0; i < sizeof to; i++)
            same = same && to[i] == expected[i];
        CHECK(same);
        if (!same)
            return;
        memset(to + target, 0x5a, size);
        for (size_t i = 0; i < size; i++)
            same = same && to[target + i] == 0x5a;
        CHECK(same && (target == 0 || to[target - 1] == expected[target - 1]) &&
              to[target + size] == expected[target + size]);
    }
}

static bool formats(const char *expected, const char *pattern, ...)
{
    char text[128];
    va_list arguments;

    va_start(arguments, pattern);
    int length = format_list(text, sizeof text, pattern, arguments);
    va_end(arguments);
    return strcmp(text, expected) == 0 && (size_t)length == strlen(expected);
}

static void format_writes_what_printf_would(void)
{
    CHECK(formats("-12 0012 12   |   12", "%d %04d %-5d|%5d", -12, 12, 12, 12));
    CHECK(formats("ff 0xff 0377 FF", "%x %#x %#o %X", 255, 255, 255, 255));
    CHECK(formats("18446744073709551615 -9223372036854775808", "%lu %lld", ~0ul,
                  (long long)(1ull << 63)));
    CHECK(formats("[ab][  abc][abc  ][c]%", "[%.2s][%5s][%-5s][%c]%%", "abc", "abc", "abc", 'c'));
    CHECK(formats("[007][  x][0x10]", "[%.3d][%*s][%p]", 7, 3, "x", (void *)16));
    char small[4];
    CHECK(format(small, sizeof small, "%s", "abcdef") == 6 && strcmp(small, "abc") == 0);
    uint64_t value = 0;
    CHECK(parse_number("0x1fz", 5, &value) == 4 && value == 31);
    CHECK(parse_number("017", 3, &value) == 3 && value == 15);
    CHECK(parse_number("42 ", 3, &value) == 2 && value == 42);
    CHECK(parse_number("x", 1, &value) == 0);
    CHECK(parse_number("0", 1, &value) == 1 && value == 0);
}

static void searches_find_what_they_should(void)
{
    CHECK(strstr("hello world", "o w") && !strstr("hello", "world") && strstr("x", ""));
    CHECK(strrchr("a/b/c", '/')[1] == 'c' && strchr("abc", 0)[0] == 0 && !strchr("abc", 'x'));
    CHECK(memcmp("abcdefgh1", "abcdefgh2", 9) < 0 && memcmp("abcdefghij", "abcdefghij", 10) == 0);
    CHECK(strnlen("abc", 2) == 2 && strncmp("abc", "abd", 2) == 0 && strcmp("a", "b") < 0);
}

struct item {
    struct tree_node node;
    uint32_t key;
    bool inside;
};
static int compare_items(const struct tree_node *a, const struct tree_node *b)
{
    uint32_t left = container_of(a, struct item, node)->key,
             right = container_of(b, struct item, node)->key;

    return left < right ? -1 : left > right;
}

static int32_t checked_height(const struct tree_node *node)
{
    if (!node)
        return 0;
    int32_t left = checked_height(node->left), right = checked_height(node->right);
    CHECK(left - right <= 1 && right - left <= 1);
    CHECK(node->height == (left > right ? left : right) + 1);
    CHECK(!node->left || node->left->parent == node);
    CHECK(!node->right || node->right->parent == node);
    return node->height;
}

static void tree_stays_sorted_and_balanced(void)
{
    static struct item items[500];
    struct tree tree = {0};

    for (int i = 0; i < 500; i++)
        items[i].key = (uint32_t)i * 2;
    for (int round = 0; round < 5000; round++) {
        struct item *item = &items[next_random() % 500];
        if (item->inside)
            tree_remove(&tree, &item->node);
        else
            CHECK(tree_insert(&tree, &item->node, compare_items));
        item->inside = !item->inside;
        if (round % 50)
            continue;
        checked_height(tree.root);
        struct tree_node *node = tree_first(&tree), *last = NULL;
        for (int i = 0; i < 500; i++) {
            if (!items[i].inside)
                continue;
            CHECK(node == &items[i].node && tree_prev(node) == last);
            last = node;
            node = tree_next(node);
        }
        CHECK(!node && tree_last(&tree) == last);
        struct item key = {.key = next_random() % 1000};
        struct tree_node *bound = tree_lower_bound(&tree, &key.node, compare_items);
        struct tree_node *before = bound ? tree_prev(bound) : tree_last(&tree);
        CHECK(!bound || container_of(bound, struct item, node)->key >= key.key);
        CHECK(!before || container_of(before, struct item, node)->key < key.key);
        if (bound) {
            struct item twin = {.key = container_of(bound, struct item, node)->key};
            CHECK(!tree_insert(&tree, &twin.node, compare_items));
        }
    }
}

static void guest_copies_stop_at_the_exact_byte(void)
{
    static char buffer[8192];
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    munmap(page + 4096, 4096);
    for (size_t room = 0; room < 700; room += room < 40 ? 1 : 37) {
        char *end = page + 4096 - room;
        CHECK(guest_read_some(buffer, end, 1000) == room);
        CHECK(guest_write_some(end, buffer, 1000) == room);
        CHECK(guest_read(buffer, end, room) == 0 && guest_read(buffer, end, room + 1) == -EFAULT);
        CHECK(guest_write(end, buffer, room) == 0 && guest_write(end, buffer, room + 1) == -EFAULT);
        CHECK(guest_zero(end, room) == 0 && guest_zero(end, room + 1) == -EFAULT);
    }
    memset(page, 'a', 4096);
    CHECK(guest_read_string(buffer, page + 4090, 100) == -EFAULT);
    CHECK(guest_read_string(buffer, page, 100) == -ENAMETOOLONG);
    page[4095] = 0;
    CHECK(guest_read_string(buffer, page + 4090, 100) == 5 && strcmp(buffer, "aaaaa") == 0);
    CHECK(guest_read_string(buffer, page + 4090, 6) == 5 &&
          guest_read_string(buffer, page + 4090, 5) == -ENAMETOOLONG);

    uint32_t value = 0, *word = (uint32_t *)page;
    CHECK(guest_store32(word, 7) == 0 && guest_load32(&value, word) == 0 && value == 7);
    uint32_t expected = 6;
    CHECK(guest_compare_exchange32(word, &expected, 8) == 0 && expected == 7 && *word == 7);
    CHECK(guest_compare_exchange32(word, &expected, 8) == 0 && expected == 7 && *word == 8);
    CHECK(guest_load32(&value, NULL) == -EFAULT && guest_store32(NULL, 0) == -EFAULT &&
          guest_compare_exchange32(NULL, &expected, 1) == -EFAULT);
}

static void guest_copies_refuse_baileys_window(void)
{
    char byte = 0;

    CHECK(guest_read(&byte, (void *)BLY_HEAP_START, 1) == -EFAULT);
    CHECK(guest_write((void *)BLY_HEAP_START, &byte, 1) == -EFAULT);
    CHECK(guest_read_some(&byte, (void *)BLY_HEAP_START, 1) == 0);
    CHECK(guest_write((void *)BLY_GUEST_MAX, &byte, 1) == -EFAULT);
    CHECK(guest_write((void *)0xffffffffffffffffull, &byte, 8) == -EFAULT);
    CHECK(guest_read_string(&byte, (void *)0xffff800000000000ull, 1) == -EFAULT);
    CHECK(guest_read(&byte, NULL, 0) == 0);
}

static const struct test tests[] = {
    {"copies_of_every_size_and_overlap_are_exact", copies_of_every_size_and_overlap_are_exact},
    {"format_writes_what_printf_would", format_writes_what_printf_would},
    {"searches_find_what_they_should", searches_find_what_they_should},
    {"tree_stays_sorted_and_balanced", tree_stays_sorted_and_balanced},
    {"guest_copies_stop_at_the_exact_byte", guest_copies_stop_at_the_exact_byte},
    {"guest_copies_refuse_baileys_window", guest_copies_refuse_baileys_window},
};

int main(void)
{
    test_host_start(0);
    return test_run(tests, sizeof tests / sizeof *tests);
}
