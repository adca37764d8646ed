/* An image of a sandbox as its resumption needs it: the records of monitor/suspension/records.h, read and checked. All of it is a stranger's claim
 * (monitor/suspension/records.h); what is promised is that it is well-formed and that its parts agree. */
#ifndef MONITOR_SUSPENSION_READ_H
#define MONITOR_SUSPENSION_READ_H

#include <image/reader.h>
#include <monitor/handles.h>
#include <monitor/suspension/records.h>
#include <monitor/policy/policy.h>
#include <stdbool.h>

/* A file that was the standard input of the first program and that one of the grants shows too. */
static inline bool mon_image_is_input_file(const struct mon_image_handle *record)
{
    return record->role == MON_IMAGE_STANDARD_0 && record->kind == BLY_KIND_FILE && record->mount != MON_NO_MOUNT;
}

struct mon_image_entry {
    struct mon_image_handle record;
    char *path; /* below the mount; "" where there is none */
    size_t contents; /* of a carried file: the entry whose handle names the space of them */
    bool is_written; /* through some handle of the same file */
    const unsigned char *sum; /* of the file when it was suspended; NULL: not told */
};
struct mon_image {
    char *name; /* for messages */
    bool is_offer; /* records only, without memory: to be looked at before the sandbox itself comes (image/frame.h) */
    int descriptor;
    struct img_reader *reader;
    struct mon_image_sandbox sandbox;
    struct mon_image_size size; /* of an offer */
    struct mon_policy policy;         /* as claimed; nothing of it is granted yet */
    struct mon_image_entry *handles;  /* ascending by index; each role but STREAM, WAKE and EXECUTION at most once, WAKE as often as it must be */
    size_t handle_count;
    const void *input;                /* MON_IMAGE_INPUT: in the reader's memory */
    size_t input_size;
    bool input_ended;
    uint32_t terminal_modes;
};

/* Takes the descriptor over, also when it fails. The image must be closed in any case. One that is not `own` is read by a process without
 * rights (image/flat.h). `is_offer` must have been set. */
int mon_image_open(struct mon_image *image, int descriptor, const char *name, bool own, struct error *error) __attribute__((warn_unused_result));
void mon_image_close(struct mon_image *image);
#define cleanup_image __attribute__((cleanup(mon_image_close)))

/* Whether it can be resumed by this Bailey on this processor; `force`: whatever the processor lacks. All reasons are told. */
int mon_image_fits(const struct mon_image *image, bool force, struct error *error) __attribute__((warn_unused_result));

#endif
