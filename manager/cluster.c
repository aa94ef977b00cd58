/* The cluster as its owner sees it, and the way of a single command. */
#include "manager/cluster.h"

#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "manager/cluster_parts.h"
#include "manager/errand_reply.h"
#include "manager/lane_choice.h"
#include "manager/log.h"

/* ---- life ---- */

static void node_changed(void *context, struct node *node, struct conn *conn)
{
    struct cluster *c = context;
    if (conn->state == CONN_READY)
        turnstile_look(&c->turnstile);
    else
        c->taught = false; /* what comes back may be another release */
    if (conn->state != CONN_READY || !c->refresh.have)
        refresh_want(c);
    if (conn == &node->conn[LANE_SMALL] && !c->stopping)
        c->hooks.changed(c->hooks.changed_context, conn);
}

static void node_forgotten(void *context, const struct node *node)
{
    const struct cluster *c = context;
    if (c->hooks.forgotten != NULL)
        c->hooks.forgotten(c->hooks.context, &node->options);
}

enum err cluster_new(struct cluster **cluster, struct loop *loop,
                     struct answers *answers, struct sizes *sizes,
                     const struct cluster_options *options,
                     const struct cluster_hooks *hooks)
{
    struct cluster *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return ERR_NOMEM;
    c->loop = loop;
    c->answers = answers;
    answers->gathers = true; /* they come from several nodes */
    c->hooks = *hooks;
    c->options = *options;
    c->nodes = (struct nodes){.loop = loop,
                              .answers = answers,
                              .base = options->base,
                              .sizes = sizes,
                              .bulk = options->bulk,
                              .use_replicas = options->read_from != READ_MASTER,
                              .changed = node_changed,
                              .mapped = refresh_mapped,
                              .forgotten = node_forgotten,
                              .context = c};
    nodes_init(&c->nodes);
    turnstile_init(&c->turnstile, &errand_turnstile, c, options->max_held,
                   options->max_held_bytes);
    c->refresh.map = calloc(1, sizeof(*c->refresh.map));
    c->refresh.spare = malloc(sizeof(*c->refresh.spare));
    enum err e = random_stream_init(&c->random);
    if (c->refresh.map == NULL || c->refresh.spare == NULL)
        e = ERR_NOMEM;
    if (e == ERR_OK)
        e = keyspecs_new(&c->keyspecs);
    if (e != ERR_OK) {
        cluster_free(c);
        return e;
    }
    *cluster = c;
    return ERR_OK;
}

void cluster_free(struct cluster *c)
{
    if (c == NULL)
        return;
    fanouts_release(c);
    c->answers->gathers = false;
    static const enum status_gauge gauges[] = {
        GAUGE_held, GAUGE_nodes, GAUGE_nodes_known, GAUGE_slots_unserved};
    for (size_t i = 0; i < sizeof(gauges) / sizeof(gauges[0]); i++)
        status_gauge_set(c->answers->status, gauges[i], 0);
    nodes_release(&c->nodes);
    errands_release(&c->errands);
    keyspecs_free(c->keyspecs);
    free(c->refresh.map);
    free(c->refresh.spare);
    free(c);
}

void cluster_start(struct cluster *c)
{
    refresh_want(c);
    (void)refresh_tick(c, clock_ns());
}

void cluster_stop(struct cluster *c, const char *reason)
{
    struct passer *p;
    c->stopping = true;
    nodes_stop(&c->nodes, reason);
    while ((p = turnstile_any(&c->turnstile)) != NULL) {
        turnstile_drop(&c->turnstile, p);
        errand_end(
            (struct errand *)((char *)p - offsetof(struct errand, passer)),
            REPLY_UNAVAILABLE, "%s; the command was not executed", reason);
    }
    fanouts_hurry(c);
    (void)readers_flush(c->answers->readers, UINT64_MAX);
}

bool cluster_ready(const struct cluster *c)
{
    return c->started && nodes_any_master(&c->nodes, 0) != NULL;
}

const struct conn *cluster_down(const struct cluster *c)
{
    const struct nodes *n = &c->nodes;
    const struct conn *down = NULL;
    for (uint32_t i = 0; i < n->used; i++) {
        const struct node *node = n->all[i];
        if (node == NULL || (n->master_count > 0 && node->role != NODE_MASTER))
            continue;
        if (down == NULL || !node_ready(node))
            down = &node->conn[LANE_SMALL];
        if (!node_ready(node) && down->error.text[0] != '\0')
            return down;
    }
    return down;
}

