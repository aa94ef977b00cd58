/* The table of nodes: what the writer's calls leave there, and that a face is
 * read of one moment. */
#include "ipc/status_nodes.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support_run.h"

static struct status_node row;

static void setup(void)
{
    memset(&row, 0, sizeof(row));
}

static struct node_row read_row(void)
{
    struct node_row copy;
    ck_assert_int_eq(status_node_read(&row, &copy), NODE_READ);
    return copy;
}

static const struct status_node_face master = {.role = STATUS_NODE_MASTER,
                                               .state = STATUS_NODE_CONNECTED,
                                               .slots = 5461,
                                               .since_ns = 17,
                                               .connects = 3,
                                               .disconnects = 2,
                                               .address = "10.0.0.1:7001",
                                               .error = "closed by peer"};

START_TEST(test_a_face_is_read_as_written)
{
    struct node_row r;
    ck_assert_int_eq(status_node_read(&row, &r), NODE_FREE);
    status_node_claim(&row, 9, &master);
    r = read_row();
    ck_assert_uint_eq(r.serial, 9);
    ck_assert_uint_eq(r.face.role, STATUS_NODE_MASTER);
    ck_assert_uint_eq(r.face.state, STATUS_NODE_CONNECTED);
    ck_assert_uint_eq(r.face.slots, 5461);
    ck_assert_uint_eq(r.face.since_ns, 17);
    ck_assert_uint_eq(r.face.connects, 3);
    ck_assert_uint_eq(r.face.disconnects, 2);
    ck_assert_str_eq(r.face.address, "10.0.0.1:7001");
    ck_assert_str_eq(r.face.error, "closed by peer");
    struct status_node_face face = master;
    face.state = STATUS_NODE_WAITING;
    face.attempt = 4;
    status_node_show(&row, &face);
    r = read_row();
    ck_assert_uint_eq(r.serial, 9);
    ck_assert_uint_eq(r.face.state, STATUS_NODE_WAITING);
    ck_assert_uint_eq(r.face.attempt, 4);
    status_node_leave(&row);
    ck_assert_int_eq(status_node_read(&row, &r), NODE_FREE);
}
END_TEST

START_TEST(test_a_long_text_is_cut)
{
    struct status_node_face face = master;
    memset(face.error, 'x', sizeof(face.error)); /* not even a NUL */
    status_node_claim(&row, 1, &face);
    struct node_row r = read_row();
    ck_assert_uint_eq(strlen(r.face.error), STATUS_NODE_TEXT - 1);
}
END_TEST

START_TEST(test_commands_add_up)
{
    status_node_claim(&row, 1, &master);
    status_node_sent(&row, 10);
    for (int i = 0; i < 6; i++)
        status_node_answered(&row, 100000);
    status_node_lost(&row, 1);
    status_node_unsent(&row, 2);
    struct node_row r = read_row();
    ck_assert_uint_eq(r.sent, 8);
    ck_assert_uint_eq(r.answered, 6);
    ck_assert_uint_eq(r.lost, 1);
    ck_assert_uint_eq(r.inflight, 1);
    ck_assert_uint_eq(r.sum_ns, 600000);
    ck_assert_uint_eq(r.sent, r.answered + r.lost + r.inflight);
    status_node_ended(&row, 1); /* one with a connection of its own */
    ck_assert_uint_eq(read_row().inflight, 0);
    ck_assert_uint_eq(read_row().answered, 6);
    status_node_redirected(&row, STATUS_NODE_moved);
    status_node_redirected(&row, STATUS_NODE_ask);
    status_node_redirected(&row, STATUS_NODE_ask);
    r = read_row();
    ck_assert_uint_eq(r.redirects[STATUS_NODE_moved], 1);
    ck_assert_uint_eq(r.redirects[STATUS_NODE_ask], 2);
    ck_assert_uint_eq(r.redirects[STATUS_NODE_tryagain], 0);
}
END_TEST

START_TEST(test_more_ends_than_commands_do_not_wrap)
{
    status_node_claim(&row, 1, &master);
    status_node_sent(&row, 1);
    status_node_ended(&row, 5);
    status_node_unsent(&row, 5);
    ck_assert_uint_eq(read_row().inflight, 0);
    ck_assert_uint_eq(read_row().sent, 0);
}
END_TEST

START_TEST(test_a_new_node_begins_at_nothing)
{
    status_node_claim(&row, 1, &master);
    status_node_sent(&row, 7);
    status_node_answered(&row, 5000);
    status_node_redirected(&row, STATUS_NODE_clusterdown);
    status_node_leave(&row);
    status_node_claim(&row, 2, &master);
    struct node_row r = read_row();
    ck_assert_uint_eq(r.serial, 2);
    ck_assert_uint_eq(r.sent + r.answered + r.inflight + r.sum_ns +
                          r.redirects[STATUS_NODE_clusterdown],
                      0);
}
END_TEST

