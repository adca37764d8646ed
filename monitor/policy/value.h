/* Values of a policy as users write them, on the command line and in the policy file alike. Each
 * error names the value, what is wrong with it and what is expected. */
#ifndef MONITOR_POLICY_VALUE_H
#define MONITOR_POLICY_VALUE_H

#include <monitor/policy/policy.h>

/* HOST[:GUEST][:ro|rw|O] into the policy. `base` is the folder that relative host paths start from.
 */
int policy_add_volume(struct mon_policy *policy, const char *volume, const char *base,
                      struct error *error);
/* NAME=VALUE, or NAME: as it is in this environment (left out when it is not set). */
int policy_add_variable(struct text_list *environment, const char *variable, struct error *error);
int policy_add_variable_file(struct text_list *environment, const char *path, struct error *error);
/* 512m, 2g: bytes. */
int policy_parse_size(const char *text, uint64_t *out_bytes, struct error *error);
/* The same of a memory limit, which must leave a sandbox room to live. */
int policy_parse_memory(const char *text, uint64_t *out_bytes, struct error *error);
int policy_parse_user(const char *text, uint32_t *out_user, uint32_t *out_group,
                      struct error *error);
int policy_parse_number(const char *what, const char *text, uint32_t minimum, uint32_t maximum,
                        uint32_t *out_number, struct error *error);
/* x86-64-v2, -v3 or -v4. */
int policy_parse_level(const char *text, uint32_t *out_level, struct error *error);
int policy_check_host_name(const char *name, struct error *error);
/* PATH, HOME, TERM, LANG, LC_*: what every program gets unless it was set already. */
void policy_default_environment(struct text_list *environment, uint32_t user, const char *host_name,
                                bool terminal);

#endif
