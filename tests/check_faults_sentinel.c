/*
 * A manager that follows sentinels, with each of its system calls and
 * allocations made to fail in turn, while the master changes and connections
 * are cut. It finds the new master, whatever failed once; else as in
 * check_faults_manager.
 */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/faults/life.h"
#include "tests/support.h"
#include "tests/support_run.h"

/* It leaves the old master. Where a call fails for good it may never hear of
 * the new one. False: it has not, and nobody should ask it anything. */
static bool follows(struct scene *s, struct life *l)
{
    bool once = s->plan->from == s->plan->until;
    if (!l->ready || life_ended(l))
        return false;
    scene_switch(s);
    if (!once)
        life_await(l, ": leaving ");
    else if (!UNTIL(life_ended(l) || e2e_logged(&l->m, ": leaving ")))
        scene_wrong(s, "the new master is not followed: %s", e2e_log(&l->m));
    return !life_ended(l) && e2e_logged(&l->m, ": leaving ");
}

static void live(struct scene *s, struct life *l)
{
    life_note_queue(l);
    scene_visit(s, l->m.channel, life_timeout_ms(s, l), false);
    if (follows(s, l))
        scene_visit(s, l->m.channel, life_timeout_ms(s, l), true);
    life_reload(l);
    life_lose_redis(s, l);
}

START_TEST(test_a_life_with_sentinels)
{
    life_sweep("sentinel", SCENE_SENTINEL, SCENE_SAMPLE, live);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("faults_sentinel");
    scene_add(s, "sentinel", test_a_life_with_sentinels);
    return support_run(s);
}
