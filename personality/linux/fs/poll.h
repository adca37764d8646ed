/* Waiting for several files at once: what poll, select and epoll share. */
#ifndef LX_FS_POLL_H
#define LX_FS_POLL_H

#include "personality/linux/file.h"

/* Who asks a file's `poll` operation. `wait` and `wait_stream` are what poll_wait and poll_wait_stream call. */
struct poll_table {
    void (*wait)(struct poll_table *table, struct wait_queue *queue);
    void (*wait_stream)(struct poll_table *table, bly_handle stream, uint32_t events);
    uint32_t events; /* of interest in the file that is being asked, as poll_interest gives them */
    bool lasting;    /* the registrations stay after the call, until the file is closed (epoll) */
};

/* The wake-ups that matter to who wants `events`: errors too, and both names of the same event. */
uint32_t poll_interest(uint32_t events);

/* A thread's sleep on any number of wait queues and host streams. */
struct poll_sleeper;
struct poll_sleeper *poll_sleeper_create(void);
void poll_sleeper_free(struct poll_sleeper *sleeper); /* NULL is fine */
struct poll_table *poll_sleeper_table(struct poll_sleeper *sleeper);
/* One more queue or stream; what goes wrong is told by the next sleep. */
void poll_sleeper_add_queue(struct poll_sleeper *sleeper, struct wait_queue *queue, uint32_t events, bool exclusive);
void poll_sleeper_add_stream(struct poll_sleeper *sleeper, bly_handle stream, uint32_t events);
void poll_sleeper_drop_streams(struct poll_sleeper *sleeper);
/* Until a wake-up after `ticket` was taken. Deadlines count on the sandbox's monotonic clock (lx_monotonic_ns). 0 (test again), -EINTR,
 * -ETIMEDOUT, -ENOMEM. */
int poll_sleeper_sleep(struct poll_sleeper *sleeper, uint32_t ticket, uint64_t deadline_ns);

/* `nanoseconds` from now; BLY_FOREVER stays so. */
uint64_t poll_deadline(uint64_t nanoseconds);
/* A guest's struct timespec into a duration: -EFAULT, -EINVAL. */
int poll_read_timespec(const void *guest, uint64_t *out_nanoseconds) __attribute__((warn_unused_result));
/* Reads and sets a call's temporary signal mask; `guest` NULL: none. */
int poll_set_mask(const void *guest, size_t size) __attribute__((warn_unused_result));

/* lseek(2) on eventfd and its like: allowed, and nothing. */
int64_t event_seek(struct open_file *file, int64_t offset, int whence);

#endif
