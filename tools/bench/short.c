/*
 * Short-lived processes: a program that does one GET, timed from its start
 * (posix_spawn) to its end. What a shell script, a cron job or a CGI program
 * pays. Plain, with a password, and with TLS.
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/histogram.h"
#include "tools/bench/bench.h"
#include "tools/stage.h"

#define PASSWORD "bench-password"
#define RUNS_IN_TURN 10
#define ARGS_MAX 16

struct program {
    const char *name;
    char path[PATH_MAX];
    const char *argv[ARGS_MAX];
    struct histogram times;
    uint64_t cpu_us;
    unsigned runs;
};

/* A server and, in front of it, a manager: one kind of security. */
struct corner {
    const char *security;
    const char *channel;
    int port;
    struct process redis, manager;
    char cert[PATH_MAX], key[PATH_MAX];
    bool tls;
};

/* ---- one process ---- */

static enum err run_once(struct program *p, struct err_text *why)
{
    posix_spawn_file_actions_t actions;
    struct rusage usage;
    int status = 0;
    pid_t pid;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null",
                                     O_WRONLY, 0);
    uint64_t start = clock_ns();
    /* posix_spawn(3) changes nothing in argv. */
    int code = posix_spawn(&pid, p->path, &actions, NULL,
                           (char *const *)(uintptr_t)p->argv, environ);
    if (code == 0)
        while (wait4(pid, &status, 0, &usage) < 0 && errno == EINTR)
            ;
    uint64_t end = clock_ns();
    posix_spawn_file_actions_destroy(&actions);
    if (code != 0 || status != 0)
        return err_say(why, ERR_SYS, "%s: %s %d", p->name,
                       code != 0 ? strerror(code) : "ended with status",
                       code != 0 ? code : WEXITSTATUS(status));
    histogram_add(&p->times, end - start);
    p->cpu_us +=
        (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
        (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
    p->runs++;
    return ERR_OK;
}

/* ---- the corners ---- */

static enum err make_certificate(struct parties *p, struct corner *c,
                                 struct err_text *why)
{
    struct process openssl;
    snprintf(c->cert, sizeof(c->cert), "%.4000s/cert.pem", p->dir);
    snprintf(c->key, sizeof(c->key), "%.4000s/key.pem", p->dir);
    const char *argv[] = {"openssl",
                          "req",
                          "-x509",
                          "-newkey",
                          "ec",
                          "-pkeyopt",
                          "ec_paramgen_curve:prime256v1",
                          "-nodes",
                          "-days",
                          "1",
                          "-subj",
                          "/CN=127.0.0.1",
                          "-addext",
                          "subjectAltName=IP:127.0.0.1",
                          "-keyout",
                          c->key,
                          "-out",
                          c->cert,
                          NULL};
    enum err e = process_start(
        &openssl,
        &(struct process_spec){
            .name = "openssl", .argv = argv, .quiet = true, .inherit = -1},
        why);
    if (e == ERR_OK)
        e = process_wait(&openssl, clock_deadline(20000));
    bool ok = e == ERR_OK && process_ok(&openssl);
    process_stop(&openssl, 1000);
    return ok ? ERR_OK : err_say(why, ERR_SYS, "openssl made no certificate");
}

static enum err start_server(struct parties *p, struct corner *c,
                             struct err_text *why)
{
    char port[16];
    const char *argv[24] = {find_program("redis-server"), "--save", "", "--dir",
                            p->dir};
    size_t n = 5;
    c->port = free_port();
    snprintf(port, sizeof(port), "%d", c->port);
    if (c->tls) {
        const char *tls[] = {"--port",
                             "0",
                             "--tls-port",
                             port,
                             "--tls-cert-file",
                             c->cert,
                             "--tls-key-file",
                             c->key,
                             "--tls-ca-cert-file",
                             c->cert,
                             "--tls-auth-clients",
                             "no"};
        for (size_t i = 0; i < sizeof(tls) / sizeof(tls[0]); i++)
            argv[n++] = tls[i];
    } else {
        argv[n++] = "--port";
        argv[n++] = port;
        argv[n++] = "--requirepass";
        argv[n++] = PASSWORD;
    }
    enum err e = process_start(
        &c->redis,
        &(struct process_spec){
            .name = "redis-server", .argv = argv, .quiet = true, .inherit = -1},
        why);
    return e == ERR_OK ? wait_for_port(c->port, &c->redis, why) : e;
}

static enum err open_corner(struct parties *p, struct corner *c,
                            struct err_text *why)
{
    char uri[160], ready[1024];
    const char *extra[] = {"--msgsize", "1024", c->tls ? "--tls-ca" : NULL,
                           c->cert, NULL};
    if (c->security[0] == '\0') { /* the benchmark's own server and manager */
        c->port = p->redis_port;
        return ERR_OK;
    }
    enum err e = c->tls ? make_certificate(p, c, why) : ERR_OK;
    if (e == ERR_OK)
        e = start_server(p, c, why);
    snprintf(uri, sizeof(uri), "%s127.0.0.1:%d",
             c->tls ? "rediss://" : "redis://:" PASSWORD "@", c->port);
    if (e == ERR_OK)
        e = stage_manager(&c->manager, c->channel, uri, extra, ready,
                          sizeof(ready), why);
    return e;
}

/* ---- the programs ---- */

static void set_args(struct program *p, const char *name,
                     const char *const *args)
{
    size_t n = 0;
    memset(p, 0, sizeof(*p));
    p->name = name;
    p->argv[n++] = name;
    for (; *args != NULL && n < ARGS_MAX - 1; args++)
        p->argv[n++] = *args;
}

/* Fills in what can take part. How many: the worker is always the first. */
static size_t choose_programs(const struct corner *c, struct program *programs,
                              char *port, size_t size, struct err_text *why)
{
    size_t n = 0;
    struct err_text none;
    bool auth = !c->tls && c->security[0] != '\0';
    snprintf(port, size, "%d", c->port);
    set_args(&programs[n], "mqredis-worker",
             (const char *[]){"--channel", c->channel, "GET", "short", NULL});
    if (process_sibling(programs[n].path, PATH_MAX, "mqredis-worker", why) !=
        ERR_OK)
        return 0;
    n++;
    const char *cli = find_program("redis-cli");
    if (cli != NULL) {
        const char *plain[] = {"-p", port, "GET", "short", NULL};
        const char *with_auth[] = {"-p",    port,     "--no-auth-warning",
                                   "-a",    PASSWORD, "GET",
                                   "short", NULL};
        const char *with_tls[] = {"-p",    port,  "--tls", "--cacert",
                                  c->cert, "GET", "short", NULL};
        set_args(&programs[n], "redis-cli",
                 c->tls ? with_tls
                 : auth ? with_auth
                        : plain);
        snprintf(programs[n++].path, PATH_MAX, "%s", cli);
    }
    const char *get[] = {port, "short", auth ? PASSWORD : NULL, NULL};
    set_args(&programs[n], "hiredis program", get);
    if (!c->tls && process_sibling(programs[n].path, PATH_MAX,
                                   "mqredis-bench-get", &none) == ERR_OK)
        n++;
    return n;
}

static enum err set_key(const struct program *worker, struct err_text *why)
{
    struct program set;
    set_args(&set, worker->name,
             (const char *[]){worker->argv[1], worker->argv[2], "SET", "short",
                              "0123456789abcdef", NULL});
    snprintf(set.path, sizeof(set.path), "%s", worker->path);
    return run_once(&set, why);
}

static void add_result(struct short_results *out, const struct corner *c,
                       const struct program *p)
{
    if (out->count == SHORT_RESULTS_MAX || p->runs == 0)
        return;
    out->rows[out->count++] = (struct short_result){
        .program = p->name,
        .security = c->security,
        .runs = p->runs,
        .p50_us = histogram_quantile(&p->times, 0.5) / 1e3,
        .p99_us = histogram_quantile(&p->times, 0.99) / 1e3,
        .mean_us = (double)counter_get(&p->times.sum_ns) / 1e3 / p->runs,
        .cpu_us = (double)p->cpu_us / p->runs};
}

static enum err run_corner(struct corner *c, unsigned runs,
                           struct short_results *out, struct err_text *why)
{
    char port[16];
    struct program *programs = calloc(3, sizeof(*programs));
    if (programs == NULL)
        return err_say(why, ERR_NOMEM, "out of memory");
    size_t n = choose_programs(c, programs, port, sizeof(port), why);
    enum err e = n == 0 ? ERR_ABSENT : set_key(&programs[0], why);
    for (unsigned done = 0; e == ERR_OK && done < runs; done += RUNS_IN_TURN)
        for (size_t i = 0; e == ERR_OK && i < n; i++)
            for (unsigned k = 0; e == ERR_OK && k < RUNS_IN_TURN; k++) {
                e = run_once(&programs[i], why);
                if (process_interrupted() != 0)
                    e = err_say(why, ERR_AGAIN, "interrupted");
            }
    for (size_t i = 0; e == ERR_OK && i < n; i++)
        add_result(out, c, &programs[i]);
    free(programs);
    return e;
}

enum err run_short(struct parties *p, unsigned runs, struct short_results *out,
                   struct err_text *why)
{
    struct corner *corners = calloc(3, sizeof(*corners));
    enum err e = ERR_OK;
    if (corners == NULL)
        return err_say(why, ERR_NOMEM, "out of memory");
    corners[0].security = "";
    corners[0].channel = "bench-tcp";
    corners[1].security = "password";
    corners[1].channel = "bench-auth";
    corners[2].security = "TLS";
    corners[2].channel = "bench-tls";
    corners[2].tls = true;
    for (int i = 0; i < 3 && e != ERR_AGAIN; i++) {
        struct corner *c = &corners[i];
        struct err_text here = {{0}};
        e = open_corner(p, c, &here);
        if (e == ERR_OK)
            e = run_corner(c, runs, out, &here);
        process_stop(&c->manager, 5000);
        process_stop(&c->redis, 5000);
        if (e == ERR_AGAIN)
            err_say(why, e, "%s", here.text);
        else if (e != ERR_OK) {
            size_t at = strlen(out->notes);
            snprintf(out->notes + at, sizeof(out->notes) - at,
                     "%sleft out%s%s: %s", at > 0 ? "; " : "",
                     c->security[0] != '\0' ? " with " : "", c->security,
                     here.text);
        }
    }
    free(corners);
    return e == ERR_AGAIN ? e : ERR_OK;
}
