/*
 * The processes of a round: a Redis behind a proxy, managers of one channel,
 * workers. It starts them, notices their ends, starts again what is to come
 * back, and judges how each of them ended.
 */
#ifndef TESTS_CHAOS_WORLD_H
#define TESTS_CHAOS_WORLD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/chaos/dice.h"
#include "tests/chaos/history.h"
#include "tests/proxy.h"

#define WORLD_WORKERS 16
#define WORLD_MANAGERS 3
#define WORLD_HISTORIES 1024
#define WORLD_QUEUES 128

/* A process that may be stopped for a while. */
struct player {
    pid_t pid;          /* 0: none now */
    uint64_t resume_ns; /* stopped until then; 0: it is not */
};

struct manager {
    struct player player;
    bool takeover; /* started to replace another */
    int told;      /* the signal that we sent it to end, 0: none */
    uint64_t told_ns;
};

struct seat {
    struct player player;
    struct history *history;
    uint64_t refill_ns;
};

struct world {
    struct dice dice; /* of faults alone */
    char dir[160];    /* the round's folder */
    char channel[32];
    bool durable; /* the Redis keeps what it acknowledged through a kill */
    bool calm;    /* no faults any more */
    bool closing; /* no manager comes back any more */

    struct player redis;
    char redis_path[108];
    uint64_t redis_back_ns; /* when it is to be started again */

    struct proxy proxy;
    uint64_t heal_ns;

    struct manager managers[WORLD_MANAGERS];
    char options[8][24]; /* of every manager */
    uint64_t manager_back_ns;
    bool replaced; /* a takeover was tried: managers may end by themselves */

    struct seat seats[WORLD_WORKERS];
    unsigned seat_count;
    struct history *histories; /* in shared memory */
    unsigned history_count;
    _Atomic bool *leave; /* of all workers */

    /* Every queue that ever was the channel's. */
    char queues[WORLD_QUEUES][128];
    unsigned queue_count;

    uint64_t noise_ns; /* the longest that this process overslept */
    unsigned violations;
};

/* Prints a violation. */
void world_accuse(struct world *w, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Notes what is done, with the time, in the round's log. */
void world_note(struct world *w, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Starts everything in an empty folder. `histories` has room for
 * WORLD_HISTORIES. */
void world_begin(struct world *w, uint64_t seed, bool durable);

/* Starts a manager. False: there is no room for another. */
bool world_start_manager(struct world *w, bool takeover);

/* The managers that live now. */
unsigned world_managers(const struct world *w);

/* A random one of them; NULL: none. */
struct manager *world_any_manager(struct world *w);

/* Its guardian, 0: none. */
pid_t world_guardian(const struct manager *m);

/* SIGSTOP, for a time; and SIGCONT. */
void world_stop(struct player *p, int ms);
void world_resume(struct player *p);

/* Sends a manager a signal that ends it. */
void world_end_manager(struct world *w, struct manager *m, int signal);

/* SIGKILLs Redis and what it forked; it comes back after `ms`. */
void world_kill_redis(struct world *w, int ms);

/* Takes in what ended, brings back what is due, heals what is due; sleeps some
 * milliseconds. */
void world_turn(struct world *w);

#endif
