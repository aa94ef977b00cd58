/*
 * What a manager makes of nodes that send commands elsewhere, or say that it is
 * too early, as real ones can hardly be made to do at a chosen moment: where
 * that leads nowhere, in a circle, or goes on for ever. Each command ends with
 * an answer that is its own, and in time.
 */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "tests/fake_cluster_scene.h"
#include "tests/support.h"

/* ---- MOVED ---- */

/* Each node names the next one: 16 are followed, and the last is the reply. */
START_TEST(test_chain_of_moved_ends)
{
    fake_scene_begin(3, NULL);
    for (int i = 0; i < 3; i++)
        fake_cluster_says(&nodes, i, "-MOVED %d 127.0.0.1:%d\r\n", SLOT,
                          port((i + 1) % 3));
    struct mqredis_reply *r = timed("GET " KEY, 0);
    ck_assert_msg(r->type == MQREDIS_ERROR &&
                      strncmp(r->str, "MOVED 12182 127.0.0.1:", 22) == 0,
                  "%s", lib_text(r));
    mqredis_free(r);
    ck_assert_uint_eq(fake_cluster_asked(&nodes), 17);
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_moved), 16);
    assert_serves();
    fake_scene_end();
}
END_TEST

/* What does not say where to is a reply as any, and asked for once. */
START_TEST(test_moved_that_leads_nowhere)
{
    static const char *const words[] = {
        "MOVED",
        "MOVED 12182",
        "MOVED 12182 ",
        "MOVED 12182 nowhere",
        "MOVED 12182 127.0.0.1:",
        "MOVED 12182 127.0.0.1:0",
        "MOVED 12182 127.0.0.1:65536",
        "MOVED 12182 127.0.0.1:7000x",
        "MOVED 16384 127.0.0.1:7000",
        "MOVED -1 127.0.0.1:7000",
        "MOVED x 127.0.0.1:7000",
        "MOVED 12182 ?:7000",
        "MOVED 12182 127.0.0.1\t:7000",
        "ASK",
        "ASK 12182",
        "ASK 12182 ?:7000",
    };
    fake_scene_begin(2, NULL);
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        fake_cluster_calm(&nodes);
        fake_cluster_says(&nodes, OWNER(2), "-%s\r\n", words[i]);
        struct mqredis_reply *r = timed("GET " KEY, 0);
        ck_assert_msg(r->type == MQREDIS_ERROR && strcmp(r->str, words[i]) == 0,
                      "'%s': '%s'", words[i], lib_text(r));
        mqredis_free(r);
        ck_assert_uint_eq(asked(OWNER(2)), 1);
    }
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_moved), 0);
    assert_serves();
    fake_scene_end();
}
END_TEST

/* An empty host is the one that said it; a node may name itself. */
START_TEST(test_moved_without_a_host)
{
    fake_scene_begin(2, NULL);
    fake_cluster_says(&nodes, 1, "-MOVED %d :%d\r\n", SLOT, port(0));
    EXPECT(mqredis_command(mq, "GET " KEY), "node 0");
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_moved), 1);
    assert_serves();
    fake_scene_end();
}
END_TEST

START_TEST(test_moved_to_itself)
{
    fake_scene_begin(2, NULL);
    fake_cluster_says(&nodes, 1, "-MOVED %d 127.0.0.1:%d\r\n", SLOT, port(1));
    fake_cluster_says(&nodes, 1, "+at last\r\n");
    EXPECT(mqredis_command(mq, "GET " KEY), "at last");
    fake_cluster_calm(&nodes);
    fake_cluster_says(&nodes, 1, "-MOVED %d 127.0.0.1:%d\r\n", SLOT, port(1));
    struct mqredis_reply *r = timed("GET " KEY, 0);
    ck_assert_msg(r->type == MQREDIS_ERROR, "%s", lib_text(r));
    mqredis_free(r);
    ck_assert_uint_eq(asked(1), 17);
    assert_serves();
    fake_scene_end();
}
END_TEST

