/*
 * The servers of a round where they are a cluster: three masters without
 * replicas, each behind a proxy whose port it announces, so that whoever asks
 * for the map or follows a redirection goes through it. A node syncs its log
 * with every write; one that is killed comes back with all that it acknowledged
 * (what a failover would cost is Redis's affair, not the manager's).
 */
#ifndef TESTS_CHAOS_CLUSTER_H
#define TESTS_CHAOS_CLUSTER_H

#include "tests/chaos/world.h"

/* What the nodes answered in place of replies. */
enum cluster_word {
    CLUSTER_MOVED,
    CLUSTER_ASK,
    CLUSTER_TRYAGAIN,
    CLUSTER_CLUSTERDOWN,
    CLUSTER_WORDS
};
extern const char *const cluster_words[CLUSTER_WORDS];

/* Starts nodes, proxies and the admin; gives the world its URI. */
void cluster_begin(struct world *w);

/* One that was killed; returns its pid once it answers. */
pid_t cluster_start_node(struct world *w, struct server *s);

/* Takes the office to kill that node; cluster_tend gives it back when the
 * cluster is whole again. False: somebody is at it. */
bool cluster_may_kill(struct world *w, const struct server *s);

/* In every turn. In the calm the admin ends. */
void cluster_tend(struct world *w);

/* Waits until all nodes agree; for the verdict. */
void cluster_settle(struct world *w);

/* The node that has a key. The admin has ended. */
unsigned cluster_owner(const struct world *w, const char *key);

#endif
