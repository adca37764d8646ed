/* Handles for an image. What every picoprocess is born with is only told by its role. A file is told by its place beneath a grant and by
 * what it was: device, inode, size, time. One that has no name any more is carried with its contents, in a self-contained image every one.
 * Anything else cannot be made again elsewhere, and is a reason not to suspend. Invariant: a path is recorded only when, walked as the sandbox's own names are, it
 * leads to the file that is open. */
#include "monitor/suspension/suspend.h"

#include "base/cleanup.h"
#include "base/path.h"
#include "base/sha256.h"
#include "monitor/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define SETTLED_NS 2000000000
#include <unistd.h>

struct mon_later {
    struct mon_image_handle record; /* the first of the file: names the space */
    int descriptor;                 /* of our own */
    bool wanted;                    /* by the last call of mon_image_handles */
    bool sent;                      /* in an earlier round, as it is now */
};
struct mon_known_sum {
    uint64_t device, inode, size;
    int64_t modify_ns;
    bool settled; /* no write could have had the same time */
    unsigned char sum[SHA256_SIZE];
};
struct saved {
    struct mon_saving *saving;
    struct text sums;
    struct mon_image_handle *records; /* without their paths: to find the same file again */
    size_t count;
    struct text bytes;
};

static enum mon_image_role role_of(const struct mon_start_handles *start, bly_handle handle, uint64_t owner)
{
    if (owner)
        return MON_IMAGE_EXECUTION_0 + (unsigned)(owner & 7);
    if (handle >= start->wake_pool && handle - start->wake_pool < BLY_WAKE_POOL_COUNT)
        return MON_IMAGE_WAKE;
    const struct {
        bly_handle handle;
        enum mon_image_role role;
    } fixed[] = {{start->heap, MON_IMAGE_HEAP},
                 {start->bulk, MON_IMAGE_BULK},
                 {start->control, MON_IMAGE_CONTROL},
                 {start->control + 1, MON_IMAGE_WATCH}, /* has its place also where nothing can be watched */
                 {start->terminal_input, MON_IMAGE_TERMINAL_INPUT},
                 {start->terminal_output, MON_IMAGE_TERMINAL_OUTPUT},
                 {start->standard[0].handle, MON_IMAGE_STANDARD_0},
                 {start->standard[1].handle, MON_IMAGE_STANDARD_1},
                 {start->standard[2].handle, MON_IMAGE_STANDARD_2}};
    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
        if (fixed[i].handle == handle)
            return fixed[i].role;
    return MON_IMAGE_STREAM;
}

static bool is_same(const struct stat *status, int descriptor)
{
    struct stat other;
    return fstat(descriptor, &other) == 0 && other.st_dev == status->st_dev && other.st_ino == status->st_ino;
}

static int host_path(int descriptor, char out_path[PATH_MAX])
{
    ssize_t size = readlink(mon_descriptor_path(descriptor).text, out_path, PATH_MAX - 1);
    if (size < 0)
        return -errno;
    out_path[size] = '\0';
    return 0;
}

/* The path beneath the grant that leads to the open file. */
static bool find_name(struct mon_files *files, const struct mon_folder *folder, const char *path, const struct stat *status,
                      struct mon_name *out_name)
{
    char root[PATH_MAX];
    *out_name = (struct mon_name){.folder = folder};
    if (folder->root < 0 || host_path(folder->root, root) < 0)
        return false;
    if (is_same(status, folder->root))
        return true;
    if (folder->is_file || !path_is_within(path, root))
        return false;
    const char *rest = path + strlen(root);
    rest += strspn(rest, "/");
    cleanup_free char *uri = text_print("file:%u/%s", (unsigned)(folder - files->folders), rest);
    cleanup_close int held = -1;
    return mon_name_decode(files, uri, strlen(uri), out_name) == 0 && mon_name_hold(files, out_name, &held) == 0 && is_same(status, held);
}

/* Names are the sandbox's: one with a newline is not to look like two reasons. */
static int refuse(char *path, const char *why, struct error *error)
{
    text_make_printable(path, strlen(path));
    return error_set(error, -EXDEV, "it has %s open, which %s", path, why);
}

int mon_mode_loosen(int descriptor)
{
    struct stat status;
    if (fstat(descriptor, &status) < 0 || !S_ISREG(status.st_mode) || status.st_uid != geteuid())
        return -EACCES;
    int mode = status.st_mode & 07777;
    return chmod(mon_descriptor_path(descriptor).text, (mode_t)mode | S_IRUSR | S_IWUSR) < 0 ? -errno : mode;
}

