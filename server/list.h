/*
 * A list of byte strings, quick at both ends and compact: elements lie packed
 * in chunks of up to 8 KB, and the chunks are linked. Each element has its
 * length on both sides, so that a chunk can be walked either way.
 */
#ifndef SERVER_LIST_H
#define SERVER_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/mem.h"
#include "server/protocol.h"

enum list_end { LIST_HEAD, LIST_TAIL };

struct list_chunk;

struct list {
    struct list_chunk *ends[2]; /* by enum list_end */
    size_t count;
};

struct list *list_new(struct mem *m);
void list_free(struct list *l, struct mem *m);

/* The bytes must not lie in this list. */
void list_push(struct list *l, struct mem *m, enum list_end end,
               const char *bytes, size_t len);

/* The element at an end, a view until the list changes. There must be one. */
struct arg list_peek(const struct list *l, enum list_end end);

/* Removes the element at an end. There must be one. */
void list_drop(struct list *l, struct mem *m, enum list_end end);

/* A place in a list, good until the list changes. */
struct list_cursor {
    const struct list_chunk *chunk;
    size_t at; /* the offset of the element in it */
};

/* The element with this index, counted from the head. It must be there. */
struct list_cursor list_seek(const struct list *l, size_t index);

/* The element at the cursor, which then moves on towards the tail. */
struct arg list_next(struct list_cursor *cursor);

#endif
