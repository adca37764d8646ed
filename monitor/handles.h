/* The sandbox's handle table: handle -> master descriptor. A handle is an index (low 20 bits) and a generation (high 12
 * bits), so that a stale handle is refused instead of reaching its successor. */
#ifndef MONITOR_HANDLES_H
#define MONITOR_HANDLES_H

#include <bailey/abi.h>
#include <pthread.h>
#include <stdint.h>

#define MON_NO_MOUNT UINT32_MAX
/* `place`: 0 to 2 standard streams, 3 and 4 the terminal's input and output. */
#define MON_OWNER(token, place) ((uint64_t)(token) << 3 | (place))

struct mon_handle {
    int descriptor;    /* the master; -1: the sandbox alone holds it (wake pool, standard streams) */
    uint32_t users;    /* workers using `descriptor` now */
    uint32_t mount;    /* index of the granted folder it was opened in, or MON_NO_MOUNT */
    uint16_t generation;
    uint8_t kind;      /* enum bly_kind */
    uint8_t access;    /* enum bly_access */
    uint64_t owner;    /* a stream of a program of `bailey exec`: MON_OWNER of its token and place; 0: none */
    bool open;         /* false and users > 0: closed as soon as the last user is done */
    uint32_t next_free;
};

struct mon_handles {
    pthread_mutex_t lock; /* guards all below; held for no system call but close of nothing that can block */
    struct mon_handle *entries;
    uint32_t count, capacity, limit; /* entries ever used, allocated, allowed */
    uint32_t free_first, free_last;  /* queue of free entries, so that a generation lasts long; UINT32_MAX: none */
};

void mon_handles_init(struct mon_handles *handles, uint32_t limit);
void mon_handles_destroy(struct mon_handles *handles);

/* A new handle. Takes over `descriptor` (which may be -1) on success only. -EMFILE at the limit, -ENOMEM. */
int mon_handle_add(struct mon_handles *handles, int descriptor, unsigned kind, unsigned access, uint32_t mount,
                   bly_handle *out_handle) __attribute__((warn_unused_result));
/* An entry of this very number, as it was before a suspension; takes over `descriptor` on success only. The free ones below it
 * are free to be taken. -EINVAL: no handle has this number; -EEXIST: it is taken; -EMFILE, -ENOMEM. */
int mon_handle_place(struct mon_handles *handles, bly_handle handle, int descriptor, unsigned kind, unsigned access, uint32_t mount)
    __attribute__((warn_unused_result));
/* BLY_NO_HANDLE is allowed. */
void mon_handle_set_owner(struct mon_handles *handles, bly_handle handle, uint64_t owner);
/* Consecutive handles without a master, on a fresh table only. */
int mon_handle_add_range(struct mon_handles *handles, uint32_t count, unsigned kind, bly_handle *out_first)
    __attribute__((warn_unused_result));
/* A copy of the entry, whose descriptor stays open until mon_handle_put. -EBADF. */
int mon_handle_get(struct mon_handles *handles, bly_handle handle, struct mon_handle *out_entry)
    __attribute__((warn_unused_result));
uint32_t mon_handles_open(struct mon_handles *handles); /* how many there are */
/* The first open handle at *place or after it; *place is 0 to begin with. False: there is none. */
bool mon_handle_next(struct mon_handles *handles, uint32_t *place, bly_handle *out_handle);
void mon_handle_put(struct mon_handles *handles, bly_handle handle);
/* -EBADF. */
int mon_handle_close(struct mon_handles *handles, bly_handle handle);

#endif
