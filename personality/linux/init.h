/* Guest pid 1: starts programs, reaps, and answers the monitor. */
#ifndef LX_INIT_H
#define LX_INIT_H

#include "personality/linux/lx.h"

/* The leader of the first picoprocess from here on. */
_Noreturn void init_run(void);

/* start.c: the caller works for `process`, before it becomes one of the threads in the table. */
void lx_become_boot_thread(struct lx_process *process);
/* The host name becomes what the start information says. */
void lx_set_host_name(void);

/* A thread of init, without a tid of the program's world. `function` does not return. */
int init_start_thread(const char *name, void (*function)(void *), void *argument);
/* Ends the calling service thread. */
_Noreturn void init_end_thread(void);
_Noreturn void init_thread_started(uint64_t argument); /* of thread_start, when init_is_service says so */
/* Of the argument of thread_start: the rest is a pointer. */
enum { INIT_SERVICE = 1, INIT_RESUMED = 2 };
static inline bool init_is_service(uint64_t argument) { return argument & INIT_SERVICE; }
/* Of a node of lx_kernel.services. */
struct lx_thread *init_service_thread(struct list *node);
/* Resume: services that did not park are begun anew. */
int init_resume_services(void);

/* One record to the monitor; `text` may be NULL. From any picoprocess. */
void init_report(uint32_t kind, uint32_t token, int32_t value, const char *text, size_t size);

/* A program that the monitor wants: the first, or one of `bailey exec`. */
struct program_request {
    uint32_t token;
    void *strings; /* heap memory that the strings lie in, which the child takes over; NULL: they stay for good */
    const char *program, *directory;
    const char *arguments, *environment; /* strings one after another */
    size_t argument_count, environment_count;
    uint32_t user, group;
    bool terminal;
    struct tty *tty; /* the terminal of a program of `bailey exec`; NULL: the sandbox's own. The child takes over a reference */
    struct bly_start_stream standard[3];
};
/* Makes the process. Guest pid, or -errno (already reported). */
long init_start_program(const struct program_request *request);

/* control.c: a service thread */
_Noreturn void control_thread(void *argument);

#endif
