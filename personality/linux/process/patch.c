/* Lazy patching of call sites, and the cache of patched pages that all processes of a sandbox share.
 *
 * A trap proves that there is a system call at an address. Sites are counted by file and offset; when one is hot, all proven sites of
 * its page are patched at once: into a fresh page of the bulk segment, never in place, which is then mapped over the
 * program's private page by one host call (so a thread executes the old page or the new one, and no code is ever written under it). The next
 * process that maps the file gets the patched pages with it; one that forks, what its earlier children have trapped on. Trampolines lie in one area a file, at a fixed distance from
 * the code, so that patched pages serve wherever the file is mapped; they are written through the bulk segment and mapped
 * read-execute, so nothing of it is writable for the program.
 *
 * A patched page is laid over a page only after comparing the two: a file that has changed, or a page that the program has changed,
 * stays as it is. Code that is no file's, or is writable or shared, is left trapping.
 *
 * Locks: mm.mutex, then patch_cache.mutex. */
#include "personality/linux/process/patch.h"

#include "libos/abi.h"
#include "libos/park.h"
#include "personality/linux/fs/vfs.h"
#include "personality/linux/mm/bulk.h"
#include "personality/linux/mm/mm.h"
#include "personality/linux/process/cpuid.h"
#include "personality/linux/process/instruction.h"
#include "personality/linux/process/patch-code.h"
#include "personality/linux/process/process.h"

enum {
    HOT = 12,                  /* traps of a site, 2 us each: patching a page costs 25 to 45 us. A loader's few calls of a start stay below */
    AREA_PAGES = 16,           /* of a file's trampolines; 64 KiB hold the place that each PATCH_TAIL site needs */
    AREA_SIZE = AREA_PAGES * 4096,
    UNIT = 8,
    FILE_MAX = 64,
    SEARCH_MAX = 8,            /* remembered for each file; others are searched again */
    FILE_BUCKETS = 64,
    INT3 = 0xcc,
};
#define CPUID_CODE_MAX (2ull << 20) /* larger programs are not searched, but for */
#define CPUID_CODE_MAX_LIMITED (512ull << 20) /* where it is not for speed: BLY_START_CPUID_LIMITED */
/* From code to trampolines: below the file, or above one that lies low. Room for 256 MiB of code within the reach of a jump. */
#define DISTANCE 0x37000000ll
#define PAGE_MASK (BLY_PAGE_SIZE - 1)
#define NO_PAGE (-1ll)

enum site_state { SITE_PROVEN, SITE_PATCHED, SITE_REFUSED };
struct site {
    uint16_t call;       /* offset of the instruction in the page; at most its size */
    uint8_t state, count;
    bool has_load;
    struct patch_load load;
    uint32_t slot;       /* of the trampoline in the area */
    struct patch_plan plan;
};
struct patched_page {
    struct list node;
    uint64_t offset;     /* in the file */
    int64_t bulk;        /* the newest patched version, NO_PAGE: none. Older ones may still be mapped somewhere and are kept */
    uint32_t site_count, site_capacity;
    struct site *sites;
};
struct patched_file {
    struct memory_object object; /* what is mapped: the file with its patched pages */
    struct list node;            /* in patch_cache.files, by inode; the cache holds one reference */
    struct memory_object *base;
    struct list pages;
    struct list retired;         /* of struct retired_page: older versions */
    int64_t distance;            /* trampoline position = distance + slot */
    int64_t area;                /* offset in the bulk segment */
    struct memory_object *area_object;
    struct search { uint64_t start, end; } searches[SEARCH_MAX]; /* offsets between which CPUID instructions have been looked for */
    uint32_t search_count;
    uint64_t used[AREA_SIZE / UNIT / 64];
};
struct retired_page { struct list node; int64_t bulk; };
struct area_object { struct memory_object object; int64_t bulk; };

struct patch_cache {
    struct mutex mutex;          /* guards all below */
    struct list files[FILE_BUCKETS];
    uint32_t file_count;
};

static struct patch_cache *cache(void) { return lx_kernel->patches; }

int lx_patch_init(void)
{
    struct patch_cache *state = heap_alloc(sizeof *state);
    if (!state)
        return -ENOMEM;
    mutex_init(&state->mutex);
    for (int i = 0; i < FILE_BUCKETS; i++)
        list_init(&state->files[i]);
    lx_kernel->patches = state;
    return 0;
}

