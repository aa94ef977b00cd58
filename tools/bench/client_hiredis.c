/* A worker's way through a connection of its own, to Redis or to the proxy. */
#ifdef HAVE_HIREDIS

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bench/bench.h"

struct client {
    redisContext *redis;
    const struct load *load;
    char key[32];
    char *value;
    unsigned pending;
};

static bool good(const struct client *c, const redisReply *r, bool set)
{
    return r != NULL && (set ? r->type == REDIS_REPLY_STATUS
                             : r->type == REDIS_REPLY_STRING &&
                                   (size_t)r->len == c->load->value);
}

static void append(struct client *c, bool set)
{
    const char *argv[] = {set ? "SET" : "GET", c->key, c->value};
    size_t len[] = {3, strlen(c->key), c->load->value};
    redisAppendCommandArgv(c->redis, set ? 3 : 2, argv, len);
}

static bool take(struct client *c, bool set)
{
    void *reply = NULL;
    if (redisGetReply(c->redis, &reply) != REDIS_OK)
        return false;
    bool ok = good(c, reply, set);
    freeReplyObject(reply);
    return ok;
}

static bool hiredis_round(struct client *c, bool set)
{
    bool ok = true;
    for (unsigned i = 0; i < c->load->batch; i++)
        append(c, set);
    for (unsigned i = 0; i < c->load->batch; i++)
        ok = take(c, set) && ok;
    return ok;
}

/* A window as a pipelining client keeps it: filled, written, read as it comes;
 * it is filled again when half of it is answered. */
static unsigned hiredis_flow(struct client *c, uint64_t *errors)
{
    unsigned done = 0;
    for (; c->pending < c->load->window; c->pending++)
        append(c, false);
    for (; c->pending > c->load->window / 2; c->pending--, done++)
        *errors += !take(c, false);
    return done;
}

static struct client *hiredis_open(const struct parties *p,
                                   const struct load *load, unsigned number)
{
    const struct timeval patience = {.tv_sec = 5};
    struct client *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return NULL;
    c->load = load;
    c->value = malloc(load->value + 1);
    switch (load->contestant) {
    case HIREDIS_UNIX:
        c->redis = redisConnectUnixWithTimeout(p->redis_unix, patience);
        break;
    case TWEMPROXY:
        c->redis =
            redisConnectWithTimeout("127.0.0.1", p->proxy_port, patience);
        break;
    case TWEMPROXY_UNIX:
        c->redis = redisConnectUnixWithTimeout(p->proxy_unix, patience);
        break;
    case HIREDIS_TCP:
    case CHANNEL_TCP:
    case CHANNEL_UNIX:
    case LIMIT:
    case CONTESTANTS:
        c->redis =
            redisConnectWithTimeout("127.0.0.1", p->redis_port, patience);
        break;
    }
    snprintf(c->key, sizeof(c->key), "bench:%u", number);
    if (c->value == NULL || c->redis == NULL || c->redis->err != 0) {
        fprintf(stderr, "mqredis-bench: worker: %s\n",
                c->redis != NULL ? c->redis->errstr : "out of memory");
        return NULL;
    }
    memset(c->value, 'v', load->value);
    append(c, true);
    if (!take(c, true)) {
        fprintf(stderr, "mqredis-bench: worker: SET: %s\n",
                c->redis->err != 0 ? c->redis->errstr : "an error reply");
        return NULL;
    }
    return c;
}

static void hiredis_close(struct client *c)
{
    redisFree(c->redis);
    free(c->value);
    free(c);
}

const struct client_ops hiredis_client = {.open = hiredis_open,
                                          .round = hiredis_round,
                                          .flow = hiredis_flow,
                                          .close = hiredis_close};

#else
/* Without hiredis there is nothing here. */
typedef int client_hiredis_is_left_out;
#endif
