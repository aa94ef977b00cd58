/*
 * What comes through a stream's pipe: bytes become the events of
 * ipc/broadcast.h, and these the caller's.
 */
#include "workers/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/resp.h"

#define READ_SIZE (64 * 1024)
/* A buffer that grew for a long message shrinks back to that. */
#define KEEP_SIZE (256 * 1024)

static void end_with(struct mqredis_stream *s, enum mqredis_status status,
                     const char *text, size_t len)
{
    s->end_ns = clock_ns();
    error_say(&s->end, status, "%.*s", (int)(len < 500 ? len : 500), text);
}

void stream_end(struct mqredis_stream *s, enum mqredis_status status,
                const char *text)
{
    end_with(s, status, text, strlen(text));
}

/* Room for `need` bytes in all behind s->used. */
static bool make_room(struct mqredis_stream *s, size_t need)
{
    size_t have = s->len - s->used;
    if (s->used > 0 && have > 0)
        memmove(s->data, s->data + s->used, have);
    s->used = 0;
    s->len = have;
    size_t want = need > READ_SIZE ? need : READ_SIZE;
    bool fits = s->room >= want;
    if (fits && (s->room <= KEEP_SIZE || want > KEEP_SIZE))
        return true;
    char *data = realloc(s->data, want);
    if (data == NULL)
        return fits;
    s->data = data;
    s->room = want;
    return true;
}

/* Reads what is there. ERR_AGAIN: nothing. ERR_NOMEM, ERR_SYS. A long message
 * is not believed to come before it does: room grows with what was read. */
static enum err fill(struct mqredis_stream *s, size_t need)
{
    size_t have = s->len - s->used;
    size_t soon = have * 2 > READ_SIZE ? have * 2 : READ_SIZE;
    if (!make_room(s, need < soon ? need : soon))
        return ERR_NOMEM;
    ssize_t n;
    do
        n = read(s->slot.fd, s->data + s->len, s->room - s->len);
    while (n < 0 && errno == EINTR);
    if (n > 0)
        s->len += (size_t)n;
    return n > 0 ? ERR_OK : n == 0 || errno == EAGAIN ? ERR_AGAIN : ERR_SYS;
}

/* The next bulk or simple string behind *at. */
static bool next_string(const struct mqredis_event *ev, size_t *at,
                        const char **text, size_t *len)
{
    struct resp_value v;
    size_t used;
    if (resp_get(ev->raw + *at, ev->raw_len - *at, &v, &used) != ERR_OK ||
        (v.type != '$' && v.type != '+') || v.data == NULL)
        return false;
    *at += used;
    *text = v.data;
    *len = v.len;
    return true;
}

/* [message, channel, data] or [pmessage, pattern, channel, data]. */
static bool take_apart(struct mqredis_event *ev)
{
    struct resp_value v;
    const char *word;
    size_t at, len;
    if (resp_get(ev->raw, ev->raw_len, &v, &at) != ERR_OK ||
        (v.number != 3 && v.number != 4) || !next_string(ev, &at, &word, &len))
        return false;
    return (v.number == 3 ||
            next_string(ev, &at, &ev->pattern, &ev->pattern_len)) &&
           next_string(ev, &at, &ev->channel, &ev->channel_len) &&
           next_string(ev, &at, &ev->data, &ev->len);
}

void stream_give_end(const struct mqredis_stream *s, struct mqredis_event *ev)
{
    *ev = (struct mqredis_event){.type = MQREDIS_END,
                                 .status = s->end.status,
                                 .data = s->end.text,
                                 .len = strlen(s->end.text)};
}

static void take_end(struct mqredis_stream *s, const struct broadcast_event *b)
{
    if (b->status != REPLY_OK) {
        end_with(s, (enum mqredis_status)b->status, b->data, b->len);
        return;
    }
    /* An error of Redis: "-NOPERM ...CRLF". */
    struct resp_value v;
    size_t used;
    if (resp_get(b->data, b->len, &v, &used) == ERR_OK && v.data != NULL)
        end_with(s, MQREDIS_INVALID, v.data, v.len);
    else
        stream_end(s, MQREDIS_INVALID, "Redis refused the subscription");
}

/* Turns an event of the pipe into the caller's. False: it broke the stream. */
static bool convert(struct mqredis_stream *s, const struct broadcast_event *b,
                    struct mqredis_event *ev)
{
    *ev = (struct mqredis_event){
        .count = b->n, .raw = b->data, .raw_len = b->len};
    switch (b->kind) {
    case BROADCAST_CONFIRMED:
        ev->type = s->renewed ? MQREDIS_GAP : MQREDIS_SUBSCRIBED;
        if (s->renewed)
            ev->count = (clock_ns() - s->end_ns) / NS_PER_MS;
        s->renewed = false;
        return true;
    case BROADCAST_MESSAGE:
        ev->type = MQREDIS_MESSAGE;
        return take_apart(ev);
    case BROADCAST_LAGGED:
        ev->type = MQREDIS_LAGGED;
        return true;
    case BROADCAST_GAP:
        ev->type = MQREDIS_GAP;
        return true;
    case BROADCAST_END:
        take_end(s, b);
        stream_give_end(s, ev);
        return true;
    }
    return false;
}

/* Whether nobody will write any more: the manager has gone, or it gave the
 * stream up (see ipc/broadcast.h). */
static bool given_up(const struct mqredis_stream *s)
{
    struct stat st;
    return !mpsc_receiver_alive(&s->link->tx) ||
           (fstat(s->slot.fd, &st) == 0 && st.st_nlink == 0);
}

enum err stream_take(struct mqredis_stream *s, struct mqredis_event *ev)
{
    bool over = false;
    for (;;) {
        struct broadcast_event b;
        size_t size = 0;
        enum err e = broadcast_next(&s->in, s->data + s->used, s->len - s->used,
                                    &b, &size);
        if (e == ERR_OK) {
            s->used += size;
            if (convert(s, &b, ev))
                return ERR_OK;
            e = ERR_PROTO;
        }
        if (e == ERR_AGAIN)
            e = fill(s, size);
        if (e == ERR_OK)
            continue;
        if (e != ERR_AGAIN) {
            stream_end(s, MQREDIS_LOST,
                       e == ERR_NOMEM ? "a message does not fit into memory"
                       : e == ERR_SYS ? "the stream cannot be read"
                                      : "the stream is broken");
        } else if (over) {
            stream_end(s, MQREDIS_UNAVAILABLE,
                       "the manager ended, or gave the stream up");
        } else {
            /* What was written before that is read first. */
            over = given_up(s);
            if (over)
                continue;
            return ERR_AGAIN;
        }
        stream_give_end(s, ev);
        return ERR_OK;
    }
}
