/*
 * mqredis-bench: the channel beside what a user would have instead (a
 * connection of each process's own; a proxy) and beside what the physics allows
 * (a bare queue and pipe).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "tools/bench/bench.h"
#include "tools/bench/options.h"
#include "tools/bench/suite.h"

static int complain(const char *text)
{
    fflush(stdout);
    fprintf(stderr, "mqredis-bench: %s\n", text);
    return 1;
}

/* ---- writing ---- */

static FILE *open_in(const char *dir, const char *name)
{
    char path[PATH_MAX];
    int n = snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = n > 0 && n < (int)sizeof(path) ? fopen(path, "we") : NULL;
    if (f == NULL)
        fprintf(stderr, "mqredis-bench: cannot write %s: %s\n", path,
                strerror(errno));
    return f;
}

static bool close_whole(FILE *f)
{
    bool ok = f != NULL && ferror(f) == 0;
    return f != NULL && fclose(f) == 0 && ok;
}

static bool write_plot(const char *dir, const char *name, const struct table *t,
                       enum figure figure, const char *title)
{
    FILE *f = open_in(dir, name);
    if (f != NULL)
        report_svg(f, t, figure, title);
    return close_whole(f);
}

static bool write_out(const char *dir, const struct results *r,
                      const struct machine *m)
{
    if (mkdir(dir, 0777) < 0 && errno != EEXIST)
        return false;
    FILE *f = open_in(dir, "results.md");
    if (f != NULL) {
        report_text(f, r, m);
        report_goals(f, r);
    }
    bool ok = close_whole(f);
    f = open_in(dir, "results.json");
    if (f != NULL)
        report_json(f, r, m);
    ok = close_whole(f) && ok;
    if (r->tables_count == 0 || r->tables[0].scenario != SCENARIO_ONE)
        return ok;
    ok = write_plot(dir, "throughput.svg", &r->tables[0], FIGURE_rate,
                    "Commands per second, one at a time") &&
         ok;
    return write_plot(dir, "p99.svg", &r->tables[0], FIGURE_p99,
                      "99th percentile of a round trip, microseconds") &&
           ok;
}

static int write_results(const struct options *o, const struct parties *p,
                         const struct results *r)
{
    struct machine m;
    bool ok = true;
    bool json_only = o->json != NULL && strcmp(o->json, "-") == 0;
    machine_read(&m);
    if (!json_only) {
        report_text(stdout, r, &m);
        report_goals(stdout, r);
    }
    for (int c = 0; c < CONTESTANTS; c++)
        if (o->contestants[c] && !p->have[c])
            fprintf(stderr, "mqredis-bench: left out %s: %s\n",
                    contestants[c].name, p->why_not[c]);
    if (o->out != NULL)
        ok = write_out(o->out, r, &m);
    if (json_only)
        report_json(stdout, r, &m);
    else if (o->json != NULL) {
        FILE *f = fopen(o->json, "we");
        if (f != NULL)
            report_json(f, r, &m);
        ok = close_whole(f) && ok;
    }
    if (fflush(stdout) != 0)
        ok = false;
    return ok ? 0 : complain("not all results could be written");
}

/* ---- the whole ---- */

/* A pidfd and some pipes for each worker. */
static void raise_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* Processes that do one GET go through the first of the managers. */
static enum err start(struct parties *p, const struct options *o,
                      struct err_text *why)
{
    bool wanted[CONTESTANTS];
    memcpy(wanted, o->contestants, sizeof(wanted));
    if (o->short_runs > 0 || o->suite)
        wanted[CHANNEL_TCP] = true;
    return parties_start(p, wanted, o->msgsize, why);
}

int main(int argc, char **argv)
{
    static struct parties parties;
    static struct results results;
    struct options options;
    struct err_text why = {{0}};
    int code = options_parse(&options, argc, argv);
    if (code >= 0)
        return code;
    raise_files();
    enum err e = process_setup(&why);
    if (e == ERR_OK)
        e = start(&parties, &options, &why);
    if (e == ERR_OK)
        e = suite_run(&parties, &options, &results, &why);
    if (results.tables_count > 0 && process_interrupted() == 0)
        code = write_results(&options, &parties, &results);
    if (e != ERR_OK)
        code = complain(why.text);
    parties_stop(&parties);
    if (process_strays(NULL, 0, 0) > 0)
        code = complain("processes were left behind, and have been killed");
    results_release(&results);
    if (process_interrupted() != 0)
        return 128 + process_interrupted();
    return code > 0 ? code : 0;
}
