/* A node's row as its connection comes and goes, and nodes without a row. */
#include "manager/node_rows.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support_run.h"

static struct status status;
static struct node_place place;
static struct conn conn;

static void setup(void)
{
    memset(&status, 0, sizeof(status));
    memset(&conn, 0, sizeof(conn));
}

static struct node_row row_of(const struct status_node *row)
{
    struct node_row r;
    ck_assert_int_eq(status_node_read(row, &r), NODE_READ);
    return r;
}

static void look(enum conn_state state, uint32_t attempt, const char *error,
                 uint64_t now)
{
    conn.state = state;
    conn.attempt = attempt;
    strcpy(conn.error.text, error);
    node_place_look(&place, STATUS_NODE_MASTER, 100, &conn, now);
}

START_TEST(test_a_connection_that_comes_and_goes)
{
    ck_assert(node_place_claim(&place, &status, 3, 8, "10.0.0.1", 7001) ==
              ERR_OK);
    const struct status_node *row = &status.nodes[3];
    struct node_row r = row_of(row);
    ck_assert_uint_eq(r.serial, 8);
    ck_assert_str_eq(r.face.address, "10.0.0.1:7001");
    ck_assert_uint_eq(r.face.role, STATUS_NODE_NAMED);
    ck_assert_uint_eq(r.face.state, STATUS_NODE_OFF);
    look(CONN_CONNECTING, 0, "", 10);
    ck_assert_uint_eq(row_of(row).face.state, STATUS_NODE_CONNECTING);
    look(CONN_TLS, 0, "", 20);
    look(CONN_LOGIN, 0, "", 30);
    r = row_of(row);
    ck_assert_uint_eq(r.face.state, STATUS_NODE_LOGIN);
    ck_assert_uint_eq(r.face.since_ns, 20);
    look(CONN_READY, 0, "", 40);
    r = row_of(row);
    ck_assert_uint_eq(r.face.connects, 1);
    ck_assert_uint_eq(r.face.slots, 100);
    ck_assert_uint_eq(r.face.role, STATUS_NODE_MASTER);
    look(CONN_WAITING, 1, "reset", 50);
    look(CONN_WAITING, 2, "refused", 60);
    r = row_of(row);
    ck_assert_uint_eq(r.face.disconnects, 1);
    ck_assert_uint_eq(r.face.attempt, 2);
    ck_assert_uint_eq(r.face.since_ns, 50);
    ck_assert_str_eq(r.face.error, "refused");
    look(CONN_READY, 0, "", 70);
    r = row_of(row);
    ck_assert_uint_eq(r.face.connects, 2);
    ck_assert_str_eq(r.face.error, "refused"); /* remembered */
    node_place_leave(&place);
    struct node_row none;
    ck_assert_int_eq(status_node_read(row, &none), NODE_FREE);
}
END_TEST

/* Nothing is written where nothing has changed. */
START_TEST(test_an_unchanged_face_is_left_alone)
{
    ck_assert(node_place_claim(&place, &status, 0, 1, "h", 1) == ERR_OK);
    look(CONN_READY, 0, "", 10);
    uint32_t changes = atomic_load(&status.nodes[0].begun);
    for (uint64_t i = 0; i < 100; i++)
        look(CONN_READY, 0, "", 20 + i);
    ck_assert_uint_eq(atomic_load(&status.nodes[0].begun), changes);
    node_place_leave(&place);
}
END_TEST

/* Whether nobody ever wrote there. */
static bool untouched(const struct status_node *row)
{
    uint64_t counted = counter_get(&row->sent) + counter_get(&row->lost) +
                       counter_get(&row->sum_ns) + atomic_load(&row->inflight);
    for (size_t i = 0; i < NODE_TIMES_BUCKETS; i++)
        counted += counter_get(&row->times[i]);
    return counted == 0 && atomic_load(&row->begun) == 0;
}

START_TEST(test_nodes_beyond_the_table_count_in_private)
{
    ck_assert(node_place_claim(&place, &status, STATUS_NODES, 1, "h", 1) ==
              ERR_OK);
    look(CONN_READY, 0, "", 10);
    ck_assert(!node_place_busy(&place));
    status_node_sent(place.row, 2);
    ck_assert(node_place_busy(&place));
    status_node_answered(place.row, 5);
    status_node_lost(place.row, 1);
    ck_assert(!node_place_busy(&place));
    for (size_t i = 0; i < STATUS_NODES; i++)
        ck_assert_msg(untouched(&status.nodes[i]), "row %zu", i);
    node_place_leave(&place);
    ck_assert_ptr_null(place.row);
}
END_TEST

START_TEST(test_addresses_of_every_kind)
{
    char host[256];
    ck_assert(node_place_claim(&place, &status, 0, 1, "::1", 65535) == ERR_OK);
    ck_assert_str_eq(row_of(place.row).face.address, "[::1]:65535");
    node_place_leave(&place);
    memset(host, 'h', sizeof(host) - 1);
    host[sizeof(host) - 1] = '\0';
    ck_assert(node_place_claim(&place, &status, 0, 2, host, 65535) == ERR_OK);
    struct node_row r = row_of(place.row);
    size_t len = strlen(r.face.address);
    ck_assert_uint_lt(len, STATUS_NODE_TEXT);
    ck_assert_str_eq(r.face.address + len - 7, "h:65535"); /* the port stays */
    node_place_leave(&place);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("node_rows");
    TCase *t = tcase_create("rows");
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, test_a_connection_that_comes_and_goes);
    tcase_add_test(t, test_an_unchanged_face_is_left_alone);
    tcase_add_test(t, test_nodes_beyond_the_table_count_in_private);
    tcase_add_test(t, test_addresses_of_every_kind);
    return support_run(s);
}
