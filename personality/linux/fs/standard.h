/* Standard input, output and error as the host gave them. */
#ifndef LX_FS_STANDARD_H
#define LX_FS_STANDARD_H

#include "personality/linux/file.h"

/* An open file for one of start_info->standard (or of an EXECUTE record). NULL: no memory. */
struct open_file *lx_standard_stream(const struct bly_start_stream *given);
/* The inode of such a file: its `open` operation makes a further open file of the same stream. */
bool lx_standard_owns(const struct inode *inode);

#endif
