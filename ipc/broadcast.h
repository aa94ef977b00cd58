/*
 * broadcast: every message to every subscriber, each through a pipe of its own.
 *
 * A subscription is requested like any command (message.h), with
 * MESSAGE_STREAM, and its answer is the subscriber's pipe for good: a stream of
 * chunks (struct reply_chunk) which goes on until the subscriber closes the
 * pipe or END comes. What the fields mean in a stream:
 *
 *     request   repeated in every chunk, as always
 *     length    of the bytes that follow, see the table
 *     count     what it is: enum broadcast_kind
 *     first     a number n
 *     flags     REPLY_END in the last chunk, else 0
 *     status    REPLY_OK but in the last chunk
 *
 *     | kind      | n              | bytes                                    |
 *     | confirmed | names          | Redis's confirmation of each, in order   |
 *     | message   | 1              | Redis's message, pmessage or smessage    |
 *     | lagged    | messages lost  | none                                     |
 *     | gap       | ms of the gap  | none                                     |
 *
 * `confirmed` comes first and once: every message from then on is delivered,
 * or counted by a `lagged` that stands where it is missing. `gap` says that the
 * publisher was out of reach: what was published between the chunk before it
 * and this one may be missing, and nobody knows how much.
 *
 * The last chunk (END) has a line of text for people and a status, as the
 * answer to any command has; with REPLY_OK its bytes are an error of Redis, who
 * refused the subscription. A stream may also end without that: `receiver`
 * tells that nobody writes any more, and a pipe that has lost its name
 * (st_nlink 0) was given up by its writer, who could not say so because it was
 * full.
 */
#ifndef IPC_BROADCAST_H
#define IPC_BROADCAST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"
#include "ipc/message.h"

enum broadcast_kind {
    BROADCAST_CONFIRMED = 1,
    BROADCAST_MESSAGE,
    BROADCAST_LAGGED,
    BROADCAST_GAP,
    BROADCAST_END /* never written: what broadcast_next says of REPLY_END */
};

/* "confirmed", ...: static, never NULL. */
const char *broadcast_kind_str(enum broadcast_kind kind);

/* ---- the writer ---- */

/* The chunk before `length` bytes of a stream. */
struct reply_chunk broadcast_chunk(uint64_t request, enum broadcast_kind kind,
                                   uint32_t n, uint32_t length);

/* ---- the reader ---- */

/* Where a stream stands. Plain data. */
struct broadcast {
    uint64_t request;
    bool confirmed;
    bool ended;
    bool failed;
};

struct broadcast_event {
    enum broadcast_kind kind;
    enum reply_status status; /* of END */
    uint32_t n;
    const char *data; /* a view into what was read */
    size_t len;
};

void broadcast_init(struct broadcast *b, uint64_t request);

/*
 * Takes the event that begins at data[0]. ERR_OK: *size bytes belong to it.
 * ERR_AGAIN: *size bytes are needed in all (so the caller knows what room to
 * make; a chunk that does not fit into memory is the caller's to refuse).
 * ERR_CLOSED: END was taken before and nothing follows. ERR_PROTO: not this
 * subscription's stream; it stays that.
 */
MUST_CHECK enum err broadcast_next(struct broadcast *b, const char *data,
                                   size_t len, struct broadcast_event *event,
                                   size_t *size);

#endif
