/* The RPC server: serves the slots of include/bailey/rpc.h with one pinned thread a CPU. Every request is copied once, then checked,
 * then served (requests.c); nothing is read from shared memory twice. */
#ifndef MONITOR_RPC_H
#define MONITOR_RPC_H

#include <bailey/rpc.h>
#include <monitor/handles.h>
#include <monitor/stream-file.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

/* A request after copying; the reply is built in `reply`, which is never read back from shared memory. */
struct mon_request {
    uint32_t operation;
    uint32_t size;
    uint64_t u[6];
    unsigned char data[BLY_RPC_DATA_SIZE + 1]; /* a NUL follows */
};
struct mon_reply {
    int64_t result;
    uint64_t u[6];
    int descriptor;       /* to be sent, or -1 */
    bool close_descriptor; /* after sending: it is no master */
    bly_handle in_use;     /* mon_handle_put after sending */
    bool no_reply;
    uint32_t size;
    union {
        unsigned char data[BLY_RPC_DATA_SIZE];
        struct bly_attributes attributes;
        struct bly_walk_result walk;
        struct bly_system_info system;
    };
};

#define MON_WORKER_SPARE 8u /* further threads for doorbells whose worker is held up by a file system */

struct mon_rpc;
struct mon_worker {
    struct mon_rpc *rpc;
    uint32_t doorbell;
    bool pinned;
    bool started;
    pthread_t thread;
    _Atomic uint64_t served;        /* requests, for `bailey inspect` */
    _Atomic uint64_t busy_since_ns; /* 0: idle. Kept only when the watch is on */
    struct mon_request request;
    struct mon_reply reply;
};

struct mon_rpc {
    struct bly_rpc_channel *channel; /* shared with the sandbox: hostile */
    int memory;                      /* its memfd */
    int sockets[BLY_RPC_SLOT_COUNT]; /* our ends */
    int peers[BLY_RPC_SLOT_COUNT];   /* the sandbox's ends: kept so that what a dead caller left can be taken out */
    struct mon_files *files;
    struct mon_handles *handles;
    uint64_t memory_limit;
    /* Interrupt a thread, and tell the CPU time of a process, where the sandbox cannot itself (launch.c). */
    int (*interrupt)(void *context, uint32_t process, uint32_t thread);
    int (*cpu_time)(void *context, uint32_t process, uint64_t *out_ns);
    /* Of a resumed sandbox: a range of its bulk segment is to be there, or to be given up; a range of its image is to be (suspension/absent.c). */
    int (*load)(void *context, enum bly_load_source source, uint64_t offset, uint64_t size, bool discard);
    void *context;

    _Atomic bool stop;
    uint64_t served_eagerly;  /* requests that were, once the workers have started */
    struct mon_worker *eager; /* main_thread while it serves alone; NULL once the workers have started */
    bool watched; /* a grant lies on a file system that may hang: mon_rpc_watch is called now and then */
    _Atomic uint32_t orphans[BLY_RPC_SLOT_COUNT]; /* the process whose request is being served in the slot though it has died; 0: none.
                               * Whoever takes it out frees the slot. A request that frees its slot itself leaves it behind: it then
                               * names no later owner, as process ids do not come back soon. */
    _Atomic bool serving[BLY_RPC_SLOT_COUNT]; /* a worker has the slot: a ring on a second doorbell starts no second one */
    uint32_t worker_count;
    struct mon_worker *workers[BLY_RPC_WORKER_MAX + MON_WORKER_SPARE];
    uint32_t spare_count;
    struct mon_worker main_thread; /* last: most of it is never touched */
};

/* Makes channel and sockets; no thread yet. */
int mon_rpc_init(struct mon_rpc *rpc) __attribute__((warn_unused_result));
/* Without workers, until mon_rpc_start: the caller serves what waits at any doorbell. Not to be used where a file system may hold it up;
 * does nothing where there is but one CPU. */
void mon_rpc_begin_eager(struct mon_rpc *rpc);
/* Returns whether there was anything. */
bool mon_rpc_serve_eagerly(struct mon_rpc *rpc);
/* Before and after sleeping until the log pipe has something. The first returns false when there is something to serve already. */
bool mon_rpc_eager_sleeps(struct mon_rpc *rpc);
void mon_rpc_eager_wakes(struct mon_rpc *rpc);
/* Serves nobody any more, and never will. */
void mon_rpc_end_eager(struct mon_rpc *rpc);
/* Starts the workers. */
int mon_rpc_start(struct mon_rpc *rpc) __attribute__((warn_unused_result));
/* After the sandbox's last process is gone. Returns false when workers that a file system holds up are left behind: they still use
 * everything, which then must not be freed. */
bool mon_rpc_stop(struct mon_rpc *rpc);
/* Starts a further worker for each doorbell whose own has been busy for a second while requests wait. */
void mon_rpc_watch(struct mon_rpc *rpc);
/* How many requests have been served. */
uint64_t mon_rpc_served(const struct mon_rpc *rpc);
/* Frees the slots of a process that has ended. */
void mon_rpc_process_ended(struct mon_rpc *rpc, uint32_t process);

/* Serves one request (requests.c): fills `reply`. */
void mon_request_serve(struct mon_rpc *rpc, const struct mon_request *request, struct mon_reply *reply);

#endif
