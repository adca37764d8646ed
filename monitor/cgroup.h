/* Hard limits by cgroup, where the host lets us make one. */
#ifndef MONITOR_CGROUP_H
#define MONITOR_CGROUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Threads that Bailey itself needs in a sandbox, beside those counted by --pids. */
#define MON_OWN_THREADS 24u

#define MON_CGROUP_PLACES 4 /* memory and pids, of version 1 and of version 2 */
struct mon_cgroup_place {
    int parent, folder; /* -1: none */
    int entrance;       /* a thread that writes "0" there is in it: the sandbox's first, before it has any other */
};
struct mon_cgroup {
    struct mon_cgroup_place places[MON_CGROUP_PLACES];
};

/* Makes what is possible for these limits (0: none). Never fails: mon_cgroup_limits_memory tells. */
void mon_cgroup_open(struct mon_cgroup *cgroup, uint64_t memory_limit, uint32_t process_limit);
bool mon_cgroup_limits_memory(const struct mon_cgroup *cgroup);
int64_t mon_cgroup_memory_in_use(const struct mon_cgroup *cgroup); /* bytes; -1: not known */
/* After the last process of the sandbox. */
void mon_cgroup_close(struct mon_cgroup *cgroup);

#endif
