/*
 * Key specifications and slots against a real redis-server: generated
 * commands of every name that it has, with its COMMAND GETKEYS, its CLUSTER
 * KEYSLOT, and with what a replica in a cluster says to them, which executes
 * none that has a key: -MOVED with the slot, or -CROSSSLOT.
 */
#include "manager/keyspec.h"
#include "manager/slot.h"
#include "tests/redis_cluster.h"
#include "tests/support.h"
#include "tests/support_keyspec.h"
#include "tests/support_policy.h"
#include "tests/support_run.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EACH 24 /* commands of a name */
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct redis_cluster cluster;
static bool present;
static struct keyspecs *specs;
static struct redis_link wire;
static struct listed_commands listed;

/* ---- fixtures ---- */

static void start(void)
{
    support_scratch_setup();
    present = redis_cluster_start(&cluster, 1, 1, 5000, NULL);
}

static void stop(void)
{
    redis_cluster_stop(&cluster);
    support_scratch_teardown();
}

static void setup(void)
{
    ck_assert_int_eq(keyspecs_new(&specs), ERR_OK);
}

static void teardown(void)
{
    keyspecs_free(specs);
}

static bool absent(const char *test)
{
    if (!present)
        support_skip(test, "no redis-server of version 7 is installed");
    return !present;
}

/* Connects, and lists the server's commands. */
static void connect_to(int node, bool learn)
{
    const char *reply;
    size_t len;
    redis_link_open(&wire, &cluster.node[node].at);
    redis_link_command(&wire, "COMMAND");
    ck_assert_int_eq(
        redis_link_reply(&wire, (int)support_wait_ms(), &reply, &len),
        REDIS_REPLY);
    if (learn)
        ck_assert_int_eq(keyspecs_learn(specs, reply, len), ERR_OK);
    list_commands(&listed, reply, len);
}

/* ---- generating ---- */

static unsigned long seed;

static unsigned draw(unsigned below)
{
    seed = seed * 6364136223846793005UL + 1442695040888963407UL;
    return (unsigned)(seed >> 33) % below;
}

/* Keys, numbers and the words that key specifications look for. */
static const char *const words[] = {
    "a",     "b",     "{a}1",   "{a}2", "{a}3",  "{b}1",      "\"\"",
    "0",     "1",     "2",      "3",    "-1",    "STORE",     "STREAMS",
    "store", "KEYS",  "keys",   "GET",  "BY",    "LIMIT",     "COUNT",
    "BLOCK", "GROUP", "AUTH",   "COPY", "AUTH2", "STOREDIST", "WEIGHTS",
    "NOACK", "ASC",   "MAXLEN", "#",
};

static size_t add_word(char *text, size_t room, size_t len, const char *word)
{
    return len + (size_t)snprintf(text + len, room - len, " %s", word);
}

/* Forms that chance hardly finds. */
static const char *const forms[] = {
    "xread count 2 streams K K 0 0",
    "xread block 1 streams K K K 0 0 0",
    "xreadgroup group g c count 1 streams K > ",
    "xreadgroup group g streams streams K K > >",
    "sort K by x limit 0 1 get # get y asc store K",
    "sort K get store store K",
    "sort_ro K by x limit 0 1 get #",
    "migrate h 1 K 0 100 copy replace",
    "migrate h 1 \"\" 0 100 copy keys K K",
    "migrate h 1 \"\" 0 100 auth keys keys K K K",
    "migrate h 1 \"\" 0 100 auth2 keys x keys K K",
    "migrate h 1 K 0 100 keys K",
    "georadius K 1 1 1 m store K",
    "georadius K 1 1 1 m withcoord count 1 any asc storedist K",
    "georadiusbymember K m 1 m count 3 store K",
    "geosearchstore K K frommember m byradius 1 m",
    "eval x 2 K K K",
    "eval_ro x 1 K a",
    "evalsha x 3 K K K a b",
    "evalsha_ro x 2 K K",
    "fcall f 2 K K",
    "fcall_ro f 1 K",
    "zunionstore K 3 K K K weights 1 2 3 aggregate max",
    "zinterstore K 2 K K",
    "zdiffstore K 2 K K",
    "zunion 2 K K withscores",
    "zinter 2 K K",
    "zdiff 2 K K",
    "zintercard 2 K K limit 1",
    "sintercard 3 K K K",
    "zmpop 2 K K min",
    "lmpop 2 K K left count 2",
    "blmpop 0 2 K K right",
    "bzmpop 0 3 K K K max count 2",
    "bitop and K K K",
    "bitop not K K",
    "blpop K K K 0",
    "mset K 1 K 2 K 3",
    "msetnx K 1 K 2",
    "object encoding K",
    "memory usage K samples 5",
    "xgroup create K g $ mkstream",
    "xinfo consumers K g",
    "pfmerge K K K",
    "lcs K K",
    "copy K K db 1 replace",
    "restore-asking K 0 x",
};

/* Where Redis's own ways of finding keys differ, on commands that it then calls
 * wrong: GEORADIUS's STORE in place of a unit, or twice; MIGRATE's KEYS without
 * one; STREAMS of XREAD and XREADGROUP where it can't be, and once more. */
