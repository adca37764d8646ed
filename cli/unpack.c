/* Packed images: with the progress bar, and the room that they need. */
#include <cli/unpack.h>

#include <base/cleanup.h>
#include <base/text.h>
#include <cli/progress.h>
#include <errno.h>
#include <fcntl.h>
#include <image/pack.h>
#include <monitor/policy/value.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

const char *temporary_folder(void)
{
    const char *folder = getenv("TMPDIR");
    return folder && *folder ? folder : "/var/tmp";
}

int temporary_file(const char *folder, struct error *error)
{
    int file = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (file < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
        cleanup_free char *path = text_print("%s/bailey-XXXXXX", folder);
        file = mkostemp(path, O_CLOEXEC);
        if (file >= 0)
            unlink(path);
    }
    return file < 0
               ? error_set_errno(error, -errno, "cannot keep memory of a sandbox in %s", folder)
               : file;
}

struct show {
    struct progress progress;
    uint64_t size;
};

static void show_progress(void *context, uint64_t done)
{
    struct show *show = context;
    progress_show(&show->progress, done, show->size);
}

/* All of it now, so that what has no room is not begun. */
static int make_room(int file, const char *name, uint64_t size, struct error *error)
{
    char text[SIZE_TEXT_SIZE];
    if (fallocate(file, 0, 0, (off_t)size) == 0 || errno == EOPNOTSUPP || errno == ENOSYS)
        return 0;
    error_set_errno(error, -errno, "%s needs %s in %s to be unpacked", name, size_text(size, text),
                    temporary_folder());
    return error_hint(error, "TMPDIR names another folder");
}

int unpack_image(int *file, const char *name, bool all, struct error *error)
{
    struct show show = {.size = 0};
    if (!img_is_packed(*file))
        return 0;
    int result = img_pack_available(error);
    if (result == 0)
        result = img_packed_size(*file, name, &show.size, error);
    cleanup_close int out = result < 0 ? -1 : temporary_file(temporary_folder(), error);
    if (out < 0)
        return error->code;
    if (all)
        result = make_room(out, name, show.size, error);
    show.progress = progress_begin("unpacking");
    if (result == 0)
        result = img_unpack_confined(*file, name, out, all, show_progress, &show, error);
    progress_end(&show.progress);
    if (result < 0)
        return result;
    close(*file);
    *file = take_descriptor(&out);
    return 0;
}

int pack_image(const char *path, const char *out, int level, struct error *error)
{
    struct stat status;
    cleanup_close int file = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (file < 0 || fstat(file, &status) < 0)
        return error_set_errno(error, -errno, "cannot open the image %s", path);
    struct show show = {.progress = progress_begin("compressing"),
                        .size = (uint64_t)status.st_size};
    int result = img_pack(file, path, out, level, show_progress, &show, error);
    progress_end(&show.progress);
    return result;
}

int pack_read_level(const char *value, int *out_level, struct error *error)
{
    uint32_t level = IMG_PACK_LEVEL;
    int result =
        value ? policy_parse_number("--compress", value, 1, IMG_PACK_LEVEL_MAX, &level, error) : 0;
    *out_level = (int)level;
    return result < 0 ? result : img_pack_available(error);
}
