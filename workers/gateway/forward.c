/*
 * What was asked and is not answered: a line for each client, in the order
 * asked. Its front is written as soon as it is there, so replies keep that
 * order however many ways they took.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "workers/gateway/gateway.h"

#define LINE_MAX_LEN 1024

static const char info_server[] = "*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n";

/* ---- the line ---- */

struct pending *pending_add(struct client *c, enum pending_kind kind)
{
    struct gateway *g = c->gateway;
    struct pending *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        g->counters.cut_total++;
        client_close(c);
        return NULL;
    }
    p->client = c;
    p->kind = kind;
    p->resp = c->resp;
    p->mute = c->reply_mode != REPLY_MODE_ON;
    buffer_init(&p->bytes, &g->buffered);
    if (c->last != NULL)
        c->last->next = p;
    else
        c->first = p;
    c->last = p;
    c->npending++;
    return p;
}

static void pending_free(struct pending *p)
{
    /* Done or not: its reply has nowhere to go any more. */
    if (p->request != NULL)
        mqredis_cancel(p->request);
    p->client->gateway->buffered -= p->answer_bytes;
    subscriber_forget(p);
    names_free(p->client, p->names);
    buffer_release(&p->bytes);
    free(p);
}

/* What came of asking for the server's commands, for all who wait for it. */
static void take_catalog(struct gateway *g, const struct pending *p)
{
    struct mqredis_raw raw;
    g->catalog.asking = false;
    g->catalog_came = true;
    if (mqredis_answer(p->request, 0, &raw) && raw.status == MQREDIS_OK)
        catalog_learn(&g->catalog, raw.data, raw.len);
}

/* The commands of a request are no longer in the channel. */
static void landed(struct client *c, struct pending *p)
{
    if (p->kind == PENDING_CATALOG)
        take_catalog(c->gateway, p);
    p->done = true;
    c->inflight -= p->count;
    c->gateway->inflight -= p->count;
}

void pending_drop(struct client *c)
{
    while (c->first != NULL) {
        struct pending *p = c->first;
        c->first = p->next;
        if (p->request != NULL && !p->done) {
            c->gateway->counters.cancelled += p->count;
            landed(c, p);
        }
        pending_free(p);
    }
    c->last = NULL;
    c->npending = 0;
    c->held = false;
}

/* ---- answers ---- */

void answer_bytes(struct client *c, const char *data, size_t len)
{
    if (c->doomed || c->reply_mode == REPLY_MODE_OFF ||
        c->reply_mode == REPLY_MODE_SKIP)
        return;
    if (c->first == NULL) {
        client_write(c, data, len);
        return;
    }
    struct pending *p = pending_add(c, PENDING_BYTES);
    if (p == NULL)
        return;
    p->done = true;
    if (!buffer_append(&p->bytes, data, len)) {
        c->gateway->counters.cut_total++;
        client_close(c);
    }
}

void answer_text(struct client *c, const char *line)
{
    char text[LINE_MAX_LEN];
    int n = snprintf(text, sizeof(text) - 2, "%s", line);
    size_t len = (size_t)n < sizeof(text) - 2 ? (size_t)n : sizeof(text) - 3;
    memcpy(text + len, "\r\n", 2);
    answer_bytes(c, text, len + 2);
}

/* What a client said may stand in an error, but not end its line. */
static void flatten(char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '\r' || *text == '\n')
            *text = ' ';
    }
}

void answer_error(struct client *c, const char *format, ...)
{
    char line[LINE_MAX_LEN] = "-";
    va_list ap;
    va_start(ap, format);
    vsnprintf(line + 1, sizeof(line) - 3, format, ap);
    va_end(ap);
    flatten(line);
    answer_text(c, line);
}

/* ---- into the channel ---- */

