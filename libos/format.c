/* Formatting, number parsing, the log line and panic. Output never exceeds the given buffer and is
 * always terminated when the buffer has any room. */
#include <bailey/start.h>

#include "libos/abi.h"
#include "libos/text.h"
#include "libos/thread.h"
#include <asm/errno.h>

struct output {
    char *buffer;
    size_t size, length; /* length: what it would be without the limit */
};

static void put(struct output *output, char character)
{
    if (output->length + 1 < output->size)
        output->buffer[output->length] = character;
    output->length++;
}

static void put_repeated(struct output *output, char character, int64_t count)
{
    while (count-- > 0)
        put(output, character);
}

struct conversion {
    bool left, zero, plus, space, alternate;
    int width, precision; /* precision -1: none */
    int size;             /* of the integer argument in bytes */
};

static void put_text(struct output *output, const struct conversion *conversion, const char *text,
                     size_t length)
{
    if (!conversion->left)
        put_repeated(output, ' ', conversion->width - (int64_t)length);
    for (size_t i = 0; i < length; i++)
        put(output, text[i]);
    if (conversion->left)
        put_repeated(output, ' ', conversion->width - (int64_t)length);
}

static void put_number(struct output *output, const struct conversion *conversion, uint64_t value,
                       unsigned base, bool upper, const char *prefix)
{
    const char *digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
    char reversed[24];
    int count = 0, prefix_length = (int)strlen(prefix);

    for (; value; value /= base)
        reversed[count++] = digits[value % base];
    if (count == 0 && conversion->precision != 0)
        reversed[count++] = '0';

    int zeros = conversion->precision > count ? conversion->precision - count : 0;
    int padding = conversion->width - count - zeros - prefix_length;
    if (padding < 0)
        padding = 0;
    if (conversion->zero && !conversion->left && conversion->precision < 0) {
        zeros = padding;
        padding = 0;
    }
    if (!conversion->left)
        put_repeated(output, ' ', padding);
    while (*prefix)
        put(output, *prefix++);
    put_repeated(output, '0', zeros);
    while (count > 0)
        put(output, reversed[--count]);
    if (conversion->left)
        put_repeated(output, ' ', padding);
}

static const char *parse_conversion(const char *pattern, struct conversion *out,
                                    int *width_argument, int *precision_argument)
{
    *out = (struct conversion){.precision = -1, .size = sizeof(int)};
    *width_argument = *precision_argument = 0;
    for (;; pattern++) {
        if (*pattern == '-')
            out->left = true;
        else if (*pattern == '0')
            out->zero = true;
        else if (*pattern == '+')
            out->plus = true;
        else if (*pattern == ' ')
            out->space = true;
        else if (*pattern == '#')
            out->alternate = true;
        else
            break;
    }
    if (*pattern == '*') {
        *width_argument = 1;
        pattern++;
    }
    for (; *pattern >= '0' && *pattern <= '9'; pattern++)
        out->width = out->width * 10 + (*pattern - '0');
    if (*pattern == '.') {
        out->precision = 0;
        if (*++pattern == '*') {
            *precision_argument = 1;
            pattern++;
        }
        for (; *pattern >= '0' && *pattern <= '9'; pattern++)
            out->precision = out->precision * 10 + (*pattern - '0');
    }
    for (;; pattern++) {
        if (*pattern == 'l' || *pattern == 'z' || *pattern == 'j' || *pattern == 't')
            out->size = sizeof(long);
        else if (*pattern == 'h')
            out->size = out->size == 2 ? 1 : 2;
        else
            break;
    }
    return pattern;
}

