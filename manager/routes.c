/* Shared connections, and pools of connections for one request at a time. */
#include "manager/routes.h"

#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "manager/lane_choice.h"
#include "manager/log.h"

/* How long an unused connection of a pool is kept. */
#define SIDE_IDLE_NS (10 * NS_PER_S)
#define CONTROL_CONNECTIONS 2
/* SCRIPT KILL goes to all masters of a cluster. */
#define CONTROL_CONNECTIONS_CLUSTER 64

struct side {
    struct conn conn;
    bool made;                   /* conn is initialised */
    struct conn_options options; /* of a cluster's node; else not used */
    uint64_t idle_ns;            /* since when it serves nobody */
};

static enum err send_to_node(void *context, enum route route,
                             const struct conn_options *options,
                             const struct run *run, struct err_text *why);

/* Nobody waits for word of these: who sends looks at their state. */
static void side_changed(void *context, struct conn *c)
{
    (void)context;
    (void)c;
}

/* ---- subscriptions in a cluster ---- */

static void remapped(void *context)
{
    struct routes *r = context;
    pubsub_places_changed(r->pubsub);
}

static void forgotten(void *context, const struct conn_options *options)
{
    struct routes *r = context;
    pubsub_forget(r->pubsub, options);
}

static const struct conn_options *place_of(void *context, enum topic_kind kind,
                                           const char *name, size_t len)
{
    struct routes *r = context;
    if (r->cluster == NULL || kind != TOPIC_SHARD)
        return &r->pubsub_options;
    return cluster_owner(r->cluster, name, len);
}

static void place_moved(void *context, const struct conn_options *asked,
                        const char *error, size_t len)
{
    struct routes *r = context;
    if (r->cluster != NULL)
        cluster_moved(r->cluster, asked, error, len);
}

void routes_set_pubsub(struct routes *r, struct pubsub *pubsub)
{
    const struct pubsub_places places = {place_of, place_moved, r};
    r->pubsub = pubsub;
    if (r->cluster != NULL)
        pubsub_spread(pubsub, &places);
}

enum err routes_init(struct routes *r, struct loop *loop,
                     struct answers *answers, struct conn_options *options,
                     uint32_t shared, bool bulk, uint32_t dedicated,
                     const struct cluster_options *cluster,
                     void (*changed)(void *context, struct conn *c),
                     void *context)
{
    *r = (struct routes){
        .loop = loop,
        .answers = answers,
        .options = options,
        .dedicated = {.max = dedicated,
                      .what = "dedicated",
                      .option = "--dedicated-connections"},
        .control = {.max = cluster == NULL ? CONTROL_CONNECTIONS
                                           : CONTROL_CONNECTIONS_CLUSTER,
                    .what = "control"},
        .changed = changed,
        .context = context,
    };
    r->shared = calloc(shared, sizeof(*r->shared));
    r->dedicated.sides = calloc(dedicated + 1, sizeof(struct side));
    r->control.sides = calloc(r->control.max, sizeof(struct side));
    if (r->shared == NULL || r->dedicated.sides == NULL ||
        r->control.sides == NULL)
        return ERR_NOMEM;
    for (; r->shared_count < shared; r->shared_count++) {
        enum err e = conn_init(&r->shared[r->shared_count], loop, options,
                               answers, changed, context);
        if (e != ERR_OK)
            return e;
        r->shared[r->shared_count].pipeline.sizes = &r->sizes;
    }
    if (cluster != NULL) {
        const struct cluster_hooks hooks = {send_to_node, changed,   context,
                                            remapped,     forgotten, r};
        r->pubsub_options = *options;
        enum err e =
            cluster_new(&r->cluster, loop, answers, &r->sizes, cluster, &hooks);
        if (e != ERR_OK)
            return e;
    }
    if (!bulk)
        return ERR_OK;
    enum err e = conn_init(&r->bulk, loop, options, answers, side_changed, r);
    if (e != ERR_OK)
        return e;
    r->has_bulk = true;
    r->bulk.bulk = true;
    r->bulk.pipeline.sizes = &r->sizes;
    return ERR_OK;
}

static void pool_release(struct side_pool *pool)
{
    for (uint32_t i = 0; pool->sides != NULL && i < pool->max; i++)
        if (pool->sides[i].made)
            conn_release(&pool->sides[i].conn);
    free(pool->sides);
    pool->sides = NULL;
}

