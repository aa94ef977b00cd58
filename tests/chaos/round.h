/* One round of the fault harness, and the sum of several. */
#ifndef TESTS_CHAOS_ROUND_H
#define TESTS_CHAOS_ROUND_H

#include "tests/chaos/cluster.h"
#include "tests/chaos/faults.h"
#include "tests/chaos/world.h"

struct total {
    uint64_t requests, checked, status[HISTORY_STATUSES];
    uint64_t cancelled, errors, never, forks, threads;
    uint64_t heard, lagged, gaps, renewed, full;
    uint64_t done[FAULT_TYPES];
    uint64_t keys_moved, words[CLUSTER_WORDS]; /* of clusters */
    uint64_t late_ns, late_count, noise_ns, fork_ns;
    unsigned rounds, workers, tls_rounds, violations;
};

/* Runs one for so many seconds, judges it and adds it up. Leaves nothing. */
void round_run(struct total *t, const struct plan *plan, int seconds);

/* Prints everything. */
void round_report(const struct total *t, uint64_t seed);

#endif
