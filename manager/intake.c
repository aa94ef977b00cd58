/*
 * One message at a time: header, reply pipe, age, framing, policy, route. What
 * fails a step is answered there; nothing of a message goes to Redis before
 * all of it was found to be whole commands in canonical form, so that one bad
 * worker can't put everybody's connection out of step.
 */
#include "manager/intake.h"

#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "manager/log.h"

/* No command is shorter than "*1\r\n$1\r\nX\r\n". */
#define COMMAND_BYTES_MIN 11

/* A message that waited longer may have lost its requester meanwhile. */
#define STALE_WAIT_NS (5 * NS_PER_MS)

enum err intake_init(struct intake *in, const struct mpsc_receiver *rx,
                     struct readers *readers, struct answers *answers,
                     struct routes *routes, const struct policy *policy,
                     struct status *status)
{
    *in = (struct intake){.rx = rx,
                          .readers = readers,
                          .answers = answers,
                          .routes = routes,
                          .policy = policy,
                          .status = status};
    in->message = malloc(rx->msgsize);
    return in->message == NULL ? ERR_NOMEM : ERR_OK;
}

void intake_release(struct intake *in)
{
    free(in->message);
    in->message = NULL;
}

void intake_note_depth(struct intake *in)
{
    long depth = mpsc_depth(in->rx);
    if (depth > 0 && (uint64_t)depth > in->deepest) {
        in->deepest = (uint64_t)depth;
        status_gauge_set(in->status, GAUGE_deepest_queue, in->deepest);
    }
}

/* ---- commands ---- */

/* One command of a message, as far as anybody needs to look into it. */
struct command {
    const char *data;
    size_t len;
    uint32_t argc;
    struct resp_arg argv[POLICY_ARGS];
};

/* Steps to the next command. Errors as resp_request_command. */
static enum err next_command(struct resp_request *r, struct command *c)
{
    c->data = r->pos;
    enum err e = resp_request_command(r, &c->argc);
    if (e != ERR_OK)
        return e;
    for (uint32_t i = 0; i < c->argc; i++) {
        struct resp_arg beyond;
        e = resp_request_arg(r, i < POLICY_ARGS ? &c->argv[i] : &beyond);
        if (e != ERR_OK)
            return e;
    }
    c->len = (size_t)(r->pos - c->data);
    return ERR_OK;
}

/* Whether the payload is exactly `n` whole commands; *first is the first. */
static enum err check_framing(const char *payload, size_t len, uint32_t n,
                              struct command *first, struct err_text *why)
{
    struct resp_request r;
    struct command c;
    uint32_t found = 0;
    resp_request_init(&r, payload, len);
    for (;; found++) {
        enum err e = next_command(&r, &c);
        if (e == ERR_CLOSED)
            break;
        if (e != ERR_OK)
            return err_say(why, ERR_INVALID,
                           "command %u of the message is cut short or not in "
                           "canonical form",
                           found + 1);
        if (found == 0)
            *first = c;
    }
    if (found != n)
        return err_say(why, ERR_INVALID,
                       "the message says %u commands and has %u", n, found);
    return ERR_OK;
}

/* ---- routing ---- */

/* Commands that belong together: one route, one run. */
static void send_batch(struct intake *in, struct request *req,
                       const char *payload, size_t len,
                       const struct command *first)
{
    struct policy_batch batch;
    struct err_text why;
    policy_begin(&batch, in->policy, req->ncommands, false);
    struct command c = *first;
    struct resp_request r;
    resp_request_init(&r, first->data + first->len, len - first->len);
    for (;;) {
        if (policy_command(&batch, c.argc, c.argv, &why) == ROUTE_REFUSED)
            goto refused;
        if (next_command(&r, &c) != ERR_OK)
            break;
    }
    enum route route = policy_end(&batch, &why);
    if (route == ROUTE_REFUSED)
        goto refused;
    struct run run = {.req = req,
                      .count = req->ncommands,
                      .data = payload,
                      .len = len,
                      .first_len = first->len};
    routes_send(in->routes, route, &run);
    return;
refused:
    answer_fail(in->answers, req, 0, req->ncommands, REPLY_INVALID, "%s",
                why.text);
}

/* Commands that are merely sent together: neighbours on the shared connection
 * make a run, any other is one of its own. */
static void send_independent(struct intake *in, struct request *req,
                             const char *payload, size_t len)
{
    struct policy_batch batch;
    struct resp_request r;
    struct command c;
    struct run run = {.req = req, .independent = true};
    /* The request is gone with its last command. */
    uint32_t ncommands = req->ncommands;
    policy_begin(&batch, in->policy, ncommands, true);
    resp_request_init(&r, payload, len);
    for (uint32_t i = 0; i < ncommands; i++) {
        if (next_command(&r, &c) != ERR_OK)
            return; /* can't be: the framing was checked */
        struct err_text why;
        enum route route = policy_command(&batch, c.argc, c.argv, &why);
        if (route == ROUTE_SHARED) {
            if (run.count == 0) {
                run.first = i;
                run.data = c.data;
                run.len = 0;
                run.first_len = c.len;
            }
            run.count++;
            run.len += c.len;
            continue;
        }
        if (run.count > 0)
            routes_send(in->routes, ROUTE_SHARED, &run);
        run.count = 0;
        struct run one = {.req = req,
                          .first = i,
                          .count = 1,
                          .independent = true,
                          .data = c.data,
                          .len = c.len,
                          .first_len = c.len};
        if (route == ROUTE_REFUSED)
            answer_fail(in->answers, req, i, 1, REPLY_INVALID, "%s", why.text);
        else
            routes_send(in->routes, route, &one);
    }
    if (run.count > 0)
        routes_send(in->routes, ROUTE_SHARED, &run);
}

