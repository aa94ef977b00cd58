/*
 * What the suites of lying nodes play on: nodes of our own making, a manager,
 * and a handle of the library on its channel. One of each: a test has its
 * process to itself.
 *
 * What does not come as expected fails the running test.
 */
#ifndef TESTS_FAKE_CLUSTER_SCENE_H
#define TESTS_FAKE_CLUSTER_SCENE_H

#include <stdint.h>

#include "manager/slot.h"
#include "tests/e2e_scene.h"
#include "tests/fake_cluster.h"
#include "tests/lib.h"

/* The manager is e2e_scene.h's. */
extern struct fake_cluster nodes;
extern struct mqredis *mq;

/* A key, its slot, and the node that the even map gives it to. The slot of
 * "bar", 5061, is the first node's, of up to three. */
#define KEY "foo"
#define SLOT 12182
#define OWNER(count) (SLOT * (count) / SLOTS)

/* Starts the nodes, unless a test has started them, and a manager. */
void fake_scene_begin(int count, const char *options);

/* The books balance, and all end in good order. */
void fake_scene_end(void);

/* Of a node: its port, and how many commands it saw. */
int port(int node);
unsigned asked(int node);

/* The handle's timeout, before which everything ends by itself. */
#define FAKE_TIMEOUT_MS 20000

/* A command's reply, which takes so long at least, and less than that timeout
 * by far. */
struct mqredis_reply *timed(const char *command, int64_t least_ms);

/* The reply to a command whose time (so much, from now on the handle's again)
 * runs out, while node 1 says this to all (NULL: whatever it says already). The
 * library waits little longer than that for the manager's word about it: where
 * that came too late it is tried again, with the books as they were before. */
struct mqredis_reply *runs_out(const char *command, int64_t timeout_ms,
                               const char *says);

/* Nothing is left of what went before: in that slot, or at another node. */
void assert_serves(void);

/* A suite's main: each test as a case of its own, so many times. */
struct fake_case {
    const char *name;
    const TTest *test;
    int rounds;
};

int fake_scene_run(const char *suite, const struct fake_case *cases,
                   size_t count);

#endif
