/* Subscriptions, as real processes have them: every message in order to many of
 * them, a stopped one, killed ones, and a Redis that goes away. */
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/pubsub_scene.h"
#include "tests/support.h"
#include "tests/support_run.h"

/* ---- processes that subscribe ---- */

struct listener {
    pid_t pid;
    char channel[48];
    char command[64];
    unsigned long until; /* ends after the message of this number */
    _Atomic int confirmed, done;
    _Atomic unsigned long got, lagged, notices, gaps;
    _Atomic unsigned long wrong; /* numbers that did not follow */
    unsigned long before_lag;    /* messages before the first notice */
};

static void listen_to(void *arg)
{
    struct listener *l = arg;
    struct broadcast_event e;
    unsigned long next = 0;
    CHILD_REQUIRE(sub_open(&sub, l->channel, TIMEOUT_MS, l->command) == ERR_OK);
    CHILD_REQUIRE(sub_expect(&sub, BROADCAST_CONFIRMED, &e));
    l->confirmed = 1;
    while (next <= l->until) {
        enum err got = sub_next(&sub, &e, 3600 * 1000);
        CHILD_REQUIRE(got == ERR_OK);
        CHILD_REQUIRE(e.kind != BROADCAST_END);
        if (e.kind == BROADCAST_LAGGED) {
            if (l->notices++ == 0)
                l->before_lag = l->got;
            l->lagged += e.n;
            next += e.n;
        } else if (e.kind == BROADCAST_GAP) {
            l->gaps++;
        } else {
            if (sub_number(&e) != next)
                l->wrong++;
            next = sub_number(&e) + 1;
            l->got++;
        }
    }
    l->done = 1;
    sub_close(&sub);
}

static struct listener *start_listeners(int count, unsigned long messages,
                                        const char *command)
{
    struct listener *l = support_shared((size_t)count * sizeof(*l));
    for (int i = 0; i < count; i++) {
        snprintf(l[i].channel, sizeof(l[i].channel), "%s", manager.channel);
        snprintf(l[i].command, sizeof(l[i].command), "%s", command);
        l[i].until = messages - 1;
        l[i].pid = support_fork(listen_to, &l[i]);
    }
    for (int i = 0; i < count; i++)
        ck_assert(UNTIL(l[i].confirmed));
    return l;
}

static bool all_got(const struct listener *l, int from, int to,
                    unsigned long count)
{
    for (int i = from; i < to; i++)
        if (l[i].got + l[i].lagged < count)
            return false;
    return true;
}

/* Waits for it as long as something still moves. */
static bool wait_all_got(const struct listener *l, int from, int to,
                         unsigned long count)
{
    unsigned long last = 0, sum;
    do {
        if (UNTIL(all_got(l, from, to, count)))
            return true;
        sum = last;
        last = 0;
        for (int i = from; i < to; i++)
            last += l[i].got;
    } while (last != sum);
    return false;
}

START_TEST(test_every_subscriber_gets_every_message_in_order)
{
    int n = e2e_long() ? 50 : 8;
    unsigned long messages = e2e_long() ? 100000 : 10000;
    begin(_i, "--subscriber-backlog 200000 --subscriber-backlog-bytes 64m");
    struct listener *l = start_listeners(n, messages, "SUBSCRIBE news");
    ck_assert_int_eq(numsub("news"), 1);
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_subscribers) == (uint64_t)n));
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_topics) == 1));
    uint64_t start = clock_ns();
    publish(&publisher, "news", 0, messages, 16);
    uint64_t published = clock_ns();
    ck_assert(wait_all_got(l, 0, n, messages));
    uint64_t end = clock_ns();
    for (int i = 0; i < n; i++) {
        ck_assert_int_eq(support_join(l[i].pid), 0);
        ck_assert_uint_eq(l[i].got, messages);
        ck_assert_uint_eq(l[i].wrong, 0);
        ck_assert_uint_eq(l[i].lagged, 0);
    }
    e2e_figure(_i,
               "%d subscribers, %lu messages: published in %.2f s, all "
               "delivered after %.2f s (%.0f deliveries/s)",
               n, messages, (double)(published - start) / 1e9,
               (double)(end - start) / 1e9,
               (double)n * (double)messages / ((double)(end - start) / 1e9));
    ck_assert(UNTIL(numsub("news") == 0));
    ck_assert(UNTIL(e2e_balanced(&manager)));
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_pubsub_delivered),
                      (uint64_t)n * messages);
}
END_TEST

