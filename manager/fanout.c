/* Parts of one command, and their replies as one. */
#include "manager/fanout.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "manager/cluster_parts.h"

/* A joined reply is handed out in such pieces, and a reader that lags by so
 * much is waited for. */
#define PIECE (64 * 1024)
#define BEHIND (1024 * 1024)

#define NO_MEMORY "the manager is out of memory; it was not executed"

static struct fanout *fanout_new(struct cluster *c, const struct run *run,
                                 uint32_t index, enum join join, uint32_t parts)
{
    struct fanout *s = calloc(1, sizeof(*s));
    if (s != NULL &&
        gather_init(&s->gather, join, parts, c->answers->max_reply) != ERR_OK) {
        free(s);
        s = NULL;
    }
    if (s == NULL) {
        answer_fail(c->answers, run->req, index, 1, REPLY_UNAVAILABLE,
                    NO_MEMORY);
        return NULL;
    }
    s->cluster = c;
    s->req = run->req;
    s->index = index;
    /* And whoever sends them: it lives until that settles, too, however its
     * parts end meanwhile. */
    s->left = parts + 1;
    return s;
}

static void fanout_free(struct fanout *s)
{
    gather_release(&s->gather);
    free(s->own);
    free(s);
}

/* ---- the joined reply ---- */

/* Hands out what the reader takes; true: all of it. */
static bool hand_out(struct fanout *s)
{
    struct answers *a = s->cluster->answers;
    struct reader *reader = s->req->reader;
    while (s->told < s->len) {
        size_t n = s->len - s->told;
        n = n < PIECE ? n : PIECE;
        bool last = s->told + n == s->len;
        bool lags = !reader->dead && (buffer_len(&reader->backlog) > BEHIND ||
                                      readers_tight(reader->owner, reader, n));
        bool patient = !s->cut && (a->now_ns < s->stall_ns || s->stall_ns == 0);
        if (lags && patient && s->len > PIECE)
            return false;
        const char *data = s->reply + s->told;
        s->told += n;
        /* Another command's reply may be under way, and be cut off. */
        s->req->cut = s->cut;
        /* The request may be gone with the last piece. */
        answer_reply(a, s->req, s->index, last, !last, data, n);
        if (!last)
            s->cut = s->req->cut;
        s->stall_ns = s->stall_ns == 1 ? 1 : 0;
    }
    return true;
}

static void say_failed(struct fanout *s)
{
    bool partly = s->answered > 0 && s->failed != REPLY_TOO_BIG;
    if (partly)
        answer_fail(s->cluster->answers, s->req, s->index, 1, REPLY_LOST,
                    "the command went to several nodes; on some it was "
                    "executed, but of another: %.300s",
                    s->why.text);
    else
        answer_fail(s->cluster->answers, s->req, s->index, 1, s->failed, "%s",
                    s->why.text);
}

/* SCAN's cursor tells the node, too: see fanout_scan. */
static enum err turn_cursor(struct fanout *s, const char *reply, size_t len);

static void finish(struct fanout *s)
{
    struct cluster *c = s->cluster;
    const char *reply;
    size_t len;
    if (s->failed == REPLY_OK) {
        enum err e = gather_result(&s->gather, &reply, &len);
        if (e == ERR_OK && s->scans)
            e = turn_cursor(s, reply, len);
        else if (e == ERR_OK)
            s->reply = reply, s->len = len;
        if (e != ERR_OK) {
            s->failed = REPLY_TOO_BIG;
            err_say(&s->why, e,
                    "the command was executed, but its joined reply is %s",
                    e == ERR_LIMIT ? "over --max-reply"
                                   : "more than there is memory for");
        }
    }
    if (s->failed != REPLY_OK) {
        say_failed(s);
        fanout_free(s);
        return;
    }
    if (s->reply[0] == '-')
        status_count(c->answers->status, COUNTER_error_replies, 1);
    /* What waits for readers is bounded as any one reply is. */
    if (c->delivering_bytes > c->answers->max_reply)
        s->stall_ns = 1;
    if (hand_out(s)) {
        fanout_free(s);
        return;
    }
    s->next = c->delivering;
    c->delivering = s;
    c->delivering_bytes += s->len;
}

