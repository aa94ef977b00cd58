/*
 * What main of every suite ends with.
 */
#ifndef TESTS_SUPPORT_RUN_H
#define TESTS_SUPPORT_RUN_H

#include <check.h>

/* Runs a suite's tests, each in a process of its own, prints the summary that
 * tests/run reads, frees the suite and returns the exit status: 0 if every test
 * passed. CK_VERBOSITY, CK_FORK and Check's other variables count. */
int support_run(Suite *suite);

/* The same with all tests in this one process, whatever CK_FORK says: for tests
 * of something that lives here from one test to the next. */
int support_run_unforked(Suite *suite);

#endif
