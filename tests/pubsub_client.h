/*
 * A subscriber made of ipc/ alone, for suites about subscriptions, and a
 * publisher. Nothing of the subscriber fails a test by itself, so it serves in
 * forked children too.
 */
#ifndef TESTS_PUBSUB_CLIENT_H
#define TESTS_PUBSUB_CLIENT_H

#include "ipc/broadcast.h"
#include "ipc/resp.h"
#include "tests/e2e.h"
#include "tests/e2e_client.h"

struct sub {
    struct e2e_client client;
    struct e2e_call call;
    struct broadcast stream;
    char *data; /* read and not taken yet: [used, len) */
    size_t used, len, room;
};

/* Joins the channel and sends a command, given as text. */
MUST_CHECK enum err sub_open(struct sub *s, const char *channel,
                             int64_t timeout_ms, const char *command);

/* The next event; a view until the next call. ERR_TIMEOUT. ERR_CLOSED: the
 * manager is gone, or gave the stream up. ERR_PROTO: no such stream. */
MUST_CHECK enum err sub_next(struct sub *s, struct broadcast_event *event,
                             int64_t timeout_ms);

/* The same, but must be of that kind. */
MUST_CHECK bool sub_expect(struct sub *s, enum broadcast_kind kind,
                           struct broadcast_event *event);

/* Closes the pipe, which ends the subscription, and leaves the channel. */
void sub_close(struct sub *s);

/* The last bulk string of a message begins with a number: that. */
unsigned long sub_number(const struct broadcast_event *event);

/* Publishes messages [from, from + count) of `size` bytes, each beginning with
 * its number, and waits until the server took them. */
void publish(struct redis_link *link, const char *channel, unsigned long from,
             unsigned long count, size_t size);

#endif
