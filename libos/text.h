/* The tiny freestanding C library: memory and string functions (names as in C, the compiler calls them), number
 * parsing, formatting. */
#ifndef LIBOS_TEXT_H
#define LIBOS_TEXT_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);
int memcmp(const void *a, const void *b, size_t size);
void *memchr(const void *area, int value, size_t size);
size_t strlen(const char *text);
size_t strnlen(const char *text, size_t max);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t max);
char *strchr(const char *text, int character);
char *strrchr(const char *text, int character);
char *strstr(const char *text, const char *part);

/* snprintf with %d %u %x %o %c %s %p %%, the flags - 0, width, precision and .*, and l ll z. Returns the length it would have. */
int format(char *buffer, size_t size, const char *pattern, ...) __attribute__((format(printf, 3, 4)));
int format_list(char *buffer, size_t size, const char *pattern, va_list arguments);
/* Decimal (or 0x..., 0...) digits; returns how many characters were read, 0 for none. */
size_t parse_number(const char *text, size_t size, uint64_t *out_value);

/* One line in the sandbox's log. */
void log_line(unsigned level, const char *pattern, ...) __attribute__((format(printf, 2, 3)));
/* Writes the reason to the monitor and ends the sandbox. */
_Noreturn void panic(const char *pattern, ...) __attribute__((format(printf, 1, 2)));
#define assert(condition) \
    do { if (__builtin_expect(!(condition), 0)) panic("%s:%d: assertion failed: %s", __FILE__, __LINE__, #condition); } while (0)

#endif