/* A place where nobody is: the map says better, at the latest in a second. */
START_TEST(test_moved_to_nobody)
{
    fake_scene_begin(2, NULL);
    int closed = support_free_port();
    fake_cluster_says(&nodes, 1, "-MOVED %d 127.0.0.1:%d\r\n", SLOT, closed);
    fake_cluster_says(&nodes, 1, "+at last\r\n");
    EXPECT(mqredis_command(mq, "GET " KEY), "at last");
    /* For ever: until the deadline, and other slots go on. */
    char moved[64];
    snprintf(moved, sizeof(moved), "-MOVED %d 127.0.0.1:%d\r\n", SLOT, closed);
    fake_cluster_calm(&nodes);
    fake_cluster_says(&nodes, 1, "%s", moved);
    struct mqredis_request *q = mqredis_submit(mq, "GET " KEY);
    mqredis_flush(mq);
    EXPECT(mqredis_command(mq, "GET bar"), "node 0");
    mqredis_cancel(q);
    mqredis_free(runs_out("GET " KEY, 1000, moved));
    ck_assert_uint_le(asked(1), 17);
    fake_cluster_calm(&nodes);
    EXPECT(mqredis_command(mq, "GET " KEY), "node 1");
    fake_scene_end();
}
END_TEST

static void follow_to_the_stranger(void)
{
    fake_cluster_calm(&nodes);
    fake_cluster_says(&nodes, 1, "-MOVED %d 127.0.0.1:%d\r\n", SLOT, port(2));
    fake_cluster_says(&nodes, 1, "+at last\r\n");
    EXPECT(mqredis_command(mq, "EVAL script 1 " KEY), "at last");
}

/* A node that is on no map gets no slot, and is not asked for the map, whoever
 * names it: a script can say MOVED and ASK, too. */
START_TEST(test_moved_to_a_stranger)
{
    char map[512];
    fake_cluster_start(&nodes, 3);
    snprintf(map, sizeof(map),
             "*2\r\n"
             "*3\r\n:0\r\n:8191\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n"
             "*3\r\n:8192\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n",
             port(0), port(1));
    /* That one says that all is its own. */
    fake_cluster_map(&nodes, 0, "%s", map);
    fake_cluster_map(&nodes, 1, "%s", map);
    fake_cluster_map(&nodes, 2,
                     "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n"
                     ":%d\r\n",
                     port(2));
    nodes.nodes->count = 2; /* to be named */
    fake_scene_begin(2, NULL);
    follow_to_the_stranger();
    EXPECT(mqredis_command(mq, "GET " KEY), "at last");
    ck_assert_uint_eq(asked(2), 0);
    fake_cluster_calm(&nodes);
    fake_cluster_says(&nodes, 1, "-ASK %d 127.0.0.1:%d\r\n", SLOT, port(2));
    EXPECT(mqredis_command(mq, "EVAL script 1 " KEY), "node 2");
    unsigned maps = fake_cluster_maps(&nodes);
    ck_assert(UNTIL(
        (follow_to_the_stranger(), fake_cluster_maps(&nodes) > maps + 3)));
    ck_assert_uint_eq(nodes.nodes->node[2].maps, 0);
    ck_assert_uint_eq(asked(2), 1);
    assert_serves();
    fake_scene_end();
}
END_TEST

/* A name that nobody knows (a module loaded meanwhile, say) may have a key
 * after all, and goes where that is. */
START_TEST(test_moved_of_what_nobody_knows)
{
    fake_scene_begin(2, NULL);
    mqredis_free(mqredis_command(mq, "NONSENSE " KEY));
    int any = asked(0) > 0 ? 0 : 1;
    fake_cluster_calm(&nodes);
    fake_cluster_says(&nodes, any, "-MOVED %d 127.0.0.1:%d\r\n", SLOT,
                      port(1 - any));
    fake_cluster_says(&nodes, 1 - any, "+here\r\n");
    EXPECT(mqredis_command(mq, "NONSENSE " KEY), "here");
    ck_assert_uint_eq(asked(any), 1);
    assert_serves();
    fake_scene_end();
}
END_TEST

