/*
 * Notices that the wall clock was set back.
 *
 * Senders sleep in mq_timedsend(3), which counts on CLOCK_REALTIME: set back by
 * an hour, it lets whoever sleeps at that moment sleep for an hour longer, if
 * the queue stays full. Nothing but a free place in the queue wakes them; so
 * who receives from it has to know.
 */
#ifndef MANAGER_STEP_H
#define MANAGER_STEP_H

#include "ipc/err.h"
#include "manager/loop.h"

struct step {
    struct watcher watcher;
    int64_t offset_ns; /* CLOCK_REALTIME is ahead of CLOCK_MONOTONIC by it */
    void (*back)(void *owner, uint64_t ns);
    void *owner;
};

/* Calls `back` from the loop after each step back, with its length. ERR_SYS:
 * errno. */
MUST_CHECK enum err step_open(struct step *s, struct loop *loop,
                              void (*back)(void *owner, uint64_t ns),
                              void *owner);

/* Harmless if it was never opened and is all zero. */
void step_close(struct step *s, struct loop *loop);

#endif
