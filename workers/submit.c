/*
 * Submitting and cancelling.
 *
 * Commands gather in the last unsent message until somebody waits or it is
 * full. One thread at a time sends (`sending`), so that messages leave in the
 * order submitted; it holds no lock while it sleeps on a full queue.
 */
#include "workers/handle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"

/* ---- sending ---- */

/* Removes the first unsent flight and fails what is in it. */
static void fail_first(struct mqredis *mq, struct flight *f,
                       const struct mqredis_error *why)
{
    flight_list_remove(&mq->unsent, f);
    flight_land(mq, f, why);
}

/* A slot that was not named in a message that was sent. */
static void return_slot(struct flight *f)
{
    if (f->slot.fd >= 0)
        oneshot_release(&f->link->pool, &f->slot);
    f->slot.fd = -1;
}

/* Nobody waits for a flight that was sent: its pipe goes, and with it the only
 * way for the reply. */
static void drop_sent(struct mqredis *mq, struct flight *f)
{
    flight_list_remove(&mq->flights, f);
    mq->async_flights--;
    f->failed = true;
    flight_land(mq, f, NULL);
    signal_unsent(mq);
    pthread_cond_broadcast(&mq->changed);
}

/* From now on it is known to all. Meanwhile other threads may have cancelled
 * what is in it, or seen the end of a manager that nobody waited for. */
static void note_sent(struct mqredis *mq, struct flight *f)
{
    flight_list_remove(&mq->unsent, f);
    f->state = FLIGHT_SENT;
    flight_list_add(&mq->flights, f);
    mq->async_flights++;
    if (f->live == 0)
        drop_sent(mq, f);
    else if (!f->link->watched)
        (void)!watch_flight(mq, f); /* without, its deadline tells */
}

static bool reached(uint64_t until_ns)
{
    return until_ns != 0 && clock_ns() >= until_ns;
}

/* Sends the first unsent flight. False: it stays unsent for now. */
static bool send_first(struct mqredis *mq, struct flight *f, bool sleep,
                       uint64_t until_ns)
{
    struct mqredis_error why;
    if (flight_prepare(mq, f, &why) != MQREDIS_OK) {
        if (!f->link->dead)
            fail_first(mq, f, &why);
        return true;
    }
    if (!watch_flight(mq, f)) {
        error_say(&why, MQREDIS_SYSTEM,
                  "channel '%s': cannot watch a reply pipe: %s: not executed",
                  mq->name, strerror(errno));
        return_slot(f);
        fail_first(mq, f, &why);
        return true;
    }
    enum err e = ERR_OK;
    f->state = FLIGHT_SENDING;
    pthread_mutex_unlock(&mq->lock);
    enum mqredis_status s = flight_load(mq, f, &why);
    if (s == MQREDIS_OK)
        e = sleep && !reached(until_ns) ? flight_send(f, until_ns)
                                        : flight_try_send(f);
    int saved = errno;
    pthread_mutex_lock(&mq->lock);
    if (s != MQREDIS_OK) {
        f->failed = true;
        fail_first(mq, f, &why);
        return true;
    }
    if (e == ERR_OK) {
        note_sent(mq, f);
        return true;
    }
    return_slot(f);
    f->state = FLIGHT_READY;
    if (e == ERR_CLOSED) {
        /* Certainly not queued: a new manager may be there. */
        f->link->dead = true;
        return true;
    }
    bool in_time = f->deadline_ns == 0 || clock_ns() < f->deadline_ns;
    if (e == ERR_AGAIN || (e == ERR_TIMEOUT && in_time))
        return false;
    flight_send_error(mq, f, e, saved, &why);
    fail_first(mq, f, &why);
    return true;
}

void flush_locked(struct mqredis *mq, bool sleep, uint64_t until_ns)
{
    while (mq->sending) {
        if (!sleep || reached(until_ns))
            return;
        turn_locked(mq, until_ns);
    }
    mq->sending = true;
    struct flight *f;
    while ((f = mq->unsent.first) != NULL) {
        struct mqredis_error why;
        if (f->live == 0) {
            flight_list_remove(&mq->unsent, f);
            flight_put(mq, f);
        } else if (handle_join(mq, &why) != MQREDIS_OK) {
            fail_first(mq, f, &why);
        } else if (mq->async_flights >= mq->window) {
            if (!sleep || reached(until_ns))
                break;
            turn_locked(mq, until_ns);
        } else if (!send_first(mq, f, sleep, until_ns)) {
            if (!sleep)
                watch_queue(mq, true);
            break;
        }
    }
    mq->sending = false;
    pthread_cond_broadcast(&mq->changed);
}

void mqredis_flush(struct mqredis *mq)
{
    pthread_mutex_lock(&mq->lock);
    flush_locked(mq, !mq->events, 0);
    if (mq->manual)
        arm_timer(mq);
    pthread_mutex_unlock(&mq->lock);
}

void mqredis_set_manual_flush(struct mqredis *mq, bool manual)
{
    pthread_mutex_lock(&mq->lock);
    mq->manual = manual;
    pthread_mutex_unlock(&mq->lock);
}

