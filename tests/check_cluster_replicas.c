/* Reading from replicas: who is asked, and who is asked when that one is not
 * there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cluster_scene.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define TIMES 20

static bool start(const char *options)
{
    if (!cluster_scene_nodes(SCENE_MASTERS, 4000, NULL))
        return false;
    cluster_scene_open(NULL, options);
    return true;
}

/* How often a command was executed by nodes [from, to). */
static long calls(const char *name, int from, int to)
{
    char mark[64];
    long sum = 0;
    snprintf(mark, sizeof(mark), "cmdstat_%s:calls=", name);
    for (int i = from; i < to; i++) {
        if (cluster.node[i].at.pid <= 0)
            continue;
        const char *at =
            strstr(redis_cluster_ask(&cluster, i, "INFO commandstats"), mark);
        sum += at != NULL ? strtol(at + strlen(mark), NULL, 10) : 0;
    }
    return sum;
}

/* Sets a key in each shard and waits until all nodes of it have it. */
static void set_all(void)
{
    for (int i = 0; i < 3; i++) {
        const char *word = redis_cluster_word(&cluster, i, 0);
        EXPECT(mqredis_command(mq, "SET %s v", word), "OK");
        ck_assert(UNTIL(strcmp(redis_cluster_ask(&cluster, i + 3, "DBSIZE"),
                               ":1\r\n") == 0));
    }
}

static void get_all(void)
{
    for (int n = 0; n < TIMES; n++)
        for (int i = 0; i < 3; i++)
            EXPECT(mqredis_command(mq, "GET %s",
                                   redis_cluster_word(&cluster, i, 0)),
                   "v");
}

START_TEST(test_replicas_read)
{
    if (!start("--read-from replica"))
        return;
    set_all();
    get_all();
    ck_assert_int_eq(calls("get", 0, 3), 0);
    ck_assert_int_eq(calls("get", 3, 6), 3 * TIMES);
    ck_assert_int_eq(calls("set", 0, 3), 3);
    /* Parts of a command over several slots read there, too; a transaction is
     * the master's. */
    struct mqredis_reply *r = mqredis_command(
        mq, "MGET %s %s %s", redis_cluster_word(&cluster, 0, 0),
        redis_cluster_word(&cluster, 1, 0), redis_cluster_word(&cluster, 2, 0));
    ck_assert_uint_eq(r->elements, 3);
    for (int i = 0; i < 3; i++)
        ck_assert_str_eq(lib_text(r->element[i]), "v");
    mqredis_free(r);
    ck_assert_int_eq(calls("mget", 3, 6), 3);
    struct mqredis_batch *b = mqredis_batch_new(mq);
    mqredis_batch_add(b, "GET %s", redis_cluster_word(&cluster, 0, 0));
    r = mqredis_transaction_run(b);
    ck_assert_msg(r->type == MQREDIS_ARRAY, "%s", lib_text(r));
    mqredis_free(r);
    ck_assert_int_eq(calls("exec", 0, 1), 1);
    cluster_scene_end();
}
END_TEST

START_TEST(test_masters_read)
{
    if (!start(_i == 0 ? NULL : "--read-from master"))
        return;
    set_all();
    get_all();
    ck_assert_int_eq(calls("get", 3, 6), 0);
    ck_assert_int_eq(calls("get", 0, 3), 3 * TIMES);
    cluster_scene_end();
}
END_TEST

START_TEST(test_master_reads_where_the_replica_is_dead)
{
    if (!start("--read-from prefer-replica"))
        return;
    set_all();
    /* Until they are connected the masters are asked. */
    for (int i = 0; i < 3; i++)
        ck_assert(UNTIL((mqredis_free(mqredis_command(
                             mq, "GET %s", redis_cluster_word(&cluster, i, 0))),
                         calls("get", i + 3, i + 4) > 0)));
    long masters = calls("get", 0, 3), second = calls("get", 1, 2);
    get_all();
    ck_assert_int_eq(calls("get", 0, 3), masters);
    redis_cluster_kill(&cluster, 4);
    get_all();
    ck_assert_int_eq(calls("get", 1, 2), second + TIMES);
    ck_assert_int_eq(calls("get", 0, 3), masters + TIMES);
    cluster_scene_end();
}
END_TEST

/* Reads wait for their replica, or for their deadline; writes to the same slot
 * wait for neither. */
START_TEST(test_a_dead_replica_holds_up_no_writer)
{
    if (!start("--read-from replica --when-down wait"))
        return;
    const char *word = redis_cluster_word(&cluster, 0, 0);
    set_all();
    EXPECT(mqredis_command(mq, "GET %s", word), "v");
    redis_cluster_kill(&cluster, 3);
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_nodes) == 5));
    /* Nodes take their time to find each other again. */
    mqredis_set_timeout(mq, 2 * SCENE_TIMEOUT_MS);
    struct mqredis_request *read = mqredis_submit(mq, "GET %s", word);
    mqredis_flush(mq);
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_held) == 1));
    struct mqredis *other = lib_open(&manager);
    for (int i = 0; i < TIMES; i++)
        EXPECT(mqredis_command(other, "SET %s w", word), "OK");
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_held) == 1));
    mqredis_close(other);
    redis_cluster_restart(&cluster, 3);
    /* It comes back empty, and answers while its master's keys are coming. */
    struct mqredis_reply *r = mqredis_wait(read);
    ck_assert_msg(r->type == MQREDIS_NIL || strcmp(lib_text(r), "w") == 0, "%s",
                  lib_text(r));
    mqredis_free(r);
    cluster_scene_end();
}
END_TEST

/* A slot moves under readers of replicas. */
START_TEST(test_replicas_read_after_a_move)
{
    if (!start("--read-from replica"))
        return;
    const char *word = redis_cluster_word(&cluster, 0, 0);
    EXPECT(mqredis_command(mq, "SET %s v", word), "OK");
    ck_assert(
        UNTIL(strcmp(redis_cluster_ask(&cluster, 3, "DBSIZE"), ":1\r\n") == 0));
    EXPECT(mqredis_command(mq, "GET %s", word), "v");
    redis_cluster_move(&cluster, redis_cluster_slot(word), 1);
    redis_cluster_settle(&cluster);
    ck_assert(
        UNTIL(strcmp(redis_cluster_ask(&cluster, 4, "DBSIZE"), ":1\r\n") == 0));
    for (int i = 0; i < TIMES; i++)
        EXPECT(mqredis_command(mq, "GET %s", word), "v");
    EXPECT(mqredis_command(mq, "APPEND %s w", word), "2");
    cluster_scene_end();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("cluster_replicas");
    TCase *t = support_case(s, "replicas", 60);
    tcase_add_checked_fixture(t, support_remove_queues, e2e_stop_all);
    tcase_add_test(t, test_replicas_read);
    tcase_add_loop_test(t, test_masters_read, 0, 2);
    tcase_add_test(t, test_master_reads_where_the_replica_is_dead);
    tcase_add_test(t, test_a_dead_replica_holds_up_no_writer);
    tcase_add_test(t, test_replicas_read_after_a_move);
    return s;
}

int main(void)
{
    return support_run(suite());
}
