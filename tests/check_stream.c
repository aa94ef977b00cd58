/* Streams of the library, against real programs. */
#include <check.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/e2e.h"
#include "tests/pubsub_client.h"
#include "tests/support.h"
#include "tests/support_run.h"
#include "workers/mqredis.h"

static struct e2e_redis redis;
static struct e2e_manager manager;
static struct redis_link publisher;
static struct mqredis *mq;
static struct mqredis_event ev;
static struct mqredis_error why;

static void begin(int kind, const char *options)
{
    e2e_start(&redis, &manager, kind, options);
    redis_link_open(&publisher, &redis.at);
    mq = mqredis_open(manager.channel, &why);
    ck_assert_msg(mq != NULL, "%s", why.text);
}

static long long numsub(const char *channel)
{
    char command[128];
    snprintf(command, sizeof(command), "PUBSUB NUMSUB %s", channel);
    const char *at = strrchr(e2e_redis_ask(&redis, command), ':');
    ck_assert_ptr_nonnull(at);
    return atoll(at + 1);
}

static void expect(struct mqredis_stream *s, enum mqredis_event_type type)
{
    ck_assert_msg(mqredis_stream_next(s, support_wait_ms(), &ev),
                  "waited for event %d: none", (int)type);
    ck_assert_msg(ev.type == type, "waited for event %d: %d (%.*s)", (int)type,
                  (int)ev.type, (int)ev.len, ev.data != NULL ? ev.data : "");
}

static void expect_message(struct mqredis_stream *s, const char *channel,
                           const char *data)
{
    expect(s, MQREDIS_MESSAGE);
    ck_assert_uint_eq(ev.len, strlen(data));
    ck_assert_mem_eq(ev.data, data, ev.len);
    ck_assert_uint_eq(ev.channel_len, strlen(channel));
    ck_assert_mem_eq(ev.channel, channel, ev.channel_len);
}

static struct mqredis_stream *subscribe(size_t count,
                                        const char *const *channels)
{
    struct mqredis_stream *s =
        mqredis_subscribe(mq, count, channels, NULL, &why);
    ck_assert_msg(s != NULL, "%s", why.text);
    expect(s, MQREDIS_SUBSCRIBED);
    ck_assert_uint_eq(ev.count, count);
    return s;
}

static const char *const news[] = {"news"};

/* ---- the library ---- */

START_TEST(test_channels_and_patterns)
{
    static const char *const two[] = {"one", "two"};
    static const char *const pattern[] = {"t*"};
    begin(_i, NULL);
    struct mqredis_stream *s = subscribe(2, two);
    struct mqredis_stream *p = mqredis_psubscribe(mq, 1, pattern, NULL, &why);
    ck_assert_msg(p != NULL, "%s", why.text);
    expect(p, MQREDIS_SUBSCRIBED);
    ck_assert(!mqredis_stream_next(s, 0, &ev));
    redis_link_ask(&publisher, "PUBLISH two hello");
    expect_message(s, "two", "hello");
    ck_assert_ptr_null(ev.pattern);
    expect_message(p, "two", "hello");
    ck_assert_uint_eq(ev.pattern_len, 2);
    ck_assert_mem_eq(ev.pattern, "t*", 2);
    ck_assert(!mqredis_stream_next(p, 20, &ev));
    /* Commands go on beside it. */
    struct mqredis_reply *r = mqredis_command(mq, "PUBLISH one x");
    ck_assert_int_eq(r->integer, 1);
    mqredis_free(r);
    expect_message(s, "one", "x");
    mqredis_stream_close(p);
    ck_assert_int_eq(numsub("one"), 1);
    mqredis_close(mq); /* takes the other one with it */
    ck_assert(UNTIL(numsub("one") == 0));
}
END_TEST

/* More names than the manager's first table has places; some are left again. */
START_TEST(test_hundreds_of_names)
{
    enum { STREAMS = 20, EACH = 15 };
    static char name[STREAMS][EACH][32];
    struct mqredis_stream *s[STREAMS];
    begin(_i, NULL);
    for (int i = 0; i < STREAMS; i++) {
        const char *list[EACH];
        for (int j = 0; j < EACH; j++) {
            snprintf(name[i][j], sizeof(name[i][j]), "name-%d-%d", i, j);
            list[j] = name[i][j];
        }
        s[i] = subscribe(EACH, list);
    }
    for (int i = 0; i < STREAMS; i += 2)
        mqredis_stream_close(s[i]);
    for (int i = 0; i < STREAMS; i++) {
        for (int j = 0; j < EACH; j += 7) {
            char command[64];
            ck_assert(UNTIL(numsub(name[i][j]) == i % 2));
            snprintf(command, sizeof(command), "PUBLISH %s %s", name[i][j],
                     name[i][j]);
            redis_link_ask(&publisher, command);
            if (i % 2)
                expect_message(s[i], name[i][j], name[i][j]);
        }
    }
    mqredis_close(mq);
}
END_TEST

