/* CRC-32C (Castagnoli), as in RFC 3720 appendix B.4. It finds damage, not forgery: who may write an
 * image may also write its checksums. */
#ifndef IMAGE_CHECKSUM_H
#define IMAGE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* Goes on from `checksum`, which is 0 at first. */
uint32_t img_checksum(uint32_t checksum, const void *data, size_t size);
/* The same without the processor's instruction; what img_checksum does where that is missing. */
uint32_t img_checksum_plain(uint32_t checksum, const void *data, size_t size);

#endif