START_TEST(test_transaction_goes_elsewhere_whole)
{
    fake_scene_begin(2, NULL);
    fake_cluster_says(&nodes, 1, "+OK\r\n");
    fake_cluster_says(&nodes, 1, "-MOVED %d 127.0.0.1:%d\r\n", SLOT, port(0));
    fake_cluster_says(&nodes, 1, "-EXECABORT Transaction discarded\r\n");
    fake_cluster_says(&nodes, 0, "+OK\r\n");
    fake_cluster_says(&nodes, 0, "+QUEUED\r\n");
    fake_cluster_says(&nodes, 0, "*1\r\n:42\r\n");
    struct mqredis_batch *b = mqredis_batch_new(mq);
    mqredis_batch_add(b, "INCR " KEY);
    struct mqredis_reply *r = mqredis_transaction_run(b);
    ck_assert_msg(r->type == MQREDIS_ARRAY && r->elements == 1 &&
                      r->element[0]->integer == 42,
                  "%s", lib_text(r));
    mqredis_free(r);
    ck_assert_uint_eq(asked(0), 3);
    ck_assert_uint_eq(asked(1), 3);
    assert_serves();
    fake_scene_end();
}
END_TEST

/* On a connection of its own to each node that is named. */
START_TEST(test_blocking_command_is_redirected)
{
    fake_scene_begin(2, NULL);
    fake_cluster_says(&nodes, 1, "-MOVED %d 127.0.0.1:%d\r\n", SLOT, port(0));
    fake_cluster_says(&nodes, 0, "-ASK %d 127.0.0.1:%d\r\n", SLOT, port(1));
    fake_cluster_says(&nodes, 1, "+at last\r\n");
    EXPECT(mqredis_command(mq, "BLPOP " KEY " 1"), "at last");
    ck_assert_uint_eq(nodes.nodes->node[1].asking, 1);
    fake_cluster_calm(&nodes);
    for (int i = 0; i < 2; i++)
        fake_cluster_says(&nodes, i, "-MOVED %d 127.0.0.1:%d\r\n", SLOT,
                          port(1 - i));
    struct mqredis_reply *r = timed("BLPOP " KEY " 1", 0);
    ck_assert_msg(r->type == MQREDIS_ERROR && strncmp(r->str, "MOVED ", 6) == 0,
                  "%s", lib_text(r));
    mqredis_free(r);
    ck_assert_uint_eq(fake_cluster_asked(&nodes), 17);
    assert_serves();
    fake_scene_end();
}
END_TEST

/* ---- ASK ---- */

START_TEST(test_ask)
{
    fake_scene_begin(2, NULL);
    fake_cluster_says(&nodes, 1, "-ASK %d 127.0.0.1:%d\r\n", SLOT, port(0));
    EXPECT(mqredis_command(mq, "GET " KEY), "node 0");
    ck_assert_uint_eq(nodes.nodes->node[0].asking, 1);
    fake_cluster_calm(&nodes);
    EXPECT(mqredis_command(mq, "GET " KEY), "node 1");
    fake_scene_end();
}
END_TEST

/* The owner is asked again, who says better or says it 16 times. */
/* The keys that are not at the one node are at the other, which is away: it is
 * waited for, or that is said. */
START_TEST(test_ask_nobody)
{
    fake_scene_begin(2, _i == 0 ? NULL : "--when-down fail");
    int closed = support_free_port();
    fake_cluster_says(&nodes, 1, "-ASK %d 127.0.0.1:%d\r\n", SLOT, closed);
    if (_i == 0) {
        fake_cluster_says(&nodes, 1, "+at last\r\n");
        EXPECT(mqredis_command(mq, "GET " KEY), "at last");
        char ask[64];
        snprintf(ask, sizeof(ask), "-ASK %d 127.0.0.1:%d\r\n", SLOT, closed);
        mqredis_free(runs_out("GET " KEY, 2500, ask));
        ck_assert_uint_gt(asked(1), 3);
        ck_assert_uint_le(asked(1), 45);
    }
    for (unsigned i = 0; _i == 1 && i < 2; i++) {
        struct mqredis_reply *r = timed("GET " KEY, 0);
        ck_assert_msg(r->status == MQREDIS_UNAVAILABLE &&
                          strstr(r->str, "its slot moves to is down") != NULL,
                      "%s", lib_text(r));
        mqredis_free(r);
        ck_assert_uint_eq(asked(1), i + 1);
    }
    assert_serves();
    fake_scene_end();
}
END_TEST

/* ---- not now ---- */

