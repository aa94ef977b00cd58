/* A worker's way through libmqredis. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "tools/bench/bench.h"
#include "workers/mqredis.h"

struct client {
    struct mqredis *mq;
    const struct load *load;
    char key[32];
    char *value;
    unsigned pending; /* submitted, not answered */
    uint64_t seed;
};

static bool good(const struct client *c, const struct mqredis_reply *r,
                 bool set)
{
    return set ? r->type == MQREDIS_STATUS
               : r->type == MQREDIS_STRING && r->len == c->load->value;
}

static bool one(struct client *c, bool set)
{
    struct mqredis_reply *r =
        set ? mqredis_set(c->mq, c->key, c->value, c->load->value)
            : mqredis_get(c->mq, c->key);
    bool ok = good(c, r, set);
    mqredis_free(r);
    return ok;
}

static struct client *channel_open_client(const struct parties *p,
                                          const struct load *load,
                                          unsigned number)
{
    struct mqredis_error error = {0};
    struct client *c = calloc(1, sizeof(*c));
    (void)p;
    if (c == NULL)
        return NULL;
    c->load = load;
    c->value = malloc(load->value + 1);
    c->mq = mqredis_open(
        load->contestant == CHANNEL_TCP ? "bench-tcp" : "bench-unix", &error);
    snprintf(c->key, sizeof(c->key), "bench:%u", number);
    if (c->value != NULL)
        memset(c->value, 'v', load->value);
    if (c->mq == NULL || c->value == NULL || !one(c, true)) {
        fprintf(stderr, "mqredis-bench: worker: %s\n",
                error.text[0] != '\0' ? error.text : "its SET failed");
        return NULL;
    }
    return c;
}

static bool channel_round(struct client *c, bool set)
{
    unsigned n = c->load->batch;
    if (n == 1)
        return one(c, set);
    struct mqredis_batch *batch = mqredis_batch_new(c->mq);
    for (unsigned i = 0; i < n; i++) {
        const char *argv[] = {set ? "SET" : "GET", c->key, c->value};
        size_t len[] = {3, strlen(c->key), c->load->value};
        mqredis_batch_add_argv(batch, set ? 3 : 2, argv, len);
    }
    struct mqredis_reply *r = mqredis_batch_run(batch);
    bool ok = r->type == MQREDIS_BATCH && r->elements == n;
    for (size_t i = 0; ok && i < n; i++)
        ok = good(c, r->element[i], set);
    mqredis_free(r);
    return ok;
}

/* Keeps the window full: submits what is missing, takes all that is done. */
static unsigned channel_flow(struct client *c, uint64_t *errors)
{
    unsigned done = 0;
    const char *argv[] = {"GET", c->key};
    size_t len[] = {3, strlen(c->key)};
    while (c->pending < c->load->window) {
        if (mqredis_submit_argv(c->mq, 2, argv, len) == NULL)
            break;
        c->pending++;
    }
    /* The first one may sleep, the others are there or not. */
    for (int64_t wait_ms = 5000; c->pending > 0; wait_ms = 0) {
        struct mqredis_request *q = mqredis_wait_any(c->mq, wait_ms);
        if (q == NULL)
            break;
        struct mqredis_reply *r = mqredis_wait(q);
        *errors += !good(c, r, false);
        mqredis_free(r);
        c->pending--;
        done++;
    }
    return done;
}

static void channel_close_client(struct client *c)
{
    mqredis_close(c->mq);
    free(c->value);
    free(c);
}

const struct client_ops channel_client = {.open = channel_open_client,
                                          .round = channel_round,
                                          .flow = channel_flow,
                                          .close = channel_close_client};

const struct client_ops *client_ops(enum contestant c)
{
    switch (c) {
    case CHANNEL_TCP:
    case CHANNEL_UNIX:
        return &channel_client;
    case LIMIT:
        return &limit_client;
    case HIREDIS_TCP:
    case HIREDIS_UNIX:
    case TWEMPROXY:
    case TWEMPROXY_UNIX:
#ifdef HAVE_HIREDIS
        return &hiredis_client;
#else
        return NULL;
#endif
    case CONTESTANTS:
        break;
    }
    return NULL;
}
