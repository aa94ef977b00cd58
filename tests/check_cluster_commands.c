/* Commands in a cluster: what is split or goes to all masters has one reply,
 * what cannot be is refused as Redis refuses it, and the rest finds its node.
 * Each test runs with RESP2 and RESP3. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "tests/cluster_scene.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define KEYS 60
#define LARGE 100000
#define CROSSSLOT "CROSSSLOT Keys in request don't hash to the same slot"

/* A manager with RESP2 or RESP3, and a handle. The cluster is one for all
 * tests: each finds it empty. */
static bool open_with(const char *uri, int resp)
{
    if (!cluster_scene_shared())
        return false;
    for (int i = 0; i < 3; i++) {
        redis_cluster_ask(&cluster, i, "FLUSHALL");
        redis_cluster_ask(&cluster, i, "SCRIPT FLUSH");
    }
    cluster_scene_open(uri, resp == 0 ? "--resp 2" : "--resp 3");
    return true;
}

static bool start(int resp)
{
    return open_with(NULL, resp);
}

/* A key whose slot is node i's. */
static const char *key_of(int i)
{
    return redis_cluster_word(&cluster, i, 0);
}

/* What the nodes hold together. */
static long long keys_held(void)
{
    long long sum = 0;
    for (int i = 0; i < 3; i++)
        sum += atoll(redis_cluster_ask(&cluster, i, "DBSIZE") + 1);
    return sum;
}

/* ---- split ---- */

/* `NAME k0 [v0] k1 [v1] ...`, over all nodes. */
static struct mqredis_reply *over_all(const char *name, int count,
                                      const char *value)
{
    static char keys[KEYS][16], values[KEYS][32];
    const char *argv[2 * KEYS + 1] = {name};
    size_t argc = 1;
    for (int i = 0; i < count; i++) {
        snprintf(keys[i], sizeof(keys[i]), "k%d", i);
        argv[argc++] = keys[i];
        if (value == NULL)
            continue;
        snprintf(values[i], sizeof(values[i]), "%s%d", value, i);
        argv[argc++] = values[i];
    }
    return mqredis_command_argv(mq, argc, argv, NULL);
}

START_TEST(test_split_commands_are_joined)
{
    char text[64];
    if (!start(_i))
        return;
    EXPECT(over_all("MSET", KEYS, "v"), "OK");
    ck_assert_int_eq(keys_held(), KEYS);
    for (int i = 0; i < KEYS; i++) {
        char k[16];
        snprintf(k, sizeof(k), "k%d", i);
        snprintf(text, sizeof(text), "$%d\r\nv%d\r\n", i < 10 ? 2 : 3, i);
        ck_assert_str_eq(redis_cluster_ask_owner(&cluster, k, "GET %s", k),
                         text);
    }
    EXPECT(mqredis_command(mq, "DEL k7"), "1");
    struct mqredis_reply *r = over_all("MGET", KEYS, NULL);
    ck_assert_msg(r->type == MQREDIS_ARRAY, "%s", lib_text(r));
    ck_assert_uint_eq(r->elements, KEYS);
    for (int i = 0; i < KEYS; i++) {
        snprintf(text, sizeof(text), "v%d", i);
        ck_assert_str_eq(lib_text(r->element[i]), i == 7 ? "(nil)" : text);
    }
    mqredis_free(r);
    EXPECT(over_all("EXISTS", KEYS, NULL), "59");
    EXPECT(mqredis_command(mq, "EXISTS k1 k2 k1 k7 k1"), "4");
    EXPECT(over_all("TOUCH", KEYS, NULL), "59");
    EXPECT(mqredis_command(mq, "MSET k1 a k2 b k1 c"), "OK");
    EXPECT(mqredis_command(mq, "GET k1"), "c");
    EXPECT(mqredis_command(mq, "DEL k0 k0 k1 k7"), "2");
    EXPECT(over_all("UNLINK", KEYS, NULL), "57");
    ck_assert_int_eq(keys_held(), 0);
    cluster_scene_close();
}
END_TEST

