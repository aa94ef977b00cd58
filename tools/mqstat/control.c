/*
 * Orders to a manager: one line into its `control` FIFO, which only its owner
 * may open, and a look at its status until that shows the effect.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tools/mqstat/mqstat.h"

#define LOOK_AGAIN_NS (100 * NS_PER_MS)

/* Whether the client table knows a pid; with `waiting`, as one that waits for
 * an answer. */
static bool client_there(const struct sample *s, long pid, bool waiting)
{
    struct client_row row;
    for (size_t i = 0; s->has_status && i < STATUS_CLIENTS; i++)
        if (status_client_read(&s->raw.clients[i], &row) &&
            row.pid == (uint32_t)pid && (row.inflight > 0 || !waiting))
            return true;
    return false;
}

/* A manager that is gone has drained, and does nothing else any more. */
static bool ended(const struct sample *s)
{
    return s->alive == ALIVE_NO || !s->has_status ||
           s->state.kind == STATE_CLOSED || s->state.kind == STATE_DIED;
}

static bool obeyed(const struct options *o, const struct sample *s,
                   uint32_t version_before)
{
    uint32_t kind = s->state.kind;
    if (strcmp(o->verb, "pause") == 0)
        return kind == STATE_PAUSED;
    if (strcmp(o->verb, "resume") == 0)
        return kind == STATE_CONNECTED || kind == STATE_RECONNECTING ||
               kind == STATE_STARTING;
    if (strcmp(o->verb, "drain") == 0)
        return kind == STATE_DRAINING;
    if (strcmp(o->verb, "reload") == 0)
        return atomic_load_explicit(&s->raw.state.version,
                                    memory_order_relaxed) != version_before;
    return !client_there(s, o->client_pid, true);
}

/* Opens the FIFO and writes the order whole. -1, or the exit code. */
static int send_order(const struct options *o, const struct channel *ch)
{
    int fd;
    enum err e = channel_open_fifo(ch, "control", O_WRONLY, &fd);
    if (e == ERR_CLOSED || e == ERR_ABSENT)
        return fail(EXIT_ABSENT,
                    "channel '%s': no manager listens to orders (%s/control)",
                    ch->name, ch->dir);
    if (e == ERR_DENIED)
        return fail(EXIT_DEGRADED,
                    "channel '%s': only its owner (uid %u) may give orders",
                    ch->name, (unsigned)ch->owner);
    if (e != ERR_OK)
        return fail(EXIT_SYSTEM, "channel '%s': cannot open %s/control: %s",
                    ch->name, ch->dir, strerror(errno));
    char line[64];
    int n = o->client_pid > 0 ? snprintf(line, sizeof(line), "%s %ld\n",
                                         o->verb, o->client_pid)
                              : snprintf(line, sizeof(line), "%s\n", o->verb);
    /* Shorter than PIPE_BUF: all of it or nothing, and never mixed with the
     * order of another. */
    ssize_t w = write(fd, line, (size_t)n);
    int saved = errno;
    close(fd);
    if (w == n)
        return -1;
    return fail(
        EXIT_SYSTEM, "channel '%s': cannot give the order: %s", ch->name,
        saved == EAGAIN ? "its manager does not read them" : strerror(saved));
}

/* Sleeps on the watch cell till something is published, or for a slice. */
static bool wait_for_news(const struct status *status, uint32_t seen,
                          uint64_t deadline)
{
    uint64_t until = clock_ns() + LOOK_AGAIN_NS;
    if (until > deadline)
        until = deadline;
    if (status == NULL)
        return sleep_s(0.02);
    enum err e = watch_wait(&status->state, seen, until);
    /* Counters tell what a state does not, so a little pause does no harm. */
    return e != ERR_SYS || sleep_s(0.02);
}

static int await(const struct options *o, const char *name,
                 const struct status *status, struct sample *s,
                 uint32_t version_before)
{
    uint64_t deadline = clock_ns() + (uint64_t)(o->timeout_s * 1e9);
    for (;;) {
        uint32_t seen = status ? atomic_load_explicit(&status->state.version,
                                                      memory_order_acquire)
                               : 0;
        sample_take(s, name, NULL);
        if (s->has_status && obeyed(o, s, version_before))
            break;
        if (ended(s)) {
            if (strcmp(o->verb, "drain") == 0)
                break;
            return fail(EXIT_ABSENT,
                        "channel '%s': its manager ended meanwhile", s->name);
        }
        if (clock_ns() >= deadline)
            return fail(EXIT_LATE,
                        "channel '%s': told to %s, yet it is %s after %g s%s",
                        s->name, o->verb, sample_state(s), o->timeout_s,
                        s->stopped ? ": its manager is stopped"
                                   : ": see its log");
        if (!wait_for_news(status, seen, deadline) || !sleep_s(0))
            return ended_by_signal();
    }
    struct text out = {0};
    if (o->client_pid > 0)
        text_add(&out, "%s: client %ld waits for nothing\n", s->name,
                 o->client_pid);
    else
        text_add(&out, "%s: %s\n", s->name, sample_state(s));
    return finish(&out);
}

int run_control(const struct options *o)
{
    const char *name = first_name(o);
    struct channel ch;
    struct err_text why;
    const struct status *status = NULL;
    struct sample *s = malloc(sizeof(*s));
    if (s == NULL)
        return fail(EXIT_SYSTEM, "out of memory");
    enum err e = channel_open(&ch, name, &why);
    if (e != ERR_OK) {
        free(s);
        return fail(e == ERR_ABSENT ? EXIT_ABSENT : EXIT_SYSTEM, "%s",
                    why.text);
    }
    sample_take(s, name, NULL);
    uint32_t before =
        s->has_status
            ? atomic_load_explicit(&s->raw.state.version, memory_order_relaxed)
            : 0;
    int code = -1;
    if (o->client_pid > 0 && s->has_status &&
        !client_there(s, o->client_pid, false))
        code = fail(EXIT_ABSENT,
                    "channel '%s' has no client with pid %ld: mqstat %s lists "
                    "them",
                    s->name, o->client_pid, s->name);
    if (code < 0)
        code = send_order(o, &ch);
    if (code < 0) {
        /* Mapped only to sleep on it; what is read is always a copy. */
        if (status_open(&ch, &status, NULL) != ERR_OK)
            status = NULL;
        code = await(o, name, status, s, before);
    }
    if (status != NULL)
        status_unmap(status);
    channel_close(&ch);
    free(s);
    return code;
}
