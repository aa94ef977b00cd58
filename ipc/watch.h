/*
 * watch: the latest value of something, in shared memory, from one writer to
 * many readers.
 *
 * The writer fills a slot that no reader is sent to and then publishes it by
 * moving `version` on: it never waits (wait-free), and one that is killed in
 * the middle of a write leaves the last good value. A reader copies the current
 * slot and takes the copy only if the writer has not come round to that slot
 * meanwhile. `version` is a futex word, so readers can sleep until it moves.
 */
#ifndef IPC_WATCH_H
#define IPC_WATCH_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"

#define WATCH_SLOTS 4
#define WATCH_VALUE_MAX 1024

/* Lies in memory shared between processes, zeroed before the first use. */
struct watch {
    _Atomic uint32_t version; /* 0: nothing was published yet */
    uint32_t reserved;
    _Atomic uint64_t slots[WATCH_SLOTS][WATCH_VALUE_MAX / 8];
};

_Static_assert(sizeof(struct watch) == 8 + WATCH_SLOTS * WATCH_VALUE_MAX,
               "layout of the watch cell");

/* Publishes a value of `len` bytes, at most WATCH_VALUE_MAX. One writer at a
 * time; never waits; wakes whoever sleeps in watch_wait. */
void watch_publish(struct watch *w, const void *value, size_t len);

/* Copies the latest value. *version (may be NULL) is for watch_wait. ERR_AGAIN:
 * nothing was published yet, or the memory is torn up so that no value can be
 * read (a hostile writer). */
MUST_CHECK enum err watch_read(const struct watch *w, void *value, size_t len,
                               uint32_t *version);

/* Sleeps until the version is another one than `seen`, or the deadline (0:
 * none). ERR_OK, ERR_TIMEOUT. A writer's death wakes nobody: whoever waits long
 * waits in slices and asks for the writer's life between them. */
MUST_CHECK enum err watch_wait(const struct watch *w, uint32_t seen,
                               uint64_t deadline_ns);

#endif