uint64_t fanouts_tick(struct cluster *c, uint64_t now)
{
    uint64_t next = 0;
    for (struct fanout **at = &c->delivering; *at != NULL;) {
        struct fanout *s = *at;
        if (s->stall_ns == 0)
            s->stall_ns = now + c->options.base->stall_ms * NS_PER_MS;
        struct fanout *after = s->next;
        if (hand_out(s)) {
            *at = after;
            c->delivering_bytes -= s->len;
            fanout_free(s);
            continue;
        }
        next = cluster_sooner(next, s->stall_ns != 0 ? s->stall_ns : now + 1);
        at = &s->next;
    }
    return next;
}

void fanouts_hurry(struct cluster *c)
{
    for (struct fanout *s = c->delivering; s != NULL; s = s->next)
        s->stall_ns = 1;
    (void)fanouts_tick(c, c->answers->now_ns);
}

void fanouts_release(struct cluster *c)
{
    while (c->delivering != NULL) {
        struct fanout *s = c->delivering;
        c->delivering = s->next;
        fanout_free(s);
    }
}

static void settle(struct fanout *s)
{
    if (--s->left == 0)
        finish(s);
}

bool fanout_has_room(const struct fanout *s, size_t len)
{
    size_t limit = s->gather.limit, kept = s->gather.kept + s->collecting;
    return kept <= limit && len <= limit - kept;
}

void fanout_reply(struct fanout *s, uint32_t part, const char *data, size_t len)
{
    enum err e = gather_add(&s->gather, part, data, len);
    s->answered++;
    if (e != ERR_OK && s->failed == REPLY_OK) {
        s->failed = REPLY_TOO_BIG;
        err_say(&s->why, e,
                "the command was executed, but its joined reply is %s",
                e == ERR_LIMIT ? "over --max-reply"
                               : "more than there is memory for");
    }
    settle(s);
}

static void note_failure(struct fanout *s, enum reply_status status,
                         const char *why)
{
    bool executed = status == REPLY_TOO_BIG;
    s->answered += executed;
    /* What may have been executed outweighs what was not, and that what is only
     * too long to be told. */
    if (s->failed == REPLY_OK || status == REPLY_LOST ||
        (s->failed == REPLY_TOO_BIG && !executed)) {
        s->failed = status;
        snprintf(s->why.text, sizeof(s->why.text), "%s", why);
    }
}

void fanout_fail(struct fanout *s, uint32_t part, enum reply_status status,
                 const char *why)
{
    (void)part;
    note_failure(s, status, why);
    settle(s);
}

/* ---- sending ---- */

/* For who sends them all, and settles only then: never ends the fanout. */
static void send_part(struct fanout *s, const struct run *run, uint32_t number,
                      const struct framed *command, uint16_t slot,
                      enum route route, bool readonly)
{
    struct errand *e = errand_new(s->cluster, run, command, 1);
    if (e == NULL) {
        note_failure(s, REPLY_UNAVAILABLE, NO_MEMORY);
        s->left--;
        return;
    }
    e->fanout = s;
    e->part = number;
    e->route = (uint8_t)route;
    e->passer.slot = slot;
    e->passer.loose = slot == TURNSTILE_KEYLESS;
    if (readonly && s->cluster->nodes.use_replicas)
        e->replica = e->passer.loose = true;
    errand_enter(e);
}

