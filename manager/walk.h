/*
 * Walking through a whole reply in memory, value by value, where its form is
 * expected and anything else is ERR_PROTO. RESP2 and RESP3; attributes are
 * passed over. A walk never goes beyond `end`, and counts are checked against
 * the bytes that are left, so that no lie about a count costs time.
 */
#ifndef MANAGER_WALK_H
#define MANAGER_WALK_H

#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"
#include "ipc/resp.h"

struct walk {
    const char *pos, *end;
};

/* Passes over `values` whole values. */
MUST_CHECK enum err walk_skip(struct walk *walk, int64_t values);

/* Reads the next value; an aggregate's elements follow. */
MUST_CHECK enum err walk_next(struct walk *walk, struct resp_value *value);

/* Reads the head of a list: an array or, in RESP3, a set. Null is empty. */
MUST_CHECK enum err walk_list(struct walk *walk, int64_t *count);

/* Reads the head of pairs: a map or, in RESP2, an array; *pairs of them. */
MUST_CHECK enum err walk_pairs(struct walk *walk, int64_t *pairs);

/* Reads a string, bulk or simple: a view. */
MUST_CHECK enum err walk_string(struct walk *walk, const char **data,
                                size_t *len);

/* Reads an integer. */
MUST_CHECK enum err walk_integer(struct walk *walk, int64_t *number);

#endif
