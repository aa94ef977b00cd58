/* What nodes say of their cluster: CLUSTER SLOTS, and redirections. */
#include "manager/slotmap.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support_run.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct slotmap *map;

static void setup(void)
{
    map = malloc(sizeof(*map));
    ck_assert_ptr_nonnull(map);
}

static void teardown(void)
{
    free(map);
}

/* From a copy of its own size, so that a sanitizer sees a byte read beyond. */
static enum err parse(const char *reply, size_t len)
{
    char *copy = malloc(len > 0 ? len : 1);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, reply, len);
    enum err e = slotmap_parse(map, copy, len, "asked.example");
    free(copy);
    return e;
}

/* "host:port", or "nobody". */
static const char *owner(unsigned slot)
{
    static char text[SLOTMAP_HOST_MAX + 8];
    if (map->owner[slot] == SLOTMAP_NOBODY)
        return "nobody";
    const struct slotmap_node *n = &map->nodes[map->owner[slot]];
    snprintf(text, sizeof(text), "%s:%u", n->host, n->port);
    return text;
}

/* ---- maps ---- */

#define NODE(len, host, port, id)                                              \
    "*3\r\n$" len "\r\n" host "\r\n:" port "\r\n$2\r\n" id "\r\n"

START_TEST(test_masters_and_replicas)
{
    static const char reply[] =
        "*2\r\n"
        "*5\r\n:0\r\n:8191\r\n" NODE("9", "127.0.0.1", "7000", "n0")
            NODE("9", "127.0.0.1", "7003", "n3")
                NODE("9", "127.0.0.1", "7004",
                     "n4") "*3\r\n:8192\r\n:16383\r\n" NODE("9", "127.0.0.2",
                                                            "7000", "n1");
    ck_assert_int_eq(parse(reply, sizeof(reply) - 1), ERR_OK);
    ck_assert_uint_eq(map->served, SLOTS);
    ck_assert_uint_eq(map->count, 4);
    ck_assert_str_eq(owner(0), "127.0.0.1:7000");
    ck_assert_str_eq(owner(8191), "127.0.0.1:7000");
    ck_assert_str_eq(owner(8192), "127.0.0.2:7000");
    ck_assert_str_eq(owner(16383), "127.0.0.2:7000");
    for (uint32_t i = 0; i < map->count; i++) {
        const struct slotmap_node *n = &map->nodes[i];
        bool replica = n->port == 7003 || n->port == 7004;
        ck_assert_uint_eq(n->master, replica ? map->owner[0] : i);
    }
    /* Cut anywhere, it is none. */
    for (size_t len = 0; len < sizeof(reply) - 1; len++)
        ck_assert_int_eq(parse(reply, len), ERR_PROTO);
}
END_TEST

/* A master of several ranges is one node; the rest is nobody's. */
START_TEST(test_holes)
{
    static const char reply[] =
        "*2\r\n"
        "*3\r\n:0\r\n:0\r\n" NODE(
            "1", "a", "1", "n0") "*3\r\n:2\r\n:5\r\n" NODE("1", "a", "1", "n0");
    ck_assert_int_eq(parse(reply, sizeof(reply) - 1), ERR_OK);
    ck_assert_uint_eq(map->count, 1);
    ck_assert_uint_eq(map->served, 5);
    ck_assert_str_eq(owner(0), "a:1");
    ck_assert_str_eq(owner(1), "nobody");
    ck_assert_str_eq(owner(2), "a:1");
    ck_assert_str_eq(owner(6), "nobody");

    /* A node that has just been started. */
    ck_assert_int_eq(parse("*0\r\n", 4), ERR_OK);
    ck_assert_uint_eq(map->count, 0);
    ck_assert_uint_eq(map->served, 0);
    ck_assert_str_eq(owner(0), "nobody");
}
END_TEST

/* Endpoints: empty or null is the host that was asked, "?" is nowhere. */
START_TEST(test_hosts)
{
    static const struct {
        const char *host, *want;
    } hosts[] = {
        {"$0\r\n\r\n", "asked.example:7"},
        {"$-1\r\n", "asked.example:7"},
        {"_\r\n", "asked.example:7"},
        {"$1\r\n?\r\n", "nobody"},
        {"$3\r\n::1\r\n", "::1:7"},
        {"$16\r\nnode-1.example.a\r\n", "node-1.example.a:7"},
    };
    for (size_t i = 0; i < COUNT(hosts); i++) {
        char reply[256];
        int len = snprintf(reply, sizeof(reply),
                           "*1\r\n*3\r\n:5\r\n:5\r\n*4\r\n%s:7\r\n$2\r\nid\r\n"
                           "*2\r\n$8\r\nhostname\r\n$1\r\nh\r\n",
                           hosts[i].host);
        ck_assert_int_eq(parse(reply, (size_t)len), ERR_OK);
        ck_assert_str_eq(owner(5), hosts[i].want);
    }
    /* RESP3: the metadata are a map. */
    static const char resp3[] =
        "*1\r\n*3\r\n:5\r\n:5\r\n*4\r\n$1\r\na\r\n:7\r\n$2\r\nid\r\n"
        "%1\r\n$8\r\nhostname\r\n$1\r\nh\r\n";
    ck_assert_int_eq(parse(resp3, sizeof(resp3) - 1), ERR_OK);
    ck_assert_str_eq(owner(5), "a:7");
    /* Port 0: it has none for us. */
    static const char no_port[] =
        "*1\r\n*3\r\n:5\r\n:5\r\n" NODE("1", "a", "0", "n0");
    ck_assert_int_eq(parse(no_port, sizeof(no_port) - 1), ERR_OK);
    ck_assert_str_eq(owner(5), "nobody");
}
END_TEST