void fanout_split(struct cluster *c, const struct run *run, uint32_t index,
                  const struct framed *command, const struct way *way)
{
    struct scatter scatter;
    enum err e = scatter_split(&scatter, command, way, SLOTS);
    if (e != ERR_OK) {
        answer_fail(c->answers, run->req, index, 1,
                    e == ERR_NOMEM ? REPLY_UNAVAILABLE : REPLY_INVALID, "%s",
                    e == ERR_NOMEM     ? NO_MEMORY
                    : e == ERR_INVALID ? "the command " KEYSPEC_LARGE_KEY
                                       : "the command can't be split by slot");
        return;
    }
    struct fanout *s = fanout_new(c, run, index, way->join, scatter.count);
    for (uint32_t i = 0; s != NULL && i < scatter.count; i++)
        if (gather_keys(&s->gather, i, &scatter.parts[i]) != ERR_OK) {
            answer_fail(c->answers, run->req, index, 1, REPLY_UNAVAILABLE,
                        NO_MEMORY);
            fanout_free(s);
            s = NULL;
        }
    for (uint32_t i = 0; s != NULL && i < scatter.count; i++) {
        const struct part *p = &scatter.parts[i];
        struct framed part = framed_view(p->data, p->len, p->blobs, p->nblobs);
        send_part(s, run, i, &part, p->slot, ROUTE_SHARED, way->readonly);
    }
    scatter_release(&scatter);
    if (s != NULL)
        settle(s);
}

void fanout_masters(struct cluster *c, const struct run *run, uint32_t index,
                    const struct framed *command, const struct way *way,
                    enum route route)
{
    uint16_t slots[NODES_MAX];
    uint32_t count = nodes_first_slots(&c->nodes, slots);
    if (count == 0)
        slots[count++] = TURNSTILE_KEYLESS;
    struct fanout *s = fanout_new(c, run, index, way->join, count);
    if (s == NULL)
        return;
    /* A part goes to whoever serves that slot by then. */
    for (uint32_t i = 0; i < count; i++)
        send_part(s, run, i, command, slots[i], route, false);
    settle(s);
}

/* ---- SCAN ---- */

/*
 * A cursor is the node's own, times SCAN_NODES, and the node's number: so it
 * stays as small as it can, for clients that keep it in a double. 0 begins with
 * the first master; a node's own cursor 0 goes on with the next one.
 */
#define SCAN_NODES NODES_MAX

/* The first slot of the master with the lowest number from `number` on, as far
 * as it has one; TURNSTILE_KEYLESS: there is none. */
static uint16_t slot_from(const struct nodes *n, uint32_t number)
{
    uint16_t slots[NODES_MAX];
    uint32_t count = nodes_first_slots(n, slots);
    for (uint32_t i = 0; i < count; i++)
        if (n->owner[slots[i]] >= number)
            return slots[i];
    return TURNSTILE_KEYLESS;
}

static bool read_cursor(const char *text, size_t len, uint64_t *cursor)
{
    *cursor = 0;
    if (len == 0 || len > 19)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        *cursor = *cursor * 10 + (uint64_t)(text[i] - '0');
    }
    return true;
}

static enum err turn_cursor(struct fanout *s, const char *reply, size_t len)
{
    struct resp_value v;
    size_t head, used;
    uint64_t cursor;
    s->reply = reply;
    s->len = len;
    if (resp_get(reply, len, &v, &head) != ERR_OK || v.type != '*' ||
        v.number != 2 ||
        resp_get(reply + head, len - head, &v, &used) != ERR_OK ||
        v.type != '$' || v.null || !read_cursor(v.data, v.len, &cursor))
        return ERR_OK; /* an error, for instance */
    uint32_t node = s->node;
    if (cursor == 0) {
        const struct nodes *n = &s->cluster->nodes;
        uint16_t slot = slot_from(n, node + 1U);
        if (slot == TURNSTILE_KEYLESS)
            return ERR_OK;
        node = n->owner[slot];
    }
    if (cursor > UINT64_MAX / SCAN_NODES - 1)
        return ERR_LIMIT;
    char text[24];
    uint64_t mixed = cursor * SCAN_NODES + node;
    int n = snprintf(text, sizeof(text), "%" PRIu64, mixed);
    s->own = malloc(len + sizeof(text) + RESP_HEADER_MAX);
    if (s->own == NULL)
        return ERR_NOMEM;
    size_t rest = head + used;
    s->len = (size_t)snprintf(s->own, len + sizeof(text) + RESP_HEADER_MAX,
                              "*2\r\n$%d\r\n%s\r\n", n, text);
    memcpy(s->own + s->len, reply + rest, len - rest);
    s->len += len - rest;
    s->reply = s->own;
    return ERR_OK;
}

