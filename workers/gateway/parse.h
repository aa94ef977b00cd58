/*
 * Commands as clients write them: arrays of bulk strings, or lines. A command
 * may arrive in any number of pieces; each byte is looked at once.
 *
 * What is accepted as an array is in canonical form (ipc/resp.h), so its bytes
 * can be passed on as they are. Lines are put into that form.
 */
#ifndef GATEWAY_PARSE_H
#define GATEWAY_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"
#include "ipc/resp.h"

/* As Redis has them: a line, and the count and lengths in an array. */
#define PARSE_LINE_MAX (64 * 1024)

/* Whoever has not logged in gets along with so little. */
#define PARSE_STRANGER_ARGS 10
#define PARSE_STRANGER_BULK 16384

/* How far the command at the front of a connection's input has been read. All
 * offsets count from its first byte. Zeroed for the next command. */
struct parser {
    size_t at;      /* bytes looked at */
    int64_t argc;   /* 0: the count has not been read */
    int64_t left;   /* arguments to come */
    int64_t bulk;   /* bytes of the current one, if `in_bulk` */
    bool in_bulk;   /* its length has been read */
    size_t name_at; /* the first argument */
    size_t name_len;
    char *line; /* an inline command in canonical form; NULL: none */
};

/* A whole command. Views into the input, or into the parser's `line`; they live
 * until the input is consumed or the parser released. */
struct command {
    const char *data; /* canonical RESP */
    size_t len;
    const char *name;
    size_t name_len;
    uint32_t argc;
    size_t used; /* bytes of the input */
    bool in_line;
};

enum parse_result {
    PARSE_COMMAND, /* *out is there */
    PARSE_NOTHING, /* out->used bytes that ask for nothing: an empty line */
    PARSE_MORE,    /* it goes on: call again with the same bytes and more */
    PARSE_BROKEN   /* out->name says what: a literal for "Protocol error: %s" */
};

/* Reads the command that begins at data[0]. `stranger`: see above. */
enum parse_result parse_next(struct parser *p, const char *data, size_t len,
                             bool stranger, struct command *out);

/* After PARSE_MORE: how many bytes are missing at least. */
size_t parse_missing(const struct parser *p, size_t len);

/* Ready for the next command. */
void parse_reset(struct parser *p);

#endif
