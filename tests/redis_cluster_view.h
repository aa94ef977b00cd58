/*
 * How a node of a cluster sees the others: for redis_cluster*.c alone.
 */
#ifndef TESTS_REDIS_CLUSTER_VIEW_H
#define TESTS_REDIS_CLUSTER_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/redis_cluster.h"

/* What a node knows of another one, or of itself. */
struct cluster_view {
    bool known, myself, master, replica, failed, handshake;
    uint8_t owns[REDIS_CLUSTER_SLOTS / 8];
};

/* Asks a node for its view of each one, by number. */
void cluster_view_look(const struct redis_cluster *c, int asked,
                       struct cluster_view views[REDIS_CLUSTER_NODES_MAX]);

bool cluster_view_owns(const struct cluster_view *v, unsigned slot);

#endif
