/* The writer of images. Pages are written as they come; checksums, extents and records gather in
 * memory (4 bytes a page, 24 an extent) and follow when all pages are there; the header comes last,
 * so that what was cut short has no magic. */
#include "image/writer.h"

#include <bailey/abi.h>
#include <base/cleanup.h>
#include <base/text.h>
#include <errno.h>
#include <fcntl.h>
#include <image/base.h>
#include <image/checksum.h>
#include <image/frame.h>
#include <image/new-file.h>
#include <image/slots.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK_PAGES 256u
/* Bytes after which the disk is asked to begin, so that the sync at the end has little left to wait
 * for. */
#define WRITE_BACK_SIZE (32ull << 20)
/* Fewer pages that the base has, beside changed ones, are cheaper to write than to map. */
#define NAMED_MIN 8u

struct space {
    struct img_space_header header;
    struct img_extent *extents;
    size_t capacity;
    struct img_slots slots; /* in rounds */
    unsigned round;         /* the last one that it was begun in */
};

struct img_writer {
    struct img_new_file file;
    struct img_sink sink;    /* instead of the file, which has a name for messages only then */
    unsigned round;          /* 0: memory is written once */
    struct img_known *known; /* the base; NULL: none */
    uint64_t named;          /* pages that it has */
    struct space *space;     /* whose pages follow */
    uint64_t page_count, written_back; /* pages of which the disk was told */
    uint64_t repeated;                 /* pages that came again */
    uint32_t *checksums;               /* page_count of them */
    size_t checksum_capacity;
    struct space *spaces;
    size_t space_count;
    struct text records;           /* the caller's */
    img_writer_function *progress; /* NULL: nobody asks */
    void *progress_context;
};

int img_writer_open(const char *path, struct img_writer **out_writer, struct error *error)
{
    struct img_writer *writer = memory_new(sizeof(*writer));
    int result = img_new_file_open(&writer->file, path, error);
    if (result < 0)
        img_writer_abandon(writer);
    else
        *out_writer = writer;
    return result;
}

bool img_writer_takes_pages(const struct img_writer *writer)
{
    return !writer->sink.end || writer->sink.pages;
}

void img_writer_open_sink(const struct img_sink *sink, struct img_writer **out_writer)
{
    struct img_writer *writer = memory_new(sizeof(*writer));
    writer->file.path = text_copy(sink->name);
    writer->file.descriptor = -1;
    writer->sink = *sink;
    *out_writer = writer;
}

void img_writer_begin_round(struct img_writer *writer)
{
    writer->round++;
    writer->space = NULL;
    for (size_t i = 0; i < writer->space_count; i++)
        writer->spaces[i].header.extent_count = 0;
}

void img_writer_abandon(struct img_writer *writer)
{
    if (!writer)
        return;
    img_new_file_abandon(&writer->file);
    for (size_t i = 0; i < writer->space_count; i++) {
        free(writer->spaces[i].extents);
        img_slots_free(&writer->spaces[i].slots);
    }
    free(writer->spaces);
    free(writer->checksums);
    img_known_free(writer->known);
    text_free(&writer->records);
    free(writer);
}

void img_writer_on_progress(struct img_writer *writer, img_writer_function *progress, void *context)
{
    writer->progress = progress;
    writer->progress_context = context;
}

uint64_t img_writer_bytes(const struct img_writer *writer)
{
    return (writer->page_count + writer->repeated) * BLY_PAGE_SIZE;
}

uint64_t img_writer_named_bytes(const struct img_writer *writer)
{
    return writer->named * BLY_PAGE_SIZE;
}

int img_writer_set_base(struct img_writer *writer, const struct img_reader *base, const char *path,
                        struct error *error)
{
    if (writer->space || writer->sink.end || writer->known)
        return error_set(error, -EINVAL, "an image has one base, from its beginning on");
    return img_known_new(base, path, &writer->known, error);
}

