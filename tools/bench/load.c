/*
 * One run: workers are forked, get ready, warm up, are measured, and stop. A
 * phase in shared memory tells them which; each writes what it saw into a row
 * of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/histogram.h"
#include "tools/bench/bench.h"

enum phase { PHASE_START, PHASE_WARM, PHASE_MEASURE, PHASE_STOP };

struct row {
    _Atomic int reached; /* the phase that it has seen; -1: failed */
    _Atomic uint64_t commands;
    _Atomic uint64_t errors;
    _Atomic uint64_t cpu_ns;    /* in the phase that is measured */
    _Atomic uint64_t active_ns; /* from its first command in it to its last */
    struct histogram times;
};

struct shared {
    _Atomic int phase;
    _Atomic uint64_t start_ns; /* of an open loop: the first intended time */
    struct row rows[];
};

struct run {
    struct parties *parties;
    const struct load *load;
    struct shared *shared;
    size_t size;
    struct process *workers;
    struct worker_arg {
        struct run *run;
        unsigned number;
    } * args;
    struct process echo;
    struct limit *limit;
    /* Nobody writes into these: the end of the first lets the workers start,
     * of the second leave. (256 that look every millisecond would be a load of
     * their own.) */
    int start[2], leave[2];
};

/* ---- a worker ---- */

static uint64_t own_cpu_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* A small generator: which of a mix a command is. xorshift64. */
static bool draw(uint64_t *state, unsigned percent)
{
    if (percent == 0)
        return false;
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state % 100 < percent;
}

