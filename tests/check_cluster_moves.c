/* Slots that move from master to master, and workers that must not notice:
 * neither one command at a time, with each step of a move held still, nor 32 of
 * them at once. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "ipc/clock.h"
#include "tests/cluster_load.h"
#include "tests/cluster_scene.h"
#include "tests/differential.h"
#include "tests/support.h"
#include "tests/support_run.h"

#define WORKERS 32
#define LARGE 200000

/* The slot is node 0's, and goes elsewhere in the test; this is a word in it.
 */
static const char *tag;
static unsigned slot;

/* A manager, a handle, and the n-th of the slots: to each of the tests of
 * single steps its own, for they share a cluster. */
static bool start(unsigned n)
{
    if (!cluster_scene_shared())
        return false;
    cluster_scene_open(NULL, NULL);
    tag = redis_cluster_word(&cluster, 0, n);
    slot = redis_cluster_slot(tag);
    return true;
}

/* ---- one step at a time ---- */

START_TEST(test_moved_is_followed_and_learned)
{
    if (!start(0))
        return;
    EXPECT(mqredis_command(mq, "SET {%s}a 1", tag), "OK");
    redis_cluster_move(&cluster, slot, 1);
    uint64_t before = e2e_counter(&manager, COUNTER_moved);
    EXPECT(mqredis_command(mq, "INCR {%s}a", tag), "2");
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_moved), before + 1);
    for (int i = 3; i < 10; i++) {
        char text[8];
        snprintf(text, sizeof(text), "%d", i);
        EXPECT(mqredis_command(mq, "INCR {%s}a", tag), text);
    }
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_moved), before + 1);
    cluster_scene_close();
}
END_TEST

START_TEST(test_ask_is_followed_and_not_learned)
{
    if (!start(1))
        return;
    EXPECT(mqredis_command(mq, "SET {%s}here 1", tag), "OK");
    redis_cluster_move_begin(&cluster, slot, 0, 1);
    /* What is not there may be over there already. */
    for (int i = 0; i < 3; i++) {
        EXPECT(mqredis_command(mq, "SET {%s}there %d", tag, i), "OK");
        EXPECT(mqredis_command(mq, "INCR {%s}here", tag), i == 0   ? "2"
                                                          : i == 1 ? "3"
                                                                   : "4");
    }
    ck_assert_uint_ge(e2e_counter(&manager, COUNTER_ask), 3);
    ck_assert_str_eq(redis_cluster_ask(&cluster, 0, "EXISTS {%s}here", tag),
                     ":1\r\n");
    while (redis_cluster_move_keys(&cluster, slot, 0, 1, 10) > 0)
        ;
    redis_cluster_move_end(&cluster, slot, 0, 1);
    EXPECT(mqredis_command(mq, "GET {%s}there", tag), "2");
    EXPECT(mqredis_command(mq, "GET {%s}here", tag), "4");
    cluster_scene_close();
}
END_TEST

START_TEST(test_tryagain_waits_for_the_keys)
{
    if (!start(2))
        return;
    EXPECT(mqredis_command(mq, "SET {%s}a 1", tag), "OK");
    EXPECT(mqredis_command(mq, "SET {%s}b 2", tag), "OK");
    redis_cluster_move_begin(&cluster, slot, 0, 1);
    ck_assert_int_eq(redis_cluster_move_keys(&cluster, slot, 0, 1, 1), 1);
    struct mqredis_request *sum =
        mqredis_submit(mq, "SUNIONSTORE {%s}c {%s}a {%s}b", tag, tag, tag);
    struct mqredis_request *both =
        mqredis_submit(mq, "MGET {%s}a {%s}b", tag, tag);
    mqredis_flush(mq);
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_tryagain) > 1));
    /* Others do not wait for them. */
    for (int i = 1; i < 3; i++) {
        const char *other = redis_cluster_word(&cluster, i, 0);
        EXPECT(mqredis_command(mq, "SET %s x", other), "OK");
    }
    ck_assert(!mqredis_wait_done(both, 0));
    while (redis_cluster_move_keys(&cluster, slot, 0, 1, 10) > 0)
        ;
    redis_cluster_move_end(&cluster, slot, 0, 1);
    struct mqredis_reply *r = mqredis_wait(both);
    ck_assert_msg(r->type == MQREDIS_ARRAY, "%s", lib_text(r));
    ck_assert_str_eq(lib_text(r->element[0]), "1");
    ck_assert_str_eq(lib_text(r->element[1]), "2");
    mqredis_free(r);
    r = mqredis_wait(sum);
    ck_assert_msg(strncmp(lib_text(r), "WRONGTYPE", 9) == 0, "%s", lib_text(r));
    mqredis_free(r);
    cluster_scene_close();
}
END_TEST

