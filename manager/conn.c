/* A connection's life. Every change of state goes through set_state. */
#include "manager/conn.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "ipc/clock.h"
#include "ipc/random.h"

#define BACKOFF_BASE_MS 50
/* How long a lagging reader of a long reply may stand still while it holds up
 * the connection of small ones; then its backlog fills, and at its bound the
 * reply is cut off. A worker that is merely not scheduled for a while must not
 * lose its reply. All such readers together draw on a budget. */
#define SLOW_PATIENCE_NS (200 * NS_PER_MS)
#define SLOW_BUDGET_NS NS_PER_S
/* Where large replies are, who reads at such a rate may take its time. */
#define BULK_RATE (1 << 20)
#define SLOW_RESUME (256 * 1024)
/* Writing that waited this long is worth a look at deadlines. */
#define PURGE_AFTER_NS (5 * NS_PER_MS)
#define READS_PER_ROUND 16
/* Bytes; then the others have their turn. */
#define WRITES_PER_ROUND (256 * 1024)
#define UNASKED_SIZE (16 * 1024)

#define PING "*1\r\n$4\r\nPING\r\n"
static const struct run ping = {.count = 1,
                                .data = PING,
                                .len = sizeof(PING) - 1,
                                .first_len = sizeof(PING) - 1};

enum err conn_init(struct conn *c, struct loop *loop,
                   const struct conn_options *options, struct answers *answers,
                   void (*changed)(void *context, struct conn *c),
                   void *context)
{
    memset(c, 0, sizeof(*c));
    c->watcher.fd = -1;
    c->lookup.watcher.fd = -1;
    c->stream.fd = -1;
    c->loop = loop;
    c->options = options;
    c->changed = changed;
    c->context = context;
    return pipeline_init(&c->pipeline, answers);
}

/* Leaves the server, or the way to it. */
static void hang_up(struct conn *c)
{
    lookup_end(&c->lookup, c->loop);
    loop_remove(c->loop, &c->watcher);
    stream_close(&c->stream);
}

void conn_release(struct conn *c)
{
    hang_up(c);
    pipeline_release(&c->pipeline);
    buffer_release(&c->login);
}

/* ---- states ---- */

static void set_state(struct conn *c, enum conn_state state, uint64_t timer_ns)
{
    bool was_ready = c->state == CONN_READY;
    c->state = state;
    c->timer_ns = timer_ns;
    if (was_ready != (state == CONN_READY) || state == CONN_WAITING)
        c->changed(c->context, c);
}

/* Full jitter: anything between nothing and the exponential bound, so that
 * many hosts do not come back in step (Brooker, "Exponential Backoff and
 * Jitter", AWS 2015). A server that refuses us is asked at the slowest pace. */
static uint64_t backoff_ns(const struct conn *c)
{
    uint64_t max = c->options->reconnect_max_ms;
    uint64_t bound = BACKOFF_BASE_MS;
    for (uint32_t i = 1; i < c->attempt && bound < max; i++)
        bound *= 2;
    if (bound > max || c->refused)
        bound = max;
    uint64_t r;
    if (random_id(&r) != ERR_OK)
        r = bound;
    uint64_t ms =
        c->refused ? bound / 2 + r % (bound / 2 + 1) : r % (bound + 1);
    return ms * NS_PER_MS + NS_PER_MS;
}

void conn_break(struct conn *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->error.text, sizeof(c->error.text), fmt, ap);
    va_end(ap);
    hang_up(c);
    c->write_blocked = false;
    c->attempt++;
    char reason[ERR_TEXT_MAX + 64];
    snprintf(reason, sizeof(reason), "the connection to Redis broke (%s)",
             c->error.text);
    bool keep = c->reconnect && c->options->keep_unsent;
    pipeline_break(&c->pipeline, keep, reason);
    if (c->reconnect)
        set_state(c, CONN_WAITING, clock_ns() + backoff_ns(c));
    else
        set_state(c, CONN_OFF, 0);
}

void conn_move(struct conn *c, const char *reason)
{
    if (c->state != CONN_OFF && c->state != CONN_WAITING) {
        c->attempt = 0;
        conn_break(c, "%s", reason);
    }
    c->attempt = 1;
    if (c->state == CONN_WAITING)
        c->timer_ns = clock_ns();
}

