/*
 * Segments: the bytes of large arguments, on their way from payload files into
 * a connection's stream. They stand beside the pipeline's bytes:
 *
 *     out       *3 $3 SET $1 k $1000000 CRLF | CRLF  *1 ...
 *     segments                               ^ at: 1000000 bytes of a file
 *
 * `at` counts the bytes of `out` alone, so that "this command's last byte has
 * left" reads the same with and without segments: the CRLF behind one leaves
 * after it.
 */
#ifndef MANAGER_SEGMENTS_H
#define MANAGER_SEGMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"
#include "manager/answer.h"

/* Payload files in use, and the bound on their bytes (--shm-budget). */
struct sources {
    struct status *status;
    uint64_t bytes;
    uint64_t budget;
};

/* An open payload file; closed with its last reference. */
struct source {
    struct sources *owner;
    int fd;
    uint32_t refs;
    uint64_t bytes; /* that it counts for */
};

/* Takes over `fd`. The caller has the first reference. ERR_NOMEM. */
MUST_CHECK enum err source_new(struct sources *owner, int fd, uint64_t bytes,
                               struct source **source);
void source_unref(struct source *source);

/* A large argument in a run's bytes. */
struct blob {
    size_t at; /* in the run's data */
    uint64_t len;
    int64_t offset; /* in the file */
};

struct segment {
    struct source *source;
    struct request *req; /* spoiled, if the file shrinks */
    uint64_t at;         /* stream offset, see above */
    uint64_t len, sent;
    int64_t offset;
};

/* In the order of `at`. Zeroed: empty. */
struct segments {
    struct segment *items;
    uint32_t count, size;
    uint32_t next; /* the first that is not sent whole */
};

/* Room for `n` more. ERR_NOMEM. */
MUST_CHECK enum err segments_reserve(struct segments *s, uint32_t n);

/* Adds one at the end (room was reserved) and a reference to its source. */
void segments_add(struct segments *s, struct source *source,
                  struct request *req, uint64_t at, uint64_t len,
                  int64_t offset);

/* The segment that is to be sent next; NULL: none. */
static inline struct segment *segments_next(const struct segments *s)
{
    return s->next < s->count ? &s->items[s->next] : NULL;
}

/* `n` bytes of the next one were sent. */
void segments_sent(struct segments *s, uint64_t n);

/* Drops those before a stream offset. */
void segments_drop_before(struct segments *s, uint64_t at);

/* Drops those in [begin, end), or moves them by `shift` (to the front). */
void segments_drop(struct segments *s, uint64_t begin, uint64_t end);
void segments_shift(struct segments *s, uint64_t begin, uint64_t end,
                    uint64_t shift);

/* All of them are to be sent anew. */
void segments_rewind(struct segments *s);

void segments_release(struct segments *s);

#endif
