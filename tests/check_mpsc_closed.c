/* Both ways in which the bounded channel is closed, with processes that are
 * killed at every point. */
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

/* ---- closed: every sender is gone ---- */

START_TEST(test_not_closed_before_the_first_sender)
{
    struct stage *s = stage_started();
    char buf[MSGSIZE];
    size_t len;
    unsigned priority;
    ck_assert(!mpsc_senders_gone(&s->rx));
    ck_assert(!mpsc_senders_left(&s->rx));
    ck_assert_int_eq(mpsc_receive_wait(&s->rx, buf, sizeof(buf),
                                       clock_deadline(50), &len, &priority),
                     ERR_TIMEOUT);
    stage_end(s);
}
END_TEST

START_TEST(test_closed_once_every_sender_is_killed)
{
    enum { N = 3 };
    struct stage *s = stage_started();
    struct part p = {.stage = s, .sender = 5, .count = 2};
    pid_t pids[N];
    for (int i = 0; i < N; i++)
        pids[i] = support_fork(part_send_and_stay, &p);
    ck_assert(UNTIL(s->ready == N));
    for (int i = 0; i < N; i++) {
        ck_assert(!mpsc_senders_gone(&s->rx));
        ck_assert(mpsc_senders_left(&s->rx));
        support_kill(pids[i]);
    }
    ck_assert(UNTIL(mpsc_senders_gone(&s->rx)));
    ck_assert(!mpsc_senders_left(&s->rx));
    struct note n;
    for (int i = 0; i < N * 2; i++)
        ck_assert_int_eq(stage_receive(&s->rx, &n), ERR_OK);
    ck_assert_int_eq(stage_receive(&s->rx, &n), ERR_CLOSED);
    ck_assert_int_eq(stage_receive(&s->rx, &n), ERR_CLOSED);
    /* A newcomer opens it again. */
    struct mpsc_sender tx;
    stage_join(&tx, s);
    ck_assert(!mpsc_senders_gone(&s->rx));
    ck_assert_int_eq(stage_send(&tx, 9, 9), ERR_OK);
    ck_assert_int_eq(stage_receive(&s->rx, &n), ERR_OK);
    mpsc_sender_close(&tx);
    ck_assert_int_eq(stage_receive(&s->rx, &n), ERR_CLOSED);
    stage_end(s);
}
END_TEST

/* A child: what remains after fork() of a process that joined. */
struct clone {
    struct stage *stage;
    struct mpsc_sender tx;
};

static void be_a_clone(void *arg)
{
    const struct clone *c = arg;
    CHILD_REQUIRE(stage_send(&c->tx, 2, 0) == ERR_OK);
    c->stage->ready = 1;
    while (!c->stage->go)
        support_sleep_ms(2);
}

START_TEST(test_sender_is_cloned_by_fork_and_the_heir_counts)
{
    struct stage *s = stage_started();
    struct clone c = {.stage = s};
    struct note n;
    stage_join(&c.tx, s);
    ck_assert_int_eq(stage_send(&c.tx, 1, 0), ERR_OK);
    pid_t pid = support_fork(be_a_clone, &c);
    ck_assert(UNTIL(s->ready));
    mpsc_sender_close(&c.tx);
    ck_assert_int_eq(stage_receive(&s->rx, &n), ERR_OK);
    ck_assert_uint_eq(n.sender, 1);
    ck_assert_int_eq(stage_receive(&s->rx, &n), ERR_OK);
    ck_assert_uint_eq(n.sender, 2);
    ck_assert(!mpsc_senders_gone(&s->rx));
    ck_assert(mpsc_senders_left(&s->rx));
    support_kill(pid);
    ck_assert_int_eq(stage_receive(&s->rx, &n), ERR_CLOSED);
    stage_end(s);
}
END_TEST

/* exec() ends an heir's part: the descriptors are close-on-exec. */
static void run_sleep(void *arg)
{
    struct stage *s = arg;
    s->ready = 1;
    execlp("sleep", "sleep", "60", (char *)NULL);
    _exit(127);
}

START_TEST(test_program_that_a_sender_starts_is_no_sender)
{
    struct stage *s = stage_started();
    struct mpsc_sender tx;
    struct note n;
    stage_join(&tx, s);
    pid_t pid = support_fork(run_sleep, s);
    ck_assert(UNTIL(s->ready));
    mpsc_sender_close(&tx);
    ck_assert_int_eq(stage_receive(&s->rx, &n), ERR_CLOSED);
    ck_assert_int_ne(support_proc_state(pid), '\0');
    support_kill(pid);
    stage_end(s);
}
END_TEST

