/*
 * One message at a time: header, reply pipe, age, framing, policy, route. What
 * fails a step is answered there; nothing of a message goes to Redis before
 * all of it was found to be whole commands in canonical form, so that one bad
 * worker can't put everybody's connection out of step.
 */
#include "manager/intake.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/oneshot.h"
#include "manager/framed.h"
#include "manager/log.h"

/* So many commands of a message are kept as they were parsed. */
#define PARSED_MAX 64

static_assert(PARSED_ARGS >= POLICY_ARGS, "the policy sees what it wants");

/* No command is shorter than "*1\r\n$1\r\nX\r\n". */
#define COMMAND_BYTES_MIN 11

/* A message that waited longer may have lost its requester meanwhile. */
#define STALE_WAIT_NS (5 * NS_PER_MS)

enum err intake_init(struct intake *in, const struct mpsc_receiver *rx,
                     struct readers *readers, struct answers *answers,
                     struct routes *routes, const struct policy *policy,
                     struct sources *sources, uint64_t max_request,
                     struct status *status)
{
    *in = (struct intake){.rx = rx,
                          .readers = readers,
                          .answers = answers,
                          .routes = routes,
                          .policy = policy,
                          .sources = sources,
                          .max_request = max_request,
                          .status = status};
    in->message = malloc(rx->msgsize);
    /* And one for those beyond. */
    in->parsed = calloc(PARSED_MAX + 1, sizeof(*in->parsed));
    return in->message == NULL || in->parsed == NULL ? ERR_NOMEM : ERR_OK;
}

void intake_release(struct intake *in)
{
    free(in->message);
    in->message = NULL;
    free(in->parsed);
    in->parsed = NULL;
    buffer_release(&in->body);
    buffer_release(&in->framing);
    free(in->blobs);
    in->blobs = NULL;
}

void intake_note_depth(struct intake *in, int taken)
{
    long depth = taken;
    if (taken > 1) {
        depth += mpsc_depth(in->rx);
        /* Senders that slept have taken the free places. */
        if (depth > in->rx->capacity)
            depth = in->rx->capacity;
    }
    if (depth > 0 && (uint64_t)depth > in->deepest) {
        in->deepest = (uint64_t)depth;
        status_gauge_set(in->status, GAUGE_deepest_queue, in->deepest);
    }
}

/* ---- commands ---- */

/* Steps to the next command. Errors as resp_request_command. */
static enum err next_command(struct resp_request *r, struct parsed *c)
{
    c->data = r->pos;
    enum err e = resp_request_command(r, &c->argc);
    if (e != ERR_OK)
        return e;
    c->blob_bytes = 0;
    for (uint32_t i = 0; i < c->argc; i++) {
        struct resp_arg beyond;
        struct resp_arg *arg = i < PARSED_ARGS ? &c->argv[i] : &beyond;
        e = resp_request_arg(r, arg);
        if (e != ERR_OK)
            return e;
        if (arg->data == NULL)
            c->blob_bytes += arg->len;
    }
    c->len = (size_t)(r->pos - c->data);
    return ERR_OK;
}

/* Whether the payload is exactly `n` whole commands; the first of them are
 * kept, *blob_bytes is the sum of all large arguments. */
static enum err check_framing(struct intake *in, const char *payload,
                              size_t len, uint32_t n, uint64_t *blob_bytes,
                              struct err_text *why)
{
    struct resp_request r;
    uint32_t found = 0;
    *blob_bytes = 0;
    resp_request_init(&r, payload, len);
    for (;; found++) {
        struct parsed *c = &in->parsed[found < PARSED_MAX ? found : PARSED_MAX];
        enum err e = next_command(&r, c);
        if (e == ERR_CLOSED)
            break;
        if (e != ERR_OK)
            return err_say(why, ERR_INVALID,
                           "command %u of the message is cut short or not in "
                           "canonical form",
                           found + 1);
        *blob_bytes += c->blob_bytes;
    }
    if (found != n)
        return err_say(why, ERR_INVALID,
                       "the message says %u commands and has %u", n, found);
    return ERR_OK;
}

/* Command `index` of a message whose framing was checked, called for one after
 * the other. */
