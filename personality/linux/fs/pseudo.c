/* The toolkit of made-up file systems. See pseudo.h. */
#include "personality/linux/fs/pseudo.h"

enum { TEXT_STEP = 4096, STORE_MAX = 65536 };

/* ---- Text ---- */

static bool text_reserve(struct text *text, size_t more)
{
    if (text->failed)
        return false;
    if (text->size + more <= text->room)
        return true;
    size_t room = (text->size + more + TEXT_STEP) * 2;
    char *grown = heap_realloc(text->data, text->room, room);
    if (!grown) {
        text->failed = true;
        return false;
    }
    text->data = grown;
    text->room = room;
    return true;
}

void text_bytes(struct text *text, const void *bytes, size_t size)
{
    if (!text_reserve(text, size))
        return;
    memcpy(text->data + text->size, bytes, size);
    text->size += size;
}

void text_add(struct text *text, const char *pattern, ...)
{
    va_list arguments;
    if (!text_reserve(text, 512))
        return;
    va_start(arguments, pattern);
    int size = format_list(text->data + text->size, text->room - text->size, pattern, arguments);
    va_end(arguments);
    if ((size_t)size >= text->room - text->size) {
        if (!text_reserve(text, (size_t)size + 1))
            return;
        va_start(arguments, pattern);
        size = format_list(text->data + text->size, text->room - text->size, pattern, arguments);
        va_end(arguments);
    }
    text->size += (size_t)size;
}

void text_free(struct text *text)
{
    heap_free(text->data);
    memset(text, 0, sizeof *text);
}

/* ---- Files ---- */

static const struct inode_ops pseudo_inode_ops, pseudo_jump_ops;

const struct pseudo_node *pseudo_node_of(const struct inode *inode)
{
    return inode->ops == &pseudo_inode_ops || inode->ops == &pseudo_jump_ops ? inode->data : NULL;
}

/* What an open file has made: guarded by the file's position_mutex, which read(2) holds; pread(2) makes its own. */
struct made { struct mutex mutex; struct text text; bool valid; };

static int make_text(const struct pseudo_node *node, struct text *text)
{
    const struct pseudo_entry *entry = node->entry;
    if (entry->text) {
        text_bytes(text, entry->text, strlen(entry->text));
    } else if (entry->show) {
        int problem = entry->show(node, text);
        if (problem)
            return problem;
    } else {
        return -EINVAL;
    }
    return text->failed ? -ENOMEM : 0;
}

static int64_t pseudo_read(struct open_file *file, struct io_buffer *to, int64_t *position)
{
    struct made *made = file->object;
    scoped_mutex(&made->mutex);
    if (*position == 0 || !made->valid) {
        text_free(&made->text);
        int problem = make_text(file->inode->data, &made->text);
        made->valid = problem == 0;
        if (problem)
            return problem;
    }
    if (*position < 0 || (uint64_t)*position >= made->text.size)
        return 0;
    int64_t copied = io_copy_out(to, made->text.data + *position, made->text.size - (size_t)*position);
    if (copied > 0)
        *position += copied;
    return copied;
}

static int64_t pseudo_write(struct open_file *file, struct io_buffer *from, int64_t *position)
{
    const struct pseudo_node *node = file->inode->data;
    if (!node->entry->store)
        return -EINVAL;
    size_t size = from->size < STORE_MAX ? from->size : STORE_MAX;
    char *text = heap_alloc(size + 1);
    if (!text)
        return -ENOMEM;
    int64_t copied = size ? io_copy_in(from, text, size) : 0;
    int64_t result = copied < 0 ? copied : node->entry->store(node, text, (size_t)copied);
    heap_free(text);
    if (result > 0)
        *position += result;
    return result;
}

static void pseudo_close(struct open_file *file)
{
    struct made *made = file->object;
    text_free(&made->text);
    heap_free(made);
}

static int64_t pseudo_seek(struct open_file *file, int64_t offset, int whence)
{
    if (whence == 1 /* SEEK_CUR */)
        offset += file->position;
    else if (whence != 0)
        return -EINVAL;
    return offset < 0 ? -EINVAL : (file->position = offset);
}

static const struct file_ops pseudo_file_ops = { .name = "proc", .read = pseudo_read, .write = pseudo_write, .seek = pseudo_seek, .close = pseudo_close };

static int pseudo_open(struct inode *inode, struct open_file *file)
{
    if (inode_is_directory(inode))
        return 0;
    struct made *made = heap_alloc(sizeof *made);
    if (!made)
        return -ENOMEM;
    mutex_init(&made->mutex);
    file->ops = &pseudo_file_ops;
    file->object = made;
    return 0;
}

/* ---- Names ---- */

static void refresh_node(const struct pseudo_node *node, struct inode *inode)
{
    if (node->above)
        node->above->refresh_below(node, inode);
    if (node->entry->refresh)
        node->entry->refresh(node, inode);
}

