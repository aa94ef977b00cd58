/*
 * What a watcher costs: workers send GETs without a pause while mqstat looks at
 * the channel ten times a second, and is stopped and continued again and again.
 * Each pair of slices has it in one of the two, in turns the first and the
 * second, so that whatever else goes on drops out; many short pairs tell what
 * no long run can. And several watchers at once show what one costs that no
 * instrument would find.
 *
 * usage: mqredis-bench-watching [--pairs N] [--workers N] [--watchers N]
 *                               [--slice MS]
 */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#include "ipc/clock.h"
#include "tools/arguments.h"
#include "tools/stage.h"
#include "workers/mqredis.h"

#define CHANNEL "bench"
#define WORKERS_MAX 256
#define WATCHERS_MAX 64
#define PAIRS_MAX 10000

struct bench {
    char dir[PATH_MAX];
    int pairs, workers, watchers, slice_ms;
    struct process server, manager;
    struct process watcher[WATCHERS_MAX];
    struct process worker[WORKERS_MAX];
    struct stage_channel channel;
    clockid_t manager_clock;
};

/* What went on in a slice. */
struct slice {
    double rate; /* commands per second */
    double cpu;  /* of the manager, us per command */
};

static void signal_watchers(const struct bench *b, int sig)
{
    for (int i = 0; i < b->watchers; i++)
        if (b->watcher[i].pid > 0)
            kill(b->watcher[i].pid, sig);
}

static void stop_all(struct bench *b)
{
    signal_watchers(b, SIGCONT);
    for (int i = 0; i < b->watchers; i++)
        process_stop(&b->watcher[i], 2000);
    for (int i = 0; i < b->workers; i++)
        process_stop(&b->worker[i], 2000);
    stage_release(&b->channel);
    process_stop(&b->manager, 2000);
    process_stop(&b->server, 2000);
    stage_folder_remove(b->dir);
}

static void die(struct bench *b, const char *what, const char *why)
{
    fprintf(stderr, "mqredis-bench-watching: %s: %s\n", what, why);
    stop_all(b);
    exit(EX_UNAVAILABLE);
}

/* ---- the programs ---- */

static int send_in_a_loop(void *arg)
{
    (void)arg;
    struct mqredis *mq = mqredis_open(CHANNEL, NULL);
    if (mq == NULL)
        return 1;
    for (;;) {
        struct mqredis_reply *r = mqredis_get(mq, "k");
        bool ok = r->status == MQREDIS_OK;
        mqredis_free(r);
        if (!ok)
            return 1;
    }
}

static void start(struct bench *b)
{
    struct err_text why;
    char ready[512], uri[160], mqstat[PATH_MAX];
    if (process_setup(&why) != ERR_OK ||
        stage_folder_make(b->dir, "mqredis-bench", &why) != ERR_OK) {
        fprintf(stderr, "mqredis-bench-watching: %s\n", why.text);
        exit(EX_OSERR);
    }
    if (stage_server(&b->server, uri, sizeof(uri), ready, sizeof(ready),
                     &why) != ERR_OK ||
        stage_manager(&b->manager, CHANNEL, uri, NULL, ready, sizeof(ready),
                      &why) != ERR_OK ||
        stage_join(&b->channel, CHANNEL, &why) != ERR_OK)
        die(b, "starting", why.text);
    if (clock_getcpuclockid(b->manager.pid, &b->manager_clock) != 0)
        die(b, "the manager's clock", "not to be had");
    for (int i = 0; i < b->workers; i++) {
        const struct process_spec spec = {
            .name = "worker", .inherit = -1, .run = send_in_a_loop};
        if (process_start(&b->worker[i], &spec, &why) != ERR_OK)
            die(b, "a worker", why.text);
    }
    if (process_sibling(mqstat, sizeof(mqstat), "mqstat", &why) != ERR_OK)
        die(b, "mqstat", why.text);
    const char *const argv[] = {mqstat, "-w", "0.1", CHANNEL, NULL};
    const struct process_spec spec = {
        .name = "mqstat", .argv = argv, .quiet = true, .inherit = -1};
    for (int i = 0; i < b->watchers; i++)
        if (process_start(&b->watcher[i], &spec, &why) != ERR_OK)
            die(b, "mqstat", why.text);
    if (process_pause(500) != ERR_OK)
        die(b, "starting", "interrupted");
}

/* ---- the slices ---- */

static double cpu_us(const struct bench *b)
{
    struct timespec t = {0};
    clock_gettime(b->manager_clock, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static struct slice measure(struct bench *b, bool watched)
{
    const struct status *s = b->channel.status;
    signal_watchers(b, watched ? SIGCONT : SIGSTOP);
    uint64_t begin = clock_ns();
    double cpu = cpu_us(b);
    uint64_t answered = counter_get(&s->counters[COUNTER_answered]);
    if (process_pause(b->slice_ms) != ERR_OK)
        die(b, "measuring", "interrupted");
    double us = (double)(clock_ns() - begin) / 1e3;
    double n = (double)(counter_get(&s->counters[COUNTER_answered]) - answered);
    for (int i = 0; i < b->watchers; i++)
        if (process_ended(&b->watcher[i]))
            die(b, "mqstat", "ended");
    if (n == 0)
        die(b, "measuring", "nothing is answered");
    return (struct slice){.rate = n / us * 1e6, .cpu = (cpu_us(b) - cpu) / n};
}

/* The mean of logarithms and its standard error, as percents of one. */
static void report(const char *what, const double *log_ratio, int n)
{
    double sum = 0, squares = 0;
    for (int i = 0; i < n; i++)
        sum += log_ratio[i];
    double mean = sum / n;
    for (int i = 0; i < n; i++)
        squares += (log_ratio[i] - mean) * (log_ratio[i] - mean);
    double error = sqrt(squares / (n - 1) / n);
    printf("%-32s %+.2f %% (95 of 100: %+.2f to %+.2f)\n", what,
           100 * expm1(mean), 100 * expm1(mean - 1.96 * error),
           100 * expm1(mean + 1.96 * error));
}

static void run(struct bench *b)
{
    static double rate[PAIRS_MAX], cpu[PAIRS_MAX];
    double total = 0;
    for (int i = 0; i < b->pairs; i++) {
        bool first = i % 2 == 0;
        struct slice x = measure(b, first), y = measure(b, !first);
        rate[i] = log(first ? x.rate / y.rate : y.rate / x.rate);
        cpu[i] = log(first ? x.cpu / y.cpu : y.cpu / x.cpu);
        total += x.rate + y.rate;
    }
    printf("%d workers, %d pairs of slices of %d ms, %.0f commands/s; %d "
           "watching, each 10 times a second, against none:\n",
           b->workers, b->pairs, b->slice_ms, total / b->pairs / 2,
           b->watchers);
    report("commands per second", rate, b->pairs);
    report("the manager's CPU per command", cpu, b->pairs);
}

int main(int argc, char **argv)
{
    static struct bench b = {
        .pairs = 150, .workers = 40, .watchers = 1, .slice_ms = 200};
    const struct argument options[] = {
        {"--pairs", &b.pairs, 2, PAIRS_MAX, NULL},
        {"--workers", &b.workers, 1, WORKERS_MAX, NULL},
        {"--watchers", &b.watchers, 1, WATCHERS_MAX, NULL},
        {"--slice", &b.slice_ms, 10, 60000, NULL}};
    if (!arguments_take("mqredis-bench-watching", options,
                        sizeof(options) / sizeof(options[0]), argc, argv))
        return EX_USAGE;
    start(&b);
    run(&b);
    stop_all(&b);
    return 0;
}
