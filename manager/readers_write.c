/* What goes into the reply pipes. */
#include "manager/readers_write.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/oneshot.h"

/* So much is gathered before it is written. */
#define GATHER_MAX 8192
/* So long what was gathered may wait for more: the answers of several nodes to
 * one message are some hundred microseconds apart at most, where none of them
 * lags. */
#define LINGER_NS (NS_PER_MS / 2)

/* ---- the backlog ---- */

/* Writes the backlog until the pipe is full. */
static void drain_backlog(struct readers *rs, struct reader *r)
{
    while (buffer_len(&r->backlog) > 0) {
        ssize_t n = write(r->watcher.fd, buffer_head(&r->backlog),
                          buffer_len(&r->backlog));
        if (n <= 0)
            return; /* full, or dead: EPOLLERR tells */
        buffer_take(&r->backlog, (size_t)n);
        r->taken += (size_t)n;
        rs->total_backlog -= (size_t)n;
        r->progress_ns = clock_ns();
    }
    buffer_release(&r->backlog);
    loop_change(rs->loop, &r->watcher, 0);
}

void reader_ready(void *owner, uint32_t events)
{
    struct reader *r = owner;
    struct readers *rs = r->owner;
    /* Before EPOLLOUT, which comes with it. */
    if (events & (EPOLLERR | EPOLLHUP)) {
        reader_die(rs, r);
        return;
    }
    r->full = false;
    r->progress_ns = clock_ns();
    reader_forget_cork(rs, r);
    drain_backlog(rs, r);
    status_gauge_set(rs->status, GAUGE_backlog_bytes, rs->total_backlog);
}

/* Keeps header and body, less the `skip` bytes that were written. */
static enum err keep(struct readers *rs, struct reader *r,
                     const struct reply_chunk *chunk, const char *body,
                     size_t skip)
{
    size_t total = sizeof(*chunk) + chunk->length - skip;
    enum err e = buffer_reserve(&r->backlog, total);
    if (e != ERR_OK)
        return e;
    if (buffer_len(&r->backlog) == 0)
        r->progress_ns = clock_ns();
    if (skip < sizeof(*chunk)) {
        size_t n = sizeof(*chunk) - skip;
        memcpy(buffer_tail(&r->backlog), (const char *)chunk + skip, n);
        buffer_filled(&r->backlog, n);
        skip = 0;
    } else {
        skip -= sizeof(*chunk);
    }
    if (chunk->length > skip) {
        memcpy(buffer_tail(&r->backlog), body + skip, chunk->length - skip);
        buffer_filled(&r->backlog, chunk->length - skip);
    }
    rs->total_backlog += total;
    status_gauge_set(rs->status, GAUGE_backlog_bytes, rs->total_backlog);
    if (!r->corked)
        loop_change(rs->loop, &r->watcher, EPOLLOUT);
    return ERR_OK;
}

/* ---- what is gathered ---- */

/* Keeps what comes for it from now on, until it is uncorked. */
static void cork(struct readers *rs, struct reader *r, uint64_t now)
{
    r->corked = true;
    r->corked_ns = now;
    r->corked_next = NULL;
    r->corked_prev = rs->corked_last;
    *(rs->corked_last ? &rs->corked_last->corked_next : &rs->corked_first) = r;
    rs->corked_last = r;
}

void reader_forget_cork(struct readers *rs, struct reader *r)
{
    if (!r->corked)
        return;
    r->corked = false;
    *(r->corked_prev ? &r->corked_prev->corked_next : &rs->corked_first) =
        r->corked_next;
    *(r->corked_next ? &r->corked_next->corked_prev : &rs->corked_last) =
        r->corked_prev;
}

/* What was gathered goes out, as far as the pipe takes it. */
static void uncork(struct readers *rs, struct reader *r)
{
    reader_forget_cork(rs, r);
    drain_backlog(rs, r);
    status_gauge_set(rs->status, GAUGE_backlog_bytes, rs->total_backlog);
    if (buffer_len(&r->backlog) > 0)
        loop_change(rs->loop, &r->watcher, EPOLLOUT);
}

uint64_t readers_flush(struct readers *rs, uint64_t now)
{
    while (rs->corked_first != NULL) {
        uint64_t due = rs->corked_first->corked_ns + LINGER_NS;
        if (now < due)
            return due;
        uncork(rs, rs->corked_first);
    }
    return 0;
}

/* ---- chunks ---- */

bool readers_tight(const struct readers *rs, const struct reader *r, size_t len)
{
    size_t waiting = buffer_len(&r->backlog);
    size_t total = sizeof(struct reply_chunk) + len;
    /* With nothing waiting it depends on what the pipe takes. */
    return waiting > 0 && (waiting + total > rs->reader_limit ||
                           rs->total_backlog + total > rs->total_limit);
}

/* Last words are short, yet nobody counts the requests of one who never reads:
 * beyond these bounds it is given up. */
static bool overflows(const struct readers *rs, const struct reader *r,
                      size_t len)
{
    size_t waiting = buffer_len(&r->backlog);
    size_t more = sizeof(struct reply_chunk) + len;
    if (waiting == 0 || rs->total_backlog + more <= rs->total_limit)
        return false;
    return waiting + more > rs->reader_limit ||
           rs->total_backlog + more > 2 * rs->total_limit;
}

