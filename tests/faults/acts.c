/* The worker of the sweeps. */
#include "tests/faults/acts_parts.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/faults/plan.h"
#include "tests/support.h"

/* Until a gap is told, a connection has to be made again. */
#define STREAM_MS 2000

/* ---- notes ---- */

void acts_wrong(struct acts *a, const char *fmt, ...)
{
    if (a->wrong[0] != '\0')
        return;
    va_list ap;
    va_start(ap, fmt);
    int n = snprintf(a->wrong, sizeof(a->wrong), "%s: ", a->at);
    vsnprintf(a->wrong + n, sizeof(a->wrong) - (size_t)n, fmt, ap);
    va_end(ap);
}

static unsigned begin(struct acts *a, bool large)
{
    unsigned i = a->count++;
    a->list[i] = (struct act){.large = large};
    return i;
}

unsigned acts_begin(struct acts *a, const char *tag)
{
    unsigned i = begin(a, false);
    snprintf(a->list[i].tag, sizeof(a->list[i].tag), "%s", tag);
    return i;
}

const char *acts_key(const struct acts *a, unsigned act, char *key)
{
    const char *tag = a->list[act].tag;
    snprintf(key, ACTS_KEY_SIZE,
             tag[0] == '\0' ? "f:%s%llu:%u" : "f:{%s}:%llu:%u", tag,
             (unsigned long long)a->id, act);
    return key;
}

int acts_number(const struct acts *a, unsigned act)
{
    return (int)(a->id % 1000) * 100 + (int)act + 1;
}

void acts_step(struct acts *a, const char *name)
{
    snprintf(a->at, sizeof(a->at), "%s", name);
}

void acts_note_time(struct acts *a, uint64_t t0)
{
    int64_t ms = (int64_t)((clock_ns() - t0) / NS_PER_MS);
    if (ms > a->worst_ms)
        a->worst_ms = ms;
}

void acts_note_status(struct acts *a, enum mqredis_status status,
                      const char *text)
{
    if ((unsigned)status >= ACTS_STATUSES)
        acts_wrong(a, "status %d", (int)status);
    else
        a->statuses[status]++;
    if (status != MQREDIS_OK && (text == NULL || *text == '\0'))
        acts_wrong(a, "%s without a text", mqredis_status_str(status));
}

/* ---- replies ---- */

static void expect_number(struct acts *a, unsigned act,
                          const struct mqredis_reply *r)
{
    int want = a->list[act].large ? ACTS_LARGE : acts_number(a, act);
    if (r->type != MQREDIS_INTEGER || r->integer != want)
        acts_wrong(a, "act %u: reply of type %d, %lld '%.100s' in place of %d",
                   act, r->type, (long long)r->integer,
                   r->str != NULL ? r->str : "", want);
}

/* A reply of Redis, or a failure with a status and a text. */
void acts_expect(struct acts *a, struct mqredis_reply *r,
                 enum mqredis_type type, size_t len)
{
    bool failed = r->type == MQREDIS_FAILURE;
    acts_note_status(a, r->status, failed ? r->str : "-");
    if (!failed && (r->type != type || r->len != len))
        acts_wrong(a, "type %d of %zu bytes in place of type %d of %zu: %.60s",
                   r->type, r->len, type, len,
                   r->type == MQREDIS_ERROR ? r->str : "");
    mqredis_free(r);
}

/* One act's reply. */
void acts_tell(struct acts *a, unsigned act, const struct mqredis_reply *r)
{
    a->list[act].told = true;
    a->list[act].status = r->status;
    acts_note_status(a, r->status, r->str != NULL ? r->str : "");
    if (r->status == MQREDIS_OK)
        expect_number(a, act, r);
    else if (r->type != MQREDIS_FAILURE)
        acts_wrong(a, "act %u: type %d with status %d", act, r->type,
                   r->status);
}

static void tell_all(struct acts *a, unsigned first, unsigned count,
                     const struct mqredis_reply *r, enum mqredis_type type)
{
    if (r->type == type && r->elements != count)
        acts_wrong(a, "%zu elements in place of %u", r->elements, count);
    for (unsigned i = 0; i < count; i++)
        acts_tell(a, first + i, r->type == type ? r->element[i] : r);
}

/* ---- the parts ---- */

