/*
 * A worker of the fault harness: a process that asks Redis for things at random
 * through the library and through mqredis-worker, checks each reply, and writes
 * its history.
 */
#ifndef TESTS_CHAOS_WORKER_H
#define TESTS_CHAOS_WORKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/chaos/history.h"

struct worker_task {
    const char *channel;
    struct history *history;
    uint64_t seed;
    const _Atomic bool *leave; /* set: end in good order */
};

/* The process's whole life; returns when it was told to leave, or its history
 * is full. */
void worker_live(const struct worker_task *task);

#endif
