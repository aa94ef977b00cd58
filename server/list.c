/*
 * Packed lists.
 *
 * A chunk:   | room |  element  element  element  |   room   |
 *            0      begin                         end        cap
 *
 * An element: its length in groups of seven bits, lowest first, the high bit
 * telling that more follow; its bytes; the groups again in the opposite order.
 */
#include "server/list.h"

#include <string.h>

#define CHUNK_MAX 8192 /* bytes of elements in a chunk with several of them */
#define CHUNK_MIN 48
#define LENGTH_MAX 5 /* bytes of an element's length: five times seven bits */

struct list_chunk {
    struct list_chunk *beside[2]; /* towards the head, towards the tail */
    uint32_t begin, end, cap;
    uint32_t count;
    char data[];
};

/* ---- elements ---- */

static size_t put_length(char *out, size_t len)
{
    size_t n = 0;
    for (; len >= 0x80; len >>= 7)
        out[n++] = (char)((len & 0x7f) | 0x80);
    out[n++] = (char)len;
    return n;
}

/* Reads a length from p in steps of `step` (1 or -1); *n is its size. */
static size_t get_length(const char *p, int step, size_t *n)
{
    size_t len = 0;
    unsigned shift = 0;
    for (*n = 1;; ++*n, shift += 7, p += step) {
        unsigned char byte = (unsigned char)*p;
        len |= (size_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0)
            return len;
    }
}

/* Writes an element and returns its size. */
static size_t put_element(char *out, const char *bytes, size_t len)
{
    char length[LENGTH_MAX];
    size_t n = put_length(length, len);
    memcpy(out, length, n);
    memcpy(out + n, bytes, len);
    for (size_t i = 0; i < n; i++)
        out[n + len + i] = length[n - 1 - i];
    return len + 2 * n;
}

/* The element that begins at `at`; *size is all of it. */
static struct arg element_at(const struct list_chunk *k, size_t at,
                             size_t *size)
{
    size_t n;
    size_t len = get_length(k->data + at, 1, &n);
    *size = len + 2 * n;
    return (struct arg){{.data = k->data + at + n}, len};
}

/* The element that ends before `end`. */
static struct arg element_before(const struct list_chunk *k, size_t end,
                                 size_t *size)
{
    size_t n;
    size_t len = get_length(k->data + end - 1, -1, &n);
    *size = len + 2 * n;
    return (struct arg){{.data = k->data + end - n - len}, len};
}

/* ---- chunks ---- */

static void link_chunk(struct list *l, struct list_chunk *k)
{
    for (int e = 0; e < 2; e++) {
        if (k->beside[e] != NULL)
            k->beside[e]->beside[1 - e] = k;
        else
            l->ends[e] = k;
    }
}

static struct list_chunk *add_chunk(struct list *l, struct mem *m,
                                    enum list_end end, size_t cap)
{
    struct list_chunk *k =
        mem_alloc(m, offsetof(struct list_chunk, data) + cap);
    memset(k, 0, sizeof(*k));
    k->cap = (uint32_t)cap;
    k->begin = k->end = end == LIST_HEAD ? k->cap : 0;
    k->beside[1 - end] = l->ends[end];
    if (l->ends[1 - end] == NULL)
        l->ends[1 - end] = k;
    if (k->beside[1 - end] != NULL)
        k->beside[1 - end]->beside[end] = k;
    l->ends[end] = k;
    return k;
}

static void remove_chunk(struct list *l, struct mem *m, struct list_chunk *k)
{
    for (int e = 0; e < 2; e++) {
        if (k->beside[e] != NULL)
            k->beside[e]->beside[1 - e] = k->beside[1 - e];
        else
            l->ends[e] = k->beside[1 - e];
    }
    mem_free(m, k);
}

static size_t room_at(const struct list_chunk *k, enum list_end end)
{
    return end == LIST_HEAD ? k->begin : k->cap - k->end;
}

/* Moves the content so that `front` bytes are free before it. */
static void shift(struct list_chunk *k, size_t front)
{
    size_t used = k->end - k->begin;
    memmove(k->data + front, k->data + k->begin, used);
    k->begin = (uint32_t)front;
    k->end = (uint32_t)(front + used);
}

