/* Starting, reaping and bringing back; one turn every few milliseconds. */
#include "tests/chaos/world.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/chaos/worker.h"
#include "tests/support.h"

#define TURN_MS 4
/* A manager that was told to end: what it took, and its drain timeout. */
#define MANAGER_END_MS 15000

void world_accuse(struct world *w, const char *fmt, ...)
{
    va_list ap;
    w->violations++;
    printf("VIOLATION: ");
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
    fflush(stdout);
}

void world_note(struct world *w, const char *fmt, ...)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/log", w->dir);
    FILE *f = fopen(path, "ae");
    if (f == NULL)
        return;
    va_list ap;
    fprintf(f, "%10.3f chaos: ", (double)clock_ns() / 1e9);
    va_start(ap, fmt);
    vfprintf(f, fmt, ap);
    va_end(ap);
    fprintf(f, "\n");
    fclose(f);
}

/* ---- programs ---- */

/* A pid of -1 would later be everybody's. */
static pid_t fork_one(void)
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
    const char *build = getenv("MQREDIS_BUILD");
    snprintf(program, sizeof(program), "%s/%s", build != NULL ? build : "build",
             argv[0]);
    if (access(program, X_OK) != 0)
        snprintf(program, sizeof(program), "%s", argv[0]);
    snprintf(path, sizeof(path), "%s/log", w->dir);
    pid_t parent = getpid(), pid = fork_one();
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

static void start_redis(struct world *w)
{
    const char *program = getenv("REDIS_SERVER");
    const char *const durable[] = {program != NULL ? program : "redis-server",
                                   "--port",
                                   "0",
                                   "--unixsocket",
                                   w->redis_path,
                                   "--dir",
                                   w->dir,
                                   "--save",
                                   "",
                                   "--appendonly",
                                   "yes",
                                   "--appendfsync",
                                   "always",
                                   NULL};
    const char *const embedded[] = {"mqredis-server", "--port",      "0",
                                    "--unixsocket",   w->redis_path, NULL};
    unlink(w->redis_path);
    w->redis = (struct player){
        .pid = spawn(w, w->durable ? durable : embedded),
    };
    w->redis_back_ns = 0;
    world_note(w, "redis %ld starts", (long)w->redis.pid);
}

void world_kill_redis(struct world *w, int ms)
{
    if (w->redis.pid == 0)
        return;
    /* A child that rewrites the log of an old server must not outlive it. */
    kill(-w->redis.pid, SIGKILL);
    waitpid(w->redis.pid, NULL, 0);
    w->redis = (struct player){0};
    w->redis_back_ns = clock_deadline(ms);
}

bool world_start_manager(struct world *w, bool takeover)
{
    struct manager *m = w->managers;
    while (m < w->managers + WORLD_MANAGERS && m->player.pid != 0)
        m++;
    if (m == w->managers + WORLD_MANAGERS)
        return false;
    const char *argv[32] = {"mqredis-manager",
                            "--channel",
                            w->channel,
                            "--redis",
                            w->options[0],
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
    argv[4] = w->options[0][0] == 't' ? w->proxy.tcp : w->proxy.unix_;
    for (size_t i = 1; i < 8 && w->options[i][0] != '\0'; i++)
        argv[n++] = w->options[i];
    if (takeover)
        argv[n++] = "--takeover";
    *m = (struct manager){.takeover = takeover};
    m->player.pid = spawn(w, argv);
    w->manager_back_ns = 0;
    w->replaced |= takeover;
    world_note(w, "manager %ld starts%s", (long)m->player.pid,
               takeover ? " to take over" : "");
    return true;
}

static void start_worker(struct world *w, struct seat *seat)
{
    if (w->history_count == WORLD_HISTORIES)
        return;
    unsigned id = w->history_count++;
    seat->history = &w->histories[id];
    memset(seat->history, 0, sizeof(*seat->history));
    seat->history->id = id;
    struct worker_task task = {.channel = w->channel,
                               .history = seat->history,
                               .seed = dice_next(&w->dice),
                               .leave = w->leave};
    pid_t parent = getpid();
    seat->player = (struct player){.pid = fork_one()};
    if (seat->player.pid != 0)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent)
        worker_live(&task);
    _exit(0);
}

/* ---- managers ---- */

