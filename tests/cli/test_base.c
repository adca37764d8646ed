/* base/: paths, JSON, texts, errors. */
#include "support.h"

#include <base/json.h>
#include <base/path.h>
#include <base/screen.h>
#include <base/sha256.h>
#include <base/text.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

static void paths_are_normalised_by_text(void **state)
{
    static const char *const cases[][2] = {
        {"/", "/"},
        {"//a//b/", "/a/b"},
        {"/a/./b/../c", "/a/c"},
        {"/../..", "/"},
        {"a/../..", ".."},
        {"./a", "a"},
        {"", "."},
        {"a/..", "."},
        {"../../x/..", "../.."},
        {"/a/b/../../..", "/"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *normal = path_normalise(cases[i][0]);
        assert_string_equal(normal, cases[i][1]);
        free(normal);
    }
}

static void a_path_is_within_a_folder_only_by_whole_components(void **state)
{
    assert_true(path_is_within("/a/b", "/a"));
    assert_true(path_is_within("/a", "/a"));
    assert_false(path_is_within("/ab", "/a"));
    assert_true(path_is_within("/a", "/"));
}

static void what_json_writes_json_reads(void **state)
{
    static const char value[] = "quote \" back \\ line \n tab \t bell \a umlaut \xc3\xa4";
    struct text text = {0};
    struct json json = json_to(&text);
    char *const list[] = {"one", "two, three", "]"};
    json_object(&json);
    json_key_string(&json, "first", "a\"b");
    json_key_strings(&json, "list", list, 3);
    json_key(&json, "nested");
    json_object(&json);
    json_key_string(&json, "value", "hidden");
    json_object_end(&json);
    json_key_string(&json, "value", value);
    json_key_number(&json, "number", -42);
    json_key_boolean(&json, "truth", true);
    json_object_end(&json);

    char *read = NULL;
    int64_t number = 0;
    bool truth = false;
    struct text_list strings = {0};
    assert_true(json_read_string(text.data, "value", &read));
    assert_string_equal(read, value);
    assert_true(json_read_number(text.data, "number", &number));
    assert_int_equal(number, -42);
    assert_true(json_read_boolean(text.data, "truth", &truth));
    assert_true(truth);
    assert_true(json_read_strings(text.data, "list", &strings));
    assert_int_equal(strings.count, 3);
    assert_string_equal(strings.items[1], "two, three");
    assert_false(json_read_number(text.data, "value", &number));
    assert_false(json_read_string(text.data, "absent", &read));
    free(read);
    text_list_free(&strings);
    text_free(&text);
}

static void json_strings_are_valid_utf8_whatever_the_bytes(void **state)
{
    struct text text = {0};
    struct json json = json_to(&text);
    json_string(&json, "\xff\xc0\x80\xed\xa0\x80z");
    assert_string_equal(
        text.data, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\"");
    text_free(&text);
}

static void broken_json_has_no_members(void **state)
{
    static const char *const broken[] = {"",
                                         "{",
                                         "{\"a\"",
                                         "{\"a\":",
                                         "{\"a\":\"",
                                         "{\"a\":\"\\u12",
                                         "[]",
                                         "{\"a\":[\"b\"",
                                         "{\"a\":\"\\",
                                         "{,}",
                                         "{\"x\":{\"a\":\"b\"}"};
    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
        char *value = NULL;
        struct text_list list = {0};
        assert_false(json_read_string(broken[i], "a", &value));
        assert_false(json_read_strings(broken[i], "a", &list));
        text_list_free(&list);
    }
}

static void the_nearest_word_is_found_and_a_far_one_is_not(void **state)
{
    static const char *const words[] = {"volumes", "environment", "memory"};
    assert_string_equal(text_nearest("volume", words, 3), "volumes");
    assert_string_equal(text_nearest("memroy", words, 3), "memory");
    assert_null(text_nearest("zebra", words, 3));
}

static void an_error_is_wrapped_outward(void **state)
{
    struct error error = {0};
    assert_int_equal(error_set_errno(&error, -ENOENT, "cannot open %s", "x"), -ENOENT);
    assert_int_equal(error_wrap(&error, "%s", "file"), -ENOENT);
    error_hint(&error, "try %s", "y");
    assert_string_equal(error.message, "file: cannot open x: No such file or directory (try y)");
    assert_int_equal(error.exit_status, EXIT_BAILEY);
}

static void a_long_error_is_cut_not_overrun(void **state)
{
    struct error error = {0};
    char *text = test_repeat('x', 3 * ERROR_MESSAGE_SIZE);
    error_set(&error, -EINVAL, "%s", text);
    error_wrap(&error, "%s", text);
    error_hint(&error, "%s", text);
    assert_true(strlen(error.message) < ERROR_MESSAGE_SIZE);
    free(text);
}

static void expect_sum(const char *data, size_t count, const char *expected)
{
    struct sha256 sum;
    unsigned char out[SHA256_SIZE];
    char text[2 * SHA256_SIZE + 1];
    size_t size = strlen(data);
    char *all = malloc(size * count + 1);
    for (size_t i = 0; i < count; i++)
        memcpy(all + i * size, data, size);
    for (size_t step = 1; step < 200; step = step * 2 + 1) { /* in pieces of any size */
        sha256_begin(&sum);
        for (size_t at = 0; at < size * count; at += step)
            sha256_add(&sum, all + at, size * count - at < step ? size * count - at : step);
        sha256_end(&sum, out);
        for (size_t i = 0; i < SHA256_SIZE; i++)
            sprintf(text + 2 * i, "%02x", out[i]);
        assert_string_equal(text, expected);
    }
    free(all);
}

