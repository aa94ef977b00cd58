/*
 * What the suites of large values share: bytes that name whose they are,
 * servers by TCP and TLS, and the manager's memory seen from outside.
 *
 * What can't be started fails the running test, as in support.h.
 */
#ifndef TESTS_LARGE_H
#define TESTS_LARGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/e2e_scene.h"
#include "workers/mqredis.h"

#define LARGE_MIB ((size_t)1 << 20)

/* Call first in main: the scratch folder is to be in memory, as channels are.
 */
void large_prepare(void);

/* Fills a buffer with bytes that follow from `seed` alone, and tells whether a
 * buffer holds just those. */
void large_fill(char *data, size_t len, uint64_t seed);
bool large_is(const char *data, size_t len, uint64_t seed);

/* The same in new memory; ends a child, or fails the test, without memory. */
char *large_new(size_t len, uint64_t seed);

/* Opens the manager's channel with time enough. Fails the test. */
struct mqredis *large_open(const struct e2e_manager *m);

/* Whether the reply is of that type with these bytes (STRING, STATUS); frees
 * it. What it was goes to standard error. */
bool large_is_status(struct mqredis_reply *reply, const char *text);
bool large_is_value(struct mqredis_reply *reply, size_t len, uint64_t seed);
bool large_is_integer(struct mqredis_reply *reply, int64_t value);
bool large_failed(struct mqredis_reply *reply, enum mqredis_status status);

/* SET, then GET; whether both are right. */
bool large_round(struct mqredis *mq, const char *key, size_t len,
                 uint64_t seed);

/* The same on the scene's manager (e2e_scene.h), by a handle of its own. */
void large_put(const char *key, size_t len, uint64_t seed);

/* Sends `GET key` by a client of its own, and reads nothing. */
void large_stall(struct e2e_client *c, struct e2e_call *k, const char *key);

/* A server that listens on 127.0.0.1 too. With `tls` redis-server by TLS.
 * False: not to be had here. The URI (and with TLS further options of the
 * manager) is put into `uri` and `options`. */
bool large_tcp(struct e2e_redis *r, int kind, bool tls, char uri[128],
               char options[256]);

/* Anonymous resident memory in kB; open descriptors; -1: no such process. */
long large_rss_kb(pid_t pid);
int large_fds(pid_t pid);

/* Entries of the channel's payload and reply folders together. */
int large_leftovers(const struct e2e_manager *m);

/* The p-th part (0.99) of `count` times; sorts them. */
uint64_t large_percentile(uint64_t *times, size_t count, double p);

#endif
