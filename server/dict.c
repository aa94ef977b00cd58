/*
 * The incremental hash table.
 *
 * While table[1] exists, buckets of table[0] below `moved` are empty, new keys
 * go to table[1], and a lookup tries table[0] (unless its bucket was moved
 * already) and then table[1]. When the last bucket has moved, table[1] becomes
 * table[0].
 */
#include "server/dict.h"

#include <assert.h>
#include <string.h>

#include "server/siphash.h"

#define DICT_MIN_SIZE 4

void dict_init(struct dict *d, struct mem *mem, const uint64_t seed[2])
{
    memset(d, 0, sizeof(*d));
    d->mem = mem;
    d->seed[0] = seed[0];
    d->seed[1] = seed[1];
}

static bool resizing(const struct dict *d)
{
    return d->size[1] != 0;
}

static void finish_resize(struct dict *d)
{
    mem_free(d->mem, d->table[0]);
    d->table[0] = d->table[1];
    d->size[0] = d->size[1];
    d->table[1] = NULL;
    d->size[1] = 0;
    d->moved = 0;
}

static void move_bucket(struct dict *d, size_t bucket)
{
    struct dict_entry *e = d->table[0][bucket];
    d->table[0][bucket] = NULL;
    while (e != NULL) {
        struct dict_entry *next = e->next;
        uint64_t h = siphash13(d->seed, e->key, e->key_len);
        struct dict_entry **head = &d->table[1][h & (d->size[1] - 1)];
        e->next = *head;
        *head = e;
        e = next;
    }
}

bool dict_work(struct dict *d, size_t buckets)
{
    if (!resizing(d))
        return false;
    /* Empty buckets are cheap to pass, but not free. */
    size_t empty = buckets * 10;
    while (buckets > 0 && empty > 0 && d->moved < d->size[0]) {
        if (d->table[0][d->moved] == NULL) {
            empty--;
        } else {
            move_bucket(d, d->moved);
            buckets--;
        }
        d->moved++;
    }
    if (d->moved < d->size[0])
        return true;
    finish_resize(d);
    return false;
}

static void start_resize(struct dict *d, size_t size)
{
    struct dict_entry **table = mem_zalloc(d->mem, size * sizeof(*table));
    if (d->size[0] == 0) {
        d->table[0] = table;
        d->size[0] = size;
        return;
    }
    d->table[1] = table;
    d->size[1] = size;
    d->moved = 0;
}

/* Grows at one entry per bucket; shrinks at one per eight, to what fits. */
static void maybe_resize(struct dict *d)
{
    if (resizing(d))
        return;
    if (d->count >= d->size[0]) {
        start_resize(d, d->size[0] == 0 ? DICT_MIN_SIZE : d->size[0] * 2);
    } else if (d->size[0] > DICT_MIN_SIZE && d->count < d->size[0] / 8) {
        size_t size = DICT_MIN_SIZE;
        while (size < d->count * 2)
            size *= 2;
        start_resize(d, size);
    }
}

/* The link that points at the entry, or NULL. */
static struct dict_entry **find_link(struct dict *d, const char *key,
                                     size_t len)
{
    if (d->count == 0)
        return NULL;
    uint64_t h = siphash13(d->seed, key, len);
    for (int t = 0; t < 2 && d->size[t] != 0; t++) {
        size_t bucket = h & (d->size[t] - 1);
        struct dict_entry **link = &d->table[t][bucket];
        for (; *link != NULL; link = &(*link)->next)
            if ((*link)->key_len == len && memcmp((*link)->key, key, len) == 0)
                return link;
    }
    return NULL;
}

struct dict_entry *dict_find(struct dict *d, const char *key, size_t len)
{
    dict_work(d, 1);
    struct dict_entry **link = find_link(d, key, len);
    return link == NULL ? NULL : *link;
}

struct dict_entry *dict_add(struct dict *d, const char *key, size_t len)
{
    assert(len <= DICT_KEY_MAX);
    dict_work(d, 1);
    maybe_resize(d);
    struct dict_entry *e =
        mem_alloc(d->mem, offsetof(struct dict_entry, key) + len);
    e->value = NULL;
    e->mark = 0;
    e->key_len = (uint32_t)len & DICT_KEY_MAX;
    e->kind = 0;
    memcpy(e->key, key, len);
    int t = resizing(d) ? 1 : 0;
    uint64_t h = siphash13(d->seed, key, len);
    struct dict_entry **head = &d->table[t][h & (d->size[t] - 1)];
    e->next = *head;
    *head = e;
    d->count++;
    return e;
}

