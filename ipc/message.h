/*
 * What travels between workers and the manager: the one place that knows the
 * layout. Both ends run on one machine, so fields are in its byte order.
 *
 * A request is one queue message: a header, then `payload_len` bytes, which are
 * `ncommands` commands in RESP's canonical form (resp.h). Without
 * MESSAGE_INDEPENDENT the commands belong together: they go to Redis with
 * nothing in between and share one fate. With it they are merely sent together
 * (a library coalesced them): each is judged, routed and answered for itself.
 *
 * A reply is a sequence of chunks in the requester's pipe, a header each:
 *
 *     | first=0 count=3 OK      | 3 whole replies                |
 *     | first=3 count=0 OK MORE | a part of reply 3              |
 *     | first=3 count=1 OK END  | its rest; the request is over  |
 *
 * Exactly one chunk has END, and it is the last. Replies of commands that are
 * independent of one another may come in any order, each in its own order of
 * parts. A chunk whose status is not
 * OK carries a line of text for people in place of replies; it answers the
 * commands [first, first + count), and what came of reply `first` before (MORE)
 * is void.
 *
 * A change of layout bumps MESSAGE_VERSION.
 */
#ifndef IPC_MESSAGE_H
#define IPC_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"

#define MESSAGE_MAGIC 0x4d51524dU /* "MRQM" in memory */
#define MESSAGE_VERSION 1

enum message_flag {
    MESSAGE_INDEPENDENT = 1 << 0, /* commands are merely sent together */
    MESSAGE_PAYLOAD = 1 << 1,     /* '@' arguments have their bytes in the
                                     slot's payload file */
    MESSAGE_BODY = 1 << 2,        /* the commands stand at the beginning of
                                     that file; the message has their length,
                                     a uint64_t, in their place */
    MESSAGE_STREAM = 1 << 3       /* the sender expects a stream, see
                                     broadcast.h: its command subscribes */
};

/* The most bytes of commands (without '@' arguments) that go by a file. */
#define MESSAGE_BODY_MAX (4U << 20)

struct message_header {
    uint32_t magic;
    uint16_t version;
    uint16_t flags;
    uint64_t epoch;       /* of the manager that the sender saw */
    uint64_t client;      /* names the reply pipe: a capability, never shown */
    uint64_t slot;        /* names the reply pipe: only grows */
    uint64_t request;     /* random; every reply chunk repeats it */
    uint64_t deadline_ns; /* CLOCK_MONOTONIC; 0: none */
    uint64_t sent_ns;     /* CLOCK_MONOTONIC, before the send */
    uint32_t pid;         /* claimed by the sender, for display only */
    uint32_t prev_rtt_us; /* the sender's previous round trip; 0: none */
    uint32_t ncommands;
    uint32_t payload_len;
};

_Static_assert(sizeof(struct message_header) == 72, "layout of the header");

/* Messages smaller than this can't hold a useful command. */
#define MESSAGE_SIZE_MIN 256

/* Checks a received message as far as its header goes and copies the header
 * out. `priority` is the queue's. ERR_OK: *payload is the rest, a view into
 * `data`, of header->payload_len bytes. ERR_INVALID: the header can be
 * believed as far as the address of the answer goes (magic, version, client,
 * slot and request are there), yet the message is refused; `why` says so.
 * ERR_PROTO: nothing in it can be believed, nobody can be answered. */
MUST_CHECK enum err message_parse(const char *data, size_t len,
                                  unsigned priority,
                                  struct message_header *header,
                                  const char **payload, struct err_text *why);

/* ---- replies ---- */

enum reply_status {
    REPLY_OK = 0,      /* Redis answered */
    REPLY_INVALID,     /* the message or a command was refused: not executed */
    REPLY_EXPIRED,     /* its deadline passed first: not executed */
    REPLY_UNAVAILABLE, /* no manager or no Redis: not executed */
    REPLY_TOO_BIG,     /* over a named limit (a reply's: executed) */
    REPLY_LOST,        /* broke after it was written: outcome unknown */
    REPLY_STATUS_COUNT
};

/* "ok", "invalid", ...: static, never NULL. */
const char *reply_status_str(enum reply_status status);

enum reply_flag {
    REPLY_END = 1 << 0, /* the request is over, the pipe is empty after this */
    REPLY_MORE = 1 << 1 /* the last reply in this chunk goes on in the next */
};

struct reply_chunk {
    uint64_t request;
    uint32_t length; /* bytes that follow */
    uint32_t first;  /* index of the command that the bytes answer first */
    uint32_t count;  /* commands whose answers end in this chunk */
    uint8_t flags;
    uint8_t status;
    uint16_t reserved; /* 0 */
};

_Static_assert(sizeof(struct reply_chunk) == 24, "layout of the chunk");

/* No chunk is longer; what is longer is split. */
#define REPLY_CHUNK_MAX (1U << 20)

/*
 * Takes chunks apart as a pipe delivers them, in pieces of any size, and
 * checks them against the request they must answer: the id, the order of the
 * commands, nothing after END. Plain data.
 */
struct reply_stream {
    uint64_t request;
    uint32_t ncommands;
    uint32_t next; /* commands answered by the chunks before this one */
    struct reply_chunk chunk; /* current, whole once have == sizeof(chunk) */
    uint32_t have;            /* bytes of the chunk's header collected */
    uint32_t body_left;       /* bytes of its body still to come */
    bool ended;
    bool failed; /* ERR_PROTO was said, and is said from then on */
};

/* A piece of one chunk's body. */
struct reply_piece {
    const struct reply_chunk *chunk; /* valid until the next call */
    const char *data;                /* a view into the bytes fed */
    size_t len;
    bool chunk_done; /* the chunk's last piece */
};

void reply_stream_init(struct reply_stream *s, uint64_t request,
                       uint32_t ncommands);

/* Takes bytes from *data, *len (both are moved on). ERR_OK: *piece is there
 * (len 0 for a chunk without a body). ERR_AGAIN: more bytes are needed.
 * ERR_PROTO: not an answer to this request: give the pipe up, and the name. */
MUST_CHECK enum err reply_stream_next(struct reply_stream *s, const char **data,
                                      size_t *len, struct reply_piece *piece);

#endif