void acts_one(struct acts *a, struct mqredis *mq, const char *tag)
{
    char key[ACTS_KEY_SIZE];
    unsigned act = acts_begin(a, tag);
    uint64_t t0 = clock_ns();
    struct mqredis_reply *r = mqredis_command(
        mq, "INCRBY %s %d", acts_key(a, act, key), acts_number(a, act));
    acts_note_time(a, t0);
    acts_tell(a, act, r);
    mqredis_free(r);
}

/* A value comes back as it was written, if it was. */
static void value(struct acts *a, struct mqredis *mq)
{
    char key[ACTS_KEY_SIZE], text[64];
    snprintf(key, sizeof(key), "v:%llu", (unsigned long long)a->id);
    int n = snprintf(text, sizeof(text), "value of %s", key);
    struct mqredis_reply *r = mqredis_set(mq, key, text, (size_t)n);
    enum mqredis_status set = r->status;
    acts_note_status(a, set, r->type == MQREDIS_NIL ? "" : r->str);
    mqredis_free(r);
    r = mqredis_get(mq, key);
    acts_note_status(a, r->status, r->status == MQREDIS_OK ? "-" : r->str);
    if (r->status == MQREDIS_OK && r->type == MQREDIS_NIL) {
        if (set == MQREDIS_OK)
            acts_wrong(a, "a value that was set is not there");
    } else if (r->status == MQREDIS_OK &&
               (set != MQREDIS_OK && set != MQREDIS_LOST))
        acts_wrong(a, "a value is there that was not set: %.40s", r->str);
    else if (r->status == MQREDIS_OK && strcmp(r->str, text) != 0)
        acts_wrong(a, "'%.100s' in place of '%s'", r->str, text);
    mqredis_free(r);
}

static void about(struct acts *a, struct mqredis *mq)
{
    struct mqredis_info info;
    struct mqredis_error why = {.text = ""};
    enum mqredis_status s = mqredis_info(mq, &info, &why);
    acts_note_status(a, s, why.text);
    if (s == MQREDIS_OK && (info.queue_capacity <= 0 || info.manager_pid <= 0))
        acts_wrong(a, "mqredis_info: capacity %ld, manager %d",
                   info.queue_capacity, info.manager_pid);
    why.text[0] = '\0';
    uint64_t t0 = clock_ns();
    s = mqredis_wait_ready(mq, a->timeout_ms, &why);
    acts_note_time(a, t0);
    acts_note_status(a, s, why.text);
}

void acts_commands(struct acts *a, struct mqredis *mq)
{
    acts_step(a, "commands");
    about(a, mq);
    acts_one(a, mq, "");
    value(a, mq);
    acts_one(a, mq, "");
}

static struct mqredis_batch *three(struct acts *a, struct mqredis *mq,
                                   const char *tag, unsigned *first)
{
    char key[ACTS_KEY_SIZE];
    struct mqredis_batch *b = mqredis_batch_new(mq);
    *first = a->count;
    for (int i = 0; i < 3; i++) {
        unsigned act = acts_begin(a, tag);
        mqredis_batch_add(b, "INCRBY %s %d", acts_key(a, act, key),
                          acts_number(a, act));
    }
    return b;
}

void acts_batches(struct acts *a, struct mqredis *mq)
{
    unsigned first;
    char tag[24];
    acts_step(a, "batch");
    struct mqredis_batch *b = three(a, mq, "", &first);
    uint64_t t0 = clock_ns();
    struct mqredis_reply *r = mqredis_batch_run(b);
    acts_note_time(a, t0);
    tell_all(a, first, 3, r, MQREDIS_BATCH);
    mqredis_free(r);
    acts_step(a, "transaction");
    /* In a cluster all of it has to be in one slot. */
    snprintf(tag, sizeof(tag), "%llu", (unsigned long long)a->id);
    b = three(a, mq, tag, &first);
    t0 = clock_ns();
    r = mqredis_transaction_run(b);
    acts_note_time(a, t0);
    tell_all(a, first, 3, r, MQREDIS_ARRAY);
    mqredis_free(r);
}

static void fill(char *data, const struct acts *a)
{
    for (size_t i = 0; i < ACTS_LARGE; i++)
        data[i] = (char)('a' + (i * 7 + a->id) % 26);
}

