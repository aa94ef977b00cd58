/*
 * mqredis-gateway for suites: started beside a manager, and connections to it
 * on which every byte is the test's own.
 *
 * What can't be done fails the running test, as in support.h.
 */
#ifndef TESTS_GATEWAY_H
#define TESTS_GATEWAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/e2e_scene.h"

struct gateway_process {
    pid_t pid;
    char path[108]; /* its unix socket */
    char log[160];  /* its standard error, a file */
    int port;       /* 0: no TCP */
};

/* Starts one on a channel and waits until it listens, on a unix socket and, if
 * the options say `--port`, there too. `options`: split at spaces; NULL. */
void gw_start(struct gateway_process *g, const char *channel,
              const char *options);

/* The same on the socket that *g names already; returns at once. */
void gw_launch(struct gateway_process *g, const char *channel,
               const char *options);
bool gw_listens(struct gateway_process *g);

/* A Redis, a manager with these options, and a gateway. */
void gw_start_all(struct gateway_process *g, struct e2e_redis *r,
                  struct e2e_manager *m, int kind, const char *manager_options,
                  const char *options);

/* The one that a test plays with, beside the Redis and the manager of
 * e2e_scene.h; starts all of them and connects to it. */
extern struct gateway_process gateway;
int gw_begin(int kind, const char *manager_options, const char *options);

/* SIGTERM, and its exit status. */
int gw_stop(struct gateway_process *g);

/* Its log up to now, in static storage. */
const char *gw_log(const struct gateway_process *g);

int gw_connect(const struct gateway_process *g);
int gw_connect_tcp(const struct gateway_process *g);

void gw_send(int fd, const char *text);
void gw_send_bytes(int fd, const char *data, size_t len);

/* Reads as many bytes as `text` has and compares them. */
void gw_expect(int fd, const char *text);

/* Sends, and expects. */
void gw_talk(int fd, const char *text, const char *expected);

/* Reads until `text` has come. What came, in static storage. */
const char *gw_read_until(int fd, const char *text);

/* Reads exactly `len` bytes. */
void gw_read_bytes(int fd, char *data, size_t len);

/* Whether the connection is closed by the gateway, soon; what comes before is
 * passed over. */
bool gw_closes(int fd);

/* Whether nothing comes for `ms`. */
bool gw_silent(int fd, int ms);

/* A line of the answer to GATEWAY, asked on a connection of its own. */
uint64_t gw_counter(const struct gateway_process *g, const char *name);

/* Whether every command that was sent into the channel has met one end. */
bool gw_balanced(const struct gateway_process *g);

#endif
