/*
 * A master, two replicas and three sentinels, all of them real processes on
 * free ports of 127.0.0.1, with their files in the suite's scratch folder.
 *
 * What can't be done fails the running test, as in support.h. All die with the
 * process that started them.
 */
#ifndef TESTS_REDIS_SENTINEL_H
#define TESTS_REDIS_SENTINEL_H

#include <stdbool.h>

#include "tests/support_redis.h"

#define FARM_NODES 3
#define FARM_SENTINELS 3
#define FARM_MASTER "mymaster"
/* A master that is silent for so long is taken for dead. A sentinel counts the
 * silence of a new master from the switch on, but connects at most once a
 * second: if it has just tried in vain to reach the old one, it says its first
 * word to the new one after up to 1.1 s. With less than that the new master is
 * taken for dead at once, and there is a failover that nobody asked for. */
#define FARM_DOWN_MS 2000

struct farm {
    struct redis nodes[FARM_NODES]; /* pid 0: killed */
    int ports[FARM_NODES];
    struct redis sentinels[FARM_SENTINELS];
    int sentinel_ports[FARM_SENTINELS];
    const char *password;          /* of the nodes; NULL: none */
    const char *sentinel_password; /* of the sentinels */
};

/* Starts a sentinel with this configuration (its unix socket is added to it)
 * and waits until it answers. */
void sentinel_start(struct redis *r, const char *configuration);

/* Starts all of them; nodes[0] is the master. Returns once every sentinel knows
 * of everybody and each replica follows. Passwords are borrowed. False: there
 * is no redis-server. */
bool farm_start(struct farm *f, const char *password,
                const char *sentinel_password);
void farm_stop(struct farm *f);

/* "sentinel://LOGIN127.0.0.1:P,127.0.0.1:P,.../mymaster": those sentinels that
 * `mask` has bits for. Static storage. */
const char *farm_uri(const struct farm *f, const char *login, unsigned mask);

/* Kills one, SIGKILL. */
void farm_kill_node(struct farm *f, int i);
void farm_kill_sentinel(struct farm *f, int i);

/* Starts a killed node again, as a replica of `of`. */
void farm_restart_node(struct farm *f, int i, int of);

/* Makes a node a replica of another one. Of a master that was left without
 * being killed sentinels do that only after 8 s. */
void farm_follow(struct farm *f, int i, int of);

/* Which node the first living sentinel names; -1: none of ours. */
int farm_master(const struct farm *f);

/* A connection to a node or a sentinel, logged in. */
void farm_link(const struct farm *f, const struct redis *to,
               struct redis_link *link);

/* A reply's first bytes, as redis_link_ask. */
const char *farm_ask(const struct farm *f, const struct redis *to,
                     const char *command);

/* Whether every living sentinel sees the same node as the master, with so many
 * replicas that follow it; which one it is goes to *master. On a machine that
 * is too busy there may be failovers that nobody asked for. */
bool farm_agrees(const struct farm *f, int replicas, int *master);

#endif
