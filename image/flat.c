/* The flat form: a struct flat, then its spaces, extents, records (headers only; bases are the
 * first of them) and the records' payloads, each filled up to 8 bytes. All places follow from the
 * counts. The process that made it may have been taken over by the image it read: then the form
 * holds what that image might as well have said, or is refused here. */
#include "image/flat.h"

#include "image/confined.h"
#include "image/reader-internal.h"

#include <base/cleanup.h>
#include <base/path.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define FLAT_MAX (IMG_INDEX_MAX + (64ull << 20))

struct flat {
    struct img_header header;
    uint64_t space_count, extent_count, record_count, payload_size;
};

/* ---- Writing ---- */

/* Bases first. NULL: there are no more. */
static bool next_record(const struct img_reader *reader, size_t number, struct text *base,
                        struct img_record *out_record)
{
    if (number < reader->base_count) {
        const struct img_base *from = &reader->bases[number];
        base->size = 0;
        text_add_size(base, &from->identity, sizeof(from->identity));
        const char *found = img_reader_file_name(reader, (unsigned)number + 1);
        text_add(base, found ? found : from->path);
        *out_record = (struct img_record){IMG_RECORD_BASE, 0, base->data, base->size};
        return true;
    }
    number -= reader->base_count;
    if (number >= reader->record_count)
        return false;
    *out_record = reader->records[number];
    return true;
}

static struct flat count_all(const struct img_reader *reader)
{
    cleanup_text struct text base = {0};
    struct img_record record;
    struct flat flat = {.header = reader->files[0].header, .space_count = reader->space_count};
    for (size_t i = 0; i < reader->space_count; i++)
        flat.extent_count += reader->spaces[i].extent_count;
    for (; next_record(reader, flat.record_count, &base, &record); flat.record_count++)
        flat.payload_size += img_filled(record.size);
    return flat;
}

void img_flat_write(const struct img_reader *reader, struct text *out)
{
    static const char zeros[8];
    cleanup_text struct text base = {0};
    struct img_record record;
    struct flat flat = count_all(reader);
    text_add_size(out, &flat, sizeof(flat));
    for (size_t i = 0; i < reader->space_count; i++) {
        const struct img_space *space = &reader->spaces[i];
        struct img_space_header header = {space->kind, space->process, space->extent_count};
        text_add_size(out, &header, sizeof(header));
    }
    for (size_t i = 0; i < reader->space_count; i++)
        text_add_size(out, reader->spaces[i].extents,
                      reader->spaces[i].extent_count * sizeof(struct img_extent));
    for (size_t i = 0; next_record(reader, i, &base, &record); i++) {
        struct img_record_header header = {record.type, record.flags, record.size};
        text_add_size(out, &header, sizeof(header));
    }
    for (size_t i = 0; next_record(reader, i, &base, &record); i++) {
        text_add_size(out, record.data, record.size);
        text_add_size(out, zeros, img_filled(record.size) - record.size);
    }
}

/* ---- Reading ---- */

static bool header_is_sound(const struct img_header *header)
{
    return header->page_count <= IMG_PAGES_MAX && header->index_size <= IMG_INDEX_MAX &&
           header->file_size == img_index_offset(header->page_count) + header->index_size;
}

static bool sizes_are_sound(const struct flat *flat, size_t size)
{
    if (flat->space_count > FLAT_MAX || flat->extent_count > FLAT_MAX ||
        flat->record_count > FLAT_MAX || flat->payload_size > FLAT_MAX)
        return false;
    return size == sizeof(*flat) + flat->space_count * sizeof(struct img_space_header) +
                       flat->extent_count * sizeof(struct img_extent) +
                       flat->record_count * sizeof(struct img_record_header) + flat->payload_size;
}

static bool take_extents(const struct img_reader *reader, struct img_space *space)
{
    uint64_t free_from = 0;
    for (size_t i = 0; i < space->extent_count; i++) {
        const struct img_extent *extent = &space->extents[i];
        if (!img_extent_allowed(space->kind, extent->address, extent->count) ||
            extent->address < free_from || !img_reader_has_pages(reader, extent))
            return false;
        free_from = extent->address + extent->count * BLY_PAGE_SIZE;
        space->page_count += extent->count;
    }
    return true;
}

static bool take_spaces(struct img_reader *reader, const struct flat *flat)
{
    const struct img_space_header *headers = (const void *)(flat + 1);
    const struct img_extent *extents = (const void *)(headers + flat->space_count);
    uint64_t left = flat->extent_count;
    reader->spaces = memory_new((flat->space_count + 1) * sizeof(*reader->spaces));
    for (uint64_t i = 0; i < flat->space_count; i++) {
        const struct img_space_header *header = &headers[i];
        bool in_order =
            i == 0 || headers[i - 1].kind < header->kind ||
            (headers[i - 1].kind == header->kind && headers[i - 1].process < header->process);
        if (!in_order || !img_space_allowed(header->kind, header->process) ||
            header->extent_count > left)
            return false;
        struct img_space space = {.kind = header->kind,
                                  .process = header->process,
                                  .extents = extents,
                                  .extent_count = header->extent_count};
        if (!take_extents(reader, &space))
            return false;
        reader->spaces[reader->space_count++] = space;
        extents += header->extent_count;
        left -= header->extent_count;
    }
    return left == 0;
}

