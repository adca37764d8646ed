/* In the place of image/pack.c, where the library that compresses is not linked. */
#include <image/pack.h>

#include <errno.h>

static int hand_over_packing(struct error *error)
{
    error_set(error, -ENOTSUP, "the full program packs images");
    return error_exit_status(error, EXIT_HAND_OVER);
}

int img_pack_available(struct error *error)
{
    return hand_over_packing(error);
}

int img_pack(int image, const char *name, const char *path, int level, img_pack_progress *progress,
             void *context, struct error *error)
{
    return hand_over_packing(error);
}

int img_unpack_confined(int file, const char *name, int out, bool all, img_pack_progress *progress,
                        void *context, struct error *error)
{
    return hand_over_packing(error);
}
