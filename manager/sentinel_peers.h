/*
 * The sentinels that are known: those of the URI, which are never forgotten,
 * and those that the others tell of.
 */
#ifndef MANAGER_SENTINEL_PEERS_H
#define MANAGER_SENTINEL_PEERS_H

#include <stdbool.h>
#include <stdint.h>

#include "manager/uri.h"

/* All that are given, and as many that these tell of. */
#define SENTINEL_PEERS_MAX (2 * URI_PLACES_MAX)

struct sentinel_peer {
    struct uri_place at;
    bool given; /* in the URI */
};

struct sentinel_peers {
    struct sentinel_peer all[SENTINEL_PEERS_MAX];
    uint32_t count;
};

/* What is there already, or has no room, is passed over. */
void sentinel_peers_add(struct sentinel_peers *p, const struct uri_place *at,
                        bool given);

/* Whoever answers is the first to be asked again. */
void sentinel_peers_to_front(struct sentinel_peers *p,
                             const struct uri_place *at);

/* The one at `by` told of all the others: those of whom it no longer speaks are
 * forgotten. */
void sentinel_peers_learn(struct sentinel_peers *p, const struct uri_place *by,
                          const struct uri_place *others, uint32_t count);

#endif
