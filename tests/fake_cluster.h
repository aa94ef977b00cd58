/*
 * Nodes of a cluster that say whatever a test wants, for what real ones can't
 * be made to do: one process with a port for each, told what to say through
 * shared memory. It dies with this process.
 */
#ifndef TESTS_FAKE_CLUSTER_H
#define TESTS_FAKE_CLUSTER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "tests/fake_server.h"

#define FAKE_NODES FAKE_LISTENERS
#define FAKE_SAYINGS 8

struct fake_saying {
    char bytes[512];
    size_t len;
    size_t bulk;   /* behind it, so many bytes and the end of a line; 0: none */
    bool hangs_up; /* closes the connection behind it */
};

struct fake_node {
    int port;
    char map[8192];         /* what it says to CLUSTER SLOTS; the test's own */
    _Atomic size_t map_len; /* 0: that all slots are divided evenly */
    bool replica;           /* of the node before it, in the even map */
    struct fake_saying say[FAKE_SAYINGS];
    unsigned sayings;
    _Atomic bool
        alone; /* who is connected: whoever comes now is told LOADING */
    _Atomic unsigned connected; /* when the last one was let in */
    _Atomic unsigned said;      /* how many of them; the last one is for ever */
    _Atomic unsigned asked, asking, maps; /* commands, ASKING before them, and
                                             CLUSTER SLOTS that it saw */
};

struct fake_nodes {
    int count;
    _Atomic bool shifting; /* every even map differs from the last one */
    struct fake_node node[FAKE_NODES];
};

struct fake_cluster {
    pid_t pid;
    struct fake_nodes *nodes; /* shared */
};

/* Starts so many nodes. Each answers commands with "+node 0", its number. */
void fake_cluster_start(struct fake_cluster *f, int nodes);
void fake_cluster_kill(struct fake_cluster *f);

/* "cluster://127.0.0.1:PORT,..." of all of them. Static storage. */
const char *fake_cluster_uri(const struct fake_cluster *f);

/* Adds to what a node says to commands, one after the other, raw; while nobody
 * asks it. `hangs_up`: and closes the connection. */
void fake_cluster_says(struct fake_cluster *f, int node, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void fake_cluster_hangs_up(struct fake_cluster *f, int node, const char *fmt,
                           ...) __attribute__((format(printf, 3, 4)));

/* The same with a string of so many bytes. */
void fake_cluster_says_much(struct fake_cluster *f, int node, size_t len);

/* They answer as in the beginning. */
void fake_cluster_calm(struct fake_cluster *f);

/* What a node says to CLUSTER SLOTS. To be set before anybody asks. */
void fake_cluster_map(struct fake_cluster *f, int node, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Commands that all of them saw; and questions for the map. */
unsigned fake_cluster_asked(const struct fake_cluster *f);
unsigned fake_cluster_maps(const struct fake_cluster *f);

#endif
