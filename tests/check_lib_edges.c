/*
 * The library where something is full, late, given up or gone: what is told
 * then is true of what was sent.
 */
#include <check.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/broadcast.h"
#include "ipc/clock.h"
#include "tests/liar_scene.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define CAPACITY 8
#define UNSENT 1024 /* messages that wait unsent at most */

static const char *const names[] = {"a"};
static const char ping[] = "*1\r\n$4\r\nPING\r\n";

static struct mqredis_request *alone(void)
{
    return mqredis_submit_raw(mq, ping, sizeof(ping) - 1, 1, MQREDIS_RAW_ALONE);
}

/* Takes the reply. */
static void expect(struct mqredis_reply *r, enum mqredis_status status,
                   const char *says)
{
    ck_assert_msg(r->status == status && r->str != NULL &&
                      strstr(r->str, says) != NULL,
                  "%s (waited for %s, %s)", lib_text(r),
                  mqredis_status_str(status), says);
    mqredis_free(r);
}

/* ---- a full queue ---- */

/* Nobody takes anything; what fills the queue is forgotten. */
static void fill_queue(void)
{
    struct mqredis *other = mqredis_open(liar.ch.name, &why);
    ck_assert_ptr_nonnull(other);
    liar_deafen(&liar);
    for (int i = 0; i < CAPACITY; i++) {
        mqredis_submit_raw(other, ping, sizeof(ping) - 1, 1, MQREDIS_RAW_ALONE);
        mqredis_flush(other);
    }
    ck_assert_int_eq(mpsc_depth(&liar.rx), CAPACITY);
    mqredis_close(other);
}

START_TEST(test_a_subscription_waits_for_a_place_and_gives_up)
{
    struct mqredis_event ev;
    begin();
    fill_queue();
    mqredis_set_timeout(mq, 80);
    ck_assert_ptr_null(mqredis_subscribe(mq, 1, names, NULL, &why));
    ck_assert_int_eq(why.status, MQREDIS_EXPIRED);
    ck_assert_ptr_nonnull(strstr(why.text, "full queue: not subscribed"));
    /* Without waiting: it is told by the stream that the manager is gone. */
    mqredis_set_timeout(mq, -1);
    struct mqredis_stream *s =
        mqredis_stream_open(mq, MQREDIS_TOPIC_CHANNEL, 1, names, NULL, &why);
    ck_assert_msg(s != NULL, "%s", why.text);
    ck_assert(!mqredis_stream_next(s, 0, &ev));
    liar_leave(&liar);
    ck_assert(mqredis_stream_next(s, support_wait_ms(), &ev));
    ck_assert_int_eq(ev.type, MQREDIS_END);
    ck_assert_int_eq(ev.status, MQREDIS_UNAVAILABLE);
    mqredis_stream_close(s);
    ck_assert_uint_eq(liar.asked, 0);
    end();
}
END_TEST

static void *subscribe_later(void *arg)
{
    (void)arg;
    return mqredis_subscribe(mq, 1, names, NULL, &why);
}

START_TEST(test_a_manager_ends_under_a_subscription_that_sleeps)
{
    void *stream = &stream;
    pthread_t thread;
    begin();
    fill_queue();
    mqredis_set_timeout(mq, -1);
    ck_assert_int_eq(pthread_create(&thread, NULL, subscribe_later, NULL), 0);
    ck_assert(UNTIL(reply_pipes() == 1));
    support_sleep_ms(50); /* to the queue, on which it sleeps */
    liar_leave(&liar);
    pthread_join(thread, &stream);
    ck_assert_ptr_null(stream);
    ck_assert_int_eq(why.status, MQREDIS_UNAVAILABLE);
    ck_assert_int_eq(reply_pipes(), 0);
    end();
}
END_TEST

/* In a loop of the caller's nothing sleeps: it waits unsent, until its time is
 * over or there is too much of it. */
