/* See migrate.h. The suspension's thread gives first the offer (records without pages, of the running sandbox), then the image, and then waits
 * for the outcome, the sandbox standing still; docs/migration.md has the protocol. Invariant: from MOVE_COMMITTED on nothing but an
 * order, or the sandbox's end, takes it out of its stillness. */
#include "monitor/suspension/migrate.h"

#include "monitor/suspension/later.h"
#include "monitor/suspension/suspension.h"

#include <errno.h>
#include <image/departure.h>
#include <image/frame.h>
#include <sys/socket.h>
#include <time.h>

#define CLIENT_MS 120000 /* a client that says nothing for so long is given up */
#define SEND_S 30
#define GROWTH (256ull << 20) /* beside as much again: that much it may grow while it moves */
#define ROUND_MAX (IMG_ROUNDS_MAX - 1)
#define LITTLE (4ull << 20) /* sent in some milliseconds: not worth another round */

/* ---- The thread ---- */

/* Waits until the client has given the order. Nobody can cancel any more after the commit, and nobody waits in vain before. */
static int wait_for_order(struct mon_suspension *suspension, enum control_move_order wanted, struct error *error)
{
    struct timespec deadline = mon_suspension_deadline(CLIENT_MS);
    int result = 0;
    pthread_mutex_lock(&suspension->lock);
    while (suspension->order < wanted && !suspension->ending && (!suspension->cancelled || suspension->committed) && result == 0)
        result = suspension->committed ? pthread_cond_wait(&suspension->changed, &suspension->lock)
                                       : pthread_cond_timedwait(&suspension->changed, &suspension->lock, &deadline);
    if (suspension->order >= wanted)
        result = 0;
    else if (suspension->ending || (suspension->cancelled && !suspension->committed))
        result = mon_suspension_refuse(suspension, error);
    else
        result = error_set(error, -ETIMEDOUT, "whoever moves it gives no orders");
    pthread_mutex_unlock(&suspension->lock);
    return result;
}

static void reach(struct mon_suspension *suspension, enum control_move_state state)
{
    pthread_mutex_lock(&suspension->lock);
    suspension->state = state;
    pthread_mutex_unlock(&suspension->lock);
    mon_suspension_tell_main_thread(suspension);
}

/* What the other side decides by, and finds out what cannot be carried before anything moves. */
static int write_offer(struct mon_suspension *suspension, struct error *error)
{
    struct img_writer *writer;
    struct img_sink sink = img_departure(&suspension->peer);
    sink.pages = NULL;
    img_writer_open_sink(&sink, &writer);
    struct mon_sandbox *sandbox = suspension->sandbox;
    int result = mon_image_sandbox(sandbox, writer, error);
    if (result == 0)
        result = mon_image_handles(sandbox, &suspension->saving, writer, error);
    if (result == -EXDEV) { /* the other side's reasons are to be told together with ours */
        suspension->obstacles = text_copy(error->message);
        error_clear(error);
        result = 0;
    }
    if (result == 0) {
        uint64_t expected = mon_suspension_shared_size(sandbox) + mon_image_memory_size(sandbox) + suspension->saving.carried;
        struct mon_image_size size = {.expected = expected, .most = 2 * expected + GROWTH};
        result = img_writer_record(writer, MON_IMAGE_SIZE, 0, &size, sizeof(size), error);
    }
    if (result == 0)
        return img_writer_finish(writer, error);
    img_writer_abandon(writer);
    return result;
}

/* The main thread keeps from now on what is for the sandbox, which is asked to be quiet. */
static int stop(struct mon_suspension *suspension, uint32_t flags, struct error *error)
{
    pthread_mutex_lock(&suspension->lock);
    suspension->wants_hold = true;
    mon_suspension_tell_main_thread(suspension);
    while (!suspension->may_stop && !suspension->cancelled)
        pthread_cond_wait(&suspension->changed, &suspension->lock);
    pthread_mutex_unlock(&suspension->lock);
    return mon_suspension_quiesce(suspension, flags, error);
}

/* ---- Memory ---- */

