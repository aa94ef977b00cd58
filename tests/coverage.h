/*
 * Included before anything else in every source of a coverage build, and in no
 * other (see the Makefile).
 *
 * gcov writes what it counted as exit() runs its handlers. A process that ends
 * by _exit(), as the guardian and every forked child of a test does, would lose
 * it; so here it is written first.
 */
#ifndef TESTS_COVERAGE_H
#define TESTS_COVERAGE_H

#include <unistd.h>

#define MQREDIS_COVERAGE 1

void __gcov_dump(void); /* libgcov's */

#define _exit(code) (__gcov_dump(), _exit(code))

#endif