START_TEST(test_what_cannot_be_sent_is_bounded_in_time_and_number)
{
    enum { MORE = 5 };
    static struct mqredis_request *q[UNSENT + MORE];
    begin();
    fill_queue();
    struct pollfd p = {.fd = mqredis_fd(mq), .events = POLLIN};
    mqredis_set_timeout(mq, 100);
    for (int i = 0; i < UNSENT + MORE; i++)
        q[i] = alone();
    ck_assert_uint_eq(mqredis_unsent(mq), UNSENT);
    for (int i = UNSENT; i < UNSENT + MORE; i++) {
        ck_assert(mqredis_wait_done(q[i], 0));
        expect(mqredis_wait(q[i]), MQREDIS_TOO_BIG, "submit less at once");
    }
    mqredis_flush(mq);
    for (int left = UNSENT; left > 0;) {
        struct mqredis_request *one = mqredis_wait_any(mq, 0);
        if (one == NULL) {
            ck_assert_int_eq(poll(&p, 1, (int)support_wait_ms()), 1);
            continue;
        }
        expect(mqredis_wait(one), MQREDIS_EXPIRED, "not executed");
        left--;
    }
    ck_assert_uint_eq(mqredis_unsent(mq), 0);
    ck_assert_uint_eq(liar.asked, 0);
    end();
}
END_TEST

/* ---- given up, and what comes nevertheless ---- */

/* Two in one message; the second is given up once it was sent. */
static struct mqredis_request *two_and_cancel(uint32_t asked)
{
    struct mqredis_request *first = mqredis_submit(mq, "ECHO a");
    struct mqredis_request *second = mqredis_submit(mq, "ECHO b");
    mqredis_flush(mq);
    liar_hears(&liar, asked);
    mqredis_cancel(second);
    return first;
}

START_TEST(test_answers_to_what_was_given_up_harm_nobody)
{
    static char large[12000], text[9000];
    static const struct lie only_first = {
        .chunks = {{.count = 1, .body = "+a\r\n"}}};
    static const struct lie to_both = {
        .chunks = {
            {.count = 2, .flags = REPLY_END, .status = 1, .body = text}}};
    static const struct lie large_second = {
        .chunks = {
            {.count = 1, .body = "+a\r\n"},
            {.first = 1, .count = 1, .flags = REPLY_END, .body = large}}};
    begin();
    liar_hush(&liar);
    /* The rest never comes, and is not waited for; nor is its pipe kept. */
    struct mqredis_request *q = two_and_cancel(1);
    liar_tells(&liar, 0, &only_first);
    expect(mqredis_wait(q), MQREDIS_OK, "a");
    ck_assert_int_eq(reply_pipes(), 0);
    /* A refusal of both, longer than anybody reads. */
    memset(text, 't', sizeof(text) - 1);
    q = two_and_cancel(2);
    liar_tells(&liar, 1, &to_both);
    struct mqredis_reply *r = mqredis_wait(q);
    ck_assert_int_eq(r->status, MQREDIS_INVALID);
    ck_assert_uint_gt(r->len, 1000);
    ck_assert_uint_lt(r->len, 2000);
    ck_assert_uint_eq(strspn(r->str, "t"), r->len);
    mqredis_free(r);
    /* A long reply, where nobody has a place for it. */
    int head = snprintf(large, sizeof(large), "$%d\r\n", 11000);
    memset(large + head, 'l', 11000);
    memcpy(large + head + 11000, "\r\n", 3);
    q = two_and_cancel(3);
    liar_tells(&liar, 2, &large_second);
    expect(mqredis_wait(q), MQREDIS_OK, "a");
    liar_says(&liar, NULL);
    expect(mqredis_command(mq, "PING"), MQREDIS_OK, "OK");
    end();
}
END_TEST

/* ---- managers come and go ---- */

/* Both were taken, one was answered, by the guardian; and so for the caller who
 * waits for one command. */
START_TEST(test_a_certain_answer_of_a_guardian_counts)
{
    begin();
    liar_hush(&liar);
    struct mqredis_request *first = alone();
    mqredis_flush(mq);
    struct mqredis_request *second = alone();
    mqredis_flush(mq);
    liar_hears(&liar, 2);
    liar_leave(&liar);
    liar_tells(&liar, 0, NULL);
    expect(mqredis_wait(second), MQREDIS_LOST, "may have been executed");
    expect(mqredis_wait(first), MQREDIS_OK, "OK");
    expect(mqredis_command(mq, "PING"), MQREDIS_UNAVAILABLE, "no manager");
    end();
}
END_TEST

