/*
 * The control FIFO: the owner's words to a running manager, a line each.
 *
 *     pause | resume | drain | reload | kill-client PID | takeover PID
 *
 * Only the channel's owner (and root) can open it. A line that is none of
 * these is logged and dropped.
 */
#ifndef MANAGER_CONTROL_H
#define MANAGER_CONTROL_H

#include <stddef.h>
#include <sys/types.h>

#include "ipc/channel.h"
#include "ipc/err.h"
#include "manager/loop.h"

enum control_verb {
    CONTROL_PAUSE,
    CONTROL_RESUME,
    CONTROL_DRAIN,
    CONTROL_RELOAD,
    CONTROL_KILL_CLIENT,
    CONTROL_TAKEOVER
};

struct control {
    struct watcher watcher;
    int fd; /* -1: not open */
    size_t have;
    char line[128];
    void (*said)(void *context, enum control_verb verb, pid_t pid);
    void *context;
};

/* Makes the FIFO, in place of an earlier manager's, and listens. ERR_SYS. */
MUST_CHECK enum err
control_open(struct control *c, const struct channel *ch, struct loop *loop,
             void (*said)(void *context, enum control_verb verb, pid_t pid),
             void *context, struct err_text *why);
void control_close(struct control *c, struct loop *loop);

/* Says something to the manager that serves the channel. ERR_CLOSED,
 * ERR_ABSENT: nobody listens. */
MUST_CHECK enum err control_send(const struct channel *ch, const char *line);

#endif