/* Makes a request the last of the line. */
static struct pending *send_raw(struct client *c, struct mqredis *mq,
                                enum pending_kind kind, const char *data,
                                size_t len, uint32_t count, unsigned flags)
{
    struct gateway *g = c->gateway;
    struct pending *p = pending_add(c, kind);
    if (p == NULL)
        return NULL;
    p->request = mqredis_submit_raw(mq, data, len, count, flags);
    if (p->request == NULL) {
        g->counters.cut_total++;
        client_close(c);
        return NULL;
    }
    mqredis_set_data(p->request, p);
    p->count = count;
    c->inflight += count;
    g->inflight += count;
    g->counters.forwarded += count;
    return p;
}

void forward_run(struct client *c, struct run *run)
{
    if (run->count > 0 && !c->doomed)
        send_raw(c, c->gateway->mq, PENDING_REPLIES, run->data, run->len,
                 run->count, 0);
    run->count = 0;
}

void forward_command(struct client *c, const struct command *command,
                     enum command_shape shape)
{
    struct pending *p = send_raw(c, c->gateway->mq, PENDING_REPLIES,
                                 command->data, command->len, 1, 0);
    if (p != NULL)
        p->shape = shape;
}

void forward_blocking(struct client *c, const struct command *command,
                      enum command_shape shape)
{
    struct pending *p =
        send_raw(c, c->gateway->blocking, PENDING_REPLIES, command->data,
                 command->len, 1, MQREDIS_RAW_ALONE);
    if (p == NULL)
        return;
    p->shape = shape;
    p->barrier = true;
    c->held = true;
}

void forward_transaction(struct client *c, const char *data, size_t len,
                         uint32_t count, struct buffer *shapes)
{
    struct pending *p = send_raw(c, c->gateway->mq, PENDING_EXEC, data, len,
                                 count, MQREDIS_RAW_BATCH);
    if (p == NULL)
        return;
    p->bytes = *shapes;
    buffer_init(shapes, shapes->total);
    c->gateway->counters.transactions++;
}

void forward_hello(struct client *c)
{
    send_raw(c, c->gateway->mq, PENDING_HELLO, info_server,
             sizeof(info_server) - 1, 1, 0);
}

void forward_catalog(struct client *c)
{
    static const char command[] = "*1\r\n$7\r\nCOMMAND\r\n";
    struct gateway *g = c->gateway;
    struct pending *p;
    if (g->catalog.asking) {
        p = pending_add(c, PENDING_CATALOG);
    } else {
        p = send_raw(c, g->mq, PENDING_CATALOG, command, sizeof(command) - 1, 1,
                     0);
        g->catalog.asking = p != NULL;
        g->catalog.asked_ns = g->now_ns;
    }
    if (p == NULL)
        return;
    p->barrier = true;
    c->held = true;
}

/* ---- out of it ---- */

static bool append_failure(struct client *c, const struct mqredis_raw *raw)
{
    char line[LINE_MAX_LEN];
    snprintf(line, sizeof(line) - 2, "-MQREDIS %s: %.*s",
             mqredis_status_str(raw->status), (int)raw->len, raw->data);
    flatten(line);
    size_t len = strlen(line);
    memcpy(line + len, "\r\n", 3);
    return buffer_append(&c->out, line, len + 2);
}

/* Counts what came of each command, and how much it is. */
static void count_answers(struct client *c, struct pending *p)
{
    struct gateway *g = c->gateway;
    struct mqredis_raw raw;
    for (uint32_t i = 0; mqredis_answer(p->request, i, &raw); i++) {
        if (raw.status == MQREDIS_OK)
            g->counters.answered++;
        else
            g->counters.failed++;
        p->answer_bytes += raw.len;
    }
    g->buffered += p->answer_bytes;
}

