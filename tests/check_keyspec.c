/*
 * Ways of commands by the built-in table and by tables that are learned; walks
 * over runs with large arguments. What real servers say: check_keyspec_server.
 */
#include "manager/keyspec.h"
#include "manager/slot.h"
#include "tests/support_keyspec.h"
#include "tests/support_run.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct keyspecs *specs;

static void setup(void)
{
    ck_assert_int_eq(keyspecs_new(&specs), ERR_OK);
}

static void teardown(void)
{
    keyspecs_free(specs);
}

/* ---- the built-in table ---- */

/* Keys named a, b, c are in three slots. */
static const struct {
    const char *text;
    enum spread spread;
    enum join join;
    const char *keys;
} ways[] = {
    {"GET a", SPREAD_SLOT, JOIN_ONE, "1"},
    {"get a", SPREAD_SLOT, JOIN_ONE, "1"},
    {"SET a v EX 10", SPREAD_SLOT, JOIN_ONE, "1"},
    {"HSET a f v f v", SPREAD_SLOT, JOIN_ONE, "1"},
    {"OBJECT ENCODING a", SPREAD_SLOT, JOIN_ONE, "2"},
    {"object freq a", SPREAD_SLOT, JOIN_ONE, "2"},
    {"MEMORY USAGE a SAMPLES 5", SPREAD_SLOT, JOIN_ONE, "2"},
    {"XINFO STREAM a FULL", SPREAD_SLOT, JOIN_ONE, "2"},
    {"XGROUP CREATE a g $", SPREAD_SLOT, JOIN_ONE, "2"},

    /* several keys in one slot, and in several */
    {"RENAME {a}1 {a}2", SPREAD_SLOT, JOIN_ONE, "1 2"},
    {"RENAME a b", SPREAD_CROSS, JOIN_ONE, "1 2"},
    {"SINTER {a}1 {a}2 {a}3", SPREAD_SLOT, JOIN_ONE, "1 2 3"},
    {"SINTER a b c", SPREAD_CROSS, JOIN_ONE, "1 2 3"},
    {"BLPOP {a}1 {a}2 0", SPREAD_SLOT, JOIN_ONE, "1 2"},
    {"BITOP AND a b c", SPREAD_CROSS, JOIN_ONE, "2 3 4"},
    {"PFMERGE a", SPREAD_SLOT, JOIN_ONE, "1"},
    {"MSETNX a 1 b 2", SPREAD_CROSS, JOIN_ONE, "1 3"},

    /* split */
    {"MGET a", SPREAD_SLOT, JOIN_ONE, "1"},
    {"MGET {a}1 {a}2", SPREAD_SLOT, JOIN_ONE, "1 2"},
    {"MGET a b c", SPREAD_SPLIT, JOIN_ORDER, "1 2 3"},
    {"MSET a 1 b 2", SPREAD_SPLIT, JOIN_OK, "1 3"},
    {"MSET a 1 b", SPREAD_CROSS, JOIN_ONE, "1 3"},
    {"DEL a b", SPREAD_SPLIT, JOIN_SUM, "1 2"},
    {"UNLINK a b", SPREAD_SPLIT, JOIN_SUM, "1 2"},
    {"EXISTS a b a", SPREAD_SPLIT, JOIN_SUM, "1 2 3"},
    {"TOUCH a b", SPREAD_SPLIT, JOIN_SUM, "1 2"},

    /* where keys have to be looked for */
    {"EVAL x 0 a b", SPREAD_ANY, JOIN_ONE, ""},
    {"EVAL x 1 a b", SPREAD_SLOT, JOIN_ONE, "3"},
    {"EVAL x 2 a b c", SPREAD_CROSS, JOIN_ONE, "3 4"},
    {"EVAL x 3 a b", SPREAD_ANY, JOIN_ONE, ""},
    {"EVAL x many a b", SPREAD_ANY, JOIN_ONE, ""},
    {"EVAL x -1 a b", SPREAD_ANY, JOIN_ONE, ""},
    {"EVAL x 99999999999999999999 a b", SPREAD_ANY, JOIN_ONE, ""},
    {"FCALL f 1 a b", SPREAD_SLOT, JOIN_ONE, "3"},
    {"ZUNIONSTORE a 2 {a}1 {a}2 WEIGHTS 1 2", SPREAD_SLOT, JOIN_ONE, "1 3 4"},
    {"ZUNIONSTORE a 9 a b", SPREAD_ANY, JOIN_ONE, ""},
    {"ZUNIONSTORE a 2 a b", SPREAD_CROSS, JOIN_ONE, "1 3 4"},
    {"ZMPOP 2 {a}1 {a}2 MIN", SPREAD_SLOT, JOIN_ONE, "2 3"},
    {"BLMPOP 0 1 a LEFT", SPREAD_SLOT, JOIN_ONE, "3"},
    {"GEORADIUS a 1 1 1 m", SPREAD_SLOT, JOIN_ONE, "1"},
    {"GEORADIUS a 1 1 1 m STORE b", SPREAD_CROSS, JOIN_ONE, "1 7"},
    {"GEORADIUS a 1 1 1 m COUNT 1 storedist {a}2", SPREAD_SLOT, JOIN_ONE,
     "1 9"},
    {"GEORADIUSBYMEMBER a m 1 m STORE {a}", SPREAD_SLOT, JOIN_ONE, "1 6"},
    {"XREAD COUNT 2 STREAMS {a}1 {a}2 0 0", SPREAD_SLOT, JOIN_ONE, "4 5"},
    {"XREAD STREAMS a b 0 0", SPREAD_CROSS, JOIN_ONE, "2 3"},
    {"XREAD BLOCK 0 a b c", SPREAD_ANY, JOIN_ONE, ""},
    {"XREADGROUP GROUP g STREAMS STREAMS a >", SPREAD_SLOT, JOIN_ONE, "5"},
    {"SORT a", SPREAD_SLOT, JOIN_ONE, "1"},
    {"SORT a BY x GET STORE LIMIT 0 1 STORE {a}2", SPREAD_SLOT, JOIN_ONE,
     "1 10"},
    {"SORT a STORE b STORE {a}2", SPREAD_SLOT, JOIN_ONE, "1 5"},
    {"SORT a STORE b", SPREAD_CROSS, JOIN_ONE, "1 3"},
    {"SORT a ALPHA STORE", SPREAD_SLOT, JOIN_ONE, "1"},
    {"SORT_RO a BY x", SPREAD_SLOT, JOIN_ONE, "1"},
    {"MIGRATE h 1 a 0 100", SPREAD_SLOT, JOIN_ONE, "3"},
    {"MIGRATE h 1 \"\" 0 100 KEYS {a}1 {a}2", SPREAD_SLOT, JOIN_ONE, "7 8"},
    {"MIGRATE h 1 \"\" 0 100 COPY AUTH keys KEYS a b", SPREAD_CROSS, JOIN_ONE,
     "10 11"},
    {"MIGRATE h 1 \"\" 0 100 AUTH2 keys keys KEYS a", SPREAD_SLOT, JOIN_ONE,
     "10"},
    {"MIGRATE h 1 a 0 100 KEYS a", SPREAD_ANY, JOIN_ONE, ""},

    /* slots without keys */
    {"SPUBLISH a hello", SPREAD_SLOT, JOIN_ONE, ""},
    {"SSUBSCRIBE {a}1 {a}2", SPREAD_SLOT, JOIN_ONE, ""},
    {"SSUBSCRIBE a b", SPREAD_CROSS, JOIN_ONE, ""},
    {"CLUSTER COUNTKEYSINSLOT 15495", SPREAD_SLOT, JOIN_ONE, ""},
    {"CLUSTER GETKEYSINSLOT 15495 10", SPREAD_SLOT, JOIN_ONE, ""},
    {"CLUSTER COUNTKEYSINSLOT 16384", SPREAD_ANY, JOIN_ONE, ""},
    {"CLUSTER COUNTKEYSINSLOT a", SPREAD_ANY, JOIN_ONE, ""},

    /* no keys: any master */
    {"ECHO a", SPREAD_ANY, JOIN_ONE, ""},
    {"PUBLISH a hello", SPREAD_ANY, JOIN_ONE, ""},
    {"CLUSTER KEYSLOT a", SPREAD_ANY, JOIN_ONE, ""},
    {"COMMAND GETKEYS GET a", SPREAD_ANY, JOIN_ONE, ""},
    {"CONFIG GET maxmemory", SPREAD_ANY, JOIN_ONE, ""},
    {"OBJECT HELP", SPREAD_ANY, JOIN_ONE, ""},
    {"OBJECT NONSENSE a", SPREAD_ANY, JOIN_ONE, ""},
    {"MULTI", SPREAD_ANY, JOIN_ONE, ""},
    {"INFO", SPREAD_ANY, JOIN_ONE, ""},
    {"MEMORY STATS", SPREAD_ANY, JOIN_ONE, ""},
    {"LATENCY LATEST", SPREAD_ANY, JOIN_ONE, ""},

    /* what nobody knows, and what Redis refuses */
    {"NONSENSE a", SPREAD_ANY, JOIN_ONE, ""},
    {"GET", SPREAD_ANY, JOIN_ONE, ""},
    {"GET a b", SPREAD_ANY, JOIN_ONE, ""},
    {"MGET", SPREAD_ANY, JOIN_ONE, ""},
    {"OBJECT", SPREAD_ANY, JOIN_ONE, ""},
    {"OBJECT ENCODING", SPREAD_ANY, JOIN_ONE, ""},
    {"DBSIZE a", SPREAD_ANY, JOIN_ONE, ""},

    /* all of them */
    {"DBSIZE", SPREAD_MASTERS, JOIN_SUM, ""},
    {"PING", SPREAD_MASTERS, JOIN_OK, ""},
    {"FLUSHALL ASYNC", SPREAD_MASTERS, JOIN_OK, ""},
    {"FLUSHDB", SPREAD_MASTERS, JOIN_OK, ""},
    {"KEYS *", SPREAD_MASTERS, JOIN_CONCAT, ""},
    {"RANDOMKEY", SPREAD_MASTERS, JOIN_ANY, ""},
    {"WAIT 1 100", SPREAD_MASTERS, JOIN_MIN, ""},
    {"SCRIPT EXISTS x y", SPREAD_MASTERS, JOIN_AND, ""},
    {"SCRIPT KILL", SPREAD_MASTERS, JOIN_FIRST_OK, ""},
    {"SCRIPT LOAD x", SPREAD_NODES, JOIN_OK, ""},
    {"script flush", SPREAD_NODES, JOIN_OK, ""},
    {"FUNCTION LOAD x", SPREAD_MASTERS, JOIN_OK, ""},
    {"FUNCTION DELETE x", SPREAD_MASTERS, JOIN_OK, ""},
    {"CONFIG SET maxmemory 0", SPREAD_NODES, JOIN_OK, ""},
    {"SLOWLOG LEN", SPREAD_NODES, JOIN_SUM, ""},
    {"SLOWLOG GET 10", SPREAD_NODES, JOIN_CONCAT, ""},
    {"PUBSUB CHANNELS", SPREAD_NODES, JOIN_UNION, ""},
    {"PUBSUB NUMSUB a b", SPREAD_NODES, JOIN_MAP_SUM, ""},
    {"PUBSUB NUMPAT", SPREAD_NODES, JOIN_SUM, ""},
    {"PUBSUB SHARDNUMSUB a", SPREAD_NODES, JOIN_MAP_SUM, ""},
    {"SCAN 0", SPREAD_SCAN, JOIN_ONE, ""},
};

