/* Scope-bound resources for the hosted programs: a variable marked with one of these gives up what
 * it holds when its scope ends, on every path. `take_pointer`/`take_descriptor` move the resource
 * out, so that ownership is seen at the call. */
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free_pointer(void *pointer)
{
    free(*(void **)pointer);
}

static inline void cleanup_close_descriptor(int *descriptor)
{
    if (*descriptor >= 0)
        close(*descriptor);
}

static inline void cleanup_close_directory(DIR **directory)
{
    if (*directory)
        closedir(*directory);
}

static inline void cleanup_close_file(FILE **file)
{
    if (*file)
        fclose(*file);
}

#define cleanup_free __attribute__((cleanup(cleanup_free_pointer)))
#define cleanup_close __attribute__((cleanup(cleanup_close_descriptor)))
#define cleanup_directory __attribute__((cleanup(cleanup_close_directory)))
#define cleanup_file __attribute__((cleanup(cleanup_close_file)))

#define take_pointer(pointer)                                                                      \
    ({                                                                                             \
        __typeof__(pointer) taken_pointer = (pointer);                                             \
        (pointer) = NULL;                                                                          \
        taken_pointer;                                                                             \
    })

static inline int take_descriptor(int *descriptor)
{
    int taken = *descriptor;
    *descriptor = -1;
    return taken;
}

#endif
