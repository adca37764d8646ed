/* Tar streams: what is written can be read, here and by the host's tar; a hostile stream changes
 * nothing outside the target. */
#include "support.h"

#include <cli/tar-format.h>
#include <cli/tar.h>
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>

static int stream; /* an unlinked file that plays the pipe */

static void begin_stream(void)
{
    stream = memfd_create("stream", MFD_CLOEXEC);
    assert_true(stream >= 0);
}

static int read_stream(const char *folder, struct error *error)
{
    lseek(stream, 0, SEEK_SET);
    int place = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result = tar_read(stream, place, "source", "target", error);
    close(place);
    close(stream);
    return result;
}

static void put_header(const char *name, char type, const char *link, size_t size)
{
    struct tar_header header = {.type = type};
    memcpy(header.name, name, strnlen(name, sizeof(header.name)));
    if (link)
        memcpy(header.link, link, strnlen(link, sizeof(header.link)));
    memcpy(header.mode, "0000644", 8);
    snprintf(header.size, sizeof(header.size), "%011o", (unsigned)size);
    memcpy(header.magic, "ustar\0", 6);
    snprintf(header.checksum, sizeof(header.checksum), "%06o", (unsigned)tar_checksum(&header));
    assert_int_equal(write(stream, &header, sizeof(header)), sizeof(header));
}

static void put_file(const char *name, const char *content)
{
    char block[TAR_BLOCK] = {0};
    put_header(name, '0', NULL, strlen(content));
    strncpy(block, content, sizeof(block) - 1);
    if (*content)
        assert_int_equal(write(stream, block, sizeof(block)), sizeof(block));
}

static void check_content(const char *folder, const char *name, const char *expected)
{
    char *content = NULL, *path = path_join(folder, name);
    assert_int_equal(path_read_file(AT_FDCWD, path, 1 << 20, &content, NULL), 0);
    assert_string_equal(content, expected);
    free(content);
    free(path);
}