static const struct parsed *command_at(struct intake *in,
                                       struct resp_request *r, uint32_t index)
{
    if (index < PARSED_MAX) {
        const struct parsed *c = &in->parsed[index];
        r->pos = c->data + c->len;
        return c;
    }
    struct parsed *c = &in->parsed[PARSED_MAX];
    return next_command(r, c) == ERR_OK ? c : NULL;
}

/* ---- large arguments ---- */

/* Our trouble, not the request's: "unavailable" says so. */
#define CANNOT_OPEN                                                            \
    "the manager cannot open the payload file; it was not executed"
#define NO_DESCRIPTOR                                                          \
    "the manager is out of descriptors (ulimit -n); it was not executed"

/* Opens the message's payload file and copies the commands out of it, if they
 * came by it. The bytes that it has to hold are known after the framing. */
static enum err read_body(struct intake *in, struct reader *reader,
                          const char **payload, size_t *len,
                          struct err_text *why)
{
    uint64_t size;
    if (*len != sizeof(size))
        return err_say(why, ERR_INVALID,
                       "the message does not say how long its commands are");
    memcpy(&size, *payload, sizeof(size));
    if (size == 0 || size > MESSAGE_BODY_MAX)
        return err_say(why, ERR_LIMIT,
                       "commands of %llu bytes are over %u: put large values "
                       "into single arguments",
                       (unsigned long long)size, MESSAGE_BODY_MAX);
    int fd;
    enum err e = readers_payload(in->readers, reader, (int64_t)size, &fd);
    if (e == ERR_LIMIT)
        return err_say(why, ERR_NOMEM, NO_DESCRIPTOR);
    if (e == ERR_SYS)
        return err_say(why, ERR_NOMEM, CANNOT_OPEN);
    if (e != ERR_OK)
        return err_say(why, ERR_INVALID, "the payload file is not there whole");
    buffer_clear(&in->body);
    if (buffer_reserve(&in->body, (size_t)size) != ERR_OK) {
        close(fd);
        return err_say(why, ERR_NOMEM,
                       "the manager is out of memory; it was not executed");
    }
    ssize_t n = pread(fd, buffer_tail(&in->body), (size_t)size, 0);
    close(fd);
    if (n != (ssize_t)size)
        return err_say(why, ERR_INVALID, "the payload file can't be read");
    in->blob_offset = (int64_t)size;
    *payload = buffer_tail(&in->body);
    *len = (size_t)size;
    return ERR_OK;
}

/* Opens the file for `bytes` of large arguments. */
static enum err open_source(struct intake *in, struct reader *reader,
                            uint64_t bytes, struct err_text *why)
{
    int64_t need = in->blob_offset + (int64_t)bytes;
    if (bytes > in->max_request)
        return err_say(why, ERR_LIMIT,
                       "a request of %llu bytes is over --max-request (%llu)",
                       (unsigned long long)bytes,
                       (unsigned long long)in->max_request);
    if (bytes > in->sources->budget)
        return err_say(why, ERR_LIMIT,
                       "a request of %llu bytes is over --shm-budget (%llu)",
                       (unsigned long long)bytes,
                       (unsigned long long)in->sources->budget);
    int fd;
    enum err e = readers_payload(in->readers, reader, need, &fd);
    if (e == ERR_DENIED)
        return err_say(why, ERR_INVALID,
                       "the payload file is not the requester's own");
    if (e == ERR_LIMIT)
        return err_say(why, ERR_NOMEM, NO_DESCRIPTOR);
    if (e == ERR_SYS)
        return err_say(why, ERR_NOMEM, CANNOT_OPEN);
    if (e != ERR_OK)
        return err_say(why, ERR_INVALID, "no payload file of %lld bytes: %s",
                       (long long)need, err_str(e));
    e = source_new(in->sources, fd, bytes, &in->source);
    if (e != ERR_OK)
        close(fd);
    return e == ERR_OK ? e : err_say(why, e, "the manager is out of memory");
}

