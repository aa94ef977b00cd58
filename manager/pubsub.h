/*
 * Subscriptions: many processes, one connection to Redis.
 *
 * A topic is a channel or a pattern that somebody here wants. The first
 * subscriber of a topic makes the manager subscribe at Redis, the last one's
 * end (a kill included: its pipe tells) makes it unsubscribe. The connection is
 * made for the first topic and closed a while after the last.
 *
 * A subscription is a message whose only command is (P|S)SUBSCRIBE. It
 * counts as a command in flight until Redis has confirmed all of its names;
 * then its reply pipe leaves the table of readers and becomes a stream (see
 * ipc/broadcast.h) that lasts until the requester closes it.
 *
 * When the connection breaks, topics are subscribed again on the next one, and
 * each subscriber is told of the gap once all of its names are back.
 *
 * In a cluster channels and patterns share a connection to one of the masters,
 * another one when that breaks; shard channels go to the master of their slot,
 * one connection to each, and follow the slot when it moves.
 */
#ifndef MANAGER_PUBSUB_H
#define MANAGER_PUBSUB_H

#include <stdbool.h>
#include <stdint.h>

#include "ipc/err.h"
#include "manager/answer.h"
#include "manager/conn.h"
#include "manager/loop.h"
#include "manager/pipeline.h"
#include "manager/topics.h"

struct pubsub_limits {
    uint32_t max_subscribers;   /* streams */
    uint32_t max_subscriptions; /* names, of all streams together */
    uint32_t backlog_messages;  /* of one subscriber */
    uint32_t backlog_bytes;     /* also the longest message that is carried */
    size_t total_bytes;         /* of what waits for all */
};

/* Where the topics of a cluster are. */
struct pubsub_places {
    /* What reaches the master of a shard channel's slot: the same pointer for
     * the same master until pubsub_forget. Of other kinds: the options that
     * pubsub_new got, which name any master that serves at the moment. NULL:
     * none is known. */
    const struct conn_options *(*of)(void *context, enum topic_kind kind,
                                     const char *name, size_t len);
    /* A master answered for a shard channel that it is not the one:
     * error[0..len) is its line, such as "-MOVED 12 host:port"; it is what
     * `asked` reaches. */
    void (*moved)(void *context, const struct conn_options *asked,
                  const char *error, size_t len);
    void *context;
};

struct pubsub;

/* All but `limits` is borrowed. Connects nothing yet. `seed` is random.
 * ERR_NOMEM. */
MUST_CHECK enum err pubsub_new(struct pubsub **pubsub, struct loop *loop,
                               struct answers *answers, struct readers *readers,
                               const struct conn_options *options,
                               const struct pubsub_limits *limits,
                               uint64_t seed);
void pubsub_free(struct pubsub *p);

/* There is a cluster behind: called before anything is subscribed to. */
void pubsub_spread(struct pubsub *p, const struct pubsub_places *places);

/* Places may be others now: what is at a wrong one moves, and tells of the gap.
 */
void pubsub_places_changed(struct pubsub *p);

/* These options of a master will be gone: nothing uses them from now on. */
void pubsub_forget(struct pubsub *p, const struct conn_options *options);

/* Takes a run that the policy routed here, or answers it. */
void pubsub_request(struct pubsub *p, const struct run *run);

/* Timers; returns the next one (0: none). Frees what ended in the round before:
 * called once a round. */
uint64_t pubsub_tick(struct pubsub *p, uint64_t now);

/* The options name another server now: the connection goes there, and streams
 * are told of the gap. */
void pubsub_move(struct pubsub *p, const char *reason);

/* Another manager serves the channel: ends every stream with that word, and
 * those that are still to be confirmed as soon as they are. */
void pubsub_retire(struct pubsub *p);

/* Ends every stream with this reason, as far as their pipes take it, and closes
 * the connection. What waits for its confirmation is answered. */
void pubsub_stop(struct pubsub *p, const char *reason);

#endif