START_TEST(test_tryagain_for_ever)
{
    fake_scene_begin(2, NULL);
    mqredis_free(runs_out("MGET {" KEY "}1 {" KEY "}2", 2500,
                          "-TRYAGAIN Multiple keys request\r\n"));
    /* After 2 ms, 4, 8 ... 200, and at least the half of that. */
    ck_assert_uint_gt(asked(1), 3);
    ck_assert_uint_le(asked(1), 37);
    assert_serves();
    fake_scene_end();
}
END_TEST

START_TEST(test_clusterdown_passes)
{
    fake_scene_begin(2, NULL);
    for (int i = 0; i < 3; i++)
        fake_cluster_says(&nodes, 1, "-CLUSTERDOWN The cluster is down\r\n");
    fake_cluster_says(&nodes, 1, "+at last\r\n");
    EXPECT(mqredis_command(mq, "GET " KEY), "at last");
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_clusterdown), 3);
    mqredis_free(
        runs_out("GET " KEY, 500, "-CLUSTERDOWN The cluster is down\r\n"));
    assert_serves();
    fake_scene_end();
}
END_TEST

START_TEST(test_clusterdown_is_told_at_once)
{
    fake_scene_begin(2, "--when-down fail");
    fake_cluster_says(&nodes, 1, "-CLUSTERDOWN The cluster is down\r\n");
    EXPECT(mqredis_command(mq, "GET " KEY), "CLUSTERDOWN The cluster is down");
    ck_assert_uint_eq(asked(1), 1);
    fake_scene_end();
}
END_TEST

/* What two commands that are sent at once become, when the node has the first
 * one wait and executes the second. */
static void assert_two(const char *first, const char *second, const char *want)
{
    struct mqredis_request *q[2] = {mqredis_submit(mq, first),
                                    mqredis_submit(mq, second)};
    struct mqredis_reply *r = mqredis_wait(q[0]);
    ck_assert_msg(strstr(r->str, want) != NULL, "%s: %s", first, r->str);
    ck_assert_int_eq(r->status, strcmp(want, "first") == 0
                                    ? MQREDIS_OK
                                    : MQREDIS_UNAVAILABLE);
    mqredis_free(r);
    EXPECT(mqredis_wait(q[1]), "second");
}

/* Who was told to wait does not go after a later command on its key. */
START_TEST(test_order_on_a_key)
{
    static const char *const words[] = {"-TRYAGAIN Multiple keys request\r\n",
                                        "-CLUSTERDOWN The cluster is down\r\n"};
    static const struct {
        const char *first, *second;
        bool together;
    } pairs[] = {
        {"SET " KEY " a", "SET " KEY " b", true},
        {"MGET {" KEY "}1 {" KEY "}2", "SET {" KEY "}2 b", true},
        {"MGET {" KEY "}1 {" KEY "}2", "SET {" KEY "}3 b", false},
        {"SPUBLISH " KEY " a", "SPUBLISH " KEY " b", true},
    };
    fake_scene_begin(2, NULL);
    for (size_t i = 0; i < 4; i++) {
        fake_cluster_calm(&nodes);
        fake_cluster_says(&nodes, 1, "%s", words[_i]);
        fake_cluster_says(&nodes, 1, "+second\r\n");
        fake_cluster_says(&nodes, 1, "+first\r\n");
        assert_two(pairs[i].first, pairs[i].second,
                   pairs[i].together ? "a later command on its key" : "first");
        ck_assert_uint_eq(asked(1), pairs[i].together ? 2 : 3);
    }
    /* The same within a batch. */
    struct mqredis_batch *b = mqredis_batch_new(mq);
    fake_cluster_calm(&nodes);
    fake_cluster_says(&nodes, 1, "%s", words[_i]);
    fake_cluster_says(&nodes, 1, "+second\r\n");
    fake_cluster_says(&nodes, 1, "%s", words[_i]);
    fake_cluster_says(&nodes, 1, "+fourth\r\n");
    fake_cluster_says(&nodes, 1, "+third\r\n");
    mqredis_batch_add(b, "SET " KEY " a");
    mqredis_batch_add(b, "GET " KEY);
    mqredis_batch_add(b, "MGET {" KEY "}1 {" KEY "}2");
    mqredis_batch_add(b, "GET {" KEY "}3");
    struct mqredis_reply *r = mqredis_wait(mqredis_batch_submit(b));
    ck_assert_uint_eq(r->elements, 4);
    ck_assert_int_eq(r->element[0]->status, MQREDIS_UNAVAILABLE);
    ck_assert_str_eq(r->element[1]->str, "second");
    ck_assert_str_eq(r->element[2]->str, "third");
    ck_assert_str_eq(r->element[3]->str, "fourth");
    ck_assert_uint_eq(asked(1), 5);
    mqredis_free(r);
    fake_cluster_calm(&nodes);
    assert_serves();
    fake_scene_end();
}
END_TEST

