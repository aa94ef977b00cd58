/* A requester, step by step. */
#include "tests/e2e_client.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/resp.h"
#include "tests/support.h"

#define WORDS_MAX 256
/* After its deadline a call waits so long for the manager's word on it. */
#define GRACE_MS 6000

enum err e2e_client_open(struct e2e_client *c, const char *channel)
{
    struct err_text why;
    uint64_t id;
    memset(c, 0, sizeof(*c));
    enum err e = channel_open(&c->ch, channel, &why);
    if (e != ERR_OK)
        return e;
    e = mpsc_open(&c->tx, &c->ch, &why);
    if (e == ERR_OK)
        e = random_stream_init(&c->ids);
    if (e == ERR_OK)
        e = random_id(&id);
    if (e != ERR_OK) {
        channel_close(&c->ch);
        return e;
    }
    oneshot_pool_init(&c->pool, c->ch.reply_fd, c->ch.owner != c->ch.user, id);
    return ERR_OK;
}

void e2e_client_close(struct e2e_client *c)
{
    oneshot_pool_close(&c->pool);
    mpsc_sender_close(&c->tx);
    channel_close(&c->ch);
}

size_t e2e_commands(char *buf, size_t size, uint32_t *ncommands,
                    const char *text)
{
    struct resp_arg argv[WORDS_MAX];
    size_t argc = 0, used = 0;
    uint32_t count = 0;
    for (const char *p = text;; p++) {
        size_t len = strcspn(p, " ");
        bool last = p[len] == '\0', stop = len == 1 && *p == ';';
        if (!stop && argc < WORDS_MAX)
            argv[argc++] = (struct resp_arg){p, len};
        p += len;
        if ((stop || last) && argc > 0) {
            if (used + resp_command_size(argc, argv) > size)
                abort(); /* the test's own mistake */
            used += resp_put_command(buf + used, argc, argv);
            argc = 0;
            count++;
        }
        if (last)
            break;
    }
    if (ncommands != NULL)
        *ncommands = count;
    return used;
}

enum err e2e_begin(struct e2e_client *c, struct e2e_call *call,
                   uint32_t ncommands, const char *payload, size_t len,
                   int64_t timeout_ms)
{
    free(call->data);
    *call = (struct e2e_call){0};
    if (sizeof(call->header) + len > sizeof(c->message))
        return ERR_LIMIT;
    enum err e = oneshot_acquire(&c->pool, &call->slot);
    if (e != ERR_OK)
        return e;
    uint64_t now = clock_ns();
    call->header = (struct message_header){
        .magic = MESSAGE_MAGIC,
        .version = MESSAGE_VERSION,
        .epoch = c->tx.epoch,
        .client = c->pool.client,
        .slot = call->slot.slot,
        .request = random_stream_next(&c->ids),
        .deadline_ns = clock_deadline(timeout_ms),
        .sent_ns = now,
        .pid = (uint32_t)getpid(),
        .ncommands = ncommands,
        .payload_len = (uint32_t)len,
    };
    reply_stream_init(&call->stream, call->header.request, ncommands);
    memcpy(c->message + sizeof(call->header), payload, len);
    return ERR_OK;
}

enum err e2e_send(struct e2e_client *c, struct e2e_call *call)
{
    memcpy(c->message, &call->header, sizeof(call->header));
    return mpsc_send(&c->tx, c->message,
                     sizeof(call->header) + call->header.payload_len,
                     call->header.deadline_ns);
}

void e2e_forget(struct e2e_client *c, struct e2e_call *call)
{
    if (call->slot.slot != 0 || call->slot.fd > 0)
        oneshot_abandon(&c->pool, &call->slot);
    free(call->data);
    *call = (struct e2e_call){0};
}

/* ---- the answer ---- */

static bool keep(struct e2e_call *call, const char *data, size_t len)
{
    if (call->len + len > call->room) {
        size_t room = (call->len + len) * 2 + 256;
        char *grown = realloc(call->data, room);
        if (grown == NULL)
            return false;
        call->data = grown;
        call->room = room;
    }
    memcpy(call->data + call->len, data, len);
    call->len += len;
    return true;
}

/* Takes what was read; false for what is no answer to this request. */
static bool take(struct e2e_call *call, const char *data, size_t len)
{
    struct reply_piece piece;
    enum err e;
    while ((e = reply_stream_next(&call->stream, &data, &len, &piece)) ==
           ERR_OK) {
        if (piece.chunk->status >= REPLY_STATUS_COUNT)
            return false;
        if (piece.chunk->status == REPLY_OK) {
            if (!keep(call, piece.data, piece.len))
                return false;
        } else {
            size_t have = strlen(call->text);
            if (call->text[0] != '\0' && call->text[have - 1] == '\n')
                have = 0; /* a new line replaces the last one */
            size_t room = sizeof(call->text) - 2 - have;
            size_t n = piece.len < room ? piece.len : room;
            memcpy(call->text + have, piece.data, n);
            strcpy(call->text + have + n, piece.chunk_done ? "\n" : "");
        }
        if (piece.chunk_done)
            call->ended[piece.chunk->status] += piece.chunk->count;
    }
    return e == ERR_AGAIN;
}

