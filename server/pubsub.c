/*
 * Publish and subscribe.
 *
 * A subscription is in two places: in its client's dict (channels or patterns)
 * under the name, and in the chain of subscribers that the server's dict holds
 * under the same name.
 */
#include "server/pubsub.h"

#include <string.h>

#include "server/command.h"
#include "server/commands.h"
#include "server/glob.h"
#include "server/reply.h"

struct subscription {
    struct client *client;
    struct dict_entry *name; /* in the server's dict */
    struct subscription *prev, *next;
};

struct subscribers {
    struct subscription *first, *last;
    size_t count;
};

/* One of the two kinds, seen from a client. */
struct topic {
    struct dict *mine; /* the client's */
    struct dict *all;  /* the server's */
    const char *subscribe, *unsubscribe;
};

static struct topic channels(struct server *s, struct client *c)
{
    return (struct topic){&c->channels, &s->channels, "subscribe",
                          "unsubscribe"};
}

static struct topic patterns(struct server *s, struct client *c)
{
    return (struct topic){&c->patterns, &s->patterns, "psubscribe",
                          "punsubscribe"};
}

/* ---- the tables ---- */

static void add(struct server *s, struct client *c, const struct topic *t,
                const struct arg *name)
{
    if (dict_find(t->mine, name->data, name->len) != NULL)
        return;
    struct dict_entry *e = dict_find(t->all, name->data, name->len);
    if (e == NULL) {
        e = dict_add(t->all, name->data, name->len);
        e->value = mem_zalloc(&s->mem, sizeof(struct subscribers));
    }
    struct subscribers *all = e->value;
    struct subscription *sub = mem_zalloc(&s->mem, sizeof(*sub));
    sub->client = c;
    sub->name = e;
    sub->prev = all->last;
    if (all->last != NULL)
        all->last->next = sub;
    else
        all->first = sub;
    all->last = sub;
    all->count++;
    dict_add(t->mine, name->data, name->len)->value = sub;
}

/* Takes a subscription out of the server's table, and frees it. */
static void leave(struct server *s, const struct topic *t,
                  struct subscription *sub)
{
    struct dict_entry *e = sub->name;
    struct subscribers *all = e->value;
    if (sub->prev != NULL)
        sub->prev->next = sub->next;
    else
        all->first = sub->next;
    if (sub->next != NULL)
        sub->next->prev = sub->prev;
    else
        all->last = sub->prev;
    mem_free(&s->mem, sub);
    if (--all->count == 0) {
        mem_free(&s->mem, all);
        dict_take(t->all, e->key, e->key_len);
        dict_entry_free(t->all, e);
    }
}

/* ---- telling the client ---- */

/* These go out even when the client has silenced its replies. `count` is how
 * many channels and patterns it is subscribed to afterwards. */
static void push_event(struct server *s, struct client *c, const char *event,
                       const struct arg *name, size_t count)
{
    uint32_t pushing = c->flags & CLIENT_PUSHING;
    c->flags |= CLIENT_PUSHING;
    reply_push(s, c, 3);
    reply_text(s, c, event);
    if (name == NULL)
        reply_null(s, c);
    else
        reply_arg(s, c, name);
    reply_number(s, c, (int64_t)count);
    if (pushing == 0)
        c->flags &= ~(uint32_t)CLIENT_PUSHING;
}

static size_t count_all(const struct client *c)
{
    return c->channels.count + c->patterns.count;
}

/* ---- leaving all at once ---- */

struct leaving {
    struct server *s;
    struct client *c;
    const struct topic *topic;
    bool tell;
    size_t count; /* subscriptions that remain */
};

static void leave_one(void *context, struct dict_entry *mine)
{
    struct leaving *l = context;
    leave(l->s, l->topic, mine->value);
    l->count--;
    if (!l->tell)
        return;
    struct arg name = {{.data = mine->key}, mine->key_len};
    push_event(l->s, l->c, l->topic->unsubscribe, &name, l->count);
}

/* One walk over the client's table, which is cleared after it: taking entries
 * out one by one would look for the next one ever longer. */
static void leave_all(struct server *s, struct client *c, const struct topic *t,
                      bool tell)
{
    struct leaving l = {
        .s = s, .c = c, .topic = t, .tell = tell, .count = count_all(c)};
    uint64_t cursor = 0;
    do {
        cursor = dict_scan(t->mine, cursor, leave_one, &l);
    } while (cursor != 0);
    dict_clear(t->mine, NULL, NULL);
}

void pubsub_forget(struct server *s, struct client *c)
{
    struct topic both[] = {channels(s, c), patterns(s, c)};
    leave_all(s, c, &both[0], false);
    leave_all(s, c, &both[1], false);
}

void pubsub_release(struct server *s)
{
    dict_clear(&s->channels, NULL, NULL);
    dict_clear(&s->patterns, NULL, NULL);
}