static bool take_records(struct img_reader *reader, const struct flat *flat)
{
    const struct img_record_header *headers =
        (const void *)((const char *)(flat + 1) +
                       flat->space_count * sizeof(struct img_space_header) +
                       flat->extent_count * sizeof(struct img_extent));
    const char *payload = (const char *)(headers + flat->record_count);
    uint64_t left = flat->payload_size;
    reader->records = memory_new((flat->record_count + 1) * sizeof(*reader->records));
    for (uint64_t i = 0; i < flat->record_count; i++) {
        const struct img_record_header *header = &headers[i];
        if (header->size > left || img_filled(header->size) > left ||
            header->flags & ~(uint32_t)IMG_RECORD_OPTIONAL)
            return false;
        if (header->type >= IMG_RECORD_OWN_FIRST)
            reader->records[reader->record_count++] =
                (struct img_record){header->type, header->flags, payload, header->size};
        else if (header->type != IMG_RECORD_BASE || reader->record_count ||
                 !img_reader_add_base(reader, payload, header->size))
            return false;
        payload += img_filled(header->size);
        left -= img_filled(header->size);
    }
    return left == 0;
}

int img_flat_read(void *data, size_t size, int descriptor, const char *name,
                  struct img_reader **out_reader, struct error *error)
{
    struct img_reader *reader = img_reader_new(descriptor, name);
    const struct flat *flat = data;
    reader->index = data;
    bool sound =
        size >= sizeof(*flat) && header_is_sound(&flat->header) && sizes_are_sound(flat, size);
    if (sound) {
        reader->files[0].header = flat->header;
        sound = take_records(reader, flat) && take_spaces(reader, flat); /* which need the bases */
    }
    if (!sound) {
        img_reader_close(reader);
        return error_set(error, -EPROTO,
                         "the process that read the image %s told nonsense about it", name);
    }
    *out_reader = reader;
    return 0;
}

/* ---- The process ---- */

/* Ends with 0 and the flat form in `memory`; else a struct error is there. */
static _Noreturn void read_for_parent(int descriptor, const char *name, int memory)
{
    struct error error = {0};
    struct img_reader *reader = NULL;
    const int keep[] = {descriptor, memory};
    cleanup_text struct text flat = {0};
    int result = img_confine(keep, 2, &error);
    if (result == 0)
        result = img_reader_open(descriptor, name, &reader, &error);
    if (result == 0)
        img_flat_write(reader, &flat);
    else
        text_add_size(&flat, &error, sizeof(error));
    bool written = write_fully(memory, flat.data, flat.size) == 0;
    _exit(!written ? 2 : result < 0 ? 1 : 0);
}

static int take_all(int memory, void **out_data, size_t *out_size)
{
    struct stat status;
    if (fstat(memory, &status) < 0 || status.st_size <= 0 || (uint64_t)status.st_size > FLAT_MAX)
        return -EPROTO;
    size_t size = (size_t)status.st_size;
    cleanup_free char *data = malloc(size);
    for (size_t done = 0; data && done < size;) {
        ssize_t count = pread(memory, data + done, size - done, (off_t)done);
        if (count <= 0)
            return -EPROTO;
        done += (size_t)count;
    }
    if (!data)
        return -ENOMEM;
    *out_data = take_pointer(data);
    *out_size = size;
    return 0;
}

int img_flat_open(int memory, int descriptor, const char *name, struct img_reader **out_reader,
                  struct error *error)
{
    void *data;
    size_t size;
    if (take_all(memory, &data, &size) < 0)
        return error_set(error, -EPROTO, "cannot take what is told of the image %s", name);
    return img_flat_read(data, size, descriptor, name, out_reader, error);
}

static int take_error(void *data, size_t size, const char *name, struct error *error)
{
    const struct error *told = data;
    bool sound = size == sizeof(*told) && told->code < 0 &&
                 memchr(told->message, '\0', sizeof(told->message));
    int code = sound ? told->code : -EPROTO;
    if (sound) {
        cleanup_free char *message = text_copy(told->message);
        text_make_printable(message, strlen(message));
        error_set(error, code, "%s", message);
    } else {
        error_set(error, code, "the image %s cannot be read", name);
    }
    free(data);
    return code;
}

int img_reader_open_confined(int descriptor, const char *name, struct img_reader **out_reader,
                             struct error *error)
{
    cleanup_close int memory = memfd_create("bailey-image", MFD_CLOEXEC);
    if (memory < 0)
        return error_set_errno(error, -errno, "cannot make memory to read the image %s", name);
    pid_t child = fork();
    if (child < 0)
        return error_set_errno(error, -errno, "cannot start a process to read the image %s", name);
    if (child == 0)
        read_for_parent(descriptor, name, memory);
    int status;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    void *data;
    size_t size;
    if (!WIFEXITED(status) || WEXITSTATUS(status) > 1 || take_all(memory, &data, &size) < 0)
        return error_set(error, -EPROTO, "the process that read the image %s died of it", name);
    if (WEXITSTATUS(status) == 1)
        return take_error(data, size, name, error);
    return img_flat_read(data, size, descriptor, name, out_reader, error);
}