static char *bulk_address(int64_t offset) { return (char *)(BLY_BULK_START + (uint64_t)offset); }

/* ---- The objects ------------------------------------------------------------------------------------------------- */

static struct patched_file *file_of(struct memory_object *object) { return container_of(object, struct patched_file, object); }

static int map_area(struct memory_object *object, void *address, size_t size, unsigned protection, bool shared, uint64_t offset)
{
    struct area_object *area = container_of(object, struct area_object, object);
    return bulk_map((uint64_t)area->bulk + offset, address, size, protection, /*shared=*/true);
}

static void destroy_area(struct memory_object *object)
{
    struct area_object *area = container_of(object, struct area_object, object);
    bulk_free((uint64_t)area->bulk, AREA_PAGES);
    heap_free(area);
}

static const struct memory_object_ops area_ops = {.map = map_area, .destroy = destroy_area};

/* The trampolines of `file` next to its mapping whose position 0 is at `base`. False: other things are in the way. */
static bool have_area(struct mm *mm, struct patched_file *file, uint64_t base)
{
    uint64_t address = base + (uint64_t)file->distance;
    struct region *region = mm_find(mm, address);
    if (region && region->object == file->area_object && region->start == address)
        return true;
    int64_t mapped = mm_map(mm, address, AREA_SIZE, BLY_PROT_READ | BLY_PROT_EXECUTE, REGION_TRAMPOLINE | REGION_SHARED, file->area_object, 0, MM_FIXED_NOREPLACE);
    if (mapped >= 0)
        mm->patches = (void *)1;
    return mapped >= 0;
}

static const struct site *next_patched(const struct patched_page *page, unsigned from)
{
    const struct site *found = NULL;
    for (uint32_t i = 0; i < page->site_count; i++) {
        const struct site *site = &page->sites[i];
        if (site->state == SITE_PATCHED && site->plan.start >= from && (!found || site->plan.start < found->plan.start))
            found = site;
    }
    return found;
}

/* Whether `code` is the page as the patched one was made from it, or an older version of that: equal but for the patched bytes. */
static bool page_matches(const struct patched_page *page, const uint8_t *code)
{
    const char *patched = bulk_address(page->bulk);
    unsigned at = 0;
    for (const struct site *site; (site = next_patched(page, at)); at = site->plan.start + (site->plan.kind == PATCH_CPUID ? 1 : PATCH_SIZE))
        if (memcmp(code + at, patched + at, site->plan.start - at))
            return false;
    return !memcmp(code + at, patched + at, BLY_PAGE_SIZE - at);
}

static int lay_over(struct patched_page *page, uint64_t address, unsigned protection)
{
    uint8_t code[BLY_PAGE_SIZE];
    if (guest_read(code, (void *)address, sizeof code) < 0 || !page_matches(page, code))
        return -ENOENT;
    return bulk_map((uint64_t)page->bulk, (void *)address, BLY_PAGE_SIZE, protection, /*shared=*/false);
}

static bool jumps_to_trampolines(const struct patched_page *page)
{
    for (uint32_t i = 0; i < page->site_count; i++)
        if (page->sites[i].state == SITE_PATCHED && page->sites[i].plan.kind != PATCH_CPUID)
            return true;
    return false;
}

/* The patched pages over what is mapped of the file's own. */
static void lay_over_range(struct patched_file *file, uint64_t address, size_t size, unsigned protection, uint64_t offset)
{
    bool has_area = have_area(lx_process()->mm, file, address - offset);
    scoped_mutex(&cache()->mutex);
    list_for_each(node, &file->pages) {
        struct patched_page *page = container_of(node, struct patched_page, node);
        if (page->bulk != NO_PAGE && page->offset >= offset && page->offset < offset + size && (has_area || !jumps_to_trampolines(page)))
            (void)lay_over(page, address + (page->offset - offset), protection); /* else it stays the file's own */
    }
}

static int map_file(struct memory_object *object, void *address, size_t size, unsigned protection, bool shared, uint64_t offset)
{
    struct patched_file *file = file_of(object);
    int error = file->base->ops->map(file->base, address, size, protection, shared, offset);
    if (error < 0 || shared || !(protection & BLY_PROT_READ))
        return error;
    lay_over_range(file, (uint64_t)address, size, protection, offset);
    return 0;
}

static size_t file_path_text(struct memory_object *object, char *buffer, size_t size)
{
    struct memory_object *base = file_of(object)->base;
    return base->ops->path ? base->ops->path(base, buffer, size) : 0;
}

