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
#include "tests/support_tls.h"

/* ---- the middle of its life ---- */

static int count_fds(const struct life *l)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%ld/fd", (long)l->m.pid);
    return support_count_entries(path);
}

/* It holds nothing for workers that have gone. */
static void check_idle(struct scene *s, struct life *l)
{
    const struct status *status = NULL;
    struct channel ch;
    struct err_text why = {""};
    if (channel_open(&ch, l->m.channel, &why) != ERR_OK)
        return;
    if (status_open(&ch, &status, &why) == ERR_OK) {
        l->m.status = status;
        if (!UNTIL(e2e_balanced(&l->m) || life_ended(l)))
            scene_wrong(s, "its books do not balance: %s", e2e_books(&l->m));
        status_unmap(status);
    }
    channel_close(&ch);
    if (s->fds == 0)
        s->fds = count_fds(l);
    else if (!UNTIL(life_ended(l) || count_fds(l) <= s->fds))
        scene_wrong(s, "manager holds %d descriptors, %d were enough before",
                    count_fds(l), s->fds);
}

static void live(struct scene *s, struct life *l)
{
    life_note_queue(l);
    scene_visit(s, l->m.channel, l->ready ? SCENE_TIMEOUT_MS : 100, false);
    life_order(l, "pause\n");
    life_order(l, "resume\n");
    life_await(l, "resumed");
    kill(l->m.pid, SIGHUP);
    life_await(l, "reload");
    redis_link_ask(&s->link, "CLIENT KILL TYPE normal SKIPME yes");
    life_await(l, "lost the connection");
    scene_visit(s, l->m.channel, l->ready ? SCENE_TIMEOUT_MS : 100, true);
    if (!life_ended(l))
        check_idle(s, l);
}

/* From launch to end. */
static void whole_life(struct scene *s)
{
    struct life l;
    life_launch(s, &l, support_name(), ARMED, "");
    if (!life_ended(&l))
        live(s, &l);
    life_end(s, &l);
    int64_t blocks = s->plan->blocks[FAULTS_SELF];
    if (s->blocks == 0)
        s->blocks = blocks;
    else if (FAULTS_BLOCKS_COUNT && blocks > s->blocks + s->slack)
        scene_wrong(s,
                    "%lld blocks of memory were not freed, without faults %lld",
                    (long long)blocks, (long long)s->blocks);
    life_look_back(s, &l);
    unlink(l.m.log);
}

/* ---- the tests ---- */

START_TEST(test_a_whole_life)
{
    scene_sweep("manager", SCENE_UNIX, FAULTS_BOTH, SCENE_SAMPLE, whole_life);
}
END_TEST

/* A start that finds no memory, at every table that it makes. */
START_TEST(test_no_memory_at_start)
{
    static struct scene scene;
    struct scene *s = &scene;
    scene_open(s, SCENE_UNIX);
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
        scene_sweep("tls", SCENE_TLS, FAULTS_BOTH, SCENE_SAMPLE / 4,
                    whole_life);
}
END_TEST

START_TEST(test_a_life_with_sentinels)
{
    scene_sweep("sentinel", SCENE_SENTINEL, 1U << FAULTS_SELF, SCENE_SAMPLE / 4,
                whole_life);
}
END_TEST

/* One that could not be forked is not done without: housekeeping tries again.
 */
START_TEST(test_a_guardian_that_cannot_be_forked)
{
    static struct scene scene;
    struct scene *s = &scene;
    struct life l;
    scene_open(s, SCENE_UNIX);
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
    scene_add(s, "sentinel", test_a_life_with_sentinels);
    scene_add(s, "guardian", test_a_guardian_that_cannot_be_forked);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
