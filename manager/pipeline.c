/* In flight: the order of writing is the order of replies. */
#include "manager/pipeline.h"

#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"

#define RING_FIRST 64

/* A reader whose backlog is over this, or near its bound, while a long reply
 * goes on is lagging. */
#define SLOW_BACKLOG (1024 * 1024)

/* Less than this is read and written: as fast, and simpler. */
#define SPLICE_MIN (16 * 1024)

enum err pipeline_init(struct pipeline *p, struct answers *answers)
{
    memset(p, 0, sizeof(*p));
    p->answers = answers;
    p->ring = calloc(RING_FIRST, sizeof(*p->ring));
    p->ring_size = RING_FIRST;
    p->in = malloc(PIPELINE_READ_SIZE);
    resp_scan_reset(&p->scan);
    if (p->ring == NULL || p->in == NULL) {
        pipeline_release(p);
        return ERR_NOMEM;
    }
    return ERR_OK;
}

void pipeline_release(struct pipeline *p)
{
    free(p->ring);
    free(p->in);
    buffer_release(&p->out);
    segments_release(&p->segments);
    memset(p, 0, sizeof(*p));
}

static struct entry *entry_at(const struct pipeline *p, uint32_t index)
{
    return &p->ring[(p->head + index) & (p->ring_size - 1)];
}

/* ---- the way out ---- */

static enum err grow_ring(struct pipeline *p)
{
    uint32_t size = p->ring_size * 2;
    struct entry *ring = calloc(size, sizeof(*ring));
    if (ring == NULL)
        return ERR_NOMEM;
    for (uint32_t i = 0; i < p->count; i++)
        ring[i] = *entry_at(p, i);
    free(p->ring);
    p->ring = ring;
    p->ring_size = size;
    p->head = 0;
    return ERR_OK;
}

enum err pipeline_append(struct pipeline *p, const struct run *run)
{
    if (p->count == p->ring_size) {
        enum err e = grow_ring(p);
        if (e != ERR_OK)
            return e;
    }
    uint64_t begin = p->begin + buffer_len(&p->out);
    enum err e = segments_reserve(&p->segments, run->nblobs);
    if (e == ERR_OK)
        e = buffer_append(&p->out, run->data, run->len);
    if (e != ERR_OK)
        return e;
    for (uint32_t i = 0; i < run->nblobs; i++)
        segments_add(&p->segments, run->source,
                     run->spoils != NULL ? run->spoils : run->req,
                     begin + run->blobs[i].at, run->blobs[i].len,
                     run->blobs[i].offset);
    *entry_at(p, p->count++) = (struct entry){
        .req = run->req,
        .taker = run->taker,
        .first = run->first,
        .left = run->count,
        .count = run->count,
        .hash = run->hash,
        .independent = run->independent,
        .begin = begin,
        .first_end = begin + run->first_len,
        .end = begin + run->len,
    };
    return ERR_OK;
}

void pipeline_unsent(const struct pipeline *p, const char **data, size_t *len)
{
    size_t skip = (size_t)(p->sent - p->begin);
    const struct segment *g = segments_next(&p->segments);
    *data = buffer_head(&p->out) + skip;
    *len = buffer_len(&p->out) - skip;
    if (g != NULL && g->at - p->sent < *len)
        *len = (size_t)(g->at - p->sent);
}

void pipeline_sent(struct pipeline *p, size_t n)
{
    p->sent += n;
    if (p->tried < p->sent)
        p->tried = p->sent;
    while (p->written < p->count && entry_at(p, p->written)->end <= p->sent)
        p->written++;
    /* An entry that is cut in two stays whole while it could be written again
     * from its beginning. */
    uint64_t keep_from = p->sent;
    if (p->written < p->count) {
        const struct entry *e = entry_at(p, p->written);
        bool again = e->independent || p->sent < e->first_end;
        if (e->begin < p->sent && again)
            keep_from = e->begin;
    }
    buffer_take(&p->out, (size_t)(keep_from - p->begin));
    p->begin = keep_from;
    segments_drop_before(&p->segments, p->begin);
}

void pipeline_tried(struct pipeline *p, size_t n)
{
    p->tried = p->sent + n;
}

/* ---- the way back ---- */

char *pipeline_room(const struct pipeline *p, size_t *len)
{
    *len = PIPELINE_READ_SIZE - p->have;
    return p->in + p->have;
}

static void pop_front(struct pipeline *p)
{
    p->head = (p->head + 1) & (p->ring_size - 1);
    p->count--;
    if (p->written > 0)
        p->written--;
}

