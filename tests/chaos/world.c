/* Starting, reaping and bringing back; one turn every few milliseconds. */
#include "tests/chaos/world.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/chaos/cluster.h"
#include "tests/chaos/scarcity.h"
#include "tests/support.h"

#define TURN_MS 4
/* So late a worker's wait is looked into. */
#define NOTE_LATE_MS 120
/* Of the channel's folder: more than all that workers spill at once. */
#define DISK_MB 64
#define DISK_NAMES 2000
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

void world_end_manager(struct manager *m, int signal)
{
    m->told_kill |= signal == SIGKILL;
    m->told_term |= signal == SIGTERM;
    m->told_ns = clock_ns();
    world_resume(&m->player);
    kill(m->player.pid, signal);
}

/* Looks how full a queue is, which is nobody's business but ours. */
static void look_at_queue(struct world *w, const char *name)
{
    struct mq_attr attr;
    mqd_t q = mq_open(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (q == (mqd_t)-1)
        return;
    w->full += mq_getattr(q, &attr) == 0 && attr.mq_curmsgs == attr.mq_maxmsg;
    mq_close(q);
}

static void note_queue(struct world *w)
{
    struct remains *r = w->remains;
    char path[512], name[128] = "";
    snprintf(path, sizeof(path), "%s/%s/queue", w->run_dir, w->channel);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return;
    bool got = fgets(name, sizeof(name), f) != NULL;
    fclose(f);
    name[strcspn(name, "\n")] = '\0';
    if (!got || name[0] != '/')
        return;
    look_at_queue(w, name);
    bool known =
        r->queue_count > 0 && strcmp(r->queues[r->queue_count - 1], name) == 0;
    if (known || r->queue_count == REMAINS_QUEUES)
        return;
    memcpy(r->queues[r->queue_count], name, sizeof(name));
    atomic_signal_fence(memory_order_seq_cst);
    r->queue_count++;
}

/* ---- stopping ---- */

void world_stop(struct player *p, int ms)
{
    if (p->pid == 0 || p->resume_ns != 0)
        return;
    p->resume_ns = clock_deadline(ms);
    if (p->stops != NULL)
        ++*p->stops;
    kill(p->pid, SIGSTOP);
}

void world_resume(struct player *p)
{
    if (p->pid != 0 && p->resume_ns != 0) {
        if (p->stops != NULL)
            ++*p->stops;
        kill(p->pid, SIGCONT);
    }
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
        fine =
            (by == SIGKILL && m->told_kill) || (by == SIGTERM && m->told_term);
    /* Whoever was killed may have come to its end just before. */
    else if (m->told_term)
        /* One that was still starting had no end in order to come to. */
        fine = code == 0 || (m->takeover && (code == 69 || code == 75));
    else
        fine = w->replaced && (code == 0 || code == 69 || code == 75);
    /* Without room or descriptors it may not even start, and says why. */
    if (!fine && by == 0 && clock_ns() < w->orders->scarce_until_ns)
        fine = code == 69 || (code >= 71 && code <= 75) || code == 78 ||
               code == 127; /* the dynamic loader's word for it */
    if (!fine)
        world_accuse(w, "manager %ld%s ended with %s %d%s", (long)m->player.pid,
                     m->takeover ? " (takeover)" : "",
                     by != 0 ? "signal" : "status", by != 0 ? by : code,
                     m->told_term || m->told_kill ? ", told to end"
                                                  : ", untold");
    *m = (struct manager){0};
}

static void end_of_worker(struct world *w, struct seat *seat, int status)
{
    int by = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    if (by != 0 && by != SIGKILL && by != SIGTERM)
        world_accuse(w, "worker w%u died of signal %d", seat->history->id, by);
    else if (by == 0 && status != 0)
        world_accuse(w, "worker w%u ended with status %d", seat->history->id,
                     WEXITSTATUS(status));
    if (seat->history->accusation[0] != '\0') {
        world_accuse(w, "w%u: %s", seat->history->id,
                     seat->history->accusation);
        history_show(seat->history, seat->history->accused_at);
    }
    seat->player = (struct player){0};
    seat->history = NULL;
    seat->refill_ns =
        clock_ns() + dice_below(&w->dice, 60) * (uint64_t)NS_PER_MS;
}

static void end_of_redis(struct world *w, struct server *server, int status)
{
    /* SIGTERM: while it was starting, before it has a handler. */
    if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL &&
        WTERMSIG(status) != SIGTERM)
        world_accuse(w, "redis died of signal %d", WTERMSIG(status));
    server->player = (struct player){0};
    if (server->back_ns == 0)
        server->back_ns = clock_ns();
}

