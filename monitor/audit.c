/* Audit lines. Invariant: `lock` guards the buffer and the descriptor; a line is never cut by another. */
#include "monitor/audit.h"

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "base/names.h"
#include "base/path.h"
#include "monitor/policy/policy.h"
#include "monitor/stream-file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FLUSH_SIZE 32768u

struct mon_audit {
    pthread_mutex_t lock;
    int descriptor;
    bool failed; /* the disk is full or the like: said once */
    struct text lines;
};

int mon_audit_open(const struct mon_policy *policy, struct mon_audit **out_audit, struct error *error)
{
    *out_audit = NULL;
    if (!policy->audit_path)
        return 0;
    int descriptor = open(policy->audit_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
    if (descriptor < 0)
        return error_set_errno(error, -errno, "cannot open the audit file %s", policy->audit_path);
    struct mon_audit *audit = memory_new(sizeof(*audit));
    pthread_mutex_init(&audit->lock, NULL);
    audit->descriptor = descriptor;
    *out_audit = audit;
    return 0;
}

/* Caller holds the lock. */
static void flush_lines(struct mon_audit *audit)
{
    if (audit->lines.size && write_fully(audit->descriptor, audit->lines.data, audit->lines.size) < 0 && !audit->failed) {
        audit->failed = true;
        note("the audit file cannot be written any more: %s", strerror(errno));
    }
    audit->lines.size = 0;
}

void mon_audit_flush(struct mon_audit *audit)
{
    if (!audit)
        return;
    pthread_mutex_lock(&audit->lock);
    flush_lines(audit);
    pthread_mutex_unlock(&audit->lock);
}

void mon_audit_close(struct mon_audit *audit)
{
    if (!audit)
        return;
    flush_lines(audit);
    close(audit->descriptor);
    text_free(&audit->lines);
    pthread_mutex_destroy(&audit->lock);
    free(audit);
}

static void begin_line(struct json *json)
{
    struct timespec now;
    struct tm parts;
    char text[64];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    size_t size = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(text + size, sizeof(text) - size, ".%06ldZ", now.tv_nsec / 1000);
    json_object(json);
    json_key_string(json, "time", text);
}

static void end_line(struct mon_audit *audit, struct json *json)
{
    json_object_end(json);
    text_add_character(&audit->lines, '\n');
    if (audit->lines.size >= FLUSH_SIZE)
        flush_lines(audit);
}

static void add_error(struct json *json, int error)
{
    json_key_number(json, "error", -error);
    json_key_string(json, "error_name", error_name(-error));
}

/* What the operator's policy or the host's permissions refused; the rest of the errors are ordinary answers. */
static const char *decision_of(int64_t result)
{
    return result == -EACCES || result == -EROFS || result == -EPERM || result == -ENXIO || result == -EXDEV ? "denied" : "allowed";
}

void mon_audit_name(struct mon_audit *audit, const char *operation, const struct mon_name *name, enum mon_audit_access access,
                    int64_t result)
{
    if (!audit)
        return;
    const struct mon_folder *folder = name->folder;
    const char *slash = name->size ? "/" : "";
    cleanup_free char *host = text_print("%s%s%s", strcmp(folder->host_path, "/") ? folder->host_path : "", slash, name->path);
    cleanup_free char *guest = text_print("%s%s%s", strcmp(folder->guest_path, "/") ? folder->guest_path : "", slash, name->path);
    pthread_mutex_lock(&audit->lock);
    struct json json = json_to(&audit->lines);
    begin_line(&json);
    json_key_string(&json, "operation", operation);
    json_key_string(&json, "access", access == MON_AUDIT_WRITE ? "write" : "read");
    json_key_string(&json, "path", *guest ? guest : "/");
    json_key_string(&json, "host", *host ? host : "/");
    json_key_string(&json, "grant", folder->default_view ? "default" : "explicit");
    json_key_string(&json, "decision", decision_of(result));
    if (result < 0)
        add_error(&json, (int)result);
    end_line(audit, &json);
    pthread_mutex_unlock(&audit->lock);
}

void mon_audit_refused(struct mon_audit *audit, const char *guest_path, int error)
{
    if (!audit || error >= 0)
        return;
    pthread_mutex_lock(&audit->lock);
    struct json json = json_to(&audit->lines);
    begin_line(&json);
    json_key_string(&json, "operation", "write");
    json_key_string(&json, "access", "write");
    json_key_string(&json, "path", guest_path);
    json_key_string(&json, "by", "sandbox");
    json_key_string(&json, "decision", "denied");
    add_error(&json, error);
    end_line(audit, &json);
    pthread_mutex_unlock(&audit->lock);
}

void mon_audit_event(struct mon_audit *audit, const char *event, const char *text, int64_t value)
{
    if (!audit)
        return;
    pthread_mutex_lock(&audit->lock);
    struct json json = json_to(&audit->lines);
    begin_line(&json);
    json_key_string(&json, "event", event);
    if (text)
        json_key_string(&json, "text", text);
    json_key_number(&json, "value", value);
    end_line(audit, &json);
    pthread_mutex_unlock(&audit->lock);
}