enum err readers_write(struct readers *rs, struct reader *r,
                       const struct reply_chunk *chunk, const char *body,
                       bool forced)
{
    if (r->dead)
        return ERR_CLOSED;
    size_t written = 0;
    if (r->corked && readers_tight(rs, r, chunk->length))
        uncork(rs, r);
    if (!forced && readers_tight(rs, r, chunk->length))
        return ERR_LIMIT;
    if (forced && overflows(rs, r, chunk->length)) {
        status_count(rs->status, COUNTER_aborted, 1);
        reader_die(rs, r);
        return ERR_CLOSED;
    }
    if (r->corked) {
        if (keep(rs, r, chunk, body, 0) != ERR_OK) {
            reader_die(rs, r);
            return ERR_CLOSED;
        }
        uncork(rs, r);
        return ERR_OK;
    }
    if (buffer_len(&r->backlog) == 0) {
        enum err e = oneshot_write(r->watcher.fd, chunk, body, &written);
        if (e == ERR_OK)
            return ERR_OK;
        if (e != ERR_AGAIN) {
            reader_die(rs, r);
            return ERR_CLOSED;
        }
    }
    if (keep(rs, r, chunk, body, written) != ERR_OK) {
        /* Out of memory: the reply can't be told whole, nor taken back. */
        reader_die(rs, r);
        return ERR_CLOSED;
    }
    return ERR_OK;
}

enum err readers_gather(struct readers *rs, struct reader *r,
                        const struct reply_chunk *chunk, const char *body,
                        uint64_t now)
{
    bool begins = buffer_len(&r->backlog) == 0;
    /* What is only gathered must leave room for what has to wait. */
    if (r->dead || (!r->corked && !begins) ||
        rs->total_backlog > rs->total_limit / 2)
        return readers_write(rs, r, chunk, body, false);
    if (begins)
        cork(rs, r, now);
    if (keep(rs, r, chunk, body, 0) != ERR_OK) {
        reader_die(rs, r);
        return ERR_CLOSED;
    }
    if (buffer_len(&r->backlog) >= GATHER_MAX)
        uncork(rs, r);
    return ERR_OK;
}

/* ---- the bodies of long chunks ---- */

/* A pipe that large replies go through: fewer wake-ups. Beyond the user's
 * budget of pipe pages (pipe-user-pages-soft) it stays as it is. */
#define WIDE_PIPE (256 * 1024)

enum err readers_begin(struct readers *rs, struct reader *r,
                       const struct reply_chunk *chunk, size_t len)
{
    struct reply_chunk promise = *chunk;
    promise.length = (uint32_t)len;
    if (r->dead)
        return ERR_CLOSED;
    if (r->corked)
        uncork(rs, r);
    ssize_t n = -1;
    if (buffer_len(&r->backlog) == 0)
        n = write(r->watcher.fd, &promise, sizeof(promise));
    /* A pipe takes so few bytes whole or not at all (PIPE_BUF). */
    if (n < 0)
        readers_append(rs, r, (const char *)&promise, sizeof(promise));
    return r->dead ? ERR_CLOSED : ERR_OK;
}

enum err readers_splice(struct readers *rs, struct reader *r, int socket_fd,
                        size_t len, size_t *moved)
{
    if (r->dead)
        return ERR_CLOSED;
    if (buffer_len(&r->backlog) > 0) {
        r->full = true;
        return ERR_AGAIN;
    }
    if (!r->wide) {
        r->wide = true;
        fcntl(r->watcher.fd, F_SETPIPE_SZ, WIDE_PIPE);
    }
    ssize_t n = splice(socket_fd, NULL, r->watcher.fd, NULL, len,
                       SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
    if (n > 0) {
        r->taken += (size_t)n;
        *moved = (size_t)n;
        return ERR_OK;
    }
    if (n < 0 && errno == EAGAIN) {
        r->full = true;
        r->progress_ns = clock_ns();
        loop_change(rs->loop, &r->watcher, EPOLLOUT);
        return ERR_AGAIN;
    }
    if (n < 0 && errno == EPIPE) {
        reader_die(rs, r);
        return ERR_CLOSED;
    }
    return ERR_SYS; /* also the socket's end of file: read(2) tells it */
}

void readers_append(struct readers *rs, struct reader *r, const char *data,
                    size_t len)
{
    if (r->dead)
        return;
    reader_forget_cork(rs, r);
    if (buffer_reserve(&r->backlog, len) != ERR_OK) {
        reader_die(rs, r);
        return;
    }
    if (data != NULL)
        memcpy(buffer_tail(&r->backlog), data, len);
    else
        memset(buffer_tail(&r->backlog), 0, len);
    buffer_filled(&r->backlog, len);
    rs->total_backlog += len;
    status_gauge_set(rs->status, GAUGE_backlog_bytes, rs->total_backlog);
    loop_change(rs->loop, &r->watcher, EPOLLOUT);
}
