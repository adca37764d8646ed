/* Finding the files that an image needs beside itself: among those `given`, then beside the image,
 * then where they were when it was made. */
#ifndef IMAGE_BASES_H
#define IMAGE_BASES_H

#include <base/text.h>
#include <image/reader.h>
#include <stdbool.h>

/* `path`: where the image is; NULL: nowhere that has files beside it. `follow`: the paths that it
 * tells are believed, since it is the user's own; a stranger's shall not choose which files are
 * opened. -ENOENT: one is not to be found; -ESTALE: it has changed. */
int img_reader_find_bases(struct img_reader *reader, const char *path,
                          const struct text_list *given, bool follow, struct error *error)
    __attribute__((warn_unused_result));

#endif