START_TEST(test_ways)
{
    struct way w;
    const char *text = ways[_i].text;
    ck_assert_int_eq(way_of(specs, text, &w), ERR_OK);
    ck_assert_msg(w.spread == ways[_i].spread, "%s: spread %d, not %d", text,
                  w.spread, ways[_i].spread);
    ck_assert_msg(w.join == ways[_i].join, "%s: join %d, not %d", text, w.join,
                  ways[_i].join);
    ck_assert_str_eq(keys_of(specs, text), ways[_i].keys);
    /* All keys that are in one slot here are in that of "a". */
    if (w.spread == SPREAD_SLOT)
        ck_assert_msg(w.slot == slot_of_key("a", 1), "%s: slot %u", text,
                      w.slot);
    if (w.spread == SPREAD_SPLIT) {
        ck_assert_uint_eq(w.first_key, 1);
        ck_assert_uint_eq(w.key_step, strncmp(text, "MSET", 4) == 0 ? 2 : 1);
    }
}
END_TEST

START_TEST(test_readonly)
{
    static const char *const reads[] = {
        "GET a",    "MGET a b",          "EVAL_RO x 1 a",
        "DBSIZE",   "OBJECT ENCODING a", "XREAD STREAMS a 0",
        "SORT_RO a"};
    static const char *const writes[] = {"SET a v",  "EVAL x 1 a",
                                         "GETDEL a", "SORT a",
                                         "FLUSHALL", "XGROUP DESTROY a g"};
    struct way w;
    for (size_t i = 0; i < COUNT(reads); i++) {
        ck_assert_int_eq(way_of(specs, reads[i], &w), ERR_OK);
        ck_assert_msg(w.readonly, "%s", reads[i]);
    }
    for (size_t i = 0; i < COUNT(writes); i++) {
        ck_assert_int_eq(way_of(specs, writes[i], &w), ERR_OK);
        ck_assert_msg(!w.readonly, "%s", writes[i]);
    }
}
END_TEST

