/*
 * What most suites of the real programs play on: a Redis, a manager, and the
 * test's own process as a requester that looks on. One of each: a test has its
 * process to itself.
 *
 * What does not come as expected fails the running test.
 */
#ifndef TESTS_E2E_SCENE_H
#define TESTS_E2E_SCENE_H

#include "tests/e2e.h"
#include "tests/e2e_client.h"

extern struct e2e_redis redis;
extern struct e2e_manager manager;
extern struct e2e_client client;
extern struct e2e_call call;

/* Starts both and joins the channel. */
void scene_begin(int kind, const char *options);

/* Every command taken has met one end. */
void scene_balanced(void);

/* Leaves the channel, where nothing may be left, and ends the manager in good
 * order. */
void scene_end(void);

#endif
