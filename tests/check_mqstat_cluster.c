/* The rows of nodes beside a real cluster: what a manager counts there against
 * what was done, and what mqstat says of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cluster_scene.h"
#include "tests/support.h"
#include "tests/support_run.h"

static struct e2e_output ran;

static void mqstat(const char *a, const char *b)
{
    setenv("LC_ALL", "C", 1);
    e2e_run(&ran, (const char *[]){"mqstat", a, b, NULL});
}

#define HAS(what)                                                              \
    ck_assert_msg(strstr(ran.text, what) != NULL, "no '%s' in:\n%s", what,     \
                  ran.text)
#define HAS_NOT(what)                                                          \
    ck_assert_msg(strstr(ran.text, what) == NULL, "'%s' in:\n%s", what,        \
                  ran.text)

static const char *address_of(int node)
{
    static char text[32];
    snprintf(text, sizeof(text), "127.0.0.1:%u", cluster.node[node].port);
    return text;
}

/* The row that the manager keeps of a node; false: it has none. */
static bool find_row(int node, struct node_row *r)
{
    for (size_t i = 0; i < STATUS_NODES; i++)
        if (status_node_read(&manager.status->nodes[i], r) == NODE_READ &&
            strcmp(r->face.address, address_of(node)) == 0)
            return true;
    return false;
}

static struct node_row row_of(int node)
{
    struct node_row r = {0};
    ck_assert_msg(UNTIL(find_row(node, &r)), "no row of %s", address_of(node));
    return r;
}

/* Whether it has answered so many commands, and all that it was sent. */
static bool answered(int node, uint64_t count)
{
    struct node_row r = row_of(node);
    return r.answered == count && r.sent == count && r.inflight == 0;
}

static uint32_t state_of(int node)
{
    struct node_row r;
    return find_row(node, &r) ? r.face.state : 0;
}

START_TEST(test_rows_tell_what_was_done)
{
    if (!cluster_scene_begin(NULL))
        return;
    uint64_t before[3];
    uint32_t slots = 0;
    for (int i = 0; i < 3; i++) {
        ck_assert(UNTIL(state_of(i) == STATUS_NODE_CONNECTED));
        struct node_row r = row_of(i);
        before[i] = r.answered;
        slots += r.face.slots;
        ck_assert_uint_eq(r.face.role, STATUS_NODE_MASTER);
        ck_assert_uint_eq(r.face.connects, 1);
        ck_assert_uint_eq(r.face.disconnects, 0);
    }
    ck_assert_uint_eq(slots, REDIS_CLUSTER_SLOTS);
    for (int i = 0; i < 3; i++)
        for (int n = 0; n < 10 * (i + 1); n++)
            EXPECT(mqredis_command(mq, "SET %s x",
                                   redis_cluster_word(&cluster, i, 0)),
                   "OK");
    for (int i = 0; i < 3; i++) {
        /* It is booked a moment after the answer. */
        ck_assert(UNTIL(answered(i, before[i] + 10 * (uint64_t)(i + 1))));
        struct node_row r = row_of(i);
        ck_assert_uint_gt(r.sum_ns, 0);
        ck_assert_double_gt(node_times_quantile(r.times, 0.5), 0);
    }
    mqstat(manager.channel, NULL);
    HAS("nodes of the cluster");
    for (int i = 0; i < 3; i++)
        HAS(address_of(i));
    HAS_NOT("served by nobody");
    mqstat("--doctor", NULL);
    HAS("3 nodes of a cluster, all slots served");
    cluster_scene_end();
}
END_TEST

/* What waits on a connection of its own is in flight at its node, and its time
 * is not counted among the node's. */
START_TEST(test_blocked_commands_are_in_flight)
{
    if (!cluster_scene_begin(NULL))
        return;
    char key[16];
    strcpy(key, redis_cluster_word(&cluster, 1, 0));
    uint64_t before = row_of(1).answered;
    struct mqredis *other = lib_open(&manager);
    struct mqredis_request *waits = mqredis_submit(other, "BLPOP %s 0", key);
    ck_assert_ptr_nonnull(waits);
    mqredis_flush(other);
    ck_assert(UNTIL(row_of(1).inflight == 1));
    EXPECT(mqredis_command(mq, "RPUSH %s v", key), "1");
    struct mqredis_reply *reply = mqredis_wait(waits);
    ck_assert_ptr_nonnull(reply);
    mqredis_free(reply);
    ck_assert(UNTIL(row_of(1).inflight == 0));
    ck_assert(UNTIL(row_of(1).answered == before + 1)); /* RPUSH */
    mqredis_close(other);
    cluster_scene_end();
}
END_TEST

START_TEST(test_redirections_are_counted_where_they_come_from)
{
    if (!cluster_scene_begin(NULL))
        return;
    char key[16];
    strcpy(key, redis_cluster_word(&cluster, 0, 0));
    unsigned slot = redis_cluster_slot(key);
    uint32_t slots = row_of(1).face.slots;
    redis_cluster_move_begin(&cluster, slot, 0, 1);
    EXPECT(mqredis_command(mq, "SET %s a", key), "OK"); /* by ASK */
    ck_assert(UNTIL(row_of(0).redirects[STATUS_NODE_ask] == 1));
    redis_cluster_move_end(&cluster, slot, 0, 1);
    EXPECT(mqredis_command(mq, "GET %s", key), "a");
    ck_assert_uint_le(row_of(0).redirects[STATUS_NODE_moved], 1);
    ck_assert_uint_eq(row_of(1).redirects[STATUS_NODE_moved], 0);
    ck_assert(UNTIL(row_of(1).face.slots == slots + 1));
    ck_assert(UNTIL(answered(0, row_of(0).sent)));
    cluster_scene_end();
}
END_TEST

START_TEST(test_a_node_that_is_down_is_told)
{
    char line[64];
    if (!cluster_scene_begin("--reconnect-max 200"))
        return;
    redis_cluster_kill(&cluster, 2);
    ck_assert(UNTIL(state_of(2) != STATUS_NODE_CONNECTED &&
                    row_of(2).face.attempt > 1));
    ck_assert_uint_eq(row_of(2).face.disconnects, 1);
    ck_assert(UNTIL(row_of(2).face.error[0] != '\0'));
    mqstat("--doctor", NULL);
    ck_assert_int_eq(ran.status, 1);
    snprintf(line, sizeof(line), "node %s (master, ", address_of(2));
    HAS(line);
    ck_assert_msg(UNTIL((mqstat(manager.channel, NULL),
                         strstr(ran.text, "refused") != NULL)),
                  "%s", ran.text);
    redis_cluster_restart(&cluster, 2);
    ck_assert(UNTIL(state_of(2) == STATUS_NODE_CONNECTED));
    struct node_row r = row_of(2);
    ck_assert_uint_eq(r.face.connects, 2);
    ck_assert_uint_eq(r.face.attempt, 0);
    cluster_scene_end();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("mqstat_cluster");
    TCase *t = tcase_create("cluster");
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, support_scratch_setup,
                              support_scratch_teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, test_rows_tell_what_was_done);
    tcase_add_test(t, test_blocked_commands_are_in_flight);
    tcase_add_test(t, test_redirections_are_counted_where_they_come_from);
    tcase_add_test(t, test_a_node_that_is_down_is_told);
    return support_run(s);
}
