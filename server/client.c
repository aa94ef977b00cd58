/*
 * Clients: reading, executing what was read, sending.
 *
 * Input is read into one buffer of the server; most requests are whole in it
 * and executed there, without being copied. What is left over, the beginning
 * of a request, moves into the client's own buffer and grows there. Output is
 * gathered over the whole batch of events and sent once, at its end.
 */
#include "server/client.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/blocking.h"
#include "server/command.h"
#include "server/pubsub.h"
#include "server/reply.h"
#include "server/transactions.h"

#define IDLE_BUFFER_MS 2000

/* A client that is to be closed gets this long to take its last reply. */
#define CLOSE_PATIENCE_MS 10000

static void client_ready(struct server *s, struct source *source,
                         uint32_t events);

/* ---- life ---- */

struct client *client_new(struct server *s, int fd, bool is_unix)
{
    struct client *c = mem_zalloc(&s->mem, sizeof(*c));
    c->source.fd = fd;
    c->source.ready = client_ready;
    c->id = s->next_client_id++;
    c->resp = 2;
    c->db = &s->dbs[0];
    c->created_ms = c->active_ms = s->loop_ms;
    if (is_unix)
        c->flags |= CLIENT_UNIX;
    if (s->options.password_len == 0)
        c->flags |= CLIENT_AUTHENTICATED;
    request_init(&c->request);
    dict_init(&c->channels, &s->mem, s->seed);
    dict_init(&c->patterns, &s->mem, s->seed);
    c->prev = s->clients.last;
    if (c->prev != NULL)
        c->prev->next = c;
    else
        s->clients.first = c;
    s->clients.last = c;
    s->client_count++;
    return c;
}

static void unlink_client(struct server *s, struct client *c)
{
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        s->clients.first = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    else
        s->clients.last = c->prev;
    s->client_count--;
}

void client_close(struct server *s, struct client *c)
{
    if ((c->flags & CLIENT_DEAD) != 0)
        return;
    blocking_cancel(s, c);
    pubsub_forget(s, c);
    transaction_discard(s, c);
    transaction_unwatch(s, c);
    if (c->source.fd >= 0) {
        server_unwatch(s, &c->source);
        close(c->source.fd);
        c->source.fd = -1;
    }
    unlink_client(s, c);
    c->flags |= CLIENT_DEAD;
    c->next_dead = s->dead;
    s->dead = c;
}

void client_free_dead(struct server *s)
{
    if (s->dead == NULL)
        return;
    while (s->dead != NULL) {
        struct client *c = s->dead;
        s->dead = c->next_dead;
        buffer_release(&c->in, &s->mem);
        buffer_release(&c->out, &s->mem);
        request_release(&c->request, &s->mem);
        mem_free(&s->mem, c->name);
        mem_free(&s->mem, c->library_name);
        mem_free(&s->mem, c->library_version);
        mem_free(&s->mem, c);
    }
    server_update_listening(s);
}

/* ---- input ---- */

void client_request_done(struct client *c)
{
    c->flags &= ~(uint32_t)CLIENT_REPLY_SKIP;
    if ((c->flags & CLIENT_REPLY_SKIP_NEXT) != 0) {
        c->flags |= CLIENT_REPLY_SKIP;
        c->flags &= ~(uint32_t)CLIENT_REPLY_SKIP_NEXT;
    }
}

/* Executes one request; c->argv are views that last until then. */
static void execute(struct server *s, struct client *c)
{
    c->argc = c->request.argc;
    c->argv = c->request.args;
    command_process(s, c);
    c->argc = 0;
    c->argv = NULL;
    if ((c->flags & CLIENT_BLOCKED) == 0)
        client_request_done(c);
}

static bool takes_requests(const struct client *c)
{
    return (c->flags & (CLIENT_DEAD | CLIENT_CLOSE_AFTER_REPLY |
                        CLIENT_BLOCKED | CLIENT_OVER_LIMIT)) == 0;
}

