/* Packing and unpacking. Every chunk has a frame of its own, so that a damaged one is told by its
 * place, none becomes larger than a chunk whatever it says, and an index can be had without the
 * pages before it. */
#include "image/pack.h"

#include "image/confined.h"

#include <base/cleanup.h>
#include <base/path.h>
#include <base/text.h>
#include <bailey/abi.h>
#include <errno.h>
#include <fcntl.h>
#include <image/checksum.h>
#include <image/new-file.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zstd.h>

#define PROGRESS_CHUNKS 16u

static int read_all(int file, const char *name, void *buffer, size_t size, uint64_t offset,
                    struct error *error)
{
    for (size_t done = 0; done < size;) {
        ssize_t count = pread(file, (char *)buffer + done, size - done, (off_t)(offset + done));
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return error_set_errno(error, -errno, "cannot read the image %s", name);
        if (!count)
            return error_set(error, -EPROTO, "the image %s is cut short at byte %llu", name,
                             (unsigned long long)(offset + done));
        done += (size_t)count;
    }
    return 0;
}

static uint64_t chunk_count(const struct img_header *header)
{
    return (header->file_size - sizeof(*header) + IMG_CHUNK_SIZE - 1) / IMG_CHUNK_SIZE;
}

static size_t size_of_chunk(const struct img_header *header, uint64_t index)
{
    uint64_t left = header->file_size - sizeof(*header) - index * IMG_CHUNK_SIZE;
    return left < IMG_CHUNK_SIZE ? left : IMG_CHUNK_SIZE;
}

static void sign(struct img_header *header)
{
    header->checksum = img_checksum(0, header, offsetof(struct img_header, checksum));
}

int img_pack_available(struct error *error)
{
    return 0;
}

/* ---- Packing ---- */

struct packing {
    int image;
    const char *name;
    struct img_header header;
    struct img_new_file out;
    struct img_chunk *table;
    ZSTD_CCtx *zstd;
    unsigned char *plain, *frame;
    size_t frame_room;
    uint64_t size; /* of the file so far */
};

static int pack_chunk(struct packing *packing, uint64_t index, struct error *error)
{
    const size_t size = size_of_chunk(&packing->header, index);
    int result = read_all(packing->image, packing->name, packing->plain, size,
                          sizeof(packing->header) + index * IMG_CHUNK_SIZE, error);
    if (result < 0)
        return result;
    size_t packed =
        ZSTD_compress2(packing->zstd, packing->frame, packing->frame_room, packing->plain, size);
    if (ZSTD_isError(packed))
        return error_set(error, -ENOMEM, "cannot compress the image %s: %s", packing->name,
                         ZSTD_getErrorName(packed));
    packing->table[index] =
        (struct img_chunk){(uint32_t)packed, img_checksum(0, packing->frame, packed)};
    result = img_new_file_write(&packing->out, packing->frame, packed, packing->size, error);
    packing->size += packed;
    return result;
}

static int pack_all(struct packing *packing, img_pack_progress *progress, void *context,
                    struct error *error)
{
    const uint64_t count = chunk_count(&packing->header);
    int result = 0;
    for (uint64_t i = 0; i < count && result == 0; i++) {
        result = pack_chunk(packing, i, error);
        if (progress && i % PROGRESS_CHUNKS == 0)
            progress(context, i * IMG_CHUNK_SIZE);
    }
    const size_t table_size = count * sizeof(*packing->table);
    if (result == 0)
        result =
            img_new_file_write(&packing->out, packing->table, table_size, packing->size, error);
    packing->header.version = IMG_VERSION_PACKED;
    packing->header.packed_size = packing->size + table_size;
    packing->header.chunk_table_checksum = img_checksum(0, packing->table, table_size);
    sign(&packing->header);
    return result < 0 ? result
                      : img_new_file_write(&packing->out, &packing->header, sizeof(packing->header),
                                           0, error);
}

