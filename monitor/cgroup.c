/* A cgroup for the sandbox, where we may make one: then --memory and --pids hold against code that has subverted the personality, which
 * counts them exactly. Both kinds of hierarchy; each controller falls away by itself. Best effort: the caller goes on without. */
#include "monitor/cgroup.h"

#include "base/cleanup.h"
#include "base/path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PREFIX "bailey-" /* of our cgroups; the monitor's process id follows */

static int write_value(int folder, const char *file, uint64_t value)
{
    char text[32];
    int size = snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    cleanup_close int descriptor = openat(folder, file, O_WRONLY | O_CLOEXEC);
    return descriptor >= 0 && write(descriptor, text, (size_t)size) == size ? 0 : -1;
}

static bool has_file(int folder, const char *file)
{
    return faccessat(folder, file, W_OK, 0) == 0;
}

/* The folder of our own cgroup for this controller, or -1. /proc/self/cgroup has lines "7:memory:/path" (version 1) and "0::/path". */
static int open_own(const char *lines, const char *controller)
{
    char path[PATH_MAX];
    for (const char *line = lines; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
        const char *names = strchr(line, ':'), *place = names ? strchr(names + 1, ':') : NULL;
        int length = place ? (int)strcspn(place + 1, "\n") : 0;
        size_t name_size = strlen(controller);
        if (!place || (size_t)(place - names - 1) != name_size || strncmp(names + 1, controller, name_size) != 0)
            continue;
        snprintf(path, sizeof(path), "/sys/fs/cgroup%s%s%.*s", name_size ? "/" : "", controller, length, place + 1);
        return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    }
    return -1;
}

/* Cgroups of monitors that were killed: an empty one can be removed, a living one cannot. */
static void remove_stale(int own)
{
    cleanup_close int folder = openat(own, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_directory DIR *entries = folder < 0 ? NULL : fdopendir(folder);
    if (entries)
        folder = -1; /* the stream's now */
    for (struct dirent *entry; entries && (entry = readdir(entries));) {
        int monitor;
        if (sscanf(entry->d_name, PREFIX "%d", &monitor) == 1 && kill(monitor, 0) < 0 && errno == ESRCH)
            unlinkat(own, entry->d_name, AT_REMOVEDIR);
    }
}

/* The sandbox's first process enters by itself, before it does anything else: moving another one takes the kernel 7 to 12 ms (an RCU
 * grace period), in which that one would run, and start others, outside. A single thread that moves itself takes 50 us, where there is a
 * list of threads (version 1). */
static int open_entrance(int folder)
{
    int entrance = openat(folder, "tasks", O_WRONLY | O_CLOEXEC);
    return entrance < 0 ? openat(folder, "cgroup.procs", O_WRONLY | O_CLOEXEC) : entrance;
}

static void open_place(struct mon_cgroup_place *place, const char *lines, const char *controller, const char *limit_file, uint64_t limit)
{
    char name[32];
    snprintf(name, sizeof(name), PREFIX "%d", getpid());
    cleanup_close int own = open_own(lines, controller);
    if (own < 0)
        return;
    bool made = mkdirat(own, name, 0755) == 0; /* of version 2 both limits lie in one */
    if (!made && errno != EEXIST) /* most users may not */
        return;
    if (made)
        remove_stale(own);
    cleanup_close int folder = openat(own, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0 || !has_file(folder, limit_file) || write_value(folder, limit_file, limit) < 0) {
        if (made)
            unlinkat(own, name, AT_REMOVEDIR);
        return;
    }
    /* Otherwise what does not fit in memory would go to swap without limit; absent where swap is not accounted. */
    write_value(folder, "memory.swap.max", 0);
    place->parent = take_descriptor(&own);
    place->entrance = open_entrance(folder);
    place->folder = take_descriptor(&folder);
}

void mon_cgroup_open(struct mon_cgroup *cgroup, uint64_t memory_limit, uint32_t process_limit)
{
    static const struct { const char *controller, *file; bool processes; } kinds[MON_CGROUP_PLACES] = {
        {"memory", "memory.limit_in_bytes", false}, {"pids", "pids.max", true}, {"", "memory.max", false}, {"", "pids.max", true}};
    cleanup_free char *lines = NULL;
    for (size_t i = 0; i < MON_CGROUP_PLACES; i++)
        cgroup->places[i] = (struct mon_cgroup_place){-1, -1, -1};
    if ((!memory_limit && !process_limit) || path_read_file(AT_FDCWD, "/proc/self/cgroup", 65536, &lines, NULL) < 0)
        return;
    /* Above what the personality counts: page tables, kernel stacks and Bailey's own memory are charged here too. */
    uint64_t memory = memory_limit ? memory_limit + memory_limit / 8 + (32u << 20) : 0;
    for (size_t i = 0; i < MON_CGROUP_PLACES; i++) {
        uint64_t limit = kinds[i].processes ? (process_limit ? process_limit + MON_OWN_THREADS : 0) : memory;
        if (limit)
            open_place(&cgroup->places[i], lines, kinds[i].controller, kinds[i].file, limit);
    }
}

bool mon_cgroup_limits_memory(const struct mon_cgroup *cgroup)
{
    return cgroup->places[0].folder >= 0 || cgroup->places[2].folder >= 0;
}

int64_t mon_cgroup_memory_in_use(const struct mon_cgroup *cgroup)
{
    static const char *const files[MON_CGROUP_PLACES] = {[0] = "memory.usage_in_bytes", [2] = "memory.current"};
    for (size_t i = 0; i < MON_CGROUP_PLACES; i++) {
        cleanup_free char *text = NULL;
        if (cgroup->places[i].folder >= 0 && files[i] && path_read_file(cgroup->places[i].folder, files[i], 64, &text, NULL) == 0)
            return strtoll(text, NULL, 10);
    }
    return -1;
}

void mon_cgroup_close(struct mon_cgroup *cgroup)
{
    char name[32];
    snprintf(name, sizeof(name), PREFIX "%d", getpid());
    for (size_t i = 0; i < MON_CGROUP_PLACES; i++) {
        struct mon_cgroup_place *place = &cgroup->places[i];
        if (place->folder < 0)
            continue;
        /* Gone already when it was the same as the one before. A process that was just reaped may still count for a moment. */
        for (int tries = 0; unlinkat(place->parent, name, AT_REMOVEDIR) < 0 && errno == EBUSY && tries < 50; tries++)
            usleep(2000);
        close(place->folder);
        close(place->parent);
        cleanup_close_descriptor(&place->entrance);
        *place = (struct mon_cgroup_place){-1, -1, -1};
    }
}
