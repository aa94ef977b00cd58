/* What mqstat shows of a cluster's nodes, from rows that are written here. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "ipc/status.h"
#include "tests/json.h"
#include "tests/mqstat.h"
#include "tests/support.h"
#include "tests/support_run.h"

static void put_node(struct fake *f, uint32_t i, uint32_t role, uint32_t state,
                     uint32_t slots, const char *address, const char *error)
{
    struct status_node_face face = {.role = role,
                                    .state = state,
                                    .slots = slots,
                                    .attempt =
                                        state == STATUS_NODE_CONNECTED ? 0 : 7,
                                    .since_ns = clock_ns(),
                                    .connects = 3,
                                    .disconnects = 2};
    snprintf(face.address, sizeof(face.address), "%s", address);
    snprintf(face.error, sizeof(face.error), "%s", error);
    status_node_claim(&f->status->nodes[i], i + 1, &face);
}

/* Two masters and a replica; all well. */
static void put_cluster(struct fake *f)
{
    put_node(f, 0, STATUS_NODE_MASTER, STATUS_NODE_CONNECTED, 8192,
             "127.0.0.1:7001", "");
    put_node(f, 1, STATUS_NODE_MASTER, STATUS_NODE_CONNECTED, 8192,
             "127.0.0.1:7002", "");
    put_node(f, 2, STATUS_NODE_REPLICA, STATUS_NODE_CONNECTED, 0, "[::1]:7003",
             "");
    status_gauge_set(f->status, GAUGE_nodes_known, 3);
    struct status_node *row = &f->status->nodes[0];
    status_node_sent(row, 5004);
    for (int i = 0; i < 5000; i++)
        status_node_answered(row, 200000);
    for (int i = 0; i < 17; i++)
        status_node_redirected(row, STATUS_NODE_moved);
    status_node_redirected(row, STATUS_NODE_ask);
}

/* The line of the output that has the text, as a string; "" if there is none.
 */
static const char *line_with(const char *text)
{
    static char line[1024];
    const char *at = strstr(ran.out, text);
    line[0] = '\0';
    if (at == NULL)
        return line;
    while (at > ran.out && at[-1] != '\n')
        at--;
    size_t n = strcspn(at, "\n");
    snprintf(line, sizeof(line), "%.*s", (int)n, at);
    return line;
}

#define LINE_HAS(which, text)                                                  \
    ck_assert_msg(strstr(line_with(which), text) != NULL,                      \
                  "no '%s' beside '%s' in:\n%s", text, which, ran.out)

START_TEST(test_a_line_for_each_node)
{
    struct fake f;
    fake_start(&f, support_name(), 4);
    put_cluster(&f);
    mqstat("%s", f.name);
    ENDED(0);
    HAS("nodes of the cluster");
    LINE_HAS("127.0.0.1:7001", "master");
    LINE_HAS("127.0.0.1:7001", "connected");
    LINE_HAS("127.0.0.1:7001", "8192");
    LINE_HAS("127.0.0.1:7001", "5.00k"); /* sent */
    LINE_HAS("127.0.0.1:7001", " 4 ");   /* in flight */
    LINE_HAS("127.0.0.1:7001", "  18 "); /* redirections, 17 of them MOVED */
    LINE_HAS("127.0.0.1:7001", "  17 ");
    LINE_HAS("[::1]:7003", "replica");
    HAS_NOT("without a row");
    HAS_NOT("served by nobody");
    fake_die(&f);
}
END_TEST

START_TEST(test_those_in_trouble_come_first)
{
    struct fake f;
    fake_start(&f, support_name(), 4);
    put_cluster(&f);
    put_node(&f, 9, STATUS_NODE_MASTER, STATUS_NODE_WAITING, 100,
             "127.0.0.1:7009", "Connection refused");
    status_gauge_set(f.status, GAUGE_nodes_known, 70);
    status_gauge_set(f.status, GAUGE_slots_unserved, 12);
    mqstat("%s", f.name);
    ENDED(0);
    LINE_HAS("127.0.0.1:7009", "waiting");
    LINE_HAS("127.0.0.1:7009", "Connection refused");
    ck_assert(strstr(ran.out, "127.0.0.1:7009") <
              strstr(ran.out, "127.0.0.1:7001"));
    HAS("and 66 without a row");
    HAS("12 slots are served by nobody");
    fake_die(&f);
}
END_TEST