unsigned img_writer_find_file(const struct img_writer *writer, const struct img_identity *identity)
{
    return writer->known ? img_known_file(writer->known, identity) : 0;
}

int img_writer_space(struct img_writer *writer, uint32_t kind, uint32_t process,
                     struct error *error)
{
    if (!img_space_allowed(kind, process))
        return error_set(error, -EINVAL, "there is no memory of kind %u with process %u", kind,
                         process);
    if (writer->known)
        img_known_space(writer->known, kind, process);
    for (size_t i = 0; i < writer->space_count; i++) {
        struct space *space = &writer->spaces[i];
        if (space->header.kind != kind || space->header.process != process)
            continue;
        if (space->round == writer->round)
            return error_set(error, -EEXIST,
                             "the memory of kind %u, process %u is in the image already", kind,
                             process);
        space->round = writer->round;
        writer->space = space;
        return 0;
    }
    writer->spaces =
        memory_resize(writer->spaces, (writer->space_count + 1) * sizeof(*writer->spaces));
    writer->space = &writer->spaces[writer->space_count++];
    *writer->space =
        (struct space){.header = {.kind = kind, .process = process}, .round = writer->round};
    return 0;
}

static bool is_zero(const unsigned char *page)
{
    for (size_t at = 0; at < BLY_PAGE_SIZE; at += 64) {
        uint64_t words[8];
        memcpy(words, page + at, sizeof(words));
        if (words[0] | words[1] | words[2] | words[3] | words[4] | words[5] | words[6] | words[7])
            return false;
    }
    return true;
}

static void add_extent(struct space *space, struct img_extent extent)
{
    uint64_t count = space->header.extent_count;
    if (count) {
        struct img_extent *last = &space->extents[count - 1];
        if (last->address + last->count * BLY_PAGE_SIZE == extent.address &&
            last->place + last->count == extent.place) {
            last->count += extent.count;
            return;
        }
    }
    if (count == space->capacity) {
        space->capacity = space->capacity ? space->capacity * 2 : 64;
        space->extents = memory_resize(space->extents, space->capacity * sizeof(*space->extents));
    }
    space->extents[space->header.extent_count++] = extent;
}

/* Room for the checksums of so many pages. */
static int reserve(struct img_writer *writer, uint64_t end, struct error *error)
{
    if (end > IMG_PAGES_MAX || (writer->round && end >= IMG_SLOT_MAX))
        return error_set(error, -EFBIG, "the image %s would have too many pages",
                         writer->file.path);
    if (end > writer->checksum_capacity) {
        uint64_t capacity = writer->checksum_capacity ? writer->checksum_capacity * 2 : 1024;
        writer->checksum_capacity = capacity > end ? capacity : end;
        writer->checksums = memory_resize(writer->checksums,
                                          writer->checksum_capacity * sizeof(*writer->checksums));
    }
    return 0;
}

/* Pages [page, page + count) of the image. */
static int store(struct img_writer *writer, uint64_t page, const unsigned char *data, size_t count,
                 struct error *error)
{
    uint64_t end = page + count;
    int result = reserve(writer, end, error);
    if (result < 0)
        return result;
    for (size_t i = 0; i < count; i++)
        writer->checksums[page + i] = img_checksum(0, data + i * BLY_PAGE_SIZE, BLY_PAGE_SIZE);
    result = writer->sink.pages ? writer->sink.pages(writer->sink.context, page, data,
                                                         writer->checksums + page, count, error)
                                    : img_new_file_write(&writer->file, data, count * BLY_PAGE_SIZE,
                                                         img_table_offset(page), error);
    if (end > writer->page_count)
        writer->page_count = end;
    else
        writer->repeated += count;
    return result;
}

