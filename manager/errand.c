/* Errands on their way out: memory, where to, and the bytes that go there. */
#include "manager/errand.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "manager/cluster_parts.h"
#include "manager/errand_reply.h"

#define SLAB_ERRANDS 64
#define ASKING "*1\r\n$6\r\nASKING\r\n"
#define ASKING_LEN (sizeof(ASKING) - 1)

/* ---- memory ---- */

static bool add_slab(struct errands *pool)
{
    struct errand **slabs =
        realloc(pool->slabs, (pool->slab_count + 1) * sizeof(struct errand *));
    if (slabs == NULL)
        return false;
    pool->slabs = slabs;
    struct errand *slab = calloc(SLAB_ERRANDS, sizeof(*slab));
    if (slab == NULL)
        return false;
    slabs[pool->slab_count++] = slab;
    for (size_t i = 0; i < SLAB_ERRANDS; i++) {
        slab[i].free = pool->free;
        pool->free = &slab[i];
    }
    return true;
}

void errands_release(struct errands *pool)
{
    for (uint32_t i = 0; i < pool->slab_count; i++)
        free(pool->slabs[i]);
    free(pool->slabs);
    memset(pool, 0, sizeof(*pool));
}

/* Copies the commands' large arguments, as far as they are here. */
static bool copy_blobs(struct errand *e, const struct run *run,
                       const struct framed *commands)
{
    e->blobs = malloc(commands->nblobs * sizeof(*e->blobs));
    if (e->blobs == NULL)
        return false;
    e->nblobs = commands->nblobs;
    for (uint32_t i = 0; i < e->nblobs; i++) {
        e->blobs[i] = commands->blobs[i];
        e->blobs[i].at -= commands->at;
    }
    e->source = run->source;
    e->source->refs++;
    return true;
}

struct errand *errand_new(struct cluster *c, const struct run *run,
                          const struct framed *commands, uint32_t count)
{
    if (c->errands.free == NULL && !add_slab(&c->errands))
        return NULL;
    struct errand *e = c->errands.free;
    char *data = e->inlined;
    if (commands->len > ERRAND_INLINE && (data = malloc(commands->len)) == NULL)
        return NULL;
    c->errands.free = e->free;
    c->kept_bytes += commands->len;
    memset(e, 0, offsetof(struct errand, inlined));
    memcpy(data, commands->data, commands->len);
    e->taker.ops = &errand_taker;
    e->cluster = c;
    e->req = run->req;
    e->client = run->req->client;
    e->count = count;
    e->ask = e->node = NODE_NONE;
    e->lane = run->req->lane;
    e->len = e->first_len = commands->len;
    e->data = data;
    e->passer.bytes = e->len;
    if (count > 1)
        e->items = calloc(count, sizeof(*e->items));
    if ((count > 1 && e->items == NULL) ||
        (commands->nblobs > 0 && !copy_blobs(e, run, commands))) {
        errand_free(e);
        return NULL;
    }
    return e;
}

void errand_free(struct errand *e)
{
    struct errands *pool = &e->cluster->errands;
    e->cluster->kept_bytes -= e->len;
    if (e->data != e->inlined)
        free(e->data);
    if (e->nblobs > 0)
        source_unref(e->source);
    free(e->blobs);
    free(e->items);
    free(e->units);
    buffer_release(&e->collected);
    e->free = pool->free;
    pool->free = e;
}

/* ---- the end ---- */

/* How many of its commands have no answer yet. */
static uint32_t untold(const struct errand *e)
{
    uint32_t count = 0;
    if (e->items == NULL)
        return 1;
    for (uint32_t i = 0; i < e->count; i++)
        count += !e->items[i].told;
    return count;
}

