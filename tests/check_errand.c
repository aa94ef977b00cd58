/*
 * What a manager makes of nodes that say what real ones can hardly be made to
 * say at a chosen moment: redirections that lead nowhere or for ever, nodes
 * that are not ready, replies that break off or are none, and maps that are
 * wrong. Each command ends with an answer that is its own, and in time.
 */
#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "manager/slot.h"
#include "tests/fake_cluster.h"
#include "tests/lib.h"
#include "tests/support.h"

static struct fake_cluster nodes;
static struct e2e_manager manager;
static struct mqredis *mq;

/* A key of the slot 12182, and the node that the even map gives it to. */
#define KEY "foo"
#define SLOT 12182
#define OWNER(count) (SLOT * (count) / SLOTS)

static void start(int count, const char *options)
{
    if (nodes.nodes == NULL)
        fake_cluster_start(&nodes, count);
    e2e_manager_start(&manager, NULL, fake_cluster_uri(&nodes), options);
    mq = lib_open(&manager);
    mqredis_set_timeout(mq, 5000);
}

static void stop(void)
{
    ck_assert_msg(UNTIL(e2e_balanced(&manager)), "%s", e2e_books(&manager));
    mqredis_close(mq);
    e2e_stop_all();
    fake_cluster_kill(&nodes);
}

static int port(int node)
{
    return nodes.nodes->node[node].port;
}

static unsigned asked(int node)
{
    return nodes.nodes->node[node].asked;
}

/* That it takes so long at least and at most. */
static struct mqredis_reply *timed(const char *command, int64_t least_ms,
                                   int64_t most_ms)
{
    uint64_t t0 = clock_ns();
    struct mqredis_reply *r = mqredis_command(mq, command);
    int64_t ms = (int64_t)((clock_ns() - t0) / NS_PER_MS);
    ck_assert_msg(ms >= least_ms && ms <= most_ms, "%s took %lld ms: %s",
                  command, (long long)ms, lib_text(r));
    return r;
}

/* Another key of the same slot, and one of another node: nothing is left of
 * what went before. */
static void assert_serves(void)
{
    fake_cluster_calm(&nodes);
    struct mqredis_reply *r = mqredis_command(mq, "GET {" KEY "}2");
    ck_assert_msg(r->type == MQREDIS_STATUS && strncmp(r->str, "node ", 5) == 0,
                  "%s", lib_text(r));
    mqredis_free(r);
    /* Slot 5061, of the first of up to three nodes. */
    EXPECT(mqredis_command(mq, "GET bar"), "node 0");
}

/* ---- MOVED ---- */

/* Each node names the next one: 16 are followed, and the last is the reply. */
START_TEST(test_chain_of_moved_ends)
{
    start(3, NULL);
    for (int i = 0; i < 3; i++)
        fake_cluster_says(&nodes, i, "-MOVED %d 127.0.0.1:%d\r\n", SLOT,
                          port((i + 1) % 3));
    struct mqredis_reply *r = timed("GET " KEY, 0, 4000);
    ck_assert_msg(r->type == MQREDIS_ERROR &&
                      strncmp(r->str, "MOVED 12182 127.0.0.1:", 22) == 0,
                  "%s", lib_text(r));
    mqredis_free(r);
    ck_assert_uint_eq(fake_cluster_asked(&nodes), 17);
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_moved), 16);
    assert_serves();
    stop();
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
    start(2, NULL);
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        fake_cluster_calm(&nodes);
        fake_cluster_says(&nodes, OWNER(2), "-%s\r\n", words[i]);
        struct mqredis_reply *r = timed("GET " KEY, 0, 4000);
        ck_assert_msg(r->type == MQREDIS_ERROR && strcmp(r->str, words[i]) == 0,
                      "'%s': '%s'", words[i], lib_text(r));
        mqredis_free(r);
        ck_assert_uint_eq(asked(OWNER(2)), 1);
    }
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_moved), 0);
    assert_serves();
    stop();
}
END_TEST

/* An empty host is the one that said it; a node may name itself. */
START_TEST(test_moved_without_a_host)
{
    start(2, NULL);
    fake_cluster_says(&nodes, 1, "-MOVED %d :%d\r\n", SLOT, port(0));
    EXPECT(mqredis_command(mq, "GET " KEY), "node 0");
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_moved), 1);
    assert_serves();
    stop();
}
END_TEST

