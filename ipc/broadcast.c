/* The stream of a subscription: its chunks, and taking them apart. */
#include "ipc/broadcast.h"

#include <string.h>

const char *broadcast_kind_str(enum broadcast_kind kind)
{
    switch (kind) {
    case BROADCAST_CONFIRMED:
        return "confirmed";
    case BROADCAST_MESSAGE:
        return "message";
    case BROADCAST_LAGGED:
        return "lagged";
    case BROADCAST_GAP:
        return "gap";
    case BROADCAST_END:
        return "end";
    }
    return "unknown";
}

struct reply_chunk broadcast_chunk(uint64_t request, enum broadcast_kind kind,
                                   uint32_t n, uint32_t length)
{
    return (struct reply_chunk){.request = request,
                                .length = length,
                                .first = n,
                                .count = (uint32_t)kind};
}

void broadcast_init(struct broadcast *b, uint64_t request)
{
    *b = (struct broadcast){.request = request};
}

/* Whether a chunk may come now. The end of a request that was refused before
 * it became a stream counts its one command: `count` is 1 there. */
static bool chunk_fits(const struct broadcast *b, const struct reply_chunk *c)
{
    if (c->request != b->request || c->reserved != 0 ||
        c->status >= REPLY_STATUS_COUNT)
        return false;
    if (c->flags == REPLY_END)
        return c->length <= REPLY_CHUNK_MAX;
    if (c->flags != 0 || c->status != REPLY_OK)
        return false;
    switch (c->count) {
    case BROADCAST_CONFIRMED:
        return !b->confirmed && c->first > 0;
    case BROADCAST_MESSAGE:
        return b->confirmed && c->length > 0;
    case BROADCAST_LAGGED:
        return b->confirmed && c->length == 0 && c->first > 0;
    case BROADCAST_GAP:
        return b->confirmed && c->length == 0;
    default:
        return false;
    }
}

enum err broadcast_next(struct broadcast *b, const char *data, size_t len,
                        struct broadcast_event *event, size_t *size)
{
    struct reply_chunk c;
    if (b->failed)
        return ERR_PROTO;
    if (b->ended) {
        b->failed = len > 0;
        return len > 0 ? ERR_PROTO : ERR_CLOSED;
    }
    *size = sizeof(c);
    if (len < sizeof(c))
        return ERR_AGAIN;
    memcpy(&c, data, sizeof(c));
    if (!chunk_fits(b, &c)) {
        b->failed = true;
        return ERR_PROTO;
    }
    *size += c.length;
    if (len < *size)
        return ERR_AGAIN;
    b->ended = c.flags == REPLY_END;
    if (!b->ended && c.count == BROADCAST_CONFIRMED)
        b->confirmed = true;
    *event = (struct broadcast_event){
        .kind = b->ended ? BROADCAST_END : (enum broadcast_kind)c.count,
        .status = (enum reply_status)c.status,
        .n = c.first,
        .data = data + sizeof(c),
        .len = c.length,
    };
    return ERR_OK;
}
