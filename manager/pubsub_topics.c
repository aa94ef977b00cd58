/* Topics: what their members want, where it is to be had, and the steps from
 * one to the other. */
#include "manager/pubsub_parts.h"

#include "ipc/clock.h"

#define RETRY_NS (200 * NS_PER_MS)

void topics_retry(struct pubsub *p)
{
    if (p->retry_ns == 0)
        p->retry_ns = clock_ns() + RETRY_NS;
}

void topic_set_active(struct pubsub *p, struct topic *t, bool active)
{
    if (t->active == active)
        return;
    t->active = active;
    p->active += active ? 1 : (uint32_t)-1;
    status_gauge_set(p->answers->status, GAUGE_topics, p->active);
    for (struct subscription *s = t->members; s != NULL; s = s->next)
        s->member->missing += active ? (uint32_t)-1 : 1;
}

static void place(struct topic *t, struct upstream *up)
{
    if (t->up != NULL)
        t->up->topics--;
    t->up = up;
    if (up != NULL)
        up->topics++;
}

static void remove_topic(struct pubsub *p, struct topic *t)
{
    topic_set_active(p, t, false);
    place(t, NULL);
    topics_remove(&p->topics, t);
}

/* From now on its members may miss something. */
static void begin_gap(const struct topic *t)
{
    uint64_t now = clock_ns();
    for (struct subscription *s = t->members; s != NULL; s = s->next)
        if (s->member->streaming && s->member->gap_ns == 0)
            s->member->gap_ns = now;
}

void topic_lost(struct pubsub *p, struct topic *t)
{
    begin_gap(t);
    topic_set_active(p, t, false);
}

void topic_settle(struct pubsub *p, struct topic *t)
{
    bool wanted = t->members != NULL;
    bool reachable = t->up != NULL && t->up->conn.state == CONN_READY;
    if (t->pending)
        return;
    struct upstream *there =
        wanted ? upstream_of(p, t->kind, t->name, t->len) : NULL;
    if (t->active && reachable && t->up != there) {
        /* Nobody wants it any more, or it is somewhere else. */
        if (wanted && there == NULL)
            return;
        topic_lost(p, t);
        upstream_ask(t->up, t, false);
    } else if (!wanted) {
        remove_topic(p, t);
    } else if (!t->active) {
        place(t, there);
        if (there == NULL)
            topics_retry(p);
        else if (there->conn.state == CONN_READY)
            upstream_ask(there, t, true);
    }
}

/* Does something with every topic; it may remove that topic. */
static void each_topic(struct pubsub *p, const struct upstream *up,
                       void (*what)(struct pubsub *p, struct topic *t))
{
    for (uint32_t i = 0; i < p->topics.bucket_count; i++) {
        struct topic *next;
        for (struct topic *t = p->topics.buckets[i]; t != NULL; t = next) {
            next = t->chain;
            if (up == NULL || t->up == up)
                what(p, t);
        }
    }
}

void topics_settle(struct pubsub *p)
{
    each_topic(p, NULL, topic_settle);
}

static void forget(struct pubsub *p, struct topic *t)
{
    t->pending = false;
    topic_lost(p, t);
    if (t->members == NULL)
        remove_topic(p, t);
}

void topics_lose(struct pubsub *p, const struct upstream *up)
{
    each_topic(p, up, forget);
}

void topic_confirmed(struct pubsub *p, struct topic *t)
{
    struct subscription *next;
    t->hops = 0;
    topic_set_active(p, t, true);
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

void topic_refused(struct pubsub *p, struct topic *t, const char *error,
                   size_t len)
{
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
            member_say_end(p, m, REPLY_OK, error, len);
            continue;
        }
        status_count(p->answers->status, COUNTER_error_replies, 1);
        answer_reply(p->answers, m->req, 0, 1, false, error, len);
        member_end(p, m);
    }
}
