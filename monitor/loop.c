/* The main loop over epoll. Invariant: an epoll event names a live watch, because removing one clears its event from the
 * round being served. */
#include "monitor/loop.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

int mon_loop_init(struct mon_loop *loop)
{
    *loop = (struct mon_loop){.epoll = epoll_create1(EPOLL_CLOEXEC)};
    return loop->epoll < 0 ? -errno : 0;
}

void mon_loop_destroy(struct mon_loop *loop)
{
    if (loop->epoll >= 0)
        close(loop->epoll);
    loop->epoll = -1;
}

int mon_watch_add(struct mon_loop *loop, struct mon_watch *watch)
{
    struct epoll_event event = {.events = watch->events, .data.ptr = watch};
    if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, watch->descriptor, &event) < 0)
        return -errno;
    watch->active = true;
    return 0;
}

int mon_watch_set(struct mon_loop *loop, struct mon_watch *watch, uint32_t events)
{
    if (events == 0) {
        mon_watch_remove(loop, watch);
        return 0;
    }
    if (watch->active && watch->events == events)
        return 0;
    watch->events = events;
    if (!watch->active)
        return mon_watch_add(loop, watch);
    struct epoll_event event = {.events = events, .data.ptr = watch};
    return epoll_ctl(loop->epoll, EPOLL_CTL_MOD, watch->descriptor, &event) < 0 ? -errno : 0;
}

void mon_watch_remove(struct mon_loop *loop, struct mon_watch *watch)
{
    if (!watch->active)
        return;
    watch->active = false;
    epoll_ctl(loop->epoll, EPOLL_CTL_DEL, watch->descriptor, NULL);
    for (int i = loop->event_next; i < loop->event_count; i++)
        if (loop->events[i].data.ptr == watch)
            loop->events[i].data.ptr = NULL;
}

uint64_t mon_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void mon_timer_stop(struct mon_loop *loop, struct mon_timer *timer)
{
    if (!timer->active)
        return;
    timer->active = false;
    for (struct mon_timer **place = &loop->timers; *place; place = &(*place)->next) {
        if (*place == timer) {
            *place = timer->next;
            return;
        }
    }
}

void mon_timer_start(struct mon_loop *loop, struct mon_timer *timer, uint64_t delay_ns)
{
    mon_timer_stop(loop, timer);
    timer->deadline_ns = mon_now_ns() + delay_ns;
    struct mon_timer **place = &loop->timers;
    while (*place && (*place)->deadline_ns <= timer->deadline_ns)
        place = &(*place)->next;
    timer->next = *place;
    timer->active = true;
    *place = timer;
}

static int time_to_wait_ms(struct mon_loop *loop, int limit_ms)
{
    if (!loop->timers)
        return limit_ms;
    uint64_t now = mon_now_ns();
    if (loop->timers->deadline_ns <= now)
        return 0;
    uint64_t wait_ms = (loop->timers->deadline_ns - now + 999999u) / 1000000u;
    if (wait_ms > 1000000u)
        wait_ms = 1000000u;
    return limit_ms >= 0 && (uint64_t)limit_ms < wait_ms ? limit_ms : (int)wait_ms;
}

int mon_loop_once(struct mon_loop *loop, int timeout_ms)
{
    int count = epoll_wait(loop->epoll, loop->events, MON_LOOP_BATCH, time_to_wait_ms(loop, timeout_ms));
    if (count < 0 && errno != EINTR)
        return -errno;
    loop->event_count = count < 0 ? 0 : count;
    for (loop->event_next = 0; loop->event_next < loop->event_count;) {
        struct epoll_event *event = &loop->events[loop->event_next++];
        struct mon_watch *watch = event->data.ptr;
        if (watch)
            watch->function(watch, event->events);
    }
    loop->event_count = loop->event_next = 0;

    uint64_t now = loop->timers ? mon_now_ns() : 0;
    while (loop->timers && loop->timers->deadline_ns <= now) {
        struct mon_timer *timer = loop->timers;
        loop->timers = timer->next;
        timer->active = false;
        timer->function(timer);
    }
    return 0;
}

int mon_loop_run(struct mon_loop *loop)
{
    while (!loop->stop) {
        int result = mon_loop_once(loop, -1);
        if (result < 0)
            return result;
    }
    return 0;
}