int format_list(char *buffer, size_t size, const char *pattern, va_list arguments)
{
    struct output output = {buffer, size, 0};

    for (; *pattern; pattern++) {
        if (*pattern != '%') {
            put(&output, *pattern);
            continue;
        }
        struct conversion conversion;
        int width_argument, precision_argument;
        pattern = parse_conversion(pattern + 1, &conversion, &width_argument, &precision_argument);
        if (width_argument) {
            conversion.width = va_arg(arguments, int);
            if (conversion.width < 0) {
                conversion.left = true;
                conversion.width = -conversion.width;
            }
        }
        if (precision_argument)
            conversion.precision = va_arg(arguments, int);

        switch (*pattern) {
        case 'd':
        case 'i': {
            int64_t value =
                conversion.size == sizeof(long) ? va_arg(arguments, long) : va_arg(arguments, int);
            if (conversion.size == 2)
                value = (int16_t)value;
            else if (conversion.size == 1)
                value = (int8_t)value;
            uint64_t magnitude = value < 0 ? -(uint64_t)value : (uint64_t)value;
            put_number(&output, &conversion, magnitude, 10, false,
                       value < 0          ? "-"
                       : conversion.plus  ? "+"
                       : conversion.space ? " "
                                          : "");
            break;
        }
        case 'u':
        case 'o':
        case 'x':
        case 'X': {
            uint64_t value = conversion.size == sizeof(long) ? va_arg(arguments, unsigned long)
                                                             : va_arg(arguments, unsigned);
            if (conversion.size == 2)
                value = (uint16_t)value;
            else if (conversion.size == 1)
                value = (uint8_t)value;
            const char *prefix = !conversion.alternate || !value ? ""
                                 : *pattern == 'o'               ? "0"
                                 : *pattern == 'x'               ? "0x"
                                 : *pattern == 'X'               ? "0X"
                                                                 : "";
            put_number(&output, &conversion, value,
                       *pattern == 'u'   ? 10
                       : *pattern == 'o' ? 8
                                         : 16,
                       *pattern == 'X', prefix);
            break;
        }
        case 'p':
            put_number(&output, &conversion, (uintptr_t)va_arg(arguments, void *), 16, false, "0x");
            break;
        case 'c': {
            char character = (char)va_arg(arguments, int);
            put_text(&output, &conversion, &character, 1);
            break;
        }
        case 's': {
            const char *text = va_arg(arguments, const char *);
            if (!text)
                text = "(null)";
            put_text(&output, &conversion, text,
                     conversion.precision >= 0 ? strnlen(text, (size_t)conversion.precision)
                                               : strlen(text));
            break;
        }
        case '%':
            put(&output, '%');
            break;
        case 0:
            pattern--; /* a lone % at the end */
            break;
        default:
            put(&output, '%');
            put(&output, *pattern);
        }
    }
    if (size > 0)
        buffer[output.length < size ? output.length : size - 1] = 0;
    return (int)output.length;
}

int format(char *buffer, size_t size, const char *pattern, ...)
{
    va_list arguments;

    va_start(arguments, pattern);
    int length = format_list(buffer, size, pattern, arguments);
    va_end(arguments);
    return length;
}

static int digit_value(char character)
{
    if (character >= '0' && character <= '9')
        return character - '0';
    if (character >= 'a' && character <= 'f')
        return character - 'a' + 10;
    if (character >= 'A' && character <= 'F')
        return character - 'A' + 10;
    return 99;
}

size_t parse_number(const char *text, size_t size, uint64_t *out_value)
{
    int base = 10;
    size_t position = 0;
    uint64_t value = 0;

    if (size > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X') &&
        digit_value(text[2]) < 16) {
        base = 16;
        position = 2;
    } else if (size > 1 && text[0] == '0') {
        base = 8;
    }
    size_t start = position;
    for (; position < size && digit_value(text[position]) < base; position++)
        value = value * (unsigned)base + (unsigned)digit_value(text[position]);
    if (position == start)
        return 0;
    *out_value = value;
    return position;
}

void log_line(unsigned level, const char *pattern, ...)
{
    char line[512];
    va_list arguments;

    va_start(arguments, pattern);
    int length = format_list(line, sizeof line, pattern, arguments);
    va_end(arguments);
    bly->log(level, line, (size_t)length < sizeof line ? (size_t)length : sizeof line - 1);
}

void panic(const char *pattern, ...)
{
    struct {
        struct bly_control header;
        char text[400];
    } record = {.header = {.kind = BLY_CONTROL_PANIC}};
    va_list arguments;

    va_start(arguments, pattern);
    int length = format_list(record.text, sizeof record.text, pattern, arguments);
    va_end(arguments);
    if ((size_t)length >= sizeof record.text)
        length = sizeof record.text - 1;
    record.header.size = (uint32_t)length;

    const struct bly_start_info *info = (const void *)BLY_START_INFO;
    struct bly_iovec vector = {&record, sizeof record.header + (size_t)length};
    int64_t told;
    do /* an interrupt would cut it short */
        thread_block()->interrupt_pending = 0;
    while ((told = bly->stream_write(info->control, &vector, 1, BLY_AT_CURRENT,
                                     BLY_STREAM_NO_WAIT)) == -EINTR);
    /* The user reads it once; the log has it in any case. */
    bly->log(told < 0 ? BLY_LOG_ERROR : BLY_LOG_INFO, record.text, (size_t)length);
    bly->process_exit(255);
    __builtin_trap();
}