/* ---- large arguments ---- */

START_TEST(test_large_arguments)
{
    struct way w;
    ck_assert_int_eq(way_of(specs, "SET a @100000", &w), ERR_OK);
    ck_assert_int_eq(w.spread, SPREAD_SLOT);
    ck_assert_uint_eq(w.slot, slot_of_key("a", 1));
    ck_assert_int_eq(way_of(specs, "MSET a @100000 b @5 c v", &w), ERR_OK);
    ck_assert_int_eq(w.spread, SPREAD_SPLIT);
    ck_assert_uint_eq(w.nkeys, 3);
    ck_assert_int_eq(way_of(specs, "EVAL @100000 1 a @7", &w), ERR_OK);
    ck_assert_int_eq(w.spread, SPREAD_SLOT);

    ck_assert_int_eq(way_of(specs, "GET @100000", &w), ERR_INVALID);
    ck_assert_int_eq(way_of(specs, "MGET a @100000", &w), ERR_INVALID);
    ck_assert_int_eq(way_of(specs, "EVAL x 1 @100000", &w), ERR_INVALID);
    /* It is no name, subcommand, keyword or number of keys. */
    ck_assert_int_eq(way_of(specs, "@3 a", &w), ERR_OK);
    ck_assert_int_eq(w.spread, SPREAD_ANY);
    ck_assert_int_eq(way_of(specs, "OBJECT @8 a", &w), ERR_OK);
    ck_assert_int_eq(w.spread, SPREAD_ANY);
    ck_assert_int_eq(way_of(specs, "EVAL x @1 a", &w), ERR_OK);
    ck_assert_int_eq(w.spread, SPREAD_ANY);
    ck_assert_int_eq(way_of(specs, "SORT a @5 b", &w), ERR_OK);
    ck_assert_int_eq(w.spread, SPREAD_SLOT);
    ck_assert_int_eq(way_of(specs, "MIGRATE h 1 @9 0 100 KEYS a", &w), ERR_OK);
    ck_assert_int_eq(w.spread, SPREAD_ANY);
}
END_TEST

