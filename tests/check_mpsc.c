/* The bounded channel: order, and senders that sleep while it is full. How it
 * is closed is in check_mpsc_closed; queues that are reused, refused or in the
 * way are in check_mpsc_queue. */
#include "ipc/mpsc.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "tests/mpsc_stage.h"
#include "tests/support.h"
#include "tests/support_run.h"

/* ---- bounded, in order ---- */

START_TEST(test_holds_its_capacity_and_no_more)
{
    struct stage *s = stage_started();
    struct mpsc_sender tx;
    long depth, capacity;
    stage_join(&tx, s);
    ck_assert_uint_eq(tx.msgsize, MSGSIZE);
    ck_assert_uint_eq(tx.epoch, 1);
    stage_fill(s, &tx);
    ck_assert_int_eq(mpsc_try_send(&tx, "x", 1), ERR_AGAIN);
    ck_assert_int_eq(mpsc_sender_depth(&tx, &depth, &capacity), ERR_OK);
    ck_assert_int_eq(depth, s->rx.capacity);
    ck_assert_int_eq(capacity, s->rx.capacity);
    if (capacity != MPSC_CAPACITY)
        support_skip("capacity of 32", "fs.mqueue.msg_max is too low here");
    struct note n;
    ck_assert_int_eq(stage_receive(&s->rx, &n), ERR_OK);
    ck_assert_int_eq(mpsc_try_send(&tx, "x", 1), ERR_OK);
    mpsc_sender_close(&tx);
    stage_end(s);
}
END_TEST

START_TEST(test_messages_of_one_sender_come_in_order)
{
    enum { SENDERS = 4, EACH = 500 };
    struct stage *s = stage_started();
    struct part parts[SENDERS];
    pid_t pids[SENDERS];
    uint32_t next[SENDERS] = {0};
    struct mpsc_sender hold; /* one may be gone before the next has joined */
    stage_join(&hold, s);
    for (uint32_t i = 0; i < SENDERS; i++) {
        parts[i] = (struct part){.stage = s, .sender = i, .count = EACH};
        pids[i] = support_fork(part_send_all, &parts[i]);
    }
    struct note n;
    for (int i = 0; i < SENDERS * EACH; i++) {
        ck_assert_int_eq(stage_receive(&s->rx, &n), ERR_OK);
        ck_assert_uint_lt(n.sender, SENDERS);
        ck_assert_uint_eq(n.sequence, next[n.sender]++);
    }
    mpsc_sender_close(&hold);
    ck_assert_int_eq(stage_receive(&s->rx, &n), ERR_CLOSED);
    for (int i = 0; i < SENDERS; i++)
        ck_assert_int_eq(support_join(pids[i]), 0);
    stage_end(s);
}
END_TEST

/* Ours all have priority 0; another one's is told, so that it can be refused.
 */
START_TEST(test_priority_is_told)
{
    struct stage *s = stage_started();
    struct mpsc_sender tx;
    char buf[MSGSIZE];
    size_t len;
    unsigned priority = 99;
    stage_join(&tx, s);
    ck_assert_int_eq(mpsc_send(&tx, "ours", 4, 0), ERR_OK);
    ck_assert_int_eq(mq_send(tx.mq, "theirs", 6, 5), 0);
    ck_assert_int_eq(mpsc_receive(&s->rx, buf, sizeof(buf), &len, &priority),
                     ERR_OK);
    ck_assert_uint_eq(priority, 5);
    ck_assert_mem_eq(buf, "theirs", len);
    ck_assert_int_eq(mpsc_receive(&s->rx, buf, sizeof(buf), &len, &priority),
                     ERR_OK);
    ck_assert_uint_eq(priority, 0);
    ck_assert_int_eq(mpsc_receive(&s->rx, buf, sizeof(buf), &len, &priority),
                     ERR_AGAIN);
    mpsc_sender_close(&tx);
    stage_end(s);
}
END_TEST

