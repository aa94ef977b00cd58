/* The tables, in Markdown, so that a document can have them as they are. */
#include <string.h>

#include "tools/bench/bench.h"

struct pair {
    enum contestant a, b;
};

/* Who is compared with whom: each reaches Redis over the same transport. */
static const struct pair pairs[] = {{CHANNEL_TCP, HIREDIS_TCP},
                                    {CHANNEL_TCP, TWEMPROXY},
                                    {CHANNEL_TCP, LIMIT},
                                    {CHANNEL_UNIX, HIREDIS_UNIX},
                                    {CHANNEL_UNIX, TWEMPROXY_UNIX}};

static void print_machine(FILE *f, const struct machine *m)
{
    fprintf(f,
            "%s; %u CPUs (%s), %llu MiB, Linux %s, fs.mqueue.msg_max %ld; "
            "Redis %s%s%s%s%s\n",
            m->date, m->cpus, m->cpu, (unsigned long long)m->memory_mib,
            m->kernel, m->msg_max, m->redis, m->hiredis[0] ? ", hiredis " : "",
            m->hiredis, m->proxy[0] ? ", " : "", m->proxy);
}

static const char *name_of(const struct cell *c)
{
    return contestants[c->load.contestant].name;
}

static void print_rate(FILE *f, const struct cell *c, enum figure figure)
{
    struct range r = cell_range(c, figure);
    fprintf(f, " %.0f (%.0f-%.0f) |", r.median, r.low, r.high);
}

static void print_table(FILE *f, const struct table *t)
{
    fprintf(f,
            "\n### %s\n\n"
            "Median (range). Times in microseconds. CPU seconds per million "
            "commands, which is microseconds per command: of the workers, of "
            "what is between (manager, proxy or echo), of redis-server.\n\n"
            "| workers | way | commands/s | p50 | p99 | p99.9 | CPU workers | "
            "between | redis | errors |\n"
            "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | "
            "---: |\n",
            t->title);
    for (size_t i = 0; i < t->count; i++) {
        const struct cell *c = &t->cells[i];
        if (c->rounds == 0)
            continue;
        fprintf(f, "| %u | %s |", c->load.workers, name_of(c));
        print_rate(f, c, FIGURE_rate);
        if (t->scenario == SCENARIO_ASYNC) {
            /* A window has no round trip of its own. */
            fputs(" | | |", f);
        } else {
            print_rate(f, c, FIGURE_p50);
            print_rate(f, c, FIGURE_p99);
            print_rate(f, c, FIGURE_p999);
        }
        for (int k = FIGURE_cpu_workers; k <= FIGURE_cpu_redis; k++)
            fprintf(f, " %.2f |", cell_range(c, (enum figure)k).median);
        fprintf(f, " %.0f |\n", cell_range(c, FIGURE_errors).high);
    }
}

static const struct cell *find(const struct table *t, enum contestant c,
                               unsigned workers)
{
    for (size_t i = 0; i < t->count; i++)
        if (t->cells[i].load.contestant == c &&
            t->cells[i].load.workers == workers && t->cells[i].rounds > 0)
            return &t->cells[i];
    return NULL;
}

static void print_ratio_row(FILE *f, const struct cell *a, const struct cell *b,
                            bool times)
{
    static const enum figure figures[] = {FIGURE_rate, FIGURE_p50, FIGURE_p99,
                                          FIGURE_cpu_redis};
    fprintf(f, "| %u | %s ÷ %s |", a->load.workers, name_of(a), name_of(b));
    for (size_t k = 0; k < sizeof(figures) / sizeof(figures[0]); k++) {
        struct range r = cell_ratio(a, b, figures[k]);
        bool is_time = figures[k] == FIGURE_p50 || figures[k] == FIGURE_p99;
        /* The echo leaves Redis alone. */
        bool says_nothing =
            (is_time && !times) ||
            (figures[k] == FIGURE_cpu_redis && b->load.contestant == LIMIT);
        if (r.median > 0 && !says_nothing)
            fprintf(f, " %.2f (%.2f-%.2f) |", r.median, r.low, r.high);
        else
            fputs(" |", f);
    }
    fputc('\n', f);
}