/* ---- one that is stopped ---- */

struct latency {
    double p50_us, p99_us;
};

static int by_size(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

#define ASKS 500

static struct latency measure(struct e2e_client *c)
{
    static uint64_t took[ASKS];
    for (int i = 0; i < ASKS; i++) {
        uint64_t start = clock_ns();
        ck_assert_int_eq(e2e_ask(c, &call, TIMEOUT_MS, "GET some"), E2E_OK);
        took[i] = clock_ns() - start;
    }
    qsort(took, ASKS, sizeof(took[0]), by_size);
    return (struct latency){(double)took[ASKS / 2] / 1e3,
                            (double)took[ASKS * 99 / 100] / 1e3};
}

/* Publishes no faster than the listeners [from, to) read, which therefore have
 * no reason to lag. */
static void publish_in_step(const struct listener *l, int from, int to,
                            unsigned long first, unsigned long count,
                            unsigned long bunch, size_t size)
{
    for (unsigned long i = 0; i < count; i += bunch) {
        publish(&publisher, "news", first + i, bunch, size);
        ck_assert(wait_all_got(l, from, to, first + i + bunch));
    }
}

/* One of them is stopped while messages of this size pass. */
static void one_stopped(int kind, const char *options, unsigned long messages,
                        unsigned long bunch, size_t size)
{
    int n = e2e_long() ? 50 : 6;
    begin(kind, options);
    ck_assert_int_eq(e2e_client_open(&client, manager.channel), ERR_OK);
    struct listener *l = start_listeners(n, messages, "SUBSCRIBE news");
    struct latency before = measure(&client);
    support_stop(l[0].pid);
    uint64_t start = clock_ns();
    publish_in_step(l, 1, n, 0, messages, bunch, size);
    uint64_t took = clock_ns() - start;
    struct latency after = measure(&client);
    for (int i = 1; i < n; i++) {
        ck_assert_int_eq(support_join(l[i].pid), 0);
        ck_assert_uint_eq(l[i].got, messages);
        ck_assert_uint_eq(l[i].wrong, 0);
    }
    uint64_t dropped = e2e_counter(&manager, COUNTER_pubsub_lagged);
    ck_assert_uint_gt(dropped, 0);
    kill(l[0].pid, SIGCONT);
    ck_assert(wait_all_got(l, 0, 1, messages));
    ck_assert_int_eq(support_join(l[0].pid), 0);
    /* One word about it, the exact number, and then the newest: no number
     * twice, none missing. */
    ck_assert_uint_eq(l[0].notices, 1);
    ck_assert_uint_eq(l[0].lagged, dropped);
    ck_assert_uint_eq(l[0].got + l[0].lagged, messages);
    ck_assert_uint_eq(l[0].wrong, 0);
    e2e_figure(kind,
               "1 of %d stopped, %lu messages of %zu bytes in %.2f s: it got "
               "%lu, then lagged(%lu), then %lu; GET p50/p99 before %.0f/%.0f "
               "us, after %.0f/%.0f us",
               n, messages, size, (double)took / 1e9, l[0].before_lag,
               (unsigned long)l[0].lagged, l[0].got - l[0].before_lag,
               before.p50_us, before.p99_us, after.p50_us, after.p99_us);
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_subscriber_bytes) == 0));
    e2e_client_close(&client);
}

