/*
 * Reading requests: the lenient reader a server needs.
 *
 * Understands the RESP form (`*2 CR LF $3 CR LF GET CR LF ...`) and the inline
 * form (`GET key CR LF`, with redis-cli's quoting), and says what is wrong in
 * Redis's words. It never waits and never reads: it is shown the bytes there
 * are, beginning at the request's first byte, as often as more have come, and
 * remembers how far it was, so that a request that arrives in small pieces
 * costs no more than one that arrives whole.
 */
#ifndef SERVER_PROTOCOL_H
#define SERVER_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/mem.h"

#define PROTOCOL_INLINE_MAX (64 * 1024) /* an inline request, a header line */
#define PROTOCOL_ARGS_MAX INT32_MAX
#define PROTOCOL_ERROR_MAX 80

struct arg {
    union {
        const char *data;
        size_t at; /* instead, while the request is not whole */
    };
    size_t len;
};

struct request {
    struct arg *args;
    size_t args_cap;
    size_t argc;
    int64_t args_left; /* still to come; 0: at the beginning of a request */
    int64_t bulk;      /* length of the argument being read; -1: not known */
    size_t pos;        /* bytes of the request taken so far */
    char *text;        /* an inline request without its quotes */
    char error[PROTOCOL_ERROR_MAX];
};

struct protocol_limits {
    int64_t bulk_max;
    bool stranger; /* not authenticated: little patience */
};

enum parse {
    PARSE_READY, /* args and argc are set, `used` bytes taken */
    PARSE_EMPTY, /* a request without arguments, `used` bytes taken */
    PARSE_MORE,  /* nothing taken; show it again with more behind it */
    PARSE_ERROR  /* r->error says why; the stream is lost */
};

void request_init(struct request *r);
void request_release(struct request *r, struct mem *m);

/* On PARSE_READY, the args are views into `data`, or (inline) into r->text,
 * good until the next call or until `data` goes away. */
enum parse request_parse(struct request *r, struct mem *m,
                         const struct protocol_limits *limits, const char *data,
                         size_t len, size_t *used);

/* Splits a line as redis-cli and Redis do: blanks separate, "..." with escapes
 * and '...' quote. `text` needs room for len + 1 bytes. Adds to r->args views
 * into `text`. False when quotes do not match. */
bool request_split_line(struct request *r, struct mem *m, const char *line,
                        size_t len, char *text);

#endif
