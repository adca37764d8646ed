/* Going on with a sandbox from its image: what the launch of a fresh one makes is made here out of the image. Handles have the numbers that they
 * had, since kernel heap and stacks inside hold them; what is behind them is opened anew, by the rules that hold for every name of the
 * sandbox, and compared. Invariant: nothing of the image is used before it was checked (read.c) and granted (policy/grant.c). */
#include "monitor/suspension/resume.h"

#include "base/cleanup.h"
#include "base/path.h"
#include "base/sha256.h"
#include "monitor/suspension/suspend.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE (64ull << 20)

/* ---- Open files ---- */

/* A name as a person may be shown it: an image's words are a stranger's. */
static char *shown_name(const struct mon_sandbox *sandbox, const struct mon_image_entry *entry)
{
    const struct mon_folder *folder = &sandbox->files.folders[entry->record.mount];
    char *name = text_print("%s%s%s", folder->host_path, *entry->path ? "/" : "", entry->path);
    text_make_printable(name, strlen(name));
    return name;
}

static int changed(const struct mon_sandbox *sandbox, const struct mon_image_entry *entry, const char *how, struct error *error)
{
    cleanup_free char *name = shown_name(sandbox, entry);
    error_set(error, -ESTALE, "%s, which the sandbox has open, %s since it was suspended", name, how);
    return error_hint(error, "--accept-changed resumes it all the same");
}

/* Then the time does not matter. */
static int compare_contents(const struct mon_sandbox *sandbox, const struct mon_image_entry *entry, int descriptor, struct error *error)
{
    unsigned char sum[SHA256_SIZE];
    cleanup_close int readable = mon_open_readable(descriptor, entry->record.access);
    int result = readable < 0 ? -errno : sha256_file(readable, entry->record.size, sum);
    if (result < 0) {
        cleanup_free char *shown = shown_name(sandbox, entry);
        return error_set_errno(error, result, "cannot read %s, which the sandbox has open", shown);
    }
    return memcmp(sum, entry->sum, sizeof(sum)) == 0 ? 0 : changed(sandbox, entry, "has other contents", error);
}

static int compare(const struct mon_sandbox *sandbox, const struct mon_image_entry *entry, int descriptor, struct error *error)
{
    const struct mon_image_handle *record = &entry->record;
    struct stat status;
    /* While a sandbox runs that is offered what it writes may change; it is compared when it stands still. */
    if (record->kind != BLY_KIND_FILE || sandbox->resume->accept_changed || (sandbox->resume->image->is_offer && entry->is_written))
        return 0;
    if (fstat(descriptor, &status) < 0)
        return error_set_errno(error, -errno, "cannot look at a file of the sandbox");
    if ((uint64_t)status.st_size != record->size)
        return changed(sandbox, entry, "has changed its size", error);
    if (entry->sum)
        return compare_contents(sandbox, entry, descriptor, error);
    if ((int64_t)status.st_mtim.tv_sec * 1000000000 + status.st_mtim.tv_nsec != record->modify_ns)
        return changed(sandbox, entry, "was written to", error);
    return 0;
}

/* As its name is opened ever, but whatever the mode: the sandbox could change that itself where it may write. */
static int open_named(struct mon_files *files, const struct mon_name *name, unsigned access, unsigned options, int *out_descriptor,
                      struct bly_attributes *out_attributes)
{
    cleanup_close int held = -1;
    int result = mon_file_open(files, name, access, options, 0, out_descriptor, out_attributes);
    if (result != -EACCES || name->folder->read_only || mon_name_hold(files, name, &held) < 0)
        return result;
    int mode = mon_mode_loosen(held);
    if (mode < 0)
        return result;
    result = mon_file_open(files, name, access, options, 0, out_descriptor, out_attributes);
    if (chmod(mon_descriptor_path(held).text, (mode_t)mode) < 0 && result == 0) {
        close(*out_descriptor);
        return -errno;
    }
    return result;
}

