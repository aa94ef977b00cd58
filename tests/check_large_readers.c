/* Readers of large replies that are slow, stop, die or take all they can: it is
 * theirs alone, and what they hold back is bounded. */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "ipc/clock.h"
#include "tests/e2e_scene.h"
#include "tests/large.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define TIMEOUT_MS 60000
#define WAY (16 * LARGE_MIB)

/* ---- a reader stalls ---- */

static void check_in_step(void)
{
    struct e2e_call one = {0};
    ck_assert_int_eq(e2e_ask(&client, &one, TIMEOUT_MS, "ECHO step"), E2E_OK);
    ck_assert(e2e_is(&one, "$4\r\nstep\r\n"));
    e2e_forget(&client, &one);
}

START_TEST(test_stalled_reply_is_cut_off)
{
    struct e2e_client other;
    scene_begin(_i, SUPPORT_SANITIZED
                        ? "--stall-timeout 4000 --reader-backlog 1m"
                        : "--stall-timeout 200 --reader-backlog 1m");
    ck_assert(e2e_client_open(&other, manager.channel) == ERR_OK);
    struct mqredis *mq = large_open(&manager);
    char *data = large_new(2 * WAY, 1);
    ck_assert(large_is_status(mqredis_set(mq, "k", data, 2 * WAY), "OK"));
    free(data);
    for (unsigned round = 1; round <= 3; round++) {
        uint64_t began = clock_ns();
        large_stall(&other, &call, "k");
        ck_assert(UNTIL(e2e_counter(&manager, COUNTER_aborted) == round));
        uint64_t cut_ms = (clock_ns() - began) / NS_PER_MS;
        /* The rest is read from the socket and passed over. */
        ck_assert_msg(UNTIL(e2e_balanced(&manager)), "%s", e2e_books(&manager));
        e2e_figure(_i, "round %u: cut off after %d ms, passed over after %d ms",
                   round, (int)cut_ms, (int)((clock_ns() - began) / NS_PER_MS));
        ck_assert_uint_lt(e2e_gauge(&manager, GAUGE_backlog_bytes), 3 << 20);
        check_in_step();
        ck_assert_int_eq(e2e_finish(&other, &call), E2E_REFUSED);
        ck_assert_uint_eq(call.ended[REPLY_TOO_BIG], 1);
        ck_assert_uint_eq(e2e_counter(&manager, COUNTER_too_big), round);
        /* The pipe serves again. */
        ck_assert_int_eq(e2e_ask(&other, &call, TIMEOUT_MS, "ECHO again"),
                         E2E_OK);
        ck_assert(e2e_is(&call, "$5\r\nagain\r\n"));
    }
    /* Who is kept waiting in the middle of it is cut off, too. */
    ck_assert(UNTIL(large_is_value(mqredis_get(mq, "k"), 2 * WAY, 1)));
    mqredis_close(mq);
    e2e_forget(&other, &call);
    e2e_client_close(&other);
    scene_end();
}
END_TEST

/* One that comes back in time has all of it. */
START_TEST(test_slow_reader_gets_all_of_it)
{
    scene_begin(_i, "--reader-backlog 1m --stall-timeout 20000");
    large_put("k", WAY, 1);
    uint64_t aborted = e2e_counter(&manager, COUNTER_aborted);
    for (int round = 0; round < 2; round++) {
        large_stall(&client, &call, "k");
        support_sleep_ms(300);
        ck_assert_int_eq(e2e_finish(&client, &call), E2E_OK);
        ck_assert_uint_gt(call.len, WAY);
        char *bytes = memchr(call.data, '\n', call.len);
        ck_assert(large_is(bytes + 1, WAY, 1));
    }
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_aborted), aborted);
    scene_end();
}
END_TEST

/* On a connection that only one waits for, a reader that lags, and has all of
 * it once it goes on; and one that stands still. */
