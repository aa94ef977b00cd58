/*
 * The handle: opening, joining a channel again when its manager changed,
 * closing, and what can be asked of it.
 */
#include "workers/handle.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/payload.h"
#include "ipc/printable.h"
#include "ipc/status.h"

/* While no manager is there, how often to look. */
#define LOOK_NS (10 * NS_PER_MS)
/* A manager's death does not wake who waits for its state. */
#define STATE_SLICE_NS (100 * NS_PER_MS)

const char *mqredis_status_str(enum mqredis_status status)
{
    switch (status) {
    case MQREDIS_OK:
        return "ok";
    case MQREDIS_INVALID:
        return "invalid";
    case MQREDIS_EXPIRED:
        return "expired";
    case MQREDIS_UNAVAILABLE:
        return "unavailable";
    case MQREDIS_TOO_BIG:
        return "too-big";
    case MQREDIS_LOST:
        return "lost";
    case MQREDIS_NOMEM:
        return "out of memory";
    case MQREDIS_SYSTEM:
        return "system";
    }
    return "unknown";
}

const char *mqredis_version(void)
{
    return MQREDIS_VERSION;
}

enum mqredis_status error_say(struct mqredis_error *why,
                              enum mqredis_status status, const char *format,
                              ...)
{
    if (why == NULL)
        return status;
    why->status = status;
    va_list ap;
    va_start(ap, format);
    vsnprintf(why->text, sizeof(why->text), format, ap);
    va_end(ap);
    printable_only(why->text, strlen(why->text));
    return status;
}

/* ---- joining ---- */

static enum mqredis_status status_of(enum err e)
{
    switch (e) {
    case ERR_OK:
        return MQREDIS_OK;
    case ERR_ABSENT:
    case ERR_CLOSED:
        return MQREDIS_UNAVAILABLE;
    case ERR_INVALID:
        return MQREDIS_INVALID;
    case ERR_NOMEM:
        return MQREDIS_NOMEM;
    case ERR_AGAIN:
    case ERR_TIMEOUT:
    case ERR_PROTO:
    case ERR_LIMIT:
    case ERR_DENIED:
    case ERR_BUSY:
    case ERR_SYS:
        break;
    }
    return MQREDIS_SYSTEM;
}

static enum mqredis_status link_open(const struct mqredis *mq,
                                     struct link **out,
                                     struct mqredis_error *why)
{
    struct link *link = calloc(1, sizeof(*link));
    if (link == NULL)
        return error_say(why, MQREDIS_NOMEM, "channel '%s': out of memory",
                         mq->name);
    struct err_text text = {.text = ""};
    struct {
        uint64_t client, ids;
    } seed = {0};
    enum err e = channel_open(&link->ch, mq->channel, &text);
    if (e != ERR_OK)
        goto fail;
    while (e == ERR_OK && seed.client == 0)
        e = random_bytes(&seed, sizeof(seed));
    if (e == ERR_OK)
        e = mpsc_open(&link->tx, &link->ch, &text);
    if (e != ERR_OK) {
        channel_close(&link->ch);
        goto fail;
    }
    oneshot_pool_init(&link->pool, link->ch.reply_fd,
                      link->ch.owner != link->ch.user, seed.client);
    link->ids.state = seed.ids;
    link->pid = (uint32_t)getpid();
    link->refs = 1;
    *out = link;
    return MQREDIS_OK;
fail:
    free(link);
    if (e == ERR_ABSENT)
        return error_say(why, MQREDIS_UNAVAILABLE,
                         "no manager serves channel '%s': start one with "
                         "mqredis-manager --channel %s",
                         mq->name, mq->channel);
    return error_say(why, status_of(e), "%s",
                     text.text[0] ? text.text : strerror(errno));
}

void link_unref(struct mqredis *mq, struct link *link)
{
    if (--link->refs > 0)
        return;
    unwatch_link(mq, link);
    oneshot_pool_close(&link->pool);
    mpsc_sender_close(&link->tx);
    channel_close(&link->ch);
    free(link);
}

enum mqredis_status handle_join(struct mqredis *mq, struct mqredis_error *why)
{
    if (mq->link != NULL) {
        if (!mq->link->dead)
            return MQREDIS_OK;
        watch_queue(mq, false);
        link_unref(mq, mq->link);
        mq->link = NULL;
    }
    enum mqredis_status s = link_open(mq, &mq->link, why);
    if (s == MQREDIS_OK && mq->inherited != NULL) {
        /* Only now, so that the channel never sees its senders gone. */
        link_unref(mq, mq->inherited);
        mq->inherited = NULL;
    }
    return s;
}

uint64_t handle_deadline(struct mqredis *mq, uint64_t now)
{
    int64_t ms = atomic_load_explicit(&mq->timeout_ms, memory_order_relaxed);
    if (ms < 0 || (uint64_t)ms > (UINT64_MAX - now) / NS_PER_MS)
        return 0;
    return now + (uint64_t)ms * NS_PER_MS;
}

