/*
 * Readers: the reply pipes that the manager writes to.
 *
 * A reader is opened when its first request is taken and kept while its slot
 * lives: an error on the write end says that its process is gone or gave the
 * slot up, and the name goes with it. The manager never blocks on one. What a
 * full pipe does not take waits in the reader's backlog, up to a bound; over it
 * the reply is cut off (see answer.h).
 *
 * Idle readers beyond the bound on open pipes are closed, least recently used
 * first; their names stay, the next request opens them again.
 */
#ifndef MANAGER_READERS_H
#define MANAGER_READERS_H

#include <stdbool.h>
#include <stdint.h>

#include "ipc/err.h"
#include "ipc/message.h"
#include "ipc/status.h"
#include "ipc/sweep.h"
#include "manager/buffer.h"
#include "manager/lanes.h"
#include "manager/loop.h"

struct reader {
    struct watcher watcher;
    struct readers *owner;
    struct sender *sender; /* whose pipe it is */
    uint64_t client, slot;
    uint32_t requests;    /* that will be answered here */
    bool dead;            /* nobody reads; memory stays while requests do */
    bool has_payload;     /* its slot has a payload file */
    bool full;            /* until its pipe can be written again */
    bool wide;            /* its pipe was made larger */
    bool corked;          /* its backlog is what readers_gather gathered */
    uint64_t corked_ns;   /* since when */
    uint64_t progress_ns; /* when the backlog last got shorter or began */
    uint64_t taken;       /* bytes that went into the pipe */
    struct buffer backlog;
    struct reader *chain;                     /* in a bucket, or of the dead */
    struct reader *idle_prev, *idle_next;     /* least recently used first */
    struct reader *corked_prev, *corked_next; /* in the order of corked_ns */
};

struct readers {
    struct loop *loop;
    struct status *status;
    int reply_fd, payload_fd; /* the channel's folders */
    uint32_t max_open;
    size_t reader_limit; /* bytes of backlog of one */
    size_t total_limit;  /* of all */
    size_t total_backlog;
    struct senders senders;
    struct reader **buckets;
    uint32_t bucket_count; /* a power of two */
    uint32_t open_count;
    struct reader *idle_first, *idle_last;
    struct reader *corked_first, *corked_last;
    struct reader *dead; /* without requests: freed after the round */
    uint64_t key;        /* of the table's hash; random */
    struct sweep sweep;  /* under way */
    bool payloads_next;  /* which folder's turn comes after it */
};

/* The descriptors are borrowed; `key` is random. ERR_NOMEM. */
MUST_CHECK enum err readers_init(struct readers *rs, struct loop *loop,
                                 struct status *status, int reply_fd,
                                 int payload_fd, uint32_t max_open,
                                 size_t reader_limit, size_t total_limit,
                                 uint64_t key);

/* Closes all; names stay (their requesters live). Requests that still point
 * to readers are void after this. */
void readers_release(struct readers *rs);

/* Finds or opens the pipe of a slot and counts a request to it. ERR_CLOSED:
 * nobody reads there. ERR_DENIED: what is there is not a reply pipe.
 * ERR_LIMIT: no descriptors, or too many readers with requests. */
MUST_CHECK enum err readers_get(struct readers *rs, uint64_t client,
                                uint64_t slot, struct reader **reader);

/* Takes back a request counted by readers_get. */
void readers_put(struct readers *rs, struct reader *r);

/* Takes the pipe of a reader out of the table, for a stream: *fd is the
 * caller's, the reader is dead to what comes. It must have one request, which
 * is the caller's too. ERR_BUSY: it has others, or a backlog. ERR_CLOSED:
 * nobody reads. */
MUST_CHECK enum err readers_hand_over(struct readers *rs, struct reader *r,
                                      int *fd);

/* Asks the kernel whether somebody still reads, and buries the reader if not.
 * Returns whether it lives. */
bool readers_check(struct readers *rs, struct reader *r);

/* Opens the payload file of the reader's slot; see payload_open. ERR_CLOSED:
 * the reader is dead. */
MUST_CHECK enum err readers_payload(struct readers *rs, struct reader *r,
                                    int64_t need, int *fd);

/* Writes a chunk, or keeps it until the pipe takes it. ERR_CLOSED: the reader
 * is dead. ERR_LIMIT: its backlog, or everybody's, is full: nothing of the
 * chunk was taken. `forced`: a last word, which is taken over the bounds, too;
 * but who has made all of them grow to their limit, or twice that, and reads
 * nothing of it, dies. */
MUST_CHECK enum err readers_write(struct readers *rs, struct reader *r,
                                  const struct reply_chunk *chunk,
                                  const char *body, bool forced);

/* The same for a chunk that others will follow soon: it goes out with the next
 * one of readers_write, or with a readers_flush. `now`: not before that of the
 * call before. */
MUST_CHECK enum err readers_gather(struct readers *rs, struct reader *r,
                                   const struct reply_chunk *chunk,
                                   const char *body, uint64_t now);

/* Writes what was gathered and has waited long enough for more. Returns when
 * that will be true of the next; 0: nothing is left. With `now` UINT64_MAX
 * everything goes. */
uint64_t readers_flush(struct readers *rs, uint64_t now);

/* Whether readers_write would refuse a chunk of `len` bytes now, for what waits
 * already. */
bool readers_tight(const struct readers *rs, const struct reader *r,
                   size_t len);

/* Writes the header of a chunk of `len` bytes, which are to follow by
 * readers_splice and readers_append. Errors as readers_write. */
MUST_CHECK enum err readers_begin(struct readers *rs, struct reader *r,
                                  const struct reply_chunk *chunk, size_t len);

/* Moves up to `len` bytes from a socket into the pipe without a copy
 * (splice(2)), as the body of a chunk that was begun with `len` bytes to
 * follow. ERR_OK: *moved of them. ERR_AGAIN: the pipe is full; `full` is
 * cleared when it is no more. ERR_CLOSED: the reader is dead. ERR_SYS. */
MUST_CHECK enum err readers_splice(struct readers *rs, struct reader *r,
                                   int socket_fd, size_t len, size_t *moved);

/* Adds bytes to a chunk that was begun, in any case; NULL: zeros. */
void readers_append(struct readers *rs, struct reader *r, const char *data,
                    size_t len);

/* Frees what died in this round of the loop. */
void readers_reap(struct readers *rs);

/* Looks for leftovers in the folders of pipes and payload files, some entries
 * at a time. Returns whether more are to be looked at: then it is to be called
 * again, after others had their turn. */
bool readers_sweep(struct readers *rs);

#endif