/* Notes how long a reply is or was, for the choice of lanes. */
static void learn(struct pipeline *p, struct request *req, uint32_t hash,
                  uint64_t bytes, bool done)
{
    if (bytes > p->answers->max_reply)
        answer_cut(p->answers, req);
    if (!done || p->sizes == NULL)
        return;
    if (hash != 0)
        sizes_learn(p->sizes, hash, bytes);
    if (bytes >= LANE_LARGE)
        req->reader->sender->large_ns = p->answers->now_ns;
}

/* Hands bytes to the front entry: `done` replies end in them, and with `more`
 * another one begins or goes on. */
static void deliver(struct pipeline *p, const char *data, size_t len,
                    uint32_t done, bool more)
{
    answers_pause(p->answers);
    struct entry *e = entry_at(p, 0);
    struct request *req = e->req;
    struct taker *taker = e->taker;
    uint32_t first = e->first;
    struct taken taken = {data, len, e->bytes == 0, done > 0};
    e->bytes += len;
    uint64_t bytes = e->bytes;
    uint32_t hash = e->hash;
    bool cut = e->cut;
    e->first += done;
    e->left -= done;
    if (done > 0) {
        e->bytes = 0;
        e->cut = false;
    }
    if (e->left == 0)
        pop_front(p);
    if (req == NULL) {
        if (taker != NULL)
            taker->ops->reply(taker, first, &taken);
        return;
    }
    struct reader *reader = req->reader;
    req->cut = cut;
    learn(p, req, hash, bytes, done > 0);
    bool goes_on = more && done == 0;
    if (taker != NULL)
        taker->ops->reply(taker, first, &taken);
    else
        answer_reply(p->answers, req, first, done, more, data, len);
    /* A reply that is passed over waits for nobody; and where it goes on, the
     * request is still there. */
    if (goes_on)
        entry_at(p, 0)->cut = req->cut;
    bool lags = goes_on && !reader->dead && !req->cut &&
                (buffer_len(&reader->backlog) > SLOW_BACKLOG ||
                 readers_tight(reader->owner, reader, PIPELINE_READ_SIZE));
    p->slow = lags ? reader : NULL;
}

/* Whether the front entry can have `replies` answers by now: one that comes
 * before its command has left whole is nobody's. */
static bool front_expects(const struct pipeline *p, uint32_t replies)
{
    if (p->count == 0)
        return false;
    const struct entry *e = entry_at(p, 0);
    return (replies < e->left ? e->first_end : e->end) <= p->sent;
}

size_t pipeline_splice_begin(struct pipeline *p, size_t available)
{
    if (p->have > 0 || p->count == 0 || p->scan.type == '>')
        return 0;
    struct entry *e = entry_at(p, 0);
    size_t n = resp_scan_opaque(&p->scan);
    n = n < available ? n : available;
    n = n < REPLY_CHUNK_MAX ? n : REPLY_CHUNK_MAX;
    if (e->req == NULL || n < SPLICE_MIN ||
        e->bytes + n > p->answers->max_reply)
        return 0;
    uint32_t first = e->first;
    if (e->taker != NULL && !e->taker->ops->splices(e->taker, &first))
        return 0;
    e->req->cut = e->cut;
    if (!answer_begin(p->answers, e->req, first, n))
        return 0;
    e->bytes += n;
    p->promised = n;
    return n;
}

bool pipeline_lags(const struct pipeline *p)
{
    return p->promised > 0 && entry_at(p, 0)->req->reader->full;
}

enum err pipeline_splice(struct pipeline *p, int socket_fd)
{
    struct reader *r = entry_at(p, 0)->req->reader;
    size_t moved = 0;
    enum err e =
        readers_splice(p->answers->readers, r, socket_fd, p->promised, &moved);
    if (e == ERR_OK) {
        p->promised -= moved;
        resp_scan_skip(&p->scan, moved);
        status_count(p->answers->status, COUNTER_bytes_read, moved);
    } else if (e == ERR_AGAIN) {
        p->slow = r;
    } else if (e == ERR_CLOSED) {
        p->promised = 0;
    }
    return e;
}

/* Bytes that were read belong to a chunk that was begun for splicing: its
 * reader lags, they wait for it here. Returns how many. */
static size_t keep_promise(struct pipeline *p, size_t n)
{
    size_t len = n < p->promised ? n : p->promised;
    if (len == 0)
        return 0;
    readers_append(p->answers->readers, entry_at(p, 0)->req->reader, p->in,
                   len);
    resp_scan_skip(&p->scan, len);
    p->promised -= len;
    memmove(p->in, p->in + len, n - len);
    return len;
}

