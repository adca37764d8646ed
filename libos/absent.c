/* See absent.h. That a chunk was loaded is noted in the heap, for all picoprocesses, by whoever
 * asked the monitor and before it goes on; the monitor loads each once, however many ask.
 * Invariant: a chunk is accessible in a picoprocess only once that is noted. */
#include "libos/absent.h"

#include <asm/errno.h>

#include "libos/abi.h"
#include "libos/heap.h"
#include "libos/shared.h"
#include "libos/text.h"

/* So that the pieces of the segment, accessible and not by turns, stay few: the host limits the
 * maps of a process. */
enum { CHUNKS_MAX = 8192 };

struct absent {
    uint64_t size;  /* of what may be absent, from the start of the segment: whole chunks */
    unsigned shift; /* a chunk is 1 << shift bytes */
    _Atomic uint8_t loaded[]; /* a byte a chunk */
};

int absent_begin(void)
{
    struct libos_shared *shared = libos_shared();
    uint64_t used = (uint64_t)shared->bulk.top * BLY_PAGE_SIZE;
    unsigned shift = __builtin_ctzll(BLY_LOAD_UNIT);

    while (used >> shift >= CHUNKS_MAX)
        shift++;
    uint64_t count = (used >> shift) + 1;
    heap_free(shared->absent); /* of a former life */
    shared->absent = heap_alloc(sizeof *shared->absent + count);
    if (!shared->absent)
        return -ENOMEM;
    shared->absent->size = count << shift;
    shared->absent->shift = shift;
    return bly->memory_protect((void *)BLY_BULK_START, shared->absent->size, 0);
}

static void cannot_load(int error)
{
    panic("memory of the sandbox cannot be loaded from its image: error %d", -error);
}

static void load(struct absent *absent, uint64_t first, uint64_t end, unsigned flags)
{
    for (uint64_t chunk = first, next; chunk < end; chunk = next) {
        for (next = chunk; next < end && !absent->loaded[next];)
            next++;
        if (next > chunk) {
            int error = bly->memory_load(BLY_LOAD_BULK, chunk << absent->shift,
                                         (next - chunk) << absent->shift, flags);
            if (error < 0)
                cannot_load(error);
            for (uint64_t i = chunk; i < next; i++)
                absent->loaded[i] = 1;
        }
        next += next < end; /* that one is there */
    }
}

static void allow(struct absent *absent, uint64_t first, uint64_t end)
{
    const unsigned all = BLY_PROT_READ | BLY_PROT_WRITE;
    if (bly->memory_protect((void *)(BLY_BULK_START + (first << absent->shift)),
                            (end - first) << absent->shift, all) == 0)
        return;
    /* The host allows no further piece: then all is one. */
    load(absent, 0, absent->size >> absent->shift, 0);
    int error = bly->memory_protect((void *)BLY_BULK_START, absent->size, all);
    if (error < 0)
        cannot_load(error);
}

/* The chunks that have part in [offset, offset + size); none: false. */
static bool chunks_of(const struct absent *absent, uint64_t offset, uint64_t size,
                      uint64_t *out_first, uint64_t *out_end)
{
    if (!absent || !size || offset >= absent->size)
        return false;
    if (size > absent->size - offset)
        size = absent->size - offset;
    *out_first = offset >> absent->shift;
    *out_end = ((offset + size - 1) >> absent->shift) + 1;
    return true;
}

bool absent_fault(uint64_t address)
{
    const struct absent *absent =
        address >= BLY_BULK_START && address < BLY_BULK_START + BLY_BULK_SIZE
            ? libos_shared()->absent
            : NULL;

    if (!absent || address - BLY_BULK_START >= absent->size)
        return false;
    absent_load(address - BLY_BULK_START, 1);
    return true;
}

uint64_t absent_chunk_size(void)
{
    const struct absent *absent = libos_shared()->absent;

    return absent ? 1ull << absent->shift : BLY_LOAD_UNIT;
}

bool absent_is_present(uint64_t offset, uint64_t size)
{
    const struct absent *absent = libos_shared()->absent;
    uint64_t chunk, end;

    if (chunks_of(absent, offset, size, &chunk, &end))
        for (; chunk < end; chunk++)
            if (!absent->loaded[chunk])
                return false;
    return true;
}

void absent_fetch(uint64_t offset, uint64_t size)
{
    struct absent *absent = libos_shared()->absent;
    uint64_t first, end;

    if (chunks_of(absent, offset, size, &first, &end))
        load(absent, first, end, 0);
}

void absent_load(uint64_t offset, uint64_t size)
{
    struct absent *absent = libos_shared()->absent;
    uint64_t first, end;

    if (!chunks_of(absent, offset, size, &first, &end))
        return;
    load(absent, first, end, 0);
    allow(absent, first, end);
}

void absent_discard(uint64_t offset, uint64_t size)
{
    struct absent *absent = libos_shared()->absent;
    uint64_t first, end;

    if (!chunks_of(absent, offset, size, &first, &end))
        return;
    /* What else lies in the chunks at both ends is wanted. */
    uint64_t mask = (1ull << absent->shift) - 1, whole = (offset + mask) >> absent->shift,
             past = (offset + size) >> absent->shift;
    if (whole < past)
        load(absent, whole, past < end ? past : end, BLY_LOAD_DISCARD);
    load(absent, first, end, 0);
    allow(absent, first, end);
}
