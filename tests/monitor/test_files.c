/* No name reaches anything outside its granted folder: not by links, `..`, magic links or names exchanged meanwhile; nothing waits on a
 * FIFO; nothing is written where writing was not granted; the default view shows what everybody may read. */
#include "support.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/xattr.h>

#define R BLY_ACCESS_READ
#define W BLY_ACCESS_WRITE

static void names_that_are_not_plain_are_refused(void **state)
{
    static const struct { const char *uri; int error; } cases[] = {
        {"file:0/..", -EINVAL}, {"file:0/folder/../..", -EINVAL}, {"file:0/.", -EINVAL}, {"file:0//etc", -EINVAL},
        {"file:0/folder/", -EINVAL}, {"file:0/folder//deep", -EINVAL}, {"file:", -EINVAL}, {"file:/etc", -EINVAL},
        {"file:00000000000000000000001/x", -EINVAL}, {"file:-1/x", -EINVAL}, {"file:9/x", -ENOENT}, {"file:4294967296/x", -EINVAL},
        {"file:0x", -EINVAL}, {"tcp:0/x", -EINVAL}, {"", -EINVAL}, {"file:3/x", -ENOTDIR}, {"dir:0", 0}, {"file:0/", 0}, {"file:0/a", 0},
        {"file:0/...", 0}, {"file:0/..a", 0}};
    struct mon_name name;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(decode(*state, cases[i].uri, &name), cases[i].error);
    assert_int_equal(mon_name_decode(&((struct fixture *)*state)->files, "file:0/a\0b", 10, &name), -EINVAL);

    char uri[5000] = "file:0/";
    memset(uri + 7, 'a', 256);
    assert_int_equal(mon_name_decode(&((struct fixture *)*state)->files, uri, 7 + 255, &name), 0);
    assert_int_equal(mon_name_decode(&((struct fixture *)*state)->files, uri, 7 + 256, &name), -ENAMETOOLONG);
    for (size_t i = 7; i < sizeof(uri); i++)
        uri[i] = i % 2 ? 'a' : '/';
    assert_int_equal(mon_name_decode(&((struct fixture *)*state)->files, uri, 4999, &name), -ENAMETOOLONG);
}

static void links_are_never_followed(void **state)
{
    static const char *const uris[] = {"file:0/up", "file:0/absolute", "file:0/link", "file:0/magic", "file:0/link/deep/file",
                                       "file:0/magic/etc/passwd", "file:1/up", "file:1/magic/etc/passwd"};
    for (size_t i = 0; i < sizeof(uris) / sizeof(uris[0]); i++) {
        assert_int_equal(open_uri(*state, uris[i], R, 0), -ELOOP);
        assert_int_equal(open_uri(*state, uris[i], R, BLY_OPEN_DIRECTORY), i < 4 || i == 6 ? -ENOTDIR : -ELOOP);
        int created = open_uri(*state, uris[i], R | W, BLY_OPEN_CREATE);
        assert_true(created == -ELOOP || created == -EROFS);
    }
}

static void a_walk_stops_at_the_first_link(void **state)
{
    struct bly_walk_result walk;
    assert_int_equal(walk_uri(*state, "file:0/folder/deep/file", &walk), 0);
    assert_int_equal(walk.attributes.kind, BLY_KIND_FILE);
    assert_int_equal(walk.consumed, strlen("folder/deep/file"));
    assert_int_equal(walk.attributes.owner, 0);

    assert_int_equal(walk_uri(*state, "file:0/link/deep/file", &walk), 0);
    assert_int_equal(walk.attributes.kind, BLY_KIND_SYMLINK);
    assert_int_equal(walk.consumed, strlen("link"));
    assert_int_equal(walk.link_size, strlen("folder"));
    assert_memory_equal(walk.link, "folder", 6);

    assert_int_equal(walk_uri(*state, "file:0/magic", &walk), 0);
    assert_int_equal(walk.attributes.kind, BLY_KIND_SYMLINK);
    assert_memory_equal(walk.link, "/proc/self/root", walk.link_size);

    assert_int_equal(walk_uri(*state, "file:0/", &walk), 0);
    assert_int_equal(walk.attributes.kind, BLY_KIND_DIRECTORY);
    assert_int_equal(walk_uri(*state, "file:0/none/x", &walk), -ENOENT);
    assert_int_equal(walk_uri(*state, "file:0/plain/x", &walk), -ENOTDIR);
    assert_int_equal(walk_uri(*state, "file:0/fifo", &walk), 0);
    assert_int_equal(walk.attributes.kind, BLY_KIND_FIFO);
}

