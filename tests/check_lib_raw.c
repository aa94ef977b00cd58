/* What the library has for those who pass on what others wrote: encoded
 * commands, views of answers, streams that nobody waits for. */
#include <check.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/e2e.h"
#include "tests/support.h"
#include "tests/support_run.h"
#include "workers/mqredis.h"

static struct mqredis *open_handle(const struct e2e_manager *m)
{
    struct mqredis_error why;
    struct mqredis *mq = mqredis_open(m->channel, &why);
    ck_assert_msg(mq != NULL, "%s", why.text);
    return mq;
}

static const char incr[] = "*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n";
#define INCR_LEN (sizeof(incr) - 1)

static struct mqredis_request *submit(struct mqredis *mq, const char *text,
                                      size_t count, unsigned flags)
{
    struct mqredis_request *q =
        mqredis_submit_raw(mq, text, strlen(text), count, flags);
    ck_assert_ptr_nonnull(q);
    return q;
}

/* The bytes of one answer. */
static void expect(const struct mqredis_request *q, size_t index,
                   const char *bytes)
{
    struct mqredis_raw raw;
    ck_assert(mqredis_answer(q, index, &raw));
    ck_assert_int_eq(raw.status, MQREDIS_OK);
    ck_assert_uint_eq(raw.len, strlen(bytes));
    ck_assert(memcmp(raw.data, bytes, raw.len) == 0);
}

START_TEST(test_encoded_commands_are_answered_one_by_one)
{
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    struct mqredis *mq = open_handle(&m);
    struct mqredis_raw raw;
    uint64_t before = e2e_counter(&m, COUNTER_messages);
    struct mqredis_request *a =
        submit(mq,
               "*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n*2\r\n$3\r\nGET\r\n$1\r\nn\r\n"
               "*1\r\n$7\r\nMONITOR\r\n",
               3, 0);
    struct mqredis_request *b = submit(mq, incr, 1, 0);
    struct mqredis_request *c = mqredis_submit(mq, "GET %s", "n");
    ck_assert(!mqredis_answer(a, 0, &raw));
    ck_assert(mqredis_wait_done(c, 10000));
    ck_assert(mqredis_wait_done(a, 10000) && mqredis_wait_done(b, 10000));
    expect(a, 0, ":1\r\n");
    expect(a, 1, "$1\r\n1\r\n");
    /* One that is refused is that one's matter. */
    ck_assert(mqredis_answer(a, 2, &raw));
    ck_assert_int_eq(raw.status, MQREDIS_INVALID);
    ck_assert_uint_gt(raw.len, 10);
    ck_assert(!mqredis_answer(a, 3, &raw));
    expect(b, 0, ":2\r\n");
    expect(c, 0, "$1\r\n2\r\n");
    /* All of it was one message. */
    ck_assert_uint_eq(e2e_counter(&m, COUNTER_messages) - before, 1);
    struct mqredis_reply *reply = mqredis_wait(a);
    ck_assert_int_eq(reply->type, MQREDIS_BATCH);
    ck_assert_uint_eq(reply->elements, 3);
    ck_assert_int_eq(reply->element[0]->integer, 1);
    mqredis_free(reply);
    mqredis_cancel(b);
    mqredis_cancel(c);
    mqredis_close(mq);
}
END_TEST

START_TEST(test_what_is_not_canonical_is_refused_alone)
{
    static const struct {
        const char *text;
        size_t count;
    } cases[] = {
        {"", 0},
        {"", 1},
        {"PING\r\n", 1},
        {"*1\r\n$4\r\nPING\r\n", 2},
        {"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n", 1},
        {"*1\r\n$4\r\nPING", 1},
        {"*01\r\n$4\r\nPING\r\n", 1},
        {"*0\r\n", 1},
        {"*2\r\n$4\r\nECHO\r\n@5\r\n", 1},
    };
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    struct mqredis *mq = open_handle(&m);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mqredis_request *good = submit(mq, incr, 1, 0);
        struct mqredis_request *bad =
            submit(mq, cases[i].text, cases[i].count, 0);
        struct mqredis_raw raw;
        ck_assert(mqredis_wait_done(bad, 10000));
        ck_assert(mqredis_answer(bad, 0, &raw));
        ck_assert_int_eq(raw.status, MQREDIS_INVALID);
        mqredis_cancel(bad);
        struct mqredis_reply *reply = mqredis_wait(good);
        ck_assert_int_eq(reply->integer, (int64_t)i + 1);
        mqredis_free(reply);
    }
    mqredis_close(mq);
}
END_TEST