/* `@LEN`, as a message has it, is large, too. */
START_TEST(test_form_of_a_message)
{
    static const char key[] = "*2\r\n$3\r\nGET\r\n@70000\r\n";
    static const char value[] = "*3\r\n$3\r\nSET\r\n$1\r\na\r\n@70000\r\n";
    struct way w;
    struct framed f = framed_view(key, sizeof(key) - 1, NULL, 0);
    ck_assert_int_eq(keyspecs_way(specs, &f, &w), ERR_INVALID);
    f = framed_view(value, sizeof(value) - 1, NULL, 0);
    ck_assert_int_eq(keyspecs_way(specs, &f, &w), ERR_OK);
    ck_assert_uint_eq(w.slot, slot_of_key("a", 1));
}
END_TEST

/* A run is taken apart into its commands, whose blobs go with them. */
START_TEST(test_walk_over_a_run)
{
    struct wire wire;
    struct way w;
    struct framed one;
    wire_init(&wire, "SET a @1000;GET b;MSET c @7 a v b @1000000;PING");
    struct framed rest = wire_framed(&wire);
    static const struct {
        enum spread spread;
        uint32_t blobs;
    } want[] = {{SPREAD_SLOT, 1},
                {SPREAD_SLOT, 0},
                {SPREAD_SPLIT, 2},
                {SPREAD_MASTERS, 0}};
    size_t len = 0;
    for (size_t i = 0; i < COUNT(want); i++) {
        ck_assert_int_eq(framed_next(&rest, &one), ERR_OK);
        ck_assert_ptr_eq(one.data, wire.data + len);
        ck_assert_uint_eq(one.at, len);
        len += one.len;
        ck_assert_uint_eq(one.nblobs, want[i].blobs);
        ck_assert_int_eq(keyspecs_way(specs, &one, &w), ERR_OK);
        ck_assert_int_eq(w.spread, want[i].spread);
    }
    ck_assert_uint_eq(len, wire.len);
    ck_assert_int_eq(framed_next(&rest, &one), ERR_CLOSED);
    wire_release(&wire);
}
END_TEST