static int watch_uri(struct fixture *fixture, const char *uri)
{
    struct mon_name name;
    int result = decode(fixture, uri, &name);
    return result < 0 ? result : mon_file_watch(&fixture->files, &name);
}

static void only_granted_folders_are_watched(void **state)
{
    struct fixture *fixture = *state;
    char event[512];
    int watch = watch_uri(fixture, "file:0/folder");
    assert_true(watch > 0);
    assert_int_equal(watch_uri(fixture, "file:0/folder"), watch);
    assert_int_equal(watch_uri(fixture, "file:0/plain"), -ENOTDIR);
    assert_int_equal(watch_uri(fixture, "file:0/up"), -ENOTDIR); /* a link itself */
    assert_int_equal(watch_uri(fixture, "file:0/link/deep"), -ELOOP);
    assert_int_equal(watch_uri(fixture, "file:0/none"), -ENOENT);
    assert_int_equal(watch_uri(fixture, "file:2/open"), -EOPNOTSUPP); /* the default view */
    assert_int_equal(read(fixture->files.watch, event, sizeof(event)), -1);
    assert_int_equal(errno, EAGAIN);
    write_text(in_fixture(fixture, "granted/folder/seen"), "x", 0644);
    assert_true(read(fixture->files.watch, event, sizeof(event)) > 0);
    assert_int_equal(*(int *)event, watch);
    assert_int_equal(unlink(in_fixture(fixture, "granted/folder/seen")), 0);
}

static void fifos_sockets_and_devices_are_not_opened(void **state)
{
    struct fixture *fixture = *state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/granted/socket", fixture->root);
    int server = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(server, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(open_uri(fixture, "file:0/socket", R, 0), -ENXIO);
    close(server);

    assert_int_equal(open_uri(fixture, "file:0/fifo", R, 0), -ENXIO);
    assert_int_equal(open_uri(fixture, "file:0/fifo", R | W, BLY_OPEN_CREATE), -ENXIO);
    if (mknod(in_fixture(fixture, "granted/device"), S_IFCHR | 0666, 0x0103) == 0) /* null */
        assert_int_equal(open_uri(fixture, "file:0/device", R, 0), -ENXIO);

    /* Granted by itself it is: and still nothing waits for a writer. */
    int descriptor = open_uri(fixture, "file:4", R, 0);
    assert_true(descriptor >= 0);
    close(descriptor);
}

static void read_only_grants_are_never_written(void **state)
{
    struct fixture *fixture = *state;
    struct mon_name name, other;
    struct bly_attributes attributes = {.mode = 0600};
    static const char *const mounts[] = {"file:1/plain", "file:2/open/public"};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(open_uri(fixture, mounts[i], W, 0), -EROFS);
        assert_int_equal(open_uri(fixture, mounts[i], R | W, 0), -EROFS);
        assert_int_equal(open_uri(fixture, mounts[i], R, BLY_OPEN_TRUNCATE), -EROFS);
        int descriptor = open_uri(fixture, mounts[i], R, BLY_OPEN_CREATE);
        assert_true(descriptor >= 0);
        assert_int_equal(fcntl(descriptor, F_GETFL) & O_ACCMODE, O_RDONLY);
        assert_true(ftruncate(descriptor, 0) < 0);
        close(descriptor);
        assert_int_equal(decode(fixture, mounts[i], &name), 0);
        assert_int_equal(mon_file_delete(&fixture->files, &name, 0), -EROFS);
        assert_int_equal(mon_file_set(&fixture->files, &name, &attributes, BLY_SET_MODE), -EROFS);
        assert_int_equal(mon_file_set(&fixture->files, &name, &attributes, BLY_SET_SIZE), -EROFS);
        assert_int_equal(mon_file_set_named(&fixture->files, &name, "user.x", "1", 1, 0), -EROFS);
        assert_int_equal(mon_file_rename(&fixture->files, &name, &name, 0), -EROFS);
        assert_int_equal(mon_file_create(&fixture->files, &name, BLY_KIND_DIRECTORY, 0755, "", &attributes), -EEXIST);
    }
    assert_int_equal(open_uri(fixture, "file:1/new", W, BLY_OPEN_CREATE), -EROFS);
    assert_int_equal(open_uri(fixture, "dir:1/folder", R | W, BLY_OPEN_TEMPORARY), -EROFS);
    assert_int_equal(decode(fixture, "file:1/new", &name), 0);
    assert_int_equal(mon_file_create(&fixture->files, &name, BLY_KIND_DIRECTORY, 0755, "", &attributes), -EROFS);
    /* From a writable view of the same folder into the read-only one: two mounts. */
    assert_int_equal(decode(fixture, "file:0/plain", &other), 0);
    assert_int_equal(mon_file_rename(&fixture->files, &other, &name, 0), -EXDEV);
    assert_int_equal(mon_file_link(&fixture->files, &name, &other, &attributes), -EXDEV);
}

