/* Output for scripts: one JSON object a line. */
#include <cli/command.h>

#include <base/json.h>
#include <base/text.h>
#include <string.h>

void command_print_json(const char *name, const char *key, int64_t value)
{
    cleanup_text struct text line = {0};
    struct json json = json_to(&line);
    json_object(&json);
    json_key_string(&json, "name", name);
    if (key)
        json_key_number(&json, key, value);
    json_object_end(&json);
    printf("%s\n", line.data);
    fflush(stdout);
}

void command_print_json_lines(FILE *out, const char *key, const char *lines, size_t size)
{
    for (const char *end; size; size -= (size_t)(end - lines), lines = end) {
        const char *newline = memchr(lines, '\n', size);
        end = newline ? newline + 1 : lines + size;
        cleanup_text struct text text = {0};
        struct json json = json_to(&text);
        json_object(&json);
        json_key(&json, key);
        json_string_size(&json, lines, (size_t)(end - lines) - (newline != NULL));
        json_object_end(&json);
        fprintf(out, "%s\n", text.data);
    }
}
