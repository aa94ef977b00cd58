/* Submitted requests against real programs: order, cancelling, poll loops. */
#include <check.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/lib.h"
#include "tests/support.h"
#include "tests/support_run.h"

/* ---- submitted ---- */

START_TEST(test_submitted_commands_keep_their_order_in_few_messages)
{
    enum { COUNT = 1000 };
    static struct mqredis_request *q[COUNT];
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    struct mqredis *mq = lib_open(&m);
    uint64_t before = e2e_counter(&m, COUNTER_messages);
    for (size_t i = 0; i < COUNT; i++)
        q[i] = mqredis_submit(mq, "INCR n");
    /* A synchronous call comes after all of them. */
    EXPECT(mqredis_get(mq, "n"), "1000");
    for (size_t i = COUNT; i-- > 0;) {
        struct mqredis_reply *reply = mqredis_wait(q[i]);
        ck_assert_int_eq(reply->integer, (int64_t)i + 1);
        mqredis_free(reply);
    }
    uint64_t messages = e2e_counter(&m, COUNTER_messages) - before;
    ck_assert_uint_lt(messages, COUNT / 20);
    mqredis_close(mq);
}
END_TEST

START_TEST(test_wait_any_gives_each_request_once)
{
    enum { COUNT = 500 };
    static int seen[COUNT];
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    struct mqredis *mq = lib_open(&m);
    ck_assert_ptr_null(mqredis_wait_any(mq, 0));
    for (int i = 0; i < COUNT; i++) {
        struct mqredis_request *q = mqredis_submit(mq, "ECHO %d", i);
        mqredis_set_data(q, &seen[i]);
        if (i % 7 == 0)
            mqredis_flush(mq);
    }
    for (int i = 0; i < COUNT; i++) {
        struct mqredis_request *q = mqredis_wait_any(mq, support_wait_ms());
        ck_assert_ptr_nonnull(q);
        int *mark = mqredis_data(q);
        struct mqredis_reply *reply = mqredis_wait(q);
        ck_assert_int_eq(atoi(reply->str), (int)(mark - seen));
        ck_assert_int_eq((*mark)++, 0);
        mqredis_free(reply);
    }
    ck_assert_ptr_null(mqredis_wait_any(mq, 1000));
    mqredis_close(mq);
}
END_TEST

/* Submitted behind it: a message that has more time, and cannot be sent. */
START_TEST(test_wait_ends_in_time_with_more_to_send)
{
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, "--capacity 1");
    struct mqredis *mq = lib_open(&m);
    EXPECT(mqredis_command(mq, "PING"), "PONG");
    support_stop(m.pid);
    struct mqredis_request *fills = mqredis_submit(mq, "INCR n");
    mqredis_flush(mq);
    for (int any = 0; any < 2; any++) {
        uint64_t t0 = clock_ns();
        mqredis_set_timeout(mq, 300);
        struct mqredis_request *first = mqredis_submit(mq, "INCR n");
        mqredis_set_timeout(mq, 20000);
        struct mqredis_request *second = mqredis_submit(mq, "INCR n");
        if (any)
            ck_assert_ptr_eq(mqredis_wait_any(mq, 20000), first);
        struct mqredis_reply *reply = mqredis_wait(first);
        ck_assert_uint_lt((clock_ns() - t0) / NS_PER_MS, 10000);
        ck_assert_int_eq(reply->status, MQREDIS_EXPIRED);
        mqredis_free(reply);
        mqredis_cancel(second);
    }
    kill(m.pid, SIGCONT);
    mqredis_cancel(fills);
    mqredis_close(mq);
}
END_TEST