START_TEST(test_sizes_of_messages)
{
    struct stage *s = stage_started();
    struct mpsc_sender tx;
    char out[MSGSIZE + 1], in[MSGSIZE];
    size_t len;
    unsigned priority;
    stage_join(&tx, s);
    for (size_t i = 0; i < sizeof(out); i++)
        out[i] = (char)(i * 7);
    ck_assert_int_eq(mpsc_send(&tx, out, MSGSIZE, 0), ERR_OK);
    ck_assert_int_eq(mpsc_send(&tx, out, MSGSIZE + 1, 0), ERR_LIMIT);
    ck_assert_int_eq(mpsc_try_send(&tx, out, MSGSIZE + 1), ERR_LIMIT);
    ck_assert_int_eq(mpsc_try_send(&tx, out, 0), ERR_OK);
    ck_assert_int_eq(mpsc_depth(&s->rx), 2);
    ck_assert_int_eq(mpsc_receive(&s->rx, in, sizeof(in), &len, &priority),
                     ERR_OK);
    ck_assert_uint_eq(len, MSGSIZE);
    ck_assert_mem_eq(in, out, MSGSIZE);
    ck_assert_int_eq(mpsc_receive(&s->rx, in, sizeof(in), &len, &priority),
                     ERR_OK);
    ck_assert_uint_eq(len, 0);
    mpsc_sender_close(&tx);
    stage_end(s);
}
END_TEST

/* ---- a full queue ---- */

START_TEST(test_33rd_sender_sleeps_and_uses_no_cpu)
{
    struct stage *s = stage_started();
    struct mpsc_sender tx;
    stage_join(&tx, s);
    stage_fill(s, &tx);
    struct part p = {.stage = s, .sender = 33, .expect = ERR_OK};
    pid_t pid = support_fork(part_send_one, &p);
    ck_assert(support_sleeps_in(pid, SYS_mq_timedsend));
    uint64_t before = support_cpu_ns(pid);
    support_sleep_ms(2500); /* several slices */
    uint64_t used = support_cpu_ns(pid) - before;
    printf("a sleeping sender used %llu us in 2.5 s\n",
           (unsigned long long)used / 1000);
    ck_assert_uint_lt(used, 50 * NS_PER_MS);
    ck_assert(support_sleeps_in(pid, SYS_mq_timedsend));
    ck_assert_int_eq(mpsc_depth(&s->rx), s->rx.capacity);
    struct note n;
    for (long i = 0; i < s->rx.capacity; i++) {
        ck_assert_int_eq(stage_receive(&s->rx, &n), ERR_OK);
        ck_assert_uint_eq(n.sender, 0);
        ck_assert_int_eq((long)n.sequence, i);
    }
    ck_assert_int_eq(stage_receive(&s->rx, &n), ERR_OK);
    ck_assert_uint_eq(n.sender, 33);
    ck_assert_int_eq(support_join(pid), 0);
    mpsc_sender_close(&tx);
    stage_end(s);
}
END_TEST

/* One attempt; false when the machine was too slow for it: after a second's
 * sleep a sender goes to the end of the line, by design. */
static bool wakes_in_order(void)
{
    enum { N = 8 };
    struct stage *s = stage_started();
    struct mpsc_sender tx;
    struct part parts[N];
    pid_t pids[N];
    uint32_t order[N];
    stage_join(&tx, s);
    stage_fill(s, &tx);
    uint64_t since = clock_ns();
    for (uint32_t i = 0; i < N; i++) {
        parts[i] =
            (struct part){.stage = s, .sender = 100 + i, .expect = ERR_OK};
        pids[i] = support_fork(part_send_one, &parts[i]);
        ck_assert(support_sleeps_in(pids[i], SYS_mq_timedsend));
    }
    struct note n;
    for (long i = 0; i < s->rx.capacity; i++)
        ck_assert_int_eq(stage_receive(&s->rx, &n), ERR_OK);
    for (int i = 0; i < N; i++) {
        ck_assert_int_eq(stage_receive(&s->rx, &n), ERR_OK);
        order[i] = n.sender;
    }
    bool in_time = clock_ns() - since < 900 * NS_PER_MS;
    for (int i = 0; i < N; i++)
        ck_assert_int_eq(support_join(pids[i]), 0);
    for (uint32_t i = 0; in_time && i < N; i++)
        ck_assert_uint_eq(order[i], 100 + i);
    mpsc_sender_close(&tx);
    stage_end(s);
    return in_time;
}

