/*
 * A byte queue: bytes are appended at the tail and taken from the head.
 *
 *     data            data+head              data+tail          data+size
 *      |  taken, free  |  bytes that are there  |  room            |
 *
 * Grows by doubling up to what its owner asks room for, and gives its memory
 * back when it is empty and has grown large.
 */
#ifndef MANAGER_BUFFER_H
#define MANAGER_BUFFER_H

#include <stddef.h>

#include "ipc/err.h"

/* Zeroed: empty, without memory. */
struct buffer {
    char *data;
    size_t head, tail, size;
};

static inline size_t buffer_len(const struct buffer *b)
{
    return b->tail - b->head;
}

static inline char *buffer_head(const struct buffer *b)
{
    return b->data + b->head;
}

/* Makes room for `n` bytes at buffer_tail; may move the bytes. ERR_NOMEM. */
MUST_CHECK enum err buffer_reserve(struct buffer *b, size_t n);

static inline char *buffer_tail(const struct buffer *b)
{
    return b->data + b->tail;
}

/* After `n` bytes were put at buffer_tail. */
static inline void buffer_filled(struct buffer *b, size_t n)
{
    b->tail += n;
}

MUST_CHECK enum err buffer_append(struct buffer *b, const void *data, size_t n);

/* Takes `n` bytes off the head. */
void buffer_take(struct buffer *b, size_t n);

void buffer_clear(struct buffer *b);
void buffer_release(struct buffer *b);

#endif
