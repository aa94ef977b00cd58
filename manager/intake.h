/*
 * The intake: takes messages off the queue, trusts none of them, and sends
 * their commands on their way or answers them.
 */
#ifndef MANAGER_INTAKE_H
#define MANAGER_INTAKE_H

#include <stdint.h>

#include "ipc/mpsc.h"
#include "manager/answer.h"
#include "manager/policy.h"
#include "manager/readers.h"
#include "manager/routes.h"

struct intake {
    const struct mpsc_receiver *rx;
    struct readers *readers;
    struct answers *answers;
    struct routes *routes;
    const struct policy *policy;
    struct status *status;
    char *message; /* rx->msgsize bytes */
    uint64_t deepest;
};

/* Everything is borrowed. ERR_NOMEM. */
MUST_CHECK enum err intake_init(struct intake *in,
                                const struct mpsc_receiver *rx,
                                struct readers *readers,
                                struct answers *answers, struct routes *routes,
                                const struct policy *policy,
                                struct status *status);
void intake_release(struct intake *in);

/* Takes one message and deals with it. ERR_AGAIN: the queue is empty.
 * ERR_SYS: the queue can't be read. */
MUST_CHECK enum err intake_one(struct intake *in);

/* Notes how deep the queue is; called when it has become readable. */
void intake_note_depth(struct intake *in);

#endif
