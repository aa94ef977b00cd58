/*
 * Takeover: one manager replaces another and no request fails.
 *
 *     the new one                          the old one
 *     joins queue, senders, receiver
 *     connects to Redis, is ready
 *     "takeover PID" on control  ------->  stops taking
 *     tries for the lock                   answers what waits for Redis
 *                                          state: closed; lets the lock go
 *     has the lock: takes      <-------
 *                                          sees the lock taken; dismisses its
 *                                          guardian; answers what blocks on
 *                                          dedicated connections; ends
 *
 * Senders sleep on the queue meanwhile, if at all. Whoever is killed: before
 * the lock changes hands the old one's death is as any manager's (its guardian
 * answers, the new one then starts afresh: a lock without "closed"), and the
 * new one's death makes the old one go on. A manager names its successor by
 * pid, so both must live in one pid namespace.
 */
#ifndef MANAGER_TAKEOVER_H
#define MANAGER_TAKEOVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "ipc/channel.h"
#include "ipc/err.h"
#include "ipc/status.h"

/* ---- the old one ---- */

enum handover_step {
    HANDOVER_NONE,
    HANDOVER_ANSWERING, /* what waits for Redis on shared connections */
    HANDOVER_UNLOCKED,  /* until the successor has the lock */
    HANDOVER_DONE       /* the channel is another's */
};

struct handover {
    enum handover_step step;
    pid_t successor;
    int pidfd; /* readable once the successor is dead */
    uint64_t until_ns;
};

/* Begins. ERR_BUSY: one is under way. ERR_ABSENT: no such process. */
MUST_CHECK enum err handover_begin(struct handover *h, pid_t successor,
                                   uint64_t until_ns);

/* Whether the successor died. */
bool handover_forsaken(const struct handover *h);

/* Lets the lock go: the successor may take over. */
void handover_unlock(struct handover *h, int lock_fd);

/* Whether the successor has taken it. Needs no descriptor. */
bool handover_taken(int lock_fd);

/* Takes the lock back from a successor that died before it had it. False: it
 * is somebody else's by now. */
bool handover_relock(struct handover *h, int lock_fd);

void handover_end(struct handover *h, enum handover_step step);

/* ---- the new one ---- */

enum takeover_step {
    TAKEOVER_NONE,
    TAKEOVER_CONNECTING,
    TAKEOVER_WAITING /* for the lock */
};

struct takeover {
    enum takeover_step step;
    pid_t old; /* as it stood in the lock; 0: it could not be read */
    uint64_t until_ns;
};

/* Begins: `old` has the lock; until then the connection to Redis must be there.
 */
void takeover_begin(struct takeover *t, pid_t old, uint64_t until_ns);

/* Tells the old one. */
MUST_CHECK enum err takeover_ask(struct takeover *t, const struct channel *ch,
                                 uint64_t until_ns, struct err_text *why);

/* Tries for the lock. ERR_OK: it is ours, and the status that is shown, that of
 * the last one to serve, says that it drained. ERR_AGAIN:
 * not yet. ERR_BUSY: never, *holder came first. ERR_CLOSED: ours, but the old
 * one died: start afresh. */
MUST_CHECK enum err takeover_try(const struct takeover *t,
                                 const struct channel *ch, int *lock_fd,
                                 pid_t *holder);

void takeover_end(struct takeover *t);

#endif
