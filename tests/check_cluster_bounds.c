/* What a cluster in trouble can cost: how often a command is sent on, how many
 * commands are held back for a dead master, how often the nodes are asked for
 * the map, and that a manager can be replaced in the middle of all that. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ipc/clock.h"
#include "tests/cluster_load.h"
#include "tests/cluster_scene.h"
#include "tests/support.h"
#include "tests/support_run.h"

/* ---- hops ---- */

/* Each of two nodes believes the other to be the slot's owner. */
static void make_circle(unsigned slot)
{
    redis_cluster_ask(&cluster, 1, "CLUSTER SETSLOT %u NODE %s", slot,
                      cluster.node[0].id);
    redis_cluster_ask(&cluster, 0, "CLUSTER SETSLOT %u NODE %s", slot,
                      cluster.node[1].id);
}

START_TEST(test_circle_of_redirections_ends)
{
    if (!cluster_scene_begin(NULL))
        return;
    const char *word = redis_cluster_word(&cluster, 0, 0);
    EXPECT(mqredis_command(mq, "PING"), "PONG");
    make_circle(redis_cluster_slot(word));
    mqredis_set_timeout(mq, 3000);
    uint64_t cpu = support_cpu_ns(manager.pid);
    struct mqredis_reply *r = mqredis_command(mq, "INCR %s", word);
    bool told = r->type == MQREDIS_ERROR && strncmp(r->str, "MOVED ", 6) == 0;
    ck_assert_msg(told || r->status == MQREDIS_EXPIRED ||
                      r->status == MQREDIS_UNAVAILABLE,
                  "%s", lib_text(r));
    mqredis_free(r);
    uint64_t moved = e2e_counter(&manager, COUNTER_moved);
    e2e_figure(E2E_REDIS, "a circle: %llu times MOVED, %.1f ms of CPU",
               (unsigned long long)moved,
               (double)(support_cpu_ns(manager.pid) - cpu) / 1e6);
    ck_assert_uint_gt(moved, 1);
    ck_assert_uint_le(moved, 64);
    /* Nobody else is bothered, and it is over when the nodes agree. */
    EXPECT(mqredis_command(mq, "SET %s 1", redis_cluster_word(&cluster, 0, 1)),
           "OK");
    redis_cluster_ask(&cluster, 1, "CLUSTER SETSLOT %u NODE %s",
                      redis_cluster_slot(word), cluster.node[1].id);
    mqredis_set_timeout(mq, SCENE_TIMEOUT_MS);
    EXPECT(mqredis_command(mq, "INCR %s", word), "1");
    cluster_scene_end();
}
END_TEST

/* ---- what is held for a dead master ---- */

#define IN_FLIGHT 64
#define SENT 200

START_TEST(test_held_commands_are_bounded)
{
    static struct mqredis_request *q[SENT];
    if (!cluster_scene_begin("--when-down wait --max-inflight 64"))
        return;
    const char *dead = redis_cluster_word(&cluster, 0, 0);
    const char *alive = redis_cluster_word(&cluster, 1, 0);
    mqredis_set_window(mq, 2 * SENT);
    redis_cluster_kill(&cluster, 0);
    mqredis_set_timeout(mq, 3000);
    for (int i = 0; i < SENT; i++)
        q[i] = mqredis_submit(mq, "INCR %s", dead);
    mqredis_flush(mq);
    struct mqredis *other = lib_open(&manager);
    uint64_t slowest = 0;
    for (int i = 1; i <= 100; i++) {
        char text[16];
        snprintf(text, sizeof(text), "%d", i);
        uint64_t t0 = clock_ns();
        EXPECT(mqredis_command(other, "INCR %s", alive), text);
        if (clock_ns() - t0 > slowest)
            slowest = clock_ns() - t0;
    }
    int ends[MQREDIS_SYSTEM + 1] = {0};
    for (int i = 0; i < SENT; i++)
        ends[lib_status(mqredis_wait(q[i]))]++;
    /* The library waits little longer than the deadline to be told: then they
     * are lost for it, but not in the manager's books. */
    ck_assert(UNTIL(e2e_balanced(&manager)));
    int held = ends[MQREDIS_EXPIRED] + ends[MQREDIS_LOST];
    e2e_figure(
        E2E_REDIS,
        "%d commands for a dead master, 64 in flight at most: %d held "
        "to their deadlines, %d unavailable at once; the others' slowest "
        "took %.1f ms",
        SENT, held, ends[MQREDIS_UNAVAILABLE], (double)slowest / 1e6);
    ck_assert_int_eq(ends[MQREDIS_OK], 0);
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_lost), 0);
    ck_assert_int_le(held, IN_FLIGHT);
    ck_assert_int_gt(held, 0);
    ck_assert_int_gt(ends[MQREDIS_UNAVAILABLE], 0);
    mqredis_close(other);
    cluster_scene_end();
}
END_TEST

