/* Paths as text, and files read or written whole. Nothing here follows a symbolic link unless it
 * says so. */
#ifndef BASE_PATH_H
#define BASE_PATH_H

#include <base/error.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* `base`/`name`; `name` alone when it is absolute. */
char *path_join(const char *base, const char *name);
/* Without `.`, empty and `..` components (`..` at the root stays there); absolute when `path` is.
 * By text alone. */
char *path_normalise(const char *path);
/* True when `path` is `folder` or lies below it. Both normalised. */
bool path_is_within(const char *path, const char *folder);
/* The whole file, NUL-terminated. -EFBIG above `limit` bytes. */
int path_read_file(int directory, const char *path, size_t limit, char **out_text, size_t *out_size)
    __attribute__((warn_unused_result));
/* Replaces the file in one step (written beside it, then renamed). */
int path_write_file(int directory, const char *path, const void *data, size_t size, mode_t mode)
    __attribute__((warn_unused_result));
/* Removes a folder and all below it, by descriptors. Missing is no error. */
int path_remove_tree(int directory, const char *path);
/* Writes all of it, past EINTR and short writes. */
int write_fully(int descriptor, const void *data, size_t size);

#endif
