/*
 * A flight: one message on its way, and its reply coming back in pieces. The
 * same for a synchronous caller, who owns it while it flies, and for submitted
 * requests, of which several may share one.
 */
#include "workers/handle.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/clock.h"

#define BUFFER_MIN 8192

/* How much longer than to its deadline a queued request is waited for: a tenth
 * of its time, at most so much. */
#define GRACE_MAX_NS (50 * NS_PER_MS)

/* ---- lists and memory ---- */

void flight_list_add(struct flight_list *list, struct flight *f)
{
    f->next = NULL;
    f->prev = list->last;
    if (f->prev != NULL)
        f->prev->next = f;
    else
        list->first = f;
    list->last = f;
    list->count++;
}

void flight_list_remove(struct flight_list *list, struct flight *f)
{
    if (f->prev != NULL)
        f->prev->next = f->next;
    else
        list->first = f->next;
    if (f->next != NULL)
        f->next->prev = f->prev;
    else
        list->last = f->prev;
    f->prev = f->next = NULL;
    list->count--;
}

/* Another thread may fork anywhere in here: its child frees what it finds, and
 * must not find what was freed. */
static void drop(char **memory)
{
    char *old = *memory;
    *memory = NULL;
    atomic_signal_fence(memory_order_seq_cst);
    free(old);
}

static void flight_free(struct flight *f)
{
    free(f->commands);
    free(f->text);
    free(f->wire);
    free(f->blob_memory);
    free(f->buf);
    free(f);
}

struct flight *flight_get(struct mqredis *mq, size_t bytes)
{
    size_t cap = sizeof(struct message_header) + bytes;
    if (cap < BUFFER_MIN)
        cap = BUFFER_MIN;
    struct flight *f = mq->spares.last;
    if (f != NULL)
        flight_list_remove(&mq->spares, f);
    else if ((f = calloc(1, sizeof(*f))) == NULL)
        return NULL;
    if (f->cap < cap) {
        char *buf = realloc(f->buf, cap);
        if (buf == NULL) {
            flight_free(f);
            return NULL;
        }
        f->buf = buf;
        f->cap = cap;
    }
    f->state = FLIGHT_FILLING;
    f->sync = f->failed = f->given_up = false;
    f->flags = 0;
    f->slot.fd = -1;
    f->ncommands = 0;
    f->live = 0;
    f->len = sizeof(struct message_header);
    f->link = mq->link;
    if (f->link != NULL)
        f->link->refs++;
    return f;
}

void flight_put(struct mqredis *mq, struct flight *f)
{
    if (f->link != NULL)
        link_unref(mq, f->link);
    f->link = NULL;
    drop(&f->text);
    f->text_len = 0;
    drop(&f->wire);
    drop(&f->blob_memory);
    f->blobs = (struct blobs){NULL, 0};
    f->state = FLIGHT_SPARE;
    /* A flight that grew for a large batch does not stay. */
    if (mq->spares.count == SPARES_MAX || f->cap > 64 * 1024)
        flight_free(f);
    else
        flight_list_add(&mq->spares, f);
}

bool flight_add_command(struct flight *f, struct mqredis_request *r)
{
    if (f->ncommands == f->commands_cap) {
        size_t cap = f->commands_cap == 0 ? 4 : f->commands_cap * 2;
        struct flight_command *commands =
            realloc(f->commands, cap * sizeof(*commands));
        if (commands == NULL)
            return false;
        f->commands = commands;
        f->commands_cap = cap;
    }
    struct flight_command *c = &f->commands[f->ncommands++];
    c->request = r;
    resp_scan_reset(&c->scan);
    return true;
}

/* ---- sending ---- */

