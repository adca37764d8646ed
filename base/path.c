/* Paths as text, and files read or written whole. */
#include <base/path.h>

#include <base/cleanup.h>
#include <base/text.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *path_join(const char *base, const char *name)
{
    if (name[0] == '/')
        return text_copy(name);
    size_t size = strlen(base);
    return text_print("%s%s%s", base, size && base[size - 1] == '/' ? "" : "/", name);
}

char *path_normalise(const char *path)
{
    bool absolute = path[0] == '/';
    char *out = memory_new(strlen(path) + 2);
    size_t size = 0, floor = absolute ? 1 : 0;
    if (absolute)
        out[size++] = '/';
    while (*path) {
        path += strspn(path, "/");
        size_t length = strcspn(path, "/");
        if (length == 0)
            break;
        if (length == 2 && path[0] == '.' && path[1] == '.') {
            if (size > floor) {
                while (size > floor && out[size - 1] != '/')
                    size--;
                if (size > floor)
                    size--;
            } else if (!absolute) {
                /* A relative path may climb; what it climbed cannot be taken back by a later `..`.
                 */
                if (size)
                    out[size++] = '/';
                out[size++] = '.';
                out[size++] = '.';
                floor = size;
            }
        } else if (!(length == 1 && path[0] == '.')) {
            if (size && out[size - 1] != '/')
                out[size++] = '/';
            memcpy(out + size, path, length);
            size += length;
        }
        path += length;
    }
    if (size == 0)
        out[size++] = '.';
    out[size] = '\0';
    return out;
}

bool path_is_within(const char *path, const char *folder)
{
    size_t size = strlen(folder);
    if (size == 1 && folder[0] == '/')
        return path[0] == '/';
    return strncmp(path, folder, size) == 0 && (path[size] == '\0' || path[size] == '/');
}

int path_read_file(int directory, const char *path, size_t limit, char **out_text, size_t *out_size)
{
    cleanup_close int descriptor = openat(directory, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (descriptor < 0)
        return -errno;
    cleanup_text struct text text = {0};
    for (;;) {
        char buffer[4096];
        ssize_t count = read(descriptor, buffer, sizeof(buffer));
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return -errno;
        if (count == 0)
            break;
        if (text.size + (size_t)count > limit)
            return -EFBIG;
        text_add_size(&text, buffer, (size_t)count);
    }
    if (out_size)
        *out_size = text.size;
    *out_text = text_take(&text);
    return 0;
}

int write_fully(int descriptor, const void *data, size_t size)
{
    const char *from = data;
    while (size) {
        ssize_t count = write(descriptor, from, size);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return -errno;
        from += count;
        size -= (size_t)count;
    }
    return 0;
}

int path_write_file(int directory, const char *path, const void *data, size_t size, mode_t mode)
{
    cleanup_free char *temporary = text_print("%s.%d.new", path, (int)getpid());
    cleanup_close int descriptor =
        openat(directory, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
    if (descriptor < 0)
        return -errno;
    int result = write_fully(descriptor, data, size);
    if (result == 0 && renameat(directory, temporary, directory, path) < 0)
        result = -errno;
    if (result < 0)
        unlinkat(directory, temporary, 0);
    return result;
}

int path_remove_tree(int directory, const char *path)
{
    if (unlinkat(directory, path, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -errno;
    int descriptor = openat(directory, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (descriptor < 0)
        return errno == ENOENT ? 0 : -errno;
    cleanup_directory DIR *entries = fdopendir(descriptor);
    if (!entries) {
        int code = -errno;
        close(descriptor);
        return code;
    }
    for (struct dirent *entry; (entry = readdir(entries));) {
        if (text_equal(entry->d_name, ".") || text_equal(entry->d_name, ".."))
            continue;
        int result = path_remove_tree(dirfd(entries), entry->d_name);
        if (result < 0)
            return result;
    }
    return unlinkat(directory, path, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}
