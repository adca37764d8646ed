/* See later.h. Invariant: nothing changes while it is given away: the sandbox is at rest from before it is listed until it goes on or ends. */
#include "monitor/suspension/later.h"

#include "base/cleanup.h"
#include "monitor/suspension/absent.h"
#include "monitor/suspension/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <image/checksum.h>
#include <image/departure.h>
#include <image/frame.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define START_LOOK_MS 20
#define AT_ONCE 64u /* pages, between two looks at what is wanted */

struct piece {
    uint64_t page, count; /* of the image, ascending */
    uint64_t place;       /* in `file` */
    int file;
};
struct mon_behind {
    struct piece *pieces;
    size_t count, capacity;
    int *files; /* of processes' memory; ours to close */
    size_t file_count;
    int file; /* that is being listed */
    unsigned char *sent; /* a byte a page */
    unsigned char buffer[AT_ONCE * BLY_PAGE_SIZE];
};

/* ---- Listing ---- */

int mon_behind_note(struct mon_behind *later, struct img_writer *writer, uint64_t address, uint64_t place, uint64_t count, struct error *error)
{
    uint64_t page;
    int result = img_writer_later(writer, address, count, &page, error);
    if (result < 0)
        return result;
    if (later->count == later->capacity) {
        later->capacity = later->capacity ? later->capacity * 2 : 256;
        later->pieces = memory_resize(later->pieces, later->capacity * sizeof(*later->pieces));
    }
    later->pieces[later->count++] = (struct piece){page, count, place, later->file};
    return 0;
}