START_TEST(test_cancelled_before_sending_is_not_executed)
{
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    struct mqredis *mq = lib_open(&m);
    struct mqredis_request *q[9];
    /* With deadlines, a slow machine may send some in a message before. */
    mqredis_set_timeout(mq, -1);
    for (int i = 0; i < 9; i++)
        q[i] = mqredis_submit(mq, "APPEND k %d", i);
    /* First, in the middle, two neighbours, last. */
    mqredis_cancel(q[0]);
    mqredis_cancel(q[4]);
    mqredis_cancel(q[5]);
    mqredis_cancel(q[8]);
    EXPECT(mqredis_wait(q[7]), "5");
    EXPECT(mqredis_wait(q[1]), "1");
    EXPECT(mqredis_wait(q[2]), "2");
    EXPECT(mqredis_wait(q[6]), "4");
    EXPECT(mqredis_wait(q[3]), "3");
    EXPECT(mqredis_get(mq, "k"), "12367");
    mqredis_close(mq);
}
END_TEST

START_TEST(test_blocking_command_holds_up_nobody_and_can_be_cancelled)
{
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    struct mqredis *mq = lib_open(&m);
    mqredis_set_timeout(mq, -1);
    struct mqredis_request *blocked = mqredis_submit(mq, "BLPOP list 0");
    struct mqredis_request *other = mqredis_submit(mq, "ECHO a");
    EXPECT(mqredis_wait(other), "a");
    ck_assert(!mqredis_wait_done(blocked, 50));
    EXPECT(mqredis_command(mq, "ECHO b"), "b");
    mqredis_cancel(blocked);
    for (int i = 0; i < 50; i++) {
        char expected[16];
        snprintf(expected, sizeof(expected), "c%d", i);
        EXPECT(mqredis_command(mq, "ECHO %s", expected), expected);
    }
    mqredis_close(mq);
}
END_TEST

START_TEST(test_blocking_command_gets_its_element)
{
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    struct mqredis *mq = lib_open(&m);
    struct mqredis_request *blocked = mqredis_submit(mq, "BLPOP list 0");
    mqredis_flush(mq);
    ck_assert(!mqredis_wait_done(blocked, 50));
    EXPECT(mqredis_command(mq, "RPUSH list v"), "1");
    struct mqredis_reply *reply = mqredis_wait(blocked);
    ck_assert_int_eq(reply->type, MQREDIS_ARRAY);
    ck_assert_str_eq(reply->element[1]->str, "v");
    mqredis_free(reply);
    mqredis_close(mq);
}
END_TEST

START_TEST(test_submitted_batch_is_one_request)
{
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    struct mqredis *mq = lib_open(&m);
    struct mqredis_request *before = mqredis_submit(mq, "SET n 1");
    struct mqredis_batch *b = mqredis_batch_new(mq);
    mqredis_batch_add(b, "INCR n");
    mqredis_batch_add(b, "INCR n");
    struct mqredis_request *batch = mqredis_batch_submit(b);
    struct mqredis_request *after = mqredis_submit(mq, "INCR n");
    EXPECT(mqredis_wait(after), "4");
    struct mqredis_reply *reply = mqredis_wait(batch);
    ck_assert_int_eq(reply->type, MQREDIS_BATCH);
    ck_assert_int_eq(reply->element[0]->integer, 2);
    ck_assert_int_eq(reply->element[1]->integer, 3);
    mqredis_free(reply);
    EXPECT(mqredis_wait(before), "OK");
    b = mqredis_batch_new(mq);
    mqredis_batch_add(b, "GET %q");
    ck_assert_int_eq(lib_status(mqredis_wait(mqredis_batch_submit(b))),
                     MQREDIS_INVALID);
    mqredis_close(mq);
}
END_TEST

/* ---- the caller's poll loop ---- */

/* Waits on the handle's descriptor until a request is done. */
static struct mqredis_request *next_by_fd(struct mqredis *mq, int fd)
{
    for (;;) {
        struct mqredis_request *q = mqredis_wait_any(mq, 0);
        if (q != NULL)
            return q;
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ck_assert_int_eq(poll(&p, 1, (int)support_wait_ms()), 1);
    }
}

