/* The dentry cache: which names are known, and to stand for which inode (none: known to be absent).
 *
 * Invariants, under vfs.tree_lock: a dentry is in its parent's list of children from creation to its end and holds a
 * reference on the parent; it is in the hash while lookups may find it. A dentry without references is on the LRU list
 * when hashed, else it is freed. Reference counts go from 0 to 1 only under the lock. */
#include "personality/linux/fs/dentry.h"
#include "personality/linux/fs/internal.h"

/* Idle dentries kept beyond those in use. */
#define DENTRY_IDLE_MAX 50000u

uint32_t name_hash(const struct dentry *parent, const char *name, size_t size)
{
    uint64_t hash = (uint64_t)parent >> 4;

    while (size >= 8) {
        uint64_t word;
        memcpy(&word, name, 8);
        hash = (hash ^ word) * 0x9e3779b97f4a7c15ull;
        hash ^= hash >> 29;
        name += 8;
        size -= 8;
    }
    uint64_t tail = size;
    for (size_t i = 0; i < size; i++)
        tail = tail << 8 | (unsigned char)name[i];
    hash = (hash ^ tail) * 0x9e3779b97f4a7c15ull;
    return (uint32_t)(hash >> 32);
}

static struct dentry **bucket(uint32_t hash)
{
    return &vfs()->hash[hash & (vfs()->hash_size - 1)];
}

struct dentry *dentry_find_locked(struct dentry *parent, const char *name, size_t size, uint32_t hash)
{
    for (struct dentry *dentry = *bucket(hash); dentry; dentry = dentry->hash_next)
        if (dentry->hash == hash && dentry->parent == parent && dentry->name_size == size &&
            memcmp(dentry->name, name, size) == 0)
            return dentry;
    return NULL;
}

static void hash_link(struct dentry *dentry)
{
    struct dentry **head = bucket(dentry->hash);

    dentry->hash_next = *head;
    if (*head)
        (*head)->hash_link = &dentry->hash_next;
    dentry->hash_link = head;
    *head = dentry;
}

static void hash_grow(void)
{
    uint32_t old_size = vfs()->hash_size, new_size = old_size * 4;
    struct dentry **old = vfs()->hash, **table = heap_alloc(new_size * sizeof(*table));

    if (!table)
        return;
    vfs()->hash = table;
    vfs()->hash_size = new_size;
    for (uint32_t i = 0; i < old_size; i++)
        for (struct dentry *dentry = old[i], *next; dentry; dentry = next) {
            next = dentry->hash_next;
            hash_link(dentry);
        }
    heap_free(old);
}

bool dentry_is_hashed(const struct dentry *dentry)
{
    return dentry->hash_link != NULL;
}

void dentry_hash_locked(struct dentry *dentry)
{
    assert(lock_held(&vfs()->tree_lock) && !dentry->hash_link);
    if (vfs()->dentry_count > 2 * vfs()->hash_size)
        hash_grow();
    dentry->hash = name_hash(dentry->parent, dentry->name, dentry->name_size);
    hash_link(dentry);
}

void dentry_unhash_locked(struct dentry *dentry)
{
    if (!dentry->hash_link)
        return;
    *dentry->hash_link = dentry->hash_next;
    if (dentry->hash_next)
        dentry->hash_next->hash_link = dentry->hash_link;
    dentry->hash_link = NULL;
    dentry->hash_next = NULL;
}

struct dentry *dentry_create(struct mount *mount, struct dentry *parent, const char *name, size_t size, struct inode *inode)
{
    struct dentry *dentry = heap_alloc(sizeof(*dentry));

    if (!dentry && dentry_shrink(1000))
        dentry = heap_alloc(sizeof(*dentry));
    if (!dentry)
        return NULL;
    dentry->name = dentry->inline_name;
    if (size >= sizeof(dentry->inline_name) && !(dentry->name = heap_alloc(size + 1))) {
        heap_free(dentry);
        return NULL;
    }
    memcpy(dentry->name, name, size);
    dentry->name_size = (uint32_t)size;
    dentry->references = 1;
    dentry->mount = mount;
    list_init(&dentry->sibling);
    list_init(&dentry->children);
    list_init(&dentry->alias_node);
    list_init(&dentry->lru_node);
    dentry->parent = parent ? parent : dentry;
    dentry->inode = inode ? inode_ref(inode) : NULL;

