/* A subscriber on ipc/ alone. */
#include "tests/pubsub_client.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/support.h"

#define READ_SIZE (64 * 1024)
#define LOOK_MS 200

enum err sub_open(struct sub *s, const char *channel, int64_t timeout_ms,
                  const char *command)
{
    char payload[4096];
    uint32_t n;
    memset(s, 0, sizeof(*s));
    enum err e = e2e_client_open(&s->client, channel);
    if (e != ERR_OK)
        return e;
    size_t len = e2e_commands(payload, sizeof(payload), &n, command);
    e = e2e_begin(&s->client, &s->call, n, payload, len, timeout_ms);
    s->call.header.flags = MESSAGE_STREAM;
    if (e == ERR_OK)
        e = e2e_send(&s->client, &s->call);
    broadcast_init(&s->stream, s->call.header.request);
    return e;
}

void sub_close(struct sub *s)
{
    e2e_forget(&s->client, &s->call);
    e2e_client_close(&s->client);
    free(s->data);
    s->data = NULL;
}

/* Reads once; ERR_AGAIN: nothing is there. */
static enum err fill(struct sub *s, size_t need)
{
    size_t have = s->len - s->used;
    if (s->used > 0) {
        memmove(s->data, s->data + s->used, have);
        s->used = 0;
        s->len = have;
    }
    size_t room = need > READ_SIZE ? need : READ_SIZE;
    if (s->room < room) {
        char *data = realloc(s->data, room);
        if (data == NULL)
            return ERR_NOMEM;
        s->data = data;
        s->room = room;
    }
    ssize_t n = read(s->call.slot.fd, s->data + s->len, s->room - s->len);
    if (n > 0)
        s->len += (size_t)n;
    return n > 0 ? ERR_OK : errno == EAGAIN ? ERR_AGAIN : ERR_SYS;
}

/* Whether the manager gave this pipe up. */
static bool given_up(const struct sub *s)
{
    struct stat st;
    return fstat(s->call.slot.fd, &st) < 0 || st.st_nlink == 0;
}

enum err sub_next(struct sub *s, struct broadcast_event *event,
                  int64_t timeout_ms)
{
    uint64_t deadline = clock_deadline(timeout_ms);
    bool over = false;
    for (;;) {
        size_t size;
        enum err e = broadcast_next(&s->stream, s->data + s->used,
                                    s->len - s->used, event, &size);
        if (e == ERR_OK)
            s->used += size;
        if (e != ERR_AGAIN)
            return e;
        e = fill(s, size);
        if (e == ERR_OK)
            continue;
        if (e != ERR_AGAIN)
            return e;
        /* What was written before the end is read first. */
        if (over)
            return ERR_CLOSED;
        over = !mpsc_receiver_alive(&s->client.tx) || given_up(s);
        if (over)
            continue;
        if (clock_ns() >= deadline)
            return ERR_TIMEOUT;
        struct pollfd p[2] = {{.fd = s->call.slot.fd, .events = POLLIN},
                              {.fd = s->client.tx.receiver_fd}};
        poll(p, 2, clock_poll_ms(deadline, LOOK_MS));
    }
}

bool sub_expect(struct sub *s, enum broadcast_kind kind,
                struct broadcast_event *event)
{
    enum err e = sub_next(s, event, support_wait_ms());
    if (e != ERR_OK) {
        fprintf(stderr, "waited for %s: %s\n", broadcast_kind_str(kind),
                err_str(e));
        return false;
    }
    if (event->kind != kind)
        fprintf(stderr, "waited for %s: got %s n=%u '%.*s'\n",
                broadcast_kind_str(kind), broadcast_kind_str(event->kind),
                event->n, (int)(event->len < 200 ? event->len : 200),
                event->data);
    return event->kind == kind;
}

unsigned long sub_number(const struct broadcast_event *event)
{
    /* The last "$LEN\r\nBYTES\r\n": the bytes have no '$'. */
    const char *at = memrchr(event->data, '$', event->len);
    at = at == NULL ? NULL : memchr(at, '\n', 16);
    return at == NULL ? ~0UL : strtoul(at + 1, NULL, 10);
}

/* ---- publishing ---- */

#define BUNCH 200

void publish(struct redis_link *link, const char *channel, unsigned long from,
             unsigned long count, size_t size)
{
    size_t room = BUNCH * (size + strlen(channel) + 64);
    char *out = malloc(room);
    char *body = malloc(size + 32);
    ck_assert(out != NULL && body != NULL);
    for (unsigned long i = 0; i < count;) {
        size_t len = 0;
        unsigned long n = count - i < BUNCH ? count - i : BUNCH;
        for (unsigned long k = 0; k < n; k++, i++) {
            memset(body, '.', size);
            int digits = sprintf(body, "%08lu", from + i);
            if (size > 8)
                body[digits] = '.';
            struct resp_arg argv[3] = {{"PUBLISH", 7},
                                       {channel, strlen(channel)},
                                       {body, size < 8 ? 8 : size}};
            len += resp_put_command(out + len, 3, argv);
        }
        redis_link_send(link, out, len);
        for (unsigned long k = 0; k < n; k++) {
            const char *reply;
            size_t reply_len;
            ck_assert_int_eq(redis_link_reply(link, (int)support_wait_ms(),
                                              &reply, &reply_len),
                             REDIS_REPLY);
            ck_assert_int_eq(reply[0], ':');
        }
    }
    free(out);
    free(body);
}