static void the_default_view_shows_what_everybody_may_read(void **state)
{
    struct bly_walk_result walk;
    int descriptor = open_uri(*state, "file:2/open/public", R, 0);
    assert_true(descriptor >= 0);
    close(descriptor);
    assert_int_equal(open_uri(*state, "file:2/open/secret", R, 0), -EACCES);
    assert_int_equal(open_uri(*state, "file:2/private/public", R, 0), -EACCES);
    assert_int_equal(open_uri(*state, "dir:2/private", R, BLY_OPEN_DIRECTORY), -EACCES);
    assert_int_equal(walk_uri(*state, "file:2/private/public", &walk), -EACCES);
    /* Whether a name exists behind a closed folder is not told either. */
    assert_int_equal(walk_uri(*state, "file:2/private/none", &walk), -EACCES);
    assert_int_equal(walk_uri(*state, "file:2/private", &walk), 0);
    assert_int_equal(walk_uri(*state, "file:2/open/none", &walk), -ENOENT);

    chmod(in_fixture(*state, "view/open"), 0700);
    usleep(1100000); /* what was found open is believed for a second */
    assert_int_equal(open_uri(*state, "file:2/open/public", R, 0), -EACCES);
    chmod(in_fixture(*state, "view/open"), 0755);
}

static void files_are_made_changed_renamed_and_deleted(void **state)
{
    struct fixture *fixture = *state;
    struct mon_name name, other;
    struct bly_attributes attributes;
    struct stat status;
    int descriptor;

    assert_int_equal(decode(fixture, "file:0/folder/new", &name), 0);
    assert_int_equal(mon_file_open(&fixture->files, &name, W, BLY_OPEN_CREATE | BLY_OPEN_EXCLUSIVE, 06751, &descriptor, &attributes), 0);
    assert_int_equal(write(descriptor, "12345", 5), 5);
    close(descriptor);
    assert_int_equal(attributes.owner, 0);
    assert_int_equal(stat(in_fixture(fixture, "granted/folder/new"), &status), 0);
    assert_int_equal(status.st_mode, S_IFREG | 0751); /* no set-id bits on the host */
    assert_int_equal(status.st_uid, geteuid());
    assert_int_equal(mon_file_open(&fixture->files, &name, W, BLY_OPEN_CREATE | BLY_OPEN_EXCLUSIVE, 0600, &descriptor, &attributes), -EEXIST);

    attributes = (struct bly_attributes){.mode = 04640, .modify_ns = -1500000000, .access_ns = 77, .size = 3};
    assert_int_equal(mon_file_set(&fixture->files, &name, &attributes, BLY_SET_MODE | BLY_SET_SIZE | BLY_SET_MODIFY_TIME), 0);
    assert_int_equal(stat(in_fixture(fixture, "granted/folder/new"), &status), 0);
    assert_int_equal(status.st_mode & 07777, 0640);
    assert_int_equal(status.st_size, 3);
    assert_int_equal(status.st_mtim.tv_sec, -2);
    assert_int_equal(status.st_mtim.tv_nsec, 500000000);
    assert_int_equal(mon_file_set(&fixture->files, &name, &attributes, BLY_SET_OWNER), -EPERM);
    assert_int_equal(mon_file_set(&fixture->files, &name, &attributes, 1u << 20), -EINVAL);

    assert_int_equal(decode(fixture, "file:0/folder/moved", &other), 0);
    assert_int_equal(mon_file_rename(&fixture->files, &name, &other, BLY_RENAME_NO_REPLACE), 0);
    assert_int_equal(mon_file_link(&fixture->files, &name, &other, &attributes), 0);
    assert_int_equal(attributes.link_count, 2);
    assert_int_equal(mon_file_rename(&fixture->files, &name, &other, BLY_RENAME_NO_REPLACE), -EEXIST);
    assert_int_equal(mon_file_rename(&fixture->files, &name, &other, 4), -EINVAL);
    assert_int_equal(mon_file_delete(&fixture->files, &name, 0), 0);
    assert_int_equal(mon_file_delete(&fixture->files, &other, BLY_DELETE_DIRECTORY), -ENOTDIR);
    assert_int_equal(mon_file_delete(&fixture->files, &other, 0), 0);
    assert_int_equal(mon_file_delete(&fixture->files, &other, 0), -ENOENT);

    assert_int_equal(mon_file_create(&fixture->files, &name, BLY_KIND_SYMLINK, 0, "/etc/shadow", &attributes), 0);
    assert_int_equal(attributes.kind, BLY_KIND_SYMLINK);
    assert_int_equal(mon_file_set(&fixture->files, &name, &attributes, BLY_SET_MODE), -EOPNOTSUPP);
    attributes.access_ns = attributes.modify_ns = 5000000000;
    assert_int_equal(mon_file_set(&fixture->files, &name, &attributes, BLY_SET_ACCESS_TIME | BLY_SET_MODIFY_TIME), 0);
    assert_int_equal(lstat(in_fixture(fixture, "granted/folder/new"), &status), 0);
    assert_int_equal(status.st_mtim.tv_sec, 5);
    assert_int_equal(mon_file_delete(&fixture->files, &name, 0), 0);
    assert_int_equal(mon_file_create(&fixture->files, &name, BLY_KIND_CHARACTER, 0600, "", &attributes), -EINVAL);
    assert_int_equal(mon_file_create(&fixture->files, &name, BLY_KIND_BLOCK, 0600, "", &attributes), -EINVAL);

    descriptor = open_uri(fixture, "dir:0/folder", R | W, BLY_OPEN_TEMPORARY);
    assert_true(descriptor >= 0 || descriptor == -EOPNOTSUPP);
    if (descriptor >= 0)
        close(descriptor);
    assert_int_equal(open_uri(fixture, "file:0/folder", W, 0), -EISDIR);
    assert_int_equal(open_uri(fixture, "file:0/plain", R, BLY_OPEN_DIRECTORY), -ENOTDIR);
    assert_int_equal(open_uri(fixture, "file:0/plain", 4, 0), -EINVAL);

    /* The granted folder itself stays. */
    assert_int_equal(decode(fixture, "dir:0", &name), 0);
    assert_int_equal(mon_file_delete(&fixture->files, &name, BLY_DELETE_DIRECTORY), -EBUSY);
    assert_int_equal(decode(fixture, "file:3", &name), 0);
    assert_int_equal(mon_file_delete(&fixture->files, &name, 0), -EBUSY);
}