/* The same command with another cursor, which is in the message itself:
 * `*turned` is a view of what is returned, memory to be freed. NULL: there is
 * none. */
static void *with_cursor(const struct framed *command, const char *cursor,
                         struct framed *turned)
{
    struct framed_args args;
    struct resp_arg arg;
    uint32_t argc;
    if (framed_args(&args, command, &argc) != ERR_OK ||
        framed_arg(&args, &arg, NULL) != ERR_OK)
        return NULL;
    size_t head = (size_t)(args.request.pos - command->data);
    if (framed_arg(&args, &arg, NULL) != ERR_OK)
        return NULL;
    const char *rest = args.request.pos;
    size_t rest_len = command->len - (size_t)(rest - command->data);
    size_t blobs_size = command->nblobs * sizeof(struct blob);
    size_t cursor_len = strlen(cursor);
    char *memory =
        malloc(blobs_size + head + RESP_HEADER_MAX + cursor_len + 2 + rest_len);
    if (memory == NULL)
        return NULL;
    char *data = memory + blobs_size, *to = data + head;
    memcpy(data, command->data, head);
    to += resp_put_header(to, '$', (int64_t)cursor_len);
    memcpy(to, cursor, cursor_len);
    memcpy(to + cursor_len, "\r\n", 2);
    to += cursor_len + 2;
    memcpy(to, rest, rest_len);
    size_t len = (size_t)(to - data) + rest_len;
    struct blob *blobs = (struct blob *)(void *)memory;
    for (uint32_t i = 0; i < command->nblobs; i++) {
        blobs[i] = command->blobs[i];
        blobs[i].at = blobs[i].at - command->at + len - command->len;
    }
    *turned = framed_view(data, len, blobs, command->nblobs);
    return memory;
}

static bool scan_cursor(const struct framed *command, uint64_t *cursor)
{
    struct framed_args args;
    struct resp_arg arg = {NULL, 0};
    uint32_t argc;
    return framed_args(&args, command, &argc) == ERR_OK && argc >= 2 &&
           framed_arg(&args, &arg, NULL) == ERR_OK &&
           framed_arg(&args, &arg, NULL) == ERR_OK && arg.data != NULL &&
           read_cursor(arg.data, arg.len, cursor);
}

void fanout_scan(struct cluster *c, const struct run *run, uint32_t index,
                 const struct framed *command)
{
    static const char over[] = "*2\r\n$1\r\n0\r\n*0\r\n";
    const struct nodes *n = &c->nodes;
    uint64_t cursor = 0;
    char text[24] = "0";
    /* One that is not is refused by whoever gets it. */
    bool readable = scan_cursor(command, &cursor);
    uint32_t from = (uint32_t)(cursor % SCAN_NODES);
    uint16_t slot = slot_from(n, from);
    if (readable && slot == TURNSTILE_KEYLESS) {
        if (slot_from(n, 0) != TURNSTILE_KEYLESS)
            answer_reply(c->answers, run->req, index, 1, false, over,
                         sizeof(over) - 1);
        else
            answer_fail(c->answers, run->req, index, 1, REPLY_UNAVAILABLE,
                        "no slot of the cluster has a master; the command was "
                        "not executed");
        return;
    }
    uint16_t node = slot == TURNSTILE_KEYLESS ? NODE_NONE : n->owner[slot];
    /* A node that is a master no more: on with the next one. */
    if (cursor != 0 && node == from)
        snprintf(text, sizeof(text), "%" PRIu64, cursor / SCAN_NODES);
    struct framed turned = *command;
    void *memory = readable ? with_cursor(command, text, &turned) : NULL;
    if (readable && memory == NULL) {
        answer_fail(c->answers, run->req, index, 1, REPLY_UNAVAILABLE,
                    NO_MEMORY);
        return;
    }
    struct fanout *s = fanout_new(c, run, index, JOIN_ONE, 1);
    if (s != NULL) {
        s->scans = readable;
        s->node = node;
        send_part(s, run, 0, &turned, slot, ROUTE_SHARED, false);
        settle(s);
    }
    free(memory);
}
