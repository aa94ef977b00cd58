/*
 * Synchronous calls and batches. The path of one command and one reply: no
 * allocation that lasts, no epoll; the message's buffer serves for the reply.
 */
#include "workers/handle.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"

/* ---- one flight ---- */

/* Waits for the answer of a flight that was queued; f->failed, and *why is
 * filled, if it did not come whole. */
static void await(struct mqredis *mq, struct flight *f,
                  struct mqredis_error *why)
{
    uint64_t end = flight_give_up_ns(f);
    uint64_t spin = handle_spin_until(mq, end);
    struct pollfd p[2] = {
        {.fd = f->slot.fd, .events = POLLIN},
        {.fd = f->link->tx.receiver_fd, .events = 0}, /* HUP */
    };
    for (;;) {
        int n = poll(p, 2, spin != 0 ? 0 : clock_poll_ms(end, -1));
        if (n == 0 && spin != 0) {
            if (clock_ns() >= spin)
                spin = 0;
            continue;
        }
        if (n < 0 && errno == EINTR)
            continue;
        /* Also after a HUP or in the last moment: the guardian of a manager
         * that died leaves certain answers. */
        enum err e = n < 0 ? ERR_SYS : flight_read(f);
        if (e == ERR_OK)
            return;
        f->failed = true;
        if (e != ERR_AGAIN) {
            flight_say_broken(mq, e, why);
            return;
        }
        if (n > 0 && p[1].revents != 0) {
            flight_say_dead(mq, why);
            return;
        }
        if (n == 0 && end != 0 && clock_ns() >= end) {
            flight_say_timeout(mq, f, clock_ns(), why);
            return;
        }
        f->failed = false;
    }
}

/* What is to be sent, and in what time. */
struct order {
    const char *bytes; /* encoded commands */
    size_t len;
    struct blobs blobs;
    uint64_t started_ns, deadline_ns;
};

/* Prepares a flight for the request. Lock held. */
static enum mqredis_status take_off(struct mqredis *mq,
                                    struct mqredis_request *r,
                                    const struct order *o, struct flight **out,
                                    struct mqredis_error *why)
{
    /* What this thread submitted before comes first. */
    if (mq->unsent.first != NULL)
        flush_locked(mq, true, o->deadline_ns);
    enum mqredis_status s = handle_join(mq, why);
    if (s != MQREDIS_OK)
        return s;
    struct flight *f = flight_get(mq, o->len);
    if (f == NULL)
        return error_say(why, MQREDIS_NOMEM, "channel '%s': out of memory",
                         mq->name);
    f->sync = true;
    f->flags = r->batch ? 0 : MESSAGE_INDEPENDENT;
    f->started_ns = o->started_ns;
    f->deadline_ns = o->deadline_ns;
    for (size_t i = 0; i < r->count; i++) {
        if (!flight_add_command(f, r)) {
            flight_put(mq, f);
            return error_say(why, MQREDIS_NOMEM, "channel '%s': out of memory",
                             mq->name);
        }
    }
    f->live = 1;
    memcpy(f->buf + f->len, o->bytes, o->len);
    f->len += o->len;
    f->blobs = o->blobs;
    s = flight_prepare(mq, f, why);
    if (s != MQREDIS_OK) {
        flight_put(mq, f);
        return s;
    }
    f->state = FLIGHT_SENT;
    flight_list_add(&mq->flights, f);
    *out = f;
    return MQREDIS_OK;
}

/* Ends a flight that took off. `e`: of sending. */
static void touch_down(struct mqredis *mq, struct flight *f, enum err e,
                       const struct mqredis_error *why)
{
    flight_list_remove(&mq->flights, f);
    if (e != ERR_OK) {
        /* The slot was never named in a message that was sent. */
        oneshot_release(&f->link->pool, &f->slot);
        f->slot.fd = -1;
    }
    if (e != ERR_CLOSED) {
        flight_land(mq, f, why);
        return;
    }
    /* It was certainly not queued: it may go to the next manager. */
    f->link->dead = true;
    flight_put(mq, f);
}

/* Tries once to run a request. ERR_CLOSED: not queued, there was no manager any
 * more behind a link that is marked as dead now. */
