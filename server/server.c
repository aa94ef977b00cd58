/*
 * The loop: wait, hand each event to its source, do the housekeeping that is
 * due, send what the batch has produced.
 */
#include "server/server.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "server/blocking.h"
#include "server/client.h"
#include "server/command.h"
#include "server/listen.h"
#include "server/pubsub.h"

#define EVENTS_PER_STEP 512
#define CYCLE_MS (1000 / SERVER_CYCLES_PER_S)

/* Of each cycle, at most a quarter goes into expiry and a hundredth into moving
 * a hash table along; the rest is the clients'. */
#define EXPIRE_BUDGET_US (CYCLE_MS * 1000 / 4)
#define RESIZE_BUDGET_US (CYCLE_MS * 1000 / 100)

/* How long a server that was asked to end waits for slow readers. */
#define DRAIN_MS 5000

/* Reads of at least 64 KB from each client before it ends. */
#define DRAIN_READS 64

/* Descriptors which are not clients: standard ones, listeners, epoll, signals,
 * and a few to spare. */
#define DESCRIPTORS_OWN 32

/* ---- time and chance ---- */

static int64_t real_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int64_t monotonic_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t server_now_ms(struct server *s)
{
    if (s->now_ms == 0)
        s->now_ms = real_ms();
    return s->now_ms;
}