START_TEST(test_split_commands_with_large_values)
{
    static char value[3][LARGE];
    const char *argv[7] = {"MSET"};
    size_t len[7] = {4};
    if (!start(_i))
        return;
    for (int i = 0; i < 3; i++) {
        memset(value[i], 'x' + i, LARGE);
        argv[1 + 2 * i] = key_of(i);
        len[1 + 2 * i] = strlen(key_of(i));
        argv[2 + 2 * i] = value[i];
        len[2 + 2 * i] = (size_t)(LARGE - i);
    }
    EXPECT(mqredis_command_argv(mq, 7, argv, len), "OK");
    struct mqredis_reply *r = mqredis_command(mq, "MGET %s %s missing %s",
                                              key_of(2), key_of(0), key_of(1));
    ck_assert_msg(r->type == MQREDIS_ARRAY && r->elements == 4, "%s",
                  lib_text(r));
    const int order[] = {2, 0, -1, 1};
    for (int i = 0; i < 4; i++) {
        int n = order[i];
        if (n < 0) {
            ck_assert_int_eq(r->element[i]->type, MQREDIS_NIL);
            continue;
        }
        ck_assert_uint_eq(r->element[i]->len, (size_t)(LARGE - n));
        ck_assert_int_eq(
            memcmp(r->element[i]->str, value[n], r->element[i]->len), 0);
    }
    mqredis_free(r);
    cluster_scene_close();
}
END_TEST

START_TEST(test_split_command_in_error)
{
    if (!start(_i))
        return;
    EXPECT(mqredis_command(mq, "MGET"),
           "ERR wrong number of arguments for 'mget' command");
    EXPECT(mqredis_command(mq, "DEL"),
           "ERR wrong number of arguments for 'del' command");
    /* Memory is short on one node: its part fails, and so does the whole. */
    ck_assert_str_eq(redis_cluster_ask(&cluster, 1, "CONFIG SET maxmemory 1"),
                     "+OK\r\n");
    struct mqredis_reply *r = mqredis_command(mq, "MSET %s 1 %s 1 %s 1",
                                              key_of(0), key_of(1), key_of(2));
    ck_assert_int_eq(r->type, MQREDIS_ERROR);
    ck_assert_msg(strncmp(lib_text(r), "OOM ", 4) == 0, "%s", lib_text(r));
    mqredis_free(r);
    ck_assert_str_eq(redis_cluster_ask(&cluster, 1, "CONFIG SET maxmemory 0"),
                     "+OK\r\n");
    EXPECT(mqredis_command(mq, "EXISTS %s", key_of(1)), "0");
    cluster_scene_close();
}
END_TEST

/* ---- all masters ---- */

START_TEST(test_all_masters_are_asked)
{
    static const char lua[] = "return redis.call('GET', KEYS[1])";
    if (!start(_i))
        return;
    EXPECT(over_all("MSET", KEYS, "v"), "OK");
    EXPECT(mqredis_command(mq, "DBSIZE"), "60");
    struct mqredis_reply *r = mqredis_command(mq, "KEYS k?");
    ck_assert_uint_eq(r->elements, 10);
    mqredis_free(r);
    r = mqredis_command(mq, "SCRIPT LOAD %s", lua);
    ck_assert_uint_eq(r->len, 40);
    char sha[41];
    strcpy(sha, r->str);
    mqredis_free(r);
    EXPECT(mqredis_command(mq, "EVALSHA %s 1 k1", sha), "v1");
    for (int i = 0; i < 3; i++)
        EXPECT(mqredis_command(mq, "EVALSHA %s 1 %s", sha, key_of(i)), "(nil)");
    r = mqredis_command(mq, "SCRIPT EXISTS %s %s", sha, "0");
    ck_assert_uint_eq(r->elements, 2);
    ck_assert_int_eq(r->element[0]->integer, 1);
    ck_assert_int_eq(r->element[1]->integer, 0);
    mqredis_free(r);
    redis_cluster_ask(&cluster, 2, "SCRIPT FLUSH");
    r = mqredis_command(mq, "SCRIPT EXISTS %s", sha);
    ck_assert_int_eq(r->element[0]->integer, 0);
    mqredis_free(r);
    EXPECT(mqredis_command(mq, "CONFIG SET slowlog-max-len 77"), "OK");
    for (int i = 0; i < 3; i++)
        ck_assert_ptr_nonnull(
            strstr(redis_cluster_ask(&cluster, i, "CONFIG GET slowlog-max-len"),
                   "\r\n77\r\n"));
    EXPECT(mqredis_command(mq, "FLUSHALL"), "OK");
    ck_assert_int_eq(keys_held(), 0);
    EXPECT(mqredis_command(mq, "RANDOMKEY"), "(nil)");
    EXPECT(mqredis_command(mq, "SET %s x", key_of(2)), "OK");
    EXPECT(mqredis_command(mq, "RANDOMKEY"), key_of(2));
    cluster_scene_close();
}
END_TEST