static enum err try_run(struct mqredis *mq, struct mqredis_request *r,
                        const struct order *o)
{
    struct flight *f = NULL;
    struct mqredis_error why;
    pthread_mutex_lock(&mq->lock);
    enum mqredis_status s = take_off(mq, r, o, &f, &why);
    bool dead = s != MQREDIS_OK && mq->link != NULL && mq->link->dead;
    pthread_mutex_unlock(&mq->lock);
    if (dead)
        return ERR_CLOSED;
    if (s != MQREDIS_OK) {
        request_fail(r, &why);
        return ERR_OK;
    }
    assert(f != NULL); /* it was taken off */
    enum err e = ERR_OK;
    f->failed = flight_load(mq, f, &why) != MQREDIS_OK;
    if (!f->failed)
        e = flight_send(f, 0);
    if (e != ERR_OK)
        flight_send_error(mq, f, e, errno, &why);
    else if (!f->failed)
        await(mq, f, &why);
    pthread_mutex_lock(&mq->lock);
    touch_down(mq, f, e, &why);
    pthread_mutex_unlock(&mq->lock);
    return e == ERR_CLOSED ? e : ERR_OK;
}

/* Runs a request from beginning to end. */
static void run(struct mqredis *mq, struct mqredis_request *r,
                const char *bytes, size_t len, const struct blobs *blobs)
{
    struct order o = {.bytes = bytes, .len = len, .started_ns = clock_ns()};
    if (blobs != NULL)
        o.blobs = *blobs;
    o.deadline_ns = handle_deadline(mq, o.started_ns);
    while (try_run(mq, r, &o) == ERR_CLOSED)
        ;
}

/* ---- one command ---- */

static struct mqredis_reply *failure_of(const struct mqredis_error *why)
{
    return reply_failure(why->status, why->text, strlen(why->text));
}

static struct mqredis_reply *call(struct mqredis *mq, enum mqredis_status s,
                                  struct encoded *command,
                                  const struct mqredis_error *why)
{
    struct mqredis_reply *reply;
    if (s == MQREDIS_OK) {
        struct mqredis_request r;
        request_init(&r, mq);
        run(mq, &r, command->data, command->len, &command->blobs);
        reply = reply_of_request(&r);
        request_clear(&r);
    } else {
        reply = failure_of(why);
    }
    encoded_free(command);
    return reply;
}

struct mqredis_reply *mqredis_vcommand(struct mqredis *mq, const char *format,
                                       va_list ap)
{
    struct encoded command;
    struct mqredis_error why;
    enum mqredis_status s = encode_format(&command, false, format, ap, &why);
    return call(mq, s, &command, &why);
}

struct mqredis_reply *mqredis_command(struct mqredis *mq, const char *format,
                                      ...)
{
    va_list ap;
    va_start(ap, format);
    struct mqredis_reply *reply = mqredis_vcommand(mq, format, ap);
    va_end(ap);
    return reply;
}

struct mqredis_reply *mqredis_command_argv(struct mqredis *mq, size_t argc,
                                           const char *const *argv,
                                           const size_t *len)
{
    struct encoded command;
    struct mqredis_error why;
    enum mqredis_status s = encode_argv(&command, false, argc, argv, len, &why);
    return call(mq, s, &command, &why);
}

struct mqredis_raw *mqredis_command_raw(struct mqredis *mq, size_t argc,
                                        const char *const *argv,
                                        const size_t *len)
{
    struct encoded command;
    struct mqredis_error why;
    struct mqredis_raw *raw;
    enum mqredis_status s = encode_argv(&command, false, argc, argv, len, &why);
    if (s == MQREDIS_OK) {
        struct mqredis_request r;
        request_init(&r, mq);
        run(mq, &r, command.data, command.len, &command.blobs);
        raw = raw_of_request(&r);
        request_clear(&r);
    } else {
        raw = raw_failure(s, why.text);
    }
    encoded_free(&command);
    return raw;
}

struct mqredis_reply *mqredis_get(struct mqredis *mq, const char *key)
{
    const char *argv[] = {"GET", key};
    return mqredis_command_argv(mq, 2, argv, NULL);
}

struct mqredis_reply *mqredis_set(struct mqredis *mq, const char *key,
                                  const void *value, size_t len)
{
    const char *argv[] = {"SET", key, value};
    size_t lens[] = {3, strlen(key), len};
    return mqredis_command_argv(mq, 3, argv, lens);
}

/* ---- batches ---- */

struct mqredis_batch {
    struct mqredis *mq;
    char *data;
    size_t len, cap;
    size_t count;
    struct mqredis_error error; /* the first; status MQREDIS_OK: none */
};

struct mqredis_batch *mqredis_batch_new(struct mqredis *mq)
{
    struct mqredis_batch *b = calloc(1, sizeof(*b));
    if (b != NULL)
        b->mq = mq;
    return b;
}

void mqredis_batch_free(struct mqredis_batch *batch)
{
    if (batch == NULL)
        return;
    free(batch->data);
    free(batch);
}

