/* The byte queue. */
#include "manager/buffer.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SIZE_FIRST 4096
#define SIZE_KEPT (64 * 1024) /* an empty buffer larger than this is freed */

enum err buffer_reserve(struct buffer *b, size_t n)
{
    if (b->size - b->tail >= n)
        return ERR_OK;
    size_t len = buffer_len(b);
    if (b->head > 0 && b->size - len >= n && b->head >= len) {
        memcpy(b->data, b->data + b->head, len);
        b->head = 0;
        b->tail = len;
        return ERR_OK;
    }
    if (n > SIZE_MAX / 4 - len)
        return ERR_NOMEM;
    size_t size = b->size ? b->size : SIZE_FIRST;
    while (size - len < n)
        size *= 2;
    char *data = malloc(size);
    if (data == NULL)
        return ERR_NOMEM;
    if (len > 0)
        memcpy(data, b->data + b->head, len);
    free(b->data);
    b->data = data;
    b->size = size;
    b->head = 0;
    b->tail = len;
    return ERR_OK;
}

enum err buffer_append(struct buffer *b, const void *data, size_t n)
{
    enum err e = buffer_reserve(b, n);
    if (e != ERR_OK)
        return e;
    if (n > 0)
        memcpy(buffer_tail(b), data, n);
    buffer_filled(b, n);
    return ERR_OK;
}

void buffer_take(struct buffer *b, size_t n)
{
    b->head += n;
    if (b->head == b->tail)
        buffer_clear(b);
}

void buffer_clear(struct buffer *b)
{
    b->head = b->tail = 0;
    if (b->size > SIZE_KEPT)
        buffer_release(b);
}

void buffer_release(struct buffer *b)
{
    free(b->data);
    memset(b, 0, sizeof(*b));
}
