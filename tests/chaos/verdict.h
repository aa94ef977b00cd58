/* Comparing what the workers were told with what Redis has. */
#ifndef TESTS_CHAOS_VERDICT_H
#define TESTS_CHAOS_VERDICT_H

#include "tests/chaos/world.h"

/* Reads everything that the workers wrote, on a connection of its own, and
 * accuses. All workers and managers have ended. */
void verdict_reach(struct world *w);

#endif
