/* Memory of a sandbox that moves lazily: it stands still here while it runs there, and is given away: what is asked for first, all of it at
 * last. */
#ifndef MONITOR_SUSPENSION_LATER_H
#define MONITOR_SUSPENSION_LATER_H

#include "monitor/suspension/suspension.h"

struct mon_behind;

/* The bulk segment and private memory, as spaces whose pages come later but for small pieces. *out_later is set in any case. */
int mon_behind_list(struct mon_sandbox *sandbox, const struct mon_memory *memory, struct img_writer *writer, struct mon_behind **out_later,
                   struct error *error) __attribute__((warn_unused_result));
/* A piece of the writer's space, which lies at `place` of the file that is being listed. */
int mon_behind_note(struct mon_behind *later, struct img_writer *writer, uint64_t address, uint64_t place, uint64_t count, struct error *error)
    __attribute__((warn_unused_result));
/* Sends all of it to the suspension's peer. Negative: not all was sent. */
int mon_behind_serve(struct mon_suspension *suspension, struct error *error) __attribute__((warn_unused_result));
uint64_t mon_behind_size(const struct mon_behind *later); /* bytes */
void mon_behind_free(struct mon_behind *later);

#endif