static void a_tree_survives_the_way_out_and_in(void **state)
{
    char *folder = test_folder(), *from = path_join(folder, "from");
    char *deep = test_repeat('d', 120), *long_name = text_print("%s/%s/end", deep, deep);
    test_file(from, "a", "alpha");
    test_file(from, "empty", "");
    test_file(from, "sub/b", "beta");
    test_file(from, long_name, "far");
    char *link = path_join(from, "link"), *long_link = path_join(from, "long");
    assert_int_equal(symlink("sub/b", link), 0);
    assert_int_equal(symlink(long_name, long_link), 0);
    char *script = path_join(from, "sub/b");
    chmod(script, 0750);
    struct error error = {0};
    begin_stream();
    assert_int_equal(tar_write(stream, from, "source", &error), 0);
    assert_int_equal(read_stream(folder, &error), 0);
    check_content(folder, "target/a", "alpha");
    check_content(folder, "target/empty", "");
    check_content(folder, "target/link", "beta");
    check_content(folder, "target/long", "far");
    struct stat status;
    char *copied = path_join(folder, "target/sub/b");
    assert_int_equal(stat(copied, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0750);
    char *const texts[] = {from, deep, long_name, link, long_link, script, copied};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        free(texts[i]);
    test_remove(folder);
}

static void the_hosts_tar_reads_and_writes_the_same(void **state)
{
    char *folder = test_folder(), *from = path_join(folder, "source");
    char *deep = test_repeat('d', 130), *name = text_print("%s/file", deep);
    test_file(from, name, "far");
    test_file(from, "near", "x");
    struct error error = {0};
    for (int pax = 0; pax < 2; pax++) {
        char *command = text_print("cd %s && rm -rf target && tar --format=%s -cf archive source",
                                   folder, pax ? "pax" : "gnu");
        if (system(command) != 0)
            skip();
        free(command);
        char *archive = path_join(folder, "archive");
        stream = open(archive, O_RDONLY | O_CLOEXEC);
        assert_int_equal(read_stream(folder, &error), 0);
        char *copied = text_print("target/%s", name);
        check_content(folder, copied, "far");
        free(copied);
        free(archive);
    }
    begin_stream();
    assert_int_equal(tar_write(stream, from, "again", &error), 0);
    char *command = text_print("tar -C %s -xf /proc/%d/fd/%d", folder, (int)getpid(), stream);
    assert_int_equal(system(command), 0);
    char *copied = text_print("again/%s", name);
    check_content(folder, copied, "far");
    close(stream);
    free(command);
    free(copied);
    free(deep);
    free(name);
    free(from);
    test_remove(folder);
}

static void a_hostile_stream_does_not_leave_the_target(void **state)
{
    static const char *const climbing[] = {"../evil", "source/../../evil", "/etc/evil",
                                           "other",   "sourcex",           "source/../evil"};
    for (size_t i = 0; i < sizeof(climbing) / sizeof(climbing[0]); i++) {
        char *folder = test_folder();
        struct error error = {0};
        begin_stream();
        put_file(climbing[i], "evil");
        assert_true(read_stream(folder, &error) < 0);
        test_remove(folder);
    }
}

static void a_file_behind_a_link_is_not_written(void **state)
{
    char *folder = test_folder(), *outside = test_folder();
    test_file(outside, "file", "kept");
    char *victim = path_join(outside, "file");
    struct error error = {0};
    /* Through a link to a folder. */
    begin_stream();
    put_header("source", '5', NULL, 0);
    put_header("source/way", '2', outside, 0);
    put_file("source/way/file", "evil");
    assert_true(read_stream(folder, &error) < 0);
    check_content(outside, "file", "kept");
    /* Onto a link to a file: the link is replaced. */
    begin_stream();
    put_header("source", '5', NULL, 0);
    put_header("source/link", '2', victim, 0);
    put_file("source/link", "new");
    assert_int_equal(read_stream(folder, &error), 0);
    check_content(outside, "file", "kept");
    check_content(folder, "target/link", "new");
    /* By a hard link to a file outside. */
    begin_stream();
    put_header("source", '5', NULL, 0);
    put_header("source/hard", '1', victim, 0);
    assert_true(read_stream(folder, &error) < 0);
    begin_stream();
    put_header("source", '5', NULL, 0);
    put_header("source/hard", '1', "source/../../x", 0);
    assert_true(read_stream(folder, &error) < 0);
    /* The target itself is a link. */
    char *target = path_join(folder, "target");
    assert_int_equal(path_remove_tree(AT_FDCWD, target), 0);
    assert_int_equal(symlink(outside, target), 0);
    begin_stream();
    put_file("source/file", "evil");
    assert_true(read_stream(folder, &error) < 0);
    check_content(outside, "file", "kept");
    free(target);
    free(victim);
    test_remove(folder);
    test_remove(outside);
}

static void a_broken_stream_is_refused(void **state)
{
    char *folder = test_folder();
    struct error error = {0};
    begin_stream();
    assert_true(read_stream(folder, &error) < 0); /* empty */
    begin_stream();
    put_header("source", '0', NULL, 5000);
    assert_true(read_stream(folder, &error) < 0); /* cut off */
    begin_stream();
    put_header("source", 'L', NULL, 1 << 30);
    assert_true(read_stream(folder, &error) < 0); /* endless name */
    begin_stream();
    char noise[TAR_BLOCK];
    memset(noise, 'n', sizeof(noise));
    assert_int_equal(write(stream, noise, sizeof(noise)), sizeof(noise));
    assert_true(read_stream(folder, &error) < 0); /* wrong checksum */
    test_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tree_survives_the_way_out_and_in),
        cmocka_unit_test(the_hosts_tar_reads_and_writes_the_same),
        cmocka_unit_test(a_hostile_stream_does_not_leave_the_target),
        cmocka_unit_test(a_file_behind_a_link_is_not_written),
        cmocka_unit_test(a_broken_stream_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