static bool file_covers(struct memory_object *object, uint64_t offset)
{
    struct memory_object *base = file_of(object)->base;
    return base->ops->covers && base->ops->covers(base, offset);
}

static void destroy_file(struct memory_object *object)
{
    struct patched_file *file = file_of(object);
    list_for_each_safe(node, after, &file->pages) {
        struct patched_page *page = container_of(node, struct patched_page, node);
        if (page->bulk != NO_PAGE)
            bulk_free((uint64_t)page->bulk, 1);
        heap_free(page->sites);
        heap_free(page);
    }
    list_for_each_safe(node, after, &file->retired) {
        struct retired_page *retired = container_of(node, struct retired_page, node);
        bulk_free((uint64_t)retired->bulk, 1);
        heap_free(retired);
    }
    memory_object_unref(file->area_object);
    memory_object_unref(file->base);
    heap_free(file);
}

static const struct memory_object_ops file_ops = {.map = map_file, .destroy = destroy_file, .path = file_path_text, .covers = file_covers};

/* ---- The cache --------------------------------------------------------------------------------------------------- */

static struct list *bucket_of(const struct inode *inode)
{
    return &cache()->files[((uint64_t)inode >> 6) % FILE_BUCKETS];
}

static struct patched_file *find_file(const struct memory_object *base)
{
    list_for_each(node, bucket_of(base->inode)) {
        struct patched_file *file = container_of(node, struct patched_file, node);
        if (file->base->inode == base->inode)
            return file;
    }
    return NULL;
}

/* A file that nobody maps, deleted ones first; taken out of the cache, to be unreferenced after unlocking. */
static struct patched_file *evict(void)
{
    struct patched_file *found = NULL;
    for (int i = 0; i < FILE_BUCKETS; i++) {
        list_for_each(node, &cache()->files[i]) {
            struct patched_file *file = container_of(node, struct patched_file, node);
            if (file->object.references == 1 && (!found || file->base->inode->link_count == 0))
                found = file;
        }
    }
    if (found) {
        list_remove(&found->node);
        cache()->file_count--;
    }
    return found;
}

static struct memory_object *make_area(void)
{
    struct area_object *area = heap_alloc(sizeof *area);
    if (!area)
        return NULL;
    area->bulk = bulk_alloc(AREA_PAGES);
    if (area->bulk < 0) {
        heap_free(area);
        return NULL;
    }
    area->object.ops = &area_ops;
    area->object.references = 1;
    area->object.id = lx_next_id();
    return &area->object;
}

static struct patched_file *make_file(struct memory_object *base, uint64_t position_0)
{
    struct patched_file *file = heap_alloc(sizeof *file);
    struct memory_object *area = file ? make_area() : NULL;
    if (!area) {
        heap_free(file);
        return NULL;
    }
    file->object = (struct memory_object){.ops = &file_ops, .references = 1, .flags = base->flags, .inode = base->inode, .id = base->id};
    file->base = memory_object_ref(base);
    file->area_object = area;
    file->area = container_of(area, struct area_object, object)->bulk;
    file->distance = position_0 > (uint64_t)DISTANCE + BLY_GUEST_MIN ? -DISTANCE : DISTANCE;
    list_init(&file->pages);
    list_init(&file->retired);
    list_push(bucket_of(base->inode), &file->node);
    cache()->file_count++;
    return file;
}

struct memory_object *patch_view(struct memory_object *object, unsigned protection, unsigned region_flags)
{
    if (!object || !object->inode || !(protection & BLY_PROT_EXECUTE) || (protection & BLY_PROT_WRITE) ||
        (region_flags & (REGION_SHARED | REGION_TRAMPOLINE)) || object->ops == &file_ops || !lx_kernel->patches)
        return NULL;
    scoped_mutex(&cache()->mutex);
    struct patched_file *file = find_file(object);
    return file ? memory_object_ref(&file->object) : NULL;
}

int patch_mm_copy(struct mm *to, struct mm *from)
{
    to->patches = from->patches;
    return 0;
}

/* ---- Pages and sites ----------------------------------------------------------------------------------------------- */

static struct patched_page *find_page(struct patched_file *file, uint64_t offset, bool make)
{
    list_for_each(node, &file->pages) {
        struct patched_page *page = container_of(node, struct patched_page, node);
        if (page->offset == offset)
            return page;
    }
    struct patched_page *page = make ? heap_alloc(sizeof *page) : NULL;
    if (!page)
        return NULL;
    page->offset = offset;
    page->bulk = NO_PAGE;
    list_push(&file->pages, &page->node);
    return page;
}