/* `compared`: what has the name was compared already. */
static int reopen_named(struct mon_sandbox *sandbox, const struct mon_image_entry *entry, bool compared, struct error *error)
{
    const struct mon_image_handle *record = &entry->record;
    struct mon_name name;
    struct bly_attributes attributes;
    int descriptor;
    cleanup_free char *uri = text_print("file:%u/%s", record->mount, entry->path);
    unsigned options = record->flags & MON_IMAGE_DIRECTORY ? BLY_OPEN_DIRECTORY : 0;
    int result = mon_name_decode(&sandbox->files, uri, strlen(uri), &name);
    if (result == 0)
        result = open_named(&sandbox->files, &name, record->access, options, &descriptor, &attributes);
    if (result < 0) {
        cleanup_free char *shown = shown_name(sandbox, entry);
        return error_set_errno(error, result, "cannot open %s again, which the sandbox had open", shown);
    }
    if (attributes.kind != record->kind)
        result = changed(sandbox, entry, "has become something else", error);
    else if (!compared)
        result = compare(sandbox, entry, descriptor, error);
    if (result < 0)
        close(descriptor);
    return result < 0 ? result : descriptor;
}

static int copy_pages(const struct mon_image *image, const struct img_space *space, uint64_t start, int descriptor, struct error *error);

static int make_contents(const struct mon_image *image, const struct mon_image_handle *record, struct error *error)
{
    cleanup_close int memory = memfd_create("bailey-carried", MFD_CLOEXEC);
    if (memory < 0 || ftruncate(memory, (off_t)record->size) < 0)
        return error_set_errno(error, -errno, "cannot make a file of the sandbox again");
    const struct img_space *space = img_reader_find_space(image->reader, IMG_SPACE_FILE, record->handle);
    int result = space ? copy_pages(image, space, 0, memory, error) : 0;
    /* The last page is a whole one in the image. */
    if (result == 0 && ftruncate(memory, (off_t)record->size) < 0)
        result = error_set_errno(error, -errno, "cannot make a file of the sandbox again");
    return result < 0 ? result : take_descriptor(&memory);
}

/* Whether the host has the very file: one of its size and time on another machine may be of another version. */
static bool is_very_file(const struct mon_image_handle *record, int descriptor)
{
    struct stat status;
    return fstat(descriptor, &status) == 0 && status.st_dev == record->device && status.st_ino == record->inode &&
           (uint64_t)status.st_size == record->size &&
           (int64_t)status.st_mtim.tv_sec * 1000000000 + status.st_mtim.tv_nsec == record->modify_ns;
}

#define OF_HOST INT_MIN /* in place of a descriptor of the contents; no errno */

/* Whether a file with a name and contents comes from the host, for all its handles: 1, 0. What the sandbox writes is to arrive where it did:
 * the contents stand in for a file that it writes only if that is gone, and the operator takes that. */
static int prefers_host(struct mon_sandbox *sandbox, const struct mon_image_entry *first, struct error *error)
{
    struct error unfit = {0};
    cleanup_close int named = reopen_named(sandbox, first, /*compared=*/false, &unfit);
    if (named >= 0)
        return first->is_written || is_very_file(&first->record, named);
    if (!first->is_written || (named == -ENOENT && sandbox->resume->accept_changed))
        return 0;
    error_set(error, unfit.code, "%s", unfit.message);
    return named != -ENOENT ? named : error_hint(error, "--accept-changed goes on with a private copy of it, from the image");
}

static int choose(struct mon_sandbox *sandbox, const struct mon_image_entry *first, struct error *error)
{
    int of_host = first->record.flags & MON_IMAGE_DELETED ? 0 : prefers_host(sandbox, first, error);
    if (of_host < 0)
        return of_host;
    return of_host ? OF_HOST : make_contents(sandbox->resume->image, &first->record, error);
}

/* A description of its own for each handle, with no more than its access, as the file itself would have been opened. */
static int reopen_carried(struct mon_sandbox *sandbox, const struct mon_image_entry *entry, int *files, struct error *error)
{
    const struct mon_image_entry *first = &sandbox->resume->image->handles[entry->contents];
    int *contents = &files[entry->contents];
    if (*contents == -1)
        *contents = choose(sandbox, first, error);
    if (*contents == OF_HOST)
        return reopen_named(sandbox, entry, text_equal(entry->path, first->path) && entry->record.mount == first->record.mount, error);
    if (*contents < 0) {
        int result = *contents;
        *contents = -1; /* its reason is told anew */
        return result;
    }
    static const int flags[4] = {O_RDONLY, O_RDONLY, O_WRONLY, O_RDWR};
    int descriptor = open(mon_descriptor_path(*contents).text, flags[entry->record.access & 3] | O_CLOEXEC);
    return descriptor < 0 ? error_set_errno(error, -errno, "cannot open a file of the sandbox again") : descriptor;
}