static bool begins(const char *data, size_t len, const char *prefix)
{
    size_t n = strlen(prefix);
    return len >= n && memcmp(data, prefix, n) == 0;
}

enum err pipeline_feed(struct pipeline *p, size_t n)
{
    if (p->promised > 0) {
        /* Nothing was in the buffer before. */
        size_t kept = keep_promise(p, n);
        status_count(p->answers->status, COUNTER_bytes_read, kept);
        n -= kept;
    }
    p->have += n;
    status_count(p->answers->status, COUNTER_bytes_read, n);
    size_t begin = 0; /* of what was not handed on yet */
    size_t frame = 0; /* of the current frame, or what is there of it */
    size_t pos = p->scanned;
    uint32_t done = 0; /* whole replies in [begin, frame) */
    while (pos < p->have) {
        size_t used;
        enum err e = resp_scan(&p->scan, p->in + pos, p->have - pos, &used);
        pos += used;
        if (e == ERR_AGAIN)
            break;
        if (e != ERR_OK)
            return e;
        if (p->scan.type == '>') {
            if (done > 0)
                deliver(p, p->in + begin, frame - begin, done, false);
            done = 0;
            begin = frame = pos;
            status_count(p->answers->status, COUNTER_pushes, 1);
            continue;
        }
        if (!front_expects(p, done + 1))
            return ERR_PROTO;
        /* One that may have been cut off is told alone. */
        const struct entry *front = entry_at(p, 0);
        bool error = p->scan.type == '-' || p->scan.type == '!';
        if (error && front->taker == NULL)
            status_count(p->answers->status, COUNTER_error_replies, 1);
        if (error && begins(p->in + frame, pos - frame, "-READONLY"))
            p->answers->readonly = true;
        frame = pos;
        bool alone = front->bytes > 0 || front->taker != NULL ||
                     p->answers->max_reply < PIPELINE_READ_SIZE;
        if (++done == front->left || alone) {
            deliver(p, p->in + begin, pos - begin, done, false);
            begin = pos;
            done = 0;
        }
    }
    if (done > 0) {
        deliver(p, p->in + begin, frame - begin, done, false);
        begin = frame;
    }
    bool long_bulk =
        p->have > begin && resp_scan_opaque(&p->scan) >= LANE_LARGE;
    if (p->have - begin == PIPELINE_READ_SIZE || long_bulk) {
        /* A long reply goes on its way in parts. */
        if (p->scan.type != '>') {
            if (p->count == 0)
                return ERR_PROTO;
            deliver(p, p->in + begin, p->have - begin, 0, true);
        }
        begin = p->have;
    }
    p->have -= begin;
    p->scanned = p->have;
    if (begin > 0 && p->have > 0)
        memmove(p->in, p->in + begin, p->have);
    return ERR_OK;
}

bool pipeline_take_own(struct pipeline *p, uint32_t *tag)
{
    if (!front_expects(p, 1) || entry_at(p, 0)->req != NULL)
        return false;
    *tag = entry_at(p, 0)->first;
    pop_front(p);
    return true;
}

/* ---- when the connection breaks ---- */

/* Answers an entry that will not be written (again); false if it lives on. What
 * is the manager's own belongs to its connection: to a next one it would say
 * something else, or the same again; and who has a taker knows where to go
 * next. A `reason` is why the connection broke; NULL: it did not. */
static bool settle_unwritten(struct pipeline *p, const struct entry *e,
                             const char *reason)
{
    struct answers *a = p->answers;
    bool wanted = e->req == NULL ||
                  (!e->req->reader->dead && !request_expired(a, e->req));
    if (e->req == NULL || e->taker != NULL) {
        bool over = reason != NULL || !wanted;
        if (over && e->taker != NULL)
            e->taker->ops->unsent(e->taker, e->first, e->left, reason);
        return over;
    }
    if (e->req->reader->dead) {
        answer_gone(a, e->req, e->left);
        return true;
    }
    if (request_expired(a, e->req)) {
        answer_fail(a, e->req, e->first, e->left, REPLY_EXPIRED,
                    "the deadline passed while the command waited for the "
                    "connection to Redis; it was not executed");
        return true;
    }
    return false;
}

/* Rebuilds `out` and the ring from the entries [from, count) that live on, in
 * place: entries and bytes only move towards the front. A `reason` is why the
 * connection broke; NULL: it did not. */
