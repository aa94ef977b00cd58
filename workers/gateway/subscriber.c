/* (P|S)SUBSCRIBE and (P|S)UNSUBSCRIBE: clients coming to topics and leaving. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "workers/gateway/topics.h"

/* The names of one command. */
struct name_list {
    enum mqredis_topic kind;
    size_t count, next; /* the one that is to be confirmed next */
    struct name {
        struct topic *topic;       /* NULL: it was refused, or is done */
        struct mqredis_error *why; /* of a refused one */
    } v[];
};

static const char *const joins[] = {"subscribe", "psubscribe", "ssubscribe"};
static const char *const leaves[] = {"unsubscribe", "punsubscribe",
                                     "sunsubscribe"};

size_t subscriber_count(const struct client *c)
{
    return c->subscribed[0] + c->subscribed[1] + c->subscribed[2];
}

/* ---- members ---- */

static struct membership *find(const struct client *c, enum mqredis_topic kind,
                               const char *name, size_t len)
{
    for (struct membership *m = c->memberships; m != NULL; m = m->client_next) {
        if (m->topic->kind == kind && m->topic->len == len &&
            memcmp(m->topic->name, name, len) == 0)
            return m;
    }
    return NULL;
}

/* Takes the reference to the topic. False: no memory. */
static bool join(struct client *c, struct topic *t)
{
    struct membership *m = calloc(1, sizeof(*m));
    if (m == NULL)
        return false;
    m->client = c;
    m->topic = t;
    m->next = t->members;
    if (m->next != NULL)
        m->next->prev = m;
    t->members = m;
    m->client_next = c->memberships;
    if (m->client_next != NULL)
        m->client_next->client_prev = m;
    c->memberships = m;
    c->subscribed[t->kind - 1]++;
    return true;
}

static void leave(struct membership *m)
{
    struct client *c = m->client;
    struct topic *t = m->topic;
    if (m->prev != NULL)
        m->prev->next = m->next;
    else
        t->members = m->next;
    if (m->next != NULL)
        m->next->prev = m->prev;
    if (m->client_prev != NULL)
        m->client_prev->client_next = m->client_next;
    else
        c->memberships = m->client_next;
    if (m->client_next != NULL)
        m->client_next->client_prev = m->client_prev;
    c->subscribed[t->kind - 1]--;
    free(m);
    topic_put(c->gateway, t);
}

void subscriber_release(struct client *c)
{
    struct membership *next;
    for (struct membership *m = c->memberships; m != NULL; m = next) {
        next = m->client_next;
        leave(m);
    }
}

/* ---- what they are told ---- */

/* [word, name, how many there are now]; `name` NULL: there was none. */
static void tell(struct client *c, const char *word, enum mqredis_topic kind,
                 const char *name, size_t len)
{
    char head[64];
    size_t n = 0, words = strlen(word);
    size_t count = kind == MQREDIS_TOPIC_SHARD
                       ? c->subscribed[kind - 1]
                       : c->subscribed[0] + c->subscribed[1];
    n += resp_put_header(head, c->resp == 3 ? '>' : '*', 3);
    n += resp_put_header(head + n, '$', (int64_t)words);
    memcpy(head + n, word, words);
    n += words;
    memcpy(head + n, "\r\n", 2);
    n += 2;
    client_write(c, head, n);
    if (name != NULL) {
        n = resp_put_header(head, '$', (int64_t)len);
        client_write(c, head, n);
        client_write(c, name, len);
        client_write(c, "\r\n", 2);
    } else {
        client_write(c, c->resp == 3 ? "_\r\n" : "$-1\r\n",
                     c->resp == 3 ? 3 : 5);
    }
    n = resp_put_header(head, ':', (int64_t)count);
    client_write(c, head, n);
}

static void tell_refused(struct client *c, const struct mqredis_error *why)
{
    char line[sizeof(why->text) + 64];
    /* Redis's own refusal comes with its own word before it. */
    bool own =
        why->status == MQREDIS_INVALID && strncmp(why->text, "NOPERM", 6) == 0;
    int n = own ? snprintf(line, sizeof(line), "-%s\r\n", why->text)
                : snprintf(line, sizeof(line), "-MQREDIS %s: %s\r\n",
                           mqredis_status_str(why->status), why->text);
    client_write(c, line, (size_t)n);
}

/* ---- subscribing ---- */

void names_free(struct client *c, struct name_list *names)
{
    if (names == NULL)
        return;
    for (size_t i = 0; i < names->count; i++) {
        free(names->v[i].why);
        if (names->v[i].topic != NULL)
            topic_put(c->gateway, names->v[i].topic);
    }
    free(names);
}

void subscriber_forget(struct pending *p)
{
    if (p->waits_for == NULL)
        return;
    struct pending **at = &p->waits_for->waiters;
    while (*at != p)
        at = &(*at)->next_waiter;
    *at = p->next_waiter;
    p->waits_for = NULL;
}

