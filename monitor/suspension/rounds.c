/* Memory of picoprocesses in rounds: first all of it, then again and again what was written meanwhile, at last, at rest, what is left. The
 * host's kernel tells what was written: write protection by userfaultfd in its asynchronous mode, which a first write takes away from its page
 * without asking anybody, and PAGEMAP_SCAN, which reads and renews it in one step (Linux 6.7).
 *
 * Invariant: a page counts as unchanged only where its map is known to be followed, and it is protected. What is not followed (maps of
 * files, those made since the last look, processes made since the first) is written at rest, whole. */
#include "monitor/suspension/memory.h"

#include "base/cleanup.h"
#include "base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* <linux/userfaultfd.h> of older kernels does not have these. */
#define FEATURE_WP_UNPOPULATED (1ull << 13)
#define FEATURE_WP_ASYNC (1ull << 15)
enum { SCAN_PROTECT = 1 << 0, SCAN_ONLY_FOLLOWED = 1 << 1 };

struct changes {
    struct dump dump;
    int tracker;
    uint64_t size; /* written so far in this round */
};

/* ---- What is followed ---- */

/* The descriptor that the number of memory_track stands for. It is believed to be what it should be only when the kernel says so: the number is the
 * sandbox's word. */
static int take_tracker(int folder, uint32_t number)
{
    char path[64], link[64];
    ssize_t size = readlink(mon_descriptor_path(folder).text, link, sizeof(link) - 1);
    int id;
    if (size < 0)
        return -errno;
    link[size] = '\0';
    if (sscanf(link, "/proc/%d", &id) != 1)
        return -ESRCH;
    cleanup_close int process = (int)syscall(SYS_pidfd_open, id, 0);
    /* The folder is that of the same process as long as the process is there. */
    if (process < 0 || faccessat(folder, "stat", F_OK, 0) < 0)
        return -ESRCH;
    cleanup_close int tracker = (int)syscall(SYS_pidfd_getfd, process, (int)number - 1, 0);
    if (tracker < 0)
        return -errno;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", tracker);
    size = readlink(path, link, sizeof(link) - 1);
    link[size < 0 ? 0 : size] = '\0';
    if (strcmp(link, "anon_inode:[userfaultfd]") != 0)
        return -EBADF;
    struct uffdio_api api = {.api = UFFD_API, .features = FEATURE_WP_ASYNC | FEATURE_WP_UNPOPULATED};
    /* EINVAL also where an earlier move has done this. What cannot be followed is found out map by map. */
    if (ioctl(tracker, UFFDIO_API, &api) < 0 && errno != EINVAL)
        return -errno;
    return take_descriptor(&tracker);
}

bool mon_image_track(const struct mon_sandbox *sandbox, struct mon_memory *memory, const uint32_t *numbers)
{
    bool any = false;
    mon_image_become_user(sandbox, true);
    for (size_t i = 0; i < memory->count; i++) {
        struct process *process = &memory->processes[i];
        process->tracker = numbers[i] ? take_tracker(process->folder, numbers[i]) : -1;
        any |= process->tracker >= 0;
    }
    mon_image_become_user(sandbox, false);
    return any;
}

static int follow(int tracker, struct range map)
{
    struct uffdio_register range = {.range = {map.start, map.end - map.start}, .mode = UFFDIO_REGISTER_MODE_WP};
    return ioctl(tracker, UFFDIO_REGISTER, &range) < 0 ? -errno : 0;
}

/* ---- While it runs ---- */

/* Memory may go away while it is read; a process, too. That is no failure: it has changed then. */
static int write_present(struct changes *changes, struct range range)
{
    struct dump *dump = &changes->dump;
    while (range.start < range.end) {
        size_t size = range.end - range.start;
        size = size < CHUNK_PAGES * BLY_PAGE_SIZE ? size : CHUNK_PAGES * BLY_PAGE_SIZE;
        ssize_t got = pread(dump->memory, dump->buffer, size, (off_t)range.start);
        if (got < (ssize_t)BLY_PAGE_SIZE)
            return 0;
        size_t pages = (size_t)got / BLY_PAGE_SIZE;
        int result = img_writer_pages(dump->writer, range.start, dump->buffer, pages, /*zeros=*/0, dump->error);
        if (result < 0)
            return result;
        range.start += pages * BLY_PAGE_SIZE;
        changes->size += pages * BLY_PAGE_SIZE;
    }
    return 0;
}

