/*
 * MULTI, EXEC, DISCARD, WATCH, UNWATCH.
 *
 * A queued command is one allocation with copies of its arguments. A watched
 * key has an entry in db->watched with the chain of those who watch it; any
 * change of the key marks them, and EXEC then answers null.
 */
#include "server/transactions.h"

#include <string.h>

#include "server/command.h"
#include "server/commands.h"
#include "server/reply.h"

struct queued {
    struct queued *next;
    const struct command *command;
    size_t argc;
    struct arg args[]; /* and the bytes behind them */
};

struct transaction {
    struct queued *first, *last;
    long count;
    size_t bytes;
    bool stores; /* a queued command needs memory */
};

struct watched {
    struct watched *next;                        /* of the same client */
    struct watched *prev_watcher, *next_watcher; /* of the same key */
    struct client *client;
    struct db *db;
    struct dict_entry *key; /* in db->watched; its value is the chain */
    bool was_expired;       /* already, when it was watched */
};

/* ---- queueing ---- */

void transaction_queue(struct server *s, struct client *c)
{
    /* What cannot be executed any more need not be kept. */
    if ((c->flags & (CLIENT_MULTI_BROKEN | CLIENT_WATCH_BROKEN)) != 0)
        return;
    size_t bytes = 0;
    for (size_t i = 0; i < c->argc; i++)
        bytes += c->argv[i].len;
    size_t size = sizeof(struct queued) + c->argc * sizeof(struct arg) + bytes;
    struct queued *q = mem_alloc(&s->mem, size);
    q->next = NULL;
    q->command = c->command;
    q->argc = c->argc;
    char *at = (char *)&q->args[c->argc];
    for (size_t i = 0; i < c->argc; i++) {
        q->args[i] = (struct arg){{.data = at}, c->argv[i].len};
        memcpy(at, c->argv[i].data, c->argv[i].len);
        at += c->argv[i].len;
    }
    struct transaction *t = c->transaction;
    if (t->last != NULL)
        t->last->next = q;
    else
        t->first = q;
    t->last = q;
    t->count++;
    t->bytes += size;
    t->stores |= (c->command->flags & CMD_DENYOOM) != 0;
}

void transaction_break(struct client *c)
{
    if ((c->flags & CLIENT_MULTI) != 0)
        c->flags |= CLIENT_MULTI_BROKEN;
}

bool transaction_needs_memory(const struct client *c)
{
    return c->command->run == exec_command && c->transaction != NULL &&
           c->transaction->stores;
}

static void forget_queue(struct server *s, struct client *c)
{
    struct transaction *t = c->transaction;
    if (t == NULL)
        return;
    while (t->first != NULL) {
        struct queued *q = t->first;
        t->first = q->next;
        mem_free(&s->mem, q);
    }
    mem_free(&s->mem, t);
    c->transaction = NULL;
    c->flags &=
        ~(uint32_t)(CLIENT_MULTI | CLIENT_MULTI_BROKEN | CLIENT_WATCH_BROKEN);
}

void transaction_discard(struct server *s, struct client *c)
{
    if (c->transaction == NULL)
        return;
    forget_queue(s, c);
    transaction_unwatch(s, c);
}

long transaction_length(const struct client *c)
{
    return c->transaction == NULL ? -1 : c->transaction->count;
}

size_t transaction_bytes(const struct client *c)
{
    return c->transaction == NULL ? 0 : c->transaction->bytes;
}

/* ---- watching ---- */

static void watch(struct server *s, struct client *c, const struct arg *key)
{
    struct dict_entry *e = dict_find(&c->db->watched, key->data, key->len);
    if (e == NULL)
        e = dict_add(&c->db->watched, key->data, key->len);
    for (struct watched *w = e->value; w != NULL; w = w->next_watcher)
        if (w->client == c)
            return;
    struct watched *w = mem_zalloc(&s->mem, sizeof(*w));
    w->client = c;
    w->db = c->db;
    w->key = e;
    w->next = c->watches;
    c->watches = w;
    w->next_watcher = e->value;
    if (w->next_watcher != NULL)
        w->next_watcher->prev_watcher = w;
    e->value = w;
    const struct dict_entry *value =
        dict_find(&c->db->keys, key->data, key->len);
    w->was_expired = value != NULL && db_expired(c->db, value);
}