/* In rounds: a page keeps its place. */
static int write_in_places(struct img_writer *writer, uint64_t address, const unsigned char *data,
                           size_t count, struct error *error)
{
    for (size_t done = 0, run; done < count; done += run) {
        uint64_t start = address + done * BLY_PAGE_SIZE;
        uint32_t *slot = img_slots_at(&writer->space->slots, start);
        bool has_place = *slot != IMG_SLOT_NONE && *slot != IMG_SLOT_ZERO;
        uint64_t page = has_place ? *slot - 1 : writer->page_count;
        for (run = 1; done + run < count; run++) {
            uint32_t next = *img_slots_at(&writer->space->slots, start + run * BLY_PAGE_SIZE);
            if (has_place ? next != page + run + 1 : next != IMG_SLOT_NONE && next != IMG_SLOT_ZERO)
                break;
        }
        int result = store(writer, page, data + done * BLY_PAGE_SIZE, run, error);
        if (result < 0)
            return result;
        for (size_t i = 0; i < run; i++)
            *img_slots_at(&writer->space->slots, start + i * BLY_PAGE_SIZE) =
                (uint32_t)(page + i + 1);
        add_extent(writer->space, (struct img_extent){start, page, run});
    }
    return 0;
}

static int tell_progress(struct img_writer *writer, struct error *error)
{
    uint64_t behind = (writer->page_count - writer->written_back) * BLY_PAGE_SIZE;
    if (writer->file.descriptor >= 0 && behind >= WRITE_BACK_SIZE) {
        /* a hint: where it fails, the sync at the end does it all */
        sync_file_range(writer->file.descriptor, (off_t)img_table_offset(writer->written_back),
                        (off_t)behind, SYNC_FILE_RANGE_WRITE);
        writer->written_back = writer->page_count;
    }
    uint64_t bytes = img_writer_bytes(writer) + img_writer_named_bytes(writer);
    return writer->progress ? writer->progress(writer->progress_context, bytes, error) : 0;
}

static int append(struct img_writer *writer, uint64_t address, const unsigned char *data,
                  size_t count, struct error *error)
{
    uint64_t page = writer->page_count;
    int result = count ? store(writer, page, data, count, error) : 0;
    if (result == 0 && count)
        add_extent(writer->space, (struct img_extent){address, page, count});
    return result;
}

/* Whether page `at` is one that the base does not have. */
static bool is_changed(const struct img_writer *writer, uint64_t address, const unsigned char *data,
                       const uint32_t *checksums, size_t at)
{
    size_t run;
    return img_known_find(writer->known, address + at * BLY_PAGE_SIZE, data + at * BLY_PAGE_SIZE,
                          checksums + at, 1, &run) == IMG_NO_PLACE;
}

/* Those that the base does not have. */
static int append_changed(struct img_writer *writer, uint64_t address, const unsigned char *data,
                          size_t count, struct error *error)
{
    cleanup_free uint32_t *checksums = memory_new(count * sizeof(*checksums));
    size_t changed = 0, run; /* from `changed` to where we are all are to be written */
    int result = 0;
    for (size_t i = 0; i < count; i++)
        checksums[i] = img_checksum(0, data + i * BLY_PAGE_SIZE, BLY_PAGE_SIZE);
    for (size_t at = 0; at < count && result == 0; at += run) {
        const uint64_t start = address + at * BLY_PAGE_SIZE;
        uint64_t place = img_known_find(writer->known, start, data + at * BLY_PAGE_SIZE,
                                        checksums + at, count - at, &run);
        if (place == IMG_NO_PLACE ||
            (run < NAMED_MIN &&
             (at > changed ||
              (at + run < count && is_changed(writer, address, data, checksums, at + run)))))
            continue;
        result = append(writer, address + changed * BLY_PAGE_SIZE, data + changed * BLY_PAGE_SIZE,
                        at - changed, error);
        add_extent(writer->space, (struct img_extent){start, place, run});
        writer->named += run;
        changed = at + run;
    }
    return result < 0 ? result
                      : append(writer, address + changed * BLY_PAGE_SIZE,
                               data + changed * BLY_PAGE_SIZE, count - changed, error);
}

