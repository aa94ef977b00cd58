/*
 * The processes of a round: a Redis behind a proxy, or a cluster of which each
 * node has a proxy; managers of one channel, workers. It starts them, notices
 * their ends, starts again what is to come back, and judges how each of them
 * ended.
 */
#ifndef TESTS_CHAOS_WORLD_H
#define TESTS_CHAOS_WORLD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "tests/chaos/admin.h"
#include "tests/chaos/dice.h"
#include "tests/chaos/history.h"
#include "tests/chaos/keeper.h"
#include "tests/chaos/worker.h"
#include "tests/proxy.h"
#include "tests/redis_cluster.h"

#define WORLD_WORKERS ADMIN_WORKERS
#define WORLD_MANAGERS 3
#define WORLD_SERVERS 3
#define WORLD_HISTORIES 1024
#define WORLD_SLEEPERS 8
#define FILLERS 4096

/* A process that may be stopped for a while, or lack something. */
struct player {
    pid_t pid; /* 0: none now */
    uint64_t born_ns;
    _Atomic unsigned *stops; /* NULL: nobody counts them */
    uint64_t resume_ns;      /* stopped until then; 0: it is not */
    uint64_t lift_ns;        /* limited until then; 0: it is not */
    int limited;             /* RLIMIT_... */
    struct rlimit before;
};

struct manager {
    struct player player;
    bool takeover;             /* started to replace another */
    bool told_term, told_kill; /* what we sent to end it */
    uint64_t told_ns;
};

/* A Redis and what stands before it. */
struct server {
    struct player player;
    char path[108];   /* its unix socket */
    uint64_t back_ns; /* when it is to be started again */
    struct proxy proxy;
    uint64_t heal_ns; /* the proxy does something until then; 0: nothing */
};

struct seat {
    struct player player;
    enum role role;
    struct history *history;
    uint64_t late_due_ns; /* of the wait that was found late and noted */
    uint64_t refill_ns;
};

/* What a round is to be like. */
struct plan {
    uint64_t seed;
    bool durable;        /* redis-server, which keeps what it acknowledged */
    bool quick;          /* few faults, as many checked requests as go */
    bool gentle;         /* leaves most of the machine to others */
    bool cluster;        /* of three masters, in place of one Redis */
    bool mounts;         /* private ones are allowed */
    const char *tls_dir; /* of certificates; NULL: no TLS */
    struct history *histories; /* WORLD_HISTORIES, in shared memory */
    struct orders *orders;
    struct remains *remains;
};

struct world {
    struct dice dice;  /* of faults alone */
    char dir[160];     /* the round's folder */
    char run_dir[176]; /* where the channel's folder is */
    char channel[32];
    const struct plan *plan;
    bool calm;    /* no faults any more */
    bool closing; /* no manager comes back any more */

    struct server servers[WORLD_SERVERS];
    unsigned server_count;
    bool tls;
    int tls_port;
    /* Where the servers are a cluster, and who moves its slots (0: nobody). */
    struct redis_cluster cluster;
    struct admin_office *office; /* shared with that one */
    pid_t admin;
    uint64_t look_ns;  /* at a cluster whose node came back */
    uint64_t words[8]; /* enum cluster_word: how often nodes said them */

    struct manager managers[WORLD_MANAGERS];
    char options[8][32]; /* of every manager */
    char uri[160];
    uint64_t manager_back_ns;
    bool replaced; /* a takeover was tried: managers may end by themselves */

    struct seat seats[WORLD_WORKERS];
    unsigned seat_count;
    struct history *histories; /* in shared memory */
    unsigned history_count;
    struct orders *orders; /* of all workers */

    bool disk;        /* it has a file system of its own */
    unsigned fillers; /* files that fill it */
    uint64_t disk_ns; /* until when it is full; 0: it is not */

    struct remains *remains; /* every queue that ever was the channel's */
    uint64_t full;           /* looks at the queue that found it full */

    /* The longest that a process overslept which does nothing else. */
    _Atomic uint64_t *noise_ns;
    pid_t sleepers[WORLD_SLEEPERS]; /* one for each processor */
    unsigned sleeper_count;
    pid_t asker; /* who asks whether all is well again; 0: it has ended */
    int asker_status;
    unsigned violations;
};

/* Prints a violation. */
void world_accuse(struct world *w, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Notes what is done, with the time, in the round's log. */
void world_note(struct world *w, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Starts everything in the empty folder that support_scratch names. */
void world_begin(struct world *w, const struct plan *plan);

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
void world_end_manager(struct manager *m, int signal);

/* Takes in what ended, brings back what is due, heals what is due; sleeps some
 * milliseconds. */
void world_turn(struct world *w);

/* ---- programs.c ---- */

/* A child, or the end of the run: a pid of -1 would later be everybody's. */
pid_t world_fork(void);

void world_start_redis(struct world *w, struct server *server);

/* SIGKILLs a Redis and what it forked; it comes back after `ms`. */
void world_kill_redis(struct world *w, struct server *server, int ms);

/* Starts a manager. False: there is no room for another. */
bool world_start_manager(struct world *w, bool takeover);

/* Starts a worker, unless there were too many. */
void world_start_worker(struct world *w, struct seat *seat);

/* Starts those who measure the machine's noise. */
void world_start_sleepers(struct world *w);

#endif
