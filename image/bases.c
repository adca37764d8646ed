/* See bases.h. A file counts as a base by its id, which is random: who does not know a file's id
 * gets at none of its pages by naming it. */
#include "image/bases.h"

#include <base/cleanup.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* -ENOENT: nothing is there that could be an image. */
static int try_path(struct img_reader *reader, size_t index, const char *path, struct error *error)
{
    char resolved[PATH_MAX];
    struct stat status;
    /* Looked at first: opening may do something to what is no file. */
    if (!realpath(path, resolved) || lstat(resolved, &status) < 0 || !S_ISREG(status.st_mode))
        return -ENOENT;
    cleanup_close int file =
        open(resolved, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW);
    if (file < 0)
        return error_set_errno(error, -errno, "cannot open the image %s", resolved);
    int result = img_reader_set_base(reader, index, file, resolved, error);
    if (result == 0)
        take_descriptor(&file);
    return result;
}

static int try_given(struct img_reader *reader, size_t index, const struct text_list *given,
                     bool *used)
{
    for (size_t i = 0; given && i < given->count; i++) {
        struct error ignored = {0};
        if (try_path(reader, index, given->items[i], &ignored) < 0)
            continue;
        used[i] = true;
        return 0;
    }
    return -ENOENT;
}

/* As a person may be shown it. */
static char *shown(const char *path)
{
    char *copy = text_copy(path);
    text_make_printable(copy, strlen(copy));
    return copy;
}

static int find_one(struct img_reader *reader, size_t index, const char *image, bool follow,
                    struct error *error)
{
    const char *path = img_reader_base(reader, index)->path, *name = strrchr(path, '/') + 1;
    int result = -ENOENT, elsewhere = -ENOENT;
    if (image && !text_equal(name, "..") && !text_equal(name, ".")) {
        const char *slash = strrchr(image, '/');
        cleanup_free char *beside =
            text_print("%.*s%s", slash ? (int)(slash + 1 - image) : 0, image, name);
        result = try_path(reader, index, beside, error);
    }
    if (result < 0 && follow) {
        struct error other = {0};
        elsewhere = try_path(reader, index, path, &other);
        if (elsewhere != -ENOENT)
            *error = other;
        if (elsewhere == 0)
            error_clear(error);
    }
    if (result == 0 || elsewhere == 0)
        return 0;
    if (result == -ENOENT && elsewhere == -ENOENT) {
        cleanup_free char *where = shown(follow ? path : name);
        error_set(error, -ENOENT, "the image %s needs %s, which is not there",
                  img_reader_file_name(reader, 0), where);
    }
    return error_hint(error, "--base FILE says where the image is that this one was made from");
}

int img_reader_find_bases(struct img_reader *reader, const char *path,
                          const struct text_list *given, bool follow, struct error *error)
{
    size_t count = given ? given->count : 0;
    cleanup_free bool *used = memory_new(count + 1);
    for (size_t i = 0; i < img_reader_base_count(reader); i++) {
        if (try_given(reader, i, given, used) == 0)
            continue;
        int result = find_one(reader, i, path, follow, error);
        if (result < 0)
            return result;
    }
    for (size_t i = 0; i < count; i++)
        if (!used[i])
            return error_set(error, -EINVAL, "%s is none of the images that %s was made from",
                             given->items[i], img_reader_file_name(reader, 0));
    return 0;
}
