/* Memory of picoprocesses for an image: every page of theirs that is their own. Those of shared segments and of files that were only read
 * are not, and are mapped again. Read from outside through /proc/PID/pagemap and /proc/PID/mem, with nothing of the sandbox taking part.
 * Invariant: what is read belongs to a process whose parent is the sandbox's first one. The files of its folder in /proc are opened by that
 * folder's descriptor, which is bound to the process and not to its number. */
#include "monitor/suspension/memory.h"

#include "base/cleanup.h"
#include "base/path.h"
#include "monitor/suspension/later.h"
#include "monitor/suspension/read.h"
#include "monitor/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- Which processes ---- */

static bool read_field(int folder, const char *file, const char *field, char *out_value, size_t size)
{
    cleanup_free char *text = NULL;
    if (path_read_file(folder, file, 65536, &text, NULL) < 0)
        return false;
    char *place = strstr(text, field);
    if (!place)
        return false;
    snprintf(out_value, size, "%.*s", (int)strcspn(place + strlen(field), "\n"), place + strlen(field));
    return true;
}

/* With a pid namespace the sandbox knows the last of the ids that a process has. Returns 0 for one that is not a child of `parent`. */
static uint32_t inner_id(int folder, pid_t parent)
{
    char value[256];
    int found;
    if (!read_field(folder, "status", "\nPPid:", value, sizeof(value)) || sscanf(value, "%d", &found) != 1 || found != parent ||
        !read_field(folder, "status", "\nNSpid:", value, sizeof(value)))
        return 0;
    char *last = strrchr(value, '\t');
    return last ? (uint32_t)strtoul(last + 1, NULL, 10) : 0;
}

/* May take the folder of the child in /proc. `id` as the sandbox knows it. */
typedef void visit_child_function(void *context, int *folder, uint32_t id);

static void visit_list(pid_t parent, char *list, visit_child_function *visit, void *context)
{
    for (char *rest = list, *word; (word = strsep(&rest, " "));) {
        char path[64];
        if (!*word)
            continue;
        snprintf(path, sizeof(path), "/proc/%.16s", word);
        cleanup_close int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        uint32_t id = folder < 0 ? 0 : inner_id(folder, parent);
        if (id)
            visit(context, &folder, id);
    }
}

/* Children are listed by the thread that made them. */
static int visit_children(pid_t parent, visit_child_function *visit, void *context)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/task", (int)parent);
    cleanup_directory DIR *threads = opendir(path);
    if (!threads)
        return -errno;
    for (struct dirent *entry; (entry = readdir(threads));) {
        char file[288];
        cleanup_free char *list = NULL;
        snprintf(file, sizeof(file), "%s/children", entry->d_name);
        if (entry->d_name[0] != '.' && path_read_file(dirfd(threads), file, 1 << 20, &list, NULL) == 0)
            visit_list(parent, list, visit, context);
    }
    return 0;
}

struct search {
    struct process *processes;
    size_t count, found;
};

static void match(void *context, int *folder, uint32_t id)
{
    struct search *search = context;
    for (size_t i = 0; i < search->count; i++) {
        if (search->processes[i].from != id || search->processes[i].folder >= 0)
            continue;
        search->processes[i].folder = take_descriptor(folder);
        search->found++;
        break;
    }
}

static int find_processes(pid_t parent, struct process *processes, size_t count, struct error *error)
{
    struct search search = {.processes = processes, .count = count};
    int result = visit_children(parent, match, &search);
    if (result < 0)
        return error_set_errno(error, result, "cannot look at the sandbox's processes in /proc");
    return search.found == count ? 0 : error_set(error, -ESRCH, "a process of the sandbox cannot be found in /proc");
}

/* ---- Which pages ---- */

/* The next ranges of [*place, end) that hold pages of the process's own; moves *place on. Returns how many, or negative errno. */
static int scan_ranges(const struct dump *dump, uint64_t *place, uint64_t end, struct range *out_ranges)
{
    static struct scan_region regions[RANGE_COUNT]; /* one image is made at a time */
    struct scan_arguments arguments = {.size = sizeof(arguments),
                                       .start = *place,
                                       .end = end,
                                       .regions = (uint64_t)regions,
                                       .region_count = RANGE_COUNT,
                                       .inverted = SCAN_FILE | SCAN_ZERO,
                                       .all_of = SCAN_FILE | SCAN_ZERO,
                                       .any_of = SCAN_PRESENT | SCAN_SWAPPED,
                                       .reported = SCAN_PRESENT | SCAN_SWAPPED};
    int count = ioctl(dump->pagemap, PAGEMAP_SCAN, &arguments);
    if (count < 0)
        return -errno;
    for (int i = 0; i < count; i++)
        out_ranges[i] = (struct range){regions[i].start, regions[i].end};
    *place = arguments.walk_end;
    return count;
}

