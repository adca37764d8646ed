/* A table of chunks, each for 2 MiB of memory: memory in use lies close together. */
#include "image/slots.h"

#include <bailey/layout.h>
#include <base/text.h>
#include <stdlib.h>

#define CHUNK_COUNT 512u

struct img_slot_chunk {
    uint64_t number; /* of the first address, in chunks */
    uint32_t slots[CHUNK_COUNT];
};

static struct img_slot_chunk **find(struct img_slot_chunk **chunks, size_t capacity,
                                    uint64_t number)
{
    size_t at = (size_t)(number * 0x9e3779b97f4a7c15ull >> 32);
    while (chunks[at & (capacity - 1)] && chunks[at & (capacity - 1)]->number != number)
        at++;
    return &chunks[at & (capacity - 1)];
}

static void grow(struct img_slots *slots)
{
    size_t capacity = slots->capacity ? slots->capacity * 2 : 64;
    struct img_slot_chunk **chunks = memory_new(capacity * sizeof(*chunks));
    for (size_t i = 0; i < slots->capacity; i++)
        if (slots->chunks[i])
            *find(chunks, capacity, slots->chunks[i]->number) = slots->chunks[i];
    free(slots->chunks);
    slots->chunks = chunks;
    slots->capacity = capacity;
}

uint32_t *img_slots_at(struct img_slots *slots, uint64_t address)
{
    uint64_t page = address / BLY_PAGE_SIZE, number = page / CHUNK_COUNT;
    if (slots->count * 2 >= slots->capacity)
        grow(slots);
    struct img_slot_chunk **place = find(slots->chunks, slots->capacity, number);
    if (!*place) {
        *place = memory_new(sizeof(**place));
        (*place)->number = number;
        slots->count++;
    }
    return &(*place)->slots[page % CHUNK_COUNT];
}

void img_slots_free(struct img_slots *slots)
{
    for (size_t i = 0; i < slots->capacity; i++)
        free(slots->chunks[i]);
    free(slots->chunks);
    *slots = (struct img_slots){0};
}
