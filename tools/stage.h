/*
 * What the launcher and the benchmark set up around their workers: a runtime
 * folder, a server, a manager; and the look at what is left of them.
 */
#ifndef TOOLS_STAGE_H
#define TOOLS_STAGE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/channel.h"
#include "ipc/err.h"
#include "ipc/mpsc.h"
#include "ipc/status.h"
#include "tools/process.h"

/* How long a program may take to say that it is ready. */
#define STAGE_START_MS 10000

/* ---- the runtime folder ---- */

/* Makes one of our own and points $MQREDIS_DIR at it: in /dev/shm, where the
 * channels of a user live by default, else in $TMPDIR. ERR_SYS with a line. */
MUST_CHECK enum err stage_folder_make(char dir[PATH_MAX], const char *tool,
                                      struct err_text *why);

/* What lies in a folder and below. */
struct stage_left {
    unsigned fifos;
    unsigned files; /* shared memory: the folder is in /dev/shm */
    unsigned folders;
};

/* Counts what is there and removes it, with the folder itself. */
struct stage_left stage_folder_remove(const char *dir);

/* ---- programs ---- */

/* Starts the embedded server on a free port; uri is where it is then. Its line
 * that it is ready goes to `ready`. */
MUST_CHECK enum err stage_server(struct process *p, char *uri, size_t size,
                                 char *ready, size_t ready_size,
                                 struct err_text *why);

/* Starts a manager and waits until it is connected. `extra` are further
 * arguments, NULL at their end; may be NULL. */
MUST_CHECK enum err stage_manager(struct process *p, const char *channel,
                                  const char *uri, const char *const *extra,
                                  char *ready, size_t ready_size,
                                  struct err_text *why);

/* ---- a channel as its launcher sees it ---- */

/* A sender of our own, which keeps the channel open, and a view of the
 * manager's figures, which outlives the manager. */
struct stage_channel {
    struct channel ch;
    struct mpsc_sender tx;
    bool holds;
    const struct status *status; /* NULL: not to be had */
    char queue[CHANNEL_QUEUE_NAME_MAX];
};

MUST_CHECK enum err stage_join(struct stage_channel *c, const char *name,
                               struct err_text *why);

/* Lets the sender go: the channel is closed once nobody else holds one. */
void stage_let_go(struct stage_channel *c);

/* Whether the channel's queue still has a name. */
bool stage_queue_left(const struct stage_channel *c);

/* Frees everything. Harmless on a zeroed one. */
void stage_release(struct stage_channel *c);

#endif
