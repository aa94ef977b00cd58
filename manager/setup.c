/* Putting a manager together, and taking it apart. */
#include "manager/manager.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sysexits.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/random.h"
#include "manager/log.h"
#include "manager/notify.h"
#include "manager/target.h"

#define LOCK_WAIT_MS 1000    /* a dying manager's guardian needs some of it */
#define DESCRIPTORS_SPARE 64 /* for everything that is no reply pipe */

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
    sigaddset(&set, SIGHUP);
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
    m->state.resp = (uint32_t)o->resp;
    m->state.db = o->uri.db;
    snprintf(m->state.queue, sizeof(m->state.queue), "%s", m->rx.queue);
    manager_name_server(m);
}

/* The channel as its only manager: lock, queue. */
static enum err take_channel(struct manager *m, const struct options *o,
                             int *exit_status, struct err_text *why)
{
    pid_t holder = 0;
    uint64_t epoch;
    struct err_text note;
    enum err e = channel_lock(&m->channel, getpid(), LOCK_WAIT_MS, &m->lock_fd,
                              &holder, why);
    if (e == ERR_BUSY)
        *exit_status = EX_TEMPFAIL;
    if (e != ERR_OK)
        return e;
    if (random_id(&epoch) != ERR_OK)
        return err_say(why, ERR_SYS, "no random numbers: %s", strerror(errno));
    e = mpsc_create(&m->rx, &m->channel, &o->queue, epoch, &note, why);
    if (e == ERR_OK && note.text[0] != '\0')
        log_warn("%s", note.text);
    return e;
}

/* Or as the successor of the one that serves it now. */
static enum err join_channel(struct manager *m, pid_t old, struct err_text *why)
{
    if (m->options->group != CHANNEL_NO_GROUP &&
        m->options->group != m->channel.group)
        log_warn("takeover: --group is not obeyed, the channel stays as the "
                 "old manager made it: start without --takeover to change it");
    takeover_begin(&m->takeover, old,
                   clock_deadline((int64_t)m->options->connect_timeout_ms));
    return mpsc_inherit(&m->rx, &m->channel, why);
}

/* Everything that serves it. */
static enum err build(struct manager *m, struct err_text *why)
{
    const struct options *o = m->options;
    uint32_t descriptors = raise_descriptors();
    uint32_t max_clients = o->max_clients;
    /* Streams have pipes of their own; where descriptors are few, at most a
     * quarter of them. */
    uint32_t max_subscribers = o->max_subscribers;
    if (max_subscribers > descriptors / 4)
        max_subscribers = descriptors / 4;
    uint32_t spare = DESCRIPTORS_SPARE + o->connections +
                     o->dedicated_connections + max_subscribers;
    if (descriptors < spare + max_clients)
        max_clients = descriptors > spare + 16 ? descriptors - spare : 16;
    uint64_t seed;
    if (random_id(&seed) != ERR_OK)
        return err_say(why, ERR_SYS, "no random numbers: %s", strerror(errno));
    m->sources = (struct sources){.status = m->status, .budget = o->shm_budget};
    answers_init(&m->answers, &m->readers, m->status, seed);
    m->answers.max_reply = o->max_reply;
    m->answers.between = manager_make_room;
    m->answers.between_context = m;
    enum err e =
        readers_init(&m->readers, &m->loop, m->status, m->channel.reply_fd,
                     m->channel.payload_fd, max_clients, o->reader_backlog,
                     o->total_backlog, seed);
    const struct cluster_options cluster = {
        .base = &m->conn_options,
        .seeds = &o->seeds,
        .bulk = o->bulk_connections > 0,
        .max_held = o->max_inflight / 2,
        .max_held_bytes = o->max_inflight_bytes / 2,
        .read_from = o->read_from,
        .probe = o->cluster == CLUSTER_AUTO,
    };
    if (e == ERR_OK)
        e = routes_init(&m->routes, &m->loop, &m->answers, &m->conn_options,
                        o->connections, o->bulk_connections > 0,
                        o->dedicated_connections,
                        o->cluster == CLUSTER_NO ? NULL : &cluster,
                        manager_connection_changed, m);
    struct pubsub_limits limits = {
        .max_subscribers = max_subscribers,
        .max_subscriptions = o->max_subscriptions,
        .backlog_messages = o->subscriber_backlog,
        .backlog_bytes = o->subscriber_backlog_bytes,
        .total_bytes = o->subscriber_total,
    };
    if (e == ERR_OK)
        e = pubsub_new(&m->pubsub, &m->loop, &m->answers, &m->readers,
                       routes_pubsub_options(&m->routes), &limits, seed);
    if (e == ERR_OK)
        routes_set_pubsub(&m->routes, m->pubsub);
    if (e == ERR_OK && o->uri.sentinel_count > 0) {
        e = sentinel_new(&m->sentinel, &m->loop, &m->answers, &o->uri,
                         &m->sentinel_options, manager_moved, m);
        m->sentinel_options.tls = NULL;
    }
    if (e == ERR_OK)
        e = intake_init(&m->intake, &m->rx, &m->readers, &m->answers,
                        &m->routes, o->policy, &m->sources, o->max_request,
                        m->status);
    if (e == ERR_OK)
        e = loop_add(&m->loop, &m->queue_watcher, m->rx.mq, 0,
                     manager_queue_ready, m);
    if (e == ERR_OK)
        e = loop_add(&m->loop, &m->senders_watcher, m->rx.senders_fd, EPOLLET,
                     manager_senders_changed, m);
    if (e == ERR_OK)
        e = loop_add(&m->loop, &m->signal_watcher, m->signal_fd, EPOLLIN,
                     manager_signal_ready, m);
    if (e == ERR_OK)
        e = step_open(&m->step, &m->loop, manager_clock_back, m);
    if (e != ERR_OK)
        return err_say(why, e, "cannot set up: %s",
                       e == ERR_SYS ? strerror(errno) : err_str(e));
    return ERR_OK;
}

