#include "workers/gateway/topics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "ipc/clock.h"

#define SLOTS 1024

/* Events of one topic before others have their turn. */
#define EVENTS_PER_ROUND 256

#define LOOK_NS NS_PER_S

/* ---- the table ---- */

/* FNV-1a. Names are the clients' own, and there are --max-topics of them. */
static size_t slot_of(enum mqredis_topic kind, const char *name, size_t len)
{
    uint64_t h = 14695981039346656037ULL ^ (uint64_t)kind;
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)name[i]) * 1099511628211ULL;
    return (size_t)(h % SLOTS);
}

static void unlist(struct gateway *g, struct topic *t)
{
    if (!t->listed)
        return;
    struct topic **at = &g->topics[slot_of(t->kind, t->name, t->len)];
    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
    t->listed = false;
    g->topic_count--;
}

static void close_stream(struct gateway *g, struct topic *t)
{
    if (t->stream == NULL)
        return;
    gateway_unwatch(g, &t->source);
    t->source.fd = -1;
    mqredis_stream_close(t->stream);
    t->stream = NULL;
}

void topic_put(struct gateway *g, struct topic *t)
{
    if (--t->refs > 0)
        return;
    unlist(g, t);
    close_stream(g, t);
    /* Events of this round, and the list of the busy, may still name it. */
    t->next = g->ended_topics;
    g->ended_topics = t;
}

static void free_ended(struct gateway *g)
{
    struct topic **at = &g->ended_topics;
    while (*at != NULL) {
        struct topic *t = *at;
        if (t->busy) {
            at = &t->next;
            continue;
        }
        *at = t->next;
        free(t);
    }
}

/* ---- what comes ---- */

/* Those who waited for its confirmation, or its end, go on. */
static void wake_waiters(struct topic *t)
{
    while (t->waiters != NULL) {
        struct pending *p = t->waiters;
        t->waiters = p->next_waiter;
        p->waits_for = NULL;
        pending_advance(p->client);
    }
}

/* A client cannot be told that messages are missing: its protocol has no words
 * for that. It is told as Redis would tell it, by the end of the connection. */
static void cut_members(struct gateway *g, struct topic *t)
{
    while (t->members != NULL) {
        g->counters.cut_gap++;
        client_close(t->members->client);
    }
}

static void deliver(struct gateway *g, struct topic *t,
                    const struct mqredis_event *ev)
{
    struct membership *next;
    for (struct membership *m = t->members; m != NULL; m = next) {
        struct client *c = m->client;
        next = m->next;
        g->counters.messages++;
        client_push(c, ev->raw, ev->raw_len);
    }
}

static void end_topic(struct gateway *g, struct topic *t,
                      const struct mqredis_event *ev)
{
    t->state = TOPIC_ENDED;
    t->why.status = ev->status;
    snprintf(t->why.text, sizeof(t->why.text), "%.*s", (int)ev->len, ev->data);
    unlist(g, t);
    close_stream(g, t);
    cut_members(g, t);
    wake_waiters(t);
}

static void take_event(struct gateway *g, struct topic *t,
                       const struct mqredis_event *ev)
{
    switch (ev->type) {
    case MQREDIS_SUBSCRIBED:
        t->state = TOPIC_CONFIRMED;
        wake_waiters(t);
        break;
    case MQREDIS_MESSAGE:
        deliver(g, t, ev);
        break;
    case MQREDIS_LAGGED:
    case MQREDIS_GAP:
        cut_members(g, t);
        break;
    case MQREDIS_END:
        end_topic(g, t, ev);
        break;
    }
}

static void read_topic(struct gateway *g, struct topic *t)
{
    struct mqredis_event ev;
    int n = 0;
    t->refs++;
    while (t->stream != NULL && n < EVENTS_PER_ROUND &&
           mqredis_stream_next(t->stream, 0, &ev)) {
        take_event(g, t, &ev);
        n++;
    }
    if (n == EVENTS_PER_ROUND && t->stream != NULL && !t->busy) {
        t->busy = true;
        t->next_busy = g->busy_topics;
        g->busy_topics = t;
    }
    topic_put(g, t);
}

