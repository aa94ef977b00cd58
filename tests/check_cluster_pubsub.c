/* Subscriptions in a cluster: one master carries all channels and patterns,
 * shard channels come from the master of their slot, and both go on after a
 * slot has moved or a master has died, with a gap that is told. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cluster_scene.h"
#include "tests/pubsub_scene.h"
#include "tests/support.h"
#include "tests/support_run.h"

static bool starts(int replicas)
{
    if (!cluster_scene_nodes(replicas, 1000, NULL))
        return false;
    e2e_manager_start(&manager, NULL, redis_cluster_uri(&cluster), NULL);
    return true;
}

/* The number in the last line of a node's answer. */
static long long number(int node, const char *command, const char *name)
{
    const char *reply =
        redis_cluster_ask(&cluster, node, "%s %s", command, name);
    const char *at = strrchr(reply, ':');
    ck_assert_msg(at != NULL, "%s: %s", command, reply);
    return atoll(at + 1);
}

/* The node that we are subscribed at; -1: none, or more than one. */
static int carrier(const char *command, const char *name)
{
    int found = -1, count = 0;
    for (int i = 0; i < cluster.nodes; i++) {
        if (cluster.node[i].at.pid == 0 || number(i, command, name) != 1)
            continue;
        found = i;
        count++;
    }
    return count == 1 ? found : -1;
}

static void spublish(const char *name, unsigned n)
{
    const char *reply =
        redis_cluster_ask_owner(&cluster, name, "SPUBLISH %s %08u", name, n);
    ck_assert_msg(reply[0] == ':', "SPUBLISH: %s", reply);
}

/* Publishes message n again and again until it comes: a gap must have been told
 * by then. At `node`; -1: at the owner of the slot. */
static void expect_gap_then(const char *name, int node, unsigned n)
{
    bool gap = false, come = false;
    for (int tries = 0; tries < 400 && !come; tries++) {
        if (node < 0)
            redis_cluster_ask_owner(&cluster, name, "SPUBLISH %s %08u", name,
                                    n);
        else
            redis_cluster_ask(&cluster, node, "PUBLISH %s %08u", name, n);
        enum err e;
        while ((e = sub_next(&sub, &ev, 50)) == ERR_OK) {
            gap = gap || ev.kind == BROADCAST_GAP;
            ck_assert(ev.kind == BROADCAST_GAP || ev.kind == BROADCAST_MESSAGE);
            if (ev.kind == BROADCAST_MESSAGE && sub_number(&ev) == n)
                come = true;
        }
        ck_assert_int_eq(e, ERR_TIMEOUT);
    }
    ck_assert_msg(come, "no message came after the move; log: %s",
                  e2e_log(&manager));
    ck_assert_msg(gap, "no gap was told");
}

START_TEST(test_one_master_carries_channels_and_patterns)
{
    struct sub pattern;
    if (!starts(0))
        return;
    subscribe(&sub, "SUBSCRIBE news");
    subscribe(&pattern, "PSUBSCRIBE n*");
    ck_assert(UNTIL(carrier("PUBSUB NUMSUB", "news") >= 0));
    for (int i = 0; i < SCENE_MASTERS; i++) {
        redis_cluster_ask(&cluster, i, "PUBLISH news %08d", i);
        expect_number(&sub, (unsigned long)i);
        expect_number(&pattern, (unsigned long)i);
    }
    sub_close(&sub);
    sub_close(&pattern);
    for (int i = 0; i < SCENE_MASTERS; i++)
        ck_assert(UNTIL(number(i, "PUBSUB NUMSUB", "news") == 0));
    cluster_scene_end();
}
END_TEST

START_TEST(test_shard_channels_come_from_their_masters)
{
    char command[200];
    size_t at = (size_t)snprintf(command, sizeof(command), "SSUBSCRIBE");
    char names[SCENE_MASTERS][32];
    if (!starts(0))
        return;
    for (int i = 0; i < SCENE_MASTERS; i++) {
        snprintf(names[i], sizeof(names[i]), "%s",
                 redis_cluster_word(&cluster, i, 3));
        at += (size_t)snprintf(command + at, sizeof(command) - at, " %s",
                               names[i]);
    }
    subscribe(&sub, command);
    for (int i = 0; i < SCENE_MASTERS; i++) {
        ck_assert(UNTIL(carrier("PUBSUB SHARDNUMSUB", names[i]) == i));
        spublish(names[i], (unsigned)i);
        expect_number(&sub, (unsigned long)i);
    }
    sub_close(&sub);
    for (int i = 0; i < SCENE_MASTERS; i++)
        ck_assert(UNTIL(number(i, "PUBSUB SHARDNUMSUB", names[i]) == 0));
    cluster_scene_end();
}
END_TEST

START_TEST(test_a_slot_moves_to_and_fro)
{
    char name[32], command[64];
    if (!starts(0))
        return;
    snprintf(name, sizeof(name), "%s", redis_cluster_word(&cluster, 0, 0));
    snprintf(command, sizeof(command), "SSUBSCRIBE %s", name);
    subscribe(&sub, command);
    spublish(name, 1);
    expect_number(&sub, 1);
    for (unsigned i = 0; i < 4; i++) {
        int to = i % 2 == 0 ? 1 : 0;
        redis_cluster_move(&cluster, redis_cluster_slot(name), to);
        expect_gap_then(name, -1, 10 + i);
        ck_assert(UNTIL(carrier("PUBSUB SHARDNUMSUB", name) == to));
    }
    sub_close(&sub);
    ck_assert(UNTIL(number(0, "PUBSUB SHARDNUMSUB", name) == 0));
    cluster_scene_end();
}
END_TEST

START_TEST(test_the_carrier_of_channels_dies)
{
    if (!starts(SCENE_MASTERS))
        return;
    subscribe(&sub, "SUBSCRIBE news");
    int node = -1;
    ck_assert(UNTIL((node = carrier("PUBSUB NUMSUB", "news")) >= 0));
    redis_cluster_kill(&cluster, node);
    expect_gap_then("news", (node + 1) % SCENE_MASTERS, 7);
    sub_close(&sub);
    cluster_scene_end();
}
END_TEST

START_TEST(test_a_master_of_shard_channels_dies)
{
    char name[32], command[64];
    if (!starts(SCENE_MASTERS))
        return;
    snprintf(name, sizeof(name), "%s", redis_cluster_word(&cluster, 1, 0));
    snprintf(command, sizeof(command), "SSUBSCRIBE %s", name);
    subscribe(&sub, command);
    spublish(name, 1);
    expect_number(&sub, 1);
    redis_cluster_kill(&cluster, 1);
    redis_cluster_await_failover(&cluster, 1);
    expect_gap_then(name, -1, 2);
    sub_close(&sub);
    cluster_scene_end();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cluster_pubsub");
    TCase *t = support_case(s, "subscriptions", 120);
    tcase_add_checked_fixture(t, NULL, e2e_stop_all);
    tcase_add_test(t, test_one_master_carries_channels_and_patterns);
    tcase_add_test(t, test_shard_channels_come_from_their_masters);
    tcase_add_test(t, test_a_slot_moves_to_and_fro);
    tcase_add_test(t, test_the_carrier_of_channels_dies);
    tcase_add_test(t, test_a_master_of_shard_channels_dies);
    return support_run(s);
}
