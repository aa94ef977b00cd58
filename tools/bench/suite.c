/*
 * The tables are made one after the other; within a table the contestants take
 * turns, a run each, then the next round, in an order that moves on by one each
 * round so that nobody always runs after the same neighbour.
 */
#include "tools/bench/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/clock.h"

#define CELLS_MAX (CONTESTANTS * WORKER_COUNTS_MAX)

struct suite {
    struct parties *parties;
    const struct options *options;
    struct results *results;
    uint64_t start_ns;
};

static double elapsed_s(const struct suite *s)
{
    return (double)(clock_ns() - s->start_ns) / 1e9;
}

static struct table *add_table(struct suite *s, enum scenario scenario,
                               const char *title)
{
    struct results *r = s->results;
    struct table *t = &r->tables[r->tables_count];
    t->scenario = scenario;
    snprintf(t->title, sizeof(t->title), "%s", title);
    t->cells = calloc(CELLS_MAX, sizeof(*t->cells));
    if (t->cells == NULL)
        return NULL;
    r->tables_count++;
    return t;
}

/* A line of the table for each of the contestants that can take part. */
static void add_group(struct suite *s, struct table *t, const struct load *load,
                      const bool who[CONTESTANTS], unsigned workers)
{
    for (int c = 0; t != NULL && c < CONTESTANTS; c++) {
        if (!who[c] || !s->parties->have[c] || t->count == CELLS_MAX)
            continue;
        struct cell *cell = &t->cells[t->count++];
        cell->load = *load;
        cell->load.contestant = (enum contestant)c;
        cell->load.workers = workers;
    }
}

static void say_run(const struct suite *s, const struct cell *c, unsigned round)
{
    if (isatty(STDERR_FILENO) == 1)
        fprintf(stderr, "\r\033[K%4.0f s  round %u: %s, %u workers",
                elapsed_s(s), round + 1, contestants[c->load.contestant].name,
                c->load.workers);
}

static void say_round(const struct suite *s, const struct table *t,
                      unsigned round)
{
    bool terminal = isatty(STDERR_FILENO) == 1;
    fprintf(stderr, "%s%4.0f s  %s: round %u done%s",
            terminal ? "\r\033[K" : "", elapsed_s(s), t->title, round + 1,
            terminal ? "" : "\n");
}

static enum err run_cell(struct suite *s, struct cell *c, unsigned round,
                         struct err_text *why)
{
    say_run(s, c, round);
    enum err e = run_load(s->parties, &c->load, &c->round[c->rounds], why);
    /* A machine can have a bad moment; it has none twice. */
    if (e != ERR_OK && e != ERR_AGAIN)
        e = run_load(s->parties, &c->load, &c->round[c->rounds], why);
    if (e == ERR_OK)
        c->rounds++;
    return e;
}

/* How many cells from `at` on have the same number of workers. */
static size_t group_size(const struct table *t, size_t at)
{
    size_t n = 1;
    while (at + n < t->count &&
           t->cells[at + n].load.workers == t->cells[at].load.workers)
        n++;
    return n;
}

/* One command from redis-benchmark's own mouth; 0: not to be had. */
static double redis_benchmark(const struct suite *s, const struct load *load)
{
    char command[512], line[256] = "";
    const char *program = find_program("redis-benchmark");
    double rate = 0;
    unsigned n = (unsigned)(load->measure_s * 300000) + load->window;
    if (program == NULL)
        return 0;
    snprintf(command, sizeof(command),
             "'%.200s' -p %d -c 1 -P %u -n %u --csv GET bench:0 2>/dev/null",
             program, s->parties->redis_port, load->window, n);
    /* NOLINTNEXTLINE(cert-env33-c): a path from PATH, in quotes. */
    FILE *f = popen(command, "re");
    /* "test","rps",... then "GET bench:0","123456.00",... */
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        char *at = strstr(line, "\",\"");
        if (at != NULL && strtod(at + 3, NULL) > 0)
            rate = strtod(at + 3, NULL);
    }
    if (f != NULL)
        pclose(f);
    return rate;
}

static bool in_round(const struct suite *s, const struct cell *c,
                     unsigned round)
{
    /* What no goal is about needs no more than three rounds. */
    bool inner = s->options->suite && c->load.workers != 1 &&
                 c->load.workers != 64 && c->load.workers != 256;
    return !inner || round < 3;
}

