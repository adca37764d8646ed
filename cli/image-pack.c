/* bailey image pack: an image that stands alone, with all the memory that its bases have;
 * compressed, if that is asked for. */
#include <cli/image.h>

#include <base/cleanup.h>
#include <base/json.h>
#include <cli/own-image.h>
#include <cli/progress.h>
#include <cli/resume.h>
#include <cli/unpack.h>
#include <errno.h>
#include <fcntl.h>
#include <image/bases.h>
#include <image/flat.h>
#include <image/writer.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK_PAGES 256u

struct copy {
    const struct img_reader *reader;
    struct img_writer *writer;
    unsigned char *buffer;
};

static int copy_extent(const struct copy *copy, const struct img_extent *extent,
                       struct error *error)
{
    const unsigned number = img_place_file(extent->place);
    const int file = img_reader_file(copy->reader, number);
    int result = 0;
    for (uint64_t done = 0, count; done < extent->count && result == 0; done += count) {
        count = extent->count - done < CHUNK_PAGES ? extent->count - done : CHUNK_PAGES;
        ssize_t size = pread(file, copy->buffer, count * BLY_PAGE_SIZE,
                             (off_t)img_place_offset(extent->place + done));
        if (size != (ssize_t)(count * BLY_PAGE_SIZE))
            return error_set_errno(error, size < 0 ? -errno : -EIO, "cannot read the image %s",
                                   img_reader_file_name(copy->reader, number));
        result = img_writer_pages(copy->writer, extent->address + done * BLY_PAGE_SIZE,
                                  copy->buffer, count, IMG_ALL_ZEROS, error);
    }
    return result;
}

static int copy_all(const struct copy *copy, struct error *error)
{
    int result = 0;
    for (size_t i = 0; i < img_reader_space_count(copy->reader) && result == 0; i++) {
        const struct img_space *space = img_reader_space(copy->reader, i);
        result = img_writer_space(copy->writer, space->kind, space->process, error);
        for (size_t j = 0; j < space->extent_count && result == 0; j++)
            result = copy_extent(copy, &space->extents[j], error);
    }
    for (size_t i = 0; i < img_reader_record_count(copy->reader) && result == 0; i++) {
        const struct img_record *record = img_reader_record(copy->reader, i);
        result = img_writer_record(copy->writer, record->type, record->flags, record->data,
                                   record->size, error);
    }
    return result;
}

static int show_copied(void *context, uint64_t bytes, struct error *error)
{
    progress_show(context, bytes, 0);
    return 0;
}

static int write_alone(const struct img_reader *reader, const char *out, struct error *error)
{
    cleanup_free unsigned char *buffer = memory_new(CHUNK_PAGES * BLY_PAGE_SIZE);
    struct copy copy = {.reader = reader, .buffer = buffer};
    struct progress progress = progress_begin("writing");
    int result = img_writer_open(out, &copy.writer, error);
    if (result < 0)
        return result;
    img_writer_on_progress(copy.writer, show_copied, &progress);
    result = copy_all(&copy, error);
    if (result == 0)
        result = img_writer_finish(copy.writer, error);
    else
        img_writer_abandon(copy.writer);
    progress_end(&progress);
    return result;
}

static void print(const char *out, bool as_json)
{
    char size[SIZE_TEXT_SIZE];
    struct stat status;
    int64_t bytes = stat(out, &status) == 0 ? (int64_t)status.st_size : -1;
    if (!as_json) {
        printf("%s: %s\n", out, size_text((uint64_t)bytes, size));
        return;
    }
    cleanup_text struct text text = {0};
    struct json json = json_to(&text);
    json_object(&json);
    json_key_string(&json, "image", out);
    json_key_number(&json, "size", bytes);
    json_object_end(&json);
    printf("%s\n", text.data);
}

static int pack_opened(const struct image_request *request, int *file, bool own,
                       struct error *error)
{
    struct img_reader *reader = NULL;
    int result = unpack_image(file, request->path, /*all=*/true, error);
    if (result == 0)
        result = own ? img_reader_open(*file, request->path, &reader, error)
                     : img_reader_open_confined(*file, request->path, &reader, error);
    if (result == 0)
        result =
            img_reader_find_bases(reader, request->path, &request->bases, /*follow=*/own, error);
    /* Damage is not to get a checksum that fits. */
    if (result == 0)
        result = resumption_verify(reader, error);
    if (result == 0)
        result = write_alone(reader, request->output, error);
    img_reader_close(reader);
    if (result == 0 && request->level) {
        result = pack_image(request->output, request->output, request->level, error);
        if (result < 0)
            error_hint(error, "%s is there, but not compressed", request->output);
    }
    return result;
}

int image_pack(const struct image_request *request, struct error *error)
{
    if (!request->output || !*request->output) {
        error_set(error, -EINVAL, "image pack: --output FILE is missing: the new image");
        return error->code;
    }
    cleanup_close int file = open(request->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (file < 0)
        return error_set_errno(error, -errno, "cannot open the image %s", request->path);
    const bool own = own_image_is(file);
    int result = pack_opened(request, &file, own, error);
    struct error unnoted = {0};
    if (result == 0 && own && own_image_note(request->output, &unnoted) < 0)
        note("%s; to resume the sandbox its folders must be named again", unnoted.message);
    if (result == 0)
        print(request->output, request->as_json);
    return result;
}
