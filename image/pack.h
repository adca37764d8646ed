/* Packed images (format.h): smaller files, which are unpacked before anything else is done with
 * them. Of the full program: the library is Debian's, for glibc (cli/hand-over.h). */
#ifndef IMAGE_PACK_H
#define IMAGE_PACK_H

#include <base/error.h>
#include <image/format.h>
#include <stdbool.h>

#define IMG_PACK_LEVEL 3
#define IMG_PACK_LEVEL_MAX 19

/* Called now and then with the bytes of the image done so far. */
typedef void img_pack_progress(void *context, uint64_t done);

/* Whether the file is a packed image; its header may still be refused. */
bool img_is_packed(int file);
/* How large the image is that a packed one holds, and how large `file` is. -EPROTO: damaged, cut
 * short. */
int img_packed_size(int file, const char *name, uint64_t *out_size, struct error *error)
    __attribute__((warn_unused_result));

/* Whether this program can pack and unpack: else an error that hands over. */
int img_pack_available(struct error *error) __attribute__((warn_unused_result));
/* Packs `image`, which is whole, into a file that appears under the name `path`. */
int img_pack(int image, const char *name, const char *path, int level, img_pack_progress *progress,
             void *context, struct error *error) __attribute__((warn_unused_result));
/* Unpacks into `out`, an empty file of ours; unless `all`, only the header and the index, with
 * zeros for the rest. Nothing of the bytes is believed: what comes out is as good as an image of a
 * stranger. -EPROTO: damaged, with the place. */
int img_unpack(int file, const char *name, int out, bool all, img_pack_progress *progress,
               void *context, struct error *error) __attribute__((warn_unused_result));
/* The same in a process without rights. The caller has one thread. */
int img_unpack_confined(int file, const char *name, int out, bool all, img_pack_progress *progress,
                        void *context, struct error *error) __attribute__((warn_unused_result));

#endif
