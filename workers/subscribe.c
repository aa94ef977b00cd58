/*
 * `subscribe` and `psubscribe`: prints what comes, as redis-cli does, until
 * SIGINT or SIGTERM. What is lost is told on standard error, so that a pipe
 * behind standard output carries messages alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "workers/worker.h"

/* A look at the stream without a wake-up: see mqredis_stream_fd. */
#define LOOK_MS 1000

/* A signal's handler knows nothing but globals. */
static volatile sig_atomic_t stopped;
static int wake_fd = -1;

static void on_signal(int number)
{
    (void)number;
    int saved = errno;
    stopped = 1;
    (void)!write(wake_fd, "", 1);
    errno = saved;
}

/* Signals wake a poll and end a write that blocks. */
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
    return true;
}

static bool is_pattern(const struct options *o)
{
    return strcasecmp(o->argv[0], "psubscribe") == 0;
}

bool is_subscription(const struct options *o)
{
    return o->argc > 0 && !o->last_from_stdin &&
           (is_pattern(o) || strcasecmp(o->argv[0], "subscribe") == 0);
}

static struct mqredis_stream *open_stream(struct worker *w)
{
    const struct options *o = w->options;
    struct mqredis_error error = {.status = MQREDIS_OK};
    const char *const *names = (const char *const *)o->argv + 1;
    size_t count = (size_t)o->argc - 1;
    struct mqredis_stream *s =
        is_pattern(o) ? mqredis_psubscribe(w->mq, count, names, NULL, &error)
                      : mqredis_subscribe(w->mq, count, names, NULL, &error);
    if (s == NULL)
        worker_say(w, exit_code_of(error.status), "%s", error.text);
    return s;
}

/* The manager ended: its successor is asked. False: that is the end. */
static bool renew(struct worker *w, struct mqredis_stream *s,
                  const struct mqredis_event *end)
{
    struct mqredis_error error;
    worker_flush(w);
    if (end->status != MQREDIS_UNAVAILABLE) {
        worker_say(w, exit_code_of(end->status), "%.*s", (int)end->len,
                   end->data);
        return false;
    }
    worker_say(w, 0, "%.*s: subscribing again", (int)end->len, end->data);
    enum mqredis_status status =
        mqredis_stream_renew(s, w->options->timeout_ms, &error);
    if (status != MQREDIS_OK && !stopped)
        worker_say(w, exit_code_of(status), "%s", error.text);
    return status == MQREDIS_OK;
}

/* False: nothing more is to be printed. */
static bool take_event(struct worker *w, struct mqredis_stream *s,
                       const struct mqredis_event *ev)
{
    struct mqredis_raw raw = {
        .status = MQREDIS_OK, .data = ev->raw, .len = ev->raw_len};
    switch (ev->type) {
    case MQREDIS_SUBSCRIBED:
    case MQREDIS_MESSAGE:
        return worker_take(w, &raw, 0);
    case MQREDIS_LAGGED:
        worker_flush(w);
        worker_say(w, 0, "lagged: %llu messages were dropped here",
                   (unsigned long long)ev->count);
        return true;
    case MQREDIS_GAP:
        worker_flush(w);
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
    if (!catch_signals(&woken)) {
        worker_say(w, EXIT_UNAVAILABLE, "cannot make a pipe: %s",
                   strerror(errno));
        return;
    }
    struct mqredis_stream *s = open_stream(w);
    while (s != NULL && !stopped) {
        struct mqredis_event ev;
        if (mqredis_stream_next(s, 0, &ev)) {
            if (!take_event(w, s, &ev))
                break;
            continue;
        }
        if (!worker_flush(w))
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
    /* What was printed in whole lines goes out, if it can. */
    fflush(stdout);
    w->exit_code = 0;
}
