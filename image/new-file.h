/* A file that appears under its name when it is complete and on the disk, or not at all: until then
 * it has no name (where the file system does not have such files, another one beside it). It is
 * readable by its owner alone. */
#ifndef IMAGE_NEW_FILE_H
#define IMAGE_NEW_FILE_H

#include <base/error.h>
#include <stddef.h>
#include <stdint.h>

struct img_new_file {
    char *path, *temporary; /* `temporary` is NULL when nothing is to be removed */
    int descriptor;
};

/* What has the name already must be a file; it is replaced at the end. */
int img_new_file_open(struct img_new_file *file, const char *path, struct error *error)
    __attribute__((warn_unused_result));
int img_new_file_write(const struct img_new_file *file, const void *data, size_t size,
                       uint64_t offset, struct error *error) __attribute__((warn_unused_result));
/* Brings it to the disk and gives it its name. Closes it in any case; when it fails, what had the
 * name is as before. */
int img_new_file_finish(struct img_new_file *file, struct error *error)
    __attribute__((warn_unused_result));
/* Leaves nothing behind. */
void img_new_file_abandon(struct img_new_file *file);

#endif