static int list_bulk(struct mon_behind *later, struct mon_sandbox *sandbox, struct img_writer *writer, struct error *error)
{
    int result = img_writer_space(writer, IMG_SPACE_BULK, 0, error);
    later->file = sandbox->bulk;
    for (off_t at = 0; result == 0;) {
        off_t data = lseek(sandbox->bulk, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            break;
        at = data < 0 ? -1 : lseek(sandbox->bulk, data, SEEK_HOLE);
        if (at < 0)
            return error_set_errno(error, -errno, "cannot read a segment of the sandbox");
        data &= ~(off_t)(BLY_PAGE_SIZE - 1);
        uint64_t count = ((uint64_t)(at - data) + BLY_PAGE_SIZE - 1) / BLY_PAGE_SIZE;
        result = mon_behind_note(later, writer, BLY_BULK_START + (uint64_t)data, (uint64_t)data, count, error);
    }
    return result;
}

int mon_behind_list(struct mon_sandbox *sandbox, const struct mon_memory *memory, struct img_writer *writer, struct mon_behind **out_later,
                   struct error *error)
{
    struct mon_behind *later = *out_later = memory_new(sizeof(*later));
    cleanup_free unsigned char *buffer = memory_new(CHUNK_PAGES * BLY_PAGE_SIZE);
    struct dump dump = {.sandbox = sandbox,
                        .writer = writer,
                        .can_scan = true,
                        .image = mon_image_places(sandbox),
                        .buffer = buffer,
                        .error = error,
                        .later = later};
    /* What is still in an image of this machine comes out of it now. */
    int result = mon_absent_load_all(sandbox, error);
    if (result == 0)
        result = list_bulk(later, sandbox, writer, error);
    later->files = memory_new((memory->count + 1) * sizeof(*later->files));
    mon_image_become_user(sandbox, true);
    for (size_t i = 0; i < memory->count && result == 0; i++) {
        later->file = openat(memory->processes[i].folder, "mem", O_RDONLY | O_CLOEXEC);
        if (later->file < 0) {
            result = error_set_errno(error, -errno, "this host does not let the sandbox's memory be read");
            break;
        }
        later->files[later->file_count++] = later->file;
        result = mon_image_write_process(&dump, &memory->processes[i], mon_image_write_map);
    }
    mon_image_become_user(sandbox, false);
    const struct piece *last = later->count ? &later->pieces[later->count - 1] : NULL;
    later->sent = memory_new(last ? last->page + last->count : 1);
    return result;
}

uint64_t mon_behind_size(const struct mon_behind *later)
{
    uint64_t pages = 0;
    for (size_t i = 0; i < later->count; i++)
        pages += later->pieces[i].count;
    return pages * BLY_PAGE_SIZE;
}

void mon_behind_free(struct mon_behind *later)
{
    if (!later)
        return;
    for (size_t i = 0; i < later->file_count; i++)
        close(later->files[i]);
    free(later->files);
    free(later->pieces);
    free(later->sent);
    free(later);
}

/* ---- Giving away ---- */

/* At most AT_ONCE pages of the piece, from its page `from` on, as far as they have not been sent. Returns how many were dealt with. */
static int64_t send_some(struct mon_behind *later, const struct img_sink *sink, const struct piece *piece, uint64_t from, struct error *error)
{
    uint32_t sums[AT_ONCE];
    const unsigned char *sent = later->sent + piece->page + from;
    uint64_t room = piece->count - from < AT_ONCE ? piece->count - from : AT_ONCE, count = 0, skipped = 0;
    while (skipped < room && sent[skipped])
        skipped++;
    if (skipped)
        return (int64_t)skipped;
    while (count < room && !sent[count])
        count++;
    for (uint64_t done = 0; done < count * BLY_PAGE_SIZE;) {
        ssize_t got = pread(piece->file, later->buffer + done, count * BLY_PAGE_SIZE - done, (off_t)(piece->place + from * BLY_PAGE_SIZE + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return error_set_errno(error, got < 0 ? -errno : -EIO, "cannot read the sandbox's memory");
        done += (uint64_t)got;
    }
    for (uint64_t i = 0; i < count; i++)
        sums[i] = img_checksum(0, later->buffer + i * BLY_PAGE_SIZE, BLY_PAGE_SIZE);
    int result = sink->pages(sink->context, piece->page + from, later->buffer, sums, count, error);
    if (result < 0)
        return result;
    memset(later->sent + piece->page + from, 1, count);
    return (int64_t)count;
}

/* The first piece that ends after the page. */
static size_t find_piece(const struct mon_behind *later, uint64_t page)
{
    size_t low = 0, high = later->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (later->pieces[middle].page + later->pieces[middle].count <= page)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int send_wanted(struct mon_behind *later, const struct img_sink *sink, struct img_frame_want want, struct error *error)
{
    uint64_t at = want.first, end = want.first + want.count;
    for (size_t i = find_piece(later, at); i < later->count && later->pieces[i].page < end; i++) {
        const struct piece *piece = &later->pieces[i];
        uint64_t from = at > piece->page ? at - piece->page : 0, stop = end - piece->page < piece->count ? end - piece->page : piece->count;
        while (from < stop) {
            int64_t done = send_some(later, sink, piece, from, error);
            if (done < 0)
                return (int)done;
            from += (uint64_t)done;
        }
    }
    return 0;
}

/* What the other side has asked for meanwhile. */
static int serve_wants(struct mon_behind *later, int peer, const struct img_sink *sink, struct error *error)
{
    struct img_frame_want want;
    for (;;) {
        ssize_t size = recv(peer, &want, sizeof(want), MSG_DONTWAIT | MSG_PEEK);
        if (size == 0)
            return error_set(error, -EPIPE, "the process that talks to the other side has ended");
        if (size < (ssize_t)sizeof(want))
            return size < 0 && errno != EAGAIN && errno != EINTR ? error_set_errno(error, -errno, "cannot hear the other side") : 0;
        (void)!recv(peer, &want, sizeof(want), 0);
        int result = want.count && want.count <= IMG_WANT_MAX && want.first < IMG_PAGES_MAX ? send_wanted(later, sink, want, error) : 0;
        if (result < 0)
            return result;
    }
}

static bool is_over(struct mon_suspension *suspension)
{
    pthread_mutex_lock(&suspension->lock);
    bool is_over = suspension->order >= MOVE_STAY || suspension->ending;
    pthread_mutex_unlock(&suspension->lock);
    return is_over;
}

/* Until it runs there nothing but what it needs for that, which must not wait behind the rest. */
static int serve_start(struct mon_suspension *suspension, const struct img_sink *sink, struct error *error)
{
    while (!suspension->running_ns && !is_over(suspension)) {
        struct pollfd wait = {.fd = suspension->peer, .events = POLLIN};
        (void)!poll(&wait, 1, START_LOOK_MS);
        int result = serve_wants(suspension->later, suspension->peer, sink, error);
        if (result < 0)
            return result;
    }
    return 0;
}

int mon_behind_serve(struct mon_suspension *suspension, struct error *error)
{
    struct mon_behind *later = suspension->later;
    struct img_sink sink = img_departure(&suspension->peer);
    int started = serve_start(suspension, &sink, error);
    if (started < 0)
        return started;
    for (size_t i = 0; i < later->count; i++) {
        for (uint64_t from = 0; from < later->pieces[i].count;) {
            int result = is_over(suspension) ? error_set(error, -ECANCELED, "it stays here") : serve_wants(later, suspension->peer, &sink, error);
            if (result < 0)
                return result;
            int64_t done = send_some(later, &sink, &later->pieces[i], from, error);
            if (done < 0)
                return (int)done;
            from += (uint64_t)done;
            suspension->written += (uint64_t)done * BLY_PAGE_SIZE;
        }
    }
    return 0;
}
