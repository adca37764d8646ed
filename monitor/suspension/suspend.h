/* Suspending the sandbox: the monitor asks it to be quiet, writes the image, and lets it go on or ends it. A thread of its own does so, so
 * that the monitor's loop goes on serving: who stops, kills or signals the sandbox meanwhile ends the suspension instead, and the sandbox
 * runs on. Nothing reaches a quiet sandbox; what is for it waits until it goes on. Whatever fails, it goes on and no file is left. */
#ifndef MONITOR_SUSPENSION_SUSPEND_H
#define MONITOR_SUSPENSION_SUSPEND_H

#include <bailey/start.h>
#include <base/error.h>
#include <image/reader.h>
#include <image/writer.h>
#include <monitor/suspension/records.h>
#include <stdbool.h>
#include <stddef.h>

struct mon_sandbox;
struct mon_suspension;

/* In the main thread. `path` is absolute; `base_path` is the image's that it is based on (else NULL), `base` what that holds (image/flat.h), the
 * callee's; `flags`: enum control_suspend_flags. What becomes of it is told by mon_control_suspended. */
int mon_suspend_begin(struct mon_sandbox *sandbox, const char *path, uint32_t flags, const char *base_path, int base, struct error *error)
    __attribute__((warn_unused_result));
/* The sandbox's answer to BLY_CONTROL_QUIESCE: `value` and what follows it. */
void mon_suspend_answered(struct mon_sandbox *sandbox, int value, const void *data, size_t size);
/* The sandbox goes on as soon as possible. `why` is a literal: "it was stopped". Nothing is under way: nothing happens. */
void mon_suspend_cancel(struct mon_sandbox *sandbox, const char *why);
/* Something that cannot wait is for the sandbox: the same, if it stands still. One that goes on already is not disturbed. */
void mon_suspend_disturb(struct mon_sandbox *sandbox, const char *why);
/* Keeps a record that is for the sandbox until it goes on. False: it may have it at once. *out_result: 0, or -EAGAIN: there are too many. */
bool mon_suspend_hold(struct mon_sandbox *sandbox, const struct bly_control *record, const void *payload, int *out_result)
    __attribute__((warn_unused_result));
/* The sandbox has ended: waits for the thread, which leaves no half of a file. */
void mon_suspend_end(struct mon_sandbox *sandbox);

/* memory.c: Root's sandboxes run as somebody else. Without CAP_SYS_PTRACE, as in many containers, only that user may look into them.
 * Of the calling thread alone. */
void mon_image_become_user(const struct mon_sandbox *sandbox, bool on);
/* memory.c: a place of the image that the sandbox was resumed from, as one of the writer's, where that has its file; else 0. */
uint64_t mon_image_name_place(const struct img_reader *image, const struct img_writer *writer, uint64_t place);
/* memory.c: the private memory of picoprocesses. Those with the ids `ids`, as the sandbox gave them, are found among its processes; their
 * memory is read from those with the ids `from`: themselves, or clones, which end with mon_image_free_memory. *out_memory is set in any case;
 * *out_size is about how large it is. */
struct mon_memory;
int mon_image_find_memory(const struct mon_sandbox *sandbox, const uint32_t *ids, const uint32_t *from, size_t count,
                          struct mon_memory **out_memory, uint64_t *out_size, struct error *error) __attribute__((warn_unused_result));
/* The same of all of its processes, while it runs. */
uint64_t mon_image_memory_size(const struct mon_sandbox *sandbox);
/* A space for each. */
int mon_image_write_memory(const struct mon_sandbox *sandbox, const struct mon_memory *memory, struct img_writer *writer,
                           struct error *error) __attribute__((warn_unused_result));
void mon_image_free_memory(struct mon_memory *memory);
/* rounds.c: the same memory while it changes. `numbers` (0: none) is what the sandbox answered to BLY_QUIESCE_TRACK. False: nothing can be
 * followed on this host. */
bool mon_image_track(const struct mon_sandbox *sandbox, struct mon_memory *memory, const uint32_t *numbers);
/* A round of the writer's, while the sandbox runs: all that was written since the last. *out_size is how much that was. */
int mon_image_write_changes(const struct mon_sandbox *sandbox, const struct mon_memory *memory, struct img_writer *writer,
                            uint64_t *out_size, struct error *error) __attribute__((warn_unused_result));
/* The last one, at rest: as mon_image_write_memory, but what was not written since is taken over. */
int mon_image_write_rest(const struct mon_sandbox *sandbox, const struct mon_memory *memory, struct img_writer *writer, struct error *error)
    __attribute__((warn_unused_result));
/* Nothing is followed any more. */
void mon_image_untrack(const struct mon_sandbox *sandbox, struct mon_memory *memory);
/* handles.c: the record of all handles, and a space for each file that is carried with its contents: one that has lost its name, or every one.
 * -EXDEV: what cannot be carried, a line each; all else is written. */
struct mon_saving {
    bool contents;    /* of all files, not only of those without a name */
    bool sums;        /* of all files that have one */
    uint64_t carried; /* out: bytes of contents */
    struct mon_later *later; /* contents that are not written yet: those of files that the sandbox only reads */
    size_t later_count;
    struct mon_known_sum *known; /* from earlier calls: who did not change since is not read again */
    size_t known_count;
};
int mon_image_handles(struct mon_sandbox *sandbox, struct mon_saving *saving, struct img_writer *writer, struct error *error)
    __attribute__((warn_unused_result));
/* handles.c: what was left for later, when the sandbox may run again. `early`: as the last call found them, of the running sandbox and in an
 * earlier round than the last, in which only what changed since is written again. */
int mon_image_contents(struct mon_saving *saving, struct img_writer *writer, bool early, struct error *error) __attribute__((warn_unused_result));
void mon_saving_free(struct mon_saving *saving);
/* handles.c: an open file's mode need not allow what it is open for: it was made so, or changed since. Where the file is the operator's, opening
 * it again is made possible for a moment. Returns the mode to be given back with chmod, or negative errno. */
int mon_mode_loosen(int descriptor) __attribute__((warn_unused_result));
/* handles.c: an open file for reading: it may be open for writing only. One that can be read only through itself shares its position. */
int mon_open_readable(int descriptor, unsigned access) __attribute__((warn_unused_result));
/* sandbox.c: the records of the sandbox itself and of its policy. */
int mon_image_sandbox(const struct mon_sandbox *sandbox, struct img_writer *writer, struct error *error)
    __attribute__((warn_unused_result));
/* Of the ELF file behind `descriptor`: its NT_GNU_BUILD_ID into MON_BUILD_ID_MAX bytes. Returns its size, or -ENOEXEC. */
int mon_build_id(int descriptor, unsigned char *out_id) __attribute__((warn_unused_result));

#endif