int img_pack(int image, const char *name, const char *path, int level, img_pack_progress *progress,
             void *context, struct error *error)
{
    struct packing packing = {.image = image,
                              .name = name,
                              .size = sizeof(packing.header),
                              .frame_room = ZSTD_compressBound(IMG_CHUNK_SIZE)};
    int result = read_all(image, name, &packing.header, sizeof(packing.header), 0, error);
    if (result == 0)
        result = img_new_file_open(&packing.out, path, error);
    if (result < 0)
        return result;
    cleanup_free unsigned char *plain = memory_new(IMG_CHUNK_SIZE),
                               *frame = memory_new(packing.frame_room);
    cleanup_free struct img_chunk *table =
        memory_new(chunk_count(&packing.header) * sizeof(*table) + 1);
    packing.plain = plain;
    packing.frame = frame;
    packing.table = table;
    packing.zstd = ZSTD_createCCtx();
    if (!packing.zstd ||
        ZSTD_isError(ZSTD_CCtx_setParameter(packing.zstd, ZSTD_c_compressionLevel, level)))
        result = error_set(error, -ENOMEM, "cannot compress the image %s", name);
    else
        result = pack_all(&packing, progress, context, error);
    ZSTD_freeCCtx(packing.zstd);
    if (result == 0)
        return img_new_file_finish(&packing.out, error);
    img_new_file_abandon(&packing.out);
    return result;
}

/* ---- Unpacking ---- */

static int refuse(const char *name, uint64_t offset, const char *what, struct error *error)
{
    return error_set(error, -EPROTO, "the image %s is damaged at byte %llu: %s", name,
                     (unsigned long long)offset, what);
}

static int write_all(int out, const void *data, size_t size, uint64_t offset, struct error *error)
{
    for (size_t done = 0; done < size;) {
        ssize_t count = pwrite(out, (const char *)data + done, size - done, (off_t)(offset + done));
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return error_set_errno(error, count < 0 ? -errno : -EIO,
                                   "cannot store what the image holds");
        done += (size_t)count;
    }
    return 0;
}

struct unpacking {
    int file, out;
    const char *name;
    struct img_header header;
    ZSTD_DCtx *zstd;
    unsigned char *plain, *frame;
    size_t frame_room;
};

static int unpack_chunk(const struct unpacking *unpacking, uint64_t index,
                        const struct img_chunk *chunk, uint64_t offset, struct error *error)
{
    const size_t size = size_of_chunk(&unpacking->header, index);
    int result =
        read_all(unpacking->file, unpacking->name, unpacking->frame, chunk->size, offset, error);
    if (result < 0)
        return result;
    if (img_checksum(0, unpacking->frame, chunk->size) != chunk->checksum)
        return refuse(unpacking->name, offset, "the checksum of what is compressed does not fit",
                      error);
    /* What it becomes has room for no more than it must be, whatever the frame says. */
    if (ZSTD_decompressDCtx(unpacking->zstd, unpacking->plain, size, unpacking->frame,
                            chunk->size) != size)
        return refuse(unpacking->name, offset, "what is compressed cannot be read", error);
    return write_all(unpacking->out, unpacking->plain, size,
                     sizeof(unpacking->header) + index * IMG_CHUNK_SIZE, error);
}

/* The table is the file itself, mapped: each entry is taken once. */
static int unpack_all(struct unpacking *unpacking, const unsigned char *table, bool all,
                      img_pack_progress *progress, void *context, struct error *error)
{
    const struct img_header *header = &unpacking->header;
    const uint64_t count = chunk_count(header),
                   end = header->packed_size - count * sizeof(struct img_chunk);
    const uint64_t index_offset = img_index_offset(header->page_count);
    uint64_t offset = sizeof(*header);
    if (img_checksum(0, table, count * sizeof(struct img_chunk)) != header->chunk_table_checksum)
        return refuse(unpacking->name, end,
                      "the table of what is compressed does not fit its checksum", error);
    for (uint64_t i = 0; i < count; i++) {
        struct img_chunk chunk;
        memcpy(&chunk, table + i * sizeof(chunk), sizeof(chunk));
        if (chunk.size == 0 || chunk.size > unpacking->frame_room || chunk.size > end - offset)
            return refuse(unpacking->name, end + i * sizeof(chunk), "a size cannot be", error);
        bool wanted = all || sizeof(*header) + (i + 1) * IMG_CHUNK_SIZE > index_offset;
        int result = wanted ? unpack_chunk(unpacking, i, &chunk, offset, error) : 0;
        if (result < 0)
            return result;
        offset += chunk.size;
        if (progress && i % PROGRESS_CHUNKS == 0)
            progress(context, i * IMG_CHUNK_SIZE);
    }
    return offset == end ? 0
                         : refuse(unpacking->name, offset,
                                  "the sizes of what is compressed do not fit the file", error);
}