enum mqredis_status flight_prepare(struct mqredis *mq, struct flight *f,
                                   struct mqredis_error *why)
{
    if (f->link != mq->link) {
        if (f->link != NULL)
            link_unref(mq, f->link);
        f->link = mq->link;
        f->link->refs++;
    }
    if (oneshot_acquire(&f->link->pool, &f->slot) != ERR_OK) {
        int saved = errno;
        f->slot.fd = -1;
        /* The folder has gone, and its manager with it. */
        f->link->dead |= saved == ENOENT;
        return error_say(why, saved == ENOMEM ? MQREDIS_NOMEM : MQREDIS_SYSTEM,
                         "channel '%s': cannot make a reply pipe: %s%s",
                         mq->name, strerror(saved),
                         saved == EMFILE ? ": raise ulimit -n" : "");
    }
    if (flight_is_large(f) &&
        oneshot_payload(&f->link->pool, &f->link->ch, &f->slot) != ERR_OK) {
        error_say(why, errno == ENOENT ? MQREDIS_TOO_BIG : MQREDIS_SYSTEM,
                  "channel '%s': %zu bytes do not fit into a message of %zu, "
                  "and a payload file cannot be made: %s: not executed",
                  mq->name, f->len, f->link->tx.msgsize, strerror(errno));
        oneshot_release(&f->link->pool, &f->slot);
        f->slot.fd = -1;
        return why != NULL ? why->status : MQREDIS_SYSTEM;
    }
    f->header = (struct message_header){
        .magic = MESSAGE_MAGIC,
        .version = MESSAGE_VERSION,
        .epoch = f->link->tx.epoch,
        .client = f->link->pool.client,
        .slot = f->slot.slot,
        .request = random_stream_next(&f->link->ids),
        .deadline_ns = f->deadline_ns,
        .pid = f->link->pid,
        .prev_rtt_us = mq->prev_rtt_us,
        .ncommands = (uint32_t)f->ncommands,
    };
    return MQREDIS_OK;
}

enum mqredis_status flight_load(const struct mqredis *mq, struct flight *f,
                                struct mqredis_error *why)
{
    drop(&f->wire);
    f->wire_flags = 0;
    if (flight_is_large(f)) {
        enum mqredis_status s = flight_spill(mq, f, why);
        if (s != MQREDIS_OK)
            return s;
    }
    struct message_header *h = &f->header;
    size_t len = f->wire != NULL ? f->wire_len : f->len;
    h->flags = (uint16_t)(f->flags | f->wire_flags);
    h->payload_len = (uint32_t)(len - sizeof(*h));
    f->sending_ns = clock_ns();
    h->sent_ns = f->sending_ns;
    memcpy(f->wire != NULL ? f->wire : f->buf, h, sizeof(*h));
    reply_stream_init(&f->stream, h->request, h->ncommands);
    return MQREDIS_OK;
}

bool flight_keep_blobs(struct flight *f, const struct blobs *blobs)
{
    size_t size = blobs->count * sizeof(struct resp_arg);
    for (size_t i = 0; i < blobs->count; i++)
        size += blobs->list[i].len;
    char *memory = malloc(size);
    if (memory == NULL)
        return false;
    struct resp_arg *list = (struct resp_arg *)(void *)memory;
    char *at = memory + blobs->count * sizeof(*list);
    for (size_t i = 0; i < blobs->count; i++) {
        memcpy(at, blobs->list[i].data, blobs->list[i].len);
        list[i] = (struct resp_arg){.data = at, .len = blobs->list[i].len};
        at += list[i].len;
    }
    f->blob_memory = memory;
    f->blobs = (struct blobs){.list = list, .count = blobs->count};
    return true;
}

enum err flight_send(struct flight *f, uint64_t until_ns)
{
    uint64_t end = f->deadline_ns;
    if (until_ns != 0 && (end == 0 || until_ns < end))
        end = until_ns;
    enum err e = mpsc_send(&f->link->tx, f->wire ? f->wire : f->buf,
                           f->wire ? f->wire_len : f->len, end);
    f->queued_ns = clock_ns();
    return e;
}

