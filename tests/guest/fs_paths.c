/* path_resolution(7): from names to files. */
#include "fs.h"
#include <linux/openat2.h>

static void missing_names_are_ENOENT(void)
{
    struct stat status;
    CHECK_ERROR(stat("absent", &status), ENOENT);
    CHECK_ERROR(stat("absent/below", &status), ENOENT);
    CHECK_ERROR(stat("", &status), ENOENT);
    CHECK_ERROR(open("", O_RDONLY), ENOENT);
    CHECK_ERROR(chdir(""), ENOENT);
    CHECK_ERROR(open("absent/file", O_CREAT | O_RDWR, 0600), ENOENT);
    CHECK_ERROR(stat((char *)8, &status), EFAULT);
    CHECK_ERROR(stat(".", (struct stat *)8), EFAULT);
}

static void files_are_no_folders(void)
{
    struct stat status;
    make_file("file", "x");
    CHECK_ERROR(stat("file/", &status), ENOTDIR);
    CHECK_ERROR(stat("file/x", &status), ENOTDIR);
    CHECK_ERROR(stat("file/.", &status), ENOTDIR);
    CHECK_ERROR(stat("file/..", &status), ENOTDIR);
    CHECK_ERROR(open("file/", O_RDONLY), ENOTDIR);
    CHECK_ERROR(open("file", O_RDONLY | O_DIRECTORY), ENOTDIR);
    CHECK_ERROR(open("file/", O_CREAT | O_RDWR, 0600), EISDIR);
    CHECK_ERROR(open("new/", O_CREAT | O_RDWR, 0600), EISDIR);
    CHECK_ERROR(chdir("file"), ENOTDIR);
    CHECK_ERROR(mkdir("file/x", 0700), ENOTDIR);
    CHECK_ERROR(rmdir("file"), ENOTDIR);
    CHECK_ERROR(unlink("file/"), ENOTDIR);
}

static void slashes_and_dots_do_not_count(void)
{
    struct stat a, b;
    CHECK(mkdir("d", 0755) == 0 && mkdir("d/e", 0755) == 0);
    make_file("d/e/f", "text");
    CHECK(stat("d/e/f", &a) == 0);
    CHECK(stat(".//d///e/./../e//f", &b) == 0);
    CHECK(a.st_ino == b.st_ino && a.st_dev == b.st_dev);
    CHECK(stat("d/e/", &a) == 0 && stat("d/e/.", &b) == 0 && a.st_ino == b.st_ino);
    CHECK(stat("/..", &a) == 0 && stat("/", &b) == 0 && a.st_ino == b.st_ino);
    CHECK(mkdir("new///", 0755) == 0);
    CHECK(rmdir("new//") == 0);
    CHECK_ERROR(mkdir("absent/.", 0755), ENOENT);
    CHECK_ERROR(mkdir("d/.", 0755), EEXIST);
    CHECK_ERROR(mkdir("d/..", 0755), EEXIST);
    CHECK_ERROR(mkdir("/", 0755), EEXIST);
    CHECK_ERROR(rmdir("d/."), EINVAL);
    CHECK_ERROR(rmdir("d/e/.."), ENOTEMPTY);
    CHECK_ERROR(rmdir("/"), EBUSY);
    CHECK_ERROR(unlink("d/."), EISDIR);
    CHECK_ERROR(open("d/.", O_CREAT | O_RDWR, 0600), EISDIR);
}

static void long_names_are_refused(void)
{
    char name[300], path[5000];
    struct stat status;
    memset(name, 'n', 256);
    name[256] = 0;
    CHECK_ERROR(stat(name, &status), ENAMETOOLONG);
    CHECK_ERROR(open(name, O_CREAT | O_RDWR, 0600), ENAMETOOLONG);
    CHECK_ERROR(mkdir(name, 0700), ENAMETOOLONG);
    name[255] = 0;
    CHECK(mkdir(name, 0700) == 0);
    CHECK(stat(name, &status) == 0);
    memset(path, '/', sizeof path);
    path[4096] = 0;
    CHECK_ERROR(stat(path, &status), ENAMETOOLONG);
    path[4095] = 0;
    CHECK(stat(path, &status) == 0);
}