START_TEST(test_moved_to_itself)
{
    start(2, NULL);
    fake_cluster_says(&nodes, 1, "-MOVED %d 127.0.0.1:%d\r\n", SLOT, port(1));
    fake_cluster_says(&nodes, 1, "+at last\r\n");
    EXPECT(mqredis_command(mq, "GET " KEY), "at last");
    fake_cluster_calm(&nodes);
    fake_cluster_says(&nodes, 1, "-MOVED %d 127.0.0.1:%d\r\n", SLOT, port(1));
    struct mqredis_reply *r = timed("GET " KEY, 0, 4000);
    ck_assert_msg(r->type == MQREDIS_ERROR, "%s", lib_text(r));
    mqredis_free(r);
    ck_assert_uint_eq(asked(1), 17);
    assert_serves();
    stop();
}
END_TEST

/* A place where nobody is: the map says better, at the latest in a second. */
START_TEST(test_moved_to_nobody)
{
    start(2, NULL);
    int closed = support_free_port();
    fake_cluster_says(&nodes, 1, "-MOVED %d 127.0.0.1:%d\r\n", SLOT, closed);
    fake_cluster_says(&nodes, 1, "+at last\r\n");
    EXPECT(mqredis_command(mq, "GET " KEY), "at last");
    /* For ever: until the deadline, and other slots go on. */
    fake_cluster_calm(&nodes);
    fake_cluster_says(&nodes, 1, "-MOVED %d 127.0.0.1:%d\r\n", SLOT, closed);
    mqredis_set_timeout(mq, 1000);
    struct mqredis_request *q = mqredis_submit(mq, "GET " KEY);
    mqredis_flush(mq);
    EXPECT(mqredis_command(mq, "GET bar"), "node 0");
    struct mqredis_reply *r = mqredis_wait(q);
    ck_assert_msg(r->status == MQREDIS_EXPIRED, "%s", lib_text(r));
    mqredis_free(r);
    ck_assert_uint_le(asked(1), 17);
    mqredis_set_timeout(mq, 5000);
    fake_cluster_calm(&nodes);
    EXPECT(mqredis_command(mq, "GET " KEY), "node 1");
    stop();
}
END_TEST

START_TEST(test_transaction_goes_elsewhere_whole)
{
    start(2, NULL);
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
    stop();
}
END_TEST

/* On a connection of its own to each node that is named. */
START_TEST(test_blocking_command_is_redirected)
{
    start(2, NULL);
    fake_cluster_says(&nodes, 1, "-MOVED %d 127.0.0.1:%d\r\n", SLOT, port(0));
    fake_cluster_says(&nodes, 0, "-ASK %d 127.0.0.1:%d\r\n", SLOT, port(1));
    fake_cluster_says(&nodes, 1, "+at last\r\n");
    EXPECT(mqredis_command(mq, "BLPOP " KEY " 1"), "at last");
    ck_assert_uint_eq(nodes.nodes->node[1].asking, 1);
    fake_cluster_calm(&nodes);
    for (int i = 0; i < 2; i++)
        fake_cluster_says(&nodes, i, "-MOVED %d 127.0.0.1:%d\r\n", SLOT,
                          port(1 - i));
    struct mqredis_reply *r = timed("BLPOP " KEY " 1", 0, 4000);
    ck_assert_msg(r->type == MQREDIS_ERROR && strncmp(r->str, "MOVED ", 6) == 0,
                  "%s", lib_text(r));
    mqredis_free(r);
    ck_assert_uint_eq(fake_cluster_asked(&nodes), 17);
    assert_serves();
    stop();
}
END_TEST

/* ---- ASK ---- */

START_TEST(test_ask)
{
    start(2, NULL);
    fake_cluster_says(&nodes, 1, "-ASK %d 127.0.0.1:%d\r\n", SLOT, port(0));
    EXPECT(mqredis_command(mq, "GET " KEY), "node 0");
    ck_assert_uint_eq(nodes.nodes->node[0].asking, 1);
    fake_cluster_calm(&nodes);
    EXPECT(mqredis_command(mq, "GET " KEY), "node 1");
    stop();
}
END_TEST