static void end_of(struct world *w, pid_t pid, int status)
{
    for (size_t i = 0; i < WORLD_MANAGERS; i++)
        if (w->managers[i].player.pid == pid)
            end_of_manager(w, &w->managers[i], status);
    for (size_t i = 0; i < w->seat_count; i++)
        if (w->seats[i].player.pid == pid)
            end_of_worker(w, &w->seats[i], status);
    for (unsigned i = 0; i < w->server_count; i++)
        if (w->servers[i].player.pid == pid)
            end_of_redis(w, &w->servers[i], status);
    if (pid == w->asker) {
        w->asker = 0;
        w->asker_status = status;
    }
    for (unsigned i = 0; i < w->server_count; i++)
        if (pid == w->servers[i].proxy.pid) {
            world_accuse(w, "the harness's own proxy ended with %#x",
                         (unsigned)status);
            w->servers[i].proxy.pid = 0;
        }
    if (pid == w->admin) {
        if (status != 0)
            world_accuse(w, "who moves the slots ended with %#x",
                         (unsigned)status);
        w->admin = 0;
    }
}

static void bring_back(struct world *w)
{
    uint64_t now = clock_ns();
    for (unsigned i = 0; i < w->server_count; i++) {
        struct server *s = &w->servers[i];
        if (s->player.pid == 0 && (w->calm || now >= s->back_ns))
            world_start_redis(w, s);
    }
    if (world_managers(w) == 0 && !w->closing) {
        if (w->manager_back_ns == 0)
            w->manager_back_ns =
                now + dice_below(&w->dice, 500) * (uint64_t)NS_PER_MS;
        else if (w->calm || now >= w->manager_back_ns)
            world_start_manager(w, false);
    }
    for (size_t i = 0; i < w->seat_count && !w->orders->leave; i++)
        if (w->seats[i].player.pid == 0 && now >= w->seats[i].refill_ns)
            world_start_worker(w, &w->seats[i]);
}

static void check_told(struct world *w)
{
    for (size_t i = 0; i < WORLD_MANAGERS; i++) {
        struct manager *m = &w->managers[i];
        if (m->player.pid == 0 || !m->told_term || m->told_kill ||
            clock_ns() < m->told_ns + MANAGER_END_MS * NS_PER_MS)
            continue;
        world_accuse(w, "manager %ld has not ended %d ms after SIGTERM",
                     (long)m->player.pid, MANAGER_END_MS);
        world_end_manager(m, SIGKILL);
    }
}

/* Notes what a worker does that should be back by now. */
static void note_late(struct world *w, struct seat *s)
{
    char path[64], where[64] = "";
    uint64_t due = s->history != NULL ? s->history->due_ns : 0;
    if (due == 0 || due == s->late_due_ns || s->player.resume_ns != 0 ||
        clock_ns() < due + NOTE_LATE_MS * NS_PER_MS)
        return;
    s->late_due_ns = due;
    snprintf(path, sizeof(path), "/proc/%ld/wchan", (long)s->player.pid);
    FILE *f = fopen(path, "re");
    if (f != NULL) {
        where[fread(where, 1, sizeof(where) - 1, f)] = '\0';
        fclose(f);
    }
    world_note(w, "w%u (%ld) should be back: state %c, system call %ld, in %s",
               s->history->id, (long)s->player.pid,
               support_proc_state(s->player.pid),
               support_proc_syscall(s->player.pid), where);
}

static void tend_server(struct world *w, struct server *s)
{
    resume_due(w, &s->player);
    if (s->heal_ns == 0 || (!w->calm && clock_ns() < s->heal_ns))
        return;
    struct proxy_control *c = s->proxy.control;
    c->delay_ms = c->cut_max = 0;
    c->crumbs = c->deaf = c->mute = c->closed = false;
    s->heal_ns = 0;
}

void world_turn(struct world *w)
{
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
        end_of(w, pid, status);
    for (size_t i = 0; i < WORLD_MANAGERS; i++)
        resume_due(w, &w->managers[i].player);
    for (size_t i = 0; i < w->seat_count; i++)
        resume_due(w, &w->seats[i].player);
    for (unsigned i = 0; i < w->server_count; i++)
        tend_server(w, &w->servers[i]);
    if (w->plan->cluster)
        cluster_tend(w);
    scarcity_tend(w);
    check_told(w);
    for (unsigned i = 0; i < w->seat_count; i++)
        note_late(w, &w->seats[i]);
    bring_back(w);
    note_queue(w);
    support_sleep_ms(TURN_MS);
}

/* ---- a round's begin ---- */

