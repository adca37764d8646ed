/* Read windows: files that are read again and again in small pieces are mapped and copied from.
 *
 * Entering the kernel through the filter costs more than reading a page: 350 ns with it, 70
 * without. The promise is that of read(2): what the host's file has now, and never more than it
 * has. The first half is the monitor's to vouch for (BLY_RPC_STREAM_COHERENT: the file system has
 * one page cache for maps and reads). As for the second, a map shows zeroes between the file's end
 * and the end of its last page, and a bus error behind. So a copy counts only if the page behind it
 * can still be read afterwards; what lies on the last page is asked of the host.
 *
 * A handle gets a window once its file has been read again, not for being read through: then the
 * host's read-ahead serves better. A window is taken away only while nobody uses the handle: who
 * reads has raised `uses` before it looks for the window. */

#include "host.h"
#include <asm/mman.h>
#include <linux/mman.h>

#define WINDOW_SIZE                                                                                \
    (64ull << 20)       /* from the start of the file; what lies behind is the host's to read */
#define READ_MAX 16384u /* larger reads gain nothing */
#define REREADS_UNTIL_MAPPED 32u
_Static_assert(BLY_READ_WINDOWS >= BLY_HEAP_START + BLY_HEAP_SIZE, "behind the heap");
_Static_assert(BLY_READ_WINDOWS + HOST_WINDOW_COUNT * WINDOW_SIZE <= BLY_BULK_START, "before bulk");
_Static_assert(BLY_HOST_DATA + BLY_PAGE_SIZE + sizeof(struct host_tables) <= BLY_START_INFO, "the tables fit");

static char *base_of(const struct host_window *window)
{
    return (char *)(BLY_READ_WINDOWS + (uint64_t)(window - host_tables->windows) * WINDOW_SIZE);
}

static uint32_t number_of(const struct host_handle *entry)
{
    return entry->flags >> HOST_HANDLE_WINDOW_SHIFT;
}

static void set_number(struct host_handle *entry, uint32_t number)
{
    uint32_t others = entry->flags & ((1u << HOST_HANDLE_WINDOW_SHIFT) - 1);
    entry->flags = others | number << HOST_HANDLE_WINDOW_SHIFT;
}

bool host_window_read(struct host_handle *entry, const struct bly_iovec *part, uint64_t offset)
{
    uint32_t number = number_of(entry);
    if (!number || part->size - 1 >= READ_MAX || offset >= WINDOW_SIZE)
        return false;
    struct host_window *window = &host_tables->windows[number - 1];
    uint64_t behind = (offset + part->size + BLY_PAGE_SIZE - 1) & ~(BLY_PAGE_SIZE - 1);
    if (behind >= window->end)
        return false;
    char *base = base_of(window);
    uint64_t fault = host_copy_proven(part->base, base + offset, part->size, base + behind);
    if (fault - (uint64_t)base < WINDOW_SIZE)
        window->end = (fault - (uint64_t)base) & ~(BLY_PAGE_SIZE - 1); /* one bus error is enough */
    return !fault;
}

/* A window that nobody uses; NULL: none. Caller holds the handle lock. */
static struct host_window *take_window(void)
{
    for (uint32_t tries = HOST_WINDOW_COUNT; tries; tries--) {
        uint32_t number = host.window_hand++ % HOST_WINDOW_COUNT;
        struct host_window *window = &host_tables->windows[number];
        struct host_handle *entry = window->entry;
        if (!entry)
            return window;
        set_number(entry, 0);
        if (entry->uses == 0) {
            window->entry = NULL;
            return window;
        }
        set_number(entry, number + 1);
    }
    return NULL;
}

static void map_window(struct host_handle *entry, int descriptor)
{
    struct host_window *window = number_of(entry) ? NULL : take_window();
    if (!window)
        return;
    char *base = base_of(window);
    if (sys6(__NR_mmap, base, WINDOW_SIZE, PROT_READ, MAP_SHARED | MAP_FIXED, descriptor, 0) < 0)
        return;
    sys3(__NR_madvise, base, WINDOW_SIZE, MADV_DONTFORK);
    window->entry = entry;
    window->end = WINDOW_SIZE;
    set_number(entry, (uint32_t)(window - host_tables->windows) + 1);
}

/* Whether this is read again often. Counted by several threads at a time, some of it may be lost.
 */
static bool is_reread(bly_handle handle, size_t size, uint64_t offset)
{
    struct host_reread *reread =
        &host_tables->rereads[HOST_HANDLE_INDEX(handle) % HOST_REREAD_COUNT];
    uint32_t end = (uint32_t)(offset + size);
    if (reread->handle != handle) {
        reread->handle = handle;
        reread->end = reread->count = 0;
    }
    if (end > reread->end) {
        reread->end = end;
        return false;
    }
    uint32_t count = reread->count + 1;
    reread->count = count % REREADS_UNTIL_MAPPED;
    return count >= REREADS_UNTIL_MAPPED;
}

void host_window_consider(const struct host_use *use, size_t size, uint64_t offset)
{
    struct host_handle *entry = use->entry;
    if (!entry || !(entry->flags & HOST_HANDLE_COHERENT) || number_of(entry) || size > READ_MAX ||
        offset >= WINDOW_SIZE || !is_reread(entry->handle, size, offset))
        return;
    host_lock(&host_locks->handle);
    map_window(entry, use->descriptor);
    host_unlock(&host_locks->handle);
}

void host_window_release(struct host_handle *entry)
{
    uint32_t number = number_of(entry);
    if (!number)
        return;
    struct host_window *window = &host_tables->windows[number - 1];
    sys2(__NR_munmap, base_of(window), WINDOW_SIZE);
    window->entry = NULL;
    set_number(entry, 0);
}

/* The maps stayed behind. */
void host_windows_after_clone(void)
{
    for (uint32_t i = 0; i < HOST_WINDOW_COUNT; i++) {
        struct host_window *window = &host_tables->windows[i];
        if (!window->entry)
            continue;
        set_number(window->entry, 0);
        window->entry = NULL;
    }
}