static struct site *find_site(struct patched_page *page, unsigned call, bool make)
{
    for (uint32_t i = 0; i < page->site_count; i++)
        if (page->sites[i].call == call)
            return &page->sites[i];
    if (!make)
        return NULL;
    if (page->site_count == page->site_capacity) {
        uint32_t capacity = page->site_capacity ? page->site_capacity * 2 : 4;
        struct site *sites = heap_realloc(page->sites, page->site_capacity * sizeof *sites, capacity * sizeof *sites);
        if (!sites)
            return NULL;
        page->sites = sites;
        page->site_capacity = capacity;
    }
    struct site *site = &page->sites[page->site_count++];
    memset(site, 0, sizeof *site);
    site->call = (uint16_t)call;
    return site;
}

static bool units_free(const struct patched_file *file, uint32_t slot, unsigned size)
{
    for (uint32_t unit = slot / UNIT; unit <= (slot + size - 1) / UNIT; unit++)
        if (file->used[unit / 64] >> unit % 64 & 1)
            return false;
    return true;
}

/* A place in the area for the trampoline of `plan`. */
static bool allocate_slot(struct patched_file *file, const struct patch_plan *plan, int64_t page_position, uint32_t *out_slot)
{
    _Static_assert(AREA_SIZE == 1 << 16, "one stretch of slots fits");
    uint32_t first = (uint32_t)patch_first_slot(plan, page_position + plan->start, file->distance) / UNIT * UNIT;
    uint32_t range = plan->kind == PATCH_TAIL ? 256 + UNIT : AREA_SIZE;
    for (uint32_t i = 0; i < range; i += UNIT) {
        uint32_t slot = (first + i) % AREA_SIZE;
        if (slot + plan->trampoline_size > AREA_SIZE || !patch_slot_fits(plan, page_position + plan->start, file->distance + slot) ||
            !units_free(file, slot, plan->trampoline_size))
            continue;
        for (uint32_t unit = slot / UNIT; unit <= (slot + plan->trampoline_size - 1) / UNIT; unit++)
            file->used[unit / 64] |= 1ull << unit % 64;
        *out_slot = slot;
        return true;
    }
    return false;
}

/* Two patches may not touch: a site whose bytes another patch has taken is refused. */
static bool overlaps_patched(const struct patched_page *page, const struct patch_plan *plan)
{
    unsigned start = plan->start, end = start + patch_extent(plan);
    for (uint32_t i = 0; i < page->site_count; i++) {
        const struct site *other = &page->sites[i];
        if (other->state == SITE_PATCHED && other->plan.start < end && start < other->plan.start + patch_extent(&other->plan))
            return true;
    }
    return false;
}

static bool patch_site(struct patched_file *file, struct patched_page *page, struct site *site, struct patch_targets *targets, uint8_t *code)
{
    uint8_t trampoline[PATCH_TRAMPOLINE_MAX];
    patch_plan_site(code, site->call, site->has_load ? &site->load : NULL, targets, &site->plan);
    /* Where it is not for speed a breakpoint, which needs no trampoline: a mapping can lack room for these. */
    bool limited = start_info->flags & BLY_START_CPUID_LIMITED;
    if (site->plan.is_cpuid && (limited || overlaps_patched(page, &site->plan) || !allocate_slot(file, &site->plan, (int64_t)page->offset, &site->slot)))
        patch_plan_breakpoint(site->call, &site->plan);
    if (site->plan.kind == PATCH_NONE || overlaps_patched(page, &site->plan) ||
        (site->plan.kind != PATCH_CPUID && !site->plan.is_cpuid && !allocate_slot(file, &site->plan, (int64_t)page->offset, &site->slot))) {
        site->state = SITE_REFUSED;
        return false;
    }
    site->state = SITE_PATCHED;
    if (site->plan.kind == PATCH_CPUID) {
        code[site->call] = INT3;
        return true;
    }
    int64_t at = file->distance + site->slot;
    patch_emit_trampoline(&site->plan, code, (int64_t)page->offset, at, trampoline);
    memcpy(bulk_address(file->area) + site->slot, trampoline, site->plan.trampoline_size);
    patch_emit_jump((int64_t)page->offset + site->plan.start, at, code + site->plan.start);
    return true;
}

