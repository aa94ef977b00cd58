/*
 * Splitting commands over slots, and joining replies: of the parts of one
 * command, and of several nodes to the same command.
 */
#include "manager/scatter.h"
#include "manager/slot.h"
#include "tests/support_keyspec.h"
#include "tests/support_run.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define LIMIT ((size_t)1 << 20)

static struct keyspecs *specs;

static void setup(void)
{
    ck_assert_int_eq(keyspecs_new(&specs), ERR_OK);
}

static void teardown(void)
{
    keyspecs_free(specs);
}

/* ---- splitting ---- */

static enum err split(const char *text, uint32_t most, struct wire *wire,
                      struct scatter *s)
{
    struct way w;
    wire_init(wire, text);
    struct framed f = wire_framed(wire);
    enum err e = keyspecs_way(specs, &f, &w);
    ck_assert_int_eq(e, ERR_OK);
    ck_assert_int_eq(w.spread, SPREAD_SPLIT);
    return scatter_split(s, &f, &w, most);
}

/* The part must be that command, and its way one slot: its own. */
static void check_part(const struct part *part, const char *text)
{
    struct wire wire;
    struct way w;
    wire_init(&wire, text);
    ck_assert_msg(part->len == wire.len &&
                      memcmp(part->data, wire.data, wire.len) == 0,
                  "%.*s: not %s", (int)part->len, part->data, text);
    ck_assert_uint_eq(part->nblobs, wire.nblobs);
    struct framed f =
        framed_view(part->data, part->len, part->blobs, part->nblobs);
    ck_assert_int_eq(keyspecs_way(specs, &f, &w), ERR_OK);
    ck_assert_int_eq(w.spread, SPREAD_SLOT);
    ck_assert_uint_eq(w.slot, part->slot);
    ck_assert_uint_eq(w.nkeys, part->nkeys);
    wire_release(&wire);
}

/* The n-th word, as an index of a key. */
static void check_index(const struct part *part, const char *indexes)
{
    char text[64] = "";
    size_t len = 0;
    for (uint32_t i = 0; i < part->nkeys; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%u",
                                i > 0 ? " " : "", part->index[i]);
    ck_assert_str_eq(text, indexes);
}

/* a, b and c are in three slots. */
static const struct {
    const char *text;
    const char *parts[4], *index[4];
} splits[] = {
    {"MGET a b c", {"MGET a", "MGET b", "MGET c"}, {"0", "1", "2"}},
    {"MGET a b {a}2 b a", {"MGET a {a}2 a", "MGET b b"}, {"0 2 4", "1 3"}},
    {"mget b a", {"mget b", "mget a"}, {"0", "1"}},
    {"DEL a b {b}", {"DEL a", "DEL b {b}"}, {"0", "1 2"}},
    {"MSET a 1 b 2 a 3 c 4",
     {"MSET a 1 a 3", "MSET b 2", "MSET c 4"},
     {"0 2", "1", "3"}},
    {"TOUCH a \"\" b", {"TOUCH a", "TOUCH \"\"", "TOUCH b"}, {"0", "1", "2"}},
};

START_TEST(test_split)
{
    struct wire wire;
    struct scatter s;
    ck_assert_int_eq(split(splits[_i].text, 100, &wire, &s), ERR_OK);
    uint32_t count = 0;
    while (count < 4 && splits[_i].parts[count] != NULL)
        count++;
    ck_assert_uint_eq(s.count, count);
    for (uint32_t i = 0; i < count; i++) {
        check_part(&s.parts[i], splits[_i].parts[i]);
        check_index(&s.parts[i], splits[_i].index[i]);
    }
    scatter_release(&s);
    wire_release(&wire);
}
END_TEST