    scoped_lock(&vfs()->tree_lock);
    vfs()->dentry_count++;
    if (parent) {
        parent->references++;
        list_push(&parent->children, &dentry->sibling);
    }
    if (inode)
        list_push(&inode->aliases, &dentry->alias_node);
    return dentry;
}

struct dentry *dentry_ref(struct dentry *dentry)
{
    dentry->references++;
    return dentry;
}

/* The last reference is gone: to the LRU list, or out of the tree. */
static void dentry_idle(struct dentry *dentry, struct list *dead)
{
    while (dentry->references == 0) {
        if (dentry->hash_link) {
            if (list_empty(&dentry->lru_node))
                vfs()->idle_count++;
            else
                list_remove(&dentry->lru_node);
            list_push(&vfs()->lru, &dentry->lru_node);
            return;
        }
        struct dentry *parent = dentry->parent;
        if (!list_empty(&dentry->lru_node)) {
            list_remove(&dentry->lru_node);
            vfs()->idle_count--;
        }
        list_remove(&dentry->sibling);
        list_remove(&dentry->alias_node);
        vfs()->dentry_count--;
        list_push(dead, &dentry->lru_node);
        if (parent == dentry)
            return;
        parent->references--;
        dentry = parent;
    }
}

void dentry_dispose_if_idle_locked(struct dentry *dentry, struct list *dead)
{
    if (dentry->references == 0)
        dentry_idle(dentry, dead);
}

void dentry_unref_locked(struct dentry *dentry, struct list *dead)
{
    if (dentry && --dentry->references == 0)
        dentry_idle(dentry, dead);
}

void dentries_free(struct list *dead)
{
    list_for_each_safe(node, after, dead) {
        struct dentry *dentry = container_of(node, struct dentry, lru_node);
        if (dentry->inode && dentry->inode->watches && (dentry->flags & DENTRY_DELETED) && dentry->inode->link_count == 0)
            notify_event(dentry->inode, NULL, 0x400 /* IN_DELETE_SELF */, 0, NULL, 0);
        inode_unref(dentry->inode);
        if (dentry->parent == dentry)
            mount_free(dentry->mount);
        if (dentry->name != dentry->inline_name)
            heap_free(dentry->name);
        heap_free(dentry);
    }
    list_init(dead);
}

void dentry_unref(struct dentry *dentry)
{
    struct list dead;
    bool too_many = false;

    if (!dentry)
        return;
    uint32_t references = dentry->references;
    while (references > 1)
        if (__atomic_compare_exchange_n((uint32_t *)&dentry->references, &references, references - 1, true, __ATOMIC_RELEASE,
                                        __ATOMIC_RELAXED))
            return;
    list_init(&dead);
    {
        scoped_lock(&vfs()->tree_lock);
        dentry_unref_locked(dentry, &dead);
        too_many = vfs()->idle_count > DENTRY_IDLE_MAX;
    }
    dentries_free(&dead);
    if (too_many)
        dentry_shrink(DENTRY_IDLE_MAX / 16);
}

uint32_t dentry_shrink(uint32_t count)
{
    struct list dead;
    uint32_t freed = 0, seen = 0;

    list_init(&dead);
    {
        scoped_lock(&vfs()->tree_lock);
        while (seen < count && !list_empty(&vfs()->lru)) {
            struct dentry *dentry = container_of(vfs()->lru.next, struct dentry, lru_node);
            seen++;
            list_remove(&dentry->lru_node);
            vfs()->idle_count--;
            if (dentry->references || dentry->mounted)
                continue; /* in use: it comes back when it is let go */
            dentry_unhash_locked(dentry);
            dentry_idle(dentry, &dead);
            freed++;
        }
    }
    dentries_free(&dead);
    return freed;
}

void dentry_move_locked(struct dentry *dentry, struct dentry *parent, const char *name, size_t size, char *spare, char **out_old,
                        struct list *dead)
{
    bool hashed = dentry->hash_link != NULL;
    struct dentry *old_parent = dentry->parent;

