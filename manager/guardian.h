/*
 * The guardian: a small process that the manager forks at its start and that
 * waits for its end. If the manager dies without having cleaned up, the
 * guardian takes its place for a moment: it marks the state as died, answers
 * every queued request `unavailable` (certainly not executed), which wakes the
 * senders that sleep on the full queue one after the other, removes what is to
 * be removed, and ends. It holds `receiver` and the lock together with the
 * manager, so that HUP at a worker means that nobody is left and that what was
 * queued has its answer.
 */
#ifndef MANAGER_GUARDIAN_H
#define MANAGER_GUARDIAN_H

#include <stdbool.h>
#include <sys/types.h>

#include "ipc/channel.h"
#include "ipc/mpsc.h"
#include "ipc/status.h"

struct guardian {
    pid_t pid; /* 0: none */
    int life;  /* write end of the pipe that it watches */
};

/* What the guardian takes over; borrowed, the child works on its copies. */
struct estate {
    struct channel *channel;
    struct mpsc_receiver *rx;
    struct status *status;
    struct manager_state *state;
    int lock_fd;
};

/* Forks the guardian. In the child this does not return. */
MUST_CHECK enum err guardian_start(struct guardian *g,
                                   const struct estate *estate);

/* Tells it that all is well, and waits for its end. */
void guardian_dismiss(struct guardian *g);

/* Receives until the queue is empty and answers every request `unavailable`
 * with the text, opening its pipe for that alone. Returns how many commands
 * were answered or given up. */
size_t last_words(const struct mpsc_receiver *rx, const struct channel *ch,
                  struct status *status, const char *text);

/* Removes what a channel without a manager does not need: dead reply pipes and
 * `receiver`; and all of it where no sender is left. */
void clean_up(const struct estate *estate);

#endif