START_TEST(test_drain_after_hup_loses_nothing)
{
    enum { ROUNDS = 100, EACH = 6 };
    struct stage *s = stage_started();
    for (int round = 0; round < ROUNDS; round++) {
        struct part p = {.stage = s, .sender = 1, .count = EACH};
        pid_t pid = support_fork(part_send_all, &p);
        struct note n;
        if (round % 2 == 0) /* seen as gone before anything is taken */
            ck_assert(UNTIL(mpsc_senders_gone(&s->rx)));
        for (uint32_t i = 0; i < EACH; i++) {
            enum err e;
            /* The last round's end may be all there is to see yet. */
            ck_assert(UNTIL((e = stage_receive(&s->rx, &n)) != ERR_CLOSED));
            ck_assert_int_eq(e, ERR_OK);
            ck_assert_uint_eq(n.sequence, i);
        }
        ck_assert_int_eq(stage_receive(&s->rx, &n), ERR_CLOSED);
        ck_assert_int_eq(support_join(pid), 0);
        ck_assert_int_eq(mpsc_depth(&s->rx), 0);
        /* Round by round on a fresh end, so that HUP is this round's. */
        close(s->rx.senders_fd);
        ck_assert_int_eq(
            channel_open_fifo(&s->ch, "senders", O_RDONLY, &s->rx.senders_fd),
            ERR_OK);
    }
    stage_end(s);
}
END_TEST

static void write_junk(void *arg)
{
    const struct stage *s = arg;
    static const char junk[4096];
    int fd;
    CHILD_REQUIRE(channel_open_fifo(&s->ch, "senders", O_WRONLY, &fd) ==
                  ERR_OK);
    for (;;)
        if (write(fd, junk, sizeof(junk)) < 0)
            CHILD_REQUIRE(errno == EAGAIN);
}

/* Members of a group may write to `senders`: that must hold up nobody. */
START_TEST(test_bytes_in_senders_are_passed_over)
{
    struct stage *s = stage_started();
    struct mpsc_sender tx;
    pid_t pids[2];
    stage_join(&tx, s);
    ck_assert_int_eq(write(tx.senders_fd, "junk", 4), 4);
    ck_assert(mpsc_senders_left(&s->rx));
    for (int i = 0; i < 2; i++)
        pids[i] = support_fork(write_junk, s);
    for (int i = 0; i < 2000; i++)
        ck_assert(mpsc_senders_left(&s->rx));
    for (int i = 0; i < 2; i++)
        support_kill(pids[i]);
    mpsc_sender_close(&tx);
    ck_assert(UNTIL(!mpsc_senders_left(&s->rx)));
    ck_assert(mpsc_senders_gone(&s->rx));
    stage_end(s);
}
END_TEST

/* ---- closed: the receiver is gone ---- */

static void be_the_receiver(void *arg)
{
    struct stage *s = arg;
    CHILD_REQUIRE(stage_start(s, 1) == ERR_OK);
    s->ready = 1;
    while (!s->go)
        support_sleep_ms(2);
    mpsc_receiver_close(&s->rx);
}

static pid_t start_receiver(struct stage *s)
{
    s->ready = 0;
    pid_t pid = support_fork(be_the_receiver, s);
    ck_assert(UNTIL(s->ready));
    s->ready = 0;
    return pid;
}

/* The child's descriptors in the shared stage are not ours. */
static void forget_receiver(struct stage *s)
{
    mpsc_unlink(&s->rx);
    s->rx.mq = (mqd_t)-1;
    s->rx.senders_fd = s->rx.receiver_fd = -1;
}

START_TEST(test_send_fails_once_the_receiver_is_killed)
{
    struct stage *s = stage_new();
    pid_t pid = start_receiver(s);
    struct mpsc_sender tx;
    stage_join(&tx, s);
    ck_assert(mpsc_receiver_alive(&tx));
    ck_assert_int_eq(stage_send(&tx, 1, 0), ERR_OK);
    support_kill(pid);
    ck_assert(UNTIL(!mpsc_receiver_alive(&tx)));
    /* Though there is room in the queue. */
    ck_assert_int_eq(stage_send(&tx, 1, 1), ERR_CLOSED);
    ck_assert_int_eq(mpsc_try_send(&tx, "x", 1), ERR_CLOSED);
    long depth, capacity;
    ck_assert_int_eq(mpsc_sender_depth(&tx, &depth, &capacity), ERR_OK);
    ck_assert_int_eq(depth, 1);
    mpsc_sender_close(&tx);
    forget_receiver(s);
    stage_end(s);
}
END_TEST

START_TEST(test_send_fails_once_the_receiver_closed)
{
    struct stage *s = stage_new();
    pid_t pid = start_receiver(s);
    struct mpsc_sender tx;
    stage_join(&tx, s);
    s->go = 1;
    ck_assert_int_eq(support_join(pid), 0);
    ck_assert_int_eq(stage_send(&tx, 1, 1), ERR_CLOSED);
    mpsc_sender_close(&tx);
    forget_receiver(s);
    stage_end(s);
}
END_TEST