START_TEST(test_large_reply_of_a_blocking_command)
{
    static const char blpop[] = "BLPOP list 0";
    char payload[64];
    uint32_t n;
    scene_begin(_i, "--reader-backlog 1m --stall-timeout 5000");
    size_t len = e2e_commands(payload, sizeof(payload), &n, blpop);
    struct mqredis *mq = large_open(&manager);
    char *data = large_new(WAY, 1);
    for (int i = 0; i < 3; i++)
        ck_assert(large_is_integer(
            mqredis_command(mq, "RPUSH list %b", data, WAY), i + 1));
    free(data);
    struct mqredis_reply *reply = mqredis_command(mq, "%s list 0", "BLPOP");
    ck_assert_int_eq(reply->type, MQREDIS_ARRAY);
    ck_assert_uint_eq(reply->element[1]->len, WAY);
    ck_assert(large_is(reply->element[1]->str, WAY, 1));
    mqredis_free(reply);
    for (int stands_still = 0; stands_still < 2; stands_still++) {
        ck_assert(e2e_begin(&client, &call, n, payload, len, TIMEOUT_MS) ==
                  ERR_OK);
        ck_assert(e2e_send(&client, &call) == ERR_OK);
        if (stands_still)
            ck_assert(UNTIL(e2e_counter(&manager, COUNTER_aborted) == 1));
        else
            support_sleep_ms(300);
        ck_assert_int_eq(e2e_finish(&client, &call),
                         stands_still ? E2E_REFUSED : E2E_OK);
        ck_assert_uint_eq(call.ended[REPLY_TOO_BIG], (unsigned)stands_still);
    }
    ck_assert_int_eq(e2e_redis_integer(&redis, "LLEN list"), 0);
    mqredis_close(mq);
    scene_end();
}
END_TEST

#define STALLED 8

static void total_backlog(void)
{
    static struct e2e_client sleepers[STALLED];
    static struct e2e_call calls[STALLED];
    struct mqredis *mq = large_open(&manager);
    char *data = large_new(LARGE_MIB, 1);
    ck_assert(large_is_status(mqredis_set(mq, "k", data, LARGE_MIB), "OK"));
    free(data);
    for (int i = 0; i < STALLED; i++) {
        ck_assert(e2e_client_open(&sleepers[i], manager.channel) == ERR_OK);
        large_stall(&sleepers[i], &calls[i], "k");
    }
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_backlog_bytes) > 500000));
    ck_assert(UNTIL(e2e_balanced(&manager)));
    ck_assert_uint_lt(e2e_gauge(&manager, GAUGE_backlog_bytes), 3 << 20);
    /* That there is no room left is no matter of those who read. */
    for (uint64_t i = 0; i < 20; i++)
        ck_assert_msg(large_round(mq, "other", LARGE_MIB + i, i), "round %d",
                      (int)i);
    /* Nor of those who take their time, within the limit. */
    for (int i = 0; i < 5; i++) {
        large_stall(&client, &call, "k");
        support_sleep_ms(20);
        ck_assert_msg(e2e_finish(&client, &call) == E2E_OK, "%s", call.text);
    }
    int cut = 0;
    for (int i = 0; i < STALLED; i++) {
        enum e2e_end end = e2e_finish(&sleepers[i], &calls[i]);
        ck_assert(end == E2E_OK || end == E2E_REFUSED);
        cut += end == E2E_REFUSED;
        e2e_forget(&sleepers[i], &calls[i]);
        e2e_client_close(&sleepers[i]);
    }
    ck_assert_int_gt(cut, 0);
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_too_big), (unsigned)cut);
    mqredis_close(mq);
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_backlog_bytes) == 0));
}

/* Those who read are never that late, instrumented neither. */
#if SUPPORT_SANITIZED
#define TOTAL_OPTIONS "--stall-timeout 10000 --total-backlog 2m"
#else
#define TOTAL_OPTIONS "--stall-timeout 2500 --total-backlog 2m"
#endif

START_TEST(test_many_stalled_readers_hurt_only_themselves)
{
    scene_begin(_i, TOTAL_OPTIONS);
    total_backlog();
    scene_end();
}
END_TEST

START_TEST(test_many_stalled_readers_by_tls)
{
    char uri[128], tls[256], options[400];
    if (!large_tcp(&redis, E2E_REDIS, true, uri, tls)) {
        support_skip("TLS", "no such server here");
        return;
    }
    snprintf(options, sizeof(options), TOTAL_OPTIONS " %s", tls);
    e2e_manager_start(&manager, NULL, uri, options);
    ck_assert(e2e_client_open(&client, manager.channel) == ERR_OK);
    total_backlog();
    scene_end();
}
END_TEST

