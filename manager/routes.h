/*
 * Routes: which connection a run of commands goes to.
 *
 * - shared: pipelined, kept up for ever; a client stays on one of them, so its
 *   order holds.
 * - dedicated and control: pools of connections that serve one request at a
 *   time, made when needed, kept for a while, closed when their requester dies,
 *   cancels or is out of time, so that a blocking command pops at most one
 *   element for somebody who left.
 *
 * With a cluster in place of one Redis, shared commands go its way, and a
 * connection of a pool to the node that the cluster names.
 */
#ifndef MANAGER_ROUTES_H
#define MANAGER_ROUTES_H

#include <stdbool.h>
#include <stdint.h>

#include "manager/cluster.h"
#include "manager/conn.h"
#include "manager/policy.h"
#include "manager/pubsub.h"

struct side_pool {
    struct side *sides; /* `max` of them */
    uint32_t max;
    uint32_t used;      /* none beyond so many was ever made */
    const char *what;   /* for messages: "dedicated" */
    const char *option; /* that sets `max` */
};

struct routes {
    struct loop *loop;
    struct answers *answers;
    struct conn_options *options;
    struct conn *shared;
    uint32_t shared_count;
    struct conn bulk; /* the lane of large ones */
    bool has_bulk;
    struct sizes sizes;
    struct side_pool dedicated, control;
    struct pubsub *pubsub;              /* borrowed: routes_set_pubsub */
    struct cluster *cluster;            /* NULL: one Redis */
    struct conn_options pubsub_options; /* in a cluster: some node's */
    /* Called when a shared connection becomes ready or stops being that. */
    void (*changed)(void *context, struct conn *c);
    void *context;
};

/* Everything is borrowed. Connects nothing yet. `cluster`: NULL for one Redis.
 * ERR_NOMEM. */
MUST_CHECK enum err
routes_init(struct routes *r, struct loop *loop, struct answers *answers,
            struct conn_options *options, uint32_t shared, bool bulk,
            uint32_t dedicated, const struct cluster_options *cluster,
            void (*changed)(void *context, struct conn *c), void *context);
void routes_release(struct routes *r);

/* Subscriptions go there. Before routes_start. */
void routes_set_pubsub(struct routes *r, struct pubsub *pubsub);

/* Begins to connect the shared ones. */
void routes_start(struct routes *r);

/* Closes all; what is in flight is answered with the reason. */
void routes_stop(struct routes *r, const char *reason);

/* The options name another server now: every connection goes there. What was
 * written is lost, with the reason; what was not, waits as always. */
void routes_move(struct routes *r, const char *reason);

/* Whether every shared connection is ready; of a cluster, see cluster_ready. */
bool routes_ready(const struct routes *r);

/* While that is not so: the connection to speak of. NULL: there is none. */
const struct conn *routes_down(const struct routes *r);

/* Whether the server of this connection, which has just become ready, is to be
 * asked for its commands. */
bool routes_teaches(const struct routes *r, const struct conn *c);

/* What it says of them. */
void routes_learn(struct routes *r, const char *reply, size_t len);

/* What pub/sub connects to. */
const struct conn_options *routes_pubsub_options(struct routes *r);

/* The options have changed (login, certificates): for connections to come. */
void routes_reload(struct routes *r);

/* Sends a run on its way, or answers it. Never ROUTE_REFUSED. */
void routes_send(struct routes *r, enum route route, struct run *run);

/* Writes what was sent since the last call. */
void routes_flush(struct routes *r);

/* Bytes that wait to be written to shared connections. */
size_t routes_unsent(const struct routes *r);

/* Whether no shared connection has commands to write or replies to get. */
bool routes_shared_idle(const struct routes *r);

/* Ends the side connections that block for a client; returns how many. */
uint32_t routes_kill_client(struct routes *r, uint64_t client);

/* Timers of all connections; returns the next one (0: none). */
uint64_t routes_tick(struct routes *r, uint64_t now);

#endif
