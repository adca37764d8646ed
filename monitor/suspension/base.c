/* The image that a new one is based on. What it holds was read by the client, in a process without rights where the image may be a stranger's
 * (image/flat.h); its files are opened here, and are believed to be those when their ids are. */
#include "monitor/suspension/suspension.h"

#include "base/cleanup.h"
#include "image/flat.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static int open_file(const char *path, struct error *error)
{
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    return file < 0 ? error_set_errno(error, -errno, "cannot open the image %s", path) : file;
}

static int check_file(int file, const char *path, const struct img_reader *reader, struct error *error)
{
    struct img_header header;
    const struct img_identity expected = img_reader_identity(reader);
    if (pread(file, &header, sizeof(header), 0) != sizeof(header))
        return error_set(error, -EIO, "cannot read the image %s", path);
    const struct img_identity identity = img_header_identity(&header);
    return memcmp(&identity, &expected, sizeof(identity)) == 0 ? 0 : error_set(error, -ESTALE, "the image %s has changed", path);
}

static int set_further(struct img_reader *reader, size_t index, struct error *error)
{
    const char *path = img_reader_base(reader, index)->path;
    cleanup_close int file = open_file(path, error);
    int result = file < 0 ? file : img_reader_set_base(reader, index, file, path, error);
    if (result == 0)
        (void)take_descriptor(&file);
    return result;
}

int mon_base_open(const struct mon_suspension *suspension, struct img_writer *writer, struct mon_base *out_base, struct error *error)
{
    const char *path = suspension->base_path;
    if (!path)
        return 0;
    out_base->file = open_file(path, error);
    if (out_base->file < 0)
        return out_base->file;
    int result = img_flat_open(suspension->base, out_base->file, path, &out_base->reader, error);
    if (result == 0)
        result = check_file(out_base->file, path, out_base->reader, error);
    for (size_t i = 0; result == 0 && i < img_reader_base_count(out_base->reader); i++)
        result = set_further(out_base->reader, i, error);
    return result < 0 ? result : img_writer_set_base(writer, out_base->reader, path, error);
}

void mon_base_close(struct mon_base *base)
{
    img_reader_close(base->reader);
    cleanup_close_descriptor(&base->file);
}
