/* Large arguments between file and socket. */
#include "manager/segments.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum err source_new(struct sources *owner, int fd, uint64_t bytes,
                    struct source **source)
{
    struct source *s = malloc(sizeof(*s));
    if (s == NULL)
        return ERR_NOMEM;
    *s = (struct source){.owner = owner, .fd = fd, .refs = 1, .bytes = bytes};
    owner->bytes += bytes;
    status_gauge_set(owner->status, GAUGE_payload_bytes, owner->bytes);
    *source = s;
    return ERR_OK;
}

void source_unref(struct source *source)
{
    if (source == NULL || --source->refs > 0)
        return;
    struct sources *owner = source->owner;
    owner->bytes -= source->bytes;
    status_gauge_set(owner->status, GAUGE_payload_bytes, owner->bytes);
    close(source->fd);
    free(source);
}

enum err segments_reserve(struct segments *s, uint32_t n)
{
    if (s->size - s->count >= n)
        return ERR_OK;
    uint32_t size = s->size ? s->size : 8;
    while (size - s->count < n)
        size *= 2;
    struct segment *items = realloc(s->items, size * sizeof(*items));
    if (items == NULL)
        return ERR_NOMEM;
    s->items = items;
    s->size = size;
    return ERR_OK;
}

void segments_add(struct segments *s, struct source *source,
                  struct request *req, uint64_t at, uint64_t len,
                  int64_t offset)
{
    source->refs++;
    s->items[s->count++] = (struct segment){
        .source = source, .req = req, .at = at, .len = len, .offset = offset};
}

void segments_sent(struct segments *s, uint64_t n)
{
    struct segment *g = &s->items[s->next];
    g->sent += n;
    if (g->sent == g->len)
        s->next++;
}

/* Takes out the items [from, to). */
static void cut(struct segments *s, uint32_t from, uint32_t to)
{
    if (from == to)
        return;
    for (uint32_t i = from; i < to; i++)
        source_unref(s->items[i].source);
    memmove(&s->items[from], &s->items[to],
            (s->count - to) * sizeof(struct segment));
    s->count -= to - from;
    if (s->next >= to)
        s->next -= to - from;
    else if (s->next > from)
        s->next = from;
    if (s->count == 0)
        segments_release(s);
}

void segments_drop_before(struct segments *s, uint64_t at)
{
    uint32_t n = 0;
    while (n < s->count && s->items[n].at < at)
        n++;
    cut(s, 0, n);
}

static uint32_t first_from(const struct segments *s, uint64_t at)
{
    uint32_t i = 0;
    while (i < s->count && s->items[i].at < at)
        i++;
    return i;
}

void segments_drop(struct segments *s, uint64_t begin, uint64_t end)
{
    cut(s, first_from(s, begin), first_from(s, end));
}

void segments_shift(struct segments *s, uint64_t begin, uint64_t end,
                    uint64_t shift)
{
    for (uint32_t i = first_from(s, begin);
         i < s->count && s->items[i].at < end; i++)
        s->items[i].at -= shift;
}

void segments_rewind(struct segments *s)
{
    for (uint32_t i = 0; i < s->count; i++)
        s->items[i].sent = 0;
    s->next = 0;
}

void segments_release(struct segments *s)
{
    for (uint32_t i = 0; i < s->count; i++)
        source_unref(s->items[i].source);
    free(s->items);
    memset(s, 0, sizeof(*s));
}
