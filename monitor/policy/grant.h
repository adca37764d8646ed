/* What a resumed sandbox is given: what its image claims, as far as the operator grants it.
 *
 * The default view, folders of the sandbox's own and limits are what every sandbox gets. All beyond (folders of the operator's, another
 * root, files that Bailey writes) is granted if the image is the operator's own, and else only when the operator names it again. */
#ifndef MONITOR_POLICY_GRANT_H
#define MONITOR_POLICY_GRANT_H

#include <monitor/policy/policy.h>

/* `granted` has what the operator named: mounts, rootfs, layer_path, audit_path. A place that the operator names gets the operator's folder
 * instead of the claimed one, and no more rights than either says; the sandbox cannot get a place that it did not have. `claimed` becomes the
 * policy, resolved and checked; its memory_limit and process_limit are at most those of `granted`, where these are set and the image is
 * not the operator's own. -EPERM: the message has the options that are missing. */
int mon_policy_grant(struct mon_policy *claimed, const struct mon_policy *granted, bool own, const char *image_name, struct error *error)
    __attribute__((warn_unused_result));

#endif
