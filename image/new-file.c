/* See new-file.h. */
#include "image/new-file.h"

#include <base/cleanup.h>
#include <base/text.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

int img_new_file_write(const struct img_new_file *file, const void *data, size_t size,
                       uint64_t offset, struct error *error)
{
    for (size_t done = 0; done < size;) {
        ssize_t count = pwrite(file->descriptor, (const char *)data + done, size - done,
                               (off_t)(offset + done));
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return error_set_errno(error, count < 0 ? -errno : -EIO, "cannot write the image %s",
                                   file->path);
        done += (size_t)count;
    }
    return 0;
}

static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return !slash ? text_copy(".")
                  : text_copy_size(path, slash == path ? 1 : (size_t)(slash - path));
}

/* Without a name until it is complete, where the file system has such files: then nothing is left
 * of a writer that is killed. Else under a name of its own. */
static int open_temporary(struct img_new_file *file)
{
    cleanup_free char *folder = folder_of(file->path);
    file->descriptor = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (file->descriptor >= 0)
        return 0;
    if (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT)
        return -errno;
    file->temporary = text_print("%s.part-XXXXXX", file->path);
    file->descriptor = mkostemp(file->temporary, O_CLOEXEC); /* mode 0600 */
    if (file->descriptor >= 0)
        return 0;
    int code = -errno;
    free(take_pointer(file->temporary));
    return code;
}

int img_new_file_open(struct img_new_file *file, const char *path, struct error *error)
{
    struct stat there;
    *file = (struct img_new_file){.descriptor = -1};
    if (lstat(path, &there) == 0 && !S_ISREG(there.st_mode))
        return error_set(error, S_ISDIR(there.st_mode) ? -EISDIR : -EEXIST,
                         "cannot make the image %s: %s has that name", path,
                         S_ISDIR(there.st_mode) ? "a folder" : "something that is no file");
    file->path = text_copy(path);
    int result = open_temporary(file);
    return result < 0 ? error_set_errno(error, result, "cannot make the image %s", path) : 0;
}

void img_new_file_abandon(struct img_new_file *file)
{
    if (file->temporary)
        unlink(file->temporary);
    cleanup_close_descriptor(&file->descriptor);
    free(file->temporary);
    free(file->path);
    *file = (struct img_new_file){.descriptor = -1};
}

/* The new name lasts only when its folder is on the disk, too. */
static int sync_folder(const char *path)
{
    cleanup_free char *folder = folder_of(path);
    cleanup_close int descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* EINVAL: a file system that has nothing to sync for folders */
    return descriptor < 0 || (fsync(descriptor) < 0 && errno != EINVAL) ? -errno : 0;
}

/* A link cannot replace what has the name: then the file has another for a moment. */
static int give_name(struct img_new_file *file)
{
    char self[64];
    snprintf(self, sizeof(self), "/proc/self/fd/%d", file->descriptor);
    if (!file->temporary && linkat(AT_FDCWD, self, AT_FDCWD, file->path, AT_SYMLINK_FOLLOW) == 0)
        return 0;
    for (unsigned attempt = 0; !file->temporary; attempt++) {
        uint32_t random = 0;
        if (getrandom(&random, sizeof(random), 0) < 0)
            return -errno;
        cleanup_free char *name = text_print("%s.part-%08x", file->path, random);
        if (linkat(AT_FDCWD, self, AT_FDCWD, name, AT_SYMLINK_FOLLOW) == 0)
            file->temporary = take_pointer(name);
        else if (errno != EEXIST || attempt == 16)
            return -errno;
    }
    if (rename(file->temporary, file->path) < 0)
        return -errno;
    free(take_pointer(file->temporary));
    return 0;
}

int img_new_file_finish(struct img_new_file *file, struct error *error)
{
    int result = 0;
    if (fsync(file->descriptor) < 0)
        result =
            error_set_errno(error, -errno, "cannot bring the image %s to the disk", file->path);
    if (result == 0) {
        int named = give_name(file);
        if (named < 0)
            result = error_set_errno(error, named, "cannot give the image its name %s", file->path);
    }
    if (result == 0) {
        /* The image is there and whole; only a crash of the host now could still take its name. */
        int synced = sync_folder(file->path);
        if (synced < 0)
            note("the folder of %s cannot be brought to the disk: %s", file->path,
                 strerror(-synced));
    }
    img_new_file_abandon(file);
    return result;
}
