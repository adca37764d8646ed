/* Writes an image of a suspended sandbox (format.h). The file appears under its name when it is
 * complete and on the disk, or not at all: until then it has no name (where the file system does
 * not have such files, another one beside it). It is readable by its owner alone. One thread at a
 * time.
 *
 * Page bytes may come from a sandbox and mean nothing here; where they belong comes from it too,
 * and is checked. */
#ifndef IMAGE_WRITER_H
#define IMAGE_WRITER_H

#include <base/error.h>
#include <image/format.h>
#include <stdbool.h>
#include <stddef.h>

struct img_writer;

/* What has the name already must be a file; it is replaced at the end. */
int img_writer_open(const char *path, struct img_writer **out_writer, struct error *error)
    __attribute__((warn_unused_result));

/* Where an image goes that is not written into a file of this machine. Each returns 0, or a
 * negative errno with `error` set. */
struct img_sink {
    /* `count` pages, the image's from `first` on, and the checksum of each. In rounds a page may
     * come again; `first` is never above the number of pages so far. NULL: only the records are
     * wanted, and memory is left out. */
    int (*pages)(void *context, uint64_t first, const void *data, const uint32_t *checksums,
                 size_t count, struct error *error);
    /* The last of it. */
    int (*end)(void *context, const struct img_header *header, const void *index, size_t index_size,
               struct error *error);
    void *context;
    const char *name; /* for messages */
};
void img_writer_open_sink(const struct img_sink *sink, struct img_writer **out_writer);
/* False: only the records are wanted. */
bool img_writer_takes_pages(const struct img_writer *writer);

/* Memory that changes while it is written is written in rounds: what is given again replaces what
 * was given before. An image is what its last round gave; pages that did not change since are only
 * named in it (img_writer_keep). With a sink only, before the first space. */
void img_writer_begin_round(struct img_writer *writer);

/* The pages that follow belong to this space, until the next one is begun. A space is begun once,
 * in rounds once in each. */
int img_writer_space(struct img_writer *writer, uint32_t kind, uint32_t process,
                     struct error *error) __attribute__((warn_unused_result));
/* `count` pages that lie at `address` in the space, above all that were given before. Pages of
 * zeros are left out but for `zeros` of them in a row between others, which are cheaper to carry
 * than a further extent; IMG_ALL_ZEROS: none is, since what is absent there would not be zero (a
 * changed page of a private map). -EINVAL: they cannot lie there; nothing is written then. */
#define IMG_ALL_ZEROS SIZE_MAX
int img_writer_pages(struct img_writer *writer, uint64_t address, const void *data, size_t count,
                     size_t zeros, struct error *error) __attribute__((warn_unused_result));
/* Of `count` pages at `address`, as above, how many from the first on were given in an earlier
 * round; they are taken over as they were then. */
size_t img_writer_keep(struct img_writer *writer, uint64_t address, size_t count);
/* Pages that the image `base` has at the same place of the same memory are named in it (and in its
 * own bases) instead of being written; few in a row beside changed ones excepted, which are cheaper
 * to write again. Before the first space; neither with a sink nor with rounds. `base` must outlive
 * the writer, with all its bases set by absolute names; `path`, absolute, is where it is. */
struct img_reader;
int img_writer_set_base(struct img_writer *writer, const struct img_reader *base, const char *path,
                        struct error *error) __attribute__((warn_unused_result));
/* The number in places (img_place) of a file whose pages may be named; 0: it is none of the base's.
 */
unsigned img_writer_find_file(const struct img_writer *writer, const struct img_identity *identity);
/* As img_writer_pages, of pages that are known to be those at `place`. */
int img_writer_name(struct img_writer *writer, uint64_t address, uint64_t place, uint64_t count,
                    struct error *error) __attribute__((warn_unused_result));
/* The same, but the pages themselves come later, by other ways: *out_page is the first of them in
 * the image, which has no checksums of them. Not in rounds. */
int img_writer_later(struct img_writer *writer, uint64_t address, uint64_t count,
                     uint64_t *out_page, struct error *error) __attribute__((warn_unused_result));
/* The whole of `descriptor`, a segment whose first byte lies at `address`. Holes are not read. The
 * length is that of the call's beginning: what the descriptor loses meanwhile is zero. */
int img_writer_segment(struct img_writer *writer, uint64_t address, int descriptor,
                       struct error *error) __attribute__((warn_unused_result));
/* Of it only [from, to), which are multiples of the page size. */
int img_writer_segment_part(struct img_writer *writer, uint64_t address, int descriptor,
                            uint64_t from, uint64_t to, struct error *error)
    __attribute__((warn_unused_result));

/* A record of the caller's own: `type` is IMG_RECORD_OWN_FIRST or above. Records are read in the
 * order in which they were written, after all spaces. */
int img_writer_record(struct img_writer *writer, uint32_t type, uint32_t flags, const void *data,
                      size_t size, struct error *error) __attribute__((warn_unused_result));

/* Completes the file, brings it to the disk and gives it its name, replacing what had it. Frees the
 * writer in any case; when it fails, what had the name is as before. */
int img_writer_finish(struct img_writer *writer, struct error *error)
    __attribute__((warn_unused_result));
/* Leaves nothing behind. NULL is allowed. */
void img_writer_abandon(struct img_writer *writer);

/* Bytes of page data so far, in rounds those of earlier ones too; and of those that the base has.
 */
uint64_t img_writer_bytes(const struct img_writer *writer);
uint64_t img_writer_named_bytes(const struct img_writer *writer);
/* `progress` is called with all of them again and again while pages are written; a negative result,
 * with `error` set, ends that. */
typedef int img_writer_function(void *context, uint64_t bytes, struct error *error);
void img_writer_on_progress(struct img_writer *writer, img_writer_function *progress,
                            void *context);

#endif