static int reopen(struct mon_sandbox *sandbox, const struct mon_image_entry *entry, int *files, struct error *error)
{
    const struct mon_image_handle *record = &entry->record;
    if (record->mount >= sandbox->files.folder_count)
        return error_set(error, -EPROTO, "the image cannot be used: a file in it belongs to no grant");
    cleanup_close int descriptor =
        record->flags & MON_IMAGE_CONTENTS ? reopen_carried(sandbox, entry, files, error) : reopen_named(sandbox, entry, /*compared=*/false, error);
    if (descriptor < 0)
        return descriptor;
    if (record->position && lseek(descriptor, (off_t)record->position, SEEK_SET) < 0) {
        cleanup_free char *shown = shown_name(sandbox, entry);
        return error_set_errno(error, -errno, "cannot go on in %s where the sandbox stood", shown);
    }
    return take_descriptor(&descriptor);
}

/* ---- Handles ---- */

static int place(struct mon_sandbox *sandbox, const struct mon_image_entry *entry, int descriptor, struct error *error)
{
    const struct mon_image_handle *record = &entry->record;
    uint32_t mount = record->role == MON_IMAGE_STREAM ? record->mount : MON_NO_MOUNT;
    int result = mon_handle_place(&sandbox->handles, record->handle, descriptor, record->kind, record->access, mount);
    if (result < 0 && descriptor >= 0)
        close(descriptor);
    if (result == -EMFILE)
        return error_set_errno(error, result, "the sandbox had more files open than may be here (ulimit -n)");
    return result < 0 ? error_set_errno(error, result, "the image cannot be used: one of its handles") : 0;
}

static void note_role(struct mon_start_handles *handles, struct mon_stdio_saved *saved, const struct mon_image_handle *record)
{
    bly_handle *const single[] = {[MON_IMAGE_HEAP] = &handles->heap,
                                  [MON_IMAGE_BULK] = &handles->bulk,
                                  [MON_IMAGE_CONTROL] = &handles->control,
                                  [MON_IMAGE_WATCH] = &handles->watch};
    if (record->role == MON_IMAGE_WAKE) {
        if (handles->wake_pool == BLY_NO_HANDLE)
            handles->wake_pool = record->handle;
    } else if (record->role <= MON_IMAGE_WATCH) {
        *single[record->role] = record->handle;
    } else if (record->role < MON_IMAGE_EXECUTION_0) {
        saved->handles[record->role - MON_IMAGE_STANDARD_0] = record->handle;
        saved->kinds[record->role - MON_IMAGE_STANDARD_0] = record->kind;
    }
}

static int place_all(struct mon_sandbox *sandbox, struct mon_stdio_saved *saved, int *files, struct error *error)
{
    const struct mon_image *image = sandbox->resume->image;
    int result = 0;
    bool unfit = false;
    for (size_t i = 0; i < image->handle_count && result == 0; i++) {
        const struct mon_image_entry *entry = &image->handles[i];
        int descriptor = -1;
        bool is_stream = entry->record.role == MON_IMAGE_STREAM;
        if (!is_stream)
            note_role(&sandbox->start_handles, saved, &entry->record);
        if (is_stream || (mon_image_is_input_file(&entry->record) && !saved->has_input)) {
            struct error reason = {0};
            descriptor = reopen(sandbox, entry, files, &reason);
            if (descriptor < 0) { /* all of them are told of */
                error_add(error, &reason);
                unfit = true;
                continue;
            }
        }
        if (!is_stream && descriptor >= 0) {
            saved->input = descriptor;
            saved->has_input = true;
        }
        if (entry->record.role < MON_IMAGE_STANDARD_0)
            result = place(sandbox, entry, descriptor, error);
    }
    return result == 0 && unfit ? error->code : result;
}

int mon_resume_check(const struct mon_policy *policy, const struct mon_resume *resume, struct error *error)
{
    const struct mon_image *image = resume->image;
    struct mon_sandbox *sandbox = memory_new(sizeof(*sandbox)); /* of which only this is used */
    sandbox->policy = policy;
    sandbox->resume = resume;
    int result = mon_files_init(&sandbox->files, policy);
    if (result < 0)
        error_set_errno(error, result, "cannot open the granted folders");
    for (size_t i = 0; i < image->handle_count && result == 0; i++) {
        const struct mon_image_entry *entry = &image->handles[i];
        struct error reason = {0};
        /* Of a folder that is not granted nothing is known; that it is not is another reason. */
        if (entry->record.role != MON_IMAGE_STREAM || entry->record.flags & MON_IMAGE_DELETED || entry->record.mount >= sandbox->files.folder_count ||
            !*sandbox->files.folders[entry->record.mount].host_path)
            continue;
        if (entry->record.flags & MON_IMAGE_CARRIED) {
            if (prefers_host(sandbox, entry, &reason) < 0)
                error_add(error, &reason);
            continue;
        }
        cleanup_close int descriptor = reopen_named(sandbox, entry, /*compared=*/false, &reason);
        if (descriptor < 0)
            error_add(error, &reason);
    }
    mon_files_destroy(&sandbox->files);
    free(sandbox);
    return error->code;
}

