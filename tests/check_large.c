/* Values of every size, both ways, byte for byte: one worker and many, single
 * commands, batches, transactions and many requests at once. */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "ipc/message.h"
#include "tests/e2e_client.h"
#include "tests/large.h"
#include "tests/support.h"
#include "tests/support_run.h"

/* Sanitized, memory for 100 MB takes longer than a reader may lag. */
#define BIG ((SUPPORT_SANITIZED ? 20 : 100) * LARGE_MIB)
/* What the manager may take of memory while values of any size pass. */
#define RSS_MAX_KB (64 * 1024)

/* Around every limit that there is on the way: one message, an argument that
 * is moved beside it, one that is not copied, a pipe. */
static const size_t sizes[] = {0,
                               1,
                               2,
                               100,
                               1023,
                               1024,
                               1025,
                               4095,
                               4096,
                               4097,
                               16000,
                               16383,
                               16384,
                               16385,
                               65535,
                               65536,
                               65537,
                               131072,
                               200000,
                               262143,
                               262144,
                               262145,
                               LARGE_MIB - 1,
                               LARGE_MIB,
                               LARGE_MIB + 1,
                               5 * LARGE_MIB + 3};
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

/* Sanitized memory is another thing. */
static void check_memory(long rss_kb)
{
    ck_assert_int_gt(rss_kb, 0);
    if (!SUPPORT_SANITIZED)
        ck_assert_int_lt(rss_kb, RSS_MAX_KB);
}

/* ---- one worker ---- */

static void try_all_sizes(struct mqredis *mq)
{
    for (size_t i = 0; i < SIZES; i++)
        ck_assert_msg(large_round(mq, "k", sizes[i], i + 1), "%zu bytes",
                      sizes[i]);
    /* Down again: what a kept file holds of before is never sent. */
    for (size_t i = SIZES; i-- > 0;)
        ck_assert_msg(large_round(mq, "k", sizes[i], i + 100), "%zu bytes",
                      sizes[i]);
}

START_TEST(test_every_size_goes_both_ways)
{
    e2e_start(&redis, &manager, _i, NULL);
    struct mqredis *mq = large_open(&manager);
    try_all_sizes(mq);
    ck_assert(large_round(mq, "big", BIG, 7));
    ck_assert_int_eq(e2e_redis_integer(&redis, "STRLEN big"), (int)BIG);
    check_memory(large_rss_kb(manager.pid));
    mqredis_close(mq);
    ck_assert_msg(UNTIL(e2e_balanced(&manager)), "%s", e2e_books(&manager));
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_payload_bytes) == 0));
    ck_assert(UNTIL(e2e_gauge(&manager, GAUGE_backlog_bytes) == 0));
    ck_assert_int_eq(large_leftovers(&manager), 0);
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* Every length of a whole message from a few bytes below the queue's to a few
 * above. */
