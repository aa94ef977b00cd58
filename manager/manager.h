/*
 * The manager: one loop that takes commands off the channel's queue, pipelines
 * them to Redis and puts each reply into the pipe of whoever asked. This file
 * ties the parts together and decides when to take, and when to end.
 */
#ifndef MANAGER_MANAGER_H
#define MANAGER_MANAGER_H

#include <stdbool.h>
#include <stdint.h>

#include "ipc/channel.h"
#include "ipc/mpsc.h"
#include "ipc/status.h"
#include "manager/answer.h"
#include "manager/conn.h"
#include "manager/control.h"
#include "manager/guardian.h"
#include "manager/intake.h"
#include "manager/loop.h"
#include "manager/options.h"
#include "manager/pubsub.h"
#include "manager/readers.h"
#include "manager/routes.h"
#include "manager/sentinel.h"
#include "manager/step.h"
#include "manager/takeover.h"

struct manager {
    const struct options *options;
    struct channel channel;
    int lock_fd;
    struct mpsc_receiver rx;
    struct status *status;
    struct manager_state state;
    struct guardian guardian;
    struct loop loop;
    struct readers readers;
    struct answers answers;
    struct conn_options conn_options;
    struct conn_options sentinel_options; /* until the sentinel has them */
    struct sentinel *sentinel; /* NULL: the URI says where Redis is */
    bool moving;               /* connections are being sent to a new master */
    bool moved;                /* and have to be looked at at once */
    struct routes routes;
    struct sources sources;
    struct pubsub *pubsub;
    struct intake intake;
    struct control control;
    struct handover handover; /* to a successor */
    struct takeover takeover; /* from a predecessor */
    struct step step;         /* of the wall clock */
    struct watcher queue_watcher, senders_watcher, signal_watcher;
    int signal_fd;
    bool queue_ready; /* messages are there */
    bool announced;   /* the ready line was printed */
    bool closing;     /* the senders are gone, --exit-when-closed */
    bool draining;    /* told to end */
    bool paused;
    bool hurry; /* told twice */
    bool done;
    bool again; /* the predecessor died in the middle: start afresh */
    uint64_t drain_until_ns;
    uint64_t housekeeping_ns;    /* next */
    uint64_t sweep_ns;           /* next */
    bool sweeping;               /* and one is under way */
    uint64_t watchdog_period_ns; /* 0: systemd does not watch */
    uint64_t watchdog_ns;        /* next */
    struct capture learn;        /* the server's COMMAND */
    bool learning;               /* it was asked for */
    enum conn_mode mode;         /* of the server, as it was last told */
    struct log_limit retry_limit;
    struct err_text retry_error; /* of an attempt to connect, told last */
    char server[160];
    int exit_status;
};

/* Takes the channel and begins to connect; with --takeover, and if another
 * manager serves it, only connects at first. On failure a line, and everything
 * is as before. *exit_status is what the process is to end with then. */
MUST_CHECK enum err manager_start(struct manager *m, const struct options *o,
                                  int *exit_status, struct err_text *why);

/* Serves until it is told to end, or all senders are gone; cleans up. Returns
 * the exit status. With *again the manager that was to be replaced died in the
 * middle of it: manager_start is to be called once more. */
int manager_run(struct manager *m, bool *again);

/* ---- between setup.c, manager.c and succession.c ---- */

/* What the guardian, or a cleaning up, works on. */
static inline struct estate manager_estate(struct manager *m)
{
    return (struct estate){&m->channel, &m->rx, m->status, &m->state,
                           m->lock_fd};
}

/* Shows the state, listens to the owner, starts the guardian: the lock is
 * ours. */
MUST_CHECK enum err manager_own(struct manager *m, struct err_text *why);

void manager_release(struct manager *m);
void manager_publish(struct manager *m);

/* Names the Redis that the options point to, for people. */
void manager_name_server(struct manager *m);

/* Prints the one line that a launcher waits for. */
void manager_announce(struct manager *m);

/* Told that it has a successor. */
void manager_hand_over(struct manager *m, pid_t successor);

/* The channel is the successor's from now on. */
void manager_let_go(struct manager *m);

/* The old one's steps, and the new one's; see takeover.h. When to be called
 * again; 0: nothing is under way. */
uint64_t manager_tick_handover(struct manager *m, uint64_t now);
uint64_t manager_tick_takeover(struct manager *m, uint64_t now);

/* Handlers: the first is the manager. */
void manager_connection_changed(void *context, struct conn *c);
void manager_moved(void *context, const struct uri_place *to,
                   const struct uri_place *by);
void manager_queue_ready(void *owner, uint32_t events);
void manager_make_room(void *context); /* between answers, see answer.h */
void manager_senders_changed(void *owner, uint32_t events);
void manager_signal_ready(void *owner, uint32_t events);
void manager_clock_back(void *owner, uint64_t ns);
void manager_said(void *context, enum control_verb verb, pid_t pid);

#endif