enum err flight_try_send(struct flight *f)
{
    enum err e = mpsc_try_send(&f->link->tx, f->wire ? f->wire : f->buf,
                               f->wire ? f->wire_len : f->len);
    f->queued_ns = clock_ns();
    return e;
}

static double ms_between(uint64_t from, uint64_t to)
{
    return to > from ? (double)(to - from) / 1e6 : 0;
}

enum mqredis_status flight_send_error(const struct mqredis *mq,
                                      const struct flight *f, enum err e,
                                      int saved_errno,
                                      struct mqredis_error *why)
{
    uint64_t now = clock_ns();
    if (e == ERR_TIMEOUT)
        return error_say(
            why, MQREDIS_EXPIRED,
            "channel '%s': out of time after %.0f ms, %.0f of them asleep on "
            "the full queue: not executed",
            mq->name, ms_between(f->started_ns, now),
            ms_between(f->sending_ns, now));
    if (e == ERR_CLOSED)
        return error_say(why, MQREDIS_UNAVAILABLE,
                         "channel '%s': its manager ended while the request "
                         "slept on the full queue: not executed",
                         mq->name);
    if (e == ERR_LIMIT)
        return error_say(why, MQREDIS_TOO_BIG,
                         "channel '%s': %zu bytes do not fit into a message "
                         "of %zu: not executed",
                         mq->name, f->len, f->link->tx.msgsize);
    return error_say(why, MQREDIS_SYSTEM,
                     "channel '%s': cannot send to its queue: %s: not executed",
                     mq->name, strerror(saved_errno));
}

/* ---- landing ---- */

void flight_land(struct mqredis *mq, struct flight *f,
                 const struct mqredis_error *failure)
{
    for (size_t i = 0; i < f->ncommands; i++) {
        struct mqredis_request *r = f->commands[i].request;
        if (r == NULL)
            continue;
        for (size_t j = 0; j < r->count; j++)
            f->commands[r->first + j].request = NULL;
        request_fail(r, failure);
        if (!f->sync)
            request_done(mq, r);
    }
    f->live = 0;
    if (f->slot.fd >= 0) {
        if (f->failed || !f->stream.ended) {
            unwatch_flight(mq, f);
            oneshot_abandon(&f->link->pool, &f->slot);
        } else {
            uint64_t us = (clock_ns() - f->sending_ns) / NS_PER_US;
            mq->prev_rtt_us = us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
            oneshot_release(&f->link->pool, &f->slot);
        }
    }
    flight_put(mq, f);
}

uint64_t flight_give_up_ns(const struct flight *f)
{
    if (f->deadline_ns == 0)
        return 0;
    uint64_t time = f->deadline_ns - f->started_ns;
    uint64_t grace = time / 10 < GRACE_MAX_NS ? time / 10 : GRACE_MAX_NS;
    return f->deadline_ns + grace;
}

void flight_say_timeout(const struct mqredis *mq, const struct flight *f,
                        uint64_t now, struct mqredis_error *why)
{
    error_say(why, MQREDIS_LOST,
              "channel '%s': no answer after %.0f ms (%.0f asleep on the full "
              "queue, %.0f waiting for the answer): it may have been executed",
              mq->name, ms_between(f->started_ns, now),
              ms_between(f->sending_ns, f->queued_ns),
              ms_between(f->queued_ns, now));
}

void flight_say_dead(const struct mqredis *mq, struct mqredis_error *why)
{
    error_say(why, MQREDIS_LOST,
              "channel '%s': its manager died before it answered: the command "
              "may have been executed",
              mq->name);
}

void flight_say_broken(const struct mqredis *mq, enum err e,
                       struct mqredis_error *why)
{
    error_say(why, MQREDIS_LOST,
              "channel '%s': its answer %s: the command may have been executed",
              mq->name,
              e == ERR_NOMEM   ? "does not fit into memory"
              : e == ERR_PROTO ? "is not an answer to this request"
                               : "could not be read");
}