/* A new version of the page, with every proven site patched. `code`: the page as the file has it, when there is no version yet. */
static bool make_version(struct patched_file *file, struct patched_page *page, const uint8_t *code)
{
    struct retired_page *retired = NULL;
    if (page->bulk != NO_PAGE && !(retired = heap_alloc(sizeof *retired)))
        return false;
    int64_t bulk = bulk_alloc(1);
    if (bulk < 0) {
        heap_free(retired);
        return false;
    }
    uint8_t *version = (uint8_t *)bulk_address(bulk);
    memcpy(version, page->bulk != NO_PAGE ? (const uint8_t *)bulk_address(page->bulk) : code, BLY_PAGE_SIZE);
    bool changed = false;
    struct patch_targets targets = {0}; /* of the page as it is now: the jumps made here do not stay within it */
    for (uint32_t i = 0; i < page->site_count; i++)
        if (page->sites[i].state == SITE_PROVEN)
            changed |= patch_site(file, page, &page->sites[i], &targets, version);
    if (!changed) {
        bulk_free((uint64_t)bulk, 1);
        heap_free(retired);
        return page->bulk != NO_PAGE;
    }
    if (retired) {
        retired->bulk = page->bulk;
        list_push(&file->retired, &retired->node);
    }
    page->bulk = bulk;
    return true;
}

/* ---- Traps ---------------------------------------------------------------------------------------------------------- */

/* Where an address of the program's code lies in a patched file, or in a file that may be patched. */
struct place {
    struct region *region;
    uint64_t offset; /* in the file */
};

static bool find_place(struct mm *mm, uint64_t address, struct place *out)
{
    struct region *region = mm_find(mm, address);
    if (!region || !region->object || !region->object->inode || (region->flags & (REGION_SHARED | REGION_TRAMPOLINE)) ||
        !(region->protection & BLY_PROT_EXECUTE) || (region->protection & BLY_PROT_WRITE))
        return false;
    out->region = region;
    out->offset = region->offset + (address - region->start);
    return true;
}

/* The page in which a call at `place` is patched: that of the instruction before it, which loads a register, when that lies on one page. */
static bool find_patch_page(struct mm *mm, uint64_t call, struct place *out)
{
    uint64_t before = call - PATCH_SIZE;
    return find_place(mm, (before & PAGE_MASK) <= BLY_PAGE_SIZE - PATCH_SIZE ? before & ~PAGE_MASK : call & ~PAGE_MASK, out);
}

/* After a fork the records of regions are shared; before one changes they must be the process's own. `place` is found again. */
static bool own_place(struct mm *mm, uint64_t address, struct place *place)
{
    return !mm->share || (mm_own(mm) == 0 && find_place(mm, address, place));
}

/* The region, the process's own, becomes one of the patched file's: what is the same is not mapped anew. */
static void exchange_object(struct region *region, struct patched_file *file)
{
    struct memory_object *before = region->object;
    region->object = memory_object_ref(&file->object);
    memory_object_unref(before);
    lay_over_range(file, region->start, region->end - region->start, region->protection, region->offset);
}

/* Lays the newest version over the page at `address`. Where that fails the program goes on with what is there. */
static void remap_page(struct mm *mm, struct place *place, struct patched_file *file, uint64_t address)
{
    if (!own_place(mm, address, place))
        return;
    struct region *region = place->region;
    if (region->object != &file->object)
        exchange_object(region, file);
    else
        lay_over_range(file, address, BLY_PAGE_SIZE, region->protection, place->offset);
}

/* The page as the file has it; false when the program's own differs (it has changed its code) or cannot be read. */
static bool read_original(const struct place *place, uint64_t address, uint8_t *out_code)
{
    uint8_t own[BLY_PAGE_SIZE];
    memset(out_code, 0, BLY_PAGE_SIZE);
    int64_t size = inode_read(place->region->object->inode, out_code, BLY_PAGE_SIZE, place->offset);
    return size > 0 && guest_read(own, (void *)address, sizeof own) == 0 && !memcmp(own, out_code, sizeof own);
}

static bool is_patched_here(const struct site *site, uint64_t call_address)
{
    uint8_t here[PATCH_SIZE];
    uint64_t start = call_address - site->call + site->plan.start;
    return guest_read(here, (void *)start, sizeof here) == 0 && here[0] == 0xe9 && (site->plan.kind != PATCH_TAIL || here[2] == 0xcc);
}