/* The owner is asked again, who says better or says it 16 times. */
START_TEST(test_ask_nobody)
{
    start(2, NULL);
    int closed = support_free_port();
    fake_cluster_says(&nodes, 1, "-ASK %d 127.0.0.1:%d\r\n", SLOT, closed);
    fake_cluster_says(&nodes, 1, "+at last\r\n");
    EXPECT(mqredis_command(mq, "GET " KEY), "at last");
    fake_cluster_calm(&nodes);
    fake_cluster_says(&nodes, 1, "-ASK %d 127.0.0.1:%d\r\n", SLOT, closed);
    struct mqredis_reply *r = timed("GET " KEY, 0, 5500);
    ck_assert_msg(r->type == MQREDIS_ERROR && strncmp(r->str, "ASK ", 4) == 0,
                  "%s", lib_text(r));
    mqredis_free(r);
    ck_assert_uint_eq(asked(1), 17);
    assert_serves();
    stop();
}
END_TEST

/* ---- not now ---- */

START_TEST(test_tryagain_for_ever)
{
    start(2, NULL);
    fake_cluster_says(&nodes, 1, "-TRYAGAIN Multiple keys request\r\n");
    mqredis_set_timeout(mq, 800);
    struct mqredis_reply *r = timed("MGET {" KEY "}1 {" KEY "}2", 700, 4000);
    ck_assert_msg(r->status == MQREDIS_EXPIRED && r->str[0] != '\0', "%s",
                  lib_text(r));
    mqredis_free(r);
    /* After 2 ms, 4, 8 ... 200, and at least the half of that. */
    ck_assert_uint_gt(asked(1), 3);
    ck_assert_uint_le(asked(1), 20);
    mqredis_set_timeout(mq, 5000);
    assert_serves();
    stop();
}
END_TEST

START_TEST(test_clusterdown_passes)
{
    start(2, NULL);
    for (int i = 0; i < 3; i++)
        fake_cluster_says(&nodes, 1, "-CLUSTERDOWN The cluster is down\r\n");
    fake_cluster_says(&nodes, 1, "+at last\r\n");
    EXPECT(mqredis_command(mq, "GET " KEY), "at last");
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_clusterdown), 3);
    fake_cluster_calm(&nodes);
    fake_cluster_says(&nodes, 1, "-CLUSTERDOWN The cluster is down\r\n");
    mqredis_set_timeout(mq, 500);
    struct mqredis_reply *r = timed("GET " KEY, 400, 4000);
    ck_assert_msg(r->status == MQREDIS_EXPIRED, "%s", lib_text(r));
    mqredis_free(r);
    mqredis_set_timeout(mq, 5000);
    assert_serves();
    stop();
}
END_TEST

START_TEST(test_clusterdown_is_told_at_once)
{
    start(2, "--when-down fail");
    fake_cluster_says(&nodes, 1, "-CLUSTERDOWN The cluster is down\r\n");
    EXPECT(mqredis_command(mq, "GET " KEY), "CLUSTERDOWN The cluster is down");
    ck_assert_uint_eq(asked(1), 1);
    stop();
}
END_TEST

/* A master that loads says so to the worker, as one server would. */
START_TEST(test_master_that_loads)
{
    start(2, NULL);
    fake_cluster_says(&nodes, 1, "-LOADING Redis is loading\r\n");
    fake_cluster_says(&nodes, 1, "-MASTERDOWN Link with MASTER is down\r\n");
    EXPECT(mqredis_command(mq, "GET " KEY), "LOADING Redis is loading");
    EXPECT(mqredis_command(mq, "GET " KEY),
           "MASTERDOWN Link with MASTER is down");
    ck_assert_uint_eq(asked(1), 2);
    assert_serves();
    stop();
}
END_TEST

/* A replica that is not ready leaves it to its master. */
START_TEST(test_replica_that_is_not_ready)
{
    fake_cluster_start(&nodes, 2);
    nodes.nodes->node[1].replica = true;
    start(2, "--read-from prefer-replica");
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
    stop();
}
END_TEST

/* ---- replies that are none ---- */

/* What was asked for is lost, the next thing has its own reply. */
static void lose(const char *bytes, bool hangs_up)
{
    fake_cluster_calm(&nodes);
    if (hangs_up)
        fake_cluster_hangs_up(&nodes, 1, "%s", bytes);
    else
        fake_cluster_says(&nodes, 1, "%s", bytes);
    fake_cluster_says(&nodes, 1, "+another\r\n");
    struct mqredis_reply *r = timed("GET " KEY, 0, 4000);
    ck_assert_msg(r->status == MQREDIS_LOST && r->str[0] != '\0', "'%s': %s",
                  bytes, lib_text(r));
    mqredis_free(r);
    EXPECT(mqredis_command(mq, "GET " KEY), "another");
}

