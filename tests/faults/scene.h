/*
 * What the suites of a manager with failing calls share: a Redis, the plan of
 * what is to fail, workers that note what they are told, and the sweep over all
 * points. The managers on it are tests/faults/life.h.
 *
 * What cannot be set up fails the running test; what is wrong at one point of a
 * sweep is noted, and reported with the point.
 */
#ifndef TESTS_FAULTS_SCENE_H
#define TESTS_FAULTS_SCENE_H

#include <check.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/e2e.h"
#include "tests/fake_sentinel.h"
#include "tests/faults/acts.h"
#include "tests/faults/plan.h"
#include "tests/faults/sweep.h"
#include "tests/redis_cluster.h"
#include "tests/support_redis.h"

/* How many points `make check` tries. */
#define SCENE_SAMPLE 32

/* A worker's. For a manager of which nothing fails it is far too much. */
#define SCENE_TIMEOUT_MS 600

#define SCENE_LINKS 3
#define SCENE_SENTINELS 2

struct scene {
    struct e2e_redis redis; /* pid 0: others in its place */
    /* With sentinels, which name one of them: */
    struct redis named[2];
    int ports[2], master;
    struct fake_sentinel sentinel[SCENE_SENTINELS];
    /* In a cluster, a slot that a test moves: the tag, and where it is. */
    struct redis_cluster cluster;
    char moving[24];
    int moving_at;
    char uri[160];
    char options[256];                   /* of every manager */
    struct redis_link link[SCENE_LINKS]; /* to each server */
    int links;
    struct faults_plan *plan;
    char plan_path[256];
    struct acts *acts;
    char why[1024]; /* the first thing that is wrong with this point */
    struct faults_plan counted; /* as it was before the next manager */
    bool struck;                /* a call did fail at it */
    int fds;             /* of a manager without faults, once it has served */
    int64_t blocks;      /* that it does not free */
    int64_t slack;       /* more that OpenSSL may lose when it gets no memory */
    unsigned ended[128]; /* managers, by exit status */
    unsigned statuses[ACTS_STATUSES];
    int64_t worst_ms;
};

/* How the managers find Redis. */
enum scene_way {
    SCENE_UNIX,
    SCENE_TLS,      /* by TCP and TLS, and by a name that is looked up */
    SCENE_SENTINEL, /* by TCP, where a sentinel says */
    SCENE_CLUSTER   /* three masters */
};

/* False: no redis-server is installed that can be this. */
bool scene_open(struct scene *s, enum scene_way way);
void scene_close(struct scene *s);

/* Whether it is a server's or a sentinel's process. */
bool scene_owns(const struct scene *s, pid_t pid);

/* Sentinels name the other one as the master from now on. */
void scene_switch(struct scene *s);

/* The servers cut all connections but subscribers' and ours. */
void scene_cut(struct scene *s);

/* Notes what is wrong with this point; the first note stays. */
void scene_wrong(struct scene *s, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* ---- workers ---- */

/* A worker's life on that channel begins; `brief`: it does only what every
 * connection sees. */
pid_t scene_visit_begin(struct scene *s, const char *channel,
                        int64_t timeout_ms, bool brief);

/* It ends, and is judged. */
void scene_visit_end(struct scene *s, pid_t pid);

/* Both. */
void scene_visit(struct scene *s, const char *channel, int64_t timeout_ms,
                 bool brief);

/* ---- sweeps ---- */

/* Runs it once without faults, and then with each of the (sampled) points of
 * these roles; reports, and fails the test if something was wrong. */
void scene_sweep(const char *name, enum scene_way way, unsigned roles,
                 size_t sample, void (*run)(struct scene *s));

/* Adds a test as a case of its own, with time enough for all points. */
void scene_add(Suite *s, const char *name, const TTest *test);

#endif