/* A chunk at this end with room for `need` bytes there. */
static struct list_chunk *make_room(struct list *l, struct mem *m,
                                    enum list_end end, size_t need)
{
    struct list_chunk *k = l->ends[end];
    if (k == NULL)
        return add_chunk(l, m, end, need < CHUNK_MIN ? CHUNK_MIN : need);
    if (room_at(k, end) >= need)
        return k;
    size_t used = k->end - k->begin;
    if (used + need > CHUNK_MAX)
        return add_chunk(l, m, end, need > CHUNK_MAX ? need : CHUNK_MAX);
    if (used + need > k->cap) {
        size_t cap =
            (used + need) * 2 < CHUNK_MAX ? (used + need) * 2 : CHUNK_MAX;
        k = mem_resize(m, k, offsetof(struct list_chunk, data) + cap);
        k->cap = (uint32_t)cap;
        link_chunk(l, k);
    }
    /* Half of what is free stays at the other end, unless it is needed. */
    size_t mine = need + (k->cap - used - need) / 2;
    shift(k, end == LIST_HEAD ? mine : k->cap - used - mine);
    return k;
}

/* ---- lists ---- */

struct list *list_new(struct mem *m)
{
    return mem_zalloc(m, sizeof(struct list));
}

void list_free(struct list *l, struct mem *m)
{
    while (l->ends[LIST_HEAD] != NULL)
        remove_chunk(l, m, l->ends[LIST_HEAD]);
    mem_free(m, l);
}

void list_push(struct list *l, struct mem *m, enum list_end end,
               const char *bytes, size_t len)
{
    char length[LENGTH_MAX];
    size_t need = len + 2 * put_length(length, len);
    struct list_chunk *k = make_room(l, m, end, need);
    if (end == LIST_HEAD) {
        k->begin -= (uint32_t)need;
        put_element(k->data + k->begin, bytes, len);
    } else {
        put_element(k->data + k->end, bytes, len);
        k->end += (uint32_t)need;
    }
    k->count++;
    l->count++;
}

struct arg list_peek(const struct list *l, enum list_end end)
{
    size_t size;
    const struct list_chunk *k = l->ends[end];
    return end == LIST_HEAD ? element_at(k, k->begin, &size)
                            : element_before(k, k->end, &size);
}

void list_drop(struct list *l, struct mem *m, enum list_end end)
{
    size_t size;
    struct list_chunk *k = l->ends[end];
    if (end == LIST_HEAD) {
        element_at(k, k->begin, &size);
        k->begin += (uint32_t)size;
    } else {
        element_before(k, k->end, &size);
        k->end -= (uint32_t)size;
    }
    k->count--;
    l->count--;
    if (k->count == 0)
        remove_chunk(l, m, k);
}

struct list_cursor list_seek(const struct list *l, size_t index)
{
    const struct list_chunk *k;
    if (index < l->count / 2) {
        for (k = l->ends[LIST_HEAD]; index >= k->count;
             k = k->beside[LIST_TAIL])
            index -= k->count;
    } else {
        size_t back = l->count - index; /* from the tail, at least 1 */
        for (k = l->ends[LIST_TAIL]; back > k->count; k = k->beside[LIST_HEAD])
            back -= k->count;
        index = k->count - back;
    }
    struct list_cursor cursor = {.chunk = k, .at = k->begin};
    while (index-- > 0) {
        size_t size;
        element_at(k, cursor.at, &size);
        cursor.at += size;
    }
    return cursor;
}

struct arg list_next(struct list_cursor *cursor)
{
    size_t size;
    const struct list_chunk *k = cursor->chunk;
    struct arg element = element_at(k, cursor->at, &size);
    cursor->at += size;
    if (cursor->at == k->end && k->beside[LIST_TAIL] != NULL) {
        cursor->chunk = k->beside[LIST_TAIL];
        cursor->at = cursor->chunk->begin;
    }
    return element;
}
