/* mqredis-worker's command line. */
#ifndef WORKERS_OPTIONS_H
#define WORKERS_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "ipc/err.h"

enum output_mode {
    OUTPUT_AUTO, /* for people on a terminal, raw elsewhere */
    OUTPUT_TTY,
    OUTPUT_RAW,
    OUTPUT_JSON
};

struct options {
    const char *channel; /* NULL: $MQREDIS_CHANNEL, else "default" */
    int64_t timeout_ms;  /* of one command; -1: none */
    int64_t spin_us;     /* awake so long for a reply; 0: not at all */
    int64_t wait_ms;     /* for a manager; 0: not at all */
    enum output_mode output;
    bool last_from_stdin; /* -x */
    bool pipe;
    bool help, version;
    int64_t repeat;       /* -1: for ever */
    uint64_t interval_ns; /* between repetitions */
    int argc;             /* the command; 0: commands come on stdin */
    char **argv;
};

/* Reads the command line; what is kept of it points into argv. ERR_INVALID with
 * a line that says what is wrong. */
MUST_CHECK enum err options_parse(struct options *o, int argc, char **argv,
                                  struct err_text *why);

/* What --help prints. */
extern const char options_help[];

#endif
