/*
 * Replies, in RESP2 or RESP3 as the client has chosen.
 *
 * All of them append to the client's output, unless it asked for silence or
 * is closed. Errors begin with their code after a dash ("-WRONGTYPE ..."), or
 * get "ERR" as their code.
 */
#ifndef SERVER_REPLY_H
#define SERVER_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"
#include "server/client.h"

void reply_raw(struct server *s, struct client *c, const char *bytes,
               size_t len);
void reply_status(struct server *s, struct client *c, const char *text);
void reply_ok(struct server *s, struct client *c);
void reply_number(struct server *s, struct client *c, int64_t n);
void reply_bool(struct server *s, struct client *c, bool value); /* :1, :0 */
void reply_bulk(struct server *s, struct client *c, const char *bytes,
                size_t len);
void reply_arg(struct server *s, struct client *c, const struct arg *arg);
void reply_text(struct server *s, struct client *c, const char *text);
void reply_verbatim(struct server *s, struct client *c, const char *bytes,
                    size_t len);
void reply_null(struct server *s, struct client *c);
void reply_null_array(struct server *s, struct client *c);

/* Headers: `count` elements follow (pairs for a map). */
void reply_array(struct server *s, struct client *c, size_t count);
void reply_map(struct server *s, struct client *c, size_t count);
void reply_set(struct server *s, struct client *c, size_t count);
void reply_push(struct server *s, struct client *c, size_t count);

/* An array whose length is known only afterwards: keep what the first
 * returns, and give it to the second. Nothing may be sent in between. */
size_t reply_array_begin(struct server *s, struct client *c);
void reply_array_end(struct server *s, struct client *c, size_t mark,
                     size_t count);

/* SCAN: the array that was just ended becomes the second element of an array
 * whose first is this number, as a bulk. */
void reply_array_insert(struct server *s, struct client *c, size_t mark,
                        uint64_t number);

/* Line breaks in the text become blanks, so that no argument that is quoted in
 * an error can break the protocol. */
void reply_error(struct server *s, struct client *c, const char *format, ...)
    PRINTF_LIKE(3, 4);

/* Errors that many commands share. */
void reply_syntax_error(struct server *s, struct client *c);
void reply_wrong_type(struct server *s, struct client *c);
void reply_arity_error(struct server *s, struct client *c);
void reply_expire_error(struct server *s, struct client *c);
void reply_subcommand_error(struct server *s, struct client *c);

/* Reads an argument as a number; false: it is not one, and the error is
 * replied. */
bool reply_need_number(struct server *s, struct client *c,
                       const struct arg *arg, int64_t *n);

#endif