START_TEST(test_a_stopped_one_is_told_how_many_it_missed)
{
    one_stopped(_i, "--subscriber-backlog 1000", e2e_long() ? 100000 : 5000,
                500, 16);
}
END_TEST

/* A message that is cut in two by the full pipe is finished all the same. */
START_TEST(test_a_stopped_one_gets_long_messages_whole)
{
    one_stopped(_i, "--subscriber-backlog-bytes 256k", 200, 4, 50000);
}
END_TEST

/* Latency of commands while messages pass as fast as they can. */
static struct latency measure_in_flood(struct e2e_client *c,
                                       unsigned long first,
                                       unsigned long messages)
{
    pid_t flood = fork();
    if (flood == 0) {
        struct redis_link link;
        redis_link_open(&link, &redis.at);
        publish(&link, "news", first, messages, 16);
        _exit(0);
    }
    struct latency during = measure(c);
    ck_assert_int_eq(support_join(flood), 0);
    return during;
}

START_TEST(test_commands_go_on_during_a_flood)
{
    unsigned long half = 50000;
    begin(_i, "--subscriber-backlog 1000");
    ck_assert_int_eq(e2e_client_open(&client, manager.channel), ERR_OK);
    struct listener *l = start_listeners(4, 2 * half, "SUBSCRIBE news");
    struct latency all = measure_in_flood(&client, 0, half);
    ck_assert(wait_all_got(l, 0, 4, half));
    kill(l[0].pid, SIGSTOP);
    struct latency stopped = measure_in_flood(&client, half, half);
    kill(l[0].pid, SIGCONT);
    ck_assert(wait_all_got(l, 0, 4, 2 * half));
    unsigned long lagged = 0;
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(support_join(l[i].pid), 0);
        ck_assert_uint_eq(l[i].got + l[i].lagged, 2 * half);
        ck_assert_uint_eq(l[i].wrong, 0);
        lagged += l[i].lagged;
    }
    ck_assert_uint_eq(lagged, e2e_counter(&manager, COUNTER_pubsub_lagged));
    e2e_figure(_i,
               "GET during a flood: p50/p99 %.0f/%.0f us, with one of four "
               "subscribers stopped %.0f/%.0f us",
               all.p50_us, all.p99_us, stopped.p50_us, stopped.p99_us);
    e2e_client_close(&client);
}
END_TEST

/* The bytes of all backlogs together have a bound, too. */
START_TEST(test_all_backlogs_together_are_bounded)
{
    unsigned long messages = 1000;
    begin(_i, "--subscribers-total 65536");
    struct listener *l = start_listeners(3, messages, "SUBSCRIBE news");
    for (int i = 1; i < 3; i++) {
        support_stop(l[i].pid);
    }
    publish_in_step(l, 0, 1, 0, messages, 10, 1000);
    ck_assert_uint_le(e2e_gauge(&manager, GAUGE_subscriber_bytes),
                      65536 + 3 * 2000);
    for (int i = 1; i < 3; i++)
        kill(l[i].pid, SIGCONT);
    ck_assert(wait_all_got(l, 0, 3, messages));
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(support_join(l[i].pid), 0);
        ck_assert_uint_eq(l[i].got + l[i].lagged, messages);
        ck_assert_uint_eq(l[i].wrong, 0);
        ck_assert(i == 0 ? l[i].lagged == 0 : l[i].lagged > 500);
    }
}
END_TEST

/* A message over the bound is not carried, and leaves its mark in its place. */
START_TEST(test_a_message_too_long_leaves_a_mark)
{
    begin(_i, "--subscriber-backlog-bytes 64k");
    subscribe(&sub, "SUBSCRIBE news");
    publish(&publisher, "news", 0, 1, 16);
    publish(&publisher, "news", 1, 2, 70000);
    publish(&publisher, "news", 3, 1, 60000);
    expect_number(&sub, 0);
    unsigned lost = 0;
    while (lost < 2) {
        ck_assert(sub_expect(&sub, BROADCAST_LAGGED, &ev));
        lost += ev.n;
    }
    ck_assert_uint_eq(lost, 2);
    expect_number(&sub, 3);
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_pubsub_lagged), 2);
    sub_close(&sub);
}
END_TEST