/* SplitMix64: good enough to choose keys, no secret. */
uint64_t server_random(struct server *s)
{
    uint64_t z = (s->random_state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static void seed(struct server *s)
{
    uint64_t bytes[5] = {0};
    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
        bytes[0] = (uint64_t)monotonic_us(); /* early boot: better than none */
    memcpy(s->seed, bytes, sizeof(s->seed));
    s->random_state = bytes[2];
    snprintf(s->run_id, sizeof(s->run_id), "%016llx%016llx%08llx",
             (unsigned long long)bytes[3], (unsigned long long)bytes[4],
             (unsigned long long)(server_random(s) >> 32));
}

/* ---- sources ---- */

bool server_watch(struct server *s, struct source *source, uint32_t events)
{
    if (source->events == events)
        return true;
    struct epoll_event e = {.events = events, .data.ptr = source};
    int op = source->events == 0 ? EPOLL_CTL_ADD
             : events == 0       ? EPOLL_CTL_DEL
                                 : EPOLL_CTL_MOD;
    if (epoll_ctl(s->epoll_fd, op, source->fd, &e) != 0)
        return false;
    source->events = events;
    return true;
}

void server_unwatch(struct server *s, struct source *source)
{
    (void)!server_watch(s, source, 0);
}

void server_update_listening(struct server *s)
{
    bool listen = s->phase == SERVER_RUNNING &&
                  s->client_count < s->options.max_clients &&
                  s->loop_ms >= s->accept_retry_ms;
    if (listen == s->listening)
        return;
    s->listening = listen;
    for (size_t i = 0; i < s->listener_count; i++)
        (void)!server_watch(s, &s->listeners[i].source, listen ? EPOLLIN : 0);
}

/* ---- life ---- */

enum err server_provide_descriptors(const struct options *o,
                                    struct err_text *why)
{
    rlim_t want = (rlim_t)o->max_clients + DESCRIPTORS_OWN;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= want)
        return ERR_OK;
    rlim_t old = limit.rlim_cur;
    limit.rlim_cur = want;
    if (limit.rlim_max < want)
        limit.rlim_max = want; /* root may */
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
        return ERR_OK;
    return err_say(why, ERR_LIMIT,
                   "--maxclients %zu needs %llu open files, but only %llu are "
                   "allowed: lower it, or raise the limit (ulimit -n)",
                   o->max_clients, (unsigned long long)want,
                   (unsigned long long)old);
}

enum err server_new(struct server **out, const struct options *options,
                    struct err_text *why)
{
    struct server *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return err_say(why, ERR_NOMEM, "out of memory");
    s->options = *options;
    s->next_client_id = 1;
    s->started_ms = s->loop_ms = real_ms();
    s->next_cycle_ms = s->loop_ms + CYCLE_MS;
    seed(s);
    s->read_buffer = mem_alloc(&s->mem, SERVER_READ_SIZE);
    s->commands = command_index_new(&s->mem);
    for (int i = 0; i < OPTIONS_DATABASES; i++)
        db_init(&s->dbs[i], s, i);
    dict_init(&s->channels, &s->mem, s->seed);
    dict_init(&s->patterns, &s->mem, s->seed);
    heap_init(&s->timeouts, &s->mem);
    enum err e = ERR_OK;
    s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (s->epoll_fd < 0)
        e = err_say(why, ERR_SYS, "cannot create an epoll: %s",
                    strerror(errno));
    if (e == ERR_OK)
        e = server_provide_descriptors(&s->options, why);
    if (e == ERR_OK)
        e = listen_open(s, why);
    if (e != ERR_OK) {
        server_free(s);
        return e;
    }
    server_update_listening(s);
    *out = s;
    return ERR_OK;
}

void server_free(struct server *s)
{
    if (s == NULL)
        return;
    s->phase = SERVER_STOPPED;
    while (s->clients.first != NULL)
        client_close(s, s->clients.first);
    s->dirty = NULL;
    s->resumed = NULL;
    client_free_dead(s);
    blocking_release(s);
    listen_close(s);
    for (int i = 0; i < OPTIONS_DATABASES; i++)
        db_release(&s->dbs[i]);
    pubsub_release(s);
    heap_release(&s->timeouts);
    command_index_free(s->commands, &s->mem);
    mem_free(&s->mem, s->read_buffer);
    if (s->epoll_fd >= 0)
        close(s->epoll_fd);
    assert(s->mem.used == 0); /* or something was forgotten */
    free(s);
}

/* ---- the loop ---- */

static void cycle_dbs(struct server *s)
{
    int64_t end = monotonic_us() + EXPIRE_BUDGET_US;
    for (int i = 0; i < OPTIONS_DATABASES; i++) {
        int64_t left = end - monotonic_us();
        if (!db_expire_cycle(&s->dbs[i], left > 0 ? left : 0))
            s->stats.expire_cycles_cut++;
    }
    end = monotonic_us() + RESIZE_BUDGET_US;
    for (int i = 0; i < OPTIONS_DATABASES; i++)
        while (monotonic_us() < end && dict_work(&s->dbs[i].keys, 100))
            ;
}

static void cycle(struct server *s)
{
    if (s->loop_ms < s->next_cycle_ms && s->next_cycle_ms - s->loop_ms < 1000)
        return;
    s->next_cycle_ms = s->loop_ms + CYCLE_MS;
    cycle_dbs(s);
    struct client *next;
    for (struct client *c = s->clients.first; c != NULL; c = next) {
        next = c->next;
        client_cycle(s, c);
    }
}

/* How long the loop may sleep. */
static int sleep_ms(const struct server *s, int timeout_ms)
{
    int64_t until = s->next_cycle_ms;
    int64_t timeout = blocking_next_timeout(s);
    if (timeout >= 0 && timeout < until)
        until = timeout;
    int64_t left = until - real_ms();
    if (left < 0)
        left = 0;
    return left < timeout_ms ? (int)left : timeout_ms;
}

void server_step(struct server *s, int timeout_ms)
{
    struct epoll_event events[EVENTS_PER_STEP];
    int n = epoll_wait(s->epoll_fd, events, EVENTS_PER_STEP,
                       sleep_ms(s, timeout_ms));
    s->loop_ms = real_ms();
    s->now_ms = 0;
    for (int i = 0; i < n; i++) {
        struct source *source = events[i].data.ptr;
        source->ready(s, source, events[i].events);
    }
    blocking_check_timeouts(s, s->loop_ms);
    client_resume_all(s);
    cycle(s);
    client_flush_all(s);
    client_free_dead(s);
    server_update_listening(s);
}

/* Reads what has arrived from a client, as long as there is something, but not
 * for ever: it may go on sending. */
static void read_last(struct server *s, struct client *c)
{
    const uint32_t done = CLIENT_DEAD | CLIENT_CLOSE_AFTER_REPLY |
                          CLIENT_BLOCKED | CLIENT_OVER_LIMIT;
    for (int i = 0; i < DRAIN_READS && (c->flags & done) == 0; i++) {
        uint64_t before = s->stats.bytes_in;
        client_read(s, c);
        if (s->stats.bytes_in == before)
            break;
    }
}

/* Commands that have arrived by now are executed; then their replies get some
 * time to leave. */
static void drain(struct server *s)
{
    listen_close(s);
    struct client *next;
    for (struct client *c = s->clients.first; c != NULL; c = next) {
        next = c->next;
        if (c->source.fd >= 0)
            read_last(s, c);
    }
    client_resume_all(s);
    int64_t end = real_ms() + DRAIN_MS;
    for (;;) {
        client_flush_all(s);
        client_free_dead(s);
        bool waiting = false;
        for (struct client *c = s->clients.first; c != NULL; c = next) {
            next = c->next;
            if (buffer_len(&c->out) == 0)
                client_close(s, c);
            else if (server_watch(s, &c->source, EPOLLOUT))
                waiting = true;
        }
        client_free_dead(s);
        int64_t left = end - real_ms();
        if (!waiting || left <= 0 || s->phase == SERVER_STOPPED)
            return;
        struct epoll_event events[EVENTS_PER_STEP];
        int n = epoll_wait(s->epoll_fd, events, EVENTS_PER_STEP, (int)left);
        for (int i = 0; i < n; i++) {
            struct source *source = events[i].data.ptr;
            /* Whoever hung up is closed; nothing more is read. */
            uint32_t happened = events[i].events & ~(uint32_t)EPOLLIN;
            source->ready(s, source, happened);
        }
    }
}

void server_run(struct server *s)
{
    while (s->phase == SERVER_RUNNING)
        server_step(s, CYCLE_MS);
    drain(s);
    s->phase = SERVER_STOPPED;
}

void server_stop(struct server *s)
{
    s->phase = s->phase == SERVER_RUNNING ? SERVER_STOPPING : SERVER_STOPPED;
    server_update_listening(s);
}