static void print_ratios(FILE *f, const struct table *t)
{
    bool headed = false;
    for (size_t p = 0; p < sizeof(pairs) / sizeof(pairs[0]); p++)
        for (size_t i = 0; i < t->count; i++) {
            const struct cell *a = &t->cells[i];
            const struct cell *b = find(t, pairs[p].b, a->load.workers);
            if (a->load.contestant != pairs[p].a || a->rounds == 0 || b == NULL)
                continue;
            if (!headed)
                fputs(
                    "\nRatios, round by round: median (range).\n\n"
                    "| workers | pair | throughput | p50 | p99 | CPU of redis "
                    "per command |\n"
                    "| ---: | --- | ---: | ---: | ---: | ---: |\n",
                    f);
            headed = true;
            print_ratio_row(f, a, b, t->scenario != SCENARIO_ASYNC);
        }
}

static void print_memory(FILE *f, const struct table *t)
{
    fputs("\nMemory in KiB, as it was at the end of a run: a worker's "
          "proportional share (PSS), what is between and redis-server "
          "resident.\n\n"
          "| workers | way | a worker | between | redis |\n"
          "| ---: | --- | ---: | ---: | ---: |\n",
          f);
    for (size_t i = 0; i < t->count; i++) {
        const struct cell *c = &t->cells[i];
        if (c->rounds > 0)
            fprintf(f, "| %u | %s | %.0f | %.0f | %.0f |\n", c->load.workers,
                    name_of(c), cell_range(c, FIGURE_mem_worker).median,
                    cell_range(c, FIGURE_mem_middle).median,
                    cell_range(c, FIGURE_mem_redis).median);
    }
}

static void print_async(FILE *f, const struct results *r)
{
    for (size_t t = 0; t < r->tables_count; t++) {
        const struct table *table = &r->tables[t];
        const struct cell *c = find(table, CHANNEL_TCP, 1);
        if (table->scenario != SCENARIO_ASYNC || c == NULL)
            continue;
        struct range range = ratio_to(c, r->redis_benchmark,
                                      r->redis_benchmark_rounds, FIGURE_rate);
        fprintf(f, "\nredis-benchmark -c 1 -P %u, in the same rounds:",
                c->load.window);
        for (unsigned i = 0; i < r->redis_benchmark_rounds; i++)
            fprintf(f, " %.0f", r->redis_benchmark[i]);
        fprintf(f, " commands/s. channel ÷ redis-benchmark: %.2f (%.2f-%.2f)\n",
                range.median, range.low, range.high);
    }
}

static void print_shorts(FILE *f, const struct short_results *s)
{
    if (s->count == 0)
        return;
    fputs("\n### A process that does one GET\n\n"
          "From its start to its end, in microseconds.\n\n"
          "| program | security | runs | median | p99 | mean | its CPU |\n"
          "| --- | --- | ---: | ---: | ---: | ---: | ---: |\n",
          f);
    for (size_t i = 0; i < s->count; i++) {
        const struct short_result *row = &s->rows[i];
        fprintf(f, "| %s | %s | %u | %.0f | %.0f | %.0f | %.0f |\n",
                row->program, row->security[0] != '\0' ? row->security : "none",
                row->runs, row->p50_us, row->p99_us, row->mean_us, row->cpu_us);
    }
    if (s->notes[0] != '\0')
        fprintf(f, "\n%s\n", s->notes);
}

void report_text(FILE *f, const struct results *r, const struct machine *m)
{
    print_machine(f, m);
    fprintf(f,
            "\n%u interleaved rounds, %.1f s measured each, %.0f s in all.\n",
            r->rounds, r->measure_s, r->seconds);
    for (size_t t = 0; t < r->tables_count; t++) {
        print_table(f, &r->tables[t]);
        print_ratios(f, &r->tables[t]);
        if (r->tables[t].scenario == SCENARIO_ONE)
            print_memory(f, &r->tables[t]);
        if (r->tables[t].scenario == SCENARIO_ASYNC)
            print_async(f, r);
    }
    print_shorts(f, &r->shorts);
}

/* ---- the goals ---- */

#define NOBODY CONTESTANTS

struct goal {
    const char *text;
    enum scenario scenario;
    unsigned workers;
    enum contestant a, b; /* b NOBODY: the figure itself */
    enum figure figure;
    bool at_least;
    double bound;
};

