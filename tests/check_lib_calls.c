/* The library's calls against real programs: what each of them promises. */
#include <check.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "tests/lib.h"
#include "tests/support.h"
#include "tests/support_run.h"

/* ---- synchronous ---- */

/* Whoever spins finds what whoever sleeps is woken for. */
START_TEST(test_spinning_changes_no_answer)
{
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, "--spin 500");
    struct mqredis *mq = lib_open(&m);
    mqredis_set_spin(mq, 1000000); /* more than is allowed: the most is taken */
    for (int i = 0; i < 50; i++) {
        struct mqredis_reply *reply = mqredis_command(mq, "INCR n");
        ck_assert_int_eq(reply->integer, i + 1);
        mqredis_free(reply);
        support_sleep_ms(i % 3); /* longer and shorter than it spins */
    }
    /* A wait that outlasts it sleeps after all, and ends in time. */
    mqredis_set_timeout(mq, 300);
    ck_assert_int_ne(lib_status(mqredis_command(mq, "BLPOP none 0")),
                     MQREDIS_OK);
    mqredis_close(mq);
}
END_TEST

START_TEST(test_values_come_back_byte_for_byte)
{
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    struct mqredis *mq = lib_open(&m);
    char all[256];
    for (size_t i = 0; i < sizeof(all); i++)
        all[i] = (char)i;
    EXPECT(mqredis_set(mq, "all", all, sizeof(all)), "OK");
    EXPECT(mqredis_set(mq, "empty", "", 0), "OK");
    struct mqredis_reply *reply = mqredis_get(mq, "all");
    ck_assert_int_eq(reply->type, MQREDIS_STRING);
    ck_assert_uint_eq(reply->len, sizeof(all));
    ck_assert_mem_eq(reply->str, all, sizeof(all));
    ck_assert_int_eq(reply->str[reply->len], '\0');
    mqredis_free(reply);
    reply = mqredis_get(mq, "empty");
    ck_assert_int_eq(reply->type, MQREDIS_STRING);
    ck_assert_uint_eq(reply->len, 0);
    mqredis_free(reply);
    EXPECT(mqredis_get(mq, "absent"), "(nil)");
    mqredis_close(mq);
}
END_TEST

START_TEST(test_errors_are_told_apart)
{
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    struct mqredis *mq = lib_open(&m);
    EXPECT(mqredis_command(mq, "SET k %d", 5), "OK");
    /* Redis's own: it answered. */
    struct mqredis_reply *reply = mqredis_command(mq, "LPUSH k x");
    ck_assert_int_eq(reply->type, MQREDIS_ERROR);
    ck_assert_int_eq(reply->status, MQREDIS_OK);
    ck_assert_int_eq(strncmp(reply->str, "WRONGTYPE", 9), 0);
    mqredis_free(reply);
    /* The manager's policy. */
    reply = mqredis_command(mq, "SELECT 1");
    ck_assert_int_eq(reply->type, MQREDIS_FAILURE);
    ck_assert_int_eq(reply->status, MQREDIS_INVALID);
    ck_assert_ptr_nonnull(strstr(reply->str, "SELECT"));
    mqredis_free(reply);
    /* The library's. */
    ck_assert_int_eq(lib_status(mqredis_command(mq, "GET %y", 1)),
                     MQREDIS_INVALID);
    ck_assert_int_eq(lib_status(mqredis_command_argv(mq, 0, NULL, NULL)),
                     MQREDIS_INVALID);
    EXPECT(mqredis_get(mq, "k"), "5");
    mqredis_close(mq);
}
END_TEST

START_TEST(test_large_reply_comes_whole)
{
    enum { SIZE = 3000000 };
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    struct mqredis *mq = lib_open(&m);
    EXPECT(mqredis_command(mq, "SETRANGE big %d x", SIZE - 1), "3000000");
    struct mqredis_reply *reply = mqredis_get(mq, "big");
    ck_assert_int_eq(reply->type, MQREDIS_STRING);
    ck_assert_uint_eq(reply->len, SIZE);
    ck_assert_int_eq(reply->str[0], 0);
    ck_assert_int_eq(reply->str[SIZE - 1], 'x');
    mqredis_free(reply);
    /* The same among others in one message. */
    struct mqredis_request *q[5];
    for (int i = 0; i < 5; i++)
        q[i] = i % 2 ? mqredis_submit(mq, "GET big")
                     : mqredis_submit(mq, "ECHO %d", i);
    for (int i = 4; i >= 0; i--) {
        reply = mqredis_wait(q[i]);
        ck_assert_int_eq(reply->type, MQREDIS_STRING);
        ck_assert_uint_eq(reply->len, i % 2 ? SIZE : 1);
        mqredis_free(reply);
    }
    const char *argv[] = {"GET", "big"};
    struct mqredis_raw *raw = mqredis_command_raw(mq, 2, argv, NULL);
    ck_assert_int_eq(raw->status, MQREDIS_OK);
    ck_assert_uint_eq(raw->len, SIZE + sizeof("$3000000\r\n\r\n") - 1);
    ck_assert_mem_eq(raw->data, "$3000000\r\n", 10);
    mqredis_raw_free(raw);
    raw = mqredis_command_raw(mq, 0, argv, NULL);
    ck_assert_int_eq(raw->status, MQREDIS_INVALID);
    ck_assert_ptr_nonnull(strstr(raw->data, "0 arguments"));
    mqredis_raw_free(raw);
    mqredis_close(mq);
}
END_TEST

