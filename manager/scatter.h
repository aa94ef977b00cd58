/*
 * One command in several parts, and their replies as one reply.
 *
 * scatter_split makes of an MGET, MSET, DEL, UNLINK, EXISTS or TOUCH over
 * several slots one such command a slot. A gather takes the parts' replies, or
 * those of several nodes to one and the same command, and joins them. Pure
 * data: no socket, no request, no timer.
 */
#ifndef MANAGER_SCATTER_H
#define MANAGER_SCATTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"
#include "manager/framed.h"
#include "manager/keyspec.h"

/* ---- splitting ---- */

struct part {
    uint16_t slot;
    const char *data; /* one command, as a run has it */
    size_t len;
    uint32_t nkeys;
    const uint32_t *index;    /* of each key: the how manieth it was */
    const struct blob *blobs; /* `at` counts from this part's data */
    uint32_t nblobs;
};

/* Owns the parts and their bytes, which are copies. */
struct scatter {
    struct part *parts; /* in the order of their first keys */
    uint32_t count;
    void *memory;
};

/*
 * Splits a command whose way is SPREAD_SPLIT. Keys of one slot stay together
 * and in their order, so the last of two values for one key wins as in one
 * MSET. Large arguments stay in their file: each goes with its part's blobs.
 * The parts' bytes are together as many as the command's, and for each part a
 * head and the name more.
 * ERR_LIMIT: more than `most_parts`. ERR_NOMEM. ERR_INVALID: KEYSPEC_LARGE_KEY.
 * ERR_PROTO: not such a command, or a large argument has no blob. Nothing is to
 * be released then.
 */
MUST_CHECK enum err scatter_split(struct scatter *scatter,
                                  const struct framed *command,
                                  const struct way *way, uint32_t most_parts);

/* Zeroed is harmless. */
void scatter_release(struct scatter *scatter);

/* ---- joining ---- */

/*
 * Takes one reply for each of `nparts` parts, in any order, and keeps of it
 * only what the join needs: a number, one reply, or the bytes of all (ORDER,
 * CONCAT, UNION).
 *
 * Errors: if any part's reply is an error, the whole is an error: that of the
 * first such part (by number, not by time), whatever the others did; what they
 * did stays done. FIRST_OK: the first part that is no error; if all are, the
 * first whose error is not -NOTBUSY, else the first. ANY: the first part that
 * is neither an error nor nil, then the first error, then nil. If there is no
 * error but a reply has not the form the join needs, the whole is
 * GATHER_MISSHAPEN.
 *
 * A part that got no reply at all (lost, expired, unavailable) is its caller's
 * matter: then the whole has none either.
 */
struct gather {
    enum join join;
    uint32_t nparts, left; /* parts, and those not answered yet */
    uint32_t nkeys;        /* of JOIN_ORDER: elements of the result */
    size_t kept, limit;    /* bytes */
    enum err failed;       /* ERR_LIMIT, ERR_NOMEM: nothing is kept any more */
    bool misshapen;
    bool nil;                 /* of JOIN_ANY: the reply kept is */
    uint32_t error;           /* the part whose error is kept; nparts: none */
    uint32_t reply;           /* the part whose reply is; nparts: none */
    struct gathered *replies; /* of each part */
    int64_t *numbers;         /* joined so far */
    uint32_t nnumbers;
    char list; /* the type of what they stood in; 0: in nothing */
    char *result;
};

#define GATHER_MISSHAPEN                                                       \
    "-ERR the nodes of the cluster gave replies that cannot be joined\r\n"

/* `limit` bounds the bytes kept (--max-reply); the result takes at most as many
 * again, and ORDER and UNION 16 bytes an element while it is made. `nparts` is
 * at least 1. ERR_NOMEM: nothing is to be released. */
MUST_CHECK enum err gather_init(struct gather *gather, enum join join,
                                uint32_t nparts, size_t limit);
void gather_release(struct gather *gather); /* zeroed is harmless */

/* Tells JOIN_ORDER which keys part `number` asked for: copied. Call it once for
 * each part before the first gather_add. ERR_NOMEM. */
MUST_CHECK enum err gather_keys(struct gather *gather, uint32_t number,
                                const struct part *part);

/* Part `number` was answered: one whole reply, copied where that is needed.
 * ERR_INVALID: that part has its reply, or there is no such part, or it is not
 * one whole reply; nothing changed. ERR_LIMIT, ERR_NOMEM: the whole cannot be
 * had any more, further replies are only counted. */
MUST_CHECK enum err gather_add(struct gather *gather, uint32_t number,
                               const char *reply, size_t len);

static inline bool gather_whole(const struct gather *gather)
{
    return gather->left == 0;
}

/* After all have come: the one reply, a view until gather_release; in RESP3 if
 * the parts' are. Once. ERR_LIMIT, ERR_NOMEM. */
MUST_CHECK enum err gather_result(struct gather *gather, const char **reply,
                                  size_t *len);

#endif
