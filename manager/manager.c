/* The manager's decisions: when to take from the queue, and when to end. */
#include "manager/manager.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "manager/log.h"
#include "manager/notify.h"
#include "manager/target.h"

#define HOUSEKEEPING_NS (5 * NS_PER_S)
#define SWEEP_NS (60 * NS_PER_S)
#define SWEEP_YOUNG_NS (10 * NS_PER_S)
#define MESSAGES_PER_ROUND 64
/* Senders that are let go at a step of the clock. */
#define RELEASE_MAX 4096

/* ---- state ---- */

void manager_publish(struct manager *m)
{
    /* "Closed" is our last word once the channel may be another's. */
    if (m->handover.step == HANDOVER_UNLOCKED ||
        m->handover.step == HANDOVER_DONE)
        return;
    uint32_t kind = STATE_CONNECTED;
    bool ready = routes_ready(&m->routes);
    const struct conn *down = ready ? NULL : routes_down(&m->routes);
    if (m->draining || m->closing || m->handover.step != HANDOVER_NONE)
        kind = STATE_DRAINING;
    else if (m->paused)
        kind = STATE_PAUSED;
    else if (!ready)
        kind = m->announced ? STATE_RECONNECTING : STATE_STARTING;
    m->state.attempt = down ? down->attempt : 0;
    const char *error = down ? down->error.text : "";
    if (down != NULL && down->state == CONN_OFF)
        error = sentinel_error(m->sentinel);
    if (error[0] != '\0')
        snprintf(m->state.error, sizeof(m->state.error), "%.250s", error);
    else if (ready)
        m->state.error[0] = '\0';
    bool changed = kind != m->state.kind;
    status_set_state(m->status, &m->state, kind);
    if (changed)
        notify("STATUS=%s, %s", manager_state_str(kind), m->server);
}

void manager_name_server(struct manager *m)
{
    const struct uri *uri = &m->options->uri;
    if (uri->sentinel_count > 0 && m->conn_options.uri.host[0] != '\0')
        uri = &m->conn_options.uri;
    uri_show(uri, m->server, sizeof(m->server));
    size_t len = strlen(m->server);
    if (uri != &m->options->uri)
        snprintf(m->server + len, sizeof(m->server) - len, " (%s)",
                 uri->master);
    snprintf(m->state.server, sizeof(m->state.server), "%s", m->server);
}

void manager_announce(struct manager *m)
{
    m->announced = true;
    printf("mqredis-manager: ready: channel '%s' (%s), queue %u x %u bytes, "
           "%s\n",
           m->channel.name, m->channel.dir, m->state.capacity, m->state.msgsize,
           m->server);
    fflush(stdout);
    notify("READY=1\nMAINPID=%ld", (long)getpid());
}

/* ---- what the server says of its commands ---- */

#define LEARN_MAX (8 << 20)
#define COMMAND "*1\r\n$7\r\nCOMMAND\r\n"

static void learned(void *context, const char *data, size_t len)
{
    struct manager *m = context;
    m->learning = false;
    if (len > 0)
        routes_learn(&m->routes, data, len);
    if (len > 0 && policy_learn(m->options->policy, data, len) == ERR_OK)
        log_debug("learned the server's commands from %zu bytes", len);
    else
        log_debug("the server does not tell its commands: the built-in table "
                  "serves");
}

/* Asks a server that has just become ready; the answer comes before that of
 * any command sent after it. */
static void learn(struct manager *m, struct conn *c)
{
    if (m->learning)
        return;
    capture_init(&m->learn, LEARN_MAX, learned, m);
    struct run run = {.taker = &m->learn.taker,
                      .count = 1,
                      .data = COMMAND,
                      .len = sizeof(COMMAND) - 1,
                      .first_len = sizeof(COMMAND) - 1};
    m->learning = conn_append(c, &run) == ERR_OK;
    if (!m->learning)
        log_debug("out of memory: the server's commands were not asked for");
}

/* A cluster says for itself, node by node, that it is none. */
static void warn_of_mode(struct manager *m, const struct conn *c,
                         const char *server)
{
    bool serves;
    const char *mismatch = target_mismatch(m->options, c->mode, &serves);
    if (mismatch != NULL && m->options->cluster == CLUSTER_NO &&
        m->mode != c->mode)
        log_warn("%s: %s", server, mismatch);
    m->mode = c->mode;
}

/* A shared connection came up or went down. One line a change; attempts that
 * fail again are told sparingly. */
