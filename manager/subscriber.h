/*
 * A subscriber: the pipe of one subscription, and what waits to be written to
 * it. A slow reader costs nobody else anything: its backlog is bounded in
 * messages and bytes, over it the oldest are dropped whole, and the reader is
 * told how many before the next one.
 *
 *     pipe  <--  | rest | lagged | gap | oldest ... newest |
 *                 of what  owed    owed   ring of messages,
 *                 was cut                 shared by all subscribers
 *
 * A message that was partly written is finished whatever comes: only what the
 * reader did not get a byte of is ever dropped.
 */
#ifndef MANAGER_SUBSCRIBER_H
#define MANAGER_SUBSCRIBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/broadcast.h"
#include "ipc/err.h"
#include "ipc/status.h"
#include "manager/loop.h"

/* What goes to subscribers. Shared: whoever holds a pointer holds a
 * reference. */
struct published {
    uint32_t refs;
    uint32_t n; /* see broadcast.h */
    enum broadcast_kind kind;
    uint64_t serial; /* grows from message to message */
    size_t len;
    size_t *total; /* counts the bytes of all that live */
    char data[];
};

/* One reference, the caller's. NULL: out of memory. `*total` grows by its size
 * until the last reference is gone. */
struct published *published_new(enum broadcast_kind kind, uint32_t n,
                                const char *data, size_t len, size_t *total);
void published_unref(struct published *m);

#define SUBSCRIBER_WRITE_SIZE (16 * 1024)

/* What all subscribers of a manager have in common. */
struct outlet {
    struct loop *loop;
    struct status *status;
    uint32_t max_messages; /* of one backlog */
    size_t max_bytes;
    size_t backlog_bytes; /* of all backlogs; a shared message counts in each */
    /* The pipe has no reader any more, or can't be written. */
    void (*gone)(void *context, void *owner);
    void *context;
    char scratch[SUBSCRIBER_WRITE_SIZE];
};

struct subscriber {
    struct watcher watcher;
    struct outlet *outlet;
    void *owner;
    uint64_t request;        /* repeated in every chunk */
    struct published **ring; /* NULL until something waits */
    uint32_t ring_size;      /* a power of two */
    uint32_t head, count;
    size_t bytes; /* in the ring */
    /* What was cut by a full pipe: a notice, or a message. */
    struct reply_chunk notice;
    size_t notice_left;        /* bytes of it to go */
    struct published *current; /* NULL: none */
    size_t current_sent;       /* its chunk's header included */
    uint64_t lagged;           /* dropped and not told yet */
    bool gap;                  /* a gap that was dropped and is to be told */
    uint32_t gap_ms;
    bool full; /* the pipe: EPOLLOUT is awaited */
    bool gone; /* reported to the outlet */
};

/* Begins a stream on a pipe. Takes the descriptor, also on failure. ERR_SYS. */
MUST_CHECK enum err subscriber_init(struct subscriber *s, struct outlet *outlet,
                                    int fd, uint64_t request, void *owner);

/* The first word, once: it comes before all that is pushed, and is never
 * dropped. Takes no reference of the caller's. */
void subscriber_begin(struct subscriber *s, struct published *m);

/* Closes the pipe and drops what waits. The memory must last until the loop's
 * round is over. */
void subscriber_release(struct subscriber *s);

/* Adds what is to be written; drops the oldest where the backlog is full.
 * Takes no reference of the caller's. Writes only where that makes room: the
 * caller flushes when a bunch is together. */
void subscriber_push(struct subscriber *s, struct published *m);

/* Drops the oldest that waits, and owes a word about it. */
void subscriber_drop_oldest(struct subscriber *s);

/* In place of a push, where there is no memory for one: owes a word about it.
 * What waits is dropped too, for the word stands before all that waits. */
void subscriber_lose(struct subscriber *s, enum broadcast_kind kind,
                     uint32_t n);

/* The serial of the oldest that waits; UINT64_MAX: nothing waits. */
uint64_t subscriber_oldest(const struct subscriber *s);

/* Writes as much as the pipe takes. May call outlet->gone. */
void subscriber_flush(struct subscriber *s);

/* The last word; returns whether it got into the pipe whole. Nothing may be
 * pushed after it. */
bool subscriber_end(struct subscriber *s, enum reply_status status,
                    const char *data, size_t len);

#endif
