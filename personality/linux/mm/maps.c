/* What /proc shows of an address space. The mm may be another process's: only records are read,
 * never its memory.
 *
 * The host does not tell which pages are resident; what is shown as such is an estimate from the
 * records (see resident_estimate). */
#include "personality/linux/mm/internal.h"

#include "personality/linux/fs/vfs.h"

enum { LINE_MAX = LX_PATH_MAX + 128, STACK_GUESS = 33 * 4096 };

static void emit_string(struct mm_text *text, const char *string)
{
    text->emit(text, string, strlen(string));
}

static const char *special_name(const struct mm *mm, const struct region *region)
{
    if (region->flags & REGION_VDSO)
        return "[vdso]";
    if (region->object)
        return NULL;
    if (region->flags & REGION_HEAP || (region->start < mm->brk_end && region->end > mm->brk_start))
        return "[heap]";
    if (mm->stack_start && region->start <= mm->stack_start && region->end >= mm->stack_start)
        return "[stack]";
    return NULL;
}

/* seq_file's rule for paths: a newline would end the line. */
static size_t escape_newlines(char *to, size_t size, const char *from, size_t length)
{
    size_t used = 0;

    for (size_t i = 0; i < length && used + 4 < size; i++) {
        if (from[i] == '\n') {
            memcpy(to + used, "\\012", 4);
            used += 4;
        } else {
            to[used++] = from[i];
        }
    }
    return used;
}

static void emit_header(struct mm *mm, const struct region *region, struct mm_text *text,
                        char *line, char *path)
{
    const struct inode *inode = region->object ? region->object->inode : NULL;
    uint64_t device = inode && inode->superblock ? inode->superblock->device
                      : region->object           ? 1
                                                 : 0;
    uint64_t number = inode ? inode->number : region->object ? region->object->id : 0;
    const char *name = special_name(mm, region);
    size_t name_size = name ? strlen(name) : 0;

    if (!name && region->object && region->object->ops->path) {
        name_size = region->object->ops->path(region->object, path, LX_PATH_MAX);
        if (name_size >= LX_PATH_MAX)
            name_size = LX_PATH_MAX - 1;
        name = path;
    }
    int length =
        format(line, LINE_MAX, "%08lx-%08lx %c%c%c%c %08lx %02x:%02x %lu ", region->start,
               region->end, region->protection & BLY_PROT_READ ? 'r' : '-',
               region->protection & BLY_PROT_WRITE ? 'w' : '-',
               region->protection & BLY_PROT_EXECUTE ? 'x' : '-',
               region->flags & REGION_SHARED ? 's' : 'p', region->object ? region->offset : 0ul,
               lx_major(device), lx_minor(device), number);
    if (name_size) {
        /* Names begin at column 74, as the kernel pads them. */
        while (length < 73)
            line[length++] = ' ';
        length += (int)escape_newlines(line + length, (size_t)(LINE_MAX - length), name, name_size);
    }
    line[length++] = '\n';
    text->emit(text, line, (size_t)length);
}

static uint64_t resident_estimate(const struct region *region)
{
    if (!region->protection)
        return 0;
    if (region->flags & (REGION_STACK | REGION_GROWS_DOWN))
        return region_size(region) < STACK_GUESS ? region_size(region) : STACK_GUESS;
    if (region->flags & REGION_NO_RESERVE)
        return 0;
    return region_size(region);
}