int mon_open_readable(int descriptor, unsigned access)
{
    const struct mon_descriptor_path path = mon_descriptor_path(descriptor);
    int readable = open(path.text, O_RDONLY | O_CLOEXEC);
    if (readable < 0 && errno == EACCES && access & BLY_ACCESS_READ)
        return fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
    int mode = readable < 0 && errno == EACCES ? mon_mode_loosen(descriptor) : -EACCES;
    if (mode < 0)
        return readable;
    readable = open(path.text, O_RDONLY | O_CLOEXEC);
    int opened = errno;
    (void)!chmod(path.text, (mode_t)mode);
    errno = opened;
    return readable;
}

static int write_contents(struct img_writer *writer, bly_handle handle, int descriptor, struct error *error)
{
    int result = img_writer_space(writer, IMG_SPACE_FILE, handle, error);
    return result < 0 ? result : img_writer_segment(writer, 0, descriptor, error);
}

static struct mon_later *find_later(const struct mon_saving *saving, const struct mon_image_handle *record)
{
    for (size_t i = 0; i < saving->later_count; i++)
        if (saving->later[i].record.device == record->device && saving->later[i].record.inode == record->inode)
            return &saving->later[i];
    return NULL;
}

static bool leave_for_later(struct mon_saving *saving, const struct mon_image_handle *record, int descriptor)
{
    struct mon_later *later = find_later(saving, record);
    if (!later) {
        int own = open(mon_descriptor_path(descriptor).text, O_RDONLY | O_CLOEXEC);
        if (own < 0)
            return false;
        saving->later = memory_resize(saving->later, (saving->later_count + 1) * sizeof(*later));
        later = &saving->later[saving->later_count++];
        *later = (struct mon_later){.descriptor = own};
    }
    later->sent = later->sent && later->record.handle == record->handle && later->record.size == record->size &&
                  later->record.modify_ns == record->modify_ns;
    later->record = *record;
    later->wanted = true;
    return true;
}

/* What was sent is named. Pages that were not given are holes. */
static int name_contents(const struct mon_later *later, struct img_writer *writer, struct error *error)
{
    uint64_t count = (later->record.size + BLY_PAGE_SIZE - 1) / BLY_PAGE_SIZE;
    int result = img_writer_space(writer, IMG_SPACE_FILE, later->record.handle, error);
    for (uint64_t page = 0; page < count && result == 0; page++)
        page += img_writer_keep(writer, page * BLY_PAGE_SIZE, count - page);
    return result;
}

int mon_image_contents(struct mon_saving *saving, struct img_writer *writer, bool early, struct error *error)
{
    int result = 0;
    for (size_t i = 0; i < saving->later_count && result == 0; i++) {
        struct mon_later *later = &saving->later[i];
        if (!later->wanted)
            continue;
        result = later->sent ? name_contents(later, writer, error) : write_contents(writer, later->record.handle, later->descriptor, error);
        later->sent = early;
    }
    return result;
}

/* What it can write through another handle does not wait. */
static int write_written(struct saved *saved, struct img_writer *writer, struct error *error)
{
    int result = 0;
    for (size_t i = 0; i < saved->count && result == 0 && img_writer_takes_pages(writer); i++) {
        struct mon_later *later = saved->records[i].access & BLY_ACCESS_WRITE ? find_later(saved->saving, &saved->records[i]) : NULL;
        if (!later || !later->wanted)
            continue;
        result = write_contents(writer, later->record.handle, later->descriptor, error);
        later->wanted = false;
    }
    return result;
}

void mon_saving_free(struct mon_saving *saving)
{
    for (size_t i = 0; i < saving->later_count; i++)
        cleanup_close_descriptor(&saving->later[i].descriptor);
    free(saving->later);
    free(saving->known);
}

/* Its contents, once for each file: the space is named by the first handle of it. */
static int save_contents(struct saved *saved, struct img_writer *writer, const struct mon_image_handle *record, int descriptor,
                         const char *path, struct error *error)
{
    for (size_t i = 0; i < saved->count; i++)
        if ((saved->records[i].flags & MON_IMAGE_CONTENTS) && saved->records[i].device == record->device &&
            saved->records[i].inode == record->inode)
            return 0;
    saved->saving->carried += record->size;
    bool waits = (record->flags & MON_IMAGE_CARRIED) && !(record->access & BLY_ACCESS_WRITE) && leave_for_later(saved->saving, record, descriptor);
    if (waits || !img_writer_takes_pages(writer))
        return 0;
    cleanup_close int readable = mon_open_readable(descriptor, record->access);
    if (readable < 0)
        return error_set_errno(error, -errno, "cannot read %s, whose contents are to be carried", path);
    int result = write_contents(writer, record->handle, readable, error);
    (void)lseek(readable, (off_t)record->position, SEEK_SET);
    return result;
}

