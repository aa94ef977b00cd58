/* One connection's life, and its bytes in and out. */
#include "workers/gateway/gateway.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/clock.h"

/* What is left of a read is kept aside until more comes. Beyond that size the
 * next bytes are read to where it is, not the other way round. */
#define ASIDE_MAX 16384

/* ---- life ---- */

static void client_ready(struct gateway *g, struct source *source,
                         uint32_t events);

struct client *client_new(struct gateway *g, int fd, bool is_unix)
{
    struct client *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        close(fd);
        return NULL;
    }
    c->source = (struct source){.fd = fd, .ready = client_ready};
    c->gateway = g;
    c->id = ++g->next_id;
    c->since_ns = g->now_ns;
    c->is_unix = is_unix;
    c->resp = 2;
    c->known = g->options->password[0] == '\0';
    buffer_init(&c->in, &g->buffered);
    buffer_init(&c->out, &g->buffered);
    buffer_init(&c->multi.commands, &g->buffered);
    buffer_init(&c->multi.shapes, &g->buffered);
    c->events = EPOLLIN | EPOLLRDHUP;
    if (!gateway_watch(g, &c->source, c->events)) {
        close(fd);
        free(c);
        return NULL;
    }
    c->next = g->clients;
    if (c->next != NULL)
        c->next->prev = c;
    g->clients = c;
    g->client_count++;
    return c;
}

void client_close(struct client *c)
{
    struct gateway *g = c->gateway;
    if (c->doomed)
        return;
    c->doomed = true;
    /* Before the descriptor is closed, and its number somebody else's. */
    gateway_unwatch(g, &c->source);
    close(c->source.fd);
    c->source.fd = -1;
    client_unstall(c);
    pending_drop(c);
    subscriber_release(c);
    session_release(c);
    parse_reset(&c->parser);
    buffer_release(&c->in);
    buffer_release(&c->out);
    buffer_release(&c->multi.commands);
    buffer_release(&c->multi.shapes);
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        g->clients = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    g->client_count--;
    c->next = g->doomed;
    g->doomed = c;
}

void clients_reap(struct gateway *g)
{
    struct client **at = &g->doomed;
    while (*at != NULL) {
        struct client *c = *at;
        if (c->dirty) {
            /* It is still in that list, which comes to it. */
            at = &c->next;
            continue;
        }
        *at = c->next;
        free(c);
    }
}

void client_touch(struct client *c)
{
    struct gateway *g = c->gateway;
    if (c->dirty || c->doomed)
        return;
    c->dirty = true;
    c->next_dirty = g->dirty;
    g->dirty = c;
}

static void stall(struct client *c)
{
    struct gateway *g = c->gateway;
    if (c->stalled)
        return;
    g->counters.pauses++;
    c->stalled = true;
    c->next_stalled = NULL;
    c->prev_stalled = g->stalled.last;
    if (c->prev_stalled != NULL)
        c->prev_stalled->next_stalled = c;
    else
        g->stalled.first = c;
    g->stalled.last = c;
}

void client_unstall(struct client *c)
{
    struct gateway *g = c->gateway;
    if (!c->stalled)
        return;
    c->stalled = false;
    if (c->prev_stalled != NULL)
        c->prev_stalled->next_stalled = c->next_stalled;
    else
        g->stalled.first = c->next_stalled;
    if (c->next_stalled != NULL)
        c->next_stalled->prev_stalled = c->prev_stalled;
    else
        g->stalled.last = c->prev_stalled;
}

void client_leave(struct client *c)
{
    c->leaving = true;
    /* Whoever waits for what may never come waits for nothing more. */
    if (c->first == NULL || c->first->barrier)
        pending_drop(c);
    client_touch(c);
}

/* ---- output ---- */

static void cut(struct client *c, uint64_t *counter)
{
    if (c->doomed)
        return;
    (*counter)++;
    client_close(c);
}

void client_write(struct client *c, const char *data, size_t len)
{
    if (c->doomed)
        return;
    if (!buffer_append(&c->out, data, len))
        cut(c, &c->gateway->counters.cut_total);
    else
        client_wrote(c);
}