void conn_stop(struct conn *c, const char *reason)
{
    c->reconnect = false;
    hang_up(c);
    pipeline_break(&c->pipeline, false, reason);
    set_state(c, CONN_OFF, 0);
}

/* Asks for what the state needs. */
static void update_events(struct conn *c)
{
    uint32_t events = 0;
    if (c->pipeline.slow == NULL)
        events |= EPOLLIN;
    if (c->write_blocked || c->stream.want_write)
        events |= EPOLLOUT;
    loop_change(c->loop, &c->watcher, events);
}

/* ---- connecting ---- */

static void conn_ready(void *owner, uint32_t events);

static void start_login(struct conn *c)
{
    c->read_ns = clock_ns();
    enum err e = login_begin(c);
    if (e != ERR_OK && e != ERR_CLOSED) {
        conn_break(c, "out of memory");
        return;
    }
    set_state(c, CONN_LOGIN, c->timer_ns);
    c->write_blocked = true; /* the login is written when it can be */
    update_events(c);
}

/* The socket is on its way, or not. */
static void await_connect(struct conn *c, enum err e, struct err_text *why)
{
    if (e == ERR_OK) {
        e = loop_add(c->loop, &c->watcher, c->stream.fd, EPOLLOUT, conn_ready,
                     c);
        if (e != ERR_OK)
            err_say(why, e, "cannot watch the socket: %s", strerror(errno));
    }
    if (e != ERR_OK) {
        conn_break(c, "%s", why->text);
        return;
    }
    set_state(c, CONN_CONNECTING, c->timer_ns);
}

static void looked_up(void *owner, uint32_t events)
{
    struct conn *c = owner;
    struct addresses found;
    struct err_text why = {""};
    (void)events;
    enum err e = lookup_read(&c->lookup, c->loop, &found, &why);
    if (e == ERR_OK)
        e = stream_connect(&c->stream, &found, c->attempt, &why);
    await_connect(c, e, &why);
}

static void connect_now(struct conn *c)
{
    const struct uri *uri = &c->options->uri;
    uint32_t timeout_ms = c->options->connect_timeout_ms;
    struct addresses given;
    struct err_text why = {""};
    c->refused = false;
    c->timer_ns = clock_ns() + timeout_ms * NS_PER_MS; /* for all of it */
    if (uri->is_unix) {
        await_connect(c, stream_connect_unix(&c->stream, uri->host, &why),
                      &why);
    } else if (lookup_numeric(uri->host, uri->port, &given)) {
        await_connect(c, stream_connect(&c->stream, &given, c->attempt, &why),
                      &why);
    } else if (lookup_begin(&c->lookup, c->loop, uri->host, uri->port,
                            timeout_ms, looked_up, c, &why) == ERR_OK) {
        set_state(c, CONN_LOOKUP, c->timer_ns);
    } else {
        conn_break(c, "%s", why.text);
    }
}

void conn_start(struct conn *c, bool reconnect)
{
    c->reconnect = reconnect;
    if (c->state == CONN_OFF || c->state == CONN_WAITING)
        connect_now(c);
}

static void shake_hands(struct conn *c)
{
    struct err_text why;
    enum err e = stream_handshake(&c->stream, &why);
    if (e == ERR_OK) {
        start_login(c);
    } else if (e == ERR_AGAIN) {
        set_state(c, CONN_TLS, c->timer_ns);
        update_events(c);
    } else {
        conn_break(c, "%s", why.text);
    }
}

static void connected(struct conn *c)
{
    struct err_text why;
    enum err e =
        stream_connected(&c->stream, &c->options->uri, c->options->tls, &why);
    if (e != ERR_OK) {
        conn_break(c, "%s", why.text);
        return;
    }
    shake_hands(c);
}

/* ---- the login ---- */

/* With TLS 1.3 a server that does not like our certificate, or misses one, says
 * so after the handshake, and its word may be lost with the connection. */
