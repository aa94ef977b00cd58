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
#include "manager/guardian.h"
#include "manager/intake.h"
#include "manager/loop.h"
#include "manager/options.h"
#include "manager/readers.h"
#include "manager/routes.h"

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
    struct routes routes;
    struct intake intake;
    struct watcher queue_watcher, senders_watcher, signal_watcher;
    int signal_fd;
    bool queue_ready; /* messages are there */
    bool announced;   /* the ready line was printed */
    bool closing;     /* the senders are gone, --exit-when-closed */
    bool draining;    /* told to end */
    bool paused;
    bool hurry; /* told twice */
    bool done;
    uint64_t drain_until_ns;
    uint64_t housekeeping_ns; /* next */
    uint64_t sweep_ns;        /* next */
    struct log_limit retry_limit;
    char server[160];
    int exit_status;
};

/* Takes the channel and begins to connect. On failure a line, and everything
 * is as before. *exit_status is what the process is to end with then. */
MUST_CHECK enum err manager_start(struct manager *m, const struct options *o,
                                  int *exit_status, struct err_text *why);

/* Serves until it is told to end, or all senders are gone; cleans up. Returns
 * the exit status. */
int manager_run(struct manager *m);

#endif
