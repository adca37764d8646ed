/* The block layout of tar (POSIX.1-1988 with GNU's and POSIX.1-2001's long names), for its reader
 * and its writer. */
#ifndef CLI_TAR_FORMAT_H
#define CLI_TAR_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#define TAR_BLOCK 512u
struct tar_header {
    char name[100], mode[8], owner[8], group[8], size[12], modified[12], checksum[8], type,
        link[100];
    char magic[8], owner_name[32], group_name[32], device_major[8], device_minor[8], prefix[155],
        rest[12];
};
_Static_assert(sizeof(struct tar_header) == TAR_BLOCK, "one block");

/* The sum of all bytes, those of the checksum itself taken as spaces. */
static inline uint64_t tar_checksum(const struct tar_header *header)
{
    const unsigned char *bytes = (const unsigned char *)header;
    uint64_t sum = 0;
    for (size_t i = 0; i < TAR_BLOCK; i++) {
        size_t place = offsetof(struct tar_header, checksum);
        sum += i >= place && i < place + sizeof(header->checksum) ? ' ' : bytes[i];
    }
    return sum;
}

#endif