START_TEST(test_node_hangs_up)
{
    static const char *const halves[] = {
        "",
        "+O",
        "$100\r\n",
        "$100\r\nhalf of it",
        "*2\r\n$1\r\na\r\n",
        "-MOVED 12182 127.0.",
    };
    start(2, NULL);
    for (size_t i = 0; i < sizeof(halves) / sizeof(halves[0]); i++)
        lose(halves[i], true);
    assert_serves();
    stop();
}
END_TEST

START_TEST(test_no_resp)
{
    static const char *const nonsense[] = {
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "$x\r\n",
        "*-7\r\n",
        ":\r\n",
        "\r\n",
        "$3\r\nabcde\r\n",
    };
    start(2, NULL);
    for (size_t i = 0; i < sizeof(nonsense) / sizeof(nonsense[0]); i++)
        lose(nonsense[i], false);
    assert_serves();
    stop();
}
END_TEST

/* What nobody asked for is nobody's reply. */
START_TEST(test_reply_too_many)
{
    start(2, NULL);
    fake_cluster_says(&nodes, 1, "+mine\r\n+nobody's\r\n");
    fake_cluster_says(&nodes, 1, "+another\r\n");
    EXPECT(mqredis_command(mq, "GET " KEY), "mine");
    struct mqredis_reply *r = mqredis_command(mq, "GET " KEY);
    ck_assert_msg(r->status == MQREDIS_LOST || strcmp(r->str, "another") == 0,
                  "%s", lib_text(r));
    mqredis_free(r);
    EXPECT(mqredis_command(mq, "GET " KEY), "another");
    stop();
}
END_TEST

/* ---- several nodes ---- */

/* Asks DBSIZE after the two nodes were told what to say. */
static struct mqredis_reply *count(const char *first, const char *second,
                                   bool hangs_up)
{
    fake_cluster_calm(&nodes);
    fake_cluster_says(&nodes, 0, "%s", first);
    if (hangs_up)
        fake_cluster_hangs_up(&nodes, 1, "%s", second);
    else
        fake_cluster_says(&nodes, 1, "%s", second);
    return timed("DBSIZE", 0, 4000);
}

START_TEST(test_replies_that_do_not_join)
{
    start(2, NULL);
    EXPECT(count(":2\r\n", ":3\r\n", false), "5");
    EXPECT(count(":2\r\n", "-LOADING not yet\r\n", false), "LOADING not yet");
    EXPECT(count(":2\r\n", "+three\r\n", false),
           "ERR the nodes of the cluster gave replies that cannot be joined");
    EXPECT(count(":2\r\n", "*0\r\n", false),
           "ERR the nodes of the cluster gave replies that cannot be joined");
    fake_cluster_calm(&nodes);
    fake_cluster_says(&nodes, 0, "*1\r\n$3\r\nbar\r\n");
    fake_cluster_says(&nodes, 1, "*2\r\n$3\r\nfoo\r\n$3\r\nand\r\n");
    EXPECT(mqredis_command(mq, "MGET " KEY " bar"),
           "ERR the nodes of the cluster gave replies that cannot be joined");
    struct mqredis_reply *r = count(":2\r\n", ":", true);
    ck_assert_msg(r->status == MQREDIS_LOST, "%s", lib_text(r));
    mqredis_free(r);
    assert_serves();
    stop();
}
END_TEST