/* Who asks and dies leaves nothing behind. */
static void ask_and_wait(void *arg)
{
    (void)arg;
    struct mqredis *own = mqredis_open(manager.channel, NULL);
    CHILD_REQUIRE(own != NULL);
    mqredis_set_timeout(own, 60000);
    mqredis_free(
        mqredis_command(own, "INCR %s", redis_cluster_word(&cluster, 0, 0)));
}

START_TEST(test_held_commands_of_the_dead_are_dropped)
{
    if (!cluster_scene_begin("--when-down wait"))
        return;
    redis_cluster_kill(&cluster, 0);
    pid_t pid[8];
    for (int i = 0; i < 8; i++)
        pid[i] = support_fork(ask_and_wait, NULL);
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_taken) >= 8));
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_inflight) == 8));
    for (int i = 0; i < 8; i++)
        support_kill(pid[i]);
    redis_cluster_restart(&cluster, 0);
    ck_assert_msg(UNTIL(e2e_gauge(&manager, GAUGE_inflight) == 0), "%s",
                  e2e_books(&manager));
    /* Once the node is a master again it shows that none was executed. */
    struct mqredis_reply *r = NULL;
    ck_assert(UNTIL((mqredis_free(r),
                     r = mqredis_command(mq, "EXISTS %s",
                                         redis_cluster_word(&cluster, 0, 0)),
                     r->type == MQREDIS_INTEGER)));
    ck_assert_int_eq(r->integer, 0);
    mqredis_free(r);
    cluster_scene_end();
}
END_TEST

/* ---- the map ---- */

/* How often all nodes together were asked for it. */
static long maps_asked(void)
{
    static const char *const names[] = {"cmdstat_cluster|slots:calls=",
                                        "cmdstat_cluster|shards:calls="};
    long sum = 0;
    for (int i = 0; i < 3; i++) {
        const char *text = redis_cluster_ask(&cluster, i, "INFO commandstats");
        for (size_t j = 0; j < 2; j++) {
            const char *at = strstr(text, names[j]);
            sum += at != NULL ? strtol(at + strlen(names[j]), NULL, 10) : 0;
        }
    }
    return sum;
}

START_TEST(test_map_is_not_asked_for_each_moved)
{
    enum { MANY = 150 };
    if (!cluster_scene_begin(NULL))
        return;
    for (unsigned i = 0; i < MANY; i++)
        EXPECT(mqredis_command(mq, "SET %s %d",
                               redis_cluster_word(&cluster, 0, i), (int)i),
               "OK");
    for (unsigned i = 0; i < MANY; i++)
        redis_cluster_move(
            &cluster, redis_cluster_slot(redis_cluster_word(&cluster, 0, i)),
            1 + (int)(i % 2));
    uint64_t t0 = clock_ns();
    long before = maps_asked();
    for (unsigned i = 0; i < MANY; i++) {
        char text[16];
        snprintf(text, sizeof(text), "%u", i);
        EXPECT(
            mqredis_command(mq, "GET %s", redis_cluster_word(&cluster, 0, i)),
            text);
    }
    long asked = maps_asked() - before;
    double passed = (double)(clock_ns() - t0) / 1e9;
    e2e_figure(
        E2E_REDIS,
        "%d slots moved: %llu MOVED, the map asked for %ld times in %.2f "
        "s",
        MANY, (unsigned long long)e2e_counter(&manager, COUNTER_moved), asked,
        passed);
    ck_assert_int_le(asked, 10 + (int)(10 * passed));
    /* And at rest hardly ever. */
    before = maps_asked();
    support_sleep_ms(1500);
    ck_assert_int_le(maps_asked() - before, 5);
    cluster_scene_end();
}
END_TEST

/* ---- joined replies that nobody reads ---- */

#define JOINED (8 << 20) /* of two values */