START_TEST(test_batch_answers_each_command)
{
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    struct mqredis *mq = lib_open(&m);
    struct mqredis_batch *b = mqredis_batch_new(mq);
    mqredis_batch_add(b, "SET n %d", 41);
    mqredis_batch_add(b, "INCR n");
    mqredis_batch_add(b, "LPUSH n x");
    const char *argv[] = {"GET", "n"};
    mqredis_batch_add_argv(b, 2, argv, NULL);
    struct mqredis_reply *reply = mqredis_batch_run(b);
    ck_assert_int_eq(reply->type, MQREDIS_BATCH);
    ck_assert_int_eq(reply->status, MQREDIS_OK);
    ck_assert_uint_eq(reply->elements, 4);
    ck_assert_str_eq(reply->element[0]->str, "OK");
    ck_assert_int_eq(reply->element[1]->integer, 42);
    ck_assert_int_eq(reply->element[2]->type, MQREDIS_ERROR);
    ck_assert_str_eq(reply->element[3]->str, "42");
    mqredis_free(reply);
    /* One bad command, and nothing is sent. */
    b = mqredis_batch_new(mq);
    mqredis_batch_add(b, "INCR n");
    mqredis_batch_add(b, "GET %q");
    ck_assert_int_eq(lib_status(mqredis_batch_run(b)), MQREDIS_INVALID);
    ck_assert_int_eq(lib_status(mqredis_batch_run(mqredis_batch_new(mq))),
                     MQREDIS_INVALID);
    EXPECT(mqredis_get(mq, "n"), "42");
    mqredis_close(mq);
}
END_TEST

START_TEST(test_transaction_is_all_or_nothing)
{
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    struct mqredis *mq = lib_open(&m);
    struct mqredis_batch *b = mqredis_batch_new(mq);
    mqredis_batch_add(b, "SET n 1");
    mqredis_batch_add(b, "INCR n");
    struct mqredis_reply *reply = mqredis_transaction_run(b);
    ck_assert_int_eq(reply->type, MQREDIS_ARRAY);
    ck_assert_uint_eq(reply->elements, 2);
    ck_assert_int_eq(reply->element[1]->integer, 2);
    mqredis_free(reply);
    b = mqredis_batch_new(mq);
    mqredis_batch_add(b, "INCR n");
    mqredis_batch_add(b, "GET too many words");
    reply = mqredis_transaction_run(b);
    ck_assert_int_eq(reply->type, MQREDIS_ERROR);
    ck_assert_ptr_nonnull(strstr(reply->str, "wrong number of arguments"));
    mqredis_free(reply);
    EXPECT(mqredis_get(mq, "n"), "2");
    mqredis_close(mq);
}
END_TEST

START_TEST(test_too_big_batch_is_refused_and_not_executed)
{
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    struct mqredis *mq = lib_open(&m);
    struct mqredis_batch *b = mqredis_batch_new(mq);
    for (int i = 0; i < 5000; i++)
        mqredis_batch_add(b, "INCR n");
    struct mqredis_reply *reply = mqredis_batch_run(b);
    ck_assert_int_eq(reply->type, MQREDIS_FAILURE);
    ck_assert_int_eq(reply->status, MQREDIS_TOO_BIG);
    ck_assert_ptr_nonnull(strstr(reply->str, "4096"));
    mqredis_free(reply);
    EXPECT(mqredis_get(mq, "n"), "(nil)");
    mqredis_close(mq);
}
END_TEST