void acts_large(struct acts *a, struct mqredis *mq)
{
    char key[ACTS_KEY_SIZE];
    static char data[ACTS_LARGE];
    acts_step(a, "large");
    fill(data, a);
    unsigned act = begin(a, true);
    uint64_t t0 = clock_ns();
    struct mqredis_reply *r = mqredis_command(
        mq, "APPEND %s %b", acts_key(a, act, key), data, sizeof(data));
    acts_note_time(a, t0);
    acts_tell(a, act, r);
    enum mqredis_status put = r->status;
    mqredis_free(r);
    r = mqredis_get(mq, key);
    acts_note_status(a, r->status, r->status == MQREDIS_OK ? "-" : r->str);
    if (r->status == MQREDIS_OK && put == MQREDIS_OK &&
        (r->type != MQREDIS_STRING || r->len != ACTS_LARGE ||
         memcmp(r->str, data, ACTS_LARGE) != 0))
        acts_wrong(a, "a large value came back otherwise: type %d, %zu bytes",
                   r->type, r->len);
    mqredis_free(r);
}

static struct mqredis_request *submit(struct acts *a, struct mqredis *mq,
                                      bool large)
{
    char key[ACTS_KEY_SIZE];
    static char data[ACTS_LARGE];
    unsigned act = begin(a, large);
    struct mqredis_request *q;
    fill(data, a);
    if (large)
        q = mqredis_submit(mq, "APPEND %s %b", acts_key(a, act, key), data,
                           sizeof(data));
    else
        q = mqredis_submit(mq, "INCRBY %s %d", acts_key(a, act, key),
                           acts_number(a, act));
    mqredis_set_data(q, &a->list[act]);
    if (q == NULL) {
        a->list[act].told = true;
        a->list[act].status = MQREDIS_NOMEM;
        a->statuses[MQREDIS_NOMEM]++;
    }
    return q;
}

static void finish(struct acts *a, struct mqredis_request *q)
{
    if (q == NULL)
        return;
    struct act *act = mqredis_data(q);
    uint64_t t0 = clock_ns();
    struct mqredis_reply *r = mqredis_wait(q);
    acts_note_time(a, t0);
    acts_tell(a, (unsigned)(act - a->list), r);
    mqredis_free(r);
}

void acts_async(struct acts *a, struct mqredis *mq)
{
    struct mqredis_request *q[6];
    acts_step(a, "async");
    for (int i = 0; i < 6; i++)
        q[i] = submit(a, mq, i == 4);
    mqredis_cancel(q[1]); /* unsent */
    mqredis_flush(mq);
    mqredis_cancel(q[3]); /* sent */
    finish(a, q[5]);
    uint64_t t0 = clock_ns();
    mqredis_wait_done(q[0], a->timeout_ms);
    acts_note_time(a, t0);
    finish(a, q[0]);
    int left = (q[2] != NULL) + (q[4] != NULL);
    for (; left > 0; left--) {
        t0 = clock_ns();
        struct mqredis_request *any = mqredis_wait_any(mq, -1);
        acts_note_time(a, t0);
        if (any == NULL)
            acts_wrong(a, "%d requests never became done", left);
        finish(a, any);
    }
}

void acts_events(struct acts *a, struct mqredis *mq)
{
    acts_step(a, "events");
    int fd = mqredis_fd(mq);
    unsigned left = 0;
    for (int i = 0; i < 3; i++)
        left += submit(a, mq, false) != NULL;
    mqredis_flush(mq);
    uint64_t end = clock_deadline(2 * a->timeout_ms + 2000);
    while (left > 0 && fd >= 0 && clock_ns() < end) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        faults_pause();
        poll(&p, 1, 2000);
        faults_resume();
        struct mqredis_request *any;
        uint64_t t0 = clock_ns();
        while ((any = mqredis_wait_any(mq, 0)) != NULL) {
            acts_note_time(a, t0);
            finish(a, any);
            left--;
            t0 = clock_ns();
        }
    }
    if (left > 0 && fd >= 0)
        acts_wrong(a, "%u requests never became done by mqredis_fd", left);
    /* Without a descriptor: as before. What is left is closed with it. */
    submit(a, mq, false);
}

