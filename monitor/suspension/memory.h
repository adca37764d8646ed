/* Memory of picoprocesses, for the files that write it into images: memory.c at rest, rounds.c while it changes. */
#ifndef MONITOR_SUSPENSION_MEMORY_H
#define MONITOR_SUSPENSION_MEMORY_H

#include "monitor/sandbox.h"
#include "monitor/suspension/suspend.h"

#include <sys/ioctl.h>

#define CHUNK_PAGES 256u
#define GAP_PAGES 16u /* carried rather than beginning a further extent, which costs a map when resumed */
#define MAPS_SIZE_MAX (64u << 20)
#define RANGE_COUNT 512u

struct range {
    uint64_t start, end;
};

struct process {
    uint32_t id;   /* as the sandbox knows it, and the image */
    uint32_t from; /* whose memory is read: its own, or that of its clone */
    int folder;    /* of `from`, in /proc */
    int tracker;   /* userfaultfd of its memory (rounds.c); -1: none */
};
struct mon_memory {
    size_t count;
    struct process processes[];
};

/* A file as /proc/PID/maps names it, which is not always as stat(2) does. Inode 0: none. */
struct place {
    unsigned major, minor;
    unsigned long long inode;
};

struct memory_files {
    size_t count;
    struct place files[1 + IMG_BASES_MAX];
};

struct dump {
    const struct mon_sandbox *sandbox;
    struct img_writer *writer;
    int memory, pagemap;
    bool can_scan;
    struct memory_files image; /* of a resumed sandbox: its memory lies in them, as far as it was not written to since */
    unsigned char *buffer; /* CHUNK_PAGES */
    struct error *error;
    struct mon_behind *later; /* a range of LATER_FROM or more is only noted there (later.c); NULL: it is written */
};
#define LATER_FROM (32u << 10)

/* PAGEMAP_SCAN (Linux 6.7): <linux/fs.h> of older kernels does not have it. */
struct scan_region {
    uint64_t start, end, categories;
};
struct scan_arguments {
    uint64_t size, flags, start, end, walk_end, regions, region_count, max_pages, inverted, all_of, any_of, reported;
};
#define PAGEMAP_SCAN _IOWR('f', 16, struct scan_arguments)
enum { SCAN_WRITTEN = 1 << 1, SCAN_FILE = 1 << 2, SCAN_PRESENT = 1 << 3, SCAN_SWAPPED = 1 << 4, SCAN_ZERO = 1 << 5 };

/* The maps of the process that may hold memory of its own, with `write` called for each, until one fails. */
typedef int write_map_function(struct dump *dump, struct range map, bool of_file);
int mon_image_visit_maps(struct dump *dump, const struct process *process, write_map_function *write) __attribute__((warn_unused_result));
/* The same, into a space for it. */
int mon_image_write_process(struct dump *dump, const struct process *process, write_map_function *write) __attribute__((warn_unused_result));
/* All of them. */
int mon_image_write_processes(const struct mon_sandbox *sandbox, const struct mon_memory *memory, write_map_function *write,
                              struct img_writer *writer, struct error *error) __attribute__((warn_unused_result));
int mon_image_write_range(const struct dump *dump, struct range range, size_t zeros) __attribute__((warn_unused_result));
/* One map as it is. */
int mon_image_write_map(struct dump *dump, struct range map, bool of_file) __attribute__((warn_unused_result));
/* Of a resumed sandbox: where its image's files are. */
struct memory_files mon_image_places(const struct mon_sandbox *sandbox);

#endif
