/* The reader of images. Every number of the file is bounded before it is used; the index is copied
 * into memory of our own before it is looked at, so that a file that changes meanwhile changes
 * nothing that was checked. */
#include "image/reader.h"
#include "image/reader-internal.h"

#include <bailey/abi.h>
#include <base/cleanup.h>
#include <base/text.h>
#include <errno.h>
#include <image/checksum.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CHUNK_PAGES 256u

/* -EPROTO when the file ends before. */
static int read_all(const struct img_file *file, void *buffer, size_t size, uint64_t offset,
                    struct error *error)
{
    for (size_t done = 0; done < size;) {
        ssize_t count =
            pread(file->descriptor, (char *)buffer + done, size - done, (off_t)(offset + done));
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return error_set_errno(error, -errno, "cannot read the image %s", file->name);
        if (!count)
            return error_set(error, -EPROTO, "the image %s is cut short at byte %llu", file->name,
                             (unsigned long long)(offset + done));
        done += (size_t)count;
    }
    return 0;
}

static int refuse_header(const struct img_file *file, const char *what, struct error *error)
{
    return error_set(error, -EPROTO, "the header of the image %s is damaged: %s", file->name, what);
}

static int read_header(struct img_file *file, struct error *error)
{
    struct img_header *header = &file->header;
    struct stat status;
    /* glibc's fstat is a call that takes a path, which a confined process has not (confined.c). */
    if (syscall(SYS_fstat, file->descriptor, &status) < 0)
        return error_set_errno(error, -errno, "cannot read the image %s", file->name);
    if (!S_ISREG(status.st_mode) || status.st_size < (off_t)sizeof(*header))
        return error_set(error, -EPROTO,
                         "%s is not an image of a sandbox: it is no file of at least %zu bytes",
                         file->name, sizeof(*header));
    int result = read_all(file, header, sizeof(*header), 0, error);
    if (result < 0)
        return result;
    if (memcmp(header->magic, IMG_MAGIC, sizeof(header->magic)) != 0)
        return error_set(
            error, -EPROTO,
            "%s is not a complete image of a sandbox: it does not begin with " IMG_MAGIC,
            file->name);
    /* A later version may have changed everything but the magic and this number. */
    if (header->version == IMG_VERSION_PACKED) {
        error_set(error, -EPROTO, "the image %s is compressed, and cannot be used as it is",
                  file->name);
        return error_hint(error, "bailey image pack %s -o NEW makes one that can", file->name);
    }
    if (header->version != IMG_VERSION)
        return error_set(error, -EPROTO,
                         "the image %s is of version %u, this program reads version %u", file->name,
                         header->version, IMG_VERSION);
    if (header->checksum != img_checksum(0, header, offsetof(struct img_header, checksum)))
        return refuse_header(file, "its checksum does not fit", error);
    if (header->page_size != BLY_PAGE_SIZE)
        return refuse_header(file, "its page size is none of this machine's", error);
    if (header->page_count > IMG_PAGES_MAX || header->index_size > IMG_INDEX_MAX ||
        header->index_size % 8)
        return refuse_header(file, "its sizes cannot be", error);
    if (header->file_size != img_index_offset(header->page_count) + header->index_size)
        return refuse_header(file, "its sizes contradict each other", error);
    if ((uint64_t)status.st_size != header->file_size)
        return error_set(error, -EPROTO, "the image %s is %s: it has %llu bytes of %llu",
                         file->name,
                         (uint64_t)status.st_size < header->file_size ? "cut short" : "too long",
                         (unsigned long long)status.st_size, (unsigned long long)header->file_size);
    return 0;
}

static int refuse_index(const struct img_reader *reader, size_t at, const char *what,
                        struct error *error)
{
    const struct img_file *file = &reader->files[0];
    return error_set(error, -EPROTO, "the image %s is damaged at byte %llu: %s", file->name,
                     (unsigned long long)(img_index_offset(file->header.page_count) + at), what);
}

bool img_reader_has_pages(const struct img_reader *reader, const struct img_extent *extent)
{
    unsigned file = img_place_file(extent->place);
    if (file > reader->base_count)
        return false;
    uint64_t count =
        file ? reader->bases[file - 1].identity.page_count : reader->files[0].header.page_count;
    return extent->count <= count && img_place_page(extent->place) <= count - extent->count;
}