void manager_connection_changed(void *context, struct conn *c)
{
    struct manager *m = context;
    char server[sizeof(m->server)];
    uri_show(&c->options->uri, server, sizeof(server));
    if (c->state == CONN_READY) {
        status_count(m->status, COUNTER_connects, 1);
        warn_of_mode(m, c, server);
        if (routes_ready(&m->routes))
            sentinel_trust(m->sentinel);
        m->retry_limit = (struct log_limit){0};
        if (routes_teaches(&m->routes, c))
            learn(m, c);
        if (m->announced)
            log_info("connected to %s", server);
    } else if (c->state == CONN_WAITING) {
        sentinel_doubt(m->sentinel);
        if (c->attempt == 1 && m->announced) {
            status_count(m->status, COUNTER_disconnects, 1);
            if (!m->moving)
                log_warn("lost the connection to %s: %s; reconnecting", server,
                         c->error.text);
        } else if (strcmp(m->retry_error.text, c->error.text) != 0 ||
                   log_limit_pass(&m->retry_limit, 1)) {
            m->retry_error = c->error;
            log_warn("cannot connect to %s: %s; trying again", server,
                     c->error.text);
        }
    }
    manager_publish(m);
    /* Only now: whoever waited for the ready line may look at the state. */
    if (c->state == CONN_READY && !m->announced && routes_ready(&m->routes) &&
        m->takeover.step == TAKEOVER_NONE)
        manager_announce(m);
}

/* The master is known, or is another one. */
void manager_moved(void *context, const struct uri_place *to,
                   const struct uri_place *by)
{
    struct manager *m = context;
    struct uri *uri = &m->conn_options.uri;
    bool first = uri->host[0] == '\0';
    char there[URI_PLACE_TEXT], said[URI_PLACE_TEXT];
    char reason[2 * URI_PLACE_TEXT + sizeof(uri->master) + 64];
    uri_place_show(to, there);
    uri_place_show(by, said);
    memcpy(uri->host, to->host, sizeof(uri->host));
    uri->port = to->port;
    snprintf(reason, sizeof(reason),
             "master '%s' is at %s now, says sentinel %s", uri->master, there,
             said);
    if (first) {
        log_info("master '%s' is at %s, says sentinel %s", uri->master, there,
                 said);
        manager_name_server(m);
        routes_start(&m->routes);
    } else {
        status_count(m->status, COUNTER_switches, 1);
        log_warn("%s: leaving %s", reason, m->server);
        m->moving = true;
        routes_move(&m->routes, reason);
        pubsub_move(m->pubsub, reason);
        m->moving = false;
        manager_name_server(m);
    }
    m->moved = true;
    manager_publish(m);
}

/* ---- taking ---- */

static bool may_take(const struct manager *m)
{
    const struct options *o = m->options;
    return !m->draining && !m->paused && !m->done &&
           m->handover.step == HANDOVER_NONE &&
           m->takeover.step == TAKEOVER_NONE &&
           m->answers.inflight < o->max_inflight &&
           m->sources.bytes < o->shm_budget &&
           routes_unsent(&m->routes) < o->max_inflight_bytes &&
           (o->when_down_fail || routes_ready(&m->routes));
}

static void take(struct manager *m)
{
    for (int i = 0; i < MESSAGES_PER_ROUND && may_take(m); i++) {
        enum err e = intake_one(&m->intake);
        if (e == ERR_OK) {
            /* Counted with the second: one alone needs no system call. */
            if (i < 2)
                intake_note_depth(&m->intake, i + 1);
            continue;
        }
        m->queue_ready = false;
        if (e != ERR_AGAIN)
            log_error("cannot read the queue: %s", strerror(errno));
        return;
    }
}

/*
 * Whoever is answered sends the next command at once. While a crowded round's
 * replies are handed out the queue would fill, and every sender would sleep a
 * second time, for a place in it: so room is made between the replies.
 */
void manager_make_room(void *context)
{
    struct manager *m = context;
    if (m->answers.inflight <= m->state.capacity / 2)
        return;
    m->answers.now_ns = clock_ns();
    take(m);
}

void manager_queue_ready(void *owner, uint32_t events)
{
    struct manager *m = owner;
    (void)events;
    m->queue_ready = true;
}

/*
 * Who sleeps on the full queue sleeps longer by what the clock was set back
 * (step.h), and only a free place wakes them, in turn. So all of them are let
 * go now, over every limit that stops the taking: their messages wait for Redis
 * with us, and they for their answers, on a clock that cannot be set.
 */
