/* A small JSON writer over a growing text, and a reader for the flat objects that Bailey writes
 * itself (state files, audit lines). The writer puts commas and escapes; nesting up to 16 levels.
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <base/text.h>
#include <stdbool.h>
#include <stdint.h>

struct json {
    struct text *text;
    unsigned depth;
    bool has_items[16]; /* at each depth: a comma comes before the next value */
    bool after_key;
};

static inline struct json json_to(struct text *text)
{
    return (struct json){.text = text};
}
void json_object(struct json *json); /* { */
void json_object_end(struct json *json);
void json_array(struct json *json); /* [ */
void json_array_end(struct json *json);
void json_key(struct json *json, const char *key);
void json_string(struct json *json,
                 const char *value); /* NULL writes null; bytes that are not UTF-8 become U+FFFD */
void json_string_size(struct json *json, const char *value, size_t size);
void json_number(struct json *json, int64_t value);
void json_boolean(struct json *json, bool value);
void json_null(struct json *json);
void json_raw(struct json *json); /* the caller adds one value to the text itself */
/* key and value in one. */
void json_key_string(struct json *json, const char *key, const char *value);
void json_key_number(struct json *json, const char *key, int64_t value);
void json_key_boolean(struct json *json, const char *key, bool value);
void json_key_strings(struct json *json, const char *key, char *const *values, size_t count);

/* Reading one member of a flat object. Returns false when the key is absent or of another type. */
bool json_read_string(const char *object, const char *key, char **out_value);
bool json_read_number(const char *object, const char *key, int64_t *out_value);
bool json_read_boolean(const char *object, const char *key, bool *out_value);
bool json_read_strings(const char *object, const char *key, struct text_list *out_values);

#endif