/* Of an earlier call, unless the file may have been written to since, or just before, so that its time tells nothing. */
static const struct mon_known_sum *find_sum(const struct mon_saving *saving, const struct mon_image_handle *record)
{
    for (size_t i = saving->known_count; i-- > 0;) {
        const struct mon_known_sum *known = &saving->known[i];
        if (known->settled && known->device == record->device && known->inode == record->inode && known->size == record->size &&
            known->modify_ns == record->modify_ns)
            return known;
    }
    return NULL;
}

static const struct mon_known_sum *learn_sum(struct mon_saving *saving, const struct mon_image_handle *record, int descriptor)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    cleanup_close int readable = mon_open_readable(descriptor, record->access);
    struct mon_known_sum new = {.device = record->device,
                                .inode = record->inode,
                                .size = record->size,
                                .modify_ns = record->modify_ns,
                                .settled = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec - record->modify_ns > SETTLED_NS};
    int result = readable < 0 ? -errno : sha256_file(readable, record->size, new.sum);
    if (result < 0) {
        errno = -result;
        return NULL;
    }
    saving->known = memory_resize(saving->known, (saving->known_count + 1) * sizeof(new));
    saving->known[saving->known_count] = new;
    return &saving->known[saving->known_count++];
}

static int save_sum(struct saved *saved, const struct mon_image_handle *record, int descriptor, const char *path, struct error *error)
{
    struct mon_image_sum line = {.handle = record->handle};
    const struct mon_known_sum *known = find_sum(saved->saving, record);
    known = known ? known : learn_sum(saved->saving, record, descriptor);
    if (!known)
        return error_set_errno(error, -errno, "cannot read %s, whose sum is wanted", path);
    memcpy(line.sum, known->sum, sizeof(line.sum));
    text_add_size(&saved->sums, &line, sizeof(line));
    return 0;
}

static void describe_file(struct mon_image_handle *record, const struct stat *status, off_t position)
{
    record->device = status->st_dev;
    record->inode = status->st_ino;
    record->size = S_ISREG(status->st_mode) ? (uint64_t)status->st_size : 0;
    record->position = position < 0 ? 0 : (uint64_t)position;
    record->modify_ns = (int64_t)status->st_mtim.tv_sec * 1000000000 + status->st_mtim.tv_nsec;
}

static int save_stream(struct mon_sandbox *sandbox, struct saved *saved, struct img_writer *writer, const struct mon_handle *entry,
                       struct mon_image_handle *record, struct mon_name *name, struct error *error)
{
    struct stat status;
    char path[PATH_MAX];
    int flags = fcntl(entry->descriptor, F_GETFL);
    if (flags < 0 || fstat(entry->descriptor, &status) < 0 || host_path(entry->descriptor, path) < 0)
        return error_set_errno(error, -errno, "cannot tell what the sandbox's handle %#x is", record->handle);
    if (entry->mount >= sandbox->files.folder_count)
        return refuse(path, "belongs to none of the granted folders", error);
    off_t position = S_ISREG(status.st_mode) ? lseek(entry->descriptor, 0, SEEK_CUR) : 0;
    record->open_flags = (uint32_t)flags & (O_ACCMODE | O_APPEND | O_DIRECT | O_SYNC);
    describe_file(record, &status, position);
    record->flags = S_ISDIR(status.st_mode) ? MON_IMAGE_DIRECTORY : 0;
    if (find_name(&sandbox->files, &sandbox->files.folders[entry->mount], path, &status, name)) {
        record->path_size = name->size;
        if (S_ISREG(status.st_mode) && saved->saving->sums) {
            /* While it runs, what it writes has none yet. */
            bool waits = (entry->access & BLY_ACCESS_WRITE) && !img_writer_takes_pages(writer);
            int result = waits ? 0 : save_sum(saved, record, entry->descriptor, path, error);
            if (result < 0)
                return result;
        }
        if (!saved->saving->contents || !S_ISREG(status.st_mode))
            return 0;
        record->flags |= MON_IMAGE_CARRIED;
        return save_contents(saved, writer, record, entry->descriptor, path, error);
    }
    if (S_ISREG(status.st_mode) && (status.st_nlink == 0 || (saved->saving->contents && !(entry->access & BLY_ACCESS_WRITE)))) {
        record->flags |= MON_IMAGE_DELETED;
        return save_contents(saved, writer, record, entry->descriptor, path, error);
    }
    return refuse(path, S_ISDIR(status.st_mode) ? "has been deleted, or lies outside its grant now" : "has no name there any more", error);
}