static enum err note_blob(struct intake *in, size_t at, uint64_t len)
{
    if (in->nblobs == in->blobs_size) {
        uint32_t size = in->blobs_size ? in->blobs_size * 2 : 8;
        struct blob *blobs = realloc(in->blobs, size * sizeof(*blobs));
        if (blobs == NULL)
            return ERR_NOMEM;
        in->blobs = blobs;
        in->blobs_size = size;
    }
    in->blobs[in->nblobs++] =
        (struct blob){.at = at, .len = len, .offset = in->blob_offset};
    in->blob_offset += (int64_t)len;
    return ERR_OK;
}

/* Writes the run's framing as Redis is to see it, `$LEN CR LF`, the bytes of a
 * file, `CR LF`, where the message has `@LEN CR LF`. */
static enum err take_out_blobs(struct intake *in, struct run *run)
{
    struct resp_request r;
    uint32_t argc;
    size_t first_len = 0;
    in->nblobs = 0;
    buffer_clear(&in->framing);
    resp_request_init(&r, run->data, run->len);
    for (const char *from = r.pos; resp_request_command(&r, &argc) == ERR_OK;) {
        struct resp_arg arg;
        while (argc-- > 0) {
            enum err e =
                buffer_append(&in->framing, from, (size_t)(r.pos - from));
            from = r.pos;
            if (e != ERR_OK || resp_request_arg(&r, &arg) != ERR_OK)
                return ERR_NOMEM;
            if (arg.data != NULL)
                continue;
            size_t head = buffer_len(&in->framing);
            e = buffer_append(&in->framing, from, (size_t)(r.pos - from));
            if (e == ERR_OK)
                e = note_blob(in, buffer_len(&in->framing), arg.len);
            if (e == ERR_OK)
                e = buffer_append(&in->framing, "\r\n", 2);
            if (e != ERR_OK)
                return e;
            buffer_head(&in->framing)[head] = '$';
            from = r.pos;
        }
        if (buffer_append(&in->framing, from, (size_t)(r.pos - from)) != ERR_OK)
            return ERR_NOMEM;
        from = r.pos;
        if (first_len == 0)
            first_len = buffer_len(&in->framing);
    }
    run->data = buffer_head(&in->framing);
    run->len = buffer_len(&in->framing);
    run->first_len = first_len;
    run->nparsed = 0; /* its bytes are others now */
    run->source = in->source;
    run->blobs = in->blobs;
    run->nblobs = in->nblobs;
    return ERR_OK;
}

/* ---- routing ---- */

/* What is known of a run's commands, from `first` on. */
static void show_parsed(const struct intake *in, struct run *run)
{
    if (run->first >= PARSED_MAX)
        return;
    uint32_t known = PARSED_MAX - run->first;
    run->parsed = &in->parsed[run->first];
    run->nparsed = run->count < known ? run->count : known;
}

static void send_run(struct intake *in, enum route route, struct run *run)
{
    show_parsed(in, run);
    if (in->source != NULL && take_out_blobs(in, run) != ERR_OK)
        answer_fail(in->answers, run->req, run->first, run->count,
                    REPLY_UNAVAILABLE, "the manager is out of memory");
    else
        routes_send(in->routes, route, run);
}