    assert(lock_held(&vfs()->tree_lock));
    dentry_unhash_locked(dentry);
    *out_old = dentry->name != dentry->inline_name ? dentry->name : NULL;
    dentry->name = size < sizeof(dentry->inline_name) ? dentry->inline_name : spare;
    memcpy(dentry->name, name, size);
    dentry->name[size] = 0;
    dentry->name_size = (uint32_t)size;
    if (parent != old_parent) {
        list_remove(&dentry->sibling);
        parent->references++;
        dentry->parent = parent;
        list_push(&parent->children, &dentry->sibling);
        dentry_unref_locked(old_parent, dead);
    }
    if (hashed)
        dentry_hash_locked(dentry);
}

void dentry_invalidate_aliases_locked(struct inode *directory, const char *name, size_t size, struct dentry *keep, struct list *dead)
{
    if (directory->aliases.next == directory->aliases.prev)
        return; /* the usual case: one mount shows it */
    list_for_each_safe(node, after, &directory->aliases) {
        struct dentry *parent = container_of(node, struct dentry, alias_node);
        struct dentry *child = dentry_find_locked(parent, name, size, name_hash(parent, name, size));
        if (child && child != keep && !child->mounted) {
            parent->references++; /* it may be the child that keeps it alive, and with it its place in this list */
            dentry_unhash_locked(child);
            dentry_dispose_if_idle_locked(child, dead);
            after = node->next;
            dentry_unref_locked(parent, dead);
        }
    }
}

static uint64_t absence_in(struct inode *directory, const struct inode *inode)
{
    return !inode && directory->ops->absence ? directory->ops->absence(directory) : 0;
}

/* A name that stands for the inode already goes on to do so: open files, and the names below it, stay with it. */
static struct dentry *known_as(struct dentry *parent, const char *name, size_t size, const struct inode *inode)
{
    scoped_lock(&vfs()->tree_lock);
    struct dentry *known = dentry_find_locked(parent, name, size, name_hash(parent, name, size));
    if (!known || known->inode != inode)
        return NULL;
    known->absence = absence_in(parent->inode, inode);
    return dentry_ref(known);
}

int dentry_put(struct dentry *parent, const char *name, size_t size, struct inode *inode, struct dentry **out_dentry)
{
    struct dentry *dentry = known_as(parent, name, size, inode);
    struct list dead;

    if (dentry) {
        *out_dentry = dentry;
        return 0;
    }
    dentry = dentry_create(parent->mount, parent, name, size, inode);
    if (!dentry)
        return -ENOMEM;
    dentry->absence = absence_in(parent->inode, inode);
    list_init(&dead);
    {
        scoped_lock(&vfs()->tree_lock);
        struct dentry *stale = dentry_find_locked(parent, name, size, name_hash(parent, name, size));
        if (stale) { /* only where names are not cached */
            dentry_unhash_locked(stale);
            dentry_dispose_if_idle_locked(stale, &dead);
        }
        if (inode || dentry->absence || names_are_cached(parent->inode))
            dentry_hash_locked(dentry);
    }
    dentries_free(&dead);
    *out_dentry = dentry;
    return 0;
}

void dentry_instantiate(struct dentry *dentry, struct inode *inode)
{
    struct list dead;

    list_init(&dead);
    {
        scoped_lock(&vfs()->tree_lock);
        assert(!dentry->inode);
        dentry->inode = inode_ref(inode);
        list_push(&inode->aliases, &dentry->alias_node);
        if (!dentry->hash_link)
            dentry_hash_locked(dentry);
        dentry_invalidate_aliases_locked(dentry->parent->inode, dentry->name, dentry->name_size, dentry, &dead);
    }
    dentries_free(&dead);
}

void dentry_delete(struct dentry *dentry)
{
    struct list dead;

    list_init(&dead);
    {
        scoped_lock(&vfs()->tree_lock);
        dentry->flags |= DENTRY_DELETED;
        dentry_unhash_locked(dentry);
        dentry_invalidate_aliases_locked(dentry->parent->inode, dentry->name, dentry->name_size, dentry, &dead);
    }
    dentries_free(&dead);
}