/* Puts an encoded command in at `at`. */
static void batch_insert(struct mqredis_batch *b, size_t at, const char *data,
                         size_t len)
{
    if (b->error.status != MQREDIS_OK)
        return;
    if (b->count == COMMANDS_MAX) {
        error_say(&b->error, MQREDIS_TOO_BIG,
                  "a batch holds %d commands at most: not executed",
                  COMMANDS_MAX);
        return;
    }
    if (b->cap - b->len < len) {
        size_t cap = b->cap < 256 ? 256 : b->cap;
        while (cap - b->len < len)
            cap *= 2;
        char *grown = realloc(b->data, cap);
        if (grown == NULL) {
            error_say(&b->error, MQREDIS_NOMEM, "out of memory");
            return;
        }
        b->data = grown;
        b->cap = cap;
    }
    memmove(b->data + at + len, b->data + at, b->len - at);
    memcpy(b->data + at, data, len);
    b->len += len;
    b->count++;
}

static void batch_add_encoded(struct mqredis_batch *b, enum mqredis_status s,
                              struct encoded *command,
                              const struct mqredis_error *why)
{
    if (s == MQREDIS_OK)
        batch_insert(b, b->len, command->data, command->len);
    else if (b->error.status == MQREDIS_OK)
        b->error = *why;
    encoded_free(command);
}

void mqredis_batch_add(struct mqredis_batch *batch, const char *format, ...)
{
    if (batch == NULL)
        return;
    struct encoded command;
    struct mqredis_error why;
    va_list ap;
    va_start(ap, format);
    enum mqredis_status s = encode_format(&command, true, format, ap, &why);
    va_end(ap);
    batch_add_encoded(batch, s, &command, &why);
}

void mqredis_batch_add_argv(struct mqredis_batch *batch, size_t argc,
                            const char *const *argv, const size_t *len)
{
    if (batch == NULL)
        return;
    struct encoded command;
    struct mqredis_error why;
    enum mqredis_status s = encode_argv(&command, true, argc, argv, len, &why);
    batch_add_encoded(batch, s, &command, &why);
}

static void batch_check(struct mqredis_batch *b)
{
    if (b->error.status == MQREDIS_OK && b->count == 0)
        error_say(&b->error, MQREDIS_INVALID, "a batch without a command");
}

struct mqredis_reply *mqredis_batch_run(struct mqredis_batch *batch)
{
    if (batch == NULL)
        return reply_failure(MQREDIS_NOMEM, NULL, 0);
    batch_check(batch);
    struct mqredis_reply *reply;
    struct mqredis_request *r = NULL;
    if (batch->error.status != MQREDIS_OK) {
        reply = failure_of(&batch->error);
    } else if ((r = request_new(batch->mq, batch->count, true)) == NULL) {
        reply = reply_failure(MQREDIS_NOMEM, NULL, 0);
    } else {
        run(batch->mq, r, batch->data, batch->len, NULL);
        reply = reply_of_request(r);
        request_free(r);
    }
    mqredis_batch_free(batch);
    return reply;
}

struct mqredis_reply *mqredis_transaction_run(struct mqredis_batch *batch)
{
    static const char multi[] = "*1\r\n$5\r\nMULTI\r\n";
    static const char exec[] = "*1\r\n$4\r\nEXEC\r\n";
    if (batch == NULL)
        return reply_failure(MQREDIS_NOMEM, NULL, 0);
    batch_check(batch);
    batch_insert(batch, 0, multi, sizeof(multi) - 1);
    batch_insert(batch, batch->len, exec, sizeof(exec) - 1);
    struct mqredis_reply *all = mqredis_batch_run(batch);
    if (all->type != MQREDIS_BATCH || all->elements == 0)
        return all;
    /* EXEC's reply; or the first error, for EXEC's own only says that there was
     * one. */
    size_t take = all->elements - 1;
    if (all->element[take]->type == MQREDIS_ERROR) {
        for (size_t i = all->elements; i-- > 0;) {
            if (all->element[i]->type == MQREDIS_ERROR)
                take = i;
        }
    }
    struct mqredis_reply *reply = all->element[take];
    all->element[take] = NULL;
    mqredis_free(all);
    return reply;
}

struct mqredis_request *mqredis_batch_submit(struct mqredis_batch *batch)
{
    if (batch == NULL)
        return NULL;
    struct mqredis *mq = batch->mq;
    batch_check(batch);
    bool ok = batch->error.status == MQREDIS_OK;
    struct mqredis_request *r = request_new(mq, ok ? batch->count : 1, ok);
    if (r != NULL) {
        pthread_mutex_lock(&mq->lock);
        if (ok) {
            struct encoded all = {.data = batch->data, .len = batch->len};
            submit_locked(mq, r, &all, SUBMIT_BATCH);
        } else {
            mq->pending++;
            request_fail(r, &batch->error);
            request_done(mq, r);
        }
        pthread_mutex_unlock(&mq->lock);
    }
    mqredis_batch_free(batch);
    return r;
}
