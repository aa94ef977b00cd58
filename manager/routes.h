/*
 * Routes: which connection a run of commands goes to.
 *
 * - shared: pipelined, kept up for ever; a client stays on one of them, so its
 *   order holds.
 * - dedicated and control: pools of connections that serve one request at a
 *   time, made when needed, kept for a while, closed when their requester dies,
 *   cancels or is out of time, so that a blocking command pops at most one
 *   element for somebody who left.
 */
#ifndef MANAGER_ROUTES_H
#define MANAGER_ROUTES_H

#include <stdbool.h>
#include <stdint.h>

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
    struct pubsub *pubsub; /* set by the owner */
    /* Called when a shared connection becomes ready or stops being that. */
    void (*changed)(void *context, struct conn *c);
    void *context;
};

/* Everything is borrowed. Connects nothing yet. ERR_NOMEM. */
MUST_CHECK enum err routes_init(struct routes *r, struct loop *loop,
                                struct answers *answers,
                                struct conn_options *options, uint32_t shared,
                                bool bulk, uint32_t dedicated,
                                void (*changed)(void *context, struct conn *c),
                                void *context);
void routes_release(struct routes *r);

/* Begins to connect the shared ones. */
void routes_start(struct routes *r);

/* Closes all; what is in flight is answered with the reason. */
void routes_stop(struct routes *r, const char *reason);

/* The options name another server now: every connection goes there. What was
 * written is lost, with the reason; what was not, waits as always. */
void routes_move(struct routes *r, const char *reason);

/* Whether every shared connection is ready. */
bool routes_ready(const struct routes *r);

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
