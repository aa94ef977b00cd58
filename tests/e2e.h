/*
 * The real programs, for suites that look at all of them together: a Redis (the
 * embedded mqredis-server or redis-server), a manager, and worker programs.
 *
 * Every test runs once for each of the two servers: add it with e2e_add, and
 * start what `_i` says. Everything started dies with the test's process. What
 * can't be started fails the running test; what a test asserts is returned.
 */
#ifndef TESTS_E2E_H
#define TESTS_E2E_H

#include <check.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "ipc/status.h"
#include "tests/support_redis.h"

/* Adds a test for both servers. */
#define e2e_add(tcase, test)                                                   \
    tcase_add_loop_test(tcase, test, 0, E2E_SERVER_COUNT)

/* Whether the long versions are asked for: MQREDIS_LONG=1. */
bool e2e_long(void);

/* Prints a measured figure for people: "figure: TEST (SERVER): ...". */
void e2e_figure(int server, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#define E2E_ARGS_MAX 24

/* Spawns a program that dies with us; its stdout and stderr go to the
 * descriptors. argv[0] without a slash is looked for in $MQREDIS_BUILD (build
 * by default), then in PATH. */
pid_t e2e_spawn(const char *const argv[], int out, int err);

/* The same with a standard input; -1: an empty one. */
pid_t e2e_spawn_fed(const char *const argv[], int in, int out, int err);

/* ---- Redis ---- */

enum e2e_server { E2E_MQREDIS, E2E_REDIS, E2E_SERVER_COUNT };

struct e2e_redis {
    enum e2e_server kind;
    struct redis at; /* pid and unix socket: redis_link_open(&link, &r.at) */
};

/* Starts one on a unix socket in the scratch folder, and waits until it
 * answers. */
void e2e_redis_start(struct e2e_redis *r, int kind);

/* The same one again, empty, on the same socket, after e2e_redis_kill. */
void e2e_redis_restart(struct e2e_redis *r);

/* SIGKILL. The socket's name stays, as it does after a crash. */
void e2e_redis_kill(struct e2e_redis *r);

/* Asks it on a connection of its own: the reply's first bytes, in static
 * storage. */
const char *e2e_redis_ask(const struct e2e_redis *r, const char *command);

/* The same for a reply that is an integer. */
long long e2e_redis_integer(const struct e2e_redis *r, const char *command);

/* ---- the manager ---- */

struct e2e_manager {
    pid_t pid;
    pid_t guardian;
    char channel[48];
    char log[160];               /* its standard error, a file */
    const struct status *status; /* mapped until the test ends */
};

/* Starts one for `uri` on a channel (NULL: a new one) and waits for its ready
 * line. Further arguments: `options`, split at spaces; NULL for none. The queue
 * is 32 messages of 1024 bytes unless they say otherwise. */
void e2e_manager_start(struct e2e_manager *m, const char *channel,
                       const char *uri, const char *options);

/* The same, but returns before it is ready; e2e_manager_ready waits. */
void e2e_manager_launch(struct e2e_manager *m, const char *channel,
                        const char *uri, const char *options);
void e2e_manager_ready(struct e2e_manager *m);

/* A Redis and a manager on it. */
void e2e_start(struct e2e_redis *r, struct e2e_manager *m, int kind,
               const char *options);

/* SIGKILL to the manager alone. Reaped. */
void e2e_manager_kill(struct e2e_manager *m);

/* To the manager and its guardian at once: it forks no other one in between. */
void e2e_manager_kill_both(struct e2e_manager *m);

/* SIGTERM, and its exit status. */
int e2e_manager_stop(struct e2e_manager *m);

/* A checked fixture's teardown: every manager that still runs ends in good order,
 * with exit status 0, and nothing of the channels stays behind. A Redis that
 * was stopped goes on for that. */
void e2e_stop_all(void);

/* Waits until its guardian is gone, too. */
bool e2e_guardian_gone(const struct e2e_manager *m);

uint64_t e2e_counter(const struct e2e_manager *m, enum status_counter c);
uint64_t e2e_gauge(const struct e2e_manager *m, enum status_gauge g);

/* Whether nothing is in flight and every command taken has met one end. */
bool e2e_balanced(const struct e2e_manager *m);

/* "taken=... answered=... ...", for messages. Static storage. */
const char *e2e_books(const struct e2e_manager *m);

/* Its log up to now, in static storage. */
const char *e2e_log(const struct e2e_manager *m);

/* Whether that is in it. */
bool e2e_logged(const struct e2e_manager *m, const char *text);

/* Its state now (enum manager_state_kind); 0: there is none to read. */
uint32_t e2e_state(const struct e2e_manager *m);

/* A unix socket's URI: "unix://PATH". Static storage. */
const char *e2e_uri(const struct e2e_redis *r);

/* ---- any program, run to its end ---- */

struct e2e_output {
    int status; /* exit status, or 128 + signal */
    double ms;
    size_t len;
    char text[8192]; /* stdout and stderr, NUL-terminated */
};

/* Runs mqredis-worker or another program; stdin is empty. */
void e2e_run(struct e2e_output *out, const char *const argv[]);

/* How many lines a text has. */
size_t e2e_lines(const char *text);

#endif