static void break_login(struct conn *c, const char *what)
{
    conn_break(c, "%s while logging in%s", what,
               c->stream.tls ? " (does the server want a client certificate, "
                               "--tls-cert?)"
                             : "");
}

static void login_write(struct conn *c)
{
    while (buffer_len(&c->login) > 0) {
        size_t n = 0;
        enum err e = stream_write(&c->stream, buffer_head(&c->login),
                                  buffer_len(&c->login), &n);
        if (e == ERR_AGAIN)
            return;
        if (e != ERR_OK) {
            break_login(c, stream_error(&c->stream));
            return;
        }
        buffer_take(&c->login, n);
    }
    c->write_blocked = false;
    update_events(c);
}

static void logged_in(struct conn *c)
{
    c->attempt = 0;
    c->error.text[0] = '\0';
    buffer_release(&c->login);
    c->read_ns = clock_ns();
    resp_scan_reset(&c->pipeline.scan);
    c->pipeline.have = c->pipeline.scanned = 0;
    /* What waited for this may be out of time by now. */
    pipeline_purge(&c->pipeline);
    set_state(c, CONN_READY, 0);
    conn_flush(c);
}

/* Reads replies to the login, one at a time, in the pipeline's buffer. */
static void login_read(struct conn *c)
{
    struct pipeline *p = &c->pipeline;
    size_t room;
    char *at = pipeline_room(p, &room);
    size_t n = 0;
    enum err e = room == 0 ? ERR_PROTO : stream_read(&c->stream, at, room, &n);
    if (e == ERR_AGAIN) {
        update_events(c);
        return;
    }
    if (e != ERR_OK) {
        break_login(c, e == ERR_CLOSED  ? "closed by the server"
                       : e == ERR_PROTO ? "an answer that is too long"
                                        : stream_error(&c->stream));
        return;
    }
    p->have += n;
    size_t used = 0;
    e = resp_scan(&p->scan, p->in + p->scanned, p->have - p->scanned, &used);
    p->scanned += used;
    if (e == ERR_AGAIN)
        return;
    struct err_text why;
    if (e == ERR_OK && p->scanned == p->have)
        e = login_reply(c, p->in, p->scanned, &why);
    else
        e = err_say(&why, ERR_PROTO, "the server does not speak RESP");
    if (e == ERR_CLOSED) {
        logged_in(c);
        return;
    }
    if (e != ERR_OK) {
        c->refused = e != ERR_AGAIN;
        conn_break(c, "%s", why.text);
        return;
    }
    p->have = p->scanned = 0;
    login_write(c);
}

/* ---- ready ---- */

/* Moves a long bulk from the socket into its reader's pipe. False: there is
 * nothing to be moved that way now, go on reading. */
static bool splice_replies(struct conn *c)
{
    struct pipeline *p = &c->pipeline;
    if (p->promised == 0) {
        int available = 0;
        if (c->stream.tls != NULL || resp_scan_opaque(&p->scan) == 0 ||
            ioctl(c->stream.fd, FIONREAD, &available) < 0 || available <= 0 ||
            pipeline_splice_begin(p, (size_t)available) == 0)
            return false;
    }
    c->read_ns = p->answers->now_ns;
    while (p->promised > 0) {
        enum err e = pipeline_splice(p, c->stream.fd);
        if (e == ERR_AGAIN)
            return true; /* p->slow is set */
        if (e != ERR_OK)
            return false;
    }
    return true;
}

/* TLS may hold bytes that epoll does not know of: those are read in any case.
 */
static void read_replies(struct conn *c)
{
    bool stalled = pipeline_lags(&c->pipeline); /* its reader had its time */
    for (int i = 0; i < READS_PER_ROUND || stream_pending(&c->stream); i++) {
        size_t room, n = 0;
        if (!stalled && splice_replies(c)) {
            /* Small ones come before the next piece of a large one. */
            if (c->pipeline.slow != NULL || c->bulk)
                break;
            continue;
        }
        char *at = pipeline_room(&c->pipeline, &room);
        enum err e = stream_read(&c->stream, at, room, &n);
        if (e == ERR_AGAIN)
            break;
        if (e != ERR_OK) {
            conn_break(c, "%s",
                       e == ERR_CLOSED ? "closed by the server"
                                       : stream_error(&c->stream));
            return;
        }
        c->read_ns = c->pipeline.answers->now_ns;
        e = pipeline_feed(&c->pipeline, n);
        if (e != ERR_OK) {
            conn_break(c, "the server sent something that is no reply");
            return;
        }
        if (c->pipeline.slow != NULL)
            break;
        if (n < room && !stream_pending(&c->stream))
            break; /* a short read: the socket is empty */
    }
    update_events(c);
}