#define SCANNED 300

static void scan_to_the_end(const char *pattern)
{
    bool seen[SCANNED] = {false};
    char cursor[32] = "0", count[16];
    int steps = 0, found = 0;
    do {
        snprintf(count, sizeof(count), "%d", 10 + steps % 7);
        const char *argv[] = {"SCAN", cursor, "COUNT", count, "MATCH", pattern};
        struct mqredis_reply *r = mqredis_command_argv(mq, 6, argv, NULL);
        ck_assert_msg(r->type == MQREDIS_ARRAY, "%s", lib_text(r));
        snprintf(cursor, sizeof(cursor), "%s", r->element[0]->str);
        const struct mqredis_reply *keys = r->element[1];
        for (size_t i = 0; i < keys->elements; i++) {
            long n = strtol(keys->element[i]->str + 2, NULL, 10);
            ck_assert(n >= 0 && n < SCANNED);
            found += !seen[n];
            seen[n] = true;
        }
        mqredis_free(r);
        ck_assert_int_lt(++steps, 1000);
    } while (strcmp(cursor, "0") != 0);
    ck_assert_int_eq(found, SCANNED);
}

static void put_keys_to_scan(void)
{
    for (int i = 0; i < SCANNED; i++)
        EXPECT(mqredis_command(mq, "SET s:%d 1", i), "OK");
    EXPECT(mqredis_command(mq, "SET other 1"), "OK");
}

START_TEST(test_scan_walks_over_all_masters)
{
    if (!start(_i))
        return;
    put_keys_to_scan();
    scan_to_the_end("s:*");
    cluster_scene_close();
}
END_TEST

/* What stands behind the cursor may be anything, in a file of its own too: it
 * arrives whole, or the connection would be out of step for everybody. */
START_TEST(test_scan_with_large_arguments)
{
    static char stars[LARGE + 1], digits[LARGE + 1];
    if (!start(_i))
        return;
    put_keys_to_scan();
    memset(stars, '*', LARGE);
    memcpy(stars, "s:", 2);
    scan_to_the_end(stars);
    memset(digits, '1', LARGE);
    const char *argv[] = {"SCAN", digits};
    EXPECT(mqredis_command_argv(mq, 2, argv, NULL), "ERR invalid cursor");
    EXPECT(mqredis_command(mq, "SCAN nonsense MATCH %s", stars),
           "ERR invalid cursor");
    EXPECT(mqredis_command(mq, "SCAN 0 %s %s", stars, digits),
           "ERR syntax error");
    /* More arguments than anybody needs. */
    struct mqredis_reply *r = mqredis_command(
        mq, "SCAN 0 COUNT 1 COUNT 1 COUNT 1 COUNT 1 COUNT 1 COUNT 1 COUNT 1 "
            "COUNT 1");
    ck_assert_msg(r->type == MQREDIS_ARRAY && r->elements == 2 &&
                      strtoull(r->element[0]->str, NULL, 10) % 1024 < 3,
                  "%s", lib_text(r));
    mqredis_free(r);
    EXPECT(mqredis_command(mq, "ECHO step"), "step");
    cluster_scene_close();
}
END_TEST

/* ---- several slots, and no way ---- */