/* ---- submitting ---- */

static void fail_now(struct mqredis *mq, struct mqredis_request *r,
                     const struct mqredis_error *why)
{
    request_fail(r, why);
    request_done(mq, r);
}

static bool fits(const struct flight *f, size_t len)
{
    return f->len + len <= f->link->tx.msgsize;
}

/* Whether a command may still join the unsent message `f`. */
static bool may_join(const struct flight *f, size_t count, size_t len,
                     uint64_t deadline_ns)
{
    if (f == NULL || f->state != FLIGHT_FILLING ||
        !(f->flags & MESSAGE_INDEPENDENT) ||
        f->ncommands + count > COMMANDS_MAX || !fits(f, len))
        return false;
    if (deadline_ns == 0 || f->deadline_ns == 0)
        return deadline_ns == f->deadline_ns;
    uint64_t later =
        deadline_ns > f->deadline_ns ? deadline_ns : f->deadline_ns;
    uint64_t first =
        deadline_ns < f->deadline_ns ? deadline_ns : f->deadline_ns;
    return later - first <= DEADLINE_SPREAD_NS;
}

static bool add_to(struct flight *f, struct mqredis_request *r,
                   const struct encoded *c)
{
    if (c->blobs.count > 0 && !flight_keep_blobs(f, &c->blobs))
        return false;
    r->first = f->ncommands;
    r->offset = f->len;
    r->bytes = c->len;
    for (size_t i = 0; i < r->count; i++) {
        if (!flight_add_command(f, r)) {
            f->ncommands = r->first;
            return false;
        }
    }
    memcpy(f->buf + f->len, c->data, c->len);
    f->len += c->len;
    f->live++;
    r->flight = f;
    return true;
}

/* A new message at the end of what is unsent. NULL: *why says why not. */
static struct flight *open_flight(struct mqredis *mq, size_t len,
                                  struct mqredis_error *why)
{
    if (mq->events && mq->unsent.count >= UNSENT_MAX) {
        error_say(why, MQREDIS_TOO_BIG,
                  "channel '%s': %d messages wait to be sent: submit less at "
                  "once",
                  mq->name, UNSENT_MAX);
        return NULL;
    }
    if (handle_join(mq, why) != MQREDIS_OK)
        return NULL;
    size_t msgsize = mq->link->tx.msgsize;
    size_t room = msgsize - sizeof(struct message_header);
    struct flight *f = flight_get(mq, len > room ? len : room);
    if (f == NULL)
        error_say(why, MQREDIS_NOMEM, "channel '%s': out of memory", mq->name);
    return f;
}

void submit_locked(struct mqredis *mq, struct mqredis_request *r,
                   const struct encoded *commands, enum submit_how how)
{
    size_t len = commands->len;
    bool independent = how != SUBMIT_BATCH;
    bool alone = how == SUBMIT_ALONE || commands->blobs.count > 0;
    struct mqredis_error why;
    uint64_t now = clock_ns();
    uint64_t deadline = handle_deadline(mq, now);
    mq->pending++;
    struct flight *last = mq->unsent.last;
    bool joins =
        independent && !alone && may_join(last, r->count, len, deadline);
    if (!joins && last != NULL && !mq->events) {
        if (last->state == FLIGHT_FILLING)
            last->state = FLIGHT_READY;
        flush_locked(mq, true, deadline);
        /* The lock was released meanwhile. */
        last = mq->unsent.last;
        joins =
            independent && !alone && may_join(last, r->count, len, deadline);
    }
    struct flight *f = last;
    if (!joins) {
        if (last != NULL && last->state == FLIGHT_FILLING)
            last->state = FLIGHT_READY;
        f = open_flight(mq, len, &why);
        if (f == NULL) {
            fail_now(mq, r, &why);
            return;
        }
        f->started_ns = now;
        f->deadline_ns = deadline;
        f->flags = independent ? MESSAGE_INDEPENDENT : 0;
        flight_list_add(&mq->unsent, f);
    }
    if (alone)
        f->state = FLIGHT_READY;
    if (!add_to(f, r, commands)) {
        error_say(&why, MQREDIS_NOMEM, "channel '%s': out of memory", mq->name);
        fail_now(mq, r, &why);
        return;
    }
    if (deadline > f->deadline_ns)
        f->deadline_ns = deadline;
    if (mq->events && !mq->manual)
        signal_events(mq);
}

static struct mqredis_request *submit_encoded(struct mqredis *mq,
                                              enum mqredis_status status,
                                              const struct encoded *command,
                                              const struct mqredis_error *why)
{
    struct mqredis_request *r = request_new(mq, 1, false);
    if (r == NULL)
        return NULL;
    pthread_mutex_lock(&mq->lock);
    if (status == MQREDIS_OK) {
        submit_locked(mq, r, command, SUBMIT_JOINS);
    } else {
        mq->pending++;
        fail_now(mq, r, why);
    }
    pthread_mutex_unlock(&mq->lock);
    return r;
}

