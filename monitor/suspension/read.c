/* Reading the monitor's records of an image. image/reader.h has checked the file; here its records get their meaning, and every
 * field is checked once. */
#include "monitor/suspension/read.h"

#include "base/cleanup.h"
#include "image/flat.h"
#include "monitor/installed.h"
#include "monitor/policy/save.h"
#include "monitor/processor-features.h"
#include "monitor/sandbox.h"
#include "monitor/suspension/suspend.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HANDLE_INDEX 0xfffffu
#define MEMORY_MIN (1ull << 20)

static int refuse(const struct mon_image *image, const char *what, struct error *error)
{
    return error_set(error, -EPROTO, "the image %s cannot be used: %s", image->name, what);
}

/* ---- The sandbox ---- */

static bool segment_fits(const struct mon_image *image, uint32_t kind, uint64_t start, uint64_t size, uint64_t most)
{
    const struct img_space *space = img_reader_find_space(image->reader, kind, 0);
    if (size < MEMORY_MIN || size > most || size % BLY_PAGE_SIZE)
        return false;
    if (!space || space->extent_count == 0)
        return kind != IMG_SPACE_HEAP || image->is_offer;
    const struct img_extent *last = &space->extents[space->extent_count - 1];
    return last->address + last->count * BLY_PAGE_SIZE - start <= size;
}

static int read_sandbox(struct mon_image *image, const struct img_record *record, struct error *error)
{
    struct mon_image_sandbox *sandbox = &image->sandbox;
    if (record->size != sizeof(*sandbox))
        return refuse(image, "its record of the sandbox is of another version of Bailey", error);
    memcpy(sandbox, record->data, sizeof(*sandbox));
    if (sandbox->build_id_size == 0 || sandbox->build_id_size > MON_BUILD_ID_MAX)
        return refuse(image, "it does not tell which Bailey made it", error);
    if (sandbox->monotonic_ns > INT64_MAX || sandbox->boot_time_ns > sandbox->monotonic_ns || sandbox->generation == UINT32_MAX)
        return refuse(image, "its clocks are wrong", error);
    if (!segment_fits(image, IMG_SPACE_HEAP, BLY_HEAP_START, sandbox->heap_size, BLY_HEAP_SIZE) ||
        !segment_fits(image, IMG_SPACE_BULK, BLY_BULK_START, sandbox->bulk_size, BLY_BULK_SIZE))
        return refuse(image, "its shared memory is not of the size it tells", error);
    return 0;
}

/* ---- Handles ---- */

static bool is_sound(const struct mon_image *image, const struct mon_image_handle *record)
{
    bool is_stream = record->role == MON_IMAGE_STREAM;
    uint32_t contents = record->flags & MON_IMAGE_CONTENTS;
    /* The folder of --layer is a grant too, beside those of the policy, and the last. */
    size_t mount_count = image->policy.mount_count + (image->policy.layer_path != NULL);
    if (record->role > MON_IMAGE_EXECUTION_LAST || (record->role >= MON_IMAGE_EXECUTION_0 && !record->mount) || record->access & ~(uint32_t)(BLY_ACCESS_READ | BLY_ACCESS_WRITE) ||
        record->kind > UINT8_MAX || record->flags & ~(MON_IMAGE_CONTENTS | MON_IMAGE_DIRECTORY))
        return false;
    bool is_input = mon_image_is_input_file(record);
    if (!is_stream && !is_input)
        return record->path_size == 0 && record->flags == 0;
    if (is_input && (record->flags || record->access != BLY_ACCESS_READ))
        return false;
    if (record->mount >= mount_count || (record->kind == BLY_KIND_DIRECTORY) != !!(record->flags & MON_IMAGE_DIRECTORY) ||
        record->position > INT64_MAX || record->size > INT64_MAX)
        return false;
    if (contents == MON_IMAGE_CONTENTS || (contents && record->kind != BLY_KIND_FILE))
        return false;
    return contents != MON_IMAGE_DELETED || record->path_size == 0;
}

static int take_handle(struct mon_image *image, const unsigned char **data, size_t *size, struct mon_image_entry *out_entry)
{
    struct mon_image_handle *record = &out_entry->record;
    if (*size < sizeof(*record))
        return -EPROTO;
    memcpy(record, *data, sizeof(*record));
    uint64_t whole = sizeof(*record) + img_filled(record->path_size);
    if (whole > *size || record->path_size >= BLY_PATH_MAX || memchr(*data + sizeof(*record), '\0', record->path_size) || !is_sound(image, record))
        return -EPROTO;
    out_entry->path = text_copy_size((const char *)*data + sizeof(*record), record->path_size);
    *data += whole;
    *size -= whole;
    return 0;
}

