/* Topics and the connection to Redis that all of them share. */
#include "manager/pubsub_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "manager/log.h"

#define RETRY_NS (200 * NS_PER_MS) /* Redis is loading or busy */
#define TAG 1                      /* our commands, see struct run */
#define ERROR_MAX 1024             /* of Redis's errors that are passed on */

/* ---- topics and Redis ---- */

/* Sends (P)(UN)SUBSCRIBE for one name, so that each answer is one topic's. */
static void ask(struct pubsub *p, struct topic *t, bool adding)
{
    static const char *const words[2][2] = {{"UNSUBSCRIBE", "SUBSCRIBE"},
                                            {"PUNSUBSCRIBE", "PSUBSCRIBE"}};
    const char *word = words[t->pattern][adding];
    struct resp_arg argv[2] = {{word, strlen(word)}, {t->name, t->len}};
    size_t size = resp_command_size(2, argv);
    char *data = malloc(size);
    struct run run = {
        .first = TAG, .count = 1, .data = data, .len = size, .first_len = size};
    if (data != NULL)
        resp_put_command(data, 2, argv);
    if (data == NULL || conn_append(&p->conn, &run) != ERR_OK) {
        p->failed = true; /* the tick breaks the connection */
    } else {
        t->pending = true;
        t->adding = adding;
        t->waiting = NULL;
        *(p->due_last ? &p->due_last->waiting : &p->due_first) = t;
        p->due_last = t;
    }
    free(data);
}

static void set_active(struct pubsub *p, struct topic *t, bool active)
{
    if (t->active == active)
        return;
    t->active = active;
    p->active += active ? 1 : (uint32_t)-1;
    status_gauge_set(p->answers->status, GAUGE_topics, p->active);
    for (struct subscription *s = t->members; s != NULL; s = s->next)
        s->member->missing += active ? (uint32_t)-1 : 1;
}

void topic_settle(struct pubsub *p, struct topic *t)
{
    bool wanted = t->members != NULL;
    if (t->pending)
        return;
    if (p->conn.state == CONN_READY && wanted != t->active) {
        set_active(p, t, false);
        ask(p, t, wanted);
    } else if (!wanted && !t->active) {
        topics_remove(&p->topics, t);
    } else if (!wanted && p->conn.state != CONN_READY) {
        set_active(p, t, false);
        topics_remove(&p->topics, t);
    }
}

/* Does something with every topic; it may remove that topic. */
static void each_topic(struct pubsub *p,
                       void (*what)(struct pubsub *p, struct topic *t))
{
    for (uint32_t i = 0; i < p->topics.bucket_count; i++) {
        struct topic *next;
        for (struct topic *t = p->topics.buckets[i]; t != NULL; t = next) {
            next = t->chain;
            what(p, t);
        }
    }
}

void topics_settle(struct pubsub *p)
{
    each_topic(p, topic_settle);
}

static void topic_confirmed(struct pubsub *p, struct topic *t)
{
    struct subscription *next;
    set_active(p, t, true);
    for (struct subscription *s = t->members; s != NULL; s = next) {
        next = s->next;
        if (s->member->missing > 0)
            continue;
        if (!s->member->streaming)
            member_begin(p, s->member);
        else if (s->member->gap_ns != 0)
            member_tell_gap(p, s->member);
    }
}

/* ---- what Redis sends ---- */

