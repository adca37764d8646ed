/* A sandbox that runs while its image is still coming from another machine (bailey migrate --lazy). Its pages are written into the image by
 * the carrier (image/carrier.h), which is asked for those that are wanted now. */
#ifndef MONITOR_SUSPENSION_ARRIVING_H
#define MONITOR_SUSPENSION_ARRIVING_H

#include "monitor/sandbox.h"

struct mon_arriving;

/* The sandbox ends when the rest does not come. */
int mon_arriving_begin(struct mon_sandbox *sandbox, struct error *error) __attribute__((warn_unused_result));
/* Until these bytes of the image are there; NULL: they are. -EINVAL: they are no pages of it. -EIO: they do not come. */
int mon_arriving_wait(struct mon_arriving *arriving, uint64_t offset, uint64_t size) __attribute__((warn_unused_result));
/* All is there. */
bool mon_arriving_is_through(struct mon_arriving *arriving);

#endif
