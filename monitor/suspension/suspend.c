/* See suspend.h. Invariants: a sandbox that was asked to be quiet is told to go on exactly when `quiet` is taken back, by either thread;
 * after `committed` the image is completed whatever happens, and before it every cancellation counts. The thread touches of the sandbox
 * only what is constant while it runs, the channel and what has locks of its own. */
#include "monitor/suspension/suspend.h"

#include "base/cleanup.h"
#include "base/path.h"
#include "monitor/suspension/absent.h"
#include "monitor/suspension/arriving.h"
#include "monitor/suspension/suspension.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#define QUIESCE_MS 5000 /* calls to the monitor under way may take long */
#define ANSWER_MS 3000  /* more, for the answer itself */
#define PROGRESS_NS 100000000ull
#define ENDING_MS 10000 /* a thread that a file system holds up longer than this is left alone */
#define HELD_MAX (4u << 20)
#define THAW_STEPS 200
#define THAW_STEP_US 5000

/* ---- The thread ---- */

static int refuse_cancelled(const char *why, struct error *error)
{
    return error_set(error, -ECANCELED, "%s meanwhile", why);
}

int mon_suspension_refuse(const struct mon_suspension *suspension, struct error *error)
{
    return refuse_cancelled(suspension->cancelled ? suspension->cancelled : "it ended", error);
}

int mon_suspension_progress(void *context, uint64_t bytes, struct error *error)
{
    struct mon_suspension *suspension = context;
    suspension->written = bytes;
    pthread_mutex_lock(&suspension->lock);
    const char *why = suspension->cancelled;
    pthread_mutex_unlock(&suspension->lock);
    return why ? refuse_cancelled(why, error) : 0;
}