/* The same by reading (Documentation/admin-guide/mm/pagemap.rst). */
static int read_ranges(const struct dump *dump, uint64_t *place, uint64_t end, struct range *out_ranges)
{
    const uint64_t present = 3ull << 62 /* or swapped */, of_file = 1ull << 61;
    static uint64_t entries[8192];
    int count = 0;
    while (*place < end && count < (int)RANGE_COUNT) {
        uint64_t wanted = (end - *place) / BLY_PAGE_SIZE;
        if (wanted > sizeof(entries) / sizeof(entries[0]))
            wanted = sizeof(entries) / sizeof(entries[0]);
        ssize_t size = pread(dump->pagemap, entries, wanted * sizeof(entries[0]), (off_t)(*place / BLY_PAGE_SIZE * sizeof(entries[0])));
        if (size <= 0)
            return size < 0 ? -errno : -EIO;
        for (size_t i = 0; i < (size_t)size / sizeof(entries[0]); i++, *place += BLY_PAGE_SIZE) {
            if (!(entries[i] & present) || (entries[i] & of_file))
                continue;
            if (count && out_ranges[count - 1].end == *place) {
                out_ranges[count - 1].end += BLY_PAGE_SIZE;
                continue;
            }
            if (count == (int)RANGE_COUNT)
                return count;
            out_ranges[count++] = (struct range){*place, *place + BLY_PAGE_SIZE};
        }
    }
    return count;
}

static int next_ranges(struct dump *dump, uint64_t *place, uint64_t end, struct range *out_ranges)
{
    if (dump->can_scan) {
        int count = scan_ranges(dump, place, end, out_ranges);
        if (count != -ENOTTY && count != -EINVAL)
            return count;
        dump->can_scan = false;
    }
    return read_ranges(dump, place, end, out_ranges);
}

/* ---- Their contents ---- */

int mon_image_write_range(const struct dump *dump, struct range range, size_t zeros)
{
    if (dump->later && range.end - range.start >= LATER_FROM)
        return mon_behind_note(dump->later, dump->writer, range.start, range.start, (range.end - range.start) / BLY_PAGE_SIZE, dump->error);
    while (range.start < range.end) {
        size_t size = range.end - range.start;
        size = size < CHUNK_PAGES * BLY_PAGE_SIZE ? size : CHUNK_PAGES * BLY_PAGE_SIZE;
        ssize_t got = pread(dump->memory, dump->buffer, size, (off_t)range.start);
        if (got < (ssize_t)BLY_PAGE_SIZE)
            return error_set_errno(dump->error, got < 0 ? -errno : -EIO, "cannot read the sandbox's memory at %#llx",
                                   (unsigned long long)range.start);
        size_t pages = (size_t)got / BLY_PAGE_SIZE;
        int result = img_writer_pages(dump->writer, range.start, dump->buffer, pages, zeros, dump->error);
        if (result < 0)
            return result;
        range.start += pages * BLY_PAGE_SIZE;
    }
    return 0;
}

/* One map of the process. Over a file every page of its own counts, also one of zeros, and no other may be carried along. */
int mon_image_write_map(struct dump *dump, struct range map, bool of_file)
{
    struct range ranges[RANGE_COUNT], run = {0};
    uint64_t gap = of_file ? 0 : GAP_PAGES * BLY_PAGE_SIZE;
    size_t zeros = of_file ? IMG_ALL_ZEROS : GAP_PAGES;
    while (map.start < map.end) {
        int count = next_ranges(dump, &map.start, map.end, ranges);
        if (count < 0)
            return error_set_errno(dump->error, count, "cannot tell which pages the sandbox's processes have");
        for (int i = 0; i < count; i++) {
            if (run.end && ranges[i].start - run.end <= gap) {
                run.end = ranges[i].end;
                continue;
            }
            int result = mon_image_write_range(dump, run, zeros);
            if (result < 0)
                return result;
            run = ranges[i];
        }
    }
    return mon_image_write_range(dump, run, zeros);
}

struct map_line {
    struct range map;
    struct place place;
    uint64_t offset; /* in the file */
    bool is_private;
};

static bool read_map(const char *line, struct map_line *out)
{
    char rights[5];
    if (sscanf(line, "%lx-%lx %4s %lx %x:%x %llu", &out->map.start, &out->map.end, rights, &out->offset, &out->place.major, &out->place.minor,
               &out->place.inode) != 7)
        return false;
    out->is_private = rights[3] == 'p';
    return true;
}