static void links_are_followed(void)
{
    char text[64];
    struct stat status;
    CHECK(mkdir("d", 0755) == 0);
    make_file("d/f", "text");
    CHECK(symlink("d/f", "link") == 0);
    CHECK(symlink("d", "folder") == 0);
    CHECK(symlink("../d/f", "d/up") == 0);
    CHECK(symlink("folder/up", "twice") == 0);
    CHECK(has_text("link", "text") && has_text("folder/f", "text") && has_text("d/up", "text") && has_text("twice", "text"));
    CHECK(lstat("link", &status) == 0 && S_ISLNK(status.st_mode) && status.st_size == 3);
    CHECK_EQUAL(readlink("link", text, sizeof text), 3);
    CHECK(memcmp(text, "d/f", 3) == 0);
    CHECK_EQUAL(readlink("link", text, 2), 2);
    CHECK_ERROR(readlink("link", text, 0), EINVAL);
    CHECK_ERROR(readlink("d/f", text, sizeof text), EINVAL);
    CHECK_ERROR(readlink("absent", text, sizeof text), ENOENT);
    /* A slash at the end follows the link. */
    CHECK(lstat("folder/", &status) == 0 && S_ISDIR(status.st_mode));
    CHECK_ERROR(readlink("folder/", text, sizeof text), EINVAL);
    CHECK_ERROR(lstat("link/", &status), ENOTDIR);
    CHECK_ERROR(open("link", O_RDONLY | O_NOFOLLOW), ELOOP);
    CHECK_ERROR(open("folder", O_RDONLY | O_NOFOLLOW | O_DIRECTORY), ENOTDIR);
    CHECK_ERROR(symlink("", "empty"), ENOENT);
    CHECK_ERROR(symlink("x", "link"), EEXIST);
    CHECK_ERROR(rmdir("folder"), ENOTDIR);
    CHECK_ERROR(rmdir("folder/"), ENOTDIR);
    CHECK(unlink("folder") == 0 && exists("d"));
}

static void loops_end_at_forty(void)
{
    char from[32], to[32];
    struct stat status;
    CHECK(symlink("self", "self") == 0);
    CHECK_ERROR(stat("self", &status), ELOOP);
    CHECK_ERROR(open("self", O_CREAT | O_RDWR, 0600), ELOOP);
    CHECK_ERROR(stat("self/x", &status), ELOOP);
    make_file("l0", "end");
    for (int i = 1; i <= 41; i++) {
        snprintf(from, sizeof from, "l%d", i - 1);
        snprintf(to, sizeof to, "l%d", i);
        CHECK(symlink(from, to) == 0);
    }
    CHECK(stat("l40", &status) == 0);
    CHECK_ERROR(stat("l41", &status), ELOOP);
    CHECK(lstat("l41", &status) == 0);
}

static void dangling_links_can_be_written_through(void)
{
    CHECK(mkdir("d", 0755) == 0);
    CHECK(symlink("d/target", "link") == 0);
    CHECK_ERROR(open("link", O_RDWR), ENOENT);
    CHECK_ERROR(open("link", O_CREAT | O_EXCL | O_RDWR, 0600), EEXIST);
    CHECK_ERROR(open("link", O_CREAT | O_NOFOLLOW | O_RDWR, 0600), ELOOP);
    CHECK_ERROR(mkdir("link", 0700), EEXIST);
    int fd = open("link", O_CREAT | O_RDWR, 0600);
    CHECK(fd >= 0);
    CHECK(exists("d/target"));
    CHECK(symlink("nowhere/x", "far") == 0);
    CHECK_ERROR(open("far", O_CREAT | O_RDWR, 0600), ENOENT);
}

static void descriptors_are_bases(void)
{
    struct stat a, b;
    CHECK(mkdir("d", 0755) == 0);
    make_file("d/f", "text");
    int d = open("d", O_RDONLY | O_DIRECTORY), f = open("d/f", O_RDONLY), p = open("d", O_PATH);
    CHECK(d >= 0 && f >= 0 && p >= 0);
    CHECK(fstatat(d, "f", &a, 0) == 0 && stat("d/f", &b) == 0 && a.st_ino == b.st_ino);
    CHECK(fstatat(p, "f", &a, 0) == 0 && a.st_ino == b.st_ino);
    CHECK_ERROR(fstatat(f, "f", &a, 0), ENOTDIR);
    CHECK_ERROR(fstatat(99, "f", &a, 0), EBADF);
    CHECK(fstatat(99, "/", &a, 0) == 0);
    CHECK(fstatat(f, "", &a, AT_EMPTY_PATH) == 0 && a.st_ino == b.st_ino);
    CHECK_ERROR(fstatat(f, "", &a, 0), ENOENT);
    CHECK(fstatat(AT_FDCWD, "", &a, AT_EMPTY_PATH) == 0 && S_ISDIR(a.st_mode));
    CHECK_ERROR(fstatat(f, "", &a, 0x800000), EINVAL);
    CHECK(rename("d", "moved") == 0);
    CHECK(fstatat(d, "f", &a, 0) == 0 && a.st_ino == b.st_ino);
    CHECK(fchdir(d) == 0 && has_text("f", "text"));
    CHECK(chdir("..") == 0 && exists("moved"));
    CHECK_ERROR(fchdir(f), ENOTDIR);
    CHECK_ERROR(fchdir(99), EBADF);
}