/* The page in memory is as the file has it, or an older version of ours. */
static bool is_unchanged(const struct patched_page *page, uint64_t address)
{
    uint8_t own[BLY_PAGE_SIZE];
    return guest_read(own, (void *)address, sizeof own) == 0 && page_matches(page, own);
}

/* mm.mutex and the cache's are held; `place`: the page at `address`. The file whose page is to be mapped anew, or NULL. */
static struct patched_file *count_trap(struct place *place, uint64_t address, uint64_t call, const struct bly_context *registers)
{
    struct mm *mm = lx_process()->mm;
    struct memory_object *object = place->region->object;
    struct patched_file *file = object->ops == &file_ops ? file_of(object) : find_file(object);
    if (!file)
        file = make_file(object, place->region->start - place->region->offset);
    struct patched_page *page = file ? find_page(file, place->offset, /*make=*/true) : NULL;
    struct site *site = page ? find_site(page, (unsigned)(call - address), /*make=*/true) : NULL;
    if (!site || site->state == SITE_REFUSED)
        return NULL;
    if (site->state == SITE_PATCHED)
        return !is_patched_here(site, call) && is_unchanged(page, address) ? file : NULL;
    uint8_t before[PATCH_SIZE + 1];
    site->has_load = guest_read(before, (void *)(call - sizeof before), sizeof before) == 0 && patch_find_load(before, registers, &site->load);
    if (site->count < HOT)
        site->count++;
    if (site->count < HOT)
        return NULL;
    if (!own_place(mm, address, place) || !have_area(mm, file, place->region->start - place->region->offset))
        return NULL;
    uint8_t code[BLY_PAGE_SIZE];
    if (page->bulk == NO_PAGE ? !read_original(place, address, code) : !is_unchanged(page, address))
        return NULL;
    return make_version(file, page, code) && site->state == SITE_PATCHED ? file : NULL;
}

/* Out of the mutex, since destroying a file may free what others lock. */
static void limit_cache(void)
{
    while (cache()->file_count > FILE_MAX) {
        mutex_acquire(&cache()->mutex);
        struct patched_file *file = cache()->file_count > FILE_MAX ? evict() : NULL;
        mutex_release(&cache()->mutex);
        if (!file)
            return;
        memory_object_unref(&file->object);
    }
}

void patch_site_trapped(struct bly_context *context)
{
    struct mm *mm = lx_process()->mm;
    struct place place;
    uint64_t call = context->rip - 2;
    if ((start_info->flags & BLY_START_NO_PATCHING) || !mm)
        return;
    mutex_acquire(&mm->mutex);
    if (find_patch_page(mm, call, &place)) {
        uint64_t address = place.region->start + (place.offset - place.region->offset);
        uint32_t parking = park_forbid(); /* maps of a resumed process take this mutex: none who rests has it */
        mutex_acquire(&cache()->mutex);
        struct patched_file *file = count_trap(&place, address, call, context);
        if (file)
            memory_object_ref(&file->object);
        mutex_release(&cache()->mutex);
        park_allow(parking);
        if (file) {
            mm_tell_stale_code(mm, address);
            remap_page(mm, &place, file, address);
            memory_object_unref(&file->object);
        }
    }
    mutex_release(&mm->mutex);
    limit_cache();
    context->rip = patch_moved_address(context->rip);
}

void patch_catch_up(struct mm *mm)
{
    uint64_t address = mm_take_stale_code(mm);
    struct place place;
    if (!address || !find_place(mm, address, &place))
        return;
    uint32_t parking = park_forbid();
    mutex_acquire(&cache()->mutex);
    struct memory_object *object = place.region->object;
    struct patched_file *file = object->ops == &file_ops ? file_of(object) : find_file(object);
    struct patched_page *page = file ? find_page(file, place.offset, /*make=*/false) : NULL;
    /* Once a version: where it cannot be laid over, it is not tried at each fork. */
    bool wanted = page && page->bulk != NO_PAGE && page->bulk != mm->caught_up;
    if (wanted) {
        mm->caught_up = page->bulk;
        memory_object_ref(&file->object);
    }
    mutex_release(&cache()->mutex);
    park_allow(parking);
    if (!wanted)
        return;
    remap_page(mm, &place, file, address);
    memory_object_unref(&file->object);
}

/* ---- CPUID ---------------------------------------------------------------------------------------------------------- */

