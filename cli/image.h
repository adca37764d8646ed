/* The parts of `bailey image`. */
#ifndef CLI_IMAGE_H
#define CLI_IMAGE_H

#include <base/error.h>
#include <base/text.h>
#include <stdbool.h>

struct image_request {
    const char *path, *output;
    struct text_list bases;
    int level; /* of compression; 0: none */
    bool as_json;
};

/* image-pack.c */
int image_pack(const struct image_request *request, struct error *error);

#endif
