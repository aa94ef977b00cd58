/*
 * The server: one thread, one epoll loop, all state in one struct.
 *
 * main.c makes one and runs it; tests make as many as they like, and step them
 * by hand. Commands get it passed with the client that gave them.
 */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"
#include "server/db.h"
#include "server/dict.h"
#include "server/heap.h"
#include "server/mem.h"
#include "server/options.h"

struct client;
struct server;

/* The version of Redis whose behaviour this is. */
#define SERVER_REDIS_VERSION "7.0.15"
#define SERVER_VERSION "1.0"

#define SERVER_LISTENERS_MAX (OPTIONS_BIND_MAX + 1)
#define SERVER_READ_SIZE (64 * 1024)
#define SERVER_CYCLES_PER_S 10

/* A descriptor in the loop, and who hears of it. */
struct source {
    int fd;          /* -1: none */
    uint32_t events; /* what epoll was asked for */
    void (*ready)(struct server *s, struct source *source, uint32_t events);
};

struct listener {
    struct source source;
    bool is_unix;
};

/* What INFO tells. */
struct stats {
    uint64_t connections;
    uint64_t commands;
    uint64_t errors;
    uint64_t bytes_in;
    uint64_t bytes_out;
    uint64_t hits;
    uint64_t misses;
    uint64_t expired;
    uint64_t expire_cycles_cut; /* ended by their share of time */
    uint64_t accept_failures;
    uint64_t query_limit_drops;  /* clients over the query buffer limit */
    uint64_t output_limit_drops; /* clients over an output buffer limit */
};

enum server_phase {
    SERVER_RUNNING,  /* accepts and serves */
    SERVER_STOPPING, /* asked to end: takes nothing new, flushes replies */
    SERVER_STOPPED   /* the loop has ended */
};

struct client_list {
    struct client *first, *last;
};

struct server {
    struct options options;
    struct mem mem;
    uint64_t random_state;
    uint64_t seed[2];
    enum server_phase phase;
    struct stats stats;
    char run_id[41];
    int64_t started_ms;

    int epoll_fd;
    struct listener listeners[SERVER_LISTENERS_MAX];
    size_t listener_count;
    bool listening;            /* the listeners are asked for connections */
    int64_t accept_retry_ms;   /* no accept before; 0: no trouble */
    int64_t accept_backoff_ms; /* the last pause; 0: none */

    struct client_list clients; /* oldest first */
    size_t client_count;
    uint64_t next_client_id;
    struct client *dirty;   /* have output that was not tried to send yet */
    struct client *resumed; /* unblocked, may have requests waiting */
    struct client *dead;    /* closed, to be freed after the batch */
    char *read_buffer;      /* shared: most requests are whole after one read */

    struct db dbs[OPTIONS_DATABASES];
    int64_t now_ms;        /* real time within a command; 0: not read yet */
    int64_t loop_ms;       /* real time of this round of the loop */
    int64_t next_cycle_ms; /* when the housekeeping is due */

    struct command_index *commands;

    struct dict channels; /* name -> subscriptions, see pubsub.c */
    struct dict patterns;
    struct heap timeouts; /* of blocked clients */
    size_t blocked_count;
    struct ready_key *ready_first, *ready_last; /* see blocking.c */
    bool in_exec;
};

/* Listens as the options say, and serves nobody yet. The options are copied.
 * On failure `why` tells the person. */
MUST_CHECK enum err server_new(struct server **out,
                               const struct options *options,
                               struct err_text *why);

/* Closes everything, unlinks the unix socket. NULL is fine. */
void server_free(struct server *s);

/* Waits up to timeout_ms for events and handles them. */
void server_step(struct server *s, int timeout_ms);

/* Serves until server_stop, then drains and returns. */
void server_run(struct server *s);

/* Ends server_run: no new connections; commands that have arrived are
 * finished and their replies sent, within a few seconds. A second call does
 * not wait for slow readers. */
void server_stop(struct server *s);

/* The port of the first TCP listener; 0: none. */
int server_port(const struct server *s);

/* Puts a descriptor into the loop, or changes what it waits for; `events` 0
 * keeps it there without waiting. False (with errno) when epoll refuses. */
bool server_watch(struct server *s, struct source *source, uint32_t events);
void server_unwatch(struct server *s, struct source *source);

/* Looks at the count of clients and the accept backoff, and starts or stops
 * listening. */
void server_update_listening(struct server *s);

/* Real time in ms, the same throughout one command. */
int64_t server_now_ms(struct server *s);

uint64_t server_random(struct server *s);

/* Makes the process's limit of open files large enough for max_clients.
 * ERR_LIMIT when that is not allowed. */
MUST_CHECK enum err server_provide_descriptors(const struct options *o,
                                               struct err_text *why);

#endif