void client_wrote(struct client *c)
{
    struct gateway *g = c->gateway;
    if (g->buffered > g->options->buffers_total)
        cut(c, &g->counters.cut_total);
    else
        client_touch(c);
}

void client_push(struct client *c, const char *data, size_t len)
{
    struct gateway *g = c->gateway;
    client_write(c, c->resp == 3 ? ">" : "*", 1);
    client_write(c, data + 1, len - 1);
    if (!c->doomed && buffer_len(&c->out) > g->options->output_buffer)
        cut(c, &g->counters.cut_output);
}

/* Writes what the socket takes. False: the connection is gone. */
static bool flush(struct client *c)
{
    while (buffer_len(&c->out) > 0) {
        ssize_t n = send(c->source.fd, buffer_at(&c->out), buffer_len(&c->out),
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN;
        bool whole = (size_t)n == buffer_len(&c->out);
        buffer_consume(&c->out, (size_t)n);
        if (!whole)
            return true;
    }
    return true;
}

/* ---- input ---- */

/* Whether commands of this client are taken now. One for whom the channel has
 * no room stands in line. */
static bool takes(struct client *c)
{
    const struct options *o = c->gateway->options;
    c->waits = c->waits && c->first != NULL;
    if (c->doomed || c->leaving || c->held || c->waits || c->stalled ||
        c->inflight >= o->client_inflight ||
        c->npending >= o->client_inflight ||
        buffer_len(&c->out) >= o->output_pause)
        return false;
    if (gateway_has_room(c->gateway))
        return true;
    stall(c);
    return false;
}

static void protocol_error(struct client *c, const char *why)
{
    c->gateway->counters.protocol_errors++;
    answer_error(c, "ERR Protocol error: %s", why);
    c->leaving = true;
}

/* Takes the commands at data[0..len). Returns how many bytes they were. */
static size_t take_commands(struct client *c, const char *data, size_t len)
{
    struct run run = {.data = data};
    size_t at = 0;
    while (at < len && takes(c)) {
        struct command command;
        enum parse_result r =
            parse_next(&c->parser, data + at, len - at, !c->known, &command);
        if (r == PARSE_MORE)
            break;
        if (r == PARSE_COMMAND && dispatch_joins(c, &run, &command)) {
            at += command.used;
            parse_reset(&c->parser);
            continue;
        }
        forward_run(c, &run);
        if (c->doomed)
            return len;
        bool held = false;
        if (r == PARSE_COMMAND)
            held = dispatch(c, &command) == DISPATCHED_HELD;
        else if (r == PARSE_BROKEN)
            protocol_error(c, command.name);
        if (c->doomed)
            return len;
        parse_reset(&c->parser);
        if (held) {
            c->waits = true;
            break;
        }
        at += command.used;
    }
    forward_run(c, &run);
    return c->doomed || c->leaving ? len : at;
}

/* Keeps what was not taken. */
static void keep(struct client *c, const char *data, size_t len)
{
    struct gateway *g = c->gateway;
    if (c->doomed || len == 0)
        return;
    if (!buffer_append(&c->in, data, len))
        cut(c, &g->counters.cut_total);
}

/* The command that is being received is over the bound, or all are. */
static bool over_bounds(struct client *c)
{
    struct gateway *g = c->gateway;
    bool begun = c->parser.at > 0;
    if (begun && buffer_len(&c->in) > g->options->query_buffer) {
        answer_error(c,
                     "ERR Protocol error: a command over --query-buffer, "
                     "%llu bytes",
                     (unsigned long long)g->options->query_buffer);
        flush(c);
        cut(c, &g->counters.cut_query);
        return true;
    }
    if (g->buffered > g->options->buffers_total) {
        cut(c, &g->counters.cut_total);
        return true;
    }
    return false;
}

/* Goes on with what was kept. */
static void take_kept(struct client *c)
{
    size_t n = take_commands(c, buffer_at(&c->in), buffer_len(&c->in));
    if (!c->doomed)
        buffer_consume(&c->in, n);
}

static ssize_t receive(struct client *c, char *at, size_t room)
{
    ssize_t n;
    do
        n = recv(c->source.fd, at, room, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n == 0)
        c->ended = true;
    else if (n < 0 && errno != EAGAIN)
        client_close(c);
    return n;
}

/* A long command: its bytes are read to where they stay. */
static void read_behind(struct client *c)
{
    size_t want = parse_missing(&c->parser, buffer_len(&c->in));
    /* Room is made as it fills: what is announced need not come. */
    size_t soon = buffer_len(&c->in);
    if (want > soon)
        want = soon;
    if (want < READ_SIZE)
        want = READ_SIZE;
    if (!buffer_reserve(&c->in, want)) {
        cut(c, &c->gateway->counters.cut_total);
        return;
    }
    ssize_t n = receive(c, c->in.data + c->in.end, want);
    if (n <= 0)
        return;
    c->in.end += (size_t)n;
    take_kept(c);
}

/* Short ones: read to where all clients' are, and taken from there. */
static void read_beside(struct client *c)
{
    char *scratch = c->gateway->scratch;
    size_t have = buffer_len(&c->in);
    if (have > 0)
        memcpy(scratch, buffer_at(&c->in), have);
    ssize_t n = receive(c, scratch + have, READ_SIZE);
    if (n <= 0)
        return;
    size_t len = have + (size_t)n;
    size_t taken = take_commands(c, scratch, len);
    if (c->doomed)
        return;
    if (have > 0)
        buffer_consume(&c->in, have);
    keep(c, scratch + taken, len - taken);
}

static void client_read(struct client *c)
{
    if (buffer_len(&c->in) > ASIDE_MAX)
        read_behind(c);
    else
        read_beside(c);
    if (!c->doomed)
        over_bounds(c);
}

/* ---- events ---- */

/* Whether it waits for what may never come. */
static bool blocked(const struct client *c)
{
    return c->first != NULL && c->first->barrier &&
           c->first->kind != PENDING_CATALOG;
}

static void client_ready(struct gateway *g, struct source *source,
                         uint32_t events)
{
    struct client *c = (struct client *)source;
    (void)g;
    client_touch(c);
    if ((events & EPOLLERR) != 0) {
        client_close(c);
        return;
    }
    bool reads = takes(c);
    if (reads && (events & (EPOLLIN | EPOLLHUP | EPOLLRDHUP)) != 0) {
        client_read(c);
        return;
    }
    if ((events & EPOLLHUP) != 0 ||
        ((events & EPOLLRDHUP) != 0 && blocked(c))) {
        /* Nobody is there any more to be answered. */
        client_close(c);
        return;
    }
    /* It has said all. What that was is read in its turn. */
    if ((events & EPOLLRDHUP) != 0)
        c->hung_up = true;
}

static void update_events(struct client *c)
{
    struct gateway *g = c->gateway;
    uint32_t want = c->ended || c->hung_up ? 0 : EPOLLRDHUP;
    if (!c->ended && !c->leaving && takes(c))
        want |= EPOLLIN;
    if (buffer_len(&c->out) > 0)
        want |= EPOLLOUT;
    if (want == c->events)
        return;
    struct epoll_event ev = {.events = want, .data.ptr = &c->source};
    if (epoll_ctl(g->epoll_fd, EPOLL_CTL_MOD, c->source.fd, &ev) == 0)
        c->events = want;
}

void client_settle(struct client *c)
{
    for (;;) {
        if (c->doomed)
            return;
        if (!flush(c)) {
            client_close(c);
            return;
        }
        size_t before = buffer_len(&c->in);
        size_t pending = c->npending;
        pending_advance(c);
        if (c->doomed)
            return;
        if (before > 0 && takes(c))
            take_kept(c);
        if (c->doomed ||
            (buffer_len(&c->in) == before && c->npending == pending))
            break;
    }
    if (c->doomed || !flush(c)) {
        client_close(c);
        return;
    }
    if ((c->ended || c->hung_up) && blocked(c)) {
        client_close(c);
        return;
    }
    bool over = c->leaving || (c->ended && !c->held && !c->stalled);
    if (over && c->first == NULL && buffer_len(&c->out) == 0) {
        client_close(c);
        return;
    }
    update_events(c);
}
