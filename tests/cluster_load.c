/* Busy workers whose every reply is known beforehand. */
#include "tests/cluster_load.h"

#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "tests/differential.h"
#include "tests/lib.h"
#include "tests/support.h"

#define PENDING_MAX 64

/* What was submitted and has no answer yet. */
struct pending {
    struct mqredis_request *request;
    char what[64];
    char expected[160];
};

struct crew {
    struct cluster_worker *self;
    struct mqredis *mq;
    struct pending pending[PENDING_MAX];
    size_t count;
};

/* ---- replies ---- */

/* A reply as one line: elements are joined with commas. */
static void flatten(const struct mqredis_reply *r, char *out, size_t size)
{
    if (r->type != MQREDIS_ARRAY && r->type != MQREDIS_BATCH) {
        snprintf(out, size, "%s", lib_text(r));
        return;
    }
    out[0] = '\0';
    for (size_t i = 0; i < r->elements; i++) {
        size_t len = strlen(out);
        if (len + 2 >= size)
            return;
        if (i > 0)
            out[len++] = ',';
        flatten(r->element[i], out + len, size - len);
    }
}

static void compare(struct crew *c, const char *what, const char *expected,
                    struct mqredis_reply *reply)
{
    char got[160];
    flatten(reply, got, sizeof(got));
    if (strcmp(got, expected) != 0 && c->self->wrong[0] == '\0')
        snprintf(c->self->wrong, sizeof(c->self->wrong),
                 "%s: '%.100s' and not '%.100s'", what, got, expected);
    c->self->commands++;
    mqredis_free(reply);
}

static void settle(struct crew *c)
{
    for (size_t i = 0; i < c->count; i++) {
        struct pending *p = &c->pending[i];
        compare(c, p->what, p->expected, mqredis_wait(p->request));
    }
    c->count = 0;
}