/* Of ranges that overlap, as between two looks at a moving cluster, the later
 * one holds. */
START_TEST(test_overlap)
{
    static const char reply[] =
        "*2\r\n"
        "*3\r\n:0\r\n:9\r\n" NODE(
            "1", "a", "1", "n0") "*4\r\n:5\r\n:12\r\n" NODE("1", "b", "2", "n1")
            NODE("1", "a", "1", "n0");
    ck_assert_int_eq(parse(reply, sizeof(reply) - 1), ERR_OK);
    ck_assert_str_eq(owner(4), "a:1");
    ck_assert_str_eq(owner(5), "b:2");
    ck_assert_str_eq(owner(12), "b:2");
    ck_assert_uint_eq(map->served, 13);
    ck_assert_uint_eq(map->count, 2);
}
END_TEST

static const char *const no_maps[] = {
    "",
    "-ERR This instance has cluster support disabled\r\n",
    "+OK\r\n",
    "$-1\r\n",
    "*-1\r\n",
    "*0\r\n*0\r\n",
    "*1\r\n",
    "*1\r\n*0\r\n",
    "*1\r\n*2\r\n:0\r\n:5\r\n",
    "*1\r\n:5\r\n",
    "*1\r\n*3\r\n:5\r\n:4\r\n" NODE("1", "a", "1", "n0"),
    "*1\r\n*3\r\n:-1\r\n:4\r\n" NODE("1", "a", "1", "n0"),
    "*1\r\n*3\r\n:0\r\n:16384\r\n" NODE("1", "a", "1", "n0"),
    "*1\r\n*3\r\n$1\r\n0\r\n:4\r\n" NODE("1", "a", "1", "n0"),
    "*1\r\n*3\r\n:0\r\n:4\r\n" NODE("1", "a", "65536", "n0"),
    "*1\r\n*3\r\n:0\r\n:4\r\n" NODE("1", "a", "-1", "n0"),
    "*1\r\n*3\r\n:0\r\n:4\r\n" NODE("3", "a b", "1", "n0"),
    "*1\r\n*3\r\n:0\r\n:4\r\n" NODE("3", "a\nb", "1", "n0"),
    "*1\r\n*3\r\n:0\r\n:4\r\n*1\r\n$1\r\na\r\n",
    "*1\r\n*3\r\n:0\r\n:4\r\n*2\r\n:1\r\n:1\r\n",
    "*1\r\n*3\r\n:0\r\n:4\r\n$1\r\na\r\n",
    "*1\r\n*3\r\n:0\r\n:4\r\n*900000\r\n$1\r\na\r\n:1\r\n",
};

START_TEST(test_no_maps)
{
    const char *reply = no_maps[_i];
    ck_assert_int_eq(parse(reply, strlen(reply)), ERR_PROTO);
}
END_TEST

/* Room for so many nodes and no more; a host as long as there is room. */
START_TEST(test_bounds)
{
    char *reply = malloc((size_t)(SLOTMAP_NODES_MAX + 2) * 40), *p = reply;
    ck_assert_ptr_nonnull(reply);
    for (unsigned more = 0; more < 2; more++) {
        unsigned nodes = SLOTMAP_NODES_MAX + more;
        p = reply + sprintf(reply, "*1\r\n*%u\r\n:0\r\n:0\r\n", nodes + 2);
        for (unsigned i = 0; i < nodes; i++)
            p += sprintf(p, "*3\r\n$1\r\na\r\n:%u\r\n$2\r\nid\r\n", i + 1);
        ck_assert_int_eq(parse(reply, (size_t)(p - reply)),
                         more == 0 ? ERR_OK : ERR_LIMIT);
        if (more == 0)
            ck_assert_uint_eq(map->count, SLOTMAP_NODES_MAX);
    }
    for (int more = 0; more < 2; more++) {
        int host = SLOTMAP_HOST_MAX - 1 + more;
        p = reply +
            sprintf(reply, "*1\r\n*3\r\n:0\r\n:0\r\n*2\r\n$%d\r\n", host);
        memset(p, 'x', (size_t)host);
        p += host + sprintf(p + host, "\r\n:1\r\n");
        ck_assert_int_eq(parse(reply, (size_t)(p - reply)),
                         more == 0 ? ERR_OK : ERR_PROTO);
    }
    free(reply);
}
END_TEST