void errand_end(struct errand *e, enum reply_status status, const char *fmt,
                ...)
{
    struct answers *a = e->cluster->answers;
    struct err_text why;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why.text, sizeof(why.text), fmt, ap);
    va_end(ap);
    if (e->fanout != NULL) {
        e->fanout->collecting -= buffer_len(&e->collected);
        fanout_fail(e->fanout, e->part, status, why.text);
    } else if (e->items == NULL)
        answer_fail(a, e->req, e->first, 1, status, "%s", why.text);
    else
        for (uint32_t i = 0; i < e->count; i++)
            if (!e->items[i].told)
                answer_fail(a, e->req, e->items[i].index, 1, status, "%s",
                            why.text);
    errand_free(e);
}

bool errand_over(struct errand *e)
{
    struct answers *a = e->cluster->answers;
    if (e->req->reader->dead) {
        if (e->fanout != NULL) {
            errand_end(e, REPLY_UNAVAILABLE, "its requester is gone");
            return true;
        }
        answer_gone(a, e->req, untold(e));
        errand_free(e);
        return true;
    }
    if (!request_expired(a, e->req))
        return false;
    errand_end(e, REPLY_EXPIRED,
               "the deadline passed while the command waited for the master "
               "of its slot; it was not executed");
    return true;
}

/* ---- where to ---- */

/* A gate's target is a node, and whether the errand takes the small connection
 * there because that of its lane is away. Two connections keep no order, so
 * that who is on the other way waits until the gate is empty. */
#define WAYS 2
static_assert(NODES_MAX * WAYS <= TURNSTILE_TARGETS, "all have a number");

static uint16_t way_to(const struct errand *e, const struct node *node)
{
    if (node == NULL || !node_ready(node))
        return TURNSTILE_NOWHERE;
    bool detour = e->route == ROUTE_SHARED && e->lane != LANE_SMALL &&
                  node->conn[e->lane].state != CONN_READY;
    return (uint16_t)(node->number * WAYS + detour);
}

static uint16_t target(void *context, struct passer *p)
{
    const struct cluster *c = context;
    struct errand *e = errand_of(p);
    const struct nodes *n = &c->nodes;
    if (e->ask != NODE_NONE) {
        const struct node *node = n->all[e->ask];
        if (node != NULL && node_ready(node))
            return way_to(e, node);
        if (node != NULL && (!node_down(node) || !c->options.base->keep_unsent))
            return TURNSTILE_NOWHERE;
        e->ask = NODE_NONE; /* it is gone: the owner knows better by now */
    }
    if (p->slot == TURNSTILE_KEYLESS)
        return way_to(e, nodes_any_master(n, e->req->client));
    uint16_t owner = n->owner[p->slot];
    if (owner == NODE_NONE)
        return TURNSTILE_NOWHERE;
    if (e->replica) {
        const struct node *node = nodes_replica(n, owner, e->req->client);
        if (node != NULL || c->options.read_from == READ_REPLICA)
            return way_to(e, node);
        e->replica = p->loose = false;
    }
    return way_to(e, n->all[owner]);
}

/* Whether it can't go for longer than a moment. */
static bool is_down(const struct errand *e)
{
    const struct nodes *n = &e->cluster->nodes;
    uint16_t slot = e->passer.slot;
    if (e->ask != NODE_NONE)
        return n->all[e->ask] != NULL && node_down(n->all[e->ask]);
    if (slot == TURNSTILE_KEYLESS)
        return nodes_any_master(n, 0) == NULL;
    if (n->owner[slot] == NODE_NONE)
        return true;
    if (e->replica)
        return nodes_replica(n, n->owner[slot], 0) == NULL;
    return node_down(n->all[n->owner[slot]]);
}