START_TEST(test_nothing_of_it_without_a_cluster)
{
    struct fake f;
    fake_start(&f, support_name(), 4);
    mqstat("%s", f.name);
    ENDED(0);
    HAS_NOT("nodes of the cluster");
    mqstat("--json %s", f.name);
    HAS("\"nodes\": []");
    mqstat("--doctor");
    HAS_NOT("cluster");
    fake_die(&f);
}
END_TEST

/* ---- JSON ---- */

static double number_at(const struct json_value *v, const char *path)
{
    const struct json_value *n = json_at(v, path);
    ck_assert_msg(n != NULL, "no %s in:\n%s", path, ran.out);
    return n->number;
}

START_TEST(test_json_has_them)
{
    struct fake f;
    fake_start(&f, support_name(), 4);
    put_cluster(&f);
    mqstat("--json %s", f.name);
    ENDED(0);
    struct json_value *v = mqstat_json();
#define NODE "channels.0.nodes.0."
    ck_assert_double_eq(number_at(v, NODE "slots"), 8192);
    ck_assert_double_eq(number_at(v, NODE "sent"), 5004);
    ck_assert_double_eq(number_at(v, NODE "in_flight"), 4);
    ck_assert_double_eq(number_at(v, NODE "moved"), 17);
    ck_assert_double_eq(number_at(v, NODE "ask"), 1);
    ck_assert_double_eq(number_at(v, NODE "disconnects"), 2);
    ck_assert_double_eq(number_at(v, NODE "times.count"), 5000);
    ck_assert_double_eq(number_at(v, NODE "times.mean_us"), 200);
    double p99 = number_at(v, NODE "times.p99_us");
    ck_assert_msg(p99 > 174 && p99 < 226, "%g", p99);
    json_free(v);
    fake_die(&f);
}
END_TEST

/* ---- Prometheus ---- */

START_TEST(test_prometheus_has_them)
{
    struct fake f;
    fake_start(&f, "shop", 4);
    put_cluster(&f);
    /* The same address twice would make the whole page invalid. */
    put_node(&f, 5, STATUS_NODE_MASTER, STATUS_NODE_CONNECTED, 1,
             "127.0.0.1:7001", "");
    mqstat("--prometheus");
    ENDED(0);
#define LABELS(address, role)                                                  \
    "{channel=\"shop\",node=\"" address "\",role=\"" role "\"} "
    HAS("mqredis_node_up" LABELS("127.0.0.1:7002", "master") "1\n");
    HAS("mqredis_node_slots" LABELS("127.0.0.1:7002", "master") "8192\n");
    HAS("mqredis_node_sent_total" LABELS("127.0.0.1:7001", "master") "5004\n");
    HAS("mqredis_node_moved_total" LABELS("127.0.0.1:7001", "master") "17\n");
    HAS("mqredis_node_inflight" LABELS("[::1]:7003", "replica") "0\n");
    const char *series = "mqredis_node_up" LABELS("127.0.0.1:7001", "master");
    const char *first = strstr(ran.out, series);
    ck_assert_ptr_nonnull(first);
    ck_assert_ptr_null(strstr(first + 1, series));
    fake_die(&f);
}
END_TEST

/* What a manager that was killed left says nothing of now. */
START_TEST(test_rows_of_a_dead_manager)
{
    struct fake f;
    fake_start(&f, "shop", 4);
    put_cluster(&f);
    fake_die(&f);
    mqstat("shop");
    HAS("nodes of the cluster, as its manager left them");
    mqstat("--prometheus");
    HAS("mqredis_node_up" LABELS("127.0.0.1:7002", "master") "0\n");
    mqstat("--doctor");
    HAS_NOT("nodes of a cluster");
}
END_TEST

/* ---- the doctor ---- */

