/* An image that a process without rights has read for us. What strangers may have made is parsed
 * and checked there; what comes back is flat: tables of known sizes, one after another, which are
 * checked once more by what they are, not by how they were written. */
#ifndef IMAGE_FLAT_H
#define IMAGE_FLAT_H

#include <base/text.h>
#include <image/reader.h>

/* As img_reader_open, in a process of its own that can do nothing but this. The caller has one
 * thread. */
int img_reader_open_confined(int descriptor, const char *name, struct img_reader **out_reader,
                             struct error *error) __attribute__((warn_unused_result));

/* The two halves. Bases are told with the names of their files, where these were found. */
void img_flat_write(const struct img_reader *reader, struct text *out);
/* Takes `data` over (malloc), also when it fails. -EPROTO. */
int img_flat_read(void *data, size_t size, int descriptor, const char *name,
                  struct img_reader **out_reader, struct error *error)
    __attribute__((warn_unused_result));
/* The same of what is in the file `memory`. */
int img_flat_open(int memory, int descriptor, const char *name, struct img_reader **out_reader,
                  struct error *error) __attribute__((warn_unused_result));

#endif
