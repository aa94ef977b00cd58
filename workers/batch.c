/*
 * Commands from standard input. They are sent as fast as they come, many in
 * flight, and their replies printed in order. Before it would sleep for more
 * input, everything asked is answered: whoever talks to it through two pipes
 * gets each reply without sending more.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "workers/input.h"
#include "workers/worker.h"

/* Commands without an answer yet. */
#define IN_FLIGHT 8192

#define PROGRESS_FIRST_NS NS_PER_S
#define PROGRESS_EVERY_NS (250 * NS_PER_MS)

struct batch {
    struct worker *w;
    struct input in;
    struct {
        struct mqredis_request *request;
        uint64_t line;
    } ring[IN_FLIGHT];
    size_t first, count;
    struct mqredis_batch *transaction; /* MULTI came, EXEC did not yet */
    uint64_t transaction_line;
    const char **argv;
    size_t *len;
    size_t args_cap;
    bool broken; /* the output is gone, or memory */
    bool progress;
    uint64_t started_ns, shown_ns;
};

/* ---- progress, for whoever watches ---- */

static void show_progress(struct batch *b, bool last)
{
    if (!b->progress)
        return;
    uint64_t now = clock_ns();
    if (last ? b->shown_ns == 0 : now < b->shown_ns + PROGRESS_EVERY_NS)
        return;
    if (!last && now < b->started_ns + PROGRESS_FIRST_NS)
        return;
    const struct worker *w = b->w;
    double s = (double)(now - b->started_ns) / 1e9;
    double rate = s > 0 ? (double)w->replies / s : 0;
    fprintf(stderr,
            "\r%" PRIu64 " commands, %" PRIu64 " replies, %" PRIu64
            " errors, %.0f/s  %s",
            b->in.number, w->replies, w->errors + w->failures, rate,
            last ? "\n" : "");
    b->shown_ns = now;
}

/* ---- replies ---- */

static void collect_one(struct batch *b)
{
    struct mqredis_raw *raw = mqredis_wait_raw(b->ring[b->first].request);
    uint64_t line = b->ring[b->first].line;
    b->first = (b->first + 1) % IN_FLIGHT;
    b->count--;
    if (!b->broken && !worker_take(b->w, raw, line))
        b->broken = true;
    mqredis_raw_free(raw);
}

static void collect_all(struct batch *b)
{
    while (b->count > 0)
        collect_one(b);
    if (!b->broken && !worker_flush(b->w))
        b->broken = true;
}

static void add_pending(struct batch *b, struct mqredis_request *request,
                        uint64_t line)
{
    if (b->count == IN_FLIGHT)
        collect_one(b);
    size_t at = (b->first + b->count) % IN_FLIGHT;
    b->ring[at].request = request;
    b->ring[at].line = line;
    b->count++;
}

/* ---- commands ---- */

static bool is_word(const struct resp_arg *arg, const char *word)
{
    return arg->len == strlen(word) &&
           strncasecmp(arg->data, word, arg->len) == 0;
}

/* From views to the library's two arrays. */
static bool list_args(struct batch *b, size_t argc)
{
    if (argc > b->args_cap) {
        size_t cap = b->in.args_cap;
        const char **argv = realloc(b->argv, cap * sizeof(*argv));
        if (argv != NULL)
            b->argv = argv;
        size_t *len = realloc(b->len, cap * sizeof(*len));
        if (len != NULL)
            b->len = len;
        if (argv == NULL || len == NULL)
            return false;
        b->args_cap = cap;
    }
    for (size_t i = 0; i < argc; i++) {
        b->argv[i] = b->in.args[i].data;
        b->len[i] = b->in.args[i].len;
    }
    return true;
}

static void submit(struct batch *b, size_t argc)
{
    const struct resp_arg *name = &b->in.args[0];
    /* On a shared connection a transaction must travel in one piece. */
    bool begins = b->transaction == NULL && argc == 1 && is_word(name, "MULTI");
    if (begins) {
        b->transaction = mqredis_batch_new(b->w->mq);
        b->transaction_line = b->in.number;
    }
    /* Nor may what follows a MULTI go on its way without it. */
    if (!list_args(b, argc) || (begins && b->transaction == NULL)) {
        worker_say(b->w, EXIT_UNAVAILABLE,
                   "line %" PRIu64 ": out of memory: it and all behind it were "
                   "not executed",
                   b->in.number);
        b->broken = true;
        return;
    }
    if (b->transaction == NULL) {
        add_pending(b, mqredis_submit_argv(b->w->mq, argc, b->argv, b->len),
                    b->in.number);
        return;
    }
    mqredis_batch_add_argv(b->transaction, argc, b->argv, b->len);
    if (is_word(name, "EXEC") || is_word(name, "DISCARD")) {
        struct mqredis_batch *whole = b->transaction;
        b->transaction = NULL;
        add_pending(b, mqredis_batch_submit(whole), b->transaction_line);
    }
}

/* Says what is wrong with the input; whether it can go on. */
static bool bad_input(struct batch *b, enum err e)
{
    unsigned long long line = b->in.number;
    b->w->failures++;
    if (e == ERR_INVALID) {
        worker_say(b->w, 1, "line %llu: quotes do not close: not executed",
                   line);
        return true;
    }
    if (e == ERR_PROTO)
        worker_say(b->w, 1,
                   "command %llu on standard input is not whole and canonical "
                   "RESP: it and all behind it were not executed",
                   line);
    else if (e == ERR_LIMIT)
        worker_say(b->w, 1, "line %llu: too long: not executed", line + 1);
    else if (e == ERR_NOMEM)
        worker_say(b->w, EXIT_UNAVAILABLE, "out of memory");
    else
        worker_say(b->w, 1, "cannot read standard input: %s", strerror(errno));
    return false;
}

static void read_commands(struct batch *b)
{
    while (!b->broken) {
        size_t argc = 0;
        enum err e = input_next(&b->in, b->w->options->pipe, &argc);
        if (e == ERR_CLOSED)
            return;
        if (e == ERR_AGAIN) {
            show_progress(b, false);
            if (!input_ready(&b->in))
                collect_all(b);
            e = input_fill(&b->in);
        } else if (e == ERR_OK && argc > 0) {
            submit(b, argc);
        }
        if (e != ERR_OK && !bad_input(b, e))
            return;
    }
}

void batch_run(struct worker *w)
{
    struct batch *b = calloc(1, sizeof(*b));
    if (b == NULL) {
        worker_say(w, EXIT_UNAVAILABLE, "out of memory");
        return;
    }
    b->w = w;
    b->started_ns = clock_ns();
    b->progress = isatty(STDERR_FILENO) && (w->quiet || !isatty(STDOUT_FILENO));
    input_init(&b->in, STDIN_FILENO);
    read_commands(b);
    collect_all(b);
    if (b->transaction != NULL) {
        worker_say(w, 1, "line %" PRIu64 ": MULTI without EXEC: not executed",
                   b->transaction_line);
        w->failures++;
        mqredis_batch_free(b->transaction);
    }
    show_progress(b, true);
    if (w->quiet)
        printf("errors: %" PRIu64 ", replies: %" PRIu64 "\n",
               w->errors + w->failures, w->replies);
    input_release(&b->in);
    free(b->argv);
    free(b->len);
    free(b);
}