START_TEST(test_a_raw_batch_is_a_transaction)
{
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    struct mqredis *mq = open_handle(&m);
    struct mqredis_request *q =
        submit(mq,
               "*1\r\n$5\r\nMULTI\r\n*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n"
               "*1\r\n$4\r\nEXEC\r\n",
               3, MQREDIS_RAW_BATCH);
    ck_assert(mqredis_wait_done(q, 10000));
    expect(q, 0, "+OK\r\n");
    expect(q, 1, "+QUEUED\r\n");
    expect(q, 2, "*1\r\n:1\r\n");
    mqredis_cancel(q);
    /* Without the flag they do not belong together, and MULTI is refused. */
    q = submit(mq, "*1\r\n$5\r\nMULTI\r\n*1\r\n$4\r\nEXEC\r\n", 2, 0);
    struct mqredis_raw raw;
    ck_assert(mqredis_wait_done(q, 10000));
    ck_assert(mqredis_answer(q, 0, &raw));
    ck_assert_int_eq(raw.status, MQREDIS_INVALID);
    mqredis_cancel(q);
    mqredis_close(mq);
}
END_TEST

/* Long ones, by the payload file; and more than one message's worth. */
START_TEST(test_long_raw_commands)
{
    enum { SIZE = 200000, COUNT = 100 };
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    struct mqredis *mq = open_handle(&m);
    char *text = malloc(SIZE + 100);
    ck_assert_ptr_nonnull(text);
    int n = sprintf(text, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n", SIZE);
    memset(text + n, 'v', SIZE);
    memcpy(text + n + SIZE, "\r\n", 2);
    struct mqredis_request *q =
        mqredis_submit_raw(mq, text, (size_t)n + SIZE + 2, 1, 0);
    ck_assert(mqredis_wait_done(q, 10000));
    expect(q, 0, "+OK\r\n");
    mqredis_cancel(q);
    ck_assert_int_eq(e2e_redis_integer(&r, "STRLEN k"), SIZE);
    for (size_t i = 0; i < COUNT; i++)
        memcpy(text + i * INCR_LEN, incr, INCR_LEN);
    q = mqredis_submit_raw(mq, text, COUNT * INCR_LEN, COUNT, 0);
    ck_assert(mqredis_wait_done(q, 10000));
    expect(q, COUNT - 1, ":100\r\n");
    mqredis_cancel(q);
    free(text);
    mqredis_close(mq);
}
END_TEST

/* Cancelling a command that blocks reaches the manager, though another was
 * submitted in the same moment. */
START_TEST(test_commands_alone_can_be_given_up_alone)
{
    static const char blpop[] =
        "*3\r\n$5\r\nBLPOP\r\n$4\r\nlist\r\n$1\r\n0\r\n";
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    struct mqredis *mq = open_handle(&m);
    mqredis_set_timeout(mq, -1);
    struct mqredis_request *a = submit(mq, blpop, 1, MQREDIS_RAW_ALONE);
    struct mqredis_request *b = submit(mq, blpop, 1, MQREDIS_RAW_ALONE);
    mqredis_flush(mq);
    ck_assert(UNTIL(e2e_gauge(&m, GAUGE_inflight) == 2));
    mqredis_cancel(a);
    ck_assert(UNTIL(e2e_gauge(&m, GAUGE_inflight) == 1));
    e2e_redis_ask(&r, "RPUSH list x");
    ck_assert(mqredis_wait_done(b, 10000));
    expect(b, 0, "*2\r\n$4\r\nlist\r\n$1\r\nx\r\n");
    mqredis_cancel(b);
    mqredis_close(mq);
}
END_TEST

/* A caller with a poll loop sees that the channel is full. */
START_TEST(test_unsent_messages_are_told)
{
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    struct mqredis *mq = open_handle(&m);
    ck_assert_int_ge(mqredis_fd(mq), 0);
    mqredis_set_timeout(mq, -1);
    kill(m.pid, SIGSTOP);
    size_t count = 0;
    static struct mqredis_request *q[200];
    for (; count < 200; count++) {
        q[count] = submit(mq, incr, 1, MQREDIS_RAW_ALONE);
        mqredis_flush(mq);
    }
    size_t unsent = mqredis_unsent(mq);
    ck_assert_uint_gt(unsent, 0);
    ck_assert_uint_lt(unsent, count);
    kill(m.pid, SIGCONT);
    for (size_t i = 0; i < count; i++) {
        struct mqredis_reply *reply = mqredis_wait(q[i]);
        ck_assert_int_eq(reply->integer, (int64_t)i + 1);
        mqredis_free(reply);
    }
    ck_assert_uint_eq(mqredis_unsent(mq), 0);
    mqredis_close(mq);
}
END_TEST

/* Without a wider window, the 65th that blocks would wait unsent. */
START_TEST(test_the_window_can_be_wider)
{
    enum { COUNT = 80 };
    static const char blpop[] =
        "*3\r\n$5\r\nBLPOP\r\n$4\r\nlist\r\n$1\r\n0\r\n";
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, "--dedicated-connections 100");
    struct mqredis *mq = open_handle(&m);
    mqredis_set_timeout(mq, -1);
    mqredis_set_window(mq, 100);
    for (int i = 0; i < COUNT; i++) {
        submit(mq, blpop, 1, MQREDIS_RAW_ALONE);
        mqredis_flush(mq);
    }
    ck_assert(UNTIL(e2e_gauge(&m, GAUGE_inflight) == COUNT));
    mqredis_close(mq);
}
END_TEST

