/* The table of topics, by name: channels and patterns are different topics. */
#ifndef MANAGER_TOPICS_H
#define MANAGER_TOPICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"

struct subscription;

struct topic {
    struct topic *chain;          /* in a bucket */
    struct topic *waiting;        /* the next one whose answer is due */
    struct subscription *members; /* who wants it */
    bool pattern;
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
struct topic *topics_find(const struct topics *t, bool pattern,
                          const char *name, size_t len);

/* Adds one that is not there. NULL: out of memory. */
struct topic *topics_add(struct topics *t, bool pattern, const char *name,
                         size_t len);

/* Takes it out and frees it. */
void topics_remove(struct topics *t, struct topic *topic);

#endif
