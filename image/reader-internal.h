/* What reader.c and flat.c share. */
#ifndef IMAGE_READER_INTERNAL_H
#define IMAGE_READER_INTERNAL_H

#include <image/reader.h>
#include <stdbool.h>

struct img_file {
    int descriptor; /* -1: not there, or not yet */
    char *name;     /* for messages */
    struct img_header header;
};
struct img_reader {
    struct img_file files[1 + IMG_BASES_MAX]; /* the image, and its bases as they were found */
    struct img_base bases[IMG_BASES_MAX];
    size_t base_count;
    unsigned char
        *index; /* the image's header.index_size bytes; spaces and records point into it */
    struct img_space *spaces;
    size_t space_count, space_capacity;
    struct img_record *records;
    size_t record_count, record_capacity;
};

/* A reader without anything in it yet. */
struct img_reader *img_reader_new(int descriptor, const char *name);
/* The payload of a record IMG_RECORD_BASE. False: it cannot be one. */
bool img_reader_add_base(struct img_reader *reader, const void *data, size_t size)
    __attribute__((warn_unused_result));
/* Whether the pages that the extent names are there. */
bool img_reader_has_pages(const struct img_reader *reader, const struct img_extent *extent);

#endif
