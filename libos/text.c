/* Memory and string functions of the freestanding C library.
 *
 * General registers only: a system call must leave the program's vector registers alone. Short
 * blocks are moved by words, long ones by `rep movsb`, whose start-up of about 35 cycles pays from
 * some hundred bytes upwards. */
#include "libos/text.h"

/* The compiler would otherwise recognise the loops below and replace them by calls to the very
 * functions they define. */
#define OWN_LOOP __attribute__((optimize("no-tree-loop-distribute-patterns")))

enum { REP_THRESHOLD = 256 };

typedef uint64_t __attribute__((may_alias, aligned(1))) word;
typedef uint32_t __attribute__((may_alias, aligned(1))) half_word;

OWN_LOOP void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
    unsigned char *target = to;
    const unsigned char *source = from;

    if (size >= REP_THRESHOLD) {
        __asm__ volatile("rep movsb" : "+D"(target), "+S"(source), "+c"(size) : : "memory");
        return to;
    }
    if (size >= 8) {
        /* The last word may overlap the one before it: no tail loop. */
        word last = *(const word *)(source + size - 8);
        word *last_target = (word *)(target + size - 8);
        for (size_t i = 0; i + 8 <= size; i += 8)
            *(word *)(target + i) = *(const word *)(source + i);
        *last_target = last;
        return to;
    }
    if (size >= 4) {
        half_word last = *(const half_word *)(source + size - 4);
        *(half_word *)target = *(const half_word *)source;
        *(half_word *)(target + size - 4) = last;
        return to;
    }
    for (size_t i = 0; i < size; i++)
        target[i] = source[i];
    return to;
}

OWN_LOOP void *memmove(void *to, const void *from, size_t size)
{
    unsigned char *target = to;
    const unsigned char *source = from;

    if ((uintptr_t)target - (uintptr_t)source >= size) {
        /* The source is not overwritten before it is read when going upwards. */
        if (size >= REP_THRESHOLD && (uintptr_t)source - (uintptr_t)target >= 64) {
            __asm__ volatile("rep movsb" : "+D"(target), "+S"(source), "+c"(size) : : "memory");
            return to;
        }
        while (size >= 8) {
            *(word *)target = *(const word *)source;
            target += 8;
            source += 8;
            size -= 8;
        }
        while (size-- > 0)
            *target++ = *source++;
        return to;
    }
    target += size;
    source += size;
    while (size >= 8) {
        target -= 8;
        source -= 8;
        *(word *)target = *(const word *)source;
        size -= 8;
    }
    while (size-- > 0)
        *--target = *--source;
    return to;
}

OWN_LOOP void *memset(void *to, int value, size_t size)
{
    unsigned char *target = to;

    if (size >= REP_THRESHOLD) {
        __asm__ volatile("rep stosb" : "+D"(target), "+c"(size) : "a"(value) : "memory");
        return to;
    }
    if (size >= 8) {
        word pattern = (unsigned char)value * 0x0101010101010101ull;
        for (size_t i = 0; i + 8 <= size; i += 8)
            *(word *)(target + i) = pattern;
        *(word *)(target + size - 8) = pattern;
        return to;
    }
    for (size_t i = 0; i < size; i++)
        target[i] = (unsigned char)value;
    return to;
}

int memcmp(const void *a, const void *b, size_t size)
{
    const unsigned char *left = a, *right = b;

    while (size >= 8 && *(const word *)left == *(const word *)right) {
        left += 8;
        right += 8;
        size -= 8;
    }
    for (size_t i = 0; i < size; i++)
        if (left[i] != right[i])
            return left[i] - right[i];
    return 0;
}

void *memchr(const void *area, int value, size_t size)
{
    const unsigned char *bytes = area;
    const uint64_t ones = 0x0101010101010101ull, wanted = ones * (unsigned char)value;

    for (; size >= sizeof(uint64_t); bytes += sizeof(uint64_t), size -= sizeof(uint64_t)) {
        uint64_t word;
        __builtin_memcpy(&word, bytes, sizeof word);
        word ^= wanted;
        if ((word - ones) & ~word & (ones << 7))
            break; /* one of these bytes is zero now */
    }
    for (size_t i = 0; i < size; i++)
        if (bytes[i] == (unsigned char)value)
            return (void *)(bytes + i);
    return NULL;
}

OWN_LOOP size_t strlen(const char *text)
{
    const char *end = text;

    while (*end)
        end++;
    return (size_t)(end - text);
}

size_t strnlen(const char *text, size_t max)
{
    size_t length = 0;

    while (length < max && text[length])
        length++;
    return length;
}

int strcmp(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return (unsigned char)*a - (unsigned char)*b;
}

int strncmp(const char *a, const char *b, size_t max)
{
    for (; max > 0; a++, b++, max--)
        if (*a != *b || !*a)
            return (unsigned char)*a - (unsigned char)*b;
    return 0;
}

char *strchr(const char *text, int character)
{
    for (;; text++) {
        if (*text == (char)character)
            return (char *)text;
        if (!*text)
            return NULL;
    }
}

char *strrchr(const char *text, int character)
{
    const char *found = NULL;

    for (;; text++) {
        if (*text == (char)character)
            found = text;
        if (!*text)
            return (char *)found;
    }
}

char *strstr(const char *text, const char *part)
{
    size_t length = strlen(part);

    for (; *text || length == 0; text++) {
        if (strncmp(text, part, length) == 0)
            return (char *)text;
        if (!*text)
            break;
    }
    return NULL;
}
