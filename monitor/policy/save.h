/* A policy as bytes, for the image of a suspended sandbox: what is seen, what is run, under which
 * limits. Not kept: the state folder and the descriptor of the command line that waits, which
 * belong to the one that runs the sandbox, and the folder of --layer among the mounts, which
 * `layer_path` names and which is opened anew.
 *
 * What mon_policy_load accepts is well-formed and nothing more: a stranger may have written it. It
 * goes through mon_policy_check as every policy does, and what it asks for is granted by the local
 * operator or not at all (grant.h). */
#ifndef MONITOR_POLICY_SAVE_H
#define MONITOR_POLICY_SAVE_H

#include <monitor/policy/policy.h>

#define MON_POLICY_SAVED_MAX (8u << 20)

/* The policy must have passed mon_policy_check. -E2BIG: it is larger than the above. */
int mon_policy_save(const struct mon_policy *policy, struct text *out)
    __attribute__((warn_unused_result));
/* Into an empty policy, which is left empty when it fails. -EPROTO: `error` says what is wrong. The
 * order of the mounts is that of mon_policy_check, which need not sort them again. */
int mon_policy_load(struct mon_policy *policy, const void *data, size_t size, struct error *error)
    __attribute__((warn_unused_result));

#endif