START_TEST(test_what_does_not_fit_into_a_message_travels_beside_it)
{
    enum { LARGE = 500000, COMMANDS = 300 };
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    struct mqredis *mq = lib_open(&m);
    char *value = malloc(LARGE);
    ck_assert_ptr_nonnull(value);
    for (size_t i = 0; i < LARGE; i++)
        value[i] = (char)(i * 7);
    EXPECT(mqredis_set(mq, "large", value, LARGE), "OK");
    struct mqredis_request *q =
        mqredis_submit(mq, "APPEND large %b", value, (size_t)LARGE);
    struct mqredis_reply *reply = mqredis_get(mq, "large");
    ck_assert_uint_eq(reply->len, 2 * LARGE);
    ck_assert_mem_eq(reply->str, value, LARGE);
    ck_assert_mem_eq(reply->str + LARGE, value, LARGE);
    mqredis_free(reply);
    EXPECT(mqredis_wait(q), "1000000");
    struct mqredis_batch *b = mqredis_batch_new(mq);
    for (int i = 0; i < COMMANDS; i++)
        mqredis_batch_add(b, "INCR n");
    reply = mqredis_batch_run(b);
    ck_assert_int_eq(reply->type, MQREDIS_BATCH);
    ck_assert_int_eq(reply->element[COMMANDS - 1]->integer, COMMANDS);
    mqredis_free(reply);
    free(value);
    mqredis_close(mq);
}
END_TEST

START_TEST(test_info_and_ready)
{
    struct e2e_redis r;
    struct e2e_manager m;
    struct mqredis_error why;
    struct mqredis_info info;
    e2e_redis_start(&r, _i);
    /* It is not there yet, and the handle waits for it. */
    e2e_manager_launch(&m, NULL, e2e_uri(&r), NULL);
    struct mqredis *mq = lib_open(&m);
    ck_assert_int_eq(mqredis_wait_ready(mq, support_wait_ms(), &why),
                     MQREDIS_OK);
    e2e_manager_ready(&m);
    ck_assert_int_eq(mqredis_info(mq, &info, &why), MQREDIS_OK);
    ck_assert_int_eq(info.queue_capacity, 32);
    ck_assert_int_eq(info.queue_depth, 0);
    ck_assert_uint_eq(info.message_size, 1024);
    ck_assert_int_eq(info.manager_pid, m.pid);
    ck_assert(info.connected);
    ck_assert_str_eq(info.state, "connected");
    ck_assert_ptr_nonnull(strstr(info.server, "unix:"));
    e2e_redis_kill(&r);
    ck_assert(UNTIL(mqredis_info(mq, &info, &why) == MQREDIS_OK &&
                    !info.connected && info.last_error[0] != '\0'));
    ck_assert_int_eq(mqredis_wait_ready(mq, 100, &why), MQREDIS_UNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(why.text, "reconnecting"));
    e2e_redis_restart(&r);
    ck_assert_int_eq(mqredis_wait_ready(mq, support_wait_ms(), &why),
                     MQREDIS_OK);
    mqredis_close(mq);
}
END_TEST

/* ---- time and death ---- */

START_TEST(test_time_that_runs_out_says_where_it_went)
{
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, "--capacity 1");
    struct mqredis *mq = lib_open(&m);
    EXPECT(mqredis_command(mq, "SET n 0"), "OK");
    support_stop(m.pid);
    struct mqredis_request *queued = mqredis_submit(mq, "INCR n");
    mqredis_flush(mq);
    mqredis_set_timeout(mq, 200);
    uint64_t t0 = clock_ns();
    struct mqredis_reply *reply = mqredis_command(mq, "INCR n");
    ck_assert_uint_ge((clock_ns() - t0) / NS_PER_MS, 190);
    ck_assert_int_eq(reply->status, MQREDIS_EXPIRED);
    ck_assert_ptr_nonnull(strstr(reply->str, m.channel));
    ck_assert_ptr_nonnull(strstr(reply->str, "asleep on the full queue"));
    mqredis_free(reply);
    kill(m.pid, SIGCONT);
    EXPECT(mqredis_wait(queued), "1");
    /* What expired was never executed. */
    EXPECT(mqredis_get(mq, "n"), "1");
    support_stop(m.pid);
    reply = mqredis_command(mq, "GET n");
    ck_assert_int_eq(reply->status, MQREDIS_LOST);
    ck_assert_ptr_nonnull(strstr(reply->str, "waiting for the answer"));
    mqredis_free(reply);
    kill(m.pid, SIGCONT);
    mqredis_set_timeout(mq, MQREDIS_TIMEOUT_MS);
    /* The late reply met nobody. */
    for (int i = 0; i < 20; i++) {
        char expected[16];
        snprintf(expected, sizeof(expected), "%d", i);
        EXPECT(mqredis_command(mq, "ECHO %d", i), expected);
    }
    mqredis_close(mq);
}
END_TEST

