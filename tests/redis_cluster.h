/*
 * A Redis Cluster of real redis-server processes on loopback ports: masters,
 * a replica for each or for none, slots that are moved with their keys while
 * somebody uses them, nodes that are killed and come back.
 *
 * A node's data port and its bus port are both chosen free, below the range
 * from which the kernel gives ports to others, so that a node which is
 * restarted finds its own again. Its files lie in the suite's scratch folder;
 * it writes none but its nodes.conf. Every node dies with the process that
 * started it.
 *
 * What can't be done fails the running test, as in support.h. A cluster is for
 * the process that started it: a child may look and move slots, but not kill.
 */
#ifndef TESTS_REDIS_CLUSTER_H
#define TESTS_REDIS_CLUSTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/support_redis.h"

#define REDIS_CLUSTER_NODES_MAX 8
#define REDIS_CLUSTER_SLOTS 16384

struct redis_cluster_node {
    struct redis at; /* pid (0: it does not run) and unix socket */
    uint16_t port, bus;
    uint16_t announced; /* what it tells others its port is; 0: that */
    char id[41];
};

/* Node i + masters, i + 2 * masters... were made replicas of node i; after a
 * failover the roles are others, the numbers stay. */
struct redis_cluster {
    int masters, nodes;
    pid_t founder; /* who started it, and which of its clusters it is: these */
    unsigned number; /* name the files */
    int node_timeout_ms;
    const char *options;
    char password[32];
    struct redis_cluster_node node[REDIS_CLUSTER_NODES_MAX];
};

/*
 * Starts the nodes, divides the slots evenly among the masters, and waits until
 * every node says that the cluster is whole and every replica follows.
 * `node_timeout_ms` is cluster-node-timeout: after about that a dead master is
 * noticed, and half a second to a second later replaced. `options` are lines
 * for each node's configuration file, borrowed; NULL for none. With
 * "tls-cluster yes" among them all ports are for TLS alone. False: no
 * redis-server is installed, or one without cluster-port (before 7.0).
 */
bool redis_cluster_start(struct redis_cluster *c, int masters, int replicas,
                         int node_timeout_ms, const char *options);

/* Whether there is such a redis-server. */
bool redis_cluster_is_possible(void);

/* Kills what still runs. Harmless after a start that gave false. */
void redis_cluster_stop(struct redis_cluster *c);

/* From now on all of it asks for this password, as we, too, give it. Slots do
 * not move any more. */
void redis_cluster_set_password(struct redis_cluster *c, const char *password);

/* "cluster://127.0.0.1:7001,127.0.0.1:7002,...", of all masters. Static. */
const char *redis_cluster_uri(const struct redis_cluster *c);

/* From now on clients and nodes are told that this is the node's port: a
 * proxy's. */
void redis_cluster_announce(struct redis_cluster *c, int node, uint16_t port);

/* A command's reply as that node gave it, without following any redirection:
 * all of its bytes and a NUL, in static storage. */
const char *redis_cluster_ask(const struct redis_cluster *c, int node,
                              const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The same from whichever node owns the slot of `key` now. */
const char *redis_cluster_ask_owner(const struct redis_cluster *c,
                                    const char *key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* A command that must be answered with +OK. */
void redis_cluster_order(const struct redis_cluster *c, int node,
                         const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- slots ---- */

/* The slot of a key; with a hash tag, of that. */
unsigned redis_cluster_slot(const char *key);

/* The node that owned the slot when the cluster was made; the first slot of a
 * master at that time. */
int redis_cluster_first_owner(const struct redis_cluster *c, unsigned slot);
unsigned redis_cluster_first_slot(const struct redis_cluster *c, int master);

/* The n-th word ("t7") of which the slot was the node's: as a key, or as a tag
 * for many. Static storage of 16 words that come in turn. */
const char *redis_cluster_word(const struct redis_cluster *c, int node,
                               unsigned n);

/* Who owns it in the eyes of a node: a number, -1 for nobody. */
int redis_cluster_owner(const struct redis_cluster *c, int asked,
                        unsigned slot);

/* The steps of moving a slot: both sides learn of it, so that the old owner
 * answers ASK for keys it has not; at most `max` keys go over, and their
 * number is returned; everybody learns of the new owner. */
void redis_cluster_move_begin(const struct redis_cluster *c, unsigned slot,
                              int from, int to);
int redis_cluster_move_keys(const struct redis_cluster *c, unsigned slot,
                            int from, int to, int max);
void redis_cluster_move_end(const struct redis_cluster *c, unsigned slot,
                            int from, int to);

/* All of them, a few keys at a time. Nothing if it is there already. */
void redis_cluster_move(const struct redis_cluster *c, unsigned slot, int to);

/* ---- nodes ---- */

/* SIGKILL, and reaped. What it held is gone unless a replica has it. */
void redis_cluster_kill(struct redis_cluster *c, int node);

/* The same one again, with the ports and the nodes.conf that it had; empty, if
 * the options say nothing of a log. */
void redis_cluster_restart(struct redis_cluster *c, int node);

/* Waits until a node of the dead one's shard has taken its slots over in the
 * eyes of all that run, itself included; returns its number. */
int redis_cluster_await_failover(const struct redis_cluster *c, int dead);

/* Waits until all nodes that run agree on who owns what, find the cluster
 * whole, and follow their masters. */
void redis_cluster_settle(const struct redis_cluster *c);

#endif
