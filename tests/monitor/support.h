/* What the monitor's tests share: cmocka, and a folder of our own that goes at the end. */
#ifndef TESTS_MONITOR_SUPPORT_H
#define TESTS_MONITOR_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <base/path.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <monitor/policy/policy.h>
#include <monitor/stream-file.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* `granted` is mount 0 (read-write), `granted` again is mount 1 (read-only), `view` mount 2 (as the default view), the file
 * granted/plain mount 3, the FIFO granted/fifo mount 4. `outside` lies beside them with a secret in it. */
struct fixture {
    char root[64];
    struct mon_policy policy;
    struct mon_files files;
};

static inline char *in_fixture(const struct fixture *fixture, const char *name)
{
    static char paths[8][PATH_MAX];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, PATH_MAX, "%s/%s", fixture->root, name);
    return path;
}

static inline void write_text(const char *path, const char *text, mode_t mode)
{
    assert_int_equal(path_write_file(AT_FDCWD, path, text, strlen(text), mode), 0);
    assert_int_equal(chmod(path, mode), 0);
}

static inline int fixture_make(void **state)
{
    static struct fixture fixture;
    memset(&fixture, 0, sizeof(fixture));
    umask(0);
    strcpy(fixture.root, "/tmp/bailey-monitor-test-XXXXXX");
    assert_non_null(mkdtemp(fixture.root));
    chmod(fixture.root, 0755);
    const char *const folders[] = {"granted", "granted/folder", "granted/folder/deep", "view", "view/open", "view/private", "outside"};
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
        assert_int_equal(mkdir(in_fixture(&fixture, folders[i]), 0755), 0);
    chmod(in_fixture(&fixture, "view/private"), 0700);
    write_text(in_fixture(&fixture, "granted/plain"), "plain", 0644);
    write_text(in_fixture(&fixture, "granted/folder/deep/file"), "deep", 0600);
    write_text(in_fixture(&fixture, "view/open/public"), "public", 0644);
    write_text(in_fixture(&fixture, "view/open/secret"), "secret", 0640);
    write_text(in_fixture(&fixture, "view/private/public"), "hidden", 0644);
    write_text(in_fixture(&fixture, "outside/secret"), "secret", 0644);
    assert_int_equal(symlink("../outside/secret", in_fixture(&fixture, "granted/up")), 0);
    assert_int_equal(symlink("/etc/passwd", in_fixture(&fixture, "granted/absolute")), 0);
    assert_int_equal(symlink("folder", in_fixture(&fixture, "granted/link")), 0);
    assert_int_equal(symlink("/proc/self/root", in_fixture(&fixture, "granted/magic")), 0);
    assert_int_equal(mkfifo(in_fixture(&fixture, "granted/fifo"), 0666), 0);
    mon_policy_add_mount(&fixture.policy, in_fixture(&fixture, "granted"), "/a", 0);
    mon_policy_add_mount(&fixture.policy, in_fixture(&fixture, "granted"), "/b", BLY_MOUNT_READ_ONLY);
    mon_policy_add_mount(&fixture.policy, in_fixture(&fixture, "view"), "/c", BLY_MOUNT_LAYERED | MON_MOUNT_DEFAULT_VIEW);
    mon_policy_add_mount(&fixture.policy, in_fixture(&fixture, "granted/plain"), "/d", BLY_MOUNT_FILE);
    mon_policy_add_mount(&fixture.policy, in_fixture(&fixture, "granted/fifo"), "/e", BLY_MOUNT_FILE);
    assert_int_equal(mon_files_init(&fixture.files, &fixture.policy), 0);
    *state = &fixture;
    return 0;
}

static inline int fixture_remove(void **state)
{
    struct fixture *fixture = *state;
    mon_files_destroy(&fixture->files);
    mon_policy_free(&fixture->policy);
    path_remove_tree(AT_FDCWD, fixture->root);
    return 0;
}

static inline int decode(const struct fixture *fixture, const char *uri, struct mon_name *name)
{
    return mon_name_decode(&fixture->files, uri, strlen(uri), name);
}

/* Decodes and opens; returns the descriptor or negative errno. */
static inline int open_uri(struct fixture *fixture, const char *uri, unsigned access, unsigned options)
{
    struct mon_name name;
    struct bly_attributes attributes;
    int descriptor, result = decode(fixture, uri, &name);
    if (result == 0)
        result = mon_file_open(&fixture->files, &name, access, options, 0644, &descriptor, &attributes);
    return result < 0 ? result : descriptor;
}

static inline int walk_uri(struct fixture *fixture, const char *uri, struct bly_walk_result *walk)
{
    struct mon_name name;
    int result = decode(fixture, uri, &name);
    return result < 0 ? result : mon_file_walk(&fixture->files, &name, walk);
}

#endif
