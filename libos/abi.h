/* The vtable of the host layer, as libos and the personalities reach it. Defined by the personality, which sets it in its
 * `start` upcall before it calls anything of libos; it never changes afterwards. */
#ifndef LIBOS_ABI_H
#define LIBOS_ABI_H

#include <bailey/abi.h>

extern const struct bly_abi *bly;

#endif