void transaction_unwatch(struct server *s, struct client *c)
{
    while (c->watches != NULL) {
        struct watched *w = c->watches;
        c->watches = w->next;
        if (w->prev_watcher != NULL)
            w->prev_watcher->next_watcher = w->next_watcher;
        else
            w->key->value = w->next_watcher;
        if (w->next_watcher != NULL)
            w->next_watcher->prev_watcher = w->prev_watcher;
        if (w->key->value == NULL) {
            struct dict *keys = &w->db->watched;
            dict_take(keys, w->key->key, w->key->key_len);
            dict_entry_free(keys, w->key);
        }
        mem_free(&s->mem, w);
    }
    c->flags &= ~(uint32_t)CLIENT_WATCH_BROKEN;
}

void transaction_key_changed(struct db *db, const char *key, size_t len)
{
    struct dict_entry *e = dict_find(&db->watched, key, len);
    if (e == NULL)
        return;
    bool there = dict_find(&db->keys, key, len) != NULL;
    for (struct watched *w = e->value; w != NULL; w = w->next_watcher) {
        /* That a key which was dead already goes away is no change. */
        if (w->was_expired && !there)
            w->was_expired = false;
        else
            w->client->flags |= CLIENT_WATCH_BROKEN;
    }
}

static void break_if_present(void *context, struct dict_entry *e)
{
    struct db *db = context;
    if (dict_find(&db->keys, e->key, e->key_len) != NULL)
        for (struct watched *w = e->value; w != NULL; w = w->next_watcher)
            if (!w->was_expired)
                w->client->flags |= CLIENT_WATCH_BROKEN;
}

void transaction_db_flushed(struct db *db)
{
    uint64_t cursor = 0;
    do {
        cursor = dict_scan(&db->watched, cursor, break_if_present, db);
    } while (cursor != 0);
}

/* A key whose time came since it was watched has changed, even though nobody
 * has deleted it yet. */
static bool watched_key_expired(const struct client *c)
{
    for (struct watched *w = c->watches; w != NULL; w = w->next) {
        if (w->was_expired)
            continue;
        const struct dict_entry *e =
            dict_find(&w->db->keys, w->key->key, w->key->key_len);
        if (e != NULL && db_expired(w->db, e))
            return true;
    }
    return false;
}

/* ---- commands ---- */

void multi_command(struct server *s, struct client *c)
{
    if ((c->flags & CLIENT_MULTI) != 0) {
        reply_error(s, c, "MULTI calls can not be nested");
        return;
    }
    c->transaction = mem_zalloc(&s->mem, sizeof(*c->transaction));
    c->flags |= CLIENT_MULTI;
    reply_ok(s, c);
}

void discard_command(struct server *s, struct client *c)
{
    if ((c->flags & CLIENT_MULTI) == 0) {
        reply_error(s, c, "DISCARD without MULTI");
        return;
    }
    transaction_discard(s, c);
    reply_ok(s, c);
}

static void run_queue(struct server *s, struct client *c)
{
    const struct command *exec = c->command;
    size_t argc = c->argc;
    const struct arg *argv = c->argv;
    s->in_exec = true;
    reply_array(s, c, (size_t)c->transaction->count);
    for (struct queued *q = c->transaction->first; q != NULL; q = q->next) {
        c->command = q->command;
        c->argc = q->argc;
        c->argv = q->args;
        command_call(s, c);
    }
    s->in_exec = false;
    c->command = exec;
    c->argc = argc;
    c->argv = argv;
}

void exec_command(struct server *s, struct client *c)
{
    if ((c->flags & CLIENT_MULTI) == 0) {
        reply_error(s, c, "EXEC without MULTI");
        return;
    }
    if ((c->flags & CLIENT_MULTI_BROKEN) != 0) {
        reply_error(
            s, c,
            "-EXECABORT Transaction discarded because of previous errors.");
    } else if ((c->flags & CLIENT_WATCH_BROKEN) != 0 ||
               watched_key_expired(c)) {
        reply_null_array(s, c);
    } else {
        transaction_unwatch(s, c);
        run_queue(s, c);
    }
    transaction_discard(s, c);
}

void watch_command(struct server *s, struct client *c)
{
    if ((c->flags & CLIENT_MULTI) != 0) {
        reply_error(s, c, "WATCH inside MULTI is not allowed");
        return;
    }
    for (size_t i = 1; i < c->argc; i++)
        watch(s, c, &c->argv[i]);
    reply_ok(s, c);
}

void unwatch_command(struct server *s, struct client *c)
{
    transaction_unwatch(s, c);
    reply_ok(s, c);
}