START_TEST(test_other_commands_over_slots_are_refused_as_redis_does)
{
    if (!start(_i))
        return;
    EXPECT(mqredis_command(mq, "SET %s 1", key_of(0)), "OK");
    EXPECT(mqredis_command(mq, "SADD %s{x} m", key_of(0)), "1");
    EXPECT(mqredis_command(mq, "RENAME %s %s", key_of(0), key_of(1)),
           CROSSSLOT);
    EXPECT(mqredis_command(mq, "MSETNX %s 1 %s 2", key_of(1), key_of(2)),
           CROSSSLOT);
    EXPECT(mqredis_command(mq, "SINTERSTORE a b c"), CROSSSLOT);
    EXPECT(mqredis_command(mq, "ZUNIONSTORE a 2 b c"), CROSSSLOT);
    EXPECT(mqredis_command(mq, "PFCOUNT a b c"), CROSSSLOT);
    EXPECT(mqredis_command(mq, "EVAL %s 2 a b", "return 1"), CROSSSLOT);
    EXPECT(mqredis_command(mq, "BITOP AND a b c"), CROSSSLOT);
    EXPECT(mqredis_command(mq, "COPY a b"), CROSSSLOT);
    EXPECT(mqredis_command(mq, "SORT a STORE b"), CROSSSLOT);
    EXPECT(mqredis_command(mq, "XREAD STREAMS a b 0 0"), CROSSSLOT);
    EXPECT(mqredis_command(mq, "BLPOP a b 0.01"), CROSSSLOT);
    /* And in one slot they work. */
    EXPECT(mqredis_command(mq, "MSETNX {t}a 1 {t}b 2"), "1");
    EXPECT(mqredis_command(mq, "RENAME {t}a {t}c"), "OK");
    EXPECT(mqredis_command(mq, "COPY {t}c {t}d"), "1");
    EXPECT(mqredis_command(mq, "SADD {t}s 1 2 3"), "3");
    EXPECT(mqredis_command(mq, "SORT {t}s STORE {t}l"), "3");
    EXPECT(mqredis_command(mq, "SINTERSTORE {t}u {t}s {t}s"), "3");
    EXPECT(mqredis_command(mq, "EVAL %s 2 {t}c {t}d",
                           "return redis.call('GET', KEYS[2])"),
           "1");
    EXPECT(mqredis_command(mq, "XADD {t}x 1-1 f v"), "1-1");
    cluster_scene_close();
}
END_TEST

START_TEST(test_transaction_over_slots_is_refused)
{
    if (!start(_i))
        return;
    struct mqredis_batch *b = mqredis_batch_new(mq);
    for (int i = 0; i < 3; i++)
        mqredis_batch_add(b, "SET %s 1", key_of(i));
    struct mqredis_reply *r = mqredis_transaction_run(b);
    ck_assert_int_eq(r->status, MQREDIS_INVALID);
    ck_assert_msg(strstr(lib_text(r), "CROSSSLOT") != NULL, "%s", lib_text(r));
    mqredis_free(r);
    ck_assert_int_eq(keys_held(), 0);
    b = mqredis_batch_new(mq);
    mqredis_batch_add(b, "SET {t}a 1");
    mqredis_batch_add(b, "PING");
    mqredis_batch_add(b, "MGET {t}a {t}b");
    r = mqredis_transaction_run(b);
    ck_assert_msg(r->type == MQREDIS_ARRAY && r->elements == 3, "%s",
                  lib_text(r));
    ck_assert_str_eq(lib_text(r->element[1]), "PONG");
    ck_assert_str_eq(lib_text(r->element[2]->element[0]), "1");
    mqredis_free(r);
    /* An error while it is queued, and one while it is executed. */
    b = mqredis_batch_new(mq);
    mqredis_batch_add(b, "INCR {t}a");
    mqredis_batch_add(b, "NOSUCH {t}a");
    r = mqredis_transaction_run(b);
    ck_assert_msg(strncmp(lib_text(r), "ERR unknown command", 19) == 0, "%s",
                  lib_text(r));
    mqredis_free(r);
    b = mqredis_batch_new(mq);
    mqredis_batch_add(b, "LPUSH {t}a x");
    mqredis_batch_add(b, "INCR {t}a");
    r = mqredis_transaction_run(b);
    ck_assert_msg(strncmp(lib_text(r->element[0]), "WRONGTYPE", 9) == 0, "%s",
                  lib_text(r->element[0]));
    ck_assert_str_eq(lib_text(r->element[1]), "2");
    mqredis_free(r);
    cluster_scene_close();
}
END_TEST

/* ---- batches ---- */

/* Another worker that wants to get in between. */
struct rival {
    char channel[48];
    _Atomic bool enough;
    _Atomic long done;
};

static void get_in_between(void *arg)
{
    struct rival *r = arg;
    struct mqredis *own = mqredis_open(r->channel, NULL);
    CHILD_REQUIRE(own != NULL);
    while (!r->enough) {
        struct mqredis_reply *reply = mqredis_command(own, "INCR {t}n");
        CHILD_REQUIRE(reply->type == MQREDIS_INTEGER);
        mqredis_free(reply);
        r->done++;
    }
    mqredis_close(own);
}

