/*
 * The table of a cluster's nodes in the status file: what each serves, how its
 * connection is, how fast it answers, and how often it sends commands away.
 *
 * What a command changes are counters, each for itself, by relaxed stores of
 * the manager's one thread; a reader's copy can miss the newest. What changes
 * seldom (address, role, state, error) is a node's face and is read of one
 * moment: `done` and `begun` count the changes, and a reader that finds `begun`
 * no further than `done` was before has a whole one. `done` stands before the
 * face and `begun` behind it, so that this holds for a copy of the file, too.
 *
 * Nothing in it is trusted by readers: numbers may be any, and whoever shows
 * address or error escapes them.
 */
#ifndef IPC_STATUS_NODES_H
#define IPC_STATUS_NODES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/histogram.h"

/* Further nodes have no row; the gauge `nodes_known` counts them, too. */
#define STATUS_NODES 64
#define STATUS_NODE_TEXT 128

enum status_node_role {
    STATUS_NODE_NAMED = 1, /* on the command line, or by a redirection */
    STATUS_NODE_MASTER,
    STATUS_NODE_REPLICA,
    STATUS_NODE_ROLES
};

enum status_node_state {
    STATUS_NODE_OFF = 1, /* not wanted */
    STATUS_NODE_WAITING, /* down: the next attempt is due later */
    STATUS_NODE_CONNECTING,
    STATUS_NODE_LOGIN, /* TLS and HELLO */
    STATUS_NODE_CONNECTED,
    STATUS_NODE_STATES
};

/* "master", "waiting", ... "?" for a number that is none of them. */
const char *status_node_role_str(uint32_t role);
const char *status_node_state_str(uint32_t state);

/* X(name, help): replies that send a command elsewhere, or bid it wait. */
#define STATUS_NODE_REDIRECTS(X)                                               \
    X(moved, "replies of a node that were MOVED")                              \
    X(ask, "replies of a node that were ASK")                                  \
    X(tryagain, "replies of a node that were TRYAGAIN")                        \
    X(clusterdown, "replies of a node that were CLUSTERDOWN")

#define STATUS_ENUM_REDIRECT(name, help) STATUS_NODE_##name,
enum status_node_redirect {
    STATUS_NODE_REDIRECTS(STATUS_ENUM_REDIRECT) STATUS_NODE_REDIRECT_COUNT
};

/* ---- latencies: four buckets to each power of two ---- */

/* From 256 ns to 17 s; the middle of a bucket is at most an eighth from any
 * value in it. Less room than ipc/histogram.h takes, as there is one a node. */
#define NODE_TIMES_UNIT_BITS 8
#define NODE_TIMES_SUB_BITS 2
#define NODE_TIMES_SUB (1U << NODE_TIMES_SUB_BITS)
#define NODE_TIMES_TOP_BIT 25 /* of the value in units */
#define NODE_TIMES_BUCKETS                                                     \
    (NODE_TIMES_SUB * (NODE_TIMES_TOP_BIT - NODE_TIMES_SUB_BITS + 2))

static inline size_t node_times_index(uint64_t ns)
{
    uint64_t v = ns >> NODE_TIMES_UNIT_BITS;
    if (v < NODE_TIMES_SUB)
        return (size_t)v;
    unsigned top = 63U - (unsigned)__builtin_clzll(v);
    if (top > NODE_TIMES_TOP_BIT)
        return NODE_TIMES_BUCKETS - 1;
    unsigned shift = top - NODE_TIMES_SUB_BITS;
    return (size_t)(shift + 1) * NODE_TIMES_SUB +
           (size_t)((v >> shift) & (NODE_TIMES_SUB - 1));
}

/* Like histogram_quantile, of plain counts: the middle of the bucket, in ns; 0
 * if there is nothing. */
double node_times_quantile(const uint64_t counts[NODE_TIMES_BUCKETS],
                           double quantile);

/* ---- the table ---- */