START_TEST(test_sleepers_are_woken_in_order_of_arrival)
{
    for (int i = 0; i < 10; i++)
        if (wakes_in_order())
            return;
    support_skip("sleepers_are_woken_in_order", "the machine is too busy");
}
END_TEST

START_TEST(test_deadline_ends_the_sleep)
{
    struct stage *s = stage_started();
    struct mpsc_sender tx;
    stage_join(&tx, s);
    /* One that has passed sends nothing, room or not. */
    ck_assert_int_eq(mpsc_send(&tx, "x", 1, clock_ns()), ERR_TIMEOUT);
    ck_assert_int_eq(mpsc_depth(&s->rx), 0);
    stage_fill(s, &tx);
    static const int64_t waits[] = {30, 1200}; /* less, more than a slice */
    for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
        uint64_t before = clock_ns();
        ck_assert_int_eq(mpsc_send(&tx, "x", 1, clock_deadline(waits[i])),
                         ERR_TIMEOUT);
        int64_t took = (int64_t)((clock_ns() - before) / NS_PER_MS);
        ck_assert_int_ge(took, waits[i]);
        ck_assert_int_lt(took, waits[i] + support_wait_ms() / 2);
    }
    ck_assert_int_eq(mpsc_depth(&s->rx), s->rx.capacity);
    mpsc_sender_close(&tx);
    stage_end(s);
}
END_TEST

START_TEST(test_signals_do_not_end_the_sleep)
{
    struct stage *s = stage_started();
    struct mpsc_sender tx;
    stage_join(&tx, s);
    stage_fill(s, &tx);
    struct part p = {.stage = s, .sender = 7, .expect = ERR_OK};
    pid_t pid = support_fork(part_send_one_under_signals, &p);
    ck_assert(UNTIL(s->ready == 1));
    support_sleep_ms(300);
    ck_assert_int_ne(support_proc_state(pid), 'Z');
    struct note n;
    for (long i = 0; i <= s->rx.capacity; i++)
        ck_assert_int_eq(stage_receive(&s->rx, &n), ERR_OK);
    ck_assert_uint_eq(n.sender, 7);
    ck_assert_int_eq(support_join(pid), 0);
    mpsc_sender_close(&tx);
    stage_end(s);
}
END_TEST

START_TEST(test_sleeper_that_is_killed_sends_nothing)
{
    struct stage *s = stage_started();
    struct mpsc_sender tx;
    stage_join(&tx, s);
    stage_fill(s, &tx);
    struct part p = {.stage = s, .sender = 7, .expect = ERR_OK};
    pid_t pid = support_fork(part_send_one, &p);
    ck_assert(support_sleeps_in(pid, SYS_mq_timedsend));
    support_kill(pid);
    mpsc_sender_close(&tx);
    struct note n;
    for (long i = 0; i < s->rx.capacity; i++) {
        ck_assert_int_eq(stage_receive(&s->rx, &n), ERR_OK);
        ck_assert_uint_eq(n.sender, 0);
    }
    ck_assert_int_eq(stage_receive(&s->rx, &n), ERR_CLOSED);
    stage_end(s);
}
END_TEST

/* ---- several at once ---- */