static void end_down(struct errand *e)
{
    const struct cluster *c = e->cluster;
    const struct conn *conn = cluster_down(c);
    uint16_t slot = e->passer.slot, at = e->ask;
    if (at == NODE_NONE && slot != TURNSTILE_KEYLESS)
        at = c->nodes.owner[slot];
    if (at != NODE_NONE)
        conn = &c->nodes.all[at]->conn[LANE_SMALL];
    errand_end(e, REPLY_UNAVAILABLE,
               "%s is down (%.200s); the command was not executed",
               e->ask != NODE_NONE ? "the node that its slot moves to"
               : e->replica        ? "every replica of its slot's master"
               : slot == TURNSTILE_KEYLESS ? "Redis"
                                           : "the master of its slot",
               conn != NULL && conn->error.text[0] != '\0' ? conn->error.text
                                                           : "connecting");
}

static void look(void *context, struct passer *p)
{
    struct cluster *c = context;
    struct errand *e = errand_of(p);
    bool over = e->req->reader->dead || request_expired(c->answers, e->req);
    bool down = !over && !c->options.base->keep_unsent && is_down(e);
    if (!over && !down)
        return;
    turnstile_drop(&c->turnstile, p);
    if (over)
        (void)errand_over(e);
    else
        end_down(e);
}

void errand_enter(struct errand *e)
{
    struct cluster *c = e->cluster;
    if (e->route != ROUTE_SHARED)
        e->passer.loose = true;
    if (!c->options.base->keep_unsent &&
        target(c, &e->passer) == TURNSTILE_NOWHERE && is_down(e)) {
        end_down(e);
        refresh_want(c);
        return;
    }
    if (turnstile_enter(&c->turnstile, &e->passer) != ERR_OK)
        errand_end(e, REPLY_UNAVAILABLE,
                   "%u commands wait already for slots whose masters are away "
                   "(half of --max-inflight, --max-inflight-bytes); the "
                   "command was not executed",
                   c->turnstile.held);
}

/* ---- the bytes ---- */

/* Puts what is to go (again) together in the cluster's scratch memory. */
struct composition {
    struct buffer *out;
    struct blob *blobs;
    uint32_t nblobs;
    uint32_t *units; /* of a batch */
    uint32_t count;
    size_t first_len;
};

static enum err compose_command(struct composition *m,
                                const struct framed *command, bool asking)
{
    enum err e = ERR_OK;
    if (asking)
        e = buffer_append(m->out, ASKING, ASKING_LEN);
    size_t begin = buffer_len(m->out);
    if (m->first_len == 0)
        m->first_len = asking ? ASKING_LEN : command->len;
    if (e == ERR_OK)
        e = buffer_append(m->out, command->data, command->len);
    for (uint32_t i = 0; m->blobs != NULL && i < command->nblobs; i++) {
        struct blob blob = command->blobs[i];
        blob.at = blob.at - command->at + begin;
        m->blobs[m->nblobs++] = blob;
    }
    m->count += asking ? 2 : 1;
    return e;
}

/* A batch: what of it is to be done. A transaction is asked for once, by its
 * MULTI. */
static enum err compose_batch(struct errand *e, struct composition *m,
                              bool asking)
{
    struct framed rest = framed_view(e->data, e->len, e->blobs, e->nblobs);
    struct framed command;
    for (uint32_t i = 0; i < e->count; i++) {
        struct errand_item *item = &e->items[i];
        if (framed_next(&rest, &command) != ERR_OK)
            return ERR_PROTO;
        if (item->state != ITEM_DUE)
            continue;
        bool within =
            item->group != 0 && i > 0 && e->items[i - 1].group == item->group;
        bool ask = asking && !within;
        if (ask)
            m->units[m->count] = ERRAND_ASKING;
        m->units[m->count + ask] = i;
        enum err err = compose_command(m, &command, ask);
        if (err != ERR_OK)
            return err;
        item->state = ITEM_SENT;
    }
    return ERR_OK;
}

static enum err compose(struct errand *e, struct composition *m, bool asking)
{
    if (e->nblobs > 0) {
        m->blobs = malloc(e->nblobs * sizeof(*m->blobs));
        if (m->blobs == NULL)
            return ERR_NOMEM;
    }
    if (e->items == NULL) {
        struct framed command =
            framed_view(e->data, e->len, e->blobs, e->nblobs);
        return compose_command(m, &command, asking);
    }
    m->units = malloc(2 * (size_t)e->count * sizeof(*m->units));
    return m->units == NULL ? ERR_NOMEM : compose_batch(e, m, asking);
}