START_TEST(test_batch_in_one_slot_stays_together)
{
    if (!start(_i))
        return;
    struct rival *rival = support_shared(sizeof(*rival));
    strcpy(rival->channel, manager.channel);
    pid_t pid = support_fork(get_in_between, rival);
    ck_assert(UNTIL(rival->done > 10));
    for (int i = 0; i < 200; i++) {
        struct mqredis_batch *b = mqredis_batch_new(mq);
        for (int j = 0; j < 5; j++)
            mqredis_batch_add(b, "INCR {t}n");
        struct mqredis_reply *r = mqredis_batch_run(b);
        ck_assert_msg(r->type == MQREDIS_BATCH, "%s", lib_text(r));
        for (int j = 1; j < 5; j++)
            ck_assert_int_eq(r->element[j]->integer,
                             r->element[0]->integer + j);
        mqredis_free(r);
    }
    rival->enough = true;
    ck_assert_int_eq(support_join(pid), 0);
    cluster_scene_close();
}
END_TEST

START_TEST(test_batch_over_slots)
{
    if (!start(_i))
        return;
    struct mqredis_batch *b = mqredis_batch_new(mq);
    for (int i = 0; i < KEYS; i++) {
        mqredis_batch_add(b, "SET b%d %d", i, i);
        mqredis_batch_add(b, "INCR b%d", i);
    }
    mqredis_batch_add(b, "RENAME b1 b2");
    mqredis_batch_add(b, "MGET b1 b2 b3");
    mqredis_batch_add(b, "PING");
    struct mqredis_reply *r = mqredis_batch_run(b);
    ck_assert_msg(r->type == MQREDIS_BATCH, "%s", lib_text(r));
    ck_assert_uint_eq(r->elements, 2 * KEYS + 3);
    for (int i = 0; i < KEYS; i++) {
        ck_assert_str_eq(lib_text(r->element[2 * i]), "OK");
        ck_assert_int_eq(r->element[2 * i + 1]->integer, i + 1);
    }
    ck_assert_str_eq(lib_text(r->element[2 * KEYS]), CROSSSLOT);
    const struct mqredis_reply *m = r->element[2 * KEYS + 1];
    ck_assert_msg(m->elements == 3, "%s", lib_text(m));
    ck_assert_str_eq(lib_text(m->element[0]), "2");
    ck_assert_str_eq(lib_text(m->element[2]), "4");
    ck_assert_str_eq(lib_text(r->element[2 * KEYS + 2]), "PONG");
    mqredis_free(r);
    cluster_scene_close();
}
END_TEST

static long waits_of(int node)
{
    static const char mark[] = "cmdstat_wait:calls=";
    const char *at =
        strstr(redis_cluster_ask(&cluster, node, "INFO commandstats"), mark);
    return at == NULL ? 0 : strtol(at + sizeof(mark) - 1, NULL, 10);
}

/* `SET key 1`, and WAIT for a replica that is not there. */
static void set_and_wait(const char *key)
{
    struct mqredis_batch *b = mqredis_batch_new(mq);
    mqredis_batch_add(b, "SET %s 1", key);
    mqredis_batch_add(b, "WAIT 1 10");
    struct mqredis_reply *r = mqredis_batch_run(b);
    ck_assert_msg(r->type == MQREDIS_BATCH && r->elements == 2, "%s",
                  lib_text(r));
    ck_assert_str_eq(lib_text(r->element[0]), "OK");
    ck_assert_msg(r->element[1]->type == MQREDIS_INTEGER, "%s",
                  lib_text(r->element[1]));
    ck_assert_int_eq(r->element[1]->integer, 0);
    mqredis_free(r);
}