/* Writes them all. */
static int write_run(struct img_writer *writer, uint64_t address, const unsigned char *data,
                     size_t count, struct error *error)
{
    int result = writer->round   ? write_in_places(writer, address, data, count, error)
                 : writer->known ? append_changed(writer, address, data, count, error)
                                 : append(writer, address, data, count, error);
    return result < 0 ? result : tell_progress(writer, error);
}

/* Pages of zeros that get no place: whatever they were before. */
static void leave_out(struct img_writer *writer, uint64_t address)
{
    if (writer->round)
        *img_slots_at(&writer->space->slots, address) = IMG_SLOT_ZERO;
}

size_t img_writer_keep(struct img_writer *writer, uint64_t address, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t place = address + i * BLY_PAGE_SIZE;
        uint32_t slot = *img_slots_at(&writer->space->slots, place);
        if (slot == IMG_SLOT_NONE)
            return i;
        if (slot != IMG_SLOT_ZERO)
            add_extent(writer->space, (struct img_extent){place, slot - 1, 1});
    }
    return count;
}

/* The end of the run that begins at page `at`, which is none of zeros: it ends with the pages or
 * before more than `zeros` pages of zeros in a row. */
static size_t run_end(const unsigned char *pages, size_t at, size_t count, size_t zeros)
{
    size_t end = at + 1;
    for (size_t next = end; next < count && next - end <= zeros; next++)
        if (!is_zero(pages + next * BLY_PAGE_SIZE))
            end = next + 1;
    return end;
}

/* Whether they may be the next of the space. */
static int check_place(const struct img_writer *writer, uint64_t address, uint64_t count,
                       struct error *error)
{
    const struct space *space = writer->space;
    if (!space)
        return error_set(error, -EINVAL, "pages without a space they belong to");
    const struct img_extent *last =
        space->header.extent_count ? &space->extents[space->header.extent_count - 1] : NULL;
    if (!img_extent_allowed(space->header.kind, address, count) ||
        (last && address < last->address + last->count * BLY_PAGE_SIZE))
        return error_set(error, -EINVAL,
                         "memory of kind %u, process %u cannot have %llu pages at %#llx",
                         space->header.kind, space->header.process, (unsigned long long)count,
                         (unsigned long long)address);
    return 0;
}

int img_writer_name(struct img_writer *writer, uint64_t address, uint64_t place, uint64_t count,
                    struct error *error)
{
    int result = check_place(writer, address, count, error);
    if (result < 0)
        return result;
    if (!writer->known || !img_known_has(writer->known, place, count))
        return error_set(error, -EINVAL, "the base does not have these pages");
    add_extent(writer->space, (struct img_extent){address, place, count});
    writer->named += count;
    return tell_progress(writer, error);
}

int img_writer_pages(struct img_writer *writer, uint64_t address, const void *data, size_t count,
                     size_t zeros, struct error *error)
{
    if (writer->space && (!count || !img_writer_takes_pages(writer)))
        return 0;
    int result = check_place(writer, address, count, error);
    if (result < 0)
        return result;
    const unsigned char *bytes = data;
    if (zeros == IMG_ALL_ZEROS)
        return write_run(writer, address, bytes, count, error);
    for (size_t at = 0; at < count;) {
        if (is_zero(bytes + at * BLY_PAGE_SIZE)) {
            leave_out(writer, address + at * BLY_PAGE_SIZE);
            at++;
            continue;
        }
        size_t end = run_end(bytes, at, count, zeros);
        result = write_run(writer, address + at * BLY_PAGE_SIZE, bytes + at * BLY_PAGE_SIZE,
                           end - at, error);
        if (result < 0)
            return result;
        at = end;
    }
    return 0;
}