static int send_to_sandbox(const struct mon_suspension *suspension, uint32_t kind, int32_t value, uint32_t flags)
{
    struct bly_control record = {.kind = kind, .value = value, .flags = flags};
    return send(suspension->sandbox->channel, &record, sizeof(record), MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

void mon_suspension_tell_main_thread(const struct mon_suspension *suspension)
{
    const uint64_t one = 1;
    (void)!write(suspension->event, &one, sizeof(one));
}

/* Caller holds the lock. What the host lacks for a moment must not leave the sandbox at rest for ever. */
static void thaw(struct mon_suspension *suspension)
{
    int result = suspension->quiet ? send_to_sandbox(suspension, BLY_CONTROL_THAW, 0, 0) : 0;
    for (unsigned step = 0; result < 0 && result != -EPIPE && result != -ECONNRESET && step < THAW_STEPS; step++) {
        usleep(THAW_STEP_US);
        result = send_to_sandbox(suspension, BLY_CONTROL_THAW, 0, 0);
    }
    if (result < 0)
        note("the sandbox does not take that it may go on");
    suspension->quiet = false;
}

/* It need not stand still for what follows. */
void mon_suspension_go_on(struct mon_suspension *suspension)
{
    pthread_mutex_lock(&suspension->lock);
    thaw(suspension);
    suspension->wants_hold = suspension->may_stop = false;
    pthread_mutex_unlock(&suspension->lock);
    mon_suspension_tell_main_thread(suspension);
}

struct timespec mon_suspension_deadline(uint64_t ms)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    uint64_t ns = (uint64_t)time.tv_nsec + ms * 1000000;
    return (struct timespec){time.tv_sec + (time_t)(ns / 1000000000), (long)(ns % 1000000000)};
}

/* Caller holds the lock. Also one that was cancelled gets its answer, which tells of clones. */
static int wait_for_answer(struct mon_suspension *suspension, struct error *error)
{
    struct timespec deadline = mon_suspension_deadline(QUIESCE_MS + ANSWER_MS);
    int result = 0;
    while (!suspension->has_answer && !suspension->no_answer && result == 0)
        result = pthread_cond_timedwait(&suspension->changed, &suspension->lock, &deadline);
    suspension->no_answer = !suspension->has_answer;
    if (suspension->cancelled)
        return refuse_cancelled(suspension->cancelled, error);
    if (!suspension->has_answer)
        return error_set(error, -ETIMEDOUT, "it does not come to rest");
    if (suspension->answer == 0)
        return 0;
    suspension->quiet = false;
    return error_set(error, suspension->answer, "%s", *suspension->text ? suspension->text : "it does not come to rest");
}

int mon_suspension_quiesce(struct mon_suspension *suspension, uint32_t flags, struct error *error)
{
    pthread_mutex_lock(&suspension->lock);
    suspension->has_answer = false;
    suspension->no_answer = suspension->ending;
    free(take_pointer(suspension->ids));
    int result = suspension->cancelled ? -ECANCELED : send_to_sandbox(suspension, BLY_CONTROL_QUIESCE, QUIESCE_MS, flags);
    suspension->quiet = result == 0;
    suspension->quiet_ns = mon_now_ns();
    if (suspension->cancelled)
        refuse_cancelled(suspension->cancelled, error);
    else if (result < 0)
        error_set_errno(error, result, "cannot ask it to be quiet");
    else
        result = wait_for_answer(suspension, error);
    pthread_mutex_unlock(&suspension->lock);
    return result;
}

/* From here on there is no way back. */
int mon_suspension_commit(struct mon_suspension *suspension, struct error *error)
{
    pthread_mutex_lock(&suspension->lock);
    int result = suspension->cancelled ? refuse_cancelled(suspension->cancelled, error) : 0;
    suspension->committed = result == 0;
    pthread_mutex_unlock(&suspension->lock);
    return result;
}

static uint64_t segment_size(int descriptor)
{
    struct stat status;
    return fstat(descriptor, &status) < 0 ? 0 : (uint64_t)status.st_blocks * 512;
}

uint64_t mon_suspension_shared_size(const struct mon_sandbox *sandbox)
{
    return segment_size(sandbox->heap) + segment_size(sandbox->bulk) + mon_absent_size(sandbox->absent);
}

/* With clones their ids follow the others: 0 where there is none, so that the memory must be read from the process itself. */
int mon_suspension_find_memory(struct mon_suspension *suspension, struct mon_memory **out_memory, bool *out_has_clones, struct error *error)
{
    const struct mon_sandbox *sandbox = suspension->sandbox;
    size_t count = suspension->id_count;
    *out_has_clones = suspension->keep_running;
    if (suspension->keep_running)
        count /= 2;
    cleanup_free uint32_t *from = memory_new((count + 1) * sizeof(*from));
    for (size_t i = 0; i < count; i++) {
        uint32_t clone = suspension->keep_running ? suspension->ids[count + i] : 0;
        from[i] = clone ? clone : suspension->ids[i];
        *out_has_clones &= clone != 0;
    }
    uint64_t size;
    int result = mon_image_find_memory(sandbox, suspension->ids, from, count, out_memory, &size, error);
    suspension->expected = mon_suspension_shared_size(sandbox) + size;
    return result;
}

/* What cannot be carried is found out before anything large is written. */
int mon_suspension_write_records(struct mon_suspension *suspension, struct img_writer *writer, struct error *error)
{
    struct mon_sandbox *sandbox = suspension->sandbox;
    int result = mon_image_sandbox(sandbox, writer, error);
    if (result == 0)
        result = mon_image_handles(sandbox, &suspension->saving, writer, error);
    if (result == 0)
        result = img_writer_space(writer, IMG_SPACE_HEAP, 0, error);
    return result < 0 ? result : img_writer_segment(writer, BLY_HEAP_START, sandbox->heap, error);
}

int mon_suspension_write_shared(struct mon_suspension *suspension, struct img_writer *writer, struct error *error)
{
    struct mon_sandbox *sandbox = suspension->sandbox;
    int result = mon_suspension_write_records(suspension, writer, error);
    if (result == 0)
        result = img_writer_space(writer, IMG_SPACE_BULK, 0, error);
    return result < 0 ? result : mon_absent_write(sandbox, writer, error);
}

static int write_memory(struct mon_suspension *suspension, struct img_writer *writer, struct error *error)
{
    struct mon_memory *memory = NULL;
    bool has_clones = false;
    uint64_t begin = mon_now_ns();
    int result = mon_suspension_quiesce(suspension, suspension->keep_running ? BLY_QUIESCE_CLONE : 0, error);
    if (suspension->has_answer && suspension->answer == 0) {
        struct error *of_finding = result < 0 ? &(struct error){0} : error;
        int found = mon_suspension_find_memory(suspension, &memory, &has_clones, of_finding);
        result = result < 0 ? result : found;
    }
    if (result == 0)
        result = mon_suspension_write_shared(suspension, writer, error);
    if (result == 0 && suspension->keep_running)
        result = mon_suspension_write_input(suspension, writer, error);
    if (result == 0 && has_clones) {
        mon_suspension_go_on(suspension);
        suspension->report.pause_ns = mon_now_ns() - begin;
    }
    if (result == 0)
        result = mon_image_write_memory(suspension->sandbox, memory, writer, error);
    if (result == 0 && !suspension->keep_running)
        result = mon_suspension_write_input(suspension, writer, error);
    if (result == 0 && suspension->keep_running && !has_clones) {
        mon_suspension_go_on(suspension);
        suspension->report.pause_ns = mon_now_ns() - begin;
    }
    if (result == 0)
        result = mon_image_contents(&suspension->saving, writer, /*early=*/false, error);
    mon_image_free_memory(memory);
    return result;
}

static int take_no_end(void *context, const struct img_header *header, const void *index, size_t index_size, struct error *error)
{
    return 0;
}

/* Files are read while it runs, so that only those which changed since are when it stands still. What fails here fails there. */
static void sum_files(struct mon_suspension *suspension)
{
    struct img_writer *writer;
    struct error ignored = {0};
    struct img_sink nothing = {.end = take_no_end, .name = "a look at the files"};
    img_writer_open_sink(&nothing, &writer);
    (void)!mon_image_handles(suspension->sandbox, &suspension->saving, writer, &ignored);
    img_writer_abandon(writer);
}

static int write_image(struct mon_suspension *suspension, struct error *error)
{
    struct img_writer *writer;
    int result = img_writer_open(suspension->path, &writer, error);
    if (result < 0)
        return result;
    struct mon_base base = {.file = -1};
    if (suspension->saving.sums)
        sum_files(suspension);
    uint64_t begin = mon_now_ns();
    img_writer_on_progress(writer, mon_suspension_progress, suspension);
    result = mon_base_open(suspension, writer, &base, error);
    if (result == 0)
        result = write_memory(suspension, writer, error);
    if (result == 0)
        result = mon_suspension_commit(suspension, error);
    suspension->report.memory_size = img_writer_bytes(writer);
    suspension->report.named_size = img_writer_named_bytes(writer);
    if (result < 0)
        img_writer_abandon(writer);
    else
        result = img_writer_finish(writer, error);
    mon_base_close(&base);
    suspension->report.total_ns = mon_now_ns() - begin;
    if (!suspension->keep_running)
        suspension->report.pause_ns = suspension->report.total_ns;
    return result;
}

static void *run(void *context)
{
    struct mon_suspension *suspension = context;
    suspension->result = suspension->peer < 0 ? write_image(suspension, &suspension->error) : mon_migrate(suspension, &suspension->error);
    pthread_mutex_lock(&suspension->lock);
    if (suspension->result < 0)
        thaw(suspension);
    suspension->is_through = true;
    pthread_cond_signal(&suspension->changed);
    pthread_mutex_unlock(&suspension->lock);
    mon_suspension_tell_main_thread(suspension);
    return NULL;
}

/* ---- The main thread ---- */

static void release(struct mon_suspension *suspension)
{
    struct mon_sandbox *sandbox = suspension->sandbox;
    if (sandbox->suspension == suspension)
        sandbox->suspension = NULL;
    mon_timer_stop(&sandbox->loop, &suspension->timer);
    mon_watch_remove(&sandbox->loop, &suspension->watch);
    cleanup_close_descriptor(&suspension->event);
    cleanup_close_descriptor(&suspension->peer);
    cleanup_close_descriptor(&suspension->base);
    free(suspension->base_path);
    pthread_cond_destroy(&suspension->changed);
    pthread_mutex_destroy(&suspension->lock);
    text_free(&suspension->held);
    text_free(&suspension->input);
    free(suspension->ids);
    free(suspension->path);
    free(suspension->obstacles);
    mon_saving_free(&suspension->saving);
    free(suspension);
}

/* What waited, in its order: the sandbox goes on. */
static void send_held(struct mon_suspension *suspension)
{
    struct mon_sandbox *sandbox = suspension->sandbox;
    mon_input_let_go(suspension);
    suspension->holds = false;
    for (size_t at = 0; at < suspension->held.size;) {
        struct bly_control record;
        const char *place = suspension->held.data + at;
        memcpy(&record, place, sizeof(record));
        if (mon_channel_send(sandbox, &record, place + sizeof(record)) == -EAGAIN)
            note("the sandbox does not take what it was told while it was quiet");
        at += sizeof(record) + record.size;
    }
    text_free(&suspension->held);
}

static void end(struct mon_suspension *suspension)
{
    struct mon_sandbox *sandbox = suspension->sandbox;
    const int result = suspension->result;
    pthread_join(suspension->thread, NULL);
    mon_audit_event(sandbox->audit, suspension->peer < 0 ? "suspend" : "migrate", suspension->path, result);
    if (result == 0 && !suspension->keep_running) {
        mon_input_discard(suspension);
        char **place = suspension->peer < 0 ? &sandbox->result->suspended : &sandbox->result->moved;
        *place = take_pointer(suspension->path);
        mon_kill(sandbox);
    }
    struct mon_control *control = sandbox->control;
    struct control_suspended report = suspension->report;
    struct error error = suspension->error;
    release(suspension);
    mon_control_suspended(control, result, error.message, &report);
}

static void hear_thread(struct mon_watch *watch, uint32_t events)
{
    struct mon_suspension *suspension = watch->context;
    uint64_t count;
    (void)!read(suspension->event, &count, sizeof(count));
    pthread_mutex_lock(&suspension->lock);
    bool is_through = suspension->is_through, quiet = suspension->quiet;
    pthread_mutex_unlock(&suspension->lock);
    if (!quiet)
        send_held(suspension);
    mon_migrate_tell(suspension);
    mon_input_collect(suspension);
    if (is_through)
        end(suspension);
}

static void tell_progress(struct mon_timer *timer)
{
    struct mon_suspension *suspension = timer->context;
    mon_control_progress(suspension->sandbox->control, suspension->written, suspension->expected);
    if (suspension->sandbox->suspension == suspension)
        mon_timer_start(&suspension->sandbox->loop, timer, PROGRESS_NS);
}

static int refuse_now(const struct mon_sandbox *sandbox, struct error *error)
{
    if (sandbox->suspension)
        return error_set(error, -EBUSY, sandbox->suspension->peer < 0 ? "it is being suspended already" : "it is being moved already");
    if (sandbox->main_ended || sandbox->main_failed || sandbox->killed)
        return error_set(error, -ESRCH, "it is ending");
    if (sandbox->arriving && !mon_arriving_is_through(sandbox->arriving))
        return error_set(error, -EBUSY, "its memory is still arriving from where it came");
    return 0;
}

int mon_suspension_begin(struct mon_sandbox *sandbox, struct mon_suspension *suspension, struct error *error)
{
    suspension->sandbox = sandbox;
    suspension->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    suspension->watch = (struct mon_watch){.descriptor = suspension->event, .events = EPOLLIN, .function = hear_thread, .context = suspension};
    suspension->timer = (struct mon_timer){.function = tell_progress, .context = suspension};
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&suspension->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&suspension->lock, NULL);
    int result = refuse_now(sandbox, error);
    if (result < 0) {
        release(suspension);
        return result;
    }
    result = suspension->event < 0 ? -errno : mon_watch_add(&sandbox->loop, &suspension->watch);
    if (result == 0)
        result = -pthread_create(&suspension->thread, NULL, run, suspension);
    sandbox->suspension = suspension;
    if (result < 0) {
        release(suspension);
        return error_set_errno(error, result, "cannot start a thread");
    }
    mon_timer_start(&sandbox->loop, &suspension->timer, PROGRESS_NS);
    if (suspension->holds)
        mon_control_pause_input(sandbox->control, true);
    return 0;
}

