/* Reads an image of a suspended sandbox (format.h) as what it is: a file that a stranger may have
 * made. Opening checks the header, the length and the whole index, which is copied and not read
 * again; it costs what the index is large, not what the pages are. Pages are checked by
 * img_reader_verify. */
#ifndef IMAGE_READER_H
#define IMAGE_READER_H

#include <base/error.h>
#include <image/format.h>
#include <stddef.h>

struct img_reader;

struct img_space {
    uint32_t kind;    /* enum img_space_kind */
    uint32_t process; /* 0 for the shared ones */
    uint64_t page_count;
    const struct img_extent
        *extents; /* ascending, apart from each other, allowed where they are, inside the image */
    size_t extent_count;
};
/* A file that holds pages of the image, too. */
struct img_base {
    struct img_identity identity;
    char *path; /* absolute, when the image was made; as the image says */
};
/* A record of the writer's own. Its payload is not looked into here; it is aligned to 8 bytes. */
struct img_record {
    uint32_t type;
    uint32_t flags;
    const void *data;
    size_t size;
};

/* `name` is for messages. The descriptor stays the caller's and must outlive the reader. -EPROTO:
 * not an image, of another version, cut short or damaged; the message says where. */
int img_reader_open(int descriptor, const char *name, struct img_reader **out_reader,
                    struct error *error) __attribute__((warn_unused_result));
void img_reader_close(struct img_reader *reader); /* NULL is allowed */

uint32_t img_reader_abi_version(const struct img_reader *reader);
uint64_t img_reader_page_count(const struct img_reader *reader);
uint64_t img_reader_file_size(const struct img_reader *reader);
struct img_identity img_reader_identity(const struct img_reader *reader);

/* The files that an image needs beside itself. A page's place (img_place) names one of them by its
 * number: 0 is the image, n base n - 1. Pages can be read when all are there (bases.h finds them).
 */
size_t img_reader_base_count(const struct img_reader *reader);
const struct img_base *img_reader_base(const struct img_reader *reader, size_t index);
/* Whether `descriptor` is that base, and then takes it over. -EPROTO: no image; -ESTALE: another
 * one. */
int img_reader_set_base(struct img_reader *reader, size_t index, int descriptor, const char *name,
                        struct error *error) __attribute__((warn_unused_result));
/* Of file 0 and up; -1: there is no such file, or not yet. The reader's. */
int img_reader_file(const struct img_reader *reader, unsigned file);
const char *img_reader_file_name(const struct img_reader *reader, unsigned file); /* as given */

/* By kind, then process. */
size_t img_reader_space_count(const struct img_reader *reader);
const struct img_space *img_reader_space(const struct img_reader *reader, size_t index);
/* NULL: there is none. */
const struct img_space *img_reader_find_space(const struct img_reader *reader, uint32_t kind,
                                              uint32_t process);

/* In the writer's order. Who meets a type it does not know refuses the image, unless the record is
 * IMG_RECORD_OPTIONAL. */
size_t img_reader_record_count(const struct img_reader *reader);
const struct img_record *img_reader_record(const struct img_reader *reader, size_t index);

/* Reads and checks every page, those of the bases too. -EPROTO names the first damaged page and
 * what memory it is. `progress` may be NULL; it is called now and then with the bytes done, and
 * ends the check with its result where that is negative. */
int img_reader_verify(struct img_reader *reader, int (*progress)(void *context, uint64_t done),
                      void *context, struct error *error) __attribute__((warn_unused_result));
/* Bytes of pages that it reads. */
uint64_t img_reader_verify_size(const struct img_reader *reader);

#endif
