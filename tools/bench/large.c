/*
 * Large values through the channel beside direct unix-socket connections of
 * hiredis to the same server, in alternating rounds of one run: what a
 * neighbour on this machine does to a round, it does to both.
 *
 * usage: mqredis-bench-large [--rounds N] [--server PROGRAM]
 */
#include <assert.h>
#include <errno.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tools/arguments.h"
#include "tools/bench/median.h"
#include "tools/stage.h"
#include "workers/mqredis.h"

#define MIB ((size_t)1 << 20)
#define BIG (100 * MIB)
#define ROUNDS_MAX 99
#define CHANNEL "bench"

/* What is measured in a round: ours, and what it is compared with. */
struct pair {
    double direct, ours;
};

struct bench {
    char dir[PATH_MAX];
    char socket[108];
    int rounds;
    const char *server_program;
    struct process server, manager;
    redisContext *direct;
    struct mqredis *mq;
};

/* The process that reads 100 MB in a loop. */
struct reader {
    const struct bench *b;
    bool direct;
    _Atomic int *reads;
};

static void die(struct bench *b, const char *what, const char *why)
{
    fprintf(stderr, "mqredis-bench-large: %s: %s\n", what, why);
    process_stop(&b->manager, 2000);
    process_stop(&b->server, 2000);
    stage_folder_remove(b->dir);
    exit(EX_UNAVAILABLE);
}

/* ---- one command ---- */

static bool direct_ok(redisContext *c, redisReply *r, size_t len)
{
    bool ok = c->err == 0 && r != NULL && r->type != REDIS_REPLY_ERROR &&
              (len == 0 || r->len == len);
    if (r != NULL)
        freeReplyObject(r);
    return ok;
}

static bool ours_ok(struct mqredis_reply *r, size_t len)
{
    bool ok = r->status == MQREDIS_OK && r->type != MQREDIS_ERROR &&
              (len == 0 || r->len == len);
    if (!ok)
        fprintf(stderr, "%s\n", r->str != NULL ? r->str : "");
    mqredis_free(r);
    return ok;
}

static void set_direct(struct bench *b, const char *key, const char *data,
                       size_t len)
{
    if (!direct_ok(b->direct,
                   redisCommand(b->direct, "SET %s %b", key, data, len), 0))
        die(b, "SET", "direct: failed");
}

static void get_direct(struct bench *b, const char *key, size_t len)
{
    if (!direct_ok(b->direct, redisCommand(b->direct, "GET %s", key), len))
        die(b, "GET", "direct: failed");
}

static void set_ours(struct bench *b, const char *key, const char *data,
                     size_t len)
{
    if (!ours_ok(mqredis_set(b->mq, key, data, len), 0))
        die(b, "SET", "through the channel: failed");
}

static void get_ours(struct bench *b, const char *key, size_t len)
{
    if (!ours_ok(mqredis_get(b->mq, key), len))
        die(b, "GET", "through the channel: failed");
}

/* ---- figures ---- */

/* Prints medians; the ratio is the median of the rounds' own. */
static void print_pairs(const char *what, const char *other,
                        const struct pair *list, int n, const char *goal)
{
    double direct[ROUNDS_MAX], ours[ROUNDS_MAX], ratio[ROUNDS_MAX];
    assert(n > 0); /* main saw to that */
    for (int i = 0; i < n; i++) {
        direct[i] = list[i].direct;
        ours[i] = list[i].ours;
        ratio[i] = list[i].ours / list[i].direct;
    }
    double middle = median(ratio, (size_t)n);
    printf("%-34s %6s %8.0f us   ours %8.0f us   time x%.2f "
           "(%.2f..%.2f), speed x%.2f%s\n",
           what, other, median(direct, (size_t)n), median(ours, (size_t)n),
           middle, ratio[0], ratio[n - 1], 1 / middle, goal);
    fflush(stdout);
}

static double us_since(uint64_t begin, int n)
{
    return (double)(clock_ns() - begin) / 1000.0 / n;
}