int img_unpack(int file, const char *name, int out, bool all, img_pack_progress *progress,
               void *context, struct error *error)
{
    uint64_t size;
    struct unpacking unpacking = {
        .file = file, .out = out, .name = name, .frame_room = ZSTD_compressBound(IMG_CHUNK_SIZE)};
    struct img_header *header = &unpacking.header;
    int result = img_packed_size(file, name, &size, error);
    if (result == 0)
        result = read_all(file, name, header, sizeof(*header), 0, error);
    if (result < 0)
        return result;
    if (header->file_size != size) /* it changes while we look */
        return refuse(name, 0, "it changes", error);
    const size_t table_size = chunk_count(header) * sizeof(struct img_chunk);
    const uint64_t table_offset = header->packed_size - table_size,
                   from = table_offset & ~(uint64_t)(BLY_PAGE_SIZE - 1);
    /* Not read at once: its size is the image's choice. Who cuts the file off meanwhile ends this
     * process. */
    void *map = mmap(NULL, header->packed_size - from, PROT_READ, MAP_PRIVATE, file, (off_t)from);
    cleanup_free unsigned char *plain = memory_new(IMG_CHUNK_SIZE),
                               *frame = memory_new(unpacking.frame_room);
    unpacking.plain = plain;
    unpacking.frame = frame;
    unpacking.zstd = ZSTD_createDCtx();
    if (map == MAP_FAILED || !unpacking.zstd)
        result = error_set_errno(error, -ENOMEM, "cannot unpack the image %s", name);
    if (result == 0)
        result = unpack_all(&unpacking, (unsigned char *)map + (table_offset - from), all, progress,
                            context, error);
    if (map != MAP_FAILED)
        munmap(map, header->packed_size - from);
    ZSTD_freeDCtx(unpacking.zstd);
    header->version = IMG_VERSION;
    header->packed_size = 0;
    header->chunk_table_checksum = 0;
    sign(header);
    return result < 0 ? result : write_all(out, header, sizeof(*header), 0, error);
}

/* ---- In a process of its own ---- */

/* What it says: how far it is, and at last 0 or an error. */
struct report {
    uint64_t done;
    bool is_last;
    struct error error;
};

static void tell(void *context, uint64_t done)
{
    const struct report report = {.done = done};
    (void)!write_fully(*(const int *)context, &report, sizeof(report));
}

static _Noreturn void unpack_for_parent(int file, const char *name, int out, bool all, int reports)
{
    struct report report = {.is_last = true};
    const int keep[] = {file, out, reports};
    int result = img_confine(keep, 3, &report.error);
    if (result == 0)
        (void)!img_unpack(file, name, out, all, tell, &reports, &report.error);
    (void)!write_fully(reports, &report, sizeof(report));
    _exit(0);
}

static bool hear(int reports, struct report *out)
{
    for (size_t done = 0; done < sizeof(*out);) {
        ssize_t size = read(reports, (char *)out + done, sizeof(*out) - done);
        if (size < 0 && errno == EINTR)
            continue;
        if (size <= 0) {
            out->is_last = false;
            return false;
        }
        done += (size_t)size;
    }
    return true;
}

int img_unpack_confined(int file, const char *name, int out, bool all, img_pack_progress *progress,
                        void *context, struct error *error)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_set_errno(error, -errno, "cannot start a process to unpack the image %s",
                               name);
    cleanup_close int reports = ends[0];
    pid_t child = fork();
    if (child == 0)
        unpack_for_parent(file, name, out, all, ends[1]);
    close(ends[1]);
    if (child < 0)
        return error_set_errno(error, -errno, "cannot start a process to unpack the image %s",
                               name);
    struct report report = {.is_last = false};
    while (!report.is_last && hear(reports, &report))
        if (progress && !report.is_last)
            progress(context, report.done);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        ;
    if (!report.is_last)
        return error_set(error, -EPROTO, "the process that unpacked the image %s died of it", name);
    if (report.error.code == 0)
        return 0;
    report.error.message[ERROR_MESSAGE_SIZE - 1] = '\0';
    text_make_printable(report.error.message, strlen(report.error.message));
    return error_set(error, report.error.code < 0 ? report.error.code : -EPROTO, "%s",
                     report.error.message);
}