static bool is_same_place(const struct place *one, const struct place *other)
{
    return one->inode && one->inode == other->inode && one->major == other->major && one->minor == other->minor;
}

uint64_t mon_image_name_place(const struct img_reader *image, const struct img_writer *writer, uint64_t place)
{
    unsigned file = img_place_file(place);
    struct img_identity identity = file ? img_reader_base(image, file - 1)->identity : img_reader_identity(image);
    unsigned number = img_writer_find_file(writer, &identity);
    return number ? img_place(number, img_place_page(place)) : 0;
}

/* A map of an image's file. What was not written to is as the file has it: named, when the new image is based on that, else written. */
static int write_image_map(struct dump *dump, const struct map_line *line, unsigned file)
{
    const struct img_reader *image = dump->sandbox->resume->image->reader;
    const struct img_identity identity = file ? img_reader_base(image, file - 1)->identity : img_reader_identity(image);
    uint64_t page = line->offset / BLY_PAGE_SIZE - 1, size = line->map.end - line->map.start;
    uint64_t named = mon_image_name_place(image, dump->writer, img_place(file, 0));
    struct range map = line->map, ranges[RANGE_COUNT];
    if (!named || line->offset < BLY_PAGE_SIZE || page > identity.page_count || size / BLY_PAGE_SIZE > identity.page_count - page)
        return mon_image_write_range(dump, map, IMG_ALL_ZEROS);
    uint64_t done = map.start; /* what lies before is in the new image */
    int result = 0;
    while (map.start < map.end) {
        int count = next_ranges(dump, &map.start, map.end, ranges);
        if (count < 0)
            return error_set_errno(dump->error, count, "cannot tell which pages the sandbox's processes have");
        for (int i = 0; i < count && result == 0; i++) {
            if (ranges[i].start > done)
                result = img_writer_name(dump->writer, done, named + page + (done - line->map.start) / BLY_PAGE_SIZE,
                                         (ranges[i].start - done) / BLY_PAGE_SIZE, dump->error);
            if (result == 0)
                result = mon_image_write_range(dump, ranges[i], IMG_ALL_ZEROS);
            done = ranges[i].end;
        }
        if (result < 0)
            return result;
    }
    return done == map.end ? 0
                           : img_writer_name(dump->writer, done, named + page + (done - line->map.start) / BLY_PAGE_SIZE,
                                             (map.end - done) / BLY_PAGE_SIZE, dump->error);
}

/* What lies in the window is Bailey's own, and above it all the host's. */
static int write_maps(struct dump *dump, char *maps, write_map_function *write)
{
    for (char *rest = maps, *text; (text = strsep(&rest, "\n"));) {
        struct map_line line;
        unsigned file = 0;
        if (!read_map(text, &line) || !line.is_private || line.map.start < BLY_GUEST_MIN || line.map.end > BLY_GUEST_MAX ||
            (line.map.end > BLY_WINDOW_START && line.map.start < BLY_WINDOW_END))
            continue;
        while (file < dump->image.count && !is_same_place(&dump->image.files[file], &line.place))
            file++;
        int result = file < dump->image.count ? write_image_map(dump, &line, file) : write(dump, line.map, line.place.inode != 0);
        if (result < 0)
            return result;
    }
    return 0;
}