static void path_descriptors_only_name(void)
{
    char byte, path[64];
    make_file("f", "text");
    CHECK(symlink("f", "link") == 0);
    int fd = open("f", O_PATH);
    struct stat status;
    CHECK(fd >= 0 && fstat(fd, &status) == 0 && status.st_size == 4);
    CHECK_ERROR(read(fd, &byte, 1), EBADF);
    CHECK_ERROR(write(fd, &byte, 1), EBADF);
    CHECK_ERROR(lseek(fd, 0, SEEK_SET), EBADF);
    CHECK_ERROR(ftruncate(fd, 0), EBADF);
    CHECK_ERROR(fchmod(fd, 0600), EBADF);
    CHECK_ERROR(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED ? -1 : 0, EBADF);
    CHECK_EQUAL(fcntl(fd, F_GETFL) & O_PATH, O_PATH);
    int link = open("link", O_PATH | O_NOFOLLOW);
    CHECK(link >= 0 && fstat(link, &status) == 0 && S_ISLNK(status.st_mode));
    CHECK_EQUAL(readlinkat(link, "", path, sizeof path), 1);
    CHECK_ERROR(open("absent", O_PATH | O_CREAT, 0600), ENOENT);
    int copy = dup(fd);
    CHECK(copy >= 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int again = open(path, O_RDONLY);
    CHECK(again >= 0 && read(again, &byte, 1) == 1 && byte == 't');
}

static void working_folder_is_known(void)
{
    char path[PATH_MAX];
    CHECK(getcwd(path, sizeof path) != NULL && strcmp(path, test_folder) == 0);
    CHECK_ERROR(syscall(SYS_getcwd, path, 2), ERANGE);
    CHECK(mkdir("gone", 0755) == 0 && chdir("gone") == 0);
    CHECK(rmdir("../gone") == 0);
    CHECK_ERROR(syscall(SYS_getcwd, path, sizeof path), ENOENT);
    CHECK_ERROR(open("f", O_CREAT | O_RDWR, 0600), ENOENT);
    CHECK_ERROR(mkdir("x", 0700), ENOENT);
    struct stat status;
    CHECK(stat(".", &status) == 0 && status.st_nlink == 0);
    CHECK(chdir("..") == 0);
    CHECK(getcwd(path, sizeof path) != NULL && strcmp(path, test_folder) == 0);
}

static void chroot_confines(void)
{
    struct stat root, status;
    if (geteuid() != 0)
        exit(0);
    CHECK(mkdir("jail", 0755) == 0 && mkdir("jail/d", 0755) == 0);
    make_file("jail/d/f", "inside");
    CHECK(symlink("/d/f", "jail/link") == 0);
    CHECK(symlink("/../../../d/f", "jail/up") == 0);
    CHECK(stat("jail", &root) == 0);
    pid_t child = fork();
    if (child == 0) {
        CHECK(chroot("jail") == 0 && chdir("/") == 0);
        CHECK(stat("/", &status) == 0 && status.st_ino == root.st_ino);
        CHECK(stat("/../..", &status) == 0 && status.st_ino == root.st_ino);
        CHECK(has_text("link", "inside") && has_text("up", "inside"));
        char path[64];
        CHECK(getcwd(path, sizeof path) && strcmp(path, "/") == 0);
        _exit(0);
    }
    int end;
    CHECK(waitpid(child, &end, 0) == child && end == 0);
    CHECK_ERROR(chroot("absent"), ENOENT);
    AS_OTHER_USER(CHECK_ERROR(chroot("/"), EPERM));
}

static long open_how(int base, const char *path, uint64_t flags, uint64_t resolve)
{
    struct open_how how = { .flags = flags, .resolve = resolve };
    return syscall(SYS_openat2, base, path, &how, sizeof how);
}

static void openat2_can_be_strict(void)
{
    CHECK(mkdir("d", 0755) == 0 && mkdir("d/e", 0755) == 0);
    make_file("outside", "o");
    make_file("d/f", "f");
    CHECK(symlink("../outside", "d/up") == 0);
    CHECK(symlink("e/../f", "d/inner") == 0);
    CHECK(symlink("/f", "d/absolute") == 0);
    int d = open("d", O_PATH);
    CHECK(open_how(d, "f", O_RDONLY, RESOLVE_BENEATH) >= 0);
    CHECK(open_how(d, "inner", O_RDONLY, RESOLVE_BENEATH) >= 0);
    CHECK_ERROR(open_how(d, "up", O_RDONLY, RESOLVE_BENEATH), EXDEV);
    CHECK_ERROR(open_how(d, "../outside", O_RDONLY, RESOLVE_BENEATH), EXDEV);
    CHECK_ERROR(open_how(d, "absolute", O_RDONLY, RESOLVE_BENEATH), EXDEV);
    CHECK_ERROR(open_how(d, "/f", O_RDONLY, RESOLVE_BENEATH), EXDEV);
    CHECK(open_how(d, "absolute", O_RDONLY, RESOLVE_IN_ROOT) >= 0);
    CHECK(open_how(d, "/f", O_RDONLY, RESOLVE_IN_ROOT) >= 0);
    CHECK(open_how(d, "../../f", O_RDONLY, RESOLVE_IN_ROOT) >= 0);
    CHECK_ERROR(open_how(d, "inner", O_RDONLY, RESOLVE_NO_SYMLINKS), ELOOP);
    CHECK(open_how(d, "inner", O_PATH | O_NOFOLLOW, RESOLVE_NO_SYMLINKS) >= 0);
    CHECK_ERROR(open_how(d, "f", O_RDONLY, 1 << 20), EINVAL);
    CHECK_ERROR(open_how(d, "f", 1ull << 40, 0), EINVAL);
    struct { struct open_how how; uint64_t more; } large = { .more = 1 };
    CHECK_ERROR(syscall(SYS_openat2, d, "f", &large, sizeof large), E2BIG);
    CHECK_ERROR(syscall(SYS_openat2, d, "f", &large, 8), EINVAL);
}

static void search_permission_is_needed(void)
{
    if (geteuid() != 0)
        exit(0);
    CHECK(chmod(".", 0755) == 0);
    CHECK(mkdir("closed", 0700) == 0 && mkdir("open", 0711) == 0);
    make_file("closed/f", "x");
    make_file("open/f", "x");
    AS_OTHER_USER({
        struct stat status;
        CHECK_ERROR(stat("closed/f", &status), EACCES);
        CHECK_ERROR(stat("closed/absent", &status), EACCES);
        CHECK_ERROR(chdir("closed"), EACCES);
        CHECK(stat("closed", &status) == 0);
        CHECK(stat("open/f", &status) == 0);
        CHECK_ERROR(open("open", O_RDONLY), EACCES);
        CHECK(open("open", O_PATH) >= 0);
        CHECK_ERROR(open("open/g", O_CREAT | O_RDWR, 0600), EACCES);
        CHECK_ERROR(unlink("open/f"), EACCES);
        CHECK_ERROR(open("open/f", O_RDWR), EACCES);
        CHECK(open("open/f", O_RDONLY) >= 0);
    });
}

static const struct guest_case cases[] = {
    GUEST_CASE(missing_names_are_ENOENT),
    GUEST_CASE(files_are_no_folders),
    GUEST_CASE(slashes_and_dots_do_not_count),
    GUEST_CASE(long_names_are_refused),
    GUEST_CASE(links_are_followed),
    GUEST_CASE(loops_end_at_forty),
    GUEST_CASE(dangling_links_can_be_written_through),
    GUEST_CASE(descriptors_are_bases),
    GUEST_CASE(path_descriptors_only_name),
    GUEST_CASE(working_folder_is_known),
    GUEST_CASE(chroot_confines),
    GUEST_CASE(openat2_can_be_strict),
    GUEST_CASE(search_permission_is_needed),
};
FS_MAIN(cases)
