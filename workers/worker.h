/* What the files of mqredis-worker share: the run, its output and its end. */
#ifndef WORKERS_WORKER_H
#define WORKERS_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/resp_print.h"
#include "workers/mqredis.h"
#include "workers/options.h"

#define EXIT_USAGE 64
#define EXIT_UNAVAILABLE 69
#define EXIT_EXPIRED 75
#define EXIT_UNKNOWN 76

/* Of what failed among many commands, so much is told line by line. */
#define FAILURES_SHOWN 10

struct worker {
    const struct options *options;
    struct mqredis *mq;
    enum resp_format format;
    int exit_code; /* the greatest so far */
    uint64_t replies;
    uint64_t errors;   /* error replies */
    uint64_t failures; /* commands without a reply */
    bool quiet;        /* replies are counted, not printed */
};

/* The exit code that belongs to a status; 0 for MQREDIS_OK. */
int exit_code_of(enum mqredis_status status);

/* "mqredis-worker: ..." on standard error, and the exit code is `code` at
 * least. */
void worker_say(struct worker *w, int code, const char *format, ...)
    PRINTF_LIKE(3, 4);

/* Counts and prints what came for one command, or for one batch: several
 * replies. `line` is where it stood on standard input; 0: nowhere. False: the
 * output is gone. Does not free `raw`. */
bool worker_take(struct worker *w, const struct mqredis_raw *raw,
                 uint64_t line);

/* Flushes standard output. False: it is gone, and that was said. */
bool worker_flush(struct worker *w);

/* ---- subscribe.c ---- */

/* Whether the command is (P|S)SUBSCRIBE. */
bool is_subscription(const struct options *o);

/* Prints what comes until a signal (status 0) or the stream's end. */
void subscribe_run(struct worker *w);

/* ---- batch.c ---- */

/* Commands from standard input, a line each, many in flight. */
void batch_run(struct worker *w);

/* ---- prompt.c ---- */

/* Commands typed at a terminal. */
void prompt_run(struct worker *w);

/* ---- line_plain.c, line_edit.c: one of them is linked ---- */

/* Whether lines are edited, with history and completion. */
extern const bool line_edits;

/* Reads a line, without its newline, into memory to be freed. NULL: the end. */
char *line_read(const char *prompt);

/* `names` are command names for completion; borrowed for good. */
void line_start(const char *const *names, size_t count);
void line_remember(const char *line);
void line_stop(void);

#endif
