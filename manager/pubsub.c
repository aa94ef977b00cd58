/* Subscriptions: requests, time, and the life of it all. */
#include "manager/pubsub_parts.h"

#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"

#define IDLE_NS (10 * NS_PER_S) /* a connection that nobody needs */

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
static void subscribe(struct pubsub *p, struct request *req, bool pattern,
                      struct resp_request *args, uint32_t names)
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
        enum err e = resp_request_arg(args, &name);
        if (e == ERR_OK && (name.data != NULL || name.len == 0))
            t = topics_find(&p->topics, pattern, name.data, name.len);
        if (e == ERR_OK && t == NULL && (name.data != NULL || name.len == 0))
            t = topics_add(&p->topics, pattern, name.data, name.len);
        if (t == NULL) {
            bool large = e == ERR_OK && name.data == NULL && name.len > 0;
            member_refuse(p, m, large ? REPLY_INVALID : REPLY_UNAVAILABLE,
                          large ? "a name can't be subscribed to: it must "
                                  "travel in the message, not beside it"
                                : "the manager is out of memory");
            return;
        }
        member_join(p, m, t);
        if (!t->active)
            topic_settle(p, t);
    }
    if (m->missing == 0)
        member_begin(p, m);
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
    bool pattern = is_word(&word, "PSUBSCRIBE");
    if (!read || req->ncommands != 1) {
        answer_fail(p->answers, req, run->first, run->count, REPLY_INVALID,
                    "a subscription must be alone in its message");
    } else if (!pattern && !is_word(&word, "SUBSCRIBE")) {
        answer_fail(p->answers, req, 0, 1, REPLY_INVALID,
                    "%.*s: a subscription ends when its stream is closed",
                    (int)(word.len < 32 ? word.len : 32), word.data);
    } else if (!req->stream) {
        answer_fail(p->answers, req, 0, 1, REPLY_INVALID,
                    "%s answers more than once: use mqredis-worker %s, or "
                    "the library's streams",
                    pattern ? "PSUBSCRIBE" : "SUBSCRIBE",
                    pattern ? "psubscribe" : "subscribe");
    } else if (argc < 2) {
        answer_fail(p->answers, req, 0, 1, REPLY_INVALID,
                    "%s needs at least one name",
                    pattern ? "PSUBSCRIBE" : "SUBSCRIBE");
    } else if (p->stopped || (p->conn.state == CONN_WAITING &&
                              !p->conn.options->keep_unsent)) {
        answer_fail(p->answers, req, 0, 1, REPLY_UNAVAILABLE,
                    "Redis is down (%s); the command was not executed",
                    p->conn.error.text);
    } else if (!room_for(p, argc - 1, &why)) {
        answer_fail(p->answers, req, 0, 1, REPLY_UNAVAILABLE, "%s", why.text);
    } else {
        if (p->conn.state == CONN_OFF)
            conn_start(&p->conn, true);
        subscribe(p, req, pattern, &args, argc - 1);
        members_flush(p);
        conn_flush(&p->conn);
    }
}

/* ---- time ---- */

static uint64_t sooner(uint64_t a, uint64_t b)
{
    if (a == 0 || b == 0)
        return a + b;
    return a < b ? a : b;
}

/* The connection of nobody is closed after a while. */
static uint64_t tick_idle(struct pubsub *p, uint64_t now)
{
    if (p->topics.count > 0 || p->conn.state == CONN_OFF) {
        p->idle_ns = 0;
        return 0;
    }
    if (p->idle_ns == 0)
        p->idle_ns = now;
    if (now - p->idle_ns < IDLE_NS)
        return p->idle_ns + IDLE_NS;
    conn_stop(&p->conn, "nobody subscribes");
    return 0;
}

uint64_t pubsub_tick(struct pubsub *p, uint64_t now)
{
    if (p->failed && p->conn.state == CONN_READY)
        conn_break(&p->conn, "out of memory");
    p->failed = false;
    uint64_t next = members_tick(p, now);
    if (p->retry_ns != 0 && now >= p->retry_ns) {
        p->retry_ns = 0;
        topics_settle(p);
    }
    next = sooner(next, p->retry_ns);
    next = sooner(next, tick_idle(p, now));
    members_flush(p);
    status_gauge_set(p->answers->status, GAUGE_subscriber_bytes, p->total);
    conn_flush(&p->conn);
    next = sooner(next, conn_tick(&p->conn, now));
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
    p->outlet.loop = loop;
    p->outlet.status = answers->status;
    p->outlet.max_messages = limits->backlog_messages;
    p->outlet.max_bytes = limits->backlog_bytes;
    p->outlet.gone = member_gone;
    p->outlet.context = p;
    pushes_init(&p->pushes, limits->backlog_bytes);
    if (topics_init(&p->topics, seed) != ERR_OK ||
        conn_init(&p->conn, loop, options, answers, upstream_changed, p) !=
            ERR_OK) {
        topics_release(&p->topics);
        free(p);
        return ERR_NOMEM;
    }
    p->conn.take = upstream_take;
    *pubsub = p;
    return ERR_OK;
}

void pubsub_retire(struct pubsub *p)
{
    p->retired = true;
    members_say_end(p, RETIRED);
}

void pubsub_move(struct pubsub *p, const char *reason)
{
    conn_move(&p->conn, reason);
}

void pubsub_stop(struct pubsub *p, const char *reason)
{
    p->stopped = true;
    members_refuse_pending(p, reason);
    members_say_end(p, reason);
    conn_stop(&p->conn, reason);
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
    conn_release(&p->conn);
    pushes_release(&p->pushes);
    topics_release(&p->topics);
    free(p);
}
