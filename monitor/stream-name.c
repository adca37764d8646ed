/* Names of host files: decoding, and the walk beneath a granted folder. Invariant: every lookup is one openat2 with
 * RESOLVE_BENEATH, NO_SYMLINKS and NO_MAGICLINKS relative to a descriptor that was itself reached that way. */
#include "monitor/stream-file.h"

#include "base/cleanup.h"
#include "monitor/audit.h"
#include "monitor/loop.h"
#include "monitor/policy/policy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OPEN_FOLDER_LIFE_NS 1000000000ull
/* The user's whole share is some tens of thousands. Numbers of watches only rise. */
#define WATCH_MAX 8192
#define WATCHED (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB | IN_MODIFY | IN_DELETE_SELF | IN_MOVE_SELF)

static int open_beneath(int root, const char *path, uint64_t flags, uint64_t mode)
{
    struct open_how how = {.flags = flags | O_CLOEXEC,
                           .mode = mode,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    for (int tries = 0;; tries++) {
        long result = syscall(SYS_openat2, root, *path ? path : ".", &how, sizeof(how));
        if (result >= 0)
            return (int)result;
        /* openat2(2): EAGAIN when a rename happened meanwhile. A hostile guest can cause it without end. */
        if ((errno != EAGAIN && errno != EINTR) || tries == 16)
            return -errno;
    }
}

/* ---- Grants ---- */

static bool is_watchable(const struct mon_folder *folder, unsigned flags)
{
    return folder->root >= 0 && !folder->is_file && !(flags & BLY_MOUNT_LAYERED);
}

/* What the host lacks for the moment must not change what the sandbox sees. */
static bool is_absent(int code, unsigned flags)
{
    bool known = code == ENOENT || code == ENOTDIR || code == EACCES || code == ELOOP;
    return known || ((flags & MON_MOUNT_DEFAULT_VIEW) && code != ENOMEM && code != EMFILE && code != ENFILE);
}

int mon_files_init(struct mon_files *files, const struct mon_policy *policy)
{
    int result = 0;
    memset(files, 0, sizeof(*files));
    pthread_mutex_init(&files->open_folder_lock, NULL);
    files->operator_user = geteuid();
    files->operator_group = getegid();
    files->shown_user = files->operator_user ? policy->user : 0;
    files->shown_group = files->operator_group ? policy->group : 0;
    files->descriptors = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
    files->folders = calloc(policy->mount_count ? policy->mount_count : 1, sizeof(*files->folders));
    if (!files->folders)
        return -ENOMEM;
    files->folder_count = (uint32_t)policy->mount_count;
    files->watch = -1;
    for (size_t i = 0; i < policy->mount_count; i++) {
        const struct mon_mount *mount = &policy->mounts[i];
        files->folders[i] = (struct mon_folder){
            .root = open(mount->host_path, O_PATH | O_CLOEXEC | (mount->flags & BLY_MOUNT_FILE ? 0 : O_DIRECTORY)),
            .host_path = mount->host_path,
            .guest_path = mount->guest_path,
            .is_file = mount->flags & BLY_MOUNT_FILE,
            .read_only = mount->flags & (BLY_MOUNT_READ_ONLY | BLY_MOUNT_LAYERED),
            .default_view = mount->flags & MON_MOUNT_DEFAULT_VIEW};
        if (files->folders[i].root < 0 && result == 0 && !is_absent(errno, mount->flags))
            result = -errno;
        /* A user has some hundred of them at most: without one, names are asked for each time. */
        if (files->watch < 0 && is_watchable(&files->folders[i], mount->flags))
            files->watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    }
    return result;
}

void mon_files_destroy(struct mon_files *files)
{
    for (uint32_t i = 0; i < files->folder_count; i++)
        if (files->folders[i].root >= 0)
            close(files->folders[i].root);
    free(files->folders);
    files->folders = NULL;
    if (files->descriptors >= 0)
        close(files->descriptors);
    if (files->watch >= 0)
        close(files->watch);
    pthread_mutex_destroy(&files->open_folder_lock);
}

/* ---- Decoding ---- */

/* Components must be plain names: the personality has resolved the rest. Sets name->last. */
static int check_components(struct mon_name *name)
{
    const char *path = name->path;
    name->last = 0;
    for (uint32_t start = 0; start < name->size;) {
        const char *slash = memchr(path + start, '/', name->size - start);
        uint32_t end = slash ? (uint32_t)(slash - path) : name->size;
        uint32_t size = end - start;
        if (size == 0 || (size == 1 && path[start] == '.') || (size == 2 && path[start] == '.' && path[start + 1] == '.'))
            return -EINVAL;
        if (size > 255)
            return -ENAMETOOLONG;
        if (slash && end + 1 == name->size)
            return -EINVAL;
        name->last = start;
        start = end + 1;
    }
    return 0;
}

int mon_name_decode(const struct mon_files *files, const void *uri, size_t size, struct mon_name *out_name)
{
    const char *text = uri;
    if (size > 5 && memcmp(text, "file:", 5) == 0)
        text += 5, size -= 5;
    else if (size > 4 && memcmp(text, "dir:", 4) == 0)
        text += 4, size -= 4;
    else
        return -EINVAL;

    uint64_t index = 0;
    size_t digits = 0;
    while (digits < size && digits < 9 && text[digits] >= '0' && text[digits] <= '9')
        index = index * 10 + (uint64_t)(text[digits++] - '0');
    if (digits == 0 || (digits < size && text[digits] != '/'))
        return -EINVAL;
    if (index >= files->folder_count)
        return -ENOENT;
    text += digits, size -= digits;
    if (size > 0)
        text++, size--;
    if (size >= sizeof(out_name->path))
        return -ENAMETOOLONG;
    if (memchr(text, '\0', size))
        return -EINVAL;

    out_name->folder = &files->folders[index];
    out_name->folder_index = (uint32_t)index;
    out_name->size = (uint32_t)size;
    memcpy(out_name->path, text, size);
    out_name->path[size] = '\0';
    int result = check_components(out_name);
    if (result < 0)
        return result;
    if (out_name->folder->is_file && size > 0)
        return -ENOTDIR;
    return out_name->folder->root < 0 ? -ENOENT : 0;
}

/* ---- The default view ---- */

bool mon_is_open_to_everybody(unsigned mode)
{
    if (S_ISDIR(mode))
        return (mode & (S_IROTH | S_IXOTH)) == (S_IROTH | S_IXOTH);
    return S_ISLNK(mode) || (mode & S_IROTH);
}

static bool is_known_open(struct mon_files *files, const struct mon_name *name, uint32_t size, bool note)
{
    if (size > MON_OPEN_FOLDER_SIZE)
        return false;
    uint64_t hash = name->folder_index;
    for (uint32_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char)name->path[i]) * 0x100000001b3ull;
    struct mon_open_folder *entry = &files->open_folders[(hash ^ hash >> 32) % MON_OPEN_FOLDER_COUNT];
    uint64_t now = mon_now_ns();
    bool known = false;
    pthread_mutex_lock(&files->open_folder_lock);
    if (note) {
        entry->until_ns = now + OPEN_FOLDER_LIFE_NS;
        entry->folder = name->folder_index;
        entry->path_size = size;
        memcpy(entry->path, name->path, size);
    } else {
        known = entry->until_ns > now && entry->folder == name->folder_index && entry->path_size == size &&
                memcmp(entry->path, name->path, size) == 0;
    }
    pthread_mutex_unlock(&files->open_folder_lock);
    return known;
}

