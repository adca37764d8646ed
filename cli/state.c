/* The state folder. Invariant: folders of sandboxes are made and removed under `.lock`, and a
 * folder whose state.json nobody has locked belongs to no living monitor. */
#include <cli/state.h>

#include <base/cleanup.h>
#include <base/json.h>
#include <base/path.h>
#include <errno.h>
#include <fcntl.h>
#include <monitor/control.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define STATE_FILE "state.json"
#define STATE_FILE_LIMIT (1u << 20)
#define LISTENING_STEP_US 2000
#define LISTENING_STEPS 2500

void sandbox_free(struct sandbox *sandbox)
{
    free(sandbox->name);
    text_list_free(&sandbox->command);
    *sandbox = (struct sandbox){0};
}

const char *sandbox_status_name(enum sandbox_status status)
{
    static const char *const names[] = {"running", "exited", "suspended", "died"};
    return names[status];
}

/* ---- The folder of all ---- */

static bool is_private_folder(const char *path, mode_t forbidden)
{
    struct stat status;
    return lstat(path, &status) == 0 && S_ISDIR(status.st_mode) && status.st_uid == geteuid() &&
           !(status.st_mode & forbidden);
}

static char *state_path(void)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    if (runtime && runtime[0] == '/' && is_private_folder(runtime, 022))
        return path_join(runtime, "bailey");
    return text_print("%s/bailey-%u", access("/dev/shm", W_OK | X_OK) == 0 ? "/dev/shm" : "/tmp",
                      (unsigned)geteuid());
}

static int open_state_folder(struct error *error)
{
    cleanup_free char *path = state_path();
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return error_set_errno(error, -errno, "cannot make the state folder %s", path);
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat status;
    if (folder < 0 || fstat(folder, &status) < 0) {
        int code = -errno;
        if (folder >= 0)
            close(folder);
        return error_set_errno(error, code, "cannot open the state folder %s", path);
    }
    /* In /tmp anybody could have made it first. */
    if (status.st_uid != geteuid() || (status.st_mode & 077)) {
        close(folder);
        error_set(error, -EPERM, "the state folder %s is not private to you", path);
        return error_hint(error, "remove it, or set XDG_RUNTIME_DIR to a folder of your own");
    }
    return folder;
}

