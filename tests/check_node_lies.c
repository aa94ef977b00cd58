/*
 * What a manager makes of nodes whose replies break off or are none, or do not
 * go together, and of maps of slots that are wrong. Each command ends with an
 * answer that is its own, and in time.
 */
#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ipc/clock.h"
#include "tests/fake_cluster_scene.h"
#include "tests/support.h"

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
    struct mqredis_reply *r = timed("GET " KEY, 0);
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
    fake_scene_begin(2, NULL);
    for (size_t i = 0; i < sizeof(halves) / sizeof(halves[0]); i++)
        lose(halves[i], true);
    assert_serves();
    fake_scene_end();
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
    fake_scene_begin(2, NULL);
    for (size_t i = 0; i < sizeof(nonsense) / sizeof(nonsense[0]); i++)
        lose(nonsense[i], false);
    assert_serves();
    fake_scene_end();
}
END_TEST

/* What nobody asked for is nobody's reply. */
START_TEST(test_reply_too_many)
{
    fake_scene_begin(2, NULL);
    fake_cluster_says(&nodes, 1, "+mine\r\n+nobody's\r\n");
    fake_cluster_says(&nodes, 1, "+another\r\n");
    EXPECT(mqredis_command(mq, "GET " KEY), "mine");
    struct mqredis_reply *r = mqredis_command(mq, "GET " KEY);
    ck_assert_msg(r->status == MQREDIS_LOST || strcmp(r->str, "another") == 0,
                  "%s", lib_text(r));
    mqredis_free(r);
    EXPECT(mqredis_command(mq, "GET " KEY), "another");
    fake_scene_end();
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
    return timed("DBSIZE", 0);
}

START_TEST(test_replies_that_do_not_join)
{
    fake_scene_begin(2, NULL);
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
    fake_scene_end();
}
END_TEST

/* A part was executed, though its reply is too long, and the other one was not:
 * so the whole was not executed either. */
START_TEST(test_part_too_long_and_part_not_executed)
{
    char text[301];
    memset(text, 'x', 300);
    text[300] = '\0';
    fake_scene_begin(2, "--max-reply 200");
    mqredis_set_timeout(mq, 2000);
    fake_cluster_says(&nodes, 0, "*1\r\n$300\r\n%s\r\n", text);
    fake_cluster_says(&nodes, 1, "-TRYAGAIN not yet\r\n");
    struct mqredis_reply *r = timed("KEYS *", 0);
    ck_assert_msg(r->status == MQREDIS_LOST && r->str[0] != '\0', "%d: %s",
                  (int)r->status, lib_text(r));
    mqredis_free(r);
    mqredis_set_timeout(mq, FAKE_TIMEOUT_MS);
    fake_cluster_calm(&nodes);
    fake_cluster_says(&nodes, 0, "*1\r\n$300\r\n%s\r\n", text);
    fake_cluster_says(&nodes, 1, "*0\r\n");
    r = timed("KEYS *", 0);
    ck_assert_msg(r->status == MQREDIS_TOO_BIG, "%s", lib_text(r));
    mqredis_free(r);
    assert_serves();
    fake_scene_end();
}
END_TEST

/* Each part for itself: one goes elsewhere, the other one again. */
START_TEST(test_parts_are_redirected)
{
    fake_scene_begin(2, NULL);
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
    mqredis_set_timeout(mq, 2000);
    struct mqredis_reply *r = timed("DEL " KEY " bar", 0);
    ck_assert_msg(r->status == MQREDIS_LOST && r->str[0] != '\0', "%s",
                  lib_text(r));
    mqredis_free(r);
    mqredis_set_timeout(mq, FAKE_TIMEOUT_MS);
    assert_serves();
    fake_scene_end();
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
    fake_scene_begin(2, NULL);
    EXPECT(mqredis_command(mq, "GET bar"), "node 0");
    EXPECT(mqredis_command(mq, "GET " KEY), "node 1");
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_slots_unserved) == 0));
    fake_scene_end();
}
END_TEST

/* "" and null are the host that was asked; of "?" nobody knows where it is. */
START_TEST(test_map_without_hosts)
{
    fake_cluster_start(&nodes, 2);
    map_all("*3\r\n*3\r\n:0\r\n:5999\r\n%s*3\r\n:6000\r\n:6999\r\n%s"
            "*3\r\n:7000\r\n:16383\r\n%s",
            place("", port(0)), place("?", port(1)), place("null", port(1)));
    fake_scene_begin(2, NULL);
    EXPECT(mqredis_command(mq, "GET bar"), "node 0");
    EXPECT(mqredis_command(mq, "GET " KEY), "node 1");
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_slots_unserved) == 1000));
    /* Slot 6142 of those: it waits, until its deadline. */
    mqredis_free(runs_out("GET w3", 400, NULL));
    fake_scene_end();
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
    fake_scene_end();
}
END_TEST

/* A node that stops in the middle of its map is not waited for. */
START_TEST(test_map_that_breaks_off)
{
    fake_cluster_start(&nodes, 2);
    fake_cluster_map(&nodes, 0, "*1\r\n*3\r\n:0\r\n");
    fake_scene_begin(2, NULL);
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
    fake_scene_begin(3, NULL);
    for (int i = 0; i < 3; i++)
        fake_cluster_says(&nodes, i, "-MOVED %d 127.0.0.1:%d\r\n", SLOT,
                          port((i + 1) % 3));
    uint64_t t0 = clock_ns(), end = t0 + 2 * NS_PER_S;
    unsigned before = fake_cluster_maps(&nodes);
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
    fake_scene_end();
}
END_TEST

int main(void)
{
    const struct fake_case cases[] = {
        {"hangs up", test_node_hangs_up, 1},
        {"no RESP", test_no_resp, 1},
        {"one too many", test_reply_too_many, 1},
        {"joins", test_replies_that_do_not_join, 1},
        {"parts", test_parts_are_redirected, 1},
        {"parts, too long", test_part_too_long_and_part_not_executed, 1},
        {"map, overlaps", test_map_that_overlaps, 1},
        {"map, hosts", test_map_without_hosts, 1},
        {"map, none", test_no_map, 7},
        {"map, breaks off", test_map_that_breaks_off, 1},
        {"map, shifting", test_map_that_never_stays, 1},
    };
    return fake_scene_run("node_lies", cases, sizeof(cases) / sizeof(cases[0]));
}