static bool is_moot(const char *text, const char *word, bool last)
{
    return (strncmp(text, "georadius", 9) == 0 &&
            strncasecmp(word, "STORE", 5) == 0) ||
           (strncmp(text, "migrate ", 8) == 0 && last &&
            strcasecmp(word, "KEYS") == 0) ||
           (strncmp(text, "xread", 5) == 0 && strcmp(word, "STREAMS") == 0 &&
            strstr(text, " STREAMS") != NULL);
}

static void form_text(const char *form, char *text, size_t room)
{
    static const char *const keys[] = {"{a}1", "{a}2", "{a}3", "a"};
    size_t len = 0;
    for (const char *p = form; *p != '\0'; p++) {
        if (*p == 'K' && (p[1] == ' ' || p[1] == '\0')) {
            /* Mostly of one slot: else all of them were CROSSSLOT. */
            const char *key =
                draw(8) == 0 ? "b" : keys[draw((unsigned)COUNT(keys))];
            len += (size_t)snprintf(text + len, room - len, "%s", key);
        } else {
            text[len++] = *p;
        }
    }
    text[len] = '\0';
}

/* Command `n`: a form, or a name with words by chance. False: no more. */
static bool generate(size_t n, char *text, size_t room)
{
    seed = n * 7919 + 1;
    (void)draw(2);
    if (n < COUNT(forms) * EACH) {
        form_text(forms[n / EACH], text, room);
        return true;
    }
    n -= COUNT(forms) * EACH;
    if (n >= listed.count * EACH)
        return false;
    const struct listed *l = &listed.commands[n / EACH];
    unsigned arity = (unsigned)(l->arity < 0 ? -l->arity : l->arity);
    unsigned have = strchr(l->words, ' ') != NULL ? 2 : 1;
    unsigned want = arity + (l->arity < 0 ? draw(7) : 0);
    size_t len = (size_t)snprintf(text, room, "%s", l->words);
    bool one_slot = draw(2) == 0;
    for (unsigned i = have; i < want; i++) {
        unsigned word = draw((unsigned)COUNT(words));
        if (one_slot && word < 6)
            word = 2 + word % 3;
        bool moot = is_moot(text, words[word], i == want - 1);
        len = add_word(text, room, len, moot ? "a" : words[word]);
    }
    return true;
}

static void send_text(const char *prefix, const char *text)
{
    char all[1200];
    struct wire bytes;
    snprintf(all, sizeof(all), "%s%s", prefix, text);
    wire_init(&bytes, all);
    redis_link_send(&wire, bytes.data, bytes.len);
    wire_release(&bytes);
}

/* ---- COMMAND GETKEYS ---- */

/* The keys as the server lists them, a space before each. */
static void listed_keys(const char *reply, size_t len, char *text, size_t room)
{
    const char *pos = reply, *end = reply + len;
    size_t at = 0;
    text[0] = '\0';
    for (int64_t n = value_head(&pos, end).number; n > 0; n--) {
        struct resp_value v = value_head(&pos, end);
        at +=
            (size_t)snprintf(text + at, room - at, " %.*s", (int)v.len, v.data);
    }
}

static void found_keys(const char *text, char *keys, size_t room)
{
    uint32_t where[64], count, argc;
    struct wire bytes;
    struct framed_args args;
    struct resp_arg argv[64];
    wire_init(&bytes, text);
    struct framed f = wire_framed(&bytes);
    ck_assert_int_eq(keyspecs_keys(specs, &f, where, 64, &count), ERR_OK);
    ck_assert_int_eq(framed_args(&args, &f, &argc), ERR_OK);
    ck_assert_uint_le(argc, 64);
    for (uint32_t i = 0; i < argc; i++)
        ck_assert_int_eq(framed_arg(&args, &argv[i], NULL), ERR_OK);
    size_t len = 0;
    keys[0] = '\0';
    for (uint32_t i = 0; i < count; i++) {
        ck_assert_uint_lt(where[i], argc);
        const struct resp_arg *key = &argv[where[i]];
        len += (size_t)snprintf(keys + len, room - len, " %.*s", (int)key->len,
                                key->data);
    }
    wire_release(&bytes);
}

/* By the built-in table (_i 0) and the server's own. */
START_TEST(test_getkeys)
{
    char text[1024], want[1024], have[1024];
    size_t asked = 0, with_keys = 0, wrong = 0;
    if (absent("test_getkeys"))
        return;
    connect_to(0, _i == 1);
    for (; generate(asked, text, sizeof(text)); asked++) {
        const char *reply;
        size_t len;
        send_text("COMMAND GETKEYS ", text);
        ck_assert_int_eq(
            redis_link_reply(&wire, (int)support_wait_ms(), &reply, &len),
            REDIS_REPLY);
        found_keys(text, have, sizeof(have));
        if (reply[0] == '*') {
            listed_keys(reply, len, want, sizeof(want));
            ck_assert_msg(strcmp(have, want) == 0, "%s:%s, not%s", text, have,
                          want);
            with_keys++;
        } else if (strstr(reply, "Invalid arguments") != NULL) {
            wrong++; /* and we find those that fit */
        } else {
            ck_assert_msg(have[0] == '\0', "%s:%s, not %s", text, have, reply);
        }
    }
    redis_link_close(&wire);
    ck_assert_uint_gt(asked, 5000);
    ck_assert_uint_gt(with_keys, asked / 3);
    ck_assert_uint_lt(wrong, asked / 10);
}
END_TEST