int mon_suspend_begin(struct mon_sandbox *sandbox, const char *path, uint32_t flags, const char *base_path, int base, struct error *error)
{
    struct mon_suspension *suspension = memory_new(sizeof(*suspension));
    *suspension = (struct mon_suspension){.path = text_copy(path),
                                          .base_path = base_path ? text_copy(base_path) : NULL,
                                          .base = base,
                                          .keep_running = flags & SUSPEND_KEEP_RUNNING,
                                          .saving = {.contents = flags & SUSPEND_SELF_CONTAINED, .sums = flags & SUSPEND_HASH_FILES},
                                          .peer = -1,
                                          .holds = true};
    return mon_suspension_begin(sandbox, suspension, error);
}

void mon_suspend_answered(struct mon_sandbox *sandbox, int value, const void *data, size_t size)
{
    struct mon_suspension *suspension = sandbox->suspension;
    if (!suspension)
        return; /* too late, or a sandbox that makes it up */
    pthread_mutex_lock(&suspension->lock);
    if (!suspension->has_answer && !suspension->no_answer) {
        suspension->has_answer = true;
        suspension->answer = value > 0 ? -EPROTO : value;
        suspension->id_count = value == 0 ? size / sizeof(uint32_t) : 0;
        suspension->ids = memory_new(size + 1);
        memcpy(suspension->ids, data, size);
        size_t length = value < 0 ? strnlen(data, size < sizeof(suspension->text) - 1 ? size : sizeof(suspension->text) - 1) : 0;
        memcpy(suspension->text, data, length);
        text_make_printable(suspension->text, length);
    }
    pthread_cond_signal(&suspension->changed);
    pthread_mutex_unlock(&suspension->lock);
}