/* Every folder on the way must be open to everybody. Says nothing of names that are not there or are no folders: the lookup
 * itself does, and may then not tell more than this does. */
static int check_parents(struct mon_files *files, const struct mon_name *name)
{
    char path[BLY_PATH_MAX];
    uint32_t end = 0;
    for (;;) {
        if (!is_known_open(files, name, end, /*note=*/false)) {
            memcpy(path, name->path, end);
            path[end] = '\0';
            cleanup_close int folder = open_beneath(name->folder->root, path, O_PATH | O_NOFOLLOW | O_DIRECTORY, 0);
            struct stat status;
            if (folder < 0)
                return 0;
            if (fstat(folder, &status) < 0)
                return -errno;
            if (!mon_is_open_to_everybody(status.st_mode))
                return -EACCES;
            is_known_open(files, name, end, /*note=*/true);
        }
        if (end >= name->last)
            return 0;
        const char *slash = strchr(name->path + end + (end > 0), '/');
        end = slash ? (uint32_t)(slash - name->path) : name->last;
    }
}

/* Of the host path that the first `size` bytes of the name lead to. */
static bool is_denied(const struct mon_name *name, uint32_t size)
{
    char path[2 * BLY_PATH_MAX];
    int length = snprintf(path, sizeof(path), "%s%s%.*s", strcmp(name->folder->host_path, "/") ? name->folder->host_path : "",
                          size ? "/" : "", (int)size, name->path);
    return length < 0 || (size_t)length >= sizeof(path) || mon_policy_denies(path);
}

/* Attributes of what is denied are shown, as Linux shows those of a file that may not be read; what lies in a denied folder is not. */
static int check_default_view(struct mon_files *files, const struct mon_name *name, bool attributes_only)
{
    uint32_t parent_size = name->last ? name->last - 1 : 0;
    if (!name->folder->default_view)
        return 0;
    if (is_denied(name, attributes_only ? parent_size : name->size))
        return -EACCES;
    return name->folder->is_file ? 0 : check_parents(files, name);
}

/* ---- Lookup ---- */

