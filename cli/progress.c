/* Progress on a terminal, one line that is written over. */
#include <cli/progress.h>

#include <monitor/loop.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define STEP_NS 100000000ull
#define BAR_WIDTH 24u

const char *size_text(uint64_t size, char out_text[SIZE_TEXT_SIZE])
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)size;
    unsigned unit = 0;
    for (; value >= 1024 && unit < 4; unit++)
        value /= 1024;
    snprintf(out_text, SIZE_TEXT_SIZE, "%.*f %s", unit && value < 100 ? 1 : 0, value, units[unit]);
    return out_text;
}

struct progress progress_begin(const char *what)
{
    return (struct progress){
        .what = what, .start_ns = mon_now_ns(), .silent = !isatty(STDERR_FILENO)};
}

void progress_show(struct progress *progress, uint64_t done, uint64_t total)
{
    char done_text[SIZE_TEXT_SIZE], total_text[SIZE_TEXT_SIZE], speed_text[SIZE_TEXT_SIZE];
    char bar[BAR_WIDTH + 1];
    uint64_t now = mon_now_ns(), elapsed = now - progress->start_ns;
    if (progress->silent || now - progress->shown_ns < STEP_NS || !elapsed)
        return;
    progress->shown_ns = now;
    total = total < done ? done : total;
    double share = total ? (double)done / (double)total : 0;
    for (unsigned i = 0; i < BAR_WIDTH; i++)
        bar[i] = i < share * BAR_WIDTH ? '#' : '.';
    bar[BAR_WIDTH] = '\0';
    size_text((uint64_t)((double)done * 1e9 / (double)elapsed), speed_text);
    fprintf(stderr, "\r%s [%s] %s of %s, %s/s\033[K", progress->what, bar,
            size_text(done, done_text), size_text(total, total_text), speed_text);
}

void progress_end(struct progress *progress)
{
    if (!progress->silent && progress->shown_ns)
        fputs("\r\033[K", stderr);
}