/* A row of the shared table. */
struct status_node {
    _Atomic uint64_t sent; /* commands sent to it, and not handed back */
    _Atomic uint64_t lost; /* of them, in flight when the connection broke */
    _Atomic uint32_t inflight;
    _Atomic uint32_t reserved;
    _Atomic uint64_t sum_ns; /* of the times below */
    _Atomic uint64_t redirects[STATUS_NODE_REDIRECT_COUNT];
    /* From handing a command to the connection until its reply was read. */
    _Atomic uint64_t times[NODE_TIMES_BUCKETS];
    /* ---- the face ---- */
    _Atomic uint32_t done;
    _Atomic uint32_t serial; /* another one for each node; 0: free row */
    _Atomic uint32_t role, state;
    _Atomic uint32_t slots;    /* that it serves */
    _Atomic uint32_t attempt;  /* of connecting; 0 when connected */
    _Atomic uint64_t since_ns; /* of the state */
    _Atomic uint64_t connects, disconnects;
    _Atomic uint64_t address[STATUS_NODE_TEXT / 8]; /* NUL padded */
    _Atomic uint64_t error[STATUS_NODE_TEXT / 8];   /* the last one */
    _Atomic uint32_t begun;
} __attribute__((aligned(64)));

/* ---- the manager's side: one thread ---- */

/* A face as it is written. Strings end with NUL; what is too long is cut. */
struct status_node_face {
    uint32_t role, state, slots, attempt;
    uint64_t since_ns, connects, disconnects;
    char address[STATUS_NODE_TEXT];
    char error[STATUS_NODE_TEXT];
};

/* Gives the row to a node: all counters at 0. */
void status_node_claim(struct status_node *row, uint32_t serial,
                       const struct status_node_face *face);

/* The node's face has changed. */
void status_node_show(struct status_node *row,
                      const struct status_node_face *face);

/* The node is gone: its row is free. */
void status_node_leave(struct status_node *row);

/* `n` commands were handed to one of its connections. */
static inline void status_node_sent(struct status_node *row, uint32_t n)
{
    const memory_order relaxed = memory_order_relaxed;
    uint32_t inflight = atomic_load_explicit(&row->inflight, relaxed);
    atomic_store_explicit(&row->inflight, inflight + n, relaxed);
    counter_add(&row->sent, n);
}

/* `n` of them have come to an end. */
static inline void status_node_ended(struct status_node *row, uint32_t n)
{
    const memory_order relaxed = memory_order_relaxed;
    uint32_t inflight = atomic_load_explicit(&row->inflight, relaxed);
    atomic_store_explicit(&row->inflight, inflight > n ? inflight - n : 0,
                          relaxed);
}

/* One of them was answered, so long after it was sent. */
static inline void status_node_answered(struct status_node *row, uint64_t ns)
{
    status_node_ended(row, 1);
    counter_add(&row->times[node_times_index(ns)], 1);
    counter_add(&row->sum_ns, ns);
}

static inline void status_node_lost(struct status_node *row, uint32_t n)
{
    status_node_ended(row, n);
    counter_add(&row->lost, n);
}

/* They came back unwritten. */
static inline void status_node_unsent(struct status_node *row, uint32_t n)
{
    status_node_ended(row, n);
    uint64_t sent = counter_get(&row->sent);
    atomic_store_explicit(&row->sent, sent > n ? sent - n : 0,
                          memory_order_relaxed);
}

static inline void status_node_redirected(struct status_node *row,
                                          enum status_node_redirect kind)
{
    counter_add(&row->redirects[kind], 1);
}

/* ---- the readers' side ---- */

/* A row, copied. */
struct node_row {
    uint32_t serial;
    struct status_node_face face; /* strings of any bytes, terminated */
    uint64_t sent, lost;
    uint32_t inflight;
    uint64_t answered; /* the times' count */
    uint64_t sum_ns;
    uint64_t redirects[STATUS_NODE_REDIRECT_COUNT];
    uint64_t times[NODE_TIMES_BUCKETS];
};

enum node_read {
    NODE_READ, /* *copy is whole */
    NODE_FREE, /* nobody's row */
    NODE_TORN  /* its face changes just now, or its writer died at that */
};
/* Whether that would be NODE_TORN, without a copy. */
static inline bool status_node_torn(const struct status_node *row)
{
    uint32_t done = atomic_load_explicit(&row->done, memory_order_acquire);
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&row->begun, memory_order_relaxed) != done;
}

enum node_read status_node_read(const struct status_node *row,
                                struct node_row *copy);

#endif
