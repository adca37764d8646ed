/* Argument lists on their way from one program to the next: strings one after another, with their NULs, in the kernel heap. */
#ifndef LX_PROCESS_STRINGS_H
#define LX_PROCESS_STRINGS_H

#include <stddef.h>
#include <stdint.h>

struct string_list {
    char *bytes;
    size_t size, capacity;
    size_t count;
};

/* All: 0, -ENOMEM; a list that is all zeros is empty. */
int string_list_add(struct string_list *list, const char *text) __attribute__((warn_unused_result));
int string_list_insert_first(struct string_list *list, const char *text) __attribute__((warn_unused_result));
int string_list_replace_first(struct string_list *list, const char *text) __attribute__((warn_unused_result)); /* adds when empty */
/* The program's NULL-terminated array of strings. -EFAULT, -E2BIG: in all more than `space` bytes (pointers counted), or a string longer than `string_max`. */
int string_list_read_guest(struct string_list *list, const uint64_t *guest_array, size_t space, size_t string_max) __attribute__((warn_unused_result));
void string_list_free(struct string_list *list);

#endif
