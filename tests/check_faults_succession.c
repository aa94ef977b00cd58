/*
 * What comes after a manager, with calls made to fail in turn: the last will
 * that its guardian carries out, and another manager that takes over from it.
 * What must hold is that of check_faults_manager.
 */
#include <check.h>
#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/faults/life.h"
#include "tests/support.h"
#include "tests/support_run.h"

/* It is killed while commands wait in its queue: calls of its guardian fail. */
static void last_will(struct scene *s)
{
    struct life l;
    life_launch(s, &l, support_name(), READY, "");
    ck_assert_msg(l.ready, "%s", e2e_log(&l.m));
    life_note_queue(&l);
    life_order(&l, "pause\n");
    life_await(&l, "paused");
    pid_t worker = scene_visit_begin(s, l.m.channel, SCENE_TIMEOUT_MS, false);
    mqd_t mq = mq_open(l.queue, O_RDONLY | O_CLOEXEC);
    struct mq_attr attr = {0};
    (void)!UNTIL(mq_getattr(mq, &attr) == 0 && attr.mq_curmsgs > 0);
    mq_close(mq);
    s->plan->armed = true;
    support_kill(l.m.pid);
    scene_visit_end(s, worker);
    life_look_back(s, &l);
    unlink(l.m.log);
}

/* One manager takes over from another while a worker works. */
static void succession(struct scene *s, enum mood old_mood, enum mood new_mood)
{
    struct life old, new;
    life_launch(s, &old, support_name(), old_mood, "");
    ck_assert_msg(old.ready, "%s", e2e_log(&old.m));
    life_note_queue(&old);
    char channel[48];
    snprintf(channel, sizeof(channel), "%s", old.m.channel);
    s->plan->armed = old_mood != SOUND;
    pid_t worker = scene_visit_begin(s, channel, SCENE_TIMEOUT_MS, false);
    life_launch(s, &new, channel, new_mood, "--takeover");
    scene_visit_end(s, worker);
    if (new.ready) {
        if (!UNTIL(life_ended(&old)))
            scene_wrong(s, "the old manager does not end: %s", e2e_log(&old.m));
    } else if (!life_ended(&new)) {
        kill(new.m.pid, SIGTERM);
        (void)!UNTIL(life_ended(&new));
    }
    scene_visit(s, channel, SCENE_TIMEOUT_MS, true);
    life_end(s, &new);
    life_end(s, &old);
    life_look_back(s, &old);
    unlink(old.m.log);
    unlink(new.m.log);
}

static void faulty_successor(struct scene *s)
{
    succession(s, SOUND, ARMED);
}

static void faulty_predecessor(struct scene *s)
{
    succession(s, READY, SOUND);
}

/* ---- the tests ---- */

START_TEST(test_a_last_will)
{
    scene_sweep("guardian", SCENE_UNIX, 1U << FAULTS_CHILD, SCENE_SAMPLE / 4,
                last_will);
}
END_TEST

START_TEST(test_a_successor)
{
    scene_sweep("successor", SCENE_UNIX, FAULTS_BOTH, SCENE_SAMPLE / 4,
                faulty_successor);
}
END_TEST

START_TEST(test_a_predecessor)
{
    scene_sweep("predecessor", SCENE_UNIX, FAULTS_BOTH, SCENE_SAMPLE / 4,
                faulty_predecessor);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("faults_succession");
    scene_add(s, "will", test_a_last_will);
    scene_add(s, "successor", test_a_successor);
    scene_add(s, "predecessor", test_a_predecessor);
    return support_run(s);
}
