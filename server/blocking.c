/*
 * Waiting for elements.
 *
 * For every key somebody waits for there is a queue of waits in db->awaited; a
 * client that waits for several keys has a wait in each queue. When a list
 * appears, its key goes on the server's ready list, and after the command (or
 * the whole transaction) that made it the queues of ready keys are served.
 */
#include "server/blocking.h"

#include <string.h>

#include "server/command.h"
#include "server/commands.h"
#include "server/lists.h"
#include "server/number.h"
#include "server/reply.h"

struct wait {
    struct client *client;
    struct dict_entry *queue; /* in db->awaited */
    struct wait *prev, *next; /* in that queue */
};

/* The value of an entry in db->awaited. Its mark tells that the key is on the
 * ready list already. */
struct wait_queue {
    struct wait *first, *last;
};

struct blocking {
    uint32_t timeout_slot;
    bool moves; /* BLMOVE */
    enum list_end from, to;
    char *target; /* BLMOVE's second key */
    size_t target_len;
    size_t wait_count;
    struct wait waits[];
};

struct ready_key {
    struct ready_key *next;
    struct db *db;
    size_t len;
    char key[];
};

/* ---- queues ---- */

/* False: the client waits for this key already, as a key may be named twice.
 * Then it is the last in the queue, for it only just came. */
static bool enqueue(struct db *db, struct client *c, struct wait *w,
                    const struct arg *key)
{
    struct dict_entry *e = dict_find(&db->awaited, key->data, key->len);
    if (e == NULL) {
        e = dict_add(&db->awaited, key->data, key->len);
        e->value = mem_zalloc(&db->server->mem, sizeof(struct wait_queue));
    }
    struct wait_queue *q = e->value;
    if (q->last != NULL && q->last->client == c)
        return false;
    *w = (struct wait){.client = c, .queue = e, .prev = q->last};
    if (q->last != NULL)
        q->last->next = w;
    else
        q->first = w;
    q->last = w;
    return true;
}

static void dequeue(struct db *db, struct wait *w)
{
    struct dict_entry *e = w->queue;
    struct wait_queue *q = e->value;
    if (w->prev != NULL)
        w->prev->next = w->next;
    else
        q->first = w->next;
    if (w->next != NULL)
        w->next->prev = w->prev;
    else
        q->last = w->prev;
    if (q->first != NULL)
        return;
    mem_free(&db->server->mem, q);
    dict_take(&db->awaited, e->key, e->key_len);
    dict_entry_free(&db->awaited, e);
}

/* ---- blocking and unblocking ---- */

static struct blocking *block(struct server *s, struct client *c,
                              const struct arg *keys, size_t count,
                              int64_t until_ms)
{
    struct blocking *b =
        mem_zalloc(&s->mem, sizeof(*b) + count * sizeof(b->waits[0]));
    for (size_t i = 0; i < count; i++)
        if (enqueue(c->db, c, &b->waits[b->wait_count], &keys[i]))
            b->wait_count++;
    c->blocking = b;
    c->flags |= CLIENT_BLOCKED;
    s->blocked_count++;
    if (until_ms != 0)
        heap_set(&s->timeouts, &b->timeout_slot, until_ms);
    return b;
}

void blocking_cancel(struct server *s, struct client *c)
{
    struct blocking *b = c->blocking;
    if (b == NULL)
        return;
    for (size_t i = 0; i < b->wait_count; i++)
        dequeue(c->db, &b->waits[i]);
    heap_remove(&s->timeouts, &b->timeout_slot);
    mem_free(&s->mem, b->target);
    mem_free(&s->mem, b);
    c->blocking = NULL;
    c->flags &= ~(uint32_t)CLIENT_BLOCKED;
    s->blocked_count--;
}

/* The client goes on: what it has sent meanwhile is executed after the current
 * batch of events. */
static void unblock(struct server *s, struct client *c)
{
    blocking_cancel(s, c);
    client_request_done(c);
    c->next_resumed = s->resumed;
    s->resumed = c;
}

/* ---- serving ---- */

void blocking_key_ready(struct db *db, const struct arg *key)
{
    if (db->awaited.count == 0)
        return;
    struct dict_entry *e = dict_find(&db->awaited, key->data, key->len);
    if (e == NULL || e->mark != 0)
        return;
    struct server *s = db->server;
    struct ready_key *r = mem_alloc(&s->mem, sizeof(*r) + key->len);
    *r = (struct ready_key){.db = db, .len = key->len};
    memcpy(r->key, key->data, key->len);
    e->mark = 1;
    if (s->ready_last != NULL)
        s->ready_last->next = r;
    else
        s->ready_first = r;
    s->ready_last = r;
}

/* Gives one client its element (or the error that it cannot go where it
 * should) and lets the client go on. */
static void serve_one(struct server *s, struct db *db, struct client *c,
                      struct dict_entry *list)
{
    struct blocking *b = c->blocking;
    if (b->moves) {
        struct arg target = {{.data = b->target}, b->target_len};
        lists_move_reply(s, c, db, list, b->from, &target, b->to);
    } else {
        lists_pop_reply(s, c, db, list, b->from);
    }
    unblock(s, c);
}