struct mqredis_request *mqredis_submit(struct mqredis *mq, const char *format,
                                       ...)
{
    struct encoded command;
    struct mqredis_error why;
    va_list ap;
    va_start(ap, format);
    enum mqredis_status s = encode_format(&command, false, format, ap, &why);
    va_end(ap);
    struct mqredis_request *r = submit_encoded(mq, s, &command, &why);
    encoded_free(&command);
    return r;
}

struct mqredis_request *mqredis_submit_argv(struct mqredis *mq, size_t argc,
                                            const char *const *argv,
                                            const size_t *len)
{
    struct encoded command;
    struct mqredis_error why;
    enum mqredis_status s = encode_argv(&command, false, argc, argv, len, &why);
    struct mqredis_request *r = submit_encoded(mq, s, &command, &why);
    encoded_free(&command);
    return r;
}

/* ---- what is encoded already ---- */

/* Whether `data` is `count` whole commands in canonical form: in a message that
 * others share, a wrong one would be their misfortune, too. */
static enum mqredis_status check_raw(const char *data, size_t len, size_t count,
                                     struct mqredis_error *why)
{
    if (count == 0 || count > COMMANDS_MAX)
        return error_say(why, count == 0 ? MQREDIS_INVALID : MQREDIS_TOO_BIG,
                         "%zu commands at once: 1 to %d are possible", count,
                         COMMANDS_MAX);
    struct resp_request walk;
    struct resp_arg arg;
    uint32_t argc;
    size_t seen = 0;
    enum err e;
    resp_request_init(&walk, data, len);
    while ((e = resp_request_command(&walk, &argc)) == ERR_OK) {
        seen++;
        for (; e == ERR_OK && argc > 0; argc--) {
            e = resp_request_arg(&walk, &arg);
            /* `@LEN` stands for bytes that are not here. */
            if (e == ERR_OK && arg.data == NULL)
                e = ERR_PROTO;
        }
        if (e != ERR_OK)
            break;
    }
    if (e == ERR_CLOSED && seen == count)
        return MQREDIS_OK;
    return error_say(why, MQREDIS_INVALID,
                     "not %zu whole commands in canonical RESP: not executed",
                     count);
}

struct mqredis_request *mqredis_submit_raw(struct mqredis *mq,
                                           const char *commands, size_t len,
                                           size_t count, unsigned flags)
{
    struct mqredis_error why;
    enum mqredis_status s = check_raw(commands, len, count, &why);
    struct mqredis_request *r =
        request_new(mq, s == MQREDIS_OK ? count : 1, count > 1);
    if (r == NULL)
        return NULL;
    enum submit_how how = (flags & MQREDIS_RAW_BATCH) != 0   ? SUBMIT_BATCH
                          : (flags & MQREDIS_RAW_ALONE) != 0 ? SUBMIT_ALONE
                                                             : SUBMIT_JOINS;
    pthread_mutex_lock(&mq->lock);
    if (s == MQREDIS_OK) {
        /* Only read from: adding it to a message copies it. */
        union {
            const char *in;
            char *out;
        } data = {.in = commands};
        struct encoded all = {.data = data.out, .len = len};
        submit_locked(mq, r, &all, how);
    } else {
        mq->pending++;
        fail_now(mq, r, &why);
    }
    pthread_mutex_unlock(&mq->lock);
    return r;
}

size_t mqredis_unsent(struct mqredis *mq)
{
    pthread_mutex_lock(&mq->lock);
    size_t n = mq->unsent.count;
    pthread_mutex_unlock(&mq->lock);
    return n;
}

/* ---- cancelling ---- */

/* Takes a request's commands out of a message that was not sent. */
static void take_out(struct flight *f, const struct mqredis_request *r)
{
    size_t behind = r->first + r->count;
    for (size_t i = behind; i < f->ncommands; i++) {
        struct mqredis_request *later = f->commands[i].request;
        if (later != NULL && later->first == i) {
            later->first -= r->count;
            later->offset -= r->bytes;
        }
        f->commands[i - r->count] = f->commands[i];
    }
    f->ncommands -= r->count;
    char *at = f->buf + r->offset;
    memmove(at, at + r->bytes, f->len - r->offset - r->bytes);
    f->len -= r->bytes;
}

static void give_up(struct mqredis *mq, struct mqredis_request *r)
{
    struct flight *f = r->flight;
    mq->pending--;
    f->live--;
    if (f->state == FLIGHT_FILLING || f->state == FLIGHT_READY) {
        take_out(f, r);
        return;
    }
    for (size_t i = 0; i < r->count; i++)
        f->commands[r->first + i].request = NULL;
    f->given_up = true;
    if (f->live > 0 || f->state != FLIGHT_SENT)
        return;
    drop_sent(mq, f);
}

void mqredis_cancel(struct mqredis_request *request)
{
    if (request == NULL)
        return;
    struct mqredis *mq = request->mq;
    pthread_mutex_lock(&mq->lock);
    if (request->done)
        request_unlist(mq, request);
    else
        give_up(mq, request);
    pthread_mutex_unlock(&mq->lock);
    request_free(request);
}