bool cluster_none(const struct cluster *c)
{
    return c->none;
}

bool cluster_taught(const struct cluster *c)
{
    return c->taught;
}

void cluster_learn(struct cluster *c, const char *reply, size_t len)
{
    c->taught = true;
    if (keyspecs_learn(c->keyspecs, reply, len) != ERR_OK)
        log_debug("where keys are is known from the built-in table");
}

const struct conn_options *cluster_owner(const struct cluster *c,
                                         const char *key, size_t len)
{
    uint16_t number = c->nodes.owner[slot_of_key(key, len)];
    return number == NODE_NONE ? NULL : &c->nodes.all[number]->options;
}

void cluster_moved(struct cluster *c, const struct conn_options *asked,
                   const char *error, size_t len)
{
    struct redirection r;
    slotmap_redirection(&r, error, len, asked->uri.host);
    if (r.kind != REDIRECT_MOVED || c->stopping)
        return;
    struct node *node = nodes_get(&c->nodes, r.host, r.port);
    if (node == NULL)
        return;
    status_count(c->answers->status, COUNTER_moved, 1);
    nodes_move_slot(&c->nodes, r.slot, node);
    refresh_want(c);
    turnstile_look(&c->turnstile);
}

void cluster_aim(const struct cluster *c, struct conn_options *options)
{
    const struct node *any = nodes_any_master(&c->nodes, 0);
    for (uint32_t i = 0; i < c->nodes.master_count; i++) {
        const struct node *node = c->nodes.all[c->nodes.masters[i]];
        if (node_ready(node) && node->options.uri.port == options->uri.port &&
            strcmp(node->options.uri.host, options->uri.host) == 0)
            return;
    }
    if (any == NULL)
        return;
    memcpy(options->uri.host, any->options.uri.host, sizeof(options->uri.host));
    options->uri.port = any->options.uri.port;
}

void cluster_reload(struct cluster *c)
{
    nodes_reload(&c->nodes);
}

/* ---- rounds ---- */

void cluster_flush(struct cluster *c)
{
    (void)turnstile_turn(&c->turnstile, c->answers->now_ns);
    nodes_flush(&c->nodes);
}

size_t cluster_unsent(const struct cluster *c)
{
    /* Bytes are kept until they are answered. Those of held ones have a bound
     * of their own, for they must not stop the others. */
    size_t unsent = nodes_unsent(&c->nodes);
    size_t kept = c->kept_bytes - c->turnstile.held_bytes;
    return kept > unsent ? kept : unsent;
}

bool cluster_idle(const struct cluster *c)
{
    return c->turnstile.held == 0 && c->delivering == NULL &&
           nodes_idle(&c->nodes);
}

/* Once every node was tried, what serves serves. */
static void see_whether_started(struct cluster *c)
{
    const struct nodes *n = &c->nodes;
    if (c->started || n->master_count == 0)
        return;
    for (uint32_t i = 0; i < n->used; i++)
        if (n->all[i] != NULL && n->all[i]->role != NODE_NAMED &&
            !n->all[i]->tried)
            return;
    const struct node *any = nodes_any_master(n, 0);
    if (any == NULL)
        return;
    c->started = true;
    c->hooks.changed(c->hooks.changed_context,
                     &n->all[any->number]->conn[LANE_SMALL]);
}

uint64_t cluster_tick(struct cluster *c, uint64_t now)
{
    struct status *status = c->answers->status;
    uint64_t next = refresh_tick(c, now);
    next = cluster_sooner(next, nodes_tick(&c->nodes, now));
    see_whether_started(c);
    next = cluster_sooner(next, fanouts_tick(c, now));
    next = cluster_sooner(next, turnstile_turn(&c->turnstile, now));
    nodes_flush(&c->nodes);
    next = cluster_sooner(next, readers_flush(c->answers->readers, now));
    status_gauge_set(status, GAUGE_held, c->turnstile.held);
    status_gauge_set(status, GAUGE_nodes, nodes_count_ready(&c->nodes));
    status_gauge_set(status, GAUGE_nodes_known, nodes_count(&c->nodes));
    status_gauge_set(status, GAUGE_slots_unserved, c->nodes.unserved);
    return next;
}