/* Joins the topic of one name, or says why not. */
static void join_name(struct client *c, struct name_list *names, struct name *n)
{
    struct topic *t = n->topic;
    n->topic = NULL;
    if (t == NULL) {
        tell_refused(c, n->why);
        return;
    }
    if (t->state == TOPIC_ENDED) {
        tell_refused(c, &t->why);
        topic_put(c->gateway, t);
        return;
    }
    t->refs++; /* its name is needed below */
    if (find(c, t->kind, t->name, t->len) != NULL || !join(c, t))
        topic_put(c->gateway, t);
    tell(c, joins[names->kind - 1], t->kind, t->name, t->len);
    topic_put(c->gateway, t);
}

void subscriber_advance(struct client *c, struct pending *p)
{
    struct name_list *names = p->names;
    if (p->waits_for != NULL)
        return;
    while (!c->doomed && names->next < names->count) {
        struct name *n = &names->v[names->next];
        if (n->topic != NULL && n->topic->state == TOPIC_ASKED) {
            p->waits_for = n->topic;
            p->next_waiter = n->topic->waiters;
            n->topic->waiters = p;
            return;
        }
        names->next++;
        join_name(c, names, n);
    }
    if (!c->doomed)
        p->done = true;
}

/* Asks for all names at once. */
static void subscribe(struct client *c, const struct command *command,
                      enum mqredis_topic kind)
{
    struct resp_request walk;
    struct resp_arg arg;
    uint32_t argc;
    size_t count = command->argc - 1;
    struct pending *p = pending_add(c, PENDING_SUBSCRIBE);
    if (p == NULL)
        return;
    p->names = calloc(1, sizeof(*p->names) + count * sizeof(struct name));
    resp_request_init(&walk, command->data, command->len);
    if (p->names == NULL || resp_request_command(&walk, &argc) != ERR_OK ||
        resp_request_arg(&walk, &arg) != ERR_OK) {
        client_close(c);
        return;
    }
    p->names->kind = kind;
    p->barrier = true;
    c->held = true;
    while (p->names->count < count && resp_request_arg(&walk, &arg) == ERR_OK) {
        struct mqredis_error why;
        struct name *n = &p->names->v[p->names->count++];
        n->topic = topic_get(c->gateway, kind, arg.data, arg.len, &why);
        if (n->topic != NULL)
            continue;
        n->why = malloc(sizeof(why));
        if (n->why == NULL) {
            client_close(c);
            return;
        }
        *n->why = why;
    }
    pending_advance(c);
}

/* ---- unsubscribing ---- */

static void unsubscribe_all(struct client *c, enum mqredis_topic kind)
{
    struct membership *next;
    bool any = false;
    for (struct membership *m = c->memberships; m != NULL; m = next) {
        next = m->client_next;
        if (m->topic->kind != kind)
            continue;
        struct topic *t = m->topic;
        t->refs++;
        leave(m);
        tell(c, leaves[kind - 1], kind, t->name, t->len);
        topic_put(c->gateway, t);
        any = true;
        if (c->doomed)
            return;
    }
    if (!any)
        tell(c, leaves[kind - 1], kind, NULL, 0);
}

static void unsubscribe(struct client *c, const struct command *command,
                        enum mqredis_topic kind)
{
    struct resp_request walk;
    struct resp_arg arg;
    uint32_t argc;
    if (command->argc == 1) {
        unsubscribe_all(c, kind);
        return;
    }
    resp_request_init(&walk, command->data, command->len);
    if (resp_request_command(&walk, &argc) != ERR_OK ||
        resp_request_arg(&walk, &arg) != ERR_OK)
        return;
    while (!c->doomed && resp_request_arg(&walk, &arg) == ERR_OK) {
        struct membership *m = find(c, kind, arg.data, arg.len);
        if (m != NULL)
            leave(m);
        tell(c, leaves[kind - 1], kind, arg.data, arg.len);
    }
}

void subscriber_command(struct client *c, const struct command *command,
                        const struct command_row *row)
{
    enum mqredis_topic kind =
        row->id == COMMAND_PSUBSCRIBE || row->id == COMMAND_PUNSUBSCRIBE
            ? MQREDIS_TOPIC_PATTERN
        : row->id == COMMAND_SSUBSCRIBE || row->id == COMMAND_SUNSUBSCRIBE
            ? MQREDIS_TOPIC_SHARD
            : MQREDIS_TOPIC_CHANNEL;
    bool leaving = row->id == COMMAND_UNSUBSCRIBE ||
                   row->id == COMMAND_PUNSUBSCRIBE ||
                   row->id == COMMAND_SUNSUBSCRIBE;
    if (leaving)
        unsubscribe(c, command, kind);
    else if (command->argc == 1)
        answer_error(c, "ERR wrong number of arguments for '%s' command",
                     joins[kind - 1]);
    else
        subscribe(c, command, kind);
}