/* ---- opening and closing ---- */

bool handle_init_changed(struct mqredis *mq)
{
    pthread_condattr_t attr;
    if (pthread_condattr_init(&attr) != 0)
        return false;
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    int e = pthread_cond_init(&mq->changed, &attr);
    pthread_condattr_destroy(&attr);
    return e == 0;
}

static bool sync_init(struct mqredis *mq)
{
    if (pthread_mutex_init(&mq->lock, NULL) != 0)
        return false;
    if (handle_init_changed(mq))
        return true;
    pthread_mutex_destroy(&mq->lock);
    return false;
}

static struct mqredis *handle_new(const char *channel)
{
    struct mqredis *mq = calloc(1, sizeof(*mq));
    if (mq == NULL)
        return NULL;
    mq->epoll_fd = mq->event_fd = mq->timer_fd = -1;
    atomic_init(&mq->timeout_ms, MQREDIS_TIMEOUT_MS);
    mq->window = FLIGHTS_MAX;
    mq->channel = strdup(channel);
    if (mq->channel == NULL || !sync_init(mq)) {
        free(mq->channel);
        free(mq);
        return NULL;
    }
    /* For messages: the last part of a path. */
    size_t len = strlen(channel);
    while (len > 1 && channel[len - 1] == '/')
        len--;
    const char *base = channel + len;
    while (base > channel && base[-1] != '/')
        base--;
    snprintf(mq->name, sizeof(mq->name), "%.*s",
             (int)(len - (size_t)(base - channel)), base);
    return mq;
}

static void handle_free(struct mqredis *mq)
{
    pthread_cond_destroy(&mq->changed);
    pthread_mutex_destroy(&mq->lock);
    free(mq->channel);
    free(mq);
}

struct mqredis *mqredis_open(const char *channel, struct mqredis_error *error)
{
    if (channel == NULL) {
        channel = secure_getenv("MQREDIS_CHANNEL");
        if (channel == NULL || channel[0] == '\0')
            channel = CHANNEL_DEFAULT;
    }
    struct err_text text = {.text = ""};
    if (channel_check_name(channel, &text) != ERR_OK) {
        error_say(error, MQREDIS_INVALID, "%s", text.text);
        return NULL;
    }
    struct mqredis *mq = handle_new(channel);
    if (mq == NULL) {
        error_say(error, MQREDIS_NOMEM, "out of memory");
        return NULL;
    }
    enum mqredis_status s = handle_join(mq, error);
    /* The command that finds no manager either says so. */
    if (s == MQREDIS_UNAVAILABLE)
        s = MQREDIS_OK;
    if (s == MQREDIS_OK && !fork_add(mq))
        s = error_say(error, MQREDIS_NOMEM, "out of memory");
    if (s == MQREDIS_OK)
        return mq;
    if (mq->link != NULL)
        link_unref(mq, mq->link);
    handle_free(mq);
    return NULL;
}

static void drop_flights(struct mqredis *mq, struct flight_list *list)
{
    struct mqredis_error gone = {.status = MQREDIS_LOST, .text = "closed"};
    while (list->first != NULL) {
        struct flight *f = list->first;
        flight_list_remove(list, f);
        f->failed = true;
        flight_land(mq, f, &gone);
    }
}

void mqredis_close(struct mqredis *mq)
{
    if (mq == NULL)
        return;
    fork_remove(mq);
    streams_close(mq);
    pthread_mutex_lock(&mq->lock);
    drop_flights(mq, &mq->unsent);
    drop_flights(mq, &mq->flights);
    while (mq->done_first != NULL) {
        struct mqredis_request *r = mq->done_first;
        request_unlist(mq, r);
        request_free(r);
    }
    while (mq->spares.first != NULL) {
        struct flight *f = mq->spares.first;
        flight_list_remove(&mq->spares, f);
        free(f->commands);
        free(f->buf);
        free(f);
    }
    if (mq->link != NULL)
        link_unref(mq, mq->link);
    if (mq->inherited != NULL)
        link_unref(mq, mq->inherited);
    int fds[] = {mq->epoll_fd, mq->event_fd, mq->timer_fd};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    pthread_mutex_unlock(&mq->lock);
    handle_free(mq);
}

void handle_leave(struct mqredis *mq)
{
    if (mq == NULL || mq->link == NULL)
        return;
    struct oneshot_pool *pool = &mq->link->pool;
    for (size_t i = 0; i < pool->idle_count; i++) {
        if (pool->idle[i].payload.fd >= 0)
            payload_unlink(pool->payload_fd, pool->client, pool->idle[i].slot);
        oneshot_unlink(pool->reply_fd, pool->client, pool->idle[i].slot);
    }
}

void mqredis_set_timeout(struct mqredis *mq, int64_t timeout_ms)
{
    atomic_store_explicit(&mq->timeout_ms, timeout_ms, memory_order_relaxed);
}

