/*
 * Test cases written in another language: each becomes a test of its own, with
 * a Redis and a manager of its own.
 *
 * A script that is run without an argument prints the names of its cases, one a
 * line; with the name of one it runs that, and exits 0 if it passed. Status 77
 * is "cannot be tried here", with a line that says why: then its cases are
 * skipped, as they are where there is no interpreter.
 *
 * While a case runs, the script may order by a line on its standard output,
 * "@kill manager" or "@start manager", and is told by a line on its standard
 * input, "done", that it is carried out. It finds in its environment
 * MQREDIS_CHANNEL, MQREDIS_BUILD and MQREDIS_LIBRARY.
 */
#ifndef TESTS_SCRIPT_H
#define TESTS_SCRIPT_H

#include <check.h>

#include "tests/e2e.h"

struct script {
    const char *name;    /* of its test cases, for people */
    const char *argv[8]; /* the interpreter, its options, the script */
    const char *needs;   /* what to install where it cannot be run */
    bool loads_library;  /* cannot be tried with a library that is built with
                            a sanitizer */
    const char *manager; /* further options of the manager; may be NULL */
    /* Called in the test's process before the script is run, to start what else
     * it needs and to set variables; may be NULL. */
    void (*prepare)(void);
    /* Called when the script has passed; may be NULL. */
    void (*finish)(void);
};

/* Adds a script's cases to a suite, or says on a line why they are skipped.
 * Ends the program if the script fails to name them. `script` lives on. Called
 * in main. */
void script_add(Suite *suite, const struct script *script);

#endif
