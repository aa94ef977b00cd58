/* The manager's decisions: when to take from the queue, and when to end. */
#include "manager/manager.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/random.h"
#include "manager/log.h"

#define HOUSEKEEPING_NS (5 * NS_PER_S)
#define SWEEP_NS (60 * NS_PER_S)
#define LOCK_WAIT_MS 1000 /* a dying manager's guardian needs some of it */
#define MESSAGES_PER_ROUND 64
#define DESCRIPTORS_SPARE 64 /* for everything that is no reply pipe */

/* ---- state ---- */

static void publish(struct manager *m)
{
    uint32_t kind = STATE_CONNECTED;
    const struct conn *down = NULL;
    for (uint32_t i = 0; i < m->routes.shared_count && down == NULL; i++)
        if (m->routes.shared[i].state != CONN_READY)
            down = &m->routes.shared[i];
    if (m->draining || m->closing)
        kind = STATE_DRAINING;
    else if (m->paused)
        kind = STATE_PAUSED;
    else if (down != NULL)
        kind = m->announced ? STATE_RECONNECTING : STATE_STARTING;
    m->state.attempt = down ? down->attempt : 0;
    if (down != NULL && down->error.text[0] != '\0')
        snprintf(m->state.error, sizeof(m->state.error), "%.250s",
                 down->error.text);
    else if (down == NULL)
        m->state.error[0] = '\0';
    status_set_state(m->status, &m->state, kind);
}

/* Prints the one line that a launcher waits for. */
static void announce(struct manager *m)
{
    m->announced = true;
    printf("mqredis-manager: ready: channel '%s' (%s), queue %u x %u bytes, "
           "%s\n",
           m->channel.name, m->channel.dir, m->state.capacity, m->state.msgsize,
           m->server);
    fflush(stdout);
}

/* A shared connection came up or went down. One line a change; attempts that
 * fail again are told sparingly. */
static void connection_changed(void *context, struct conn *c)
{
    struct manager *m = context;
    if (c->state == CONN_READY) {
        status_count(m->status, COUNTER_connects, 1);
        m->retry_limit = (struct log_limit){0};
        if (m->announced)
            log_info("connected to %s", m->server);
        else if (routes_ready(&m->routes))
            announce(m);
    } else if (c->state == CONN_WAITING) {
        if (c->attempt == 1 && m->announced) {
            status_count(m->status, COUNTER_disconnects, 1);
            log_warn("lost the connection to %s: %s; reconnecting", m->server,
                     c->error.text);
        } else if (log_limit_pass(&m->retry_limit, 1)) {
            log_warn("cannot connect to %s: %s; trying again", m->server,
                     c->error.text);
        }
    }
    publish(m);
}

/* ---- taking ---- */

static bool may_take(const struct manager *m)
{
    const struct options *o = m->options;
    return !m->draining && !m->paused && !m->done &&
           m->answers.inflight < o->max_inflight &&
           routes_unsent(&m->routes) < o->max_inflight_bytes &&
           (o->when_down_fail || routes_ready(&m->routes));
}

static void take(struct manager *m)
{
    intake_note_depth(&m->intake);
    for (int i = 0; i < MESSAGES_PER_ROUND && may_take(m); i++) {
        enum err e = intake_one(&m->intake);
        if (e == ERR_OK)
            continue;
        m->queue_ready = false;
        if (e != ERR_AGAIN)
            log_error("cannot read the queue: %s", strerror(errno));
        return;
    }
}

static void queue_ready(void *owner, uint32_t events)
{
    struct manager *m = owner;
    (void)events;
    m->queue_ready = true;
}

/* Watches the queue only while something may be taken from it. */
static void watch_queue(struct manager *m)
{
    bool may = may_take(m);
    if (!may && m->queue_watcher.events != 0 &&
        m->answers.inflight >= m->options->max_inflight)
        status_count(m->status, COUNTER_window_full, 1);
    loop_change(&m->loop, &m->queue_watcher, may ? EPOLLIN : 0);
}

/* ---- ending ---- */

static void senders_changed(void *owner, uint32_t events)
{
    (void)owner;
    (void)events; /* asked for by poll where it matters: see check_closed */
}

