/* Many worker processes at once, each sending one command at a time through
 * libmqredis and checking every reply. */
#ifndef TOOLS_RUN_LOAD_H
#define TOOLS_RUN_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "ipc/err.h"
#include "ipc/histogram.h"
#include "tools/stage.h"

#define LOAD_WORKERS_MAX 512

struct load_options {
    const char *channel;
    unsigned workers;
    unsigned commands; /* of each */
};

struct load_result {
    uint64_t commands;
    uint64_t errors;       /* no reply, or not the one that was due */
    char first_error[256]; /* "" without one */
    double seconds;        /* from the start shot to the last worker's end */
    struct histogram times;
    unsigned failed; /* workers that ended badly */
};

/* Starts the workers, each with a clone of the launcher's sender, which is then
 * let go; shows progress on standard output; waits for all of them. ERR_AGAIN:
 * a signal came; ERR_SYS, with a line. No worker is left in either case. */
MUST_CHECK enum err load_run(const struct load_options *options,
                             struct stage_channel *channel,
                             struct load_result *result, struct err_text *why);

#endif