/* ---- subscribing ---- */

static void subscribe(struct server *s, struct client *c, struct topic t)
{
    for (size_t i = 1; i < c->argc; i++) {
        add(s, c, &t, &c->argv[i]);
        push_event(s, c, t.subscribe, &c->argv[i], count_all(c));
    }
}

static void unsubscribe(struct server *s, struct client *c, struct topic t)
{
    for (size_t i = 1; i < c->argc; i++) {
        const struct arg *name = &c->argv[i];
        struct dict_entry *e = dict_take(t.mine, name->data, name->len);
        if (e != NULL) {
            leave(s, &t, e->value);
            dict_entry_free(t.mine, e);
        }
        push_event(s, c, t.unsubscribe, name, count_all(c));
    }
    if (c->argc > 1)
        return;
    if (t.mine->count == 0)
        push_event(s, c, t.unsubscribe, NULL, count_all(c));
    else
        leave_all(s, c, &t, true);
}

void subscribe_command(struct server *s, struct client *c)
{
    subscribe(s, c, channels(s, c));
}

void psubscribe_command(struct server *s, struct client *c)
{
    subscribe(s, c, patterns(s, c));
}

void unsubscribe_command(struct server *s, struct client *c)
{
    unsubscribe(s, c, channels(s, c));
}

void punsubscribe_command(struct server *s, struct client *c)
{
    unsubscribe(s, c, patterns(s, c));
}

/* ---- publishing ---- */

struct publication {
    struct server *s;
    const struct arg *channel, *message;
    int64_t receivers;
};

static void deliver(struct publication *p, const struct dict_entry *name,
                    bool pattern)
{
    const struct subscribers *all = name->value;
    for (struct subscription *i = all->first; i != NULL; i = i->next) {
        struct client *c = i->client;
        uint32_t pushing = c->flags & CLIENT_PUSHING;
        c->flags |= CLIENT_PUSHING;
        reply_push(p->s, c, pattern ? 4 : 3);
        reply_text(p->s, c, pattern ? "pmessage" : "message");
        if (pattern)
            reply_bulk(p->s, c, name->key, name->key_len);
        reply_arg(p->s, c, p->channel);
        reply_arg(p->s, c, p->message);
        if (pushing == 0)
            c->flags &= ~(uint32_t)CLIENT_PUSHING;
        p->receivers++;
    }
}

static void deliver_if_matching(void *context, struct dict_entry *pattern)
{
    struct publication *p = context;
    if (glob_match(pattern->key, pattern->key_len, p->channel->data,
                   p->channel->len))
        deliver(p, pattern, true);
}

void publish_command(struct server *s, struct client *c)
{
    struct publication p = {
        .s = s, .channel = &c->argv[1], .message = &c->argv[2]};
    struct dict_entry *e =
        dict_find(&s->channels, p.channel->data, p.channel->len);
    if (e != NULL)
        deliver(&p, e, false);
    uint64_t cursor = 0;
    do {
        cursor = dict_scan(&s->patterns, cursor, deliver_if_matching, &p);
    } while (cursor != 0);
    reply_number(s, c, p.receivers);
}

/* ---- PUBSUB ---- */

struct channel_search {
    struct server *s;
    struct client *c;
    const struct arg *pattern; /* NULL: all */
    size_t found;
};

static void visit_channel(void *context, struct dict_entry *e)
{
    struct channel_search *q = context;
    if (q->pattern != NULL &&
        !glob_match(q->pattern->data, q->pattern->len, e->key, e->key_len))
        return;
    q->found++;
    reply_bulk(q->s, q->c, e->key, e->key_len);
}

void pubsub_channels_command(struct server *s, struct client *c)
{
    if (c->argc > 3) {
        reply_subcommand_error(s, c);
        return;
    }
    struct channel_search q = {
        .s = s, .c = c, .pattern = c->argc == 3 ? &c->argv[2] : NULL};
    size_t mark = reply_array_begin(s, c);
    uint64_t cursor = 0;
    do {
        cursor = dict_scan(&s->channels, cursor, visit_channel, &q);
    } while (cursor != 0);
    reply_array_end(s, c, mark, q.found);
}

void pubsub_numsub_command(struct server *s, struct client *c)
{
    reply_array(s, c, (c->argc - 2) * 2);
    for (size_t i = 2; i < c->argc; i++) {
        struct dict_entry *e =
            dict_find(&s->channels, c->argv[i].data, c->argv[i].len);
        const struct subscribers *all = e != NULL ? e->value : NULL;
        reply_arg(s, c, &c->argv[i]);
        reply_number(s, c, all != NULL ? (int64_t)all->count : 0);
    }
}

void pubsub_numpat_command(struct server *s, struct client *c)
{
    reply_number(s, c, (int64_t)s->patterns.count);
}