static bool holds_cpuid(const uint8_t *code, size_t size)
{
    const uint8_t *end = code + size;
    for (const uint8_t *at = code; (at = memchr(at, 0xa2, (size_t)(end - at))); at++)
        if (at > code && at[-1] == 0x0f)
            return true;
    return false;
}

/* A page of code with as much around it as proofs look at. */
enum { AROUND = 128, AROUND_SIZE = AROUND + (int)BLY_PAGE_SIZE + AROUND };

/* Adds the CPUID instructions of the page in the middle of `code` as proven. The cache's mutex is held. */
static bool add_cpuid_sites(struct patched_page *page, const uint8_t code[AROUND_SIZE])
{
    const uint8_t *middle = code + AROUND, *end = middle + BLY_PAGE_SIZE;
    uint8_t sizes[AROUND_SIZE];
    bool added = false;
    memset(sizes, INSTRUCTION_SIZE_UNKNOWN, sizeof sizes);
    for (const uint8_t *at = middle; (at = memchr(at, 0xa2, (size_t)(end - at))); at++) {
        if (at == middle || at[-1] != 0x0f || !instruction_begins(code, AROUND_SIZE, (size_t)(at - 1 - code), sizes))
            continue;
        if (!find_site(page, (unsigned)(at - 1 - middle), /*make=*/true))
            break;
        added = true;
    }
    return added;
}

/* The page at `address`, `offset` in the file. Returns whether there is a patched one. mm.mutex is held. */
static bool patch_cpuid_page(const struct place *place, struct patched_file *file, uint64_t address, uint64_t offset)
{
    uint8_t code[AROUND_SIZE];
    const struct place here = {place->region, offset};
    if (!read_original(&here, address, code + AROUND))
        return false;
    /* What cannot be read stays zero, and is not the place of a proof. */
    memset(code, 0, AROUND);
    memset(code + AROUND + BLY_PAGE_SIZE, 0, AROUND);
    (void)guest_read_some(code, (const void *)(address - AROUND), AROUND);
    (void)guest_read_some(code + AROUND + BLY_PAGE_SIZE, (const void *)(address + BLY_PAGE_SIZE), AROUND);
    scoped_mutex(&cache()->mutex);
    struct patched_page *page = find_page(file, offset, /*make=*/true);
    return page && page->bulk == NO_PAGE && add_cpuid_sites(page, code) && make_version(file, page, code + AROUND);
}

static bool was_searched(const struct patched_file *file, uint64_t start, uint64_t end)
{
    for (uint32_t i = 0; i < file->search_count; i++)
        if (file->searches[i].start <= start && file->searches[i].end >= end)
            return true;
    return false;
}

/* The file at `place`, with a reference, if it was not searched yet from there on. */
static struct patched_file *begin_search(const struct place *place, uint64_t size)
{
    struct memory_object *object = place->region->object;
    scoped_mutex(&cache()->mutex);
    struct patched_file *file = object->ops == &file_ops ? file_of(object) : find_file(object);
    if (!file)
        file = make_file(object, place->region->start - place->region->offset);
    if (!file || was_searched(file, place->offset, place->offset + size))
        return NULL;
    if (file->search_count < SEARCH_MAX)
        file->searches[file->search_count++] = (struct search){place->offset, place->offset + size};
    memory_object_ref(&file->object);
    return file;
}

void patch_cpuid(struct mm *mm, uint64_t start, uint64_t size)
{
    struct place place;
    assert(mutex_held(&mm->mutex));
    bool limited = start_info->flags & BLY_START_CPUID_LIMITED;
    if ((start_info->flags & BLY_START_NO_PATCHING) || !(limited || start_info->cpuid_is_slow) || size > (limited ? CPUID_CODE_MAX_LIMITED : CPUID_CODE_MAX) ||
        !find_place(mm, start, &place))
        return;
    struct patched_file *file = begin_search(&place, size);
    if (!file)
        return;
    uint8_t code[BLY_PAGE_SIZE];
    uint64_t end = start + size < place.region->end ? start + size : place.region->end;
    bool patched = false;
    for (uint64_t at = start; at < end && guest_read(code, (const void *)at, sizeof code) == 0; at += BLY_PAGE_SIZE)
        if (holds_cpuid(code, sizeof code))
            patched |= patch_cpuid_page(&place, file, at, place.offset + (at - start));
    if (patched)
        exchange_object(place.region, file);
    memory_object_unref(&file->object);
}

