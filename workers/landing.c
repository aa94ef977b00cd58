/*
 * The reply of a flight, as its pipe delivers it: in pieces, each belonging to
 * one of the message's commands. Large ones are read to where they stay.
 */
#include "workers/handle.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/printable.h"

/* From this size on, a reply's bytes are read to where they stay. */
#define DIRECT_MIN 4096

/* A flight reads so much before others have their turn. */
#define READ_BUDGET (4U << 20)

/* The most that is kept of a line of text. */
#define TEXT_MAX 1024

/* The answer to command `index`; NULL: nobody wants it any more. */
static struct answer *answer_to(const struct flight *f, size_t index)
{
    struct mqredis_request *r = f->commands[index].request;
    return r == NULL ? NULL : &r->answers[index - r->first];
}

/* Command `index` has its answer. */
static void command_done(struct flight *f, size_t index)
{
    struct mqredis_request *r = f->commands[index].request;
    if (r == NULL)
        return;
    struct answer *a = &r->answers[index - r->first];
    a->done = true;
    if (--r->missing > 0)
        return;
    for (size_t i = 0; i < r->count; i++)
        f->commands[r->first + i].request = NULL;
    f->live--;
    if (!f->sync)
        request_done(r->mq, r);
}

static enum err append(struct flight *f, size_t index, const char *data,
                       size_t len)
{
    struct answer *a = answer_to(f, index);
    if (a == NULL)
        return ERR_OK;
    if (a->done)
        return ERR_PROTO;
    /* flight_read may have put them where they belong already. */
    if (a->data == NULL || data != a->data + a->len) {
        if (!answer_reserve(a, len + 1))
            return ERR_NOMEM;
        memcpy(a->data + a->len, data, len);
    }
    a->len += len;
    return ERR_OK;
}

/* Whether all that is left of the current chunk answers one command. */
static bool chunk_is_one(const struct flight *f)
{
    const struct reply_chunk *c = &f->stream.chunk;
    return f->ncommands == 1 ||
           (c->count == 0 && (c->flags & REPLY_MORE) != 0) ||
           (c->count == 1 && (c->flags & REPLY_MORE) == 0);
}

/* A piece of replies. */
static enum err take_replies(struct flight *f, const struct reply_piece *p)
{
    const char *data = p->data;
    size_t left = p->len;
    while (left > 0) {
        if (f->current >= f->ncommands)
            return ERR_PROTO;
        struct flight_command *c = &f->commands[f->current];
        size_t used = left;
        enum err e = ERR_AGAIN;
        /* One command's reply ends with its chunk: the scan would only look
         * for what is known, and whoever reads the reply checks it. */
        if (f->ncommands > 1)
            e = resp_scan(&c->scan, data, left, &used);
        if (e != ERR_OK && e != ERR_AGAIN)
            return e;
        enum err kept = append(f, f->current, data, used);
        if (kept != ERR_OK)
            return kept;
        if (e == ERR_OK)
            command_done(f, f->current++);
        data += used;
        left -= used;
    }
    if (!p->chunk_done)
        return ERR_OK;
    uint32_t behind = p->chunk->first + p->chunk->count;
    if (f->ncommands == 1) {
        if (p->chunk->count == 1)
            command_done(f, 0);
        return ERR_OK;
    }
    if (f->current != behind)
        return ERR_PROTO;
    return ERR_OK;
}

/* The manager's line is the answer. What is wrong with a command is its own
 * matter; where time or a connection went is a matter of the channel. */
static void fail_with_text(const struct flight *f, size_t index,
                           enum mqredis_status status)
{
    char line[TEXT_MAX + CHANNEL_NAME_MAX + 16];
    bool own = status == MQREDIS_INVALID || status == MQREDIS_TOO_BIG;
    int n = snprintf(line, sizeof(line), "%s%s%s%.*s", own ? "" : "channel '",
                     own ? "" : f->commands[index].request->mq->name,
                     own ? "" : "': ", (int)f->text_len, f->text);
    printable_only(line, strlen(line));
    answer_fail(answer_to(f, index), status, line, (size_t)n);
}

/* A piece of the text that a chunk carries in place of replies. */
static enum err take_text(struct flight *f, const struct reply_piece *p)
{
    if (f->text == NULL && (f->text = malloc(TEXT_MAX)) == NULL)
        return ERR_NOMEM;
    size_t n = p->len;
    if (n > TEXT_MAX - 1 - f->text_len)
        n = TEXT_MAX - 1 - f->text_len;
    if (n > 0)
        memcpy(f->text + f->text_len, p->data, n);
    f->text_len += n;
    if (!p->chunk_done)
        return ERR_OK;
    for (size_t i = 0; i < p->chunk->count; i++) {
        size_t index = p->chunk->first + i;
        struct answer *a = answer_to(f, index);
        if (a == NULL)
            continue;
        if (a->done)
            return ERR_PROTO;
        fail_with_text(f, index, (enum mqredis_status)p->chunk->status);
        command_done(f, index);
    }
    f->text_len = 0;
    return ERR_OK;
}

static enum err feed(struct flight *f, const char *data, size_t len)
{
    for (;;) {
        struct reply_piece p;
        enum err e = reply_stream_next(&f->stream, &data, &len, &p);
        if (e != ERR_OK)
            return e;
        bool begins = p.len + f->stream.body_left == p.chunk->length;
        if (begins)
            f->current = p.chunk->first;
        e = p.chunk->status == REPLY_OK ? take_replies(f, &p)
                                        : take_text(f, &p);
        if (e != ERR_OK)
            return e;
        if (f->stream.ended)
            return len == 0 && f->live == 0 ? ERR_OK : ERR_PROTO;
    }
}

/* Where the next bytes are to be read to. */
static enum err read_target(struct flight *f, char **at, size_t *room)
{
    *at = f->buf;
    *room = f->cap;
    const struct reply_stream *s = &f->stream;
    if (s->have < sizeof(s->chunk) || s->body_left < DIRECT_MIN ||
        s->chunk.status != REPLY_OK || !chunk_is_one(f) ||
        f->current >= f->ncommands)
        return ERR_OK;
    struct answer *a = answer_to(f, f->current);
    if (a == NULL || a->done)
        return ERR_OK;
    if (!answer_reserve(a, s->body_left + 1))
        return ERR_NOMEM;
    *at = a->data + a->len;
    *room = s->body_left;
    return ERR_OK;
}

enum err flight_read(struct flight *f)
{
    size_t budget = READ_BUDGET;
    while (budget > 0) {
        char *at;
        size_t room;
        enum err e = read_target(f, &at, &room);
        if (e != ERR_OK)
            return e;
        ssize_t n = read(f->slot.fd, at, room);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? ERR_AGAIN : ERR_SYS;
        if (n == 0)
            return ERR_AGAIN; /* no verdict: we hold it open ourselves */
        e = feed(f, at, (size_t)n);
        if (e != ERR_AGAIN)
            return e;
        /* A short read has emptied the pipe. */
        if ((size_t)n < room)
            return ERR_AGAIN;
        budget -= (size_t)n < budget ? (size_t)n : budget;
    }
    return ERR_AGAIN;
}