#define TRYAGAIN "-TRYAGAIN Multiple keys request\r\n"

/* A batch of two, of which the node tells only the second to wait: its first
 * was executed, and who came before that does not go any more, unless it has
 * nothing to do with that one. */
START_TEST(test_order_before_half_a_batch)
{
    static const char *const keys[] = {"{" KEY "}2", "{" KEY "}3"};
    fake_scene_begin(2, NULL);
    fake_cluster_says(&nodes, 1, "%s", "");
    fake_cluster_says(&nodes, 1, TRYAGAIN "+half\r\n");
    fake_cluster_says(&nodes, 1, TRYAGAIN);
    if (_i == 1)
        fake_cluster_says(&nodes, 1, "+first\r\n");
    fake_cluster_says(&nodes, 1, "+whole\r\n");
    struct mqredis_request *q =
        mqredis_submit(mq, "MGET {" KEY "}1 {" KEY "}2");
    mqredis_flush(mq);
    struct mqredis_batch *b = mqredis_batch_new(mq);
    mqredis_batch_add(b, "SET %s b", keys[_i]);
    mqredis_batch_add(b, "MGET {" KEY "}4 {" KEY "}5");
    struct mqredis_reply *r = mqredis_wait(mqredis_batch_submit(b));
    ck_assert_uint_eq(r->elements, 2);
    ck_assert_str_eq(r->element[0]->str, "half");
    ck_assert_str_eq(r->element[1]->str, "whole");
    mqredis_free(r);
    r = mqredis_wait(q);
    ck_assert_msg(_i == 1 ? strcmp(r->str, "first") == 0
                          : r->status == MQREDIS_UNAVAILABLE,
                  "%s", lib_text(r));
    mqredis_free(r);
    ck_assert_uint_eq(asked(1), _i == 1 ? 5 : 4);
    assert_serves();
    fake_scene_end();
}
END_TEST

/* What of a batch was executed already is in nobody's way. */
START_TEST(test_order_after_half_a_batch)
{
    fake_scene_begin(2, NULL);
    fake_cluster_says(&nodes, 1, "%s", "");
    fake_cluster_says(&nodes, 1, "%s", "");
    fake_cluster_says(&nodes, 1, "+half\r\n" TRYAGAIN "+second\r\n");
    fake_cluster_says(&nodes, 1, "+whole\r\n");
    struct mqredis_batch *b = mqredis_batch_new(mq);
    mqredis_batch_add(b, "SET {" KEY "}1 a");
    mqredis_batch_add(b, "MGET {" KEY "}4 {" KEY "}5");
    struct mqredis_request *first = mqredis_batch_submit(b);
    struct mqredis_request *second = mqredis_submit(mq, "SET {" KEY "}1 b");
    mqredis_flush(mq);
    struct mqredis_reply *r = mqredis_wait(first);
    ck_assert_uint_eq(r->elements, 2);
    ck_assert_str_eq(r->element[0]->str, "half");
    ck_assert_str_eq(r->element[1]->str, "whole");
    mqredis_free(r);
    EXPECT(mqredis_wait(second), "second");
    ck_assert_uint_eq(asked(1), 4);
    assert_serves();
    fake_scene_end();
}
END_TEST

/* What is lost may have been executed: what came before it in its batch and has
 * a key with it does not go any more. */
