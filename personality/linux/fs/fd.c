/* Descriptor tables: small integers to open files. fd_table.lock guards a table; nothing is closed under it.
 * Invariant: every descriptor below first_free_hint is in use. */
#include "personality/linux/fs/internal.h"
#include "personality/linux/process/process.h"
#include <asm/resource.h>

#define FD_TABLE_MAX (1u << 20)

struct fd_table *fd_table_create(void)
{
    struct fd_table *table = heap_alloc(sizeof(*table));

    if (!table)
        return NULL;
    table->references = 1;
    table->size = FD_TABLE_START;
    table->entries = table->first;
    return table;
}

struct fd_table *fd_table_copy(struct fd_table *from)
{
    struct fd_table *table = fd_table_create();

    if (!table)
        return NULL;
    scoped_lock(&from->lock);
    if (from->size > FD_TABLE_START) {
        struct fd_entry *entries = heap_alloc(from->size * sizeof(*entries));
        if (!entries) {
            heap_free(table);
            return NULL;
        }
        table->entries = entries;
        table->size = from->size;
    }
    table->first_free_hint = from->first_free_hint;
    for (uint32_t fd = 0; fd < from->size; fd++)
        if (from->entries[fd].file) {
            table->entries[fd] = from->entries[fd];
            file_ref(table->entries[fd].file);
        }
    return table;
}

/* Closes an entry that was taken out of `table`. */
static void entry_close(struct fd_table *table, struct open_file *file)
{
    if (table->has_locked)
        locks_process_closed(file, table);
    file_unref(file);
}

/* Takes out and closes what `wanted` says of all descriptors from `first` to `last`. */
static void close_range(struct fd_table *table, uint32_t first, uint32_t last, bool only_close_on_exec)
{
    for (uint32_t fd = first;; fd++) {
        struct open_file *file = NULL;
        lock_acquire(&table->lock);
        for (; fd < table->size && fd <= last; fd++) {
            struct fd_entry *entry = &table->entries[fd];
            if (entry->file && (!only_close_on_exec || entry->close_on_exec)) {
                file = entry->file;
                *entry = (struct fd_entry){ 0 };
                if (fd < table->first_free_hint)
                    table->first_free_hint = fd;
                break;
            }
        }
        lock_release(&table->lock);
        if (!file)
            return;
        entry_close(table, file);
    }
}

void fd_table_unref(struct fd_table *table)
{
    if (!table || --table->references)
        return;
    close_range(table, 0, UINT32_MAX, false);
    if (table->entries != table->first)
        heap_free(table->entries);
    heap_free(table);
}

void fd_table_close_on_exec(struct fd_table *table)
{
    close_range(table, 0, UINT32_MAX, true);
}

void fd_table_close_range(struct fd_table *table, uint32_t first, uint32_t last)
{
    close_range(table, first, last, false);
}

static struct fd_table *current_table(void)
{
    return lx_process()->files;
}

struct open_file *fd_get(int fd)
{
    struct fd_table *table = current_table();

    scoped_lock(&table->lock);
    if ((uint32_t)fd >= table->size || !table->entries[fd].file)
        return NULL;
    return file_ref(table->entries[fd].file);
}

struct open_file *fd_table_get(struct fd_table *table, int fd, bool *out_close_on_exec)
{
    scoped_lock(&table->lock);
    if ((uint32_t)fd >= table->size || !table->entries[fd].file)
        return NULL;
    if (out_close_on_exec)
        *out_close_on_exec = table->entries[fd].close_on_exec;
    return file_ref(table->entries[fd].file);
}

int fd_table_next(struct fd_table *table, int fd)
{
    scoped_lock(&table->lock);
    for (uint32_t at = (uint32_t)fd; at < table->size; at++)
        if (table->entries[at].file)
            return (int)at;
    return -1;
}

static uint64_t descriptor_limit(void)
{
    return lx_process()->limits[RLIMIT_NOFILE].soft;
}

/* Room for descriptor `fd`; lock held. */
static int grow(struct fd_table *table, uint32_t fd)
{
    uint32_t size = table->size;

    if (fd < size)
        return 0;
    if (fd >= FD_TABLE_MAX)
        return -EMFILE;
    while (size <= fd)
        size *= 2;
    bool first = table->entries == table->first;
    size_t old_size = table->size * sizeof(*table->entries);
    struct fd_entry *entries = heap_realloc(first ? NULL : table->entries, first ? 0 : old_size, size * sizeof(*entries));
    if (!entries)
        return -ENOMEM;
    if (first)
        memcpy(entries, table->first, old_size);
    table->entries = entries;
    table->size = size;
    return 0;
}

int fd_install_in(struct fd_table *table, struct open_file *file, int minimum, bool close_on_exec, uint64_t limit)
{
    scoped_lock(&table->lock);
    uint32_t fd = table->first_free_hint;
    if (fd < (uint32_t)minimum)
        fd = (uint32_t)minimum;
    while (fd < table->size && table->entries[fd].file)
        fd++;
    if (fd >= limit)
        return -EMFILE;
    int error = grow(table, fd);
    if (error < 0)
        return error;
    table->entries[fd] = (struct fd_entry){ .file = file, .close_on_exec = close_on_exec };
    if ((uint32_t)minimum <= table->first_free_hint)
        table->first_free_hint = fd + 1;
    return (int)fd;
}

int fd_install(struct open_file *file, int minimum, bool close_on_exec)
{
    return fd_install_in(current_table(), file, minimum, close_on_exec, descriptor_limit());
}

int fd_replace(int fd, struct open_file *file, bool close_on_exec)
{
    struct fd_table *table = current_table();
    struct open_file *old;

    if (fd < 0 || (uint64_t)fd >= descriptor_limit())
        return -EBADF;
    {
        scoped_lock(&table->lock);
        int error = grow(table, (uint32_t)fd);
        if (error < 0)
            return error == -EMFILE ? -EBADF : error;
        old = table->entries[fd].file;
        table->entries[fd] = (struct fd_entry){ .file = file, .close_on_exec = close_on_exec };
    }
    if (old)
        entry_close(table, old);
    return fd;
}

int fd_close(int fd)
{
    struct fd_table *table = current_table();
    struct open_file *file;
    {
        scoped_lock(&table->lock);
        if ((uint32_t)fd >= table->size || !(file = table->entries[fd].file))
            return -EBADF;
        table->entries[fd] = (struct fd_entry){ 0 };
        if ((uint32_t)fd < table->first_free_hint)
            table->first_free_hint = (uint32_t)fd;
    }
    entry_close(table, file);
    return 0;
}

int fd_get_close_on_exec(int fd)
{
    struct fd_table *table = current_table();

    scoped_lock(&table->lock);
    if ((uint32_t)fd >= table->size || !table->entries[fd].file)
        return -EBADF;
    return (int)table->entries[fd].close_on_exec;
}

int fd_set_close_on_exec(uint32_t first, uint32_t last, bool value)
{
    struct fd_table *table = current_table();
    int error = -EBADF;

    scoped_lock(&table->lock);
    for (uint32_t fd = first; fd < table->size && fd <= last; fd++)
        if (table->entries[fd].file) {
            table->entries[fd].close_on_exec = value;
            error = 0;
        }
    return error;
}

int fd_unshare(void)
{
    struct lx_process *process = lx_process();
    struct fd_table *old = process->files, *copy;

    if (old->references == 1)
        return 0;
    copy = fd_table_copy(old);
    if (!copy)
        return -ENOMEM;
    process->files = copy;
    fd_table_unref(old);
    return 0;
}
