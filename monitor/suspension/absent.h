/* What a resumed sandbox has not touched of its bulk segment yet: files in memory, shared memory. It stays in the image until the sandbox
 * asks for it (BLY_RPC_LOAD), so that a resume costs the same however much there is, and a clone no memory for what it does not use. */
#ifndef MONITOR_SUSPENSION_ABSENT_H
#define MONITOR_SUSPENSION_ABSENT_H

#include "monitor/sandbox.h"

#include <image/writer.h>

struct mon_absent;

/* `segment` is fresh. From here on the sandbox's requests are served, until its workers have ended. */
int mon_absent_begin(struct mon_sandbox *sandbox, int segment, struct error *error) __attribute__((warn_unused_result));
/* Bytes that are still in the image alone. NULL: none. */
uint64_t mon_absent_size(struct mon_absent *absent);
/* Nothing is absent any more. */
int mon_absent_load_all(struct mon_sandbox *sandbox, struct error *error) __attribute__((warn_unused_result));
/* The bulk segment into an image: what is absent from the image that it lies in. At rest. */
int mon_absent_write(struct mon_sandbox *sandbox, struct img_writer *writer, struct error *error) __attribute__((warn_unused_result));

#endif