START_TEST(test_tryagain_ends_at_the_deadline)
{
    if (!start(3))
        return;
    EXPECT(mqredis_command(mq, "MSET {%s}a 1 {%s}b 2", tag, tag), "OK");
    redis_cluster_move_begin(&cluster, slot, 0, 1);
    ck_assert_int_eq(redis_cluster_move_keys(&cluster, slot, 0, 1, 1), 1);
    mqredis_set_timeout(mq, 300);
    uint64_t t0 = clock_ns();
    LIB_EXPIRES(mqredis_command(mq, "MSETNX {%s}a 1 {%s}b 2", tag, tag));
    ck_assert_uint_ge(clock_ns() - t0, 290 * NS_PER_MS);
    mqredis_set_timeout(mq, SCENE_TIMEOUT_MS);
    while (redis_cluster_move_keys(&cluster, slot, 0, 1, 10) > 0)
        ;
    redis_cluster_move_end(&cluster, slot, 0, 1);
    EXPECT(mqredis_command(mq, "GET {%s}b", tag), "2");
    cluster_scene_close();
}
END_TEST

START_TEST(test_transaction_in_a_moving_slot)
{
    if (!start(4))
        return;
    for (int stage = 0; stage < 4; stage++) {
        /* 0: at rest; 1: its key is still here; 2: all keys are over there;
         * 3: moved. */
        if (stage == 1)
            redis_cluster_move_begin(&cluster, slot, 0, 1);
        if (stage == 2)
            while (redis_cluster_move_keys(&cluster, slot, 0, 1, 10) > 0)
                ;
        if (stage == 3)
            redis_cluster_move_end(&cluster, slot, 0, 1);
        struct mqredis_batch *b = mqredis_batch_new(mq);
        mqredis_batch_add(b, "INCR {%s}n", tag);
        mqredis_batch_add(b, "APPEND {%s}n 0", tag);
        mqredis_batch_add(b, "SET {%s}n %d", tag, stage + 1);
        struct mqredis_reply *r = mqredis_transaction_run(b);
        ck_assert_msg(r->type == MQREDIS_ARRAY && r->elements == 3,
                      "stage %d: %s", stage, lib_text(r));
        ck_assert_int_eq(r->element[0]->integer, stage + 1);
        ck_assert_int_eq(r->element[1]->integer, 2);
        mqredis_free(r);
    }
    EXPECT(mqredis_command(mq, "GET {%s}n", tag), "4");
    cluster_scene_close();
}
END_TEST

START_TEST(test_large_values_are_redirected)
{
    if (!start(5))
        return;
    static char value[LARGE];
    for (size_t i = 0; i < sizeof(value); i++)
        value[i] = (char)('a' + i % 23);
    char key[32];
    snprintf(key, sizeof(key), "{%s}large", tag);
    EXPECT(mqredis_set(mq, key, value, 1000), "OK");
    redis_cluster_move(&cluster, slot, 1);
    EXPECT(mqredis_set(mq, key, value, sizeof(value)), "OK");
    redis_cluster_move(&cluster, slot, 2);
    struct mqredis_reply *r = mqredis_get(mq, key);
    ck_assert_msg(r->type == MQREDIS_STRING, "%s", lib_text(r));
    ck_assert_uint_eq(r->len, sizeof(value));
    ck_assert_int_eq(memcmp(r->str, value, sizeof(value)), 0);
    mqredis_free(r);
    redis_cluster_move_begin(&cluster, slot, 2, 0);
    snprintf(key, sizeof(key), "{%s}other", tag);
    EXPECT(mqredis_set(mq, key, value, sizeof(value)), "OK");
    char text[16];
    snprintf(text, sizeof(text), "%d", LARGE);
    EXPECT(mqredis_command(mq, "STRLEN %s", key), text);
    cluster_scene_close();
}
END_TEST

START_TEST(test_blocked_command_moves_along)
{
    if (!start(6))
        return;
    struct mqredis_request *q = mqredis_submit(mq, "BLPOP {%s}q 15", tag);
    mqredis_flush(mq);
    ck_assert(UNTIL(strstr(redis_cluster_ask(&cluster, 0, "INFO clients"),
                           "blocked_clients:1") != NULL));
    redis_cluster_move(&cluster, slot, 1);
    ck_assert(UNTIL(strstr(redis_cluster_ask(&cluster, 1, "INFO clients"),
                           "blocked_clients:1") != NULL));
    EXPECT(mqredis_command(mq, "RPUSH {%s}q x", tag), "1");
    struct mqredis_reply *r = mqredis_wait(q);
    ck_assert_msg(r->type == MQREDIS_ARRAY, "%s", lib_text(r));
    ck_assert_str_eq(lib_text(r->element[1]), "x");
    mqredis_free(r);
    cluster_scene_close();
}
END_TEST

/* ---- under load ---- */