static void sleep_until(uint64_t when_ns)
{
    struct timespec ts = {.tv_sec = (time_t)(when_ns / NS_PER_S),
                          .tv_nsec = (long)(when_ns % NS_PER_S)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
        ;
}

/* Sleeps until the parent has closed its end of the pipe. */
static void sleep_until_end(int fd)
{
    char byte;
    while (read(fd, &byte, 1) < 0 && errno == EINTR)
        ;
}

static void record(struct row *row, uint64_t ns, unsigned commands, bool ok)
{
    histogram_add(&row->times, ns);
    counter_add(&row->commands, commands);
    if (!ok)
        counter_add(&row->errors, 1);
}

/* A step of the loop: one batch, or whatever a window gives. `due_ns` is the
 * intended time of an open loop, 0 in a closed one. */
static void step(const struct client_ops *ops, struct client *c,
                 const struct load *load, struct row *row, bool measured,
                 uint64_t due_ns, uint64_t *random)
{
    uint64_t start = due_ns != 0 ? due_ns : clock_ns();
    if (load->window > 0) {
        uint64_t errors = 0;
        unsigned done = ops->flow(c, &errors);
        if (!measured)
            return;
        record(row, clock_ns() - start, done, errors == 0 && done > 0);
        return;
    }
    bool ok = ops->round(c, draw(random, load->set_percent));
    if (measured || !ok)
        record(row, clock_ns() - start, load->batch, ok);
}

static void work_loop(const struct run *r, const struct client_ops *ops,
                      struct client *c, unsigned number)
{
    const struct load *load = r->load;
    struct shared *s = r->shared;
    struct row *row = &s->rows[number];
    uint64_t random = number + 88172645463325252ULL, cpu = 0, since = 0;
    uint64_t tick = 0, gap_ns = 0, first = 0;
    bool measured = false;
    if (load->rate > 0) {
        gap_ns = (uint64_t)((double)load->workers * 1e9 / load->rate);
        first = atomic_load_explicit(&s->start_ns, memory_order_acquire) +
                gap_ns * number / load->workers;
    }
    for (;; tick++) {
        uint64_t due = load->rate > 0 ? first + tick * gap_ns : 0;
        if (due != 0)
            sleep_until(due);
        int phase = atomic_load_explicit(&s->phase, memory_order_acquire);
        if (phase == PHASE_STOP)
            break;
        if (phase == PHASE_MEASURE && !measured) {
            measured = true;
            since = clock_ns();
            cpu = own_cpu_ns();
        }
        step(ops, c, load, row, measured, due, &random);
    }
    if (measured) {
        atomic_store(&row->cpu_ns, own_cpu_ns() - cpu);
        atomic_store(&row->active_ns, clock_ns() - since);
    }
}

static int work(void *arg)
{
    const struct worker_arg *w = arg;
    struct shared *s = w->run->shared;
    struct row *row = &s->rows[w->number];
    const struct client_ops *ops = client_ops(w->run->load->contestant);
    /* An open loop wants to be woken when it said. */
    prctl(PR_SET_TIMERSLACK, 1000UL);
    close(w->run->start[1]);
    close(w->run->leave[1]);
    struct client *c = ops->open(w->run->parties, w->run->load, w->number);
    if (c == NULL) {
        atomic_store(&row->reached, -1);
        return 1;
    }
    atomic_store(&row->reached, PHASE_WARM);
    sleep_until_end(w->run->start[0]);
    work_loop(w->run, ops, c, w->number);
    /* The parent looks at memory before it lets us go. */
    atomic_store(&row->reached, PHASE_STOP);
    sleep_until_end(w->run->leave[0]);
    ops->close(c);
    return 0;
}

/* ---- the parent ---- */

/* Waits until all workers have reached a phase. */
static enum err wait_for_workers(struct run *r, int phase, uint64_t deadline_ns,
                                 struct err_text *why)
{
    for (unsigned i = 0; i < r->load->workers; i++) {
        for (;;) {
            int reached = atomic_load(&r->shared->rows[i].reached);
            if (reached >= phase)
                break;
            if (reached < 0 || process_ended(&r->workers[i]))
                return err_say(why, ERR_CLOSED, "a worker of '%s' failed",
                               contestants[r->load->contestant].name);
            if (clock_ns() > deadline_ns)
                return err_say(why, ERR_TIMEOUT, "workers of '%s' stand still",
                               contestants[r->load->contestant].name);
            if (process_pause(1) == ERR_AGAIN)
                return err_say(why, ERR_AGAIN, "interrupted");
        }
    }
    return ERR_OK;
}

static int echo(void *arg)
{
    const struct run *r = arg;
    close(r->start[1]);
    close(r->leave[1]);
    return limit_echo(r->limit);
}

static enum err prepare(struct run *r, struct err_text *why)
{
    unsigned n = r->load->workers;
    r->size = sizeof(struct shared) + n * sizeof(struct row);
    r->workers = calloc(n, sizeof(*r->workers));
    r->args = calloc(n, sizeof(*r->args));
    void *m = mmap(NULL, r->size, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    r->shared = m != MAP_FAILED ? m : NULL;
    if (r->workers == NULL || r->args == NULL || r->shared == NULL ||
        pipe2(r->start, O_CLOEXEC) < 0 || pipe2(r->leave, O_CLOEXEC) < 0)
        return err_say(why, ERR_SYS, "cannot prepare %u workers: %s", n,
                       strerror(errno));
    if (r->load->contestant != LIMIT)
        return ERR_OK;
    enum err e = limit_open(&r->limit, r->load, why);
    limit_current = r->limit;
    return e != ERR_OK
               ? e
               : process_start(
                     &r->echo,
                     &(struct process_spec){
                         .name = "echo", .run = echo, .arg = r, .inherit = -1},
                     why);
}

static enum err start_workers(struct run *r, struct err_text *why)
{
    enum err e = ERR_OK;
    for (unsigned i = 0; e == ERR_OK && i < r->load->workers; i++) {
        r->args[i] = (struct worker_arg){.run = r, .number = i};
        e = process_start(&r->workers[i],
                          &(struct process_spec){.name = "worker",
                                                 .run = work,
                                                 .arg = &r->args[i],
                                                 .inherit = -1},
                          why);
    }
    return e == ERR_OK
               ? wait_for_workers(r, PHASE_WARM, clock_deadline(20000), why)
               : e;
}

static struct process *middle_of(struct run *r)
{
    return r->load->contestant == LIMIT
               ? &r->echo
               : parties_middle(r->parties, r->load->contestant);
}

static void close_end(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static enum err pause_s(double seconds, struct err_text *why)
{
    return process_pause((int)(seconds * 1000)) == ERR_OK
               ? ERR_OK
               : err_say(why, ERR_AGAIN, "interrupted");
}

struct meter {
    uint64_t middle_ns, redis_ns;
};

static struct meter read_meter(struct run *r)
{
    struct process *middle = middle_of(r);
    return (struct meter){.middle_ns =
                              middle != NULL ? process_cpu_ns(middle->pid) : 0,
                          .redis_ns = process_cpu_ns(r->parties->redis.pid)};
}

static void sum_up(struct run *r, const struct meter *before,
                   const struct meter *after, struct figures *out)
{
    uint64_t commands = 0, cpu = 0, errors = 0;
    double rate = 0;
    double *v = out->value;
    struct histogram *all = calloc(1, sizeof(*all));
    for (unsigned i = 0; i < r->load->workers; i++) {
        struct row *row = &r->shared->rows[i];
        uint64_t n = counter_get(&row->commands);
        uint64_t active = counter_get(&row->active_ns);
        commands += n;
        cpu += counter_get(&row->cpu_ns);
        errors += counter_get(&row->errors);
        rate += active > 0 ? (double)n * 1e9 / (double)active : 0;
        if (all != NULL)
            histogram_merge(all, &row->times);
    }
    double n = commands > 0 ? (double)commands : 1;
    v[FIGURE_rate] = rate;
    if (all != NULL) {
        v[FIGURE_p50] = histogram_quantile(all, 0.5) / 1e3;
        v[FIGURE_p99] = histogram_quantile(all, 0.99) / 1e3;
        v[FIGURE_p999] = histogram_quantile(all, 0.999) / 1e3;
    }
    v[FIGURE_cpu_workers] = (double)cpu / 1e3 / n;
    v[FIGURE_cpu_middle] =
        (double)(after->middle_ns - before->middle_ns) / 1e3 / n;
    v[FIGURE_cpu_redis] =
        (double)(after->redis_ns - before->redis_ns) / 1e3 / n;
    v[FIGURE_errors] = (double)errors;
    free(all);
}

static void read_memory(struct run *r, struct figures *out)
{
    struct process *middle = middle_of(r);
    unsigned n = r->load->workers, looked = n < 8 ? n : 8;
    uint64_t pss = 0;
    for (unsigned i = 0; i < looked; i++)
        pss += process_pss_kib(r->workers[i * (n / looked)].pid);
    out->value[FIGURE_mem_worker] = (double)pss / looked;
    out->value[FIGURE_mem_middle] =
        middle != NULL ? (double)process_rss_kib(middle->pid) : 0;
    out->value[FIGURE_mem_redis] =
        (double)process_rss_kib(r->parties->redis.pid);
}

static enum err measure(struct run *r, struct figures *out,
                        struct err_text *why)
{
    struct shared *s = r->shared;
    /* Release: workers that see the phase see the time as well. */
    atomic_store_explicit(&s->start_ns, clock_ns() + NS_PER_MS,
                          memory_order_release);
    atomic_store_explicit(&s->phase, PHASE_WARM, memory_order_release);
    close_end(&r->start[1]);
    enum err e = pause_s(r->load->warmup_s, why);
    if (e != ERR_OK)
        return e;
    struct meter before = read_meter(r);
    atomic_store_explicit(&s->phase, PHASE_MEASURE, memory_order_release);
    e = pause_s(r->load->measure_s, why);
    if (e != ERR_OK)
        return e;
    atomic_store_explicit(&s->phase, PHASE_STOP, memory_order_release);
    struct meter after = read_meter(r);
    e = wait_for_workers(r, PHASE_STOP, clock_deadline(20000), why);
    if (e != ERR_OK)
        return e;
    read_memory(r, out);
    sum_up(r, &before, &after, out);
    return ERR_OK;
}

enum err run_load(struct parties *p, const struct load *load,
                  struct figures *figures, struct err_text *why)
{
    struct run r = {
        .parties = p, .load = load, .start = {-1, -1}, .leave = {-1, -1}};
    *figures = (struct figures){0};
    enum err e = prepare(&r, why);
    if (e == ERR_OK)
        e = start_workers(&r, why);
    if (e == ERR_OK)
        e = measure(&r, figures, why);
    close_end(&r.leave[1]);
    for (unsigned i = 0; e == ERR_OK && i < load->workers; i++)
        if (process_wait(&r.workers[i], clock_deadline(5000)) != ERR_OK)
            break;
    for (unsigned i = 0; r.workers != NULL && i < load->workers; i++)
        process_stop(&r.workers[i], 2000);
    process_stop(&r.echo, 2000);
    limit_close(r.limit);
    close_end(&r.start[0]);
    close_end(&r.start[1]);
    close_end(&r.leave[0]);
    limit_current = NULL;
    if (r.shared != NULL)
        munmap(r.shared, r.size);
    free(r.args);
    free(r.workers);
    return e;
}
