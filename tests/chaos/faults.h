/* What is done to the world, and how often it was done. */
#ifndef TESTS_CHAOS_FAULTS_H
#define TESTS_CHAOS_FAULTS_H

#include "tests/chaos/world.h"

enum fault {
    FAULT_WORKER_KILL,
    FAULT_WORKER_TERM,
    FAULT_WORKER_STOP,
    FAULT_WORKER_FILES, /* it may open hardly any more */
    FAULT_WORKER_MEMORY,
    FAULT_MANAGER_KILL,
    FAULT_MANAGER_TERM,
    FAULT_MANAGER_STOP,
    FAULT_MANAGER_FILES,
    FAULT_MANAGER_MEMORY,
    FAULT_GUARDIAN_KILL,
    FAULT_BOTH_KILL, /* manager and guardian */
    FAULT_TAKEOVER,
    FAULT_DISK, /* full */
    FAULT_REDIS_KILL,
    FAULT_REDIS_TERM,
    FAULT_REDIS_STOP,
    FAULT_DELAY,
    FAULT_CUT,
    FAULT_CRUMBS,
    FAULT_DEAF,
    FAULT_MUTE,
    FAULT_CLOSED,
    FAULT_STRUCK, /* so many strike by the world's dice; the admin's follow */
    FAULT_SLOT_MOVED = FAULT_STRUCK,
    FAULT_SLOT_AWAY,
    FAULT_CLIENTS_CUT,
    FAULT_TYPES
};

extern const char *const fault_names[FAULT_TYPES];

/* Does one at random and counts it, if there is something to do it to. */
void faults_strike(struct world *w, uint64_t done[FAULT_TYPES]);

#endif