static int write_changed_map(struct dump *dump, struct range map, bool of_file)
{
    static struct scan_region regions[RANGE_COUNT];
    struct changes *changes = (struct changes *)dump; /* its first member */
    if (of_file || follow(changes->tracker, map) < 0)
        return 0;
    while (map.start < map.end) {
        struct scan_arguments arguments = {.size = sizeof(arguments),
                                           .flags = SCAN_PROTECT | SCAN_ONLY_FOLLOWED,
                                           .start = map.start,
                                           .end = map.end,
                                           .regions = (uint64_t)regions,
                                           .region_count = RANGE_COUNT,
                                           .inverted = SCAN_FILE | SCAN_ZERO,
                                           .all_of = SCAN_FILE | SCAN_ZERO | SCAN_WRITTEN,
                                           .any_of = SCAN_PRESENT | SCAN_SWAPPED,
                                           .reported = SCAN_WRITTEN};
        int count = ioctl(dump->pagemap, PAGEMAP_SCAN, &arguments);
        if (count < 0) /* the map has changed: left to the end */
            return 0;
        for (int i = 0; i < count; i++) {
            int result = write_present(changes, (struct range){regions[i].start, regions[i].end});
            if (result < 0)
                return result;
        }
        if (arguments.walk_end <= map.start)
            return 0;
        map.start = arguments.walk_end;
    }
    return 0;
}

int mon_image_write_changes(const struct mon_sandbox *sandbox, const struct mon_memory *memory, struct img_writer *writer,
                            uint64_t *out_size, struct error *error)
{
    cleanup_free unsigned char *buffer = memory_new(CHUNK_PAGES * BLY_PAGE_SIZE);
    struct changes changes = {.dump = {.writer = writer, .buffer = buffer, .error = error}};
    int result = 0;
    mon_image_become_user(sandbox, true);
    for (size_t i = 0; i < memory->count && result == 0; i++) {
        const struct process *process = &memory->processes[i];
        changes.tracker = process->tracker;
        if (process->tracker < 0)
            continue;
        result = mon_image_write_process(&changes.dump, process, write_changed_map);
        /* It has ended meanwhile, or is about to. If not, the last round tells. */
        if (result == -ESRCH || result == -ENOENT || result == -EACCES || result == -EPERM) {
            error_clear(error);
            result = 0;
        }
    }
    mon_image_become_user(sandbox, false);
    *out_size = changes.size;
    return result;
}

/* ---- At rest ---- */

static int keep_range(const struct dump *dump, struct range range)
{
    while (range.start < range.end) {
        size_t count = (range.end - range.start) / BLY_PAGE_SIZE;
        range.start += img_writer_keep(dump->writer, range.start, count) * BLY_PAGE_SIZE;
        if (range.start == range.end)
            break;
        /* Never seen in a round: it appeared in one. */
        struct range page = {range.start, range.start + BLY_PAGE_SIZE};
        int result = mon_image_write_range(dump, page, /*zeros=*/0);
        if (result < 0)
            return result;
        range.start = page.end;
    }
    return 0;
}

static int write_rest_of_map(struct dump *dump, struct range map, bool of_file)
{
    static struct scan_region regions[RANGE_COUNT];
    if (of_file)
        return mon_image_write_map(dump, map, of_file);
    while (map.start < map.end) {
        struct scan_arguments arguments = {.size = sizeof(arguments),
                                           .flags = SCAN_ONLY_FOLLOWED,
                                           .start = map.start,
                                           .end = map.end,
                                           .regions = (uint64_t)regions,
                                           .region_count = RANGE_COUNT,
                                           .inverted = SCAN_FILE | SCAN_ZERO,
                                           .all_of = SCAN_FILE | SCAN_ZERO,
                                           .any_of = SCAN_PRESENT | SCAN_SWAPPED,
                                           .reported = SCAN_PRESENT | SCAN_SWAPPED | SCAN_WRITTEN};
        int count = ioctl(dump->pagemap, PAGEMAP_SCAN, &arguments);
        if (count < 0) /* not followed: one made meanwhile, or all of them on this host */
            return mon_image_write_map(dump, map, of_file);
        for (int i = 0; i < count; i++) {
            struct range range = {regions[i].start, regions[i].end};
            int result = regions[i].categories & SCAN_WRITTEN ? mon_image_write_range(dump, range, /*zeros=*/0) : keep_range(dump, range);
            if (result < 0)
                return result;
        }
        map.start = arguments.walk_end;
    }
    return 0;
}

int mon_image_write_rest(const struct mon_sandbox *sandbox, const struct mon_memory *memory, struct img_writer *writer, struct error *error)
{
    return mon_image_write_processes(sandbox, memory, write_rest_of_map, writer, error);
}

/* ---- Afterwards ---- */

static int unfollow_map(struct dump *dump, struct range map, bool of_file)
{
    struct uffdio_range range = {map.start, map.end - map.start};
    if (!of_file)
        ioctl(((struct changes *)dump)->tracker, UFFDIO_UNREGISTER, &range);
    return 0;
}

void mon_image_untrack(const struct mon_sandbox *sandbox, struct mon_memory *memory)
{
    struct error ignored = {0};
    struct changes changes = {.dump = {.error = &ignored}};
    mon_image_become_user(sandbox, true);
    for (size_t i = 0; i < memory->count; i++) {
        changes.tracker = memory->processes[i].tracker;
        if (changes.tracker >= 0)
            (void)!mon_image_visit_maps(&changes.dump, &memory->processes[i], unfollow_map);
    }
    mon_image_become_user(sandbox, false);
}