START_TEST(test_info_tells_protocol_and_database)
{
    struct e2e_redis r;
    struct e2e_manager m;
    struct mqredis_info info;
    char uri[200];
    e2e_redis_start(&r, E2E_REDIS);
    snprintf(uri, sizeof(uri), "%s?db=3", e2e_uri(&r));
    e2e_manager_start(&m, NULL, uri, "--resp 3");
    struct mqredis *mq = open_handle(&m);
    ck_assert_int_eq(mqredis_info(mq, &info, NULL), MQREDIS_OK);
    ck_assert_int_eq(info.resp, 3);
    ck_assert_uint_eq(info.db, 3);
    mqredis_close(mq);
}
END_TEST

/* ---- streams that nobody waits for ---- */

/* The next event, waited for by its descriptor. */
static struct mqredis_event next(struct mqredis_stream *s)
{
    struct mqredis_event ev = {.count = 0};
    bool came = false;
    for (int i = 0; !came && i < 1000; i++) {
        struct pollfd p = {.fd = mqredis_stream_fd(s), .events = POLLIN};
        came = mqredis_stream_next(s, 0, &ev);
        if (!came)
            poll(&p, 1, 10);
    }
    ck_assert_msg(came, "no event came");
    return ev;
}

START_TEST(test_a_stream_without_waiting)
{
    static const char *const names[] = {"a", "b"};
    struct e2e_redis r;
    struct e2e_manager m;
    struct mqredis_error why;
    e2e_start(&r, &m, _i, NULL);
    struct mqredis *mq = open_handle(&m);
    struct mqredis_stream *s =
        mqredis_stream_open(mq, MQREDIS_TOPIC_CHANNEL, 2, names, NULL, &why);
    ck_assert_msg(s != NULL, "%s", why.text);
    struct mqredis_event ev = next(s);
    ck_assert_int_eq(ev.type, MQREDIS_SUBSCRIBED);
    ck_assert_uint_eq(ev.count, 2);
    e2e_redis_ask(&r, "PUBLISH b hello");
    ev = next(s);
    ck_assert_int_eq(ev.type, MQREDIS_MESSAGE);
    ck_assert_uint_eq(ev.len, 5);
    mqredis_stream_close(s);
    const char *pattern = "n*";
    s = mqredis_stream_open(mq, MQREDIS_TOPIC_PATTERN, 1, &pattern, NULL, &why);
    ck_assert_int_eq(next(s).type, MQREDIS_SUBSCRIBED);
    e2e_redis_ask(&r, "PUBLISH news x");
    ev = next(s);
    ck_assert_uint_eq(ev.pattern_len, 2);
    mqredis_close(mq);
}
END_TEST

