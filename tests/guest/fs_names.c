/* Making, linking, renaming and removing names; reading folders. */
#include "fs.h"
#include <linux/fs.h>

static int rename2(const char *from, const char *to, unsigned flags)
{
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags);
}

static void folders_count_their_links(void)
{
    nlink_t before = stat_of(".").st_nlink;
    CHECK(mkdir("a", 0755) == 0);
    CHECK_EQUAL(stat_of(".").st_nlink, before + 1);
    CHECK_EQUAL(stat_of("a").st_nlink, 2);
    CHECK(mkdir("a/b", 0755) == 0);
    CHECK_EQUAL(stat_of("a").st_nlink, 3);
    CHECK_ERROR(mkdir("a", 0755), EEXIST);
    CHECK_ERROR(rmdir("a"), ENOTEMPTY);
    CHECK_ERROR(unlink("a"), EISDIR);
    CHECK(rename("a/b", "b") == 0);
    CHECK_EQUAL(stat_of("a").st_nlink, 2);
    CHECK_EQUAL(stat_of(".").st_nlink, before + 2);
    CHECK(rmdir("a") == 0 && rmdir("b") == 0);
    CHECK_EQUAL(stat_of(".").st_nlink, before);
    CHECK_ERROR(rmdir("a"), ENOENT);
}

static void hard_links_are_one_file(void)
{
    make_file("a", "one");
    CHECK(link("a", "b") == 0);
    CHECK(stat_of("a").st_ino == stat_of("b").st_ino);
    CHECK_EQUAL(stat_of("a").st_nlink, 2);
    make_file("b", "two");
    CHECK(has_text("a", "two"));
    CHECK_ERROR(link("a", "b"), EEXIST);
    CHECK_ERROR(link("absent", "c"), ENOENT);
    CHECK(mkdir("d", 0755) == 0);
    CHECK_ERROR(link("d", "e"), EPERM);
    CHECK(unlink("a") == 0);
    CHECK_EQUAL(stat_of("b").st_nlink, 1);
    CHECK(symlink("b", "s") == 0 && link("s", "t") == 0);
    CHECK(S_ISLNK(stat_of("t").st_mode));
    CHECK(linkat(AT_FDCWD, "s", AT_FDCWD, "u", AT_SYMLINK_FOLLOW) == 0);
    CHECK(S_ISREG(stat_of("u").st_mode));
    CHECK(rename("b", "u") == 0 && exists("b")); /* two names of one file: nothing happens */
}

static void open_files_survive_their_names(void)
{
    char text[16] = "";
    struct stat status;
    make_file("f", "still");
    int fd = open("f", O_RDWR);
    CHECK(unlink("f") == 0);
    CHECK_ERROR(open("f", O_RDONLY), ENOENT);
    CHECK(fstat(fd, &status) == 0);
    CHECK_EQUAL(status.st_nlink, 0);
    CHECK(read(fd, text, 5) == 5 && !strcmp(text, "still"));
    CHECK(write(fd, "more", 4) == 4);
    CHECK(pread(fd, text, 16, 0) == 9);
    make_file("f", "new");
    CHECK(pread(fd, text, 16, 0) == 9 && has_text("f", "new"));
}

static void rename_replaces(void)
{
    make_file("a", "A");
    make_file("b", "B");
    ino_t inode = stat_of("a").st_ino;
    CHECK(rename("a", "b") == 0);
    CHECK(!exists("a") && has_text("b", "A") && stat_of("b").st_ino == inode);
    CHECK_ERROR(rename("a", "c"), ENOENT);
    CHECK(mkdir("d", 0755) == 0 && mkdir("e", 0755) == 0);
    CHECK_ERROR(rename("b", "d"), EISDIR);
    CHECK_ERROR(rename("d", "b"), ENOTDIR);
    make_file("e/x", "x");
    CHECK_ERROR(rename("d", "e"), ENOTEMPTY);
    CHECK(rename("e", "d") == 0 && has_text("d/x", "x") && !exists("e"));
    CHECK_ERROR(rename("d", "d/sub"), EINVAL);
    CHECK(mkdir("d/sub", 0755) == 0);
    CHECK_ERROR(rename("d", "d/sub/deeper"), EINVAL);
    CHECK_ERROR(rename("d/sub", "d"), ENOTEMPTY);
    CHECK_ERROR(rename("d/.", "e"), EBUSY);
    CHECK_ERROR(rename("d/sub/..", "e"), EBUSY);
    CHECK_ERROR(rename("b/", "c"), ENOTDIR);
    CHECK_ERROR(rename("b", "c/"), ENOTDIR);
    CHECK(rename("d/", "f/") == 0 && exists("f/x"));
    CHECK_ERROR(rename("b", "absent/b"), ENOENT);
}

