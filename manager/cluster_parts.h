/* Private to the cluster's files. */
#ifndef MANAGER_CLUSTER_PARTS_H
#define MANAGER_CLUSTER_PARTS_H

#include "ipc/random.h"
#include "manager/cluster.h"
#include "manager/errand.h"
#include "manager/fanout.h"
#include "manager/keyspec.h"
#include "manager/nodes.h"
#include "manager/turnstile.h"

/* When the map is asked for; see cluster_refresh.c. */
struct refresh {
    struct slotmap *map;   /* what was read last; empty at first */
    struct slotmap *spare; /* to read into */
    bool came;             /* and is to be adopted */
    bool wanted;           /* as soon as may be */
    struct node *asked;    /* whose answer is due; NULL: nobody's */
    uint64_t asked_ns;     /* when */
    uint64_t last_ns;      /* somebody was asked, or was to be */
    uint64_t earliest_ns;  /* not before */
    uint64_t regular_ns;   /* at the latest */
    uint64_t turn;         /* whom to ask */
    bool have;             /* one has come */
};

struct cluster {
    struct loop *loop;
    struct answers *answers;
    struct cluster_hooks hooks;
    struct cluster_options options;
    struct keyspecs *keyspecs;
    struct nodes nodes;
    struct errands errands;
    struct fanout *delivering; /* joined replies on their way */
    size_t delivering_bytes;   /* of them */
    struct refresh refresh;
    size_t kept_bytes; /* of all errands */
    struct random_stream random;
    bool started;  /* each master was tried once */
    bool taught;   /* the server has told its commands */
    bool stopping; /* what comes back is not sent again */
    bool none;     /* the server says that it is no cluster */
    struct turnstile turnstile;
    /* While a batch is chained: the last member of each slot, counted from 1;
     * all 0 otherwise. */
    uint32_t batch_last[SLOTS + 1];
};

static inline uint64_t cluster_sooner(uint64_t a, uint64_t b)
{
    if (a == 0 || b == 0)
        return a + b;
    return a < b ? a : b;
}

/* ---- cluster_refresh.c ---- */

/* Something says that the map is old. */
void refresh_want(struct cluster *c);
/* Whether the owner or a map has named that node. */
bool refresh_knows(const struct cluster *c, const char *host, uint16_t port);
/* For nodes_init: a node has answered. */
void refresh_mapped(void *context, struct node *node, const char *reply,
                    size_t len);
uint64_t refresh_tick(struct cluster *c, uint64_t now);

/* ---- cluster_batch.c ---- */

/* Commands that belong together. */
void cluster_batch(struct cluster *c, enum route route, const struct run *run);

/* ---- fanout.c ---- */

/* Hands out the rest of all of them now, as far as readers take it. */
void fanouts_hurry(struct cluster *c);

/* Forgets what is still to be handed out. */
void fanouts_release(struct cluster *c);

/* ---- cluster.c ---- */

/* Takes command `i` of a run off what is left of it: a view. Called for one
 * after the other. ERR_PROTO: not in the form of a run. */
MUST_CHECK enum err cluster_next(const struct run *run, struct framed *rest,
                                 uint32_t i, struct framed *command);

/* Command `index` of the run's request. */
void cluster_one(struct cluster *c, enum route route, const struct run *run,
                 uint32_t index, const struct framed *command);

#endif
