/*
 * A hash table from byte strings to pointers.
 *
 * Own instead of a library, because three things are wanted together which
 * the header-only ones we know do not offer together:
 *
 * - it grows and shrinks incrementally: two arrays of buckets live side by
 *   side while every operation moves one bucket over, so no command pays for
 *   a resize (a table of a million keys takes tens of milliseconds at once);
 * - SCAN works over it: the cursor counts buckets with its bits reversed, which
 *   returns every key that was there all the time, whatever resizes happen
 *   between two calls, and needs chained buckets in powers of two;
 * - an entry is one allocation with the key inside and a stable address, which
 *   is what keeps a million small keys smaller than Redis does.
 *
 * Keys are hashed with SipHash-1-3 under a random seed: whoever may choose keys
 * must not be able to choose collisions.
 */
#ifndef SERVER_DICT_H
#define SERVER_DICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/mem.h"

struct dict_entry {
    struct dict_entry *next;
    void *value;   /* the owner's */
    uint32_t mark; /* the owner's, 0 at first */
    uint32_t key_len : 30;
    uint32_t kind : 2; /* the owner's, 0 at first */
    char key[];
};

#define DICT_KEY_MAX ((1U << 30) - 1)

struct dict {
    struct mem *mem;
    uint64_t seed[2];
    struct dict_entry **table[2]; /* [1] only while it is being resized */
    size_t size[2];               /* powers of two, or 0 */
    size_t count;
    size_t moved; /* buckets of table[0] below this one were moved */
};

void dict_init(struct dict *d, struct mem *mem, const uint64_t seed[2]);

/* Frees the entries and the tables, and leaves an empty dict. `drop`, unless
 * NULL, is called with every entry for its value's sake. */
void dict_clear(struct dict *d,
                void (*drop)(void *context, struct dict_entry *),
                void *context);

/* NULL when there is none. */
struct dict_entry *dict_find(struct dict *d, const char *key, size_t len);

/* Adds a key that is known not to be there. len <= DICT_KEY_MAX. */
struct dict_entry *dict_add(struct dict *d, const char *key, size_t len);

/* Takes the entry out of the table; the caller then frees it. NULL when there
 * is none. */
struct dict_entry *dict_take(struct dict *d, const char *key, size_t len);
void dict_entry_free(struct dict *d, struct dict_entry *e);

/* An entry at random, every one about as likely; NULL when empty. `random` is
 * any source of 64 random bits. */
struct dict_entry *dict_random(struct dict *d, uint64_t (*random)(void *),
                               void *context);

/* Calls `visit` with the entries of a few buckets and returns the cursor for
 * the next call; begins and ends with 0. `visit` must not change the dict. */
uint64_t dict_scan(struct dict *d, uint64_t cursor,
                   void (*visit)(void *context, struct dict_entry *),
                   void *context);

/* Moves up to `buckets` buckets of a resize. False: nothing left to move. */
bool dict_work(struct dict *d, size_t buckets);

#endif