START_TEST(test_a_stream_waits_for_a_place_in_the_queue)
{
    const char *name = "a";
    struct e2e_redis r;
    struct e2e_manager m;
    struct mqredis_error why;
    struct mqredis_event ev;
    e2e_start(&r, &m, _i, "--capacity 2");
    struct mqredis *mq = open_handle(&m);
    ck_assert_int_ge(mqredis_fd(mq), 0);
    kill(m.pid, SIGSTOP);
    for (int i = 0; i < 10; i++) {
        submit(mq, incr, 1, MQREDIS_RAW_ALONE);
        mqredis_flush(mq);
    }
    ck_assert_uint_gt(mqredis_unsent(mq), 0);
    struct mqredis_stream *s =
        mqredis_stream_open(mq, MQREDIS_TOPIC_CHANNEL, 1, &name, NULL, &why);
    ck_assert_msg(s != NULL, "%s", why.text);
    for (int i = 0; i < 5; i++)
        ck_assert(!mqredis_stream_next(s, 0, &ev));
    kill(m.pid, SIGCONT);
    ck_assert_int_eq(next(s).type, MQREDIS_SUBSCRIBED);
    /* Given up while unsent, or unconfirmed when its time is over. */
    kill(m.pid, SIGSTOP);
    for (int i = 0; i < 10; i++) {
        submit(mq, incr, 1, MQREDIS_RAW_ALONE);
        mqredis_flush(mq);
    }
    const char *other = "b";
    mqredis_set_timeout(mq, 50);
    struct mqredis_stream *late =
        mqredis_stream_open(mq, MQREDIS_TOPIC_CHANNEL, 1, &other, NULL, &why);
    ck_assert_ptr_nonnull(late);
    ev = next(late);
    ck_assert_int_eq(ev.type, MQREDIS_END);
    ck_assert_int_eq(ev.status, MQREDIS_EXPIRED);
    mqredis_stream_close(late);
    kill(m.pid, SIGCONT);
    mqredis_close(mq);
}
END_TEST

START_TEST(test_a_stream_that_is_refused_or_has_no_manager)
{
    const char *name = "a";
    struct e2e_redis r;
    struct e2e_manager m;
    struct mqredis_error why;
    e2e_start(&r, &m, _i, "--max-subscribers 0");
    struct mqredis *mq = open_handle(&m);
    struct mqredis_stream *s =
        mqredis_stream_open(mq, MQREDIS_TOPIC_CHANNEL, 1, &name, NULL, &why);
    ck_assert_ptr_nonnull(s);
    struct mqredis_event ev = next(s);
    ck_assert_int_eq(ev.type, MQREDIS_END);
    ck_assert_int_eq(ev.status, MQREDIS_UNAVAILABLE);
    mqredis_stream_close(s);
    ck_assert_int_eq(e2e_manager_stop(&m), 0);
    s = mqredis_stream_open(mq, MQREDIS_TOPIC_CHANNEL, 1, &name, NULL, &why);
    ck_assert_ptr_null(s);
    ck_assert_int_eq(why.status, MQREDIS_UNAVAILABLE);
    mqredis_close(mq);
}
END_TEST

/* Looks until the descriptor has nothing to tell; false: it always has. */
static bool falls_silent(struct mqredis *mq, struct pollfd *p)
{
    for (int i = 0; i < 10; i++) {
        ck_assert_ptr_null(mqredis_wait_any(mq, 0));
        if (poll(p, 1, 0) == 0)
            return true;
    }
    return false;
}

/* Its pipe has served a request before, and is readable as long as the stream
 * is not read; later its manager is one that was left. */