/* Cut short at any byte it is no command; nothing is read behind the cut. */
START_TEST(test_cut_short)
{
    static const char *const texts[] = {"SET a v", "MSET a @1000 b v",
                                        "SORT a GET x STORE b"};
    struct wire wire;
    struct framed one;
    wire_init(&wire, texts[_i]);
    for (size_t len = 0; len < wire.len; len++) {
        char *copy = malloc(len > 0 ? len : 1);
        ck_assert_ptr_nonnull(copy);
        memcpy(copy, wire.data, len);
        struct framed cut = framed_view(copy, len, wire.blobs, wire.nblobs);
        struct framed rest = cut;
        enum err e = framed_next(&rest, &one);
        ck_assert_int_eq(e, len == 0 ? ERR_CLOSED : ERR_PROTO);
        struct way w;
        e = keyspecs_way(specs, &cut, &w);
        ck_assert(e == ERR_PROTO || e == ERR_OK);
        free(copy);
    }
    /* A blob that is not where its header ends. */
    struct framed f = wire_framed(&wire);
    if (wire.nblobs > 0) {
        wire.blobs[0].at++;
        ck_assert_int_eq(framed_next(&f, &one), ERR_PROTO);
    }
    wire_release(&wire);
}
END_TEST

/* ---- learning ---- */

static enum err learn(const char *reply)
{
    size_t len = strlen(reply);
    char *copy = malloc(len > 0 ? len : 1);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, reply, len);
    enum err e = keyspecs_learn(specs, copy, len);
    free(copy);
    return e;
}

#define INDEX_1                                                                \
    "*6\r\n+flags\r\n*1\r\n+RO\r\n+begin_search\r\n*4\r\n+type\r\n+index\r\n"  \
    "+spec\r\n*2\r\n+index\r\n:1\r\n+find_keys\r\n*4\r\n+type\r\n+range\r\n"   \
    "+spec\r\n*6\r\n+lastkey\r\n:0\r\n+keystep\r\n:1\r\n+limit\r\n:0\r\n"
/* The same in RESP3. */
#define INDEX_1_MAPS                                                           \
    "%3\r\n+flags\r\n~1\r\n+RO\r\n+begin_search\r\n%2\r\n+type\r\n+index\r\n"  \
    "+spec\r\n%1\r\n+index\r\n:1\r\n+find_keys\r\n%2\r\n+type\r\n+range\r\n"   \
    "+spec\r\n%3\r\n+lastkey\r\n:0\r\n+keystep\r\n:1\r\n+limit\r\n:0\r\n"
#define NEW_COMMAND(name, arity, flags, tips, spec)                            \
    "*10\r\n" name ":" arity "\r\n" flags ":0\r\n:0\r\n:0\r\n*0\r\n" tips spec \
    "*0\r\n"
#define OLD_COMMAND(name, first, last, step)                                   \
    "*7\r\n" name ":-2\r\n*0\r\n:" first "\r\n:" last "\r\n:" step "\r\n*"     \
    "0\r\n"