static bool append_replies(struct client *c, const struct pending *p)
{
    struct mqredis_raw raw;
    bool ok = true;
    for (uint32_t i = 0; ok && i < p->count; i++) {
        /* A request that failed as a whole has one answer for all. */
        if (!mqredis_answer(p->request, i, &raw) &&
            !mqredis_answer(p->request, 0, &raw))
            return false;
        if (raw.status != MQREDIS_OK)
            ok = append_failure(c, &raw);
        else
            ok = translate(&c->out, raw.data, raw.len, p->resp, p->shape);
    }
    return ok;
}

/* EXEC's reply is the transaction's; without one of Redis, the first that says
 * why. */
static bool append_exec(struct client *c, const struct pending *p)
{
    struct mqredis_raw raw;
    for (uint32_t i = 0; mqredis_answer(p->request, i, &raw); i++) {
        if (raw.status != MQREDIS_OK)
            return append_failure(c, &raw);
    }
    if (!mqredis_answer(p->request, p->count - 1, &raw))
        return false;
    return translate_exec(&c->out, raw.data, raw.len, p->resp,
                          buffer_at(&p->bytes), buffer_len(&p->bytes));
}

static bool append_hello(struct client *c, const struct pending *p)
{
    static const char key[] = "redis_version:";
    struct mqredis_raw raw;
    const char *at = NULL;
    size_t len = 0;
    if (mqredis_answer(p->request, 0, &raw) && raw.status == MQREDIS_OK)
        at = memmem(raw.data, raw.len, key, sizeof(key) - 1);
    if (at != NULL) {
        at += sizeof(key) - 1;
        while (at + len < raw.data + raw.len && at[len] != '\r')
            len++;
    }
    return session_hello_reply(&c->out, c, p->resp, at != NULL ? at : "", len);
}

static bool append(struct client *c, const struct pending *p)
{
    switch (p->kind) {
    case PENDING_BYTES:
        return buffer_append(&c->out, buffer_at(&p->bytes),
                             buffer_len(&p->bytes));
    case PENDING_REPLIES:
        return append_replies(c, p);
    case PENDING_EXEC:
        return append_exec(c, p);
    case PENDING_HELLO:
        return append_hello(c, p);
    case PENDING_CATALOG:
    case PENDING_SUBSCRIBE:
        return true;
    }
    return true;
}

void pending_advance(struct client *c)
{
    struct gateway *g = c->gateway;
    /* What a client does not read waits as it came, and is not copied. */
    while (!c->doomed && c->first != NULL &&
           buffer_len(&c->out) < g->options->output_pause) {
        struct pending *p = c->first;
        if (!p->done && p->kind == PENDING_SUBSCRIBE)
            subscriber_advance(c, p);
        if (p->kind == PENDING_CATALOG && p->request == NULL)
            p->done = !g->catalog.asking;
        if (c->doomed || !p->done)
            return;
        bool ok = p->mute || append(c, p);
        c->first = p->next;
        if (c->first == NULL)
            c->last = NULL;
        c->npending--;
        c->held = c->held && !p->barrier;
        pending_free(p);
        if (!ok) {
            g->counters.cut_total++;
            client_close(c);
            return;
        }
        client_wrote(c);
    }
}

static void collect(struct mqredis *mq)
{
    struct mqredis_request *r;
    while ((r = mqredis_wait_any(mq, 0)) != NULL) {
        struct pending *p = mqredis_data(r);
        struct client *c = p->client;
        landed(c, p);
        count_answers(c, p);
        /* Too much of it, with what waits for others? */
        client_wrote(c);
        if (!c->doomed && p == c->first)
            pending_advance(c);
    }
}

void forward_collect(struct gateway *g)
{
    if (g->mq_ready)
        collect(g->mq);
    if (g->blocking_ready)
        collect(g->blocking);
    g->mq_ready = g->blocking_ready = false;
    if (!g->catalog_came)
        return;
    g->catalog_came = false;
    struct client *next;
    for (struct client *c = g->clients; c != NULL; c = next) {
        next = c->next;
        if (c->first != NULL && c->first->kind == PENDING_CATALOG)
            pending_advance(c);
    }
}
