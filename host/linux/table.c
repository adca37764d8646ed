/* The vtable, plain; and behind the shim that traces calls and injects faults (start information).
 *
 * The shim costs nothing when it is not asked for: another table is handed out. */

#include "host.h"

#define BLY_GROUP(name, title)
#define BLY_CALL(type, name, parameters, arguments, format) .name = host_##name,
static const struct bly_abi plain_table = {
    .version = BLY_ABI_VERSION,
    .size = sizeof(struct bly_abi),
#include <bailey/abi.def>
};
#undef BLY_CALL
#undef BLY_GROUP

#define TRACE_STRING_MAX 96u
#define TRACE_LINE_MAX 512u

struct trace {
    uint64_t start_ns;
    const char *name, *format;
};
struct line {
    char text[TRACE_LINE_MAX];
    size_t size;
};

static void put_text(struct line *line, const char *text, size_t size)
{
    while (size-- && line->size < TRACE_LINE_MAX)
        line->text[line->size++] = *text++;
}

static void put_number(struct line *line, uint64_t value, unsigned base)
{
    char digits[24];
    size_t at = sizeof digits;
    do
        digits[--at] = "0123456789abcdef"[value % base];
    while (value /= base);
    if (base == 16)
        put_text(line, "0x", 2);
    put_text(line, digits + at, sizeof digits - at);
}

static void put_signed(struct line *line, int64_t value)
{
    if (value < 0)
        put_text(line, "-", 1);
    put_number(line, value < 0 ? -(uint64_t)value : (uint64_t)value, 10);
}

static void put_string(struct line *line, const char *text, uint64_t size)
{
    put_text(line, "\"", 1);
    for (uint64_t i = 0; text && i < size && i < TRACE_STRING_MAX; i++)
        put_text(line, text[i] >= ' ' && text[i] < 127 ? &text[i] : "?", 1);
    put_text(line, size > TRACE_STRING_MAX ? "\"..." : "\"", size > TRACE_STRING_MAX ? 4 : 1);
}

/* One letter of the format is one argument; `s` and `v` are printed together with their length,
 * which follows. */
static void put_arguments(struct line *line, const char *format, const uint64_t *words)
{
    for (unsigned i = 0; format[i]; i++) {
        if (i)
            put_text(line, ", ", 2);
        switch (format[i]) {
        case 'u': /* BLY_FOREVER, BLY_AT_CURRENT */
            words[i] == UINT64_MAX ? put_text(line, "-1", 2) : put_number(line, words[i], 10);
            break;
        case 'd':
            put_signed(line, (int32_t)words[i]);
            break;
        case 's':
            put_string(line, (const char *)words[i], words[i + 1]);
            i++;
            break;
        case 'v':
            put_number(line, words[i], 16);
            put_text(line, "[", 1);
            put_number(line, words[i + 1], 10);
            put_text(line, "]", 1);
            i++;
            break;
        default:
            put_number(line, words[i], 16);
            break;
        }
    }
}

static void trace_injected(const char *name)
{
    struct line line = {.size = 0};
    put_text(&line, "fault injected: ", 16);
    put_text(&line, name, host_length(name));
    put_text(&line, " fails with ", 12);
    put_signed(&line, host.fault_error);
    host_log(BLY_LOG_TRACE, line.text, line.size);
}

/* True: the call is not made and answers *out_injected. Calls that cannot fail pass NULL. */
static bool trace_begin(struct trace *trace, uint32_t index, const char *name, const char *format,
                        const uint64_t *words, int64_t *out_injected)
{
    *trace = (struct trace){.name = name, .format = format};
    bool inject = out_injected && index == host.fault_call && host.fault_count &&
                  __atomic_sub_fetch((uint32_t *)&host.fault_count, 1, __ATOMIC_RELAXED) == 0;
    if (host_info->flags & BLY_START_TRACE_ABI)
        trace->start_ns = host_now_ns();
    if (inject) {
        *out_injected = host.fault_error;
        trace_injected(name);
    }
    return inject;
}

static void trace_end(const struct trace *trace, const uint64_t *words, int64_t result)
{
    if (!trace->start_ns)
        return;
    uint64_t elapsed = host_now_ns() - trace->start_ns;
    const struct bly_thread_block *block = host_block();
    struct line line = {.size = 0};
    put_number(&line, block->process_id, 10);
    put_text(&line, "/", 1);
    put_number(&line, block->thread_id, 10);
    put_text(&line, " ", 1);
    put_text(&line, trace->name, host_length(trace->name));
    put_text(&line, "(", 1);
    put_arguments(&line, trace->format, words);
    put_text(&line, ") = ", 4);
    put_signed(&line, result);
    put_text(&line, " <", 2);
    put_number(&line, elapsed, 10);
    put_text(&line, " ns>", 4);
    host_log(BLY_LOG_TRACE, line.text, line.size);
}

#include "abi-shim.h"

#define BLY_GROUP(name, title)
#define BLY_CALL(type, name, parameters, arguments, format) .name = shim_##name,
static const struct bly_abi shim_table = {
    .version = BLY_ABI_VERSION,
    .size = sizeof(struct bly_abi),
#include <bailey/abi.def>
};
#undef BLY_CALL
#undef BLY_GROUP

const struct bly_abi *host_abi_select(void)
{
    bool shim = host_info->flags & BLY_START_TRACE_ABI || host_info->fault_call;
    return shim ? &shim_table : &plain_table;
}