/* Executes the whole requests at the front of data; returns how much of it
 * they took. */
static size_t process(struct server *s, struct client *c, const char *data,
                      size_t len)
{
    size_t done = 0;
    while (done < len && takes_requests(c)) {
        struct protocol_limits limits = {
            .bulk_max = s->options.bulk_max,
            .stranger = (c->flags & CLIENT_AUTHENTICATED) == 0,
        };
        size_t used = 0;
        switch (request_parse(&c->request, &s->mem, &limits, data + done,
                              len - done, &used)) {
        case PARSE_READY:
            execute(s, c);
            done += used;
            break;
        case PARSE_EMPTY:
            done += used;
            break;
        case PARSE_MORE:
            return done;
        case PARSE_ERROR:
            reply_error(s, c, "%s", c->request.error);
            c->flags |= CLIENT_CLOSE_AFTER_REPLY;
            return len;
        }
    }
    return done;
}

/* What waits for EXEC counts as input: it has not been executed either. */
static void drop_if_too_much_input(struct server *s, struct client *c)
{
    if (buffer_len(&c->in) + transaction_bytes(c) <= s->options.query_limit)
        return;
    s->stats.query_limit_drops++;
    client_close(s, c);
}

static void process_own(struct server *s, struct client *c)
{
    size_t used = process(s, c, buffer_head(&c->in), buffer_len(&c->in));
    buffer_consume(&c->in, used);
    drop_if_too_much_input(s, c);
}

void client_feed(struct server *s, struct client *c, const char *data,
                 size_t len)
{
    c->active_ms = s->loop_ms;
    s->stats.bytes_in += len;
    if (buffer_len(&c->in) == 0 && takes_requests(c)) {
        size_t used = process(s, c, data, len);
        data += used;
        len -= used;
        buffer_append(&c->in, &s->mem, data, len);
        drop_if_too_much_input(s, c);
        return;
    }
    buffer_append(&c->in, &s->mem, data, len);
    process_own(s, c);
}

void client_resume_all(struct server *s)
{
    while (s->resumed != NULL) {
        struct client *c = s->resumed;
        s->resumed = c->next_resumed;
        if (takes_requests(c) && buffer_len(&c->in) > 0)
            process_own(s, c);
    }
}

void client_read(struct server *s, struct client *c)
{
    /* Straight into the client's buffer when a large argument is coming. */
    bool own = buffer_len(&c->in) > 0;
    char *into =
        own ? buffer_room(&c->in, &s->mem, SERVER_READ_SIZE) : s->read_buffer;
    size_t room = own ? c->in.cap - c->in.end : SERVER_READ_SIZE;
    if (room > 16 * SERVER_READ_SIZE)
        room = 16 * SERVER_READ_SIZE; /* one client's share of a batch */
    ssize_t n = recv(c->source.fd, into, room, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        client_close(s, c);
        return;
    }
    if (!own) {
        client_feed(s, c, into, (size_t)n);
        return;
    }
    c->active_ms = s->loop_ms;
    s->stats.bytes_in += (size_t)n;
    c->in.end += (size_t)n;
    process_own(s, c);
}

/* ---- output ---- */

static const struct output_limit *output_limit(const struct server *s,
                                               const struct client *c)
{
    return client_subscribed(c) ? &s->options.pubsub_limit
                                : &s->options.normal_limit;
}

/* Looked at with every reply, not only at the end of the batch, for a batch may
 * hold many requests with large replies. */
char *client_out_room(struct server *s, struct client *c, size_t len)
{
    uint64_t hard = output_limit(s, c)->hard;
    if (hard != 0 && buffer_len(&c->out) + len > hard)
        c->flags |= CLIENT_OVER_LIMIT;
    if ((c->flags & CLIENT_DIRTY) == 0) {
        c->flags |= CLIENT_DIRTY;
        c->next_dirty = s->dirty;
        s->dirty = c;
    }
    if ((c->flags & CLIENT_OVER_LIMIT) != 0)
        return NULL;
    return buffer_room(&c->out, &s->mem, len);
}

