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

/* What the harness tells all its workers; in shared memory. */
struct orders {
    _Atomic bool leave; /* end in good order */
    /* Until then a full disk, too few descriptors or too little memory may
     * show; UINT64_MAX: they are in effect now. */
    _Atomic uint64_t scarce_until_ns;
};

enum role {
    ROLE_ALL,        /* every act there is, with a history */
    ROLE_QUICK,      /* mostly many requests at once, all of them checked */
    ROLE_SUBSCRIBER, /* publishes, and hears what it published */
};

struct worker_task {
    const char *channel;
    struct history *history;
    uint64_t seed;
    enum role role;
    bool gentle;  /* leaves processors to others */
    bool cluster; /* is what Redis is */
    const struct orders *orders;
};

/* The process's whole life; returns when it was told to leave, or its history
 * is full. */
void worker_live(const struct worker_task *task);

#endif