/* "Closed" is: the last sender is gone, and then the queue is empty, and then
 * everything is answered. */
static void check_closed(struct manager *m)
{
    if (!m->options->exit_when_closed || m->draining)
        return;
    if (m->answers.inflight > 0 || m->readers.total_backlog > 0 ||
        !mpsc_senders_gone(&m->rx))
        return;
    /* Looked at after HUP, not before. */
    if (mpsc_depth(&m->rx) > 0)
        return;
    if (mpsc_senders_left(&m->rx))
        return;
    log_info("every sender is gone");
    m->closing = true;
    m->done = true;
}

static void begin_drain(struct manager *m, const char *why)
{
    if (m->draining) {
        m->hurry = true;
        return;
    }
    m->draining = true;
    m->drain_until_ns = clock_deadline((int64_t)m->options->drain_timeout_ms);
    log_info("%s: answering %u commands in flight, then ending", why,
             m->answers.inflight);
    publish(m);
}

static void check_drained(struct manager *m, uint64_t now)
{
    if (!m->draining || m->done)
        return;
    bool empty = m->answers.inflight == 0 && m->readers.total_backlog == 0;
    if (!empty && !m->hurry && now < m->drain_until_ns)
        return;
    if (!empty)
        log_warn("ending with %u commands unanswered%s", m->answers.inflight,
                 m->hurry ? ", as told twice" : ": --drain-timeout");
    m->done = true;
}

static void watch_children(struct manager *m)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid != m->guardian.pid)
            continue;
        close(m->guardian.life);
        m->guardian.pid = 0;
        if (m->done)
            continue;
        log_warn("the guardian (pid %ld) is gone: starting another", (long)pid);
        struct estate estate = {&m->channel, &m->rx, m->status, &m->state,
                                m->lock_fd};
        if (guardian_start(&m->guardian, &estate) != ERR_OK)
            log_error("cannot start a guardian: %s", strerror(errno));
    }
}

static void signal_ready(void *owner, uint32_t events)
{
    struct manager *m = owner;
    struct signalfd_siginfo si;
    (void)events;
    while (read(m->signal_fd, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
        if (si.ssi_signo == SIGCHLD)
            watch_children(m);
        else if (si.ssi_signo == SIGTERM || si.ssi_signo == SIGINT)
            begin_drain(m, si.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT");
    }
}

/* ---- housekeeping ---- */

static void keep_house(struct manager *m, uint64_t now)
{
    m->housekeeping_ns = now + HOUSEKEEPING_NS;
    if (mpsc_unlinked(&m->rx) && !m->draining) {
        log_error("queue %s was removed under us (RemoveIPC of logind?): "
                  "ending",
                  m->rx.queue);
        m->exit_status = EX_UNAVAILABLE;
        begin_drain(m, "the queue is gone");
    }
    if (now >= m->sweep_ns) {
        m->sweep_ns = now + SWEEP_NS;
        readers_sweep(&m->readers);
    }
}

/* ---- starting ---- */

static enum err raise_msg_max(const struct options *o, struct err_text *why)
{
    static const char path[] = "/proc/sys/fs/mqueue/msg_max";
    FILE *f = fopen(path, "re");
    long now = 0;
    if (f != NULL) {
        if (fscanf(f, "%ld", &now) != 1)
            now = 0;
        fclose(f);
    }
    if (now >= o->queue.capacity)
        return ERR_OK;
    f = fopen(path, "we");
    if (f != NULL) {
        bool ok = fprintf(f, "%ld\n", o->queue.capacity) > 0;
        ok = fclose(f) == 0 && ok;
        if (ok)
            return ERR_OK;
    }
    return err_say(why, ERR_DENIED,
                   "--raise-msg-max: cannot write %s: %s: start as root, or "
                   "sysctl -w fs.mqueue.msg_max=%ld",
                   path, strerror(errno), o->queue.capacity);
}

/* As many descriptors as the hard limit allows; returns how many. */
static uint32_t raise_descriptors(void)
{
    struct rlimit rl;
    if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
        return 1024;
    rl.rlim_cur = rl.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &rl) < 0)
        getrlimit(RLIMIT_NOFILE, &rl);
    return rl.rlim_cur > UINT32_MAX ? UINT32_MAX : (uint32_t)rl.rlim_cur;
}