bool img_reader_add_base(struct img_reader *reader, const void *data, size_t size)
{
    struct img_identity identity;
    if (size <= sizeof(identity) || size - sizeof(identity) >= IMG_PATH_MAX ||
        reader->base_count == IMG_BASES_MAX)
        return false;
    memcpy(&identity, data, sizeof(identity));
    const char *path = (const char *)data + sizeof(identity);
    size_t length = size - sizeof(identity);
    if (identity.reserved || identity.page_count > IMG_PAGES_MAX || *path != '/' ||
        path[length - 1] == '/' || memchr(path, '\0', length))
        return false;
    for (size_t i = 0; i < reader->base_count; i++)
        if (memcmp(&reader->bases[i].identity, &identity, sizeof(identity)) == 0)
            return false;
    reader->bases[reader->base_count++] =
        (struct img_base){.identity = identity, .path = text_copy_size(path, length)};
    return true;
}

/* Order of spaces: by kind, then process. */
static bool is_before(const struct img_space *space, const struct img_space_header *header)
{
    return space->kind != header->kind ? space->kind < header->kind
                                       : space->process < header->process;
}

static int add_space(struct img_reader *reader, size_t at, size_t size, struct error *error)
{
    struct img_space_header header;
    if (size < sizeof(header))
        return refuse_index(reader, at, "a space is too short", error);
    memcpy(&header, reader->index + at, sizeof(header));
    if (header.extent_count != (size - sizeof(header)) / sizeof(struct img_extent) ||
        (size - sizeof(header)) % sizeof(struct img_extent))
        return refuse_index(reader, at, "a space has not the number of extents it tells", error);
    if (!img_space_allowed(header.kind, header.process))
        return refuse_index(reader, at, "a space of no known kind", error);
    if (reader->space_count && !is_before(&reader->spaces[reader->space_count - 1], &header))
        return refuse_index(reader, at, "spaces are not in their order", error);
    struct img_space space = {.kind = header.kind,
                              .process = header.process,
                              .extents =
                                  (const struct img_extent *)(reader->index + at + sizeof(header)),
                              .extent_count = header.extent_count};
    uint64_t free_from = 0;
    for (size_t i = 0; i < space.extent_count; i++) {
        const struct img_extent *extent = &space.extents[i];
        size_t place = at + sizeof(header) + i * sizeof(*extent);
        if (!img_extent_allowed(space.kind, extent->address, extent->count))
            return refuse_index(reader, place, "an extent lies where such memory cannot be", error);
        if (extent->address < free_from)
            return refuse_index(reader, place, "extents overlap or are not in their order", error);
        if (!img_reader_has_pages(reader, extent))
            return refuse_index(reader, place, "an extent's pages are not in the image", error);
        free_from = extent->address + extent->count * BLY_PAGE_SIZE;
        space.page_count += extent->count;
    }
    if (reader->space_count == reader->space_capacity) {
        reader->space_capacity = reader->space_capacity ? reader->space_capacity * 2 : 16;
        reader->spaces =
            memory_resize(reader->spaces, reader->space_capacity * sizeof(*reader->spaces));
    }
    reader->spaces[reader->space_count++] = space;
    return 0;
}

static void add_record(struct img_reader *reader, const struct img_record *record)
{
    if (reader->record_count == reader->record_capacity) {
        reader->record_capacity = reader->record_capacity ? reader->record_capacity * 2 : 64;
        reader->records =
            memory_resize(reader->records, reader->record_capacity * sizeof(*reader->records));
    }
    reader->records[reader->record_count++] = *record;
}

static int read_index(struct img_reader *reader, struct error *error)
{
    const struct img_file *file = &reader->files[0];
    const size_t size = file->header.index_size;
    reader->index = memory_new(size);
    int result =
        read_all(file, reader->index, size, img_index_offset(file->header.page_count), error);
    if (result < 0)
        return result;
    if (img_checksum(0, reader->index, size) != file->header.index_checksum)
        return refuse_index(reader, 0, "the index's checksum does not fit", error);
    for (size_t at = 0; at < size;) {
        struct img_record_header header;
        if (size - at < sizeof(header))
            return refuse_index(reader, at, "a record is cut short", error);
        memcpy(&header, reader->index + at, sizeof(header));
        size_t payload = at + sizeof(header);
        if (header.size > size - payload)
            return refuse_index(reader, at, "a record is longer than the index", error);
        if (header.flags & ~(uint32_t)IMG_RECORD_OPTIONAL)
            return refuse_index(reader, at, "a record has flags of a later version", error);
        if (header.type == IMG_RECORD_BASE) {
            if (reader->record_count || reader->space_count ||
                !img_reader_add_base(reader, reader->index + payload, header.size))
                return refuse_index(reader, payload, "a base that cannot be", error);
        } else if (header.type == IMG_RECORD_SPACE) {
            if (reader->record_count)
                return refuse_index(reader, at, "a space comes after other records", error);
            result = add_space(reader, payload, header.size, error);
            if (result < 0)
                return result;
        } else if (header.type >= IMG_RECORD_OWN_FIRST) {
            add_record(reader, &(struct img_record){header.type, header.flags,
                                                    reader->index + payload, header.size});
        } else if (!(header.flags & IMG_RECORD_OPTIONAL)) {
            return refuse_index(reader, at, "a record of a type that this program does not know",
                                error);
        }
        at = payload +
             img_filled(header.size); /* at most `size`, a multiple of 8 as all before it */
    }
    return 0;
}

