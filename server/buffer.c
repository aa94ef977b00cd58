/* Growing byte buffers. */
#include "server/buffer.h"

#define BUFFER_MIN 1024

void buffer_release(struct buffer *b, struct mem *m)
{
    mem_free(m, b->data);
    memset(b, 0, sizeof(*b));
}

void buffer_grow(struct buffer *b, struct mem *m, size_t more)
{
    size_t len = buffer_len(b);
    /* Move the content to the front only when at least half was consumed:
     * then each byte is moved a bounded number of times. */
    if (b->start >= len && b->start > 0) {
        memmove(b->data, b->data + b->start, len);
        b->start = 0;
        b->end = len;
        if (b->cap - b->end >= more)
            return;
    }
    size_t cap = b->cap < BUFFER_MIN ? BUFFER_MIN : b->cap;
    while (cap - b->end < more)
        cap *= 2;
    b->data = mem_resize(m, b->data, cap);
    b->cap = cap;
}
