/*
 * Worker processes that keep a cluster busy through a manager and believe
 * nothing: each has a few tags of its own, in slots of their own, on each of
 * them a value, a counter and a list that nobody else touches. So each reply
 * can be only one, whatever happens to the slots, and what was acknowledged
 * must be there in the end.
 */
#ifndef TESTS_CLUSTER_LOAD_H
#define TESTS_CLUSTER_LOAD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/redis_cluster.h"

#define CLUSTER_LOAD_TAGS 3
#define CLUSTER_LOAD_WORKERS_MAX 64

/* Lies in shared memory. */
struct cluster_worker {
    pid_t pid;
    int number;
    char channel[48];
    char tags[CLUSTER_LOAD_TAGS][16];
    int64_t timeout_ms;
    _Atomic bool enough;
    _Atomic long commands; /* answered */
    _Atomic uint64_t longest_ns;
    long steps;      /* what each of its counters must be */
    char wrong[320]; /* what must never be; "" if all went well */
};

struct cluster_load {
    int count;
    struct cluster_worker *worker; /* [count], shared */
};

/* Starts `count` workers on the manager's channel. No two tags share a slot. */
void cluster_load_start(struct cluster_load *load, int count,
                        const char *channel, int64_t timeout_ms);

/* A slot that some worker uses, at random. */
unsigned cluster_load_slot(const struct cluster_load *load, uint64_t *state);

/* Commands answered so far, and the longest that a step took. */
long cluster_load_commands(const struct cluster_load *load);
uint64_t cluster_load_longest_ns(const struct cluster_load *load);

/* Whether all workers get on: false after the time of support_wait_ms(). */
bool cluster_load_goes_on(const struct cluster_load *load);

/* The first thing that went wrong, "" if nothing did. */
const char *cluster_load_wrong(const struct cluster_load *load);

/* Ends all of them and compares what the cluster holds with what was
 * acknowledged. Fails the running test. */
void cluster_load_judge(struct cluster_load *load,
                        const struct redis_cluster *cluster);

#endif
