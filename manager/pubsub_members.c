/* Members: who subscribed here, from the request to the end of the stream. */
#include "manager/pubsub_parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "ipc/oneshot.h"

static void count_members(struct pubsub *p)
{
    status_gauge_set(p->answers->status, GAUGE_subscribers, p->members);
}

static void list_add(struct member **list, struct member *m)
{
    m->prev = NULL;
    m->next = *list;
    if (*list != NULL)
        (*list)->prev = m;
    *list = m;
}

static void list_remove(struct member **list, struct member *m)
{
    *(m->prev ? &m->prev->next : list) = m->next;
    if (m->next != NULL)
        m->next->prev = m->prev;
}

struct member *member_new(struct pubsub *p, struct request *req, uint32_t names)
{
    struct member *m =
        calloc(1, sizeof(*m) + names * sizeof(struct subscription));
    if (m == NULL)
        return NULL;
    m->req = req;
    m->client = req->reader->client;
    m->slot = req->reader->slot;
    list_add(&p->pending, m);
    p->members++;
    count_members(p);
    return m;
}

void member_join(struct pubsub *p, struct member *m, struct topic *t)
{
    struct subscription *s = &m->names[m->count++];
    p->names++;
    s->member = m;
    s->topic = t;
    /* What was just joined is at the front. */
    s->repeated = t->members != NULL && t->members->member == m;
    if (s->repeated)
        return;
    s->prev = NULL;
    s->next = t->members;
    if (t->members != NULL)
        t->members->prev = s;
    t->members = s;
    m->missing += t->active ? 0 : 1;
}

static void leave(struct pubsub *p, struct subscription *s)
{
    struct topic *t = s->topic;
    if (s->repeated)
        return;
    *(s->prev ? &s->prev->next : &t->members) = s->next;
    if (s->next != NULL)
        s->next->prev = s->prev;
    if (t->members == NULL)
        topic_settle(p, t);
}

void member_end(struct pubsub *p, struct member *m)
{
    list_remove(m->streaming ? &p->streaming : &p->pending, m);
    for (uint32_t i = 0; i < m->count; i++)
        leave(p, &m->names[i]);
    if (m->streaming) {
        subscriber_release(&m->stream);
        /* The name goes too: this tells a reader who could not be told. */
        oneshot_unlink(p->readers->reply_fd, m->client, m->slot);
    }
    p->members--;
    p->names -= m->count;
    m->next_dead = p->dead;
    p->dead = m;
    m->count = 0;
    count_members(p);
}

void member_gone(void *context, void *owner)
{
    member_end(context, owner);
}

static void make_dirty(struct pubsub *p, struct member *m)
{
    if (m->dirty)
        return;
    m->dirty = true;
    m->next_dirty = p->dirty;
    p->dirty = m;
}

void members_flush(struct pubsub *p)
{
    while (p->dirty != NULL) {
        struct member *m = p->dirty;
        p->dirty = m->next_dirty;
        m->dirty = false;
        if (!m->stream.gone)
            subscriber_flush(&m->stream);
    }
}

void member_push(struct pubsub *p, struct member *m, struct published *what)
{
    subscriber_push(&m->stream, what);
    make_dirty(p, m);
}

void member_lose(struct pubsub *p, struct member *m, enum broadcast_kind kind,
                 uint32_t n)
{
    subscriber_lose(&m->stream, kind, n);
    make_dirty(p, m);
}

/* ---- confirming ---- */

/* What Redis would have said to this SUBSCRIBE on a connection of its own. */
static struct published *confirmation(struct pubsub *p, const struct member *m)
{
    struct buffer b = {0};
    struct published *said = NULL;
    uint32_t distinct = 0;
    for (uint32_t i = 0; i < m->count; i++) {
        const struct topic *t = m->names[i].topic;
        const char *word = topic_word(t->kind, true);
        distinct += m->names[i].repeated ? 0 : 1;
        char head[96];
        int n = snprintf(head, sizeof(head), "%c3\r\n$%zu\r\n%s\r\n$%zu\r\n",
                         p->options->resp == 3 ? '>' : '*', strlen(word), word,
                         t->len);
        char tail[32];
        int k = snprintf(tail, sizeof(tail), "\r\n:%" PRIu32 "\r\n", distinct);
        if (buffer_append(&b, head, (size_t)n) != ERR_OK ||
            buffer_append(&b, t->name, t->len) != ERR_OK ||
            buffer_append(&b, tail, (size_t)k) != ERR_OK)
            goto out;
    }
    said = published_new(BROADCAST_CONFIRMED, m->count, buffer_head(&b),
                         buffer_len(&b), &p->total);
out:
    buffer_release(&b);
    return said;
}

void member_refuse(struct pubsub *p, struct member *m, enum reply_status status,
                   const char *text)
{
    answer_fail(p->answers, m->req, 0, 1, status, "%s", text);
    member_end(p, m);
}