void routes_release(struct routes *r)
{
    for (uint32_t i = 0; i < r->shared_count; i++)
        conn_release(&r->shared[i]);
    free(r->shared);
    r->shared = NULL;
    r->shared_count = 0;
    if (r->has_bulk)
        conn_release(&r->bulk);
    r->has_bulk = false;
    cluster_free(r->cluster);
    r->cluster = NULL;
    pool_release(&r->dedicated);
    pool_release(&r->control);
}

void routes_start(struct routes *r)
{
    if (r->cluster != NULL) {
        cluster_start(r->cluster);
        return;
    }
    for (uint32_t i = 0; i < r->shared_count; i++)
        conn_start(&r->shared[i], true);
    if (r->has_bulk)
        conn_start(&r->bulk, true);
}

const struct conn *routes_down(const struct routes *r)
{
    if (r->cluster != NULL)
        return cluster_down(r->cluster);
    for (uint32_t i = 0; i < r->shared_count; i++)
        if (r->shared[i].state != CONN_READY)
            return &r->shared[i];
    return NULL;
}

bool routes_ready(const struct routes *r)
{
    return r->cluster != NULL ? cluster_ready(r->cluster)
                              : routes_down(r) == NULL;
}

bool routes_teaches(const struct routes *r, const struct conn *c)
{
    return r->cluster != NULL ? !cluster_taught(r->cluster)
                              : c == &r->shared[0];
}

void routes_learn(struct routes *r, const char *reply, size_t len)
{
    if (r->cluster != NULL)
        cluster_learn(r->cluster, reply, len);
}

const struct conn_options *routes_pubsub_options(struct routes *r)
{
    return r->cluster != NULL ? &r->pubsub_options : r->options;
}

/* Takes over what is not of one node alone. */
static void renew(struct conn_options *of, const struct conn_options *from)
{
    struct conn_options renewed = *from;
    memcpy(renewed.uri.host, of->uri.host, sizeof(renewed.uri.host));
    renewed.uri.port = of->uri.port;
    *of = renewed;
}

void routes_reload(struct routes *r)
{
    struct side_pool *pools[] = {&r->dedicated, &r->control};
    if (r->cluster != NULL)
        cluster_reload(r->cluster);
    /* Also of what was thought to be a cluster at first: see go_alone. */
    renew(&r->pubsub_options, r->options);
    for (size_t p = 0; p < 2; p++)
        for (uint32_t i = 0; i < pools[p]->used; i++)
            renew(&pools[p]->sides[i].options, r->options);
}

static void pool_stop(struct side_pool *pool, const char *reason)
{
    for (uint32_t i = 0; i < pool->max; i++)
        if (pool->sides[i].made)
            conn_stop(&pool->sides[i].conn, reason);
}

void routes_stop(struct routes *r, const char *reason)
{
    /* What comes back from these may be held by the cluster. */
    pool_stop(&r->dedicated, reason);
    pool_stop(&r->control, reason);
    if (r->cluster != NULL)
        cluster_stop(r->cluster, reason);
    for (uint32_t i = 0; i < r->shared_count; i++)
        conn_stop(&r->shared[i], reason);
    if (r->has_bulk)
        conn_stop(&r->bulk, reason);
}

static void pool_move(struct side_pool *pool, const char *reason)
{
    for (uint32_t i = 0; i < pool->used; i++)
        if (pool->sides[i].made)
            conn_move(&pool->sides[i].conn, reason);
}

void routes_move(struct routes *r, const char *reason)
{
    for (uint32_t i = 0; i < r->shared_count; i++)
        conn_move(&r->shared[i], reason);
    if (r->has_bulk)
        conn_move(&r->bulk, reason);
    pool_move(&r->dedicated, reason);
    pool_move(&r->control, reason);
}

/* ---- sending ---- */

static void fail(struct routes *r, const struct run *run, const char *text)
{
    answer_fail(r->answers, run->req, run->first, run->count, REPLY_UNAVAILABLE,
                "%s", text);
}

/* The connection of a run: that of its request's lane. */
static struct conn *choose(struct routes *r, struct run *run)
{
    bool bulk = r->has_bulk && r->bulk.state == CONN_READY;
    enum lane lane = lane_choose(run, &r->sizes, bulk, r->answers->now_ns);
    return lane == LANE_BULK ? &r->bulk
                             : &r->shared[run->req->client % r->shared_count];
}