START_TEST(test_requests_of_two_managers_at_once)
{
    begin();
    liar_hush(&liar);
    struct mqredis_request *old = alone();
    mqredis_flush(mq);
    liar_hears(&liar, 1);
    liar_leave(&liar);
    liar_return(&liar);
    struct mqredis_request *new = alone();
    mqredis_flush(mq);
    liar_hears(&liar, 2);
    /* The old one's end is not the new one's. */
    ck_assert(mqredis_wait_done(old, support_wait_ms()));
    ck_assert(!mqredis_wait_done(new, 50));
    liar_tells(&liar, 1, NULL);
    expect(mqredis_wait(new), MQREDIS_OK, "OK");
    expect(mqredis_wait(old), MQREDIS_LOST, "its manager died");
    end();
}
END_TEST

/* Nobody is there; then somebody is. */
START_TEST(test_what_a_handle_says_while_no_manager_is_there)
{
    struct mqredis_info info;
    begin();
    expect(mqredis_wait(mqredis_submit(mq, "PING")), MQREDIS_OK, "OK");
    liar_leave(&liar);
    ck_assert_int_eq(mqredis_info(mq, &info, &why), MQREDIS_UNAVAILABLE);
    ck_assert_int_eq(mqredis_wait_ready(mq, 30, &why), MQREDIS_UNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(why.text, "start one with"));
    liar_return(&liar);
    status_set_state(liar.status, &liar.state, STATE_CONNECTED);
    ck_assert_int_eq(mqredis_wait_ready(mq, support_wait_ms(), &why),
                     MQREDIS_OK);
    ck_assert_int_eq(mqredis_info(mq, &info, &why), MQREDIS_OK);
    expect(mqredis_wait(mqredis_submit(mq, "PING")), MQREDIS_OK, "OK");
    /* One that has no state is on its way. */
    ck_assert_int_eq(unlinkat(liar.ch.dirfd, "status", 0), 0);
    ck_assert_int_eq(mqredis_info(mq, &info, &why), MQREDIS_UNAVAILABLE);
    end();
}
END_TEST

/* It looks before it sleeps, and finds the same. */
START_TEST(test_spinning_waits_end_the_same)
{
    begin();
    mqredis_set_spin(mq, MQREDIS_SPIN_MAX_US);
    for (int i = 0; i < 200; i++)
        expect(mqredis_wait(mqredis_submit(mq, "PING")), MQREDIS_OK, "OK");
    liar_hush(&liar);
    mqredis_set_timeout(mq, 1000);
    expect(mqredis_wait(mqredis_submit(mq, "PING")), MQREDIS_LOST,
           "may have been executed");
    end();
}
END_TEST

/* ---- fork ---- */

static void *ask_and_wait(void *arg)
{
    (void)arg;
    return mqredis_command(mq, "ECHO mine");
}

static void use_in_child(void *arg)
{
    struct mqredis_stream *const *s = arg;
    struct mqredis_event ev;
    for (int i = 0; i < 2; i++) {
        CHILD_REQUIRE(mqredis_stream_next(s[i], 0, &ev));
        CHILD_REQUIRE(ev.type == MQREDIS_END && ev.status == MQREDIS_INVALID);
        CHILD_REQUIRE(mqredis_stream_renew(s[i], 0, &why) == MQREDIS_INVALID);
        CHILD_REQUIRE(strstr(why.text, "parent's") != NULL);
    }
    struct mqredis_reply *r = mqredis_command(mq, "ECHO child's");
    CHILD_REQUIRE(r->status == MQREDIS_OK && strcmp(r->str, "child") == 0);
    mqredis_free(r);
    mqredis_close(mq);
}

/* While a thread waits for a reply, with streams of a manager that has gone and
 * of none: the child has its own way, and takes nothing from the parent. */