/* Stops for a moment, from which on it can be told what is written. *out_memory is NULL where it cannot. */
static int follow(struct mon_suspension *suspension, struct mon_memory **out_memory, struct error *error)
{
    uint64_t size;
    *out_memory = NULL;
    int result = stop(suspension, BLY_QUIESCE_TRACK, error);
    if (result < 0)
        return result;
    size_t count = suspension->id_count / 2;
    result = mon_image_find_memory(suspension->sandbox, suspension->ids, suspension->ids, count, out_memory, &size, error);
    if (result == 0 && !mon_image_track(suspension->sandbox, *out_memory, suspension->ids + count)) {
        mon_image_free_memory(*out_memory);
        *out_memory = NULL;
    }
    suspension->expected = size;
    mon_suspension_go_on(suspension);
    return result;
}

/* Until little is left, or it is written as fast as it is sent. */
static int write_rounds(struct mon_suspension *suspension, const struct mon_memory *memory, struct img_writer *writer, struct error *error)
{
    uint64_t before = UINT64_MAX;
    for (unsigned round = 0; round < ROUND_MAX; round++) {
        uint64_t size;
        img_writer_begin_round(writer);
        int result = mon_image_write_changes(suspension->sandbox, memory, writer, &size, error);
        if (result < 0)
            return result;
        suspension->report.rounds++;
        if (size <= LITTLE || size > before / 4 * 3)
            break;
        before = size;
    }
    return 0;
}

static int write_still(struct mon_suspension *suspension, struct img_writer *writer, struct error *error)
{
    struct mon_memory *memory = NULL;
    bool has_clones = false;
    reach(suspension, MOVE_STOPPING);
    int result = stop(suspension, 0, error);
    if (result == 0)
        result = mon_suspension_find_memory(suspension, &memory, &has_clones, error);
    img_writer_begin_round(writer);
    if (result == 0)
        result = mon_suspension_write_shared(suspension, writer, error);
    if (result == 0)
        result = mon_image_contents(&suspension->saving, writer, /*early=*/false, error);
    if (result == 0)
        result = mon_image_write_rest(suspension->sandbox, memory, writer, error);
    if (result == 0)
        result = mon_suspension_write_input(suspension, writer, error);
    mon_image_free_memory(memory);
    return result;
}

static int write_memory(struct mon_suspension *suspension, struct img_writer *writer, struct error *error)
{
    int result = mon_image_contents(&suspension->saving, writer, /*early=*/true, error);
    if (result == 0)
        result = follow(suspension, &suspension->followed, error);
    if (result == 0 && suspension->followed)
        result = write_rounds(suspension, suspension->followed, writer, error);
    uint64_t before = img_writer_bytes(writer);
    if (result == 0)
        result = write_still(suspension, writer, error);
    suspension->report.last_size = img_writer_bytes(writer) - before;
    return result;
}

/* Lazily: where its memory is goes with it, the memory itself follows. */
static int write_places(struct mon_suspension *suspension, struct img_writer *writer, struct error *error)
{
    struct mon_memory *memory = NULL;
    bool has_clones = false;
    reach(suspension, MOVE_STOPPING);
    int result = stop(suspension, 0, error);
    if (result == 0)
        result = mon_suspension_find_memory(suspension, &memory, &has_clones, error);
    if (result == 0)
        result = mon_suspension_write_records(suspension, writer, error);
    if (result == 0)
        result = mon_image_contents(&suspension->saving, writer, /*early=*/false, error);
    if (result == 0)
        result = mon_behind_list(suspension->sandbox, memory, writer, &suspension->later, error);
    if (result == 0)
        result = mon_suspension_write_input(suspension, writer, error);
    mon_image_free_memory(memory);
    if (result == 0)
        suspension->report.last_size = img_writer_bytes(writer) - mon_behind_size(suspension->later);
    return result;
}

static int write_image(struct mon_suspension *suspension, struct error *error)
{
    struct img_writer *writer;
    struct img_sink sink = img_departure(&suspension->peer);
    img_writer_open_sink(&sink, &writer);
    img_writer_on_progress(writer, mon_suspension_progress, suspension);
    if (!suspension->lazily)
        img_writer_begin_round(writer);
    int result = suspension->lazily ? write_places(suspension, writer, error) : write_memory(suspension, writer, error);
    if (result < 0) {
        img_writer_abandon(writer);
        return result;
    }
    suspension->report.memory_size = img_writer_bytes(writer);
    result = img_writer_finish(writer, error);
    if (!suspension->lazily)
        shutdown(suspension->peer, SHUT_WR);
    suspension->report.write_ns = mon_now_ns() - suspension->quiet_ns;
    return result;
}