START_TEST(test_order_before_what_is_lost)
{
    fake_scene_begin(2, NULL);
    fake_cluster_says(&nodes, 1, TRYAGAIN);
    fake_cluster_says(&nodes, 1, TRYAGAIN);
    fake_cluster_hangs_up(&nodes, 1, "%s", "");
    fake_cluster_says(&nodes, 1, "+whole\r\n");
    struct mqredis_batch *b = mqredis_batch_new(mq);
    mqredis_batch_add(b, "MGET {" KEY "}1 {" KEY "}2");
    mqredis_batch_add(b, "MGET {" KEY "}4 {" KEY "}5");
    mqredis_batch_add(b, "SET {" KEY "}2 b");
    struct mqredis_reply *r = mqredis_wait(mqredis_batch_submit(b));
    ck_assert_uint_eq(r->elements, 3);
    ck_assert_msg(r->element[0]->status == MQREDIS_UNAVAILABLE, "%s",
                  lib_text(r->element[0]));
    ck_assert_str_eq(r->element[1]->str, "whole");
    ck_assert_int_eq(r->element[2]->status, MQREDIS_LOST);
    mqredis_free(r);
    ck_assert_uint_eq(asked(1), 4);
    assert_serves();
    fake_scene_end();
}
END_TEST

/* A transaction within a batch is executed by its EXEC, and has the keys of all
 * of it: another key's command before it goes all the same. */
START_TEST(test_order_before_a_transaction)
{
    bool together = _i == 1;
    fake_scene_begin(2, NULL);
    fake_cluster_says(&nodes, 1, TRYAGAIN);
    fake_cluster_says(&nodes, 1, "+OK\r\n");
    fake_cluster_says(&nodes, 1, "+QUEUED\r\n");
    fake_cluster_says(&nodes, 1, "*1\r\n+OK\r\n");
    fake_cluster_says(&nodes, 1, "+first\r\n");
    struct mqredis_batch *b = mqredis_batch_new(mq);
    mqredis_batch_add(b, "MGET {" KEY "}1 {" KEY "}2");
    mqredis_batch_add(b, "MULTI");
    mqredis_batch_add(b, "SET {" KEY "}%d b", together ? 2 : 3);
    mqredis_batch_add(b, "EXEC");
    struct mqredis_reply *r = mqredis_wait(mqredis_batch_submit(b));
    ck_assert_uint_eq(r->elements, 4);
    ck_assert_msg(together ? r->element[0]->status == MQREDIS_UNAVAILABLE
                           : strcmp(r->element[0]->str, "first") == 0,
                  "%s", lib_text(r->element[0]));
    ck_assert_uint_eq(r->element[3]->elements, 1);
    mqredis_free(r);
    ck_assert_uint_eq(asked(1), together ? 4 : 5);
    assert_serves();
    fake_scene_end();
}
END_TEST

/* ---- by the other connection ---- */

#define DETOURS_MAX 16

/* Large ones go by the small connection while theirs is away; once that is back
 * the next one waits until the node has answered all of them. */
START_TEST(test_order_behind_a_detour)
{
    struct mqredis_request *q[DETOURS_MAX];
    unsigned count = 0;
    fake_scene_begin(2, NULL);
    struct mqredis *other = lib_open(&manager);
    fake_cluster_says_much(&nodes, 1, 100 << 10); /* it is a large one now */
    fake_cluster_hangs_up(&nodes, 1, "%s", "");
    fake_cluster_says(&nodes, 1, "%s", "");
    mqredis_free(mqredis_command(mq, "GET " KEY));
    nodes.nodes->node[1].alone = true;
    struct mqredis_reply *r = mqredis_command(mq, "GET " KEY);
    ck_assert_msg(r->status == MQREDIS_LOST, "%s", lib_text(r));
    mqredis_free(r);
    q[count++] = mqredis_submit(mq, "GET " KEY);
    mqredis_flush(mq);
    ck_assert(UNTIL(asked(1) == 3));
    nodes.nodes->node[1].connected = 0;
    nodes.nodes->node[1].alone = false;
    ck_assert(UNTIL(nodes.nodes->node[1].connected == 2));
    /* The manager knows a moment later: one after the other is sent. */
    while (e2e_gauge(&manager, GAUGE_held) == 0) {
        ck_assert_uint_lt(count, DETOURS_MAX);
        q[count++] = mqredis_submit(mq, "GET " KEY);
        mqredis_flush(mq);
        ck_assert(UNTIL(asked(1) == count + 2 ||
                        e2e_gauge(&manager, GAUGE_held) == 1));
        support_sleep_ms(50);
    }
    ck_assert_uint_eq(asked(1), count + 1);
    /* What was not answered so far is now, by the small connection. */
    char words[512] = "";
    for (unsigned i = 0; i + 1 < count; i++)
        strcat(words, "+small\r\n");
    fake_cluster_calm(&nodes);
    fake_cluster_says(&nodes, 1, "%s+other\r\n", words);
    fake_cluster_says(&nodes, 1, "+large\r\n");
    EXPECT(mqredis_command(other, "GET a"), "other");
    for (unsigned i = 0; i < count; i++)
        EXPECT(mqredis_wait(q[i]), i + 1 < count ? "small" : "large");
    mqredis_close(other);
    assert_serves();
    fake_scene_end();
}
END_TEST