static void send_shared(struct routes *r, struct run *run)
{
    struct conn *c = choose(r, run);
    if (c->state != CONN_READY && !r->options->keep_unsent) {
        answer_fail(r->answers, run->req, run->first, run->count,
                    REPLY_UNAVAILABLE,
                    "Redis is down (%s); the command was not executed",
                    c->error.text[0] ? c->error.text : "connecting");
        return;
    }
    if (conn_append(c, run) != ERR_OK)
        fail(r, run, "the manager is out of memory");
}

/* A connection of the pool that serves nobody, a ready one if there is any; of
 * a cluster's (`options` not NULL) rather one to that node. */
static struct side *free_side(struct side_pool *pool,
                              const struct conn_options *options)
{
    struct side *best = NULL;
    for (uint32_t i = 0; i < pool->max; i++) {
        struct side *s = &pool->sides[i];
        if (s->made && !pipeline_idle(&s->conn.pipeline))
            continue;
        bool there = options == NULL ||
                     (s->options.uri.port == options->uri.port &&
                      strcmp(s->options.uri.host, options->uri.host) == 0);
        if (s->made && s->conn.state == CONN_READY && there)
            return s;
        if (best == NULL || (s->made && !best->made && there))
            best = s;
    }
    return best;
}

/* Makes it ready to be used for that server, which it need not be connected to
 * yet. */
static enum err prepare_side(struct routes *r, struct side_pool *pool,
                             struct side *s, const struct conn_options *options)
{
    if (options != NULL && s->made && s->conn.state != CONN_OFF &&
        (s->options.uri.port != options->uri.port ||
         strcmp(s->options.uri.host, options->uri.host) != 0))
        conn_stop(&s->conn, "it goes to another node");
    if (options != NULL)
        s->options = *options;
    if (s->made)
        return ERR_OK;
    enum err e =
        conn_init(&s->conn, r->loop, options == NULL ? r->options : &s->options,
                  r->answers, side_changed, r);
    if (e != ERR_OK)
        return e;
    s->made = true;
    s->conn.bulk = true; /* nobody else waits behind a long reply */
    if (pool->used <= (uint32_t)(s - pool->sides))
        pool->used = (uint32_t)(s - pool->sides) + 1;
    return ERR_OK;
}

static enum err send_side(struct routes *r, struct side_pool *pool,
                          const struct conn_options *options,
                          const struct run *run, struct err_text *why)
{
    struct side *s = free_side(pool, options);
    if (s == NULL)
        return err_say(why, ERR_BUSY, "all %u %s connections are busy%s%s",
                       pool->max, pool->what, pool->option ? ": raise " : "",
                       pool->option ? pool->option : "");
    enum err e = prepare_side(r, pool, s, options);
    if (e == ERR_OK)
        e = conn_append(&s->conn, run);
    if (e != ERR_OK)
        return err_say(why, e, "the manager is out of memory");
    if (s->conn.state == CONN_OFF)
        conn_start(&s->conn, false);
    else
        conn_flush(&s->conn);
    return ERR_OK;
}

static enum err send_to_node(void *context, enum route route,
                             const struct conn_options *options,
                             const struct run *run, struct err_text *why)
{
    struct routes *r = context;
    return send_side(r, route == ROUTE_CONTROL ? &r->control : &r->dedicated,
                     options, run, why);
}

static void send_alone(struct routes *r, struct side_pool *pool,
                       const struct run *run)
{
    struct err_text why;
    if (send_side(r, pool, NULL, run, &why) != ERR_OK)
        answer_fail(r->answers, run->req, run->first, run->count,
                    REPLY_UNAVAILABLE, "%s; the command was not executed",
                    why.text);
}

void routes_send(struct routes *r, enum route route, struct run *run)
{
    if (route == ROUTE_SUBSCRIBE)
        pubsub_request(r->pubsub, run);
    else if (r->cluster != NULL)
        cluster_send(r->cluster, route, run);
    else if (route == ROUTE_DEDICATED)
        send_alone(r, &r->dedicated, run);
    else if (route == ROUTE_CONTROL)
        send_alone(r, &r->control, run);
    else
        send_shared(r, run);
}

