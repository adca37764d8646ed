/* Pipes, as pipe.c keeps them and fifo.c opens them by name. */
#ifndef LX_FS_PIPE_H
#define LX_FS_PIPE_H

#include "personality/linux/file.h"

#define PIPE_ATOMIC 4096u           /* PIPE_BUF: writes up to this size are never torn */
#define PIPE_DEFAULT_SIZE 65536u
#define PIPE_MAXIMUM_SIZE (1u << 20) /* what /proc/sys/fs/pipe-max-size says */

struct pipe {
    struct lock lock;           /* guards all below */
    struct wait_queue readable; /* readers, and who polls for reading */
    struct wait_queue writable; /* writers, and who polls for writing */
    struct wait_queue turn;     /* who waits for another one's copy to end */
    struct wait_queue opened;   /* open(2) of a FIFO that waits for the other end */
    char *ring;                 /* NULL until the first write */
    uint32_t capacity;          /* a power of two */
    uint64_t head, tail;        /* running byte counts: [head, tail) is full; index in the ring is modulo capacity */
    bool reading, writing;      /* somebody copies out of (into) the ring just now, without the lock */
    uint32_t turn_waiters;
    uint32_t readers, writers;  /* open files with that access */
    uint32_t reader_opens, writer_opens; /* how often an end was opened, ever: FIFO open rules, POLLHUP */
    struct list packets;        /* of struct packet, for O_DIRECT writes; empty in the usual case */
    uint32_t packet_count;
    bool named;                 /* a FIFO: opening an end waits for the other one */
    struct inode *fifo_inode;   /* whose `fifo` points here; every end holds a reference on it */
};

struct pipe *pipe_create(void);
/* Counts an end of the given access in, or out; the last one out frees the pipe. */
void pipe_add_ends(struct pipe *pipe, unsigned flags);
void pipe_close(struct open_file *file);
/* Forgets a pipe that no file was made for. */
void pipe_free(struct pipe *pipe);

extern const struct file_ops pipe_ops;

#endif