/* Each part for itself: one goes elsewhere, the other one again. */
START_TEST(test_parts_are_redirected)
{
    start(2, NULL);
    fake_cluster_says(&nodes, 1, "-MOVED %d 127.0.0.1:%d\r\n", SLOT, port(0));
    fake_cluster_says(&nodes, 0, "-TRYAGAIN not yet\r\n");
    fake_cluster_says(&nodes, 0, ":1\r\n");
    EXPECT(mqredis_command(mq, "DEL " KEY " bar"), "2");
    ck_assert_uint_eq(asked(0), 3);
    ck_assert_uint_eq(asked(1), 1);
    assert_serves();
    /* One for ever, once the map has put it in its place again: the other was
     * executed, so the whole is lost. */
    fake_cluster_calm(&nodes);
    ck_assert(
        UNTIL((mqredis_free(mqredis_command(mq, "GET " KEY)), asked(1) > 0)));
    fake_cluster_calm(&nodes);
    fake_cluster_says(&nodes, 0, ":1\r\n");
    fake_cluster_says(&nodes, 1, "-TRYAGAIN not yet\r\n");
    mqredis_set_timeout(mq, 500);
    struct mqredis_reply *r = timed("DEL " KEY " bar", 0, 4000);
    ck_assert_msg(r->status == MQREDIS_LOST && r->str[0] != '\0', "%s",
                  lib_text(r));
    mqredis_free(r);
    mqredis_set_timeout(mq, 5000);
    assert_serves();
    stop();
}
END_TEST

/* ---- maps ---- */

/* A node's part of a map. */
static const char *place(const char *host, int at)
{
    static char text[4][96];
    static unsigned turn;
    char *to = text[turn++ % 4];
    int len = (int)strlen(host);
    if (strcmp(host, "null") == 0)
        snprintf(to, 96, "*3\r\n$-1\r\n:%d\r\n$2\r\nid\r\n", at);
    else
        snprintf(to, 96, "*3\r\n$%d\r\n%s\r\n:%d\r\n$2\r\nid\r\n", len, host,
                 at);
    return to;
}