START_TEST(test_the_doctor_looks_at_them)
{
    struct fake f;
    fake_start(&f, "shop", 4);
    put_cluster(&f);
    mqstat("--doctor");
    HAS("3 nodes of a cluster, all slots served");
    HAS_NOT("127.0.0.1:7001");

    put_node(&f, 3, STATUS_NODE_MASTER, STATUS_NODE_WAITING, 100,
             "127.0.0.1:7009", "Connection refused");
    put_node(&f, 4, STATUS_NODE_NAMED, STATUS_NODE_WAITING, 0, "127.0.0.1:7010",
             "");
    status_gauge_set(f.status, GAUGE_slots_unserved, 12);
    for (int i = 0; i < 300; i++)
        status_node_redirected(&f.status->nodes[0], STATUS_NODE_ask);
    mqstat("--doctor");
    ENDED(1);
    HAS("12 slots of the cluster are served by nobody");
    HAS("node 127.0.0.1:7009 (master, 100 slots) is waiting: Connection "
        "refused");
    HAS("node 127.0.0.1:7001 sent 318 of 5004 commands elsewhere");
    HAS_NOT("127.0.0.1:7010"); /* nobody needs it */
    HAS_NOT("all slots served");
    fake_die(&f);
}
END_TEST

/* ---- hostile rows ---- */

START_TEST(test_hostile_rows_are_made_harmless)
{
    static const char *const modes[] = {"default", "--json", "--prometheus",
                                        "--doctor", "--json --doctor"};
    struct fake f;
    fake_start(&f, "default", 4);
    for (uint32_t i = 0; i < STATUS_NODES; i++) {
        put_node(&f, i, i * 0x1000001, ~i, UINT32_MAX,
                 "\033]0;owned\a\"}\n\\:70", "\033[2J\xff\"\\\n");
        struct status_node *row = &f.status->nodes[i];
        atomic_store(&row->sent, UINT64_MAX);
        atomic_store(&row->sum_ns, UINT64_MAX);
        atomic_store(&row->since_ns, UINT64_MAX);
        for (size_t t = 0; t < NODE_TIMES_BUCKETS; t++)
            atomic_store(&row->times[t], UINT64_MAX);
        for (size_t k = 0; k < STATUS_NODE_REDIRECT_COUNT; k++)
            atomic_store(&row->redirects[k], UINT64_MAX / 2);
    }
    status_gauge_set(f.status, GAUGE_nodes_known, UINT64_MAX);
    status_gauge_set(f.status, GAUGE_slots_unserved, UINT64_MAX);
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        mqstat("%s", modes[i]);
        ck_assert_msg(ran.code == 0 || ran.code == 1, "%s: %d\n%s", modes[i],
                      ran.code, ran.err);
        assert_harmless();
        if (strncmp(modes[i], "--json", 6) == 0)
            json_free(mqstat_json());
    }
    mqstat("default");
    HAS("\\x1b]0;owned\\x07");
    mqstat("--prometheus");
    HAS("node=\"\\\\x1b]0;owned\\\\x07\\\"}\\\\x0a\\\\:70\"");
    fake_die(&f);
}
END_TEST

/* A row within a change that never ends is left out, and nothing waits for it.
 */
START_TEST(test_a_torn_row_is_left_out)
{
    struct fake f;
    fake_start(&f, support_name(), 4);
    put_cluster(&f);
    atomic_fetch_add(&f.status->nodes[1].begun, 1);
    mqstat("%s", f.name);
    ENDED(0);
    HAS("127.0.0.1:7001");
    HAS_NOT("127.0.0.1:7002");
    HAS("and 1 without a row");
    fake_die(&f);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("mqstat_nodes");
    TCase *t = tcase_create("nodes");
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, support_scratch_setup,
                              support_scratch_teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, test_a_line_for_each_node);
    tcase_add_test(t, test_those_in_trouble_come_first);
    tcase_add_test(t, test_nothing_of_it_without_a_cluster);
    tcase_add_test(t, test_json_has_them);
    tcase_add_test(t, test_prometheus_has_them);
    tcase_add_test(t, test_rows_of_a_dead_manager);
    tcase_add_test(t, test_the_doctor_looks_at_them);
    tcase_add_test(t, test_hostile_rows_are_made_harmless);
    tcase_add_test(t, test_a_torn_row_is_left_out);
    return support_run(s);
}
