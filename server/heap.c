/* A binary heap whose items know where they are. */
#include "server/heap.h"

#include <assert.h>
#include <string.h>

void heap_init(struct heap *h, struct mem *mem)
{
    memset(h, 0, sizeof(*h));
    h->mem = mem;
}

void heap_release(struct heap *h)
{
    mem_free(h->mem, h->items);
    heap_init(h, h->mem);
}

static void put(struct heap *h, uint32_t i, struct heap_item item)
{
    h->items[i] = item;
    *item.slot = i;
}

static void sift_up(struct heap *h, uint32_t i)
{
    struct heap_item item = h->items[i];
    while (i > 1 && h->items[i / 2].at_ms > item.at_ms) {
        put(h, i, h->items[i / 2]);
        i /= 2;
    }
    put(h, i, item);
}

static void sift_down(struct heap *h, uint32_t i)
{
    struct heap_item item = h->items[i];
    while (i <= h->count / 2) {
        uint32_t child = i * 2;
        if (child < h->count &&
            h->items[child + 1].at_ms < h->items[child].at_ms)
            child++;
        if (h->items[child].at_ms >= item.at_ms)
            break;
        put(h, i, h->items[child]);
        i = child;
    }
    put(h, i, item);
}

void heap_set(struct heap *h, uint32_t *slot, int64_t at_ms)
{
    if (*slot != 0) {
        int64_t before = h->items[*slot].at_ms;
        h->items[*slot].at_ms = at_ms;
        if (at_ms < before)
            sift_up(h, *slot);
        else
            sift_down(h, *slot);
        return;
    }
    if (h->count + 1 >= h->cap) {
        assert(h->cap < UINT32_MAX / 2);
        h->cap = h->cap == 0 ? 16 : h->cap * 2;
        h->items = mem_resize(h->mem, h->items, h->cap * sizeof(*h->items));
    }
    h->count++;
    put(h, h->count, (struct heap_item){.at_ms = at_ms, .slot = slot});
    sift_up(h, h->count);
}

void heap_remove(struct heap *h, uint32_t *slot)
{
    uint32_t i = *slot;
    if (i == 0)
        return;
    *slot = 0;
    struct heap_item last = h->items[h->count];
    h->count--;
    if (i <= h->count) {
        put(h, i, last);
        sift_up(h, i);
        sift_down(h, *last.slot);
    }
    if (h->cap > 1024 && h->count < h->cap / 4) {
        h->cap /= 2;
        h->items = mem_resize(h->mem, h->items, h->cap * sizeof(*h->items));
    }
}

const struct heap_item *heap_first(const struct heap *h)
{
    return h->count == 0 ? NULL : &h->items[1];
}
