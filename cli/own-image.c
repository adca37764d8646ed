/* The list of one's own images: a private file in the user's state folder (XDG Base Directory
 * Specification: XDG_STATE_HOME), one a line, the oldest first. It holds no secret: who can read it
 * gains nothing; who can write it can do as the user anyway. */
#include <cli/own-image.h>

#include <base/cleanup.h>
#include <base/path.h>
#include <base/text.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LIST "images"
#define LIST_SIZE_MAX (1u << 20)
#define LINES_MAX 4096u

/* Without a home that is there: none, and no image is one's own. */
static int open_folder(bool make)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    bool has_home = home && home[0] == '/' && access(home, X_OK) == 0; /* never made here */
    cleanup_free char *base = state && state[0] == '/' ? text_copy(state)
                              : has_home               ? text_print("%s/.local/state", home)
                                                       : NULL;
    if (!base)
        return -ENOENT;
    cleanup_free char *path = path_join(base, "bailey");
    for (char *slash = strchr(path + 1, '/'); make && slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)!mkdir(path, 0700);
        *slash = '/';
    }
    if (make && mkdir(path, 0700) < 0 && errno != EEXIST)
        return -errno;
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat status;
    if (folder < 0)
        return -errno;
    if (fstat(folder, &status) == 0 && status.st_uid == geteuid() && !(status.st_mode & 022))
        return folder;
    close(folder);
    return -EPERM;
}

static char *line_of(const struct stat *status)
{
    return text_print("%llx %llx %llx %lld.%09ld\n", (unsigned long long)status->st_dev,
                      (unsigned long long)status->st_ino, (unsigned long long)status->st_size,
                      (long long)status->st_ctim.tv_sec, status->st_ctim.tv_nsec);
}

/* Without the oldest, when there are too many. */
static const char *newest(const char *list)
{
    size_t count = 0;
    for (const char *line = list; *line && (line = strchr(line, '\n')); line++)
        count++;
    for (; count >= LINES_MAX; count--)
        list = strchr(list, '\n') + 1;
    return list;
}

int own_image_note(const char *path, struct error *error)
{
    struct stat status;
    if (stat(path, &status) < 0)
        return error_set_errno(error, -errno, "cannot look at the image %s", path);
    cleanup_close int folder = open_folder(/*make=*/true);
    /* One at a time: the folder's lock ends with its descriptor. */
    if (folder < 0 || flock(folder, LOCK_EX) < 0)
        return error_set_errno(error, folder < 0 ? folder : -errno,
                               "cannot open your state folder (~/.local/state/bailey)");
    cleanup_free char *list = NULL;
    if (path_read_file(folder, LIST, LIST_SIZE_MAX, &list, NULL) < 0)
        list = text_copy("");
    cleanup_free char *line = line_of(&status);
    cleanup_free char *all = text_print("%s%s", newest(list), line);
    int result = path_write_file(folder, LIST, all, strlen(all), 0600);
    return result < 0 ? error_set_errno(error, result, "cannot write the list of your images") : 0;
}

bool own_image_is(int descriptor)
{
    struct stat status;
    if (fstat(descriptor, &status) < 0 || status.st_uid != geteuid() || (status.st_mode & 022))
        return false;
    cleanup_close int folder = open_folder(/*make=*/false);
    cleanup_free char *list = NULL;
    if (folder < 0 || path_read_file(folder, LIST, LIST_SIZE_MAX, &list, NULL) < 0)
        return false;
    cleanup_free char *line = line_of(&status);
    for (char *found = strstr(list, line); found; found = strstr(found + 1, line))
        if (found == list || found[-1] == '\n')
            return true;
    return false;
}
