/* SHA-256 as FIPS 180-4 describes it. */
#include <base/sha256.h>

#include <base/cleanup.h>
#include <base/text.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#define CHUNK (256u << 10)

static const uint32_t constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t turn(uint32_t word, unsigned bits)
{
    return word >> bits | word << (32 - bits);
}

static void take_block(struct sha256 *sum, const unsigned char *block)
{
    uint32_t schedule[64];
    for (unsigned i = 0; i < 16; i++, block += 4)
        schedule[i] = (uint32_t)block[0] << 24 | (uint32_t)block[1] << 16 |
                      (uint32_t)block[2] << 8 | block[3];
    for (unsigned i = 16; i < 64; i++) {
        uint32_t early = schedule[i - 15], late = schedule[i - 2];
        schedule[i] = schedule[i - 16] + schedule[i - 7] +
                      (turn(early, 7) ^ turn(early, 18) ^ early >> 3) +
                      (turn(late, 17) ^ turn(late, 19) ^ late >> 10);
    }
    uint32_t a = sum->state[0], b = sum->state[1], c = sum->state[2], d = sum->state[3],
             e = sum->state[4], f = sum->state[5], g = sum->state[6], h = sum->state[7];
    for (unsigned i = 0; i < 64; i++) {
        uint32_t first = h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) +
                         constants[i] + schedule[i];
        uint32_t second = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + first;
        d = c, c = b, b = a, a = first + second;
    }
    const uint32_t added[8] = {a, b, c, d, e, f, g, h};
    for (unsigned i = 0; i < 8; i++)
        sum->state[i] += added[i];
}

void sha256_begin(struct sha256 *sum)
{
    *sum = (struct sha256){.state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f,
                                     0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};
}

void sha256_add(struct sha256 *sum, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    while (size) {
        size_t have = sum->size % sizeof(sum->block), step = sizeof(sum->block) - have;
        step = step < size ? step : size;
        if (step == sizeof(sum->block)) {
            take_block(sum, bytes);
        } else {
            memcpy(sum->block + have, bytes, step);
            if (have + step == sizeof(sum->block))
                take_block(sum, sum->block);
        }
        sum->size += step;
        bytes += step;
        size -= step;
    }
}

void sha256_end(struct sha256 *sum, unsigned char out[SHA256_SIZE])
{
    static const unsigned char filling[64] = {0x80};
    unsigned char bits[8];
    for (unsigned i = 0; i < 8; i++)
        bits[i] = (unsigned char)(sum->size * 8 >> (56 - 8 * i));
    size_t have = sum->size % 64;
    sha256_add(sum, filling, have < 56 ? 56 - have : 120 - have);
    sha256_add(sum, bits, sizeof(bits));
    for (unsigned i = 0; i < SHA256_SIZE; i++)
        out[i] = (unsigned char)(sum->state[i / 4] >> (24 - 8 * (i % 4)));
}

int sha256_file(int descriptor, uint64_t size, unsigned char out[SHA256_SIZE])
{
    cleanup_free unsigned char *buffer = memory_new(CHUNK);
    struct sha256 sum;
    sha256_begin(&sum);
    for (uint64_t at = 0; at < size;) {
        size_t step = size - at < CHUNK ? size - at : CHUNK;
        ssize_t got = pread(descriptor, buffer, step, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : -EIO;
        sha256_add(&sum, buffer, (size_t)got);
        at += (uint64_t)got;
    }
    sha256_end(&sum, out);
    return 0;
}