static void rebuild(struct pipeline *p, uint32_t from, bool keep,
                    const char *reason)
{
    uint64_t base = p->begin;
    uint64_t start = from < p->count ? entry_at(p, from)->begin : 0;
    uint64_t at = start;
    uint32_t kept = from;
    for (uint32_t i = from; i < p->count; i++) {
        struct entry e = *entry_at(p, i);
        if (settle_unwritten(p, &e, reason)) {
            segments_drop(&p->segments, e.begin, e.end);
            continue;
        }
        if (!keep) {
            segments_drop(&p->segments, e.begin, e.end);
            answer_fail(p->answers, e.req, e.first, e.left, REPLY_UNAVAILABLE,
                        "%s; the command was not executed", reason);
            continue;
        }
        size_t len = (size_t)(e.end - e.begin);
        if (at != e.begin) {
            memmove(buffer_head(&p->out) + (at - base),
                    buffer_head(&p->out) + (e.begin - base), len);
            segments_shift(&p->segments, e.begin, e.end, e.begin - at);
        }
        e.first_end = at + (e.first_end - e.begin);
        e.begin = at;
        e.end = at + len;
        at = e.end;
        *entry_at(p, kept++) = e;
    }
    if (from < p->count) {
        uint64_t end = base + buffer_len(&p->out);
        p->out.tail -= (size_t)(end - at);
    }
    p->count = kept;
}

/* Cuts the commands that have left whole off an independent entry, whose bytes
 * are all still in `out`; returns how many they are. */
static uint32_t split(struct pipeline *p, struct entry *e)
{
    const char *bytes = buffer_head(&p->out) + (e->begin - p->begin);
    struct resp_request r;
    resp_request_init(&r, bytes, (size_t)(e->end - e->begin));
    uint64_t begin = e->begin;
    uint32_t whole = 0, argc;
    while (resp_request_command(&r, &argc) == ERR_OK) {
        struct resp_arg arg;
        while (argc > 0 && resp_request_arg(&r, &arg) == ERR_OK)
            argc--;
        e->first_end = begin + (uint64_t)(r.pos - bytes);
        if (e->first_end > p->tried)
            break;
        e->begin = e->first_end;
        whole++;
    }
    return whole;
}

/* Answers what has left of the front entry; returns whether a part of it has
 * not, and lives on as the front. */
static bool lose_front(struct pipeline *p, const char *reason)
{
    struct entry *e = entry_at(p, 0);
    struct request *req = e->req;
    struct taker *taker = e->taker;
    uint32_t first = e->first;
    uint32_t lost = e->left;
    bool lives = e->independent && e->end > p->tried;
    if (lives) {
        uint32_t answered = e->count - e->left;
        uint32_t whole = split(p, e);
        lost = whole - answered;
        e->first += lost;
        e->left -= lost;
        e->count = e->left;
    } else {
        pop_front(p);
    }
    if (taker != NULL)
        taker->ops->lost(taker, first, lost, reason);
    else if (req != NULL && lost > 0)
        answer_fail(p->answers, req, first, lost, REPLY_LOST,
                    "%s after the command was written: whether it was executed "
                    "is unknown",
                    reason);
    return lives;
}

void pipeline_break(struct pipeline *p, bool keep, const char *reason)
{
    /* What a begun chunk promised can't come any more. The word that follows
     * says that all of it is void. */
    if (p->promised > 0)
        readers_append(p->answers->readers, entry_at(p, 0)->req->reader, NULL,
                       p->promised);
    p->promised = 0;
    while (p->count > 0 && entry_at(p, 0)->first_end <= p->tried)
        if (lose_front(p, reason))
            break;
    /* What is in `out` before the first entry that lives on. */
    uint64_t gone =
        p->count > 0 ? entry_at(p, 0)->begin - p->begin : buffer_len(&p->out);
    buffer_take(&p->out, (size_t)gone);
    p->begin += gone;
    if (keep && p->count > 0 && entry_at(p, 0)->begin < p->sent)
        status_count(p->answers->status, COUNTER_resent, 1);
    segments_drop_before(&p->segments, p->begin);
    segments_rewind(&p->segments);
    p->written = 0;
    p->sent = p->tried = p->begin;
    rebuild(p, 0, keep, reason);
    p->have = p->scanned = 0;
    p->slow = NULL;
    resp_scan_reset(&p->scan);
}

void pipeline_purge(struct pipeline *p)
{
    uint32_t from = p->written;
    /* One that is partly out must go on. */
    while (from < p->count && entry_at(p, from)->begin < p->tried)
        from++;
    rebuild(p, from, true, NULL);
}
