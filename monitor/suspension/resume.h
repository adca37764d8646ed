/* The launch of a sandbox that goes on from an image (launch.c calls these where it would make things afresh). */
#ifndef MONITOR_SUSPENSION_RESUME_H
#define MONITOR_SUSPENSION_RESUME_H

#include "monitor/suspension/read.h"
#include "monitor/sandbox.h"

/* Fills the handle table, the standard streams and start_handles. -ESTALE names a file that has changed. */
int mon_resume_handles(struct mon_sandbox *sandbox, const int standard[3], struct error *error) __attribute__((warn_unused_result));
/* Fills a fresh segment whose first byte is mapped at `start`. */
int mon_resume_segment(const struct mon_sandbox *sandbox, uint32_t kind, uint64_t start, int segment, struct error *error)
    __attribute__((warn_unused_result));
/* A sealed memfd: struct bly_resume_space and its extents, for each picoprocess (start.h). */
int mon_resume_extents(const struct mon_sandbox *sandbox, struct error *error) __attribute__((warn_unused_result));
/* Bytes of an image's file into a segment. Holes stay holes only by not being named. */
int mon_resume_copy(int from, uint64_t from_offset, int to, uint64_t to_offset, uint64_t size) __attribute__((warn_unused_result));

#endif