static enum err run_table(struct suite *s, struct table *t,
                          struct err_text *why)
{
    if (t == NULL)
        return err_say(why, ERR_NOMEM, "out of memory");
    enum err e = ERR_OK;
    for (unsigned round = 0; e == ERR_OK && round < s->options->rounds;
         round++) {
        if (elapsed_s(s) > s->options->time_limit_s) {
            fprintf(stderr,
                    "\nmqredis-bench: the time limit is reached: '%s' has %u "
                    "rounds\n",
                    t->title, round);
            break;
        }
        for (size_t at = 0, n; e == ERR_OK && at < t->count; at += n) {
            n = group_size(t, at);
            for (size_t i = 0; e == ERR_OK && i < n; i++) {
                struct cell *c = &t->cells[at + (i + round) % n];
                if (in_round(s, c, round))
                    e = run_cell(s, c, round, why);
            }
        }
        if (e == ERR_OK && t->scenario == SCENARIO_ASYNC && t->count > 0) {
            double rate = redis_benchmark(s, &t->cells[0].load);
            if (rate > 0)
                s->results
                    ->redis_benchmark[s->results->redis_benchmark_rounds++] =
                    rate;
        }
        say_round(s, t, round);
    }
    return e;
}

/* ---- the tables ---- */

static enum scenario scenario_of(const struct load *l)
{
    return l->window > 0  ? SCENARIO_ASYNC
           : l->rate > 0  ? SCENARIO_OPEN
           : l->batch > 1 ? SCENARIO_BATCH
                          : SCENARIO_ONE;
}

static void describe(const struct load *l, char *text, size_t size)
{
    char what[64], how[80];
    snprintf(what, sizeof(what),
             l->set_percent == 0 ? "GETs of %u bytes"
                                 : "GETs of %u bytes and %u%% SETs",
             l->value, l->set_percent);
    if (l->window > 0)
        snprintf(how, sizeof(how), "%u in flight asynchronously", l->window);
    else if (l->rate > 0)
        snprintf(how, sizeof(how),
                 "open loop, %.0f a second, times from when each was due",
                 l->rate);
    else if (l->batch > 1)
        snprintf(how, sizeof(how), "%u together, times of the whole batch",
                 l->batch);
    else
        snprintf(how, sizeof(how), "one at a time");
    snprintf(text, size, "%s, %s", what, how);
}

static struct table *new_table(struct suite *s, const struct load *load)
{
    char title[160];
    describe(load, title, sizeof(title));
    return add_table(s, scenario_of(load), title);
}

static enum err one_table(struct suite *s, struct err_text *why)
{
    const struct options *o = s->options;
    struct table *t = new_table(s, &o->load);
    bool who[CONTESTANTS];
    memcpy(who, o->contestants, sizeof(who));
    if (o->load.window > 0) /* it cannot keep a window */
        who[LIMIT] = false;
    for (unsigned i = 0; i < o->worker_counts; i++)
        add_group(s, t, &o->load, who, o->workers[i]);
    return run_table(s, t, why);
}

static enum err whole_suite(struct suite *s, struct err_text *why)
{
    static const unsigned counts[] = {1, 4, 16, 64, 256};
    static const bool direct[CONTESTANTS] = {
        [CHANNEL_TCP] = true, [HIREDIS_TCP] = true};
    static const bool three[CONTESTANTS] = {
        [CHANNEL_TCP] = true, [HIREDIS_TCP] = true, [TWEMPROXY] = true};
    struct load load = s->options->load;
    struct table *t = new_table(s, &load);
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
        add_group(s, t, &load, s->options->contestants, counts[i]);
    enum err e = run_table(s, t, why);
    if (e != ERR_OK)
        return e;

    load = s->options->load;
    load.batch = 16;
    t = new_table(s, &load);
    add_group(s, t, &load, three, 64);
    e = run_table(s, t, why);
    if (e != ERR_OK)
        return e;

    load = s->options->load;
    load.window = 256;
    t = new_table(s, &load);
    add_group(s, t, &load, direct, 1);
    e = run_table(s, t, why);
    if (e != ERR_OK)
        return e;

    load = s->options->load;
    load.rate = 10000;
    t = new_table(s, &load);
    add_group(s, t, &load, three, 64);
    return run_table(s, t, why);
}

enum err suite_run(struct parties *p, const struct options *o,
                   struct results *r, struct err_text *why)
{
    struct suite s = {
        .parties = p, .options = o, .results = r, .start_ns = clock_ns()};
    enum err e;
    r->rounds = o->rounds;
    r->measure_s = o->load.measure_s;
    e = o->suite ? whole_suite(&s, why) : one_table(&s, why);
    if (e == ERR_OK && o->short_runs > 0)
        e = run_short(p, o->short_runs, &r->shorts, why);
    r->seconds = elapsed_s(&s);
    if (isatty(STDERR_FILENO) == 1)
        fputs("\r\033[K", stderr);
    return e;
}

void results_release(struct results *r)
{
    for (size_t i = 0; i < r->tables_count; i++)
        free(r->tables[i].cells);
    r->tables_count = 0;
}