/* ---- leaving ---- */

START_TEST(test_killed_subscribers_unsubscribe)
{
    begin(_i, NULL);
    struct listener *l = start_listeners(3, 1000, "SUBSCRIBE news");
    for (int i = 0; i < 2; i++)
        support_kill(l[i].pid);
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_subscribers) == 1));
    ck_assert_int_eq(numsub("news"), 1);
    publish(&publisher, "news", 0, 1, 16);
    ck_assert(UNTIL(l[2].got == 1));
    uint64_t start = clock_ns();
    support_kill(l[2].pid);
    ck_assert(UNTIL(numsub("news") == 0));
    double ms = (double)(clock_ns() - start) / 1e6;
    e2e_figure(_i, "the upstream subscription ended %.1f ms after the kill",
               ms);
    ck_assert(ms < 30000); /* the sweep, which comes every minute, is later */
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_topics) == 0));
    /* Nothing of theirs is left behind. */
    char path[128];
    snprintf(path, sizeof(path), "%s/reply", manager.channel);
    ck_assert(UNTIL(support_count_entries(support_path(path)) == 0));
}
END_TEST

START_TEST(test_a_stopped_one_that_is_killed_unsubscribes)
{
    begin(_i, "--subscriber-backlog 10");
    struct listener *l = start_listeners(1, 100000, "SUBSCRIBE news");
    kill(l[0].pid, SIGSTOP);
    publish(&publisher, "news", 0, 5000, 16);
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_pubsub_lagged) > 0));
    support_kill(l[0].pid);
    ck_assert(UNTIL(numsub("news") == 0));
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_subscriber_bytes) == 0));
}
END_TEST

START_TEST(test_coming_and_going_all_the_time)
{
    begin(_i, NULL);
    for (int i = 0; i < 200; i++) {
        struct sub other;
        subscribe(&sub, "SUBSCRIBE a b");
        subscribe(&other, i % 2 ? "SUBSCRIBE b c" : "PSUBSCRIBE a*");
        publish(&publisher, i % 2 ? "b" : "a", (unsigned long)i, 1, 16);
        expect_number(&sub, (unsigned long)i);
        expect_number(&other, (unsigned long)i);
        sub_close(&sub);
        sub_close(&other);
    }
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_topics) == 0));
    ck_assert(UNTIL(numsub("a") == 0 && numsub("b") == 0));
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_subscribers) == 0));
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_pubsub_gaps), 0);
}
END_TEST

/* One that left before Redis confirmed. */
START_TEST(test_leaving_before_the_confirmation)
{
    begin(_i, NULL);
    kill(redis.at.pid, SIGSTOP);
    ck_assert_int_eq(
        sub_open(&sub, manager.channel, TIMEOUT_MS, "SUBSCRIBE news"), ERR_OK);
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_subscribers) == 1));
    sub_close(&sub);
    kill(redis.at.pid, SIGCONT);
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_subscribers) == 0));
    ck_assert(UNTIL(numsub("news") == 0));
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_topics) == 0));
    ck_assert(UNTIL(e2e_balanced(&manager)));
}
END_TEST

/* ---- what may be asked for ---- */

static void assert_body(const char *text)
{
    ck_assert_msg(ev.len == strlen(text) && memcmp(ev.data, text, ev.len) == 0,
                  "'%.*s' is not '%s'", (int)ev.len, ev.data, text);
}

