/*
 * What the suites of subscriptions play on: a Redis and a manager (those of
 * e2e_scene.h), a publisher of the test's own, and the usual subscriber. One of
 * each: a test has its process to itself.
 *
 * What does not come as expected fails the running test.
 */
#ifndef TESTS_PUBSUB_SCENE_H
#define TESTS_PUBSUB_SCENE_H

#include "tests/e2e_scene.h"
#include "tests/pubsub_client.h"

#define TIMEOUT_MS 20000

extern struct redis_link publisher;
extern struct sub sub;
extern struct broadcast_event ev;

/* Starts all but the subscriber. */
void begin(int kind, const char *options);

/* How many connections Redis says are subscribed. */
long long numsub(const char *channel);
long long shardnumsub(const char *channel);

/* Opens a subscription and waits for its confirmation. */
void subscribe(struct sub *s, const char *command);

/* What comes next: publish's message of that number; the stream's end. */
void expect_number(struct sub *s, unsigned long n);
void expect_end(struct sub *s, enum reply_status status, const char *text);

#endif
