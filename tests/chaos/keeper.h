/*
 * The process that was started, which lives to clean up: it forks the harness
 * and waits. However that ends, by itself, by a signal to either of them or by
 * the end of whoever started it, all its descendants are killed, and its folder
 * and queues are removed.
 */
#ifndef TESTS_CHAOS_KEEPER_H
#define TESTS_CHAOS_KEEPER_H

#include "tests/support.h"

#define REMAINS_QUEUES 256

/* What is to be removed in the end, in shared memory; filled in by the harness,
 * one by one: a folder before it is made, a queue counted after it was
 * written. */
struct remains {
    char dir[SUPPORT_SCRATCH_MAX]; /* "": none */
    char certificates[SUPPORT_SCRATCH_MAX];
    char queues[REMAINS_QUEUES][128];
    unsigned queue_count;
};

/* Runs `harness` in a child and gives its status. Does not return if a signal
 * ended us: then that is how this process ends. */
int keeper_run(int (*harness)(void *arg), void *arg, struct remains *remains);

/* SIGKILLs all children of this process, and theirs as they become ours, and
 * waits for them. `say`: is told of each, unless NULL. */
void keeper_end_children(void (*say)(void *context, long pid), void *context);

#endif
