/*
 * Between stream.c, the life of a subscription, and stream_read.c, what comes
 * through its pipe.
 */
#ifndef WORKERS_STREAM_H
#define WORKERS_STREAM_H

#include "ipc/broadcast.h"
#include "workers/handle.h"

struct mqredis_stream {
    struct mqredis_stream *prev, *next; /* of the handle */
    struct mqredis *mq;
    struct link *link; /* NULL: not subscribed, or the parent's */
    struct oneshot slot;
    int epoll_fd;           /* the pipe, and `receiver` */
    struct encoded command; /* to be sent once more by a renewal */
    struct broadcast in;
    char *data; /* bytes read and not taken yet: [used, len) */
    size_t used, len, room;
    bool orphan;   /* made by the parent of this process */
    bool renewed;  /* the next confirmation is a gap's end */
    char *message; /* not sent yet: the queue is full */
    size_t message_len;
    uint64_t deadline_ns; /* for the confirmation, if nobody waits; 0: none */
    uint64_t end_ns;      /* when it ended */
    struct mqredis_error end; /* `status` is MQREDIS_OK: it has not ended */
};

/* Takes one event, reading as far as needed; what it points to lives until the
 * next call. ERR_AGAIN: none is there. */
MUST_CHECK enum err stream_take(struct mqredis_stream *s,
                                struct mqredis_event *ev);

/* The stream ends, and why. */
void stream_end(struct mqredis_stream *s, enum mqredis_status status,
                const char *text);

/* The event that says so. */
void stream_give_end(const struct mqredis_stream *s, struct mqredis_event *ev);

#endif