START_TEST(test_message_size_to_the_byte)
{
    e2e_start(&redis, &manager, _i, NULL);
    struct mqredis *mq = large_open(&manager);
    for (size_t len = 1024 - 120; len <= 1024 + 20; len++)
        ck_assert_msg(large_round(mq, "k", len, len), "%zu bytes", len);
    mqredis_close(mq);
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

static void try_tcp(int kind, bool tls)
{
    char uri[128], options[256];
    if (!large_tcp(&redis, kind, tls, uri, options)) {
        support_skip(tls ? "TLS" : "TCP", "no such server here");
        return;
    }
    e2e_manager_start(&manager, NULL, uri, options);
    struct mqredis *mq = large_open(&manager);
    try_all_sizes(mq);
    ck_assert(large_round(mq, "big", BIG, 9));
    check_memory(large_rss_kb(manager.pid));
    mqredis_close(mq);
    ck_assert_msg(UNTIL(e2e_balanced(&manager)), "%s", e2e_books(&manager));
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}

START_TEST(test_every_size_by_tcp)
{
    try_tcp(_i, false);
}
END_TEST

START_TEST(test_every_size_by_tls)
{
    try_tcp(E2E_REDIS, true);
}
END_TEST

START_TEST(test_one_connection_does_for_all)
{
    e2e_start(&redis, &manager, _i, "--bulk-connections 0");
    struct mqredis *mq = large_open(&manager);
    try_all_sizes(mq);
    mqredis_close(mq);
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* ---- many workers ---- */

#define WORKERS 16

struct crowd {
    struct e2e_manager *m;
    int number;
    size_t big;
    int rounds;
};

static void be_one_of_many(void *arg)
{
    struct crowd *c = arg;
    char key[32];
    struct mqredis *mq = large_open(c->m);
    snprintf(key, sizeof(key), "k%d", c->number);
    for (int round = 0; round < c->rounds; round++) {
        for (size_t i = 0; i < SIZES; i++) {
            uint64_t seed = (uint64_t)(c->number * 1000 + round * 100) + i + 1;
            CHILD_REQUIRE(large_round(mq, key, sizes[i], seed));
        }
    }
    CHILD_REQUIRE(large_round(mq, key, c->big, (uint64_t)c->number + 5));
    mqredis_free(mqredis_command(mq, "DEL %s", key));
    mqredis_close(mq);
}

/* Waits for all of them, looking at the manager's memory meanwhile. */
static long watch_crowd(const pid_t *pids, int count, pid_t watched)
{
    long most = 0;
    for (int left = count, i = 0; left > 0;) {
        int status;
        long now = large_rss_kb(watched);
        most = now > most ? now : most;
        pid_t pid = waitpid(pids[i], &status, WNOHANG);
        if (pid == 0) {
            support_sleep_ms(2);
            continue;
        }
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0,
                      "worker %d: status %#x", i, (unsigned)status);
        left--;
        i++;
    }
    return most;
}

START_TEST(test_sixteen_workers_at_once)
{
    /* 100 MB from each takes 7 GB of this machine: asked for by name. */
    size_t big = e2e_long() ? BIG : 8 * LARGE_MIB;
    struct crowd c[WORKERS];
    pid_t pids[WORKERS];
    e2e_start(&redis, &manager, _i, NULL);
    for (int i = 0; i < WORKERS; i++) {
        c[i] = (struct crowd){&manager, i, big,
                              SUPPORT_SANITIZED ? 1
                              : e2e_long()      ? 5
                                                : 2};
        pids[i] = support_fork(be_one_of_many, &c[i]);
    }
    long most = watch_crowd(pids, WORKERS, manager.pid);
    e2e_figure(_i,
               "16 workers, values up to %zu MiB: the manager's RssAnon "
               "was %ld kB at most",
               big / LARGE_MIB, most);
    check_memory(most);
    ck_assert_msg(UNTIL(e2e_balanced(&manager)), "%s", e2e_books(&manager));
    ck_assert_uint_eq(e2e_counter(&manager, COUNTER_taken),
                      e2e_counter(&manager, COUNTER_answered));
    ck_assert_int_eq(large_leftovers(&manager), 0);
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* ---- commands of other shapes ---- */

START_TEST(test_several_large_arguments_in_one_command)
{
    e2e_start(&redis, &manager, _i, NULL);
    struct mqredis *mq = large_open(&manager);
    size_t len[] = {4, 1, LARGE_MIB, 1, 100000, 1, 2000, 1, 30, 1, 0, 1, 70000};
    const char *argv[13] = {"MSET", "a",  NULL, "b",  NULL, "c", NULL,
                            "d",    NULL, "e",  NULL, "f",  NULL};
    char *data[13];
    for (size_t i = 2; i < 13; i += 2)
        argv[i] = data[i] = large_new(len[i], i);
    ck_assert(large_is_status(mqredis_command_argv(mq, 13, argv, len), "OK"));
    for (size_t i = 2; i < 13; i += 2)
        free(data[i]);
    struct mqredis_reply *r = mqredis_command(mq, "MGET a b c d e f none");
    ck_assert_int_eq(r->type, MQREDIS_ARRAY);
    ck_assert_uint_eq(r->elements, 7);
    for (size_t i = 0; i < 6; i++) {
        ck_assert_uint_eq(r->element[i]->len, len[2 * i + 2]);
        ck_assert(large_is(r->element[i]->str, r->element[i]->len, 2 * i + 2));
    }
    ck_assert_int_eq(r->element[6]->type, MQREDIS_NIL);
    mqredis_free(r);
    mqredis_close(mq);
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

START_TEST(test_thousands_of_small_arguments)
{
    enum { KEYS = 20000 };
    static char keys[KEYS][40];
    static const char *argv[2 * KEYS + 4];
    static size_t len[2 * KEYS + 4];
    e2e_start(&redis, &manager, _i, NULL);
    struct mqredis *mq = large_open(&manager);
    argv[0] = "MSET";
    for (int i = 0; i < KEYS; i++) {
        snprintf(keys[i], sizeof(keys[i]), "a-key-of-some-length-%d", i);
        argv[2 * i + 1] = argv[2 * i + 2] = keys[i];
    }
    ck_assert(large_is_status(
        mqredis_command_argv(mq, 2 * KEYS + 1, argv, NULL), "OK"));
    /* And a large one among them. */
    char *large = large_new(LARGE_MIB, 3);
    argv[2 * KEYS + 1] = "large";
    argv[2 * KEYS + 2] = large;
    for (size_t i = 0; i < 2 * KEYS + 3; i++)
        len[i] = i == 2 * KEYS + 2 ? LARGE_MIB : strlen(argv[i]);
    ck_assert(large_is_status(mqredis_command_argv(mq, 2 * KEYS + 3, argv, len),
                              "OK"));
    ck_assert(large_is_value(mqredis_get(mq, "large"), LARGE_MIB, 3));
    free(large);
    argv[0] = "MGET";
    for (int i = 0; i < KEYS; i++)
        argv[i + 1] = keys[i];
    struct mqredis_reply *r = mqredis_command_argv(mq, KEYS + 1, argv, NULL);
    ck_assert_uint_eq(r->elements, KEYS);
    for (int i = 0; i < KEYS; i++)
        ck_assert_str_eq(r->element[i]->str, keys[i]);
    mqredis_free(r);
    argv[0] = "DEL";
    ck_assert(
        large_is_integer(mqredis_command_argv(mq, KEYS + 1, argv, NULL), KEYS));
    mqredis_close(mq);
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

START_TEST(test_too_much_framing_is_refused)
{
    enum { ARGS = 400000 };
    static const char *argv[ARGS];
    e2e_start(&redis, &manager, _i, NULL);
    struct mqredis *mq = large_open(&manager);
    for (int i = 0; i < ARGS; i++)
        argv[i] = i == 0 ? "DEL" : "a-key-of-some-length";
    ck_assert(large_failed(mqredis_command_argv(mq, ARGS, argv, NULL),
                           MQREDIS_TOO_BIG));
    ck_assert(large_round(mq, "k", 100000, 1));
    mqredis_close(mq);
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

START_TEST(test_batches_mix_large_and_small)
{
    enum { COMMANDS = 60 };
    e2e_start(&redis, &manager, _i, NULL);
    struct mqredis *mq = large_open(&manager);
    for (int transaction = 0; transaction < 2; transaction++) {
        struct mqredis_batch *b = mqredis_batch_new(mq);
        for (uint64_t i = 0; i < COMMANDS; i++) {
            size_t n = sizes[(i * 7) % SIZES];
            n = n < LARGE_MIB ? n : 50;
            char *data = large_new(n, i);
            mqredis_batch_add(b, "SET k%d %b", (int)i, data, n);
            mqredis_batch_add(b, "GET k%d", (int)i);
            free(data);
        }
        struct mqredis_reply *r =
            transaction ? mqredis_transaction_run(b) : mqredis_batch_run(b);
        ck_assert_msg(r->elements == 2 * COMMANDS, "%s", r->str ? r->str : "");
        for (uint64_t i = 0; i < COMMANDS; i++) {
            struct mqredis_reply *get = r->element[2 * i + 1];
            size_t n = sizes[(i * 7) % SIZES];
            ck_assert_uint_eq(get->len, n < LARGE_MIB ? n : 50);
            ck_assert(large_is(get->str, get->len, i));
        }
        mqredis_free(r);
    }
    mqredis_close(mq);
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* Many at once, each with its own bytes, taken in another order. The order of
 * one worker holds: what a GET reads is what the SET before it wrote. */
START_TEST(test_many_requests_at_once)
{
    enum { ROUNDS = 6, PAIRS = 40 };
    e2e_start(&redis, &manager, _i, NULL);
    struct mqredis *mq = large_open(&manager);
    for (uint64_t round = 0; round < ROUNDS; round++) {
        struct mqredis_request *set[PAIRS], *get[PAIRS];
        size_t n[PAIRS];
        for (uint64_t i = 0; i < PAIRS; i++) {
            n[i] = sizes[(i * 5 + round) % (SIZES - 1)];
            char *data = large_new(n[i], round * 100 + i);
            set[i] = mqredis_submit(mq, "SET k%d %b", (int)i % 5, data, n[i]);
            get[i] = mqredis_submit(mq, "GET k%d", (int)i % 5);
            free(data);
        }
        for (uint64_t i = PAIRS; i-- > 0;) {
            ck_assert(
                large_is_value(mqredis_wait(get[i]), n[i], round * 100 + i));
            ck_assert(large_is_status(mqredis_wait(set[i]), "OK"));
        }
    }
    mqredis_close(mq);
    ck_assert_msg(UNTIL(e2e_balanced(&manager)), "%s", e2e_books(&manager));
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* Given up at any moment, their files go too. */
START_TEST(test_cancelled_requests_leave_nothing)
{
    enum { ROUNDS = 60 };
    e2e_start(&redis, &manager, _i, NULL);
    struct mqredis *mq = large_open(&manager);
    char *data = large_new(2 * LARGE_MIB, 1);
    for (int i = 0; i < ROUNDS; i++) {
        struct mqredis_request *a =
            mqredis_submit(mq, "SET a %b", data, 2 * LARGE_MIB);
        struct mqredis_request *b = mqredis_submit(mq, "GET a");
        if (i % 3 == 1)
            mqredis_flush(mq);
        if (i % 3 == 2)
            mqredis_wait_done(b, i % 7);
        mqredis_cancel(i % 2 ? a : b);
        mqredis_cancel(i % 2 ? b : a);
        ck_assert(large_round(mq, "b", 5000, (uint64_t)i));
    }
    free(data);
    mqredis_close(mq);
    ck_assert_msg(UNTIL(e2e_balanced(&manager)), "%s", e2e_books(&manager));
    ck_assert_msg(UNTIL(large_leftovers(&manager) == 0), "%d left",
                  large_leftovers(&manager));
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

/* ---- thousands ---- */

START_TEST(test_thousands_of_requests_leave_memory_alone)
{
    const int count = SUPPORT_SANITIZED ? 300 : e2e_long() ? 20000 : 2000;
    e2e_start(&redis, &manager, _i, NULL);
    struct mqredis *mq = large_open(&manager);
    long rss = 0, own = 0;
    int fds = 0, own_fds = 0;
    for (int i = 0; i < count; i++) {
        size_t n = i % 50 == 0 ? LARGE_MIB : 60000 + (size_t)i % 10000;
        ck_assert(large_round(mq, "k", n, (uint64_t)i));
        if (i == count / 4) {
            rss = large_rss_kb(manager.pid);
            own = large_rss_kb(getpid());
            fds = large_fds(manager.pid);
            own_fds = support_count_fds();
        }
    }
    long grown = large_rss_kb(manager.pid) - rss;
    long own_grown = large_rss_kb(getpid()) - own;
    e2e_figure(_i, "%d large requests more: manager %+ld kB, worker %+ld kB",
               2 * count * 3 / 4, grown, own_grown);
    ck_assert_int_eq(large_fds(manager.pid), fds);
    ck_assert_int_eq(support_count_fds(), own_fds);
    if (!SUPPORT_SANITIZED) {
        ck_assert_int_lt(grown, 2048);
        ck_assert_int_lt(own_grown, 4096);
    }
    mqredis_close(mq);
    ck_assert_int_eq(e2e_manager_stop(&manager), 0);
}
END_TEST

static Suite *large_suite(void)
{
    Suite *s = suite_create("large");
    TCase *tc = support_case(s, "values", e2e_long() ? 600 : 120);
    tcase_add_checked_fixture(tc, NULL, e2e_stop_all);
    e2e_add(tc, test_every_size_goes_both_ways);
    e2e_add(tc, test_message_size_to_the_byte);
    e2e_add(tc, test_every_size_by_tcp);
    tcase_add_test(tc, test_every_size_by_tls);
    e2e_add(tc, test_one_connection_does_for_all);
    e2e_add(tc, test_sixteen_workers_at_once);
    tc = support_case(s, "shapes", e2e_long() ? 600 : 120);
    tcase_add_checked_fixture(tc, NULL, e2e_stop_all);
    e2e_add(tc, test_several_large_arguments_in_one_command);
    e2e_add(tc, test_thousands_of_small_arguments);
    e2e_add(tc, test_too_much_framing_is_refused);
    e2e_add(tc, test_batches_mix_large_and_small);
    e2e_add(tc, test_many_requests_at_once);
    e2e_add(tc, test_cancelled_requests_leave_nothing);
    e2e_add(tc, test_thousands_of_requests_leave_memory_alone);
    return s;
}

int main(void)
{
    large_prepare();
    return support_run(large_suite());
}
