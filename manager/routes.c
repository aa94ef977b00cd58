/* Shared connections, and pools of connections for one request at a time. */
#include "manager/routes.h"

#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"

/* How long an unused connection of a pool is kept. */
#define SIDE_IDLE_NS (10 * NS_PER_S)
#define CONTROL_CONNECTIONS 2

struct side {
    struct conn conn;
    bool made;        /* conn is initialised */
    uint64_t idle_ns; /* since when it serves nobody */
};

/* Nobody waits for word of these: who sends looks at their state. */
static void side_changed(void *context, struct conn *c)
{
    (void)context;
    (void)c;
}

enum err routes_init(struct routes *r, struct loop *loop,
                     struct answers *answers, struct conn_options *options,
                     uint32_t shared, bool bulk, uint32_t dedicated,
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
        .control = {.max = CONTROL_CONNECTIONS, .what = "control"},
        .changed = changed,
        .context = context,
    };
    r->shared = calloc(shared, sizeof(*r->shared));
    r->dedicated.sides = calloc(dedicated + 1, sizeof(struct side));
    r->control.sides = calloc(CONTROL_CONNECTIONS, sizeof(struct side));
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
    pool_release(&r->dedicated);
    pool_release(&r->control);
}

void routes_start(struct routes *r)
{
    for (uint32_t i = 0; i < r->shared_count; i++)
        conn_start(&r->shared[i], true);
    if (r->has_bulk)
        conn_start(&r->bulk, true);
}

bool routes_ready(const struct routes *r)
{
    for (uint32_t i = 0; i < r->shared_count; i++)
        if (r->shared[i].state != CONN_READY)
            return false;
    return true;
}

static void pool_stop(struct side_pool *pool, const char *reason)
{
    for (uint32_t i = 0; i < pool->max; i++)
        if (pool->sides[i].made)
            conn_stop(&pool->sides[i].conn, reason);
}

void routes_stop(struct routes *r, const char *reason)
{
    for (uint32_t i = 0; i < r->shared_count; i++)
        conn_stop(&r->shared[i], reason);
    if (r->has_bulk)
        conn_stop(&r->bulk, reason);
    pool_stop(&r->dedicated, reason);
    pool_stop(&r->control, reason);
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

/* The lane that a run would take by itself. */
static enum lane lane_of(const struct routes *r, const struct run *run,
                         const struct sender *s)
{
    if (!r->has_bulk || r->bulk.state != CONN_READY)
        return LANE_SMALL;
    if (run->source != NULL && run->source->bytes >= LANE_LARGE)
        return LANE_BULK;
    if (run->hash != 0 && sizes_is_large(&r->sizes, run->hash))
        return LANE_BULK;
    uint64_t now = r->answers->now_ns;
    return s->large_ns != 0 && now - s->large_ns < LANE_MEMORY_NS ? LANE_BULK
                                                                  : LANE_SMALL;
}

/* The connection of a run: that of its request's lane. A sender stays on the
 * lane on which it has something in flight, so that its order holds. */
static struct conn *choose(struct routes *r, struct run *run)
{
    struct request *req = run->req;
    struct sender *s = req->reader->sender;
    if (run->count == 1)
        run->hash = sizes_hash(run->data, run->len);
    if (!req->laned) {
        enum lane lane = lane_of(r, run, s);
        if (s->inflight[!lane] > 0)
            lane = !lane;
        req->laned = true;
        req->lane = (uint8_t)lane;
        s->inflight[lane]++;
    }
    return req->lane == LANE_BULK ? &r->bulk
                                  : &r->shared[req->client % r->shared_count];
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

/* A connection of the pool that serves nobody, a ready one if there is any. */
static struct side *free_side(struct side_pool *pool)
{
    struct side *best = NULL;
    for (uint32_t i = 0; i < pool->max; i++) {
        struct side *s = &pool->sides[i];
        if (s->made && !pipeline_idle(&s->conn.pipeline))
            continue;
        if (s->made && s->conn.state == CONN_READY)
            return s;
        if (best == NULL || (s->made && !best->made))
            best = s;
    }
    return best;
}

static void send_side(struct routes *r, struct side_pool *pool,
                      const struct run *run)
{
    struct side *s = free_side(pool);
    if (s == NULL) {
        answer_fail(r->answers, run->req, run->first, run->count,
                    REPLY_UNAVAILABLE,
                    "all %u %s connections are busy%s%s; the command was not "
                    "executed",
                    pool->max, pool->what, pool->option ? ": raise " : "",
                    pool->option ? pool->option : "");
        return;
    }
    if (!s->made) {
        if (conn_init(&s->conn, r->loop, r->options, r->answers, side_changed,
                      r) != ERR_OK) {
            fail(r, run, "the manager is out of memory");
            return;
        }
        s->made = true;
        if (pool->used <= (uint32_t)(s - pool->sides))
            pool->used = (uint32_t)(s - pool->sides) + 1;
    }
    if (conn_append(&s->conn, run) != ERR_OK) {
        fail(r, run, "the manager is out of memory");
        return;
    }
    if (s->conn.state == CONN_OFF)
        conn_start(&s->conn, false);
    else
        conn_flush(&s->conn);
}

void routes_send(struct routes *r, enum route route, struct run *run)
{
    if (route == ROUTE_SUBSCRIBE)
        pubsub_request(r->pubsub, run);
    else if (route == ROUTE_DEDICATED)
        send_side(r, &r->dedicated, run);
    else if (route == ROUTE_CONTROL)
        send_side(r, &r->control, run);
    else
        send_shared(r, run);
}

void routes_flush(struct routes *r)
{
    for (uint32_t i = 0; i < r->shared_count; i++)
        conn_flush(&r->shared[i]);
    if (r->has_bulk)
        conn_flush(&r->bulk);
}

size_t routes_unsent(const struct routes *r)
{
    size_t sum = 0;
    for (uint32_t i = 0; i < r->shared_count; i++)
        sum += buffer_len(&r->shared[i].pipeline.out);
    if (r->has_bulk)
        sum += buffer_len(&r->bulk.pipeline.out);
    return sum;
}

bool routes_shared_idle(const struct routes *r)
{
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
    const struct request *req = pipeline_front(&c->pipeline);
    if (req == NULL) {
        if (s->idle_ns == 0)
            s->idle_ns = now;
        if (now - s->idle_ns >= SIDE_IDLE_NS) {
            conn_stop(c, "it was not used");
            return 0;
        }
        return s->idle_ns + SIDE_IDLE_NS;
    }
    s->idle_ns = 0;
    if (req->reader->dead) {
        conn_stop(c, "its requester is gone");
        return 0;
    }
    if (req->deadline_ns != 0 && now >= req->deadline_ns) {
        conn_stop(c, "the deadline passed, its connection was closed");
        return 0;
    }
    uint64_t next = c->state == CONN_READY ? 0 : conn_tick(c, now);
    return sooner(next, req->deadline_ns);
}

static uint64_t tick_pool(struct side_pool *pool, uint64_t now)
{
    uint64_t next = 0;
    for (uint32_t i = 0; i < pool->used; i++)
        if (pool->sides[i].made)
            next = sooner(next, tick_side(&pool->sides[i], now));
    return next;
}

uint64_t routes_tick(struct routes *r, uint64_t now)
{
    uint64_t next =
        sooner(tick_pool(&r->dedicated, now), tick_pool(&r->control, now));
    for (uint32_t i = 0; i < r->shared_count; i++)
        next = sooner(next, conn_tick(&r->shared[i], now));
    if (r->has_bulk)
        next = sooner(next, conn_tick(&r->bulk, now));
    return next;
}
