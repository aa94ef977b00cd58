/*
 * One command under examination: its table entry, its first arguments, and
 * which ranges of arguments are keys. Private to keyspec*.c.
 */
#ifndef MANAGER_KEYSPEC_LOOK_H
#define MANAGER_KEYSPEC_LOOK_H

#include <stdbool.h>
#include <stdint.h>

#include "manager/keyspec_table.h"

#define ARGS_KEPT 8

struct look {
    const struct framed *command;
    const struct keyspec_entry *entry; /* NULL: nobody knows it */
    struct framed_args args;           /* behind the first `kept`, if there is
                                          room for more */
    uint32_t argc, kept;
    struct resp_arg first[ARGS_KEPT];
};

struct range {
    uint32_t first, last, step; /* last included */
};

struct ranges {
    struct range items[KEYSPEC_SPECS];
    uint32_t count;
    uint32_t keys;
};

/* Begins with the first argument, or with all that are known. ERR_PROTO. */
MUST_CHECK enum err look_begin(struct look *look, const struct framed *command);

/* Reads the next argument into `first`, which has room for it. ERR_PROTO. */
MUST_CHECK enum err look_keep(struct look *look);

/* Called for each argument until it says no. */
struct visit {
    bool (*arg)(struct visit *visit, uint32_t index,
                const struct resp_arg *arg);
};

/* Walks over all arguments, and visits those from `from` on. ERR_PROTO. */
MUST_CHECK enum err look_visit(const struct look *look, uint32_t from,
                               struct visit *visit);

/* Argument `index`, which there is. ERR_PROTO. */
MUST_CHECK enum err look_fetch(const struct look *look, uint32_t index,
                               struct resp_arg *arg);

/* The number as Redis reads it: no sign but '-', no leading zero, no space.
 * Negative ones, and what is none, are -1; more than 18 digits too. */
int64_t look_number(const struct resp_arg *arg);

/* Finds the keys' ranges, and with `channels` what is in a slot as if it were
 * a key. ERR_PROTO. */
MUST_CHECK enum err look_find(const struct look *look, bool channels,
                              struct ranges *ranges);

#endif
