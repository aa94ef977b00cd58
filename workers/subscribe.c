/*
 * `subscribe`, `psubscribe` and `ssubscribe`: prints what comes, as redis-cli
 * does, until SIGINT or SIGTERM. What is lost is told on standard error, so
 * that a pipe behind standard output carries messages alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "workers/worker.h"

/* A look at the stream without a wake-up: see mqredis_stream_fd. */
#define LOOK_MS 1000
#define RENEW_SLICE_MS 200
#define RENEW_SLICE_MAX_MS 1600

/* A signal's handler knows nothing but globals. */
static volatile sig_atomic_t stopped;
static int wake_fd = -1;

/* Wakes a poll, and ends a write that blocks because nobody reads the output:
 * with another try each second, for one that has not begun yet. */
static void on_signal(int number)
{
    (void)number;
    int saved = errno;
    stopped = 1;
    (void)!write(wake_fd, "", 1);
    alarm(1);
    errno = saved;
}

static bool catch_signals(int *readable)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
        return false;
    *readable = fds[0];
    wake_fd = fds[1];
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    return true;
}

typedef struct mqredis_stream *opener(struct mqredis *mq, size_t count,
                                      const char *const *names,
                                      const size_t *len,
                                      struct mqredis_error *error);

/* The call that the command stands for; NULL: it is no subscription. */
static opener *opener_of(const struct options *o)
{
    static const struct {
        const char *word;
        opener *call;
    } openers[] = {{"subscribe", mqredis_subscribe},
                   {"psubscribe", mqredis_psubscribe},
                   {"ssubscribe", mqredis_ssubscribe}};
    for (size_t i = 0; i < sizeof(openers) / sizeof(openers[0]); i++)
        if (o->argc > 0 && !o->last_from_stdin &&
            strcasecmp(o->argv[0], openers[i].word) == 0)
            return openers[i].call;
    return NULL;
}

bool is_subscription(const struct options *o)
{
    return opener_of(o) != NULL;
}

static struct mqredis_stream *open_stream(struct worker *w)
{
    const struct options *o = w->options;
    struct mqredis_error error = {.status = MQREDIS_OK};
    const char *const *names = (const char *const *)o->argv + 1;
    size_t count = (size_t)o->argc - 1;
    struct mqredis_stream *s = opener_of(o)(w->mq, count, names, NULL, &error);
    if (s == NULL)
        worker_say(w, exit_code_of(error.status), "%s", error.text);
    return s;
}

/* False: the output is gone, or a signal ended the wait for it. */
static bool flush(struct worker *w)
{
    return fflush(stdout) == 0 || (!stopped && worker_flush(w));
}

static bool print(struct worker *w, const char *at, size_t left)
{
    while (left > 0) {
        size_t used = 0;
        enum err e = resp_print(stdout, at, left, w->format, &used);
        if (e == ERR_SYS) {
            if (!stopped)
                worker_say(w, 1, "cannot write the output: %s",
                           strerror(errno));
            return false;
        }
        if (e != ERR_OK || used == 0) {
            worker_say(w, EXIT_UNKNOWN, "a message cannot be read");
            return false;
        }
        at += used;
        left -= used;
    }
    return true;
}

/* The manager ended: its successor is asked. False: that is the end. */
static bool renew(struct worker *w, struct mqredis_stream *s,
                  const struct mqredis_event *end)
{
    struct mqredis_error error;
    if (!flush(w))
        return false;
    if (end->status != MQREDIS_UNAVAILABLE) {
        worker_say(w, exit_code_of(end->status), "%.*s", (int)end->len,
                   end->data);
        return false;
    }
    worker_say(w, 0, "%.*s: subscribing again", (int)end->len, end->data);
    uint64_t end_ns = clock_deadline(w->options->timeout_ms);
    enum mqredis_status status;
    int slice_ms = RENEW_SLICE_MS;
    do {
        /* In slices: a signal is not to wait for a manager. Where one is there,
         * and Redis does not confirm so soon, they get longer. */
        status =
            mqredis_stream_renew(s, clock_poll_ms(end_ns, slice_ms), &error);
        if (status == MQREDIS_EXPIRED && slice_ms < RENEW_SLICE_MAX_MS)
            slice_ms *= 2;
    } while ((status == MQREDIS_UNAVAILABLE || status == MQREDIS_EXPIRED) &&
             !stopped && (end_ns == 0 || clock_ns() < end_ns));
    if (status != MQREDIS_OK && !stopped)
        worker_say(w, exit_code_of(status), "%s", error.text);
    return status == MQREDIS_OK;
}

/* False: nothing more is to be printed. */
static bool take_event(struct worker *w, struct mqredis_stream *s,
                       const struct mqredis_event *ev)
{
    switch (ev->type) {
    case MQREDIS_SUBSCRIBED:
    case MQREDIS_MESSAGE:
        return print(w, ev->raw, ev->raw_len);
    case MQREDIS_LAGGED:
        if (!flush(w))
            return false;
        worker_say(w, 0, "lagged: %llu messages were dropped here",
                   (unsigned long long)ev->count);
        return true;
    case MQREDIS_GAP:
        if (!flush(w))
            return false;
        worker_say(w, 0,
                   "gap: nobody listened for %llu ms, messages may be missing "
                   "here",
                   (unsigned long long)ev->count);
        return true;
    case MQREDIS_END:
        return renew(w, s, ev);
    }
    return false;
}

void subscribe_run(struct worker *w)
{
    int woken;
    struct mqredis_stream *s = open_stream(w);
    if (s == NULL)
        return;
    if (!catch_signals(&woken)) {
        worker_say(w, EXIT_UNAVAILABLE, "cannot make a pipe: %s",
                   strerror(errno));
        mqredis_stream_close(s);
        return;
    }
    while (!stopped) {
        struct mqredis_event ev;
        if (mqredis_stream_next(s, 0, &ev)) {
            if (!take_event(w, s, &ev))
                break;
            continue;
        }
        if (!flush(w))
            break;
        struct pollfd p[2] = {
            {.fd = mqredis_stream_fd(s), .events = POLLIN},
            {.fd = woken, .events = POLLIN},
        };
        poll(p, 2, LOOK_MS);
    }
    mqredis_stream_close(s);
    if (!stopped)
        return;
    /* What was printed goes out, if somebody reads it. */
    alarm(1);
    if (fflush(stdout) != 0)
        __fpurge(stdout);
    w->exit_code = 0;
}
