/* The loop, and what belongs to no single client. */
#include "workers/gateway/gateway.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "ipc/clock.h"

#define EVENTS_MAX 256

/* What is asked of the manager's state is believed for so long. */
#define VIEW_NS NS_PER_S

/* Streams that are given up without a word are looked at so often. */
#define TICK_MS 1000

/* Requests in Redis that block: each has a message and a pipe of its own. */
#define BLOCKING_WINDOW 1024

/* Descriptors for all but clients, topics and blocking requests. */
#define FDS_OTHER 256
#define FDS_PER_TOPIC 2

void gateway_say(const char *format, ...)
{
    char line[1024];
    va_list ap;
    va_start(ap, format);
    vsnprintf(line, sizeof(line), format, ap);
    va_end(ap);
    fprintf(stderr, "mqredis-gateway: %s\n", line);
}

/* ---- the loop's descriptors ---- */

bool gateway_watch(struct gateway *g, struct source *source, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = source};
    return epoll_ctl(g->epoll_fd, EPOLL_CTL_ADD, source->fd, &ev) == 0;
}

void gateway_unwatch(struct gateway *g, struct source *source)
{
    epoll_ctl(g->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
}

static void handle_ready(struct gateway *g, struct source *source,
                         uint32_t events)
{
    (void)events;
    if (source == &g->mq_source)
        g->mq_ready = true;
    else
        g->blocking_ready = true;
}

static void signals_ready(struct gateway *g, struct source *source,
                          uint32_t events)
{
    (void)events;
    struct signalfd_siginfo info;
    while (read(source->fd, &info, sizeof(info)) == sizeof(info)) {
        if (info.ssi_signo == SIGUSR1)
            report_line(g);
        else
            g->stopping++;
    }
}

/* ---- the channel ---- */

bool gateway_has_room(struct gateway *g)
{
    if (g->inflight >= g->options->max_inflight)
        return false;
    if (mqredis_unsent(g->mq) < UNSENT_PAUSE)
        return true;
    /* Merely not sent yet in this round? */
    mqredis_flush(g->mq);
    return mqredis_unsent(g->mq) < UNSENT_PAUSE;
}

const struct channel_view *gateway_view(struct gateway *g)
{
    struct channel_view *v = &g->view;
    if (v->seen_ns != 0 && g->now_ns - v->seen_ns < VIEW_NS)
        return v;
    struct mqredis_info info;
    v->seen_ns = g->now_ns;
    /* Without a manager, what was known stays. */
    if (mqredis_info(g->mq, &info, NULL) == MQREDIS_OK) {
        v->resp = info.resp;
        v->db = info.db;
        v->message_size = info.message_size;
    }
    return v;
}

/* ---- beginning ---- */

/* As many descriptors as clients may need, or fewer clients. */
static void fit_limits(struct options *o)
{
    struct rlimit limit;
    uint64_t other =
        FDS_OTHER + BLOCKING_WINDOW + (uint64_t)o->max_topics * FDS_PER_TOPIC;
    uint64_t need = other + o->max_clients;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= need)
        return;
    limit.rlim_cur = need < limit.rlim_max ? need : limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= need)
        return;
    uint64_t fit = limit.rlim_cur > other + 1 ? limit.rlim_cur - other
                                              : limit.rlim_cur / 2;
    if (fit >= o->max_clients)
        return;
    gateway_say("ulimit -n is %llu: --max-clients is %llu, not %u",
                (unsigned long long)limit.rlim_cur, (unsigned long long)fit,
                o->max_clients);
    o->max_clients = (uint32_t)fit;
}

static enum err open_signals(struct gateway *g)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR1);
    signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return ERR_SYS;
    g->signals.fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    g->signals.ready = signals_ready;
    if (g->signals.fd < 0 || !gateway_watch(g, &g->signals, EPOLLIN))
        return ERR_SYS;
    return ERR_OK;
}

static enum err open_handle(struct gateway *g, struct mqredis **mq,
                            struct source *source, struct err_text *why)
{
    struct mqredis_error error;
    *mq = mqredis_open(g->options->channel, &error);
    if (*mq == NULL)
        return err_say(
            why, error.status == MQREDIS_INVALID ? ERR_INVALID : ERR_DENIED,
            "%s", error.text);
    source->fd = mqredis_fd(*mq);
    source->ready = handle_ready;
    if (source->fd < 0 || !gateway_watch(g, source, EPOLLIN))
        return err_say(why, ERR_SYS, "cannot watch the channel: %s",
                       strerror(errno));
    return ERR_OK;
}