/* The parts own their bytes; blobs stay in the file where they are. */
START_TEST(test_split_with_blobs)
{
    struct wire wire;
    struct scatter s;
    ck_assert_int_eq(
        split("MSET a @1000 b @20 {a}2 v {a}3 @300000 b @4", 9, &wire, &s),
        ERR_OK);
    wire_release(&wire);
    ck_assert_uint_eq(s.count, 2);
    check_part(&s.parts[0], "MSET a @1000 {a}2 v {a}3 @300000");
    check_part(&s.parts[1], "MSET b @20 b @4");
    static const struct {
        uint32_t part, blob;
        uint64_t len;
        int64_t offset;
    } want[] = {{0, 0, 1000, 0},
                {0, 1, 300000, 1020},
                {1, 0, 20, 1000},
                {1, 1, 4, 301020}};
    for (size_t i = 0; i < COUNT(want); i++) {
        const struct part *p = &s.parts[want[i].part];
        ck_assert_uint_eq(p->blobs[want[i].blob].len, want[i].len);
        ck_assert_int_eq(p->blobs[want[i].blob].offset, want[i].offset);
    }
    scatter_release(&s);
}
END_TEST

/* A command that is not the first of its run. */
START_TEST(test_split_within_a_run)
{
    struct wire wire;
    struct framed one;
    struct scatter s;
    struct way w;
    wire_init(&wire, "SET x @5;MSET a @6 b @7");
    struct framed rest = wire_framed(&wire);
    ck_assert_int_eq(framed_next(&rest, &one), ERR_OK);
    ck_assert_int_eq(framed_next(&rest, &one), ERR_OK);
    ck_assert_int_eq(keyspecs_way(specs, &one, &w), ERR_OK);
    ck_assert_int_eq(scatter_split(&s, &one, &w, 9), ERR_OK);
    ck_assert_uint_eq(s.count, 2);
    check_part(&s.parts[0], "MSET a @6");
    check_part(&s.parts[1], "MSET b @7");
    ck_assert_int_eq(s.parts[0].blobs[0].offset, 5);
    ck_assert_int_eq(s.parts[1].blobs[0].offset, 11);
    scatter_release(&s);
    wire_release(&wire);
}
END_TEST

START_TEST(test_split_refusals)
{
    struct wire wire;
    struct scatter s;
    struct way w;
    ck_assert_int_eq(split("MGET a b c", 3, &wire, &s), ERR_OK);
    scatter_release(&s);
    wire_release(&wire);
    ck_assert_int_eq(split("MGET a b c", 2, &wire, &s), ERR_LIMIT);
    wire_release(&wire);
    /* The two keys before it are reason enough to split. */
    ck_assert_int_eq(split("MGET a b @1000", 9, &wire, &s), ERR_INVALID);
    wire_release(&wire);

    static const char message[] = "*5\r\n$4\r\nMSET\r\n$1\r\na\r\n@70000\r\n"
                                  "$1\r\nb\r\n$1\r\nv\r\n";
    struct framed f = framed_view(message, sizeof(message) - 1, NULL, 0);
    ck_assert_int_eq(keyspecs_way(specs, &f, &w), ERR_OK);
    ck_assert_int_eq(scatter_split(&s, &f, &w, 9), ERR_PROTO);
    /* Another command's way. */
    wire_init(&wire, "MSET a 1 b 2 c 3");
    f = wire_framed(&wire);
    ck_assert_int_eq(scatter_split(&s, &f, &w, 9), ERR_PROTO);
    w.nkeys = 4;
    ck_assert_int_eq(scatter_split(&s, &f, &w, 9), ERR_PROTO);
    w.spread = SPREAD_CROSS;
    ck_assert_int_eq(scatter_split(&s, &f, &w, 9), ERR_PROTO);
    wire_release(&wire);
}
END_TEST

/* Many keys: each is in exactly one part, in order. */
START_TEST(test_split_many)
{
    enum { KEYS = 20000 };
    char *text = malloc(KEYS * 8 + 8), *p = text;
    ck_assert_ptr_nonnull(text);
    p += sprintf(p, "DEL");
    for (int i = 0; i < KEYS; i++)
        p += sprintf(p, " k%d", i);
    struct wire wire;
    struct scatter s;
    ck_assert_int_eq(split(text, SLOTS, &wire, &s), ERR_OK);
    ck_assert_uint_gt(s.count, 10000);
    bool *seen = calloc(KEYS, 1);
    ck_assert_ptr_nonnull(seen);
    uint32_t keys = 0;
    for (uint32_t i = 0; i < s.count; i++) {
        const struct part *part = &s.parts[i];
        for (uint32_t k = 0; k < part->nkeys; k++) {
            char key[16];
            int len = snprintf(key, sizeof(key), "k%u", part->index[k]);
            ck_assert_uint_eq(slot_of_key(key, (size_t)len), part->slot);
            ck_assert(!seen[part->index[k]]);
            ck_assert(k == 0 || part->index[k] > part->index[k - 1]);
            seen[part->index[k]] = true;
            keys++;
        }
    }
    ck_assert_uint_eq(keys, KEYS);
    free(seen);
    free(text);
    scatter_release(&s);
    wire_release(&wire);
}
END_TEST

