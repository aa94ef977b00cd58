/* Subscriptions: requests, time, and the life of it all. */
#include "manager/pubsub_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- requests ---- */

static bool is_word(const struct resp_arg *arg, const char *word)
{
    return arg->data != NULL && arg->len == strlen(word) &&
           strncasecmp(arg->data, word, arg->len) == 0;
}

/* Whether there is room for `names` more; else *why says what is full. */
static bool room_for(const struct pubsub *p, uint32_t names,
                     struct err_text *why)
{
    const struct pubsub_limits *l = &p->limits;
    if (p->members >= l->max_subscribers)
        err_say(why, ERR_LIMIT,
                "there are %u subscribers already: raise --max-subscribers; "
                "the command was not executed",
                p->members);
    else if (names > l->max_subscriptions - p->names)
        err_say(why, ERR_LIMIT,
                "%u more subscriptions would be over %u: raise "
                "--max-subscriptions; the command was not executed",
                names, l->max_subscriptions);
    else
        return true;
    return false;
}

/* Makes a member of a command whose name was read. The request is answered
 * where that fails. */
static struct topic *find_or_add(struct pubsub *p, enum topic_kind kind,
                                 const struct resp_arg *name)
{
    struct topic *t = topics_find(&p->topics, kind, name->data, name->len);
    return t != NULL ? t : topics_add(&p->topics, kind, name->data, name->len);
}

/* Makes a member of a command whose word was read. The request is answered
 * where that fails. */
static void subscribe(struct pubsub *p, struct request *req,
                      enum topic_kind kind, struct resp_request *args,
                      uint32_t names)
{
    struct member *m = member_new(p, req, names);
    if (m == NULL) {
        answer_fail(p->answers, req, 0, 1, REPLY_UNAVAILABLE,
                    "the manager is out of memory");
        return;
    }
    for (uint32_t i = 0; i < names; i++) {
        struct resp_arg name;
        struct topic *t = NULL;
        /* The framing was checked: what cannot be read here comes by a file. */
        bool large = resp_request_arg(args, &name) != ERR_OK ||
                     (name.data == NULL && name.len > 0);
        if (!large)
            t = find_or_add(p, kind, &name);
        if (t == NULL) {
            member_refuse(p, m, large ? REPLY_INVALID : REPLY_UNAVAILABLE,
                          large ? "a name can't be subscribed to: it must "
                                  "travel in the message, not beside it"
                                : "the manager is out of memory");
            return;
        }
        member_join(p, m, t);
        if (!t->active)
            topic_settle(p, t);
        if (t->up != NULL && upstream_refuses(t->up)) {
            char text[ERR_TEXT_MAX + 64];
            snprintf(text, sizeof(text),
                     "Redis is down (%s); the command was not executed",
                     t->up->conn.error.text);
            member_refuse(p, m, REPLY_UNAVAILABLE, text);
            return;
        }
    }
    if (m->missing == 0)
        member_begin(p, m);
}

/* The kind of topics that a command subscribes to; TOPIC_KINDS: it does not. */
static enum topic_kind kind_of(const struct resp_arg *word)
{
    enum topic_kind kind = 0;
    while (kind < TOPIC_KINDS && !is_word(word, topic_word(kind, true)))
        kind++;
    return kind;
}

void pubsub_request(struct pubsub *p, const struct run *run)
{
    struct request *req = run->req;
    struct resp_request args;
    struct resp_arg word = {"", 0};
    uint32_t argc = 0;
    struct err_text why;
    resp_request_init(&args, run->data, run->len);
    bool read = resp_request_command(&args, &argc) == ERR_OK &&
                resp_request_arg(&args, &word) == ERR_OK;
    enum topic_kind kind = kind_of(&word);
    int shown = (int)(word.len < 32 ? word.len : 32);
    if (!read || req->ncommands != 1) {
        answer_fail(p->answers, req, run->first, run->count, REPLY_INVALID,
                    "a subscription must be alone in its message");
    } else if (kind == TOPIC_KINDS) {
        answer_fail(p->answers, req, 0, 1, REPLY_INVALID,
                    "%.*s: a subscription ends when its stream is closed",
                    shown, word.data);
    } else if (!req->stream) {
        answer_fail(p->answers, req, 0, 1, REPLY_INVALID,
                    "%.*s answers more than once: use mqredis-worker %s, or "
                    "the library's streams",
                    shown, word.data, topic_word(kind, true));
    } else if (argc < 2) {
        answer_fail(p->answers, req, 0, 1, REPLY_INVALID,
                    "%.*s needs at least one name", shown, word.data);
    } else if (p->stopped) {
        answer_fail(p->answers, req, 0, 1, REPLY_UNAVAILABLE,
                    "the manager is ending; the command was not executed");
    } else if (!room_for(p, argc - 1, &why)) {
        answer_fail(p->answers, req, 0, 1, REPLY_UNAVAILABLE, "%s", why.text);
    } else {
        subscribe(p, req, kind, &args, argc - 1);
        upstreams_start(p);
        members_flush(p);
        upstreams_flush(p);
    }
}

