/* A line on the terminal that tells how far a long work is; nothing where standard error is none.
 */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *what; /* "writing" */
    uint64_t start_ns, shown_ns;
    bool silent;
};
struct progress progress_begin(const char *what);
/* `total` may be an estimate, or 0: not known. */
void progress_show(struct progress *progress, uint64_t done, uint64_t total);
/* Takes the line away. */
void progress_end(struct progress *progress);

/* "1.5 MiB" into `out_text`, which is returned. */
#define SIZE_TEXT_SIZE 32
const char *size_text(uint64_t size, char out_text[SIZE_TEXT_SIZE]);

#endif
