/* Reading a tar stream that a sandbox made: hostile until shown otherwise. Every name is resolved
 * by the kernel beneath the target's folder without following any symbolic link (openat2), so that
 * no order of links and files leads out. */
#include <cli/tar.h>

#include <base/cleanup.h>
#include <base/path.h>
#include <base/text.h>
#include <cli/tar-format.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NAME_LIMIT 65536u

struct reader {
    int in, folder;
    const char *source, *target;
    struct error *error;
    char *name, *link; /* long ones, for the next entry */
    bool has_size;
    uint64_t size; /* of the next entry, from a POSIX.1-2001 record */
    unsigned entry_count;
};

/* 1, 0 at the end of the stream, or negative. */
static int read_block(struct reader *reader, void *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t got = read(reader->in, (char *)data + done, size - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_set_errno(reader->error, -errno, "cannot receive the files");
        if (got == 0)
            return done ? error_set(reader->error, -EIO, "the files ended in the middle") : 0;
        done += (size_t)got;
    }
    return 1;
}

static uint64_t get_number(const char *field, size_t size)
{
    uint64_t value = 0;
    if ((unsigned char)field[0] & 0x80) {
        for (size_t i = 1; i < size; i++)
            value = value << 8 | (unsigned char)field[i];
        return value;
    }
    for (size_t i = 0; i < size && field[i]; i++)
        if (field[i] >= '0' && field[i] <= '7')
            value = value << 3 | (uint64_t)(field[i] - '0');
    return value;
}

static int malformed(struct reader *reader, const char *what)
{
    return error_set(reader->error, -EBADMSG, "what the sandbox sent is not a sound archive: %s",
                     what);
}