static void topic_ready(struct gateway *g, struct source *source,
                        uint32_t events)
{
    (void)events;
    read_topic(g, (struct topic *)source);
}

void topics_tick(struct gateway *g)
{
    struct topic *busy = g->busy_topics;
    g->busy_topics = NULL;
    while (busy != NULL) {
        struct topic *t = busy;
        busy = t->next_busy;
        t->busy = false;
        if (t->stream != NULL)
            read_topic(g, t);
    }
    if (g->topic_count > 0 && g->now_ns - g->topics_seen_ns >= LOOK_NS) {
        g->topics_seen_ns = g->now_ns;
        struct topic *next;
        for (size_t i = 0; i < SLOTS; i++) {
            for (struct topic *t = g->topics[i]; t != NULL; t = next) {
                /* Reading one may end it, and clients with it, and with them
                 * others: the next look comes soon enough. */
                next = t->next;
                size_t count = g->topic_count;
                read_topic(g, t);
                if (g->topic_count != count)
                    break;
            }
        }
    }
    free_ended(g);
}

/* ---- life ---- */

static struct topic *topic_new(struct gateway *g, enum mqredis_topic kind,
                               const char *name, size_t len,
                               struct mqredis_error *why)
{
    struct topic *t = calloc(1, sizeof(*t) + len + 1);
    if (t == NULL) {
        why->status = MQREDIS_NOMEM;
        snprintf(why->text, sizeof(why->text), "out of memory");
        return NULL;
    }
    t->kind = kind;
    t->state = TOPIC_ASKED;
    t->len = len;
    memcpy(t->name, name, len);
    const char *names[] = {t->name};
    t->stream = mqredis_stream_open(g->mq, kind, 1, names, &len, why);
    if (t->stream == NULL) {
        free(t);
        return NULL;
    }
    t->source.fd = mqredis_stream_fd(t->stream);
    t->source.ready = topic_ready;
    if (!gateway_watch(g, &t->source, EPOLLIN)) {
        mqredis_stream_close(t->stream);
        free(t);
        why->status = MQREDIS_SYSTEM;
        snprintf(why->text, sizeof(why->text), "cannot watch a stream");
        return NULL;
    }
    return t;
}

struct topic *topic_get(struct gateway *g, enum mqredis_topic kind,
                        const char *name, size_t len, struct mqredis_error *why)
{
    if (g->topics == NULL) {
        g->topics = calloc(SLOTS, sizeof(struct topic *));
        if (g->topics == NULL) {
            why->status = MQREDIS_NOMEM;
            snprintf(why->text, sizeof(why->text), "out of memory");
            return NULL;
        }
    }
    struct topic **slot = &g->topics[slot_of(kind, name, len)];
    for (struct topic *t = *slot; t != NULL; t = t->next) {
        if (t->kind == kind && t->len == len &&
            memcmp(t->name, name, len) == 0) {
            t->refs++;
            return t;
        }
    }
    if (g->topic_count >= g->options->max_topics) {
        why->status = MQREDIS_TOO_BIG;
        snprintf(why->text, sizeof(why->text),
                 "%zu names are subscribed to: --max-topics", g->topic_count);
        return NULL;
    }
    struct topic *t = topic_new(g, kind, name, len, why);
    if (t == NULL)
        return NULL;
    t->refs = 1;
    t->listed = true;
    t->next = *slot;
    *slot = t;
    g->topic_count++;
    return t;
}

void topics_release(struct gateway *g)
{
    for (struct topic *t = g->busy_topics; t != NULL; t = t->next_busy)
        t->busy = false;
    g->busy_topics = NULL;
    free_ended(g);
    free(g->topics);
    g->topics = NULL;
}
