/* mqredis-bench's command line. */
#ifndef TOOLS_BENCH_OPTIONS_H
#define TOOLS_BENCH_OPTIONS_H

#include "tools/bench/bench.h"

#define WORKER_COUNTS_MAX 16

struct options {
    bool suite;
    bool contestants[CONTESTANTS];
    unsigned workers[WORKER_COUNTS_MAX];
    unsigned worker_counts;
    struct load load; /* all but contestant and workers */
    unsigned rounds;
    unsigned short_runs;
    unsigned msgsize;
    double time_limit_s;
    const char *out;  /* folder for results; NULL: none */
    const char *json; /* file, "-": standard output; NULL: none */
};

/* -1: go on; else the exit status, a line was printed. */
int options_parse(struct options *o, int argc, char **argv);

#endif
