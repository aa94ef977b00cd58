/* The table of clients: found again, bounded, whole when read. */
#include "ipc/status_clients.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>

#include "tests/support_run.h"

static struct status_client rows[STATUS_CLIENTS];
static struct client_index ix;

static void setup(void)
{
    memset(rows, 0, sizeof(rows));
    memset(&ix, 0, sizeof(ix));
    ix.seed = 0x1234567;
}

static struct client_row row_of(uint64_t client)
{
    const struct status_client *c = status_client_find(rows, &ix, client);
    ck_assert_ptr_nonnull(c);
    struct client_row copy;
    ck_assert(status_client_read(c, &copy));
    return copy;
}

static size_t used_rows(void)
{
    size_t n = 0;
    struct client_row copy;
    for (size_t i = 0; i < STATUS_CLIENTS; i++)
        n += status_client_read(&rows[i], &copy);
    return n;
}

START_TEST(test_counts_what_a_client_sent)
{
    status_client_taken(rows, &ix, 77, 4321, 3, "GET", 3, 250, 1000);
    struct client_row r = row_of(77);
    ck_assert_uint_eq(r.pid, 4321);
    ck_assert_uint_eq(r.sent, 3);
    ck_assert_uint_eq(r.inflight, 3);
    ck_assert_uint_eq(r.rtt_us, 250);
    ck_assert_uint_eq(r.waiting_ns, 1000);
    ck_assert_uint_eq(r.seen_ns, 1000);
    ck_assert_str_eq(r.command, "GET");

    status_client_taken(rows, &ix, 77, 4321, 1, "SET", 3, 0, 2000);
    status_client_done(rows, &ix, 77, 3, 1, 3000);
    r = row_of(77);
    ck_assert_uint_eq(r.sent, 4);
    ck_assert_uint_eq(r.inflight, 1);
    ck_assert_uint_eq(r.failed, 1);
    ck_assert_uint_eq(r.rtt_us, 250);
    ck_assert_uint_eq(r.waiting_ns, 3000);
    ck_assert_str_eq(r.command, "SET");

    status_client_done(rows, &ix, 77, 1, 0, 4000);
    r = row_of(77);
    ck_assert_uint_eq(r.inflight, 0);
    ck_assert_uint_eq(r.waiting_ns, 0);
    ck_assert_uint_eq(used_rows(), 1);
}
END_TEST

START_TEST(test_more_answers_than_commands_do_not_wrap)
{
    status_client_taken(rows, &ix, 5, 1, 1, "PING", 4, 0, 1);
    status_client_done(rows, &ix, 5, 9, 0, 2);
    ck_assert_uint_eq(row_of(5).inflight, 0);
    status_client_done(rows, &ix, 6, 1, 0, 2); /* one without a row */
    ck_assert_uint_eq(used_rows(), 1);
}
END_TEST

START_TEST(test_a_long_command_is_cut)
{
    status_client_taken(rows, &ix, 5, 1, 1, "ABCDEFGHIJKLMNOPQRSTUVWXYZ", 26, 0,
                        1);
    ck_assert_str_eq(row_of(5).command, "ABCDEFGHIJKLMNOP");
}
END_TEST

START_TEST(test_is_bounded_and_keeps_who_waits)
{
    /* One that waits for its answer stays, however many pass by. */
    status_client_taken(rows, &ix, 99, 1, 1, "BLPOP", 5, 0, 1);
    for (uint64_t id = 1000; id < 101000; id++) {
        status_client_taken(rows, &ix, id, 2, 1, "GET", 3, 0, id);
        status_client_done(rows, &ix, id, 1, 0, id);
    }
    ck_assert_uint_eq(row_of(99).inflight, 1);
    ck_assert_uint_eq(used_rows(), STATUS_CLIENTS);
    ck_assert_uint_eq(row_of(100999).sent, 1);
}
END_TEST

START_TEST(test_one_that_leaves_frees_its_row)
{
    status_client_taken(rows, &ix, 7, 1, 1, "GET", 3, 0, 1);
    uint32_t serial = row_of(7).serial;
    status_client_leave(rows, &ix, 7);
    status_client_leave(rows, &ix, 7);
    ck_assert_uint_eq(used_rows(), 0);
    ck_assert_ptr_null(status_client_find(rows, &ix, 7));
    status_client_taken(rows, &ix, 7, 1, 1, "GET", 3, 0, 1);
    ck_assert_uint_ne(row_of(7).serial, serial);
    ck_assert_uint_eq(row_of(7).sent, 1);
}
END_TEST

START_TEST(test_ids_stay_private)
{
    uint64_t id = 0xfeedfacecafebeefULL;
    status_client_taken(rows, &ix, id, 1, 1, "GET", 3, 0, 1);
    const unsigned char *bytes = (const unsigned char *)rows;
    for (size_t i = 0; i + sizeof(id) <= sizeof(rows); i++)
        ck_assert_int_ne(memcmp(bytes + i, &id, sizeof(id)), 0);
}
END_TEST

static _Atomic bool stop;

/* Two clients that are told apart by everything in their rows fight for the
 * same row. */
static void *fight(void *arg)
{
    (void)arg;
    for (uint64_t i = 1; !atomic_load(&stop); i++) {
        uint64_t id = 1 + i % 2;
        status_client_leave(rows, &ix, 3 - id);
        for (unsigned k = 0; k < 3; k++)
            status_client_taken(rows, &ix, id, (uint32_t)id, 1,
                                id == 1 ? "AAAAAAAAAAAAAAAA"
                                        : "BBBBBBBBBBBBBBBB",
                                16, (uint32_t)id, id);
    }
    return NULL;
}

START_TEST(test_a_row_is_read_of_one_client)
{
    pthread_t t;
    atomic_store(&stop, false);
    ck_assert_int_eq(pthread_create(&t, NULL, fight, NULL), 0);
    size_t seen = 0, tries = 0;
    for (; seen < 20000 && tries < 500000000; tries++) {
        struct client_row r;
        size_t i = tries % STATUS_CLIENTS;
        /* A row that was claimed and not filled yet has no pid. */
        if (!status_client_read(&rows[i], &r) || r.pid == 0)
            continue;
        seen++;
        if (r.rtt_us != 0)
            ck_assert_uint_eq(r.rtt_us, r.pid);
        if (r.seen_ns != 0)
            ck_assert_uint_eq(r.seen_ns, r.pid);
        if (r.command[0] != '\0')
            ck_assert_int_eq(r.command[0], r.pid == 1 ? 'A' : 'B');
    }
    atomic_store(&stop, true);
    pthread_join(t, NULL);
    ck_assert_uint_eq(seen, 20000);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("status_clients");
    TCase *t = tcase_create("table");
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_counts_what_a_client_sent);
    tcase_add_test(t, test_more_answers_than_commands_do_not_wrap);
    tcase_add_test(t, test_a_long_command_is_cut);
    tcase_add_test(t, test_is_bounded_and_keeps_who_waits);
    tcase_add_test(t, test_one_that_leaves_frees_its_row);
    tcase_add_test(t, test_ids_stay_private);
    tcase_add_test(t, test_a_row_is_read_of_one_client);
    return support_run(s);
}