static void map_all(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void map_all(const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    for (int i = 0; i < nodes.nodes->count; i++)
        fake_cluster_map(&nodes, i, "%s", text);
}

/* Where ranges overlap, or come twice, the later one holds. */
START_TEST(test_map_that_overlaps)
{
    fake_cluster_start(&nodes, 2);
    map_all("*4\r\n"
            "*3\r\n:0\r\n:16383\r\n%s*3\r\n:0\r\n:16383\r\n%s"
            "*3\r\n:0\r\n:8191\r\n%s*3\r\n:8000\r\n:8191\r\n%s",
            place("127.0.0.1", port(0)), place("127.0.0.1", port(1)),
            place("127.0.0.1", port(0)), place("127.0.0.1", port(0)));
    start(2, NULL);
    EXPECT(mqredis_command(mq, "GET bar"), "node 0");
    EXPECT(mqredis_command(mq, "GET " KEY), "node 1");
    ck_assert_uint_eq(e2e_gauge(&manager, GAUGE_slots_unserved), 0);
    stop();
}
END_TEST

/* "" and null are the host that was asked; of "?" nobody knows where it is. */
START_TEST(test_map_without_hosts)
{
    fake_cluster_start(&nodes, 2);
    map_all("*3\r\n*3\r\n:0\r\n:5999\r\n%s*3\r\n:6000\r\n:6999\r\n%s"
            "*3\r\n:7000\r\n:16383\r\n%s",
            place("", port(0)), place("?", port(1)), place("null", port(1)));
    start(2, NULL);
    EXPECT(mqredis_command(mq, "GET bar"), "node 0");
    EXPECT(mqredis_command(mq, "GET " KEY), "node 1");
    ck_assert_uint_eq(e2e_gauge(&manager, GAUGE_slots_unserved), 1000);
    /* Slot 6142 of those: it waits, until its deadline. */
    mqredis_set_timeout(mq, 400);
    struct mqredis_reply *r = timed("GET w3", 0, 4000);
    ck_assert_msg(r->status == MQREDIS_EXPIRED, "%s", lib_text(r));
    mqredis_free(r);
    stop();
}
END_TEST

/* What is no map is not taken, and asked for again; nobody is told "ready". */
START_TEST(test_no_map)
{
    static const char *const maps[] = {
        "*0\r\n",
        "-ERR out of order\r\n",
        "+OK\r\n",
        "*1\r\n:5\r\n",
        "*1\r\n*3\r\n:0\r\n:16384\r\n*2\r\n$1\r\na\r\n:1\r\n",
        "*1\r\n*3\r\n:9\r\n:3\r\n*2\r\n$1\r\na\r\n:1\r\n",
        "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$1\r\n?\r\n:1\r\n",
    };
    const char *map = maps[_i];
    fake_cluster_start(&nodes, 2);
    map_all("%s", map);
    e2e_manager_launch(&manager, NULL, fake_cluster_uri(&nodes), NULL);
    ck_assert(UNTIL(fake_cluster_maps(&nodes) >= 2));
    ck_assert(!e2e_logged(&manager, "mqredis-manager: ready"));
    for (int i = 0; i < 2; i++)
        nodes.nodes->node[i].map_len = 0;
    e2e_manager_ready(&manager);
    mq = lib_open(&manager);
    assert_serves();
    stop();
}
END_TEST

/* A node that stops in the middle of its map is not waited for. */
START_TEST(test_map_that_breaks_off)
{
    fake_cluster_start(&nodes, 2);
    fake_cluster_map(&nodes, 0, "*1\r\n*3\r\n:0\r\n");
    start(2, NULL);
    EXPECT(mqredis_command(mq, "GET " KEY), "node 1");
    fake_cluster_kill(&nodes);
    mqredis_close(mq);
    e2e_stop_all();
}
END_TEST

/* Nodes that never agree: they are asked so often at most, and nobody gets
 * another's reply. */
START_TEST(test_map_that_never_stays)
{
    fake_cluster_start(&nodes, 3);
    nodes.nodes->shifting = true;
    start(3, NULL);
    for (int i = 0; i < 3; i++)
        fake_cluster_says(&nodes, i, "-MOVED %d 127.0.0.1:%d\r\n", SLOT,
                          port((i + 1) % 3));
    unsigned before = fake_cluster_maps(&nodes);
    uint64_t t0 = clock_ns(), end = t0 + 2 * NS_PER_S;
    unsigned rounds = 0;
    for (; clock_ns() < end; rounds++) {
        struct mqredis_reply *r = mqredis_command(mq, "GET " KEY);
        ck_assert_msg(r->type == MQREDIS_ERROR &&
                          strncmp(r->str, "MOVED ", 6) == 0,
                      "%s", lib_text(r));
        mqredis_free(r);
    }
    unsigned maps = fake_cluster_maps(&nodes) - before;
    unsigned tenths = (unsigned)((clock_ns() - t0) / (100 * NS_PER_MS));
    e2e_figure(E2E_REDIS,
               "%u commands redirected for ever in %u.%u s: %u "
               "questions for the map",
               rounds, tenths / 10, tenths % 10, maps);
    ck_assert_uint_le(maps, tenths + 2);
    ck_assert_uint_eq(fake_cluster_asked(&nodes), 17 * rounds);
    stop();
}
END_TEST

int main(void)
{
    const struct {
        const char *name;
        const TTest *test;
        int rounds;
    } cases[] = {
        {"moved, chain", test_chain_of_moved_ends, 1},
        {"moved, nowhere", test_moved_that_leads_nowhere, 1},
        {"moved, no host", test_moved_without_a_host, 1},
        {"moved, itself", test_moved_to_itself, 1},
        {"moved, nobody", test_moved_to_nobody, 1},
        {"transaction", test_transaction_goes_elsewhere_whole, 1},
        {"blocking", test_blocking_command_is_redirected, 1},
        {"ask", test_ask, 1},
        {"ask, nobody", test_ask_nobody, 1},
        {"tryagain", test_tryagain_for_ever, 1},
        {"clusterdown", test_clusterdown_passes, 1},
        {"clusterdown, fail", test_clusterdown_is_told_at_once, 1},
        {"loading", test_master_that_loads, 1},
        {"replica", test_replica_that_is_not_ready, 1},
        {"hangs up", test_node_hangs_up, 1},
        {"no RESP", test_no_resp, 1},
        {"one too many", test_reply_too_many, 1},
        {"joins", test_replies_that_do_not_join, 1},
        {"parts", test_parts_are_redirected, 1},
        {"map, overlaps", test_map_that_overlaps, 1},
        {"map, hosts", test_map_without_hosts, 1},
        {"map, none", test_no_map, 7},
        {"map, breaks off", test_map_that_breaks_off, 1},
        {"map, shifting", test_map_that_never_stays, 1},
    };
    Suite *s = suite_create("errand");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        TCase *tcase = tcase_create(cases[i].name);
        tcase_set_timeout(tcase, 60);
        tcase_add_unchecked_fixture(tcase, support_scratch_setup,
                                    support_scratch_teardown);
        tcase_add_loop_test(tcase, cases[i].test, 0, cases[i].rounds);
        suite_add_tcase(s, tcase);
    }
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
