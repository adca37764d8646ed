/* The log pipe: records of the picoprocesses, to standard error or to whoever traces. What is in them is hostile text: control characters
 * are taken out, sizes checked; a stream that is no longer in step is dropped up to what can be read next. */
#include "monitor/sandbox.h"

#include "base/text.h"

#include <string.h>
#include <unistd.h>

/* The log of the sandbox gets what matters to whoever looks for a cause; standard error what the user must know. A terminal in raw mode
 * needs the carriage return. */
static void print_line(const struct mon_sandbox *sandbox, unsigned level, const char *text, size_t size)
{
    static const char prefix[] = "bailey: ";
    char line[BLY_LOG_RECORD_MAX + 64];
    size_t at = 0;
    if (level != BLY_LOG_TRACE) {
        memcpy(line, prefix, sizeof(prefix) - 1);
        at = sizeof(prefix) - 1;
    }
    memcpy(line + at, text, size);
    text_make_printable(line + at, size);
    at += size;
    line[at] = '\n';
    if (level <= BLY_LOG_INFO)
        mon_control_log(sandbox->control, line, at + 1);
    if (level > sandbox->log_level && level != BLY_LOG_TRACE)
        return;
    if (sandbox->stdio.raw)
        line[at++] = '\r';
    line[at++] = '\n';
    (void)!write(STDERR_FILENO, line, at);
}

static void deliver(struct mon_sandbox *sandbox, const struct bly_log_record *record, const char *text)
{
    if (record->level > BLY_LOG_TRACE || record->size == 0)
        return;
    if (record->level == BLY_LOG_TRACE && sandbox->control && mon_control_traced(sandbox->control))
        mon_control_trace_line(sandbox->control, text, record->size);
    else
        print_line(sandbox, record->level, text, record->size);
}

static void deliver_complete(struct mon_sandbox *sandbox)
{
    size_t at = 0;
    while (sandbox->log_size - at >= sizeof(struct bly_log_record)) {
        struct bly_log_record record;
        memcpy(&record, sandbox->log_data + at, sizeof(record));
        if (record.size > BLY_LOG_RECORD_MAX - sizeof(record)) {
            at = sandbox->log_size;
            break;
        }
        if (sandbox->log_size - at < sizeof(record) + record.size)
            break;
        deliver(sandbox, &record, (const char *)sandbox->log_data + at + sizeof(record));
        at += sizeof(record) + record.size;
    }
    memmove(sandbox->log_data, sandbox->log_data + at, sandbox->log_size - at);
    sandbox->log_size -= at;
}

/* Returns false when there is nothing more. */
static bool read_once(struct mon_sandbox *sandbox)
{
    ssize_t size = read(sandbox->log, sandbox->log_data + sandbox->log_size, sizeof(sandbox->log_data) - sandbox->log_size);
    if (size <= 0) {
        if (size == 0)
            mon_watch_remove(&sandbox->loop, &sandbox->log_watch);
        return false;
    }
    sandbox->log_size += (size_t)size;
    deliver_complete(sandbox);
    return true;
}

void mon_log_read(struct mon_watch *watch, uint32_t events)
{
    read_once(watch->context);
}

void mon_log_drain(struct mon_sandbox *sandbox)
{
    while (sandbox->log >= 0 && read_once(sandbox))
        ;
}