/* WAIT asks the connection that the writes before it went by: nobody else. */
START_TEST(test_wait_goes_with_its_writes)
{
    if (!start(_i))
        return;
    for (int i = 0; i < 3; i++)
        redis_cluster_ask(&cluster, i, "CONFIG RESETSTAT");
    const char *key = redis_cluster_word(&cluster, 1, (unsigned)_i);
    set_and_wait(key);
    ck_assert_int_eq(waits_of(0), 0);
    ck_assert_int_eq(waits_of(1), 1);
    ck_assert_int_eq(waits_of(2), 0);
    struct mqredis_batch *b = mqredis_batch_new(mq);
    mqredis_batch_add(b, "SET %s 2", key_of(0));
    mqredis_batch_add(b, "SET %s 2", key_of(1));
    mqredis_batch_add(b, "WAIT 1 10");
    struct mqredis_reply *r = mqredis_batch_run(b);
    ck_assert_int_eq(r->status, MQREDIS_INVALID);
    ck_assert_msg(strstr(lib_text(r), "WAIT asks") != NULL, "%s", lib_text(r));
    mqredis_free(r);
    ck_assert_int_eq(keys_held(), 1);
    /* After a redirection it asks once more, where they are by then. */
    unsigned slot = redis_cluster_slot(key);
    redis_cluster_move(&cluster, slot, 2);
    set_and_wait(key);
    ck_assert_int_eq(waits_of(2), 1);
    redis_cluster_move(&cluster, slot, 1);
    redis_cluster_settle(&cluster);
    cluster_scene_close();
}
END_TEST

/* A command that is split keeps its place among those with its keys. */
START_TEST(test_split_command_within_a_batch)
{
    if (!start(_i))
        return;
    struct mqredis_batch *b = mqredis_batch_new(mq);
    mqredis_batch_add(b, "MSET %s 1 %s 1", key_of(0), key_of(1));
    mqredis_batch_add(b, "INCR %s", key_of(0));
    mqredis_batch_add(b, "MGET %s %s", key_of(0), key_of(1));
    mqredis_batch_add(b, "INCR %s", key_of(0));
    mqredis_batch_add(b, "DEL %s %s", key_of(0), key_of(1));
    mqredis_batch_add(b, "INCR %s", key_of(0));
    mqredis_batch_add(b, "FLUSHALL");
    mqredis_batch_add(b, "INCR %s", key_of(0));
    struct mqredis_reply *r = mqredis_batch_run(b);
    ck_assert_msg(r->type == MQREDIS_BATCH && r->elements == 8, "%s",
                  lib_text(r));
    ck_assert_str_eq(lib_text(r->element[1]), "2");
    ck_assert_str_eq(lib_text(r->element[2]->element[0]), "2");
    ck_assert_str_eq(lib_text(r->element[3]), "3");
    ck_assert_str_eq(lib_text(r->element[4]), "2");
    ck_assert_str_eq(lib_text(r->element[5]), "1");
    ck_assert_str_eq(lib_text(r->element[6]), "OK");
    ck_assert_str_eq(lib_text(r->element[7]), "1");
    mqredis_free(r);
    cluster_scene_close();
}
END_TEST

/* ---- what blocks ---- */

START_TEST(test_blocking_commands_find_their_nodes)
{
    if (!start(_i))
        return;
    struct mqredis_request *q[3];
    for (int i = 0; i < 3; i++)
        q[i] = mqredis_submit(mq, "BLPOP {%s}a {%s}b 15", key_of(i), key_of(i));
    mqredis_flush(mq);
    for (int i = 0; i < 3; i++)
        ck_assert(UNTIL(strstr(redis_cluster_ask(&cluster, i, "INFO clients"),
                               "blocked_clients:1") != NULL));
    for (int i = 2; i >= 0; i--) {
        EXPECT(mqredis_command(mq, "RPUSH {%s}b %d", key_of(i), i), "1");
        struct mqredis_reply *r = mqredis_wait(q[i]);
        ck_assert_msg(r->type == MQREDIS_ARRAY, "%s", lib_text(r));
        ck_assert_int_eq(atoi(lib_text(r->element[1])), i);
        mqredis_free(r);
    }
    EXPECT(mqredis_command(mq, "BLPOP {%s}a 0.05", key_of(0)), "(nil)");
    /* One that is given up takes nothing any more. */
    struct mqredis_request *gone =
        mqredis_submit(mq, "BLPOP {%s}c 15", key_of(1));
    mqredis_flush(mq);
    ck_assert(UNTIL(strstr(redis_cluster_ask(&cluster, 1, "INFO clients"),
                           "blocked_clients:1") != NULL));
    mqredis_cancel(gone);
    ck_assert(UNTIL(strstr(redis_cluster_ask(&cluster, 1, "INFO clients"),
                           "blocked_clients:0") != NULL));
    EXPECT(mqredis_command(mq, "RPUSH {%s}c x", key_of(1)), "1");
    EXPECT(mqredis_command(mq, "LLEN {%s}c", key_of(1)), "1");
    cluster_scene_close();
}
END_TEST

