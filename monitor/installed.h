/* Bailey's own files beside the program: where `make install` or the build puts them. */
#ifndef MONITOR_INSTALLED_H
#define MONITOR_INSTALLED_H

#include "base/error.h"

/* Opens libexec/bailey/NAME, found from where this program lies, or in the folder that BAILEY_LIBEXEC names; *out_path, unless NULL,
 * becomes a new string. Returns a descriptor, or negative with `error` set. */
int mon_open_installed(const char *name, char **out_path, struct error *error);

#endif
