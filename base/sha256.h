/* SHA-256 (FIPS 180-4). */
#ifndef BASE_SHA256_H
#define BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_SIZE 32u

struct sha256 {
    uint32_t state[8];
    uint64_t size; /* bytes so far */
    unsigned char block[64];
};
void sha256_begin(struct sha256 *sum);
void sha256_add(struct sha256 *sum, const void *data, size_t size);
void sha256_end(struct sha256 *sum, unsigned char out[SHA256_SIZE]);

/* Of the first `size` bytes of a file, whose position stays. Returns 0 or negative errno; -EIO: it
 * has fewer. */
int sha256_file(int descriptor, uint64_t size, unsigned char out[SHA256_SIZE])
    __attribute__((warn_unused_result));

#endif
