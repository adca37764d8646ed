/* For file system tests: each case runs in a fresh folder below $TEST_FOLDER (or /tmp), which is removed at the end. */
#ifndef TESTS_GUEST_FS_H
#define TESTS_GUEST_FS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "guest.h"
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static char test_folder[PATH_MAX];
static inline int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk) { return remove(path); }
static inline void leave_folder(void)
{
    if (chdir("/") == 0)
        nftw(test_folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}
static inline void enter_folder(void)
{
    const char *base = getenv("TEST_FOLDER");
    snprintf(test_folder, sizeof test_folder, "%s/fs-test-XXXXXX", base ? base : "/tmp");
    CHECK(mkdtemp(test_folder) != NULL);
    CHECK(chdir(test_folder) == 0);
    umask(022);
}
#define FS_MAIN(cases) \
    int main(int argc, char **argv) \
    { \
        int failed = 0; \
        for (size_t i = 0; i < sizeof(cases) / sizeof((cases)[0]); i++) { \
            if (argc > 1 && strcmp(argv[1], (cases)[i].name) != 0) \
                continue; \
            pid_t child = fork(); \
            if (child == 0) { \
                alarm(20); \
                enter_folder(); \
                atexit(leave_folder); \
                (cases)[i].run(); \
                exit(0); \
            } \
            int status; \
            if (waitpid(child, &status, 0) != child || status != 0) { \
                fprintf(stderr, "%s: %s failed (status %x)\n", argv[0], (cases)[i].name, status); \
                failed = 1; \
            } \
        } \
        return failed; \
    }

static inline int make_file(const char *name, const char *text)
{
    int fd = open(name, O_CREAT | O_WRONLY | O_TRUNC, 0644);
    CHECK(fd >= 0);
    CHECK_EQUAL(write(fd, text, strlen(text)), strlen(text));
    CHECK(close(fd) == 0);
    return 0;
}
static inline int has_text(const char *name, const char *text)
{
    char buffer[4096];
    int fd = open(name, O_RDONLY);
    if (fd < 0)
        return 0;
    ssize_t size = read(fd, buffer, sizeof buffer);
    close(fd);
    return size == (ssize_t)strlen(text) && memcmp(buffer, text, strlen(text)) == 0;
}
static inline struct stat stat_of(const char *name)
{
    struct stat status;
    CHECK(lstat(name, &status) == 0);
    return status;
}
static inline int exists(const char *name)
{
    struct stat status;
    return lstat(name, &status) == 0;
}
/* Runs `body` in a child that is user 1234, group 1234; the child exits 0 when all checks held. */
#define AS_OTHER_USER(body) \
    do { \
        pid_t child_ = fork(); \
        if (child_ == 0) { \
            CHECK(setgid(1234) == 0 && setuid(1234) == 0); \
            body; \
            _exit(0); \
        } \
        int status_; \
        CHECK(waitpid(child_, &status_, 0) == child_ && status_ == 0); \
    } while (0)

#endif
