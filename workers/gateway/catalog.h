/*
 * What the server says of its commands (COMMAND), as far as it is needed to
 * answer within MULTI as Redis does: a queued command that Redis would refuse
 * at once must be refused at once, for EXEC is an error then.
 */
#ifndef GATEWAY_CATALOG_H
#define GATEWAY_CATALOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "workers/gateway/parse.h"

struct catalog {
    struct catalog_row **slots; /* NULL: nothing is known */
    uint64_t asked_ns;          /* when it was asked for last */
    bool asking;
};

enum catalog_verdict {
    CATALOG_FINE,    /* or nothing is known */
    CATALOG_UNKNOWN, /* no such command, or subcommand */
    CATALOG_ARITY
};

/* Judges a command. What to answer is in text[0..size). */
enum catalog_verdict catalog_judge(const struct catalog *catalog,
                                   const struct command *command, char *text,
                                   size_t size);

/* Replaces all by a reply to COMMAND, RESP2 or RESP3. Not such a reply, or no
 * memory: nothing is known any more, and CATALOG_FINE is all that is said. */
void catalog_learn(struct catalog *catalog, const char *data, size_t len);

void catalog_release(struct catalog *catalog);

#endif
