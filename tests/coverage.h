/*
 * Included before anything else in every source of a coverage build, and in no
 * other (see the Makefile).
 *
 * gcov writes what it counted as exit() runs its handlers. A process that ends
 * by _exit(), as the guardian and every forked child of a test does, would lose
 * it; so here it is written first. Where calls are made to fail (tests/faults),
 * those of gcov are not: what a failing call leads to counts, too.
 */
#ifndef TESTS_COVERAGE_H
#define TESTS_COVERAGE_H

#include <unistd.h>

#define MQREDIS_COVERAGE 1

#define COVERAGE_OWN __attribute__((no_profile_instrument_function, unused))

void __gcov_dump(void); /* libgcov's */

/* Of tests/faults/plan.h, where that is linked in or preloaded. */
extern void faults_pause(void) __attribute__((weak, visibility("default")));

/* Runs before gcov's own, which is the last of the destructors. */
COVERAGE_OWN __attribute__((destructor)) static void coverage_ends(void)
{
    if (faults_pause != 0)
        faults_pause();
}

COVERAGE_OWN static void coverage_write(void)
{
    coverage_ends();
    __gcov_dump();
}

#define _exit(code) (coverage_write(), _exit(code))

#endif
