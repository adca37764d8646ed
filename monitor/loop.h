/* The monitor's main loop: descriptors, timers and a few hooks, all in one thread. A watch belongs to its owner, who
 * embeds it, and must be removed before it is freed; removing from inside any callback is allowed, freeing too: a
 * removed watch is never called again. Callbacks must not block. */
#ifndef MONITOR_LOOP_H
#define MONITOR_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

struct mon_watch;
typedef void mon_watch_function(struct mon_watch *watch, uint32_t events);

struct mon_watch {
    int descriptor;
    uint32_t events;             /* EPOLLIN, EPOLLOUT, ...; level-triggered */
    mon_watch_function *function;
    void *context;               /* the owner's own */
    bool active;                 /* the loop's: registered */
};

struct mon_timer;
typedef void mon_timer_function(struct mon_timer *timer);
struct mon_timer {
    uint64_t deadline_ns; /* CLOCK_MONOTONIC */
    mon_timer_function *function;
    void *context;
    struct mon_timer *next; /* the loop's: sorted list */
    bool active;
};

#define MON_LOOP_BATCH 32
struct mon_loop {
    int epoll;
    bool stop;
    struct mon_timer *timers;
    struct epoll_event events[MON_LOOP_BATCH]; /* of the round being served; entries of removed watches are cleared */
    int event_count, event_next;
};

int mon_loop_init(struct mon_loop *loop) __attribute__((warn_unused_result));
void mon_loop_destroy(struct mon_loop *loop);

/* 0 or negative errno; -EPERM: the descriptor cannot be waited for (a regular file). */
int mon_watch_add(struct mon_loop *loop, struct mon_watch *watch) __attribute__((warn_unused_result));
/* Changes the events waited for; adds the watch when it is not registered, removes it when `events` is 0. */
int mon_watch_set(struct mon_loop *loop, struct mon_watch *watch, uint32_t events);
void mon_watch_remove(struct mon_loop *loop, struct mon_watch *watch);

/* One shot. Starting an active timer moves it. */
void mon_timer_start(struct mon_loop *loop, struct mon_timer *timer, uint64_t delay_ns);
void mon_timer_stop(struct mon_loop *loop, struct mon_timer *timer);
uint64_t mon_now_ns(void);

/* Serves until mon_loop_stop. Returns 0 or negative errno. */
int mon_loop_run(struct mon_loop *loop) __attribute__((warn_unused_result));
/* Serves what is ready now or becomes so within `timeout_ms`, once. */
int mon_loop_once(struct mon_loop *loop, int timeout_ms) __attribute__((warn_unused_result));
static inline void mon_loop_stop(struct mon_loop *loop) { loop->stop = true; }

#endif