static const struct goal goals[] = {
    {"64 workers: throughput ÷ hiredis over TCP", SCENARIO_ONE, 64, CHANNEL_TCP,
     HIREDIS_TCP, FIGURE_rate, true, 1.6},
    {"the same ÷ hiredis over a unix socket", SCENARIO_ONE, 64, CHANNEL_UNIX,
     HIREDIS_UNIX, FIGURE_rate, true, 1.25},
    {"the same ÷ twemproxy", SCENARIO_ONE, 64, CHANNEL_TCP, TWEMPROXY,
     FIGURE_rate, true, 2.2},
    {"the same ÷ the bare queue and pipe", SCENARIO_ONE, 64, CHANNEL_TCP, LIMIT,
     FIGURE_rate, true, 0.85},
    {"64 workers: p99 ÷ hiredis over TCP", SCENARIO_ONE, 64, CHANNEL_TCP,
     HIREDIS_TCP, FIGURE_p99, false, 0.5},
    {"64 workers: CPU of redis-server per command ÷ hiredis over TCP",
     SCENARIO_ONE, 64, CHANNEL_TCP, HIREDIS_TCP, FIGURE_cpu_redis, false, 0.1},
    {"64 workers: CPU of the manager per command, us", SCENARIO_ONE, 64,
     CHANNEL_TCP, NOBODY, FIGURE_cpu_middle, false, 5},
    {"256 workers: throughput ÷ hiredis over TCP", SCENARIO_ONE, 256,
     CHANNEL_TCP, HIREDIS_TCP, FIGURE_rate, true, 1.5},
    {"1 worker: p50 ÷ hiredis over TCP", SCENARIO_ONE, 1, CHANNEL_TCP,
     HIREDIS_TCP, FIGURE_p50, false, 1.15},
    {"64 workers, batches of 16: commands/s ÷ hiredis pipelines of 16",
     SCENARIO_BATCH, 64, CHANNEL_TCP, HIREDIS_TCP, FIGURE_rate, true, 1.2}};

static void print_goal(FILE *f, const char *text, bool at_least, double bound,
                       struct range r)
{
    bool met = at_least ? r.median >= bound : r.median <= bound;
    fprintf(f, "| %s | %s %.2f | %.2f |", text, at_least ? "≥" : "≤", bound,
            r.median);
    if (r.low < r.high) /* else there was one series, no rounds */
        fprintf(f, " %.2f-%.2f", r.low, r.high);
    fprintf(f, " | %s |\n", met ? "met" : "**missed**");
}

static void print_short_goals(FILE *f, const struct short_results *s)
{
    for (size_t i = 0; i < s->count; i++)
        for (size_t k = 0; k < s->count; k++) {
            const struct short_result *a = &s->rows[i], *b = &s->rows[k];
            char text[128];
            if (strcmp(a->program, "mqredis-worker") != 0 ||
                strcmp(b->program, "redis-cli") != 0 ||
                strcmp(a->security, b->security) != 0 || b->mean_us <= 0)
                continue;
            double ratio = a->mean_us / b->mean_us;
            snprintf(text, sizeof(text),
                     "a process that does one GET%s%s: wall time ÷ "
                     "redis-cli's",
                     a->security[0] != '\0' ? ", " : "", a->security);
            print_goal(f, text, false, 0.6,
                       (struct range){ratio, ratio, ratio});
        }
}

void report_goals(FILE *f, const struct results *r)
{
    fputs("\n| figure | goal | median | range | |\n"
          "| --- | --- | ---: | --- | --- |\n",
          f);
    for (size_t i = 0; i < sizeof(goals) / sizeof(goals[0]); i++) {
        const struct goal *g = &goals[i];
        const struct cell *a = results_cell(r, g->scenario, g->a, g->workers);
        const struct cell *b =
            g->b == NOBODY ? NULL
                           : results_cell(r, g->scenario, g->b, g->workers);
        if (a == NULL || (g->b != NOBODY && b == NULL))
            continue;
        print_goal(f, g->text, g->at_least, g->bound,
                   b == NULL ? cell_range(a, g->figure)
                             : cell_ratio(a, b, g->figure));
    }
    const struct cell *flow = results_cell(r, SCENARIO_ASYNC, CHANNEL_TCP, 1);
    if (flow != NULL && r->redis_benchmark_rounds > 0)
        print_goal(f,
                   "one process, 256 in flight: commands/s ÷ redis-benchmark "
                   "-c 1 -P 256",
                   true, 0.6,
                   ratio_to(flow, r->redis_benchmark, r->redis_benchmark_rounds,
                            FIGURE_rate));
    print_short_goals(f, &r->shorts);
}