/* A write through a map would leave them. */
static void files_open_for_writing_have_no_set_id_bits(void **state)
{
    struct fixture *fixture = *state;
    struct stat status;
    char *path = in_fixture(fixture, "granted/set-id");
    write_text(path, "program", 0755);
    assert_int_equal(chmod(path, 06755), 0);
    int descriptor = open_uri(fixture, "file:0/set-id", BLY_ACCESS_READ, 0);
    assert_true(descriptor >= 0);
    close(descriptor);
    assert_int_equal(open_uri(fixture, "file:1/set-id", BLY_ACCESS_READ | BLY_ACCESS_WRITE, 0), -EROFS);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 06755);
    descriptor = open_uri(fixture, "file:0/set-id", BLY_ACCESS_READ | BLY_ACCESS_WRITE, 0);
    assert_true(descriptor >= 0);
    close(descriptor);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0755);
}

static void named_attributes_are_the_users_only(void **state)
{
    struct fixture *fixture = *state;
    struct mon_name name;
    char value[64];
    assert_int_equal(decode(fixture, "file:0/plain", &name), 0);
    int result = mon_file_set_named(&fixture->files, &name, "user.bailey", "abc", 3, BLY_NAMED_CREATE);
    if (result == -EOPNOTSUPP)
        skip();
    assert_int_equal(result, 0);
    assert_int_equal(mon_file_set_named(&fixture->files, &name, "user.bailey", "abc", 3, BLY_NAMED_CREATE), -EEXIST);
    assert_int_equal(mon_file_get_named(&fixture->files, &name, "user.bailey", value, sizeof(value)), 3);
    assert_memory_equal(value, "abc", 3);
    assert_int_equal(mon_file_get_named(&fixture->files, &name, "user.bailey", value, 0), 3);
    assert_int_equal(mon_file_get_named(&fixture->files, &name, "user.bailey", value, 2), -ERANGE);
    setxattr(in_fixture(fixture, "granted/plain"), "trusted.bailey", "x", 1, 0);
    assert_int_equal(mon_file_get_named(&fixture->files, &name, "", value, sizeof(value)), strlen("user.bailey") + 1);
    assert_int_equal(mon_file_get_named(&fixture->files, &name, "trusted.bailey", value, sizeof(value)), -EOPNOTSUPP);
    assert_int_equal(mon_file_get_named(&fixture->files, &name, "security.selinux", value, sizeof(value)), -EOPNOTSUPP);
    assert_int_equal(mon_file_set_named(&fixture->files, &name, "security.capability", "x", 1, 0), -EOPNOTSUPP);
    assert_int_equal(mon_file_set_named(&fixture->files, &name, "user.bailey", NULL, 0, BLY_NAMED_REMOVE), 0);
    assert_int_equal(mon_file_get_named(&fixture->files, &name, "user.bailey", value, sizeof(value)), -ENODATA);
    assert_int_equal(decode(fixture, "file:0/absolute", &name), 0);
    assert_int_equal(mon_file_set_named(&fixture->files, &name, "user.x", "1", 1, 0), -EPERM);
}