START_TEST(test_killed_manager_ends_every_wait_at_once)
{
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    struct mqredis *mq = lib_open(&m);
    mqredis_set_timeout(mq, -1);
    struct mqredis_request *q[10];
    uint64_t before = e2e_counter(&m, COUNTER_taken);
    for (int i = 0; i < 10; i++) {
        q[i] = mqredis_submit(mq, "BLPOP list%d 0", i);
        mqredis_flush(mq);
    }
    ck_assert(!mqredis_wait_done(q[0], 100));
    /* What is still in the queue the guardian would answer. */
    ck_assert(UNTIL(e2e_counter(&m, COUNTER_taken) >= before + 10));
    e2e_manager_kill(&m);
    uint64_t t0 = clock_ns();
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(lib_status(mqredis_wait(q[i])), MQREDIS_LOST);
    e2e_figure(_i, "10 requests told of the manager's death after %.1f ms",
               (double)(clock_ns() - t0) / 1e6);
    ck_assert_int_eq(lib_status(mqredis_get(mq, "k")), MQREDIS_UNAVAILABLE);
    mqredis_close(mq);
}
END_TEST

START_TEST(test_idle_handle_survives_ten_managers)
{
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    struct mqredis *mq = lib_open(&m);
    char channel[sizeof(m.channel)];
    strcpy(channel, m.channel);
    EXPECT(mqredis_command(mq, "SET n 0"), "OK");
    int fds = support_count_fds();
    for (int i = 1; i <= 10; i++) {
        char expected[16];
        snprintf(expected, sizeof(expected), "%d", 2 * i);
        if (i % 2)
            e2e_manager_kill(&m);
        else
            ck_assert_int_eq(e2e_manager_stop(&m), 0);
        ck_assert(e2e_guardian_gone(&m));
        status_unmap(m.status);
        e2e_manager_start(&m, channel, e2e_uri(&r), NULL);
        struct mqredis_request *q = mqredis_submit(mq, "INCR n");
        struct mqredis_reply *reply = mqredis_wait(q);
        ck_assert_int_eq(reply->integer, 2 * i - 1);
        mqredis_free(reply);
        EXPECT(mqredis_command(mq, "INCR n"), expected);
    }
    /* The epoll set came in the first round. */
    ck_assert_int_le(support_count_fds(), fds + 1);
    mqredis_close(mq);
}
END_TEST

START_TEST(test_closing_leaves_nothing)
{
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    char path[sizeof(m.channel) + 16];
    snprintf(path, sizeof(path), "%s/reply", m.channel);
    int fds = support_count_fds();
    struct mqredis *mq = lib_open(&m);
    ck_assert_int_ge(mqredis_fd(mq), 0);
    for (int i = 0; i < 100; i++)
        ck_assert_ptr_nonnull(mqredis_submit(mq, "BLPOP list 1000"));
    mqredis_flush(mq);
    EXPECT(mqredis_command(mq, "ECHO a"), "a");
    for (int i = 0; i < 100; i++)
        ck_assert_ptr_nonnull(mqredis_submit(mq, "GET k"));
    mqredis_close(mq);
    ck_assert_int_eq(support_count_fds(), fds);
    ck_assert_int_eq(support_count_entries(support_path(path)), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("lib_calls");
    TCase *calls = tcase_create("calls");
    /* For each test: a queue that stayed is charged to the user. */
    tcase_add_checked_fixture(calls, support_scratch_setup,
                              support_scratch_teardown);
    tcase_add_checked_fixture(calls, NULL, e2e_stop_all);
    tcase_set_timeout(calls, 60);
    e2e_add(calls, test_spinning_changes_no_answer);
    e2e_add(calls, test_values_come_back_byte_for_byte);
    e2e_add(calls, test_errors_are_told_apart);
    e2e_add(calls, test_large_reply_comes_whole);
    e2e_add(calls, test_batch_answers_each_command);
    e2e_add(calls, test_transaction_is_all_or_nothing);
    e2e_add(calls, test_too_big_batch_is_refused_and_not_executed);
    e2e_add(calls, test_what_does_not_fit_into_a_message_travels_beside_it);
    e2e_add(calls, test_info_and_ready);
    e2e_add(calls, test_time_that_runs_out_says_where_it_went);
    e2e_add(calls, test_killed_manager_ends_every_wait_at_once);
    e2e_add(calls, test_idle_handle_survives_ten_managers);
    e2e_add(calls, test_closing_leaves_nothing);
    suite_add_tcase(s, calls);
    return support_run(s);
}