/* Messages come as they were sent, or the stream says why not. */
static void listen_once(struct acts *a, struct mqredis *mq, bool shard)
{
    char name[ACTS_KEY_SIZE], text[ACTS_KEY_SIZE + 16];
    struct mqredis_error why = {.text = ""};
    acts_step(a, shard ? "shard stream" : "stream");
    snprintf(name, sizeof(name), "c:%llu", (unsigned long long)a->id);
    snprintf(text, sizeof(text), "said in %s", name);
    const char *const channels[] = {name};
    uint64_t t0 = clock_ns();
    struct mqredis_stream *s = (shard ? mqredis_ssubscribe : mqredis_subscribe)(
        mq, 1, channels, NULL, &why);
    acts_note_time(a, t0);
    if (s == NULL) {
        acts_note_status(a, why.status, why.text);
        if (why.status == MQREDIS_OK)
            acts_wrong(a, "no stream, but ok");
        return;
    }
    struct mqredis_reply *r = mqredis_command(
        mq, shard ? "SPUBLISH %s %s" : "PUBLISH %s %s", name, text);
    bool sent = r->status == MQREDIS_OK && r->integer == 1;
    mqredis_free(r);
    struct mqredis_event e;
    bool heard = false, excused = false; /* it may be missing, it was told */
    uint64_t end = clock_deadline(sent ? STREAM_MS : a->timeout_ms);
    while (!heard && !excused && clock_ns() < end) {
        t0 = clock_ns();
        bool came = mqredis_stream_next(s, a->timeout_ms, &e);
        acts_note_time(a, t0);
        if (!came)
            continue;
        excused = e.type == MQREDIS_END || e.type == MQREDIS_GAP ||
                  e.type == MQREDIS_LAGGED;
        if (e.type == MQREDIS_END)
            acts_note_status(a, e.status, e.data);
        heard = e.type == MQREDIS_MESSAGE;
        if (heard &&
            (e.len != strlen(text) || memcmp(e.data, text, e.len) != 0))
            acts_wrong(a, "heard '%.*s'", (int)e.len, e.data);
    }
    a->silent |= sent && !heard && !excused;
    mqredis_stream_close(s);
}

void acts_stream(struct acts *a, struct mqredis *mq)
{
    listen_once(a, mq, false);
}

void acts_shard_stream(struct acts *a, struct mqredis *mq)
{
    listen_once(a, mq, true);
}

void acts_fork(struct acts *a, struct mqredis *mq)
{
    acts_step(a, "fork");
    struct mqredis_request *q = submit(a, mq, false);
    a->child_done = false;
    pid_t pid = fork();
    if (pid < 0) {
        finish(a, q);
        return;
    }
    if (pid == 0) {
        acts_step(a, "forked child");
        struct mqredis_reply *r = mqredis_wait(q);
        /* Unless it had failed before. */
        if (r->status == MQREDIS_OK)
            acts_wrong(a, "a request of the parent's was answered here");
        mqredis_free(r);
        acts_one(a, mq, "");
        mqredis_close(mq);
        a->child_done = true;
        _exit(0);
    }
    faults_pause();
    int status = 0;
    bool ended = UNTIL(waitpid(pid, &status, WNOHANG) != 0);
    if (!ended)
        support_kill(pid);
    faults_resume();
    if (!ended)
        acts_wrong(a, "the child hangs");
    else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || !a->child_done)
        acts_wrong(a, "the child ended with %#x", (unsigned)status);
    acts_step(a, "after fork");
    finish(a, q);
}

struct mqredis *acts_open(struct acts *a, const char *channel)
{
    struct mqredis_error why = {.text = ""};
    acts_step(a, "open");
    struct mqredis *mq = mqredis_open(channel, &why);
    a->opened = mq != NULL;
    if (mq != NULL) {
        mqredis_set_timeout(mq, a->timeout_ms);
        return mq;
    }
    acts_note_status(a, why.status, why.text);
    if (why.status == MQREDIS_OK)
        acts_wrong(a, "no handle, but ok");
    return NULL;
}

void acts_brief(struct acts *a, const char *channel)
{
    struct mqredis *mq = acts_open(a, channel);
    if (mq == NULL)
        return;
    acts_commands(a, mq);
    acts_stream(a, mq);
    mqredis_close(mq);
}

void acts_all(struct acts *a, const char *channel)
{
    struct mqredis *mq = acts_open(a, channel);
    if (mq == NULL)
        return;
    acts_commands(a, mq);
    acts_batches(a, mq);
    acts_large(a, mq);
    acts_async(a, mq);
    acts_stream(a, mq);
    acts_fork(a, mq);
    acts_events(a, mq);
    acts_step(a, "close");
    mqredis_close(mq);
}
