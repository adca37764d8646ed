/* Writing a tar stream in the format that GNU tar and busybox both read (long names as GNU writes
 * them). */
#include <cli/tar.h>

#include <base/cleanup.h>
#include <base/path.h>
#include <base/text.h>
#include <cli/tar-format.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct writer {
    int out;
    struct error *error;
};

/* Octal where it fits, else base 256 with the top bit set. */
static void put_number(char *field, size_t size, uint64_t value)
{
    if (value < 1ull << 3 * (size - 1)) {
        snprintf(field, size, "%0*llo", (int)size - 1, (unsigned long long)value);
        return;
    }
    for (size_t i = size; i-- > 0; value >>= 8)
        field[i] = (char)(value & 0xff);
    field[0] = (char)0x80;
}

static int put(struct writer *writer, const void *data, size_t size)
{
    int result = write_fully(writer->out, data, size);
    if (result < 0)
        error_set_errno(writer->error, result, "cannot pass on the files");
    return result;
}

static int put_padding(struct writer *writer, uint64_t size)
{
    static const char zeros[TAR_BLOCK];
    size_t rest = size % TAR_BLOCK;
    return rest ? put(writer, zeros, TAR_BLOCK - rest) : 0;
}

static int put_header(struct writer *writer, const char *name, char type, const struct stat *status,
                      uint64_t size, const char *link)
{
    struct tar_header header = {0};
    /* A field that is full has no NUL. */
    memcpy(header.name, name, strnlen(name, sizeof(header.name)));
    if (link)
        memcpy(header.link, link, strnlen(link, sizeof(header.link)));
    put_number(header.mode, sizeof(header.mode), status ? status->st_mode & 07777 : 0644);
    put_number(header.owner, sizeof(header.owner), 0);
    put_number(header.group, sizeof(header.group), 0);
    put_number(header.size, sizeof(header.size), size);
    put_number(header.modified, sizeof(header.modified),
               status && status->st_mtime > 0 ? (uint64_t)status->st_mtime : 0);
    header.type = type;
    memcpy(header.magic, "ustar  ", 8);
    memset(header.checksum, ' ', sizeof(header.checksum));
    put_number(header.checksum, 7, tar_checksum(&header));
    return put(writer, &header, sizeof(header));
}

static int put_long(struct writer *writer, char type, const char *text)
{
    size_t size = strlen(text) + 1;
    int result = put_header(writer, "././@LongLink", type, NULL, size, NULL);
    if (result == 0)
        result = put(writer, text, size);
    return result == 0 ? put_padding(writer, size) : result;
}

static int put_entry(struct writer *writer, const char *name, char type, const struct stat *status,
                     uint64_t size, const char *link)
{
    int result = 0;
    if (strlen(name) >= sizeof(((struct tar_header *)0)->name))
        result = put_long(writer, 'L', name);
    if (result == 0 && link && strlen(link) >= sizeof(((struct tar_header *)0)->link))
        result = put_long(writer, 'K', link);
    return result == 0 ? put_header(writer, name, type, status, size, link) : result;
}

static int put_file(struct writer *writer, int descriptor, const char *name,
                    const struct stat *status)
{
    uint64_t size = (uint64_t)status->st_size;
    int result = put_entry(writer, name, '0', status, size, NULL);
    char data[65536];
    for (uint64_t done = 0; result == 0 && done < size;) {
        uint64_t wanted = size - done < sizeof(data) ? size - done : sizeof(data);
        ssize_t got = read(descriptor, data, wanted);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_set_errno(writer->error, -errno, "cannot read %s", name);
        if (got == 0) {
            /* The file shrank meanwhile; the header has promised its size. */
            memset(data, 0, sizeof(data));
            got = (ssize_t)wanted;
        }
        result = put(writer, data, (size_t)got);
        done += (uint64_t)got;
    }
    return result == 0 ? put_padding(writer, size) : result;
}

static int put_tree(struct writer *writer, int folder, const char *entry, const char *name);

static int put_folder(struct writer *writer, int descriptor, const char *name,
                      const struct stat *status)
{
    cleanup_free char *with_slash = text_print("%s/", name);
    int result = put_entry(writer, with_slash, '5', status, 0, NULL);
    int copy = result == 0 ? dup(descriptor) : -1;
    cleanup_directory DIR *entries = copy >= 0 ? fdopendir(copy) : NULL;
    if (result == 0 && !entries)
        return error_set_errno(writer->error, -errno, "cannot read the folder %s", name);
    while (result == 0) {
        struct dirent *entry = readdir(entries);
        if (!entry)
            break;
        if (text_equal(entry->d_name, ".") || text_equal(entry->d_name, ".."))
            continue;
        cleanup_free char *below = text_print("%s/%s", name, entry->d_name);
        result = put_tree(writer, descriptor, entry->d_name, below);
    }
    return result;
}

static int put_tree(struct writer *writer, int folder, const char *entry, const char *name)
{
    struct stat status;
    if (fstatat(folder, entry, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return error_set_errno(writer->error, -errno, "cannot read %s", name);
    if (S_ISLNK(status.st_mode)) {
        char target[PATH_MAX];
        ssize_t size = readlinkat(folder, entry, target, sizeof(target) - 1);
        if (size < 0)
            return error_set_errno(writer->error, -errno, "cannot read %s", name);
        target[size] = '\0';
        return put_entry(writer, name, '2', &status, 0, target);
    }
    if (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) {
        note("%s is left out: it is neither a file, nor a folder, nor a link", name);
        return 0;
    }
    cleanup_close int descriptor =
        openat(folder, entry, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (descriptor < 0 || fstat(descriptor, &status) < 0)
        return error_set_errno(writer->error, -errno, "cannot read %s", name);
    if (S_ISDIR(status.st_mode))
        return put_folder(writer, descriptor, name, &status);
    return put_file(writer, descriptor, name, &status);
}

int tar_write(int out, const char *path, const char *name, struct error *error)
{
    static const char end[2 * TAR_BLOCK];
    struct writer writer = {.out = out, .error = error};
    int result = put_tree(&writer, AT_FDCWD, path, name);
    return result == 0 ? put(&writer, end, sizeof(end)) : result;
}