/* ---- Addresses ------------------------------------------------------------------------------------------------------ */

/* The address of instruction `i` of a moved tail, in the trampoline. */
static uint64_t moved_to(const struct patched_file *file, const struct site *site, unsigned i, uint64_t position_0)
{
    return position_0 + (uint64_t)file->distance + site->slot + site->plan.instructions[i].to;
}

static uint64_t moved_address(struct mm *mm, uint64_t address)
{
    struct place place;
    if (!find_place(mm, address, &place) || place.region->object->ops != &file_ops)
        return address;
    struct patched_file *file = file_of(place.region->object);
    uint64_t position_0 = place.region->start - place.region->offset;
    scoped_mutex(&cache()->mutex);
    struct patched_page *page = find_page(file, place.offset & ~PAGE_MASK, /*make=*/false);
    unsigned offset = (unsigned)(place.offset & PAGE_MASK);
    for (uint32_t i = 0; page && i < page->site_count; i++) {
        const struct site *site = &page->sites[i];
        if (site->state != SITE_PATCHED || site->plan.kind != PATCH_TAIL || offset < site->call + 2u || offset >= site->call + (unsigned)PATCH_SIZE)
            continue;
        if (!is_patched_here(site, address - offset + site->call))
            return address;
        for (unsigned k = 0; k < site->plan.instruction_count; k++)
            if (site->call + 2u + site->plan.instructions[k].from == offset)
                return moved_to(file, site, k, position_0);
    }
    return address;
}

uint64_t patch_moved_address(uint64_t address)
{
    struct mm *mm = lx_process()->mm;
    if (!mm || !mm->patches)
        return address;
    scoped_mutex(&mm->mutex);
    return moved_address(mm, address);
}

static bool is_cpuid(struct mm *mm, uint64_t address)
{
    struct place place;
    scoped_mutex(&mm->mutex);
    if (!find_place(mm, address, &place) || place.region->object->ops != &file_ops)
        return false;
    scoped_mutex(&cache()->mutex);
    struct patched_page *page = find_page(file_of(place.region->object), place.offset & ~PAGE_MASK, /*make=*/false);
    const struct site *site = page ? find_site(page, (unsigned)(place.offset & PAGE_MASK), /*make=*/false) : NULL;
    return site && site->state == SITE_PATCHED && site->plan.kind == PATCH_CPUID;
}

bool patch_breakpoint(struct bly_context *context)
{
    struct mm *mm = lx_process()->mm;
    if (mm && is_cpuid(mm, context->rip - 1)) {
        cpuid_serve(context);
        context->rip++; /* behind the instruction's second byte */
        return true;
    }
    uint64_t moved = patch_moved_address(context->rip - 1);
    if (moved == context->rip - 1)
        return false;
    context->rip = moved;
    return true;
}

/* Offset in the trampoline to the original address, relative to the page. */
static unsigned original_offset(const struct patch_plan *plan, unsigned at)
{
    if (plan->kind == PATCH_LOAD || at < plan->instructions[0].to)
        return plan->start; /* nothing has happened yet that beginning again would repeat */
    unsigned i = 0;
    while (i < plan->instruction_count && plan->instructions[i + 1].to <= at)
        i++;
    return plan->start + 2u + plan->instructions[i].from;
}

uint64_t patch_original_address(uint64_t address)
{
    struct mm *mm = lx_process()->mm;
    if (!mm || !mm->patches)
        return address;
    scoped_mutex(&mm->mutex);
    struct region *region = mm_find(mm, address);
    if (!region || !(region->flags & REGION_TRAMPOLINE))
        return address;
    scoped_mutex(&cache()->mutex);
    uint32_t at = (uint32_t)(address - region->start);
    for (int i = 0; i < FILE_BUCKETS; i++) {
        list_for_each(file_node, &cache()->files[i]) {
            struct patched_file *file = container_of(file_node, struct patched_file, node);
            if (file->area_object != region->object)
                continue;
            list_for_each(page_node, &file->pages) {
                struct patched_page *page = container_of(page_node, struct patched_page, node);
                for (uint32_t k = 0; k < page->site_count; k++) {
                    const struct site *site = &page->sites[k];
                    if (site->state == SITE_PATCHED && at >= site->slot && at < site->slot + site->plan.trampoline_size)
                        return region->start - (uint64_t)file->distance + page->offset + original_offset(&site->plan, at - site->slot);
                }
            }
        }
    }
    return address;
}
