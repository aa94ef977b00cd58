/*
 * Requests, and their answers.
 *
 * A request is a message that was taken and whose commands are not all
 * answered yet. Each command is answered exactly once, by answer_reply or
 * answer_fail; when the last one is, the request's END goes out and the request
 * is freed. So slots come back whatever dies: there is no other way for a
 * command to leave.
 */
#ifndef MANAGER_ANSWER_H
#define MANAGER_ANSWER_H

#include <stdbool.h>
#include <stdint.h>

#include "ipc/err.h"
#include "ipc/message.h"
#include "ipc/status.h"
#include "ipc/status_clients.h"
#include "manager/readers.h"

struct request {
    uint64_t id;
    uint64_t deadline_ns; /* 0: none */
    uint64_t sent_ns;
    uint64_t taken_ns;
    struct reader *reader;
    uint64_t client;
    uint32_t ncommands;
    uint32_t answered;
    bool stream;  /* what it asks for is to be a stream */
    bool cut;     /* of the reply at hand, only the end is told */
    bool laned;   /* counted in its sender's lane */
    uint8_t lane; /* enum lane */
    bool spoiled; /* its payload vanished: zeros were sent in its place */
    struct request *next; /* in the pool's free list */
};

/* Where requests come from and what their ends are counted in. */
struct answers {
    struct readers *readers;
    struct status *status;
    struct request *free;   /* unused ones */
    struct request **slabs; /* memory of all of them */
    uint32_t slab_count;
    struct client_index clients; /* see status_clients.h */
    uint64_t max_reply;          /* bytes; a longer one is cut off */
    uint32_t inflight;           /* commands taken and not answered */
    uint32_t most_inflight;
    uint64_t now_ns; /* set by each wait of the loop */
    bool gathers;    /* short replies to one message go out together, as far
                        as readers_flush lets them */
    bool readonly;   /* a reply said -READONLY since somebody looked */

    /* Called after each ANSWERS_AT_ONCE replies of a round, where set: may take
     * requests and put them on pipelines, but neither send nor close. */
    void (*between)(void *context);
    void *between_context;
    uint32_t at_once; /* replies since the last call */
};

#define ANSWERS_AT_ONCE 8

/* `seed` is random: the table of clients is hashed with it. */
void answers_init(struct answers *a, struct readers *readers,
                  struct status *status, uint64_t seed);
void answers_release(struct answers *a);

/* A request for a message; takes over the reader's count of it (see
 * readers_get). Its commands count as taken and in flight. `command` is the
 * name of the first one, for display. ERR_NOMEM. */
MUST_CHECK enum err answers_take(struct answers *a,
                                 const struct message_header *h,
                                 struct reader *reader, const char *command,
                                 size_t command_len, struct request **request);

/*
 * Redis's replies: data[0..len) continues the answer to command `first`; it
 * ends the answers of `count` commands from there on, and with `more` begins
 * or continues the one after those. Frees the request with its last command.
 */
void answer_reply(struct answers *a, struct request *req, uint32_t first,
                  uint32_t count, bool more, const char *data, size_t len);

/* Begins a chunk of `len` bytes that continues the answer to command `first`
 * and that the caller will put into the reader's pipe. False: not now (the
 * reader is dead or lags, or the reply is passed over). */
bool answer_begin(struct answers *a, struct request *req, uint32_t first,
                  size_t len);

/* The rest of the reply at hand is passed over, for it is too long; its end
 * will be told in a word. */
void answer_cut(struct answers *a, struct request *req);

/* The manager's own word on `count` commands from `first` on. What was told of
 * `first` before is void. Frees the request with its last command. */
void answer_fail(struct answers *a, struct request *req, uint32_t first,
                 uint32_t count, enum reply_status status, const char *fmt, ...)
    PRINTF_LIKE(6, 7);

/* Drops `count` commands that were not written and that nobody waits for: the
 * reader is dead. */
void answer_gone(struct answers *a, struct request *req, uint32_t count);

/* To be called before a reply is taken off its pipeline: lets `between` have
 * its turn. */
static inline void answers_pause(struct answers *a)
{
    if (a->between == NULL || ++a->at_once < ANSWERS_AT_ONCE)
        return;
    a->at_once = 0;
    a->between(a->between_context);
}

/* The answer to a request's only command is a stream, which is written by
 * somebody else: the request is over. */
void answer_streams(struct answers *a, struct request *req);

/* Whether a request's deadline has passed. */
static inline bool request_expired(const struct answers *a,
                                   const struct request *req)
{
    return req->deadline_ns != 0 && a->now_ns >= req->deadline_ns;
}

#endif
