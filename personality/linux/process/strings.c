/* Lists of strings in one piece of the kernel heap; see strings.h. */
#include "personality/linux/process/strings.h"

#include "personality/linux/lx.h"

static int reserve(struct string_list *list, size_t more)
{
    if (list->capacity - list->size >= more)
        return 0;
    size_t capacity = list->capacity ? list->capacity * 2 : 4096;
    while (capacity - list->size < more)
        capacity *= 2;
    char *bytes = heap_realloc(list->bytes, list->capacity, capacity);
    if (!bytes)
        return -ENOMEM;
    list->bytes = bytes;
    list->capacity = capacity;
    return 0;
}

/* Puts `text` at byte `at`, in place of the `old_size` bytes there. */
static int splice(struct string_list *list, size_t at, size_t old_size, const char *text)
{
    size_t size = strlen(text) + 1;
    int error = reserve(list, size);
    if (error)
        return error;
    memmove(list->bytes + at + size, list->bytes + at + old_size, list->size - at - old_size);
    memcpy(list->bytes + at, text, size);
    list->size += size - old_size;
    return 0;
}

int string_list_add(struct string_list *list, const char *text)
{
    int error = splice(list, list->size, 0, text);
    if (!error)
        list->count++;
    return error;
}

int string_list_insert_first(struct string_list *list, const char *text)
{
    int error = splice(list, 0, 0, text);
    if (!error)
        list->count++;
    return error;
}

int string_list_replace_first(struct string_list *list, const char *text)
{
    return list->count ? splice(list, 0, strlen(list->bytes) + 1, text) : string_list_add(list, text);
}

static int read_string(struct string_list *list, const char *guest_text, size_t space, size_t string_max)
{
    for (size_t room = 256;; room *= 4) {
        int error = reserve(list, room);
        if (error)
            return error;
        size_t available = list->capacity - list->size;
        int64_t size = guest_read_string(list->bytes + list->size, guest_text, available);
        if (size >= 0) {
            list->size += (size_t)size + 1;
            list->count++;
            return (size_t)size >= string_max || list->size > space ? -E2BIG : 0;
        }
        if (size != -ENAMETOOLONG)
            return (int)size;
        if (available >= string_max || list->size + available > space)
            return -E2BIG;
    }
}

int string_list_read_guest(struct string_list *list, const uint64_t *guest_array, size_t space, size_t string_max)
{
    if (!guest_array)
        return 0;
    for (;; guest_array++) {
        uint64_t text;
        if (guest_read(&text, guest_array, sizeof text) < 0)
            return -EFAULT;
        if (!text)
            return 0;
        int error = read_string(list, (const char *)text, space - list->count * sizeof text, string_max);
        if (error)
            return error;
        if ((list->count + 1) * sizeof text > space)
            return -E2BIG;
    }
}

void string_list_free(struct string_list *list)
{
    heap_free(list->bytes);
    memset(list, 0, sizeof *list);
}
