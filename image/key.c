/* Key files. */
#include "image/key.h"

#include <base/cleanup.h>
#include <base/path.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static int digit(char character)
{
    if (character >= '0' && character <= '9')
        return character - '0';
    character = (char)(character | 0x20);
    return character >= 'a' && character <= 'f' ? character - 'a' + 10 : -1;
}

static int refuse_form(const char *path, struct error *error)
{
    error_set(error, -EINVAL, "the key file %s does not hold a key: 64 hexadecimal digits", path);
    return error_hint(error, "bailey migrate --new-key FILE makes one");
}

int img_key_read(const char *path, unsigned char out_key[IMG_KEY_SIZE], struct error *error)
{
    struct stat status;
    char text[2 * IMG_KEY_SIZE + 3];
    cleanup_close int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0 || fstat(file, &status) < 0)
        return error_set_errno(error, -errno, "cannot read the key file %s", path);
    if (!S_ISREG(status.st_mode))
        return error_set(error, -EINVAL, "the key file %s is no file", path);
    if ((status.st_uid != geteuid() && status.st_uid != 0) || status.st_mode & 077)
        return error_set(error, -EACCES,
                         "others than you can read or change the key file %s: chmod 600 it, and "
                         "make a new key if anyone may have seen this one",
                         path);
    ssize_t size = read(file, text, sizeof(text));
    if (size < 0)
        return error_set_errno(error, -errno, "cannot read the key file %s", path);
    while (size > 0 && isspace((unsigned char)text[size - 1]))
        size--;
    if (size != 2 * IMG_KEY_SIZE)
        return refuse_form(path, error);
    for (size_t i = 0; i < IMG_KEY_SIZE; i++) {
        int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return refuse_form(path, error);
        out_key[i] = (unsigned char)(high << 4 | low);
    }
    explicit_bzero(text, sizeof(text));
    return 0;
}

int img_key_make(const char *path, struct error *error)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char key[IMG_KEY_SIZE];
    char text[2 * IMG_KEY_SIZE + 1];
    if (getrandom(key, sizeof(key), 0) != (ssize_t)sizeof(key))
        return error_set_errno(error, -EIO, "cannot make a key");
    for (size_t i = 0; i < sizeof(key); i++) {
        text[2 * i] = digits[key[i] >> 4];
        text[2 * i + 1] = digits[key[i] & 15];
    }
    text[sizeof(text) - 1] = '\n';
    int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file < 0)
        return error_set_errno(error, -errno, "cannot make the key file %s", path);
    int result = write_fully(file, text, sizeof(text));
    if (result == 0 && fsync(file) < 0)
        result = -errno;
    close(file);
    explicit_bzero(key, sizeof(key));
    explicit_bzero(text, sizeof(text));
    if (result < 0) {
        unlink(path);
        return error_set_errno(error, result, "cannot make the key file %s", path);
    }
    return 0;
}
