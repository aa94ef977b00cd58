/*
 * What a manager shows of itself: the file `status` in the channel's folder,
 * mapped shared. Written by the manager alone (or by its guardian after its
 * death), read by mqstat and by whoever waits for a state. Reading costs the
 * manager nothing.
 *
 * The counters count commands unless they say otherwise, and add up: of an idle
 * channel,
 *     taken = answered + discarded + gone + invalid + expired + unavailable
 *             + too_big + lost + in flight
 * at every sample.
 *
 * A change of layout bumps STATUS_VERSION. A reader trusts nothing in it but
 * its size: see status_open.
 */
#ifndef IPC_STATUS_H
#define IPC_STATUS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "ipc/channel.h"
#include "ipc/err.h"
#include "ipc/histogram.h"
#include "ipc/status_clients.h"
#include "ipc/status_nodes.h"
#include "ipc/watch.h"

#define STATUS_MAGIC 0x5351524dU /* "MRQS" */
#define STATUS_VERSION 7

enum manager_state_kind {
    STATE_STARTING = 1, /* not connected yet */
    STATE_CONNECTED,
    STATE_RECONNECTING, /* the connection broke, or can't be made */
    STATE_PAUSED,       /* told to stop taking; connected or not */
    STATE_DRAINING,     /* answers what it took, then ends or hands over */
    STATE_CLOSED,       /* ended in good order */
    STATE_DIED,         /* killed; its guardian wrote this */
    STATE_KIND_COUNT
};

/* "starting", "connected", ... "?" for a number that is none of them. */
const char *manager_state_str(uint32_t kind);

/* The value of the watch cell. Strings end with NUL. */
struct manager_state {
    uint32_t kind;
    int32_t pid;
    uint64_t epoch;
    uint64_t started_ns; /* CLOCK_MONOTONIC */
    uint64_t since_ns;   /* of this state */
    uint32_t attempt;    /* of connecting; 0 when connected */
    uint32_t capacity;   /* of the queue, messages */
    uint32_t msgsize;    /* bytes */
    uint32_t window;     /* most commands in flight */
    uint32_t resp;       /* the protocol of replies, 2 or 3 */
    uint32_t db;         /* the database of all commands */
    char queue[CHANNEL_QUEUE_NAME_MAX];
    char server[160]; /* the Redis it talks to, without a password */
    char error[256];  /* the last error of the connection */
};

_Static_assert(sizeof(struct manager_state) == 600, "layout of the state");
_Static_assert(sizeof(struct manager_state) <= WATCH_VALUE_MAX, "fits");

/* X(name, help): counters that only grow. */
#define STATUS_COUNTERS(X)                                                     \
    X(messages, "messages taken off the queue")                                \
    X(taken, "commands taken off the queue")                                   \
    X(answered, "commands answered with Redis's reply")                        \
    X(discarded, "replies discarded because their requester was gone")         \
    X(gone, "commands never written because their requester was gone")         \
    X(invalid, "commands refused as invalid or by policy")                     \
    X(expired, "commands whose deadline passed before they were written")      \
    X(unavailable, "commands answered unavailable: never written")             \
    X(too_big, "commands over a named limit, their replies included")          \
    X(lost, "commands in flight when the connection broke")                    \
    X(error_replies, "answers of Redis that were errors")                      \
    X(garbage, "messages that could not be answered: no valid header")         \
    X(stale, "messages of an earlier epoch, answered unavailable")             \
    X(resent, "commands written again on a new connection")                    \
    X(connects, "connections to Redis made")                                   \
    X(disconnects, "connections to Redis that broke")                          \
    X(pushes, "RESP3 pushes passed over")                                      \
    X(aborted, "replies cut off because their reader stalled")                 \
    X(swept, "reply pipes of dead requesters removed")                         \
    X(evicted, "idle reply pipes closed to stay within --max-clients")         \
    X(window_full, "times that the in-flight window was full")                 \
    X(bytes_written, "bytes written to Redis")                                 \
    X(bytes_read, "bytes read from Redis")                                     \
    X(pubsub_messages, "messages of subscriptions read from Redis")            \
    X(pubsub_delivered, "messages written to subscribers, each one's counted") \
    X(pubsub_lagged, "messages dropped because a subscriber lagged")           \
    X(pubsub_gaps, "times that the connection of subscriptions broke")         \
    X(moved, "replies of a cluster that were MOVED, and followed")             \
    X(ask, "replies of a cluster that were ASK, and followed")                 \
    X(tryagain, "replies of a cluster that were TRYAGAIN, and obeyed")         \
    X(clusterdown, "replies of a cluster that were CLUSTERDOWN, waited for")   \
    X(map_refreshes, "times that a cluster's map of slots was read")              \
    X(switches, "times that sentinels named another master")