/* A master that loads says so to the worker, as one server would. */
START_TEST(test_master_that_loads)
{
    fake_scene_begin(2, NULL);
    fake_cluster_says(&nodes, 1, "-LOADING Redis is loading\r\n");
    fake_cluster_says(&nodes, 1, "-MASTERDOWN Link with MASTER is down\r\n");
    EXPECT(mqredis_command(mq, "GET " KEY), "LOADING Redis is loading");
    EXPECT(mqredis_command(mq, "GET " KEY),
           "MASTERDOWN Link with MASTER is down");
    ck_assert_uint_eq(asked(1), 2);
    assert_serves();
    fake_scene_end();
}
END_TEST

/* A replica that is not ready leaves it to its master. */
START_TEST(test_replica_that_is_not_ready)
{
    fake_cluster_start(&nodes, 2);
    nodes.nodes->node[1].replica = true;
    fake_scene_begin(2, "--read-from prefer-replica");
    ck_assert(
        UNTIL((mqredis_free(mqredis_command(mq, "GET " KEY)), asked(1) > 0)));
    fake_cluster_calm(&nodes);
    fake_cluster_says(&nodes, 1, "-LOADING Redis is loading\r\n");
    fake_cluster_says(&nodes, 1, "-MASTERDOWN Link with MASTER is down\r\n");
    fake_cluster_says(&nodes, 1, "-MOVED %d 127.0.0.1:%d\r\n", SLOT, port(0));
    for (unsigned i = 1; i <= 3; i++) {
        EXPECT(mqredis_command(mq, "GET " KEY), "node 0");
        ck_assert_uint_eq(asked(1), i);
        ck_assert_uint_eq(asked(0), i);
    }
    fake_scene_end();
}
END_TEST

int main(void)
{
    const struct fake_case cases[] = {
        {"moved, chain", test_chain_of_moved_ends, 1},
        {"moved, nowhere", test_moved_that_leads_nowhere, 1},
        {"moved, no host", test_moved_without_a_host, 1},
        {"moved, itself", test_moved_to_itself, 1},
        {"moved, nobody", test_moved_to_nobody, 1},
        {"moved, stranger", test_moved_to_a_stranger, 1},
        {"moved, unknown", test_moved_of_what_nobody_knows, 1},
        {"transaction", test_transaction_goes_elsewhere_whole, 1},
        {"blocking", test_blocking_command_is_redirected, 1},
        {"ask", test_ask, 1},
        {"ask, nobody", test_ask_nobody, 2},
        {"tryagain", test_tryagain_for_ever, 1},
        {"clusterdown", test_clusterdown_passes, 1},
        {"clusterdown, fail", test_clusterdown_is_told_at_once, 1},
        {"order on a key", test_order_on_a_key, 2},
        {"order, half before", test_order_before_half_a_batch, 2},
        {"order, half after", test_order_after_half_a_batch, 1},
        {"order, lost", test_order_before_what_is_lost, 1},
        {"order, transaction", test_order_before_a_transaction, 2},
        {"order, detour", test_order_behind_a_detour, 1},
        {"loading", test_master_that_loads, 1},
        {"replica", test_replica_that_is_not_ready, 1},
    };
    return fake_scene_run("errand", cases, sizeof(cases) / sizeof(cases[0]));
}
