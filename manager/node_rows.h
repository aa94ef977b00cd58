/*
 * What the status file tells of a cluster's nodes: a row each, or for those
 * that it has no room for a row in private memory, so that nobody has to ask
 * which. nodes.c looks after the rows; errands count in them.
 */
#ifndef MANAGER_NODE_ROWS_H
#define MANAGER_NODE_ROWS_H

#include "ipc/err.h"
#include "ipc/status.h"
#include "manager/conn.h"

/* A node's place in the table. */
struct node_place {
    struct status_node *row;      /* never NULL between claim and leave */
    bool own;                     /* it is private memory */
    struct status_node_face face; /* as the row shows it */
};

/* Takes the row of that number for a node at an address. ERR_NOMEM. */
MUST_CHECK enum err node_place_claim(struct node_place *place,
                                     struct status *status, uint16_t number,
                                     uint32_t serial, const char *host,
                                     uint16_t port);
void node_place_leave(struct node_place *place);

/* Shows how the node is now, if that is another way than it shows. Called once
 * each round: a connection's coming and going is noticed here. */
void node_place_look(struct node_place *place, enum status_node_role role,
                     uint32_t slots, const struct conn *c, uint64_t now);

/* Whether commands sent to it have not come to an end, on connections of their
 * own, too. */
static inline bool node_place_busy(const struct node_place *place)
{
    return atomic_load_explicit(&place->row->inflight, memory_order_relaxed) >
           0;
}

#endif
