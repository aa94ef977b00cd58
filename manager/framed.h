/*
 * One command, or several one after the other, as they stand in a run: in
 * canonical form, but for the large arguments, whose bytes are in a file.
 *
 *     *3 $3 SET $1 k $1000000 CRLF | CRLF      blobs[0].at is at the bar
 *
 * Everything here is a view: into the run's data and its blobs.
 */
#ifndef MANAGER_FRAMED_H
#define MANAGER_FRAMED_H

#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"
#include "ipc/resp.h"
#include "manager/segments.h"

/* So many of a command's arguments anybody looks at, other than for keys. */
#define PARSED_ARGS 16

/* A command of a message, as it was parsed. */
struct parsed {
    const char *data;
    size_t len;
    uint64_t blob_bytes; /* of its large arguments */
    uint32_t argc;
    struct resp_arg argv[PARSED_ARGS]; /* the first of them */
};

struct framed {
    const char *data;
    size_t len;
    const struct blob *blobs; /* those within the data, in its order */
    uint32_t nblobs;
    size_t at;                   /* what blobs[].at counts to data[0] */
    const struct parsed *parsed; /* of one command: the same; NULL: see data */
};

/* Of a run's data and blobs, say. */
static inline struct framed framed_view(const char *data, size_t len,
                                        const struct blob *blobs,
                                        uint32_t nblobs)
{
    return (struct framed){
        .data = data, .len = len, .blobs = blobs, .nblobs = nblobs};
}

/* The same of a parsed command without large arguments. */
static inline struct framed framed_parsed(const struct parsed *parsed)
{
    return (struct framed){
        .data = parsed->data, .len = parsed->len, .parsed = parsed};
}

/* Takes the first command off. ERR_OK, ERR_CLOSED: none is left. ERR_PROTO: it
 * is cut short or not in that form. */
MUST_CHECK enum err framed_next(struct framed *rest, struct framed *command);

/* Walks over one command's arguments. */
struct framed_args {
    struct resp_request request;
    const struct framed *command; /* borrowed while the walk goes on */
    uint32_t blob;                /* the next of its blobs */
};

/* *argc is how many arguments follow, at least 1. ERR_PROTO. */
MUST_CHECK enum err framed_args(struct framed_args *args,
                                const struct framed *command, uint32_t *argc);

/* Takes the next argument. A large one has data == NULL and *blob set (may be
 * NULL itself); `@LEN`, the form it has in a message, has no blob. ERR_PROTO;
 * ERR_INVALID: none is left. */
MUST_CHECK enum err framed_arg(struct framed_args *args, struct resp_arg *arg,
                               const struct blob **blob);

#endif
