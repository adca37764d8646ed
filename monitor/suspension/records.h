/* What the monitor writes into an image of its sandbox beside the memory (image/format.h), and reads from it: all that gives authority
 * or names something outside. It is made from the monitor's own books alone; nothing a picoprocess wrote is in it. When read it is a
 * stranger's claim: every field is checked, and what it asks for is granted by the local operator or not at all. */
#ifndef MONITOR_SUSPENSION_RECORDS_H
#define MONITOR_SUSPENSION_RECORDS_H

#include <bailey/abi.h>
#include <image/format.h>
#include <stdint.h>

enum mon_image_record {
    MON_IMAGE_SANDBOX = IMG_RECORD_OWN_FIRST, /* struct mon_image_sandbox */
    MON_IMAGE_POLICY,                         /* policy/save.c: what the sandbox was given */
    MON_IMAGE_HANDLES,                        /* struct mon_image_handle, each followed by its path and filled up to 8 bytes */
    MON_IMAGE_INPUT,                          /* struct mon_image_input and bytes; absent where all is zero */
    MON_IMAGE_SIZE,                           /* struct mon_image_size; of an offer only (image/frame.h) */
    MON_IMAGE_SUMS                            /* struct mon_image_sum; absent where none are wanted */
};

#define MON_BUILD_ID_MAX 32u
struct mon_image_sandbox {
    unsigned char build_id[MON_BUILD_ID_MAX]; /* of the picoprocess image (bailey-linux, NT_GNU_BUILD_ID): the kernel heap holds its addresses */
    uint32_t build_id_size;
    uint32_t generation;       /* how often it had been resumed */
    uint64_t suspend_id[2];    /* random, for this suspension */
    uint64_t monotonic_ns;     /* the sandbox's BLY_CLOCK_MONOTONIC when it was quiet */
    uint64_t realtime_ns;      /* the host's, then */
    uint64_t boot_time_ns;     /* of its start information */
    uint64_t vector_features;  /* XCR0 */
    uint64_t processor_features[8]; /* by enum bly_feature_word: what the program could see (processor-features.h) */
    uint64_t heap_size, bulk_size; /* of the segments */
};

/* Ascending by index, as the handles: of those of files with a name. */
struct mon_image_sum {
    bly_handle handle;
    uint32_t reserved;
    unsigned char sum[32]; /* SHA-256 of the first `size` bytes of the file */
};

/* How large the image will be of which this is the offer, in bytes of pages. */
struct mon_image_size {
    uint64_t expected; /* if nothing changes */
    uint64_t most;     /* it will not be larger */
};

enum mon_image_role { /* what every picoprocess is given at its start is made anew, under the same handle */
    MON_IMAGE_STREAM,  /* opened by name: `mount` and path */
    MON_IMAGE_WAKE, MON_IMAGE_HEAP, MON_IMAGE_BULK, MON_IMAGE_CONTROL, MON_IMAGE_WATCH,
    MON_IMAGE_STANDARD_0, MON_IMAGE_STANDARD_1, MON_IMAGE_STANDARD_2, MON_IMAGE_TERMINAL_INPUT, MON_IMAGE_TERMINAL_OUTPUT,
    /* The same five of a program that was started by `bailey exec`: `mount` is its token (BLY_CONTROL_EXECUTE). Nobody is there for them
     * when it is resumed. */
    MON_IMAGE_EXECUTION_0, MON_IMAGE_EXECUTION_LAST = MON_IMAGE_EXECUTION_0 + 4
};
/* What was taken from outside for standard input, or the terminal, and not read yet, follows. */
#define MON_IMAGE_INPUT_MAX (4u << 20)
struct mon_image_input {
    uint32_t ended; /* 1: then comes the input's end */
    uint32_t modes; /* of the terminal that programs draw on (base/screen.h) */
};
enum mon_image_handle_flags {
    MON_IMAGE_DELETED = 1, /* a file without a name, and hence without a path here. Its contents are the space IMG_SPACE_FILE whose `process` is
                            * the first handle in the record that has contents and is of this device and inode: all of them are one file */
    MON_IMAGE_DIRECTORY = 2,
    MON_IMAGE_CARRIED = 4 /* a file with its name, which may be missing or different where it is resumed, and its contents as those of a
                           * DELETED one */
};
#define MON_IMAGE_CONTENTS ((uint32_t)(MON_IMAGE_DELETED | MON_IMAGE_CARRIED))
struct mon_image_handle {
    bly_handle handle;
    uint32_t role;      /* enum mon_image_role */
    uint32_t kind;      /* enum bly_kind */
    uint32_t access;    /* enum bly_access */
    uint32_t mount;     /* of the policy; MON_NO_MOUNT; or a program's token. Standard input from a file has one, and a path, where a grant shows
                         * that file too */
    uint32_t flags;     /* enum mon_image_handle_flags */
    uint32_t open_flags; /* of the host's descriptor (fcntl F_GETFL): O_APPEND, O_DIRECT */
    uint32_t path_size; /* of the path below the mount, which follows without a NUL */
    uint64_t device, inode, size, position;
    int64_t modify_ns;
};

#endif
