/* `bailey trace`: system calls as strace prints them. */
#ifndef LX_TRACE_H
#define LX_TRACE_H

#include "personality/linux/lx.h"

struct trace_call {
    uint64_t number, start_ns;
    uint64_t argument[6];
    int32_t pid, tid;
};
void trace_begin(struct trace_call *call, const struct bly_context *context, uint64_t number);
void trace_end(const struct trace_call *call, long result);
const char *trace_syscall_name(uint64_t number); /* NULL: unknown */
/* "ENOENT", or NULL. */
const char *trace_errno_name(int error);

#endif
