#include "workers/gateway/buffer.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CAP_MIN 512

void buffer_init(struct buffer *b, size_t *total)
{
    *b = (struct buffer){.total = total};
}

void buffer_release(struct buffer *b)
{
    *b->total -= b->cap;
    free(b->data);
    buffer_init(b, b->total);
}

bool buffer_reserve(struct buffer *b, size_t more)
{
    if (b->cap - b->end >= more)
        return true;
    size_t len = buffer_len(b);
    if (b->start > 0) {
        /* At most as many bytes are moved as were taken since the last time
         * that it was half empty: not more than a copy a byte in all. */
        if (b->start >= len && b->cap - len >= more) {
            memmove(b->data, b->data + b->start, len);
            b->start = 0;
            b->end = len;
            return true;
        }
    }
    if (more > SIZE_MAX / 4 - len)
        return false;
    size_t cap = b->cap < CAP_MIN ? CAP_MIN : b->cap;
    while (cap < len + more)
        cap *= 2;
    char *data = malloc(cap);
    if (data == NULL)
        return false;
    if (len > 0)
        memcpy(data, buffer_at(b), len);
    free(b->data);
    *b->total += cap - b->cap;
    b->data = data;
    b->cap = cap;
    b->start = 0;
    b->end = len;
    return true;
}

bool buffer_append(struct buffer *b, const char *data, size_t len)
{
    if (!buffer_reserve(b, len))
        return false;
    if (len > 0)
        memcpy(b->data + b->end, data, len);
    b->end += len;
    return true;
}

void buffer_consume(struct buffer *b, size_t len)
{
    b->start += len;
    if (b->start == b->end)
        buffer_release(b);
}