START_TEST(test_quantiles_are_within_an_eighth)
{
    uint64_t counts[NODE_TIMES_BUCKETS] = {0};
    ck_assert_double_eq(node_times_quantile(counts, 0.5), 0);
    for (uint64_t ns = 2000; ns < 16000000000ULL; ns += ns / 7) {
        memset(counts, 0, sizeof(counts));
        counts[node_times_index(ns)] = 1;
        double q = node_times_quantile(counts, 0.99);
        ck_assert_double_le(q, (double)ns * 1.126);
        ck_assert_double_ge(q, (double)ns * 0.874);
    }
    memset(counts, 0, sizeof(counts));
    for (uint64_t us = 1; us <= 1000; us++)
        counts[node_times_index(us * 1000)]++;
    double p50 = node_times_quantile(counts, 0.5);
    double p99 = node_times_quantile(counts, 0.99);
    ck_assert(p50 > 430e3 && p50 < 570e3);
    ck_assert(p99 > 860e3 && p99 < 1120e3);
}
END_TEST

/* Every time has a bucket, and they grow with it. */
START_TEST(test_buckets_are_in_order)
{
    size_t last = 0;
    for (unsigned bit = 0; bit < 64; bit++) {
        size_t i = node_times_index(1ULL << bit);
        ck_assert_uint_lt(i, NODE_TIMES_BUCKETS);
        ck_assert_uint_ge(i, last);
        last = i;
    }
    ck_assert_uint_eq(node_times_index(0), 0);
    ck_assert_uint_eq(node_times_index(UINT64_MAX), NODE_TIMES_BUCKETS - 1);
}
END_TEST

START_TEST(test_names_of_any_number)
{
    ck_assert_str_eq(status_node_role_str(STATUS_NODE_REPLICA), "replica");
    ck_assert_str_eq(status_node_state_str(STATUS_NODE_WAITING), "waiting");
    static const uint32_t odd[] = {0, STATUS_NODE_STATES, 0xffffffff};
    for (size_t i = 0; i < 3; i++) {
        ck_assert_str_eq(status_node_role_str(odd[i]), "?");
        ck_assert_str_eq(status_node_state_str(odd[i]), "?");
    }
}
END_TEST

/* A writer that died within a change leaves a row that nobody takes for whole,
 * the next one mends it. */
START_TEST(test_a_change_that_was_never_ended)
{
    struct node_row r;
    status_node_claim(&row, 1, &master);
    atomic_fetch_add(&row.begun, 1);
    ck_assert(status_node_torn(&row));
    ck_assert_int_eq(status_node_read(&row, &r), NODE_TORN);
    status_node_show(&row, &master);
    ck_assert(!status_node_torn(&row));
    ck_assert_int_eq(status_node_read(&row, &r), NODE_READ);
}
END_TEST

static _Atomic bool stop;

/* Two faces that differ in every field take turns. */
static void *change(void *arg)
{
    struct status_node_face faces[2] = {master, master};
    (void)arg;
    for (uint32_t i = 0; i < 2; i++) {
        faces[i].slots = faces[i].role = i + 1;
        faces[i].since_ns = i + 1;
        memset(faces[i].address, 'a' + (int)i, STATUS_NODE_TEXT - 1);
        memset(faces[i].error, 'a' + (int)i, STATUS_NODE_TEXT - 1);
    }
    for (uint32_t i = 0; !atomic_load(&stop); i++) {
        if (i % 8 == 0)
            status_node_claim(&row, i % 2 + 1, &faces[i % 2]);
        else
            status_node_show(&row, &faces[i % 2]);
        if (i % 64 == 0)
            sched_yield();
    }
    return NULL;
}

static void assert_whole(const struct node_row *r)
{
    int letter = r->face.slots == 1 ? 'a' : 'b';
    ck_assert_uint_eq(r->face.role, r->face.slots);
    ck_assert_uint_eq(r->face.since_ns, r->face.slots);
    for (size_t i = 0; i < STATUS_NODE_TEXT - 1; i++) {
        ck_assert_int_eq(r->face.address[i], letter);
        ck_assert_int_eq(r->face.error[i], letter);
    }
}

START_TEST(test_a_face_is_of_one_moment)
{
    pthread_t t;
    atomic_store(&stop, false);
    ck_assert_int_eq(pthread_create(&t, NULL, change, NULL), 0);
    size_t seen = 0, tries = 0;
    for (; seen < 2000 && tries < 100000000; tries++) {
        struct node_row r;
        if (status_node_read(&row, &r) != NODE_READ)
            continue;
        assert_whole(&r);
        seen++;
    }
    atomic_store(&stop, true);
    pthread_join(t, NULL);
    ck_assert_uint_eq(seen, 2000);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("status_nodes");
    TCase *t = tcase_create("table");
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_a_face_is_read_as_written);
    tcase_add_test(t, test_a_long_text_is_cut);
    tcase_add_test(t, test_commands_add_up);
    tcase_add_test(t, test_more_ends_than_commands_do_not_wrap);
    tcase_add_test(t, test_a_new_node_begins_at_nothing);
    tcase_add_test(t, test_quantiles_are_within_an_eighth);
    tcase_add_test(t, test_buckets_are_in_order);
    tcase_add_test(t, test_names_of_any_number);
    tcase_add_test(t, test_a_change_that_was_never_ended);
    tcase_add_test(t, test_a_face_is_of_one_moment);
    return support_run(s);
}
