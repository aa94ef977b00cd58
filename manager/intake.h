/*
 * The intake: takes messages off the queue, trusts none of them, and sends
 * their commands on their way or answers them.
 */
#ifndef MANAGER_INTAKE_H
#define MANAGER_INTAKE_H

#include <stdint.h>

#include "ipc/mpsc.h"
#include "manager/answer.h"
#include "manager/buffer.h"
#include "manager/policy.h"
#include "manager/readers.h"
#include "manager/routes.h"
#include "manager/segments.h"

struct intake {
    const struct mpsc_receiver *rx;
    struct readers *readers;
    struct answers *answers;
    struct routes *routes;
    const struct policy *policy;
    struct status *status;
    struct sources *sources;
    uint64_t max_request;   /* bytes of one message's commands */
    char *message;          /* rx->msgsize bytes */
    struct parsed *parsed; /* the first commands of the message at hand */
    /* Of the message at hand, if it has a payload file. */
    struct source *source;
    int64_t blob_offset;   /* in that file, of the next large argument */
    struct buffer body;    /* commands that came by the file */
    struct buffer framing; /* a run whose large arguments are taken out */
    struct blob *blobs;
    uint32_t nblobs, blobs_size;
    uint64_t deepest;
};

/* Everything is borrowed. ERR_NOMEM. */
MUST_CHECK enum err intake_init(
    struct intake *in, const struct mpsc_receiver *rx, struct readers *readers,
    struct answers *answers, struct routes *routes, const struct policy *policy,
    struct sources *sources, uint64_t max_request, struct status *status);
void intake_release(struct intake *in);

/* Takes one message and deals with it. ERR_AGAIN: the queue is empty.
 * ERR_SYS: the queue can't be read. */
MUST_CHECK enum err intake_one(struct intake *in);

/* Notes how deep the queue was; called when `taken` messages were taken from it
 * since it has become readable. */
void intake_note_depth(struct intake *in, int taken);

#endif
