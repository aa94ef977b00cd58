/* Requests and reply chunks, checked by whoever receives them. Each field is
 * read from a private copy: the other side may be mistaken or hostile. */
#include "ipc/message.h"

#include <string.h>

enum err message_parse(const char *data, size_t len, unsigned priority,
                       struct message_header *header, const char **payload,
                       struct err_text *why)
{
    /* Before all else, and never answered: the queue delivers these first, so
     * refusing them must cost less than sending them. */
    if (priority != 0)
        return err_say(why, ERR_PROTO,
                       "message of priority %u: only 0 keeps the order",
                       priority);
    if (len < sizeof(*header))
        return err_say(why, ERR_PROTO, "message of %zu bytes has no header",
                       len);
    struct message_header h;
    memcpy(&h, data, sizeof(h));
    if (h.magic != MESSAGE_MAGIC)
        return err_say(why, ERR_PROTO, "message without the magic number");
    if (h.client == 0 || h.request == 0)
        return err_say(why, ERR_PROTO, "message without an address");
    *header = h;
    if (h.version != MESSAGE_VERSION)
        return err_say(why, ERR_INVALID,
                       "message of version %u, this manager speaks %u: "
                       "install worker and manager of one release",
                       h.version, MESSAGE_VERSION);
    if (h.flags & ~(unsigned)(MESSAGE_INDEPENDENT | MESSAGE_PAYLOAD |
                              MESSAGE_BODY | MESSAGE_STREAM))
        return err_say(why, ERR_INVALID, "message with unknown flags 0x%x",
                       h.flags);
    if (h.payload_len != len - sizeof(h))
        return err_say(why, ERR_INVALID,
                       "message says %u bytes of commands and has %zu",
                       h.payload_len, len - sizeof(h));
    if (h.ncommands == 0)
        return err_say(why, ERR_INVALID, "message without a command");
    *payload = data + sizeof(h);
    return ERR_OK;
}

const char *reply_status_str(enum reply_status status)
{
    switch (status) {
    case REPLY_OK:
        return "ok";
    case REPLY_INVALID:
        return "invalid";
    case REPLY_EXPIRED:
        return "expired";
    case REPLY_UNAVAILABLE:
        return "unavailable";
    case REPLY_TOO_BIG:
        return "too-big";
    case REPLY_LOST:
        return "lost";
    case REPLY_STATUS_COUNT:
        break;
    }
    return "unknown";
}

void reply_stream_init(struct reply_stream *s, uint64_t request,
                       uint32_t ncommands)
{
    memset(s, 0, sizeof(*s));
    s->request = request;
    s->ncommands = ncommands;
}

/* Whether the chunk just collected continues this request's answer. */
static bool chunk_fits(const struct reply_stream *s)
{
    const struct reply_chunk *c = &s->chunk;
    if (c->request != s->request || c->length > REPLY_CHUNK_MAX)
        return false;
    if (c->status >= REPLY_STATUS_COUNT || c->reserved != 0)
        return false;
    if (c->flags & ~(unsigned)(REPLY_END | REPLY_MORE))
        return false;
    if (c->first >= s->ncommands || c->count > s->ncommands - c->first)
        return false;
    /* Independent replies may come in any order, not more than there are. */
    if (c->count > s->ncommands - s->next)
        return false;
    /* Nothing goes on after the end, and nothing is missing then. */
    if (c->flags & REPLY_END)
        return !(c->flags & REPLY_MORE) && s->next + c->count == s->ncommands;
    return true;
}

enum err reply_stream_next(struct reply_stream *s, const char **data,
                           size_t *len, struct reply_piece *piece)
{
    if (s->failed)
        return ERR_PROTO;
    if (s->have < sizeof(s->chunk)) {
        if (s->ended)
            return *len == 0 ? ERR_AGAIN : ERR_PROTO;
        size_t want = sizeof(s->chunk) - s->have;
        size_t n = *len < want ? *len : want;
        memcpy((char *)&s->chunk + s->have, *data, n);
        s->have += (uint32_t)n;
        *data += n;
        *len -= n;
        if (s->have < sizeof(s->chunk))
            return ERR_AGAIN;
        if (!chunk_fits(s)) {
            s->failed = true;
            return ERR_PROTO;
        }
        s->body_left = s->chunk.length;
    } else if (*len == 0) {
        return ERR_AGAIN;
    }
    size_t n = *len < s->body_left ? *len : s->body_left;
    piece->chunk = &s->chunk;
    piece->data = *data;
    piece->len = n;
    *data += n;
    *len -= n;
    s->body_left -= (uint32_t)n;
    if (n == 0 && s->body_left > 0)
        return ERR_AGAIN;
    piece->chunk_done = s->body_left == 0;
    if (piece->chunk_done) {
        s->have = 0;
        s->next += s->chunk.count;
        s->ended = (s->chunk.flags & REPLY_END) != 0;
    }
    return ERR_OK;
}