static enum err open_signals(struct manager *m)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGCHLD);
    signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return ERR_SYS;
    m->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return m->signal_fd < 0 ? ERR_SYS : ERR_OK;
}

static void describe(struct manager *m)
{
    const struct options *o = m->options;
    m->state.pid = (int32_t)getpid();
    m->state.epoch = m->rx.epoch;
    m->state.started_ns = clock_ns();
    m->state.capacity = (uint32_t)m->rx.capacity;
    m->state.msgsize = (uint32_t)m->rx.msgsize;
    m->state.window = o->max_inflight;
    snprintf(m->state.queue, sizeof(m->state.queue), "%s", m->rx.queue);
    uri_show(&o->uri, m->server, sizeof(m->server));
    snprintf(m->state.server, sizeof(m->state.server), "%s", m->server);
    m->conn_options = (struct conn_options){
        .uri = o->uri,
        .resp = o->resp,
        .connect_timeout_ms = o->connect_timeout_ms,
        .reconnect_max_ms = o->reconnect_max_ms,
        .silence_ms = o->silence_timeout_ms,
        .keep_unsent = !o->when_down_fail,
    };
    snprintf(m->conn_options.client_name, sizeof(m->conn_options.client_name),
             "%s", o->client_name);
}

/* The channel: folder, lock, status, queue. */
static enum err take_channel(struct manager *m, const struct options *o,
                             int *exit_status, struct err_text *why)
{
    pid_t holder = 0;
    uint64_t epoch;
    struct err_text note;
    *exit_status = EX_UNAVAILABLE;
    enum err e = channel_create(&m->channel, o->channel, o->group, why);
    if (e != ERR_OK)
        return e;
    e = channel_lock(&m->channel, getpid(), LOCK_WAIT_MS, &m->lock_fd, &holder,
                     why);
    if (e == ERR_BUSY)
        *exit_status = EX_TEMPFAIL;
    if (e != ERR_OK)
        return e;
    if (random_id(&epoch) != ERR_OK)
        return err_say(why, ERR_SYS, "no random numbers: %s", strerror(errno));
    e = status_create(&m->channel, &m->status, why);
    if (e != ERR_OK)
        return e;
    e = mpsc_create(&m->rx, &m->channel, &o->queue, epoch, &note, why);
    if (e != ERR_OK)
        return e;
    if (note.text[0] != '\0')
        log_warn("%s", note.text);
    return ERR_OK;
}

/* Everything that serves it. */
static enum err build(struct manager *m, struct err_text *why)
{
    const struct options *o = m->options;
    uint32_t descriptors = raise_descriptors();
    uint32_t max_clients = o->max_clients;
    uint32_t spare =
        DESCRIPTORS_SPARE + o->connections + o->dedicated_connections;
    if (descriptors < spare + max_clients)
        max_clients = descriptors > spare + 16 ? descriptors - spare : 16;
    uint64_t seed;
    if (random_id(&seed) != ERR_OK)
        return err_say(why, ERR_SYS, "no random numbers: %s", strerror(errno));
    answers_init(&m->answers, &m->readers, m->status, seed);
    enum err e = loop_init(&m->loop);
    if (e == ERR_OK)
        e = readers_init(&m->readers, &m->loop, m->status, m->channel.reply_fd,
                         max_clients, o->reader_backlog, o->total_backlog);
    if (e == ERR_OK)
        e = routes_init(&m->routes, &m->loop, &m->answers, &m->conn_options,
                        o->connections, o->dedicated_connections,
                        connection_changed, m);
    if (e == ERR_OK)
        e = intake_init(&m->intake, &m->rx, &m->readers, &m->answers,
                        &m->routes, o->policy, m->status);
    if (e == ERR_OK)
        e = loop_add(&m->loop, &m->queue_watcher, m->rx.mq, 0, queue_ready, m);
    if (e == ERR_OK)
        e = loop_add(&m->loop, &m->senders_watcher, m->rx.senders_fd, EPOLLET,
                     senders_changed, m);
    if (e == ERR_OK)
        e = loop_add(&m->loop, &m->signal_watcher, m->signal_fd, EPOLLIN,
                     signal_ready, m);
    if (e != ERR_OK)
        return err_say(why, e, "cannot set up: %s",
                       e == ERR_SYS ? strerror(errno) : err_str(e));
    return ERR_OK;
}

