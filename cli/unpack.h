/* Packed images, for the commands that read or write images. */
#ifndef CLI_UNPACK_H
#define CLI_UNPACK_H

#include <base/error.h>
#include <stdbool.h>

/* Where memory of sandboxes is kept for a while: TMPDIR, or /var/tmp. */
const char *temporary_folder(void);
/* A file in it that is private to us, and gone with the last who has it open. */
int temporary_file(const char *folder, struct error *error) __attribute__((warn_unused_result));

/* When the file is a packed image, replaces the descriptor by one of the image that it holds;
 * unless `all`, of its header and index only. Shows how far it is. Before anything else is done
 * (hand-over.h). */
int unpack_image(int *file, const char *name, bool all, struct error *error)
    __attribute__((warn_unused_result));
/* Packs the image `path` into `out`. Shows how far it is. */
int pack_image(const char *path, const char *out, int level, struct error *error)
    __attribute__((warn_unused_result));
/* An option's "[=LEVEL]", which may be NULL. Hands over where this program cannot. */
int pack_read_level(const char *value, int *out_level, struct error *error)
    __attribute__((warn_unused_result));

#endif