/* ---- Races: another process of the same user exchanges names as fast as it can ---- */

struct swapper {
    const char *a, *b;
    _Atomic bool stop;
};

static void *swap_forever(void *argument)
{
    struct swapper *swapper = argument;
    while (!atomic_load(&swapper->stop))
        syscall(SYS_renameat2, AT_FDCWD, swapper->a, AT_FDCWD, swapper->b, 2 /* RENAME_EXCHANGE */);
    return NULL;
}

static bool reads_secret(int descriptor)
{
    char text[16] = "";
    ssize_t size = read(descriptor, text, sizeof(text) - 1);
    return size > 0 && strstr(text, "secret");
}

static void exchanging_a_folder_with_a_link_opens_nothing_outside(void **state)
{
    struct fixture *fixture = *state;
    char a[PATH_MAX], b[PATH_MAX];
    strcpy(a, in_fixture(fixture, "granted/race"));
    strcpy(b, in_fixture(fixture, "granted/race-link"));
    assert_int_equal(mkdir(a, 0755), 0);
    write_text(in_fixture(fixture, "granted/race/secret"), "harmless", 0644);
    assert_int_equal(symlink("../outside", b), 0);
    struct swapper swapper = {.a = a, .b = b};
    pthread_t thread;
    pthread_create(&thread, NULL, swap_forever, &swapper);
    unsigned opened = 0, refused = 0;
    for (int i = 0; i < 20000; i++) {
        struct bly_walk_result walk;
        int descriptor = open_uri(fixture, "file:0/race/secret", R, 0);
        if (descriptor >= 0) {
            assert_false(reads_secret(descriptor));
            close(descriptor);
            opened++;
        } else {
            assert_true(descriptor == -ELOOP || descriptor == -ENOTDIR || descriptor == -EAGAIN);
            refused++;
        }
        int result = walk_uri(fixture, "file:0/race/secret", &walk);
        assert_true(result == 0 || result == -EAGAIN || result == -ELOOP || result == -ENOTDIR);
        if (result == 0 && walk.attributes.kind == BLY_KIND_FILE)
            assert_int_equal(walk.attributes.size, strlen("harmless"));
        int made = open_uri(fixture, "file:0/race/made", W, BLY_OPEN_CREATE);
        if (made >= 0)
            close(made);
        assert_int_equal(access(in_fixture(fixture, "outside/made"), F_OK), -1);
    }
    atomic_store(&swapper.stop, true);
    pthread_join(thread, NULL);
    assert_true(opened > 0 && refused > 0);
}