struct img_reader *img_reader_new(int descriptor, const char *name)
{
    struct img_reader *reader = memory_new(sizeof(*reader));
    for (size_t i = 0; i <= IMG_BASES_MAX; i++)
        reader->files[i].descriptor = -1;
    reader->files[0].descriptor = descriptor;
    reader->files[0].name = text_copy(name);
    return reader;
}

int img_reader_open(int descriptor, const char *name, struct img_reader **out_reader,
                    struct error *error)
{
    struct img_reader *reader = img_reader_new(descriptor, name);
    int result = read_header(&reader->files[0], error);
    if (!result)
        result = read_index(reader, error);
    if (result < 0) {
        img_reader_close(reader);
        return result;
    }
    *out_reader = reader;
    return 0;
}

void img_reader_close(struct img_reader *reader)
{
    if (!reader)
        return;
    free(reader->records);
    free(reader->spaces);
    free(reader->index);
    free(reader->files[0].name);
    for (size_t i = 0; i < reader->base_count; i++) {
        cleanup_close_descriptor(&reader->files[1 + i].descriptor);
        free(reader->files[1 + i].name);
        free(reader->bases[i].path);
    }
    free(reader);
}

uint32_t img_reader_abi_version(const struct img_reader *reader)
{
    return reader->files[0].header.abi_version;
}

uint64_t img_reader_page_count(const struct img_reader *reader)
{
    return reader->files[0].header.page_count;
}

uint64_t img_reader_file_size(const struct img_reader *reader)
{
    return reader->files[0].header.file_size;
}

struct img_identity img_reader_identity(const struct img_reader *reader)
{
    return img_header_identity(&reader->files[0].header);
}

size_t img_reader_base_count(const struct img_reader *reader)
{
    return reader->base_count;
}

const struct img_base *img_reader_base(const struct img_reader *reader, size_t index)
{
    return index < reader->base_count ? &reader->bases[index] : NULL;
}

int img_reader_file(const struct img_reader *reader, unsigned file)
{
    return file <= reader->base_count ? reader->files[file].descriptor : -1;
}

const char *img_reader_file_name(const struct img_reader *reader, unsigned file)
{
    return file <= reader->base_count ? reader->files[file].name : NULL;
}

int img_reader_set_base(struct img_reader *reader, size_t index, int descriptor, const char *name,
                        struct error *error)
{
    struct img_file found = {.descriptor = descriptor, .name = (char *)name};
    int result = read_header(&found, error);
    if (result < 0)
        return result;
    struct img_identity identity = img_header_identity(&found.header);
    if (memcmp(&identity, &reader->bases[index].identity, sizeof(identity)) != 0)
        return error_set(error, -ESTALE,
                         "%s is not the image that %s was made from: it has changed", name,
                         reader->files[0].name);
    struct img_file *place = &reader->files[1 + index];
    cleanup_close_descriptor(&place->descriptor);
    free(place->name);
    *place = found;
    place->name = text_copy(name);
    return 0;
}

size_t img_reader_space_count(const struct img_reader *reader)
{
    return reader->space_count;
}

const struct img_space *img_reader_space(const struct img_reader *reader, size_t index)
{
    return index < reader->space_count ? &reader->spaces[index] : NULL;
}

const struct img_space *img_reader_find_space(const struct img_reader *reader, uint32_t kind,
                                              uint32_t process)
{
    const struct img_space_header wanted = {.kind = kind, .process = process};
    size_t low = 0, high = reader->space_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (is_before(&reader->spaces[middle], &wanted))
            low = middle + 1;
        else
            high = middle;
    }
    const struct img_space *space = img_reader_space(reader, low);
    return space && space->kind == kind && space->process == process ? space : NULL;
}

size_t img_reader_record_count(const struct img_reader *reader)
{
    return reader->record_count;
}

const struct img_record *img_reader_record(const struct img_reader *reader, size_t index)
{
    return index < reader->record_count ? &reader->records[index] : NULL;
}

