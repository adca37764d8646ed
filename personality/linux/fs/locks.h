/* Locks on files, for fcntl(2) and flock(2). */
#ifndef LX_LOCKS_H
#define LX_LOCKS_H

#include "personality/linux/file.h"

struct guest_flock;
int locks_init(void);
long locks_fcntl(struct open_file *file, unsigned command, struct guest_flock *guest); /* F_GETLK, F_SETLK(W), F_OFD_* */
long locks_flock(struct open_file *file, int type, bool wait); /* F_RDLCK, F_WRLCK, F_UNLCK; -EAGAIN for the caller to make -EWOULDBLOCK of */

#endif