struct mover {
    struct cluster_load load;
    uint64_t dice;
    int owner[REDIS_CLUSTER_SLOTS];
    long moves, keys;
};

static void note_owners(struct mover *m)
{
    for (unsigned i = 0; i < REDIS_CLUSTER_SLOTS; i++)
        m->owner[i] = redis_cluster_first_owner(&cluster, i);
}

/* A slot goes somewhere else: mostly as fast as it can, sometimes with pauses,
 * so that many commands find it half moved. */
static void move_one(struct mover *m)
{
    unsigned s = cluster_load_slot(&m->load, &m->dice);
    int from = m->owner[s];
    int to = (from + 1 + (int)(diff_random(&m->dice) % 2)) % 3;
    bool slow = diff_random(&m->dice) % 3 == 0;
    redis_cluster_move_begin(&cluster, s, from, to);
    for (int n = 1; n > 0; m->keys += n) {
        if (slow)
            support_sleep_ms((int)(diff_random(&m->dice) % 20));
        n = redis_cluster_move_keys(&cluster, s, from, to, slow ? 1 : 10);
    }
    redis_cluster_move_end(&cluster, s, from, to);
    m->owner[s] = to;
    m->moves++;
}

static void move_under_load(const char *options, int replicas, int seconds)
{
    static struct mover m;
    if (!cluster_scene_nodes(replicas, 5000, NULL))
        return;
    e2e_manager_start(&manager, NULL, redis_cluster_uri(&cluster), options);
    m.dice = clock_ns();
    note_owners(&m);
    cluster_load_start(&m.load, WORKERS, manager.channel, 30000);
    ck_assert(cluster_load_goes_on(&m.load));
    uint64_t t0 = clock_ns();
    uint64_t until = clock_deadline((int64_t)seconds * 1000);
    /* On a busy machine until some found a slot half moved. */
    while (clock_ns() < until || (e2e_counter(&manager, COUNTER_ask) == 0 &&
                                  clock_ns() < until + 10 * NS_PER_S)) {
        move_one(&m);
        ck_assert_msg(cluster_load_wrong(&m.load)[0] == '\0', "%s",
                      cluster_load_wrong(&m.load));
    }
    long commands = cluster_load_commands(&m.load);
    double passed = (double)(clock_ns() - t0) / 1e9;
    ck_assert_msg(cluster_load_goes_on(&m.load), "they stand still: %s",
                  e2e_books(&manager));
    cluster_load_judge(&m.load, &cluster);
    scene_balanced();
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_lost), 0);
    e2e_figure(E2E_REDIS,
               "%ld slots moved with %ld keys in %.1f s of %.0f commands/s; "
               "the longest step of a worker took %.0f ms; %llu MOVED, %llu "
               "ASK, %llu TRYAGAIN",
               m.moves, m.keys, passed, (double)commands / passed,
               (double)cluster_load_longest_ns(&m.load) / 1e6,
               (unsigned long long)e2e_counter(&manager, COUNTER_moved),
               (unsigned long long)e2e_counter(&manager, COUNTER_ask),
               (unsigned long long)e2e_counter(&manager, COUNTER_tryagain));
    ck_assert_uint_gt(e2e_counter(&manager, COUNTER_moved), 0);
    ck_assert_uint_gt(e2e_counter(&manager, COUNTER_ask), 0);
    cluster_scene_end();
}

START_TEST(test_slots_move_under_32_workers)
{
    move_under_load(NULL, 3, e2e_long() ? 30 : 8);
}
END_TEST

/* Few in flight: what is held back stays within its bound. */
START_TEST(test_slots_move_with_few_in_flight)
{
    move_under_load("--max-inflight 64", 0, e2e_long() ? 15 : 4);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("cluster_moves");
    TCase *t = tcase_create("moves");
    suite_add_tcase(s, t);
    tcase_add_unchecked_fixture(t, cluster_scene_share, cluster_scene_unshare);
    tcase_add_checked_fixture(t, support_remove_queues, e2e_stop_all);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_moved_is_followed_and_learned);
    tcase_add_test(t, test_ask_is_followed_and_not_learned);
    tcase_add_test(t, test_tryagain_waits_for_the_keys);
    tcase_add_test(t, test_tryagain_ends_at_the_deadline);
    tcase_add_test(t, test_transaction_in_a_moving_slot);
    tcase_add_test(t, test_large_values_are_redirected);
    tcase_add_test(t, test_blocked_command_moves_along);
    t = support_case(s, "load", e2e_long() ? 180 : 90);
    tcase_add_checked_fixture(t, support_remove_queues, e2e_stop_all);
    tcase_add_test(t, test_slots_move_under_32_workers);
    tcase_add_test(t, test_slots_move_with_few_in_flight);
    return s;
}

int main(void)
{
    return support_run(suite());
}
