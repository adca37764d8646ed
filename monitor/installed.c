/* Finds Bailey's own files. The places are tried in an order that serves an installed program first, then one in its build folder, then
 * the tests' there. */
#include "monitor/installed.h"

#include "base/cleanup.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int open_in(const char *folder, const char *place, const char *name, char **out_path)
{
    cleanup_free char *path = text_print("%s/%s%s", folder, place, name);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return -errno;
    if (out_path) {
        *out_path = path;
        path = NULL;
    }
    return file;
}

int mon_open_installed(const char *name, char **out_path, struct error *error)
{
    static const char *const places[] = {"../libexec/bailey/", "", "../personality/linux/", "../../personality/linux/",
                                         "personality/linux/"};
    char self[PATH_MAX];
    const char *folder = secure_getenv("BAILEY_LIBEXEC");
    if (folder) {
        int file = open_in(folder, "", name, out_path);
        return file >= 0 ? file : error_set_errno(error, file, "cannot open %s/%s, named by BAILEY_LIBEXEC", folder, name);
    }
    ssize_t size = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (size < 0)
        return error_set_errno(error, -errno, "cannot read /proc/self/exe, which tells where Bailey is installed");
    self[size] = '\0';
    char *slash = strrchr(self, '/');
    if (slash)
        *slash = '\0';
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        int file = open_in(self, places[i], name, out_path);
        if (file >= 0)
            return file;
    }
    return error_set(error, -ENOENT, "a part of Bailey, %s, is not installed (looked in %s/../libexec/bailey)", name, self);
}
