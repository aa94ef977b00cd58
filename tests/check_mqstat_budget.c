/* What --doctor says of RLIMIT_MSGQUEUE: what it sees, and what only the kernel
 * knows. */
#include <fcntl.h>
#include <mqueue.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/mqstat.h"
#include "tests/support.h"
#include "tests/support_run.h"

/* Room for one queue of 32 x 8192, and little more. */
#define LIMIT 270000

static void set_limit(rlim_t bytes)
{
    struct rlimit r;
    CHILD_REQUIRE(getrlimit(RLIMIT_MSGQUEUE, &r) == 0);
    r.rlim_cur = bytes;
    CHILD_REQUIRE(setrlimit(RLIMIT_MSGQUEUE, &r) == 0);
}

/* ---- a user to whom nothing is charged yet ---- */

static void put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    CHILD_REQUIRE(fd >= 0);
    CHILD_REQUIRE(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

/* In a child: user and IPC namespaces of its own, in which it is root. */
static void move_out(void)
{
    char uids[32], gids[32];
    snprintf(uids, sizeof(uids), "0 %u 1", (unsigned)geteuid());
    snprintf(gids, sizeof(gids), "0 %u 1", (unsigned)getegid());
    if (unshare(CLONE_NEWUSER | CLONE_NEWIPC) < 0)
        _exit(CHILD_CANNOT);
    put("/proc/self/setgroups", "deny");
    put("/proc/self/uid_map", uids);
    put("/proc/self/gid_map", gids);
}

static void stay(void *arg)
{
    (void)arg;
    for (;;)
        pause();
}

/* Leaves a queue that no process holds in an IPC namespace that somebody keeps
 * alive, and goes to another one. */
static void hide_queue(void)
{
    struct mq_attr attr = {.mq_maxmsg = 10, .mq_msgsize = 1024};
    mqd_t mq = mq_open("/hidden", O_RDWR | O_CREAT | O_EXCL, 0600, &attr);
    CHILD_REQUIRE(mq != (mqd_t)-1);
    mq_close(mq);
    support_fork(stay, NULL);
    CHILD_REQUIRE(unshare(CLONE_NEWIPC) == 0);
}

static void look(void *arg)
{
    const bool *hidden = arg;
    char program[512];
    snprintf(program, sizeof(program), "%s/mqstat", support_build());
    int out = open(support_path("seen"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHILD_REQUIRE(out >= 0);
    move_out();
    if (*hidden)
        hide_queue();
    set_limit(LIMIT);
    CHILD_REQUIRE(dup2(out, STDOUT_FILENO) == STDOUT_FILENO);
    setenv("LC_ALL", "C", 1);
    execl(program, program, "--doctor", (char *)NULL);
    CHILD_REQUIRE(false);
}

/* What such a user's doctor says, in `ran`. False: there can be none. */
static bool look_as_newcomer(bool hidden)
{
    int status = support_join(support_fork(look, &hidden));
    if (status == CHILD_CANNOT) {
        support_skip("check_mqstat_budget", "no user namespaces are allowed");
        return false;
    }
    ran.code = status;
    ran.err[0] = '\0';
    read_file(support_path("seen"), ran.out, sizeof(ran.out));
    return true;
}

static bool says(const char *text)
{
    return strstr(ran.out, text) != NULL;
}

START_TEST(test_what_is_in_sight_is_added_up)
{
    if (!look_as_newcomer(false))
        return;
    /* What is charged to us is charged to the outer user, too, who may have
     * little left just now. */
    ck_assert_msg(UNTIL(look_as_newcomer(false) &&
                        says("0 of 270,000 bytes used by 0 queues of yours: "
                             "room for 1 more of 32 x 8192")),
                  "%s", ran.out);
}
END_TEST

START_TEST(test_queues_out_of_sight_are_told)
{
    if (!look_as_newcomer(true))
        return;
    /* There may be no room for the hidden one just now. */
    ck_assert_msg(UNTIL(look_as_newcomer(true) &&
                        says("0 of 270,000 bytes used by 0 queues of yours, "
                             "and about ")),
                  "%s", ran.out);
    HAS(" by queues out of sight");
    HAS("room for 0 more of 32 x 8192");
    HAS("nsenter --ipc");
    ENDED(1);
}
END_TEST

/* Root of a user namespace is not asked whether it may exceed msg_max. */
START_TEST(test_a_newcomer_has_no_privilege)
{
    if (!look_as_newcomer(false))
        return;
    HAS("a queue may hold 10 messages: a manager that wants 32 gets 10\n");
}
END_TEST

START_TEST(test_a_budget_that_is_used_up)
{
    set_limit(1000);
    mqstat("--doctor");
    ENDED(1);
    HAS(" of 1,000 bytes used by ");
    HAS("room for 0 more of 32 x 8192");
    HAS("ulimit -q ");
}
END_TEST

START_TEST(test_the_trial_leaves_nothing)
{
    mqstat("--doctor");
    mqstat("--queues");
    ENDED(0);
    HAS_NOT("mqredis.trial");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("mqstat_budget");
    TCase *t = tcase_create("doctor");
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, support_scratch_setup,
                              support_scratch_teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_what_is_in_sight_is_added_up);
    tcase_add_test(t, test_queues_out_of_sight_are_told);
    tcase_add_test(t, test_a_newcomer_has_no_privilege);
    tcase_add_test(t, test_a_budget_that_is_used_up);
    tcase_add_test(t, test_the_trial_leaves_nothing);
    return support_run(s);
}