static struct inode *node_inode(struct superblock *superblock, const struct pseudo_node *node)
{
    struct inode *inode = inode_create(superblock, node->entry->jump ? &pseudo_jump_ops : &pseudo_inode_ops, node->entry->mode, sizeof *node);
    if (!inode)
        return NULL;
    memcpy(inode->data, node, sizeof *node);
    inode->birth_ns = 0; /* as on Linux: not known */
    /* Stable while the sandbox lives: the entry's place and what it is about. */
    inode->number = ((uint64_t)node->entry & 0xffffff) ^ node->argument[0] << 24 ^ node->argument[1] << 44;
    if (inode_is_directory(inode) && (node->entry->find || node->argument[0]))
        inode->flags |= INODE_UNCACHED;
    refresh_node(node, inode);
    return inode;
}

static int pseudo_lookup(struct inode *directory, const char *name, size_t size, struct inode **out_inode)
{
    const struct pseudo_node *node = directory->data;
    struct pseudo_node child = *node;
    if (node->entry->refresh_below)
        child.above = node->entry;
    for (size_t i = 0; i < node->entry->entry_count; i++) {
        const struct pseudo_entry *entry = &node->entry->entries[i];
        if (strlen(entry->name) == size && memcmp(entry->name, name, size) == 0) {
            child.entry = entry;
            *out_inode = node_inode(directory->superblock, &child);
            return *out_inode ? 0 : -ENOMEM;
        }
    }
    char text[LX_NAME_MAX + 1];
    if (!node->entry->find)
        return -ENOENT;
    memcpy(text, name, size);
    text[size] = 0;
    int problem = node->entry->find(node, text, &child);
    if (problem)
        return problem;
    *out_inode = node_inode(directory->superblock, &child);
    return *out_inode ? 0 : -ENOMEM;
}

/* Offsets: 2 + index for the fixed names, then 2 + count + cursor. */
static int pseudo_enumerate(struct inode *directory, int64_t *offset, struct directory_sink *sink)
{
    const struct pseudo_node *node = directory->data;
    const struct pseudo_entry *entry = node->entry;
    int64_t fixed = (int64_t)entry->entry_count;
    if (*offset < 2)
        *offset = 2;
    while (*offset < 2 + fixed) {
        const struct pseudo_entry *child = &entry->entries[*offset - 2];
        if (!sink->emit(sink, child->name, strlen(child->name), ((uint64_t)child & 0xffffff) ^ node->argument[0] << 24, child->mode >> 12, *offset + 1))
            return 0;
        ++*offset;
    }
    char name[LX_NAME_MAX + 1];
    for (uint64_t cursor = (uint64_t)(*offset - 2 - fixed); entry->list && entry->list(node, &cursor, name, sizeof name) == 1;) {
        struct pseudo_node child = *node;
        if (entry->find(node, name, &child))
            continue; /* gone since */
        if (!sink->emit(sink, name, strlen(name), ((uint64_t)child.entry & 0xffffff) ^ child.argument[0] << 24 ^ child.argument[1] << 44, child.entry->mode >> 12, 2 + fixed + (int64_t)cursor))
            return 0;
        *offset = 2 + fixed + (int64_t)cursor;
    }
    return 0;
}

static int pseudo_read_link(struct inode *inode)
{
    const struct pseudo_node *node = inode->data;
    struct text text = { 0 };
    int problem = node->entry->text ? 0 : node->entry->link ? node->entry->link(node, &text) : -EINVAL;
    if (node->entry->text)
        text_bytes(&text, node->entry->text, strlen(node->entry->text));
    char *made = problem || text.failed ? NULL : heap_string(text.data, text.size);
    text_free(&text);
    if (!made)
        return problem ? problem : -ENOMEM;
    char *old;
    {
        scoped_lock(&inode->lock);
        old = inode->link_text;
        if (!old) {
            inode->link_text = made;
            made = NULL;
        }
    }
    heap_free(made);
    return 0;
}

static int pseudo_jump(struct inode *inode, struct dentry **out_dentry)
{
    const struct pseudo_node *node = inode->data;
    return node->entry->jump(node, out_dentry);
}

static int pseudo_refresh(struct inode *inode)
{
    refresh_node(inode->data, inode);
    return 0;
}

static int pseudo_truncate(struct inode *inode, uint64_t size) { return 0; /* open(O_TRUNC) before writing a setting */ }

static const struct inode_ops pseudo_inode_ops = {
    .lookup = pseudo_lookup, .enumerate = pseudo_enumerate, .read_link = pseudo_read_link, .refresh = pseudo_refresh, .truncate = pseudo_truncate, .open = pseudo_open,
};
/* Links that jump differ by this one operation: the walk asks whether it is there. */
static const struct inode_ops pseudo_jump_ops = {
    .read_link = pseudo_read_link, .jump = pseudo_jump, .refresh = pseudo_refresh,
};

int pseudo_mount(const struct filesystem_type *type, const struct pseudo_entry *root, struct superblock **out_superblock)
{
    struct superblock *superblock = superblock_create(type);
    if (!superblock)
        return -ENOMEM;
    struct pseudo_node node = { .entry = root };
    superblock->root = node_inode(superblock, &node);
    if (!superblock->root)
        return -ENOMEM;
    *out_superblock = superblock;
    return 0;
}
