/* The table of topics, by kind and name. */
#ifndef MANAGER_TOPICS_H
#define MANAGER_TOPICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"

struct subscription;
struct upstream;

/* Names of different kinds are different topics. */
enum topic_kind {
    TOPIC_CHANNEL,
    TOPIC_PATTERN,
    TOPIC_SHARD, /* a channel that lives in a cluster's slot */
    TOPIC_KINDS
};

/* "ssubscribe", "unsubscribe", ...: Redis's word for coming or leaving. */
const char *topic_word(enum topic_kind kind, bool adding);

struct topic {
    struct topic *chain;          /* in a bucket */
    struct topic *waiting;        /* the next one whose answer is due */
    struct subscription *members; /* who wants it */
    struct upstream *up;          /* where it is, or is to be; NULL: nowhere */
    enum topic_kind kind;
    uint8_t hops; /* from master to master since it was confirmed */
    bool active;  /* Redis has confirmed it */
    bool pending; /* an answer of Redis about it is due */
    bool adding;  /* that answer is to SUBSCRIBE, else to UNSUBSCRIBE */
    uint32_t hash;
    size_t len;
    char name[];
};

struct topics {
    struct topic **buckets;
    uint32_t bucket_count; /* a power of two */
    uint32_t count;
    uint64_t seed;
};

MUST_CHECK enum err topics_init(struct topics *t, uint64_t seed);
void topics_release(struct topics *t); /* frees the topics too */

/* NULL: there is none of that name. */
struct topic *topics_find(const struct topics *t, enum topic_kind kind,
                          const char *name, size_t len);

/* Adds one that is not there. NULL: out of memory. */
struct topic *topics_add(struct topics *t, enum topic_kind kind,
                         const char *name, size_t len);

/* Takes it out and frees it. */
void topics_remove(struct topics *t, struct topic *topic);

#endif
