/*
 * A manager that says whatever a test wants: a channel with its queue and its
 * state, served by a thread of the test's own process.
 *
 * What can't be made fails the running test.
 */
#ifndef TESTS_LIAR_H
#define TESTS_LIAR_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "ipc/channel.h"
#include "ipc/message.h"
#include "ipc/mpsc.h"
#include "ipc/status.h"

#define LIE_CHUNKS 8
#define LIAR_HEARD 64

/* A chunk of an answer. */
struct lie_chunk {
    uint32_t first, count;
    uint8_t flags, status;
    const char *body; /* NULL: no chunk */
    bool others;      /* has the number of another request */
};

/* An answer: all of its chunks are written at once. */
struct lie {
    struct lie_chunk chunks[LIE_CHUNKS];
    bool give_up; /* afterwards the pipe loses its name */
    bool silent;  /* nothing at all is said, from then on */
};

struct liar {
    struct channel ch;
    struct mpsc_receiver rx;
    struct status *status;
    struct manager_state state; /* not published; its kind is 0 */
    pthread_t thread;
    _Atomic bool stop;
    _Atomic bool deaf;      /* takes nothing from now on */
    _Atomic uint32_t turns; /* of the thread's loop */
    _Atomic uint32_t asked; /* messages that came; heard, the last of them */
    struct message_header heard[LIAR_HEARD];
    /* The next answer, once; NULL: "+OK" for each command, and "confirmed" for
     * a subscription. */
    _Atomic(const struct lie *) lie;
};

/* A channel of its own; its queue takes 8 messages of 1024 bytes. */
void liar_start(struct liar *l);
void liar_stop(struct liar *l);

/* Ends as a manager that dies, with its channel left behind; and a new one on
 * the same channel. */
void liar_leave(struct liar *l);
void liar_return(struct liar *l);

/* Its next answer. */
void liar_says(struct liar *l, const struct lie *lie);

/* Takes nothing any more, so that its queue gets full. */
void liar_deafen(struct liar *l);

/* Becomes silent about what comes from now on. */
void liar_hush(struct liar *l);

/* Waits until so many messages came. */
void liar_hears(struct liar *l, uint32_t asked);

/* Says something now to message number `asked` (the first is 0), as the liar or
 * as the guardian of one that left. NULL: the truth. */
void liar_tells(struct liar *l, uint32_t asked, const struct lie *lie);

#endif