/* Notes what the next reply must be. */
static struct pending *expect(struct crew *c, struct mqredis_request *request,
                              const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static struct pending *expect(struct crew *c, struct mqredis_request *request,
                              const char *fmt, ...)
{
    CHILD_REQUIRE(c->count < PENDING_MAX);
    struct pending *p = &c->pending[c->count++];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(p->expected, sizeof(p->expected), fmt, ap);
    va_end(ap);
    p->request = request;
    return p;
}

#define NAMED(pending, ...)                                                    \
    snprintf((pending)->what, sizeof((pending)->what), __VA_ARGS__)

/* ---- what a worker does ---- */

/* On each tag, in one go: the replies show the order of execution. */
static void one_by_one(struct crew *c, long step)
{
    for (int i = 0; i < CLUSTER_LOAD_TAGS; i++) {
        const char *t = c->self->tags[i];
        struct mqredis *mq = c->mq;
        long n = c->self->number;
        NAMED(expect(c, mqredis_submit(mq, "SET {%s}v w%ld-%ld", t, n, step),
                     "OK"),
              "SET {%s}v %ld", t, step);
        NAMED(
            expect(c, mqredis_submit(mq, "GET {%s}v", t), "w%ld-%ld", n, step),
            "GET {%s}v %ld", t, step);
        NAMED(expect(c, mqredis_submit(mq, "INCR {%s}n", t), "%ld", step),
              "INCR {%s}n %ld", t, step);
        NAMED(expect(c, mqredis_submit(mq, "RPUSH {%s}l %ld", t, step), "%ld",
                     step),
              "RPUSH {%s}l %ld", t, step);
    }
    settle(c);
}

/* The same in a transaction. */
static void at_once(struct crew *c, long step)
{
    for (int i = 0; i < CLUSTER_LOAD_TAGS; i++) {
        const char *t = c->self->tags[i];
        struct mqredis_batch *b = mqredis_batch_new(c->mq);
        mqredis_batch_add(b, "SET {%s}v w%d-%ld", t, c->self->number, step);
        mqredis_batch_add(b, "GET {%s}v", t);
        mqredis_batch_add(b, "INCR {%s}n", t);
        mqredis_batch_add(b, "RPUSH {%s}l %ld", t, step);
        char what[64], expected[160];
        snprintf(what, sizeof(what), "transaction of {%s} %ld", t, step);
        snprintf(expected, sizeof(expected), "OK,w%d-%ld,%ld,%ld",
                 c->self->number, step, step, step);
        compare(c, what, expected, mqredis_transaction_run(b));
    }
}

/* A batch that is no transaction, over all tags. */
static void as_batch(struct crew *c, long step)
{
    struct mqredis_batch *b = mqredis_batch_new(c->mq);
    char expected[160] = "";
    for (int i = 0; i < CLUSTER_LOAD_TAGS; i++) {
        const char *t = c->self->tags[i];
        mqredis_batch_add(b, "SET {%s}v w%d-%ld", t, c->self->number, step);
        mqredis_batch_add(b, "INCR {%s}n", t);
        mqredis_batch_add(b, "RPUSH {%s}l %ld", t, step);
        size_t len = strlen(expected);
        snprintf(expected + len, sizeof(expected) - len, "%sOK,%ld,%ld",
                 i > 0 ? "," : "", step, step);
    }
    compare(c, "batch", expected, mqredis_batch_run(b));
}

/* Commands over several slots, which the manager splits, and some with several
 * keys in one slot, which Redis refuses with TRYAGAIN while that moves. */
static void over_slots(struct crew *c, long step)
{
    char(*t)[16] = c->self->tags;
    struct mqredis *mq = c->mq;
    long n = c->self->number;
    NAMED(expect(c,
                 mqredis_submit(mq,
                                "MSET {%s}m a%ld-%ld {%s}m b%ld-%ld {%s}m "
                                "c%ld-%ld",
                                t[0], n, step, t[1], n, step, t[2], n, step),
                 "OK"),
          "MSET %ld", step);
    NAMED(expect(c,
                 mqredis_submit(mq, "MGET {%s}m {%s}m {%s}m", t[2], t[0], t[1]),
                 "c%ld-%ld,a%ld-%ld,b%ld-%ld", n, step, n, step, n, step),
          "MGET %ld", step);
    NAMED(
        expect(c,
               mqredis_submit(mq, "EXISTS {%s}m {%s}x {%s}m", t[0], t[1], t[2]),
               "2"),
        "EXISTS %ld", step);
    NAMED(expect(c,
                 mqredis_submit(mq, "MGET {%s}n {%s}v {%s}m", t[0], t[0], t[0]),
                 "%ld,w%ld-%ld,a%ld-%ld", c->self->steps, n, c->self->steps, n,
                 step),
          "MGET {%s} %ld", t[0], step);
    NAMED(expect(c,
                 mqredis_submit(mq, "DEL {%s}m {%s}m {%s}m {%s}x", t[0], t[1],
                                t[2], t[0]),
                 "3"),
          "DEL %ld", step);
    settle(c);
}

static void work(void *arg)
{
    struct cluster_worker *self = arg;
    static struct crew c;
    struct mqredis_error why;
    c.self = self;
    c.mq = mqredis_open(self->channel, &why);
    CHILD_REQUIRE(c.mq != NULL);
    mqredis_set_timeout(c.mq, self->timeout_ms);
    for (long step = 1; !self->enough && self->wrong[0] == '\0'; step++) {
        uint64_t t0 = clock_ns();
        if (step % 8 == 5)
            at_once(&c, step);
        else if (step % 8 == 6)
            as_batch(&c, step);
        else
            one_by_one(&c, step);
        self->steps = step;
        if (step % 4 == 0 && self->wrong[0] == '\0')
            over_slots(&c, step);
        uint64_t ns = clock_ns() - t0;
        if (ns > self->longest_ns)
            self->longest_ns = ns;
    }
    mqredis_close(c.mq);
}

/* ---- all of them ---- */

void cluster_load_start(struct cluster_load *load, int count,
                        const char *channel, int64_t timeout_ms)
{
    bool used[REDIS_CLUSTER_SLOTS] = {false};
    unsigned word = 0;
    load->count = count;
    load->worker = support_shared((size_t)count * sizeof(*load->worker));
    for (int i = 0; i < count; i++) {
        struct cluster_worker *w = &load->worker[i];
        w->number = i;
        w->timeout_ms = timeout_ms;
        snprintf(w->channel, sizeof(w->channel), "%s", channel);
        for (int j = 0; j < CLUSTER_LOAD_TAGS;) {
            snprintf(w->tags[j], sizeof(w->tags[j]), "w%u", word++);
            bool *mine = &used[redis_cluster_slot(w->tags[j])];
            j += !*mine;
            *mine = true;
        }
    }
    for (int i = 0; i < count; i++)
        load->worker[i].pid = support_fork(work, &load->worker[i]);
}

unsigned cluster_load_slot(const struct cluster_load *load, uint64_t *state)
{
    uint64_t dice = diff_random(state);
    const struct cluster_worker *w =
        &load->worker[dice % (unsigned)load->count];
    return redis_cluster_slot(w->tags[(dice >> 32) % CLUSTER_LOAD_TAGS]);
}

long cluster_load_commands(const struct cluster_load *load)
{
    long sum = 0;
    for (int i = 0; i < load->count; i++)
        sum += load->worker[i].commands;
    return sum;
}

uint64_t cluster_load_longest_ns(const struct cluster_load *load)
{
    uint64_t longest = 0;
    for (int i = 0; i < load->count; i++)
        if (load->worker[i].longest_ns > longest)
            longest = load->worker[i].longest_ns;
    return longest;
}

const char *cluster_load_wrong(const struct cluster_load *load)
{
    for (int i = 0; i < load->count; i++)
        if (load->worker[i].wrong[0] != '\0')
            return load->worker[i].wrong;
    return "";
}

bool cluster_load_goes_on(const struct cluster_load *load)
{
    long before[CLUSTER_LOAD_WORKERS_MAX];
    for (int i = 0; i < load->count; i++)
        before[i] = load->worker[i].commands;
    for (int i = 0; i < load->count; i++)
        if (!UNTIL(load->worker[i].commands > before[i] + 1))
            return false;
    return true;
}

/* That the list holds 1, 2, 3... and ends with `last`. */
static void judge_list(const struct redis_cluster *cluster, const char *tag,
                       long last)
{
    const char *p =
        redis_cluster_ask_owner(cluster, tag, "LRANGE {%s}l 0 -1", tag);
    char *at;
    ck_assert_int_eq(strtol(p + 1, &at, 10), last);
    for (long i = 1; i <= last; i++) {
        at = strchr(at + 3, '\n'); /* behind the length */
        ck_assert_ptr_nonnull(at);
        long n = strtol(at + 1, &at, 10);
        ck_assert_msg(n == i, "list of %s: %ld in place of %ld", tag, n, i);
    }
}

static void judge_text(const struct redis_cluster *cluster, const char *tag,
                       const char *key, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static void judge_text(const struct redis_cluster *cluster, const char *tag,
                       const char *key, const char *fmt, ...)
{
    char text[64], expected[96];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    snprintf(expected, sizeof(expected), "$%zu\r\n%s\r\n", strlen(text), text);
    ck_assert_str_eq(
        redis_cluster_ask_owner(cluster, tag, "GET {%s}%s", tag, key),
        expected);
}

void cluster_load_judge(struct cluster_load *load,
                        const struct redis_cluster *cluster)
{
    for (int i = 0; i < load->count; i++)
        load->worker[i].enough = true;
    for (int i = 0; i < load->count; i++) {
        struct cluster_worker *w = &load->worker[i];
        ck_assert_int_eq(support_join(w->pid), 0);
        ck_assert_msg(w->wrong[0] == '\0', "worker %d: %s", i, w->wrong);
        ck_assert_int_gt(w->steps, 0);
        for (int j = 0; j < CLUSTER_LOAD_TAGS; j++) {
            judge_list(cluster, w->tags[j], w->steps);
            judge_text(cluster, w->tags[j], "n", "%ld", w->steps);
            judge_text(cluster, w->tags[j], "v", "w%d-%ld", w->number,
                       w->steps);
        }
    }
}