START_TEST(test_confirmations_and_messages_are_redis_own)
{
    begin(_i, NULL);
    subscribe(&sub, "SUBSCRIBE one two one");
    ck_assert_uint_eq(ev.n, 3);
    assert_body("*3\r\n$9\r\nsubscribe\r\n$3\r\none\r\n:1\r\n"
                "*3\r\n$9\r\nsubscribe\r\n$3\r\ntwo\r\n:2\r\n"
                "*3\r\n$9\r\nsubscribe\r\n$3\r\none\r\n:2\r\n");
    redis_link_ask(&publisher, "PUBLISH two hello");
    redis_link_ask(&publisher, "PUBLISH one there");
    redis_link_ask(&publisher, "PUBLISH three nobody");
    ck_assert(sub_expect(&sub, BROADCAST_MESSAGE, &ev));
    assert_body("*3\r\n$7\r\nmessage\r\n$3\r\ntwo\r\n$5\r\nhello\r\n");
    ck_assert(sub_expect(&sub, BROADCAST_MESSAGE, &ev));
    assert_body("*3\r\n$7\r\nmessage\r\n$3\r\none\r\n$5\r\nthere\r\n");
    struct sub p;
    subscribe(&p, "PSUBSCRIBE t*");
    assert_body("*3\r\n$10\r\npsubscribe\r\n$2\r\nt*\r\n:1\r\n");
    redis_link_ask(&publisher, "PUBLISH two hello");
    ck_assert(sub_expect(&p, BROADCAST_MESSAGE, &ev));
    assert_body("*4\r\n$8\r\npmessage\r\n$2\r\nt*\r\n$3\r\ntwo\r\n$5\r\nhello"
                "\r\n");
    ck_assert(sub_expect(&sub, BROADCAST_MESSAGE, &ev));
    ck_assert_int_eq(sub_next(&sub, &ev, 50), ERR_TIMEOUT);
    sub_close(&p);
    sub_close(&sub);
}
END_TEST

START_TEST(test_resp3)
{
    begin(_i, "--resp 3");
    subscribe(&sub, "SUBSCRIBE one");
    assert_body(">3\r\n$9\r\nsubscribe\r\n$3\r\none\r\n:1\r\n");
    redis_link_ask(&publisher, "PUBLISH one hello");
    ck_assert(sub_expect(&sub, BROADCAST_MESSAGE, &ev));
    assert_body(">3\r\n$7\r\nmessage\r\n$3\r\none\r\n$5\r\nhello\r\n");
    sub_close(&sub);
    ck_assert(UNTIL(numsub("one") == 0));
}
END_TEST

START_TEST(test_shard_channels)
{
    struct sub other;
    begin(E2E_REDIS, NULL);
    subscribe(&sub, "SSUBSCRIBE one two");
    assert_body("*3\r\n$10\r\nssubscribe\r\n$3\r\none\r\n:1\r\n"
                "*3\r\n$10\r\nssubscribe\r\n$3\r\ntwo\r\n:2\r\n");
    /* A channel of the same name is another matter. */
    subscribe(&other, "SUBSCRIBE one");
    redis_link_ask(&publisher, "PUBLISH one 00000001");
    redis_link_ask(&publisher, "SPUBLISH one 00000002");
    expect_number(&other, 1);
    ck_assert(sub_expect(&sub, BROADCAST_MESSAGE, &ev));
    assert_body("*3\r\n$8\r\nsmessage\r\n$3\r\none\r\n"
                "$8\r\n00000002\r\n");
    sub_close(&sub);
    ck_assert(UNTIL(shardnumsub("one") == 0));
    redis_link_ask(&publisher, "PUBLISH one 00000003");
    expect_number(&other, 3);
    sub_close(&other);
}
END_TEST

