/* Starting the processes of a round. */
#include "tests/chaos/world.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/chaos/cluster.h"
#include "tests/support.h"

#define ARGS 48
#define SLEEPER_MS 4

pid_t world_fork(void)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        ck_abort_msg("cannot fork: %s", strerror(errno));
    return pid;
}

/* Runs argv with its output in the round's log. It dies with us. */
static pid_t spawn(struct world *w, const char *const argv[])
{
    char program[512], path[256];
    snprintf(program, sizeof(program), "%s/%s", support_build(), argv[0]);
    if (access(program, X_OK) != 0)
        snprintf(program, sizeof(program), "%s", argv[0]);
    snprintf(path, sizeof(path), "%s/log", w->dir);
    pid_t parent = getpid(), pid = world_fork();
    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_DFL);
    /* A group of its own: what it forked is killed with it. */
    setpgid(0, 0);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (getppid() != parent || dup2(null, 0) < 0 || dup2(log, 1) < 0 ||
        dup2(log, 2) < 0)
        _exit(126);
    execvp(program, (char *const *)(uintptr_t)argv);
    dprintf(2, "cannot run %s: %s\n", program, strerror(errno));
    _exit(127);
}

/* ---- Redis ---- */

static pid_t spawn_embedded(struct world *w)
{
    const char *const argv[] = {"mqredis-server", "--port",           "0",
                                "--unixsocket",   w->servers[0].path, NULL};
    return spawn(w, argv);
}

static pid_t spawn_durable(struct world *w)
{
    const char *program = getenv("REDIS_SERVER");
    char port[16], cert[200], key[200], ca[200];
    const char *argv[ARGS] = {program != NULL ? program : "redis-server",
                              "--port",
                              "0",
                              "--unixsocket",
                              w->servers[0].path,
                              "--dir",
                              w->dir,
                              "--save",
                              "",
                              "--appendonly",
                              "yes",
                              "--appendfsync",
                              "always"};
    if (w->tls) {
        const char *dir = w->plan->tls_dir;
        snprintf(port, sizeof(port), "%d", w->tls_port);
        snprintf(cert, sizeof(cert), "%s/server.crt", dir);
        snprintf(key, sizeof(key), "%s/server.key", dir);
        snprintf(ca, sizeof(ca), "%s/ca.crt", dir);
        const char *const more[] = {"--bind",
                                    "127.0.0.1",
                                    "--tls-port",
                                    port,
                                    "--tls-cert-file",
                                    cert,
                                    "--tls-key-file",
                                    key,
                                    "--tls-ca-cert-file",
                                    ca,
                                    "--tls-auth-clients",
                                    "no"};
        memcpy(&argv[13], more, sizeof(more));
    }
    return spawn(w, argv);
}

void world_start_redis(struct world *w, struct server *s)
{
    unlink(s->path);
    if (w->plan->cluster)
        s->player.pid = cluster_start_node(w, s);
    else
        s->player.pid = w->plan->durable ? spawn_durable(w) : spawn_embedded(w);
    s->back_ns = 0;
    world_note(w, "redis %ld starts", (long)s->player.pid);
}

void world_kill_redis(struct world *w, struct server *s, int ms)
{
    if (s->player.pid == 0)
        return;
    /* A child that rewrites the log of an old server must not outlive it. */
    kill(w->plan->cluster ? s->player.pid : -s->player.pid, SIGKILL);
    waitpid(s->player.pid, NULL, 0);
    s->player = (struct player){0};
    s->back_ns = clock_deadline(ms);
}

/* ---- managers ---- */

bool world_start_manager(struct world *w, bool takeover)
{
    struct manager *m = w->managers;
    char ca[200];
    while (m < w->managers + WORLD_MANAGERS && m->player.pid != 0)
        m++;
    if (m == w->managers + WORLD_MANAGERS)
        return false;
    const char *argv[ARGS] = {"mqredis-manager",
                              "--channel",
                              w->channel,
                              "--redis",
                              w->uri,
                              "--msgsize",
                              "1024",
                              "--reconnect-max",
                              "300",
                              "--connect-timeout",
                              "1000",
                              "--silence-timeout",
                              "3000",
                              "--drain-timeout",
                              "3000"};
    size_t n = 15;
    for (size_t i = 0; w->options[i][0] != '\0'; i++)
        argv[n++] = w->options[i];
    if (w->tls) {
        snprintf(ca, sizeof(ca), "%s/ca.crt", w->plan->tls_dir);
        argv[n++] = "--tls-ca";
        argv[n++] = ca;
    }
    if (takeover)
        argv[n++] = "--takeover";
    *m = (struct manager){.takeover = takeover};
    m->player = (struct player){.born_ns = clock_ns(), .pid = spawn(w, argv)};
    w->manager_back_ns = 0;
    w->replaced |= takeover;
    world_note(w, "manager %ld starts%s", (long)m->player.pid,
               takeover ? " to take over" : "");
    return true;
}

/* ---- workers ---- */

void world_start_worker(struct world *w, struct seat *seat)
{
    if (w->history_count == WORLD_HISTORIES)
        return;
    unsigned id = w->history_count++;
    if (w->office != NULL) {
        unsigned number = (unsigned)(seat - w->seats);
        w->office->worker[number] = id;
        if (w->office->workers <= number)
            w->office->workers = number + 1;
    }
    seat->history = &w->histories[id];
    memset(seat->history, 0, sizeof(*seat->history));
    seat->history->id = id;
    struct worker_task task = {.channel = w->channel,
                               .history = seat->history,
                               .seed = dice_next(&w->dice),
                               .role = seat->role,
                               .gentle = w->plan->gentle,
                               .cluster = w->plan->cluster,
                               .orders = w->orders};
    pid_t parent = getpid();
    seat->player = (struct player){.born_ns = clock_ns(), .pid = world_fork()};
    seat->player.stops = &seat->history->stops;
    if (seat->player.pid != 0)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent)
        worker_live(&task);
    _exit(0);
}

/* ---- the machine ---- */

struct sleeper {
    unsigned cpu;
    _Atomic uint64_t *noise_ns;
};

/* A fresh page, and a byte through a pipe: a machine that is short of memory
 * lets those wait who take some, and nobody else. */
static void work_a_little(const int ends[2])
{
    char byte = 0;
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page != MAP_FAILED) {
        *(volatile char *)page = 1;
        munmap(page, 4096);
    }
    if (write(ends[1], &byte, 1) == 1)
        (void)!read(ends[0], &byte, 1);
}

/* On one processor: a virtual one may stand still while its neighbours run. */
static void sleep_only(void *arg)
{
    const struct sleeper *s = arg;
    _Atomic uint64_t *noise_ns = s->noise_ns;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(s->cpu, &one);
    (void)sched_setaffinity(0, sizeof(one), &one);
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        _exit(1);
    for (;;) {
        uint64_t t0 = clock_ns();
        support_sleep_ms(SLEEPER_MS);
        work_a_little(ends);
        uint64_t over = clock_ns() - t0 - SLEEPER_MS * NS_PER_MS;
        if (over > *noise_ns)
            *noise_ns = over;
    }
}

void world_start_sleepers(struct world *w)
{
    w->noise_ns = support_shared(sizeof(*w->noise_ns));
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0)
        CPU_ZERO(&allowed);
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        struct sleeper s = {.cpu = cpu, .noise_ns = w->noise_ns};
        if (CPU_ISSET(cpu, &allowed) && w->sleeper_count < WORLD_SLEEPERS)
            w->sleepers[w->sleeper_count++] = support_fork(sleep_only, &s);
    }
}