int img_writer_later(struct img_writer *writer, uint64_t address, uint64_t count,
                     uint64_t *out_page, struct error *error)
{
    int result = check_place(writer, address, count, error);
    if (result < 0)
        return result;
    if (writer->page_count + count > IMG_LAZY_PAGES_MAX)
        return error_set(error, -EFBIG, "the sandbox has more memory than can come later");
    result = reserve(writer, writer->page_count + count, error);
    if (result < 0)
        return result;
    memset(writer->checksums + writer->page_count, 0, count * sizeof(*writer->checksums));
    *out_page = writer->page_count;
    add_extent(writer->space, (struct img_extent){address, writer->page_count, count});
    writer->page_count += count;
    return 0;
}

/* Up to `size` bytes; what is missing is zero. */
static int read_filled(int descriptor, unsigned char *buffer, size_t size, uint64_t offset)
{
    size_t done = 0;
    while (done < size) {
        ssize_t count = pread(descriptor, buffer + done, size - done, (off_t)(offset + done));
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return -errno;
        if (!count)
            break;
        done += (size_t)count;
    }
    memset(buffer + done, 0, size - done);
    return 0;
}

int img_writer_segment(struct img_writer *writer, uint64_t address, int descriptor,
                       struct error *error)
{
    return img_writer_segment_part(writer, address, descriptor, 0, UINT64_MAX, error);
}

int img_writer_segment_part(struct img_writer *writer, uint64_t address, int descriptor,
                            uint64_t from, uint64_t to, struct error *error)
{
    struct stat status;
    if (!img_writer_takes_pages(writer))
        return 0;
    if (fstat(descriptor, &status) < 0)
        return error_set_errno(error, -errno, "cannot read a segment of the sandbox");
    const uint64_t size = (uint64_t)status.st_size < to ? (uint64_t)status.st_size : to;
    cleanup_free unsigned char *buffer = memory_new(CHUNK_PAGES * BLY_PAGE_SIZE);
    for (uint64_t at = from; at < size;) {
        off_t data = lseek(descriptor, (off_t)at, SEEK_DATA);
        if ((data < 0 && errno == ENXIO) || data >= (off_t)size)
            break;
        off_t hole = data < 0 ? -1 : lseek(descriptor, data, SEEK_HOLE);
        if (hole < 0)
            return error_set_errno(error, -errno, "cannot read a segment of the sandbox");
        uint64_t end = (uint64_t)hole < size ? (uint64_t)hole : size;
        for (at = (uint64_t)data & ~(BLY_PAGE_SIZE - 1); at < end;) {
            uint64_t pages = (end - at + BLY_PAGE_SIZE - 1) / BLY_PAGE_SIZE;
            pages = pages < CHUNK_PAGES ? pages : CHUNK_PAGES;
            int result = read_filled(descriptor, buffer, pages * BLY_PAGE_SIZE, at);
            if (result < 0)
                return error_set_errno(error, result, "cannot read a segment of the sandbox");
            result = img_writer_pages(writer, address + at, buffer, pages, /*zeros=*/0, error);
            if (result < 0)
                return result;
            at += pages * BLY_PAGE_SIZE;
        }
    }
    return 0;
}

static void add_record(struct text *index, uint32_t type, uint32_t flags, const void *head,
                       size_t head_size, const void *data, size_t size)
{
    static const char zeros[8];
    struct img_record_header header = {.type = type, .flags = flags, .size = head_size + size};
    text_add_size(index, &header, sizeof(header));
    text_add_size(index, head, head_size);
    text_add_size(index, data, size);
    text_add_size(index, zeros, img_filled(header.size) - header.size);
}

int img_writer_record(struct img_writer *writer, uint32_t type, uint32_t flags, const void *data,
                      size_t size, struct error *error)
{
    if (type < IMG_RECORD_OWN_FIRST || flags & ~(uint32_t)IMG_RECORD_OPTIONAL)
        return error_set(error, -EINVAL, "there is no record of type %u with flags %#x", type,
                         flags);
    if (size > IMG_INDEX_MAX || writer->records.size > IMG_INDEX_MAX - size)
        return error_set(error, -EFBIG, "the index of the image %s would be too large",
                         writer->file.path);
    add_record(&writer->records, type, flags, NULL, 0, data, size);
    return 0;
}