static void exchanging_a_file_with_a_fifo_never_waits(void **state)
{
    struct fixture *fixture = *state;
    char a[PATH_MAX], b[PATH_MAX];
    strcpy(a, in_fixture(fixture, "granted/swap"));
    strcpy(b, in_fixture(fixture, "granted/swap-fifo"));
    write_text(a, "harmless", 0644);
    assert_int_equal(mkfifo(b, 0666), 0);
    struct swapper swapper = {.a = a, .b = b};
    pthread_t thread;
    pthread_create(&thread, NULL, swap_forever, &swapper);
    for (int i = 0; i < 20000; i++) {
        struct stat status;
        int descriptor = open_uri(fixture, "file:0/swap", i % 2 ? R : W, 0);
        if (descriptor < 0) {
            assert_true(descriptor == -ENXIO || descriptor == -EAGAIN);
            continue;
        }
        assert_int_equal(fstat(descriptor, &status), 0);
        assert_true(S_ISREG(status.st_mode));
        close(descriptor);
    }
    atomic_store(&swapper.stop, true);
    pthread_join(thread, NULL);
}

static void a_folder_that_vanished_answers_with_an_error(void **state)
{
    struct fixture *fixture = *state;
    struct bly_walk_result walk;
    path_remove_tree(AT_FDCWD, in_fixture(fixture, "granted"));
    assert_int_equal(walk_uri(fixture, "file:0/plain", &walk), -ENOENT);
    assert_int_equal(open_uri(fixture, "file:0/plain", R, 0), -ENOENT);
    assert_int_equal(open_uri(fixture, "file:0/new", W, BLY_OPEN_CREATE), -ENOENT);
    int descriptor = open_uri(fixture, "file:3", R, 0); /* the file is held */
    assert_true(descriptor >= 0 || descriptor == -ENOENT);
    if (descriptor >= 0)
        close(descriptor);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, fixture_make, fixture_remove)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(names_that_are_not_plain_are_refused),
        TEST(links_are_never_followed),
        TEST(a_walk_stops_at_the_first_link),
        TEST(only_granted_folders_are_watched),
        TEST(fifos_sockets_and_devices_are_not_opened),
        TEST(read_only_grants_are_never_written),
        TEST(the_default_view_shows_what_everybody_may_read),
        TEST(files_are_made_changed_renamed_and_deleted),
        TEST(files_open_for_writing_have_no_set_id_bits),
        TEST(named_attributes_are_the_users_only),
        TEST(exchanging_a_folder_with_a_link_opens_nothing_outside),
        TEST(exchanging_a_file_with_a_fifo_never_waits),
        TEST(a_folder_that_vanished_answers_with_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
