/* Connections to Redis that many topics share: what it answers, and what it
 * sends. */
#include "manager/pubsub_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "manager/log.h"

#define TAG 1                   /* our commands, see struct run */
#define IDLE_NS (10 * NS_PER_S) /* a connection that nobody needs */
#define HOPS_MAX 5              /* then a topic rests before the next */

static enum err take(void *context, const char *data, size_t len);
static void changed(void *context, struct conn *c);

enum err upstream_init(struct upstream *up, struct pubsub *owner,
                       const struct conn_options *options)
{
    *up = (struct upstream){.owner = owner};
    pushes_init(&up->pushes, owner->limits.backlog_bytes);
    enum err e =
        conn_init(&up->conn, owner->loop, options, owner->answers, changed, up);
    up->conn.take = take;
    return e;
}

void upstream_release(struct upstream *up)
{
    conn_release(&up->conn);
    pushes_release(&up->pushes);
}

struct upstream *upstream_of(struct pubsub *p, enum topic_kind kind,
                             const char *name, size_t len)
{
    if (p->places.of == NULL || kind != TOPIC_SHARD)
        return &p->general;
    const struct conn_options *where =
        p->places.of(p->places.context, kind, name, len);
    if (where == NULL)
        return NULL;
    if (where == p->options)
        return &p->general;
    for (struct upstream *up = p->shards; up != NULL; up = up->next)
        if (up->conn.options == where && !up->forgotten)
            return up;
    struct upstream *up = malloc(sizeof(*up));
    if (up == NULL || upstream_init(up, p, where) != ERR_OK) {
        free(up);
        return NULL;
    }
    up->next = p->shards;
    p->shards = up;
    return up;
}

void upstream_ask(struct upstream *up, struct topic *t, bool adding)
{
    const char *word = topic_word(t->kind, adding);
    struct resp_arg argv[2] = {{word, strlen(word)}, {t->name, t->len}};
    size_t size = resp_command_size(2, argv);
    char *data = malloc(size);
    struct run run = {
        .first = TAG, .count = 1, .data = data, .len = size, .first_len = size};
    if (data != NULL)
        resp_put_command(data, 2, argv);
    if (data == NULL || conn_append(&up->conn, &run) != ERR_OK) {
        up->failed = true; /* the tick breaks the connection */
    } else {
        t->pending = true;
        t->adding = adding;
        t->waiting = NULL;
        *(up->due_last ? &up->due_last->waiting : &up->due_first) = t;
        up->due_last = t;
    }
    free(data);
}

/* ---- what Redis answers ---- */

static bool begins(const struct push *e, const char *const words[])
{
    for (size_t i = 0; words[i] != NULL; i++)
        if (e->len > strlen(words[i]) &&
            memcmp(e->data, words[i], strlen(words[i])) == 0)
            return true;
    return false;
}

/* An error that says "not now". */
static bool passing(const struct push *e)
{
    static const char *const words[] = {
        "-LOADING", "-BUSY", "-MASTERDOWN", "-TRYAGAIN", "-CLUSTERDOWN", NULL};
    return begins(e, words);
}

/* An error that says "not here". */
static bool elsewhere(const struct push *e)
{
    static const char *const words[] = {"-MOVED", "-ASK", NULL};
    return begins(e, words);
}

static bool names(const struct push *a, const struct topic *t)
{
    return a->topic == t->kind && a->name_len == t->len &&
           memcmp(a->name, t->name, t->len) == 0;
}

/* The topic is at another master: to be asked at once if that is known. */
static void follow(struct upstream *up, struct topic *t, const struct push *e)
{
    struct pubsub *p = up->owner;
    p->places.moved(p->places.context, up->conn.options, e->data, e->len);
    if (upstream_of(p, t->kind, t->name, t->len) == up ||
        ++t->hops % HOPS_MAX == 0)
        topics_retry(p);
    else
        topic_settle(p, t);
}

/* The answer to our oldest command that is due. */
static enum err take_answer(struct upstream *up, const struct push *a)
{
    struct pubsub *p = up->owner;
    uint32_t tag;
    if (!pipeline_take_own(&up->conn.pipeline, &tag))
        return ERR_PROTO;
    if (tag != TAG)
        return ERR_OK; /* a PING's */
    struct topic *t = up->due_first;
    if (t == NULL || a->kind == PUSH_REPLY)
        return ERR_PROTO;
    if (a->kind != PUSH_ERROR &&
        ((a->kind == PUSH_SUBSCRIBED) != t->adding || !names(a, t)))
        return ERR_PROTO;
    up->due_first = t->waiting;
    if (up->due_first == NULL)
        up->due_last = NULL;
    t->pending = false;
    if (a->kind == PUSH_ERROR && passing(a)) {
        topic_set_active(p, t, !t->adding);
        topics_retry(p);
    } else if (a->kind == PUSH_ERROR && p->places.of != NULL && elsewhere(a)) {
        follow(up, t, a);
    } else if (a->kind == PUSH_ERROR && t->adding) {
        static const char other[] = "-ERR the subscription was refused\r\n";
        bool usable = !a->cut && a->len <= PUBSUB_ERROR_MAX;
        topic_refused(p, t, usable ? a->data : other,
                      usable ? a->len : sizeof(other) - 1);
    } else if (a->kind == PUSH_ERROR) {
        return ERR_PROTO; /* nobody may be kept from leaving */
    } else if (t->adding && t->members != NULL) {
        topic_confirmed(p, t);
    } else {
        if (t->adding)
            topic_set_active(p, t, true); /* whoever wanted it has left */
        topic_settle(p, t);
    }
    return ERR_OK;
}

/* Whether Redis says by itself that it carries a shard channel no more: its
 * slot has moved. */