static const char *kind_name(uint32_t kind)
{
    return kind == IMG_SPACE_HEAP   ? "the kernel heap"
           : kind == IMG_SPACE_BULK ? "the bulk segment"
           : kind == IMG_SPACE_FILE ? "a deleted file"
                                    : "private memory";
}

static int refuse_page(const struct img_reader *reader, unsigned number, uint64_t page,
                       struct error *error)
{
    error_set(error, -EPROTO,
              "the image %s is damaged at byte %llu: the page's checksum does not fit",
              reader->files[number].name, (unsigned long long)img_table_offset(page));
    for (size_t i = 0; i < reader->space_count; i++) {
        const struct img_space *space = &reader->spaces[i];
        for (size_t j = 0; j < space->extent_count; j++) {
            const struct img_extent *extent = &space->extents[j];
            uint64_t first = img_place_page(extent->place);
            if (img_place_file(extent->place) != number || page < first ||
                page - first >= extent->count)
                continue;
            uint64_t address = extent->address + (page - first) * BLY_PAGE_SIZE;
            if (space->kind == IMG_SPACE_PRIVATE)
                error_hint(error, "%s of process %u, address %#llx", kind_name(space->kind),
                           space->process, (unsigned long long)address);
            else
                error_hint(error, "%s, address %#llx", kind_name(space->kind),
                           (unsigned long long)address);
            return -EPROTO;
        }
    }
    error_hint(error, "no memory uses it");
    return -EPROTO;
}

/* Before the pages, so that a damaged table is not taken for damaged pages. In pieces: it has a
 * size that the file chose. */
static int verify_table(const struct img_file *file, unsigned char *buffer, struct error *error)
{
    const uint64_t offset = img_table_offset(file->header.page_count);
    const uint64_t size = img_filled(file->header.page_count * sizeof(uint32_t));
    uint32_t checksum = 0;
    for (uint64_t at = 0; at < size;) {
        size_t piece =
            size - at < CHUNK_PAGES * BLY_PAGE_SIZE ? size - at : CHUNK_PAGES * BLY_PAGE_SIZE;
        int result = read_all(file, buffer, piece, offset + at, error);
        if (result < 0)
            return result;
        checksum = img_checksum(checksum, buffer, piece);
        at += piece;
    }
    if (checksum != file->header.table_checksum)
        return error_set(
            error, -EPROTO,
            "the image %s is damaged at byte %llu: the table of checksums does not fit its own",
            file->name, (unsigned long long)offset);
    return 0;
}

static int verify_file(const struct img_reader *reader, unsigned number, uint64_t before,
                       int (*progress)(void *context, uint64_t done), void *context,
                       struct error *error)
{
    cleanup_free unsigned char *buffer = memory_new(CHUNK_PAGES * BLY_PAGE_SIZE);
    uint32_t expected[CHUNK_PAGES];
    const struct img_file *file = &reader->files[number];
    const uint64_t pages = file->header.page_count;
    int result = verify_table(file, buffer, error);
    for (uint64_t at = 0; !result && at < pages;) {
        size_t count = pages - at < CHUNK_PAGES ? pages - at : CHUNK_PAGES;
        result = read_all(file, expected, count * sizeof(uint32_t),
                          img_table_offset(pages) + at * sizeof(uint32_t), error);
        if (!result)
            result = read_all(file, buffer, count * BLY_PAGE_SIZE, img_table_offset(at), error);
        for (size_t i = 0; !result && i < count; i++)
            if (img_checksum(0, buffer + i * BLY_PAGE_SIZE, BLY_PAGE_SIZE) != expected[i])
                result = refuse_page(reader, number, at + i, error);
        at += count;
        if (!result && progress)
            result = progress(context, before + at * BLY_PAGE_SIZE);
    }
    return result < 0 ? result : 0;
}

uint64_t img_reader_verify_size(const struct img_reader *reader)
{
    uint64_t pages = 0;
    for (size_t i = 0; i <= reader->base_count; i++)
        pages += reader->files[i].header.page_count;
    return pages * BLY_PAGE_SIZE;
}

int img_reader_verify(struct img_reader *reader, int (*progress)(void *context, uint64_t done),
                      void *context, struct error *error)
{
    uint64_t before = 0;
    int result = 0;
    for (size_t i = 0; i <= reader->base_count && !result; i++) {
        if (reader->files[i].descriptor < 0)
            return error_set(error, -ENOENT, "the image %s needs %s, which is not there",
                             reader->files[0].name, reader->bases[i - 1].path);
        result = verify_file(reader, (unsigned)i, before, progress, context, error);
        before += reader->files[i].header.page_count * BLY_PAGE_SIZE;
    }
    return result;
}