/* ---- time ---- */

static uint64_t sooner(uint64_t a, uint64_t b)
{
    if (a == 0 || b == 0)
        return a + b;
    return a < b ? a : b;
}

uint64_t pubsub_tick(struct pubsub *p, uint64_t now)
{
    uint64_t next = members_tick(p, now);
    if (p->retry_ns != 0 && now >= p->retry_ns) {
        p->retry_ns = 0;
        topics_settle(p);
    }
    next = sooner(next, upstreams_tick(p, now));
    next = sooner(next, p->retry_ns);
    members_flush(p);
    status_gauge_set(p->answers->status, GAUGE_subscriber_bytes, p->total);
    members_reap(p);
    return next;
}

/* ---- life ---- */

enum err pubsub_new(struct pubsub **pubsub, struct loop *loop,
                    struct answers *answers, struct readers *readers,
                    const struct conn_options *options,
                    const struct pubsub_limits *limits, uint64_t seed)
{
    struct pubsub *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return ERR_NOMEM;
    p->answers = answers;
    p->readers = readers;
    p->limits = *limits;
    p->loop = loop;
    p->options = options;
    p->outlet.loop = loop;
    p->outlet.status = answers->status;
    p->outlet.max_messages = limits->backlog_messages;
    p->outlet.max_bytes = limits->backlog_bytes;
    p->outlet.gone = member_gone;
    p->outlet.context = p;
    if (topics_init(&p->topics, seed) != ERR_OK ||
        upstream_init(&p->general, p, options) != ERR_OK) {
        topics_release(&p->topics);
        free(p);
        return ERR_NOMEM;
    }
    *pubsub = p;
    return ERR_OK;
}

void pubsub_spread(struct pubsub *p, const struct pubsub_places *places)
{
    p->places = *places;
}

void pubsub_places_changed(struct pubsub *p)
{
    topics_settle(p);
}

void pubsub_forget(struct pubsub *p, const struct conn_options *options)
{
    static const char why[] = "its server has left the cluster";
    for (struct upstream *up = p->shards; up != NULL; up = up->next) {
        if (up->conn.options == options) {
            up->forgotten = true;
            conn_stop(&up->conn, why);
        }
    }
    topics_settle(p);
}

void pubsub_retire(struct pubsub *p)
{
    p->retired = true;
    members_say_end(p, RETIRED);
}

void pubsub_move(struct pubsub *p, const char *reason)
{
    conn_move(&p->general.conn, reason);
}

void pubsub_stop(struct pubsub *p, const char *reason)
{
    p->stopped = true;
    members_refuse_pending(p, NULL, reason);
    members_say_end(p, reason);
    conn_stop(&p->general.conn, reason);
    for (struct upstream *up = p->shards; up != NULL; up = up->next)
        conn_stop(&up->conn, reason);
}

void pubsub_free(struct pubsub *p)
{
    if (p == NULL)
        return;
    while (p->streaming != NULL)
        member_end(p, p->streaming);
    members_reap(p);
    while (p->pending != NULL) {
        struct member *m = p->pending;
        p->pending = m->next;
        free(m);
    }
    upstream_release(&p->general);
    while (p->shards != NULL) {
        struct upstream *up = p->shards;
        p->shards = up->next;
        upstream_release(up);
        free(up);
    }
    topics_release(&p->topics);
    free(p);
}
