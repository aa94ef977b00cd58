/*
 * oneshot: a reply pipe, a FIFO that its requester made and named in the
 * request. One writer, one reader, one reply at a time.
 *
 * The requester's side keeps a pool. A slot (a FIFO) serves one request; only
 * when that one's reply was read whole may it serve another. One that was
 * abandoned (deadline, cancel, a broken reply) is closed and its name removed
 * and never used again, so a late reply has nowhere to go: this is what makes
 * a crossed reply impossible.
 *
 * Names are CLIENT-SLOT: a random 64-bit client id, a capability that is never
 * shown, and a number that only grows. A FIFO is made under a temporary name,
 * opened by the requester, then renamed: one that is found under its name
 * without a reader belongs to nobody alive.
 */
#ifndef IPC_ONESHOT_H
#define IPC_ONESHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "ipc/channel.h"
#include "ipc/err.h"
#include "ipc/message.h"
#include "ipc/payload.h"

/* ---- the requester ---- */

struct oneshot {
    int fd; /* O_RDWR | O_NONBLOCK: EOF is never a verdict, see below */
    uint64_t slot;
    struct payload payload; /* for large arguments; see oneshot_payload */
};

#define ONESHOT_IDLE_MAX 64

/* Idle slots of one client. Not locked: the owner does that. */
struct oneshot_pool {
    int reply_fd;   /* borrowed: the channel's reply folder */
    int payload_fd; /* its payload folder, opened when needed; -1 */
    bool foreign; /* the channel is another user's, who must be able to write */
    uint64_t client;
    uint64_t next_slot;
    size_t idle_count;
    struct oneshot idle[ONESHOT_IDLE_MAX];
};

/* `foreign`: the channel's owner is not the caller. `client` is random and not
 * 0. Nothing is made yet. */
void oneshot_pool_init(struct oneshot_pool *pool, int reply_fd, bool foreign,
                       uint64_t client);

/* Takes an idle slot, or makes one. ERR_SYS (errno: EMFILE, ENOSPC...). */
MUST_CHECK enum err oneshot_acquire(struct oneshot_pool *pool,
                                    struct oneshot *slot);

/* Makes sure that the slot has a payload file. ERR_ABSENT: the manager takes
 * none. ERR_SYS. */
MUST_CHECK enum err oneshot_payload(struct oneshot_pool *pool,
                                    const struct channel *ch,
                                    struct oneshot *slot);

/* Gives a slot back whose reply (END included) was read whole, or which was
 * never named in a message that was sent. */
void oneshot_release(struct oneshot_pool *pool, struct oneshot *slot);

/* Throws a slot away, name and all. Its reply, if any, will be discarded. */
void oneshot_abandon(struct oneshot_pool *pool, struct oneshot *slot);

/* Removes all idle slots. A pool is as oneshot_pool_init left it then. */
void oneshot_pool_close(struct oneshot_pool *pool);

/* For a child of fork(): closes a slot of the parent's and leaves the names,
 * which are the parent's. */
void oneshot_disown(struct oneshot *slot);

/* The same for the parent's idle slots, and what the pool has open. */
void oneshot_pool_disown(struct oneshot_pool *pool);

/* ---- the answerer ---- */

#define ONESHOT_NAME_MAX 40

/* The name of a slot within the reply folder. */
void oneshot_name(char name[ONESHOT_NAME_MAX], uint64_t client, uint64_t slot);

/* Opens a requester's pipe for writing, without waiting. ERR_CLOSED: nobody
 * is there (any more). ERR_DENIED: what is there is no FIFO with one link.
 * ERR_LIMIT: out of descriptors. ERR_SYS. */
MUST_CHECK enum err oneshot_open(int reply_fd, uint64_t client, uint64_t slot,
                                 int *fd);

/* Writes a chunk of `len` bytes if the pipe takes all of it at once.
 * *written counts header and body. ERR_OK: all. ERR_AGAIN: *written bytes of
 * them went, the pipe is full. ERR_CLOSED: the requester is gone (SIGPIPE must
 * be ignored). */
MUST_CHECK enum err oneshot_write(int fd, const struct reply_chunk *chunk,
                                  const char *body, size_t *written);

/* Answers a whole message with one line of text, keeping nothing: for who has
 * no memory to keep it in, or is about to end. False: nobody reads it. */
bool oneshot_tell(int reply_fd, const struct message_header *h,
                  enum reply_status status, const char *text);

/* Removes the name of a dead slot. */
void oneshot_unlink(int reply_fd, uint64_t client, uint64_t slot);

/* Removes what dead requesters left in the folder: FIFOs that nobody reads,
 * temporary ones after some seconds, and whatever is no FIFO. *removed may be
 * NULL. ERR_SYS: the folder could not be read. */
MUST_CHECK enum err oneshot_sweep(int reply_fd, size_t *removed);

/* The judge of one entry, for a sweep in steps; see sweep.h. */
bool oneshot_is_leftover(int reply_fd, const char *name, int unused);

#endif
