/* Streams of the schemes `file:` and `dir:`: everything the sandbox may do to host files, by name.
 *
 * A name is a granted folder and a path beneath it. No path is ever resolved by the kernel through a symbolic link, a magic
 * link or `..`; what was looked up is held by an O_PATH descriptor and examined before it is opened for good through
 * that descriptor, so that exchanging names underneath changes nothing. Results are negative errno values. */
#ifndef MONITOR_STREAM_FILE_H
#define MONITOR_STREAM_FILE_H

#include <bailey/abi.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

struct mon_policy;
struct mon_audit;
struct statx;

/* A grant as the monitor holds it. */
struct mon_folder {
    int root;            /* O_PATH descriptor of the folder, or of the file; -1: it was not there at the start */
    const char *host_path;
    const char *guest_path;
    bool is_file;
    bool read_only;      /* nothing here is ever written: granted so, or the private layer lies over it */
    bool default_view;   /* only what every user of the host may read */
};

/* Folders of the default view that were found open to everybody a moment ago: parents are not examined again for each name. */
#define MON_OPEN_FOLDER_COUNT 32
#define MON_OPEN_FOLDER_SIZE 120
struct mon_open_folder {
    uint64_t until_ns;
    uint32_t folder;
    uint32_t path_size;
    char path[MON_OPEN_FOLDER_SIZE];
};

struct mon_files {
    struct mon_folder *folders;
    uint32_t folder_count;
    /* The files of the one who runs Bailey belong, inside, to the user that the program runs as. Root's stay root's. */
    uid_t operator_user, shown_user;
    gid_t operator_group, shown_group;
    int watch;       /* inotify descriptor, which the sandbox reads; -1: no live folder, or not to be had */
    int descriptors; /* /proc/self/fd: the way to open anew what is held; -1 where there is no /proc */
    struct mon_audit *audit; /* NULL: none */
    pthread_mutex_t open_folder_lock; /* guards open_folders */
    struct mon_open_folder open_folders[MON_OPEN_FOLDER_COUNT];
};

/* A decoded name. */
struct mon_name {
    const struct mon_folder *folder;
    uint32_t folder_index;
    uint32_t size;            /* of path */
    uint32_t last;            /* where the last component begins */
    char path[BLY_PATH_MAX];  /* beneath the folder; empty: the folder itself */
};

/* Opens the granted folders. One that is not there is noted and answers -ENOENT. */
int mon_files_init(struct mon_files *files, const struct mon_policy *policy) __attribute__((warn_unused_result));
void mon_files_destroy(struct mon_files *files);

/* -EINVAL, -ENAMETOOLONG, -ENOENT (no such grant). */
int mon_name_decode(const struct mon_files *files, const void *uri, size_t size, struct mon_name *out_name)
    __attribute__((warn_unused_result));

int mon_file_open(struct mon_files *files, const struct mon_name *name, unsigned access, unsigned options, unsigned mode,
                  int *out_descriptor, struct bly_attributes *out_attributes) __attribute__((warn_unused_result));
int mon_file_walk(struct mon_files *files, const struct mon_name *name, struct bly_walk_result *out_result)
    __attribute__((warn_unused_result));
/* Whether a map of the open file always shows what a read would get. */
bool mon_file_is_coherent(const struct mon_folder *folder, int descriptor);
/* Whether the file system is served by somebody: who may stop answering, and hear of changes that this kernel does not. */
bool mon_file_has_server(int descriptor);
/* Watches a live folder. Returns the watch's number, > 0; -ENOTDIR, -EOPNOTSUPP. */
int mon_file_watch(struct mon_files *files, const struct mon_name *name) __attribute__((warn_unused_result));
int mon_file_create(struct mon_files *files, const struct mon_name *name, unsigned kind, unsigned mode, const char *target,
                    struct bly_attributes *out_attributes) __attribute__((warn_unused_result));
int mon_file_link(struct mon_files *files, const struct mon_name *name, const struct mon_name *target,
                  struct bly_attributes *out_attributes) __attribute__((warn_unused_result));
int mon_file_delete(struct mon_files *files, const struct mon_name *name, unsigned flags) __attribute__((warn_unused_result));
int mon_file_rename(struct mon_files *files, const struct mon_name *from, const struct mon_name *to, unsigned flags)
    __attribute__((warn_unused_result));

/* Attributes, by name or by descriptor (stream-attributes.c). */
int mon_file_query(const struct mon_files *files, int descriptor, struct bly_attributes *out_attributes)
    __attribute__((warn_unused_result));
int mon_file_set(struct mon_files *files, const struct mon_name *name, const struct bly_attributes *attributes, unsigned mask)
    __attribute__((warn_unused_result));
int mon_file_set_open(int descriptor, const struct bly_attributes *attributes, unsigned mask)
    __attribute__((warn_unused_result));
/* Returns the value's size; a `size` of 0 only asks for it. An empty `attribute` lists them. */
int64_t mon_file_get_named(struct mon_files *files, const struct mon_name *name, const char *attribute, void *value, size_t size)
    __attribute__((warn_unused_result));
int mon_file_set_named(struct mon_files *files, const struct mon_name *name, const char *attribute, const void *value, size_t size,
                       unsigned flags) __attribute__((warn_unused_result));

/* ---- Shared by the two source files ---- */
/* An O_PATH descriptor of what the name stands for (a symbolic link itself when it is the last component), examined as the
 * default view demands. */
int mon_name_hold(struct mon_files *files, const struct mon_name *name, int *out_descriptor) __attribute__((warn_unused_result));
/* An O_PATH descriptor of the folder that holds the last component. -EBUSY for a granted folder itself. */
int mon_name_hold_parent(const struct mon_name *name, int *out_descriptor) __attribute__((warn_unused_result));
/* openat2 of the name with these flags; for what is to be made. */
int mon_name_open(const struct mon_name *name, int flags, unsigned mode, int *out_descriptor) __attribute__((warn_unused_result));
static inline const char *mon_name_last(const struct mon_name *name) { return name->path + name->last; }
bool mon_is_open_to_everybody(unsigned mode);
void mon_attributes_from(const struct mon_files *files, const struct statx *status, struct bly_attributes *out_attributes);
int mon_descriptor_attributes(const struct mon_files *files, int descriptor, struct bly_attributes *out_attributes)
    __attribute__((warn_unused_result));
/* "/proc/self/fd/N": the way from an O_PATH descriptor to calls that take only names, without walking anything. */
struct mon_descriptor_path {
    char text[32];
};
struct mon_descriptor_path mon_descriptor_path(int descriptor);

#endif
