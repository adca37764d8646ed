/* What a writer knows of the image that its own is to be based on (img_writer_set_base): where that
 * has pages, and which of the pages to be written are among them. A page counts as the same only
 * when its bytes are; the checksums decide which are worth reading. */
#ifndef IMAGE_BASE_H
#define IMAGE_BASE_H

#include <base/text.h>
#include <image/reader.h>

#define IMG_NO_PLACE UINT64_MAX

struct img_known;

/* `base` must outlive it, with all its bases set by absolute names; `path` is absolute. */
int img_known_new(const struct img_reader *base, const char *path, struct img_known **out_known,
                  struct error *error) __attribute__((warn_unused_result));
void img_known_free(struct img_known *known); /* NULL is allowed */

/* The pages that are asked for belong to this space from here on. */
void img_known_space(struct img_known *known, uint32_t kind, uint32_t process);
/* Of `count` pages at `address` the first *out_run, at least 1: where they are, or IMG_NO_PLACE for
 * one that is nowhere. */
uint64_t img_known_find(struct img_known *known, uint64_t address, const unsigned char *data,
                        const uint32_t *checksums, size_t count, size_t *out_run);
/* The file's number in places, 0 where it is none of the base's. */
unsigned img_known_file(const struct img_known *known, const struct img_identity *identity);
/* Whether the file has these pages. */
bool img_known_has(const struct img_known *known, uint64_t place, uint64_t count);

/* Of the spaces' extents only those files are named that are used, and their numbers run without
 * gaps: after a call with every extent's place, the records of these files, and then each place as
 * it is to be written. */
void img_known_use(struct img_known *known, uint64_t place);
size_t img_known_records(struct img_known *known,
                         void (*add)(void *context, const void *data, size_t size), void *context);
uint64_t img_known_place(const struct img_known *known, uint64_t place);

#endif
