/* Which lane a run goes by: see lanes.h. */
#ifndef MANAGER_LANE_CHOICE_H
#define MANAGER_LANE_CHOICE_H

#include <stdbool.h>
#include <stdint.h>

#include "manager/pipeline.h"

/* The lane of a run's request, chosen with its first run and counted with its
 * sender: who has something in flight stays there, so that its order holds. Of
 * a run of one command its hash is noted. `bulk`: there is another lane than
 * the small one. */
enum lane lane_choose(struct run *run, const struct sizes *sizes, bool bulk,
                      uint64_t now);

#endif
