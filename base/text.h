/* Growing strings and lists of strings. Running out of memory ends the program with one line:
 * nothing that the hosted programs build is large enough for anything better. What a sandbox can
 * make the monitor build is bounded by its caller. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

void *memory_new(size_t size); /* zeroed */
void *memory_resize(void *memory, size_t size);
char *text_copy(const char *text);
char *text_copy_size(const char *text, size_t size);
/* `value`, allocated, takes the place of what *place was and owned. */
void text_replace(char **place, char *value);
char *text_print(const char *format, ...) __attribute__((format(printf, 1, 2)));

static inline bool text_equal(const char *a, const char *b)
{
    return __builtin_strcmp(a, b) == 0;
}
bool text_starts_with(const char *text, const char *prefix);
/* Length of the UTF-8 sequence at `text`, or 0 when it is malformed. */
size_t text_sequence_size(const char *text, size_t size);
/* Takes what a terminal obeys out of a line that a stranger wrote: control characters become `?`,
 * those of the second set (80 to 9F, in UTF-8 C2 80 to C2 9F) too. */
void text_make_printable(char *text, size_t size);

/* A string that grows. All zero is an empty one; `data` is NULL until something was added and
 * NUL-terminated afterwards. */
struct text {
    char *data;
    size_t size, capacity;
};
void text_add(struct text *text, const char *added);
void text_add_size(struct text *text, const void *added, size_t size);
void text_add_character(struct text *text, char character);
void text_format(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_format_list(struct text *text, const char *format, va_list arguments);
void text_free(struct text *text);
/* Gives the string away (never NULL); the text is empty afterwards. */
char *text_take(struct text *text);
#define cleanup_text __attribute__((cleanup(text_free)))

/* A list of strings it owns. `items` ends with NULL once something was added, so that it serves as
 * argv. */
struct text_list {
    char **items;
    size_t count, capacity;
};
void text_list_add(struct text_list *list, const char *item);
void text_list_take(struct text_list *list, char *item); /* takes ownership of `item` */
void text_list_remove(struct text_list *list, size_t index);
void text_list_free(struct text_list *list);
/* "NAME=value" lists: replaces the entry of the same name. */
void text_list_set_variable(struct text_list *list, const char *name, const char *value);
const char *text_list_variable(const struct text_list *list, const char *name);
#define cleanup_text_list __attribute__((cleanup(text_list_free)))

/* The candidate nearest to `word` by edit distance, if near enough to be a slip of the fingers;
 * else NULL. */
const char *text_nearest(const char *word, const char *const *candidates, size_t count);

#endif