/* X(name, help): values that go up and down. */
#define STATUS_GAUGES(X)                                                       \
    X(inflight, "commands taken and not answered yet")                         \
    X(inflight_bytes, "bytes of commands waiting to be written")               \
    X(pipes, "reply pipes held open")                                          \
    X(backlog_bytes, "bytes of replies waiting for slow readers")              \
    X(payload_bytes, "bytes of large arguments waiting to be written")         \
    X(deepest_queue, "most messages seen in the queue")                        \
    X(most_inflight, "most commands in flight")                                \
    X(subscribers, "processes' subscriptions, each a stream")                  \
    X(topics, "channels and patterns subscribed to at Redis")                  \
    X(subscriber_bytes, "bytes of messages waiting for subscribers")           \
    X(held, "commands waiting for their slot's master in a cluster")           \
    X(nodes, "nodes of a cluster that are connected")                          \
    X(nodes_known, "nodes of a cluster that the manager uses")                 \
    X(slots_unserved, "slots of a cluster that no known master serves")         \
    X(sentinels, "sentinels that are known")

/* X(name, help): times, as histograms. */
#define STATUS_TIMES(X)                                                        \
    X(queue_wait, "from sending until the manager took the message")           \
    X(redis_time, "from taking the message until its last reply was read")     \
    X(round_trip, "whole requests, as their requesters saw them")

#define STATUS_ENUM_COUNTER(name, help) COUNTER_##name,
#define STATUS_ENUM_GAUGE(name, help) GAUGE_##name,
#define STATUS_ENUM_TIME(name, help) TIME_##name,
enum status_counter { STATUS_COUNTERS(STATUS_ENUM_COUNTER) COUNTER_COUNT };
enum status_gauge { STATUS_GAUGES(STATUS_ENUM_GAUGE) GAUGE_COUNT };
enum status_time { STATUS_TIMES(STATUS_ENUM_TIME) TIME_COUNT };

struct status_name {
    const char *name;
    const char *help;
};

extern const struct status_name status_counters[COUNTER_COUNT];
extern const struct status_name status_gauges[GAUGE_COUNT];
extern const struct status_name status_times[TIME_COUNT];

struct status {
    uint32_t magic;
    uint32_t version;
    uint32_t size; /* of this struct */
    uint32_t reserved;
    struct watch state;
    _Atomic uint64_t counters[COUNTER_COUNT];
    _Atomic uint64_t gauges[GAUGE_COUNT];
    struct histogram times[TIME_COUNT];
    struct status_client clients[STATUS_CLIENTS] __attribute__((aligned(64)));
    struct status_node nodes[STATUS_NODES];
};

/* ---- the manager's side ---- */

/* Makes the file under a temporary name, which is this process's own, and maps
 * it for writing. Its blocks are allocated, a full disk fails here and not
 * later. The mapping is shared with children of fork(). What processes that are
 * dead made so, and never showed, goes. */
MUST_CHECK enum err status_create(const struct channel *ch,
                                  struct status **status, struct err_text *why);

/* Puts the file that this process made last under its name; whoever reads an
 * older one keeps that. */
MUST_CHECK enum err status_show(const struct channel *ch, struct err_text *why);

/* Removes a file that was made and not shown, if there is one. The mapping
 * stays. */
void status_discard(const struct channel *ch);

/* Publishes the state, with since_ns set to now if the kind changed. */
void status_set_state(struct status *status, struct manager_state *current,
                      uint32_t kind);

static inline void status_count(struct status *s, enum status_counter c,
                                uint64_t n)
{
    counter_add(&s->counters[c], n);
}

static inline void status_gauge_set(struct status *s, enum status_gauge g,
                                    uint64_t n)
{
    atomic_store_explicit(&s->gauges[g], n, memory_order_relaxed);
}

/* ---- the readers' side ---- */

/* Maps the file read-only. Size, magic and version are checked, and the file
 * can't shrink below the mapping unless its owner wishes a reader's SIGBUS.
 * ERR_ABSENT: no manager has run here. ERR_PROTO: another version, or none. */
MUST_CHECK enum err status_open(const struct channel *ch,
                                const struct status **status,
                                struct err_text *why);

void status_unmap(const struct status *status);

/* The latest state, its strings terminated whatever is in there. ERR_AGAIN. */
MUST_CHECK enum err status_read_state(const struct status *status,
                                      struct manager_state *state,
                                      uint32_t *version);

#endif
