/*
 * A cluster in place of one Redis: which node each command goes to, what is
 * sent again, split and joined.
 *
 * A command is kept (errand.h) until it is answered; the turnstile holds it
 * while its slot moves or its master is away; what concerns several nodes is
 * split, or sent to all, and joined (fanout.h); the map of slots is asked for
 * again when something says that it is old (cluster_refresh.c).
 */
#ifndef MANAGER_CLUSTER_H
#define MANAGER_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>

#include "ipc/err.h"
#include "manager/conn.h"
#include "manager/options.h"
#include "manager/pipeline.h"
#include "manager/policy.h"
#include "manager/seeds.h"

/* What routes.c does for a cluster, and hears of it. */
struct cluster_hooks {
    /* Sends a run on a connection of its own to that server (ROUTE_DEDICATED,
     * ROUTE_CONTROL). ERR_BUSY, ERR_NOMEM: it was not sent; *why has a line. */
    enum err (*side)(void *context, enum route route,
                     const struct conn_options *options, const struct run *run,
                     struct err_text *why);
    /* A node's connection became ready or stops being that, or the map came. */
    void (*changed)(void *context, struct conn *c);
    void *changed_context;
    /* Slots may have other masters now; a node's options will be gone. NULL:
     * nobody wants to know. */
    void (*remapped)(void *context);
    void (*forgotten)(void *context, const struct conn_options *options);
    void *context; /* of all but `changed` */
};

struct cluster_options {
    const struct conn_options *base; /* borrowed: what all nodes share */
    const struct seeds *seeds;       /* borrowed */
    bool bulk;                       /* connections for large ones */
    uint32_t max_held;               /* commands that wait for their masters */
    size_t max_held_bytes;
    enum read_from read_from;
    bool probe; /* it may turn out to be no cluster: see cluster_verdict */
};

struct cluster;

/* Connects nothing yet. `hooks` is copied, the rest borrowed. ERR_NOMEM. */
MUST_CHECK enum err cluster_new(struct cluster **cluster, struct loop *loop,
                                struct answers *answers, struct sizes *sizes,
                                const struct cluster_options *options,
                                const struct cluster_hooks *hooks);
void cluster_free(struct cluster *c);

void cluster_start(struct cluster *c);
void cluster_stop(struct cluster *c, const char *reason);

/* Whether there is a map, and a master is connected. The first time: whether
 * each of them was tried. */
bool cluster_ready(const struct cluster *c);

/* The connection to speak of while it is not ready; may be NULL. */
const struct conn *cluster_down(const struct cluster *c);

/* With `probe`: the server has said that it is none. It is to be replaced, but
 * not within a callback of the cluster. */
bool cluster_none(const struct cluster *c);

/* Sends a run on its way, or answers it. Not ROUTE_SUBSCRIBE. */
void cluster_send(struct cluster *c, enum route route, struct run *run);

/* Whether the server's commands are known, and were not likely to change since.
 */
bool cluster_taught(const struct cluster *c);

/* What the server says of its commands. */
void cluster_learn(struct cluster *c, const char *reply, size_t len);

/* Makes the options of a connection of its own (pub/sub) name a master that is
 * ready, unless they do; of several that it names no other. */
void cluster_aim(const struct cluster *c, struct conn_options *options);

/* What reaches the master of a key's slot: the same pointer until `forgotten`.
 * NULL: there is none. */
const struct conn_options *cluster_owner(const struct cluster *c,
                                         const char *key, size_t len);

/* A node that a connection of the owner's own (pub/sub) goes to has answered
 * MOVED: the slot's master is the one that it names. */
void cluster_moved(struct cluster *c, const struct conn_options *asked,
                   const char *error, size_t len);

/* The base has changed. */
void cluster_reload(struct cluster *c);

/* As their likes in routes.h. */
void cluster_flush(struct cluster *c);
size_t cluster_unsent(const struct cluster *c);
bool cluster_idle(const struct cluster *c);
uint64_t cluster_tick(struct cluster *c, uint64_t now);

#endif
