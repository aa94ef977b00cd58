/*
 * Takers: who hears, in a request's place, what became of commands on a
 * connection. The manager's own questions have one (a capture), and so have
 * commands that may have to be sent again somewhere else (errands).
 *
 * Of each command that was appended with a taker exactly one thing is told: its
 * whole reply (in parts or at once), that it was lost, or that it was not
 * written. A taker may not append to, write or close a connection while it is
 * told something.
 */
#ifndef MANAGER_TAKER_H
#define MANAGER_TAKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "manager/buffer.h"

struct taker;

/* Bytes of one reply; a view. */
struct taken {
    const char *data;
    size_t len;
    bool begins, ends; /* the reply does, in these bytes */
};

/* `index` is the run's `first` and on. */
struct taker_ops {
    void (*reply)(struct taker *t, uint32_t index, const struct taken *part);

    /* Written, and the connection broke before their replies were there. */
    void (*lost)(struct taker *t, uint32_t index, uint32_t count,
                 const char *reason);

    /* Never written. The reason is why the connection broke; NULL: it did not,
     * but the request has expired or its requester is gone. */
    void (*unsent)(struct taker *t, uint32_t index, uint32_t count,
                   const char *reason);

    /* Whether a long reply may go straight from the socket to the request that
     * the run names, as the answer to its command *index. Not called, and may
     * be NULL, for runs of no request. */
    bool (*splices)(struct taker *t, uint32_t *index);
};

/* Embedded, as the first member, by whoever takes. */
struct taker {
    const struct taker_ops *ops;
};

/* Collects the replies to questions of the manager's own, asked one at a time
 * or with one and the same `done`. */
struct capture {
    struct taker taker;
    struct buffer bytes; /* of the current reply */
    size_t max;          /* longer ones are dropped */
    bool dropped;        /* the current one */
    /* A whole reply; len 0: it was too long, or will not come. */
    void (*done)(void *context, const char *data, size_t len);
    void *context;
};

void capture_init(struct capture *c, size_t max,
                  void (*done)(void *context, const char *data, size_t len),
                  void *context);
void capture_release(struct capture *c);

#endif