/* ---- throughput of one worker ---- */

static void throughput(struct bench *b, size_t len, int count,
                       const char *set_goal, const char *get_goal)
{
    struct pair set[ROUNDS_MAX], get[ROUNDS_MAX];
    char what[64];
    char *data = malloc(len);
    if (data == NULL)
        die(b, "a value", strerror(errno));
    memset(data, 'x', len);
    set_direct(b, "k", data, len);
    set_ours(b, "k", data, len);
    for (int r = 0; r < b->rounds; r++) {
        uint64_t t = clock_ns();
        for (int i = 0; i < count; i++)
            set_direct(b, "k", data, len);
        set[r].direct = us_since(t, count);
        t = clock_ns();
        for (int i = 0; i < count; i++)
            set_ours(b, "k", data, len);
        set[r].ours = us_since(t, count);
        t = clock_ns();
        for (int i = 0; i < count; i++)
            get_direct(b, "k", len);
        get[r].direct = us_since(t, count);
        t = clock_ns();
        for (int i = 0; i < count; i++)
            get_ours(b, "k", len);
        get[r].ours = us_since(t, count);
    }
    free(data);
    snprintf(what, sizeof(what), "SET of %zu bytes", len);
    print_pairs(what, "direct", set, b->rounds, set_goal);
    snprintf(what, sizeof(what), "GET of %zu bytes", len);
    print_pairs(what, "direct", get, b->rounds, get_goal);
}

/* ---- small ones next to large ones ---- */

static int read_in_a_loop(void *arg)
{
    struct reader *me = arg;
    struct bench b = *me->b;
    b.direct = redisConnectUnix(b.socket);
    b.mq = mqredis_open(CHANNEL, NULL);
    if (b.direct == NULL || b.direct->err != 0 || b.mq == NULL)
        return 1;
    mqredis_set_timeout(b.mq, 60000);
    for (;; *me->reads += 1) {
        bool ok = me->direct ? direct_ok(b.direct,
                                         redisCommand(b.direct, "GET big"), BIG)
                             : ours_ok(mqredis_get(b.mq, "big"), BIG);
        if (!ok)
            return 1;
    }
}

static void start_reader(struct bench *b, struct process *p, struct reader *me)
{
    struct err_text why;
    const struct process_spec spec = {
        .name = "reader", .inherit = -1, .run = read_in_a_loop, .arg = me};
    *me->reads = 0;
    if (process_start(p, &spec, &why) != ERR_OK)
        die(b, "reader", why.text);
    for (int i = 0; i < 5000 && *me->reads == 0; i++)
        if (process_pause(2) != ERR_OK || process_ended(p))
            die(b, "reader", "does not read");
}

/* p99 of small GETs, one due in every millisecond of SMALL_COUNT, in us from
 * when it was due: a pause counts for all that came due in it, as it does for
 * workers that do not wait for one another. */
#define SMALL_COUNT 1500

static double small_p99(struct bench *b, bool direct)
{
    static double times[SMALL_COUNT];
    uint64_t due = clock_ns();
    for (int n = 0; n < SMALL_COUNT; n++, due += NS_PER_MS) {
        struct timespec at = {.tv_sec = (time_t)(due / NS_PER_S),
                              .tv_nsec = (long)(due % NS_PER_S)};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) ==
               EINTR)
            ;
        if (direct)
            get_direct(b, "small", 5);
        else
            get_ours(b, "small", 5);
        times[n] = (double)(clock_ns() - due) / 1000.0;
    }
    figures_sort(times, SMALL_COUNT);
    return times[(int)(0.99 * (SMALL_COUNT - 1))];
}

