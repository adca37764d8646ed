/* Modes, owners, times and extended attributes of files. */
#include "fs.h"
#include <sys/time.h>
#include <sys/xattr.h>
#include <time.h>
#include <utime.h>

static void modes_are_set(void)
{
    make_file("f", "x");
    CHECK(chmod("f", 04751) == 0);
    CHECK_EQUAL(stat_of("f").st_mode & 07777, 04751);
    int fd = open("f", O_RDWR);
    CHECK(fchmod(fd, 0600) == 0);
    CHECK_EQUAL(stat_of("f").st_mode & 07777, 0600);
    CHECK(mkdir("d", 0700) == 0 && chmod("d", 01777) == 0);
    CHECK_EQUAL(stat_of("d").st_mode & 07777, 01777);
    CHECK_ERROR(chmod("absent", 0600), ENOENT);
    CHECK_ERROR(fchmod(99, 0600), EBADF);
    CHECK(fchmodat(AT_FDCWD, "f", 0644, 0) == 0);
    umask(027);
    CHECK(open("g", O_CREAT | O_RDWR, 0777) >= 0);
    CHECK_EQUAL(stat_of("g").st_mode & 07777, 0750);
    if (geteuid() != 0)
        return;
    CHECK(chmod(".", 0755) == 0);
    AS_OTHER_USER({
        CHECK_ERROR(chmod("f", 0777), EPERM);
        CHECK_ERROR(chown("f", 1234, 1234), EPERM);
        CHECK_ERROR(utimes("f", NULL), EACCES);
    });
}