enum err gateway_init(struct gateway *g, struct options *o,
                      struct err_text *why)
{
    *g = (struct gateway){
        .options = o,
        .epoll_fd = -1,
        .lock_fd = -1,
        .signals.fd = -1,
        .now_ns = clock_ns(),
        .view = {.resp = 2, .message_size = 8192},
    };
    fit_limits(o);
    g->scratch = malloc((size_t)2 * READ_SIZE);
    if (g->scratch == NULL)
        return err_say(why, ERR_NOMEM, "out of memory");
    g->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (g->epoll_fd < 0 || open_signals(g) != ERR_OK)
        return err_say(why, ERR_SYS, "cannot make descriptors: %s",
                       strerror(errno));
    enum err e = open_handle(g, &g->mq, &g->mq_source, why);
    if (e == ERR_OK)
        e = open_handle(g, &g->blocking, &g->blocking_source, why);
    if (e != ERR_OK)
        return e;
    mqredis_set_manual_flush(g->mq, true);
    mqredis_set_manual_flush(g->blocking, true);
    mqredis_set_timeout(g->mq, o->timeout_ms);
    mqredis_set_timeout(g->blocking, -1);
    mqredis_set_window(g->blocking, BLOCKING_WINDOW);
    return listen_open(g, why);
}

/* ---- running ---- */

/* How long the loop may sleep. */
static int sleep_ms(const struct gateway *g)
{
    uint64_t until = 0;
    if (g->stopping > 0)
        until = g->stop_ns;
    if (!g->accepting && g->accept_retry_ns != 0 &&
        (until == 0 || g->accept_retry_ns < until))
        until = g->accept_retry_ns;
    if (g->busy_topics != NULL || g->catalog_came)
        return 0;
    return clock_poll_ms(until, g->topic_count > 0 ? TICK_MS : -1);
}

static void settle(struct gateway *g)
{
    /* Who was held because the channel was full goes first. */
    while (g->stalled.first != NULL && gateway_has_room(g)) {
        struct client *c = g->stalled.first;
        client_unstall(c);
        client_settle(c);
    }
    while (g->dirty != NULL) {
        struct client *c = g->dirty;
        g->dirty = c->next_dirty;
        c->dirty = false;
        client_settle(c);
    }
    mqredis_flush(g->mq);
    mqredis_flush(g->blocking);
}

/* Told to end: nobody comes, nothing is read, what is in flight is answered. */
static void begin_stop(struct gateway *g)
{
    g->stop_ns = g->now_ns + g->options->drain_timeout_ms * NS_PER_MS;
    listen_close(g);
    struct client *next;
    for (struct client *c = g->clients; c != NULL; c = next) {
        next = c->next;
        client_leave(c);
    }
}

enum err gateway_run(struct gateway *g, struct err_text *why)
{
    struct epoll_event ev[EVENTS_MAX];
    bool stopping = false;
    for (;;) {
        int n = epoll_wait(g->epoll_fd, ev, EVENTS_MAX, sleep_ms(g));
        if (n < 0 && errno != EINTR)
            return err_say(why, ERR_SYS, "epoll_wait: %s", strerror(errno));
        g->now_ns = clock_ns();
        for (int i = 0; i < n; i++) {
            struct source *source = ev[i].data.ptr;
            if (source->fd >= 0)
                source->ready(g, source, ev[i].events);
        }
        forward_collect(g);
        topics_tick(g);
        if (g->stopping > 0 && !stopping) {
            stopping = true;
            begin_stop(g);
        }
        settle(g);
        clients_reap(g);
        listen_update(g);
        if (stopping && (g->client_count == 0 || g->stopping > 1 ||
                         g->now_ns >= g->stop_ns))
            return ERR_OK;
    }
}

void gateway_release(struct gateway *g)
{
    listen_close(g);
    while (g->clients != NULL)
        client_close(g->clients);
    clients_reap(g);
    topics_release(g);
    catalog_release(&g->catalog);
    mqredis_close(g->blocking);
    mqredis_close(g->mq);
    if (g->signals.fd >= 0) {
        report_line(g);
        close(g->signals.fd);
    }
    if (g->epoll_fd >= 0)
        close(g->epoll_fd);
    free(g->scratch);
}