/* By index, as the table is filled; what a picoprocess is born with is there, and once. */
static int check_handles(const struct mon_image *image, struct error *error)
{
    uint32_t counts[MON_IMAGE_EXECUTION_LAST + 1] = {0};
    bly_handle wake = BLY_NO_HANDLE;
    for (size_t i = 0; i < image->handle_count; i++) {
        const struct mon_image_handle *record = &image->handles[i].record;
        if (i > 0 && (record->handle & HANDLE_INDEX) <= (image->handles[i - 1].record.handle & HANDLE_INDEX))
            return refuse(image, "its handles are not in order", error);
        if (record->role == MON_IMAGE_WAKE && counts[MON_IMAGE_WAKE] == 0)
            wake = record->handle;
        if (record->role == MON_IMAGE_WAKE && record->handle != wake + counts[MON_IMAGE_WAKE])
            return refuse(image, "its wake handles do not follow each other", error);
        counts[record->role]++;
    }
    for (uint32_t role = MON_IMAGE_STREAM + 1; role <= MON_IMAGE_TERMINAL_OUTPUT; role++) {
        uint32_t most = role == MON_IMAGE_WAKE ? BLY_WAKE_POOL_COUNT : 1;
        bool must = role == MON_IMAGE_WAKE || role == MON_IMAGE_HEAP || role == MON_IMAGE_BULK || role == MON_IMAGE_CONTROL;
        if (counts[role] > most || (must && counts[role] < most))
            return refuse(image, "what a process starts with is not among its handles", error);
    }
    return 0;
}

/* Entries of one file follow each other, by handle. */
static int by_file(const void *left, const void *right)
{
    const struct mon_image_entry *a = *(struct mon_image_entry *const *)left, *b = *(struct mon_image_entry *const *)right;
    if (a->record.device != b->record.device)
        return a->record.device < b->record.device ? -1 : 1;
    if (a->record.inode != b->record.inode)
        return a->record.inode < b->record.inode ? -1 : 1;
    return a < b ? -1 : a > b;
}

static void find_files(struct mon_image *image)
{
    cleanup_free struct mon_image_entry **order = memory_new((image->handle_count + 1) * sizeof(*order));
    size_t count = 0;
    for (size_t i = 0; i < image->handle_count; i++)
        if (image->handles[i].record.role == MON_IMAGE_STREAM)
            order[count++] = &image->handles[i];
    qsort(order, count, sizeof(*order), by_file);
    for (size_t i = 0, end; i < count; i = end) {
        const struct mon_image_entry *contents = NULL;
        bool is_written = false;
        for (end = i; end < count && order[end]->record.device == order[i]->record.device && order[end]->record.inode == order[i]->record.inode; end++) {
            is_written |= (order[end]->record.access & BLY_ACCESS_WRITE) != 0;
            contents = contents || !(order[end]->record.flags & MON_IMAGE_CONTENTS) ? contents : order[end];
        }
        for (size_t j = i; j < end; j++) {
            order[j]->contents = contents ? (size_t)(contents - image->handles) : 0;
            order[j]->is_written = is_written;
        }
    }
}

static int read_handles(struct mon_image *image, const struct img_record *record, struct error *error)
{
    const unsigned char *data = record->data;
    size_t size = record->size, capacity = size / sizeof(struct mon_image_handle);
    image->handles = memory_new((capacity + 1) * sizeof(*image->handles));
    while (size) {
        if (take_handle(image, &data, &size, &image->handles[image->handle_count]) < 0)
            return refuse(image, "its record of open files is damaged", error);
        image->handle_count++;
    }
    find_files(image);
    return check_handles(image, error);
}

/* Each belongs to an entry, and both are in order. */
static int read_sums(struct mon_image *image, const struct img_record *record, struct error *error)
{
    const struct mon_image_sum *sums = record->data;
    size_t count = record->size / sizeof(*sums), at = 0;
    for (size_t i = 0; i < image->handle_count && at < count; i++) {
        if (image->handles[i].record.handle != sums[at].handle)
            continue;
        if (image->handles[i].record.role != MON_IMAGE_STREAM || image->handles[i].record.kind != BLY_KIND_FILE)
            break;
        image->handles[i].sum = sums[at++].sum;
    }
    return at == count && record->size % sizeof(*sums) == 0 ? 0 : refuse(image, "its record of sums is damaged", error);
}

/* ---- All ---- */

static const struct img_record *find_record(const struct mon_image *image, uint32_t type)
{
    for (size_t i = 0; i < img_reader_record_count(image->reader); i++)
        if (img_reader_record(image->reader, i)->type == type)
            return img_reader_record(image->reader, i);
    return NULL;
}

static int read_input(struct mon_image *image, const struct img_record *record, struct error *error)
{
    struct mon_image_input head;
    if (record->size < sizeof(head) || record->size - sizeof(head) > MON_IMAGE_INPUT_MAX)
        return refuse(image, "its record of input is damaged", error);
    memcpy(&head, record->data, sizeof(head));
    image->input = (const unsigned char *)record->data + sizeof(head);
    image->input_size = record->size - sizeof(head);
    image->input_ended = head.ended;
    image->terminal_modes = head.modes;
    return 0;
}

