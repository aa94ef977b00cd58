/*
 * mqredis-bench: what its files share.
 *
 * A *contestant* is a way from a worker process to Redis and back. A *run* is N
 * worker processes (never threads) using one contestant for a while; it gives
 * `struct figures`. Runs of several contestants are interleaved in *rounds*, so
 * that a machine which gets slower for a while does so to all of them alike;
 * what is reported is the median and the range over the rounds, and of ratios
 * the median and the range of the ratios of each round.
 */
#ifndef TOOLS_BENCH_BENCH_H
#define TOOLS_BENCH_BENCH_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"
#include "tools/process.h"

#define BENCH_WORKERS_MAX 1024
#define BENCH_BATCH_MAX 256
#define BENCH_VALUE_MAX 65536
#define BENCH_WINDOW_MAX 4096
#define BENCH_ROUNDS_MAX 99

enum contestant {
    CHANNEL_TCP,  /* the manager, over TCP to Redis */
    CHANNEL_UNIX, /* the manager, over a unix socket */
    LIMIT,        /* a bare queue and a bare pipe, an echo for Redis */
    HIREDIS_TCP,  /* a connection of each worker's own */
    HIREDIS_UNIX,
    TWEMPROXY,      /* hiredis over TCP to nutcracker, which uses TCP */
    TWEMPROXY_UNIX, /* the same, both over unix sockets */
    CONTESTANTS
};

struct contestant_name {
    const char *name;
    const char *label; /* what it is, for tables */
};

extern const struct contestant_name contestants[CONTESTANTS];

/* ---- figures ---- */

/* One run's. Times in us; CPU in s per 1,000,000 commands, which is us per
 * command; memory in KiB. */
#define FIGURES(X)                                                             \
    X(rate, "commands/s", "commands per second, all workers together")         \
    X(p50, "p50 us", "median time of a round trip")                            \
    X(p99, "p99 us", "99th percentile")                                        \
    X(p999, "p99.9 us", "99.9th percentile")                                   \
    X(cpu_workers, "workers", "CPU s per million commands, workers")           \
    X(cpu_middle, "middle", "the same, manager, proxy or echo")                \
    X(cpu_redis, "redis", "the same, redis-server")                            \
    X(mem_worker, "worker KiB", "proportional memory (PSS) of one worker")     \
    X(mem_middle, "middle KiB", "resident memory of manager, proxy or echo")   \
    X(mem_redis, "redis KiB", "resident memory of redis-server")               \
    X(errors, "errors", "wrong or missing replies")

#define FIGURE_ENUM(name, unit, help) FIGURE_##name,
enum figure { FIGURES(FIGURE_ENUM) FIGURE_COUNT };

struct figures {
    double value[FIGURE_COUNT];
};

struct figure_name {
    const char *name;
    const char *unit;
    const char *help;
};

extern const struct figure_name figure_names[FIGURE_COUNT];

/* ---- a run ---- */

struct load {
    enum contestant contestant;
    unsigned workers;
    unsigned batch;  /* commands that travel together */
    unsigned window; /* > 0: so many commands in flight, asynchronously */
    unsigned value;  /* bytes */
    unsigned set_percent;
    double rate; /* > 0: an open loop, so many batches per s of all workers */
    double warmup_s, measure_s;
};

/* ---- the parties, which are there for the whole benchmark ---- */

struct parties {
    char dir[PATH_MAX];
    struct process redis, manager_tcp, manager_unix, proxy;
    int redis_port, proxy_port;
    char redis_unix[108], proxy_unix[108];
    unsigned msgsize;
    bool have[CONTESTANTS];
    char why_not[CONTESTANTS][160];
};

/* Starts redis-server (which must be there) and what the wanted contestants
 * need: managers, the proxy if it is installed. ERR_SYS, ERR_ABSENT... with a
 * line; parties_stop then, too. */
MUST_CHECK enum err parties_start(struct parties *p,
                                  const bool wanted[CONTESTANTS],
                                  unsigned msgsize, struct err_text *why);
void parties_stop(struct parties *p);

/* The process between workers and Redis; NULL: none. */
struct process *parties_middle(struct parties *p, enum contestant c);

/* A port of 127.0.0.1 that is free just now; 0: none. */
int free_port(void);

/* Waits until something accepts connections there. */
MUST_CHECK enum err wait_for_port(int port, struct process *p,
                                  struct err_text *why);

/* A program on PATH, or in sbin; NULL: not there. Static storage. */
const char *find_program(const char *name);

