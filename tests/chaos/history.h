/*
 * What one worker process tried, and what it was told. It lies in memory that
 * outlives the worker, and a step is written down before it is taken: of a
 * worker that was killed it is known what it may have sent.
 *
 * Each step has a number, and what it writes to Redis carries the worker's id
 * and that number: "w12:345".
 */
#ifndef TESTS_CHAOS_HISTORY_H
#define TESTS_CHAOS_HISTORY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/clock.h"

#define HISTORY_STEPS 8192

/* Keys of an ACT_SPREAD. */
#define HISTORY_SPREAD 4

/* What a wait may be late at most, the machine's own noise apart. */
#define LATE_GOAL_NS (200 * NS_PER_MS)

enum act {
    ACT_NONE,
    ACT_ECHO,
    ACT_PUSH,   /* RPUSH log:{wN} */
    ACT_BOTH,   /* a transaction: RPUSH log:{wN}, RPUSH both:{wN} */
    ACT_APPEND, /* APPEND text:wN "345;" */
    ACT_COUNT,  /* INCR count:wN */
    ACT_SET,    /* SET value:wN */
    ACT_GET,
    ACT_BIG, /* SET big:wN, kilobytes */
    ACT_BIG_GET,
    ACT_QUEUE,  /* RPUSH queue:wN */
    ACT_POP,    /* BLPOP queue:wN */
    ACT_SPREAD, /* MSET of keys that a cluster's manager takes apart */
    ACT_GATHER, /* MGET of them */
    ACT_ERASE,  /* DEL of them */
    ACT_NEWS,   /* PUBLISH news:wN, which this worker hears itself */
    ACT_TYPES
};

extern const char *const act_names[ACT_TYPES];

enum fate {
    FATE_OPEN,  /* sent or not, without an answer */
    FATE_DONE,  /* Redis answered */
    FATE_NOT,   /* reported as not executed */
    FATE_MAYBE, /* reported as lost, or cancelled */
    FATE_TYPES
};

extern const char *const fate_names[FATE_TYPES];

struct step {
    uint32_t at_ms; /* since the worker began */
    uint8_t act, fate;
    uint8_t popped; /* how often a POP brought this QUEUE back, or a stream
                       this NEWS */
};

#define HISTORY_STATUSES 8

struct history {
    unsigned id;
    /* Counted by the harness before it stops the process and before it lets it
     * go on: whoever waits meanwhile sees another number afterwards. */
    _Atomic unsigned stops;
    /* When the wait that it is in is to be over; 0: it is in none. */
    _Atomic uint64_t due_ns;
    bool ended_well;
    uint32_t count;
    uint64_t began_ns;
    /* Replies by enum mqredis_status. Atomic, for a forked child counts its own
     * beside its parent. */
    _Atomic uint64_t status[HISTORY_STATUSES];
    _Atomic uint64_t checked; /* replies with the value that must come */
    uint64_t plain;           /* requests that change nothing, without a step */
    uint64_t cancelled;
    _Atomic uint64_t errors; /* of Redis, which may refuse: LOADING... */
    uint64_t forks, threads;
    /* Of a stream: messages, times that some were missing as was said. */
    uint64_t heard, lagged, gaps, renewed;
    /* The longest wait past a deadline, and which step's; waits that were
     * over LATE_GOAL_NS late. */
    uint64_t late_ns, late_count, late_from_ns;
    uint32_t late_step;
    uint64_t fork_ns;     /* the kernel's part of its longest fork */
    uint32_t accused_at;  /* `count` at the accusation */
    char accusation[320]; /* the first thing that must not be; "": none */
    struct step steps[HISTORY_STEPS];
};

/* Notes what must not be. The first one stays. */
void history_accuse(struct history *h, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Writes one line for each of the steps around `number` to standard output. */
void history_show(const struct history *h, uint32_t number);

/* Whether a value of `act` may be found in Redis if `last` is the last of its
 * kind that was acknowledged (UINT32_MAX: none): that one, or one of which
 * nobody knows, which may have come at any time. */
bool history_may_stand(const struct history *h, uint32_t number, enum act act,
                       uint32_t last);

/* The same of a key that ACT_SPREAD sets and ACT_ERASE deletes; `last` is the
 * last of either that was acknowledged. */
bool history_may_be_nil(const struct history *h, uint32_t last);

/* Reads "w12:345" of this worker. False: it is not that. */
bool history_parse(const struct history *h, const char *text, size_t len,
                   uint32_t *number);

/* The name of such a key; the first two share a slot. */
const char *history_spread_key(const struct history *h, unsigned i,
                               char key[48]);

/* The value that a step gives to key `i`, "w12:345/i", and back. */
const char *history_spread_value(const struct history *h, uint32_t number,
                                 unsigned i, char value[48]);
bool history_parse_spread(const struct history *h, const char *text, size_t len,
                          unsigned i, uint32_t *number);

/* Fills `data` with bytes that only this step writes, beginning "w12:345|". */
void history_fill(const struct history *h, uint32_t number, char *data,
                  size_t len);

/* Whether that is what stands there, and the step's number: 1 or 0; -1: there
 * is no memory to find out. */
int history_is_filled(const struct history *h, const char *data, size_t len,
                      uint32_t *number);

#endif