/* Commands that belong together: one route, one run. */
static void send_batch(struct intake *in, struct request *req,
                       const char *payload, size_t len)
{
    struct policy_batch batch;
    struct err_text why;
    policy_begin(&batch, in->policy, req->ncommands, false);
    struct resp_request r;
    resp_request_init(&r, payload, len);
    for (uint32_t i = 0; i < req->ncommands; i++) {
        const struct parsed *c = command_at(in, &r, i);
        if (c == NULL)
            return; /* can't be: the framing was checked */
        if (policy_command(&batch, c->argc, c->argv, &why) == ROUTE_REFUSED)
            goto refused;
    }
    enum route route = policy_end(&batch, &why);
    if (route == ROUTE_REFUSED)
        goto refused;
    struct run run = {.req = req,
                      .count = req->ncommands,
                      .data = payload,
                      .len = len,
                      .first_len = in->parsed[0].len};
    send_run(in, route, &run);
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
    struct run run = {.req = req, .independent = true};
    /* The request is gone with its last command. */
    uint32_t ncommands = req->ncommands;
    policy_begin(&batch, in->policy, ncommands, true);
    resp_request_init(&r, payload, len);
    for (uint32_t i = 0; i < ncommands; i++) {
        const struct parsed *c = command_at(in, &r, i);
        if (c == NULL)
            return; /* can't be: the framing was checked */
        struct err_text why;
        enum route route = policy_command(&batch, c->argc, c->argv, &why);
        /* One with large arguments stands alone: if the connection breaks, a
         * run is cut where its last whole command ended, for which its bytes
         * must be here. */
        if (route == ROUTE_SHARED && c->blob_bytes == 0) {
            if (run.count == 0) {
                run.first = i;
                run.data = c->data;
                run.len = 0;
                run.first_len = c->len;
            }
            run.count++;
            run.len += c->len;
            continue;
        }
        if (run.count > 0)
            send_run(in, ROUTE_SHARED, &run);
        run = (struct run){.req = req, .independent = true};
        struct run one = {.req = req,
                          .first = i,
                          .count = 1,
                          .independent = true,
                          .data = c->data,
                          .len = c->len,
                          .first_len = c->len};
        if (route == ROUTE_REFUSED) {
            in->blob_offset += (int64_t)c->blob_bytes;
            answer_fail(in->answers, req, i, 1, REPLY_INVALID, "%s", why.text);
        } else {
            send_run(in, route, &one);
        }
    }
    if (run.count > 0)
        send_run(in, ROUTE_SHARED, &run);
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

/* A message that cannot be kept track of: its requester need not wait to hear
 * that nothing comes of it. */
static void turn_away(struct intake *in, const struct message_header *h,
                      const char *why)
{
    static struct log_limit limit;
    char text[128];
    snprintf(text, sizeof(text), "the manager: %s; it was not executed", why);
    bool told = oneshot_tell(in->readers->reply_fd, h, REPLY_UNAVAILABLE, text);
    status_count(in->status, COUNTER_taken, h->ncommands);
    status_count(in->status, told ? COUNTER_unavailable : COUNTER_gone,
                 h->ncommands);
    if (log_limit_pass(&limit, 3))
        log_warn("turned a message away%s: %s",
                 told ? "" : " without a word to its requester", why);
}

/* The pipe of the answer; NULL where nobody reads it, and that is counted. */
static struct reader *open_answer(struct intake *in,
                                  const struct message_header *h)
{
    struct reader *reader;
    enum err e = readers_get(in->readers, h->client, h->slot, &reader);
    bool gone = e != ERR_OK;
    /* The loop has told of every pipe whose reader had gone when this round
     * began, unless there were too many. */
    if (!gone && in->readers->loop->crowded &&
        in->answers->now_ns > h->sent_ns + STALE_WAIT_NS &&
        !readers_check(in->readers, reader)) {
        readers_put(in->readers, reader);
        gone = true;
    }
    if (!gone)
        return reader;
    if (e == ERR_OK || e == ERR_CLOSED || e == ERR_DENIED) {
        status_count(in->status, COUNTER_taken, h->ncommands);
        status_count(in->status, COUNTER_gone, h->ncommands);
        if (e == ERR_DENIED)
            log_garbage("its reply pipe is not a pipe of its own");
    } else {
        turn_away(in, h,
                  e == ERR_LIMIT   ? "no descriptor for its reply pipe "
                                     "(--max-clients, ulimit -n)"
                  : e == ERR_NOMEM ? "out of memory"
                                   : "its reply pipe can't be opened");
    }
    return NULL;
}

/* A message under examination. */
struct arrival {
    struct message_header h;
    const char *payload; /* its commands, as far as they are framed here */
    size_t len;
    enum reply_status refused; /* REPLY_OK: not so far */
    struct err_text why;
};

static void refuse(struct arrival *a, enum err e)
{
    a->refused = e == ERR_LIMIT   ? REPLY_TOO_BIG
                 : e == ERR_NOMEM ? REPLY_UNAVAILABLE
                                  : REPLY_INVALID;
}

/* Header and size. False: nobody can be answered. */
static bool check_header(struct intake *in, struct arrival *a, size_t len,
                         unsigned priority)
{
    enum err e =
        message_parse(in->message, len, priority, &a->h, &a->payload, &a->why);
    if (e == ERR_PROTO) {
        status_count(in->status, COUNTER_garbage, 1);
        log_garbage(a->why.text);
        return false;
    }
    a->len = a->h.payload_len;
    if (e != ERR_OK)
        refuse(a, e);
    /* The count of a message that is refused is a claim: bound it. */
    size_t bytes = a->h.flags & MESSAGE_BODY ? MESSAGE_BODY_MAX : len;
    uint32_t most = (uint32_t)(bytes / COMMAND_BYTES_MIN) + 1;
    if (a->h.ncommands == 0 || a->h.ncommands > most) {
        if (a->refused == REPLY_OK)
            refuse(a, err_say(&a->why, ERR_INVALID,
                              "the message says %u commands in %zu bytes",
                              a->h.ncommands, bytes));
        a->h.ncommands = a->h.ncommands == 0 ? 1 : most;
    }
    return true;
}

/* Framing, and the file of the large arguments. */
static void check_commands(struct intake *in, struct arrival *a,
                           struct reader *reader)
{
    enum err e = ERR_OK;
    uint64_t blob_bytes = 0;
    in->blob_offset = 0;
    if (a->h.flags & MESSAGE_BODY)
        e = read_body(in, reader, &a->payload, &a->len, &a->why);
    if (e == ERR_OK)
        e = check_framing(in, a->payload, a->len, a->h.ncommands, &blob_bytes,
                          &a->why);
    if (e == ERR_OK && blob_bytes > 0 && !(a->h.flags & MESSAGE_PAYLOAD))
        e = err_say(&a->why, ERR_INVALID,
                    "the message has a large argument that comes without its "
                    "bytes");
    if (e == ERR_OK && blob_bytes > 0)
        e = open_source(in, reader, blob_bytes, &a->why);
    if (e != ERR_OK)
        refuse(a, e);
}

/* Sends the commands on their way, or answers them all. */
static void dispatch(struct intake *in, struct arrival *a, struct request *req)
{
    if (a->refused != REPLY_OK) {
        answer_fail(in->answers, req, 0, a->h.ncommands, a->refused, "%s",
                    a->why.text);
    } else if (a->h.epoch != in->rx->epoch) {
        status_count(in->status, COUNTER_stale, 1);
        answer_fail(in->answers, req, 0, a->h.ncommands, REPLY_UNAVAILABLE,
                    "the manager that this was sent to has ended; it was not "
                    "executed");
    } else if (request_expired(in->answers, req)) {
        answer_fail(in->answers, req, 0, a->h.ncommands, REPLY_EXPIRED,
                    "the deadline passed while the command was queued, %llu "
                    "ms; it was not executed",
                    (unsigned long long)((in->answers->now_ns - a->h.sent_ns) /
                                         NS_PER_MS));
    } else {
        note_times(in, &a->h);
        if (a->h.flags & MESSAGE_INDEPENDENT)
            send_independent(in, req, a->payload, a->len);
        else
            send_batch(in, req, a->payload, a->len);
    }
}

static void handle(struct intake *in, size_t len, unsigned priority)
{
    struct arrival a;
    a.refused = REPLY_OK;
    status_count(in->status, COUNTER_messages, 1);
    if (!check_header(in, &a, len, priority))
        return;
    struct reader *reader = open_answer(in, &a.h);
    if (reader == NULL)
        return;
    if (a.refused == REPLY_OK)
        check_commands(in, &a, reader);
    struct request *req;
    const struct resp_arg *name = &in->parsed[0].argv[0];
    bool named = a.refused == REPLY_OK && name->data != NULL;
    if (answers_take(in->answers, &a.h, reader, named ? name->data : "?",
                     named ? name->len : 1, &req) != ERR_OK) {
        readers_put(in->readers, reader);
        turn_away(in, &a.h, "out of memory");
    } else {
        dispatch(in, &a, req);
    }
    source_unref(in->source);
    in->source = NULL;
    if (in->body.size > 0)
        buffer_clear(&in->body);
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