/* ---- redirections ---- */

static const struct {
    const char *reply;
    enum redirect kind;
    unsigned slot;
    const char *host;
    unsigned port;
} redirections[] = {
    {"-MOVED 3999 127.0.0.1:6381\r\n", REDIRECT_MOVED, 3999, "127.0.0.1", 6381},
    {"-MOVED 0 node-1.example:1\r\n", REDIRECT_MOVED, 0, "node-1.example", 1},
    {"-MOVED 16383 ::1:6381\r\n", REDIRECT_MOVED, 16383, "::1", 6381},
    {"-MOVED 5 [::1]:6381\r\n", REDIRECT_MOVED, 5, "::1", 6381},
    {"-MOVED 5 :6381\r\n", REDIRECT_MOVED, 5, "asked.example", 6381},
    {"-ASK 3999 127.0.0.1:6381\r\n", REDIRECT_ASK, 3999, "127.0.0.1", 6381},
    {"-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
     REDIRECT_TRYAGAIN, 0, NULL, 0},
    {"-CLUSTERDOWN The cluster is down\r\n", REDIRECT_CLUSTERDOWN, 0, NULL, 0},
    {"-READONLY You can't write against a read only replica.\r\n",
     REDIRECT_READONLY, 0, NULL, 0},
    {"-LOADING Redis is loading the dataset in memory\r\n", REDIRECT_NOT_YET, 0,
     NULL, 0},
    {"-MASTERDOWN Link with MASTER is down\r\n", REDIRECT_NOT_YET, 0, NULL, 0},
    {"-ERR unknown command\r\n", REDIRECT_NONE, 0, NULL, 0},
    {"-\r\n", REDIRECT_NONE, 0, NULL, 0},
    /* That do not say where to. */
    {"-MOVED\r\n", REDIRECT_NONE, 0, NULL, 0},
    {"-MOVED \r\n", REDIRECT_NONE, 0, NULL, 0},
    {"-MOVED 3999\r\n", REDIRECT_NONE, 0, NULL, 0},
    {"-MOVED 3999 \r\n", REDIRECT_NONE, 0, NULL, 0},
    {"-MOVED 3999 host\r\n", REDIRECT_NONE, 0, NULL, 0},
    {"-MOVED 3999 host:\r\n", REDIRECT_NONE, 0, NULL, 0},
    {"-MOVED 3999 host:0\r\n", REDIRECT_NONE, 0, NULL, 0},
    {"-MOVED 3999 host:65536\r\n", REDIRECT_NONE, 0, NULL, 0},
    {"-MOVED 3999 host:6x\r\n", REDIRECT_NONE, 0, NULL, 0},
    {"-MOVED 3999 ?:6381\r\n", REDIRECT_NONE, 0, NULL, 0},
    {"-MOVED 16384 host:1\r\n", REDIRECT_NONE, 0, NULL, 0},
    {"-MOVED 99999999999 host:1\r\n", REDIRECT_NONE, 0, NULL, 0},
    {"-MOVED x host:1\r\n", REDIRECT_NONE, 0, NULL, 0},
    {"-ASK -1 host:1\r\n", REDIRECT_NONE, 0, NULL, 0},
};

START_TEST(test_redirections)
{
    struct redirection r;
    const char *reply = redirections[_i].reply;
    size_t len = strlen(reply);
    char *copy = malloc(len);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, reply, len);
    slotmap_redirection(&r, copy, len, "asked.example");
    free(copy);
    ck_assert_msg(r.kind == redirections[_i].kind, "%s: kind %d", reply,
                  r.kind);
    if (redirections[_i].host == NULL)
        return;
    ck_assert_uint_eq(r.slot, redirections[_i].slot);
    ck_assert_str_eq(r.host, redirections[_i].host);
    ck_assert_uint_eq(r.port, redirections[_i].port);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("slotmap");
    TCase *t = tcase_create("slotmap");
    tcase_add_checked_fixture(t, setup, teardown);
    suite_add_tcase(s, t);
    tcase_add_test(t, test_masters_and_replicas);
    tcase_add_test(t, test_holes);
    tcase_add_test(t, test_hosts);
    tcase_add_test(t, test_overlap);
    tcase_add_loop_test(t, test_no_maps, 0, (int)COUNT(no_maps));
    tcase_add_test(t, test_bounds);
    tcase_add_loop_test(t, test_redirections, 0, (int)COUNT(redirections));
    return support_run(s);
}
