/* Subscriptions when Redis, the connection or the manager goes away: each
 * subscriber is told, and what it missed is never passed over in silence. */
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

/* ---- Redis goes, the manager goes ---- */

START_TEST(test_a_gap_is_told)
{
    struct sub other;
    begin(_i, "--reconnect-max 200");
    subscribe(&sub, "SUBSCRIBE news more");
    subscribe(&other, "PSUBSCRIBE n*");
    publish(&publisher, "news", 0, 1, 16);
    expect_number(&sub, 0);
    expect_number(&other, 0);
    e2e_redis_kill(&redis);
    redis_link_close(&publisher);
    ck_assert(UNTIL(e2e_state(&manager) == STATE_RECONNECTING));
    support_sleep_ms(300);
    e2e_redis_restart(&redis);
    ck_assert(sub_expect(&sub, BROADCAST_GAP, &ev));
    ck_assert_uint_ge(ev.n, 250);
    ck_assert(sub_expect(&other, BROADCAST_GAP, &ev));
    redis_link_open(&publisher, &redis.at);
    ck_assert_int_eq(numsub("news"), 1);
    publish(&publisher, "news", 7, 2, 16);
    expect_number(&sub, 7);
    expect_number(&sub, 8);
    expect_number(&other, 7);
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_pubsub_gaps), 1);
    sub_close(&sub);
    sub_close(&other);
    ck_assert(UNTIL(numsub("news") == 0));
}
END_TEST

/* A subscription that meets no Redis waits for it. */
START_TEST(test_subscribing_while_redis_is_down)
{
    begin(_i, "--reconnect-max 200");
    e2e_redis_kill(&redis);
    redis_link_close(&publisher);
    ck_assert_int_eq(
        sub_open(&sub, manager.channel, TIMEOUT_MS, "SUBSCRIBE news"), ERR_OK);
    ck_assert_int_eq(sub_next(&sub, &ev, 300), ERR_TIMEOUT);
    e2e_redis_restart(&redis);
    ck_assert(sub_expect(&sub, BROADCAST_CONFIRMED, &ev));
    sub_close(&sub);
}
END_TEST

START_TEST(test_subscribing_while_redis_is_down_may_fail_at_once)
{
    begin(_i, "--when-down fail --reconnect-max 200");
    e2e_redis_kill(&redis);
    redis_link_close(&publisher);
    ck_assert_int_eq(
        sub_open(&sub, manager.channel, TIMEOUT_MS, "SUBSCRIBE news"), ERR_OK);
    expect_end(&sub, REPLY_UNAVAILABLE, "Redis is down");
    sub_close(&sub);
}
END_TEST

START_TEST(test_a_deadline_before_the_confirmation)
{
    begin(_i, "--silence-timeout 60000");
    subscribe(&sub, "SUBSCRIBE old");
    kill(redis.at.pid, SIGSTOP);
    struct sub other;
    ck_assert_int_eq(sub_open(&other, manager.channel, 200, "SUBSCRIBE news"),
                     ERR_OK);
    expect_end(&other, REPLY_EXPIRED, "deadline");
    sub_close(&other);
    kill(redis.at.pid, SIGCONT);
    ck_assert(UNTIL(numsub("news") == 0));
    publish(&publisher, "old", 3, 1, 16);
    expect_number(&sub, 3);
    sub_close(&sub);
}
END_TEST

START_TEST(test_a_manager_that_ends_says_so)
{
    begin(_i, NULL);
    subscribe(&sub, "SUBSCRIBE news");
    publish(&publisher, "news", 0, 3, 16);
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_pubsub_delivered) == 3));
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
    for (unsigned long i = 0; i < 3; i++)
        expect_number(&sub, i);
    expect_end(&sub, REPLY_UNAVAILABLE, "ended");
    ck_assert_int_eq(sub_next(&sub, &ev, 1000), ERR_CLOSED);
    sub_close(&sub);
}
END_TEST

START_TEST(test_a_killed_manager_is_noticed)
{
    begin(_i, NULL);
    subscribe(&sub, "SUBSCRIBE news");
    uint64_t start = clock_ns();
    e2e_manager_kill(&manager);
    ck_assert_int_eq(sub_next(&sub, &ev, (int64_t)support_wait_ms()),
                     ERR_CLOSED);
    e2e_figure(_i, "a subscriber knew %.1f ms after the manager was killed",
               (double)(clock_ns() - start) / 1e6);
    sub_close(&sub);
}
END_TEST

/* Whoever is replaced tells its subscribers, and its successor takes them. */
START_TEST(test_a_takeover_is_told)
{
    struct e2e_manager next;
    begin(_i, NULL);
    subscribe(&sub, "SUBSCRIBE news");
    e2e_manager_start(&next, manager.channel, e2e_uri(&redis), "--takeover");
    expect_end(&sub, REPLY_UNAVAILABLE, "subscribe again");
    sub_close(&sub);
    manager = next;
    subscribe(&sub, "SUBSCRIBE news");
    publish(&publisher, "news", 0, 1, 16);
    expect_number(&sub, 0);
    sub_close(&sub);
}
END_TEST

/* One that could not be told, for its pipe was full, sees that it was given
 * up. */
START_TEST(test_a_full_pipe_is_given_up_by_its_name)
{
    struct e2e_manager next;
    begin(_i, "--subscriber-backlog 10");
    subscribe(&sub, "SUBSCRIBE news");
    publish(&publisher, "news", 0, 5000, 16);
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_pubsub_lagged) > 0));
    e2e_manager_start(&next, manager.channel, e2e_uri(&redis), "--takeover");
    struct stat st;
    ck_assert(UNTIL(fstat(sub.call.slot.fd, &st) == 0 && st.st_nlink == 0));
    unsigned long n = 0;
    enum err e;
    while ((e = sub_next(&sub, &ev, 1000)) == ERR_OK &&
           ev.kind == BROADCAST_MESSAGE)
        ck_assert_uint_eq(sub_number(&ev), n++);
    ck_assert_int_eq(e, ERR_CLOSED);
    ck_assert_uint_gt(n, 100);
    sub_close(&sub);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pubsub_breaks");
    TCase *t = support_case(s, "breaks", 60);
    tcase_add_checked_fixture(t, NULL, e2e_stop_all);
    e2e_add(t, test_a_gap_is_told);
    e2e_add(t, test_subscribing_while_redis_is_down);
    e2e_add(t, test_subscribing_while_redis_is_down_may_fail_at_once);
    e2e_add(t, test_a_deadline_before_the_confirmation);
    e2e_add(t, test_a_manager_that_ends_says_so);
    e2e_add(t, test_a_killed_manager_is_noticed);
    e2e_add(t, test_a_takeover_is_told);
    e2e_add(t, test_a_full_pipe_is_given_up_by_its_name);
    return support_run(s);
}