/* ---- Programs of `bailey exec` ---- */

/* What the image tells of the program's streams. False: one of them twice. */
static bool find_streams(const struct mon_image *image, uint32_t token, struct mon_stdio_saved *out_saved)
{
    for (size_t i = 0; i < image->handle_count; i++) {
        const struct mon_image_handle *record = &image->handles[i].record;
        if (record->role < MON_IMAGE_EXECUTION_0 || record->mount != token)
            continue;
        unsigned place = record->role - MON_IMAGE_EXECUTION_0;
        if (out_saved->handles[place])
            return false;
        out_saved->handles[place] = record->handle;
        out_saved->kinds[place] = record->kind;
    }
    return true;
}

/* Nobody is there for its streams any more: reading finds their end, what is written is lost. A terminal has hung up, which is what reading
 * a handle without anything behind it tells. */
static int resume_execution(struct mon_sandbox *sandbox, uint32_t token)
{
    static const int nothing[3] = {-1, -1, -1};
    struct mon_stdio_saved saved = {0};
    if (!find_streams(sandbox->resume->image, token, &saved))
        return -EPROTO;
    struct mon_execution *execution = memory_new(sizeof(*execution));
    struct mon_stdio *stdio = &execution->stdio;
    *execution = (struct mon_execution){.token = token, .next = sandbox->executions};
    sandbox->executions = execution;
    int result = mon_stdio_resume(stdio, &sandbox->loop, &sandbox->handles, nothing, /*terminal=*/false, /*keep_masters=*/true, &saved);
    stdio->terminal_input = saved.handles[3];
    stdio->terminal_output = saved.handles[4];
    for (unsigned place = 3; place < 5 && result == 0; place++)
        if (saved.handles[place])
            result = mon_handle_place(&sandbox->handles, saved.handles[place], -1, saved.kinds[place], 0, MON_NO_MOUNT);
    for (unsigned place = 0; place < 5 && result == 0; place++)
        mon_handle_set_owner(&sandbox->handles, saved.handles[place], MON_OWNER(token, place));
    return result < 0 ? result : mon_stdio_start(stdio);
}

static int resume_executions(struct mon_sandbox *sandbox, struct error *error)
{
    const struct mon_image *image = sandbox->resume->image;
    int result = 0;
    for (size_t i = 0; i < image->handle_count && result == 0; i++) {
        const struct mon_image_handle *record = &image->handles[i].record;
        const struct mon_execution *known = sandbox->executions;
        while (known && known->token != record->mount)
            known = known->next;
        if (record->role >= MON_IMAGE_EXECUTION_0 && !known)
            result = resume_execution(sandbox, record->mount);
    }
    return result < 0 ? error_set_errno(error, result, "cannot make the streams of a program again that bailey exec had started") : 0;
}

