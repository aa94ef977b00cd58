/* The cluster that the other suites start: whether it is one, whether moved
 * slots are where the tests believe, and whether a dead master is replaced. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cluster_scene.h"
#include "tests/support.h"
#include "tests/support_run.h"

START_TEST(test_slots_are_those_of_the_server)
{
    static const char *const keys[] = {
        "a",       "foo",    "{user1000}.following", "foo{}{bar}", "foo{{bar}}",
        "foo{bar", "{}left", "foo{bar}{zap}",        "t123"};
    if (!cluster_scene_nodes(0, SCENE_PATIENT_MS, NULL))
        return;
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        const char *reply =
            redis_cluster_ask(&cluster, 0, "CLUSTER KEYSLOT %s", keys[i]);
        ck_assert_uint_eq(strtoul(reply + 1, NULL, 10),
                          redis_cluster_slot(keys[i]));
    }
    for (int i = 0; i < 3; i++) {
        const char *word = redis_cluster_word(&cluster, i, 2);
        ck_assert_str_eq(redis_cluster_ask(&cluster, i, "SET %s 1", word),
                         "+OK\r\n");
        ck_assert_int_eq(
            redis_cluster_owner(&cluster, 0, redis_cluster_slot(word)), i);
    }
    redis_cluster_stop(&cluster);
}
END_TEST

START_TEST(test_slot_moves_with_its_keys)
{
    if (!cluster_scene_nodes(0, SCENE_PATIENT_MS, NULL))
        return;
    const char *tag = redis_cluster_word(&cluster, 0, 0);
    unsigned slot = redis_cluster_slot(tag);
    for (int i = 0; i < 25; i++)
        redis_cluster_ask(&cluster, 0, "SET {%s}:%d %d", tag, i, i);
    redis_cluster_move_begin(&cluster, slot, 0, 2);
    ck_assert_int_eq(redis_cluster_move_keys(&cluster, slot, 0, 2, 10), 10);
    int asked = 0;
    for (int i = 0; i < 25; i++)
        asked += strncmp(redis_cluster_ask(&cluster, 0, "GET {%s}:%d", tag, i),
                         "-ASK ", 5) == 0;
    ck_assert_int_eq(asked, 10);
    while (redis_cluster_move_keys(&cluster, slot, 0, 2, 10) > 0)
        ;
    redis_cluster_move_end(&cluster, slot, 0, 2);
    ck_assert_int_eq(redis_cluster_owner(&cluster, 1, slot), 2);
    for (int i = 0; i < 25; i++) {
        char expected[16];
        snprintf(expected, sizeof(expected), "$%d\r\n%d\r\n", i < 10 ? 1 : 2,
                 i);
        ck_assert_str_eq(
            redis_cluster_ask_owner(&cluster, tag, "GET {%s}:%d", tag, i),
            expected);
    }
    redis_cluster_move(&cluster, slot, 1);
    redis_cluster_settle(&cluster);
    ck_assert_str_eq(redis_cluster_ask(&cluster, 1, "GET {%s}:7", tag),
                     "$1\r\n7\r\n");
    redis_cluster_stop(&cluster);
}
END_TEST

START_TEST(test_dead_master_is_replaced)
{
    if (!cluster_scene_nodes(3, 1000, NULL))
        return;
    const char *word = redis_cluster_word(&cluster, 1, 0);
    redis_cluster_ask(&cluster, 1, "SET %s before", word);
    redis_cluster_ask(&cluster, 1, "WAIT 1 5000");
    redis_cluster_kill(&cluster, 1);
    ck_assert_int_eq(redis_cluster_await_failover(&cluster, 1), 4);
    ck_assert_str_eq(redis_cluster_ask(&cluster, 4, "GET %s", word),
                     "$6\r\nbefore\r\n");
    redis_cluster_settle(&cluster);
    redis_cluster_restart(&cluster, 1);
    redis_cluster_settle(&cluster);
    ck_assert_str_eq(redis_cluster_ask(&cluster, 1, "DBSIZE"), ":1\r\n");
    ck_assert_int_eq(redis_cluster_owner(&cluster, 1, redis_cluster_slot(word)),
                     4);
    redis_cluster_stop(&cluster);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("cluster_harness");
    TCase *t = support_case(s, "cluster", 60);
    tcase_add_test(t, test_slots_are_those_of_the_server);
    tcase_add_test(t, test_slot_moves_with_its_keys);
    tcase_add_test(t, test_dead_master_is_replaced);
    return s;
}

int main(void)
{
    return support_run(suite());
}
