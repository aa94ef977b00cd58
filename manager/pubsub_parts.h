/*
 * What the files of pubsub share. Private to pubsub*.c.
 *
 * A member is one subscription's stream; `missing` counts those of its topics
 * that Redis has not confirmed, and messages reach it only while that is 0.
 * Everything else follows from two events: a topic became active, the
 * connection broke.
 *
 *     pubsub.c           requests, time, life
 *     pubsub_members.c   members: joining, leaving, becoming a stream, the gap
 *     pubsub_topics.c    topics: what they want of Redis, and where
 *     pubsub_upstream.c  connections: what Redis answers and sends
 */
#ifndef MANAGER_PUBSUB_PARTS_H
#define MANAGER_PUBSUB_PARTS_H

#include "manager/pubsub.h"
#include "manager/pushes.h"
#include "manager/subscriber.h"
#include "manager/topics.h"

struct member;

/* One name of one member. */
struct subscription {
    struct topic *topic;
    struct member *member;
    bool repeated; /* named twice: its topic knows the member already */
    struct subscription *prev, *next; /* in the topic's list */
};

struct member {
    struct subscriber stream; /* once it is `streaming` */
    struct request *req;      /* until then */
    uint64_t client, slot;
    bool streaming;
    bool dirty;                 /* something waits to be flushed */
    uint32_t missing;           /* topics that Redis has not confirmed */
    uint64_t gap_ns;            /* when the connection broke; 0: no gap */
    struct member *prev, *next; /* among the pending or the streaming */
    struct member *next_dirty, *next_dead;
    uint32_t count;
    struct subscription names[];
};

/* A connection to Redis that is subscribed to topics. */
struct upstream {
    struct pubsub *owner;
    struct conn conn;
    struct pushes pushes;
    struct topic *due_first, *due_last; /* whose answers are due, in order */
    uint32_t topics;                    /* that are, or are to be, here */
    uint64_t idle_ns;                   /* since when there is none */
    bool was_ready;                     /* the connection */
    bool failed;    /* out of memory: the tick breaks the connection */
    bool forgotten; /* its options are gone: it ends with the tick */
    struct upstream *next;
};

struct pubsub {
    struct upstream general;     /* all but shard channels of a cluster */
    struct upstream *shards;     /* one for each master that has some */
    struct pubsub_places places; /* `of` is NULL: there is no cluster */
    const struct conn_options *options; /* what it begins with */
    struct loop *loop;
    struct outlet outlet;
    struct topics topics;
    struct answers *answers;
    struct readers *readers;
    struct pubsub_limits limits;
    struct member *pending, *streaming, *dirty, *dead;
    uint32_t members, names;
    uint32_t active;   /* topics */
    size_t total;      /* bytes of messages that wait */
    uint64_t serial;   /* of the last message */
    uint64_t retry_ns; /* when topics that could not go on try again */
    bool retired;      /* another manager serves the channel now */
    bool stopped;
};

/* Bytes of Redis's errors that are passed on. */
#define PUBSUB_ERROR_MAX 1024

/* What streams are told by a manager that was replaced. */
#define RETIRED "another manager has taken the channel over: subscribe again"

/* ---- pubsub_members.c ---- */

/* A member for a request, among the pending, without names yet. NULL: out of
 * memory. */
struct member *member_new(struct pubsub *p, struct request *req,
                          uint32_t names);

/* Names the member's next topic, at most as often as member_new was told. */
void member_join(struct pubsub *p, struct member *m, struct topic *t);

/* Ends a member whose requester knows, or is gone. Its memory lasts until the
 * next tick. May settle topics away. */
void member_end(struct pubsub *p, struct member *m);

/* The same for a stream whose pipe has no reader any more: for the outlet. */
void member_gone(void *context, void *owner);

/* Ends a stream with a last word, if its pipe takes it. */
void member_say_end(struct pubsub *p, struct member *m,
                    enum reply_status status, const char *data, size_t len);
void members_say_end(struct pubsub *p, const char *reason);

/* Answers a pending member by the manager's own word, and ends it. */
void member_refuse(struct pubsub *p, struct member *m, enum reply_status status,
                   const char *text);
/* The same for all that wait for this connection; NULL: for all. */
void members_refuse_pending(struct pubsub *p, const struct upstream *up,
                            const char *why);

/* Every name is confirmed: the reply pipe becomes a stream. May end it. */
void member_begin(struct pubsub *p, struct member *m);

/* Every name is back after a break. */
void member_tell_gap(struct pubsub *p, struct member *m);

/* Adds to what the member is to be sent; written by members_flush. May end
 * it. */
void member_push(struct pubsub *p, struct member *m, struct published *what);
/* The same for what there is no memory for: see subscriber_lose. */
void member_lose(struct pubsub *p, struct member *m, enum broadcast_kind kind,
                 uint32_t n);
void members_flush(struct pubsub *p);

/* Keeps what waits for all of them within its bound. */
void members_relieve(struct pubsub *p);

/* Ends the pending whose time is over, or who left; returns the next deadline
 * (0: none). */
uint64_t members_tick(struct pubsub *p, uint64_t now);

/* Frees the ended. */
void members_reap(struct pubsub *p);

/* ---- pubsub_topics.c ---- */

/* Takes the next step towards what the topic's members want. One answer at a
 * time is due for a topic, so what is due is bounded by the topics. May free
 * it. */
void topic_settle(struct pubsub *p, struct topic *t);
void topics_settle(struct pubsub *p);

/* Redis has confirmed it; refused it to all who want it; took it away, or may
 * have said something that did not get here. */
void topic_confirmed(struct pubsub *p, struct topic *t);
void topic_refused(struct pubsub *p, struct topic *t, const char *error,
                   size_t len);
void topic_lost(struct pubsub *p, struct topic *t);
void topic_set_active(struct pubsub *p, struct topic *t, bool active);

/* All topics of a connection are lost. */
void topics_lose(struct pubsub *p, const struct upstream *up);

/* Whoever could not go on tries again, a while from now. */
void topics_retry(struct pubsub *p);

/* ---- pubsub_upstream.c ---- */

/* ERR_NOMEM. */
MUST_CHECK enum err upstream_init(struct upstream *up, struct pubsub *owner,
                                  const struct conn_options *options);
void upstream_release(struct upstream *up);

/* Where a topic belongs. Without a cluster: always the only connection. NULL:
 * nowhere at the moment, or there is no memory. */
struct upstream *upstream_of(struct pubsub *p, enum topic_kind kind,
                             const char *name, size_t len);

/* Asks Redis to begin or to end sending what is published to the topic, so that
 * each answer is one topic's. */
void upstream_ask(struct upstream *up, struct topic *t, bool adding);

/* Connects what topics wait for. */
void upstreams_start(struct pubsub *p);

/* Timers of all of them, and the end of the idle; returns the next (0: none).
 */
uint64_t upstreams_tick(struct pubsub *p, uint64_t now);
void upstreams_flush(struct pubsub *p);

/* Whether it is down and commands are not to wait for it. */
static inline bool upstream_refuses(const struct upstream *up)
{
    return up->conn.state == CONN_WAITING && !up->conn.options->keep_unsent;
}

#endif