/* The client asks for it before it tells the other side that it may go on there. */
static int settle(struct mon_suspension *suspension, struct error *error)
{
    int result = mon_suspension_commit(suspension, error);
    if (result < 0)
        return result;
    reach(suspension, MOVE_COMMITTED);
    /* Whether all was given away is all that counts here: the other side, or its silence, tells the rest. */
    if (suspension->lazily && mon_behind_serve(suspension, error) == 0)
        reach(suspension, MOVE_SERVED);
    error_clear(error);
    result = wait_for_order(suspension, MOVE_STAY, error);
    if (result == 0 && suspension->order == MOVE_STAY)
        result = error_set(error, -ECANCELED, "it stays here");
    return result;
}

static int move(struct mon_suspension *suspension, struct error *error)
{
    int result = write_offer(suspension, error);
    if (result < 0)
        return result;
    reach(suspension, MOVE_OFFERED);
    result = wait_for_order(suspension, MOVE_GO, error);
    if (result == 0)
        result = write_image(suspension, error);
    if (result < 0)
        return result;
    reach(suspension, MOVE_WRITTEN);
    result = wait_for_order(suspension, MOVE_COMMIT, error);
    return result < 0 ? result : settle(suspension, error);
}

int mon_migrate(struct mon_suspension *suspension, struct error *error)
{
    struct timeval limit = {.tv_sec = SEND_S};
    setsockopt(suspension->peer, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    uint64_t begin = mon_now_ns();
    int result = move(suspension, error);
    suspension->report.total_ns = mon_now_ns() - begin;
    suspension->report.pause_ns = (suspension->running_ns ? suspension->running_ns : mon_now_ns()) - suspension->quiet_ns;
    mon_behind_free(suspension->later);
    if (result < 0 && suspension->followed)
        mon_image_untrack(suspension->sandbox, suspension->followed);
    mon_image_free_memory(suspension->followed);
    return result;
}

/* ---- The main thread ---- */

int mon_migrate_begin(struct mon_sandbox *sandbox, int peer, const char *where, uint32_t flags, struct error *error)
{
    struct mon_suspension *suspension = memory_new(sizeof(*suspension));
    *suspension = (struct mon_suspension){
        .path = text_copy(where),
        .saving = {.contents = flags & SUSPEND_SELF_CONTAINED, .sums = flags & SUSPEND_HASH_FILES},
        .lazily = flags & SUSPEND_LAZILY,
        .base = -1,
        .peer = peer};
    return mon_suspension_begin(sandbox, suspension, error);
}

int mon_migrate_order(struct mon_sandbox *sandbox, enum control_move_order order, struct error *error)
{
    static const enum control_move_state when[] = {
        [MOVE_GO] = MOVE_OFFERED, [MOVE_COMMIT] = MOVE_WRITTEN, [MOVE_RUNNING] = MOVE_COMMITTED, [MOVE_STAY] = MOVE_COMMITTED,
        [MOVE_LEAVE] = MOVE_COMMITTED};
    struct mon_suspension *suspension = sandbox->suspension;
    if (!suspension || suspension->peer < 0)
        return error_set(error, -ESRCH, "it is not being moved");
    if (order < MOVE_GO || order > MOVE_LEAVE)
        return error_set(error, -EINVAL, "malformed request");
    pthread_mutex_lock(&suspension->lock);
    bool timely = (suspension->state == when[order] || (order >= MOVE_RUNNING && suspension->state == MOVE_SERVED)) &&
                  suspension->order < order && suspension->order < MOVE_STAY;
    if (timely && order == MOVE_RUNNING) {
        suspension->running_ns = mon_now_ns();
    } else if (timely) {
        suspension->order = order;
        pthread_cond_signal(&suspension->changed);
    }
    pthread_mutex_unlock(&suspension->lock);
    return timely ? 0 : error_set(error, -EBUSY, "its move is not so far, or already over");
}

void mon_migrate_tell(struct mon_suspension *suspension)
{
    if (suspension->peer < 0)
        return;
    pthread_mutex_lock(&suspension->lock);
    enum control_move_state state = suspension->state;
    if (suspension->wants_hold && !suspension->may_stop) {
        suspension->holds = suspension->may_stop = true;
        mon_control_pause_input(suspension->sandbox->control, true);
        pthread_cond_signal(&suspension->changed);
    }
    pthread_mutex_unlock(&suspension->lock);
    if (state == suspension->told)
        return;
    suspension->told = state;
    mon_control_moving(suspension->sandbox->control, state, state == MOVE_OFFERED ? suspension->obstacles : NULL);
}