/* ---- a worker stops, or reads without end ---- */

/* Sanitized, memory for 100 MB takes longer than a reader may lag. */
#define BIG ((SUPPORT_SANITIZED ? 20 : 100) * LARGE_MIB)

struct glutton {
    struct e2e_manager *m;
    _Atomic int reads;
};

static void read_without_end(void *arg)
{
    struct glutton *g = arg;
    struct mqredis *mq = large_open(g->m);
    for (;;) {
        struct mqredis_reply *r = mqredis_get(mq, "big");
        CHILD_REQUIRE(r->status == MQREDIS_OK && r->len == BIG);
        mqredis_free(r);
        g->reads++;
    }
}

/* p99 of small GETs for a while, in us. */
static double p99_us(struct mqredis *mq, int64_t ms)
{
    static uint64_t times[200000];
    size_t n = 0;
    uint64_t end = clock_ns() + (uint64_t)ms * NS_PER_MS;
    for (uint64_t t = clock_ns(), now; t < end && n < 200000; t = now) {
        mqredis_free(mqredis_get(mq, "small"));
        now = clock_ns();
        times[n++] = now - t;
    }
    return (double)large_percentile(times, n, 0.99) / 1000.0;
}

START_TEST(test_others_next_to_a_stopped_reader)
{
    const int64_t ms = e2e_long() ? 3000 : 700;
    scene_begin(_i, "--stall-timeout 2000");
    large_put("big", BIG, 1);
    struct mqredis *mq = large_open(&manager);
    mqredis_free(mqredis_set(mq, "small", "value", 5));
    struct glutton *g = support_shared(sizeof(*g));
    g->m = &manager;
    double alone = p99_us(mq, ms);
    pid_t pid = support_fork(read_without_end, g);
    ck_assert(UNTIL(g->reads > 0));
    uint64_t read = e2e_counter(&manager, COUNTER_bytes_read);
    ck_assert(
        UNTIL(e2e_counter(&manager, COUNTER_bytes_read) > read + 1000000));
    kill(pid, SIGSTOP);
    double stopped = p99_us(mq, ms);
    /* Cut off, passed over: all within its time. */
    ck_assert(UNTIL(e2e_balanced(&manager)));
    double after = p99_us(mq, ms);
    support_kill(pid);
    e2e_figure(_i,
               "p99 of a small GET: alone %.0f us, next to a large reader "
               "that is stopped %.0f us (%.2f), after that %.0f us",
               alone, stopped, stopped / alone, after);
    ck_assert(stopped < 1e6);
    mqredis_close(mq);
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_backlog_bytes) == 0));
    scene_end();
}
END_TEST

/* One that dies in the middle costs its own reply. */
START_TEST(test_reader_dies_in_the_middle)
{
    scene_begin(_i, NULL);
    large_put("big", WAY, 1);
    for (int i = 0; i < 4; i++) {
        struct e2e_actor *a = support_shared(sizeof(*a));
        uint64_t read = e2e_counter(&manager, COUNTER_bytes_read);
        a->deaf = true;
        e2e_actor_start(a, manager.channel, TIMEOUT_MS, "GET big");
        ck_assert(
            UNTIL(e2e_counter(&manager, COUNTER_bytes_read) > read + 50000));
        support_kill(a->pid);
        check_in_step();
        ck_assert_msg(UNTIL(e2e_balanced(&manager)), "%s", e2e_books(&manager));
        ck_assert_uint_eq(e2e_counter(&manager, COUNTER_discarded),
                          (unsigned)i + 1);
    }
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_disconnects), 0);
    scene_end();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("large_readers");
    TCase *t = support_case(s, "readers", 60);
    tcase_add_checked_fixture(t, NULL, e2e_stop_all);
    e2e_add(t, test_stalled_reply_is_cut_off);
    e2e_add(t, test_slow_reader_gets_all_of_it);
    e2e_add(t, test_large_reply_of_a_blocking_command);
    e2e_add(t, test_many_stalled_readers_hurt_only_themselves);
    tcase_add_test(t, test_many_stalled_readers_by_tls);
    e2e_add(t, test_others_next_to_a_stopped_reader);
    e2e_add(t, test_reader_dies_in_the_middle);
    return s;
}

int main(void)
{
    large_prepare();
    return support_run(suite());
}