static void neighbours(struct bench *b)
{
    struct pair busy[ROUNDS_MAX], stopped[ROUNDS_MAX];
    char *data = calloc(1, BIG);
    if (data == NULL)
        die(b, "a value", strerror(errno));
    set_direct(b, "big", data, BIG);
    free(data);
    set_direct(b, "small", "value", 5);
    _Atomic int *reads = mmap(NULL, sizeof(*reads), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (reads == MAP_FAILED)
        die(b, "shared memory", strerror(errno));
    for (int r = 0; r < b->rounds; r++) {
        stopped[r].direct = small_p99(b, false);
        for (int i = 0; i < 2; i++) {
            bool direct = (r + i) % 2 == 0;
            struct process p;
            struct reader me = {.b = b, .direct = direct, .reads = reads};
            start_reader(b, &p, &me);
            double us = small_p99(b, direct);
            *(direct ? &busy[r].direct : &busy[r].ours) = us;
            kill(p.pid, SIGSTOP);
            if (!direct)
                stopped[r].ours = small_p99(b, false);
            kill(p.pid, SIGKILL);
            process_stop(&p, 2000);
        }
    }
    print_pairs("p99 of GET next to 100 MB reads", "direct", busy, b->rounds,
                " (goal: time x1.5)");
    print_pairs("p99 of GET, such a reader stopped", "alone", stopped,
                b->rounds, " (goal: time x1.5)");
}

/* ---- setting up ---- */

static void start(struct bench *b)
{
    struct err_text why;
    char ready[512], uri[160];
    if (process_setup(&why) != ERR_OK ||
        stage_folder_make(b->dir, "mqredis-bench", &why) != ERR_OK) {
        fprintf(stderr, "mqredis-bench-large: %s\n", why.text);
        exit(EX_OSERR);
    }
    int n = snprintf(b->socket, sizeof(b->socket), "%.90s/redis", b->dir);
    if (n >= (int)sizeof(b->socket))
        die(b, b->dir, "the path is too long");
    const char *const argv[] = {b->server_program,
                                "--port",
                                "0",
                                "--unixsocket",
                                b->socket,
                                "--save",
                                "",
                                "--dir",
                                "/",
                                NULL};
    const struct process_spec spec = {
        .name = "redis", .argv = argv, .quiet = true, .inherit = -1};
    if (process_start(&b->server, &spec, &why) != ERR_OK)
        die(b, "the server", why.text);
    for (int i = 0; i < 500; i++) {
        b->direct = redisConnectUnix(b->socket);
        if (b->direct != NULL && b->direct->err == 0)
            break;
        redisFree(b->direct);
        b->direct = NULL;
        if (process_pause(10) != ERR_OK)
            die(b, "the server", "interrupted");
    }
    if (b->direct == NULL)
        die(b, "the server", "does not answer");
    snprintf(uri, sizeof(uri), "unix://%s", b->socket);
    static const char *const extra[] = {"--msgsize", "1024", "--log-level",
                                        "error", NULL};
    if (stage_manager(&b->manager, CHANNEL, uri, extra, ready, sizeof(ready),
                      &why) != ERR_OK)
        die(b, "the manager", why.text);
    b->mq = mqredis_open(CHANNEL, NULL);
    if (b->mq == NULL)
        die(b, "the channel", "cannot be opened");
    mqredis_set_timeout(b->mq, 60000);
}

int main(int argc, char **argv)
{
    static struct bench b = {.rounds = 5, .server_program = "redis-server"};
    const struct argument options[] = {
        {.name = "--rounds", .number = &b.rounds, .low = 1, .high = ROUNDS_MAX},
        {.name = "--server", .word = &b.server_program}};
    if (!arguments_take("mqredis-bench-large", options, 2, argc, argv))
        return EX_USAGE;
    start(&b);
    throughput(&b, (size_t)64 * 1024, 1000, "", "");
    throughput(&b, MIB, 200, " (goal: speed x0.7)", " (goal: speed x0.8)");
    throughput(&b, 16 * MIB, 10, "", "");
    neighbours(&b);
    mqredis_close(b.mq);
    redisFree(b.direct);
    process_stop(&b.manager, 5000);
    process_stop(&b.server, 5000);
    stage_folder_remove(b.dir);
    return EXIT_SUCCESS;
}
