/*
 * Removing what dead requesters left in a folder that many may write to, some
 * entries at a time: how many there are is up to others, and whoever sweeps has
 * other things to do.
 */
#ifndef IPC_SWEEP_H
#define IPC_SWEEP_H

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>

#include "ipc/err.h"

/* Whether the entry `name` of `folder` belongs to nobody alive. */
typedef bool sweep_judge(int folder, const char *name, int reply_fd);

struct sweep {
    DIR *dir; /* NULL: none is under way */
    int folder, reply_fd;
    sweep_judge *leftover;
};

/* Begins with the first entry. `folder` (O_PATH will do) and `reply_fd`, which
 * is the judge's, are borrowed until the end. ERR_SYS: it can't be read. */
MUST_CHECK enum err sweep_begin(struct sweep *s, int folder, int reply_fd,
                                sweep_judge *leftover);

/* Looks at up to `most` entries; *seen and *removed are added to. Folders go
 * if they are empty. Returns whether there may be more. */
bool sweep_step(struct sweep *s, size_t most, size_t *seen, size_t *removed);

/* Ends early. Harmless when none is under way. */
void sweep_end(struct sweep *s);

/* From the first to the last. *removed may be NULL. */
MUST_CHECK enum err sweep_whole(int folder, int reply_fd, sweep_judge *leftover,
                                size_t *removed);

#endif