/* Loops over: no signals, and signals which interrupt every sleep. */
START_TEST(test_sleeper_is_told_of_the_receivers_death)
{
    struct stage *s = stage_new();
    pid_t manager = start_receiver(s);
    struct mpsc_sender tx;
    stage_join(&tx, s);
    while (mpsc_try_send(&tx, "x", 1) == ERR_OK)
        ;
    struct part p = {.stage = s, .sender = 7, .expect = ERR_CLOSED};
    pid_t pid =
        support_fork(_i == 0 ? part_send_one : part_send_one_under_signals, &p);
    if (_i == 0)
        ck_assert(support_sleeps_in(pid, SYS_mq_timedsend));
    ck_assert(UNTIL(s->ready == 1));
    int64_t killed = (int64_t)(clock_ns() / NS_PER_MS);
    support_kill(manager);
    ck_assert_int_eq(support_join(pid), 0);
    int64_t took = s->took_ms - killed;
    printf("a sleeping sender learned of its receiver's death in %lld ms\n",
           (long long)took);
    ck_assert_int_lt(took, 1000 + support_wait_ms() / 5);
    mpsc_sender_close(&tx);
    forget_receiver(s);
    stage_end(s);
}
END_TEST

START_TEST(test_nobody_receives_before_and_after)
{
    struct stage *s = stage_new();
    struct mpsc_sender tx;
    struct err_text why = {""};
    int fds = support_count_fds();
    ck_assert_int_eq(mpsc_open(&tx, &s->ch, &why), ERR_ABSENT);
    ck_assert_ptr_nonnull(strstr(why.text, s->ch.name));
    ck_assert_ptr_nonnull(strstr(why.text, "mqredis-manager --channel"));
    /* Opened after the death, `receiver` never shows HUP: it reads 0. */
    support_kill(start_receiver(s));
    why.text[0] = '\0';
    ck_assert_int_eq(mpsc_open(&tx, &s->ch, &why), ERR_ABSENT);
    ck_assert_ptr_nonnull(strstr(why.text, "mqredis-manager --channel"));
    ck_assert_int_eq(support_count_fds(), fds);
    forget_receiver(s);
    stage_end(s);
}
END_TEST

START_TEST(test_planted_receiver_is_refused)
{
    struct stage *s = stage_new();
    struct mpsc_sender tx;
    struct err_text why = {""};
    int fd = openat(s->ch.dirfd, "receiver", O_WRONLY | O_CREAT, 0600);
    ck_assert_int_ge(fd, 0);
    close(fd);
    ck_assert_int_eq(mpsc_open(&tx, &s->ch, &why), ERR_DENIED);
    ck_assert_ptr_nonnull(strstr(why.text, "receiver"));
    ck_assert_ptr_nonnull(strstr(why.text, "no FIFO"));
    stage_end(s);
}
END_TEST

/* A sender of an earlier receiver is not fooled by the next one. */
START_TEST(test_next_receiver_is_another_one)
{
    struct stage *s = stage_new();
    support_kill(start_receiver(s));
    pid_t pid = start_receiver(s);
    struct mpsc_sender early, late;
    stage_join(&early, s);
    support_kill(pid);
    ck_assert_int_eq(stage_start(s, 2), ERR_OK);
    ck_assert(s->rx.reused);
    ck_assert(!mpsc_receiver_alive(&early));
    ck_assert_int_eq(stage_send(&early, 1, 1), ERR_CLOSED);
    stage_join(&late, s);
    ck_assert(mpsc_receiver_alive(&late));
    ck_assert_uint_eq(late.epoch, 2);
    ck_assert_int_eq(stage_send(&late, 2, 2), ERR_OK);
    struct note n;
    ck_assert_int_eq(stage_receive(&s->rx, &n), ERR_OK);
    ck_assert_uint_eq(n.sender, 2);
    mpsc_sender_close(&late);
    /* The early one still holds the end of `senders`. */
    ck_assert(!mpsc_senders_gone(&s->rx));
    mpsc_sender_close(&early);
    ck_assert_int_eq(stage_receive(&s->rx, &n), ERR_CLOSED);
    stage_end(s);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("mpsc_closed");
    TCase *t = support_case(s, "channel", 60);
    tcase_add_test(t, test_not_closed_before_the_first_sender);
    tcase_add_test(t, test_closed_once_every_sender_is_killed);
    tcase_add_test(t, test_sender_is_cloned_by_fork_and_the_heir_counts);
    tcase_add_test(t, test_program_that_a_sender_starts_is_no_sender);
    tcase_add_test(t, test_drain_after_hup_loses_nothing);
    tcase_add_test(t, test_bytes_in_senders_are_passed_over);
    tcase_add_test(t, test_send_fails_once_the_receiver_is_killed);
    tcase_add_test(t, test_send_fails_once_the_receiver_closed);
    tcase_add_loop_test(t, test_sleeper_is_told_of_the_receivers_death, 0, 2);
    tcase_add_test(t, test_nobody_receives_before_and_after);
    tcase_add_test(t, test_planted_receiver_is_refused);
    tcase_add_test(t, test_next_receiver_is_another_one);
    return support_run(s);
}