/* CPU time of a process and all its threads so far, in ns. */
uint64_t process_cpu_ns(pid_t pid);

/* Resident and proportional memory in KiB; 0: not to be had. */
uint64_t process_rss_kib(pid_t pid);
uint64_t process_pss_kib(pid_t pid);

/* Runs a load. ERR_AGAIN: a signal came. Others with a line. */
MUST_CHECK enum err run_load(struct parties *p, const struct load *load,
                             struct figures *figures, struct err_text *why);

/* ---- what a worker does ---- */

struct client;

struct client_ops {
    /* NULL: not opened, and a line is on standard error. */
    struct client *(*open)(const struct parties *p, const struct load *load,
                           unsigned number);
    /* A batch there and back; false: something in it was wrong. */
    bool (*round)(struct client *c, bool set);
    /* In place of `round` where load->window > 0: commands done by the time it
     * returns, at least one; errors are added up. */
    unsigned (*flow)(struct client *c, uint64_t *errors);
    void (*close)(struct client *c);
};

/* NULL: this build can't (no hiredis). */
const struct client_ops *client_ops(enum contestant c);

extern const struct client_ops channel_client;
#ifdef HAVE_HIREDIS
extern const struct client_ops hiredis_client;
#endif

/* ---- the limit: pipes and queue are made before anybody is forked ---- */

struct limit;

MUST_CHECK enum err limit_open(struct limit **limit, const struct load *load,
                               struct err_text *why);
/* What the echo process runs; ends by SIGTERM. */
int limit_echo(void *arg);
void limit_close(struct limit *limit);
/* The workers' side: load_limit is the one they find. */
extern struct limit *limit_current;
extern const struct client_ops limit_client;

/* ---- short-lived processes ---- */

struct short_result {
    const char *program;  /* "mqredis-worker"... */
    const char *security; /* "", "auth", "tls" */
    unsigned runs;
    double p50_us, p99_us; /* wall time from spawn to reaped */
    double mean_us;
    double cpu_us; /* of the process itself, mean */
};

#define SHORT_RESULTS_MAX 12

struct short_results {
    struct short_result rows[SHORT_RESULTS_MAX];
    size_t count;
    char notes[512]; /* what was left out, and why */
};

/* `runs` of each program, interleaved in tens. */
MUST_CHECK enum err run_short(struct parties *p, unsigned runs,
                              struct short_results *out, struct err_text *why);

/* ---- results ---- */

/* One line of a table: a contestant under one load, all rounds. */
struct cell {
    struct load load;
    unsigned rounds;
    struct figures round[BENCH_ROUNDS_MAX];
};

struct range {
    double median, low, high;
};

struct range cell_range(const struct cell *cell, enum figure f);

/* Of a ÷ b, round by round. */
struct range cell_ratio(const struct cell *a, const struct cell *b,
                        enum figure f);

/* The same against a figure of somebody else's, a value a round. */
struct range ratio_to(const struct cell *a, const double *b, unsigned rounds,
                      enum figure f);

enum scenario {
    SCENARIO_ONE,   /* one command at a time, over N */
    SCENARIO_BATCH, /* batches */
    SCENARIO_ASYNC, /* one process, a window */
    SCENARIO_OPEN,  /* open loop */
    SCENARIOS
};

struct table {
    enum scenario scenario;
    char title[160];
    struct cell *cells;
    size_t count;
};

struct results {
    struct table tables[SCENARIOS];
    size_t tables_count;
    /* redis-benchmark -c 1 -P window, beside the asynchronous process. */
    double redis_benchmark[BENCH_ROUNDS_MAX];
    unsigned redis_benchmark_rounds;
    struct short_results shorts;
    double seconds; /* that all of it took */
    unsigned rounds;
    double measure_s;
};

/* NULL if it was not run. */
const struct cell *results_cell(const struct results *r, enum scenario s,
                                enum contestant c, unsigned workers);

/* ---- reports ---- */

#include <stdio.h>

struct machine {
    char kernel[128], cpu[128], redis[96], proxy[64], hiredis[32], date[32];
    unsigned cpus;
    uint64_t memory_mib;
    long msg_max;
};

void machine_read(struct machine *m);

void report_text(FILE *f, const struct results *r, const struct machine *m);
void report_goals(FILE *f, const struct results *r);
void report_json(FILE *f, const struct results *r, const struct machine *m);

/* A plot of a figure over N, logarithmic both ways, a line for each
 * contestant. Nothing is written if there are fewer than two Ns. */
void report_svg(FILE *f, const struct table *t, enum figure figure,
                const char *title);

#endif
