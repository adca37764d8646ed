/* The key that both sides of a move share: a file of 32 random bytes as 64 hexadecimal digits,
 * which belongs to its user alone. */
#ifndef IMAGE_KEY_H
#define IMAGE_KEY_H

#include <base/error.h>

#define IMG_KEY_SIZE 32u

/* Refuses a file that others can read or change, and one of another form. */
int img_key_read(const char *path, unsigned char out_key[IMG_KEY_SIZE], struct error *error)
    __attribute__((warn_unused_result));
/* Makes a new one; a file that is there already stays as it is: -EEXIST. */
int img_key_make(const char *path, struct error *error) __attribute__((warn_unused_result));

#endif