void mon_suspend_cancel(struct mon_sandbox *sandbox, const char *why)
{
    struct mon_suspension *suspension = sandbox->suspension;
    if (!suspension)
        return;
    pthread_mutex_lock(&suspension->lock);
    bool goes_on = !suspension->committed;
    if (goes_on) {
        suspension->cancelled = why;
        thaw(suspension);
        pthread_cond_signal(&suspension->changed);
    }
    pthread_mutex_unlock(&suspension->lock);
    if (goes_on)
        send_held(suspension);
}

void mon_suspend_disturb(struct mon_sandbox *sandbox, const char *why)
{
    if (sandbox->suspension && sandbox->suspension->holds)
        mon_suspend_cancel(sandbox, why);
}

bool mon_suspend_hold(struct mon_sandbox *sandbox, const struct bly_control *record, const void *payload, int *out_result)
{
    struct mon_suspension *suspension = sandbox->suspension;
    if (!suspension || !suspension->holds)
        return false;
    struct text *held = &suspension->held;
    *out_result = held->size + sizeof(*record) + record->size > HELD_MAX ? -EAGAIN : 0;
    if (*out_result == 0) {
        text_add_size(held, record, sizeof(*record));
        text_add_size(held, payload, record->size);
    }
    return true;
}

void mon_suspend_end(struct mon_sandbox *sandbox)
{
    struct mon_suspension *suspension = sandbox->suspension;
    if (!suspension)
        return;
    struct timespec deadline = mon_suspension_deadline(ENDING_MS);
    int result = 0;
    mon_suspend_cancel(sandbox, "it ended");
    pthread_mutex_lock(&suspension->lock);
    suspension->no_answer = suspension->ending = true;
    pthread_cond_signal(&suspension->changed);
    while (!suspension->is_through && result == 0)
        result = pthread_cond_timedwait(&suspension->changed, &suspension->lock, &deadline);
    bool is_through = suspension->is_through;
    pthread_mutex_unlock(&suspension->lock);
    if (is_through) {
        end(suspension);
        return;
    }
    /* The process ends soon, and the thread with it. */
    sandbox->suspension = NULL;
    mon_timer_stop(&sandbox->loop, &suspension->timer);
    mon_watch_remove(&sandbox->loop, &suspension->watch);
    mon_control_suspended(sandbox->control, -EIO, "the file system does not take the image", &suspension->report);
}
