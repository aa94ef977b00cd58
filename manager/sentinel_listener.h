/*
 * Listens to the events of one sentinel; when that dies, to the next one. What
 * comes in leaves a note: where the master went. Whatever else hints at a
 * change, and every time that events may have been missed, is told at once.
 */
#ifndef MANAGER_SENTINEL_LISTENER_H
#define MANAGER_SENTINEL_LISTENER_H

#include <stdbool.h>
#include <stdint.h>

#include "ipc/err.h"
#include "manager/log.h"
#include "manager/sentinel_peers.h"
#include "manager/sentinel_wire.h"

struct sentinel_listener {
    struct sentinel_wire wire;
    const char *name; /* of the master */
    const struct sentinel_peers *peers;
    void (*hint)(void *context); /* ask somebody: the master may be another */
    void *context;
    struct uri_place event; /* where the master went */
    bool has_event;         /* until its owner has dealt with it */
    uint32_t confirmed;     /* subscriptions; all: it listens */
    uint32_t turn, attempt;
    uint64_t next_ns;  /* next attempt */
    uint64_t since_ns; /* since when it listened last; 0: it did not */
    struct log_limit limit;
};

/* Zeroed by the caller, whose name, peers, hint and context are set and
 * borrowed. ERR_NOMEM, after which _release is right, too. */
MUST_CHECK enum err sentinel_listener_init(struct sentinel_listener *l,
                                           struct loop *loop,
                                           struct answers *answers);
void sentinel_listener_release(struct sentinel_listener *l);

/* Connects to the next sentinel if that is due, and if `wanted`: while nobody
 * has told a master, it isn't known who knows the name. */
void sentinel_listener_tick(struct sentinel_listener *l, bool wanted,
                            uint64_t now);

#endif
