/* bailey policy learn: from the audit lines of one run to the policy that this run needed. */
#ifndef CLI_LEARN_H
#define CLI_LEARN_H

#include <base/error.h>
#include <base/text.h>
#include <cli/command.h>
#include <monitor/policy/policy.h>

int learn_policy(int argc, char **argv, struct error *error);
/* Reads audit lines (JSON, NUL-terminated; changed on the way) and adds to `learned` the grants
 * that cover what was used of `used`. */
void learn_from_audit(char *lines, const struct mon_policy *used, struct mon_policy *learned);
void policy_write_yaml(const struct mon_policy *policy, struct text *out); /* as a policy file */

extern const struct command command_policy_show, command_policy_learn;

#endif
