/* no-namespaces PROGRAM [ARGUMENTS]: runs it where user namespaces are forbidden, as on Ubuntu, whatever the host allows: inside one more
 * user namespace, same user, whose limit of further ones is 0. The program has no capabilities. Root becomes user 65534. Exits 77
 * when even this one namespace cannot be made: then the host forbids them itself. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static int write_file(const char *path, const char *text)
{
    int file = open(path, O_WRONLY);
    int result = file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -1;
    if (file >= 0)
        close(file);
    return result;
}

int main(int argc, char **argv)
{
    char map[64];
    if (argc < 2)
        return 125;
    if (geteuid() == 0 && (setgroups(0, NULL) < 0 || setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0))
        return 125;
    prctl(PR_SET_DUMPABLE, 1); /* the change of user made /proc/self root's */
    unsigned user = geteuid(), group = getegid();
    if (unshare(CLONE_NEWUSER) < 0)
        return 77;
    write_file("/proc/self/setgroups", "deny");
    snprintf(map, sizeof(map), "%u %u 1", user, user);
    if (write_file("/proc/self/uid_map", map) < 0)
        return 77;
    snprintf(map, sizeof(map), "%u %u 1", group, group);
    if (write_file("/proc/self/gid_map", map) < 0 || write_file("/proc/sys/user/max_user_namespaces", "0") < 0)
        return 77;
    execvp(argv[1], argv + 1);
    return 127;
}