/* Held while folders are made or removed; closing the descriptor gives it back. */
static int lock_all(int folder, struct error *error)
{
    int lock = openat(folder, ".lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (lock < 0)
        return error_set_errno(error, -errno, "cannot lock the state folder");
    struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    while (fcntl(lock, F_OFD_SETLKW, &all) < 0) {
        if (errno == EINTR)
            continue;
        int code = -errno;
        close(lock);
        return error_set_errno(error, code, "cannot lock the state folder");
    }
    return lock;
}

bool state_name_is_valid(const char *name)
{
    size_t size = strlen(name);
    return size > 0 && size <= 63 && name[0] != '.' && name[0] != '-' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") ==
               size;
}

static char *make_up_name(void)
{
    static const char *const first[] = {"amber", "brave",  "calm",  "early", "grey",  "high",
                                        "keen",  "little", "north", "old",   "quiet", "red",
                                        "steep", "tall",   "warm",  "white"};
    static const char *const second[] = {"arch",   "bridge", "court", "gate",  "hall",  "keep",
                                         "lodge",  "mill",   "moat",  "mound", "oriel", "spire",
                                         "stable", "tower",  "wall",  "well"};
    uint32_t random = 0;
    if (getrandom(&random, sizeof(random), 0) != sizeof(random))
        random = (uint32_t)getpid() * 2654435761u;
    return text_print("%s-%s-%04x", first[random & 15], second[random >> 4 & 15], random >> 16);
}

/* ---- One entry ---- */

/* Asked by who reads: a sandbox that starts has better to do. */
static uint64_t start_time_of(pid_t process)
{
    cleanup_free char *stat = NULL;
    cleanup_free char *path = text_print("/proc/%d/stat", (int)process);
    if (process <= 0 || path_read_file(AT_FDCWD, path, 4096, &stat, NULL) < 0)
        return 0;
    /* proc(5): the second field is in parentheses and may hold anything; the start time is
     * field 22. */
    char *field = strrchr(stat, ')');
    for (int i = 2; field && i < 22; i++)
        field = strchr(field + 1, ' ');
    return field ? strtoull(field, NULL, 10) : 0;
}

void sandbox_write_json(const struct sandbox *sandbox, struct json *json)
{
    json_object(json);
    json_key_string(json, "name", sandbox->name);
    json_key_string(json, "status", sandbox_status_name(sandbox->status));
    json_key_number(json, "pid", sandbox->pid);
    json_key_number(json, "start_time", (int64_t)sandbox->start_time);
    json_key_number(json, "created", sandbox->created);
    json_key_number(json, "ended", sandbox->ended);
    json_key_number(json, "exit_status", sandbox->exit_status);
    json_key_boolean(json, "detached", sandbox->detached);
    json_key_boolean(json, "keep", sandbox->keep);
    json_key_strings(json, "command", sandbox->command.items, sandbox->command.count);
    json_object_end(json);
}

static char *state_text(const struct sandbox *about)
{
    struct text text = {0};
    struct json json = json_to(&text);
    sandbox_write_json(about, &json);
    text_add_character(&text, '\n');
    return text_take(&text);
}

/* Whether a monitor lives. Its pid as the lock tells it, which cannot be a stranger's: the kernel
 * forgets the lock when the process ends. */
static pid_t lock_holder(int folder)
{
    cleanup_close int state = openat(folder, STATE_FILE, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    struct flock query = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (state < 0 || fcntl(state, F_GETLK, &query) < 0 || query.l_type == F_UNLCK)
        return 0;
    return query.l_pid ? query.l_pid : -1;
}

static int read_entry(int all, const char *name, struct sandbox *out)
{
    *out = (struct sandbox){0};
    cleanup_close int folder = openat(all, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder < 0)
        return -errno;
    cleanup_free char *text = NULL;
    int result = path_read_file(folder, STATE_FILE, STATE_FILE_LIMIT, &text, NULL);
    if (result < 0)
        text = text_copy("{}");
    int64_t number = 0;
    cleanup_free char *status = NULL;
    out->name = text_copy(name);
    json_read_string(text, "status", &status);
    json_read_number(text, "created", &out->created);
    json_read_number(text, "ended", &out->ended);
    if (json_read_number(text, "exit_status", &number))
        out->exit_status = (int)number;
    json_read_boolean(text, "detached", &out->detached);
    json_read_boolean(text, "keep", &out->keep);
    json_read_strings(text, "command", &out->command);
    if (status && text_equal(status, "exited"))
        out->status = SANDBOX_EXITED;
    else if (status && text_equal(status, "suspended"))
        out->status = SANDBOX_SUSPENDED;
    else if ((out->pid = lock_holder(folder)) != 0)
        out->status = SANDBOX_RUNNING;
    else
        out->status = SANDBOX_DIED;
    if (out->status == SANDBOX_DIED)
        out->exit_status = 128 + 9;
    out->start_time = start_time_of(out->pid);
    return 0;
}

/* Under the lock of all: makes the folder `name` and takes it for this process. The lock lies on
 * state.json itself, so no descriptor of that file may be closed here before the end (fcntl(2):
 * that would drop the lock). */
static int make_entry(int all, struct state_entry *entry, const char *name,
                      const struct sandbox *about)
{
    if (mkdirat(all, name, 0700) < 0)
        return -errno;
    entry->folder = openat(all, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (entry->folder < 0)
        return -errno;
    entry->state = openat(entry->folder, STATE_FILE, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (entry->state < 0 || fcntl(entry->state, F_SETLK, &whole) < 0)
        return -errno;
    struct sandbox written = *about;
    written.name = (char *)name;
    written.status = SANDBOX_RUNNING;
    written.pid = getpid();
    cleanup_free char *text = state_text(&written);
    return write_fully(entry->state, text, strlen(text));
}

/* Under the lock of all. The usual files by name, which is quicker than to look what there is. */
static int remove_entry(int all, const char *name, int folder)
{
    static const char *const files[] = {CONTROL_SOCKET, "log", STATE_FILE};
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        unlinkat(folder, files[i], 0);
    return unlinkat(all, name, AT_REMOVEDIR) == 0 ? 0 : path_remove_tree(all, name);
}

/* A name that was given may be taken by a sandbox that has ended and was not asked to stay. */
static int clear_name(int all, const char *name, struct error *error)
{
    cleanup_sandbox struct sandbox old = {0};
    if (read_entry(all, name, &old) < 0)
        return 0;
    if (old.status == SANDBOX_RUNNING) {
        error_set(error, -EEXIST, "a sandbox named %s is already running", name);
        return error_hint(error, "choose another --name, or: bailey stop %s", name);
    }
    if (old.keep && old.status != SANDBOX_SUSPENDED) {
        error_set(error, -EEXIST, "the name %s is taken by a sandbox that has ended", name);
        return error_hint(error, "bailey rm %s, or choose another --name", name);
    }
    return path_remove_tree(all, name);
}

int state_create(struct state_entry *entry, const char *name, const struct sandbox *about,
                 struct error *error)
{
    *entry = (struct state_entry){.folder = -1, .state = -1};
    cleanup_close int all = open_state_folder(error);
    if (all < 0)
        return all;
    cleanup_close int lock = lock_all(all, error);
    if (lock < 0)
        return lock;
    int result = name ? clear_name(all, name, error) : 0;
    if (result < 0)
        return result;
    for (int attempt = 0;; attempt++) {
        free(entry->name);
        entry->name = name ? text_copy(name) : make_up_name();
        result = make_entry(all, entry, entry->name, about);
        if (result != -EEXIST || name || attempt == 16)
            break;
    }
    if (result < 0) {
        /* What is somebody else's has no folder of ours open. */
        if (entry->folder >= 0)
            path_remove_tree(all, entry->name);
        return error_set_errno(error, result, "cannot make the state of sandbox %s", entry->name);
    }
    cleanup_free char *path = state_path();
    entry->path = path_join(path, entry->name);
    return 0;
}

void state_finish(struct state_entry *entry, struct sandbox *about, int exit_status)
{
    if (entry->folder < 0)
        return;
    struct error ignored = {0};
    bool removed = false;
    if (!about->keep) {
        cleanup_close int all = open_state_folder(&ignored);
        cleanup_close int lock = all >= 0 ? lock_all(all, &ignored) : -1;
        /* The folder may have been removed by force and its name given again: only our own is ours
         * to remove. */
        struct stat own, named;
        if (lock >= 0 && fstat(entry->folder, &own) == 0 &&
            fstatat(all, entry->name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
            own.st_ino == named.st_ino)
            removed = remove_entry(all, entry->name, entry->folder) == 0;
    }
    if (!removed) {
        about->name = entry->name;
        about->status = about->suspended ? SANDBOX_SUSPENDED : SANDBOX_EXITED;
        about->exit_status = exit_status;
        about->ended = time(NULL);
        about->pid = 0;
        cleanup_free char *text = state_text(about);
        if (path_write_file(entry->folder, STATE_FILE, text, strlen(text), 0600) < 0)
            note("cannot write the final state of sandbox %s", entry->name);
        about->name = NULL;
    }
    close(entry->folder);
    close(entry->state);
    free(entry->name);
    free(entry->path);
    *entry = (struct state_entry){.folder = -1, .state = -1};
}

/* ---- All entries ---- */

static int compare_age(const void *a, const void *b)
{
    const struct sandbox *one = a, *other = b;
    if (one->created != other->created)
        return one->created < other->created ? -1 : 1;
    return strcmp(one->name, other->name);
}

int state_list(struct sandbox **out_sandboxes, size_t *out_count, struct error *error)
{
    *out_sandboxes = NULL;
    *out_count = 0;
    cleanup_close int all = open_state_folder(error);
    if (all < 0)
        return all;
    cleanup_close int lock = lock_all(all, error);
    if (lock < 0)
        return lock;
    int copy = openat(all, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_directory DIR *entries = copy >= 0 ? fdopendir(copy) : NULL;
    if (!entries)
        return error_set_errno(error, -errno, "cannot read the state folder");
    struct sandbox *list = NULL;
    size_t count = 0;
    for (struct dirent *entry; (entry = readdir(entries));) {
        if (!state_name_is_valid(entry->d_name))
            continue;
        struct sandbox sandbox;
        if (read_entry(all, entry->d_name, &sandbox) < 0)
            continue;
        if (sandbox.status == SANDBOX_DIED && !sandbox.keep) {
            path_remove_tree(all, sandbox.name);
            sandbox_free(&sandbox);
            continue;
        }
        list = memory_resize(list, (count + 1) * sizeof(*list));
        list[count++] = sandbox;
    }
    if (count)
        qsort(list, count, sizeof(*list), compare_age);
    *out_sandboxes = list;
    *out_count = count;
    return 0;
}

static int unknown_name(const char *name, struct error *error)
{
    struct sandbox *list = NULL;
    size_t count = 0;
    struct error ignored = {0};
    const char *names[64];
    size_t name_count = 0;
    if (state_list(&list, &count, &ignored) == 0)
        for (size_t i = 0; i < count && name_count < 64; i++)
            names[name_count++] = list[i].name;
    error_set(error, -ENOENT, "there is no sandbox named %s", name);
    const char *nearest = text_nearest(name, names, name_count);
    if (nearest)
        error_hint(error, "did you mean %s?", nearest);
    else
        error_hint(error, count ? "bailey ps -a lists them" : "none is running");
    for (size_t i = 0; i < count; i++)
        sandbox_free(&list[i]);
    free(list);
    return -ENOENT;
}

int state_find(const char *name, struct sandbox *out_sandbox, struct error *error)
{
    *out_sandbox = (struct sandbox){0};
    cleanup_close int all = open_state_folder(error);
    if (all < 0)
        return all;
    if (!state_name_is_valid(name) || read_entry(all, name, out_sandbox) < 0)
        return unknown_name(name, error);
    return 0;
}

int state_find_running(const char *name, struct sandbox *out_sandbox, struct error *error)
{
    int result = state_find(name, out_sandbox, error);
    if (result < 0)
        return result;
    if (out_sandbox->status != SANDBOX_RUNNING)
        return error_set(error, -ESRCH, "the sandbox %s is not running: it has %s", name,
                         out_sandbox->status == SANDBOX_EXITED      ? "ended"
                         : out_sandbox->status == SANDBOX_SUSPENDED ? "been suspended"
                                                                    : "died");
    return 0;
}

int state_remove(const char *name, struct error *error)
{
    cleanup_close int all = open_state_folder(error);
    if (all < 0)
        return all;
    cleanup_close int lock = lock_all(all, error);
    if (lock < 0)
        return lock;
    cleanup_sandbox struct sandbox sandbox = {0};
    if (!state_name_is_valid(name) || read_entry(all, name, &sandbox) < 0)
        return error_set(error, -ENOENT, "there is no sandbox named %s", name);
    if (sandbox.status == SANDBOX_RUNNING)
        return error_set(error, -EBUSY, "the sandbox %s is running", name);
    int result = path_remove_tree(all, name);
    if (result < 0)
        return error_set_errno(error, result, "cannot remove the sandbox %s", name);
    return 0;
}

char *state_file_path(const char *name, const char *file)
{
    cleanup_free char *all = state_path();
    return text_print("%s/%s/%s", all, name, file);
}

/* A sandbox that has just been started, or is about to end, is listed but does not listen. */
static int connect_while_running(int all, const char *name, int peer,
                                 const struct sockaddr_un *address)
{
    for (unsigned step = 0;; step++) {
        if (connect(peer, (const struct sockaddr *)address, sizeof(*address)) == 0)
            return 0;
        int result = -errno;
        cleanup_sandbox struct sandbox sandbox = {0};
        if ((result != -ENOENT && result != -ECONNREFUSED) || step == LISTENING_STEPS ||
            read_entry(all, name, &sandbox) < 0 || sandbox.status != SANDBOX_RUNNING)
            return result;
        usleep(LISTENING_STEP_US);
    }
}

int state_connect(const char *name, int *out_socket, struct error *error)
{
    cleanup_close int all = open_state_folder(error);
    if (all < 0)
        return all;
    cleanup_close int peer = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (peer < 0)
        return error_set_errno(error, -errno, "cannot make a socket");
    /* By descriptor: the state folder's path may be longer than a socket address can be. */
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%.64s/" CONTROL_SOCKET,
             all, name);
    int result = connect_while_running(all, name, peer, &address);
    if (result < 0)
        return error_set_errno(error, result, "cannot reach the sandbox %s", name);
    if (!control_peer_is_trusted(peer))
        return error_set(error, -EPERM, "the control socket of %s belongs to someone else", name);
    *out_socket = take_descriptor(&peer);
    return 0;
}