unsigned world_managers(const struct world *w)
{
    unsigned count = 0;
    for (size_t i = 0; i < WORLD_MANAGERS; i++)
        count += w->managers[i].player.pid != 0;
    return count;
}

struct manager *world_any_manager(struct world *w)
{
    unsigned count = world_managers(w);
    if (count == 0)
        return NULL;
    unsigned nth = dice_below(&w->dice, count);
    struct manager *m = w->managers;
    while (m->player.pid == 0 || nth-- > 0)
        m++;
    return m;
}

pid_t world_guardian(const struct manager *m)
{
    char path[64], text[64];
    snprintf(path, sizeof(path), "/proc/%ld/task/%ld/children",
             (long)m->player.pid, (long)m->player.pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    return (pid_t)strtol(text, NULL, 10);
}

void world_end_manager(struct world *w, struct manager *m, int signal)
{
    (void)w;
    m->told = signal;
    m->told_ns = clock_ns();
    world_resume(&m->player);
    kill(m->player.pid, signal);
}

static void note_queue(struct world *w)
{
    char path[512], name[128] = "";
    snprintf(path, sizeof(path), "%s/%s/queue", w->dir, w->channel);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return;
    bool got = fgets(name, sizeof(name), f) != NULL;
    fclose(f);
    name[strcspn(name, "\n")] = '\0';
    if (!got || name[0] != '/' || w->queue_count == WORLD_QUEUES)
        return;
    if (w->queue_count == 0 || strcmp(w->queues[w->queue_count - 1], name) != 0)
        memcpy(w->queues[w->queue_count++], name, sizeof(name));
}

/* ---- stopping ---- */

void world_stop(struct player *p, int ms)
{
    if (p->pid == 0 || p->resume_ns != 0)
        return;
    p->resume_ns = clock_deadline(ms);
    kill(p->pid, SIGSTOP);
}

void world_resume(struct player *p)
{
    if (p->pid != 0 && p->resume_ns != 0)
        kill(p->pid, SIGCONT);
    p->resume_ns = 0;
}

static void resume_due(struct world *w, struct player *p)
{
    if (p->resume_ns != 0 && (w->calm || clock_ns() >= p->resume_ns))
        world_resume(p);
}

/* ---- ends ---- */

static void end_of_manager(struct world *w, struct manager *m, int status)
{
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    int by = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    world_note(w, "manager %ld ended with %#x", (long)m->player.pid,
               (unsigned)status);
    bool fine;
    if (by != 0)
        fine = by == m->told;
    else if (m->told == SIGTERM)
        /* One that was still starting had no end in order to come to. */
        fine = code == 0 || (m->takeover && (code == 69 || code == 75));
    else
        fine = w->replaced && (code == 0 || code == 69 || code == 75);
    if (!fine)
        world_accuse(w, "manager %ld%s ended with %s %d%s", (long)m->player.pid,
                     m->takeover ? " (takeover)" : "",
                     by != 0 ? "signal" : "status", by != 0 ? by : code,
                     m->told != 0 ? ", told to end" : ", untold");
    *m = (struct manager){0};
}

static void end_of_worker(struct world *w, struct seat *seat, int status)
{
    int by = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    if (by != 0 && by != SIGKILL && by != SIGTERM)
        world_accuse(w, "worker w%u died of signal %d", seat->history->id, by);
    if (by == 0 && status != 0)
        world_accuse(w, "worker w%u ended with status %d", seat->history->id,
                     WEXITSTATUS(status));
    seat->player = (struct player){0};
    seat->history = NULL;
    seat->refill_ns =
        clock_ns() + dice_below(&w->dice, 60) * (uint64_t)NS_PER_MS;
}

static void end_of(struct world *w, pid_t pid, int status)
{
    for (size_t i = 0; i < WORLD_MANAGERS; i++)
        if (w->managers[i].player.pid == pid)
            end_of_manager(w, &w->managers[i], status);
    for (size_t i = 0; i < w->seat_count; i++)
        if (w->seats[i].player.pid == pid)
            end_of_worker(w, &w->seats[i], status);
    if (pid == w->redis.pid) {
        if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
            world_accuse(w, "redis died of signal %d", WTERMSIG(status));
        w->redis = (struct player){0};
        if (w->redis_back_ns == 0)
            w->redis_back_ns = clock_ns();
    }
    if (pid == w->proxy.pid) {
        world_accuse(w, "the harness's own proxy ended with %#x",
                     (unsigned)status);
        w->proxy.pid = 0;
    }
}

static void bring_back(struct world *w)
{
    uint64_t now = clock_ns();
    if (w->redis.pid == 0 && (w->calm || now >= w->redis_back_ns))
        start_redis(w);
    if (world_managers(w) == 0 && !w->closing) {
        if (w->manager_back_ns == 0)
            w->manager_back_ns =
                now + dice_below(&w->dice, 500) * (uint64_t)NS_PER_MS;
        else if (w->calm || now >= w->manager_back_ns)
            world_start_manager(w, false);
    }
    for (size_t i = 0; i < w->seat_count && !*w->leave; i++)
        if (w->seats[i].player.pid == 0 && now >= w->seats[i].refill_ns)
            start_worker(w, &w->seats[i]);
}

static void check_told(struct world *w)
{
    for (size_t i = 0; i < WORLD_MANAGERS; i++) {
        struct manager *m = &w->managers[i];
        if (m->player.pid == 0 || m->told != SIGTERM ||
            clock_ns() < m->told_ns + MANAGER_END_MS * NS_PER_MS)
            continue;
        world_accuse(w, "manager %ld has not ended %d ms after SIGTERM",
                     (long)m->player.pid, MANAGER_END_MS);
        world_end_manager(w, m, SIGKILL);
    }
}

static void nap(struct world *w)
{
    uint64_t t0 = clock_ns();
    support_sleep_ms(TURN_MS);
    uint64_t over = clock_ns() - t0 - TURN_MS * NS_PER_MS;
    if (over > w->noise_ns)
        w->noise_ns = over;
}

void world_turn(struct world *w)
{
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
        end_of(w, pid, status);
    resume_due(w, &w->redis);
    for (size_t i = 0; i < WORLD_MANAGERS; i++)
        resume_due(w, &w->managers[i].player);
    for (size_t i = 0; i < w->seat_count; i++)
        resume_due(w, &w->seats[i].player);
    if (w->heal_ns != 0 && (w->calm || clock_ns() >= w->heal_ns)) {
        struct proxy_control *c = w->proxy.control;
        c->delay_ms = c->cut_max = 0;
        c->crumbs = c->deaf = c->mute = c->closed = false;
        w->heal_ns = 0;
    }
    check_told(w);
    bring_back(w);
    note_queue(w);
    nap(w);
}

/* ---- a round's begin ---- */

static void choose_options(struct world *w)
{
    struct dice *d = &w->dice;
    size_t n = 1;
    static const char *const capacities[] = {"1", "4", "32"};
    strcpy(w->options[0], dice_chance(d, 50) ? "tcp" : "unix");
    strcpy(w->options[n++], "--capacity");
    strcpy(w->options[n++], capacities[dice_below(d, 3)]);
    if (dice_chance(d, 40))
        strcpy(w->options[n++], "--connections=2");
    if (dice_chance(d, 40))
        strcpy(w->options[n++], "--when-down=fail");
    if (dice_chance(d, 30))
        strcpy(w->options[n++], "--bulk-connections=0");
    if (dice_chance(d, 30))
        strcpy(w->options[n++], "--resp=3");
    printf("  %s, %s", w->durable ? "redis-server" : "mqredis-server",
           w->options[0]);
    for (size_t i = 1; i < n; i++)
        printf(" %s", w->options[i]);
    printf("\n");
    fflush(stdout);
}

void world_begin(struct world *w, uint64_t seed, bool durable)
{
    /* Neighbouring seeds are to have nothing in common. */
    w->dice.state = dice_next(&(struct dice){.state = seed << 20});
    w->durable = durable;
    snprintf(w->dir, sizeof(w->dir), "%s", support_scratch());
    strcpy(w->channel, "chaos");
    int n = snprintf(w->redis_path, sizeof(w->redis_path), "%s/redis", w->dir);
    ck_assert_int_lt(n, (int)sizeof(w->redis_path));
    w->seat_count = (unsigned)dice_between(&w->dice, 3, 12);
    choose_options(w);
    proxy_start(&w->proxy, w->redis_path);
    start_redis(w);
    world_start_manager(w, false);
}
