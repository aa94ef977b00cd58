/*
 * The commands that are not merely passed on: what belongs to a connection is
 * the gateway's to keep, for the connection to Redis is everybody's.
 */
#ifndef GATEWAY_COMMANDS_H
#define GATEWAY_COMMANDS_H

#include <stdbool.h>
#include <stddef.h>

enum command_id {
    COMMAND_PASSES, /* everything that is not named here */
    COMMAND_AUTH,
    COMMAND_BLOCKS,       /* in Redis, for long; or may */
    COMMAND_BLOCKS_MAYBE, /* if it has the argument BLOCK */
    COMMAND_CLIENT,
    COMMAND_DISCARD,
    COMMAND_EXEC,
    COMMAND_GATEWAY,
    COMMAND_HELLO,
    COMMAND_HTTP, /* a browser that was talked into it */
    COMMAND_MULTI,
    COMMAND_PING,
    COMMAND_QUIT,
    COMMAND_RESET,
    COMMAND_SELECT,
    COMMAND_SUBSCRIBE,
    COMMAND_PSUBSCRIBE,
    COMMAND_SSUBSCRIBE,
    COMMAND_UNSUBSCRIBE,
    COMMAND_PUNSUBSCRIBE,
    COMMAND_SUNSUBSCRIBE,
    COMMAND_UNWATCH,
    COMMAND_WATCH
};

/* How a RESP3 reply differs from RESP2's by more than its types. */
enum command_shape {
    SHAPE_PLAIN,
    SHAPE_FLAT,      /* pairs, which RESP2 has one after the other */
    SHAPE_PAIRS,     /* a map, which RESP2 has as an array of pairs */
    SHAPE_NULL_ARRAY /* whose null is an array's */
};

struct command_row {
    const char *name; /* upper case */
    enum command_id id;
    enum command_shape shape;
};

/* The row of a name in any case; NULL: there is none. */
const struct command_row *command_find(const char *name, size_t len);

/* Whether a word, in any case, is this one in upper case. */
bool command_is(const char *word, size_t len, const char *upper);

#endif