static void access_is_told(void)
{
    make_file("f", "x");
    CHECK(access("f", F_OK) == 0 && access("f", R_OK | W_OK) == 0);
    CHECK_ERROR(access("absent", F_OK), ENOENT);
    CHECK_ERROR(access("f", 077), EINVAL);
    CHECK(chmod("f", 0) == 0);
    CHECK_ERROR(access("f", X_OK), EACCES);
    CHECK(chmod("f", 0100) == 0 && access("f", X_OK) == 0);
    if (geteuid() != 0)
        return;
    CHECK(access("f", R_OK) == 0);
    CHECK(chmod(".", 0755) == 0 && chmod("f", 0640) == 0);
    AS_OTHER_USER({
        CHECK_ERROR(access("f", R_OK), EACCES);
        CHECK(access("f", F_OK) == 0);
    });
    CHECK(chmod("f", 0600) == 0);
    pid_t child = fork();
    if (child == 0) { /* the real ids count, unless AT_EACCESS says otherwise */
        CHECK(setresuid(1234, 0, 0) == 0);
        CHECK_ERROR(access("f", R_OK), EACCES);
        CHECK(faccessat(AT_FDCWD, "f", R_OK, AT_EACCESS) == 0);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void owners_are_set(void)
{
    if (geteuid() != 0)
        exit(0);
    make_file("f", "x");
    CHECK(symlink("f", "l") == 0);
    CHECK(chmod("f", 06755) == 0);
    CHECK(chown("f", 10, 20) == 0);
    struct stat s = stat_of("f");
    CHECK(s.st_uid == 10 && s.st_gid == 20 && (s.st_mode & 07777) == 0755);
    CHECK(chown("f", (uid_t)-1, 30) == 0);
    s = stat_of("f");
    CHECK(s.st_uid == 10 && s.st_gid == 30);
    CHECK(lchown("l", 11, 12) == 0 && stat_of("l").st_uid == 11 && stat_of("f").st_uid == 10);
    CHECK(chown("l", 13, 14) == 0 && stat_of("f").st_uid == 13 && stat_of("l").st_uid == 11);
    int fd = open("f", O_RDONLY);
    CHECK(fchown(fd, 0, 0) == 0 && stat_of("f").st_uid == 0);
    CHECK_ERROR(fchownat(AT_FDCWD, "f", 0, 0, 0x10000000), EINVAL);
    CHECK(fchownat(fd, "", 5, 5, AT_EMPTY_PATH) == 0 && stat_of("f").st_uid == 5);
}

static void writing_by_others_drops_set_id_bits(void)
{
    if (geteuid() != 0)
        exit(0);
    CHECK(chmod(".", 0755) == 0);
    make_file("f", "x");
    CHECK(chown("f", 1234, 1234) == 0 && chmod("f", 06777) == 0);
    AS_OTHER_USER({
        int fd = open("f", O_WRONLY);
        CHECK(fd >= 0 && write(fd, "y", 1) == 1);
    });
    CHECK_EQUAL(stat_of("f").st_mode & 07777, 0777);
}

static void times_are_set(void)
{
    make_file("f", "x");
    struct timespec t[2] = { { 1000000000, 123456789 }, { 2000000000, 987654321 } };
    CHECK(utimensat(AT_FDCWD, "f", t, 0) == 0);
    struct stat s = stat_of("f");
    CHECK(s.st_atim.tv_sec == 1000000000 && s.st_atim.tv_nsec == 123456789);
    CHECK(s.st_mtim.tv_sec == 2000000000 && s.st_mtim.tv_nsec == 987654321);
    t[0].tv_nsec = UTIME_OMIT;
    t[1].tv_nsec = UTIME_NOW;
    CHECK(utimensat(AT_FDCWD, "f", t, 0) == 0);
    s = stat_of("f");
    CHECK(s.st_atim.tv_sec == 1000000000 && llabs((long long)s.st_mtim.tv_sec - time(NULL)) < 5);
    t[0].tv_nsec = 1000000000;
    CHECK_ERROR(utimensat(AT_FDCWD, "f", t, 0), EINVAL);
    struct timeval v[2] = { { 5, 6 }, { -7, 8 } };
    CHECK(utimes("f", v) == 0);
    s = stat_of("f");
    CHECK(s.st_atim.tv_sec == 5 && s.st_atim.tv_nsec == 6000);
    CHECK(s.st_mtim.tv_sec == -7 && s.st_mtim.tv_nsec == 8000);
    CHECK(symlink("f", "l") == 0);
    t[0] = t[1] = (struct timespec){ 77, 0 };
    CHECK(utimensat(AT_FDCWD, "l", t, AT_SYMLINK_NOFOLLOW) == 0);
    CHECK(stat_of("l").st_mtim.tv_sec == 77 && stat_of("f").st_mtim.tv_sec == -7);
    int fd = open("f", O_RDONLY);
    CHECK(futimens(fd, t) == 0 && stat_of("f").st_mtim.tv_sec == 77);
    struct utimbuf u = { 1, 2 };
    CHECK(utime("f", &u) == 0 && stat_of("f").st_mtim.tv_sec == 2);
    CHECK_ERROR(utimensat(AT_FDCWD, "absent", t, 0), ENOENT);
}

static void times_follow_changes(void)
{
    struct timespec old[2] = { { 1000, 0 }, { 1000, 0 } };
    time_t now = time(NULL);
    make_file("f", "x");
    CHECK(mkdir("d", 0755) == 0);
    CHECK(utimensat(AT_FDCWD, "f", old, 0) == 0 && utimensat(AT_FDCWD, "d", old, 0) == 0);
    CHECK(stat_of("f").st_ctim.tv_sec >= now);
    int fd = open("f", O_WRONLY);
    CHECK(stat_of("f").st_mtim.tv_sec == 1000);
    CHECK(write(fd, "y", 1) == 1);
    CHECK(stat_of("f").st_mtim.tv_sec >= now - 1);
    make_file("d/x", "");
    CHECK(stat_of("d").st_mtim.tv_sec >= now - 1);
    CHECK(utimensat(AT_FDCWD, "d", old, 0) == 0 && unlink("d/x") == 0);
    CHECK(stat_of("d").st_mtim.tv_sec >= now - 1);
    char c;
    CHECK(utimensat(AT_FDCWD, "f", old, 0) == 0);
    int in = open("f", O_RDONLY);
    CHECK(read(in, &c, 1) == 1);
    CHECK(stat_of("f").st_atim.tv_sec >= now - 1 || stat_of("f").st_atim.tv_sec == 1000); /* noatime mounts */
}

static void statx_tells_more(void)
{
    struct statx x;
    make_file("f", "four");
    CHECK(statx(AT_FDCWD, "f", 0, STATX_ALL, &x) == 0);
    CHECK((x.stx_mask & STATX_BASIC_STATS) == STATX_BASIC_STATS);
    CHECK(x.stx_size == 4 && x.stx_nlink == 1 && S_ISREG(x.stx_mode) && x.stx_ino == stat_of("f").st_ino);
    CHECK(statx(AT_FDCWD, "", AT_EMPTY_PATH, STATX_ALL, &x) == 0 && S_ISDIR(x.stx_mode));
    CHECK_ERROR(statx(AT_FDCWD, "f", 0x4000000, STATX_ALL, &x), EINVAL);
    CHECK_ERROR(statx(AT_FDCWD, "f", 0, 0x80000000u, &x), EINVAL);
    CHECK_ERROR(statx(AT_FDCWD, "f", 0, STATX_ALL, (void *)8), EFAULT);
    struct statfs fs;
    CHECK(statfs(".", &fs) == 0 && fs.f_bsize > 0 && fs.f_namelen == 255);
    int fd = open("f", O_RDONLY);
    CHECK(fstatfs(fd, &fs) == 0);
    CHECK_ERROR(statfs("absent", &fs), ENOENT);
    CHECK_ERROR(fstatfs(99, &fs), EBADF);
}

static void user_attributes_are_kept(void)
{
    char b[64], list[256];
    make_file("f", "x");
    if (setxattr("f", "user.one", "1", 1, 0) < 0 && errno == EOPNOTSUPP)
        exit(0);
    CHECK(setxattr("f", "user.two", "second", 6, XATTR_CREATE) == 0);
    CHECK_EQUAL(getxattr("f", "user.two", b, sizeof b), 6);
    CHECK(!memcmp(b, "second", 6));
    CHECK_EQUAL(getxattr("f", "user.two", NULL, 0), 6);
    CHECK_ERROR(getxattr("f", "user.two", b, 3), ERANGE);
    CHECK_ERROR(getxattr("f", "user.none", b, 3), ENODATA);
    CHECK_ERROR(setxattr("f", "user.one", "x", 1, XATTR_CREATE), EEXIST);
    CHECK_ERROR(setxattr("f", "user.none", "x", 1, XATTR_REPLACE), ENODATA);
    CHECK(setxattr("f", "user.one", "", 0, XATTR_REPLACE) == 0 && getxattr("f", "user.one", b, 64) == 0);
    CHECK_ERROR(setxattr("f", "user.one", "x", 1, 77), EINVAL);
    CHECK_ERROR(setxattr("f", "nonsense", "x", 1, 0), EOPNOTSUPP);
    CHECK_ERROR(setxattr("f", "", "x", 1, 0), ERANGE);
    ssize_t size = listxattr("f", list, sizeof list);
    CHECK(size >= 18 && memmem(list, (size_t)size, "user.one", 9) && memmem(list, (size_t)size, "user.two", 9));
    CHECK_EQUAL(listxattr("f", NULL, 0), size);
    CHECK_ERROR(listxattr("f", list, 5), ERANGE);
    CHECK(removexattr("f", "user.one") == 0);
    CHECK_ERROR(removexattr("f", "user.one"), ENODATA);
    CHECK_ERROR(getxattr("absent", "user.one", b, 1), ENOENT);
    int fd = open("f", O_RDONLY);
    CHECK(fsetxattr(fd, "user.fd", "v", 1, 0) == 0 && fgetxattr(fd, "user.fd", b, 64) == 1);
    CHECK(fremovexattr(fd, "user.fd") == 0 && flistxattr(fd, list, sizeof list) < size);
    CHECK(symlink("f", "l") == 0);
    CHECK_ERROR(lsetxattr("l", "user.x", "v", 1, 0), EPERM);
}

static const struct guest_case cases[] = {
    GUEST_CASE(modes_are_set),
    GUEST_CASE(access_is_told),
    GUEST_CASE(owners_are_set),
    GUEST_CASE(writing_by_others_drops_set_id_bits),
    GUEST_CASE(times_are_set),
    GUEST_CASE(times_follow_changes),
    GUEST_CASE(statx_tells_more),
    GUEST_CASE(user_attributes_are_kept),
};
FS_MAIN(cases)
