/*
 * The manager, with each of its system calls and allocations made to fail in
 * turn, through a life of its own: start, serve, lose Redis, reload, end. It
 * either goes on, or ends as its manual says and with a line that says why; its
 * workers get a named status, a true one and in time; and after it, a manager
 * without faults finds nothing that is in its way, and leaves nothing.
 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/faults/life.h"
#include "tests/support.h"
#include "tests/support_run.h"
#include "tests/support_tls.h"

static void live(struct scene *s, struct life *l)
{
    life_note_queue(l);
    scene_visit(s, l->m.channel, life_timeout_ms(s, l), false);
    life_order(l, "pause\n");
    life_order(l, "resume\n");
    life_await(l, "resumed");
    life_reload(l);
    life_lose_redis(s, l);
}

/* ---- the tests ---- */

START_TEST(test_a_whole_life)
{
    life_sweep("manager", SCENE_UNIX, SCENE_SAMPLE, live);
}
END_TEST

/* A start that finds no memory, at every table that it makes. */
START_TEST(test_no_memory_at_start)
{
    static struct scene scene;
    struct scene *s = &scene;
    ck_assert(scene_open(s, SCENE_UNIX));
    unsigned refused = 0;
    do {
        struct life l;
        faults_plan_clear(s->plan);
        s->plan->call = FAULTS_calloc;
        s->plan->error = ENOMEM;
        s->plan->from = s->plan->until = s->counted.from + 1;
        life_launch(s, &l, support_name(), ARMED, "");
        life_end(s, &l);
        refused += l.status != 0;
        life_look_back(s, &l);
        ck_assert_msg(s->why[0] == '\0', "calloc %llu: %s",
                      (unsigned long long)s->counted.from, s->why);
        unlink(l.m.log);
    } while (s->struck);
    ck_assert_uint_gt(refused, 5);
    scene_close(s);
}
END_TEST

START_TEST(test_a_life_by_tls)
{
    const char *missing = support_tls_missing();
    if (missing != NULL)
        support_skip("check_faults_manager", missing);
    else
        life_sweep("tls", SCENE_TLS, SCENE_SAMPLE / 4, live);
}
END_TEST

/* One that could not be forked is not done without: housekeeping tries again.
 */
START_TEST(test_a_guardian_that_cannot_be_forked)
{
    static struct scene scene;
    struct scene *s = &scene;
    struct life l;
    ck_assert(scene_open(s, SCENE_UNIX));
    faults_plan_clear(s->plan);
    s->plan->call = FAULTS_fork;
    s->plan->error = EAGAIN;
    s->plan->from = s->plan->until = 2;
    life_launch(s, &l, support_name(), ARMED, "");
    ck_assert_msg(l.ready, "%s", e2e_log(&l.m));
    e2e_manager_ready(&l.m);
    pid_t first = l.m.guardian;
    kill(first, SIGKILL);
    ck_assert_msg(
        UNTIL(strstr(e2e_log(&l.m), "cannot start a guardian") != NULL), "%s",
        e2e_log(&l.m));
    ck_assert_msg(
        UNTIL(strstr(e2e_log(&l.m), "a guardian was started") != NULL), "%s",
        e2e_log(&l.m));
    /* It does what it is for. */
    e2e_manager_ready(&l.m);
    ck_assert_int_ne(l.m.guardian, first);
    e2e_manager_kill(&l.m);
    ck_assert(e2e_guardian_gone(&l.m));
    ck_assert_msg(strstr(e2e_log(&l.m), "died;") != NULL, "%s", e2e_log(&l.m));
    scene_close(s);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("faults_manager");
    scene_add(s, "life", test_a_whole_life);
    scene_add(s, "start", test_no_memory_at_start);
    scene_add(s, "tls", test_a_life_by_tls);
    scene_add(s, "guardian", test_a_guardian_that_cannot_be_forked);
    return support_run(s);
}