/* ---- joining ---- */

static enum err add(struct gather *g, uint32_t number, const char *reply)
{
    size_t len = strlen(reply);
    char *copy = malloc(len > 0 ? len : 1);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, reply, len);
    enum err e = gather_add(g, number, copy, len);
    free(copy);
    return e;
}

static void check_result(struct gather *g, const char *want)
{
    const char *reply;
    size_t len;
    ck_assert(gather_whole(g));
    ck_assert_int_eq(gather_result(g, &reply, &len), ERR_OK);
    ck_assert_msg(len == strlen(want) && memcmp(reply, want, len) == 0,
                  "%.*s: not %s", (int)len, reply, want);
}

#define NOTBUSY "-NOTBUSY No scripts in execution right now.\r\n"

static const struct {
    enum join join;
    const char *replies[3];
    const char *result;
} joins[] = {
    {JOIN_SUM, {":1\r\n", ":20\r\n", ":300\r\n"}, ":321\r\n"},
    {JOIN_SUM, {":-1\r\n", ":0\r\n", ":0\r\n"}, ":-1\r\n"},
    {JOIN_SUM,
     {"*2\r\n:1\r\n:2\r\n", "*2\r\n:3\r\n:4\r\n", "*2\r\n:5\r\n:6\r\n"},
     "*2\r\n:9\r\n:12\r\n"},
    {JOIN_SUM,
     {":9223372036854775807\r\n", ":1\r\n", ":0\r\n"},
     GATHER_MISSHAPEN},
    {JOIN_MIN, {":3\r\n", ":1\r\n", ":2\r\n"}, ":1\r\n"},
    {JOIN_MIN,
     {"*2\r\n:1\r\n:5\r\n", "*2\r\n:2\r\n:4\r\n", "*2\r\n:3\r\n:6\r\n"},
     "*2\r\n:1\r\n:4\r\n"},
    {JOIN_MAX, {":3\r\n", ":1\r\n", ":2\r\n"}, ":3\r\n"},
    {JOIN_AND, {":1\r\n", ":0\r\n", ":1\r\n"}, ":0\r\n"},
    {JOIN_AND,
     {"*3\r\n:1\r\n:0\r\n:1\r\n", "*3\r\n:1\r\n:1\r\n:0\r\n",
      "*3\r\n:1\r\n:1\r\n:1\r\n"},
     "*3\r\n:1\r\n:0\r\n:0\r\n"},
    {JOIN_OR,
     {"*2\r\n:1\r\n:0\r\n", "*2\r\n:0\r\n:0\r\n", "*2\r\n:0\r\n:0\r\n"},
     "*2\r\n:1\r\n:0\r\n"},
    {JOIN_AND,
     {"*1\r\n:1\r\n", "*2\r\n:1\r\n:1\r\n", "*1\r\n:1\r\n"},
     GATHER_MISSHAPEN},
    {JOIN_SUM, {":1\r\n", "+OK\r\n", ":1\r\n"}, GATHER_MISSHAPEN},
    {JOIN_SUM, {":1\r\n", "*1\r\n:1\r\n", ":1\r\n"}, GATHER_MISSHAPEN},
    {JOIN_SUM, {":1\r\n", "$-1\r\n", ":1\r\n"}, GATHER_MISSHAPEN},

    {JOIN_OK, {"+OK\r\n", "+OK\r\n", "+OK\r\n"}, "+OK\r\n"},
    {JOIN_OK,
     {"$3\r\nabc\r\n", "$3\r\nabd\r\n", "$3\r\nabe\r\n"},
     "$3\r\nabc\r\n"},
    {JOIN_OK, {"+OK\r\n", "-ERR two\r\n", "-ERR three\r\n"}, "-ERR two\r\n"},
    {JOIN_OK, {"-ERR one\r\n", "-ERR two\r\n", "+OK\r\n"}, "-ERR one\r\n"},
    {JOIN_OK, {"+OK\r\n", "!7\r\nERR two\r\n", "+OK\r\n"}, "!7\r\nERR two\r\n"},
    {JOIN_ONE, {"+a\r\n", "+b\r\n", "+c\r\n"}, "+a\r\n"},
    /* An error is told before a form that does not fit. */
    {JOIN_SUM, {"+OK\r\n", ":1\r\n", "-ERR three\r\n"}, "-ERR three\r\n"},

    {JOIN_FIRST_OK, {NOTBUSY, "+OK\r\n", NOTBUSY}, "+OK\r\n"},
    {JOIN_FIRST_OK, {"+1\r\n", "+2\r\n", "-ERR x\r\n"}, "+1\r\n"},
    {JOIN_FIRST_OK, {NOTBUSY, NOTBUSY, NOTBUSY}, NOTBUSY},
    {JOIN_FIRST_OK,
     {NOTBUSY, "-UNKILLABLE 2\r\n", "-UNKILLABLE 3\r\n"},
     "-UNKILLABLE 2\r\n"},
    {JOIN_FIRST_OK, {"-ERR 1\r\n", NOTBUSY, "-ERR 3\r\n"}, "-ERR 1\r\n"},

    {JOIN_ANY, {"$-1\r\n", "$1\r\nb\r\n", "$1\r\nc\r\n"}, "$1\r\nb\r\n"},
    {JOIN_ANY, {"_\r\n", "_\r\n", "_\r\n"}, "_\r\n"},
    {JOIN_ANY, {"-ERR 1\r\n", "$-1\r\n", "$1\r\nc\r\n"}, "$1\r\nc\r\n"},
    {JOIN_ANY, {"$-1\r\n", "$-1\r\n", "-ERR 3\r\n"}, "-ERR 3\r\n"},

    {JOIN_CONCAT,
     {"*1\r\n$1\r\na\r\n", "*0\r\n", "*2\r\n$1\r\nb\r\n*1\r\n:1\r\n"},
     "*3\r\n$1\r\na\r\n$1\r\nb\r\n*1\r\n:1\r\n"},
    {JOIN_CONCAT, {"*0\r\n", "*0\r\n", "*0\r\n"}, "*0\r\n"},
    {JOIN_CONCAT,
     {"~1\r\n:1\r\n", "~1\r\n:2\r\n", "~0\r\n"},
     "~2\r\n:1\r\n:2\r\n"},
    {JOIN_CONCAT,
     {"%1\r\n:1\r\n:2\r\n", "%0\r\n", "%1\r\n:3\r\n:4\r\n"},
     "%2\r\n:1\r\n:2\r\n:3\r\n:4\r\n"},
    {JOIN_CONCAT, {"*0\r\n", "~0\r\n", "*0\r\n"}, GATHER_MISSHAPEN},
    {JOIN_CONCAT, {"*0\r\n", "$1\r\nx\r\n", "*0\r\n"}, GATHER_MISSHAPEN},
    {JOIN_CONCAT, {"*0\r\n", "*-1\r\n", "*0\r\n"}, GATHER_MISSHAPEN},
    {JOIN_CONCAT, {"*0\r\n", "*0\r\n", "-ERR x\r\n"}, "-ERR x\r\n"},

    {JOIN_UNION,
     {"*2\r\n$1\r\nb\r\n$2\r\naa\r\n", "*1\r\n$1\r\nb\r\n",
      "*2\r\n$1\r\na\r\n$1\r\nb\r\n"},
     "*3\r\n$1\r\na\r\n$1\r\nb\r\n$2\r\naa\r\n"},
    {JOIN_UNION, {"*0\r\n", "*0\r\n", "*0\r\n"}, "*0\r\n"},
    {JOIN_UNION, {"%0\r\n", "%0\r\n", "%0\r\n"}, GATHER_MISSHAPEN},

    {JOIN_MAP_SUM,
     {"*4\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n:2\r\n",
      "*4\r\n$1\r\na\r\n:10\r\n$1\r\nb\r\n:20\r\n",
      "*4\r\n$1\r\na\r\n:100\r\n$1\r\nb\r\n:200\r\n"},
     "*4\r\n$1\r\na\r\n:111\r\n$1\r\nb\r\n:222\r\n"},
    {JOIN_MAP_SUM,
     {"%1\r\n$1\r\na\r\n:1\r\n", "%1\r\n$1\r\na\r\n:1\r\n",
      "%1\r\n$1\r\na\r\n:1000000\r\n"},
     "%1\r\n$1\r\na\r\n:1000002\r\n"},
    {JOIN_MAP_SUM, {"*0\r\n", "*0\r\n", "*0\r\n"}, "*0\r\n"},
    {JOIN_MAP_SUM,
     {"*2\r\n$1\r\na\r\n:1\r\n", "*2\r\n$1\r\nb\r\n:1\r\n",
      "*2\r\n$1\r\na\r\n:1\r\n"},
     GATHER_MISSHAPEN},
    {JOIN_MAP_SUM,
     {"*2\r\n$1\r\na\r\n$1\r\nb\r\n", "*0\r\n", "*0\r\n"},
     GATHER_MISSHAPEN},
    {JOIN_MAP_SUM, {"*1\r\n:1\r\n", "*0\r\n", "*0\r\n"}, GATHER_MISSHAPEN},
};