START_TEST(test_descriptor_drives_a_poll_loop)
{
    enum { COUNT = 3000 };
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    struct mqredis *mq = lib_open(&m);
    int fd = mqredis_fd(mq);
    ck_assert_int_ge(fd, 0);
    static int64_t number[COUNT];
    for (int i = 0; i < COUNT; i++)
        mqredis_set_data(mqredis_submit(mq, "ECHO %d", i), &number[i]);
    for (int i = 0; i < COUNT; i++) {
        struct mqredis_request *q = next_by_fd(mq, fd);
        int64_t *mark = mqredis_data(q);
        struct mqredis_reply *reply = mqredis_wait(q);
        ck_assert_msg(reply->type == MQREDIS_STRING, "%s", lib_text(reply));
        ck_assert_int_eq(atoi(reply->str), mark - number);
        ck_assert_int_eq((*mark)++, 0);
        mqredis_free(reply);
    }
    ck_assert_ptr_null(mqredis_wait_any(mq, 0));
    struct pollfd p = {.fd = fd, .events = POLLIN};
    ck_assert_int_eq(poll(&p, 1, 50), 0);
    mqredis_close(mq);
}
END_TEST

START_TEST(test_descriptor_tells_deadlines_and_death)
{
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    struct mqredis *mq = lib_open(&m);
    int fd = mqredis_fd(mq);
    mqredis_set_timeout(mq, 1500); /* enough to be sent to Redis */
    struct mqredis_request *q = mqredis_submit(mq, "BLPOP list 0");
    ck_assert_ptr_eq(next_by_fd(mq, fd), q);
    ck_assert_int_eq(lib_status(mqredis_wait(q)), MQREDIS_LOST);
    mqredis_set_timeout(mq, -1);
    uint64_t before = e2e_counter(&m, COUNTER_taken);
    q = mqredis_submit(mq, "BLPOP list 0");
    ck_assert(!mqredis_wait_done(q, 50));
    /* What is still in the queue the guardian would answer. */
    ck_assert(UNTIL(e2e_counter(&m, COUNTER_taken) > before));
    e2e_manager_kill(&m);
    ck_assert_ptr_eq(next_by_fd(mq, fd), q);
    ck_assert_int_eq(lib_status(mqredis_wait(q)), MQREDIS_LOST);
    q = mqredis_submit(mq, "GET k");
    ck_assert_ptr_eq(next_by_fd(mq, fd), q);
    ck_assert_int_eq(lib_status(mqredis_wait(q)), MQREDIS_UNAVAILABLE);
    mqredis_close(mq);
}
END_TEST

START_TEST(test_descriptor_mode_never_sleeps_on_a_full_queue)
{
    enum { COUNT = 400, TIMEOUT_MS = 40000 };
    static char value[700];
    memset(value, 'v', sizeof(value));
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, "--capacity 4");
    struct mqredis *mq = lib_open(&m);
    int fd = mqredis_fd(mq);
    /* Whoever sleeps does so for all of it. */
    mqredis_set_timeout(mq, TIMEOUT_MS);
    support_stop(m.pid);
    uint64_t t0 = clock_ns();
    for (int i = 0; i < COUNT; i++) {
        ck_assert_ptr_nonnull(
            mqredis_submit(mq, "SET k%d %b", i, value, sizeof(value)));
        mqredis_flush(mq);
    }
    ck_assert_uint_lt((clock_ns() - t0) / NS_PER_MS, TIMEOUT_MS / 2);
    kill(m.pid, SIGCONT);
    for (int i = 0; i < COUNT; i++)
        EXPECT(mqredis_wait(next_by_fd(mq, fd)), "OK");
    mqredis_close(mq);
}
END_TEST

/* What happens just before the library looks at its descriptors, once. */
static void (*before_look)(void);

int epoll_wait(int fd, struct epoll_event *events, int most, int timeout_ms)
{
    void (*happens)(void) = before_look;
    before_look = NULL;
    if (happens != NULL)
        happens();
    return (int)syscall(SYS_epoll_pwait, fd, events, most, timeout_ms, NULL, 0);
}

static struct e2e_manager full;
static uint64_t taken_before;