/* A little each round: what comes unasked, as fast as it can, must not hold up
 * who waits for replies. */
static void read_unasked(struct conn *c)
{
    do {
        size_t room, n = 0;
        char *at = pipeline_room(&c->pipeline, &room);
        enum err e = stream_read(&c->stream, at,
                                 room < UNASKED_SIZE ? room : UNASKED_SIZE, &n);
        if (e == ERR_AGAIN)
            break;
        if (e != ERR_OK) {
            conn_break(c, "%s",
                       e == ERR_CLOSED ? "closed by the server"
                                       : stream_error(&c->stream));
            return;
        }
        c->read_ns = c->pipeline.answers->now_ns;
        status_count(c->pipeline.answers->status, COUNTER_bytes_read, n);
        e = c->take(c->context, at, n);
        if (c->state != CONN_READY)
            return;
        if (e != ERR_OK) {
            conn_break(c, e == ERR_NOMEM
                              ? "out of memory for what the server sent"
                              : "the server sent something that was not "
                                "expected");
            return;
        }
    } while (stream_pending(&c->stream));
    update_events(c);
}

enum err conn_append(struct conn *c, const struct run *run)
{
    /* The silence in which an answer is due begins with the question. */
    if (pipeline_idle(&c->pipeline))
        c->read_ns = c->pipeline.answers->now_ns;
    return pipeline_append(&c->pipeline, run);
}

/* Writes a piece of what is next: of a large argument, or of the bytes between
 * two. *tried is how many bytes of `out` may leave though the write failed. */
static enum err write_piece(struct conn *c, size_t *n, size_t *tried)
{
    struct pipeline *p = &c->pipeline;
    struct segment *g = pipeline_segment(p);
    *tried = 0;
    if (g == NULL) {
        const char *data;
        pipeline_unsent(p, &data, tried);
        enum err e = stream_write(&c->stream, data, *tried, n);
        if (e == ERR_OK)
            pipeline_sent(p, *n);
        return e;
    }
    size_t left = (size_t)(g->len - g->sent);
    enum err e = stream_write_file(&c->stream, g->source->fd,
                                   g->offset + (int64_t)g->sent, left, n);
    if (e == ERR_OK && *n == 0) {
        /* The file was cut short after it was checked. The framing promises
         * these bytes. */
        g->req->spoiled = true;
        e = stream_write_zeros(&c->stream, left, n);
    }
    if (e == ERR_OK)
        segments_sent(&p->segments, *n);
    return e;
}

void conn_flush(struct conn *c)
{
    if (c->state != CONN_READY || c->write_blocked)
        return;
    size_t written = 0;
    while (pipeline_has_unsent(&c->pipeline)) {
        size_t n = 0, tried = 0;
        enum err e =
            written < WRITES_PER_ROUND ? write_piece(c, &n, &tried) : ERR_AGAIN;
        if (e == ERR_AGAIN) {
            if (c->stream.tls != NULL)
                pipeline_tried(&c->pipeline, tried);
            c->write_blocked = true;
            c->write_blocked_ns = clock_ns();
            update_events(c);
            return;
        }
        if (e != ERR_OK) {
            conn_break(c, "%s", stream_error(&c->stream));
            return;
        }
        status_count(c->pipeline.answers->status, COUNTER_bytes_written, n);
        written += n;
    }
}

static void write_again(struct conn *c)
{
    c->write_blocked = false;
    if (clock_ns() - c->write_blocked_ns > PURGE_AFTER_NS)
        pipeline_purge(&c->pipeline);
    conn_flush(c);
    if (c->state == CONN_READY)
        update_events(c);
}