void manager_clock_back(void *owner, uint64_t ns)
{
    struct manager *m = owner;
    int count = 0;
    /* Who ends or hands over answers or leaves the queue at once anyway; who
     * was paused was told to execute nothing. */
    bool may = !m->draining && !m->paused && !m->done &&
               m->handover.step == HANDOVER_NONE &&
               m->takeover.step == TAKEOVER_NONE;
    while (may && count < RELEASE_MAX && mpsc_depth(&m->rx) >= m->rx.capacity &&
           intake_one(&m->intake) == ERR_OK)
        count++;
    if (count > 0)
        log_warn("the clock was set back by %.1f s: took %d messages, so that "
                 "nobody sleeps on the full queue for that much longer",
                 (double)ns / 1e9, count);
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

void manager_senders_changed(void *owner, uint32_t events)
{
    (void)owner;
    (void)events; /* asked for by poll where it matters: see check_closed */
}

/* "Closed" is: the last sender is gone, and then the queue is empty, and then
 * everything is answered. */
static void check_closed(struct manager *m)
{
    if (!m->options->exit_when_closed || m->draining ||
        m->handover.step != HANDOVER_NONE || m->takeover.step != TAKEOVER_NONE)
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
    notify("STOPPING=1");
    log_info("%s: answering %u commands in flight, then ending", why,
             m->answers.inflight);
    manager_publish(m);
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

/* Reads all files before anything is changed. */
static enum err read_files(struct manager *m, struct err_text *why)
{
    struct conn_options sentinels;
    if (m->sentinel == NULL)
        return target_reload(&m->conn_options, m->options, why);
    enum err e = target_sentinels(&sentinels, m->options, why);
    if (e != ERR_OK)
        return e;
    e = target_reload(&m->conn_options, m->options, why);
    if (e == ERR_OK)
        sentinel_reload(m->sentinel, &sentinels);
    else
        target_release(&sentinels);
    return e;
}

/* New connections use what is in the files now. */
static void reload(struct manager *m)
{
    struct err_text why;
    notify("RELOADING=1\nMONOTONIC_USEC=%llu", clock_ns() / NS_PER_US);
    if (read_files(m, &why) != ERR_OK)
        log_error("reload: %s; nothing was changed", why.text);
    else {
        routes_reload(&m->routes);
        log_info("reloaded: the next connection uses what the files say now");
        manager_publish(m); /* whoever asked waits for a word */
    }
    notify("READY=1");
}

static void kill_client(struct manager *m, pid_t pid)
{
    uint32_t ended = 0;
    for (size_t i = 0; i < STATUS_CLIENTS; i++) {
        struct client_row row;
        if (status_client_read(&m->status->clients[i], &row) &&
            row.pid == (uint32_t)pid)
            ended += routes_kill_client(&m->routes, m->answers.clients.ids[i]);
    }
    log_info("kill-client %ld: %u blocking commands ended", (long)pid, ended);
}

void manager_said(void *context, enum control_verb verb, pid_t pid)
{
    struct manager *m = context;
    switch (verb) {
    case CONTROL_PAUSE:
    case CONTROL_RESUME:
        m->paused = verb == CONTROL_PAUSE;
        log_info(m->paused ? "paused: senders wait" : "resumed");
        manager_publish(m);
        break;
    case CONTROL_DRAIN:
        begin_drain(m, "drain");
        break;
    case CONTROL_RELOAD:
        reload(m);
        break;
    case CONTROL_KILL_CLIENT:
        kill_client(m, pid);
        break;
    case CONTROL_TAKEOVER:
        manager_hand_over(m, pid);
        break;
    }
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
        struct estate estate = manager_estate(m);
        if (guardian_start(&m->guardian, &estate) != ERR_OK)
            log_error("cannot start a guardian: %s; trying again in %llu s",
                      strerror(errno), HOUSEKEEPING_NS / NS_PER_S);
    }
}

void manager_signal_ready(void *owner, uint32_t events)
{
    struct manager *m = owner;
    struct signalfd_siginfo si;
    (void)events;
    while (read(m->signal_fd, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
        if (si.ssi_signo == SIGCHLD)
            watch_children(m);
        else if (si.ssi_signo == SIGTERM || si.ssi_signo == SIGINT)
            begin_drain(m, si.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT");
        else if (si.ssi_signo == SIGHUP)
            reload(m);
    }
}

/* ---- housekeeping ---- */

/* One that died could not be replaced at once: there was no memory, or no room
 * for a process. */
static void miss_guardian(struct manager *m)
{
    struct estate estate = manager_estate(m);
    if (guardian_start(&m->guardian, &estate) == ERR_OK)
        log_info("a guardian was started");
}

static void keep_house(struct manager *m, uint64_t now)
{
    m->housekeeping_ns = now + HOUSEKEEPING_NS;
    if (m->guardian.pid == 0 && m->handover.step == HANDOVER_NONE &&
        m->takeover.step == TAKEOVER_NONE)
        miss_guardian(m);
    if (mpsc_unlinked(&m->rx) && !m->draining &&
        m->handover.step == HANDOVER_NONE) {
        log_error("queue %s was removed under us (RemoveIPC of logind?): "
                  "ending",
                  m->rx.queue);
        m->exit_status = EX_UNAVAILABLE;
        begin_drain(m, "the queue is gone");
    }
    if (now >= m->sweep_ns) {
        /* Of those who died in the middle of making a pipe, only time tells. */
        bool young = now < m->state.started_ns + SWEEP_NS;
        m->sweep_ns = now + (young ? SWEEP_YOUNG_NS : SWEEP_NS);
        m->sweeping = true;
    }
}

/* ---- the loop ---- */

static uint64_t sooner(uint64_t a, uint64_t b)
{
    if (a == 0 || b == 0)
        return a + b;
    return a < b ? a : b;
}

/* After the connections, which it may have sent elsewhere. */
static uint64_t tick_sentinel(struct manager *m, uint64_t now)
{
    if (m->answers.readonly) {
        m->answers.readonly = false;
        sentinel_ask(m->sentinel);
    }
    m->moved = false;
    uint64_t next = sentinel_tick(m->sentinel, now);
    return m->moved ? now : next;
}

static uint64_t tick(struct manager *m)
{
    uint64_t now = m->answers.now_ns;
    if (now >= m->housekeeping_ns)
        keep_house(m, now);
    if (m->watchdog_period_ns != 0 && now >= m->watchdog_ns) {
        notify("WATCHDOG=1");
        m->watchdog_ns = now + m->watchdog_period_ns;
    }
    status_gauge_set(m->status, GAUGE_inflight_bytes,
                     routes_unsent(&m->routes));
    /* Between the others' turns, for the folder may hold anything. */
    if (m->sweeping)
        m->sweeping = readers_sweep(&m->readers);
    uint64_t next = sooner(m->watchdog_ns, manager_tick_handover(m, now));
    next = sooner(next, m->sweeping ? now : 0);
    next = sooner(next, manager_tick_takeover(m, now));
    check_drained(m, now);
    check_closed(m);
    next = sooner(next, routes_tick(&m->routes, now));
    next = sooner(next, pubsub_tick(m->pubsub, now));
    next = sooner(next, tick_sentinel(m, now));
    if (m->draining)
        next = sooner(next, m->drain_until_ns);
    return sooner(next, m->housekeeping_ns);
}

/* The channel ends with us: everybody gets their answer, and what nobody needs
 * is removed. */
static void close_channel(struct manager *m)
{
    static const char text[] =
        "the manager has ended; the command was not executed";
    struct estate estate = manager_estate(m);
    last_words(&m->rx, &m->channel, m->status, text);
    status_set_state(m->status, &m->state, STATE_CLOSED);
    guardian_dismiss(&m->guardian);
    /* Now nobody is left but us: HUP, and what came in meanwhile. */
    close(m->rx.receiver_fd);
    m->rx.receiver_fd = -1;
    last_words(&m->rx, &m->channel, m->status, text);
    clean_up(&estate);
}

int manager_run(struct manager *m, bool *again)
{
    while (!m->done) {
        uint64_t next = tick(m);
        watch_queue(m);
        if (m->done)
            break;
        if (loop_wait(&m->loop, next, &m->answers.now_ns) != ERR_OK) {
            log_error("cannot wait for events: %s", strerror(errno));
            m->exit_status = EX_OSERR;
            break;
        }
        if (m->queue_ready)
            take(m);
        routes_flush(&m->routes);
        readers_reap(&m->readers);
    }
    /* Told to end while the lock was free: whose is the channel? */
    if (m->handover.step == HANDOVER_UNLOCKED &&
        !handover_relock(&m->handover, m->lock_fd))
        manager_let_go(m);
    pubsub_stop(m->pubsub, "the manager has ended");
    routes_stop(&m->routes, "the manager ended");
    /* Only its owner may end a channel: not who has handed it over, nor who
     * never had it. */
    if (m->handover.step != HANDOVER_DONE &&
        m->takeover.step == TAKEOVER_NONE && !m->again)
        close_channel(m);
    log_info("ended: %" PRIu64 " commands taken, %" PRIu64 " answered",
             counter_get(&m->status->counters[COUNTER_taken]),
             counter_get(&m->status->counters[COUNTER_answered]));
    *again = m->again;
    manager_release(m);
    return m->exit_status;
}
