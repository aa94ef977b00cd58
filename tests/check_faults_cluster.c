/*
 * A manager in front of a cluster, with each of its system calls and
 * allocations made to fail in turn, while workers split commands, ask all
 * masters, block, and listen to shards, a slot moves under them (ASK, then
 * MOVED), and every node cuts its connections. What must hold is the same as in
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

/* The slot moves to the next node and a worker asks for its keys meanwhile, and
 * after that. */
static void move(struct scene *s, struct life *l, int64_t timeout_ms)
{
    unsigned slot = redis_cluster_slot(s->moving);
    int from = s->moving_at, to = (from + 1) % s->cluster.nodes;
    redis_cluster_move_begin(&s->cluster, slot, from, to);
    scene_visit(s, l->m.channel, timeout_ms, true);
    while (redis_cluster_move_keys(&s->cluster, slot, from, to, 100) > 0)
        ;
    redis_cluster_move_end(&s->cluster, slot, from, to);
    s->moving_at = to;
    scene_visit(s, l->m.channel, timeout_ms, true);
}

static void live(struct scene *s, struct life *l)
{
    int64_t timeout_ms = life_timeout_ms(s, l);
    life_note_queue(l);
    scene_visit(s, l->m.channel, timeout_ms, false);
    life_reload(l);
    move(s, l, timeout_ms);
    life_lose_redis(s, l);
}

START_TEST(test_a_life_in_a_cluster)
{
    life_sweep("cluster", SCENE_CLUSTER, SCENE_SAMPLE, live);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("faults_cluster");
    scene_add(s, "cluster", test_a_life_in_a_cluster);
    return support_run(s);
}
