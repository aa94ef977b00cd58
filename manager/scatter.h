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
 * MSET. The parts' bytes are together about as many as the command's, and a
 * head of 30 bytes and the name for each.
 * ERR_LIMIT: more than `most_parts`. ERR_NOMEM. ERR_PROTO: not such a command,
 * or a large argument that has no blob. Nothing is to be released then.
 */
MUST_CHECK enum err scatter_split(struct scatter *scatter,
                                  const struct framed *command,
                                  const struct way *way, uint32_t most_parts);

/* Zeroed is harmless. */
void scatter_release(struct scatter *scatter);

/* ---- joining ---- */

/*
 * Takes one reply for each of `nparts` parts, in any order, and keeps of it
 * only what the join needs: a number, or the bytes (ORDER, CONCAT, UNION,
 * MAP_SUM, AND and OR of arrays).
 *
 * Errors: if any part's reply is an error, the whole is an error: that of the
 * first such part (by number, not by time), whatever the others did; what they
 * did stays done. FIRST_OK: the first part that is no error; if all are, the
 * first whose error is not -NOTBUSY, else part 0's. ANY: an error counts only
 * if every other reply is nil. A reply that does not have the form the join
 * needs makes the whole "-ERR ..." that says so.
 *
 * A part that got no reply at all (lost, expired, unavailable) is its caller's
 * matter: then the whole has none either.
 */
struct gather {
    enum join join;
    uint32_t nparts, left; /* parts, and those not answered yet */
    uint32_t nkeys;        /* of JOIN_ORDER: elements of the result */
    size_t kept, limit;    /* bytes */
    uint32_t worst;        /* the part whose error, or form, wins */
    uint32_t best;         /* the part whose reply wins, else */
    int64_t number;
    struct gathered *replies; /* of each part */
    char *result;
    size_t result_len;
};

/* `limit` bounds the bytes kept, and those of the result (--max-reply).
 * `nparts` is at least 1. ERR_NOMEM. */
MUST_CHECK enum err gather_init(struct gather *gather, enum join join,
                                uint32_t nparts, size_t limit);
void gather_release(struct gather *gather); /* zeroed is harmless */

/* Tells JOIN_ORDER which keys part `number` asked for: copied. Call it for each
 * part before the first gather_add. ERR_NOMEM. */
MUST_CHECK enum err gather_keys(struct gather *gather, uint32_t number,
                                const struct part *part);

/* Part `number` was answered: one whole reply, which is copied where that is
 * needed. ERR_LIMIT: over the limit; the whole is then too big, and later
 * replies are only counted. ERR_NOMEM: the same. ERR_INVALID: that part has
 * its reply, or there is no such part; nothing changed. */
MUST_CHECK enum err gather_add(struct gather *gather, uint32_t number,
                               const char *reply, size_t len);

static inline bool gather_whole(const struct gather *gather)
{
    return gather->left == 0;
}

/* After all have come: the one reply, a view until gather_release. In RESP3
 * where the parts' are. ERR_LIMIT, ERR_NOMEM as above. */
MUST_CHECK enum err gather_result(struct gather *gather, const char **reply,
                                  size_t *len);

#endif
