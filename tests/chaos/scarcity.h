/*
 * Too little of something, for a while: no room on the disk of the channel's
 * folder, few descriptors, little memory.
 *
 * The folder lies on a small file system of its own, in a mount namespace that
 * nobody else sees. Where that is forbidden the disk is never full.
 */
#ifndef TESTS_CHAOS_SCARCITY_H
#define TESTS_CHAOS_SCARCITY_H

#include <stdbool.h>

#include "tests/chaos/world.h"

/* Once in the life of this process: mounts made from now on are its own. False,
 * and it says so on a line: not allowed here. */
bool scarcity_may_mount(void);

/* A file system of so many bytes and names at `dir`, and its end. */
bool scarcity_mount(const char *dir, unsigned long megabytes, unsigned names);
void scarcity_unmount(const char *dir);

/* Fills the disk, with bytes or with names. False: it can't be. */
bool scarcity_fill(struct world *w, int ms);

/* What the process has open or mapped now, and hardly more. */
bool scarcity_limit(struct world *w, struct player *p, bool descriptors,
                    int ms);

/* Ends what is due to end. */
void scarcity_tend(struct world *w);

#endif
