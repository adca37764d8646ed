/* Fuzzes the reader of packed images: whatever the frames are, no more comes out than the header
 * says, and what is refused is refused as damaged.
 *
 * Built and run by tests/fuzz.py; with MAIN defined it needs no libFuzzer. The input is one byte,
 * the number of pages, and the frames; the header and the table of them are made to fit, since a
 * fuzzer does not find their checksums. */
#include <errno.h>
#include <image/checksum.h>
#include <image/pack.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zstd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int file = -1, out = -1;
    if (file < 0) {
        file = memfd_create("packed", MFD_CLOEXEC);
        out = memfd_create("plain", MFD_CLOEXEC);
    }
    require(ftruncate(file, 0) == 0 && ftruncate(out, 0) == 0);
    const uint64_t pages = size ? data[0] * 4 : 0;
    const uint8_t *frames = size ? data + 1 : data;
    const size_t frames_size = size ? size - 1 : 0;
    struct img_header header = {.magic = IMG_MAGIC,
                                .version = IMG_VERSION_PACKED,
                                .page_size = BLY_PAGE_SIZE,
                                .page_count = pages,
                                .file_size = img_index_offset(pages)};
    /* Chunks of equal size, but for the last. */
    struct img_chunk table[8] = {0};
    const size_t count = (header.file_size - sizeof(header) + IMG_CHUNK_SIZE - 1) / IMG_CHUNK_SIZE;
    require(count <= 8);
    for (size_t i = 0, at = 0; i < count; i++) {
        size_t part = i + 1 == count ? frames_size - at : frames_size / count;
        table[i] = (struct img_chunk){(uint32_t)part, img_checksum(0, frames + at, part)};
        at += part;
    }
    header.packed_size = sizeof(header) + (count ? frames_size : 0) + count * sizeof(table[0]);
    header.chunk_table_checksum = img_checksum(0, table, count * sizeof(table[0]));
    header.checksum = img_checksum(0, &header, offsetof(struct img_header, checksum));
    require(pwrite(file, &header, sizeof(header), 0) == sizeof(header));
    if (count) {
        require(pwrite(file, frames, frames_size, sizeof(header)) == (ssize_t)frames_size);
        require(pwrite(file, table, count * sizeof(table[0]),
                       (off_t)(sizeof(header) + frames_size)) >= 0);
    }
    struct error error = {0};
    int result = img_unpack(file, "input", out, /*all=*/size % 2, NULL, NULL, &error);
    require(!result || (result == -EPROTO && error.message[0]));
    require((uint64_t)lseek(out, 0, SEEK_END) <= header.file_size);
    return 0;
}

#ifdef MAIN
int main(void)
{
    static uint8_t plain[64 * BLY_PAGE_SIZE], input[1 << 20];
    uint32_t random = 1;
    for (unsigned i = 0; i < 3000; i++) {
        for (size_t j = 0; j < sizeof(plain); j += 1 + random % 61) {
            random = random * 1103515245u + 12345;
            plain[j] = (uint8_t)(random >> 24);
        }
        input[0] = (uint8_t)(i % 16);
        size_t size = ZSTD_compress(input + 1, sizeof(input) - 1, plain,
                                    img_index_offset(input[0] * 4) - BLY_PAGE_SIZE, 1);
        require(!ZSTD_isError(size));
        for (unsigned j = 0; j < i % 4; j++) {
            random = random * 1103515245u + 12345;
            input[1 + (random >> 8) % size] ^= (uint8_t)(random >> 24);
        }
        LLVMFuzzerTestOneInput(input, 1 + size);
    }
    return 0;
}
#endif
