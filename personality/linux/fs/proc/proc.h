/* /proc: tables of its parts. */
#ifndef LX_PROC_H
#define LX_PROC_H

#include "personality/linux/fs/pseudo.h"

/* The process a node is about (argument 0 is its pid), with a reference; NULL: it has ended. */
static inline struct lx_process *proc_process(const struct pseudo_node *node) { return process_get((int)node->argument[0]); }
static inline void process_cleanup(struct lx_process **process) { if (*process) process_unref(*process); }
#define scoped_process struct lx_process *__attribute__((cleanup(process_cleanup)))

extern const struct pseudo_entry proc_process_entry; /* /proc/PID */
/* Whether `file` is an open /proc/PID, which can stand for the process as a pidfd does; *out_process, with a reference, is NULL when
 * it has ended. */
bool proc_is_process_directory(const struct open_file *file, struct lx_process **out_process);
extern const struct pseudo_entry proc_sys_entry;     /* /proc/sys */
int proc_show_cpuinfo(const struct pseudo_node *node, struct text *out);
/* As seen by the process of the node: /proc/mounts, mountinfo. */
int proc_show_mounts(const struct pseudo_node *node, struct text *out);
int proc_show_mountinfo(const struct pseudo_node *node, struct text *out);

int lx_proc_init(void);
int lx_sysfs_init(void);

#endif
