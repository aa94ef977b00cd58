/*
 * A worker is a forked child with a handle of its own. It writes what it saw
 * into its row of a shared mapping, of which the launcher reads the progress.
 * All start at one shot: a pipe that the launcher closes once all are ready.
 */
#include "tools/run/load.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "workers/mqredis.h"

/* A worker that has met so many errors gives up. */
#define ERRORS_MAX 10

/* A load that stands still for so long is given up. */
#define STALL_MS 60000

struct row {
    _Atomic bool ready;
    _Atomic uint64_t done;
    _Atomic uint64_t errors;
    char first_error[256]; /* written before `errors` becomes 1 */
    struct histogram times;
};

struct load {
    const struct load_options *options;
    struct row *rows;
    struct process *workers;
    int shot[2]; /* nobody writes: its end is the signal to start */
    pid_t launcher;
};

struct worker_arg {
    struct load *load;
    unsigned number;
};

/* ---- a worker ---- */

static void note_error(struct row *row, const char *what,
                       const struct mqredis_reply *r)
{
    if (counter_get(&row->errors) == 0)
        snprintf(row->first_error, sizeof(row->first_error), "%s: %s", what,
                 r->str != NULL ? r->str : "another reply than was due");
    /* Release: pairs with the acquire in sum_up. */
    atomic_fetch_add_explicit(&row->errors, 1, memory_order_release);
}

static bool reply_is(const struct mqredis_reply *r, enum mqredis_type type,
                     const char *text)
{
    return r->status == MQREDIS_OK && r->type == type && r->str != NULL &&
           strcmp(r->str, text) == 0;
}

/* Command i of a worker: SET, GET of what was set, and at last DEL. The key
 * expires by itself if we are stopped in between. */
static void one_command(struct mqredis *mq, struct row *row, const char *key,
                        unsigned i, unsigned count)
{
    char value[32];
    bool ok;
    const char *what;
    struct mqredis_reply *r;
    snprintf(value, sizeof(value), "value-%u", i / 2);
    uint64_t start = clock_ns();
    if (i + 1 == count) {
        what = "DEL";
        r = mqredis_command(mq, "DEL %s", key);
        ok = r->type == MQREDIS_INTEGER;
    } else if (i % 2 == 0) {
        what = "SET";
        r = mqredis_command(mq, "SET %s %s EX 60", key, value);
        ok = reply_is(r, MQREDIS_STATUS, "OK");
    } else {
        what = "GET";
        r = mqredis_command(mq, "GET %s", key);
        ok = reply_is(r, MQREDIS_STRING, value);
    }
    histogram_add(&row->times, clock_ns() - start);
    if (!ok)
        note_error(row, what, r);
    mqredis_free(r);
    counter_add(&row->done, 1);
}

static int work(void *arg)
{
    const struct worker_arg *w = arg;
    struct row *row = &w->load->rows[w->number];
    unsigned count = w->load->options->commands;
    struct mqredis_error error;
    char key[64], byte;
    struct mqredis *mq = mqredis_open(w->load->options->channel, &error);
    if (mq == NULL) {
        fprintf(stderr, "mqredis-run: worker %u: %s\n", w->number, error.text);
        return 69;
    }
    snprintf(key, sizeof(key), "mqredis-run:%d:%u", (int)w->load->launcher,
             w->number);
    close(w->load->shot[1]);
    atomic_store_explicit(&row->ready, true, memory_order_release);
    while (read(w->load->shot[0], &byte, 1) < 0 && errno == EINTR)
        ;
    for (unsigned i = 0; i < count && counter_get(&row->errors) < ERRORS_MAX;
         i++)
        one_command(mq, row, key, i, count);
    mqredis_close(mq);
    return atomic_load(&row->errors) == 0 ? 0 : 1;
}

/* ---- the launcher ---- */

static uint64_t total_done(const struct load *l)
{
    uint64_t done = 0;
    for (unsigned i = 0; i < l->options->workers; i++)
        done += counter_get(&l->rows[i].done);
    return done;
}

static unsigned workers_ready(const struct load *l)
{
    unsigned n = 0;
    for (unsigned i = 0; i < l->options->workers; i++)
        n += atomic_load_explicit(&l->rows[i].ready, memory_order_acquire) ||
             l->workers[i].ended;
    return n;
}

/* Collects workers that have ended. How many there are by now. */
static unsigned workers_ended(struct load *l)
{
    unsigned n = 0;
    for (unsigned i = 0; i < l->options->workers; i++)
        n += process_ended(&l->workers[i]);
    return n;
}

/* A line that is written over on a terminal; elsewhere a line for each quarter,
 * so that a log stays short. */
struct progress {
    bool terminal;
    unsigned quarter;  /* shown already */
    uint64_t shown_ns; /* when, on a terminal */
};

#define PROGRESS_NS (100 * NS_PER_MS)