static void serve_key(struct server *s, const struct ready_key *r)
{
    struct arg key = {{.data = r->key}, r->len};
    struct dict_entry *queue = dict_find(&r->db->awaited, r->key, r->len);
    if (queue == NULL)
        return;
    queue->mark = 0;
    /* Only those who wait now: one that is served may block again. */
    size_t waiting = 0;
    for (struct wait *w = ((struct wait_queue *)queue->value)->first; w != NULL;
         w = w->next)
        waiting++;
    for (; waiting > 0; waiting--) {
        struct dict_entry *list = db_find(r->db, &key);
        queue = dict_find(&r->db->awaited, r->key, r->len);
        if (queue == NULL || list == NULL || list->kind != VALUE_LIST)
            return;
        struct wait_queue *q = queue->value;
        serve_one(s, r->db, q->first->client, list);
    }
}

void blocking_serve(struct server *s)
{
    while (s->ready_first != NULL) {
        struct ready_key *r = s->ready_first;
        s->ready_first = r->next;
        if (r->next == NULL)
            s->ready_last = NULL;
        serve_key(s, r);
        mem_free(&s->mem, r);
    }
}

void blocking_release(struct server *s)
{
    while (s->ready_first != NULL) {
        struct ready_key *r = s->ready_first;
        s->ready_first = r->next;
        mem_free(&s->mem, r);
    }
    s->ready_last = NULL;
}

/* ---- timeouts ---- */

int64_t blocking_next_timeout(const struct server *s)
{
    const struct heap_item *first = heap_first(&s->timeouts);
    return first == NULL ? -1 : first->at_ms;
}

void blocking_check_timeouts(struct server *s, int64_t now_ms)
{
    const struct heap_item *first = heap_first(&s->timeouts);
    if (first == NULL || first->at_ms > now_ms)
        return;
    struct client *next;
    for (struct client *c = s->clients.first; c != NULL; c = next) {
        next = c->next;
        struct blocking *b = c->blocking;
        if (b == NULL || b->timeout_slot == 0 ||
            heap_at(&s->timeouts, b->timeout_slot) > now_ms)
            continue;
        reply_null_array(s, c);
        unblock(s, c);
    }
}

/* The moment until which to wait; 0: for ever. False: error replied. */
static bool read_timeout(struct server *s, struct client *c,
                         const struct arg *arg, int64_t *until_ms)
{
    long double seconds;
    if (!number_parse_float(arg->data, arg->len, &seconds)) {
        reply_error(s, c, "timeout is not a float or out of range");
        return false;
    }
    long double ms = seconds * 1000;
    /* What is more than fits comes out negative in Redis. */
    if (ms <= -1 || ms >= 0x1p63L) {
        reply_error(s, c, "timeout is negative");
        return false;
    }
    *until_ms = (int64_t)ms;
    if ((long double)*until_ms < ms)
        ++*until_ms; /* rounded up */
    if (*until_ms != 0 &&
        __builtin_add_overflow(*until_ms, server_now_ms(s), until_ms))
        *until_ms = INT64_MAX;
    return true;
}

/* ---- commands ---- */

static void blocking_pop(struct server *s, struct client *c, enum list_end end)
{
    int64_t until_ms;
    if (!read_timeout(s, c, &c->argv[c->argc - 1], &until_ms))
        return;
    for (size_t i = 1; i < c->argc - 1; i++) {
        struct dict_entry *e = db_find(c->db, &c->argv[i]);
        if (e == NULL)
            continue;
        if (lists_need(s, c, e))
            lists_pop_reply(s, c, c->db, e, end);
        return;
    }
    if (s->in_exec) {
        reply_null_array(s, c); /* a transaction cannot wait */
        return;
    }
    struct blocking *b = block(s, c, c->argv + 1, c->argc - 2, until_ms);
    b->from = end;
}

void blpop_command(struct server *s, struct client *c)
{
    blocking_pop(s, c, LIST_HEAD);
}

void brpop_command(struct server *s, struct client *c)
{
    blocking_pop(s, c, LIST_TAIL);
}

void blmove_command(struct server *s, struct client *c)
{
    enum list_end from, to;
    int64_t until_ms;
    if (!lists_read_end(s, c, &c->argv[3], &from) ||
        !lists_read_end(s, c, &c->argv[4], &to) ||
        !read_timeout(s, c, &c->argv[5], &until_ms))
        return;
    struct dict_entry *e = db_find(c->db, &c->argv[1]);
    if (e != NULL) {
        if (lists_need(s, c, e))
            lists_move_reply(s, c, c->db, e, from, &c->argv[2], to);
        return;
    }
    if (s->in_exec) {
        reply_null(s, c);
        return;
    }
    struct blocking *b = block(s, c, &c->argv[1], 1, until_ms);
    b->moves = true;
    b->from = from;
    b->to = to;
    b->target_len = c->argv[2].len;
    b->target = mem_alloc(&s->mem, b->target_len + 1);
    memcpy(b->target, c->argv[2].data, b->target_len);
}