static void conn_ready(void *owner, uint32_t events)
{
    struct conn *c = owner;
    bool can_read = (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0;
    switch (c->state) {
    case CONN_OFF:
    case CONN_WAITING:
    case CONN_LOOKUP: /* nothing is open yet */
        break;
    case CONN_CONNECTING:
        connected(c);
        break;
    case CONN_TLS:
        shake_hands(c);
        break;
    case CONN_LOGIN:
        if ((events & EPOLLOUT) && c->write_blocked)
            login_write(c);
        if (can_read && c->state == CONN_LOGIN)
            login_read(c);
        break;
    case CONN_READY:
        if ((events & EPOLLOUT) && c->write_blocked)
            write_again(c);
        if ((can_read || c->stream.want_write) && c->state == CONN_READY)
            (c->take ? read_unasked : read_replies)(c);
        break;
    }
}

/* ---- time ---- */

/* A reader that lags behind a long reply: reading goes on once it caught up,
 * died, or has not moved for too long. */
static uint64_t watch_slow_reader(struct conn *c, uint64_t now)
{
    const struct reader *r = c->pipeline.slow;
    uint64_t still =
        c->bulk ? c->options->stall_ms * NS_PER_MS : SLOW_PATIENCE_NS;
    uint64_t left =
        patience_hold(&c->patience, r, c->bulk ? 2 * still : SLOW_BUDGET_NS,
                      c->bulk ? BULK_RATE : 0, now);
    uint64_t until = r->progress_ns + still;
    if (until > now + left)
        until = now + left;
    bool lags = r->full || buffer_len(&r->backlog) > SLOW_RESUME ||
                readers_tight(r->owner, r, PIPELINE_READ_SIZE);
    if (!r->dead && lags && now < until)
        return until;
    patience_end(&c->patience, now);
    c->pipeline.slow = NULL;
    c->read_ns = now; /* the silence was ours */
    read_replies(c);
    /* One that had its time fills its backlog at once. */
    return c->state == CONN_READY && c->pipeline.slow != NULL ? now : 0;
}

/* Silence while replies are due means that the peer is gone; silence while
 * nothing is due is broken by a PING, which makes a reply due. */
static uint64_t watch_silence(struct conn *c, uint64_t now)
{
    uint64_t silence = c->options->silence_ms * NS_PER_MS;
    bool due = !pipeline_idle(&c->pipeline);
    uint64_t limit = c->read_ns + (due ? silence : silence / 2);
    if (now < limit)
        return limit;
    if (due) {
        conn_break(c, "no answer for %u s", c->options->silence_ms / 1000);
        return c->timer_ns;
    }
    c->read_ns = now;
    if (conn_append(c, &ping) == ERR_OK)
        conn_flush(c);
    return c->state == CONN_READY ? now + silence : c->timer_ns;
}

uint64_t conn_tick(struct conn *c, uint64_t now)
{
    switch (c->state) {
    case CONN_OFF:
        return 0;
    case CONN_WAITING:
        if (now >= c->timer_ns)
            connect_now(c);
        return c->timer_ns;
    case CONN_LOOKUP:
    case CONN_CONNECTING:
    case CONN_TLS:
    case CONN_LOGIN:
        if (now >= c->timer_ns)
            conn_break(c, "no %s within %u ms",
                       c->state == CONN_LOOKUP       ? "address of the host"
                       : c->state == CONN_CONNECTING ? "connection"
                       : c->state == CONN_TLS
                           ? "TLS handshake (is that a port for TLS?)"
                           : "answer to the login",
                       c->options->connect_timeout_ms);
        return c->timer_ns;
    case CONN_READY: {
        uint64_t next = c->pipeline.slow ? watch_slow_reader(c, now) : 0;
        if (c->state != CONN_READY)
            return c->timer_ns;
        /* While a reader lags, the silence is ours. */
        return c->pipeline.slow ? next : watch_silence(c, now);
    }
    }
    return 0;
}

uint64_t conn_tick_blocking(struct conn *c, uint64_t now)
{
    if (c->state != CONN_READY)
        return conn_tick(c, now);
    return c->pipeline.slow ? watch_slow_reader(c, now) : 0;
}