static int read_records(struct mon_image *image, struct error *error)
{
    for (size_t i = 0; i < img_reader_record_count(image->reader); i++) {
        const struct img_record *record = img_reader_record(image->reader, i);
        bool known = record->type >= MON_IMAGE_SANDBOX && record->type <= MON_IMAGE_SUMS && (record->type != MON_IMAGE_SIZE || image->is_offer);
        if (known && find_record(image, record->type) != record)
            return refuse(image, "it has a record twice", error);
        if (!known && !(record->flags & IMG_RECORD_OPTIONAL))
            return refuse(image, "it holds what this version of Bailey does not know", error);
    }
    const struct img_record *sandbox = find_record(image, MON_IMAGE_SANDBOX), *policy = find_record(image, MON_IMAGE_POLICY),
                            *handles = find_record(image, MON_IMAGE_HANDLES), *input = find_record(image, MON_IMAGE_INPUT),
                            *size = find_record(image, MON_IMAGE_SIZE), *sums = find_record(image, MON_IMAGE_SUMS);
    if (!sandbox || !policy || !handles || (image->is_offer && (!size || size->size != sizeof(image->size))))
        return refuse(image, "it is not the image of a sandbox", error);
    if (image->is_offer)
        memcpy(&image->size, size->data, sizeof(image->size));
    int result = read_sandbox(image, sandbox, error);
    if (result == 0)
        result = mon_policy_load(&image->policy, policy->data, policy->size, error);
    if (result == 0 && input)
        result = read_input(image, input, error);
    if (result == 0)
        result = read_handles(image, handles, error);
    return result < 0 || !sums ? result : read_sums(image, sums, error);
}

int mon_image_open(struct mon_image *image, int descriptor, const char *name, bool own, struct error *error)
{
    *image = (struct mon_image){.name = text_copy(name), .descriptor = descriptor, .is_offer = image->is_offer};
    int result = own ? img_reader_open(descriptor, name, &image->reader, error) : img_reader_open_confined(descriptor, name, &image->reader, error);
    return result < 0 ? result : read_records(image, error);
}

void mon_image_close(struct mon_image *image)
{
    for (size_t i = 0; i < image->handle_count; i++)
        free(image->handles[i].path);
    free(image->handles);
    mon_policy_free(&image->policy);
    img_reader_close(image->reader);
    cleanup_close_descriptor(&image->descriptor);
    free(image->name);
    *image = (struct mon_image){.descriptor = -1};
}

/* ---- Whether it fits ---- */

static void add_id(struct text *out, const unsigned char *id, size_t size)
{
    for (size_t i = 0; i < size && i < 6; i++)
        text_format(out, "%02x", id[i]);
}

/* The kernel heap holds addresses of the picoprocess image's code and data. */
static int check_build(const struct mon_image *image, struct error *error)
{
    unsigned char id[MON_BUILD_ID_MAX];
    cleanup_close int installed = mon_open_installed("bailey-linux", NULL, error);
    int size = installed < 0 ? installed : mon_build_id(installed, id);
    if (installed >= 0 && size < 0)
        return error_set_errno(error, size, "cannot read the build id of bailey-linux");
    if (size < 0 || ((uint32_t)size == image->sandbox.build_id_size && memcmp(id, image->sandbox.build_id, (size_t)size) == 0))
        return size < 0 ? size : 0;
    cleanup_text struct text was = {0}, is = {0};
    add_id(&was, image->sandbox.build_id, image->sandbox.build_id_size);
    add_id(&is, id, (size_t)size);
    error_set(error, -ENOEXEC, "the image %s was made by another build of Bailey (%s..., and this is %s...)", image->name, was.data, is.data);
    return error_hint(error, "only the build that suspended a sandbox can resume it");
}

static int check_processor(const struct mon_image *image, struct error *error)
{
    struct mon_features needed = {.vector = image->sandbox.vector_features}, present;
    char names[512];
    memcpy(needed.words, image->sandbox.processor_features, sizeof(needed.words));
    mon_processor_features(&present);
    size_t count = mon_processor_missing(&needed, &present, names, sizeof(names));
    if (count == 0 && !image->policy.migratable)
        return 0;
    if (count == 0)
        return mon_policy_check_processor(&image->policy, &present, mon_processor_can_fault(), error);
    error_set(error, -ENOEXEC, "this processor lacks what the sandbox in %s could see and may use: %s", image->name, names);
    return error_hint(error, "--force resumes it all the same; a program that uses it then dies of SIGILL");
}

int mon_image_fits(const struct mon_image *image, bool force, struct error *error)
{
    struct error reason = {0};
    int result = check_build(image, error);
    int processor = force ? 0 : check_processor(image, &reason);
    if (processor < 0)
        error_add(error, &reason);
    return result < 0 ? result : processor;
}