/* The examples of FIPS 180. */
static void sums_are_those_of_the_standard(void **state)
{
    expect_sum("", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    expect_sum("abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    expect_sum("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
               "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    expect_sum("a", 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

static void reasons_are_lines(void **state)
{
    struct error error = {0}, reason = {0};
    error_set(&reason, -EXDEV, "a\nb");
    error_add(&error, &reason);
    assert_string_equal(error.message, "a?b");
    assert_false(error.lines);
    error_set(&reason, -ESTALE, "second");
    assert_int_equal(error_add(&error, &reason), -EXDEV);
    error_add(&error, &reason);
    error_wrap(&error, "box");
    error_hint(&error, "it runs on");
    assert_string_equal(error.message, "box: a?b\nbox: second\nit runs on");
    assert_true(error.lines);
    struct error again = {0};
    error_set_lines(&again, -EIO, error.message, strlen(error.message));
    assert_true(again.lines);
    assert_string_equal(again.message, error.message);
    for (int i = 0; i < 1000; i++) {
        error_set(&reason, -ESTALE, "reason %d", i);
        error_add(&error, &reason);
    }
    assert_string_equal(strrchr(error.message, '\n'), "\nand more");
    assert_non_null(strstr(error.message, "\nreason 100\n"));
}

static void a_tree_is_removed_and_links_in_it_are_not_followed(void **state)
{
    char *folder = test_folder();
    char *victim = path_join(folder, "victim"), *tree = path_join(folder, "tree");
    test_file(victim, "kept", "text");
    test_file(tree, "a/b/c", "text");
    char *link = path_join(tree, "a/link");
    assert_int_equal(symlink(victim, link), 0);
    assert_int_equal(path_remove_tree(AT_FDCWD, tree), 0);
    assert_int_not_equal(access(tree, F_OK), 0);
    char *kept = path_join(victim, "kept");
    assert_int_equal(access(kept, F_OK), 0);
    test_remove(folder);
    free(victim);
    free(tree);
    free(link);
    free(kept);
}

static void follow(struct screen *screen, const char *text, size_t piece)
{
    for (size_t size = strlen(text), step; size; text += step, size -= step) {
        step = size < piece ? size : piece;
        screen_follow(screen, text, step);
    }
}

static void what_a_screen_was_left_with_is_taken_back(void **state)
{
    static const struct {
        const char *text, *leave;
    } cases[] = {
        {"plain \e[1;31mcoloured\e[0m text\e]0;title\a \e[5;10H \e[?7h", ""},
        {"\e[?1049h\e[22;0;0t\e[?1h\e=\e[?2004h\e[?25l", "\e[0m\e[?25h\e>\e[?2004l\e[?1l\e[?1049l"},
        {"\e[?1049h\e[?1h\e=\e[?25l\e[?25h\e>\e[?1l\e[?1049l", ""},
        {"\e[?1000;1006;47h", "\e[0m\e[?1006l\e[?1000l\e[?47l"},
        {"\e[?1000h\e[?2004h\ec", ""},
        {"\e[>4;2m\e[>1u\e[3 q", "\e[0 q\e[<u\e[>4;0m"},
        {"\e[>4;2m\e[>1u\e[3 q\e[0 q\e[<u\e[>4;m", ""},
        {"\e[2;20r", "\e7\e[r\e8"},
        {"\e[2;20r\e[r", ""},
        {"\e[?25l\e=\e[!p", ""},
        {"\e[?99999999999999999999;1049;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;25l\e[?1000h",
         "\e[?1000l"},
        {"\e\e[?2004h\e[?10\x18"
         "00h\e",
         "\e[?2004l"},
    };
    char text[SCREEN_TEXT_MAX];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (size_t piece = 1; piece < 20; piece++) {
            struct screen screen = {0};
            follow(&screen, cases[i].text, piece);
            size_t size = screen_leave(screen.modes, text);
            assert_int_equal(size, strlen(cases[i].leave));
            assert_memory_equal(text, cases[i].leave, size);
            assert_int_equal(screen_is_full(&screen),
                             strstr(cases[i].leave, "49l") || strstr(cases[i].leave, "47l"));
        }
    }
    /* What is entered is left again; and whatever an image tells fits. */
    for (uint32_t modes = 0; modes < 1u << 21; modes = modes * 2 + 1) {
        struct screen screen = {0};
        screen_follow(&screen, text, screen_enter(modes, text));
        assert_int_equal(screen.modes | 1u << 16 | 3u << 19, modes | 1u << 16 | 3u << 19);
        screen_follow(&screen, text, screen_leave(modes, text));
        assert_int_equal(screen.modes, 0);
    }
    assert_true(screen_enter(UINT32_MAX, text) < SCREEN_TEXT_MAX &&
                screen_leave(UINT32_MAX, text) < SCREEN_TEXT_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_are_normalised_by_text),
        cmocka_unit_test(a_path_is_within_a_folder_only_by_whole_components),
        cmocka_unit_test(what_json_writes_json_reads),
        cmocka_unit_test(json_strings_are_valid_utf8_whatever_the_bytes),
        cmocka_unit_test(broken_json_has_no_members),
        cmocka_unit_test(the_nearest_word_is_found_and_a_far_one_is_not),
        cmocka_unit_test(an_error_is_wrapped_outward),
        cmocka_unit_test(a_long_error_is_cut_not_overrun),
        cmocka_unit_test(reasons_are_lines),
        cmocka_unit_test(sums_are_those_of_the_standard),
        cmocka_unit_test(a_tree_is_removed_and_links_in_it_are_not_followed),
        cmocka_unit_test(what_a_screen_was_left_with_is_taken_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
