/* Names of errno values and of signals, as users and audit logs write them: C libraries differ in
 * which they offer. */
#ifndef BASE_NAMES_H
#define BASE_NAMES_H

/* "ENOENT" for 2; "EUNKNOWN" for what Linux does not have. Reads constants only. */
const char *error_name(int number);
/* "TERM" for 15; NULL for a number without a name (real-time signals too). */
const char *signal_name(int number);

#endif