/* A server of today: what it does not name is not known any more. */
START_TEST(test_learned_replaces)
{
    static const char *const specs_of[] = {INDEX_1, INDEX_1_MAPS};
    char reply[2048];
    struct way w;
    snprintf(reply, sizeof(reply),
             "*2\r\n" NEW_COMMAND("$7\r\nmod.get\r\n", "-2",
                                  "*2\r\n+readonly\r\n+fast\r\n", "*0\r\n",
                                  "*1\r\n%s")
                 NEW_COMMAND("$7\r\nmod.all\r\n", "1", "*0\r\n",
                             "*2\r\n+request_"
                             "policy:all_shards"
                             "\r\n+response_"
                             "policy:agg_max\r\n",
                             "*0\r\n"),
             specs_of[_i]);
    ck_assert_int_eq(learn(reply), ERR_OK);
    ck_assert_int_eq(way_of(specs, "MOD.GET a x", &w), ERR_OK);
    ck_assert_int_eq(w.spread, SPREAD_SLOT);
    ck_assert_uint_eq(w.slot, slot_of_key("a", 1));
    ck_assert(w.readonly);
    ck_assert_int_eq(way_of(specs, "mod.all", &w), ERR_OK);
    ck_assert_int_eq(w.spread, SPREAD_MASTERS);
    ck_assert_int_eq(w.join, JOIN_MAX);
    ck_assert_int_eq(way_of(specs, "GET a", &w), ERR_OK);
    ck_assert_int_eq(w.spread, SPREAD_ANY);
}
END_TEST

/* One before Redis 7: what the built-in table knows, it knows better. */
START_TEST(test_learned_from_an_old_server)
{
    struct way w;
    ck_assert_int_eq(
        learn("*4\r\n" OLD_COMMAND("$7\r\nmod.get\r\n", "1", "-1", "2")
                  OLD_COMMAND("$3\r\nget\r\n", "2", "2", "1")
                      OLD_COMMAND("$8\r\nmod.zero\r\n", "1", "1", "0")
                          OLD_COMMAND("$8\r\nmod.pair\r\n", "2", "3", "1")),
        ERR_OK);
    ck_assert_str_eq(keys_of(specs, "MOD.GET a 1 b 2"), "1 3");
    ck_assert_str_eq(keys_of(specs, "GET a"), "1");
    ck_assert_str_eq(keys_of(specs, "MOD.ZERO a"), "");
    ck_assert_str_eq(keys_of(specs, "MOD.PAIR x a b c"), "2 3");
    ck_assert_int_eq(way_of(specs, "MGET a b", &w), ERR_OK);
    ck_assert_int_eq(w.spread, SPREAD_SPLIT);
    /* Learned anew, the module is gone. */
    ck_assert_int_eq(learn("*0\r\n"), ERR_OK);
    ck_assert_str_eq(keys_of(specs, "MOD.GET a 1 b 2"), "");
    ck_assert_str_eq(keys_of(specs, "GET a"), "1");
}
END_TEST