/* Whatever the order in which the replies come, the result is the same. */
START_TEST(test_joins)
{
    static const uint32_t orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                          {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (size_t o = 0; o < COUNT(orders); o++) {
        struct gather g;
        ck_assert_int_eq(gather_init(&g, joins[_i].join, 3, LIMIT), ERR_OK);
        for (size_t i = 0; i < 3; i++) {
            ck_assert(!gather_whole(&g));
            uint32_t number = orders[o][i];
            ck_assert_int_eq(add(&g, number, joins[_i].replies[number]),
                             ERR_OK);
        }
        check_result(&g, joins[_i].result);
        gather_release(&g);
    }
}
END_TEST

/* ---- in the order of the keys ---- */

static void begin_mget(struct gather *g, const char *text, size_t limit)
{
    struct wire wire;
    struct scatter s;
    ck_assert_int_eq(split(text, 9, &wire, &s), ERR_OK);
    ck_assert_int_eq(gather_init(g, JOIN_ORDER, s.count, limit), ERR_OK);
    for (uint32_t i = 0; i < s.count; i++)
        ck_assert_int_eq(gather_keys(g, i, &s.parts[i]), ERR_OK);
    scatter_release(&s);
    wire_release(&wire);
}

START_TEST(test_order)
{
    struct gather g;
    begin_mget(&g, "MGET a b {a}2 c b", LIMIT);
    ck_assert_int_eq(add(&g, 2, "*1\r\n_\r\n"), ERR_OK);
    ck_assert_int_eq(add(&g, 0, "*2\r\n$1\r\na\r\n$2\r\naa\r\n"), ERR_OK);
    ck_assert_int_eq(add(&g, 1, "*2\r\n$-1\r\n$0\r\n\r\n"), ERR_OK);
    check_result(&g, "*5\r\n$1\r\na\r\n$-1\r\n$2\r\naa\r\n_\r\n$0\r\n\r\n");
    gather_release(&g);

    /* One too few, one too many. */
    begin_mget(&g, "MGET a b a", LIMIT);
    ck_assert_int_eq(add(&g, 0, "*1\r\n$1\r\na\r\n"), ERR_OK);
    ck_assert_int_eq(add(&g, 1, "*1\r\n$1\r\nb\r\n"), ERR_OK);
    check_result(&g, GATHER_MISSHAPEN);
    gather_release(&g);

    begin_mget(&g, "MGET a b", LIMIT);
    ck_assert_int_eq(add(&g, 1, "-ERR b\r\n"), ERR_OK);
    ck_assert_int_eq(add(&g, 0, "*1\r\n$1\r\na\r\n"), ERR_OK);
    check_result(&g, "-ERR b\r\n");
    gather_release(&g);
}
END_TEST

/* ---- bounds ---- */

START_TEST(test_limit)
{
    static const char reply[] = "*1\r\n$1\r\na\r\n"; /* 11 bytes */
    struct gather g;
    const char *result;
    size_t len;
    begin_mget(&g, "MGET a b c", 3 * (sizeof(reply) - 1));
    for (uint32_t i = 0; i < 3; i++)
        ck_assert_int_eq(add(&g, i, reply), ERR_OK);
    check_result(&g, "*3\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n");
    gather_release(&g);

    begin_mget(&g, "MGET a b c", 2 * (sizeof(reply) - 1));
    ck_assert_int_eq(add(&g, 0, reply), ERR_OK);
    ck_assert_int_eq(add(&g, 2, reply), ERR_OK);
    ck_assert_int_eq(add(&g, 1, reply), ERR_LIMIT);
    ck_assert_uint_eq(g.kept, 0);
    ck_assert(gather_whole(&g));
    ck_assert_int_eq(gather_result(&g, &result, &len), ERR_LIMIT);
    gather_release(&g);

    /* Further ones are counted, and nothing of them is kept. */
    begin_mget(&g, "MGET a b c", 5);
    for (uint32_t i = 0; i < 3; i++) {
        ck_assert_int_eq(add(&g, i, reply), ERR_LIMIT);
        ck_assert_uint_eq(g.kept, 0);
    }
    ck_assert(gather_whole(&g));
    gather_release(&g);

    /* What is not kept does not count: numbers; replies that do not win. */
    ck_assert_int_eq(gather_init(&g, JOIN_SUM, 100, 8), ERR_OK);
    for (uint32_t i = 0; i < 100; i++)
        ck_assert_int_eq(add(&g, i, ":5\r\n"), ERR_OK);
    check_result(&g, ":500\r\n");
    gather_release(&g);
    ck_assert_int_eq(gather_init(&g, JOIN_OK, 100, 5), ERR_OK);
    for (uint32_t i = 100; i-- > 0;)
        ck_assert_int_eq(add(&g, i, "+OK\r\n"), ERR_OK);
    check_result(&g, "+OK\r\n");
    gather_release(&g);
}
END_TEST

START_TEST(test_adds_that_are_none)
{
    static const char *const none[] = {"",
                                       "+OK",
                                       "+OK\r\n+OK\r\n",
                                       "*2\r\n:1\r\n",
                                       "$5\r\nab\r\n",
                                       "*1000000000\r\n",
                                       "hello\r\n"};
    struct gather g;
    ck_assert_int_eq(gather_init(&g, JOIN_OK, 2, LIMIT), ERR_OK);
    for (size_t i = 0; i < COUNT(none); i++)
        ck_assert_int_eq(add(&g, 0, none[i]), ERR_INVALID);
    ck_assert_int_eq(add(&g, 0, "+1\r\n"), ERR_OK);
    ck_assert_int_eq(add(&g, 0, "+2\r\n"), ERR_INVALID);
    ck_assert_int_eq(add(&g, 2, "+3\r\n"), ERR_INVALID);
    ck_assert(!gather_whole(&g));
    ck_assert_int_eq(add(&g, 1, "+4\r\n"), ERR_OK);
    check_result(&g, "+1\r\n");
    gather_release(&g);
    gather_release(&g);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("scatter");
    TCase *t = tcase_create("scatter");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 30);
    suite_add_tcase(s, t);
    tcase_add_loop_test(t, test_split, 0, (int)COUNT(splits));
    tcase_add_test(t, test_split_with_blobs);
    tcase_add_test(t, test_split_within_a_run);
    tcase_add_test(t, test_split_refusals);
    tcase_add_test(t, test_split_many);
    tcase_add_loop_test(t, test_joins, 0, (int)COUNT(joins));
    tcase_add_test(t, test_order);
    tcase_add_test(t, test_limit);
    tcase_add_test(t, test_adds_that_are_none);
    return support_run(s);
}
