/*
 * A cluster of three masters beside one redis-server: the same workers, each on
 * a channel of one of two managers, in slices of one run that take turns, so
 * that whatever else goes on does so to both. What is compared is commands per
 * second, and the processor time of each kind of process for a command.
 *
 * usage: mqredis-bench-cluster [--rounds N] [--workers N] [--batch N]
 *                              [--slice MS] [--masters N]
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tools/arguments.h"
#include "tools/bench/median.h"
#include "tools/stage.h"
#include "workers/mqredis.h"

#define ROUNDS_MAX 999
#define WORKERS_MAX 256
#define BATCH_MAX 256
#define MASTERS_MAX 8
#define SLOTS 16384
#define KEYS 3000
#define BUS_OFFSET 1

/* One of the two that take turns. */
struct side {
    const char *name, *channel;
    int nodes;
    int port[MASTERS_MAX];
    struct process node[MASTERS_MAX];
    struct process manager;
    struct process worker[WORKERS_MAX];
    struct stage_channel view;
};

enum { SINGLE, CLUSTER, SIDES };

struct bench {
    char dir[PATH_MAX];
    int rounds, workers, batch, slice_ms, masters;
    struct side side[SIDES];
};

/* What went on in a slice: commands per second, and us per command. */
enum figure { RATE, MANAGER_US, WORKERS_US, REDIS_US, FIGURES };

struct slice {
    double value[FIGURES];
};

static const char *const figure_names[FIGURES] = {
    "commands per second", "CPU of the manager, us a command",
    "CPU of all workers, us a command", "CPU of redis-server, us a command"};

static void stop_all(struct bench *b)
{
    for (int s = 0; s < SIDES; s++) {
        struct side *side = &b->side[s];
        for (int i = 0; i < b->workers; i++) {
            if (side->worker[i].pid > 0)
                kill(side->worker[i].pid, SIGCONT);
            process_stop(&side->worker[i], 2000);
        }
        stage_release(&side->view);
        process_stop(&side->manager, 2000);
        for (int i = 0; i < side->nodes; i++)
            process_stop(&side->node[i], 2000);
    }
    stage_folder_remove(b->dir);
}

static void die(struct bench *b, const char *what, const char *why)
{
    fprintf(stderr, "mqredis-bench-cluster: %s: %s\n", what, why);
    stop_all(b);
    exit(EX_UNAVAILABLE);
}

/* ---- redis-server ---- */