static void emit_details(const struct region *region, struct mm_text *text, char *line)
{
    uint64_t size = region_size(region) >> 10, resident = resident_estimate(region) >> 10;
    bool shared = region->flags & REGION_SHARED,
         private_dirty = !shared && (region->protection & BLY_PROT_WRITE);
    static const struct {
        uint32_t flag;
        const char *name;
    } flags[] = {
        {REGION_GROWS_DOWN, "gd "},   {REGION_LOCKED, "lo "},     {REGION_DONT_FORK, "dc "},
        {REGION_WIPE_ON_FORK, "wf "}, {REGION_NO_RESERVE, "nr "},
    };

    format(line, LINE_MAX,
           "Size:           %8lu kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 "
           "kB\nRss:            %8lu kB\n"
           "Pss:            %8lu kB\nPss_Dirty:      %8lu kB\nShared_Clean:   %8lu "
           "kB\nShared_Dirty:   %8lu kB\nPrivate_Clean:  %8lu kB\n"
           "Private_Dirty:  %8lu kB\nReferenced:     %8lu kB\nAnonymous:      %8lu kB\nKSM:        "
           "           0 kB\nLazyFree:              0 kB\n"
           "AnonHugePages:         0 kB\nShmemPmdMapped:        0 kB\nFilePmdMapped:         0 "
           "kB\nShared_Hugetlb:        0 kB\n"
           "Private_Hugetlb:       0 kB\nSwap:                  0 kB\nSwapPss:               0 "
           "kB\nLocked:         %8lu kB\nTHPeligible:           0\n",
           size, resident, resident, private_dirty ? resident : 0, shared ? resident : 0, 0ul,
           !shared && !private_dirty ? resident : 0, private_dirty ? resident : 0, resident,
           region->object ? 0 : resident, region->flags & REGION_LOCKED ? size : 0);
    emit_string(text, line);
    emit_string(text, "VmFlags: ");
    if (region->protection & BLY_PROT_READ)
        emit_string(text, "rd ");
    if (region->protection & BLY_PROT_WRITE)
        emit_string(text, "wr ");
    if (region->protection & BLY_PROT_EXECUTE)
        emit_string(text, "ex ");
    emit_string(text, shared ? "sh mr mw me ms " : "mr mw me ");
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (region->flags & flags[i].flag)
            emit_string(text, flags[i].name);
    emit_string(text, "\n");
}

/* Patched pages of code are regions of their own, of another object; to the program they are one
 * map of one file. */
static bool looks_continued(const struct region *shown, const struct region *next)
{
    return shown->end == next->start && shown->protection == next->protection &&
           shown->flags == next->flags && shown->object && next->object && shown->object->inode &&
           shown->object->inode == next->object->inode &&
           shown->offset + region_size(shown) == next->offset;
}

static void format_all(struct mm *mm, struct mm_text *text, bool details)
{
    char *line = heap_alloc(LINE_MAX), *path = heap_alloc(LX_PATH_MAX);

    if (line && path) {
        scoped_mutex(&mm->mutex);
        for (struct region *region = region_of(tree_first(&mm->regions)); region;
             region = region_next(region)) {
            if (region->flags & REGION_TRAMPOLINE)
                continue;
            struct region shown = *region;
            for (struct region *next; (next = region_next(region)) && looks_continued(&shown, next);
                 region = next)
                shown.end = next->end;
            emit_header(mm, &shown, text, line, path);
            if (details)
                emit_details(&shown, text, line);
        }
    }
    heap_free(line);
    heap_free(path);
}

void mm_format_maps(struct mm *mm, struct mm_text *text)
{
    format_all(mm, text, false);
}

void mm_format_smaps(struct mm *mm, struct mm_text *text)
{
    format_all(mm, text, true);
}

void mm_statistics(struct mm *mm, struct mm_statistics *out_statistics)
{
    struct mm_statistics sums = {0};

    scoped_mutex(&mm->mutex);
    for (struct tree_node *node = tree_first(&mm->regions); node; node = tree_next(node)) {
        struct region *region = region_of(node);
        if (region->flags & REGION_TRAMPOLINE)
            continue;
        uint64_t resident = resident_estimate(region);
        sums.resident += resident;
        if (region->object)
            sums.shared += resident;
        else
            sums.anonymous += resident;
        if ((region->protection & BLY_PROT_EXECUTE) && region->object)
            sums.text += region_size(region);
    }
    sums.total = mm->mapped_bytes;
    sums.data = mm->data_bytes;
    sums.stack = mm->stack_bytes;
    sums.locked = mm->locked_bytes;
    sums.peak = mm->peak_bytes;
    *out_statistics = sums;
}
