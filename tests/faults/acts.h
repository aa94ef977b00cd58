/*
 * What a worker does in the sweeps, with everything it was told noted, so that
 * it can be compared with what Redis has.
 *
 * Each act adds a number of its own to a key of its own: its reply can only be
 * that number, and the key tells how often it was executed.
 */
#ifndef TESTS_FAULTS_ACTS_H
#define TESTS_FAULTS_ACTS_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/support_redis.h"
#include "workers/mqredis.h"

#define ACTS_MAX 64
#define ACTS_STATUSES (MQREDIS_SYSTEM + 1)

struct act {
    bool told;    /* has a status; if not, it was given up */
    bool large;   /* appends 20,000 bytes instead */
    char tag[24]; /* of its key; "": none */
    enum mqredis_status status;
};

/* Lies in memory shared with the test. */
struct acts {
    uint64_t id; /* of this run: part of the keys */
    int64_t timeout_ms;
    char moving[24]; /* tag of a slot that is moved while they run */
    unsigned count;
    struct act list[ACTS_MAX];
    unsigned statuses[ACTS_STATUSES]; /* of all calls */
    int64_t worst_ms;                 /* the longest call */
    char at[64];                      /* the step under way */
    char wrong[512];                  /* the first thing that may not be */
    bool opened;
    bool silent; /* a stream that should have heard something did not, nor was
                    it told why; that is right while nobody listens upstream */
    bool child_done;
    int fds[2];        /* before and after */
    int64_t blocks[2]; /* of memory, likewise */
};

/* The parts, each by itself. `mq` may be anything that mqredis_open gave. */
void acts_commands(struct acts *a, struct mqredis *mq);
void acts_batches(struct acts *a, struct mqredis *mq);
void acts_large(struct acts *a, struct mqredis *mq);
void acts_async(struct acts *a, struct mqredis *mq);
void acts_events(struct acts *a, struct mqredis *mq);
void acts_stream(struct acts *a, struct mqredis *mq);
void acts_shard_stream(struct acts *a, struct mqredis *mq);
void acts_fork(struct acts *a, struct mqredis *mq);

/* A few commands and a stream, on a handle of their own. */
void acts_brief(struct acts *a, const char *channel);

/* All of them, from mqredis_open to mqredis_close. */
void acts_all(struct acts *a, const char *channel);

/* What takes other ways through a manager: a reply of 1,000,000 bytes, a
 * blocking command, one that goes past the rest, and a worker that is killed.
 */
void acts_served(struct acts *a, const char *channel);

/* What takes other ways through a manager with a cluster: commands that are
 * split or go to all masters, redirected ones, a shard channel. */
void acts_spread(struct acts *a, const char *channel);

/* Of those what is redirected, and what is split. */
void acts_spread_brief(struct acts *a, const char *channel);

/* Notes what may not be; the first note stays. */
void acts_wrong(struct acts *a, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* In the test, afterwards: asks Redis what was executed, and notes where that
 * is not what the worker was told. Of `count` servers a key is in one, or they
 * are the nodes of a cluster. */
void acts_verify(struct acts *a, struct redis_link *links, int count);

#endif
