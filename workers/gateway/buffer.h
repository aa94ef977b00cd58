/* Bytes that come at one end and go at the other, in one piece of memory. */
#ifndef GATEWAY_BUFFER_H
#define GATEWAY_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

#include "ipc/err.h"

/*
 *     data        start            end          cap
 *      | gone      | to be taken    | free       |
 *
 * `total` is a sum over all buffers of what they hold in memory: their owner's
 * way to bound it. It must outlive the buffer.
 */
struct buffer {
    char *data;
    size_t start, end, cap;
    size_t *total;
};

void buffer_init(struct buffer *b, size_t *total);

/* Gives its memory back; it is as buffer_init left it. */
void buffer_release(struct buffer *b);

static inline size_t buffer_len(const struct buffer *b)
{
    return b->end - b->start;
}

/* The first byte that is to be taken; NULL at first. */
static inline char *buffer_at(const struct buffer *b)
{
    return b->start == 0 ? b->data : b->data + b->start;
}

/* Room for `more` bytes behind `end`; moves what is there. False: no memory. */
MUST_CHECK bool buffer_reserve(struct buffer *b, size_t more);

/* False: no memory, and nothing was appended. */
MUST_CHECK bool buffer_append(struct buffer *b, const char *data, size_t len);

/* Takes `len` bytes; the last one's memory goes with it. */
void buffer_consume(struct buffer *b, size_t len);

#endif
