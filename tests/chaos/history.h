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

#define HISTORY_STEPS 8192

enum act {
    ACT_NONE,
    ACT_ECHO,
    ACT_PUSH,   /* RPUSH log:wN */
    ACT_BOTH,   /* a transaction: RPUSH log:wN, RPUSH both:wN */
    ACT_APPEND, /* APPEND text:wN "345;" */
    ACT_COUNT,  /* INCR count:wN */
    ACT_SET,    /* SET value:wN */
    ACT_GET,
    ACT_BIG, /* SET big:wN, kilobytes */
    ACT_BIG_GET,
    ACT_QUEUE, /* RPUSH queue:wN */
    ACT_POP,   /* BLPOP queue:wN */
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
    uint8_t act, fate;
    uint8_t popped; /* how often a POP brought this QUEUE back */
};

#define HISTORY_STATUSES 8

struct history {
    unsigned id;
    /* How often the harness stopped it; written by the harness. */
    _Atomic unsigned stops;
    bool ended_well;
    uint32_t count;
    uint64_t status[HISTORY_STATUSES]; /* replies by enum mqredis_status */
    uint64_t cancelled;
    uint64_t errors; /* of Redis, those that may be: LOADING */
    /* The longest wait past a deadline, and which step's. */
    uint64_t late_ns;
    uint32_t late_step;
    char accusation[320]; /* the first thing that must not be; "": none */
    struct step steps[HISTORY_STEPS];
};

/* Notes what must not be. The first one stays. */
void history_accuse(struct history *h, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Whether a value of `act` may be found in Redis if `last` is the last of its
 * kind that was acknowledged (UINT32_MAX: none): that one, or one of which
 * nobody knows, which may have come at any time. */
bool history_may_stand(const struct history *h, uint32_t number, enum act act,
                       uint32_t last);

/* Reads "w12:345" of this worker. False: it is not that. */
bool history_parse(const struct history *h, const char *text, size_t len,
                   uint32_t *number);

/* Fills `data` with bytes that only this step writes, beginning "w12:345|". */
void history_fill(const struct history *h, uint32_t number, char *data,
                  size_t len);

/* Whether that is what stands there; *number of the step. */
bool history_is_filled(const struct history *h, const char *data, size_t len,
                       uint32_t *number);

#endif
