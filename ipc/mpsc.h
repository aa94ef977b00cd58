/*
 * mpsc: a bounded channel from many processes to one, on a POSIX message queue.
 *
 * Senders sleep while it is full and are woken in order of arrival. Liveness is
 * told by two FIFOs of the channel's folder: every sender holds the write end
 * of `senders` (HUP there: the last one is gone, killed ones included), and the
 * receiver holds `receiver` open for writing (HUP at a sender's read end: no
 * receiver is left). See mq_overview(7), fifo(7).
 *
 * A receiver's descriptors may be inherited by a fork: each message goes to
 * exactly one of the processes that receive.
 */
#ifndef IPC_MPSC_H
#define IPC_MPSC_H

#include <mqueue.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/channel.h"
#include "ipc/err.h"

#define MPSC_CAPACITY 32
#define MPSC_MESSAGE_SIZE 8192

struct mpsc_config {
    long capacity; /* messages */
    long msgsize;  /* bytes of one message */
    /* Whether the user asked for this very number: then a kernel that refuses
     * it is an error, else what it allows is taken. */
    bool capacity_exact;
    bool msgsize_exact;
};

/* ---- the receiving side ---- */

struct mpsc_receiver {
    mqd_t mq;         /* O_NONBLOCK; pollable as a descriptor */
    int senders_fd;   /* read end; HUP once the last sender is gone */
    int receiver_fd;  /* held open so that senders see us */
    long capacity;    /* what the queue has, not what was asked for */
    size_t msgsize;
    uint64_t epoch;
    bool reused;      /* the queue was an earlier receiver's */
    char queue[CHANNEL_QUEUE_NAME_MAX];
};

/*
 * Makes the channel's queue, or takes over the one that an earlier receiver
 * left if its size fits (idle senders keep using it, and an unlinked queue
 * would stay charged to the user), then `receiver`, so that senders see us.
 * What an earlier epoch left in the queue is still there: its messages carry
 * the old epoch. Where there is no room for a queue it waits for some, up to
 * 1 s. `note` gets a line when less than the wish was granted, and
 * is empty otherwise. The caller holds the channel's lock.
 * ERR_INVALID: an exact wish was refused. ERR_LIMIT: the user's or the
 * namespace's budget of queues is used up. Each with a line and the remedy.
 */
MUST_CHECK enum err mpsc_create(struct mpsc_receiver *rx,
                                const struct channel *ch,
                                const struct mpsc_config *config,
                                uint64_t epoch, struct err_text *note,
                                struct err_text *why);

/* Joins the queue that a living receiver serves, as its successor: the same
 * queue, epoch, `senders` and `receiver`, so that senders notice nothing when
 * the other one leaves. ERR_ABSENT, ERR_SYS, with a line. */
MUST_CHECK enum err mpsc_inherit(struct mpsc_receiver *rx,
                                 const struct channel *ch,
                                 struct err_text *why);

/* Takes the oldest message without waiting. `size` must be rx->msgsize at
 * least. ERR_AGAIN: the queue is empty. */
MUST_CHECK enum err mpsc_receive(const struct mpsc_receiver *rx, char *buf,
                                 size_t size, size_t *len, unsigned *priority);

/* The same, but waits. ERR_CLOSED: there was a sender, the last one is gone
 * and the queue is empty. ERR_TIMEOUT: the deadline (0: none) passed. */
MUST_CHECK enum err mpsc_receive_wait(const struct mpsc_receiver *rx, char *buf,
                                      size_t size, uint64_t deadline_ns,
                                      size_t *len, unsigned *priority);

/* Whether there was a sender since mpsc_create, and none is left. Messages may
 * still be queued: drain after this, then it is closed. */
bool mpsc_senders_gone(const struct mpsc_receiver *rx);

/* Whether somebody holds a sender's end now. */
bool mpsc_senders_left(const struct mpsc_receiver *rx);

/* Messages queued now. -1 when it can't be told. */
long mpsc_depth(const struct mpsc_receiver *rx);

/* Whether the queue lost its name: somebody unlinked it under us. */
bool mpsc_unlinked(const struct mpsc_receiver *rx);

/* Closes the descriptors: senders see HUP once every holder has. The queue and
 * its messages stay. */
void mpsc_receiver_close(struct mpsc_receiver *rx);

/* Removes the queue's name. It lives on until the last holder closes it. */
void mpsc_unlink(const struct mpsc_receiver *rx);

/* ---- the sending side ---- */

struct mpsc_sender {
    mqd_t mq;        /* blocking */
    int senders_fd;  /* write end: announces us */
    int receiver_fd; /* HUP: the receiver is gone */
    size_t msgsize;
    uint64_t epoch;
};

/* Joins a channel as a sender. ERR_ABSENT: nobody receives on it (the line
 * says how to start somebody). ERR_DENIED, ERR_SYS: as the line says.
 * Descriptors are close-on-exec; a child of fork() that keeps them is a sender
 * itself. */
MUST_CHECK enum err mpsc_open(struct mpsc_sender *tx, const struct channel *ch,
                              struct err_text *why);

/* Sends, sleeping while the queue is full, until the deadline (0: none).
 * ERR_OK: queued. In all other cases it was not: ERR_TIMEOUT; ERR_CLOSED, the
 * receiver is gone; ERR_LIMIT, over msgsize; ERR_SYS. Safe from several
 * threads at once. Signals do not end the wait. */
MUST_CHECK enum err mpsc_send(const struct mpsc_sender *tx, const char *data,
                              size_t len, uint64_t deadline_ns);

/* Sends if that needs no sleep; else ERR_AGAIN. */
MUST_CHECK enum err mpsc_try_send(const struct mpsc_sender *tx,
                                  const char *data, size_t len);

/* Whether the receiver that mpsc_open met is still there. */
bool mpsc_receiver_alive(const struct mpsc_sender *tx);

/* Messages queued and the queue's capacity. ERR_SYS. */
MUST_CHECK enum err mpsc_sender_depth(const struct mpsc_sender *tx,
                                      long *depth, long *capacity);

void mpsc_sender_close(struct mpsc_sender *tx);

#endif