/* Asks the file system and puts the answer into the cache. The directory's mutex is held. */
static int lookup_uncached(struct dentry *parent, const char *name, size_t size, struct dentry **out_dentry)
{
    struct inode *directory = parent->inode, *inode = NULL;
    int error;

    if (directory->link_count == 0)
        return -ENOENT;
    error = directory->ops->lookup ? directory->ops->lookup(directory, name, size, &inode) : -ENOENT;
    if (error < 0 && error != -ENOENT)
        return error;

    if (!names_are_cached(directory)) {
        scoped_lock(&vfs()->tree_lock);
        struct dentry *known = dentry_find_locked(parent, name, size, name_hash(parent, name, size));
        if (known && known->mounted) {
            *out_dentry = dentry_ref(known);
            error = 0;
            goto found;
        }
    }
    error = dentry_put(parent, name, size, inode, out_dentry);
found:
    inode_unref(inode);
    return error;
}

int dentry_lookup(struct dentry *parent, const char *name, size_t size, bool mutex_is_held, struct dentry **out_dentry)
{
    struct inode *directory = parent->inode;
    int error;

    if (size > LX_NAME_MAX)
        return -ENAMETOOLONG;
    if (!mutex_is_held)
        mutex_acquire(&directory->content_mutex);
    if (names_are_cached(directory)) {
        scoped_lock(&vfs()->tree_lock);
        struct dentry *dentry = dentry_find_locked(parent, name, size, name_hash(parent, name, size));
        if (dentry) {
            *out_dentry = dentry_ref(dentry);
            error = 0;
            goto out;
        }
    }
    error = lookup_uncached(parent, name, size, out_dentry);
out:
    if (!mutex_is_held)
        mutex_release(&directory->content_mutex);
    return error;
}

/* ---- Paths ---- */

/* Puts `text` before *at. */
static bool put_before(char *buffer, char **at, const char *text, size_t size)
{
    if ((size_t)(*at - buffer) < size)
        return false;
    *at -= size;
    memcpy(*at, text, size);
    return true;
}

int dentry_path(struct dentry *dentry, struct dentry *root, char *buffer, size_t size, bool mark_deleted)
{
    static const char deleted[] = " (deleted)", unreachable[] = "(unreachable)";
    char *at = buffer + size;
    size_t length;

    if (size == 0)
        return -ERANGE;
    if (dentry->flags & DENTRY_ANONYMOUS) {
        length = dentry->name_size;
        if (length + 1 > size)
            return -ERANGE;
        memcpy(buffer, dentry->name, length + 1);
        return (int)length;
    }
    *--at = 0;
    scoped_lock(&vfs()->tree_lock);
    if (!root) {
        struct lx_thread *thread = lx_current();
        root = thread && thread->process && thread->process->fs ? thread->process->fs->root : vfs()->root_mount->root;
        while (root->mounted)
            root = root->mounted->root;
    }
    if (mark_deleted && (dentry->flags & DENTRY_DELETED) && !put_before(buffer, &at, deleted, sizeof(deleted) - 1))
        return -ERANGE;
    char *end = at;
    while (dentry != root) {
        if (dentry->parent == dentry) {
            if (!dentry->mount->mountpoint) {
                if (dentry->mount != vfs()->root_mount || root != vfs()->root_mount->root) {
                    if (at == end && !put_before(buffer, &at, "/", 1))
                        return -ERANGE;
                    if (!put_before(buffer, &at, unreachable, sizeof(unreachable) - 1))
                        return -ERANGE;
                    goto done;
                }
                break;
            }
            dentry = dentry->mount->mountpoint;
            continue;
        }
        if (!put_before(buffer, &at, dentry->name, dentry->name_size) || !put_before(buffer, &at, "/", 1))
            return -ERANGE;
        dentry = dentry->parent;
    }
    if (at == end && !put_before(buffer, &at, "/", 1))
        return -ERANGE;
done:
    length = (size_t)(buffer + size - 1 - at);
    memmove(buffer, at, length + 1);
    return (int)length;
}

size_t inode_path(struct inode *inode, char *buffer, size_t size)
{
    struct dentry *dentry = NULL;
    {
        scoped_lock(&vfs()->tree_lock);
        if (!list_empty(&inode->aliases))
            dentry = dentry_ref(container_of(inode->aliases.next, struct dentry, alias_node));
    }
    if (!dentry)
        return 0;
    int length = dentry_path(dentry, NULL, buffer, size, /*mark_deleted=*/true);
    dentry_unref(dentry);
    return length < 0 ? 0 : (size_t)length;
}