static bool is_whole(const struct errand *e)
{
    for (uint32_t i = 0; e->items != NULL && i < e->count; i++)
        if (e->items[i].state != ITEM_DUE)
            return false;
    return true;
}

static enum err append(struct errand *e, struct node *node,
                       const struct run *run, struct err_text *why)
{
    struct cluster *c = e->cluster;
    struct conn *conn = &node->conn[e->detour ? LANE_SMALL : e->lane];
    struct status_node *row = node->place.row;
    uint32_t due = e->due;
    enum err err;
    /* Before a connection of its own fails at once: that takes it back, and
     * the errand is gone then. */
    status_node_sent(row, due);
    if (e->route != ROUTE_SHARED)
        err = c->hooks.side(c->hooks.context, (enum route)e->route,
                            &node->options, run, why);
    else if ((err = conn_append(conn, run)) != ERR_OK)
        err_say(why, err, "the manager is out of memory");
    if (err != ERR_OK)
        status_node_unsent(row, due);
    return err;
}

/* All of it as it is. */
static enum err send_whole(struct errand *e, struct node *node,
                           struct err_text *why)
{
    struct run run = {.req = e->fanout == NULL ? e->req : NULL,
                      .taker = &e->taker,
                      .count = e->count,
                      .hash = e->hash,
                      .data = e->data,
                      .len = e->len,
                      .first_len = e->first_len,
                      .source = e->source,
                      .blobs = e->blobs,
                      .nblobs = e->nblobs,
                      .spoils = e->req};
    for (uint32_t i = 0; e->items != NULL && i < e->count; i++)
        e->items[i].state = ITEM_SENT;
    free(e->units);
    e->units = NULL;
    e->due = e->count;
    return append(e, node, &run, why);
}

/* Some of it, or with ASKING. */
static enum err send_composed(struct errand *e, struct node *node, bool asking,
                              struct err_text *why)
{
    struct buffer out = {0};
    struct composition m = {.out = &out};
    enum err err = compose(e, &m, asking);
    free(e->units);
    e->units = m.units;
    e->due = m.count;
    struct run run = {.req = e->fanout == NULL ? e->req : NULL,
                      .taker = &e->taker,
                      .count = m.count,
                      .data = buffer_head(&out),
                      .len = buffer_len(&out),
                      .first_len = m.first_len,
                      .source = e->source,
                      .blobs = m.blobs,
                      .nblobs = m.nblobs,
                      .spoils = e->req};
    if (err == ERR_OK)
        err = append(e, node, &run, why);
    else
        err_say(why, err, "the manager is out of memory");
    free(m.blobs);
    buffer_release(&out);
    return err;
}

static void go(void *context, struct passer *p, uint16_t way)
{
    uint16_t number = way / WAYS;
    struct cluster *c = context;
    struct errand *e = errand_of(p);
    struct node *node = c->nodes.all[number];
    struct err_text why;
    e->asking = e->ask == number;
    e->detour = way % WAYS;
    e->node = number;
    e->ask = NODE_NONE;
    e->redirected = false;
    e->again_ns = 0;
    e->sent_ns = c->answers->now_ns;
    enum err err = !e->asking && is_whole(e)
                       ? send_whole(e, node, &why)
                       : send_composed(e, node, e->asking, &why);
    if (err == ERR_OK)
        return;
    turnstile_leave(&c->turnstile, p);
    errand_end(e, REPLY_UNAVAILABLE, "%s; the command was not executed",
               why.text);
}

const struct turnstile_ops errand_turnstile = {
    .target = target, .go = go, .look = look, .overtaken = errand_overtaken};
