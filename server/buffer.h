/*
 * Bytes on their way in or out.
 *
 *     data        data+start         data+end          data+cap
 *      |  consumed     |   the content    |     room       |
 *
 * Appending may move the content; views into it last until then.
 */
#ifndef SERVER_BUFFER_H
#define SERVER_BUFFER_H

#include <stddef.h>
#include <string.h>

#include "server/mem.h"

struct buffer {
    char *data; /* NULL until the first use */
    size_t start;
    size_t end;
    size_t cap;
};

static inline size_t buffer_len(const struct buffer *b)
{
    return b->end - b->start;
}

static inline const char *buffer_head(const struct buffer *b)
{
    return b->data == NULL ? "" : b->data + b->start;
}

/* Frees the memory; the buffer is empty and usable. */
void buffer_release(struct buffer *b, struct mem *m);

/* Makes room for `more` bytes behind the content. */
void buffer_grow(struct buffer *b, struct mem *m, size_t more);

/* Room for `more` bytes behind the content, and where it is. */
static inline char *buffer_room(struct buffer *b, struct mem *m, size_t more)
{
    if (b->cap - b->end < more)
        buffer_grow(b, m, more);
    return b->data + b->end;
}

static inline void buffer_append(struct buffer *b, struct mem *m,
                                 const char *data, size_t len)
{
    if (len == 0)
        return;
    memcpy(buffer_room(b, m, len), data, len);
    b->end += len;
}

/* Takes `len` bytes off the front. */
static inline void buffer_consume(struct buffer *b, size_t len)
{
    b->start += len;
    if (b->start == b->end)
        b->start = b->end = 0;
}

#endif