START_TEST(test_a_descriptor_to_wait_on)
{
    begin(_i, NULL);
    struct mqredis_stream *s = subscribe(1, news);
    struct pollfd p = {.fd = mqredis_stream_fd(s), .events = POLLIN};
    ck_assert(!mqredis_stream_next(s, 0, &ev));
    ck_assert_int_eq(poll(&p, 1, 20), 0);
    redis_link_ask(&publisher, "PUBLISH news hello");
    ck_assert_int_eq(poll(&p, 1, (int)support_wait_ms()), 1);
    expect_message(s, "news", "hello");
    ck_assert(!mqredis_stream_next(s, 0, &ev));
    ck_assert_int_eq(poll(&p, 1, 20), 0);
    mqredis_close(mq);
}
END_TEST

START_TEST(test_one_that_does_not_read_is_told_how_many_it_missed)
{
    unsigned long got = 0, lagged = 0, messages = 5000;
    begin(_i, "--subscriber-backlog 100");
    struct mqredis_stream *s = subscribe(1, news);
    publish(&publisher, "news", 0, messages, 16);
    ck_assert(
        UNTIL(e2e_counter(&manager, COUNTER_pubsub_messages) == messages));
    while (got + lagged < messages) {
        ck_assert(mqredis_stream_next(s, support_wait_ms(), &ev));
        if (ev.type == MQREDIS_LAGGED) {
            lagged += ev.count;
            continue;
        }
        ck_assert_int_eq(ev.type, MQREDIS_MESSAGE);
        ck_assert_uint_eq(strtoul(ev.data, NULL, 10), got + lagged);
        got++;
    }
    ck_assert_uint_eq(lagged, e2e_counter(&manager, COUNTER_pubsub_lagged));
    ck_assert_uint_gt(lagged, 0);
    mqredis_close(mq);
}
END_TEST

START_TEST(test_long_messages)
{
    begin(_i, NULL);
    struct mqredis_stream *s = subscribe(1, news);
    for (size_t size = 10; size < 4000000; size *= 9) {
        publish(&publisher, "news", size, 1, size);
        expect(s, MQREDIS_MESSAGE);
        ck_assert_uint_eq(ev.len, size);
        ck_assert_uint_eq(strtoul(ev.data, NULL, 10), size);
    }
    mqredis_close(mq);
}
END_TEST

START_TEST(test_refusals)
{
    char names[40][32];
    const char *many[40];
    begin(_i, "--max-subscribers 1 --msgsize 512");
    ck_assert_ptr_null(mqredis_subscribe(mq, 0, NULL, NULL, &why));
    ck_assert_int_eq(why.status, MQREDIS_INVALID);
    for (size_t i = 0; i < 40; i++) {
        snprintf(names[i], sizeof(names[i]), "a-rather-long-name-%zu", i);
        many[i] = names[i];
    }
    ck_assert_ptr_null(mqredis_subscribe(mq, 40, many, NULL, &why));
    ck_assert_int_eq(why.status, MQREDIS_TOO_BIG);
    struct mqredis_stream *s = subscribe(1, news);
    ck_assert_ptr_null(mqredis_subscribe(mq, 1, news, NULL, &why));
    ck_assert_int_eq(why.status, MQREDIS_UNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(why.text, "--max-subscribers"));
    ck_assert_int_eq(mqredis_stream_renew(s, 0, &why), MQREDIS_INVALID);
    /* A call that takes one reply can't subscribe. */
    struct mqredis_reply *r = mqredis_command(mq, "PSUBSCRIBE n*");
    ck_assert_int_eq(r->status, MQREDIS_INVALID);
    ck_assert_ptr_nonnull(strstr(r->str, "mqredis-worker psubscribe"));
    mqredis_free(r);
    mqredis_stream_close(s);
    mqredis_stream_close(NULL);
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
    ck_assert_ptr_null(mqredis_subscribe(mq, 1, news, NULL, NULL));
    mqredis_close(mq);
}
END_TEST

START_TEST(test_out_of_time_before_the_confirmation)
{
    begin(_i, NULL);
    kill(redis.at.pid, SIGSTOP);
    mqredis_set_timeout(mq, 200);
    ck_assert_ptr_null(mqredis_subscribe(mq, 1, news, NULL, &why));
    ck_assert_int_eq(why.status, MQREDIS_EXPIRED);
    kill(redis.at.pid, SIGCONT);
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_subscribers) == 0));
    mqredis_close(mq);
}
END_TEST