/* ---- large values ---- */

START_TEST(test_large_values_on_all_nodes)
{
    enum { SIZE = 3000000 };
    if (!start(_i))
        return;
    char *value = malloc(SIZE);
    ck_assert_ptr_nonnull(value);
    struct mqredis_request *q[3];
    for (int i = 0; i < 3; i++) {
        memset(value, 'a' + i, SIZE);
        EXPECT(mqredis_set(mq, key_of(i), value, SIZE), "OK");
    }
    for (int i = 0; i < 3; i++)
        q[i] = mqredis_submit(mq, "GET %s", key_of(i));
    for (int i = 0; i < 3; i++) {
        struct mqredis_reply *r = mqredis_wait(q[i]);
        memset(value, 'a' + i, SIZE);
        ck_assert_msg(r->type == MQREDIS_STRING, "%s", lib_text(r));
        ck_assert_uint_eq(r->len, SIZE);
        ck_assert_int_eq(memcmp(r->str, value, SIZE), 0);
        mqredis_free(r);
    }
    free(value);
    cluster_scene_close();
}
END_TEST

/* ---- no keys ---- */

START_TEST(test_commands_without_keys)
{
    if (!start(_i))
        return;
    EXPECT(mqredis_command(mq, "PING"), "PONG");
    EXPECT(mqredis_command(mq, "ECHO hello"), "hello");
    EXPECT(mqredis_command(mq, "EVAL %s 0", "return 'x'"), "x");
    EXPECT(mqredis_command(mq, "PUBLISH nobody x"), "0");
    struct mqredis_reply *r = mqredis_command(mq, "TIME");
    ck_assert_uint_eq(r->elements, 2);
    mqredis_free(r);
    r = mqredis_command(mq, "NOSUCH a b");
    ck_assert_msg(strncmp(lib_text(r), "ERR unknown command", 19) == 0, "%s",
                  lib_text(r));
    mqredis_free(r);
    cluster_scene_close();
}
END_TEST

/* ---- other ways to name a cluster ---- */

START_TEST(test_one_seed_is_enough)
{
    char uri[64];
    snprintf(uri, sizeof(uri), "cluster://127.0.0.1:%u", cluster.node[2].port);
    if (!open_with(uri, _i))
        return;
    for (int i = 0; i < 3; i++)
        EXPECT(mqredis_command(mq, "SET %s %d", key_of(i), i), "OK");
    ck_assert_int_eq(keys_held(), 3);
    cluster_scene_close();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("cluster_commands");
    TCase *t = tcase_create("commands");
    suite_add_tcase(s, t);
    tcase_add_unchecked_fixture(t, cluster_scene_share, cluster_scene_unshare);
    tcase_add_checked_fixture(t, support_remove_queues, e2e_stop_all);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, test_split_commands_are_joined, 0, 2);
    tcase_add_loop_test(t, test_split_commands_with_large_values, 0, 2);
    tcase_add_loop_test(t, test_split_command_in_error, 0, 2);
    tcase_add_loop_test(t, test_all_masters_are_asked, 0, 2);
    tcase_add_loop_test(t, test_scan_walks_over_all_masters, 0, 2);
    tcase_add_loop_test(t, test_scan_with_large_arguments, 0, 2);
    tcase_add_loop_test(
        t, test_other_commands_over_slots_are_refused_as_redis_does, 0, 2);
    tcase_add_loop_test(t, test_transaction_over_slots_is_refused, 0, 2);
    tcase_add_loop_test(t, test_batch_in_one_slot_stays_together, 0, 2);
    tcase_add_loop_test(t, test_batch_over_slots, 0, 2);
    tcase_add_loop_test(t, test_wait_goes_with_its_writes, 0, 2);
    tcase_add_loop_test(t, test_split_command_within_a_batch, 0, 2);
    tcase_add_loop_test(t, test_blocking_commands_find_their_nodes, 0, 2);
    tcase_add_loop_test(t, test_large_values_on_all_nodes, 0, 2);
    tcase_add_loop_test(t, test_commands_without_keys, 0, 2);
    tcase_add_loop_test(t, test_one_seed_is_enough, 0, 2);
    return s;
}

int main(void)
{
    return support_run(suite());
}