int mon_resume_handles(struct mon_sandbox *sandbox, const int standard[3], struct error *error)
{
    _Static_assert(MON_IMAGE_TERMINAL_OUTPUT - MON_IMAGE_STANDARD_0 == 4, "the order of mon_stdio_saved");
    const struct mon_image *image = sandbox->resume->image;
    struct mon_start_handles *handles = &sandbox->start_handles;
    struct mon_stdio_saved saved = {0};
    cleanup_free int *files = memory_new((image->handle_count + 1) * sizeof(*files));
    for (size_t i = 0; i < image->handle_count; i++)
        files[i] = -1;
    struct stat now;
    saved.input = -1;
    saved.has_input = fstat(standard[0], &now) == 0 && S_ISREG(now.st_mode);
    int result = place_all(sandbox, &saved, files, error);
    cleanup_close int input = saved.input;
    const int streams[3] = {input >= 0 ? input : standard[0], standard[1], standard[2]};
    for (size_t i = 0; i < image->handle_count; i++)
        cleanup_close_descriptor(&files[i]);
    if (result < 0)
        return result;
    result = resume_executions(sandbox, error);
    if (result < 0)
        return result;
    if (!mon_control_give_input(sandbox->control, image->input, image->input_size, image->input_ended)) {
        saved.unread = image->input;
        saved.unread_size = image->input_size;
        saved.ended = image->input_ended;
    }
    saved.modes = image->terminal_modes;
    mon_control_screen(sandbox->control)->modes = image->terminal_modes;
    result = mon_stdio_resume(&sandbox->stdio, &sandbox->loop, &sandbox->handles, streams, sandbox->policy->terminal, /*keep_masters=*/false, &saved);
    for (size_t i = 0; i <= img_reader_base_count(image->reader) && result == 0; i++)
        result = mon_handle_add(&sandbox->handles, -1, BLY_KIND_FILE, BLY_ACCESS_READ, MON_NO_MOUNT, &handles->images[i]);
    if (result == 0)
        result = mon_handle_add(&sandbox->handles, -1, BLY_KIND_FILE, BLY_ACCESS_READ, MON_NO_MOUNT, &handles->extents);
    if (sandbox->files.watch < 0)
        handles->watch = BLY_NO_HANDLE;
    sandbox->generation = image->sandbox.generation + 1;
    sandbox->clock_offset_ns = (int64_t)(image->sandbox.monotonic_ns - mon_now_ns());
    sandbox->boot_time_ns = image->sandbox.boot_time_ns;
    return result < 0 ? error_set_errno(error, result, "cannot prepare the standard streams") : 0;
}

/* ---- Memory ---- */

int mon_resume_copy(int from, uint64_t from_offset, int to, uint64_t to_offset, uint64_t size)
{
    if (lseek(to, (off_t)to_offset, SEEK_SET) < 0)
        return -errno;
    for (off_t offset = (off_t)from_offset; size;) {
        ssize_t count = sendfile(to, from, &offset, size < PIECE ? size : PIECE);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return count < 0 ? -errno : -EIO;
        size -= (uint64_t)count;
    }
    return 0;
}

/* Pages of `space`, whose first byte lies at `start`, into `descriptor`. */
static int copy_pages(const struct mon_image *image, const struct img_space *space, uint64_t start, int descriptor, struct error *error)
{
    for (size_t i = 0; i < space->extent_count; i++) {
        const struct img_extent *extent = &space->extents[i];
        int result = mon_resume_copy(img_reader_file(image->reader, img_place_file(extent->place)), img_place_offset(extent->place), descriptor,
                                extent->address - start, extent->count * BLY_PAGE_SIZE);
        if (result < 0)
            return error_set_errno(error, result, "cannot read the sandbox's memory from %s", image->name);
    }
    return 0;
}

int mon_resume_segment(const struct mon_sandbox *sandbox, uint32_t kind, uint64_t start, int segment, struct error *error)
{
    const struct mon_image *image = sandbox->resume->image;
    const struct img_space *space = img_reader_find_space(image->reader, kind, 0);
    return space ? copy_pages(image, space, start, segment, error) : 0;
}

static void put_space(struct text *out, const struct img_space *space, const bly_handle *files)
{
    struct bly_resume_space header = {.process = space->process, .extent_count = space->extent_count};
    text_add_size(out, &header, sizeof(header));
    for (size_t i = 0; i < space->extent_count; i++) {
        const struct img_extent *extent = &space->extents[i];
        struct bly_resume_extent line = {.address = extent->address,
                                         .offset = img_place_offset(extent->place),
                                         .size = extent->count * BLY_PAGE_SIZE,
                                         .image = files[img_place_file(extent->place)]};
        text_add_size(out, &line, sizeof(line));
    }
}

int mon_resume_extents(const struct mon_sandbox *sandbox, struct error *error)
{
    const struct img_reader *reader = sandbox->resume->image->reader;
    cleanup_text struct text list = {0};
    for (size_t i = 0; i < img_reader_space_count(reader); i++)
        if (img_reader_space(reader, i)->kind == IMG_SPACE_PRIVATE)
            put_space(&list, img_reader_space(reader, i), sandbox->start_handles.images);
    cleanup_close int memory = memfd_create("bailey-extents", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (memory < 0 || write_fully(memory, list.data, list.size) < 0 ||
        fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
        return error_set_errno(error, -errno, "cannot make the list of the sandbox's memory");
    return take_descriptor(&memory);
}