/* An error that says "not now". */
static bool passing(const struct push *e)
{
    static const char *const words[] = {"-LOADING", "-BUSY", "-MASTERDOWN"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (e->len > strlen(words[i]) &&
            memcmp(e->data, words[i], strlen(words[i])) == 0)
            return true;
    return false;
}

/* Redis refuses a topic: so do we, to all who want it. */
static void topic_refused(struct pubsub *p, struct topic *t,
                          const struct push *error)
{
    static const char other[] = "-ERR the subscription was refused\r\n";
    bool usable = !error->cut && error->len <= ERROR_MAX;
    const char *data = usable ? error->data : other;
    size_t len = usable ? error->len : sizeof(other) - 1;
    struct subscription *next;
    if (t->members == NULL) {
        topic_settle(p, t);
        return;
    }
    /* The topic goes with its last member. */
    for (struct subscription *s = t->members; s != NULL; s = next) {
        struct member *m = s->member;
        next = s->next;
        if (m->streaming) {
            member_say_end(p, m, REPLY_OK, data, len);
            continue;
        }
        status_count(p->answers->status, COUNTER_error_replies, 1);
        answer_reply(p->answers, m->req, 0, 1, false, data, len);
        member_end(p, m);
    }
}

/* The answer to our oldest command that is due. */
static enum err take_answer(struct pubsub *p, const struct push *a)
{
    uint32_t tag;
    if (!pipeline_take_own(&p->conn.pipeline, &tag))
        return ERR_PROTO;
    if (tag != TAG)
        return ERR_OK; /* a PING's */
    struct topic *t = p->due_first;
    if (t == NULL || a->kind == PUSH_REPLY)
        return ERR_PROTO;
    if (a->kind != PUSH_ERROR &&
        ((a->kind == PUSH_SUBSCRIBED) != t->adding ||
         a->pattern != t->pattern || a->name_len != t->len ||
         memcmp(a->name, t->name, t->len) != 0))
        return ERR_PROTO;
    p->due_first = t->waiting;
    if (p->due_first == NULL)
        p->due_last = NULL;
    t->pending = false;
    if (a->kind == PUSH_ERROR && passing(a)) {
        set_active(p, t, !t->adding);
        p->retry_ns = clock_ns() + RETRY_NS;
    } else if (a->kind == PUSH_ERROR && t->adding) {
        topic_refused(p, t, a);
    } else if (a->kind == PUSH_ERROR) {
        return ERR_PROTO; /* nobody may be kept from leaving */
    } else if (t->adding && t->members != NULL) {
        topic_confirmed(p, t);
    } else {
        if (t->adding)
            set_active(p, t, true); /* whoever wanted it has left */
        topic_settle(p, t);
    }
    return ERR_OK;
}

static void take_message(struct pubsub *p, const struct push *msg)
{
    struct topic *t =
        topics_find(&p->topics, msg->pattern, msg->name, msg->name_len);
    status_count(p->answers->status, COUNTER_pubsub_messages, 1);
    if (t == NULL || t->members == NULL)
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

enum err upstream_take(void *context, const char *data, size_t len)
{
    struct pubsub *p = context;
    struct push got;
    enum err e;
    while ((e = pushes_next(&p->pushes, &data, &len, &got)) == ERR_OK) {
        if (got.kind == PUSH_MESSAGE)
            take_message(p, &got);
        else if (got.kind != PUSH_OTHER)
            e = take_answer(p, &got);
        if (e != ERR_OK)
            break;
    }
    members_flush(p);
    return e == ERR_AGAIN ? ERR_OK : e;
}

/* ---- the connection ---- */

static void forget_topic(struct pubsub *p, struct topic *t)
{
    t->pending = false;
    set_active(p, t, false);
    if (t->members == NULL)
        topics_remove(&p->topics, t);
}

static void connection_lost(struct pubsub *p)
{
    uint64_t now = clock_ns();
    p->due_first = p->due_last = NULL;
    p->retry_ns = 0;
    p->failed = false;
    pushes_reset(&p->pushes);
    each_topic(p, forget_topic);
    for (struct member *m = p->streaming; m != NULL; m = m->next)
        if (m->gap_ns == 0)
            m->gap_ns = now;
    if (p->topics.count == 0 || p->stopped)
        return;
    status_count(p->answers->status, COUNTER_pubsub_gaps, 1);
    log_warn("lost the connection of %u subscriptions: %s; reconnecting",
             p->topics.count, p->conn.error.text);
}

void upstream_changed(void *context, struct conn *c)
{
    struct pubsub *p = context;
    bool was_ready = p->was_ready;
    p->was_ready = c->state == CONN_READY;
    if (c->state == CONN_READY) {
        topics_settle(p);
        return;
    }
    if (was_ready)
        connection_lost(p);
    if (c->state == CONN_WAITING && !c->options->keep_unsent) {
        char why[ERR_TEXT_MAX + 32];
        snprintf(why, sizeof(why), "Redis is down (%s)", c->error.text);
        members_refuse_pending(p, why);
    }
}
