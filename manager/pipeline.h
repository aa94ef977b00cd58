/*
 * A pipeline: what waits to be written to one connection, what was written and
 * waits for its reply, and the matching of the two. It never touches a socket:
 * its owner writes what pipeline_unsent shows and feeds what it read.
 *
 *     out     | written, kept | not written yet                |
 *             begin           sent                             end
 *     ring    |  in flight    |  waiting                       |
 *
 * Redis answers in the order of writing, so the front of the ring owns the next
 * reply. Bytes are kept until the first command of their entry has left whole:
 * if the connection breaks before that, the entry was certainly not executed
 * and goes out again on the next connection. (Of independent commands, those
 * that had not left whole go out again.)
 */
#ifndef MANAGER_PIPELINE_H
#define MANAGER_PIPELINE_H

#include <stdbool.h>
#include <stdint.h>

#include "ipc/err.h"
#include "ipc/resp.h"
#include "manager/answer.h"
#include "manager/buffer.h"
#include "manager/segments.h"
#include "manager/taker.h"

#define PIPELINE_READ_SIZE (64 * 1024)

/* Commands of one request that go out together and are answered in order. */
struct entry {
    struct request *req; /* NULL: the manager's own */
    struct taker *taker; /* NULL: the request itself is answered, or, of the
                            manager's own, the reply is dropped */
    uint32_t first;      /* the next command to be answered */
    uint32_t left;       /* commands not answered yet */
    uint32_t count;      /* commands in the bytes [begin, end) */
    uint32_t hash;       /* of a single command; 0: not to be learned */
    uint64_t bytes;      /* of the current reply, handed on so far */
    bool independent;    /* merely sent together: each has a fate of its own */
    bool cut;            /* of the current reply only the end is told */
    /* Offsets in the stream of all bytes ever appended. */
    uint64_t begin, first_end, end;
};

struct pipeline {
    struct answers *answers;
    struct buffer out;
    struct segments segments; /* large arguments within it */
    uint64_t begin; /* stream offset of the first byte kept in `out` */
    uint64_t sent;  /* stream offset of the next byte to be written */
    uint64_t tried; /* up to here bytes may have left, though not counted as
                       sent yet: a TLS write that is to be repeated */
    struct entry *ring;
    uint32_t ring_size; /* a power of two */
    uint32_t head;      /* of the ring */
    uint32_t count;     /* entries in it */
    uint32_t written;   /* of them, whose every byte has left */
    char *in;           /* PIPELINE_READ_SIZE bytes */
    size_t have;        /* bytes in `in` */
    size_t scanned;     /* of them, passed by the scan */
    struct resp_scan scan;
    struct reader *slow; /* the reader of a long reply, if it lags */
    size_t promised;     /* bytes of a begun chunk still to be put into the
                            pipe of the front entry's reader */
    struct sizes *sizes; /* borrowed; NULL: nothing is learned */
};

/* ERR_NOMEM. */
MUST_CHECK enum err pipeline_init(struct pipeline *p, struct answers *answers);
/* Forgets everything without answering. */
void pipeline_release(struct pipeline *p);

/* Commands of one request: `count` of them from its command `first` on. Views
 * into the message. */
struct run {
    struct request *req;   /* NULL: the manager's own */
    struct taker *taker;   /* who hears of it in the request's place; NULL: the
                              request, or nobody. Not of independent runs. */
    uint32_t first, count; /* `first` is a tag for pipeline_take_own */
    bool independent;
    uint32_t hash; /* of a single command, see sizes_hash; 0: none */
    const char *data;
    size_t len;
    size_t first_len;            /* of the first command */
    const struct parsed *parsed; /* the first `nparsed` commands, as long as
                                    their message is at hand */
    uint32_t nparsed;
    /* If the run is independent and has large arguments, `count` is 1. */
    struct source *source; /* of the large arguments, if there are any */
    const struct blob *blobs;
    uint32_t nblobs;
    struct request *spoils; /* is told if that file shrinks; NULL: `req` */
};

/* Appends a run. ERR_NOMEM: nothing was appended. */
MUST_CHECK enum err pipeline_append(struct pipeline *p, const struct run *run);

/* The large argument that is to be written next, before any further byte of
 * `out`; NULL: none. Tell segments_sent what was written of it. */
static inline struct segment *pipeline_segment(const struct pipeline *p)
{
    struct segment *g = segments_next(&p->segments);
    return g != NULL && g->at == p->sent ? g : NULL;
}

/* The bytes to be written next; a view until the next append. */
void pipeline_unsent(const struct pipeline *p, const char **data, size_t *len);
void pipeline_sent(struct pipeline *p, size_t n);

/* A write of the next `n` bytes did not succeed, but they may leave. */
void pipeline_tried(struct pipeline *p, size_t n);

static inline bool pipeline_has_unsent(const struct pipeline *p)
{
    return p->sent - p->begin < buffer_len(&p->out);
}

/* Commands of the manager's own included. */
static inline bool pipeline_idle(const struct pipeline *p)
{
    return p->count == 0;
}

/* The request whose reply is due next; NULL for none, or the manager's own. */
static inline const struct request *pipeline_front(const struct pipeline *p)
{
    return p->count == 0 ? NULL : p->ring[p->head].req;
}

/* Where to read into, and how much. Never 0 after a pipeline_feed. */
char *pipeline_room(const struct pipeline *p, size_t *len);

/* After `n` bytes were read there: hands every whole reply, and long ones in
 * parts, to whom they belong. ERR_PROTO: not RESP, or a reply that nobody
 * asked for; the connection must go. */
MUST_CHECK enum err pipeline_feed(struct pipeline *p, size_t n);

/* For who reads replies past the pipeline: the oldest command, one of the
 * manager's own, was answered; *tag is its run's `first`. False: none is due.
 */
bool pipeline_take_own(struct pipeline *p, uint32_t *tag);

/*
 * How many bytes of a long bulk may go from the socket straight into the pipe
 * of whoever asked; 0: none, read them. They are a part of the current reply,
 * `available` of them are in the socket now.
 */
size_t pipeline_splice_begin(struct pipeline *p, size_t available);

/* Whether what was promised has no room in its pipe. */
bool pipeline_lags(const struct pipeline *p);

/* Moves some of what was promised. ERR_OK, ERR_AGAIN: the reader lags, see
 * `slow`. ERR_CLOSED: nobody reads, nothing is promised any more. ERR_SYS. */
MUST_CHECK enum err pipeline_splice(struct pipeline *p, int socket_fd);

/*
 * The connection broke. What had left is answered `lost` with the reason; what
 * had not is kept for the next connection, except what expired or whose
 * requester is gone. With `keep` false it is answered `unavailable`.
 */
void pipeline_break(struct pipeline *p, bool keep, const char *reason);

/* Drops what was not written and is expired, or wanted by nobody any more.
 * Called when writing goes on after it had to wait. */
void pipeline_purge(struct pipeline *p);

#endif