static void receive_all(void *arg)
{
    struct stage *s = arg;
    struct note n;
    enum err e;
    s->ready++;
    while ((e = stage_receive(&s->rx, &n)) == ERR_OK)
        s->seen[n.sender][n.sequence]++;
    CHILD_REQUIRE(e == ERR_CLOSED);
}

START_TEST(test_each_message_goes_to_exactly_one_of_several_receivers)
{
    enum { RECEIVERS = 3, SENDERS = 4, EACH = 512 };
    struct stage *s = stage_started();
    struct mpsc_sender hold; /* so that it is not closed between senders */
    struct part parts[SENDERS];
    pid_t receivers[RECEIVERS], senders[SENDERS];
    /* Forked first: heirs of the sender's end would hold it open. */
    for (int i = 0; i < RECEIVERS; i++)
        receivers[i] = support_fork(receive_all, s);
    ck_assert(UNTIL(s->ready == RECEIVERS));
    stage_join(&hold, s);
    for (uint32_t i = 0; i < SENDERS; i++) {
        parts[i] = (struct part){.stage = s, .sender = i, .count = EACH};
        senders[i] = support_fork(part_send_all, &parts[i]);
    }
    for (int i = 0; i < SENDERS; i++)
        ck_assert_int_eq(support_join(senders[i]), 0);
    mpsc_sender_close(&hold);
    for (int i = 0; i < RECEIVERS; i++)
        ck_assert_int_eq(support_join(receivers[i]), 0);
    for (int i = 0; i < SENDERS; i++)
        for (int j = 0; j < EACH; j++)
            ck_assert_msg(s->seen[i][j] == 1, "message %d of %d: %u times", j,
                          i, s->seen[i][j]);
    stage_end(s);
}
END_TEST

struct thread_part {
    const struct mpsc_sender *tx;
    uint32_t sender;
    bool ok;
};

static void *send_in_thread(void *arg)
{
    struct thread_part *p = arg;
    p->ok = true;
    for (uint32_t i = 0; i < 300; i++)
        p->ok = p->ok && stage_send(p->tx, p->sender, i) == ERR_OK;
    return NULL;
}

START_TEST(test_threads_may_share_a_sender)
{
    enum { N = 4 };
    struct stage *s = stage_started();
    struct mpsc_sender tx;
    pthread_t threads[N];
    struct thread_part parts[N];
    uint32_t next[N] = {0};
    stage_join(&tx, s);
    for (uint32_t i = 0; i < N; i++) {
        parts[i] = (struct thread_part){.tx = &tx, .sender = i};
        ck_assert_int_eq(
            pthread_create(&threads[i], NULL, send_in_thread, &parts[i]), 0);
    }
    for (int i = 0; i < N * 300; i++) {
        struct note n;
        ck_assert_int_eq(stage_receive(&s->rx, &n), ERR_OK);
        ck_assert_uint_eq(n.sequence, next[n.sender]++);
    }
    for (int i = 0; i < N; i++) {
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
        ck_assert(parts[i].ok);
    }
    mpsc_sender_close(&tx);
    stage_end(s);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("mpsc");
    TCase *t = support_case(s, "channel", 60);
    tcase_add_test(t, test_holds_its_capacity_and_no_more);
    tcase_add_test(t, test_messages_of_one_sender_come_in_order);
    tcase_add_test(t, test_priority_is_told);
    tcase_add_test(t, test_sizes_of_messages);
    tcase_add_test(t, test_33rd_sender_sleeps_and_uses_no_cpu);
    tcase_add_test(t, test_sleepers_are_woken_in_order_of_arrival);
    tcase_add_test(t, test_deadline_ends_the_sleep);
    tcase_add_test(t, test_signals_do_not_end_the_sleep);
    tcase_add_test(t, test_sleeper_that_is_killed_sends_nothing);
    tcase_add_test(t,
                   test_each_message_goes_to_exactly_one_of_several_receivers);
    tcase_add_test(t, test_threads_may_share_a_sender);
    return support_run(s);
}
