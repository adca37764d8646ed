/* Which images are one's own: made here by `bailey suspend`, by this user, and not changed, moved
 * or copied since. They are resumed with all they had; any other is a stranger's claim, however it
 * came here (docs/security.md).
 *
 * What counts is what the kernel says of the file: device, inode, size and the time of its last
 * change (st_ctime), which no program can set and every write, rename, link or chmod moves.
 * `suspend` notes these four in a list of the user's. */
#ifndef CLI_OWN_IMAGE_H
#define CLI_OWN_IMAGE_H

#include <base/error.h>
#include <stdbool.h>

/* After the image at `path` is complete and has its name. */
int own_image_note(const char *path, struct error *error) __attribute__((warn_unused_result));
/* False as well when there is no list, or it cannot be read. */
bool own_image_is(int descriptor);

#endif
