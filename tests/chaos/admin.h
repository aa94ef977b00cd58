/*
 * Who administers the cluster of a round: a process that moves slots with their
 * keys to and fro, takes one away for a moment, and kills a node's connections,
 * all of it while workers use them.
 *
 * It loses nothing: keys go over by MIGRATE, a slot that is taken away is given
 * back to the same node, and no node is killed while it is at it (that is what
 * the office's holder is for). It picks slots of keys that workers use now.
 */
#ifndef TESTS_CHAOS_ADMIN_H
#define TESTS_CHAOS_ADMIN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/redis_cluster.h"

#define ADMIN_WORKERS 16

/* Who may order nodes about. */
enum admin_holder {
    HOLDER_NOBODY,
    HOLDER_ADMIN,
    HOLDER_WORLD, /* it kills a node, until the cluster is whole again */
};

/* What the harness and its admin share; zeroed at first. */
struct admin_office {
    _Atomic int holder; /* enum admin_holder */
    _Atomic bool closing;
    /* The ids of the workers that live, and how many: they name their keys. */
    _Atomic unsigned worker[ADMIN_WORKERS], workers;
    _Atomic uint64_t moves, keys, aways, cuts; /* what was done */
    int owner[REDIS_CLUSTER_SLOTS];            /* a node's number */
};

struct admin_task {
    const struct redis_cluster *cluster;
    struct admin_office *office;
    uint64_t seed;
    bool gentle;
};

/* Takes the office if nobody has it. */
bool admin_take(struct admin_office *office, enum admin_holder who);
void admin_give(struct admin_office *office);

/* The process's whole life: until the office closes. */
void admin_live(const struct admin_task *task);

#endif