/* Asked of the kernel by a map of our own. */
static struct place place_of(int descriptor)
{
    struct map_line line;
    struct place place = {0};
    cleanup_free char *maps = NULL;
    void *page = mmap(NULL, BLY_PAGE_SIZE, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (page != MAP_FAILED && path_read_file(AT_FDCWD, "/proc/self/maps", MAPS_SIZE_MAX, &maps, NULL) == 0)
        for (char *rest = maps, *text; (text = strsep(&rest, "\n"));)
            if (read_map(text, &line) && line.map.start <= (uint64_t)page && line.map.end > (uint64_t)page)
                place = line.place;
    if (page != MAP_FAILED)
        munmap(page, BLY_PAGE_SIZE);
    return place;
}

struct memory_files mon_image_places(const struct mon_sandbox *sandbox)
{
    struct memory_files files = {.count = 0};
    const struct img_reader *reader = sandbox->resume ? sandbox->resume->image->reader : NULL;
    while (reader && files.count <= img_reader_base_count(reader)) {
        files.files[files.count] = place_of(img_reader_file(reader, (unsigned)files.count));
        files.count++;
    }
    return files;
}

int mon_image_visit_maps(struct dump *dump, const struct process *process, write_map_function *write)
{
    cleanup_free char *maps = NULL;
    cleanup_close int memory = openat(process->folder, "mem", O_RDONLY | O_CLOEXEC);
    cleanup_close int pagemap = memory < 0 ? -1 : openat(process->folder, "pagemap", O_RDONLY | O_CLOEXEC);
    int result = pagemap < 0 ? -errno : path_read_file(process->folder, "maps", MAPS_SIZE_MAX, &maps, NULL);
    if (result < 0)
        return error_set_errno(dump->error, result, "this host does not let the sandbox's memory be read");
    dump->memory = memory;
    dump->pagemap = pagemap;
    return write_maps(dump, maps, write);
}

int mon_image_write_process(struct dump *dump, const struct process *process, write_map_function *write)
{
    int result = img_writer_space(dump->writer, IMG_SPACE_PRIVATE, process->id, dump->error);
    return result < 0 ? result : mon_image_visit_maps(dump, process, write);
}

void mon_image_become_user(const struct mon_sandbox *sandbox, bool on)
{
    const struct mon_confinement *confinement = &sandbox->confinement;
    if (!confinement->by_root)
        return;
    /* The C library's functions would do so for all threads. */
    if (on)
        syscall(SYS_setresgid, -1, confinement->group, -1);
    syscall(SYS_setresuid, -1, on ? confinement->user : 0, -1);
    if (!on)
        syscall(SYS_setresgid, -1, 0, -1);
}

static uint64_t memory_of(int folder)
{
    char value[64];
    uint64_t present = 0, swapped = 0;
    if (read_field(folder, "status", "\nRssAnon:", value, sizeof(value)))
        present = strtoull(value, NULL, 10);
    if (read_field(folder, "status", "\nVmSwap:", value, sizeof(value)))
        swapped = strtoull(value, NULL, 10);
    return (present + swapped) * 1024;
}

int mon_image_find_memory(const struct mon_sandbox *sandbox, const uint32_t *ids, const uint32_t *from, size_t count,
                          struct mon_memory **out_memory, uint64_t *out_size, struct error *error)
{
    struct mon_memory *memory = memory_new(sizeof(*memory) + count * sizeof(memory->processes[0]));
    memory->count = count;
    for (size_t i = 0; i < count; i++)
        memory->processes[i] = (struct process){ids[i], from[i], -1, -1};
    mon_image_become_user(sandbox, true);
    int result = find_processes(sandbox->child, memory->processes, count, error);
    mon_image_become_user(sandbox, false);
    *out_size = 0;
    for (size_t i = 0; i < count && result == 0; i++)
        *out_size += memory_of(memory->processes[i].folder);
    *out_memory = memory;
    return result;
}

static void add_memory(void *context, int *folder, uint32_t id)
{
    *(uint64_t *)context += memory_of(*folder);
}

uint64_t mon_image_memory_size(const struct mon_sandbox *sandbox)
{
    uint64_t size = 0;
    mon_image_become_user(sandbox, true);
    (void)visit_children(sandbox->child, add_memory, &size);
    mon_image_become_user(sandbox, false);
    return size;
}

int mon_image_write_processes(const struct mon_sandbox *sandbox, const struct mon_memory *memory, write_map_function *write,
                              struct img_writer *writer, struct error *error)
{
    cleanup_free unsigned char *buffer = memory_new(CHUNK_PAGES * BLY_PAGE_SIZE);
    struct dump dump = {
        .sandbox = sandbox, .writer = writer, .can_scan = true, .image = mon_image_places(sandbox), .buffer = buffer, .error = error};
    int result = 0;
    mon_image_become_user(sandbox, true);
    for (size_t i = 0; i < memory->count && result == 0; i++)
        result = mon_image_write_process(&dump, &memory->processes[i], write);
    mon_image_become_user(sandbox, false);
    return result;
}

int mon_image_write_memory(const struct mon_sandbox *sandbox, const struct mon_memory *memory, struct img_writer *writer,
                           struct error *error)
{
    return mon_image_write_processes(sandbox, memory, mon_image_write_map, writer, error);
}

void mon_image_free_memory(struct mon_memory *memory)
{
    if (!memory)
        return;
    for (size_t i = 0; i < memory->count; i++) {
        const struct process *process = &memory->processes[i];
        /* A folder of /proc is as good as a pidfd (pidfd_send_signal(2)). */
        if (process->folder >= 0 && process->from != process->id)
            syscall(SYS_pidfd_send_signal, process->folder, SIGKILL, NULL, 0);
        cleanup_close_descriptor(&memory->processes[i].folder);
        cleanup_close_descriptor(&memory->processes[i].tracker);
    }
    free(memory);
}
