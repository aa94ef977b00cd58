#include "tools/bench/options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/version.h"
#include "tools/arguments.h"

#define EXIT_USAGE 64
#define SHORTS ":"

static const char help[] =
    "Usage: mqredis-bench [OPTION]...\n"
    "Measures ways from worker processes to Redis, side by side in "
    "interleaved\n"
    "rounds. Starts all it needs; nothing runs before, nothing stays.\n"
    "\n"
    "  --suite              everything that `make bench` does; or one table:\n"
    "  --contestants LIST   of: channel, channel-unix, limit, hiredis,\n"
    "                       hiredis-unix, twemproxy, twemproxy-unix (all but "
    "the last)\n"
    "  --workers LIST       how many worker processes: 64, or 1,4,16,64,256\n"
    "  --batch N            commands that travel together (1)\n"
    "  --window N           keep N commands in flight asynchronously (off)\n"
    "  --rate N             open loop: N batches per second of all workers;\n"
    "                       times count from when each was due (closed loop)\n"
    "  --value BYTES        size of the values (32)\n"
    "  --set PERCENT        SETs among the GETs (0)\n"
    "  --short N            runs of short-lived processes, N of each (0)\n"
    "  --rounds N           interleaved rounds (5)\n"
    "  --seconds S          measured time of one run (1.0)\n"
    "  --warmup S           and before it (0.2)\n"
    "  --msgsize BYTES      of the managers' queues (8192)\n"
    "  --time-limit S       start no new round after so long (280)\n"
    "  --json FILE          every figure of every round; - is standard output\n"
    "  --out DIR            results.md, results.json and the plots go there\n"
    "  --help, --version\n"
    "\n"
    "Exit status: 0 done; 1 failed, a line said why; 64 usage; 130 "
    "interrupted.\n";

enum { OPT_SUITE = 256, OPT_SHORT, OPT_OUT, OPT_HELP, OPT_VERSION };

static const struct option longs[] = {
    {"suite", no_argument, NULL, OPT_SUITE},
    {"contestants", required_argument, NULL, 'c'},
    {"workers", required_argument, NULL, 'n'},
    {"batch", required_argument, NULL, 'b'},
    {"window", required_argument, NULL, 'w'},
    {"rate", required_argument, NULL, 'r'},
    {"value", required_argument, NULL, 'd'},
    {"set", required_argument, NULL, 's'},
    {"short", required_argument, NULL, OPT_SHORT},
    {"rounds", required_argument, NULL, 'R'},
    {"seconds", required_argument, NULL, 't'},
    {"warmup", required_argument, NULL, 'u'},
    {"msgsize", required_argument, NULL, 'm'},
    {"time-limit", required_argument, NULL, 'l'},
    {"json", required_argument, NULL, 'j'},
    {"out", required_argument, NULL, OPT_OUT},
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    {NULL, 0, NULL, 0}};

static bool real(const char *text, double low, double high, double *value)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end != '\0' || !(v >= low && v <= high))
        return false;
    *value = v;
    return true;
}

static bool parse_workers(struct options *o, const char *text)
{
    char copy[256];
    char *save = NULL;
    if (snprintf(copy, sizeof(copy), "%s", text) >= (int)sizeof(copy))
        return false;
    o->worker_counts = 0;
    for (char *p = strtok_r(copy, ",", &save); p != NULL;
         p = strtok_r(NULL, ",", &save))
        if (o->worker_counts == WORKER_COUNTS_MAX ||
            !argument_number(p, 1, BENCH_WORKERS_MAX,
                             &o->workers[o->worker_counts++]))
            return false;
    return o->worker_counts > 0;
}

static bool parse_contestants(struct options *o, const char *text)
{
    char copy[256];
    char *save = NULL;
    if (snprintf(copy, sizeof(copy), "%s", text) >= (int)sizeof(copy))
        return false;
    memset(o->contestants, 0, sizeof(o->contestants));
    for (char *p = strtok_r(copy, ",", &save); p != NULL;
         p = strtok_r(NULL, ",", &save)) {
        int c = 0;
        while (c < CONTESTANTS && strcmp(contestants[c].name, p) != 0)
            c++;
        if (c == CONTESTANTS)
            return false;
        o->contestants[c] = true;
    }
    return copy[0] != '\0';
}

/* False: the value is refused. */
static bool take(struct options *o, int option, const char *value)
{
    struct load *l = &o->load;
    switch (option) {
    case 'c':
        return parse_contestants(o, value);
    case 'n':
        return parse_workers(o, value);
    case 'b':
        return argument_number(value, 1, BENCH_BATCH_MAX, &l->batch);
    case 'w':
        return argument_number(value, 0, BENCH_WINDOW_MAX, &l->window);
    case 'r':
        return real(value, 0, 1e8, &l->rate);
    case 'd':
        return argument_number(value, 0, BENCH_VALUE_MAX, &l->value);
    case 's':
        return argument_number(value, 0, 100, &l->set_percent);
    case OPT_SHORT:
        return argument_number(value, 0, 1000000, &o->short_runs);
    case 'R':
        return argument_number(value, 1, BENCH_ROUNDS_MAX, &o->rounds);
    case 't':
        return real(value, 0.05, 3600, &l->measure_s);
    case 'u':
        return real(value, 0, 600, &l->warmup_s);
    case 'm':
        return argument_number(value, 256, 1 << 20, &o->msgsize);
    case 'l':
        return real(value, 1, 1e6, &o->time_limit_s);
    case 'j':
        o->json = value;
        return true;
    case OPT_OUT:
        o->out = value;
        return true;
    default:
        return true;
    }
}

int options_parse(struct options *o, int argc, char **argv)
{
    int index = -1;
    *o = (struct options){
        .workers = {64},
        .worker_counts = 1,
        .rounds = 5,
        .msgsize = 8192,
        .time_limit_s = 280,
        .load = {.batch = 1, .value = 32, .warmup_s = 0.2, .measure_s = 1.0}};
    for (int c = 0; c < TWEMPROXY_UNIX; c++)
        o->contestants[c] = true;
    struct err_text why;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, SHORTS, longs, &index)) != -1;) {
        if (c == '?' || c == ':') {
            argument_refused(&why, c, SHORTS, argv);
            fprintf(stderr, "mqredis-bench: %s\n", why.text);
            return EXIT_USAGE;
        }
        if (c == OPT_HELP || c == OPT_VERSION) {
            fputs(c == OPT_HELP ? help : "mqredis-bench " PROJECT_VERSION "\n",
                  stdout);
            return 0;
        }
        o->suite = o->suite || c == OPT_SUITE;
        if (!take(o, c, optarg)) {
            fprintf(stderr,
                    "mqredis-bench: --%s does not take '%s'; see --help\n",
                    longs[index].name, optarg);
            return EXIT_USAGE;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "mqredis-bench: unexpected argument '%s'; see --help\n",
                argv[optind]);
        return EXIT_USAGE;
    }
    return -1;
}