/* ---- what a cluster does with them ---- */

/* Of shard channels a replica has its own opinion: it serves them. */
static bool is_channel(const char *text)
{
    return strncasecmp(text, "ssubscribe", 10) == 0 ||
           strncasecmp(text, "sunsubscribe", 12) == 0 ||
           strncasecmp(text, "spublish", 8) == 0;
}

START_TEST(test_redirections)
{
    char text[1024], want[64];
    size_t n = 0, moved = 0, crossed = 0, refused = 0;
    if (absent("test_redirections"))
        return;
    connect_to(1, _i == 1);
    for (; generate(n, text, sizeof(text)); n++) {
        struct way w;
        const char *reply;
        size_t len;
        ck_assert_int_eq(way_of(specs, text, &w), ERR_OK);
        if (w.nkeys == 0 || is_channel(text))
            continue;
        send_text("", text);
        ck_assert_int_eq(
            redis_link_reply(&wire, (int)support_wait_ms(), &reply, &len),
            REDIS_REPLY);
        /* Wrong in itself, so that the server sees no key. */
        if (strncmp(reply, "-ERR ", 5) == 0 ||
            strncmp(reply, "-READONLY ", 10) == 0) {
            refused++;
            continue;
        }
        if (w.spread == SPREAD_SLOT) {
            snprintf(want, sizeof(want), "-MOVED %u ", w.slot);
            moved++;
        } else {
            ck_assert(w.spread == SPREAD_CROSS || w.spread == SPREAD_SPLIT);
            snprintf(want, sizeof(want), "%s", KEYSPEC_CROSSSLOT);
            crossed++;
        }
        ck_assert_msg(strncmp(reply, want, strlen(want)) == 0,
                      "%s: %.*s, not %s", text, (int)len, reply, want);
    }
    redis_link_close(&wire);
    ck_assert_uint_gt(moved, 2000);
    ck_assert_uint_gt(crossed, 200);
    ck_assert_uint_lt(refused, 100);
}
END_TEST

/* The built-in table says what this server says, if it is of that version. */
START_TEST(test_builtin)
{
    struct keyspecs *own;
    char text[1024];
    if (absent("test_builtin"))
        return;
    ck_assert_int_eq(keyspecs_new(&own), ERR_OK);
    connect_to(0, true);
    bool same = strstr(redis_cluster_ask(&cluster, 0, "INFO server"),
                       "redis_version:7.0.") != NULL;
    for (size_t n = 0; same && generate(n, text, sizeof(text)); n++) {
        struct way a = {.spread = SPREAD_ANY}, b = a;
        ck_assert_int_eq(way_of(specs, text, &a), ERR_OK);
        ck_assert_int_eq(way_of(own, text, &b), ERR_OK);
        ck_assert_msg(a.spread == b.spread && a.join == b.join &&
                          a.slot == b.slot && a.readonly == b.readonly &&
                          a.nkeys == b.nkeys,
                      "%s", text);
    }
    redis_link_close(&wire);
    keyspecs_free(own);
}
END_TEST

/* ---- slots ---- */

/* Random bytes, many of them braces. */
START_TEST(test_keyslot)
{
    if (absent("test_keyslot"))
        return;
    redis_link_open(&wire, &cluster.node[0].at);
    for (unsigned n = 0; n < 4000; n++) {
        char key[40], command[128];
        struct resp_arg argv[] = {{"CLUSTER", 7}, {"KEYSLOT", 7}, {key, 0}};
        seed = n * 104729 + 3;
        (void)draw(2);
        argv[2].len = draw(sizeof(key));
        for (size_t i = 0; i < argv[2].len; i++)
            key[i] = draw(4) > 0 ? (char)draw(256) : "{}"[draw(2)];
        redis_link_send(&wire, command, resp_put_command(command, 3, argv));
        const char *reply;
        size_t len;
        ck_assert_int_eq(
            redis_link_reply(&wire, (int)support_wait_ms(), &reply, &len),
            REDIS_REPLY);
        ck_assert_int_eq(reply[0], ':');
        ck_assert_int_eq(atoi(reply + 1), slot_of_key(key, argv[2].len));
    }
    redis_link_close(&wire);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("keyspec_server");
    TCase *t = tcase_create("server");
    tcase_add_unchecked_fixture(t, start, stop);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    suite_add_tcase(s, t);
    tcase_add_loop_test(t, test_getkeys, 0, 2);
    tcase_add_loop_test(t, test_redirections, 0, 2);
    tcase_add_test(t, test_builtin);
    tcase_add_test(t, test_keyslot);
    return support_run(s);
}
