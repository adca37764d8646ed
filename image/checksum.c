/* CRC-32C: by the processor's instruction where there is one, else bytewise by a table. The
 * instruction takes three cycles and starts every cycle, so a page is done in three lanes whose
 * results are put together. */
#include "image/checksum.h"

#include <cpuid.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#define POLYNOMIAL 0x82f63b78u /* reflected */
#define LANE 1360u             /* bytes: three lanes are a page but 16 bytes */

static struct {
    pthread_once_t once;
    bool instruction;
    uint32_t bytes[256];
    uint32_t lane[4][256]; /* what LANE zero bytes make of a checksum, by its bytes */
} tables = {.once = PTHREAD_ONCE_INIT};

static uint32_t after_zeros(uint32_t checksum, size_t count)
{
    while (count--)
        checksum = tables.bytes[checksum & 0xff] ^ checksum >> 8;
    return checksum;
}

static void make_tables(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; bit++)
            value = value & 1 ? value >> 1 ^ POLYNOMIAL : value >> 1;
        tables.bytes[i] = value;
    }
    /* The checksum of zeros is linear, so single bits are enough. */
    for (unsigned byte = 0; byte < 4; byte++)
        for (unsigned bit = 0; bit < 8; bit++) {
            uint32_t value = after_zeros(1u << (byte * 8 + bit), LANE);
            for (unsigned i = 0; i < 256; i++)
                if (i >> bit & 1)
                    tables.lane[byte][i] ^= value;
        }
    unsigned a, b, c = 0, d;
    tables.instruction = __get_cpuid(1, &a, &b, &c, &d) && c & bit_SSE4_2;
}

static uint32_t over_lane(uint32_t checksum)
{
    return tables.lane[0][checksum & 0xff] ^ tables.lane[1][checksum >> 8 & 0xff] ^
           tables.lane[2][checksum >> 16 & 0xff] ^ tables.lane[3][checksum >> 24];
}

static inline uint64_t word_at(const unsigned char *data)
{
    uint64_t word;
    memcpy(&word, data, sizeof(word));
    return word;
}

__attribute__((target("sse4.2"))) static uint32_t
by_instruction(uint32_t state, const unsigned char *data, size_t size)
{
    for (; size >= 3 * LANE; data += 3 * LANE, size -= 3 * LANE) {
        uint64_t a = state, b = 0, c = 0;
        for (size_t at = 0; at < LANE; at += 8) {
            a = __builtin_ia32_crc32di(a, word_at(data + at));
            b = __builtin_ia32_crc32di(b, word_at(data + LANE + at));
            c = __builtin_ia32_crc32di(c, word_at(data + 2 * LANE + at));
        }
        state = over_lane(over_lane((uint32_t)a) ^ (uint32_t)b) ^ (uint32_t)c;
    }
    for (; size >= 8; data += 8, size -= 8)
        state = (uint32_t)__builtin_ia32_crc32di(state, word_at(data));
    for (; size; data++, size--)
        state = __builtin_ia32_crc32qi(state, *data);
    return state;
}

uint32_t img_checksum_plain(uint32_t checksum, const void *data, size_t size)
{
    pthread_once(&tables.once, make_tables);
    const unsigned char *bytes = data;
    uint32_t state = ~checksum;
    for (size_t i = 0; i < size; i++)
        state = tables.bytes[(state ^ bytes[i]) & 0xff] ^ state >> 8;
    return ~state;
}

uint32_t img_checksum(uint32_t checksum, const void *data, size_t size)
{
    pthread_once(&tables.once, make_tables);
    return tables.instruction ? ~by_instruction(~checksum, data, size)
                              : img_checksum_plain(checksum, data, size);
}
