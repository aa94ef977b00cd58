/*
 * RESP, the Redis serialization protocol, as bytes in memory: no sockets.
 *
 * Four separate tools, none of which allocates:
 *
 * - resp_scan: finds where frames (RESP2 and RESP3, as a server sends them)
 *   end in a stream that arrives in pieces, without copying or keeping them.
 *   The manager's reply path runs on it.
 * - resp_request: walks over commands in canonical form (`*2\r\n$3\r\nGET...`),
 *   refusing anything that a Redis server could read differently from us. The
 *   manager lets nothing else onto a shared connection.
 * - resp_put_*: encodes commands and replies into a caller's buffer.
 * - resp_get: reads one value's header from memory, for whoever walks through
 *   a whole reply (the printer, the library's tree).
 *
 * Protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/
 */
#ifndef IPC_RESP_H
#define IPC_RESP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"

/* What a command may hold, as Redis limits it (proto-max-bulk-len). */
#define RESP_BULK_MAX (512LL * 1024 * 1024)
#define RESP_ARGS_MAX (1024 * 1024)

/* What a reply may hold. Generous, for whatever one script can make Redis say
 * (a string of 600 MB, a status of 1 MB) must not cost everybody's connection:
 * the scanner keeps no bytes, so it only refuses what is no reply at all. */
#define RESP_REPLY_BULK_MAX (1LL << 40)
#define RESP_COUNT_MAX (1LL << 31) /* elements, of a map: pairs */
#define RESP_LINE_MAX (1 << 29)    /* simple strings, errors, doubles */

/* How deep those go who walk through a reply and need memory per level: the
 * printer, the library's tree. COMMAND DOCS goes 7 deep, a script of mischief
 * thousands. Scanning has no such limit: it counts values, not levels. */
#define RESP_DEPTH_MAX 128

/* ---- scanning a stream of frames ---- */

/* Where a scan stands between two pieces of a stream. Plain data: copy, drop
 * and reset it at will. */
struct resp_scan {
    int64_t todo;    /* values still to come in this frame, on all levels */
    int64_t skip;    /* bytes of a bulk (with its CR LF) still to pass over */
    uint64_t number; /* length or count being read, without its sign */
    uint32_t line;   /* bytes (digits, of a number) of the line seen so far */
    uint8_t state;   /* enum in resp.c */
    char kind;       /* type byte of the value being read */
    char sign;       /* '-' when that number is negative */
    char type;       /* type byte of the top-level value, 0 before it */
};

/* Makes `s` ready for the first byte of a frame. */
void resp_scan_reset(struct resp_scan *s);

/*
 * Passes over data[0..len) until the current frame's end.
 * ERR_OK: a frame ended; *used bytes belong to it (count them from `data`);
 *         the scan is ready for the next frame, s->type still tells the type
 *         of the one that ended ('>' for a push, which is no reply).
 * ERR_AGAIN: all of it was used, the frame goes on; *used == len.
 * ERR_PROTO: not RESP, or over a limit above. The stream is lost, later calls
 *         say ERR_PROTO too until a reset. Streamed types (`$?`) are refused.
 * An attribute frame ('|') counts as part of the value that follows it, whose
 * type s->type tells. A simple line ends at its first CR LF; a lone CR or LF
 * is a part of it.
 */
MUST_CHECK enum err resp_scan(struct resp_scan *s, const char *data, size_t len,
                              size_t *used);

/* True between two frames: nothing of the next one has been seen. */
bool resp_scan_idle(const struct resp_scan *s);

/* How many bytes of the current bulk the scan will pass over without looking
 * at them (its closing CR LF excluded); 0 outside a bulk. What a splice may
 * move past the scanner; tell it with resp_scan_skip (no more than that). */
size_t resp_scan_opaque(const struct resp_scan *s);
void resp_scan_skip(struct resp_scan *s, size_t bytes);

/* ---- commands in canonical form ---- */

struct resp_arg {
    const char *data; /* NULL for a large argument, whose bytes are elsewhere */
    size_t len;
};

/*
 * Walks over commands held whole in memory. The canonical form is
 * `*N CR LF` with N >= 1, then N arguments `$LEN CR LF bytes CR LF`; numbers
 * are decimal without sign or leading zero. An argument written `@LEN CR LF`
 * (nothing after it) stands for LEN >= 1 bytes which travel outside the
 * message. N is at most RESP_ARGS_MAX, LEN at most RESP_BULK_MAX. For what
 * resp_request accepts, resp_put_command writes the same bytes again.
 */
struct resp_request {
    const char *pos, *end;
    uint32_t args_left; /* of the current command */
};

void resp_request_init(struct resp_request *r, const char *data, size_t len);

/* Steps to the next command. ERR_OK: *argc is how many arguments follow.
 * ERR_CLOSED: the end, cleanly. ERR_PROTO: not canonical, or cut short.
 * ERR_INVALID: arguments of the command before have not been taken. */
MUST_CHECK enum err resp_request_command(struct resp_request *r,
                                         uint32_t *argc);

/* Takes the next argument, a view into the data. ERR_PROTO as above.
 * ERR_INVALID: none is left. */
MUST_CHECK enum err resp_request_arg(struct resp_request *r,
                                     struct resp_arg *arg);

/* ---- encoding ---- */

/* How many bytes resp_put_command will write. SIZE_MAX on overflow. */
size_t resp_command_size(size_t argc, const struct resp_arg *argv);

/* Writes the command in canonical form at `out`, which has room for
 * resp_command_size bytes; returns how many. An arg with data == NULL and
 * len > 0 is written as a large argument ('@'). */
size_t resp_put_command(char *out, size_t argc, const struct resp_arg *argv);

/* `<type><number>CRLF` at `out` (room for RESP_HEADER_MAX); returns bytes. */
#define RESP_HEADER_MAX 24
size_t resp_put_header(char *out, char type, int64_t number);

/* Decimal digits of `n` at `out` (room for 20 bytes); returns how many. */
size_t resp_put_number(char *out, int64_t n);

/* ---- reading one value ---- */

/* A value's header, and its bytes for the types that have them: views into the
 * data that was read. */
struct resp_value {
    char type;        /* + - : $ * _ , # ! = ( % ~ > | */
    bool null;        /* `$-1`, `*-1` or `_` */
    int64_t number;   /* of ':' and '#'; element count of * ~ > and, a pair
                         counted as two elements, of % | */
    const char *data; /* of + - : , ( # $ ! = the text; '=' without its
                         "txt:" prefix; NULL for the others and for null */
    size_t len;
    char format[4]; /* of '=': "txt" or "mkd"; else "" */
};

/* Reads the value that begins at data[0]; aggregates: the header only, their
 * elements follow at data + *used. After an attribute's elements comes the
 * value that it belongs to. ERR_OK, ERR_AGAIN (cut short), ERR_PROTO. */
MUST_CHECK enum err resp_get(const char *data, size_t len,
                             struct resp_value *value, size_t *used);

#endif