static int dial(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* Two neighbours that are free: the second one is for the cluster's bus. Below
 * those which the kernel gives away. */
static int free_pair(struct bench *b)
{
    static int next;
    if (next == 0)
        next = 20000 + (int)(getpid() % 5000) * 2;
    for (int tries = 0; tries < 1000; tries++, next += 2) {
        int fds[2] = {dial(next), dial(next + BUS_OFFSET)};
        for (int i = 0; i < 2; i++)
            if (fds[i] >= 0)
                close(fds[i]);
        if (fds[0] < 0 && fds[1] < 0)
            return (next += 2) - 2;
    }
    die(b, "ports", "none is free");
    return 0;
}

/* An inline command; whether the reply holds the text. */
static bool ask(int port, const char *command, const char *text)
{
    char reply[16384];
    int fd = dial(port);
    if (fd < 0)
        return false;
    ssize_t n = send(fd, command, strlen(command), MSG_NOSIGNAL);
    n = n > 0 ? recv(fd, reply, sizeof(reply) - 1, 0) : 0;
    close(fd);
    reply[n > 0 ? n : 0] = '\0';
    return strstr(reply, text) != NULL;
}

static void wait_for(struct bench *b, int port, const char *command,
                     const char *text)
{
    for (int i = 0; i < 1000; i++) {
        if (ask(port, command, text))
            return;
        if (process_pause(10) != ERR_OK)
            break;
    }
    die(b, "redis-server", "does not answer as it should");
}

static void start_node(struct bench *b, struct side *s, int i, bool cluster)
{
    struct err_text why;
    char port[16], bus[16], dir[PATH_MAX + 32];
    s->port[i] = free_pair(b);
    snprintf(port, sizeof(port), "%d", s->port[i]);
    snprintf(bus, sizeof(bus), "%d", s->port[i] + BUS_OFFSET);
    snprintf(dir, sizeof(dir), "%s/%s%d", b->dir, s->channel, i);
    if (mkdir(dir, 0700) < 0)
        die(b, dir, strerror(errno));
    const char *const argv[] = {"redis-server",
                                "--port",
                                port,
                                "--bind",
                                "127.0.0.1",
                                "--save",
                                "",
                                "--dir",
                                dir,
                                cluster ? "--cluster-enabled" : NULL,
                                "yes",
                                "--cluster-port",
                                bus,
                                "--cluster-node-timeout",
                                "60000",
                                NULL};
    const struct process_spec spec = {
        .name = "redis-server", .argv = argv, .quiet = true, .inherit = -1};
    if (process_start(&s->node[i], &spec, &why) != ERR_OK)
        die(b, "redis-server", why.text);
    wait_for(b, s->port[i], "PING\r\n", "PONG");
    s->nodes = i + 1;
}

static void join_nodes(struct bench *b, const struct side *s)
{
    char command[128];
    for (int i = 0; i < s->nodes; i++) {
        snprintf(command, sizeof(command), "CLUSTER ADDSLOTSRANGE %d %d\r\n",
                 i * SLOTS / s->nodes, (i + 1) * SLOTS / s->nodes - 1);
        wait_for(b, s->port[i], command, "OK");
        snprintf(command, sizeof(command), "CLUSTER SET-CONFIG-EPOCH %d\r\n",
                 i + 1);
        wait_for(b, s->port[i], command, "OK");
    }
    for (int i = 0; i < s->nodes; i++)
        for (int j = i + 1; j < s->nodes; j++) {
            snprintf(command, sizeof(command),
                     "CLUSTER MEET 127.0.0.1 %d %d\r\n", s->port[j],
                     s->port[j] + BUS_OFFSET);
            wait_for(b, s->port[i], command, "OK");
        }
    for (int i = 0; i < s->nodes; i++) {
        wait_for(b, s->port[i], "CLUSTER INFO\r\n", "cluster_slots_ok:16384");
        wait_for(b, s->port[i], "CLUSTER INFO\r\n", "cluster_state:ok");
    }
}

/* ---- workers ---- */

struct job {
    const char *channel;
    int number, batch;
};

/* GETs and SETs, one of three a SET, of a key at random each. */
static bool send_some(struct mqredis *mq, const struct job *job, unsigned *dice)
{
    struct mqredis_request *q[BATCH_MAX];
    bool ok = true;
    for (int i = 0; i < job->batch; i++) {
        int key = rand_r(dice) % KEYS;
        q[i] = rand_r(dice) % 3 == 0
                   ? mqredis_submit(mq, "SET key:%d value:%d", key, key)
                   : mqredis_submit(mq, "GET key:%d", key);
    }
    for (int i = 0; i < job->batch; i++) {
        struct mqredis_reply *r = mqredis_wait(q[i]);
        ok = ok && r->status == MQREDIS_OK && r->type != MQREDIS_ERROR;
        if (!ok)
            fprintf(stderr, "%s\n", r->str);
        mqredis_free(r);
    }
    return ok;
}

static int send_in_a_loop(void *arg)
{
    struct job *job = arg;
    struct mqredis *mq = mqredis_open(job->channel, NULL);
    unsigned dice = (unsigned)job->number;
    if (mq == NULL)
        return 1;
    mqredis_set_timeout(mq, 60000);
    while (send_some(mq, job, &dice))
        ;
    return 1;
}

static void start_side(struct bench *b, struct side *s, const char *uri)
{
    static const char *const extra[] = {"--msgsize", "2048", "--log-level",
                                        "error", NULL};
    struct err_text why;
    char ready[512];
    if (stage_manager(&s->manager, s->channel, uri, extra, ready, sizeof(ready),
                      &why) != ERR_OK ||
        stage_join(&s->view, s->channel, &why) != ERR_OK)
        die(b, "a manager", why.text);
    for (int i = 0; i < b->workers; i++) {
        struct job job = {s->channel, i, b->batch};
        const struct process_spec spec = {.name = "worker",
                                          .inherit = -1,
                                          .run = send_in_a_loop,
                                          .arg = &job};
        if (process_start(&s->worker[i], &spec, &why) != ERR_OK)
            die(b, "a worker", why.text);
    }
}

static void start(struct bench *b)
{
    struct err_text why;
    char uri[512];
    if (process_setup(&why) != ERR_OK ||
        stage_folder_make(b->dir, "mqredis-bench", &why) != ERR_OK) {
        fprintf(stderr, "mqredis-bench-cluster: %s\n", why.text);
        exit(EX_OSERR);
    }
    struct side *one = &b->side[SINGLE], *all = &b->side[CLUSTER];
    *one = (struct side){.name = "one server", .channel = "single"};
    *all = (struct side){.name = "cluster", .channel = "cluster"};
    start_node(b, one, 0, false);
    for (int i = 0; i < b->masters; i++)
        start_node(b, all, i, true);
    join_nodes(b, all);
    snprintf(uri, sizeof(uri), "redis://127.0.0.1:%d", one->port[0]);
    start_side(b, one, uri);
    int n = snprintf(uri, sizeof(uri), "cluster://");
    for (int i = 0; i < all->nodes; i++)
        n += snprintf(uri + n, sizeof(uri) - (size_t)n, "%s127.0.0.1:%d",
                      i > 0 ? "," : "", all->port[i]);
    start_side(b, all, uri);
    if (process_pause(500) != ERR_OK)
        die(b, "starting", "interrupted");
}

/* ---- slices ---- */

static double cpu_us(const struct process *p, int count)
{
    double sum = 0;
    for (int i = 0; i < count; i++) {
        clockid_t clock;
        struct timespec t = {0};
        if (clock_getcpuclockid(p[i].pid, &clock) == 0)
            clock_gettime(clock, &t);
        sum += (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
    }
    return sum;
}

static void note(const struct bench *b, const struct side *s,
                 double now[FIGURES])
{
    now[RATE] =
        (double)counter_get(&s->view.status->counters[COUNTER_answered]);
    now[MANAGER_US] = cpu_us(&s->manager, 1);
    now[WORKERS_US] = cpu_us(s->worker, b->workers);
    now[REDIS_US] = cpu_us(s->node, s->nodes);
}

static void let_run(const struct bench *b, int which)
{
    for (int s = 0; s < SIDES; s++)
        for (int i = 0; i < b->workers; i++)
            kill(b->side[s].worker[i].pid, s == which ? SIGCONT : SIGSTOP);
}

static struct slice measure(struct bench *b, int which)
{
    struct side *s = &b->side[which];
    struct slice slice;
    double before[FIGURES], after[FIGURES];
    let_run(b, which);
    if (process_pause(b->slice_ms / 5) != ERR_OK)
        die(b, "measuring", "interrupted");
    uint64_t begin = clock_ns();
    note(b, s, before);
    if (process_pause(b->slice_ms) != ERR_OK)
        die(b, "measuring", "interrupted");
    note(b, s, after);
    double us = (double)(clock_ns() - begin) / 1e3;
    double commands = after[RATE] - before[RATE];
    for (int i = 0; i < b->workers; i++)
        if (process_ended(&s->worker[i]))
            die(b, "a worker", "ended");
    if (commands == 0)
        die(b, "measuring", "nothing is answered");
    slice.value[RATE] = commands / us * 1e6;
    for (int f = MANAGER_US; f < FIGURES; f++)
        slice.value[f] = (after[f] - before[f]) / commands;
    return slice;
}

static void run(struct bench *b)
{
    static struct slice got[SIDES][ROUNDS_MAX];
    double list[ROUNDS_MAX] = {0}, mid[SIDES];
    for (int r = 0; r < b->rounds; r++)
        for (int i = 0; i < SIDES; i++) {
            int which = (r + i) % SIDES;
            got[which][r] = measure(b, which);
        }
    printf("%d workers, %d commands at once, %d masters against one server, "
           "%d rounds of two slices of %d ms; medians, and the quarters of the "
           "rounds' ratios:\n",
           b->workers, b->batch, b->masters, b->rounds, b->slice_ms);
    printf("%-36s %12s %12s %8s\n", "", "one server", "cluster", "ratio");
    for (int f = 0; f < FIGURES; f++) {
        for (int s = 0; s < SIDES; s++) {
            for (int r = 0; r < b->rounds; r++)
                list[r] = got[s][r].value[f];
            mid[s] = median(list, (size_t)b->rounds);
        }
        for (int r = 0; r < b->rounds; r++)
            list[r] = got[CLUSTER][r].value[f] / got[SINGLE][r].value[f];
        double ratio = median(list, (size_t)b->rounds);
        printf("%-36s %12.*f %12.*f %8.2f (%.2f..%.2f)%s\n", figure_names[f],
               f == RATE ? 0 : 2, mid[SINGLE], f == RATE ? 0 : 2, mid[CLUSTER],
               ratio, list[b->rounds / 4], list[b->rounds - 1 - b->rounds / 4],
               f == MANAGER_US ? " goal: 1.3 at most" : "");
    }
}

int main(int argc, char **argv)
{
    static struct bench b = {
        .rounds = 30, .workers = 16, .batch = 1, .slice_ms = 300, .masters = 3};
    const struct argument options[] = {
        {"--rounds", &b.rounds, 1, ROUNDS_MAX, NULL},
        {"--workers", &b.workers, 1, WORKERS_MAX, NULL},
        {"--batch", &b.batch, 1, BATCH_MAX, NULL},
        {"--slice", &b.slice_ms, 10, 60000, NULL},
        {"--masters", &b.masters, 1, MASTERS_MAX, NULL}};
    if (!arguments_take("mqredis-bench-cluster", options,
                        sizeof(options) / sizeof(options[0]), argc, argv))
        return EX_USAGE;
    start(&b);
    run(&b);
    stop_all(&b);
    return 0;
}
