/*
 * What the suites of clusters play on: three masters, with replicas or without,
 * a manager, and a handle of the library on its channel. One of each: a test
 * has its process to itself, but a cluster can be one for all tests of a case.
 *
 * What does not come as expected fails the running test. Where no cluster can
 * be started (no redis-server, or an old one) a line says so, and the test is
 * to return at once.
 */
#ifndef TESTS_CLUSTER_SCENE_H
#define TESTS_CLUSTER_SCENE_H

#include <stdbool.h>

#include "tests/e2e_scene.h"
#include "tests/lib.h"
#include "tests/redis_cluster.h"

#define SCENE_MASTERS 3

/* The handle's timeout. */
#define SCENE_TIMEOUT_MS 20000

/* The cluster-node-timeout of suites where no master is to be replaced. */
#define SCENE_PATIENT_MS 15000

/* The manager is e2e_scene.h's. */
extern struct redis_cluster cluster;
extern struct mqredis *mq;

/* ---- the cluster ---- */

/* Starts the cluster alone; the options are for its nodes, NULL for none.
 * False: there can be none. */
bool cluster_scene_nodes(int replicas, int node_timeout_ms,
                         const char *options);

/* An unchecked fixture: one cluster for all tests of a case, in the suite's
 * scratch folder. cluster_scene_shared gives false where there can be none. */
void cluster_scene_share(void);
void cluster_scene_unshare(void);
bool cluster_scene_shared(void);

/* ---- a manager of it ---- */

/* Starts a manager at `uri` (NULL: all masters are named) with these options
 * (NULL: none), and opens the handle. */
void cluster_scene_open(const char *uri, const char *options);

/* Every command taken has met one end; the handle, if there is one, and the
 * manager end in good order. The cluster stays. */
void cluster_scene_close(void);

/* ---- both ---- */

/* Masters without replicas, a manager with these options, the handle. */
bool cluster_scene_begin(const char *options);

void cluster_scene_end(void);

#endif