static void rename_flags_are_kept(void)
{
    make_file("a", "A");
    make_file("b", "B");
    CHECK_ERROR(rename2("a", "b", RENAME_NOREPLACE), EEXIST);
    CHECK(rename2("a", "c", RENAME_NOREPLACE) == 0 && has_text("c", "A"));
    CHECK(rename2("b", "c", RENAME_EXCHANGE) == 0);
    CHECK(has_text("b", "A") && has_text("c", "B"));
    CHECK_ERROR(rename2("b", "absent", RENAME_EXCHANGE), ENOENT);
    CHECK(mkdir("d", 0755) == 0);
    make_file("d/in", "in");
    CHECK(rename2("b", "d", RENAME_EXCHANGE) == 0);
    CHECK(has_text("b/in", "in") && has_text("d", "A"));
    CHECK_ERROR(rename2("b", "c", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
    CHECK_ERROR(rename2("b", "c", 1u << 20), EINVAL);
    CHECK_ERROR(rename2("b", "b/x", RENAME_EXCHANGE), ENOENT);
    CHECK(mkdir("b/x", 0755) == 0);
    CHECK_ERROR(rename2("b", "b/x", RENAME_EXCHANGE), EINVAL);
}

static void folder_moves_take_all_along(void)
{
    CHECK(mkdir("a", 0755) == 0 && mkdir("a/b", 0755) == 0 && mkdir("a/b/c", 0755) == 0 && mkdir("z", 0755) == 0);
    make_file("a/b/c/f", "deep");
    CHECK(chdir("a/b/c") == 0);
    CHECK(rename("../../../a/b", "../../../z/y") == 0);
    char path[PATH_MAX], expected[PATH_MAX + 16];
    snprintf(expected, sizeof expected, "%s/z/y/c", test_folder);
    CHECK(getcwd(path, sizeof path) && strcmp(path, expected) == 0);
    CHECK(has_text("f", "deep"));
    CHECK(chdir("../..") == 0 && exists("y/c/f"));
    struct stat up, z;
    CHECK(stat("y/..", &up) == 0 && stat(".", &z) == 0 && up.st_ino == z.st_ino);
}

static int count_entries(const char *name)
{
    DIR *folder = opendir(name);
    int count = 0;
    CHECK(folder != NULL);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

static void every_name_is_listed_once(void)
{
    char name[64], seen[500] = { 0 };
    CHECK(mkdir("d", 0755) == 0);
    for (int i = 0; i < 500; i++) {
        snprintf(name, sizeof name, "d/file-with-a-rather-long-name-%d", i);
        make_file(name, "");
    }
    CHECK_EQUAL(count_entries("d"), 502);
    DIR *folder = opendir("d");
    struct dirent *entry;
    int dots = 0, removed = 0;
    while ((entry = readdir(folder))) {
        int number;
        if (entry->d_name[0] == '.') {
            dots++;
            CHECK(entry->d_type == DT_DIR);
            continue;
        }
        CHECK(sscanf(entry->d_name, "file-with-a-rather-long-name-%d", &number) == 1);
        CHECK(!seen[number]++);
        snprintf(name, sizeof name, "d/%s", entry->d_name);
        CHECK(stat_of(name).st_ino == entry->d_ino && entry->d_type == DT_REG);
        CHECK(unlink(name) == 0); /* removing while reading, as rm -r does */
        removed++;
    }
    closedir(folder);
    CHECK(dots == 2 && removed == 500);
    CHECK(rmdir("d") == 0);
}

static void a_position_in_a_folder_can_be_kept(void)
{
    char name[64];
    CHECK(mkdir("d", 0755) == 0);
    for (int i = 0; i < 50; i++) {
        snprintf(name, sizeof name, "d/%d", i);
        make_file(name, "");
    }
    DIR *folder = opendir("d");
    for (int i = 0; i < 20; i++)
        CHECK(readdir(folder) != NULL);
    long position = telldir(folder);
    struct dirent *entry = readdir(folder);
    snprintf(name, sizeof name, "%s", entry->d_name);
    while (readdir(folder))
        ;
    seekdir(folder, position);
    CHECK(strcmp(readdir(folder)->d_name, name) == 0);
    rewinddir(folder);
    int count = 0;
    while (readdir(folder))
        count++;
    CHECK_EQUAL(count, 52);
    closedir(folder);
    int fd = open("d", O_RDONLY);
    char small[16];
    CHECK_ERROR(syscall(SYS_getdents64, fd, small, sizeof small), EINVAL);
    CHECK_ERROR(syscall(SYS_getdents64, fd, (void *)8, 4096), EFAULT);
    CHECK_ERROR(read(fd, small, 1), EISDIR);
    int file = open("d/1", O_RDONLY);
    CHECK_ERROR(syscall(SYS_getdents64, file, small, sizeof small), ENOTDIR);
    int gone = (mkdir("gone", 0755), open("gone", O_RDONLY));
    CHECK(rmdir("gone") == 0);
    CHECK_ERROR(syscall(SYS_getdents64, gone, name, sizeof name), ENOENT);
}

static void sticky_folders_protect(void)
{
    if (geteuid() != 0)
        exit(0);
    CHECK(chmod(".", 0755) == 0);
    CHECK(mkdir("s", 0777) == 0 && chmod("s", 01777) == 0);
    make_file("s/roots", "x");
    CHECK(chmod("s/roots", 0666) == 0);
    AS_OTHER_USER({
        CHECK_ERROR(unlink("s/roots"), EPERM);
        CHECK_ERROR(rename("s/roots", "s/mine"), EPERM);
        make_file("s/own", "y");
        CHECK(stat_of("s/own").st_uid == 1234);
        CHECK_ERROR(rename("s/own", "s/roots"), EPERM);
        CHECK(unlink("s/own") == 0);
        CHECK(open("s/roots", O_RDWR) >= 0);
    });
}

static void nodes_of_all_kinds(void)
{
    CHECK(mkfifo("fifo", 0644) == 0 && S_ISFIFO(stat_of("fifo").st_mode));
    CHECK(mknod("socket", S_IFSOCK | 0644, 0) == 0 && S_ISSOCK(stat_of("socket").st_mode));
    CHECK(mknod("file", S_IFREG | 0600, 0) == 0 && S_ISREG(stat_of("file").st_mode));
    CHECK(mknod("plain", 0600, 0) == 0 && S_ISREG(stat_of("plain").st_mode));
    CHECK_ERROR(mknod("dir", S_IFDIR | 0600, 0), EPERM);
    CHECK_ERROR(mknod("what", 0170000, 0), EINVAL);
    CHECK_ERROR(mkfifo("fifo", 0644), EEXIST);
    CHECK_ERROR(open("socket", O_RDWR), ENXIO);
    CHECK_ERROR(open("fifo", O_WRONLY | O_NONBLOCK), ENXIO);
    umask(077);
    CHECK(mkdir("d", 0777) == 0 && mkfifo("f2", 0666) == 0);
    CHECK_EQUAL(stat_of("d").st_mode & 07777, 0700);
    CHECK_EQUAL(stat_of("f2").st_mode & 07777, 0600);
    CHECK_EQUAL(umask(022), 077);
}

static void groups_are_inherited(void)
{
    if (geteuid() != 0)
        exit(0);
    CHECK(mkdir("g", 0755) == 0 && chown("g", 0, 4321) == 0 && chmod("g", 02755) == 0);
    make_file("g/f", "");
    CHECK_EQUAL(stat_of("g/f").st_gid, 4321);
    CHECK(mkdir("g/d", 0755) == 0);
    CHECK_EQUAL(stat_of("g/d").st_gid, 4321);
    CHECK(stat_of("g/d").st_mode & S_ISGID);
}

static const struct guest_case cases[] = {
    GUEST_CASE(folders_count_their_links),
    GUEST_CASE(hard_links_are_one_file),
    GUEST_CASE(open_files_survive_their_names),
    GUEST_CASE(rename_replaces),
    GUEST_CASE(rename_flags_are_kept),
    GUEST_CASE(folder_moves_take_all_along),
    GUEST_CASE(every_name_is_listed_once),
    GUEST_CASE(a_position_in_a_folder_can_be_kept),
    GUEST_CASE(sticky_folders_protect),
    GUEST_CASE(nodes_of_all_kinds),
    GUEST_CASE(groups_are_inherited),
};
FS_MAIN(cases)