/* Whether it has been over the soft limit for too long. */
static bool over_soft_limit(struct server *s, struct client *c)
{
    const struct output_limit *limit = output_limit(s, c);
    if (limit->soft == 0 || buffer_len(&c->out) <= limit->soft) {
        c->over_soft_since_ms = 0;
        return false;
    }
    if (c->over_soft_since_ms == 0)
        c->over_soft_since_ms = s->loop_ms;
    return s->loop_ms - c->over_soft_since_ms > limit->soft_s * 1000;
}

static void drop_if_over_limit(struct server *s, struct client *c)
{
    if ((c->flags & CLIENT_DEAD) != 0)
        return;
    if ((c->flags & CLIENT_OVER_LIMIT) != 0 || over_soft_limit(s, c)) {
        s->stats.output_limit_drops++;
        client_close(s, c);
    }
}

void client_flush(struct server *s, struct client *c)
{
    if ((c->flags & CLIENT_DEAD) != 0 || c->source.fd < 0)
        return;
    while (buffer_len(&c->out) > 0) {
        ssize_t n = send(c->source.fd, buffer_head(&c->out),
                         buffer_len(&c->out), MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0) {
            client_close(s, c);
            return;
        }
        s->stats.bytes_out += (size_t)n;
        buffer_consume(&c->out, (size_t)n);
    }
    bool waits = buffer_len(&c->out) > 0;
    if (!waits && c->out.cap > SERVER_READ_SIZE)
        buffer_release(&c->out, &s->mem);
    if (!waits && (c->flags & CLIENT_CLOSE_AFTER_REPLY) != 0) {
        client_close(s, c);
        return;
    }
    uint32_t events =
        (waits ? EPOLLOUT : 0U) |
        ((c->flags & CLIENT_CLOSE_AFTER_REPLY) != 0 ? 0U : EPOLLIN);
    if (!server_watch(s, &c->source, events))
        client_close(s, c);
}

void client_flush_all(struct server *s)
{
    while (s->dirty != NULL) {
        struct client *c = s->dirty;
        s->dirty = c->next_dirty;
        c->flags &= ~(uint32_t)CLIENT_DIRTY;
        client_flush(s, c);
        drop_if_over_limit(s, c);
    }
}

static void client_ready(struct server *s, struct source *source,
                         uint32_t events)
{
    struct client *c = (struct client *)source;
    if ((c->flags & CLIENT_DEAD) != 0)
        return;
    if ((events & EPOLLOUT) != 0)
        client_flush(s, c);
    if ((c->flags & CLIENT_DEAD) != 0)
        return;
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0)
        return;
    if ((c->flags & CLIENT_CLOSE_AFTER_REPLY) != 0)
        client_close(s, c); /* hung up before it took the last reply */
    else
        client_read(s, c);
}

/* ---- housekeeping ---- */

void client_cycle(struct server *s, struct client *c)
{
    int64_t idle_ms = s->loop_ms - c->active_ms;
    if ((c->flags & CLIENT_CLOSE_AFTER_REPLY) != 0 &&
        idle_ms > CLOSE_PATIENCE_MS) {
        client_close(s, c);
        return;
    }
    if (s->options.timeout_s != 0 && idle_ms > s->options.timeout_s * 1000 &&
        (c->flags & CLIENT_BLOCKED) == 0 && !client_subscribed(c)) {
        client_close(s, c);
        return;
    }
    if (idle_ms > IDLE_BUFFER_MS) {
        if (buffer_len(&c->out) == 0)
            buffer_release(&c->out, &s->mem);
        if (buffer_len(&c->in) == 0) {
            buffer_release(&c->in, &s->mem);
            request_release(&c->request, &s->mem);
        }
    }
    drop_if_over_limit(s, c);
}
