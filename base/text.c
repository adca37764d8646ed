/* Growing strings and lists of strings; running out of memory ends the program. */
#include <base/text.h>

#include <base/error.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ATTEMPTS 100 /* a second */
#define ATTEMPT_US 10000

/* Memory may be short for a moment only, and a monitor that ends takes its sandbox with it. */
static bool may_try_again(unsigned *attempts)
{
    if (++*attempts < ATTEMPTS) {
        usleep(ATTEMPT_US);
        return true;
    }
    note("out of memory");
    exit(EXIT_BAILEY);
}

void *memory_new(size_t size)
{
    void *memory;
    unsigned attempts = 0;
    while (!(memory = calloc(1, size ? size : 1)) && may_try_again(&attempts))
        ;
    return memory;
}

void *memory_resize(void *memory, size_t size)
{
    void *resized;
    unsigned attempts = 0;
    while (!(resized = realloc(memory, size ? size : 1)) && may_try_again(&attempts))
        ;
    return resized;
}

char *text_copy_size(const char *text, size_t size)
{
    char *copy = memory_new(size + 1);
    memcpy(copy, text, size);
    return copy;
}

char *text_copy(const char *text)
{
    return text_copy_size(text, strlen(text));
}

void text_replace(char **place, char *value)
{
    free(*place);
    *place = value;
}

char *text_print(const char *format, ...)
{
    struct text text = {0};
    va_list arguments;
    va_start(arguments, format);
    text_format_list(&text, format, arguments);
    va_end(arguments);
    return text_take(&text);
}

bool text_starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static void reserve(struct text *text, size_t added)
{
    size_t needed = text->size + added + 1;
    if (needed <= text->capacity)
        return;
    size_t capacity = text->capacity ? text->capacity : 64;
    while (capacity < needed)
        capacity *= 2;
    text->data = memory_resize(text->data, capacity);
    text->capacity = capacity;
}

void text_add_size(struct text *text, const void *added, size_t size)
{
    reserve(text, size);
    if (size)
        memcpy(text->data + text->size, added, size);
    text->size += size;
    text->data[text->size] = '\0';
}

void text_add(struct text *text, const char *added)
{
    text_add_size(text, added, strlen(added));
}

void text_add_character(struct text *text, char character)
{
    text_add_size(text, &character, 1);
}

void text_format_list(struct text *text, const char *format, va_list arguments)
{
    va_list again;
    va_copy(again, arguments);
    int size = vsnprintf(NULL, 0, format, arguments);
    if (size > 0) {
        reserve(text, (size_t)size);
        vsnprintf(text->data + text->size, (size_t)size + 1, format, again);
        text->size += (size_t)size;
    }
    va_end(again);
}

void text_format(struct text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    text_format_list(text, format, arguments);
    va_end(arguments);
}

void text_free(struct text *text)
{
    free(text->data);
    *text = (struct text){0};
}

char *text_take(struct text *text)
{
    reserve(text, 0);
    text->data[text->size] = '\0';
    char *data = text->data;
    *text = (struct text){0};
    return data;
}

void text_list_take(struct text_list *list, char *item)
{
    if (list->count + 2 > list->capacity) {
        list->capacity = list->capacity ? list->capacity * 2 : 8;
        list->items = memory_resize(list->items, list->capacity * sizeof(*list->items));
    }
    list->items[list->count++] = item;
    list->items[list->count] = NULL;
}

void text_list_add(struct text_list *list, const char *item)
{
    text_list_take(list, text_copy(item));
}

void text_list_remove(struct text_list *list, size_t index)
{
    free(list->items[index]);
    memmove(list->items + index, list->items + index + 1,
            (list->count - index) * sizeof(*list->items));
    list->count--;
}

void text_list_free(struct text_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
    *list = (struct text_list){0};
}

static char **find_variable(const struct text_list *list, const char *name)
{
    size_t size = strlen(name);
    for (size_t i = 0; i < list->count; i++)
        if (strncmp(list->items[i], name, size) == 0 && list->items[i][size] == '=')
            return &list->items[i];
    return NULL;
}

void text_list_set_variable(struct text_list *list, const char *name, const char *value)
{
    char *entry = text_print("%s=%s", name, value);
    char **existing = find_variable(list, name);
    if (existing) {
        free(*existing);
        *existing = entry;
    } else {
        text_list_take(list, entry);
    }
}

const char *text_list_variable(const struct text_list *list, const char *name)
{
    char **entry = find_variable(list, name);
    return entry ? *entry + strlen(name) + 1 : NULL;
}

#define NEAREST_SIZE_MAX 63

/* Edit distance with transpositions of neighbours counted as one (optimal string alignment). */
static size_t edit_distance(const char *a, const char *b)
{
    size_t a_size = strlen(a), b_size = strlen(b);
    if (a_size > NEAREST_SIZE_MAX || b_size > NEAREST_SIZE_MAX)
        return SIZE_MAX;
    size_t rows[3][NEAREST_SIZE_MAX + 1];
    for (size_t j = 0; j <= b_size; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= a_size; i++) {
        size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *above_two = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= b_size; j++) {
            size_t best = above[j - 1] + (a[i - 1] != b[j - 1]);
            if (above[j] + 1 < best)
                best = above[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                above_two[j - 2] + 1 < best)
                best = above_two[j - 2] + 1;
            row[j] = best;
        }
    }
    return rows[a_size % 3][b_size];
}

const char *text_nearest(const char *word, const char *const *candidates, size_t count)
{
    const char *nearest = NULL;
    size_t limit = strlen(word) / 3 + 1;
    for (size_t i = 0; i < count; i++) {
        size_t distance = edit_distance(word, candidates[i]);
        if (distance <= limit) {
            nearest = candidates[i];
            limit = distance ? distance - 1 : 0;
            if (!distance)
                break;
        }
    }
    return nearest;
}

size_t text_sequence_size(const char *bytes, size_t size)
{
    const unsigned char *text = (const unsigned char *)bytes;
    static const struct {
        unsigned char mask, lead;
        size_t size;
        unsigned minimum;
    } kinds[] = {{0x80, 0x00, 1, 0},
                 {0xe0, 0xc0, 2, 0x80},
                 {0xf0, 0xe0, 3, 0x800},
                 {0xf8, 0xf0, 4, 0x10000}};
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        if ((text[0] & kinds[k].mask) != kinds[k].lead)
            continue;
        if (kinds[k].size > size)
            return 0;
        unsigned value = text[0] & (unsigned char)~kinds[k].mask;
        for (size_t i = 1; i < kinds[k].size; i++) {
            if ((text[i] & 0xc0) != 0x80)
                return 0;
            value = value << 6 | (text[i] & 0x3f);
        }
        bool surrogate = value >= 0xd800 && value < 0xe000;
        return value >= kinds[k].minimum && value <= 0x10ffff && !surrogate ? kinds[k].size : 0;
    }
    return 0;
}

void text_make_printable(char *text, size_t size)
{
    for (size_t i = 0; i < size;) {
        unsigned char c = (unsigned char)text[i];
        size_t length = text_sequence_size(text + i, size - i);
        bool control = (c < ' ' && c != '\t') || c == 0x7f || (length == 0 && c < 0xa0) ||
                       (length == 2 && c == 0xc2 && (unsigned char)text[i + 1] < 0xa0);
        if (control)
            memset(text + i, '?', length ? length : 1);
        i += length ? length : 1;
    }
}