struct dict_entry *dict_take(struct dict *d, const char *key, size_t len)
{
    dict_work(d, 1);
    struct dict_entry **link = find_link(d, key, len);
    if (link == NULL)
        return NULL;
    struct dict_entry *e = *link;
    *link = e->next;
    e->next = NULL;
    d->count--;
    maybe_resize(d);
    return e;
}

void dict_entry_free(struct dict *d, struct dict_entry *e)
{
    mem_free(d->mem, e);
}

void dict_clear(struct dict *d,
                void (*drop)(void *context, struct dict_entry *), void *context)
{
    for (int t = 0; t < 2; t++) {
        for (size_t i = 0; i < d->size[t]; i++) {
            struct dict_entry *e = d->table[t][i];
            while (e != NULL) {
                struct dict_entry *next = e->next;
                if (drop != NULL)
                    drop(context, e);
                mem_free(d->mem, e);
                e = next;
            }
        }
        mem_free(d->mem, d->table[t]);
        d->table[t] = NULL;
        d->size[t] = 0;
    }
    d->count = 0;
    d->moved = 0;
}

struct dict_entry *dict_random(struct dict *d, uint64_t (*random)(void *),
                               void *context)
{
    if (d->count == 0)
        return NULL;
    /* A run of neighbouring buckets from a random place, of which one entry is
     * chosen, evens out the lengths of the chains. */
    struct dict_entry *found[32];
    size_t n = 0;
    size_t total = d->size[0] + d->size[1];
    assert(total > 0); /* asked of a table that is not empty */
    size_t at = random(context) % total;
    for (size_t seen = 0; seen < total && n < 16; seen++, at++) {
        if (at == total)
            at = 0;
        struct dict_entry *e =
            at < d->size[0] ? d->table[0][at] : d->table[1][at - d->size[0]];
        for (; e != NULL && n < 32; e = e->next)
            found[n++] = e;
    }
    assert(n > 0); /* all of them were looked at, and there are some */
    return found[random(context) % n];
}

static uint64_t reverse_bits(uint64_t v)
{
    v = __builtin_bswap64(v);
    v = ((v >> 4) & UINT64_C(0x0f0f0f0f0f0f0f0f)) |
        ((v & UINT64_C(0x0f0f0f0f0f0f0f0f)) << 4);
    v = ((v >> 2) & UINT64_C(0x3333333333333333)) |
        ((v & UINT64_C(0x3333333333333333)) << 2);
    return ((v >> 1) & UINT64_C(0x5555555555555555)) |
           ((v & UINT64_C(0x5555555555555555)) << 1);
}

/* Counts up in the reversed bits below the mask: the high bits of the bucket
 * number change first, so that the buckets into which one splits when the
 * table grows are all visited where that one would have been. */
static uint64_t next_cursor(uint64_t cursor, uint64_t mask)
{
    return reverse_bits(reverse_bits(cursor | ~mask) + 1);
}

static void visit_bucket(struct dict_entry *e,
                         void (*visit)(void *, struct dict_entry *),
                         void *context)
{
    for (; e != NULL; e = e->next)
        visit(context, e);
}

uint64_t dict_scan(struct dict *d, uint64_t cursor,
                   void (*visit)(void *, struct dict_entry *), void *context)
{
    if (d->count == 0)
        return 0;
    if (!resizing(d)) {
        uint64_t mask = d->size[0] - 1;
        visit_bucket(d->table[0][cursor & mask], visit, context);
        return next_cursor(cursor, mask);
    }
    /* The bucket of the smaller table, then all of the larger one's which it
     * corresponds to. */
    int small = d->size[0] < d->size[1] ? 0 : 1;
    int large = 1 - small;
    uint64_t small_mask = d->size[small] - 1;
    uint64_t large_mask = d->size[large] - 1;
    visit_bucket(d->table[small][cursor & small_mask], visit, context);
    do {
        visit_bucket(d->table[large][cursor & large_mask], visit, context);
        cursor = next_cursor(cursor, large_mask);
    } while ((cursor & (small_mask ^ large_mask)) != 0);
    return cursor;
}