START_TEST(test_what_is_refused)
{
    static const struct {
        const char *command, *text;
    } table[] = {
        {"UNSUBSCRIBE one", "stream is closed"},
        {"PUNSUBSCRIBE", "stream is closed"},
        {"SUBSCRIBE", "at least one name"},
        {"SUNSUBSCRIBE one", "stream is closed"},
        {"SUBSCRIBE one ; GET x", "alone"},
    };
    begin(_i, NULL);
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        ck_assert_int_eq(
            sub_open(&sub, manager.channel, TIMEOUT_MS, table[i].command),
            ERR_OK);
        expect_end(&sub, REPLY_INVALID, table[i].text);
        sub_close(&sub);
    }
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_subscribers) == 0));
    ck_assert(UNTIL(e2e_balanced(&manager)));
}
END_TEST

START_TEST(test_subscribers_and_names_are_bounded)
{
    struct sub second, third;
    begin(_i, "--max-subscribers 2 --max-subscriptions 4");
    subscribe(&sub, "SUBSCRIBE a b");
    ck_assert_int_eq(
        sub_open(&second, manager.channel, TIMEOUT_MS, "SUBSCRIBE a b c"),
        ERR_OK);
    expect_end(&second, REPLY_UNAVAILABLE, "--max-subscriptions");
    sub_close(&second);
    subscribe(&second, "SUBSCRIBE a b");
    ck_assert_int_eq(
        sub_open(&third, manager.channel, TIMEOUT_MS, "SUBSCRIBE a"), ERR_OK);
    expect_end(&third, REPLY_UNAVAILABLE, "--max-subscribers");
    sub_close(&third);
    /* A place that is free again is used again. */
    sub_close(&sub);
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_subscribers) == 1));
    subscribe(&third, "SUBSCRIBE x y");
    sub_close(&second);
    sub_close(&third);
}
END_TEST

START_TEST(test_what_redis_refuses_is_its_own_error)
{
    begin(E2E_REDIS, NULL);
    subscribe(&sub, "SUBSCRIBE ok");
    redis_link_ask(&publisher, "ACL SETUSER default resetchannels &ok*");
    struct sub other;
    ck_assert_int_eq(
        sub_open(&other, manager.channel, TIMEOUT_MS, "SUBSCRIBE secret"),
        ERR_OK);
    expect_end(&other, REPLY_OK, "-NOPERM");
    sub_close(&other);
    subscribe(&other, "SUBSCRIBE ok2");
    redis_link_ask(&publisher, "PUBLISH ok2 00000001");
    expect_number(&other, 1);
    sub_close(&other);
    sub_close(&sub);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pubsub");
    TCase *t = support_case(s, "streams", e2e_long() ? 600 : 120);
    tcase_add_checked_fixture(t, NULL, e2e_stop_all);
    e2e_add(t, test_every_subscriber_gets_every_message_in_order);
    e2e_add(t, test_a_stopped_one_is_told_how_many_it_missed);
    e2e_add(t, test_a_stopped_one_gets_long_messages_whole);
    e2e_add(t, test_commands_go_on_during_a_flood);
    e2e_add(t, test_all_backlogs_together_are_bounded);
    e2e_add(t, test_a_message_too_long_leaves_a_mark);
    t = support_case(s, "leaving", 60);
    tcase_add_checked_fixture(t, NULL, e2e_stop_all);
    e2e_add(t, test_killed_subscribers_unsubscribe);
    e2e_add(t, test_a_stopped_one_that_is_killed_unsubscribes);
    e2e_add(t, test_coming_and_going_all_the_time);
    e2e_add(t, test_leaving_before_the_confirmation);
    t = support_case(s, "requests", 60);
    tcase_add_checked_fixture(t, NULL, e2e_stop_all);
    e2e_add(t, test_confirmations_and_messages_are_redis_own);
    e2e_add(t, test_resp3);
    e2e_add(t, test_what_is_refused);
    e2e_add(t, test_subscribers_and_names_are_bounded);
    tcase_add_test(t, test_shard_channels);
    tcase_add_test(t, test_what_redis_refuses_is_its_own_error);
    return support_run(s);
}
