/* Tar streams, as far as copying in and out of a sandbox needs: regular files, folders, symbolic
 * and hard links; names of any length. The reader believes nothing: names may not climb, no
 * symbolic link is followed, and nothing outside the target is touched. */
#ifndef CLI_TAR_H
#define CLI_TAR_H

#include <base/error.h>

/* Writes `path` (a file or a folder with all below it) to `out` under the name `name`. */
int tar_write(int out, const char *path, const char *name, struct error *error);
/* Reads from `in`. The first component of every name must be `source`; it becomes `target` in
 * `folder`. */
int tar_read(int in, int folder, const char *source, const char *target, struct error *error);

#endif
