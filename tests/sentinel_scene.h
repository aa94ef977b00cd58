/*
 * What the suites of Redis Sentinel play on: two real servers, two sentinels
 * that say whatever a test wants, a manager and a requester. One of each: a
 * test has its process to itself. What does not come as expected fails the
 * running test.
 */
#ifndef TESTS_SENTINEL_SCENE_H
#define TESTS_SENTINEL_SCENE_H

#include <check.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/e2e_scene.h"
#include "tests/fake_sentinel.h"
#include "tests/support_redis.h"

#define TIMEOUT_MS 20000

/* A Redis on a port. */
struct server {
    struct redis at;
    int port;
};

extern struct server a, b;
extern struct fake_sentinel one, two;
extern struct e2e_output out;

/* `more` is appended to its command line. False: there is no redis-server,
 * which is said. */
bool server_start(struct server *s, const char *more);
const char *server_ask(const struct server *s, const char *command);
void server_follow(struct server *s, const struct server *of);

/* "sentinel://.../mymaster" of one sentinel, or of both. Static storage. */
const char *sentinel_uri(int count);

/* Starts two servers, and two sentinels that name the first one; then a manager
 * that listens to one of them. False as above. */
bool sentinel_scene(void);
bool sentinel_scene_served(const char *options);

void open_client(void);
void close_client(void);

/* A command through the manager goes to this server. */
void assert_serves(const struct server *s, const char *key);

/* What the manager tells: whether it is connected to this server; how often
 * sentinels named another master. */
bool manager_shows(const struct server *s);
uint64_t manager_switches(void);

#endif
