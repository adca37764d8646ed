/* What can be said of a packed image without the library that unpacks it. */
#include "image/pack.h"

#include <bailey/abi.h>
#include <errno.h>
#include <image/checksum.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

bool img_is_packed(int file)
{
    struct img_header header;
    return pread(file, &header, sizeof(header), 0) == sizeof(header) &&
           memcmp(header.magic, IMG_MAGIC, sizeof(header.magic)) == 0 &&
           header.version == IMG_VERSION_PACKED;
}

int img_packed_size(int file, const char *name, uint64_t *out_size, struct error *error)
{
    struct img_header header;
    struct stat status;
    /* As in reader.c: glibc's fstat is a call that takes a path. */
    if (!img_is_packed(file) || pread(file, &header, sizeof(header), 0) != sizeof(header) ||
        syscall(SYS_fstat, file, &status) < 0)
        return error_set(error, -EPROTO, "%s is not a packed image", name);
    if (header.checksum != img_checksum(0, &header, offsetof(struct img_header, checksum)) ||
        header.page_size != BLY_PAGE_SIZE || header.page_count > IMG_PAGES_MAX ||
        header.index_size > IMG_INDEX_MAX || header.index_size % 8 ||
        header.file_size != img_index_offset(header.page_count) + header.index_size)
        return error_set(error, -EPROTO, "the header of the image %s is damaged", name);
    const uint64_t chunks =
        (header.file_size - sizeof(header) + IMG_CHUNK_SIZE - 1) / IMG_CHUNK_SIZE;
    if ((uint64_t)status.st_size != header.packed_size)
        return error_set(error, -EPROTO, "the image %s is %s: it has %llu bytes of %llu", name,
                         (uint64_t)status.st_size < header.packed_size ? "cut short" : "too long",
                         (unsigned long long)status.st_size,
                         (unsigned long long)header.packed_size);
    if (chunks == 0 || header.packed_size < sizeof(header) ||
        (header.packed_size - sizeof(header)) / sizeof(struct img_chunk) < chunks)
        return error_set(error, -EPROTO,
                         "the header of the image %s is damaged: its sizes contradict each other",
                         name);
    *out_size = header.file_size;
    return 0;
}
