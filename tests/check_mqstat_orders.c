/* mqstat, the program, in what it does beyond showing: health checks, waiting,
 * orders to a manager, and clearing away. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/mpsc.h"
#include "ipc/status.h"
#include "tests/json.h"
#include "tests/mqstat.h"
#include "tests/support.h"
#include "tests/support_run.h"

/* ---- waiting and checking ---- */

START_TEST(test_check_tells_three_states)
{
    struct fake f, g;
    fake_start(&f, "one", 4);
    fake_start(&g, "two", 4);
    mqstat("--check");
    ENDED(0);
    HAS("one: fine, connected");
    snprintf(g.state.error, sizeof(g.state.error), "connection refused");
    status_set_state(g.status, &g.state, STATE_RECONNECTING);
    mqstat("--check one");
    ENDED(0);
    mqstat("--check");
    ENDED(1);
    HAS("two: degraded, reconnecting: connection refused");
    fake_die(&f);
    mqstat("--check");
    ENDED(2);
    fake_die(&g);
}
END_TEST

START_TEST(test_check_sees_a_queue_that_nobody_empties)
{
    struct fake f;
    fake_start(&f, "one", 1);
    struct fake_sender arg = {"one", 1};
    pid_t child = support_fork(fake_sender, &arg);
    ck_assert(UNTIL(mpsc_depth(&f.rx) == 1));
    mqstat("--check");
    ENDED(1);
    HAS("the queue is full and nothing is taken");
    support_kill(child);
    fake_die(&f);
}
END_TEST

static void become_manager(void *arg)
{
    struct fake f;
    support_sleep_ms(150);
    fake_start(&f, arg, 4);
    for (;;)
        pause();
}

START_TEST(test_wait_for_a_state)
{
    pid_t child = support_fork(become_manager, (char[]){"later"});
    mqstat("--wait up --timeout 20 later");
    ENDED(0);
    mqstat("--wait idle later");
    ENDED(0);
    mqstat("--wait paused --timeout 0.2 later");
    ENDED(75);
    assert_one_line(ran.err);
    mqstat("--wait purple later");
    ENDED(64);
    support_kill(child);
    mqstat("--wait died --timeout 20 later");
    ENDED(0);
}
END_TEST

/* ---- orders ---- */

static void obey(struct fake *f, const char *order)
{
    if (strcmp(order, "pause\n") == 0) {
        status_set_state(f->status, &f->state, STATE_PAUSED);
    } else if (strcmp(order, "resume\n") == 0 ||
               strcmp(order, "reload\n") == 0) {
        status_set_state(f->status, &f->state, STATE_CONNECTED);
    } else if (strcmp(order, "kill-client 4242\n") == 0) {
        atomic_store(&f->status->clients[5].inflight, 0);
    } else if (strcmp(order, "drain\n") == 0) {
        status_set_state(f->status, &f->state, STATE_CLOSED);
        _exit(0);
    } else {
        fprintf(stderr, "odd order: %s\n", order);
        _exit(1);
    }
}

static void obedient_manager(void *arg)
{
    struct fake f;
    char order[64];
    fake_start(&f, arg, 4);
    atomic_store(&f.status->clients[5].pid, 4242);
    atomic_store(&f.status->clients[5].inflight, 1);
    atomic_store(&f.status->clients[5].serial, 1);
    fcntl(f.control, F_SETFL, 0);
    for (;;) {
        ssize_t n = read(f.control, order, sizeof(order) - 1);
        CHILD_REQUIRE(n > 0);
        order[n] = '\0';
        obey(&f, order);
    }
}

START_TEST(test_orders_are_given_and_seen_through)
{
    pid_t child = support_fork(obedient_manager, (char[]){"obey"});
    mqstat("--wait up --timeout 20 obey");
    ENDED(0);
    mqstat("pause obey");
    ENDED(0);
    ck_assert_str_eq(ran.out, "obey: paused\n");
    mqstat("resume obey");
    ENDED(0);
    ck_assert_str_eq(ran.out, "obey: connected\n");
    mqstat("reload obey");
    ENDED(0);
    mqstat("kill-client 4242 obey");
    ENDED(0);
    mqstat("kill-client 17 obey");
    ENDED(69);
    assert_one_line(ran.err);
    mqstat("drain obey");
    ENDED(0);
    ck_assert_int_eq(support_join(child), 0);
    mqstat("pause obey");
    ENDED(69);
    assert_one_line(ran.err);
    mqstat("pause nowhere");
    ENDED(69);
    assert_one_line(ran.err);
}
END_TEST

START_TEST(test_an_order_that_nobody_obeys)
{
    struct fake f;
    fake_start(&f, "deaf", 4);
    mqstat("pause deaf --timeout 0.3");
    ENDED(75);
    assert_one_line(ran.err);
    fake_die(&f);
}
END_TEST

/* ---- the doctor ---- */

static bool exists(const char *name)
{
    struct stat st;
    return lstat(support_path(name), &st) == 0;
}

