/* What reader.c and flat.c share. */
#ifndef IMAGE_READER_INTERNAL_H
#define IMAGE_READER_INTERNAL_H

#include <image/reader.h>

struct img_reader {
    char *name;
    int descriptor;
    struct img_header header;
    unsigned char *index; /* header.index_size bytes; spaces and records point into it */
    struct img_space *spaces;
    size_t space_count, space_capacity;
    struct img_record *records;
    size_t record_count, record_capacity;
};

#endif