/* The whole contents of an entry that describes the next one. */
static int read_text(struct reader *reader, uint64_t size, char **out_text)
{
    if (size > NAME_LIMIT)
        return malformed(reader, "a name is too long");
    size_t padded = (size + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
    cleanup_free char *text = memory_new(padded + 1);
    int result = read_block(reader, text, padded);
    if (result <= 0)
        return result < 0 ? result : malformed(reader, "it is cut off");
    text[size] = '\0';
    *out_text = take_pointer(text);
    return 0;
}

/* POSIX.1-2001: records "LENGTH KEY=VALUE\n". */
static void take_records(struct reader *reader, char *text, size_t size)
{
    for (size_t place = 0; place < size;) {
        char *end, *record = text + place;
        unsigned long length = strtoul(record, &end, 10);
        if (*end != ' ' || length == 0 || length > size - place || record[length - 1] != '\n')
            return;
        record[length - 1] = '\0';
        end++;
        if (text_starts_with(end, "path=")) {
            free(reader->name);
            reader->name = text_copy(end + 5);
        } else if (text_starts_with(end, "linkpath=")) {
            free(reader->link);
            reader->link = text_copy(end + 9);
        } else if (text_starts_with(end, "size=")) {
            reader->has_size = true;
            reader->size = strtoull(end + 5, NULL, 10);
        }
        place += length;
    }
}

/* The place of an archive's name below the target, or NULL when it is not acceptable. */
static char *place_of(const struct reader *reader, const char *name)
{
    while (text_starts_with(name, "./"))
        name += 2;
    size_t size = strlen(reader->source);
    if (strncmp(name, reader->source, size) != 0 || (name[size] && name[size] != '/'))
        return NULL;
    cleanup_free char *joined = text_print("%s%s", reader->target, name + size);
    char *normal = path_normalise(joined);
    /* Normalising took every `..` out by text; one that climbs shows as a different beginning. */
    if (!path_is_within(normal, reader->target)) {
        free(normal);
        return NULL;
    }
    return normal;
}

static int open_beneath(int folder, const char *path, uint64_t flags, mode_t mode)
{
    struct open_how how = {.flags = flags | O_CLOEXEC | O_NOCTTY,
                           .mode = mode,
                           .resolve =
                               RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    int descriptor = (int)syscall(SYS_openat2, folder, path, &how, sizeof(how));
    return descriptor < 0 ? -errno : descriptor;
}

/* The folder that `place` lies in, and its last name. */
static int open_parent(const struct reader *reader, const char *place, const char **out_name)
{
    const char *slash = strrchr(place, '/');
    *out_name = slash ? slash + 1 : place;
    cleanup_free char *parent =
        slash ? text_copy_size(place, (size_t)(slash - place)) : text_copy(".");
    return open_beneath(reader->folder, parent, O_RDONLY | O_DIRECTORY, 0);
}

static int make_folder(struct reader *reader, int parent, const char *name, mode_t mode)
{
    /* Its contents must be writable to us while they arrive. */
    if (mkdirat(parent, name, mode | 0700) < 0 && errno != EEXIST)
        return -errno;
    struct stat status;
    if (fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    return S_ISDIR(status.st_mode) ? 0 : -ENOTDIR;
}

static int copy_contents(struct reader *reader, int out, uint64_t size)
{
    char data[64 * TAR_BLOCK];
    int result = 0;
    while (size && result == 0) {
        uint64_t part = size < sizeof(data) ? size : sizeof(data);
        size_t padded = (part + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
        result = read_block(reader, data, padded);
        if (result <= 0)
            return result < 0 ? result : malformed(reader, "it is cut off");
        result = out >= 0 ? write_fully(out, data, part) : 0;
        if (result < 0)
            error_set_errno(reader->error, result, "cannot write");
        size -= part;
    }
    return result;
}

static int make_file(struct reader *reader, int parent, const char *name, mode_t mode,
                     uint64_t size, uint64_t modified)
{
    if (unlinkat(parent, name, 0) < 0 && errno != ENOENT)
        return error_set_errno(reader->error, -errno, "cannot replace %s", name);
    cleanup_close int out =
        openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode & 0777);
    if (out < 0)
        return error_set_errno(reader->error, -errno, "cannot make %s", name);
    int result = copy_contents(reader, out, size);
    if (result == 0) {
        struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = (time_t)modified}};
        futimens(out, times);
    }
    return result;
}

static int make_link(struct reader *reader, int parent, const char *name, char type,
                     const char *link)
{
    if (unlinkat(parent, name, 0) < 0 && errno != ENOENT)
        return -errno;
    if (type == '2')
        return symlinkat(link, parent, name) < 0 ? -errno : 0;
    cleanup_free char *place = place_of(reader, link);
    if (!place)
        return -EXDEV;
    const char *existing;
    cleanup_close int folder = open_parent(reader, place, &existing);
    if (folder < 0)
        return folder;
    return linkat(folder, existing, parent, name, 0) < 0 ? -errno : 0;
}

static int take_entry(struct reader *reader, const struct tar_header *header, const char *name,
                      const char *link, uint64_t size)
{
    mode_t mode = (mode_t)get_number(header->mode, sizeof(header->mode));
    cleanup_free char *place = place_of(reader, name);
    if (!place)
        return error_set(reader->error, -EPERM,
                         "the sandbox sent a name that was not asked for: %s", name);
    const char *last;
    cleanup_close int parent = open_parent(reader, place, &last);
    if (parent < 0)
        return error_set_errno(reader->error, parent, "cannot write %s", place);
    int result = 0;
    reader->entry_count++;
    switch (header->type) {
    case '0':
    case '\0':
    case '7':
        return make_file(reader, parent, last, mode, size,
                         get_number(header->modified, sizeof(header->modified)));
    case '5':
        result = make_folder(reader, parent, last, mode & 0777);
        break;
    case '1':
    case '2':
        result = make_link(reader, parent, last, header->type, link);
        break;
    default:
        note("%s is left out: it is neither a file, nor a folder, nor a link", place);
    }
    if (result < 0)
        return error_set_errno(reader->error, result, "cannot make %s", place);
    return copy_contents(reader, -1, size);
}

static int next_entry(struct reader *reader, const struct tar_header *header)
{
    uint64_t size = get_number(header->size, sizeof(header->size));
    cleanup_free char *text = NULL;
    int result;
    switch (header->type) {
    case 'L':
    case 'K': {
        char **place = header->type == 'L' ? &reader->name : &reader->link;
        free(*place);
        *place = NULL;
        return read_text(reader, size, place);
    }
    case 'x':
        result = read_text(reader, size, &text);
        if (result == 0)
            take_records(reader, text, size);
        return result;
    case 'g':
        return read_text(reader, size, &text);
    }
    if (reader->has_size)
        size = reader->size;
    cleanup_free char *name = reader->name ? take_pointer(reader->name)
                              : header->prefix[0] && memcmp(header->magic, "ustar\0", 6) == 0
                                  ? text_print("%.155s/%.100s", header->prefix, header->name)
                                  : text_print("%.100s", header->name);
    cleanup_free char *link =
        reader->link ? take_pointer(reader->link) : text_print("%.100s", header->link);
    reader->has_size = false;
    return take_entry(reader, header, name, link, size);
}

int tar_read(int in, int folder, const char *source, const char *target, struct error *error)
{
    struct reader reader = {
        .in = in, .folder = folder, .source = source, .target = target, .error = error};
    int result;
    for (;;) {
        struct tar_header header;
        result = read_block(&reader, &header, sizeof(header));
        if (result <= 0)
            break;
        /* A block of zeros ends the archive; what follows is padding. */
        if (header.name[0] == '\0' && header.type == '\0' && get_number(header.checksum, 8) == 0) {
            char rest[4096];
            while (read(in, rest, sizeof(rest)) > 0)
                ;
            result = 0;
            break;
        }
        if (get_number(header.checksum, sizeof(header.checksum)) != tar_checksum(&header))
            result = malformed(&reader, "a checksum is wrong");
        else
            result = next_entry(&reader, &header);
        if (result < 0)
            break;
    }
    free(reader.name);
    free(reader.link);
    if (result == 0 && reader.entry_count == 0)
        result = error_set(error, -ENOENT, "nothing was received");
    return result;
}