START_TEST(test_going_on_after_a_takeover)
{
    struct e2e_manager next;
    begin(_i, NULL);
    struct mqredis_stream *s = subscribe(1, news);
    e2e_manager_start(&next, manager.channel, e2e_uri(&redis), "--takeover");
    expect(s, MQREDIS_END);
    ck_assert_int_eq(ev.status, MQREDIS_UNAVAILABLE);
    expect(s, MQREDIS_END); /* it stays that */
    ck_assert_int_eq(mqredis_stream_renew(s, support_wait_ms(), &why),
                     MQREDIS_OK);
    expect(s, MQREDIS_GAP);
    redis_link_ask(&publisher, "PUBLISH news hello");
    expect_message(s, "news", "hello");
    mqredis_close(mq);
}
END_TEST

START_TEST(test_going_on_after_a_kill)
{
    struct e2e_manager next;
    begin(_i, NULL);
    struct mqredis_stream *s = subscribe(1, news);
    e2e_manager_kill(&manager);
    expect(s, MQREDIS_END);
    ck_assert_int_eq(ev.status, MQREDIS_UNAVAILABLE);
    ck_assert(e2e_guardian_gone(&manager));
    ck_assert_int_eq(mqredis_stream_renew(s, 100, &why), MQREDIS_UNAVAILABLE);
    expect(s, MQREDIS_END);
    e2e_manager_start(&next, manager.channel, e2e_uri(&redis), NULL);
    ck_assert_int_eq(mqredis_stream_renew(s, support_wait_ms(), &why),
                     MQREDIS_OK);
    expect(s, MQREDIS_GAP);
    ck_assert_uint_ge(ev.count, 100);
    redis_link_ask(&publisher, "PUBLISH news hello");
    expect_message(s, "news", "hello");
    mqredis_close(mq);
}
END_TEST

START_TEST(test_a_gap_of_redis)
{
    begin(_i, "--reconnect-max 200");
    struct mqredis_stream *s = subscribe(1, news);
    e2e_redis_kill(&redis);
    e2e_redis_restart(&redis);
    expect(s, MQREDIS_GAP);
    redis_link_close(&publisher);
    redis_link_open(&publisher, &redis.at);
    redis_link_ask(&publisher, "PUBLISH news hello");
    expect_message(s, "news", "hello");
    mqredis_close(mq);
}
END_TEST

/* ---- fork ---- */

struct family {
    char channel[48];
    _Atomic int ready, go;
};

/* Subscribes, forks a child that lives on, and waits to be killed. */
static void be_parent(void *arg)
{
    struct family *f = arg;
    struct mqredis *own = mqredis_open(f->channel, NULL);
    CHILD_REQUIRE(own != NULL);
    struct mqredis_stream *s = mqredis_subscribe(own, 1, news, NULL, NULL);
    CHILD_REQUIRE(s != NULL);
    pid_t pid = fork();
    if (pid == 0) {
        struct mqredis_event e;
        bool given = mqredis_stream_next(s, 0, &e);
        CHILD_REQUIRE(given && e.type == MQREDIS_END &&
                      e.status == MQREDIS_INVALID);
        CHILD_REQUIRE(mqredis_stream_renew(s, 0, NULL) == MQREDIS_INVALID);
        mqredis_stream_close(s);
        s = mqredis_subscribe(own, 1, (const char *const[]){"other"}, NULL,
                              NULL);
        CHILD_REQUIRE(s != NULL);
        f->ready = 1;
        while (!f->go)
            support_sleep_ms(2);
        mqredis_stream_close(s);
        mqredis_close(own);
        _exit(0);
    }
    CHILD_REQUIRE(pid > 0);
    for (;;)
        pause();
}

START_TEST(test_a_child_does_not_keep_its_parents_stream)
{
    begin(_i, NULL);
    struct family *f = support_shared(sizeof(*f));
    snprintf(f->channel, sizeof(f->channel), "%s", manager.channel);
    pid_t parent = support_fork(be_parent, f);
    ck_assert(UNTIL(f->ready));
    ck_assert_int_eq(numsub("news"), 1);
    ck_assert_int_eq(numsub("other"), 1);
    support_kill(parent);
    ck_assert(UNTIL(numsub("news") == 0));
    ck_assert_int_eq(numsub("other"), 1);
    f->go = 1;
    ck_assert(UNTIL(numsub("other") == 0));
    mqredis_close(mq);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("stream");
    TCase *t = support_case(s, "library", 60);
    tcase_add_checked_fixture(t, NULL, e2e_stop_all);
    e2e_add(t, test_channels_and_patterns);
    e2e_add(t, test_hundreds_of_names);
    e2e_add(t, test_a_descriptor_to_wait_on);
    e2e_add(t, test_one_that_does_not_read_is_told_how_many_it_missed);
    e2e_add(t, test_long_messages);
    e2e_add(t, test_refusals);
    e2e_add(t, test_out_of_time_before_the_confirmation);
    e2e_add(t, test_going_on_after_a_takeover);
    e2e_add(t, test_going_on_after_a_kill);
    e2e_add(t, test_a_gap_of_redis);
    e2e_add(t, test_a_child_does_not_keep_its_parents_stream);
    return support_run(s);
}
