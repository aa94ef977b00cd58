/*
 * Lanes: small commands and large ones go by connections of their own, since
 * Redis answers in order and 100 MB in front of a GET are 100 MB of waiting.
 *
 * Which lane a command takes is known for a large argument, and learned for a
 * large reply: from the same command's last reply, and from its sender's last
 * one. A sender with something in flight on one lane stays on it until that is
 * answered, so its order holds whatever its commands are.
 */
#ifndef MANAGER_LANES_H
#define MANAGER_LANES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"

enum lane { LANE_SMALL, LANE_BULK, LANE_COUNT };

/* From here on it is large: about what a pipe holds. */
#define LANE_LARGE (64 * 1024)

/* How long a sender whose reply was large is taken for one who reads large
 * values. */
#define LANE_MEMORY_NS 1000000000ULL

/* A client, as long as it has a reply pipe open here. */
struct sender {
    uint64_t client;
    uint32_t readers;              /* of it; freed with the last */
    uint32_t inflight[LANE_COUNT]; /* requests */
    uint64_t large_ns;             /* when its last reply was large; 0: never */
    struct sender *chain;
};

/* All of them, hashed by client. Zeroed, then senders_init. */
struct senders {
    struct sender **buckets;
    uint32_t bucket_count; /* a power of two */
    uint32_t count;
    uint64_t key; /* of the hash; random */
};

/* A hash of what others chose, in its low bits: who does not know the key can't
 * choose values that meet in one bucket. */
static inline uint64_t keyed_hash(uint64_t key, uint64_t value)
{
    uint64_t h = (value ^ key) * (key | 1);
    h = (h ^ (h >> 32)) * ((key >> 7) | 1);
    return h ^ (h >> 32);
}

MUST_CHECK enum err senders_init(struct senders *s, uint64_t key);
void senders_release(struct senders *s);

/* Finds or makes the client's, and counts a reader of it. NULL: no memory. */
struct sender *senders_get(struct senders *s, uint64_t client);
void senders_put(struct senders *s, struct sender *one);

/* Which commands had large replies: a table of hashes, direct-mapped, in which
 * a newer one displaces an older one. Zeroed: nothing is known. */
#define SIZES_SLOTS 4096
struct sizes {
    uint32_t large[SIZES_SLOTS]; /* hash of the command; 0: none */
};

/* A hash of a command's first bytes; never 0. FNV-1a. */
uint32_t sizes_hash(const char *data, size_t len);

static inline bool sizes_is_large(const struct sizes *s, uint32_t hash)
{
    return s->large[hash % SIZES_SLOTS] == hash;
}

/* A command's reply had so many bytes. */
static inline void sizes_learn(struct sizes *s, uint32_t hash, uint64_t bytes)
{
    uint32_t *slot = &s->large[hash % SIZES_SLOTS];
    if (bytes >= LANE_LARGE)
        *slot = hash;
    else if (*slot == hash)
        *slot = 0;
}

#endif
