/*
 * What Redis sends on a subscribed connection, frame by frame: messages,
 * confirmations, and replies to what we asked (RESP2's arrays and RESP3's
 * pushes alike).
 *
 * Frames are kept until they are whole, up to a bound. Of a longer one only the
 * beginning is kept, enough to tell whose it is.
 */
#ifndef MANAGER_PUSHES_H
#define MANAGER_PUSHES_H

#include <stdbool.h>
#include <stddef.h>

#include "ipc/err.h"
#include "ipc/resp.h"
#include "manager/buffer.h"
#include "manager/topics.h"

enum push_kind {
    PUSH_MESSAGE,      /* `name` is the channel, or the pattern that matched */
    PUSH_SUBSCRIBED,   /* `name` was subscribed to */
    PUSH_UNSUBSCRIBED, /* or is not any more */
    PUSH_ERROR,        /* an error reply */
    PUSH_REPLY,        /* any other reply */
    PUSH_OTHER         /* nothing that we asked for */
};

/* A frame; views that live until the next call. */
struct push {
    enum push_kind kind;
    enum topic_kind topic; /* what `name` is */
    bool cut;              /* it was too long: `data` is only its beginning */
    const char *name;
    size_t name_len;
    const char *data;
    size_t len;
};

struct pushes {
    struct resp_scan scan;
    struct buffer carry; /* a frame that is not whole yet */
    size_t max;          /* bytes of a frame */
    bool cut;
};

/* The bound is at least 64 KiB: names must fit. */
void pushes_init(struct pushes *p, size_t max);
void pushes_release(struct pushes *p);

/* Forgets what is not whole: the connection is another one. */
void pushes_reset(struct pushes *p);

/* Takes the next frame out of *data, *len (both are moved on). ERR_OK: *push.
 * ERR_AGAIN: all of it was taken, no frame is whole. ERR_PROTO: not RESP.
 * ERR_NOMEM: a piece could not be kept, so nobody knows whose the frame is; the
 * connection is of no more use. */
MUST_CHECK enum err pushes_next(struct pushes *p, const char **data,
                                size_t *len, struct push *push);

#endif