void manager_release(struct manager *m)
{
    control_close(&m->control, &m->loop);
    step_close(&m->step, &m->loop);
    takeover_end(&m->takeover);
    handover_end(&m->handover, HANDOVER_NONE);
    sentinel_free(m->sentinel);
    pubsub_free(m->pubsub);
    routes_release(&m->routes);
    target_release(&m->conn_options);
    target_release(&m->sentinel_options);
    capture_release(&m->learn);
    readers_release(&m->readers);
    intake_release(&m->intake);
    answers_release(&m->answers);
    loop_release(&m->loop);
    if (m->signal_fd >= 0)
        close(m->signal_fd);
    mpsc_receiver_close(&m->rx);
    if (m->status != NULL)
        status_unmap(m->status);
    if (m->channel.dirfd >= 0)
        status_discard(&m->channel);
    channel_close(&m->channel);
    if (m->lock_fd >= 0)
        close(m->lock_fd);
}

enum err manager_own(struct manager *m, struct err_text *why)
{
    enum err e = status_show(&m->channel, why);
    if (e == ERR_OK)
        e = control_open(&m->control, &m->channel, &m->loop, manager_said, m,
                         why);
    struct estate estate = manager_estate(m);
    if (e == ERR_OK) {
        e = guardian_start(&m->guardian, &estate);
        if (e != ERR_OK)
            err_say(why, e, "cannot start the guardian: %s", strerror(errno));
    }
    return e;
}

static enum err enter_channel(struct manager *m, int *exit_status,
                              struct err_text *why)
{
    const struct options *o = m->options;
    pid_t holder;
    if (o->takeover && channel_join(&m->channel, o->channel, why) == ERR_OK) {
        if (channel_locked(&m->channel, &holder))
            return join_channel(m, holder, why);
        channel_close(&m->channel);
    }
    enum err e = channel_create(&m->channel, o->channel, o->group, why);
    if (e == ERR_INVALID)
        *exit_status = EX_USAGE;
    return e == ERR_OK ? take_channel(m, o, exit_status, why) : e;
}

static enum err start(struct manager *m, int *exit_status, struct err_text *why)
{
    const struct options *o = m->options;
    enum err e = target_init(&m->conn_options, o, why);
    if (e == ERR_OK && o->uri.sentinel_count > 0)
        e = target_sentinels(&m->sentinel_options, o, why);
    if (e != ERR_OK) {
        *exit_status = EX_CONFIG;
        return e;
    }
    if (o->raise_msg_max)
        e = raise_msg_max(o, why);
    if (e == ERR_OK)
        e = enter_channel(m, exit_status, why);
    /* A manager that ended just now may have removed the folder under us. */
    if (e == ERR_ABSENT) {
        channel_close(&m->channel);
        e = enter_channel(m, exit_status, why);
    }
    bool join = m->takeover.step != TAKEOVER_NONE;
    if (e == ERR_OK)
        e = status_create(&m->channel, &m->status, why);
    if (e != ERR_OK)
        return e;
    describe(m);
    e = open_signals(m);
    if (e != ERR_OK)
        return err_say(why, e, "cannot listen to signals: %s", strerror(errno));
    /* The guardian is forked from a small process. */
    if (!join)
        e = manager_own(m, why);
    return e == ERR_OK ? build(m, why) : e;
}

/* What a start that failed has made goes. A channel that has a queue is more
 * than that: senders may hold it. */
static void undo(struct manager *m)
{
    struct estate estate = manager_estate(m);
    if (m->lock_fd < 0) {
        channel_unmake(&m->channel);
        return;
    }
    if (m->rx.mq != (mqd_t)-1)
        clean_up(&estate);
    else if (faccessat(m->channel.dirfd, "queue", F_OK, AT_SYMLINK_NOFOLLOW) <
                 0 &&
             errno == ENOENT)
        channel_remove(&m->channel);
}

enum err manager_start(struct manager *m, const struct options *o,
                       int *exit_status, struct err_text *why)
{
    memset(m, 0, sizeof(*m));
    m->options = o;
    m->lock_fd = m->signal_fd = m->loop.epfd = m->control.fd = -1;
    m->rx.mq = (mqd_t)-1;
    m->rx.senders_fd = m->rx.receiver_fd = -1;
    m->channel.dirfd = m->channel.reply_fd = m->channel.payload_fd = -1;
    *exit_status = EX_UNAVAILABLE;
    enum err e = loop_init(&m->loop);
    m->loop.spin_ns = m->options->spin_us * NS_PER_US;
    if (e == ERR_OK)
        e = start(m, exit_status, why);
    else
        err_say(why, e, "cannot make an event loop: %s", strerror(errno));
    if (e != ERR_OK) {
        undo(m);
        guardian_dismiss(&m->guardian);
        manager_release(m);
        return e;
    }
    m->answers.now_ns = clock_ns();
    m->watchdog_period_ns = notify_watchdog_ns();
    m->sweep_ns = m->answers.now_ns; /* what a dead manager's workers left */
    manager_publish(m);
    /* Else once it is known where to. */
    if (m->sentinel == NULL)
        routes_start(&m->routes);
    return ERR_OK;
}