void member_begin(struct pubsub *p, struct member *m)
{
    struct published *said = confirmation(p, m);
    uint64_t request = m->req->id;
    int fd;
    if (said == NULL) {
        member_refuse(p, m, REPLY_UNAVAILABLE, "the manager is out of memory");
        return;
    }
    enum err e = readers_hand_over(p->readers, m->req->reader, &fd);
    if (e == ERR_BUSY) {
        member_refuse(
            p, m, REPLY_INVALID,
            "the reply pipe of a subscription is in use by another request");
    } else if (e != ERR_OK) {
        answer_gone(p->answers, m->req, 1);
        member_end(p, m);
    } else {
        answer_streams(p->answers, m->req);
        m->req = NULL;
        list_remove(&p->pending, m);
        list_add(&p->streaming, m);
        m->streaming = true;
        if (subscriber_init(&m->stream, &p->outlet, fd, request, m) != ERR_OK) {
            member_end(p, m);
        } else {
            subscriber_begin(&m->stream, said);
            make_dirty(p, m);
            if (p->retired)
                member_say_end(p, m, REPLY_UNAVAILABLE, RETIRED,
                               sizeof(RETIRED) - 1);
        }
    }
    published_unref(said);
}

void member_tell_gap(struct pubsub *p, struct member *m)
{
    uint64_t since = (clock_ns() - m->gap_ns) / NS_PER_MS;
    uint32_t ms = since > UINT32_MAX ? UINT32_MAX : (uint32_t)since;
    m->gap_ns = 0;
    struct published *gap =
        published_new(BROADCAST_GAP, ms, NULL, 0, &p->total);
    if (gap == NULL) {
        member_lose(p, m, BROADCAST_GAP, ms);
        return;
    }
    member_push(p, m, gap);
    published_unref(gap);
}

/* Drops the oldest of all that waits, as often as it takes. */
void members_relieve(struct pubsub *p)
{
    if (p->total <= p->limits.total_bytes)
        return;
    members_flush(p);
    while (p->total > p->limits.total_bytes) {
        uint64_t oldest = UINT64_MAX;
        for (struct member *m = p->streaming; m != NULL; m = m->next)
            if (subscriber_oldest(&m->stream) < oldest)
                oldest = subscriber_oldest(&m->stream);
        if (oldest == UINT64_MAX)
            return; /* the rest is being written */
        for (struct member *m = p->streaming; m != NULL; m = m->next)
            if (subscriber_oldest(&m->stream) == oldest)
                subscriber_drop_oldest(&m->stream);
    }
}

void member_say_end(struct pubsub *p, struct member *m,
                    enum reply_status status, const char *data, size_t len)
{
    subscriber_flush(&m->stream);
    if (m->stream.gone)
        return; /* ended by that */
    subscriber_end(&m->stream, status, data, len);
    member_end(p, m);
}

void members_say_end(struct pubsub *p, const char *reason)
{
    while (p->streaming != NULL)
        member_say_end(p, p->streaming, REPLY_UNAVAILABLE, reason,
                       strlen(reason));
}

void members_reap(struct pubsub *p)
{
    while (p->dead != NULL) {
        struct member *m = p->dead;
        p->dead = m->next_dead;
        free(m);
    }
}

/* Whether a member waits for this connection. */
static bool waits_for(const struct member *m, const struct upstream *up)
{
    for (uint32_t i = 0; i < m->count; i++)
        if (!m->names[i].topic->active && m->names[i].topic->up == up)
            return true;
    return false;
}

/* Whether all that a member waits for is an answer of Redis. */
static bool is_asked(const struct member *m)
{
    for (uint32_t i = 0; i < m->count; i++)
        if (!m->names[i].topic->active && !m->names[i].topic->pending)
            return false;
    return true;
}

void members_refuse_pending(struct pubsub *p, const struct upstream *up,
                            const char *why)
{
    struct member *next;
    for (struct member *m = p->pending; m != NULL; m = next) {
        char text[ERR_TEXT_MAX + 64];
        next = m->next;
        if (up != NULL && !waits_for(m, up))
            continue;
        snprintf(text, sizeof(text), "%s; the command was not executed", why);
        member_refuse(p, m, REPLY_UNAVAILABLE, text);
    }
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
    if (a == 0 || b == 0)
        return a + b;
    return a < b ? a : b;
}

/* Those whose time is over, or who left, before Redis confirmed. */
uint64_t members_tick(struct pubsub *p, uint64_t now)
{
    uint64_t soonest = 0;
    struct member *next;
    for (struct member *m = p->pending; m != NULL; m = next) {
        next = m->next;
        uint64_t deadline = m->req->deadline_ns;
        if (m->req->reader->dead) {
            answer_gone(p->answers, m->req, 1);
            member_end(p, m);
        } else if (deadline != 0 && now >= deadline) {
            member_refuse(
                p, m, REPLY_EXPIRED,
                is_asked(m)
                    ? "the deadline passed before Redis confirmed the "
                      "subscription"
                    : "the deadline passed while the subscription waited "
                      "for the connection to Redis");
        } else {
            soonest = sooner(soonest, deadline);
        }
    }
    return soonest;
}