START_TEST(test_fork_in_the_middle_of_everything)
{
    static const struct lie refusal = {.chunks = {{.count = 1,
                                                   .flags = REPLY_END,
                                                   .status = REPLY_LOST,
                                                   .body = "over"}}};
    static const struct lie to_child = {
        .chunks = {{.count = 1, .flags = REPLY_END, .body = "+child\r\n"}}};
    static const struct lie to_parent = {
        .chunks = {{.count = 1, .flags = REPLY_END, .body = "+mine\r\n"}}};
    struct mqredis_stream *s[2];
    struct mqredis_event ev;
    pthread_t thread;
    begin();
    for (int i = 0; i < 2; i++)
        ck_assert_ptr_nonnull(s[i] =
                                  mqredis_subscribe(mq, 1, names, NULL, &why));
    liar_leave(&liar);
    liar_return(&liar);
    /* One that could not be renewed has no pipe. */
    do
        ck_assert(mqredis_stream_next(s[0], support_wait_ms(), &ev));
    while (ev.type != MQREDIS_END);
    liar_says(&liar, &refusal);
    ck_assert_int_eq(mqredis_stream_renew(s[0], support_wait_ms(), &why),
                     MQREDIS_LOST);
    uint32_t asked = liar.asked;
    liar_hush(&liar);
    ck_assert_int_eq(pthread_create(&thread, NULL, ask_and_wait, NULL), 0);
    liar_hears(&liar, asked + 1);
    pid_t child = support_fork(use_in_child, s);
    liar_hears(&liar, asked + 2);
    liar_tells(&liar, asked + 1, &to_child);
    ck_assert_int_eq(support_join(child), 0);
    liar_tells(&liar, asked, &to_parent);
    void *reply;
    pthread_join(thread, &reply);
    expect(reply, MQREDIS_OK, "mine");
    mqredis_stream_close(s[0]);
    mqredis_stream_close(s[1]);
    ck_assert_int_eq(reply_pipes(), 1);
    end();
}
END_TEST

static void use_the_others(void *arg)
{
    struct mqredis *const *handle = arg;
    for (int i = 0; i < 2; i++) {
        struct mqredis_reply *r = mqredis_command(handle[i], "PING");
        CHILD_REQUIRE(r->status == MQREDIS_OK);
        mqredis_free(r);
        mqredis_close(handle[i]);
    }
}

/* Closed in an order of their own, those that are left go through a fork. */
START_TEST(test_handles_and_streams_are_closed_in_any_order)
{
    struct mqredis *handle[4];
    struct mqredis_stream *s[3];
    begin();
    for (int i = 0; i < 4; i++)
        ck_assert_ptr_nonnull(handle[i] = mqredis_open(liar.ch.name, &why));
    mqredis_close(handle[1]);
    mqredis_close(handle[0]);
    ck_assert_int_eq(support_join(support_fork(use_the_others, handle + 2)), 0);
    for (int i = 0; i < 3; i++)
        ck_assert_ptr_nonnull(s[i] =
                                  mqredis_subscribe(mq, 1, names, NULL, &why));
    mqredis_stream_close(s[1]);
    mqredis_stream_close(s[0]);
    ck_assert_int_eq(reply_pipes(), 1);
    expect(mqredis_command(handle[3], "PING"), MQREDIS_OK, "OK");
    mqredis_close(handle[3]);
    mqredis_close(handle[2]);
    end();
    /* s[2] went with its handle. */
}
END_TEST

int main(void)
{
    Suite *s = suite_create("lib_edges");
    TCase *edges = tcase_create("edges");
    tcase_add_checked_fixture(edges, support_scratch_setup,
                              support_scratch_teardown);
    tcase_set_timeout(edges, 60);
    tcase_add_test(edges, test_a_subscription_waits_for_a_place_and_gives_up);
    tcase_add_test(edges, test_a_manager_ends_under_a_subscription_that_sleeps);
    tcase_add_test(edges,
                   test_what_cannot_be_sent_is_bounded_in_time_and_number);
    tcase_add_test(edges, test_answers_to_what_was_given_up_harm_nobody);
    tcase_add_test(edges, test_a_certain_answer_of_a_guardian_counts);
    tcase_add_test(edges, test_requests_of_two_managers_at_once);
    tcase_add_test(edges, test_what_a_handle_says_while_no_manager_is_there);
    tcase_add_test(edges, test_spinning_waits_end_the_same);
    tcase_add_test(edges, test_fork_in_the_middle_of_everything);
    tcase_add_test(edges, test_handles_and_streams_are_closed_in_any_order);
    suite_add_tcase(s, edges);
    return support_run(s);
}
