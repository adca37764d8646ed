/* Memory of a sandbox that moves lazily: it stands still here while it runs there, and is given away: what is asked for first, all of it at
 * last. */
#ifndef MONITOR_SUSPENSION_LATER_H
#define MONITOR_SUSPENSION_LATER_H

#include "monitor/suspension/suspension.h"

struct mon_later;

/* The bulk segment and private memory, as spaces whose pages come later but for small pieces. *out_later is set in any case. */
int mon_later_list(struct mon_sandbox *sandbox, const struct mon_memory *memory, struct img_writer *writer, struct mon_later **out_later,
                   struct error *error) __attribute__((warn_unused_result));
/* A piece of the writer's space, which lies at `place` of the file that is being listed. */
int mon_later_note(struct mon_later *later, struct img_writer *writer, uint64_t address, uint64_t place, uint64_t count, struct error *error)
    __attribute__((warn_unused_result));
/* Sends all of it to the suspension's peer. Negative: not all was sent. */
int mon_later_serve(struct mon_suspension *suspension, struct error *error) __attribute__((warn_unused_result));
uint64_t mon_later_size(const struct mon_later *later); /* bytes */
void mon_later_free(struct mon_later *later);

#endif