static void add_option(struct world *w, unsigned percent, const char *option)
{
    size_t n = 0;
    while (w->options[n][0] != '\0')
        n++;
    if (dice_chance(&w->dice, percent))
        snprintf(w->options[n], sizeof(w->options[n]), "%s", option);
}

static void choose_options(struct world *w, bool tcp)
{
    static const char *const capacities[] = {"--capacity=1", "--capacity=4",
                                             "--capacity=32"};
    const struct plan *p = w->plan;
    add_option(w, 100, capacities[p->quick ? 2 : dice_below(&w->dice, 3)]);
    add_option(w, 40, "--connections=2");
    add_option(w, 40, "--when-down=fail");
    add_option(w, 30, "--bulk-connections=0");
    add_option(w, 30, "--resp=3");
    add_option(w, 50, "--subscriber-backlog=16");
    if (p->cluster) /* half of these may be held while slots move */
        add_option(w, 30, "--max-inflight=64");
    const struct proxy *proxy = &w->servers[0].proxy;
    if (w->tls)
        snprintf(w->uri, sizeof(w->uri), "rediss%s", strchr(proxy->tcp, ':'));
    else if (!p->cluster)
        snprintf(w->uri, sizeof(w->uri), "%s", tcp ? proxy->tcp : proxy->unix_);
    printf("  %s, %s, %u workers,",
           p->cluster   ? "a cluster"
           : p->durable ? "redis-server"
                        : "mqredis-server",
           w->tls ? "TLS"
           : tcp  ? "TCP"
                  : "unix",
           w->seat_count);
    for (size_t i = 0; w->options[i][0] != '\0'; i++)
        printf(" %s", w->options[i]);
    printf("\n");
    fflush(stdout);
}

/* A port that nobody has now, below those that connections are given. */
static int free_port(struct world *w)
{
    for (int i = 0; i < 1000; i++) {
        struct sockaddr_in in = {.sin_family = AF_INET,
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int port =
            20000 +
            (int)(((unsigned)getpid() * 7919U + dice_below(&w->dice, 10000)) %
                  10000);
        in.sin_port = htons((uint16_t)port);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool free = bind(fd, (struct sockaddr *)&in, sizeof(in)) == 0;
        close(fd);
        if (free)
            return port;
    }
    ck_abort_msg("no free port between 20000 and 30000");
}

static void choose_seats(struct world *w)
{
    const struct plan *p = w->plan;
    w->seat_count = p->gentle  ? 4
                    : p->quick ? 6
                               : (unsigned)dice_between(&w->dice, 4, 12);
    for (unsigned i = 0; i < w->seat_count; i++)
        w->seats[i].role = i == 0              ? ROLE_SUBSCRIBER
                           : i > 1 && p->quick ? ROLE_QUICK
                                               : ROLE_ALL;
}

/* A Redis of its own behind a proxy. */
static void begin_one(struct world *w)
{
    struct server *s = &w->servers[0];
    char to[sizeof(s->path)];
    w->server_count = 1;
    int n = snprintf(s->path, sizeof(s->path), "%s/redis", w->dir);
    ck_assert_int_lt(n, (int)sizeof(s->path));
    strcpy(to, s->path);
    if (w->tls) {
        w->tls_port = free_port(w);
        snprintf(to, sizeof(to), "127.0.0.1:%d", w->tls_port);
    }
    proxy_start(&s->proxy, to);
}

void world_begin(struct world *w, const struct plan *plan)
{
    /* Neighbouring seeds are to have nothing in common. */
    w->dice.state = dice_next(&(struct dice){.state = plan->seed << 20});
    w->plan = plan;
    w->histories = plan->histories;
    w->orders = plan->orders;
    w->remains = plan->remains;
    snprintf(w->dir, sizeof(w->dir), "%s", support_scratch());
    snprintf(w->run_dir, sizeof(w->run_dir), "%s/run", w->dir);
    if (mkdir(w->run_dir, 0711) < 0 || setenv("MQREDIS_DIR", w->run_dir, 1) < 0)
        ck_abort_msg("cannot make %s: %s", w->run_dir, strerror(errno));
    w->disk = plan->mounts && scarcity_mount(w->run_dir, DISK_MB, DISK_NAMES);
    strcpy(w->channel, "chaos");
    choose_seats(w);
    bool tcp = dice_chance(&w->dice, 50) || plan->cluster;
    w->tls = dice_chance(&w->dice, 35) && plan->durable && !plan->cluster &&
             plan->tls_dir != NULL;
    if (plan->cluster)
        cluster_begin(w);
    else
        begin_one(w);
    choose_options(w, tcp);
    world_start_sleepers(w);
    if (!plan->cluster)
        world_start_redis(w, &w->servers[0]);
    world_start_manager(w, false);
}