static void empty_the_queue(void)
{
    kill(full.pid, SIGCONT);
    ck_assert(UNTIL(e2e_counter(&full, COUNTER_taken) > taken_before));
}

/* The queue was full at the last try to send, and is not when the descriptors
 * are looked at: who then sleeps must be woken, though no answer is due. */
START_TEST(test_descriptor_tells_of_a_place_that_came_in_between)
{
    struct e2e_redis r;
    e2e_start(&r, &full, _i, "--capacity 1");
    struct mqredis *other = lib_open(&full);
    struct mqredis *mq = lib_open(&full);
    struct pollfd p = {.fd = mqredis_fd(mq), .events = POLLIN};
    mqredis_set_timeout(mq, -1);
    ck_assert_ptr_null(mqredis_wait_any(mq, 0));
    taken_before = e2e_counter(&full, COUNTER_taken);
    support_stop(full.pid);
    struct mqredis_request *fills = mqredis_submit(other, "PING");
    mqredis_flush(other);
    struct mqredis_request *q = mqredis_submit(mq, "INCR n");
    before_look = empty_the_queue;
    ck_assert_ptr_null(mqredis_wait_any(mq, 0));
    ck_assert(before_look == NULL);
    ck_assert_int_eq(poll(&p, 1, (int)support_wait_ms()), 1);
    ck_assert_ptr_eq(next_by_fd(mq, p.fd), q);
    EXPECT(mqredis_wait(q), "1");
    EXPECT(mqredis_wait(fills), "PONG");
    mqredis_close(mq);
    mqredis_close(other);
}
END_TEST

START_TEST(test_descriptor_tells_of_room_that_a_cancelled_request_left)
{
    struct e2e_redis r;
    struct e2e_manager m;
    e2e_start(&r, &m, _i, NULL);
    struct mqredis *mq = lib_open(&m);
    struct pollfd p = {.fd = mqredis_fd(mq), .events = POLLIN};
    mqredis_set_timeout(mq, -1);
    mqredis_set_window(mq, 1);
    struct mqredis_request *blocks = mqredis_submit(mq, "BLPOP list 0");
    mqredis_flush(mq);
    struct mqredis_request *q = mqredis_submit(mq, "INCR n");
    ck_assert_ptr_null(mqredis_wait_any(mq, 0));
    ck_assert_uint_eq(mqredis_unsent(mq), 1);
    mqredis_cancel(blocks);
    ck_assert_int_eq(poll(&p, 1, (int)support_wait_ms()), 1);
    ck_assert_ptr_eq(next_by_fd(mq, p.fd), q);
    EXPECT(mqredis_wait(q), "1");
    mqredis_close(mq);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("lib_async");
    TCase *calls = tcase_create("async");
    /* For each test: a queue that stayed is charged to the user. */
    tcase_add_checked_fixture(calls, support_scratch_setup,
                              support_scratch_teardown);
    tcase_add_checked_fixture(calls, NULL, e2e_stop_all);
    tcase_set_timeout(calls, 60);
    e2e_add(calls, test_submitted_commands_keep_their_order_in_few_messages);
    e2e_add(calls, test_wait_any_gives_each_request_once);
    e2e_add(calls, test_wait_ends_in_time_with_more_to_send);
    e2e_add(calls, test_cancelled_before_sending_is_not_executed);
    e2e_add(calls, test_blocking_command_holds_up_nobody_and_can_be_cancelled);
    e2e_add(calls, test_blocking_command_gets_its_element);
    e2e_add(calls, test_submitted_batch_is_one_request);
    e2e_add(calls, test_descriptor_drives_a_poll_loop);
    e2e_add(calls, test_descriptor_tells_deadlines_and_death);
    e2e_add(calls, test_descriptor_mode_never_sleeps_on_a_full_queue);
    e2e_add(calls, test_descriptor_tells_of_a_place_that_came_in_between);
    e2e_add(calls, test_descriptor_tells_of_room_that_a_cancelled_request_left);
    suite_add_tcase(s, calls);
    return support_run(s);
}