/* A keyword that is looked for from the end; a number behind it. */
START_TEST(test_searches)
{
#define SPEC(begin, find)                                                      \
    "*1\r\n*4\r\n+begin_search\r\n*4\r\n+type\r\n" begin                       \
    "+find_keys\r\n*4\r\n+type\r\n" find
#define FROM_END                                                               \
    "+keyword\r\n+spec\r\n*4\r\n+keyword\r\n+KEYS\r\n+startfrom\r\n:-2\r\n"
#define LATE_INDEX "+index\r\n+spec\r\n*2\r\n+index\r\n:11\r\n"
#define TO_THE_END                                                             \
    "+range\r\n+spec\r\n*6\r\n+lastkey\r\n:-1\r\n+keystep\r\n:1\r\n+limit\r\n" \
    ":0\r\n"
#define COUNTED                                                                \
    "+keynum\r\n+spec\r\n*6\r\n+keynumidx\r\n:0\r\n+firstkey\r\n:1\r\n"        \
    "+keystep\r\n:2\r\n"
    static const char reply[] = "*3\r\n" NEW_COMMAND(
        "+A\r\n", "-1", "*0\r\n", "*0\r\n", SPEC(FROM_END, TO_THE_END))
        NEW_COMMAND("+B\r\n", "-1", "*0\r\n", "*0\r\n", SPEC(FROM_END, COUNTED))
            NEW_COMMAND("+C\r\n", "-1", "*0\r\n", "*0\r\n",
                        SPEC(LATE_INDEX, COUNTED));
    ck_assert_int_eq(learn(reply), ERR_OK);
    ck_assert_str_eq(keys_of(specs, "A 1 2 keys a b"), "4 5");
    ck_assert_str_eq(keys_of(specs, "A keys 2 keys a"), "4");
    ck_assert_str_eq(keys_of(specs, "A keys a b"), "");
    ck_assert_str_eq(keys_of(specs, "A x keys"), "");
    ck_assert_str_eq(keys_of(specs, "A"), "");
    ck_assert_str_eq(keys_of(specs, "B 1 2 KEYS 2 a 1 b 2"), "5 7");
    ck_assert_str_eq(keys_of(specs, "B 1 2 KEYS 3 a 1 b 2"), "");
    ck_assert_str_eq(keys_of(specs, "C 1 2 3 4 5 6 7 8 9 10 2 a x b"), "12 14");
    ck_assert_str_eq(keys_of(specs, "C 1 2 3 4 5 6 7 8 9 10"), "");
}
END_TEST

static const char *const no_replies[] = {
    "",
    "+OK\r\n",
    "$-1\r\n",
    "*1\r\n",
    "*1\r\n*0\r\n",
    "*1\r\n+get\r\n",
    "*0\r\n*0\r\n",
    "*1\r\n*6\r\n:1\r\n:2\r\n*0\r\n:1\r\n:1\r\n:1\r\n",
    "*1\r\n*6\r\n+get\r\n+2\r\n*0\r\n:1\r\n:1\r\n:1\r\n",
    "*1\r\n*6\r\n+get\r\n:2\r\n*1\r\n:1\r\n:1\r\n:1\r\n:1\r\n",
    "*1\r\n" NEW_COMMAND("+x\r\n", "1", "*0\r\n", "*1\r\n:1\r\n", "*0\r\n"),
    "*1\r\n" NEW_COMMAND("+x\r\n", "1", "*0\r\n", "*0\r\n", "*1\r\n:1\r\n"),
    "*1\r\n" NEW_COMMAND("+x\r\n", "1", "*0\r\n", "*0\r\n",
                         "*1\r\n*1\r\n+flags\r\n"),
    "*1\r\n" NEW_COMMAND("+x\r\n", "1", "*0\r\n", "*0\r\n",
                         "*1\r\n*2\r\n+flags\r\n:1\r\n"),
    "*1\r\n" NEW_COMMAND("+x\r\n", "1", "*0\r\n", "*0\r\n",
                         "*1\r\n*2\r\n+begin_search\r\n*2\r\n+type\r\n:1\r\n"),
    "*1\r\n" NEW_COMMAND("+x\r\n", "1", "*0\r\n", "*0\r\n",
                         "*1\r\n*2\r\n+find_keys\r\n*2\r\n+spec\r\n*2\r\n"
                         "+lastkey\r\n+1\r\n"),
};

/* What is no such reply changes nothing. */
START_TEST(test_no_replies)
{
    ck_assert_int_eq(learn(no_replies[_i]), ERR_PROTO);
    ck_assert_str_eq(keys_of(specs, "GET a"), "1");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("keyspec");
    TCase *t = tcase_create("keyspec");
    tcase_add_checked_fixture(t, setup, teardown);
    suite_add_tcase(s, t);
    tcase_add_loop_test(t, test_ways, 0, (int)COUNT(ways));
    tcase_add_test(t, test_readonly);
    tcase_add_test(t, test_large_arguments);
    tcase_add_test(t, test_form_of_a_message);
    tcase_add_test(t, test_walk_over_a_run);
    tcase_add_loop_test(t, test_cut_short, 0, 3);
    tcase_add_loop_test(t, test_learned_replaces, 0, 2);
    tcase_add_test(t, test_learned_from_an_old_server);
    tcase_add_test(t, test_searches);
    tcase_add_loop_test(t, test_no_replies, 0, (int)COUNT(no_replies));
    return support_run(s);
}