/* Standard input from a file that one of the grants shows too: it can be opened again by that name. */
static void note_input_file(struct mon_sandbox *sandbox, struct mon_image_handle *record, struct mon_name *name)
{
    struct stat status;
    char path[PATH_MAX];
    int input = sandbox->stdio.input;
    if (fstat(input, &status) < 0 || !S_ISREG(status.st_mode) || host_path(input, path) < 0)
        return;
    for (uint32_t i = 0; i < sandbox->files.folder_count && record->mount == MON_NO_MOUNT; i++)
        if (find_name(&sandbox->files, &sandbox->files.folders[i], path, &status, name))
            record->mount = i;
    if (record->mount == MON_NO_MOUNT)
        return;
    describe_file(record, &status, lseek(input, 0, SEEK_CUR));
    record->path_size = name->size;
}

static int save_handle(struct mon_sandbox *sandbox, struct saved *saved, struct img_writer *writer, bly_handle handle,
                       const struct mon_handle *entry, struct error *error)
{
    static const char zeros[8];
    struct mon_name name = {.size = 0};
    struct mon_image_handle record = {.handle = handle,
                                      .role = role_of(&sandbox->start_handles, handle, entry->owner),
                                      .kind = entry->kind,
                                      .access = entry->access,
                                      .mount = entry->owner ? (uint32_t)(entry->owner >> 3) : entry->mount};
    int result = record.role == MON_IMAGE_STREAM ? save_stream(sandbox, saved, writer, entry, &record, &name, error) : 0;
    if (result < 0)
        return result;
    if (record.role == MON_IMAGE_STANDARD_0 && record.kind == BLY_KIND_FILE)
        note_input_file(sandbox, &record, &name);
    text_add_size(&saved->bytes, &record, sizeof(record));
    text_add_size(&saved->bytes, name.path, record.path_size);
    text_add_size(&saved->bytes, zeros, img_filled(record.path_size) - record.path_size);
    saved->records = memory_resize(saved->records, (saved->count + 1) * sizeof(record));
    saved->records[saved->count++] = record;
    return 0;
}

/* Of a resumed one, whenever it goes on. */
static bool is_made_anew(const struct mon_sandbox *sandbox, bly_handle handle)
{
    const struct mon_start_handles *handles = &sandbox->start_handles;
    bool is_file = handle == handles->extents;
    for (size_t i = 0; i <= IMG_BASES_MAX; i++)
        is_file |= handle == handles->images[i];
    return is_file && sandbox->resume;
}

int mon_image_handles(struct mon_sandbox *sandbox, struct mon_saving *saving, struct img_writer *writer, struct error *error)
{
    struct saved saved = {.saving = saving};
    bly_handle handle = BLY_NO_HANDLE;
    struct error obstacles = {0};
    int result = 0;
    saving->carried = 0;
    for (size_t i = 0; i < saving->later_count; i++)
        saving->later[i].wanted = false;
    for (uint32_t place = 0; result == 0 && mon_handle_next(&sandbox->handles, &place, &handle);) {
        struct mon_handle entry;
        if (is_made_anew(sandbox, handle))
            continue;
        if (mon_handle_get(&sandbox->handles, handle, &entry) < 0)
            continue; /* a sandbox that is not as quiet as it said: its image is its own affair */
        struct error obstacle = {0};
        result = save_handle(sandbox, &saved, writer, handle, &entry, &obstacle);
        mon_handle_put(&sandbox->handles, handle);
        if (result < 0)
            error_add(&obstacles, &obstacle);
        if (result == -EXDEV) /* all are told of at once */
            result = 0;
    }
    if (result == 0)
        result = write_written(&saved, writer, &obstacles);
    if (result == 0)
        result = img_writer_record(writer, MON_IMAGE_HANDLES, 0, saved.bytes.data, saved.bytes.size, &obstacles);
    if (result == 0 && saving->sums)
        result = img_writer_record(writer, MON_IMAGE_SUMS, 0, saved.sums.data, saved.sums.size, &obstacles);
    if (obstacles.code)
        result = error_set_lines(error, result < 0 ? result : obstacles.code, obstacles.message, strlen(obstacles.message));
    text_free(&saved.bytes);
    text_free(&saved.sums);
    free(saved.records);
    return result;
}
