/* Suspending a sandbox and going on with a suspended one (docs/architecture.md, "Suspend and resume"). */
#ifndef LX_SUSPEND_H
#define LX_SUSPEND_H

#include "personality/linux/lx.h"

/* Brings every thread but the caller's to rest. Returns how many ids were stored in `ids`: of the picoprocesses with private memory, and then what `flags`
 * (enum bly_quiesce_flags) ask of each (BLY_CONTROL_QUIESCED); or, when all goes on:
 * -ETIMEDOUT, -ENOMEM, -E2BIG (more than `room`), with `what` saying why. From success to sandbox_thaw nobody may touch the heap. */
int sandbox_quiesce(uint64_t patience_ns, uint32_t flags, uint32_t *ids, size_t room, char *what, size_t what_size);
void sandbox_thaw(void);

/* In the first picoprocess, with the heap and the bulk segment as they were when all was at rest: makes the other picoprocesses and all threads
 * again, and lets them go on. */
_Noreturn void sandbox_resume(void);

#endif
