/* Which runs are made, and in what order. */
#ifndef TOOLS_BENCH_SUITE_H
#define TOOLS_BENCH_SUITE_H

#include "tools/bench/bench.h"
#include "tools/bench/options.h"

/* Runs the table that the options describe, or the whole suite. What was
 * measured before an error is kept. ERR_AGAIN: a signal came. */
MUST_CHECK enum err suite_run(struct parties *p, const struct options *o,
                              struct results *r, struct err_text *why);

void results_release(struct results *r);

#endif