static int by_kind_and_process(const void *left, const void *right)
{
    const struct img_space_header *a = &((const struct space *)left)->header,
                                  *b = &((const struct space *)right)->header;
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    return a->process < b->process ? -1 : a->process > b->process;
}

static void add_base_record(void *index, const void *data, size_t size)
{
    add_record(index, IMG_RECORD_BASE, 0, NULL, 0, data, size);
}

/* The records of the files that are used; places are by these records then. */
static void name_files(struct img_writer *writer, struct text *index)
{
    for (size_t pass = 0; writer->known && pass < 2; pass++) {
        for (size_t i = 0; i < writer->space_count; i++) {
            struct space *space = &writer->spaces[i];
            for (uint64_t j = 0; j < space->header.extent_count; j++) {
                uint64_t *place = &space->extents[j].place;
                if (pass == 0)
                    img_known_use(writer->known, *place);
                else
                    *place = img_known_place(writer->known, *place);
            }
        }
        if (pass == 0)
            img_known_records(writer->known, add_base_record, index);
    }
}

static int write_end(struct img_writer *writer, struct error *error)
{
    const uint64_t count = writer->page_count, index_offset = img_index_offset(count);
    cleanup_text struct text index = {0};
    name_files(writer, &index);
    if (writer->space_count)
        qsort(writer->spaces, writer->space_count, sizeof(*writer->spaces), by_kind_and_process);
    for (size_t i = 0; i < writer->space_count; i++) {
        const struct space *space = &writer->spaces[i];
        if (space->round != writer->round) /* a process that ended meanwhile */
            continue;
        uint64_t size = space->header.extent_count * sizeof(struct img_extent);
        if (size > IMG_INDEX_MAX || index.size > IMG_INDEX_MAX - size)
            return error_set(error, -EFBIG, "the index of the image %s would be too large",
                             writer->file.path);
        add_record(&index, IMG_RECORD_SPACE, 0, &space->header, sizeof(space->header),
                   space->extents, size);
    }
    text_add_size(&index, writer->records.data, writer->records.size);
    if (index.size > IMG_INDEX_MAX)
        return error_set(error, -EFBIG, "the index of the image %s would be too large",
                         writer->file.path);

    size_t table_size = img_filled(count * sizeof(uint32_t));
    cleanup_free uint32_t *table = memory_new(table_size + 1);
    if (count)
        memcpy(table, writer->checksums, count * sizeof(uint32_t));
    struct img_header header = {
        .magic = IMG_MAGIC,
        .version = IMG_VERSION,
        .page_size = BLY_PAGE_SIZE,
        .abi_version = BLY_ABI_VERSION,
        .index_checksum = img_checksum(0, index.data, index.size),
        .table_checksum = img_checksum(0, table, table_size),
        .page_count = count,
        .index_size = index.size,
        .file_size = index_offset + index.size,
    };
    if (getrandom(header.id, sizeof(header.id), 0) != sizeof(header.id))
        return error_set_errno(error, -errno, "cannot make an id for the image %s",
                               writer->file.path);
    header.checksum = img_checksum(0, &header, offsetof(struct img_header, checksum));
    if (writer->sink.end)
        return writer->sink.end(writer->sink.context, &header, index.data, index.size, error);
    int result =
        img_new_file_write(&writer->file, table, table_size, img_table_offset(count), error);
    if (!result)
        result = img_new_file_write(&writer->file, index.data, index.size, index_offset, error);
    if (!result)
        result = img_new_file_write(&writer->file, &header, sizeof(header), 0, error);
    return result;
}

int img_writer_finish(struct img_writer *writer, struct error *error)
{
    int result = write_end(writer, error);
    if (result == 0 && !writer->sink.end)
        result = img_new_file_finish(&writer->file, error);
    img_writer_abandon(writer);
    return result;
}