START_TEST(test_a_stream_is_no_matter_of_the_handle)
{
    const char *name = "a";
    struct e2e_redis r;
    struct e2e_manager m, next_one;
    struct mqredis_error why;
    e2e_start(&r, &m, _i, NULL);
    struct mqredis *mq = open_handle(&m);
    struct pollfd p = {.fd = mqredis_fd(mq), .events = POLLIN};
    struct mqredis_request *q = submit(mq, incr, 1, 0);
    ck_assert(mqredis_wait_done(q, support_wait_ms()));
    mqredis_cancel(q);
    struct mqredis_stream *s =
        mqredis_stream_open(mq, MQREDIS_TOPIC_CHANNEL, 1, &name, NULL, &why);
    ck_assert_msg(s != NULL, "%s", why.text);
    ck_assert_int_eq(next(s).type, MQREDIS_SUBSCRIBED);
    ck_assert_str_eq(e2e_redis_ask(&r, "PUBLISH a hello"), ":1\r\n");
    struct pollfd stream = {.fd = mqredis_stream_fd(s), .events = POLLIN};
    ck_assert_int_eq(poll(&stream, 1, (int)support_wait_ms()), 1);
    ck_assert(falls_silent(mq, &p));
    ck_assert_int_eq(next(s).type, MQREDIS_MESSAGE);
    e2e_manager_kill(&m);
    ck_assert(e2e_guardian_gone(&m));
    ck_assert_int_eq(next(s).type, MQREDIS_END);
    e2e_manager_start(&next_one, m.channel, e2e_uri(&r), NULL);
    struct mqredis_reply *reply = mqredis_command(mq, "PING");
    ck_assert_int_eq(reply->type, MQREDIS_STATUS);
    mqredis_free(reply);
    ck_assert(falls_silent(mq, &p));
    mqredis_close(mq);
    ck_assert_int_eq(e2e_manager_stop(&next_one), 0);
}
END_TEST

/* A loop that flushes by itself is woken by answers alone, and by time. */
START_TEST(test_a_loop_that_flushes_by_itself)
{
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    struct mqredis *mq = open_handle(&m);
    struct pollfd p = {.fd = mqredis_fd(mq), .events = POLLIN};
    mqredis_set_manual_flush(mq, true);
    ck_assert_ptr_null(mqredis_wait_any(mq, 0));
    struct mqredis_request *q = submit(mq, incr, 1, 0);
    ck_assert_int_eq(poll(&p, 1, 50), 0);
    ck_assert_int_eq(e2e_redis_integer(&r, "EXISTS n"), 0);
    mqredis_flush(mq);
    ck_assert_int_eq(poll(&p, 1, (int)support_wait_ms()), 1);
    ck_assert_ptr_eq(mqredis_wait_any(mq, 0), q);
    mqredis_cancel(q);
    ck_assert_ptr_null(mqredis_wait_any(mq, 0));
    /* Nobody answers: the descriptor tells when the time is over. */
    mqredis_set_timeout(mq, 100);
    kill(r.at.pid, SIGSTOP);
    q = submit(mq, incr, 1, 0);
    mqredis_flush(mq);
    struct mqredis_request *done = NULL;
    for (int i = 0; done == NULL && i < 10; i++) {
        ck_assert_int_eq(poll(&p, 1, (int)support_wait_ms()), 1);
        done = mqredis_wait_any(mq, 0);
    }
    ck_assert_ptr_eq(done, q);
    mqredis_cancel(q);
    kill(r.at.pid, SIGCONT);
    mqredis_close(mq);
}
END_TEST

static Suite *raw_suite(void)
{
    Suite *s = suite_create("lib_raw");
    TCase *t = support_case(s, "raw", 60);
    tcase_add_checked_fixture(t, NULL, e2e_stop_all);
    e2e_add(t, test_encoded_commands_are_answered_one_by_one);
    e2e_add(t, test_what_is_not_canonical_is_refused_alone);
    e2e_add(t, test_a_raw_batch_is_a_transaction);
    e2e_add(t, test_long_raw_commands);
    e2e_add(t, test_commands_alone_can_be_given_up_alone);
    e2e_add(t, test_unsent_messages_are_told);
    e2e_add(t, test_the_window_can_be_wider);
    tcase_add_test(t, test_info_tells_protocol_and_database);
    e2e_add(t, test_a_loop_that_flushes_by_itself);
    e2e_add(t, test_a_stream_without_waiting);
    e2e_add(t, test_a_stream_is_no_matter_of_the_handle);
    e2e_add(t, test_a_stream_waits_for_a_place_in_the_queue);
    e2e_add(t, test_a_stream_that_is_refused_or_has_no_manager);
    return s;
}

int main(void)
{
    return support_run(raw_suite());
}
