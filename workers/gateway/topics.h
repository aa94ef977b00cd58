/*
 * Channels and patterns that clients of this gateway subscribe to. Each has one
 * stream, however many clients there are; its messages go to all of them.
 */
#ifndef GATEWAY_TOPICS_H
#define GATEWAY_TOPICS_H

#include "workers/gateway/gateway.h"

enum topic_state {
    TOPIC_ASKED,     /* not confirmed yet */
    TOPIC_CONFIRMED, /* messages come */
    TOPIC_ENDED      /* none will; `why` says why */
};

struct topic {
    struct source source; /* its stream's */
    struct topic *next;   /* in its slot of the table */
    struct topic *next_busy;
    enum mqredis_topic kind;
    enum topic_state state;
    struct mqredis_stream *stream;
    struct mqredis_error why;
    struct membership *members;
    struct pending *waiters; /* subscriptions whose next name this is */
    size_t refs;             /* members, names that wait, and iterations */
    bool listed;             /* in the table */
    bool busy;               /* in the list of those with more to read */
    size_t len;
    char name[];
};

/* A client at a topic. */
struct membership {
    struct client *client;
    struct topic *topic;
    struct membership *prev, *next;               /* of the topic */
    struct membership *client_prev, *client_next; /* of the client */
};

/* Finds or makes a topic; it has one reference more. NULL: *why says why. */
struct topic *topic_get(struct gateway *g, enum mqredis_topic kind,
                        const char *name, size_t len,
                        struct mqredis_error *why);

/* Gives a reference back: the last one ends the subscription. */
void topic_put(struct gateway *g, struct topic *t);

#endif