/* ---- one command ---- */

static void say_cross(struct cluster *c, struct request *req, uint32_t index)
{
    status_count(c->answers->status, COUNTER_error_replies, 1);
    answer_reply(c->answers, req, index, 1, false, KEYSPEC_CROSSSLOT,
                 sizeof(KEYSPEC_CROSSSLOT) - 1);
}

static void say_large_key(struct cluster *c, struct request *req,
                          uint32_t index, const struct framed *command)
{
    struct framed_args args;
    struct resp_arg name = {"the command", 11};
    uint32_t argc;
    if (framed_args(&args, command, &argc) == ERR_OK)
        (void)!framed_arg(&args, &name, NULL);
    if (name.data == NULL)
        name = (struct resp_arg){"the command", 11};
    answer_fail(c->answers, req, index, 1, REPLY_INVALID, "%.*s %s",
                (int)(name.len < 32 ? name.len : 32), name.data,
                KEYSPEC_LARGE_KEY);
}

static void send_one(struct cluster *c, enum route route, const struct run *run,
                     uint32_t index, const struct framed *command,
                     const struct way *way)
{
    struct errand *e = errand_new(c, run, command, 1);
    if (e == NULL) {
        answer_fail(c->answers, run->req, index, 1, REPLY_UNAVAILABLE,
                    "the manager is out of memory; it was not executed");
        return;
    }
    bool keyless = way->spread == SPREAD_ANY;
    e->first = index;
    e->route = (uint8_t)route;
    if (run->count == 1)
        e->hash = run->hash;
    e->passer.slot = keyless ? TURNSTILE_KEYLESS : way->slot;
    e->passer.loose = keyless;
    if (way->readonly && !keyless && c->nodes.use_replicas &&
        route == ROUTE_SHARED)
        e->replica = e->passer.loose = true;
    errand_enter(e);
}

void cluster_one(struct cluster *c, enum route route, const struct run *run,
                 uint32_t index, const struct framed *command)
{
    struct way way;
    enum err e = keyspecs_way(c->keyspecs, command, &way);
    if (e == ERR_INVALID) {
        say_large_key(c, run->req, index, command);
        return;
    }
    if (e != ERR_OK) {
        answer_fail(c->answers, run->req, index, 1, REPLY_INVALID,
                    "the command is not in canonical form");
        return;
    }
    switch (way.spread) {
    case SPREAD_ANY:
    case SPREAD_SLOT:
        send_one(c, route, run, index, command, &way);
        break;
    case SPREAD_SPLIT:
        fanout_split(c, run, index, command, &way);
        break;
    case SPREAD_MASTERS:
    case SPREAD_NODES:
        fanout_masters(c, run, index, command, &way, route);
        break;
    case SPREAD_SCAN:
        fanout_scan(c, run, index, command);
        break;
    case SPREAD_CROSS:
        say_cross(c, run->req, index);
        break;
    }
}

enum err cluster_next(const struct run *run, struct framed *rest, uint32_t i,
                      struct framed *command)
{
    if (i >= run->nparsed)
        return framed_next(rest, command);
    *command = framed_parsed(&run->parsed[i]);
    rest->data += command->len;
    rest->len -= command->len;
    rest->at += command->len;
    return ERR_OK;
}

void cluster_send(struct cluster *c, enum route route, struct run *run)
{
    if (route == ROUTE_SHARED)
        (void)lane_choose(run, c->nodes.sizes, c->options.bulk,
                          c->answers->now_ns);
    if (run->count > 1 && !run->independent) {
        cluster_batch(c, route, run);
        return;
    }
    struct framed rest =
        framed_view(run->data, run->len, run->blobs, run->nblobs);
    struct framed command;
    /* The request is gone with the answer to its last command. */
    uint32_t first = run->first, count = run->count;
    for (uint32_t i = 0; i < count; i++) {
        if (cluster_next(run, &rest, i, &command) != ERR_OK)
            return; /* can't be: the framing was checked */
        cluster_one(c, route, run, first + i, &command);
    }
}
