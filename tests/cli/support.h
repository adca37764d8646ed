/* What the tests of the command line share: temporary folders and files. */
#ifndef TESTS_CLI_SUPPORT_H
#define TESTS_CLI_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <base/path.h>
#include <base/text.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A new empty folder; its path has no symbolic links. */
static inline char *test_folder(void)
{
    char pattern[] = "/tmp/bailey-test-XXXXXX", resolved[PATH_MAX];
    assert_non_null(mkdtemp(pattern));
    assert_non_null(realpath(pattern, resolved));
    return text_copy(resolved);
}

/* Removes it and frees its name. */
static inline void test_remove(char *folder)
{
    assert_int_equal(path_remove_tree(AT_FDCWD, folder), 0);
    free(folder);
}

/* Writes a file below `folder`, with the folders on the way. */
static inline void test_file(const char *folder, const char *name, const char *content)
{
    char *path = path_join(folder, name);
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0755);
        *slash = '/';
    }
    assert_int_equal(path_write_file(AT_FDCWD, path, content, strlen(content), 0644), 0);
    free(path);
}

static inline char *test_repeat(char character, size_t count)
{
    char *text = memory_new(count + 1);
    memset(text, character, count);
    return text;
}

#endif
