/* JSON writer and flat reader. The reader walks its text from the start for every key and never
 * past the NUL; anything it does not understand makes the key absent. */
#include <base/json.h>

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void begin_value(struct json *json)
{
    if (json->after_key)
        json->after_key = false;
    else if (json->has_items[json->depth])
        text_add_character(json->text, ',');
    json->has_items[json->depth] = true;
}

static void open_level(struct json *json, char bracket)
{
    begin_value(json);
    text_add_character(json->text, bracket);
    assert(json->depth + 1 < sizeof(json->has_items));
    json->has_items[++json->depth] = false;
}

static void close_level(struct json *json, char bracket)
{
    json->depth--;
    text_add_character(json->text, bracket);
}

void json_object(struct json *json)
{
    open_level(json, '{');
}
void json_object_end(struct json *json)
{
    close_level(json, '}');
}
void json_array(struct json *json)
{
    open_level(json, '[');
}
void json_array_end(struct json *json)
{
    close_level(json, ']');
}

static void add_quoted(struct text *out, const char *value, size_t size)
{
    static const char escapes[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    text_add_character(out, '"');
    for (size_t i = 0; i < size;) {
        unsigned char c = (unsigned char)value[i];
        const char *escape = NULL;
        for (const char *e = escapes; *e; e += 2)
            if ((unsigned char)*e == c)
                escape = e + 1;
        if (escape) {
            text_add_character(out, '\\');
            text_add_character(out, *escape);
            i++;
        } else if (c < ' ' || c == 0x7f) {
            text_format(out, "\\u%04x", c);
            i++;
        } else {
            size_t length = text_sequence_size(value + i, size - i);
            if (length == 2 && c == 0xc2 && (unsigned char)value[i + 1] < 0xa0)
                text_format(out, "\\u%04x",
                            (unsigned char)value[i + 1]); /* control characters too */
            else if (length)
                text_add_size(out, value + i, length);
            else
                text_add(out, "\xef\xbf\xbd");
            i += length ? length : 1;
        }
    }
    text_add_character(out, '"');
}

void json_key(struct json *json, const char *key)
{
    begin_value(json);
    add_quoted(json->text, key, strlen(key));
    text_add_character(json->text, ':');
    json->after_key = true;
}

void json_string_size(struct json *json, const char *value, size_t size)
{
    begin_value(json);
    add_quoted(json->text, value, size);
}

void json_string(struct json *json, const char *value)
{
    if (value)
        json_string_size(json, value, strlen(value));
    else
        json_null(json);
}

void json_number(struct json *json, int64_t value)
{
    begin_value(json);
    text_format(json->text, "%lld", (long long)value);
}

void json_boolean(struct json *json, bool value)
{
    begin_value(json);
    text_add(json->text, value ? "true" : "false");
}

void json_raw(struct json *json)
{
    begin_value(json);
}

void json_null(struct json *json)
{
    begin_value(json);
    text_add(json->text, "null");
}

void json_key_string(struct json *json, const char *key, const char *value)
{
    json_key(json, key);
    json_string(json, value);
}

void json_key_number(struct json *json, const char *key, int64_t value)
{
    json_key(json, key);
    json_number(json, value);
}

void json_key_boolean(struct json *json, const char *key, bool value)
{
    json_key(json, key);
    json_boolean(json, value);
}

void json_key_strings(struct json *json, const char *key, char *const *values, size_t count)
{
    json_key(json, key);
    json_array(json);
    for (size_t i = 0; i < count; i++)
        json_string(json, values[i]);
    json_array_end(json);
}

/* ---- Reading ---- */

static const char *skip_space(const char *p)
{
    return p + strspn(p, " \t\r\n");
}

static void add_code_point(struct text *out, unsigned value)
{
    if (value < 0x80) {
        text_add_character(out, (char)value);
    } else if (value < 0x800) {
        text_add_character(out, (char)(0xc0 | value >> 6));
        text_add_character(out, (char)(0x80 | (value & 0x3f)));
    } else {
        text_add_character(out, (char)(0xe0 | value >> 12));
        text_add_character(out, (char)(0x80 | (value >> 6 & 0x3f)));
        text_add_character(out, (char)(0x80 | (value & 0x3f)));
    }
}

/* At a quote: returns the place after the closing one, or NULL; the contents are added to `out`
 * unless that is NULL. */
static const char *read_quoted(const char *p, struct text *out)
{
    static const char escapes[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
    if (*p++ != '"')
        return NULL;
    for (; *p && *p != '"'; p++) {
        char c = *p;
        if (c == '\\') {
            c = *++p;
            if (c == 'u') {
                char digits[5] = {0};
                for (int i = 0; i < 4; i++) {
                    digits[i] = p[1];
                    if (!digits[i] || !strchr("0123456789abcdefABCDEF", digits[i]))
                        return NULL;
                    p++;
                }
                if (out)
                    add_code_point(out, (unsigned)strtoul(digits, NULL, 16));
                continue;
            }
            const char *found = NULL;
            for (const char *e = escapes; *e; e += 2)
                if (*e == c)
                    found = e + 1;
            if (!found)
                return NULL;
            c = *found;
        }
        if (out)
            text_add_character(out, c);
    }
    return *p == '"' ? p + 1 : NULL;
}

static const char *skip_value(const char *p)
{
    if (*p == '"')
        return read_quoted(p, NULL);
    unsigned depth = 0;
    for (; *p; p++) {
        if (*p == '"') {
            p = read_quoted(p, NULL);
            if (!p)
                return NULL;
            p--;
        } else if (*p == '[' || *p == '{') {
            depth++;
        } else if (*p == ']' || *p == '}') {
            if (depth == 0)
                return p;
            depth--;
        } else if (*p == ',' && depth == 0) {
            return p;
        }
    }
    return p;
}

static const char *find_member(const char *object, const char *key)
{
    const char *p = skip_space(object);
    if (*p++ != '{')
        return NULL;
    for (;;) {
        cleanup_text struct text name = {0};
        p = read_quoted(skip_space(p), &name);
        if (!p)
            return NULL;
        p = skip_space(p);
        if (*p++ != ':')
            return NULL;
        p = skip_space(p);
        if (text_equal(name.data ? name.data : "", key))
            return p;
        p = skip_value(p);
        if (!p)
            return NULL;
        p = skip_space(p);
        if (*p++ != ',')
            return NULL;
    }
}

bool json_read_string(const char *object, const char *key, char **out_value)
{
    const char *p = find_member(object, key);
    cleanup_text struct text value = {0};
    if (!p || !read_quoted(p, &value))
        return false;
    *out_value = text_take(&value);
    return true;
}

bool json_read_number(const char *object, const char *key, int64_t *out_value)
{
    const char *p = find_member(object, key);
    if (!p || !strchr("-0123456789", *p) || !*p)
        return false;
    *out_value = strtoll(p, NULL, 10);
    return true;
}

bool json_read_boolean(const char *object, const char *key, bool *out_value)
{
    const char *p = find_member(object, key);
    if (!p || (!text_starts_with(p, "true") && !text_starts_with(p, "false")))
        return false;
    *out_value = *p == 't';
    return true;
}

bool json_read_strings(const char *object, const char *key, struct text_list *out_values)
{
    const char *p = find_member(object, key);
    if (!p || *p != '[')
        return false;
    p = skip_space(p + 1);
    while (*p == '"') {
        cleanup_text struct text value = {0};
        p = read_quoted(p, &value);
        if (!p)
            return false;
        text_list_take(out_values, text_take(&value));
        p = skip_space(p);
        if (*p == ',')
            p = skip_space(p + 1);
    }
    return *p == ']';
}
