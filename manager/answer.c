/* Requests from taken to answered. */
#include "manager/answer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLAB_REQUESTS 128

/* Longer replies are written at once. */
#define GATHERED_MAX 1024

void answers_init(struct answers *a, struct readers *readers,
                  struct status *status, uint64_t seed)
{
    memset(a, 0, sizeof(*a));
    a->clients.seed = seed;
    a->readers = readers;
    a->status = status;
}

void answers_release(struct answers *a)
{
    for (uint32_t i = 0; i < a->slab_count; i++)
        free(a->slabs[i]);
    free(a->slabs);
    a->slabs = NULL;
    a->free = NULL;
    a->slab_count = 0;
}

/* ---- the pool ---- */

static enum err add_slab(struct answers *a)
{
    struct request **slabs = realloc(a->slabs, (a->slab_count + (size_t)1) *
                                                   sizeof(struct request *));
    if (slabs == NULL)
        return ERR_NOMEM;
    a->slabs = slabs;
    struct request *slab = calloc(SLAB_REQUESTS, sizeof(*slab));
    if (slab == NULL)
        return ERR_NOMEM;
    slabs[a->slab_count++] = slab;
    for (size_t i = 0; i < SLAB_REQUESTS; i++) {
        slab[i].next = a->free;
        a->free = &slab[i];
    }
    return ERR_OK;
}

enum err answers_take(struct answers *a, const struct message_header *h,
                      struct reader *reader, const char *command,
                      size_t command_len, struct request **request)
{
    if (a->free == NULL) {
        enum err e = add_slab(a);
        if (e != ERR_OK)
            return e;
    }
    struct request *req = a->free;
    a->free = req->next;
    *req = (struct request){
        .id = h->request,
        .deadline_ns = h->deadline_ns,
        .sent_ns = h->sent_ns,
        .taken_ns = a->now_ns,
        .reader = reader,
        .client = h->client,
        .stream = (h->flags & MESSAGE_STREAM) != 0,
        .ncommands = h->ncommands,
    };
    a->inflight += h->ncommands;
    status_gauge_set(a->status, GAUGE_inflight, a->inflight);
    if (a->inflight > a->most_inflight) {
        a->most_inflight = a->inflight;
        status_gauge_set(a->status, GAUGE_most_inflight, a->inflight);
    }
    status_count(a->status, COUNTER_taken, h->ncommands);
    status_client_taken(a->status->clients, &a->clients, h->client, h->pid,
                        h->ncommands, command, command_len, h->prev_rtt_us,
                        a->now_ns);
    *request = req;
    return ERR_OK;
}

/* Books the end of `count` commands, and of the request with the last one. */
static void finish(struct answers *a, struct request *req, uint32_t count,
                   enum status_counter counter)
{
    status_count(a->status, counter, count);
    status_client_done(a->status->clients, &a->clients, req->client, count,
                       counter == COUNTER_answered ? 0 : count, a->now_ns);
    req->answered += count;
    a->inflight -= count;
    status_gauge_set(a->status, GAUGE_inflight, a->inflight);
    if (req->answered < req->ncommands)
        return;
    histogram_add(&a->status->times[TIME_redis_time],
                  a->now_ns > req->taken_ns ? a->now_ns - req->taken_ns : 0);
    if (req->laned)
        req->reader->sender->inflight[req->lane]--;
    readers_put(a->readers, req->reader);
    req->reader = NULL;
    req->next = a->free;
    a->free = req;
}

/* The chunk that says how the request goes on, or that it ends. */
static struct reply_chunk chunk_for(const struct request *req, uint32_t first,
                                    uint32_t count, enum reply_status status,
                                    size_t len)
{
    bool end = req->answered + count == req->ncommands;
    return (struct reply_chunk){
        .request = req->id,
        .length = (uint32_t)len,
        .first = first,
        .count = count,
        .flags = end ? REPLY_END : 0,
        .status = (uint8_t)status,
    };
}

/* ---- answers ---- */

static const enum status_counter counter_of[REPLY_STATUS_COUNT] = {
    [REPLY_OK] = COUNTER_answered,
    [REPLY_INVALID] = COUNTER_invalid,
    [REPLY_EXPIRED] = COUNTER_expired,
    [REPLY_UNAVAILABLE] = COUNTER_unavailable,
    [REPLY_TOO_BIG] = COUNTER_too_big,
    [REPLY_LOST] = COUNTER_lost,
};

void answer_fail(struct answers *a, struct request *req, uint32_t first,
                 uint32_t count, enum reply_status status, const char *fmt, ...)
{
    char text[ERR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    size_t len = n < 0 ? 0 : (size_t)n;
    if (len >= sizeof(text))
        len = sizeof(text) - 1;
    struct reply_chunk chunk = chunk_for(req, first, count, status, len);
    /* Forced: short, and at most one a command. */
    enum err e = readers_write(a->readers, req->reader, &chunk, text, true);
    finish(a, req, count, e == ERR_OK ? counter_of[status] : COUNTER_discarded);
}

void answer_gone(struct answers *a, struct request *req, uint32_t count)
{
    finish(a, req, count, COUNTER_gone);
}

void answer_streams(struct answers *a, struct request *req)
{
    finish(a, req, req->ncommands, COUNTER_answered);
}

void answer_cut(struct answers *a, struct request *req)
{
    if (!req->cut)
        status_count(a->status, COUNTER_aborted, 1);
    req->cut = true;
}

bool answer_begin(struct answers *a, struct request *req, uint32_t first,
                  size_t len)
{
    struct reader *r = req->reader;
    if (req->cut || req->spoiled || r->dead ||
        (buffer_len(&r->backlog) > 0 && !r->corked))
        return false;
    struct reply_chunk chunk = chunk_for(req, first, 0, REPLY_OK, 0);
    chunk.flags = REPLY_MORE;
    /* The header alone now, its body by the caller. */
    return readers_begin(a->readers, r, &chunk, len) == ERR_OK;
}

void answer_reply(struct answers *a, struct request *req, uint32_t first,
                  uint32_t count, bool more, const char *data, size_t len)
{
    enum err e = ERR_LIMIT;
    if (!req->cut && !req->spoiled) {
        struct reply_chunk chunk = chunk_for(req, first, count, REPLY_OK, len);
        if (more)
            chunk.flags |= REPLY_MORE;
        bool last = (chunk.flags & (REPLY_END | REPLY_MORE)) != 0;
        e = a->gathers && !last && len <= GATHERED_MAX
                ? readers_gather(a->readers, req->reader, &chunk, data,
                                 a->now_ns)
                : readers_write(a->readers, req->reader, &chunk, data, false);
        if (e == ERR_LIMIT)
            answer_cut(a, req);
    }
    if (count == 0)
        return;
    req->cut = false; /* the next reply is another matter */
    if (req->spoiled)
        answer_fail(a, req, first, count, REPLY_INVALID,
                    "the payload changed after it was sent: the command was "
                    "executed with zeros in place of what was missing");
    else if (e == ERR_LIMIT)
        answer_fail(a, req, first, count, REPLY_TOO_BIG,
                    "the command was executed, but its reply was cut off: its "
                    "reader did not keep up (--reader-backlog), or it was over "
                    "--max-reply");
    else
        finish(a, req, count,
               e == ERR_OK ? COUNTER_answered : COUNTER_discarded);
}