static bool taken_away(const struct upstream *up, const struct push *a)
{
    const struct topic *due = up->due_first;
    return a->kind == PUSH_UNSUBSCRIBED && a->topic == TOPIC_SHARD &&
           (due == NULL || due->adding || !names(a, due));
}

static void take_away(struct upstream *up, const struct push *a)
{
    struct pubsub *p = up->owner;
    struct topic *t = topics_find(&p->topics, a->topic, a->name, a->name_len);
    if (t == NULL || t->up != up || !t->active)
        return;
    topic_lost(p, t);
    topic_settle(p, t);
}

/* ---- what it sends ---- */

static void take_message(struct upstream *up, const struct push *msg)
{
    struct pubsub *p = up->owner;
    struct topic *t =
        topics_find(&p->topics, msg->topic, msg->name, msg->name_len);
    status_count(p->answers->status, COUNTER_pubsub_messages, 1);
    if (t == NULL || t->members == NULL || t->up != up)
        return; /* the last one has just left */
    /* One too long to be carried leaves its mark all the same. */
    struct published *what =
        msg->cut ? NULL
                 : published_new(BROADCAST_MESSAGE, 1, msg->data, msg->len,
                                 &p->total);
    bool lost = what == NULL;
    if (lost)
        what = published_new(BROADCAST_LAGGED, 1, NULL, 0, &p->total);
    if (what != NULL)
        what->serial = ++p->serial;
    struct subscription *next;
    for (struct subscription *s = t->members; s != NULL; s = next) {
        next = s->next;
        if (!s->member->streaming || s->member->missing > 0)
            continue;
        if (what == NULL) {
            member_lose(p, s->member, BROADCAST_MESSAGE, 1);
            continue;
        }
        if (lost)
            status_count(p->answers->status, COUNTER_pubsub_lagged, 1);
        member_push(p, s->member, what);
    }
    if (what != NULL)
        published_unref(what);
    members_relieve(p);
}

static enum err take(void *context, const char *data, size_t len)
{
    struct upstream *up = context;
    struct push got;
    enum err e;
    while ((e = pushes_next(&up->pushes, &data, &len, &got)) == ERR_OK) {
        if (got.kind == PUSH_MESSAGE)
            take_message(up, &got);
        else if (taken_away(up, &got))
            take_away(up, &got);
        else if (got.kind != PUSH_OTHER)
            e = take_answer(up, &got);
        if (e != ERR_OK)
            break;
    }
    members_flush(up->owner);
    return e == ERR_AGAIN ? ERR_OK : e;
}

/* ---- the connection ---- */

static void connection_lost(struct upstream *up)
{
    struct pubsub *p = up->owner;
    up->due_first = up->due_last = NULL;
    up->failed = false;
    pushes_reset(&up->pushes);
    topics_lose(p, up);
    if (up->topics == 0 || p->stopped)
        return;
    status_count(p->answers->status, COUNTER_pubsub_gaps, 1);
    log_warn("lost the connection of %u subscriptions: %s; reconnecting",
             up->topics, up->conn.error.text);
    topics_retry(p);
}

static void changed(void *context, struct conn *c)
{
    struct upstream *up = context;
    bool was_ready = up->was_ready;
    up->was_ready = c->state == CONN_READY;
    if (c->state == CONN_READY) {
        topics_settle(up->owner);
        return;
    }
    if (was_ready)
        connection_lost(up);
    if (upstream_refuses(up)) {
        char why[ERR_TEXT_MAX + 32];
        snprintf(why, sizeof(why), "Redis is down (%s)", c->error.text);
        members_refuse_pending(up->owner, up, why);
    }
}

static void start(struct upstream *up)
{
    if (up->topics == 0 || up->forgotten || up->conn.state != CONN_OFF)
        return;
    conn_start(&up->conn, true);
}

void upstreams_start(struct pubsub *p)
{
    if (p->stopped)
        return;
    start(&p->general);
    for (struct upstream *up = p->shards; up != NULL; up = up->next)
        start(up);
}

void upstreams_flush(struct pubsub *p)
{
    conn_flush(&p->general.conn);
    for (struct upstream *up = p->shards; up != NULL; up = up->next)
        conn_flush(&up->conn);
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
    if (a == 0 || b == 0)
        return a + b;
    return a < b ? a : b;
}

/* The connection of nobody is closed after a while. */
static uint64_t tick_idle(struct upstream *up, uint64_t now)
{
    if (up->topics > 0 || up->conn.state == CONN_OFF) {
        up->idle_ns = 0;
        return 0;
    }
    if (up->idle_ns == 0)
        up->idle_ns = now;
    if (now - up->idle_ns < IDLE_NS)
        return up->idle_ns + IDLE_NS;
    conn_stop(&up->conn, "nobody subscribes");
    return 0;
}

static uint64_t tick(struct upstream *up, uint64_t now)
{
    if (up->failed && up->conn.state == CONN_READY)
        conn_break(&up->conn, "out of memory");
    up->failed = false;
    uint64_t next = tick_idle(up, now);
    return sooner(next, conn_tick(&up->conn, now));
}

/* Frees those of masters that need none, which are off by now. */
static void reap(struct pubsub *p)
{
    struct upstream **at = &p->shards;
    while (*at != NULL) {
        struct upstream *up = *at;
        if (up->topics > 0 || up->conn.state != CONN_OFF) {
            at = &up->next;
            continue;
        }
        *at = up->next;
        upstream_release(up);
        free(up);
    }
}

uint64_t upstreams_tick(struct pubsub *p, uint64_t now)
{
    upstreams_start(p);
    upstreams_flush(p);
    uint64_t next = tick(&p->general, now);
    for (struct upstream *up = p->shards; up != NULL; up = up->next)
        next = sooner(next, tick(up, now));
    reap(p);
    return next;
}