void mqredis_set_spin(struct mqredis *mq, unsigned spin_us)
{
    if (spin_us > MQREDIS_SPIN_MAX_US)
        spin_us = MQREDIS_SPIN_MAX_US;
    atomic_store_explicit(&mq->spin_us, spin_us, memory_order_relaxed);
}

void mqredis_set_window(struct mqredis *mq, unsigned messages)
{
    pthread_mutex_lock(&mq->lock);
    mq->window = messages < 1                    ? 1
                 : messages > MQREDIS_WINDOW_MAX ? MQREDIS_WINDOW_MAX
                                                 : messages;
    pthread_mutex_unlock(&mq->lock);
}

uint64_t handle_spin_until(struct mqredis *mq, uint64_t end_ns)
{
    uint32_t us = atomic_load_explicit(&mq->spin_us, memory_order_relaxed);
    if (us == 0)
        return 0;
    uint64_t until = clock_ns() + us * NS_PER_US;
    return end_ns != 0 && end_ns < until ? end_ns : until;
}

/* ---- the manager's state ---- */

/* Looks at the channel once. With `sleep_until` (not 0) it then sleeps, until
 * the state changes or for a moment. */
static enum mqredis_status look(struct mqredis *mq, struct manager_state *state,
                                uint64_t sleep_until, struct mqredis_error *why)
{
    pthread_mutex_lock(&mq->lock);
    if (mq->link != NULL && !mpsc_receiver_alive(&mq->link->tx))
        mq->link->dead = true;
    enum mqredis_status s = handle_join(mq, why);
    const struct status *shared = NULL;
    if (s == MQREDIS_OK) {
        struct err_text text = {.text = ""};
        enum err e = status_open(&mq->link->ch, &shared, &text);
        if (e != ERR_OK)
            s = error_say(why, status_of(e), "channel '%s': %s", mq->name,
                          text.text[0] ? text.text : err_str(e));
    }
    pthread_mutex_unlock(&mq->lock);
    uint32_t version;
    if (s == MQREDIS_OK && status_read_state(shared, state, &version) != ERR_OK)
        s = error_say(why, MQREDIS_UNAVAILABLE,
                      "channel '%s': its manager has no state yet", mq->name);
    if (s == MQREDIS_OK && sleep_until != 0 && state->kind != STATE_CONNECTED) {
        uint64_t until = clock_ns() + STATE_SLICE_NS;
        /* Whatever comes of it, the next look tells. */
        (void)!watch_wait(&shared->state, version,
                          until < sleep_until ? until : sleep_until);
    }
    if (shared != NULL)
        status_unmap(shared);
    return s;
}

enum mqredis_status mqredis_wait_ready(struct mqredis *mq, int64_t timeout_ms,
                                       struct mqredis_error *error)
{
    uint64_t deadline = clock_deadline(timeout_ms);
    uint64_t end = deadline == 0 ? UINT64_MAX : deadline;
    for (;;) {
        struct manager_state state;
        enum mqredis_status s = look(mq, &state, end, error);
        if (s == MQREDIS_OK && state.kind == STATE_CONNECTED)
            return MQREDIS_OK;
        if (s != MQREDIS_OK && s != MQREDIS_UNAVAILABLE)
            return s;
        uint64_t now = clock_ns();
        if (now >= end) {
            if (s != MQREDIS_OK)
                return s;
            return error_say(
                error, MQREDIS_UNAVAILABLE,
                "channel '%s': its manager is %s, not connected to %s%s%s",
                mq->name, manager_state_str(state.kind), state.server,
                state.error[0] ? ": " : "", state.error);
        }
        if (s != MQREDIS_OK) {
            uint64_t wait = end - now < LOOK_NS ? end - now : LOOK_NS;
            struct timespec pause = {.tv_nsec = (long)wait};
            nanosleep(&pause, NULL);
        }
    }
}

enum mqredis_status mqredis_info(struct mqredis *mq, struct mqredis_info *info,
                                 struct mqredis_error *error)
{
    struct manager_state state;
    enum mqredis_status s = look(mq, &state, 0, error);
    if (s != MQREDIS_OK)
        return s;
    struct mqredis_info i = {.manager_pid = state.pid,
                             .connected = state.kind == STATE_CONNECTED,
                             .resp = state.resp == 3 ? 3 : 2,
                             .db = state.db};
    pthread_mutex_lock(&mq->lock);
    if (mq->link != NULL && mpsc_sender_depth(&mq->link->tx, &i.queue_depth,
                                              &i.queue_capacity) == ERR_OK)
        i.message_size = mq->link->tx.msgsize;
    else
        s = error_say(error, MQREDIS_UNAVAILABLE,
                      "channel '%s': its manager has gone", mq->name);
    pthread_mutex_unlock(&mq->lock);
    snprintf(i.state, sizeof(i.state), "%s", manager_state_str(state.kind));
    snprintf(i.server, sizeof(i.server), "%s", state.server);
    snprintf(i.last_error, sizeof(i.last_error), "%s", state.error);
    if (s == MQREDIS_OK)
        *info = i;
    return s;
}
