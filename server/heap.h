/*
 * Deadlines in order: a binary heap of moments.
 *
 * Each thing with a deadline keeps a `uint32_t` slot, in which the heap writes
 * where the thing's item is (0: none), so that a deadline can be changed or
 * taken away in O(log n). The heap knows its things by the address of that
 * slot, which must not move.
 */
#ifndef SERVER_HEAP_H
#define SERVER_HEAP_H

#include <stddef.h>
#include <stdint.h>

#include "server/mem.h"

struct heap_item {
    int64_t at_ms;
    uint32_t *slot;
};

struct heap {
    struct mem *mem;
    struct heap_item *items; /* items[0] is unused, so that slot 0 is "none" */
    uint32_t count;
    uint32_t cap;
};

void heap_init(struct heap *h, struct mem *mem);
void heap_release(struct heap *h);

/* Sets the deadline of the thing with this slot, new or changed. */
void heap_set(struct heap *h, uint32_t *slot, int64_t at_ms);

/* Takes the deadline away, if there is one. */
void heap_remove(struct heap *h, uint32_t *slot);

/* The earliest item, or NULL. Good until the heap changes. */
const struct heap_item *heap_first(const struct heap *h);

static inline int64_t heap_at(const struct heap *h, uint32_t slot)
{
    return h->items[slot].at_ms;
}

#endif
