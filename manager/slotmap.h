/*
 * A cluster's map as one of its nodes told it: which master serves each slot,
 * and which replicas each master has. Parsed from a reply to CLUSTER SLOTS; no
 * byte of it is trusted, and nothing is kept of a reply that does not parse.
 */
#ifndef MANAGER_SLOTMAP_H
#define MANAGER_SLOTMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"
#include "manager/slot.h"

/* Masters and replicas. A cluster is said to work up to about 1000. */
#define SLOTMAP_NODES_MAX 1024
#define SLOTMAP_NOBODY UINT16_MAX
#define SLOTMAP_HOST_MAX 256

struct slotmap_node {
    char host[SLOTMAP_HOST_MAX]; /* a name or address, without brackets */
    uint16_t port;
    uint16_t master; /* index; its own: it is one */
};

/* Large: on the heap. */
struct slotmap {
    uint16_t owner[SLOTS]; /* index of the master, or SLOTMAP_NOBODY */
    uint32_t served;       /* slots that have an owner */
    uint32_t count;
    struct slotmap_node nodes[SLOTMAP_NODES_MAX];
};

/*
 * Reads a reply to CLUSTER SLOTS, RESP2 or RESP3, held whole. `asked` is the
 * host that was asked: it stands for a host that the reply leaves empty or
 * null; one that is "?" is not known to the node, which leaves it out. Where
 * ranges overlap the later one holds.
 * ERR_PROTO: not such a reply (an error, for instance). ERR_LIMIT: more nodes
 * than there is room for. *map is undefined then.
 */
MUST_CHECK enum err slotmap_parse(struct slotmap *map, const char *reply,
                                  size_t len, const char *asked);

/* What a node says in place of a reply. */
enum redirect {
    REDIRECT_NONE,
    REDIRECT_MOVED,
    REDIRECT_ASK,
    REDIRECT_TRYAGAIN,
    REDIRECT_CLUSTERDOWN,
    REDIRECT_READONLY, /* of commands without keys: a replica now */
    REDIRECT_NOT_YET   /* LOADING, MASTERDOWN: a replica that is none */
};

struct redirection {
    enum redirect kind;
    uint16_t slot; /* of MOVED and ASK, and where to: */
    uint16_t port;
    char host[SLOTMAP_HOST_MAX];
};

/* Judges a whole error reply ("-MOVED 3999 127.0.0.1:6381"). A MOVED or ASK
 * that does not say where to is REDIRECT_NONE. `asked` as above. */
void slotmap_redirection(struct redirection *r, const char *reply, size_t len,
                         const char *asked);

#endif