static void release(struct manager *m)
{
    routes_release(&m->routes);
    readers_release(&m->readers);
    intake_release(&m->intake);
    answers_release(&m->answers);
    loop_release(&m->loop);
    if (m->signal_fd >= 0)
        close(m->signal_fd);
    mpsc_receiver_close(&m->rx);
    if (m->status != NULL)
        status_unmap(m->status);
    channel_close(&m->channel);
    if (m->lock_fd >= 0)
        close(m->lock_fd);
}

enum err manager_start(struct manager *m, const struct options *o,
                       int *exit_status, struct err_text *why)
{
    memset(m, 0, sizeof(*m));
    m->options = o;
    m->lock_fd = m->signal_fd = m->loop.epfd = -1;
    m->rx.mq = (mqd_t)-1;
    m->rx.senders_fd = m->rx.receiver_fd = -1;
    m->channel.dirfd = m->channel.reply_fd = -1;
    *exit_status = EX_UNAVAILABLE;
    enum err e = o->raise_msg_max ? raise_msg_max(o, why) : ERR_OK;
    if (e == ERR_OK)
        e = take_channel(m, o, exit_status, why);
    if (e != ERR_OK) {
        release(m);
        return e;
    }
    describe(m);
    struct estate estate = {&m->channel, &m->rx, m->status, &m->state,
                            m->lock_fd};
    e = open_signals(m);
    if (e == ERR_OK)
        e = guardian_start(&m->guardian, &estate);
    if (e != ERR_OK)
        err_say(why, e, "cannot start the guardian: %s", strerror(errno));
    else
        e = build(m, why);
    if (e != ERR_OK) {
        clean_up(&estate);
        guardian_dismiss(&m->guardian);
        release(m);
        return e;
    }
    m->answers.now_ns = clock_ns();
    m->sweep_ns = m->answers.now_ns; /* what a dead manager's workers left */
    publish(m);
    routes_start(&m->routes);
    return ERR_OK;
}

/* ---- the loop ---- */

static uint64_t tick(struct manager *m)
{
    uint64_t now = m->answers.now_ns;
    if (now >= m->housekeeping_ns)
        keep_house(m, now);
    check_drained(m, now);
    check_closed(m);
    uint64_t next = routes_tick(&m->routes, now);
    if (next == 0 || next > m->housekeeping_ns)
        next = m->housekeeping_ns;
    if (m->draining && m->drain_until_ns < next)
        next = m->drain_until_ns;
    return next;
}

static void finish(struct manager *m)
{
    static const char text[] =
        "the manager has ended; the command was not executed";
    struct estate estate = {&m->channel, &m->rx, m->status, &m->state,
                            m->lock_fd};
    routes_stop(&m->routes, "the manager ended");
    last_words(&m->rx, &m->channel, m->status, text);
    status_set_state(m->status, &m->state, STATE_CLOSED);
    guardian_dismiss(&m->guardian);
    /* Now nobody is left but us: HUP, and what came in meanwhile. */
    close(m->rx.receiver_fd);
    m->rx.receiver_fd = -1;
    last_words(&m->rx, &m->channel, m->status, text);
    clean_up(&estate);
    log_info("ended: %" PRIu64 " commands taken, %" PRIu64 " answered",
             counter_get(&m->status->counters[COUNTER_taken]),
             counter_get(&m->status->counters[COUNTER_answered]));
    release(m);
}

int manager_run(struct manager *m)
{
    while (!m->done) {
        uint64_t next = tick(m);
        watch_queue(m);
        if (m->done)
            break;
        if (loop_wait(&m->loop, next) != ERR_OK) {
            log_error("cannot wait for events: %s", strerror(errno));
            m->exit_status = EX_OSERR;
            break;
        }
        m->answers.now_ns = clock_ns();
        if (m->queue_ready)
            take(m);
        routes_flush(&m->routes);
        readers_reap(&m->readers);
    }
    finish(m);
    return m->exit_status;
}