static int hold_unchecked(const struct mon_name *name)
{
    if (!name->folder->is_file)
        return open_beneath(name->folder->root, name->path, O_PATH | O_NOFOLLOW, 0);
    int descriptor = fcntl(name->folder->root, F_DUPFD_CLOEXEC, 0);
    return descriptor < 0 ? -errno : descriptor;
}

int mon_name_hold(struct mon_files *files, const struct mon_name *name, int *out_descriptor)
{
    int result = check_default_view(files, name, /*attributes_only=*/false);
    if (result < 0)
        return result;
    result = hold_unchecked(name);
    if (result < 0)
        return result;
    *out_descriptor = result;
    return 0;
}

int mon_name_hold_parent(const struct mon_name *name, int *out_descriptor)
{
    char path[BLY_PATH_MAX];
    if (name->size == 0)
        return -EBUSY; /* the granted folder itself, as for a mount point */
    uint32_t size = name->last ? name->last - 1 : 0;
    memcpy(path, name->path, size);
    path[size] = '\0';
    int result = open_beneath(name->folder->root, path, O_PATH | O_DIRECTORY, 0);
    if (result < 0)
        return result;
    *out_descriptor = result;
    return 0;
}

int mon_name_open(const struct mon_name *name, int flags, unsigned mode, int *out_descriptor)
{
    int result = open_beneath(name->folder->root, name->path, (uint64_t)(unsigned)flags, mode);
    if (result < 0)
        return result;
    *out_descriptor = result;
    return 0;
}

/* What the walk has reached: its attributes, and its text if it is a link. */
static int describe(const struct mon_files *files, int descriptor, uint32_t consumed, struct bly_walk_result *result)
{
    int error = mon_descriptor_attributes(files, descriptor, &result->attributes);
    if (error < 0)
        return error;
    result->consumed = consumed;
    result->link_size = 0;
    if (result->attributes.kind != BLY_KIND_SYMLINK)
        return 0;
    ssize_t size = readlinkat(descriptor, "", result->link, sizeof(result->link));
    if (size < 0)
        return -errno;
    result->link_size = (uint32_t)size;
    return 0;
}

/* Component by component, up to the first symbolic link. */
static int walk_to_link(const struct mon_files *files, const struct mon_name *name, struct bly_walk_result *result)
{
    cleanup_close int reached = -1;
    char component[256];
    for (uint32_t start = 0;;) {
        const char *slash = strchr(name->path + start, '/');
        uint32_t end = slash ? (uint32_t)(slash - name->path) : name->size;
        memcpy(component, name->path + start, end - start);
        component[end - start] = '\0';
        int next = open_beneath(reached < 0 ? name->folder->root : reached, component, O_PATH | O_NOFOLLOW, 0);
        if (next < 0)
            return next;
        if (reached >= 0)
            close(reached);
        reached = next;
        if (end == name->size)
            return describe(files, reached, end, result);
        struct stat status;
        if (fstat(reached, &status) < 0)
            return -errno;
        if (S_ISLNK(status.st_mode))
            return describe(files, reached, end, result);
        if (!S_ISDIR(status.st_mode))
            return -ENOTDIR;
        start = end + 1;
    }
}

static int walk_any(struct mon_files *files, const struct mon_name *name, struct bly_walk_result *out_result)
{
    int result = check_default_view(files, name, /*attributes_only=*/true);
    if (result < 0)
        return result;
    cleanup_close int descriptor = hold_unchecked(name);
    if (descriptor == -ELOOP)
        return walk_to_link(files, name, out_result);
    if (descriptor < 0)
        return descriptor;
    return describe(files, descriptor, name->size, out_result);
}

int mon_file_watch(struct mon_files *files, const struct mon_name *name)
{
    cleanup_close int descriptor = -1;
    if (files->watch < 0 || name->folder->default_view)
        return -EOPNOTSUPP;
    int result = mon_name_hold(files, name, &descriptor);
    if (result < 0)
        return result;
    if (mon_file_has_server(descriptor))
        return -EOPNOTSUPP;
    struct mon_descriptor_path path = mon_descriptor_path(descriptor);
    result = inotify_add_watch(files->watch, path.text, WATCHED | IN_ONLYDIR);
    if (result > WATCH_MAX) {
        inotify_rm_watch(files->watch, result);
        return -EOPNOTSUPP;
    }
    return result > 0 ? result : errno == ENOTDIR ? -ENOTDIR : -EOPNOTSUPP;
}

int mon_file_walk(struct mon_files *files, const struct mon_name *name, struct bly_walk_result *out_result)
{
    int result = walk_any(files, name, out_result);
    if (files->audit) {
        struct mon_name reached = *name;
        if (result == 0)
            reached.path[reached.size = out_result->consumed] = '\0';
        mon_audit_name(files->audit, "look-up", &reached, MON_AUDIT_READ, result);
    }
    return result;
}
