/*
 * The nodes of a cluster, and a connection (and one for large ones) to each
 * that is of use: the masters, the replicas if reads go to them, and whoever a
 * redirection named. At the beginning, and when none of those answers, the
 * nodes that the command line names.
 *
 * A node keeps its number while it is known. One that is on the map no more is
 * forgotten when nothing has been due from it for a while.
 */
#ifndef MANAGER_NODES_H
#define MANAGER_NODES_H

#include <stdbool.h>
#include <stdint.h>

#include "ipc/err.h"
#include "manager/conn.h"
#include "manager/lanes.h"
#include "manager/node_rows.h"
#include "manager/seeds.h"
#include "manager/slotmap.h"
#include "manager/taker.h"

#define NODES_MAX SLOTMAP_NODES_MAX
#define NODE_NONE UINT16_MAX

enum node_role {
    NODE_NAMED,  /* by the command line or a redirection, not on the map */
    NODE_MASTER, /* serves slots */
    NODE_REPLICA
};

struct node {
    struct nodes *owner;
    struct conn_options options; /* as all, with the node's host and port */
    struct conn conn[LANE_COUNT];
    uint16_t number;
    uint16_t master; /* of a replica: its number */
    enum node_role role;
    uint32_t slots;          /* that it serves */
    struct node_place place; /* in the status file */
    bool tried;              /* its connection has come up or failed once */
    bool known;              /* from the owner or a map: it is asked for one */
    uint64_t unused_ns;  /* since when it is on no map and idle; 0: it is not */
    uint64_t demoted_ns; /* when another one was made master in its place */
    struct capture map;  /* what it says of the cluster */
    bool map_asked;      /* and has not answered */
};

struct nodes {
    struct loop *loop;
    struct answers *answers;
    const struct conn_options *base;
    struct sizes *sizes;
    bool bulk;                   /* each has a connection for large ones */
    bool use_replicas;           /* they are connected */
    uint32_t used;               /* no number beyond so many is taken */
    struct node *all[NODES_MAX]; /* by number; NULL: free */
    uint32_t master_count;
    uint16_t masters[NODES_MAX]; /* numbers, growing */
    uint16_t owner[SLOTS];       /* number of the master, or NODE_NONE */
    uint32_t unserved; /* slots that are nobody's, once some are not */
    uint32_t serial;   /* of the node made last */
    /* A connection became ready or stops being that. */
    void (*changed)(void *context, struct node *node, struct conn *c);
    /* What a node says of the cluster; len 0: nothing. */
    void (*mapped)(void *context, struct node *node, const char *reply,
                   size_t len);
    /* It is about to be freed. */
    void (*forgotten)(void *context, const struct node *node);
    void *context;
};

void nodes_init(struct nodes *n);
void nodes_release(struct nodes *n);

/* Finds the node, or makes it and begins to connect. NULL: out of memory, or
 * too many. */
struct node *nodes_get(struct nodes *n, const char *host, uint16_t port);

/* Takes over a map: roles, owners, connections. Returns whether any slot has
 * another owner now. */
bool nodes_adopt(struct nodes *n, const struct slotmap *map, uint64_t now);

/* A slot's owner is this one from now on. */
void nodes_move_slot(struct nodes *n, uint16_t slot, const struct node *to);

static inline bool node_ready(const struct node *node)
{
    return node->conn[LANE_SMALL].state == CONN_READY;
}

/* Neither connected nor on the first way there. */
static inline bool node_down(const struct node *node)
{
    const struct conn *c = &node->conn[LANE_SMALL];
    return c->state == CONN_OFF || c->state == CONN_WAITING || c->attempt > 0;
}

/* Since when it owes an answer and has sent nothing; 0: it owes none. */
uint64_t node_silent_since(const struct node *node);

/* A master that is ready, the same one for the same number as long as that is
 * so; NULL: none is. */
struct node *nodes_any_master(const struct nodes *n, uint64_t number);

/* Of each master that serves slots one of those; returns how many there are. */
uint32_t nodes_first_slots(const struct nodes *n, uint16_t slots[NODES_MAX]);

/* A ready replica of that master, in the same way; NULL. */
struct node *nodes_replica(const struct nodes *n, uint16_t master,
                           uint64_t number);

/* A ready node to be asked for the map, from a place on; rather one that has
 * not been silent since `silent_ns`. NULL: none is ready. */
struct node *nodes_to_ask(const struct nodes *n, uint64_t from,
                          uint64_t silent_ns);

/* Asks it for the map. */
void node_ask_map(struct node *node);

/* The base has changed (login, certificates). */
void nodes_reload(struct nodes *n);

void nodes_stop(struct nodes *n, const char *reason);
void nodes_flush(struct nodes *n);
size_t nodes_unsent(const struct nodes *n);
bool nodes_idle(const struct nodes *n);
uint32_t nodes_count_ready(const struct nodes *n);
uint32_t nodes_count(const struct nodes *n);

/* Timers; returns the next one (0: none). */
uint64_t nodes_tick(struct nodes *n, uint64_t now);

#endif
