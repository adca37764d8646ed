/* `bailey` is linked with musl, since a program linked with glibc takes 0.5 ms longer to start
 * under virtualization (docs/architecture.md). What needs a library that Debian has for glibc only,
 * the reader of policy files, the moving of sandboxes and the packing of images, is in a second
 * build of the same program, libexec/bailey/bailey-full. A command that meets a policy file or a
 * packed image, or is to move a sandbox, ends with EXIT_HAND_OVER, and main executes that program
 * with the same arguments. Hence the rule: that comes before anything else is done. */
#ifndef CLI_HAND_OVER_H
#define CLI_HAND_OVER_H

#include <base/error.h>

/* Does not return unless the full program cannot be executed. */
int hand_over(char **argv, struct error *error);

#endif