void routes_flush(struct routes *r)
{
    if (r->cluster != NULL) {
        cluster_flush(r->cluster);
        return;
    }
    for (uint32_t i = 0; i < r->shared_count; i++)
        conn_flush(&r->shared[i]);
    if (r->has_bulk)
        conn_flush(&r->bulk);
}

size_t routes_unsent(const struct routes *r)
{
    if (r->cluster != NULL)
        return cluster_unsent(r->cluster);
    size_t sum = 0;
    for (uint32_t i = 0; i < r->shared_count; i++)
        sum += buffer_len(&r->shared[i].pipeline.out);
    if (r->has_bulk)
        sum += buffer_len(&r->bulk.pipeline.out);
    return sum;
}

bool routes_shared_idle(const struct routes *r)
{
    if (r->cluster != NULL)
        return cluster_idle(r->cluster);
    for (uint32_t i = 0; i < r->shared_count; i++)
        if (!pipeline_idle(&r->shared[i].pipeline))
            return false;
    return !r->has_bulk || pipeline_idle(&r->bulk.pipeline);
}

static uint32_t kill_in_pool(struct side_pool *pool, uint64_t client)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < pool->max; i++) {
        struct conn *c = &pool->sides[i].conn;
        const struct request *req =
            pool->sides[i].made ? pipeline_front(&c->pipeline) : NULL;
        if (req == NULL || req->client != client)
            continue;
        conn_stop(c, "its connection was closed by the channel's owner");
        count++;
    }
    return count;
}

uint32_t routes_kill_client(struct routes *r, uint64_t client)
{
    return kill_in_pool(&r->dedicated, client) +
           kill_in_pool(&r->control, client);
}

/* ---- time ---- */

static uint64_t sooner(uint64_t a, uint64_t b)
{
    if (a == 0 || b == 0)
        return a + b;
    return a < b ? a : b;
}

/* A connection of a pool: closed when its requester is gone or out of time,
 * or when nobody has used it for a while. A blocked one may be silent. */
static uint64_t tick_side(struct side *s, uint64_t now)
{
    struct conn *c = &s->conn;
    if (c->state == CONN_OFF)
        return 0;
    if (pipeline_idle(&c->pipeline)) {
        if (s->idle_ns == 0)
            s->idle_ns = now;
        if (now - s->idle_ns >= SIDE_IDLE_NS) {
            conn_stop(c, "it was not used");
            return 0;
        }
        return s->idle_ns + SIDE_IDLE_NS;
    }
    s->idle_ns = 0;
    const struct request *req = pipeline_front(&c->pipeline);
    if (req == NULL)
        return conn_tick(c, now); /* one part of many: it blocks nowhere */
    if (req->reader->dead) {
        conn_stop(c, "its requester is gone");
        return 0;
    }
    if (req->deadline_ns != 0 && now >= req->deadline_ns) {
        conn_stop(c, "the deadline passed, its connection was closed");
        return 0;
    }
    uint64_t deadline = req->deadline_ns; /* it may be answered by the tick */
    return sooner(conn_tick_blocking(c, now), deadline);
}

static uint64_t tick_pool(struct side_pool *pool, uint64_t now)
{
    uint64_t next = 0;
    for (uint32_t i = 0; i < pool->used; i++)
        if (pool->sides[i].made)
            next = sooner(next, tick_side(&pool->sides[i], now));
    return next;
}

/* A server that was asked whether it is of a cluster is of none. */
static void go_alone(struct routes *r)
{
    static const char why[] = "the server is not part of a cluster";
    log_info("%s", why);
    cluster_stop(r->cluster, why);
    cluster_free(r->cluster);
    r->cluster = NULL;
    routes_start(r);
}

uint64_t routes_tick(struct routes *r, uint64_t now)
{
    uint64_t next =
        sooner(tick_pool(&r->dedicated, now), tick_pool(&r->control, now));
    if (r->cluster != NULL && cluster_none(r->cluster))
        go_alone(r);
    if (r->cluster != NULL) {
        cluster_aim(r->cluster, &r->pubsub_options);
        return sooner(next, cluster_tick(r->cluster, now));
    }
    for (uint32_t i = 0; i < r->shared_count; i++)
        next = sooner(next, conn_tick(&r->shared[i], now));
    if (r->has_bulk)
        next = sooner(next, conn_tick(&r->bulk, now));
    return next;
}