static void show_progress(struct progress *p, const struct load *l,
                          uint64_t start_ns, bool last)
{
    uint64_t total = (uint64_t)l->options->workers * l->options->commands;
    uint64_t done = total_done(l);
    uint64_t now = clock_ns();
    double seconds = (double)(now - start_ns) / (double)NS_PER_S;
    assert(total > 0); /* both are options, from 1 */
    unsigned quarter = (unsigned)(done * 4 / total);
    if (p->terminal ? !last && now - p->shown_ns < PROGRESS_NS
                    : quarter == p->quarter)
        return;
    p->quarter = quarter;
    p->shown_ns = now;
    printf("%s%u workers: %llu of %llu commands, %.0f per second%s",
           p->terminal ? "\r" : "", l->options->workers,
           (unsigned long long)done, (unsigned long long)total,
           seconds > 0 ? (double)done / seconds : 0.0,
           p->terminal ? (last ? "  \n" : "  ") : "\n");
    fflush(stdout);
}

static enum err start_workers(struct load *l, struct worker_arg *args,
                              int sender_fd, struct err_text *why)
{
    for (unsigned i = 0; i < l->options->workers; i++) {
        args[i] = (struct worker_arg){.load = l, .number = i};
        enum err e = process_start(&l->workers[i],
                                   &(struct process_spec){.name = "worker",
                                                          .run = work,
                                                          .arg = &args[i],
                                                          .inherit = sender_fd},
                                   why);
        if (e != ERR_OK)
            return e;
    }
    uint64_t deadline = clock_deadline(STAGE_START_MS);
    while (workers_ready(l) < l->options->workers) {
        if (process_pause(2) == ERR_AGAIN)
            return err_say(why, ERR_AGAIN, "interrupted");
        if (clock_ns() > deadline)
            return err_say(why, ERR_TIMEOUT,
                           "workers were not ready within %d s",
                           STAGE_START_MS / 1000);
        workers_ended(l);
    }
    return ERR_OK;
}

static enum err watch_workers(struct load *l, struct load_result *result,
                              struct err_text *why)
{
    struct progress progress = {.terminal = isatty(STDOUT_FILENO) == 1};
    uint64_t start = clock_ns(), moved = start, seen = 0;
    while (workers_ended(l) < l->options->workers) {
        if (process_pause(20) == ERR_AGAIN)
            return err_say(why, ERR_AGAIN, "%sinterrupted",
                           progress.terminal ? "\n" : "");
        show_progress(&progress, l, start, false);
        if (total_done(l) != seen) {
            seen = total_done(l);
            moved = clock_ns();
        } else if (clock_ns() - moved > STALL_MS * NS_PER_MS) {
            return err_say(why, ERR_TIMEOUT, "no reply for %d s: given up",
                           STALL_MS / 1000);
        }
    }
    result->seconds = (double)(clock_ns() - start) / (double)NS_PER_S;
    show_progress(&progress, l, start, true);
    return ERR_OK;
}

static void sum_up(const struct load *l, struct load_result *result)
{
    for (unsigned i = 0; i < l->options->workers; i++) {
        struct row *row = &l->rows[i];
        uint64_t errors =
            atomic_load_explicit(&row->errors, memory_order_acquire);
        if (errors > 0 && result->errors == 0)
            snprintf(result->first_error, sizeof(result->first_error), "%s",
                     row->first_error);
        result->errors += errors;
        result->failed += !process_ok(&l->workers[i]);
        histogram_merge(&result->times, &row->times);
    }
    result->commands = total_done(l);
}

enum err load_run(const struct load_options *options,
                  struct stage_channel *channel, struct load_result *result,
                  struct err_text *why)
{
    unsigned n = options->workers;
    size_t size = n * sizeof(struct row);
    struct load l = {.options = options, .shot = {-1, -1}};
    struct worker_arg *args = calloc(n, sizeof(*args));
    enum err e = ERR_OK;
    *result = (struct load_result){0};
    l.launcher = getpid();
    l.workers = calloc(n, sizeof(*l.workers));
    l.rows = mmap(NULL, size, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (args == NULL || l.workers == NULL || l.rows == MAP_FAILED ||
        pipe(l.shot) < 0) {
        e = err_say(why, ERR_SYS, "cannot prepare %u workers: %s", n,
                    strerror(errno));
        goto out;
    }
    e = start_workers(&l, args, channel->tx.senders_fd, why);
    /* All have a sender of their own now, or it is over. */
    stage_let_go(channel);
    close(l.shot[1]);
    l.shot[1] = -1;
    if (e == ERR_OK)
        e = watch_workers(&l, result, why);
    if (e == ERR_OK)
        sum_up(&l, result);
out:
    for (unsigned i = 0; l.workers != NULL && i < n; i++)
        process_stop(&l.workers[i], 2000);
    for (int i = 0; i < 2; i++)
        if (l.shot[i] >= 0)
            close(l.shot[i]);
    if (l.rows != MAP_FAILED)
        munmap(l.rows, size);
    free(l.workers);
    free(args);
    return e;
}
