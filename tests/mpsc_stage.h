/*
 * A channel of ipc/ with its receiver, which a test and its children share, and
 * what such children do.
 *
 * What can't be made fails the running test; a child ends with status 1.
 */
#ifndef TESTS_MPSC_STAGE_H
#define TESTS_MPSC_STAGE_H

#include <stdatomic.h>
#include <stdint.h>

#include "ipc/mpsc.h"

#define MSGSIZE 256
#define CHILDREN_MAX 16

struct note {
    uint32_t sender, sequence;
};

/* What a test and its children share. */
struct stage {
    struct channel ch;
    struct mpsc_receiver rx;
    _Atomic int ready, go;
    _Atomic uint32_t seen[8][512];
    _Atomic int64_t took_ms;
};

/* What one child is to do on it. */
struct part {
    struct stage *stage;
    uint32_t sender, count;
    enum err expect;
};

/* A channel without a receiver yet; with one of epoch 1. In shared memory. */
struct stage *stage_new(void);
struct stage *stage_started(void);

/* Creates the receiver: 32 messages of MSGSIZE. */
enum err stage_start(struct stage *s, uint64_t epoch);

/* Removes the channel, queue and all. */
void stage_end(struct stage *s);

/* Opens a sender. */
void stage_join(struct mpsc_sender *tx, const struct stage *s);

enum err stage_send(const struct mpsc_sender *tx, uint32_t sender,
                    uint32_t sequence);

/* The next message, waited for; ERR_PROTO: not one of stage_send's. */
enum err stage_receive(const struct mpsc_receiver *rx, struct note *n);

/* Sends until the queue is full. */
void stage_fill(const struct stage *s, const struct mpsc_sender *tx);

/* ---- children: support_fork(part_..., &part) ---- */

/* Joins, sends `count` messages, leaves. */
void part_send_all(void *arg);

/* Joins, sends, and stays until it is killed or told to go. */
void part_send_and_stay(void *arg);

/* Joins, sends one message, which is to end as expected. */
void part_send_one(void *arg);

/* The same, interrupted by a signal all the time. */
void part_send_one_under_signals(void *arg);

#endif
