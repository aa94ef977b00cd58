/*
 * A worker at work: its handle, its history, what it knows of Redis by what it
 * was told; and how every act writes its step down, judges the reply and takes
 * the time.
 */
#ifndef TESTS_CHAOS_HAND_H
#define TESTS_CHAOS_HAND_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/chaos/dice.h"
#include "tests/chaos/history.h"
#include "tests/chaos/worker.h"
#include "workers/mqredis.h"

/* Steps that one act may take. */
#define ACT_STEPS 80

#define NOBODY UINT32_MAX

struct hand {
    const struct worker_task *task;
    struct history *h;
    struct dice dice;
    struct mqredis *mq;
    int timeout_ms;
    /* The newest that Redis acknowledged. */
    int64_t log_length, text_length, counter;
    uint32_t last_set, last_big;
    uint32_t last_spread; /* ACT_SPREAD or ACT_ERASE */
    unsigned doubtful_spreads;
    /* Elements of the queue that are certainly there, pops without an end. */
    long queued, doubtful_pops;
    bool shard;      /* news come by a shard channel */
    uint64_t serial; /* of values that have no step */
    int sched_fd;    /* of hand_open_sched, for the main thread */
};

/* A wait, for the question whether it was too long. */
struct watch_hand {
    uint64_t from_ns;
    uint64_t starved_ns;
    unsigned stops;
    int sched_fd;
};

/* What tells how long the calling thread was ready to run, and did not: a wait
 * is not late for want of a processor. -1: that is not known here. */
int hand_open_sched(void);

struct watch_hand hand_watch(const struct hand *w);
/* The same in a thread that has a descriptor of its own. */
struct watch_hand hand_watch_by(const struct hand *w, int sched_fd);

/* When a request that is submitted at `watch` is out of time. */
uint64_t hand_deadline(const struct hand *w, struct watch_hand watch);

/* A wait that began at `watch` for something with this deadline is over. One in
 * which the process was stopped says nothing. */
void hand_stop_watch(struct hand *w, struct watch_hand watch,
                     uint64_t deadline_ns, uint32_t number);

/* The end of a wait in a thread: when it was, and what the thread was kept from
 * running meanwhile; and the judgement, by whoever owns the history. */
struct wait_end {
    uint64_t at_ns, starved_ns;
};
struct wait_end hand_end(struct watch_hand watch);
void hand_note_wait(struct hand *w, struct watch_hand watch,
                    uint64_t deadline_ns, struct wait_end end, uint32_t number);

/* Writes a step down before it is taken, and gives its number. */
uint32_t hand_begin(struct hand *w, enum act act);
void hand_fate(struct hand *w, uint32_t number, enum fate fate);

/* Gives the step its fate. True: Redis answered with a reply of this type. */
bool hand_settle(struct hand *w, uint32_t number, const struct mqredis_reply *r,
                 enum mqredis_type type);

/* The same for a request without a step, of which `what` is the name. */
bool hand_settle_plain(struct hand *w, const char *what,
                       const struct mqredis_reply *r, enum mqredis_type type);

/* A length or counter that only this worker moves: each reply is greater than
 * the one before, and not greater than what was ever asked for. */
void hand_check_growth(struct hand *w, uint32_t number, int64_t *newest,
                       int64_t now, int64_t at_most);

/* The reply is this text and no other. */
void hand_check_text(struct hand *w, const struct mqredis_reply *r,
                     const char *wanted);

/* "wN:step" */
const char *hand_value(const struct hand *w, uint32_t number, char text[32]);

/* ---- acts, many.c: several requests that belong together, or at once ---- */

void act_batch(struct hand *w);
void act_transaction(struct hand *w);
void act_window(struct hand *w);
/* Hundreds at once that have no steps, and each reply is checked. */
void act_flurry(struct hand *w);

/* ---- acts, spread.c: keys that in a cluster lie on several nodes ---- */

void act_mixed(struct hand *w);
void act_spread(struct hand *w);

/* Whether Redis executed nothing and said why, as it may: it reads its log, or
 * the cluster is not whole. */
bool hand_may_be(const char *error);

/* ---- acts, kin.c: threads, forked children, the program for the shell ---- */

/* Before the library's handle is opened: its handlers of pthread_atfork(3) come
 * outside of ours then. False: out of memory. */
bool hand_watch_forks(void);

void act_threads(struct hand *w);
void act_fork(struct hand *w);
void act_program(struct hand *w);

/* ---- news.c: the life of a subscriber, see worker.h ---- */

void news_live(struct hand *w);

#endif