/* ---- one message ---- */

static void note_times(struct intake *in, const struct message_header *h)
{
    uint64_t now = in->answers->now_ns;
    if (h->sent_ns != 0 && h->sent_ns <= now)
        histogram_add(&in->status->times[TIME_queue_wait], now - h->sent_ns);
    if (h->prev_rtt_us != 0)
        histogram_add(&in->status->times[TIME_round_trip],
                      h->prev_rtt_us * NS_PER_US);
}

static void log_garbage(const char *what)
{
    static struct log_limit limit;
    if (log_limit_pass(&limit, 3))
        log_warn("dropped a message nobody can be answered for: %s", what);
}

/* The pipe of the answer; NULL where nobody reads it, and that is counted. */
static struct reader *open_answer(struct intake *in,
                                  const struct message_header *h)
{
    struct reader *reader;
    enum err e = readers_get(in->readers, h->client, h->slot, &reader);
    bool gone = e != ERR_OK;
    if (!gone && in->answers->now_ns - h->sent_ns > STALE_WAIT_NS &&
        !readers_check(in->readers, reader)) {
        readers_put(in->readers, reader);
        gone = true;
    }
    if (!gone)
        return reader;
    status_count(in->status, COUNTER_taken, h->ncommands);
    status_count(in->status, COUNTER_gone, h->ncommands);
    if (e != ERR_OK && e != ERR_CLOSED)
        log_garbage(e == ERR_DENIED ? "its reply pipe is not a pipe of its own"
                    : e == ERR_LIMIT
                        ? "no descriptor for its reply pipe (--max-clients)"
                        : "its reply pipe can't be opened");
    return NULL;
}

static void handle(struct intake *in, size_t len, unsigned priority)
{
    struct message_header h;
    struct err_text why;
    struct command first = {.argc = 0};
    const char *payload = NULL;
    status_count(in->status, COUNTER_messages, 1);
    enum err bad =
        message_parse(in->message, len, priority, &h, &payload, &why);
    if (bad == ERR_PROTO) {
        status_count(in->status, COUNTER_garbage, 1);
        log_garbage(why.text);
        return;
    }
    /* The count of a message that is refused is a claim: bound it. */
    uint32_t most = (uint32_t)(len / COMMAND_BYTES_MIN) + 1;
    if (h.ncommands == 0 || h.ncommands > most) {
        if (bad == ERR_OK)
            bad = err_say(&why, ERR_INVALID,
                          "the message says %u commands in %zu bytes",
                          h.ncommands, len);
        h.ncommands = h.ncommands == 0 ? 1 : most;
    }
    struct reader *reader = open_answer(in, &h);
    if (reader == NULL)
        return;
    if (bad == ERR_OK)
        bad = check_framing(payload, h.payload_len, h.ncommands, &first, &why);
    struct request *req;
    const char *name = bad == ERR_OK ? first.argv[0].data : NULL;
    if (answers_take(in->answers, &h, reader, name ? name : "?",
                     name ? first.argv[0].len : 1, &req) != ERR_OK) {
        readers_put(in->readers, reader);
        status_count(in->status, COUNTER_garbage, 1);
        log_garbage("out of memory");
        return;
    }
    if (bad != ERR_OK) {
        answer_fail(in->answers, req, 0, h.ncommands, REPLY_INVALID, "%s",
                    why.text);
    } else if (h.epoch != in->rx->epoch) {
        status_count(in->status, COUNTER_stale, 1);
        answer_fail(in->answers, req, 0, h.ncommands, REPLY_UNAVAILABLE,
                    "the manager that this was sent to has ended; it was not "
                    "executed");
    } else if (request_expired(in->answers, req)) {
        answer_fail(in->answers, req, 0, h.ncommands, REPLY_EXPIRED,
                    "the deadline passed while the command was queued, %llu "
                    "ms; it was not executed",
                    (unsigned long long)((in->answers->now_ns - h.sent_ns) /
                                         NS_PER_MS));
    } else {
        note_times(in, &h);
        if (h.flags & MESSAGE_INDEPENDENT)
            send_independent(in, req, payload, h.payload_len);
        else
            send_batch(in, req, payload, h.payload_len, &first);
    }
}

enum err intake_one(struct intake *in)
{
    size_t len;
    unsigned priority;
    enum err e =
        mpsc_receive(in->rx, in->message, in->rx->msgsize, &len, &priority);
    if (e == ERR_OK)
        handle(in, len, priority);
    return e;
}