static enum e2e_end verdict(const struct e2e_call *call)
{
    if (call->ended[REPLY_LOST] > 0)
        return E2E_LOST;
    if (call->ended[REPLY_UNAVAILABLE] > 0)
        return E2E_UNAVAILABLE;
    if (call->ended[REPLY_EXPIRED] > 0)
        return E2E_EXPIRED;
    if (call->ended[REPLY_INVALID] + call->ended[REPLY_TOO_BIG] > 0)
        return E2E_REFUSED;
    return E2E_OK;
}

enum e2e_end e2e_finish(struct e2e_client *c, struct e2e_call *call)
{
    static char bytes[65536];
    uint64_t until = call->header.deadline_ns;
    if (until != 0)
        until += GRACE_MS * NS_PER_MS;
    enum e2e_end end = E2E_LOST;
    while (!call->stream.ended) {
        struct pollfd p[2] = {{call->slot.fd, POLLIN, 0},
                              {c->tx.receiver_fd, 0, 0}};
        int ready = poll(p, 2, clock_poll_ms(until, -1));
        if (ready < 0 && errno == EINTR)
            continue;
        /* Nobody is left who could answer, and nothing is there. */
        if (ready <= 0 || !(p[0].revents & POLLIN))
            goto abandon;
        ssize_t n = read(call->slot.fd, bytes, sizeof(bytes));
        if (n <= 0 || !take(call, bytes, (size_t)n)) {
            end = E2E_BROKEN;
            goto abandon;
        }
    }
    oneshot_release(&c->pool, &call->slot);
    call->slot = (struct oneshot){0};
    return verdict(call);
abandon:
    oneshot_abandon(&c->pool, &call->slot);
    call->slot = (struct oneshot){0};
    return end;
}

enum e2e_end e2e_ask_raw(struct e2e_client *c, struct e2e_call *call,
                         uint16_t flags, uint32_t ncommands,
                         const char *payload, size_t len, int64_t timeout_ms)
{
    if (e2e_begin(c, call, ncommands, payload, len, timeout_ms) != ERR_OK)
        return E2E_BROKEN;
    call->header.flags = flags;
    enum err e = e2e_send(c, call);
    if (e == ERR_OK)
        return e2e_finish(c, call);
    oneshot_release(&c->pool, &call->slot);
    call->slot = (struct oneshot){0};
    return e == ERR_TIMEOUT  ? E2E_EXPIRED
           : e == ERR_CLOSED ? E2E_UNAVAILABLE
                             : E2E_BROKEN;
}

enum e2e_end e2e_ask(struct e2e_client *c, struct e2e_call *call,
                     int64_t timeout_ms, const char *fmt, ...)
{
    char text[4096], payload[8000];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    uint32_t ncommands;
    size_t len = e2e_commands(payload, sizeof(payload), &ncommands, text);
    return e2e_ask_raw(c, call, 0, ncommands, payload, len, timeout_ms);
}

bool e2e_is(const struct e2e_call *call, const char *text)
{
    return call->len == strlen(text) &&
           memcmp(call->data, text, call->len) == 0;
}

/* ---- a process that asks one thing ---- */

static void act(void *arg)
{
    struct e2e_actor *a = arg;
    static struct e2e_client c;
    static struct e2e_call call;
    char payload[1024];
    uint32_t ncommands;
    size_t len = e2e_commands(payload, sizeof(payload), &ncommands, a->command);
    a->end = E2E_UNAVAILABLE;
    if (e2e_client_open(&c, a->channel) != ERR_OK)
        goto out;
    a->stage = E2E_JOINED;
    enum err e = e2e_begin(&c, &call, ncommands, payload, len, a->timeout_ms);
    if (e == ERR_OK)
        e = e2e_send(&c, &call);
    if (e == ERR_OK) {
        a->stage = E2E_SENT;
        while (a->deaf)
            pause();
        a->end = e2e_finish(&c, &call);
    } else {
        a->end = e == ERR_TIMEOUT  ? E2E_EXPIRED
                 : e == ERR_CLOSED ? E2E_UNAVAILABLE
                                   : E2E_BROKEN;
        oneshot_release(&c.pool, &call.slot);
    }
    a->end_ns = clock_ns();
    size_t n = call.len < sizeof(a->data) - 1 ? call.len : sizeof(a->data) - 1;
    if (n > 0)
        memcpy(a->data, call.data, n);
    snprintf(a->text, sizeof(a->text), "%.250s", call.text);
    e2e_client_close(&c);
out:
    a->stage = E2E_DONE;
}

void e2e_actor_start(struct e2e_actor *a, const char *channel,
                     int64_t timeout_ms, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(a->command, sizeof(a->command), fmt, ap);
    va_end(ap);
    snprintf(a->channel, sizeof(a->channel), "%s", channel);
    a->timeout_ms = timeout_ms;
    a->stage = E2E_STARTED;
    a->pid = support_fork(act, a);
}

bool e2e_actor_reaches(const struct e2e_actor *a, enum e2e_stage stage)
{
    return UNTIL(a->stage >= (int)stage);
}