/* Asks for two values of two nodes, and reads nothing. */
static void ask_for_both(struct e2e_client *c, struct e2e_call *k)
{
    char payload[128], text[64];
    uint32_t n;
    snprintf(text, sizeof(text), "MGET %s %s",
             redis_cluster_word(&cluster, 0, 0),
             redis_cluster_word(&cluster, 1, 0));
    size_t len = e2e_commands(payload, sizeof(payload), &n, text);
    ck_assert(e2e_client_open(c, manager.channel) == ERR_OK);
    ck_assert(e2e_begin(c, k, n, payload, len, 60000) == ERR_OK);
    ck_assert(e2e_send(c, k) == ERR_OK);
}

static bool begin_with_two_values(const char *options)
{
    if (!cluster_scene_begin(options))
        return false;
    char *value = calloc(1, JOINED);
    ck_assert_ptr_nonnull(value);
    for (int i = 0; i < 2; i++)
        EXPECT(
            mqredis_set(mq, redis_cluster_word(&cluster, i, 0), value, JOINED),
            "OK");
    free(value);
    return true;
}

/* Once it is cut off, nothing of it waits for its reader any more. */
START_TEST(test_joined_reply_is_cut_off)
{
    struct e2e_client deaf;
    struct e2e_call k = {0};
    if (!begin_with_two_values("--stall-timeout 200 --reader-backlog 1m"))
        return;
    ask_for_both(&deaf, &k);
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_too_big) == 1));
    scene_balanced();
    ck_assert_int_eq(e2e_finish(&deaf, &k), E2E_REFUSED);
    ck_assert_uint_eq(k.ended[REPLY_TOO_BIG], 1);
    e2e_forget(&deaf, &k);
    e2e_client_close(&deaf);
    cluster_scene_end();
}
END_TEST

/* However patient it is: of replies that wait there are no more than two of the
 * greatest, and who comes then is not waited for. */
START_TEST(test_joined_replies_that_wait_are_bounded)
{
    struct e2e_client deaf[3];
    static struct e2e_call k[3];
    if (!begin_with_two_values("--stall-timeout 60000 --max-reply 20m"))
        return;
    for (int i = 0; i < 3; i++)
        ask_for_both(&deaf[i], &k[i]);
    ck_assert(UNTIL(e2e_counter(&manager, COUNTER_too_big) == 1));
    int cut = 0;
    for (int i = 0; i < 3; i++) {
        enum e2e_end end = e2e_finish(&deaf[i], &k[i]);
        ck_assert_msg(end == E2E_OK ? k[i].len > 2 * JOINED
                                    : end == E2E_REFUSED,
                      "%d: %d, %zu bytes", i, (int)end, k[i].len);
        cut += end == E2E_REFUSED;
        e2e_forget(&deaf[i], &k[i]);
        e2e_client_close(&deaf[i]);
    }
    ck_assert_int_eq(cut, 1);
    cluster_scene_end();
}
END_TEST

/* ---- replacing the manager ---- */

START_TEST(test_takeovers_under_load)
{
    static struct cluster_load load;
    struct e2e_manager next;
    if (!cluster_scene_begin(NULL))
        return;
    cluster_load_start(&load, 4, manager.channel, SCENE_TIMEOUT_MS);
    for (int i = 0; i < 3; i++) {
        ck_assert(cluster_load_goes_on(&load));
        unsigned slot = redis_cluster_slot(load.worker[i].tags[0]);
        redis_cluster_move(&cluster, slot,
                           (redis_cluster_first_owner(&cluster, slot) + 1) % 3);
        e2e_manager_start(&next, manager.channel, redis_cluster_uri(&cluster),
                          "--takeover");
        ck_assert_int_eq(support_join(manager.pid), 0);
        manager = next;
    }
    ck_assert(cluster_load_goes_on(&load));
    ck_assert_msg(cluster_load_wrong(&load)[0] == '\0', "%s",
                  cluster_load_wrong(&load));
    cluster_load_judge(&load, &cluster);
    cluster_scene_end();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("cluster_bounds");
    TCase *t = support_case(s, "bounds", 60);
    tcase_add_checked_fixture(t, support_remove_queues, e2e_stop_all);
    tcase_add_test(t, test_circle_of_redirections_ends);
    tcase_add_test(t, test_held_commands_are_bounded);
    tcase_add_test(t, test_held_commands_of_the_dead_are_dropped);
    tcase_add_test(t, test_map_is_not_asked_for_each_moved);
    tcase_add_test(t, test_joined_reply_is_cut_off);
    tcase_add_test(t, test_joined_replies_that_wait_are_bounded);
    tcase_add_test(t, test_takeovers_under_load);
    return s;
}

int main(void)
{
    return support_run(suite());
}