START_TEST(test_fix_removes_what_the_dead_left)
{
    struct fake f;
    fake_start(&f, "dead", 4);
    char queue[CHANNEL_QUEUE_NAME_MAX];
    memcpy(queue, f.rx.queue, sizeof(queue));
    mkfifoat(f.ch.reply_fd, "00000000000000aa-1", 0600);
    fake_die(&f);
    mqstat("--doctor");
    ENDED(1);
    HAS("left of a manager that is gone");
    HAS("mqstat --doctor --fix");
    ck_assert(exists("dead/queue"));
    mqstat("--doctor --fix");
    HAS("fixed");
    ck_assert(!exists("dead"));
    ck_assert(mq_open(queue, O_RDONLY) == (mqd_t)-1 && errno == ENOENT);
    mqstat("--doctor");
    HAS_NOT("left of a manager");
}
END_TEST

enum life { LIFE_MANAGER, LIFE_SENDER, LIFE_HOLDER, LIFE_READER, LIVES };

static int hold_fd = -1;

static void hold_something(void *arg)
{
    const struct fake_sender *a = arg;
    struct channel ch;
    struct channel_queue q;
    struct err_text why;
    /* What was inherited would be a sign of life of its own. */
    CHILD_REQUIRE(dup2(hold_fd, 3) == 3);
    hold_fd = 3;
    close_range(4, ~0U, 0);
    CHILD_REQUIRE(channel_open(&ch, a->name, &why) == ERR_OK);
    CHILD_REQUIRE(channel_read_queue(&ch, &q) == ERR_OK);
    if (a->messages == LIFE_HOLDER)
        CHILD_REQUIRE(mq_open(q.name, O_RDONLY) != (mqd_t)-1);
    if (a->messages == LIFE_READER)
        CHILD_REQUIRE(openat(ch.reply_fd, "00000000000000aa-1", O_RDWR) >= 0);
    if (a->messages == LIFE_SENDER)
        CHILD_REQUIRE(openat(ch.dirfd, "senders", O_WRONLY) >= 0);
    CHILD_REQUIRE(write(hold_fd, "x", 1) == 1);
    for (;;)
        pause();
}

START_TEST(test_fix_removes_nothing_that_is_held)
{
    struct fake f;
    int ready[2];
    char byte;
    fake_start(&f, "held", 4);
    mkfifoat(f.ch.reply_fd, "00000000000000aa-1", 0600);
    ck_assert_int_eq(pipe2(ready, O_CLOEXEC), 0);
    hold_fd = ready[1];
    pid_t child = -1;
    if (_i != LIFE_MANAGER) {
        struct fake_sender arg = {"held", _i};
        child = support_fork(hold_something, &arg);
        ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    }
    if (_i == LIFE_MANAGER) {
        mqstat("--doctor --fix");
        ck_assert(exists("held/queue"));
        fake_die(&f);
    } else {
        fake_die(&f);
        mqstat("--doctor --fix");
        ck_assert_msg(exists("held/queue"), "%s", ran.out);
        HAS(_i == LIFE_SENDER ? "1 processes that wait for one"
            : _i == LIFE_HOLDER
                ? "(check_mqstat_or) still has it" /* a name of 15 */
                : "a worker that waits for a reply");
        support_kill(child);
    }
    mqstat("--doctor --fix");
    ck_assert_msg(!exists("held/queue"), "%s", ran.out);
    close(ready[0]);
    close(ready[1]);
}
END_TEST

START_TEST(test_stray_queues_are_told)
{
    char name[64];
    snprintf(name, sizeof(name), "/mqredis.stray.%d", (int)getpid());
    struct mq_attr attr = {.mq_maxmsg = 1, .mq_msgsize = 10};
    mqd_t mq = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attr);
    ck_assert(mq != (mqd_t)-1);
    mqstat("--doctor");
    HAS_NOT(name);
    mq_close(mq);
    mqstat("--doctor --fix");
    /* Only where queues that nobody holds can be listed. */
    mqstat("--queues --json");
    if (strstr(ran.out, "\"unheld_queues\": false") != NULL) {
        mqstat("--doctor --fix");
        HAS(name);
        HAS("used within a minute");
    }
    mq = mq_open(name, O_RDWR);
    ck_assert(mq != (mqd_t)-1);
    mq_close(mq);
    mq_unlink(name);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("mqstat_orders");
    TCase *t = tcase_create("mqstat");
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, support_scratch_setup,
                              support_scratch_teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, test_check_tells_three_states);
    tcase_add_test(t, test_check_sees_a_queue_that_nobody_empties);
    tcase_add_test(t, test_wait_for_a_state);
    tcase_add_test(t, test_orders_are_given_and_seen_through);
    tcase_add_test(t, test_an_order_that_nobody_obeys);
    tcase_add_test(t, test_fix_removes_what_the_dead_left);
    tcase_add_loop_test(t, test_fix_removes_nothing_that_is_held, 0, LIVES);
    tcase_add_test(t, test_stray_queues_are_told);
    return support_run(s);
}
